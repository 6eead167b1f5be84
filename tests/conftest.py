"""Fixtures that all tests share: array libraries, the guard against host syncs, and the folder of MNIST."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import hypothesis
import pytest
from browser import browser  # noqa: F401, a fixture
from fake_cupy import fixture_cupy, fixture_host_kernels, fixture_on_gpu, fixture_order, fixture_together  # noqa: F401, fixtures
from places import PLACES, PROJECT, backend_or_skip, strict_flags

import xpnn

# Equal runs everywhere: a failure on one machine is a failure on all, and prints how to repeat it.
hypothesis.settings.register_profile("xpnn", deadline=None, derandomize=True, print_blob=True, database=None)
hypothesis.settings.load_profile("xpnn")


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
def no_pictures(monkeypatch):
    """Drawing takes longer than training small networks."""
    monkeypatch.setattr("xpnn.cli.results._pictures", lambda *args: [])


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
    folder = Path(os.environ.get("XPNN_DATA") or PROJECT.parent.joinpath("shared", "data", "mnist")).expanduser()
    if not any(folder.glob("train-images*idx3-ubyte*")):
        pytest.skip("MNIST is not on this machine: set XPNN_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def tabular_dir():
    """The folder with California housing and Adult, or a visible skip."""
    found = os.environ.get("XPNN_TABULAR") or PROJECT.parent.joinpath("shared", "data", "tabular")
    if not Path(found, "california_housing.csv").is_file():
        pytest.skip("the real tables are not on this machine: set XPNN_TABULAR to the folder that holds them")
    return Path(found)
