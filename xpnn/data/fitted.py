"""Fitted columns of a table: what each learnt from the training rows, how it encodes cells, and its plain data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..accel.native.support import loops_at_hand
from ..config import from_config, options_of
from ..errors import DataError
from ..schema import at_least
from .columns import Floats, as_texts, is_number_key, is_text, label_key, one_spelling, quote
from .dates import DateColumn, date_texts
from .kinds import read_numbers
from .spelling import PLAIN, Spelling
from .written import Written

__all__ = [
    "COLUMN",
    "CategoryColumn",
    "NumberColumn",
    "Pieces",
    "bins_of",
    "column_from_dict",
    "column_to_dict",
    "edges_of",
    "spread_of",
]

# Cells over the edges of bins, edges in one of them up to which they help, and numbers from which on.
_CELLS, _CROWDED, _MANY = 1024, 4, 512
_NARROWEST = 1e-200  # a difference of edges with which nothing overflows
_TRUTH = {"true": 1.0, "false": 0.0}  # as files have booleans
#: What is made of a column, in order, and how many columns each: some as they are, a piecewise-linear code, a one-hot
#: code; `xpnn.coding.Code` has how they are packed.
Pieces: TypeAlias = list[tuple[Literal["plain", "steps", "ones"], int]]


# one fitted column ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NumberColumn:
    """A numeric column: its scaled value, then its missing flag and its bins, each where there is one."""

    name: str
    fill: float
    center: float
    spread: float  # 0 for a column that is constant but for its gaps: the flag alone is left
    flagged: bool
    edges: tuple[float, ...]
    spelling: Spelling = PLAIN  # of cells that are text
    boolean: bool = False  # true and false are numbers too

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns that are made of it."""
        value = [self.name] if self.spread > 0 else []
        flag = [f"{self.name}:missing"] if self.flagged else []
        return value + flag + [f"{self.name}:bin{t}" for t in range(1, len(self.edges))]

    def numbers(self, array: npt.NDArray[Any]) -> Floats:
        """Return the numbers of a column, NaN for missing ones."""
        if array.dtype.kind == "M":
            raise DataError(
                f"column {self.name!r}: expected numbers, got dates such as {date_texts(array[:1])[0]}. Give the "
                "column that the model was trained on."
            )
        if getattr(self, "boolean", False) and is_text(array):
            array = np.asarray([_TRUTH.get(str(cell).strip().casefold(), cell) for cell in array], dtype=object)
        return read_numbers(self.name, array, getattr(self, "spelling", PLAIN))  # pickles from before have none

    @property
    def pieces(self) -> Pieces:
        """What `pack` makes of the column."""
        plain = int(self.spread > 0) + self.flagged
        steps = max(len(self.edges) - 1, 0)
        found: Pieces = [("plain", plain), ("steps", steps)]
        return [piece for piece in found if piece[1]]

    def pack(self, x: Floats, clip: float | None) -> list[npt.NDArray[Any]]:
        """Return scaled values and flags, and of bins the fractions and which they are, each where there are any.

        `x` is what `numbers` returned, or some of it.
        """
        gaps = np.isnan(x)
        x = np.where(gaps, self.fill, x)
        parts: list[npt.NDArray[Any]] = []
        if self.spread > 0:
            with np.errstate(over="ignore"):  # a subnormal spread; the bound below keeps the ratio finite
                z = np.clip((x - self.center) / self.spread, -1e30, 1e30)
            parts.append(z if clip is None else z / np.hypot(1.0, z / clip))
        if self.flagged:
            parts.append(gaps)
        if self.edges:
            edges = np.asarray(self.edges)
            bins = bins_of(self.edges[1:-1], x)
            low = edges[bins]
            parts += [np.clip((x - low) / (edges[bins + 1] - low), 0.0, 1.0), bins]
        return parts

    def pack_into(self, packed: npt.NDArray[np.float32], places: list[int], x: Floats, clip: float | None) -> bool:
        """Write what `pack` returns to columns of packed rows, by a compiled loop; False where that does not pay."""
        loops, grid = loops_at_hand(), _grid_of(self.edges[1:-1]) if len(self.edges) > 3 else None
        alike = x.dtype == np.float64 and x.flags.c_contiguous and packed.flags.c_contiguous
        if loops is None or grid is None or len(x) < _MANY or not alike:
            return False
        value, flag = (places[0] if self.spread > 0 else -1), (places[-3] if self.flagged else -1)
        scaling = self.fill, self.center, float(self.spread), float(clip or 0.0)
        cells = grid.low, grid.scale, float(_CELLS)
        loops.pack_numbers(packed, x, (value, flag, *places[-2:]), scaling, np.asarray(self.edges), cells, grid.before)
        return True


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """A categorical column: one 0/1 column a category, or one -1/+1 column for two of them."""

    name: str
    categories: tuple[str, ...]
    pooled: bool  # a last 0/1 column for the rare ones

    @property
    def binary(self) -> bool:
        """Whether one column tells two categories apart."""
        return len(self.categories) == 2 and not self.pooled

    @property
    def feature_names(self) -> list[str]:
        """Names of the columns that are made of it."""
        if self.binary:
            return [f"{self.name}={self.categories[1]}"]
        rare = [f"{self.name}:rare"] if self.pooled else []
        return [f"{self.name}={c}" for c in self.categories] + rare

    def codes(self, array: npt.NDArray[Any] | Written) -> npt.NDArray[np.signedinteger[Any]]:
        """Return the position of each row's category, -1 for an unknown one and -2 for a missing one."""
        array = date_texts(array) if not isinstance(array, Written) and array.dtype.kind == "M" else array
        self._refuse_numbers(array)
        key, where = one_spelling(self.categories), {c: i for i, c in enumerate(self.categories)}
        if isinstance(array, Written) and array.numbers is None:  # each word once
            words = [where.get(key(word), -1) if word else -2 for word in array.words]
            narrow = np.min_scalar_type(-1 - max(len(self.categories), 1))  # holds their number, too
            return np.array(words, dtype=narrow)[array.codes]
        texts = as_texts(array)
        found = {text: -2 if text is None else where.get(key(text), -1) for text in set(texts)}
        return np.fromiter((found[text] for text in texts), dtype=np.int64, count=len(texts))

    def _refuse_numbers(self, array: npt.NDArray[Any] | Written) -> None:
        """Refuse an array of numbers, whichever they are, where no category is one."""
        takes = {"b": lambda c: c in ("True", "False"), "O": lambda c: True}.get(array.dtype.kind, is_number_key)
        if any(map(takes, self.categories)):
            return
        present = np.flatnonzero(array == array)
        if present.size:
            raise DataError(
                f"column {self.name!r}: expected the categories {quote(self.categories)}, got numbers such as "
                f"{label_key(array[present[0]])} in data row {present[0] + 1}. Give the column that the model was "
                "trained on."
            )

    @property
    def pieces(self) -> Pieces:
        """What `pack` makes of the column."""
        return [("plain", 1) if self.binary else ("ones", len(self.categories) + self.pooled)]

    def pack(self, codes: npt.NDArray[np.signedinteger[Any]]) -> list[npt.NDArray[Any]]:
        """Return which 0/1 column is 1, negative for none, or one column of -1 and +1; `codes` has what it says."""
        if self.binary:
            return [np.where(codes < 0, 0.0, 2.0 * codes - 1.0)]
        return [np.where(codes == -1, len(self.categories), codes) if self.pooled else codes]


_KINDS: dict[str, type[NumberColumn] | type[CategoryColumn]] = {"number": NumberColumn, "category": CategoryColumn}
_NUMBER = {"kind": "number", "name": str, "spread": at_least(0, float), "flagged": bool, "edges": [float]}
_NUMBER |= dict.fromkeys(("fill", "center"), float)
#: The kinds of a fitted column in a file.
COLUMN = (
    _NUMBER,
    {"kind": "category", "name": str, "categories": [str], "pooled": bool},
    {"kind": "date", "name": str, "origin": str, "order": str, "parts": [str], "numbers": [_NUMBER]},
)


def column_to_dict(column: NumberColumn | CategoryColumn | DateColumn) -> dict[str, Any]:
    """Return a fitted column as JSON-able values."""
    if isinstance(column, DateColumn):
        return {"kind": "date", **column.to_dict(), "numbers": [column_to_dict(number) for number in column.numbers]}
    kinds = {kind: name for name, kind in _KINDS.items()}
    options = options_of(column)
    if not options.get("boolean", True):
        del options["boolean"]  # older versions read such a column too
    return {"kind": kinds[type(column)], **options}


def column_from_dict(entry: Mapping[str, Any]) -> NumberColumn | CategoryColumn | DateColumn:
    """Rebuild a fitted column from `column_to_dict`; raises ValueError or TypeError if an entry is bad."""
    if entry["kind"] == "date":
        return DateColumn.from_dict(entry, tuple(map(column_from_dict, entry["numbers"])))
    make: Any = _KINDS[entry["kind"]]
    options = from_config({k: v for k, v in entry.items() if k != "kind"}, {"Spelling": Spelling})
    if not isinstance(options.get("spelling", PLAIN), Spelling):
        raise TypeError(options["spelling"])
    made: NumberColumn | CategoryColumn = make(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
    )
    return made


def spread_of(x: Floats, center: float) -> float:
    """Return the interquartile range of all values, or of those off the center, or half the range."""
    for part in (x, x[x != center]):
        if part.size:
            q25, q75 = np.quantile(part, [0.25, 0.75])
            if q75 > q25:
                return float(q75 - q25)
    return float(x.max() - x.min()) / 2


class _Grid(NamedTuple):
    """Cells of one width over some edges, so that a number's cell tells its bin but for the edges in that cell."""

    low: float
    scale: float  # cells by unit
    before: npt.NDArray[np.intp]  # of each cell, how many edges lie in cells before it
    most: int  # edges in one cell
    ends: Floats  # the edges, and infinity

    def places(self, x: Floats) -> npt.NDArray[np.intp]:
        """Return the cells of numbers, which rise with them however they are rounded."""
        at = x - self.low
        at *= self.scale
        np.maximum(at, 0.0, out=at)
        np.minimum(at, _CELLS, out=at)
        return at.astype(np.intp)


@functools.lru_cache(maxsize=1024)
def _grid_of(edges: tuple[float, ...]) -> _Grid | None:
    """Return a grid over edges, None where too many of them are in one cell."""
    width = edges[-1] - edges[0]
    if not width > _NARROWEST:
        return None
    grid = _Grid(edges[0], _CELLS / width, np.zeros(0, np.intp), 0, np.array([*edges, np.inf]))
    held = np.bincount(grid.places(grid.ends[:-1]), minlength=_CELLS + 1)
    most = int(held.max())
    return grid._replace(before=np.cumsum(held) - held, most=most) if most <= _CROWDED else None


def bins_of(edges: tuple[float, ...], x: Floats) -> npt.NDArray[np.intp]:
    """Return how many of the edges, which rise, are no larger than each number; these are finite.

    It is what `numpy.searchsorted` finds, of many numbers in a third of its time.

    Examples
    --------
    >>> bins_of((0.0, 1.0, 3.0), np.array([-1.0, 0.0, 2.5, 7.0]))
    array([0, 1, 2, 3])
    """
    grid = _grid_of(edges) if len(edges) > 1 and len(x) >= _MANY else None
    if grid is None:
        return np.searchsorted(np.asarray(edges), x, side="right")
    bins = grid.before.take(grid.places(x))
    for _ in range(grid.most):
        bins += x >= grid.ends.take(bins)
    return bins


def edges_of(x: Floats, bins: int) -> tuple[float, ...]:
    """Return the bin edges: the values themselves when there are few, else quantiles without repeats."""
    distinct = np.unique(x)
    if distinct.size > bins + 1:
        edges = np.quantile(x, np.linspace(0.0, 1.0, bins + 1))
        edges, times = np.unique(edges, return_counts=True)
        spare = bins + 1 - edges.size
        if spare:  # one value, such as 0 in an amount, took several edges: hand them to the rest
            rest = x[~np.isin(x, edges[times > 1])]
            if rest.size:
                more = np.quantile(rest, np.linspace(0.0, 1.0, spare + 2)[1:-1], method="nearest")
                edges = np.unique(np.concatenate([edges, more]))
        distinct = edges
    # Two edges would repeat the scaled value.
    return tuple(float(e) for e in distinct) if distinct.size > 2 else ()
