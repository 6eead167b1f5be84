"""Trainings that are killed, terminated and interrupted: what they leave is one run, and the next command goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from places import PROJECT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork and POSIX signals")


@pytest.mark.parametrize("kind", ["kill", "terminate", "interrupt", "call"])
def test_what_is_left_is_one_run_and_goes_on_to_the_bit(kind):
    """At 50 random moments of a training, with and without an older run in the folder; "call": at each move of a file.

    ``python tests/helpers/killed_runs.py kill 500`` makes more tries.
    """
    script = PROJECT / "tests" / "helpers" / "killed_runs.py"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # a fork takes no threads along
    environment = os.environ | threads | {"PYTHONPATH": str(PROJECT)}
    ran = subprocess.run(
        [sys.executable, str(script), kind, "50"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["wrong"] == []
    assert found["tries"] >= 50
    # something was hit: runs to go on with, and others that were too late to be
    assert found["left"].get("unfinished" if kind in ("kill", "call") else "a part", 0) >= 3
    assert found["left"]["new"] >= 1
