"""Text cut into columns a block at a time, by array work: where delimiters and line ends stand, and what is between.

What this module does not read exactly as Python's `csv` does, it does not read: it raises `IrregularError`, and the
text is cut the careful way (`cells.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..accel.native.cutter import cutter_for
from .cutting import CompiledBlocks, Found, IrregularError, decoded
from .decimals import MARGIN, Bytes, Decimals, Rows, kept, read_alike, read_decimals, windows_of
from .ordered import in_order
from .written import Numbers, Part, Written, WrittenBuilder

__all__ = ["Cut", "cut_blocks", "part_of"]

_BLOCK, _LARGEST = 1 << 20, 32 << 20  # bytes
_ROWS = 1 << 15  # in a block, of long rows as of short ones: with fewer, threads wait for each other more
_KEPT = 31 << 20  # bytes, just below the most that glibc learns to keep
_TELLING = 1 << 16  # bytes, whose rows tell how many there are in a file
_SAMPLE = 64  # cells that tell whether a column holds numbers at all
_FEW = 6  # words that are looked for one by one
_SOME = 4096  # words of a column that are remembered from one block to the next
_SPACES = 32  # around a cell that are taken off here; the rest is left to `str.strip`
_SHORT = MARGIN - 8  # bytes of a cell that are compared eight at a time
_CELL = re.compile(r'"((?:[^"]|"")*)"')
_NEWLINE, _RETURN, _SPACE, _QUOTE = b'\n\r "'


class _Lines(NamedTuple):
    """Where the rows of a block stood in the file."""

    row: int  # the first
    line: int  # lines before the block
    ends: Rows | None  # of each row, the lines of the block up to its end; None where each row is a line


@dataclass
class Cut:
    """A text in columns: all rows, a header included."""

    columns: list[Written]
    lines: list[_Lines]

    def line_of(self, row: int) -> int:
        """Return the number of the line in which a row ends."""
        first, line, ends = next(entry for entry in reversed(self.lines) if entry.row <= row)
        return line + (row - first + 1 if ends is None else int(ends[row - first]))


def cut_blocks(
    chunks: Iterable[bytes], delimiter: str, width: int, *, lines: int = 0, comment: str = "", size: int = 0
) -> Cut:
    """Cut text into columns, or raise `IrregularError`.

    Parameters
    ----------
    chunks : iterable of bytes
        The text in UTF-8, in pieces of any size.
    delimiter : str
        One character.
    width : int
        Number of columns.
    lines : int, default=0
        Lines of the file before the text.
    comment : str, default=""
        Character with which a line begins that is left out.
    size : int, default=0
        About how many bytes the text has: of many, it is cut by compiled code.

    Examples
    --------
    >>> cut = cut_blocks([b"a,1.50\\nb", b",2\\n"], ",", 2)
    >>> [column.text().tolist() for column in cut.columns]
    [['a', 'b'], ['1.50', '2']]
    """
    if not delimiter.isascii() or delimiter in ' "\r\n\0' or not comment.isascii() or comment in ('"', delimiter):
        raise IrregularError
    gathered, known = _Gathered(width, lines, size), [_Known() for _ in range(width)]

    def cut(block: bytes) -> Found:
        return _cut_block(block, ord(delimiter), width, comment, known)

    cutter = None if comment else cutter_for(size)
    if cutter is None:
        if size > _BLOCK:  # whoever has given back so much keeps what is smaller: else each block's is fetched anew
            np.empty(_KEPT, np.uint8)
        blocks = _blocks(chunks)
        in_order(lambda: None, lambda _: next(blocks, None), lambda _, block: cut(block), gathered.add)
    else:
        compiled = CompiledBlocks(cutter, chunks, ord(delimiter), width, cut)
        in_order(compiled.memory, compiled.take, compiled.cut, gathered.add)
    return gathered.cut()


class _Gathered:
    """The columns of the blocks so far."""

    def __init__(self, width: int, lines: int, size: int) -> None:
        self._builders = [WrittenBuilder() for _ in range(width)]
        self._lines, self._size, self._rows = lines, size, 0
        self._entries: list[_Lines] = []

    def add(self, found: Found) -> None:
        """Add the rows of the next block."""
        if found.rows:
            self._entries.append(_Lines(self._rows, self._lines, found.ends))
            if found.size >= _TELLING:
                for builder in self._builders if self._size else ():
                    builder.expect(self._size * found.rows // found.size * 17 // 16)
                self._size = 0
            for builder, part in zip(self._builders, found.parts, strict=True):
                builder.add(part)
        self._rows, self._lines = self._rows + found.rows, self._lines + found.lines

    def cut(self) -> Cut:
        """Return all rows; nothing is left here."""
        if not self._rows:
            raise IrregularError
        columns = []
        while self._builders:
            columns.append(self._builders.pop(0).build())
        return Cut(columns, self._entries)


# -- blocks -------------------------------------------------------------------------------------------------------
def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole rows, the first row alone; a line end in quotes is none of a row."""
    rest, size, begun = b"", _BLOCK, False
    for chunk in chunks:
        rest += chunk
        while len(rest) >= size:
            end = _last_end(rest, size)
            if end == 0:  # a very long row, or a quote that is never closed
                size *= 2
                if size > _LARGEST:
                    raise IrregularError
                continue
            if not begun:
                size = min(max(size, _ROWS * end // max(rest.count(b"\n", 0, end), 1)), _LARGEST)
            yield from _divided(rest[:end], begun)
            begun, rest = True, rest[end:]
    if rest:
        yield from _divided(rest if rest.endswith(b"\n") else rest + b"\n", begun)


def _last_end(text: bytes, size: int) -> int:
    """Return the end of the last row among the first bytes, or of the first row where none ends there; 0 if none."""
    if b'"' not in text:
        return text.rfind(b"\n", 0, size) + 1 or text.find(b"\n") + 1
    for most in (size, len(text)):
        quotes = np.flatnonzero(np.frombuffer(text[:most], np.uint8) == _QUOTE)
        end = text.rfind(b"\n", 0, most)
        while end >= 0 and np.searchsorted(quotes, end) & 1:
            end = text.rfind(b"\n", 0, end)
        if end >= 0:
            break
    return end + 1


def _outside(places: Rows, quotes: Rows) -> Rows:
    """Return the places that are in no quotes."""
    if not len(quotes) & 1:
        before = np.searchsorted(places, quotes)
        if (before[::2] == before[1::2]).all():  # none between two quotes, as is usual
            return places
    found: Rows = places[np.searchsorted(quotes, places) & 1 == 0]
    return found


def _divided(rows: bytes, begun: bool) -> Iterator[bytes]:
    """Yield rows, the first that is not blank by itself unless it was before."""
    if not begun:
        start = len(rows) - len(rows.lstrip())
        array = np.frombuffer(rows, np.uint8)
        ends = _outside(np.flatnonzero(array == _NEWLINE), np.flatnonzero(array == _QUOTE))
        end = next((int(place) + 1 for place in ends if place >= start), len(rows))
        yield rows[:end]
        rows = rows[end:]
    if rows:
        yield rows


def _cut_block(block: bytes, delimiter: int, width: int, comment: str, known: list[_Known]) -> Found:
    """Cut one block of whole rows; of each column something is `known` from blocks before."""
    if b"\0" in block or (b"\r" in block and block.count(b"\r") != block.count(b"\r\n")):
        raise IrregularError
    if not block.isascii():
        try:
            block.decode()
        except UnicodeDecodeError:
            raise IrregularError from None
    content = b"\n" * MARGIN + block
    text = np.frombuffer(content, np.uint8)
    marks = text == delimiter
    newlines = text == _NEWLINE
    newlines[:MARGIN] = False
    marks |= newlines
    places = np.flatnonzero(marks)
    quotes = np.flatnonzero(text == _QUOTE) if b'"' in block else None
    if quotes is not None:
        if comment or len(quotes) & 1:
            raise IrregularError
        places = _outside(places, quotes)
    starts = np.empty_like(places)
    starts[0], starts[1:] = MARGIN, places[:-1] + 1
    last = np.flatnonzero(text[places] == _NEWLINE)
    lines = int(np.count_nonzero(newlines))
    ends = None
    if width == 1 or comment or len(last) * width != len(places) or np.any(np.diff(last, prepend=-1) != width):
        rows = _rows_of(content, text, starts, places, last, width, comment)
        within = np.repeat(rows, np.diff(last, prepend=-1))
        starts, places, last = starts[within], places[within], last[rows]
    if len(last) != lines:
        row_ends = places[width - 1 :: width]
        ends = np.searchsorted(np.flatnonzero(newlines), row_ends) + 1
    if not len(last):
        return Found(0, lines, None, [])
    behind = places.reshape(-1, width)
    columns = [(starts[::width].copy(), behind[:, 0].copy())]
    for k in range(1, width):  # a cell begins where the one before it ended
        columns.append((columns[-1][1] + 1, behind[:, k].copy()))
    columns[-1][1][:] -= text[columns[-1][1] - 1] == _RETURN
    spaced = _is_spaced(block, delimiter)
    cells = _Cells(content, text, windows_of(text), spaced)
    doubled = [False] * width if quotes is None else _unquote(cells, columns, quotes)
    parts = [cells.part(*column, within, own) for column, within, own in zip(columns, doubled, known, strict=True)]
    return Found(len(behind), lines, ends, parts, len(block))


def _is_spaced(block: bytes, delimiter: int) -> bool:
    """Whether a space stands at the beginning or the end of some cell, or at that of a quoted one."""
    mark = bytes([delimiter])
    return b" " in block and (
        block.startswith(b" ")
        or any(pair in block for end in (mark, b"\n", b"\r") for pair in (b" " + end, end + b" "))
    )


def _rows_of(
    content: bytes, text: Bytes, starts: Rows, places: Rows, last: Rows, width: int, comment: str
) -> npt.NDArray[np.bool_]:
    """Tell which lines are rows: no blank lines and no comments; raise `IrregularError` at others."""
    counts = np.diff(last, prepend=-1)
    begins, ends = starts[last - counts + 1], places[last]
    ends = ends - (text[ends - 1] == _RETURN)
    rows: npt.NDArray[np.bool_] = counts == width
    left_out = (counts == 1) & (ends <= begins)
    if comment:
        left_out |= text[begins] == ord(comment)
    for k in np.flatnonzero(~rows & ~left_out & (counts == 1)):
        left_out[k] = not content[begins[k] : ends[k]].decode().strip()
    rows &= ~left_out
    if not (rows | left_out).all():
        raise IrregularError
    return rows


def part_of(cells: Sequence[str]) -> Part:
    """Return the cells of a column, plain numbers among them as numbers.

    Examples
    --------
    >>> part_of(["1.5", "x"]).words
    ['x']
    """
    content = "\n".join(["", *cells, ""]).encode()
    text = np.frombuffer(b"\n" * MARGIN + content, np.uint8)
    places = np.flatnonzero(text[MARGIN:] == _NEWLINE) + MARGIN
    if len(places) != len(cells) + 1 or 0 in content:  # line ends within
        return Part.of(cells)
    return _Cells(bytes(text), text, windows_of(text), False).part(places[:-1] + 1, places[1:].copy(), False, _Known())


class _Known:
    """What blocks before held of a column, so that it need not be found out again.

    That is the keys of its words, and how its numbers are written: their mark, and digits behind it if all had as many.
    What is made of a column does not depend on it.
    """

    def __init__(self) -> None:
        self._keys = np.empty(0, np.uint64)
        self.form: tuple[Literal[".", ","], int] | None = None

    def learn(self, found: Decimals, mark: Literal[".", ","]) -> None:
        """Remember how numbers are written."""
        places = found.places[found.plain]
        alike = len(places) > 0 and found.digits is None and bool((places == places[0]).all())
        self.form = (mark, int(places[0])) if alike else None

    def numbered(self, key: npt.NDArray[np.uint64]) -> tuple[Rows, Rows]:
        """Do what `_numbered` does."""
        keys = self._keys
        if len(keys):
            at = np.searchsorted(keys, key)
            at[at == len(keys)] = 0
            if (keys[at] == key).all():
                return _by_rows(at, len(keys))
        codes, firsts = _numbered(key)
        if _FEW < len(firsts) <= _SOME:
            self._keys = np.union1d(keys, key[firsts]) if len(keys) <= _SOME else keys
        return codes, firsts


def _by_rows(at: Rows, n: int) -> tuple[Rows, Rows]:
    """Number places below n in the order of the first rows that have them; return these rows, too."""
    firsts = np.full(n, len(at))
    firsts[at[::-1]] = np.arange(len(at) - 1, -1, -1)  # the first row is written last
    order = np.argsort(firsts)[: np.count_nonzero(firsts < len(at))]
    rank = np.empty(n, np.intp)
    rank[order] = np.arange(len(order))
    return rank[at], firsts[order]


# -- cells --------------------------------------------------------------------------------------------------------
class _Cells(NamedTuple):
    """A block, out of which cells are read."""

    content: bytes
    text: Bytes
    windows: npt.NDArray[np.uint64]
    spaced: bool  # whether spaces stand around some

    def part(self, starts: Rows, ends: Rows, doubled: bool, known: _Known) -> Part:
        """Read the cells of one column, in which quotes may be `doubled`."""
        if self.spaced:
            _trim(self.text, starts, ends)
        form = known.form
        found = None if form is None else read_alike(self.text, self.windows, starts, ends, *form)
        mark = self._mark(starts, ends) if form is None or found is None else form[0]
        if mark is None:
            return Part(*self._words(starts, ends, doubled, known))
        if found is None:
            found = read_decimals(self.text, self.windows, starts, ends, mark)
            known.learn(found, mark)
        odd = np.flatnonzero(~found.plain)
        codes, words = self._words(starts[odd], ends[odd], doubled, known)
        return Part(codes, words, Numbers(odd, found.values, found.places, found.digits, mark))

    def _mark(self, starts: Rows, ends: Rows) -> Literal[".", ","] | None:
        """Tell from some cells which decimal mark plain numbers have; None if there are none among them."""
        sample = slice(None, None, max(len(starts) // _SAMPLE, 1))
        starts, ends = starts[sample], ends[sample]
        point = int(read_decimals(self.text, self.windows, starts, ends).plain.sum())
        if point == len(starts):
            return "."
        comma = int(read_decimals(self.text, self.windows, starts, ends, ",").plain.sum())
        return "," if comma > point else "." if point else None

    def _words(self, starts: Rows, ends: Rows, doubled: bool, known: _Known) -> tuple[Rows, list[str]]:
        """Return which of the different cells each is, and these."""
        if not len(starts):
            return starts, []
        lengths = ends - starts
        longest = int(lengths.max())
        if doubled or longest > _SHORT:
            return self._long_words(starts, ends, doubled)
        codes, firsts = self._alike(ends, lengths, longest, known)
        found = zip(starts[firsts].tolist(), ends[firsts].tolist(), strict=True)
        return codes, decoded([self.content[start:end] for start, end in found])

    def _alike(self, ends: Rows, lengths: Rows, longest: int, known: _Known) -> tuple[Rows, Rows]:
        """Return codes of cells of at most `_SHORT` bytes, and the first cell of each code."""
        words = [kept(self.windows, ends, lengths, k) for k in range(max(-(-longest // 8), 1))]
        key = words[0]
        for word in words[1:]:
            key = (key ^ (key >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15) + word
        codes, firsts = known.numbered(key)
        for word in words[:-1] if len(words) > 1 else ():
            if (word != word[firsts][codes]).any():  # two texts of one key
                raise IrregularError
        return codes, firsts

    def _long_words(self, starts: Rows, ends: Rows, doubled: bool) -> tuple[Rows, list[str]]:
        """Do the same for cells of any length, one by one."""
        place: dict[bytes, int] = {}
        pairs = zip(starts.tolist(), ends.tolist(), strict=True)
        found = [place.setdefault(self.content[start:end], len(place)) for start, end in pairs]
        cells = [cell.replace(b'""', b'"') for cell in place] if doubled else list(place)
        return np.array(found), decoded(cells)


def _unquote(cells: _Cells, columns: list[tuple[Rows, Rows]], quotes: Rows) -> list[bool]:
    """Take quotes off the cells of columns, in place; tell for each column whether some are left within."""
    text, count = cells.text, 0
    for starts, ends in columns:
        if cells.spaced:
            _skip(text, starts, ends)
        quoted = (text[starts] == _QUOTE) & (text[ends - 1] == _QUOTE) & (ends - starts > 1)
        count += 2 * int(np.count_nonzero(quoted))
        starts += quoted
        ends -= quoted
    if count == len(quotes):
        return [False] * len(columns)
    return [_within(cells, starts, ends, quotes) for starts, ends in columns]


def _within(cells: _Cells, starts: Rows, ends: Rows, quotes: Rows) -> bool:
    """Tell whether there are quotes within cells; raise `IrregularError` if one has some and is not quoted."""
    found = np.flatnonzero(np.searchsorted(quotes, ends) - np.searchsorted(quotes, starts))
    for start, end in zip(starts[found].tolist(), ends[found].tolist(), strict=True):
        if not _CELL.fullmatch(cells.content[start - 1 : end + 1].decode()):
            raise IrregularError
    return found.size > 0


def _trim(text: Bytes, starts: Rows, ends: Rows) -> None:
    """Take spaces off both ends of cells, in place."""
    _skip(text, starts, ends)
    for _ in range(_SPACES):
        blank = (text[ends - 1] == _SPACE) & (ends > starts)
        if not blank.any():
            return
        ends -= blank


def _skip(text: Bytes, starts: Rows, ends: Rows) -> None:
    """Move the starts of cells behind their spaces."""
    for _ in range(_SPACES):
        blank = (text[starts] == _SPACE) & (starts < ends)
        if not blank.any():
            return
        starts += blank


def _numbered(key: npt.NDArray[np.uint64]) -> tuple[Rows, Rows]:
    """Return which of the different keys each is, and where each of these is first, in that order."""
    codes = np.full(len(key), -1, dtype=np.intp)
    firsts: list[int] = []
    for k in range(_FEW):
        first = int(np.argmin(codes))
        if codes[first] >= 0:
            return codes, np.array(firsts)
        firsts.append(first)
        codes[key == key[first]] = k
    if codes.min() >= 0:
        return codes, np.array(firsts)
    _, places, codes = np.unique(key, return_index=True, return_inverse=True)
    order = np.argsort(places)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return rank[codes], places[order]
