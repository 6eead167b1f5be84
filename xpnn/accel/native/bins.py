"""Numbers of a column packed into rows of a table: scaled, and as bins and fractions; compiled by numba."""

from __future__ import annotations

from math import hypot

import numpy as np

from ..._typing import Array
from .threads import compiled

__all__ = ["pack_numbers"]


@compiled
def pack_numbers(
    packed: Array,
    x: Array,
    places: tuple[int, int, int, int],
    scaling: tuple[float, float, float, float],
    edges: Array,
    grid: tuple[float, float, float],
    before: Array,
) -> None:  # pragma: no cover (compiled)
    """Write what `xpnn.data.fitted.NumberColumn.pack` returns for `x` (n,) to packed rows (n, width), to the bit.

    `places` are those of the scaled value, the flag, the fraction and the bin, -1 for none; `scaling` is what gaps are
    filled with, center, spread and clip, 0 for none; `grid` is where the cells over the inner edges begin, how many
    there are by unit, and the last; `before` counts the edges in cells before each.
    """
    value, flag, fraction, own = places
    fill, center, spread, clip = scaling
    low, scale, last = grid
    inner = len(edges) - 2
    for i in range(len(x)):
        number = x[i]
        gap = number != number
        if gap:
            number = fill
        if flag >= 0:
            packed[i, flag] = 1.0 if gap else 0.0
        if value >= 0:
            z = min(max((number - center) / spread, -1e30), 1e30)
            packed[i, value] = z / hypot(1.0, z / clip) if clip != 0.0 else z
        if fraction >= 0:
            b = before[np.intp(min(max((number - low) * scale, 0.0), last))]
            while b < inner and number >= edges[b + 1]:
                b += 1
            share = (number - edges[b]) / (edges[b + 1] - edges[b])
            packed[i, fraction] = 1.0 if share > 1.0 else share if share > 0.0 else 0.0
            packed[i, own] = b
