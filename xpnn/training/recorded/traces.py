"""Traces on NumPy: steps made again by compiled loops, without the Python that each would take.

A fit's first two steps are made twice on trial.  Once eagerly; then the first on traced arrays
(`xpnn.accel.native.trace`), an ordinary `train_step` whose trace keeps what it did with arrays, and the second by
replaying the trace.  Both must arrive at the same bits everywhere; only then the trace makes the fit's steps, many at
once.  What cannot be traced is trained as ever.

What changes from step to step lies in arrays along which the trace moves.  The last step of an epoch, which is often
shorter and leaves the gradients' norm, is made eagerly.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..._typing import Array
from ...accel import trace_objection
from ...accel.native.trace import Trace, Traced, TraceError, untraced
from ...layers.base import walk
from ...layers.replays import network_over_same_memory, shallow
from ...ops import Ops
from ...recordable import RecordingMode
from ..epoch import Epoch
from ..state import TrainState, same_bits
from ..step import StepArrays, Training
from .guard import Guard
from .runner import Plan, Runner, SlowWay, objection, report

__all__ = ["SLOW", "TraceRunner", "over_same_memory", "plan_traces"]

# Steps, below which trying would cost more than is won.
_REPAID = 16
# Steps of an epoch that a trace is tried on, and the last.
_TRIED = 2
_FEWEST = _TRIED + 2

# Multiply-adds of a step for each layer's pass, from which on its Python does not matter: about a tenth of a second.
_LONG = 1 << 31
# Seconds after which Python should have its turn again, for Ctrl-C.
_PATIENCE = 0.1

SLOW = SlowWay("each step is made in Python", logging.DEBUG)


def plan_traces(training: Training, plan: Plan, last: Runner | None = None) -> TraceRunner | str:
    """Return what replays the steps of a fit, or why nothing does; `last` is the runner of the fit before.

    Where it is requested, classes that are not xpnn's may be part of it, whose Python beside array work, counting or
    printing say, happens but once.
    """
    steps = plan.n // plan.batch_size
    why = trace_objection(training.net.backend.ops)
    if why is not None:
        return why
    if steps < _FEWEST or (plan.epochs * steps < _REPAID and not plan.requested):
        return f"{plan.epochs * steps} steps do not repay a trace"
    if training.net.store.values.size * plan.batch_size > _LONG and not plan.requested:
        return "steps are long"
    why = objection(training, RecordingMode(plan.weighted, trusted=plan.requested, as_one=False))
    if why is not None:
        return why
    if isinstance(last, TraceRunner) and (last.batch_size, last.loud) == (plan.batch_size, plan.requested):
        return last
    return TraceRunner(plan.batch_size, loud=plan.requested)


class _Replayed(NamedTuple):
    """A trace, and where it leaves the penalty."""

    trace: Trace
    penalty: Array | None


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows of inputs, targets and weights."""

    columns: list[Array]
    index: Array | None = None  #: numbers of the rows to take; None takes all as they lie

    def __len__(self) -> int:
        return len(self.columns[0] if self.index is None else self.index)

    @property
    def in_one_piece(self) -> bool:
        return all(column.flags.c_contiguous and column.flags.aligned for column in self.columns)

    def after(self, n: int) -> _Rows:
        """Return the rows from number `n` on."""
        if self.index is None:
            return _Rows([column[n:] for column in self.columns])
        return _Rows(self.columns, self.index[n:])

    def batch(self, n: int, ops: Ops, trace: Trace | None = None) -> tuple[Array, Array, Array | None]:
        """Return the first `n` rows as a step takes them; from arrays along which a trace moves, if there is one."""
        moving: Callable[[Array], Array] = trace.moving if trace is not None else lambda array: array
        if self.index is None:
            batch = [moving(column[:n]) for column in self.columns]
        else:
            columns = [moving(column) for column in self.columns]
            index = moving(self.index[:n])
            batch = [ops.take_rows(column, index) for column in columns]
        x, y, weight = (*batch, None)[:3]
        return x, y, weight

    def places(self, n: int) -> list[tuple[int, int]]:
        """Return where what moves is for a batch of `n`, and how far from there for the next."""
        if self.index is None:
            return [(column.ctypes.data, n * column.strides[0]) for column in self.columns]
        columns = [(column.ctypes.data, 0) for column in self.columns]
        return [*columns, (self.index.ctypes.data, n * self.index.strides[0])]


class _Moving:
    """What a trace moves along in an epoch: rows, the step table, and where losses and metrics go."""

    def __init__(self, epoch: Epoch) -> None:
        self._feed, self._order, self.batch_size = epoch.feed, epoch.order, epoch.table.batch_size
        held = epoch.feed.held(epoch.order)
        self.held = None if held is None else _Rows(*held)
        self.table: StepArrays = epoch.table.lay_out(epoch.training.net, 0, len(epoch.table))
        #: All arrays but those of the rows, each with its length of one step.
        self.arrays = [(a, 1) for a in (self.table.numbers, self.table.keys, *epoch.tally.tables)]
        if self.table.rows is not None:
            self.arrays.append((self.table.rows, self.batch_size))

    @property
    def kind(self) -> Any:
        """What a trace depends on of them."""
        length = None if self.held is None or self.held.index is None else len(self.held.columns[0])
        return self._feed.kinds, length, [array.shape[1:] for array, _ in self.arrays]

    def pieces(self, edges: Sequence[int]) -> Iterator[_Rows]:
        """Return the rows all at once where they lie in memory, else from edge to edge."""
        if self.held is not None:
            return iter([self.held])
        blocks = self._feed.blocks(self._order, edges)
        return (_Rows([column for column in block if column is not None]) for block in blocks)

    def places(self, slot: int, rows: _Rows) -> list[tuple[int, int]]:
        """Return where all are for a step whose batch comes first in `rows`, and how far from there for the next."""
        steps = [(a, n * a.strides[0]) for a, n in self.arrays]
        return [*((a.ctypes.data + slot * far, far) for a, far in steps), *rows.places(self.batch_size)]


class TraceRunner:
    """Replays the steps of one trainer, from fit to fit; if `loud`, warns where it cannot, and not only logs."""

    def __init__(self, batch_size: int, *, loud: bool) -> None:
        self.batch_size, self.loud = batch_size, loud
        self._guard: Guard | None = None
        self._found: _Replayed | None = None  # the trace that passed its trial
        self._failed = False
        self._pace = 1  # steps to be made at once
        self._counted = False  # whether the last steps are made, and the counters are theirs

    def end(self) -> TraceRunner:
        """Return itself: of rows and step tables it keeps none, so it may serve the next fit."""
        return self

    def run(self, epoch: Epoch) -> int:
        """Make the steps of an epoch but the last."""
        moving = _Moving(epoch)
        found = self._trace_for(epoch, moving)
        if found is None:
            return epoch.first
        made, end, threads = epoch.first, len(epoch.table) - 1, epoch.training.threads
        for rows in moving.pieces(epoch.feed.edges(self.batch_size, made)):
            if not rows.in_one_piece:
                break
            # Rows that lie in memory come all at once, from the first of the epoch on.
            begun = made if moving.held is None else 0
            stop = min(begun + len(rows) // self.batch_size, end)
            while made < stop:
                most = min(threads.most_steps(), epoch.between.most(epoch.table.first + made))
                count = min(self._pace, stop - made, most)
                places = moving.places(made, rows.after((made - begun) * self.batch_size))
                epoch.position.torn = True
                threads.go_on()
                try:
                    self._play(epoch.training, found, count, places)
                finally:  # Ctrl-C may come when they are made
                    if self._counted:
                        made += count
                        epoch.whole(made)
                threads.made(count)
                epoch.training.pause()
        return made

    def _play(self, training: Training, found: _Replayed, count: int, places: Sequence[tuple[int, int]]) -> None:
        """Make some steps by replaying a trace."""
        began = time.perf_counter()
        self._counted = False
        try:
            found.trace.play(count, places)
        finally:
            if found.trace.played == count:
                training.step += count
                training.optimizer.t += count
                training.penalty = found.penalty
                self._counted = True
        self._pace = max(int(_PATIENCE * count / (time.perf_counter() - began)), 1)

    # -- making a trace -------------------------------------------------------------------------------------
    def _trace_for(self, epoch: Epoch, moving: _Moving) -> _Replayed | None:
        """Return a trace for an epoch that may be trusted, if need be a new one."""
        guard = Guard(epoch.training, moving.kind)
        if guard != self._guard:
            self._guard, self._found, self._failed = guard, None, False
        if self._failed or self._found is not None or epoch.first:  # a trial begins with the epoch
            return self._found
        rows = next(moving.pieces([0, _TRIED * self.batch_size]))
        found = self._try(epoch, moving, rows) if rows.in_one_piece else "rows do not lie in one piece"
        if isinstance(found, str):
            self._failed = True
            report(SLOW, found, loud=self.loud)
            return None
        self._found = found
        return found

    def _try(self, epoch: Epoch, moving: _Moving, rows: _Rows) -> _Replayed | str:
        """Make the epoch's first steps on trial and undo them; return the trace, or why it cannot serve.

        The trainer's own layers take no part in it.
        """
        training, made = epoch.training, []
        epoch.position.torn = True
        before = epoch.begun if epoch.begun.complete else TrainState(training, whole=True)
        grads = training.net.store.grads.copy()  # of which no layer assigns what lies between the parameters

        def eagerly() -> Training:
            ops, batch_size = training.net.backend.ops, self.batch_size
            other = over_same_memory(training, ops)
            for k, step in enumerate(epoch.table.steps(0, _TRIED)):
                x, y, weight = rows.after(k * batch_size).batch(batch_size, ops)
                value, pred = other.train_step(x, y, weight, step)
                epoch.tally.add(k, value, pred, y, weight)
            return other

        def recorded() -> None:
            made.append(self._record(epoch, moving, rows))
            self._play(training, made[0], _TRIED - 1, moving.places(1, rows.after(self.batch_size)))

        try:  # first eagerly, for a trace keeps its memory
            equal = same_bits(before, training, epoch.tally.tables, eagerly=eagerly, recorded=recorded)
        except Exception as error:  # of whatever kind: a layer may do anything with such arrays
            return str(error) or type(error).__name__
        finally:
            before.restore(training)
            training.net.store.grads[...] = grads
            epoch.position.torn = False
        return made[0] if equal else "replayed, they give other results"

    def _record(self, epoch: Epoch, moving: _Moving, rows: _Rows) -> _Replayed:
        """Make the epoch's first step and trace it."""
        training, table = epoch.training, moving.table
        ops, trace = training.net.backend.ops.tracing(training.net.store.values.dtype)  # type: ignore[attr-defined]
        other = over_same_memory(training, ops, trace)
        numbers, keys, *tables = (trace.moving(array[:n]) for array, n in moving.arrays)
        own = None if table.rows is None else tables.pop()
        x, y, weight = rows.batch(self.batch_size, ops, trace)
        step = table._replace(numbers=numbers, keys=keys, rows=own).step(0, 0, slice(None), last=False)
        value, pred = other.train_step(x, y, weight, step)
        epoch.tally.over(tables).add(0, value, pred, y, weight)
        for layer in walk(other.net.layers):
            if any(isinstance(value, Traced) for value in vars(layer).values()):
                raise TraceError(f"{layer.label} keeps an array of its own")
        trace.finish()
        training.step, training.optimizer.t = other.step, other.optimizer.t
        return _Replayed(trace, untraced(other.penalty))


def over_same_memory(training: Training, ops: Ops, trace: Trace | None = None, grads: Array | None = None) -> Training:
    """Return another over the same memory, with layers of its own; with a trace, all of its arrays are traced.

    Its gradients go into `grads`, traced, where they are given.
    """
    fixed: Callable[[Array], Array] = trace.fixed if trace is not None else lambda array: array
    other = shallow(training)
    other.net = network_over_same_memory(training.net, ops, fixed, grads)
    other.optimizer = shallow(training.optimizer)
    other.optimizer.state = {name: fixed(array) for name, array in training.optimizer.state.items()}
    other.regularizer = shallow(training.regularizer)
    other.bound_loss = training.bound_loss.using(ops)
    return other
