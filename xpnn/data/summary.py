"""What an encoder must know of a table that comes in blocks: exact counts, and a sample of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import count
from ..errors import DataError, OptionError
from ..random import splitmix64
from .columns import Floats, as_columns, as_texts, is_missing, is_text, quote
from .dates import read_column
from .kinds import read_numbers
from .moments import Moments
from .spelling import PLAIN

__all__ = ["MOST_DISTINCT", "Seen", "TableSummary"]

#: Different values of text beyond which they are no longer counted: an identifier, or free text.
MOST_DISTINCT = 1 << 20


@dataclass
class Seen:
    """What all rows say of one column.

    Attributes
    ----------
    kind : {"numbers", "dates", "text"} or None
        What it holds; None: nothing but gaps so far.
    gaps : int
        Missing cells.
    low, high : float
        The least and the greatest number.
    counts : Counter or None
        Of text, how often each value is there; None: there are too many.
    moments : Moments
        Of numbers that are there.
    """

    kind: str | None = None
    gaps: int = 0
    counts: Counter[str] | None = field(default_factory=Counter)
    moments: Moments = field(default_factory=lambda: Moments(()))

    @property
    def low(self) -> float:
        """The least number."""
        return float(self.moments.low)

    @property
    def high(self) -> float:
        """The greatest number."""
        return float(self.moments.high)

    def merge(self, other: Seen, name: str, where: str) -> None:
        """Take in what other rows say."""
        if None not in (self.kind, other.kind) and self.kind != other.kind:
            raise DataError(
                f"{where}: expected {self.kind} in column {name!r}, as in the blocks before, got {other.kind}. Read it "
                "alike everywhere, or leave it out."
            )
        self.kind = self.kind or other.kind
        self.gaps += other.gaps
        self.moments.merge(other.moments)
        if self.counts is not None:
            if other.counts is not None:
                self.counts.update(other.counts)
            if other.counts is None or len(self.counts) > MOST_DISTINCT:
                self.counts = None


class TableSummary:
    """Counts, extremes and sums of each column of a table, and a sample of its rows, gathered block by block.

    Nothing of it depends on the order of the blocks, nor on where they are cut or who gathers them: counts and sums are
    exact, and whether a row is in the sample follows from the seed, its part's number and its own number in the part.
    So processes may each gather what they hold, and merge.

    Parameters
    ----------
    sample : int, default=50_000
        Rows of the sample, from which quantiles are taken.  Of no more rows than that, all are in it.
    seed : int, default=0
        Draws the sample.
    categorical : sequence of str, default=()
        Columns whose values are counted whatever they look like, as in `TableEncoder`.

    Attributes
    ----------
    rows : int
        How many there were.
    columns : dict of str to Seen
        What they say, by column.

    Examples
    --------
    >>> one, two = TableSummary(), TableSummary()
    >>> one.add({"size": np.array([1.0, np.nan]), "town": np.array(["a", "b"], dtype=object)}, part=0)
    >>> two.add({"size": np.array([3.0]), "town": np.array(["b"], dtype=object)}, part=1)
    >>> one.merge(two)
    >>> one.rows, one.columns["size"].gaps, one.columns["town"].counts
    (3, 1, Counter({'b': 2, 'a': 1}))
    """

    def __init__(self, *, sample: int = 50_000, seed: int = 0, categorical: Sequence[str] = ()) -> None:
        self.sample = count(sample, "TableSummary", "sample")
        self.seed, self.categorical = int(seed), tuple(categorical)
        self.columns: dict[str, Seen] = {}
        self._parts: dict[int, int] = {}  # rows of each
        self._keys = np.empty((0, 3), np.uint64)  # of the sample: what ranks a row, its part, its number
        self._drawn: dict[str, npt.NDArray[Any]] = {}

    @property
    def rows(self) -> int:
        """How many there were."""
        return sum(self._parts.values())

    def add(self, columns: Any, part: int = 0) -> None:
        """Take in the next rows of a part of the table.

        Parameters
        ----------
        columns : frame, or mapping of str to array of shape (n,)
            The rows.
        part : int, default=0
            The number of the file or partition that they are of; the blocks of one part come in order.

        Raises
        ------
        DataError
            If the columns are not those of the blocks before, hold something else, or a number is infinite.
        DTypeError, ShapeError
            If they are no columns of one length.
        """
        where = "TableSummary.add"
        arrays = {name: read_column(name, values) for name, values in as_columns(columns, where).items()}
        lengths = {array.shape[0] for array in arrays.values()}
        if len(lengths) != 1:
            raise DataError(f"{where}: expected columns of one length, got {sorted(lengths)}. Give all the same rows.")
        n, start = lengths.pop(), self._parts.get(part, 0)
        found = TableSummary(sample=self.sample, seed=self.seed, categorical=self.categorical)
        found.columns = {name: self._seen(name, array) for name, array in arrays.items()}
        numbers = np.arange(start, start + n, dtype=np.uint64)
        keys = splitmix64(numbers ^ np.uint64(splitmix64((self.seed ^ splitmix64(part)) & (2**64 - 1))))
        found._keys = np.stack([keys, np.full(n, part, np.uint64), numbers], axis=1)
        found._drawn = arrays
        self._merge(found, where)
        self._parts[part] = start + n

    def merge(self, other: TableSummary) -> None:
        """Take in what was gathered of other parts.

        Raises
        ------
        DataError
            If the columns differ.
        OptionError
            If it is a sample of another size or seed, or has a part that is here already.
        """
        where = "TableSummary.merge"
        mine, theirs = ((one.sample, one.seed, one.categorical) for one in (self, other))
        both = sorted(self._parts.keys() & other._parts.keys())
        if mine != theirs or both:
            got = f"part {both[0]} on both sides" if both else f"{theirs} beside {mine}"
            raise OptionError(
                f"{where}: expected other parts, and the same sample, seed and categorical, got {got}. Gather each "
                "part once, with the same arguments."
            )
        self._merge(other, where)
        self._parts |= other._parts

    def drawn(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns of the sample, its rows in the order of their parts and numbers."""
        order = np.lexsort((self._keys[:, 2], self._keys[:, 1]))
        return {name: array[order] for name, array in self._drawn.items()}

    def _seen(self, name: str, array: Any) -> Seen:
        if name in self.categorical or is_text(array):
            counts = Counter(as_texts(array))
            gaps = counts.pop(None, 0)
            kind = "text" if counts else None
            return Seen(kind, gaps, counts if len(counts) <= MOST_DISTINCT else None)  # type: ignore[arg-type]
        if array.dtype.kind == "M":
            return Seen("dates", int(np.isnat(array).sum()))
        if array.dtype.kind == "O" and all(map(is_missing, array)):
            return Seen(None, array.shape[0])
        numbers: Floats = read_numbers(name, array, PLAIN)
        there = numbers[~np.isnan(numbers)]
        moments = Moments(())
        if there.size:
            moments.add(there)
        return Seen("numbers", array.shape[0] - there.size, moments=moments)

    def _merge(self, other: TableSummary, where: str) -> None:
        if self.columns and other.columns and self.columns.keys() != other.columns.keys():
            names = [name for name in {**self.columns, **other.columns} if name not in self.columns]
            absent = [name for name in self.columns if name not in other.columns]
            got = f"{quote(names)} beside them" if names else f"none named {quote(absent)}"
            raise DataError(
                f"{where}: expected the columns {quote(self.columns, 20)}, as in the blocks before, got {got}. Give "
                "each block the same columns."
            )
        for name, seen in other.columns.items():
            if name not in self.columns:
                self.columns[name] = Seen()
            self.columns[name].merge(seen, name, where)
        keys = np.concatenate([self._keys, other._keys])
        best = np.lexsort((keys[:, 2], keys[:, 1], keys[:, 0]))[: self.sample]
        self._keys = keys[best]
        self._drawn = {
            name: (_joined(self._drawn[name], array) if self._drawn else array)[best]
            for name, array in other._drawn.items()
        } or self._drawn


def _joined(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return two pieces of a column as one; gaps without a kind take that of the other piece."""
    if (one.dtype.kind == "M") != (other.dtype.kind == "M"):  # `Seen` has compared kinds: one holds gaps alone
        one, other = (a if a.dtype.kind == "M" else np.full(a.shape, "NaT", "M8[us]") for a in (one, other))
    return np.concatenate([one, other])
