"""Whether the processes of a group will compute the same bits, and how fast they hear of each other."""

from __future__ import annotations

import os
import platform
import sys
import time
from typing import Any, NamedTuple

import numpy as np

from ..accel.native.openblas import openblas_kernel, openblas_version
from .group import Group
from .tree import Tree

__all__ = ["DECISIVE", "GroupReport", "check_group", "own_version"]

#: What changes bits where it differs; the rest changes the time alone.
DECISIVE = ("xpnn", "numpy", "openblas", "kernels", "processor features", "a product", "a sum")
_REPEATS, _LONG = 50, 1 << 20  # numbers of float32: 4 MiB


class GroupReport(NamedTuple):
    """What `check_group` found.

    Attributes
    ----------
    ranks : list of dict
        Host, process, versions, threads and digests of each rank.  Those that are in `DECISIVE` change bits where
        they differ.
    differences : list of str
        What differs from rank 0, a sentence each; those that change bits say so.
    latency : float
        Seconds for a number to the next rank.
    bandwidth : float
        Bytes a second to the next rank, while as many come.
    sum_seconds : float
        Seconds for the sum of a million numbers of each rank.
    """

    ranks: list[dict[str, str]]
    differences: list[str]
    latency: float
    bandwidth: float
    sum_seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing was found that changes bits."""
        return not any(text.endswith("bits change.") for text in self.differences)


def check_group(group: Group) -> GroupReport:
    """Compare what the processes of a group compute with, and measure what travels between them.

    All of them call it, and get the same report.

    Parameters
    ----------
    group : Group
        From `mpi` or `torch`.

    Returns
    -------
    GroupReport
        Also of a single process.

    Examples
    --------
    >>> from xpnn.distributed import Alone
    >>> check_group(Alone()).ok
    True
    """
    ranks = group.share(_facts() | {"library": group.engine_version})
    differences = []
    for rank, found in enumerate(ranks):
        for name, value in ranks[0].items():
            if found[name] != value and name not in ("host", "process"):
                end = "bits change." if name in DECISIVE else "only the time changes."
                differences.append(f"{name} of rank {rank} is {found[name]}, of rank 0 {value}: {end}")
    short, long = np.zeros(1, np.float32), np.zeros(_LONG, np.float32)
    latency, once = _around(group, short, _REPEATS), _around(group, long, 3)
    tree = Tree(max(group.size, 1), group)
    began = time.perf_counter()
    tree.sum(np, lambda shard: np.ones(_LONG, np.float32))
    seconds = time.perf_counter() - began
    measured = group.broadcast([latency, long.nbytes / once, seconds])
    return GroupReport(ranks, differences, *measured)


def own_version() -> str:
    """Return the version of this package."""
    return str(sys.modules["xpnn"].__version__)  # which is no package yet while this module is imported


def _facts() -> dict[str, str]:
    """Return what this process computes with; products and sums by a digest of a few."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(97, 97)).astype(np.float32) for _ in range(2))
    return {
        "host": platform.node(),
        "process": str(os.getpid()),
        "python": platform.python_version(),
        "xpnn": own_version(),
        "numpy": np.__version__,
        "openblas": openblas_version() or "another BLAS",
        "kernels": openblas_kernel() or "not told",
        "processor features": _features(),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or "all",
        "a product": _short(a @ b),
        "a sum": _short(np.exp(a).sum(axis=0)),
    }


def _features() -> str:
    """Return what NumPy uses of this processor."""
    found: Any = np.show_config(mode="dicts")
    return ", ".join(found.get("SIMD Extensions", {}).get("found", [])) or platform.machine()


def _short(array: np.ndarray) -> str:
    """Return a few digits that tell arrays apart by any bit."""
    return f"{int(np.bitwise_xor.reduce(array.view(np.uint32).reshape(-1))):08x}"


def _around(group: Group, mine: np.ndarray, repeats: int) -> float:
    """Return the seconds for an array from each rank to the next."""
    came = np.empty_like(mine)
    group.barrier()
    began = time.perf_counter()
    for _ in range(repeats):
        group.sendrecv(mine, (group.rank + 1) % group.size, came, (group.rank - 1) % group.size)
    return (time.perf_counter() - began) / repeats
