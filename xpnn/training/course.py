"""The schedules of a fit: what they make of learning rate, dropout and weight decay in each step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import OptionError
from ..layers import Dropout
from ..layers.base import walk
from ..schedules import Constant, Schedule
from .history import missing_column, will_miss
from .position import Fitting

__all__ = ["Course", "Start"]


class Start(NamedTuple):
    """Where an epoch begins: epochs and steps made before, and steps of the optimizer."""

    epoch: int
    step: int
    t: int


class Course(NamedTuple):
    """Schedules that know the length of the fit; None leaves dropout, or weight decay, as it is."""

    lr: Schedule
    dropout: Schedule | None = None
    weight_decay: Schedule | None = None

    @classmethod
    def of(cls, fit: Fitting, *, epochs: int, steps: int) -> Course:
        """Return that of a fit which ends when so many `epochs` and `steps` have been made, over all fits."""
        totals = {"epoch": epochs, "step": steps}

        def resolved(schedule: Schedule) -> Schedule:
            return schedule.resolve(totals[schedule.unit])

        others = (None if s is None else resolved(s) for s in (fit.dropout_schedule, fit.weight_decay_schedule))
        return cls(resolved(fit.schedule), *others)

    def check(self, columns: Sequence[str]) -> None:
        """Raise OptionError if a schedule watches something that is none of the `columns`."""
        for schedule in self:
            if schedule is not None and schedule.watches is not None and will_miss(schedule.watches, columns):
                raise missing_column(schedule, schedule.watches, columns)

    def factors(
        self, fit: Fitting, steps: int, start: Start
    ) -> tuple[list[float], list[float] | None, list[float] | None]:
        """Return what learning rate, dropout and weight decay are multiplied by in each step of an epoch."""
        lr = _factors(fit, self.lr, steps, start)
        dropout = None if self.dropout is None else _factors(fit, self.dropout, steps, start)
        decay = None if self.weight_decay is None else _factors(fit, self.weight_decay, steps, start)
        if dropout is not None:
            layers = [layer for layer in walk(fit.net.layers) if isinstance(layer, Dropout)]
            highest = max((float(np.max(layer.rate)) for layer in layers), default=0.0)
            _check(self.dropout, dropout, highest, f"rates of dropout in [0, 1), of which the highest is {highest:g}")
        if decay is not None:
            _check(self.weight_decay, decay, 0.0, "a weight decay of at least 0")
        return lr, dropout, decay


def _factors(fit: Fitting, schedule: Schedule, steps: int, start: Start) -> list[float]:
    """The schedule's factor in each step of an epoch."""
    earned = 1.0
    if schedule.watches is not None and len(fit.history):
        if schedule.watches not in fit.history:
            raise missing_column(schedule, schedule.watches, fit.history.names)
        earned = schedule.after(fit.history[schedule.watches])
    if type(schedule) is Constant:
        return [earned] * steps
    if schedule.unit == "epoch":
        return [schedule(start.epoch + slot / steps) * earned for slot in range(steps)]
    return [schedule(start.step + slot) * earned for slot in range(steps)]


def _check(schedule: Schedule | None, factors: Sequence[float], highest: float, kept: str) -> None:
    """Raise OptionError unless factors are at least 0, finite, and leave the highest rate below 1."""
    for factor in factors:
        if not 0.0 <= factor < math.inf or factor * highest >= 1.0:
            raise OptionError(
                f"{type(schedule).__name__}.__call__: expected factors that leave {kept}, got {factor!r}. "
                "Return numbers from 0 to 1."
            )
