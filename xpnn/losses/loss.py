r"""What a loss is, and those of counts and of classes.

A loss takes what the last Linear layer returns ("logits") and owns the `link`: what those outputs mean to a
person, such as probabilities.  `value_and_grad` averages over the batch and over outputs, as PyTorch does by
default; with sample weights it is the weighted mean

.. math:: L = \frac{\sum_i w_i\, \ell_i}{\sum_i w_i}.

Shapes never broadcast: targets of shape ``(n,)`` against outputs ``(n, 1)`` are an error.  Values of targets
are checked once, on the host, by `check_targets`; inside a step nothing waits for the device.
"""

from __future__ import annotations

import copy
from typing import Any, Literal, Self

import numpy as np

from .._typing import Array, Namespace
from ..arguments import describe, flag, number
from ..backend import namespace, on_its_device, ops_of
from ..backend.interop import library_of
from ..contract import check_array, check_call, check_pair, foreign, what
from ..errors import DTypeError, LabelError, MissingMethodError, OptionError, ShapeError
from ..ops import Ops, Places
from ..recordable import Recordable, foreign_method
from ..special import sigmoid, softmax, softplus

__all__ = [
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Focal",
    "Hinge",
    "Loss",
    "PoissonNLL",
    "holds_rows",
    "over_outputs",
]


class Loss(Recordable):
    """What training makes small.

    A loss of one's own defines `rows`: the loss of each row and its gradient; the weighting is done here.

    Attributes
    ----------
    takes_labels : bool
        Whether integer class labels of shape (batch,) are targets of this loss.
    classifies : bool
        Whether outputs are scores of classes, so that accuracy makes sense.
    accuracy_rule : {"classes", "outputs"}
        Whether one output is right, or each answers for itself; see `xpnn.metrics.Accuracy`.
    links : tuple of str
        Names of layers that must not end a network under this loss, because `link` already applies them.
    """

    takes_labels: bool = False
    classifies: bool = False
    accuracy_rule: Literal["classes", "outputs"] = "classes"
    links: tuple[str, ...] = ()
    _ops: Ops | None = None
    _checked = False  # whether what `rows` returns was looked at

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        """Return each row's loss (..., batch) and ∂ℓᵢ/∂pred (..., batch, n_out), a fresh array."""
        raise MissingMethodError(
            f"{type(self).__name__}: expected a loss that says what a row costs, got none. Define rows(xp, pred, y)."
        )

    def checked_rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        """Return what `rows` does, of a class of somebody's own looked at, once for each object."""
        if self._checked:
            return self.rows(xp, pred, y)
        if not foreign(self):
            self._checked = True
            return self.rows(xp, pred, y)
        where = f"{type(self).__name__}.rows"
        check_call(self.rows, where, "xp", "pred", "y")
        returned = self.rows(xp, pred, y)
        check_pair(returned, where, "the losses of the rows and their gradient", "Return both: return losses, d.")
        losses, d = returned
        each = "Return one loss a row: the mean over rows is taken by xpnn."
        check_array(losses, where, "a loss for each row", tuple(pred.shape[:-1]), pred, hint=each)
        hint = "Return the gradient of each row's own loss to its outputs."
        check_array(d, where, "∂loss/∂pred", tuple(pred.shape), pred, hint=hint)
        if d is pred or d is y:
            raise OptionError(f"{where}: expected a new array as gradient, got its argument. Return a copy: d * 1.0.")
        self._checked = True
        return losses, d

    @on_its_device
    def link(self, pred: Array) -> Array:
        """Turn raw outputs (..., batch, n_out) into what is predicted; the identity by default."""
        return pred

    @on_its_device
    def decide(self, pred: Array) -> Array:
        """Turn raw outputs (..., batch, n_out) into answers: class numbers, or what `link` gives where there are none.

        Of several outputs under a loss that takes labels the largest is the class, (..., batch).  Else each output
        answers for itself, 1 where it is positive and 0 where not: (..., batch) of a single one, (..., batch, n_out)
        of independent labels.
        """
        if not self.classifies:
            return self.link(pred)
        xp = namespace(pred)
        if self.takes_labels and pred.shape[-1] > 1:
            return xp.argmax(pred, axis=-1)
        answers = xp.astype(pred > 0, xp.int64)
        return answers[..., 0] if pred.shape[-1] == 1 else answers

    def inverse_link(self, predictions: Array) -> Array:
        """Return raw outputs for which `link` gives these predictions; the identity by default."""
        return predictions

    def outputs(self, pred: Array) -> Array:
        """Return the raw outputs that metrics are to look at: those given, unless they are of several members."""
        return pred

    def n_outputs(self, n_out: int) -> int:
        """Return how many `outputs` has, of `n_out` raw ones."""
        return n_out

    def using(self, ops: Ops) -> Self:
        """Return a copy that computes with a backend's operations instead of the portable ones."""
        new = copy.copy(self)
        new._ops = ops
        return new

    def ops_for(self, pred: Array) -> Ops:
        """Return the operations for `pred`."""
        return ops_of(pred) if self._ops is None else self._ops

    @on_its_device
    def value_and_grad(self, pred: Array, y: Array, sample_weight: Array | None = None) -> tuple[Array, Array]:
        """Return the mean loss and its gradient to the raw outputs.

        Parameters
        ----------
        pred : array of shape (..., batch, n_out)
            Raw outputs of the network.
        y : array
            Integer labels of shape (batch,) where the loss takes them, else targets of shape
            (batch, n_out); leading replica axes may be absent.  Same library and device as `pred`.  Their
            values are not looked at here, where nothing waits for a device: `check_targets` does that.
        sample_weight : array of shape (batch,), optional
            Non-negative weights, floating, on the same device.

        Returns
        -------
        value : 0-d array, or of the shape of the replica axes
            The weighted mean.
        d_pred : array of shape (..., batch, n_out)
            Its gradient.

        Raises
        ------
        ShapeError, DTypeError
            If the shapes do not fit each other, or something is no array of the library of `pred`.
        """
        if type(y) is not type(pred) or not (sample_weight is None or type(sample_weight) is type(pred)):
            self._check_library(pred, y, sample_weight)
        self._check_shapes(tuple(pred.shape), tuple(y.shape))
        xp = namespace(pred)
        losses, d = self.checked_rows(xp, pred, y)
        if sample_weight is None:
            mean_factor = 1.0 / pred.shape[-2]
            d *= mean_factor
            return self.ops_for(pred).total(losses) * mean_factor, d
        if tuple(sample_weight.shape) != (pred.shape[-2],):
            raise ShapeError(
                f"{self}: expected sample_weight of shape ({pred.shape[-2]},), got {tuple(sample_weight.shape)}. "
                "Pass one weight a row."
            )
        # A batch in which every weight is 0 has loss 0, not nan.
        total = xp.maximum(xp.sum(sample_weight), float(xp.finfo(pred.dtype).smallest_normal))
        scale = 1.0 / total  # a factor, as above: so weights of one change no bit
        mean_weight = sample_weight * scale
        d *= mean_weight[:, None]
        losses *= sample_weight
        return self.ops_for(pred).total(losses) * scale, d

    def _check_library(self, pred: Array, y: Any, sample_weight: Any) -> None:
        """Raise DTypeError unless all are arrays of one library; weights may be left out."""
        own = library_of(type(pred))
        for name, given in {"y": y, "sample_weight": pred if sample_weight is None else sample_weight}.items():
            library = library_of(type(given))
            if not hasattr(given, "dtype") or (None not in (own, library) and own != library):
                raise DTypeError(
                    f"{self}: expected {name} as an array of the library of pred, {type(pred).__name__}, got "
                    f"{what(given)} of type {type(given).__name__}. Convert it: backend.asarray({name})."
                )

    def step_into(self, pred: Array, y: Array, sample_weight: Array | None, places: Places) -> Array | None:
        """Do what `value_and_grad` does by one operation, which assigns the loss and the hits to their `places`.

        Returns the gradient; None, as here, where there is no such operation, and then nothing was done.
        """
        return None

    def _check_shapes(self, pred: tuple[int, ...], y: tuple[int, ...]) -> None:
        if len(pred) < 2:
            raise ShapeError(f"{self}: expected outputs of shape (batch, n_out), got {pred}. Reshape to rows.")
        if self.takes_labels and len(y) == len(pred) - 1 and y == pred[-1 - len(y) : -1]:
            return
        if self.takes_labels and y == pred[-2:-1]:
            return
        wanted = (*pred[:-1], self._n_targets(pred[-1]))
        if y in (wanted, wanted[-2:]):
            return
        hint = ""
        if y == pred[-2:-1]:
            hint = " Broadcasting would compare every output with every target: use y.reshape(-1, 1)."
        elif self.takes_labels and y == (*pred[-2:-1], 1):
            hint = " Use y[:, 0] (or y.ravel())."
        elif len(y) == 2 and y[0] == pred[-2]:
            hint = f" Give the network an output for each of the {y[1]} columns, or pass the columns that are meant."
        labels = f" or integer labels ({pred[-2]},)" if self.takes_labels else ""
        raise ShapeError(f"{self}: expected targets of shape {wanted}{labels} for outputs {pred}, got {y}.{hint}")

    def _n_targets(self, n_out: int) -> int:
        """How many target columns go with `n_out` outputs."""
        return n_out

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        """Check host-side targets once, before training: shape, kind and range.

        Parameters
        ----------
        y : numpy.ndarray of shape (n,) or (n, n_targets)
            All targets.
        n_out : int
            Width of the network's output.

        Raises
        ------
        LabelError, ShapeError
            If they do not fit this loss.
        """
        self._check_shapes((len(y), n_out), y.shape)
        if y.dtype.kind not in "fiub":
            hint = "Encode labels first: classes, y = numpy.unique(y, return_inverse=True)."
            if y.dtype.kind == "c":
                hint = "Take the real part: y.real."
            raise DTypeError(f"{self}: expected numbers as targets, got dtype {y.dtype}. {hint}")
        if y.dtype.kind == "f" and not np.isfinite(y).all():
            place = np.argwhere(~np.isfinite(y))[0]
            at = f"row {place[0]}" + (f", column {place[1]}" if len(place) > 1 else "")
            raise LabelError(f"{self}: expected finite targets, got {y[tuple(place)]} in {at}. Drop or impute the row.")

    def __repr__(self) -> str:
        return describe(self)


def over_outputs(xp: Namespace, x: Array) -> Array:
    """Mean over the outputs, (..., batch, n_out) to (..., batch): of a single one a view, on NumPy far cheaper."""
    if x.shape[-1] == 1:
        return x[..., 0]
    total = xp.sum(x, axis=-1)
    total /= x.shape[-1]
    return total


def _log(p: Array) -> Array:
    """Logarithm of numbers >= 0, which is finite at 0."""
    xp = namespace(p)
    return xp.log(xp.maximum(p, float(xp.finfo(p.dtype).smallest_normal)))


# -- counts ---------------------------------------------------------------------------------------------------
class PoissonNLL(Loss):
    r"""Poisson likelihood of counts, for outputs that are log-rates.

    .. math:: \ell_i = \frac1n \sum_j \bigl(e^{z_{ij}} - y_{ij} z_{ij}\bigr), \qquad
              \frac{\partial \ell_i}{\partial z_{ij}} = \frac{e^{z_{ij}} - y_{ij}}{n}

    The constant :math:`\log y!` is left out.
    """

    links: tuple[str, ...] = ("Softplus",)

    @on_its_device
    def link(self, pred: Array) -> Array:
        """Return the rates, ``exp(pred)``."""
        return namespace(pred).exp(pred)

    @on_its_device
    def inverse_link(self, predictions: Array) -> Array:
        """Return ``log(rate)``, finite at 0."""
        return _log(predictions)

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        rate = xp.exp(pred)
        losses = over_outputs(xp, rate - y * pred)
        rate -= y
        rate *= 1.0 / pred.shape[-1]
        return losses, rate

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        super().check_targets(y, n_out)
        if (y < 0).any():
            raise LabelError(f"{self}: expected counts >= 0, got {y.min()}. Use MeanSquaredError for signed targets.")


# -- classification ---------------------------------------------------------------------------------------------
class BinaryCrossEntropy(Loss):
    r"""Cross-entropy of independent yes/no outputs, on logits.

    .. math:: \ell_i = \frac1n \sum_j \log(1 + e^{z_{ij}}) - y_{ij} z_{ij}, \qquad
              \frac{\partial \ell_i}{\partial z_{ij}} = \frac{\sigma(z_{ij}) - y_{ij}}{n}

    Targets are 0 and 1, or probabilities, of the shape of the outputs: one column for a binary problem, several
    for multi-label problems.

    Parameters
    ----------
    multilabel : bool, default=False
        Say True if rows that happen to hold exactly one 1 each are meant as independent labels; such targets
        are otherwise refused, because they usually are one-hot classes, which belong under `CrossEntropy`.

    Examples
    --------
    >>> import numpy as np
    >>> value, d = BinaryCrossEntropy().value_and_grad(np.asarray([[1.0]]), np.asarray([[1.0]]))
    >>> round(float(value), 4), round(float(d[0, 0]), 4)
    (0.3133, -0.2689)
    """

    classifies: bool = True
    accuracy_rule: Literal["classes", "outputs"] = "outputs"
    links: tuple[str, ...] = ("Sigmoid", "Softmax")

    def __init__(self, multilabel: bool = False) -> None:
        self.multilabel = flag(multilabel, "BinaryCrossEntropy", "multilabel")

    @on_its_device
    def link(self, pred: Array) -> Array:
        """Return the probabilities ``σ(pred)``."""
        return sigmoid(pred, xp=namespace(pred))

    @on_its_device
    def inverse_link(self, predictions: Array) -> Array:
        """Return ``log(p / (1 - p))``, finite for every p from 0 to 1."""
        return _log(predictions) - _log(1.0 - predictions)

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        losses = softplus(pred, xp=xp)
        losses -= y * pred
        d = sigmoid(pred, xp=xp)
        d -= y
        d *= 1.0 / pred.shape[-1]
        return over_outputs(xp, losses), d

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        super().check_targets(y, n_out)
        if y.min() < 0 or y.max() > 1:
            raise LabelError(
                f"{self}: expected targets between 0 and 1, found {y.min()}..{y.max()}. "
                "Map the two classes to 0 and 1, or use Hinge for -1 and +1."
            )
        if n_out > 1 and not self.multilabel and len(y) > 1:
            ones = (y == 1).sum(axis=-1)
            if (ones == 1).all() and ((y == 0).sum(axis=-1) == n_out - 1).all():
                raise LabelError(
                    f"{self}: every row of y holds exactly one 1: it looks one-hot, {n_out} classes of which one is "
                    "true. Use CrossEntropy, or BinaryCrossEntropy(multilabel=True) for independent labels."
                )


class _ClassLoss(Loss):
    """Common ground of losses over classes: integer labels, or rows of probabilities."""

    takes_labels: bool = True
    classifies: bool = True
    links: tuple[str, ...] = ("Softmax", "Sigmoid")

    @on_its_device
    def link(self, pred: Array) -> Array:
        """Return the class probabilities, softmax over the last axis."""
        return softmax(pred, xp=namespace(pred))

    @on_its_device
    def inverse_link(self, predictions: Array) -> Array:
        """Return ``log(p)``, finite for every p from 0 to 1."""
        return _log(predictions)

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        super().check_targets(y, n_out)
        if n_out < 2:
            raise ShapeError(
                f"{self}: expected at least 2 outputs, got {n_out}. End the network with one output for each class, "
                "or use BinaryCrossEntropy."
            )
        if y.ndim == 2:
            if y.min() < 0 or np.abs(y.sum(axis=-1) - 1).max() > 1e-3:
                raise LabelError(
                    f"{self}: expected rows of probabilities that sum to 1, got a row that sums to "
                    f"{y.sum(axis=-1)[np.abs(y.sum(axis=-1) - 1).argmax()]:g}. "
                    "Pass integer labels, or BinaryCrossEntropy for independent labels."
                )
            return
        check_labels(y, n_out, str(self))


def check_labels(y: np.ndarray, n_classes: int, where: str) -> None:
    """Raise LabelError unless `y` (n,) holds whole numbers in 0..n_classes-1; CuPy would wrap silently."""
    if y.dtype.kind == "f" and (y != np.floor(y)).any():
        raise LabelError(
            f"{where}: expected whole class numbers, got {y[y != np.floor(y)][0]}. "
            "For a continuous target use MeanSquaredError and y.reshape(-1, 1)."
        )
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= n_classes:
        hint = "y - 1" if low == 1 and high == n_classes else "numpy.unique(y, return_inverse=True)[1]"
        wider = f", or give the network {high + 1} outputs" if low >= 0 and high < 100_000 else ""
        raise LabelError(
            f"{where}: expected class numbers 0..{n_classes - 1} for {n_classes} outputs, found {low}..{high}. "
            f"Use {hint}{wider}."
        )


def holds_rows(xp: Namespace, y: Array, pred: Array) -> bool:
    """Whether `y` holds a row of numbers for each row of `pred`, rather than labels (..., batch).

    Decided by shape, without a look at the values; by dtype only for K replicas with K = batch = n_out.
    """
    shape = tuple(y.shape)
    if len(shape) < 2 or shape[-2:] != tuple(pred.shape[-2:]):
        return False
    return shape != tuple(pred.shape[:-1]) or not xp.isdtype(y.dtype, "integral")


class CrossEntropy(_ClassLoss):
    r"""Softmax cross-entropy on logits.

    .. math:: \ell_i = -\sum_j t_{ij} \log \mathrm{softmax}(z_i)_j, \qquad
              \frac{\partial \ell_i}{\partial z_{ij}} = \mathrm{softmax}(z_i)_j - t_{ij}

    where :math:`t` is the one-hot label, or the given row of probabilities, smoothed to
    :math:`(1 - \epsilon)\, t + \epsilon / C` [1]_.

    Parameters
    ----------
    label_smoothing : float, default=0.0
        The share :math:`\epsilon` spread evenly over the classes, in [0, 1).

    References
    ----------
    .. [1] Szegedy et al., "Rethinking the Inception architecture", CVPR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> logits = np.asarray([[2.0, 0.0, 0.0]])
    >>> value, d = CrossEntropy().value_and_grad(logits, np.asarray([0]))
    >>> round(float(value), 4), d.round(3).tolist()
    (0.2395, [[-0.213, 0.107, 0.107]])
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0 <= number(label_smoothing) < 1:
            raise OptionError(f"CrossEntropy: expected 0 <= label_smoothing < 1, got {label_smoothing!r}. Try 0.1.")
        self.label_smoothing = float(label_smoothing)

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        ops = self.ops_for(pred)
        labels = not holds_rows(xp, y, pred)
        if not self.label_smoothing:
            return ops.softmax_cross_entropy_labels(pred, y) if labels else ops.softmax_cross_entropy(pred, y)
        target = (ops.one_hot(y, pred) if labels else y) * (1.0 - self.label_smoothing)
        target += self.label_smoothing / pred.shape[-1]
        return ops.softmax_cross_entropy(pred, target)

    def step_into(self, pred: Array, y: Array, sample_weight: Array | None, places: Places) -> Array | None:
        if type(self) is not CrossEntropy or foreign_method(self, ("rows", "value_and_grad")):
            return None
        self._check_shapes(tuple(pred.shape), tuple(y.shape))
        return self.ops_for(pred).cross_entropy_step(pred, y, self.label_smoothing, sample_weight, places)


class Focal(_ClassLoss):
    r"""Focal loss: cross-entropy that fades for examples already right [1]_.

    With :math:`p` the probability of the true class:

    .. math:: \ell = -(1 - p)^\gamma \log p, \qquad
              \frac{\partial \ell}{\partial z_j} =
              \bigl[(1 - p)^\gamma - \gamma\, p\, (1 - p)^{\gamma - 1} \log p\bigr]\,
              (\mathrm{softmax}(z)_j - t_j)

    Parameters
    ----------
    gamma : float, default=2.0
        0 gives cross-entropy; else at least 1, where the gradient is bounded.

    References
    ----------
    .. [1] Lin, Goyal, Girshick, He and Dollár, "Focal loss for dense object detection", ICCV 2017; the softmax
       form, without class weights (`Trainer.fit` takes those).
    """

    def __init__(self, gamma: float = 2.0) -> None:
        if not (number(gamma) == 0 or 1 <= number(gamma) < float("inf")):
            raise OptionError(f"Focal: expected gamma of 0 or at least 1, got {gamma!r}. Try gamma=2.0.")
        self.gamma = float(gamma)

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        super().check_targets(y, n_out)
        if y.ndim != 1:
            raise LabelError(f"{self}: expected integer labels of shape (n,), got {y.shape}. Use y.argmax(axis=-1).")

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        ce, d = self.ops_for(pred).softmax_cross_entropy_labels(pred, y)
        if self.gamma == 0:
            return ce, d
        p = xp.exp(-ce)
        miss = -xp.expm1(-ce)  # 1 - p, accurate where p is near 1
        slope = miss ** (self.gamma - 1.0)
        factor = p * ce
        factor *= self.gamma
        factor += miss
        factor *= slope
        d *= factor[..., None]
        slope *= miss
        slope *= ce
        return slope, d


class Hinge(Loss):
    r"""Margin loss of support vector machines.

    Targets -1 and +1 of the shape of the outputs: :math:`\frac1n \sum_j \max(0, m - y_j z_j)`.  Integer labels
    (batch,) over C classes: :math:`\frac1C \sum_{j \ne y} \max(0, m - z_y + z_j)` [1]_, as PyTorch's
    ``MultiMarginLoss``.

    Parameters
    ----------
    margin : float, default=1.0
        The margin `m`.

    References
    ----------
    .. [1] Weston and Watkins, "Support vector machines for multi-class pattern recognition", ESANN 1999.
    """

    takes_labels: bool = True
    classifies: bool = True
    accuracy_rule: Literal["classes", "outputs"] = "outputs"
    links: tuple[str, ...] = ("Softmax", "Sigmoid")

    def __init__(self, margin: float = 1.0) -> None:
        if not 0 < number(margin) < float("inf"):
            raise OptionError(f"Hinge: expected margin > 0, got {margin!r}. Try margin=1.0.")
        self.margin = float(margin)

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        n_out = pred.shape[-1]
        if holds_rows(xp, y, pred):
            gap = self.margin - y * pred
            d = xp.astype(gap > 0, pred.dtype)
            d *= y
            d *= -1.0 / n_out
            return over_outputs(xp, xp.maximum(gap, 0.0)), d
        target = self.ops_for(pred).one_hot(y, pred)
        gap = pred - xp.sum(pred * target, axis=-1, keepdims=True)
        gap += self.margin
        gap *= 1.0 - target
        d = xp.astype(gap > 0, pred.dtype)
        d -= target * xp.sum(d, axis=-1, keepdims=True)
        d *= 1.0 / n_out
        return over_outputs(xp, xp.maximum(gap, 0.0)), d

    @on_its_device
    def decide(self, pred: Array) -> Array:
        """Return what the base says; of a single output -1 or +1, as its targets are."""
        answers = super().decide(pred)
        return answers if pred.shape[-1] > 1 else 2 * answers - 1

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        super().check_targets(y, n_out)
        if y.ndim == 1:
            check_labels(y, n_out, str(self))
        elif not np.isin(y, (-1, 1)).all():
            raise LabelError(f"{self}: expected targets -1 and +1, found {y.min()}..{y.max()}. Use 2 * y - 1.")
