"""OpenBLAS, NumPy's usual library of matrix products: its version, and its threads.

OpenBLAS keeps its threads awake between products.  A thread pool beside it has to fight them for the cores, and loses
more than it wins.  But its `gotoblas_pthread` runs any function on them, hands work out faster than NumPy adds two
short rows, and obeys the number of threads that the user has set.  It is not documented, so it is called only in
versions with which that was tried (`xpnn.accel.native.support`).  Where NumPy has other products (MKL, Accelerate,
OpenBLAS over OpenMP) there is no such function, and loops run on one thread.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

__all__ = ["NO_POOL", "Pool", "openblas_version", "thread_count", "threads_of_products"]

#: Addresses of two functions of the library: one that runs a function on its threads, one that tells how many they are.
Pool = tuple[int, int]
NO_POOL: Pool = (0, 0)

# As NumPy's own wheels name its functions, and others.
_NAMES = tuple((prefix, suffix) for prefix in ("scipy_", "") for suffix in ("64_", ""))


def _library() -> Any:
    # A library finds the symbols of those that it was linked to.
    return ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)


def _function(library: Any, name: str) -> Any:
    names = [f"{prefix}{name}{suffix}" for prefix, suffix in _NAMES]
    return next((library[full] for full in names if hasattr(library, full)), None)


def openblas_version() -> str | None:
    """Return the version of NumPy's OpenBLAS, such as ``"0.3.30"``; None where its products are another library's."""
    try:
        config = _function(_library(), "openblas_get_config")
    except (OSError, ImportError):
        return None
    if config is None:
        return None
    config.restype = ctypes.c_char_p
    words = (config() or b"").decode().split()  # OpenBLAS 0.3.30 DYNAMIC_ARCH ...
    return words[1] if len(words) > 1 else None


def threads_of_products() -> Pool:
    """Return the threads of NumPy's matrix products, of whatever version, or `NO_POOL` where they cannot be had."""
    try:
        library = _library()
        run, count = library.gotoblas_pthread, _function(library, "openblas_get_num_threads")
    except (OSError, ImportError, AttributeError):
        return NO_POOL
    found = tuple(0 if f is None else ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (run, count))
    return (found[0], found[1]) if all(found) else NO_POOL


def thread_count(pool: Pool) -> int:
    """Return how many threads a pool has now: the user may limit them at any time."""
    return 1 if pool == NO_POOL else int(ctypes.CFUNCTYPE(ctypes.c_int)(pool[1])())
