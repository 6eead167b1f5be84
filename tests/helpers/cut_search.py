"""Searches that are cut off at any moment, gone on with, and compared to the bit with one that was not.

As a script: ``python cut_search.py TRIES SEED`` kills forked children of a process without threads, and prints how many
went on from their files to equal results.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import cutoff
import numpy as np

import xpnn
from xpnn.search import Halving, SearchResult, grid, run

X, Y = xpnn.data.make_moons(60, noise=0.2, seed=0)
EPOCHS, BATCH = 4, 16

# One of the rates diverges; two shapes, so two groups.
RATES = {"optimizer": "sgd", "lr": [0.05, 1e25, 0.3], "batch_size": BATCH, "schedule": xpnn.OneCycle(), "norm": "batch"}
SHAPES = {"hidden": [(6,), (5, 4)], "dropout": 0.2, "seed": 3, "regularizer": xpnn.L2(1e-3)}


class Failing(xpnn.Callback):
    """Raises an error once, at the call of its hooks that has this number; `left` counts over all trainers."""

    left: ClassVar = [0]

    def _called(self, trainer: xpnn.Trainer) -> None:
        self.left[0] -= 1
        if self.left[0] == 0:
            raise ZeroDivisionError("of a callback")

    on_epoch_begin = on_batch_end = on_epoch_trained = on_epoch_end = _called


def make(config: dict[str, Any], *around: xpnn.Callback) -> xpnn.Trainer:
    """Return a trainer with a bit of everything that has a state."""
    net = xpnn.mlp([2, config["width"], 2], norm="batch", dropout=0.2, seed=3)
    callbacks = [xpnn.EMA(0.9), *around, xpnn.EarlyStopping("val_loss", 2)]
    rule = xpnn.AdamW(config["lr"], weight_decay=0.01)
    schedule, penalty = xpnn.CosineDecay(unit="step"), xpnn.SpectralNorm(1e-3)
    return xpnn.Trainer(
        net, xpnn.CrossEntropy(), rule, schedule=schedule, regularizer=penalty, callbacks=callbacks, seed=5
    )


def failing(config: dict[str, Any]) -> xpnn.Trainer:
    return make(config, Failing())


failing.__qualname__ = make.__qualname__  # whoever mends a function may go on

OWN = {"width": [6, 4], "lr": [0.01, 0.1, 0.03], "batch_size": BATCH}
#: What is searched: configurations, and options of the search.
KINDS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "replicas": (grid({**RATES, **SHAPES}), {"loss": xpnn.CrossEntropy()}),
    "halving": (grid({**RATES, **SHAPES}), {"loss": xpnn.CrossEntropy(), "halving": Halving(1, 2)}),
    "alone": (grid({**RATES, "lr": [0.1, 0.3], "schedule": xpnn.Plateau()}), {"loss": xpnn.CrossEntropy()}),
    "make": (grid(OWN), {"make": make, "halving": Halving(1, 2)}),
    "make, one rung": (grid(OWN)[:3], {"make": make}),
}


def search(kind: str, path: Path | None, **options: Any) -> SearchResult:
    """Search, or go on."""
    configurations, known = KINDS[kind]
    options = {"epochs": EPOCHS, "validation_fraction": 0.3, **known, **options}
    return run(configurations, X, Y, checkpoint=path, **options)


def outcome(result: SearchResult) -> list[Any]:
    """Return everything that a search finds, but the seconds."""
    found = []
    for trial in result.trials:
        scored = repr((trial.score, trial.best_epoch, trial.epochs, trial.status, trial.schedule, trial.length))
        rows = [{name: value for name, value in row.items() if name != "seconds"} for row in trial.history]
        found.append((scored, repr(rows)))
    return found


@functools.cache
def straight(kind: str) -> list[Any]:
    """Return what a search finds that nothing cuts off."""
    return outcome(search(kind, None))


@functools.cache
def seconds(kind: str) -> float:
    """Return what a search takes that writes all the time."""
    with tempfile.TemporaryDirectory() as folder:
        taken = []
        for number in range(2):
            began = time.perf_counter()
            search(kind, Path(folder, str(number)), checkpoint_seconds=0.0)
            taken.append(time.perf_counter() - began)
    return min(taken)


# -- ways to cut off -----------------------------------------------------------------------------------------------
class Signalled:
    """A signal comes at a random moment of a search."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        self.number, self.error = number, error

    def __call__(self, kind: str, path: Path, rng: random.Random) -> bool:
        armed = True

        def stop(*given: object) -> None:
            if armed:
                raise self.error

        alarm = signal.signal(signal.SIGALRM, lambda *given: signal.raise_signal(self.number))
        before = signal.signal(self.number, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 0.9 * seconds(kind)))
            search(kind, path, checkpoint_seconds=rng.choice([0.0, 0.01, 30.0]))
            armed = False
        except self.error:
            armed = False
            return True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(self.number, before)
            signal.signal(signal.SIGALRM, alarm)
        return False


def inject(kind: str, path: Path, rng: random.Random) -> bool:
    """Raise KeyboardInterrupt in a random line of xpnn's that a search comes to."""
    left = rng.randrange(1, _lines(kind))

    def trace(frame: Any, event: str, value: Any) -> Any:
        nonlocal left
        if not frame.f_globals.get("__name__", "").startswith("xpnn."):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    return _traced(trace, lambda: search(kind, path, checkpoint_seconds=0.05))


def _traced(trace: Any, call: Callable[[], object]) -> bool:
    before = sys.gettrace()  # of what measures coverage
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@functools.cache
def _lines(kind: str) -> int:
    """Return how many lines of xpnn's a search comes to."""
    seen = [0]

    def trace(frame: Any, event: str, value: Any) -> Any:
        seen[0] += event == "line"
        return trace if frame.f_globals.get("__name__", "").startswith("xpnn.") else None

    with tempfile.TemporaryDirectory() as folder:
        _traced(trace, lambda: search(kind, Path(folder, "x"), checkpoint_seconds=0.05))
    return seen[0]


def fail(kind: str, path: Path, rng: random.Random) -> bool:
    """Raise an error in a random hook of a callback, if there may be one."""
    if "make" not in kind:
        return inject(kind, path, rng)
    Failing.left = [rng.randrange(1, 2 * EPOCHS * (3 + -(-len(X) // BATCH)))]
    try:
        search(kind, path, make=failing)
    except ZeroDivisionError:
        return True
    return False


WAYS: dict[str, Callable[[str, Path, random.Random], bool]] = {
    "SIGINT": Signalled(signal.SIGINT, KeyboardInterrupt),
    "SIGTERM": Signalled(signal.SIGTERM, cutoff.Stop),
    "any line": inject,
    "callback": fail,
}


def kill(kind: str, path: Path, rng: random.Random) -> bool:
    """Kill a forked process while it searches."""
    longest = seconds(kind)
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            search(kind, path, checkpoint_seconds=0.0)
        os._exit(0)
    time.sleep(rng.uniform(0, longest))
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


@cutoff.no_code_of_others()
def cut_off(way: Callable[[str, Path, random.Random], bool], tries: int, *, seed: int = 0) -> cutoff.Tries:
    """Cut searches of all kinds off in one way, some of them twice, and go on."""
    found = np.zeros(2, int)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(tries):
            rng = random.Random(f"{seed} {number}")
            kind, path = [*KINDS][number % len(KINDS)], Path(folder, str(number))
            cut = way(kind, path, rng)
            if cut and rng.random() < 0.3:
                way(kind, path, rng)
            found += cut, outcome(search(kind, path)) == straight(kind)
    return cutoff.Tries(tries, *map(int, found))


if __name__ == "__main__":
    print(*cut_off(kill, int(sys.argv[1]), seed=int(sys.argv[2])))  # noqa: T201
