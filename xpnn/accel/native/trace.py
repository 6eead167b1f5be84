"""Tracing the array work of one training step, to do it again without Python.

A small step is mostly Python: each operation is found, checked and given an array of its own, which takes longer than
its arithmetic.  A `Trace` is what one step did with arrays, written down while it was made: the very loops of NumPy and
of `xpnn.accel.native.loops`, and the places in memory where they read and wrote.  `Trace.play` runs them again, for
many steps, with the same roundings and without Python.

What is written down are addresses.  So whatever changes from step to step, rows or a learning rate, must lie in an
array that was `moving` when the trace was made; everything else stays where it was.  NumPy tells `Traced` arrays of
each of its functions that works on them.  What is not understood raises `TraceError`, and so does an array whose
numbers the trace did not see come about.  Ways past it remain, such as ``np.asarray(traced)``: whoever makes a trace
compares what it does.
"""

from __future__ import annotations

import functools
import importlib
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .beside import Product, join, product_of
from .inner_loops import InnerLoop, inner_loop, most_at_once
from .openblas import Pool
from .table import Column, Kernel
from .turns import ONE_THREAD

__all__ = ["Trace", "TraceError", "Traced", "TracedLoops", "trace_of", "untraced"]

# Arrays of kernels that are given numbers, too, behind them.
_ARRAYS_OF = {Kernel.ADAM: 4, Kernel.ADAM_BY_PARAMETER: 6}

# Functions that make an array like another, and what they fill it with.
_LIKE: dict[Any, float | None] = {np.empty_like: None, np.zeros_like: 0.0, np.ones_like: 1.0}
# What calls traced functions in its turn, or makes views; the work of all others goes unseen.
_SEEN = {
    *(np.sum, np.mean, np.max, np.min, np.reshape, np.ravel, np.squeeze, np.expand_dims, np.swapaxes, np.moveaxis),
    *(np.transpose, np.permute_dims, np.matrix_transpose, np.broadcast_to, np.astype, np.shape, np.ndim, np.size),
}
_LARGE = 1 << 15  # elements, from which on threads share a loop
_LINE = 64  # bytes of a line of cache, at which arrays begin
_EXACT = 1 << 24  # whole numbers up to this are float32 numbers


class TraceError(Exception):
    """What a step does cannot be traced."""


class _Place(NamedTuple):
    """Where a moving array was: which one it is, and its address."""

    number: int
    start: int


class Traced(np.ndarray):
    """An array whose work is traced, and done."""

    own_trace: Trace | None = None  # ndarray has a `trace`, of a matrix

    def __array_finalize__(self, obj: Any) -> None:
        self.own_trace = getattr(obj, "own_trace", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        trace = trace_of(*inputs, *(out or ()))
        plain = [untraced(a) for a in inputs]
        made = trace.apply(ufunc, method, plain, untraced(out[0]) if out else None, options)
        return out[0] if out else trace.fixed(made)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _LIKE:
            return trace_of(args[0]).like(untraced(args[0]), _LIKE[func], *args[1:], **kwargs)
        if func is np.full_like:
            return trace_of(args[0]).like(untraced(args[0]), *args[1:], **kwargs)
        if func is np.argmax:
            return trace_of(args[0]).argmax(*args, **kwargs)
        if func not in _SEEN or kwargs.get("out") is not None:
            raise TraceError(f"{func.__name__}, whose work is not seen")
        return super().__array_function__(func, types, args, kwargs)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(_whole(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        trace_of(self).assign(untraced(self)[_whole(key)], untraced(value))

    def astype(self, dtype: Any, *args: Any, **options: Any) -> Any:
        """Return the same numbers in another dtype: of truth values, zeros and ones."""
        if self.dtype == dtype and not options.get("copy", True):
            return self
        return trace_of(self).numbers(self, np.dtype(dtype))

    def _decision(self, *args: Any) -> Any:
        """Raise `TraceError`: what is decided by a number would be decided once."""
        raise TraceError("a decision by the value of an array")

    def _unseen(self, *args: Any, **options: Any) -> Any:
        """Raise `TraceError`: NumPy does not tell of this method's work."""
        raise TraceError("a method whose work is not seen")

    __bool__ = __float__ = __int__ = __index__ = __complex__ = item = tolist = _decision
    argmax = argmin = byteswap = choose = compress = dot = fill = partition = put = resize = setfield = _unseen
    sort = take = _unseen

    @property
    def flat(self) -> Any:
        """Raise `TraceError` likewise."""
        raise TraceError("elements one by one")


def _whole(key: Any) -> Any:
    """Return a key that gives an array also of one element: a number would stay the same for ever."""
    keys = key if isinstance(key, tuple) else (key,)
    if any(not (k is Ellipsis or k is None or isinstance(k, int | slice)) for k in keys):
        raise TraceError("chosen elements")
    return keys if Ellipsis in keys else (*keys, Ellipsis)


def untraced(a: Any) -> Any:
    """Return a traced array as NumPy's own, and anything else as it is."""
    return a.view(np.ndarray) if isinstance(a, Traced) else a


def trace_of(*arrays: Any) -> Trace:
    """Return the trace to which arrays belong."""
    for array in arrays:
        if isinstance(array, Traced) and array.own_trace is not None:
            return array.own_trace
    raise TraceError("an array that belongs to no trace")


class Trace:
    """What one step did with arrays, whose floating numbers have one dtype.

    Its kernels are those of `xpnn.accel.native.loops`; `pool` returns the threads on which they are played.
    """

    def __init__(self, kernels: Any, pool: Callable[[], Pool], dtype: Any) -> None:
        self._kernels, self._pool = kernels, pool
        self._like = np.zeros(1, dtype)
        self._rows: list[list[int]] = []
        self._moves: list[tuple[int, int, int, int]] = []  # row and column, number of the moving array, offset
        self._products: dict[int, Product] = {}  # by their rows, those whose output stays where it is
        self.played = 0  #: steps of the last play, once they are made
        self._moving = 0
        # The memory that the trace knows, by the id of what owns it and is kept alive; a place if it moves.
        self._known: dict[int, tuple[Any, _Place | None]] = {}
        self._memory: list[Any] = []  # of arrays that a step makes; the first piece is nobody's
        self._more(0)

    # -- what the trace knows -------------------------------------------------------------------------------
    def fixed(self, array: Any) -> Traced:
        """Return an array as one that stays where it is."""
        owner = _owner(array)
        self._known.setdefault(id(owner), (owner, None))
        return self._traced(array)

    def moving(self, array: Any) -> Traced:
        """Return an array as one in whose place others come: at each play as many as here were named, in this order."""
        owner, place = _owner(array), _Place(self._moving, array.ctypes.data)
        if self._known.setdefault(id(owner), (owner, place))[1] is not place:
            raise TraceError("two moving arrays in one memory")
        self._moving += 1
        return self._traced(array)

    def _traced(self, array: Any) -> Traced:
        traced: Traced = array.view(Traced)
        traced.own_trace = self
        return traced

    def _fresh(self, shape: Sequence[int], dtype: Any) -> Any:
        """Return an array to be filled, in memory that was another's which nobody has any more, if there is some.

        A step works in as little memory as without a trace, and finds it in cache.  What the trace itself refers to is
        counted with the first piece, which nobody else ever has.
        """
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        held = [sys.getrefcount(piece) for piece in self._memory]
        for k in range(len(held) - 1, 0, -1):
            if held[k] == held[0] and size <= self._memory[k].size - _LINE <= 2 * size:
                self._memory.append(self._memory.pop(k))
                break
        else:
            self._more(size + _LINE)
        start = -self._memory[-1].ctypes.data % _LINE
        return self._memory[-1][start : start + size].view(dtype).reshape(shape)

    def _more(self, size: int) -> None:
        piece = np.empty(size, np.uint8)
        self._known[id(piece)] = piece, None
        self._memory.append(piece)

    def _constant(self, value: float, dtype: Any) -> Any:
        return untraced(self.fixed(np.asarray(value, dtype)))

    # -- tracing --------------------------------------------------------------------------------------------
    # Each does its work on NumPy's arrays, too.
    def apply(self, ufunc: np.ufunc, method: str, inputs: list[Any], out: Any, options: dict[str, Any]) -> Any:
        """Call a function of NumPy, write it down, and return what it made."""
        if method == "reduce":
            return self._reduce(ufunc, inputs[0], out, **options)
        # What the usual options allow, a conversion, would be refused in any case.
        if method != "__call__" or options.keys() - {"casting", "subok"} or ufunc.nout != 1:
            raise TraceError(f"{ufunc.__name__} in a form of its own")
        return self._elements(ufunc, inputs, out) if ufunc.signature is None else self._product(ufunc, inputs, out)

    def kernel(self, name: str, *args: Any) -> Any:
        """Call a kernel, on threads if it takes some, with traced arrays, then whole numbers, and write it down."""
        if name.upper() not in Kernel.__members__:
            raise TraceError(f"{name}, which no trace holds")
        kind = Kernel[name.upper()]
        pools = [a for a in args if isinstance(a, tuple)]
        numbers = [a for a in args if isinstance(a, int)]
        arrays = [untraced(a) for a in args if isinstance(a, Traced)]
        if len(pools) + len(arrays) + len(numbers) != len(args) or not all(a.flags.c_contiguous for a in arrays):
            raise TraceError(f"{name} of other than arrays in one piece")
        if any(a.dtype.kind == "f" and a.dtype != self._like.dtype for a in arrays):
            raise TraceError(f"{name} of another dtype than the trace's")
        whole = _ARRAYS_OF.get(kind, len(arrays))
        given = [*arrays[:whole], *(float(a.reshape(())) for a in arrays[whole:])]
        made = getattr(self._kernels, name)(*pools, *given, *numbers)
        if made is False:
            raise TraceError(f"{name}, which refuses its input")
        dims = (1, *arrays[0].shape)[-2:]
        self._put(arrays, {Column.KIND: (kind,), Column.DIMS: dims, Column.STEPS: numbers})
        return made

    def assign(self, place: Any, value: Any) -> None:
        """Copy an array or a number to a place."""
        if type(value) in (int, float):
            value = self._constant(value, place.dtype)
        self._elements(np.positive, [value], place)

    def like(self, other: Any, fill: float | None, dtype: Any = None, *, shape: Any = None, **options: Any) -> Traced:
        """Make an array like another, filled with a number if there is one."""
        if other.flags.c_contiguous or options.get("order") == "C":
            made = self.fixed(self._fresh(other.shape if shape is None else _sizes(shape), dtype or other.dtype))
        else:
            made = self.fixed(np.empty_like(other, dtype=dtype, shape=shape, **options))
        if fill is not None:
            self.assign(untraced(made), fill)
        return made

    def argmax(self, x: Traced, axis: int | None = None) -> Traced:
        """Find the places of the largest in rows."""
        if axis != -1 or x.ndim < 2 or x.dtype != self._like.dtype or not x.flags.c_contiguous:
            raise TraceError("argmax of other than rows in one piece")
        places = self.fixed(self._fresh(x.shape[:-1], np.int64))
        self.kernel("argmax", x.reshape(-1, x.shape[-1]), places.reshape(-1))
        return places

    def numbers(self, truths: Traced, dtype: np.dtype[Any]) -> Traced:
        """Turn truth values into zeros and ones."""
        if truths.dtype != np.bool_ or dtype != self._like.dtype or not truths.flags.c_contiguous:
            raise TraceError(f"a conversion of {truths.dtype} to {dtype}")
        made = self.fixed(self._fresh(truths.shape, dtype))
        self.kernel("numbers", made.reshape(-1), truths.reshape(-1))
        return made

    def _elements(self, ufunc: np.ufunc, inputs: list[Any], out: Any) -> Any:
        """An elementwise function."""
        inputs, loop = self._resolved(ufunc, inputs, out)
        if out is None:
            shape = np.broadcast_shapes(*(a.shape for a in inputs))
            # Others lie as NumPy decides; and of single numbers it would make a number.
            alike = all(a.flags.c_contiguous for a in inputs) and any(a.shape == shape for a in inputs)
            out = ufunc(*inputs, out=self._fresh(shape, loop.dtype) if alike else None)
            self.fixed(out)
        else:
            ufunc(*inputs, out=out)
        for a in inputs:
            if np.may_share_memory(a, out) and not _same_place(a, out):
                raise TraceError(f"{ufunc.__name__} over a part of what it reads")
        self._spread(loop, [*inputs, out], out.shape)
        return out

    def _resolved(self, ufunc: np.ufunc, inputs: list[Any], out: Any) -> tuple[list[Any], InnerLoop]:
        """Return inputs as arrays of the dtypes in which they are used, and the loop that does."""
        if ufunc is np.true_divide and out is not None and isinstance(inputs[1], np.integer) and inputs[1] < _EXACT:
            inputs = [inputs[0], float(inputs[1])]  # a mean: NumPy divides in float64 and rounds, which is the same
        kinds = [a.dtype if isinstance(a, np.ndarray) else type(a) for a in inputs]
        if not all(isinstance(kind, np.dtype) or kind in (int, float) for kind in kinds):
            raise TraceError(f"{ufunc.__name__} of other than arrays and plain numbers")
        dtypes = ufunc.resolve_dtypes((*kinds, None if out is None else out.dtype))
        for a, dtype in zip([*inputs, out], dtypes, strict=True):
            if isinstance(a, np.ndarray) and a.dtype != dtype:
                raise TraceError(f"{ufunc.__name__}, which converts {a.dtype} and {dtype}")
        arrays = [
            a if isinstance(a, np.ndarray) else self._constant(a, dtype)
            for a, dtype in zip(inputs, dtypes[:-1], strict=True)
        ]
        return arrays, _loop(ufunc, dtypes)

    def _reduce(
        self,
        ufunc: np.ufunc,
        x: Any,
        out: Any,
        axis: Any = 0,
        dtype: Any = None,
        keepdims: bool = False,
        initial: Any = np._NoValue,
        where: Any = True,
    ) -> Any:
        """A sum or a maximum over the last axes, or over others that follow each other, in NumPy's order."""
        if x.dtype.kind != "f" or not x.flags.c_contiguous or x.size == 0:
            raise TraceError(f"{ufunc.__name__} over other than floating numbers in one piece")
        if (dtype is not None and dtype != x.dtype) or where is not True or initial is not np._NoValue or x.ndim == 0:
            raise TraceError(f"{ufunc.__name__} over axes, with options")
        axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
        axes = tuple(k % x.ndim for k in axes)
        sums = self._fresh([1 if k in axes else n for k, n in enumerate(x.shape)], x.dtype)
        ufunc.reduce(x, axis=axes, keepdims=True, out=sums)
        low, high = min(axes), max(axes) + 1
        if sums.size > 1 and axes != tuple(range(low, high)):
            raise TraceError(f"{ufunc.__name__} over axes apart")
        count = x.size // sums.size
        after = 1 if sums.size == 1 else math.prod(x.shape[high:])
        # Where nothing comes after, NumPy sums one row after the other; else all columns at once, row by row.
        rows, into = x.reshape(-1, count, after), sums.reshape(-1, 1, after)
        if ufunc.identity is None:  # then NumPy begins with the first
            first, begin = rows[:, :1], 1
        else:
            first, begin = self._constant(ufunc.identity, x.dtype), 0
        self._spread(_loop(np.positive, (x.dtype, x.dtype)), [first, into], into.shape)
        at_once = most_at_once(count) if after == 1 else count
        for start in range(0, count, at_once):
            part = rows[:, max(start, begin) : start + at_once]
            if part.size:
                self._spread(_loop(ufunc, (x.dtype,) * 3), [into, part, into], part.shape)
        if out is not None:
            self.assign(out, sums.reshape(out.shape))
            return out
        return sums if keepdims else sums.reshape([n for k, n in enumerate(x.shape) if k not in axes])

    def _product(self, ufunc: np.ufunc, inputs: list[Any], out: Any) -> Any:
        """A product of two matrices, or of stacks of them."""
        if ufunc is not np.matmul or not all(isinstance(a, np.ndarray) and a.ndim >= 2 and a.size for a in inputs):
            raise TraceError(f"{ufunc.__name__} of other than matrices")
        a, b = inputs
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        if out is None:
            out = self._fresh((*stack, a.shape[-2], b.shape[-1]), a.dtype)
        if len(stack) > 1:  # stacks of stacks, one after the other
            for k in range(stack[0]):
                self._product(ufunc, [_part(x, len(stack) + 2, k) for x in inputs], out[k])
            return out
        if not a.dtype == b.dtype == out.dtype or np.may_share_memory(a, out) or np.may_share_memory(b, out):
            raise TraceError("a product of several dtypes, or over what it reads")
        np.matmul(a, b, out=out)
        count = out.shape[0] if out.ndim == 3 else 1
        between = [m.strides[0] if m.ndim == 3 and m.shape[0] > 1 else 0 for m in (a, b, out)]
        steps = [step for m in (a, b, out) for step in m.strides[-2:]]
        self._call(_loop(ufunc, (a.dtype,) * 3), [a, b, out], (count, *a.shape[-2:], b.shape[-1]), (*between, *steps))
        self._rows[-1][Column.TOGETHER] = 1
        if self._known[id(_owner(out))][1] is None:
            self._products[len(self._rows) - 1] = product_of(a, b, out)
        return out

    def together(self, products: Sequence[tuple[Any, Any, Any]]) -> None:
        """Make products of matrices, each given with its output, that threads may make at once."""
        first = len(self._rows)
        for a, b, out in products:
            np.matmul(a, b, out=out)
        self._rows[first][Column.TOGETHER] = len(products)

    def _spread(self, loop: InnerLoop, arrays: list[Any], shape: tuple[int, ...]) -> None:
        """Write down a loop over arrays of a common shape, with as few dimensions as there can be.

        NumPy takes dimensions in an order of its own, which no element's value depends on; but some loops choose
        their arithmetic by the strides, and those NumPy then may have changed.
        """
        if 0 in shape:
            return
        strides = [np.broadcast_to(a, shape).strides for a in arrays]
        dims: list[tuple[int, list[int]]] = []
        for k, n in enumerate(shape):
            steps = [of[k] for of in strides]
            if dims and all(before == n * own for before, own in zip(dims[-1][1], steps, strict=True)):
                dims[-1] = dims[-1][0] * n, steps
            elif n != 1:
                dims.append((n, steps))
        by_column = loop.name == "power" and arrays[1].size > 1 and dims and dims[-1][1][1] == 0
        if len(dims) > 1 and (min(dims[-1][1]) < 0 or by_column):
            raise TraceError(f"{loop.name} of columns backwards, or by a column")
        if len(arrays) > 3:
            raise TraceError(f"{loop.name} of more than three arrays")
        if len(dims) > 3:  # one part after the other
            for k in range(shape[0]):
                self._spread(loop, [_part(a, len(shape), k) for a in arrays], shape[1:])
            return
        none = 1, [0] * len(arrays)
        *outer, inner = [none, none, none, *dims][-3:]
        self._call(loop, arrays, inner[:1], inner[1], outer)
        (far, _), (near, apart) = outer
        apart = inner[1] if near == 1 else apart
        # Where each element of the output is another: sums have one place for many.
        if far == 1 and math.prod(shape) >= _LARGE and apart[-1]:
            self._rows[-1][Column.SHARED] = 1 if near == 1 else 2

    def _call(
        self,
        loop: InnerLoop,
        arrays: list[Any],
        dims: Sequence[int],
        steps: Sequence[int],
        outer: Sequence[tuple[int, Sequence[int]]] = ((1, ()), (1, ())),
    ) -> None:
        (far, far_steps), (near, near_steps) = outer
        far_steps = [*far_steps, 0, 0, 0][:3]
        columns: dict[Column, Sequence[int]] = {Column.LOOP: (loop.address, loop.data, len(arrays))}
        columns |= {Column.DIMS: dims, Column.STEPS: steps}
        columns |= {Column.OUTER: (far, near), Column.OUTER_STEPS: (*far_steps, *near_steps)}
        self._put(arrays, columns)

    def _put(self, arrays: list[Any], columns: dict[Column, Sequence[int]]) -> None:
        """Write a row: the addresses of arrays, and numbers from each of these columns on."""
        row = [0] * Column.WIDTH
        for column, given in columns.items():
            row[column : column + len(given)] = given
        for k, array in enumerate(arrays):
            if id(_owner(array)) not in self._known:
                raise TraceError("an array that came about unseen")
            address, place = array.ctypes.data, self._known[id(_owner(array))][1]
            row[Column.ARGS + k] = address
            if place is not None:
                self._moves.append((len(self._rows), Column.ARGS + k, place.number, address - place.start))
        self._rows.append(row)

    # -- playing --------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Make ready to play; the arrays that moved may go."""
        self._known = {key: known for key, known in self._known.items() if known[1] is None}
        join(self._rows, self._products)
        self._table = np.asarray(self._rows, np.int64).reshape(-1, Column.WIDTH)
        self._moved = np.asarray(self._moves, np.int64).reshape(-1, 4)
        self._player = importlib.import_module(".player", __package__)

    def play(self, count: int, places: Sequence[tuple[int, int]]) -> None:
        """Make `count` steps; that labels exist, which a kernel checks while it is traced, is the caller's to know.

        The `places` tell of each moving array where it is for the first step, and how many bytes further for each that
        follows.
        """
        self.played = 0
        bases = np.asarray(places, np.int64).reshape(self._moving, 2)
        with ONE_THREAD:
            self._player.play(count, self._pool(), self._table, self._moved, bases, self._like)
        self.played = count


class TracedLoops:
    """The kernels, each call of which is traced."""

    def __init__(self, kernels: Any, trace: Trace) -> None:
        self._kernels, self._trace = kernels, trace

    def __getattr__(self, name: str) -> Any:
        kernel = getattr(self._kernels, name)
        return functools.partial(self._trace.kernel, name) if callable(kernel) else kernel


def _loop(ufunc: np.ufunc, dtypes: tuple[np.dtype[Any], ...]) -> InnerLoop:
    found = inner_loop(ufunc, dtypes)
    if found is None:
        raise TraceError(f"{ufunc.__name__} of {', '.join(map(str, dtypes))}")
    return found


def _sizes(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _part(a: Any, ndim: int, k: int) -> Any:
    """Return number `k` along the first of `ndim` axes, along which an array may be one for all."""
    return a if a.ndim < ndim else a[k if a.shape[0] > 1 else 0]


def _owner(array: Any) -> Any:
    """Return what owns an array's memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _same_place(a: Any, b: Any) -> bool:
    return bool(a.ctypes.data == b.ctypes.data and a.strides == b.strides and a.shape == b.shape)
