"""A few rows of a table, encoded at once: all columns in the same operations on arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..accel import number_encoder
from .columns import LARGEST
from .fitted import CategoryColumn, NumberColumn
from .packing import FittedColumn

__all__ = ["RowEncoder"]

#: Types of plain numbers.
_NUMBERS = frozenset(map(np.dtype, ("?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d")))
_FLOATS, _TEXTS = (float, np.float64), (str, np.str_)
#: Elements of the encoded rows up to which this way is the faster one, and rows of columns by name.
_FEW, _FEW_BY_NAME = 1 << 15, 64
#: Elements up to which a compiled loop encodes them, and so many times the usual way is taken until it is loaded.
_MANY, _REPAID = 1 << 22, 4
# A column with a narrower bin is left to the way that tells of overflow.
_NARROW = 1e-200
_EXACT = 1 << 53  # whole numbers below it are exact in float64
_BOUND = 1e30  # of scaled values, as `NumberColumn.pack` has it


class RowEncoder:
    """What `TableEncoder.transform` makes of a few rows, to the last bit, for each column of the matrix at once.

    Every column of the matrix but flags and categories is a number, moved, divided and held within bounds: a scaled
    value by its median, spread and far bounds, a column of a piecewise-linear code by the edges of its bin, 0 and 1.

    Rows that it is not sure to read as `TableEncoder` does are refused, for that to take them, or to say what is wrong.

    Parameters
    ----------
    columns : sequence of fitted columns
        Of the encoder; none of dates.
    places : mapping of str to array of int
        Which columns of the matrix come of each, by name: the encoder's `feature_places`.
    names : sequence of str
        All columns of the training, in the order of an array's.
    clip : float or None
        As the encoder's.

    Examples
    --------
    >>> from xpnn.data import TableEncoder
    >>> table = {"size": np.array([1.0, 2.0, 4.0]), "kind": np.array(["a", "b", "c"], dtype=object)}
    >>> encoder = TableEncoder().fit(table)
    >>> few = RowEncoder.of(encoder.fitted_columns, encoder.feature_places, ["size", "kind"], encoder.clip)
    >>> few.by_name({"size": [4.0], "kind": ["c"]}).tolist() == encoder.transform(table)[2:].tolist()
    True
    >>> few.by_name({"size": ["4 m"], "kind": ["c"]}) is None
    True
    """

    def __init__(
        self,
        columns: Sequence[FittedColumn],
        places: Mapping[str, npt.NDArray[np.int64]],
        names: Sequence[str],
        clip: float | None,
    ) -> None:
        width = sum(map(len, places.values()))
        self.width, self._clip, self._names = width, clip, tuple(names)
        self._numbers = [column for column in columns if isinstance(column, NumberColumn)]
        self._words = [column for column in columns if isinstance(column, CategoryColumn)]
        self._often = 0  # times that many rows came
        self._low, self._least, self._most, self._zero, self._fill = np.zeros((5, width))
        self._size = np.ones(width)
        which = np.zeros(width, np.int64)  # of the columns of numbers
        self._layout = np.full((len(self._numbers), 4), -1)  # as the compiled loop has it
        values: list[int] = []
        flags: list[int] = []
        for k, column in enumerate(self._numbers):
            own = places[column.name].tolist()
            which[own], self._fill[own] = k, column.fill
            if column.spread > 0:
                value = self._layout[k, 0] = own.pop(0)
                values.append(value)
                self._low[value], self._size[value] = column.center, column.spread
                self._least[value], self._most[value], self._zero[value] = -_BOUND, _BOUND, -0.0
            if column.flagged:
                flags.append(own.pop(0))
                self._layout[k, 1] = flags[-1]
            if own:
                self._low[own], self._size[own] = column.edges[:-1], np.diff(column.edges)
                self._most[own] = 1.0
                self._layout[k, 2:] = own[0], len(own)
        self._values = slice(values[0], values[-1] + 1) if values == list(range(len(values))) and values else values
        self._flags = flags
        order = [self._names.index(column.name) for column in self._numbers]
        self._order = None if order == list(range(len(self._names))) else order
        self._source, self._of_array = which, np.asarray(order, np.int64)[which] if order else which
        self._codes = {column.name: _codes_of(column) for column in self._words}
        self._places = {column.name: places[column.name].tolist() for column in self._words}

    @classmethod
    def of(
        cls,
        columns: Sequence[FittedColumn],
        places: Mapping[str, npt.NDArray[np.int64]],
        names: Sequence[str],
        clip: float | None,
    ) -> RowEncoder | None:
        """Return one; None where some columns are not for it."""
        if not all(isinstance(column, NumberColumn | CategoryColumn) and column.name in names for column in columns):
            return None
        made = cls(columns, places, names, clip)
        sizes = made._size
        fits = made._numbers and bool((np.abs(made._low) <= LARGEST).all() and (sizes >= _NARROW).all())
        return made if fits and (clip is None or clip > _NARROW) else None

    def takes(self, rows: Any) -> bool:
        """Whether `by_place` takes rows: an array of plain numbers, not many of them, where no column is of words."""
        return (
            type(rows) is np.ndarray
            and rows.ndim == 2
            and rows.shape[1] == len(self._names)
            and rows.dtype in _NUMBERS
            and not self._words
            and (0 < rows.shape[0] * self.width <= _FEW or self._takes_many(rows.shape[0]))
        )

    def _takes_many(self, n: int) -> bool:
        """Whether a compiled loop is there for so many rows."""
        if not 0 < n * self.width <= _MANY or number_encoder() is None:
            return False
        self._often += 1
        return self._often > _REPAID

    def by_place(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float32] | None:
        """Encode rows of numbers that `takes` takes; None if one is not finite, or too large."""
        encode = number_encoder() if rows.shape[0] * self.width > _FEW else None
        if encode is not None:
            return self._many(rows, encode)
        return self._encoded(rows.astype(np.float64).take(self._of_array, axis=1))

    def _many(self, rows: npt.NDArray[Any], encode: Any) -> npt.NDArray[np.float32] | None:
        """Encode many rows of numbers by a compiled loop, as `_encoded` does it."""
        x = np.array(rows if self._order is None else rows[:, self._order], np.float64, order="C")
        gaps = np.isnan(x)
        if gaps.any():
            np.copyto(x, np.array([column.fill for column in self._numbers]), where=gaps)
        if not np.maximum.reduce(np.abs(x), axis=None) <= LARGEST:
            return None
        scaled = x - [column.center for column in self._numbers]
        scaled /= [column.spread if column.spread > 0 else 1.0 for column in self._numbers]
        np.maximum(scaled, -_BOUND, out=scaled)
        np.minimum(scaled, _BOUND, out=scaled)
        if self._clip is not None:
            ratio = scaled / self._clip
            scaled /= np.hypot(1.0, ratio, out=ratio)
        made = np.empty((len(x), self.width), np.float32)
        encode(made, x, gaps, scaled, self._layout, self._low, self._size)
        return made

    def by_name(self, columns: Mapping[str, Any]) -> npt.NDArray[np.float32] | None:
        """Encode columns by name, all that the training had and no other; None if a cell wants a closer look."""
        if len(columns) != len(self._names) or not columns.keys() >= set(self._names):
            return None
        read = {name: cells for name, column in columns.items() if (cells := _cells(column)) is not None}
        sizes = set(map(len, read.values()))
        if len(read) != len(columns) or len(sizes) != 1 or not 0 < sizes.pop() <= _FEW_BY_NAME:
            return None
        numbers = [read[column.name] for column in self._numbers]
        if not all(_plain(cell, c) for c, cells in zip(self._numbers, numbers, strict=True) for cell in cells):
            return None
        found: list[tuple[int, int, float]] = []
        for column in self._words:
            codes, own = self._codes[column.name], self._places[column.name]
            for row, cell in enumerate(read[column.name]):
                code = codes.get(cell) if cell is None or type(cell) in _TEXTS else None
                if code is None:
                    return None
                if code >= 0:
                    found.append((row, own[0], 2.0 * code - 1.0) if column.binary else (row, own[code], 1.0))
        made = self._encoded(np.array(numbers, np.float64).T.take(self._source, axis=1))
        if made is not None:
            for row, place, value in found:
                made[row, place] = value
        return made

    def _encoded(self, x: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
        """Encode numbers that stand in each column of the matrix, which are written over."""
        gaps = None
        if not np.maximum.reduce(np.abs(x), axis=None) <= LARGEST:  # NaN too
            gaps = np.isnan(x)
            x = np.where(gaps, self._fill, x)
            if not np.maximum.reduce(np.abs(x), axis=None) <= LARGEST:
                return None
        x -= self._low
        x /= self._size
        np.maximum(x, self._least, out=x)
        np.minimum(x, self._most, out=x)
        x += self._zero  # no zero of a code is negative, and each scaled value stays what it is
        if self._clip is not None and self._values:
            values = x[:, self._values]
            ratio = values / self._clip
            values /= np.hypot(1.0, ratio, out=ratio)
            if not isinstance(self._values, slice):
                x[:, self._values] = values
        if gaps is not None and self._flags:
            x[:, self._flags] = gaps[:, self._flags]
        return x.astype(np.float32)


def _codes_of(column: CategoryColumn) -> dict[str | None, int]:
    """Return the codes of cells that are known at a glance: categories as they are written, and gaps."""
    plain = (c for c in column.categories if c and c == c.strip() and "\0" not in c)
    return {**{c: column.categories.index(c) for c in plain}, None: -2}


def _cells(column: Any) -> list[Any] | None:
    """Return the cells of a list, or of a plain array, of one axis; None of anything else."""
    if type(column) is list:
        return column
    if type(column) is np.ndarray and column.ndim == 1 and (column.dtype in _NUMBERS or column.dtype.kind in "OU"):
        return list(column.tolist())
    return None


def _plain(cell: Any, column: NumberColumn) -> bool:
    """Whether a cell of a column of numbers is one, or a gap, whatever stands beside it."""
    if type(cell) is int:
        return abs(cell) < _EXACT
    return type(cell) in _FLOATS or (cell is None and column.spelling.plain and not column.boolean)
