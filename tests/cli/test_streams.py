"""Standard streams that are closed, full, or that nobody reads any more: no traceback, and no result is lost."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from places import PROJECT

from xpnn.cli.streams import Lasting
from xpnn.report import read_run

FULL = Path("/dev/full")
needs_shell = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


class Failing(io.StringIO):
    """A stream on which one thing fails."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def write(self, text):
        raise self.error

    flush = write


def test_what_cannot_be_written_is_dropped_and_known():
    for error, problem in (
        (BrokenPipeError(), None),
        (OSError(28, "No space left on device"), "No space left on device"),
    ):
        stream = Lasting(Failing(error))
        assert stream.write("text") == 4
        assert stream.error is error
        assert stream.problem == problem
    whole = io.StringIO()
    stream = Lasting(whole)
    print("text", file=stream, flush=True)
    assert (whole.getvalue(), stream.error, stream.problem) == ("text\n", None, None)
    assert not stream.isatty()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a finished run."""
    out = tmp_path_factory.mktemp("streams") / "run"
    assert shell(f"train xor --epochs 1 --quiet --out {out}").returncode == 0
    return out


def shell(command, **options):
    """Run a command of xpnn as a shell does."""
    # Drawing takes longer than all the rest.
    script = "import sys; sys.modules['matplotlib'] = None; from xpnn.cli import main; sys.exit(main())"
    line = f"OMP_NUM_THREADS=1 PYTHONPATH='{PROJECT}' '{sys.executable}' -c \"{script}\" {command}"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True, timeout=100, check=False
    )


@needs_shell
@pytest.mark.parametrize(
    ("end", "status"),
    [
        *((">&-", 0), ("<&- >&- 2>&-", 0), ("2>&1 | head -c 0", 0)),
        *(pytest.param(end, status, marks=needs_full) for end, status in ((">/dev/full", 2), ("2>/dev/full", 0))),
    ],
)
def test_a_training_outlives_its_streams(tmp_path, end, status):
    ran = shell(f"train xor --epochs 2 --out {tmp_path / 'run'} {end}")
    assert ran.returncode == status
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "Exception ignored" not in ran.stderr
    assert len(read_run(tmp_path / "run").history) == 2  # nothing of what was printed is in a file
    if end == ">/dev/full":
        assert ran.stderr.endswith("\nxpnn train: stdout: No space left on device.\n")


@needs_shell
@pytest.mark.parametrize(
    ("command", "status"),
    [
        *(("predict {model} xor --out - >&-", 0), ("predict {model} xor --out - | head -n 1", 0)),
        *(("info >&-", 0), ("info | head -c 0", 0), ("train --help | head -c 0", 0), ("train none 2>&-", 2)),
        pytest.param("predict {model} xor --out - >/dev/full", 2, marks=needs_full),
        pytest.param("evaluate {model} xor --json >/dev/full", 2, marks=needs_full),
        pytest.param("train --help >/dev/full", 0, marks=needs_full),
        pytest.param("train none 2>/dev/full", 2, marks=needs_full),
    ],
)
def test_other_commands_without_streams(trained, command, status):
    ran = shell(command.format(model=trained / "model.safetensors"))
    assert ran.returncode == status
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "Exception ignored" not in ran.stderr
