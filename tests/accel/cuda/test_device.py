"""What CuPy itself does with xpnn's work, on a GPU or on an emulated device: graphs, memory, waits, a second device.

The suite skips these where CuPy has no device; `ci/emulated_cupy.sh` runs them without a GPU.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import re
from collections import Counter

import numpy as np
import pytest
import steps
from places import backend_or_skip
from steps import outcome

import xpnn
from xpnn.accel.cuda.capture import Branch, Capturer, Recording
from xpnn.accel.cuda.cublas import Cublas
from xpnn.accel.cuda.gemm_lt import Epilogues
from xpnn.accel.cuda.kernels import Kernels
from xpnn.accel.cuda.persistent import Steps
from xpnn.data import epoch_order
from xpnn.errors import DataError, DeviceMemoryError
from xpnn.training.ahead import Ahead
from xpnn.training.feed import Feed
from xpnn.training.step import Tally


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
        waits, joins, record, mark = Branch.beside, Branch.join, Capturer.record, Branch.mark

        @contextlib.contextmanager
        def beside(branch, marked, *arrays):
            event, depth = marked
            with waits(branch, event, *arrays):
                self.depth[self.stream()] = max(self.depth[self.stream()], depth)
                yield

        def join(branch):
            joins(branch)
            self.depth[self.stream()] = max(self.depth.values())

        def recorded(capturer, run, **options):
            self.depth.clear()
            recording = record(capturer, run, **options)
            self.graphs.append((emulated_gpu().last_graph(), max(self.depth.values())))
            return recording

        monkeypatch.setattr(Branch, "mark", lambda branch: (mark(branch), self.depth[self.stream()]))
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
    nodes = Counter(nodes)
    masked = nodes["relu_backward"] == 0  # cuBLASLt takes gradients through the ReLU below, where it has that
    assert nodes == Counter(
        {
            # three layers forwards, the gradients of the last one's weight and bias, and two through a ReLU
            "matmul with epilogue": 4 * (6 if masked else 4),
            "gemm": 4 * (2 if masked else 4),
            "relu_backward": 0 if masked else 4 * 2,
            "cross_entropy_step": 4,
            "adam": 4,
        }
    )
    assert depth == 4 * (8 if masked else 10)


class Reads(xpnn.Callback):
    """Counts the values that the host has read of an epoch's steps."""

    def __init__(self):
        self.found = []

    def on_epoch_begin(self, trainer):
        trainer.backend.synchronize()
        emulated_gpu().clear()

    def on_epoch_trained(self, trainer):
        counts = emulated_gpu().counts()
        self.found.append((counts["d2h"], counts["syncs"]))


@pytest.mark.parametrize("way", ["graph", "persistent", "eager"])
def test_nothing_waits_for_the_device_within_an_epoch(way, on_cupy, monkeypatch):
    """However many steps it has: after the last, losses and one answer about the weights are read."""
    emulated_gpu()
    monkeypatch.setattr("xpnn.training.recorded.graphs._STEPS", 4)
    monkeypatch.setattr("xpnn.training.recorded.persistent._STEPS", 4)
    backend = xpnn.get_backend(on_cupy, persistent=way == "persistent")
    found = []
    for n in (10, 50):
        X, y = steps.data(n=8 * n)
        reads = Reads()
        net = xpnn.mlp([steps.N_IN, 7, 3], dropout=0.1, backend=backend)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(), clip_norm=1.0, callbacks=[reads])
        trainer.fit(X, y, epochs=3, batch_size=8, graph=way != "eager")
        found.append(reads.found[1:])  # the first compiles and tries the recordings
    assert found[0] == found[1]
    assert [reads for reads, _ in found[0]] == [2, 2]


def test_the_next_order_is_drawn_while_the_device_works(on_cupy, monkeypatch):
    """Between the last launch of an epoch and the first value that the host reads of it."""
    emulated, drawn = emulated_gpu(), []
    backend = xpnn.get_backend(on_cupy, persistent=True)

    def order(n, seed=0, epoch=0):
        counts = emulated.counts()
        drawn.append((epoch, counts.get("d2h", 0), counts.get("syncs", 0)))
        return epoch_order(n, seed, epoch)

    monkeypatch.setattr("xpnn.training.ahead.epoch_order", order)
    trainer = xpnn.Trainer(xpnn.mlp([steps.N_IN, 7, 3], backend=backend), xpnn.CrossEntropy(), xpnn.Adam())
    reads = Reads()
    trainer.callbacks = [reads]
    trainer.fit(*steps.data(n=80), epochs=4, batch_size=8)
    assert [epoch for epoch, *_ in drawn] == [0, 1, 2, 3]
    assert [found for _, *found in drawn[2:]] == [[0, 0]] * 2  # in an epoch without a trial nothing was waited for
    assert reads.found[1][0] > 0


@pytest.mark.parametrize("ready", [True, False], ids=["ready", "not ready"])
@pytest.mark.parametrize("place", ["host", "disk"])
@pytest.mark.parametrize("way", ["graph", "persistent"])
def test_nothing_is_brought_between_two_epochs(way, place, ready, on_cupy, monkeypatch, tmp_path):
    """From the reading of the losses to the next launch: rows and numbers are there, but where that is taken away."""
    emulated = emulated_gpu()
    monkeypatch.setattr("xpnn.training.recorded.graphs._STEPS", 4)
    monkeypatch.setattr("xpnn.training.recorded.persistent._STEPS", 4)
    kind = Steps if way == "persistent" else Recording
    launch, losses, found = kind.launch, Tally.losses, []

    def read(tally):
        host = losses(tally)
        emulated.clear()
        found.append(None)
        return host

    def launched(self, *args):
        if found and found[-1] is None:
            found[-1] = emulated.counts().get("h2d", 0)
        return launch(self, *args)

    monkeypatch.setattr(Tally, "losses", read)
    monkeypatch.setattr(kind, "launch", launched)
    if not ready:
        monkeypatch.setattr(Ahead, "make_ready", lambda *args, **options: None)
    x, y = steps.data(n=80)
    if place == "disk":
        rows = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=x.shape)
        rows[...] = x
        x = rows
    net = xpnn.mlp([steps.N_IN, 7, 3], dropout=0.1, backend=xpnn.get_backend(on_cupy, persistent=way == "persistent"))
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(), schedule=xpnn.CosineDecay(unit="step"))
    trainer.fit(x, y, epochs=4, batch_size=8, graph=True)
    assert len(found) == 4
    assert [brought > 0 for brought in found[:3]] == [not ready] * 3


def test_too_little_memory_tells_what_would_fit(on_cupy):
    cupy = pytest.importorskip("cupy")
    pool = cupy.get_default_memory_pool()
    X, y = steps.data(n=4096)

    def fit(batch_size):
        net = xpnn.mlp([steps.N_IN, 512, 512, 3], backend=on_cupy)
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(0.1)).fit(X, y, epochs=1, batch_size=batch_size, graph=False)

    fit(8)  # workspaces
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + (15 << 20))
    try:
        with pytest.raises(
            DeviceMemoryError, match=r"fit: expected .* of memory on cupy:0 .* free of .* would fit"
        ) as told:
            fit(4096)
        suggested = int(re.search(r"batch_size=(\d+) would fit", str(told.value))[1])
        del told
        gc.collect()  # what failed is held by its traceback
        assert 64 <= suggested < 4096
        fit(suggested)
        pool.free_all_blocks()
        net = xpnn.mlp([steps.N_IN, 512, 512, 3], backend=on_cupy)
        pool.set_limit(size=pool.used_bytes() + (1 << 19))  # too little for a copy of its weights
        with pytest.raises(DeviceMemoryError, match=r"Pass X as a numpy.memmap"):
            xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(0.1)).fit(X, y, epochs=1, batch_size=8)
    finally:
        pool.set_limit(size=0)


class FailsOnce(xpnn.layers.Identity):
    """In its third step it launches a kernel that is wrong."""

    def __init__(self):
        self.calls = 0

    def forward(self, x, *, train=False, key=None):
        cupy = importlib.import_module("cupy")
        self.calls += train
        if self.calls == 3:
            code = 'extern "C" __global__ void wrong(float* x) { if (threadIdx.x % 32) __shfl_xor_sync(~0u, x[0], 1); }'
            cupy.RawKernel(code, "wrong")((1,), (64,), (x,))
        return x, None


def test_errors_that_come_late_are_told_with_their_steps(on_cupy):
    emulated_gpu()  # a device would be of no use to this process any more
    X, y = steps.data(n=80)
    net = xpnn.Sequential(FailsOnce(), xpnn.Linear(3), n_in=steps.N_IN, backend=on_cupy)
    with pytest.raises(Exception, match="cudaError") as told:
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(0.1)).fit(X, y, epochs=2, batch_size=8, graph=False)
    assert "belongs to a step from 1 to 11 of epoch 1" in "".join(told.value.__notes__)


@pytest.mark.parametrize("place", ["host", "device", "disk"])
def test_rows_are_gathered_straight_into_a_stage(place, on_cupy, monkeypatch, tmp_path):
    """With no copy of them on the way; what is copied is the step table, and the losses and hits of a stage.

    Those on disk are copied once on the device, from where their upload went.
    """
    emulated_gpu()
    monkeypatch.setattr("xpnn.training.recorded.graphs._STEPS", 4)

    class Copies(xpnn.Callback):
        def on_epoch_begin(self, trainer):
            emulated_gpu().clear()

        def on_epoch_trained(self, trainer):
            self.found = emulated_gpu().counts()

    copies = Copies()
    X, y = steps.data(n=8 * 20)
    if place == "device":
        X = on_cupy.asarray(X)
    if place == "disk":
        X = np.memmap(tmp_path / "x", dtype=np.float32, mode="w+", shape=X.shape)
        X[...] = steps.data(n=8 * 20)[0]
    net = xpnn.mlp([steps.N_IN, 7, 3], backend=on_cupy)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[copies])
    trainer.fit(X, y, epochs=2, batch_size=8, graph=True)
    assert copies.found["graph launches"] == 5
    assert copies.found["d2d"] <= 5 * (4 + (place == "disk"))
