"""How everything here is timed: interleaved rounds, ratios within a round, pinned threads, and where it was.

Times on a shared machine drift by tens of percent, for all programs alike.  So all competitors take turns in every
round, each is first in its turn, and what is reported beside a median is the median of the ratios within the rounds.
This module imports no array library: `begin` may start the process again before one counts the cores.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "MissingError",
    "begin",
    "calls_per_round",
    "commit",
    "cpu_name",
    "interleave",
    "parser",
    "reason",
    "show",
    "summary",
    "turn_of",
    "versions",
    "write",
]

PROJECT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = ("numpy", "array-api-compat", "numba", "scikit-learn", "torch", "jax", "jaxlib")
# Worker threads of BLAS and OpenMP spin for some milliseconds after their last work; the next in turn would feel it.
PAUSE = 0.05

# Where one of these is set, a library keeps to other kernels than it would choose for this processor.
RESTRAINTS = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
)

T = TypeVar("T")


class MissingError(Exception):
    """A competitor is not here; the message says why."""


# -- turns ------------------------------------------------------------------------------------------------------
def interleave(
    turns: Mapping[str, Callable[[], T]], seconds: float, *, least: int = 3, most: int = 25, pause: float = 0.0
) -> dict[str, list[T]]:
    """Let all take turns for about `seconds`, and return what each turn returned, round by round.

    At least `least` rounds and at most `most`; each competitor is first in its turn.
    """
    found: dict[str, list[T]] = {name: [] for name in turns}
    names = list(turns)
    deadline = time.perf_counter() + seconds
    done = 0
    while done < least or (done < most and time.perf_counter() < deadline):
        first = done % len(names) if names else 0
        for name in names[first:] + names[:first]:
            gc.collect()
            time.sleep(pause)
            found[name].append(turns[name]())
        done += 1
    return found


def calls_per_round(
    call: Callable[[int], Any], seconds: float, *, wait: Callable[[], Any] = lambda: None, most: int = 4096
) -> int:
    """Warm up, and return how many calls take about `seconds`; the warm-up makes at most `most` calls at once."""
    n = 1
    while True:
        wait()
        began = time.perf_counter()
        for i in range(n):
            call(i)
        wait()
        spent = time.perf_counter() - began
        if spent > seconds / 4 or n >= most:
            return max(round(n * seconds / spent), 1)
        n *= 2


def turn_of(call: Callable[[], Any], n: int) -> Callable[[], float]:
    """Return a turn: the seconds of one call, as the mean of `n`."""

    def turn() -> float:
        repeat = range(n)
        began = time.perf_counter()
        for _ in repeat:
            call()
        return (time.perf_counter() - began) / n

    return turn


def summary(times: Mapping[str, Sequence[float]], reference: str) -> dict[str, dict[str, Any]]:
    """Median and least time of each in µs, and the median over rounds of its time by the reference's."""
    return {
        name: {
            "us": round(statistics.median(own) * 1e6, 3),
            "us_min": round(min(own) * 1e6, 3),
            "ratio": round(statistics.median(a / b for a, b in zip(own, times[reference], strict=True)), 3),
            "rounds": len(own),
        }
        for name, own in times.items()
    }


def reason(error: Exception) -> str:
    """Say in one line why a competitor takes no part."""
    if isinstance(error, MissingError):
        return str(error)
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:300]


# -- beginning --------------------------------------------------------------------------------------------------
def parser(doc: str, *, seconds: float) -> argparse.ArgumentParser:
    """Return what all scripts understand; `seconds` is the default time for the rounds of one problem."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--threads", type=int, default=1, help="cores, and threads of every library (default 1)")
    made.add_argument("--seconds", type=float, default=seconds, help="for the rounds of one problem (%(default)s)")
    made.add_argument("--quick", action="store_true", help="see that everything works, in seconds: no measurement")
    made.add_argument("--only", default="", help="competitors whose names contain one of these, by commas")
    made.add_argument("--problem", default="", help="problems whose names contain this")
    made.add_argument("--label", default="", help="added to the name of the JSON file, to keep two settings apart")
    made.add_argument(
        "--results",
        type=Path,
        help="folder of the JSON file (benchmarks/results; runs/benchmarks for a quick or partial run)",
    )
    return made


def begin(name: str, args: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """Pin threads, starting the process again if needed; return the file to write and what is known beforehand."""
    pin(args.threads)
    partial = bool(args.quick or args.only or args.problem)
    folder = args.results or PROJECT / ("runs/benchmarks" if partial else "benchmarks/results")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    results = {
        "benchmark": name,
        "quick": partial,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": commit(),
        "machine": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "cores_used": cores,
            "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
            "load_before": load(),
        },
        "threads": args.threads,
        "label": args.label,
        "blas": blas(),
        "versions": versions(),
        "problems": [],
    }
    print(f"{results['machine']['cpu']}; {args.threads} of {os.cpu_count()} cores; load {load()}")
    print(", ".join(f"{name} {version}" for name, version in results["versions"].items()), flush=True)
    if any(value > 0.5 for value in load()[:1]):
        print("others work on this machine: threads that wait for each other lose most, wait for quiet to measure")
    print(f"BLAS: {', '.join(results['blas']) or 'unknown'}", flush=True)
    return folder / f"{'-'.join(filter(None, (name, str(args.threads), args.label)))}.json", results


def pin(threads: int) -> None:
    """Give this process so many cores, and every library so many threads.

    Nothing in the environment holds a library to other kernels than its own choice.  The libraries read their
    variables when they are loaded, so the process starts again if any differs.
    """
    counts = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    wanted = {
        **dict.fromkeys(counts, str(threads)),
        "TORCHINDUCTOR_COMPILE_THREADS": "1",  # else a pool of processes idles, and wakes, beside what is timed
        "JAX_PLATFORMS": "cpu",
        # XLA takes its other threads from the cores that the process may use
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'}",
    }
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < threads:
            sys.exit(f"--threads: expected at most {len(cores)} (cores that this process may use), got {threads}.")
        os.sched_setaffinity(0, cores[:threads])
    restraints = [name for name in RESTRAINTS if name in os.environ]
    for name in restraints:
        print(f"without {name}={os.environ[name]}, which the environment sets: each library chooses its own kernels")
    if restraints or any(os.environ.get(name) != value for name, value in wanted.items()):
        environment = {name: value for name, value in os.environ.items() if name not in RESTRAINTS}
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment | wanted)


# -- where ------------------------------------------------------------------------------------------------------
def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes; empty where the system has none."""
    return [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else []


def blas() -> list[str]:
    """Return the BLAS libraries loaded so far, each with the kernels it chose for this processor."""
    try:
        threadpoolctl = importlib.import_module("threadpoolctl")
    except ImportError:
        return []
    return [
        f"{info['internal_api']} {info['version']}, kernels {info.get('architecture', 'unknown')}"
        for info in threadpoolctl.threadpool_info()
        if info["user_api"] == "blas"
    ]


def commit(project: Path = PROJECT) -> str:
    """Return the commit that is measured, marked if files differ from it."""
    try:
        asked = ["git", "-C", str(project), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def versions(distributions: Sequence[str] = DISTRIBUTIONS) -> dict[str, str]:
    """Return the version of Python, of xpnn and of each distribution that is installed."""
    source = (PROJECT / "xpnn" / "__init__.py").read_text(encoding="utf-8")
    own = next(line.split('"')[1] for line in source.splitlines() if line.startswith("__version__"))
    found = {"xpnn": own, "python": platform.python_version()}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# -- what was found ---------------------------------------------------------------------------------------------
def write(path: Path, results: dict[str, Any]) -> None:
    """Write JSON to a temporary name in the same folder, then rename it."""
    if "machine" in results:
        results["machine"]["load_after"] = load()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def show(result: Mapping[str, Any]) -> None:
    """Print one problem: times in µs, ratios to xpnn, and who took no part."""
    print(f"\n{result['problem']} ({result['unit']})\n  {'':<34}{'median':>12}{'min':>12}{'ratio':>8}")
    for name, row in result["rows"].items():
        print(f"  {name:<34}{row['us']:>12.2f}{row['us_min']:>12.2f}{row['ratio']:>8.2f}")
    for name, why in result["missing"].items():
        print(f"  {name:<34} skipped: {why}")
    sys.stdout.flush()
