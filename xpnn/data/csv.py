"""Tables from CSV files: cells as they are written, a decision on what each column is, and a note on each decision."""

from __future__ import annotations

import contextlib
import difflib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..accel.workers import together
from ..errors import DataError, OptionError, XpnnError
from ..files import PathLike
from .columns import as_exact, as_keys, is_number
from .header import BODY, header_names, is_header, position_in
from .kinds import Kind, decide
from .rows import Rows, read_rows
from .spelling import Spelling
from .written import Columns, Written

__all__ = ["MISSING", "Layout", "Table", "load_csv", "named_table", "resolve_target", "table_of"]

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "None")

_NAMED = 20  # columns listed in a note or a message
_OFTEN = 0.05  # share of rows from which a word that means no value may be a value


@dataclass(eq=False, repr=False)
class Table:
    """The columns of a CSV file.

    Attributes
    ----------
    names : list of str
        Names of the columns, in the order of the file.
    columns : mapping of str to ndarray of shape (n_rows,)
        float64 with NaN for missing cells where the column holds numbers; else objects, stripped strings with None for
        missing cells.
    target_name : str or None
        The column to predict.
    notes : list of str
        What was decided while reading, one sentence each.
    cells : mapping of str to ndarray of shape (n_rows,)
        The same columns as they are written: stripped strings, None for missing cells.  They are made when they are
        asked for, and kept in less memory until then.
    spellings : dict of str to Spelling
        How the numbers of the columns of numbers are written.
    header : bool
        Whether the first row of the file named the columns.
    gaps : dict of str to Counter
        Of columns with missing cells: what these read, and how many rows do.

    Examples
    --------
    >>> table = Table(["x", "y"], {"x": np.array([1.0, 2.0]), "y": np.array([0.0, 1.0])}, "y")
    >>> table.features, table.n_rows, table.y
    (['x'], 2, array([0., 1.]))
    """

    names: list[str]
    columns: Mapping[str, npt.NDArray[Any]]
    target_name: str | None = None
    notes: list[str] = field(default_factory=list)
    cells: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    spellings: dict[str, Spelling] = field(default_factory=dict)
    header: bool = True
    gaps: dict[str, Counter[str]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.names[:8])) + (", ..." if len(self.names) > 8 else "")
        return f"Table({self.n_rows} rows, {len(self.names)} columns: {shown}; target={self.target_name!r})"

    @property
    def n_rows(self) -> int:
        """Number of rows, the header not counted."""
        columns, first = self.columns, self.names[0]
        return len(columns.kept(first) if isinstance(columns, Columns) else columns[first])

    @property
    def features(self) -> list[str]:
        """Names of all columns but the target."""
        return [name for name in self.names if name != self.target_name]

    @property
    def y(self) -> npt.NDArray[Any] | None:
        """The target column, of shape (n_rows,), or None without a target."""
        return None if self.target_name is None else self.columns[self.target_name]

    @property
    def written(self) -> dict[str, npt.NDArray[Any] | Written]:
        """The columns as they are written, for what was fitted before; those of no file as they are.

        A fitted encoder reads these, so that what it makes of a row does not depend on what its file made of a column.
        """
        return {name: self.kept(name) if name in self.cells else self.columns[name] for name in self.names}

    def kept(self, name: str) -> npt.NDArray[Any] | Written:
        """Return the cells of a column in the form in which they are kept."""
        return self.cells.kept(name) if isinstance(self.cells, Columns) else self.cells[name]

    def take(self, rows: npt.NDArray[np.integer]) -> Table:
        """Return the table with some rows alone, which rise."""

        def some(columns: Mapping[str, npt.NDArray[Any]]) -> Columns:
            kept = columns.kept if isinstance(columns, Columns) else columns.__getitem__
            return Columns(
                {name: c.take(rows) if isinstance(c := kept(name), Written) else c[rows] for name in columns}
            )

        return replace(self, columns=some(self.columns), cells=some(self.cells))

    def read(self, categorical: Collection[str] = ()) -> dict[str, npt.NDArray[Any]]:
        """Return the columns with the categories among them as text, in which each number has one form."""
        keys = {name: as_keys(self.cells[name]) for name in categorical if name in self.spellings}
        return {**self.columns, **keys}

    def missing_words(self, name: str) -> Counter[str]:
        """Return the words that stand for no value among the numbers of a column, beside its gaps, with their rows."""
        if name not in self.spellings:
            return Counter()
        absent, cells = np.isnan(self.columns[name]), self.kept(name)
        if isinstance(cells, Written):
            return cells.words_in(absent)
        return Counter(cell for cell in cells[absent].tolist() if cell is not None)

    def respelt(self, name: str) -> bool:
        """Whether a column of numbers was read from text that `float` would refuse."""
        spelling = self.spellings.get(name)
        return spelling is not None and (not spelling.plain or bool(self.missing_words(name)))

    def exact(self, name: str) -> npt.NDArray[Any]:
        """Return a column of labels: of numbers beyond 2**53, which float64 cannot tell apart, all digits are kept."""
        column = self.columns[name]
        if name in self.cells and column.dtype.kind == "f" and (np.abs(column) >= 2.0**53).any():
            return as_exact(self.cells[name])
        return column


def load_csv(
    path: PathLike,
    *,
    target: str | int | None = None,
    header: bool | Literal["auto"] = "auto",
    delimiter: str = "auto",
    encoding: str | None = None,
    comment: str = "",
    missing: Collection[str] = MISSING,
    decimal: Literal[".", ","] | None = None,
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
    like: Table | None = None,
) -> Table:
    """Read a CSV file: of any delimiter, encoding and decimal mark, plain or compressed (gzip, bzip2, xz, zip).

    A column holds numbers if each of its cells does, or is missing; also if they are written with a sign, a decimal
    comma or separators of thousands, where all its cells together leave no doubt.  Numbers that are written like codes
    (``01``, ``12e5678``, whole numbers beyond 2**53) are text.

    Blank lines are left out, and above the table a line such as ``sep=;``, which Excel writes, and comments that begin
    with ``#``.  The file is read in blocks, and only its columns are kept.

    Parameters
    ----------
    path : path
        The file.
    target : str or int, optional
        The column to predict: its name, or its position (from 0; negative from the end), also as a string.
    header : bool or "auto"
        Whether the first row names the columns.  "auto": it does if the target or a column of `like` is a word in it,
        if a word of it stands above numbers, or if all its cells are different words; unless its words are values of
        their columns.  The name of a column may be missing, then it is its position.  Without a header the columns are
        named "0", "1", ..., or as in `like`.
    delimiter : str
        One character, or "auto": of comma, semicolon, tab and bar the one that cuts the first rows into
        equally many cells.
    encoding : str, optional
        Such as ``"cp1252"`` or ``"latin-1"``; by default UTF-8, or UTF-16 or UTF-32 by a byte order mark or by their
        zero bytes.
    comment : str, default=""
        Character that makes a line a comment wherever it begins one; "" for none.
    missing : collection of str
        Cells that mean "no value", compared after spaces at both ends are cut.
    decimal : {".", ","}, optional
        The decimal mark of columns that leave it open.
    categorical, numeric : collection of str, default=()
        Columns to read so whatever they look like; names that are not there are ignored, and of the numeric ones those
        stay text that cannot be read.
    like : Table, optional
        A table read before, such as the one that was trained on: the columns that it has too are read as its own were,
        also where this file looks different.

    Returns
    -------
    Table
        The columns, and in ``notes`` what was decided.

    Raises
    ------
    DataError
        If the file is not there or empty, a row has too few or too many cells, a name occurs twice, or the
        target is not a column.
    FileFormatError
        If the file is no text in one of these encodings, or quotes are not closed.
    OptionError
        If `header`, `delimiter`, `encoding` or `comment` is none of the above.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "people.csv"
    ...     _ = path.write_text("age, work, rich\\n39, State-gov, no\\n?, Private, yes\\n")
    ...     table = load_csv(path, target="rich")
    >>> table.columns["age"], table.y
    (array([39., nan]), array(['no', 'yes'], dtype=object))
    >>> table.notes
    ['header row found: age, work, rich', 'missing values: age (1)']
    """
    if header not in (True, False, "auto"):
        raise OptionError(f"load_csv: expected header True, False or 'auto', got {header!r}.")
    if delimiter != "auto" and len(delimiter) != 1:
        raise OptionError(f"load_csv: expected a delimiter of one character, or 'auto', got {delimiter!r}.")
    if len(comment) > 1 or comment in ('"', delimiter):
        raise OptionError(f"load_csv: expected a comment of one character, or '', got {comment!r}. '#' is usual.")
    known = () if like is None else like.names
    rows, notes = read_rows(path, delimiter, known, encoding=encoding, comment=comment)
    layout = Layout(target, header, frozenset(missing), decimal, categorical, numeric, like)
    return table_of(rows, layout, path, notes)


@dataclass(frozen=True)
class Layout:
    """What is known of a table, and how it is to be read: the options of `load_csv`."""

    target: str | int | None = None
    header: bool | Literal["auto"] = "auto"
    missing: frozenset[str] = frozenset(MISSING)
    decimal: Literal[".", ","] | None = None
    categorical: Collection[str] = ()
    numeric: Collection[str] = ()
    like: Table | None = None

    def asks(self, name: str) -> bool:
        """Whether the cells decide what a column is."""
        return name not in self.categorical and (self.like is None or name not in self.like.columns)

    def kind(self, name: str, cells: Written) -> Kind:
        """Tell what a column is."""
        if self.like is None or name not in self.like.columns:
            chosen = {"categorical": name in self.categorical, "numeric": name in self.numeric}
            return decide(name, cells, decimal=self.decimal, **chosen)
        spelling = self.like.spellings.get(name)
        if spelling is not None:
            with contextlib.suppress(DataError):  # whoever reads it as numbers says which row is none
                return Kind(spelling.parse(cells, name), spelling)
        return Kind(cells)


def table_of(rows: Rows, layout: Layout, path: PathLike, notes: list[str]) -> Table:
    """Return rows of cells as a table: find the names of its columns, and what each of them is.

    Examples
    --------
    >>> from xpnn.data.written import Written
    >>> rows = Rows([Written.of(["size", "1", "2"]), Written.of(["colour", "red", ""])])
    >>> table_of(rows, Layout(), "houses.csv", []).columns["size"]
    array([1., 2.])
    """
    like, header = layout.like, layout.header
    if header == "auto":
        head = list(zip(*(column.head(BODY + 1) for column in rows.columns), strict=True))
        names = like.names if like is not None and like.header else ()
        header = is_header(head, layout.missing, layout.target, names)
    names = _take_names(rows, like, path, notes, header=header)
    return named_table(rows, names, layout, notes, header=header)


def named_table(rows: Rows, names: list[str], layout: Layout, notes: list[str], *, header: bool = True) -> Table:
    """Return columns whose names are known as a table."""
    target = None if layout.target is None else resolve_target(layout.target, names)
    columns, cells = Columns(), Columns()
    table = Table(names, columns, target, notes, cells=cells, header=header)
    found: list[tuple[Counter[str], Kind] | None] = [None] * len(names)

    wrong: dict[int, XpnnError] = {}

    def find(k: int) -> None:
        rows.columns[k], gaps = rows.columns[k].without(layout.missing)  # what it was made of is not needed any more
        try:
            found[k] = gaps, layout.kind(names[k], rows.columns[k])
        except XpnnError as error:
            wrong[k] = error

    together(find, len(names))
    if wrong:
        raise wrong[min(wrong)]
    for name, column, (gaps, kind) in zip(names, rows.columns, filter(None, found), strict=True):
        if gaps:
            table.gaps[name] = gaps
        cells[name], columns[name] = column, kind.values
        if kind.spelling is not None:
            table.spellings[name] = kind.spelling
            notes += kind.notes
        elif layout.asks(name):
            notes += _note_gaps(name, table)
            notes += _note_stray_words(name, column, rows, header=header) or kind.notes
    notes += _note_missing(table)
    return table


def _take_names(rows: Rows, like: Table | None, path: PathLike, notes: list[str], *, header: bool) -> list[str]:
    """Take the header, if there is one, off the rows; return the names of the columns."""
    if not header:
        n = len(rows.columns)
        known = () if like is None else (like.names, like.features)
        for names in known:
            if len(names) == n and names != _numbered(n):
                notes.append(f"no header row found: columns are named in the order of those before: {_listed(names)}")
                return list(names)
        notes.append(f"no header row found: columns are numbered 0..{n - 1}")
        return _numbered(n)
    names = header_names([column.head(1)[0] or "" for column in rows.columns], path)
    if len(rows.columns[0]) == 1:
        raise DataError(
            f"load_csv: expected rows below the header of {path}, got none. Pass header=False if the only row is data."
        )
    rows.columns[:] = [column.rest() for column in rows.columns]
    notes.append(f"header row found: {_listed(names)}")
    return names


def _numbered(n: int) -> list[str]:
    return [str(k) for k in range(n)]


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _note_missing(table: Table) -> list[str]:
    """Note how many values are missing, words for no value among numbers included."""
    gaps = {name: counts.total() for name, counts in table.gaps.items()}
    gaps |= {name: _absent(table, name) for name in table.spellings}
    said = [f"{name} ({gaps[name]})" for name in table.names if gaps.get(name)]
    empty = [f"column {name!r} has no values at all" for name in table.names if gaps.get(name) == table.n_rows]
    return empty + ([f"missing values: {', '.join(said)}"] if said else [])


def _absent(table: Table, name: str) -> int:
    """Count the values that are missing among numbers; a plain number is not."""
    values, cells = table.columns[name], table.kept(name)
    if isinstance(cells, Written) and cells.numbers is not None:
        values = values[cells.numbers.odd]
    return int(np.isnan(values).sum())


def _note_gaps(name: str, table: Table) -> list[str]:
    """Note a word for "no value" that is frequent among other words: perhaps it is one of them."""
    n = table.n_rows
    (word, times), *_ = table.gaps.get(name, Counter()).most_common() or [("", 0)]
    if not word.isalpha() or not _OFTEN * n <= times < n:
        return []
    return [
        f"column {name!r}: {word!r} in {times:,} of {n:,} rows is read as missing; take it out of missing=(...) if it "
        "is a value"
    ]


def _note_stray_words(name: str, column: Written, rows: Rows, *, header: bool) -> list[str]:
    """Note a column of text that nearly is one of numbers: a token for "missing" may have been overlooked."""
    sample = [is_number(cell) for cell in column.head(200) if cell is not None]
    # A look at the head first: trying to read each word of a long column as a number is slow.
    if sum(sample) * 2 <= len(sample):
        return []
    words = column.rows_of(lambda cell: cell is not None and not is_number(cell))
    stray = np.union1d(words, column.rows_with_comma())
    if not 0 < len(stray) * 10 <= len(column):
        return []
    (first,) = column.at(stray[:1])
    return [
        f"column {name!r} is text because of {len(stray)} of {len(column)} cells, the first "
        f"{first!r} in line {rows.line_of(int(stray[0]) + header)}: add it to missing=(...) if it means no value"
    ]


def resolve_target(target: str | int, names: list[str]) -> str:
    """Return the name of the column that a name or a position means.

    Examples
    --------
    >>> resolve_target("-1", ["size", "price"])
    'price'
    """
    if isinstance(target, str) and target in names:
        return target
    if (position := position_in(target, len(names))) is not None:
        return names[position]
    near = difflib.get_close_matches(str(target), names)
    hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise DataError(
        f"load_csv: expected the target to be a column, got {target!r}. {hint}"
        f"Columns: {_listed(names)}; or pass a position, {-len(names)} to {len(names) - 1}."
    )
