"""Fixtures of operations: NumPy's and compiled ones, with and without threads, and those of a fake CuPy."""

from __future__ import annotations

import ctypes
import importlib

import numpy as np
import pytest
from fake_cublaslt import fixture_lt  # noqa: F401, a fixture
from fake_cupy import fixture_ops  # noqa: F401, a fixture
from fake_pool import IMITATED

from xpnn.accel import NumpyOps
from xpnn.accel.native import support
from xpnn.accel.native.openblas import NO_POOL
from xpnn.accel.native.turns import ONE_THREAD


@pytest.fixture(scope="session")
def loops():
    pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")
    if objection := support.numba_objection():
        pytest.skip(objection)
    return importlib.import_module("xpnn.accel.native.loops")


@pytest.fixture(scope="session")
def spread(loops):
    return importlib.import_module("xpnn.accel.native.threads")


@pytest.fixture
def pool(loops):
    """Threads of xpnn's own, two of them whatever the environment says."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    with limits(2, user_api="blas"):
        found = support.find_pool()
        if found == NO_POOL:
            pytest.skip(f"no threads to run on: {support.openblas_objection() or 'NumPy has products of its own'}")
        assert ctypes.CFUNCTYPE(ctypes.c_int)(found[1])() == 2
        yield found


@pytest.fixture(params=["numpy", "numba", "numba in 7 parts", "numba on threads"])
def fast(request):
    """The twins, with NumPy's passes and with compiled loops; as in a fit, OpenBLAS is on one thread."""
    ops = NumpyOps(np, "cpu")
    if request.param != "numpy":
        ops._loops = request.getfixturevalue("loops")
    if request.param == "numba in 7 parts":
        ops._pool = IMITATED
    elif request.param == "numba on threads":
        ops._pool = request.getfixturevalue("pool")
    with ONE_THREAD:
        yield ops
