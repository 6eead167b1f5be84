"""CUDA graphs: an epoch in stages of many steps, each recorded once and then launched as one.

A stage is memory: the rows of K batches, and the rows of the step table that belong to them (learning rate, bias
corrections, mask keys, the rows' own numbers), with the places where losses and metrics go.  The K steps are called on
views of that memory while a `Capturer` records.  From then on the host fills the memory and launches; callbacks and
readings come between epochs, as always.

Two stages take turns, so that the host can fill one while the device works on the other.  The last stage of an epoch,
which may be shorter and end in a shorter batch, is a third.

Before a recording is trusted, the same steps are made one by one, and the results must be equal to the last bit; if
not, training goes on without.

What records is found by this module's `find_capturer`: put another function in its place to record on another device.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..._typing import Array
from ...accel.cuda.capture import Capturer, Recording, find_capturer
from ...contract import foreign
from ...layers.base import walk
from ...recordable import RecordingMode
from ..epoch import Epoch
from ..feed import Batch, Indices
from ..state import TrainState, same_bits
from ..step import Step, StepTable, Tally, Training
from .guard import Guard
from .runner import STAGE_ELEMENTS, Plan, SlowWay, objection, report

__all__ = ["SLOW", "GraphRunner", "plan_graphs"]

# Steps of one stage: at ten, launching costs next to nothing; more only save the host some work.
_STEPS = 32
# Each recording costs about four times its steps: twice to warm up and to compare, once to record, once to launch.
_REPAID = 8

SLOW = SlowWay("steps are launched one by one", logging.INFO)


def plan_graphs(training: Training, plan: Plan) -> GraphRunner | str | None:
    """Return what launches the steps of a fit, or why nothing does; None where nobody could have expected it."""
    backend = training.net.backend
    if not plan.requested and backend.name != "cupy":
        return None
    capturer = find_capturer(backend.name, backend.ops)
    if isinstance(capturer, str):
        return capturer
    why = objection(training, RecordingMode(plan.weighted, trusted=True, as_one=True))
    if why is not None:
        return why
    steps = -(-plan.n // plan.batch_size)
    size = max(min(_STEPS, STAGE_ELEMENTS // (plan.batch_size * plan.width)), 1)
    if not plan.requested and plan.epochs * steps < _REPAID * min(3 * size, steps):
        return f"recording does not repay itself in {plan.epochs * steps} steps"
    return GraphRunner(capturer, size, loud=plan.requested)


class GraphRunner:
    """Launches the steps of one fit, in stages of `size`; if `loud`, warns where that fails, and not only logs."""

    def __init__(self, capturer: Capturer, size: int, *, loud: bool) -> None:
        self._capturer, self._size, self._loud = capturer, size, loud
        self._stages: dict[int, _Stage] = {}
        self._guard: Guard | None = None
        self._ready: tuple[StepTable, _Stage] | None = None  # a table, and the stage that holds its first steps
        self._failed = False

    def end(self) -> None:
        """Give back what the graphs worked in: none serves another fit."""
        self._ready = None
        self._stages.clear()
        self._capturer.release()

    def run(self, epoch: Epoch) -> int:
        """Make the steps of an epoch: all, or up to a stage that cannot be recorded.

        The rest of an epoch that an earlier fit began is left: its stages would be of other lengths.
        """
        if self._failed or epoch.first:
            return epoch.first
        guard = Guard(epoch.training)
        if guard != self._guard:
            self._stages, self._guard = {}, guard
        steps, size = len(epoch.table), self._size
        edges = [*range(0, len(epoch.feed), size * epoch.table.batch_size), len(epoch.feed)]
        ready, self._ready = self._ready, None
        brought = ready is not None and ready[0] is epoch.table and self._stages.get(self._place(0, steps)) is ready[1]
        first = int(brought)  # of the stages whose rows are to be brought

        def places(number: int) -> list[Array | None] | None:
            stage = self._stages.get(self._place((first + number) * size, steps))
            return None if stage is None else stage.columns

        with self._capturer.active():
            blocks = epoch.feed.blocks(epoch.order, edges[first:], places)
            for a in range(0, steps, size):
                which = self._place(a, steps)
                if a or not brought:
                    rows = next(blocks)
                    if which not in self._stages:
                        self._stages[which] = _Stage(epoch, rows, a, min(a + size, steps))
                    self._stages[which].fill(epoch.training, epoch.table, rows, a)
                stage = self._stages[which]
                epoch.position.torn = True
                if stage.recording is None:
                    self._record(epoch, stage, a)
                else:
                    stage.launch(epoch.training, stage.recording)
                    stage.made(epoch, a)
                epoch.training.pause()
                if self._failed:
                    self._stages.clear()
                    return a + stage.steps
        return steps

    def make_ready(self, epoch: Epoch, order: Indices | None, table: StepTable) -> None:
        """Put the first rows and numbers of the epoch to come in their stage, behind the work of the present one."""
        stage, feed = self._stages.get(self._place(0, len(table))), epoch.feed
        if stage is None or self._failed:
            return
        end = min(stage.steps * table.batch_size, len(feed))
        with self._capturer.active():
            for rows in feed.blocks(None if order is None else order[:end], [0, end], lambda number: stage.columns):
                stage.fill(epoch.training, table, rows, 0)
        self._ready = table, stage

    def _place(self, start: int, steps: int) -> int:
        """Return which stage an epoch's steps from `start` on are: two take turns, and the last is a third."""
        return 2 if start + self._size >= steps else start // self._size % 2

    def _record(self, epoch: Epoch, stage: _Stage, start: int) -> None:
        """Make a stage's steps one by one, record them, and find out whether the recording does the same."""
        training, tables = epoch.training, stage.tally.tables
        written = training.net.store.grads, *tables
        before = TrainState(training, whole=True)
        stage.run(training, stage.rows)  # compiles what the recording will use
        before.restore(training)
        after: list[TrainState] = []

        def eagerly() -> Training:
            stage.run(training, epoch.table.steps(start, start + stage.steps))
            after.append(TrainState(training, whole=True, also=written))
            return training

        def recorded() -> None:
            # The counters stand as after these steps, so a recording in which they are frozen is found out.
            after[0].restore_counts(training)
            own = not any(map(foreign, walk(training.net.layers)))  # others may look at gradients within a pass
            stage.recording = self._capturer.record(lambda: stage.run(training, stage.rows), branches=own)
            stage.left = training.grad_norm, training.penalty
            before.restore(training)
            stage.launch(training, stage.recording)

        equal = False
        try:
            equal = same_bits(before, training, tables, eagerly=eagerly, recorded=recorded)
            if equal:
                return
            why = "recorded, they give other results, so some code in them is not array work alone"
        except Exception as error:  # of CUDA, CuPy or cuBLAS, each of a kind of its own
            if not after:
                raise
            reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            why = f"recording failed ({type(error).__name__}: {reason})"
        finally:
            if after:  # also after Ctrl-C the steps stand
                if not equal:
                    after[0].restore(training)
                stage.made(epoch, start)
        self._failed = True
        report(SLOW, why, loud=self._loud)


class _Stage:
    """Memory of some steps, and their recording."""

    def __init__(self, epoch: Epoch, rows: Batch, start: int, stop: int) -> None:
        net, table, n = epoch.training.net, epoch.table, rows[0].shape[0]
        self.steps = stop - start
        self.recording: Recording | None = None
        self.tally = Tally(epoch.training, self.steps)
        self.columns = [None if a is None else net.backend.copy(a, dtype=a.dtype) for a in rows]
        self._arrays = table.lay_out(net, start, stop, each=True)
        self.left: tuple[Array, Array] = (None, None)  #: by the recording, for those who read after an epoch
        self._batches: list[Batch] = []
        self.rows: list[Step] = []  #: of the table, as views of this memory
        for k in range(self.steps):
            place = slice(k * table.batch_size, min((k + 1) * table.batch_size, n))
            x, y, w = (None if column is None else column[place, ...] for column in self.columns)
            self._batches.append((x, y, w))
            self.rows.append(self._arrays.step(k, k, place, last=start + k == len(table) - 1))

    def fill(self, training: Training, table: StepTable, rows: Batch, start: int) -> None:
        """Put rows, and the numbers of a table from `start` on, in their places."""
        for column, values in zip(self.columns, rows, strict=True):
            if column is not None and values is not column:
                column[...] = values
        table.fill(self._arrays, training.net, start)

    def run(self, training: Training, steps: Iterator[Step] | list[Step]) -> None:
        """Make the steps one by one, by the rows of an epoch's table or by those of this memory."""
        for slot, ((x, y, weight), step) in enumerate(zip(self._batches, steps, strict=True)):
            note = self.tally.note(slot)
            value, pred = training.train_step(x, y, weight, step if note is None else step._replace(note=note))
            self.tally.add(slot, value, pred, y, weight, note)

    def made(self, epoch: Epoch, start: int) -> None:
        """Put losses and metrics in the epoch's tally: the steps from number `start` on are whole."""
        epoch.tally.put(start, self.tally)
        epoch.whole(start + self.steps)

    def launch(self, training: Training, recording: Recording) -> None:
        """Make the steps as they were recorded."""
        recording.launch()
        training.step += self.steps
        training.optimizer.t += self.steps
        training.grad_norm, training.penalty = self.left
