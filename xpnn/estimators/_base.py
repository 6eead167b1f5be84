"""What classifier and regressor share: validation, network, training, prediction."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Sequence
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils._array_api import check_same_namespace
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    check_is_fitted,
    check_X_y,
    validate_data,
)

from .._typing import Array
from ..backend import Backend, backend_of, get_backend, like, to_numpy
from ..crossover import mlp_params, work_of
from ..data import Standardizer
from ..errors import DivergenceError, OptionError
from ..layers import Layer
from ..losses import Loss
from ..model import Sequential, mlp
from ..optim import LBFGS, Optimizer
from ..regularizers import L2
from ..schedules import Schedule
from ..training import Callback, History, TimeLimit
from ._callbacks import CallbackSupportMixin, Tasks, with_callbacks
from ._losses import HalfSquaredError
from ._optimizers import SklearnAdam, SklearnSGD
from ._rows import Shuffles, row_numbers, take, that_count
from ._stopping import Bookkeeping
from ._tables import columns_of, fit_encoder
from ._trainer import SklearnTrainer

__all__ = ["BaseMLP", "is_foreign"]

ACTIVATIONS = {
    "identity",
    "logistic",
    "tanh",
    "relu",
    "sigmoid",
    "leaky_relu",
    "prelu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "swish",
    "mish",
    "softplus",
}
_SKLEARN_ACTIVATIONS = {"identity", "logistic", "tanh", "relu"}
# Rows of one slice where all rows count at once (L-BFGS): bounds the memory, and sparse rows become dense here.
_SLICE_ROWS = 8192


class BaseMLP(ClassNamePrefixFeaturesOutMixin, TransformerMixin, CallbackSupportMixin, BaseEstimator):  # type: ignore[misc]
    """Fit and predict, in scikit-learn's manner, on any array library."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(ACTIVATIONS), Layer, "array-like"],
        "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
        "norm": [StrOptions({"batch", "layer", "rms"}), None],
        "residual": ["boolean"],
        "init": [str, object],
        "optimizer": [Optimizer, None],
        "schedule": [Schedule, None],
        "callbacks": ["array-like", None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "standardize": ["boolean"],
        "max_seconds": [Interval(Real, 0, None, closed="neither"), None],
        "n_ensemble": [Interval(Integral, 1, None, closed="left"), None],
        "n_layers": [Interval(Integral, 0, None, closed="left"), None],
        "width": [Interval(Integral, 1, None, closed="left"), None],
        "backend": [str, Backend, None],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "categorical_features": [StrOptions({"from_dtype"}), "array-like", None],
    }

    def __init__(
        self,
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
        optimizer: Optimizer | None = None,
        schedule: Schedule | None = None,
        callbacks: Sequence[Callback] | None = None,
        clip_norm: float | None = None,
        standardize: bool = False,
        max_seconds: float | None = None,
        n_ensemble: int | None = None,
        n_layers: int | None = None,
        width: int | None = None,
        backend: str | Backend | None = None,
        dtype: str | None = None,
        categorical_features: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dropout = dropout
        self.norm = norm
        self.residual = residual
        self.init = init
        self.optimizer = optimizer
        self.schedule = schedule
        self.callbacks = callbacks
        self.clip_norm = clip_norm
        self.standardize = standardize
        self.max_seconds = max_seconds
        self.n_ensemble = n_ensemble
        self.n_layers = n_layers
        self.width = width
        self.backend = backend
        self.dtype = dtype
        self.categorical_features = categorical_features

    _targets_are_numbers: bool
    scaler_: Standardizer | None

    # -- what classifier and regressor define ---------------------------------------------------------------
    def _encode(self, y: np.ndarray, *, first: bool, incremental: bool) -> np.ndarray:
        """Check host-side targets, set `n_outputs_` (and classes on the first pass), return what the loss takes."""
        raise NotImplementedError

    def _make_loss(self) -> Loss:
        raise NotImplementedError

    def _weigh(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Combine sample and class weights."""
        return sample_weight

    def _weigh_more(self, y: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray | None:
        """Weigh validation rows as training rows were."""
        return sample_weight

    def _encode_more(self, y: np.ndarray, name: str) -> np.ndarray:
        """Encode further targets as those of the training rows were."""
        raise NotImplementedError

    def _score_rows(self, X: Any, targets: np.ndarray, sample_weight: np.ndarray | None) -> float:
        """Return the validation score of encoded rows; nan where predictions are not finite."""
        raise NotImplementedError

    def _stratify(self, targets: np.ndarray) -> np.ndarray | None:
        """Return what the validation split is stratified by."""
        return None

    # -- fit ------------------------------------------------------------------------------------------------
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
        return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val)

    def _check_solver(self) -> bool:
        if self.solver not in ("sgd", "adam"):
            raise AttributeError(
                f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic."
            )
        return True

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        *,
        incremental: bool = False,
    ) -> Any:
        hidden = self._hidden_sizes()
        given = (X, y, sample_weight)
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        self._check_options(X_val, y_val, incremental=incremental)
        frame = X
        X, y = self._validate(X, y, reset=first)
        y = y.toarray() if scipy.sparse.issparse(y) else y
        n = int(y.shape[0])
        if sample_weight is not None:
            sample_weight = _host_weight(sample_weight, X, n)
        targets = self._encode(to_numpy(y), first=first, incremental=incremental)
        weight = self._weigh(targets, sample_weight)
        X, targets, weight = that_count(X, targets, weight)
        n_absent = n - len(targets)
        rng = check_random_state(self.random_state)
        loss = self._make_loss()
        splits = self.early_stopping and X_val is None and self.solver != "lbfgs"
        split = None
        if isinstance(X, dict):
            # Medians and categories come from the training rows alone, so rows are split before there is a network.
            split = self._split(targets, copy.deepcopy(rng)) if splits else None
            if first:
                seen = X if split is None else take(X, split[0])
                self.encoder_ = fit_encoder(frame, seen, self.categorical_features)
            X = self.encoder_.transform(X)
        if first:
            self._start(X, hidden, rng)
        elif "net_" not in vars(self):
            self._adopt(X, hidden, rng)
        if first or "_shuffles" not in vars(self):
            self._shuffles = Shuffles(rng)

        held_out = None
        if X_val is not None:
            X_val, y_val = self._validate(X_val, y_val, reset=False)
            y_val = y_val.toarray() if scipy.sparse.issparse(y_val) else y_val
            if sample_weight_val is not None:
                sample_weight_val = _host_weight(sample_weight_val, X_val, int(y_val.shape[0]))
            codes = self._encode_more(to_numpy(y_val), "y_val")
            X_val = self.encoder_.transform(X_val) if isinstance(X_val, dict) else X_val
            held_out = (X_val, codes, self._weigh_more(codes, sample_weight_val))
        elif splits:
            train, valid = self._split(targets, rng) if split is None else split
            parts = (None, None) if weight is None else (weight[train], weight[valid])
            held_out = (take(X, valid), targets[valid], parts[1])
            X, targets, weight = take(X, train), targets[train], parts[0]
        numbers = None
        if self._drops():  # of the rows as given: the scaler rounds otherwise where rows are weighted
            numbers = row_numbers(X, self.net_.backend.wide_name)
        if self.standardize and first:
            self.scaler_ = _fit_scaler(X, weight)
        X = self._scaled(X)
        if held_out is not None:
            held_out = (self._scaled(held_out[0]), *held_out[1:])
        self._n_train = X.shape[0] + n_absent
        tasks = Tasks(self, *given)
        if self.solver == "lbfgs":
            self._fit_lbfgs(X, targets, weight, loss, held_out, tasks)
        else:
            self._fit_stochastic(X, targets, weight, numbers, loss, held_out, tasks, incremental=incremental)
        tasks.end()
        if not np.isfinite(to_numpy(self.net_.store.values)).all():
            raise ValueError(_NON_FINITE)
        return self

    def _check_options(self, X_val: Any, y_val: Any, *, incremental: bool) -> None:
        """Refuse what would otherwise be ignored without a word."""
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if (X_val is None) != (y_val is None):
            raise ValueError(
                f"fit: expected X_val and y_val together, got only {'X_val' if y_val is None else 'y_val'}. Pass both."
            )
        if self.solver != "lbfgs":
            return
        stochastic = {
            "optimizer": self.optimizer is not None,
            "schedule": self.schedule is not None,
            "callbacks": bool(self.callbacks),
            "clip_norm": self.clip_norm is not None,
            "dropout": self._drops(),
            "norm='batch'": self.norm == "batch",
            "n_ensemble": self.n_ensemble is not None,
        }
        found = [name for name, there in stochastic.items() if there]
        if found:
            raise OptionError(
                f"fit: solver='lbfgs' takes all rows at once by a line search and has no use for {', '.join(found)}. "
                f"Use solver='adam' or 'sgd', or leave {'it' if len(found) == 1 else 'them'} out."
            )

    def _drops(self) -> bool:
        return bool(np.any(np.asarray(self.dropout, dtype=np.float64) > 0))

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if self.n_layers is not None or self.width is not None:
            width = self.width if self.width is not None else (sizes[0] if sizes else 100)
            count = self.n_layers if self.n_layers is not None else max(len(sizes), 1)
            sizes = [width] * count
        if any(size <= 0 for size in sizes):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _validate(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, Any]:
        """Check inputs and targets; a frame with categories becomes a dict of columns."""
        if self.categorical_features is not None:
            columns = columns_of(X)
            _check_feature_names(self, X, reset=reset)
            _check_n_features(self, X, reset=reset)
            stand_in = np.zeros((X.shape[0], 1))
            _, y = check_X_y(stand_in, y, multi_output=True, y_numeric=self._targets_are_numbers, estimator=self)
            return columns, y
        checked = validate_data(
            self,
            X,
            y,
            accept_sparse=["csr", "csc"],
            multi_output=True,
            y_numeric=self._targets_are_numbers,
            dtype=(np.float64, np.float32) if not is_foreign(X) else "numeric",
            reset=reset,
        )
        return checked[0], checked[1]

    def _choose_backend(self, X: Any, widths: Sequence[int]) -> Backend:
        """The backend that was asked for, else the one the data live on; the dtype of the data likewise."""
        dtype = self.dtype or _float_name(X)
        if self.backend is not None:
            n_params = (self.n_ensemble or 1) * mlp_params(widths)
            rows = min(int(X.shape[0]), 200 if self.batch_size == "auto" else int(self.batch_size))
            return get_backend(self.backend, dtype, work=work_of(n_params, rows))  # "auto" goes by the work
        return backend_of(X).with_dtype(dtype) if not scipy.sparse.issparse(X) else get_backend("numpy", dtype)

    def _start(self, X: Any, hidden: list[int], rng: np.random.RandomState) -> None:
        """Make the network and empty records."""
        # From a copy: scikit-learn's own draws (weights, then the validation split) come out the same here.
        self._seed = int(copy.deepcopy(rng).randint(np.iinfo(np.int32).max))
        seeds = self._seed if self.n_ensemble is None else self._seeds_of_members()
        activation = self.activation if isinstance(self.activation, str | Layer) else list(self.activation)
        widths = [int(X.shape[1]), *hidden, self.n_outputs_]
        self.net_: Sequential = mlp(
            widths,
            activation,
            norm=self.norm,
            dropout=list(self.dropout) if hasattr(self.dropout, "__iter__") else float(self.dropout),
            residual=self.residual,
            init=self.init,
            backend=self._choose_backend(X, widths),
            seed=seeds,
        )
        if self.init == "auto" and isinstance(activation, str) and activation in _SKLEARN_ACTIVATIONS:
            self._draw_as_sklearn(activation, rng)
        self.scaler_ = None
        if self.categorical_features is None:
            self.__dict__.pop("encoder_", None)  # of an earlier fit
        self.history_ = History()
        self._epoch = self._step = 0
        self._optimizer_: Optimizer | None = None
        self._begin_records()
        self.n_layers_ = len(hidden) + 2

    def _draw_as_sklearn(self, activation: str, rng: np.random.RandomState) -> None:
        """Draw weights and biases from scikit-learn's law, in its order: one seed, equal networks.

        Uniform within ±√(6 / (n_in + n_out)), or ±√(2 / …) for the logistic function (Glorot and Bengio, 2010).
        The further members of an ensemble draw from seeds of their own.
        """
        factor = 2.0 if activation == "logistic" else 6.0
        weights, biases = self._weights("weight"), self._weights("bias")
        draws = [rng] if self.n_ensemble is None else [np.random.RandomState(s) for s in self._seeds_of_members()]
        for weight, bias in zip(weights, biases, strict=True):
            n_in, n_out = weight.shape[-2:]
            bound = math.sqrt(factor / (n_in + n_out))
            drawn = [(r.uniform(-bound, bound, (n_in, n_out)), r.uniform(-bound, bound, n_out)) for r in draws]
            matrices, vectors = (np.stack(parts) for parts in zip(*drawn, strict=True))
            single = self.n_ensemble is None
            weight[...] = self.net_.backend.asarray(matrices[0] if single else matrices)
            bias[...] = self.net_.backend.asarray(vectors[0] if single else vectors)

    def _seeds_of_members(self) -> list[int]:
        return [(self._seed + k) % 2**32 for k in range(self.n_ensemble or 1)]

    def _begin_records(self) -> None:
        self.n_iter_ = self.t_ = 0
        if self.solver == "lbfgs":
            return
        self.loss_curve_: list[float] = []
        self._no_improvement_count = 0
        self.best_epoch_: int | None = None
        # None where there is nothing of the kind, as in scikit-learn.
        self.validation_scores_: Any = [] if self.early_stopping else None
        self.best_validation_score_: Any = -np.inf if self.early_stopping else None
        self.best_loss_: Any = None if self.early_stopping else np.inf

    def _adopt(self, X: Any, hidden: list[int], rng: np.random.RandomState) -> None:
        """Build the network around weights that were assigned to `coefs_` and `intercepts_` by hand."""
        coefs, intercepts = self._given["coefs_"], self._given["intercepts_"]
        kept = {name: getattr(self, name) for name in ("t_", "loss_curve_", "best_loss_") if hasattr(self, name)}
        self._start(X, hidden, rng)
        self.coefs_, self.intercepts_ = coefs, intercepts
        for name, value in kept.items():
            setattr(self, name, value)

    def _split(self, targets: np.ndarray, rng: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        train, valid = train_test_split(
            np.arange(len(targets)),
            test_size=self.validation_fraction,
            stratify=self._stratify(targets),
            random_state=rng,
        )
        if len(valid) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return train, valid

    # -- solvers --------------------------------------------------------------------------------------------
    def _make_optimizer(self) -> Optimizer:
        if self.optimizer is not None:
            return copy.deepcopy(self.optimizer)
        if self.solver == "adam":
            return SklearnAdam(self.learning_rate_init, self.beta_1, self.beta_2, eps=self.epsilon)
        return SklearnSGD(self.learning_rate_init, self.momentum, nesterov=self.nesterovs_momentum)

    def _fit_stochastic(
        self,
        X: Any,
        targets: np.ndarray,
        weight: np.ndarray | None,
        numbers: np.ndarray | None,
        loss: Loss,
        held_out: Any,
        tasks: Tasks,
        *,
        incremental: bool,
    ) -> None:
        n = X.shape[0]
        if self.batch_size == "auto":
            batch_size = min(200, n)
        else:
            if self.batch_size > self._n_train:
                warnings.warn(
                    "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped",
                    stacklevel=3,
                )
            batch_size = min(int(self.batch_size), n)
        net = self.net_
        optimizer = self._make_optimizer()
        old = self._optimizer_
        if old is not None and type(old) is type(optimizer):  # warm start and partial_fit go on, not begin anew
            optimizer.state, optimizer.t = old.state, old.t
            if incremental:
                optimizer.lr = old.lr
            old._store = None
        self._optimizer_ = optimizer
        score = None
        if self.early_stopping and held_out is not None:
            score = lambda: self._score_rows(*held_out)  # noqa: E731
        callbacks: list[Callback] = [
            Bookkeeping(self, score, incremental=incremental),
            *(self.callbacks or ()),
            tasks.as_callback(),
        ]
        if self.max_seconds is not None:
            callbacks.append(TimeLimit(self.max_seconds))
        trainer = SklearnTrainer(
            net,
            loss,
            optimizer,
            schedule=self.schedule,
            regularizer=L2(0.0) if self.alpha else None,
            clip_norm=self.clip_norm,
            metrics=(),
            callbacks=callbacks,
            seed=self._seed,
        )
        trainer.alpha, trainer.shuffles, trainer.numbers = float(self.alpha), self._shuffles, numbers
        trainer.history, trainer.epoch, trainer.step = self.history_, self._epoch, self._step
        self.n_iter_ = 0
        valid = (
            {} if held_out is None else {"X_val": held_out[0], "y_val": held_out[1], "sample_weight_val": held_out[2]}
        )
        try:
            trainer.fit(
                X,
                targets,
                epochs=1 if incremental else self.max_iter,
                batch_size=batch_size,
                sample_weight=weight,
                shuffle=self.shuffle,
                **valid,
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=3)
        except DivergenceError as error:
            if score is None:
                raise ValueError(f"{_NON_FINITE} {error}") from error
            self.validation_scores_.append(math.nan)
            warnings.warn(
                f"Training diverged; the best weights are restored. {error}", ConvergenceWarning, stacklevel=3
            )
        finally:
            self._epoch, self._step = trainer.epoch, trainer.step

    def _fit_lbfgs(
        self, X: Any, targets: np.ndarray, weight: np.ndarray | None, loss: Loss, held_out: Any, tasks: Tasks
    ) -> None:
        """Minimize over all rows at once, in slices that bound the memory."""
        net = self.net_
        backend, store = net.backend, net.store
        labels = loss.takes_labels and targets.ndim == 1
        loss.check_targets(targets, net.n_out)
        n = X.shape[0]
        slices = [slice(a, min(a + _SLICE_ROWS, n)) for a in range(0, n, _SLICE_ROWS)]
        y_all = backend.asarray(targets, dtype=backend.index_dtype if labels else None)
        w_host = np.ones(n) if weight is None else weight
        w_all = None if weight is None else backend.asarray(weight)
        total = float(w_host.sum())
        blocks = None if scipy.sparse.issparse(X) else backend.asarray(X)
        penalty = L2(0.5 * self.alpha / total)
        shown, spread = loss, 1
        if isinstance(loss, HalfSquaredError):  # a line search needs value and gradient of one function
            loss, spread = HalfSquaredError(summed=True), net.n_out
        last: dict[str, Array] = {}

        def evaluate() -> Array:
            value, grads = 0.0, None
            for rows in slices:
                share = float(w_host[rows].sum()) / total
                x = X[rows].toarray() if blocks is None else blocks[rows, ...]
                pred, caches = net.forward(x, train=True, step=0)
                part, d_pred = loss.value_and_grad(pred, y_all[rows, ...], None if w_all is None else w_all[rows])
                net.backward(d_pred, caches)
                value = part * share + value
                if len(slices) > 1:
                    grads = store.grads * share if grads is None else grads + store.grads * share
            if grads is not None:
                store.grads[...] = grads
            last["data"], last["penalty"] = value, penalty.add(store)
            return last["data"] + last["penalty"]

        began, asked = time.perf_counter(), False

        def report(iteration: int, value: float) -> bool:
            nonlocal asked
            value = float(to_numpy(last["data"])) / spread + float(to_numpy(last["penalty"]))
            row = {"epoch": self._epoch + iteration, "loss": value}
            if held_out is not None:
                row["val_loss"] = self._loss_of(shown, *held_out)
            self.history_.append({**row, "seconds": time.perf_counter() - began})
            self.n_iter_, self.loss_ = iteration, value
            if self.verbose:
                print(f"Iteration {iteration}, loss = {value:.8f}")  # noqa: T201
            asked = tasks.end_iteration()
            asked = asked or (self.max_seconds is not None and time.perf_counter() - began >= self.max_seconds)
            if not asked and iteration < self.max_iter:
                tasks.begin_iteration()
            return asked

        tasks.begin_iteration()
        solver = LBFGS(self.max_iter, self.max_fun, gtol=self.tol)
        try:
            result = solver.minimize(store, evaluate, on_iteration=report)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
            self._epoch += self.n_iter_
            return
        finally:
            tasks.end_iteration()
        self.n_iter_ = result.n_iter
        if not result.n_iter:
            self.loss_ = result.value
        self.n_evals_ = result.n_evals
        self._epoch += result.n_iter
        if not math.isfinite(result.value):
            raise ValueError(_NON_FINITE)
        if not result.converged and not asked:
            warnings.warn(
                f"lbfgs failed to converge after {result.n_iter} iteration(s): {result.message}.\n\nIncrease the "
                f"number of iterations to improve the convergence (max_iter={self.max_iter}).\nYou might also want to "
                "scale the data, for example with standardize=True.",
                ConvergenceWarning,
                stacklevel=4,
            )

    def _loss_of(self, loss: Loss, X: Any, targets: np.ndarray, weight: np.ndarray | None) -> float:
        backend = self.net_.backend
        y = backend.asarray(targets, dtype=backend.index_dtype if loss.takes_labels and targets.ndim == 1 else None)
        w = None if weight is None else backend.asarray(weight)
        value, _ = loss.value_and_grad(backend.asarray(self._raw(X)), y, w)
        return float(to_numpy(value))

    # -- inputs ---------------------------------------------------------------------------------------------
    def _scaled(self, X: Any) -> Any:
        scaler = getattr(self, "scaler_", None)
        if scaler is None:
            return X
        if scipy.sparse.issparse(X):
            return X.multiply(1.0 / scaler.scale.astype(X.dtype)).tocsr()
        return scaler.transform(X)

    def _inputs(self, X: Any, method: str) -> Any:
        """Check inputs of a fitted estimator and scale them as in training."""
        check_is_fitted(self)
        if self.backend is None and "net_" in vars(self):
            check_same_namespace(X, self, attribute="_flat", method=method)
        if "encoder_" in vars(self):
            columns = columns_of(X)
            _check_feature_names(self, X, reset=False)
            return self._scaled(self.encoder_.transform(columns))
        dtype = (np.float64, np.float32) if not is_foreign(X) else "numeric"
        X = validate_data(self, X, accept_sparse=["csr", "csc"], dtype=dtype, reset=False)
        if "net_" not in vars(self):
            self._adopt(X, self._hidden_sizes(), check_random_state(self.random_state))
        return self._scaled(X)

    @property
    def _flat(self) -> Array:
        return self.net_.store.values

    def _raw(self, X: Any) -> Array:
        """Return the raw outputs for inputs from `_inputs`, in their library; replicas in front."""
        if not scipy.sparse.issparse(X):
            return self.net_.predict(X)
        X = X.tocsr()
        parts = [self.net_.predict(X[a : a + _SLICE_ROWS].toarray()) for a in range(0, X.shape[0], _SLICE_ROWS)]
        return np.concatenate(parts, axis=-2)

    def _linked(self, X: Any) -> Array:
        """Return probabilities or values for inputs from `_inputs`; the mean over an ensemble."""
        net = self.net_
        out = self._make_loss().link(net.backend.asarray(self._raw(X)))
        if net.store.replicas:
            out = net.backend.xp.mean(out, axis=0)
        return like(out, X) if not scipy.sparse.issparse(X) else to_numpy(out)

    def _spread(self, X: Any, method: str) -> Array:
        """Return the standard deviation over an ensemble's networks, for inputs from `_inputs`."""
        net = self.net_
        if not net.store.replicas:
            raise ValueError(f"{method}: return_std=True expects an ensemble. Pass n_ensemble=8, say, and fit again.")
        out = self._make_loss().link(net.backend.asarray(self._raw(X)))
        spread = net.backend.xp.std(out, axis=0)
        return to_numpy(spread) if scipy.sparse.issparse(X) else like(spread, X)

    def transform(self, X: Any, layer: int = -2) -> Array:
        """Return the activations of a layer, as features for something else.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Inputs.
        layer : int, default=-2
            As Python indexes ``n_layers_`` layers of units: -1 is the output, -2 the last hidden layer, 0 the
            input.

        Returns
        -------
        array of shape (n_samples, n_units)
            In the library of `X`; the features of an ensemble's networks stand side by side.
        """
        X = self._dense(self._inputs(X, "transform"))
        if not -self.n_layers_ <= layer < self.n_layers_:
            raise ValueError(f"transform: expected a layer in -{self.n_layers_}..{self.n_layers_ - 1}, got {layer}.")
        layer %= self.n_layers_
        net = self.net_
        x = net.backend.asarray(X)
        ends = self._block_ends()
        for current in net.layers[: ends[layer]]:
            x, _ = current.forward(x)
        if len(x.shape) == 3:  # an ensemble's features side by side
            xp = net.backend.xp
            x = xp.reshape(xp.permute_dims(x, (1, 0, 2)), (x.shape[1], x.shape[0] * x.shape[2]))
        return like(x, X)

    @staticmethod
    def _dense(X: Any) -> Any:
        return X.toarray() if scipy.sparse.issparse(X) else X

    @property
    def _n_features_out(self) -> int:
        """Width of what `transform` returns: the last hidden layer."""
        if self.n_layers_ == 2:
            return self.net_.n_in
        return self.net_.layers[self._block_ends()[-2] - 1].n_out * (self.n_ensemble or 1)

    def _block_ends(self) -> list[int]:
        """How many layers of the network lie at or below each layer of units."""
        from ..layers import Linear, Residual

        starts = [i for i, layer in enumerate(self.net_.layers) if isinstance(layer, Linear | Residual)]
        return [0, *starts[1:], len(self.net_.layers)]

    def input_gradient(self, X: Any, output: int = 0) -> Array:
        r"""Return the gradient of one raw output to the inputs, :math:`\partial z_k / \partial x`.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Inputs.
        output : int, default=0
            Number `k` of the output; of a binary classifier there is only 0, the log-odds of the second class.

        Returns
        -------
        array of shape (n_samples, n_features)
            In the library of `X`; for an ensemble with its axis in front.
        """
        X = self._dense(self._inputs(X, "input_gradient"))
        net = self.net_.copy()  # backward writes gradients; predictions may run beside
        pred, caches = net.forward(X)
        if not 0 <= output < net.n_out:
            raise ValueError(f"input_gradient: expected an output in 0..{net.n_out - 1}, got {output}.")
        pick = np.zeros(tuple(pred.shape))
        pick[..., output] = 1.0
        dx = net.backward(net.backend.asarray(pick), caches, need_dx=True)
        if self.scaler_ is not None:
            dx = dx * net.backend.asarray(1.0 / np.asarray(self.scaler_.scale))
        return like(dx, X)

    # -- scikit-learn's attributes --------------------------------------------------------------------------
    def _weights(self, kind: str) -> list[Array]:
        if "net_" in vars(self):
            return [view for name, view in self.net_.params.items() if name.endswith(kind) and self._is_linear(name)]
        try:
            given: list[Array] = vars(self)["_given"]["coefs_" if kind == "weight" else "intercepts_"]
            return given
        except KeyError:
            raise AttributeError(f"{type(self).__name__} is not fitted yet: it has no weights.") from None

    def _is_linear(self, name: str) -> bool:
        from ..layers import Linear, Residual

        first, *rest = name.split(".")
        layer: Layer = self.net_.layers[int(first)]
        if isinstance(layer, Residual):
            layer = layer.layers[int(rest[0])]
        return isinstance(layer, Linear)

    def _assign(self, kind: str, values: Sequence[Any]) -> None:
        if "net_" not in vars(self):
            self._given = {**getattr(self, "_given", {}), "coefs_" if kind == "weight" else "intercepts_": values}
            return
        for view, value in zip(self._weights(kind), values, strict=True):
            view[...] = self.net_.backend.asarray(value)

    @property
    def _optimizer(self) -> SimpleNamespace:
        """The present learning rate, where scikit-learn keeps it."""
        return SimpleNamespace(learning_rate=self._optimizer_.lr if self._optimizer_ is not None else None)

    @property
    def coefs_(self) -> list[Array]:
        """Weight matrices (n_in, n_out) of the Linear layers: views, so that changes take effect."""
        return self._weights("weight")

    @coefs_.setter
    def coefs_(self, values: Sequence[Any]) -> None:
        self._assign("weight", values)

    @property
    def intercepts_(self) -> list[Array]:
        """Bias vectors (n_out,) of the Linear layers."""
        return self._weights("bias")

    @intercepts_.setter
    def intercepts_(self, values: Sequence[Any]) -> None:
        self._assign("bias", values)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags


_NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


def is_foreign(X: Any) -> bool:
    """Whether X is an array of another library than NumPy that dispatch lets through."""
    from sklearn import get_config

    return bool(get_config()["array_api_dispatch"]) and not isinstance(X, np.ndarray) and hasattr(X, "device")


def _host_weight(sample_weight: Any, X: Any, n: int) -> np.ndarray:
    checked = _check_sample_weight(sample_weight, np.zeros((n, 1)) if isinstance(X, dict) else X)
    return np.asarray(to_numpy(checked), dtype=np.float64)


def _fit_scaler(X: Any, weight: np.ndarray | None) -> Standardizer:
    """Measure the training rows; of a sparse matrix only the deviations, for centring would fill it."""
    if weight is None and not scipy.sparse.issparse(X):
        return Standardizer().fit(X)
    scaler = Standardizer()
    if scipy.sparse.issparse(X):
        mean, variance = mean_variance_axis(X.tocsr(), axis=0, weights=weight)
        scaler.shift = np.zeros(X.shape[1])
    else:
        host = to_numpy(X).astype(np.float64)
        mean = np.average(host, axis=0, weights=weight)
        variance = np.average((host - mean) ** 2, axis=0, weights=weight)
        scaler.shift = mean
    scale = np.sqrt(np.asarray(variance, dtype=np.float64))
    constant = scale <= 10 * np.finfo(np.float64).eps * np.abs(mean)
    scaler.scale = np.where(constant, 1.0, scale)
    return scaler


def _float_name(X: Any) -> str:
    name = str(X.dtype).rpartition(".")[2]
    return "float32" if name == "float32" else "float64"
