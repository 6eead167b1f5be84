"""Probabilities that mean what they say: how far they are off on held-out rows, and the temperature that mends it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from .arguments import number
from .errors import OptionError, ShapeError
from .metrics.inputs import Floats, class_numbers, columns_of, finite, probabilities, row_weights

__all__ = ["CalibrationCurve", "calibration_curve", "expected_calibration_error", "fit_temperature"]

_RANGE = 100.0  # temperatures are looked for from one hundredth to a hundred
_MOST_STEPS = 60


def fit_temperature(logits: Any, y: Any, *, prior_rows: float = 50.0, sample_weight: Any = None) -> float:
    r"""Return the temperature by which logits should be divided, found on held-out rows [1]_.

    Probabilities become :math:`\mathrm{softmax}(z / T)`: answers stay, and are more or less sure.
    :math:`\beta = 1 / T` minimizes

    .. math:: \sum_i w_i\, H\bigl(y_i, \mathrm{softmax}(\beta z_i)\bigr)
              + m \cdot \tfrac{1}{n} \sum_i H\bigl(\mathrm{softmax}(z_i), \mathrm{softmax}(\beta z_i)\bigr)

    with the cross-entropy :math:`H(p, q) = -\sum_c p_c \log q_c`.  The second sum counts as `m` rows that come out just
    as the network says: few held-out rows change little, and where the classes are separated without an error, the
    network does not become infinitely sure.  Both sums are convex in :math:`\beta`, and the second is least at
    :math:`\beta = 1`; so on these rows the cross-entropy is never above that of :math:`T = 1`.

    Parameters
    ----------
    logits : array-like of shape (n, k), (n, 1) or (n,)
        Raw outputs of a network under cross-entropy, or logarithms of probabilities; a single column is the logit of
        the positive one of two classes.
    y : array-like of shape (n,)
        Classes as numbers of the columns.
    prior_rows : float, default=50.0
        The number of rows :math:`m`; >= 0.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows; they are brought to a mean of 1 over the rows whose weight is not 0: others do not count.

    Returns
    -------
    float
        Above 1 where the network is too sure, below where it is not sure enough; from 0.01 to 100.

    Raises
    ------
    ShapeError, DataError, LabelError, OptionError
        If the arrays do not belong together, logits are not finite, or `prior_rows` is negative.

    References
    ----------
    .. [1] Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", ICML 2017; without `prior_rows`.

    Examples
    --------
    Sure to 98 %, and right in three of four cases:

    >>> logits = np.tile([4.0, 0.0], (1000, 1))
    >>> y = np.arange(1000) % 4 == 0
    >>> T = fit_temperature(logits, y)
    >>> round(float(np.exp(4 / T) / (1 + np.exp(4 / T))), 2)
    0.76
    """
    where = "fit_temperature"
    z = finite(logits, where, "logits", ndims=(1, 2))
    z = z[:, None] if z.ndim == 1 else z
    z = np.concatenate([np.zeros_like(z), z], axis=1) if z.shape[1] == 1 else z
    codes = class_numbers(y, z.shape[1], where)
    if len(codes) != len(z):
        raise ShapeError(f"{where}: expected equally many rows, got {len(z)} of logits and {len(codes)} of y.")
    if isinstance(prior_rows, bool) or not 0.0 <= number(prior_rows) < float("inf"):
        raise OptionError(f"{where}: expected prior_rows >= 0, got {prior_rows!r}. Try 50.")
    weight = row_weights(sample_weight, len(z), where)
    counted = weight > 0.0
    z, codes, weight = z[counted], codes[counted], weight[counted]
    weight *= len(z) / weight.sum()
    z -= z.max(axis=1, keepdims=True)
    said = _softmax(z)
    # What logits should be on average: those of the true classes, and of the classes the network names.
    wanted = weight @ z[np.arange(len(z)), codes] + prior_rows * float((said * z).sum(axis=1).mean())
    each = weight + prior_rows / len(z)

    def slope(beta: float) -> tuple[float, float]:
        """First and second derivative of the objective."""
        p = _softmax(beta * z)
        mean = (p * z).sum(axis=1)
        return float(each @ mean - wanted), float(each @ ((p * np.square(z)).sum(axis=1) - np.square(mean)))

    low, high, beta = 1.0 / _RANGE, _RANGE, 1.0
    for _ in range(_MOST_STEPS):  # Newton's steps, within what is known to hold the minimum
        first, second = slope(beta)
        if first > 0.0:
            high = beta
        else:
            low = beta
        step = beta - first / second if second > 0.0 else low if first > 0.0 else high
        following = step if low < step < high else (low * high) ** 0.5
        if first == 0.0 or abs(following - beta) <= 1e-12 * beta:
            break
        beta = following
    return 1.0 / beta


def _softmax(z: Floats) -> Floats:
    e: Floats = np.exp(z - z.max(axis=1, keepdims=True))
    e /= e.sum(axis=1, keepdims=True)
    return e


class CalibrationCurve(NamedTuple):
    """What came true of what was said, bin by bin.

    Attributes
    ----------
    prob_true : array of shape (n_bins,)
        The share of rows that came true.
    prob_pred : array of shape (n_bins,)
        The mean probability that was said.
    counts : array of shape (n_bins,)
        How many rows there are, by their weights.
    """

    prob_true: Floats
    prob_pred: Floats
    counts: Floats


def calibration_curve(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 10,
    strategy: Literal["uniform", "quantile"] = "uniform",
    sample_weight: Any = None,
) -> CalibrationCurve:
    """Sort rows by the probability that was said, and count what came true (a reliability diagram) [1]_.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Of two classes labels, the greater of which is the positive one; of more the numbers of the columns.
    y_proba : array-like of shape (n,), (n, 2) or (n, k)
        Probabilities: of the positive class, or of all classes.  Of more than two it is looked at the answers: how
        probable each was said to be, and whether it was right.
    n_bins : int, default=10
        How many bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of equally many rows.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    CalibrationCurve
        Of the bins that hold rows.

    Raises
    ------
    ShapeError, DataError, LabelError, OptionError
        If the arrays do not belong together, or an option is out of its range.

    References
    ----------
    .. [1] DeGroot and Fienberg, "The comparison and evaluation of forecasters", The Statistician 32, 1983.

    Examples
    --------
    >>> curve = calibration_curve([0, 0, 1, 1], [0.1, 0.3, 0.3, 0.9], n_bins=2)
    >>> curve.prob_true.round(2).tolist(), curve.prob_pred.round(2).tolist(), curve.counts.tolist()
    ([0.33, 1.0], [0.23, 0.9], [3.0, 1.0])
    """
    where = "calibration_curve"
    if not isinstance(n_bins, int | np.integer) or isinstance(n_bins, bool) or n_bins < 1:
        raise OptionError(f"{where}: expected n_bins >= 1, got {n_bins!r}. Try 10.")
    if strategy not in ("uniform", "quantile"):
        raise OptionError(f"{where}: expected strategy 'uniform' or 'quantile', got {strategy!r}. Choose one.")
    proba = probabilities(y_proba, where)
    codes = columns_of(y_true, proba, where)
    answers = proba.argmax(axis=1) if proba.shape[1] > 2 else np.ones_like(codes)
    sure, true = proba[np.arange(len(codes)), answers], codes == answers
    weight = row_weights(sample_weight, len(sure), where)
    ends = np.linspace(0.0, 1.0, int(n_bins) + 1)
    edges = ends if strategy == "uniform" else np.quantile(sure, ends)
    part = np.searchsorted(edges[1:-1], sure)  # as scikit-learn: an edge belongs to the bin below it
    counts, said, came = (
        np.bincount(part, weights=w, minlength=n_bins).astype(np.float64)
        for w in (weight, weight * sure, weight * true)
    )
    held = counts > 0.0
    return CalibrationCurve(came[held] / counts[held], said[held] / counts[held], counts[held])


def expected_calibration_error(
    y_true: Any,
    y_proba: Any,
    *,
    n_bins: int = 15,
    strategy: Literal["uniform", "quantile"] = "uniform",
    sample_weight: Any = None,
) -> float:
    r"""Return how far, on average, what was said is from what came true [1]_.

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} \bigl| \mathrm{true}_b - \mathrm{said}_b \bigr|

    over the bins of `calibration_curve`, which has the parameters.

    Parameters
    ----------
    y_true : array-like of shape (n,)
        Labels.
    y_proba : array-like of shape (n,), (n, 2) or (n, k)
        Probabilities: of two classes of the positive one; of more it is looked at the answers.
    n_bins : int, default=15
        How many bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width, or of equally many rows.
    sample_weight : array-like of shape (n,), optional
        Weights of the rows.

    Returns
    -------
    float
        From 0 to 1.  Of few rows it is above 0 by chance alone.

    Raises
    ------
    ShapeError, DataError, LabelError, OptionError
        If the arrays do not belong together, or an option is out of its range.

    References
    ----------
    .. [1] Naeini, Cooper and Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.

    Examples
    --------
    >>> round(expected_calibration_error([0, 0, 1, 1], [0.1, 0.3, 0.3, 0.9], n_bins=2), 3)
    0.1
    """
    curve = calibration_curve(y_true, y_proba, n_bins=n_bins, strategy=strategy, sample_weight=sample_weight)
    return float(np.average(np.abs(curve.prob_true - curve.prob_pred), weights=curve.counts))
