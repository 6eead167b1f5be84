r"""New rows beside those of the training: what of their columns has moved, and whether it is more than chance.

The measure is the population stability index [1]_ over the bins of an `InputSchema`, with the shares :math:`e_i` of the
training rows and :math:`a_i` of the new ones,

.. math:: \mathrm{PSI} = \sum_i (a_i - e_i) \ln \frac{a_i}{e_i}

where a missing value is a bin of its own, and half a row is added to each bin.  Below 0.1 a column is usually called
stable, from 0.25 on it has moved much [1]_.  Where nothing has moved, the PSI of M and N rows over B bins is about
:math:`(1/M + 1/N)\, \chi^2_{B-1}` [2]_, which for few rows lies above any fixed threshold: so a column counts as moved
only if its PSI is also above what chance gives in one of a hundred tables.

References
----------
.. [1] Siddiqi, "Credit Risk Scorecards", Wiley 2006, chapter 9.
.. [2] Yurdakul, Naranjo, "Statistical properties of the population stability index", Journal of Risk Model Validation
       14(4), 2020.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import printable
from ..confidence import chi_square, more_than_chance
from ..errors import DataError, DTypeError, ShapeError
from ..optional import needs
from .audit.column import many, share
from .columns import as_columns, quote
from .csv import Table
from .dates import DateFormat, find_dates, read_column
from .encoder import Columns, TableEncoder
from .input_schema import InputColumn, InputSchema, as_floats, as_keyed, drawn, rows_looked_at
from .kinds import read_numbers
from .spelling import PLAIN

__all__ = ["ColumnDrift", "Drift", "drift"]

#: PSI from which a column has moved somewhat, and much.
_MODERATE, _LARGE = 0.1, 0.25
_LEVEL = 0.01  # of a table in which nothing has moved
_EXPECTED = 5.0  # rows in a bin; bins of fewer are put together
_FAR, _NOTABLE, _GAPS = 10.0, 0.05, 0.1  # what a warning is given of: see `ColumnDrift.alarms`
_NEW = 5  # categories named


@dataclass(frozen=True)
class ColumnDrift:
    """How one column of new rows differs from that of the training.

    Attributes
    ----------
    name, kind : str
        As in the schema.
    psi : float or None
        The population stability index; None where the column cannot be read.
    chance : float
        What the PSI of rows like the training's exceeds in one of a hundred tables.
    missing, missing_then : float
        Shares of rows without a value: now, and in training.
    range, range_then : (float, float), (str, str) or None
        Smallest and largest value, of numbers and of dates.
    outside : float
        Share of the values beyond the range of the training.
    new : dict of str to int
        The most frequent categories that the schema does not list, with their rows.
    unlisted, unlisted_then : float
        Shares of rows with any such category.
    shares : dict of str to (float, float)
        Of the two listed categories whose shares differ most: then, and now.
    alarms : list of str
        What is far from the training, in words: values beyond its range by more than its width; or 5 % of the rows
        beyond it, or with unseen categories, or 10 % more missing ones, where that is no chance.
    problem : str or None
        Why the column cannot be read, so that predictions are refused.
    """

    name: str
    kind: str
    psi: float | None = None
    chance: float = 0.0
    missing: float = 0.0
    missing_then: float = 0.0
    range: tuple[Any, Any] | None = None
    range_then: tuple[Any, Any] | None = None
    outside: float = 0.0
    new: dict[str, int] = field(default_factory=dict)
    unlisted: float = 0.0
    unlisted_then: float = 0.0
    shares: dict[str, tuple[float, float]] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    problem: str | None = None

    def above(self, threshold: float) -> bool:
        """Whether it has moved by more than a threshold, and by more than chance; or cannot be read."""
        return self.psi is None or (self.psi > threshold and self.psi > self.chance)

    @property
    def verdict(self) -> str:
        """``"stable"``, ``"moderate"``, ``"large"``, or ``"unreadable"``."""
        if self.psi is None:
            return "unreadable"
        moved = self.psi if self.psi > self.chance else 0.0
        return "large" if moved >= _LARGE else "moderate" if moved >= _MODERATE else "stable"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {**vars(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Drift:
    """New rows beside those of the training.

    Attributes
    ----------
    rows, rows_then : int
        Rows looked at: new ones, and of the training.
    columns : list of ColumnDrift
        What cannot be read, then the others by their PSI, the largest first.
    unused : list of str
        Columns that the model does not take.
    """

    rows: int
    rows_then: int
    columns: list[ColumnDrift]
    unused: list[str] = field(default_factory=list)

    @property
    def psi(self) -> float:
        """The largest PSI of a column."""
        return max((column.psi for column in self.columns if column.psi is not None), default=0.0)

    def above(self, threshold: float) -> list[str]:
        """Return the columns that have moved by more than a threshold and than chance, or cannot be read."""
        return [column.name for column in self.columns if column.above(threshold)]

    def __str__(self) -> str:
        with needs("tabulate", "drift"):
            from tabulate import tabulate

        rows = [[printable(cell) for cell in _row(column)] for column in self.columns]
        head = ["column", "PSI", "", "missing then, now", "range or shares then", "now"]
        table = tabulate(rows, headers=head, maxcolwidths=[30, None, None, None, 40, 44], disable_numparse=True)
        return f"{table}\n\n{printable(self.sentence())}"

    def sentence(self) -> str:
        """Say what it comes to, and what to do."""
        named: dict[str, list[str]] = {"unreadable": [], "large": [], "moderate": []}
        for column in self.columns:
            if column.verdict in named:
                named[column.verdict].append(column.name)
        said = []
        if named["unreadable"]:
            said.append(f"Predictions are refused: {quote(named['unreadable'])} cannot be read as in training.")
        if named["large"]:
            what = f"{_have(named['large'])} moved much (PSI of {_LARGE} and more): {quote(named['large'])}."
            said.append(f"{what} Scores of the training do not hold for rows like these: see why, or train anew.")
        if named["moderate"]:
            what = f"{_have(named['moderate'])} moved somewhat (PSI of {_MODERATE} to {_LARGE})"
            said.append(f"{what}: {quote(named['moderate'])}. Look at new scores, if there are any.")
        if not said:
            said.append(f"No column has moved: these {many(self.rows, 'row')} are like those of the training.")
        return " ".join(said)

    def warning(self) -> str | None:
        """Return in one line what is far from the training; None where nothing is."""
        far = [f"{column.name} ({'; '.join(column.alarms)})" for column in self.columns if column.alarms]
        if not far:
            return None
        more = f"; and {many(len(far) - 3, 'more column')}" if len(far) > 3 else ""
        return f"far from what training saw: {', '.join(far[:3])}{more}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        return {
            "rows": self.rows,
            "rows_then": self.rows_then,
            "psi": self.psi,
            "verdict": self.sentence(),
            "unused": self.unused,
            "columns": [column.to_dict() for column in self.columns],
        }


def drift(
    schema: InputSchema,
    table: Columns,
    *,
    encoder: TableEncoder | None = None,
    columns: Collection[str] | None = None,
) -> Drift:
    """Compare new rows with what a model's training saw, column by column.

    Parameters
    ----------
    schema : InputSchema
        Of a model: ``predictor.schema``.
    table : Table, frame, or mapping of str to array of shape (n,)
        New rows; of more than 100,000 so many, drawn at random, are looked at.
    encoder : TableEncoder, optional
        Of the model, which knows how its numbers and dates are written where they are text; `Predictor.drift` passes
        it.  Without it text is read as plain numbers, and as dates in one format.
    columns : collection of str, optional
        Columns to look at; by default all of the schema's.

    Returns
    -------
    Drift
        Printed, it is a table and a sentence.

    Raises
    ------
    DataError
        If there are no rows.
    DTypeError
        If these are no columns by name.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> then = {"size": rng.normal(80, 20, 2000), "town": rng.choice(["a", "b"], 2000)}
    >>> schema = InputSchema.of(TableEncoder().fit(then), then)
    >>> found = drift(schema, {"size": rng.normal(95, 20, 500), "town": rng.choice(["a", "b"], 500)})
    >>> [(column.name, round(column.psi, 2), column.verdict) for column in found.columns]
    [('size', 0.58, 'large'), ('town', 0.0, 'stable')]
    """
    given = as_columns(table.written if isinstance(table, Table) else table, "drift")
    given = {str(name): values for name, values in given.items()}
    n = max((_length(values) for values in given.values()), default=0)
    if not n:
        raise DataError("drift: expected at least one row, got none. Pass rows like those of the training.")
    some = rows_looked_at(n)
    chosen = [column for column in schema if columns is None or column.name in columns]
    level = _LEVEL / max(len(chosen), 1)
    found = []
    for column in chosen:
        try:
            if column.name not in given:
                raise DataError("it is not there")
            if (length := _length(given[column.name])) != n:
                raise ShapeError(f"it has {length} rows of {n}")
            values = _read(column, {column.name: drawn(given[column.name], some)}, encoder)
            values = values if len(values) == len(some) else values[some]
        except (DataError, DTypeError, ShapeError) as error:
            found.append(ColumnDrift(column.name, column.kind, problem=str(error)))
        else:
            found.append(_compared(column, schema.rows, values, level))
    found.sort(key=lambda each: -np.inf if each.psi is None else -each.psi)
    known = {column.name for column in schema}
    return Drift(len(some), schema.rows, found, [name for name in given if name not in known])


def _length(values: Any) -> int:
    try:
        return len(values)
    except TypeError:
        return 0


def _read(column: InputColumn, given: Mapping[str, Any], encoder: TableEncoder | None) -> npt.NDArray[Any]:
    """Return a column as it is understood; raises an error of xpnn's if it cannot be."""
    values = given[column.name]
    if encoder is not None:
        return encoder.read({column.name: values}, only=[column.name])[column.name]
    array = read_column(column.name, values)
    if column.kind == "category":
        return np.asarray(array)
    if column.kind == "date" and array.dtype.kind == "O":
        written = find_dates(np.asarray(array))
        array = (written if isinstance(written, DateFormat) else DateFormat()).parse(np.asarray(array), column.name)
    if (array.dtype.kind == "M") != (column.kind == "date"):
        raise DTypeError(
            f"column {column.name!r}: expected a {column.kind}, got {array.dtype}. Pass it as in training."
        )
    return array if array.dtype.kind == "M" else read_numbers(column.name, array, PLAIN)


# -- one column -----------------------------------------------------------------------------------------------------
def _compared(column: InputColumn, rows: int, values: npt.NDArray[Any], level: float) -> ColumnDrift:
    n = len(values)
    ratio = min(n / rows, 1.0)  # few rows, then or now, say little
    if column.kind == "category":
        texts = as_keyed(values, column.categories)
        counted = Counter(text for text in texts if text is not None)
        listed = [counted.pop(name, 0) for name in column.categories]
        missing, unlisted = n - sum(listed) - counted.total(), counted.total()
        pairs = [(name, (k / rows, m / n)) for name, k, m in zip(column.categories, column.counts, listed, strict=True)]
        then, now = _few_together(column.counts, listed, ratio)
        then, now = [*then, column.missing], [*now, missing]
        then[0], now[0] = then[0] + column.others, now[0] + unlisted
        told: dict[str, Any] = {
            "new": dict(counted.most_common(_NEW)),
            "unlisted": unlisted / n,
            "unlisted_then": column.others / rows,
            "shares": dict(sorted(pairs, key=lambda pair: -abs(pair[1][0] - pair[1][1]))[:2]),
            "alarms": _alarms_of_categories(column, rows, counted, n, level),
        }
    else:
        x = as_floats(values)
        present = x[~np.isnan(x)]
        missing = n - len(present)
        then, now = _neighbours_together(column.counts, column.counted(present).tolist(), ratio)
        then, now = [*then, column.missing], [*now, missing]
        told = _range(column, rows, present, level)
    psi, bins = _psi(then, now)
    chance = (1 / rows + 1 / n) * chi_square(bins - 1, level) if bins > 1 else 0.0
    alarms = [*told.pop("alarms"), *_alarms_of_gaps(column, rows, missing, n, level)]
    shares: dict[str, Any] = {"missing": missing / n, "missing_then": column.missing / rows}
    return ColumnDrift(column.name, column.kind, psi, chance, **shares, **told, alarms=alarms)


def _few_together(then: Sequence[int], now: Sequence[int], ratio: float) -> tuple[list[int], list[int]]:
    """Put categories of which few rows are to be expected together, before the others."""
    pairs = list(zip(then, now, strict=True))
    few = [pair for pair in pairs if pair[0] * ratio < _EXPECTED]
    many_rows = [pair for pair in pairs if pair[0] * ratio >= _EXPECTED]
    whole = [(sum(pair[0] for pair in few), sum(pair[1] for pair in few)), *many_rows]
    return [pair[0] for pair in whole], [pair[1] for pair in whole]


def _neighbours_together(then: Sequence[int], now: Sequence[int], ratio: float) -> tuple[list[int], list[int]]:
    """Put bins beside each other together until rows enough are to be expected in each."""
    whole: list[list[int]] = [[0, 0]]
    for pair in zip(then, now, strict=True):
        if whole[-1][0] * ratio >= _EXPECTED:
            whole.append([0, 0])
        whole[-1][0] += pair[0]
        whole[-1][1] += pair[1]
    if len(whole) > 1 and whole[-1][0] * ratio < _EXPECTED:
        last = whole.pop()
        whole[-1] = [whole[-1][0] + last[0], whole[-1][1] + last[1]]
    return [pair[0] for pair in whole], [pair[1] for pair in whole]


def _psi(then: Sequence[int], now: Sequence[int]) -> tuple[float, int]:
    """Return the index, and over how many bins; those that are empty both times are none."""
    e, a = np.asarray(then, dtype=np.float64), np.asarray(now, dtype=np.float64)
    e, a = e[e + a > 0] + 0.5, a[e + a > 0] + 0.5
    e, a = e / e.sum(), a / a.sum()
    return float(np.sum((a - e) * np.log(a / e))), len(e)


def _range(column: InputColumn, rows: int, present: npt.NDArray[np.float64], level: float) -> dict[str, Any]:
    """Return what is known of the range of numbers or dates."""
    low, high, alarms, outside = column.low, column.high, [], 0
    if low is not None and high is not None and present.size:
        outside = int(np.count_nonzero((present < low) | (present > high)))
        reach = _FAR * (high - low)
        far = int(np.count_nonzero((present < low - reach) | (present > high + reach))) if reach > 0 else 0
        much = outside >= _NOTABLE * present.size
        if far or (much and more_than_chance(outside, present.size, _rate(2, rows), level)):
            least, most = float(present.min()), float(present.max())
            furthest = least if low - least > most - high else most
            ends = f"{column.shown(low)} to {column.shown(high)}, as far as {column.shown(furthest)}"
            alarms.append(f"{share(outside, present.size)} outside {ends}")
    return {
        "range": (column.plain(present.min()), column.plain(present.max())) if present.size else None,
        "range_then": None if low is None or high is None else (column.plain(low), column.plain(high)),
        "outside": outside / max(present.size, 1),
        "alarms": alarms,
    }


def _alarms_of_categories(column: InputColumn, rows: int, new: Counter[str], n: int, level: float) -> list[str]:
    expected, count = column.others + column.once, new.total()
    if count / n - expected / rows < _NOTABLE or not more_than_chance(count, n, _rate(expected, rows), level):
        return []
    named = quote([name for name, _ in new.most_common(3)], 3)
    which = "unseen" if column.distinct == len(column.categories) else "rare"
    return [f"{share(count, n)} of {which} categories such as {named}"]


def _alarms_of_gaps(column: InputColumn, rows: int, missing: int, n: int, level: float) -> list[str]:
    notable = missing / n - column.missing / rows >= _GAPS
    if not notable or not more_than_chance(missing, n, _rate(column.missing, rows), level):
        return []
    return [f"{share(missing, n)} missing, in training {share(column.missing, rows)}"]


def _rate(count: int, rows: int) -> float:
    """Return a rate that so many of the training rows do not speak against: three standard errors above theirs."""
    return min((count + 3 * math.sqrt(count + 1)) / rows, 0.999)


# -- words ----------------------------------------------------------------------------------------------------------
def _row(column: ColumnDrift) -> list[str]:
    if column.psi is None:
        return [column.name, "", column.verdict, "", "", str(column.problem)]
    gaps = f"{share(column.missing_then, 1)}, {share(column.missing, 1)}"
    if column.kind == "category":
        sides = ([f"{name!r} {share(pair[k], 1)}" for name, pair in column.shares.items()] for k in (0, 1))
        then, now = (", ".join(side) for side in sides)
        named = ", ".join(f"{name!r} ({rows:,})" for name, rows in column.new.items())
        then += f"; others {share(column.unlisted_then, 1)}" if column.unlisted_then else ""
        now += f"; {'others' if column.unlisted_then else 'new'} {share(column.unlisted, 1)}: {named}" if named else ""
    else:
        then, now = (
            " to ".join(end if isinstance(end, str) else f"{end:.6g}" for end in ends) if ends else "none"
            for ends in (column.range_then, column.range)
        )
        now += f"; {share(column.outside, 1)} outside" if column.outside else ""
    return [column.name, f"{column.psi:.3f}", column.verdict, gaps, then, now]


def _have(names: Sequence[str]) -> str:
    return f"{len(names)} columns have" if len(names) > 1 else "1 column has"
