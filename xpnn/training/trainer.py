"""The training loop, as nested steps that a person can read and override."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .._typing import Array
from ..backend import like, to_numpy
from ..data.batching import epoch_order, stratified_indices
from ..errors import DataError, DivergenceError, LabelError, OptionError, ShapeError
from ..losses import Loss
from ..metrics import Accuracy, Metric, get_metric
from ..model import Sequential
from ..optim import Optimizer
from ..regularizers import Regularizer
from ..schedules import Constant, Schedule
from .callbacks import Callback
from .divergence import explain
from .feed import Batch, Feed, as_rows, same_length
from .history import History

__all__ = ["Trainer"]


class StepRow(NamedTuple):
    """Everything that changes from step to step, known before the step begins."""

    step: int  # picks the dropout masks
    slot: int  # where the step's loss goes
    last: bool  # whether the epoch ends with it
    weight: float  # total sample weight of its batch
    numbers: tuple[Any, ...]  # the optimizer's


class Trainer:
    """Trains a network on a loss with an optimizer.

    The way of a fit is ``fit → run_epoch → train_step``; each can be overridden.  Inside a step nothing waits
    for the device: losses and metrics collect there and are read once for each epoch.  Training stops by flag
    (`stop`), and what callbacks do at the end they do however it ended: the last epoch, `stop`, Ctrl-C or an
    error.

    Parameters
    ----------
    net : Sequential
        The network, on its backend.
    loss : Loss
        Takes the raw outputs.
    optimizer : Optimizer
        Belongs to this network from now on.
    schedule : Schedule, optional
        Its factor multiplies the optimizer's learning rate at each step.
    regularizer : Regularizer, optional
        Penalty on the weights; its value is the column ``penalty``.
    clip_norm : float, optional
        Largest Euclidean norm of all gradients together.
    clip_value : float, optional
        Largest absolute value of a single gradient, applied first.
    metrics : sequence of str or Metric, default=("accuracy",)
        Names from `xpnn.metrics`.  ``"accuracy"`` is left out where the loss has no classes.
    callbacks : sequence of Callback, default=()
        Called in this order.
    seed : int, default=0
        Draws validation split and shuffles.  (The network has its own seed.)

    Attributes
    ----------
    history : History
        One row for each epoch, over all calls of `fit`.
    epoch, step : int
        Epochs and steps made so far.
    stop_reason : str or None
        Why the last fit ended early, if it did.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_circles(200, noise=0.05, seed=0)
    >>> net = xpnn.mlp([2, 8, 2], activation="tanh", seed=0)
    >>> trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.05))
    >>> history = trainer.fit(X, y, epochs=60, batch_size=32)
    >>> trainer.evaluate(X, y)["accuracy"] > 0.95
    True
    """

    def __init__(
        self,
        net: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        *,
        schedule: Schedule | None = None,
        regularizer: Regularizer | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        metrics: Sequence[str | Metric] = ("accuracy",),
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
    ) -> None:
        _expect(net, Sequential, "net", "a network")
        _expect(loss, Loss, "loss", "a loss object such as xpnn.CrossEntropy()")
        _expect(optimizer, Optimizer, "optimizer", "an optimizer object such as xpnn.Adam(lr=0.001)")
        if schedule is not None:
            _expect(schedule, Schedule, "schedule", "a schedule object such as xpnn.CosineDecay(), or None")
        if regularizer is not None:
            _expect(regularizer, Regularizer, "regularizer", "a penalty object such as xpnn.L2(1e-4), or None")
        _expect(callbacks, Sequence, "callbacks", "a list of callbacks")
        for callback in callbacks:
            _expect(callback, Callback, "each callback", "an object such as xpnn.EarlyStopping()")
        last = type(net.layers[-1]).__name__
        if last in loss.links:
            raise OptionError(
                f"Trainer: loss {loss} takes logits, but the last layer is {last}. "
                "Remove it; predict_proba applies what it does."
            )
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not value > 0:
                raise OptionError(f"Trainer: expected {name} > 0 or None, got {value!r}. Try 1.0.")
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.schedule = Constant() if schedule is None else schedule
        self.regularizer, self.clip_norm, self.clip_value = regularizer, clip_norm, clip_value
        names = [metrics] if isinstance(metrics, str) else metrics
        self.metrics = [
            Accuracy(loss.accuracy_rule) if m == "accuracy" else get_metric(m).resolve(net.n_out)
            for m in names
            if loss.classifies or m != "accuracy"
        ]
        self.callbacks = list(callbacks)
        self.seed = int(seed)
        self.history = History()
        self.epoch = self.step = 0
        self.epochs_planned = 0
        self.stop_reason: str | None = None
        self._grad_norm: Array = None
        self._penalty: Array = None

    # -- fit ------------------------------------------------------------------------------------------------
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        epochs: int = 10,
        batch_size: int = 128,
        X_val: Any = None,
        y_val: Any = None,
        validation_fraction: float = 0.0,
        sample_weight: Any = None,
        sample_weight_val: Any = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        shuffle: bool = True,
    ) -> History:
        """Train for some epochs more.

        Parameters
        ----------
        X : array of shape (n, n_in)
            Of any library, moved once to the network's backend; a `numpy.memmap` is streamed from disk.
        y : array of shape (n,) or (n, n_targets)
            What the loss takes.
        epochs : int, default=10
            Passes over the data; a second call goes on where the first ended.
        batch_size : int, default=128
            Rows of one step; the last batch of an epoch may be shorter.
        X_val, y_val : arrays, optional
            Validation data of your own; they win over `validation_fraction`.
        validation_fraction : float, default=0.0
            Share of the rows held out: shuffled, and stratified for labels.
        sample_weight, sample_weight_val : array of shape (n,), optional
            Weights of the rows, at least 0.
        class_weight : dict of class to weight, or "balanced", optional
            Multiplies the weights of the rows of a class, in training and validation; ``"balanced"`` is
            n / (n_classes · count).
        shuffle : bool, default=True
            Whether each epoch takes the rows in a new order.

        Returns
        -------
        History
            The trainer's history, all calls together.

        Raises
        ------
        ShapeError, LabelError, DataError, OptionError
            If the data or options do not fit; nothing has been trained then.  (A bad value in a memory map is
            found when it is read.)
        DivergenceError
            If a loss, or a weight after an epoch's last step, is not finite; the weights from before that epoch are
            restored, then callbacks end.
        """
        for name, count in (("epochs", epochs), ("batch_size", batch_size)):
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
                raise OptionError(
                    f"fit: expected {name} to be a whole number of at least 1, got {count!r}. Try {name}="
                    f"{max(round(count), 1) if isinstance(count, float) else 32}."
                )
        train, valid = self._prepare(
            X, y, X_val, y_val, validation_fraction, sample_weight, sample_weight_val, class_weight
        )
        store = self.net.store
        self.optimizer.bind(store)
        self.stop_reason = None
        self.epochs_planned = self.epoch + epochs
        steps = -(-len(train) // batch_size)
        total = self.epochs_planned if self.schedule.unit == "epoch" else self.step + epochs * steps
        schedule = self.schedule.resolve(total)
        self._notify("on_fit_begin")
        try:
            while self.epoch < self.epochs_planned and self.stop_reason is None:
                self._notify("on_epoch_begin")
                self.history.append(self.run_epoch(train, valid, batch_size, schedule, shuffle))
                self._notify("on_epoch_end")
        finally:
            with contextlib.ExitStack() as stack:  # what one callback raises at its end keeps no other from its own
                for callback in reversed(self.callbacks):
                    stack.callback(callback.on_fit_end, self)
        return self.history

    def stop(self, reason: str) -> None:
        """Ask to end training after this epoch, for `reason`."""
        self.stop_reason = reason

    def run_epoch(
        self, train: Feed, valid: Feed | None, batch_size: int, schedule: Schedule, shuffle: bool
    ) -> dict[str, Any]:
        """Train over all batches once, validate, and return the epoch's row of the history."""
        began = time.perf_counter()
        order = epoch_order(len(train), self.seed, self.epoch) if shuffle else None
        weights = train.batch_weights(order, batch_size)
        table = self._step_table(weights, schedule)
        tally = _Tally(self, len(weights))
        restart = Restart(self)
        batch_callbacks = [c for c in self.callbacks if type(c).on_batch_end is not Callback.on_batch_end]

        # NumPy would warn of overflow at every step; the losses tell it once, with the cause.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for row, (x, y, weight) in zip(table, train.batches(order, batch_size), strict=True):
                value, pred = self.train_step(x, y, weight, row)
                tally.add(row.slot, value, pred, y, weight)
                for callback in batch_callbacks:
                    callback.on_batch_end(self)

        losses = tally.losses()
        xp, values = self.net.backend.xp, self.net.store.values
        # The last step may spoil the weights after its loss was taken: no later loss of this epoch would tell.
        if not np.isfinite(losses).all() or not bool(xp.all(xp.isfinite(values))):
            raise self._divergence(losses, restart, train.batches(order, batch_size), table)
        self.epoch += 1
        self._notify("on_epoch_trained")
        row_out: dict[str, Any] = {"epoch": self.epoch, **tally.row(weights)}
        if valid is not None:
            row_out |= {f"val_{name}": value for name, value in self._evaluate(valid, batch_size).items()}
        lr = self.optimizer.rate(self._factor(len(table) - 1, len(table), schedule, self.epoch - 1))
        row_out["lr"] = lr if isinstance(lr, float) else lr[:, 0].tolist()
        row_out["grad_norm"] = float(to_numpy(self._grad_norm).astype(np.float64).mean())
        if self.regularizer is not None:
            row_out["penalty"] = float(np.mean(to_numpy(self._penalty)))
        row_out["seconds"] = time.perf_counter() - began
        return row_out

    def _divergence(
        self, losses: np.ndarray, restart: Restart, batches: Iterable[Batch], table: Sequence[StepRow]
    ) -> DivergenceError:
        """Find out what is not finite, undo the epoch, and return the error that tells it."""
        bad = np.argwhere(~np.isfinite(losses))
        slot = int(bad[0][0]) if len(bad) else len(table) - 1
        what = f"loss is {losses[tuple(bad[0])]} at" if len(bad) else "weights are not finite after"
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            report = explain(self, restart, batches, table, slot)
        restart.restore(self)
        return DivergenceError(
            f"fit: {what} epoch {self.epoch + 1}, step {slot + 1} of it. {report} "
            "The weights from before this epoch are restored."
        )

    def train_step(self, x: Array, y: Array, weight: Array | None, row: StepRow) -> tuple[Array, Array]:
        """Make one step: forward, loss, backward, update.  No value leaves the device.

        Parameters
        ----------
        x : array of shape (batch, n_in)
            Inputs on the device.
        y : array of shape (batch,) or (batch, n_targets)
            Targets on the device.
        weight : array of shape (batch,) or None
            Sample weights on the device.
        row : StepRow
            This step's numbers.

        Returns
        -------
        value : 0-d array, or (K,) for replicas
            The loss before the update, without the penalty.
        pred : array of shape (..., batch, n_out)
            The raw outputs.
        """
        net, store, ops = self.net, self.net.store, self.net.backend.ops
        pred, caches = net.forward(x, train=True, step=row.step)
        value, d_pred = self.loss.value_and_grad(pred, y, weight)
        net.backward(d_pred, caches)
        if self.regularizer is not None:
            self._penalty = self.regularizer.add(store)
        if row.last:
            self._grad_norm = ops.global_norm(store.grads)
        if self.clip_value is not None:
            xp = net.backend.xp
            store.grads[...] = xp.minimum(xp.maximum(store.grads, -self.clip_value), self.clip_value)
        if self.clip_norm is not None:
            ops.clip_norm(store.grads, ops.global_norm(store.grads), self.clip_norm)
        self.optimizer.update(store, row.numbers)
        self.step += 1
        return value, pred

    # -- reading --------------------------------------------------------------------------------------------
    def evaluate(self, X: Any, y: Any, *, sample_weight: Any = None) -> dict[str, float]:
        """Return loss and metrics on data, dropout off.

        Parameters
        ----------
        X : array of shape (n, n_in)
            Inputs, of any library.
        y : array of shape (n,) or (n, n_targets)
            Targets.
        sample_weight : array of shape (n,), optional
            Weights of the rows.

        Returns
        -------
        dict
            ``"loss"`` and each metric by name.
        """
        X, y = as_rows(X, "evaluate", "X"), as_rows(y, "evaluate", "y")
        host_y = self._check_data("evaluate", X, y)
        weight = _check_weight("evaluate", sample_weight, len(host_y))
        return self._evaluate(self._feed(X, y, weight, "evaluate"), 1024)

    def predict_proba(self, X: Any) -> Array:
        """Return what the loss's link makes of the raw outputs: probabilities, rates or plain predictions.

        Parameters
        ----------
        X : array of shape (n, n_in)
            Inputs, of any library.

        Returns
        -------
        array of shape (n, n_out)
            In the library and on the device of `X`.
        """
        net = self.net
        return like(self.loss.link(net.backend.asarray(net.predict(X))), X)

    # -- the parts of fit -----------------------------------------------------------------------------------
    def _notify(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def _factor(self, slot: int, steps: int, schedule: Schedule, epoch: int) -> float:
        """The schedule's factor at step `slot` of an epoch of `steps` steps."""
        t = epoch + slot / steps if schedule.unit == "epoch" else epoch * steps + slot
        earned = 1.0
        if schedule.watches is not None and len(self.history):
            if schedule.watches not in self.history:
                raise OptionError(
                    f"{type(schedule).__name__}: expected a column {schedule.watches!r}, got "
                    f"{', '.join(self.history.names)}. Pass X_val and y_val (or validation_fraction) to fit, or "
                    "choose monitor=."
                )
            earned = schedule.after(self.history[schedule.watches])
        return schedule(t) * earned

    def _step_table(self, weights: np.ndarray, schedule: Schedule) -> list[StepRow]:
        """Everything that changes within the coming epoch, step by step."""
        t, steps = self.optimizer.t, len(weights)
        return [
            StepRow(
                self.step + slot,
                slot,
                slot == steps - 1,
                float(weights[slot]),
                self.optimizer.numbers(t + slot + 1, self._factor(slot, steps, schedule, self.epoch)),
            )
            for slot in range(steps)
        ]

    def _evaluate(self, feed: Feed, batch_size: int) -> dict[str, float]:
        batch_size = max(batch_size, 1024)  # no gradients are kept, so larger slices cost nothing
        weights = feed.batch_weights(None, batch_size)
        tally = _Tally(self, len(weights))
        with np.errstate(over="ignore", invalid="ignore"):  # a loss of inf tells it
            for slot, (x, y, weight) in enumerate(feed.batches(None, batch_size)):
                pred = self.net.predict(x)
                value, _ = self.loss.value_and_grad(pred, y, weight)
                tally.add(slot, value, pred, y, weight)
        return tally.row(weights)

    # -- checking -------------------------------------------------------------------------------------------
    def _prepare(
        self,
        X: Any,
        y: Any,
        X_val: Any,
        y_val: Any,
        validation_fraction: float,
        sample_weight: Any,
        sample_weight_val: Any,
        class_weight: Mapping[int, float] | Literal["balanced"] | None,
    ) -> tuple[Feed, Feed | None]:
        """Check all data once, on the host, and make the feeds of training and validation."""
        if (X_val is None) != (y_val is None):
            raise OptionError(
                f"fit: expected X_val and y_val together, got only {'X_val' if y_val is None else 'y_val'}. "
                "Pass both, or a validation_fraction."
            )
        if not isinstance(validation_fraction, int | float | np.floating) or not 0 <= validation_fraction < 1:
            raise OptionError(
                f"fit: expected 0 <= validation_fraction < 1, got {validation_fraction!r}. Pass 0.2 for a fifth."
            )
        X, y = as_rows(X, "fit", "X"), as_rows(y, "fit", "y")
        host_y = self._check_data("fit", X, y)
        weight = _check_weight("fit", sample_weight, len(host_y))
        labels = _labels(host_y) if self.loss.classifies else None
        table = None if class_weight is None else _class_weights(class_weight, labels, self.net.n_out)
        weight = _times(weight, table, host_y)
        if X_val is not None:
            X_val, y_val = as_rows(X_val, "fit", "X_val"), as_rows(y_val, "fit", "y_val")
            host_val = self._check_data("fit (validation)", X_val, y_val)
            weight_val = _check_weight("fit (validation)", sample_weight_val, len(host_val))
            valid = self._feed(X_val, y_val, _times(weight_val, table, host_val), "fit (validation)")
            return _weighty(self._feed(X, y, weight, "fit")), _weighty(valid, "validation ")
        whole = self._feed(X, y, weight, "fit")
        if not validation_fraction:
            return _weighty(whole), None
        rows, held_out = stratified_indices(len(host_y) if labels is None else labels, validation_fraction, self.seed)
        return _weighty(whole.part(rows)), _weighty(whole.part(held_out), "held-out ")

    def _check_data(self, where: str, X: Any, y: Any) -> np.ndarray:
        """Check inputs and targets against network and loss; return the targets on the host."""
        net = self.net
        net.check_input(X)
        if net.store.replicas and len(X.shape) == 3:
            raise ShapeError(
                f"{where}: expected X of shape (n, {net.n_in}), rows shared by all replicas, got {tuple(X.shape)}. "
                "Replicas with data of their own train through Sequential.forward and backward."
            )
        same_length(where, X=X, y=y)
        if net.takes_integers:
            net.check_categories(X)
        host_y = to_numpy(y)
        self.loss.check_targets(host_y, net.n_out)
        return host_y

    def _feed(self, X: Any, y: Any, weight: np.ndarray | None, where: str) -> Feed:
        labels = self.loss.takes_labels and len(y.shape) == 1
        return Feed(
            self.net.backend,
            X,
            y,
            weight,
            kind_x="index" if self.net.takes_integers else "float",
            kind_y="index" if labels else "float",
            where=where,
        )


class _Tally:
    """Losses and metric sums of the steps of one epoch: written on the device, read once."""

    def __init__(self, trainer: Trainer, steps: int) -> None:
        net = trainer.net
        self.trainer, self.backend = trainer, net.backend
        replicas = net.store.replicas
        self._losses = self.backend.zeros((steps, *replicas))
        self._sums = [self.backend.zeros((steps, metric.width, *replicas)) for metric in trainer.metrics]

    def add(self, slot: int, value: Array, pred: Array, y: Array, weight: Array | None) -> None:
        """Note one step."""
        self._losses[slot, ...] = value
        if not self._sums:
            return
        xp = self.backend.xp
        shown = pred if self.trainer.loss.classifies else self.trainer.loss.link(pred)
        for table, metric in zip(self._sums, self.trainer.metrics, strict=True):
            for j, part in enumerate(metric.sums(xp, shown, y, weight)):
                table[slot, j, ...] = part

    def losses(self) -> np.ndarray:
        """The loss of each step, on the host."""
        return to_numpy(self._losses).astype(np.float64)

    def row(self, weights: np.ndarray) -> dict[str, Any]:
        """Mean loss and metrics over all steps, weighted by the batches' weights."""
        losses = self.losses()
        out = _columns("loss", np.tensordot(weights, losses, axes=1) / weights.sum())
        for table, metric in zip(self._sums, self.trainer.metrics, strict=True):
            out |= _columns(metric.name, metric.value(to_numpy(table).astype(np.float64)))
        return out


def _columns(name: str, value: Any) -> dict[str, Any]:
    """One column; for replicas their mean, and the list of all."""
    values = np.asarray(value, dtype=np.float64)
    if values.ndim == 0:
        return {name: float(values)}
    return {name: float(values.mean()), f"{name}_replicas": values.tolist()}


class Restart:
    """Copies of everything an epoch changes, so that it can be undone or repeated."""

    def __init__(self, trainer: Trainer) -> None:
        xp = trainer.net.backend.xp
        self._store = trainer.net.store.snapshot()
        self._state = {name: xp.asarray(a, copy=True) for name, a in trainer.optimizer.state.items()}
        self._counts = trainer.optimizer.t, trainer.step, trainer.epoch

    def restore(self, trainer: Trainer) -> None:
        """Put everything back."""
        trainer.net.store.restore(self._store)
        for name, array in self._state.items():
            trainer.optimizer.state[name][...] = array
        trainer.optimizer.t, trainer.step, trainer.epoch = self._counts


def _expect(value: Any, kind: type, name: str, what: str) -> None:
    if not isinstance(value, kind):
        if isinstance(value, type):
            got, hint = f"the class {value.__name__}", f"Write {value.__name__}(...)."
        else:
            shown = repr(value)
            got = shown if len(shown) <= 60 and shown[0] != "<" else f"{type(value).__name__} object"
            hint = "Put it in brackets, [...]." if isinstance(value, Callback) else "Pass such an object."
        raise OptionError(f"Trainer: expected {name} to be {what}, got {got}. {hint}")


def _check_weight(where: str, weight: Any, n: int) -> np.ndarray | None:
    if weight is None:
        return None
    host = np.asarray(to_numpy(weight), dtype=np.float64)
    if host.shape != (n,):
        raise ShapeError(f"{where}: expected sample_weight of shape ({n},), got {host.shape}. One weight a row.")
    if not np.isfinite(host).all() or (host < 0).any() or not host.sum() > 0:
        raise DataError(
            f"{where}: expected sample weights that are finite, at least 0 and not all 0, got {host.min():g} to "
            f"{host.max():g}. Give a row that shall not count weight 0."
        )
    return host


def _labels(y: np.ndarray) -> np.ndarray | None:
    """The class number of each row, where `y` is one column of whole numbers."""
    column = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if column.ndim != 1 or (column != np.floor(column)).any():
        return None
    return column.astype(np.int64)


def _class_weights(
    class_weight: Mapping[int, float] | Literal["balanced"], labels: np.ndarray | None, n_out: int
) -> np.ndarray:
    """The weight of each class; of classes not named, 1."""
    n_classes = max(n_out, 2)
    if labels is None or labels.min() < 0 or labels.max() >= n_classes:
        raise LabelError(
            f"fit: class_weight expects a loss over classes and one class number, 0..{n_classes - 1}, for each row. "
            "Use sample_weight instead."
        )
    if not isinstance(class_weight, Mapping):
        if class_weight != "balanced":
            raise OptionError(
                f"fit: expected class_weight to be a dict, 'balanced' or None, got {class_weight!r}. "
                "Try {0: 1.0, 1: 5.0}."
            )
        counts = np.bincount(labels, minlength=n_classes)
        present = max(int((counts > 0).sum()), 1)
        return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0)
    table = np.ones(n_classes)
    for label, value in class_weight.items():
        if label not in range(n_classes) or not 0 <= value < np.inf:
            raise OptionError(
                f"fit: expected class_weight for classes 0..{n_classes - 1} with finite weights >= 0, "
                f"got {label!r}: {value!r}. Classes not named have weight 1."
            )
        table[label] = value
    return table


def _times(weight: np.ndarray | None, table: np.ndarray | None, y: np.ndarray) -> np.ndarray | None:
    if table is None:
        return weight
    by_class: np.ndarray = table[np.ravel(y).astype(np.int64)]
    return by_class if weight is None else weight * by_class


def _weighty(feed: Feed, which: str = "") -> Feed:
    """Return the feed, if there is a row in it that counts."""
    if feed.weight is not None and not feed.weight[feed.rows].sum() > 0:
        raise DataError(
            f"fit: expected a {which}row of weight above 0, got {len(feed)} rows of weight 0. "
            "Look at sample_weight and class_weight."
        )
    return feed
