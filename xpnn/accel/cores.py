"""How many threads a process may keep busy: its cores, the quota of its container, and what its user says."""

from __future__ import annotations

import functools
import os
import threading
import time
from pathlib import Path

from ..errors import OptionError

__all__ = [
    "THREADS",
    "VARIABLES",
    "busy_elsewhere",
    "cgroup_quota",
    "core_count",
    "keep_to",
    "kept_to",
    "load_sentence",
    "thread_limit",
    "threads_by_environment",
]

#: What limits the threads of matrix products, and of xpnn's own.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: The environment variable that says on how many threads xpnn computes, and keeps it from measuring.
THREADS = "XPNN_THREADS"


def thread_limit() -> int:
    """Return how many threads may work at once: as many as there are cores, unless the user or a fit says fewer."""
    given = [os.environ.get(name, "") for name in VARIABLES]
    limits = [int(n) for n in given if n.isdecimal() and int(n) > 0]
    own = [n for n in (threads_by_environment(), kept_to()) if n is not None]
    return max(min([core_count(), *limits, *own]), 1)


def threads_by_environment() -> int | None:
    """Return what ``XPNN_THREADS`` says; None where it is not set, or auto: then a fit measures how many are best."""
    value = os.environ.get(THREADS) or "auto"
    if value != "auto" and not (value.isdecimal() and int(value) > 0):
        raise OptionError(
            f"{THREADS}: expected auto or a number of threads from 1 on in the environment, got {value!r}. "
            "Set it to one of them."
        )
    return None if value == "auto" else int(value)


class _Own(threading.local):
    """What a thread that calls says for the work that it asks for."""

    most: int | None = None


_own = _Own()


def keep_to(most: int | None) -> int | None:
    """Let the work that this thread asks for be shared by so many threads at most; return what held before."""
    before, _own.most = _own.most, most
    return before


def kept_to() -> int | None:
    """Return to how many threads the work of this one is kept; None where it may have all."""
    return _own.most


def core_count() -> int:
    """Return the number of cores that this process may use, whole ones, at least one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    quota = cgroup_quota()
    return cores if quota is None else max(min(cores, int(quota)), 1)


@functools.cache
def cgroup_quota(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float | None:
    """Return how many cores' time Linux gives to the control groups of this process, or None if it sets no limit.

    Read once, from ``cpu.max`` (version 2) or ``cpu.cfs_quota_us`` (version 1) of each group and those above it.
    """
    found: list[float] = []
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = (root / "cpu" if controllers else root) / path.lstrip("/")
        while group.is_relative_to(root):
            found += _limit(group)
            group = group.parent
    return min(found, default=None)


def _limit(group: Path) -> list[float]:
    """Return the quota of one control group by its period, if it has one."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota, period = (
                (group / f"cpu.cfs_{name}_us").read_text(encoding="ascii").strip() for name in ("quota", "period")
            )
        return [int(quota) / int(period)] if quota.isdecimal() and int(period) > 0 else []  # others: max, or -1
    except (OSError, ValueError):
        return []


# -- who else is there -------------------------------------------------------------------------------------------
# Of the first line of /proc/stat: user, nice, system, interrupts of both kinds, and what other machines took.
_WORKING = (0, 1, 2, 5, 6, 7)
# Cores from which on others disturb.
_DISTURBING = 0.2


def busy_elsewhere(seconds: float = 0.2, stat: Path = Path("/proc/stat")) -> float | None:
    """Look for some time how many cores other processes keep busy; None where Linux does not tell."""
    try:
        before, began = _worked(stat), time.perf_counter()
        time.sleep(seconds)
        worked, took = _worked(stat) - before, time.perf_counter() - began
    except (OSError, ValueError, IndexError):
        return None
    return max(worked / took, 0.0)


def _worked(stat: Path) -> float:
    """Return the seconds that all cores have worked for others than this process."""
    line = stat.read_text(encoding="ascii").splitlines()[0].split()
    if line[0] != "cpu":
        raise ValueError("not as Linux writes it")
    ticks = [int(number) for number in line[1:]]
    return sum(ticks[k] for k in _WORKING) / os.sysconf("SC_CLK_TCK") - time.process_time()


def load_sentence(busy: float | None) -> str:
    """Say how many cores others keep busy, if that disturbs measurements; else nothing."""
    if busy is None or busy < _DISTURBING:
        return ""
    return (
        f"this machine is busy: other processes keep {busy:.1f} of {os.cpu_count()} cores at work. "
        "Times measured now are longer than on a quiet machine."
    )
