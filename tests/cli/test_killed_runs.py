"""Trainings and searches that are killed, terminated and interrupted leave one run, and the next command goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from places import PROJECT

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork and POSIX signals")


@pytest.mark.parametrize(
    ("command", "kind", "n"),
    [
        *(("train", kind, 50) for kind in ("kill", "terminate", "interrupt", "call")),
        *(("search", kind, 16) for kind in ("kill", "terminate", "interrupt", "call")),
    ],
)
def test_what_is_left_is_one_run_and_goes_on_to_the_bit(command, kind, n):
    """At random moments of a training, with and without an older run in the folder; "call": at each move of a file.

    ``python tests/helpers/killed_runs.py kill 500`` makes more tries.
    """
    script = PROJECT / "tests" / "helpers" / "killed_runs.py"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # a fork takes no threads along
    environment = os.environ | threads | {"PYTHONPATH": str(PROJECT)}
    ran = subprocess.run(
        [sys.executable, str(script), kind, str(n), "--command", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["wrong"] == []
    assert found["tries"] >= n
    # something was hit: runs to go on with, and others that were too late to be
    assert sum(found["left"].get(state, 0) for state in ("unfinished", "a part")) >= 3
    assert found["left"]["new"] >= 1
