"""What CuPy itself does with xpnn's work, on a GPU or on an emulated device: graphs, memory, waits, a second device.

The suite skips these where CuPy has no device; `ci/emulated_cupy.sh` runs them without a GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import steps
from places import backend_or_skip
from steps import outcome

import xpnn


@pytest.fixture
def on_cupy():
    """CuPy's first device, as a backend."""
    backend = backend_or_skip("cupy")
    with backend.active():
        yield backend


@pytest.mark.parametrize("case", [case for case in steps.CASES if case.graph], ids=str)
def test_cupy_records_every_case(case, on_cupy, monkeypatch, recwarn):
    """Layers, losses, rules and options whose steps can be recorded are, by CuPy, with equal bits."""
    monkeypatch.setattr("xpnn.training.recorded.graphs._STEPS", 4)
    recorded = outcome(case.train(on_cupy, graph=True))
    assert [str(w.message) for w in recwarn if "launched one by one" in str(w.message)] == []
    assert recorded == outcome(case.train(on_cupy, graph=False))


def test_many_fits_hold_no_more_memory_than_one(on_cupy):
    """On a stream of its own each fit would keep a workspace, and what CuPy keeps for that stream."""
    cupy = pytest.importorskip("cupy")
    X, y = steps.data(n=600)
    held = []
    for _ in range(10):
        trainer = xpnn.Trainer(xpnn.mlp([steps.N_IN, 64, 3], backend=on_cupy), xpnn.CrossEntropy(), xpnn.Adam())
        trainer.fit(X, y, epochs=2, batch_size=8, graph=True)
        del trainer
        free, total = cupy.cuda.Device().mem_info
        held.append(total - free)
    assert max(held) - held[0] < 1 << 16  # blocks of other sizes, as the order of their release has it
