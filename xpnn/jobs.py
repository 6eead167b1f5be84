"""Work divided among processes by joblib: on this machine, or wherever joblib's backend reaches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from .arguments import is_count
from .errors import OptionError, ProcessError
from .optional import needs

__all__ = ["JOBS", "carried", "in_order", "over_jobs", "read_jobs"]

#: What `n_jobs` may be, for messages.
JOBS = "a number of processes, -1 for all cores, or None"


def read_jobs(n_jobs: Any, where: str) -> int:
    """Return `n_jobs` as joblib takes it; of None what ``joblib.parallel_config`` says, which is 1 without one."""
    if n_jobs is None:
        joblib = sys.modules.get("joblib")
        if joblib is None:
            return 1
        backend, configured = joblib.parallel.get_active_backend()
        # A backend that was chosen without a number has one of its own: all cores, or all workers of a cluster.
        chosen = configured if configured is not None else 1
        return int(backend.effective_n_jobs(chosen)) if chosen != 1 else 1
    if isinstance(n_jobs, bool) or not (is_count(n_jobs) or (isinstance(n_jobs, int) and n_jobs < 0)):
        raise OptionError(f"{where}: expected n_jobs to be {JOBS}, got {n_jobs!r}. Try n_jobs=-1.")
    return int(n_jobs)


def over_jobs(
    function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int, where: str
) -> Iterator[tuple[int, Any]]:
    """Call a function with each tuple of arguments, and yield (place, result) as results come.

    One job is this process: then tasks are called one after the other, each when it is asked for.  More go through
    joblib, to processes on this machine ("loky") or wherever a ``joblib.parallel_config`` says, such as the workers of
    a Dask cluster.  What a task returns must follow from its arguments alone.

    Parameters
    ----------
    function : callable
        Is called in the processes.
    tasks : sequence of tuple
        Arguments of each call.  Large arrays in them are shared through memory maps, which are read-only.
    n_jobs : int
        From `read_jobs`.
    where : str
        Begins messages.

    Raises
    ------
    ProcessError
        If a process ends before its task does, as when it is killed or runs out of memory.  Errors that the function
        raises come as they are.

    Examples
    --------
    >>> list(over_jobs(pow, [(2, 3), (3, 2)], 1, "example"))
    [(0, 8), (1, 9)]
    """
    if n_jobs == 1 or len(tasks) < 2:
        for place, task in enumerate(tasks):
            yield place, function(*task)
        return
    with needs("joblib", where):
        import joblib

    backend, _ = joblib.parallel.get_active_backend()
    unordered = getattr(backend, "supports_return_generator", False)
    parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=1, return_as="generator_unordered" if unordered else "list")
    try:
        yield from parallel(joblib.delayed(_placed)(place, function, *task) for place, task in enumerate(tasks))
    except BaseException as error:
        if _lost(error):
            raise ProcessError(
                f"{where}: expected every process to finish its part, got one that ended by itself: it was killed, or "
                "ran out of memory. Call again with fewer n_jobs."
            ) from error
        raise


def in_order(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int, where: str) -> list[Any]:
    """Return what `over_jobs` comes to, in the order of the tasks.

    Examples
    --------
    >>> in_order(pow, [(2, 3), (3, 2)], 1, "example")
    [8, 9]
    """
    found = dict(over_jobs(function, tasks, n_jobs, where))
    return [found[place] for place in range(len(tasks))]


def carried(thing: Any, where: str) -> bytes:
    """Return a pickle that another process can read, also of functions that stand in a script or a notebook."""
    with needs("joblib", where):
        try:
            import cloudpickle
        except ImportError:  # older ones bring their own
            from joblib.externals import cloudpickle
    content: bytes = cloudpickle.dumps(thing)
    return content


def _placed(place: int, function: Callable[..., Any], *task: Any) -> tuple[int, Any]:
    return place, function(*task)


def _lost(error: BaseException) -> bool:
    """Whether an error says that a process, or a worker of a Dask cluster, is gone."""
    distributed = sys.modules.get("distributed")
    return isinstance(error, BrokenExecutor) or (
        distributed is not None and isinstance(error, distributed.KilledWorker)
    )
