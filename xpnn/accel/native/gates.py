"""Activations that are their input times something in 0..1, mixed with the identity and masked: one pass, compiled.

What is between the exponential, which NumPy takes, and the output stays in cache.  Roundings are those of the layers
`SiLU`, `Mish`, `ParametricActivation` and `Dropout`, in their order.
"""

from __future__ import annotations

import numpy as np

from ..._typing import Array
from .openblas import Pool
from .table import Gate
from .threads import compiled, spread

__all__ = ["gate", "gate_backward", "gate_inner"]

# Elements, and columns, that a thread should have at least.
_ELEMENTS, _COLUMNS = 1 << 13, 64
# numba keeps what it compiled by the content of this file.  These are the hashes of what else it compiled.
_COMPILED = {"table.py": "9160978e", "threads.py": "049282e5"}


@spread
def _inner(a: int, b: int, inner: Array, x: Array, kind: int) -> None:  # pragma: no cover (compiled)
    number = x.dtype.type
    most, least = number(20), number(-87) if x.itemsize == 4 else number(-708)
    if kind & Gate.MISH:
        for i in range(a, b):
            inner[i] = most if x[i] > most else x[i]
    else:
        for i in range(a, b):
            inner[i] = -(least if x[i] < least else x[i])


@compiled
def gate_inner(pool: Pool, inner: Array, x: Array, kind: int) -> None:  # pragma: no cover (compiled)
    """Write into the vector `inner` that of which the exponential is to be taken; NaN stays NaN."""
    _inner(pool, x.size, _ELEMENTS, (inner, x, kind))


@spread
def _gate(
    a: int, b: int, y: Array, x: Array, kept: Array, share: Array, mask: Array, kind: int
) -> None:  # pragma: no cover (compiled)
    number, n = x.dtype.type, np.uintp(x.shape[1])
    one, two = number(1), number(2)
    for i in range(a, b):
        if kind & Gate.MISH:
            for j in range(n):
                e = kept[i, j]
                up = (e + two) * e
                y[i, j] = x[i, j] * (up / (up + two))
        else:
            for j in range(n):
                kept[i, j] = one / (kept[i, j] + one)
            for j in range(n):
                y[i, j] = x[i, j] * kept[i, j]
        if kind & Gate.MIXED:
            for j in range(n):
                y[i, j] = (y[i, j] - x[i, j]) * share[j] + x[i, j]
        if kind & Gate.MASKED:
            for j in range(n):
                y[i, j] *= mask[i, j]


@compiled
def gate(
    pool: Pool, y: Array, x: Array, kept: Array, share: Array, mask: Array, kind: int
) -> None:  # pragma: no cover (compiled)
    """Write the output `y` (batch, n), for exponentials in `kept`, which `gate_backward` takes as they are then.

    The vector `share` (n,) is read if outputs are mixed, and `mask` (batch, n) if they are masked.
    """
    _gate(pool, y.shape[0], 1 + _ELEMENTS // y.shape[1], (y, x, kept, share, mask, kind))


@spread
def _backward(
    a: int, b: int, dx: Array, dy: Array, x: Array, kept: Array, share: Array, mask: Array, d_share: Array, kind: int
) -> None:  # pragma: no cover (compiled)
    number = x.dtype.type
    zero, one, two = number(0), number(1), number(2)
    start, stop = np.uintp(a), np.uintp(b)
    ratios = np.empty(x.shape[1], x.dtype)  # of one row: a division takes longer than to read it again
    if kind & Gate.MIXED:
        for j in range(start, stop):
            d_share[j] = zero
    for i in range(np.uintp(x.shape[0])):
        if kind & Gate.MASKED:
            for j in range(start, stop):
                dx[i, j] = dy[i, j] * mask[i, j]
        else:
            for j in range(start, stop):
                dx[i, j] = dy[i, j]
        if kind & Gate.MISH:
            if kind & Gate.MIXED:
                for j in range(start, stop):
                    up = (kept[i, j] + two) * kept[i, j]
                    ratios[j] = up / (up + two)
                for j in range(start, stop):
                    d_share[j] += dx[i, j] * (x[i, j] * ratios[j] - x[i, j])
                for j in range(start, stop):
                    e, t, g = kept[i, j], ratios[j], dx[i, j]
                    own = g * share[j]
                    dx[i, j] = (g - own) + (e / (e + one) * (one - t * t) * x[i, j] + t) * own
            else:
                for j in range(start, stop):
                    e = kept[i, j]
                    up = (e + two) * e
                    t = up / (up + two)
                    dx[i, j] = (e / (e + one) * (one - t * t) * x[i, j] + t) * dx[i, j]
        elif kind & Gate.MIXED:
            for j in range(start, stop):
                d_share[j] += dx[i, j] * (x[i, j] * kept[i, j] - x[i, j])
            for j in range(start, stop):
                s, g = kept[i, j], dx[i, j]
                own = g * share[j]
                dx[i, j] = (g - own) + ((one - s) * x[i, j] + one) * s * own
        else:
            for j in range(start, stop):
                s = kept[i, j]
                dx[i, j] = ((one - s) * x[i, j] + one) * s * dx[i, j]


@compiled
def gate_backward(
    pool: Pool, dx: Array, dy: Array, x: Array, kept: Array, share: Array, mask: Array, d_share: Array, kind: int
) -> None:  # pragma: no cover (compiled)
    """Write the gradients to input `dx` (batch, n) and shares `d_share` (n,), sums over rows from the first."""
    _backward(pool, x.shape[1], _COLUMNS, (dx, dy, x, kept, share, mask, d_share, kind))
