"""What the columns of a file are, numbers or text: decided once, from all cells, and kept with the model."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .columns import LARGEST, Floats, as_keys, as_numbers, bounded, fast_numbers, number_key, plural
from .spelling import Spelling, find_spelling

__all__ = ["Kind", "decide", "read_numbers"]

_WHOLE, _HASH = re.compile("[+-]?[0-9]+"), re.compile("[0-9]+e[0-9]+")
_PADDED = re.compile(r"\n[+-]?0[0-9]")
_STRAY = 20  # one such cell in more than so many decides nothing


class Kind(NamedTuple):
    """What a column is, its values, and what somebody should know of the decision."""

    values: npt.NDArray[Any]  # float64 with NaN for missing values, or text with None
    spelling: Spelling | None = None  # of numbers
    notes: tuple[str, ...] = ()


def decide(
    name: str,
    cells: npt.NDArray[Any],
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
    cells : array of shape (n,)
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
    numbers, spelling = fast_numbers(cells), Spelling()
    if numbers is None:
        found = find_spelling(Counter(cells.tolist()), name=name, decimal=decimal, numeric=numeric)
        if not isinstance(found, Spelling):  # the audit tells of a doubt
            return Kind(cells)
        numbers, spelling = found.parse(cells, name), found
    kind = Kind(numbers, spelling)
    if numeric or not spelling.plain:
        return Kind(cells) if categorical else kind
    kind = _codes(name, cells, numbers) or kind
    return Kind(as_keys(cells)) if categorical and kind.spelling is not None else kind


def _codes(name: str, cells: npt.NDArray[Any], numbers: Floats) -> Kind | None:
    """Look for numbers that are written like codes; None if there are none."""
    present = ~np.isnan(numbers)
    n = int(present.sum())
    suspects = [*_padded(cells, present), *_unholdable(cells, numbers)]
    if not suspects:
        return None
    few = f"{len(suspects):,} of {plural(n, 'number')} {'is' if len(suspects) == 1 else 'are'}"
    like = f"{few} written like {'a code' if len(suspects) == 1 else 'codes'}, such as {suspects[0]!r}"
    if _STRAY * len(suspects) < n:
        note = f"column {name!r} is numeric, though {like}; say that it is categorical if it holds codes"
        return Kind(numbers, Spelling(), (note,))
    return Kind(cells, None, (f"column {name!r} is text: {like}; say that it is numeric if it is a quantity",))


def _padded(cells: npt.NDArray[Any], present: npt.NDArray[np.bool_]) -> Sequence[str]:
    """Return the cells with a zero before their first other digit."""
    there = cells[present].tolist()
    if not _PADDED.search("\n" + "\n".join(there)):  # at once, for that is the rule
        return []
    return [cell for cell in there if _PADDED.match("\n" + cell)]


def _unholdable(cells: npt.NDArray[Any], numbers: Floats) -> Sequence[str]:
    """Return the cells that float64 cannot hold: whole numbers that it rounds, what overflows, and such as 12e345."""
    found = []
    for i in np.flatnonzero(np.abs(numbers) >= 2.0**53):
        cell = cells[i]
        if np.isinf(numbers[i]):
            code = re.search("[0-9]", cell) is not None  # not the word
        elif _WHOLE.fullmatch(cell):
            code = number_key(cell) != str(int(numbers[i]))
        else:
            code = abs(numbers[i]) > LARGEST and _HASH.fullmatch(cell) is not None
        if code:
            found.append(cell)
    return found


def read_numbers(name: str, array: npt.NDArray[Any], spelling: Spelling) -> Floats:
    """Return a column as float64, its text read in a spelling, NaN for missing values; or say which row is no number.

    Examples
    --------
    >>> read_numbers("price", np.array(["1,5", "NULL", None], dtype=object), Spelling(decimal=","))
    array([1.5, nan, nan])
    """
    numbers = fast_numbers(array) if spelling.plain or array.dtype.kind != "O" else None
    if numbers is None:
        try:
            numbers = spelling.parse(array.tolist(), name)
        except (OverflowError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            return as_numbers(name, array)  # of objects that are neither numbers nor text: says which
    return bounded(name, numbers)
