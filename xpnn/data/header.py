"""Whether the first row of a table names its columns, and what they are called."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from ..errors import DataError
from .columns import is_number
from .spelling import Doubt, find_spelling, is_missing_word

__all__ = ["BODY", "header_names", "is_header", "position_in"]

#: Rows below the first that are looked at.
BODY = 200
_ENOUGH = 10  # of them, for a value that never comes again to be none

Rows = Sequence[Sequence[str]]


def is_header(rows: Rows, missing: Collection[str], target: str | int | None, known: Collection[str]) -> bool:
    """Tell whether the first of some rows names the columns; `known` are names of the columns of such a table.

    It does if a word of it is the `target` or a known name, or stands above a column of numbers, or if all its cells
    are different words; also beside cells that are numbers (years, wavelengths), blank, or repeated.  It does not if
    its words are values of their columns, which are found there again.  A word that stands above values each of which
    comes again, and itself does not, is a name too.
    """
    first, body = [cell.strip() for cell in rows[0]], rows[1 : BODY + 1]
    words = {cell for cell in first if not (cell in missing or is_missing_word(cell) or _is_numeric(cell))}
    if words & set(known) or (isinstance(target, str) and target in first and position_in(target, len(first)) is None):
        return True
    below = [
        [c for row in body if (c := row[k].strip()) not in missing and not is_missing_word(c)]
        for k in range(len(first))
    ]
    # A frame written with its index: the row numbers have no name.
    index = not first[0] and _are_row_numbers([row[0] for row in body])
    if index and [int(cell) for cell in below[0]] in (list(range(len(body))), list(range(1, len(body) + 1))):
        return True
    heads = [(cell, column) for cell, column in zip(first, below, strict=True) if cell in words and column]
    texts = [(cell, column) for cell, column in heads if not all(map(_is_numeric, column))]
    values = sum(_is_value(cell, column) for cell, column in texts)
    if values and 2 * values >= len(texts):
        return False
    if len(texts) < len(heads):
        return True  # a word above numbers
    named = first[1:] if index else first
    if words.issuperset(named) and len(set(named)) == len(named):
        return True
    often = (min(Counter(column).values()) > 1 for _, column in texts if len(column) >= _ENOUGH)
    return values == 0 and any(often)


def _are_row_numbers(cells: Sequence[str]) -> bool:
    """Whether cells hold whole numbers, each another one."""
    numbers = {cell.strip() for cell in cells}
    return 0 < len(cells) == len(numbers) and all(re.fullmatch("[0-9]{1,18}", cell) for cell in numbers)


def _is_numeric(cell: str) -> bool:
    """Whether a cell is a number, however it is written: 12 %, but not x1, which names as well."""
    if is_number(cell):
        return True
    found = find_spelling([cell])
    return len(found.candidates) > 1 if isinstance(found, Doubt) else found is not None


def _is_value(cell: str, column: Sequence[str]) -> bool:
    """Whether a cell stands in its column again, or, as dates and amounts do, one with digits in the same places."""
    if cell in column:
        return True
    marks = re.sub("[0-9]+", "0", cell)
    return "0" in marks and not re.search("[^\\W\\d_]", cell) and marks in (re.sub("[0-9]+", "0", c) for c in column)


def position_in(target: str | int, width: int) -> int | None:
    """Return a position as one from 0 on, which may be given as text and from the end; None if it is none of `width`.

    Examples
    --------
    >>> position_in("-1", 3), position_in(0, 3), position_in("3", 3), position_in("age", 3)
    (2, 0, None, None)
    """
    try:
        position = int(target)
    except ValueError:
        return None
    return position % width if -width <= position < width else None


def header_names(row: Sequence[str], path: object) -> list[str]:
    """Return the names of the columns, those of blank cells filled in, or say which name occurs twice."""
    cells = [cell.strip() for cell in row]
    twice = [cell for cell, count in Counter(cells).items() if count > 1 and cell]
    if twice:
        at = ", ".join(str(k) for k, cell in enumerate(cells) if cell == twice[0])
        raise DataError(
            f"load_csv: expected different names in the header of {path}, got {twice[0]!r} in columns {at}. "
            f"Rename one, or pass header=False if the first row is data."
        )
    taken = set(cells)
    return [cell or next(name for name in _fillers(k) if name not in taken) for k, cell in enumerate(cells)]


def _fillers(k: int) -> Iterator[str]:
    """Yield names for a column without one; those of different columns differ."""
    yield str(k)
    for times in itertools.count():
        yield f"unnamed {'_' * times}{k}"
