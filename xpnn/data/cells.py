"""From the bytes of a CSV file to rows of equally many cells: encodings, delimiters, quotes, line ends."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from ..errors import DataError, FileFormatError
from ..files import PathLike

__all__ = ["CellReader", "decode", "guess_delimiter"]

# The comma last: where it cuts no better than another, it is a decimal comma or part of a text.
_DELIMITERS = ("\t", ";", "|", ",")
_SAMPLE, _HEAD = 50, 100_000  # lines and characters from which the delimiter is told

# The longer first: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


# -- encodings ----------------------------------------------------------------------------------------------------
def decode(content: bytes, path: PathLike) -> tuple[str, str]:
    """Return the text of a file, and the name of its encoding: UTF-8, or UTF-16 or UTF-32 with or without a mark.

    Examples
    --------
    >>> decode("a,ä".encode("utf-16-le"), "table.csv")
    ('a,ä', 'UTF-16')
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), None) or _unmarked(content)
    name = encoding[:6].rstrip("-").upper()
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"load_csv: expected {name} text in {path}, got byte 0x{content[error.start]:02x} at position "
            f"{error.start}. Save the table as CSV in UTF-8."
        ) from error
    if (nul := text.find("\0")) >= 0:
        raise FileFormatError(
            f"load_csv: expected text in {path}, got a NUL character at position {nul}. If it is a table, save it as "
            "CSV in UTF-8."
        )
    return text, name


def _unmarked(content: bytes) -> str:
    """Tell an encoding by its NUL bytes, which stand beside each character of plain ASCII in UTF-16 and UTF-32."""
    head = content[:4096]
    if 0 not in head:
        return "utf-8-sig"
    places = "".join("0" if 2 * head[k::4].count(0) > len(head[k::4]) else "x" for k in range(4))
    return {"x000": "utf-32-le", "000x": "utf-32-be", "x0x0": "utf-16-le", "0x0x": "utf-16-be"}.get(places, "utf-8-sig")


# -- rows ---------------------------------------------------------------------------------------------------------
def guess_delimiter(text: str, known: Collection[str] = ()) -> str:
    """Choose the delimiter that cuts the most `known` names out of the first row, then the most rows like the first."""
    sample = [line for line in text[:_HEAD].splitlines() if line.strip()][:_SAMPLE]
    best, most = ",", (0, 0)
    for delimiter in _DELIMITERS:
        rows = list(csv.reader(sample, delimiter=delimiter, skipinitialspace=True))
        widths = [len(row) for row in rows]
        alike = widths.count(widths[0]) if widths and widths[0] > 1 else 0
        names = len({cell.strip() for cell in rows[0]} & set(known)) if alike else 0
        if (names, alike) > most:
            best, most = delimiter, (names, alike)
    return best


@dataclass
class CellReader:
    """The text of a file, and how it is cut into cells."""

    text: str
    delimiter: str
    path: PathLike

    def rows(self) -> tuple[list[list[str]], list[str]]:
        """Return the rows, each of as many cells, without blank lines; and in sentences what was left out."""
        with _any_length(self.text):
            reader = self._reader()
            try:
                rows = list(reader)
            except csv.Error as error:
                raise FileFormatError(
                    f"load_csv: expected CSV in {self.path}, got a mistake that ends in line {reader.line_num} "
                    f"({error}). Look for a double quote that is not closed, or is not doubled inside a quoted cell."
                ) from error
        if len(set(map(len, rows))) != 1 or not any(cell.strip() for cell in rows[0]):
            rows = _without_blank(rows)
        if not rows:
            raise DataError(f"load_csv: expected rows in {self.path}, got an empty file. Check how it was written.")
        return rows, [*self._even_out(rows), *_drop_empty(rows)]

    def line_of(self, row: int) -> int:
        """Return the number of the line in the file where a row of `rows` ends."""
        with _any_length(self.text):
            reader, width, before = self._reader(), 0, -1
            for cells in reader:
                if not _is_blank(cells, width):
                    width, before = width or len(cells), before + 1
                if before == row:
                    break
        return int(reader.line_num)

    def _reader(self) -> Any:
        source = io.StringIO(self.text, newline="")
        return csv.reader(source, delimiter=self.delimiter, skipinitialspace=True, strict=True)

    def _even_out(self, rows: list[list[str]]) -> list[str]:
        """Cut empty cells off ends until all rows are as long as the first, which is cut where others are shorter."""
        widths = set(map(len, rows))
        if len(widths) == 1:
            return []
        width = len(rows[0])
        while width > max(min(widths), 1) and not rows[0][width - 1].strip():
            width -= 1
        cut = 0
        for k, row in enumerate(rows):
            if len(row) < width or any(cell.strip() for cell in row[width:]):
                raise DataError(
                    f"load_csv: expected {width} cells in line {self.line_of(k)} of {self.path}, got {len(row)}. "
                    f"Mend it, or put cells that contain {self.delimiter!r} in double quotes."
                )
            cut += len(row) > width
            del row[width:]
        return [f"{cut:,} of {len(rows):,} rows end in empty cells that belong to no column: left out"]


def _drop_empty(rows: list[list[str]]) -> list[str]:
    """Cut off the last columns that have neither a name nor a value: each row ends in delimiters."""
    last = width = len(rows[0])
    while width > 1 and not any(row[width - 1].strip() for row in rows):
        width -= 1
    if width == last:
        return []
    for row in rows:
        del row[width:]
    what = "the last column has" if last - width == 1 else f"the last {last - width:,} columns have"
    return [f"{what} neither a name nor any value: left out"]


def _is_blank(row: list[str], width: int) -> bool:
    """Whether a row is a blank line; in a column by itself, blanks below its first cell are a missing value."""
    return not row or (len(row) == 1 and width != 1 and not row[0].strip())


def _without_blank(rows: list[list[str]]) -> list[list[str]]:
    first = next((k for k, row in enumerate(rows) if not _is_blank(row, 0)), len(rows))
    return [row for row in rows[first:] if not _is_blank(row, len(rows[first]))]


@contextlib.contextmanager
def _any_length(text: str) -> Iterator[None]:
    """Let cells be as long as the text; the limit is of all of Python's `csv`."""
    limit = csv.field_size_limit(min(len(text) + 1, sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(limit)
