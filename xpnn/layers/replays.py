"""Predictions made again by traces: for batches of a shape that comes again and again.

A row of a table takes a few microseconds of arithmetic, and ten times as many of Python.  Where compiled loops are in
use, the array work of a prediction is therefore traced (`xpnn.accel.native.trace`), once the same shape has come some
times, and played for the batches that follow: the very loops, so the very bits, in memory that is there already.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import logging
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from .._typing import Array
from ..accel import NumpyOps, trace_objection
from ..accel.native.trace import Trace, TraceError, untraced
from ..ops import Ops
from ..recordable import RecordingMode, objection
from .base import Layer, walk
from .plan import Plan, unbound

__all__ = ["Replays", "network_over_same_memory", "shallow"]

_LOG = logging.getLogger("xpnn")
_T = TypeVar("_T")
_Key = tuple[tuple[int, ...], tuple[int, ...]]  # shape and strides of a batch

# Times that a shape comes before it is traced, which takes some milliseconds.
_REPAID = 16
# Shapes of which there are traces, and traces of one shape: as many threads may predict at once.
_SHAPES, _AT_ONCE = 4, 4
# Elements of the widest activation: a trace keeps the memory of all of them.
_MOST = 1 << 19
# Shapes that are counted.
_COUNTED = 64


class _Replay(NamedTuple):
    """The trace of one prediction, where its rows are to be named, and where its output is."""

    trace: Trace
    places: Array
    output: Array


class Replays:
    """The predictions of one network that are played instead of computed by layers.

    A trace serves one thread at a time: who finds none that is free, computes by layers, or makes another.

    Parameters
    ----------
    net : Sequential
        Bound.  Nothing of it is kept but its layers and its plan, for a look whether they are what they were.
    widest : int
        Elements that the widest activation has for each row, of all replicas.
    """

    def __init__(self, net: Any, widest: int) -> None:
        self._most = max(_MOST // max(widest, 1), 1)
        self._options = [vars(layer) for layer in walk(net.layers)]
        self._as_traced: tuple[Any, ...] = ()
        self._counts: dict[_Key, int] = {}
        self._free: dict[_Key, list[_Replay]] = {}
        self._made: dict[_Key, int] = {}
        fits = type(net.plan) is Plan and type(net.backend.ops) is NumpyOps
        self._possible = fits and not any(layer.takes_categories for layer in walk(net.layers))

    def output(self, net: Any, x: Array) -> Array | None:
        """Return the output of a network for rows, a new array; None where layers are to compute it."""
        if not self._possible or type(x) is not np.ndarray or x.shape[-2] > self._most or not net.backend.ops.compiled:
            return None
        key = x.shape, x.strides
        free = self._free.get(key)
        if free is None:
            return self._count(net, x, key)
        if not self._is_as_traced():
            self._forget()
            return None
        if not x.flags.aligned:
            return None
        try:
            replay = free.pop()
        except IndexError:  # all are in use, or there can be none
            return self._another(net, x, key)
        replay.places[0, 0] = x.__array_interface__["data"][0]
        replay.trace.play(1, replay.places)
        made = replay.output.copy()
        free.append(replay)
        return made

    # -- making traces --------------------------------------------------------------------------------------
    def _count(self, net: Any, x: Array, key: _Key) -> Array | None:
        """Count how often a shape comes; the time that it is traced return its output."""
        if len(self._counts) >= _COUNTED and key not in self._counts:
            self._counts = {}
        self._counts[key] = count = self._counts.get(key, 0) + 1
        if count < _REPAID or 0 in x.shape:
            return None
        if not self._is_as_traced():
            self._forget()
            self._as_traced = tuple(itertools.chain.from_iterable(map(dict.values, self._options)))
        while len(self._free) >= _SHAPES:
            oldest = next(iter(self._free))
            for kept in (self._free, self._made, self._counts):
                kept.pop(oldest, None)
        self._made[key], self._free[key] = 0, []
        return self._another(net, x, key)

    def _another(self, net: Any, x: Array, key: _Key) -> Array | None:
        """Make a trace more, if there may be one more, and return the output that it had."""
        made = self._made.get(key, _AT_ONCE)
        if made >= _AT_ONCE or not x.flags.aligned:
            return None
        self._made[key] = made + 1
        expected = net.plan.output(x)
        try:
            replay = _record(net, x)
            replay.trace.play(1, replay.places)
            if not _same_bits(replay.output, expected):
                raise TraceError("played, it gives other results")
        except Exception as error:  # whatever a layer does with such arrays must not keep a prediction from its way
            _LOG.debug("predictions are not traced: %s", str(error) or type(error).__name__)
            self._made[key] = _AT_ONCE
        else:
            self._free.get(key, []).append(replay)
        return expected

    def _is_as_traced(self) -> bool:
        """Whether the layers' attributes are those of the moment of the traces."""
        values = itertools.chain.from_iterable(map(dict.values, self._options))
        return all(map(operator.is_, values, self._as_traced)) and len(self._as_traced) == sum(map(len, self._options))

    def _forget(self) -> None:
        self._counts, self._free, self._made = {}, {}, {}


def _record(net: Any, x: Array) -> _Replay:
    """Trace a prediction for rows like these."""
    ops = net.backend.ops
    mode = RecordingMode(weighted=False, trusted=False, as_one=False)
    why = trace_objection(ops) or objection(walk(net.layers), mode)
    if why is not None:
        raise TraceError(why)
    traced_ops, trace = ops.tracing(net.store.values.dtype)
    other = network_over_same_memory(net, traced_ops, trace.fixed)
    output = untraced(other.plan.output(trace.moving(x)))
    trace.finish()
    return _Replay(trace, np.array([[x.ctypes.data, 0]], np.int64), output)


def _same_bits(a: Array, b: Array) -> bool:
    return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())


def network_over_same_memory(net: Any, ops: Ops, fixed: Callable[[Array], Array], grads: Array | None = None) -> Any:
    """Return another network over the same memory with other operations, and layers of its own.

    Its arrays are what `fixed` makes of the network's; its gradients go into `grads` where they are given.
    """
    other = shallow(net)
    store = other.store = shallow(net.store)
    other.backend = store.backend = dataclasses.replace(net.backend, ops=ops)
    for name in ("values", "grads", "buffers", "lr_factors", "decay_factors"):
        array = getattr(store, name)
        setattr(store, name, None if array is None else fixed(array))
    for name in ("params", "param_grads", "named_buffers"):
        setattr(store, name, {key: fixed(view) for key, view in getattr(store, name).items()})
    if grads is not None:
        store.grads, store.param_grads = grads, store.views_of_grads(grads)
    other.layers = copy.deepcopy(tuple(map(unbound, net.layers)))
    layers: Sequence[Layer] = list(walk(other.layers))
    for layer in layers:
        for array in vars(layer).values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False  # what is written to a copy would be lost
    other.bind(store)
    return other


def shallow(thing: _T) -> _T:
    """Return another object with the same attributes: `copy.copy` makes of some what a file would keep."""
    if thing is None:
        return thing
    new = object.__new__(type(thing))
    vars(new).update(vars(thing))
    return new
