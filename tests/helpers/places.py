"""Where tests run: the array libraries, the project's folder, and how results from several places are compared."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

import xpnn
from xpnn.backend import Backend
from xpnn.errors import BackendUnavailableError

PROJECT = Path(__file__).resolve().parents[2]

PLACES = {
    "numpy": ("numpy", "", False),
    "numpy-readonly": ("numpy", "", True),
    "strict-device1": ("strict:device1", "array-api-strict: pip install array-api-strict", False),
    "strict-no_float64": ("strict:no_float64", "array-api-strict: pip install 'array-api-strict>=2.6.1'", False),
    "torch": ("torch:cpu", "torch: pip install torch", False),
    "cupy": ("cupy", "CuPy and a GPU: pip install 'xpnn[cuda13]'", False),
}


def backend_or_skip(spec: str, dtype: str | None = None) -> Backend:
    """Return a backend, or skip the test and say what it would take."""
    need = next((need for place, need, _ in PLACES.values() if place.partition(":")[0] == spec.partition(":")[0]), spec)
    try:
        return xpnn.get_backend(spec, dtype)
    except BackendUnavailableError:
        pytest.skip(f"needs {need}")


@contextlib.contextmanager
def strict_flags(backend: Backend):
    """Forbid what some libraries cannot do without waiting for the device: shapes that depend on values."""
    if backend.name != "strict":
        yield
        return
    with backend.xp.ArrayAPIStrictFlags(api_version="2024.12", boolean_indexing=False, data_dependent_shapes=False):
        yield


def assert_close(actual, expected, rtol, atol=0.0):
    """Compare arrays of any libraries, element by element, against the largest expected element."""
    actual, expected = (np.asarray(xpnn.to_numpy(a), dtype=np.float64) for a in (actual, expected))
    assert actual.shape == expected.shape
    scale = float(np.abs(expected).max()) if expected.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale + atol)
