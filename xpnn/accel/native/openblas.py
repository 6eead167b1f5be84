"""OpenBLAS, NumPy's usual library of matrix products: its version, and the number of its threads.

Where NumPy has other products (MKL, Accelerate), or an OpenBLAS over OpenMP, whose number of threads belongs to each
thread, nothing is found, and products are made as NumPy makes them.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Any, NamedTuple

__all__ = ["NO_POOL", "OpenBLAS", "Pool", "find_openblas", "openblas_kernel", "openblas_version"]

#: Threads for loops and products, as addresses of two functions: one that runs a function on them, as OpenBLAS's own
#: ``int run(int parts, void (*f)(void *), void *jobs, int size_of_a_job)`` does, and one that tells how many they are.
Pool = tuple[int, int]
NO_POOL: Pool = (0, 0)

# As NumPy's own wheels name its functions, and others.
_NAMES = tuple((prefix, suffix) for prefix in ("scipy_", "") for suffix in ("64_", ""))
_OPENMP = 2  # what `openblas_get_parallel` returns


class OpenBLAS(NamedTuple):
    """The two functions that tell and set on how many threads products are made, in the whole process."""

    count: Any
    set_count: Any

    @property
    def counting(self) -> int:
        """The address of the first."""
        return ctypes.cast(self.count, ctypes.c_void_p).value or 0


def _library() -> Any:
    # A library finds the symbols of those that it was linked to.
    return ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)


def _function(library: Any, name: str) -> Any:
    names = [f"{prefix}{name}{suffix}" for prefix, suffix in _NAMES]
    return next((library[full] for full in names if hasattr(library, full)), None)


def _told(name: str) -> str:
    """Return the text that a function without arguments tells; nothing where there is none such."""
    try:
        function = _function(_library(), name)
    except (OSError, ImportError):
        return ""
    if function is None:
        return ""
    function.restype = ctypes.c_char_p
    return (function() or b"").decode()


def openblas_version() -> str | None:
    """Return the version of NumPy's OpenBLAS, such as ``"0.3.30"``; None where its products are another library's."""
    words = _told("openblas_get_config").split()  # OpenBLAS 0.3.30 DYNAMIC_ARCH ...
    return words[1] if len(words) > 1 else None


def openblas_kernel() -> str | None:
    """Return the name of the kernels that OpenBLAS has chosen for this processor, such as ``"SkylakeX"``."""
    return _told("openblas_get_corename") or None


@functools.cache
def find_openblas() -> OpenBLAS | None:
    """Return the functions of NumPy's OpenBLAS, or None where the number of its threads cannot be set for all."""
    try:
        library = _library()
        found = [_function(library, f"openblas_{name}") for name in ("get_num_threads", "set_num_threads")]
        parallel = _function(library, "openblas_get_parallel")
    except (OSError, ImportError):
        return None
    if not all(found) or (parallel is not None and parallel() == _OPENMP):
        return None
    count, set_count = (ctypes.cast(f, ctypes.c_void_p).value for f in found)
    # They take no time, so Python's lock is kept meanwhile.
    return OpenBLAS(ctypes.PYFUNCTYPE(ctypes.c_int)(count or 0), ctypes.PYFUNCTYPE(None, ctypes.c_int)(set_count or 0))
