"""What a model takes: its columns, what each is, and in short what the training rows held of it."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..arguments import printable
from ..config import reading
from ..optional import needs
from ..random import stream
from ..schema import at_least, expect
from .arrays import some_rows
from .audit.column import share
from .columns import Floats, as_columns, as_texts, one_spelling
from .csv import Table
from .dates import date_texts
from .encoder import Columns, TableEncoder
from .written import Written

__all__ = ["InputColumn", "InputSchema", "as_floats", "as_keyed", "drawn", "rows_looked_at"]

# So that a schema stays small, and is made in moments, whatever the table.
_PARTS, _CATEGORIES, _ROWS = 10, 50, 100_000
_MOST_QUANTILES = 20
_DAY = 86_400_000_000  # microseconds
_TEXT = [str]
_COLUMN = {
    "name": str,
    "kind": ("number", "boolean", "date", "category"),
    **dict.fromkeys(("missing", "others", "distinct", "once"), at_least(0)),
    "quantiles": ([float], _TEXT),
    "counts": [at_least(0)],
    "categories": _TEXT,
}
_SCHEMA = {"rows": at_least(1), "columns": [_COLUMN]}


@dataclass(frozen=True)
class InputColumn:
    """One column of the input, and what the training rows held of it.

    Attributes
    ----------
    name : str
        As in the table.
    kind : {"number", "boolean", "date", "category"}
        What it is read as.
    missing : int
        Rows without a value.
    quantiles : tuple of float
        The smallest value, the deciles and the largest one, 11 numbers; of dates in days since 1970.  None of them for
        categories.
    counts : tuple of int
        Rows in each bin (see `edges`), or of each of the `categories`.
    categories : tuple of str
        The most frequent ones, the first of them first, at most 50.
    others : int
        Rows of all further categories.
    distinct : int
        Number of different categories.
    once : int
        Rows whose category stands in no other row: their share is that of unseen categories to be expected in new
        rows (Good-Turing).
    """

    name: str
    kind: Literal["number", "boolean", "date", "category"]
    missing: int = 0
    quantiles: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    others: int = 0
    distinct: int = 0
    once: int = 0

    @classmethod
    def of(cls, name: str, kind: Any, values: npt.NDArray[Any]) -> InputColumn:
        """Look at values of shape (n,), as `TableEncoder.read` returns them."""
        if kind == "category":
            found = Counter(text for text in as_keyed(values) if text is not None)
            ranked = sorted(found, key=lambda text: (-found[text], text))
            listed = ranked[:_CATEGORIES]
            return cls(
                name,
                kind,
                len(values) - found.total(),
                counts=tuple(found[text] for text in listed),
                categories=tuple(listed),
                others=sum(found[text] for text in ranked[_CATEGORIES:]),
                distinct=len(ranked),
                once=sum(n == 1 for n in found.values()),
            )
        x = as_floats(values)
        present = x[~np.isnan(x)]
        quantiles: tuple[float, ...] = ()
        if present.size:
            # Values that are there, so that each lies in one bin for sure.
            quantiles = tuple(np.quantile(present, np.linspace(0, 1, _PARTS + 1), method="inverted_cdf").tolist())
        made = cls(name, kind, len(x) - len(present), quantiles)
        counts = tuple(made.counted(present).tolist())
        return cls(name, kind, made.missing, quantiles, counts)

    @property
    def edges(self) -> Floats:
        """Upper ends of all bins but the last, which has none: the deciles, of equal ones the first."""
        inner = np.unique(np.asarray(self.quantiles[1:-1], dtype=np.float64))
        return inner[inner < self.quantiles[-1]] if self.quantiles else inner

    def counted(self, present: Floats) -> npt.NDArray[np.int64]:
        """Return how many of some numbers lie in each bin, whose upper end belongs to it."""
        edges = self.edges
        return np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(edges) + 1).astype(np.int64)

    @property
    def low(self) -> float | None:
        """The smallest value seen; None of categories, and where all are missing."""
        return self.quantiles[0] if self.quantiles else None

    @property
    def high(self) -> float | None:
        """The largest value seen."""
        return self.quantiles[-1] if self.quantiles else None

    def plain(self, value: float) -> float | str:
        """Return a value of this column as a number, or of dates as text."""
        return str(_dates([value])[0]) if self.kind == "date" else float(value)

    def shown(self, value: float) -> str:
        """Return a value of this column as a person reads it."""
        plain = self.plain(value)
        return plain if isinstance(plain, str) else f"{plain:.6g}"

    def example(self) -> Any:
        """Return a value as many rows have: the median, the most frequent category, or a date as text; else None."""
        if self.kind == "category":
            return self.categories[0] if self.categories else None
        if not self.quantiles:
            return None
        middle = self.quantiles[len(self.quantiles) // 2]
        return bool(middle) if self.kind == "boolean" else self.plain(middle)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, dates as text."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        if self.kind == "date":
            plain["quantiles"] = _dates(self.quantiles).tolist()
        return plain

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> InputColumn:
        """Rebuild a column from `to_dict`; raises ValueError or TypeError if an entry is bad."""
        plain: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in state.items()
        }
        if plain["kind"] == "date":
            plain["quantiles"] = tuple(as_floats(np.asarray(plain["quantiles"], dtype="datetime64[us]")).tolist())
        made = cls(**plain)
        q = made.quantiles
        numbers = all(isinstance(value, int | float) and value == value for value in q)
        if not numbers or any(a > b for a, b in itertools.pairwise(q)) or len(q) > _MOST_QUANTILES:
            raise ValueError(f"quantiles of {made.name!r} that are no ascending numbers")
        bins = len(made.categories) if made.kind == "category" else len(made.edges) + 1
        if len(made.counts) != bins or len(made.categories) > _CATEGORIES:
            raise ValueError(f"{len(made.counts)} counts of {made.name!r} for {bins} bins")
        if len(set(made.categories)) < len(made.categories):
            raise ValueError(f"a category of {made.name!r} twice")
        return made


@dataclass(frozen=True)
class InputSchema:
    """The columns that a model takes: their names, kinds, categories, ranges and gaps in the training rows.

    A `Predictor` keeps it, and its file.  It is small: of each column eleven quantiles, or at most 50 categories, of at
    most 100,000 rows.  **It holds data**: names of categories, and the smallest and largest value of each number.

    Attributes
    ----------
    rows : int
        Training rows looked at.
    columns : tuple of InputColumn
        The columns that are used, in the order of the training.

    Examples
    --------
    >>> from xpnn.data import TableEncoder
    >>> table = {"size": np.array([50.0, 80.0, np.nan, 120.0]), "town": np.array(["a", "b", "a", "a"], dtype=object)}
    >>> schema = InputSchema.of(TableEncoder().fit(table), table)
    >>> print(schema)
    column    kind      missing    values
    --------  --------  ---------  ------------------------
    size      number    25.0%      50 to 120, median 80
    town      category  0.0%       'a' (75.0%), 'b' (25.0%)
    """

    rows: int
    columns: tuple[InputColumn, ...]

    def __str__(self) -> str:
        with needs("tabulate", "InputSchema"):
            from tabulate import tabulate

        header, *rows = self.table()
        return tabulate([[printable(cell) for cell in row] for row in rows], headers=header, disable_numparse=True)

    def __iter__(self) -> Iterator[InputColumn]:
        return iter(self.columns)

    @classmethod
    def of(cls, encoder: TableEncoder, columns: Columns, *, rows: npt.NDArray[np.int64] | None = None) -> InputSchema:
        """Look at training rows.

        Parameters
        ----------
        encoder : TableEncoder
            Fitted; it says which columns are used, and what they are.
        columns : Table, frame, or mapping of str to array of shape (n,)
            The rows, as for `TableEncoder.transform`.  Of more than 100,000 so many, drawn at random, are looked at.
        rows : array of int, optional
            Which of them to look at, by default all.
        """
        given = as_columns(columns.written if isinstance(columns, Table) else columns, "InputSchema.of")
        n = max((len(values) for values in given.values()), default=0)
        some = rows_looked_at(n) if rows is None else rows[rows_looked_at(len(rows))]
        kinds, found = encoder.kinds, []
        for name, kind in kinds.items():  # one at a time: a table may be as large as memory
            read = encoder.read({name: drawn(given[name], some)} if name in given else {}, only=[name])[name]
            found.append(InputColumn.of(name, kind, read if len(read) == len(some) else read[some]))
        return cls(len(some), tuple(found))

    def table(self) -> list[list[str]]:
        """Return a header and a row for each column, for a person."""
        return [["column", "kind", "missing", "values"]] + [
            [column.name, column.kind, share(column.missing, self.rows), self.described(column)]
            for column in self.columns
        ]

    def described(self, column: InputColumn) -> str:
        """Say what a column held: its range and median, or its most frequent categories."""
        if column.kind == "category":
            pairs = list(zip(column.categories, column.counts, strict=True))[:3]
            named = ", ".join(f"{name!r} ({share(count, self.rows)})" for name, count in pairs)
            return named + (f", … ({column.distinct} in all)" if column.distinct > len(pairs) else "")
        if not column.quantiles:
            return "none"
        low, middle, high = (column.quantiles[k] for k in (0, len(column.quantiles) // 2, -1))
        if column.kind == "boolean":
            return f"true in {share(sum(column.counts[1:]), self.rows)}" if low < high else str(bool(low))
        return f"{column.shown(low)} to {column.shown(high)}, median {column.shown(middle)}"

    def example(self) -> dict[str, list[Any]]:
        """Return a row that is like many of the training's, as columns of one value each."""
        return {column.name: [column.example()] for column in self.columns}

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"rows": self.rows, "columns": [column.to_dict() for column in self.columns]}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> InputSchema:
        """Rebuild a schema from `to_dict`, also after a round trip through JSON.

        Raises
        ------
        FileFormatError
            If an entry is missing, of no known kind, or does not go with the others.
        """
        with reading("InputSchema.from_dict", "what to_dict() returns"):
            expect(state, _SCHEMA)
            columns = tuple(map(InputColumn.from_dict, state["columns"]))
            if len({column.name for column in columns}) < len(columns):
                raise ValueError("a column twice")
            for column in columns:
                if column.missing + sum(column.counts) + column.others != state["rows"]:
                    raise ValueError(f"counts of {column.name!r} that are not those of all rows")
            return cls(state["rows"], columns)


def rows_looked_at(n: int) -> npt.NDArray[np.int64]:
    """Return which of n rows are looked at: all, or 100,000 drawn at random, the same ones each time."""
    return some_rows(n, _ROWS, stream(0, "schema"))


def drawn(values: Any, rows: npt.NDArray[np.int64]) -> Any:
    """Return some rows of a column as it comes, where that is less work than to read all of them."""
    if len(rows) == len(values):
        return values
    if isinstance(values, Written):  # whose numbers are there already
        return Written.of(values.at(rows)) if values.numbers is None else values
    return values[rows] if isinstance(values, np.ndarray) else values


def as_floats(values: npt.NDArray[Any]) -> Floats:
    """Return numbers as float64, and dates in days since 1970; NaN for missing ones."""
    if values.dtype.kind != "M":
        return values.astype(np.float64)
    microseconds = values.astype("datetime64[us]")
    return np.where(np.isnat(microseconds), np.nan, microseconds.astype(np.int64) / _DAY)


def as_keyed(values: npt.NDArray[Any], known: tuple[str, ...] = ()) -> list[str | None]:
    """Return categories as text, spelt as those that are known; None for missing ones."""
    texts = as_texts(date_texts(values) if values.dtype.kind == "M" else values)
    if not known:
        return texts
    key = one_spelling(known)
    spelt = {text: None if text is None else key(text) for text in set(texts)}
    return [spelt[text] for text in texts]


def _dates(days: Any) -> npt.NDArray[Any]:
    microseconds = np.rint(np.asarray(days, dtype=np.float64) * _DAY).astype(np.int64)
    return date_texts(microseconds.astype("datetime64[us]"))
