"""Work in processes of their own: the same results, errors as they are, and a process that is lost is told."""

from __future__ import annotations

import os
import signal
import sys

import joblib
import pytest

from xpnn.errors import OptionError, ProcessError
from xpnn.jobs import over_jobs, read_jobs


def half(n):
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def die(n):
    if n:
        os.kill(os.getpid(), signal.SIGKILL)
    return n


@pytest.mark.parametrize("jobs", [1, 2])
def test_each_result_comes_with_its_place(jobs):
    assert sorted(over_jobs(half, [(8,), (2,), (6,)], jobs, "here")) == [(0, 4), (1, 1), (2, 3)]


def test_one_process_calls_a_task_when_it_is_asked_for():
    called = []
    found = over_jobs(called.append, [(1,), (2,)], 1, "here")
    next(found)
    assert called == [1]


@pytest.mark.parametrize("jobs", [1, 2])
def test_errors_come_as_they_are(jobs):
    with pytest.raises(ValueError, match="3 is odd"):
        list(over_jobs(half, [(2,), (3,)], jobs, "here"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_killed_process_is_told():
    told = r"^here: expected every process to finish its part, got one that ended by itself: it was killed, or ran out"
    with pytest.raises(ProcessError, match=told):
        list(over_jobs(die, [(0,), (1,)], 2, "here"))


def test_none_is_what_joblib_is_told():
    assert read_jobs(None, "here") == 1
    with joblib.parallel_config("threading", n_jobs=3):
        assert read_jobs(None, "here") == 3
        assert read_jobs(2, "here") == 2
    assert read_jobs(-1, "here") == -1


@pytest.mark.parametrize("n_jobs", [0, 1.5, True, "two"])
def test_other_numbers_are_refused(n_jobs):
    with pytest.raises(OptionError, match=r"^here: expected n_jobs to be a number of processes, -1 for all cores"):
        read_jobs(n_jobs, "here")
