"""Where the loops behind NumPy's functions lie in memory.

A function such as `numpy.exp` finds, for each call, the loop for its arguments' dtypes, and hands it plain addresses:
``void loop(char **args, npy_intp *dimensions, npy_intp *steps, void *data)``, as NumPy's C API documents for
``PyUFuncObject``.  Whoever calls that loop gets the function's very bits.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any, ClassVar, NamedTuple

import numpy as np

from .support import numpy_objection

__all__ = ["InnerLoop", "inner_loop", "most_at_once"]


_BUFFERED = np.lib.NumpyVersion(np.__version__) < "2.3.0"
_ADDRESS = 8  # bytes; whoever calls these loops counts on it


class InnerLoop(NamedTuple):
    """A loop of a NumPy function."""

    #: Of the function.
    name: str
    #: Where it lies, and what it wants as its last argument.
    address: int
    data: int
    #: Of its output.
    dtype: np.dtype[Any]


class _UFunc(ctypes.Structure):
    """``PyUFuncObject``, as far as it is needed."""

    _fields_: ClassVar = [
        ("head", ctypes.c_char * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved1", ctypes.c_int),
        ("name", ctypes.c_char_p),
        ("types", ctypes.POINTER(ctypes.c_char)),
    ]


@functools.cache
def inner_loop(ufunc: np.ufunc, dtypes: tuple[np.dtype[Any], ...]) -> InnerLoop | None:
    """Return the loop of a NumPy function for the dtypes of its arguments, outputs included.

    None where it has none for just these, where functions of this NumPy lie otherwise in memory, or where nobody has
    tried whether they do (`xpnn.accel.native.support`).
    """
    if np.intp(0).itemsize != _ADDRESS or numpy_objection() is not None:
        return None
    found = _UFunc.from_address(id(ufunc))
    counts = found.nin, found.nout, found.nargs, found.ntypes
    if counts != (ufunc.nin, ufunc.nout, ufunc.nargs, ufunc.ntypes) or found.name != ufunc.__name__.encode():
        return None
    if not all(dtype.isnative and dtype.num < 256 for dtype in dtypes):
        return None
    n, wanted = ufunc.nargs, bytes(dtype.num for dtype in dtypes)
    for k in range(ufunc.ntypes):
        address = found.functions[k]
        if found.types[k * n : (k + 1) * n] == wanted and address:
            return InnerLoop(ufunc.__name__, address, (found.data[k] if found.data else None) or 0, dtypes[-1])
    return None


def most_at_once(count: int) -> int:
    """Return how many of `count` numbers that follow each other a reduction takes in one call of its loop.

    All; but before 2.3 NumPy reduced what fits its buffer, then what comes next.
    """
    return min(count, np.getbufsize()) if _BUFFERED else count
