"""Blocks of text cut into columns by compiled code: the same parts as `blocks.py` makes by array work, in less time.

What the compiled code does not cut is cut by array work, a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np

from ..accel.native.cutter import EXACT, FIVES, TENS, Cutter, address
from .decimals import Bytes, Rows
from .written import Numbers, Part

__all__ = ["CompiledBlocks", "Found", "IrregularError", "decoded"]

_ROWS, _SMALLEST, _LARGEST = 1 << 15, 1 << 18, 32 << 20  # in a block: rows, and bytes
_FIRST = 1 << 20
_PADDING = 64  # bytes behind a text, which are looked at
_TABLE = 1 << 10
_SPACES = " \t\n\r\v\f\x1c\x1d\x1e\x1f"  # all of ASCII that `str.strip` takes off
_OTHER: dict[str, Literal[".", ","]] = {".": ",", ",": "."}


class IrregularError(Exception):
    """The text is not cut here: something in it needs a closer look."""


class Found(NamedTuple):
    """What a block holds: rows, lines, of each row the lines up to its end if they are not as many, and its columns.

    `size` are its bytes, where so many rows tell how many there are in a file.
    """

    rows: int
    lines: int
    ends: Rows | None
    parts: list[Part]
    size: int = 0


def decoded(cells: list[bytes]) -> list[str]:
    """Return cells as stripped text; none holds a NUL."""
    return _stripped(b"\0".join(cells).decode())


def _stripped(text: str) -> list[str]:
    """Return words with NUL between them as stripped text."""
    words = text.split("\0")
    spaced = not text.isascii() or any(map(text.__contains__, _SPACES))
    return list(map(str.strip, words)) if spaced else words


class _Memory:
    """What a thread cuts a block in: its text, and room for its cells."""

    def __init__(self, width: int) -> None:
        self._width, self.rows, self.length = width, 0, 0
        self.text: Bytes = np.zeros(0, np.uint8)
        self.columns = np.zeros((width, 4), np.int64)
        self.told = np.zeros(3, np.int64)
        self.codes = self.firsts = np.empty(0, np.int64)
        self.words = np.empty(1 << 12, np.uint8)
        self._keys, self._slots = np.empty(0, np.uint64), np.empty(0, np.int64)
        self.reserve(1 << 10)

    def put(self, text: memoryview) -> None:
        """Add to the text."""
        stop = self.length + len(text)
        if stop + _PADDING > len(self.text):
            larger = np.zeros(max(stop + _PADDING, 2 * len(self.text)), np.uint8)
            larger[: self.length] = self.text[: self.length]
            self.text = larger
        self.text[self.length : stop] = np.frombuffer(text, np.uint8)
        self.text[stop : stop + _PADDING] = 0
        self.length = stop

    def reserve(self, rows: int) -> None:
        """Make room for so many rows."""
        shape = self._width, rows
        self.rows, self.ends = rows, np.empty(rows, np.int64)
        self.values, self.places = np.empty(shape, np.float64), np.empty(shape, np.uint8)
        self.digits = np.empty(shape, np.uint64)
        self.odd, self.begins, self.lengths = (np.empty(shape, np.int64) for _ in range(3))

    def table(self, most: int) -> tuple[int, int]:
        """Return where a table of so many words lies."""
        if len(self._keys) < most:
            self._keys, self._slots = np.empty(most, np.uint64), np.empty(most, np.int64)
        return address(self._keys), address(self._slots)


class CompiledBlocks:
    """A stream of text, taken in blocks of whole rows, which compiled code cuts.

    Parameters
    ----------
    cutter : Cutter
        The compiled code.
    chunks : iterable of bytes
        The text in UTF-8, in pieces of any size.
    delimiter : int
        A byte.
    width : int
        Number of columns.
    otherwise : callable
        Cuts a block of whole rows with care.
    """

    def __init__(
        self,
        cutter: Cutter,
        chunks: Iterable[bytes],
        delimiter: int,
        width: int,
        otherwise: Callable[[bytes], Found],
    ) -> None:
        self._cutter, self._delimiter, self._width, self._otherwise = cutter, delimiter, width, otherwise
        self._chunks, self._rest = iter(chunks), [memoryview(b"")]
        self._size = _FIRST
        # Of each column: its decimal mark, whether that was looked at twice, and whether it has long numbers.
        self._marks = np.full(width, ord("."), np.int64)
        self._settled = np.zeros(width, bool)
        self._long = np.zeros(width, bool)

    def memory(self) -> _Memory:
        """Return memory for one thread."""
        return _Memory(self._width)

    # -- the stream ---------------------------------------------------------------------------------------------
    def take(self, own: _Memory) -> int | None:
        """Put the next whole rows into the memory of a thread; return where they end, None behind the last."""
        own.length, size = 0, self._size
        while True:
            more = self._fill(own, size)
            stop = own.length
            if more:
                stop = self._cutter.last_end(address(own.text), 0, own.length)
            elif stop and own.text[stop - 1] != ord("\n"):
                own.put(memoryview(b"\n"))
                stop += 1
            if stop or not more:
                break
            size *= 2  # a very long row, or a quote that is never closed
            if size > _LARGEST:
                raise IrregularError
        if not stop:
            return None
        if stop < own.length:
            self._rest.insert(0, memoryview(own.text[stop : own.length].tobytes()))
        return stop

    def _fill(self, own: _Memory, size: int) -> bool:
        """Put text into memory until there is so much; tell whether that was not all."""
        while own.length < size:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    return False
                self._rest.append(memoryview(chunk))
            text = self._rest.pop(0)
            room = size - own.length
            own.put(text[:room])
            if len(text) > room:
                self._rest.insert(0, text[room:])
        return True

    # -- a block ------------------------------------------------------------------------------------------------
    def cut(self, own: _Memory, stop: int) -> Found:
        """Cut the rows in the memory of a thread."""
        marks, n = self._marks.copy(), 0
        if not self._try(own, stop, marks):
            return self._otherwise(own.text[:stop].tobytes())
        n = int(own.told[0])
        if n:
            self._look_at_marks(own, stop, marks, n)
            self._size = min(max(_ROWS * stop // n, _SMALLEST), _LARGEST)
        lines = int(own.told[2])
        parts = [self._part(own, k, n, "," if mark == ord(",") else ".") for k, mark in enumerate(marks.tolist())]
        return Found(n, lines, None if lines == n else own.ends[:n].copy(), parts if n else [], stop)

    def _try(self, own: _Memory, stop: int, marks: Rows) -> bool:
        """Cut a block with these decimal marks; tell whether it could be cut."""
        while True:
            own.columns[:, 1] = np.where(self._long, 0, own.rows)
            arrays = marks, own.values, own.places, own.digits, own.odd, own.begins, own.lengths, own.columns
            places = map(address, (*arrays, own.ends, own.told, TENS, EXACT, FIVES))
            if self._cutter.cut(address(own.text), 0, stop, self._delimiter, self._width, own.rows, *places):
                return False
            if own.told[1] >= stop:
                return True
            own.reserve(max(2 * own.rows, 9 * own.rows * stop // (8 * max(int(own.told[1]), 1))))

    def _look_at_marks(self, own: _Memory, stop: int, marks: Rows, n: int) -> None:
        """Cut once more where another decimal mark makes numbers of more cells."""
        doubtful = (own.columns[:, 3] > n - own.columns[:, 0]) & ~self._settled
        if not doubtful.any():
            return
        before, kept = own.columns[:, 0].copy(), marks.copy()
        marks[doubtful] = ord(".") + ord(",") - marks[doubtful]
        self._try(own, stop, marks)
        worse = doubtful & (own.columns[:, 0] >= before)
        self._settled |= doubtful
        if worse.any():
            marks[worse] = kept[worse]
            self._try(own, stop, marks)
        self._marks[doubtful] = marks[doubtful]

    def _part(self, own: _Memory, k: int, n: int, mark: Literal[".", ","]) -> Part:
        """Return a column; what is no word lies in the memory of a thread."""
        many, first, doubled, _ = own.columns[k].tolist()
        codes, words = self._words(own, k, many, doubled=bool(doubled))
        if many == n:
            return Part(codes, words)
        numbers = Numbers(own.odd[k, :many], own.values[k, :n], own.places[k, :n], None, mark)
        if first < n:
            digits = own.digits[k, :n]
            if first:  # those before are told by their values
                before = np.searchsorted(numbers.odd, first)
                digits[:first] = numbers.some(slice(first), numbers.odd[:before]).all_digits()
            self._long[k] = True
            numbers.digits = digits
        return Part(codes, words, numbers)

    def _words(self, own: _Memory, k: int, many: int, *, doubled: bool) -> tuple[Rows, list[str]]:
        """Return which of the different words of a column each is, and these."""
        if not many:
            return np.empty(0, np.intp), []
        if len(own.codes) < many:
            own.codes, own.firsts = np.empty(own.rows, np.int64), np.empty(own.rows, np.int64)
        found = list(map(address, (own.begins[k], own.lengths[k], own.codes, own.firsts)))
        for most in (_TABLE, 1 << (2 * many + 1).bit_length()):
            count = self._cutter.number_words(address(own.text), *found[:2], many, *found[2:], *own.table(most), most)
            if count >= 0:
                break
        else:  # words that were made to have one key
            raise IrregularError
        most = len(own.words)
        while (
            size := self._cutter.gather_words(address(own.text), *found[:2], found[3], count, address(own.words), most)
        ) < 0:
            most *= 2
            own.words = np.empty(most, np.uint8)
        words = own.words[: size - 1].tobytes().decode()
        return own.codes[:many].copy(), _stripped(words.replace('""', '"') if doubled else words)
