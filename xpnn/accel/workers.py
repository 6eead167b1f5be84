"""Python threads for NumPy's own passes, which let go of Python's lock.

There are as many as OMP_NUM_THREADS, which limits the matrix products too, or as cores.  The pool is one a process,
made when it is first needed: it is a resource that all share, and decides nothing.
"""

from __future__ import annotations

import contextvars
import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

__all__ = ["forget", "share", "worker_count"]

_pool: ThreadPoolExecutor | None = None


def worker_count() -> int:
    """Return how many threads work at once, this one included."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    try:
        return max(min(int(os.environ["OMP_NUM_THREADS"]), cores), 1)
    except (KeyError, ValueError):
        return cores


def forget() -> None:
    """Make new threads when they are next needed: a forked child has the pool, but not its threads."""
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget)


def share(run: Callable[[int, int], None], n: int) -> None:
    """Call ``run(start, stop)`` over 0..n, in as many equal parts as there are threads."""
    global _pool
    threads = worker_count()
    if threads == 1:
        run(0, n)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="xpnn")
    edges = [n * k // threads for k in range(threads + 1)]
    # Each thread works under this one's settings: numpy.errstate is one of them.
    others = [_pool.submit(contextvars.copy_context().run, run, a, b) for a, b in itertools.pairwise(edges[1:])]
    try:
        run(edges[0], edges[1])
    finally:  # nobody writes any more when this returns
        wait(others)
    for other in others:
        other.result()
