"""``xpnn train --resume``: what the run was begun with, and whether the same is asked for now, of the same data."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import DataError, FileFormatError, OptionError
from ..files import file_digest, parse_json
from ..staging import STAGING, Staging, plan_of, recover
from ..training import Checkpoint, CSVLogger, Trainer
from .recipe import option, settle
from .sources import BUILTIN, STDIN, kind_of, stem_of
from .system import versions

__all__ = [
    "CHECKPOINT",
    "NO_SETTINGS",
    "HistoryLog",
    "Job",
    "PeriodicCheckpoint",
    "changed_versions",
    "check_data",
    "find_job",
    "new_plan",
]

#: Name of the trainer's file in the staging folder.
CHECKPOINT = "checkpoint.safetensors"
#: What does not change the result.
NO_SETTINGS = (
    *("run", "command", "argv", "parse", "signals", "entries", "one_split"),
    *("json", "quiet", "out", "report", "resume", "checkpoint_seconds", "group", "processes", "jobs"),
)
# What may be raised when a run goes on.
_LIMITS = {"train": ("epochs", "max_seconds"), "search": ("max_seconds",)}
_PATHS = ("source", "target", "test_file", "test_target", "data_dir")


class Job(NamedTuple):
    """What ``xpnn train`` is to do."""

    settings: argparse.Namespace  # all filled in
    out: Path
    plan: dict[str, Any] | None = None  # that of the run to go on with
    cwd: Path = Path()  # where relative paths begin
    finished: dict[str, Any] | None = None  # scores.json of a run that needs no more


def find_job(args: argparse.Namespace) -> Job:
    """Return a new run; or, with --resume, the one to go on with, if what is asked for now is what it began with."""
    if not args.resume:
        return Job(settle(args), _out_of(args))
    if args.source == STDIN:
        raise OptionError("--resume: expected a file, got - for standard input, which is not kept. Train on a file.")
    named = args.source not in BUILTIN and Path(args.source).expanduser().is_dir()  # xpnn train --resume OUT
    if named and args.out:
        raise OptionError(f"--out: expected no option beside the folder {args.source}, got {args.out}. Leave it out.")
    out = Path(args.source).expanduser().resolve() if named else _out_of(args)
    if recover(out) == "running":
        raise DataError(f"--resume: expected a run that has ended, got one that is running in {out}. Wait for its end.")
    plan = plan_of(out)
    if plan is None:
        return _without_plan(args, out, named=named)
    limits = _LIMITS[args.command]
    try:
        begun = plan["argv"][0]
        if begun in _LIMITS and begun != args.command:
            raise DataError(
                f"--resume: expected a run of xpnn {args.command}, got one of xpnn {begun} in {out}. Go on with "
                f"xpnn {begun} --resume {out}."
            )
        stored, cwd = args.parse(plan["argv"][1:]), Path(plan["cwd"])
    except (LookupError, TypeError) as error:
        raise FileFormatError(
            f"{out / STAGING}: expected the plan of a run, got a damaged one. Remove this folder, and train again."
        ) from error
    asked = _asked(args, stored) if named else args
    if stored.source == STDIN:
        raise OptionError(f"--resume: expected a run on a file, got one on standard input in {out}. Train anew.")
    here = cwd if named and cwd.is_dir() else Path()
    _refuse_differences(
        out,
        {name: _comparable(name, value, cwd) for name, value in vars(stored).items()},
        {name: _comparable(name, value, here) for name, value in vars(asked).items()},
        ignored=limits,
    )
    with contextlib.chdir(here):
        settings = settle(asked)
        first = settle(argparse.Namespace(**{**vars(asked), **{name: getattr(stored, name) for name in limits}}))
    for name in limits:
        least, value = (math.inf if v is None else v for v in (getattr(first, name), getattr(settings, name)))
        if value < least:
            raise OptionError(
                f"{option(name)}: expected at least {least:g}, with which the run began, got {value:g}. Raise it."
            )
    settings.warmup = first.warmup  # the schedule stays; by default its warm-up is a share of the epochs
    settings.argv = plan["argv"]
    return Job(settings, out, plan, here)


def _out_of(args: argparse.Namespace) -> Path:
    """Return the folder to write to."""
    name = args.source if args.source in BUILTIN else stem_of(args.source)
    name += "-search" if args.command == "search" else ""
    return Path(args.out or Path("runs", name)).expanduser()


def _asked(args: argparse.Namespace, stored: argparse.Namespace) -> argparse.Namespace:
    """Return the options now given, and those of before where none are."""
    # The parser fills in only what is not there; targets that are named anew are no more targets.
    known = {name: value for name, value in vars(stored).items() if name != "target"}
    asked: argparse.Namespace = args.parse(args.argv[1:], argparse.Namespace(**known))
    asked.target = stored.target if asked.target is None else asked.target
    asked.source, asked.command, asked.signals = stored.source, args.command, args.signals
    asked.group = getattr(args, "group", None)
    asked.json, asked.quiet, asked.checkpoint_seconds = args.json, args.quiet, args.checkpoint_seconds
    return asked


def _without_plan(args: argparse.Namespace, out: Path, *, named: bool) -> Job:
    """Return what --resume is to do where nothing is unfinished: nothing, or to begin."""
    scores = out / "scores.json"
    if not scores.is_file():
        if named:
            raise DataError(
                f"--resume: expected the folder of a run that has not ended, got {out}. "
                f"Pass the folder that was given to `xpnn {args.command} --out`."
            )
        return Job(settle(args), out)
    try:
        info = parse_json(scores.read_text(encoding="utf-8"))
        options, data = dict(info["options"]), dict(info.get("run", {}).get("data", {}))
        options["source"], info["epochs"]  # what is told of it
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(
            f"{scores}: expected what xpnn {args.command} writes, got a damaged file. Train again."
        ) from error
    if named:
        asked = _asked(args, argparse.Namespace(**options))
    else:
        asked = settle(args)
        check_data(asked, data)
    # What a recipe has filled in was not given; what "auto" stands for in a batch size is settled only when a run
    # begins; files are known by their content.
    ignored = [name for name, value in (("batch_size", not asked.batch_size), ("source", data)) if value]
    ignored += [name for name in info.get("recipe") or () if getattr(asked, name, None) is None] + ["warmup"]
    _refuse_differences(out, options, vars(asked), ignored=ignored)
    return Job(asked, out, finished=info)


def _comparable(name: str, value: Any, cwd: Path) -> Any:
    """Return an option's value; a path whole, for it may be given from another folder."""
    if name in _PATHS and isinstance(value, str) and (cwd / Path(value).expanduser()).exists():
        return os.path.realpath(cwd / Path(value).expanduser())
    return value


def _refuse_differences(out: Path, before: dict[str, Any], now: dict[str, Any], *, ignored: Sequence[str]) -> None:
    names = [name for name in before if name not in (*NO_SETTINGS, *ignored) and before[name] != now.get(name)]
    if names:
        name = names[0]
        word = option(name) if name != "source" else "SOURCE"
        others = f" ({', '.join(map(option, names[1:]))} too)" if names[1:] else ""
        raise OptionError(
            f"--resume: expected the options that the run in {out} began with, {word} {_told(before[name])}, got "
            f"{_told(now.get(name))}{others}. Give them as they were, or leave --resume out to train anew."
        )


def _told(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)


# -- plans ------------------------------------------------------------------------------------------------------
def new_plan(settings: argparse.Namespace, backend: str) -> dict[str, Any]:
    """Return what a run is begun with: enough to go on with it in another process."""
    return {
        "id": secrets.token_hex(8),
        "argv": [arg for arg in settings.argv if arg != "--resume"],
        "cwd": os.getcwd(),
        "data": _data_digests(settings),
        "backend": backend,
        "versions": versions(),
    }


def changed_versions(plan: dict[str, Any]) -> list[str]:
    """Return a note, if the run was begun with other versions of what it depends on."""
    before, now = plan.get("versions", {}), versions()
    changed = ", ".join(f"{name} {before.get(name)}, now {now[name]}" for name in now if now[name] != before.get(name))
    return [f"begun with other versions, so last bits may differ: {changed}"] if changed else []


def _data_digests(settings: argparse.Namespace) -> dict[str, str]:
    """Return what tells the content of each data file apart, by the option that names it."""
    stream = kind_of(settings.source) == "stream"
    found = {}
    for name in ("source", "target", "test_file", "test_target"):
        value = getattr(settings, name)
        if value is None or (name == "target" and not stream) or not Path(value).expanduser().is_file():
            continue
        path = Path(value).expanduser()
        # Streams may be larger than what can be read in a reasonable time.
        status = path.stat()
        found[name] = f"{status.st_size} bytes, {status.st_mtime_ns}" if stream else file_digest(path)
    return found


def check_data(settings: argparse.Namespace, before: dict[str, str]) -> None:
    """Refuse data that have changed since the run began."""
    now = _data_digests(settings)
    for name, digest in before.items():
        if now.get(name) != digest:
            got = "another content in" if name in now else "no file"
            raise DataError(
                f"--resume: expected the data that the run began with, got {got} {getattr(settings, name)}. "
                "Put the file back, or leave --resume out to train anew."
            )


# -- what is kept while training --------------------------------------------------------------------------------
class HistoryLog(CSVLogger):
    """Writes the history as it grows: into the folder itself, to be followed there, unless an older run is in it."""

    def __init__(self, staging: Staging) -> None:
        super().__init__(staging.path / "history.csv")
        self.staging = staging
        self.shown = not any((staging.folder / name).exists() for name in ("model.safetensors", "scores.json"))

    def on_epoch_end(self, trainer: Trainer) -> None:
        super().on_epoch_end(trainer)
        if self.shown:
            self.staging.place("history.csv")


class PeriodicCheckpoint(Checkpoint):
    """Saves the trainer every so many seconds; what a fit leaves at its end is saved with the results."""

    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__(path, None, trainer=True, every_seconds=seconds)

    def on_fit_end(self, trainer: Trainer) -> None:
        self.finish()
