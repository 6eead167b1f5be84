"""Array libraries as a value.

A `Backend` says which library, device and floating type a network lives on.  It is passed explicitly: nothing
is chosen at import, there is no global, and no library but NumPy is imported before somebody asks for it.
"""

from __future__ import annotations

from .interop import namespace, on_device, ops_of, to_numpy
from .probe import available_backends
from .value import Backend, backend_of, get_backend, like

__all__ = [
    "Backend",
    "available_backends",
    "backend_of",
    "get_backend",
    "like",
    "namespace",
    "on_device",
    "ops_of",
    "to_numpy",
]
