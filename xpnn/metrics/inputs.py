"""What scores of finished predictions take: true answers, answers, probabilities and weights, checked on the host."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..arguments import as_array, as_real, same_length
from ..errors import DataError, LabelError, ShapeError

__all__ = [
    "Floats",
    "Ints",
    "class_numbers",
    "columns_of",
    "finite",
    "label_pair",
    "positives",
    "probabilities",
    "row_weights",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


def finite(a: Any, where: str, name: str, *, ndims: tuple[int, ...] = (1,)) -> Floats:
    """Return real, finite numbers in float64, at least one row of them.

    Raises ShapeError for other numbers of axes, and DataError for no rows, NaN or infinity.
    """
    array = np.asarray(as_real(a, where, name), dtype=np.float64)
    if array.ndim not in ndims:
        shapes = " or ".join("(n,)" if n == 1 else "(n, k)" for n in ndims)
        raise ShapeError(
            f"{where}: expected {name} of shape {shapes}, got {array.shape}. Pass one row for each sample."
        )
    if len(array) == 0:
        raise DataError(f"{where}: expected at least one row in {name}, got none. Check the data.")
    if not np.isfinite(array).all():
        raise DataError(f"{where}: expected finite numbers in {name}, got NaN or infinity. Leave those rows out.")
    return array


def label_pair(y_true: Any, y_pred: Any, where: str) -> tuple[Ints, Ints, np.ndarray]:
    """Return the two as numbers of classes, and the sorted classes that are in either; labels are of any sort.

    Raises ShapeError unless both are 1-D of one length, and LabelError if they do not compare.
    """
    true, pred = (np.asarray(as_array(a, where, n)) for a, n in ((y_true, "y_true"), (y_pred, "y_pred")))
    if true.ndim != 1 or pred.ndim != 1:
        raise ShapeError(
            f"{where}: expected y_true and y_pred of shape (n,), got {true.shape} and {pred.shape}. "
            "Pass labels; argmax(axis=-1) turns rows of probabilities into labels."
        )
    if same_length(where, y_true=true, y_pred=pred) == 0:
        raise DataError(f"{where}: expected at least one row, got none. Check the data.")
    for name, labels in (("y_true", true), ("y_pred", pred)):
        if labels.dtype.kind == "f" and not (np.isfinite(labels) & (labels == np.floor(labels))).all():
            raise LabelError(f"{where}: expected labels in {name}, got fractions. Pass classes, not probabilities.")
    if (true.dtype.kind in "US") != (pred.dtype.kind in "US"):
        raise LabelError(
            f"{where}: expected labels of one sort, got {true.dtype} and {pred.dtype}. Encode both in the same way."
        )
    try:
        classes, codes = np.unique(np.concatenate([true, pred]), return_inverse=True)
    except TypeError:
        raise LabelError(
            f"{where}: expected labels that can be sorted, got objects of several sorts. Make them text, or numbers."
        ) from None
    codes = np.reshape(codes, -1).astype(np.int64)
    return codes[: len(true)], codes[len(true) :], classes


def positives(y_true: Any, where: str) -> npt.NDArray[np.bool_]:
    """Return which rows are of the positive class, the greater of two labels.

    Raises LabelError unless there are rows of two classes.
    """
    true = np.asarray(as_array(y_true, where, "y_true"))
    if true.ndim != 1:
        raise ShapeError(f"{where}: expected y_true of shape (n,), got {true.shape}. Pass one label for each row.")
    codes, _, classes = label_pair(true, true, where)
    if len(classes) != 2:
        raise LabelError(
            f"{where}: expected rows of two classes in y_true, got {len(classes)}. "
            "A ranking is only defined between the two; take other rows."
        )
    return np.asarray(codes == 1)


def class_numbers(y_true: Any, n_classes: int, where: str) -> Ints:
    """Return true classes as numbers from 0 to before `n_classes`.

    Raises ShapeError unless they are 1-D, and LabelError for anything else.
    """
    true = np.asarray(as_array(y_true, where, "y_true"))
    if true.ndim != 1:
        raise ShapeError(f"{where}: expected y_true of shape (n,), got {true.shape}. Pass one label for each row.")
    whole = true.dtype.kind in "iub" or (true.dtype.kind == "f" and bool((true == np.floor(true)).all()))
    if not whole or (true.size and not 0 <= true.min() <= true.max() < n_classes):
        raise LabelError(
            f"{where}: expected y_true to hold the numbers of the columns, 0 to {n_classes - 1}, got "
            f"{_seen(true)}. Encode the classes as 0, 1, 2, ... in the order of the columns."
        )
    return true.astype(np.int64)


def _seen(true: np.ndarray) -> str:
    return f"{true.min():g} to {true.max():g}" if true.dtype.kind in "iuf" and true.size else f"dtype {true.dtype}"


def probabilities(y_proba: Any, where: str) -> Floats:
    """Return probabilities as (n, k): those of one class, (n,) or (n, 1), become two columns.

    Raises DataError unless they lie in [0, 1] and those of a row add up to 1, to 1e-3.
    """
    proba = finite(y_proba, where, "y_proba", ndims=(1, 2))
    if proba.ndim == 1 or proba.shape[1] == 1:
        one = proba.reshape(-1)
        proba = np.stack([1.0 - one, one], axis=1)
    if proba.min() < 0.0 or proba.max() > 1.0:
        raise DataError(
            f"{where}: expected probabilities in [0, 1], got {proba.min():.4g} to {proba.max():.4g}. Pass what "
            "predict_proba returns, no logits."
        )
    sums = proba.sum(axis=1)
    if np.abs(sums - 1.0).max() > 1e-3:
        raise DataError(
            f"{where}: expected rows of probabilities that add up to 1, got sums from {sums.min():.4g} to "
            f"{sums.max():.4g}. Pass what predict_proba returns for classes that exclude each other."
        )
    return proba


def columns_of(y_true: Any, proba: Floats, where: str) -> Ints:
    """Return the columns of the true classes: of two, labels other than 0 and 1 are taken in their order.

    Raises ShapeError or LabelError if they do not go with the probabilities (n, k).
    """
    true, k = np.asarray(as_array(y_true, where, "y_true")), proba.shape[1]
    numbered = true.dtype.kind in "iub" and true.size and 0 <= true.min() <= true.max() < k
    codes = class_numbers(true, k, where) if k > 2 or numbered else positives(true, where).astype(np.int64)
    if len(codes) != len(proba):
        raise ShapeError(
            f"{where}: expected equally many rows, got {len(codes)} in y_true and {len(proba)} of probabilities. "
            "Pass them together."
        )
    return codes


def row_weights(sample_weight: Any, n: int, where: str) -> Floats:
    """Return the weights of `n` rows, ones where there are none.

    Raises ShapeError or DataError unless they are `n` numbers of at least 0, some of them above.
    """
    if sample_weight is None:
        return np.ones(n)
    weight = finite(sample_weight, where, "sample_weight")
    if weight.shape != (n,):
        raise ShapeError(f"{where}: expected sample_weight of shape ({n},), got {weight.shape}. One weight a row.")
    if weight.min() < 0.0 or not weight.sum() > 0.0:
        raise DataError(f"{where}: expected weights >= 0, some above, got {weight.min():.4g} at least. Check them.")
    return weight
