r"""Lines of text cut into cells, plain numbers among them read, in one pass: compiled by numba to code of its own.

Eight characters are looked at together, as one 64-bit number.  Digits are added up in three multiplications [1]_.
Up to :math:`2^{53}` they are divided by a power of ten, which is exact; beyond, they are multiplied by a power of five
of 128 bits, whose upper half tells how the product is rounded [2]_, [3]_.  What is not sure to be read as `float` and
Python's `csv` read it is left: the caller reads it with care.

Memory is given by its addresses: nothing here knows how long it is.  `xpnn.accel.native.cutter` calls these functions,
and tests compare them with `float` and `csv`.

References
----------
.. [1] D. Lemire, "Number Parsing at a Gigabyte per Second", Software: Practice and Experience 51(8), 2021.
.. [2] M. Eisel's algorithm, as described in [1]_.
.. [3] N. Mushtak, D. Lemire, "Fast Number Parsing Without Fallback", Software: Practice and Experience 53(6), 2023.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .bits import as_float, get_word, high_product, piece, put_word, zeros_above, zeros_below

__all__ = ["cut", "gather_words", "last_end", "number_words"]

_NEWLINE, _RETURN, _SPACE, _QUOTE, _COMMA, _MINUS, _POINT, _ZERO = b'\n\r ",-.0'
_ONES, _HIGH, _TO_HIGH, _ZEROS, _ALL = (np.uint64(byte * 0x0101010101010101) for byte in (0x01, 0x80, 0x76, 0x30, 0xFF))
_QUOTES, _NEWLINES, _RETURNS = (np.uint64(byte * 0x0101010101010101) for byte in (_QUOTE, _NEWLINE, _RETURN))
_TEN, _EIGHT, _SIXTEEN, _HALF = np.uint64(10), np.uint64(8), np.uint64(16), np.uint64(32)
_PAIRS, _FIRST, _SECOND = np.uint64(0x000000FF000000FF), np.uint64(0x000F424000000064), np.uint64(0x0000271000000001)
_NONE, _ONE, _THREE, _TOP, _LOW9 = np.uint64(0), np.uint64(1), np.uint64(3), np.uint64(63), np.uint64(0x1FF)
_EXACT, _WHOLE = np.uint64(1 << 53), np.uint64((1 << 52) - 1)
_SURE = np.uint64(10**15)  # from here on, a number's digits do not follow from its value
_MOST, _PLACES = 19, 22  # digits of a number, and behind its mark
_MIX, _TURN = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)


# -- numbers ------------------------------------------------------------------------------------------------------
@piece
def _added_up(word: Any) -> Any:  # pragma: no cover (compiled)
    """Return the number of the digits in the bytes of a word, which are their values."""
    pairs = word * _TEN + (word >> _EIGHT)
    return ((pairs & _PAIRS) * _FIRST + ((pairs >> _SIXTEEN) & _PAIRS) * _SECOND) >> _HALF


@piece
def _digits(text: Any, place: Any) -> Any:  # pragma: no cover (compiled)
    """Return how many of eight characters are digits up to the first other, and their number."""
    word = get_word(text, place) ^ _ZEROS
    other = ((word + _TO_HIGH) | word) & _HIGH
    if other == _NONE:
        return np.int64(8), _added_up(word)
    count = zeros_below(other) >> 3
    if count == 0:
        return np.int64(0), _NONE
    return count, _added_up(word << np.uint64(64 - 8 * count))


@piece
def _divided(digits: Any, places: int, fives: Any) -> Any:  # pragma: no cover (compiled)
    """Return digits by a power of ten, rounded as `float` rounds; digits are not 0."""
    zeros = zeros_above(digits)
    scaled = digits << np.uint64(zeros)
    five = fives[2 * places]
    high, low = high_product(scaled, five), scaled * five
    if (high & _LOW9) == _LOW9:
        more = high_product(scaled, fives[2 * places + 1])
        low += more
        if more > low:
            high += _ONE
    upper = high >> _TOP
    shift = upper + np.uint64(9)
    bits = high >> shift
    if low <= _ONE and places <= 4 and (bits & _THREE) == _ONE and (bits << shift) == high:  # half way: to even
        bits -= _ONE
    bits = (bits + (bits & _ONE)) >> _ONE
    exponent = ((-217706 * places) >> 16) + 63 + np.int64(upper) - zeros + 1023
    if bits >> np.uint64(53) != _NONE:
        bits >>= _ONE
        exponent += 1
    return as_float((bits & _WHOLE) | (np.uint64(exponent) << np.uint64(52)))


@piece
def _read(text: Any, place: Any, mark: int, tens: Any) -> Any:  # pragma: no cover (compiled)
    """Return where a plain number ends, its digits, and how many of them are behind its mark: -1 if it is none."""
    nothing = place, _NONE, np.int64(-1)
    first = np.int64(text[place]) - _ZERO
    if first < 0 or first > 9:
        return nothing
    if np.int64(text[place + 1]) == mark:
        number, at, before = np.uint64(first), place + 1, np.int64(first != 0)
    else:
        count, number = _digits(text, place)
        at = place + count
        if count == 8:
            count, more = _digits(text, at)
            number = number * tens[count] + more
            at += count
            if count == 8:
                count, more = _digits(text, at)
                if count > _MOST - 16:
                    return nothing
                number = number * tens[count] + more
                at += count
        before = at - place
        if first == 0:
            if before > 1:
                return nothing
            before = np.int64(0)
    if np.int64(text[at]) != mark:
        return at, number, np.int64(0)
    at += 1
    count, behind = _digits(text, at)
    places = count
    if count == 0:
        return nothing
    if count == 8:
        count, more = _digits(text, at + 8)
        behind = behind * tens[count] + more
        places += count
        if count == 8:
            count, more = _digits(text, at + 16)
            if count > _PLACES - 16 or (count > 0 and behind >= tens[_MOST - count]):
                return nothing
            behind = behind * tens[count] + more
            places += count
    if before > 0:
        if before + places > _MOST:
            return nothing
        behind += number * tens[places]
    return at + places, behind, places


@piece
def _value(digits: Any, places: int, exact: Any, fives: Any) -> Any:  # pragma: no cover (compiled)
    """Return the number that digits are, so many of them behind the mark."""
    if digits <= _EXACT:
        return np.float64(np.int64(digits)) / exact[places]
    return _divided(digits, places, fives)


# -- words --------------------------------------------------------------------------------------------------------
@piece
def _has_zero(word: Any) -> Any:  # pragma: no cover (compiled)
    """Return a word whose lowest set bit is the highest of the first zero byte; 0 without one."""
    return (word - _ONES) & ~word & _HIGH


@piece
def _bare_end(text: Any, place: Any, delimiters: Any) -> Any:  # pragma: no cover (compiled)
    """Return where a cell without quotes is over: at a delimiter, a line end, a quote or a NUL."""
    while True:
        word = get_word(text, place)
        found = _has_zero(word ^ delimiters) | _has_zero(word ^ _NEWLINES) | _has_zero(word)
        found |= _has_zero(word ^ _RETURNS) | _has_zero(word ^ _QUOTES)
        if found != _NONE:
            return place + (zeros_below(found) >> 3)
        place += 8


@piece
def _quoted_end(text: Any, place: Any) -> Any:  # pragma: no cover (compiled)
    """Return where the next quote, line end or NUL stands."""
    while True:
        word = get_word(text, place)
        found = _has_zero(word ^ _QUOTES) | _has_zero(word ^ _NEWLINES)
        found |= _has_zero(word) | _has_zero(word ^ _RETURNS)
        if found != _NONE:
            return place + (zeros_below(found) >> 3)
        place += 8


@piece
def last_end(text: Any, start: Any, stop: int) -> Any:  # pragma: no cover (compiled)
    """Return the end of the last line between two places that ends outside of quotes, or `start`."""
    quotes = np.int64(0)
    for k in range(start, stop):
        quotes += np.int64(text[k] == _QUOTE)
    place = stop
    while place > start:
        c = text[place - 1]
        if c == _NEWLINE and quotes % 2 == 0:
            return place
        quotes -= np.int64(c == _QUOTE)
        place -= 1
    return start


@piece
def _number_cell(
    text: Any, place: Any, quoted: bool, mark: int, delimiter: int, tens: Any
) -> Any:  # pragma: no cover (compiled)
    """Return where a cell is over, its digits, and how many are behind its mark.

    These are -1 if it is no plain number, -2 if it may be one with another mark.
    """
    at, number, after = _read(text, place, mark, tens)
    c = np.int64(text[at])
    if after < 0 or ((c in (delimiter, _NEWLINE)) and not quoted):
        return at, number, after
    over = at
    if quoted:
        over += 1
    else:
        while np.int64(text[over]) == _SPACE:
            over += 1
    end = np.int64(text[over])
    if (c == _QUOTE or not quoted) and (end in (delimiter, _NEWLINE, _RETURN)):
        return over, number, after
    return at, number, np.int64(-2 if c in (_COMMA, _POINT) else -1)


@piece
def _word_cell(text: Any, place: Any, stop: int, quoted: bool, delimiters: Any) -> Any:  # pragma: no cover (compiled)
    """Return where a cell's text is over, -1 if it needs a closer look, lines in it, and whether quotes are doubled."""
    lines, doubled = np.int64(0), np.int64(0)
    if not quoted:
        return _bare_end(text, place, delimiters), lines, doubled
    at = place
    while True:
        at = _quoted_end(text, at)
        c = np.int64(text[at])
        if c == _QUOTE:
            if np.int64(text[at + 1]) != _QUOTE:
                return at, lines, doubled
            doubled = np.int64(1)
            at += 2
        elif c == _NEWLINE and at < stop:
            lines += 1
            at += 1
        elif c == _RETURN and np.int64(text[at + 1]) == _NEWLINE:
            at += 1
        else:
            return np.int64(-1), lines, doubled


@piece
def _keep_number(
    cells: Any, columns: Any, k: Any, row: Any, rows: int, negative: bool, number: Any, after: int, tables: Any
) -> None:  # pragma: no cover (compiled)
    values, places, digits, _, _, _ = cells
    value = _value(number, after, tables[1], tables[2])
    values[k * rows + row] = -value if negative else value
    places[k * rows + row] = after
    if number >= _SURE and row < columns[4 * k + 1]:
        columns[4 * k + 1] = row
    if row >= columns[4 * k + 1]:
        digits[k * rows + row] = number


@piece
def _keep_word(
    cells: Any, columns: Any, k: Any, row: Any, rows: int, begin: int, end: int
) -> None:  # pragma: no cover (compiled)
    values, places, digits, odd, begins, lengths = cells
    values[k * rows + row] = 0.0
    places[k * rows + row] = 0
    if row >= columns[4 * k + 1]:
        digits[k * rows + row] = _NONE
    other = k * rows + columns[4 * k]
    odd[other] = row
    begins[other] = begin
    lengths[other] = end - begin
    columns[4 * k] += 1


@piece
def _row(
    text: Any,
    place: Any,
    stop: int,
    delimiter: int,
    width: int,
    row: Any,
    rows: int,
    marks: Any,
    cells: Any,
    columns: Any,
    tables: Any,
) -> Any:  # pragma: no cover (compiled)
    """Cut one row; return where the next begins, -1 if it needs a closer look, and how many lines end before that."""
    delimiters, lines, needs = np.uint64(delimiter) * _ONES, np.int64(1), (np.int64(-1), np.int64(0))
    for k in range(width):
        while np.int64(text[place]) == _SPACE:
            place += 1
        quoted = np.int64(text[place]) == _QUOTE
        place += np.int64(quoted)
        negative = np.int64(text[place]) == _MINUS
        at, number, after = _number_cell(text, place + np.int64(negative), quoted, marks[k], delimiter, tables[0])
        if after >= 0:
            _keep_number(cells, columns, k, row, rows, negative, number, after, tables)
        else:
            columns[4 * k + 3] += np.int64(after == -2)
            at, more, doubled = _word_cell(text, place, stop, quoted, delimiters)
            if at < 0:
                return needs
            _keep_word(cells, columns, k, row, rows, place, at)
            lines += more
            columns[4 * k + 2] |= doubled
            at += np.int64(quoted)
        c = np.int64(text[at])
        if k + 1 < width:
            if c != delimiter:
                return needs
        else:
            at += np.int64(c == _RETURN)
            if np.int64(text[at]) != _NEWLINE or at >= stop:
                return needs
        place = at + 1
    return place, lines


@piece
def cut(
    text: Any,
    start: Any,
    stop: int,
    delimiter: int,
    width: int,
    rows: int,
    marks: Any,
    values: Any,
    places: Any,
    digits: Any,
    odd: Any,
    begins: Any,
    lengths: Any,
    columns: Any,
    ends: Any,
    told: Any,
    tens: Any,
    exact: Any,
    fives: Any,
) -> Any:  # pragma: no cover (compiled)
    """Cut the lines from `start` up to `stop` into at most so many rows; 0, or 1 where something needs a closer look.

    Of each column k: cell r is ``values[k * rows + r]`` and so on; the other cells follow each other in `odd` (which
    row), `begins` and `lengths`; and ``columns[4 * k:]`` tells how many they are, from which row on there are digits
    (`rows` if nowhere), whether quotes are doubled in any cell, and how many cells may be numbers with another mark.
    `told` are rows, where the next of them begins, and lines up to there.
    """
    cells, tables = (values, places, digits, odd, begins, lengths), (tens, exact, fives)
    lines, place, row = np.int64(0), start, np.int64(0)
    for k in range(width):
        columns[4 * k], columns[4 * k + 2], columns[4 * k + 3] = 0, 0, 0
    while place < stop and row < rows:
        c = np.int64(text[place])
        if c == _NEWLINE or (c == _RETURN and np.int64(text[place + 1]) == _NEWLINE):
            place += 1 + np.int64(c == _RETURN)
            lines += 1
            continue
        place, more = _row(text, place, stop, delimiter, width, row, rows, marks, cells, columns, tables)
        if place < 0:
            return 1
        lines += more
        ends[row] = lines
        row += 1
    told[0], told[1], told[2] = row, place, lines
    return 0


@piece
def _part(text: Any, place: Any, length: Any, k: Any) -> Any:  # pragma: no cover (compiled)
    """Return the next eight bytes of a word from its byte `k` on, zero behind it."""
    word = get_word(text, place + k)
    if length - k < 8:
        word &= _ALL >> np.uint64(64 - 8 * (length - k))
    return word


@piece
def _same(text: Any, a: int, b: int, length: int) -> bool:  # pragma: no cover (compiled)
    k = np.int64(0)
    while k < length:
        if _part(text, a, length, k) != _part(text, b, length, k):
            return False
        k += 8
    return True


@piece
def number_words(
    text: Any, begins: Any, lengths: Any, n: int, codes: Any, firsts: Any, keys: Any, slots: Any, most: int
) -> Any:  # pragma: no cover (compiled)
    """Write which of the different words each is, and where each of these is first; return how many there are.

    `keys` and `slots` are `most` numbers, a power of two; what is in them does not matter.  -1 where they are too few,
    or so many words have one key that the search for them would not end soon.
    """
    count: Any = np.int64(0)
    mask, looks = np.uint64(most - 1), 16 * n + 1024
    for j in range(most):
        slots[j] = -1
    for i in range(n):
        begin, length = begins[i], lengths[i]
        key, k = np.uint64(length), np.int64(0)
        while k < length:
            key = (key ^ _part(text, begin, length, k)) * _MIX
            key ^= key >> _TURN
            k += 8
        slot = key & mask
        while True:
            code = np.int64(slots[slot])
            if code < 0:
                if 2 * count >= most:
                    return -1
                slots[slot] = count
                keys[slot] = key
                firsts[count] = i
                codes[i] = count
                count += 1
                break
            if keys[slot] == key:
                first = firsts[code]
                if lengths[first] == length and _same(text, begins[first], begin, length):
                    codes[i] = code
                    break
            slot = (slot + _ONE) & mask
            looks -= 1
            if looks < 0:
                return -1
    return count


@piece
def gather_words(
    text: Any, begins: Any, lengths: Any, firsts: Any, n: int, gathered: Any, most: int
) -> Any:  # pragma: no cover (compiled)
    """Write the words at `firsts` one behind the other, each with a NUL behind it; return their bytes.

    -1 where these are more than `most`, which is at least eight.
    """
    place = np.int64(0)
    for i in range(n):
        begin, length = begins[firsts[i]], lengths[firsts[i]]
        if place + length + 8 > most:
            return np.int64(-1)
        k = np.int64(0)
        while k < length:
            put_word(gathered, place + k, get_word(text, begin + k))
            k += 8
        place += length
        gathered[place] = 0
        place += 1
    return place
