"""Scores of finished predictions, by the names that scikit-learn gives them; and all of them by short names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from ..arguments import suggest
from ..errors import OptionError, ShapeError
from .inputs import Floats, columns_of, finite, label_pair, probabilities, row_weights
from .metric import ratio
from .ranking import average_precision_score, roc_auc_score

__all__ = [
    "Score",
    "accuracy_score",
    "balanced_accuracy_score",
    "brier_score_loss",
    "f1_score",
    "get_score",
    "log_loss",
    "matthews_corrcoef",
    "mean_absolute_error",
    "mean_squared_error",
    "r2_score",
    "root_mean_squared_error",
]


# -- of classes -----------------------------------------------------------------------------------------------------
def _table(y_true: Any, y_pred: Any, sample_weight: Any, where: str) -> tuple[Floats, np.ndarray]:
    """Return the weighted confusion matrix, true classes in rows, and the classes."""
    true, pred, classes = label_pair(y_true, y_pred, where)
    weight, n = row_weights(sample_weight, len(true), where), len(classes)
    counts: Floats = np.bincount(true * n + pred, weights=weight, minlength=n * n).astype(np.float64)
    return counts.reshape(n, n), classes


def accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Share of right answers.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Labels of any sort.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    ShapeError, DataError, LabelError
        If the arrays do not belong together.

    Examples
    --------
    >>> accuracy_score(["a", "b", "b"], ["a", "b", "a"], sample_weight=[1, 1, 2])
    0.5
    """
    table, _ = _table(y_true, y_pred, sample_weight, "accuracy_score")
    return float(np.trace(table) / table.sum())


def balanced_accuracy_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Mean of the classes' shares of right answers: a rare class counts as much as a common one.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Labels of any sort.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From 0 to 1; answering always the same gives 1 / number of classes.

    Raises
    ------
    ShapeError, DataError, LabelError
        If the arrays do not belong together.

    Examples
    --------
    >>> balanced_accuracy_score([0, 0, 0, 1], [0, 0, 0, 0])
    0.5
    """
    table, _ = _table(y_true, y_pred, sample_weight, "balanced_accuracy_score")
    support = table.sum(axis=1)
    return float(np.mean(np.diagonal(table)[support > 0.0] / support[support > 0.0]))


def f1_score(
    y_true: Any,
    y_pred: Any,
    *,
    average: Literal["binary", "macro", "weighted", "micro"] = "binary",
    pos_label: Any = None,
    sample_weight: Any = None,
) -> float:
    r"""Harmonic mean of precision and recall.

    .. math:: F_1 = \frac{2\,TP}{2\,TP + FP + FN}

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Labels of any sort.
    average : {"binary", "macro", "weighted", "micro"}, default="binary"
        Of the positive class alone; or over all classes, each alike, by its rows, or with all counts together.
    pos_label : label, optional
        The positive class of ``"binary"``; by default 1 where that is a class, else the greater of the two labels.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From 0 to 1; 0 where a class neither occurs nor is answered.

    Raises
    ------
    ShapeError, DataError, LabelError
        If the arrays do not belong together.
    OptionError
        If there are more than two classes under ``"binary"``, or `pos_label` is none of them.

    Examples
    --------
    >>> round(f1_score([0, 1, 1, 1], [0, 0, 1, 1]), 3), round(f1_score([0, 1, 2], [0, 2, 2], average="macro"), 3)
    (0.8, 0.556)
    """
    averages = ("binary", "macro", "weighted", "micro")
    if average not in averages:
        raise OptionError(f"f1_score: expected average among {', '.join(averages)}, got {average!r}. Choose one.")
    table, classes = _table(y_true, y_pred, sample_weight, "f1_score")
    hits, support = np.diagonal(table), table.sum(axis=1)
    total = table.sum(axis=0) + support
    if average == "micro":
        return float(2.0 * hits.sum() / total.sum())
    each = ratio(2.0 * hits, total, empty=0.0)
    if average == "binary":
        return float(each[place]) if (place := _positive(classes, pos_label)) is not None else 0.0
    return float(np.average(each, weights=support if average == "weighted" else None))


def _positive(classes: np.ndarray, pos_label: Any) -> int | None:
    """Return the place of the positive class among those of two that were seen; None if it was not."""
    known: list[Any] = classes.tolist()
    if len(known) > 2:
        raise OptionError(
            f"f1_score: expected two classes under average='binary', got {len(known)}. Pass average='macro'."
        )
    if pos_label is None:
        numeric = classes.dtype.kind in "iubf"
        pos_label = 1 if numeric and (1 in known or len(known) == 1) else known[-1]
    if pos_label in known:
        return known.index(pos_label)
    if len(known) == 2:
        raise OptionError(f"f1_score: expected pos_label to be one of {known}, got {pos_label!r}. Choose one of them.")
    return None


def matthews_corrcoef(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Correlation between true classes and answers, of any number of classes [1]_.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,)
        Labels of any sort.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From -1 to 1; 0 is chance, and where all answers, or all rows, are of one class.

    Raises
    ------
    ShapeError, DataError, LabelError
        If the arrays do not belong together.

    References
    ----------
    .. [1] Gorodkin, "Comparing two K-category assignments by a K-category correlation coefficient", Computational
       Biology and Chemistry 28, 2004.

    Examples
    --------
    >>> round(matthews_corrcoef([1, 1, 1, 0], [1, 0, 1, 1]), 3)
    -0.333
    """
    table, _ = _table(y_true, y_pred, sample_weight, "matthews_corrcoef")
    table = table / table.sum()  # products of four weights need not fit
    support, answered = table.sum(axis=1), table.sum(axis=0)
    under = (1.0 - answered @ answered) * (1.0 - support @ support)
    return float((np.trace(table) - answered @ support) / np.sqrt(under)) if under > 1e-30 else 0.0


def log_loss(y_true: Any, y_proba: Any, *, sample_weight: Any = None) -> float:
    r"""Mean cross-entropy of probabilities.

    .. math:: L = -\frac{\sum_i w_i \log p_{i, y_i}}{\sum_i w_i}

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Of two classes labels, the greater of which is the second column's; of more the numbers of the columns.
    y_proba : array-like of shape (n,), (n, 2) or (n, k)
        Probabilities of the positive class, or of all.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        In nats, at least 0.  Probabilities count as at least 2.2e-16, so a sure error costs 36.

    Raises
    ------
    ShapeError, DataError, LabelError
        If the arrays do not belong together, or are no probabilities.

    Examples
    --------
    >>> round(log_loss([1, 0], [0.9, 0.2]), 4)
    0.1643
    """
    where = "log_loss"
    proba = probabilities(y_proba, where)
    codes = columns_of(y_true, proba, where)
    eps = float(np.finfo(np.float64).eps)
    likely = np.clip(proba[np.arange(len(codes)), codes], eps, 1.0 - eps)
    return float(np.average(-np.log(likely), weights=row_weights(sample_weight, len(codes), where)))


def brier_score_loss(y_true: Any, y_proba: Any, *, sample_weight: Any = None) -> float:
    r"""Mean squared error of probabilities [1]_.

    .. math:: B = \frac{1}{2} \frac{\sum_i w_i \sum_c (p_{ic} - [c = y_i])^2}{\sum_i w_i}

    with the half for two classes only, where it is :math:`(p_i - y_i)^2`; as in scikit-learn.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Of two classes labels, the greater of which is the second column's; of more the numbers of the columns.
    y_proba : array-like of shape (n,), (n, 2) or (n, k)
        Probabilities of the positive class, or of all.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        At least 0; 0.25 is what always answering one half gives.

    Raises
    ------
    ShapeError, DataError, LabelError
        If the arrays do not belong together, or are no probabilities.

    References
    ----------
    .. [1] Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78, 1950.

    Examples
    --------
    >>> round(brier_score_loss([1, 0], [0.9, 0.2]), 4)
    0.025
    """
    where = "brier_score_loss"
    proba = probabilities(y_proba, where)
    codes = columns_of(y_true, proba, where)
    squares = np.square(proba - np.eye(proba.shape[1])[codes]).sum(axis=1)
    squares *= 0.5 if proba.shape[1] == 2 else 1.0
    return float(np.average(squares, weights=row_weights(sample_weight, len(codes), where)))


# -- of numbers -----------------------------------------------------------------------------------------------------
def _errors(y_true: Any, y_pred: Any, sample_weight: Any, where: str) -> tuple[Floats, Floats, Floats]:
    """Return true values and predictions as (n, k), and the weights of the rows."""
    pair = [finite(a, where, name, ndims=(1, 2)) for a, name in ((y_true, "y_true"), (y_pred, "y_pred"))]
    true, pred = (a[:, None] if a.ndim == 1 else a for a in pair)
    if true.shape != pred.shape:
        raise ShapeError(
            f"{where}: expected y_true and y_pred of one shape, got {pair[0].shape} and {pair[1].shape}. "
            "Pass one prediction for each target."
        )
    return true, pred, row_weights(sample_weight, len(true), where)


def mean_absolute_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Mean of the absolute errors, over rows and targets.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,) or (n, k)
        Numbers.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        In the units of the target.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not belong together, or hold NaN.

    Examples
    --------
    >>> mean_absolute_error([1.0, 2.0], [1.5, 4.0])
    1.25
    """
    true, pred, weight = _errors(y_true, y_pred, sample_weight, "mean_absolute_error")
    return float(np.average(np.abs(pred - true).mean(axis=1), weights=weight))


def mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Mean of the squared errors, over rows and targets.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,) or (n, k)
        Numbers.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        In the target's units, squared.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not belong together, or hold NaN.

    Examples
    --------
    >>> mean_squared_error([1.0, 2.0], [2.0, 4.0])
    2.5
    """
    true, pred, weight = _errors(y_true, y_pred, sample_weight, "mean_squared_error")
    return float(np.average(np.square(pred - true).mean(axis=1), weights=weight))


def root_mean_squared_error(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    """Root of the mean squared error; of several targets the mean of their roots.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,) or (n, k)
        Numbers.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        In the units of the target.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not belong together, or hold NaN.

    Examples
    --------
    >>> root_mean_squared_error([1.0, 2.0], [3.0, 4.0])
    2.0
    """
    true, pred, weight = _errors(y_true, y_pred, sample_weight, "root_mean_squared_error")
    return float(np.sqrt(np.average(np.square(pred - true), axis=0, weights=weight)).mean())


def r2_score(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    r"""Share of the target's variance that is explained; of several targets the mean of theirs.

    .. math:: R^2 = 1 - \frac{\sum_i w_i (y_i - \hat y_i)^2}{\sum_i w_i (y_i - \bar y)^2}

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n,) or (n, k)
        Numbers.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        At most 1; 0 is what always answering the mean gives.  A target without variance gives 1 if it is predicted
        exactly, else 0, as in scikit-learn.

    Raises
    ------
    ShapeError, DataError
        If the arrays do not belong together, or hold NaN.

    Examples
    --------
    >>> r2_score([1.0, 2.0, 3.0], [1.0, 2.0, 2.0])
    0.5
    """
    true, pred, weight = _errors(y_true, y_pred, sample_weight, "r2_score")
    error = weight @ np.square(pred - true)
    spread = weight @ np.square(true - np.average(true, axis=0, weights=weight))
    scores = 1.0 - ratio(error, spread)
    return float(np.where(spread == 0.0, np.where(error == 0.0, 1.0, 0.0), scores).mean())


# -- by name --------------------------------------------------------------------------------------------------------
class Score(NamedTuple):
    """A score, and how it is to be read.

    Attributes
    ----------
    name : str
        The name that `get_score` knows it by first.
    function : callable
        Of true answers and predictions; it takes ``sample_weight=``.
    mode : {"max", "min"}
        Whether large or small values are good.
    takes : {"labels", "probabilities", "values"}
        What the predictions are: classes, (n, k) probabilities, or numbers.
    """

    name: str
    function: Callable[..., float]
    mode: Literal["max", "min"]
    takes: Literal["labels", "probabilities", "values"]

    def __call__(self, y_true: Any, predictions: Any, *, sample_weight: Any = None) -> float:
        """Return the value."""
        return self.function(y_true, predictions, sample_weight=sample_weight)

    def gain(self, y_true: Any, predictions: Any, *, sample_weight: Any = None) -> float:
        """Return the value, or minus the value where small ones are good: more is better."""
        value = self(y_true, predictions, sample_weight=sample_weight)
        return value if self.mode == "max" else -value


def _macro_f1(y_true: Any, y_pred: Any, *, sample_weight: Any = None) -> float:
    return f1_score(y_true, y_pred, average="macro", sample_weight=sample_weight)


_SCORES = {
    score.name: score
    for score in (
        Score("accuracy", accuracy_score, "max", "labels"),
        Score("balanced_accuracy", balanced_accuracy_score, "max", "labels"),
        Score("f1", f1_score, "max", "labels"),
        Score("f1_macro", _macro_f1, "max", "labels"),
        Score("mcc", matthews_corrcoef, "max", "labels"),
        Score("auc", roc_auc_score, "max", "probabilities"),
        Score("ap", average_precision_score, "max", "probabilities"),
        Score("logloss", log_loss, "min", "probabilities"),
        Score("brier", brier_score_loss, "min", "probabilities"),
        Score("mae", mean_absolute_error, "min", "values"),
        Score("mse", mean_squared_error, "min", "values"),
        Score("rmse", root_mean_squared_error, "min", "values"),
        Score("r2", r2_score, "max", "values"),
    )
}
#: What else they are called: by scikit-learn, and in the history of a training.
_ALSO = {
    "roc_auc": "auc",
    "average_precision": "ap",
    "log_loss": "logloss",
    "cross_entropy": "logloss",
    "matthews_corrcoef": "mcc",
}


def get_score(name: str | Score, takes: str | None = None) -> Score:
    """Return a score by its short name.

    Parameters
    ----------
    name : str or Score
        "accuracy", "balanced_accuracy", "f1", "f1_macro", "mcc", "auc", "ap", "logloss" and "brier" of classes; "mae",
        "mse", "rmse" and "r2" of numbers; some also by scikit-learn's names, such as "roc_auc".
    takes : str, optional
        ``"classes"`` or ``"numbers"``: refuse scores of the others.

    Returns
    -------
    Score
        The function, with its direction and what it is given.

    Raises
    ------
    OptionError
        If there is none of that name, or it is of the other kind.

    Examples
    --------
    >>> auc = get_score("auc")
    >>> auc.mode, auc.takes, auc([0, 0, 1], [0.1, 0.6, 0.5])
    ('max', 'probabilities', 0.5)
    >>> get_score("rmse").gain([1.0], [3.0])
    -2.0
    """
    if isinstance(name, Score):
        return name
    kinds = {"classes": ("labels", "probabilities"), "numbers": ("values",)}
    fitting = [s.name for s in _SCORES.values() if takes is None or s.takes in kinds[takes]]
    known = _ALSO.get(name, name) if isinstance(name, str) else name
    if known not in fitting:
        of = "" if takes is None else f" of {takes}"
        raise OptionError(
            f"get_score: expected a score{of} among {', '.join(fitting)}, got {name!r}. {suggest(str(name), fitting)}"
        )
    return _SCORES[known]
