"""A CuPy that fails at a stage of its probing."""

from __future__ import annotations

import contextlib
import importlib.machinery
import sys
import types

import numpy as np


class CUDARuntimeError(RuntimeError):
    """As CuPy names it."""


class GPUArray:
    """An array whose products or copies may fail."""

    def __init__(self, no_cublas=None):
        self.no_cublas = no_cublas

    def __add__(self, other):
        return self

    def __matmul__(self, other):
        if self.no_cublas:
            raise self.no_cublas
        return self

    def get(self):
        return np.zeros((2, 2))


def install_fake_cupy(monkeypatch, *, count=1, no_driver=None, no_nvrtc=None, no_cublas=None):
    """Put a module in CuPy's place that gets as far as the options let it."""

    def device_count():
        if no_driver:
            raise no_driver
        return count

    def zeros(shape, dtype):
        if no_nvrtc:
            raise no_nvrtc
        return GPUArray(no_cublas)

    fake = types.ModuleType("cupy")
    fake.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=device_count)
    fake.cuda = types.SimpleNamespace(runtime=runtime, Device=lambda index: contextlib.nullcontext())
    fake.zeros = zeros
    monkeypatch.setitem(sys.modules, "cupy", fake)
