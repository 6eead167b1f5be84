"""Where the columns of a table lie in its packed rows, and what each is read as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ..accel.workers import together
from ..coding import Code, Group
from .dates import DateColumn
from .fitted import CategoryColumn, NumberColumn
from .written import Written

__all__ = ["FittedColumn", "Layout", "PackedLater", "Understood", "kind_of", "understood"]

FittedColumn: TypeAlias = NumberColumn | CategoryColumn | DateColumn
Order: TypeAlias = npt.NDArray[np.int64] | None

# Rows packed at once.
_SLICE = 1 << 12


class Layout:
    """Where everything stands that is made of fitted columns, found out once.

    Attributes
    ----------
    columns, values_first
        As given: the columns, and whether scaled values stand before everything else.
    n_values : int
        Number of columns of the matrix that are scaled values.
    names : list of str
        Of the columns of the matrix.
    places : dict of str to array of int
        Which columns of the matrix come of each column, by its name.
    code : Code
        How rows are packed.
    packed : dict of str to list of int
        Where in a packed row stands what `pack` returns of each column, by its name.
    """

    def __init__(self, columns: Sequence[FittedColumn], values_first: bool) -> None:
        self.columns, self.values_first = columns, values_first
        names = [column.feature_names for column in columns]
        ends = np.cumsum([0, *map(len, names)])
        firsts = zip(ends.tolist(), columns, strict=False)
        values = [first for first, column in firsts if isinstance(column, NumberColumn) and column.spread > 0]
        self.n_values = len(values)
        flat = [name for own in names for name in own]
        order: Order = None  # the places, column by column of the table, of what stands in each column of the matrix
        if values_first:
            order = np.concatenate([np.array(values, np.int64), np.setdiff1d(np.arange(ends[-1]), values)])
        self.names = flat if order is None else [flat[k] for k in order]
        places = np.arange(ends[-1]) if order is None else np.argsort(order)
        self.places = {column.name: places[ends[i] : ends[i + 1]] for i, column in enumerate(columns)}
        self.code = _code_of(columns, order)
        self.packed = _packed_places(columns, order, self.code)


def _code_of(columns: Sequence[FittedColumn], order: Order) -> Code:
    """Return how rows of these columns are packed; `order` is that of the encoded columns, None: as they come."""
    places = None if order is None else np.argsort(order)
    plain: list[int] = []
    groups: dict[str, list[Group]] = {"steps": [], "ones": []}
    start = 0
    for kind, size in (piece for column in columns for piece in column.pieces):
        own = range(start, start + size) if places is None else places[start : start + size].tolist()
        start += size
        if kind == "plain":
            plain += own
        else:
            groups[kind].append(Group(own[0], size))  # they stay side by side
    return Code(tuple(sorted(plain)), tuple(groups["steps"]), tuple(groups["ones"]))


def _packed_places(columns: Sequence[FittedColumn], order: Order, code: Code) -> dict[str, list[int]]:
    """Return where in a packed row stands what `pack` returns of each column, by its name."""
    fractions, bins, ones = code.starts
    where = {place: k for k, place in enumerate(code.plain)}
    places = np.arange(code.width) if order is None else np.argsort(order)
    found: dict[str, list[int]] = {}
    start = 0
    for column in columns:
        own = found[column.name] = []
        for kind, size in column.pieces:
            if kind == "plain":
                own += [where[place] for place in places[start : start + size].tolist()]
            elif kind == "steps":
                own += [fractions, bins]
                fractions, bins = fractions + 1, bins + 1
            else:
                own.append(ones)
                ones += 1
            start += size
    return found


def kind_of(column: FittedColumn) -> Literal["number", "boolean", "date", "category"]:
    """Return what a column holds."""
    if isinstance(column, CategoryColumn):
        return "category"
    if isinstance(column, DateColumn):
        return "date"
    return "boolean" if getattr(column, "boolean", False) else "number"  # pickles from before do not say


def understood(column: FittedColumn, array: Any) -> npt.NDArray[Any]:
    """Return a column as it is understood: numbers, codes of categories, or dates."""
    if isinstance(column, NumberColumn):
        return column.numbers(array)
    return column.codes(array) if isinstance(column, CategoryColumn) else column.times(array)


@dataclass(frozen=True)
class Understood:
    """A column of which some rows are to be packed: read as a whole, or where that costs a copy, these rows alone."""

    column: FittedColumn
    values: npt.NDArray[Any]
    rows: npt.NDArray[np.integer] | None  # of the values; None: all
    places: list[int]  # in a packed row

    @classmethod
    def of(cls, column: FittedColumn, array: Any, rows: npt.NDArray[np.integer] | None, places: list[int]) -> Self:
        """Read a column as it comes, or some of its rows."""
        if rows is not None and not isinstance(array, Written) and array.dtype != np.float64:
            array, rows = np.asarray(array)[rows], None
        return cls(column, understood(column, array), rows, places)

    def pack(self, packed: npt.NDArray[np.float32], some: Any, clip: float | None) -> None:
        """Write some rows, a slice or numbers of them, to packed ones."""
        values = self.values[some if self.rows is None else self.rows[some]]
        if isinstance(self.column, NumberColumn) and self.column.pack_into(packed, self.places, values, clip):
            return
        parts = self.column.pack(values) if isinstance(self.column, CategoryColumn) else self.column.pack(values, clip)
        for place, part in zip(self.places, parts, strict=True):
            packed[:, place] = part


class PackedLater:
    """Packed rows that are made of the columns of a table when they are asked for, and take no memory beside it.

    They stand for an array of shape (n, width), some rows of which are taken by a slice or by numbers.
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, columns: Sequence[Understood], clip: float | None, n: int, width: int) -> None:
        self._columns, self._clip = columns, clip
        self.shape = n, width

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any) -> npt.NDArray[np.float32]:
        n = len(range(*rows.indices(len(self)))) if isinstance(rows, slice) else len(rows)
        packed = np.empty((n, self.shape[1]), dtype=np.float32)
        for column in self._columns:
            column.pack(packed, rows, self._clip)
        return packed

    def all(self) -> npt.NDArray[np.float32]:
        """Return all rows, a slice of them at a time: what is worked with stays in cache."""
        packed = np.empty(self.shape, dtype=np.float32)

        def pack(k: int) -> None:
            some = slice(k * _SLICE, (k + 1) * _SLICE)
            for column in self._columns:
                column.pack(packed[some], some, self._clip)

        together(pack, -(-len(self) // _SLICE))
        return packed
