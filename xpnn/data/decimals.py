"""Plain decimal numbers read from bytes, many at once, so that value and text both follow from what is kept.

Eight characters are looked at together, as the bytes of one 64-bit number: a mark is found, taken out, and the digits
are added up in three multiplications [1]_.  What is not sure to be read as `float` reads it is left to `float`.

References
----------
.. [1] D. Lemire, "Number Parsing at a Gigabyte per Second", Software: Practice and Experience 51(8), 2021.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "MARGIN",
    "SHORTEST",
    "SHORTEST_SINGLE",
    "Bytes",
    "Decimals",
    "Rows",
    "kept",
    "read_alike",
    "read_decimals",
    "windows_of",
    "written",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Rows: TypeAlias = npt.NDArray[np.intp]
_Words: TypeAlias = npt.NDArray[np.uint64]

#: Bytes that must lie before the first cell: characters are taken eight at a time, counted from the end of a cell.
MARGIN = 64
#: In place of a number of digits: the shortest text that is the same number, of a float64 or of a float32.
SHORTEST = 255
SHORTEST_SINGLE = 254
_LONGEST = 24  # characters of a number behind its sign
_EXACT = 10**15  # below, a float64 tells all numbers of as many digits apart, and its text can be made from it
_SURE, _BEHIND = 15, 7  # digits of such a number, and how many of them a word holds with the mark before them
_MOST_HIGH = 999  # of the digits before the last 16: with these, 19 digits fit into 64 bits


def _each(byte: int) -> np.uint64:
    return np.uint64(byte * 0x0101010101010101)


_ZEROS, _LOW7, _HIGH, _TO_HIGH = _each(0x30), _each(0x7F), _each(0x80), _each(0x76)
_MARKS = {mark: _each(ord(mark) ^ 0x30) for mark in ".,"}  # what becomes of a mark when digits become their values
_ONE, _BYTE, _SEVEN, _FULL = np.uint64(1), np.uint64(8), np.uint64(56), np.uint64(0xFF)
_PAIRS, _FIRST, _SECOND = np.uint64(0x000000FF000000FF), np.uint64(0x000F424000000064), np.uint64(0x0000271000000001)
_TENS = 10.0 ** np.arange(23)  # exact, all of them
_ROOM = 8 * (MARGIN // 8 - 1)


def _masks(word: int, most: int) -> _Words:
    """Return, by the length of a cell, which bytes of the word so many before its end belong to it."""
    counts = [min(max(length - 8 * word, 0), 8) for length in range(most + 1)]
    return np.array([((1 << 8 * n) - 1) << 8 * (8 - n) for n in counts], dtype=np.uint64)


_KEPT = tuple(_masks(word, _ROOM) for word in range(_ROOM // 8))


def windows_of(text: Bytes) -> _Words:
    """Return the eight bytes from each place on as one number, the first byte the lowest."""
    return np.ndarray((len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))


def kept(windows: _Words, ends: Rows, lengths: Rows, word: int) -> _Words:
    """Return the eight characters so many words before the ends of cells, zero where they belong to none.

    Examples
    --------
    >>> text = np.frombuffer(b" " * MARGIN + b"ab,c", np.uint8)
    >>> ends, lengths = np.array([MARGIN + 2, MARGIN + 4]), np.array([2, 1])
    >>> [hex(word) for word in kept(windows_of(text), ends, lengths, 0)]
    ['0x6261000000000000', '0x6300000000000000']
    """
    found: _Words = windows[ends - 8 * (word + 1)]
    found &= _KEPT[word].take(lengths, mode="clip")
    return found


class Decimals(NamedTuple):
    """Cells of digits with at most one point, as numbers.

    Attributes
    ----------
    plain : array of shape (n,), bool
        Which cells are such; what the others have in the next three says nothing.
    values : array of shape (n,), float64
        What `float` makes of each.
    places : array of shape (n,), uint8
        Digits behind the point.
    digits : array of shape (n,), uint64, or None
        All digits as a whole number; None where `values` and `places` tell them, which they do for up to 15.
    """

    plain: npt.NDArray[np.bool_]
    values: npt.NDArray[np.float64]
    places: npt.NDArray[np.uint8]
    digits: _Words | None


def read_decimals(text: Bytes, windows: _Words, starts: Rows, ends: Rows, mark: Literal[".", ","] = ".") -> Decimals:
    """Read the cells ``text[start:end]`` that are written as ``-12.50``: no other sign, no zero in front.

    The last of them ends before the text does.

    Examples
    --------
    >>> text = np.frombuffer(b" " * MARGIN + b"-12.50,007,", np.uint8)
    >>> found = read_decimals(text, windows_of(text), np.array([64, 71]), np.array([70, 74]))
    >>> found.plain.tolist(), found.values[0], found.places[0]
    ([True, False], np.float64(-12.5), np.uint8(2))
    """
    negative = text[starts] == ord("-")
    begins = starts + negative
    lengths = ends - begins
    plain = (lengths > 0) & (lengths <= _LONGEST)
    longest = int(lengths.max(initial=0, where=plain))
    words: list[_Words] = [windows[ends - 8 * (k + 1)] for k in range(max(-(-longest // 8), 1))]
    for k, word in enumerate(words):  # a digit becomes its value
        word ^= _ZEROS
        word &= _KEPT[k].take(lengths, mode="clip")
    places = _take_points_out(words, plain, _MARKS[mark])
    pointed = places >= 0
    before = lengths - pointed
    np.maximum(places, 0, out=places)
    before -= places
    plain &= (before > 0) & (pointed == (places > 0))
    plain &= (before == 1) | (text[begins] != ord("0"))
    number = _added_up(words, plain)
    shift = places.astype(np.intp)
    values = number.astype(np.float64)
    values /= _TENS.take(shift, mode="clip")
    digits = None
    if len(words) > 1:
        many = np.flatnonzero(plain & (number >= _EXACT))
        if many.size:
            digits = number
            values[many], plain[many] = _rounded(number[many], shift[many])
    values *= 1.0 - 2.0 * negative
    return Decimals(plain, values, places.astype(np.uint8), digits)


def read_alike(
    text: Bytes, windows: _Words, starts: Rows, ends: Rows, mark: Literal[".", ","], places: int
) -> Decimals | None:
    """Return what `read_decimals` does, in half of its time, if all cells have as many digits behind the point.

    None if they have not, but for empty ones, or if there are digits that want a closer look.

    Examples
    --------
    >>> text = np.frombuffer(b" " * MARGIN + b"-12.50,3.25,", np.uint8)
    >>> starts, ends = np.array([64, 71]), np.array([70, 75])
    >>> read_alike(text, windows_of(text), starts, ends, ".", 2).values.tolist()
    [-12.5, 3.25]
    >>> read_alike(text, windows_of(text), starts, ends, ".", 1) is None
    True
    """
    if places > _BEHIND:
        return None
    negative = text[starts] == ord("-")
    begins = starts + negative
    lengths = ends - begins
    longest = int(lengths.max(initial=0))
    if longest - (places > 0) > _SURE:
        return None
    words: list[_Words] = [windows[ends - 8 * (k + 1)] for k in range(max(-(-longest // 8), 1))]
    for k, word in enumerate(words):
        word ^= _ZEROS
        word &= _KEPT[k].take(lengths, mode="clip")
    plain = _marked(words[0], lengths, _MARKS[mark], places)
    if plain is None:
        return None
    if places:
        _close_gap(words, places)
    for word in words:
        if np.bitwise_or.reduce((word + _TO_HIGH) | word) & _HIGH:
            return None
    begun = text[begins] == ord("0")
    begun &= lengths > places + (2 if places else 1)
    if begun.any():
        return None
    values = _added_up(words, plain).astype(np.float64)
    if places:
        values /= _TENS[places]
    if negative.any():
        values *= 1.0 - 2.0 * negative
    return Decimals(plain, values, np.broadcast_to(np.uint8(places), plain.shape), None)


def _marked(word: _Words, lengths: Rows, mark: np.uint64, places: int) -> npt.NDArray[np.bool_] | None:
    """Tell which cells have a mark where it is due, and a digit before it; None if one that holds something has not."""
    if places:
        shift = np.uint64(8 * (7 - places))
        marked: npt.NDArray[np.bool_] = (word & (_FULL << shift)) == (mark & (_FULL << shift))
        marked &= lengths > places + 1
    else:
        marked = lengths > 0
    return marked if marked.all() or not lengths[~marked].any() else None


def _close_gap(words: list[_Words], places: int) -> None:
    """Take a mark out before so many digits, in place."""
    shift = np.uint64(8 * (7 - places))
    low = words[0] & ((_ONE << shift) - _ONE)
    low <<= _BYTE
    words[0] &= ~((_ONE << (shift + _BYTE)) - _ONE)
    words[0] |= low
    for word, above in pairwise(words):
        word |= above >> _SEVEN
        above <<= _BYTE


def _take_points_out(words: list[_Words], plain: npt.NDArray[np.bool_], mark: np.uint64) -> npt.NDArray[np.int8]:
    """Close the gap that each number's point leaves, in place; return the digits behind it, -1 without a point."""
    places = np.full(len(plain), -1, dtype=np.int8)
    after = np.zeros(len(plain), dtype=bool)  # whether the point was in a word behind this one
    for k, word in enumerate(words):
        other = word ^ mark
        found = other & _LOW7
        found += _LOW7
        found |= other
        found |= _LOW7
        np.invert(found, out=found)  # the highest bit of each byte that is a point
        plain &= (found & (found - _ONE)) == 0
        found >>= np.uint64(7)
        here = (found != 0) & ~after
        below = found - _ONE
        at: npt.NDArray[np.int8] = (8 * k + 7) - (np.bitwise_count(below) >> 3).astype(np.int8)
        if len(words) == 1:  # without a mark all bytes are below it, and stay
            stays = ~(below | (found * _FULL))
            below *= here
            stays |= here.astype(np.uint64) - _ONE
            below &= word
            below <<= _BYTE
            word &= stays
            word |= below
            return at
        np.copyto(places, at, where=here)
        stays = ~(below | (found * _FULL))  # the bytes behind the point
        np.copyto(stays, ~np.uint64(0), where=~here)
        np.copyto(below, np.uint64(0), where=~here)
        np.copyto(stays, np.uint64(0), where=after)
        np.copyto(below, ~np.uint64(0), where=after)
        after |= here
        below &= word
        below <<= _BYTE
        word &= stays
        word |= below
        if k + 1 < len(words):
            carried = words[k + 1] >> _SEVEN
            carried *= after
            word |= carried
    return places


def _added_up(words: list[_Words], plain: npt.NDArray[np.bool_]) -> _Words:
    """Return the number whose digits lie in the bytes of `words`; unset `plain` where there are others."""
    number = None
    for k, word in enumerate(words):
        high = word + _TO_HIGH
        high |= word
        high &= _HIGH
        plain &= high == 0
        pairs = word * np.uint64(10)
        pairs += word >> _BYTE
        part = (pairs & _PAIRS) * _FIRST
        pairs >>= np.uint64(16)
        pairs &= _PAIRS
        pairs *= _SECOND
        part += pairs
        part >>= np.uint64(32)
        if number is None:
            number = part
            continue
        if k == 2:
            plain &= part <= _MOST_HIGH
        part *= np.uint64(10 ** (8 * k))
        number += part
    return np.empty(0, np.uint64) if number is None else number


def _rounded(number: _Words, places: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Divide by powers of ten as `float` rounds, and tell where that is sure.

    A quotient in a format of 64 bits is itself rounded; rounded again, to 53, it may be off only where it then lies
    just between two of them.
    """
    whole = places == 0
    if not _has_64_bits():
        return number.astype(np.float64), whole
    quotient = number.astype(np.longdouble)
    quotient /= _TENS.astype(np.longdouble).take(places, mode="clip")
    bits = quotient.view(np.uint64)[::2]
    return quotient.astype(np.float64), whole | ((bits & np.uint64(0x7FF)) != np.uint64(0x400))


@functools.cache
def _has_64_bits() -> bool:
    """Whether a long double is the one of x86: 64 bits of digits, the first in memory."""
    return np.finfo(np.longdouble).nmant == 63 and np.longdouble(1).nbytes == 16 and np.little_endian


def written(
    values: npt.NDArray[np.float64],
    places: npt.NDArray[np.uint8],
    digits: _Words | None = None,
    mark: Literal[".", ","] = ".",
) -> Sequence[str]:
    """Return the cells that `read_decimals` read, as they were written; places may be `SHORTEST`, too.

    Examples
    --------
    >>> written(np.array([-12.5, 3.0]), np.array([2, 0], dtype=np.uint8))
    ['-12.50', '3']
    """
    if mark != ".":
        return [text.replace(".", mark) for text in written(values, places, digits)]
    if places.max(initial=0) >= SHORTEST_SINGLE:
        return [_shortest(*pair) for pair in zip(values.tolist(), places.tolist(), strict=True)]
    if digits is not None:
        each = zip(digits.tolist(), places.tolist(), np.signbit(values).tolist(), strict=True)
        return [_pointed(*number) for number in each]
    if len(places) and (places == places[0]).all():
        form = f"%.{places[0]}f"
        return [form % value for value in values.tolist()]
    return [f"{value:.{place}f}" for value, place in zip(values.tolist(), places.tolist(), strict=True)]


def _pointed(digits: int, places: int, negative: bool) -> str:
    """Return digits with a point among them."""
    text = f"{digits:0{places + 1}d}"
    sign = "-" if negative else ""
    return f"{sign}{text[:-places]}.{text[-places:]}" if places else f"{sign}{text}"


def _shortest(value: float, places: int) -> str:
    """Return the shortest text of a number, a whole one without a point."""
    if places < SHORTEST_SINGLE:
        return f"{value:.{places}f}"
    number = value if places == SHORTEST else float(str(np.float32(value)))
    return str(int(value)) if number.is_integer() else repr(number)
