"""Losses scaled as scikit-learn scales its own, so that loss curves and `alpha` mean the same."""

from __future__ import annotations

from .._typing import Array, Namespace
from ..losses import BinaryCrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError, Pinball, PoissonNLL

__all__ = ["HalfPoissonDeviance", "HalfSquaredError", "SummedBinaryCrossEntropy", "named_loss"]


class HalfSquaredError(MeanSquaredError):
    r"""Half the squared error, shown as the mean over outputs, followed as the sum.

    scikit-learn reports :math:`\frac{1}{2n} \sum_j (p_{ij} - y_{ij})^2` of `n` outputs but descends along
    :math:`p_{ij} - y_{ij}`, the gradient of the sum; so does this loss, and weights come out the same.

    Parameters
    ----------
    summed : bool, default=False
        Whether the value is the sum too, as a line search must have it.
    """

    def __init__(self, *, summed: bool = False) -> None:
        self.summed = summed

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        losses, d = super().rows(xp, pred, y)
        n_out = pred.shape[-1]
        losses *= 0.5 * n_out if self.summed else 0.5
        d *= 0.5 * n_out
        return losses, d


class HalfPoissonDeviance(PoissonNLL):
    r"""Half the Poisson deviance, summed over outputs: the likelihood with its constant :math:`y \log y - y`."""

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        losses, d = super().rows(xp, pred, y)
        n_out = pred.shape[-1]
        losses *= float(n_out)
        d *= float(n_out)
        tiny = float(xp.finfo(pred.dtype).smallest_normal)
        losses += xp.sum(y * xp.log(xp.maximum(y, tiny)) - y, axis=-1)
        return losses, d


class SummedBinaryCrossEntropy(BinaryCrossEntropy):
    """Binary cross-entropy summed over the outputs."""

    def __init__(self) -> None:
        super().__init__(multilabel=True)

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        losses, d = super().rows(xp, pred, y)
        n_out = pred.shape[-1]
        if n_out > 1:
            losses *= float(n_out)
            d *= float(n_out)
        return losses, d


def named_loss(name: str) -> Loss:
    """Return a regression loss by scikit-learn's name, or one of the further names."""
    table: dict[str, Loss] = {
        "squared_error": HalfSquaredError(),
        "poisson": HalfPoissonDeviance(),
        "absolute_error": MeanAbsoluteError(),
        "huber": Huber(),
        "pinball": Pinball((0.1, 0.5, 0.9)),
    }
    return table[name]
