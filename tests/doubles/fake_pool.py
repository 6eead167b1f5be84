"""A pool of threads that does a job's parts itself, one after the other and the last one first."""

from __future__ import annotations

import ctypes

JOB = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
def run_backwards(parts, function, jobs, size):
    """What a pool's `run` does, one job after the other and the last one first."""
    for k in reversed(range(parts)):
        JOB(function)(jobs + k * size)
    handed_out.append(parts)
    return 0


@ctypes.CFUNCTYPE(ctypes.c_int)
def seven():
    return 7


handed_out: list[int] = []


IMITATED = tuple(ctypes.cast(f, ctypes.c_void_p).value for f in (run_backwards, seven))
