"""A command on several processes: they train together, and that of rank 0 alone reads the clock, prints and writes."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..distributed import Alone, Group, command, launched, together
from ..distributed.lifeline import hold_on, lifeline
from ..errors import OptionError, XpnnError
from ..staging import STAGING
from .options import add_number, whole
from .sources import STDIN

__all__ = ["add_processes", "group_of", "own_folder", "run_on_ranks", "sharing_of"]

#: Into how many parts a batch is cut where nothing else is said.
_SHARDS = 16


def add_processes(group: Any) -> None:
    """Add --processes and --shards."""
    text = "processes of this machine that share the training; the result is the same for any number; default 1"
    add_number(group, "--processes", whole, text, metavar="N")
    text = f"parts that each batch is cut into, on which the result depends; default {_SHARDS} with --processes, and "
    add_number(group, "--shards", whole, text + "under mpiexec or torchrun; else batches stay whole", metavar="S")


def group_of(args: argparse.Namespace) -> Group:
    """Return the processes that run this command."""
    group: Group | None = getattr(args, "group", None)
    return Alone() if group is None else group


def sharing_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what `Trainer.fit` is given to share the work."""
    shards = getattr(args, "shards", None)
    return {} if shards is None else {"shards": shards, "group": group_of(args)}


def run_on_ranks(args: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """Run a command: here, on the processes of a launcher, or on those that it starts."""
    hold_on()
    args.group = launched()
    shared = args.group is not None or args.processes is not None
    if args.group is None and args.processes is not None and args.processes > 1:
        return _start(args)
    if shared and args.shards is None:
        args.shards = _SHARDS
        args.argv = [*args.argv, "--shards", str(_SHARDS)]  # which a run goes on with
    if args.group is None:
        return run(args)
    status = run(args) if args.group.rank == 0 else _silently(args, run)
    args.group.exit_status = status or 1
    return status


def _silently(args: argparse.Namespace, run: Callable[[argparse.Namespace], int]) -> int:
    """Run a command on another process than that of rank 0, which speaks for all.

    A signal that came here alone is not the status of all: launchers join the statuses of the processes.
    """
    args.quiet = True
    nowhere = io.StringIO()
    with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        try:
            return 2 if run(args) else 0
        except (XpnnError, OSError, KeyboardInterrupt):  # which rank 0 is told, and tells
            return 2


def _start(args: argparse.Namespace) -> int:
    """Start processes that run the same command, and return their exit status."""
    if args.source == STDIN:
        raise OptionError("--processes: expected a file, got - for standard input, which only one process can read.")
    words = command(args.processes, ["-m", "xpnn", *args.argv], "--processes")
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **os.environ}
    with lifeline() as variables, subprocess.Popen(words, env=environment | variables) as started:
        while True:
            try:
                status = started.wait()
            except KeyboardInterrupt as error:  # Ctrl-C has reached them already; other signals have not
                number = getattr(error, "signum", signal.SIGINT)
                if number != signal.SIGINT:
                    started.send_signal(number)
                continue
            return status if status in (0, 1, 2, 129, 130, 143) else 2


@contextlib.contextmanager
def own_folder(group: Group, out: Path) -> Iterator[Path]:
    """Give each process a folder to write to: rank 0 the run's, others one that is gone afterwards.

    An unfinished run in the folder is copied, so that all go on with it; nobody goes on before all have done so.
    """
    if group.rank == 0:
        with together(group):
            pass
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        with together(group):
            if (out / STAGING).is_dir():
                shutil.copytree(out / STAGING, Path(folder, STAGING))
        yield Path(folder)
