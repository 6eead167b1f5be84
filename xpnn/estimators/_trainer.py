"""The training loop as scikit-learn's perceptrons mean it."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from ..schedules import Schedule
from ..training import Trainer
from ..training.feed import Feed
from ..training.step import Step
from ._rows import Shuffles

__all__ = ["SklearnTrainer"]


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
