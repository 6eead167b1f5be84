"""A connection to the process that started this one, by whose end it is known to be gone.

A launcher stands between the two, which does not notice when the process that called it is killed.  Nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, MutableMapping

__all__ = ["hold_on", "lifeline"]

_NAME = "XPNN_LIFELINE"
# Seconds for what a process that is told to end still has to write.
_GRACE = 10.0
# Connections that may wait, for they are never accepted: the system keeps them until the listener is gone.
_MOST = 4096


@contextlib.contextmanager
def lifeline() -> Iterator[dict[str, str]]:
    """While it is entered, processes of this machine that are given the environment variables it yields can hold on.

    Examples
    --------
    >>> with lifeline() as variables:
    ...     list(variables)
    ['XPNN_LIFELINE']
    """
    with socket.create_server(("127.0.0.1", 0), backlog=_MOST) as listener:
        yield {_NAME: str(listener.getsockname()[1])}


def hold_on(environment: MutableMapping[str, str] | None = None) -> None:
    """End this process by SIGTERM, and soon by force, when that is gone which started it; if it was given a lifeline.

    Examples
    --------
    >>> hold_on({})
    """
    environment = os.environ if environment is None else environment
    port = environment.pop(_NAME, None)  # what this process starts has other parents
    if port is None:
        return
    connection: socket.socket | None = None
    with contextlib.suppress(OSError):  # it is gone already
        connection = socket.create_connection(("127.0.0.1", int(port)), timeout=_GRACE)
        connection.settimeout(None)
    threading.Thread(target=_wait, args=(connection,), name="xpnn-lifeline", daemon=True).start()


def _wait(connection: socket.socket | None) -> None:
    """Wait for the end of a connection, and end this process then."""
    if connection is not None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os._exit(128 + signal.SIGTERM)
