"""Rows that stay on disk: read ahead of their use, and brought to a GPU while it works."""

from __future__ import annotations

import sys
import threading
import types

import numpy as np
import pytest

import xpnn
from xpnn.accel.cuda.upload import PinnedSlots
from xpnn.errors import DataError
from xpnn.training import feed as feeds
from xpnn.training.feed import Feed

N, N_IN = 203, 5
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, N_IN))
Y = RNG.integers(0, 3, N)


@pytest.fixture(name="small_blocks")
def fixture_small_blocks(monkeypatch):
    """Blocks of 32 rows or, on a GPU, of 64."""
    monkeypatch.setattr(feeds, "_STAGE_ELEMENTS", 32 * N_IN)
    monkeypatch.setattr(feeds, "_UPLOADED_ELEMENTS", 64 * N_IN)


def on_disk(folder, a, name="x"):
    held = np.memmap(folder / name, dtype=a.dtype, mode="w+", shape=a.shape)
    held[...] = a
    return held


def reading_threads():
    return [t for t in threading.enumerate() if t.name.startswith("xpnn-read")]


# -- the same training ------------------------------------------------------------------------------------------
def train(x, y, backend, **options):
    trainer = xpnn.Trainer(xpnn.mlp([N_IN, 8, 3], dropout=0.1, backend=backend), xpnn.CrossEntropy(), xpnn.Adam(0.01))
    trainer.fit(x, y, epochs=2, batch_size=16, **options)
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history.rows]
    return history, trainer.net.state_dict(), trainer.evaluate(x, y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_rows_that_lie_apart_are_put_in_order_once(dtype):
    """Columns one after the other, as data frames have them, are slow to gather; rows in order are not copied."""
    x = np.asfortranarray(X.astype(dtype))
    columns, _ = Feed(xpnn.get_backend("numpy"), x, Y).held(None)
    assert columns[0].flags.c_contiguous
    assert columns[0].dtype == np.float32
    np.testing.assert_array_equal(columns[0], x.astype(np.float32))
    row_major = X.astype(np.float32)
    columns, _ = Feed(xpnn.get_backend("numpy"), row_major, Y).held(None)
    assert np.shares_memory(columns[0], row_major)


OPTIONS = {
    "plain": {},
    "in order": {"shuffle": False},
    "weights": {"sample_weight": np.linspace(0.1, 2.0, N)},
    "validation": {"validation_fraction": 0.3},
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_training_from_disk_is_training_from_memory(options, dtype, backend, small_blocks, tmp_path):
    x = (X * 40 + 120).astype(dtype) if dtype == "uint8" else X.astype(dtype)
    y = on_disk(tmp_path, Y, "y")
    disk = train(on_disk(tmp_path, x), y, backend, **options)
    memory = train(x, Y, backend, **options)
    assert disk[0] == memory[0]
    assert disk[2] == memory[2]
    assert all(disk[1][name].tobytes() == memory[1][name].tobytes() for name in memory[1])
    assert not reading_threads()


# -- reading ahead ----------------------------------------------------------------------------------------------
class Watched(np.memmap):
    """Notes what is read, and by which thread."""

    log: list = []  # noqa: RUF012, emptied by each test

    def __getitem__(self, key):
        if isinstance(key, np.ndarray) and key.size > 1:
            self.log.append((threading.current_thread().name[:9], int(key.min()), int(key.max())))
        return super().__getitem__(key)


def test_one_block_is_read_while_another_is_in_use(small_blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(Watched, "log", [])
    feed = Feed(xpnn.get_backend("numpy"), on_disk(tmp_path, X).view(Watched), Y)
    blocks = feed.blocks(None, [0, 50, 100, 150, N])
    for number, (a, b) in enumerate([(0, 50), (50, 100), (100, 150), (150, N)]):
        x, y, weight = next(blocks)
        assert x.tolist() == X[a:b].astype(np.float32).tolist()
        assert (y.tolist(), weight) == (Y[a:b].tolist(), None)
        asked = [entry for entry in Watched.log if entry[1] >= min(b + 50, 150) and b < 150]
        assert not asked, f"more than one block ahead of block {number}"
    assert next(blocks, None) is None
    assert {name for name, *_ in Watched.log} == {"xpnn-read"}
    assert sorted(low for _, low, _ in Watched.log) == [0, 32, 50, 82, 100, 132, 150, 182]
    assert not reading_threads()


def test_a_block_handed_out_is_not_overwritten(small_blocks, tmp_path):
    feed = Feed(xpnn.get_backend("numpy"), on_disk(tmp_path, X), Y)
    kept = [x for x, _, _ in feed.batches(None, 16)]
    assert np.concatenate(kept).tolist() == X.astype(np.float32).tolist()


def test_what_is_read_ahead_may_be_wrong_and_is_told_in_its_turn(small_blocks, tmp_path):
    bad = X.copy()
    bad[120, 2] = np.nan
    feed = Feed(xpnn.get_backend("numpy"), on_disk(tmp_path, bad), Y)
    blocks = feed.blocks(None, [0, 50, 100, 150, N])
    next(blocks)
    next(blocks)
    with pytest.raises(DataError, match=r"not, first nan in row 120, column 2"):
        next(blocks)
    assert not reading_threads()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_without_threads_each_block_is_read_in_its_turn(options, small_blocks, tmp_path, monkeypatch):
    expected = train(X, Y, "numpy", **options)

    class NoThreads(feeds.ThreadPoolExecutor):
        def submit(self, *work):
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(feeds, "ThreadPoolExecutor", NoThreads)
    history, weights, scores = train(on_disk(tmp_path, X), Y, "numpy", **options)
    assert (history, scores) == (expected[0], expected[2])
    assert all((weights[name] == expected[1][name]).all() for name in weights)


def test_a_fit_that_ends_early_leaves_no_thread(small_blocks, tmp_path):
    class Interrupted(xpnn.Trainer):
        def train_step(self, x, y, weight, row):
            if row.slot == 3:
                raise KeyboardInterrupt
            return super().train_step(x, y, weight, row)

    trainer = Interrupted(xpnn.mlp([N_IN, 3]), xpnn.CrossEntropy(), xpnn.SGD(0.1))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(on_disk(tmp_path, X), Y, batch_size=16)
    assert not reading_threads()


# -- a device that works in any order it may --------------------------------------------------------------------
class Sim:
    """Streams whose work is done at random moments, as late or as early as events allow, and never before its turn."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.eager = self.rng.uniform()  # from all work at once to none before somebody waits
        self.streams = []
        self.train = self.make_stream()
        self.uploads = []
        self.cupy = types.SimpleNamespace(
            empty=self.empty,
            cuda=types.SimpleNamespace(
                Stream=lambda non_blocking: self.make_stream(),
                Event=lambda disable_timing: Event(self),
                get_current_stream=lambda: self.train,
            ),
        )
        self.cupyx = types.SimpleNamespace(empty_pinned=lambda shape, dtype: np.full(shape, 99, dtype))

    def make_stream(self):
        self.streams.append(Stream(self))
        return self.streams[-1]

    def empty(self, shape, dtype):
        return DeviceArray(self, np.full(shape, 98, dtype))

    def astype(self, a, dtype, *, copy):
        assert copy
        fresh = np.full(a.memory.shape, -1, dtype)
        self.train.put(lambda: fresh.__setitem__(..., a.memory))
        return fresh

    def tick(self):
        while self.rng.uniform() < self.eager and self.step():
            pass

    def step(self):
        """Do one piece of work, if any may be done."""
        ready = [s for s in self.streams if s.queue and s.queue[0][0]()]
        if ready:
            ready[self.rng.integers(len(ready))].queue.pop(0)[1]()
        return bool(ready)

    def until(self, done):
        while not done():
            assert self.step(), "waits for ever"


class Stream:
    def __init__(self, sim):
        self.sim, self.queue = sim, []

    def put(self, work, ready=lambda: True):
        self.queue.append((ready, work))
        self.sim.tick()

    def wait_event(self, event):
        wanted = event.asked
        self.put(lambda: None, lambda: event.done >= wanted)


class Event:
    def __init__(self, sim):
        self.sim, self.asked, self.done = sim, 0, 0

    def record(self, stream):
        self.asked += 1
        stream.put(lambda number=self.asked: setattr(self, "done", number))

    def synchronize(self):
        wanted = self.asked
        self.sim.until(lambda: self.done >= wanted)


class DeviceArray:
    def __init__(self, sim, memory):
        self.sim, self.memory, self.dtype = sim, memory, memory.dtype

    def __getitem__(self, key):
        return DeviceArray(self.sim, self.memory[key])

    def set(self, host, stream):
        assert (host.dtype, host.shape) == (self.memory.dtype, self.memory.shape)
        assert host.flags.c_contiguous
        self.sim.uploads.append(host.nbytes)
        stream.put(lambda: self.memory.__setitem__(..., host))  # reads the host's memory when it comes to it


def through_slots(kind, seed):
    """Bring blocks through the slots; return what came and what should have come."""
    sim = Sim(seed)
    memory = np.full((8, 3), 5.0, np.float32)  # of an array that is gone, but still read by work on its way
    seen = np.zeros_like(memory)
    sim.train.queue.append((lambda: True, lambda: seen.__setitem__(..., memory)))
    sim.cupy.empty = lambda shape, dtype: made.pop()
    made = [DeviceArray(sim, np.full((8, 3), 98, np.float32)), DeviceArray(sim, memory)]
    slots = kind(sim.cupy, sim.cupyx, (8, 3), np.dtype("float32"))
    rows = np.random.default_rng(seed)
    wanted, found = [np.full((8, 3), 5.0)], [seen]
    for number in range(12):
        block = rows.integers(0, 90, (rows.integers(1, 9), 3)).astype(np.float64)
        slots.wait(number % 2)
        slots.write(number % 2, block)
        slots.send(number % 2, len(block))
        found.append(slots.take(number % 2, len(block), sim, np.float32))
        wanted.append(block)
    slots.finish()
    while sim.step():
        pass
    return [a.tolist() for a in found], [a.tolist() for a in wanted]


SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_slot_is_overwritten_while_in_use(seed):
    found, wanted = through_slots(PinnedSlots, seed)
    assert found == wanted


class NoWait(PinnedSlots):
    def wait(self, slot):
        pass


class NoWaitForTaken(PinnedSlots):
    def send(self, slot, n):
        self._device[slot][:n].set(self._host[slot][:n], stream=self._stream)
        self._uploaded[slot].record(self._stream)


class NoWaitForUpload(PinnedSlots):
    def take(self, slot, n, xp, dtype, out=None):
        rows = xp.astype(self._device[slot][:n], dtype, copy=True)
        self._taken[slot].record(self._cupy.cuda.get_current_stream())
        return rows


class TakenTooSoon(PinnedSlots):
    def take(self, slot, n, xp, dtype, out=None):
        stream = self._cupy.cuda.get_current_stream()
        stream.wait_event(self._uploaded[slot])
        self._taken[slot].record(stream)
        return xp.astype(self._device[slot][:n], dtype, copy=True)


class NewMemory(PinnedSlots):
    def __init__(self, cupy, cupyx, shape, dtype):
        super().__init__(cupy, cupyx, shape, dtype)
        self._taken = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]


@pytest.mark.parametrize("kind", [NoWait, NoWaitForTaken, NoWaitForUpload, TakenTooSoon, NewMemory])
def test_each_wait_is_needed(kind):
    """Without any one of them some order of work goes wrong: the test above can fail."""
    outcomes = [through_slots(kind, seed) for seed in SEEDS]
    assert any(found != wanted for found, wanted in outcomes)


def use_slots(monkeypatch, seed, *, at_once):
    """Let rows on disk pass through slots to a made-up device; `at_once`, what is taken is there at once."""
    sim = Sim(seed)
    monkeypatch.setitem(sys.modules, "cupy", sim.cupy)
    monkeypatch.setitem(sys.modules, "cupyx", sim.cupyx)

    def pinned(self, backend, values, dtype, where, name):
        original(self, backend, values, dtype, where, name)
        self.pinned = True

    original, take = feeds._Streamed.__init__, PinnedSlots.take
    monkeypatch.setattr(feeds._Streamed, "__init__", pinned)

    def taken(self, slot, n, xp, dtype, out=None):
        rows = take(self, slot, n, sim, dtype, out)
        if at_once:
            sim.until(lambda: not sim.train.queue)
        return rows

    monkeypatch.setattr(PinnedSlots, "take", taken)
    return sim


@pytest.fixture(name="slots")
def fixture_slots(monkeypatch):
    """A device for NumPy's steps, which do not wait."""
    return use_slots(monkeypatch, 1, at_once=True)


@pytest.mark.parametrize("seed", range(20))
def test_a_feed_goes_through_slots_in_any_order_of_work(seed, small_blocks, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        sim = use_slots(patch, seed, at_once=False)
        feed = Feed(xpnn.get_backend("numpy"), on_disk(tmp_path, X), on_disk(tmp_path, Y, "y"))
        order = np.random.default_rng(seed).permutation(N)
        blocks = list(feed.blocks(order, [*range(0, N, 20), N]))
        while sim.step():
            pass
    for number, (x, y, _) in enumerate(blocks):
        rows = order[number * 20 : number * 20 + 20]
        assert x.tolist() == X[rows].astype(np.float32).tolist()
        assert y.tolist() == Y[rows].tolist()


@pytest.mark.parametrize(("dtype", "travels"), [("float32", 4), ("float64", 4), ("uint8", 1), (">f8", 4), (">i2", 2)])
def test_training_through_slots_is_training_from_memory(dtype, travels, slots, small_blocks, tmp_path):
    x = (X * 40 + 120).astype(dtype) if "f" not in dtype else X.astype(dtype)
    disk = train(on_disk(tmp_path, x), Y, "numpy")
    memory = train(x, Y, "numpy")
    assert disk[0] == memory[0]
    assert all(disk[1][name].tobytes() == memory[1][name].tobytes() for name in memory[1])
    # 203 rows in blocks of 64, twice; evaluated in one block, which needs no reading ahead
    assert slots.uploads == 2 * [n * N_IN * travels for n in (64, 64, 64, 11)]
    assert not reading_threads()


def test_slots_are_made_once(slots, small_blocks, tmp_path):
    feed = Feed(xpnn.get_backend("numpy"), on_disk(tmp_path, X), Y)
    for _ in range(3):
        list(feed.batches(None, 16))
    made = feed._columns[0]._slots
    assert made.shape == (64, N_IN)
    list(feed.blocks(None, [0, 30, 60]))
    assert feed._columns[0]._slots is made
    list(feed.blocks(None, [0, 100, N]))
    assert feed._columns[0]._slots.shape == (103, N_IN)


def test_uploads_are_done_when_a_fit_ends_early(small_blocks, tmp_path, monkeypatch):
    sim = use_slots(monkeypatch, 1, at_once=False)
    sim.eager = 0.0
    feed = Feed(xpnn.get_backend("numpy"), on_disk(tmp_path, X), Y)
    batches = feed.batches(None, 16)
    next(batches)
    uploading = sim.streams[1]
    assert uploading.queue
    batches.close()
    assert not uploading.queue
    assert not reading_threads()


# -- a GPU ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_rows_on_disk_reach_a_gpu(dtype, graph, small_blocks, tmp_path):
    if xpnn.available_backends()["cupy"] != "ok":
        pytest.skip("needs CuPy and a GPU: pip install 'xpnn[cuda13]'")
    x = (X * 40 + 120).astype(dtype) if dtype == "uint8" else X.astype(dtype)
    disk = train(on_disk(tmp_path, x), Y, "cupy:0", graph=graph)
    memory = train(x, Y, "cupy:0", graph=graph)
    assert disk[0] == memory[0]
    assert all(disk[1][name].tobytes() == memory[1][name].tobytes() for name in memory[1])
