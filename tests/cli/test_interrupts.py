"""Signals that end a command: one way for all, once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from places import PROJECT

from xpnn.cli.interrupts import Interrupted, Signals, status_of, word_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture(autouse=True)
def default_handlers():
    """As in a process of its own; a parent in the background may have Ctrl-C ignored."""
    wanted = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    before = {signum: signal.signal(signum, handler) for signum, handler in wanted.items()}
    yield
    for signum, handler in before.items():
        assert signal.getsignal(signum) == wanted[signum], "put back"
        signal.signal(signum, handler)


def send(signum):
    os.kill(os.getpid(), signum)
    time.sleep(0)  # Python answers between two of its operations


@pytest.mark.parametrize(
    ("signum", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated"), (signal.SIGHUP, 129, "hung up")],
)
def test_each_has_its_status_and_its_word(signum, status, word):
    with pytest.raises(Interrupted) as caught, Signals().caught():
        send(signum)
    assert (status_of(caught.value), word_of(caught.value)) == (status, word)
    assert word_of(KeyboardInterrupt()) == "interrupted"


def test_one_that_comes_twice_at_once_is_one(monkeypatch):
    """As `timeout` sends it, to the process and to its group."""
    signals = Signals()
    with signals.caught():
        with pytest.raises(Interrupted):
            send(signal.SIGTERM)
        send(signal.SIGTERM)
        monkeypatch.setattr("xpnn.cli.interrupts._SAME", 0.0)
        with pytest.raises(Interrupted):  # somebody has lost patience
            send(signal.SIGTERM)


def test_what_is_held_comes_to_its_end(monkeypatch):
    monkeypatch.setattr("xpnn.cli.interrupts._SAME", 0.0)
    signals = Signals()
    with signals.caught():
        with signals.held():
            send(signal.SIGTERM)
            done = True
        assert done
        assert status_of(signals.pending) == 143
        with signals.held(), pytest.raises(Interrupted):
            send(signal.SIGINT)


def test_ignored_signals_and_other_threads_are_left_alone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    with Signals().caught():
        send(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)
    handlers = []

    def other():
        with Signals().caught():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert handlers == [signal.SIG_DFL]


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_process_keeps_the_best_weights_and_says_how_to_go_on(tmp_path, signum, status):
    out = tmp_path / "run"
    # Drawing takes longer than all the rest.
    script = "import sys; sys.modules['matplotlib'] = None; from xpnn.cli import main; sys.exit(main())"
    options = ("--epochs", "1000000", "--patience", "1000000", "--out", str(out))
    process = subprocess.Popen(
        [sys.executable, "-c", script, "train", "xor", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
    )
    log = out / "history.csv"
    deadline = time.monotonic() + 100
    while not log.is_file() or log.read_text().count("\n") < 10:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signum)
    printed, err = process.communicate(timeout=60)
    assert process.returncode == status
    word = {143: "terminated", 129: "hung up"}[status]
    assert f"\n{word}: the best weights so far are kept\n" in err
    assert printed.endswith(f"\nto go on: xpnn train --resume {out}\n")
    assert {"model.safetensors", "scores.json"} <= {path.name for path in out.iterdir()}
