"""An epoch in stages of many steps, each recorded once and then launched as one.

A stage is memory: the rows of K batches, and a table of everything else that changes from step to step (learning
rate, bias corrections, mask keys, the rows' own numbers), with the places where losses and metrics go.  The K steps
are `Trainer.train_step`, called on views of that memory while a `Capturer` records.  From then on the host fills the
memory and launches; callbacks and readings come between epochs, as always.

Two stages take turns, so that the host can fill one while the device works on the other.  The last stage of an epoch,
which may be shorter and end in a shorter batch, is a third.

What Python code would do anew in each step happens only once when it is recorded.  So before a recording is trusted,
the same steps are made one by one, and the results must be equal to the last bit; if not, training goes on without.
Options that a recording has frozen, such as a clipping norm, are looked at before each epoch: if a callback has changed
one, the steps are recorded anew.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from ..._typing import Array
from ...accel.cuda.capture import Capturer, Recording, find_capturer
from ...backend import to_numpy
from ...errors import OptionError
from ...layers import BatchNorm, Dropout
from ...layers.base import walk
from ...random import step_keys
from ...regularizers import Regularizer
from ..callbacks import looks_at_steps
from ..feed import Batch, Feed

if TYPE_CHECKING:
    from ..trainer import StepRow, Trainer, _Tally

__all__ = ["Frozen", "Stages", "array_objection", "plan_stages"]

# Steps of one stage: at ten, launching costs next to nothing; more only save the host some work.
_STEPS = 32
# Elements of the inputs of one stage.
_ELEMENTS = 1 << 24
# Each recording costs about four times its steps: twice to warm up and to compare, once to record, once to launch.
_REPAID = 8

_LOG = logging.getLogger("xpnn")


def plan_stages(
    trainer: Trainer, feed: Feed, epochs: int, batch_size: int, graph: Literal["auto"] | bool | Capturer
) -> Stages | None:
    """Return the stages of a fit that is about to begin, or None if its steps are to be launched one by one.

    Parameters
    ----------
    trainer : Trainer
        With its optimizer bound.
    feed : Feed
        The training rows.
    epochs, batch_size : int
        Of the fit.
    graph : {"auto", True, False} or Capturer
        ``"auto"`` records where it can be done and repays itself; True wherever it can be done, and warns in one
        sentence where not.
    """
    if graph is False:
        return None
    if graph not in ("auto", True) and not hasattr(graph, "record"):
        raise OptionError(f"fit: expected graph to be 'auto', True or False, got {graph!r}. Leave it away.")
    capturer: Capturer | str
    backend = trainer.net.backend
    if graph == "auto" and backend.name != "cupy":
        return None  # nothing that could have been expected here, so nothing to say
    capturer = find_capturer(backend.name, backend.ops) if isinstance(graph, str | bool) else graph
    why = capturer if isinstance(capturer, str) else _objection(trainer, feed)
    steps = -(-len(feed) // batch_size)
    size = max(min(_STEPS, _ELEMENTS // (batch_size * feed.width)), 1)
    if why is None and graph == "auto" and epochs * steps < _REPAID * min(3 * size, steps):
        why = f"recording does not repay itself in {epochs * steps} steps"
    if why is not None or isinstance(capturer, str):
        _tell(f"steps are launched one by one: {why}", loud=graph != "auto")
        return None
    return Stages(trainer, capturer, steps, size, loud=graph != "auto")


def _objection(trainer: Trainer, feed: Feed) -> str | None:
    """Why steps of this trainer cannot be recorded, told without trying."""
    from ..trainer import Trainer

    for callback in trainer.callbacks:
        if looks_at_steps(callback):
            return f"{type(callback).__name__} looks at every step"
    if type(trainer).train_step is not Trainer.train_step:
        return f"{type(trainer).__name__} has a train_step of its own"
    return array_objection(trainer, feed)


def array_objection(trainer: Trainer, feed: Feed) -> str | None:
    """Why array work alone does not make steps of this network."""
    penalty = trainer.regularizer
    if penalty is not None and type(penalty).state is not Regularizer.state:
        return f"{type(penalty).__name__} makes new arrays in each step"
    for layer in walk(trainer.net.layers):
        if isinstance(layer, Dropout) and isinstance(layer.rate, list):
            return f"{layer.label} uploads the replicas' rates in each step"
        if isinstance(layer, BatchNorm) and feed.weight is not None:
            return f"{layer.label} computes with the weights of a batch on the host"
    return None


def _tell(text: str, *, loud: bool) -> None:
    if loud:
        warnings.warn(f"fit: {text}.", RuntimeWarning, stacklevel=5)
    else:
        _LOG.info("fit: %s", text)


class Stages:
    """The stages of one fit.

    Parameters
    ----------
    trainer : Trainer
        Whose steps they are.
    capturer : Capturer
        Records.
    steps : int
        Of an epoch.
    size : int
        Steps of one stage.
    loud : bool
        Whether to warn where a recording fails, or only to log.
    """

    def __init__(self, trainer: Trainer, capturer: Capturer, steps: int, size: int, *, loud: bool) -> None:
        self._trainer, self._capturer, self._loud = trainer, capturer, loud
        self._steps, self._size = steps, size
        self._last = (steps - 1) // size * size  # where the last stage begins
        self._made: dict[int, _Stage] = {}
        self._frozen: Frozen | None = None
        self._failed = False

    def edges(self, batch_size: int, n: int) -> list[int]:
        """Return where the rows of the stages begin, and `n`, where the last ends."""
        return [*range(0, n, self._size * batch_size), n]

    def run(self, blocks: Iterable[Batch], batch_size: int, table: Sequence[StepRow], tally: _Tally) -> int:
        """Make the steps of an epoch.

        Parameters
        ----------
        blocks : iterable of batches
            The rows of each stage.
        batch_size : int
            Rows of a step.
        table : sequence of StepRow
            The epoch's.
        tally : _Tally
            Where losses and metrics go.

        Returns
        -------
        int
            Steps made: all, or fewer if a recording failed; the rest are to be made one by one.
        """
        if self._failed:
            return 0
        trainer = self._trainer
        frozen = Frozen(trainer)
        if frozen != self._frozen:
            self._made, self._frozen = {}, frozen
        with self._capturer.active():
            for a, rows in zip(range(0, self._steps, self._size), blocks, strict=True):
                b = min(a + self._size, self._steps)
                which = 2 if a == self._last else a // self._size % 2
                if which not in self._made:
                    self._made[which] = _Stage(trainer, batch_size, rows, table[a:b])
                stage = self._made[which]
                stage.fill(rows, table[a:b])
                if stage.recording is not None:
                    stage.launch(stage.recording)
                else:
                    self._failed = not self._record(stage, table[a:b])
                tally.put(a, stage.tally)
                if self._failed:
                    self._made.clear()
                    return b
        return self._steps

    def _record(self, stage: _Stage, table: Sequence[StepRow]) -> bool:
        """Make a stage's steps one by one, record them, and find out whether the recording does the same."""
        trainer = self._trainer
        before = _State(trainer, stage.tally)
        stage.run(stage.rows)  # compiles what the recording will use
        before.restore()
        stage.run(table)
        after = _State(trainer, stage.tally)
        try:
            # The counters stand as after these steps, so a recording in which they are frozen will not pass.
            recording = self._capturer.record(lambda: stage.run(stage.rows))
        except BaseException as error:  # of CUDA, CuPy or cuBLAS, each of a kind of its own; or Ctrl-C
            after.restore()
            if not isinstance(error, Exception):
                raise
            reason = (str(error).strip().splitlines() or [""])[0].rstrip(".")
            _tell(
                f"steps are launched one by one: recording failed ({type(error).__name__}: {reason})", loud=self._loud
            )
            return False
        stage.keep(recording)
        before.restore()
        stage.launch(recording)
        if after.equals(_State(trainer, stage.tally)):
            return True
        after.restore()
        _tell(
            "steps are launched one by one: recorded, they give other results, so some code in them is not array work "
            "alone",
            loud=self._loud,
        )
        return False


class _Stage:
    """Memory of some steps, and their recording."""

    def __init__(self, trainer: Trainer, batch_size: int, rows: Batch, table: Sequence[StepRow]) -> None:
        from ..trainer import StepRow, _Tally

        net = trainer.net
        backend, replicas = net.backend, net.store.replicas
        self._trainer = trainer
        self.steps = len(table)
        self.recording: Recording | None = None
        self.tally = _Tally(trainer, self.steps)
        self._columns = [None if a is None else backend.copy(a, dtype=a.dtype) for a in rows]
        self._numbers = backend.zeros(
            (self.steps, 1 + len(table[0].numbers), *replicas, 1), dtype=net.store.values.dtype
        )
        self._slots = [layer.slot for layer in walk(net.layers)]
        self._keys = backend.zeros((self.steps, len(self._slots), 2, *replicas, 1), dtype=backend.xp.int32)
        self._row_numbers: Array | None = None
        if table[0].rows is not None:
            self._row_numbers = backend.zeros((rows[0].shape[0],), dtype=backend.xp.int32)
        self.batches: list[Batch] = []
        #: The table as views of this memory.
        self.rows: list[StepRow] = []
        for k, row in enumerate(table):
            place = slice(k * batch_size, min((k + 1) * batch_size, rows[0].shape[0]))
            x, y, w = (None if column is None else column[place, ...] for column in self._columns)
            self.batches.append((x, y, w))
            weight, *numbers = (self._numbers[k, j, ...] for j in range(self._numbers.shape[1]))
            keys = {slot: (self._keys[k, j, 0, ...], self._keys[k, j, 1, ...]) for j, slot in enumerate(self._slots)}
            own = None if self._row_numbers is None else self._row_numbers[place]
            self.rows.append(StepRow(keys, k, row.last, weight, tuple(numbers), own))

    def fill(self, rows: Batch, table: Sequence[StepRow]) -> None:
        """Put rows and numbers in their places."""
        net = self._trainer.net
        backend, int32 = net.backend, net.backend.xp.int32
        for column, values in zip(self._columns, rows, strict=True):
            if column is not None:
                column[...] = values
        host = np.zeros(self._numbers.shape)
        there: list[tuple[int, int, Array]] = []  # rates of the replicas' own are on the device already
        for k, row in enumerate(table):
            for j, value in enumerate((row.weight, *row.numbers)):
                if isinstance(value, float):
                    host[k, j, ...] = value
                else:
                    there.append((k, j, value))
        self._numbers[...] = backend.asarray(host, dtype=self._numbers.dtype)
        for k, j, value in there:
            self._numbers[k, j, ...] = value
        self._keys[...] = backend.asarray(step_keys(net.seed, self._trainer.step, self.steps, self._slots), dtype=int32)
        if self._row_numbers is not None:
            self._row_numbers[...] = backend.xp.concat([row.rows for row in table])

    def run(self, table: Sequence[StepRow]) -> None:
        """Make the steps, by the rows of an epoch's table or by those of this memory."""
        for slot, ((x, y, weight), row) in enumerate(zip(self.batches, table, strict=True)):
            value, pred = self._trainer.train_step(x, y, weight, row)
            self.tally.add(slot, value, pred, y, weight)

    def keep(self, recording: Recording) -> None:
        """Take a recording that has just been made, and note where it leaves what is read after an epoch."""
        self.recording = recording
        self._left = self._trainer._grad_norm, self._trainer._penalty

    def launch(self, recording: Recording) -> None:
        """Make the steps as they were recorded."""
        trainer = self._trainer
        recording.launch()
        trainer.step += self.steps
        trainer.optimizer.t += self.steps
        trainer._grad_norm, trainer._penalty = self._left


class Frozen:
    """What recorded steps have frozen: options, and the places of arrays."""

    def __init__(self, trainer: Trainer) -> None:
        store, optimizer = trainer.net.store, trainer.optimizer
        self._arrays = [store.values, store.grads, store.buffers, store.lr_factors, store.decay_factors]
        self._arrays += optimizer.state.values()
        plain = (str, int, float, list, tuple, type(None))
        # `lr` and `t` show in the table.
        own = [pair for pair in vars(optimizer).items() if isinstance(pair[1], plain) and pair[0] not in ("lr", "t")]
        own = [(name, value) for name, value in own if not name.startswith("_")]
        options = (trainer.clip_norm, trainer.clip_value, trainer.regularizer, trainer._loss, trainer.metrics)
        self._options = repr((type(optimizer), own, options, trainer.net.layers))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frozen) or len(self._arrays) != len(other._arrays):
            return False
        same = all(a is b for a, b in zip(self._arrays, other._arrays, strict=True))
        return same and self._options == other._options

    __hash__ = None  # type: ignore[assignment]


class _State:
    """Everything that steps change, copied."""

    def __init__(self, trainer: Trainer, tally: _Tally) -> None:
        self._trainer = trainer
        store, optimizer = trainer.net.store, trainer.optimizer
        arrays = [store.values, store.grads, store.buffers, *optimizer.state.values(), *tally.tables]
        self._arrays = [(array, trainer.net.backend.copy(array, dtype=array.dtype)) for array in arrays]
        self._counts = trainer.step, optimizer.t
        self._left = trainer._grad_norm, trainer._penalty

    def restore(self) -> None:
        """Put everything back."""
        trainer = self._trainer
        for array, copy in self._arrays:
            array[...] = copy
        trainer.step, trainer.optimizer.t = self._counts
        trainer._grad_norm, trainer._penalty = self._left

    def equals(self, other: _State) -> bool:
        """Whether the other is the same to the last bit."""
        pairs = [(a, b) for (_, a), (_, b) in zip(self._arrays, other._arrays, strict=True)]
        pairs += zip(self._left, other._left, strict=True)
        return self._counts == other._counts and all(
            b is None if a is None else to_numpy(a).tobytes() == to_numpy(b).tobytes() for a, b in pairs
        )
