"""The contract of a layer, and chains of layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from .._typing import Array
from ..arguments import describe
from ..backend import Backend, ops_of
from ..config import options_of
from ..errors import OptionError, ShapeError
from ..initializers import Initializer
from ..ops import Ops
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from ..recordable import Recordable

__all__ = [
    "PASSES",
    "Layer",
    "backward_chain",
    "bind_chain",
    "chain_buffer_specs",
    "chain_param_specs",
    "forward_chain",
    "output_of_chain",
    "walk",
]

Cache = Any

#: The methods by which a layer computes.
PASSES = ("forward", "backward", "forward_over", "backward_over")

# A layer of a chain: its number, itself, and the one behind it where the two are computed as one.
_Part = tuple[int, "Layer", "Layer | None"]


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
    #: Whether what `forward` returns belongs to the next layer alone, which may then write over it.
    spare_output: ClassVar[bool] = False
    #: Whether what `backward` returns does.
    spare_gradient: ClassVar[bool] = False
    _ops: Ops | None = None
    #: The chain that begins with this layer, and how it is computed; from `bind_chain`.
    _chain: tuple[Sequence[Layer], Sequence[_Part]] | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        # A class with a pass of its own makes its own promises about whose arrays are whose, or none.
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        for name, spare in (("forward", "spare_output"), ("backward", "spare_gradient")):
            if name in own:
                over = f"{name}_over"
                setattr(cls, over, own.get(over, getattr(Layer, over)))
                setattr(cls, spare, own.get(spare, False))

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

    def bind(
        self,
        backend: Backend,
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        buffers: Mapping[str, Array],
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
        """Assign the parameters' gradients; return ∂loss/∂x (..., batch, n_in), None if not asked for."""
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
                    steps.append(f"Pass {n_in} features a row, or build the network with n_in={flat}.")
                hint = " ".join(steps)
            raise ShapeError(f"{self.label or repr(self)}: expected x of shape (batch, {n_in}), got {shape}. {hint}")

    def forward_over(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Cache]:
        """Do what `forward` does, with leave to write the output over `x`."""
        return self.forward(x, train=train, key=key)

    def backward_over(self, dy: Array, cache: Cache, *, need_dx: bool = True) -> Array | None:
        """Do what `backward` does, with leave to write the gradient over `dy`."""
        return self.backward(dy, cache, need_dx=need_dx)

    # -- two layers as one ----------------------------------------------------------------------------------
    def pairs_with(self, following: Layer) -> bool:
        """Whether `forward_pair` and `backward_pair` do what this layer and the `following` one do."""
        return False

    def forward_pair(self, x: Array) -> tuple[Array, tuple[Cache, Cache]]:
        """Do what `forward` of this layer and of the one behind it do; return the output and both caches."""
        raise NotImplementedError

    def backward_pair(
        self, dy: Array, caches: Sequence[Cache], *, need_dx: bool = True, overwrite: bool = False
    ) -> Array | None:
        """Do what `backward` of both does, with leave to write over `dy` on `overwrite`."""
        raise NotImplementedError

    # -- description ----------------------------------------------------------------------------------------
    def __getstate__(self) -> dict[str, Any]:
        # A copy is to stand in a chain of its own.
        return {name: value for name, value in vars(self).items() if name != "_chain"}

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments as JSON-able values, to be saved and made again."""
        return options_of(self)

    def __repr__(self) -> str:
        return describe(self)


def walk(layers: Iterable[Layer]) -> Iterator[Layer]:
    """Yield every layer and the layers inside it, outer before inner, in the order of computation."""
    for layer in layers:
        yield layer
        yield from walk(layer.sublayers())


def chain_param_specs(layers: Sequence[Layer]) -> tuple[ParamSpec, ...]:
    """Return what a chain trains; layer 2's ``"weight"`` is called ``"2.weight"``."""
    return tuple(
        replace(spec, name=f"{j}.{spec.name}") for j, layer in enumerate(layers) for spec in layer.param_specs()
    )


def chain_buffer_specs(layers: Sequence[Layer]) -> tuple[BufferSpec, ...]:
    """Return what a chain keeps untrained, named likewise."""
    return tuple(
        replace(spec, name=f"{j}.{spec.name}") for j, layer in enumerate(layers) for spec in layer.buffer_specs()
    )


def bind_chain(
    layers: Sequence[Layer],
    backend: Backend,
    params: Mapping[str, Array],
    grads: Mapping[str, Array],
    buffers: Mapping[str, Array],
) -> None:
    """Give each layer of a chain its own part of the named views: ``"2.weight"`` is layer 2's ``"weight"``.

    Here, once, the pairs of layers are found that this chain computes as one.
    """
    parts: list[_Part] = []
    rest = iter(range(len(layers)))
    for i in rest:
        following = layers[i + 1] if i + 1 < len(layers) else None
        mate = following if following is not None and layers[i].pairs_with(following) else None
        parts.append((i, layers[i], mate))
        if mate is not None:
            next(rest)
    layers[0]._chain = layers, parts
    for j, layer in enumerate(layers):
        prefix = f"{j}."
        views_of = (
            {name[len(prefix) :]: view for name, view in views.items() if name.startswith(prefix)}
            for views in (params, grads, buffers)
        )
        layer.bind(backend, *views_of)


def output_of_chain(layers: Sequence[Layer], x: Array) -> Array:
    """Return what `forward_chain` does outside training, keeping no caches."""
    for _, layer, mate in _parts(layers):
        x, _ = layer.forward(x) if mate is None else layer.forward_pair(x)
    return x


def _single(layers: Sequence[Layer]) -> list[_Part]:
    return [(i, layer, None) for i, layer in enumerate(layers)]


def _parts(layers: Sequence[Layer]) -> Sequence[_Part]:
    """Return the parts of the very chain that was bound; of others, slices of one say, each layer alone."""
    known = layers[0]._chain
    return known[1] if known is not None and known[0] is layers else _single(layers)


def forward_chain(layers: Sequence[Layer], x: Array, *, train: bool, key: StepKey | None) -> tuple[Array, list[Cache]]:
    """Run layers one after the other, pairs as one; return the last output and every cache."""
    caches: list[Cache] = []
    spare = False  # x is the caller's
    for _, layer, mate in _parts(layers):
        if mate is not None:
            x, both = layer.forward_pair(x)
            caches += both
            spare = mate.spare_output
        else:
            x, cache = (layer.forward_over if spare else layer.forward)(x, train=train, key=key)
            caches.append(cache)
            spare = layer.spare_output
    return x, caches


def backward_chain(
    layers: Sequence[Layer], dy: Array, caches: Sequence[Cache], *, need_dx: bool, first: int = 0
) -> Array | None:
    """Run layers backwards down to number `first`, which gets a gradient to its input only on `need_dx`."""
    spare = False  # dy is the caller's
    for i, layer, mate in reversed(_parts(layers)):
        if i < first:
            if mate is None or i + 1 < first:
                break
            i, layer, mate = first, mate, None  # of a pair the second alone
        if mate is not None:
            dy = layer.backward_pair(dy, caches[i : i + 2], need_dx=need_dx or i > first, overwrite=spare)
        else:
            dy = (layer.backward_over if spare else layer.backward)(dy, caches[i], need_dx=need_dx or i > first)
        spare = layer.spare_gradient
    return dy if need_dx else None
