"""Training on a machine that others use, too: beside busy processes and beside another user of BLAS.

    python benchmarks/busy.py [--threads 2] [--seconds 30]
    python benchmarks/busy.py --problem "two other" --add     # one load alone, put beside what was measured before

The load is made here: processes that count, or that multiply matrices on all threads of their BLAS.  Each competitor
has a process of its own with nothing set, so that each library chooses its threads; and once more with one thread.
How many cores each had is measured, too.  Between two turns beside a load it is stopped, and xpnn takes a turn alone: a
machine that shares its own cores with others is not always as fast, so ratios to a quiet one are taken within a round.
Then eight fits: one after the other, in a pool of threads, and each in a process of its own at once.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness import PAUSE, PROJECT, begin, interleave, parser, reason, show, summary, write

SIZES, BATCH_SIZE, STEPS = [784, 256, 128, 10], 128, 156  # 20,000 rows
MAKERS = ("xpnn", "xpnn with numba", "products alone", "scikit-learn", "torch eager, Adam", "jax jit, a call a step")
ALONE, QUIET = ", one thread", ", quiet"
REFERENCES = ("xpnn with numba", "xpnn with numba" + ALONE)  # whose turns alone are in each round
FITS, STEPS_TOGETHER = 8, 20
TOGETHER = "eight fits"
WAYS = ("one after the other", "in a pool of threads", "in processes at once")

COUNT = "while True: pass"
MULTIPLY = "import numpy; a = numpy.ones((1000, 1000), 'f')\nwhile True: a @ a"
USER = "another that uses BLAS"
LOADS = {
    "quiet": [],
    "one other process": [COUNT],
    "two other processes": [COUNT, COUNT],
    USER: [MULTIPLY],
}
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def environment(alone: bool) -> dict[str, str]:
    """What a process starts with: no word of threads, or one."""
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return kept | (dict.fromkeys(VARIABLES, "1") if alone else {})


# -- a competitor, in a process of its own -----------------------------------------------------------------------
def serve(name: str, steps: int) -> None:
    """Answer each line with the seconds of a step and the cores that worked for it; at first with why not, or null."""
    try:
        training = importlib.import_module("training")
        competitor = training.MAKERS[name](training.make_problem(SIZES, BATCH_SIZE, steps))
        competitor.epoch(BATCH_SIZE * steps, shuffle=True)  # warm up
    except Exception as error:
        print(json.dumps(reason(error)), flush=True)
        return
    print("null", flush=True)
    for _ in sys.stdin:
        began, worked = time.perf_counter(), time.process_time()
        each = competitor.epoch(BATCH_SIZE * steps, shuffle=True) / steps
        cores = (time.process_time() - worked) / (time.perf_counter() - began)
        print(json.dumps([each, cores]), flush=True)


def serve_several(name: str, steps: int) -> None:
    """Make several fits for each line: one after the other, or, where it says so, in a pool of threads."""
    try:
        training = importlib.import_module("training")
        problem = training.make_problem(SIZES, BATCH_SIZE, steps)
        fits = [training.MAKERS[name](problem) for _ in range(FITS)]
        for fit in fits:
            fit.epoch(BATCH_SIZE * steps, shuffle=True)  # warm up
    except Exception as error:
        print(json.dumps(reason(error)), flush=True)
        return
    print("null", flush=True)
    with ThreadPoolExecutor(FITS) as pool:
        for line in sys.stdin:
            began = time.perf_counter()
            each = pool.map if line.strip() == "pool" else map
            list(each(lambda fit: fit.epoch(BATCH_SIZE * steps, shuffle=True), fits))
            print((time.perf_counter() - began) / (FITS * steps), flush=True)


class Competitor:
    """A process that trains when asked."""

    def __init__(self, name: str, steps: int, serve: str = "serve") -> None:
        alone = name.endswith(ALONE)
        code = f"import busy; busy.{serve}({name.removesuffix(ALONE)!r}, {steps})"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=environment(alone),
            cwd=Path(__file__).parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.objection: str | None = self._read()
        self.cores: list[float] = []  # that worked for it in each turn

    def _read(self) -> Any:
        return json.loads(self.process.stdout.readline() or '"its process ended"')

    def ask(self, what: str = "") -> None:
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        found = self._read()
        if isinstance(found, list):
            self.cores.append(found[1])
            return float(found[0])
        return float(found)

    def turn(self, what: str = "") -> float:
        self.ask(what)
        return self.answer()

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()


class Load:
    """Programs that run meanwhile."""

    def __init__(self, running: list[subprocess.Popen[bytes]]) -> None:
        self._running = running

    def _tell(self, number: signal.Signals) -> None:
        for process in self._running:
            process.send_signal(number)

    def without(self, competitor: Competitor) -> tuple[float, float]:
        """Stop them for one turn of a competitor; return its seconds, and its cores."""
        self._tell(signal.SIGSTOP)
        time.sleep(PAUSE)
        try:
            return competitor.turn(), competitor.cores.pop()
        finally:
            self._tell(signal.SIGCONT)


@contextlib.contextmanager
def beside(programs: list[str]) -> Iterator[Load]:
    """Let some programs run meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", program], env=environment(False)) for program in programs]
    try:
        time.sleep(0.5 * bool(running))
        yield Load(running)
    finally:
        for process in running:
            process.kill()
            process.wait()


def together(name: str, steps: int, seconds: float) -> dict[str, Any]:
    """Time eight fits in three ways, by the steps of all."""
    found: dict[str, Any] = {"problem": f"{name}, {FITS} fits", "unit": "µs/step of all", "rows": {}, "missing": {}}
    several = Competitor(name, steps, "serve_several")
    if several.objection is not None:
        several.end()
        return found | {"missing": {name: several.objection}}
    each = [Competitor(name, steps) for _ in range(FITS)]

    def at_once() -> float:
        began = time.perf_counter()
        for own in each:
            own.ask()
        for own in each:
            own.answer()
        return (time.perf_counter() - began) / (FITS * steps)

    turns = dict(zip(WAYS, (several.turn, lambda: several.turn("pool"), at_once), strict=True))
    times = interleave(turns, seconds, least=1 if not seconds else 3, pause=PAUSE)
    for own in (several, *each):
        own.end()
    return found | {"rows": summary(times, WAYS[0])}


def under(load: str, competitors: dict[str, Competitor], threads: int, least: int, seconds: float) -> dict[str, Any]:
    """Let all take turns beside a load."""
    programs, quiet = LOADS[load], {}
    turns = {name: own.turn for name, own in competitors.items() if own.objection is None}
    missing = {name: own.objection for name, own in competitors.items() if own.objection is not None}
    with beside(programs) as others:
        for name in REFERENCES if programs else ():
            if name in turns:
                quiet[name + QUIET] = cores = []
                turns[name + QUIET] = functools.partial(alone, others, competitors[name], cores)
        times = interleave(turns, seconds, least=least, pause=PAUSE)
    rows = summary(times, "xpnn")
    for name, row in rows.items():
        had = quiet[name] if name in quiet else competitors[name].cores
        row["cores"] = round(statistics.median(had), 2)
        had.clear()
    one = times.get(REFERENCES[-1] + QUIET)
    for name in REFERENCES:
        if one and name in rows:
            rows[name]["by_one_quiet"] = round(
                statistics.median(a / b for a, b in zip(times[name], one, strict=True)), 3
            )
    title = f"{'-'.join(map(str, SIZES))}, batch {BATCH_SIZE}, {load}"
    wanting = threads if load == USER else len(programs)  # threads that want a core
    return {"problem": title, "unit": "µs/step", "others": wanting, "rows": rows, "missing": missing}


def alone(others: Load, competitor: Competitor, cores: list[float]) -> float:
    """Take a turn without the load, and note the cores."""
    seconds, had = others.without(competitor)
    cores.append(had)
    return seconds


def add(results: dict[str, Any], part: str, found: dict[str, Any]) -> None:
    """Put what was found in the place of the same problem, or behind the others; with where it comes from."""
    found |= {"date": results["date"], "commit": results["commit"]}
    known = [k for k, problem in enumerate(results[part]) if problem["problem"] == found["problem"]]
    if known:
        results[part][known[0]] = found
    else:
        results[part].append(found)


def main() -> None:
    options = parser(__doc__, seconds=30.0)
    options.add_argument("--add", action="store_true", help="keep other problems that the file has: all in one folder")
    options.set_defaults(threads=min(2, os.cpu_count() or 1))
    args = options.parse_args()
    if args.add:
        args.results = args.results or PROJECT / "benchmarks/results"
    path, results = begin("busy", args)
    results["together"] = []
    if args.add:
        results["quick"] = args.quick or bool(args.only)
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            for part in ("problems", "together"):
                results[part] = [{"date": before["date"], "commit": before["commit"], **one} for one in before[part]]
    only = [part for part in args.only.split(",") if part]
    loads = [load for load in LOADS if args.problem in load]
    names = [name + how for name in MAKERS for how in ("", ALONE)]
    chosen = [name for name in names if name == "xpnn" or not only or any(part in name for part in only)]
    competitors = {name: Competitor(name, 2 if args.quick else STEPS) for name in chosen if loads}
    for load in loads:
        least, seconds = (1, 0.0) if args.quick else (5, args.seconds)
        found = under(load, competitors, args.threads, least, seconds)
        add(results, "problems", found)
        show(found)
        write(path, results)
    for own in competitors.values():
        own.end()
    for name in chosen:
        title = f"{name}, {TOGETHER}"
        if args.problem in title and name != "products alone" and not name.endswith(ALONE):
            found = together(name, 2 if args.quick else STEPS_TOGETHER, 0.0 if args.quick else args.seconds / 5)
            add(results, "together", found)
            show(found)
            write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
