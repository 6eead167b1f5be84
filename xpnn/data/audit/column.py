"""What an audit reads, one column with its levels, and the words in which it tells of it."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import DataError, ShapeError
from ..columns import LARGEST, Floats, as_column, as_texts, is_missing, is_number, is_text, label_key, plural, quote
from ..spelling import Doubt, Spelling, find_spelling, is_missing_word

__all__ = ["FEW_ROWS", "Codes", "Column", "Written", "alike", "many", "many_do", "read_columns", "rows_alike", "share"]

Codes: TypeAlias = npt.NDArray[np.int64]

FEW_ROWS = 20  # below, repeats and their absence are chance

_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./-]\d{1,2}[./-](\d{2}|\d{4})")
# The names that people give to what numbers the rows.
_ID = re.compile(r"(?:.*[\W_])?(?:id|ID|Id|uuid|guid|index|key)|.*[a-z](?:Id|ID)|Unnamed: ?0")


class _Numbers(Sequence[float]):
    """The different numbers of a column, kept as an array: a list of them takes four times the memory."""

    def __init__(self, values: Floats) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: Any) -> Any:
        return self._values[place].tolist()

    def __iter__(self) -> Iterator[float]:
        return iter(self._values.tolist())


@dataclass(frozen=True)
class Written:
    """How numbers stood in text: their spelling, one of them, and the words for no value with their rows."""

    spelling: Spelling
    example: str
    missing: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class Column:
    """One column of a table, with its different values as numbered levels, in order.

    `codes`, of shape (n,), is the level of each row, -1 for a missing value. `numbers` are the values, NaN for missing
    ones; None for a column of categories. `written` is how they stood in text, if they did, and `doubt` what is open in
    text that looks like numbers. `spellings` are categories as they were given, also with blanks at their ends, without
    repeats. `dayfirst` answers for dates that leave open which number is the day.
    """

    name: str
    levels: Sequence[Any]
    codes: Codes
    numbers: Floats | None = None
    spellings: Sequence[str] = ()
    written: Written | None = None
    doubt: Doubt | None = None
    dayfirst: bool | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.codes)

    @cached_property
    def present(self) -> npt.NDArray[np.bool_]:
        """Which rows have a value; of shape (n,)."""
        return self.codes >= 0

    @cached_property
    def finite(self) -> Floats:
        """The numbers that are there and can be reckoned with."""
        numbers = np.empty(0) if self.numbers is None else self.numbers
        there = np.abs(numbers) <= LARGEST
        return numbers if there.all() else numbers[there]

    @cached_property
    def counts(self) -> Codes:
        """Rows of each level."""
        return np.bincount(self.codes[self.present], minlength=len(self.levels)).astype(np.int64)

    @cached_property
    def rows(self) -> dict[str, int]:
        """Rows of each level by its text, so that 1, 1.0 and "1" are the same whichever way a file was read."""
        return dict(zip(map(label_key, self.levels), self.counts.tolist(), strict=True))

    @property
    def whole(self) -> bool:
        """Whether it is a column of whole numbers."""
        return self.numbers is not None and len(self.finite) > 0 and bool((self.finite == np.trunc(self.finite)).all())

    @cached_property
    def dates(self) -> bool:
        """Whether it is a column of dates as text."""
        levels = self.levels[:: max(len(self.levels) // 200, 1)]
        if self.numbers is not None or len(levels) < 3:
            return False
        return sum(_DATE.fullmatch(level) is not None for level in levels) >= 0.9 * len(levels)

    @cached_property
    def identifies(self) -> bool:
        """Whether it names the rows: words without a repeat, or whole numbers, close together or called so."""
        present = int(self.present.sum())
        if present < FEW_ROWS or len(self.levels) < present:
            return False
        if self.numbers is None:
            return self.doubt is None and not self.dates
        close = float(self.finite.max() - self.finite.min()) < 2 * present if len(self.finite) else False
        return self.whole and (close or _ID.fullmatch(self.name) is not None)


def read_columns(
    columns: Mapping[str, npt.ArrayLike],
    categorical: Collection[str],
    strip: Mapping[str, str],
    written: Mapping[str, Written],
) -> list[Column]:
    """Read all columns of a table: numbers with NaN for missing values, or text with None.

    Columns named in `categorical` are read as text; `strip` has, by column, an ending to take off each category, and
    `written` how numbers stood that were read from text.
    """
    arrays = {name: as_column(name, values) for name, values in columns.items()}
    lengths = {len(array) for array in arrays.values()}
    if not lengths or lengths == {0}:
        raise DataError("audit: expected at least one column and one row, got none. Give it training rows.")
    if len(lengths) > 1:
        listed = ", ".join(f"{name}: {len(array)}" for name, array in arrays.items())
        raise ShapeError(f"audit: expected columns of one length, got {listed}. Cut them from one table.")
    return [
        _read_words(name, array, strip.get(name, ""), chosen=name in categorical)
        if name in categorical or is_text(array)
        else _read_numbers(name, array, written.get(name))
        for name, array in arrays.items()
    ]


def _doubt(name: str, rows: Mapping[str | None, int]) -> Doubt | None:
    """Tell what is open in text that looks like numbers, or that it could be read as such."""
    found = find_spelling(rows, name=name)
    words = {word: n for word, n in rows.items() if word is not None}
    if not isinstance(found, Spelling) or all(map(is_number, words)):
        return found if isinstance(found, Doubt) else None
    missing = [word for word in words if is_missing_word(word)]
    present = sum(n for word, n in words.items() if word not in missing)
    if missing:
        stray = sum(words[word] for word in missing)
        seen = f"All but {many(stray, 'row')} hold numbers; the others hold {quote(missing, 3)}."
        return Doubt(stray, seen, f"Say that they mean no value (--missing={','.join(missing[:3])}).", (found,))
    example = next(iter(words))
    seen = f"{many_do(present, 'row', 'hold')} {found.describe()}, such as {example!r}."
    return Doubt(present, seen, "Read the file with load_csv, or the column with Spelling.parse.", (found,))


def _read_words(name: str, array: npt.NDArray[Any], strip: str, *, chosen: bool) -> Column:
    texts = as_texts(array)
    doubt = None if chosen else _doubt(name, Counter(texts))
    spellings = {v if isinstance(v, str) else t for v, t in zip(array.tolist(), texts, strict=True) if t}
    if strip:
        texts = [None if t is None else t.removesuffix(strip).strip() for t in texts]
        spellings = {s.strip().removesuffix(strip).strip() for s in spellings}
    levels = sorted({t for t in texts if t is not None})
    where: dict[str | None, int] = {None: -1} | {level: i for i, level in enumerate(levels)}
    codes = np.fromiter(map(where.__getitem__, texts), dtype=np.int64, count=len(texts))
    return Column(name, levels, codes, spellings=sorted(spellings), doubt=doubt)


def _read_numbers(name: str, array: npt.NDArray[Any], written: Written | None = None) -> Column:
    try:
        if array.dtype.kind == "O":
            array = np.array([np.nan if is_missing(v) else float(v) for v in array.tolist()])
    except (TypeError, ValueError) as error:
        raise DataError(
            f"audit: expected numbers or text in column {name!r}, got something else ({error}). Convert it first."
        ) from None
    numbers = array.astype(np.float64, copy=False)
    levels, codes = np.unique(numbers, return_inverse=True)  # NaN, if there is one, is the last
    codes[np.isnan(numbers)] = -1
    return Column(name, _Numbers(levels[~np.isnan(levels)]), codes, numbers, written=written)


# -- what several checks need -----------------------------------------------------------------------------------
def rows_alike(columns: Sequence[Column], *others: Sequence[Column]) -> Codes:
    """Number the rows of one table, then those of further ones with the same columns; equal rows have equal numbers."""
    total = columns[0].n + sum(other[0].n for other in others)
    rows = np.zeros(total, dtype=np.int64)
    for parts in zip(columns, *others, strict=True):
        codes = parts[0].codes + 1
        if others:
            numbers = [part.numbers for part in parts if part.numbers is not None]
            values: list[npt.NDArray[Any]] = list(numbers)
            if len(numbers) < len(parts):
                values = [np.array(["", *part.rows])[part.codes + 1] for part in parts]
            _, codes = np.unique(np.concatenate(values), return_inverse=True)
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
