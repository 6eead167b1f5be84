"""scikit-learn's bookkeeping as a callback: loss curve, tolerance, learning-rate rules, validation scores."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sklearn.exceptions import ConvergenceWarning

from ..params import Snapshot
from ..training import Callback

if TYPE_CHECKING:
    from ..training import Trainer
    from ._base import BaseMLP
    from ._trainer import SklearnTrainer

__all__ = ["Bookkeeping"]


class Bookkeeping(Callback):
    """Keep an estimator's fitted attributes up to date, and stop by its rules.

    Parameters
    ----------
    estimator : BaseMLP
        Its attributes are written.
    score : callable or None
        Returns the validation score with the present weights; None stops on the training loss.
    incremental : bool
        Whether this is one call of `partial_fit`.
    """

    def __init__(self, estimator: BaseMLP, score: Any, *, incremental: bool) -> None:
        self.estimator, self.score, self.incremental = estimator, score, incremental
        self._best: Snapshot | None = None
        # A fit that another goes on from ends with its last weights: 10 + 10 epochs are 20.
        goes_on = incremental or estimator.warm_start
        self._lowest = None if score is not None or goes_on else LowestLoss(estimator.tol)

    def on_epoch_end(self, trainer: Trainer) -> None:
        est = self.estimator
        row = trainer.history.rows[-1]
        est.n_iter_ += 1
        est.loss_ = row["loss"]
        est.loss_curve_.append(est.loss_)
        est.t_ += est._n_train
        if est.verbose:
            print(f"Iteration {est.n_iter_}, loss = {est.loss_:.8f}")  # noqa: T201
        if self.score is None:
            if self._lowest is not None:
                self._lowest.note(trainer, falls=est.loss_ < est.best_loss_)
            self._follow_loss()
        else:
            self._follow_score(trainer)
        if est.solver == "sgd" and est.learning_rate == "invscaling" and est.optimizer is None:
            trainer.optimizer.lr = est.learning_rate_init / (est.t_ + 1) ** est.power_t
        if est._no_improvement_count > est.n_iter_no_change:
            self._give_up(trainer)
        elif not self.incremental and est.n_iter_ == est.max_iter:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization hasn't "
                f"converged yet. The loss was {est.loss_:.4g} and fell by {self._recent_fall():.2g} in the last "
                "iteration: raise max_iter, learning_rate_init or tol.",
                ConvergenceWarning,
                stacklevel=2,
            )

    def _recent_fall(self) -> float:
        curve = self.estimator.loss_curve_
        return curve[-2] - curve[-1] if len(curve) > 1 else math.nan

    def _follow_loss(self) -> None:
        est = self.estimator
        if est.loss_ > est.best_loss_ - est.tol:
            est._no_improvement_count += 1
        else:
            est._no_improvement_count = 0
        est.best_loss_ = min(est.best_loss_, est.loss_)

    def _follow_score(self, trainer: Trainer) -> None:
        est = self.estimator
        score = self.score()
        est.validation_scores_.append(score)
        if est.verbose:
            print(f"Validation score: {score:f}")  # noqa: T201
        if score < est.best_validation_score_ + est.tol:
            est._no_improvement_count += 1
        else:
            est._no_improvement_count = 0
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            est.best_epoch_ = trainer.epoch
            self._best = trainer.net.store.snapshot()

    def _give_up(self, trainer: Trainer) -> None:
        """Stop, or with the adaptive rule divide the learning rate by 5 down to 1e-6."""
        est = self.estimator
        what = "Validation score" if self.score is not None else "Training loss"
        message = f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive epochs."
        adaptive = est.solver == "sgd" and est.learning_rate == "adaptive" and est.optimizer is None
        lr = trainer.optimizer.lr
        if adaptive and isinstance(lr, float) and lr > 1e-6:
            trainer.optimizer.lr = lr / 5
            est._no_improvement_count = 0
            if est.verbose:
                print(f"{message} Setting learning rate to {trainer.optimizer.lr:f}")  # noqa: T201
            return
        if est.verbose:
            print(f"{message} Stopping.")  # noqa: T201
        trainer.stop(message)

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._best is not None:
            trainer.net.store.restore(self._best)
        elif self._lowest is not None:
            self.estimator.best_epoch_ = self._lowest.restore(trainer)


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
