"""Standard streams on which nothing that a file says can act on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from ..arguments import printable

__all__ = ["Shown"]


class Shown:
    """A text stream that writes control characters as escapes, but those that lay out lines.

    Labels, names of columns and of files come from anywhere; an escape sequence among them could move the cursor, hide
    lines, or set the window's title.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._raw = False

    def write(self, text: str) -> int:
        """Write a text as it can be shown."""
        self._stream.write(text if self._raw else printable(text, keep="\n\r\t"))
        return len(text)

    @contextlib.contextmanager
    def raw(self) -> Iterator[None]:
        """Let data through as they are, unless they go to a terminal."""
        self._raw = not self._stream.isatty()
        try:
            yield
        finally:
            self._raw = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
