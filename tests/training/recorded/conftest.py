"""Fixtures of recorded steps: a device whose work can be recorded, and NumPy with compiled loops."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
import taped

import xpnn
from xpnn.accel import NumpyOps
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
    ops = NumpyOps(np, "cpu")
    ops._considered, ops._loops = True, importlib.import_module("xpnn.accel.native.loops")
    return dataclasses.replace(xpnn.get_backend("numpy"), ops=ops)
