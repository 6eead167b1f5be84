"""Where the columns of a table lie in its packed rows, and what each is read as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ..coding import Code, Group
from .dates import DateColumn
from .fitted import CategoryColumn, NumberColumn
from .written import Written

__all__ = ["FittedColumn", "Understood", "code_of", "kind_of", "packed_places", "understood"]

FittedColumn: TypeAlias = NumberColumn | CategoryColumn | DateColumn
Order: TypeAlias = npt.NDArray[np.int64] | None


def code_of(columns: Sequence[FittedColumn], order: Order) -> Code:
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


def packed_places(columns: Sequence[FittedColumn], order: Order) -> dict[str, list[int]]:
    """Return where in a packed row stands what `pack` returns of each column, by its name."""
    code = code_of(columns, order)
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

    @classmethod
    def of(cls, column: FittedColumn, array: npt.NDArray[Any] | Written, rows: npt.NDArray[np.integer] | None) -> Self:
        """Read a column as it comes, or some of its rows."""
        if rows is not None and not isinstance(array, Written) and array.dtype != np.float64:
            array, rows = np.asarray(array)[rows], None
        return cls(column, understood(column, array), rows)

    def packed(self, some: slice, clip: float | None) -> list[npt.NDArray[Any]]:
        """Pack a slice of the rows."""
        values = self.values[some if self.rows is None else self.rows[some]]
        return self.column.pack(values) if isinstance(self.column, CategoryColumn) else self.column.pack(values, clip)
