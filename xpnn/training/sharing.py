"""A fit whose batches are cut into shards, on one process or on many: what each does, and what they agree on.

Each shard's gradient, loss and sums of metrics are a leaf of one fixed tree (`xpnn.distributed.tree`); their sum, the
same bits on every process, is what the parameters move by.  All processes hold the same weights and move them alike.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np

from .._typing import Array
from ..arguments import count
from ..backend import Backend, to_numpy
from ..distributed.check import own_version
from ..distributed.group import Alone, Group, ToAll, agree, together, words_of
from ..distributed.shards import ShardedRows
from ..distributed.tree import Tree
from ..errors import DivergenceError, OptionError, ProcessError
from ..model import Sequential
from ..recordable import foreign_method
from .callbacks import Callback
from .checks import Rows as GivenRows
from .checks import expect, feeds_of_fit, feeds_of_shards
from .epoch import Epoch, Pieces
from .feed import Feed, Indices
from .layout import Layout, summed
from .local_steps import LocalSteps
from .lockstep import Lockstep, synchronized
from .packed import on_packed
from .portions import CutRows, OwnRows, Portion, Rows, ShardFeeds, of_shard, slices_of
from .position import Fitting
from .recorded.leaves import LeafTraces, plan_leaves
from .recorded.runner import Plan, SlowWay, report
from .state import digest_of
from .step import Step, Tally, Training

__all__ = ["ShardedSteps", "Sharing"]

_SLOW = SlowWay("steps are not recorded", logging.DEBUG)
_HINT = (
    "Make the network with the same seed everywhere, or load the same file, and pass the same options and the same "
    "rows, of which each process takes its share; rows of its own alone go into xpnn.distributed.ShardedRows."
)
# What a trainer computes with, beside the network and the optimizer; and of how many rows the numbers are compared.
_COMPUTED_WITH = ("seed", "loss", "schedule", "dropout_schedule", "weight_decay_schedule", "regularizer", "clip_norm",
                  "clip_value")  # fmt: skip
_COMPARED_ROWS = 64


class Sharing:
    """How a fit is shared: by no shards (`tree` is None), by shards in one process, or by those of a group.

    Raises OptionError if the options do not fit each other.
    """

    def __init__(self, X: Any = None, shards: Any = None, group: Any = None, sync_every: Any = None) -> None:
        expect(group, Group | None, "group", "a group such as xpnn.distributed.mpi(), or None", where="fit")
        self.group: Group = Alone() if group is None else group
        self.tree: Tree | None = None
        self._common: BaseException | None = None  # an error that all processes have
        if isinstance(X, ShardedRows):
            n = len(X.checked())
            if shards not in (None, n):
                raise OptionError(
                    f"fit: expected shards to be left out, or {n}, the number of shards of the data, got {shards!r}. "
                    "Leave it out."
                )
            if n < self.group.size:
                raise OptionError(
                    f"fit: expected at least as many shards as processes, got data in {n} for {self.group.size} "
                    "processes. Start fewer, or cut the data into more shards: files, chunks or partitions."
                )
            shards = n
        self.sync_every = None if sync_every is None else count(sync_every, "fit", "sync_every")
        if shards is not None:
            self.tree = Tree(count(shards, "fit", "shards"), self.group)
        elif sync_every is not None:
            raise OptionError(
                "fit: expected shards with sync_every, got none. Try shards=16: each moves alone for a while."
            )
        elif group is not None:
            raise OptionError(
                "fit: expected shards with a group, got none. Try shards=16: results depend on their number, and not "
                "on that of the processes."
            )

    @property
    def shards(self) -> int | None:
        """Into how many shards a batch is cut; None: into none."""
        return None if self.tree is None else self.tree.shards

    @property
    def passes(self) -> int:
        """How often a step passes through the network on this process: once for each of its shards."""
        return 1 if self.tree is None else len(self.tree.own)

    @property
    def key(self) -> Any:
        """What tells steps with these shards from others."""
        return self.shards if self.sync_every is None else (self.shards, self.sync_every)

    def feeds(self, training: Any, train: GivenRows, valid: GivenRows, **options: Any) -> tuple[Any, Any]:
        """Return the feeds of training and validation; see `feeds_of_fit`."""
        if self.tree is not None and isinstance(train.X, ShardedRows):
            return feeds_of_shards(training, train, valid, self.tree, **options)
        return feeds_of_fit(training, train, valid, **options)

    # -- what all agree on ----------------------------------------------------------------------------------
    @contextmanager
    def together(self) -> Iterator[None]:
        """Around what each process does by itself before the first step: what fails on one is raised by all."""
        try:
            with together(self.group):
                yield
        except Exception as error:
            self._common = error
            raise

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Around a fit: an error of one process is told to the others, which would wait for it for ever."""
        try:
            yield
        except BaseException as error:
            group = self.group
            if group.size > 1 and error is not self._common and not isinstance(error, ToAll):
                error.add_note(f"This is rank {group.rank} of {group.size}.")
                if not isinstance(error, ProcessError | DivergenceError):
                    group.fail(words_of(error))
            raise

    def begin(self, fit: Fitting, train: Feed | ShardFeeds, valid: Feed | ShardFeeds | None, **options: Any) -> None:
        """Raise ProcessError unless all processes begin with the same weights, data and options."""
        if self.group.size == 1:
            return
        options |= {name: getattr(fit, name) for name in _COMPUTED_WITH}
        options |= {"metrics": [metric.name for metric in fit.metrics], "xpnn": own_version()}
        options |= {"data": _rows_key(train), "validation data": _rows_key(valid)}
        optimizer = fit.optimizer
        state = digest_of(optimizer.t, [optimizer.state[name] for name in sorted(optimizer.state)])
        facts = {"weights": weights_key(fit), "optimizer": f"{optimizer} {state.hex()}", "rows": fit.rows_key}
        facts |= {name: str(value) for name, value in options.items()} | {"network": str(fit.net.config())}
        facts |= {"shards": str(self.key), "epochs made": str(fit.epoch), "steps made": str(fit.step)}
        facts = {name: re.sub(r" at 0x[0-9a-f]+", "", text) for name, text in facts.items()}  # of `object.__repr__`
        short = {name: text if len(text) <= 60 else digest_of(text, []).hex()[:16] for name, text in facts.items()}
        try:
            agree(self.group, short, "fit", _HINT)
        except ProcessError as error:
            self._common = error
            raise

    def after_epoch(self, fit: Fitting) -> None:
        """Raise ProcessError unless all hold the same weights; let rank 0 decide what hangs on its clock."""
        if self.group.size == 1:
            return
        found = self.group.share([weights_key(fit), fit.stop_reason, fit.history.rows[-1]["seconds"]])
        keys = [key for key, _, _ in found]
        other = next((rank for rank, key in enumerate(keys) if key != keys[0]), None)
        if other is not None:
            self._common = ProcessError(
                f"fit: expected the same weights on rank {other} as on rank 0 after epoch {fit.epoch}, got others "
                f"({keys[other]} and {keys[0]}). The machines compute differently, or a callback changed weights on "
                "one of them: run `xpnn doctor --distributed` under the launcher."
            )
            raise self._common
        _, fit.stop_reason, fit.history.rows[-1]["seconds"] = found[0]

    def listeners(self, callbacks: Sequence[Callback]) -> list[Callback]:
        """Return the callbacks that are called on this process: those that write are on rank 0 alone."""
        return [callback for callback in callbacks if self.group.rank == 0 or callback.on_every_rank]

    # -- the work of this process ---------------------------------------------------------------------------
    def runner(
        self, training: Training, feed: Any, epochs: int, batch_size: int, graph: Any
    ) -> ShardedSteps | LocalSteps | None:
        """Return what makes the steps of a fit from shards; None where there are none.

        On NumPy the passes of shards are traced, where `graph` lets them and it repays itself.

        Raises OptionError if the trainer has methods of somebody's own that know nothing of them.
        """
        if self.tree is None:
            return None
        own = foreign_method(training, ("train_step", "gradients"))
        if own is not None:
            raise OptionError(
                f"fit: expected a trainer that leaves train_step and gradients as they are, with shards, got a {own} "
                "of your own. Override data_gradients, penalize, exchange or move instead."
            )
        steps = self._steps(self.tree, training)
        if graph is False:
            return steps
        found: LeafTraces | str = "batches are cut into shards"
        if training.net.backend.xp is np and isinstance(steps, ShardedSteps) and not synchronized(training.net):
            weighted = feed.weighted if isinstance(feed, ShardFeeds) else feed.weight is not None
            plan = Plan(epochs, batch_size, len(feed), feed.width, weighted, graph is True)
            found = plan_leaves(training, plan, len(self.tree.own))
        if isinstance(found, LeafTraces) and isinstance(steps, ShardedSteps):
            steps.traces = found
        else:
            report(_SLOW, str(found), loud=graph is True)
        return steps

    def _steps(self, tree: Tree, training: Training) -> ShardedSteps | LocalSteps:
        """Return what makes steps of shards."""
        return ShardedSteps(tree) if self.sync_every is None else LocalSteps(tree, self.sync_every, training)

    def repeated(self, epoch: Epoch) -> tuple[Any, ...]:
        """Return what `explain` needs to repeat an epoch of shards; nothing of other epochs."""
        if self.tree is None:
            return ()
        return self._steps(self.tree, epoch.training).pieces(epoch), self._first_of

    def _first_of(self, found: str | None) -> str | None:
        """Return what the first process has found that has found something."""
        return next((text for text in self.group.share(found) if text is not None), None)

    def rows(self, training: Any, feed: Any, order: Indices | None, batch_size: int, *, shuffle: bool) -> Rows | None:
        """Return the rows of an epoch's steps that are this process's; None where there are no shards."""
        if self.tree is None:
            return None
        if isinstance(feed, ShardFeeds):
            return OwnRows(feed, batch_size, training.seed, training.epoch, shuffle=shuffle)
        return CutRows(feed, order, batch_size, self.tree, training.row_numbers(order))

    def on_packed(self, net: Sequential, feed: Any) -> AbstractContextManager[Any]:
        """Give a feed of packed rows where the network takes them, see `on_packed`; shards are encoded."""
        return on_packed(net, feed) if self.tree is None else nullcontext(feed)

    def evaluate(self, training: Any, feed: Feed | ShardFeeds, batch_size: int, pause: Any) -> dict[str, float]:
        """Return loss and metrics on data, dropout off; each process computes some slices, `pause` is between them."""
        with np.errstate(over="ignore", invalid="ignore"), self.on_packed(training.net, feed) as rows:  # inf tells it
            weights, counts, batches = slices_of(rows, batch_size, self.tree)
            tally = Tally(training, counts[self.group.rank])
            for slot, (x, y, weight) in enumerate(batches):
                pred = training.net.predict(x)
                value, _ = training.loss.value_and_grad(pred, y, weight)
                tally.add(slot, value, pred, y, weight)
                pause()
        if self.tree is not None and self.group.size > 1:
            tables = [self.tree.gather(to_numpy(table), counts) for table in tally.tables]
            tally = tally.over([training.net.backend.asarray(table) for table in tables])
        return tally.row(weights)


def weights_key(fit: Fitting) -> str:
    """Return what tells weights and buffers of a network apart from others."""
    return digest_of((), [fit.net.store.values, fit.net.store.buffers]).hex()[:16]


def _rows_key(feed: Feed | ShardFeeds | None) -> str:
    """Return what tells rows that all processes hold apart from others: by some of them, as there may be many."""
    if feed is None or isinstance(feed, ShardFeeds):
        return "none"
    some = np.unique(np.linspace(0, len(feed) - 1, min(len(feed), _COMPARED_ROWS)).astype(np.int64))
    return digest_of((), [array for x, y, _ in feed.blocks(some, [0, len(some)]) for array in (x, y)]).hex()[:16]


class ShardedSteps:
    """Makes the steps of an epoch from the gradients of its shards; `traces` replay those, where there are some."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.traces: LeafTraces | None = None
        self._spare: list[Array] = []
        self._work: _Work | None = None

    def end(self) -> None:
        """Keep nothing for another fit."""

    def run(self, epoch: Epoch) -> int:
        """Make all steps, and return how many there are."""
        for step, portions in epoch.portions():
            self.make(epoch, step, portions)
            epoch.made(step.slot + 1)
        return len(epoch.table)

    def pieces(self, epoch: Epoch) -> Iterator[Pieces]:
        """Yield the steps of an epoch, to be looked at one by one; see `explain`."""
        for step, portions in epoch.portions():
            weights = epoch.shard_weights[step.slot].tolist()
            own = [(p.x, p.y, p.weight, of_shard(step, p, weights[p.shard])) for p in portions if weights[p.shard]]
            yield step, own, functools.partial(self.make, epoch, step, portions)

    def make(self, epoch: Epoch, step: Step, portions: list[Portion]) -> None:
        """Make one step; up to the move of the parameters nothing is torn."""
        if self._work is None or self._work.epoch is not epoch:
            self._work = _Work(epoch, self.traces)
        training, store, work = epoch.training, epoch.training.net.store, self._work
        xp, weights = training.net.backend.xp, work.weights[step.slot]
        work.before[...] = store.buffers
        mine = {portion.shard: portion for portion in portions}

        def leaf(shard: int) -> Array:
            vector = self._vector(training.net.backend, work.layout.size)
            portion, weight = mine.get(shard), weights[shard]
            if portion is None or not weight:
                vector[...] = 0.0
            elif self.traces is None:
                work.fill(step, portion, weight, vector)
            else:
                eagerly = functools.partial(work.fill, step, portion, weight, vector)
                self.traces.fill(step.slot, portion, work.before, vector, eagerly)
            return vector

        try:
            side_by_side = self._side_by_side(
                training.net, leaf, {s: weights[s] / step.weight for s in mine if weights[s]}
            )
            total = summed(training.net.backend, self.tree, side_by_side, store.grads, self._spare)
        finally:
            store.buffers[...] = work.before
        parts = work.layout.read(xp, total)
        epoch.position.torn = True
        store.grads[...] = parts[0]
        store.buffers += parts[1]
        for table, part in zip(epoch.tally.tables, parts[2:], strict=True):
            table[step.slot, ...] = part[0, ...]
        self._spare.append(total)
        training.exchange(step)
        training.penalize(step)
        training.move(step)

    def _side_by_side(
        self, net: Sequential, leaf: Callable[[int], Array], shares: dict[int, float]
    ) -> Callable[[int], Array]:
        """Return what gives the leaves: made one by one, or all at once where layers need sums over all shards."""
        layers = synchronized(net)
        if not layers:
            return leaf
        made: dict[int, Array] = {}

        def work(shard: int) -> Callable[[], None]:
            def passes() -> None:
                made[shard] = leaf(shard)

            return passes

        Lockstep(net, layers, self.tree).run({shard: work(shard) for shard in shares}, shares)
        return lambda shard: made[shard] if shard in made else leaf(shard)

    def _vector(self, backend: Backend, size: int) -> Array:
        """Return a vector to be filled, zero between parameters: one that is done with, or a new one."""
        while self._spare:
            vector = self._spare.pop()
            if vector.shape == (size,):
                return vector
        return backend.zeros((size,))


class _Work:
    """What the shards of an epoch's steps have in common."""

    def __init__(self, epoch: Epoch, traces: LeafTraces | None) -> None:
        self.epoch, store = epoch, epoch.training.net.store
        self._scratch = Tally(epoch.training, 1)
        self._parts = [store.grads, store.buffers, *self._scratch.tables]
        self.layout = Layout(self._parts)
        #: The running moments before a step, from which those of each shard begin.
        self.before = epoch.training.net.backend.copy(store.buffers)
        self.weights: list[list[float]] = epoch.shard_weights.tolist()
        if traces is not None:
            traces.begin(epoch, self.layout, epoch.shard_weights)

    def fill(self, step: Step, portion: Portion, weight: float, vector: Array) -> None:
        """Fill the vector of a shard: its share of gradients, of changes of buffers, of the loss, and its sums."""
        training, store = self.epoch.training, self.epoch.training.net.store
        store.buffers[...] = self.before
        share, own = weight / step.weight, of_shard(step, portion, weight)
        value, pred = training.data_gradients(portion.x, portion.y, portion.weight, own)
        self._scratch.add(0, value * share, pred, portion.y, portion.weight)
        store.buffers -= self.before
        self.layout.write(training.net.backend.xp, vector, self._parts, [share, share])
