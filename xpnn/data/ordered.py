"""Pieces of a stream, worked on by several threads, whose results are taken in the order of the pieces."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from ..accel.workers import together, worker_count

__all__ = ["in_order"]

_Own = TypeVar("_Own")
_Piece = TypeVar("_Piece")
_Result = TypeVar("_Result")


def in_order(
    own: Callable[[], _Own],
    take: Callable[[_Own], _Piece | None],
    work: Callable[[_Own, _Piece], _Result],
    keep: Callable[[_Result], None],
) -> None:
    """Work on pieces until there are no more.

    As many pieces are under way as there are threads: who has worked on one waits until those before it are kept.

    Parameters
    ----------
    own : callable
        Returns what a thread has for itself, such as memory.
    take : callable
        Returns the next piece, None behind the last; called by one thread at a time.
    work : callable
        Returns what is made of a piece; called by several threads at once.
    keep : callable
        Keeps a result; called in the order of the pieces, by one thread at a time.

    Examples
    --------
    >>> pieces, kept = iter("abc"), []
    >>> in_order(list, lambda own: next(pieces, None), lambda own, piece: piece.upper(), kept.append)
    >>> kept
    ['A', 'B', 'C']
    """
    stream = _Stream(take, work, keep)
    together(lambda part: stream.run(own()), worker_count())


class _Stream(Generic[_Own, _Piece, _Result]):
    def __init__(
        self,
        take: Callable[[_Own], _Piece | None],
        work: Callable[[_Own, _Piece], _Result],
        keep: Callable[[_Result], None],
    ) -> None:
        self._take, self._work, self._keep = take, work, keep
        self._source, self._turn = threading.Lock(), threading.Condition()
        self._taken = self._kept = 0
        self._over = self._failed = False

    def run(self, own: _Own) -> None:
        """Work on pieces, as one of several threads; none is taken any more when one has failed."""
        try:
            while self._one(own):
                pass
        except BaseException:
            with self._turn:
                self._over = self._failed = True
                self._turn.notify_all()
            raise

    def _one(self, own: _Own) -> bool:
        """Work on the next piece; tell whether there was one."""
        with self._source:
            piece = None if self._over else self._take(own)
            if piece is None:
                self._over = True
                return False
            number = self._taken
            self._taken += 1
        result = self._work(own, piece)
        with self._turn:
            self._turn.wait_for(lambda: self._kept == number or self._failed)
            if self._failed:
                return False
            self._keep(result)
            self._kept += 1
            self._turn.notify_all()
        return True
