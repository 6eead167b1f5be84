"""What classifier and regressor share: one fit, from what is given to what is trained."""

from __future__ import annotations

import copy
import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from ..backend import to_numpy
from ..data.arrays import take_rows
from ..errors import DivergenceError
from ..exports import Exports
from ..losses import Loss
from ..optim import LBFGS, Optimizer
from ..regularizers import L2
from ..training import TimeLimit, Trainer
from ._callbacks import CallbackSupportMixin, Tasks, with_callbacks
from ._inputs import fit_encoder, fit_scaler, read_rows, scaled
from ._inspect import SLICE_ROWS, Inspected
from ._rows import Rows, Shuffles, row_numbers
from ._stopping import Bookkeeping, Iterations
from ._text import told_of_text
from ._trainer import HalfSquaredError, SklearnAdam, SklearnSGD, SklearnTrainer

__all__ = ["BaseMLP"]

_NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class Given(NamedTuple):
    """All that a solver is given."""

    rows: Rows
    held_out: Rows | None  # for validation
    numbers: np.ndarray | None  # of the rows, where masks belong to them
    samples: int  # rows of an epoch as scikit-learn counts them, with those of weight 0
    tasks: Tasks


class BaseMLP(Exports, CallbackSupportMixin, Inspected):  # type: ignore[misc]
    """Fit and predict, in scikit-learn's manner, on any array library.

    It is built in layers, one to a file: `Arguments`, their network (`Networked`), what that says (`Inspected`), and
    here how it is trained.
    """

    _targets_are_numbers: bool

    @with_callbacks  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs: NumPy, lists, data frames, SciPy sparse; with array API dispatch on also CuPy or PyTorch
            arrays, which stay on their device.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows.
        X_val, y_val : arrays, optional
            Validation data of your own: their loss is recorded in ``history_``, and with ``early_stopping=True``
            they take the place of a held-out fraction.
        sample_weight_val : array of shape (n_val,), optional
            Weights of the validation rows.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val), incremental=False)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    # -- what classifier and regressor define ---------------------------------------------------------------
    def _encode(self, y: np.ndarray, *, first: bool, incremental: bool) -> np.ndarray:
        """Check host-side targets, set `n_outputs_` (and classes on the first pass), return what the loss takes."""
        raise NotImplementedError

    def _weigh(self, y: np.ndarray, sample_weight: np.ndarray | None, *, anew: bool) -> np.ndarray | None:
        """Combine sample and class weights; those of classes are counted anew, or stay as they are."""
        return sample_weight

    def _encode_more(self, y: np.ndarray) -> np.ndarray:
        """Encode targets of validation as those of the training rows were."""
        raise NotImplementedError

    def _score_rows(self, X: Any, targets: np.ndarray, sample_weight: np.ndarray | None) -> float:
        """Return the validation score of encoded rows; nan where predictions are not finite."""
        raise NotImplementedError

    def _stratify(self, targets: np.ndarray) -> np.ndarray | None:
        """Return what the validation split is stratified by."""
        return None

    # -- from what is given to rows -------------------------------------------------------------------------
    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation: Sequence[Any] = (None, None, None), *, incremental: bool
    ) -> Any:
        X_val, y_val, sample_weight_val = validation
        hidden = self._hidden_sizes()
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        self._check_options(X_val, y_val, incremental=incremental)
        goes_on = not first and "net_" in vars(self)
        new = self._check_unchanged(hidden) if goes_on else set()
        outputs = {name: vars(self).get(name) for name in ("n_outputs_", "out_activation_")}
        given = self._read(X, y, sample_weight, first=first, incremental=incremental)
        if goes_on:
            self._check_outputs(outputs, new)
        rows = given.counted()
        n_absent = len(given.targets) - len(rows.targets)
        rng = check_random_state(self.random_state)
        loss = self._make_loss()
        splits = self.early_stopping and X_val is None and self.solver != "lbfgs"
        split = None
        if isinstance(rows.X, dict):
            # Medians and categories come from the training rows alone, so rows are split before there is a network.
            split = self._split(rows.targets, copy.deepcopy(rng)) if splits else None
            if first:
                seen = rows.X if split is None else take_rows(rows.X, split[0])
                self.encoder_ = fit_encoder(X, seen, self.categorical_features)
            rows = rows._replace(X=self.encoder_.transform(rows.X))
        if first:
            self._start(rows.X, hidden, rng)
        elif "net_" not in vars(self):
            self._adopt(rows.X, hidden, rng)
        else:
            self._take_up(new)
        if first or "random_state" in new or "_shuffles" not in vars(self):
            self._shuffles = Shuffles(rng)
        held_out = None
        if X_val is not None:
            held_out = self._read_more(X_val, y_val, sample_weight_val)
        elif splits:
            train, valid = self._split(rows.targets, rng) if split is None else split
            rows, held_out = rows.take(train), rows.take(valid)
        numbers = None
        if self._drops():  # of the rows as given: the scaler rounds otherwise where rows are weighted
            numbers = row_numbers(rows.X, self.net_.backend.wide_name)
        if self.standardize and first:
            self.scaler_ = fit_scaler(rows.X, rows.weight)
        rows = self._scaled(rows)
        held_out = None if held_out is None else self._scaled(held_out)
        tasks = Tasks(self, X, y, sample_weight)
        self._solve(Given(rows, held_out, numbers, len(rows.targets) + n_absent, tasks), loss, incremental=incremental)
        tasks.end()
        return self

    def _read(self, X: Any, y: Any, sample_weight: Any, *, first: bool, incremental: bool) -> Rows:
        """Check training rows, and encode and weigh them."""
        with told_of_text(X):
            X, y, weight = read_rows(self, X, y, sample_weight, numbers=self._targets_are_numbers, reset=first)
        targets = self._encode(y, first=first, incremental=incremental)
        return Rows(X, targets, self._weigh(targets, weight, anew=True))

    def _read_more(self, X: Any, y: Any, sample_weight: Any) -> Rows:
        """Check validation rows, and encode and weigh them as those of training were."""
        with told_of_text(X):
            X, y, weight = read_rows(self, X, y, sample_weight, numbers=self._targets_are_numbers, reset=False)
        targets = self._encode_more(y)
        X = self.encoder_.transform(X) if isinstance(X, dict) else X
        return Rows(X, targets, self._weigh(targets, weight, anew=False))

    def _scaled(self, rows: Rows) -> Rows:
        return rows._replace(X=scaled(rows.X, self.scaler_))

    def _split(self, targets: np.ndarray, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        index, stratify = np.arange(len(targets)), self._stratify(targets)
        train, valid = train_test_split(index, test_size=self.validation_fraction, stratify=stratify, random_state=rng)
        if len(valid) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return train, valid

    # -- from rows to weights -------------------------------------------------------------------------------
    def _solve(self, given: Given, loss: Loss, *, incremental: bool) -> None:
        if self.solver == "lbfgs":
            self._fit_lbfgs(given, loss)
        else:
            self._fit_stochastic(given, loss, incremental=incremental)
        if not np.isfinite(to_numpy(self.net_.store.values)).all():
            raise ValueError(_NON_FINITE)

    def _train(
        self, trainer: Trainer, given: Given, *, epochs: int, batch_size: int, scores: list[float] | None = None
    ) -> bool:
        """Let a trainer go on from where the estimator stands; return whether it came to an end of its own.

        Where there are `scores`, the best weights are kept, so that divergence is no failure.
        """
        rows, held_out = given.rows, given.held_out
        trainer.history, trainer.epoch, trainer.step = self.history_, self._epoch, self._step
        if self.max_seconds is not None:
            trainer.callbacks.append(TimeLimit(self.max_seconds))
        options: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "shuffle": self.shuffle}
        if held_out is not None:
            options |= {"X_val": held_out.X, "y_val": held_out.targets, "sample_weight_val": held_out.weight}
        try:
            trainer.fit(rows.X, rows.targets, sample_weight=rows.weight, **options)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
            return False
        except DivergenceError as error:
            if scores is None:
                raise ValueError(f"{_NON_FINITE} {error}") from error
            scores.append(math.nan)
            warnings.warn(
                f"Training diverged; the best weights are restored. {error}", ConvergenceWarning, stacklevel=5
            )
        finally:
            self._epoch, self._step = trainer.epoch, trainer.step
        return True

    def _fit_stochastic(self, given: Given, loss: Loss, *, incremental: bool) -> None:
        """Train by steps along the gradients of batches."""
        n, held_out = len(given.rows.targets), given.held_out
        batch_size = min(200 if self.batch_size == "auto" else int(self.batch_size), n)
        if self.batch_size != "auto" and self.batch_size > given.samples:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=4
            )
        score = functools.partial(self._score_rows, *held_out) if self.early_stopping and held_out is not None else None
        bookkeeping = Bookkeeping(self, score, incremental=incremental, samples=given.samples)
        trainer = SklearnTrainer(
            self.net_,
            loss,
            self._next_optimizer(incremental=incremental),
            schedule=self.schedule,
            regularizer=L2(0.0) if self.alpha else None,
            clip_norm=self.clip_norm,
            metrics=(),
            callbacks=[bookkeeping, *(self.callbacks or ()), given.tasks],
            seed=self._seed,
        )
        trainer.alpha, trainer.shuffles, trainer.numbers = float(self.alpha), self._shuffles, given.numbers
        scores = None if score is None else self.validation_scores_
        self._train(trainer, given, epochs=1 if incremental else self.max_iter, batch_size=batch_size, scores=scores)

    def _next_optimizer(self, *, incremental: bool) -> Optimizer:
        """Return an optimizer; a warm start and `partial_fit` go on with the last one's state."""
        optimizer: Optimizer
        if self.optimizer is not None:
            optimizer = copy.deepcopy(self.optimizer)
        elif self.solver == "adam":
            optimizer = SklearnAdam(self.learning_rate_init, self.beta_1, self.beta_2, eps=self.epsilon)
        else:
            optimizer = SklearnSGD(self.learning_rate_init, self.momentum, nesterov=self.nesterovs_momentum)
        old = self._optimizer_
        if old is not None and type(old) is type(optimizer):
            optimizer.state, optimizer.t = old.state, old.t
            if incremental:
                optimizer.lr = old.lr
            old.reset()
        self._optimizer_ = optimizer
        return optimizer

    def _fit_lbfgs(self, given: Given, loss: Loss) -> None:
        """Minimize over all rows at once."""
        net, weight = self.net_, given.rows.weight
        total = float(len(given.rows.targets) if weight is None else weight.sum())
        spread = 1
        if isinstance(loss, HalfSquaredError):  # a line search needs value and gradient of one function
            loss, spread = HalfSquaredError(summed=True), net.n_out
        optimizer = LBFGS(max_evals=self.max_fun, gtol=self.tol)
        trainer = Trainer(
            net,
            loss,
            optimizer,
            regularizer=L2(0.5 * self.alpha / total),
            metrics=(),
            callbacks=[Iterations(self, optimizer, spread), given.tasks],
            seed=self._seed,
        )
        epoch = self._epoch
        ended = self._train(trainer, given, epochs=self.max_iter, batch_size=SLICE_ROWS)
        result = optimizer.result
        if result is None:  # interrupted before the first evaluation
            return
        self._epoch = epoch + result.n_iter
        self.n_iter_, self.n_evals_ = result.n_iter, result.n_evals
        if not result.n_iter:
            self.loss_ = result.value
        stopped = trainer.stop_reason not in (None, result.message)  # by a callback
        if ended and not (result.converged or stopped):
            reason = (result.message or "max_iter is reached").replace("max_evals", "max_fun")
            warnings.warn(
                f"lbfgs failed to converge after {result.n_iter} iteration(s): {reason}. {self._lbfgs_advice(reason)}",
                ConvergenceWarning,
                stacklevel=5,
            )

    def _lbfgs_advice(self, reason: str) -> str:
        """Return what to try, for the reason why L-BFGS ended before its tolerance."""
        scale = "" if self.standardize else ", and scale the data, for example with standardize=True"
        if reason.startswith("max_fun"):
            return f"Raise max_fun ({self.max_fun} evaluations at most){scale}."
        if reason.startswith("max_iter"):
            return f"Increase the number of iterations, max_iter={self.max_iter}{scale}."
        wide = "Fit with dtype='float64', or raise tol" if self.net_.backend.dtype_name == "float32" else "Raise tol"
        return f"{wide}{scale}."
