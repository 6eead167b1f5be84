"""``xpnn train`` and ``xpnn search`` killed, terminated and interrupted at random moments, and at every last move.

Run as a script it is the warm parent of all the trainings: Python and the libraries are loaded once, in a process
without threads, from which each training is forked.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import NamedTuple

OPTIONS = {
    "train": ("moons", "--patience", "9", "--hidden", "6", "--dropout", "0.2", "--ema", "0.9", "--batch-size", "100"),
    "search": ("{home}/table.csv", "--target", "y", "--hidden", "6", "--batch-size", "50", "--trials", "4"),
}
QUIET = ("--quiet", "--checkpoint-seconds", "0.004")
KINDS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
STATUS = {"kill": -9, "terminate": 143, "interrupt": 130}
#: All that may lie in a run's folder.
FILES = {
    "train": {"model.safetensors", "scores.json", "history.csv", "evidence.json", ".unfinished"},
    "search": {
        *("model.safetensors", "scores.json", "history.csv", "evidence.json", ".unfinished"),
        *("trials.csv", "search.json"),
    },
}


class Outcome(NamedTuple):
    """What a run has come to: everything but times, and what is drawn by chance."""

    tensors: dict[str, bytes]
    history: list[dict[str, float]]
    scores: dict[str, object]
    stopped: str | None
    best_epoch: int | None
    trials: str  # of a search


def write_table(home: Path) -> None:
    """Write a small table."""
    rng = random.Random(0)
    points = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(120)]
    rows = [f"{a:.3f},{b:.3f},{'yes' if a * b > 0 else 'no'}" for a, b in points]
    (home / "table.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")


def outcome(folder: Path) -> Outcome:
    """Read a run, as `xpnn report` does."""
    from xpnn.checkpoint import read
    from xpnn.report import read_run

    run = read_run(folder)
    tensors = {name: array.tobytes() for name, array in read(folder / "model.safetensors")[0].items()}
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in run.history.rows]
    trials = folder / "trials.csv"
    told = trials.read_text() if trials.exists() else ""
    return Outcome(tensors, rows, run.info["scores"], run.info["stopped"], run.info["best_epoch"], told)


def line(command: str, folder: Path, *args: str) -> list[str]:
    """Return a command line whose run goes to a folder."""
    options = [option.format(home=folder.parent) for option in OPTIONS[command]]
    return [command, *options, *QUIET, *args, "--out", str(folder)]


def forked(command: str, folder: Path, *args: str, before=lambda: None) -> int:
    """Begin a training in a process of its own; return its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        before()
        from xpnn.cli import main

        status = main(line(command, folder, *args))
    except KeyboardInterrupt:  # before xpnn was asked anything
        status = 130
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def ended(pid: int) -> int:
    """Wait for a process, and return its status: negative, if a signal has ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trial:
    """Trainings in a folder, to be compared with those that nothing disturbs."""

    def __init__(self, command: str, home: Path, epochs: int) -> None:
        self.command = command
        write_table(home)
        self.folder, self.old, self.options = home / "run", home / "old", ("--epochs", str(epochs))
        for seed, name in enumerate(("old", "new")):
            began = time.perf_counter()
            assert ended(forked(command, home / name, *self.options, "--seed", str(seed))) == 0
            self.seconds = time.perf_counter() - began
        self.outcomes = {"old": outcome(self.old), "new": outcome(home / "new")}

    def prepare(self, *, older: bool) -> None:
        """Empty the folder, or put a finished run into it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if older:
            shutil.copytree(self.old, self.folder)

    def examine(self, *, older: bool) -> str:
        """Say what is left in the folder, and go on from it; an AssertionError tells what is wrong."""
        from xpnn.errors import XpnnError

        left = {path.name for path in self.folder.iterdir()} if self.folder.is_dir() else set()
        files = FILES[self.command]
        assert left <= files, f"litter: {left - files}"
        found = None
        try:
            found = outcome(self.folder)
        except XpnnError as error:
            state = "unfinished" if ".unfinished" in str(error) else "nothing"
            if older and state == "nothing":
                raise AssertionError(error) from error
        else:
            state = next((name for name, known in self.outcomes.items() if found == known), "a part")
            assert state != "a part" or found.stopped in ("interrupted", "terminated"), "a mixture"
        if state in ("unfinished", "a part"):
            again = forked(self.command, self.folder, *self.options, "--seed", "1", "--resume")
            assert ended(again) == 0, "cannot go on"
            pairs = zip(Outcome._fields, outcome(self.folder), self.outcomes["new"], strict=True)
            other = [name for name, one, another in pairs if one != another]
            assert not other, f"goes on with other {other}, {found and found[1:]}"
            assert {path.name for path in self.folder.iterdir()} == files - {".unfinished"}, "litter at the end"
        return state

    def at_random(self, kind: str, moment: float, *, older: bool) -> str:
        """Send a signal after a share of the time that a training takes."""
        self.prepare(older=older)
        pid = forked(self.command, self.folder, *self.options, "--seed", "1")
        time.sleep(moment * self.seconds)
        os.kill(pid, KINDS[kind])
        status = ended(pid)
        # A signal that comes before xpnn has begun to answer it, or after, is the system's.
        assert status in (0, STATUS[kind], -KINDS[kind]), f"status {status}"
        state = self.examine(older=older)
        # The machine may be busier now, or less busy, than when the time was taken.
        self.seconds *= 0.95 if state == "new" else 1.05 if state in ("old", "nothing") else 1.0
        assert kind == "kill" or status > 0 or state in ("old", "nothing", "new"), f"{state} with status {status}"
        return state

    def at_call(self, call: int, *, older: bool) -> tuple[str, bool]:
        """Kill at a call that changes the folder; also return whether there were so many."""
        self.prepare(older=older)

        def deadly() -> None:
            calls = 0

            def counted(function):
                def wrapped(*args, **options):
                    nonlocal calls
                    calls += 1
                    if calls == call:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return function(*args, **options)

                return wrapped

            for name in ("replace", "unlink", "rmdir"):
                setattr(os, name, counted(getattr(os, name)))

        status = ended(forked(self.command, self.folder, *self.options, "--seed", "1", before=deadly))
        return self.examine(older=older), status == -signal.SIGKILL


def tries(kind: str, n: int, seed: int, command: str = "train") -> dict[str, object]:
    """Make `n` tries of a kind, "call" for all that there are, and count what was left."""
    left: dict[str, int] = {}
    wrong = []
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as home:
        many = 12 if command == "train" else 20
        trial = Trial(command, Path(home), epochs=2 if kind == "call" else many)
        plan = [(rng.random() * 1.1, bool(rng.getrandbits(1))) for _ in range(n)]
        if kind == "call":
            plan = [(call, older) for older in (False, True) for call in range(1, 200)]
        over = {True: False, False: False}
        for moment, older in plan:
            try:
                if kind == "call" and over[older]:
                    continue
                if kind == "call":
                    state, died = trial.at_call(int(moment), older=older)
                    over[older] = not died
                else:
                    state = trial.at_random(kind, moment, older=older)
            except AssertionError as error:
                log = trial.folder.with_suffix(".log").read_text()
                wrong.append(f"{kind} at {moment:.3g}, older {older}: {error}\n{log}")
                state = "wrong"
            left[state] = left.get(state, 0) + 1
    return {"kind": kind, "tries": sum(left.values()), "left": left, "wrong": wrong}


def main() -> int:
    """Make the tries and print what came out as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=[*KINDS, "call"])
    parser.add_argument("n", type=int, nargs="?", default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", choices=OPTIONS, default="train")
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background may have it ignored
    from xpnn.cli import main as command
    from xpnn.cli import problem, results

    results._pictures = lambda *args: []  # drawing takes longer than all the rest, and so do simple models
    problem.Problem.trained = lambda *args: None
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        write_table(Path(folder))
        command(line(args.command, Path(folder, "run"), "--epochs", "2"))  # loads what is loaded late
    json.dump(tries(args.kind, args.n, args.seed, args.command), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
