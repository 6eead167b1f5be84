"""The steps of one epoch, before they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from .feed import Batch, Feed, Indices
from .state import TrainState
from .step import StepTable, Tally, Training

__all__ = ["Epoch"]


class Epoch(NamedTuple):
    """Everything that its steps need."""

    training: Training  #: makes them
    feed: Feed  #: the training rows
    order: Indices | None  #: in which to take them; None: as they lie
    table: StepTable
    tally: Tally  #: where losses and metrics go
    begun: TrainState  #: the state before the first step
    hooks: Sequence[Callable[[], None]] = ()  #: called after each step

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """Yield (x, y, weight) of each batch, from number `first` on."""
        return self.feed.batches(self.order, self.table.batch_size, first)

    def run(self, first: int = 0) -> None:
        """Make the steps from number `first` on, one by one."""
        training, tally, hooks = self.training, self.tally, self.hooks
        for step, (x, y, weight) in zip(self.table.steps(first), self.batches(first), strict=True):
            value, pred = training.train_step(x, y, weight, step)
            tally.add(step.slot, value, pred, y, weight)
            for hook in hooks:
                hook()
