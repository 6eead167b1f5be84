"""Things that happen around training: each a small class with the hooks it needs.

Hooks are called with the trainer.  ``on_fit_end`` is called however training ended; a callback ends training
with ``trainer.stop("why")``.  Between ``on_epoch_trained`` and ``on_epoch_begin`` the network holds the weights
that count: those which were validated.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .._typing import Array
from ..arguments import count, describe, flag, number, suggest
from ..checkpoint import BackgroundWriter, save
from ..contract import check_function
from ..errors import OptionError
from ..files import PathLike
from ..metrics import mode_of
from ..params import Snapshot
from ..recordable import Recordable, RecordingMode
from .history import missing_column, will_miss

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["EMA", "HOOKS", "CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "LambdaCallback", "TimeLimit"]

Mode = Literal["auto", "min", "max"]


class Callback(Recordable):
    """Base of all callbacks: hooks that do nothing.

    ``on_batch_end`` runs after every step: keep it to array operations that do not wait for the device.

    One that keeps something from hook to hook defines `state_dict` and `load_state_dict`, so that a fit which was cut
    off can go on; a hook that was cut off is called again.

    Attributes
    ----------
    on_every_rank : bool
        Whether each process of a group calls it; False: rank 0 alone, for what writes or shows something.
    """

    on_every_rank: bool = True

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Before the first epoch of a fit."""

    def on_epoch_begin(self, trainer: Trainer) -> None:
        """Before each epoch."""

    def on_batch_end(self, trainer: Trainer) -> None:
        """After each step."""

    def on_epoch_trained(self, trainer: Trainer) -> None:
        """After the last step of an epoch, before validation."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """After validation; the epoch's row is the last of ``trainer.history``."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """At the end, however it came: last epoch, stop, Ctrl-C or an error."""

    def between_steps(self, trainer: Trainer) -> None:
        """Between steps, where training could be saved: after each, or after some that were made at once.

        Called if `most_steps` says so.
        """

    def most_steps(self) -> int | None:
        """Return how many steps at most may be made from one call of `between_steps` to the next; None: no calls.

        Where a GPU makes many steps as one, the call comes at the next occasion.
        """
        return None

    def looks_at_steps(self) -> bool:
        """Whether anything is done in ``on_batch_end``."""
        return type(self).on_batch_end is not Callback.on_batch_end

    def state_dict(self) -> dict[str, Any]:
        """Return what a fit that was cut off must know to go on; nothing, if not overridden.

        Values are numbers, text, lists, dicts, None, and arrays (not within the others), which must not change later.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` returned, after ``on_fit_begin`` or when an epoch is undone.

        From a file, floating arrays come back as the network's library has them, others as NumPy's.
        """

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return that each step is looked at, where many are made as one; what is called between steps may be."""
        if not self.looks_at_steps():
            return None
        if mode.as_one:
            return f"{type(self).__name__} looks at every step"
        return super().unrecordable(mode)

    def __repr__(self) -> str:
        return describe(self)


#: What a trainer calls.
HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class _Best(NamedTuple):
    """A value, its epoch and, where they are kept, its weights; of several replicas lists, and all their weights."""

    value: Any = math.nan
    epoch: Any = None
    weights: Snapshot | None = None


class _Monitor(Callback):
    """Follows one column of the history and knows when it is at its best."""

    _noted = _Best()

    def __init__(self, monitor: str, mode: Mode, min_delta: float = 0.0) -> None:
        if mode not in ("auto", "min", "max"):
            raise OptionError(
                f"{type(self).__name__}: expected mode to be 'auto', 'min' or 'max', got {mode!r}. "
                "Choose 'min' where small values are good."
            )
        if not number(min_delta) >= 0:
            raise OptionError(
                f"{type(self).__name__}: expected min_delta >= 0, got {min_delta!r}. Pass the change, without a sign."
            )
        self.monitor, self.min_delta = monitor, float(min_delta)
        self.mode = mode_of(monitor) if mode == "auto" else mode

    @property
    def best(self) -> Any:
        """Best value so far; a list where each replica has its own."""
        return self._noted.value

    @property
    def best_epoch(self) -> Any:
        """Its epoch, from 1, None before there is one; a list where each replica has its own."""
        return self._noted.epoch

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin anew: what was best in an earlier fit does not count."""
        if will_miss(self.monitor, trainer.columns):
            raise missing_column(self, self.monitor, trainer.columns)
        self._noted = _Best()

    def improved(self, trainer: Trainer) -> float | None:
        """Read the last epoch's value, and return it if it is the best so far: to be noted when all is done for it."""
        row = trainer.history.rows[-1]
        if self.monitor not in row:
            raise missing_column(self, self.monitor, row)
        value = float(row[self.monitor])
        return value if self.better(value, self.best) else None

    def better(self, value: float, best: float) -> bool:
        """Whether a value is an improvement on the best so far, which is NaN before the first."""
        sign = 1.0 if self.mode == "min" else -1.0
        return not (math.isnan(value) or sign * value >= sign * best - self.min_delta)

    def note(self, trainer: Trainer, value: float, weights: Snapshot | None = None) -> None:
        """Note the best value, its epoch and its weights, all at once."""
        self._noted = _Best(value, trainer.epoch, weights)

    def state_dict(self) -> dict[str, Any]:
        value, epoch, weights = self._noted
        kept = {} if weights is None else {"values": weights.values, "buffers": weights.buffers}
        return {"best": value, "best_epoch": epoch, **kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        weights = Snapshot(state["values"], state["buffers"]) if "values" in state else None
        self._noted = _Best(state["best"], state["best_epoch"], weights)


class EarlyStopping(_Monitor):
    r"""Stop when a value has not improved for some epochs, and keep the best weights [1]_.

    The best weights are restored at the end of training however it ended: by this callback, by the last epoch,
    by a time limit, by Ctrl-C or by an error.

    Parameters
    ----------
    monitor : str, default="val_loss"
        Column of the history.
    patience : int, default=10
        Epochs without improvement before stopping.
    patience_growth : float, default=0.0
        By how many epochs patience grows with each epoch up to the best: training that still improves late may wait
        longer.  RealMLP's rule [2]_, to stop after epoch :math:`3\,\mathrm{best} + 40`, is ``patience=41,
        patience_growth=2``.
    min_delta : float, default=0.0
        Smallest change that counts as improvement.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better; ``"auto"`` knows the losses and metrics of xpnn.
    restore_best : bool, default=True
        Whether to restore the weights (and running statistics) of the best epoch.
    ties : {"first", "last"}, default="first"
        Which of several epochs with the best value counts.  With few validation rows an error rate has few values:
        RealMLP takes the last, whose weights have been trained longest.
    per_replica : bool, default=False
        Whether each replica of the network has a best epoch of its own, by its own value (``val_loss_replicas``), and
        gets the weights of that one back; `best` and `best_epoch` are lists then.  Training stops when the last replica
        has lost its patience; what those before it did afterwards does not count, so each ends as it would alone.
        False goes by the mean over replicas.

    Raises
    ------
    OptionError
        If an option is out of its range; in `Trainer.fit`, if there is no such column or there are no replicas.

    References
    ----------
    .. [1] Prechelt, "Early stopping — but when?", Neural Networks: Tricks of the Trade, 1998.
    .. [2] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(200, noise=0.2, seed=0)
    >>> each = EarlyStopping(patience=5, ties="last", per_replica=True)
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2], replicas=3), xpnn.CrossEntropy(), xpnn.Adam(0.05), callbacks=[each])
    >>> history = trainer.fit(X, y, epochs=30, validation_fraction=0.3)
    >>> losses = zip(*history["val_loss_replicas"])
    >>> [round(best, 6) for best in each.best] == [round(min(column), 6) for column in losses]
    True
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        *,
        patience_growth: float = 0.0,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
        ties: Literal["first", "last"] = "first",
        per_replica: bool = False,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience = count(patience, "EarlyStopping", "patience")
        self.restore_best = flag(restore_best, "EarlyStopping", "restore_best")
        if not 0 <= number(patience_growth) < math.inf:
            raise OptionError(f"EarlyStopping: expected patience_growth >= 0, got {patience_growth!r}. Try 2.0.")
        if ties not in ("first", "last"):
            raise OptionError(f"EarlyStopping: expected ties to be 'first' or 'last', got {ties!r}. Choose one.")
        self.patience_growth, self.ties = float(patience_growth), ties
        self.per_replica = flag(per_replica, "EarlyStopping", "per_replica")

    def better(self, value: float, best: float) -> bool:
        """Whether a value is an improvement on the best so far; an equal one is if ties go to the last."""
        if self.ties == "first":
            return super().better(value, best)
        sign = 1.0 if self.mode == "min" else -1.0
        return not (math.isnan(value) or sign * value > sign * best - self.min_delta)

    def _over(self, best_epoch: int | None, epoch: int) -> bool:
        """Whether patience is over after an epoch."""
        if best_epoch is None:
            return False
        return epoch - best_epoch >= self.patience + self.patience_growth * best_epoch

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin anew: what was best in an earlier fit does not count."""
        super().on_fit_begin(trainer)
        if not self.per_replica:
            return
        if not trainer.net.store.replicas:
            raise OptionError(
                "EarlyStopping: expected a network of replicas with per_replica=True, got a single one. Leave "
                "per_replica out, or make the network with replicas=8."
            )
        (k,) = trainer.net.store.replicas
        self._noted = _Best([math.nan] * k, [None] * k)

    def on_epoch_end(self, trainer: Trainer) -> None:
        epoch = trainer.epoch
        if self.per_replica:
            self._look_at_each(trainer)
            over, who = all(self._over(best, epoch) for best in self.best_epoch), "of no replica has"
        else:
            value = self.improved(trainer)
            if value is not None:
                self.note(trainer, value, trainer.net.store.snapshot() if self.restore_best else None)
            over, who = self._over(self.best_epoch, epoch), "has not"
        if over:
            waited = epoch - int(np.max(self.best_epoch))
            restored = f"; restored epoch {self._listed(self.best_epoch)}" if self.restore_best else ""
            trainer.stop(f"{self.monitor} {who} improved for {waited} epochs{restored} ({self._listed(self.best)})")

    def _listed(self, values: Any) -> str:
        return ", ".join(f"{value:.4g}" for value in values) if self.per_replica else f"{values:.4g}"

    def _look_at_each(self, trainer: Trainer) -> None:
        """Note the replicas whose last epoch is their best, and whose patience was not over before it."""
        row, column, epoch = trainer.history.rows[-1], f"{self.monitor}_replicas", trainer.epoch
        if column not in row:
            raise missing_column(self, column, row)
        bests, epochs, kept = list(self.best), list(self.best_epoch), self._noted.weights
        found = [
            k
            for k, (value, best, own) in enumerate(zip(row[column], bests, epochs, strict=True))
            if self.better(float(value), best) and not self._over(own, epoch - 1)
        ]
        if not found:
            return
        for k in found:
            bests[k], epochs[k] = float(row[column][k]), epoch
        if self.restore_best:
            now = trainer.net.store.snapshot()
            if kept is not None:
                for k in set(range(len(bests))).difference(found):
                    now.values[k, ...] = kept.values[k, ...]
                    now.buffers[k, ...] = kept.buffers[k, ...]
            kept = now
        self._noted = _Best(bests, epochs, kept)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._noted.weights is not None:
            trainer.net.store.restore(self._noted.weights)
            trainer.history.restored = True


class Checkpoint(_Monitor):
    """Save the network, or the whole trainer, to a file: at its best, at every epoch, or every so often.

    Parameters
    ----------
    path : path
        Written under a temporary name first.  ``{epoch}`` in it becomes the number of epochs finished.
    monitor : str or None, default="val_loss"
        Column of the history to follow; None saves at every epoch, or as `every_steps` and `every_seconds` say.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better.
    trainer : bool, default=False
        Whether to write what `Trainer.save` does, for `Trainer.load`, and not the network alone, for `xpnn.load`.
        Training then goes on to the bit from where it was last saved, whatever has ended it: load the trainer with
        callbacks like these, and fit it with the same rows for ``total - trainer.epoch`` epochs.
    every_steps : int, optional
        With ``monitor=None`` and ``trainer=True``: save after each so many steps, also within an epoch.  Files are
        then written in a thread, while training goes on.
    every_seconds : float, optional
        Likewise: save, after a step, where so many seconds have passed.

    Examples
    --------
    >>> import tempfile, xpnn
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> keep = Checkpoint(Path(folder.name, "run.safetensors"), None, trainer=True, every_steps=100)
    >>> trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[keep])
    >>> _ = trainer.fit(*xpnn.data.make_moons(200, seed=0), epochs=3)
    >>> xpnn.Trainer.load(keep.path, callbacks=[keep]).epoch
    3
    >>> folder.cleanup()
    """

    on_every_rank = False

    def __init__(
        self,
        path: PathLike,
        monitor: str | None = "val_loss",
        *,
        mode: Mode = "auto",
        trainer: bool = False,
        every_steps: int | None = None,
        every_seconds: float | None = None,
    ) -> None:
        super().__init__(monitor or "loss", mode)
        self.path, self.always = str(path), monitor is None
        self.trainer = flag(trainer, "Checkpoint", "trainer")
        self.every_steps = None if every_steps is None else count(every_steps, "Checkpoint", "every_steps")
        if every_seconds is not None and not number(every_seconds) >= 0:
            raise OptionError(f"Checkpoint: expected every_seconds >= 0, got {every_seconds!r}. Try 60.")
        self.every_seconds = None if every_seconds is None else float(every_seconds)
        self.often = every_steps is not None or every_seconds is not None
        if self.often and not (trainer and self.always):
            raise OptionError(
                f"Checkpoint: expected monitor=None and trainer=True with every_steps or every_seconds, got "
                f"monitor={monitor!r} and trainer={trainer!r}. Only a whole trainer goes on from within an epoch."
            )
        self._saved_at = 0.0
        self._saved_step = 0
        self._writer = BackgroundWriter()

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        self._saved_at, self._saved_step = time.monotonic(), trainer.step

    def most_steps(self) -> int | None:
        return self.every_steps or (sys.maxsize if self.often else None)

    def between_steps(self, trainer: Trainer) -> None:
        """Save, if it is time."""
        late = self.every_seconds is not None and time.monotonic() - self._saved_at >= self.every_seconds
        n = self.every_steps
        if late or (n is not None and trainer.step // n > self._saved_step // n):
            self._save(trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self.often:
            return
        value = None if self.always else self.improved(trainer)
        if self.always or value is not None:
            self._save(trainer)
        if value is not None:
            self.note(trainer, value)

    def on_fit_end(self, trainer: Trainer) -> None:
        # Of training that diverged the last good state is worth more.
        ended = trainer.stop_reason is not None or trainer.epoch >= trainer.epochs_planned
        if self.often and (ended or trainer.suspended is not None):
            self._save(trainer)
        self.finish()

    def finish(self) -> None:
        """Wait until what is being written is whole."""
        self._writer.finish()

    def _save(self, trainer: Trainer) -> None:
        path = self.path.replace("{epoch}", str(len(trainer.history)))
        if self.often:
            trainer.save(path, self._writer)
        elif self.trainer:
            trainer.save(path)
        else:
            save(trainer.net, path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.step


class CSVLogger(Callback):
    """Write the history to a CSV file after every epoch; the file on disk is always whole.

    Parameters
    ----------
    path : path
        The file.
    """

    on_every_rank = False

    def __init__(self, path: PathLike) -> None:
        self.path = path

    def on_epoch_end(self, trainer: Trainer) -> None:
        trainer.history.to_csv(self.path)


class TimeLimit(Callback):
    """Stop at the end of the epoch in which a time is over.

    Parameters
    ----------
    seconds : float
        Wall-clock time from the beginning of the fit.
    """

    def __init__(self, seconds: float) -> None:
        if not number(seconds) > 0:
            raise OptionError(f"TimeLimit: expected seconds > 0, got {seconds!r}. Try 60.")
        self.seconds = float(seconds)
        self._began = 0.0

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._began = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"used": time.monotonic() - self._began}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._began = time.monotonic() - state["used"]

    def on_epoch_end(self, trainer: Trainer) -> None:
        if time.monotonic() - self._began >= self.seconds:
            trainer.stop(f"the time limit of {self.seconds:g} seconds is over")


class EMA(Callback):
    r"""Validate and keep an exponential moving average of the weights.

    After each step :math:`a \leftarrow d\,a + (1 - d)\,p`.  The average, divided by :math:`1 - d^t` so that its
    beginning at zero does not count, stands in the network from the end of each epoch to the beginning of the
    next, so validation, checkpoints and early stopping see it, and it is what training leaves.  Put it before
    those callbacks.  Running statistics of batch norm are not averaged.  Each fit begins a new average.

    Parameters
    ----------
    decay : float, default=0.99
        The factor `d` for each step, in (0, 1).
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 < number(decay) < 1:
            raise OptionError(f"EMA: expected 0 < decay < 1, got {decay!r}. Try 0.99.")
        self.decay = float(decay)
        self._average: Array = None
        self._raw: Array = None
        self._steps, self._shown = 0, False  # whether the average is in the network

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._average, self._raw, self._steps = trainer.net.store.zeros(), None, 0
        self._shown = False

    # What is cut off in one of these is made whole when it is called again, or by `on_fit_end`.
    def on_epoch_begin(self, trainer: Trainer) -> None:
        if self._raw is not None:
            self._shown = False
            trainer.net.store.values[...] = self._raw
            self._raw = None

    def on_batch_end(self, trainer: Trainer) -> None:
        self._average *= self.decay
        self._average += trainer.net.store.values * (1.0 - self.decay)
        self._steps += 1

    def on_epoch_trained(self, trainer: Trainer) -> None:
        values = trainer.net.store.values
        if self._raw is None:
            self._raw = trainer.backend.copy(values)
        values[...] = self._average / (1.0 - self.decay**self._steps)
        self._shown = True

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._steps and not self._shown:  # ended within an epoch, or before it if it was undone
            self.on_epoch_trained(trainer)
        self._raw = None

    def state_dict(self) -> dict[str, Any]:
        raw = {} if self._raw is None else {"raw": self._raw}
        average = {} if self._average is None else {"average": self._average * 1.0}
        return {"steps": self._steps, **average, **raw}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._raw, self._steps = state.get("raw"), state["steps"]
        self._shown = self._raw is not None
        if "average" in state:
            self._average = state["average"] * 1.0


class LambdaCallback(Callback):
    """Call functions at the hooks.

    Parameters
    ----------
    **hooks : callable
        By the name of the hook (``on_epoch_end``, …); each is called with the trainer.

    Examples
    --------
    >>> said = []
    >>> callback = LambdaCallback(on_epoch_end=lambda trainer: said.append(trainer.history["loss"][-1]))
    """

    def __init__(self, **hooks: Callable[[Trainer], Any]) -> None:
        unknown = sorted(hooks.keys() - set(HOOKS))
        if unknown:
            raise OptionError(
                f"LambdaCallback: expected hooks among {', '.join(sorted(HOOKS))}, got {', '.join(unknown)}. "
                f"{suggest(unknown[0], HOOKS) if len(unknown) == 1 else 'Choose one of these.'}"
            )
        for name, hook in hooks.items():
            check_function(hook, f"LambdaCallback({name}=...)", "trainer")
        self.hooks = hooks

    def _call(self, name: str, trainer: Trainer) -> None:
        if name in self.hooks:
            self.hooks[name](trainer)

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._call("on_fit_begin", trainer)

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._call("on_epoch_begin", trainer)

    def on_batch_end(self, trainer: Trainer) -> None:
        self._call("on_batch_end", trainer)

    def on_epoch_trained(self, trainer: Trainer) -> None:
        self._call("on_epoch_trained", trainer)

    def on_epoch_end(self, trainer: Trainer) -> None:
        self._call("on_epoch_end", trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._call("on_fit_end", trainer)

    def __repr__(self) -> str:
        return f"LambdaCallback({', '.join(f'{name}=...' for name in self.hooks)})"

    def looks_at_steps(self) -> bool:
        """Whether a function is called after each step."""
        return "on_batch_end" in self.hooks

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return that a function of the user's sees each step, unless it is trusted."""
        if not self.looks_at_steps() or mode.as_one or mode.trusted:
            return super().unrecordable(mode)
        return "a function of yours looks at every step; fit(graph=True) says that it changes no option"
