"""A layer for some of the columns, another for others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from .._typing import Array
from ..arguments import count
from ..backend import Backend
from ..config import to_config
from ..errors import OptionError, ShapeError
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from .base import Cache, Layer
from .plan import Plan, chain_buffer_specs, chain_param_specs

__all__ = ["Columns"]


class Columns(Layer):
    r"""Give each group of columns to a layer of its own, and put what they return side by side.

    .. math:: y = [f_1(x_{1:n_1}),\; f_2(x_{n_1+1:n_1+n_2}),\; \ldots,\; x_{\text{rest}}]

    For the rows of a table, where scaled numbers, category numbers and one-hot columns stand side by side.  Columns
    after the last group pass unchanged.  Backward: each group's gradient goes to its own layer.

    Parameters
    ----------
    *groups : (int, Layer)
        How many columns, and the layer for them, in the order of the columns.

    Raises
    ------
    ShapeError
        If the groups have more columns than the input.

    Notes
    -----
    Parameters are named by group: ``"0.weight"`` is the first one's.  An `Embedding` may stand in any group: its
    category numbers come as floating whole numbers, and have no gradient.

    Examples
    --------
    Three numbers, a category of 50 values, and whatever else a row has:

    >>> import xpnn
    >>> first = xpnn.Columns((3, xpnn.NumericalEmbedding()), (1, xpnn.Embedding(50, 8)))
    >>> net = xpnn.Sequential(first, xpnn.Linear(1), n_in=10)
    >>> first.n_out
    26
    >>> list(net.params)[-3:]
    ['0.1.weight', '1.weight', '1.bias']
    """

    def __init__(self, *groups: tuple[int, Layer]) -> None:
        if not groups:
            raise OptionError("Columns: expected at least one group, got none. Try Columns((3, NumericalEmbedding())).")
        for group in groups:
            if not (isinstance(group, tuple | list) and len(group) == 2 and isinstance(group[1], Layer)):
                raise OptionError(
                    f"Columns: expected pairs of a number of columns and a layer, got {group!r}. "
                    "Try Columns((3, NumericalEmbedding()))."
                )
        self.groups = tuple((count(n, "Columns", "the number of columns"), layer) for n, layer in groups)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The groups' layers."""
        return tuple(layer for _, layer in self.groups)

    @property
    def _n_grouped(self) -> int:
        return sum(n for n, _ in self.groups)

    def out_size(self, n_in: int) -> int:
        rest = n_in - self._n_grouped
        if rest < 0:
            raise ShapeError(
                f"Columns: expected at least {self._n_grouped} columns for its groups, got {n_in}. "
                "Make a group smaller, or leave one out."
            )
        return sum(layer.out_size(n) for n, layer in self.groups) + rest

    def build(self, n_in: int) -> int:
        n_out = super().build(n_in)
        for n, layer in self.groups:
            layer.build(n)
        return n_out

    def sublayers(self) -> tuple[Layer, ...]:
        return self.layers

    def param_specs(self) -> tuple[ParamSpec, ...]:
        return chain_param_specs(self.layers)

    def buffer_specs(self) -> tuple[BufferSpec, ...]:
        return chain_buffer_specs(self.layers)

    @property
    def takes_categories(self) -> bool:
        return any(layer.takes_categories for layer in self.layers)

    def check_categories(self, rows: np.ndarray) -> None:
        for place, layer in zip(_places(self.groups), self.layers, strict=True):
            if layer.takes_categories:
                layer.check_categories(rows[..., place])

    def takes_shared_rows(self) -> bool:
        return all(layer.takes_shared_rows() for layer in self.layers)  # columns that pass are joined to each replica's

    def bind(
        self, backend: Backend, params: Mapping[str, Array], grads: Mapping[str, Array], buffers: Mapping[str, Array]
    ) -> None:
        super().bind(backend, params, grads, buffers)
        Plan.bind(self.layers, backend, params, grads, buffers)
        plans = [Plan([layer]) for layer in self.layers]
        self._plans = list(zip(_places(self.groups), self.layers, plans, strict=True))
        self._index_dtype = backend.index_dtype

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, list[list[Cache]]]:
        """Return the groups' outputs and the rest of the columns; the cache holds the groups' own."""
        self.check_input(x)
        ops, parts, caches = self.ops, [], []
        for place, layer, plan in self._plans:
            part = x[..., place]
            if part.shape[:-1] != (1,):  # in one piece, as other layers are given theirs
                part = ops.join((part,))
            if layer.takes_integers:
                part = ops.whole_numbers(part, self._index_dtype)
            y, cache = plan.forward(part, train=train, key=key)
            parts.append(y)
            caches.append(cache)
        grouped = self._plans[-1][0].stop
        if grouped < self.n_in:
            parts.append(x[..., grouped:])
        return ops.join(parts), caches

    def backward(self, dy: Array, cache: list[list[Cache]], *, need_dx: bool = True) -> Array | None:
        """Let the groups assign their gradients; return theirs and the rest's, 0 for category numbers."""
        ops = self.ops
        dx = ops.empty(dy, (*dy.shape[:-1], self.n_in)) if need_dx else None
        start = 0
        for (place, layer, plan), own in zip(self._plans, cache, strict=True):
            stop = start + layer.n_out
            wanted = need_dx and not layer.takes_integers
            d_part = plan.backward(ops.join((dy[..., start:stop],)), own, need_dx=wanted)
            if dx is not None:
                dx[..., place] = d_part if wanted else 0.0
            start = stop
        if dx is not None and self._n_grouped < self.n_in:
            dx[..., self._n_grouped :] = dy[..., start:]
        return dx

    def config(self) -> dict[str, Any]:
        return {"columns": [n for n, _ in self.groups], "layers": to_config(self.layers)}

    @classmethod
    def from_config(cls, columns: Sequence[int], layers: Sequence[Layer]) -> Self:
        """Make one of what `config` returned: how many columns each group has, and its layer."""
        return cls(*zip(columns, layers, strict=True))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'({n}, {layer!r})' for n, layer in self.groups)})"


def _places(groups: Sequence[tuple[int, Layer]]) -> list[slice]:
    """Return where the columns of each group are."""
    stops = list(itertools.accumulate((n for n, _ in groups), initial=0))
    return [slice(*pair) for pair in itertools.pairwise(stops)]
