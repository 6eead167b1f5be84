"""What training changes, at one moment: copied, put back, and compared to the last bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from .step import Training

__all__ = ["TrainState", "digest", "same_bits"]

# Optimizer states of more numbers than this are not copied at every epoch: half a MiB in float32.
_COPIED_ELEMENTS = 1 << 17


class TrainState:
    """What steps change, as it is now, so that they can be undone or repeated; `also` are other arrays that they write.

    `complete` tells whether the optimizer's state is part of it.  The state of a larger network would take more memory
    than its weights, for a case that seldom comes: there an undone epoch leaves the optimizer as new, unless `whole`
    copies it all the same.
    """

    def __init__(self, training: Training, *, whole: bool = False, also: Sequence[Array] = ()) -> None:
        backend, optimizer, store = training.net.backend, training.optimizer, training.net.store
        self._store = store.snapshot()
        self._also = [(array, backend.copy(array, dtype=array.dtype)) for array in also]
        self._counts = optimizer.t, training.step, training.epoch
        self._read_later = training.grad_norm, training.penalty
        self._optimizer: dict[str, Array] | None = None  # as new
        elements = sum(math.prod(array.shape) for array in optimizer.state.values())
        # A small one also before the first step: it may have been set by hand.  And one replica that diverges must not
        # cost the others their state.
        if whole or elements <= _COPIED_ELEMENTS or (optimizer.t > 0 and store.replicas):
            self._optimizer = {name: backend.copy(a) for name, a in optimizer.state.items()}
        self.complete = optimizer.t == 0 or self._optimizer is not None

    def restore(self, training: Training) -> None:
        """Put everything back."""
        training.net.store.restore(self._store)
        for array, before in self._also:
            array[...] = before
        for name, array in training.optimizer.state.items():
            array[...] = 0.0 if self._optimizer is None else self._optimizer[name]
        self.restore_counts(training)

    def restore_counts(self, training: Training) -> None:
        """Put back what Python counts and holds, and no array."""
        t, training.step, training.epoch = self._counts
        training.optimizer.t = t if self.complete else 0
        training.grad_norm, training.penalty = self._read_later


def digest(training: Training, tables: Sequence[Array] = ()) -> bytes:
    """Return what tells two states after some steps apart, by any bit; `tables` are those of the steps' tally.

    A copy of the state would take as much memory as the state.
    """
    store, optimizer = training.net.store, training.optimizer
    arrays = [store.values, store.grads, store.buffers, *optimizer.state.values(), *tables]
    arrays += [array for array in (training.grad_norm, training.penalty) if array is not None]
    seen = hashlib.blake2b(repr((training.step, optimizer.t)).encode())
    for array in arrays:
        seen.update(np.ascontiguousarray(to_numpy(array)).data)
    return seen.digest()


def same_bits(
    before: TrainState,
    training: Training,
    tables: Sequence[Array],
    *,
    eagerly: Callable[[], Training],
    recorded: Callable[[], None],
) -> bool:
    """Make the same steps eagerly and as recorded, and tell whether all that they leave is equal to the last bit.

    Both begin at `before`, the present state, and write losses and metrics to `tables`; `training` makes the recorded
    steps, and is left as they leave it.  `eagerly` makes the steps one by one and returns what made them, over the same
    memory.  What Python code would do anew in each step happens only once when it is recorded; here it is found out.
    """
    expected = digest(eagerly(), tables)
    before.restore(training)
    for array in (training.net.store.grads, *tables):
        array[...] = 0.0  # what a recording leaves out must not be found there
    recorded()
    return digest(training, tables) == expected
