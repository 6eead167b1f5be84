"""A group whose processes are threads of one: the real protocol, without an engine."""

from __future__ import annotations

import queue
import threading
import time

import numpy as np

from xpnn.distributed import Group
from xpnn.errors import ProcessError

PATIENCE = 20.0  # seconds until a wait that never ends is an error


class ThreadGroup(Group):
    """One of `size` threads; `world` is what they have in common."""

    engine = "threads"

    def __init__(self, rank, world):
        self.rank, self.size, self.world = rank, world.size, world

    def sendrecv(self, send, to, receive, source):
        self.world.sent[self.rank, to].put(np.array(send))
        receive[...] = self._from(source)

    def _from(self, source):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                return self.world.sent[source, self.rank].get(timeout=0.01)
            except queue.Empty:
                self._look()
        raise AssertionError(f"rank {self.rank} waits for rank {source} for ever")

    def _look(self):
        failed = dict(self.world.failed)
        failed.pop(self.rank, None)
        if failed:
            rank, reason = next(iter(failed.items()))
            raise ProcessError(f"threads: rank {rank} of {self.size} has failed: {reason}")

    def allgather(self, mine, everyone):
        for other in range(self.size):
            if other != self.rank:
                self.world.sent[self.rank, other].put(np.array(mine))
        for other in range(self.size):
            everyone[other, ...] = mine if other == self.rank else self._from(other)

    def fail(self, reason):
        self.world.failed[self.rank] = reason


class World:
    def __init__(self, size):
        self.size, self.failed = size, {}
        self.sent = {(a, b): queue.Queue() for a in range(size) for b in range(size)}


def on_threads(size, work):
    """Return what ``work(group)`` gives on each of `size` threads; exceptions are returned, too."""
    world, found = World(size), [None] * size

    def run(rank):
        try:
            found[rank] = work(ThreadGroup(rank, world))
        except BaseException as error:
            found[rank] = error

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    return found


def agreed(size, work):
    """Return what all threads give, which must be equal."""
    found = on_threads(size, work)
    for one in found:
        if isinstance(one, BaseException):
            raise one
        assert one == found[0]
    return found[0]
