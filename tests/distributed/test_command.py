"""``xpnn train`` on several processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import refused, run

from xpnn.checkpoint import read
from xpnn.cli.ranks import run_on_ranks
from xpnn.distributed import command, launched
from xpnn.errors import MissingPackageError

ROOT = Path(__file__).parents[2]
engines = pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts many processes: ci/distributed.sh")


def write_table(folder, n=400):
    rng = random.Random(0)
    points = [(rng.gauss(0, 1), rng.gauss(0, 1)) for _ in range(n)]
    rows = [f"{a:.3f},{b:.3f},{'yes' if a * b > 0 else 'no'}" for a, b in points]
    Path(folder, "table.csv").write_text("a,b,y\n" + "\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    write_table(folder)
    return folder


def xpnn_command(*args):
    return [sys.executable, "-m", "xpnn", *map(str, args)]


def start(home, *args, **options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(xpnn_command(*args), cwd=home, env=environment, **pipes, **options)


def done(home, *args, status=0):
    with start(home, *args) as process:
        out, err = process.communicate(timeout=90)
    assert process.returncode == status, out + err
    return out, err


def await_file(path, process):
    """Wait until a running command has written a file."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)


def digest(folder):
    tensors, _ = read(Path(folder, "model.safetensors"))
    return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()


PLAIN = ("train", "table.csv", "--target", "y", "--preset", "none", "--epochs", "40", "--dropout", "0.1")


@engines
@pytest.mark.parametrize(
    "options",
    [("train", "table.csv", "--target", "y", "--epochs", "4", "--ensemble", "2"), (*PLAIN, "--norm", "batch")],
    ids=["preset", "plain"],
)
def test_any_number_of_processes_gives_one_model(home, options, tmp_path):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    for processes in (1, 2, 3):
        out, _ = done(home, *options, "--processes", processes, "--out", tmp_path / str(processes))
        assert out.count("header row found") == 1  # of rank 0
    done(home, *options, "--shards", 16, "--out", tmp_path / "alone")
    assert len({digest(path) for path in tmp_path.iterdir()}) == 1
    assert sorted(p.name for p in (tmp_path / "3").iterdir()) == sorted(p.name for p in (tmp_path / "1").iterdir())


@engines
def test_a_killed_run_goes_on_with_fewer(home, tmp_path):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    expected, cut = tmp_path / "whole", tmp_path / "cut"
    often = ("--checkpoint-seconds", "0.01", "--epochs", "120", "--patience", "120")  # longer than the kill takes
    done(home, *PLAIN, *often, "--shards", 16, "--out", expected)
    with start(home, *PLAIN, *often, "--processes", 3, "--out", cut) as process:
        await_file(cut / ".unfinished" / "checkpoint.safetensors", process)
        victims = [pid for pid in processes() if is_rank(pid, 2, cut)]
        os.kill(victims[0], signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode != 0
    done(home, "train", "--resume", cut, "--processes", 2)
    assert digest(cut) == digest(expected)


def is_rank(pid, rank, out):
    """Whether a process is that of a rank of the run that writes to `out`."""
    try:
        words, variables = (Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ"))
    except OSError:
        return False
    return str(out).encode() in words and f"PMI_RANK={rank}\0".encode() in variables


@engines
def test_a_signal_to_one_process_leaves_the_best_weights(home, tmp_path):
    """Who was told to end waits until rank 0 has written."""
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    endless = ("--epochs", "50000", "--patience", "50000")
    with start(home, *PLAIN, *endless, "--processes", 2, "--out", tmp_path) as process:
        await_file(tmp_path / ".unfinished" / "history.csv", process)
        time.sleep(0.5)
        (victim,) = [pid for pid in processes() if is_rank(pid, 1, tmp_path)]
        os.kill(victim, signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "MPI: rank 1 of 2 has failed: Interrupted" in err
    assert f"to go on: xpnn train --resume {tmp_path}" in out
    assert (tmp_path / "model.safetensors").exists()


@engines
def test_a_killed_command_ends_its_processes(home, tmp_path):
    """The launcher between them notices nothing of it."""
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    endless = ("--epochs", "50000", "--patience", "50000", "--checkpoint-seconds", "0.01")
    with start(home, *PLAIN, *endless, "--processes", 2, "--out", tmp_path) as process:
        await_file(tmp_path / ".unfinished" / "checkpoint.safetensors", process)
        there = {pid for pid in processes() if any(is_rank(pid, rank, tmp_path) for rank in (0, 1))}
        assert len(there) == 2
        process.kill()
        process.wait()
        killed = time.monotonic()
        while there & set(processes()):
            assert time.monotonic() - killed < 20.0
            time.sleep(0.01)
    assert (tmp_path / ".unfinished" / "checkpoint.safetensors").exists()


def processes():
    """The numbers of those that run, but for those that are over and wait to be asked."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


@engines
def test_a_time_limit_of_several_processes_is_that_of_one_clock(home, tmp_path):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    out, _ = done(home, "train", "table.csv", "--target", "y", "--epochs", "200000", "--time-limit", "1.5",
                  "--processes", 2, "--out", tmp_path / "run")  # fmt: skip
    assert "the time limit" in out
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert 1 < len(rows) < 200000


@engines
def test_what_is_wrong_is_said_once(home, tmp_path):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    out, err = done(home, "train", "table.csv", "--target", "z", "--processes", 2, "--out", tmp_path / "a", status=2)
    assert err.count("--target: expected a column of table.csv, got 'z'") == 1
    assert "Traceback" not in out + err
    _, err = done(home, *PLAIN, "--processes", 3, "--shards", 2, "--out", tmp_path / "b", status=2)
    assert "expected at least as many shards as processes, got --shards 2 for 3 processes. Try --shards 4" in err


def test_options_that_do_not_go_together(tmp_path, monkeypatch):
    write_table(tmp_path)
    monkeypatch.chdir(tmp_path)
    refused(run("train", "-", "--target", "y", "--processes", 2), "--processes: expected a file, got -")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    refused(run("train", "table.csv", "--target", "y", "--processes", 2), "needs mpi4py with an MPI, or PyTorch")
    with pytest.raises(MissingPackageError, match=r"pip install 'xpnn\[mpi\]'"):
        command(2, ["script.py"], "here")


def test_how_processes_are_started(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "mpiexec").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    python = str(tmp_path / "python")
    assert command(3, ["a.py"], "here") == [str(tmp_path / "mpiexec"), "-n", "3", python, "a.py"]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name == "torch" else None)
    assert command(3, ["a.py"], "here")[1:] == [
        *("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "a.py")
    ]


def test_who_started_this_process():
    assert launched({}) is None
    assert launched({"PMI_SIZE": "1"}) is None
    assert launched({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1"}) is None


def test_shards_alone_train_in_one_process(tmp_path, monkeypatch, no_pictures):
    write_table(tmp_path, 100)
    monkeypatch.chdir(tmp_path)
    for name, option in (("a", "--processes"), ("b", "--shards")):
        ran = run(*PLAIN[:-4], "--epochs", 2, option, 1 if name == "a" else 16, "--out", name, "--quiet")
        assert ran.status == 0, ran.err
    assert digest("a") == digest("b")


def test_other_ranks_say_nothing(tmp_path, monkeypatch, capsys):
    """What one has been told of an error is what rank 0 tells."""
    from argparse import Namespace

    from thread_group import ThreadGroup, World

    from xpnn.errors import DataError

    monkeypatch.setattr("xpnn.cli.ranks.launched", lambda: ThreadGroup(1, World(2)))

    def fail(args):
        sys.stdout.write("to nobody")
        raise DataError("told by rank 0")

    args = Namespace(processes=None, shards=None, time_limit=None, argv=["train"], source="x")
    assert run_on_ranks(args, fail) == 2
    assert args.argv == ["train", "--shards", "16"]
    assert capsys.readouterr().out == ""
