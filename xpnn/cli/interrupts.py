"""Signals that end a command: Ctrl-C, SIGTERM and, where a terminal can hang up, SIGHUP, all in one way."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

__all__ = ["Interrupted", "Signals", "status_of", "word_of"]

# How each is told; other systems have no SIGHUP.
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    _WORDS[signal.SIGHUP] = "hung up"
# `timeout`, and shells that pass Ctrl-C on, send a signal twice at once: what comes within so many seconds is the same.
_SAME = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to end: everything that answers Ctrl-C answers it."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        self.signum = signum


def status_of(error: KeyboardInterrupt) -> int:
    """Return the exit status that shells give to the signal: 130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.

    Examples
    --------
    >>> status_of(KeyboardInterrupt()), status_of(Interrupted(signal.SIGTERM))
    (130, 143)
    """
    return 128 + getattr(error, "signum", signal.SIGINT)


def word_of(error: KeyboardInterrupt) -> str:
    """Return what happened, in a word or two."""
    return _WORDS[signal.Signals(getattr(error, "signum", signal.SIGINT))]


class Signals:
    """Raises `Interrupted` for the signals that end a command, while `caught`.

    What is `held` comes to its end first; a second signal, a second later or more, does not wait.
    """

    def __init__(self) -> None:
        self.pending: Interrupted | None = None  # came while held
        self._first: float | None = None
        self._held = False

    @contextlib.contextmanager
    def caught(self) -> Iterator[Signals]:
        """Answer signals within the block; those that are ignored (`nohup`), or answered by others, are left alone."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            for signum in _WORDS:
                if (handler := signal.getsignal(signum)) in (signal.SIG_DFL, signal.default_int_handler):
                    before[signum] = handler
                    signal.signal(signum, self._answer)
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Let the block come to its end, and keep a signal that comes meanwhile in `pending`."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Within what is held, answer signals in this block, first the one that waits."""
        held, self._held = self._held, False
        try:
            if self.pending is not None:
                pending, self.pending = self.pending, None
                raise pending
            yield
        finally:
            self._held = held

    def _answer(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        first = self._first is None
        if self._first is not None and now - self._first < _SAME:
            return
        self._first = self._first or now
        if self._held and first:
            self.pending = Interrupted(signum)
            return
        raise Interrupted(signum)
