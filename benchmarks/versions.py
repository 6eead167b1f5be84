"""Two versions of xpnn side by side: every size of the other benchmarks, in one run.

    git worktree add ../before v0.1.0
    python benchmarks/versions.py ../before [--threads 2] [--problem 784-256]

Each version runs in a process of its own, by the benchmark scripts of its own checkout, and the two take turns.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import PAUSE, PROJECT, begin, calls_per_round, interleave, parser, show, summary, turn_of, write

NOW, BEFORE = "now", "before"
MAKERS = (
    "xpnn",
    "xpnn with numba",
    "xpnn, default metrics",
    "xpnn with numba, default metrics",
    "xpnn, portable ops",
)
IMPORT = "import xpnn"


# -- one version ------------------------------------------------------------------------------------------------
def kinds() -> dict[str, Callable[[], Callable[[], float]]]:
    """What this checkout's benchmarks measure: what makes a turn, by name."""
    training, prediction, replicas = (importlib.import_module(name) for name in ("training", "prediction", "replicas"))
    peers = importlib.import_module("peers")
    found: dict[str, Callable[[], Callable[[], float]]] = {}

    def epochs(problem: tuple[list[int], int, int], name: str) -> Callable[[], float]:
        made = training.make_problem(*problem)
        competitor = training.MAKERS[name](made)
        rows = made.batch_size * made.steps
        competitor.epoch(rows, shuffle=True)  # warm up
        return lambda: competitor.epoch(rows, shuffle=True) / made.steps

    def predicts(sizes: list[int], rows: int, name: str) -> Callable[[], float]:
        xpnn, np = importlib.import_module("xpnn"), importlib.import_module("numpy")
        net = xpnn.mlp(sizes, seed=0)
        call = prediction.MAKERS[name](net, np.random.default_rng(0).random((rows, sizes[0]), dtype=np.float32))
        return turn_of(call, calls_per_round(lambda _: call(), 0.1, most=1 << 16))

    def together(problem: Any, k: int, compiled: bool) -> Callable[[], float]:
        sizes, batch_size, _, steps = problem
        return replicas.turn(sizes, batch_size, k, max(steps // k, 8), peers.numpy_backend(compiled=compiled))

    for problem in training.PROBLEMS:
        for name in MAKERS:
            title = f"{'-'.join(map(str, problem[0]))}, batch {problem[1]}: {name}"
            found[title] = lambda p=problem, n=name: epochs(p, n)
    for sizes, rows in prediction.PROBLEMS:
        for name in MAKERS[:2]:
            title = f"{prediction.problem_name(sizes, rows)}: {name}"
            found[title] = lambda s=sizes, r=rows, n=name: predicts(s, r, n)
    for problem in replicas.PROBLEMS[:2]:
        for name, compiled in (("xpnn", False), ("xpnn with numba", True)):
            title = f"{'-'.join(map(str, problem[0]))}, 16 networks together: {name}"
            found[title] = lambda p=problem, c=compiled: together(p, 16, c)
    return found


def serve() -> None:
    """Answer lines of JSON: a name makes a turn ready, null takes it."""
    made = kinds()
    turn: Callable[[], float] = float
    answer: Any = list(made)
    while True:
        print(json.dumps(answer), flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        name = json.loads(line)
        try:
            answer = turn() if name is None else bool(turn := made[name]())
        except Exception as error:  # the other version, and the other problems, have their turn all the same
            answer = f"{type(error).__name__}: {error}"


# -- both -------------------------------------------------------------------------------------------------------
class Version:
    """A checkout, in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        if not Path(checkout, "benchmarks", "training.py").is_file():
            sys.exit(f"{checkout}: expected a checkout of xpnn with benchmarks, got a folder without. Name another.")
        self.environment = os.environ | {"PYTHONPATH": f"{checkout}{os.pathsep}{checkout / 'benchmarks'}"}
        code = f"import runpy; runpy.run_path({str(Path(__file__).resolve())!r})['serve']()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment,
            cwd=checkout / "benchmarks",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names: list[str] = self._read()

    def _read(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.checkout}: its process ended; what it said stands above.")
        return json.loads(line)

    def ask(self, name: str | None) -> Any:
        self.process.stdin.write(json.dumps(name) + "\n")
        self.process.stdin.flush()
        return self._read()

    def turn(self) -> float:
        found = self.ask(None)
        if isinstance(found, str):
            raise RuntimeError(found)
        return float(found)

    def imported(self) -> float:
        """Return the seconds of an import in a fresh process, Python's start taken off."""
        times = []
        for code in ("import xpnn", "pass"):
            began = time.perf_counter()
            subprocess.run([sys.executable, "-c", f"import numpy; {code}"], env=self.environment, check=True)
            times.append(time.perf_counter() - began)
        return max(times[0] - times[1], 1e-6)


def measure(name: str, versions: dict[str, Version], seconds: float, least: int) -> dict[str, Any]:
    missing = {}
    if name != IMPORT:
        answers = {version: own.ask(name) for version, own in versions.items()}
        missing = {version: answer for version, answer in answers.items() if isinstance(answer, str)}
    turns = {version: own.imported if name == IMPORT else own.turn for version, own in versions.items()}
    rows = {} if missing else summary(interleave(turns, seconds, least=least, pause=PAUSE), BEFORE)
    return {"problem": name, "unit": "µs", "rows": rows, "missing": missing}


def main() -> None:
    options = parser(__doc__, seconds=10.0)
    options.add_argument("before", type=Path, help="a checkout of the other version")
    args = options.parse_args()
    path, results = begin("versions", args)
    versions = {NOW: Version(PROJECT), BEFORE: Version(args.before.resolve())}
    names = [name for name in versions[NOW].names if name in versions[BEFORE].names]
    for name in [IMPORT, *names]:
        if args.problem in name:
            found = measure(name, versions, 0.0 if args.quick else args.seconds, 2 if args.quick else 9)
            results["problems"].append(found)
            show(found)
            write(path, results)
    print(f"\nby the version before, medians:\n{table(results['problems'])}\nin {path}")


def table(problems: list[dict[str, Any]]) -> str:
    """One line for each problem, the slowest first."""
    measured = sorted((p for p in problems if p["rows"]), key=lambda p: -p["rows"][NOW]["ratio"])
    least = {p["problem"]: p["rows"][NOW]["us_min"] / p["rows"][BEFORE]["us_min"] for p in measured}
    return "\n".join(
        f"  {p['rows'][NOW]['ratio']:6.3f}  (least times {least[p['problem']]:6.3f})  {p['problem']}" for p in measured
    )


if __name__ == "__main__":
    main()
