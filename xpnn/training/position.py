"""Where a fit stands, at any moment, so that one that was cut off goes on to the bit.

A fit is a row of moments: the hooks before an epoch, its steps, the hooks and the validation after them, the row in
the history, the hooks at the end.  A `Position` is the moment, the steps made, and whose hooks are still to be called.
What is `Suspended` is a position with all that the next fit needs beside network, optimizer and counts.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._typing import Array
from ..backend import to_numpy
from ..errors import DataError
from ..params import Snapshot
from .callbacks import Callback
from .feed import Feed, Indices
from .history import History
from .portions import ShardFeeds
from .state import digest_of
from .step import Tally, Training

__all__ = [
    "At",
    "Begun",
    "Fitting",
    "Moment",
    "Position",
    "State",
    "Suspended",
    "is_stateful",
    "key_of",
    "left_by",
    "suspend",
    "what_goes_on",
]

_LOG = logging.getLogger("xpnn")

Moment: TypeAlias = Literal["on_epoch_begin", "on_batch_end", "on_epoch_trained", "on_epoch_end"]
#: What a callback keeps: its class by name, and its `state_dict`.
State: TypeAlias = tuple[str, dict[str, Any]]


class Fitting(Training, Protocol):
    """A trainer in a fit."""

    history: History
    callbacks: list[Callback]
    stop_reason: str | None
    pausing: bool
    seed: int
    position: Position
    suspended: Suspended | None
    rows_key: str

    def row_numbers(self, order: np.ndarray | None) -> Array | None:
        """Return the numbers that pick the rows' dropout masks."""

    def penalty_strengths(self, weights: np.ndarray) -> Sequence[float] | None:
        """Return the penalty's strength in each step."""


class Restorable(Protocol):
    """A state to go back to."""

    @property
    def complete(self) -> bool:
        """Whether nothing is lost by it."""

    def restore(self, training: Any) -> None:
        """Put everything back."""


class Begun(NamedTuple):
    """What the steps of an epoch begin with, so that they can be undone."""

    state: Restorable
    slot: int  #: steps made before
    states: list[State]  #: of the callbacks

    def restore(self, fitting: Fitting) -> None:
        """Undo the steps."""
        self.state.restore(fitting)
        self.restore_callbacks(fitting)

    def restore_callbacks(self, fitting: Fitting) -> None:
        """Give callbacks back what they kept."""
        for callback, (_, state) in zip(fitting.callbacks, self.states, strict=False):
            if state:
                callback.load_state_dict(state)


class At(NamedTuple):
    """A moment, and the callbacks whose hook of that name is still to be called; None: it is not begun."""

    moment: Moment
    waiting: list[Callback] | None = None


class Position:
    """Where a fit stands in an epoch.

    Attributes
    ----------
    epoch : int
        Epochs finished before it.
    at : At
        Changed by single assignments, so that it is right whenever an error comes.  The moment ``"on_batch_end"`` is
        that of the steps.
    slot : int
        Steps made of this epoch.
    torn : bool
        Whether a step is half made.
    calling : bool
        Whether what comes between steps is being called.
    begun : Begun or None
        To undo the steps with.
    tally : Tally or None
        Losses and metrics of the epoch's steps; `tables` are those of steps that an earlier fit made, on the host.
    order : array of int or None
        In which the epoch takes the rows, where that cannot be found out again.
    seconds : float
        Spent on this epoch before `began`, a moment of `time.perf_counter`.
    """

    def __init__(self, epoch: int, rows: int) -> None:
        self.epoch, self._rows = epoch, rows
        self.at = At("on_epoch_begin")
        self.slot = 0
        self.torn = self.calling = False
        self.begun: Begun | None = None
        self.tally: Tally | None = None
        self.tables: list[np.ndarray] = []
        self.order: Indices | None = None
        self.seconds, self.began = 0.0, time.perf_counter()

    def begin(self, fitting: Fitting, state: Restorable) -> Begun:
        """Note, and return, what the steps that follow begin with."""
        self.begun = Begun(state, self.slot, states_of(fitting.callbacks))
        return self.begun

    def settle(self, fitting: Fitting, error: BaseException) -> bool:
        """After an error, leave nothing torn: stay where no step is half made, or go back to where the steps began.

        Returns whether a later fit can go on exactly.
        """
        exact = True
        if len(fitting.history) > self._rows:
            if self.at.moment != "on_epoch_end":
                self.at = At("on_epoch_end")
        elif self.begun is not None and (self.torn or self._half_called() or self._unread(error)):
            unread, exact = self._unread(error), self.begun.state.complete
            self.begun.restore(fitting)
            self.slot, self.at, self.torn = self.begun.slot, At("on_batch_end", []), False
            lost = "" if exact else " The optimizer, too large to be copied each epoch, begins anew."
            said = f"The trainer is left as it was at the beginning of epoch {self.epoch + 1}.{lost}"
            if unread:
                error.args = (f"{error} {said}",)
            elif not exact:
                _LOG.warning("fit: %s in a step that is undone. %s", type(error).__name__, said)
        fitting.epoch = self.epoch + (self.at.moment == "on_epoch_end")
        return exact

    def _half_called(self) -> bool:
        """Whether the hook after a step was left by a callback that has a state, which may be torn."""
        moment, waiting = self.at
        return moment == "on_batch_end" and waiting is not None and any(map(is_stateful, waiting[:1]))

    def _unread(self, error: BaseException) -> bool:
        """Whether an error is that of rows which cannot be read."""
        return isinstance(error, DataError) and not self.calling and not self.at.waiting


class Suspended(NamedTuple):
    """What an unfinished fit leaves for the next, beside network, optimizer and counts.

    Attributes
    ----------
    epoch : int
        Finished epochs.
    moment, slot, order, seconds, tables
        See `Position`.
    waiting : list of int or None
        Places, in `states`, of the callbacks whose hook is still to be called.
    states : list of State
        Of all callbacks.
    stop_reason : str or None
        Why the fit was to end, if it was.
    rows : str
        Tells rows, weights and batch size apart from others.
    live : Snapshot or None
        Weights to go on with, where callbacks have put others into the network at the end.
    left : bytes
        The digest of what the fit has left in the network.
    """

    epoch: int
    moment: Moment
    slot: int
    waiting: list[int] | None
    seconds: float
    stop_reason: str | None
    rows: str
    states: list[State]
    tables: list[np.ndarray]
    order: np.ndarray | None = None
    live: Snapshot | None = None
    left: bytes = b""

    @property
    def made(self) -> int:
        """Steps made of the unfinished epoch."""
        return 0 if self.moment == "on_epoch_end" else self.slot

    def leave(self, fitting: Fitting) -> Suspended:
        """Return it as it is when callbacks have ended: weights that are in the network are not kept twice."""
        live = self.live
        if live is not None:
            store = fitting.net.store
            pairs = (live.values, store.values), (live.buffers, store.buffers)
            live = None if all((to_numpy(a) == to_numpy(b)).all() for a, b in pairs) else live
        return self._replace(live=live, left=left_by(fitting))

    def objection(self, fitting: Fitting) -> str | None:
        """Return why a fit cannot go on from here, if so."""
        if self.left and self.left != left_by(fitting):
            return "weights or counts were changed"
        if self.rows != fitting.rows_key:
            return "rows, their weights, or the batch size are others"
        return None

    def restore(self, fitting: Fitting) -> Position:
        """Put weights and callbacks back, and return where the fit stands.  It may be done again."""
        if self.live is not None:
            fitting.net.store.restore(self.live)
        found = _partners(self.states, fitting.callbacks)
        for callback, (_, state) in zip(found, self.states, strict=True):
            if callback is not None and state:
                callback.load_state_dict(state)
        ended = self.moment == "on_epoch_end"
        position = Position(self.epoch - ended, len(fitting.history) - ended)
        waiting = None if self.waiting is None else [found[k] for k in self.waiting]
        position.at = At(self.moment, None if waiting is None else [c for c in waiting if c is not None])
        position.slot, position.tables, position.order = self.slot, self.tables, self.order
        position.seconds = self.seconds
        fitting.stop_reason = self.stop_reason or fitting.stop_reason
        return position


def suspend(fitting: Fitting, *, keep: bool = False) -> Suspended:
    """Return what the next fit needs to go on from the present position, which must not be torn.

    With `keep`, the network's weights are copied: they are about to be changed.
    """
    position = fitting.position
    moment, waiting = position.at
    tables = position.tables if position.tally is None else position.tally.tables
    return Suspended(
        position.epoch + (moment == "on_epoch_end"),
        moment,
        position.slot,
        None if waiting is None else [k for k, c in enumerate(fitting.callbacks) if any(c is w for w in waiting)],
        position.seconds + time.perf_counter() - position.began,
        None if fitting.pausing else fitting.stop_reason,
        fitting.rows_key,
        states_of(fitting.callbacks),
        [np.array(to_numpy(table[: position.slot, ...])) for table in tables],
        position.order,
        fitting.net.store.snapshot() if keep else None,
    )


def what_goes_on(fitting: Fitting) -> Suspended | None:
    """Return what the fit before has left, if this one can go on with it."""
    if fitting.suspended is None:
        return None
    why = fitting.suspended.objection(fitting)
    if why is None:
        return fitting.suspended
    fitting.suspended = None
    _LOG.warning("fit: a new epoch begins, for the fit that was cut off cannot be gone on with: %s", why)
    return None


def is_stateful(callback: Callback) -> bool:
    """Whether a callback keeps something from hook to hook that a later fit must know."""
    return type(callback).state_dict is not Callback.state_dict


def states_of(callbacks: Sequence[Callback]) -> list[State]:
    """Return what callbacks keep."""
    return [(type(callback).__name__, callback.state_dict()) for callback in callbacks]


def key_of(rows: Feed | ShardFeeds, batch_size: int, *, shuffle: bool, shards: Any = None) -> str:
    """Return what tells the steps over some rows apart from those over others: their numbers, weights and shards."""
    facts = len(rows), rows.width, batch_size, shuffle, *(() if shards is None else (shards,))
    return digest_of(facts, [a for a in (rows.numbers, rows.weight) if a is not None]).hex()


def _partners(states: list[State], callbacks: Sequence[Callback]) -> list[Callback | None]:
    """Return the callback that each state belongs to: those of one class in their order."""
    left = list(callbacks)
    found: list[Callback | None] = []
    for kind, _ in states:
        place = next((k for k, callback in enumerate(left) if type(callback).__name__ == kind), None)
        found.append(None if place is None else left.pop(place))
    return found


def left_by(fitting: Fitting) -> bytes:
    """Return the digest of what a fit has left: weights, buffers and counts."""
    store, optimizer = fitting.net.store, fitting.optimizer
    return digest_of((fitting.step, fitting.epoch, optimizer.t), [store.values, store.buffers])
