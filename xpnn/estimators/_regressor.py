"""The regressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin, _fit_context
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.metaestimators import available_if

from .._typing import Array
from ..backend import backend_of, to_numpy
from ..errors import OptionError
from ..losses import Huber, Loss, MeanAbsoluteError, Pinball
from ._arguments import keep
from ._fit import BaseMLP
from ._inputs import targets_of, weights_of
from ._trainer import HalfPoissonDeviance, HalfSquaredError

__all__ = ["MLPRegressor"]

_LOSSES: dict[str, Callable[[], Loss]] = {
    "squared_error": HalfSquaredError,
    "poisson": HalfPoissonDeviance,
    "absolute_error": MeanAbsoluteError,
    "huber": Huber,
    "pinball": lambda: Pinball((0.1, 0.5, 0.9)),
}


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]
    """Multilayer perceptron regressor: scikit-learn's, and more.

    Every argument, method and fitted attribute of ``sklearn.neural_network.MLPRegressor`` exists with the same
    meaning, and those that `MLPClassifier` adds exist too.

    Parameters
    ----------
    loss : {"squared_error", "poisson", "absolute_error", "huber", "pinball"} or Loss, default="squared_error"
        What is made small.  ``"squared_error"`` and ``"poisson"`` are half the squared error and half the
        deviance, as in scikit-learn.  A `Pinball` loss of several quantiles makes `predict` return a column for
        each; ``"pinball"`` is 10, 50 and 90 %.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, \
max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun, dropout, norm, residual, init, \
optimizer, schedule, callbacks, clip_norm, standardize, max_seconds, n_ensemble, n_layers, width, backend, dtype, \
categorical_features
        As in `MLPClassifier`.  Early stopping watches R².

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, best_epoch_, validation_scores_, best_validation_score_, \
n_iter_, t_, n_layers_, n_outputs_, out_activation_, n_features_in_, feature_names_in_, history_, net_
        As in `MLPClassifier`; scores are R².

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.estimators import MLPRegressor
    >>> X = np.linspace(-2, 2, 100)[:, None]
    >>> model = MLPRegressor(activation="tanh", solver="lbfgs", random_state=0).fit(X, np.sin(2 * X[:, 0]))
    >>> model.score(X, np.sin(2 * X[:, 0])) > 0.99
    True
    """

    _targets_are_numbers = True
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions(set(_LOSSES)), Loss],
    }

    def __init__(
        self,
        loss: Any = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: Any = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        norm: str | None = None,
        residual: bool = False,
        init: Any = "auto",
        optimizer: Any = None,
        schedule: Any = None,
        callbacks: Any = None,
        clip_norm: float | None = None,
        standardize: bool = False,
        max_seconds: float | None = None,
        n_ensemble: int | None = None,
        n_layers: int | None = None,
        width: int | None = None,
        backend: Any = None,
        dtype: str | None = None,
        categorical_features: Any = None,
    ) -> None:
        keep(self, locals())

    # -- targets --------------------------------------------------------------------------------------------
    def _make_loss(self) -> Loss:
        if isinstance(self.loss, Loss):
            if self.loss.classifies:
                raise OptionError(f"MLPRegressor: expected a loss of numbers, got {self.loss}. Use MLPClassifier.")
            return self.loss
        return _LOSSES[self.loss]()

    def _encode_more(self, y: np.ndarray) -> np.ndarray:
        targets = np.asarray(y, dtype=np.float64)
        return targets[:, None] if targets.ndim == 1 else targets

    def _encode(self, y: np.ndarray, *, first: bool, incremental: bool) -> np.ndarray:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        targets, loss = self._encode_more(y), self._make_loss()
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        quantiles = len(loss.quantiles) if isinstance(loss, Pinball) else 1
        self.n_outputs_ = targets.shape[1] * quantiles
        return targets

    def _score_rows(self, X: Any, targets: np.ndarray, sample_weight: np.ndarray | None) -> float:
        out = self._middle(X)
        if not np.isfinite(out).all():
            return float("nan")
        return float(r2_score(targets, out, sample_weight=sample_weight))

    def _middle(self, X: Any) -> np.ndarray:
        """Return predictions for inputs from `_inputs`, of quantiles the middle one of each target."""
        out, loss = to_numpy(self._linked(X)), self._make_loss()
        return out[:, len(loss.quantiles) // 2 :: len(loss.quantiles)] if isinstance(loss, Pinball) else out

    # -- public ---------------------------------------------------------------------------------------------
    @available_if(lambda est: est._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch over the given rows.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        self
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Return predicted values.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            Whether to return the standard deviation over the networks of an ensemble too.

        Returns
        -------
        array of shape (n_samples,) or (n_samples, n_outputs)
            In the library of `X`; with `return_std` a pair of such arrays.

        Raises
        ------
        ValueError
            If `return_std` is asked of a single network.
        """
        X = self._inputs(X, "predict")
        mean = _one_column(self._linked(X))
        return (mean, _one_column(self._spread(X, "predict"))) if return_std else mean

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R², 1 - Σ w (y - p)² / Σ w (y - ȳ)², the mean over outputs.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            At most 1; of a `Pinball` network it is that of the middle quantile.
        """
        where = type(self).__name__
        y, sample_weight = targets_of(y, where, numbers=True), weights_of(sample_weight, where)
        if isinstance(self._make_loss(), Pinball):
            return float(r2_score(to_numpy(y), self._middle(self._inputs(X, "score")), sample_weight=sample_weight))
        return float(super().score(X, y, sample_weight))


def _one_column(out: Array) -> Array:
    return out if out.shape[1] != 1 else backend_of(out).xp.reshape(out, (out.shape[0],))
