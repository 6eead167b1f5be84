"""Inputs on their way in: checked by scikit-learn's rules, of any library, dense, sparse or frames, and scaled."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from sklearn import get_config
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
    check_X_y,
    validate_data,
)

from ..backend import to_numpy
from ..data import Standardizer
from ._arguments import Arguments
from ._tables import columns_of

__all__ = ["dense", "fit_scaler", "float_name", "host_weight", "is_foreign", "read_inputs", "read_pair", "scaled"]


def is_foreign(X: Any) -> bool:
    """Whether X is an array of another library than NumPy that dispatch lets through."""
    return bool(get_config()["array_api_dispatch"]) and not isinstance(X, np.ndarray) and hasattr(X, "device")


def read_pair(estimator: Arguments, X: Any, y: Any, *, numbers: bool, reset: bool) -> tuple[Any, Any]:
    """Check inputs and targets; a frame with categories becomes a dict of columns.

    Parameters
    ----------
    estimator : Arguments
        Learns number and names of the features with `reset`, must know them without.
    X, y : array, sparse matrix or frame
        As given to `fit`.
    numbers : bool
        Whether targets must be numbers.
    reset : bool
        Whether a fit begins anew.
    """
    if estimator.categorical_features is not None:
        columns = columns_of(X)
        _check_feature_names(estimator, X, reset=reset)
        _check_n_features(estimator, X, reset=reset)
        stand_in = np.zeros((X.shape[0], 1))
        _, y = check_X_y(stand_in, y, multi_output=True, y_numeric=numbers, estimator=estimator)
        return columns, dense(y)
    X, y = validate_data(
        estimator,
        X,
        y,
        accept_sparse=["csr", "csc"],
        multi_output=True,
        y_numeric=numbers,
        dtype=(np.float64, np.float32) if not is_foreign(X) else "numeric",
        reset=reset,
    )
    return X, dense(y)


def read_inputs(estimator: Arguments, X: Any) -> Any:
    """Check inputs of a fitted estimator; a frame with categories becomes a dict of columns."""
    if hasattr(estimator, "encoder_"):
        columns = columns_of(X)
        _check_feature_names(estimator, X, reset=False)
        return columns
    dtype = (np.float64, np.float32) if not is_foreign(X) else "numeric"
    return validate_data(estimator, X, accept_sparse=["csr", "csc"], dtype=dtype, reset=False)


def dense(X: Any) -> Any:
    """Return a sparse matrix as an array, anything else as it is."""
    return X.toarray() if scipy.sparse.issparse(X) else X


def float_name(X: Any) -> str:
    """Return the name of the floating dtype that suits inputs."""
    name = str(X.dtype).rpartition(".")[2]
    return "float32" if name == "float32" else "float64"


def host_weight(sample_weight: Any, X: Any, n: int) -> np.ndarray | None:
    """Check the weights of `n` rows, if there are any, and return them on the host."""
    if sample_weight is None:
        return None
    checked = _check_sample_weight(sample_weight, np.zeros((n, 1)) if isinstance(X, dict) else X)
    return np.asarray(to_numpy(checked), dtype=np.float64)


def fit_scaler(X: Any, weight: np.ndarray | None) -> Standardizer:
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


def scaled(X: Any, scaler: Standardizer | None) -> Any:
    """Scale inputs, if there is a scaler; a sparse matrix is not centred."""
    if scaler is None:
        return X
    if scipy.sparse.issparse(X):
        return X.multiply(1.0 / np.asarray(scaler.scale).astype(X.dtype)).tocsr()
    return scaler.transform(X)
