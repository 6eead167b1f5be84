"""Inputs on their way in: checked by scikit-learn's rules, of any library, dense, sparse or frames, encoded, scaled."""

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
from ..data import Standardizer, TableEncoder
from ._arguments import Arguments

__all__ = ["dense", "fit_encoder", "fit_scaler", "float_name", "is_foreign", "read_inputs", "read_rows", "scaled"]

_SAYS_CATEGORICAL = ("category", "Categorical", "Enum")


def is_foreign(X: Any) -> bool:
    """Whether X is an array of another library than NumPy that dispatch lets through."""
    return bool(get_config()["array_api_dispatch"]) and not isinstance(X, np.ndarray) and hasattr(X, "device")


def read_rows(
    estimator: Arguments, X: Any, y: Any, sample_weight: Any, *, numbers: bool, reset: bool
) -> tuple[Any, np.ndarray, np.ndarray | None]:
    """Check what `fit` is given; return inputs, with targets and weights on the host.

    A frame with categories becomes a dict of columns.  With `numbers`, targets must be numbers; with `reset`, the
    estimator learns number and names of the features, which it must know without.
    """
    if estimator.categorical_features is not None:
        columns = _columns_of(X)
        _check_feature_names(estimator, X, reset=reset)
        _check_n_features(estimator, X, reset=reset)
        like = np.zeros((X.shape[0], 1))
        _, y = check_X_y(like, y, multi_output=True, y_numeric=numbers, estimator=estimator)
        X = columns
    else:
        X, y = _validated(estimator, X, y, multi_output=True, y_numeric=numbers, reset=reset)
        like = X
    y = dense(y)
    if sample_weight is not None:
        sample_weight = np.asarray(to_numpy(_check_sample_weight(sample_weight, like)), dtype=np.float64)
    return X, to_numpy(y), sample_weight


def read_inputs(estimator: Arguments, X: Any) -> Any:
    """Check inputs of a fitted estimator; a frame with categories becomes a dict of columns."""
    if hasattr(estimator, "encoder_"):
        columns = _columns_of(X)
        _check_feature_names(estimator, X, reset=False)
        return columns
    return _validated(estimator, X, reset=False)


def _validated(estimator: Arguments, X: Any, *y: Any, **options: Any) -> Any:
    dtype = (np.float64, np.float32) if not is_foreign(X) else "numeric"
    return validate_data(estimator, X, *y, accept_sparse=["csr", "csc"], dtype=dtype, **options)


def dense(X: Any) -> Any:
    """Return a sparse matrix as an array, anything else as it is."""
    return X.toarray() if scipy.sparse.issparse(X) else X


def float_name(X: Any) -> str:
    """Return the name of the floating dtype that suits inputs."""
    name = str(X.dtype).rpartition(".")[2]
    return "float32" if name == "float32" else "float64"


def fit_scaler(X: Any, weight: np.ndarray | None) -> Standardizer:
    """Measure the training rows; of a sparse matrix only the deviations, for centring would fill it."""
    scaler = Standardizer()
    if weight is None and not scipy.sparse.issparse(X):
        return scaler.fit(X)
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


def _columns_of(X: Any) -> dict[str, np.ndarray]:
    """Return the columns of a pandas or polars frame by name: numbers with NaN, text with None."""
    if not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        raise TypeError(
            f"categorical_features expects a pandas or polars frame, got {type(X).__name__}. Pass the frame itself, "
            "or leave categorical_features=None for numbers."
        )
    odd = [name for name in X.columns if not isinstance(name, str)]
    if odd:
        raise TypeError(f"categorical_features expects columns named by text, got the name {odd[0]!r}.")
    return {name: _values(X[name]) for name in X.columns}


def _values(column: Any) -> np.ndarray:
    if hasattr(column, "iloc") and not isinstance(column.dtype, np.dtype):  # pandas: NA cannot be compared
        if column.dtype.name in ("Int64", "Int32", "Int16", "Int8", "Float64", "Float32"):
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        column = column.astype(object)
        return np.asarray(column.where(column.notna(), None).to_numpy(dtype=object))
    return np.asarray(column.to_numpy())


def fit_encoder(X: Any, columns: dict[str, np.ndarray], categorical: Any) -> TableEncoder:
    """Fit an encoder on the training rows of a frame.

    Categories are in the columns named by `categorical`, or with "from_dtype" in those whose dtype in `X` says so or
    that hold text.
    """
    if isinstance(categorical, str):
        said = [name for name in columns if str(X[name].dtype).startswith(_SAYS_CATEGORICAL)]
        return TableEncoder(categorical=said).fit(columns)
    named = [str(name) for name in categorical]
    return TableEncoder(categorical=named, numeric=[n for n in columns if n not in named]).fit(columns)
