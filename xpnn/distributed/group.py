"""Processes that compute together: what an engine must be able to do, and what is said between them."""

from __future__ import annotations

import json
import logging
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import errors
from .._typing import Array
from ..errors import ProcessError, XpnnError

__all__ = ["GO_ON", "Alone", "Group", "ToAll", "agree", "together", "words_of"]

#: What ends the message of a failure.
GO_ON = "(All end; go on from the last checkpoint.)"
_LOG = logging.getLogger("xpnn")


class Group(ABC):
    """Processes of one training, as one of them sees the others.

    All of them make the same calls in the same order.  Arrays are contiguous, and equally long on both sides.  An
    engine of your own defines `sendrecv`, `allgather` and `fail`.

    Attributes
    ----------
    rank : int
        The number of this process, from 0.
    size : int
        How many there are.
    engine : str
        What moves the bytes, for messages.
    engine_version : str
        The library that does so, with its version.
    on_device : bool
        Whether arrays are exchanged where the network's backend has them; False: NumPy's arrays are.
    exit_status : int
        With which the processes end after a failure, where it is the engine that ends them.
    """

    rank: int = 0
    size: int = 1
    engine: str = "one process"
    engine_version: str = "none"
    on_device: bool = False
    exit_status: int = 1

    @abstractmethod
    def sendrecv(self, send: Array, to: int, receive: Array, source: int) -> None:
        """Send an array to the process `to` while another one comes, in place, from `source`.

        Raises ProcessError, which names the rank, if one of them is gone or has called `fail`.
        """

    @abstractmethod
    def allgather(self, mine: Array, everyone: Array) -> None:
        """Bring `mine`, of shape (n,), of all processes into `everyone`, (size, n), in the order of their ranks."""

    @abstractmethod
    def fail(self, reason: str) -> None:
        """Tell the others that this process cannot go on: whoever waits for it raises ProcessError with the reason."""

    def allgather_host(self, mine: np.ndarray, everyone: np.ndarray) -> None:
        """Do what `allgather` does with NumPy's arrays, whatever is exchanged else."""
        self.allgather(mine, everyone)

    def announce(self) -> None:
        """Say in the log which process this is, at the beginning: a launcher's messages have its number alone."""
        if self.size > 1:
            _LOG.info("rank %d of %d is process %d on %s", self.rank, self.size, os.getpid(), platform.node())

    # -- what is said ---------------------------------------------------------------------------------------
    def share(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of their ranks: numbers, text, lists, dicts, None."""
        if self.size == 1:
            return [value]
        mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
        lengths = np.zeros((self.size, 1), np.int64)
        self.allgather_host(np.asarray([len(mine)], np.int64), lengths)
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: len(mine)] = mine
        texts = np.zeros((self.size, len(padded)), np.uint8)
        self.allgather_host(padded, texts)
        return [json.loads(texts[k, : int(lengths[k, 0])].tobytes()) for k in range(self.size)]

    def broadcast(self, value: Any, root: int = 0) -> Any:
        """Return the value of the process `root`."""
        return self.share(value if self.rank == root else None)[root]

    def barrier(self) -> None:
        """Wait until all have come here."""
        self.share(None)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"


class ToAll(Exception):  # noqa: N818
    """Beside the class of an error: all processes raise it, at the same place, so none has to be told of it."""


class Alone(Group):
    """A group of one process.

    Examples
    --------
    >>> Alone().share("hello")
    ['hello']
    """

    def sendrecv(self, send: Array, to: int, receive: Array, source: int) -> None:
        """Copy."""
        receive[...] = send

    def allgather(self, mine: Array, everyone: Array) -> None:
        """Copy."""
        everyone[0, ...] = mine

    def fail(self, reason: str) -> None:
        """Do nothing: nobody waits."""


@contextmanager
def together(group: Group) -> Iterator[None]:
    """Around what each process does by itself: if it fails on one, it fails on all, with a message that has the rank.

    All processes must enter and leave it.  The error is of the class that was raised where it is one of xpnn's, and
    each process raises that of the lowest rank.

    Examples
    --------
    >>> with together(Alone()):
    ...     rows = 3
    """
    if group.size == 1:
        yield
        return
    error: Exception | None = None
    try:
        yield
    except ProcessError:  # everybody has it, or is told of it
        raise
    except Exception as caught:
        error = caught
    said = None if error is None else [type(error).__name__, str(error)]
    found = group.share(said)
    first = next((rank for rank, one in enumerate(found) if one is not None), None)
    if first is None:
        return
    kind, text = found[first]
    if error is not None and (first == group.rank or [kind, text] == said):
        raise error
    made: Any = getattr(errors, kind, None)
    if not (isinstance(made, type) and issubclass(made, XpnnError)):
        made, text = ProcessError, f"{kind}: {text}"
    raise made(f"rank {first} of {group.size}: {text}") from error


def agree(group: Group, facts: dict[str, str], where: str, hint: str) -> None:
    """Raise ProcessError, on all processes, unless the facts of all are those of rank 0; the message names the rank.

    Examples
    --------
    >>> agree(Alone(), {"weights": "1f3a"}, "fit", "Load the same file everywhere.")
    """
    if group.size == 1:
        return
    found = group.share(facts)
    for rank, one in enumerate(found):
        other = [name for name in facts if one.get(name) != found[0].get(name)]
        if other:
            shown = "; ".join(f"{name}: {one.get(name)} and {found[0].get(name)}" for name in other)
            raise ProcessError(
                f"{where}: expected the same {', '.join(other)} on rank {rank} as on rank 0, got others ({shown}). "
                f"{hint}"
            )


def words_of(error: BaseException) -> str:
    """Return what the others are told of an error.

    Examples
    --------
    >>> words_of(ValueError("the disk is full")), words_of(KeyboardInterrupt())
    ('ValueError: the disk is full', 'KeyboardInterrupt')
    """
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
