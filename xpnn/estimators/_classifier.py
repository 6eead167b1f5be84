"""The classifier."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import scipy.sparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from .._typing import Array
from ..backend import backend_of, to_numpy
from ..errors import OptionError
from ..frames import listed
from ..losses import BinaryCrossEntropy, CrossEntropy, Focal, Hinge, Loss
from ..training.checks import weights_by_label
from ._arguments import keep
from ._fit import BaseMLP
from ._inputs import codes_of, is_foreign, targets_of, weights_of
from ._trainer import SummedBinaryCrossEntropy

__all__ = ["MLPClassifier", "OneHotWarning"]

# Fewer rows may well hold one label each by chance.
_ROWS_TO_WARN = 10


class OneHotWarning(UserWarning):
    """An indicator matrix has exactly one 1 in every row: classes may be meant where labels are learnt."""


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """Multilayer perceptron classifier: scikit-learn's, and more.

    Every argument, method and fitted attribute of ``sklearn.neural_network.MLPClassifier`` exists with the same
    meaning; the arguments from `dropout` on are further ones.  Binary problems train a single logit,
    multi-label ones a logit for each label, others a softmax.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Widths of the hidden layers; ``()`` for none.
    activation : str, Layer, or one for each hidden layer, default="relu"
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``, or any of xpnn's.
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        The optimizer.
    alpha : float, default=0.0001
        L2 penalty: alpha/2 · Σ w², divided by the sample weight of the batch.
    batch_size : int or "auto", default="auto"
        Rows of a step; ``"auto"`` is min(200, n_samples).
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        Of ``solver="sgd"``; see also `schedule`.
    learning_rate_init : float, default=0.001
        Learning rate.
    power_t : float, default=0.5
        Exponent of ``"invscaling"``.
    max_iter : int, default=200
        Epochs, or iterations of L-BFGS, at most.
    shuffle : bool, default=True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState or None, default=None
        Draws weights, validation split, shuffles and dropout masks.
    tol : float, default=1e-4
        Improvement that counts; for L-BFGS the largest gradient that counts as zero.
    verbose : bool or int, default=False
        Print the progress.
    warm_start : bool, default=False
        Whether `fit` goes on from the last solution, the optimizer's state included.
    momentum : float, default=0.9
        Of ``solver="sgd"``.
    nesterovs_momentum : bool, default=True
        Of ``solver="sgd"``.
    early_stopping : bool, default=False
        Hold out a stratified fraction, stop when its accuracy stops rising, restore the best weights.
    validation_fraction : float, default=0.1
        The fraction.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of ``solver="adam"``.
    n_iter_no_change : int or inf, default=10
        Epochs without improvement before stopping.
    max_fun : int, default=15000
        Evaluations of L-BFGS at most.
    dropout : float or one for each hidden layer, default=0.0
        Share of units dropped in training.  Equal rows of a batch are dropped alike, wherever they lie in it.
    norm : {"batch", "layer", "rms"} or None, default=None
        Normalization before each activation.
    residual : bool, default=False
        Skip connections around hidden layers whose input is as wide as their output.
    init : str or Initializer, default="auto"
        Of the weights.
    optimizer : Optimizer, optional
        In place of `solver` (which then must not be ``"lbfgs"``); copied for each fit.
    schedule : Schedule, optional
        Factor on the learning rate, by epoch or by step.
    callbacks : sequence of Callback, optional
        xpnn's.
    clip_norm : float, optional
        Largest norm of all gradients together.
    standardize : bool, default=False
        Scale inputs to mean 0 and variance 1, fitted on the training rows.
    max_seconds : float, optional
        Stop at the end of the epoch after so long.
    n_ensemble : int, optional
        Train so many networks at once, which differ in their seed; predictions are means.
    n_layers, width : int, optional
        In place of `hidden_layer_sizes`: so many layers of equal width; handy in searches.
    backend : str, Backend or None, default=None
        Where to compute; by default where the data are.
    dtype : {"float32", "float64"}, optional
        By default that of the data.
    categorical_features : "from_dtype", list of str or None, default=None
        For pandas and polars frames: which columns hold categories, by name, or all whose dtype says so or that
        hold text.  They, and the numbers beside them, go through `xpnn.data.TableEncoder`, fitted on the
        training rows: one 0/1 column a category, robust scaling, missing values imputed and flagged.  None
        takes numbers alone, as they are.
    class_weight : dict, Series, "balanced" or None, default=None
        Weights of the classes, by label, multiplied with `sample_weight`; ``"balanced"`` counts a row as often
        as its weight says.
    label_smoothing : float, default=0.0
        Share of probability spread over all classes.
    loss : "log_loss", "focal" or Loss, default="log_loss"
        What is made small.  With a loss over classes (focal, `xpnn.CrossEntropy`, `xpnn.Hinge`, label smoothing)
        binary problems have two outputs as well; a `xpnn.Hinge` network has no probabilities.
    multilabel : bool, optional
        What 0/1 indicator rows mean: True, independent labels; False, one-hot classes, which become class
        numbers.  By default they are labels, as in scikit-learn, with a `OneHotWarning` if they look one-hot.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels.
    coefs_, intercepts_ : list of array
        Weights (n_in, n_out) and biases of the Linear layers; views, so that changes take effect.
    loss_, best_loss_ : float
        Training loss of the last epoch, and the least of all.
    loss_curve_ : list of float
        Training loss of every epoch, the penalty included.
    best_epoch_ : int or None
        The epoch whose weights are kept: that of the best validation score, or without early stopping the last,
        unless all training rows are fitted better by more than `tol` with the weights of an earlier one; None
        after ``warm_start`` and `partial_fit`, which go on from their last weights.
    validation_scores_, best_validation_score_ : list of float, float
        Accuracy of the held-out rows, with ``early_stopping=True``.
    n_iter_, t_ : int
        Epochs of the last fit, and training samples seen.
    n_layers_, n_outputs_, out_activation_ : int, int, str
        The architecture; layers are counted as layers of units.
    n_features_in_, feature_names_in_ : int, array of str
        The inputs.
    history_ : History
        All that was recorded, epoch by epoch.
    net_ : Sequential
        The network.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from xpnn.estimators import MLPClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> model = MLPClassifier((16, 16), solver="lbfgs", max_iter=100, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.98
    True
    """

    _targets_are_numbers = False
    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [HasMethods("items"), StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "loss": [StrOptions({"log_loss", "focal"}), Loss],
        "multilabel": ["boolean", None],
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
        class_weight: Mapping[Any, float] | str | None = None,
        label_smoothing: float = 0.0,
        loss: Any = "log_loss",
        multilabel: bool | None = None,
    ) -> None:
        keep(self, locals())

    # -- targets --------------------------------------------------------------------------------------------
    def _encode(self, y: np.ndarray, *, first: bool, incremental: bool) -> np.ndarray:
        y, multilabel = self._read_labels(y, warn=first)
        if not hasattr(self, "classes_") or (first and not incremental):
            self.classes_ = unique_labels(y)
        else:
            self._check_classes(unique_labels(y))
        by_class = self._wants_classes()
        if multilabel:
            if by_class or (isinstance(self.loss, Loss) and not isinstance(self.loss, BinaryCrossEntropy)):
                what = "label_smoothing" if self.loss == "log_loss" else f"loss={self.loss!r}"
                raise OptionError(
                    f"MLPClassifier: {what} expects one label for each row, got an indicator matrix. "
                    "Pass y.argmax(axis=1) for classes."
                )
            self.out_activation_, self.n_outputs_ = "logistic", y.shape[1]
            return self._targets(y, multilabel)
        single = len(self.classes_) < 2 or (len(self.classes_) == 2 and not by_class)
        if isinstance(self.loss, Loss) and not (self.loss.classifies and (single or self.loss.takes_labels)):
            raise OptionError(f"MLPClassifier: expected a loss over classes, got {self.loss}. Use xpnn.CrossEntropy().")
        self.out_activation_, self.n_outputs_ = ("logistic", 1) if single else ("softmax", len(self.classes_))
        return self._targets(y, multilabel)

    def _encode_more(self, y: np.ndarray) -> np.ndarray:
        y, multilabel = self._read_labels(y, warn=False)
        if multilabel != self._has_labels():
            kinds = ("one label for each row", "an indicator matrix")
            raise ValueError(f"fit: expected y_val to be {kinds[not multilabel]}, as y is, got {kinds[multilabel]}.")
        unknown = sorted(set(unique_labels(y).tolist()) - set(self.classes_.tolist()))
        if unknown:
            raise ValueError(f"fit: expected y_val to hold classes that y has, got {unknown[0]} too.")
        return self._targets(y, multilabel)

    def _read_labels(self, y: np.ndarray, *, warn: bool) -> tuple[np.ndarray, bool]:
        """Return labels, and whether they are an indicator matrix of independent ones."""
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind not in ("binary", "multiclass", "multilabel-indicator"):
            raise ValueError(
                f"Unknown label type: {kind}. MLPClassifier expects one label for each row, or a 0/1 indicator matrix. "
                "Maybe you are trying to fit a classifier on a regression target with continuous values."
            )
        if kind != "multilabel-indicator":
            return y, False
        one_hot = bool((y.sum(axis=1) == 1).all())
        if self.multilabel is False:
            if not one_hot:
                raise ValueError(
                    "MLPClassifier(multilabel=False) expects one-hot rows, got a row that does not hold exactly one 1. "
                    "Pass multilabel=True for independent labels."
                )
            return y.argmax(axis=1), False
        if warn and one_hot and self.multilabel is None and len(y) >= _ROWS_TO_WARN:
            warnings.warn(
                f"y looks one-hot: each of its {len(y)} rows holds exactly one 1. It is taken as {y.shape[1]} "
                "independent labels, as scikit-learn does, and probabilities need not sum to 1. Pass multilabel=False "
                "(or y.argmax(axis=1)) for classes, multilabel=True if labels are meant.",
                OneHotWarning,
                stacklevel=8,
            )
        return y, True

    def _wants_classes(self) -> bool:
        """Whether the loss needs an output for each class even where there are two."""
        if isinstance(self.loss, Loss):
            return self.loss.takes_labels
        return bool(self.loss == "focal" or self.label_smoothing > 0)

    def _has_labels(self) -> bool:
        return self.out_activation_ == "logistic" and self.n_outputs_ > 1

    def _targets(self, y: np.ndarray, multilabel: bool) -> np.ndarray:
        """Return what the loss takes: 0/1 columns, or class numbers."""
        if multilabel:
            return np.asarray(y, dtype=np.float64)
        codes = codes_of(y, self.classes_)
        if self.out_activation_ == "logistic":
            return np.asarray(codes, dtype=np.float64)[:, None]
        return np.asarray(codes, dtype=np.int64)

    def _check_classes(self, classes: np.ndarray) -> None:
        if self.warm_start and set(classes.tolist()) != set(self.classes_.tolist()):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {classes}"
            )
        if set(classes.tolist()) - set(self.classes_.tolist()):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )

    def _make_loss(self) -> Loss:
        if isinstance(self.loss, Loss):
            if self.out_activation_ == "logistic" and self.loss.takes_labels:  # a single class: nothing to learn
                return SummedBinaryCrossEntropy()
            return self.loss
        if self.out_activation_ == "logistic":
            return SummedBinaryCrossEntropy()
        if self.loss == "focal":
            if self.label_smoothing:
                raise OptionError(
                    "MLPClassifier: expected loss='log_loss' with label_smoothing, not 'focal'. Choose one."
                )
            return Focal()
        return CrossEntropy(label_smoothing=self.label_smoothing)

    def _weigh(self, y: np.ndarray, sample_weight: np.ndarray | None, *, anew: bool) -> np.ndarray | None:
        if self.class_weight is None:
            return sample_weight
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError("class_weight expects one label for each row, got an indicator matrix. Use sample_weight.")
        codes = y if y.ndim == 1 else y[:, 0].astype(np.int64)
        if anew:
            self._class_table = self._weights_of_classes(codes, sample_weight)
        by_row: np.ndarray = self._class_table[codes]
        return by_row if sample_weight is None else by_row * sample_weight

    def _weights_of_classes(self, codes: np.ndarray, sample_weight: np.ndarray | None) -> np.ndarray:
        table = np.ones(len(self.classes_))
        if isinstance(self.class_weight, str):  # a row of weight w is counted as w rows
            counts = np.bincount(codes, weights=sample_weight, minlength=len(self.classes_))
            present = counts > 0
            table[present] = counts.sum() / (present.sum() * counts[present])
        else:
            given = weights_by_label(self.class_weight, type(self).__name__)
            classes = self.classes_.tolist()
            unknown, unnamed = [key for key in given if key not in classes], [c for c in classes if c not in given]
            if unknown and unnamed:  # a class that these rows do not hold may be named, but this looks like a mistake
                raise OptionError(
                    f"{type(self).__name__}: expected class_weight for the classes {listed(classes, 5)}, got "
                    f"{unknown[0]!r}, which is none, and nothing for {unnamed[0]!r}. Name classes as y does."
                )
            table[:] = [given.get(label, 1.0) for label in classes]
        return table

    def _stratify(self, targets: np.ndarray) -> np.ndarray | None:
        if targets.ndim == 2:
            return targets.astype(bool) if targets.shape[1] == 1 else None
        # scikit-learn stratifies two classes only; more where each can have a row on both sides, so that no data
        # that it takes are refused.
        n_valid = math.ceil(len(targets) * self.validation_fraction)
        counts = np.bincount(targets)
        counts = counts[counts > 0]
        possible = counts.min() >= 2 and len(counts) <= min(n_valid, len(targets) - n_valid)
        return targets if possible else None

    def _score_rows(self, X: Any, targets: np.ndarray, sample_weight: np.ndarray | None) -> float:
        out = to_numpy(self._linked(X))
        if not np.isfinite(out).all():
            return float("nan")
        if self.out_activation_ == "softmax":
            return float(accuracy_score(targets, out.argmax(axis=1), sample_weight=sample_weight))
        return float(accuracy_score(targets > 0.5, out > 0.5, sample_weight=sample_weight))

    # -- public ---------------------------------------------------------------------------------------------
    @available_if(lambda est: est._check_solver())  # type: ignore[untyped-decorator]
    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train for one epoch over the given rows.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            Labels.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows.
        classes : array of shape (n_classes,), optional
            All labels there will be; needed in the first call.

        Returns
        -------
        self
        """
        where = type(self).__name__
        y, classes = targets_of(y, where, numbers=False), targets_of(classes, where, numbers=False)
        first = _check_partial_fit_first_call(self, classes)
        if first and self.multilabel is not False and type_of_target(to_numpy(y)) == "multilabel-indicator":
            self.classes_ = np.arange(np.shape(y)[1])
        return self._fit(X, y, sample_weight, incremental=True)

    @available_if(lambda est: est._check_probabilities())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any, return_std: bool = False) -> Any:
        """Return probabilities.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.
        return_std : bool, default=False
            Whether to return the standard deviation over the networks of an ensemble too.

        Returns
        -------
        array of shape (n_samples, n_classes)
            In the order of ``classes_``; for multi-label problems each column by itself.  In the library of `X`;
            with `return_std` a pair of such arrays.

        Raises
        ------
        ValueError
            If `return_std` is asked of a single network.
        """
        X = self._inputs(X, "predict_proba")
        mean = self._proba(self._linked(X))
        if not return_std:
            return mean
        spread = self._spread(X, "predict_proba")
        if self.n_outputs_ == 1:  # 1 - p spreads as p does
            spread = backend_of(spread).xp.concat([spread, spread], axis=1)
        return mean, spread

    def _check_probabilities(self) -> bool:
        if isinstance(self.loss, Hinge):
            raise AttributeError("a network trained on the hinge loss has margins, no probabilities")
        return True

    def _proba(self, out: Array) -> Array:
        xp = backend_of(out).xp
        if self.out_activation_ == "logistic":  # never certain: rounding alone would say 0 or 1
            eps = float(xp.finfo(out.dtype).eps) / 2
            out = xp.minimum(xp.maximum(out, eps), 1.0 - eps)
        if self.n_outputs_ > 1:
            return out
        return xp.concat([1.0 - out, out], axis=1)

    @available_if(lambda est: est._check_probabilities())  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of `predict_proba`, of shape (n_samples, n_classes)."""
        proba = self._proba(self._linked(self._inputs(X, "predict_log_proba")))
        return backend_of(proba).xp.log(proba)

    def predict(self, X: Any) -> Array:
        """Return labels.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.

        Returns
        -------
        array of shape (n_samples,), or (n_samples, n_labels) for multi-label problems
            In the library of `X` if the labels are numbers.
        """
        out = to_numpy(self._linked(self._inputs(X, "predict")))
        if self._has_labels():
            labels: np.ndarray = (out > 0.5).astype(np.int64)
        elif self.n_outputs_ == 1:
            second = out[:, 0] > 0.5 if len(self.classes_) > 1 else np.zeros(len(out))
            labels = self.classes_[second.astype(np.int64)]
        else:
            labels = self.classes_[out.argmax(axis=1)]
        if scipy.sparse.issparse(X) or not is_foreign(X) or labels.dtype.kind not in "biuf":
            return labels
        backend = backend_of(X)
        return backend.xp.asarray(labels, device=backend.device)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Inputs.
        y : array of shape (n_samples,) or (n_samples, n_labels)
            Labels; of several, all of a row must be right.
        sample_weight : array of shape (n_samples,), optional
            Weights of the rows.

        Returns
        -------
        float
            From 0 to 1.
        """
        where = type(self).__name__
        y = targets_of(y, where, numbers=False)
        return float(super().score(X, y, weights_of(sample_weight, where)))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = self.multilabel is not False and not self._wants_classes()
        return tags
