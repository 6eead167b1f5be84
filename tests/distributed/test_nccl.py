"""What NCCL is asked for, by a stand-in that moves the bytes of threads: several GPUs are nowhere at hand."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from thread_group import agreed, on_threads

from xpnn.distributed import Alone, Tree, nccl
from xpnn.errors import BackendUnavailableError, MissingPackageError, OptionError, ProcessError


class DeviceArray(np.ndarray):
    """An array whose address is asked for as CuPy's is."""

    @property
    def data(self):
        return SimpleNamespace(ptr=self)


def device_array(values):
    return np.ascontiguousarray(values).view(DeviceArray)


class Wire:
    """Bytes between the communicators of one id, and calls of a group, which begin when it ends."""

    def __init__(self):
        self.lock, self.sent, self.calls = threading.Condition(), {}, []

    def put(self, key, value):
        with self.lock:
            self.sent.setdefault(key, []).append(value)
            self.lock.notify_all()

    def take(self, key):
        with self.lock:
            assert self.lock.wait_for(lambda: self.sent.get(key), timeout=10)
            return self.sent[key].pop(0)


class NcclError(RuntimeError):
    pass


class Stand:
    """`cupy.cuda.nccl`."""

    NcclError = NcclError

    def __init__(self):
        self.wires, self.local, self.broken = {}, threading.local(), False

    def get_unique_id(self):
        return tuple(range(-64, 64))

    def groupStart(self):  # noqa: N802
        self.local.waiting = []

    def groupEnd(self):  # noqa: N802
        if self.broken:
            raise NcclError("NCCL_ERROR_REMOTE_ERROR")
        for call in sorted(self.local.waiting, key=lambda call: call[0]):  # what is sent, then what comes
            call[1]()

    def NcclCommunicator(self, size, unique, rank):  # noqa: N802
        assert len(unique) == 128
        return Communicator(self, self.wires.setdefault(unique, Wire()), size, rank)


class Communicator:
    def __init__(self, stand, wire, size, rank):
        self.stand, self.wire, self.size, self.rank, self.aborted = stand, wire, size, rank, False

    def send(self, address, n, kind, peer, stream):
        assert (stream, kind, address.size) == (99, 7, n)
        value = np.array(address)
        self.stand.local.waiting.append((0, lambda: self.wire.put((self.rank, peer), value)))

    def recv(self, address, n, kind, peer, stream):
        assert (stream, kind, address.size) == (99, 7, n)

        def take():
            address[...] = self.wire.take((peer, self.rank))

        self.stand.local.waiting.append((1, take))

    def allGather(self, mine, everyone, n, kind, stream):  # noqa: N802
        if self.stand.broken:
            raise NcclError("NCCL_ERROR_UNHANDLED_CUDA_ERROR")
        assert (stream, kind, mine.size, everyone.size) == (99, 7, n, n * self.size)
        for peer in range(self.size):
            self.wire.put(("all", self.rank, peer), np.array(mine))
        for peer in range(self.size):
            everyone.reshape(self.size, n)[peer] = self.wire.take(("all", peer, self.rank))

    def abort(self):
        self.aborted = True


@pytest.fixture
def stand(monkeypatch):
    found = Stand()
    cupy, cuda = ModuleType("cupy"), ModuleType("cupy.cuda")
    cupy.cuda, cuda.nccl = cuda, found
    cuda.get_current_stream = lambda: SimpleNamespace(ptr=99)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    return found


class DeviceArrays:
    """A namespace that makes such arrays."""

    reshape = staticmethod(np.reshape)

    @staticmethod
    def concat(arrays):
        return device_array(np.concatenate(arrays))

    @staticmethod
    def empty(shape, *, dtype, device):
        return device_array(np.empty(shape, dtype))


@pytest.mark.parametrize(("size", "n"), [(2, 50), (4, 70_000), (3, 70_000)])
def test_sums_are_those_of_the_tree(stand, size, n):
    """By gathering, by halving and in segments."""
    vectors = [np.random.default_rng(shard).normal(size=n).astype(np.float32) for shard in range(8)]

    def work(via):
        group = nccl(via)
        assert (group.rank, group.size, group.on_device) == (via.rank, via.size, True)
        assert group.share(via.rank) == list(range(size))  # which goes over the other group
        return np.asarray(Tree(8, group).sum(DeviceArrays, lambda shard: device_array(vectors[shard].copy()))).tobytes()

    assert agreed(size, work) == Tree(8, Alone()).sum(np, lambda shard: vectors[shard].copy()).tobytes()


def test_failures_are_told_and_given_up(stand):
    def work(via):
        group, one = nccl(via), device_array(np.zeros(1, np.float32))
        via.barrier()
        stand.broken = True
        for call in (lambda: group.sendrecv(one, 1, one, 1), lambda: group.allgather(one, one)):
            with pytest.raises(ProcessError, match="NCCL: expected to hear of"):
                call()
        group.fail("enough")
        return group._communicator.aborted, via.world.failed

    for aborted, failed in on_threads(2, work):
        assert aborted
        assert "enough" in failed.values()


def test_what_it_cannot_send(stand):
    group = nccl(Alone())
    for array in (device_array(np.zeros((4, 4), np.float32))[:, :2], device_array(np.zeros(3, bool))):
        with pytest.raises(OptionError, match="NCCL: expected a contiguous array of numbers"):
            group.allgather(array, array)
    with pytest.raises(OptionError, match="expected a group such as"):
        nccl(group)
    with pytest.raises(OptionError, match="expected a group such as"):
        nccl("mpi")


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(MissingPackageError, match="needs CuPy"):
        nccl(Alone())
    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    monkeypatch.setitem(sys.modules, "cupy.cuda", ModuleType("cupy.cuda"))
    with pytest.raises(BackendUnavailableError, match="needs a CuPy with NCCL"):
        nccl(Alone())
