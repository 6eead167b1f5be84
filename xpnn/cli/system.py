"""``xpnn doctor``: what works here; and the versions in use."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
from typing import Any

import numpy as np

from .. import __version__
from ..accel.cores import THREADS, busy_elsewhere, cgroup_quota, core_count, load_sentence, threads_by_environment
from ..accel.native.check import check_native
from ..backend import available_backends, get_backend
from ..bench import thread_times
from ..distributed import Alone, check_group, launched
from ..distributed.check import DECISIVE
from ..optional import PACKAGES, needs
from .options import add_json, print_json

__all__ = ["add_commands", "versions"]

# distribution, its module, what needs it
_OPTIONAL = (
    ("scikit-learn", "sklearn", "the digits data set"),
    ("matplotlib", "matplotlib", "pictures"),
    ("jinja2", "jinja2", "xpnn report"),
    ("tensorboardX", "tensorboardX", "the TensorBoard callback"),
    ("numba", "numba", "compiled loops for long fits on NumPy"),
    ("onnx", "onnx", "xpnn export --onnx"),
    ("torch", "torch", "the torch backend"),
    ("array-api-strict", "array_api_strict", "the strict backend"),
)

# The network whose step tells on how many threads it is soonest over.
_SIZES, _BATCH_SIZE = (784, 256, 128, 10), 128


def add_commands(commands: Any) -> None:
    """Add the command."""
    doctor = commands.add_parser(
        "doctor",
        usage="xpnn doctor [--distributed] [--json]",
        help="tell which backends work here, and what mends the others",
    )
    doctor.add_argument(
        "--distributed",
        action="store_true",
        help="under mpiexec or torchrun: compare the processes, and measure what travels between them",
    )
    add_json(doctor)
    doctor.set_defaults(run=run_doctor)


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Return the versions that a run depends on."""
    blas = np.__config__.show(mode="dicts")["Build Dependencies"]["blas"]
    return {
        "xpnn": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "array-api-compat": _version("array-api-compat") or "?",
        "blas": f"{blas.get('name', '?')} {blas.get('version', '')}".strip(),
        "platform": platform.platform(terse=True),
    }


def run_doctor(args: argparse.Namespace) -> int:
    """Print the state of every backend and optional part; or of the processes of a launcher."""
    if args.distributed:
        return _check_processes(as_json=args.json)
    busy = busy_elsewhere()
    backends = available_backends()
    native = check_native()
    optional = [(name, use, _version(name), f"pip install {PACKAGES[module][1]}") for name, module, use in _OPTIONAL]
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    compiled = False if "native code" in native else None  # which tells of a crash
    times = thread_times(_SIZES, _BATCH_SIZE, get_backend("numpy", compiled=compiled), seconds=0.2)
    if args.json:
        print_json(
            {
                "versions": versions(),
                "cores": os.cpu_count(),
                "usable_cores": core_count(),
                "quota": cgroup_quota(),
                "cores_busy_elsewhere": busy,
                "threads": threads,
                "step_seconds_by_threads": times,
                "backends": backends,
                "native": native,
                "optional": {name: version for name, _, version, _ in optional},
            }
        )
        return 0
    with needs("tabulate", "xpnn"):
        from tabulate import tabulate

    print(tabulate(versions().items(), tablefmt="plain", disable_numparse=True))
    print(f"{_cores()}; threads of matrix products: {threads or 'all (set OMP_NUM_THREADS to limit them)'}")
    print(_threads(times))
    sentence = load_sentence(busy)
    print(sentence, end="\n\n" if sentence else "\n")
    print(tabulate(backends.items(), headers=["backend", "state"], maxcolwidths=[None, 90]))
    print()
    print(tabulate(native.items(), headers=["native code for numpy", "state"], maxcolwidths=[None, 90]))
    print()
    rows = [(name, use, version or f"not installed: {mend}") for name, use, version, mend in optional]
    print(tabulate(rows, headers=["optional part", "for", "version"], disable_numparse=True))
    return 0


def _cores() -> str:
    """Say how many cores there are, and how many of them this process may keep busy."""
    usable, quota = core_count(), cgroup_quota()
    if usable == os.cpu_count():
        return f"{usable} cores"
    why = "affinity" if quota is None else f"affinity, or a quota of {quota:g} cores' time"
    return f"{os.cpu_count()} cores, of which this process may use {usable} ({why})"


def _threads(times: dict[int, float]) -> str:
    """Say how a fit finds its number of threads, and what it would find now."""
    network = f"a step of {'-'.join(map(str, _SIZES))}, batch {_BATCH_SIZE}, takes"
    found = ", ".join(f"{seconds * 1e6:,.0f} µs on {count}" for count, seconds in times.items())
    given = threads_by_environment()
    if given is not None:
        how = f"{max(times)}, as {THREADS}={given} and the limits of this process say"
    elif len(times) == 1:
        how = "1, for no more are allowed"
    else:
        how = f"measured while it trains, at most {max(times)} ({THREADS} sets them)"
    return f"threads of a fit on NumPy: {how}; {network} {found}"


def _check_processes(*, as_json: bool) -> int:
    """Compare the processes of a launcher; rank 0 prints, and what changes bits is a check that failed."""
    group = launched() or Alone()
    report = check_group(group)
    status = 0 if report.ok else 1
    if group.rank:
        return status
    if as_json:
        print_json({"engine": group.engine, **report._asdict(), "changes_bits": DECISIVE, "ok": report.ok})
        return status
    with needs("tabulate", "xpnn"):
        from tabulate import tabulate

    columns = ("host", "process", "threads", "kernels")
    rows = [[rank, *(found[name] for name in columns)] for rank, found in enumerate(report.ranks)]
    facts = {name: value for name, value in report.ranks[0].items() if name not in ("host", "process")}
    kinds = [(name, facts[name], "bits change") for name in DECISIVE]
    kinds += [(name, value, "only the time changes") for name, value in facts.items() if name not in DECISIVE]
    print(f"{group.size} {'processes' if group.size > 1 else 'process'} over {group.engine}\n")
    headers = ["rank 0 computes with", "", "if another rank has another"]
    print(tabulate(kinds, headers=headers, maxcolwidths=[None, 60, None], disable_numparse=True), end="\n\n")
    print(tabulate(rows, headers=["rank", *columns], disable_numparse=True))
    print(
        f"\na number to the next rank: {report.latency * 1e6:.0f} µs; 4 MiB: {report.bandwidth / 1e6:,.0f} MB/s; "
        f"the sum of a million numbers of each: {report.sum_seconds * 1e3:.1f} ms\n"
    )
    print(*(report.differences or ["All compute alike: the number of processes changes the time alone."]), sep="\n")
    return status
