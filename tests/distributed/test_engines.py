"""Real processes: MPI and gloo give the bits of one process, and nothing that fails hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from rank_runs import ROOT, WATCHDOG, WITHIN, killed, missing, results, start
from rank_work import FEATURES, write

pytestmark = pytest.mark.skipif("XPNN_ENGINES" not in os.environ, reason="starts many processes: ci/distributed.sh")


def needs(engine):
    why = missing(engine)
    if why is not None:
        pytest.skip(why)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """What one process comes to: sums, each feature by itself, and a training of all of them."""
    folder = tmp_path_factory.mktemp("alone")
    write(folder)
    return results("alone", 1, "all", folder)


@pytest.mark.parametrize(
    ("engine", "size"),
    [
        *(("mpi", size) for size in (1, 2, 3, 4, 8)),
        *(("sockets", size) for size in (2, 3, 8)),
        *(("torch", size) for size in (1, 2, 3, 4)),
    ],
)
def test_the_bits_are_those_of_one_process(expected, engine, size, tmp_path):
    """Of the whole matrix: each engine, number of processes and feature."""
    needs(engine)
    write(tmp_path)
    found = results(engine, size, "all", tmp_path)
    assert found.keys() == expected.keys() >= FEATURES.keys()
    assert [name for name in found if found[name] != expected[name]] == []


def test_a_slow_process_changes_no_bit(expected, tmp_path):
    needs("mpi")
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
    needs(engine)
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
def test_a_script_that_ends_early_on_one_process_ends_on_all(scenario, text, tmp_path):
    """Also where nobody thought of `python -m mpi4py`."""
    needs("mpi")
    done, seconds = start("mpi", 3, scenario, tmp_path, guarded=False)
    assert done.returncode != 0
    assert seconds < WITHIN
    assert text in done.stderr, done.stdout + done.stderr


def test_a_killed_process_ends_all_and_training_goes_on_with_fewer(expected):
    """A random one of several, at twenty random moments; to the bits of the run that nobody killed."""
    needs("mpi")
    tries, cut_off, equal = killed(20, 0, expected["whole"])
    assert (tries, equal) == (20, 20)
    assert cut_off >= 5  # others were through before


def test_torchrun_starts_a_killed_training_anew(expected, tmp_path):
    """Unattended: all processes end, start again, and go on from the checkpoint."""
    needs("torch")
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
