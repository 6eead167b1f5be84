"""Fitted networks from scikit-learn, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import LabelBinarizer

from ..backend import to_numpy
from ..errors import OptionError
from ._classifier import MLPClassifier
from ._fit import BaseMLP
from ._network import start
from ._pipeline import Layer1, read_front, write_encoder, write_scaler
from ._regressor import MLPRegressor

__all__ = ["from_sklearn", "to_sklearn"]

_OF_DATA = ("n_features_in_", "feature_names_in_", "classes_", "n_outputs_", "out_activation_")
_RECORDS = ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_", "n_iter_", "t_")


def from_sklearn(estimator: Any) -> BaseMLP:
    """Return our estimator with the weights of a fitted scikit-learn perceptron, or of a Pipeline that ends in one.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor, or sklearn.pipeline.Pipeline
        Fitted.  What is before the perceptron may be StandardScaler, MinMaxScaler, MaxAbsScaler, RobustScaler,
        SimpleImputer, OneHotEncoder, and ColumnTransformer and Pipeline of these.

    Returns
    -------
    MLPClassifier or MLPRegressor
        With the same arguments, weights, classes and loss curve; predictions are equal to rounding.  Scalers become
        ``standardize=True`` with their own numbers in ``scaler_``; with categories the Pipeline becomes
        ``categorical_features`` and ``encoder_``, whose matrix is float32.  There a missing category counts as none.
        Training it on (``warm_start``, ``partial_fit``) begins with a fresh optimizer; `fit` measures anew.

    Raises
    ------
    OptionError
        If `estimator` is something else, or not fitted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> theirs = MLPClassifier((5,), solver="lbfgs", random_state=0, max_iter=1000).fit(X, y)
    >>> ours = from_sklearn(theirs)
    >>> bool((ours.predict(X) == theirs.predict(X)).all())
    True
    """
    front, steps, whole = None, [], estimator
    if isinstance(estimator, Pipeline):
        *steps, (_, estimator) = estimator.steps
    kinds = {neural_network.MLPClassifier: MLPClassifier, neural_network.MLPRegressor: MLPRegressor}
    kind = kinds.get(type(estimator))
    if kind is None:
        raise OptionError(
            f"from_sklearn: expected a MLPClassifier or MLPRegressor of scikit-learn, got {type(estimator).__name__}. "
            "Pass a fitted one."
        )
    if not hasattr(estimator, "coefs_"):
        raise OptionError("from_sklearn: expected a fitted estimator, got one without weights. Call fit first.")
    ours: BaseMLP = kind(**estimator.get_params())
    coefs, intercepts = list(estimator.coefs_), list(estimator.intercepts_)
    if steps:
        names = getattr(whole, "feature_names_in_", None)
        front = read_front(steps, Layer1(coefs[0], intercepts[0]), names, whole.n_features_in_)
        coefs[0], intercepts[0] = front.layer
        ours.set_params(standardize=front.scaler is not None)
        if front.encoder is not None:
            ours.set_params(categorical_features=front.categorical)
            ours.encoder_ = front.encoder
    _copy(_OF_DATA, estimator, ours)
    _copy(("n_features_in_", "feature_names_in_"), whole, ours)
    hidden = [coef.shape[1] for coef in coefs[:-1]]
    start(ours, np.empty((1, coefs[0].shape[0]), estimator.coefs_[0].dtype), hidden)
    ours.coefs_, ours.intercepts_ = coefs, intercepts
    if front is not None:
        ours.scaler_ = front.scaler
    _copy(_RECORDS, estimator, ours)
    return ours


def to_sklearn(estimator: BaseMLP) -> Any:
    """Return scikit-learn's estimator with the weights of a fitted one of ours.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Fitted, with an architecture that scikit-learn has: one of its four activations, no norms, no skips, no
        ensemble; dropout is left behind, for it acts in training only.

    Returns
    -------
    sklearn.neural_network.MLPClassifier or MLPRegressor, or sklearn.pipeline.Pipeline
        Predictions are equal to rounding.  With ``standardize`` it is a Pipeline of a StandardScaler and the
        perceptron; with ``categorical_features`` one of a ColumnTransformer and the perceptron, of scikit-learn's
        own parts, so that it needs no xpnn (but pandas, here and there).

    Raises
    ------
    OptionError
        If scikit-learn has no such network; the message names the part.
    """
    if not isinstance(estimator, BaseMLP):
        raise OptionError(
            f"to_sklearn: expected a MLPClassifier or MLPRegressor of xpnn.estimators, got {type(estimator).__name__}. "
            "Networks go to PyTorch, Keras and ONNX: to_torch(), to_keras(), to_onnx(path)."
        )
    if not hasattr(estimator, "net_"):
        raise OptionError("to_sklearn: expected a fitted estimator of xpnn. Call fit first.")
    _check_convertible(estimator)
    classifies = isinstance(estimator, MLPClassifier)
    kind = neural_network.MLPClassifier if classifies else neural_network.MLPRegressor
    names = kind().get_params()
    theirs = kind(**{name: value for name, value in estimator.get_params(deep=False).items() if name in names})
    theirs.set_params(hidden_layer_sizes=tuple(int(w.shape[1]) for w in estimator.coefs_[:-1]))
    if theirs.activation == "sigmoid":
        theirs.set_params(activation="logistic")
    _copy((*_OF_DATA, *_RECORDS), estimator, theirs)
    theirs.n_layers_ = estimator.n_layers_
    theirs.coefs_ = [np.array(to_numpy(w)) for w in estimator.coefs_]
    theirs.intercepts_ = [np.array(to_numpy(b)) for b in estimator.intercepts_]
    front = _front_of(estimator, theirs)
    if classifies:
        binarizer = LabelBinarizer()
        multilabel = estimator.out_activation_ == "logistic" and estimator.n_outputs_ > 1
        labels = np.eye(estimator.n_outputs_, dtype=np.int64) if multilabel else estimator.classes_
        theirs._label_binarizer = binarizer.fit(labels)
        if multilabel:
            binarizer.y_type_ = "multilabel-indicator"
            binarizer.classes_ = estimator.classes_
    theirs._no_improvement_count = getattr(estimator, "_no_improvement_count", 0)
    return theirs if front is None else Pipeline([(type(part).__name__.lower(), part) for part in (front, theirs)])


def _front_of(estimator: BaseMLP, theirs: Any) -> Any:
    """Return what stands before the perceptron in a Pipeline, None for nothing; its first layer follows."""
    scaler, encoder = estimator.scaler_, vars(estimator).get("encoder_")
    if encoder is None:
        front = None if scaler is None else write_scaler(scaler, getattr(estimator, "feature_names_in_", None))
    else:
        weight, bias = (np.asarray(part[0], dtype=np.float64) for part in (theirs.coefs_, theirs.intercepts_))
        if scaler is not None:
            weight = weight / np.asarray(scaler.scale)[:, None]
            bias = bias - np.asarray(scaler.shift) @ weight
        front, (theirs.coefs_[0], theirs.intercepts_[0]) = write_encoder(encoder, Layer1(weight, bias))
        theirs.n_features_in_ = len(theirs.coefs_[0])
    if front is not None and hasattr(theirs, "feature_names_in_"):
        del theirs.feature_names_in_  # which the first step knows
    return front


def _copy(names: Sequence[str], source: Any, target: Any) -> None:
    for name in names:
        if hasattr(source, name):
            setattr(target, name, getattr(source, name))


def _check_convertible(estimator: BaseMLP) -> None:
    activation, loss = estimator.activation, estimator.loss
    problems = {
        f"the activation {activation!r}": activation not in ("identity", "logistic", "sigmoid", "tanh", "relu"),
        "normalization layers": estimator.norm is not None,
        "residual connections": estimator.residual and estimator.n_layers_ > 3,
        "two outputs for two classes": estimator.n_outputs_ == 2
        and len(getattr(estimator, "classes_", ())) == 2
        and estimator.out_activation_ == "softmax",
        "an ensemble": estimator.n_ensemble is not None,
        f"the loss {loss!r}": loss not in ("log_loss", "squared_error", "poisson"),
    }
    found = [what for what, there in problems.items() if there]
    if found:
        raise OptionError(f"to_sklearn: expected a network that scikit-learn has, got {' and '.join(found)}.")
