"""Memory that is freed is used again: the system clears no pages for the arrays of a step."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

STEPS = """
import resource
import numpy as np
import xpnn
net = xpnn.mlp([64, 512, 512, 1], backend=xpnn.get_backend("numpy", compiled=False))
trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(), metrics=())
X = np.random.default_rng(0).normal(size=(8192, 64)).astype("float32")
fit = lambda: trainer.fit(X, X[:, :1], epochs=1, batch_size=512)
fit()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fit()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that maps large blocks anew")
def test_steps_with_large_arrays_take_no_new_pages() -> None:
    """Arrays of a MiB are made several times in each of the 16 steps; one, mapped anew, takes 256 pages."""
    place = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | {
        "XPNN_THREADS": "1"
    }
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, env=place)
    assert int(done.stdout) < 256


HOLES = """
from xpnn.accel.memory import return_freed_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
blocks = [bytearray(100_000) for _ in range(500)]
del blocks[:-1]  # the last one lies behind the hole
before = resident()
return_freed_memory()
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that keeps what lies between")
def test_what_is_freed_between_others_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 40e6
