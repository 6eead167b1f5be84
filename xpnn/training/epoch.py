"""The steps of one epoch, before they are made; and where one fails, why."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ..backend import to_numpy
from ..random import StepKey
from .callbacks import Callback
from .course import Course
from .feed import Batch, Feed, Indices
from .portions import Portion, Rows
from .position import At, Position
from .signals import DeferredSignals
from .state import TrainState
from .step import Step, StepTable, Tally, Training

__all__ = ["Between", "Epoch", "Pieces", "explain"]

#: A step, the rows that this process computes of it, (x, y, weight, their step) each, and what makes it.
Pieces: TypeAlias = tuple[Step, list[tuple[Any, Any, Any, Step]], Callable[[], Any]]


class Between:
    """What comes between the steps of a fit: hooks after each step, callbacks that look now and then, signals.

    Attributes
    ----------
    lookers : list of Callback
        Called after each step.
    watchers : list of Callback
        Called between steps.
    busy : bool
        Whether there are any.
    """

    def __init__(self, callbacks: Sequence[Callback], signals: DeferredSignals) -> None:
        self.signals = signals
        self.lookers = [callback for callback in callbacks if callback.looks_at_steps()]
        self.watchers = [callback for callback in callbacks if callback.most_steps() is not None]
        self.busy = bool(self.lookers or self.watchers)

    def most(self, step: int) -> int:
        """Return how many steps may be made at once from number `step` of all on."""
        if self.lookers:
            return 1
        lengths = (callback.most_steps() for callback in self.watchers)
        return min((n - step % n for n in lengths if n is not None), default=sys.maxsize)


class Epoch(NamedTuple):
    """Everything that its steps need."""

    training: Training  #: makes them
    feed: Feed  #: the training rows
    order: Indices | None  #: in which to take them; None: as they lie
    table: StepTable
    tally: Tally  #: where losses and metrics go
    begun: TrainState  #: the state before the first step
    position: Position  #: where the fit stands
    between: Between  #: what comes between steps
    rate: Any  #: the learning rate of the last step
    course: Course  #: the schedules that made the table
    rows: Rows | None = None  #: of the shards of this process, where batches are cut into some

    @property
    def first(self) -> int:
        """The number of the first step; those before it were made by an earlier fit."""
        return 0 if self.position.begun is None else self.position.begun.slot

    def batches(self, first: int = 0) -> Iterator[Batch]:
        """Yield (x, y, weight) of each batch, from number `first` on."""
        return self.feed.batches(self.order, self.table.batch_size, first)

    def portions(self) -> Iterator[tuple[Step, list[Portion]]]:
        """Yield the steps that are to be made, each with what falls to this process; none where batches are whole."""
        if self.rows is not None:
            yield from zip(self.table.steps(self.first), self.rows.steps(self.first), strict=True)

    @property
    def shard_weights(self) -> np.ndarray:
        """The total weight of each shard in each step, of shape (steps, shards); no shards where batches are whole."""
        return np.zeros((len(self.table), 0)) if self.rows is None else self.rows.weights

    def run(self, first: int = 0) -> None:
        """Make the steps from number `first` on, one by one."""
        training, tally, position = self.training, self.tally, self.position
        if first >= len(self.table):
            return
        alike = first == self.first  # those that were recorded are quicker
        training.threads.go_on()
        for step, (x, y, weight) in zip(self.table.steps(first), self.batches(first), strict=True):
            position.torn = True
            note = tally.note(step.slot)
            value, pred = training.train_step(x, y, weight, step if note is None else step._replace(note=note))
            tally.add(step.slot, value, pred, y, weight, note)
            if alike:
                training.threads.made(1)
            self.made(step.slot + 1)

    def made(self, slot: int) -> None:
        """Note that the steps before number `slot` are whole, and do what comes between steps."""
        self.whole(slot)
        if self.between.busy or self.between.signals.pending:
            self.training.pause()
            self.training.threads.go_on()

    def whole(self, slot: int) -> None:
        """Note that the steps before number `slot` are whole."""
        position, lookers = self.position, self.between.lookers
        if lookers:
            position.at = At("on_batch_end", list(lookers))
        position.slot = slot
        position.torn = False


def explain(
    epoch: Epoch, last: int, pieces: Iterator[Pieces] | None = None, first_of: Callable[..., Any] | None = None
) -> str:
    """Repeat an epoch up to its first loss that is not finite, looking at every tensor.

    Everything in an epoch is a function of its beginning, so the repetition meets the same failure at slot `last`; it
    is slow, because each look waits for the device, but it happens once.  Where the state at the beginning lacks the
    optimizer's, it is not exact.  Training is left in the state of the failing step: restore it afterwards.

    `pieces` are the steps where they are not made of whole batches; `first_of` returns what was found first on any
    process.  Returns sentences naming the first tensor that is not finite, the likely cause, and what to try.
    """
    training = epoch.training
    epoch.begun.restore(training)
    rate, said, x, y = training.optimizer.lr, None, None, None
    for step, parts, make in itertools.islice(pieces or _whole(epoch), last + 1 - epoch.first):
        name = None
        for x, y, weight, own in parts:  # noqa: B007
            name = name or _first_activation(training, x, weight, own)
        if (name if first_of is None else first_of(name)) is None:
            make()
            name = _first_parameter(training)
        if name is not None:
            said = f"First tensor that is not finite: {name} (step {step.slot + 1}). {_cause(x, y, rate)}"
        said = said if first_of is None else first_of(said)
        if said is not None:
            return said
    cause = _cause(x, y, rate)
    if not epoch.begun.complete:
        said = f"It did not fail again with the optimizer as new. {cause}"
    else:
        said = f"First tensor that is not finite: the loss. {cause}"
    return said if first_of is None else str(first_of(said))


def _whole(epoch: Epoch) -> Iterator[Pieces]:
    """Yield the steps of an epoch, each with its batch in one piece."""
    for step, (x, y, weight) in zip(epoch.table.steps(epoch.first), epoch.batches(epoch.first), strict=False):
        yield step, [(x, y, weight, step)], functools.partial(epoch.training.train_step, x, y, weight, step)


def _finite(x: Any) -> bool:
    return bool(np.isfinite(to_numpy(x)).all())


def _first_activation(training: Training, x: Any, weight: Any, step: Step) -> str | None:
    net = training.net
    buffers = net.store.snapshot()
    key = StepKey(net.seed, step.step, step.rows, weight, step.weight, step.dropout)
    try:
        for layer in net.layers:
            x, _ = layer.forward(x, train=True, key=key)
            if not _finite(x):
                return f"output of layer {layer.label}"
    finally:
        net.store.restore(buffers)  # batch norm has moved its running moments
    return None


def _first_parameter(training: Training) -> str | None:
    store = training.net.store
    for kind, views in (("gradient of", store.param_grads), ("", store.params)):
        for name, view in reversed(views.items()):  # backwards: the order in which gradients arise
            if not _finite(view):
                return f"{kind} {name}".strip()
    return None


def _cause(x: Any, y: Any, rate: float | list[float]) -> str:
    if x is None:
        return "Look at the scale of inputs and targets, and at the learning rate."
    inputs = np.abs(to_numpy(x).reshape(-1, x.shape[-1]).astype(np.float64))
    column = int(inputs.max(axis=0).argmax())
    targets = np.abs(to_numpy(y).astype(np.float64)).max()
    if inputs.max() > 100:
        return (
            f"Inputs reach {inputs.max():.3g} (column {column}): scale them with xpnn.data.Standardizer "
            "(fitted on the training rows)."
        )
    if to_numpy(y).dtype.kind == "f" and targets > 1000:
        return f"Targets reach {targets:.3g}: standardize them, and undo it on predictions."
    return (
        f"Inputs and targets are of ordinary size: try a learning rate ten times smaller than {rate}, or clip_norm=1."
    )
