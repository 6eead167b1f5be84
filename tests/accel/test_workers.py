"""The threads of NumPy's own passes: how many, and what they share."""

from __future__ import annotations

import threading
import time

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


def test_each_part_is_done_once_by_whoever_comes(monkeypatch):
    monkeypatch.setattr(workers, "worker_count", lambda: 4)
    monkeypatch.setattr(workers, "allowed_threads", lambda: 4)
    workers.forget()
    for count in (0, 1, 2, 5, 40):
        done = []
        workers.together(done.append, count)
        assert sorted(done) == list(range(count))
    workers.forget()


def test_what_the_user_lets_products_have_is_not_exceeded(monkeypatch):
    monkeypatch.setattr(workers, "worker_count", lambda: 4)
    monkeypatch.setattr(workers, "allowed_threads", lambda: 1)
    who = set()
    workers.together(lambda part: (who.add(threading.get_ident()), time.sleep(0.001)), 8)
    assert who == {threading.get_ident()}


def test_a_thread_that_keeps_the_caller_waiting_is_left_out():
    own, others = threading.get_ident(), []

    def part(number):
        if threading.get_ident() == own:
            time.sleep(0.002)
        else:
            others.append(number)
            time.sleep(0.05)

    workers.forget()
    workers.together(part, 4, 2)
    for _ in range(100):
        if others:
            break
        workers.together(part, 4, 2)
    assert workers._pool._out_for > 0
    others.clear()
    workers._pool._out_until = time.perf_counter() + 60
    workers.together(part, 4, 2)
    assert others == []
    workers.forget()


def test_when_the_caller_is_interrupted_nobody_works_any_more():
    own, running = threading.get_ident(), []

    def part(number):
        if threading.get_ident() == own:
            while not running:
                time.sleep(0.001)
            raise KeyboardInterrupt
        running.append(number)
        time.sleep(0.02)
        running.append("over")

    workers.forget()
    with pytest.raises(KeyboardInterrupt):
        workers.together(part, 40, 2)
    assert running[-1] == "over"
    assert len(running) < 10, "and nothing new is begun"
    workers.forget()
