"""What stands before a network, as operations: the encoding of a table's columns, and scaling of features."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.columns import as_texts, label_key, number_key, one_spelling
from ..data.dates import PERIODS, DateColumn, date_texts
from ..data.encoder import TableEncoder
from ..data.fitted import CategoryColumn, NumberColumn
from ..errors import OptionError
from .build import Builder

__all__ = ["encode_table", "holds_numbers", "inputs_of", "scale_features"]

_DAY = 86400.0  # seconds
_UNKNOWN, _MISSING = -1, -2


def holds_numbers(column: CategoryColumn) -> bool:
    """Whether all categories of a column are numbers that float64 tells apart: then it is given as numbers."""
    try:
        numbers = [float(category) for category in column.categories]
    except ValueError:
        return False
    return all(map(math.isfinite, numbers)) and list(map(label_key, numbers)) == list(column.categories)


class _Parts:
    """Blocks of encoded columns, and the place in the matrix of each of their elements."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.blocks: list[str] = []
        self.places: list[int] = []

    def add(self, block: str, places: Sequence[int]) -> None:
        if places:
            self.blocks.append(self.builder.cast(block, "float32"))
            self.places += places

    def joined(self) -> str:
        """Return the blocks side by side, each element in its place."""
        whole = self.builder.op("concat", *self.blocks, axis=-1)
        order = np.argsort(np.asarray(self.places))
        if (order == np.arange(len(order))).all():
            return whole
        return self.builder.op("take", whole, axis=-1, indices=tuple(order.tolist()))


def encode_table(builder: Builder, encoder: TableEncoder) -> str:
    """Return the encoded row, float32 of shape (d,), from inputs that are added for its columns.

    Numbers of all columns are worked on together, and so are categories: few operations on long rows are faster than
    many on short ones.
    """
    numbers: list[tuple[NumberColumn, str, list[int]]] = []
    categories: list[tuple[CategoryColumn, str, list[int]]] = []
    parts = _Parts(builder)
    for column in encoder.fitted_columns:
        places = encoder.feature_places[column.name].tolist()
        if isinstance(column, NumberColumn):
            numbers.append((column, builder.input(column.name, "number"), places))
        elif isinstance(column, DateColumn):
            numbers += _date(parts, column, places)
        else:
            code = _number_code(builder, column) if holds_numbers(column) else _text_code(builder, column)
            categories.append((column, code, places))
    if numbers:
        _numbers(parts, numbers, encoder.clip)
    if categories:
        _categories(parts, categories)
    return parts.joined()


def _numbers(parts: _Parts, numbers: Sequence[tuple[NumberColumn, str, list[int]]], clip: float | None) -> None:
    """Add scaled values, flags and bins of all columns of numbers."""
    b, columns = parts.builder, [column for column, _, _ in numbers]
    given = b.op("concat", *(value for _, value, _ in numbers), axis=-1)
    gaps = b.op("isnan", given)
    x = b.op("where", gaps, _row(b, [column.fill for column in columns]), given)
    scaled = [k for k, column in enumerate(columns) if column.spread > 0]
    if scaled:
        z = b.op("sub", _picked(b, x, scaled), _row(b, [columns[k].center for k in scaled]))
        z = b.op("div", z, _row(b, [columns[k].spread for k in scaled]))
        z = b.with_number("min", b.with_number("max", z, -1e30), 1e30)
        if clip is not None:
            t = b.with_number("div", z, float(clip))
            z = b.op("div", z, b.op("sqrt", b.with_number("add", b.op("mul", t, t), 1.0)))
        parts.add(z, [numbers[k][2][0] for k in scaled])
    flagged = [k for k, column in enumerate(columns) if column.flagged]
    if flagged:
        parts.add(_picked(b, gaps, flagged), [numbers[k][2][int(columns[k].spread > 0)] for k in flagged])
    binned = [(k, t) for k, column in enumerate(columns) for t in range(len(column.edges) - 1)]
    if binned:
        low = np.asarray([columns[k].edges[t] for k, t in binned])
        width = np.asarray([columns[k].edges[t + 1] for k, t in binned]) - low
        e = b.op("div", b.op("sub", _picked(b, x, [k for k, _ in binned]), _row(b, low)), _row(b, width))
        e = b.with_number("min", b.with_number("max", e, 0.0), 1.0)
        first = [int(column.spread > 0) + int(column.flagged) for column in columns]
        parts.add(e, [numbers[k][2][first[k] + t] for k, t in binned])


def _row(builder: Builder, numbers: Any) -> str:
    return builder.constant(np.asarray(numbers, dtype=np.float64))


def _picked(builder: Builder, x: str, places: list[int]) -> str:
    """Return elements of a row by their places."""
    if places == list(range(builder.shape(x)[-1])):
        return x
    return builder.op("take", x, axis=-1, indices=tuple(places))


# -- categories ------------------------------------------------------------------------------------------------
def _text_code(builder: Builder, column: CategoryColumn) -> str:
    """Return the number of a category that is given as text."""
    if "" in column.categories:
        raise OptionError(
            f"export: column {column.name!r}: expected categories other than spaces alone, which no file tells from a "
            "missing cell. Make such cells None, and train again."
        )
    known = len(column.categories)
    keys, values = (*column.categories, ""), (*range(known), _MISSING)
    value = builder.input(column.name, "text")
    return builder.op("lookup", value, keys=keys, values=values, default=known if column.pooled else _UNKNOWN)


def _number_code(builder: Builder, column: CategoryColumn) -> str:
    """Return the number of a category that is given as a number."""
    value, known = builder.input(column.name, "number"), len(column.categories)
    same = builder.op("equal", value, _row(builder, [float(category) for category in column.categories]))
    # One more, which is true, comes first where none of them is.
    one = builder.constant(np.ones(1))
    code = builder.op("argmax", builder.op("concat", builder.cast(same, "float64"), one, axis=-1))
    code = builder.reshape(code, (1,))
    if not column.pooled:
        none = builder.with_number("equal", code, known)
        code = builder.op("where", none, builder.constant(_UNKNOWN, "int64"), code)
    return builder.op("where", builder.op("isnan", value), builder.constant(_MISSING, "int64"), code)


def _categories(parts: _Parts, categories: Sequence[tuple[CategoryColumn, str, list[int]]]) -> None:
    """Add 0/1 columns of all categories, and -1/+1 columns of those with two."""
    b = parts.builder
    codes = b.op("concat", *(code for _, code, _ in categories), axis=-1)
    which: list[int] = []
    wanted: list[int] = []
    against: list[int] = []
    places: list[int] = []
    for k, (column, _, own) in enumerate(categories):
        which += [k] * len(own)
        places += own
        wanted += [1] if column.binary else range(len(own))
        against += [0] if column.binary else [_MISSING - 1] * len(own)
    chosen = _picked(b, codes, which)
    hot = b.cast(b.op("equal", chosen, b.constant(wanted, "int64")), "float32")
    if any(column.binary for column, _, _ in categories):
        hot = b.op("sub", hot, b.cast(b.op("equal", chosen, b.constant(against, "int64")), "float32"))
    parts.add(hot, places)


# -- dates -------------------------------------------------------------------------------------------------------
def _date(parts: _Parts, column: DateColumn, places: list[int]) -> list[tuple[NumberColumn, str, list[int]]]:
    """Return the parts of a date as columns of numbers, and add the circles of those that come round."""
    b = parts.builder
    given = b.input(column.name, "time")
    gaps = b.op("isnan", given)
    origin = np.datetime64(column.origin, "us").astype(np.int64) / 1e6
    values = _parts_of_time(b, b.op("where", gaps, b.constant(origin), given), float(origin))
    there = b.cast(b.op("not", gaps), "float64")
    found: list[tuple[NumberColumn, str, list[int]]] = []
    start = 0
    for part, number in zip(column.parts, column.numbers, strict=True):
        own = places[start : start + len(number.feature_names)]
        found.append((number, b.op("where", gaps, b.constant(math.nan), values[part]), own))
        start += len(own)
        if part in PERIODS:
            angle = b.with_number("mul", values[part], 2.0 * math.pi / PERIODS[part])
            circle = [b.op("mul", b.op(wave, angle), there) for wave in ("sin", "cos")]
            parts.add(b.op("concat", *circle, axis=-1), places[start : start + 2])
            start += 2
    return found


def _parts_of_time(b: Builder, seconds: str, origin: float) -> dict[str, str]:
    r"""Return the numbers that a time consists of, by floors and products of whole numbers [1]_.

    .. [1] Hinnant, "chrono-Compatible Low-Level Date Algorithms", 2013: civil_from_days.
    """

    def whole(x: str, by: float) -> str:
        return b.op("floor", b.with_number("div", x, by))

    def rest(x: str, by: float) -> str:
        return b.op("sub", x, b.with_number("mul", whole(x, by), by))

    days = whole(seconds, _DAY)
    shifted = b.with_number("add", days, 719468.0)  # from the first of March in the year 0
    era, day = whole(shifted, 146097.0), rest(shifted, 146097.0)  # of 400 years
    leap = b.op("sub", b.op("add", b.op("sub", day, whole(day, 1460.0)), whole(day, 36524.0)), whole(day, 146096.0))
    year = whole(leap, 365.0)
    before = b.op("sub", b.op("add", b.with_number("mul", year, 365.0), whole(year, 4.0)), whole(year, 100.0))
    of_year = b.op("sub", day, before)
    march = whole(b.with_number("add", b.with_number("mul", of_year, 5.0), 2.0), 153.0)  # months since March
    first = whole(b.with_number("add", b.with_number("mul", march, 153.0), 2.0), 5.0)
    late = b.cast(b.with_number("greater_equal", march, 10.0), "float64")  # January and February
    year = b.op("add", b.op("add", year, b.with_number("mul", era, 400.0)), late)
    weekday = rest(b.with_number("add", days, 3.0), 7.0)
    hours = b.op("sub", seconds, b.with_number("mul", days, _DAY))
    return {
        "elapsed": b.with_number("div", b.with_number("sub", seconds, origin), _DAY),
        "year": year,
        "month": b.op("sub", b.with_number("add", march, 3.0), b.with_number("mul", late, 12.0)),
        "day": b.with_number("add", b.op("sub", of_year, first), 1.0),
        "weekday": b.with_number("add", weekday, 1.0),
        "hour": b.with_number("div", hours, 3600.0),
    }


# -- features -----------------------------------------------------------------------------------------------------
def scale_features(builder: Builder, value: str, scaler: Any) -> str:
    """Return features as a `Standardizer` or a `MinMax` scales them."""
    moved = builder.op("sub", builder.cast(value, "float64"), _row(builder, np.asarray(scaler.shift).ravel()))
    return builder.op("div", moved, _row(builder, np.asarray(scaler.scale).ravel()))


# -- what is given ------------------------------------------------------------------------------------------------
def inputs_of(encoder: TableEncoder, table: Any) -> dict[str, npt.NDArray[Any]]:
    """Return a table's columns as the inputs of the graph: numbers, seconds, and text without gaps.

    Examples
    --------
    >>> table = {"size": np.array([1.0, np.nan]), "town": np.array(["b", None], dtype=object)}
    >>> encoder = TableEncoder().fit({"size": np.arange(3.0), "town": np.array(["a", "b", "a"], dtype=object)})
    >>> inputs_of(encoder, table)
    {'size': array([ 1., nan]), 'town': array(['b', ''], dtype=object)}
    """
    read: Mapping[str, Any] = encoder.read(table)
    made: dict[str, npt.NDArray[Any]] = {}
    for column in encoder.fitted_columns:
        cells = read[column.name]
        if isinstance(column, DateColumn):
            there = ~np.isnat(cells)
            made[column.name] = np.where(there, cells.astype("datetime64[us]").astype(np.int64) / 1e6, np.nan)
        elif isinstance(column, NumberColumn):
            made[column.name] = np.asarray(cells, dtype=np.float64)
        else:
            texts = as_texts(date_texts(cells) if getattr(cells, "dtype", np.dtype("O")).kind == "M" else cells)
            key = one_spelling(column.categories)
            if holds_numbers(column):
                made[column.name] = np.asarray([_as_number(text) for text in texts], dtype=np.float64)
            else:
                made[column.name] = np.asarray(["" if t is None else key(t) for t in texts], dtype=object)
    return made


def _as_number(text: str | None) -> float:
    """Return a category's number, NaN where it is missing, and infinity where it is no number: it is none of them."""
    if text is None:
        return math.nan
    try:
        return float(number_key(text))
    except ValueError:
        return math.inf
