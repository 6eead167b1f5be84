"""What scikit-learn's perceptrons compute in their own way: losses, two rules, penalty and orders of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from .._typing import Array, Namespace
from ..backend import to_numpy
from ..losses import BinaryCrossEntropy, MeanSquaredError, PoissonNLL
from ..optim import Adam, Optimizer
from ..params import ParamStore
from ..schedules import Schedule
from ..training import Trainer
from ..training.feed import Feed
from ..training.step import Step
from ._rows import Shuffles

__all__ = [
    "HalfPoissonDeviance",
    "HalfSquaredError",
    "SklearnAdam",
    "SklearnSGD",
    "SklearnTrainer",
    "SummedBinaryCrossEntropy",
]


# -- losses scaled as scikit-learn scales its own, so that loss curves and `alpha` mean the same ------------------
class HalfSquaredError(MeanSquaredError):
    r"""Half the squared error, shown as the mean over outputs, followed as the sum.

    scikit-learn reports :math:`\frac{1}{2n} \sum_j (p_{ij} - y_{ij})^2` of `n` outputs but descends along
    :math:`p_{ij} - y_{ij}`, the gradient of the sum; so does this loss, and weights come out the same.  `summed` makes
    the value the sum too, as a line search must have it.
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


# -- rules: they differ from PyTorch's in where the learning rate and ε stand ---------------------------------------
class SklearnSGD(Optimizer):
    r"""Momentum that carries its learning rate along.

    .. math:: v \leftarrow \mu v - \eta g, \qquad p \leftarrow p + v
              \quad\text{(Nesterov: } p \leftarrow p + \mu v - \eta g\text{)}

    Equal to `xpnn.SGD` while η is constant.
    """

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(self, lr: float, momentum: float, *, nesterov: bool) -> None:
        super().__init__(lr)
        self.momentum, self.nesterov = float(momentum), nesterov

    def rule(self, store: ParamStore, scalars: Sequence[Any]) -> None:
        (lr,) = scalars
        v = self.state["velocity"]
        v *= self.momentum
        move = store.grads * lr
        v -= move
        if self.nesterov:
            move *= -1.0
            move += v * self.momentum
            store.values += move
        else:
            store.values += v


class SklearnAdam(Adam):
    r"""Adam in the form of the paper's section 2: ε is added to :math:`\sqrt v` before the bias correction."""

    def scalars(self, t: int, lr: Any) -> tuple[Any, ...]:
        beta1, beta2, _, rate = super().scalars(t, lr)
        return beta1, beta2, self.eps / math.sqrt(1.0 - self.beta2), rate


# -- the training loop ----------------------------------------------------------------------------------------------
class SklearnTrainer(Trainer):
    """A trainer with scikit-learn's penalty and orders of rows, and with masks that belong to rows.

    The penalty is alpha/2 · Σ w² over the sample weight of the batch.
    """

    alpha = 0.0
    shuffles: Shuffles
    numbers: np.ndarray | None = None
    _train: Feed

    def run_epoch(
        self, train: Feed, valid: Feed | None, batch_size: int, schedule: Schedule, shuffle: bool
    ) -> dict[str, Any]:
        self._train, self._batch_size = train, batch_size
        return super().run_epoch(train, valid, batch_size, schedule, shuffle)

    def training_loss(self) -> float:
        """Return what training lowers, with the present weights: dropout off, of an ensemble the mean."""
        loss: float = self.evaluate_feed(self._train, self._batch_size)["loss"]
        if not self.alpha:
            return loss
        store, weights = self.net.store, self._train.batch_weights(None, self._batch_size)
        decayed = to_numpy(store.values[..., : store.n_decay]).astype(np.float64)
        with np.errstate(over="ignore"):  # weights about to diverge: a loss of inf is the lowest of none
            squares = (decayed**2).sum(axis=-1).mean()
        return loss + 0.5 * self.alpha * len(weights) / float(weights.sum()) * float(squares)

    def epoch_rows(self, n: int) -> np.ndarray:
        return self.shuffles.next(n)

    def row_numbers(self, order: np.ndarray | None) -> Array | None:
        if self.numbers is None:
            return None
        backend = self.net.backend
        return backend.asarray(self.numbers if order is None else self.numbers[order], dtype=backend.xp.int32)

    def penalty_strengths(self, weights: np.ndarray) -> list[float] | None:
        return None if self.regularizer is None else [0.5 * self.alpha / weight for weight in weights.tolist()]

    def gradients(self, x: Array, y: Array, weight: Array | None, step: Step) -> tuple[Array, Array]:
        value, pred = super().gradients(x, y, weight, step)
        return (value if self.regularizer is None else value + self.penalty), pred
