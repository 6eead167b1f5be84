"""A group over ``torch.distributed``, which moves bytes and adds nothing."""

from __future__ import annotations

import atexit
import contextlib
import os
import time
from typing import Any

import numpy as np

from .._typing import Array
from ..errors import OptionError, ProcessError
from ..optional import needs
from .group import GO_ON, Group

__all__ = ["TorchGroup", "torch"]

# Seconds to wait for what others say of a failure.
_PATIENCE = 2.0


def torch() -> Group:
    """Return the processes that ``torchrun`` started, or Ray's TorchTrainer or Spark's TorchDistributor, as a group.

    Returns
    -------
    Group
        Over gloo, on the CPU.  Of one process, where the script runs without a launcher.

    Raises
    ------
    MissingPackageError
        If PyTorch is not installed.
    OptionError
        If ``torch.distributed`` was begun with an engine that moves no arrays of the host (NCCL).

    Notes
    -----
    Where `torch.distributed` has begun (Ray and Spark do so), its processes are those of the group.  Else it begins
    here, by the environment variables of ``torchrun``.
    """
    with needs("torch", "distributed.torch"):
        import torch as library
        import torch.distributed as dist
        from torch.distributed.rendezvous import rendezvous
    if dist.is_initialized():
        if "gloo" not in str(dist.get_backend()):
            raise OptionError(
                f"distributed.torch: expected torch.distributed over gloo, got {dist.get_backend()}. "
                "Begin it with init_process_group('gloo'), or leave it to this function."
            )
        return TorchGroup(library, dist, None, dist.get_rank(), dist.get_world_size())
    if "RANK" not in os.environ:
        return TorchGroup(library, dist, None, 0, 1)
    store, rank, size = next(rendezvous("env://"))
    # A store may outlive processes that are started anew; what those before them left there would be met again.
    store = dist.PrefixStore(f"xpnn/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    if size > 1:
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
        atexit.register(_end, dist)
    return TorchGroup(library, dist, store, rank, size)


def _end(dist: Any) -> None:
    """Let the threads of gloo end before the process does."""
    if dist.is_initialized():
        with contextlib.suppress(Exception):
            dist.destroy_process_group()


class TorchGroup(Group):
    """Processes of ``torch.distributed``; where it began here, failures are told by its key-value store."""

    engine = "gloo"

    def __init__(self, library: Any, dist: Any, store: Any, rank: int, size: int) -> None:
        self._torch, self._dist, self._store = library, dist, store
        self.rank, self.size = rank, size
        self.engine_version = f"PyTorch {library.__version__}"
        self._failed = False
        self.announce()

    def sendrecv(self, send: Array, to: int, receive: Array, source: int) -> None:
        if self.size == 1:
            receive[...] = send
            return
        as_tensor = self._torch.from_numpy
        try:
            came = self._dist.irecv(as_tensor(receive), source)  # first, so that the other can send at once
            sent = self._dist.isend(as_tensor(_writable(send)), to)
            came.wait()
            sent.wait()
        except RuntimeError as error:
            raise self._lost(error, sorted({source, to})) from error

    def allgather(self, mine: Array, everyone: Array) -> None:
        if self.size == 1:
            everyone[0, ...] = mine
            return
        as_tensor = self._torch.from_numpy
        try:
            self._dist.all_gather([as_tensor(row) for row in everyone], as_tensor(_writable(mine)))
        except RuntimeError as error:
            raise self._lost(error, []) from error

    def fail(self, reason: str) -> None:
        """Tell the others by the store, and close all connections: who waits for this process gets an error at once."""
        if self._failed or self.size == 1:
            return
        self._say(f"failed/{self.rank}", reason[:2000] or "?")
        self._close()

    def _close(self) -> None:
        self._failed = True
        _end(self._dist)

    def _say(self, key: str, text: str) -> None:
        if self._store is not None:
            with contextlib.suppress(Exception):  # the store is gone with rank 0
                self._store.set(key, text)

    def _lost(self, error: RuntimeError, whom: list[int]) -> ProcessError:
        """Return the error that names the process that failed, or was lost; and close the connections to all."""
        self._say(f"told/{self.rank}", "yes")
        self._close()
        others = [rank for rank in range(self.size) if rank != self.rank]
        deadline = time.monotonic() + _PATIENCE
        silent = others
        while self._store is not None and silent and time.monotonic() < deadline:
            try:
                for rank in others:
                    if self._store.check([f"failed/{rank}"]):
                        reason = self._store.get(f"failed/{rank}").decode(errors="replace")
                        return ProcessError(f"gloo: rank {rank} of {self.size} has failed: {reason} {GO_ON}")
                silent = [rank for rank in silent if not self._store.check([f"told/{rank}"])]
            except Exception:  # the store is gone with its process
                silent = [0] if self.rank else silent
                break
            time.sleep(0.02)
        whom = silent or whom
        named = f"rank {' or '.join(map(str, whom))}" if whom else "a rank"
        return ProcessError(f"gloo: {named} of {self.size} was lost ({error}). {GO_ON}")


def _writable(array: np.ndarray) -> np.ndarray:
    """Return an array that PyTorch does not warn of."""
    return array if array.flags.writeable else array.copy()
