"""Groups of a search in processes of their own: sent out, trained up to a rung, taken back."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from ..jobs import carried, over_jobs
from .group import Group, Progress, Start
from .result import Trial

__all__ = ["Errand", "Outcome", "returned"]

_WHERE = "search.run"
# Of a trial, what was given: a copy of it came back.
_GIVEN = ("config", "fit_options", "_make")


class Outcome(NamedTuple):
    """What became of a group in a process.

    `trials` are all that it was sent with, and `alive` the places among them of those that it still trains.
    """

    group: Group
    trials: Sequence[Trial]
    alive: Sequence[int]
    skipped: int


@dataclass(frozen=True)
class Errand:
    """A group, begun or not, on its way to a process.

    The data travel beside the group, so that joblib shares large arrays among processes; the group itself as bytes, of
    which arrays come that can be written to.
    """

    trials: Sequence[Trial]
    data: dict[str, Any]
    content: bytes
    target: int
    monitor: str
    mode: Literal["min", "max"]
    end: float

    @classmethod
    def of(cls, given: Group | Start, target: int, progress: Progress) -> Errand:
        """Prepare to advance a group, or what begins one, to epoch `target`."""
        if isinstance(given, Group):
            trials, data = list(given.trials), given.data
            given.send_off()
            content: Any = given
        else:
            trials, data = list(given.args[0]), given.keywords["data"]
            content = (given.func, given.args, {k: v for k, v in given.keywords.items() if k != "data"})
        # Not the steady clock: other machines have another.
        end = time.time() + progress.seconds - progress.used
        return cls(trials, data, carried(content, _WHERE), target, progress.monitor, progress.mode, end)

    def settle(self, outcome: Outcome, progress: Progress) -> Group:
        """Write into the trials of this process what they have become, and return the group with these."""
        for trial, found in zip(self.trials, outcome.trials, strict=True):
            news = found.history.rows[len(trial.history) :]
            vars(trial).update({name: value for name, value in vars(found).items() if name not in _GIVEN})
            progress.take(news)
        progress.skip(outcome.skipped)
        group = outcome.group
        group.take_back([self.trials[k] for k in outcome.alive], progress, self.data)
        return group


def returned(errands: Sequence[Errand], jobs: int) -> Iterator[tuple[int, Outcome]]:
    """Run errands in so many processes; yield the place and the outcome of each as it returns."""
    tasks = []
    for errand in errands:
        on_disk = [name for name, array in errand.data.items() if isinstance(array, np.memmap)]
        tasks.append((errand.content, errand.data, on_disk, errand.target, errand.monitor, errand.mode, errand.end))
    for place, content in over_jobs(_run, tasks, jobs, _WHERE):
        yield place, pickle.loads(content)


def _run(
    content: bytes,
    data: dict[str, Any],
    on_disk: Sequence[str],
    target: int,
    monitor: str,
    mode: Literal["min", "max"],
    end: float,
) -> bytes:
    """Advance a group, in a process of its own."""
    progress = Progress(monitor, mode, end - time.time())
    # joblib shares arrays by maps of memory; those that were files stay such.
    data = {
        name: np.asarray(array) if isinstance(array, np.memmap) and name not in on_disk else array
        for name, array in data.items()
    }
    given = pickle.loads(content)
    if isinstance(given, Group):
        group = given
        group.take_back(group.trials, progress, data)
    else:
        start, args, options = given
        group = start(*args, **options, data=data, progress=progress)
    trials = list(group.trials)
    group.advance(target)
    alive = [k for k, trial in enumerate(trials) if trial in group.trials]
    group.send_off()
    return carried(Outcome(group, trials, alive, progress.skipped), _WHERE)
