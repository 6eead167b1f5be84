"""The trial that a recording must pass before it makes a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..._typing import Array
from ..state import TrainState, digest
from ..step import Training

__all__ = ["same_bits"]


def same_bits(
    before: TrainState,
    training: Training,
    tables: Sequence[Array],
    *,
    eagerly: Callable[[], Training],
    recorded: Callable[[], None],
) -> bool:
    """Make the same steps eagerly and as recorded, and tell whether all that they leave is equal to the last bit.

    What Python code would do anew in each step happens only once when it is recorded; here it is found out.

    Parameters
    ----------
    before : TrainState
        From where both begin: the present state.
    training : Training
        Makes the recorded steps; it is left as they leave it.
    tables : sequence of arrays
        Where both write losses and metrics.
    eagerly : callable
        Makes the steps one by one; returns what made them, over the same memory.
    recorded : callable
        Makes them as recorded.
    """
    expected = digest(eagerly(), tables)
    before.restore(training)
    for array in (training.net.store.grads, *tables):
        array[...] = 0.0  # what a recording leaves out must not be found there
    recorded()
    return digest(training, tables) == expected
