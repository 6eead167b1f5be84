"""``xpnn bench``, and the rule by which backend "auto" chooses."""

from __future__ import annotations

import itertools
import json
import logging
import math

import numpy as np
import pytest

import xpnn
from xpnn import bench, crossover
from xpnn.accel.cores import kept_to
from xpnn.cli import bench as command
from xpnn.cli import main
from xpnn.crossover import Crossover, best_threshold, work_of
from xpnn.errors import FileFormatError


@pytest.fixture
def rule_file(tmp_path, monkeypatch):
    file = tmp_path / "cache" / "crossover.json"
    monkeypatch.setattr(crossover, "crossover_path", lambda: file)
    return file


@pytest.fixture
def with_gpu(monkeypatch):
    """Pretend that CuPy has a GPU: NumPy in its place."""
    from xpnn.backend import value

    state_of, make = value.state_of, value.make
    monkeypatch.setattr(value, "state_of", lambda name, device: "ok" if name == "cupy" else state_of(name, device))

    def numpy_instead(name, device, dtype, options):
        made = make("numpy" if name == "cupy" else name, device, dtype, options)
        chosen.append(name)
        return made

    chosen: list[str] = []
    monkeypatch.setattr(value, "make", numpy_instead)
    return chosen


# -- the rule ---------------------------------------------------------------------------------------------------
def test_work_of_a_step_is_three_products_for_each_parameter_and_row():
    assert work_of(1000, 32) == 3 * 1000 * 32
    assert work_of(1000) == work_of(1000, crossover.TYPICAL_BATCH)


@pytest.mark.parametrize(
    ("cpu", "gpu", "expected"),
    [
        ([1, 2, 4, 8], [3, 3, 3, 3], math.sqrt(100 * 10_000)),  # between the second and the third
        ([1, 2, 4, 8], [9, 9, 9, 9], math.inf),
        ([1, 2, 4, 8], [0.5, 0.5, 0.5, 0.5], 0.0),
        ([1, 9, 2, 80], [3, 3, 3, 3], math.sqrt(1 * 100)),  # one odd measurement: what loses least over all
    ],
)
def test_the_threshold_that_loses_least(cpu, gpu, expected):
    work = [1.0, 100.0, 10_000.0, 1e6]
    assert best_threshold(work, cpu, gpu) == pytest.approx(expected)
    order = [2, 0, 3, 1]
    assert best_threshold(*([a[i] for i in order] for a in (work, cpu, gpu))) == pytest.approx(expected)


def test_a_rule_is_kept_and_found_again(rule_file):
    assert Crossover.load() is None
    rule = Crossover(math.inf, "GPU 0", "2026-01-02")
    assert rule.save() == rule_file
    assert Crossover.load() == rule
    assert not rule.prefers_gpu(1e12)
    assert "the processor: a step has 1e+12 multiply-adds" in rule.sentence(1e12)
    assert "GPU 0 paid at no size (xpnn bench, 2026-01-02)" in rule.sentence(1e12)


@pytest.mark.parametrize("content", ["", "[]", '{"work": "much"}', '{"work": 1}'])
def test_a_spoiled_rule_is_an_error_that_names_the_file(rule_file, content):
    rule_file.parent.mkdir()
    rule_file.write_text(content)
    with pytest.raises(FileFormatError, match=r"backend 'auto': expected the rule .*crossover\.json.*xpnn bench"):
        Crossover.load()


# -- backend "auto" ---------------------------------------------------------------------------------------------
def test_without_a_gpu_auto_is_numpy_and_says_why(caplog):
    if xpnn.available_backends()["cupy"] == "ok":
        pytest.skip("there is a GPU")
    with caplog.at_level(logging.INFO, "xpnn"):
        assert xpnn.get_backend("auto").name == "numpy"
    assert caplog.messages[0].startswith("backend auto: the processor: CuPy has no GPU here (")


def test_auto_follows_the_rule(rule_file, with_gpu, caplog):
    small, large = [2, 16, 8, 1], [784, 256, 128, 10]
    with caplog.at_level(logging.INFO, "xpnn"):
        xpnn.mlp(small, backend="auto")
        assert with_gpu.pop() == "cupy"  # no rule yet: a GPU is taken
        assert "`xpnn bench` finds from what size on it pays" in caplog.messages[-1]
        Crossover(1e6, "GPU 0", "2026-01-02").save()
        xpnn.mlp(small, backend="auto")
        assert with_gpu.pop() == "numpy"
        assert caplog.messages[-1].startswith("backend auto: the processor: a step has ")
        xpnn.mlp(large, backend="auto")
        assert with_gpu.pop() == "cupy"
        assert caplog.messages[-1].startswith("backend auto: the GPU: a step has 9e+07 multiply-adds")
        xpnn.get_backend("auto")  # nothing is known of the network
        assert with_gpu.pop() == "cupy"
        work = work_of(xpnn.mlp(small).n_params)
        xpnn.mlp(small, backend="auto", seed=range(math.ceil(1e6 / work)))  # replicas count together
        assert with_gpu.pop() == "cupy"


# -- measuring --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sizes", [[3, 8, 2], [3, 8, 1]])
def test_a_step_is_timed(sizes):
    found = bench.step_time(sizes, 16, "numpy", seconds=0.02)
    assert 0 < found.least <= found.median < 1
    assert found.steps >= 1
    assert bench.products_time(sizes, 16, seconds=0.02).median > 0


def test_a_step_is_timed_on_each_number_of_threads(monkeypatch):
    monkeypatch.setattr(bench, "thread_limit", lambda: 3)
    kept = []
    monkeypatch.setattr(bench, "step_time", lambda *args, **options: kept.append(kept_to()) or bench.StepTime(2, 1, 3))
    assert bench.thread_times([3, 4, 2], 16, seconds=0.02) == {1: 2, 2: 2, 3: 2}
    assert kept == [1, 2, 3]
    assert kept_to() is None


def test_rounds_longer_than_the_data_count_their_steps(monkeypatch):
    monkeypatch.setattr(bench, "_MOST_ELEMENTS", 3 * 16 * 10)  # ten steps an epoch
    seen = []

    class Counting(bench.Trainer):
        def fit(self, X, y, **options):
            history = super().fit(X, y, **options)
            history.rows[-1]["seconds"] = len(X) / 16  # a second for each step
            seen.append(len(X))
            return history

    monkeypatch.setattr(bench, "Trainer", Counting)
    found = bench.step_time([3, 4, 2], 16, "numpy", seconds=1000.0)
    assert found.median == pytest.approx(1.0)
    assert max(seen) == 160


def test_crossover_measures_both_sides_of_every_size():
    def measure(sizes, batch_size, where, *, seconds):
        work = work_of(sum((a + 1) * b for a, b in itertools.pairwise(sizes)), batch_size)
        return bench.StepTime(work * 1e-9 if where == "numpy" else 1e-3, 0.0, 1)

    threshold, rows = bench.crossover_threshold("gpu", measure=measure)
    assert len(rows) == len(bench.GRID)
    assert sorted(r["work"] for r in rows if r["gpu"] < r["cpu"])[0] > threshold > 0
    assert all(r["work"] < threshold for r in rows if r["cpu"] < r["gpu"])


# -- the command ------------------------------------------------------------------------------------------------
def test_the_command_prints_a_table(capsys):
    assert main(["bench", "--sizes", "3,8,2", "--batch-size", "16", "--backends", "numpy", "--seconds", "0.02"]) == 0
    out = capsys.readouterr().out
    assert "3-8-2, batch 16: 50 parameters, 2.4e+03 multiply-adds a step" in out
    assert "bare products, numpy" in out
    assert "xpnn on numpy" in out


def test_the_command_as_json(capsys):
    assert main(["bench", "--sizes", "3,2", "--backends", "numpy", "--seconds", "0.02", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["step_seconds"]["numpy"] > 0
    assert found["products_seconds"] > 0
    assert found["work"] == work_of(8, 128)


def test_the_command_keeps_the_rule_it_measures(rule_file, with_gpu, capsys, monkeypatch):
    monkeypatch.setattr("xpnn.cli.bench.available_backends", lambda: {"numpy": "ok", "cupy": "ok"})
    rows = [{"sizes": [3, 2], "batch_size": 8, "work": 192.0, "cpu": 1.0, "gpu": 2.0}]
    monkeypatch.setattr("xpnn.cli.bench.crossover_threshold", lambda gpu, seconds: (1e5, rows))
    assert main(["bench", "--sizes", "3,8,2", "--seconds", "0.02"]) == 0
    assert (
        "backend auto takes the processor: a step has 1.9e+04 multiply-adds, and GPU 0 pays" in capsys.readouterr().out
    )
    assert Crossover.load().work == 1e5
    rule_file.unlink()
    assert main(["bench", "--sizes", "3,8,2", "--seconds", "0.02", "--no-crossover"]) == 0
    assert not rule_file.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "5"], "xpnn bench: expected --sizes from input to output, such as 784,128,10"),
        (["--backends", "numby"], "numby"),
        (["--seconds", "0"], "expected a number above 0, got '0'"),
    ],
)
def test_wrong_options(options, message, capsys):
    try:
        status = main(["bench", *options])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err


def test_too_large_a_network_is_said_to_be(capsys, monkeypatch):
    def exhausted(sizes, batch_size, *, seconds):
        raise MemoryError

    monkeypatch.setattr(command, "products_time", exhausted)
    assert main(["bench", "--backends", "numpy"]) == 2
    assert capsys.readouterr().err == "xpnn bench: out of memory. Try smaller --sizes, or a smaller --batch-size.\n"


def test_products_stay_of_one_size():
    """In a deep and narrow network there come no subnormal numbers, which are slow."""
    with np.errstate(all="raise"):
        assert bench.products_time([2] * 60, 4, seconds=1e-4).median > 0


def test_compiled_or_not_the_numbers_are_the_same_to_the_bit():
    """What `bench` measures is what `fit` does: the compiled loops that it loads change no result."""
    X, y = xpnn.data.make_moons(64, seed=0)
    weights = []
    for prepare in (False, True):
        net = xpnn.mlp([2, 64, 2], seed=1)
        if prepare:
            net.backend.ops.prepare(1 << 40, 1, 1)
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, y, epochs=3, batch_size=64)
        weights.append(net.state_dict())
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_estimators_auto_counts_rows_and_members(rule_file, with_gpu):
    estimators = pytest.importorskip("xpnn.estimators", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    X, y = xpnn.data.make_moons(100, seed=0)
    n_params = (2 + 1) * 8 + (8 + 1) * 1
    Crossover(work_of(n_params, 100), "GPU 0", "2026-01-02").save()
    for options, expected in (
        ({}, "cupy"),  # one batch of all 100 rows
        ({"batch_size": 50}, "numpy"),
        ({"batch_size": 50, "n_ensemble": 2}, "cupy"),
    ):
        with_gpu.clear()
        estimators.MLPClassifier((8,), max_iter=1, backend="auto", tol=0.0, **options).partial_fit(X, y, classes=[0, 1])
        assert with_gpu[0] == expected, options
