"""What an audit reads: one column with its levels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...arguments import suggest
from ...errors import DataError, OptionError, ShapeError
from ..columns import LARGEST, Floats, as_column, as_texts, is_missing, is_text, plural, quote

__all__ = [
    "Column",
    "alike",
    "check_names",
    "many",
    "many_do",
    "quoted",
    "read_columns",
    "rows_alike",
    "share",
]

Codes: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Column:
    """One column, with its different values as numbered levels.

    Attributes
    ----------
    name : str
        As in the table.
    numbers : array of shape (n,) or None
        The values, NaN for missing ones; None for a column of categories.
    texts : list of str or None
        The categories, None for missing ones; empty for a column of numbers.
    spellings : list of str
        Categories as they were given, also with blanks at their ends, without repeats.
    """

    name: str
    numbers: Floats | None
    texts: list[str | None]
    spellings: list[str]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.texts) if self.numbers is None else len(self.numbers)

    @cached_property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which rows have a value; of shape (n,)."""
        if self.numbers is not None:
            return ~np.isnan(self.numbers)
        return np.array([t is not None for t in self.texts], dtype=bool)

    @cached_property
    def finite(self) -> Floats:
        """The numbers that are there and can be reckoned with."""
        numbers = np.empty(0) if self.numbers is None else self.numbers
        return numbers[np.abs(numbers) <= LARGEST]

    @cached_property
    def _factorized(self) -> tuple[list[Any], Codes]:
        if self.numbers is not None:
            levels, codes = np.unique(self.numbers[self.present], return_inverse=True)
            values: list[Any] = levels.tolist()
        else:
            words = [t for t in self.texts if t is not None]
            values = sorted(set(words))
            where = {word: i for i, word in enumerate(values)}
            codes = np.fromiter((where[w] for w in words), dtype=np.int64, count=len(words))
        whole = np.full(self.n, -1, dtype=np.int64)
        whole[self.present] = codes
        return values, whole

    @property
    def levels(self) -> list[Any]:
        """The different values, in order."""
        return self._factorized[0]

    @property
    def codes(self) -> Codes:
        """The level of each row, -1 for a missing one; of shape (n,)."""
        return self._factorized[1]

    @cached_property
    def counts(self) -> Codes:
        """Rows of each level."""
        return np.bincount(self.codes[self.present], minlength=len(self.levels)).astype(np.int64)

    @property
    def keys(self) -> list[str]:
        """The levels as text, so that 1, 1.0 and "1" are the same whichever way a file was read."""
        texts = as_texts(np.array(self.levels, dtype=object))
        return [text or "" for text in texts]

    @property
    def whole(self) -> bool:
        """Whether it is a column of whole numbers."""
        return self.numbers is not None and len(self.finite) > 0 and bool((self.finite == np.trunc(self.finite)).all())


def read_columns(
    columns: Mapping[str, npt.ArrayLike], categorical: Iterable[str], strip: Mapping[str, str]
) -> list[Column]:
    """Read all columns of a table.

    Parameters
    ----------
    columns : mapping of str to array of shape (n,)
        Numbers with NaN for missing values, or text with None.
    categorical : iterable of str
        Columns of numbers to read as categories.
    strip : mapping of str to str
        By column, an ending to take off each category.

    Returns
    -------
    list of Column
        In the order of the table.

    Raises
    ------
    ShapeError, DTypeError, DataError
        If columns differ in length or hold neither numbers nor text, or if there are none.
    """
    arrays = {str(name): as_column(str(name), values) for name, values in columns.items()}
    lengths = {len(array) for array in arrays.values()}
    if not lengths or lengths == {0}:
        raise DataError("audit: expected at least one column and one row, got none. Give it training rows.")
    if len(lengths) > 1:
        listed = ", ".join(f"{name}: {len(array)}" for name, array in arrays.items())
        raise ShapeError(f"audit: expected columns of one length, got {listed}. Cut them from one table.")
    chosen = set(categorical)
    return [
        _read(name, array, strip.get(name, ""), as_text=name in chosen or is_text(array))
        for name, array in arrays.items()
    ]


def _read(name: str, array: npt.NDArray[Any], strip: str, *, as_text: bool) -> Column:
    if as_text:
        texts = as_texts(array)
        spellings = sorted({v if isinstance(v, str) else t for v, t in zip(array.tolist(), texts, strict=True) if t})
        if strip:
            texts = [None if t is None else t.removesuffix(strip).strip() for t in texts]
            spellings = sorted({s.strip().removesuffix(strip).strip() for s in spellings})
        return Column(name, None, texts, spellings)
    if array.dtype.kind != "O":
        return Column(name, array.astype(np.float64), [], [])
    try:
        numbers = [np.nan if is_missing(v) else float(v) for v in array.tolist()]
    except (TypeError, ValueError) as error:
        raise DataError(
            f"audit: expected numbers or text in column {name!r}, got something else ({error}). Convert it first."
        ) from None
    return Column(name, np.array(numbers, dtype=np.float64), [], [])


# -- what several checks need -----------------------------------------------------------------------------------
def rows_alike(columns: Sequence[Column], *others: Sequence[Column]) -> Codes:
    """Number the rows so that equal rows have equal numbers: those of one table, then those of further ones.

    Parameters
    ----------
    columns : sequence of Column
        At least one.
    *others : sequences of Column
        The same columns of other tables.

    Returns
    -------
    array of int64
        One number for each row.
    """
    total = columns[0].n + sum(other[0].n for other in others)
    rows = np.zeros(total, dtype=np.int64)
    for parts in zip(columns, *others, strict=True):
        if all(part.numbers is not None for part in parts):
            values: npt.NDArray[Any] = np.concatenate([part.numbers for part in parts if part.numbers is not None])
        else:
            values = np.concatenate([np.array(["", *part.keys], dtype=object)[part.codes + 1] for part in parts])
            values = values.astype(str)
        _, codes = np.unique(values, return_inverse=True)
        # Renumbered after each column, so the product never overflows.
        groups, rows = np.unique(rows * (int(codes.max()) + 1) + codes, return_inverse=True)
        if len(groups) == total:
            break  # all differ already
    return rows


def alike(names: Iterable[str]) -> list[list[str]]:
    """Group names that differ in case, blanks, hyphens or a closing full stop alone; groups of two and more.

    Examples
    --------
    >>> alike(["<=50K", ">50K", "<=50K.", "New York", "new-york", "a", "A"])
    [['<=50K', '<=50K.'], ['New York', 'new-york']]
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        text = unicodedata.normalize("NFKC", name).strip()
        # Of single letters the case may be all the difference.
        text = text.casefold() if len(text) > 1 else text
        text = re.sub(r"(?<=\w)[\s_-]+(?=\w)", " ", text)
        groups.setdefault(re.sub(r"(?<=.)[\s.,;:!]+$", "", text), []).append(name)
    return [sorted(group) for group in groups.values() if len(group) > 1]


def check_names(option: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Raise OptionError unless all names are columns."""
    for name in names:
        if name not in known:
            raise OptionError(
                f"audit: expected columns in {option}, got {name!r}. {suggest(name, known)} "
                f"There are {quote(known, 20)}."
            )


def share(part: float, whole: float) -> str:
    """Return a share as a person says it.

    Examples
    --------
    >>> share(1, 3), share(1, 20000), share(19999, 20000), share(1, 1)
    ('33.3%', '<0.1%', '>99.9%', '100.0%')
    """
    percent = 100.0 * part / whole
    if 0 < percent < 0.1:
        return "<0.1%"
    return ">99.9%" if 99.9 < percent < 100 else f"{percent:.1f}%"


def many(n: int, noun: str) -> str:
    """Return ``1 row`` or ``1,234 rows``."""
    return plural(n, noun).replace(str(n), f"{n:,}", 1)


def many_do(n: int, noun: str, verb: str, of: str = "") -> str:
    """Return ``1 row holds`` or ``3 rows hold``, with what stands between the two.

    Examples
    --------
    >>> many_do(1, "row", "hold"), many_do(3, "row", "miss", "of 10")
    ('1 row holds', '3 rows of 10 miss')
    """
    if n == 1:
        verb = "has" if verb == "have" else f"{verb}es" if verb.endswith("s") else f"{verb}s"
    return " ".join(part for part in (many(n, noun), of, verb) if part)


def quoted(values: Iterable[object], most: int = 3) -> str:
    """List values, at most `most` of them."""
    return quote(values, most)
