"""Loops compiled by numba: one pass over memory where NumPy takes several, with the very same roundings.

Every expression is evaluated in the order of the portable code and without fused multiply-adds, so each result is
equal to NumPy's to the last bit.  Imported only when `NumpyOps.prepare` finds that they pay.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, TypeVar

try:
    import numba
except ImportError:  # then these are plain loops: they can be read and tried, but `NumpyOps` does not take them
    numba = None

from .._typing import Array

__all__ = ["MAX_CLASSES", "adam", "add_bias", "column_sums", "probabilities", "relu", "relu_backward", "shifted"]

_F = TypeVar("_F", bound=Callable[..., Any])

# NumPy sums rows of up to this many numbers in one block of eight running sums; longer ones it halves first.
MAX_CLASSES = 128


def _compiled(loop: _F) -> _F:
    # Without NumPy's error model each division would ask for a zero; the cache spares the next process a second.
    if numba is None:
        return loop
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        made: _F = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # there is no folder to write the cache to
        made = numba.njit(**options)(loop)
    return made


@_compiled
def adam(
    values: Array, grads: Array, m: Array, v: Array, beta1: float, beta2: float, eps: float, rate: float
) -> None:  # pragma: no cover (compiled)
    """`Ops.adam` on vectors (n,); the numbers have the arrays' dtype."""
    for i in range(values.size):
        g = grads[i]
        first = m[i] * beta1 + g
        second = v[i] * beta2 + g * g
        m[i] = first
        v[i] = second
        values[i] -= first / (sqrt(second) + eps) * rate


@_compiled
def add_bias(y: Array, bias: Array) -> None:  # pragma: no cover (compiled)
    """Add the vector `bias` (n,) to each row of `y` (batch, n)."""
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += bias[j]


@_compiled
def column_sums(dy: Array, sums: Array) -> None:  # pragma: no cover (compiled)
    """Write the sums of the columns of `dy` (batch, n) into `sums` (n,), row by row from the first."""
    for j in range(dy.shape[1]):
        sums[j] = dy[0, j]
    for i in range(1, dy.shape[0]):
        for j in range(dy.shape[1]):
            sums[j] += dy[i, j]


@_compiled
def relu(x: Array, y: Array) -> None:  # pragma: no cover (compiled)
    """Write max(x, 0) into `y`, vectors (n,); NaN stays NaN."""
    zero = x.dtype.type(0)
    for i in range(x.size):
        y[i] = zero if x[i] <= zero else x[i]


@_compiled
def relu_backward(dy: Array, y: Array, dx: Array) -> None:  # pragma: no cover (compiled)
    """Write dy [y > 0] into `dx`, vectors (n,)."""
    zero, one = dy.dtype.type(0), dy.dtype.type(1)
    for i in range(dy.size):
        dx[i] = dy[i] * (one if y[i] > zero else zero)  # a product, as in the portable code: NaN · 0 is NaN


@_compiled
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


@_compiled
def probabilities(d: Array, labels: Array, z: Array, totals: Array, picked: Array) -> None:  # pragma: no cover
    """Turn exponentials `d` (batch, n_classes) into ∂ℓ/∂logits; note each row's sum and its z at the label."""
    classes = d.shape[1]
    one = d.dtype.type(1)
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
