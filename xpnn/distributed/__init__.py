"""Training on many processes, with the bits of one.

An engine (MPI, gloo, NCCL) moves bytes; the adding is done here, in one fixed tree over a fixed number of *shards*, so
that the number of processes changes the time and nothing else.  No engine is imported unless it is asked for.
"""

from types import ModuleType

from .check import GroupReport, check_group
from .group import Alone, Group, agree, together
from .launch import command, launched
from .mpi import mpi
from .nccl import nccl
from .shards import ArrayShards, Part, ShardedRows
from .sockets import sockets
from .sources import FrameShards, TableShards, encoded, fit_encoder, fit_target, npy, parquet
from .torch import torch
from .tree import Tree

#: Training on a Dask cluster: `xpnn.engines.dask`, which stands above trainers and estimators, so the package sets it.
dask: ModuleType

__all__ = [
    "Alone",
    "ArrayShards",
    "FrameShards",
    "Group",
    "GroupReport",
    "Part",
    "ShardedRows",
    "TableShards",
    "Tree",
    "agree",
    "check_group",
    "command",
    "encoded",
    "fit_encoder",
    "fit_target",
    "launched",
    "mpi",
    "nccl",
    "npy",
    "parquet",
    "sockets",
    "together",
    "torch",
]
