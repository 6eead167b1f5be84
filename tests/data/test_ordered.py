"""Pieces of a stream by several threads: kept in order, few at once, and over where one fails."""

from __future__ import annotations

import threading
import time

import pytest

from xpnn.accel import workers
from xpnn.data import ordered
from xpnn.data.ordered import in_order


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    together = workers.together
    monkeypatch.setattr(ordered, "worker_count", lambda: request.param)
    monkeypatch.setattr(ordered, "together", lambda run, count: together(run, count, request.param))
    return request.param


def test_results_are_kept_in_order_and_few_are_under_way(threads):
    pieces, kept, most, lock = iter(range(60)), [], [0, 0], threading.Lock()

    def take(own):
        piece = next(pieces, None)
        if piece is not None:
            with lock:
                most[0] += 1
                most[1] = max(most)
        return piece

    def work(own, piece):
        time.sleep(1e-3 * (piece % 3))
        return piece

    def keep(piece):
        with lock:
            most[0] -= 1
        kept.append(piece)

    in_order(list, take, work, keep)
    assert kept == list(range(60))
    assert most[1] <= threads


@pytest.mark.parametrize("where", ["take", "work", "keep"])
def test_what_fails_ends_all(threads, where):
    pieces, kept = iter(range(1000)), []

    def fail(name, piece):
        if name == where and piece == 20:
            raise ValueError(f"in {name}")
        return piece

    with pytest.raises(ValueError, match=f"in {where}"):
        in_order(
            list,
            lambda own: fail("take", next(pieces, None)),
            lambda own, piece: fail("work", piece),
            lambda piece: kept.append(fail("keep", piece)),
        )
    assert kept == list(range(20))
    assert next(pieces) < 21 + threads
