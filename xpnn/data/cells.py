"""From the bytes of a CSV file to rows of equally many cells: encodings, delimiters, quotes, line ends."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import itertools
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import DataError, FileFormatError, OptionError
from ..files import PathLike

__all__ = [
    "CellReader",
    "Preamble",
    "as_utf8",
    "decode",
    "encoding_of",
    "find_preamble",
    "guess_delimiter",
    "named",
    "say_left_out",
]

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
def named(encoding: str) -> str:
    """Return the name of an encoding that Python knows, or say which are usual.

    Examples
    --------
    >>> named("latin1"), named("UTF8")
    ('iso8859-1', 'utf-8')
    """
    try:
        known = codecs.lookup(encoding)
        "".encode(known.name)
    except (LookupError, ValueError):
        raise OptionError(
            f"load_csv: expected the name of an encoding, got {encoding!r}. Usual are utf-8, cp1252 (Windows), "
            "latin-1, mac-roman, shift_jis, gb18030 and utf-16."
        ) from None
    return known.name


def encoding_of(head: bytes) -> str:
    """Tell from its first bytes how a file is encoded: UTF-8, or UTF-16 or UTF-32 with or without a mark.

    Examples
    --------
    >>> encoding_of("a,ä".encode("utf-16-le")), encoding_of(b"a,b")
    ('utf-16-le', 'utf-8-sig')
    """
    return next((name for mark, name in _MARKS if head.startswith(mark)), None) or _unmarked(head)


def decode(content: bytes, path: PathLike, encoding: str | None = None) -> tuple[str, str]:
    """Return the text of a file, and the name of its encoding: the one that is given, or what `encoding_of` tells.

    Examples
    --------
    >>> decode("a,ä".encode("utf-16-le"), "table.csv")
    ('a,ä', 'UTF-16')
    """
    codec = encoding or encoding_of(content)
    name = codec if encoding else codec[:6].rstrip("-").upper()
    try:
        text = content.decode("utf-8-sig" if codec == "utf-8" else codec)
    except UnicodeDecodeError as error:
        hint = "Save the table as CSV in UTF-8."
        if name == "UTF-8":
            hint = "Save the table as CSV in UTF-8, or pass encoding='cp1252' if it comes from Windows."
        raise FileFormatError(
            f"load_csv: expected {name} text in {path}, got byte 0x{content[error.start]:02x} at position "
            f"{error.start}. {hint}"
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


def as_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    """Yield text in UTF-8, without a byte order mark; a UnicodeDecodeError where it is none in its encoding.

    Text in UTF-8 is not looked at.

    Examples
    --------
    >>> b"".join(as_utf8(["ä,b".encode("latin-1")], "latin-1")).decode()
    'ä,b'
    """
    if encoding in ("utf-8", "utf-8-sig"):
        first = True
        for chunk in chunks:
            yield chunk.removeprefix(codecs.BOM_UTF8) if first else chunk
            first = False
        return
    decoder = codecs.getincrementaldecoder(encoding)()
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()


# -- what stands above a table ------------------------------------------------------------------------------------
class Preamble(NamedTuple):
    """What stands above a table: characters and lines to leave out, the delimiter if it is told there, and notes."""

    characters: int
    lines: int
    delimiter: str | None
    notes: tuple[str, ...]


_SEP = re.compile(r"\ufeff?sep=(.)[\t,; ]*\r?\n", re.IGNORECASE)


def find_preamble(text: str, comment: str = "") -> Preamble:
    """Find what spreadsheets and programs write above a table: ``sep=;``, and lines of comments.

    Lines that begin with ``#`` are comments if they are not cut into as many cells as the line below them; those that
    begin with `comment` are left out wherever they stand, and not here.

    Examples
    --------
    >>> find_preamble("sep=;\\na;b\\n").delimiter
    ';'
    >>> find_preamble("# made by hand\\na,b\\n1,2\\n").notes
    ('the first line, which begins with #, is left out',)
    """
    if found := _SEP.match(text):
        return Preamble(found.end(), 1, found[1], (f"the first line says sep={found[1]}",))
    if comment or not text.startswith("#"):
        return Preamble(0, 0, None, ())
    head = text[:_HEAD].splitlines(keepends=True)
    comments = list(itertools.takewhile(lambda line: line.startswith("#"), head))
    below = head[len(comments)] if len(comments) < len(head) else ""
    if not below.strip() or any(comments[-1].count(d) == below.count(d) > 0 for d in _DELIMITERS):
        return Preamble(0, 0, None, ())
    count = len(comments)
    which = "the first line, which begins" if count == 1 else f"the first {count} lines, which begin"
    is_are = "is" if count == 1 else "are"
    return Preamble(sum(map(len, comments)), count, None, (f"{which} with #, {is_are} left out",))


# -- rows ---------------------------------------------------------------------------------------------------------
def guess_delimiter(text: str, known: Collection[str] = (), comment: str = "") -> str:
    """Choose the delimiter that cuts the most `known` names out of the first row, then the most rows like the first.

    Lines that begin with `comment` are no rows.
    """
    lines = (line for line in text[:_HEAD].splitlines() if not (comment and line.startswith(comment)))
    sample = [line for line in lines if line.strip()][:_SAMPLE]
    best, most = ",", (0, 0)
    for delimiter in _DELIMITERS:
        rows = list(csv.reader(sample, delimiter=delimiter, skipinitialspace=True))
        widths = [len(row) for row in rows]
        alike = widths.count(widths[0]) if widths and widths[0] > 1 else 0
        names = len({cell.strip() for cell in rows[0]} & set(known)) if alike else 0
        if (names, alike) > most:
            best, most = delimiter, (names, alike)
    return best


class _Lines:
    """The lines of a text, counted, without those that begin as comments do where a row begins."""

    def __init__(self, source: io.StringIO, before: int, comment: str) -> None:
        self.number = before
        self._source, self._comment, self._within = source, comment, False

    def counted(self) -> Iterator[str]:
        """Yield all lines."""
        for line in self._source:
            self.number += 1
            yield line

    def __iter__(self) -> Iterator[str]:
        for line in self.counted():
            if self._within or not line.startswith(self._comment):
                self._within = True
                yield line

    def begun(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """Yield the rows that are read from these lines; behind each of them, a line begins a row."""
        for row in reader:
            self._within = False
            yield row


@dataclass
class CellReader:
    """The text of a file, and how it is cut into cells."""

    text: str
    delimiter: str
    path: PathLike
    before: int = 0  # lines of the file
    comment: str = ""  # with what a line begins that is left out

    def rows(self) -> tuple[list[list[str]], list[str]]:
        """Return the rows, each of as many cells, without blank lines; and in sentences what was left out."""
        with _any_length(self.text):
            lines = self._lines()
            try:
                rows = list(self._reader(lines))
            except csv.Error as error:
                raise FileFormatError(
                    f"load_csv: expected CSV in {self.path}, got a mistake that ends in line {lines.number} "
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
            lines, width, before = self._lines(), 0, -1
            for cells in self._reader(lines):
                if not _is_blank(cells, width):
                    width, before = width or len(cells), before + 1
                if before == row:
                    break
        return lines.number

    def _lines(self) -> _Lines:
        return _Lines(io.StringIO(self.text, newline=""), self.before, self.comment)

    def _reader(self, lines: _Lines) -> Iterator[list[str]]:
        reader = csv.reader(
            lines if self.comment else lines.counted(), delimiter=self.delimiter, skipinitialspace=True, strict=True
        )
        if not self.comment:
            return reader
        return lines.begun(reader)

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
    return say_left_out(last - width)


def say_left_out(count: int) -> list[str]:
    """Say in sentences how many columns were left out."""
    if not count:
        return []
    what = "the last column has" if count == 1 else f"the last {count:,} columns have"
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
