"""Fixtures of recorded steps: a device whose work can be recorded, and NumPy with compiled loops."""

from __future__ import annotations

import pytest
import taped

import xpnn
from xpnn.accel.native import support
from xpnn.training.recorded import graphs


@pytest.fixture(name="device")
def fixture_device(monkeypatch):
    """The fake device, with stages of three steps."""
    monkeypatch.setattr(graphs, "_STEPS", 3)
    return taped.make_backend(monkeypatch)


@pytest.fixture(scope="session")
def compiled():
    """NumPy with compiled loops."""
    pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")
    if objection := support.numba_objection() or support.numpy_objection():
        pytest.skip(objection)
    return xpnn.get_backend("numpy", compiled=True)
