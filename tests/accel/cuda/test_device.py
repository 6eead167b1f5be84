"""What CuPy itself does with xpnn's work, on a GPU or on an emulated device: graphs, memory, waits, a second device.

The suite skips these where CuPy has no device; `ci/emulated_cupy.sh` runs them without a GPU.
"""

from __future__ import annotations

import contextlib
import importlib
from collections import Counter

import numpy as np
import pytest
import steps
from places import backend_or_skip
from steps import outcome

import xpnn
from xpnn.accel.cuda.capture import Branch, Capturer
from xpnn.accel.cuda.cublas import Cublas
from xpnn.accel.cuda.gemm_lt import Epilogues
from xpnn.accel.cuda.kernels import Kernels
from xpnn.errors import DataError
from xpnn.training.feed import Feed


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


def test_data_are_checked_with_one_wait(on_cupy):
    """Whether all values are finite was asked slice by slice, which on a GPU waits for each."""
    emulated = emulated_gpu()
    X = on_cupy.asarray(np.ones((3000, 500)))
    y = np.zeros(3000)
    on_cupy.synchronize()
    emulated.clear()
    Feed(on_cupy, X, y)
    assert emulated.counts()["d2h"] == 2  # one answer for the inputs, one for the targets
    for bad in (np.nan, np.inf, -np.inf):
        X[2999, 499] = bad
        with pytest.raises(DataError, match="expected finite float32 numbers in X, got 1 that are not"):
            Feed(on_cupy, X, y)


@pytest.mark.parametrize("n", [1, 100, 1024, 1025, 5000])
def test_large_arrays_travel_in_slices(n, on_cupy, monkeypatch):
    """Through two buffers, not through page-locked memory of the array's size."""
    cupy = pytest.importorskip("cupy")
    monkeypatch.setattr("xpnn.backend.value.SLICE_BYTES", 0)
    monkeypatch.setattr("xpnn.accel.cuda.upload.SLICE_BYTES", 4096)
    asked = []
    allocate = cupy.cuda.alloc_pinned_memory
    monkeypatch.setattr(cupy.cuda, "alloc_pinned_memory", lambda size: asked.append(size) or allocate(size))
    host = np.arange(3 * n, dtype=np.int64).reshape(n, 3)
    for given in (host, host[:, ::-1], np.asfortranarray(host)):
        found = on_cupy.asarray(given, dtype=on_cupy.xp.float32)
        np.testing.assert_array_equal(xpnn.to_numpy(found), given.astype(np.float32))
        assert found.flags.c_contiguous
    assert 0 < max(asked) <= 4096


class Depths:
    """How long the longest chain of work is that waits for one another, in what a capture holds."""

    def __init__(self, monkeypatch):
        self.depth, self.graphs = Counter(), []
        for kind, name in ((Kernels, "launch"), (Cublas, "_call"), (Epilogues, "_run")):
            monkeypatch.setattr(kind, name, self.counting(getattr(kind, name)))
        waits, joins, record = Branch.beside, Branch.join, Capturer.record

        @contextlib.contextmanager
        def beside(branch, *arrays):
            main = self.stream()
            with waits(branch, *arrays):
                self.depth[self.stream()] = max(self.depth[self.stream()], self.depth[main])
                yield

        def join(branch):
            joins(branch)
            self.depth[self.stream()] = max(self.depth.values())

        def recorded(capturer, run, **options):
            self.depth.clear()
            recording = record(capturer, run, **options)
            self.graphs.append((emulated_gpu().last_graph(), max(self.depth.values())))
            return recording

        monkeypatch.setattr(Branch, "beside", beside)
        monkeypatch.setattr(Branch, "join", join)
        monkeypatch.setattr(Capturer, "record", recorded)

    @staticmethod
    def stream():
        return importlib.import_module("cupy").cuda.get_current_stream().ptr

    def counting(self, method):
        def call(part, *args, **options):
            if "Set" not in str(args[0]):
                self.depth[self.stream()] += 1
            return method(part, *args, **options)

        return call


def emulated_gpu():
    return pytest.importorskip("emulated_gpu", reason="nodes of a graph are listed on the emulated device alone")


def test_a_step_of_the_trainer_is_few_nodes(on_cupy, monkeypatch):
    """784-256-128-10 at batch 128, with the default metrics: loss, scaling, tally and accuracy are one kernel.

    Gradients of weights run beside the rest, and none of the nodes is a copy.
    """
    emulated_gpu()
    monkeypatch.setattr("xpnn.training.recorded.graphs._STEPS", 4)
    found = Depths(monkeypatch)
    X, y = steps.data(n_out=10, n=12 * 128, n_in=784)
    trainer = xpnn.Trainer(xpnn.mlp([784, 256, 128, 10], backend=on_cupy), xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(X, y, epochs=1, batch_size=128, graph=True)
    nodes, depth = found.graphs[0]
    assert Counter(nodes) == {
        "matmul with epilogue": 4 * 4,  # three layers forwards, and the gradients of the last one's weight and bias
        "gemm": 4 * 4,
        "relu_backward": 4 * 2,
        "cross_entropy_step": 4,
        "adam": 4,
    }
    assert depth == 4 * 10
