"""The rows that fall to one process: of batches that are cut into shards, or of shards that it alone can read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._typing import Array
from ..distributed.shards import shard_order, shard_steps
from ..distributed.tree import Tree, ranges
from .feed import Batch, Feed, Indices
from .step import Step

__all__ = ["CutRows", "OwnRows", "Portion", "Rows", "ShardFeeds", "Slices", "of_shard", "shard_slices", "slices_of"]


class Portion(NamedTuple):
    """The rows of one shard in one step."""

    shard: int
    x: Array
    y: Array
    weight: Array | None
    numbers: Array  #: int32 numbers that pick the rows' dropout masks, on the device


def of_shard(step: Step, portion: Portion, weight: float) -> Step:
    """Return the numbers of a step for the rows of one of its shards, which weigh so much."""
    return step._replace(weight=weight, rows=portion.numbers, note=None)


class Rows(Protocol):
    """The rows of an epoch's steps that fall to this process."""

    weights: np.ndarray  #: (steps, shards), float64: the total weight of each shard in each step, of all processes

    def steps(self, first: int) -> Iterator[list[Portion]]:
        """Yield the portions of each step from number `first` on: those that have rows, by the number of the shard."""


class CutRows:
    """Rows of batches that are the same for all processes: each gathers those of its own shards."""

    def __init__(self, feed: Feed, order: Indices | None, batch_size: int, tree: Tree, numbers: Array | None) -> None:
        n = len(feed)
        starts = np.arange(0, n, batch_size)[:, None]
        sizes = np.minimum(batch_size, n - starts)
        edges = starts + sizes * np.arange(tree.shards + 1) // tree.shards
        self.weights = feed.weights_between(order, edges)
        self._feed, self._tree, self._order, self._numbers = feed, tree, order, numbers
        self._edges = edges[:, tree.own.start : tree.own.stop + 1]

    def steps(self, first: int) -> Iterator[list[Portion]]:
        """Yield the portions of each step from number `first` on."""
        edges, backend = self._edges[first:], self._feed.backend
        counts = np.diff(edges)
        # Where each portion begins among the rows that are this process's own.
        places = np.concatenate([[0], np.cumsum(counts)]).tolist()
        order, numbers, own = self._order, self._numbers, self._tree.own
        if self._tree.group.size > 1 or first:
            mine = _of_ranges(edges[:, 0], edges[:, -1])
            order = mine if order is None else order[mine]
            if numbers is not None:
                numbers = numbers[backend.asarray(mine, dtype=backend.index_dtype)]
        if numbers is None:
            rows = np.arange(places[-1]) if order is None else order
            numbers = backend.asarray(rows.astype(np.int32), dtype=backend.xp.int32)
        batches = self._feed.cut(order, places)
        for step, row in enumerate(counts.tolist()):
            found = []
            for k, n in enumerate(row):
                place = places[step * len(own) + k]
                x, y, weight = next(batches, (None, None, None))
                if n:
                    found.append(Portion(own[k], x, y, weight, numbers[place : place + n]))
            yield found


def _of_ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the whole numbers of some ranges, one range after the other."""
    lengths = stops - starts
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


class ShardFeeds:
    """Feeds of the shards of one process, in the place of the feed of all rows."""

    numbers: Indices
    weight: np.ndarray | None = None  #: of all rows: no process has them

    def __init__(
        self, feeds: Mapping[int, Feed], lengths: list[int], tree: Tree, *, weighted: bool, width: int
    ) -> None:
        self.feeds, self.lengths, self.tree, self.weighted, self.width = feeds, lengths, tree, weighted, width
        self.numbers = np.asarray(lengths)

    def __len__(self) -> int:
        return sum(self.lengths)

    def batches(self, order: Indices | None, batch_size: int, first: int = 0) -> Iterator[Batch]:
        """Yield batches of this process's rows, as they lie, from number `first` on."""
        each = (feed.batches(None, batch_size) for feed in self.feeds.values())
        return itertools.islice(itertools.chain.from_iterable(each), first, None)

    def weights_of(self, edges: list[list[int]], orders: Mapping[int, Indices | None]) -> list[np.ndarray]:
        """Return the total weights of all shards between their edges, whose own shards take their rows in `orders`."""
        if not self.weighted:
            return [np.diff(np.asarray(own)).astype(np.float64) for own in edges]
        tree, counts = self.tree, [len(own) - 1 for own in edges]
        mine = [
            self.feeds[s].weights_between(orders[s], np.asarray(edges[s])) if s in self.feeds else np.zeros(counts[s])
            for s in tree.own
        ]
        every = tree.gather(np.concatenate([*mine, np.zeros(0)]), [sum(counts[s] for s in own) for own in tree.ranks])
        return np.split(every, np.cumsum(counts)[:-1])


class OwnRows:
    """Rows of shards that each process reads by itself: every step takes a share of each shard."""

    def __init__(self, feeds: ShardFeeds, batch_size: int, seed: int, epoch: int, *, shuffle: bool) -> None:
        self._feeds = feeds
        self._orders: dict[int, Any] = {
            s: shard_order(feeds.lengths[s], s, seed, epoch) if shuffle else None for s in feeds.feeds
        }
        self._edges = shard_steps(feeds.lengths, batch_size)
        self.weights = np.stack(feeds.weights_of(self._edges, self._orders), axis=-1)

    def steps(self, first: int) -> Iterator[list[Portion]]:
        """Yield the portions of each step from number `first` on."""
        starts = np.concatenate([[0], np.cumsum(self._feeds.lengths)]).tolist()
        streams = {}
        for s, feed in self._feeds.feeds.items():
            order, backend = self._orders[s], feed.backend
            rows = starts[s] + (np.arange(len(feed)) if order is None else order)
            numbers = backend.asarray(rows.astype(np.int32), dtype=backend.xp.int32)
            streams[s] = feed.cut(order, self._edges[s][first:]), numbers
        for step in range(first, len(self.weights)):
            found = []
            for s, (batches, numbers) in streams.items():
                a, b = self._edges[s][step : step + 2]
                x, y, weight = next(batches, (None, None, None))
                if b > a:
                    found.append(Portion(s, x, y, weight, numbers[a:b]))
            yield found


class Slices(NamedTuple):
    """Slices of rows to evaluate, in an order that is the same on all processes."""

    weights: np.ndarray  #: of all slices
    counts: list[int]  #: how many slices each process evaluates, one after the other
    batches: Iterator[Batch]  #: those of this process


def slices_of(feed: Feed | ShardFeeds, size: int, tree: Tree | None) -> Slices:
    """Return the slices of `size` rows of some rows, and which of them are this process's."""
    if isinstance(feed, ShardFeeds):
        edges = [[*range(0, n, size), n] for n in feed.lengths]
        totals = feed.weights_of(edges, dict.fromkeys(feed.feeds))
        counts = [sum(len(totals[s]) for s in own) for own in feed.tree.ranks]
        return Slices(np.concatenate(totals), counts, feed.batches(None, size))
    weights = feed.batch_weights(None, size)
    if tree is None or tree.group.size == 1:
        return Slices(weights, [len(weights)], feed.batches(None, size))
    parts = ranges(len(weights), tree.group.size)
    own = parts[tree.group.rank]
    batches = itertools.islice(feed.batches(None, size, own.start), len(own)) if own else iter(())
    return Slices(weights, [len(part) for part in parts], batches)


def shard_slices(feed: Feed | ShardFeeds, size: int, tree: Tree) -> tuple[list[list[int]], list[np.ndarray]]:
    """Return where the rows of each shard are cut into slices of at most `size`, and the total weights of these.

    Of one feed, shards are parts as equal as can be, whose edges count all rows; the edges of a shard of one's own
    begin with 0.  Processes talk to each other here.
    """
    if isinstance(feed, ShardFeeds):
        edges = [[*range(0, n, size), n] for n in feed.lengths]
        return edges, feed.weights_of(edges, dict.fromkeys(feed.feeds))
    edges = [[*range(own.start, own.stop, size), own.stop] for own in ranges(len(feed), tree.shards)]
    return edges, [feed.weights_between(None, np.asarray(own)) for own in edges]
