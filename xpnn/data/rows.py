"""The rows of a file of text, in columns: cut a block at a time where that is sure, and else the careful way."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..files import PathLike, existing_file, read_chunks, read_content
from .blocks import cut_blocks, part_of
from .cells import CellReader, as_utf8, decode, encoding_of, find_preamble, guess_delimiter, named, say_left_out
from .cutting import IrregularError
from .written import Written, WrittenBuilder

__all__ = ["Rows", "columns_of", "read_rows"]

_DELIMITER_NAMES = {";": "semicolon", "\t": "tab", "|": "bar"}
_HEAD = 1 << 20  # bytes


class _Lines(Protocol):
    def line_of(self, row: int) -> int: ...


@dataclass
class Rows:
    """The cells of a table, in columns: stripped text, a header included."""

    columns: list[Written]
    lines: _Lines | None = field(default=None, repr=False)

    def line_of(self, row: int) -> int:
        """Return the number of the line in the file in which a row ends."""
        return row + 1 if self.lines is None else self.lines.line_of(row)


@dataclass
class _Text:
    """A file of text, and how it is written."""

    path: PathLike
    delimiter: str
    known: Collection[str]
    encoding: str | None
    comment: str
    notes: list[str] = field(default_factory=list)

    def begin(self, head: str) -> tuple[str, int, int]:
        """Find what stands above the table, and the delimiter; return it, and the characters and lines to leave out."""
        preamble = find_preamble(head, self.comment)
        self.notes += preamble.notes
        delimiter = self.delimiter
        if delimiter == "auto":
            delimiter = preamble.delimiter or guess_delimiter(head[preamble.characters :], self.known, self.comment)
            if delimiter != "," and preamble.delimiter is None:
                self.notes.append(f"the delimiter is a {_DELIMITER_NAMES[delimiter]}")
        return delimiter, preamble.characters, preamble.lines


def read_rows(
    path: PathLike, delimiter: str, known: Collection[str] = (), *, encoding: str | None = None, comment: str = ""
) -> tuple[Rows, list[str]]:
    """Read the cells of a CSV file, a delimiter "auto" found out; return them, and in sentences what was decided.

    `known` are names of columns that the first row may hold.
    """
    codec = None if encoding is None else named(encoding)
    text = _Text(path, delimiter, known, codec, comment)
    try:
        return _fast(text), text.notes
    except (IrregularError, UnicodeDecodeError):
        text.notes.clear()
        return _careful(text), text.notes


# -- the fast way ---------------------------------------------------------------------------------------------------
def _fast(text: _Text) -> Rows:
    """Cut a file while it is read; raise `IrregularError` where that is not sure to be right."""
    file = existing_file(text.path, "load_csv")
    with contextlib.closing(read_chunks(file, "load_csv")) as source:
        first = next(source, b"")
        codec = text.encoding or encoding_of(first)
        if codec not in ("utf-8-sig", "utf-8"):
            text.notes.append(f"the file is in {codec if text.encoding else codec[:6].rstrip('-').upper()}")
        chunks = as_utf8(_with_first(first, source), codec)
        begin = b""
        while len(begin) < _HEAD and (chunk := next(chunks, None)) is not None:
            begin += chunk
        head = begin[: begin.rfind(b"\n") + 1].decode() if len(begin) >= _HEAD else begin.decode()
        delimiter, characters, lines = text.begin(head)
        width = _width(head[characters:], delimiter, text.comment, whole=len(begin) < _HEAD)
        rest = _with_first(begin[len(head[:characters].encode()) :], chunks)
        size = file.stat().st_size
        cut = cut_blocks(rest, delimiter, width, lines=lines, comment=text.comment, size=size)
    text.notes += _drop_empty(cut.columns)
    return Rows(cut.columns, cut)


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from rest


def _width(head: str, delimiter: str, comment: str, *, whole: bool) -> int:
    """Return the number of cells in the first row; raise `IrregularError` if it is not sure to be whole."""
    source = io.StringIO(head, newline="")
    lines = (line for line in source if not comment or not line.startswith(comment))
    try:
        for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True):
            if len(row) > 1 or (row and row[0].strip()):
                if not whole and source.tell() >= len(head):
                    break
                return len(row)
    except (csv.Error, TypeError, ValueError):
        pass
    raise IrregularError


def _drop_empty(columns: list[Written]) -> list[str]:
    """Cut off the last columns that have neither a name nor a value: each row ends in delimiters."""
    last = width = len(columns)
    while width > 1 and not columns[width - 1].has_text:
        width -= 1
    del columns[width:]
    return say_left_out(last - width)


# -- the careful way ------------------------------------------------------------------------------------------------
def _careful(text: _Text) -> Rows:
    """Cut the whole text by Python's `csv`."""
    content, encoding = decode(read_content(text.path, "load_csv"), text.path, text.encoding)
    if encoding not in ("UTF-8", "utf-8"):
        text.notes.append(f"the file is in {encoding}")
    delimiter, characters, lines = text.begin(content)
    reader = CellReader(content[characters:], delimiter, text.path, lines, text.comment)
    rows, notes = reader.rows()
    text.notes += notes
    return Rows(columns_of(rows), reader)


def columns_of(rows: Sequence[Sequence[str]]) -> list[Written]:
    """Return rows of equally many cells in columns of stripped text.

    Examples
    --------
    >>> [column.tolist() for column in columns_of([["a ", "1"], ["b", "2"]])]
    [['a', 'b'], ['1', '2']]
    """
    columns = []
    for cells in zip(*rows, strict=True):
        builder = WrittenBuilder()
        builder.add(part_of(list(map(str.strip, cells))))
        columns.append(builder.build())
    return columns
