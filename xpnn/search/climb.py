"""Training all groups from rung to rung."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from ..training.signals import DeferredSignals
from .errands import Errand, returned
from .group import Group, Progress, Start
from .result import Trial

__all__ = ["Climb", "Occasion"]


class Occasion(Protocol):
    """Is told when something has come to its end."""

    def __call__(self, climb: Climb) -> None:
        """Write it down, if it is worth it."""


class Climb:
    """A search on its way: which groups are in training, and up to which rung.

    On a single rung no group waits for another, so they are trained one after the other, and one trainer lives at a
    time.  On several, all begin, and after each rung those are left behind that are not among the best.  With more than
    one job the groups of a rung are trained in processes of their own.

    Attributes
    ----------
    trials : sequence of Trial
        All of them.
    starts : sequence of callable
        What begins each group.
    rungs : sequence of (int, int)
        How many trials reach each rung, and the epochs that they have been trained for there.
    rung : int
        The present one.
    waiting : list of int
        Places, in `starts`, of the groups that have not begun.
    groups : dict of int to Group
        Those that are not done, by their places, in this order.
    ended : set of int
        Places, in `trials`, of those that a callback of their own has ended.
    jobs : int
        How many processes train, as `xpnn.jobs.read_jobs` returned it; 1 is this one.
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        starts: Sequence[Start],
        rungs: Sequence[tuple[int, int]],
        progress: Progress,
        jobs: int = 1,
    ) -> None:
        self.trials, self.starts, self.rungs, self.progress, self.jobs = trials, starts, rungs, progress, jobs
        self.rung = 0
        self.waiting = list(range(len(starts)))
        self.groups: dict[int, Group] = {}
        self.ended: set[int] = set()
        self.places = {id(trial): place for place, trial in enumerate(trials)}

    def begin(self, place: int) -> Group:
        """Begin a group."""
        group: Group = self.starts[place](progress=self.progress)
        self.groups[place] = group
        self.waiting.remove(place)
        return group

    def run(self, note: Occasion) -> None:
        """Train up to the last rung, or until time is over."""
        if len(self.rungs) > 1 and self.jobs == 1:
            for place in list(self.waiting):
                self.begin(place)
        while True:
            for _ in self._advance_all():
                note(self)
            if self.progress.over or self.rung + 1 == len(self.rungs):
                break
            self._select()
            note(self)
        for place, trial in enumerate(self.trials):
            if trial.status in ("running", "not started"):
                whole = trial.epochs >= self.rungs[-1][1] or place in self.ended
                trial.status = "finished" if whole else "out of time" if trial.epochs else "not started"

    def _in_turn(self) -> Iterator[tuple[int, Group]]:
        for place in sorted([*self.groups, *self.waiting]):
            if place in self.groups:
                yield place, self.groups[place]
            elif not self.progress.over:
                yield place, self.begin(place)

    def _advance_all(self) -> Iterator[None]:
        """Train all groups up to the rung, and pause after each."""
        target = self.rungs[self.rung][1]
        if self.jobs == 1:
            for place, group in self._in_turn():
                group.advance(target)
                self._settle(place, group)
                yield
            return
        places = sorted([*self.groups, *self.waiting])
        sent = [Errand.of(self.groups.get(place, self.starts[place]), target, self.progress) for place in places]
        for which, outcome in returned(sent, self.jobs):
            place = places[which]
            with DeferredSignals():  # what has come back is written down as a whole
                self.groups[place] = sent[which].settle(outcome, self.progress)
                self.waiting = [other for other in self.waiting if other != place]
                self._settle(place, self.groups[place])
            yield

    def _settle(self, place: int, group: Group) -> None:
        """Let a group go that has reached the rung, once there is nothing left for it to do."""
        target = self.rungs[self.rung][1]
        if group.ended:
            self.ended |= {self.places[id(trial)] for trial in group.trials}
        done = group.ended or group.trainer.epoch >= target
        if not group.trials or (done and self.rung + 1 == len(self.rungs)):
            del self.groups[place]

    def _select(self) -> None:
        """Go to the next rung with the best trials; of equal ones the earlier."""
        progress, n = self.progress, self.rungs[self.rung + 1][0]

        def rank(trial: Trial) -> tuple[float, int]:
            score = progress.sign * trial.score if math.isfinite(trial.score) else math.inf
            return score, self.places[id(trial)]

        alive = sorted((trial for group in self.groups.values() for trial in group.trials), key=rank)
        chosen = {id(trial) for trial in alive[:n]}
        for trial in alive[n:]:
            trial.status = "eliminated"
        for group in self.groups.values():
            group.keep([k for k, trial in enumerate(group.trials) if id(trial) in chosen])
        self.groups = {place: group for place, group in self.groups.items() if group.trials}
        self.rung += 1

    def total(self) -> int:
        """Return the epochs of all networks together, if none ends before its time."""
        reached: list[Any] = [0, *(epochs for _, epochs in self.rungs)]
        return sum(n * (b - a) for (n, _), a, b in zip(self.rungs, reached[:-1], reached[1:], strict=True))
