"""Things that happen around training: each a small class with the hooks it needs.

Hooks are called with the trainer.  ``on_fit_end`` is called however training ended; a callback ends training
with ``trainer.stop("why")``.  Between ``on_epoch_trained`` and ``on_epoch_begin`` the network holds the weights
that count: those which were validated.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from .._typing import Array
from ..arguments import count, describe, number, suggest
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
    """

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

    def looks_at_steps(self) -> bool:
        """Whether anything is done in ``on_batch_end``."""
        return type(self).on_batch_end is not Callback.on_batch_end

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


class _Monitor(Callback):
    """Follows one column of the history and knows when it is at its best."""

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
        self.best = math.nan
        self.best_epoch: int | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin anew: what was best in an earlier fit does not count."""
        if will_miss(self.monitor, trainer.columns):
            raise missing_column(self, self.monitor, trainer.columns)
        self.best, self.best_epoch = math.nan, None

    def improved(self, trainer: Trainer) -> bool:
        """Read the last epoch's value; note and return whether it is the best so far."""
        row = trainer.history.rows[-1]
        if self.monitor not in row:
            raise missing_column(self, self.monitor, row)
        value = float(row[self.monitor])
        sign = 1.0 if self.mode == "min" else -1.0
        if math.isnan(value) or sign * value >= sign * self.best - self.min_delta:
            return False
        self.best, self.best_epoch = value, trainer.epoch
        return True


class EarlyStopping(_Monitor):
    """Stop when a value has not improved for some epochs, and keep the best weights [1]_.

    The best weights are restored at the end of training however it ended: by this callback, by the last epoch,
    by a time limit, by Ctrl-C or by an error.

    Parameters
    ----------
    monitor : str, default="val_loss"
        Column of the history.
    patience : int, default=10
        Epochs without improvement before stopping.
    min_delta : float, default=0.0
        Smallest change that counts as improvement.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better; ``"auto"`` knows the losses and metrics of xpnn.
    restore_best : bool, default=True
        Whether to restore the weights (and running statistics) of the best epoch.

    Attributes
    ----------
    best : float
        Best value so far.
    best_epoch : int or None
        Its epoch, from 1.

    References
    ----------
    .. [1] Prechelt, "Early stopping — but when?", Neural Networks: Tricks of the Trade, 1998.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 10,
        *,
        min_delta: float = 0.0,
        mode: Mode = "auto",
        restore_best: bool = True,
    ) -> None:
        super().__init__(monitor, mode, min_delta)
        self.patience, self.restore_best = count(patience, "EarlyStopping", "patience"), restore_best
        self._best_weights: Snapshot | None = None

    def on_fit_begin(self, trainer: Trainer) -> None:
        super().on_fit_begin(trainer)
        self._best_weights = None

    def on_epoch_end(self, trainer: Trainer) -> None:
        if self.improved(trainer):
            if self.restore_best:
                self._best_weights = trainer.net.store.snapshot()
        elif self.best_epoch is not None and trainer.epoch - self.best_epoch >= self.patience:
            restored = f"; restored epoch {self.best_epoch}" if self.restore_best else ""
            trainer.stop(f"{self.monitor} has not improved for {self.patience} epochs{restored} ({self.best:.4g})")

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._best_weights is not None:
            trainer.net.store.restore(self._best_weights)


class Checkpoint(_Monitor):
    """Save the network to a file when it is at its best, or at every epoch.

    Parameters
    ----------
    path : path
        Written by `xpnn.save`, to a temporary name first.  ``{epoch}`` in it becomes the epoch's number.
    monitor : str or None, default="val_loss"
        Column of the history to follow; None saves at every epoch.
    mode : {"auto", "min", "max"}, default="auto"
        Which direction is better.
    """

    def __init__(self, path: PathLike, monitor: str | None = "val_loss", *, mode: Mode = "auto") -> None:
        super().__init__(monitor or "loss", mode)
        self.path, self.always = str(path), monitor is None

    def on_epoch_end(self, trainer: Trainer) -> None:
        from ..checkpoint import save

        if self.always or self.improved(trainer):
            save(trainer.net, self.path.replace("{epoch}", str(trainer.epoch)))


class CSVLogger(Callback):
    """Write the history to a CSV file after every epoch; the file on disk is always whole.

    Parameters
    ----------
    path : path
        The file.
    """

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
        self._averaged: Array = None
        self._steps = self._epoch_began = 0

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._average, self._raw, self._averaged, self._steps = trainer.net.store.zeros(), None, None, 0

    def on_epoch_begin(self, trainer: Trainer) -> None:
        self._epoch_began = trainer.step
        if self._raw is not None:
            values = trainer.net.store.values
            self._averaged = trainer.backend.copy(values)
            values[...] = self._raw
            self._raw = None

    def on_batch_end(self, trainer: Trainer) -> None:
        self._average *= self.decay
        self._average += trainer.net.store.values * (1.0 - self.decay)
        self._steps += 1

    def on_epoch_trained(self, trainer: Trainer) -> None:
        values = trainer.net.store.values
        self._raw = trainer.backend.copy(values)
        values[...] = self._average / (1.0 - self.decay**self._steps)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._raw is None and self._steps:  # ended within an epoch
            if trainer.step > self._epoch_began:
                self.on_epoch_trained(trainer)
            elif self._averaged is not None:  # the epoch diverged and was undone, but not in the running average
                trainer.net.store.values[...] = self._averaged
        self._raw = self._averaged = None


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
