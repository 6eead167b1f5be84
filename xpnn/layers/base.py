"""The contract of a layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array
from ..arguments import describe, finite, shown
from ..backend import Backend, ops_of
from ..config import options_of
from ..errors import OptionError, ShapeError
from ..initializers import Initializer
from ..ops import Ops
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from ..recordable import Recordable

__all__ = ["BOUND", "Cache", "Layer", "check_first", "check_gradient", "is_bound", "multipliers", "walk"]

Cache = Any

#: What `Layer.bind` gives a layer, and a copy of it for another network lacks.
BOUND = ("_ops", "_affine", "_plans", "params", "grads", "buffers")


class Layer(Recordable):
    """A differentiable map with, perhaps, parameters.

    A layer is built once (`build` fixes its sizes), bound once (`bind` gives it views into the network's flat
    buffers) and then pure over arrays: `forward` returns what `backward` will need, and keeps nothing.  Rows of
    ``x`` are samples; further leading axes are replicas.  `backward` *assigns* the gradients of the layer's
    parameters, so there is nothing to set to zero, and returns the gradient to its input.

    Attributes
    ----------
    n_in, n_out : int
        Widths, known after `build`.
    slot : int
        Number of the layer in its network; picks its mask stream.
    label : str
        Number and class, for messages: ``"2.Dropout"``.
    """

    n_in: int
    n_out: int
    slot: int = 0
    label: str = ""
    #: Initializer that suits a Linear feeding this layer; None where the layer has no say.
    suited_init: Initializer | None = None
    #: Whether the input holds integers (category numbers).
    takes_integers: ClassVar[bool] = False
    _ops: Ops | None = None

    # -- sizes and parameters -------------------------------------------------------------------------------
    def out_size(self, n_in: int) -> int:
        """Return the width of the output for an input of width `n_in`; raise ShapeError if it cannot be."""
        return n_in

    def build(self, n_in: int) -> int:
        """Fix the input width and return the output width."""
        self.n_in, self.n_out = n_in, self.out_size(n_in)
        return self.n_out

    def param_specs(self) -> tuple[ParamSpec, ...]:
        """Return what is trained, after `build`."""
        return ()

    def buffer_specs(self) -> tuple[BufferSpec, ...]:
        """Return what is kept but not trained, after `build`."""
        return ()

    def sublayers(self) -> tuple[Layer, ...]:
        """Return the layers inside this one."""
        return ()

    @property
    def takes_categories(self) -> bool:
        """Whether some of the input are category numbers, which `check_categories` checks."""
        return self.takes_integers

    def check_categories(self, rows: np.ndarray) -> None:
        """Check category numbers on the host, where data enter; some libraries wrap numbers that are out of range."""

    def takes_shared_rows(self) -> bool:
        """Whether rows that all replicas have in common become a set for each here, where the first weights are."""
        inner = self.sublayers()
        return inner[0].takes_shared_rows() if inner else bool(self.param_specs())

    def bind(
        self, backend: Backend, params: Mapping[str, Array], grads: Mapping[str, Array], buffers: Mapping[str, Array]
    ) -> None:
        """Receive views of the flat buffers, by local name; vectors come as rows (..., 1, n)."""
        self._ops = backend.ops
        self.params, self.grads, self.buffers = params, grads, buffers

    @property
    def ops(self) -> Ops:
        """The backend's operations; an error before the layer is part of a network."""
        if self._ops is None:
            raise OptionError(
                f"{self!r}: expected to be part of a network, but it is bound to none. "
                "Put it into xpnn.Sequential(...)."
            )
        return self._ops

    def ops_for(self, x: Array) -> Ops:
        """Return the operations of a map without parameters, which also works outside a network."""
        return ops_of(x) if self._ops is None else self._ops

    # -- the two passes -------------------------------------------------------------------------------------
    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Cache]:
        """Return ``(y, cache)``: the output (..., batch, n_out), and what `backward` needs."""
        raise NotImplementedError

    def backward(self, dy: Array, cache: Cache, *, need_dx: bool = True) -> Array | None:
        """Assign the parameters' gradients; return ∂loss/∂x (..., batch, n_in), None unless `need_dx`."""
        raise NotImplementedError

    def check_input(self, x: Array) -> None:
        """Raise ShapeError unless ``x`` is (..., batch, n_in)."""
        shape, n_in = tuple(x.shape), self.n_in
        if len(shape) < 2 or shape[-1] != n_in:
            if len(shape) < 2:
                one = shape == (n_in,)
                hint = "For one sample write x.reshape(1, -1)." if one else f"Pass rows: x.reshape(-1, {n_in})."
            elif len(shape) == 2 and shape[0] == n_in:
                hint = "Rows must be samples. Did you mean X.T?"
            else:
                flat = math.prod(shape[1:])
                steps = [] if len(shape) == 2 else ["Flatten each sample: X.reshape(len(X), -1)."]
                if flat != n_in:
                    other = f", or build the network with n_in={flat}" if flat else ""
                    steps.append(f"Pass {n_in} features a row{other}.")
                hint = " ".join(steps)
            raise ShapeError(f"{self.label or repr(self)}: expected x of shape (batch, {n_in}), got {shape}. {hint}")

    # -- description ----------------------------------------------------------------------------------------
    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON-able values, to be saved and made again."""
        return options_of(self)

    def __repr__(self) -> str:
        return describe(self)


def is_bound(layer: Layer) -> bool:
    """Whether a layer is part of a network."""
    return layer._ops is not None


def check_first(layers: Sequence[Layer]) -> None:
    """Raise OptionError where a layer that takes numbers of categories is not the first."""
    for layer in layers[1:]:
        if layer.takes_integers:
            raise OptionError(
                f"Sequential: expected {layer.label}, which takes numbers of categories, as the first layer, got it "
                f"behind {layers[0].label}. Beside columns of numbers put it into xpnn.Columns."
            )


def check_gradient(dy: Array, caches: Any, layers: Sequence[Layer]) -> None:
    """Raise an error unless a gradient and caches are such as a network of these layers goes backwards with."""
    n, n_out = len(layers), layers[-1].n_out
    if not isinstance(caches, list) or len(caches) != n:
        got = f"a list of {len(caches)}" if isinstance(caches, list) else shown(caches)
        raise OptionError(
            f"backward: expected the caches of a forward pass, a list of {n}, got {got}. "
            "Write y, caches = net.forward(x, train=True) first, and hand them on."
        )
    shape, last = tuple(dy.shape), caches[-1]
    batch = last.shape[-2] if type(last) is type(dy) and len(last.shape) > 1 else None  # where it is a layer's input
    if len(shape) < 2 or shape[-1] != n_out or batch not in (None, shape[-2]):
        rows = "batch" if batch is None else batch
        raise ShapeError(
            f"backward: expected dy of shape ({rows}, {n_out}), like the network's output, got {shape}. "
            "Pass the gradient of the loss to that output: value, dy = loss.value_and_grad(y, targets)."
        )


def multipliers(where: str, lr_mult: float, decay_mult: float) -> tuple[float, float]:
    """Return the factors of a layer's learning rate and weight decay as Python's floats, or raise OptionError."""
    rate = finite(lr_mult, where, "lr_mult", 1.0, low=0.0)
    return rate, finite(decay_mult, where, "decay_mult", 1.0, low=0.0)


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield every layer and the layers inside it, outer before inner, in the order of computation."""
    for layer in layers:
        yield layer
        yield from walk(layer.sublayers())
