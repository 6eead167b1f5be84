"""What the columns of a file are, numbers or text: decided once, from all cells, and kept with the model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .columns import LARGEST, Floats, all_within, as_keys, as_numbers, bounded, fast_numbers, number_key, plural
from .spelling import Spelling, find_spelling, is_missing_word
from .written import Numbers, Written

__all__ = ["Kind", "decide", "read_numbers"]

_WHOLE, _HASH = re.compile("[+-]?[0-9]+"), re.compile("[0-9]+e[0-9]+")
_PADDED = re.compile(r"[+-]?0[0-9]")
_PLAIN = {mark: re.compile(rf"-?(0|[1-9][0-9]*)({re.escape(mark)}[0-9]+)?([eE][+-]?[0-9]+)?") for mark in ".,"}
_ENOUGH = 3  # different numbers, beside which words for no value are no categories
_HEAD = 1000  # rows among which so many are looked for
_STRAY = 20  # one such cell in more than so many decides nothing


class Kind(NamedTuple):
    """What a column is, its values, and what somebody should know of the decision."""

    values: npt.NDArray[Any] | Written  # float64 with NaN for missing values, or text with None
    spelling: Spelling | None = None  # of numbers
    notes: tuple[str, ...] = ()


def decide(
    name: str,
    cells: npt.NDArray[Any] | Written,
    *,
    numeric: bool = False,
    categorical: bool = False,
    decimal: Literal[".", ","] | None = None,
) -> Kind:
    """Tell from all cells of a column whether it holds numbers, and how they are written.

    Numbers that are written like codes are text, unless somebody said that they are `numeric`: where at least one cell
    in twenty begins with a zero before another digit, or is too large for float64 to hold, or a whole number that it
    would round.

    Parameters
    ----------
    name : str
        The column's, for the note.
    cells : array of shape (n,), or Written
        Stripped strings, and None for missing values.
    numeric, categorical : bool, default=False
        Whether somebody said that the column holds numbers, or categories. Categories that are numbers are text of one
        form: 1.0 is 1.
    decimal : {".", ","}, optional
        The decimal mark, where the cells leave it open.

    Examples
    --------
    >>> decide("price", np.array(["1,5", "12,75", None], dtype=object)).values
    array([ 1.5 , 12.75,   nan])
    >>> decide("zip", np.array(["01234", "10001"], dtype=object)).values
    array(['01234', '10001'], dtype=object)
    """
    column = cells if isinstance(cells, Written) else Written.of(cells.tolist())
    numbers, spelling = fast_numbers(column), Spelling()
    if numbers is None:
        found = _spelling_of(column, name, decimal, numeric=numeric)
        if found is None:
            return Kind(cells)
        numbers, spelling = found.parse(column, name), found
    kind = Kind(numbers, spelling)
    if numeric or not spelling.plain:
        return Kind(cells) if categorical else kind
    kind = _codes(name, column, numbers) or kind
    if kind.spelling is None:
        return Kind(cells, None, kind.notes)
    return Kind(as_keys(column.text())) if categorical else kind


def _spelling_of(column: Written, name: str, decimal: Literal[".", ","] | None, *, numeric: bool) -> Spelling | None:
    """Tell how the numbers of a column are written; None where there are none, or it is in doubt."""
    if decimal is None and column.numbers is not None and _only_gaps_beside_numbers(column, column.numbers):
        return Spelling(column.numbers.mark)
    different = Counter(column.tolist()) if column.has_plain else column.counts()
    found = find_spelling(different, name=name, decimal=decimal, numeric=numeric)
    return found if isinstance(found, Spelling) else None  # the audit tells of a doubt


def _only_gaps_beside_numbers(column: Written, numbers: Numbers) -> bool:
    """Whether all cells are plain numbers, at least three different ones, but for words that mean no value.

    A comma is a decimal mark for sure only if it cannot stand between thousands: some other number than three of digits
    stands behind one.  `find_spelling` would say the same, once it had all numbers as text.
    """
    plain = _PLAIN[numbers.mark]
    words = [word for word in column.words if word is not None]
    if not column.has_plain or not all(plain.fullmatch(word) or is_missing_word(word) for word in words):
        return False
    if numbers.mark == ",":
        places = numbers.places.copy()
        places[numbers.odd] = 0
        if not ((places > 0) & (places != 3)).any():
            return False
    return len({cell for cell in column.head(_HEAD) if cell is not None and plain.fullmatch(cell)}) >= _ENOUGH


def _codes(name: str, column: Written, numbers: Floats) -> Kind | None:
    """Look for numbers that are written like codes; None if there are none."""
    suspects = [*_padded(column), *_unholdable(column, numbers)]
    if not suspects:
        return None
    n = len(numbers) - int(np.isnan(numbers).sum())
    few = f"{len(suspects):,} of {plural(n, 'number')} {'is' if len(suspects) == 1 else 'are'}"
    like = f"{few} written like {'a code' if len(suspects) == 1 else 'codes'}, such as {suspects[0]!r}"
    if _STRAY * len(suspects) < n:
        note = f"column {name!r} is numeric, though {like}; say that it is categorical if it holds codes"
        return Kind(numbers, Spelling(), (note,))
    return Kind(column, None, (f"column {name!r} is text: {like}; say that it is numeric if it is a quantity",))


def _padded(column: Written) -> Sequence[str | None]:
    """Return the cells with a zero before their first other digit; plain numbers have none."""
    return column.at(column.rows_of(lambda word: word is not None and _PADDED.match(word) is not None))


def _unholdable(column: Written, numbers: Floats) -> Sequence[str]:
    """Return the cells that float64 cannot hold: whole numbers that it rounds, what overflows, and such as 12e345."""
    if all_within(numbers, 2.0**53):
        return []
    found = []
    rows = np.flatnonzero(np.abs(numbers) >= 2.0**53)
    for cell, number in zip(column.at(rows), numbers[rows].tolist(), strict=True):
        if cell is None:
            continue
        if math.isinf(number):
            code = re.search("[0-9]", cell) is not None  # not the word
        elif _WHOLE.fullmatch(cell):
            code = number_key(cell) != str(int(number))
        else:
            code = abs(number) > LARGEST and _HASH.fullmatch(cell) is not None
        if code:
            found.append(cell)
    return found


def read_numbers(name: str, array: npt.NDArray[Any] | Written, spelling: Spelling) -> Floats:
    """Return a column as float64, its text read in a spelling, NaN for missing values; or say which row is no number.

    Examples
    --------
    >>> read_numbers("price", np.array(["1,5", "NULL", None], dtype=object), Spelling(decimal=","))
    array([1.5, nan, nan])
    """
    numbers = fast_numbers(array) if spelling.plain or array.dtype.kind != "O" else None
    if numbers is None:
        try:
            numbers = spelling.parse(array if isinstance(array, Written) else array.tolist(), name)
        except (OverflowError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            return as_numbers(name, array)  # of objects that are neither numbers nor text: says which
    return bounded(name, numbers)
