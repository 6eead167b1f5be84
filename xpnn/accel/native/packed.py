r"""Packed rows of a table times a matrix, and back: compiled by numba.

Of a piecewise-linear code with bin b and fraction f the product is one row of the matrix's running sums and a share of
another, :math:`\sum_{t<b} w_t + f\, w_b`; of a one-hot code it is one row.  Backward, gradients are summed by bin, and
these sums from the end.  The sums are in another order than those of the dense product: equal to rounding.

Threads share the rows forward and the columns backward, so no sum depends on how many there are.
"""

from __future__ import annotations

import numpy as np

from ..._typing import Array
from .openblas import Pool
from .threads import compiled, spread

__all__ = ["backward", "find_rows", "forward"]

# numba keeps what it compiled by the content of this file.  The loops contain `threads.py` too: this is its hash.
_SPREAD = "049282e5"
# Rows, and columns, that a thread should have at least.
_ROWS, _COLUMNS = 32, 32


@compiled
def find_rows(
    at: Array, packed: Array, first: int, starts: Array, sizes: Array, n_steps: int
) -> bool:  # pragma: no cover (compiled)
    """Write which row of the matrix each code of each packed row picks, -1 for none.

    Bins and categories stand in `packed` from column `first` on.  False if a bin is none of its code's.
    """
    for i in range(packed.shape[0]):
        for g in range(starts.size):
            number = packed[i, first + g]
            if not -1.0 <= number < sizes[g]:
                return False
            place = np.int64(number)
            if number < 0.0:
                if g < n_steps:
                    return False
                at[i, g] = -1
            else:
                at[i, g] = starts[g] + place
    return True


@spread
def _running_sums(
    a: int, b: int, sums: Array, weight: Array, scale: Array, starts: Array, sizes: Array, n_steps: int
) -> None:  # pragma: no cover (compiled)
    zero = weight.dtype.type(0)
    for g in range(n_steps):
        first, last = np.uintp(starts[g]), np.uintp(starts[g] + sizes[g] - 1)
        for k in range(np.uintp(a), np.uintp(b)):
            sums[first, k] = zero
        for r in range(first, last):
            for k in range(np.uintp(a), np.uintp(b)):
                sums[r + np.uintp(1), k] = sums[r, k] + scale[r] * weight[r, k]


@spread
def _forward(
    a: int,
    b: int,
    y: Array,
    packed: Array,
    at: Array,
    weight: Array,
    sums: Array,
    scale: Array,
    columns: Array,
    rows: Array,
    fraction: int,
    n_steps: int,
) -> None:  # pragma: no cover (compiled)
    zero, width = np.uintp(0), np.uintp(y.shape[1])
    for i in range(np.uintp(a), np.uintp(b)):
        for j in range(0, columns.size - columns.size % 4, 4):
            r0, r1, r2, r3 = np.uintp(rows[j]), np.uintp(rows[j + 1]), np.uintp(rows[j + 2]), np.uintp(rows[j + 3])
            c0, c1 = packed[i, columns[j]] * scale[r0], packed[i, columns[j + 1]] * scale[r1]
            c2, c3 = packed[i, columns[j + 2]] * scale[r2], packed[i, columns[j + 3]] * scale[r3]
            for k in range(zero, width):
                first = c0 * weight[r0, k] + c1 * weight[r1, k]
                y[i, k] += first + (c2 * weight[r2, k] + c3 * weight[r3, k])
        for j in range(columns.size - columns.size % 4, columns.size):
            r = np.uintp(rows[j])
            c = packed[i, columns[j]] * scale[r]
            for k in range(zero, width):
                y[i, k] += c * weight[r, k]
        for g in range(0, n_steps - n_steps % 4, 4):
            r0, r1, r2, r3 = np.uintp(at[i, g]), np.uintp(at[i, g + 1]), np.uintp(at[i, g + 2]), np.uintp(at[i, g + 3])
            c0, c1 = packed[i, fraction + g] * scale[r0], packed[i, fraction + g + 1] * scale[r1]
            c2, c3 = packed[i, fraction + g + 2] * scale[r2], packed[i, fraction + g + 3] * scale[r3]
            for k in range(zero, width):
                first = (sums[r0, k] + c0 * weight[r0, k]) + (sums[r1, k] + c1 * weight[r1, k])
                y[i, k] += first + ((sums[r2, k] + c2 * weight[r2, k]) + (sums[r3, k] + c3 * weight[r3, k]))
        for g in range(n_steps - n_steps % 4, n_steps):
            r = np.uintp(at[i, g])
            c = packed[i, fraction + g] * scale[r]
            for k in range(zero, width):
                y[i, k] += sums[r, k] + c * weight[r, k]
        for g in range(n_steps, at.shape[1]):
            if at[i, g] >= 0:
                r = np.uintp(at[i, g])
                for k in range(zero, width):
                    y[i, k] += scale[r] * weight[r, k]


@compiled
def forward(
    pool: Pool,
    y: Array,
    packed: Array,
    at: Array,
    weight: Array,
    sums: Array,
    scale: Array,
    columns: Array,
    rows: Array,
    fraction: int,
    starts: Array,
    sizes: Array,
    n_steps: int,
) -> None:  # pragma: no cover (compiled)
    """Add the product to `y` (batch, n_out); `sums` (n_in, n_out) is written over."""
    _running_sums(pool, y.shape[1], _COLUMNS, (sums, weight, scale, starts, sizes, n_steps))
    _forward(pool, y.shape[0], _ROWS, (y, packed, at, weight, sums, scale, columns, rows, fraction, n_steps))


@spread
def _backward(
    a: int,
    b: int,
    d_weight: Array,
    sums: Array,
    packed: Array,
    dy: Array,
    at: Array,
    order: Array,
    columns: Array,
    rows: Array,
    fraction: int,
    starts: Array,
    sizes: Array,
    n_steps: int,
) -> None:  # pragma: no cover (compiled)
    zero, one = dy.dtype.type(0), np.uintp(1)
    low, high, batch = np.uintp(a), np.uintp(b), np.uintp(dy.shape[0])
    for j in range(columns.size):
        r = np.uintp(rows[j])
        for k in range(low, high):
            d_weight[r, k] = zero
        for n in range(np.uintp(0), batch):
            c = packed[n, columns[j]]
            for k in range(low, high):
                d_weight[r, k] += c * dy[n, k]
    for g in range(starts.size):
        for own in range(np.uintp(starts[g]), np.uintp(starts[g] + sizes[g])):
            for k in range(low, high):
                d_weight[own, k] = zero
                sums[own, k] = zero
        for m in range(order.shape[1]):  # rows of one bin one after the other
            i = np.uintp(order[g, m])
            if at[i, g] < 0:
                continue
            r = np.uintp(at[i, g])
            if g < n_steps:
                c = packed[i, fraction + g]
                for k in range(low, high):
                    d_weight[r, k] += c * dy[i, k]
                    sums[r, k] += dy[i, k]
            else:
                for k in range(low, high):
                    d_weight[r, k] += dy[i, k]
        if g < n_steps:
            for t in range(1, sizes[g]):
                up = np.uintp(starts[g] + sizes[g] - t)
                for k in range(low, high):
                    d_weight[up - one, k] += sums[up, k]
                    sums[up - one, k] += sums[up, k]


@spread
def _sorted(
    a: int, b: int, order: Array, counts: Array, at: Array, starts: Array, sizes: Array
) -> None:  # pragma: no cover (compiled)
    for g in range(np.uintp(a), np.uintp(b)):
        for t in range(sizes[g] + 2):
            counts[g, t] = 0
        for i in range(at.shape[0]):
            counts[g, max(at[i, g] - starts[g] + 1, 0) + 1] += 1
        for t in range(sizes[g] + 1):
            counts[g, t + 1] += counts[g, t]
        for i in range(at.shape[0]):
            bin_ = max(at[i, g] - starts[g] + 1, 0)
            order[g, counts[g, bin_]] = i
            counts[g, bin_] += 1


@spread
def _unscale(
    a: int, b: int, d_weight: Array, d_scale: Array, weight: Array, scale: Array, lead: int
) -> None:  # pragma: no cover (compiled)
    for r in range(np.intp(a) + lead, np.intp(b) + lead):
        total = weight.dtype.type(0)
        for k in range(weight.shape[1]):
            total += weight[r, k] * d_weight[r, k]
        for k in range(weight.shape[1]):
            d_weight[r, k] *= scale[r]
        d_scale[r] = total


@compiled
def backward(
    pool: Pool,
    d_weight: Array,
    d_scale: Array,
    sums: Array,
    packed: Array,
    dy: Array,
    at: Array,
    weight: Array,
    scale: Array,
    lead: int,
    columns: Array,
    rows: Array,
    fraction: int,
    starts: Array,
    sizes: Array,
    n_steps: int,
) -> None:  # pragma: no cover (compiled)
    """Assign the gradients of the rows of the matrix from `lead` on, and of their factors unless `d_scale` is empty."""
    order = np.empty((starts.size, at.shape[0]), np.int64)
    counts = np.empty((starts.size, sizes.max() + 3 if sizes.size else 1), np.int64)
    _sorted(pool, starts.size, 4, (order, counts, at, starts, sizes))
    own = (d_weight, sums, packed, dy, at, order, columns, rows, fraction, starts, sizes, n_steps)
    _backward(pool, dy.shape[1], _COLUMNS, own)
    if d_scale.size:
        _unscale(pool, weight.shape[0] - lead, _ROWS, (d_weight, d_scale, weight, scale, lead))
