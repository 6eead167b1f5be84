"""What training changes, at one moment: copied, put back, and compared to the last bit."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from .step import Training

__all__ = ["TrainState", "digest", "digest_of", "same_bits"]

# Optimizer states of more numbers than this, half a MiB in float32, are copied at an epoch's beginning only where its
# rows are so many that the copy costs a hundredth or two of their steps, and never those of more than 256 MiB.
_COPIED_ELEMENTS, _REPAID_ROWS, _MOST_ELEMENTS = 1 << 17, 1 << 12, 1 << 26


class TrainState:
    """What steps change, as it is now, so that they can be undone or repeated; `also` are other arrays that they write.

    `complete` tells whether the optimizer's state is part of it.  For an epoch of few `rows`, or a very large network,
    the copy would cost more than the case is worth that seldom comes: there an undone epoch leaves the optimizer as
    new, unless `whole` copies it all the same.
    """

    def __init__(self, training: Training, *, rows: int = 0, whole: bool = False, also: Sequence[Array] = ()) -> None:
        backend, optimizer, store = training.net.backend, training.optimizer, training.net.store
        self._store = store.snapshot()
        self._also = [(array, backend.copy(array, dtype=array.dtype)) for array in also]
        self._counts = optimizer.t, training.step, training.epoch
        self._read_later = training.grad_norm, training.penalty
        self._optimizer: dict[str, Array] | None = None  # as new
        elements = sum(math.prod(array.shape) for array in optimizer.state.values())
        # A small one also before the first step: it may have been set by hand.  And one replica that diverges must not
        # cost the others their state.
        most = _MOST_ELEMENTS if rows >= _REPAID_ROWS else _COPIED_ELEMENTS
        if whole or elements <= most or (optimizer.t > 0 and store.replicas):
            self._optimizer = {name: backend.copy(a) for name, a in optimizer.state.items()}
        self.complete = optimizer.t == 0 or self._optimizer is not None
        penalty = training.regularizer
        self._regularizer = None if penalty is None else {n: backend.copy(a) for n, a in penalty.state.items()}

    def restore(self, training: Training) -> None:
        """Put everything back."""
        training.net.store.restore(self._store)
        for array, before in self._also:
            array[...] = before
        for name, array in training.optimizer.state.items():
            array[...] = 0.0 if self._optimizer is None else self._optimizer[name]
        if training.regularizer is not None and self._regularizer is not None:
            vectors = {name: training.net.backend.copy(array) for name, array in self._regularizer.items()}
            training.regularizer.resume(training.net.store, vectors)
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
    return digest_of((training.step, optimizer.t), arrays)


def digest_of(facts: object, arrays: Iterable[Array]) -> bytes:
    """Return what tells apart facts by their `repr`, and arrays by any bit."""
    seen = hashlib.blake2b(repr(facts).encode())
    for array in arrays:
        seen.update(np.ascontiguousarray(to_numpy(array)).reshape(-1).view(np.uint8).data)
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
