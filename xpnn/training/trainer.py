"""The training loop, as nested steps that a person can read and override."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from .._typing import Array
from ..accel.cuda.capture import Capturer
from ..arguments import as_rows, count, number, same_length
from ..backend import Backend, like, on_device, to_numpy
from ..config import Custom
from ..data.batching import epoch_order, split_off, stratified_indices
from ..errors import DataError, DivergenceError, OptionError, ShapeError
from ..files import PathLike
from ..losses import Loss
from ..metrics import Accuracy, Metric, get_metric
from ..model import Sequential
from ..ops import Clip
from ..optim import Optimizer
from ..random import KeyRow
from ..regularizers import Regularizer
from ..schedules import Constant, Schedule
from .callbacks import Callback, looks_at_steps
from .checks import check_weight, class_numbers, class_table, expect, weighed, weighty
from .divergence import explain
from .feed import Batch, Feed
from .history import History, missing_column, will_miss
from .recorded.graphs import Stages, plan_stages
from .recorded.tapes import Replay, plan_replay
from .resume import load_trainer, save_trainer

__all__ = ["Trainer"]


class StepRow(NamedTuple):
    """Everything that changes from step to step, known before the step begins."""

    step: int | KeyRow  # picks the dropout masks
    slot: int  # where the step's loss goes
    last: bool  # whether the epoch ends with it
    weight: float | Array  # total sample weight of its batch
    numbers: tuple[Any, ...]  # the optimizer's
    rows: Array | None = None  # numbers that pick the rows' masks, if not their places in the batch


class Rows(NamedTuple):
    """Data that have been checked."""

    X: Any
    y: Any
    host_y: np.ndarray
    weight: np.ndarray | None


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
    columns : list of str
        The columns that the rows of the present fit will have.  A callback that adds a column whose name begins
        with ``val_`` appends it in ``on_fit_begin``: those after it may follow it.
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
        expect(net, Sequential, "net", "a network")
        expect(loss, Loss, "loss", "a loss object such as xpnn.CrossEntropy()")
        expect(optimizer, Optimizer, "optimizer", "an optimizer object such as xpnn.Adam(lr=0.001)")
        if schedule is not None:
            expect(schedule, Schedule, "schedule", "a schedule object such as xpnn.CosineDecay(), or None")
        if regularizer is not None:
            expect(regularizer, Regularizer, "regularizer", "a penalty object such as xpnn.L2(1e-4), or None")
        expect(callbacks, Sequence, "callbacks", "a list of callbacks")
        for callback in callbacks:
            expect(callback, Callback, "each callback", "an object such as xpnn.EarlyStopping()")
        last = type(net.layers[-1]).__name__
        if last in loss.links:
            raise OptionError(
                f"Trainer: loss {loss} takes logits, but the last layer is {last}. "
                "Remove it; predict_proba applies what it does."
            )
        for name, value in (("clip_norm", clip_norm), ("clip_value", clip_value)):
            if value is not None and not number(value) > 0:
                raise OptionError(f"Trainer: expected {name} > 0 or None, got {value!r}. Try 1.0.")
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self._loss = loss  # with the backend's operations, once `fit` has begun
        self.schedule = Constant() if schedule is None else schedule
        self.regularizer, self.clip_norm, self.clip_value = regularizer, clip_norm, clip_value
        names = [metrics] if isinstance(metrics, str) else metrics
        self.metrics = [
            Accuracy(loss.accuracy_rule) if m == "accuracy" else get_metric(m).resolve(net.n_out)
            for m in names
            if loss.classifies or m != "accuracy"
        ]
        self.callbacks = list(callbacks)
        if not isinstance(seed, int | np.integer):
            raise OptionError(f"Trainer: expected seed to be an integer, got {seed!r}. Try seed=0.")
        self.seed = int(seed)
        self.history = History()
        self.epoch = self.step = 0
        self.epochs_planned = 0
        self.columns = self._names(validated=False)
        self.stop_reason: str | None = None
        self._grad_norm: Array = None
        self._penalty: Array = None
        self._stages: Stages | None = None  # of the present fit, where its steps are recorded
        self._replay: Replay | None = None  # likewise, where they are made from a tape; it may serve the next fit

    @property
    def backend(self) -> Backend:
        """The network's backend."""
        return self.net.backend

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_stages": None, "_replay": None}  # they hold addresses

    # -- fit ------------------------------------------------------------------------------------------------
    @on_device
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
        validation_rows: Any = None,
        sample_weight: Any = None,
        sample_weight_val: Any = None,
        class_weight: Mapping[int, float] | Literal["balanced"] | None = None,
        shuffle: bool = True,
        graph: Literal["auto"] | bool | Capturer = "auto",
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
        validation_rows : array of int, optional
            Numbers of the rows to hold out, instead of a share drawn here.
        sample_weight, sample_weight_val : array of shape (n,), optional
            Weights of the rows, at least 0.
        class_weight : dict of class to weight, or "balanced", optional
            Multiplies the weights of the rows of a class, in training and validation; ``"balanced"`` is
            n / (n_classes · count).
        shuffle : bool, default=True
            Whether each epoch takes the rows in a new order.
        graph : {"auto", True, False} or Capturer, default="auto"
            Whether to note what a step does with arrays and to repeat it for many steps without Python: the same
            results to the last bit, sooner.  On CuPy that is a CUDA graph, on NumPy a tape for compiled loops (with
            ``xpnn[fast]``).  ``"auto"`` does so in a fit long enough to repay it; True in any, with a warning that says
            why where it cannot be done.  Layers, losses, metrics, a `train_step` and an ``on_batch_end`` of your own
            are Python that may do more than array work: on NumPy ``"auto"`` runs them at each step, and True says that
            array work is all they do, with options that their ``repr`` shows.  On CuPy an ``on_batch_end`` and a
            `train_step` of your own need each step.

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
        epochs, batch_size = count(epochs, "fit", "epochs"), count(batch_size, "fit", "batch_size")
        train, valid = self._prepare(
            X, y, X_val, y_val, validation_fraction, validation_rows, sample_weight, sample_weight_val, class_weight
        )
        store = self.net.store
        self.optimizer.bind(store)
        self.stop_reason = None
        self.epochs_planned = self.epoch + epochs
        steps = -(-len(train) // batch_size)
        self._loss = self.loss.using(self.net.backend.ops)
        self.net.prepare(epochs * steps, batch_size)
        total = self.epochs_planned if self.schedule.unit == "epoch" else self.step + epochs * steps
        schedule = self.schedule.resolve(total)
        self.columns = self._names(validated=valid is not None)
        begun: list[Callback] = []
        try:
            for callback in self.callbacks:
                callback.on_fit_begin(self)
                begun.append(callback)
            self._check_watched(schedule)
            if self.net.backend.name == "numpy" and graph in ("auto", True):
                self._replay = plan_replay(self, train, epochs, batch_size, asked=graph is True)
            else:
                self._replay, self._stages = None, plan_stages(self, train, epochs, batch_size, graph)
            while self.epoch < self.epochs_planned and self.stop_reason is None:
                self._notify("on_epoch_begin")
                self.history.append(self.run_epoch(train, valid, batch_size, schedule, shuffle))
                self._notify("on_epoch_end")
        finally:
            self._stages = None
            with contextlib.ExitStack() as stack:  # what one callback raises at its end keeps no other from its own
                for callback in reversed(begun):
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
        order = self.epoch_rows(len(train)) if shuffle else None
        weights = train.batch_weights(order, batch_size)
        factors = self._factors(len(weights), schedule)
        table = self._step_table(weights, factors, self.row_numbers(order), batch_size)
        lr = self.optimizer.rate(factors[-1])
        tally = _Tally(self, len(weights))
        restart = Restart(self)
        batch_callbacks = [callback for callback in self.callbacks if looks_at_steps(callback)]

        # NumPy would warn of overflow at every step; the losses tell it once, with the cause.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            made = 0
            if self._stages is not None:
                blocks = train.blocks(order, self._stages.edges(batch_size, len(train)))
                made = self._stages.run(blocks, batch_size, table, tally)
            elif self._replay is not None:
                made = self._replay.run(self, train, order, table, tally, restart, batch_callbacks)
            for row, (x, y, weight) in zip(table[made:], train.batches(order, batch_size, made), strict=True):
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
        self.optimizer.settle()
        self._notify("on_epoch_trained")
        row_out: dict[str, Any] = {"epoch": self.epoch, **tally.row(weights)}
        if valid is not None:
            row_out |= {f"val_{name}": value for name, value in self._evaluate(valid, batch_size).items()}
        row_out["lr"] = lr if isinstance(lr, float) else lr[:, 0].tolist()
        row_out["grad_norm"] = float(to_numpy(self._grad_norm).astype(np.float64).mean())
        if self.regularizer is not None:
            row_out["penalty"] = float(np.mean(to_numpy(self._penalty)))
        row_out["seconds"] = time.perf_counter() - began
        return row_out

    def epoch_rows(self, n: int) -> np.ndarray:
        """Return the order in which the coming epoch takes the `n` training rows; override it for one of your own."""
        return epoch_order(n, self.seed, self.epoch)

    def row_numbers(self, order: np.ndarray | None) -> Array | None:
        """Return int32 numbers that pick the rows' dropout masks, in the epoch's order and on the device.

        None, as here, leaves it to each row's place in its batch.  Override it for masks that belong to rows.
        """
        return None

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
            "The weights from before this epoch are restored"
            + ("." if restart.complete else "; the optimizer, too large to be copied each epoch, begins anew.")
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
        known = {} if weight is None else {"sample_weight": weight, "total_weight": row.weight}
        pred, caches = net.forward(x, train=True, step=row.step, rows=row.rows, **known)
        value, d_pred = self._loss.value_and_grad(pred, y, weight)
        net.backward(d_pred, caches)
        if self.regularizer is not None:
            self._penalty = self.regularizer.add(store)
        if row.last:
            self._grad_norm = ops.global_norm(store.grads)
        if self.clip_value is not None:
            xp = net.backend.xp
            store.grads[...] = xp.minimum(xp.maximum(store.grads, -self.clip_value), self.clip_value)
        if self.clip_norm is None:
            self.optimizer.update(store, row.numbers)
        else:
            clip = Clip(ops.global_norm(store.grads), self.clip_norm)
            self.optimizer.clipped_update(store, row.numbers, clip)
        self.step += 1
        return value, pred

    def off_tape(self, *, weighted: bool) -> str | None:
        """Return why array work alone does not make steps, if that is so: of rows with weights, or without.

        Of whoever overrides `train_step` in this package.
        """
        return None

    # -- reading --------------------------------------------------------------------------------------------
    @on_device
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
        rows = self._checked("evaluate", X, y, sample_weight)
        return self._evaluate(self._feed("evaluate", rows), 1024)

    @on_device
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

    # -- files ----------------------------------------------------------------------------------------------
    def save(self, path: PathLike) -> None:
        """Write everything that training needs to go on to one file, under a temporary name first.

        Parameters
        ----------
        path : path
            The file; ``.safetensors`` is the usual ending.  `xpnn.load` does not read it: it holds more than a
            network.

        Raises
        ------
        DataError
            If the folder cannot be written to.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> import xpnn
        >>> X, y = xpnn.data.make_moons(100, seed=0)
        >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2], dropout=0.1), xpnn.CrossEntropy(), xpnn.Adam())
        >>> _ = trainer.fit(X, y, epochs=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     trainer.save(Path(folder, "run.safetensors"))
        ...     again = xpnn.Trainer.load(Path(folder, "run.safetensors"))
        >>> again.fit(X, y, epochs=2)["loss"] == trainer.fit(X, y, epochs=2)["loss"]
        True
        """
        save_trainer(self, path)

    @classmethod
    def load(
        cls,
        path: PathLike,
        *,
        backend: str | Backend = "numpy",
        callbacks: Sequence[Callback] = (),
        custom: Custom = (),
    ) -> Trainer:
        """Read a trainer that `save` wrote, to go on exactly where it stood.

        Parameters
        ----------
        path : path
            The file.
        backend : str or Backend, default="numpy"
            Where to go on.  Streams are the same everywhere; sums may round otherwise on another library.
        callbacks : sequence of Callback, default=()
            For the fits to come.
        custom : tuple of classes, default=()
            Layers, losses, optimizers, … of your own that it contains.

        Returns
        -------
        Trainer
            Its next `fit` makes, on the same backend, the very steps that the saved one's would have made.

        Raises
        ------
        DataError, FileFormatError
            If the file is absent, broken, or holds a network alone.
        OptionError
            If it contains a class that is not xpnn's, and not given.
        """
        return load_trainer(cls, path, backend=backend, callbacks=callbacks, custom=custom)

    # -- the parts of fit -----------------------------------------------------------------------------------
    def _notify(self, event: str) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(self)

    def _names(self, *, validated: bool) -> list[str]:
        """The columns that `run_epoch` fills."""
        names = ["loss", *(metric.name for metric in self.metrics)]
        if self.net.store.replicas:
            names = [column for name in names for column in (name, f"{name}_replicas")]
        held_out = [f"val_{name}" for name in names] if validated else []
        penalty = [] if self.regularizer is None else ["penalty"]
        return ["epoch", *names, *held_out, "lr", "grad_norm", *penalty, "seconds"]

    def _check_watched(self, schedule: Schedule) -> None:
        """Refuse a schedule that waits for a validation column which will not come."""
        if schedule.watches is not None and will_miss(schedule.watches, self.columns):
            raise missing_column(schedule, schedule.watches, self.columns)

    def _factors(self, steps: int, schedule: Schedule) -> list[float]:
        """The schedule's factor at each step of the coming epoch."""
        earned = 1.0
        if schedule.watches is not None and len(self.history):
            if schedule.watches not in self.history:
                raise missing_column(schedule, schedule.watches, self.history.names)
            earned = schedule.after(self.history[schedule.watches])
        if schedule.unit == "epoch":
            return [schedule(self.epoch + slot / steps) * earned for slot in range(steps)]
        return [schedule(self.step + slot) * earned for slot in range(steps)]

    def _step_table(
        self, weights: np.ndarray, factors: Sequence[float], rows: Array | None, batch_size: int
    ) -> list[StepRow]:
        """Everything that changes within the coming epoch, step by step."""
        t, steps = self.optimizer.t, len(weights)
        return [
            StepRow(
                self.step + slot,
                slot,
                slot == steps - 1,
                float(weights[slot]),
                self.optimizer.numbers(t + slot + 1, factors[slot]),
                None if rows is None else rows[slot * batch_size : min((slot + 1) * batch_size, rows.shape[0])],
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
        validation_rows: Any,
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
        if not 0 <= number(validation_fraction) < 1:
            raise OptionError(
                f"fit: expected 0 <= validation_fraction < 1, got {validation_fraction!r}. Pass 0.2 for a fifth."
            )
        rows = self._checked("fit", X, y, sample_weight)
        labels = class_numbers(rows.host_y) if self.loss.classifies else None
        table = None if class_weight is None else class_table(class_weight, labels, self.net.n_out)
        whole = self._feed("fit", rows, table)
        if X_val is not None:
            where = "fit (validation)"
            valid = self._feed(where, self._checked(where, X_val, y_val, sample_weight_val, "_val"), table)
            return weighty(whole), weighty(valid, "validation ")
        n = len(rows.host_y)
        if validation_rows is not None:
            kept, held_out = split_off(n, validation_rows, "fit")
        elif not validation_fraction:
            return weighty(whole), None
        elif n < 2:
            raise DataError(f"fit: validation_fraction needs 2 rows, got {n}. Pass more rows, or X_val and y_val.")
        else:
            kept, held_out = stratified_indices(n if labels is None else labels, validation_fraction, self.seed)
        return weighty(whole.part(kept)), weighty(whole.part(held_out), "held-out ")

    def _checked(self, where: str, X: Any, y: Any, weight: Any, suffix: str = "") -> Rows:
        """Check rows against network and loss."""
        X, y = as_rows(X, where, f"X{suffix}"), as_rows(y, where, f"y{suffix}")
        host_y = self._check_data(where, X, y)
        return Rows(X, y, host_y, check_weight(where, weight, len(host_y)))

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

    def _feed(self, where: str, rows: Rows, table: np.ndarray | None = None) -> Feed:
        """Make a feed of checked rows; `table` holds the weights of the classes."""
        labels = self.loss.takes_labels and len(rows.y.shape) == 1
        return Feed(
            self.net.backend,
            rows.X,
            rows.y,
            weighed(rows.weight, table, rows.host_y),
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

    def over(self, tables: Sequence[Array]) -> _Tally:
        """Return a tally of other `tables`."""
        new = copy.copy(self)
        new._losses, *new._sums = tables
        return new

    @property
    def tables(self) -> list[Array]:
        """Losses and sums, one row for each step."""
        return [self._losses, *self._sums]

    def put(self, slot: int, other: _Tally) -> None:
        """Take over the steps of another tally, from `slot` on."""
        for table, part in zip(self.tables, other.tables, strict=True):
            table[slot : slot + part.shape[0], ...] = part

    def losses(self) -> np.ndarray:
        """The loss of each step, on the host."""
        return to_numpy(self._losses).astype(np.float64)

    def row(self, weights: np.ndarray) -> dict[str, Any]:
        """Mean loss and metrics over all steps, weighted by the batches' weights."""
        losses = self.losses()
        total = weights.sum()
        out = _columns("loss", _of_each(losses, 1, lambda own: np.tensordot(weights, own, axes=1) / total))
        for table, metric in zip(self._sums, self.trainer.metrics, strict=True):
            out |= _columns(metric.name, _of_each(to_numpy(table).astype(np.float64), 2, metric.value))
        return out


def _of_each(table: np.ndarray, ndim: int, of: Callable[[np.ndarray], Any]) -> Any:
    """Apply `of` to the table of a single network, `ndim`-D, or to each replica's: it rounds as it would alone."""
    if table.ndim == ndim:
        return of(table)
    return [of(np.ascontiguousarray(table[..., k])) for k in range(table.shape[-1])]


def _columns(name: str, value: Any) -> dict[str, Any]:
    """One column; for replicas their mean, and the list of all."""
    values = np.asarray(value, dtype=np.float64)
    if values.ndim == 0:
        return {name: float(values)}
    return {name: float(values.mean()), f"{name}_replicas": values.tolist()}


# Optimizer states of more numbers than this are not copied at every epoch: half a MiB in float32.
_COPIED_ELEMENTS = 1 << 17


class Restart:
    """What an epoch changes, as it was before, so that it can be undone or repeated.

    Parameters
    ----------
    trainer : Trainer
        Whose epoch begins.
    whole : bool, default=False
        Whether to copy the optimizer's state however large it is.

    Attributes
    ----------
    complete : bool
        Whether the optimizer's state is part of it.  The state of a larger network would take more memory than its
        weights, for a case that seldom comes: there an undone epoch leaves the optimizer as new.
    """

    def __init__(self, trainer: Trainer, *, whole: bool = False) -> None:
        backend, optimizer = trainer.net.backend, trainer.optimizer
        self._store = trainer.net.store.snapshot()
        self._counts = optimizer.t, trainer.step, trainer.epoch
        self._state: dict[str, Array] | None = None  # as new
        elements = sum(math.prod(array.shape) for array in optimizer.state.values())
        # One replica that diverges must not cost the others their state.
        small = elements <= _COPIED_ELEMENTS  # then also before the first step: it may have been set by hand
        if small or (optimizer.t > 0 and (whole or trainer.net.store.replicas)):
            self._state = {name: backend.copy(a) for name, a in optimizer.state.items()}
        self.complete = optimizer.t == 0 or self._state is not None

    def restore(self, trainer: Trainer) -> None:
        """Put everything back."""
        trainer.net.store.restore(self._store)
        for name, array in trainer.optimizer.state.items():
            array[...] = 0.0 if self._state is None else self._state[name]
        t, trainer.step, trainer.epoch = self._counts
        trainer.optimizer.t = t if self.complete else 0
