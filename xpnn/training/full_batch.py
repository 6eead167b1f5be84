"""Training on all rows at once: an epoch is one iteration of an optimizer that has a line search.

Such an optimizer asks for the loss and its gradient over all rows, as often as it likes, at weights of its choice.  So
the loss must be a function of the weights alone: what is random, what depends on the batch and what changes gradients
on their way is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from ..errors import DivergenceError, OptionError
from ..layers import BatchNorm, Dropout, Layer
from ..layers.base import walk
from ..losses import Loss
from ..model import Sequential
from ..optim import LBFGS
from ..optim.lbfgs import Descent
from ..regularizers import Regularizer
from .feed import Feed

__all__ = ["FullBatch", "Objective", "check_full_batch"]


class Tally(Protocol):
    """Collects losses and metrics of slices."""

    def add(self, slot: int, value: Array, pred: Array, y: Array, weight: Array | None) -> None:
        """Note one slice."""

    def row(self, weights: np.ndarray) -> dict[str, Any]:
        """Return loss and metrics of all."""


class Objective:
    """Loss and penalty of all rows as a function of the weights, in slices that bound the memory.

    Parameters
    ----------
    net : Sequential
        Its store's `values` are the point, its `grads` the gradient there.
    loss : Loss
        The mean over all rows is made small.
    rows : Feed
        All rows.
    batch_size : int
        Rows of one slice.
    regularizer : Regularizer, optional
        Its penalty is part of the objective.
    tally : Tally, optional
        Is told of every slice.

    Attributes
    ----------
    data, penalty : 0-d array
        The two parts of the last value; no regularizer, no penalty.
    weights : ndarray
        The total weight of each slice.
    """

    def __init__(
        self,
        net: Sequential,
        loss: Loss,
        rows: Feed,
        batch_size: int,
        *,
        regularizer: Regularizer | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.net, self.loss, self.rows, self.batch_size = net, loss.using(net.backend.ops), rows, batch_size
        self.regularizer, self.tally = regularizer, tally
        n = len(rows)
        weight = np.ones(n) if rows.weight is None else rows.weight[rows.rows]
        self.weights = np.asarray([weight[a : a + batch_size].sum() for a in range(0, n, batch_size)])
        self._shares: list[float] = (self.weights / weight.sum()).tolist()
        self.data: Array = None
        self.penalty: Array = None

    def __call__(self) -> Array:
        """Return the value, 0-d, and leave the gradient in ``net.store.grads``."""
        net, store = self.net, self.net.store
        data, grads = 0.0, None
        for slot, (x, y, weight) in enumerate(self.rows.batches(None, self.batch_size)):
            share = self._shares[slot]
            if not share:  # no row of the slice counts: it has no mean
                continue
            pred, caches = net.forward(x, train=True, step=0)
            value, d_pred = self.loss.value_and_grad(pred, y, weight)
            net.backward(d_pred, caches)
            if self.tally is not None:
                self.tally.add(slot, value, pred, y, weight)
            data = value * share + data
            if len(self._shares) > 1:
                grads = store.grads * share if grads is None else grads + store.grads * share
        if grads is not None:
            store.grads[...] = grads
        self.data = data
        if self.regularizer is None:
            return data
        self.penalty = self.regularizer.add(store)
        return data + self.penalty


class FullBatch:
    """The epochs of one fit by an optimizer that takes all rows at once.

    Parameters
    ----------
    optimizer : LBFGS
        Bound to the network's store; its `state` is gone on from, and kept up to date.
    objective : Objective
        What is made small.

    Attributes
    ----------
    descent : Descent
        The minimization, once it has begun.
    """

    descent: Descent

    def __init__(self, optimizer: LBFGS, objective: Objective) -> None:
        self.optimizer, self.objective = optimizer, objective
        self._row: dict[str, Any] = {}

    @property
    def ended(self) -> str | None:
        """Why no epoch can follow, if that is so."""
        if not self.descent.message and self.descent.n_evals > self.optimizer.max_evals:
            return "max_evals is reached"
        return self.descent.message or None

    def begin(self) -> None:
        """Evaluate the objective at the network's weights."""
        self.descent = self._quietly(
            lambda: Descent(self.optimizer, self.objective.net.store, self.objective, self.optimizer.pairs)
        )
        self._begun()

    def iterate(self) -> dict[str, Any]:
        """Make one iteration, and return the epoch's columns of the history, at the weights that it has found.

        An iteration that finds nothing better leaves the weights as they are: ``lr`` is 0.0 then.
        """
        descent, store = self.descent, self.objective.net.store
        if not bool(store.backend.xp.all(store.values == descent.x)):  # a callback has moved them
            self._quietly(descent.begin)
            self._begun()
        if not descent.message and self._quietly(descent.iterate):
            self._row = self._columns()
        self.optimizer.keep(descent.pairs)
        self.optimizer.t += 1
        self.optimizer.result = descent.result(self.ended or "")
        return self._row | {"lr": descent.step}

    def _begun(self) -> None:
        """Note where a descent begins, or raise DivergenceError if there is no way from there."""
        if not math.isfinite(self.descent.value):
            weights = np.abs(to_numpy(self.objective.net.store.values)).max()
            raise DivergenceError(
                f"fit: the loss of all rows is {self.descent.value} before the first step, weights reach "
                f"{weights:.3g}. Look at the scale of inputs and targets (xpnn.data.Standardizer), and at the weights."
            )
        self._row = self._columns()
        self.optimizer.result = self.descent.result(self.ended or "")

    def _columns(self) -> dict[str, Any]:
        objective, ops = self.objective, self.objective.net.backend.ops
        row = {} if objective.tally is None else objective.tally.row(objective.weights)
        row |= {"loss": float(to_numpy(objective.data)), "lr": 0.0}
        row["grad_norm"] = to_numpy(ops.global_norm(self.descent.g)).item()
        if objective.regularizer is not None:
            row["penalty"] = float(to_numpy(objective.penalty))
        return row

    @staticmethod
    def _quietly(work: Any) -> Any:
        """Call something whose overflow is told by its values, or stepped back from."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return work()


def check_full_batch(optimizer: LBFGS, layers: Sequence[Layer], **options: object) -> None:
    """Raise OptionError if a fit has parts or options which a line search over all rows has no use for.

    Parameters
    ----------
    optimizer : LBFGS
        Who has no use for them.
    layers : sequence of Layer
        The network's.
    **options : object
        Those that must not be given, by name: false where they are not.
    """
    found = [name for name, given in options.items() if given]
    for layer in walk(layers):
        if isinstance(layer, Dropout) and np.any(layer.rate):
            found.append(f"{layer.label} (it is random)")
        elif isinstance(layer, BatchNorm):
            found.append(f"{layer.label} (its outputs depend on the batch)")
        elif layer.param_specs() and any(spec.lr_mult != 1.0 for spec in layer.param_specs()):
            found.append(f"lr_mult of {layer.label}")
    if found:
        raise OptionError(
            f"fit: {type(optimizer).__name__} takes all rows at once by a line search and has no use for "
            f"{', '.join(found)}. Use xpnn.Adam(), or leave {'it' if len(found) == 1 else 'them'} out."
        )
