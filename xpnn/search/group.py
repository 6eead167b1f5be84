"""Trials that are trained by one trainer: replicas of one shape, or a network of the user's own."""

from __future__ import annotations

import functools
import logging
import math
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from ..backend import to_numpy
from ..errors import DivergenceError, XpnnError
from ..schedules import Schedule
from ..training import Callback, Trainer
from ..training.epoch import Epoch
from ..training.feed import Feed
from ..training.history import missing_column
from .configuration import Common, Plan, build
from .result import Trial

__all__ = ["Group", "Keeper", "Progress", "ReplicaGroup", "SingleGroup", "Start"]

_LOG = logging.getLogger("xpnn")
_SUFFIX = "_replicas"
_PAUSE = "the search pauses it"


class Keeper(Protocol):
    """Writes now and then what a search needs to go on."""

    @property
    def due(self) -> bool:
        """Whether it is time again."""

    def write(self) -> None:
        """Write now."""


class Progress:
    """What all groups of a search share: the ranking, the clock, the bar and what is kept.

    `seconds` may still be spent; `bar` advances by one for each epoch of each network.
    """

    def __init__(self, monitor: str, mode: Literal["min", "max"], seconds: float, bar: Any = None) -> None:
        self.monitor, self.mode, self.seconds, self.bar = monitor, mode, seconds, bar
        self.sign = 1.0 if mode == "min" else -1.0
        self.best: float = math.nan
        self.began = time.monotonic()
        self.skipped = 0  # epochs that are not waited for
        self.keeper: Keeper | None = None

    @property
    def used(self) -> float:
        """Seconds since the search began, those between two parts of it left out."""
        return time.monotonic() - self.began

    @property
    def over(self) -> bool:
        """Whether the time is."""
        return self.used >= self.seconds

    def note(self, trial: Trial, row: dict[str, Any], seconds: float) -> None:
        """Add an epoch to a trial, once: a hook that was cut off is called again."""
        if len(trial.history) >= row["epoch"]:
            return
        trial.history.append(row)
        trial.seconds += seconds
        self.judge(trial, row)
        self._show()

    def judge(self, trial: Trial, row: dict[str, Any]) -> None:
        """See whether an epoch is the best of its trial, or of all."""
        value = float(row[self.monitor])
        if math.isfinite(value) and not self.sign * value >= self.sign * trial.score:
            trial.score, trial.best_epoch = value, row["epoch"]
        self.compare(value)

    def compare(self, value: float) -> None:
        """See whether a value of the monitored column is the best of all."""
        if math.isfinite(value) and not self.sign * value >= self.sign * self.best:
            self.best = value

    def take(self, rows: Sequence[dict[str, Any]]) -> None:
        """Show epochs that another process has noted."""
        for row in rows:
            self.compare(float(row[self.monitor]))
            self._show()

    def _show(self) -> None:
        if self.bar is not None:
            self.bar.set_postfix({self.monitor: f"{self.best:.4g}"}, refresh=False)
            self.bar.update(1)

    def skip(self, epochs: int) -> None:
        """Expect that many epochs of one network less."""
        self.skipped += epochs
        if self.bar is not None:
            self.bar.total -= epochs


class Group(Callback):
    """Trials with one trainer, whose last callback it is, advanced in stages.

    `trials` are those still in training, in the order of the replicas; `data` are arguments of `Trainer.fit` but for
    epochs and batch size.  Schedules that need the length of training are given the whole, `epochs`.
    """

    trainer: Trainer
    alone = False  # whether there is but one network, whose divergence is the trainer's

    def __init__(self, trials: Sequence[Trial], progress: Progress, data: dict[str, Any], epochs: int) -> None:
        self.trials, self.progress, self.data, self.epochs = list(trials), progress, data, epochs
        self.ended = False  # by a callback of the user's
        self._target = 0

    def advance(self, target: int) -> None:
        """Train up to epoch `target`, or until time is over."""
        self._target = target
        for trial in self.trials:
            trial.status = "running" if trial.status == "not started" else trial.status
        if any(trial.status == "diverged" for trial in self.trials):  # cut off behind the epoch in which they did
            self._leave_behind(target)
        while self._goes_on(target):
            # Given the whole length each time, a schedule does not notice that training pauses.
            rest = self.epochs - self.trainer.epoch
            try:
                self.trainer.fit(**self.data, **self.trials[0].fit_options, epochs=rest)
            except DivergenceError:
                if not self.alone:
                    raise  # a hook or a part of the user's raised it
                self.lose(self.trials[0])
            except BaseException:
                self._keep_what_is_whole()
                raise
            else:
                self.ended = self.trainer.stop_reason not in (None, _PAUSE) and self.trainer.epoch < self.epochs
                if self.ended:
                    self.progress.skip(target - self.trainer.epoch)
            self._leave_behind(target)

    def send_off(self) -> None:
        """Let go of what stays where it is when the group goes to another process."""
        self.progress, self.data = Progress(self.progress.monitor, self.progress.mode, 0.0), {}

    def take_back(self, trials: Sequence[Trial], progress: Progress, data: dict[str, Any]) -> None:
        """Belong here, after it has come from another process."""
        self.trials, self.progress, self.data = list(trials), progress, data

    def lose(self, trial: Trial) -> None:
        """Note that a trial has diverged."""
        trial.status, trial.score, trial.best_epoch = "diverged", math.nan, None

    def _leave_behind(self, target: int) -> None:
        """Go on without those that have diverged."""
        for trial in self.trials:
            if trial.status == "diverged":
                self.progress.skip(target - trial.epochs)
        self.keep([k for k, trial in enumerate(self.trials) if trial.status != "diverged"])

    def _goes_on(self, target: int) -> bool:
        """Whether there is more to train; of an epoch that is made, hooks may be left to be called."""
        if not self.trials or self.ended:
            return False
        suspended = self.trainer.suspended
        if suspended is not None and suspended.moment != "on_epoch_begin":
            return True
        return self.trainer.epoch < target and not self.progress.over

    def _keep_what_is_whole(self) -> None:
        """Write where a fit stands that was cut off; where it cannot go on exactly, what was written before holds."""
        keeper = self.progress.keeper
        if keeper is None or self.trainer.suspended is None:
            return
        try:
            keeper.write()
        except (XpnnError, OSError) as error:  # the other error is the one to tell
            _LOG.warning("search: %s What was written before is kept.", error)

    def most_steps(self) -> int | None:
        """Ask to be called between steps, if there is something to keep."""
        return None if self.progress.keeper is None else sys.maxsize

    def between_steps(self, trainer: Trainer) -> None:
        """Write what the search needs to go on, if it is time."""
        if self.progress.keeper is not None and self.progress.keeper.due:
            self.progress.keeper.write()

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Read the epoch, and stop at the target.  As the last callback, it sees a stop by another."""
        row = trainer.history.rows[-1]
        seconds = row["seconds"] / len(self.trials)
        lost = self.diverged(row)
        for trial, bad, own in zip(self.trials, lost, self.own(row), strict=True):
            if self.progress.monitor not in own:
                raise missing_column(self, self.progress.monitor, own)
            if bad:
                self.lose(trial)
            else:
                self.progress.note(trial, own, seconds)
        if trainer.stop_reason is None and (trainer.epoch >= self._target or self.progress.over or any(lost)):
            # Callbacks of one's own go on with their state, and with the weights that they had not put back yet.
            trainer.stop(_PAUSE, pause=self.alone and trainer.epoch < self.epochs)

    def own(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return each trial's part of a row of the history."""
        raise NotImplementedError

    def diverged(self, row: dict[str, Any]) -> Sequence[bool]:
        """Return which trials did, in the epoch of this row."""
        return [False] * len(self.trials)

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the trials only."""
        raise NotImplementedError


#: Begins a group, given ``progress=``: holds its trials as the first argument, and ``data=``.
Start: TypeAlias = "functools.partial[Any]"


class _Replicas(Trainer):
    """A trainer that remembers with which schedule it trained, and goes on where replicas diverge."""

    resolved: Schedule | None = None
    length: int | None = None  # of training, as the schedule counts

    def run_epoch(
        self, train: Feed, valid: Feed | None, batch_size: int, schedule: Schedule, shuffle: bool
    ) -> dict[str, Any]:
        """Train over all batches once, as every trainer does."""
        steps = 1 if schedule.unit == "epoch" else -(-len(train) // batch_size)
        self.resolved, self.length = schedule, steps * self.epochs_planned
        return super().run_epoch(train, valid, batch_size, schedule, shuffle)

    def divergence(self, losses: np.ndarray, epoch: Epoch) -> None:
        """Let the epoch go on: what is not finite in one network disturbs no other, and its group leaves it behind."""


class ReplicaGroup(Group):
    """Networks of one shape on the replica axis."""

    def __init__(
        self,
        trials: Sequence[Trial],
        progress: Progress,
        data: dict[str, Any],
        epochs: int,
        *,
        plans: Sequence[Plan],
        common: Common,
    ) -> None:
        super().__init__(trials, progress, data, epochs)
        self.plans, self.common = list(plans), common
        self.pattern = [any(dropped) for dropped in zip(*(plan.pattern for plan in plans), strict=True)]
        self.trainer: _Replicas = self._build(self.plans)

    def _build(self, plans: Sequence[Plan]) -> _Replicas:
        return build(plans, self.common, replicated=True, pattern=self.pattern, kind=_Replicas, callbacks=[self])

    def on_epoch_trained(self, trainer: Trainer) -> None:
        """Note with which schedule it trained."""
        for trial in self.trials:
            trial.schedule, trial.length = self.trainer.resolved, self.trainer.length

    def own(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return each replica's values, under the names that a single network has for them."""
        names = [name for name in row if f"{name}{_SUFFIX}" in row]
        for k in range(len(self.trials)):
            values = {name: row[f"{name}{_SUFFIX}"][k] for name in names}
            yield {"epoch": row["epoch"], **values, "lr": row["lr"][k]}

    def diverged(self, row: dict[str, Any]) -> Sequence[bool]:
        """Return which replicas did: a loss was not finite, or a weight after the last step."""
        xp, values = self.trainer.backend.xp, self.trainer.net.store.values
        whole = to_numpy(xp.all(xp.isfinite(values), axis=-1))
        losses = row[f"loss{_SUFFIX}"]
        return [not (math.isfinite(loss) and ok) for loss, ok in zip(losses, whole, strict=True)]

    def keep(self, places: Sequence[int]) -> None:
        """Move some of the replicas, with all their state, to a trainer of their own."""
        if len(places) == len(self.trials):
            return
        trials, plans = [self.trials[k] for k in places], [self.plans[k] for k in places]
        if not places:
            self.trials, self.plans = trials, plans
            return
        old, index = self.trainer, list(places)
        with old.backend.active():
            new = self._build(plans)
            new.net.load_state_dict({name: array[index] for name, array in old.net.state_dict().items()})
            new.optimizer.bind(new.net.store)
            for name, array in old.optimizer.state.items():
                new.optimizer.state[name][...] = old.backend.asarray(to_numpy(array)[index])
        new.optimizer.t, new.epoch, new.step, new.history = old.optimizer.t, old.epoch, old.step, old.history
        self.trials, self.plans, self.trainer = trials, plans, new


class SingleGroup(Group):
    """One network of the user's own making."""

    alone = True

    def __init__(self, trials: Sequence[Trial], progress: Progress, data: dict[str, Any], epochs: int) -> None:
        super().__init__(trials, progress, data, epochs)
        self.trainer = trials[0].make()
        self.trainer.callbacks.append(self)

    def own(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return the row, without what differs from run to run."""
        yield {name: value for name, value in row.items() if name != "seconds"}

    def keep(self, places: Sequence[int]) -> None:
        """Go on, or not."""
        self.trials = [self.trials[k] for k in places]
