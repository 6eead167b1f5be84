"""The whole product as a user meets it: commands in, files, numbers and exit statuses out."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from commands import Ran, Terminal, refused, run, tensors, train
from places import PROJECT, backend_or_skip

import xpnn
from xpnn.checkpoint import write
from xpnn.cli.options import in_options
from xpnn.cli.sources import BUILTIN, open_builtin
from xpnn.data.arrays import take_rows
from xpnn.data.targets import ClassTarget
from xpnn.predictor import Predictor

MODEL_FILES = ["model.safetensors", "scores.json", "history.csv", "evidence.json", "history.png"]


def picture(path):
    """The pixels of a PNG file."""
    from matplotlib.image import imread

    return imread(path)


def subprocess_of(*args, **options):
    """Start ``python -m xpnn`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "xpnn", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        **options,
    )


@pytest.fixture(scope="module")
def moons(tmp_path_factory):
    """A folder with a model of the moons."""
    out = tmp_path_factory.mktemp("moons")
    train("moons", "--epochs", 60, "--out", out)
    return out


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A network without encoding or labels."""
    path = tmp_path_factory.mktemp("bare") / "net.safetensors"
    xpnn.save(xpnn.mlp([4, 6, 3], "tanh", norm="layer", seed=1), path)
    return path


# -- training on built-in data ----------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_digits(tmp_path, seed):
    ran = run("train", "digits", "--seed", seed, "--out", tmp_path)
    assert ran.status == 0
    found = re.search(r"^test rows: accuracy ([\d.]+)%, cross-entropy ([\d.]+) on 359 rows$", ran.out, re.MULTILINE)
    assert float(found[1]) >= 97.0
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert f"{scores['accuracy']:.2%}" == f"{found[1]}%"

    # the matrix printed is the matrix saved, and the pairs are its largest off-diagonal cells
    block = ran.out.split("Confusion matrix (rows: truth, columns: prediction)\n")[1].split("\n\n")[0].splitlines()
    assert block[0].split() == [str(k) for k in range(10)]
    printed = [[int(cell) for cell in line.split()[1:]] for line in block[2:]]
    assert printed == scores["confusion"]
    matrix = np.asarray(printed)
    assert matrix.sum() == 359
    assert np.trace(matrix) / 359 == pytest.approx(scores["accuracy"])
    pairs = ran.out.split("Most confused\n")[1].split("\n\n")[0].splitlines()[2:]
    truth, taken, times = (int(cell) for cell in pairs[0].split())
    assert truth != taken
    assert matrix[truth, taken] == times == (matrix - np.diag(np.diag(matrix))).max()

    # progress in a log file: lines, about ten of them
    assert re.match(r"epoch 1/60: loss=[\d.]+, accuracy=[\d.]+, val_loss=[\d.]+, val_accuracy=[\d.]+ \[.*\]\n", ran.err)
    assert 8 <= ran.err.count("\n") <= 14

    files = [*MODEL_FILES, "confusion.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert [f"wrote {tmp_path / name}" in ran.out for name in files] == [True] * 6
    with (tmp_path / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 61))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) / 5
    for name in ("history.png", "confusion.png"):
        pixels = picture(tmp_path / name)
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50


@pytest.mark.parametrize(
    ("name", "least"),
    [("xor", 0.97), ("moons", 0.95), ("circles", 0.97), ("spirals", 0.97), ("checkerboard", 0.93), ("blobs", 0.97)],
)
def test_points(tmp_path, name, least):
    ran = train(name, "--json", "--out", tmp_path / name)
    assert ran.json["scores"]["on"] == "test rows"
    assert ran.json["scores"]["accuracy"] >= least
    pixels = picture(tmp_path / name / "boundary.png")
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 50
    assert str(tmp_path / name / "boundary.png") in ran.json["files"]

    # what training held out is scored again to the same numbers, and predicted
    model = tmp_path / name / "model.safetensors"
    again = run("evaluate", model, name, "--json").json
    for key in ("accuracy", "cross_entropy", "confusion", "rows"):
        assert again[key] == ran.json["scores"][key]
    lines = run("predict", model, name, "--out", "-").out.splitlines()
    assert len(lines) == 1 + again["rows"]
    counts = np.asarray(again["confusion"]).sum(axis=0)
    assert [lines.count(str(k)) for k in range(len(counts))] == counts.tolist()


def test_all_builtin_sets_are_tried():
    assert set(BUILTIN) == {"digits", "mnist", "xor", "moons", "circles", "spirals", "checkerboard", "blobs"}


def test_mnist_in_three_epochs(tmp_path, mnist_dir):
    args = ("mnist", "--data-dir", mnist_dir, "--no-download", "--epochs", 3, "--out", tmp_path)
    ran = train(*args, "--json")
    assert ran.json["scores"]["accuracy"] >= 0.96
    assert ran.json["scores"]["on"] == "test images"
    assert ran.json["scores"]["rows"] == 10_000
    assert "54,000 training rows, 784 inputs, 235,146 parameters, numpy float32" in ran.json["notes"]
    model = tmp_path / "model.safetensors"
    again = run("evaluate", model, "mnist", "--data-dir", mnist_dir, "--json")
    assert again.json["confusion"] == ran.json["scores"]["confusion"]
    refused(
        run("evaluate", model, "mnist", "--data-dir", tmp_path), "expected train-images.* Leave out --no-download, or"
    )


def test_mnist_with_nothing_chosen(tmp_path, mnist_dir, no_pictures):
    began = time.process_time()
    ran = train("mnist", "--data-dir", mnist_dir, "--no-download", "--json", "--out", tmp_path)
    assert ran.json["scores"]["accuracy"] >= 0.98
    # of one thread; with more, a process has used more than the time on the clock
    assert time.process_time() - began < 60 * int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))


# -- options of training ----------------------------------------------------------------------------------------
# With weight decay, without which AdamW is Adam.
BASE = ("circles", "--epochs", 4, "--hidden", "12,12", "--weight-decay", 0.01)
# Each changes the weights that come out: an option that does nothing would not.
ACTING = [
    *(("--optimizer", name) for name in ("sgd", "momentum", "rmsprop", "adagrad", "adam", "nadam", "lion", "muon")),
    *(
        ("--schedule", name)
        for name in (
            *("constant", "step", "exponential", "inverse", "restarts"),
            *("onecycle", "flatcosine", "coslog4", "plateau"),
        )
    ),
    ("--warmup", 2),
    ("--lr", 0.002),
    ("--batch-size", 100),
    ("--epochs", 5),
    ("--weight-decay", 0.5),
    ("--norm", "batch"),
    ("--norm", "layer"),
    ("--norm", "rms"),
    ("--residual",),
    ("--activation", "gelu"),
    ("--init", "orthogonal"),
    ("--dropout", 0.3),
    ("--hidden", "12"),
    ("--hidden", ""),
    ("--ema", 0.9),
    ("--clip-norm", 0.01),
    ("--clip-value", 0.001),
    ("--label-smoothing", 0.2),
    ("--test-size", 0.4),
    ("--validation-size", 0.3),
    ("--validation-size", 0),
    ("--seed", 5),
    ("--dtype", "float64"),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    out = tmp_path_factory.mktemp("base")
    train(*BASE, "--out", out)
    return tensors(out)


@pytest.mark.parametrize("option", ACTING, ids=lambda option: " ".join(map(str, option)))
def test_option_acts(tmp_path, base, option, no_pictures):
    ran = train(*BASE, *option, "--json", "--out", tmp_path)
    assert tensors(tmp_path) != base
    assert ran.json["scores"]["accuracy"] > 0.4
    name = option[0].removeprefix("--").replace("-", "_")
    value = True if len(option) == 1 else option[1]
    expected = [int(n) for n in value.split(",") if n] if name == "hidden" else value
    assert ran.json["options"][name] == expected


def test_class_weight_acts(tmp_path, no_pictures):
    X, y = xpnn.data.make_blobs(300, 1.0, 0, n_classes=2)
    rare = np.flatnonzero(y == 1)[20:]
    np.savez(tmp_path / "rare.npz", X=np.delete(X, rare, axis=0), y=np.delete(y, rare))
    recall = {}
    for weight in ("none", "balanced"):
        ran = train(tmp_path / "rare.npz", "--class-weight", weight, "--json", "--test-size", 0.4, "--out", tmp_path)
        matrix = ran.json["scores"]["confusion"]
        recall[weight] = matrix[1][1] / sum(matrix[1])
    assert recall["balanced"] > recall["none"]


def test_options_that_do_not_change_the_weights(tmp_path, base, no_pictures):
    ran = run("train", *BASE, "--no-such-option", 1)
    refused(ran, "unrecognized arguments: --no-such-option 1. See xpnn --help")
    ran = train(*BASE, "--task", "classification", "--max-seconds", 1000, "--patience", 4, "--out", tmp_path)
    assert tensors(tmp_path) == base


def test_patience_and_time_limit(tmp_path, no_pictures):
    out = ("--json", "--out", tmp_path)
    ran = train("moons", "--lr", 0.05, "--patience", 2, *out)
    assert ran.json["epochs"] < 150
    assert ran.json["stopped"].startswith("val_loss has not improved for 2 epochs; restored epoch")
    ran = train("xor", "--epochs", 100_000, "--patience", 100_000, "--max-seconds", 0.3, *out)
    assert ran.json["stopped"] == "the time limit of 0.3 seconds is over"
    assert 0.3 <= ran.json["seconds"] < 20


@pytest.mark.parametrize("spec", ["strict", "torch"])
def test_backends_nearly_agree(tmp_path, spec, no_pictures):
    backend_or_skip(spec)
    args = ("spirals", "--epochs", 15, "--dropout", 0.1, "--json")
    numpy = train(*args, "--out", tmp_path / "numpy").json
    other = train(*args, "--backend", spec, "--out", tmp_path / spec).json
    assert other["options"]["backend"] == spec
    assert other["scores"]["accuracy"] == pytest.approx(numpy["scores"]["accuracy"], abs=0.011)
    assert other["scores"]["cross_entropy"] == pytest.approx(numpy["scores"]["cross_entropy"], rel=1e-2)
    # where a model was trained does not decide where it is used
    model = tmp_path / spec / "model.safetensors"
    here = run("evaluate", model, "spirals", "--json").json
    there = run("evaluate", model, "spirals", "--backend", spec, "--json").json
    assert here["confusion"] == there["confusion"] == other["scores"]["confusion"]


def test_one_seed_one_model(tmp_path, no_pictures):
    args = ("blobs", "--epochs", 5, "--dropout", 0.2, "--norm", "batch")
    for name in ("first", "second"):
        train(*args, "--out", tmp_path / name)
    train(*args, "--seed", 1, "--out", tmp_path / "third")
    assert tensors(tmp_path / "first") == tensors(tmp_path / "second")
    assert tensors(tmp_path / "first") != tensors(tmp_path / "third")


def test_float64_is_kept(tmp_path, no_pictures):
    train("moons", "--epochs", 3, "--dtype", "float64", "--out", tmp_path)
    model = tmp_path / "model.safetensors"
    assert Predictor.load(model).net.params["0.weight"].dtype == np.float64
    assert "dtype: float64" in run("info", model).out
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert run("evaluate", model, "moons", "--json").json["cross_entropy"] == scores["cross_entropy"]
    single = run("evaluate", model, "moons", "--json", "--dtype", "float32").json
    assert single["cross_entropy"] != scores["cross_entropy"]
    assert single["cross_entropy"] == pytest.approx(scores["cross_entropy"], rel=1e-5)


def test_out_is_a_folder_by_the_name_of_the_data(tmp_path, monkeypatch, no_pictures):
    monkeypatch.chdir(tmp_path)
    ran = train("xor", "--epochs", 1)
    assert "wrote runs/xor/model.safetensors" in ran.out
    assert (tmp_path / "runs" / "xor" / "history.csv").is_file()


def test_progress_is_a_bar_in_a_terminal_and_nothing_if_quiet(tmp_path, no_pictures):
    ran = run("train", "xor", "--epochs", 3, "--out", tmp_path, stderr=Terminal())
    assert "3/3" in ran.err
    assert "val_loss=" in ran.err
    assert run("train", "xor", "--epochs", 3, "--quiet", "--out", tmp_path, stderr=Terminal()).err == ""


def test_no_pictures_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    ran = run("train", "xor", "--epochs", 1, "--quiet", "--out", tmp_path)
    assert ran.status == 0
    assert re.match(r"no pictures: .*pip install 'xpnn\[plots\]'\n", ran.err)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(MODEL_FILES[:4])


# -- ends that nobody planned -----------------------------------------------------------------------------------
class At(xpnn.LambdaCallback):
    """Does something at the end of an epoch."""

    def __init__(self, epoch, action):
        super().__init__(on_epoch_end=lambda trainer: action(trainer) if trainer.epoch == epoch else None)


def interrupt(*_):
    raise KeyboardInterrupt


def test_interrupt_keeps_the_best_weights(tmp_path, monkeypatch, no_pictures):
    monkeypatch.setattr("xpnn.cli.course.ProgressBar", lambda: At(7, interrupt))
    ran = run("train", "moons", "--out", tmp_path)
    assert ran.status == 130
    assert ran.err == "interrupted: the best weights so far are kept\n"
    assert "7 epochs in" in ran.out
    assert ": interrupted" in ran.out
    assert (tmp_path / "model.safetensors").is_file()
    assert json.loads((tmp_path / "scores.json").read_text())["stopped"] == "interrupted"


def test_interrupt_before_there_is_anything_to_keep(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnn.cli.course.ProgressBar", lambda: xpnn.LambdaCallback(on_batch_end=interrupt))
    assert run("train", "moons", "--out", tmp_path)[::2] == (130, "interrupted in the first epoch: nothing is saved\n")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("xpnn.cli.problem.open_source", interrupt)
    assert run("train", "moons", "--out", tmp_path)[::2] == (130, "interrupted\n")


def test_divergence_keeps_the_best_weights(tmp_path, monkeypatch, no_pictures):
    def spoil(trainer):
        trainer.net.params["0.weight"][...] = np.inf

    monkeypatch.setattr("xpnn.cli.course.ProgressBar", lambda: At(4, spoil))
    ran = run("train", "moons", "--out", tmp_path)
    refused(ran, r"xpnn train: loss is nan at epoch 5, step 1 .* The best weights so far are kept\.")
    assert run("evaluate", tmp_path / "model.safetensors", "moons", "--json").json["accuracy"] > 0.8


def test_divergence_in_the_first_epoch(tmp_path):
    ran = run("train", "xor", "--optimizer", "sgd", "--lr", 1e38, "--activation", "relu", "--quiet", "--out", tmp_path)
    refused(ran, r"^xpnn train: loss is .* at epoch 1, .*try a --lr ten times smaller than 1e\+38, or --clip-norm 1\.")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), r"^xpnn train: out of memory\. Try a smaller --batch-size"),
        (OSError(28, "No space left on device", "x.csv"), r"^xpnn train: x\.csv: No space left on device\."),
    ],
    ids=["memory", "disk"],
)
def test_machine_fails(monkeypatch, error, message):
    def fail(*_):
        raise error

    monkeypatch.setattr("xpnn.cli.problem.open_source", fail)
    refused(run("train", "xor"), message)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_in_a_process(tmp_path):
    def default_signal():  # a parent in the background may have it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    process = subprocess_of(
        *("train", "moons", "--out", tmp_path, "--epochs", 1_000_000, "--patience", 1_000_000),
        *("--schedule", "constant", "--lr", 0.03, "--quiet"),
        preexec_fn=default_signal,
    )
    log = tmp_path / "history.csv"
    deadline = time.monotonic() + 100
    while not log.is_file() or log.read_text().count("\n") < 200:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "interrupted: the best weights so far are kept\n"
    assert f"wrote {tmp_path / 'model.safetensors'}" in out
    with log.open() as file:
        history = [float(row["val_loss"]) for row in csv.DictReader(file)]
    predictor = Predictor.load(tmp_path / "model.safetensors")
    options = predictor.info["options"]
    source = open_builtin("moons", seed=0)
    rows = source.split(source.y, options["test_size"], options["validation_size"], 0)["valid"]
    best = predictor.score(take_rows(source.raw, rows), source.y[rows])["cross_entropy"]
    assert best == pytest.approx(min(history), rel=1e-5)
    assert min(history) < history[-1]


def test_broken_pipe(tmp_path, moons):
    np.savez(tmp_path / "many.npz", X=np.zeros((100_000, 2)))
    process = subprocess_of("predict", moons / "model.safetensors", tmp_path / "many.npz", "--out", "-")
    assert process.stdout.readline() == "prediction\n"
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
    process.stderr.close()


def test_bad_input_in_a_process(tmp_path):
    process = subprocess_of("train", tmp_path / "absent.csv", "--target", "y")
    out, err = process.communicate(timeout=60)
    assert out == ""
    refused(Ran(process.returncode, out, err), "xpnn train: expected the file .*absent.csv, but it is not")


def test_json_in_a_process(tmp_path):
    process = subprocess_of("train", "xor", "--epochs", 2, "--json", "--out", tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0
    assert Ran(0, out, err).json["epochs"] == 2
    assert err.startswith("epoch 1/2: loss=")


# -- predict and evaluate, the models themselves ----------------------------------------------------------------
def test_predict_and_evaluate_arrays(tmp_path, moons, monkeypatch):
    monkeypatch.chdir(tmp_path)
    X, y = xpnn.data.make_moons(200, 0.2, seed=9)
    np.savez("new.npz", X=X, y=y, other=1 - y)
    np.save("X.npy", X)
    np.save("y.npy", y)
    model = moons / "model.safetensors"
    predictor = Predictor.load(model)
    assert run("predict", model, "new.npz").out == "200 predictions written to new-predictions.csv\n"
    lines = Path("new-predictions.csv").read_text().splitlines()
    assert lines == ["prediction", *map(str, predictor.predict(X).tolist())]
    assert run("predict", model, "X.npy", "--out", "-").out.splitlines() == lines
    rows = list(csv.reader(io.StringIO(run("predict", model, "new.npz", "--proba", "--out", "-").out)))
    assert rows[0] == ["prediction", "p(0)", "p(1)"]
    np.testing.assert_allclose(np.asarray(rows[1:], float)[:, 1:], predictor.predict_proba(X), rtol=1e-4)

    scores = run("evaluate", model, "new.npz", "--json").json
    assert scores["accuracy"] > 0.9
    assert scores["rows"] == 200
    for args in (("X.npy", "--target", "y.npy"), ("new.npz", "--target", "y")):
        assert run("evaluate", model, *args, "--json").json["confusion"] == scores["confusion"]
    assert run("evaluate", model, "new.npz", "--target", "other", "--json").json["accuracy"] == pytest.approx(
        1 - scores["accuracy"]
    )
    shown = run("evaluate", model, "new.npz").out
    assert shown.startswith(f"new.npz: accuracy {scores['accuracy']:.2%}, cross-entropy")
    assert "Confusion matrix" in shown


def test_model_and_table_the_other_way_round(moons, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    for model in (moons, moons / "model.safetensors"):
        for command in ("predict", "evaluate"):
            refused(
                run(command, tmp_path / "t.csv", model), r"expected a model, then its data, got .*\. Turn them round\."
            )


def test_info(moons, bare):
    facts = run("info", moons / "model.safetensors", "--json").json
    assert facts["source"] == "moons"
    assert facts["classes"] == [0, 1]
    assert facts["encoder"] == "Standardizer"
    assert facts["parameters"] == 1218
    assert facts["layers"][0]["type"] == "Linear"
    assert facts["options"]["epochs"] == 60
    text = run("info", moons / "model.safetensors").out
    assert "0.Linear" in text
    assert re.search(r"^  accuracy: 0\.9", text, re.MULTILINE)
    assert re.search(r"^  hidden: 32, 32$", text, re.MULTILINE)
    assert "notes:\n  classification: the target holds 2 different whole numbers" in text
    assert "None" not in text
    assert "  residual: False" not in text
    assert "versions:" not in text
    whole = run("info", moons / "model.safetensors", "--all").out
    assert "  residual: False\n" in whole
    assert "versions:\n  xpnn: " in whole
    text = run("info", bare).out
    assert "1.LayerNorm" in text
    assert "parameters: 63" in text
    assert run("info", "--json").json["xpnn"] == xpnn.__version__
    assert f"xpnn {xpnn.__version__}\n" in run("info").out


def test_doctor():
    facts = run("doctor", "--json").json
    assert facts["backends"] == xpnn.available_backends()
    assert facts["versions"]["numpy"] == np.__version__
    assert facts["cores"] >= 1
    text = run("doctor").out
    for word in ("numpy", "cupy", "torch:cuda", "array-api-strict", "blas"):
        assert word in text
    if facts["backends"]["cupy"].startswith("not installed"):
        assert "pip install 'xpnn[cuda13]'" in text
    assert run("doctor").status == 0


@pytest.mark.parametrize("busy", [None, 1.26])
def test_doctor_and_bench_say_when_others_keep_cores_busy(monkeypatch, busy):
    monkeypatch.setattr("xpnn.cli.system.busy_elsewhere", lambda: busy)
    monkeypatch.setattr("xpnn.cli.bench.busy_elsewhere", lambda: busy)
    bench = "bench", "--sizes", "4,3,2", "--backends", "numpy", "--seconds", "0.01", "--no-crossover"
    for command in (("doctor",), bench):
        assert ("other processes keep 1.3 of " in run(*command).out) == (busy == 1.26)
        assert run(*command, "--json").json["cores_busy_elsewhere"] == busy


def test_doctor_says_which_cores_may_be_used(monkeypatch):
    monkeypatch.setattr("xpnn.cli.system.os.cpu_count", lambda: 64)
    monkeypatch.setattr("xpnn.cli.system.core_count", lambda: 2)
    monkeypatch.setattr("xpnn.cli.system.cgroup_quota", lambda: 2.5)
    wanted = "64 cores, of which this process may use 2 (affinity, or a quota of 2.5 cores' time)"
    assert wanted in run("doctor").out
    facts = run("doctor", "--json").json
    assert (facts["cores"], facts["usable_cores"], facts["quota"]) == (64, 2, 2.5)


@pytest.mark.parametrize(
    ("times", "given", "how"),
    [
        ({1: 7e-4, 2: 4e-4}, None, "measured while it trains, at most 2 (XPNN_THREADS sets them)"),
        ({1: 7e-4}, None, "1, for no more are allowed"),
        ({1: 7e-4, 2: 4e-4}, "2", "2, as XPNN_THREADS=2 and the limits of this process say"),
    ],
)
def test_doctor_tells_on_how_many_threads_a_step_is_soonest_over(monkeypatch, times, given, how):
    monkeypatch.setattr("xpnn.cli.system.thread_times", lambda *args, **options: times)
    monkeypatch.delenv("XPNN_THREADS", raising=False)
    if given:
        monkeypatch.setenv("XPNN_THREADS", given)
    found = "700 µs on 1, 400 µs on 2" if len(times) == 2 else "700 µs on 1"
    wanted = f"threads of a fit on NumPy: {how}; a step of 784-256-128-10, batch 128, takes {found}\n"
    assert wanted in run("doctor").out
    assert run("doctor", "--json").json["step_seconds_by_threads"] == {str(n): t for n, t in times.items()}


# -- trust ------------------------------------------------------------------------------------------------------
NETWORKS = [
    *("mlp-relu", "mlp-tanh", "batch-norm", "layer-norm", "rms-norm", "dropout", "residual", "prelu", "embedding"),
    *("table", "members", "activations"),
]


def test_gradcheck_of_all_networks():
    found = run("gradcheck", "--json")
    assert found.status == 0
    assert [net["name"] for net in found.json["networks"]] == NETWORKS
    assert found.json["max_rel_error"] < 1e-6
    for net in found.json["networks"]:
        assert net["verdict"] in ("excellent", "good")
        assert {"parameter", "rel_error", "skipped", "verdict"} <= set(net["parameters"][0])
    text = run("gradcheck", "--network", "batch-norm", "--seed", 3, "--batch-size", 5, "--eps", 1e-5).out
    assert text.startswith("batch-norm: CrossEntropy(label_smoothing=0.1)\n")
    assert re.search(r"^0\.weight +\d\.\de-\d\d +\d+ +(excellent|good)$", text, re.MULTILINE)
    assert text.splitlines()[-1].startswith("1 network on numpy, largest relative error")


def test_gradcheck_of_a_saved_network_with_categories_among_its_columns(tmp_path):
    columns = xpnn.Columns((1, xpnn.Tanh()), (2, xpnn.Embedding(3, 2)), (1, xpnn.Embedding(9, 2)))
    xpnn.save(xpnn.Sequential(columns, xpnn.Linear(3), n_in=6), tmp_path / "net.safetensors")
    found = run("gradcheck", "--model", tmp_path / "net.safetensors", "--json")
    assert found.status == 0
    names = [p["parameter"] for p in found.json["networks"][0]["parameters"]]
    assert names == ["0.1.weight", "0.2.weight", "1.weight", "1.bias", "x"]


def test_gradcheck_finds_a_bug(monkeypatch):
    right = xpnn.Tanh.backward

    def wrong(self, dy, cache, **options):
        return 1.01 * right(self, dy, cache, **options)

    monkeypatch.setattr(xpnn.Tanh, "backward", wrong)
    found = run("gradcheck", "--network", "mlp-tanh", "--json")
    assert found.status == 1
    assert found.json["verdict"] == "bug"
    verdicts = {p["parameter"]: p["verdict"] for p in found.json["networks"][0]["parameters"]}
    assert verdicts["0.weight"] == "bug"
    assert verdicts["2.weight"] == "excellent"
    text = run("gradcheck", "--network", "mlp-tanh")
    assert text.status == 1
    assert text.out.splitlines()[-1].endswith(": bug")
    assert run("gradcheck", "--network", "mlp-relu").status == 0


def test_parity_of_all_networks():
    backend_or_skip("strict")
    found = run("parity", "--backends", "numpy,strict,cupy:7", "--steps", 4, "--json")
    assert found.status == 0
    assert found.json["ok"] is True
    assert [net["name"] for net in found.json["networks"]] == NETWORKS
    assert list(found.json["skipped"]) == ["cupy:7"]
    rows = [row for net in found.json["networks"] for row in net["parameters"]]
    assert all(row["identical"] for row in rows)
    assert len(found.json["networks"][0]["losses"]["strict"]) == 4
    text = run("parity", "--backends", "numpy,strict", "--network", "dropout", "--dtype", "float64").out
    assert re.search(r"^strict +0\.weight .* identical$", text, re.MULTILINE)
    assert text.endswith("1 network: all backends agree\n")


def test_parity_with_torch():
    backend_or_skip("torch")
    found = run("parity", "--backends", "numpy,torch", "--json").json
    assert found["ok"] is True
    assert max(row["value_max_rel"] for net in found["networks"] for row in net["parameters"]) < 1e-4


def test_parity_finds_a_bug(monkeypatch):
    backend_or_skip("strict")
    right = xpnn.Linear.backward

    def wrong(self, dy, cache, **options):
        dx = right(self, dy, cache, **options)
        return dx if dx is None or isinstance(dy, np.ndarray) else dx * 1.001

    monkeypatch.setattr(xpnn.Linear, "backward", wrong)
    args = ("parity", "--backends", "numpy,strict", "--network", "mlp-relu")
    assert run(*args, "--json").status == 1
    assert run(*args, "--json").json["ok"] is False
    text = run(*args)
    assert text.status == 1
    assert "DIFFERS" in text.out
    assert text.out.endswith("1 network: BACKENDS DIFFER\n")


def test_trust_of_saved_models(moons, bare):
    backend_or_skip("strict")
    for path in (moons / "model.safetensors", bare):
        found = run("gradcheck", "--model", path, "--json")
        assert found.status == 0
        assert found.json["networks"][0]["name"] == str(path)
        assert found.json["networks"][0]["loss"].startswith("CrossEntropy")
        found = run("parity", "--model", path, "--backends", "numpy,strict", "--json")
        assert found.status == 0
        assert found.json["networks"][0]["parameters"][0]["identical"] is True


# -- help -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "command",
    ["check", "train", "search", "predict", "evaluate", "report", "gradcheck", "parity", "bench", "doctor", "info"],
)
def test_help(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    ran = run(command, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"usage: xpnn {command} ")
    assert len(ran.out.split("\n\n")[0]) < 100  # not a wall of brackets
    # every option says what it does; of training also what happens without it, unless its name says it
    options = re.findall(r"^  (--[a-z-]+)(.*(?:\n {10,}.*)*)", ran.out, re.MULTILINE)
    assert options or command == "info"
    silent = {"--target", "--test-file", "--test-target", "--quiet", "--json", "--no-download", "--residual"}
    silent |= {"--strip-target", "--drop", "--categorical", "--numeric"}
    for name, text in options:
        assert len(text.split()) >= 3, name
        if command == "train" and name not in silent:
            assert "default" in text, name


def test_help_tells_the_true_defaults(tmp_path, no_pictures):
    text = " ".join(run("train", "--help").out.split())
    for words in (
        "default 256,128; points 32,32",
        "default silu; digits relu; mnist relu; points tanh",
        "default 40; digits 60; mnist 25; points 150",
        "default 0.001; points 0.01",
    ):
        assert words in text
    options = train("xor", "--json", "--out", tmp_path, "--max-seconds", 0.01).json["options"]
    assert (options["hidden"], options["activation"], options["epochs"], options["lr"]) == ([32, 32], "tanh", 150, 0.01)
    assert options["optimizer"] == "adamw"


def test_no_command_and_no_abbreviations():
    refused(
        run("trian"), r"^xpnn: argument COMMAND: invalid choice: 'trian' \(choose from .*\)\. Did you mean 'train'\? S"
    )
    refused(
        run("train", "xor", "--epoch", 1), r"unrecognized arguments: --epoch 1\. Did you mean '--epochs'\? See xpnn"
    )
    refused(run("train", "xor", "--qqq=1"), r"unrecognized arguments: --qqq=1\. See xpnn --help")
    refused(
        run("train", "xor", "--schedule", "cosin"), r"'cosin' \(choose from .*\)\. Did you mean 'cosine'\? See xpnn tr"
    )
    refused(run("--verison"), r"^xpnn: unrecognized arguments: --verison\. Did you mean '--version'\? See xpnn --help")
    refused(run("--"), r"^xpnn: ")
    refused(run("nothing"), r"invalid choice: 'nothing' \(choose from .*'info'\)\. See xpnn --help")


def test_without_a_command_there_is_help_and_a_version_with_one():
    assert run() == run("--help")
    assert run().status == 0
    assert run().out.startswith("usage: xpnn ")
    assert "try many recipes for a table" in run().out
    assert run("--version") == (0, f"xpnn {xpnn.__version__}\n", "")


def test_options_are_not_cut_short():
    refused(run("train", "xor", "--epo", 1), "unrecognized arguments: --epo 1")
    assert run("--help").out.count("\n") < 30


def test_messages_of_the_library_are_worded_for_the_command_line():
    assert in_options("a.\nPass header=False if so.") == "a. Pass --header no if so."


# -- bad input --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def files(tmp_path_factory, moons, bare):
    """A folder of files, some of them broken."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "moons.safetensors").write_bytes((moons / "model.safetensors").read_bytes())
    (folder / "bare.safetensors").write_bytes(bare.read_bytes())
    (folder / "cut.safetensors").write_bytes(bare.read_bytes()[:-20])
    X, y = xpnn.data.make_moons(40, 0.1, 0)
    np.savez(folder / "good.npz", X=X, y=y)
    np.savez(folder / "names.npz", a=X, b=y)
    np.savez(folder / "wide.npz", X=np.ones((9, 5)), y=np.arange(9) % 2)
    np.savez(folder / "nan.npz", X=np.where(X > 0.9, np.nan, X), y=y)
    np.savez(folder / "object.npz", X=np.asarray([None, 1], dtype=object), y=[0, 1])
    np.savez(folder / "uneven.npz", X=X, y=y[:-1])
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:200])
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    np.save(folder / "short.npy", y[:-1])
    np.save(folder / "bad.npy", np.where(X > 0.9, np.inf, X))
    table = "a,b,c,y\n" + "".join(f"{k},{k % 7 * 0.5},{'uvw'[k % 3]},{k % 2}\n" for k in range(60))
    (folder / "t.csv").write_text(table)
    (folder / "ragged.csv").write_text(table + "1,2\n")
    (folder / "twice.csv").write_text("a,a,y\n1,2,3\n4,5,6\n")
    (folder / "head.csv").write_text("a,b,y\n")
    (folder / "empty.csv").write_text("")
    (folder / "latin.csv").write_bytes("a,y\nÄ,1\n".encode("latin-1"))
    (folder / "quote.csv").write_text('a,y\n"1,2\n')
    (folder / "gap.csv").write_text(table.replace("59,1.5,w,1", "59,1.5,w,"))
    (folder / "same.csv").write_text("a,y\n" + "1,1\n" * 30)
    (folder / "ids.csv").write_text("a,y\n" + "".join(f"{k},id{k}\n" for k in range(60)))
    (folder / "huge.csv").write_text(table.replace("59,1.5", "1e300,1.5"))
    (folder / "other.csv").write_text("x,y\n1,0\n2,1\n")
    (folder / "labels.csv").write_text(table.replace(",1\n", ",9\n"))
    return folder


BAD = {
    # the command line itself
    "no source": ("train", "required: SOURCE"),
    "epochs 0": ("train xor --epochs 0", "argument --epochs: expected a whole number of at least 1, got '0'"),
    "epochs x": ("train xor --epochs x", "argument --epochs: expected a whole number of at least 1, got 'x'"),
    "test size": ("train xor --test-size 1", "--test-size: expected a share of at least 0 and below 1, got '1'"),
    "dropout": ("train xor --dropout nan", "--dropout: expected a share of at least 0 and below 1, got 'nan'"),
    "hidden": ("train xor --hidden 3,a", "--hidden: expected widths such as 256,128, got '3,a'"),
    "hidden 0": ("train xor --hidden 3,0", "--hidden: expected positive widths, got '3,0'"),
    "lr": ("train xor --lr -1", "--lr: expected a number above 0, got '-1'"),
    "lr word": ("train xor --lr fast", "--lr: expected a number above 0, got 'fast'"),
    "decay": ("train xor --weight-decay inf", "--weight-decay: expected a number of at least 0, got 'inf'"),
    "clip": ("train xor --clip-norm 0", "--clip-norm: expected a number above 0, got '0'"),
    "seconds": ("train xor --max-seconds 0", "--max-seconds: expected a number above 0, got '0'"),
    "optimizer": ("train xor --optimizer adma", "--optimizer: invalid choice: 'adma'"),
    "bins": ("train t.csv --target y --bins 1", "--bins: expected auto, 0 for none, or at least 2, got '1'"),
    "bins word": ("train t.csv --target y --bins x", "--bins: expected auto, 0 for none, or at least 2, got 'x'"),
    "seed": ("train xor --seed pi", "argument --seed: invalid int value: 'pi'"),
    "no value": ("train t.csv --target", "--target: expected one argument, and one that begins with - after =, as"),
    "minus": ("train t.csv --target y --missing -9,?", "--missing: expected one argument, and one that begins with -"),
    # names
    "source": (
        "train moon",
        r"expected a file \(.csv, .parquet, .xlsx, .npz, .npy\), - for standard input, or one of digits, .*got 'moon'",
    ),
    "backend": ("train xor --backend nunpy", "expected one of numpy, cupy, torch, strict or auto, got 'nunpy'"),
    "dtype": ("train xor --dtype float8", "--dtype: expected float32, float64, bfloat16 or float16, got 'float8'"),
    "activation": ("train xor --activation rellu", "activation: expected one of .*relu.*, got 'rellu'"),
    "init": ("train xor --init he", "--init: expected one of .*, got 'he'"),
    "network": ("gradcheck --network mlp", "--network: expected one of mlp-relu, .*, got 'mlp'"),
    "backends": ("parity --backends numpy,nunpy", "expected one of numpy, cupy, torch, strict or auto, got 'nunpy'"),
    "one backend": ("parity --backends numpy", "--backends: expected a reference and one more that can be used here"),
    "no reference": ("parity --backends cupy:9,numpy", "got cupy:9,numpy, of which numpy can. `xpnn doctor` tells"),
    # options without effect, or against each other
    "digits, target": ("train digits --target y", "--target: expected a table or an .npz file or .npy files, got dig"),
    "points, data": ("train xor --data-dir .", "--data-dir: expected mnist, got xor. Leave the option out"),
    "mnist, test": ("train mnist --test-size 0.1", "--test-size: expected digits or .*, got mnist"),
    "npz, header": ("train good.npz --header no", "--header: expected a table, got .*good.npz"),
    "npy, test": ("train X.npy --target y.npy --test-size 0.1", "--test-size: expected .*, got .*X.npy"),
    "two tests": ("train good.npz --test-file good.npz --test-size 0.1", "--test-size: expected no --test-file besi"),
    "test target": ("train good.npz --test-target y", "--test-target: expected a --test-file that it belongs to"),
    "npy test": ("train X.npy --target y.npy --test-file X.npy", "--test-file: .*X.npy needs the file of its targets"),
    "patience": ("train xor --validation-size 0 --patience 3", "--patience: expected validation rows, got none"),
    "plateau": ("train xor --validation-size 0 --schedule plateau", "--schedule plateau: expected validation rows"),
    "linear": ("train xor --hidden= --dropout 0.1", "--dropout: expected a hidden layer to act on, got none"),
    "residual": (
        "train xor --hidden 8,4 --residual",
        r"--residual: expected .*, got 2 inputs and hidden layers \[8, 4",
    ),
    "loss": ("train xor --loss huber", "--loss: expected a target of numbers, got classes. Leave the option out"),
    "smoothing": ("train t.csv --target b --label-smoothing 0.1", "--label-smoothing: expected a target of classes"),
    "weights": ("train t.csv --target b --class-weight balanced", "--class-weight: expected a target of classes"),
    "strip": ("train t.csv --target b --strip-target .", "--strip-target: expected a target of classes, got numbers"),
    "two networks": ("gradcheck --model bare.safetensors --network prelu", "--network: expected no --model beside it"),
    "predict, npz": ("predict moons.safetensors good.npz --missing x", "--missing: expected a table, got .*good.npz"),
    # files
    "absent": ("train tt.csv --target y", r"expected the file .*tt.csv, but it is not there. Did you mean t.csv"),
    "folder": ("train . --target y", "expected a file, got the folder"),
    "empty": ("train empty.csv --target y", "expected rows in .*empty.csv, got an empty file"),
    "head alone": ("train head.csv --target y", "expected rows below the header .* Pass --header no if the only row"),
    "ragged": ("train ragged.csv --target y", "expected 4 cells in line 62 of .*ragged.csv, got 2"),
    "twice": ("train twice.csv --target y", "expected different names .*'a' in columns 0, 1.* pass --header no"),
    "latin": ("train latin.csv --target y", "expected UTF-8 text .* got byte 0xc4"),
    "quote": ("train quote.csv --target y", "expected CSV in .*quote.csv, got a mistake that ends in line"),
    "delimiter": (
        "train t.csv --target y --delimiter ::",
        "--delimiter: expected one character, or 'auto', got '::'",
    ),
    "no target": ("train t.csv", "t.csv needs the column to predict. Add --target COLUMN"),
    "target": ("train t.csv --target yy", "--target: expected a column of t.csv, got 'yy'. Did you mean 'y'"),
    "drop": ("train t.csv --target y --drop d", "--drop: expected columns among a, b, c, got d"),
    "categorical": ("train t.csv --target y --categorical d", "expected column names, got 'd'"),
    "both": ("train t.csv --target y --categorical a --numeric a", "expected each column in one of --categorical and"),
    "text": ("train t.csv --target y --numeric c", "column 'c': expected a number, got 'u' in data row 1"),
    "gap": ("train gap.csv --target y", "target: expected a value in every row, got none in 1 of 60 rows"),
    "one class": ("train same.csv --target y", "target: expected at least two classes, got only 1 in all 30 rows"),
    "ids": ("train ids.csv --target y", "expected labels that repeat, got 60 different .* needs --task regression"),
    "words": ("train t.csv --target c --task regression", "column 'target': expected a number, got '.' in data row 1"),
    "huge": ("train huge.csv --target y --test-size 0", r"column 'a': expected finite numbers .*1e\+300"),
    "test labels": (
        "train t.csv --target y --test-file labels.csv",
        "target: expected one of the 2 classes 0, 1, got '9'",
    ),
    "test columns": ("train t.csv --target y --test-file other.csv", "expected the training columns, got none named"),
    "npz names": ("train names.npz", "expected arrays X and y .* got a, b. Name the inputs X; --target names the"),
    "npz cut": ("train cut.npz", "expected a whole .npz file, got 200 bytes"),
    "npz object": ("train object.npz", "expected numbers or text in .*object.npz"),
    "npz uneven": ("train uneven.npz", r"expected X and y with equally many rows, got shapes \(40, 2\) and \(39,\)"),
    "npz nan": ("train nan.npz", "Standardizer.fit: expected finite"),
    "npz test": ("train good.npz --test-file wide.npz", "--test-file: expected 2 columns as in training, got 5"),
    "npy alone": ("train X.npy", "X.npy needs the file of its targets. Add --target y.npy"),
    "npy short": ("train X.npy --target short.npy", "expected X and y with equally many rows"),
    "npy inf": (
        "train bad.npy --target y.npy",
        "^xpnn train: expected finite float32 numbers in X.* Impute or drop them first. ",
    ),
    "out": ("train xor --out t.csv", r"--out: expected a folder that can be written to, got .*t\.csv \(File exists\)"),
    "out below": ("train xor --out t.csv/x", "--out: expected a folder that can be written to, got .*Not a directory"),
    # models
    "bare predict": ("predict bare.safetensors good.npz", "expected a model from `xpnn train`, got .* a bare network"),
    "bare evaluate": ("evaluate bare.safetensors good.npz", "expected a model from `xpnn train`, got .* a bare net"),
    "cut model": ("predict cut.safetensors good.npz", "expected a whole safetensors file"),
    "no model": ("info moons.safetensor", "expected the file .* Did you mean moons.safetensors"),
    "table as model": ("gradcheck --model t.csv", "expected a whole safetensors file"),
    "table for arrays": ("predict moons.safetensors t.csv", "expected arrays, .* got the table .*t.csv. .* 2 columns"),
    "wide": ("predict moons.safetensors wide.npz", "expected 2 features in each row, got 5"),
    "another set": (
        "evaluate moons.safetensors digits",
        "expected a model that `xpnn train digits` wrote, got one of moons",
    ),
    "no answers": ("evaluate moons.safetensors X.npy", "expected the target of .*X.npy, got none. Add --target"),
    "no y": ("evaluate moons.safetensors names.npz", "expected arrays X and y"),
    "no file": ("predict moons.safetensors good.npz --out t.csv/p.csv", "expected a folder that can be written to"),
    "a word": (
        "predict moons.safetensors god",
        r"expected a file \(.csv, .parquet, .xlsx, .npz, .npy\), - for standard input, or one of .*, got 'god'",
    ),
}


@pytest.mark.parametrize(("line", "message"), BAD.values(), ids=BAD)
def test_bad_input(files, tmp_path, monkeypatch, line, message):
    monkeypatch.chdir(files)
    args = line.split()
    if args[0] == "train" and len(args) > 1:
        args += ["--quiet"] + ([] if "--out" in args else ["--epochs", "2", "--out", str(tmp_path)])
    refused(run(*args), message)
    assert not list(tmp_path.iterdir())  # nothing is left behind


@pytest.mark.parametrize("command", ["info", "gradcheck --model", "parity --backends numpy,strict --model"])
def test_a_file_without_a_network(tmp_path, command):
    if "strict" in command:
        backend_or_skip("strict")
    write(tmp_path / "numbers.safetensors", {"a": np.ones(3)}, {})
    ran = run(*command.split(), tmp_path / "numbers.safetensors")
    refused(ran, "numbers.safetensors holds no network. Write it with xpnn.save or xpnn train")


def test_a_model_without_held_out_rows(tmp_path, no_pictures):
    ran = train("xor", "--test-size", 0, "--epochs", 1, "--json", "--out", tmp_path)
    assert ran.json["scores"]["on"] == "validation rows"
    refused(run("evaluate", tmp_path / "model.safetensors", "xor"), "that training held out, got --test-size 0. Pass")
    ran = train("xor", "--test-size", 0, "--validation-size", 0, "--epochs", 1, "--json", "--out", tmp_path)
    assert ran.json["scores"]["on"] == "training rows"
    assert ran.json["scores"]["rows"] == 400


def test_a_model_of_the_library_says_what_is_known(tmp_path):
    net = xpnn.mlp([2, 2], seed=0)
    labels = ClassTarget().fit([0, 1])
    Predictor(net, xpnn.CrossEntropy(), labels, info={"source": "xor"}).save(tmp_path / "m.safetensors")
    refused(run("evaluate", tmp_path / "m.safetensors", "xor"), "expected a model that `xpnn train xor` wrote")
    np.savez(tmp_path / "a.npz", X=np.eye(2), y=[0, 1])
    assert run("evaluate", tmp_path / "m.safetensors", tmp_path / "a.npz", "--json").json["rows"] == 2
