"""The progress bar in a terminal, in a notebook, and in a log file."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import xpnn
from xpnn.errors import OptionError
from xpnn.training import LambdaCallback, ProgressBar, progress


def train(*callbacks, epochs=5):
    X = np.random.default_rng(0).normal(size=(20, 3))
    trainer = xpnn.Trainer(
        xpnn.mlp([3, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam(lr=0.05), callbacks=callbacks, metrics=()
    )
    return trainer.fit(X, X[:, 0] > 0, epochs=epochs, batch_size=10)


def stopper(epoch):
    return LambdaCallback(on_epoch_end=lambda t: t.stop("seen enough") if t.epoch == epoch else None)


# -- a terminal -------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def terminal(monkeypatch, columns=100):
    """Put a pseudo-terminal in the place of stderr; the list it yields gets all that was written at the end."""
    termios = pytest.importorskip("termios", reason="needs pseudo-terminals: Linux or macOS")
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    written = []
    with os.fdopen(theirs, "w", buffering=1) as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        yield written
        stream.flush()
        monkeypatch.undo()
        os.set_blocking(ours, False)
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                written.append(part.decode())
    os.close(ours)


@pytest.mark.parametrize("columns", [100, 50, 0])
def test_a_terminal_gets_a_bar_that_rewrites_its_line(monkeypatch, columns):
    with terminal(monkeypatch, columns) as written:
        history = train(ProgressBar(mininterval=0))
    text = "".join(written)
    looks = [look for look in text.replace("\r\n", "\n").rstrip("\n").split("\r") if look.strip()]
    assert len(looks) >= 6  # the empty bar, and one look for each epoch
    assert [n for n in range(6) if any(f" {n}/5 " in look for look in looks)] == [0, 1, 2, 3, 4, 5]
    assert "100%" in looks[-1]
    assert all(len(look) <= (columns or 80) for look in looks)
    if columns != 50:  # a narrow terminal cuts the end off
        assert f"loss={history['loss'][-1]:.4g}" in looks[-1]
        assert "epoch" in looks[-1]
    assert text.count("\n") == 1, "one line in the end"


def test_a_terminal_reads_why_training_stopped(monkeypatch):
    with terminal(monkeypatch) as written:
        train(ProgressBar(), stopper(3))
    assert "".join(written).replace("\r\n", "\n").endswith("\nStopped after epoch 3: seen enough.\n")


def test_bars_within_a_bar_have_lines_of_their_own(monkeypatch):
    inner = LambdaCallback(on_epoch_end=lambda t: train(ProgressBar(desc="inner", leave=False, mininterval=0)))
    with terminal(monkeypatch) as written:
        train(ProgressBar(desc="outer", mininterval=0), inner, epochs=2)
    text = "".join(written)
    assert "outer: 100%" in text
    assert "inner: 100%" in text
    assert re.search(r"\n\r?inner", text), "below the other"
    assert "\x1b[A" in text, "and back up again"


# -- a log file -------------------------------------------------------------------------------------------------
LINE = r"epoch (\d+)/(\d+): loss=[\d.]+ \[\d\d:\d\d<\d\d:\d\d\]"


def epochs_of(text, pattern=LINE):
    """The epochs that a log tells, each line being whole and nothing else."""
    assert text.endswith("\n")
    return [int(re.fullmatch(pattern, line)[1]) for line in text.removesuffix("\n").split("\n")]


@pytest.mark.parametrize(
    ("epochs", "told"),
    [(1, [1]), (3, [1, 2, 3]), (20, [1, *range(2, 21, 2)]), (45, [1, *range(4, 45, 4), 45])],
    ids=lambda v: str(v) if isinstance(v, int) else "",
)
def test_a_log_file_gets_some_whole_lines(tmp_path, monkeypatch, epochs, told):
    with (tmp_path / "log.txt").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        train(ProgressBar(), epochs=epochs)
        monkeypatch.undo()
    text = (tmp_path / "log.txt").read_bytes().decode()
    assert "\r" not in text
    assert "\x1b" not in text
    assert epochs_of(text) == told


def test_a_pipe_gets_lines_while_training_goes_on():
    """From another process: each line is there before the next epoch, though a pipe is buffered."""
    script = """
        import sys, xpnn
        X, y = xpnn.data.make_moons(40, seed=0)
        net = xpnn.mlp([2, 4, 2])
        wait = xpnn.LambdaCallback(on_epoch_end=lambda t: sys.stdin.readline())
        callbacks = [xpnn.ProgressBar(), wait]
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(), metrics=(), callbacks=callbacks).fit(X, y, epochs=3)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        bufsize=1,
    ) as process:
        for epoch in (1, 2, 3):
            assert epochs_of(process.stderr.readline()) == [epoch]
            process.stdin.write("go on\n")
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_a_log_tells_of_long_epochs_sooner(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])

    def pass_time(trainer):
        clock[0] += 12.0

    def told(**options):
        file = io.StringIO()
        train(LambdaCallback(on_epoch_begin=pass_time), ProgressBar(file=file, **options), epochs=40)
        return file.getvalue()

    assert epochs_of(told())[:5] == [1, 4, 7, 8, 11]  # each fourth, and after 30 seconds: three epochs
    assert "epoch 4/40: " in told()
    assert "[00:48<07:12]" in told()
    assert epochs_of(told(maxinterval=12.0)) == list(range(1, 41))
    assert epochs_of(told(maxinterval=1e9)) == [1, *range(4, 41, 4)]
    assert epochs_of(told(mininterval=100.0)) == [1, 10, 19, 28, 37, 40]
    assert told(disable=True) == told(disable=None) == ""


def test_a_log_of_a_fit_that_ends_early_or_goes_on():
    file = io.StringIO()
    trainer = xpnn.Trainer(
        xpnn.mlp([3, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[ProgressBar(file=file, desc="a"), stopper(13)]
    )
    X = np.random.default_rng(0).normal(size=(20, 3))
    trainer.fit(X, X[:, 0] > 0, epochs=100)
    *lines, why = file.getvalue().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["a"] * 3
    assert [re.search(r"epoch (\d+)/100: loss=[\d.]+, accuracy=[\d.]+ ", line)[1] for line in lines] == [
        "1",
        "10",
        "13",
    ]
    assert why == "Stopped after epoch 13: seen enough."
    file.seek(0)
    file.truncate()
    trainer.fit(X, X[:, 0] > 0, epochs=20)
    assert [re.search(r"epoch (\d+)/33", line)[1] for line in file.getvalue().splitlines()][:3] == ["14", "15", "17"]


def test_a_log_of_a_fit_that_fails_ends_with_its_last_epoch():
    file = io.StringIO()

    def fail(trainer):
        if trainer.epoch == 18:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(ProgressBar(file=file), LambdaCallback(on_epoch_begin=fail), epochs=100)
    assert epochs_of(file.getvalue()) == [1, 10, 18]


def test_lines_within_lines_are_told_apart():
    file = io.StringIO()
    inner = LambdaCallback(on_epoch_end=lambda t: train(ProgressBar(file=file, desc="inner"), epochs=2))
    train(ProgressBar(file=file, desc="outer"), inner, epochs=2)
    names = [line.partition(":")[0] for line in file.getvalue().splitlines()]
    assert names == ["outer", "inner", "inner"] * 2


def test_unknown_options_are_refused_everywhere():
    with pytest.raises(
        OptionError, match=r"^ProgressBar: expected options of tqdm, got 'fiel'\. Did you mean 'file'\?$"
    ):
        train(ProgressBar(fiel=io.StringIO()))


# -- a notebook -------------------------------------------------------------------------------------------------
# A kernel as far as anybody can see: its shell, its stderr that is no terminal, and the widgets, if there are any.
KERNEL = """
import io, sys, types, warnings

warnings.simplefilter("error")

class ZMQInteractiveShell:
    config = {"IPKernelApp": {}}

shown, widgets = [], []
ipython = types.ModuleType("IPython")
ipython.get_ipython = lambda: ZMQInteractiveShell()
ipython.display = types.ModuleType("IPython.display")
ipython.display.display = shown.append
zmqshell = types.ModuleType("ipykernel.zmqshell")
sys.modules |= {"IPython": ipython, "IPython.display": ipython.display, "ipykernel.zmqshell": zmqshell}

class Widget:
    def __init__(self, children=(), **options):
        self.children, self.value, self.bar_style = children, 0, ""
        self.layout, self.style = types.SimpleNamespace(), types.SimpleNamespace()
        self.__dict__.update(options)
        widgets.append(self)
    def close(self):
        self.closed = True

if WIDGETS:
    ipywidgets = types.ModuleType("ipywidgets")
    ipywidgets.HTML = ipywidgets.FloatProgress = ipywidgets.HBox = Widget
    sys.modules["ipywidgets"] = ipywidgets
else:
    sys.modules["ipywidgets"] = None

sys.stderr = io.StringIO()
import xpnn

def train(epochs, *callbacks):
    X, y = xpnn.data.make_moons(40, seed=0)
    bar = xpnn.ProgressBar(mininterval=0)
    trainer = xpnn.Trainer(xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[bar, *callbacks])
    trainer.fit(X, y, epochs=epochs)
"""


def in_a_notebook(body, *, widgets):
    ran = subprocess.run(
        [sys.executable, "-c", KERNEL.replace("WIDGETS", str(widgets)) + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_a_notebook_gets_a_widget():
    out = in_a_notebook(
        """
        train(3)
        box, = shown
        left, bar, right = box.children
        assert (bar.max, bar.value, bar.bar_style) == (3, 3, "success"), vars(bar)
        assert "3/3" in right.value and "accuracy=" in right.value, right.value
        train(9, xpnn.LambdaCallback(on_epoch_end=lambda t: t.stop("so") if t.epoch == 2 else None))
        assert shown[1].children[1].bar_style == "success", "to end early is no error"
        try:
            train(9, xpnn.LambdaCallback(on_epoch_begin=lambda t: t.epoch < 1 or 1 / 0))
        except ZeroDivisionError:
            assert shown[2].children[1].bar_style == "danger"
        else:
            raise AssertionError
        assert len(shown) == 3
        assert sys.stderr.getvalue() == "", "nothing in red"
        """,
        widgets=True,
    )
    assert out.strip() == "Stopped after epoch 2: so."


def test_a_notebook_without_ipywidgets_gets_a_bar_of_text_and_no_warning():
    out = in_a_notebook(
        """
        train(3)
        text = sys.stderr.getvalue()
        assert "\\r" in text and " 3/3 " in text and "accuracy=" in text, text
        assert shown == widgets == []
        assert "Warning" not in text and "IProgress" not in text, text
        """,
        widgets=False,
    )
    assert out == ""


def test_a_file_in_a_notebook_is_a_file():
    in_a_notebook(
        """
        file = io.StringIO()
        X, y = xpnn.data.make_moons(40, seed=0)
        bar = xpnn.ProgressBar(file=file)
        xpnn.Trainer(xpnn.mlp([2, 2]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[bar]).fit(X, y, epochs=2)
        assert file.getvalue().startswith("epoch 1/2: loss="), file.getvalue()
        assert shown == [] and sys.stderr.getvalue() == ""
        """,
        widgets=True,
    )
