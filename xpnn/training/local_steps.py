"""Local SGD: each shard moves weights of its own for some steps, then all take the mean.

Gradients travel at every step; weights, optimizer state and running moments only at every k-th.  A shard is a worker
of its own, whoever computes it, so the number of processes still changes the time and nothing else.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from .._typing import Array
from ..distributed.tree import Tree
from ..errors import OptionError
from ..regularizers import Regularizer
from .epoch import Epoch, Pieces
from .layout import Layout, summed
from .lockstep import synchronized
from .portions import Portion, of_shard
from .step import Step, Tally, Training

__all__ = ["LocalSteps"]

Period: TypeAlias = Sequence[tuple[Step, list[Portion]]]


class LocalSteps:
    """Makes the steps of an epoch by shards that meet after `every` of them."""

    def __init__(self, tree: Tree, every: int, training: Training) -> None:
        self.tree, self.every = tree, every
        penalty = training.regularizer
        objections = {
            "BatchNorm(sync=True)": bool(synchronized(training.net)),
            "a penalty with a state": penalty is not None and type(penalty).state is not Regularizer.state,
        }
        found = [name for name, given in objections.items() if given]
        if found:
            raise OptionError(
                f"fit: expected parts that a shard can use alone, with sync_every, got {' and '.join(found)}. "
                "Leave sync_every out, or use BatchNorm() and xpnn.L2."
            )

    def end(self) -> None:
        """Keep nothing for another fit."""

    def run(self, epoch: Epoch) -> int:
        """Make all steps, and return how many there are; what comes between steps comes when the shards have met."""
        for period in self._periods(epoch):
            epoch.position.torn = True
            self._make(epoch, period)
            epoch.made(period[-1][0].slot + 1)
        return len(epoch.table)

    def _periods(self, epoch: Epoch) -> Iterator[Period]:
        """Yield the steps up to the next meeting, with the portions of this process."""
        pairs, most = epoch.portions(), self.every - epoch.first % self.every
        while period := list(itertools.islice(pairs, most)):
            yield period
            most = self.every

    def pieces(self, epoch: Epoch) -> Iterator[Pieces]:
        """Yield periods, to be looked at one by one; see `explain`."""
        for period in self._periods(epoch):
            own = [(p.x, p.y, p.weight, of_shard(step, p, float(len(p.y)))) for step, found in period for p in found]
            yield period[-1][0], own, functools.partial(self._make, epoch, period)

    def _make(self, epoch: Epoch, period: Period) -> None:
        """Let each shard make its steps, and take the means."""
        training, store = epoch.training, epoch.training.net.store
        backend, optimizer = training.net.backend, training.optimizer
        moved = [store.values, store.buffers, *optimizer.state.values()]
        before, t, made = [backend.copy(array, dtype=array.dtype) for array in moved], optimizer.t, training.step
        steps, scratch = [step for step, _ in period], Tally(training, len(period))
        layout = Layout([*moved, scratch.tables[0][:1, ...], *scratch.tables])
        weights = epoch.shard_weights[steps[0].slot : steps[-1].slot + 1].tolist()
        whole = sum(map(sum, weights))

        def leaf(shard: int) -> Array:
            vector = backend.zeros((layout.size,), dtype=store.grads.dtype)
            own = sum(row[shard] for row in weights)
            if not own:
                return vector
            for array, kept in zip(moved, before, strict=True):
                array[...] = kept
            optimizer.t = t
            local = Tally(training, len(period))
            norm = backend.zeros(scratch.tables[0][:1, ...].shape, dtype=store.grads.dtype)
            for k, (step, portions) in enumerate(period):
                found = next((p for p in portions if p.shard == shard), None)
                if found is None or not weights[k][shard]:
                    continue
                part = of_shard(step, found, weights[k][shard])
                value, pred = training.data_gradients(found.x, found.y, found.weight, part)
                local.add(k, value * (weights[k][shard] / step.weight), pred, found.y, found.weight)
                training.penalize(step)
                training.move(step)
                if step.last:
                    norm[0, ...] = training.grad_norm * (weights[k][shard] / step.weight)
            # What differs from the beginning is averaged, so that what nobody has moved stays as it is.
            changes = [array - kept for array, kept in zip(moved, before, strict=True)]
            layout.write(backend.xp, vector, [*changes, norm, *local.tables], [own / whole] * len(moved))
            return vector

        total = summed(backend, self.tree, leaf, store.grads)
        parts = layout.read(backend.xp, total)
        for array, kept, change in zip(moved, before, parts, strict=False):
            array[...] = kept + change
        optimizer.t, training.step = t + len(period), made + len(period)
        if steps[-1].last:
            training.grad_norm = backend.copy(parts[len(moved)][0, ...])
            training.penalize(steps[-1])
        for table, part in zip(epoch.tally.tables, parts[len(moved) + 1 :], strict=True):
            table[steps[0].slot : steps[-1].slot + 1, ...] = part
