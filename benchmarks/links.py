"""Slow links on one machine: a network namespace for each process, and a wire between them that takes its time.

Each namespace has a TUN device; what is sent into it comes to a process that holds every packet back as a network of
some rate and delay would, and gives it to the device of the receiver.  TCP is the system's own, with its windows and
acknowledgements.  (The kernel's `netem` does this too, but is not in every kernel.)  Needs root, `ip` and /dev/net/tun.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Link", "objection", "slow_links"]

_TUNSETIFF, _TUN, _NO_HEAD = 0x400454CA, 0x0001, 0x1000
_MTU = 9000  # jumbo frames: fewer packets for the process between
_NETWORK = "10.199.7"


class Link(NamedTuple):
    """What lies between each process and all others."""

    rate: float  #: bytes a second, each way
    delay: float  #: seconds, one way


def objection() -> str | None:
    """Return why there can be no slow links here, or None."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None or not os.path.exists("/dev/net/tun"):
        return "needs `ip` (iproute2) and /dev/net/tun"
    name = _name(0)
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"no network namespaces: {tried.stderr.strip()[:120]}"
    _ip("netns", "del", name)
    return None


@contextlib.contextmanager
def slow_links(count: int, link: Link) -> Iterator[list[tuple[list[str], str]]]:
    """Make `count` namespaces; yield for each the words before a command that runs in it, and its address."""
    devices = []
    with contextlib.ExitStack() as stack:
        for k in range(count):
            name, address = _name(k), f"{_NETWORK}.{k + 1}"
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            stack.callback(os.close, device)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH14x", name.encode(), _TUN | _NO_HEAD))
            devices.append(device)
            _ip("link", "set", name, "netns", name)
            inside = ("netns", "exec", name, "ip")
            _ip(*inside, "addr", "add", f"{address}/24", "dev", name)
            _ip(*inside, "link", "set", name, "mtu", str(_MTU), "txqueuelen", "10000", "up")
            _ip(*inside, "link", "set", "lo", "up")
        own = [sys.executable, __file__, str(link.rate), str(link.delay), *map(str, devices)]
        wire = subprocess.Popen(own, pass_fds=devices, stdin=subprocess.DEVNULL)
        stack.callback(wire.wait, 10)
        stack.callback(wire.terminate)
        yield [(["ip", "netns", "exec", _name(k)], f"{_NETWORK}.{k + 1}") for k in range(count)]


def _name(k: int) -> str:
    return f"xpnn{os.getpid() % 100000}n{k}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


def carry(link: Link, devices: Sequence[int]) -> None:
    """Bring packets from device to device, for ever: each leaves its sender, and enters its receiver, at the rate."""
    with contextlib.suppress(OSError):
        os.nice(-10)  # beside processes that compute
    numbers = itertools.count()
    out, into = [0.0] * len(devices), [0.0] * len(devices)  # until when a line is taken
    due: list[tuple[float, int, int, bytes]] = []
    while True:
        patience = max(due[0][0] - time.monotonic(), 0.0) if due else None
        for device in select.select(devices, [], [], patience)[0]:
            source = devices.index(device)
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = os.read(device, 1 << 16)
                    to = packet[19] - 1 if packet[0] >> 4 == 4 else -1  # IPv4: the last byte of the receiver's address
                    if not 0 <= to < len(devices):
                        continue
                    lasts, now = len(packet) / link.rate, time.monotonic()
                    out[source] = max(out[source], now) + lasts
                    into[to] = max(into[to] + lasts, out[source] + link.delay)
                    heapq.heappush(due, (into[to], next(numbers), to, packet))
        while due and due[0][0] <= time.monotonic():
            _, _, to, packet = heapq.heappop(due)
            with contextlib.suppress(BlockingIOError, OSError):
                os.write(devices[to], packet)


if __name__ == "__main__":
    carry(Link(float(sys.argv[1]), float(sys.argv[2])), list(map(int, sys.argv[3:])))
