"""Array libraries as a value.

A `Backend` says which library, device and floating type a network lives on.  It is passed explicitly: nothing
is chosen at import, there is no global, and no library but NumPy is imported before somebody asks for it.
"""

from __future__ import annotations

from typing import Any

from .interop import namespace, on_device, on_its_device, ops_of, to_numpy
from .probe import available_backends
from .value import Backend, backend_of, by_slices, get_backend, like

__all__ = [
    "Backend",
    "available_backends",
    "backend_of",
    "by_slices",
    "get_backend",
    "like",
    "namespace",
    "on_device",
    "on_its_device",
    "ops_of",
    "to_numpy",
]


def _again(spec: str, dtype: str, ops: Any, tf32: bool = False) -> Backend:
    """Return the backend of a pickle from before this was a package, which knows it by this name."""
    return get_backend(spec, dtype, ops=ops, tf32=tf32)
