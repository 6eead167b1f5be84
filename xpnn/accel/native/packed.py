r"""Packed rows of a table times a matrix, and back: compiled by numba.

Of a piecewise-linear code with bin b and fraction f the product is one row of the matrix's running sums and a share of
another, :math:`\sum_{t<b} w_t + f\, w_b`; of a one-hot code it is one row.  Backward, rows are sorted by their bins,
which are gone through from the last: what was summed before is the running sum.  The sums are in another order than
those of the dense product: equal to rounding.

Both work on some columns of the output at a time, whose part of the matrix stays in cache.  Threads share these, and no
sum depends on how many threads there are.
"""

from __future__ import annotations

import numpy as np

from ..._typing import Array
from .openblas import Pool
from .threads import compiled, spread
from .vectors import add_rows, literally, running_sums, sum_bins

__all__ = ["HEAD", "table_backward", "table_forward"]

#: Numbers before a layout: its entries, how many of them are piecewise-linear, rows of the matrix before theirs,
#: columns of packed rows, rows of the matrix, and whether there are factors to learn.  Then of all entries, codes
#: first: their first row of the matrix, how many rows, where in a packed row their factor stands, and where their bin
#: or category; -1 for none.
HEAD = 6
# numba keeps what it compiled by the content of this file.  These are the hashes of what else it compiled.
_COMPILED = {"threads.py": "049282e5", "vectors.py": "47239108"}
# Columns of the output that are made at once, where there are so many; and entries, and rows of the matrix, that a
# thread should have at least.
_COLUMNS, _FEW, _ENTRIES, _ROWS = 64, 8, 4, 64
_PARTIAL = 16  # sums of a row, before they are one


@compiled
def _sound(packed: Array, layout: Array) -> bool:  # pragma: no cover (compiled)
    """Whether each code is one: a bin, a category, or of these none."""
    n, n_steps = layout[0], layout[1]
    sizes, codes = layout[HEAD + n :], layout[HEAD + 3 * n :]
    for e in range(n):
        if codes[e] >= 0:
            least = 0.0 if e < n_steps else -1.0
            for i in range(packed.shape[0]):
                code = packed[i, codes[e]]
                if not (least <= code and code < sizes[e]):
                    return False
    return True


@compiled
def _find(rows: Array, factors: Array, packed: Array, scale: Array, layout: Array) -> None:  # pragma: no cover
    """Write which row of the matrix each entry of each packed row picks, and its factor: 0 where it is none."""
    n = layout[0]
    starts, values, codes = layout[HEAD:], layout[HEAD + 2 * n :], layout[HEAD + 3 * n :]
    for i in range(packed.shape[0]):
        for e in range(n):
            row = starts[e]
            factor = packed[i, values[e]] if values[e] >= 0 else packed.dtype.type(1)
            if codes[e] >= 0:
                code = packed[i, codes[e]]
                row += np.int64(max(code, packed.dtype.type(0)))
                factor = factor if code >= 0 else packed.dtype.type(0)
            rows[i, e] = row
            factors[i, e] = factor * scale[row]


@compiled
def _add(
    width: int, low: int, y: Array, rows: Array, factors: Array, weight: Array, sums: Array, scale: Array, layout: Array
) -> None:  # pragma: no cover (compiled)
    n, n_steps, n_out = layout[0], layout[1], y.shape[1]
    width = literally(width)
    for e in range(n_steps):
        running_sums(width, sums, weight, scale, n_out, low, layout[HEAD + e], layout[HEAD + n + e])
    for i in range(y.shape[0]):
        a = i * n
        add_rows(width, y, i * n_out + low, sums, weight, n_out, low, rows, factors, a, a + n_steps, a + n)


@spread
def _forward(
    a: int, b: int, y: Array, rows: Array, factors: Array, weight: Array, sums: Array, scale: Array, layout: Array
) -> None:  # pragma: no cover (compiled)
    for block in range(int(a), int(b)):
        low, high = block * _COLUMNS, min((block + 1) * _COLUMNS, y.shape[1])
        while low < high:
            if high - low == _COLUMNS:
                _add(_COLUMNS, low, y, rows, factors, weight, sums, scale, layout)
                low += _COLUMNS
            elif high - low >= _FEW:
                _add(_FEW, low, y, rows, factors, weight, sums, scale, layout)
                low += _FEW
            else:
                _add(1, low, y, rows, factors, weight, sums, scale, layout)
                low += 1


@compiled
def table_forward(
    pool: Pool, y: Array, packed: Array, weight: Array, sums: Array, scale: Array, layout: Array
) -> bool:  # pragma: no cover (compiled)
    """Add the product to `y` (batch, n_out); False, and nothing done, if a code is none.

    `sums` (n_in, n_out) is written over; `scale` (n_in,) are the factors.
    """
    if not _sound(packed, layout):
        return False
    rows = np.empty((packed.shape[0], layout[0]), np.int64)
    factors = np.empty((packed.shape[0], layout[0]), packed.dtype)
    _find(rows, factors, packed, scale, layout)
    blocks = (y.shape[1] + _COLUMNS - 1) // _COLUMNS
    _forward(pool, blocks, 0, (y, rows, factors, weight, sums, scale, layout))
    return True


@spread
def _sort(
    a: int, b: int, order: Array, shares: Array, ends: Array, packed: Array, layout: Array
) -> None:  # pragma: no cover (compiled)
    """Write rows in the order of their bins, those of none first, their factors, and where each bin ends."""
    n, batch = layout[0], packed.shape[0]
    for e in range(int(a), int(b)):
        size, value, code = layout[HEAD + n + e], layout[HEAD + 2 * n + e], layout[HEAD + 3 * n + e]
        for t in range(size + 2):
            ends[e, t] = 0
        for i in range(batch):
            own = np.int64(0) if code < 0 else np.int64(np.floor(packed[i, code]))
            ends[e, own + 2] += 1
        for t in range(size + 1):
            ends[e, t + 1] += ends[e, t]
        for i in range(batch):
            own = np.int64(0) if code < 0 else np.int64(np.floor(packed[i, code]))
            place = ends[e, own + 1]
            order[e, place] = i
            shares[e, place] = packed[i, value] if value >= 0 else packed.dtype.type(1)
            ends[e, own + 1] += 1


@compiled
def _sum(
    width: int, low: int, d_weight: Array, dy: Array, order: Array, shares: Array, ends: Array, layout: Array
) -> None:  # pragma: no cover (compiled)
    n, n_steps, n_out = layout[0], layout[1], dy.shape[1]
    width = literally(width)
    for e in range(n):
        start, size, place, edge = layout[HEAD + e], layout[HEAD + n + e], e * order.shape[1], e * ends.shape[1]
        carried = np.int64(e < n_steps)
        sum_bins(width, d_weight, start, size, dy, n_out, low, order, shares, ends, place, edge, carried)


@spread
def _backward(
    a: int, b: int, d_weight: Array, dy: Array, order: Array, shares: Array, ends: Array, layout: Array
) -> None:  # pragma: no cover (compiled)
    for block in range(int(a), int(b)):
        low, high = block * _COLUMNS, min((block + 1) * _COLUMNS, dy.shape[1])
        while low < high:
            if high - low == _COLUMNS:
                _sum(_COLUMNS, low, d_weight, dy, order, shares, ends, layout)
                low += _COLUMNS
            elif high - low >= _FEW:
                _sum(_FEW, low, d_weight, dy, order, shares, ends, layout)
                low += _FEW
            else:
                _sum(1, low, d_weight, dy, order, shares, ends, layout)
                low += 1


@spread
def _unscale(
    a: int, b: int, d_weight: Array, d_scale: Array, weight: Array, scale: Array, lead: int
) -> None:  # pragma: no cover (compiled)
    parts = np.empty(_PARTIAL, weight.dtype)
    width = weight.shape[1]
    whole = np.uintp(width - width % _PARTIAL)
    for r in range(np.uintp(a) + np.uintp(lead), np.uintp(b) + np.uintp(lead)):
        for k in range(_PARTIAL):
            parts[k] = 0.0
        for k in range(np.uintp(0), whole, np.uintp(_PARTIAL)):
            for m in range(np.uintp(_PARTIAL)):
                parts[m] += weight[r, k + m] * d_weight[r, k + m]
        total = weight.dtype.type(0)
        for k in range(whole, np.uintp(width)):
            total += weight[r, k] * d_weight[r, k]
        for k in range(_PARTIAL):
            total += parts[k]
        for k in range(np.uintp(width)):
            d_weight[r, k] *= scale[r]
        d_scale[r] = total


@compiled
def table_backward(
    pool: Pool, dy: Array, packed: Array, weight: Array, d_weight: Array, scale: Array, d_scale: Array, layout: Array
) -> bool:  # pragma: no cover (compiled)
    """Assign the gradients of the rows of the matrix that the layout names, and of their factors if it says so.

    False, and nothing done, if a code is none.
    """
    if not _sound(packed, layout):
        return False
    n, lead, batch = layout[0], layout[2], packed.shape[0]
    order, shares = np.empty((n, batch), np.int64), np.empty((n, batch), packed.dtype)
    ends = np.empty((n, layout[HEAD + n : HEAD + 2 * n].max() + 2), np.int64)
    _sort(pool, n, _ENTRIES, (order, shares, ends, packed, layout))
    _backward(pool, (dy.shape[1] + _COLUMNS - 1) // _COLUMNS, 0, (d_weight, dy, order, shares, ends, layout))
    if layout[5]:
        _unscale(pool, weight.shape[0] - lead, _ROWS, (d_weight, d_scale, weight, scale, lead))
    return True
