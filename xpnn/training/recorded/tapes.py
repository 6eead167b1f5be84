"""Steps on a CPU made again from a tape, without the Python that each would take.

A fit's first two steps are made twice on trial.  Once by `Trainer.train_step`; then the first on noted arrays
(`xpnn.accel.native.trace`), an ordinary `train_step` of which a tape keeps what it did with arrays, and the second
from the tape.  Both must arrive at the same bits everywhere; only then the tape makes the fit's steps, many at once.
What cannot be noted is trained as ever.

As in `xpnn.training.recorded.graphs`, what changes from step to step lies in arrays, and what a tape has frozen is
looked at before each epoch.  The last step of an epoch, which is often shorter and leaves the gradients' norm, is the
trainer's.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..._typing import Array
from ...accel import NumpyOps
from ...accel.native.trace import Trace, Traced, TraceError, bare
from ...layers.base import walk
from ...layers.plan import unbound
from ...ops import Ops
from ...random import step_keys
from ..callbacks import Callback, LambdaCallback, looks_at_steps
from ..feed import Feed, Indices
from .graphs import Frozen, array_objection

if TYPE_CHECKING:
    from ..trainer import Restart, StepRow, Trainer, _Tally

__all__ = ["Replay", "plan_replay"]

# Steps, below which trying would cost more than is won.
_REPAID = 16
# Steps of an epoch that a tape is tried on, and the last.
_TRIED = 2
_FEWEST = _TRIED + 2

# Multiply-adds of a step for each layer's pass, from which on its Python does not matter: about a tenth of a second.
_LONG = 1 << 31
# Seconds after which Python should have its turn again, for Ctrl-C.
_PATIENCE = 0.1

_T = TypeVar("_T")
_LOG = logging.getLogger("xpnn")


def plan_replay(trainer: Trainer, feed: Feed, epochs: int, batch_size: int, *, asked: bool) -> Replay | None:
    """Return what makes the steps of a fit, or None if `Trainer.train_step` does.

    Parameters
    ----------
    trainer : Trainer
        With its optimizer bound, and its operations chosen.
    feed : Feed
        The training rows.
    epochs, batch_size : int
        Of the fit.
    asked : bool
        Whether it was asked for.  Then classes that are not xpnn's may be part of it, whose Python beside array work,
        counting or printing say, happens but once; and a warning tells where it cannot be done.
    """
    ops = trainer.net.backend.ops
    steps = len(feed) // batch_size
    why: str | None = None
    if type(ops) is not NumpyOps or not ops.compiled:
        why = "compiled loops are not in use (they come with xpnn[fast], in fits long enough to repay their loading)"
    elif steps < _FEWEST or (epochs * steps < _REPAID and not asked):
        why = f"{epochs * steps} steps do not repay a tape"
    elif trainer.net.store.values.size * batch_size > _LONG and not asked:
        why = "steps are long"
    else:
        why = array_objection(trainer, feed) or trainer.off_tape(weighted=feed.weight is not None)
        why = why or (None if asked else _foreign(trainer))
    if why is not None:
        _tell(why, loud=asked)
        return None
    last = trainer._replay
    if last is not None and (last.batch_size, last.asked) == (batch_size, asked):
        return last
    return Replay(batch_size, asked=asked)


# What makes a step, of a trainer, a network, its layers, a loss, an optimizer, a penalty or a metric.
_MAKERS = (
    *("train_step", "forward", "backward", "value_and_grad", "rows", "link"),
    *("update", "clipped_update", "rule", "numbers", "add", "sums", "per_sample"),
)


def _foreign(trainer: Trainer) -> str | None:
    """What may do more than array work."""
    listening = [callback for callback in trainer.callbacks if looks_at_steps(callback)]
    if any(isinstance(callback, LambdaCallback) for callback in listening):
        return "a function of yours looks at every step; fit(graph=True) says that it changes no option"
    parts: list[Any] = [trainer.net, trainer.loss, trainer.optimizer, trainer.regularizer, *trainer.metrics]
    parts += walk(trainer.net.layers)
    for part in (*parts, *listening):
        if part is not None and not _own(type(part).__module__):
            return f"{type(part).__name__} may do more than array work; fit(graph=True) says that it does not"
    for part in (trainer, *parts):
        for name in _MAKERS:
            function = getattr(type(part), name, None)
            home = getattr(function, "__globals__", {}).get("__name__")
            if callable(function) and (name in getattr(part, "__dict__", ()) or not _own(home)):
                return f"{type(part).__name__} has a {name} of its own"
    return None


def _own(module: str | None) -> bool:
    return module is not None and module.startswith(__package__.partition(".")[0] + ".")


def _tell(why: str, *, loud: bool, depth: int = 3) -> None:
    """Log or warn, in the name of the line that called `fit`, so many calls above the one that tells."""
    if loud:
        warnings.warn(f"fit: each step is made in Python: {why}.", RuntimeWarning, stacklevel=depth + 2)
    else:
        _LOG.debug("fit: each step is made in Python: %s", why)


class _Taped(NamedTuple):
    """A tape, and where it leaves the penalty."""

    tape: Trace
    penalty: Array | None


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows of inputs, targets and weights."""

    columns: list[Array]
    #: The numbers of the rows to take; None takes all as they lie.
    index: Array | None = None

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

    def batch(self, n: int, ops: Ops, tape: Trace | None = None) -> tuple[Array, Array, Array | None]:
        """Return the first `n` rows as a step takes them; from arrays that move on a tape, if there is one."""
        moving: Callable[[Array], Array] = tape.moving if tape is not None else lambda array: array
        if self.index is None:
            batch = [moving(column[:n]) for column in self.columns]
        else:
            columns = [moving(column) for column in self.columns]
            index = moving(self.index[:n])
            batch = [ops.take_rows(column, index) for column in columns]
        x, y, weight = (*batch, None)[:3]
        return x, y, weight

    def places(self, n: int) -> list[tuple[int, int]]:
        """Return where what moves on a tape is for a batch of `n`, and how far from there for the next."""
        if self.index is None:
            return [(column.ctypes.data, n * column.strides[0]) for column in self.columns]
        columns = [(column.ctypes.data, 0) for column in self.columns]
        return [*columns, (self.index.ctypes.data, n * self.index.strides[0])]


class _Source:
    """Where the rows of an epoch come from."""

    def __init__(self, feed: Feed, order: Indices | None) -> None:
        self._feed, self._order = feed, order
        held = feed.held(order)
        self._held = None if held is None else _Rows(*held)

    @property
    def kind(self) -> Any:
        """What a tape has to know of them."""
        indexed = self._held is not None and self._held.index is not None
        return self._feed.kinds, len(self._held.columns[0]) if self._held is not None and indexed else None

    def pieces(self, edges: Sequence[int]) -> Iterator[_Rows]:
        """Yield them all at once where they lie in memory, else from edge to edge."""
        if self._held is not None:
            yield self._held
            return
        for block in self._feed.blocks(self._order, edges):
            yield _Rows([column for column in block if column is not None])


class Replay:
    """The steps of one trainer, from fit to fit.

    Parameters
    ----------
    batch_size : int
        Rows of the batches that are made from a tape.
    asked : bool
        Whether it was asked for: to warn where steps cannot be, and not only to log.
    """

    def __init__(self, batch_size: int, *, asked: bool) -> None:
        self.batch_size, self.asked = batch_size, asked
        self._frozen: Frozen | None = None
        self._kind: Any = None  # of what moves
        self._taped: _Taped | None = None
        self._failed = False
        self._pace = 1  # steps to be made at once

    def run(
        self,
        trainer: Trainer,
        feed: Feed,
        order: Indices | None,
        table: Sequence[StepRow],
        tally: _Tally,
        restart: Restart,
        callbacks: Sequence[Callback],
    ) -> int:
        """Make the steps of an epoch but the last.

        Parameters
        ----------
        trainer : Trainer
            Whose steps they are; always the same.
        feed : Feed
            The training rows.
        order : numpy.ndarray of int64 or None
            In which to take them.
        table : sequence of StepRow
            The epoch's.
        tally : _Tally
            Where losses and metrics go.
        restart : Restart
            The state before the epoch.
        callbacks : sequence of Callback
            Those whose ``on_batch_end`` is called after each step.

        Returns
        -------
        int
            Steps made, from the first; the rest are the trainer's to make.
        """
        epoch = _Epoch(trainer, _Source(feed, order), table, tally)
        taped = self._tape_for(epoch, restart)
        if taped is None:
            return 0
        made, end = 0, len(table) - 1
        for rows in epoch.source.pieces(feed.edges(self.batch_size)):
            if not rows.in_one_piece:
                break
            begun, stop = made, min(made + len(rows) // self.batch_size, end)
            while made < stop:
                count = 1 if callbacks else min(self._pace, stop - made)
                self._play(taped, epoch, rows.after((made - begun) * self.batch_size), made, count)
                made += count
                for callback in callbacks:
                    callback.on_batch_end(trainer)
        return made

    def _play(self, taped: _Taped, epoch: _Epoch, rows: _Rows, slot: int, count: int) -> None:
        """Make steps from the tape, with the first of some rows."""
        trainer = epoch.trainer
        places = [(a.ctypes.data + slot * a.strides[0], a.strides[0]) for a in epoch.arrays]
        places += rows.places(self.batch_size)
        began = time.perf_counter()
        try:
            taped.tape.play(count, places)
        finally:  # Ctrl-C comes when it has been played
            trainer.step += count
            trainer.optimizer.t += count
            trainer._penalty = taped.penalty
        self._pace = max(int(_PATIENCE * count / (time.perf_counter() - began)), 1)

    # -- making a tape --------------------------------------------------------------------------------------
    def _tape_for(self, epoch: _Epoch, restart: Restart) -> _Taped | None:
        """Return a tape for an epoch that may be trusted, if need be a new one."""
        frozen, kind = Frozen(epoch.trainer), epoch.kind
        if (frozen, kind) != (self._frozen, self._kind):
            self._frozen, self._kind, self._taped, self._failed = frozen, kind, None, False
        if self._failed or self._taped is not None:
            return self._taped
        rows = next(epoch.source.pieces([0, _TRIED * self.batch_size]))
        found: _Taped | str = "rows do not lie in one piece"
        if rows.in_one_piece:
            if not restart.complete:
                restart = type(restart)(epoch.trainer, whole=True)
            try:
                found = self._try(epoch, rows, restart)
            finally:
                restart.restore(epoch.trainer)
        if isinstance(found, str):
            self._failed = True
            _tell(found, loud=self.asked, depth=5)
        else:
            self._taped = found
        return self._taped

    def _try(self, epoch: _Epoch, rows: _Rows, restart: Restart) -> _Taped | str:
        """Make the epoch's first steps without a tape and with a new one; return it, or why it cannot serve.

        The trainer's own layers take no part in it.
        """
        trainer, tally = epoch.trainer, epoch.tally
        try:
            expected = self._expected(epoch, rows)  # first, for a tape keeps its memory
            restart.restore(trainer)
            for array in (trainer.net.store.grads, *tally.tables):
                array[...] = 0.0  # what a tape leaves out must not be found there
            taped = self._note(epoch, rows)
            self._play(taped, epoch, rows.after(self.batch_size), 1, _TRIED - 1)
        except Exception as error:  # of whatever kind: a layer may do anything with such arrays
            return str(error) or type(error).__name__
        return taped if _digest(trainer, tally) == expected else "from a tape it gives other results"

    def _expected(self, epoch: _Epoch, rows: _Rows) -> bytes:
        """Make the epoch's first steps without a tape; tell the state that they lead to."""
        ops, tally = epoch.trainer.net.backend.ops, epoch.tally
        twin = _shown(epoch.trainer, ops)
        for k, row in enumerate(epoch.table[:_TRIED]):
            x, y, weight = rows.after(k * self.batch_size).batch(self.batch_size, ops)
            value, pred = twin.train_step(x, y, weight, row)
            tally.add(row.slot, value, pred, y, weight)
        return _digest(twin, tally)

    def _note(self, epoch: _Epoch, rows: _Rows) -> _Taped:
        """Make the epoch's first step, and note it on a new tape."""
        trainer, row = epoch.trainer, epoch.table[0]
        ops, tape = trainer.net.backend.ops.noting(trainer.net.store.values.dtype)  # type: ignore[attr-defined]
        shown = _shown(trainer, ops, tape)
        numbers, keys, *tables = (tape.moving(array[:1]) for array in epoch.arrays)
        x, y, weight = rows.batch(self.batch_size, ops, tape)
        numbered = row._replace(
            step={slot: (keys[0, j, 0], keys[0, j, 1]) for j, slot in enumerate(epoch.slots)},
            weight=row.weight if weight is None else numbers[0, 0],
            numbers=tuple(numbers[0, j] for j in range(1, numbers.shape[1])),
        )
        value, pred = shown.train_step(x, y, weight, numbered)
        epoch.tally.over(tables).add(0, value, pred, y, weight)
        for layer in walk(shown.net.layers):
            if any(isinstance(value, Traced) for value in vars(layer).values()):
                raise TraceError(f"{layer.label} keeps an array of its own")
        tape.finish()
        trainer.step, trainer.optimizer.t = shown.step, shown.optimizer.t
        return _Taped(tape, bare(shown._penalty))


class _Epoch:
    """What an epoch's steps have of their own, laid out with a row for each."""

    def __init__(self, trainer: Trainer, source: _Source, table: Sequence[StepRow], tally: _Tally) -> None:
        self.trainer, self.source, self.table, self.tally = trainer, source, table, tally
        net = trainer.net
        numbers: Any = [(row.weight, *row.numbers) for row in table]
        if all(isinstance(number, float) for number in numbers[0]):
            numbers = np.asarray(numbers)[..., None]
        else:  # replicas have their own
            numbers = [[np.broadcast_to(number, (*net.store.replicas, 1)) for number in row] for row in numbers]
        self.slots = [layer.slot for layer in walk(net.layers)]
        #: Batch weights with the optimizer's numbers, the mask keys, and where losses and metrics go.
        self.arrays = [
            np.asarray(numbers, net.store.values.dtype),
            np.asarray(step_keys(net.seed, trainer.step, len(table), self.slots), np.int32),
            *tally.tables,
        ]

    @property
    def kind(self) -> Any:
        """What a tape has frozen of it."""
        return self.source.kind, [array.shape[1:] for array in self.arrays]


def _shown(trainer: Trainer, ops: Ops, tape: Trace | None = None) -> Trainer:
    """Return a trainer over the same memory, with layers of its own; on a tape, all of its arrays are noted."""
    fixed: Callable[[Array], Array] = tape.fixed if tape is not None else lambda array: array
    shown = _twin(trainer)
    net = shown.net = _twin(trainer.net)
    store = net.store = _twin(net.store)
    net.backend = store.backend = dataclasses.replace(net.backend, ops=ops)
    for name in ("values", "grads", "buffers", "lr_factors", "decay_factors"):
        array = getattr(store, name)
        setattr(store, name, None if array is None else fixed(array))
    for name in ("params", "param_grads", "named_buffers"):
        setattr(store, name, {key: fixed(view) for key, view in getattr(store, name).items()})
    net.layers = copy.deepcopy(tuple(map(unbound, net.layers)))
    for layer in walk(net.layers):
        for array in vars(layer).values():
            if isinstance(array, np.ndarray):
                array.flags.writeable = False  # what is written to a copy would be lost
    net.bind(store)
    shown.optimizer = _twin(trainer.optimizer)
    shown.optimizer.state = {name: fixed(array) for name, array in trainer.optimizer.state.items()}
    shown.regularizer = _twin(trainer.regularizer)
    shown._loss = trainer._loss.using(ops)
    return shown


def _twin(thing: _T) -> _T:
    """Return another object with the same attributes: `copy.copy` makes of some what a file would keep."""
    if thing is None:
        return thing
    new = object.__new__(type(thing))
    vars(new).update(vars(thing))
    return new


def _digest(trainer: Trainer, tally: _Tally) -> bytes:
    """Return what tells apart two states after some steps."""
    store, optimizer = trainer.net.store, trainer.optimizer
    arrays = [store.values, store.grads, store.buffers, *optimizer.state.values(), *tally.tables]
    seen = hashlib.blake2b(repr((trainer.step, optimizer.t)).encode())
    for array in (*arrays, *(() if trainer._penalty is None else (trainer._penalty,))):
        seen.update(np.ascontiguousarray(array).data)
    return seen.digest()
