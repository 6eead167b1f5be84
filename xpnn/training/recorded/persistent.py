"""Whole stages of steps as one kernel on CuPy, for small networks: `xpnn.accel.cuda.persistent`.

The kernel knows what xpnn's own parts do: a chain of Linear layers with elementwise ones between them, three losses,
accuracy, descent and Adam.  What it takes is told from types and options alone.  Rows are gathered within it, from the
data as they lie on the device, or come in stages; it writes losses and hits into the tables of the epoch.

It sums in another order than the operations, so its results are equal to rounding and not to the bit.  Before it is
trusted, it makes two steps on trial.  Each begins where the same step by operations begins, and must arrive at the same
loss, hits and gradients; by its gradients the optimizer's operation must arrive at its weights.  Then it makes both at
once.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..._typing import Array
from ...accel.cuda.checks import decay_kind
from ...accel.cuda.kernels import DECAYS
from ...accel.cuda.persistent import LOSSES, METRICS, RULES, Dense, Map, Program, Steps
from ...accel.cuda.persistent import Epoch as Rows
from ...backend import to_numpy
from ...errors import BackendUnavailableError
from ...layers import ELU, SELU, Dropout, Identity, LeakyReLU, Linear, ReLU
from ...layers.base import Layer
from ...losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from ...metrics import Accuracy
from ...ops import Decay
from ...optim import SGD, Adam, AdamW, Momentum
from ...recordable import RecordingMode, foreign_method
from ..epoch import Epoch
from ..feed import Batch, Feed, Indices
from ..state import TrainState
from ..step import STEP_METHODS, Step, StepTable, Training
from .guard import Guard
from .runner import STAGE_ELEMENTS, Plan, ReadyRunner, Runner, SlowWay, objection, report

__all__ = ["SLOW", "PersistentRunner", "describe", "plan_persistent"]

# Steps of one launch; between launches Python may have its turn.
_STEPS = 32
# Steps of the trial.
_TRIED = 2
# Parameters, multiply-adds of a step's forward pass, and layers, up to which a network counts as small: weights,
# gradients and the state of Adam take 16 MiB then.  Estimates, not measured on a GPU yet.
_MOST_PARAMETERS, _MOST_PRODUCTS, _MOST_LAYERS = 1 << 20, 1 << 27, 16
# How far gradients of one parameter, as vectors, may be off by rounding: sums in another order, and a unit next to the
# kink of its ReLU; and weights after one step by equal gradients.
_OFF, _OFF_MOVED = 2e-3, 1e-5
# The same where products round their inputs to TensorFloat-32.
_OFF_TF32 = 2e-2

SLOW = SlowWay("steps are not made by one persistent kernel", logging.INFO)

# The map that a layer is, and its numbers.
_MAPS: dict[type[Layer], Callable[[Any], tuple[str, tuple[float, float]]]] = {
    ReLU: lambda layer: ("rectify", (0.0, 0.0)),
    LeakyReLU: lambda layer: ("leak", (layer.slope, 0.0)),
    ELU: lambda layer: ("exponential", (layer.alpha, 1.0)),
    SELU: lambda layer: ("exponential", (layer.alpha, layer.scale)),
    Dropout: lambda layer: ("drop", (0.0, 0.0)),
}


def plan_persistent(training: Training, plan: Plan, other: Runner | str | None) -> PersistentRunner | str:
    """Return what makes a fit's steps by one kernel, or why nothing does; `other` takes over where it is a runner."""
    why = objection(training, RecordingMode(plan.weighted, trusted=True, as_one=True))
    found = why if why is not None else describe(training, plan.batch_size)
    if isinstance(found, str):
        return found
    if plan.n < _TRIED * plan.batch_size:
        return f"an epoch has fewer than {_TRIED} whole batches"
    return PersistentRunner(plan.batch_size, None if isinstance(other, str) else other, loud=plan.requested)


# -- what the kernel takes --------------------------------------------------------------------------------------
def describe(training: Training, batch_size: int) -> Program | str:
    """Return what a step is, as the kernel is told, or in a few words which part it does not know."""
    store, optimizer, loss = training.net.store, training.optimizer, training.loss
    why = _unknown(training)
    if why is not None:
        return why
    chain = _chain(training.net.layers, {name: place.start for name, place in store.segments()})
    if isinstance(chain, str):
        return chain
    linears, first_maps = chain
    products = batch_size * sum(of.n_in * of.n_out for of in linears)
    if store.n_params > _MOST_PARAMETERS or products > _MOST_PRODUCTS or len(linears) > _MOST_LAYERS:
        return "the network is not small"
    kind = {CrossEntropy: "softmax", BinaryCrossEntropy: "logistic", MeanSquaredError: "squares"}[type(loss)]
    smoothing = loss.label_smoothing if isinstance(loss, CrossEntropy) else 0.0
    adam, decays = isinstance(optimizer, Adam), bool(optimizer.weight_decay)
    decay = Decay(optimizer.decoupled, store.n_decay, 0.0, store.decay_factors) if decays else None
    momentum, gain = 0.0, 1.0
    if isinstance(optimizer, Momentum):
        momentum, gain = optimizer.beta, 1.0 - optimizer.beta
    elif isinstance(optimizer, SGD):
        momentum = optimizer.momentum
    head = {
        "parameters": int(store.values.shape[-1]),
        "columns": 1 + len(optimizer.numbers(1)),
        "keys": len(training.net.layers),
        "loss": LOSSES[kind],
        "accuracy": METRICS[_rule(training.metrics, linears[-1].n_out)],
        "rule": RULES["adam" if adam else "descent"],
        "nesterov": int(isinstance(optimizer, SGD) and optimizer.nesterov),
        "decay": DECAYS[decay_kind(decay, store.lr_factors)],
        "decayed": store.n_decay,
    }
    constants = {
        "keep_share": 1.0 - smoothing,
        "spread": smoothing / linears[-1].n_out,
        "momentum": momentum,
        "gain": gain,
        "largest_norm": training.clip_norm or 0.0,
    }
    return Program(linears, first_maps, batch_size, head, constants)


def _unknown(training: Training) -> str | None:
    """Say which part beside the layers the kernel does not know."""
    optimizer, loss, store = training.optimizer, training.loss, training.net.store
    metrics = [type(metric) for metric in training.metrics]
    exchanged = foreign_method(training, STEP_METHODS)
    for bad, why in (
        (exchanged is not None, f"{type(training).__name__} has a {exchanged} of its own"),
        (store.backend.dtype_name != "float32", f"the dtype is {store.backend.dtype_name}"),
        (bool(store.replicas), "there are replicas"),
        (training.regularizer is not None, "there is a penalty"),
        (training.clip_value is not None, "clip_value is set"),
        (type(loss) not in (CrossEntropy, BinaryCrossEntropy, MeanSquaredError), f"the loss is {loss}"),
        (type(optimizer) not in (SGD, Momentum, Adam, AdamW), f"the rule is {type(optimizer).__name__}"),
        (metrics not in ([], [Accuracy]), "there are other metrics than accuracy"),
    ):
        if bad:
            return why
    return _exchanged([training.net, loss, optimizer, *training.metrics, *training.net.layers])


def _exchanged(parts: Sequence[Any]) -> str | None:
    """Say which part computes by a method that is not xpnn's."""
    found = ((part, foreign_method(part)) for part in parts)
    return next((f"{type(part).__name__} has a {name} of its own" for part, name in found if name is not None), None)


def _rule(metrics: Sequence[Any], n_out: int) -> str:
    if not metrics:
        return "no_metric"
    rule = metrics[0].rule
    return "by_outputs" if rule == "outputs" or (rule == "auto" and n_out == 1) else "by_classes"


def _chain(layers: Sequence[Layer], places: dict[str, int]) -> tuple[list[Dense], list[Map]] | str:
    """Return the linear layers, each with the maps behind it, and the maps before the first."""
    linears: list[Dense] = []
    first_maps: list[Map] = []
    for number, layer in enumerate(layers):
        maps = linears[-1].maps if linears else first_maps
        if type(layer) is Linear:
            places_of = places[f"{number}.weight"], places.get(f"{number}.bias", -1)
            linears.append(Dense(layer.n_in, layer.n_out, *places_of, []))
        elif type(layer) in _MAPS and isinstance(maps, list):
            kind, numbers = _MAPS[type(layer)](layer)
            maps.append(Map(kind, number, numbers))
        elif type(layer) is not Identity:
            return f"{layer.label} is not one of its layers"
    return (linears, first_maps) if linears else "there is no Linear"


# -- the runner -------------------------------------------------------------------------------------------------
class _Fit(NamedTuple):
    """A program on the device, for options as they are at one moment."""

    guard: Guard
    steps: Steps


class _Stage(NamedTuple):
    """Rows of some steps of an epoch on the device, and the numbers of these steps."""

    columns: Batch
    order: Array | None  #: in which to take their rows; None: as they lie
    numbers: Array
    keys: Array
    first: int  #: the step whose rows and numbers are the first here
    stop: int


class PersistentRunner:
    """Makes the whole batches of each epoch by launches of many steps; if `loud`, warns where that fails.

    Rows that lie on the device are gathered within the kernel, by the epoch's order; others come in stages.  The last,
    shorter batch of an epoch is left; so is all to the `other` runner, if there is one, where a trial has failed.
    """

    def __init__(self, batch_size: int, other: Runner | None, *, loud: bool) -> None:
        self._batch_size, self._other, self._loud = batch_size, other, loud
        self._fit: _Fit | None = None
        self._ready: tuple[StepTable, _Stage] | None = None  # a table, and where its steps begin
        self._failed = False

    def end(self) -> None:
        """Let go of everything: none serves another fit."""
        self._fit = self._ready = None
        if self._other is not None:
            self._other.end()

    def run(self, epoch: Epoch) -> int:
        """Make the steps of an epoch from the first on, but a shorter last one."""
        made, whole = epoch.first, len(epoch.feed) // self._batch_size
        guard = Guard(epoch.training)
        if self._fit is None or self._fit.guard != guard:
            if whole - made < _TRIED:
                return made
            self._fit = None
        with contextlib.closing(self._stages(epoch, made, whole)) as stages:
            for stage in () if self._failed else stages:
                if self._fit is None:
                    self._fit = self._prepare(epoch, stage, guard)
                    if self._fit is None:
                        break
                made = self._launch(epoch, self._fit.steps, stage)
        if self._failed and self._other is not None:
            return self._other.run(epoch)
        return made

    def _launch(self, epoch: Epoch, steps: Steps, stage: _Stage) -> int:
        """Make the steps of a stage, and return how many of the epoch are made."""
        training, made, rows = epoch.training, max(stage.first, epoch.first), _rows(epoch, stage)
        while made < stage.stop:
            count = min(_STEPS, stage.stop - made)
            epoch.position.torn = True
            steps.launch(rows, made - stage.first, count)
            training.step += count
            training.optimizer.t += count
            made += count
            if made == len(epoch.table):
                training.grad_norm = training.net.backend.ops.global_norm(training.net.store.grads)
            epoch.whole(made)
            training.pause()
        return made

    def _stages(self, epoch: Epoch, made: int, whole: int) -> Generator[_Stage, None, None]:
        """Yield the steps of an epoch from number `made` on: one stage where the rows lie on the device."""
        ready, self._ready = self._ready, None
        first = ready[1] if ready is not None and ready[0] is epoch.table else None
        if first is None:
            first = self._first_stage(epoch, epoch.order, epoch.table, made, whole)
        yield first
        size = self._size(epoch.feed)
        starts = [*range(first.stop, whole, size), whole]
        blocks = epoch.feed.blocks(epoch.order, [start * self._batch_size for start in starts])
        for columns, start, stop in zip(blocks, starts, starts[1:], strict=False):
            numbers, keys = _numbers(epoch.training, epoch.table, start, stop)
            yield _Stage(columns, None, numbers, keys, start, stop)

    def _first_stage(self, epoch: Epoch, order: Indices | None, table: StepTable, made: int, whole: int) -> _Stage:
        """Return the steps from number `made` on; all of them where the rows lie on the device."""
        training, feed, held = epoch.training, epoch.feed, epoch.feed.held(order)
        if held is not None:
            (x, y, *rest), index = held
            return _Stage((x, y, rest[0] if rest else None), index, *_numbers(training, table, 0, len(table)), 0, whole)
        stop = min(made + self._size(feed), whole)
        edges = [made * self._batch_size, stop * self._batch_size]
        (columns,) = feed.blocks(order, edges)
        return _Stage(columns, None, *_numbers(training, table, made, stop), made, stop)

    def _size(self, feed: Feed) -> int:
        """Return the steps of a stage whose rows are brought."""
        return max(min(_STEPS, STAGE_ELEMENTS // (self._batch_size * feed.width)), _TRIED)

    def make_ready(self, epoch: Epoch, order: Indices | None, table: StepTable) -> None:
        """Bring the order and the numbers of the epoch to come, or its first rows, behind the present work."""
        if self._failed or self._fit is None:
            if isinstance(self._other, ReadyRunner):
                self._other.make_ready(epoch, order, table)
            return
        self._ready = table, self._first_stage(epoch, order, table, 0, len(epoch.feed) // self._batch_size)

    def _prepare(self, epoch: Epoch, stage: _Stage, guard: Guard) -> _Fit | None:
        """Put the program on the device and try it; None where it cannot be trusted."""
        training = epoch.training
        program = describe(training, self._batch_size)
        why = program if isinstance(program, str) else None
        if not isinstance(program, str):
            try:
                steps: Steps = training.net.backend.ops.persistent_steps(program, _arrays(training))  # type: ignore[attr-defined]
                why = _unfit(epoch, stage) or _Trial(epoch, stage, steps).objection()
                if why is None:
                    return _Fit(guard, steps)
            except BackendUnavailableError as error:
                why = str(error).rstrip(".")
        self._failed = True
        report(SLOW, str(why), loud=self._loud)
        return None


def _arrays(training: Training) -> list[Array | None]:
    """The network's and the optimizer's arrays, in the kernel's order."""
    store, state = training.net.store, list(training.optimizer.state.values())
    states = [*state, None, None][:2]
    return [store.values, store.grads, *states, store.lr_factors, store.decay_factors]


def _numbers(training: Training, table: StepTable, start: int, stop: int) -> tuple[Array, Array]:
    """The numbers and mask keys of some steps, on the device."""
    arrays = table.lay_out(training.net, start, stop)
    return arrays.numbers, arrays.keys


def _unfit(epoch: Epoch, stage: _Stage) -> str | None:
    """Say what of the rows the kernel does not take."""
    backend, (x, y, _) = epoch.training.net.backend, stage.columns
    if epoch.table.rows is not None:
        return "rows have numbers of their own for their masks"
    if x.dtype != backend.dtype or (len(y.shape) == 1 and y.dtype != backend.index_dtype):
        return f"the rows are of {x.dtype}, their targets of {y.dtype}"
    if not all(column is None or column.flags.c_contiguous for column in stage.columns):
        return "rows do not lie one after the other in memory"
    return None


def _rows(epoch: Epoch, stage: _Stage) -> Rows:
    """Return a stage, and where its results go, as the kernel takes them."""
    x, y, weights = stage.columns
    labels, targets = (y, None) if len(y.shape) == 1 else (None, y)
    losses, *sums = (table[stage.first : stage.stop, ...] for table in epoch.tally.tables)
    hits = sums[0] if sums else None
    return Rows(x, stage.order, labels, targets, weights, stage.numbers, stage.keys, losses, hits)


def _batches(epoch: Epoch, stage: _Stage, first: int, batch_size: int) -> Iterator[Batch]:
    """Yield the batches of a stage from step `first` of the epoch on, as operations take them."""
    take = epoch.training.net.backend.ops.take_rows
    for start in range((first - stage.first) * batch_size, (stage.stop - stage.first) * batch_size, batch_size):
        place = slice(start, start + batch_size)
        x, y, weight = (
            None if c is None else c[place, ...] if stage.order is None else take(c, stage.order[place])
            for c in stage.columns
        )
        yield x, y, weight


# -- the trial --------------------------------------------------------------------------------------------------
class _Trial:
    """The first steps of an epoch by operations and by the kernel; everything is left as it was."""

    def __init__(self, epoch: Epoch, stage: _Stage, steps: Steps) -> None:
        self._epoch, self._stage, self._steps = epoch, stage, steps
        self._rows = _rows(epoch, stage)
        self._most = _OFF_TF32 if getattr(epoch.training.net.backend.ops, "tf32", False) else _OFF

    def objection(self) -> str | None:
        """Return what differs by more than rounding; None if nothing does."""
        epoch, training = self._epoch, self._epoch.training
        begun, first = TrainState(training, whole=True), epoch.first
        try:
            batches = _batches(epoch, self._stage, first, epoch.table.batch_size)
            for step, batch in zip(epoch.table.steps(first, first + _TRIED), batches, strict=False):
                why = self._differs(step, batch)
                if why is not None:
                    return why
            one_by_one = self._state()
            begun.restore(training)
            self._steps.launch(self._rows, first - self._stage.first, _TRIED)
            off = _off(self._state(), one_by_one, self._most)
            return None if off is None else f"in {_TRIED} steps at once {off} differ from those of one after the other"
        finally:
            begun.restore(training)

    def _differs(self, step: Step, batch: Batch) -> str | None:
        """Make one step both ways, and tell what differs; the kernel's gradients move the parameters."""
        epoch, training = self._epoch, self._epoch.training
        store, before = training.net.store, TrainState(training, whole=True)
        x, y, weight = batch
        self._steps.launch(self._rows, step.slot - self._stage.first, 1)
        grads, moved = store.backend.copy(store.grads), self._state()
        found = self._gradients(step.slot)
        before.restore(training)
        value, pred = training.data_gradients(x, y, weight, step)
        epoch.tally.add(step.slot, value, pred, y, weight)
        off = _off(found, self._gradients(step.slot), self._most)
        if off is None:
            store.grads[...] = grads
            training.move(step)
            off = _off(moved, self._state(), _OFF_MOVED)
        return None if off is None else f"in step {step.slot + 1} it gives other {off}"

    def _state(self) -> dict[str, np.ndarray]:
        """Parameters and the optimizer's state, on the host."""
        training = self._epoch.training
        arrays = {"values": training.net.store.values, **training.optimizer.state}
        return {name: np.array(to_numpy(array), np.float64) for name, array in arrays.items()}

    def _gradients(self, slot: int) -> dict[str, np.ndarray]:
        """The gradient of each parameter, and what the tally has of a step, on the host."""
        store, found = self._epoch.training.net.store, {}
        grads = to_numpy(store.grads).astype(np.float64)
        for name, place in store.segments():
            found[f"gradients of {name}"] = grads[place]
        found["losses"], *sums = (to_numpy(table)[slot].astype(np.float64) for table in self._epoch.tally.tables)
        if sums:  # a row between two classes may be right in one of them
            found["hits"] = sums[0] + sums[0][0]
        return found


def _off(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> str | None:
    """Return the name of the first array that is off by more than a tolerance, as a vector; NaN always is."""
    least = 1e-3 * max(float(np.linalg.norm(array)) for array in expected.values())
    for name, array in expected.items():
        if not np.linalg.norm(found[name] - array) <= tolerance * max(float(np.linalg.norm(array)), least):
            return name
    return None
