"""Networks that compute with packed rows of a table, instead of encoding them first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from .._typing import Array
from ..backend import Backend, by_slices
from ..coding import Code, Table
from ..contract import foreign
from ..data.encoded import EncodedRows
from ..ops import Affine
from ..random import StepKey
from .base import Cache, Layer, walk
from .columns import Columns
from .linear import Linear
from .plan import Plan
from .scale import Scale

__all__ = ["PackedPlan", "packed_outputs", "scaled_first"]

# Encoded numbers from which on a prediction computes with packed rows: it repays the loading of compiled loops.
_MANY = 1 << 27
# Rows of a slice of such a prediction: what layers make of them stays in cache.
_SLICE = 1 << 11


class _Led(NamedTuple):
    """What a layer has made of the first columns."""

    features: Array
    cache: list[Cache]


class _Met(NamedTuple):
    """What the way back needs."""

    packed: Array
    led: _Led | None
    kept: Array | None  # of `Ops.table_linear`


class _Head:
    """The first layers as one: a layer for the first columns, factors, and a Linear; the first two may be absent."""

    def __init__(self, code: Code, lead: Columns | None, scale: Scale | None, linear: Linear) -> None:
        self.scale, self.linear = scale, linear
        self.lead = None if lead is None else Plan([lead.layers[0]])
        self.table = Table(code) if lead is None else Table(code, lead.groups[0][0], lead.layers[0].n_out)
        #: How many layers these are.
        self.n = 1 + (lead is not None) + (scale is not None)

    @classmethod
    def of(cls, layers: Sequence[Layer], code: Code) -> Self | None:
        """Return what the first layers are as one, None where they are others."""
        rest = [*layers]
        lead = rest.pop(0) if rest and type(rest[0]) is Columns else None
        scale = rest.pop(0) if rest and type(rest[0]) is Scale else None
        if not rest or type(rest[0]) is not Linear:
            return None
        if isinstance(lead, Columns):
            n, layer = lead.groups[0]
            if len(lead.groups) > 1 or layer.takes_integers or code.plain[:n] != tuple(range(n)):
                return None
        return cls(
            code, lead if isinstance(lead, Columns) else None, scale if isinstance(scale, Scale) else None, rest[0]
        )

    def forward(self, packed: Array, *, train: bool, key: StepKey | None) -> tuple[Array, list[Cache]]:
        """Return the output, and a cache for each layer, the first of which is `_Met`."""
        ops, (weight, bias, _, _), table = self.linear.ops, self.linear.affine, self.table
        scale, led, m = None if self.scale is None else self.scale.params["weight"], None, table.lead
        if self.lead is None:
            y = ops.empty(packed, (packed.shape[-2], weight.shape[-1]))
            y[...] = 0.0 if bias is None else bias
        else:
            led = _Led(*self.lead.forward(ops.join((packed[..., : table.skip],)), train=train, key=key))
            x = led.features if scale is None else led.features * scale[..., :m]
            y = ops.linear(x, weight[:m, :], bias)
        kept = ops.table_linear(y, packed, table, weight, scale)
        return y, [_Met(packed, led, kept), *([None] * (self.n - 1))]

    def backward(self, dy: Array, met: _Met) -> None:
        """Assign all gradients."""
        linear, table, m = self.linear, self.table, self.table.lead
        ops, (weight, _, d_weight, d_bias) = linear.ops, linear.affine
        scale = d_scale = None
        if self.scale is not None:
            scale, d_scale = self.scale.params["weight"], self.scale.grads["weight"]
        if self.lead is None or met.led is None:
            if d_bias is not None:
                d_bias[...] = ops.xp.sum(dy, axis=-2, keepdims=True)
        else:
            features = met.led.features
            x = features if scale is None else features * scale[..., :m]
            own = Affine(weight[:m, :], None, d_weight[:m, :], d_bias)
            dx: Any = ops.linear_backward(x, dy, own, need_dx=True)
            if scale is not None and d_scale is not None:
                d_scale[..., :m] = ops.xp.sum(dx * features, axis=-2, keepdims=True)
                dx *= scale[..., :m]
            self.lead.backward(dx, met.led.cache, need_dx=False)
        ops.table_linear_backward(dy, met.packed, table, (weight, d_weight), (scale, d_scale), met.kept)


class PackedPlan(Plan):
    """A plan that also takes packed rows, told by their width; a gradient to these there is none."""

    def __init__(self, layers: Sequence[Layer], code: Code, head: _Head) -> None:
        super().__init__(layers)
        self._code, self._head = code, head
        self._rest = Plan(layers[head.n :]) if len(layers) > head.n else None

    @classmethod
    def of(cls, layers: Sequence[Layer], code: Code) -> PackedPlan | None:
        """Return the plan of a chain, None where its first layers do not compute with packed rows."""
        head = _Head.of(layers, code)
        return None if head is None else cls(layers, code, head)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, list[Cache]]:
        if x.shape[-1] != self._code.packed_width:
            return super().forward(x, train=train, key=key)
        y, caches = self._head.forward(x, train=train, key=key)
        if self._rest is None:
            return y, caches
        y, rest = self._rest.forward(y, train=train, key=key)
        return y, caches + rest

    def backward(self, dy: Array, caches: Sequence[Cache], *, need_dx: bool = True, first: int = 0) -> Array | None:
        met: Any = caches[0]
        if not isinstance(met, _Met):
            return super().backward(dy, caches, need_dx=need_dx, first=first)
        if self._rest is not None:
            dy = self._rest.backward(dy, caches[self._head.n :])
        self._head.backward(dy, met)
        return None

    def output(self, x: Array) -> Array:
        if x.shape[-1] != self._code.packed_width:
            return super().output(x)
        y, _ = self._head.forward(x, train=False, key=None)
        return y if self._rest is None else self._rest.output(y)


def scaled_first(layers: Sequence[Layer]) -> bool:
    """Whether columns of rows are multiplied by factors that learn, in front of anything but embeddings."""
    return any(type(layer) is Scale for layer in layers[:2])


def packed_outputs(layers: Sequence[Layer], rows: EncodedRows, backend: Backend) -> Array | None:
    """Return what bound layers make of very many packed rows, a slice of them at a time, without encoding them.

    None where they are fewer, the first layers are others, or the operations have none that is faster: whether this is
    used follows from shapes alone.
    """
    plan = PackedPlan.of(layers, rows.code) if len(rows) * rows.code.width >= _MANY else None
    if plan is None or not backend.ops.takes_packed(scaled=False):
        return None
    dtype = getattr(backend.xp, backend.wide_name)

    def outputs(some: EncodedRows) -> Array:
        return plan.output(backend.asarray(some.packed, dtype=dtype))

    return by_slices(backend, outputs, rows, _SLICE, at_once=not any(map(foreign, walk(layers))))
