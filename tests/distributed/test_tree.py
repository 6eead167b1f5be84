"""One tree over the shards: the same bits whoever computes them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from thread_group import ThreadGroup, World, agreed

from xpnn.distributed import Alone, Tree, tree
from xpnn.errors import OptionError


def leaves(shards, n):
    """Vectors whose sum depends on its order."""
    rng = np.random.default_rng(shards * 1000 + n)
    return [(rng.normal(size=n) * 10.0 ** rng.integers(-3, 4, size=n)).astype(np.float32) for _ in range(shards)]


def definition(vectors):
    """left + right, with halves of halves."""
    if len(vectors) == 1:
        return vectors[0]
    m = len(vectors) // 2
    return definition(vectors[:m]) + definition(vectors[m:])


@settings(max_examples=25, deadline=None)
@given(
    processes=st.integers(1, 9),
    more=st.integers(0, 9),
    n=st.sampled_from([1, 2, 7, 64, 1000]),
    short=st.sampled_from([0, 1 << 16]),
)
def test_any_number_of_processes_gives_the_bits_of_the_tree(processes, more, n, short):
    """By all three ways: everything to everybody, recursive halving, segments."""
    shards = processes + more
    vectors = leaves(shards, n)
    before, tree._SHORT = tree._SHORT, short
    try:
        found = agreed(processes, lambda group: Tree(shards, group).sum(np, lambda s: vectors[s].copy()).tobytes())
    finally:
        tree._SHORT = before
    assert found == definition(vectors).tobytes()


def test_another_order_gives_other_bits():
    """So the tests above see an order at all."""
    vectors = leaves(16, 1000)
    assert not np.array_equal(definition(vectors), sum(vectors))


@pytest.mark.parametrize(("shards", "size", "halves"), [(16, 4, True), (7, 4, True), (16, 3, False), (5, 5, False)])
def test_halving_is_used_where_every_process_has_one_subtree(shards, size, halves):
    assert all(Tree(shards, ThreadGroup(rank, World(size)))._halves is halves for rank in range(size))


def test_what_is_done_with_is_given_back():
    spare = []
    made = []

    def leaf(shard):
        made.append(spare.pop() if spare else np.empty(3, np.float32))
        made[-1][...] = shard
        return made[-1]

    total = Tree(64, Alone()).sum(np, leaf, spare.append)
    assert total.tolist() == [2016.0] * 3
    assert len({id(vector) for vector in made}) <= 8


def test_fewer_shards_than_processes_are_refused():
    with pytest.raises(OptionError, match=r"expected at least as many shards as processes, got shards=3 for 5"):
        Tree(3, ThreadGroup(0, World(5)))


@pytest.mark.parametrize("counts", [[2, 0, 3], [0, 0, 1], [1, 1, 1]])
def test_rows_are_gathered_in_the_order_of_ranks(counts):
    rows = np.arange(2.0 * sum(counts)).reshape(-1, 2)
    edges = np.cumsum([0, *counts])

    def work(group):
        mine = rows[edges[group.rank] : edges[group.rank + 1]]
        return Tree(8, group).gather(mine, counts).tolist()

    assert agreed(3, work) == rows.tolist()


def test_values_are_shared():
    def work(group):
        assert group.broadcast(["a", group.rank], root=1) == ["a", 1]
        group.barrier()
        return group.share({"rank": group.rank, "text": "é" * group.rank})

    assert agreed(3, work) == [{"rank": rank, "text": "é" * rank} for rank in range(3)]
    assert Alone().share(None) == [None]
    assert repr(ThreadGroup(1, World(2))) == "ThreadGroup(rank=1, size=2)"


def test_a_group_alone_copies():
    group, out = Alone(), np.zeros(2)
    group.sendrecv(np.ones(2), 0, out, 0)
    every = np.zeros((1, 2))
    group.allgather(out, every)
    group.fail("nobody hears it")
    assert every.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(("size", "short"), [(2, 0), (2, 1 << 16), (3, 0), (3, 1 << 16), (4, 0)])
def test_what_comes_lies_in_the_same_memory_each_time(size, short, monkeypatch):
    """The sum is written over the first of a process's own vectors: a step keeps no memory for the next."""
    monkeypatch.setattr(tree, "_SHORT", short)

    def work(group):
        made = Tree(6, group)
        for _ in range(3):
            nodes = made.nodes(lambda shard: np.full(5, float(shard)))
            first, kept = nodes[0], len(made._kept)
            assert made.exchange(np, nodes) is first
            assert first.tolist() == [15.0] * 5
        return kept == len(made._kept)

    assert agreed(size, work)
