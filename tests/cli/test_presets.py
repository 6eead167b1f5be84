"""``xpnn train --preset``: the estimators of tables on the command line, and what is asked for around them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from commands import refused, run, tensors

import xpnn
from xpnn.report import read_run
from xpnn.staging import STAGING
from xpnn.tabular import TabularClassifier, TabularRegressor

pytestmark = pytest.mark.usefixtures("no_pictures")

BASE = ("--preset", "quick", "--epochs", 6, "--hidden", "8", "--batch-size", 50)


@pytest.fixture(autouse=True)
def no_simple_models(monkeypatch):
    """They take longer than a small training."""
    monkeypatch.setattr("xpnn.cli.problem.Problem.trained", lambda *args: None)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [
        f"r{k},{a:.3f},{b:.3f},{'uvw'[k % 3]},{'yes' if a * b > -0.3 else 'no'},{a * b:.3f}"
        for k, (a, b) in enumerate(rng.normal(size=(200, 2)))
    ]
    path = tmp_path_factory.mktemp("data") / "table.csv"
    path.write_text("id,a,b,kind,y,z\n" + "\n".join(rows) + "\n")
    return path


def train(table, out, *more, target="y"):
    other = {"y": "z", "z": "y"}[target]
    return run(
        "train", table, "--target", target, "--drop", other, "--keep", "id", *BASE, "--quiet", "--out", out, *more
    )


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def history(folder):
    return [{name: v for name, v in row.items() if name != "seconds"} for row in read_run(folder).history]


def same(one, another):
    assert tensors(one) == tensors(another)
    assert history(one) == history(another)
    infos = [read_run(folder).info for folder in (one, another)]
    for name in ("scores", "options", "epochs", "best_epoch", "stopped", "recipe", "validation"):
        assert infos[0][name] == infos[1][name], name


# -- one object -------------------------------------------------------------------------------------------------
def test_what_is_saved_is_the_estimator(table, tmp_path):
    ran = train(table, tmp_path)
    assert ran.status == 0, ran.err
    model = TabularClassifier.load(tmp_path)
    columns = {name: xpnn.data.load_csv(table).columns[name] for name in ("a", "b", "kind")}
    answers = run("predict", tmp_path, table, "--out", "-").out.splitlines()
    assert answers[0] == "id,prediction"
    assert [line.split(",")[1] for line in answers[1:]] == model.predict(columns).tolist()
    assert xpnn.load_predictor(tmp_path).predict(columns).tolist() == model.predict(columns).tolist()
    assert model.get_params()["hidden"] == (8,)
    assert model.recipe_.epochs == 6
    assert model.validation_score_ > 0.5
    assert run("report", tmp_path, "--out", tmp_path / "page.html").status == 0


def test_it_is_what_the_estimator_fits(table, tmp_path):
    """The same rows, recipe and seed: the same bits in Python and on the command line."""
    assert train(table, tmp_path, "--test-size", 0, target="z").status == 0
    found = xpnn.data.load_csv(table).columns
    model = TabularRegressor(preset="quick", epochs=6, hidden=(8,), batch_size=50, validation_fraction=0.1)
    model.fit({name: found[name] for name in ("a", "b", "kind")}, found["z"])
    ours = {name: array.tobytes() for name, array in model.predictor_.net.state_dict().items()}
    assert {name: tensors(tmp_path)[name] for name in ours} == ours
    assert model.validation_scores_ == read_run(tmp_path).info["validation"]


def test_options_change_the_recipe(table, tmp_path):
    options = ("--activation", "relu", "--lr", 0.01, "--dropout", 0.2, "--weight-decay", 0.01, "--patience", 3)
    options += ("--schedule", "cosine", "--warmup", 3, "--optimizer", "adam", "--norm", "layer", "--ema", 0.9)
    options += (
        "--label-smoothing",
        0.05,
        "--clip-norm",
        1,
        "--clip-value",
        2,
        "--init",
        "orthogonal",
        "--bins",
        8,
        "--validation-size",
        0.2,
    )
    ran = train(table, tmp_path, *options, "--json")
    assert ran.status == 0, ran.err
    recipe = ran.json["recipe"]
    expected = {"activation": "relu", "lr": 0.01, "dropout": 0.2, "weight_decay": 0.01, "patience": 3, "warmup": 0.5}
    expected |= {"schedule": "cosine", "optimizer": "adam", "norm": "layer", "ema": 0.9, "label_smoothing": 0.05}
    expected |= {
        "clip_value": 2.0,
        "init": "orthogonal",
        "clip_norm": 1.0,
        "bins": 8,
        "validation_fraction": 0.2,
        "hidden": [8],
        "epochs": 6,
        "batch_size": 50,
    }
    assert {name: recipe[name] for name in expected} == expected


def test_cross_validation_goes_on_with_the_fold_that_was_cut_off(table, tmp_path, monkeypatch):
    """To the same bits; folds that are done are not made again."""
    options = ("--cv", 3, "--test-size", 0)
    assert train(table, tmp_path / "whole", *options).status == 0
    judged, made = TabularClassifier.judged, []

    def stop_in_the_third(self, *args):
        made.append(len(args[-1]))
        if len(made) == 3:
            raise KeyboardInterrupt
        return judged(self, *args)

    monkeypatch.setattr(TabularClassifier, "judged", stop_in_the_third)
    ran = train(table, tmp_path / "cut", *options)
    assert ran.status == 130
    assert "interrupted within the cross-validation: the model is kept\n" in ran.err
    assert (tmp_path / "cut" / "model.safetensors").is_file()
    assert not (tmp_path / "cut" / "out-of-fold.csv").exists()
    ran = run("train", "--resume", tmp_path / "cut", "--quiet")
    assert ran.status == 0, ran.err
    assert len(made) == 4, "two folds, the third, and the third again"
    one, other = (tmp_path / name / "out-of-fold.csv" for name in ("whole", "cut"))
    assert one.read_bytes() == other.read_bytes()
    assert tensors(tmp_path / "whole") == tensors(tmp_path / "cut")
    infos = [read_run(tmp_path / name).info for name in ("whole", "cut")]
    assert infos[0]["cross_validation"] == infos[1]["cross_validation"]


# -- around it --------------------------------------------------------------------------------------------------
def test_cross_validation(table, tmp_path):
    ran = train(table, tmp_path, "--cv", 3, "--test-size", 0)
    assert ran.status == 0, ran.err
    assert "\ncross-validation: accuracy 0." in ran.out
    assert " over 3 folds\n" in ran.out
    found, info = rows_of(tmp_path / "out-of-fold.csv"), read_run(tmp_path).info
    assert list(found[0]) == ["row", "id", "fold", "y", "prediction", "p(no)", "p(yes)"]
    assert sorted(int(row["row"]) for row in found) == list(range(1, 201))
    assert all(row["id"] == f"r{int(row['row']) - 1}" for row in found)
    assert {row["fold"] for row in found} == {"1", "2", "3"}
    for fold in "123":
        right = np.mean([row["y"] == row["prediction"] for row in found if row["fold"] == fold])
        assert right == pytest.approx(info["cross_validation"]["scores"]["accuracy"][int(fold) - 1])
    assert info["run"]["files"].keys() >= {"out-of-fold.csv"}
    assert not (tmp_path / STAGING).exists()
    assert read_run(tmp_path).info["options"]["test_size"] == 0.0


@pytest.mark.parametrize(
    ("column", "cv", "message"),
    [
        (
            lambda k: "rare" if k == 7 else "pq"[k % 2],
            3,
            r"--cv: expected each class .*, got none of 'rare' in fold \d,",
        ),
        (
            lambda k: 1.5 if k == 7 else 0.0,
            2,
            r"--cv: expected a target that varies .* one value in all 30 of fold \d\.",
        ),
        (lambda k: k * 0.5, 99, r"--cv: expected 2 to 60 folds of 60 rows, got 99\. Try 5\."),
    ],
    ids=["class", "constant", "folds"],
)
def test_folds_that_cannot_be_judged_are_refused_before_the_training(tmp_path, column, cv, message):
    path = tmp_path / "t.csv"
    path.write_text("a,t\n" + "\n".join(f"{k % 9}.25,{column(k)}" for k in range(60)))
    kind = "classification" if column(0) == "p" else "regression"
    ran = run("train", path, "--target", "t", "--task", kind, "--cv", cv, *BASE, "--quiet", "--out", tmp_path / "r")
    assert ran.status == 2
    refused(ran._replace(out=""), message)
    assert not (tmp_path / "r").exists()


def test_a_cross_validation_that_fails_loses_no_model(table, tmp_path, monkeypatch):
    def no_room(self, *args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(TabularClassifier, "judged", no_room)
    ran = train(table, tmp_path / "run", "--cv", 3)
    assert ran.status == 2
    assert "No space left on device The cross-validation has no result: the model is kept." in ran.err
    assert run("evaluate", tmp_path / "run", table).status == 0
    monkeypatch.undo()
    assert run("train", "--resume", tmp_path / "run", "--quiet").status == 0
    assert (tmp_path / "run" / "out-of-fold.csv").is_file()


def test_a_metric_is_printed_and_sets_the_threshold(table, tmp_path):
    ran = train(table, tmp_path / "f1", "--metric", "f1")
    assert ran.status == 0, ran.err
    assert ", f1 0." in ran.out
    info = read_run(tmp_path / "f1").info
    assert set(info["validation"]) >= {"f1", "accuracy"}
    assert 0 < info["scores"]["f1"] <= 1
    model = TabularClassifier.load(tmp_path / "f1")
    answers = run("predict", tmp_path / "f1", table, "--proba", "--out", "-").out.splitlines()[1:]
    called = [float(line.split(",")[3]) >= (model.predictor_.threshold or 0.5) - 1e-6 for line in answers]
    assert called == [line.split(",")[1] == "yes" for line in answers]
    predictor, told = xpnn.load_predictor(tmp_path / "f1"), json.loads((tmp_path / "f1" / "scores.json").read_text())
    assert told.get("threshold") == predictor.threshold != 0.5
    assert (
        f"threshold: 'yes' from a probability of {predictor.threshold:.3g} on, the best by f1 on rows that" in ran.out
    )
    assert told.get("temperature") == predictor.temperature
    assert train(table, tmp_path / "auc", "--metric", "auc", "--json").json["scores"]["auc"] > 0.5
    assert train(table, tmp_path / "mae", "--metric", "mae", "--json", target="z").json["scores"]["mae"] > 0
    assert train(table, tmp_path / "mae", "--metric", "mse", target="z").out.count(", mse ") == 1


def test_several_networks(table, tmp_path):
    ran = train(table, tmp_path, "--ensemble", 3, "--json")
    assert ran.status == 0, ran.err
    assert ran.json["recipe"]["members"] == 3
    assert xpnn.load_predictor(tmp_path).net.store.replicas == (3,)
    shown = run("train", table, "--target", "y", "--drop", "z,id", *BASE, "--ensemble", 3, "--out", tmp_path / "shown")
    begun = [line.split(": loss")[0] for line in shown.err.splitlines() if "epoch 1/6" in line]
    assert begun == [f"network {k}/3: epoch 1/6" for k in (1, 2, 3)]


def test_a_time_limit_keeps_the_best_so_far(table, tmp_path):
    ran = train(table, tmp_path, "--time-limit", 0.001)
    assert ran.status == 0, ran.err
    assert "\ntime limit: 0.001 s " in ran.out
    assert ran.err == ""
    assert any(note.startswith("time limit: ") for note in json.loads((tmp_path / "scores.json").read_text())["notes"])


def test_a_time_limit_within_the_first_epoch_leaves_a_whole_run(table, tmp_path, monkeypatch):
    from xpnn.distributed.group import Alone
    from xpnn.tabular import members

    monkeypatch.setattr(members._Clock, "callbacks", lambda self, fits: [members._Deadline(0.0, Alone())])
    for k, options in enumerate([(), ("--preset", "best"), ("--validation-size", 0)]):
        ran = train(table, tmp_path / str(k), "--time-limit", 60, "--report", *options)
        assert ran.status == 0, ran.err
        assert "\n1 epoch in " in ran.out
        assert "time limit: 60 s ended within the first epoch" in ran.out
        assert (tmp_path / str(k) / "history.csv").read_text().startswith("epoch,loss,")
        assert run("evaluate", tmp_path / str(k), table).status == 0


def test_intervals_and_kept_columns_of_predictions(table, tmp_path):
    assert train(table, tmp_path, target="z").status == 0
    out = tmp_path / "p.csv"
    assert run("predict", tmp_path, table, "--interval", 0.8, "--out", out).status == 0
    found = rows_of(out)
    assert list(found[0]) == ["id", "prediction", "lower", "upper"]
    assert found[4]["id"] == "r4"
    assert all(float(r["lower"]) < float(r["prediction"]) < float(r["upper"]) for r in found)
    wide = run("predict", tmp_path, table, "--interval", 0.9, "--keep", "kind,id", "--out", "-").out.splitlines()
    assert wide[0] == "kind,id,prediction,lower,upper"
    assert float(wide[1].split(",")[4]) > float(found[0]["upper"])
    assert run("predict", tmp_path, table, "--keep", "", "--out", "-").out.startswith("prediction\n")


def test_rows_without_a_target_are_left_out_if_asked(table, tmp_path):
    lines = table.read_text().splitlines()
    lines[3] = lines[3].rsplit(",", 1)[0] + ","
    lines[9] = lines[9].rsplit(",", 1)[0] + ",NA"
    path = tmp_path / "gaps.csv"
    path.write_text("\n".join(lines) + "\n")
    refused(
        train(path, tmp_path / "run", target="z"),
        r"expected a value in every row, got none in 2 of 200 rows .*\(--drop-missing-target\)\.",
    )
    ran = train(path, tmp_path / "run", "--drop-missing-target", target="z")
    assert ran.status == 0, ran.err
    assert "gaps.csv: 2 of 200 rows have no z and are left out\n" in ran.out
    lines = [line.rsplit(",", 1)[0] + "," for line in lines[1:]]
    path.write_text("id,a,b,kind,y,z\n" + "\n".join(lines) + "\n")
    refused(train(path, tmp_path / "run", "--drop-missing-target", target="z"), r"got none")
    plain = ("train", table, "--target", "y", "--drop", "z,id", "--epochs", 1, "--drop-missing-target", "--quiet")
    assert run(*plain, "--out", tmp_path / "plain").status == 0


# -- going on ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("options", "call"), [((), 3), (("--ensemble", 2), 9), (("--ensemble", 2, "--cv", 2), 9)])
def test_goes_on_to_the_bit(table, tmp_path, monkeypatch, options, call):
    assert train(table, tmp_path / "whole", *options).status == 0
    left = [call]

    def end(trainer):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    line = ("train", table, "--target", "y", "--drop", "z", "--keep", "id", *BASE, *options, "--out", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("xpnn.cli.tables.ProgressBar", lambda **options: xpnn.LambdaCallback(on_epoch_end=end))
        ran = run(*line)
    assert ran.status == 130
    assert "interrupted: the best weights so far are kept\n" in ran.err
    assert ran.out.endswith(f"\nto go on: xpnn train --resume {tmp_path / 'run'}\n")
    assert run("predict", tmp_path / "run", table, "--out", "-").status == 0
    again = run("train", "--resume", tmp_path / "run", "--quiet")
    assert again.status == 0, again.err
    same(tmp_path / "run", tmp_path / "whole")
    assert not (tmp_path / "run" / STAGING).exists()
    if "--cv" in options:
        read = [(tmp_path / name / "out-of-fold.csv").read_text() for name in ("run", "whole")]
        assert read[0] == read[1]


def test_a_fold_goes_on_in_the_epoch_that_it_was_cut_off_in(table, tmp_path, monkeypatch):
    assert train(table, tmp_path / "whole", "--cv", 2).status == 0
    made = []

    def count(trainer):
        made.append(1)
        if len(made) == 15:  # six epochs of the model, six of a fold, and of the second
            raise KeyboardInterrupt

    monkeypatch.setattr("xpnn.cli.tables.ProgressBar", lambda **options: xpnn.LambdaCallback(on_epoch_end=count))
    line = ("train", table, "--target", "y", "--drop", "z", "--keep", "id", *BASE, "--cv", 2, "--out", tmp_path / "run")
    ran = run(*line)
    assert ran.status == 130
    assert "interrupted within the cross-validation: the model is kept" in ran.err
    again = run("train", "--resume", tmp_path / "run")
    assert again.status == 0, again.err
    assert len(made) in (18, 19), "no epoch is made again but the one that was not over"
    same(tmp_path / "run", tmp_path / "whole")
    read = [(tmp_path / name / "out-of-fold.csv").read_text() for name in ("run", "whole")]
    assert read[0] == read[1]


def test_an_interrupt_before_anything_was_trained(table, tmp_path, monkeypatch):
    def end(trainer):
        raise KeyboardInterrupt

    line = ("train", table, "--target", "y", "--drop", "z", "--keep", "id", *BASE)
    with monkeypatch.context() as patch:
        patch.setattr("xpnn.cli.tables.ProgressBar", lambda **options: xpnn.LambdaCallback(on_epoch_begin=end))
        ran = run(*line, "--out", tmp_path / "run")
    assert ran.status == 130
    assert ran.err == "interrupted in the first epoch: nothing is saved\n"
    assert not (tmp_path / "run" / STAGING).exists()


# -- refusing ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--metric", "f2"), r"--metric: expected a score of classes among accuracy, .*, got 'f2'"),
        (("--metric", "rmse"), r"--metric: expected a score of classes among .*, got 'rmse'"),
        (("--cv", "1"), r"argument --cv: expected a whole number of at least 2, got '1'"),
        (("--time-limit", "0"), r"argument --time-limit: expected a number above 0, got '0'"),
        (("--keep", "name"), r"--keep: expected columns among id, a, b, kind, z, got name\. Check the names\."),
        (("--loss", "mae"), r"--loss: expected a target of numbers, got classes"),
    ],
)
def test_what_does_not_go_together(table, tmp_path, options, message):
    refused(train(table, tmp_path / "run", *options), message)


@pytest.mark.parametrize("option", ["--metric auc", "--cv 5", "--ensemble 2", "--time-limit 9"])
def test_options_of_a_preset_alone(table, option):
    name, value = option.split()
    ran = run("train", table, "--target", "y", "--preset", "none", name, value)
    refused(ran, rf"{name}: expected a --preset that it acts on, got none\. Try --preset good\.")


def test_options_of_predictions(table, tmp_path):
    assert train(table, tmp_path).status == 0
    refused(
        run("predict", tmp_path, table, "--interval", 0.9), r"--interval: expected a model of numbers, .* Use --proba\."
    )
    refused(
        run("predict", tmp_path, table, "--interval", 0), r"--interval: expected a share above 0 and below 1, got '0'"
    )
    refused(
        run("predict", tmp_path, table, "--keep", "name"), r"--keep: expected columns among id, .*, got name\. Check"
    )
    refused(
        run("train", "moons", "--preset", "good"),
        r"--preset: expected a table or an \.npz file, got moons\. Leave the option out\.",
    )
    refused(run("train", "moons", "--keep", "x"), r"--keep: expected a table, got moons")


def test_what_a_network_has_left_is_compared_with_the_file(table, tmp_path, monkeypatch):
    def end(trainer):
        if trainer.epoch == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("xpnn.cli.tables.ProgressBar", lambda **options: xpnn.LambdaCallback(on_epoch_end=end))
        line = ("train", table, "--target", "y", "--drop", "z", "--keep", "id", *BASE, "--out", tmp_path)
        assert run(*line).status == 130
    file = tmp_path / STAGING / "network-0.safetensors"
    whole, meta = xpnn.checkpoint.read(file)
    for entries, message in (
        ({"extra": {}}, r"epochs is missing"),
        ({"extra": {"epochs": 0, "ended": None}}, r"extra\.epochs|epochs is 0"),
        ({"trainer": {"history": 3}}, r"trainer\.history is 3, not a list"),
        ({"trainer": {**meta["trainer"], "epoch": -1}}, r"epoch is -1"),
    ):
        parts = {name: meta[name] for name in ("trainer", "extra")} | entries
        xpnn.checkpoint.write(file, whole, parts)
        refused(run("train", "--resume", tmp_path, "--quiet"), message)
    file.write_bytes(b"no file")
    refused(run("train", "--resume", tmp_path, "--quiet"), r"expected a whole safetensors file, but .*network-0")
    assert json.loads((tmp_path / "scores.json").read_text())["stopped"] == "interrupted", "what was there is left"


def test_bounds_cost_no_second_look(table, tmp_path, monkeypatch):
    """The network is asked once for predictions and their bounds, and before that whether there are any."""
    assert train(table, tmp_path / "run", "--drop", "y", target="z").status == 0
    predict, asked = xpnn.Sequential.predict, []

    def counted(net, X, *args, **options):
        asked.append(net.n_out)
        return predict(net, X, *args, **options)

    monkeypatch.setattr(xpnn.Sequential, "predict", counted)
    ran = run("predict", tmp_path / "run", table, "--interval", "0.5", "--out", "-")
    assert ran.status == 0, ran.err
    without = len(asked)
    asked.clear()
    assert run("predict", tmp_path / "run", table, "--out", "-").status == 0
    assert without - len(asked) <= 1, "the network of the scale"
    refused(
        run("predict", tmp_path / "run", tmp_path / "absent.csv", "--interval", "0.999"), "held-out rows for coverage"
    )


def test_too_little_memory_is_told_with_options(table, tmp_path):
    ran = run("train", table, "--target", "z", "--preset", "best", "--hidden", "90000,90000", "--out", tmp_path / "run")
    refused(
        ran, r"needs about .* GiB .*Try --preset quick, --ensemble 1, fewer rows, smaller hidden layers \(--hidden\)"
    )


# -- arrays -----------------------------------------------------------------------------------------------------
@pytest.fixture
def arrays(tmp_path):
    """A file of rows of numbers with two classes, gaps among them."""
    X = np.random.default_rng(0).normal(size=(160, 3))
    y = np.where(X[:, 0] + X[:, 1] > 0, 7, 3)
    X[::20, 2] = np.nan
    path = tmp_path / "rows.npz"
    np.savez(path, X=X, y=y)
    return path, X, y


def test_arrays_are_learned_as_the_estimator_learns_them(arrays, tmp_path):
    path, X, y = arrays
    options = ("--preset", "quick", "--epochs", 3, "--hidden", "8", "--test-size", 0, "--quiet")
    ran = run("train", path, *options, "--cv", 2, "--out", tmp_path / "run")
    assert ran.status == 0, ran.err
    alone = TabularClassifier(preset="quick", epochs=3, hidden=(8,), folds=0).fit(X, y)
    model = TabularClassifier.load(tmp_path / "run")
    assert (model.predict_proba(X) == alone.predict_proba(X)).all()
    assert not hasattr(model, "feature_names_in_")
    ran = run("predict", tmp_path / "run", path, "--out", "-")
    assert ran.status == 0, ran.err
    assert ran.out.split() == ["prediction", *map(str, alone.predict(X).tolist())]
    assert "x2: " in ran.err, "gaps are told"
    assert run("evaluate", tmp_path / "run", path, "--json").json["rows"] == 160
    assert list(rows_of(tmp_path / "run" / "out-of-fold.csv")[0])[:4] == ["row", "fold", "target", "prediction"]
    other = tmp_path / "other.csv"
    other.write_text("x0,x1,x2\n1,2,3\n")
    refused(run("predict", tmp_path / "run", other), r"expected arrays, as in training, got the table .* 3 columns\.")


def test_arrays_with_a_test_file_and_several_targets(arrays, tmp_path):
    _, X, _ = arrays
    np.savez(tmp_path / "two.npz", X=X, y=X[:, :2] * [1.0, 10.0])
    options = ("--preset", "quick", "--epochs", 2, "--hidden", "8", "--quiet", "--out", tmp_path / "run")
    ran = run("train", tmp_path / "two.npz", "--test-file", tmp_path / "two.npz", *options)
    assert ran.status == 0, ran.err
    assert xpnn.load_predictor(tmp_path / "run").predict(X).shape == (160, 2)
    assert "test file: RMSE" in ran.out


def test_what_presets_do_not_take(arrays, tmp_path):
    path, X, y = arrays
    np.savez(tmp_path / "images.npz", X=np.zeros((20, 4, 4)), y=np.arange(20) % 2)
    images = r"--preset: expected rows of numbers in .*images\.npz, .* got X of shape \(20, 4, 4\): images"
    refused(run("train", tmp_path / "images.npz", "--preset", "good", "--out", tmp_path / "r"), images)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    stream = ("train", tmp_path / "X.npy", "--target", tmp_path / "y.npy", "--out", tmp_path / "r")
    refused(run(*stream, "--preset", "good"), r"--preset: expected a table or an \.npz file, got .*X\.npy")
    refused(run("train", path, "--bins", 8, "--out", tmp_path / "r"), r"--bins: expected a --preset that it acts on")
