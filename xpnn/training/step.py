"""A training step as data: everything that changes from step to step, in a table with a row for each step.

Eager steps read a row as Python numbers.  Recorded steps read the same row from arrays, at places that stay or move
along the table: `StepTable.lay_out`.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from .._typing import Array, Shape
from ..accel.choice import ThreadChoice
from ..backend import to_numpy
from ..contract import what
from ..errors import OptionError
from ..layers import Dropout
from ..layers.base import walk
from ..losses import Loss
from ..metrics import Accuracy, Metric
from ..model import Sequential
from ..ops import Places
from ..optim import Optimizer
from ..random import KeyRow, keep_thresholds, step_keys
from ..recordable import Recordable, RecordingMode, foreign_method
from ..regularizers import Regularizer
from ..schedules import Schedule
from .feed import Feed

__all__ = ["STEP_METHODS", "Note", "Step", "StepArrays", "StepTable", "Tally", "Training", "columns_of"]

#: The methods by which a trainer makes a step.
STEP_METHODS = ("train_step", "gradients", "data_gradients", "exchange", "penalize", "move")


class Step(NamedTuple):
    """Everything that a step needs beside its rows, known before it begins: a row of a `StepTable`."""

    step: int | KeyRow  #: picks the dropout masks
    slot: int  #: where the step's loss goes
    last: bool  #: whether the epoch ends with it
    weight: float | Array  #: total sample weight of its batch
    numbers: tuple[Any, ...]  #: the optimizer's
    rows: Array | None = None  #: numbers that pick the rows' masks, if not their places in the batch
    strength: float | Array | None = None  #: of the penalty, if not the penalty's own
    dropout: float | Mapping[int, Array] = 1.0  #: on the rates of dropout; or the layers' thresholds
    note: Note | None = None  #: where the operation that computes the loss may leave it

    def loss_and_gradient(self, loss: Loss, pred: Array, y: Array, weight: Array | None) -> tuple[Array, Array]:
        """Return what `Loss.value_and_grad` does; the value is its place, where a note was filled."""
        d_pred = None if self.note is None else loss.step_into(pred, y, weight, self.note.places)
        if self.note is None or d_pred is None:
            return loss.value_and_grad(pred, y, weight)
        self.note.filled = True
        return self.note.places.loss, d_pred


class Note:
    """Places in a tally for one step, and whether they were filled by the operation that computed the loss."""

    def __init__(self, places: Places) -> None:
        self.places, self.filled = places, False


class Training(Protocol):
    """What makes steps, as those see it who repeat, record or explain them."""

    net: Sequential
    loss: Loss
    bound_loss: Loss
    optimizer: Optimizer
    regularizer: Regularizer | None
    metrics: list[Metric]
    clip_norm: float | None
    clip_value: float | None
    step: int
    epoch: int
    grad_norm: Array
    penalty: Array
    schedule: Schedule
    dropout_schedule: Schedule | None
    weight_decay_schedule: Schedule | None
    columns: list[str]
    threads: ThreadChoice

    @property
    def callbacks(self) -> Sequence[Recordable]:
        """In the order of their calls."""

    def train_step(self, x: Array, y: Array, weight: Array | None, step: Step) -> tuple[Array, Array]:
        """Make one step; return its loss and the raw outputs."""

    def data_gradients(self, x: Array, y: Array, weight: Array | None, step: Step) -> tuple[Array, Array]:
        """Fill the flat gradients of rows, without the penalty's; return what `train_step` does."""

    def exchange(self, step: Step) -> None:
        """Do what there is to do when all gradients are there."""

    def penalize(self, step: Step) -> None:
        """Add the penalty's gradients."""

    def move(self, step: Step) -> None:
        """Move the parameters."""

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return why its steps cannot be recorded."""

    def evaluate_feed(self, feed: Feed, batch_size: int) -> dict[str, float]:
        """Return loss and metrics, dropout off."""

    def notify(self, event: Any) -> None:
        """Call a hook of all callbacks."""

    def pause(self) -> None:
        """Do what comes between steps."""

    def stop(self, reason: str) -> None:
        """End training after this epoch."""


def columns_of(training: Training, *, validated: bool) -> list[str]:
    """Return the columns of the history that an epoch fills."""
    names = ["loss", *(metric.name for metric in training.metrics)]
    if training.net.store.replicas:
        names = [column for name in names for column in (name, f"{name}_replicas")]
    held_out = [f"val_{name}" for name in names] if validated else []
    penalty = [] if training.regularizer is None else ["penalty"]
    return ["epoch", *names, *held_out, "lr", "grad_norm", *penalty, "seconds"]


class StepArrays(NamedTuple):
    """Rows of a table as arrays."""

    numbers: Array  #: (k, columns, ..., 1): the batches' weights, the optimizer's numbers, the penalty's strength
    keys: (
        Array  #: (k, layers, 3, ..., 1), int32: the pairs that pick the masks, and how many of 65536 values keep a unit
    )
    rows: Array | None  #: the rows' own numbers, of all batches one after the other
    slots: tuple[int, ...]  #: the layers, by their numbers in the network
    with_strength: bool  #: whether the last column is the penalty's strength

    def step(self, k: int, slot: int, place: slice, *, last: bool) -> Step:
        """Return row `k` as views, for the step of number `slot`; `place` is where its rows' own numbers are."""
        weight, *numbers = (self.numbers[k, j, ...] for j in range(self.numbers.shape[1]))
        strength = None
        if self.with_strength:  # one for all replicas
            strength = numbers.pop()
            strength = strength[(0,) * len(strength.shape) + (...,)]
        keys = {slot: (self.keys[k, j, 0, ...], self.keys[k, j, 1, ...]) for j, slot in enumerate(self.slots)}
        kept = {slot: self.keys[k, j, 2, ...] for j, slot in enumerate(self.slots)}
        own = None if self.rows is None else self.rows[place]
        return Step(keys, slot, last, weight, tuple(numbers), own, strength, kept)


class StepTable:
    """The steps of an epoch from number `first` on, a row for each.

    `weights` are the batches' totals, `numbers` the optimizer's of each step: Python's, or arrays of shape (K, 1) where
    replicas have their own.  The int32 array `rows`, on the device, picks the rows' masks; `strengths` are the
    penalty's in each step, and `dropout` what multiplies the rates of dropout there.
    """

    def __init__(
        self,
        first: int,
        batch_size: int,
        weights: np.ndarray,
        numbers: Sequence[tuple[Any, ...]],
        rows: Array | None = None,
        strengths: Sequence[float] | None = None,
        dropout: Sequence[float] | None = None,
    ) -> None:
        self.first, self.batch_size, self.rows = first, batch_size, rows
        self._weights: list[float] = weights.tolist()
        self._numbers, self._strengths = numbers, strengths
        self._dropout = [1.0] * len(weights) if dropout is None else dropout

    def __len__(self) -> int:
        return len(self._weights)

    @property
    def weights(self) -> np.ndarray:
        """The batches' totals."""
        return np.asarray(self._weights)

    def steps(self, start: int = 0, stop: int | None = None) -> Iterator[Step]:
        """Yield the rows from number `start` to before `stop`, as eager steps take them."""
        strengths, end = self._strengths, len(self) - 1
        for slot in range(start, len(self) if stop is None else stop):
            own, strength = self._own(slot, slot + 1), None if strengths is None else strengths[slot]
            weight, numbers, dropout = self._weights[slot], self._numbers[slot], self._dropout[slot]
            yield Step(self.first + slot, slot, slot == end, weight, numbers, own, strength, dropout)

    def _own(self, start: int, stop: int) -> Array | None:
        """The rows' own numbers of some steps."""
        if self.rows is None:
            return None
        return self.rows[start * self.batch_size : min(stop * self.batch_size, self.rows.shape[0])]

    # -- as arrays ------------------------------------------------------------------------------------------
    @property
    def alike(self) -> bool:
        """Whether replicas have all their numbers in common."""
        return all(isinstance(number, float) for number in self._numbers[0])

    def lay_out(self, net: Sequential, start: int, stop: int, *, each: bool = False) -> StepArrays:
        """Return the rows from number `start` to before `stop` as new arrays.

        With `each`, every replica gets numbers of its own even where they are alike.
        """
        backend, replicas = net.backend, net.store.replicas
        slots = tuple(layer.slot for layer in walk(net.layers))
        columns = 1 + len(self._numbers[0]) + (self._strengths is not None)
        shape = (1,) if self.alike and not each else (*replicas, 1)
        numbers = backend.zeros((stop - start, columns, *shape), dtype=net.store.values.dtype)
        keys = backend.zeros((stop - start, len(slots), 3, *replicas, 1), dtype=backend.xp.int32)
        own = self._own(start, stop)
        rows = None if own is None else backend.zeros(own.shape, dtype=own.dtype)
        arrays = StepArrays(numbers, keys, rows, slots, self._strengths is not None)
        self.fill(arrays, net, start)
        return arrays

    def fill(self, arrays: StepArrays, net: Sequential, start: int) -> None:
        """Write as many rows as there are places, from number `start` on, into arrays from `lay_out`."""
        backend, steps = net.backend, arrays.numbers.shape[0]
        stop = start + steps
        table = [(self._weights[k], *self._numbers[k]) for k in range(start, stop)]
        if self._strengths is not None:
            table = [(*row, strength) for row, strength in zip(table, self._strengths[start:stop], strict=True)]
        own: list[tuple[int, int, Array]] = []  # what replicas have of their own is on the device already
        if not self.alike:
            own = [(k, j, n) for k, row in enumerate(table) for j, n in enumerate(row) if not isinstance(n, float)]
            table = [tuple(n if isinstance(n, float) else 0.0 for n in row) for row in table]
        host = np.asarray(table).reshape(steps, -1, *[1] * (len(arrays.numbers.shape) - 2))
        arrays.numbers[...] = backend.asarray(np.broadcast_to(host, arrays.numbers.shape), dtype=arrays.numbers.dtype)
        for k, j, number in own:
            arrays.numbers[k, j, ...] = number
        keys = step_keys(net.seed, self.first + start, steps, arrays.slots)
        keys = np.concatenate([keys, self._kept(net, start, stop, keys.shape)], axis=2)
        arrays.keys[...] = backend.asarray(keys, dtype=backend.xp.int32)
        if arrays.rows is not None:
            arrays.rows[...] = self._own(start, stop)

    def _kept(self, net: Sequential, start: int, stop: int, keys: Shape) -> np.ndarray:
        """The thresholds of the layers that drop units, shaped as half the `keys` are."""
        kept = np.full((*keys[:2], 1, *keys[3:]), 65536, np.int32)
        factors = np.asarray(self._dropout[start:stop])
        for j, layer in enumerate(walk(net.layers)):
            if isinstance(layer, Dropout):
                rates = np.multiply.outer(factors, np.reshape(layer.rate, (-1, 1)))  # of one, or of each replica
                kept[:, j, 0] = keep_thresholds(rates if len(keys) > 4 else rates[:, 0])
        return kept


class Tally:
    """Losses and metric sums of some steps: written on the device, read once."""

    def __init__(self, training: Training, steps: int) -> None:
        backend, replicas = training.net.backend, training.net.store.replicas
        self._xp, self._loss, self._metrics = backend.xp, training.loss, training.metrics
        self._device = backend.device
        self._losses = backend.zeros((steps, *replicas))
        self._sums = [backend.zeros((steps, metric.width, *replicas)) for metric in self._metrics]
        # Of the metrics, by number, the accuracy whose sums come with the loss; None where nothing comes with it.
        classes = self._loss.classifies and self._loss.accuracy_rule == "classes"
        hits = [j for j, m in enumerate(self._metrics) if type(m) is Accuracy and classes and m.rule == "classes"]
        self._hits = hits[0] if hits else None
        self._takes_notes = backend.ops.fills_places and foreign_method(training, STEP_METHODS) is None

    def note(self, slot: int) -> Note | None:
        """Return places for the operation that computes the loss of a step; None where none fills them."""
        if not self._takes_notes:
            return None
        hits = None if self._hits is None else self._sums[self._hits][slot, ...]
        return Note(Places(self._losses[slot, ...], hits))

    def add(
        self, slot: int, value: Array, pred: Array, y: Array, weight: Array | None, note: Note | None = None
    ) -> None:
        """Note one step, but what its `note` has already."""
        filled = note is not None and note.filled
        if note is None or value is not note.places.loss:
            self._losses[slot, ...] = value
        pairs = enumerate(zip(self._sums, self._metrics, strict=True))
        rest = [pair for j, pair in pairs if not (filled and j == self._hits)]
        if not rest:
            return
        outputs = self._loss.outputs(pred) if self._loss.classifies else self._loss.link(pred)
        for table, metric in rest:
            for j, part in enumerate(metric.sums(self._xp, outputs, y, weight)):
                table[slot, j, ...] = part

    def over(self, tables: Sequence[Array]) -> Tally:
        """Return a tally of other `tables`."""
        new = copy.copy(self)
        new._losses, *new._sums = tables
        return new

    @property
    def tables(self) -> list[Array]:
        """Losses and sums, one row for each step."""
        return [self._losses, *self._sums]

    def put(self, slot: int, other: Tally) -> None:
        """Take over the steps of another tally, from `slot` on."""
        for table, part in zip(self.tables, other.tables, strict=True):
            table[slot : slot + part.shape[0], ...] = part

    def take(self, tables: Sequence[np.ndarray]) -> None:
        """Take over the first steps from `tables` of the host."""
        for table, part in zip(self.tables, tables, strict=False):
            table[: part.shape[0], ...] = self._xp.asarray(part, dtype=table.dtype, device=self._device)

    def losses(self) -> np.ndarray:
        """The loss of each step, on the host."""
        return to_numpy(self._losses).astype(np.float64)

    def row(self, weights: np.ndarray) -> dict[str, Any]:
        """Mean loss and metrics of all steps, weighted by the batches' weights; of replicas the mean, and the list."""
        total, replicated = weights.sum(), len(self._losses.shape) > 1
        metrics = zip(self._metrics, self._sums, strict=True)
        columns: list[tuple[str, Array, Callable[[np.ndarray], Any]]] = [
            ("loss", self._losses, lambda losses: np.tensordot(weights, losses, axes=1) / total),
            *((metric.name, sums, functools.partial(_value, metric)) for metric, sums in metrics),
        ]
        out: dict[str, Any] = {}
        for name, table, value in columns:
            host = to_numpy(table).astype(np.float64)
            if not replicated:
                out[name] = float(value(host))
                continue
            # In one piece, so that each replica's rounds as it would alone.
            values = [float(value(np.ascontiguousarray(host[..., k]))) for k in range(host.shape[-1])]
            out |= {name: float(np.mean(values)), f"{name}_replicas": values}
        return out


def _value(metric: Metric, table: np.ndarray) -> float:
    """Return a metric's value as a number."""
    value = metric.value(table)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise OptionError(
            f"{type(metric).__name__}.value: expected one number, got {what(value)}. Reduce it: float(np.mean(...))."
        ) from None
