"""Loops compiled by numba: one pass over memory where NumPy takes several, with the very same roundings.

Every expression is evaluated in the order of the portable code and without fused multiply-adds, so each result is
equal to NumPy's to the last bit.  Imported only by `xpnn.accel.native.support.load_loops`.

What is marked `spread` works on elements or rows a to b, a part for each thread; sums are not spread, so their order is
always the same.  A loop that writes over what it reads is a loop of its own: only where arrays cannot overlap does the
compiler take many elements at once.  Shapes and dtypes are the caller's to check.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from ..._typing import Array
from .bins import pack_numbers as pack_numbers
from .gates import gate as gate
from .gates import gate_backward as gate_backward
from .gates import gate_inner as gate_inner
from .openblas import Pool
from .packed import table_backward as table_backward
from .packed import table_forward as table_forward
from .threads import compiled, prefetch, spread

__all__ = [
    "MAX_CLASSES",
    "adam",
    "adam_by_parameter",
    "add_bias",
    "argmax",
    "bias_relu",
    "column_sums",
    "keep_mask",
    "numbers",
    "one_hot",
    "probabilities",
    "relu",
    "relu_backward",
    "relu_backward_over",
    "relu_backward_sums",
    "relu_over",
    "shifted",
    "sum_rows",
    "take_rows",
    "whole",
]

# NumPy sums rows of up to this many numbers in one block of eight running sums; longer ones it halves first.
MAX_CLASSES = 128
# Elements of Adam that a thread should have at least, for handing them out to pay; of what is quicker, more; and of
# what takes less time than half of it takes to come from the cache of another core, far more.
_ELEMENTS, _QUICK = 1 << 12, 1 << 15
# numba keeps what it compiled by the content of this file.  The loops contain `threads.py` too: this is its hash.
_SPREAD = "049282e5"


@spread
def _adam(
    a: int, b: int, values: Array, grads: Array, m: Array, v: Array, beta1: float, beta2: float, eps: float, rate: float
) -> None:  # pragma: no cover (compiled)
    for i in range(a, b):
        g = grads[i]
        first = m[i] * beta1 + g
        second = v[i] * beta2 + g * g
        m[i] = first
        v[i] = second
        values[i] -= first / (sqrt(second) + eps) * rate


@compiled
def adam(
    pool: Pool, values: Array, grads: Array, m: Array, v: Array, beta1: float, beta2: float, eps: float, rate: float
) -> None:  # pragma: no cover (compiled)
    """`Ops.adam` on vectors (n,); the numbers are rounded to their dtype first, as NumPy does."""
    cast = values.dtype.type
    numbers = cast(beta1), cast(beta2), cast(eps), cast(rate)
    _adam(pool, values.size, _ELEMENTS, (values, grads, m, v, *numbers))


@spread
def _adam_by_parameter(
    a: int,
    b: int,
    values: Array,
    grads: Array,
    m: Array,
    v: Array,
    rates: Array,
    decay: Array,
    beta1: float,
    beta2: float,
    eps: float,
    rate: float,
    strength: float,
    n: int,
) -> None:  # pragma: no cover (compiled)
    one = values.dtype.type(1)
    start, stop = np.uintp(a), np.uintp(b)
    for i in range(start, min(stop, np.uintp(n))):
        values[i] *= one - decay[i] * strength * rates[i]
    for i in range(start, stop):
        g = grads[i]
        first = m[i] * beta1 + g
        second = v[i] * beta2 + g * g
        m[i] = first
        v[i] = second
        values[i] -= first / (sqrt(second) + eps) * rate * rates[i]


@compiled
def adam_by_parameter(
    pool: Pool,
    values: Array,
    grads: Array,
    m: Array,
    v: Array,
    rates: Array,
    decay: Array,
    beta1: float,
    beta2: float,
    eps: float,
    rate: float,
    strength: float,
    n: int,
) -> None:  # pragma: no cover (compiled)
    """Do `adam` with factors of each parameter on the rate, after a decoupled decay of the first `n` by theirs."""
    cast = values.dtype.type
    numbers = cast(beta1), cast(beta2), cast(eps), cast(rate), cast(strength)
    _adam_by_parameter(pool, values.size, _ELEMENTS, (values, grads, m, v, rates, decay, *numbers, n))


@compiled
def add_bias(y: Array, bias: Array) -> None:  # pragma: no cover (compiled)
    """Add the vector `bias` (n,) to each row of `y` (batch, n)."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += bias[j]


@compiled
def argmax(x: Array, places: Array) -> None:  # pragma: no cover (compiled)
    """Write the place of the largest of each row of `x` (batch, n) into `places`: of equals the first, or of NaN."""
    for i in range(x.shape[0]):
        best, top = 0, x[i, 0]
        for j in range(1, x.shape[1]):
            if top != top:
                break
            if not x[i, j] <= top:
                best, top = j, x[i, j]
        places[i] = best


@spread
def _bias_relu(a: int, b: int, y: Array, bias: Array) -> None:  # pragma: no cover (compiled)
    zero = y.dtype.type(0)
    for i in range(a, b):
        for j in range(y.shape[1]):
            z = y[i, j] + bias[j]
            y[i, j] = zero if z <= zero else z


@compiled
def bias_relu(pool: Pool, y: Array, bias: Array) -> None:  # pragma: no cover (compiled)
    """Write max(y + bias, 0) over `y` (batch, n), for the vector `bias` (n,); NaN stays NaN."""
    _bias_relu(pool, y.shape[0], 1 + _QUICK // y.shape[1], (y, bias))


@compiled
def column_sums(dy: Array, sums: Array) -> None:  # pragma: no cover (compiled)
    """Write the sums of the columns of `dy` (batch, n) into `sums` (n,), row by row from the first."""
    zero = dy.dtype.type(0)
    for j in range(dy.shape[1]):
        sums[j] = zero + dy[0, j]  # as NumPy begins: -0 becomes +0
    for i in range(1, dy.shape[0]):
        for j in range(dy.shape[1]):
            sums[j] += dy[i, j]


@compiled
def relu(x: Array, y: Array) -> None:  # pragma: no cover (compiled)
    """Write max(x, 0) into `y`, vectors (n,) that do not overlap; NaN stays NaN."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@spread
def _relu_over(a: int, b: int, x: Array) -> None:  # pragma: no cover (compiled)
    zero = x.dtype.type(0)
    for i in range(a, b):
        x[i] = zero if x[i] <= zero else x[i]


@compiled
def relu_over(pool: Pool, x: Array) -> None:  # pragma: no cover (compiled)
    """Write max(x, 0) over `x`, a vector (n,)."""
    _relu_over(pool, x.size, _QUICK, (x,))


@compiled
def relu_backward(dy: Array, y: Array, dx: Array) -> None:  # pragma: no cover (compiled)
    """Write dy [y > 0] into `dx`, vectors (n,) that do not overlap."""
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    for i in range(dy.size):
        dx[i] = dy[i] * (one if y[i] > zero else zero)  # a product, as in the portable code: NaN · 0 is NaN


@spread
def _relu_backward_over(a: int, b: int, dy: Array, y: Array) -> None:  # pragma: no cover (compiled)
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    for i in range(a, b):
        dy[i] = dy[i] * (one if y[i] > zero else zero)


@compiled
def relu_backward_over(pool: Pool, dy: Array, y: Array) -> None:  # pragma: no cover (compiled)
    """Write dy [y > 0] over `dy`, vectors (n,) that do not overlap."""
    _relu_backward_over(pool, dy.size, _QUICK, (dy, y))


@compiled
def relu_backward_sums(pool: Pool, dy: Array, y: Array, sums: Array) -> None:  # pragma: no cover (compiled)
    """Write dy [y > 0] over `dy` (batch, n), then the sums of its columns into `sums` (n,)."""
    _relu_backward_over(pool, dy.size, _QUICK, (dy.reshape(-1), y.reshape(-1)))
    column_sums(dy, sums)


@compiled
def _hashed(i: int, first: Any, second: Any) -> Any:  # pragma: no cover (compiled)
    """Return 32 bits that belong to place `i` of a mask with two keys."""
    z = np.uint32(np.uint32(i + 1) * np.uint32(0x9E3779B9)) + first
    z = np.uint32(z)
    z = np.uint32(z ^ (z >> np.uint32(16)))
    z = np.uint32(z * np.uint32(0x7FEB352D))
    z = np.uint32(z ^ (z >> np.uint32(15)))
    z = np.uint32(z + second)
    z = np.uint32(z * np.uint32(0x846CA68B))
    return np.uint32(z ^ (z >> np.uint32(16)))


@spread
def _keep_mask(
    a: int, b: int, mask: Array, key_a: Array, key_b: Array, threshold: Array
) -> None:  # pragma: no cover (compiled)
    half = (mask.size + 1) // 2
    zero, scale = mask.dtype.type(0), mask.dtype.type(65536.0 / threshold[0])
    first, second, limit = np.uint32(key_a[0]), np.uint32(key_b[0]), np.uint32(threshold[0])
    low, high = mask[:half], mask[half:]
    start, stop = np.uintp(a), np.uintp(b)
    both = min(stop, np.uintp(high.size))
    for i in range(start, both):
        z = _hashed(i, first, second)
        low[i] = scale if (z & np.uint32(0xFFFF)) < limit else zero
        high[i] = scale if (z >> np.uint32(16)) < limit else zero
    for i in range(max(start, both), stop):  # of an odd number the one in the middle has no other
        low[i] = scale if (_hashed(i, first, second) & np.uint32(0xFFFF)) < limit else zero


@compiled
def keep_mask(
    pool: Pool, mask: Array, key_a: Array, key_b: Array, threshold: Array
) -> None:  # pragma: no cover (compiled)
    """Write `xpnn.random.keep_mask` into the vector `mask`, by int32 keys and threshold of one element each."""
    _keep_mask(pool, (mask.size + 1) // 2, _ELEMENTS, (mask, key_a, key_b, threshold))


@compiled
def numbers(made: Array, truths: Array) -> None:  # pragma: no cover (compiled)
    """Write 1 into the vector `made` where `truths` are true, else 0."""
    zero, one = made.dtype.type(0), made.dtype.type(1)
    for i in range(made.size):
        made[i] = one if truths[i] else zero


@compiled
def one_hot(rows: Array, labels: Array) -> bool:  # pragma: no cover (compiled)
    """Write rows (batch, n_classes) of zeros with a 1 at the label; False, and nothing done, if one does not exist."""
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= rows.shape[1]:
            return False
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            rows[i, j] = rows.dtype.type(0)
        rows[i, labels[i]] = rows.dtype.type(1)
    return True


@compiled
def shifted(logits: Array, z: Array) -> None:  # pragma: no cover (compiled)
    """Write `logits` less the maximum of each row into `z`, both (batch, n_classes)."""
    for i in range(logits.shape[0]):
        top = logits[i, 0]
        for j in range(1, logits.shape[1]):
            if not logits[i, j] <= top:  # True for NaN, which then stays
                top = logits[i, j]
                if top != top:
                    break
        for j in range(logits.shape[1]):
            z[i, j] = logits[i, j] - top


@compiled
def probabilities(d: Array, labels: Array, z: Array, totals: Array, picked: Array) -> bool:  # pragma: no cover
    """Turn exponentials `d` (batch, n_classes) into ∂ℓ/∂logits; note each row's sum and its z at the label.

    False, and nothing done, if a label is not in 0..n_classes-1.
    """
    classes = d.shape[1]
    one = d.dtype.type(1)
    for i in range(labels.size):
        if labels[i] < 0 or labels[i] >= classes:
            return False
    for i in range(d.shape[0]):
        row = d[i]
        if classes < 8:
            total = row[0]
            for j in range(1, classes):
                total += row[j]
        else:  # NumPy's order of summation
            r0, r1, r2, r3, r4, r5, r6, r7 = row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]
            j = 8
            while j + 8 <= classes:
                r0 += row[j]
                r1 += row[j + 1]
                r2 += row[j + 2]
                r3 += row[j + 3]
                r4 += row[j + 4]
                r5 += row[j + 5]
                r6 += row[j + 6]
                r7 += row[j + 7]
                j += 8
            total = ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7))
            while j < classes:
                total += row[j]
                j += 1
        totals[i] = total
        for j in range(classes):
            row[j] /= total
        row[labels[i]] -= one
        picked[i] = z[i, labels[i]]
    return True


@spread
def _take_rows(a: int, b: int, out: Array, x: Array, index: Array) -> None:  # pragma: no cover (compiled)
    width, last = x.shape[1], np.intp(b)
    for i in range(np.intp(a), last):
        if i + 2 < last:  # while this row is copied, the memory looks for one further on
            for j in range(0, width, 64):
                prefetch(x, index[i + 2] * width + j)
        row = index[i]
        for j in range(width):
            out[i, j] = x[row, j]


@compiled
def take_rows(pool: Pool, out: Array, x: Array, index: Array, n: int) -> bool:  # pragma: no cover (compiled)
    """Write rows of bytes ``x[index]`` of `x` (n, width) into `out` (count, width).

    False, and nothing done, if one does not exist.
    """
    for i in range(index.size):
        if index[i] < 0 or index[i] >= n:
            return False
    _take_rows(pool, index.size, 1 + 2 * _ELEMENTS // x.shape[1], (out, x, index))
    return True


@compiled
def sum_rows(out: Array, rows: Array, index: Array, count: int) -> bool:  # pragma: no cover (compiled)
    """Write into `out` (n, dim) sums of the `rows` (count, dim) that have its rows' numbers, in their order.

    False, and nothing done, if a number has no row.
    """
    for i in range(count):
        if index[i] < 0 or index[i] >= out.shape[0]:
            return False
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = out.dtype.type(0)
    for i in range(count):
        row = index[i]
        for j in range(out.shape[1]):
            out[row, j] += rows[i, j]
    return True


@compiled
def whole(made: Array, x: Array) -> None:  # pragma: no cover (compiled)
    """Write the numbers of the vector `x`, rounded, into whole numbers."""
    for i in range(made.size):
        made[i] = np.int64(np.rint(x[i]))
