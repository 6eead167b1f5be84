"""Starting processes, and finding out who started this one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import MissingPackageError
from .group import Group
from .mpi import mpi
from .torch import torch

__all__ = ["command", "launched"]

# By what a launcher tells the processes that it starts how many there are.
_MPI = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE", "MPI_LOCALNRANKS")
_TORCH = "TORCHELASTIC_RUN_ID"


def launched(environment: Mapping[str, str] | None = None) -> Group | None:
    """Return the group of processes that a launcher has started, ``mpiexec`` or ``torchrun``; None if there is none.

    A single process that was started so is no group.

    Examples
    --------
    >>> launched({}) is None
    True
    """
    environment = os.environ if environment is None else environment
    if _TORCH in environment and int(environment.get("WORLD_SIZE", "1")) > 1:
        return torch()
    if any(int(environment.get(name, "1")) > 1 for name in _MPI):
        return mpi()
    return None


def command(processes: int, arguments: Sequence[str], where: str) -> list[str]:
    """Return the command that starts Python with these arguments so many times on this machine.

    It is ``mpiexec`` where there is one and mpi4py is installed, else ``torchrun``.

    Raises
    ------
    MissingPackageError
        If there is neither.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is not None and importlib.util.find_spec("mpi4py") is not None:
        return [mpiexec, "-n", str(processes), sys.executable, *arguments]
    if importlib.util.find_spec("torch") is not None:
        runner = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        return [*runner, *arguments]
    raise MissingPackageError(f"{where}: needs mpi4py with an MPI, or PyTorch. Run: pip install 'xpnn[mpi]'")
