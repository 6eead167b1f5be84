"""Processes that end with the one that started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from xpnn.distributed.lifeline import hold_on

FOLDER = Path(sys.modules["xpnn.distributed.lifeline"].__file__).parent
CHILD = "import lifeline, time, sys; lifeline.hold_on(); print('holds', flush=True); time.sleep(600)"
PARENT = f"""
import lifeline, os, subprocess, sys
with lifeline.lifeline() as variables:
    subprocess.Popen([sys.executable, "-c", {CHILD!r}], env=os.environ | variables).wait()
"""


def test_a_process_ends_with_the_one_that_started_it():
    """The pipe closes when both are gone."""
    environment = os.environ | {"PYTHONPATH": str(FOLDER)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout.readline() == "holds\n"
        os.kill(parent.pid, signal.SIGKILL)
        assert parent.communicate(timeout=30)[0] == ""


def test_who_comes_too_late_ends_too():
    """And the variable is not handed on."""
    environment = os.environ | {"PYTHONPATH": str(FOLDER), "XPNN_LIFELINE": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, env=environment, timeout=30)
    assert done.returncode == -signal.SIGTERM
    left = {"OTHER": "x"}
    hold_on(left)
    assert left == {"OTHER": "x"}
