"""Traces of what shards compute: each one's gradients, loss and sums of metrics, without the Python that they take.

A step of shards is one small pass for each of them, and small passes are mostly Python.  So the pass of the first shard
of so many rows is traced (`xpnn.accel.native.trace`), and one of the next step is tried on the trace; both are made
eagerly as well, and only where both agree in every bit the trace makes those that follow.  The sum over the shards, its
exchange and the move of the parameters stay as they are: they come once a step, and are long calls.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..._typing import Array
from ...accel import trace_objection
from ...accel.native.trace import Trace, Traced, TraceError
from ...layers.base import walk
from ...recordable import RecordingMode
from ..epoch import Epoch
from ..layout import Layout
from ..portions import Portion
from ..step import StepArrays, Tally, Training
from .guard import Guard
from .runner import Plan, SlowWay, objection, report
from .traces import over_same_memory

__all__ = ["LeafTraces", "plan_leaves"]

# Passes of shards, below which trying would cost more than is won.
_REPAID = 32

SLOW = SlowWay("the gradients of shards are made in Python", logging.DEBUG)


def plan_leaves(training: Training, plan: Plan, own: int) -> LeafTraces | str:
    """Return what replays the passes of `own` shards, each of some rows of a batch; or why nothing does."""
    passes = plan.epochs * -(-plan.n // plan.batch_size) * own
    why = trace_objection(training.net.backend.ops)
    if why is not None:
        return why
    if not plan.requested and passes < _REPAID:
        return f"{passes} of them do not repay a trace"
    why = objection(training, RecordingMode(plan.weighted, trusted=plan.requested, as_one=False))
    return LeafTraces(loud=plan.requested) if why is None else why


class _Kind(NamedTuple):
    """What passes must have in common for one trace to make them."""

    x: tuple[int, ...]
    x_dtype: Any
    y: tuple[int, ...]
    weighted: bool


class _Found:
    """A trace of one kind of pass, made in some step, and whether it has made another to the bit; None: none can."""

    def __init__(self, trace: Trace | None, step: int = 0) -> None:
        self.trace, self.step, self.trusted = trace, step, False


class LeafTraces:
    """Fills the vectors of shards from traces; if `loud`, warns where it cannot, and not only logs."""

    def __init__(self, *, loud: bool) -> None:
        self._loud = loud
        self._guard: Guard | None = None
        self._found: dict[_Kind, _Found] = {}
        self._before: Array = None

    def begin(self, epoch: Epoch, layout: Layout, weights: np.ndarray) -> None:
        """Take the options and arrays of an epoch, and the weights (steps, shards) of its rows."""
        training = epoch.training
        self._epoch, self._layout, self._training = epoch, layout, training
        guard = Guard(training, layout.size)
        if guard != self._guard:
            self._guard, self._found = guard, {}
            self._before = np.empty_like(training.net.store.buffers)
        self._table: StepArrays = epoch.table.lay_out(training.net, 0, len(epoch.table))
        totals = epoch.table.weights[:, None]
        self._factors = np.stack([weights, weights / totals], axis=-1).astype(training.net.store.values.dtype)

    def fill(self, slot: int, portion: Portion, before: Array, vector: Array, eagerly: Callable[[], None]) -> None:
        """Fill the vector of a shard in step `slot`; `before` are the buffers at its beginning."""
        x, y, weight = portion.x, portion.y, portion.weight
        given = [a for a in (x, y, portion.numbers, weight) if a is not None]
        if not all(a.flags.c_contiguous and a.flags.aligned for a in given):
            eagerly()
            return
        kind = _Kind(x.shape, x.dtype, y.shape, weight is not None)
        found = self._found.get(kind)
        step = self._epoch.table.first + slot
        trace = None if found is None else found.trace
        if found is not None and (trace is None or (not found.trusted and found.step == step)):
            eagerly()  # what changes from step to step would not be seen by trying a trace in the same
            return
        self._before[...] = before
        # What moves, in the order in which `_record` names it.
        moving = [vector, self._table.keys[slot : slot + 1], self._factors[slot, portion.shard], *given]
        if found is not None and trace is not None and found.trusted:
            _play(trace, moving)
            return
        eagerly()
        expected = vector.copy()
        self._spoil(vector)
        try:
            if found is None or trace is None:
                self._found[kind] = _Found(self._record(moving), step)
            else:
                _play(trace, moving)
                found.trusted = True
            why = None if np.array_equal(vector.view(np.uint8), expected.view(np.uint8)) else "replayed, they differ"
        except Exception as error:  # of whatever kind: a layer may do anything with such arrays
            why = str(error) or type(error).__name__
        if why is not None:
            self._found[kind] = _Found(None)
            report(SLOW, why, loud=self._loud)
        vector[...] = expected

    def _spoil(self, vector: Array) -> None:
        """Leave no number of a pass in a vector, so that one which a trace does not write is found out."""
        store = self._training.net.store
        for view in store.views_of_grads(vector[: store.grads.size]).values():
            view[...] = np.nan
        vector[store.grads.size :] = np.nan

    def _record(self, given: list[Array]) -> Trace:
        """Make the pass of a shard and trace it: gradients go straight into its vector."""
        training = self._training
        store = training.net.store
        trace: Trace
        ops, trace = training.net.backend.ops.tracing(store.values.dtype)  # type: ignore[attr-defined]
        vector, keys, factors, x, y, numbers, *rest = (trace.moving(array) for array in given)
        weight = rest[0] if rest else None
        before = trace.fixed(self._before)
        grads, buffers, *tables = self._layout.read(np, vector)
        other = over_same_memory(training, ops, trace, grads)
        other.net.store.buffers[...] = before
        own, share = factors[:1], factors[1:].reshape(())
        step = self._table._replace(keys=keys).step(0, 0, slice(None), last=False)
        step = step._replace(weight=own, rows=numbers, note=None)
        value, pred = other.data_gradients(x, y, weight, step)
        Tally(training, 1).over(tables).add(0, value * share, pred, y, weight)
        other.net.store.buffers -= before
        grads *= share
        buffers[...] = other.net.store.buffers
        buffers *= share
        for layer in walk(other.net.layers):
            if any(isinstance(value, Traced) for value in vars(layer).values()):
                raise TraceError(f"{layer.label} keeps an array of its own")
        trace.finish()
        return trace


def _play(trace: Trace, moving: list[Array]) -> None:
    trace.play(1, [(array.__array_interface__["data"][0], 0) for array in moving])
