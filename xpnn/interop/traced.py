"""Arrays whose operations are written down: layers and losses compute on them as on any other.

A traced array has the shape that one row gives it, with a batch of 1 where the batch stands.  In the graph its
value has no axes of size 1 before the first other one: of a row of n features there it is ``(n,)``, here ``(1, n)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..errors import OptionError
from .build import Builder

__all__ = ["Traced", "TracingError", "combine", "constant", "expanded", "in_full", "made", "squeezed"]

Shape = tuple[int, ...]
_READS = "{}, which only the numbers of a row could tell"


class TracingError(OptionError):
    """What cannot be written down as operations of a graph."""


@dataclass
class _Memory:
    """What arrays share that are views of each other: how often it was written to."""

    version: int = 0


class _Origin(NamedTuple):
    """What an array is a view of, and how the value of that follows from the view."""

    whole: Traced
    from_view: Callable[[Traced], str]


def _reads(what: str) -> Callable[..., Any]:
    def refuse(self: Traced, *_: Any, **__: Any) -> Any:
        raise TracingError(_READS.format(what))

    return refuse


def _binary(op: str, *, swapped: bool = False) -> Callable[[Traced, Any], Traced]:
    def method(self: Traced, other: Any) -> Traced:
        if not isinstance(other, Traced | np.ndarray | np.generic | float | int | bool):
            return NotImplemented  # type: ignore[no-any-return]
        return combine(op, other, self) if swapped else combine(op, self, other)

    return method


def _in_place(op: str) -> Callable[[Traced, Any], Traced]:
    def method(self: Traced, other: Any) -> Traced:
        return self.write(combine(op, self, other))

    return method


class Traced:
    """An array of which it is known how it is computed, not what it holds.

    Attributes
    ----------
    shape : tuple of int
        As layers see it, with a batch of 1.
    """

    namespace: ClassVar[Any]  # `xpnn.interop.namespace`, which knows this class
    __array_ufunc__ = None  # NumPy's functions refuse it, and its operators leave the word to ours
    __hash__ = object.__hash__

    def __init__(self, builder: Builder, value: str, shape: Shape, origin: _Origin | None = None) -> None:
        self.builder, self._value, self.shape, self._origin = builder, value, shape, origin
        self._memory: _Memory = _Memory() if origin is None else origin.whole._memory
        self._version = self._memory.version

    # -- what is known ----------------------------------------------------------------------------------------
    @property
    def value(self) -> str:
        """The name of the value in the graph."""
        if self._version != self._memory.version:
            raise TracingError("reads a view of an array after another was written to. Take it anew")
        return self._value

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy's."""
        return np.dtype(self.builder.dtype(self._value))

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    device = "cpu"

    @property
    def mT(self) -> Traced:  # noqa: N802 - its name in the standard
        """The last two axes exchanged."""
        return self.permuted((*range(self.ndim - 2), self.ndim - 1, self.ndim - 2))

    @property
    def T(self) -> Traced:  # noqa: N802
        """Both axes exchanged."""
        return self.mT

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.namespace

    def __repr__(self) -> str:
        return f"Traced({self._value}, shape={self.shape}, dtype={self.dtype})"

    __bool__ = _reads("asks whether a number is true")
    __float__ = _reads("takes a float of an array")
    __int__ = _reads("takes an integer of an array")
    __index__ = _reads("takes an integer of an array")
    __array__ = _reads("makes a NumPy array of its input")

    def item(self) -> Any:
        """Refuse."""
        raise TracingError(_READS.format("takes a number of an array"))

    def tolist(self) -> Any:
        """Refuse."""
        raise TracingError(_READS.format("makes a list of an array"))

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Any:
        return (self[k] for k in range(len(self)))

    # -- operators -----------------------------------------------------------------------------------------
    __add__, __radd__, __iadd__ = _binary("add"), _binary("add", swapped=True), _in_place("add")
    __sub__, __rsub__, __isub__ = _binary("sub"), _binary("sub", swapped=True), _in_place("sub")
    __mul__, __rmul__, __imul__ = _binary("mul"), _binary("mul", swapped=True), _in_place("mul")
    __truediv__, __rtruediv__, __itruediv__ = _binary("div"), _binary("div", swapped=True), _in_place("div")
    __pow__, __rpow__, __ipow__ = _binary("pow"), _binary("pow", swapped=True), _in_place("pow")
    __lt__, __le__, __gt__, __ge__ = (_binary(op) for op in ("less", "less_equal", "greater", "greater_equal"))
    __and__, __or__ = _binary("and"), _binary("or")
    __eq__ = _binary("equal")  # type: ignore[assignment]

    def __ne__(self, other: Any) -> Any:
        return ~combine("equal", self, other)

    def __neg__(self) -> Traced:
        return made(self, self.builder.op("neg", self.value), self.shape)

    def __pos__(self) -> Traced:
        return self

    def __abs__(self) -> Traced:
        return made(self, self.builder.op("abs", self.value), self.shape)

    def __invert__(self) -> Traced:
        return made(self, self.builder.op("not", self.value), self.shape)

    def __matmul__(self, other: Any) -> Traced:
        return _product(self, constant(self.builder, other))

    def __rmatmul__(self, other: Any) -> Traced:
        return _product(constant(self.builder, other), self)

    # -- axes ------------------------------------------------------------------------------------------------
    def reshaped(self, shape: Shape) -> Traced:
        """Return a view of the same elements in another shape."""
        rest = math.prod(n for n in shape if n != -1)
        shape = tuple(self.size // rest if n == -1 else n for n in shape)
        if math.prod(shape) != self.size:
            raise TracingError(f"reshapes {self.shape}, of a single row, to {shape}")
        origin = _Origin(self, lambda view: self.builder.reshape(view.value, squeezed(self.shape)))
        return Traced(self.builder, self.builder.reshape(self.value, squeezed(shape)), shape, origin)

    def permuted(self, axes: Shape) -> Traced:
        """Return a view with axes in another order."""
        shape = tuple(self.shape[axis] for axis in axes)
        value = self.builder.op("transpose", in_full(self), axes=axes)
        back = tuple(int(k) for k in np.argsort(axes))
        origin = _Origin(
            self, lambda view: made(self, view.builder.op("transpose", in_full(view), axes=back), self.shape).value
        )
        return Traced(self.builder, self.builder.reshape(value, squeezed(shape)), shape, origin)

    def __getitem__(self, key: Any) -> Traced:
        value, shape = in_full(self), []
        places = _places(key, self.shape)
        axis = -self.ndim
        for place in places:
            if place is None:
                shape.append(1)
                continue
            kept, (start, stop) = isinstance(place, slice), _bounds(place, self.shape[axis])
            value = self.builder.op("slice", value, axis=axis, start=start, stop=stop)
            shape += [stop - start] if kept else []
            axis += 1
        origin = _Origin(self, lambda view: self._with_part(tuple(p for p in places if p is not None), view))
        return Traced(self.builder, self.builder.reshape(value, squeezed(tuple(shape))), tuple(shape), origin)

    def __setitem__(self, key: Any, value: Any) -> None:
        places = _places(key, self.shape)
        if None in places:
            raise TracingError("writes to an array through a new axis")
        ends = [_bounds(place, n) for place, n in zip(places, self.shape, strict=True)]
        seen = tuple(b - a for (a, b), place in zip(ends, places, strict=True) if isinstance(place, slice))
        given = constant(self.builder, value, self.dtype)
        given = made(given, expanded(given, np.broadcast_shapes(given.shape, seen)), seen)
        self.write(made(self, self._with_part(places, given), self.shape))

    def _with_part(self, places: Sequence[Any], new: Traced) -> str:
        """Return the value of this array with a part of it exchanged."""
        ends = [_bounds(place, n) for place, n in zip(places, self.shape, strict=True)]
        part = tuple(stop - start for start, stop in ends)
        cast = self.builder.reshape(self.builder.cast(new.value, self.dtype.name), part)
        old = self.builder.reshape(self._value, self.shape)
        return self.builder.reshape(
            _overwritten(self.builder, old, self.shape, ends, cast, -self.ndim), squeezed(self.shape)
        )

    def write(self, new: Traced) -> Traced:
        """Take the values of another array: for this one, and what it is a view of."""
        if new.shape != self.shape:
            raise TracingError(f"writes an array of shape {new.shape} over one of {self.shape}")
        self._value = self.builder.cast(new.value, self.dtype.name)
        self._memory.version += 1
        self._version = self._memory.version
        view = self
        while view._origin is not None:
            whole, from_view = view._origin
            whole._value, whole._version = from_view(view), self._memory.version
            view = whole
        return self


def made(like: Traced, value: str, shape: Shape) -> Traced:
    """Return a new array of a value."""
    return Traced(like.builder, like.builder.reshape(value, squeezed(shape)), shape)


def squeezed(shape: Shape) -> Shape:
    """Return the shape that a value has in the graph: without axes of size 1 before the others, but for the last."""
    first = next((k for k, n in enumerate(shape) if n != 1), len(shape) - 1)
    return shape[max(first, 0) :]


def in_full(x: Traced) -> str:
    """Return a value with all axes."""
    return x.builder.reshape(x.value, x.shape)


def constant(builder: Builder, x: Any, dtype: Any = None) -> Traced:
    """Return what is no traced array as one, in the dtype that it has, or numbers of Python in the one given."""
    if isinstance(x, Traced):
        return x
    if type(x) in (float, int, bool):
        dtype = dtype or (np.float64 if type(x) is float else np.int64 if type(x) is int else np.bool_)
        array = np.asarray(x, dtype=dtype)
    else:
        array = np.asarray(x)
        kinds = {
            "f": np.float32 if array.dtype.itemsize < 8 else np.float64,
            "i": np.int64,
            "u": np.int64,
            "b": np.bool_,
        }
        if array.dtype.kind not in kinds:
            raise TracingError(f"computes with {type(x).__name__} of {array.dtype}")
        array = array.astype(kinds[array.dtype.kind])
    return Traced(builder, builder.constant(array.reshape(squeezed(array.shape))), array.shape)


def combine(op: str, *operands: Any) -> Traced:
    """Return an operation on several operands, element by element, one of which is traced."""
    first = next(x for x in operands if isinstance(x, Traced))
    numbers = [x for x in operands[-2:] if type(x) not in (float, int, bool)]
    dtypes = [x.dtype if isinstance(x, Traced) else np.asarray(x).dtype for x in numbers]
    dtype = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
    if dtype.kind in "iub" and any(type(x) is float for x in operands):
        dtype = np.dtype(np.float64)
    elif dtype.kind == "b" and any(type(x) is int for x in operands):
        dtype = np.dtype(np.int64)
    arrays = [constant(first.builder, x, dtype) for x in operands]
    wide = "float32" if dtype == np.float16 else "int64" if dtype.kind in "iu" else dtype.name
    last = len(arrays) - 2
    values = [x.value if k < last else first.builder.cast(x.value, wide) for k, x in enumerate(arrays)]
    return made(first, first.builder.op(op, *values), np.broadcast_shapes(*(x.shape for x in arrays)))


def _product(a: Traced, b: Traced) -> Traced:
    builder = a.builder
    if builder.is_constant(a.value) and not builder.is_constant(b.value) and min(a.ndim, b.ndim) >= 2:
        return _product(b.mT, a.mT).mT
    if not builder.is_constant(b.value):
        raise TracingError("multiplies two matrices that both depend on the input")
    if b.ndim == 1:
        return _product(a, b.reshaped((*b.shape, 1)))[..., 0]
    if a.ndim == 1:
        return _product(a.reshaped((1, *a.shape)), b)[..., 0, :]
    if a.shape[-1] != b.shape[-2]:
        raise TracingError(f"multiplies shapes {a.shape} and {b.shape}")
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    leading = squeezed((*b.shape[:-2], 0))[:-1]
    weight = builder.reshape(b.value, (*leading, *b.shape[-2:]))
    x = a.value
    if leading:  # as many axes as the weight
        rank = max(a.ndim, len(leading) + 2)
        x = builder.reshape(x, (1,) * (rank - a.ndim) + a.shape)
        weight = builder.reshape(weight, (1,) * (rank - 2 - len(leading)) + leading + b.shape[-2:])
    return made(a, builder.op("matmul", x, weight), shape)


# -- indices -----------------------------------------------------------------------------------------------------
def _places(key: Any, shape: Shape) -> list[Any]:
    """Return slice, integer or None for each axis, ``...`` written out."""
    keys = list(key) if isinstance(key, tuple) else [key]
    for k in keys:
        if not (k is None or k is ... or isinstance(k, slice | int | np.integer)):
            raise TracingError(f"takes elements by {type(k).__name__}. Use xp.take, or slices")
    there = sum(k is not None and k is not ... for k in keys)
    if ... not in keys:
        keys.append(...)
    at = keys.index(...)
    return [*keys[:at], *[slice(None)] * (len(shape) - there), *keys[at + 1 :]]


def _bounds(place: Any, n: int) -> tuple[int, int]:
    """Return where a part of an axis begins and ends."""
    if isinstance(place, slice):
        start, stop, step = place.indices(n)
        if step != 1:
            raise TracingError(f"takes every element by a step of {step}. Use xp.take")
        return start, max(start, stop)
    k = int(place)
    if not -n <= k < n:
        raise TracingError(f"takes element {k} of an axis of {n}")
    return k % n, k % n + 1


def expanded(x: Traced, shape: Shape) -> str:
    """Return a value repeated to a shape."""
    full = x.builder.reshape(x.value, (1,) * (len(shape) - x.ndim) + x.shape)
    return x.builder.op("expand", full, shape=tuple(shape))


def _overwritten(builder: Builder, old: str, shape: Shape, ends: list[tuple[int, int]], new: str, axis: int) -> str:
    """Return an array of which a part, between the `ends` of each axis from `axis` on, is another."""
    while axis < 0 and ends[axis] == (0, shape[axis]):
        axis += 1
    if axis == 0:
        return new
    start, stop = ends[axis]
    middle = builder.op("slice", old, axis=axis, start=start, stop=stop)
    inner = tuple(stop - start if k == axis + len(shape) else n for k, n in enumerate(shape))
    inner_ends = [(0, stop - start) if k == axis + len(shape) else end for k, end in enumerate(ends)]
    parts = [_overwritten(builder, middle, inner, inner_ends, new, axis + 1)]
    if start:
        parts.insert(0, builder.op("slice", old, axis=axis, start=0, stop=start))
    if stop < shape[axis]:
        parts.append(builder.op("slice", old, axis=axis, start=stop, stop=shape[axis]))
    return builder.op("concat", *parts, axis=axis)
