"""Standard streams that do not end a command: a training is worth more than the line that could not be printed."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

__all__ = ["Lasting", "open_missing"]


class Lasting:
    """A text stream that drops what cannot be written, and keeps the first error.

    A reader that has gone (``xpnn ... | head``) has seen enough: that is no error to `problem`.
    """

    def __init__(self, stream: Any) -> None:
        self.error: OSError | None = None
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        """Write what is waiting, or drop it."""
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    @property
    def problem(self) -> str | None:
        """Why something was lost that somebody waits for."""
        if self.error is None or isinstance(self.error, BrokenPipeError):
            return None
        return self.error.strerror or str(self.error)

    def _drop(self, error: OSError) -> None:
        self.error = self.error or error
        with contextlib.suppress(OSError, ValueError):  # what is left is dropped, also when Python flushes at exit
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def open_missing() -> None:
    """Open the null device for standard streams that are closed (``>&-``).

    Their numbers would else go to the next files that are opened, and what is printed would be written there.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
