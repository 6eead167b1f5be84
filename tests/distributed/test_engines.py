"""Real processes: MPI and gloo give the bits of one process, and nothing that fails hangs."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rank_work import table

ROOT = Path(__file__).parents[2]
WORK = ROOT / "tests" / "helpers" / "rank_work.py"
WATCHDOG = 90.0  # seconds: what takes longer hangs
WITHIN = 30.0  # seconds from the beginning of processes, one of which fails, to the end of all; mostly their imports
pytestmark = pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts many processes: ci/distributed.sh")


def launcher(engine, size):
    """The command that starts processes."""
    if engine == "alone":
        return [sys.executable]
    if engine == "mpi":
        pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
        found = Path(sys.executable).with_name("mpiexec")
        mpiexec = str(found) if found.exists() else shutil.which("mpiexec")
        if mpiexec is None:
            pytest.skip("needs mpiexec: pip install 'xpnn[mpi]'")
        return [mpiexec, "-n", str(size), sys.executable, "-m", "mpi4py"]
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs PyTorch: pip install torch")
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size)]


def start(engine, size, scenario, folder, *options):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [*launcher(engine, size), *options, str(WORK), engine, scenario, str(folder)]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=WATCHDOG)
    return done, time.monotonic() - began


def results(engine, size, scenario, folder):
    """What all ranks have come to; the same on each."""
    done, _ = start(engine, size, scenario, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout.replace("}{", "}\n{")
    found = {one["rank"]: one for one in map(json.loads, text.splitlines())}
    assert sorted(found) == list(range(size))
    assert all(one["done"] == found[0]["done"] and one["size"] == size for one in found.values())
    return found[0]["done"]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The results of one process: of sums, of a training of everything, and of one on shards in memory maps."""
    folder = tmp_path_factory.mktemp("alone")
    np.save(folder / "X.npy", table()[0])
    return results("alone", 1, "all", folder)


@pytest.mark.parametrize(("engine", "size"), [("mpi", 1), ("mpi", 2), ("mpi", 3), ("mpi", 4), ("torch", 3)])
def test_the_bits_are_those_of_one_process(expected, engine, size, tmp_path):
    np.save(tmp_path / "X.npy", table()[0])
    assert results(engine, size, "all", tmp_path) == expected


def test_a_slow_process_changes_no_bit(expected, tmp_path):
    assert results("mpi", 2, "slow", tmp_path)["whole"] == expected["whole"]


@pytest.mark.parametrize(
    ("engine", "scenario", "text"),
    [
        ("mpi", "error", "rank 1 of 3 has failed: ValueError: the disk is full"),
        ("mpi", "bad row", "rank 1 of 3: fit: expected finite float32 numbers in X"),
        ("mpi", "nan", "fit: loss is nan at epoch 3"),
        ("torch", "error", "rank 1 of 3 has failed: ValueError: the disk is full"),
    ],
)
def test_an_error_on_one_ends_on_all_and_names_the_rank(engine, scenario, text, tmp_path):
    """Under MPI the process that fails may end the others before they have said what they were told."""
    done, seconds = start(engine, 3, scenario, tmp_path)
    assert done.returncode != 0
    assert seconds < WITHIN
    said = done.stdout + done.stderr
    own = {"error": "This is rank 1 of 3.", "bad row": "got 1 that are not, first inf in row 5, column 2"}
    assert text in said or (engine == "mpi" and own.get(scenario, text) in said), said


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        ("raises before", "rank 1 of 3 has failed: ValueError: no such table"),
        ("ends before", "rank 1 of 3 has ended, while rank"),
    ],
)
def test_a_script_that_ends_early_on_one_process_ends_on_all(scenario, text, tmp_path, monkeypatch):
    """Also where nobody thought of `python -m mpi4py`."""
    monkeypatch.setattr(sys.modules[__name__], "launcher", lambda engine, size, made=launcher: made(engine, size)[:-2])
    done, seconds = start("mpi", 3, scenario, tmp_path)
    assert done.returncode != 0
    assert seconds < WITHIN
    assert text in done.stderr, done.stdout + done.stderr


def test_a_killed_process_ends_all_and_training_goes_on_with_fewer(expected, tmp_path):
    """At random moments; to the bits of the run that nobody killed."""
    for k in range(12):
        folder = tmp_path / str(k)
        folder.mkdir()
        done, seconds = start("mpi", 3, f"kill:{random.Random(k).uniform(0.0, 0.25)}", folder)
        assert seconds < WITHIN, done.stderr
        if done.returncode == 0:  # it was through before
            continue
        assert "BAD TERMINATION" in done.stdout + done.stderr
        size = 1 + k % 2
        assert results("mpi" if size > 1 else "alone", size, "goes on", folder) == {"whole": expected["whole"]}


def test_torchrun_starts_a_killed_training_anew(expected, tmp_path):
    """Unattended: all processes end, start again, and go on from the checkpoint."""
    done, seconds = start("torch", 3, "killed once", tmp_path, "--max-restarts", "1")
    assert done.returncode == 0, done.stderr
    assert seconds < 2 * WITHIN
    assert (tmp_path / "killed").exists()
    found = [json.loads(line) for line in done.stdout.replace("}{", "}\n{").splitlines()]
    assert [one["done"] for one in found] == [{"whole": expected["whole"]}] * 3


def test_the_benchmark_runs_and_says_who_is_missing(tmp_path):
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'xpnn[mpi]'")
    (tmp_path / "torch.py").write_text("raise ImportError('no torch in this test')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}", "OPENBLAS_CORETYPE": "Haswell"}
    words = [sys.executable, str(ROOT / "benchmarks" / "distributed.py"), "--quick", "--processes", "1,2"]
    done = subprocess.run(
        [*words, "--results", str(tmp_path)], capture_output=True, text=True, env=environment, timeout=WATCHDOG
    )
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("distributed-*.json")
    found = json.loads(path.read_text())
    shards, _, one, two = found["problems"]
    assert shards["rows"].keys() == {"whole batches", "1 shard", "4 shards", "16 shards"}
    assert one["rows"].keys() == {"xpnn, one process"}
    assert two["rows"].keys() == {"xpnn, MPI"}
    assert one["rows"]["xpnn, one process"]["loss"] == two["rows"]["xpnn, MPI"]["loss"]
    assert two["rows"]["xpnn, MPI"]["bytes_us"] > 0
    assert "torch" in one["missing"]["torch DDP, gloo"]
    if "missing" in found["slow links"]:
        pytest.skip(found["slow links"]["missing"])  # after all else was looked at
    assert "model, not run" in done.stdout
