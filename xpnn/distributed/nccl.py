"""A group of GPUs over NCCL, by ``cupy.cuda.nccl``: arrays never leave the devices."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array
from ..errors import BackendUnavailableError, OptionError, ProcessError
from ..optional import needs
from .group import GO_ON, Group

__all__ = ["NCCLGroup", "nccl"]

# NCCL's numbers of element types, by NumPy's names.
_TYPES = {
    **{"int8": 0, "uint8": 1, "int32": 2, "uint32": 3, "int64": 4, "uint64": 5},
    **{"float16": 6, "float32": 7, "float64": 8},
}


def nccl(via: Group) -> Group:
    """Return a group of GPUs, one for each process of another group, over which what is said still goes.

    Parameters
    ----------
    via : Group
        From `mpi` or `torch`: it carries NCCL's id, text, and arrays of the host.  Make the device of each process
        current before, for instance by ``CUDA_VISIBLE_DEVICES`` or ``cupy.cuda.Device(n).use()``.

    Returns
    -------
    Group
        For networks on the backend ``cupy``.

    Raises
    ------
    OptionError
        If `via` is no group of processes with arrays of the host.
    MissingPackageError, BackendUnavailableError
        If CuPy, or its NCCL, is not there.

    Notes
    -----
    Its logic was tested with a stand-in for NCCL.  It has not run on several GPUs.
    """
    if not isinstance(via, Group) or via.on_device:
        raise OptionError(
            f"distributed.nccl: expected a group such as xpnn.distributed.mpi() to send NCCL's id over, got {via!r}. "
            "Pass via=xpnn.distributed.mpi()."
        )
    with needs("cupy", "distributed.nccl"):
        import cupy
    try:
        from cupy.cuda import nccl as library
    except ImportError as error:
        raise BackendUnavailableError(
            f"distributed.nccl: needs a CuPy with NCCL ({error}). Run: pip install nvidia-nccl-cu13"
        ) from error
    return NCCLGroup(cupy, library, via)


class NCCLGroup(Group):
    """GPUs of a communicator of NCCL; all its calls go to CuPy's current stream."""

    engine = "NCCL"
    on_device = True

    def __init__(self, cupy: Any, library: Any, via: Group) -> None:
        self._cupy, self._nccl, self._via = cupy, library, via
        self.rank, self.size = via.rank, via.size
        unique = list(library.get_unique_id()) if via.rank == 0 else None
        # An id is 128 bytes, which CuPy has as a tuple of signed characters.
        self._communicator = library.NcclCommunicator(via.size, tuple(via.broadcast(unique)), via.rank)

    def _of(self, array: Array) -> tuple[int, int, int, int]:
        """Return address, number of elements, their type and the stream, as NCCL takes them."""
        name = np.dtype(array.dtype).name
        if name not in _TYPES or not array.flags.c_contiguous:
            raise OptionError(
                f"NCCL: expected a contiguous array of numbers, got {name} of shape {tuple(array.shape)}. "
                "Make it contiguous, and float32 or float64."
            )
        return array.data.ptr, array.size, _TYPES[name], self._cupy.cuda.get_current_stream().ptr

    def sendrecv(self, send: Array, to: int, receive: Array, source: int) -> None:
        sent, came = self._of(send), self._of(receive)
        try:
            self._nccl.groupStart()
            self._communicator.send(*sent[:3], to, sent[3])
            self._communicator.recv(*came[:3], source, came[3])
            self._nccl.groupEnd()
        except self._nccl.NcclError as error:
            raise ProcessError(f"NCCL: expected to hear of rank {source}, got: {error}. {GO_ON}") from error

    def allgather(self, mine: Array, everyone: Array) -> None:
        address, n, kind, stream = self._of(mine)
        try:
            self._communicator.allGather(address, self._of(everyone)[0], n, kind, stream)
        except self._nccl.NcclError as error:
            raise ProcessError(f"NCCL: expected to hear of all ranks, got: {error}. {GO_ON}") from error

    def allgather_host(self, mine: np.ndarray, everyone: np.ndarray) -> None:
        self._via.allgather_host(mine, everyone)

    def fail(self, reason: str) -> None:
        """Tell the others, and give up what NCCL waits for."""
        self._via.fail(reason)
        self._communicator.abort()
