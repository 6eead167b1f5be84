"""Tables of predictions that are already on the host: which class was taken for which, and what is read off that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import as_array
from ..errors import DataError, LabelError, OptionError, ShapeError
from .metric import ratio

__all__ = ["confusion_matrix", "most_confused", "per_class"]


def confusion_matrix(y_true: Any, y_pred: Any, *, n_classes: int | None = None) -> np.ndarray:
    """Count how often each class was taken for each.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,), integer
        Labels and predicted labels, from 0, on the host.
    n_classes : int, optional
        Number of classes; by default one more than the largest label seen.

    Returns
    -------
    numpy.ndarray of shape (n_classes, n_classes), int64
        Rows are true classes, columns predicted ones.

    Raises
    ------
    ShapeError
        If the two are not 1-D of equal length.
    LabelError
        If they hold anything but integers in [0, n_classes).

    Examples
    --------
    >>> confusion_matrix([0, 0, 1], [0, 1, 1])
    array([[1, 1],
           [0, 1]])
    """
    where = "confusion_matrix"
    true, predicted = (np.asarray(as_array(a, where, n)) for n, a in (("y_true", y_true), ("y_pred", y_pred)))
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ShapeError(
            f"confusion_matrix: expected y_true and y_pred of one shape (n,), got {true.shape} "
            f"and {predicted.shape}. Pass labels; argmax(axis=-1) turns rows of probabilities into labels."
        )
    if true.size == 0:
        return np.zeros((n_classes or 0, n_classes or 0), dtype=np.int64)
    for name, labels in (("y_true", true), ("y_pred", predicted)):
        if labels.dtype.kind not in "iub":
            raise LabelError(
                f"confusion_matrix: expected {name} to hold integer labels, got dtype {labels.dtype}. "
                "Encode the classes as 0, 1, 2, ... first, as numpy.unique(return_inverse=True) does."
            )
        limit = math.inf if n_classes is None else n_classes
        if labels.min() < 0 or labels.max() >= limit:
            raise LabelError(
                f"confusion_matrix: expected {name} in [0, {limit}), got labels from {labels.min()} "
                f"to {labels.max()}. Raise n_classes or recode the labels."
            )
    n = int(max(true.max(), predicted.max())) + 1 if n_classes is None else n_classes
    cells = true.astype(np.int64) * n + predicted.astype(np.int64)
    return np.bincount(cells, minlength=n * n).astype(np.int64).reshape(n, n)


def most_confused(matrix: Any, *, top: int = 5, class_names: Sequence[str] | None = None) -> list[tuple[Any, Any, int]]:
    """List the commonest mistakes.

    Parameters
    ----------
    matrix : array-like of shape (n_classes, n_classes), integer
        From `confusion_matrix`.
    top : int, default=5
        How many to list at most; pairs that never happened are left out.
    class_names : sequence of str, optional
        What to call the classes; their numbers by default.

    Returns
    -------
    list of (true, predicted, count)
        Commonest first; equal counts in the order of the classes.

    Raises
    ------
    ShapeError
        If `matrix` is not square.
    OptionError
        If `class_names` does not name every class, or `top` is negative.

    Examples
    --------
    >>> most_confused([[5, 1, 0], [0, 4, 2], [0, 0, 9]], class_names=["cat", "dog", "fox"])
    [('dog', 'fox', 2), ('cat', 'dog', 1)]
    """
    counts = _square(matrix, "most_confused")
    n = counts.shape[0]
    if class_names is not None and len(class_names) != n:
        raise OptionError(
            f"most_confused: expected {n} class_names, got {len(class_names)}. Name each class, in order."
        )
    if top < 0:
        raise OptionError(f"most_confused: expected top >= 0, got {top}. Choose how many pairs to list.")
    mistakes = np.where(np.eye(n, dtype=bool), 0, counts).ravel()
    order = np.argsort(-mistakes, kind="stable")[:top]
    names: Sequence[Any] = range(n) if class_names is None else class_names
    return [(names[int(c) // n], names[int(c) % n], int(mistakes[c])) for c in order if mistakes[c] > 0]


def per_class(matrix: Any) -> dict[str, np.ndarray]:
    r"""Precision, recall and F1 of every class.

    .. math:: P = \frac{TP}{TP + FP}, \quad R = \frac{TP}{TP + FN}, \quad F_1 = \frac{2\,TP}{2\,TP + FP + FN}

    Parameters
    ----------
    matrix : array-like of shape (n_classes, n_classes), integer
        From `confusion_matrix`.

    Returns
    -------
    dict
        ``"precision"``, ``"recall"``, ``"f1"`` (float64) and ``"support"`` (int64, true members), each of
        shape (n_classes,).  A ratio 0/0 is 0.

    Raises
    ------
    ShapeError
        If `matrix` is not square.

    Examples
    --------
    >>> per_class([[1, 1], [0, 2]])["recall"]
    array([0.5, 1. ])
    """
    counts = _square(matrix, "per_class")
    hits, predicted, support = np.diagonal(counts), counts.sum(axis=0), counts.sum(axis=1)
    return {
        "precision": ratio(hits, predicted, empty=0.0),
        "recall": ratio(hits, support, empty=0.0),
        "f1": ratio(2 * hits, predicted + support, empty=0.0),
        "support": support,
    }


def _square(matrix: Any, where: str) -> np.ndarray:
    counts = np.asarray(as_array(matrix, where, "matrix"))
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise ShapeError(
            f"{where}: expected a square matrix, got shape {counts.shape}. Make one with confusion_matrix."
        )
    if counts.dtype.kind not in "iu" or (counts < 0).any():
        raise DataError(
            f"{where}: expected counts, got {counts.dtype} values. Pass the matrix before any normalization."
        )
    return counts.astype(np.int64)
