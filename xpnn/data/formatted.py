r"""Numbers and words as cells of a file, many at once: bytes as Python's `repr`, `format` and `csv` would write.

A number :math:`x` is scaled by a power of ten to 17 digits before the point, without rounding [2]_.  The shortest text
that reads as the same number has 15 digits or fewer if the nearest 15 are closer to it than half the gap to the next
number, else 16 by the same test, else 17 [1]_.  Where this leaves anything open, and elsewhere, Python is asked.

References
----------
.. [1] G. L. Steele, J. L. White, "How to Print Floating-Point Numbers Accurately", PLDI 1990.
.. [2] T. J. Dekker, "A Floating-Point Technique for Extending the Available Precision", Numerische Mathematik 18, 1971.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .decimals import Bytes

__all__ = ["Cells", "escaped", "joined", "rounded", "shortest", "words_as"]

_Floats = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]

_ZERO, _POINT, _MINUS = b"0.-"
_WIDEST = 24  # characters of a number: -1.7976931348623157e+308
_DIGITS = 17
_CHUNKS = np.array([f"{k:04d}".encode() for k in range(10_000)], dtype="S4").view(np.uint32)
# Powers of ten that float64 holds exactly.
_MOST = 22
_POWERS: _Floats = np.array([10.0**k for k in range(_MOST + 1)])
_SPLIT = 2.0**27 + 1
_REPR_LOW, _REPR_HIGH = -4, 16  # `repr` writes numbers from 1e-4 up to 1e16 without an exponent
_G_LOW, _G_DIGITS = -5, 6  # and `%.6g` those from 1e-4 up to 1e6
# Characters beside which a cell needs no quotes.
_PLAIN = re.compile(r"[\w.:+/ @-]*")
# What the scaled numbers may be off, and more.
_OFF = 1e-6


class Cells(NamedTuple):
    """A cell for each row.

    Attributes
    ----------
    chars : array of shape (n, width), uint8
        Bytes.
    kept : array of shape (n, width), bool
        Which of them belong to the cell.
    """

    chars: Bytes
    kept: npt.NDArray[np.bool_]


def joined(columns: Sequence[Cells]) -> bytes:
    r"""Return rows of cells as lines with commas.

    Examples
    --------
    >>> joined([shortest(np.array([0.5, -3.0])), words_as([b"a", b"bc"], np.array([1, 0]))])
    b'0.5,bc\n-3.0,a\n'
    """
    n = len(columns[0].chars)
    chars: list[Bytes] = []
    kept: list[npt.NDArray[np.bool_]] = []
    for k, column in enumerate(columns):
        mark = b"\n" if k + 1 == len(columns) else b","
        chars += [column.chars, np.full((n, 1), mark[0], np.uint8)]
        kept += [column.kept, np.ones((n, 1), bool)]
    return np.concatenate(chars, axis=1)[np.concatenate(kept, axis=1)].tobytes()


def escaped(values: Iterable[Any], *, alone: bool) -> list[bytes]:
    """Return values as `csv` writes them; what stands `alone` in its row has quotes if it is empty.

    Examples
    --------
    >>> escaped(["a", "b, c", True, ""], alone=False)
    [b'a', b'"b, c"', b'True', b'']
    """
    values = list(values)
    with contextlib.suppress(TypeError):  # of values that are no text
        if _PLAIN.fullmatch("".join(values)) and not (alone and "" in values):
            return [value.encode() for value in values]
    found = []
    for value in values:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\n").writerow([value] if alone else [value, ""])
        found.append(line.getvalue()[: -1 if alone else -2].encode())
    return found


def words_as(words: Sequence[bytes], codes: npt.NDArray[Any]) -> Cells:
    """Return of each row the word that its code names."""
    lengths = np.array([len(word) for word in words], dtype=np.intp)
    width = max(int(lengths.max(initial=0)), 1)
    chars = np.array(words, dtype=f"S{width}").view(np.uint8).reshape(-1, width)
    kept = np.arange(width) < lengths[:, None]
    return Cells(chars[codes], kept[codes])


def shortest(values: _Floats) -> Cells:
    r"""Return numbers as `repr` writes them.

    Examples
    --------
    >>> joined([shortest(np.array([0.1 + 0.2, 1e22, 100.0]))])
    b'0.30000000000000004\n1e+22\n100.0\n'
    """
    size, zero = np.abs(values), values == 0
    sure = (size >= 10.0**_REPR_LOW) & (size < 10.0**_REPR_HIGH)
    x = np.where(sure, size, 1.5)
    sure &= (x.view(np.uint64) & np.uint64((1 << 52) - 1)) != 0  # a power of two has another gap below
    exponents = _exponents(x, _REPR_LOW, _REPR_HIGH)
    powers = _DIGITS - 1 - exponents
    whole, rest = _product(x, powers)
    half = np.spacing(x)
    half *= _POWERS[powers]
    half /= 2
    hundreds = whole // 100
    rest += whole - 100 * hundreds
    end = np.rint(rest)
    sure &= np.abs(np.abs(rest - end) - 0.5) > _OFF
    for step in (10.0, 100.0):
        fewer = np.rint(rest / step) * step
        off = np.abs(fewer - rest)
        sure &= (np.abs(off - half) > _OFF) & (np.abs(off - step / 2) > _OFF)
        np.copyto(end, fewer, where=off < half)
    number = 100 * hundreds + end.astype(np.int64)
    number[zero], exponents[zero] = 0, 0
    cells = _laid_out(_digits(number), exponents, np.signbit(values), _fixed)
    return _by_python(cells, ~(sure | zero), values, repr)


def rounded(values: npt.NDArray[np.floating[Any]]) -> Cells:
    r"""Return numbers of six digits, as ``format(value, ".6g")`` writes them.

    Examples
    --------
    >>> joined([rounded(np.array([1 / 3, 1.0, 2e-7]))])
    b'0.333333\n1\n2e-07\n'
    """
    exact = values.astype(np.float64)
    size, zero, low = np.abs(exact), exact == 0, _G_DIGITS - _MOST
    sure = (size >= 10.0**low) & (size < 10.0**_G_DIGITS)
    x = np.where(sure, size, 1.0)
    exponents = _exponents(x, low, _G_DIGITS)
    y = x * _POWERS[_G_DIGITS - 1 - exponents]
    end = np.rint(y)
    sure &= np.abs(np.abs(y - end) - 0.5) > _OFF
    number = end.astype(np.int64)
    over = number == 10**_G_DIGITS  # rounded up to one more digit
    number[over] = 10 ** (_G_DIGITS - 1)
    exponents += over
    sure &= exponents < _G_DIGITS
    number[zero], exponents[zero] = 0, 0
    number *= 10 ** (_DIGITS - _G_DIGITS)
    cells = _laid_out(_digits(number), exponents, np.signbit(exact), _general)
    return _by_python(cells, ~(sure | zero), exact, "{:.6g}".format)


def _exponents(x: _Floats, low: int, high: int) -> _Places:
    """Return of numbers from 10^low up to 10^high the power of ten of their first digit."""
    table = np.array([float(f"1e{k}") for k in range(low, high + 1)])
    return low - 1 + np.searchsorted(table, x, side="right")


def _product(x: _Floats, powers: _Places) -> tuple[_Places, _Floats]:
    """Return numbers times powers of ten, which lie from 10^16 up to 10^17: whole numbers, and what is left."""
    ten = _POWERS[powers]
    product = x * ten
    x_high, ten_high = _high(x), _high(ten)
    x_low, ten_low = x - x_high, ten - ten_high
    rest = x_high * ten_high  # Dekker's product of halves: nothing is rounded
    rest -= product
    rest += x_high * ten_low
    rest += x_low * ten_high
    rest += x_low * ten_low
    return product.astype(np.int64), rest


def _high(x: _Floats) -> _Floats:
    """Return the upper half of each number's digits."""
    wide = x * _SPLIT
    return wide - (wide - x)


def _digits(number: _Places) -> Bytes:
    """Return whole numbers below 10^17 as 17 digits."""
    chunks = np.empty((len(number), 5), np.uint32)
    for k in range(4, 0, -1):
        above = number // 10_000
        number -= 10_000 * above
        chunks[:, k] = _CHUNKS[number]
        number = above
    chunks[:, 0] = _CHUNKS[number]
    return chunks.view(np.uint8)[:, 20 - _DIGITS :]


class _Form(NamedTuple):
    """How all numbers of one exponent are written behind their sign."""

    front: bytes
    before: int  # digits before the point, always written
    least: int  # digits written at least, the point with them
    behind: bytes


def _fixed(exponent: int) -> _Form:
    """Without an exponent, and with a digit behind the point."""
    if exponent < 0:
        return _Form(b"0." + b"0" * (-exponent - 1), 0, 1, b"")
    return _Form(b"", exponent + 1, exponent + 2, b"")


def _general(exponent: int) -> _Form:
    """As `%g`: no point without digits behind it, an exponent for small numbers."""
    if exponent > _G_LOW:
        return _fixed(exponent)._replace(least=max(exponent + 1, 1))
    return _Form(b"", 1, 1, b"e-%02d" % -exponent)


def _laid_out(
    digits: Bytes, exponents: _Places, negative: npt.NDArray[np.bool_], form: Callable[[int], _Form]
) -> Cells:
    """Return digits with a sign and a point, zeros at the end left out."""
    n = len(digits)
    last = _DIGITS - np.argmax(digits[:, ::-1] != _ZERO, axis=1)  # behind the last that is not zero
    last[(digits == _ZERO).all(axis=1)] = 1
    chars = np.full((n, _WIDEST), _POINT, np.uint8)
    kept = np.zeros((n, _WIDEST), bool)
    chars[:, 0], kept[:, 0] = _MINUS, negative
    low = int(exponents.min(initial=0))
    for place in np.flatnonzero(np.bincount(exponents - low)):
        front, before, least, behind = form(int(place) + low)
        rows = np.flatnonzero(exponents == place + low)
        own, written = np.empty((len(rows), _WIDEST), np.uint8), np.maximum(last[rows], least)
        keep = np.zeros((len(rows), _WIDEST), bool)
        own[:, 0], keep[:, 0] = _MINUS, negative[rows]
        start = 1 + len(front)
        own[:, 1:start], keep[:, 1:start] = np.frombuffer(front, np.uint8), True
        own[:, start : start + before], keep[:, start : start + before] = digits[rows, :before], True
        start += before
        if before:
            own[:, start], keep[:, start] = _POINT, written > before
            start += 1
        rest = min(_DIGITS - before, _WIDEST - len(behind) - start)
        own[:, start : start + rest] = digits[rows, before : before + rest]
        keep[:, start : start + rest] = np.arange(before, before + rest) < written[:, None]
        start += rest
        own[:, start : start + len(behind)] = np.frombuffer(behind, np.uint8)
        keep[:, start : start + len(behind)] = True
        chars[rows], kept[rows] = own, keep
    return Cells(chars, kept)


def _by_python(cells: Cells, rows: npt.NDArray[np.bool_], values: _Floats, write: Callable[[float], str]) -> Cells:
    """Write some numbers one by one, in place."""
    places = np.flatnonzero(rows)
    if places.size:
        texts = [write(value).encode() for value in values[places].tolist()]
        own = words_as([*texts, b"0" * _WIDEST], np.arange(len(texts)))
        cells.chars[places], cells.kept[places] = own
    return cells
