"""Training on many processes, with the bits of one.

An engine (MPI, gloo, NCCL) moves bytes; the adding is done here, in one fixed tree over a fixed number of *shards*, so
that the number of processes changes the time and nothing else.  No engine is imported unless it is asked for.
"""

from .check import GroupReport, check_group
from .group import Alone, Group, agree, together
from .launch import command, launched
from .mpi import mpi
from .nccl import nccl
from .shards import ArrayShards, Part, ShardedRows
from .torch import torch
from .tree import Tree

__all__ = [
    "Alone",
    "ArrayShards",
    "Group",
    "GroupReport",
    "Part",
    "ShardedRows",
    "Tree",
    "agree",
    "check_group",
    "command",
    "launched",
    "mpi",
    "nccl",
    "together",
    "torch",
]
