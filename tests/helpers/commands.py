"""The command line, run within the tests' process."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from xpnn import cli
from xpnn.checkpoint import read


class Ran(NamedTuple):
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self):
        """The one JSON object on stdout: no NaN, which JSON does not know."""
        return json.loads(self.out, parse_constant=lambda word: pytest.fail(f"{word} in JSON"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(*args, stderr=None) -> Ran:
    """Run a command in this process."""
    out, err = io.StringIO(), stderr or io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.main([str(a) for a in args])
        except SystemExit as stop:
            status = stop.code
    return Ran(status, out.getvalue(), err.getvalue())


def train(*args) -> Ran:
    """Train, and expect it to work."""
    ran = run("train", *args, "--quiet")
    assert ran.status == 0, ran.err
    return ran


def refused(ran: Ran, message: str) -> None:
    """Expect exit status 2 and one line on stderr that fits `message`."""
    assert ran.status == 2
    assert ran.err.count("\n") == 1, ran.err
    assert ran.err.endswith("\n")
    assert "Traceback" not in ran.out + ran.err
    assert re.search(message, ran.err), ran.err


def tensors(folder) -> dict[str, bytes]:
    """The model's tensors, to the bit."""
    return {name: array.tobytes() for name, array in read(Path(folder, "model.safetensors"))[0].items()}
