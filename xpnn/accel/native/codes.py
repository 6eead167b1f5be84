"""Numbers of a table as piecewise-linear codes, many rows at once: compiled by numba."""

from __future__ import annotations

from ..._typing import Array
from .threads import compiled

__all__ = ["encode_numbers"]


@compiled
def encode_numbers(
    rows: Array, x: Array, gaps: Array, scaled: Array, places: Array, low: Array, size: Array
) -> None:  # pragma: no cover (compiled)
    r"""Write encoded rows (n, width) of numbers `x` (n, columns) without gaps, and of their scaled values.

    `places` (columns, 4) tells of each column where its scaled value stands in a row, where its missing flag, and where
    its code begins, -1 for none; and how many bins this has, whose lower edges and widths are in `low` and `size` at
    the places of the code.  Bin t of a number is :math:`\min(\max((x - low_t) / size_t, 0), 1)`: as edges rise, all but
    one of them are 0 or 1 without a division.
    """
    number = rows.dtype.type
    zero, one = number(0), number(1)
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            value, flag, start, bins = places[c, 0], places[c, 1], places[c, 2], places[c, 3]
            if value >= 0:
                rows[i, value] = number(scaled[i, c])
            if flag >= 0:
                rows[i, flag] = one if gaps[i, c] else zero
            if bins > 0:
                own = x[i, c]
                full = 0
                for t in range(start, start + bins):
                    whole = own - low[t] >= size[t]
                    rows[i, t] = one if whole else zero
                    full += 1 if whole else 0
                if full < bins:
                    part = (own - low[start + full]) / size[start + full]
                    if part > 0.0:
                        rows[i, start + full] = number(part)
