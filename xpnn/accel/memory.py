"""Memory that is freed and asked for again, step after step."""

from __future__ import annotations

import ctypes
import functools
import sys

__all__ = ["keep_freed_memory", "return_freed_memory"]

# The largest block that glibc learns from, 32 MiB, less what stands around it.
_LARGEST = (32 << 20) - (1 << 16)


@functools.cache
def keep_freed_memory() -> None:
    """Let the allocator keep what is freed for the next array as large, up to 64 MiB, once a process.

    glibc maps large blocks anew each time, and the system clears every page of them: of a step with arrays of a MiB
    that is a third of the time or more.  Of blocks no larger than one that was freed before it keeps what is freed, so
    one is freed here; nothing is written to it, so it takes no memory.  Other allocators stay as they are.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
        libc.free(libc.malloc(_LARGEST))


def return_freed_memory() -> None:
    """Let the allocator give back to the system what lies freed between arrays that are in use; glibc keeps it else."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries for C have none
        if trim is not None:
            trim(ctypes.c_size_t(0))
