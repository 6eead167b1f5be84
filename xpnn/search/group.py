"""Trials that are trained by one trainer: replicas of one shape, or a network of the user's own."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from ..backend import to_numpy
from ..errors import DivergenceError
from ..schedules import Schedule
from ..training import Callback, Trainer
from ..training.epoch import Epoch
from ..training.feed import Feed
from ..training.history import missing_column
from .configuration import Common, Plan, build
from .result import Trial

__all__ = ["Group", "Progress", "ReplicaGroup", "SingleGroup"]

_SUFFIX = "_replicas"


class Progress:
    """What all groups of a search share: the ranking, the clock and the bar.

    `deadline` is on the clock of `time.monotonic`; `bar` advances by one for each epoch of each network.
    """

    def __init__(self, monitor: str, mode: Literal["min", "max"], deadline: float, bar: Any) -> None:
        self.monitor, self.mode, self.deadline, self.bar = monitor, mode, deadline, bar
        self.sign = 1.0 if mode == "min" else -1.0
        self.best: float = math.nan

    @property
    def over(self) -> bool:
        """Whether the time is."""
        return time.monotonic() >= self.deadline

    def note(self, trial: Trial, row: dict[str, Any], seconds: float) -> None:
        """Add an epoch to a trial."""
        trial.history.append(row)
        trial.seconds += seconds
        value = float(row[self.monitor])
        if math.isfinite(value) and not self.sign * value >= self.sign * trial.score:
            trial.score, trial.best_epoch = value, row["epoch"]
        if math.isfinite(value) and not self.sign * value >= self.sign * self.best:
            self.best = value
        if self.bar is not None:
            self.bar.set_postfix({self.monitor: f"{self.best:.4g}"}, refresh=False)
            self.bar.update(1)

    def skip(self, epochs: int) -> None:
        """Expect that many epochs of one network less."""
        if self.bar is not None:
            self.bar.total -= epochs


class Group(Callback):
    """Trials with one trainer, whose last callback it is, advanced in stages.

    `trials` are those still in training, in the order of the replicas; `data` are arguments of `Trainer.fit` but for
    epochs and batch size.  Schedules that need the length of training are given the whole, `epochs`.
    """

    trainer: Trainer

    def __init__(self, trials: Sequence[Trial], progress: Progress, data: dict[str, Any], epochs: int) -> None:
        self.trials, self.progress, self.data, self.epochs = list(trials), progress, data, epochs
        self.ended = False  # by a callback of the user's
        self._target = 0
        self._stopped = False

    def advance(self, target: int) -> None:
        """Train up to epoch `target`, or until time is over."""
        self._target = target
        for trial in self.trials:
            trial.status = "running"
        while self.trials and self.trainer.epoch < target and not (self.progress.over or self.ended):
            self._stopped = False
            # Given the whole length each time, a schedule does not notice that training pauses.
            rest = self.epochs - self.trainer.epoch
            try:
                self.trainer.fit(**self.data, **self.trials[0].fit_options, epochs=rest)
            except DivergenceError:
                lost = self.diverged()
                if not any(lost):
                    raise  # not a trainer's own: a hook or a part of the user's raised it
                for trial, bad in zip(self.trials, lost, strict=True):
                    if bad:
                        trial.status, trial.score, trial.best_epoch = "diverged", math.nan, None
                        self.progress.skip(target - trial.epochs)
                self.keep([k for k, bad in enumerate(lost) if not bad])
            else:
                self.ended = not self._stopped and self.trainer.epoch < self.epochs
                if self.ended:
                    self.progress.skip(target - self.trainer.epoch)

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Read the epoch, and stop at the target.  As the last callback, it sees a stop by another."""
        row = trainer.history.rows[-1]
        seconds = row["seconds"] / len(self.trials)
        for trial, own in zip(self.trials, self.own(row), strict=True):
            if self.progress.monitor not in own:
                raise missing_column(self, self.progress.monitor, own)
            self.progress.note(trial, own, seconds)
        if trainer.stop_reason is None and (trainer.epoch >= self._target or self.progress.over):
            self._stopped = True
            trainer.stop("the search pauses it")

    def own(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return each trial's part of a row of the history."""
        raise NotImplementedError

    def diverged(self) -> Sequence[bool]:
        """Return which trials did."""
        raise NotImplementedError

    def keep(self, places: Sequence[int]) -> None:
        """Go on with some of the trials only."""
        raise NotImplementedError


class _Replicas(Trainer):
    """A trainer that remembers which replicas diverged, and with which schedule it trained."""

    resolved: Schedule | None = None
    lost: Sequence[bool] = ()

    def run_epoch(
        self, train: Feed, valid: Feed | None, batch_size: int, schedule: Schedule, shuffle: bool
    ) -> dict[str, Any]:
        """Train over all batches once, as every trainer does."""
        self.resolved = schedule
        return super().run_epoch(train, valid, batch_size, schedule, shuffle)

    def divergence(self, losses: np.ndarray, epoch: Epoch) -> DivergenceError:
        """Note which replicas diverged, and undo the epoch."""
        finite = np.isfinite(losses).all(axis=0) & np.isfinite(to_numpy(self.net.store.values)).all(axis=-1)
        self.lost = [not ok for ok in finite]
        epoch.begun.restore(self)
        return DivergenceError(f"search: {sum(self.lost)} of {len(self.lost)} networks diverged.")


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
        self.trainer: _Replicas = self._build()

    def _build(self) -> _Replicas:
        return build(self.plans, self.common, replicated=True, pattern=self.pattern, kind=_Replicas, callbacks=[self])

    def own(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return each replica's values, under the names that a single network has for them."""
        names = [name for name in row if f"{name}{_SUFFIX}" in row]
        for k, trial in enumerate(self.trials):
            trial.schedule = self.trainer.resolved
            values = {name: row[f"{name}{_SUFFIX}"][k] for name in names}
            yield {"epoch": row["epoch"], **values, "lr": row["lr"][k]}

    def diverged(self) -> Sequence[bool]:
        """Return which replicas did."""
        return self.trainer.lost

    def keep(self, places: Sequence[int]) -> None:
        """Move some of the replicas, with all their state, to a trainer of their own."""
        if len(places) == len(self.trials):
            return
        self.trials, self.plans = [self.trials[k] for k in places], [self.plans[k] for k in places]
        if not places:
            return
        old, index = self.trainer, list(places)
        with old.backend.active():
            new = self._build()
            new.net.load_state_dict({name: array[index] for name, array in old.net.state_dict().items()})
            new.optimizer.bind(new.net.store)
            for name, array in old.optimizer.state.items():
                new.optimizer.state[name][...] = old.backend.asarray(to_numpy(array)[index])
        new.optimizer.t, new.epoch, new.step, new.history = old.optimizer.t, old.epoch, old.step, old.history
        self.trainer = new


class SingleGroup(Group):
    """One network of the user's own making."""

    def __init__(self, trials: Sequence[Trial], progress: Progress, data: dict[str, Any], epochs: int) -> None:
        super().__init__(trials, progress, data, epochs)
        self.trainer = trials[0].make()
        self.trainer.callbacks.append(self)

    def own(self, row: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Return the row, without what differs from run to run."""
        yield {name: value for name, value in row.items() if name != "seconds"}

    def diverged(self) -> Sequence[bool]:
        """Return that it did."""
        return [True]

    def keep(self, places: Sequence[int]) -> None:
        """Go on, or not."""
        self.trials = [self.trials[k] for k in places]
