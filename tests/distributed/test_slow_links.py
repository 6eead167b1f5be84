"""The wire of benchmarks/links.py: what is sent over it comes whole, and not before its time."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from places import PROJECT

pytestmark = pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts processes: ci/distributed.sh")

WORK = """
import time
import numpy as np
from xpnn.distributed import sockets
group = sockets()
peer, came = 1 - group.rank, np.zeros(50_000, np.float32)
group.barrier()
began = time.perf_counter()
group.sendrecv(np.full(50_000, 1.0 + group.rank, np.float32), peer, came, peer)
print(time.perf_counter() - began, came.min(), came.max())
"""


def test_a_message_takes_its_delay_and_the_time_of_its_bytes():
    sys.path.insert(0, str(PROJECT / "benchmarks"))
    try:
        links = importlib.import_module("links")
    finally:
        sys.path.remove(str(PROJECT / "benchmarks"))
    why = links.objection()
    if why is not None:
        pytest.skip(why)
    with links.slow_links(2, links.Link(rate=2e6, delay=0.05)) as places:
        running = []
        for rank, (words, _) in enumerate(places):
            where = {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": places[0][1], "MASTER_PORT": "29533"}
            command = [*words, sys.executable, "-c", WORK]
            running.append(subprocess.Popen(command, env=os.environ | where, stdout=subprocess.PIPE, text=True))
        said = [one.communicate(timeout=60)[0].split() for one in running]
    assert [one[1:] for one in said] == [["2.0", "2.0"], ["1.0", "1.0"]]
    longest = max(float(seconds) for seconds, *_ in said)  # of who began first
    assert 0.14 < longest < 5.0  # 200,000 bytes at 2 MB/s, and 50 ms
