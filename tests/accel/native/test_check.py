"""Native code tried in a child process, which may crash, hang, or say nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xpnn.accel.native import check, support
from xpnn.accel.native.check import PARTS, check_native
from xpnn.cli import main

BEGUN = "import json; print(json.dumps(['compiled loops', 'begun'])); print(json.dumps(['compiled loops', 'ok'])); "
BEGUN += "print(json.dumps(['traces', 'begun']), flush=True); "
REPORT = f"set XPNN_COMPILED=0, and report it with NumPy {np.__version__}, OpenBLAS "

ENDS = {
    "segfault": (BEGUN + "import ctypes; ctypes.string_at(0)", "crashed with SIGSEGV, at traces: "),
    "abort": (BEGUN + "import os; os.abort()", "crashed with SIGABRT, at traces: "),
    "exit code": (BEGUN + "import os; os._exit(3)", "crashed with exit code 3, at traces: "),
    "error": (BEGUN + "raise SystemError('no such loop')", "exit code 1 (SystemError: no such loop), at traces: "),
    "at once": ("import ctypes; ctypes.string_at(0)", "crashed with SIGSEGV, at its start: "),
}


@pytest.fixture(autouse=True)
def nothing_in_the_environment(monkeypatch):
    monkeypatch.delenv("XPNN_COMPILED", raising=False)


@pytest.mark.parametrize(("program", "end"), ENDS.values(), ids=ENDS)
def test_a_crash_is_a_line(monkeypatch, program, end):
    monkeypatch.setattr(check, "PROGRAM", program)
    states = check_native()
    assert states.pop("native code").startswith(end if end.startswith("crashed") else "crashed with " + end)
    assert REPORT in check_native()["native code"]
    assert states == ({} if "start" in end else {"compiled loops": "ok"})


def test_a_child_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(check, "PROGRAM", BEGUN + "import time; time.sleep(600)")
    monkeypatch.setattr(check, "TIMEOUT", 2.0)
    states = check_native()
    assert states["native code"].startswith(f"no answer within 2 seconds, at traces: {REPORT}")


def test_what_the_child_finds(loops, capsys):
    """The trial itself, within this process."""
    check.main()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [part for part, _ in lines] == [part for part in PARTS for _ in "ab"]
    found = dict(lines)
    assert found["compiled loops"].startswith("ok, numba ")
    if support.numpy_objection() is None:
        assert found["traces"] == f"ok, NumPy {np.__version__}"
    assert found["threads"].startswith(("ok, OpenBLAS", "not used: "))


def test_versions_that_are_not_listed_are_told(monkeypatch, loops, capsys):
    monkeypatch.setattr(support, "NUMPY", ("2.0",))
    monkeypatch.setattr(support, "OPENBLAS", ("0.1",))
    check.main()
    found = dict(json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert found["traces"] == f"not used: NumPy {np.__version__} is none that traces were tested with (2.0)"
    assert found["threads"].startswith("not used: ")
    monkeypatch.setattr(support, "NUMBA", ("0.1", "0.2"))
    check.main()
    found = dict(json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "is none that loops were tested with" in found["compiled loops"]


def test_wrong_results_are_told(monkeypatch, loops, capsys):
    monkeypatch.setattr(loops, "relu", lambda x, y: None)
    check.main()
    assert "wrong results with numba" in capsys.readouterr().out


def test_doctor_shows_it(monkeypatch, capsys):
    monkeypatch.setattr(check, "PROGRAM", BEGUN + "import ctypes; ctypes.string_at(0)")
    assert main(["doctor", "--json"]) == 0
    native = json.loads(capsys.readouterr().out)["native"]
    assert native["compiled loops"] == "ok"
    assert native["native code"].startswith("crashed with SIGSEGV, at traces: ")
    assert main(["doctor"]) == 0
    assert "crashed with SIGSEGV, at traces: set XPNN_COMPILED=0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "state"), [("0", "switched off by XPNN_COMPILED=0"), ("no", "XPNN_COMPILED: expected")]
)
def test_the_switch_is_told(monkeypatch, value, state):
    monkeypatch.setenv("XPNN_COMPILED", value)
    monkeypatch.setattr(check.subprocess, "Popen", lambda *args, **options: pytest.fail("tried"))
    assert check_native()["native code"].startswith(state)
