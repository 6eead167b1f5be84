"""Which operations a backend has: portable ones or faster twins, and how those are set."""

from __future__ import annotations

import importlib
from typing import Any, Literal, NamedTuple

import numpy as np

from .._typing import Device, Namespace
from ..accel import NumpyOps
from ..accel.half import HALVES, with_half_products
from ..accel.native.support import Compiled
from ..errors import OptionError
from ..ops import Ops, portable_ops

__all__ = ["CUDA_OPS", "Options", "make_ops", "options_of"]


class Options(NamedTuple):
    """What `get_backend` takes of operations."""

    ops: Literal["fast", "portable"] = "fast"
    tf32: bool = False
    persistent: bool = False
    compiled: Compiled = "auto"

    def check(self, name: str, dtype: str) -> None:
        """Raise OptionError where a library, a dtype or portable operations have no such thing."""
        if self.tf32 and (name, dtype, self.ops) != ("cupy", "float32", "fast"):
            raise OptionError(
                "get_backend: tf32=True rounds the products of float32 on an NVIDIA GPU: expected cupy, float32 and "
                f"fast operations, got {name}, {dtype} and {self.ops} ones. Leave tf32 away."
            )
        if self.persistent and (name, dtype, self.ops) != ("cupy", "float32", "fast"):
            raise OptionError(
                "get_backend: persistent=True trains by one kernel on an NVIDIA GPU: expected cupy, float32 and fast "
                f"operations, got {name}, {dtype} and {self.ops} ones. Leave persistent away."
            )
        if self.compiled is True and (name, self.ops) != ("numpy", "fast"):
            raise OptionError(
                "get_backend: compiled=True takes loops compiled for NumPy: expected numpy and fast operations, "
                f"got {name} and {self.ops} ones. Leave compiled away."
            )


def options_of(ops: Ops) -> Options:
    """Return the options that make operations like these."""
    kind: Literal["fast", "portable"] = "portable" if ops.name == "portable" else "fast"
    tf32, persistent = (bool(getattr(ops, name, False)) for name in ("tf32", "persistent"))
    return Options(kind, tf32, persistent, getattr(ops, "setting", "auto"))


def make_ops(name: str, xp: Namespace, device: Device, dtype: str, options: Options) -> Ops:
    """Return the operations of a namespace: faster ones where they are asked for and there are some.

    Those of NumPy are made anew each time, for what a fit finds out holds for the networks of its backend alone.
    """
    found = portable_ops(xp, device)
    if options.ops == "fast" and xp is np:
        found = NumpyOps(xp, device, options.compiled)
    elif options.ops == "fast" and getattr(xp, "__name__", "") == "array_api_compat.cupy":
        found = _cuda_ops(xp, device, options)
    return with_half_products(found, name, dtype) if dtype in HALVES else found


#: The CUDA kernels of each device, which are compiled once.
CUDA_OPS: dict[tuple[Namespace, str, bool, bool], Any] = {}


def _cuda_ops(xp: Namespace, device: Device, options: Options) -> Ops:
    """Return the CUDA kernels of a device; TF32 is tried at once, for it must not be left out silently."""
    key = xp, str(device), options.tf32, options.persistent
    if key not in CUDA_OPS:
        # imported here, for it takes a while and is of no use without a GPU
        kind = importlib.import_module("..accel.cuda.cupy_ops", __package__).CupyOps
        ops = kind(xp, device, tf32=options.tf32, persistent=options.persistent)
        if options.tf32:
            with device:
                ops.blas()
        CUDA_OPS.setdefault(key, ops)
    found: Ops = CUDA_OPS[key]
    return found
