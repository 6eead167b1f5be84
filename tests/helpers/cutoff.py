"""Fits that are cut off at any moment, gone on with, and compared to the bit with one that was not.

As a script: ``python cutoff.py COMPILED TRIES SEED`` kills forked children of a process without threads, and prints how
many went on from their checkpoints to equal bits.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import os
import pickle
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import xpnn

EPOCHS, BATCH, ROWS = 4, 8, 62

_rng = np.random.default_rng(0)
X, X_VAL = (_rng.normal(size=(n, 5)).astype(np.float32) for n in (ROWS, 30))
Y, Y_VAL = ((x[:, 0] * x[:, 1] > 0).astype(np.int64) + (x[:, 2] > 1) for x in (X, X_VAL))


class Stop(BaseException):
    """What a handler of SIGTERM raises."""


class Failing(xpnn.Callback):
    """Raises an error once, at the call of its hooks that has this number."""

    def __init__(self, call: int) -> None:
        self.call = call

    def _called(self, trainer: xpnn.Trainer) -> None:
        self.call -= 1
        if self.call == 0:
            raise ZeroDivisionError("of a callback")

    on_epoch_begin = on_batch_end = on_epoch_trained = on_epoch_end = _called


def callbacks(*, ema: bool) -> list[xpnn.Callback]:
    return [*[xpnn.EMA(0.9)] * ema, xpnn.EarlyStopping("val_loss", 2)]


def make(*around: xpnn.Callback, compiled: bool, ema: bool = False) -> xpnn.Trainer:
    """Return a trainer with a bit of everything that has a state, and whose steps can be traced if compiled."""
    net = xpnn.mlp([5, 12, 8, 3], norm="batch", dropout=0.2, seed=3)
    net.backend.ops.choose(compiled=compiled)
    return xpnn.Trainer(
        net,
        xpnn.CrossEntropy(),
        xpnn.AdamW(0.02, weight_decay=0.01),
        schedule=xpnn.OneCycle(),
        regularizer=xpnn.L2(1e-3) if compiled else xpnn.SpectralNorm(1e-3),
        clip_norm=1.0,
        callbacks=[*callbacks(ema=ema), *around],
        seed=5,
    )


def fit(trainer: xpnn.Trainer) -> xpnn.Trainer:
    """Train up to the last epoch, or do what is left to do after it."""
    rest = EPOCHS - trainer.epoch
    if trainer.suspended is not None or (rest and trainer.stop_reason is None):
        trainer.fit(X, Y, epochs=rest, batch_size=BATCH, X_val=X_VAL, y_val=Y_VAL)
    return trainer


def outcome(trainer: xpnn.Trainer) -> tuple[Any, ...]:
    """Return everything that training leaves, but the seconds."""
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.history]
    arrays = {**trainer.net.state_dict(), **trainer.optimizer.state}
    best = next((c.best, c.best_epoch) for c in trainer.callbacks if isinstance(c, xpnn.EarlyStopping))
    counts = trainer.epoch, trainer.step, trainer.optimizer.t
    return rows, {name: np.array(array).tobytes() for name, array in arrays.items()}, best, counts


@functools.cache
def straight(*, compiled: bool, ema: bool) -> tuple[Any, ...]:
    """Return the outcome of a fit that nothing cuts off."""
    return outcome(fit(make(compiled=compiled, ema=ema)))


# -- ways to cut off -----------------------------------------------------------------------------------------------
@functools.cache
def seconds(*, compiled: bool, ema: bool) -> float:
    """Return what a fit takes."""
    fit(make(compiled=compiled, ema=ema))
    taken = []
    for _ in range(3):  # the least: a burst of load would put moments behind the end
        began = time.perf_counter()
        fit(make(compiled=compiled, ema=ema))
        taken.append(time.perf_counter() - began)
    return min(taken)


class Signalled:
    """A signal comes at a random moment of a fit."""

    def __init__(self, number: int, error: type[BaseException]) -> None:
        self.number, self.error = number, error

    def __call__(self, trainer: xpnn.Trainer, rng: random.Random, options: dict[str, bool]) -> None:
        armed = True

        def stop(*given: object) -> None:
            if armed:
                raise self.error

        moment = rng.uniform(1e-6, 0.9 * seconds(**options))
        alarm = signal.signal(signal.SIGALRM, lambda *given: signal.raise_signal(self.number))
        before = signal.signal(self.number, stop)
        try:
            signal.setitimer(signal.ITIMER_REAL, moment)
            fit(trainer)
            armed = False
        except self.error:
            armed = False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(self.number, before)
            signal.signal(signal.SIGALRM, alarm)


def inject(trainer: xpnn.Trainer, rng: random.Random, options: dict[str, bool]) -> None:
    """Raise KeyboardInterrupt in a random line of xpnn's that a fit comes to."""
    left = rng.randrange(1, _lines(**options)) if options else sys.maxsize

    def trace(frame: Any, event: str, value: Any) -> Any:
        nonlocal left
        if not frame.f_globals.get("__name__", "").startswith("xpnn."):
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return trace

    _traced(trace, lambda: fit(trainer))


def _traced(trace: Any, call: Callable[[], object]) -> None:
    before = sys.gettrace()  # of what measures coverage
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)


@functools.cache
def _lines(**options: bool) -> int:
    """Return how many lines of xpnn's a fit comes to."""
    seen = [0]

    def trace(frame: Any, event: str, value: Any) -> Any:
        seen[0] += event == "line"
        return trace if frame.f_globals.get("__name__", "").startswith("xpnn.") else None

    trainer = make(**options)
    _traced(trace, lambda: fit(trainer))
    return seen[0]


def fail(trainer: xpnn.Trainer, rng: random.Random, options: dict[str, bool]) -> None:
    """Raise an error in a random hook of a random callback."""
    hooks = EPOCHS * (3 + -(-ROWS // BATCH))
    trainer.callbacks.insert(rng.randrange(3), Failing(rng.randrange(1, hooks)))
    with contextlib.suppress(ZeroDivisionError):
        fit(trainer)


WAYS: dict[str, Callable[[xpnn.Trainer, random.Random, dict[str, bool]], None]] = {
    "SIGINT": Signalled(signal.SIGINT, KeyboardInterrupt),
    "SIGTERM": Signalled(signal.SIGTERM, Stop),
    "any line": inject,
    "callback": fail,
}


# -- and to go on --------------------------------------------------------------------------------------------------
def again(trainer: xpnn.Trainer, rng: random.Random, options: dict[str, bool]) -> xpnn.Trainer:
    """Return the trainer, a copy of it, or what a file keeps of it."""
    way = rng.choice(["go on", "copy", "pickle", "file"])
    if way == "file":
        with tempfile.TemporaryDirectory() as folder:
            trainer.save(Path(folder, "run"))
            trainer = load(Path(folder, "run"), options)
    elif way == "copy":
        trainer = copy.deepcopy(trainer)
    elif way == "pickle":
        trainer = pickle.loads(pickle.dumps(trainer))
    return trainer


def load(path: Path, options: dict[str, bool]) -> xpnn.Trainer:
    trainer = xpnn.Trainer.load(path, callbacks=callbacks(ema=options["ema"]))
    trainer.net.backend.ops.choose(compiled=options["compiled"])
    return trainer


class Tries(NamedTuple):
    """How many fits were cut off, and how many of them went on to equal bits."""

    made: int
    cut_off: int
    equal: int


@contextlib.contextmanager
def no_code_of_others() -> Iterator[None]:
    """Let no functions of tools be called by the garbage collector: what a signal raises there is lost."""
    left = list(gc.callbacks)
    gc.callbacks.clear()
    try:
        yield
    finally:
        gc.callbacks[:] = left


@no_code_of_others()
def cut_off(way: str, tries: int, *, compiled: bool, seed: int = 0) -> Tries:
    """Cut fits off in one way; half of them with an average of the weights, which looks at each step."""
    found = np.zeros(2, int)
    for number in range(tries):
        rng = random.Random(f"{way} {seed} {number}")
        options = {"compiled": compiled, "ema": rng.random() < 0.5}
        expected = straight(**options)
        trainer = make(**options)
        WAYS[way](trainer, rng, options)
        assert trainer.epoch == len(trainer.history), (way, number)
        unfinished = trainer.suspended is not None or trainer.step == 0
        if unfinished:
            trainer = fit(again(trainer, rng, options))
        found += unfinished, outcome(trainer) == expected
    return Tries(tries, *map(int, found))


def kill(tries: int, *, compiled: bool, seed: int = 0) -> Tries:
    """Kill forked processes while they train, and go on from their checkpoints."""
    found = np.zeros(2, int)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(tries):
            rng = random.Random(f"kill {seed} {number}")
            options = {"compiled": compiled, "ema": rng.random() < 0.5}
            expected, longest = straight(**options), 2 * seconds(**options)
            path = Path(folder, f"{number}.safetensors")
            often = xpnn.Checkpoint(path, None, trainer=True, every_steps=rng.randrange(1, 8))
            child = os.fork()
            if child == 0:
                fit(make(often, **options))
                os._exit(0)
            time.sleep(rng.uniform(0, longest))
            os.kill(child, signal.SIGKILL)
            killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            trainer = fit(load(path, options) if path.exists() else make(**options))
            found += killed, outcome(trainer) == expected
    return Tries(tries, *map(int, found))


if __name__ == "__main__":
    print(*kill(int(sys.argv[2]), compiled=sys.argv[1] == "1", seed=int(sys.argv[3])))  # noqa: T201
