"""How a chain of layers is computed: two as one operation, and what may be overwritten.

Every layer has a forward and a backward pass, and a chain could do with those.  A plan, made once when layers are
bound, knows two things more of `Linear` and `ReLU`:

- A Linear and the ReLU behind it are one operation of `xpnn.ops`, which may do both in one pass over memory.
- The gradient that each of them returns is a new array, which belongs to the layer before it alone.  If that is a
  ReLU, it may write its own over it.

That holds for these two as they are written here.  Of a subclass with a pass of its own, and of an object or a class on
which somebody exchanged one, nothing is known: they are layers like any other.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

from .._typing import Array
from ..backend import Backend
from ..contract import check_array, check_call, check_pair, foreign
from ..errors import MissingMethodError
from ..ops import Below
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from .activations import Gated, Mish, ReLU, SiLU
from .base import BOUND, Cache, Layer
from .dropout import Dropout
from .linear import Linear
from .parametric import ParametricActivation

__all__ = ["Plan", "chain_buffer_specs", "chain_param_specs", "unbound"]


class _Part:
    """A layer by itself: nothing is known of it but its passes."""

    #: Whether the gradient that `backward` returns belongs to the part before this one alone.
    fresh_gradient: ClassVar[bool] = False
    #: Whether `backward` may write over the gradient that it is given.
    overwrite = False

    def __init__(self, start: int, layer: Layer) -> None:
        self.start, self.layer = start, layer

    def forward(self, x: Array, train: bool, key: StepKey | None) -> tuple[Array, tuple[Cache, ...]]:
        """Return the output, and a cache for each layer."""
        y, cache = self.layer.forward(x, train=train, key=key)
        return y, (cache,)

    def backward(self, dy: Array, caches: Sequence[Cache], need_dx: bool) -> Any:
        """Return the gradient to the input, for the caches of the whole chain."""
        return self.layer.backward(dy, caches[self.start], need_dx=need_dx)

    def after(self, first: int) -> list[_Part]:
        """Return what is left of this part from layer number `first` on."""
        return [self] if first <= self.start else []


class _Own(_Part):
    """A layer of somebody's own: what its passes take and return is checked the first time, in each mode."""

    def __init__(self, start: int, layer: Layer) -> None:
        super().__init__(start, layer)
        self._forward_seen: set[bool] = set()
        self._backward_seen: set[bool] = set()

    def forward(self, x: Array, train: bool, key: StepKey | None) -> tuple[Array, tuple[Cache, ...]]:
        if train in self._forward_seen:
            return super().forward(x, train, key)
        layer, where = self.layer, self._where("forward")
        check_call(layer.forward, where, "x", keywords=("train", "key"))
        returned = layer.forward(x, train=train, key=key)
        check_pair(returned, where, "(y, cache)", "Return what backward needs beside the output: return y, None.")
        y, cache = returned
        shape = (*x.shape[:-1], layer.n_out)
        alike = None if layer.takes_integers else x
        hint = f"Return {layer.n_out} features a row, or define out_size(n_in)."
        check_array(y, where, "an output", shape, alike, leading=not layer.param_specs(), hint=hint)
        self._forward_seen.add(train)
        return y, (cache,)

    def backward(self, dy: Array, caches: Sequence[Cache], need_dx: bool) -> Any:
        if need_dx in self._backward_seen:
            return super().backward(dy, caches, need_dx)
        layer, where = self.layer, self._where("backward")
        check_call(layer.backward, where, "dy", "cache", keywords=("need_dx",))
        dx = layer.backward(dy, caches[self.start], need_dx=need_dx)
        if need_dx and not layer.takes_integers:
            check_array(dx, where, "∂loss/∂x", (*dy.shape[:-1], layer.n_in), dy, leading=not layer.param_specs())
        self._backward_seen.add(need_dx)
        return dx

    def _where(self, name: str) -> str:
        layer = self.layer
        label = layer.label or type(layer).__name__
        if getattr(type(layer), name) is getattr(Layer, name) and name not in vars(layer):
            raise MissingMethodError(f"{label}: expected a layer with a pass named {name}, got none. Define {name}.")
        return f"{label}.{name}"


class _Kept(NamedTuple):
    """The input of a Linear whose ReLU has left where it is positive."""

    x: Array
    mask: Array


class _Rectified(NamedTuple):
    """A gradient that went through the ReLU below already, and whose sums are the gradient of the bias below."""

    dz: Array


class _Linear(_Part):
    fresh_gradient = True

    def backward_onto(self, dy: Any, caches: Sequence[Cache], below: _LinearReLU) -> _Rectified | None:
        """Do `backward`, and that of the ReLU below, as one operation; None where there is none: nothing was done."""
        return _onto(self.layer, caches[self.start], dy, caches, below)


def _onto(linear: Any, x: Array, dz: Any, caches: Sequence[Cache], below: _LinearReLU) -> _Rectified | None:
    kept, summed = caches[below.start], isinstance(dz, _Rectified)
    if not isinstance(kept, _Kept):
        return None
    onto = Below(kept.mask, below.linear.affine.d_bias)
    dz = dz.dz if summed else dz
    found = linear.ops.linear_backward_onto(x, dz, linear.affine, onto, need_d_bias=not summed)
    return None if found is None else _Rectified(found)


class _ReLU(_Part):
    fresh_gradient = True

    def backward(self, dy: Array, caches: Sequence[Cache], need_dx: bool) -> Any:
        if not (self.overwrite and need_dx):
            return super().backward(dy, caches, need_dx)
        return self.layer.ops_for(dy).relu_backward(dy, caches[self.start], overwrite=True)


class _LinearReLU(_Part):
    """A Linear and the ReLU behind it; their caches are the input and the output."""

    fresh_gradient = True

    def __init__(self, start: int, linear: Linear, relu: Layer) -> None:
        super().__init__(start, linear)
        self.linear, self.relu = linear, relu

    def forward(self, x: Array, train: bool, key: StepKey | None) -> tuple[Array, tuple[Cache, ...]]:
        linear = self.linear
        ops = linear.ops
        linear.check_input(x)
        affine = linear.affine
        if not train:
            y = ops.linear_relu(x, affine.weight, affine.bias)
            return y, (x, y)
        y, mask = ops.linear_relu_kept(x, affine.weight, affine.bias)
        return y, (x if mask is None else _Kept(x, mask), y)

    def backward_onto(self, dy: Any, caches: Sequence[Cache], below: _LinearReLU) -> _Rectified | None:
        """Do `backward`, and that of the ReLU below, as one operation, where this part's own ReLU is done."""
        x = caches[self.start]
        return _onto(self.linear, _input(x), dy, caches, below) if isinstance(dy, _Rectified) else None

    def backward(self, dy: Any, caches: Sequence[Cache], need_dx: bool) -> Any:
        x, y = _input(caches[self.start]), caches[self.start + 1]
        linear = self.linear
        if isinstance(dy, _Rectified):
            return linear.ops.linear_backward(x, dy.dz, linear.affine, need_dx=need_dx, need_d_bias=False)
        return linear.ops.linear_relu_backward(x, y, dy, linear.affine, need_dx=need_dx, overwrite=self.overwrite)

    def after(self, first: int) -> list[_Part]:
        if first != self.start + 1:
            return super().after(first)
        relu = _ReLU(first, self.relu)
        relu.overwrite = self.overwrite
        return [relu]


class _Gate(_Part):
    """SiLU or Mish, mixed with the identity perhaps, and the Dropout behind: one operation, where there is one."""

    fresh_gradient = True

    def __init__(self, start: int, layer: Layer, dropout: Dropout | None) -> None:
        super().__init__(start, layer)
        self.mixed = layer if isinstance(layer, ParametricActivation) else None
        self.kind = _GATES[_passes(layer if self.mixed is None else self.mixed.activation)]
        self.dropout = dropout

    def forward(self, x: Array, train: bool, key: StepKey | None) -> tuple[Array, tuple[Cache, ...]]:
        share = None
        if self.mixed is not None:
            self.mixed.check_input(x)
            share = self.mixed.params["weight"]
        mask = self.dropout.mask(x, key) if train and self.dropout is not None else None
        found = self.layer.ops_for(x).gate(x, self.kind, share, mask)
        cache: Cache
        if found is None:
            y, cache = self.layer.forward(x, train=train, key=key)
            y = y if mask is None else y * mask
        else:
            y, inner = found
            cache = Gated(x, inner)
        return y, (cache,) if self.dropout is None else (cache, mask)

    def backward(self, dy: Array, caches: Sequence[Cache], need_dx: bool) -> Any:
        cache, mask = caches[self.start], None if self.dropout is None else caches[self.start + 1]
        if not isinstance(cache, Gated):
            dy = dy if mask is None else dy * mask
            return self.layer.backward(dy, cache, need_dx=need_dx)
        mixed = self.mixed
        if mixed is None and not need_dx:
            return None
        shares = None if mixed is None else (mixed.params["weight"], mixed.grads["weight"])
        return self.layer.ops_for(dy).gate_backward(dy, cache, self.kind, shares, mask)

    def after(self, first: int) -> list[_Part]:
        if first != self.start + 1 or self.dropout is None:
            return super().after(first)
        return [_Part(first, self.dropout)]


def _input(cache: Cache) -> Array:
    return cache.x if isinstance(cache, _Kept) else cache


def _passes(layer: Layer | type[Layer]) -> tuple[object, ...]:
    """Return the functions by which a layer computes; of an object, None for what is no method of its class."""
    found = layer.forward, layer.backward
    return found if isinstance(layer, type) else tuple(getattr(method, "__func__", None) for method in found)


# As they are when this module is loaded.
_LINEAR, _RELU, _DROPOUT, _MIXED = map(_passes, (Linear, ReLU, Dropout, ParametricActivation))
_GATES = {_passes(SiLU): "silu", _passes(Mish): "mish"}


def _is_gate(layer: Layer) -> bool:
    if _passes(layer) == _MIXED and isinstance(layer, ParametricActivation):
        layer = layer.activation
    return _passes(layer) in _GATES


def _parts(layers: Sequence[Layer]) -> list[_Part]:
    """Return the parts that a chain is computed in."""
    parts: list[_Part] = []
    passes = [_passes(layer) for layer in layers]
    rest = iter(enumerate(layers))
    for i, layer in rest:
        if isinstance(layer, Linear) and passes[i : i + 2] == [_LINEAR, _RELU]:
            _, relu = next(rest)
            parts.append(_LinearReLU(i, layer, relu))
        elif _is_gate(layer):
            behind = next(rest)[1] if passes[i + 1 : i + 2] == [_DROPOUT] else None
            parts.append(_Gate(i, layer, behind if isinstance(behind, Dropout) else None))
        else:
            kind = {_LINEAR: _Linear, _RELU: _ReLU}.get(passes[i], _Own if foreign(layer) else _Part)
            parts.append(kind(i, layer))
    for part, following in itertools.pairwise(parts):
        part.overwrite = following.fresh_gradient
    return parts


class Plan:
    """A chain of layers, and how it is computed.

    Parameters
    ----------
    layers : sequence of Layer
        In order, at least one.  `Plan.bind` binds them as well.

    Examples
    --------
    A layer made of layers binds them in its own `bind`, keeps the plan, and calls it in its own passes, as `Residual`
    does.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._parts = _parts(layers)

    @property
    def pairs(self) -> list[int]:
        """Numbers of the layers that are one operation with the layer behind them."""
        return [part.start for part in self._parts if isinstance(part, _LinearReLU)]

    @classmethod
    def bind(
        cls,
        layers: Sequence[Layer],
        backend: Backend,
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        buffers: Mapping[str, Array],
    ) -> Plan:
        """Give each layer its own part of the named views, and return the plan: ``"2.weight"`` is layer 2's."""
        parts = [_by_layer(views) for views in (params, grads, buffers)]
        for j, layer in enumerate(layers):
            layer.bind(backend, *(part.get(str(j), {}) for part in parts))
        return cls(layers)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, list[Cache]]:
        """Run layers one after the other; return the last output, and a cache for each layer."""
        caches: list[Cache] = []
        for part in self._parts:
            x, own = part.forward(x, train, key)
            caches += own
        return x, caches

    def backward(self, dy: Array, caches: Sequence[Cache], *, need_dx: bool = True, first: int = 0) -> Array | None:
        """Run layers backwards down to number `first`, which gets a gradient to its input only on `need_dx`."""
        parts = [part for whole in self._parts for part in whole.after(first)] if first else self._parts
        gradient: Any = dy
        for part, below in zip(reversed(parts), (*reversed(parts[:-1]), None), strict=True):
            onto = None
            if isinstance(part, _Linear | _LinearReLU) and isinstance(below, _LinearReLU):
                onto = part.backward_onto(gradient, caches, below)
            gradient = part.backward(gradient, caches, need_dx or part.start > first) if onto is None else onto
        return gradient if need_dx else None

    def output(self, x: Array) -> Array:
        """Return what `forward` does outside training, keeping no caches."""
        for part in self._parts:
            x, _ = part.forward(x, False, None)
        return x


def _by_layer(views: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """Sort named views by the number that their names begin with, which is taken off."""
    parts: dict[str, dict[str, Array]] = {}
    for name, view in views.items():
        number, _, rest = name.partition(".")
        parts.setdefault(number, {})[rest] = view
    return parts


def chain_param_specs(layers: Sequence[Layer]) -> tuple[ParamSpec, ...]:
    """Return what a chain trains; layer 2's ``"weight"`` is called ``"2.weight"``."""
    return tuple(replace(s, name=f"{j}.{s.name}") for j, layer in enumerate(layers) for s in layer.param_specs())


def chain_buffer_specs(layers: Sequence[Layer]) -> tuple[BufferSpec, ...]:
    """Return what a chain keeps untrained, named likewise."""
    return tuple(replace(s, name=f"{j}.{s.name}") for j, layer in enumerate(layers) for s in layer.buffer_specs())


def unbound(layer: Layer) -> Layer:
    """Return a copy of a layer that is part of no network, with copies of the layers inside it."""
    new = copy.copy(layer)
    inner: dict[int, Any] = {id(part): unbound(part) for part in layer.sublayers()}
    for name, value in vars(layer).items():
        if name in BOUND or isinstance(value, Plan):
            vars(new).pop(name, None)
        elif inner and isinstance(value, Layer | list | tuple | dict):
            vars(new)[name] = copy.deepcopy(value, inner)
    return new
