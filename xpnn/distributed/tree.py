"""One fixed binary tree over the shards: the same sums, to the bit, whoever computes them.

The tree over shards ``[a, b)`` has the halves ``[a, m)`` and ``[m, b)`` with ``m = (a + b) // 2``; the sum of a node is
always *left + right*.  A process has a range of shards, that is some whole subtrees of it; it adds those up by itself,
and only what lies above is added after bytes have travelled.  So nothing depends on the number of processes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

import numpy as np

from .._typing import Array, Namespace
from ..errors import OptionError
from .group import Group

__all__ = ["Node", "Tree", "cuts", "ranges", "subtrees"]

#: A subtree, by the range of its shards.
Node: TypeAlias = tuple[int, int]

# Numbers up to which all nodes are sent to everybody: one message instead of several.
_SHORT = 1 << 16


def cuts(n: int, parts: int) -> list[int]:
    """Return where `n` things are cut into parts as equal as can be: parts + 1 edges.

    Examples
    --------
    >>> cuts(5, 4)
    [0, 1, 2, 3, 5]
    """
    return [n * k // parts for k in range(parts + 1)]


def ranges(n: int, parts: int) -> list[range]:
    """Return the parts into which `n` things are cut, as equal as can be.

    Examples
    --------
    >>> ranges(5, 2)
    [range(0, 2), range(2, 5)]
    """
    return [range(a, b) for a, b in itertools.pairwise(cuts(n, parts))]


def subtrees(low: int, high: int, a: int, b: int) -> list[Node]:
    """Return the fewest subtrees of the tree over ``[a, b)`` that make up ``[low, high)``, from left to right.

    Examples
    --------
    >>> subtrees(1, 4, 0, 4)
    [(1, 2), (2, 4)]
    """
    if low >= high:
        return []
    if (low, high) == (a, b):
        return [(a, b)]
    m = (a + b) // 2
    return subtrees(low, min(high, m), a, m) + subtrees(max(low, m), high, m, b)


def _combined(have: dict[Node, Array], a: int, b: int) -> Array:
    """Return the sum of the node ``[a, b)`` of nodes that together make it up; left parts are written over."""
    if (a, b) in have:
        return have[a, b]
    m = (a + b) // 2
    left = _combined(have, a, m)
    left += _combined(have, m, b)
    return left


class Tree:
    """Sums over shards, of one length each time, on all processes of a group.

    Parameters
    ----------
    shards : int
        How many leaves the tree has: at least as many as there are processes.
    group : Group
        The processes.

    Attributes
    ----------
    ranks : list of range
        The shards of each process.
    own : range
        Those of this one.

    Raises
    ------
    OptionError
        If there are more processes than shards.

    Examples
    --------
    >>> from xpnn.distributed import Alone
    >>> tree = Tree(4, Alone())
    >>> tree.sum(np, lambda shard: np.full(2, float(shard)))
    array([6., 6.])
    """

    def __init__(self, shards: int, group: Group) -> None:
        if shards < group.size:
            raise OptionError(
                f"fit: expected at least as many shards as processes, got shards={shards} for {group.size} processes. "
                f"Try shards={1 << (group.size - 1).bit_length()}: results depend on it, and not on the processes."
            )
        self.shards, self.group = shards, group
        self.ranks = ranges(shards, group.size)
        self.own = self.ranks[group.rank]
        self._nodes = [subtrees(own.start, own.stop, 0, shards) for own in self.ranks]
        self._most = max(map(len, self._nodes))
        # Whether the tree above the processes is that of recursive halving: a node each, halves of halves.
        self._halves = self._most == 1 and _is_balanced([first for ((first, _),) in self._nodes], 0, shards)
        self._kept: dict[tuple[str, int, str], Array] = {}  # memory for what comes, the same in each step

    def sum(self, xp: Namespace, leaf: Callable[[int], Array], free: Callable[[Array], None] | None = None) -> Array:
        """Return the sum of all shards' vectors, of shape (n,) and the same on all processes.

        `leaf` is called with the number of each of this process's shards, in ascending order, and returns a vector that
        may be written over; at most some log2(shards) of them are held at a time.  `free` is given those done with.
        """
        mine = self.nodes(leaf, free)
        if self.group.size == 1:
            return mine[0]
        total = self.exchange(xp, mine)
        if free is not None:
            for vector in mine:
                if vector is not total:
                    free(vector)
        return total

    def nodes(self, leaf: Callable[[int], Array], free: Callable[[Array], None] | None = None) -> list[Array]:
        """Return the sums of this process's subtrees, from left to right; see `sum`."""

        def total(a: int, b: int) -> Array:
            if b - a == 1:
                return leaf(a)
            m = (a + b) // 2
            left = total(a, m)
            right = total(m, b)
            left += right
            if free is not None:
                free(right)
            return left

        return [total(*node) for node in self._nodes[self.group.rank]]

    def exchange(self, xp: Namespace, mine: list[Array]) -> Array:
        """Return the sum of all processes' nodes, in the first of `mine`, the sums of this process's.

        The others of `mine` may be written over.
        """
        n, size = mine[0].shape[0], self.group.size
        if n * self._most * size <= _SHORT:
            total = self._gathered(xp, mine)
        elif size == 2:
            total = self._swapped(xp, mine[0])
        else:
            total = self._halved(xp, mine[0]) if self._halves else self._in_segments(xp, mine)
        if total is not mine[0]:
            mine[0][...] = total
        return mine[0]

    def _space(self, xp: Namespace, name: str, like: Array, n: int) -> Array:
        """Return an array of `n` numbers to be filled, the one of the last call where it is like it."""
        key = name, n, str(like.dtype)
        if key not in self._kept:
            self._kept[key] = xp.empty((n,), dtype=like.dtype, device=like.device)
        return self._kept[key]

    def _gathered(self, xp: Namespace, mine: list[Array]) -> Array:
        """Send all nodes to everybody, who adds them up."""
        n, group = mine[0].shape[0], self.group
        padded = self._space(xp, "sent", mine[0], self._most * n)
        for k, vector in enumerate(mine):
            padded[k * n : (k + 1) * n] = vector
        padded[len(mine) * n :] = 0.0
        every = xp.reshape(self._space(xp, "came", mine[0], group.size * self._most * n), (group.size, -1))
        group.allgather(padded, every)
        have = {
            node: every[rank, k * n : (k + 1) * n]
            for rank, nodes in enumerate(self._nodes)
            for k, node in enumerate(nodes)
        }
        return _combined(have, 0, self.shards)

    def _swapped(self, xp: Namespace, vector: Array) -> Array:
        """Send a vector to the one other, who has one, too: as many bytes as by halving, in one message."""
        rank, came = self.group.rank, self._space(xp, "came", vector, vector.shape[0])
        self.group.sendrecv(vector, 1 - rank, came, 1 - rank)
        if rank:
            came += vector  # left + right
            return came
        vector += came
        return vector

    def _halved(self, xp: Namespace, vector: Array) -> Array:
        """Add by recursive halving, siblings first, and gather by doubling: 2 log2 P messages, 2n (P-1)/P numbers."""
        group, rank = self.group, self.group.rank
        low, high, distance = 0, vector.shape[0], 1
        spare, edges = self._space(xp, "came", vector, high), []
        while distance < group.size:
            middle, peer, is_left = (low + high) // 2, rank ^ distance, not rank & distance
            mine, theirs = ((low, middle), (middle, high)) if is_left else ((middle, high), (low, middle))
            own, came = vector[slice(*mine)], spare[slice(*mine)]
            group.sendrecv(vector[slice(*theirs)], peer, came, peer)
            if is_left:
                own += came
            else:
                came += own
                own[...] = came
            edges.append((low, high))
            (low, high), distance = mine, distance * 2
        while edges:
            distance //= 2
            first, last = edges.pop()
            theirs = (first, low) if low > first else (high, last)
            group.sendrecv(vector[low:high], rank ^ distance, vector[slice(*theirs)], rank ^ distance)
            low, high = first, last
        return vector

    def _in_segments(self, xp: Namespace, mine: list[Array]) -> Array:
        """Let each process add up a segment of all vectors, and gather the segments."""
        n, group, rank = mine[0].shape[0], self.group, self.group.rank
        width = -(-n // group.size)
        edges = [min(k * width, n) for k in range(group.size + 1)]
        have: dict[Node, Array] = {}
        for step in range(group.size):
            to, source = (rank + step) % group.size, (rank - step) % group.size
            sent = _joined(xp, [vector[edges[to] : edges[to + 1]] for vector in mine])
            nodes, length = self._nodes[source], edges[rank + 1] - edges[rank]
            came = sent
            if step:
                came = self._space(xp, f"came of {step}", mine[0], len(nodes) * length)
                group.sendrecv(sent, to, came, source)
            have |= {node: came[k * length : (k + 1) * length] for k, node in enumerate(nodes)}
        total = self._space(xp, "sum", mine[0], width)
        total[: edges[rank + 1] - edges[rank]] = _combined(have, 0, self.shards)
        total[edges[rank + 1] - edges[rank] :] = 0.0
        every = xp.reshape(self._space(xp, "sums", mine[0], group.size * width), (group.size, width))
        group.allgather(total, every)
        return xp.reshape(every, (-1,))[:n]

    def gather(self, rows: np.ndarray, counts: Iterable[int]) -> np.ndarray:
        """Return rows of the host of all processes, one after the other; each has `counts[rank]` of them.

        The rows' numbers are not added up: it does not matter who computed them.
        """
        counts, group = list(counts), self.group
        if group.size == 1:
            return rows
        width, most = math.prod(rows.shape[1:]), max(counts)
        padded = np.zeros(most * width, rows.dtype)
        padded[: rows.size] = rows.reshape(-1)
        every = np.zeros((group.size, most * width), rows.dtype)
        group.allgather_host(padded, every)
        parts = [every[k, : counts[k] * width].reshape(-1, *rows.shape[1:]) for k in range(group.size)]
        return np.concatenate(parts)


def _is_balanced(starts: list[int], a: int, b: int) -> bool:
    """Whether nodes that begin at `starts` are the tree's, halves of halves down to one each."""
    if len(starts) == 1:
        return starts == [a]
    m, half = (a + b) // 2, len(starts) // 2
    if len(starts) % 2 or not starts[half - 1] < m <= starts[half]:
        return False
    return _is_balanced(starts[:half], a, m) and _is_balanced(starts[half:], m, b)


def _joined(xp: Namespace, parts: list[Array]) -> Array:
    return parts[0] if len(parts) == 1 else xp.concat(parts)
