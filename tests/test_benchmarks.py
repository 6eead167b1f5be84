"""The benchmarks run, say who is missing, and their results make the page.  No time is asserted."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys

import pytest
from places import PROJECT

BENCHMARKS = PROJECT / "benchmarks"
PEERS = ("torch", "jax")
SCRIPTS = ("training", "prediction", "replicas", "startup_memory")


def run(script, *options, peers):
    """Run a script where PyTorch and JAX cannot be imported."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": str(peers), "OPENBLAS_CORETYPE": "Haswell"}
    return subprocess.run(
        [sys.executable, "-W", "error", str(BENCHMARKS / f"{script}.py"), *options],
        env=environment,
        cwd=peers,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Each script's quick run: what it printed, and the folder of all results."""
    folder, peers = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("peers")
    for name in PEERS:
        (peers / f"{name}.py").write_text(f"raise ImportError('no {name} in this test')\n")
    printed = {}
    for script in SCRIPTS:
        done = run(script, "--quick", "--results", str(folder), peers=peers)
        assert done.returncode == 0, done.stdout + done.stderr
        printed[script] = done.stdout
    return printed, folder


def read(folder, name):
    return json.loads((folder / f"{name}-1.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_results_say_where_and_with_what(script, measured):
    printed, folder = measured
    found = read(folder, script)
    assert found["benchmark"] == script
    assert found["quick"] is True
    assert found["threads"] == 1
    assert {"xpnn", "python", "numpy"} <= found["versions"].keys()
    assert found["machine"]["cpu"] in printed[script]
    assert {"cores", "system", "load_before", "load_after"} <= found["machine"].keys()
    assert found["commit"]
    assert found["date"].endswith("UTC")
    assert "without OPENBLAS_CORETYPE=Haswell" in printed[script]
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "replicas"])
def test_every_competitor_has_a_time_or_a_reason(script, measured):
    printed, folder = measured
    makers = {"startup_memory": "IMPORTS"}.get(script, "MAKERS")
    every = set(getattr(module(script), makers))
    problems = read(folder, script)["problems"]
    assert problems
    for problem in problems:
        of_tables = problem.get("problem", "").startswith("table")
        known = set(module(script).ESTIMATORS) if of_tables else every
        assert problem["rows"].keys() | problem["missing"].keys() == known
        assert problem["rows"]["xpnn"]["ratio"] == 1.0
        for row in problem["rows"].values():
            assert row["us"] >= row["us_min"] > 0
            assert row["ratio"] > 0
            assert row["rounds"] >= 2
        assert {name for name in known if name.startswith(PEERS)} <= problem["missing"].keys()
        for name, why in problem["missing"].items():
            assert f"{name:<34} skipped: {why}" in printed[script]
            assert "not comparable" not in why


def test_losses_were_compared(measured):
    for problem in read(measured[1], "training")["problems"]:
        assert problem["rows"]["xpnn"]["loss_off"] == 0.0
        assert problem["rows"]["xpnn, default metrics"]["loss_off"] == 0.0
        assert problem["rows"]["xpnn, portable ops"]["loss_off"] < 1e-6
        if "scikit-learn" in problem["rows"]:
            assert problem["rows"]["scikit-learn"]["loss_off"] < 5e-3


def test_networks_together_are_beside_one_alone(measured):
    plain, *compiled = read(measured[1], "replicas")["problems"]
    for problem in (plain, *compiled):
        assert list(problem["rows"]) == ["one alone", "1 together", "4 together"]
        assert problem["rows"]["one alone"]["ratio"] == 1.0
    assert [problem["problem"] for problem in compiled] in ([], [f"{plain['problem']}, with numba"])


def test_memory_adds_up(measured):
    found = read(measured[1], "startup_memory")
    if "memory_missing" in found:
        pytest.skip(found["memory_missing"])
    (row,) = found["memory"]
    assert row["parameters_mib"] == pytest.approx(235146 * 4 / 2**20, abs=0.01)
    assert row["state_mib"] == pytest.approx(2 * row["parameters_mib"], abs=0.02)
    assert row["peak_over_data_mib"] >= row["parameters_mib"] + row["state_mib"]  # no less than what it must hold
    assert row["ratio"] > 1


def make_page(folder, out):
    return subprocess.run(
        [sys.executable, str(BENCHMARKS / "table.py"), "--results", str(folder), "--out", str(out)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_page_is_made_of_the_results(measured, tmp_path):
    done = make_page(measured[1], tmp_path / "new" / "page.md")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "new" / "page.md").read_text(encoding="utf-8")
    assert "these figures measure nothing" in page
    assert "Not measured on a GPU yet" in page
    for script in SCRIPTS:
        found = read(measured[1], script)
        assert found["commit"] in page
        assert f"numpy {found['versions']['numpy']}" in page
    for problem in read(measured[1], "training")["problems"]:
        assert f"#### {problem['problem']}, 1 thread (3 rounds)" in page
        assert "- not here: torch eager, Adam: not installed (no torch in this test)" in page
    widths = [[line.count(" | ") for line in block.splitlines()] for block in page.split("\n\n") if block[:1] == "|"]
    assert len(widths) == 7 + len(read(measured[1], "replicas")["problems"])
    assert all(len(set(block)) == 1 for block in widths)


def test_figures_of_a_gpu_are_shown_once_there_are_some(measured, tmp_path):
    table = module("table")
    steps = {"xpnn cupy": {"us": 50.0, "us_min": 49.0}, "torch eager": {"us": 400.0, "us_min": 390.0}}
    found = {
        "device": "Some GPU",
        "precision": "float32",
        "versions": {"cupy": "14"},
        "problems": [{"problem": "2-2", "steps": steps, "missing": {"jax jit": "not installed"}}],
    }
    (tmp_path / "gpu").mkdir()
    (tmp_path / "gpu" / "bench.json").write_text(json.dumps(found))
    page = table.render([], tmp_path)
    assert "Some GPU; float32." in page
    assert "| torch eager | 400 | 390 | 8.00 |" in page
    assert "- not here: jax jit: not installed" in page
    assert "Not measured on a GPU yet" not in page
    assert page.count("Not measured yet.") == 8


def test_nothing_measured_makes_no_page(measured, tmp_path):
    done = make_page(tmp_path, tmp_path / "page.md")
    assert done.returncode == 1
    assert f"expected results in {tmp_path}, found none" in done.stderr
    before = (PROJECT / "docs").stat().st_mtime_ns
    done = make_page(measured[1], PROJECT / "docs" / "performance.md")
    assert done.returncode == 1
    assert "quick or partial runs, which measure nothing" in done.stderr
    assert (PROJECT / "docs").stat().st_mtime_ns == before


def test_the_page_in_the_docs_is_what_the_command_makes():
    page, results = PROJECT / "docs" / "performance.md", BENCHMARKS / "results"
    if not page.is_file():
        pytest.skip("nothing has been measured yet: see benchmarks/table.py")
    table = module("table")
    runs = table.load(results)
    assert not any(run["quick"] for run in runs)
    assert page.read_text(encoding="utf-8") == table.render(runs, results)


# -- the harness ------------------------------------------------------------------------------------------------
def module(name):
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


def script(name):
    """Import a script whose name is that of an installed package, too, as Dask's distributed is."""
    module("harness")
    spec = importlib.util.spec_from_file_location(f"benchmarks_{name}", BENCHMARKS / f"{name}.py")
    made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(made)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return made


def test_two_versions_take_turns(tmp_path):
    """Here the same checkout twice: a ratio for each problem, and the import beside them."""
    done = run(
        "versions",
        str(PROJECT),
        "--quick",
        "--problem",
        "2-16-8-1, one row",
        "--results",
        str(tmp_path),
        peers=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    problems = read(tmp_path, "versions")["problems"]
    assert [problem["problem"] for problem in problems if not problem["missing"]] != []
    for problem in problems:
        assert problem["problem"].startswith("2-16-8-1, one row: xpnn")
        assert problem["rows"].keys() == ({"now", "before"} if not problem["missing"] else set())
        assert f"  {problem['problem']}" in done.stdout.replace(" (µs)", "") or problem["missing"]
    refused = run("versions", str(tmp_path), "--quick", "--results", str(tmp_path), peers=tmp_path)
    assert refused.returncode == 1
    assert "expected a checkout of xpnn with benchmarks" in refused.stderr


def test_epochs_of_two_versions_are_compared_if_their_losses_agree(tmp_path, monkeypatch):
    large = module("large")
    calls = []

    def child(code, file, *options, project, XPNN_COMPILED):
        calls.append((project, XPNN_COMPILED, options[:2] == ("--preset", "none")))
        return {"seconds": 2.0 if project == tmp_path else 0.5, "loss": 0.25 if XPNN_COMPILED == "1" else loss}

    monkeypatch.setattr(large, "child", child)
    loss = 0.25
    found = large.epochs(tmp_path, 30, tmp_path, rounds=2)
    assert len((tmp_path / "epochs.csv").read_text().splitlines()) == 31
    assert set(calls) == {(p, c, p == PROJECT) for p in (PROJECT, tmp_path) for c in ("0", "1")}
    ratios = {name: row["ratio"] for name, row in found["rows"].items()}
    assert ratios == {"xpnn": 1.0, "before": 4.0, "xpnn with numba": 1.0, "before with numba": 4.0}
    loss = 0.26
    with pytest.raises(ValueError, match="expected one loss"):
        large.epochs(tmp_path, 30, tmp_path, rounds=2)


def test_shards_and_processes(tmp_path):
    """Here by one process: starting engines is for `tests/distributed`."""
    for name in PEERS:
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('no {name} in this test')\n")
    done = run("distributed", "--quick", "--no-links", "--processes", "", "--results", str(tmp_path), peers=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(next(tmp_path.glob("distributed-*.json")).read_text(encoding="utf-8"))
    names = ["whole batches", "1 shard", "4 shards", "16 shards"]
    assert [list(problem["rows"]) for problem in found["problems"]] == [names, names, ["xpnn, one process"]]
    assert found["problems"][2]["missing"] == {"torch DDP, gloo": "ImportError: no torch in this test"}
    found["slow links"] = {"rows": 2048, "alone_us": 1e4, "links": {"slow": a_link(script("distributed"))}}
    page = "\n".join(module("table").processes({"problems": found["problems"], "slow links": found["slow links"]}))
    assert "| slow | 1 | 10 |" in page
    assert "**A model, not a measurement**" in page
    assert "| slow, exchange every step |" in page


def a_link(distributed):
    """What is found of a link of 1 ms and 10 MB/s."""
    points = [(n, 1e-3 + n / 1e7) for n in (4, 4096, 1 << 20)]
    latency, rate = distributed.fitted(points)
    assert latency == pytest.approx(1e-3)
    assert rate == pytest.approx(1e7)
    two, four = (distributed.exchange_time(p, 1e6, latency, rate) for p in (2, 4))
    assert two == pytest.approx(0.101)
    assert four == pytest.approx(4e-3 + 0.15)
    model = distributed.modelled(0.1, latency, rate)
    assert model["every step"]["8"] > model["every step"]["1024"]
    measured = {"2": {"exchange": 0.11, "model": two}}
    return {"latency": latency, "rate": rate, "measured": measured, "steps_us": {"xpnn, TCP": 2e5}, "model": model}


def busy(folder, *options):
    """Run a part of the benchmark, and return what it has written."""
    done = run("busy", "--quick", *options, "--results", str(folder), peers=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("busy-*.json")
    return json.loads(path.read_text(encoding="utf-8"))


def test_training_on_a_busy_machine(tmp_path):
    """Each in a process of its own, with nothing set and with one thread, while the load runs; the load ends."""
    (problem,) = busy(tmp_path, "--only", "products", "--problem", "one other")["problems"]
    assert problem["problem"] == "784-256-128-10, batch 128, one other process"
    assert problem["rows"].keys() == {"xpnn", "products alone", "products alone, one thread"}
    assert problem["missing"] == {}
    assert problem["others"] == 1
    assert all(0.0 < row["cores"] <= 3.0 for row in problem["rows"].values())


def test_a_fair_share_of_two_cores():
    """Two threads that keep 1.8 cores busy for 400 µs, beside two others: 720 µs of one core."""

    def problem(load, others, two, one):
        rows = {"xpnn with numba": two, "xpnn with numba, one thread": one}
        found = {name: {"us": us, "cores": cores} for name, (us, cores) in rows.items()}
        return {"problem": f"784-10, {load}", "others": others, "rows": found}

    loads = [problem("quiet", 0, (400.0, 1.8), (600.0, 1.0)), problem("two others", 2, (800.0, 0.95), (990.0, 0.6))]
    shares = module("table").fair_shares
    lines = shares({"threads": 2, "problems": loads})
    assert "| quiet | 2.00 | 400 | 400 | 1.80 | 1.00 | 600 | 600 | 1.00 | 400 | 0.67 |" in lines
    assert "| two others | 1.00 | 720 | 800 | 0.95 | 0.67 | 900 | 990 | 0.60 | 800 | 1.33 |" in lines
    assert shares({"threads": 2, "problems": loads[1:]}) == [], "nothing to compare with"


def test_eight_fits_at_once(tmp_path):
    """One after the other, in a pool of threads and in processes of their own; the page shows them."""
    (found,) = busy(tmp_path, "--only", "none", "--problem", "eight")["together"]
    assert (found["problem"], found["missing"]) == ("xpnn, 8 fits", {})
    assert list(found["rows"]) == ["one after the other", "in a pool of threads", "in processes at once"]
    assert found["rows"]["one after the other"]["ratio"] == 1.0
    lines = module("table").fits({"threads": 2, "label": "", "together": [found, {"rows": {}}]})
    assert sum("in processes at once" in line for line in lines) == 1


def test_each_is_first_in_its_turn():
    order = []
    turns = {name: lambda name=name: order.append(name) or len(order) for name in "abc"}
    found = module("harness").interleave(turns, 0.0, least=4, most=4)
    assert "".join(order) == "abcbcacababc"
    assert found["a"] == [1, 6, 8, 10]


def test_ratios_are_taken_within_rounds():
    times = {"xpnn": [1.0, 2.0, 4.0], "other": [3.0, 6.0, 8.0]}
    found = module("harness").summary(times, "xpnn")
    assert found["other"] == {"us": 6e6, "us_min": 3e6, "ratio": 3.0, "rounds": 3}
    assert found["xpnn"]["ratio"] == 1.0


def test_calls_fill_a_round():
    calls = []
    n = module("harness").calls_per_round(calls.append, 1e9, most=4)
    assert len(calls) == 1 + 2 + 4
    assert n >= 4


def test_results_replace_the_file_at_once(tmp_path):
    harness = module("harness")
    path = tmp_path / "new" / "a.json"
    harness.write(path, {"µ": 1})
    with pytest.raises(TypeError, match="not JSON serializable"):
        harness.write(path, {"µ": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"µ": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_reasons_are_one_line():
    harness = module("harness")
    assert harness.reason(harness.MissingError("not installed")) == "not installed"
    assert harness.reason(ValueError("one\ntwo")) == "ValueError: one"
    with pytest.raises(harness.MissingError, match=r"not installed \(No module named 'no_such_library'\)"):
        module("peers").module("no_such_library")


def test_a_competitor_that_learns_otherwise_takes_no_part(monkeypatch):
    """Half the learning rate is told, a crash too, and neither keeps the others from their turn."""
    training = module("training")

    class Slower(training.WithXpnn):
        def __init__(self, problem):
            super().__init__(problem)
            self.trainer.optimizer.lr = 5e-4

    class Broken(training.WithXpnn):
        def __init__(self, problem):
            raise RuntimeError("lost")

    own = training.MAKERS["xpnn"]
    monkeypatch.setattr(training, "MAKERS", {"xpnn": own, "slower": Slower, "broken": Broken})
    problem = training.make_problem([2, 16, 8, 1], 32, 5)
    found = training.measure(problem, [""], 0.0, least=1)
    assert found["rows"].keys() == {"xpnn"}
    assert found["missing"]["slower"].startswith("not comparable: loss ")
    assert found["missing"]["broken"] == "RuntimeError: lost"


# -- tables ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """What the quick run on two small tables printed, and its folder."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    folder, peers = tmp_path_factory.mktemp("tables"), tmp_path_factory.mktemp("absent")
    models = "sk_hgb,lgbm,catboost,realmlp_td"
    saved = {"model": "a peer", "seed": 0, "fit_s": 2.0, "ntest": 36}
    lines = [saved | {"ds": "wine", "acc": 0.9, "logloss": 0.3}, saved | {"ds": "diabetes", "rmse": 60.0}]
    (folder / "saved.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    options = ["--quick", "--models", models, "--results", str(folder), "--peers", str(folder / "saved.jsonl")]
    return [run("tabular", *options, peers=peers) for _ in range(2)], folder


def test_tables_are_measured_once_and_missing_peers_are_named(tables):
    (first, again), folder = tables
    assert first.returncode == 0, first.stdout + first.stderr
    found = read(folder, "tabular")
    measured = {(row["table"], row["model"]) for row in found["rows"]}
    assert {(t, m) for t in ("diabetes", "wine") for m in ("xpnn quick", "sk_hgb")} <= measured
    assert len(found["rows"]) == len(measured)
    for name, package in (("lgbm", "lightgbm"), ("catboost", "catboost"), ("realmlp_td", "pytabkit")):
        if name in found["missing"]:
            assert f"{name} skipped: {package} is not installed: pip install {package}" in first.stdout
    for row in found["rows"]:
        assert row["seconds"] > 0
        assert ("log_loss" in row) == (row["table"] == "wine")
    assert again.returncode == 0, again.stdout + again.stderr
    assert " xpnn quick          0" not in again.stdout
    assert [line for line in again.stdout.splitlines() if line.startswith("|")] == [
        line for line in first.stdout.splitlines() if line.startswith("|")
    ]


def test_ratios_are_to_each_peer(tables):
    (first, _), folder = tables
    rows = {(row["table"], row["model"]): row for row in read(folder, "tabular")["rows"]}
    own = [max(rows["wine", "xpnn quick"]["error"], 0.5 / 36) / 0.1, rows["diabetes", "xpnn quick"]["error"] / 60.0]
    (line,) = [line for line in first.stdout.splitlines() if line.startswith("| a peer |")]
    assert line.startswith(f"| a peer | {(own[0] * own[1]) ** 0.5:.3f} (")
