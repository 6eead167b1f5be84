"""How numbers are written in a column of text, found from all its cells together, and their reading.

A mark means what it must mean for every cell of the column: ``1,5`` next to ``12,75`` can only have a decimal comma,
``1,234`` next to ``1,234,567`` only thousands. Where two readings are left, that is a `Doubt`; nothing is guessed.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..config import reading
from ..errors import DataError, OptionError
from .columns import STRAY, Floats, as_option, fast_numbers, is_missing, is_number, quote
from .written import Written

__all__ = ["MISSING_WORDS", "PLAIN", "Doubt", "Spelling", "find_spelling", "is_missing_word"]

Decimal: TypeAlias = Literal[".", ","]

#: Words that among numbers stand for no value, in lower case.
MISSING_WORDS = frozenset(
    {*("", "?", ".", "..", "...", "-", "--", "---", "\N{EM DASH}", "#n/a", "#na", "#value!", "#div/0!", "\\n", "<na>")}
    | {*("na", "n/a", "n.a.", "n.a", "nan", "-nan", "null", "(null)", "nil", "none", "missing", "unknown", "undefined")}
)
_LONGEST = max(map(len, MISSING_WORDS))  # other cells, such as of free text, need no closer look

# One character for each that means the same.
_MINUS = "\N{MINUS SIGN}\N{EN DASH}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}"
_SPACES = "\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}\N{FIGURE SPACE}"
ALIKE = str.maketrans(
    dict.fromkeys(_MINUS, "-") | dict.fromkeys(_SPACES, " ") | {"\N{RIGHT SINGLE QUOTATION MARK}": "'"}
)
# Cells of one shape are written alike; where zeros stand is a part of it.
_SHAPE = str.maketrans("123456789", "1" * 9)

_CELL = re.compile(
    r"(?P<sign>[+-]?)\s*(?P<before>[^\W\d_]{0,3}[^\w\s.,'+-]?|)\s*(?P<inner>[+-]?)\s*"
    r"(?P<body>[.,]?[0-9](?:[0-9., ']*[0-9])?[.,]?(?:[eE][+-]?[0-9]+)?)\s*"
    r"(?P<after>[^\W\d_]*[^\w\s.,'+-]?[^\W\d_]*[²³]?)"
)
_PARENTHESES = re.compile(r"(?P<outer>[^0-9()]*)\((?P<inside>[^()]*[0-9][^()]*)\)(?P<behind>[^0-9()]*)")
_CURRENCIES = re.compile("USD|EUR|GBP|JPY|CHF|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|KRW|ZAR|RUB|TRY")
_UNIT = re.compile(r"[^\W\d_]{1,6}|[°µ][^\W\d_]{0,3}|[^\W\d_]{1,3}/[^\W\d_]{1,3}[²³]?|[^\W\d_]{1,2}[²³]")
# Decimal mark and separator of thousands; the simplest first, which is taken where several say the same.
_MARKS: tuple[tuple[Decimal, str], ...] = (
    *((".", ""), (",", ""), (".", ","), (".", " "), (".", "'")),
    *((",", "."), (",", " "), (",", "'")),
)
_CODE = re.compile("0[0-9]")
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_ATONCE = 1000  # cells whose shapes are made at once
_HEAD = 100  # shapes looked at before all of a column are
_MOSTLY, _NEARLY = 0.5, 0.9  # rows that are numbers, from which the others are in doubt: plain ones, and spelt ones
_FEW = 3  # different numbers; of fewer, words beside them may be categories just as well
_CLASSES, _ROWS_A_CLASS = 20, 5  # of whole numbers that repeat so, as of a target that is taken for classes


@dataclass(frozen=True)
class Spelling:
    """How the numbers of a column are written; the default is what `float` reads.

    Attributes
    ----------
    decimal : {".", ","}
        The decimal mark.
    thousands : {"", ",", ".", " ", "'"}
        What separates thousands; a number may stand without it. A space is any of the usual, also without a break.
    affix : str
        A sign that stands before or after each number but 0, such as ``%``, ``$`` or ``kg``. It is cut off: 12 % is
        12.
    minus : {"-", "−"}
        What negative numbers were seen with; both are read.
    parentheses : bool
        Whether a number in parentheses is negative.

    Examples
    --------
    >>> Spelling(decimal=",", thousands=".", affix="€").parse(["1.234,50 €", "-3 €", None])
    array([1234.5,   -3. ,     nan])
    """

    decimal: Decimal = "."
    thousands: str = ""
    affix: str = ""
    minus: str = "-"
    parentheses: bool = False

    def __post_init__(self) -> None:
        if (self.decimal, self.thousands) not in _MARKS:
            raise OptionError(
                f"Spelling: expected decimal and thousands among {quote(_MARKS, 8)}, got "
                f"{(self.decimal, self.thousands)!r}. The two must differ."
            )
        if not isinstance(self.affix, str) or self.minus not in ("-", "\N{MINUS SIGN}"):
            raise OptionError(
                f"Spelling: expected text for affix, and - or U+2212 for minus, got {self.affix!r} and {self.minus!r}."
            )

    @property
    def plain(self) -> bool:
        """Whether numbers are written as `float` reads them."""
        return self == Spelling()

    @property
    def pattern(self) -> str:
        """The regular expression of a number that is not in parentheses; one sign and one affix are allowed in it.

        Spaces without a break, and minus signs, count as the usual ones.
        """
        affix = f"{re.escape(self.affix)}|" if self.affix else ""
        before = affix if _is_sign(self.affix) else ""
        body = _body(self.decimal, self.thousands).pattern
        return rf"(?P<sign>[+-]?)\s*(?P<before>{before})\s*(?P<inner>[+-]?)\s*(?P<body>{body})\s*(?P<after>{affix})"

    def parse(self, cells: Iterable[Any], name: str = "") -> Floats:
        """Read cells, each by itself.

        Parameters
        ----------
        cells : iterable of str, float or None
            Text; numbers are taken as they are.
        name : str, default=""
            Of the column, for the message.

        Returns
        -------
        array of shape (n,), float64
            NaN for None, an empty cell, and one of `MISSING_WORDS`.

        Raises
        ------
        DataError
            If a cell is no number in this spelling; the message names the first, its row counted from 1.
        """
        if isinstance(cells, Written) and self._reads_plain(cells):
            numbers = cells.numbers_by(self._number)
            if numbers is not None:
                return numbers
        cells = list(cells)
        if self.plain:  # by far the most usual, and fast
            numbers = fast_numbers(np.fromiter(cells, dtype=object))
            if numbers is not None:
                return numbers
        read: dict[Any, float | None] = {}
        for i, cell in enumerate(cells):
            if cell not in read:
                read[cell] = self._number(cell)
            if read[cell] is None:
                where = f"column {name!r}: " if name else ""
                raise DataError(f"{where}expected {self.describe()}, got {cell!r} in data row {i + 1}. {STRAY}")
        return np.array([read[cell] for cell in cells], dtype=np.float64)

    def _reads_plain(self, column: Written) -> bool:
        """Whether the plain numbers of a column are the same in this spelling."""
        if column.numbers is None or not column.has_plain:
            return True
        return not self.affix and (self.decimal == column.numbers.mark or column.numbers.whole)

    def describe(self) -> str:
        """Say how the numbers are written.

        Examples
        --------
        >>> Spelling().describe(), Spelling(",", ".", "%").describe()
        ('a number', "a number with '%', a decimal comma and '.' between thousands")
        """
        thousands = {" ": "spaces"}.get(self.thousands, repr(self.thousands))
        said = [
            *([repr(self.affix)] if self.affix else []),
            *(["a decimal comma"] if self.decimal == "," else []),
            *([f"{thousands} between thousands"] if self.thousands else []),
            *(["the minus sign U+2212"] if self.minus != "-" else []),
            *(["parentheses for a minus"] if self.parentheses else []),
        ]
        if not said:
            return "a number"
        return f"a number with {', '.join(said[:-1])}{' and ' if said[1:] else ''}{said[-1]}"

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-able values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Spelling:
        """Rebuild from `to_dict`.

        Raises
        ------
        FileFormatError
            If the state is not one that `to_dict` returned.
        """
        with reading("Spelling.from_dict", "what to_dict() returns"):
            return cls(**state)

    def _number(self, cell: Any) -> float | None:
        """Return the value of one cell, NaN for a missing one, None if it is no number here."""
        if not isinstance(cell, str):
            return float("nan") if is_missing(cell) else float(cell)
        if self.plain and is_number(cell):
            return float(cell)
        if is_missing_word(cell):
            return float("nan")
        parts = _take_apart(_tidied(cell))
        if parts is None or not _body(self.decimal, self.thousands).fullmatch(parts.body):
            return None
        if not parts.goes_with(self.affix) or parts.enclosed > self.parentheses:
            return None
        return parts.value(self.decimal, self.thousands)


#: As `float` reads numbers.
PLAIN = Spelling()


@dataclass(frozen=True)
class Doubt:
    """A column that holds numbers, or nearly, and leaves open how they are to be read.

    Attributes
    ----------
    rows : int
        Rows concerned.
    seen, advice : str
        What is seen, and what to do about it, in the words of the command line.
    candidates : tuple of Spelling
        The readings that are left; with only one, it is open whether they are quantities at all.
    """

    rows: int
    seen: str
    advice: str
    candidates: tuple[Spelling, ...] = ()


def is_missing_word(cell: str) -> bool:
    """Whether a cell, among numbers, stands for no value.

    Examples
    --------
    >>> [is_missing_word(cell) for cell in ("NULL", "#N/A", " - ", "-1", "no")]
    [True, True, True, False, False]
    """
    word = cell.strip()
    return len(word) <= _LONGEST and word.translate(ALIKE).casefold() in MISSING_WORDS


def find_spelling(
    cells: Iterable[str | None] | Mapping[str, int],
    *,
    name: str = "COLUMN",
    decimal: Decimal | None = None,
    numeric: bool = False,
) -> Spelling | Doubt | None:
    """Tell how the numbers of a column are written, from all its cells.

    Parameters
    ----------
    cells : iterable of str or None, or mapping of str to int
        The cells, None for missing ones; or different cells, and how many rows hold each.
    name : str, default="COLUMN"
        Of the column, for the advice.
    decimal : {".", ","}, optional
        The decimal mark where the cells leave it open.
    numeric : bool, default=False
        Whether somebody said that the column holds numbers.

    Returns
    -------
    Spelling, Doubt or None
        None if these are no numbers. Words that stand for no value (`MISSING_WORDS`) are left aside if there are at
        least three different numbers, for of fewer they may be categories just as well.

    Examples
    --------
    >>> find_spelling(["1,5", "12,75"]).decimal, find_spelling(["1,234", "1,234,567"]).thousands
    (',', ',')
    >>> find_spelling(["1,234", "5,678"]).seen
    "2 rows hold numbers such as '1,234': 1.234 with decimal ',' or 1234 with thousands apart."
    >>> find_spelling(["a", "b"]) is None
    True
    """
    rows = Counter(dict(cells) if isinstance(cells, Mapping) else cells)
    rows.pop(None, None)
    numbers = {cell: n for cell, n in rows.items() if len(cell.strip()) > _LONGEST or not is_missing_word(cell)}
    if not numbers or (len(numbers) < len(rows) and len(numbers) < _FEW and not numeric):
        return None
    shapes = _Shapes.of(numbers)
    if shapes is None:
        return None
    affix = shapes.affix()
    if affix is None:
        signs = {parts.affix or "none" for parts in shapes.parts.values() if parts and (parts.affix or not parts.zero)}
        seen = f"Numbers with different signs: {', '.join(sorted(signs))}."
        return Doubt(shapes.rows.total(), seen, "Write them in one unit.")
    return shapes.decide(affix, as_option(name), decimal, numeric=numeric)


# -- cells ------------------------------------------------------------------------------------------------------
class _Parts(NamedTuple):
    """A cell taken apart."""

    negative: bool
    body: str  # digits and marks
    affix: str
    enclosed: bool  # in parentheses

    @property
    def zero(self) -> bool:
        return re.match("[0.,]*([eE]|$)", self.body) is not None

    def goes_with(self, affix: str) -> bool:
        """Whether it has this sign; 0 is the same in all units."""
        return self.affix == affix or (self.zero and not self.affix)

    def value(self, decimal: str, thousands: str) -> float:
        body = self.body.replace(thousands, "") if thousands else self.body
        number = float(body.replace(decimal, "."))
        return -number if self.negative or self.enclosed else number


def _tidied(cell: str) -> str:
    return cell.strip().translate(ALIKE)


def _shapes(cells: Sequence[str]) -> Iterator[str]:
    """Yield the shapes of cells, a thousand at a time."""
    for k in range(0, len(cells), _ATONCE):
        some = cells[k : k + _ATONCE]
        shapes = "\n".join(map(str.strip, some)).translate(ALIKE).translate(_SHAPE).split("\n")
        yield from shapes if len(shapes) == len(some) else (_tidied(cell).translate(_SHAPE) for cell in some)


def _take_apart(text: str) -> _Parts | None:
    """Part a tidied cell; None if it cannot be a number."""
    enclosed = False
    if text.endswith(")") or "(" in text:
        found = _PARENTHESES.fullmatch(text)
        if found is None:
            return None
        enclosed, text = True, f"{found['outer']}{found['inside']}{found['behind']}".strip()
    parts = _CELL.fullmatch(text)
    if parts is None:
        return None
    before, after, signs = parts["before"], parts["after"], parts["sign"] + parts["inner"]
    if (before and after) or len(signs) > 1 or (enclosed and signs):
        return None
    if not (before == "" or _is_sign(before)) or not (after == "" or _is_sign(after) or _UNIT.fullmatch(after)):
        return None
    return _Parts(signs == "-", parts["body"], before or after, enclosed)


def _is_sign(affix: str) -> bool:
    """Whether it is certain that what goes with it is a quantity: percent, per mille and currencies."""
    return (
        affix in ("%", "‰") or bool(_CURRENCIES.fullmatch(affix)) or any(unicodedata.category(c) == "Sc" for c in affix)
    )


@functools.cache
def _body(decimal: str, thousands: str) -> re.Pattern[str]:
    """Return the pattern of a number with these marks. Two zeros at the front are those of a code."""
    mark, apart = re.escape(decimal), re.escape(thousands)
    plain = rf"(?:(?:0|[1-9][0-9]*)(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    if not thousands:
        return re.compile(plain)
    grouped = rf"[1-9][0-9]{{0,2}}(?:{apart}[0-9]{{3}})+"
    if thousands == ",":  # 12,34,567, as is usual in India
        grouped = rf"(?:{grouped}|[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}})"
    return re.compile(rf"{plain}|{grouped}(?:{mark}[0-9]*)?")


# -- columns ----------------------------------------------------------------------------------------------------
@dataclass
class _Shapes:
    """The cells of a column by their shapes."""

    rows: Counter[str]  # that have each shape
    different: Counter[str]  # cells of each shape
    cells: dict[str, str]  # one cell of each shape
    parts: dict[str, _Parts | None]  # None for what cannot be a number
    minus: str

    @classmethod
    def of(cls, numbers: Mapping[str, int]) -> _Shapes | None:
        """Sort the cells; None where there is no number, or the first shapes are of words."""
        rows: Counter[str] = Counter()
        different: Counter[str] = Counter()
        cells: dict[str, str] = {}
        for cell, n, shape in zip(numbers, numbers.values(), _shapes(list(numbers)), strict=True):
            rows[shape] += n
            different[shape] += 1
            if shape not in cells:
                cells[shape] = cell
                if len(cells) == _HEAD and sum(_take_apart(s) is not None for s in cells) * 2 < _HEAD:
                    return None
        parts = {shape: _take_apart(shape) for shape in rows}
        if not any(parts.values()):
            return None
        minus = "\N{MINUS SIGN}" if any(set(_MINUS) & set(cell) for cell in cells.values()) else "-"
        return cls(rows, different, cells, parts, minus)

    def affix(self) -> str | None:
        """Return the sign that the numbers have; None where several are sure to be signs of quantities."""
        seen: Counter[str] = Counter()
        for shape, parts in self.parts.items():
            if parts is not None and (parts.affix or not parts.zero):
                seen[parts.affix] += self.rows[shape]
        if len(seen) > 1 and all(affix == "" or _is_sign(affix) for affix in seen):
            return None
        return max(seen, key=lambda affix: (seen[affix], affix), default="")

    def decide(self, affix: str, name: str, decimal: Decimal | None, *, numeric: bool) -> Spelling | Doubt | None:
        """Return how the numbers are written, or what is open."""
        fitting = {marks: self._fitting(affix, marks) for marks in _MARKS}
        fits = {marks: sum(self.rows[shape] for shape in shapes) for marks, shapes in fitting.items()}
        left = [marks for marks in _MARKS if fits[marks] == max(fits.values())]
        plain = not affix and left[0] == _MARKS[0]
        if fits[left[0]] < self.rows.total():
            return self._strays(fitting[left[0]], name, plain=plain)
        if all(map(_ADDRESS.fullmatch, self.rows)):
            return None
        if decimal is not None:
            left = [marks for marks in left if marks[0] == decimal] or left
        elif plain:
            left = left[:1]
        readings: dict[tuple[float, ...], Spelling] = {}
        enclosed = any(parts is not None and parts.enclosed for parts in self.parts.values())
        for marks in left:
            values = tuple(parts.value(*marks) for parts in self.parts.values() if parts is not None)
            readings.setdefault(values, Spelling(*marks, affix, self.minus, enclosed))
        return self._choose(list(readings.values()), name, numeric=numeric)

    def _fitting(self, affix: str, marks: tuple[Decimal, str]) -> list[str]:
        """Return the shapes that are numbers with these marks."""
        pattern = _body(*marks)
        return [shape for shape, p in self.parts.items() if p and p.goes_with(affix) and pattern.fullmatch(p.body)]

    def _choose(self, readings: list[Spelling], name: str, *, numeric: bool) -> Spelling | Doubt:
        """Return the one reading that is left and sure, or say what is open."""
        rows, parts = self.rows.total(), {shape: parts for shape, parts in self.parts.items() if parts is not None}
        keep = f"--categorical {name} if they are categories"

        def doubt(shape: str, seen: str, advice: str, what: str = "numbers") -> Doubt:
            seen = f"{rows:,} row{' holds' if rows == 1 else 's hold'} {what} such as {self.cells[shape]!r}: {seen}."
            return Doubt(rows, seen, f"{advice}, {keep}.", tuple(readings))

        first, *others = readings
        if others:
            values = {shape: [p.value(r.decimal, r.thousands) for r in readings] for shape, p in parts.items()}
            shape = next(shape for shape, read in values.items() if len(set(read)) > 1)
            text = _tidied(self.cells[shape])
            said = [
                f"{value:g} with {f'decimal {r.decimal!r}' if r.decimal in parts[shape].body else 'thousands apart'}"
                for r, value in ((r, r.parse([text])[0]) for r in readings)
            ]
            say = "Say which (--decimal . or --decimal ,), or write them without separators"
            return doubt(shape, " or ".join(said), say)
        if numeric:
            return first
        say = f"--numeric {name} if they are quantities"
        if first.affix and not _is_sign(first.affix):
            cut = f"Cut {first.affix!r} off, or say {say}"
            return doubt(next(iter(parts)), f"quantities in {first.affix!r}, or names", cut, "numbers with a sign,")
        if first.parentheses and (all(p.enclosed for p in parts.values()) or any(p.negative for p in parts.values())):
            shape = next(shape for shape, p in parts.items() if p.enclosed)
            return doubt(shape, "parentheses for a minus, or not", f"Say {say}")
        return first

    def _strays(self, fitting: Sequence[str], name: str, *, plain: bool) -> Doubt | None:
        """Tell of a column that nearly is one of numbers; None where it is not, or is one of codes."""
        words = [cell for shape, cell in self.cells.items() if shape not in fitting]
        different, rows = sum(self.different[shape] for shape in fitting), sum(self.rows[shape] for shape in fitting)
        whole = all(shape.isdecimal() for shape in fitting)
        few = different < _FEW or (whole and different <= _CLASSES and rows >= _ROWS_A_CLASS * different)
        stray = self.rows.total() - rows
        if few or stray > (1 - (_MOSTLY if plain else _NEARLY)) * self.rows.total() or any(map(_CODE.match, words)):
            return None
        such = "" if plain else f" such as {self.cells[fitting[0]]!r}"
        but = "1 row" if stray == 1 else f"{stray:,} rows"
        seen = f"All but {but} hold numbers{such}; the others hold {quote(words, 3)}."
        if any(self.parts[shape] for shape in self.rows if shape not in fitting):
            return Doubt(stray, seen, "Write them alike.")
        return Doubt(stray, seen, f"Say that they mean no value (--missing={','.join(words[:3])}), or mend them.")
