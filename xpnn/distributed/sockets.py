"""A group over plain TCP connections, which need no package: for engines that start processes and no more."""

from __future__ import annotations

import contextlib
import os
import secrets
import selectors
import socket
import struct
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..errors import OptionError, ProcessError
from .group import GO_ON, Group

__all__ = ["SocketGroup", "join", "listen", "sockets"]

# Before each message, its length in bytes; before a reason to fail, this less the length.
_LENGTH, _FAILED = struct.Struct("<q"), -1
_GREETING = struct.Struct("<16sq")
# Seconds: from the first sign of a process to the last; and to look for the reason why one is lost.
_PATIENCE, _LAST_WORDS = 60.0, 1.0
_MOST_WORDS = 2000


def listen(host: str = "") -> socket.socket:
    """Return a socket that the others of a group can connect to, on a free port."""
    listener = socket.create_server((host, 0), backlog=1024)
    listener.settimeout(_PATIENCE)
    return listener


def join(listener: socket.socket, rank: int, addresses: Sequence[tuple[str, int]], token: bytes) -> SocketGroup:
    """Connect to all others, and return the group.

    Parameters
    ----------
    listener : socket
        From `listen`; it is closed.
    rank : int
        The number of this process.
    addresses : sequence of (host, port)
        Where each process listens, by rank.
    token : bytes of length 16
        Who does not know it is turned away.

    Raises
    ------
    ProcessError
        If one of them cannot be reached, or does not come within a minute.
    """
    size, peers = len(addresses), dict[int, socket.socket]()
    deadline = time.monotonic() + _PATIENCE
    try:
        for other in range(rank):
            peers[other] = _connect(addresses[other], deadline)
            peers[other].sendall(_GREETING.pack(token, rank))
        while len(peers) < size - 1:
            listener.settimeout(max(deadline - time.monotonic(), 0.01))
            connection, _ = listener.accept()
            connection.settimeout(5.0)
            with contextlib.suppress(OSError, struct.error):
                key, other = _GREETING.unpack(_read(connection, _GREETING.size))
                if secrets.compare_digest(key, token) and rank < other < size and other not in peers:
                    peers[other] = connection
                    continue
            connection.close()
    except OSError as error:
        absent = [str(other) for other in range(size) if other not in peers and other != rank]
        for connection in peers.values():
            connection.close()
        raise ProcessError(
            f"sockets: expected {size} processes to connect, got none from rank {', '.join(absent)} ({error}). Look "
            "whether it has ended, and whether a firewall stands between the machines."
        ) from error
    finally:
        listener.close()
    return SocketGroup(rank, size, peers)


def sockets() -> Group:
    """Return the processes that a launcher started, as a group over plain TCP connections.

    The launcher says where they are in the environment variables ``RANK``, ``WORLD_SIZE``, ``MASTER_ADDR`` and
    ``MASTER_PORT``; the process of rank 0 listens on the port.  (Under torchrun, which listens there itself, `torch` is
    the function to call.)

    Returns
    -------
    Group
        Of one process, where there is no ``RANK``.

    Raises
    ------
    OptionError
        If one of the others is missing.
    ProcessError
        If the processes do not find each other.

    Notes
    -----
    Connections are not encrypted: use it within a cluster.
    """
    if "RANK" not in os.environ:
        return SocketGroup(0, 1, {})
    try:
        rank, size, host, port = (os.environ[name] for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))
        place, known = (int(rank), int(size)), (host, int(port))
    except (KeyError, ValueError) as error:
        raise OptionError(
            f"distributed.sockets: expected RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT, got no good {error}. Start "
            "the script by a launcher that sets them."
        ) from error
    return _meet(*place, known)


def _meet(rank: int, size: int, first: tuple[str, int]) -> Group:
    """Let all tell the first where they listen, and hear it of all others."""
    if size == 1:
        return SocketGroup(0, 1, {})
    listener = listen()
    port = listener.getsockname()[1]
    try:
        if rank == 0:
            token = secrets.token_bytes(16)
            guests: dict[int, tuple[socket.socket, tuple[str, int]]] = {}
            with socket.create_server(("", first[1])) as door:
                door.settimeout(_PATIENCE)
                while len(guests) < size - 1:
                    guest, (host, *_) = door.accept()
                    guest.settimeout(_PATIENCE)
                    number, its = struct.unpack("<qq", _read(guest, 16))
                    guests[number] = guest, (host, its)
            addresses = [(first[0], port), *(guests[k][1] for k in range(1, size))]
            text = ";".join(f"{host},{its}" for host, its in addresses).encode()
            for guest, _ in guests.values():
                guest.sendall(token + _LENGTH.pack(len(text)) + text)
                guest.close()
        else:
            with _connect(first, time.monotonic() + _PATIENCE) as door:
                door.settimeout(_PATIENCE)
                door.sendall(struct.pack("<qq", rank, port))
                token = _read(door, 16)
                text = _read(door, _LENGTH.unpack(_read(door, _LENGTH.size))[0])
            pairs = (entry.split(",") for entry in text.decode().split(";"))
            addresses = [(host, int(its)) for host, its in pairs]
    except (OSError, struct.error, KeyError, ValueError) as error:
        listener.close()
        raise ProcessError(
            f"distributed.sockets: expected {size} processes to meet at {first[0]}:{first[1]}, got: {error}. Look "
            "whether all were started, and whether the port is free."
        ) from error
    return join(listener, rank, addresses, token)


class SocketGroup(Group):
    """Processes that hold a TCP connection to each other.

    Parameters
    ----------
    rank, size : int
        The number of this process, and how many there are.
    peers : dict of int to socket
        The connection to each other process.
    """

    engine = "TCP"

    def __init__(self, rank: int, size: int, peers: dict[int, socket.socket]) -> None:
        self.rank, self.size, self._peers = rank, size, peers
        self._failed = self._using = self._closed = False
        self._closing = threading.Lock()
        for connection in peers.values():
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.announce()

    def sendrecv(self, send: Array, to: int, receive: Array, source: int) -> None:
        """Send an array to the process `to` while another one comes, in place, from `source`."""
        if to == self.rank == source:
            receive[...] = send
            return
        data = np.ascontiguousarray(send).reshape(-1).view(np.uint8).data
        self._exchange([_LENGTH.pack(data.nbytes), data], to, receive.reshape(-1).view(np.uint8), source)

    def allgather(self, mine: Array, everyone: Array) -> None:
        """Bring `mine` of all processes into `everyone`, in the order of their ranks."""
        everyone[self.rank] = mine
        for step in range(1, self.size):
            to, source = (self.rank + step) % self.size, (self.rank - step) % self.size
            self.sendrecv(mine, to, everyone[source], source)

    def _exchange(self, out: Iterable[Any], to: int, into: np.ndarray, source: int) -> None:
        """Send pieces while a message comes: neither waits for the other."""
        with self._closing:
            if self._closed:
                raise ProcessError(f"TCP: rank {self.rank} of {self.size} was told to end. {GO_ON}")
            self._using = True
        try:
            self._move(out, to, into, source)
        finally:
            with self._closing:
                self._using = False
                if self._closed:
                    self._release()

    def _move(self, out: Iterable[Any], to: int, into: np.ndarray, source: int) -> None:
        waiting = [memoryview(piece).cast("B") for piece in out if len(piece)]
        head, body = bytearray(_LENGTH.size), into.data
        want, got = memoryview(head), 0
        with selectors.DefaultSelector() as selector:
            receiving = True
            while waiting or receiving:
                self._watch(selector, to if waiting else None, source if receiving else None)
                for key, events in selector.select():
                    who = key.data
                    try:
                        if events & selectors.EVENT_WRITE and waiting:
                            sent = self._peers[who].send(waiting[0])
                            waiting[0] = waiting[0][sent:]
                            waiting = waiting if len(waiting[0]) else waiting[1:]
                        if not (events & selectors.EVENT_READ and receiving):
                            continue
                        n = self._peers[who].recv_into(want[got:])
                    except BlockingIOError:
                        continue
                    except OSError as error:
                        raise self._lost(who, error) from error
                    if n == 0:
                        raise self._lost(who, None)
                    got += n
                    if got == len(want) and want.obj is head:
                        self._check(_LENGTH.unpack(head)[0], len(body), who)
                        want, got = body, 0
                    receiving = got < len(want)

    def _watch(self, selector: selectors.BaseSelector, to: int | None, source: int | None) -> None:
        wanted = {
            who: (selectors.EVENT_WRITE if who == to else 0) | (selectors.EVENT_READ if who == source else 0)
            for who in (to, source)
            if who is not None
        }
        for key in list(selector.get_map().values()):
            if wanted.get(key.data) != key.events:
                selector.unregister(key.fileobj)
            else:
                del wanted[key.data]
        for who, events in wanted.items():
            selector.register(self._peers[who], events, who)

    def _check(self, length: int, expected: int, who: int) -> None:
        """Compare the length of a message; a negative one is that of a reason to fail."""
        if length == expected:
            return
        if length <= _FAILED and _FAILED - length <= _MOST_WORDS * 4:
            raise self._told(who, _FAILED - length)
        raise ProcessError(
            f"TCP: expected {expected} bytes from rank {who} of {self.size}, got {length}: it makes other calls than "
            "this process. Run the same script everywhere."
        )

    def _told(self, who: int, length: int) -> ProcessError:
        connection = self._peers[who]
        connection.settimeout(_LAST_WORDS)
        reason = "?"
        with contextlib.suppress(OSError):
            reason = _read(connection, length).decode(errors="replace")
        return ProcessError(f"TCP: rank {who} of {self.size} has failed: {reason} {GO_ON}")

    def _lost(self, who: int, error: Exception | None) -> ProcessError:
        """Return the error for a connection that broke: with the reason, where somebody has told one."""
        deadline = time.monotonic() + _LAST_WORDS
        for other, connection in self._peers.items():
            with contextlib.suppress(OSError, struct.error, ValueError):
                connection.settimeout(max(deadline - time.monotonic(), 0.01))
                head = connection.recv(_LENGTH.size, socket.MSG_PEEK)
                if len(head) == _LENGTH.size and (length := _LENGTH.unpack(head)[0]) <= _FAILED:
                    _read(connection, _LENGTH.size)
                    return self._told(other, _FAILED - length)
        said = "its connection ended" if error is None else str(error)
        return ProcessError(f"TCP: rank {who} of {self.size} was lost ({said}). {GO_ON}")

    def fail(self, reason: str) -> None:
        """Tell the others that this process cannot go on."""
        with self._closing:
            if self._failed or self.size == 1:
                return
            self._failed = True
        text = reason[:_MOST_WORDS].encode() or b"?"
        for connection in self._peers.values():
            with contextlib.suppress(OSError):
                connection.settimeout(_LAST_WORDS)
                connection.sendall(_LENGTH.pack(_FAILED - len(text)) + text)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End all connections, from any thread: who waits for this process, or in it, gets an error at once."""
        for connection in self._peers.values():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._closing:
            self._closed = True
            if not self._using:  # who waits for a connection that is closed hears nothing
                self._release()

    def _release(self) -> None:
        for connection in self._peers.values():
            connection.close()


def _connect(address: tuple[str, int], deadline: float) -> socket.socket:
    """Connect to a process that may not listen yet."""
    while True:
        try:
            return socket.create_connection(address, timeout=5.0)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _read(connection: socket.socket, n: int) -> bytes:
    parts = bytearray()
    while len(parts) < n:
        more = connection.recv(n - len(parts))
        if not more:
            raise ConnectionError("its connection ended")
        parts += more
    return bytes(parts)
