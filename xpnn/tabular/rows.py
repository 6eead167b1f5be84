"""Rows as people hold them, a frame, a mapping, an array or a table from a file, as columns that an encoder takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arguments import shown, suggest
from ..backend import to_numpy
from ..backend.interop import library_of
from ..data.arrays import take_rows
from ..data.columns import as_columns, as_texts, is_text, quote
from ..data.csv import Table
from ..data.dates import read_column
from ..data.kinds import decide
from ..data.spelling import Doubt, Spelling, find_spelling
from ..data.written import Written
from ..errors import DataError, DTypeError, OptionError, ShapeError
from ..frames import in_memory, table_names

__all__ = ["Rows", "TrainingRows", "read_rows", "read_training_rows"]

Column = npt.NDArray[Any] | Written

# What the dtype of a column says of it, whatever its categories look like.
_SAYS_CATEGORICAL = ("category", "Categorical", "Enum", "dictionary")


class Rows(NamedTuple):
    """Columns by name, and whether these names are the table's own."""

    columns: dict[str, Any]
    named: bool

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))


class TrainingRows(NamedTuple):
    """Columns that are numbers, dates or text for good, with what was decided of them."""

    columns: dict[str, Column]
    named: bool
    spellings: dict[str, Spelling]
    categorical: tuple[str, ...]
    notes: tuple[str, ...]
    doubts: tuple[str, ...]
    #: Which rows of the columns these are; None: all.
    among: npt.NDArray[np.int64] | None = None

    @property
    def size(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()))) if self.among is None else len(self.among)

    def numbers(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return where some of these rows lie in the columns."""
        return rows if self.among is None else self.among[rows]

    def taken(self) -> Mapping[str, Any]:
        """Return the columns with these rows alone."""
        return self.columns if self.among is None else take_rows(self.columns, self.among)

    def categories(self, name: str) -> int:
        """Return how many different words a column holds."""
        column = self.columns[name]
        if isinstance(column, Written) and column.numbers is None:
            codes = column.codes if self.among is None else column.codes[self.among]
            there = np.bincount(codes, minlength=len(column.words)).tolist()
            return sum(n > 0 and bool(word) for word, n in zip(column.words, there, strict=True))
        return len(set(as_texts(column if self.among is None else np.asarray(column)[self.among])) - {None})


def read_rows(X: Any, where: str) -> Rows:
    """Return the columns of whatever holds rows; those of an array are called ``x0``, ``x1`` and so on.

    Raises
    ------
    DTypeError
        If it is a sparse matrix.
    ShapeError, DataError
        If it is complex, there is no row or no column, rows and columns cannot be told apart, or two columns have one
        name.

    Examples
    --------
    >>> read_rows([[1.0, 2.0], [3.0, 4.0]], "fit").columns
    {'x0': array([1., 3.]), 'x1': array([2., 4.])}
    """
    if isinstance(X, Table):
        return Rows({name: X.columns[name] for name in X.features}, True)
    X = in_memory(X)
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise DTypeError(f"{where}: expected rows of a table, got a sparse matrix. Pass X.toarray(), or a frame.")
    if isinstance(X, Mapping) or table_names(X) is not None:
        return Rows(_by_text(as_columns(X, where), where), True)
    if isinstance(X, list | tuple) and X and all(isinstance(row, Mapping) for row in X):
        raise ShapeError(
            f"{where}: expected rows of a table, got a list of dicts. Pass a frame of them, as pandas.DataFrame makes "
            "one, or one dict with the list of each column."
        )
    array = X if isinstance(X, np.ndarray) else to_numpy(X) if library_of(type(X)) else np.asarray(X)
    if array.dtype.names is not None:
        return Rows({name: array[name] for name in array.dtype.names}, True)
    if array.dtype.kind == "c":
        raise DataError(f"{where}: expected real numbers or text, got dtype {array.dtype}. Complex data not supported.")
    if array.ndim != 2:
        raise ShapeError(
            f"{where}: expected X of shape (n_samples, n_features), got {array.shape}. Reshape your data either using "
            "array.reshape(-1, 1) if it has a single feature or array.reshape(1, -1) if it is a single sample."
        )
    for size, what in zip(array.shape, ("sample", "feature"), strict=True):
        if not size:
            raise DataError(
                f"{where}: expected rows of a table in X, got 0 {what}(s) (shape={array.shape}) while a minimum of "
                "1 is required. Check how the data were selected."
            )
    return Rows({f"x{k}": array[:, k] for k in range(array.shape[1])}, False)


def _by_text(columns: Mapping[Any, Any], where: str) -> dict[str, Any]:
    named = {str(name): column for name, column in columns.items()}
    if not named or len(named) < len(columns):
        got = "none" if not named else "two of one name"
        raise DataError(f"{where}: expected columns of different names in X, got {got}. Name each of them.")
    for name, column in named.items():
        if isinstance(column, str) or not hasattr(column, "__len__"):
            raise ShapeError(
                f"{where}: expected a column of cells in {name!r} of X, got a single value, {shown(column)}. Of one "
                f"row pass lists of one cell: {{{name!r}: [{shown(column)}]}}."
            )
    sizes = {len(column): name for name, column in named.items()}
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.items())[:2]
        raise ShapeError(
            f"{where}: expected columns of one length in X, got {a} rows in {first!r} and {b} in {second!r}. Give each "
            "column the same rows."
        )
    if 0 in sizes:
        raise DataError(
            f"{where}: expected rows in X, got 0 sample(s) (shape=(0, {len(named)})) while a minimum of 1 is required. "
            "Check how the data were selected."
        )
    return named


def read_training_rows(
    X: Any,
    where: str,
    *,
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
    decimal: Literal[".", ","] | None = None,
) -> TrainingRows:
    """Return the columns to learn from, decided once what each is: text that holds numbers becomes numbers.

    A column is categorical if it is named so, or if its dtype says so.  `decimal` is the decimal mark of text that
    leaves it open.

    Raises
    ------
    OptionError
        If `categorical` or `numeric` names a column that is not there.
    DataError
        If a column that is said to be numeric leaves open which numbers it holds.

    Examples
    --------
    >>> read_training_rows({"price": ["1,50 €", "12,75 €", "3 €"]}, "fit").columns
    {'price': array([ 1.5 , 12.75,  3.  ])}
    """
    given, named = read_rows(X, where)
    for option, asked in (("categorical", categorical), ("numeric", numeric)):
        for name in asked:
            if name not in given:
                raise OptionError(
                    f"{where}: expected names of columns in {option}, got {name!r}. {suggest(str(name), given)} There "
                    f"are {quote(given, 20)}."
                )
    said = {name for name, column in given.items() if _says_categorical(column)} - set(numeric)
    words = tuple(name for name in given if name in said or name in categorical)
    spellings = dict(X.spellings) if isinstance(X, Table) else {}
    notes: list[str] = []
    doubts: list[str] = []
    columns: dict[str, Column] = {}
    for name, column in given.items():
        array = read_column(name, column)
        if name not in words and name not in spellings and is_text(array):
            array, spelling = _decided(name, array, name in numeric, decimal, notes, doubts)
            if spelling is not None:
                spellings[name] = spelling
        columns[name] = array
    return TrainingRows(columns, named, spellings, words, tuple(notes), tuple(doubts))


def _says_categorical(column: Any) -> bool:
    dtype = getattr(column, "dtype", getattr(column, "type", None))
    return str(dtype).startswith(_SAYS_CATEGORICAL)


def _decided(
    name: str,
    array: Column,
    numeric: bool,
    decimal: Literal[".", ","] | None,
    notes: list[str],
    doubts: list[str],
) -> tuple[Column, Spelling | None]:
    """Return a column of text as the numbers that it holds, with how they are written; else as it is."""
    texts = np.asarray(as_texts(array), dtype=object)
    texts = np.asarray([None if text is None or not text.strip() else text.strip() for text in texts], dtype=object)
    kind = decide(name, texts, numeric=numeric, decimal=decimal)
    notes += kind.notes
    if kind.spelling is not None:
        if not kind.spelling.plain:
            notes.append(f"{name}: {kind.spelling.describe()}, such as {next(filter(None, texts))!r}: read as numbers.")
        return kind.values, kind.spelling
    doubt = find_spelling([text for text in texts if text is not None], name=name, numeric=numeric, decimal=decimal)
    if isinstance(doubt, Doubt):
        if numeric:
            raise DataError(f"column {name!r}: expected numbers. {doubt.seen} {_way_out(doubt, name)}")
        doubts.append(f"{name}: {doubt.seen} It is read as text. {_way_out(doubt, name)}")
    return array, None


def _way_out(doubt: Doubt, name: str) -> str:
    """Return what to write in Python where the command line has options."""
    if doubt.candidates:
        return "Say which with decimal='.' or decimal=','."
    return f"Write them in one form, or say numeric=[{name!r}] or categorical=[{name!r}]."
