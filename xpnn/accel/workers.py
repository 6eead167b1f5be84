"""Python threads for NumPy's own passes and products, which let go of Python's lock.

There are as many as the process has cores and its user allows (`xpnn.accel.cores`).  They are a process's, made when
they are first needed: a resource that all share, and that decides nothing.

A job is divided into parts, and whoever is free takes the next: the caller, too.  Nobody waits for a thread that does
not come; and where the caller waited long for a part that one had begun, because others need the cores, it leaves the
threads out for a while, longer each time.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable

from .cores import thread_limit
from .native.turns import Fork, allowed_threads, at_fork

__all__ = ["forget", "share", "together", "worker_count"]

# Seconds: how much longer than a part of its own the caller may have to wait, and for how long it then works alone.
_LATE = 4e-4
_OUT, _OUT_MOST = 5e-3, 0.2
_LOOK = 5e-5  # seconds between two looks after Ctrl-C


class _Job:
    """Parts of some work, each done once; the caller's own need no counting, for it knows when they are over."""

    def __init__(self, run: Callable[[int], None], count: int) -> None:
        self._run, self._count = run, count
        self._next, self._begun = 0, 0  # the next part, and parts that threads have begun
        self._lock, self._over = threading.Lock(), threading.Lock()
        self._over.acquire()
        self.error: BaseException | None = None

    def _claim(self, begun: int) -> int | None:
        with self._lock:
            if self._next == self._count:
                return None
            self._next += 1
            self._begun += begun
            return self._next - 1

    def help(self) -> None:
        """Do parts, on a thread."""
        while (part := self._claim(1)) is not None:
            try:
                self._run(part)
            except BaseException as error:
                self.error = error
            with self._lock:
                self._begun -= 1
                if self._begun == 0 and self._count < 0:
                    self._over.release()

    def work(self) -> float:
        """Do parts, as the caller; return how long one took, the longest."""
        longest, began = 0.0, time.perf_counter()
        while (part := self._claim(0)) is not None:
            self._run(part)
            ended = time.perf_counter()
            longest, began = max(longest, ended - began), ended
        return longest

    def end(self) -> None:
        """Give out no more parts, and wait for those that threads have begun."""
        with self._lock:
            self._next = self._count = -1
            waiting = self._begun > 0
        if waiting:
            try:
                self._over.acquire()
            except BaseException:  # Ctrl-C: nobody may write to arrays any more when this has been raised
                while self._begun:  # not the lock, which may just have been had
                    time.sleep(_LOOK)
                raise


class _Pool:
    """Threads, and when they may next be asked."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[contextvars.Context, _Job]] = queue.SimpleQueue()
        self._threads = 0
        self._taken = threading.Lock()  # one caller at a time has the threads
        self._out_until = self._out_for = 0.0

    def _serve(self) -> None:
        while True:
            context, job = self._jobs.get()
            context.run(job.help)
            del context, job  # arrays do not stay alive while nothing is to be done

    def run(self, job: _Job, helpers: int) -> None:
        """Do a job, with so many threads if they are free and come."""
        if time.perf_counter() < self._out_until or not self._taken.acquire(blocking=False):
            job.work()
            return
        try:
            while self._threads < helpers:
                self._threads += 1
                threading.Thread(target=self._serve, name=f"xpnn-numpy-{self._threads}", daemon=True).start()
            for _ in range(helpers):  # each works under this one's settings: numpy.errstate is one of them
                self._jobs.put((contextvars.copy_context(), job))
            self._judge(job)
        finally:
            self._taken.release()

    def _judge(self, job: _Job) -> None:
        """Work with the threads, and find out whether they kept the caller waiting."""
        longest = began = 0.0
        try:
            longest = job.work()
            began = time.perf_counter()
        finally:
            job.end()
        if time.perf_counter() - began > longest + _LATE:
            self._out_for = min(max(2 * self._out_for, _OUT), _OUT_MOST)
            self._out_until = time.perf_counter() + self._out_for
        else:
            self._out_for -= self._out_for / 64


_pool: _Pool | None = None


def worker_count() -> int:
    """Return how many threads work at once, this one included."""
    return thread_limit()


def forget() -> None:
    """Make new threads when they are next needed: a forked child has the pool, but not its threads."""
    global _pool
    _pool = None


at_fork(Fork(in_child=forget))


def together(run: Callable[[int], None], count: int, threads: int | None = None) -> None:
    """Call ``run(part)`` for each part 0..count-1, on as many threads as products may have."""
    global _pool
    threads = threads or min(allowed_threads(), worker_count())
    if min(threads, count) < 2:
        for part in range(count):
            run(part)
        return
    if _pool is None:
        _pool = _Pool()
    job = _Job(run, count)
    _pool.run(job, min(threads, count) - 1)
    if job.error is not None:
        raise job.error


def share(run: Callable[[int, int], None], n: int) -> None:
    """Call ``run(start, stop)`` over 0..n, in as many equal parts as there are threads."""
    threads = worker_count()
    edges = [n * k // threads for k in range(threads + 1)]
    together(lambda part: run(edges[part], edges[part + 1]), threads, threads)
