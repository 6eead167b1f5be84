"""What a trained network shows of itself: a few plain numbers, for a diagnosis to judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from ..layers import Layer, ReLU, Residual, Sigmoid, Tanh
from ..model import Sequential

__all__ = ["Look", "look_at"]


class Look(NamedTuple):
    """Plain numbers of a network, so that they can be kept without it.

    Attributes
    ----------
    n_out : int
        Its outputs.
    gradients, weights : dict of str to float
        Root mean square of each weight matrix and of its last gradient, in the order of the layers.
    idle : list of (str, str, float)
        Label of each activation layer, what its idle units are called (``"dead units"``, ``"saturated units"``), and
        their share.  This and what follows is empty, or zero, where no rows were given.
    rows : int
        Rows looked at.
    spread, size : float
        Largest standard deviation of an output over the rows, and the largest output.
    answers : list of int
        How many rows are given each class: by the largest output, or of one output by its sign.
    """

    n_out: int
    gradients: dict[str, float]
    weights: dict[str, float]
    idle: list[tuple[str, str, float]]
    rows: int
    spread: float
    size: float
    answers: list[int]


def look_at(net: Sequential, X: Any = None) -> Look:
    """Read the gradients of a network's last step, and what its layers make of some rows."""
    gradients = {name: _root_mean_square(net.grads[name]) for name in net.store.matrices()}
    weights = {name: _root_mean_square(net.params[name]) for name in gradients}
    if X is None:
        return Look(net.n_out, gradients, weights, [], 0, 0.0, 0.0, [])
    idle: list[tuple[str, str, float]] = []
    x = net.backend.asarray(X, dtype=net.backend.index_dtype if net.takes_integers else None)
    for layer, y in _walk(net.layers, x):
        values = to_numpy(y)
        rows = values.reshape(-1, values.shape[-1])
        idle += [(layer.label, *found) for found in _idle_units(layer, rows)]
    guess = (rows[:, 0] > 0).astype(int) if net.n_out == 1 else rows.argmax(axis=-1)
    answers = np.bincount(guess, minlength=max(net.n_out, 2)).tolist()
    spread, size = float(rows.std(axis=0).max()), float(np.abs(rows).max())
    return Look(net.n_out, gradients, weights, idle, len(rows), spread, size, answers)


def _root_mean_square(array: Any) -> float:
    return float(np.sqrt(np.mean(np.square(to_numpy(array).astype(np.float64)))))


def _walk(layers: Sequence[Layer], x: Array) -> Iterator[tuple[Layer, Array]]:
    """Yield every layer with its output, those inside a Residual before it; the network's own comes last."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from _walk(layer.layers, x)
        x, _ = layer.forward(x)
        yield layer, x


def _idle_units(layer: Layer, rows: np.ndarray) -> Iterator[tuple[str, float]]:
    """Yield what idle units of an activation layer are called, and which share of them do nothing on these rows."""
    if isinstance(layer, ReLU):
        yield "dead units", float((rows <= 0).all(axis=0).mean())
    elif isinstance(layer, Sigmoid | Tanh):
        # Its slope beside the steepest, 1/4 or 1: what such a unit hands down of a gradient, over all rows.
        slopes = 4.0 * rows * (1.0 - rows) if isinstance(layer, Sigmoid) else 1.0 - rows * rows
        yield "saturated units", float((slopes.mean(axis=0) < 0.05).mean())
