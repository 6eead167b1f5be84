"""The passes of several shards side by side, where layers need sums over all of them on the way.

Each shard's passes run in a thread of its own, but never two at once: one runs up to a sum that it needs, then the
next does.  When all of this process have come there, the sums are made by the tree, over all processes, and the first
goes on.  So each shard computes what it would alone, in an order that is always the same.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from .._typing import Array
from ..accel.native.turns import ONE_THREAD
from ..backend import Backend
from ..distributed.tree import Tree
from ..layers import BatchNorm
from ..layers.base import walk
from ..model import Sequential
from ..params import ParamStore
from .layout import summed

__all__ = ["Lockstep", "synchronized"]


def synchronized(net: Sequential) -> list[BatchNorm]:
    """Return the layers that need sums over all shards, in the order of computation."""
    return [layer for layer in walk(net.layers) if isinstance(layer, BatchNorm) and layer.sync]


class _CancelledError(BaseException):
    """Another shard has failed."""


class Lockstep:
    """Runs the passes of this process's shards in turns."""

    def __init__(self, net: Sequential, layers: Sequence[BatchNorm], tree: Tree) -> None:
        self._net, self._layers, self._tree = net, layers, tree
        self._parts: dict[int, Array] = {}  # what each waiting shard gives to the next sum
        self._total: Array = None
        self._failed = False
        self._turn: _Turn | None = None  # the shard that runs

    def run(self, works: Mapping[int, Callable[[], None]], shares: Mapping[int, float]) -> None:
        """Call the passes of each shard, by its number; `shares` are the shards' shares of the batch's weight."""
        if not works:
            self._idle()
            return
        turns = {shard: _Turn(self, work, shard, shares[shard]) for shard, work in works.items()}
        with self._sharing():
            try:
                while running := [turn for turn in turns.values() if not turn.ended]:
                    for turn in running:
                        self._turn = turn
                        turn.go()
                    if self._parts:
                        self._total, self._parts = self._sum(self._parts), {}
            finally:
                self._failed = True
                for turn in turns.values():
                    turn.leave()
                self._failed, self._parts, self._turn = False, {}, None

    @contextmanager
    def _sharing(self) -> Iterator[None]:
        """Let the layers ask for sums, for the shard that runs."""
        for layer in self._layers:
            layer.share(self)
        try:
            yield
        finally:
            for layer in self._layers:
                layer.share(None)

    def _idle(self) -> None:
        """Take part in the sums of the others, with nothing."""
        replicas = self._net.store.replicas
        forward = [size for layer in self._layers for size in (layer.n_in + 2, layer.n_in)]
        for size in [*forward, *(2 * layer.n_in for layer in reversed(self._layers))]:
            self._sum({}, (*replicas, 1, size))

    def _sum(self, parts: Mapping[int, Array], shape: tuple[int, ...] = ()) -> Array:
        """Return the sum of what all shards give, in the shape of each."""
        backend, tree, like = self._net.backend, self._tree, self._net.store.grads
        shape = next((tuple(part.shape) for part in parts.values()), shape)

        def leaf(shard: int) -> Array:
            if shard not in parts:
                return backend.zeros((int(np.prod(shape)),), dtype=like.dtype)
            return backend.copy(backend.xp.reshape(parts[shard], (-1,)))

        return backend.xp.reshape(summed(backend, tree, leaf, like), shape)

    # What the threads of the shards call.
    def total(self, part: Array) -> Array:
        """Return the sum of what all shards give."""
        return self._running.total(part)

    def mean(self, part: Array) -> Array:
        """Return the sum of gradients, scaled as the running shard's are."""
        return self._running.mean(part)

    @property
    def _running(self) -> _Turn:
        if self._turn is None:
            raise RuntimeError("sums are asked for within run alone")
        return self._turn

    @property
    def backend(self) -> Backend:
        """The network's backend."""
        return self._net.backend

    @property
    def store(self) -> ParamStore:
        """The arrays that all shards use in turns."""
        return self._net.store

    @property
    def cancelled(self) -> bool:
        """Whether another shard has failed."""
        return self._failed

    def give(self, shard: int, part: Array) -> None:
        """Give a part to the next sum."""
        self._parts[shard] = part

    def taken(self) -> Array:
        """Return the sum."""
        if self._failed:
            raise _CancelledError
        return self._total


class _Turn:
    """The passes of one shard, in a thread that runs while it has its turn."""

    def __init__(self, lockstep: Lockstep, work: Callable[[], None], shard: int, share: float) -> None:
        self._lockstep, self._work, self.shard, self._share = lockstep, work, shard, share
        self.ended = False
        self._error: BaseException | None = None
        self._mine, self._others = threading.Semaphore(0), threading.Semaphore(0)
        context = contextvars.copy_context()  # numpy.errstate is part of it
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=f"xpnn-shard-{shard}")
        self._thread.start()

    def _run(self) -> None:
        self._mine.acquire()
        try:
            if not self._lockstep.cancelled:
                with ONE_THREAD:
                    self._work()
        except _CancelledError:
            pass
        except BaseException as error:
            self._error = error
        self.ended = True
        self._others.release()

    def go(self) -> None:
        """Let it run up to the next sum that it needs, or to its end."""
        self._mine.release()
        self._others.acquire()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def leave(self) -> None:
        """Let it end, after an error of another one."""
        if not self.ended:
            self._mine.release()
            self._others.acquire()
        self._thread.join()

    def total(self, part: Array) -> Array:
        """Return the sum of what all shards give; running moments are this shard's again afterwards."""
        return self._sum(part, [self._lockstep.store.buffers])

    def mean(self, part: Array) -> Array:
        """Return the sum of gradients, scaled as this shard's are."""
        store = self._lockstep.store
        return self._sum(part * self._share, [store.buffers, store.grads]) * (1.0 / self._share)

    def _sum(self, part: Array, shared: Sequence[Array]) -> Array:
        copy = self._lockstep.backend.copy
        kept = [copy(array) for array in shared]
        self._lockstep.give(self.shard, part)
        self._others.release()
        self._mine.acquire()
        for array, own in zip(shared, kept, strict=True):
            array[...] = own
        return self._lockstep.taken()
