"""Columns of a file as they are written, kept small: plain numbers as numbers, all other cells as words and codes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .decimals import written

__all__ = ["Columns", "Numbers", "Part", "Written", "WrittenBuilder"]

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.intp]
Codes: TypeAlias = npt.NDArray[Any]  # whole numbers, of as few bytes as are enough
_DIGIT = re.compile("[0-9]")


@dataclass(eq=False)
class Numbers:
    """Plain numbers, as `read_decimals` returns them; what stands in the rows of other cells says nothing.

    Attributes
    ----------
    odd : array of whole numbers
        The rows of other cells, in order.
    values, places, digits : arrays of shape (n,)
        As in `Decimals`.
    mark : {".", ","}
        The decimal mark.
    """

    odd: Places
    values: Floats
    places: npt.NDArray[np.uint8]
    digits: npt.NDArray[np.uint64] | None = None
    mark: Literal[".", ","] = "."

    @property
    def whole(self) -> bool:
        """Whether none has a decimal mark."""
        places = self.places.copy()
        places[self.odd] = 0
        return not places.any()

    def some(self, rows: Any, odd: Places) -> Numbers:
        """Return the numbers of some rows, `odd` of which are other cells."""
        digits = None if self.digits is None else self.digits[rows]
        return Numbers(odd, self.values[rows], self.places[rows], digits, self.mark)

    def text(self) -> Sequence[str]:
        """Return all rows as text."""
        return written(self.values, self.places, self.digits, self.mark)

    def all_digits(self) -> npt.NDArray[np.uint64]:
        """Return the digits without the mark; of up to 15 they are told by the value."""
        if self.digits is not None:
            return self.digits
        values = np.abs(self.values)
        values[self.odd] = 0.0
        values *= 10.0**self.places
        digits: npt.NDArray[np.uint64] = np.rint(values).astype(np.uint64)
        return digits


@dataclass(eq=False)
class Part:
    """Some cells of a column.

    Attributes
    ----------
    codes : array, whole numbers
        Of each cell that is no plain number, which of `words` it is.
    words : sequence of str
        The cells that are no plain numbers, different ones as a rule, the first first.
    numbers : Numbers or None
        The plain numbers; None if there are none.
    """

    codes: Codes
    words: Sequence[str]
    numbers: Numbers | None = None

    def __len__(self) -> int:
        return len(self.codes) if self.numbers is None else len(self.numbers.values)

    @classmethod
    def of(cls, cells: Iterable[str]) -> Part:
        """Return cells as words."""
        return cls(*_coded(cells))


def _coded(cells: Iterable[Any]) -> tuple[Codes, list[Any]]:
    """Return which of the different cells each is, and these, the first first."""
    place: dict[Any, int] = {}
    codes = [place.setdefault(cell, len(place)) for cell in cells]
    return np.array(codes, dtype=np.min_scalar_type(max(len(place) - 1, 0))), list(place)


class _Growing:
    """An array that grows at its end: large ones are moved by the system, not copied, and take no room twice.

    Where it is known how long it will become, room is taken at once: the system then gives it in large pages, in a
    fraction of the time, as it is written to.
    """

    def __init__(self, dtype: npt.DTypeLike, expected: int = 0) -> None:
        self._array: npt.NDArray[Any] = np.empty(0, dtype)
        self.n, self.expected = 0, expected

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add values; codes that are larger than before make all of them wider."""
        stop = self.n + len(values)
        wider = values.dtype.itemsize > self._array.dtype.itemsize
        if wider or len(self._array) < stop <= self.expected:
            before = self._array[: self.n]
            self._array = np.empty(max(stop, self.expected), values.dtype if wider else before.dtype)
            self._array[: self.n] = before
        if stop > len(self._array):
            self._array.resize(max(stop, self.n + (self.n >> 3)), refcheck=False)
        self._array[self.n : stop] = values
        self.n = stop

    def fill(self, value: float, many: int) -> None:
        """Add one value many times."""
        self.add(np.full(many, value, self._array.dtype))

    def view(self) -> npt.NDArray[Any]:
        """Return what there is, until more is added."""
        return self._array[: self.n]

    def taken(self) -> npt.NDArray[Any]:
        """Return the array; nothing is left here."""
        array, self._array = self._array, self._array[:0].copy()
        array.resize(self.n, refcheck=False)
        return array


class _Counts:
    """Of each number the digits behind the mark; where all have as many, that is all that is kept."""

    def __init__(self) -> None:
        self.expected = 0
        self._all: np.uint8 | None = None  # have as many
        self._each: _Growing | None = None
        self.n = 0

    def add(self, places: npt.NDArray[np.uint8], odd: Places) -> None:
        """Add those of some rows, of which `odd` ones hold no number."""
        plain = np.delete(places, odd) if len(odd) else places
        self.n += len(places)
        if self._each is None and len(plain):
            self._all = plain[0] if self._all is None else self._all
            if (plain != self._all).any():
                self._each = _Growing(np.uint8, self.expected)
                self._each.fill(float(self._all), self.n - len(places))
        if self._each is not None:
            self._each.add(places)

    def skip(self, many: int) -> None:
        """Add rows without a number."""
        self.n += many
        if self._each is not None:
            self._each.fill(0, many)

    def view(self) -> npt.NDArray[np.uint8]:
        """Return them of all rows."""
        if self._each is not None:
            return self._each.view()
        return np.broadcast_to(np.uint8(0) if self._all is None else self._all, (self.n,))

    def taken(self) -> npt.NDArray[np.uint8]:
        """Return them of all rows; nothing is left here."""
        return self.view() if self._each is None else self._each.taken()


class WrittenBuilder:
    """A column put together from its parts."""

    def __init__(self) -> None:
        self._expected = 0
        self._places: dict[str, int] = {}  # of the words
        self._mark: Literal[".", ","] | None = None
        self._codes, self._odd = _Growing(np.uint8), _Growing(np.intp)
        self._values, self._counts = _Growing(np.float64), _Counts()
        self._digits: _Growing | None = None
        self._n, self._plain = 0, False

    def expect(self, rows: int) -> None:
        """Make ready for about so many rows."""
        self._expected = self._values.expected = self._counts.expected = rows

    def add(self, part: Part) -> None:
        """Add the next rows."""
        if part.numbers is not None and not part.numbers.whole:
            self._mark = self._mark or part.numbers.mark
            if part.numbers.mark != self._mark:
                part = Part.of(Written(list(part.words), part.codes, part.numbers).text().tolist())
        known = self._known(part.words)
        if self._expected and not self._codes.expected:
            self._codes.expected = self._odd.expected = self._expected * len(part.codes) // max(len(part), 1)
        self._codes.add(known.astype(np.min_scalar_type(max(len(self._places) - 1, 0)))[part.codes])
        self._add_numbers(part)
        self._n += len(part)

    def _add_numbers(self, part: Part) -> None:
        """Add plain numbers; before the first of them all rows are words."""
        numbers = part.numbers
        if numbers is not None and not self._plain:
            self._plain = True
            self._add_words(0, self._n)
        if not self._plain:
            return
        if numbers is None:
            self._add_words(self._n, len(part))
            return
        if numbers.digits is not None and self._digits is None:
            so_far = Numbers(self._odd.view(), self._values.view(), self._counts.view())
            self._digits = _Growing(np.uint64, self._expected)
            self._digits.add(so_far.all_digits())
        self._values.add(numbers.values)
        self._counts.add(numbers.places, numbers.odd)
        self._odd.add(self._n + numbers.odd)
        if self._digits is not None:
            self._digits.add(numbers.all_digits())

    def _add_words(self, start: int, many: int) -> None:
        """Add rows without a plain number."""
        self._values.fill(np.nan, many)
        self._counts.skip(many)
        self._odd.add(np.arange(start, start + many))
        if self._digits is not None:
            self._digits.fill(0, many)

    def _known(self, words: Sequence[str]) -> Places:
        """Return the places of words, new ones behind the others."""
        places, before = self._places, len(self._places)
        if words and words[0] not in places and words[-1] not in places and places.keys().isdisjoint(words):
            stop = before + len(words)  # at once, for so it is in identifiers
            places.update(zip(words, range(before, stop), strict=True))
            if len(places) == stop:
                return np.arange(before, stop)
            for word in words:  # some stand twice
                places.pop(word, None)
        return np.array([places.setdefault(word, len(places)) for word in words], dtype=np.intp)

    def build(self) -> Written:
        """Return the column; nothing is left here."""
        words: list[str | None] = list(self._places)
        codes = self._codes.taken()
        if not self._plain:
            return Written(words, codes).compact()
        digits = None if self._digits is None else self._digits.taken()
        numbers = Numbers(self._odd.taken(), self._values.taken(), self._counts.taken(), digits, self._mark or ".")
        return Written(words, codes, numbers).compact()


@dataclass(eq=False)
class Written:
    """A column of a file as it is written: stripped text, None for missing cells.

    ``numpy.asarray(column)`` makes all of it text, as objects.

    Attributes
    ----------
    words : list of str or None
        The different cells that are no plain numbers, in the order of their first rows; None stands for no value.
    codes : array, whole numbers
        Which of `words` each of these cells is.
    numbers : Numbers or None
        The plain numbers; None if there are none.

    Examples
    --------
    >>> column = Written.of(["a", "b", "a", None])
    >>> np.asarray(column).tolist(), column.words
    (['a', 'b', 'a', None], ['a', 'b', None])
    """

    words: list[str | None]
    codes: Codes
    numbers: Numbers | None = None
    _text: npt.NDArray[Any] | None = field(default=None, repr=False)

    ndim = 1
    dtype = np.dtype(object)

    @classmethod
    def of(cls, cells: Iterable[str | None]) -> Written:
        """Return cells as words."""
        codes, words = _coded(cells)
        return cls(words, codes)

    def __len__(self) -> int:
        return len(self.codes) if self.numbers is None else len(self.numbers.values)

    @property
    def shape(self) -> tuple[int]:
        """Shape of the column as an array."""
        return (len(self),)

    # -- text ---------------------------------------------------------------------------------------------------
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        text = self.text()
        return text.copy() if copy and text is self._text else text

    def __getitem__(self, index: Any) -> Any:
        if self.numbers is None and self._text is None:
            table = np.empty(len(self.words), dtype=object)
            table[:] = self.words
            return table[self.codes[index]]
        return self.text()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def tolist(self) -> list[str | None]:
        """Return the cells as a list."""
        cells: list[str | None] = self.text().tolist()
        return cells

    def text(self) -> npt.NDArray[Any]:
        """Return the cells as objects: stripped text, None for missing cells."""
        if self._text is not None:
            return self._text
        table = np.empty(len(self.words), dtype=object)
        table[:] = self.words
        if self.numbers is None:
            self._text = table[self.codes]  # kept: a column of words has no other form
            return self._text
        cells = np.empty(len(self), dtype=object)
        cells[:] = self.numbers.text()
        cells[self.numbers.odd] = table[self.codes]
        return cells

    def head(self, n: int) -> list[str | None]:
        """Return the first cells.

        Examples
        --------
        >>> Written.of(["a", "b"]).head(1)
        ['a']
        """
        return self.between(0, n)

    def between(self, start: int, stop: int) -> list[str | None]:
        """Return the cells of the rows from one up to another.

        Examples
        --------
        >>> Written.of(["a", "b", "c"]).between(1, 3)
        ['b', 'c']
        """
        if self.numbers is None:
            return [self.words[code] for code in self.codes[start:stop].tolist()]
        first, last = np.searchsorted(self.numbers.odd, (start, stop)).tolist()
        numbers = self.numbers.some(slice(start, stop), self.numbers.odd[first:last] - start)
        return Written(self.words, self.codes[first:last], numbers).tolist()

    def at(self, rows: npt.NDArray[Any]) -> list[str | None]:
        """Return the cells of some rows, which rise.

        Examples
        --------
        >>> Written.of(["a", "b", "c"]).at(np.array([0, 2]))
        ['a', 'c']
        """
        if self.numbers is None:
            return [self.words[code] for code in self.codes[rows].tolist()]
        return self._some(rows).tolist()

    def take(self, rows: npt.NDArray[Any]) -> Written:
        """Return the column with some rows alone, which rise.

        Examples
        --------
        >>> Written.of(["a", "b", "c"]).take(np.array([0, 2])).words
        ['a', 'c']
        """
        return self._some(rows).compact()

    def _some(self, rows: npt.NDArray[Any]) -> Written:
        if self.numbers is None:
            return Written(self.words, self.codes[rows])
        odd = np.flatnonzero(np.isin(rows, self.numbers.odd))
        codes = self.codes[np.searchsorted(self.numbers.odd, rows[odd])]
        return Written(self.words, codes, self.numbers.some(rows, odd))

    def rest(self) -> Written:
        """Return the column without its first row.

        Examples
        --------
        >>> Written.of(["a", "b"]).rest().words
        ['b']
        """
        if self.numbers is None:
            codes = self.codes[1:]
            if codes.all():  # the first row's word, the first of all, is in no other
                kind = np.min_scalar_type(max(len(self.words) - 2, 0))
                return Written(self.words[1:], (codes - codes.dtype.type(1)).astype(kind))
            return Written(list(self.words), codes).compact()
        odd = self.numbers.odd
        first = int(len(odd) > 0 and odd[0] == 0)
        numbers = self.numbers.some(slice(1, None), odd[first:] - 1)
        return Written(list(self.words), self.codes[first:], numbers).compact()

    # -- words --------------------------------------------------------------------------------------------------
    @property
    def has_plain(self) -> bool:
        """Whether any cell is a plain number."""
        return self.numbers is not None and len(self.codes) < len(self)

    @property
    def has_text(self) -> bool:
        """Whether any cell holds something."""
        return self.has_plain or any(self.words)

    def rows_of(self, chosen: Callable[[str | None], bool]) -> Places:
        """Return the rows of the words for which something holds; those of plain numbers are not asked."""
        which = np.fromiter(map(chosen, self.words), bool, len(self.words))
        found = np.flatnonzero(which[self.codes]) if which.any() else np.empty(0, dtype=np.intp)
        return found if self.numbers is None else self.numbers.odd[found]

    def rows_with_comma(self) -> Places:
        """Return the rows of plain numbers with a decimal comma, which `float` does not read."""
        if self.numbers is None or self.numbers.mark == ".":
            return np.empty(0, dtype=np.intp)
        return np.setdiff1d(np.flatnonzero(self.numbers.places), self.numbers.odd)

    def words_in(self, rows: npt.NDArray[np.bool_]) -> Counter[str]:
        """Return the words that stand in some rows, and in how many of them."""
        codes = self.codes[rows if self.numbers is None else rows[self.numbers.odd]]
        times = np.bincount(codes, minlength=len(self.words)).tolist()
        return Counter({word: n for word, n in zip(self.words, times, strict=True) if n and word is not None})

    def counts(self) -> Counter[str | None]:
        """Return how many rows hold each of `words`."""
        times = np.bincount(self.codes, minlength=len(self.words)).tolist()
        return Counter(dict(zip(self.words, times, strict=True)))

    def compact(self) -> Written:
        """Leave out words that no row holds, put the others in the order of their first rows, and return the column."""
        if self._stale():
            used, first, codes = np.unique(self.codes, return_index=True, return_inverse=True)
            order = np.argsort(first)
            place = np.empty_like(order)
            place[order] = np.arange(len(order))
            self.words = [self.words[k] for k in used[order].tolist()]
            self.codes = place[codes].astype(np.min_scalar_type(max(len(order) - 1, 0)))
        return self

    def _stale(self) -> bool:
        """Whether a word has no row, or comes later than its code says."""
        if not np.bincount(self.codes, minlength=len(self.words)).all():
            return True
        if len(self.words) < 2:
            return False
        highest = np.maximum.accumulate(self.codes)
        return bool((highest[1:] > highest[:-1] + highest.dtype.type(1)).any() or self.codes[0] != 0)

    # -- meaning ------------------------------------------------------------------------------------------------
    def without(self, absent: frozenset[str]) -> tuple[Written, Counter[str]]:
        """Return the column with None for the words that mean no value, and what these read, with their rows."""
        column = self._with_words(absent)
        if absent.isdisjoint(column.words):
            return column, Counter()
        gaps = Counter({word: n for word, n in column.counts().items() if word is not None and word in absent})
        kept = [word for word in column.words if word not in gaps]
        place = {word: k for k, word in enumerate(kept)}
        codes = np.array([place.get(word, len(kept)) for word in column.words])[column.codes]
        codes = codes.astype(np.min_scalar_type(len(kept)))
        return Written([*kept, None], codes, column.numbers).compact(), gaps

    def _with_words(self, absent: frozenset[str]) -> Written:
        """Return the column in which plain numbers that are among some words are words, too."""
        numbers = self.numbers
        if numbers is None:
            return self
        more = np.sort(np.concatenate([np.empty(0, dtype=np.intp), *(self._rows_like(numbers, w) for w in absent)]))
        if not more.size:
            return self
        place = {word: k for k, word in enumerate(self.words)}
        codes = [*self.codes.tolist(), *(place.setdefault(cell, len(place)) for cell in self.at(more))]
        odd = np.concatenate([numbers.odd, more])
        order = np.argsort(odd)
        made = np.array(codes, dtype=np.min_scalar_type(len(place) - 1))[order]
        return Written(list(place), made, numbers.some(slice(None), odd[order])).compact()

    def _rows_like(self, numbers: Numbers, word: str) -> Places:
        """Return the rows of plain numbers that are written as a word."""
        if not _DIGIT.search(word):
            return np.empty(0, dtype=np.intp)
        try:
            value = float(word.replace(numbers.mark, "."))
        except ValueError:
            value = np.nan
        rows = np.setdiff1d(np.flatnonzero(numbers.values == value), numbers.odd)
        if not rows.size:
            return rows
        _, one, which = np.unique(numbers.places[rows], return_index=True, return_inverse=True)
        alike = np.array([self.at(rows[k : k + 1]) == [word] for k in one.tolist()])
        found: Places = rows[alike[which]]
        return found

    def numbers_by(self, read: Callable[[str | None], float | None]) -> Floats | None:
        """Return the column as numbers, plain ones as they are and words as `read` says; None where it says None."""
        found: list[float] = []
        for word in self.words:
            number = read(word)
            if number is None:
                return None
            found.append(number)
        table = np.array(found, dtype=np.float64)
        if self.numbers is None:
            return table[self.codes]
        values = self.numbers.values
        values[self.numbers.odd] = table[self.codes]  # what stood there says nothing, and text does not look at it
        return values


class Columns(MutableMapping[str, npt.NDArray[Any]]):
    """Columns by name, made into arrays when they are asked for.

    Examples
    --------
    >>> Columns({"a": Written.of(["x", None])})["a"]
    array(['x', None], dtype=object)
    """

    def __init__(self, columns: Mapping[str, npt.NDArray[Any] | Written] | None = None) -> None:
        self._columns = dict(columns or {})

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        column = self._columns[name]
        return column.text() if isinstance(column, Written) else column

    def __setitem__(self, name: str, column: npt.NDArray[Any] | Written) -> None:
        self._columns[name] = column

    def __delitem__(self, name: str) -> None:
        del self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"Columns({', '.join(map(repr, self._columns))})"

    def kept(self, name: str) -> npt.NDArray[Any] | Written:
        """Return a column as it is kept."""
        return self._columns[name]
