r"""Dates, times and durations in tables: read from text in one format, and taken apart into what varies.

A date becomes numbers: the days elapsed since the first of the training rows, and of year, month, day of the month,
weekday and hour those that differ from row to row. What comes round again, a month, a weekday, an hour, also stands on
a circle, so that December lies beside January:

.. math:: \bigl(\sin 2\pi t / p,\ \cos 2\pi t / p\bigr), \qquad p = 12,\ 7,\ 24
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from ..frames import times_of
from .columns import Floats, as_column, is_missing, plural, quote
from .spelling import is_missing_word
from .written import Written

__all__ = ["PERIODS", "DateColumn", "DateFormat", "Mixed", "Times", "date_texts", "find_dates", "read_column"]

Times = npt.NDArray[np.datetime64]

_DAY = np.timedelta64(1, "D") / np.timedelta64(1, "us")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAME = r"(?P<name>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = (
    r"(?:[T ]\s*(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,](?P<part>\d{1,9}))?)?"
    r"\s*(?P<half>[ap]\.?m\.?)?\s*(?:Z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?)?"
)
#: Ways in which the fields of a date stand, by the order of year, month and day.
_PATTERNS = {
    "ymd": r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d{1,2})(?:(?P=mark)(?P<day>\d{1,2}))?",
    "dmy": r"(?P<day>\d{1,2})(?P<mark>[-/.])(?P<month>\d{1,2})(?P=mark)(?P<year>\d{4})",
    "mdy": r"(?P<month>\d{1,2})(?P<mark>[-/.])(?P<day>\d{1,2})(?P=mark)(?P<year>\d{4})",
    "day name year": rf"(?P<day>\d{{1,2}})\.?[ -]{_NAME}[ -](?P<year>\d{{4}})",
    "name day, year": rf"{_NAME} (?P<day>\d{{1,2}}),? (?P<year>\d{{4}})",
}
_READ = {order: re.compile(pattern + _CLOCK, re.IGNORECASE) for order, pattern in _PATTERNS.items()}
_SHOWN = {"ymd": "year-month-day", "dmy": "day/month/year", "mdy": "month/day/year"}
_LEAST = 3  # different dates that make a column of text one of dates
_SHARE = 0.9  # of the cells, from which a column was meant to hold dates alone


@dataclass(frozen=True, slots=True)
class DateFormat:
    """How the dates of a column are written, where they are text.

    Examples
    --------
    >>> DateFormat("dmy").parse(np.array(["31.01.2020 18:30", None], dtype=object), "day")
    array(['2020-01-31T18:30:00.000000',                        'NaT'],
          dtype='datetime64[us]')
    """

    order: str = "ymd"

    def __post_init__(self) -> None:
        if self.order not in _READ:
            raise ValueError(f"an order of {self.order!r}")

    @property
    def pattern(self) -> str:
        """The regular expression of a date, whatever the case of its letters, with groups named after its parts."""
        return _READ[self.order].pattern

    def parse(self, cells: npt.NDArray[Any], name: str) -> Times:
        """Return text as times without a zone, NaT for missing cells; or say which row is no date."""
        levels = list(dict.fromkeys(cells.tolist()))
        read: dict[Any, np.datetime64 | None] = {cell: _NAT for cell in levels if _absent(cell)}
        rest = [cell for cell in levels if cell not in read]
        plain = _read_plain(rest) if self.order == "ymd" else None
        read |= {cell: _read(cell, self.order) for cell in rest} if plain is None else zip(rest, plain, strict=True)
        found = [read[cell] for cell in cells.tolist()]
        for i, value in enumerate(found):
            if value is None:
                shown = _SHOWN.get(self.order, self.order)
                raise DataError(
                    f"column {name!r}: expected a date ({shown}, as in training), got {cells[i]!r} in data row "
                    f"{i + 1}. Write it so, or leave the cell empty if it is missing."
                )
        return np.asarray(found, dtype="datetime64[us]")


_NAT = np.datetime64("NaT", "us")


def _absent(cell: Any) -> bool:
    return is_missing(cell) or (isinstance(cell, str) and is_missing_word(cell))


def _read_plain(cells: list[Any]) -> Times | None:
    """Return 2020-01-31, or 2020-01-31 18:30:15, of all cells at once; None where one is written otherwise."""
    if not all(isinstance(cell, str) for cell in cells) or len(set(map(len, cells))) != 1:
        return None
    texts = np.asarray(cells, dtype=np.str_)
    if not cells or (width := len(cells[0])) not in (10, 19):
        return None
    letters = texts.view(np.uint32).reshape(len(cells), width)
    for k, mark in enumerate("dddd-dd-dd dd:dd:dd"[:width]):
        column = letters[:, k]
        fits = (column >= 48) & (column <= 57) if mark == "d" else column == ord(mark)
        if not (fits.all() or (mark == " " and ((column == ord(" ")) | (column == ord("T"))).all())):
            return None
    try:
        return texts.astype("datetime64[us]")
    except ValueError:  # a thirteenth month
        return None


def _read(cell: Any, order: str) -> np.datetime64 | None:
    """Return the time that one cell names, None if it is none of this order."""
    found = _READ[order].fullmatch(cell.strip()) if isinstance(cell, str) else None
    if found is None:
        return None
    fields = found.groupdict()
    month = MONTHS.index(fields["name"].lower()) + 1 if fields.get("name") else int(fields["month"])
    hour = int(fields["hour"] or 0)
    if fields["half"]:
        hour = hour % 12 + (12 if fields["half"].lower().startswith("p") else 0)
    part = (fields["part"] or "").ljust(6, "0")[:6]
    text = f"{fields['year']}-{month:02}-{int(fields['day'] or 1):02}"
    try:
        return np.datetime64(f"{text}T{hour:02}:{fields['minute'] or '00'}:{fields['second'] or '00'}.{part}", "us")
    except ValueError:  # a thirteenth month, or the 30th of February
        return None


class Mixed(NamedTuple):
    """Dates that cannot be read in one way: what is seen, and what to do."""

    seen: str
    advice: str


def find_dates(cells: npt.NDArray[Any] | Written, *, dayfirst: bool | None = None) -> DateFormat | Mixed | None:
    """Tell from all cells of a column of text whether it holds dates, and in which order they are written.

    Returns None where it holds something else, and what is the matter where nearly all cells are dates and not all of
    them, or not in one order, can be read.

    Parameters
    ----------
    cells : array of shape (n,)
        Text, and None for missing values.
    dayfirst : bool, optional
        Whether 1/2/2020 is the first of February, where the cells leave it open.

    Examples
    --------
    >>> find_dates(np.array(["1/31/2020", "2/1/2020", "3/1/2020"], dtype=object))
    DateFormat(order='mdy')
    >>> find_dates(np.array(["1/2/2020", "2/1/2020", "3/1/2020"], dtype=object)).seen
    "Dates such as '1/2/2020' have the day or the month first."
    """
    different: list[Any] = cells.words if isinstance(cells, Written) and cells.numbers is None else cells.tolist()
    levels = list(dict.fromkeys(cell for cell in different if not _absent(cell)))
    some = levels[:: max(len(levels) // 50, 1)]
    if len(levels) < _LEAST or sum(bool(_orders(cell)) for cell in some) < _SHARE * len(some):
        return None
    if _read_plain(levels) is not None:
        return DateFormat("ymd")
    fits = [
        order for order in set.intersection(*map(_orders, some)) if all(_read(c, order) is not None for c in levels)
    ]
    if len(fits) > 1 and dayfirst is not None:
        fits = ["dmy" if dayfirst else "mdy"]
    if len(fits) == 1:
        return DateFormat(fits[0])
    if fits:
        seen = f"Dates such as {levels[0]!r} have the day or the month first."
        return Mixed(seen, "Write them as 2020-01-31, or say --dayfirst yes or no, in Python dayfirst=True or False.")
    return _mixed({cell: _orders(cell) for cell in levels})


def _mixed(orders: Mapping[str, set[str]]) -> Mixed | None:
    """Return what is the matter with cells of which no order reads all."""
    levels = list(orders)
    strays = [cell for cell, found in orders.items() if not found]
    if len(strays) > (1 - _SHARE) * len(levels):
        return None
    if strays:
        shown = next(cell for cell, found in orders.items() if found)
        return Mixed(f"Dates, such as {shown!r}, beside {quote(strays, 3)}.", "Mend these cells, or leave them empty.")
    # 1/2/2020 goes with either order, and hides that two others do not go together.
    sure = sorted(levels, key=lambda cell: len(orders[cell]))
    other = next(cell for cell in sure if not orders[cell] & orders[sure[0]])
    return Mixed(f"Dates in two formats, such as {sure[0]!r} and {other!r}.", "Write them in one, such as 2020-01-31.")


def _orders(cell: Any) -> set[str]:
    """Return the orders in which a cell is a date."""
    return {order for order in _READ if _read(cell, order) is not None}


def date_texts(times: Times) -> npt.NDArray[Any]:
    """Return dates as text, as short as they are; None for missing ones.

    Examples
    --------
    >>> date_texts(np.array(["2020-01-31", "2020-01-31T18:30", "NaT"], dtype="datetime64[us]")).tolist()
    ['2020-01-31', '2020-01-31T18:30:00', None]
    """
    texts = np.datetime_as_string(times.astype("datetime64[us]"), unit="us").tolist()
    short = [None if t == "NaT" else t.removesuffix(".000000").removesuffix("T00:00:00") for t in texts]
    return np.asarray(short, dtype=object)


def read_column(name: str, values: npt.ArrayLike | Written) -> Any:
    """Return a column as `as_column` does, dates as ``datetime64[us]`` and durations as numbers of days.

    Examples
    --------
    >>> read_column("wait", np.array([36, 12], dtype="timedelta64[h]"))
    array([1.5, 0.5])
    """
    times = None if isinstance(values, Written) else times_of(values, f"column {name!r}")
    if times is None:
        return as_column(name, values)
    if times.dtype.kind == "M" and times.ndim == 1:
        return times
    days = np.where(np.isnat(times), np.nan, times.astype(np.int64) / _DAY)
    return as_column(name, days)


# -- what is made of a column --------------------------------------------------------------------------------------
#: Parts of a date that come round again, with after how many.
PERIODS = {"month": 12.0, "weekday": 7.0, "hour": 24.0}


def _parts(times: Times, origin: np.datetime64) -> dict[str, Floats]:
    """Return the numbers that a date consists of, NaN where it is missing."""
    gaps = np.isnat(times)
    there = np.where(gaps, origin, times)
    days, months, years = (there.astype(f"datetime64[{unit}]") for unit in "DMY")
    numbers = {
        "elapsed": (there - origin).astype(np.int64) / _DAY,
        "year": years.astype(np.int64) + 1970.0,
        "month": months.astype(np.int64) % 12 + 1.0,
        "day": (days - months).astype(np.int64) + 1.0,
        "weekday": (days.astype(np.int64) + 3) % 7 + 1.0,  # Monday is 1
        "hour": (there - days).astype(np.int64) / _DAY * 24.0,
    }
    return {part: np.where(gaps, np.nan, values) for part, values in numbers.items()}


@dataclass(frozen=True, slots=True)
class DateColumn:
    """A column of dates: which of its parts vary, and how each is encoded."""

    name: str
    origin: str  # the earliest date of the training rows, from which days are counted
    format: DateFormat  # of cells that are text
    parts: tuple[str, ...]
    numbers: tuple[Any, ...]  # a `NumberColumn` for each

    @classmethod
    def fit(
        cls,
        name: str,
        times: Times,
        written: DateFormat,
        fit_number: Callable[[str, Floats], Any],
        *,
        elapsed_alone: bool = False,
    ) -> DateColumn | str:
        """Fit the parts that vary, each by `fit_number`; or return why the column is left out."""
        present = times[~np.isnat(times)]
        if not present.size:
            return "every value is missing"
        origin = present.min()
        found = {
            part: values for part, values in _parts(times, origin).items() if np.ptp(values[~np.isnan(values)]) > 0
        }
        if not found:
            return f"every value is {date_texts(origin[None])[0]}"
        if "hour" in found and len({*found} - {"hour", "elapsed"}) == 0:
            del found["elapsed"]  # one day: the hour says the same
        if elapsed_alone:
            found = {part: values for part, values in found.items() if part == "elapsed"} or found
        fitted = {part: fit_number(f"{name}:{part}", values) for part, values in found.items()}
        return cls(name, date_texts(origin[None])[0], written, tuple(fitted), tuple(fitted.values()))

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns that are made of it."""
        names = []
        for part, number in zip(self.parts, self.numbers, strict=True):
            circle = [f"{self.name}:{part}:{f}" for f in ("sin", "cos")] if part in PERIODS else []
            names += number.feature_names + circle
        return names

    def times(self, column: npt.NDArray[Any] | Written) -> Times:
        """Return the times of a column as `read_column` returns it; text is read in the format of the training."""
        array = np.asarray(column)
        if array.dtype.kind == "M":
            return array
        texts = array if array.dtype.kind == "O" else array[:0]
        if array.dtype.kind != "O" and array.size and not (array != array).all():
            raise DataError(
                f"column {self.name!r}: expected dates, as in training, got numbers such as "
                f"{array[array == array][0]:g}. Give the column that the model was trained on."
            )
        return self.format.parse(texts, self.name) if texts.size else np.full(array.shape, _NAT)

    @property
    def pieces(self) -> list[tuple[Any, int]]:
        """What `pack` makes of the column; see `xpnn.data.fitted.Pieces`."""
        pieces: list[tuple[Any, int]] = []
        for part, number in zip(self.parts, self.numbers, strict=True):
            pieces += [*number.pieces, *([("plain", 2)] if part in PERIODS else [])]
        return pieces

    def pack(self, times: Times, clip: float | None) -> list[npt.NDArray[Any]]:
        """Return the parts, packed, and the circles of those that come round; `times` are the column's, or some."""
        values = _parts(times, np.datetime64(self.origin, "us"))
        made: list[npt.NDArray[Any]] = []
        for part, number in zip(self.parts, self.numbers, strict=True):
            made += number.pack(values[part], clip)
            if part in PERIODS:
                angle = np.nan_to_num(2.0 * np.pi / PERIODS[part] * values[part])
                there = ~np.isnan(values[part])
                made += [np.sin(angle) * there, np.cos(angle) * there]
        return made

    def describe(self, times: Times) -> str:
        """Say what is read from the dates of the training rows."""
        present = times[~np.isnat(times)]
        ends = " to ".join(date_texts(np.asarray([present.min(), present.max()])).tolist())
        read = " and ".join(filter(None, [", ".join(self.parts[:-1]), self.parts[-1]]))
        gaps = times.size - present.size
        flagged = f"; {plural(gaps, 'missing value')} imputed, flagged by a 0/1 column" if gaps else ""
        return f"{self.name}: dates from {ends}, read as {read}{flagged}."

    def to_dict(self) -> dict[str, Any]:
        """Return the fitted state but for the numbers, as JSON-able values."""
        return {"name": self.name, "origin": self.origin, "order": self.format.order, "parts": list(self.parts)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any], numbers: tuple[Any, ...]) -> DateColumn:
        """Rebuild from `to_dict` and the numbers; raises ValueError if they do not go together."""
        origin, known = np.datetime64(state["origin"], "us"), set(_parts(np.asarray([_NAT]), np.datetime64(0, "us")))
        if np.isnat(origin) or len(numbers) != len(state["parts"]) or not set(state["parts"]) <= known:
            raise ValueError(f"dates with the parts {state['parts']}")
        return cls(state["name"], state["origin"], DateFormat(state["order"]), tuple(state["parts"]), numbers)
