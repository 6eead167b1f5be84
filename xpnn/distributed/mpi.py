"""A group over MPI, by mpi4py."""

from __future__ import annotations

import atexit
import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Iterable
from typing import Any

import numpy as np

from .._typing import Array
from ..errors import ProcessError
from ..optional import needs
from .group import GO_ON, Group, words_of

__all__ = ["MPIGroup", "mpi"]

# Tags of the messages that say that a rank has failed, and that its script has ended.
_ALARM, _ENDED = 7, 8
# Looks for what has come: so many at once, so many that let others run, and then some that sleep between.
_BUSY, _YIELDING, _NAP, _LONG_NAP = 200, 2000, 5e-5, 1e-3
# Seconds, at most, from the end of a process that has failed to that of all: the others say what they were told, and
# keep what they have.
_LAST_WORDS = 20.0
# Seconds for what is still on its way from a process whose script has ended.
_ON_ITS_WAY = 5.0


def mpi(comm: Any = None) -> Group:
    """Return the processes that ``mpiexec`` started, as a group.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        The communicator; by default all processes (``MPI.COMM_WORLD``).

    Returns
    -------
    Group
        Of one process, where the script runs without ``mpiexec``.

    Raises
    ------
    MissingPackageError
        If mpi4py is not installed.

    Notes
    -----
    Who waits for another looks for news of a failure meanwhile: an error on one rank is raised on all, and names the
    rank.  When a process ends after that, or by an error elsewhere, it ends them all (``MPI_Abort``).  Who waits for a
    process whose script has ended without an error, and so made fewer calls, raises ProcessError after some seconds.
    Run scripts by ``python -m mpi4py``, so that an error before this function is called ends all, too.
    """
    with needs("mpi4py", "distributed.mpi"):
        from mpi4py import MPI
    return MPIGroup(MPI, MPI.COMM_WORLD if comm is None else comm)


class MPIGroup(Group):
    """Processes of an MPI communicator."""

    engine = "MPI"

    def __init__(self, module: Any, comm: Any) -> None:
        self._mpi, self.comm = module, comm
        self.engine_version = _name_of(module)
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        self._failed: list[Any] | None = None  # the messages that say so, which must live until they are sent
        if self.size > 1:
            self._alarms = comm.Dup()
            atexit.register(self._end)
            self.announce()

    def sendrecv(self, send: Array, to: int, receive: Array, source: int) -> None:
        came = self.comm.Irecv(receive, source)
        self._wait([came, self.comm.Isend(send, to)], {source, to})

    def allgather(self, mine: Array, everyone: Array) -> None:
        self._wait([self.comm.Iallgather(mine, everyone)], {self._mpi.ANY_SOURCE})

    def _wait(self, requests: list[Any], whom: Iterable[int]) -> None:
        looks, began = 0, time.monotonic()
        try:
            while not self._mpi.Request.Testall(requests):
                looks += 1
                if looks > _BUSY:
                    time.sleep(0.0 if looks < _YIELDING else _NAP)
                if looks % 64 == 0:
                    self._look()
                    began = self._look_for_the_ended(whom, began)
        except self._mpi.Exception as error:
            self._failed = self._failed or []
            named = " or ".join("any" if rank == self._mpi.ANY_SOURCE else str(rank) for rank in sorted(whom))
            raise ProcessError(
                f"MPI: expected to hear of rank {named}, got: {error}. Go on from the last checkpoint."
            ) from error

    def _look_for_the_ended(self, whom: Iterable[int], began: float) -> float:
        """Raise ProcessError if a process that is waited for has ended for some time; return since when none has."""
        status = self._mpi.Status()
        if not any(self._alarms.Iprobe(rank, _ENDED, status) for rank in whom):
            return time.monotonic()
        if time.monotonic() - began > _ON_ITS_WAY:
            self._failed = self._failed or []
            raise ProcessError(
                f"MPI: rank {status.Get_source()} of {self.size} has ended, while rank {self.rank} waits for it. Let "
                "all processes make the same calls, in the same order."
            )
        return began

    def _look(self) -> None:
        """Raise ProcessError if another process has said that it failed."""
        status = self._mpi.Status()
        if self._alarms.Iprobe(self._mpi.ANY_SOURCE, _ALARM, status):
            text = np.zeros(status.Get_count(self._mpi.BYTE), np.uint8)
            self._alarms.Recv([text, self._mpi.BYTE], status.Get_source(), _ALARM)
            self._failed = self._failed or []
            reason = text.tobytes().decode(errors="replace")
            raise ProcessError(f"MPI: rank {status.Get_source()} of {self.size} has failed: {reason} {GO_ON}")

    def fail(self, reason: str) -> None:
        if self._failed is not None or self.size == 1:
            return
        text = np.frombuffer(reason.encode()[:2000] or b"?", np.uint8)
        self._failed = [text]
        for rank in set(range(self.size)) - {self.rank}:
            self._failed.append(self._alarms.Isend([text, self._mpi.BYTE], rank, _ALARM))

    def _end(self) -> None:
        """End all processes, where one has failed: those that wait for it would wait for ever."""
        if self._mpi.Is_finalized():
            return
        error = getattr(sys, "last_value", None)  # which nobody has caught
        if error is not None:
            self.fail(words_of(error))
        with contextlib.suppress(self._mpi.Exception):
            if self._failed is None:
                self._leave(float("inf"))  # as MPI does at the end
                return
            self._mpi.Request.Testall(self._failed[1:])
            self._leave(_LAST_WORDS)
            self.comm.Abort(self.exit_status)

    def _leave(self, seconds: float) -> None:
        """Say that the script of this process has ended, and wait for those of the others."""
        others, nothing = set(range(self.size)) - {self.rank}, np.zeros(0, np.uint8)
        messages = [self._alarms.Irecv([nothing, self._mpi.BYTE], rank, _ENDED) for rank in others]
        messages += [self._alarms.Isend([nothing, self._mpi.BYTE], rank, _ENDED) for rank in others]
        end = time.monotonic() + seconds
        while not self._mpi.Request.Testall(messages) and time.monotonic() < end:
            time.sleep(_LONG_NAP)


def _name_of(module: Any) -> str:
    """Return the MPI library and the version of mpi4py."""
    name, version = module.get_vendor()
    return f"{name} {'.'.join(map(str, version))}, mpi4py {importlib.metadata.version('mpi4py')}"
