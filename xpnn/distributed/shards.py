"""Rows that are cut into shards: a batch that all processes could read, or data of which each reads its own alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arguments import same_length
from ..errors import DataError, OptionError
from ..random import stream
from .tree import cuts

__all__ = ["ArrayShards", "Part", "ShardedRows", "shard_order", "shard_steps"]


class Part(NamedTuple):
    """Inputs, targets and, where rows have some, weights of one shard; arrays, `numpy.memmap` among them."""

    X: Any  #: (n, n_in)
    y: Any  #: (n,) or (n, n_targets)
    weight: Any = None  #: (n,)


class ShardedRows(ABC):
    """Data in shards, for `Trainer.fit` in the place of X: a process reads those that fall to it, and no others.

    Data of your own define `lengths` and `read`.  Shards may be of different lengths, and empty.  What a fit computes
    depends on the shards and their order, and not on how many processes there are.

    Attributes
    ----------
    lengths : sequence of int
        The number of rows of each shard, known on every process.
    names : dict of str to list
        Of ``"X"`` and ``"y"``, the names of the columns, where they have some; the same on every process.
    """

    lengths: Sequence[int]
    names: Mapping[str, Sequence[Any]] = {}

    @abstractmethod
    def read(self, number: int) -> Part:
        """Return the rows of a shard, ``lengths[number]`` of them, in an order that is always the same."""

    def checked(self) -> list[int]:
        """Return the lengths as plain integers.

        Raises DataError if there is no shard, or no row in any.
        """
        lengths = [int(n) for n in self.lengths]
        if not sum(lengths) or min(lengths) < 0:
            raise DataError(
                f"{type(self).__name__}: expected shards with rows, got {len(lengths)} shards of {sum(lengths)} rows. "
                "Look at the names of the files."
            )
        return lengths

    def part(self, number: int) -> Part:
        """Return the rows of a shard, compared with its length.

        Raises DataError if there are more or fewer.
        """
        part, expected = self.read(number), int(self.lengths[number])
        if not isinstance(part, Part):
            raise OptionError(
                f"{type(self).__name__}.read: expected a Part, got {type(part).__name__}. Return Part(X, y)."
            )
        found = same_length(f"{type(self).__name__}.read", X=part.X, y=part.y)
        if found != expected:
            raise DataError(
                f"{type(self).__name__}: expected {expected} rows in shard {number}, got {found}. "
                "Its data have changed since they were counted: make it again."
            )
        return part


class ArrayShards(ShardedRows):
    """Shards of arrays, each a pair (X, y) or a triple (X, y, sample_weight).

    Parameters
    ----------
    parts : sequence of tuples of arrays
        The shards, in order; a `numpy.memmap` stays on disk.

    Examples
    --------
    >>> import numpy as np, xpnn
    >>> X, y = xpnn.data.make_moons(100, seed=0)
    >>> rows = ArrayShards([(X[:30], y[:30]), (X[30:], y[30:])])
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2]), xpnn.CrossEntropy(), xpnn.Adam(0.01))
    >>> trainer.fit(rows, epochs=2, batch_size=20).rows[-1]["epoch"]
    2
    """

    def __init__(self, parts: Sequence[tuple[Any, ...]]) -> None:
        self._parts = [Part(*part) for part in parts]
        self.lengths = [same_length("ArrayShards", X=part.X, y=part.y) for part in self._parts]

    def read(self, number: int) -> Part:
        """Return a shard."""
        return self._parts[number]


def shard_steps(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Return, for each shard, where its rows are cut into steps, so that all shards end with the same step.

    Each step takes of each shard a share of its rows, and so some `batch_size` rows of all.

    Examples
    --------
    >>> shard_steps([4, 2, 0], 2)
    [[0, 1, 2, 4], [0, 0, 1, 2], [0, 0, 0, 0]]
    """
    steps = -(-sum(lengths) // batch_size)
    return [cuts(n, steps) for n in lengths]


def shard_order(n: int, shard: int, seed: int, epoch: int) -> np.ndarray:
    """Return the order in which an epoch takes the rows of a shard."""
    return stream(seed, "shard", epoch, shard + 1).permutation(n)
