"""The training loop, as nested steps that a person can read and override."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from .._typing import Array
from ..accel.choice import ThreadChoice
from ..arguments import as_real, check_seed, count
from ..backend import Backend, like, on_device, to_numpy
from ..checkpoint import write
from ..config import Custom
from ..distributed import Group
from ..errors import DivergenceError
from ..files import PathLike
from ..losses import Loss
from ..metrics import Metric
from ..model import Sequential
from ..ops import Clip
from ..optim import Optimizer
from ..recordable import Recordable, RecordingMode, foreign_method
from ..regularizers import Regularizer
from ..schedules import Constant, Schedule
from .ahead import Ahead, is_plain, plan
from .callbacks import Callback
from .checks import Names, Rows, check_parts, checked_feed, decided, metrics_of
from .course import Course, Start
from .device import note_step, tells_of_memory
from .epoch import Between, Epoch, explain
from .feed import Feed
from .full_batch import FullBatch, plan_full_batch
from .history import History
from .position import At, Moment, Position, Suspended, is_stateful, key_of, suspend, what_goes_on
from .recorded import Runner, find_runner
from .rehearsal import rehearse
from .resume import Writer, load_trainer, save_trainer
from .sharing import Sharing
from .signals import DeferredSignals
from .state import TrainState
from .step import STEP_METHODS, Step, Tally, columns_of

__all__ = ["Trainer"]


class Trainer(Recordable):
    """Trains a network on a loss with an optimizer.

    The way of a fit is ``fit → run_epoch → train_step → gradients, exchange, move``; each can be overridden.
    Inside a step nothing waits for the device: losses and metrics collect there and are read once for each epoch.
    Training stops by flag (`stop`), and what callbacks do at the end they do however it ended: the last epoch,
    `stop`, Ctrl-C or an error.

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
    dropout_schedule, weight_decay_schedule : Schedule, optional
        Likewise of the rates of all Dropout layers, and of the optimizer's weight decay: RealMLP lets both fade by
        ``xpnn.FlatCosine()``.  Where decay is decoupled, the learning rate with its schedule multiplies it too.
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
    column_names : dict of str to list
        Of ``"X"`` and ``"y"``, where `fit` was given a data frame: the names of its columns.  Frames that come later
        have their columns put into this order.
    epoch, step : int
        Epochs and steps made so far.
    stop_reason : str or None
        Why the last fit ended early, if it did.
    suspended : Suspended or None
        What a fit that was cut off (Ctrl-C, SIGTERM, an error) has left for the next: with the same rows, weights and
        batch size that one goes on to the bit, its first epoch being the unfinished one.  None begins anew.
    threads : ThreadChoice
        On how many threads steps are made on NumPy, which is measured during fits: its ``count`` is the number now, its
        ``seconds`` tell what a step took with each number that was tried.
    grad_norm, penalty : array or None
        On the device: the norm of the gradients of the last epoch's last step before clipping, and the penalty's
        value of the last step.

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
        dropout_schedule: Schedule | None = None,
        weight_decay_schedule: Schedule | None = None,
        regularizer: Regularizer | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        metrics: Sequence[str | Metric] = ("accuracy",),
        callbacks: Sequence[Callback] = (),
        seed: int = 0,
    ) -> None:
        schedules = {"schedule": schedule, "dropout_schedule": dropout_schedule}
        schedules["weight_decay_schedule"] = weight_decay_schedule
        clips = {"clip_norm": clip_norm, "clip_value": clip_value}
        check_parts(net, loss, optimizer, schedules, regularizer, callbacks, clips)
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.schedule = Constant() if schedule is None else schedule
        self.dropout_schedule, self.weight_decay_schedule = dropout_schedule, weight_decay_schedule
        self.regularizer, self.clip_norm, self.clip_value = regularizer, clip_norm, clip_value
        self.metrics = metrics_of(metrics, loss, net)
        self.callbacks = list(callbacks)
        self.seed = check_seed(seed, "Trainer")
        self.history = History()
        self.column_names: Names = {}
        self.epoch = self.step = self.epochs_planned = 0
        self.columns: list[str] = columns_of(self, validated=False)
        self.stop_reason: str | None = None
        self.grad_norm: Array = None
        self.penalty: Array = None
        self.suspended: Suspended | None = None
        self._rest()

    def _rest(self) -> None:
        """Set what belongs to a fit, and to this process: operations and addresses."""
        self.bound_loss = self.loss  # with the backend's operations, once `fit` has begun
        self.position = Position(0, 0)
        self.rows_key = ""  # tells the rows of the present fit from others
        self._between, self._sharing, self._ahead = Between((), DeferredSignals()), Sharing(), Ahead()
        self._course, self.threads = Course(self.schedule), ThreadChoice()
        self._fitting = self.pausing = False
        self._runner: Runner | None = None  # makes recorded steps; it may serve the next fit
        self._full_batch: FullBatch | None = None  # makes the epochs of a fit where each is one iteration over all rows

    @property
    def backend(self) -> Backend:
        """The network's backend."""
        return self.net.backend

    def __getstate__(self) -> dict[str, Any]:
        left: tuple[str, ...] = ("bound_loss", "position", "rows_key", "_between", "_course", "_fitting", "_runner")
        left += ("_full_batch", "_sharing", "_ahead", "threads")
        return {n: v for n, v in vars(self).items() if n not in left} | {"suspended": self.standing()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        new = dict.fromkeys(("suspended", "dropout_schedule", "weight_decay_schedule"))
        vars(self).update({**new, "column_names": {}} | state)  # of a version before there were any
        self._rest()

    # -- fit ------------------------------------------------------------------------------------------------
    @on_device
    @tells_of_memory
    def fit(
        self,
        X: Any,
        y: Any = None,
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
        graph: Literal["auto"] | bool = "auto",
        shards: int | None = None,
        group: Group | None = None,
        sync_every: int | None = None,
    ) -> History:
        """Train for some epochs more.

        A fit that was cut off (Ctrl-C, SIGTERM, an error) is gone on with, to the bit, if the data are the same: its
        unfinished epoch is the first of these.  Within a fit SIGINT and SIGTERM are answered between steps.

        Parameters
        ----------
        X : array of shape (n, n_in), or ShardedRows
            Of any library, moved once to the network's backend; a `numpy.memmap` is streamed from disk.  Or data in
            shards (`xpnn.distributed.ShardedRows`), which bring their targets and weights.
        y : array of shape (n,) or (n, n_targets)
            What the loss takes.
        epochs : int, default=10
            Passes over the data; a second call goes on where the first ended.  0 lets the callbacks of a fit end that
            was cut off after its last epoch.
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
        graph : {"auto", True, False}, default="auto"
            Whether to record what a step does with arrays and to repeat it for many steps without Python: the same
            results to the last bit, sooner.  On CuPy that is a CUDA graph, on NumPy a trace that compiled loops replay
            (with ``xpnn[fast]``).  ``"auto"`` does so in a fit long enough to repay it; True in any, with a warning
            that says why where it cannot be done.  Layers, losses, metrics, a `train_step` (or a part of it) and an
            ``on_batch_end`` of your own are Python that may do more than array work: on NumPy ``"auto"`` runs them at
            each step, and True says that array work is all they do, with options that their ``repr`` shows.  On CuPy an
            ``on_batch_end`` and a `train_step` of your own need each step.

        Returns
        -------
        History
            The trainer's history, all calls together.

        Raises
        ------
        ShapeError, LabelError, DataError, OptionError
            If the data or options do not fit; nothing has been trained then.  (A bad value in a memory map is
            found when it is read.)
        DeviceMemoryError
            If a GPU has too little memory; the message has the batch size that would fit.
        DivergenceError
            If a loss, or a weight after an epoch's last step, is not finite; the weights from before that epoch are
            restored, then callbacks end.
        ProcessError
            If another process of the group has failed or was lost, or holds other weights or data.

        References
        ----------
        .. [1] Stich, "Local SGD converges fast and communicates little", ICLR 2019.
        """
        going_on = self.suspended is not None and type(epochs) is int and epochs == 0  # to what callbacks do at the end
        sharing = Sharing(X, shards, group, sync_every)
        with sharing.telling():
            with sharing.together():
                epochs = 0 if going_on else count(epochs, "fit", "epochs")
                batch_size = count(batch_size, "fit", "batch_size")
                train, valid = sharing.feeds(
                    self,
                    Rows(X, y, sample_weight),
                    Rows(X_val, y_val, sample_weight_val),
                    validation_fraction=validation_fraction,
                    validation_rows=validation_rows,
                    class_weight=class_weight,
                )
                rehearse(self, train)
                self.optimizer.bind(self.net.store)
                self._sharing = sharing
                self.rows_key = key_of(train, batch_size, shuffle=shuffle, shards=sharing.key)
                self._full_batch = plan_full_batch(self, train, batch_size, graph, sharing.tree, sharing.sync_every)
            sharing.begin(self, train, valid, epochs=epochs, validated=valid is not None)
            return self._fit(train, valid, epochs, batch_size, shuffle, graph)

    def _fit(self, train: Feed, valid: Feed | None, epochs: int, batch_size: int, shuffle: bool, graph: Any) -> History:
        """Train on rows that were checked, between the beginning of callbacks and their end."""
        before = what_goes_on(self)
        self.stop_reason, self.pausing, self.epochs_planned = None, False, self.epoch + epochs
        steps, sharing = -(-len(train) // batch_size), self._sharing
        self.bound_loss = self.loss.using(self.net.backend.ops)
        self.net.prepare(epochs * steps * sharing.passes, max(batch_size // (sharing.shards or 1), 1))
        made = 0 if before is None else before.made
        course = self._course = Course.of(self, epochs=self.epochs_planned, steps=self.step - made + epochs * steps)
        self.columns = columns_of(self, validated=valid is not None)
        begun: list[Callback] = []
        ended = False
        with DeferredSignals() as signals:
            self._between = Between(sharing.listeners(self.callbacks), signals)
            try:
                for callback in sharing.listeners(self.callbacks):
                    callback.on_fit_begin(self)
                    begun.append(callback)
                course.check(self.columns)
                if self._full_batch is None:
                    self._runner = sharing.runner(self, train, epochs, batch_size, graph) or find_runner(
                        self, train, epochs, batch_size, graph, self._runner
                    )
                self._run(before, functools.partial(self.run_epoch, train, valid, batch_size, course.lr, shuffle))
                ended = True
            finally:
                self._full_batch = None
                self._ahead.clear()
                self._runner = None if self._runner is None else self._runner.end()
                self._end(begun, keep=not ended or self.pausing)
        return self.history

    def _run(self, before: Suspended | None, run_epoch: Callable[[], dict[str, Any]]) -> None:
        """Train up to the last epoch, or to a stop; after an error, leave what the next fit needs to go on."""
        ended = False
        self.position, self._fitting = Position(self.epoch, len(self.history)), True
        try:
            if before is not None:
                self.position = before.restore(self)
            self.suspended = None
            if self._full_batch is not None:
                self.stop_reason = self._full_batch.begin() or self.stop_reason
            while not ended:
                ended = self._advance(run_epoch)
        except BaseException as error:
            note_step(error, self.epoch, self.position)
            if self.suspended is not None:  # cut off while it was being restored
                self.position = self.suspended.restore(self)
            exact = self.position.settle(self, error) and not isinstance(error, DivergenceError)
            self.suspended = suspend(self, keep=True) if exact else None
            raise
        else:
            # In case a callback's end fails.
            keep = self.pausing or any(map(is_stateful, self.callbacks))
            self.suspended = suspend(self, keep=True) if keep else None
        finally:
            self._fitting = False

    def _advance(self, run_epoch: Callable[[], dict[str, Any]]) -> bool:
        """Go on to the end of an epoch; return whether there is none to go on with."""
        position = self.position
        if position.at.moment == "on_epoch_begin":
            if self.epoch >= self.epochs_planned or self.stop_reason is not None:
                return True
            self.notify("on_epoch_begin")
            position.at = At("on_batch_end", [])
        if position.at.moment != "on_epoch_end":
            self.history.append(run_epoch())
            position.at, position.torn = At("on_epoch_end"), False
            position.tally, position.tables, position.begun = None, [], None
        self.notify("on_epoch_end")
        self._sharing.after_epoch(self)
        self.position = Position(self.epoch, len(self.history))
        return False

    def _end(self, begun: list[Callback], *, keep: bool) -> None:
        """Let callbacks end, and keep what is suspended, if they fail too; none keeps another from its end."""
        try:
            with contextlib.ExitStack() as stack:
                for callback in reversed(begun):
                    stack.callback(callback.on_fit_end, self)
        except BaseException:
            keep = True
            raise
        finally:
            self.suspended = self.suspended.leave(self) if keep and self.suspended is not None else None

    def standing(self) -> Suspended | None:
        """Return what another fit needs to go on from here; None where it begins anew."""
        return suspend(self) if self._fitting else self.suspended

    def stop(self, reason: str, *, pause: bool = False) -> None:
        """Ask to end training after this epoch, for `reason`; after a `pause` the next fit goes on to the bit."""
        self.stop_reason, self.pausing = reason, pause

    def run_epoch(
        self, train: Feed, valid: Feed | None, batch_size: int, schedule: Schedule, shuffle: bool
    ) -> dict[str, Any]:
        """Train over all batches once, validate, and return the epoch's row of the history."""
        if self._full_batch is not None:
            return self._full_batch.run_epoch(valid, batch_size)
        position = self.position
        position.began = time.perf_counter()
        epoch = self._plan_epoch(train, batch_size, schedule, shuffle=shuffle)
        if position.at.moment == "on_batch_end":
            self._make_steps(epoch)
        self.epoch = position.epoch + 1
        self.notify("on_epoch_trained")
        row_out: dict[str, Any] = {"epoch": self.epoch, **epoch.tally.row(epoch.table.weights)}
        if valid is not None:
            row_out |= {f"val_{name}": value for name, value in self.evaluate_feed(valid, batch_size).items()}
        row_out["lr"] = epoch.rate if isinstance(epoch.rate, float) else epoch.rate[:, 0].tolist()
        row_out["grad_norm"] = float(to_numpy(self.grad_norm).astype(np.float64).mean())
        if self.regularizer is not None:
            row_out["penalty"] = float(np.mean(to_numpy(self.penalty)))
        row_out["seconds"] = position.seconds + time.perf_counter() - position.began
        return row_out

    def _plan_epoch(self, train: Feed, batch_size: int, schedule: Schedule, *, shuffle: bool) -> Epoch:
        """Return the steps of the coming epoch, or of one that an earlier fit began."""
        position, first = self.position, self.position.slot
        course = self._course._replace(lr=schedule)
        start = Start(self.epoch, self.step - first, self.optimizer.t - first)
        planned = self._ahead.planned(self, train, batch_size, course, start, shuffle=shuffle)
        if planned is None:
            order = position.order if position.order is not None else self.epoch_rows(len(train)) if shuffle else None
            if type(self).epoch_rows is not Trainer.epoch_rows:  # which need not give it a second time
                position.order = order
            rows = self._sharing.rows(self, train, order, batch_size, shuffle=shuffle)
            planned = plan(self, train, batch_size, course, start, order, rows)
        tally = Tally(self, len(planned.table))
        tally.take(position.tables)
        position.tally = tally
        begun, (order, table, rate, rows) = TrainState(self, rows=len(train)), planned
        return Epoch(self, train, order, table, tally, begun, position, self._between, rate, course, rows)

    def _make_steps(self, epoch: Epoch) -> None:
        """Make the steps of an epoch that are not made yet."""
        begun = epoch.position.begin(self, epoch.begun)
        # NumPy would warn of overflow at every step; the losses tell it once, with the cause.
        with (
            np.errstate(over="ignore", invalid="ignore", divide="ignore"),
            self._sharing.on_packed(self.net, epoch.feed) as rows,
            self.threads.steps(self.backend.name, epoch.table.batch_size),
        ):
            self.pause()  # for the hooks after the last step that an earlier fit made
            given = epoch._replace(feed=rows)
            given.run(given.first if self._runner is None else self._runner.run(given))
            self._ahead.make_ready(self, given, self._runner, self.epochs_planned, plain=is_plain(type(self), Trainer))
        losses = epoch.tally.losses()  # the host waits for the device
        xp, values = self.net.backend.xp, self.net.store.values
        # The last step may spoil the weights after its loss was taken: no later loss of this epoch would tell.
        if not np.isfinite(losses).all() or not bool(xp.all(xp.isfinite(values))):
            error = self.divergence(losses, epoch)
            if error is not None:
                begun.restore_callbacks(self)
                raise error
        self.optimizer.settle()

    def epoch_rows(self, n: int) -> np.ndarray:
        """Return the order in which the coming epoch takes the `n` training rows; override it for one of your own."""
        return self._ahead.order(n, self.seed, self.epoch)

    def row_numbers(self, order: np.ndarray | None) -> Array | None:
        """Return int32 numbers that pick the rows' dropout masks, in the epoch's order and on the device.

        None, as here, leaves it to each row's place in its batch.  Override it for masks that belong to rows.
        """
        return None

    def penalty_strengths(self, weights: np.ndarray) -> Sequence[float] | None:
        """Return the penalty's strength in each step of an epoch, whose batches weigh so much.

        None, as here, leaves it to the penalty.  Override it for a strength of your own.
        """
        return None

    def divergence(self, losses: np.ndarray, epoch: Epoch) -> DivergenceError | None:
        """Find out what is not finite, undo the epoch, and return the error that says it; None, to go on as it is."""
        bad = np.argwhere(~np.isfinite(losses))
        slot = int(bad[0][0]) if len(bad) else len(epoch.table) - 1
        what = f"loss is {losses[tuple(bad[0])]} at" if len(bad) else "weights are not finite after"
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            cause = explain(epoch, slot, *self._sharing.repeated(epoch))
        epoch.begun.restore(self)
        return DivergenceError(
            f"fit: {what} epoch {self.epoch + 1}, step {slot + 1} of it. {cause} "
            "The weights from before this epoch are restored"
            + ("." if epoch.begun.complete else "; the optimizer, too large to be copied each epoch, begins anew.")
        )

    # -- a step ---------------------------------------------------------------------------------------------
    def train_step(self, x: Array, y: Array, weight: Array | None, step: Step) -> tuple[Array, Array]:
        """Make one step: `gradients`, `exchange`, `move`.  No value leaves the device.

        Parameters
        ----------
        x : array of shape (batch, n_in)
            Inputs on the device.
        y : array of shape (batch,) or (batch, n_targets)
            Targets on the device.
        weight : array of shape (batch,) or None
            Sample weights on the device.
        step : Step
            This step's numbers.

        Returns
        -------
        value : 0-d array, or (K,) for replicas
            The loss before the update, without the penalty.
        pred : array of shape (..., batch, n_out)
            The raw outputs.
        """
        value, pred = self.gradients(x, y, weight, step)
        self.exchange(step)
        self.move(step)
        return value, pred

    def gradients(self, x: Array, y: Array, weight: Array | None, step: Step) -> tuple[Array, Array]:
        """Fill the flat gradients, `data_gradients` and `penalize`; take and return what `train_step` does."""
        value, pred = self.data_gradients(x, y, weight, step)
        self.penalize(step)
        return value, pred

    def data_gradients(self, x: Array, y: Array, weight: Array | None, step: Step) -> tuple[Array, Array]:
        """Fill the flat gradients of some rows: forward, loss, backward; with shards, called for each of them."""
        net = self.net
        known = {} if weight is None else {"sample_weight": weight, "total_weight": step.weight}
        pred, caches = net.forward(x, train=True, step=step.step, rows=step.rows, dropout=step.dropout, **known)
        value, d_pred = step.loss_and_gradient(self.bound_loss, pred, y, weight)
        net.backward(d_pred, caches)
        net.backend.ops.await_gradients()
        return value, pred

    def penalize(self, step: Step) -> None:
        """Add the penalty's gradients, if there is a penalty."""
        if self.regularizer is not None:
            own = {} if step.strength is None else {"lam": step.strength}
            self.penalty = self.regularizer.add(self.net.store, **own)

    def exchange(self, step: Step) -> None:
        """Do nothing: one process has all gradients.  Where trainers of your own share a network, they average here."""

    def move(self, step: Step) -> None:
        """Clip the gradients, move the parameters by them, and count the step."""
        store, ops, xp = self.net.store, self.net.backend.ops, self.net.backend.xp
        if step.last:
            self.grad_norm = ops.global_norm(store.grads)
        if self.clip_value is not None:
            store.grads[...] = xp.minimum(xp.maximum(store.grads, -self.clip_value), self.clip_value)
        if self.clip_norm is None:
            self.optimizer.update(store, step.numbers)
        else:
            clip = Clip(ops.global_norm(store.grads), self.clip_norm)
            self.optimizer.clipped_update(store, step.numbers, clip)
        self.step += 1

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return which method of a step is not xpnn's own; one made of many steps has no place for it."""
        if mode.trusted and not mode.as_one:
            return None
        method = foreign_method(self, STEP_METHODS)
        return None if method is None else f"{type(self).__name__} has a {method} of its own"

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
        rows = Rows(X, y, sample_weight)
        return self.evaluate_feed(checked_feed("evaluate", self.net, self.loss, rows, self.column_names), 1024)

    def evaluate_feed(self, feed: Feed, batch_size: int) -> dict[str, float]:
        """Return what `evaluate` does, on data that were checked, in slices of at least `batch_size` rows."""
        # No gradients are kept, so larger slices cost nothing.
        return self._sharing.evaluate(self, feed, max(batch_size, 1024), self._answer_signals)

    def _answer_signals(self) -> None:
        if self._between.signals.pending and not self.position.at.waiting:
            self._between.signals.answer()

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
        return self._answer(self.loss.link, X)

    @on_device
    def predict(self, X: Any) -> Array:
        """Return answers: class numbers under a loss over classes, values under any other; see `Loss.decide`.

        Parameters
        ----------
        X : array of shape (n, n_in)
            Inputs, of any library.

        Returns
        -------
        array of shape (n,), or (n, n_out) for independent labels and for values
            In the library and on the device of `X`; for K replicas with their axis in front.

        Raises
        ------
        DataError
            If outputs of which a class should be chosen are NaN, as those of rows with NaN are.

        Examples
        --------
        >>> import numpy as np
        >>> import xpnn
        >>> net = xpnn.mlp([2, 3], init="zeros")
        >>> net.params["0.bias"][...] = [0.0, 2.0, 1.0]
        >>> xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).predict(np.zeros((2, 2)))
        array([1, 1])
        """
        return self._answer(functools.partial(decided, self.loss), X)

    def _answer(self, how: Callable[[Array], Array], X: Any) -> Array:
        net, X = self.net, as_real(X, "predict", "X", lazy=True, fitted=self.column_names.get("X"))
        return like(how(net.backend.asarray(net.predict(X))), X)

    # -- files ----------------------------------------------------------------------------------------------
    def save(self, path: PathLike, writing: Writer = write) -> None:
        """Write everything that training needs to go on to one file, under a temporary name first.

        Parameters
        ----------
        path : path
            The file; ``.safetensors`` is the usual ending.  `xpnn.load` does not read it: it holds more than a
            network.
        writing : function of (path, arrays, values), optional
            Is given copies of all there is to write; a `xpnn.checkpoint.BackgroundWriter` writes them while training
            goes on.

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
        save_trainer(self, path, writing)

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
            For the fits to come.  Of a fit that was cut off they take up the states, by their classes and in order.
        custom : class or sequence of classes, default=()
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

    def __repr__(self) -> str:
        parts = [repr(self.net), repr(self.loss), repr(self.optimizer)]
        parts += [] if self.schedule == Constant() else [f"schedule={self.schedule!r}"]
        names = ("dropout_schedule", "weight_decay_schedule")
        parts += [f"{name}={getattr(self, name)!r}" for name in names if getattr(self, name) is not None]
        parts += [] if self.regularizer is None else [f"regularizer={self.regularizer!r}"]
        return f"{type(self).__name__}({', '.join(parts)}, epoch={self.epoch}, step={self.step})"

    # -- the parts of fit -----------------------------------------------------------------------------------
    def notify(self, event: Moment) -> None:
        """Call a hook of all callbacks, or of those that a fit which was cut off has not called yet."""
        if self.position.at.moment != event or self.position.at.waiting is None:
            self.position.at = At(event, self._sharing.listeners(self.callbacks))
        self._call_waiting()

    def _call_waiting(self) -> None:
        """Call the present hook of the callbacks that wait for it."""
        moment, waiting = self.position.at
        while waiting:
            getattr(waiting[0], moment)(self)
            del waiting[0]
            if moment != "on_batch_end":  # between steps signals are answered after all
                self._between.signals.answer()

    def pause(self) -> None:
        """Do what comes between steps: the hooks after a step that wait, callbacks that look now and then, signals."""
        self.position.calling = True
        self._call_waiting()
        for watcher in self._between.watchers:
            watcher.between_steps(self)
        self._between.signals.answer()
        self.position.calling = False
