"""Estimators of scikit-learn, and back: `xpnn.estimators` does it, and is imported when it is asked."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["from_sklearn", "to_sklearn"]


def from_sklearn(estimator: Any) -> Any:
    """Return a fitted perceptron of scikit-learn, or a Pipeline that ends in one, as an estimator of xpnn.

    Parameters
    ----------
    estimator : sklearn.neural_network.MLPClassifier or MLPRegressor, or sklearn.pipeline.Pipeline
        Fitted; see `xpnn.estimators.from_sklearn` for the steps that a Pipeline may have.

    Returns
    -------
    xpnn.estimators.MLPClassifier or MLPRegressor
        With the same weights, classes, scaling and categories; predictions are equal to rounding.

    Raises
    ------
    OptionError
        If `estimator` is something else, or not fitted, or has a step that xpnn lacks; the message names it.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_iris(return_X_y=True)
    >>> theirs = make_pipeline(StandardScaler(), MLPClassifier((5,), solver="lbfgs", random_state=0)).fit(X, y)
    >>> ours = from_sklearn(theirs)
    >>> bool(abs(ours.predict_proba(X) - theirs.predict_proba(X)).max() < 1e-6)
    True
    """
    return importlib.import_module("..estimators", __package__).from_sklearn(estimator)


def to_sklearn(estimator: Any) -> Any:
    """Return a fitted estimator of xpnn as scikit-learn's; see `xpnn.estimators.to_sklearn`."""
    return importlib.import_module("..estimators", __package__).to_sklearn(estimator)
