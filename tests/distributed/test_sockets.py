"""A group over plain TCP: what it moves arrives, and whoever fails or is lost is named within seconds."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from places import PROJECT
from ranks import together

from xpnn.distributed import Tree, sockets
from xpnn.distributed.sockets import join, listen
from xpnn.errors import OptionError, ProcessError


@pytest.mark.parametrize("n", [0, 1, 1000, 3_000_000])
def test_all_send_at_once_and_nobody_waits(n):
    def around(group):
        mine, came = np.full(n, float(group.rank)), np.empty(n)
        group.sendrecv(mine, (group.rank + 1) % group.size, came, (group.rank - 1) % group.size)
        group.sendrecv(came, group.rank ^ 1 if group.size % 2 == 0 else group.rank, mine, group.rank ^ 1)
        return came

    for rank, came in enumerate(together(2, around)):
        assert (came == (rank - 1) % 2).all()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_everything_a_group_does(size):
    def work(group):
        every = np.empty((size, 2), np.int32)
        group.allgather(np.array([group.rank, 7], np.int32), every)
        leaves = [np.random.default_rng(k).normal(size=100_000).astype(np.float32) for k in range(4)]
        total = Tree(4, group).sum(np, lambda shard: leaves[shard].copy())
        return every.tolist(), group.share({"rank": group.rank}), group.broadcast(group.rank), total.tobytes()

    found = together(size, work)
    assert found == [found[0]] * size
    assert found[0][:3] == ([[k, 7] for k in range(size)], [{"rank": k} for k in range(size)], 0)
    assert found[0][3] == together(1, work)[0][3]


def test_who_fails_is_named_with_the_reason():
    def work(group):
        if group.rank == 2:
            raise ValueError("a bad row")
        return [group.share(k) for k in range(100)]

    found = together(3, work)
    for error in found[:2]:
        assert isinstance(error, ProcessError)
        assert "rank 2 of 3 has failed: ValueError: a bad row" in str(error)


def test_another_script_is_told():
    def work(group):
        came = np.empty(3 + group.rank)
        group.sendrecv(np.ones(3), 1 - group.rank, came, 1 - group.rank)

    found = together(2, work)
    assert any("expected 32 bytes from rank 0 of 2, got 24: it makes other calls" in str(error) for error in found)


def test_closing_from_another_thread_ends_the_waiting():
    def work(group):
        if group.rank == 0:
            threading.Timer(0.2, group.close).start()
        else:
            time.sleep(0.6)
        group.barrier()

    began = time.monotonic()
    found = together(2, work)
    assert all(isinstance(error, ProcessError) for error in found)
    assert time.monotonic() - began < 5


def test_strangers_are_turned_away():
    listeners, token = [listen("127.0.0.1") for _ in range(2)], secrets.token_bytes(16)
    addresses, groups = [listener.getsockname() for listener in listeners], {}
    stranger = socket.create_connection(addresses[0])
    stranger.sendall(b"GET / HTTP/1.0\r\n\r\n" + bytes(20))
    threads = [
        threading.Thread(target=lambda r=rank: groups.update({r: join(listeners[r], r, addresses, token)}), daemon=True)
        for rank in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(groups) == [0, 1]
    for group in groups.values():
        group.close()
    stranger.close()


def test_who_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(sys.modules["xpnn.distributed.sockets"], "_PATIENCE", 0.3)
    first, absent = listen("127.0.0.1"), ("127.0.0.1", 9)
    with pytest.raises(ProcessError, match=r"^sockets: expected 2 processes to connect, got none from rank 1"):
        join(first, 0, [first.getsockname(), absent], bytes(16))


# -- by a launcher -----------------------------------------------------------------------------------------------
SCRIPT = """
import os, signal, sys, time
from xpnn.distributed import sockets
group = sockets()
print(group.rank, group.size, group.share(group.rank), flush=True)
if "die" in sys.argv and group.rank == 1:
    os.kill(os.getpid(), signal.SIGKILL)
if "die" in sys.argv:
    group.barrier()
"""


engines = pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts processes: ci/distributed.sh")


def launch(size, *more):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    base = os.environ | {"PYTHONPATH": str(PROJECT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *more],
            env=base | {"RANK": str(rank), "WORLD_SIZE": str(size)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        return [(*process.communicate(timeout=60), process.returncode) for process in started]
    finally:
        for process in started:
            process.kill()


@engines
def test_a_launcher_says_where_they_meet():
    for rank, (out, err, code) in enumerate(launch(2)):
        assert (out, err, code) == (f"{rank} 2 [0, 1]\n", "", 0)


@engines
def test_a_killed_process_is_named():
    found = launch(2, "die")
    assert found[1][2] == -signal.SIGKILL
    assert "rank 1 of 2 was lost" in found[0][1]


def test_without_a_launcher_there_is_one_process(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert (sockets().rank, sockets().size) == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(OptionError, match=r"^distributed\.sockets: expected RANK, WORLD_SIZE, MASTER_ADDR"):
        sockets()
