"""Threads of compiled loops: each part done once, whoever comes; nobody waits long; they end cleanly."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

JOB = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
RUN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)


@pytest.fixture
def module(pool):
    return importlib.import_module("xpnn.accel.native.pool")


@pytest.fixture
def job(pool, module):
    """Runs a Python function for each part 0..n-1 on the pool's threads, which may have to wait for Python's lock."""

    def run(part, n):
        numbers = np.arange(n, dtype=np.int64)
        function = JOB(lambda at: part(ctypes.c_int64.from_address(at).value))
        RUN(pool[0])(n, ctypes.cast(function, ctypes.c_void_p), numbers.ctypes.data, 8)

    module._number(module._OUT_UNTIL).value = module._number(module._OUT_FOR).value = 0
    yield run
    module._number(module._OUT_UNTIL).value = module._number(module._OUT_FOR).value = 0


def test_it_tells_when_other_code_changes(module):
    """numba would go on with what it compiled before."""
    folder = Path(module.__file__).parent
    found = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8] for name in module._COMPILED}
    assert found == module._COMPILED
    assert set(found) == {"atomics.py", "places.py"}


@pytest.mark.parametrize("n", [0, 1, 2, 3, 64])
def test_each_part_is_done_once(job, n):
    for _ in range(50):
        done = []
        job(done.append, n)
        assert sorted(done) == list(range(n))


def test_several_callers_at_once_do_without(job):
    wrong = []

    def work():
        for _ in range(50):
            done = []
            job(done.append, 8)
            wrong.extend([] if sorted(done) == list(range(8)) else [done])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []


def test_a_thread_takes_part_and_one_that_is_late_is_left_out(job, module):
    """Python's lock is let go by sleeping: the other thread comes, and then takes its time."""
    own, others = threading.get_ident(), []

    def part(number, late=0.0):
        if threading.get_ident() == own:
            time.sleep(0.002)
        else:
            others.append(number)
            time.sleep(late)

    def until(late, met):
        end = time.monotonic() + 20
        while not met() and time.monotonic() < end:
            job(lambda number: part(number, late), 4)
        return met()

    assert until(0.0, lambda: others)
    times = module._number(module._TIMES)
    before = times.value
    assert until(0.02, lambda: times.value > before)
    assert module._number(module._OUT_FOR).value >= module._OUT
    others.clear()
    module._number(module._OUT_UNTIL).value = 1 << 62
    job(part, 4)
    assert others == [], "left out"


def test_a_thread_looks_for_work_little_longer_than_there_was_none(module):
    """Where it comes soon, or late, a thread does not look until the last moment before it sleeps."""
    looks = module._IDLE
    for _ in range(2000):
        for away in (1_000, 16_000, 500, 4_000):  # in a step
            looks = module.patience(looks, away)
    assert 16_000 < looks < 24_000
    for _ in range(4):
        looks = module.patience(looks, 4_000_000)  # the caller lost its core now and then
    assert looks > 16_000
    for _ in range(200):
        looks = module.patience(looks, 300_000)  # work that is rare
    assert looks < 100, "sleeps at once"
    assert module.patience(looks, 30_000) > 30_000, "until it is not"
    assert module.patience(looks, 49_000) == module._IDLE
    assert module.patience(0, -100) >= 0


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores of Linux")
def test_cores_are_lent_and_nobody_else_is_moved(job, module):
    """The caller sleeps while the other has a part: that one may work on its core, then on all others."""
    own, before = threading.get_ident(), os.sched_getaffinity(0)
    lent, end = [], time.monotonic() + 20

    def part(number):
        time.sleep(0.002)
        if threading.get_ident() != own:
            time.sleep(0.02)
            lent.append(os.sched_getaffinity(0))

    while not lent and time.monotonic() < end:
        job(part, 4)
    assert lent
    assert len(lent[0]) == 1 if len(before) > 1 else lent[0] == before
    assert os.sched_getaffinity(0) == before
    left = os.sched_getaffinity(module._threads[0].native_id)
    assert left == before - lent[0] or len(before) == 1


def test_a_limit_keeps_threads_from_parts(job):
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    who = set()
    with limits(1, user_api="blas"):
        for _ in range(20):
            job(lambda number: (who.add(threading.get_ident()), time.sleep(0.0005)), 4)
    assert who == {threading.get_ident()}


def test_work_that_is_kept_to_some_threads_gets_no_more(module):
    """Of four threads two, whoever comes; Python's lock is let go by sleeping."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    who = []

    def part(at):
        who.append(threading.get_ident())
        time.sleep(0.002)

    function, numbers = JOB(part), np.arange(12, dtype=np.int64)
    with limits(4, user_api="blas"):
        module.make_pool(4)
        run, count = module.limited(2)
        assert ctypes.CFUNCTYPE(ctypes.c_int)(count)() == 2
        end = time.monotonic() + 20
        while len(set(who)) < 2 and time.monotonic() < end:
            who.clear()
            module._number(module._OUT_UNTIL).value = 0
            RUN(run)(12, ctypes.cast(function, ctypes.c_void_p), numbers.ctypes.data, 8)
            assert len(who) == 12
            assert len(set(who)) <= 2
    assert len(set(who)) == 2
    with limits(1, user_api="blas"):
        assert ctypes.CFUNCTYPE(ctypes.c_int)(count)() == 1, "the user's limit holds, too"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_no_threads_until_it_asks(job, module, pool):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            done = []
            job(done.append, 4)
            alone = module._number(module._WORKERS).value == 0 and done == [0, 1, 2, 3]
            again = module.make_pool(2) == pool and module._number(module._WORKERS).value == 1
            done.clear()
            job(done.append, 4)
            status = int(not (alone and again and sorted(done) == [0, 1, 2, 3]))
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "raise SystemExit", "os.kill(os.getpid(), signal.SIGINT)"])
def test_a_process_ends_cleanly_with_threads_that_look_for_work(pool, end):
    code = f"""
import os, signal, sys, threading
from xpnn.accel.native import pool
pool.make_pool(3)
assert [t.name for t in threading.enumerate()][1:] == ["xpnn-1", "xpnn-2"]
try:
    {end or "pass"}
except KeyboardInterrupt:
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
