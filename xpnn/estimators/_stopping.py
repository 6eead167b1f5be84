"""scikit-learn's bookkeeping as callbacks: loss curve, tolerance, learning-rate rules, validation scores."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..optim import LBFGS
from ..params import Snapshot
from ..schedules import Constant
from ..training import Callback, Trainer
from ._arguments import Arguments
from ._trainer import SklearnTrainer

__all__ = ["Bookkeeping", "Iterations", "fresh_record"]


def fresh_record(*, early_stopping: bool) -> dict[str, Any]:
    """Return the fitted attributes of a stochastic training that begins.

    What scores need is None without `early_stopping`, and what losses need is None with it, as in scikit-learn.
    """
    record = {"n_iter_": 0, "t_": 0, "loss_curve_": [], "best_epoch_": None, "_no_improvement_count": 0}
    if early_stopping:
        return record | {"validation_scores_": [], "best_validation_score_": -np.inf, "best_loss_": None}
    return record | {"validation_scores_": None, "best_validation_score_": None, "best_loss_": np.inf}


class Bookkeeping(Callback):
    """Keep the record of stochastic training in an estimator's attributes, and stop by its arguments.

    `score` returns the validation score with the present weights; None stops on the training loss.  With `incremental`
    this is one call of `partial_fit`.  An epoch counts `samples` rows.
    """

    def __init__(
        self, estimator: Arguments, score: Callable[[], float] | None, *, incremental: bool, samples: int
    ) -> None:
        self.estimator, self.score, self.incremental, self.samples = estimator, score, incremental, samples
        for name, value in fresh_record(early_stopping=score is not None).items():  # what has begun is kept
            if vars(estimator).get(name) is None:
                setattr(estimator, name, value)
        estimator.n_iter_ = 0
        self._best: Snapshot | None = None
        # A fit that another goes on from ends with its last weights: 10 + 10 epochs are 20.
        goes_on = incremental or estimator.warm_start
        self._lowest = None if score is not None or goes_on else LowestLoss(estimator.tol)

    def on_epoch_end(self, trainer: Trainer) -> None:
        estimator, loss = self.estimator, trainer.history.rows[-1]["loss"]
        estimator.loss_ = loss
        estimator.n_iter_ += 1
        estimator.t_ += self.samples
        estimator.loss_curve_.append(loss)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")  # noqa: T201
        worse = self._follow_loss(loss, trainer) if self.score is None else self._follow_score(self.score(), trainer)
        estimator._no_improvement_count = estimator._no_improvement_count + 1 if worse else 0
        sgd = estimator.solver == "sgd" and estimator.optimizer is None
        if sgd and estimator.learning_rate == "invscaling":
            trainer.optimizer.lr = estimator.learning_rate_init / (estimator.t_ + 1) ** estimator.power_t
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            self._give_up(trainer, adaptive=sgd and estimator.learning_rate == "adaptive")
        elif not self.incremental and estimator.n_iter_ == estimator.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the optimization hasn't "
                f"converged yet. {self._advice(trainer)}",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _advice(self, trainer: Trainer) -> str:
        """Return what was seen when epochs ran out, and what to try: raising a rate that a schedule ends is no help."""
        estimator = self.estimator
        losses = estimator.loss_curve_[-min(estimator.n_iter_, 10) :]
        if len(losses) < 2:
            return f"The loss was {losses[-1]:.4g}: raise max_iter."
        rate = "learning_rate_init" if estimator.optimizer is None else "the learning rate of optimizer"
        seen = f"The loss went from {losses[0]:.4g} to {losses[-1]:.4g} in the last {len(losses)} iterations"
        schedule, rates = trainer.schedule, [np.max(row["lr"]) for row in trainer.history.rows[-estimator.n_iter_ :]]
        if schedule != Constant() and rates[-1] < 0.05 * max(rates):
            stretches = schedule.resolve(1.0) != schedule
            more = "max_iter, over which the schedule stretches" if stretches else "max_iter and the schedule's length"
            return f"{seen}, and the schedule has ended the learning rate: raise {more}."
        if self.score is not None:
            return (
                f"The validation score still rose within the last {estimator.n_iter_no_change} of them: raise max_iter."
            )
        changes = np.diff(losses)
        if changes[changes > 0].sum() > -0.5 * changes[changes < 0].sum():
            return f"{seen}, and does not fall steadily: lower {rate}."
        steady = schedule == Constant() and not (estimator.solver == "sgd" and estimator.learning_rate != "constant")
        return f"{seen} and still falls: raise max_iter{f', or {rate}' if steady else ''}."

    def _follow_loss(self, loss: float, trainer: Trainer) -> bool:
        """Return whether the loss did not fall by `tol`."""
        best = self.estimator.best_loss_
        if self._lowest is not None:
            self._lowest.note(trainer, falls=loss < best)
        self.estimator.best_loss_ = min(best, loss)
        return bool(loss > best - self.estimator.tol)

    def _follow_score(self, score: float, trainer: Trainer) -> bool:
        """Return whether the score did not rise by `tol`; keep the weights of the best."""
        estimator, best = self.estimator, self.estimator.best_validation_score_
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")  # noqa: T201
        if score > best:
            estimator.best_validation_score_ = score
            estimator.best_epoch_ = trainer.epoch
            self._best = trainer.net.store.snapshot()
        return bool(score < best + estimator.tol)

    def _give_up(self, trainer: Trainer, *, adaptive: bool) -> None:
        """Stop, or with the adaptive rule divide the learning rate by 5 down to 1e-6."""
        estimator, lr = self.estimator, trainer.optimizer.lr
        what = "Validation score" if self.score is not None else "Training loss"
        tol, epochs = estimator.tol, estimator.n_iter_no_change
        message = f"{what} did not improve more than tol={tol:f} for {epochs} consecutive epochs."
        if adaptive and isinstance(lr, float) and lr > 1e-6:
            trainer.optimizer.lr = lr / 5
            estimator._no_improvement_count = 0
            then = f"Setting learning rate to {lr / 5:f}"
        else:
            trainer.stop(message)
            then = "Stopping."
        if estimator.verbose:
            print(message, then)  # noqa: T201

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._best is not None:
            trainer.net.store.restore(self._best)
        elif self._lowest is not None:
            self.estimator.best_epoch_ = self._lowest.restore(trainer)


class Iterations(Callback):
    """Report the iterations of L-BFGS as scikit-learn counts them, its loss with the penalty.

    The loss that the optimizer follows is `spread` times the one that is reported.
    """

    def __init__(self, estimator: Arguments, optimizer: LBFGS, spread: int) -> None:
        self.estimator, self.optimizer, self.spread = estimator, optimizer, spread
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
        self.estimator.n_iter_, self.estimator.loss_ = self._n_iter, row["loss"]
        if self.estimator.verbose:
            print(f"Iteration {self._n_iter}, loss = {row['loss']:.8f}")  # noqa: T201


class LowestLoss:
    """Keep the weights that fit the training rows best.

    The loss of an epoch is that of the weights it passes through, most of all of those it begins with, so it does
    not tell how good those are that it ends with.  While it falls from epoch to epoch they are the best so far.
    When it does not, all training rows are looked at once more, with the weights of the last three epochs' ends;
    so a fit whose loss falls to its end costs nothing and ends with its last weights.  They also stay unless others
    are better by more than `tol`.
    """

    def __init__(self, tol: float) -> None:
        self.tol = tol
        self._recent: list[_Seen] = []
        self._best: _Seen | None = None

    def note(self, trainer: Trainer, *, falls: bool) -> None:
        """Take note of an epoch's end; `falls` says whether its loss is the lowest so far."""
        self._recent = [*self._recent[-2:], _Seen(trainer.epoch, trainer.net.store.snapshot())]
        if not falls:
            self._look(trainer)

    def restore(self, trainer: Trainer) -> int | None:
        """Leave the best weights in the network and return their epoch; None where no epoch has ended."""
        if self._best is None:
            return self._recent[-1].epoch if self._recent else None
        self._look(trainer)
        best, last = self._best, self._recent[-1]
        if not best.loss < last.loss - self.tol:
            return last.epoch
        trainer.net.store.restore(best.weights)
        return best.epoch

    def _look(self, trainer: Trainer) -> None:
        """Compare those that have not been compared yet."""
        store, present = trainer.net.store, trainer.net.store.snapshot()
        for seen in self._recent:
            if math.isnan(seen.loss):
                store.restore(seen.weights)
                loss = cast("SklearnTrainer", trainer).training_loss()
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
