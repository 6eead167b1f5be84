"""Training on all rows at once: an epoch is one iteration of an optimizer that has a line search.

Such an optimizer asks for the loss and its gradient over all rows, as often as it likes, at weights of its choice.  So
the loss must be a function of the weights alone: what is random, what depends on the batch and what changes gradients
on their way is refused.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from ..distributed.tree import Tree
from ..errors import DivergenceError, OptionError
from ..layers import BatchNorm, Dropout
from ..layers.base import walk
from ..optim import LBFGS
from ..optim.lbfgs import Descent
from ..recordable import foreign_method
from ..schedules import Constant
from .feed import Batch, Feed
from .layout import Layout, summed
from .portions import ShardFeeds, shard_slices
from .position import At, Fitting
from .step import STEP_METHODS, Tally, Training

__all__ = ["FullBatch", "Iterate", "Objective", "SharedObjective", "plan_full_batch"]


class Objective:
    """Loss and penalty of all rows as a function of the weights, in slices of `batch_size` that bound the memory.

    The network's flat values are the point, the flat gradients the slope there.  `data` and `penalty`, 0-d arrays, are
    the two parts of the last value; the second is None without a regularizer.
    """

    def __init__(self, training: Training, rows: Any, batch_size: int) -> None:
        self.training, self.rows, self.batch_size = training, rows, batch_size
        self._weights, self._shares = np.zeros(0), np.zeros(0)
        self._tally: Tally | None = None
        self._only: list[Batch] = []  # a single slice, brought once
        self.data: Array = None
        self.penalty: Array = None

    def _weigh(self) -> None:
        """Weigh the slices, before the first value; here processes may talk to each other."""
        weight = self.rows.batch_weights(None, 1)
        starts = range(0, len(weight), self.batch_size)
        self._weights = np.asarray([weight[a : a + self.batch_size].sum() for a in starts])
        self._shares = self._weights / weight.sum()
        self._tally = Tally(self.training, len(self._shares)) if self.training.metrics else None

    def _slices(self) -> Iterable[Batch]:
        if len(self._shares) == 1:
            self._only = self._only or list(self.rows.batches(None, self.batch_size))
            return self._only
        slices: Iterable[Batch] = self.rows.batches(None, self.batch_size)
        return slices

    def columns(self) -> dict[str, Any]:
        """Return loss, metrics and penalty of the last evaluation as columns of the history."""
        row = {} if self._tally is None else self._tally.row(self._weights)
        row["loss"] = float(to_numpy(self.data))
        return row if self.penalty is None else row | {"penalty": float(to_numpy(self.penalty))}

    def __call__(self) -> Array:
        """Return the value, 0-d, and leave the gradient in ``net.store.grads``."""
        training, store = self.training, self.training.net.store
        if not len(self._shares):
            self._weigh()
        self.data = self._of_rows()
        if training.regularizer is None:
            return self.data
        self.penalty = training.regularizer.add(store)
        return self.data + self.penalty

    def _of_rows(self) -> Array:
        """Return the loss of all rows, and leave its gradient in ``net.store.grads``."""
        return self._mean(self._shares.tolist(), self._slices(), self._tally)

    def _mean(self, shares: list[float], slices: Iterable[Batch], tally: Tally | None) -> Array:
        """Return the loss of some slices with these shares of it; leave its gradient in ``net.store.grads``."""
        training, net, store = self.training, self.training.net, self.training.net.store
        data, grads = 0.0, None
        for slot, (share, (x, y, weight)) in enumerate(zip(shares, slices, strict=True)):
            if not share:  # no row of the slice counts: it has no mean
                continue
            pred, caches = net.forward(x, train=True, step=0)
            value, d_pred = training.bound_loss.value_and_grad(pred, y, weight)
            net.backward(d_pred, caches)
            if tally is not None:
                tally.add(slot, value, pred, y, weight)
            data = value * share + data
            if len(shares) > 1:
                grads = store.grads * share if grads is None else grads + store.grads * share
        if grads is not None:
            store.grads[...] = grads
        return data


class SharedObjective(Objective):
    """The same of rows in shards: the mean over each shard, times its share, is a leaf of the tree over all of them."""

    def __init__(self, training: Training, rows: Feed | ShardFeeds, batch_size: int, tree: Tree) -> None:
        super().__init__(training, rows, batch_size)
        self._tree = tree
        self._edges: list[list[int]] = []  # of the slices of each shard
        self._parts: list[np.ndarray] = []  # their weights
        self._kept: dict[int, list[Batch]] | None = None

    def _weigh(self) -> None:
        """Weigh the slices of all shards."""
        self._edges, self._parts = shard_slices(self.rows, self.batch_size, self._tree)
        totals = np.asarray([part.sum() for part in self._parts])
        self._shares = totals / totals.sum()
        # Slices of one number are added up over the shards.
        self._weights = np.ones(max(map(len, self._parts)))
        self._tally = Tally(self.training, len(self._weights)) if self.training.metrics else None
        own = self._tree.own
        if sum(self._edges[shard][-1] - self._edges[shard][0] for shard in own) <= self.batch_size:
            self._kept = {shard: list(self._slices_of(shard)) for shard in own}

    def _slices_of(self, shard: int) -> Iterable[Batch]:
        """Return the slices of a shard of this process: brought each time, unless they are few."""
        if self._kept is not None:
            return self._kept[shard]
        rows = self.rows.feeds.get(shard) if isinstance(self.rows, ShardFeeds) else self.rows
        return () if rows is None else rows.cut(None, self._edges[shard])

    def _of_rows(self) -> Array:
        backend, store, tally = self.training.net.backend, self.training.net.store, self._tally
        tables = [] if tally is None else tally.tables[1:]  # without the losses
        layout = Layout([store.grads, *tables, backend.zeros((1,))])

        def leaf(shard: int) -> Array:
            vector = backend.zeros((layout.size,), dtype=store.grads.dtype)
            share = float(self._shares[shard])
            if not share:
                return vector
            for table in tables:
                table[...] = 0.0
            parts = self._parts[shard]
            data = self._mean((parts / parts.sum()).tolist(), self._slices_of(shard), tally)
            data = backend.xp.reshape(data * share, (1,))
            layout.write(backend.xp, vector, [store.grads, *tables, data], [share])
            return vector

        grads, *sums, data = layout.read(backend.xp, summed(backend, self._tree, leaf, store.grads))
        store.grads[...] = grads
        for table, total in zip(tables, sums, strict=True):
            table[...] = total
        return data[0, ...]


class Iterate:
    """What an iteration changes, so that it can be undone; the optimizer's arrays are made anew, never written to."""

    complete = True

    def __init__(self, training: Training) -> None:
        self._store, self._state = training.net.store.snapshot(), dict(training.optimizer.state)
        self._counts = training.step, training.epoch, training.optimizer.t
        self._left = training.grad_norm, training.penalty

    def restore(self, training: Training) -> None:
        """Put everything back."""
        training.net.store.restore(self._store)
        training.optimizer.state = dict(self._state)
        training.step, training.epoch, training.optimizer.t = self._counts
        training.grad_norm, training.penalty = self._left


class FullBatch:
    """The epochs of one fit by an optimizer that takes all rows at once, and makes an objective small.

    The optimizer is bound to the network's store; its `state` is gone on from, and kept up to date.
    """

    _descent: Descent

    def __init__(self, fit: Fitting, optimizer: LBFGS, objective: Objective) -> None:
        self.fit, self.optimizer, self.objective = fit, optimizer, objective
        self._row: dict[str, Any] = {}

    def begin(self) -> str | None:
        """Evaluate the objective at the network's weights; return why no epoch can follow, if that is so."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            self._descent = Descent(self.optimizer, self.fit.net.store, self.objective, self.optimizer.pairs)
        self._begun()
        return self._ended()

    def run_epoch(self, valid: Feed | None, batch_size: int) -> dict[str, Any]:
        """Make one iteration, validate, and return the epoch's row of the history, at the weights that it has found.

        An iteration that finds nothing better leaves the weights as they are: ``lr`` is 0.0 then.
        """
        began = time.perf_counter()
        fit, descent, store = self.fit, self._descent, self.fit.net.store
        fit.position.torn = True  # up to the history's row
        fit.position.begin(fit, Iterate(fit))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # it steps back from what is not finite
            if not bool(store.backend.xp.all(store.values == descent.x)):  # a callback has moved them
                descent.begin()
                self._begun()
            if not descent.message and descent.iterate():
                self._look()
        self.optimizer.keep(descent.pairs)
        self.optimizer.t += 1
        fit.epoch += 1
        fit.step += 1
        reason = self._ended()
        if reason is not None:
            fit.stop(reason)
        fit.position.at = At("on_batch_end")
        fit.notify("on_batch_end")
        fit.notify("on_epoch_trained")
        row = {**self._row, "epoch": fit.epoch, "lr": descent.step}
        if valid is not None:
            row |= {f"val_{name}": value for name, value in fit.evaluate_feed(valid, batch_size).items()}
        row["seconds"] = time.perf_counter() - began
        return {name: row[name] for name in fit.columns if name in row}

    def _begun(self) -> None:
        """Look at the point where a descent begins; raise DivergenceError if there is no way from there."""
        if not math.isfinite(self._descent.value):
            weights = np.abs(to_numpy(self.fit.net.store.values)).max()
            raise DivergenceError(
                f"fit: the loss of all rows is {self._descent.value} before the first step, weights reach "
                f"{weights:.3g}. Look at the scale of inputs and targets (xpnn.data.Standardizer), and at the weights."
            )
        self._look()

    def _look(self) -> None:
        """Note the columns of the history at the present point, which the objective was evaluated at last."""
        fit, objective = self.fit, self.objective
        fit.grad_norm, fit.penalty = fit.net.backend.ops.global_norm(self._descent.g), objective.penalty
        self._row = objective.columns() | {"grad_norm": to_numpy(fit.grad_norm).item()}

    def _ended(self) -> str | None:
        """Return why no epoch can follow, if that is so, and let the optimizer say how it stands."""
        message = self._descent.message
        if not message and self._descent.n_evals > self.optimizer.max_evals:
            message = "max_evals is reached"
        self.optimizer.result = self._descent.result(message)
        return message or None


def plan_full_batch(
    fit: Fitting,
    rows: Feed | ShardFeeds,
    batch_size: int,
    graph: object,
    tree: Tree | None = None,
    sync_every: int | None = None,
) -> FullBatch | None:
    """Return what makes the epochs of a fit whose optimizer takes all rows at once; None for other optimizers.

    The optimizer is bound, `graph` and `sync_every` as given to `fit`; `tree` is that of the shards.  Raises
    OptionError if the fit has parts or options that a line search over all rows has no use for.
    """
    optimizer, net = fit.optimizer, fit.net
    if not isinstance(optimizer, LBFGS):
        return None
    options = {
        "schedule": fit.schedule != Constant(),
        "dropout_schedule": fit.dropout_schedule is not None,
        "weight_decay_schedule": fit.weight_decay_schedule is not None,
        "clip_norm": fit.clip_norm is not None,
        "clip_value": fit.clip_value is not None,
        "graph": graph not in ("auto", False),
        "sync_every": sync_every is not None,
        "lr_mult": net.store.lr_factors is not None,
    }
    found = [name for name, given in options.items() if given]
    own = foreign_method(fit, STEP_METHODS)
    found += [f"a {own} of your own"] if own else []
    for layer in walk(net.layers):
        if isinstance(layer, Dropout) and np.any(layer.rate):
            found.append(f"{layer.label} (it is random)")
        elif isinstance(layer, BatchNorm):
            found.append(f"{layer.label} (its outputs depend on the batch)")
    if found:
        raise OptionError(
            f"fit: {type(optimizer).__name__} takes all rows at once by a line search and has no use for "
            f"{', '.join(found)}. Use xpnn.Adam(), or leave {'it' if len(found) == 1 else 'them'} out."
        )
    objective = Objective(fit, rows, batch_size) if tree is None else SharedObjective(fit, rows, batch_size, tree)
    return FullBatch(fit, optimizer, objective)
