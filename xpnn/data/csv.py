"""Tables from CSV files: numbers and words kept apart, gaps found, and a note on each decision."""

from __future__ import annotations

import csv
import difflib
import io
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ..errors import DataError, FileFormatError, OptionError
from ..files import PathLike, read_content
from .columns import is_number

__all__ = ["MISSING", "Table", "load_csv"]

MISSING = ("", "?", "NA", "N/A", "NaN", "nan", "null", "None")

# The comma last: where it cuts no better than another, it is a decimal comma or part of a text.
_DELIMITERS = ("\t", ";", "|", ",")
_DELIMITER_NAMES = {";": "semicolon", "\t": "tab", "|": "bar"}
_SAMPLE = 50
_NAMED = 20  # columns listed in a note or a message


@dataclass(eq=False, repr=False)
class Table:
    """The columns of a CSV file.

    Attributes
    ----------
    names : list of str
        Names of the columns, in the order of the file.
    columns : dict of str to ndarray of shape (n_rows,)
        float64 with NaN for missing cells where every present cell is a number; else objects, stripped
        strings with None for missing cells.
    target_name : str or None
        The column to predict.
    notes : list of str
        What was decided while reading, one sentence each.

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


def load_csv(
    path: PathLike,
    *,
    target: str | int | None = None,
    header: bool | Literal["auto"] = "auto",
    delimiter: str = "auto",
    missing: Collection[str] = MISSING,
) -> Table:
    """Read a CSV file, plain or gzip, in UTF-8.

    Parameters
    ----------
    path : path
        The file.
    target : str or int, optional
        The column to predict: its name, or its position (from 0; negative from the end), also as a string.
    header : bool or "auto"
        Whether the first row names the columns.  "auto": it does if none of its cells is a number or missing
        and no two are equal; the name of a column of row numbers, the first, may be missing.  Without a header the
        columns are named "0", "1", ...
    delimiter : str
        One character, or "auto": of comma, semicolon, tab and bar the one that cuts the first rows into
        equally many cells.
    missing : collection of str
        Cells that mean "no value", compared after spaces at both ends are cut.

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
        If the file is not UTF-8 text, or quotes are not closed.
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
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"load_csv: expected UTF-8 text in {path}, got byte 0x{content[error.start]:02x} at position "
            f"{error.start}. Save the table as CSV in UTF-8."
        ) from error
    notes: list[str] = []
    if delimiter == "auto":
        delimiter = _guess_delimiter(text)
        if delimiter != ",":
            notes.append(f"the delimiter is a {_DELIMITER_NAMES[delimiter]}")
    rows, lines = _read_rows(text, delimiter, path)
    absent = frozenset(missing)
    names = _take_header(rows, header, absent, path, notes)
    lines = lines[len(lines) - len(rows) :]  # a header was taken off the rows alone
    columns, gaps = {}, {}
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        columns[name], gaps[name] = _column(name, cells, lines, absent, notes)
    if any(gaps.values()):
        notes.append("missing values: " + ", ".join(f"{name} ({count})" for name, count in gaps.items() if count))
    return Table(names, columns, None if target is None else _resolve_target(target, names), notes)


def _guess_delimiter(text: str) -> str:
    """Choose the delimiter under which most sample rows have as many cells as the first."""
    sample = [line for line in text[:100_000].splitlines() if line.strip()][:_SAMPLE]
    best, most_alike = ",", 0
    for delimiter in _DELIMITERS:
        counts = [len(row) for row in csv.reader(sample, delimiter=delimiter, skipinitialspace=True)]
        alike = counts.count(counts[0]) if counts and counts[0] > 1 else 0
        if alike > most_alike:
            best, most_alike = delimiter, alike
    return best


def _read_rows(text: str, delimiter: str, path: PathLike) -> tuple[list[list[str]], list[int]]:
    """Cut the text into rows of equally many cells; with each, the number of its (last) line in the file."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        for row in reader:
            if rows and len(row) == len(rows[0]):
                pass
            elif not row or (len(row) == 1 and not row[0].strip()):
                continue
            elif rows:
                raise DataError(
                    f"load_csv: expected {len(rows[0])} cells in line {reader.line_num} of {path}, "
                    f"got {len(row)}. Mend it, or put cells that contain {delimiter!r} in double quotes."
                )
            rows.append(row)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise FileFormatError(
            f"load_csv: expected CSV in {path}, got a mistake that ends in line {reader.line_num} ({error}). "
            f"Look for a double quote that is not closed, or is not doubled inside a quoted cell."
        ) from error
    if not rows:
        raise DataError(f"load_csv: expected rows in {path}, got an empty file. Check how it was written.")
    return rows, lines


def _take_header(
    rows: list[list[str]], header: bool | Literal["auto"], missing: frozenset[str], path: PathLike, notes: list[str]
) -> list[str]:
    """Take the header, if there is one, off `rows`; return the names of the columns."""
    cells = [cell.strip() for cell in rows[0]]
    twice = [cell for cell, count in Counter(cells).items() if count > 1 and cell]
    if header == "auto":
        # A frame written with its index: the row numbers have no name.
        named = cells[1:] if not cells[0] and _are_row_numbers([row[0] for row in rows[1:]]) else cells
        wordy = not any(cell in missing or is_number(cell) for cell in named)
        # Words over numbers are names, also if one occurs twice: then it is an error and not a row of data.
        header = wordy and (not twice or (len(rows) > 1 and any(is_number(c.strip()) for c in rows[1])))
    if not header:
        notes.append(f"no header row found: columns are numbered 0..{len(cells) - 1}")
        return [str(k) for k in range(len(cells))]
    if twice:
        at = ", ".join(str(k) for k, cell in enumerate(cells) if cell == twice[0])
        raise DataError(
            f"load_csv: expected different names in the header of {path}, got {twice[0]!r} in columns {at}. "
            f"Rename one, or pass header=False if the first row is data."
        )
    if len(rows) == 1:
        raise DataError(
            f"load_csv: expected rows below the header of {path}, got none. Pass header=False if the only row is data."
        )
    del rows[0]
    names = [cell or (str(k) if str(k) not in cells else f"unnamed {k}") for k, cell in enumerate(cells)]
    notes.append(f"header row found: {_listed(names)}")
    return names


def _are_row_numbers(cells: Sequence[str]) -> bool:
    """Whether cells hold whole numbers, each another one."""
    numbers = [cell.strip() for cell in cells]
    return bool(numbers) and all(map(str.isdecimal, numbers)) and len(set(numbers)) == len(numbers)


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _column(
    name: str, cells: Sequence[str], lines: Sequence[int], missing: frozenset[str], notes: list[str]
) -> tuple[npt.NDArray[Any], int]:
    """Return the column as numbers if all its present cells are, else as text; and how many are missing."""
    stripped = list(map(str.strip, cells))
    n_missing = sum(map(missing.__contains__, stripped))
    if n_missing == len(stripped):
        notes.append(f"column {name!r} has no values at all")
    try:
        numbers = [math.nan if cell in missing else float(cell) for cell in stripped]
    except ValueError:
        pass
    else:
        if not any("_" in cell for cell in stripped if cell not in missing):
            return np.array(numbers, dtype=np.float64), n_missing
    _note_stray_words(name, stripped, lines, missing, notes)
    return np.array([None if cell in missing else cell for cell in stripped], dtype=object), n_missing


def _note_stray_words(
    name: str, cells: Sequence[str], lines: Sequence[int], missing: frozenset[str], notes: list[str]
) -> None:
    """Note a column of text that nearly is one of numbers: a token for "missing" may have been overlooked."""
    sample = [is_number(cell) for cell in cells[:200] if cell not in missing]
    # A look at the head first: trying to read each cell of a long column of words as a number is slow.
    if sum(sample) * 2 <= len(sample):
        return
    stray = [k for k, cell in enumerate(cells) if cell not in missing and not is_number(cell)]
    if len(stray) * 10 <= len(cells):
        notes.append(
            f"column {name!r} is text because of {len(stray)} of {len(cells)} cells, the first "
            f"{cells[stray[0]]!r} in line {lines[stray[0]]}: add it to missing=(...) if it means no value"
        )


def _resolve_target(target: str | int, names: list[str]) -> str:
    if isinstance(target, str) and target in names:
        return target
    try:
        return names[int(target)]
    except (ValueError, IndexError):
        near = difflib.get_close_matches(str(target), names)
        hint = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise DataError(
            f"load_csv: expected the target to be a column, got {target!r}. {hint}"
            f"Columns: {_listed(names)}; or pass a position, {-len(names)} to {len(names) - 1}."
        ) from None
