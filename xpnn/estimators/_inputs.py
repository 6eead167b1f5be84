"""Inputs on their way in: checked by scikit-learn's rules, of any library, dense, sparse or frames, encoded, scaled."""

from __future__ import annotations

from numbers import Integral, Number
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

from ..arguments import as_array, as_real
from ..backend import to_numpy
from ..backend.interop import library_of
from ..data import Standardizer, TableEncoder
from ..errors import DataError, LabelError, XpnnError
from ..frames import cells, column_names, is_gap, numbers_of
from ..training.checks import check_range
from ._arguments import Arguments

__all__ = [
    "admitted",
    "codes_of",
    "dense",
    "fit_encoder",
    "fit_scaler",
    "float_name",
    "is_foreign",
    "read_inputs",
    "read_rows",
    "scaled",
    "targets_of",
    "weights_of",
]

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
    where = type(estimator).__name__
    X = admitted(X, where, encoded=estimator.categorical_features is not None)
    y = targets_of(y, where, numbers=numbers)
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
    weight = weights_of(sample_weight, where)
    if weight is not None:
        weight = np.asarray(to_numpy(_check_sample_weight(weight, like)), dtype=np.float64)
        check_range("fit", weight, weight > 0, estimator.dtype or float_name(like))
    return X, to_numpy(y), weight


def admitted(X: Any, where: str, *, encoded: bool = False) -> Any:
    """Return inputs for scikit-learn's own checks; refuse what they would take for numbers, and is none.

    Masked arrays would lose their masks there, and dates become numbers in whatever unit they have.  What is to be
    `encoded` may have gaps; the encoder looks at the rest.
    """
    names = column_names(X, where, "X")
    if names is not None:
        if encoded:
            return X
        for label, dtype in zip(names, X.dtypes, strict=True):
            if getattr(dtype, "kind", "O") not in "biuf":
                column = f"column {label!r} of X"
                numbers_of(cells(X[label], f"{where}: {column}"), where, column)
        return X
    if isinstance(X, np.ndarray | list | tuple) and not _plain(X):
        X = as_array(X, where, "X")
        if X.dtype.kind != "c":  # which scikit-learn refuses
            X = numbers_of(cells(X, f"{where}: X"), where, "X")
    return to_numpy(X) if library_of(type(X)) == "torch" and not is_foreign(X) else X


def _plain(X: Any) -> bool:
    """Whether scikit-learn reads it right: an array of numbers or text, or a list without masked rows."""
    if isinstance(X, np.ndarray):
        return type(X) is np.ndarray and X.dtype.kind not in "OmMV" and X.dtype.isbuiltin != 2
    return not any(isinstance(row, np.ma.MaskedArray) for row in X)


def targets_of(y: Any, where: str, *, numbers: bool) -> Any:
    """Return targets as a plain array, labels with all their digits; refuse gaps, and dates where numbers are due."""
    kind = getattr(getattr(y, "dtype", None), "kind", "")
    if y is None or scipy.sparse.issparse(y) or is_foreign(y) or kind == "c":  # which scikit-learn refuses
        return y
    column_names(y, where, "y")
    y = to_numpy(y) if library_of(type(y)) == "torch" else y
    try:
        host = np.asarray(y) if kind in ("m", "M") and not numbers else cells(y, f"{where}: y")
    except (ValueError, TypeError) as error:
        if isinstance(error, XpnnError):
            raise
        return y  # rows of different length: scikit-learn says which it takes
    read = numbers_of(host, where, "y")
    whole = not numbers and host.dtype.kind == "O" and read.dtype.kind == "f"
    if whole and all(isinstance(label, Integral) for label in host.ravel().tolist()):
        raise LabelError(
            f"{where}: expected whole numbers of at most 64 bits as labels in y, got larger ones. Pass them as text."
        )
    gaps = [i for i, value in enumerate(read.tolist()) if is_gap(value)] if read.dtype.kind == "O" else []
    if gaps:
        raise DataError(
            f"{where}: expected a target in every row of y, got {len(gaps)} missing, the first in row {gaps[0]}. "
            "Leave these rows out."
        )
    return read


def weights_of(sample_weight: Any, where: str) -> Any:
    """Return weights as numbers of some library, None if there are none; one number stands for all rows."""
    if sample_weight is None or isinstance(sample_weight, Number) or is_foreign(sample_weight):
        return sample_weight
    return to_numpy(as_real(sample_weight, where, "sample_weight", objects=True))


def codes_of(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the place of each label (n,) among the classes, whatever the dtypes of the two; -1 for none of them.

    NumPy would compare int64 with uint64, or with floats, as float64, in which large numbers meet.
    """
    labels, which = np.unique(y, return_inverse=True)
    place = {label: i for i, label in enumerate(classes.tolist())}
    codes = np.asarray([place.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    return codes[which.reshape(-1)]


def read_inputs(estimator: Arguments, X: Any) -> Any:
    """Check inputs of a fitted estimator; a frame with categories becomes a dict of columns."""
    X = admitted(X, type(estimator).__name__, encoded=hasattr(estimator, "encoder_"))
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
    return {name: cells(X[name], f"column {name!r}") for name in X.columns}


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
