"""The threads of NumPy's own passes: how many, and what they share."""

from __future__ import annotations

import threading

import pytest

from xpnn.accel import workers


def test_as_many_threads_as_the_environment_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert workers.worker_count() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert workers.worker_count() >= 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert workers.worker_count() >= 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_all_is_shared_once(monkeypatch, count):
    monkeypatch.setattr(workers, "worker_count", lambda: count)
    workers.forget()
    parts, lock = [], threading.Lock()

    def run(start, stop):
        with lock:
            parts.append((start, stop))

    workers.share(run, 103)
    edges = sorted(parts)
    assert len(edges) == count
    assert [a for a, _ in edges] + [103] == [0] + [b for _, b in edges]
    workers.forget()


def test_an_error_in_a_part_is_raised(monkeypatch):
    monkeypatch.setattr(workers, "worker_count", lambda: 2)
    workers.forget()

    def run(start, stop):
        if start:
            raise ValueError("the second part")

    with pytest.raises(ValueError, match="the second part"):
        workers.share(run, 10)
    workers.forget()
