"""How well scores order the rows of two classes: the areas under two curves, and the cut between the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from ..arguments import suggest
from ..errors import DataError, LabelError, OptionError, ShapeError
from .inputs import Floats, class_numbers, finite, positives, row_weights

__all__ = ["average_precision_score", "best_threshold", "roc_auc_score"]

Average = Literal["macro", "weighted"]


class _Cuts(NamedTuple):
    """What is above each distinct score, from the highest down: the scores, and the weights of true and false ones."""

    scores: Floats
    true: Floats
    false: Floats


def _cuts(positive: np.ndarray, scores: Floats, weight: Floats) -> _Cuts:
    order = np.argsort(-scores, kind="stable")
    scores, own = scores[order], positive[order]
    ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # equal scores are cut together
    true = np.cumsum(np.where(own, weight[order], 0.0))[ends]
    false = np.cumsum(np.where(own, 0.0, weight[order]))[ends]
    if not (true[-1] > 0.0 and false[-1] > 0.0):
        raise DataError("ranking: expected rows of both classes with a weight above 0, got one. Check sample_weight.")
    return _Cuts(scores[ends], true, false)


def _auc(positive: np.ndarray, scores: Floats, weight: Floats) -> float:
    cuts = _cuts(positive, scores, weight)
    hits, alarms = np.append(0.0, cuts.true / cuts.true[-1]), np.append(0.0, cuts.false / cuts.false[-1])
    return float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1])) / 2.0)


def _average_precision(positive: np.ndarray, scores: Floats, weight: Floats) -> float:
    cuts = _cuts(positive, scores, weight)
    above = cuts.true + cuts.false
    precision = cuts.true / np.where(above > 0.0, above, 1.0)  # the highest scores may be of rows of weight 0
    return float(np.sum(np.diff(np.append(0.0, cuts.true / cuts.true[-1])) * precision))


def _over_classes(
    where: str,
    one: Callable[[np.ndarray, Floats, Floats], float],
    y_true: Any,
    y_score: Any,
    sample_weight: Any,
    average: Average,
) -> float:
    """Return a score of two classes, or of each class against the others, averaged."""
    if average not in ("macro", "weighted"):
        raise OptionError(f"{where}: expected average to be 'macro' or 'weighted', got {average!r}. Choose one.")
    scores = finite(y_score, where, "y_score", ndims=(1, 2))
    if scores.ndim == 2 and scores.shape[1] <= 2:
        scores = scores[:, -1]
    weight = row_weights(sample_weight, len(scores), where)
    if scores.ndim == 1:
        positive = positives(y_true, where)
        _same_rows(where, positive, scores)
        return one(positive, scores, weight)
    codes = class_numbers(y_true, scores.shape[1], where)
    _same_rows(where, codes, scores)
    share = np.bincount(codes, weights=weight, minlength=scores.shape[1])
    if not (share > 0.0).all():
        missing = ", ".join(map(str, np.flatnonzero(share == 0.0)[:10]))
        raise LabelError(f"{where}: expected rows of each class, got none of {missing}. Take other rows.")
    each = [one(codes == k, scores[:, k], weight) for k in range(scores.shape[1])]
    return float(np.average(each, weights=share if average == "weighted" else None))


def _same_rows(where: str, true: np.ndarray, scores: np.ndarray) -> None:
    if len(true) != len(scores):
        raise ShapeError(
            f"{where}: expected equally many rows, got {len(true)} in y_true and {len(scores)} scores. "
            "Pass them together."
        )


def roc_auc_score(y_true: Any, y_score: Any, *, average: Average = "macro", sample_weight: Any = None) -> float:
    r"""Area under the receiver operating characteristic: how often a positive row scores above a negative one.

    .. math:: \mathrm{AUC} = \frac{1}{n_+ n_-} \sum_{i \in +} \sum_{j \in -}
              \bigl([s_i > s_j] + \tfrac{1}{2} [s_i = s_j]\bigr)

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.  Of two classes the greater label is the positive one; of more they are the numbers of the columns.
    y_score : array-like of shape (n,), (n, 2) or (n, k)
        Probabilities, or any scores that grow with them, of the positive class or of all.
    average : {"macro", "weighted"}, default="macro"
        Of more than two classes, each against all others: all count alike, or as many rows as they have.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From 0 to 1; 0.5 is chance.

    Raises
    ------
    ShapeError, DataError, LabelError, OptionError
        If the arrays do not belong together, a class has no rows, or `average` is something else.

    Notes
    -----
    Equal to scikit-learn's function; of several classes to its ``multi_class="ovr"``.

    References
    ----------
    .. [1] Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 27, 2006.

    Examples
    --------
    >>> roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    return _over_classes("roc_auc_score", _auc, y_true, y_score, sample_weight, average)


def average_precision_score(
    y_true: Any, y_score: Any, *, average: Average = "macro", sample_weight: Any = None
) -> float:
    r"""Precision at each cut between scores, averaged by what the cut adds to the recall.

    .. math:: \mathrm{AP} = \sum_k (R_k - R_{k-1})\, P_k

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.  Of two classes the greater label is the positive one; of more they are the numbers of the columns.
    y_score : array-like of shape (n,), (n, 2) or (n, k)
        Probabilities, or any scores that grow with them, of the positive class or of all.
    average : {"macro", "weighted"}, default="macro"
        Of more than two classes, each against all others: all count alike, or as many rows as they have.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From 0 to 1; chance is the share of positive rows.

    Raises
    ------
    ShapeError, DataError, LabelError, OptionError
        If the arrays do not belong together, a class has no rows, or `average` is something else.

    Notes
    -----
    Equal to scikit-learn's function.

    References
    ----------
    .. [1] Davis and Goadrich, "The relationship between precision-recall and ROC curves", ICML 2006.

    Examples
    --------
    >>> round(average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
    0.8333
    """
    return _over_classes("average_precision_score", _average_precision, y_true, y_score, sample_weight, average)


# -- the cut --------------------------------------------------------------------------------------------------------
def _accuracy(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return (tp + tn) / (tp + fp + fn + tn)


def _balanced(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return (tp / (tp + fn) + tn / (tn + fp)) / 2.0


def _f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return 2.0 * tp / (2.0 * tp + fp + fn)


def _macro_f1(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    return (_f1(tp, fp, fn, tn) + _f1(tn, fn, fp, tp)) / 2.0


def _matthews(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    under = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    return np.where(under > 0.0, (tp * tn - fp * fn) / np.sqrt(np.where(under > 0.0, under, 1.0)), 0.0)


_OF_CUTS: dict[str, Callable[[Floats, Floats, Floats, Floats], Floats]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced,
    "f1": _f1,
    "f1_macro": _macro_f1,
    "mcc": _matthews,
}
# Cuts that a function of one's own is tried on.
_TRIED = 500


def best_threshold(
    y_true: Any, y_proba: Any, metric: str | Callable[[Any, Any], float] = "f1", *, sample_weight: Any = None
) -> float:
    """Return the probability from which on a row should be called positive, for a metric to be highest.

    Use rows that were not trained on.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels of two classes, of which the greater one is positive.
    y_proba : array-like of shape (n,) or (n, 2)
        Probabilities of the positive class, or of both.
    metric : {"f1", "f1_macro", "accuracy", "balanced_accuracy", "mcc"} or callable, default="f1"
        What to make high.  A function is given 0/1 labels and 0/1 answers, and returns a number of which more is
        better; it is tried at up to 500 cuts.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows, for the named metrics; rows of weight 0 do not count.

    Returns
    -------
    float
        In (0, 1): halfway between two neighbouring probabilities, so rounding decides nothing.  Of equally good cuts
        the one nearest to 0.5, which is 0.5 itself where nothing is better.

    Raises
    ------
    ShapeError, DataError, LabelError, OptionError
        If the arrays do not belong together, there are not two classes, or the metric is not known.

    Examples
    --------
    >>> best_threshold([0, 0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.9])
    0.35
    """
    where = "best_threshold"
    scores = finite(y_proba, where, "y_proba", ndims=(1, 2))
    scores = scores[:, -1] if scores.ndim == 2 else scores
    if scores.min() < 0.0 or scores.max() > 1.0:
        raise DataError(
            f"{where}: expected probabilities in [0, 1], got {scores.min():.4g} to {scores.max():.4g}. "
            "Pass what predict_proba returns."
        )
    positive, weight = positives(y_true, where), row_weights(sample_weight, len(scores), where)
    _same_rows(where, positive, scores)
    counted = weight > 0.0
    positive, scores, weight = positive[counted], scores[counted], weight[counted]
    cuts = _cuts(positive, scores, weight)
    between = np.concatenate([[1.0], cuts.scores, [0.0]])
    places = (between[1:] + between[:-1]) / 2.0  # above all of them, between two neighbours, below all
    real = (places > 0.0) & (places < 1.0)  # a row of probability 1 is positive at any cut, and one of 0 at none
    if callable(metric):
        if sample_weight is not None:
            raise OptionError(
                f"{where}: expected no sample_weight beside a function, got both. Let the function weigh."
            )
        places = places[real]
        tried = np.unique(np.linspace(0, len(places) - 1, min(len(places), _TRIED)).round().astype(int))
        places = np.append(places[tried], 0.5)
        values = np.asarray([float(metric(positive.astype(int), (scores >= cut).astype(int))) for cut in places])
    elif metric in _OF_CUTS:
        tp, fp = np.append(0.0, cuts.true), np.append(0.0, cuts.false)
        above = int(np.sum(cuts.scores >= 0.5))  # distinct scores that a cut at 0.5 calls positive
        places = np.append(places[real], 0.5)
        tp, fp = np.append(tp[real], tp[above]), np.append(fp[real], fp[above])
        values = _OF_CUTS[metric](tp, fp, cuts.true[-1] - tp, cuts.false[-1] - fp)
    else:
        hint = suggest(metric, _OF_CUTS) if isinstance(metric, str) else "Choose one of these, or pass a function."
        raise OptionError(f"{where}: expected a metric among {', '.join(_OF_CUTS)}, got {metric!r}. {hint}")
    good = places[values >= values.max() - 1e-12]
    return float(good[np.argmin(np.abs(good - 0.5))])
