"""Tables from CSV files: cells as they are written, a decision on what each column is, and a note on each decision."""

from __future__ import annotations

import contextlib
import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError, OptionError
from ..files import PathLike, read_content
from .cells import CellReader, decode, guess_delimiter
from .columns import as_exact, as_keys, is_number
from .header import header_names, is_header, position_in
from .kinds import Kind, decide
from .spelling import Spelling

__all__ = ["MISSING", "Table", "load_csv"]

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "None")

_DELIMITER_NAMES = {";": "semicolon", "\t": "tab", "|": "bar"}
_NAMED = 20  # columns listed in a note or a message
_OFTEN = 0.05  # share of rows from which a word that means no value may be a value


@dataclass(eq=False, repr=False)
class Table:
    """The columns of a CSV file.

    Attributes
    ----------
    names : list of str
        Names of the columns, in the order of the file.
    columns : dict of str to ndarray of shape (n_rows,)
        float64 with NaN for missing cells where the column holds numbers; else objects, stripped strings with None for
        missing cells.
    target_name : str or None
        The column to predict.
    notes : list of str
        What was decided while reading, one sentence each.
    cells : dict of str to ndarray of shape (n_rows,)
        The same columns as they are written: stripped strings, None for missing cells.  A fitted encoder reads these,
        so that what it makes of a row does not depend on what its file made of the column.
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
    columns: dict[str, npt.NDArray[Any]]
    target_name: str | None = None
    notes: list[str] = field(default_factory=list)
    cells: dict[str, npt.NDArray[Any]] = field(default_factory=dict, repr=False)
    spellings: dict[str, Spelling] = field(default_factory=dict)
    header: bool = True
    gaps: dict[str, Counter[str]] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.names[:8])) + (", ..." if len(self.names) > 8 else "")
        return f"Table({self.n_rows} rows, {len(self.names)} columns: {shown}; target={self.target_name!r})"

    @property
    def n_rows(self) -> int:
        """Number of rows, the header not counted."""
        return len(self.columns[self.names[0]])

    @property
    def features(self) -> list[str]:
        """Names of all columns but the target."""
        return [name for name in self.names if name != self.target_name]

    @property
    def y(self) -> npt.NDArray[Any] | None:
        """The target column, of shape (n_rows,), or None without a target."""
        return None if self.target_name is None else self.columns[self.target_name]

    @property
    def written(self) -> dict[str, npt.NDArray[Any]]:
        """The columns as they are written, for what was fitted before; those of no file as they are."""
        return {name: self.cells.get(name, self.columns[name]) for name in self.names}

    def read(self, categorical: Collection[str] = ()) -> dict[str, npt.NDArray[Any]]:
        """Return the columns with the categories among them as text, in which each number has one form."""
        keys = {name: as_keys(self.cells[name]) for name in categorical if name in self.spellings}
        return {**self.columns, **keys}

    def missing_words(self, name: str) -> Counter[str]:
        """Return the words that stand for no value among the numbers of a column, beside its gaps, with their rows."""
        if name not in self.spellings:
            return Counter()
        absent = self.cells[name][np.isnan(self.columns[name])]
        return Counter(cell for cell in absent.tolist() if cell is not None)

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
    missing: Collection[str] = MISSING,
    decimal: Literal[".", ","] | None = None,
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
    like: Table | None = None,
) -> Table:
    """Read a CSV file, plain or gzip, in UTF-8, or in UTF-16 or UTF-32.

    A column holds numbers if each of its cells does, or is missing; also if they are written with a sign, a decimal
    comma or separators of thousands, where all its cells together leave no doubt.  Numbers that are written like codes
    (``01``, ``12e5678``, whole numbers beyond 2**53) are text.

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
        If `header` or `delimiter` is none of the above.

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
    content = read_content(path, "load_csv")
    text, encoding = decode(content, path)
    notes = [] if encoding == "UTF-8" else [f"the file is in {encoding}"]
    if delimiter == "auto":
        delimiter = guess_delimiter(text, () if like is None else like.names)
        if delimiter != ",":
            notes.append(f"the delimiter is a {_DELIMITER_NAMES[delimiter]}")
    reader = CellReader(text, delimiter, path)
    rows, left_out = reader.rows()
    notes += left_out
    absent, schema = frozenset(missing), _Schema(categorical, numeric, decimal, like)
    if header == "auto":
        header = is_header(rows, absent, target, like.names if like is not None and like.header else ())
    names = _take_names(rows, like, path, notes, header=header)
    table = Table(names, {}, None if target is None else _resolve_target(target, names), notes, header=header)
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        words = list(map(str.strip, column))
        if absent.isdisjoint(words):
            cells = np.array(words, dtype=object)
        else:
            table.gaps[name] = Counter(filter(absent.__contains__, words))
            cells = np.array([None if word in absent else word for word in words], dtype=object)
        kind = schema.kind(name, cells)
        table.cells[name], table.columns[name] = cells, kind.values
        if kind.spelling is not None:
            table.spellings[name] = kind.spelling
            notes += kind.notes
        elif schema.asks(name):
            notes += _note_gaps(name, table)
            notes += _note_stray_words(name, cells, reader, header=header) or kind.notes
    notes += _note_missing(table)
    return table


def _take_names(
    rows: list[list[str]], like: Table | None, path: PathLike, notes: list[str], *, header: bool
) -> list[str]:
    """Take the header, if there is one, off `rows`; return the names of the columns."""
    if not header:
        n = len(rows[0])
        known = () if like is None else (like.names, like.features)
        for names in known:
            if len(names) == n and names != _numbered(n):
                notes.append(f"no header row found: columns are named in the order of those before: {_listed(names)}")
                return list(names)
        notes.append(f"no header row found: columns are numbered 0..{n - 1}")
        return _numbered(n)
    names = header_names(rows[0], path)
    if len(rows) == 1:
        raise DataError(
            f"load_csv: expected rows below the header of {path}, got none. Pass header=False if the only row is data."
        )
    del rows[0]
    notes.append(f"header row found: {_listed(names)}")
    return names


def _numbered(n: int) -> list[str]:
    return [str(k) for k in range(n)]


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


class _Schema(NamedTuple):
    """What is known of the columns before their cells are looked at."""

    categorical: Collection[str]
    numeric: Collection[str]
    decimal: Literal[".", ","] | None
    like: Table | None

    def asks(self, name: str) -> bool:
        """Whether the cells decide."""
        return name not in self.categorical and (self.like is None or name not in self.like.columns)

    def kind(self, name: str, cells: npt.NDArray[Any]) -> Kind:
        """Tell what a column is."""
        if self.like is None or name not in self.like.columns:
            chosen = {"categorical": name in self.categorical, "numeric": name in self.numeric}
            return decide(name, cells, decimal=self.decimal, **chosen)
        spelling = self.like.spellings.get(name)
        if spelling is not None:
            with contextlib.suppress(DataError):  # whoever reads it as numbers says which row is none
                return Kind(spelling.parse(cells, name), spelling)
        return Kind(cells)


def _note_missing(table: Table) -> list[str]:
    """Note how many values are missing, words for no value among numbers included."""
    gaps = {name: counts.total() for name, counts in table.gaps.items()}
    gaps |= {name: int(np.isnan(table.columns[name]).sum()) for name in table.spellings}
    said = [f"{name} ({gaps[name]})" for name in table.names if gaps.get(name)]
    empty = [f"column {name!r} has no values at all" for name in table.names if gaps.get(name) == table.n_rows]
    return empty + ([f"missing values: {', '.join(said)}"] if said else [])


def _note_gaps(name: str, table: Table) -> list[str]:
    """Note a word for "no value" that is frequent among other words: perhaps it is one of them."""
    n = len(table.cells[name])
    (word, times), *_ = table.gaps.get(name, Counter()).most_common() or [("", 0)]
    if not word.isalpha() or not _OFTEN * n <= times < n:
        return []
    return [
        f"column {name!r}: {word!r} in {times:,} of {n:,} rows is read as missing; take it out of missing=(...) if it "
        "is a value"
    ]


def _note_stray_words(name: str, cells: npt.NDArray[Any], reader: CellReader, *, header: bool) -> list[str]:
    """Note a column of text that nearly is one of numbers: a token for "missing" may have been overlooked."""
    sample = [is_number(cell) for cell in cells[:200] if cell is not None]
    # A look at the head first: trying to read each cell of a long column of words as a number is slow.
    if sum(sample) * 2 <= len(sample):
        return []
    stray = [k for k, cell in enumerate(cells) if cell is not None and not is_number(cell)]
    if not 0 < len(stray) * 10 <= len(cells):
        return []
    return [
        f"column {name!r} is text because of {len(stray)} of {len(cells)} cells, the first "
        f"{cells[stray[0]]!r} in line {reader.line_of(stray[0] + header)}: add it to missing=(...) if it means no value"
    ]


def _resolve_target(target: str | int, names: list[str]) -> str:
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
