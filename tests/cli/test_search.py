"""``xpnn search``: what it tries, prints and leaves, what it goes on with, and what it refuses."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from commands import refused, run, tensors

import xpnn
from xpnn.cli import make_parser
from xpnn.cli.search import space_of
from xpnn.report import read_run
from xpnn.staging import STAGING
from xpnn.tabular import TableShape, TabularClassifier, TabularRegressor, choose_recipe

pytestmark = pytest.mark.usefixtures("no_pictures")

BASE = ("--target", "y", "--trials", 4, "--epochs", 4, "--hidden", "6", "--batch-size", 50, "--drop", "z")


@pytest.fixture(autouse=True)
def no_simple_models(monkeypatch):
    """They take longer than a small search."""
    monkeypatch.setattr("xpnn.cli.problem.Problem.trained", lambda *args: None)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{'yes' if a * b > 0 else 'no'},{a * b:.3f}" for a, b in rng.normal(size=(150, 2))]
    path = tmp_path_factory.mktemp("data") / "table.csv"
    path.write_text("a,b,y,z\n" + "\n".join(rows) + "\n")
    return path


def search(table, out, *more):
    return run("search", table, *BASE, "--quiet", "--out", out, *more)


def trials(folder):
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))


def history(folder):
    return [{name: v for name, v in row.items() if name != "seconds"} for row in read_run(folder).history]


def same(one, another):
    """All that does not tell time or chance is equal, to the bit."""
    assert tensors(one) == tensors(another)
    assert history(one) == history(another)
    assert trials(one) == trials(another)
    infos = [read_run(folder).info for folder in (one, another)]
    for name in ("scores", "options", "epochs", "best_epoch", "stopped", "recipe"):
        assert infos[0][name] == infos[1][name], name


@pytest.fixture
def interrupt(monkeypatch):
    """Searches that Ctrl-C ends at the end of an epoch, so many of all trials; `interrupt(None)` mends it."""
    end = xpnn.search.group.Group.on_epoch_end

    def at(epoch, error=KeyboardInterrupt):
        left = [epoch]

        def stop(self, trainer):
            end(self, trainer)
            if left[0] is not None:
                left[0] -= 1
                if left[0] == 0:
                    raise error

        monkeypatch.setattr("xpnn.search.group.Group.on_epoch_end", stop)

    return at


# -- what it does -----------------------------------------------------------------------------------------------
def test_the_best_is_trained_and_saved(table, tmp_path):
    ran = search(table, tmp_path, "--report")
    assert ran.status == 0, ran.err
    found, told = trials(tmp_path), json.loads((tmp_path / "search.json").read_text())
    assert [row["status"] for row in found].count("finished") == 1
    assert sorted(int(row["epochs"]) for row in found) == [1, 1, 1, 4]
    best = found[told["best"] - 1]
    assert best["status"] == "finished"
    assert float(best["val_loss"]) == told["score"] == min(row["val_loss"] for row in history(tmp_path))
    assert told["trials"][told["best"] - 1]["lr"] == told["entries"]["lr"] == float(best["lr"])
    assert "\nBest of 4 trials, 7 epochs in " in ran.out
    assert "trial 1, the recipe of preset quick, is number " in ran.out
    for name in ("model.safetensors", "trials.csv", "search.json", "report.html"):
        assert f"wrote {tmp_path / name}\n" in ran.out
    run_ = read_run(tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text())["run"]["files"].keys() >= {"trials.csv", "search.json"}
    assert run_.info["run"]["id"] == told["run"]
    assert run_.info["recipe"]["lr"] == told["entries"]["lr"]
    assert not (tmp_path / STAGING).exists()


def test_the_model_is_a_predictor_and_an_estimator(table, tmp_path):
    assert search(table, tmp_path).status == 0
    ran = run("predict", tmp_path, table, "--out", "-")
    assert ran.status == 0, ran.err
    answers = ran.out.splitlines()
    assert answers[0] == "prediction"
    assert set(answers[1:]) <= {"yes", "no"}
    assert len(answers) == 151
    model = TabularClassifier.load(tmp_path)
    columns = {name: xpnn.data.load_csv(table).columns[name] for name in ("a", "b")}
    assert model.predict(columns).tolist() == answers[1:]
    assert model.recipe_.hidden == (6,)
    assert run("evaluate", tmp_path, table, "--json").json["rows"] == 150


def test_numbers_and_all_to_the_end(table, tmp_path):
    options = ("--target", "z", "--drop", "y", "--halving", "none", "--trials", 3, "--epochs", 3, "--hidden", "6")
    ran = run("search", table, *options, "--quiet", "--out", tmp_path, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["search"]["epochs"] == 9
    assert ran.json["scores"]["rmse"] > 0
    assert {row["status"] for row in trials(tmp_path)} == {"finished"}
    assert TabularRegressor.load(tmp_path).predict_interval({"a": [0.0], "b": [0.5]}).shape == (1, 2)


def test_what_is_searched_is_what_is_left_open():
    def space(*options):
        args = make_parser().parse_args(["search", "t.csv", *options])
        recipe = choose_recipe("quick", TableShape("classification", rows=700, numbers=5, classes=2))
        return space_of(recipe, args)

    rest = {"hidden", "weight_decay", "activation", "batch_size", "scale", "bins", "embedding", "sigma"}
    assert {*space()} == {"lr", "dropout", *rest}
    assert {*space("--lr", "0.1", "--dropout", "0.2")} == rest
    lr = space()["lr"]
    assert lr.low < choose_recipe("quick", TableShape("classification", rows=700, numbers=5, classes=2)).lr < lr.high
    assert {*space("--bins", "8", "--lr", "0.1", "--dropout", "0.2")} == rest - {"bins"}
    words = choose_recipe("quick", TableShape("classification", rows=700, categories=(3, 4), classes=2))
    assert {*space_of(words, make_parser().parse_args(["search", "t.csv"]))} == {"lr", "dropout", *rest} - {
        *("bins", "embedding", "sigma", "scale")
    }


def test_bins_are_searched(table, tmp_path):
    """Each trial is trained on rows in its own bins, whatever those of the others; the best is saved with them."""
    ran = search(table, tmp_path, "--trials", 8, "--halving", "none", "--epochs", 2, "--seed", 3)
    assert ran.status == 0, ran.err
    found = trials(tmp_path)
    assert {row["bins"] for row in found} >= {"0", "16"}
    told = json.loads((tmp_path / "search.json").read_text())
    model = TabularClassifier.load(tmp_path)
    assert model.recipe_.bins == told["entries"]["bins"]
    assert model.recipe_.embedding == told["entries"]["embedding"]
    columns = {name: xpnn.data.load_csv(table).columns[name] for name in ("a", "b")}
    alone = TabularClassifier(preset="quick", random_state=3, epochs=2, validation_fraction=0.2, **told["entries"])
    wide = alone.set_params(hidden=(6,)).fit(columns, xpnn.data.load_csv(table).columns["y"])
    assert wide.predictor_.net.n_in == model.predictor_.net.n_in


def test_more_trials_continue_the_list(table, tmp_path):
    few = search(table, tmp_path / "few", "--trials", 3, "--json").json
    many = search(table, tmp_path / "many", "--trials", 5, "--json").json
    assert few["search"]["space"] == many["search"]["space"]
    options = ("lr", "dropout", "weight_decay", "activation")
    found = [[[row[name] for name in options] for row in trials(tmp_path / name)] for name in ("few", "many")]
    assert found[1][:3] == found[0]


def test_a_search_ends_when_time_is_over(table, tmp_path):
    ran = search(table, tmp_path, "--halving", "none", "--max-seconds", 1e-6)
    assert ran.status == 2, "nothing has been trained"
    refused(ran, r"expected a trial with a finite val_loss, got \{'not started': 4\}.* more time")


def test_a_preset_of_several_networks(table, tmp_path):
    """While recipes are compared each is one network; the best is trained as its preset says."""
    ran = search(table, tmp_path, "--preset", "best", "--trials", 2, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["recipe"]["members"] == ran.json["recipe"]["folds"] == 8
    assert ran.json["search"]["epochs"] == 5


# -- going on ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("epoch", [1, 3, 6])
def test_goes_on_to_the_bit(table, tmp_path, interrupt, epoch):
    assert search(table, tmp_path / "whole").status == 0
    interrupt(epoch)
    ran = search(table, tmp_path / "run")
    assert ran.status == 130
    assert ran.err == f"interrupted within the search: go on with xpnn search --resume {tmp_path / 'run'}\n"
    assert {path.name for path in (tmp_path / "run").iterdir()} == {STAGING}
    refused(run("report", tmp_path / "run"), r"Go on with `xpnn search --resume .*/run`, or")
    interrupt(None)
    assert run("search", "--resume", tmp_path / "run", "--quiet").status == 0
    same(tmp_path / "run", tmp_path / "whole")
    assert run("search", "--resume", tmp_path / "run").out == (
        f"the run in {tmp_path / 'run'} has ended, after 4 epochs: nothing is left to do\n"
    )


def test_several_processes_come_to_the_bits_of_one(table, tmp_path, interrupt):
    assert search(table, tmp_path / "whole").status == 0
    ran = search(table, tmp_path / "two", "--jobs", 2)
    assert ran.status == 0, ran.err
    same(tmp_path / "two", tmp_path / "whole")
    interrupt(3)
    assert search(table, tmp_path / "run").status == 130
    interrupt(None)
    assert run("search", "--resume", tmp_path / "run", "--quiet", "--jobs", 2).status == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_goes_on_within_the_training_of_the_best(table, tmp_path, monkeypatch):
    assert search(table, tmp_path / "whole").status == 0

    def end(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.cli.tables.ProgressBar", lambda **options: xpnn.LambdaCallback(on_epoch_end=end))
        ran = run("search", table, *BASE, "--out", tmp_path / "run")
    assert ran.status == 130
    assert ran.out.endswith(f"\nto go on: xpnn search --resume {tmp_path / 'run'}\n")
    assert "\ninterrupted: the best weights so far are kept\n" in ran.err
    assert read_run(tmp_path / "run").info["stopped"] == "interrupted"
    assert run("search", "--resume", tmp_path / "run", "--quiet").status == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_what_failed_after_the_fit_is_done_again(table, tmp_path, monkeypatch):
    assert search(table, tmp_path / "whole").status == 0

    def full(*args):
        raise OSError(28, "No space left on device", "model.safetensors")

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.cli.run.write_results", full)
        refused(search(table, tmp_path / "run"), "xpnn search: model.safetensors: No space left on device")
    fit = xpnn.Trainer.fit
    with monkeypatch.context() as patch:  # nothing is left to train
        patch.setattr(
            "xpnn.Trainer.fit", lambda self, *a, **o: pytest.fail("trains") if self.history else fit(self, *a, **o)
        )
        assert run("search", "--resume", tmp_path / "run", "--quiet").status == 0
    same(tmp_path / "run", tmp_path / "whole")


def test_a_search_in_an_older_run(table, tmp_path, interrupt):
    """It stays whole until the search has come to its end."""
    assert run("train", "moons", "--epochs", 2, "--quiet", "--out", tmp_path).status == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    interrupt(2)
    assert search(table, tmp_path).status == 130
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    interrupt(None)
    assert search(table, tmp_path, "--resume").status == 0
    assert read_run(tmp_path).info["command"].startswith("xpnn search ")
    assert run("train", "moons", "--epochs", 2, "--quiet", "--out", tmp_path).status == 0
    assert not (tmp_path / "trials.csv").exists(), "files of an older run have no place beside the new ones"


# -- refusing ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("moons",), r"search: expected a table, a \.csv file, got moons\. Use xpnn train, or xpnn\.search\."),
        (("{t}",), r"needs the column to predict\. Add --target COLUMN"),
        (("{t}", "--target", "why"), r"expected .*, got 'why'"),
        (
            ("{t}", "--target", "y", "--validation-size", 0),
            r"--validation-size: expected validation rows to rank trial",
        ),
        (("{t}", "--target", "y", "--loss", "mae"), r"--loss: expected a target of numbers, got classes"),
        (("{t}", "--target", "y", "--drop", "w"), r"--drop: expected columns among a, b, z, got w"),
        (
            (
                *("{t}", "--target", "y", "--hidden", "6", "--lr", "0.1", "--dropout", "0.1", "--weight-decay", "0.1"),
                *("--activation", "relu", "--batch-size", "50", "--categorical", "a,b,z"),
            ),
            r"search: expected something to vary, got a value for every option\. Leave some out\.",
        ),
    ],
)
def test_what_cannot_be_searched(table, tmp_path, args, message):
    line = [str(arg).format(t=table) for arg in args]
    refused(run("search", *line, "--out", tmp_path / "run"), message)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--trials", "0"), r"argument --trials: expected a whole number of at least 1, got '0'"),
        (("--halving", "1"), r"argument --halving: expected a number above 1, or none, got '1'"),
        (("--halving", "two"), r"argument --halving: expected a number above 1, or none, got 'two'"),
        (("--preset", "fast"), r"argument --preset: invalid choice: 'fast'"),
    ],
)
def test_bad_values(table, options, message):
    refused(run("search", table, "--target", "y", *options), message)


def test_another_search_is_refused(table, tmp_path, interrupt):
    interrupt(2)
    assert search(table, tmp_path / "run").status == 130
    interrupt(None)
    again = ("search", "--resume", tmp_path / "run")
    refused(run(*again, "--trials", 5), r"--resume: expected the options .* began with, --trials 4, got 5\.")
    refused(run(*again, "--lr", 0.1), r"began with, --lr none, got 0\.1\.")
    refused(
        run("train", "--resume", tmp_path / "run"),
        r"expected a run of xpnn train, got one of xpnn search in .*/run\. Go on with xpnn search --resume",
    )
    file = tmp_path / "run" / STAGING / "search.safetensors"
    raw = file.read_bytes()
    file.write_bytes(raw[:-9])
    refused(run(*again), r"xpnn search: search\.run: load: .*search\.safetensors.* Or remove it to search anew\.")
    file.write_bytes(raw)
    copy = tmp_path / "copy.csv"
    copy.write_text(table.read_text())
    refused(
        run("search", copy, *BASE, "--resume", "--out", tmp_path / "run"),
        r"the options .* began with, SOURCE .*table\.csv, ",
    )
    refused(
        run("search", "--resume", tmp_path), r"expected the folder of a run that has not ended, .* `xpnn search --out`"
    )


def test_all_diverged(table, tmp_path):
    ran = search(table, tmp_path / "run", "--optimizer", "sgd", "--lr", 1e30)
    refused(ran, r"expected a trial with a finite val_loss, got \{'diverged': .*\}\. Try lower learning rates")
    assert list((tmp_path / "run").iterdir()) == [], "there is nothing to go on with"
