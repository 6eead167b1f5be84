"""A search in a file: killed today, gone on with tomorrow, with the results of one that was not.

One safetensors file holds what the search was asked for (for comparison), the trials with their histories, how far it
has climbed, and the state of every trainer that is still needed.  Networks, losses and optimizers are made anew from
the configurations; what training had changed in them is put back (`xpnn.training.resume`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..backend import Backend, to_numpy
from ..checkpoint import read, write
from ..config import reading
from ..errors import DataError, FileFormatError, OptionError
from ..files import PathLike
from ..schema import ANY, NUMBER, at_least, expect
from ..training.resume import restore_state, state_of
from ..training.state import digest_of
from .climb import Climb
from .group import Group
from .result import Trial

__all__ = ["SearchFile", "asked_for"]

_WHERE = "search.run"
# A group's or a rung's end is written down if writing takes no more than this share of the time; else a while later.
_SHARE = 0.05
_OWN = ("eliminated", "diverged")  # all else that a trial may be is found out again
_SCHEMA: dict[str, Any] = {
    "sizes": [at_least(1)],  # files of 0.1 do not say it
    "asked": {"configurations": [{}], "data": {str: str}, "options": {}},
    **dict.fromkeys(("rung", "skipped"), at_least(0)),
    "seconds": at_least(0, float),
    "waiting": [at_least(0)],
    "ended": [at_least(0)],
    "trials": [
        {
            "status": (*_OWN, "running"),
            "seconds": at_least(0, float),
            "length": (None, at_least(1)),
            "history": [{"epoch": at_least(1), str: (NUMBER, [NUMBER])}],
        }
    ],
    "groups": [{"start": at_least(0), "trials": [at_least(0)], "ended": bool, "trainer": {str: ANY}}],
}


def asked_for(
    configurations: Sequence[Mapping[str, Any]], data: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return plain data that tell a search from others: its configurations, the content of its data, its options."""
    return {
        "configurations": [{name: _plain(value) for name, value in given.items()} for given in configurations],
        "data": {name: _content(array) for name, array in data.items()},
        "options": {name: _plain(value) for name, value in options.items()},
    }


def _content(array: Any) -> str:
    host = to_numpy(array)
    return digest_of((str(host.dtype), host.shape), [host]).hex()[:32]


def _plain(value: Any) -> Any:
    """Return plain data for a value; of objects what tells them apart, as far as their text does."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return value.item() if value.shape == () else _content(value)
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Backend):
        return f"{value.spec} {value.dtype_name}"
    kind = value if hasattr(value, "__qualname__") else type(value)
    # The text of an object of somebody's own may hold its address.
    own = kind is not value and kind.__module__.startswith("xpnn.")
    return repr(value) if own else kind.__qualname__


class SearchFile:
    """The file of one search.

    Parameters
    ----------
    path : path
        The file.
    asked : dict
        From `asked_for`.
    seconds : float
        From one writing to the next, at most, while networks are trained.
    """

    def __init__(self, path: PathLike, asked: dict[str, Any], seconds: float) -> None:
        self.path, self.asked, self.seconds = Path(path).expanduser(), asked, seconds
        self._climb: Climb | None = None
        self._wrote, self._cost = time.monotonic(), 0.0
        self._found: tuple[dict[str, Any], dict[str, Any]] | None = None  # read, and not used yet

    # -- writing ------------------------------------------------------------------------------------------------
    def attach(self, climb: Climb) -> None:
        """Write where `climb` stands from now on; at once, so that a path that cannot be written to is told."""
        self._climb = climb
        climb.progress.keeper = self
        self.write()

    @property
    def due(self) -> bool:
        """Whether it is time again."""
        return time.monotonic() - self._wrote >= self.seconds

    def note(self, climb: Climb) -> None:
        """Write that a group or a rung has come to its end, unless the last writing was long and is not long ago."""
        if time.monotonic() - self._wrote >= self._cost / _SHARE:
            self.write()

    def write(self) -> None:
        """Write now."""
        if self._climb is None:
            return
        began = time.monotonic()
        plain, tensors = _described(self._climb)
        write(self.path, tensors, {"search": {"asked": self.asked, **plain}})
        self._wrote = time.monotonic()
        self._cost = self._wrote - began

    # -- reading ------------------------------------------------------------------------------------------------
    def restore(self, climb: Climb) -> None:
        """Put a climb that has not begun where the file says, if there is one, and it is that of this search.

        Raises DataError or OptionError if it is of another search, FileFormatError if it is damaged.
        """
        if not self.path.exists():
            return
        hint = "Copy it again, or remove it to search anew."
        (tensors, meta), self._found = self._found or self._read(), None
        plain = meta["search"]
        with reading(_WHERE, "what a search writes", got=f"a bad entry in {self.path}", hint=hint):
            expect(plain, _SCHEMA if "sizes" in plain else {k: v for k, v in _SCHEMA.items() if k != "sizes"})
            self._compare(plain["asked"])
            _restore(climb, plain, tensors)

    def sizes(self) -> list[int] | None:
        """Return how many networks each group begins with, of a search that has begun; None where no file says it."""
        if not self.path.exists():
            return None
        self._found = self._read()
        sizes = self._found[1]["search"].get("sizes") if isinstance(self._found[1]["search"], dict) else None
        sound = isinstance(sizes, list) and all(type(n) is int and n > 0 for n in sizes)
        return sizes if sound else None

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what the file holds."""
        try:
            tensors, meta = read(self.path)
        except FileFormatError as error:
            raise FileFormatError(f"{_WHERE}: {error} Or remove it to search anew.") from error
        if "search" not in meta:
            raise FileFormatError(
                f"{_WHERE}: expected a file that a search wrote, got {self.path}, which holds something else. "
                "Choose another name for checkpoint."
            )
        return tensors, meta

    def _compare(self, before: dict[str, Any]) -> None:
        """Refuse a file of another search, and say in what it differs."""
        path, asked = self.path, self.asked
        hint = "Give it as it was, or remove the file to search anew."
        for name in {**asked["data"], **before["data"]}:
            now, then = asked["data"].get(name), before["data"].get(name)
            if now != then:
                got = "none" if now is None else "another" if then else "one where there was none"
                raise DataError(f"{_WHERE}: expected the {name} that {path} was begun with, got {got}. {hint}")
        for name, value in asked["options"].items():
            was = before["options"].get(name)
            if was != value:
                raise OptionError(
                    f"{_WHERE}: expected {name}={was!r}, with which {path} was begun, got {value!r}. {hint}"
                )
        old, new = before["configurations"], asked["configurations"]
        if len(old) != len(new):
            raise OptionError(
                f"{_WHERE}: expected the {len(old)} configurations that {path} was begun with, got {len(new)}. "
                "Give those, or remove the file to search anew."
            )
        for k, (one, other) in enumerate(zip(old, new, strict=True)):
            if one != other:
                names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
                told = ", ".join(f"{name} {other.get(name)!r} in place of {one.get(name)!r}" for name in names)
                raise OptionError(
                    f"{_WHERE}: expected the configurations that {path} was begun with, got another number {k + 1}: "
                    f"{told}. Give those, or remove the file to search anew."
                )


def _described(climb: Climb) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return where a climb stands, as JSON-able values and named arrays."""
    groups: list[dict[str, Any]] = []
    tensors: dict[str, Any] = {}
    for place, group in climb.groups.items():
        trainer, arrays = state_of(group.trainer)
        tensors |= {f"{place}/{name}": array for name, array in arrays.items()}
        own = [climb.places[id(trial)] for trial in group.trials]
        groups.append({"start": place, "trials": own, "ended": group.ended, "trainer": trainer})
    trials = [
        {
            "status": trial.status if trial.status in _OWN else "running",
            "seconds": trial.seconds,
            "length": trial.length,
            "history": trial.history.rows,
        }
        for trial in climb.trials
    ]
    plain = {
        "sizes": _sizes(climb),
        "rung": climb.rung,
        "skipped": climb.progress.skipped,
        "seconds": climb.progress.used,
        "waiting": climb.waiting,
        "ended": sorted(climb.ended),
        "trials": trials,
        "groups": groups,
    }
    return plain, tensors


def _sizes(climb: Climb) -> list[int]:
    """Return how many networks each group begins with."""
    return [len(start.args[0]) for start in climb.starts]


def _restore(climb: Climb, plain: dict[str, Any], tensors: dict[str, Any]) -> None:
    """Put a fresh climb where `_described` said one stood; raise ValueError where parts do not belong together."""
    n, places = len(climb.trials), range(len(climb.starts))
    if plain.get("sizes", None if plain["waiting"] else _sizes(climb)) != _sizes(climb):
        raise ValueError("its networks are grouped as another version, or another machine, would do it")
    begun = [group["start"] for group in plain["groups"]]
    fits = len(plain["trials"]) == n and plain["rung"] < len(climb.rungs) and all(k < n for k in plain["ended"])
    fits = fits and all(list(found) == sorted({*found} & {*places}) for found in (begun, plain["waiting"]))
    if not fits or {*begun} & {*plain["waiting"]}:
        raise ValueError("it has trials, rungs or groups that are not there")
    progress = climb.progress
    for trial, state in zip(climb.trials, plain["trials"], strict=True):
        _take_up(climb, trial, state)
    for described in plain["groups"]:
        group = climb.begin(described["start"])
        prefix = f"{described['start']}/"
        arrays = {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
        own = [climb.places[id(trial)] for trial in group.trials]
        if not described["trials"]:
            raise ValueError("a group has no trials")
        group.keep([own.index(place) for place in described["trials"]])
        if [climb.places[id(trial)] for trial in group.trials] != described["trials"]:
            raise ValueError("a group has trials of others")
        _restore_group(climb, group, described, arrays)
    climb.waiting = list(plain["waiting"])
    climb.rung, climb.ended = plain["rung"], set(plain["ended"])
    progress.skipped = plain["skipped"]
    progress.began = time.monotonic() - plain["seconds"]


def _take_up(climb: Climb, trial: Trial, state: dict[str, Any]) -> None:
    """Give a trial its past."""
    rows = state["history"]
    expect(rows, [{climb.progress.monitor: NUMBER}])
    if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)) or len(rows) > climb.rungs[-1][1]:
        raise ValueError("a history has epochs that there were not")
    for row in rows:
        trial.history.append(row)
        climb.progress.judge(trial, row)
    trial.seconds, trial.length = state["seconds"], state["length"]
    if state["status"] in _OWN:
        trial.status = state["status"]
    if trial.status == "diverged":
        trial.score, trial.best_epoch = math.nan, None


def _restore_group(climb: Climb, group: Group, described: dict[str, Any], arrays: dict[str, Any]) -> None:
    """Give a group its trainer's past."""
    trainer = group.trainer
    restore_state(trainer, described["trainer"], arrays)
    group.ended = described["ended"]
    rows, moment = trainer.history.rows, trainer.suspended and trainer.suspended.moment
    # One that diverged in the last epoch has no row of it, and stands here until the others go on without it.
    lead = {trainer.epoch - trial.epochs for trial in group.trials if trial.status != "diverged"}
    most = 1 if moment == "on_epoch_end" else 0  # the hook that notes the epoch is still to be called
    if len(rows) != trainer.epoch or trainer.epoch > climb.rungs[-1][1] or not lead <= {0, most}:
        raise ValueError("a trainer has made other epochs than its trials")
    if moment == "on_epoch_end":
        expect(list(group.own(rows[-1])), [{"epoch": trainer.epoch, climb.progress.monitor: NUMBER}])
