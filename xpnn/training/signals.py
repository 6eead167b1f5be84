"""Ctrl-C, SIGTERM and SIGHUP, answered where nothing is torn."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, TypeAlias

__all__ = ["DeferredSignals"]

Handler: TypeAlias = Callable[[int, FrameType | None], Any]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# Seconds that a signal waits at most if it comes again: what is under way does not end.
_PATIENCE = 2.0


class DeferredSignals:
    """Within a ``with`` block, notes SIGINT, SIGTERM and SIGHUP; `answer` then calls their handlers.

    Only handlers that are Python functions wait, and only in the main thread, where Python calls them; what the
    operating system does by itself cannot wait.  A signal that comes again after two seconds is answered at once.  A
    block within a block notes nothing of its own: its `answer` is that of the outer one.

    Attributes
    ----------
    active : bool
        Whether signals wait; else their handlers are called at once.
    pending : bool
        Whether a signal waits.
    """

    def __init__(self) -> None:
        self.pending = False
        self._noted: dict[int, tuple[FrameType | None, float]] = {}
        self._handlers: dict[int, Handler] = {}
        self._entered = contextlib.ExitStack()
        self.active = False

    def __enter__(self) -> DeferredSignals:
        if threading.current_thread() is not threading.main_thread():
            return self
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        for handler in handlers.values():
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, DeferredSignals) and outer.active:
                return outer
        for number, handler in handlers.items():
            if callable(handler):
                self._handlers[number] = handler
                self._entered.callback(self._put_back, number)
                signal.signal(number, self._note)
        self.active = True
        return self

    def __exit__(self, *error: object) -> None:
        self.active = False  # from here on a signal is answered at once, whosever handler is in place
        with self._entered:
            self.answer()

    def _put_back(self, number: int) -> None:
        if signal.getsignal(number) == self._note:  # unless somebody has put another one in its place
            signal.signal(number, self._handlers[number])

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        since = self._noted.setdefault(number, (frame, now))[1]
        self.pending = True
        if not self.active or now - since > _PATIENCE:
            self.answer()

    def answer(self) -> None:
        """Call the handlers of the signals that wait; what they raise comes from here."""
        self.pending = False
        while self._noted:
            number = next(iter(self._noted))
            frame, _ = self._noted.pop(number)
            self._handlers[number](number, frame)
