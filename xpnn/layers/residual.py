"""Skip connections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

from .._typing import Array
from ..backend import Backend
from ..config import to_config
from ..errors import OptionError, ShapeError
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from .base import Layer
from .plan import Plan, chain_buffer_specs, chain_param_specs

__all__ = ["Residual"]


class Residual(Layer):
    r"""Add what some layers compute to what went in, :math:`y = x + f(x)` [1]_.

    Backward: :math:`\bar x = \bar y + \bar y\,\partial f/\partial x`; the gradient has a way around `f`.

    Parameters
    ----------
    *layers : Layer
        The chain `f`; its output must be as wide as its input.  Their parameters are named
        ``"k.j.weight"``: layer `j` of the residual layer `k`.

    References
    ----------
    .. [1] He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> from xpnn import Linear, Residual, Sequential, Tanh
    >>> net = Sequential(Residual(Linear(8), Tanh()), Linear(1), n_in=8)
    >>> list(net.params)
    ['0.0.weight', '0.0.bias', '1.weight', '1.bias']
    """

    _plan: Plan | None = None

    def __init__(self, *layers: Layer) -> None:
        if not layers:
            raise OptionError("Residual: expected at least one layer, got none. Try Residual(Linear(4), ReLU()).")
        self.layers = layers

    def out_size(self, n_in: int) -> int:
        n = n_in
        for layer in self.layers:
            n = layer.out_size(n)
        if n != n_in:
            raise ShapeError(
                f"Residual: expected layers that map {n_in} features to {n_in}, got {n}. "
                f"End the block with Linear({n_in}), or leave this block without the skip."
            )
        return n

    def build(self, n_in: int) -> int:
        n = super().build(n_in)
        width = n_in
        for layer in self.layers:
            width = layer.build(width)
        return n

    def sublayers(self) -> tuple[Layer, ...]:
        return self.layers

    def param_specs(self) -> tuple[ParamSpec, ...]:
        return chain_param_specs(self.layers)

    def buffer_specs(self) -> tuple[BufferSpec, ...]:
        return chain_buffer_specs(self.layers)

    def bind(
        self, backend: Backend, params: Mapping[str, Array], grads: Mapping[str, Array], buffers: Mapping[str, Array]
    ) -> None:
        super().bind(backend, params, grads, buffers)
        self._plan = Plan.bind(self.layers, backend, params, grads, buffers)

    @property
    def plan(self) -> Plan:
        """How the chain is computed; outside a network decided anew each time."""
        return self._plan or Plan(self.layers)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, list[Any]]:
        """Return ``x + f(x)``; the cache is the chain's."""
        y, caches = self.plan.forward(x, train=train, key=key)
        return x + y, caches

    def backward(self, dy: Array, cache: list[Any], *, need_dx: bool = True) -> Array | None:
        """Return ``dy`` plus the chain's gradient."""
        dx = self.plan.backward(dy, cache, need_dx=need_dx)
        return None if dx is None else dy + dx

    def config(self) -> dict[str, Any]:
        return {"layers": to_config(self.layers)}

    @classmethod
    def from_config(cls, layers: Sequence[Layer] = (), **options: Any) -> Self:
        """Make one of what `config` returned, in which the layers stand as a list."""
        return cls(*layers, **options)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.layers))})"
