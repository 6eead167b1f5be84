"""Fixtures that all tests share: array libraries, the guard against host syncs, and the folder of MNIST."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from browser import browser  # noqa: F401

import xpnn
from xpnn.backend import Backend
from xpnn.errors import BackendUnavailableError

# Equal runs everywhere: a failure on one machine is a failure on all, and prints how to repeat it.
hypothesis.settings.register_profile("xpnn", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.load_profile("xpnn")

# id: (spec of the backend, what to install, whether inputs are made read-only)
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


@pytest.fixture(params=list(PLACES))
def backend(request):
    """Each array library in turn, in float32 (`backend.with_dtype("float64")` where the device has it)."""
    found = backend_or_skip(PLACES[request.param][0])
    if request.param == "numpy-readonly":  # and the portable operations, for which NumPy has faster twins
        found = xpnn.get_backend(found, ops="portable")
    with strict_flags(found):
        yield found


@pytest.fixture
def given(request, backend):
    """Bring a test's data to the backend; under ``numpy-readonly`` writing to them is an error."""
    read_only = PLACES[request.node.callspec.params["backend"]][2]

    def bring(a, dtype=None):
        array = backend.copy(a, dtype=dtype)
        if read_only:
            array.flags.writeable = False
        return array

    return bring


@pytest.fixture
def no_host_sync():
    """Return a context in which array-api-strict arrays refuse to become Python or NumPy values.

    On a GPU each such conversion waits for all work in flight; strict itself lets them pass.
    """
    strict = pytest.importorskip("array_api_strict", reason="needs array-api-strict: pip install array-api-strict")
    kind = type(strict.empty(0))
    ways = ("bool", "int", "float", "complex", "index", "array", "buffer", "dlpack")

    @contextlib.contextmanager
    def guard():
        with pytest.MonkeyPatch.context() as patch:
            for way in ways:

                def refuse(*args, _way=way, **options):
                    raise AssertionError(f"the host waits for the device through __{_way}__")

                patch.setattr(kind, f"__{way}__", refuse, raising=False)
            yield

    return guard


@pytest.fixture(scope="session")
def mnist_dir():
    """The folder with the four IDX files of MNIST, or a visible skip."""
    project = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("XPNN_DATA") or project.parent.joinpath("shared", "data", "mnist")).expanduser()
    if not any(folder.glob("train-images*idx3-ubyte*")):
        pytest.skip("MNIST is not on this machine: set XPNN_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def tabular_dir():
    """The folder with California housing and Adult, or a visible skip."""
    found = os.environ.get("XPNN_TABULAR") or Path(__file__).resolve().parents[2].joinpath("shared", "data", "tabular")
    if not Path(found, "california_housing.csv").is_file():
        pytest.skip("the real tables are not on this machine: set XPNN_TABULAR to the folder that holds them")
    return Path(found)


def assert_close(actual, expected, rtol, atol=0.0):
    """Compare arrays of any libraries, element by element, against the largest expected element."""
    actual, expected = (np.asarray(xpnn.to_numpy(a), dtype=np.float64) for a in (actual, expected))
    assert actual.shape == expected.shape
    scale = float(np.abs(expected).max()) if expected.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rtol * scale + atol)
