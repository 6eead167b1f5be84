"""scikit-learn's bookkeeping as callbacks: loss curve, tolerance, learning-rate rules, validation scores."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..optim import LBFGS
from ..params import Snapshot
from ..training import Callback, Trainer
from ._arguments import Arguments
from ._trainer import SklearnTrainer

__all__ = ["Bookkeeping", "Iterations", "Progress"]

Publish = Callable[..., None]


@dataclass
class Progress:
    """The record of stochastic training: fitted attributes before an estimator publishes them.

    What scores need is None without `early_stopping`, and what losses need is None with it, as in scikit-learn.
    """

    n_iter_: int = 0
    t_: int = 0
    loss_curve_: list[float] = field(default_factory=list)
    best_epoch_: int | None = None
    validation_scores_: Any = None
    best_validation_score_: Any = None
    best_loss_: Any = np.inf
    _no_improvement_count: int = 0

    @classmethod
    def begun(cls, *, early_stopping: bool) -> Progress:
        """Return the record of a training that begins."""
        if early_stopping:
            return cls(validation_scores_=[], best_validation_score_=-np.inf, best_loss_=None)
        return cls()

    @classmethod
    def of(cls, estimator: object) -> Progress:
        """Return the record of a training that an estimator goes on with, in a fit of its own."""
        known = {f.name: getattr(estimator, f.name) for f in fields(cls) if hasattr(estimator, f.name)}
        return cls(**{**known, "n_iter_": 0})

    def recent_fall(self) -> float:
        """Return by how much the loss fell in the last epoch."""
        return self.loss_curve_[-2] - self.loss_curve_[-1] if len(self.loss_curve_) > 1 else math.nan


class Bookkeeping(Callback):
    """Keep the record of stochastic training, publish it when it changes, and stop by an estimator's arguments.

    Parameters
    ----------
    rules : Arguments
        The estimator's.
    progress : Progress
        The record to go on with.
    score : callable or None
        Returns the validation score with the present weights; None stops on the training loss.
    incremental : bool
        Whether this is one call of `partial_fit`.
    samples : int
        Rows of an epoch.
    publish : callable
        Takes fitted attributes by name.
    """

    def __init__(
        self,
        rules: Arguments,
        progress: Progress,
        score: Callable[[], float] | None,
        *,
        incremental: bool,
        samples: int,
        publish: Publish,
    ) -> None:
        self.rules, self.progress, self.score = rules, progress, score
        self.incremental, self.samples, self.publish = incremental, samples, publish
        self._best: Snapshot | None = None
        # A fit that another goes on from ends with its last weights: 10 + 10 epochs are 20.
        goes_on = incremental or rules.warm_start
        self._lowest = None if score is not None or goes_on else LowestLoss(rules.tol)
        publish(**vars(progress))

    def on_epoch_end(self, trainer: Trainer) -> None:
        rules, progress, loss = self.rules, self.progress, trainer.history.rows[-1]["loss"]
        progress.n_iter_ += 1
        progress.t_ += self.samples
        progress.loss_curve_.append(loss)
        self.publish(loss_=loss, n_iter_=progress.n_iter_, t_=progress.t_)
        if rules.verbose:
            print(f"Iteration {progress.n_iter_}, loss = {loss:.8f}")  # noqa: T201
        if self.score is None:
            if self._lowest is not None:
                self._lowest.note(cast("SklearnTrainer", trainer), falls=loss < progress.best_loss_)
            self._follow_loss(loss)
        else:
            self._follow_score(self.score(), trainer)
        if rules.solver == "sgd" and rules.learning_rate == "invscaling" and rules.optimizer is None:
            trainer.optimizer.lr = rules.learning_rate_init / (progress.t_ + 1) ** rules.power_t
        given_up = progress._no_improvement_count > rules.n_iter_no_change
        if given_up:
            self._give_up(trainer)
        self.publish(**vars(progress))
        if not given_up and not self.incremental and progress.n_iter_ == rules.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({rules.max_iter}) reached and the optimization hasn't "
                f"converged yet. The loss was {loss:.4g} and fell by {progress.recent_fall():.2g} in the last "
                "iteration: raise max_iter, learning_rate_init or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _follow_loss(self, loss: float) -> None:
        progress = self.progress
        worse = loss > progress.best_loss_ - self.rules.tol
        progress._no_improvement_count = progress._no_improvement_count + 1 if worse else 0
        progress.best_loss_ = min(progress.best_loss_, loss)

    def _follow_score(self, score: float, trainer: Trainer) -> None:
        progress = self.progress
        progress.validation_scores_.append(score)
        if self.rules.verbose:
            print(f"Validation score: {score:f}")  # noqa: T201
        worse = score < progress.best_validation_score_ + self.rules.tol
        progress._no_improvement_count = progress._no_improvement_count + 1 if worse else 0
        if score > progress.best_validation_score_:
            progress.best_validation_score_ = score
            progress.best_epoch_ = trainer.epoch
            self._best = trainer.net.store.snapshot()

    def _give_up(self, trainer: Trainer) -> None:
        """Stop, or with the adaptive rule divide the learning rate by 5 down to 1e-6."""
        rules = self.rules
        what = "Validation score" if self.score is not None else "Training loss"
        message = f"{what} did not improve more than tol={rules.tol:f} for {rules.n_iter_no_change} consecutive epochs."
        adaptive = rules.solver == "sgd" and rules.learning_rate == "adaptive" and rules.optimizer is None
        lr = trainer.optimizer.lr
        if adaptive and isinstance(lr, float) and lr > 1e-6:
            trainer.optimizer.lr = lr / 5
            self.progress._no_improvement_count = 0
            if rules.verbose:
                print(f"{message} Setting learning rate to {trainer.optimizer.lr:f}")  # noqa: T201
            return
        if rules.verbose:
            print(f"{message} Stopping.")  # noqa: T201
        trainer.stop(message)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._best is not None:
            trainer.net.store.restore(self._best)
        elif self._lowest is not None:
            self.progress.best_epoch_ = self._lowest.restore(cast("SklearnTrainer", trainer))
            self.publish(best_epoch_=self.progress.best_epoch_)


class Iterations(Callback):
    """Report the iterations of L-BFGS as scikit-learn counts them, its loss with the penalty.

    Parameters
    ----------
    optimizer : LBFGS
        The trainer's.
    spread : int
        How many times the loss that it follows is the one that is reported.
    verbose : bool
        Whether to print them.
    publish : callable
        Takes fitted attributes by name.
    """

    def __init__(self, optimizer: LBFGS, spread: int, *, verbose: bool, publish: Publish) -> None:
        self.optimizer, self.spread, self.verbose, self.publish = optimizer, spread, verbose, publish
        self._n_iter = 0

    def on_epoch_end(self, trainer: Trainer) -> None:
        rows, result = trainer.history.rows, self.optimizer.result
        if result is None or result.n_iter == self._n_iter:  # the line search found nothing: no iteration
            rows.pop()
            return
        self._n_iter = result.n_iter
        row = rows[-1]
        row["loss"] = row["loss"] / self.spread + row["penalty"]
        if "val_loss" in row:
            row["val_loss"] /= self.spread
        self.publish(n_iter_=self._n_iter, loss_=row["loss"])
        if self.verbose:
            print(f"Iteration {self._n_iter}, loss = {row['loss']:.8f}")  # noqa: T201


class LowestLoss:
    """Keep the weights that fit the training rows best.

    The loss of an epoch is that of the weights it passes through, most of all of those it begins with, so it does
    not tell how good those are that it ends with.  While it falls from epoch to epoch they are the best so far.
    When it does not, all training rows are looked at once more, with the weights of the last three epochs' ends;
    so a fit whose loss falls to its end costs nothing and ends with its last weights.

    Parameters
    ----------
    tol : float
        The last weights stay unless others are better by more than this.
    """

    def __init__(self, tol: float) -> None:
        self.tol = tol
        self._recent: list[_Seen] = []
        self._best: _Seen | None = None

    def note(self, trainer: SklearnTrainer, *, falls: bool) -> None:
        """Take note of an epoch's end; `falls` says whether its loss is the lowest so far."""
        self._recent = [*self._recent[-2:], _Seen(trainer.epoch, trainer.net.store.snapshot())]
        if not falls:
            self._look(trainer)

    def restore(self, trainer: SklearnTrainer) -> int | None:
        """Leave the best weights in the network and return their epoch; None where no epoch has ended."""
        if self._best is None:
            return self._recent[-1].epoch if self._recent else None
        self._look(trainer)
        best, last = self._best, self._recent[-1]
        if not best.loss < last.loss - self.tol:
            return last.epoch
        trainer.net.store.restore(best.weights)
        return best.epoch

    def _look(self, trainer: SklearnTrainer) -> None:
        """Compare those that have not been compared yet."""
        store, present = trainer.net.store, trainer.net.store.snapshot()
        for seen in self._recent:
            if math.isnan(seen.loss):
                store.restore(seen.weights)
                loss = trainer.training_loss()
                seen.loss = loss if math.isfinite(loss) else math.inf
                if self._best is None or seen.loss < self._best.loss:
                    self._best = seen
        store.restore(present)


@dataclass(eq=False)
class _Seen:
    """The weights of an epoch's end and their loss, which is nan until somebody has looked."""

    epoch: int
    weights: Snapshot
    loss: float = math.nan
