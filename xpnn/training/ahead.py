"""What an epoch takes, and what of the next is made ready while a device works on the present one.

The host has nothing else to do then: it draws the order of the rows, makes the table of the steps, and has the runner
bring the first stage.  What was made ahead counts only if nothing that it was made of has changed when the epoch
begins, so a fit makes the same steps to the bit; else it is made anew.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import numpy as np

from ..contract import foreign
from ..data.batching import epoch_order
from ..recordable import foreign_method
from ..schedules import Schedule
from .callbacks import LambdaCallback
from .course import Course, Start
from .epoch import Epoch
from .feed import Feed, Indices
from .portions import Rows
from .position import Fitting
from .recorded.guard import Guard
from .recorded.runner import ReadyRunner, Runner
from .step import StepTable

__all__ = ["Ahead", "Planned", "is_plain", "plan"]

# The methods by which a trainer chooses rows and numbers of its steps.
_CHOICES = ("epoch_rows", "row_numbers", "penalty_strengths")


class Planned(NamedTuple):
    """What the steps of an epoch take."""

    order: Indices | None  #: in which to take the rows; None: as they lie
    table: StepTable
    rate: Any  #: the learning rate of the last step
    rows: Rows | None = None  #: of the shards of this process, where batches are cut into some


def plan(
    fit: Fitting, feed: Any, batch_size: int, course: Course, start: Start, order: Indices | None, rows: Rows | None
) -> Planned:
    """Return what the steps of an epoch take, whose rows come in an order; of `rows`, those of this process."""
    weights = feed.batch_weights(order, batch_size) if rows is None else rows.weights.sum(axis=-1)
    factors, dropout, decay = course.factors(fit, len(weights), start)
    numbers = fit.optimizer.table(start.t + 1, factors, decay)
    strengths = fit.penalty_strengths(weights)
    own = fit.row_numbers(order) if rows is None else None
    table = StepTable(start.step, batch_size, weights, numbers, own, strengths, dropout)
    return Planned(order, table, fit.optimizer.rate(factors[-1]), rows)


def is_plain(kind: type, base: type) -> bool:
    """Whether a class of trainers leaves the choice of rows and numbers of its steps to its base."""
    return all(getattr(kind, name) is getattr(base, name) for name in _CHOICES)


class Ahead:
    """What was made of the coming epoch; each serves that epoch alone."""

    def __init__(self) -> None:
        self._order: tuple[tuple[int, int, int], np.ndarray] | None = None
        self._planned: tuple[Guard, Planned] | None = None

    def order(self, n: int, seed: int, epoch: int) -> np.ndarray:
        """Return the order of an epoch, `xpnn.data.epoch_order`, which may have been drawn already."""
        key, (ahead, self._order) = (n, seed, epoch), (self._order, None)
        return ahead[1] if ahead is not None and ahead[0] == key else epoch_order(n, seed, epoch)

    def planned(
        self, fit: Fitting, feed: Feed, batch_size: int, course: Course, start: Start, *, shuffle: bool
    ) -> Planned | None:
        """Return the epoch that starts there, if it was planned and what it was made of is as it was."""
        made, self._planned = self._planned, None
        if made is None or made[0] != _key(fit, feed, batch_size, course, start, shuffle=shuffle):
            return None
        self._order = None
        return made[1]

    def make_ready(self, fit: Fitting, epoch: Epoch, runner: Runner | None, epochs: int, *, plain: bool) -> None:
        """Make ready for what comes after an epoch, up to `epochs`, where a device has been given its steps.

        NumPy has made them.  Not `plain` are trainers that choose rows or numbers of steps by methods of their own:
        there it is the order alone.
        """
        coming, feed, batch_size = fit.epoch + 1, epoch.feed, epoch.table.batch_size
        if fit.net.backend.xp is np or coming >= epochs or fit.stop_reason is not None:
            return
        order = None if epoch.order is None else epoch_order(len(feed), fit.seed, coming)
        if order is not None:
            self._order = (len(feed), fit.seed, coming), order
        if not plain or epoch.rows is not None or not _foreseeable(fit, feed, epoch.course):
            return
        start = Start(coming, fit.step, fit.optimizer.t)
        # What goes wrong here, a value in a file say, does so again when the epoch begins, and is told there.
        with contextlib.suppress(Exception):
            key = _key(fit, feed, batch_size, epoch.course, start, shuffle=order is not None)
            planned = plan(fit, feed, batch_size, epoch.course, start, order, None)
            self._planned = key, planned
            if isinstance(runner, ReadyRunner) and not foreign(fit) and not any(map(_may_change_rows, fit.callbacks)):
                runner.make_ready(epoch, order, planned.table)

    def clear(self) -> None:
        """Let go of everything."""
        self._order = self._planned = None


def _key(fit: Fitting, feed: Feed, batch_size: int, course: Course, start: Start, *, shuffle: bool) -> Guard:
    """Everything that the plan of an epoch is made of, as it is now."""
    optimizer = fit.optimizer  # whose `repr` has all options, the learning rate too
    return Guard(fit, (id(feed), batch_size, course, start, shuffle, fit.seed, fit.net.seed, repr(optimizer)))


def _foreseeable(fit: Fitting, feed: Feed, course: Course) -> bool:
    """Whether the steps of the coming epoch follow from what is known before the present one is over."""
    schedules = [schedule for schedule in course if schedule is not None]
    if foreign(fit.optimizer) or not all(map(_is_own, schedules)):
        return False  # an object of somebody's own may change what no comparison sees
    if any(schedule.watches is not None for schedule in schedules):
        return False  # it waits for the losses
    return feed.weight is None or not any(map(_may_change_rows, fit.callbacks))


def _is_own(schedule: Schedule) -> bool:
    """Whether a schedule is xpnn's, with those within it."""
    inner = (value for value in vars(schedule).values() if isinstance(value, Schedule))
    return not foreign(schedule) and all(map(_is_own, inner))


def _may_change_rows(callback: Any) -> bool:
    """Whether a callback may write into the memory that rows are taken from: one with code of somebody's own."""
    return foreign(callback) or isinstance(callback, LambdaCallback) or foreign_method(callback) is not None
