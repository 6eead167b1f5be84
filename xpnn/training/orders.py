"""In which order an epoch takes the rows; the next is drawn while a device works."""

from __future__ import annotations

import numpy as np

from ..data.batching import epoch_order
from .step import Training

__all__ = ["Orders"]


class Orders:
    """The orders of a trainer's rows, by the number of the epoch: `xpnn.data.epoch_order`."""

    def __init__(self) -> None:
        self._ahead: tuple[tuple[int, int, int], np.ndarray] | None = None

    def of(self, n: int, seed: int, epoch: int) -> np.ndarray:
        """Return the order of an epoch, which may have been drawn already."""
        key, (ahead, self._ahead) = (n, seed, epoch), (self._ahead, None)
        return ahead[1] if ahead is not None and ahead[0] == key else epoch_order(n, seed, epoch)

    def draw_ahead(self, training: Training, n: int, seed: int, epochs: int) -> None:
        """Draw the order of the coming epoch, up to `epochs`, where a device has been given the steps of the present.

        The host has nothing else to do until they are made.  NumPy has made them.
        """
        coming = training.epoch + 1
        if training.net.backend.name != "numpy" and coming < epochs:
            self._ahead = (n, seed, coming), epoch_order(n, seed, coming)
