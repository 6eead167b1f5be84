"""A device on NumPy whose work can be recorded, as strict as a CUDA graph: what is recorded is not done.

Every operation on a `Taped` array is noted with the memory that it reads and writes, so that a recording is made of
addresses: an array that is made anew, a number that was read, or a branch that was taken shows at the next launch.
While recording, results are poison, and reading one on the host or bringing an array from it is an error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import types

import numpy as np
import pytest

import xpnn
from xpnn.backend import interop
from xpnn.ops import Ops

TAPE: list | None = None
POISON = {"f": np.nan, "i": -77, "u": 77, "b": True}


class RefusedError(RuntimeError):
    """What a device would say within a capture."""


class Taped(np.ndarray):
    """An array on the device."""

    def _host(self, *_):
        if TAPE is not None:
            raise RefusedError("the host reads an array")

    def __float__(self):
        self._host()
        return float(bare(self).item())

    def __int__(self):
        self._host()
        return int(bare(self).item())

    def __bool__(self):
        self._host()
        return bool(bare(self).item())

    def __index__(self):
        self._host()
        return bare(self).__index__()

    def item(self, *args):
        self._host()
        return bare(self).item(*args)

    def tolist(self):
        self._host()
        return bare(self).tolist()

    def __getitem__(self, key):
        key = tuple(bare(k) for k in key) if isinstance(key, tuple) else bare(key)
        part = bare(self)[key]
        if isinstance(part, np.generic):  # all of the places given: still a view, as on a device
            key = tuple(slice(k, k + 1 if k != -1 else None) for k in (key if isinstance(key, tuple) else (key,)))
            part = bare(self)[key].reshape(())
        if np.may_share_memory(part, bare(self)) or part.size == 0:
            return part.view(KIND)
        return noted(lambda a: a[key], (self,))

    def __setitem__(self, key, value):
        if TAPE is not None and type(value) is np.ndarray and value.ndim:
            raise RefusedError("an array of the host is assigned")
        done(lambda a, b: a.__setitem__(key, b), (self, value))

    def astype(self, dtype, copy=True, **options):
        if not copy and self.dtype == dtype:
            return self
        return noted(lambda a: a.astype(dtype, **options), (self,))

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        call = getattr(ufunc, method)
        if out is None:
            return noted(lambda *arrays: call(*arrays, **options), inputs)
        places = tuple(bare(a) for a in out)
        done(lambda *arrays: call(*arrays, out=places if len(places) > 1 else places[0], **options), inputs)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, func, kinds, args, kwargs):
        out = kwargs.pop("out", None)
        if out is not None:
            done(lambda *a: func(*a, out=bare(out), **kwargs), args)
            return out
        return noted(lambda *a: func(*a, **kwargs), args)


def bare(a):
    if isinstance(a, tuple | list):
        return type(a)(bare(x) for x in a)
    return a.view(np.ndarray) if isinstance(a, Taped) else a


def flat(args):
    for a in args:
        yield from flat(a) if isinstance(a, tuple | list) else (a,)


def noted(call, args):
    """Do `call`, whose result is new, or a view of one of `args`."""
    args = bare(tuple(args))
    result = call(*args)
    if isinstance(result, tuple) and any(isinstance(r, np.ndarray | np.generic) for r in result):
        assert TAPE is None, "several results are not recorded"
        return tuple(np.asarray(r).view(KIND) for r in result)
    if not isinstance(result, np.ndarray | np.generic):
        return result
    if isinstance(result, np.ndarray) and any(
        isinstance(a, np.ndarray) and np.may_share_memory(a, result) for a in flat(args)
    ):
        return result.view(KIND)
    result = np.asarray(result)
    if TAPE is not None:
        if not result.flags.writeable:
            result = result.copy()
        result[...] = POISON.get(result.dtype.kind, np.nan)
        TAPE.append(lambda: result.__setitem__(..., call(*args)))
    return result.view(KIND)


def done(call, args):
    """Do `call`, which writes into one of `args`."""
    args = bare(tuple(args))
    if TAPE is None:
        call(*args)
    else:
        TAPE.append(lambda: call(*args))


class Namespace(types.ModuleType):
    """NumPy's namespace, on the device."""

    @staticmethod
    def take(x, index, axis):
        # like CuPy's, it finds an element for every index: that of a recording may be poison
        return noted(lambda a, k: np.take(a, k, axis=axis, mode="wrap"), (x, index))

    def __getattr__(self, name):
        value = getattr(np, name)
        if name in ("zeros", "ones", "empty", "full", "arange", "eye"):

            def made(*args, device=None, **options):
                return noted(lambda: value(*args, **options), ())

            return made
        return value

    @staticmethod
    def asarray(a, *, dtype=None, device=None, copy=None):
        if isinstance(a, Taped):
            if copy:
                return noted(lambda x: np.array(x, dtype), (a,))
            return a if dtype is None or a.dtype == dtype else a.astype(dtype)
        if TAPE is not None and np.ndim(a):
            raise RefusedError("an array comes from the host")
        return noted(lambda: np.array(a, dtype), ())


KIND = Taped
XP = Namespace("taped")


class Capturer:
    """Records on this device."""

    def __init__(self):
        self.recorded = self.launched = 0
        self.is_active = False

    def release(self):
        """Memory is NumPy's."""

    @contextlib.contextmanager
    def active(self):
        assert not self.is_active
        self.is_active = True
        try:
            yield
        finally:
            self.is_active = False

    def record(self, run, *, branches=False):
        global TAPE
        assert self.is_active
        assert TAPE is None
        TAPE = tape = []
        try:
            run()
        finally:
            TAPE = None
        self.recorded += 1

        def launch():
            assert self.is_active
            self.launched += 1
            for work in tape:
                work()

        return types.SimpleNamespace(launch=launch, tape=tape)


@contextlib.contextmanager
def recording(graph):
    """Let a capturer record steps within; yield what `fit` takes as `graph`."""
    if not hasattr(graph, "record"):
        yield graph
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.training.recorded.graphs.find_capturer", lambda name, ops: graph)
        yield True


def make_backend(monkeypatch, dtype="float32"):
    """Return a backend on this device."""
    monkeypatch.setitem(interop.NAMESPACES, Taped, XP)
    monkeypatch.setitem(interop.LIBRARIES, Taped, "numpy")
    monkeypatch.setattr("xpnn.ops._MADE", {})
    numpy = xpnn.get_backend("numpy", dtype)
    backend = dataclasses.replace(numpy, xp=XP, ops=Ops(XP, "cpu"))
    # what is NumPy's is not on the device: it is brought there
    monkeypatch.setattr(xpnn.Backend, "owns", lambda self, a: isinstance(a, Taped) == (self.xp is XP))
    return backend
