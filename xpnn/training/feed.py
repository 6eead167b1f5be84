"""How rows reach the training step: checked once, cast once, gathered by blocks.

Data that fit stay on the device, and one gather serves several batches, unless a trace gathers each (`Feed.held`).
Rows of a large table lie there packed, and are encoded when they are gathered.  A memory map stays on disk: its rows
come over block by block, read in ascending order and ahead of their use, so training data may be larger than memory.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import importlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from .._typing import Array, DType
from ..accel.cuda.upload import PinnedSlots
from ..backend import Backend, to_numpy
from ..coding import Code
from ..data.encoded import EncodedRows
from ..data.packing import PackedLater
from ..errors import DataError

__all__ = ["Batch", "Feed", "Indices"]

Indices = Any
Batch = tuple[Array, Array, "Array | None"]
#: Where the columns of a block are to go, by its number; None: to new arrays.
Places = Callable[[int], "Sequence[Array | None] | None"]

# Rows gathered at once: about half a MiB in float32, so that a batch is read while it is still in a CPU's cache.
_STAGE_ELEMENTS = 1 << 17
# Rows uploaded at once, about 16 MiB in float32: a transfer's own time is then small beside that of its bytes.
_UPLOADED_ELEMENTS = 1 << 22
# Values checked at once: the answers stay in cache.
_CHECKED_ELEMENTS = 1 << 18


class Feed:
    """Rows of inputs, targets and weights, ready to be cut into batches on a backend.

    X (n, n_in) and y (n,) or (n, n_targets) are of any library, and become of the backend's floating dtype, or of its
    index dtype; a `numpy.memmap` is streamed, and `EncodedRows` stay packed.  Sample weights (n,) are on the host.
    Messages begin with `where`.
    """

    def __init__(
        self,
        backend: Backend,
        X: Any,
        y: Any,
        weight: np.ndarray | None = None,
        *,
        index_x: bool = False,
        index_y: bool = False,
        where: str = "fit",
    ) -> None:
        dtypes = backend.dtype, backend.index_dtype
        self.backend, self.weight = backend, weight
        self._columns = [
            _column(backend, X, dtypes[index_x], where, "X"),
            _column(backend, y, dtypes[index_y], where, "y"),
        ]
        if weight is not None:
            self._columns.append(_column(backend, weight, backend.dtype, where, "sample_weight"))
        self._part: Indices | None = None  # the rows of a part, in order
        self.width = int(np.prod(X.shape[1:]))

    def __len__(self) -> int:
        return int(self._columns[0].values.shape[0]) if self._part is None else len(self._part)

    @property
    def numbers(self) -> Indices | None:
        """The numbers of the rows of a part, in order; None of all."""
        return self._part

    @property
    def rows(self) -> Indices:
        """The numbers of this feed's rows, in order."""
        return np.arange(len(self), dtype=np.int64) if self._part is None else self._part

    @property
    def kinds(self) -> list[tuple[DType, tuple[int, ...]]]:
        """Of inputs, targets and weights, where there are any, the dtype of batches and the shape of one row."""
        return [(column.dtype, tuple(column.row_shape)) for column in self._columns]

    def held(self, order: Indices | None) -> tuple[list[Array], Array | None] | None:
        """Return the columns as they lie in memory, each in a piece of its own, and in which order to take their rows.

        None if they do not: then `blocks` brings them.  No order: as they lie.
        """
        columns = [column.values for column in self._columns if type(column) is _Resident]
        if len(columns) < len(self._columns) or self.backend.name not in ("numpy", "cupy"):
            return None
        if self.backend.name == "cupy":
            whole = all(bool(values.flags.c_contiguous) for values in columns)
            return (columns, self._columns[0].ready(self._index(order))) if whole else None
        if not all(values.flags.c_contiguous and values.flags.aligned for values in columns):
            return None
        if any(np.may_share_memory(a, b) for a, b in itertools.combinations(columns, 2)):
            return None
        return columns, self._columns[0].ready(self._index(order))

    def _index(self, order: Indices | None) -> Indices | None:
        """Return the numbers of this feed's rows in an order, or None where they are all and in theirs."""
        if self._part is None:
            return order
        return self._part if order is None else self._part[order]

    @property
    def code(self) -> Code | None:
        """How the rows are packed; None where they are not, or hold what is no code."""
        x = self._columns[0]
        return x.code if isinstance(x, _Packed) and x.sound else None

    def left_packed(self) -> Feed:
        """Return a feed over the same memory whose batches are packed rows."""
        feed = copy.copy(self)
        feed._columns = [column.packed if isinstance(column, _Packed) else column for column in self._columns]
        return feed

    def part(self, rows: Indices) -> Feed:
        """Return a feed of some rows, over the same memory."""
        feed = copy.copy(self)
        feed._part = rows
        return feed

    def batch_weights(self, order: Indices | None, batch_size: int) -> np.ndarray:
        """Return the total weight of each batch, float64, on the host."""
        n = len(self)
        starts = np.arange(0, n, batch_size)
        if self.weight is None:
            return np.minimum(batch_size, n - starts).astype(np.float64)
        index = self._index(order)
        weight = self.weight if index is None else self.weight[index]
        return np.add.reduceat(weight.astype(np.float64), starts)

    def weights_between(self, order: Indices | None, edges: np.ndarray) -> np.ndarray:
        """Return the total weight of the rows from each edge to the next in the last axis, float64, on the host."""
        if self.weight is None:
            return np.diff(edges).astype(np.float64)
        index = self._index(order)
        weight = (self.weight if index is None else self.weight[index]).astype(np.float64)
        starts, stops = edges[..., :-1], edges[..., 1:]
        totals, some = np.zeros(starts.shape), stops > starts
        if some.any():
            # Of a pair of places the sum between them; every other sum is not asked for.
            pairs = np.stack([starts[some], stops[some]], axis=-1).reshape(-1)
            totals[some] = np.add.reduceat(np.append(weight, 0.0), pairs)[::2]
        return totals

    def cut(self, order: Indices | None, edges: Sequence[int]) -> Iterator[Batch]:
        """Yield (x, y, weight) of the rows of an order from each edge to the next, gathered some at a time.

        Where there is no row between the first edge and the last, nothing comes.
        """
        most = max(_STAGE_ELEMENTS // max(self.width, 1), 1)
        if edges[-1] == edges[0]:
            return
        ends = [0]  # of the blocks, as numbers of edges; none is without rows
        for k in range(1, len(edges) - 1):
            if edges[k + 1] - edges[ends[-1]] > most and edges[ends[-1]] < edges[k] < edges[-1]:
                ends.append(k)
        ends.append(len(edges) - 1)
        blocks = self.blocks(order, [edges[k] for k in ends])
        for (first, last), (x, y, w) in zip(itertools.pairwise(ends), blocks, strict=True):
            for k in range(first, last):
                rows = slice(edges[k] - edges[first], edges[k + 1] - edges[first])
                yield x[rows, ...], y[rows, ...], None if w is None else w[rows, ...]

    def blocks(self, order: Indices | None, edges: Sequence[int], places: Places | None = None) -> Iterator[Batch]:
        """Yield (x, y, weight) of the rows from each edge to the next, in one piece.

        `order` is a permutation of this feed's rows; None takes them as they lie.  Rows that are on disk are read
        ahead: while one block is in use, a thread reads the next.  Rows on a device go straight into the arrays that
        `places` names for a block by its number, where there are some; then those are what is yielded.
        """
        index, columns = self._index(order), self._columns
        indices = [column.ready(index) for column in columns]
        ranges = list(itertools.pairwise(edges))
        outs = functools.partial(self._outs, places)
        if (len(ranges) > 1 or (ranges and places)) and any(isinstance(column, _Streamed) for column in columns):
            found = _read_ahead(columns, indices, ranges, outs)
        else:
            found = (
                [c.rows(i, *ranges[k], out) for c, i, out in zip(columns, indices, outs(k), strict=True)]
                for k in range(len(ranges))
            )
        for x, y, *w in found:
            yield x, y, w[0] if w else None

    def _outs(self, places: Places | None, number: int) -> Sequence[Array | None]:
        """Return where the columns of a block are to go."""
        outs = None if places is None else places(number)
        return [None] * len(self._columns) if outs is None else [out for out in outs if out is not None]

    def edges(self, batch_size: int, first: int = 0) -> list[int]:
        """Return where blocks of whole batches begin that are worth one gather, from batch `first` on, and the end."""
        n, x = len(self), self._columns[0]
        elements = _UPLOADED_ELEMENTS if isinstance(x, _Streamed) and x.pinned else _STAGE_ELEMENTS
        stage = batch_size * max(elements // (batch_size * self.width), 1)
        return [*range(first * batch_size, n, stage), n]

    def batches(self, order: Indices | None, batch_size: int, first: int = 0) -> Iterator[Batch]:
        """Yield (x, y, weight) of each batch from number `first` on, the last short one included; see `blocks`."""
        for x, y, w in self.blocks(order, self.edges(batch_size, first)):
            for a in range(0, x.shape[0], batch_size):
                b = min(a + batch_size, x.shape[0])
                yield x[a:b, ...], y[a:b, ...], None if w is None else w[a:b, ...]


class _Resident:
    """A column on the device."""

    def __init__(self, backend: Backend, values: Array, where: str, name: str) -> None:
        self.backend, self.values, self.dtype = backend, values, values.dtype
        if backend.xp.isdtype(values.dtype, "real floating") and not _all_finite(backend, values):
            _refuse_non_finite(to_numpy(values), where, name)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.values.shape[1:])

    def ready(self, index: Indices | None) -> Array | None:
        """Return the order of one epoch as `rows` wants it: on the device, moved at once."""
        backend = self.backend
        return None if index is None else backend.asarray(index, dtype=backend.index_dtype)

    def rows(self, index: Array | None, start: int, stop: int, out: Array | None = None) -> Array:
        """Return rows ``index[start:stop]``, in `out` if it is given; or as they lie."""
        if index is None:
            return self.values[start:stop, ...]
        return self.backend.ops.take_rows(self.values, index[start:stop], out)


class _Later(_Resident):
    """Packed rows of a table that stays on the host as it is: they are packed when their turn comes."""

    def __init__(self, backend: Backend, rows: PackedLater, dtype: DType) -> None:
        self.backend, self.values, self.dtype = backend, rows, dtype

    def ready(self, index: Indices | None) -> Indices | None:
        return index

    def rows(self, index: Indices | None, start: int, stop: int, out: Array | None = None) -> Array:
        some = self.values[slice(start, stop) if index is None else index[start:stop]]
        rows = self.backend.asarray(some, dtype=self.dtype)
        if out is None:
            return rows
        out[...] = rows
        return out


class _Packed(_Resident):
    """Rows of a table that lie packed on the device, and are encoded where they are asked for."""

    def __init__(self, backend: Backend, rows: EncodedRows, where: str, name: str) -> None:
        # Narrower numbers do not tell all categories apart.
        wide = getattr(backend.xp, backend.wide_name)
        if isinstance(rows.packed, PackedLater):
            self.packed: _Resident = _Later(backend, rows.packed, wide)
        else:
            self.packed = _Resident(backend, backend.asarray(rows.packed, dtype=wide), where, name)
        self.backend, self.values = backend, self.packed.values
        self.code, self.dtype = rows.code, backend.dtype

    @property
    def row_shape(self) -> tuple[int, ...]:
        return (self.code.width,)

    @functools.cached_property
    def sound(self) -> bool:
        """Whether all codes are codes: loops that compute with them go where they say."""
        if isinstance(self.packed, _Later):  # an encoder makes no others
            return True
        rows = max(_CHECKED_ELEMENTS // self.code.packed_width, 1)
        parts = (self.values[a : a + rows, ...] for a in range(0, self.values.shape[0], rows))
        return all(self.code.holds(part, self.backend.xp) for part in parts)

    def ready(self, index: Indices | None) -> Array | None:
        return self.packed.ready(index)

    def rows(self, index: Array | None, start: int, stop: int, out: Array | None = None) -> Array:
        backend = self.backend
        packed = self.packed.rows(index, start, stop)
        rows = backend.xp.astype(backend.ops.encoded(self.code, packed), self.dtype, copy=False)
        if out is None:
            return rows
        out[...] = rows
        return out


class _Streamed:
    """A column that stays on the host: a memory map, or a sparse matrix whose rows become dense in blocks."""

    def __init__(self, backend: Backend, values: Any, dtype: DType, where: str, name: str) -> None:
        self.backend, self.dtype, self._message = backend, dtype, (where, name)
        self._sparse = hasattr(values, "tocsr")
        self.values = values.tocsr() if self._sparse else values
        if not self._sparse:
            _refuse_cut_short(values, where, name)
        self.pinned = backend.name == "cupy"  # whether blocks read ahead go through page-locked memory
        self._slots: PinnedSlots | None = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.values.shape[1:])

    def ready(self, index: Indices | None) -> Indices | None:
        """Return the order of one epoch; it stays on the host."""
        return index

    def rows(self, index: Indices | None, start: int, stop: int, out: Array | None = None) -> Array:
        """Read rows ``index[start:stop]``, check them and move them to the device."""
        return self.backend.asarray(self._checked(index, start, stop), dtype=self.dtype)

    def _checked(self, index: Indices | None, start: int, stop: int) -> np.ndarray:
        index = np.arange(start, stop) if index is None else index[start:stop]
        block = self._read(index)
        limit = np.finfo(self.backend.wide_name).max  # a finite float64 may be too large for float32
        if block.dtype.kind == "f" and not (-limit <= block.min() and block.max() <= limit):  # False for NaN too
            with np.errstate(over="ignore"):
                block = block.astype(self.backend.wide_name)
            _refuse_non_finite(block, *self._message, index)
        return block

    # Reading ahead has four parts: all but `read`, which any thread may call, are the caller's own.
    def begin(self, rows: int) -> None:
        """Make ready for blocks of at most `rows` rows."""
        if not self.pinned or (self._slots is not None and self._slots.shape[0] >= rows):
            return
        wide = self.backend.numpy_dtype(self.dtype)
        own = np.dtype(np.float32) if self.values.dtype.isbuiltin == 2 else self.values.dtype.newbyteorder("=")
        cupy, cupyx = (importlib.import_module(name) for name in ("cupy", "cupyx"))
        travels = own if own.itemsize < wide.itemsize else wide  # bytes as bytes
        self._slots = PinnedSlots(cupy, cupyx, (rows, *self.values.shape[1:]), travels)

    def free(self, slot: int) -> None:
        """Wait until `read` may write into a slot."""
        if self._slots is not None:
            self._slots.wait(slot)

    def read(self, index: Indices | None, start: int, stop: int, slot: int) -> Array:
        """Read and check rows ``index[start:stop]``; on a GPU, into a slot."""
        if self._slots is None:
            return self.rows(index, start, stop)
        self._slots.write(slot, self._checked(index, start, stop))
        return stop - start

    def take(self, found: Any, slot: int, out: Array | None) -> Array:
        """Return on the device what was read, in `out` if it is given; begin its upload where it is not there."""
        if self._slots is None:
            return found
        self._slots.send(slot, found)
        return self._slots.take(slot, found, self.backend.xp, self.dtype, out)

    def finish(self) -> None:
        """Wait for what is on its way."""
        if self._slots is not None:
            self._slots.finish()

    def _read(self, index: Indices) -> np.ndarray:
        if self._sparse:
            return np.asarray(self.values[index].toarray())
        _refuse_cut_short(self.values, *self._message)
        ascending = np.argsort(index)  # disks and page caches read forwards
        block = np.empty((len(index), *self.values.shape[1:]), self.values.dtype)
        rows = max(_STAGE_ELEMENTS // max(block[:1].size, 1), 1)
        for a in range(0, len(index), rows):  # some at a time: what is read takes no more memory than the block
            part = ascending[a : a + rows]
            block[part] = self.values[index[part]]
        return block.astype(np.float32) if block.dtype.isbuiltin == 2 else block  # narrow numbers of ml_dtypes


def _read_ahead(
    columns: Sequence[_Resident | _Streamed],
    indices: Sequence[Any],
    ranges: Sequence[tuple[int, int]],
    outs: Callable[[int], Sequence[Array | None]],
) -> Iterator[list[Array]]:
    """Yield the rows of each range of all columns, where `outs` has places there, while a thread reads the next."""
    streamed = [(c, i) for c, i in zip(columns, indices, strict=True) if isinstance(c, _Streamed)]

    def read(number: int) -> list[Any]:
        return [column.read(index, *ranges[number], number % 2) for column, index in streamed]

    def begin(number: int) -> Callable[[], list[Any]]:
        for column, _ in streamed:
            column.free(number % 2)
        if not threaded:
            return functools.partial(read, number)
        # numpy.errstate is part of the context
        return pool.submit(contextvars.copy_context().run, read, number).result

    for column, _ in streamed:
        column.begin(max(b - a for a, b in ranges))
    with ThreadPoolExecutor(1, thread_name_prefix="xpnn-read") as pool:
        try:
            pool.submit(int).result()
            threaded = True
        except RuntimeError:  # no memory for a thread: each block is read when its turn comes
            threaded = False
        try:
            pending = begin(0)
            for number, (a, b) in enumerate(ranges):
                found = iter(pending())
                if number + 1 < len(ranges):
                    pending = begin(number + 1)
                yield [
                    c.take(next(found), number % 2, out) if isinstance(c, _Streamed) else c.rows(i, a, b, out)
                    for c, i, out in zip(columns, indices, outs(number), strict=True)
                ]
        finally:
            for column, _ in streamed:
                column.finish()


def _all_finite(backend: Backend, values: Array) -> bool:
    """Whether all values are finite.

    On NumPy they are looked at in slices, whose answers stay in cache.  Elsewhere the host waits once, for the smallest
    and the largest: both are no number where one value is none, and no array of answers is made.
    """
    xp, n = backend.xp, values.shape[0]
    if 0 in values.shape:
        return True
    if backend.name == "numpy":
        rows = max(_CHECKED_ELEMENTS // max(int(np.prod(values.shape[1:])), 1), 1)
        return all(bool(xp.all(xp.isfinite(values[a : min(a + rows, n), ...]))) for a in range(0, n, rows))
    most = float(xp.finfo(values.dtype).max)
    return bool((xp.min(values) >= -most) & (xp.max(values) <= most))


def _column(backend: Backend, values: Any, dtype: DType, where: str, name: str) -> _Resident | _Streamed:
    if isinstance(values, EncodedRows):
        return _Packed(backend, values, where, name)
    if isinstance(values, np.memmap) or hasattr(values, "tocsr"):
        return _Streamed(backend, values, dtype, where, name)
    with np.errstate(over="ignore"):  # what is too large for float32 becomes inf, and is refused as such
        if isinstance(values, np.ndarray) and not values.flags.c_contiguous and values.dtype.kind in "fiub":
            # Row after row, in one copy: a batch of rows that lie apart is slow to gather, and rounds its own way.
            values = values.astype(backend.numpy_dtype(dtype), order="C")
        return _Resident(backend, backend.asarray(values, dtype=dtype), where, name)


def _refuse_cut_short(values: np.memmap[Any, Any], where: str, name: str) -> None:
    """Raise DataError if a map's file is shorter than its rows: the system would end the process that reads them."""
    whole: Any = values
    while isinstance(whole.base, np.ndarray):  # a part's own `offset` is that of the whole
        whole = whole.base
    file = getattr(whole, "filename", None)
    if file is None:
        return
    _, end = byte_bounds(values)
    needed = whole.offset + end - whole.ctypes.data
    try:
        size = os.path.getsize(file)
    except OSError:  # removed: what is mapped stays
        return
    if size < needed:
        raise DataError(
            f"{where}: expected {needed} bytes in {file} for {name}, got {size}: it was cut short while it was mapped. "
            "Write the file again, and map it again."
        )


def _refuse_non_finite(host: np.ndarray, where: str, name: str, numbers: Indices | None = None) -> None:
    bad = ~np.isfinite(host)
    place = np.argwhere(bad)[0]
    row = place[0] if numbers is None else numbers[place[0]]
    at = f"row {row}" + (f", column {place[1]}" if len(place) > 1 else "")
    raise DataError(
        f"{where}: expected finite {host.dtype} numbers in {name}, got {int(bad.sum())} that are not, first "
        f"{host[tuple(place)]} in {at}. Impute or drop them first; xpnn.data.TableEncoder imputes."
    )
