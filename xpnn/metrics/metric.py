r"""What a person reads beside the loss while a network is trained: accuracy, errors, explained variance.

A `Metric` is accumulated on the device and finished on the host.  For each batch `Metric.sums` returns a few
scalars that stay on the device; after the epoch they come over in one piece and `Metric.value` combines them
in float64.  So no batch waits for the host, and the value over an epoch is exact: it does not depend on how
the rows were split into batches.

Legend: `pred` is (..., batch, n_out), the raw outputs of the network; `...` are replica axes, `K` replicas in
all.  `y` is (batch,) integer labels, or (batch, n_out) targets, and may have the replica axes too.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from .._typing import Array, Namespace
from ..arguments import is_count, suggest
from ..errors import OptionError, ShapeError
from ..recordable import Recordable

__all__ = [
    "R2",
    "Accuracy",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Metric",
    "RootMeanSquaredError",
    "TopK",
    "get_metric",
    "mode_of",
    "ratio",
]

Mode = Literal["max", "min"]


class Metric(Recordable, abc.ABC):
    r"""Base of all metrics: a weighted mean over samples, unless a subclass says otherwise.

    A subclass for a mean :math:`\sum_i w_i m_i / \sum_i w_i` defines `name`, `mode` and `per_sample`; any
    other kind overrides `width`, `sums` and `value` too.

    Attributes
    ----------
    name : str
        The column of the history.
    mode : {"max", "min"}
        Whether large or small values are good.
    width : int
        How many sums a batch gives.
    """

    name: str
    mode: Mode
    width: int = 2

    def resolve(self, n_out: int) -> Metric:
        """Return the metric for a network of `n_out` outputs; the Trainer calls it before reading `width`."""
        return self

    @abc.abstractmethod
    def per_sample(self, xp: Namespace, pred: Array, y: Array) -> Array:
        """Return the metric of every row, an array of shape (..., batch) in the dtype of `pred`."""

    def sums(self, xp: Namespace, pred: Array, y: Array, sample_weight: Array | None) -> tuple[Array, ...]:
        """Reduce one batch, without reading anything back.

        Parameters
        ----------
        xp : namespace
            Array API namespace of the arrays.
        pred : array of shape (..., batch, n_out), float
            Raw outputs.
        y : array of shape (batch,) or (batch, n_out), replica axes allowed
            Targets, on the device of `pred`.
        sample_weight : array of shape (batch,) or None
            Weights of the rows; None: all 1.

        Returns
        -------
        tuple of `width` arrays of shape (...)
            The weight and the weighted sum of the batch.

        Raises
        ------
        ShapeError
            If `y` does not fit `pred`.
        """
        return _weighted_sum(xp, self.per_sample(xp, pred, y), sample_weight, axis=-1)

    def value(self, table: np.ndarray) -> Any:
        """Combine the sums of all batches.

        Parameters
        ----------
        table : array of shape (n_batches, width) or (n_batches, width, K), float64
            What `sums` returned, brought to the host.

        Returns
        -------
        float, or array of shape (K,)
            The metric; NaN where the total weight is zero.
        """
        table = np.asarray(table, dtype=np.float64)
        return _scalar(ratio(table[:, 1].sum(axis=0), table[:, 0].sum(axis=0)))


@dataclass(frozen=True)
class Accuracy(Metric):
    """Share of correct answers.

    Parameters
    ----------
    rule : {"auto", "classes", "outputs"}, default="auto"
        "classes": the largest output must be at the label (integer `y`), or at the largest target (rows of
        probabilities).  "outputs": each output answers a yes-or-no question by itself, yes where it is positive (a
        logit, or a margin), against ``y > 0.5`` (0/1 and -1/+1 targets both work); averaged over outputs.  "auto":
        "outputs" for a single output, otherwise "classes".  Integer labels of several outputs are classes under any
        rule.  A `Trainer` takes the rule from its loss.

    Notes
    -----
    Equal outputs count for the first of them.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> metric = Accuracy()
    >>> sums = metric.sums(xp, xp.asarray([[2.0, 1.0], [0.0, 3.0]]), xp.asarray([0, 0]), None)
    >>> metric.value(np.asarray([sums]))
    0.5
    """

    rule: Literal["auto", "classes", "outputs"] = "auto"
    name = "accuracy"
    mode = "max"

    def __post_init__(self) -> None:
        if self.rule not in ("auto", "classes", "outputs"):
            raise OptionError(
                f"Accuracy: expected rule 'auto', 'classes' or 'outputs', got {self.rule!r}. Choose one of the three."
            )

    def per_sample(self, xp: Namespace, pred: Array, y: Array) -> Array:
        """Return the score of every row, (..., batch)."""
        labels = _are_labels(xp, pred, y)
        if (self.rule == "outputs" and not labels) or (self.rule == "auto" and pred.shape[-1] == 1):
            hits = (pred > 0) == (_targets(xp, pred, y, self.name) > 0.5)
            return xp.mean(xp.astype(hits, pred.dtype), axis=-1)
        best = xp.argmax(pred, axis=-1)
        truth = xp.astype(y, best.dtype, copy=False) if labels else xp.argmax(_targets(xp, pred, y, self.name), axis=-1)
        return xp.astype(best == truth, pred.dtype)


@dataclass(frozen=True)
class TopK(Metric):
    """Share of rows whose label is among the `k` largest outputs.

    Parameters
    ----------
    k : int, default=5
        How many guesses count; >= 1.

    Notes
    -----
    A row is a hit if at least ``n_out - k`` outputs are strictly below the label's: a tie at the edge is a
    miss.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> metric = TopK(2)
    >>> sums = metric.sums(xp, xp.asarray([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), xp.asarray([1, 2]), None)
    >>> metric.name, metric.value(np.asarray([sums]))
    ('top2', 0.5)
    """

    k: int = 5
    name: str = field(init=False, repr=False)
    mode = "max"

    def __post_init__(self) -> None:
        if not is_count(self.k):
            raise OptionError(f"TopK: expected k to be an integer >= 1, got {self.k!r}. Choose a number of guesses.")
        object.__setattr__(self, "k", int(self.k))
        object.__setattr__(self, "name", f"top{self.k}")

    def per_sample(self, xp: Namespace, pred: Array, y: Array) -> Array:
        """Return 1 or 0 for every row, (..., batch)."""
        if not _are_labels(xp, pred, y):
            raise ShapeError(
                f"{self.name}: expected integer labels of shape (batch,) for outputs of shape {pred.shape}, "
                f"got {y.dtype} of shape {y.shape}. Pass labels, or use the metric 'accuracy'."
            )
        index = xp.broadcast_to(xp.astype(y, xp.int64, copy=False), pred.shape[:-1])
        own = xp.take_along_axis(pred, xp.expand_dims(index, axis=-1), axis=-1)
        below = xp.sum(xp.astype(pred < own, pred.dtype), axis=-1)
        return xp.astype(below >= pred.shape[-1] - self.k, pred.dtype)


@dataclass(frozen=True)
class MeanSquaredError(Metric):
    r"""Mean of :math:`(\hat y - y)^2` over rows and outputs.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> metric = MeanSquaredError()
    >>> metric.value(np.asarray([metric.sums(xp, xp.asarray([[1.0], [3.0]]), xp.asarray([1.0, 1.0]), None)]))
    2.0
    """

    name = "mse"
    mode = "min"

    def per_sample(self, xp: Namespace, pred: Array, y: Array) -> Array:
        """Return the mean squared error of every row, (..., batch)."""
        error = pred - _targets(xp, pred, y, self.name)
        return xp.mean(error * error, axis=-1)


@dataclass(frozen=True)
class RootMeanSquaredError(MeanSquaredError):
    """Square root of `MeanSquaredError` over the whole epoch, in the units of the target.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> metric = RootMeanSquaredError()
    >>> metric.value(np.asarray([metric.sums(xp, xp.asarray([[3.0], [3.0]]), xp.asarray([1.0, 1.0]), None)]))
    2.0
    """

    name = "rmse"

    def value(self, table: np.ndarray) -> Any:
        """Combine the sums of all batches, then take the root."""
        return _scalar(np.sqrt(super().value(table)))


@dataclass(frozen=True)
class MeanAbsoluteError(Metric):
    r"""Mean of :math:`|\hat y - y|` over rows and outputs.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> metric = MeanAbsoluteError()
    >>> metric.value(np.asarray([metric.sums(xp, xp.asarray([[1.0], [4.0]]), xp.asarray([1.0, 1.0]), None)]))
    1.5
    """

    name = "mae"
    mode = "min"

    def per_sample(self, xp: Namespace, pred: Array, y: Array) -> Array:
        """Return the mean absolute error of every row, (..., batch)."""
        return xp.mean(xp.abs(pred - _targets(xp, pred, y, self.name)), axis=-1)


@dataclass(frozen=True)
class R2(Metric):
    r"""Coefficient of determination, the unweighted mean over outputs.

    .. math:: R^2 = 1 - \frac{\sum_i w_i (y_i - \hat y_i)^2}{\sum_i w_i (y_i - \bar y)^2}

    Each batch gives its weight, and for every output the mean, the sum of squares about that mean and the sum
    of squared errors; the variances are combined by the parallel rule of Chan et al. [1]_, so the value is
    that of all rows at once.

    Parameters
    ----------
    n_out : int, default=1
        Number of outputs, which sets `width`; `resolve` fills it in.

    Notes
    -----
    A target without any variance gives 1 if predicted exactly, else 0, as in scikit-learn.

    References
    ----------
    .. [1] Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample
       variances", COMPSTAT 1982.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> metric = R2()
    >>> pred, y = xp.asarray([[1.0], [2.0], [2.0]]), xp.asarray([1.0, 2.0, 3.0])
    >>> metric.value(np.asarray([metric.sums(xp, pred, y, None)]))
    0.5
    """

    n_out: int = 1
    width: int = field(init=False, repr=False)
    name = "r2"
    mode = "max"

    def __post_init__(self) -> None:
        if not is_count(self.n_out):
            raise OptionError(f"R2: expected n_out to be an integer >= 1, got {self.n_out!r}. Pass the output width.")
        object.__setattr__(self, "n_out", int(self.n_out))
        object.__setattr__(self, "width", 1 + 3 * self.n_out)

    def resolve(self, n_out: int) -> Metric:
        """Return the metric for `n_out` outputs."""
        return R2(n_out)

    def per_sample(self, xp: Namespace, pred: Array, y: Array) -> Array:
        """Return the mean squared error of every row, (..., batch): R2 itself is no mean over rows."""
        return MeanSquaredError().per_sample(xp, pred, y)

    def sums(self, xp: Namespace, pred: Array, y: Array, sample_weight: Array | None) -> tuple[Array, ...]:
        """Return the weight, then per output the mean, the squares about it and the squared errors."""
        if pred.shape[-1] != self.n_out:
            raise ShapeError(
                f"r2: expected {self.n_out} outputs, got pred of shape {pred.shape}. "
                f"Use R2(n_out={pred.shape[-1]}), or call resolve(n_out) first."
            )
        y = _targets(xp, pred, y, self.name)
        error = pred - y
        # about the first row, not about zero: a large offset would drown the variance in rounding
        first = y[..., 0:1, :]
        y = xp.broadcast_to(y - first, pred.shape)
        if sample_weight is not None:
            sample_weight = xp.expand_dims(sample_weight, axis=-1)
        weight, total = _weighted_sum(xp, y, sample_weight, axis=-2)
        mean = total / xp.maximum(weight, 1e-30)  # a batch of zero weight has mean 0, not NaN
        centered = y - xp.expand_dims(mean, axis=-2)
        _, scatter = _weighted_sum(xp, centered * centered, sample_weight, axis=-2)
        _, squared = _weighted_sum(xp, error * error, sample_weight, axis=-2)
        mean = mean + first[..., 0, :]
        columns = [a[..., j] for j in range(self.n_out) for a in (mean, scatter, squared)]
        return (weight[..., 0], *columns)

    def value(self, table: np.ndarray) -> Any:
        """Combine the batches and average over the outputs."""
        table = np.asarray(table, dtype=np.float64)
        weight = table[:, 0]  # (n_batches,) or (n_batches, K)
        total = weight.sum(axis=0)
        scores = []
        for j in range(self.n_out):
            mean, scatter, squared = (table[:, 1 + 3 * j + i] for i in range(3))
            mean = mean - mean[0]  # the same shift for all batches: a constant target stays exactly constant
            overall = ratio((weight * mean).sum(axis=0), total)
            spread = scatter.sum(axis=0) + (weight * (mean - overall) ** 2).sum(axis=0)
            error = squared.sum(axis=0)
            score = 1.0 - ratio(error, spread)
            scores.append(np.where(spread == 0, np.where(error == 0, 1.0, 0.0), score))
        return _scalar(np.where(total == 0, math.nan, np.mean(scores, axis=0)))


_BY_NAME: dict[str, Metric] = {
    metric.name: metric
    for metric in (Accuracy(), TopK(5), MeanSquaredError(), RootMeanSquaredError(), MeanAbsoluteError(), R2())
}


def get_metric(spec: str | Metric | type[Metric]) -> Metric:
    """Return a metric by name, class or as it is.

    Parameters
    ----------
    spec : str, Metric or class
        "accuracy", "top5", "mse", "rmse", "mae" or "r2"; a class, which is made with its defaults; or an
        object, which is returned.

    Returns
    -------
    Metric
        The object.

    Raises
    ------
    OptionError
        If the name is unknown or `spec` is something else.

    Examples
    --------
    >>> get_metric("accuracy")
    Accuracy(rule='auto')
    >>> get_metric(TopK(3)).name
    'top3'
    """
    if isinstance(spec, Metric):
        if not isinstance(getattr(spec, "name", None), str):
            raise OptionError(
                f"{type(spec).__name__}: expected a metric with a name, the column of the history, got none. "
                "Write name = '...' and mode = 'min' or 'max' in the class."
            )
        return spec
    if isinstance(spec, type) and issubclass(spec, Metric):
        return spec()
    if not isinstance(spec, str):
        raise OptionError(
            f"get_metric: expected a name or a metric, got {type(spec).__name__}. "
            "Pass a name such as 'accuracy' or an object such as Accuracy()."
        )
    if spec not in _BY_NAME:
        hint = suggest(spec, _BY_NAME, otherwise="Choose one of these names, or pass a Metric object.")
        raise OptionError(f"get_metric: expected one of {', '.join(_BY_NAME)}, got {spec!r}. {hint}")
    return _BY_NAME[spec]


def mode_of(column: str) -> Mode:
    """Return whether large or small values of a history column are good.

    Parameters
    ----------
    column : str
        ``"loss"`` or the name of a metric of this module, with or without ``"val_"``.

    Returns
    -------
    {"max", "min"}
        The direction of progress.

    Raises
    ------
    OptionError
        If the column is not known here.

    Examples
    --------
    >>> mode_of("val_loss"), mode_of("val_accuracy")
    ('min', 'max')
    """
    name = column.removeprefix("val_") if isinstance(column, str) else column
    if name == "loss":
        return "min"
    if name in _BY_NAME:
        return _BY_NAME[name].mode
    raise OptionError(
        f"monitor: expected loss or one of {', '.join(_BY_NAME)}, with or without val_, got {column!r}. "
        "For another column pass mode='min' or mode='max'."
    )


# -- pieces -------------------------------------------------------------------------------------------------
def _are_labels(xp: Namespace, pred: Array, y: Array) -> bool:
    """Whether `y` holds one class index per row of `pred`."""
    return bool(
        xp.isdtype(y.dtype, ("integral", "bool"))
        and (y.ndim == 1 or y.shape == pred.shape[:-1])
        and y.shape[-1] == pred.shape[-2]
    )


def _targets(xp: Namespace, pred: Array, y: Array, where: str) -> Array:
    """Return `y` in the dtype of `pred`, (..., batch, n_out); a single output may leave its axis out."""
    batch, n_out = pred.shape[-2:]
    if y.ndim < 2 or y.shape[-2:] != (batch, n_out):
        if n_out != 1 or y.ndim < 1 or y.shape[-1] != batch:
            raise ShapeError(
                f"{where}: expected targets of shape ({batch}, {n_out}) for outputs "
                f"of shape {tuple(pred.shape)}, got {tuple(y.shape)}. "
                "Reshape the targets, or choose a metric that fits them."
            )
        y = xp.expand_dims(y, axis=-1)
    return xp.astype(y, pred.dtype, copy=False)


def _weighted_sum(xp: Namespace, values: Array, weight: Array | None, *, axis: int) -> tuple[Array, Array]:
    """Return Σ w and Σ w v along an axis, both without it; `weight` broadcasts against `values`."""
    if weight is None:
        total = xp.sum(values, axis=axis)
        return xp.full_like(total, float(values.shape[axis])), total
    weight = xp.astype(weight, values.dtype, copy=False)
    total = xp.sum(values * weight, axis=axis)
    return xp.broadcast_to(xp.sum(weight, axis=axis), total.shape), total


def ratio(a: np.ndarray, b: np.ndarray, empty: float = math.nan) -> np.ndarray:
    """Return a / b, and `empty` where b is zero."""
    zero = b == 0
    return np.where(zero, empty, a / np.where(zero, 1, b))


def _scalar(x: np.ndarray) -> Any:
    """A Python float for a single network, an array for replicas."""
    return float(x) if np.ndim(x) == 0 else x
