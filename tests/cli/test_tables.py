"""Tables and arrays of strangers through the command line: training, predicting, scoring."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from commands import refused, run, tensors, train

import xpnn
from xpnn.cli.problem import Scored
from xpnn.cli.sources import Source
from xpnn.data.encoder import TableEncoder
from xpnn.predictor import Predictor
from xpnn.tabular.recipe import TableShape, choose_recipe

pytestmark = pytest.mark.usefixtures("no_pictures")


def people(n=400, seed=0):
    """Rows of a table: two numbers, a colour, a code that is a category, a class and a quantity."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(50, 10, n), rng.normal(size=n)
    colour, code = rng.choice(["red", "green", "blue"], n), rng.choice([10, 20, 30], n)
    score = (a - 50) / 10 + b + 2 * (colour == "red") - (code == 20)
    rich = np.where(score > 0.3, "yes", "no")
    price = 1000 * score + 5000 + rng.normal(size=n)
    rows = [[f"{a[i]:.3f}", f"{b[i]:.4f}", colour[i], str(code[i]), rich[i], f"{price[i]:.2f}"] for i in range(n)]
    for i in range(0, n, 16):
        rows[i][0] = ""
    for i in range(5, n, 20):
        rows[i][2] = "?"
    return rows


HEADER = ["age", "debt", "colour", "code", "rich", "price"]


def write(path, rows, header=HEADER, delimiter=","):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerows([header, *rows] if header else rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table, another of the same kind, and a model of each task."""
    path = tmp_path_factory.mktemp("tables")
    write(path / "people.csv", people())
    write(path / "more.csv", people(300, seed=1))
    for task, target, other in (("rich", "rich", "price"), ("price", "price", "rich")):
        ran = run("train", path / "people.csv", "--target", target, "--drop", other, "--out", path / task, "--quiet")
        assert ran.status == 0, ran.err
        (path / f"{task}.txt").write_text(ran.out)
    return path


# -- what training says and does --------------------------------------------------------------------------------
def test_classification_is_told_from_the_target(folder):
    said = (folder / "rich.txt").read_text()
    assert said.startswith(
        "classification: the target holds text: 2 classes\nheader row found: age, debt, colour, code, rich, price\n"
        "missing values: age (25), colour (20)\n"
    )
    assert re.search(r"^age: \d+ missing values imputed with the median [\d.]+, flagged by a 0/1 column\.$", said, re.M)
    assert re.search(r"^colour: \d+ missing values encoded as zeros\.$", said, re.M)
    assert "\n320 training rows, " in said
    assert float(re.search(r"test rows: accuracy ([\d.]+)%", said)[1]) >= 88
    assert re.search(r"^yes +no +\d+$", said, re.M)
    info = json.loads((folder / "rich" / "scores.json").read_text())
    assert info["target"] == "rich"
    assert info["options"]["drop"] == "price"
    assert info["scores"]["rows"] == 80
    encoder = Predictor.load(folder / "rich" / "model.safetensors").encoder
    assert encoder.feature_names_in == ["age", "debt", "colour", "code"]
    assert "age:missing" in encoder.feature_names_out
    assert "colour=red" in encoder.feature_names_out


def test_regression_is_told_from_the_target(folder):
    said = (folder / "price.txt").read_text()
    assert said.startswith("regression: the target holds numbers with fractions\n")
    std = float(
        re.search(r"in units of the target's standard deviation, ([\d.]+); scores in the target's own", said)[1]
    )
    rmse, r2 = map(float, re.search(r"test rows: RMSE ([\d.,]+), MAE [\d.,]+, R² ([\d.]+)", said).groups())
    assert r2 > 0.8
    assert rmse < std / 2
    assert "Confusion" not in said
    assert not (folder / "price" / "confusion.png").exists()


def test_task_can_be_chosen(folder, tmp_path):
    # three codes are told as classes; as a quantity they are scored by their distance
    args = (
        folder / "people.csv",
        "--target",
        "code",
        "--drop",
        "rich,price",
        "--epochs",
        2,
        "--json",
        "--out",
        tmp_path,
    )
    assert len(train(*args).json["scores"]["confusion"]) == 3
    scores = train(*args, "--task", "regression").json["scores"]
    assert set(scores) == {"on", "rmse", "mae", "r2", "rows"}
    # and the other way: many whole numbers are a quantity unless they are called classes
    rows = [[str(k % 40), str(k % 40)] for k in range(160)]
    write(tmp_path / "many.csv", rows, ["x", "y"])
    args = (tmp_path / "many.csv", "--target", "y", "--epochs", 1, "--json", "--out", tmp_path)
    assert "rmse" in train(*args).json["scores"]
    assert len(train(*args, "--task", "classification").json["scores"]["confusion"]) == 40


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_losses_of_numbers(folder, tmp_path, loss):
    args = (folder / "people.csv", "--target", "price", "--drop", "rich", "--epochs", 15, "--json", "--out", tmp_path)
    scores = train(*args, "--loss", loss).json["scores"]
    assert scores["r2"] > 0.7
    kind = {"mse": xpnn.MeanSquaredError, "mae": xpnn.MeanAbsoluteError, "huber": xpnn.Huber}[loss]
    assert isinstance(Predictor.load(tmp_path / "model.safetensors").loss, kind)


def test_columns_as_told(folder, tmp_path):
    args = (folder / "people.csv", "--target", "rich", "--epochs", 1, "--out", tmp_path)

    def encoder(*options):
        train(*args, *options)
        return Predictor.load(tmp_path / "model.safetensors").encoder

    assert "code=20" in encoder("--categorical", "code").feature_names_out
    assert "code" in encoder().feature_names_out
    assert encoder("--drop", "age, price").feature_names_in == ["debt", "colour", "code"]
    assert encoder("--numeric", "age,code").feature_names_in == ["age", "debt", "colour", "code", "price"]
    assert not any(":bin" in name for name in encoder("--bins", 0).feature_names_out)
    assert sum("debt:bin" in name for name in encoder("--bins", 5).feature_names_out) == 5
    assert sum("debt:bin" in name for name in encoder("--bins", "auto").feature_names_out) == 320 // 30


@pytest.mark.parametrize("options", [(), ("--batch-size", 50), ("--class-weight", "balanced"), ("--warmup", 0)])
def test_more_options(folder, tmp_path, options):
    args = (folder / "people.csv", "--target", "rich", "--drop", "price", "--json", "--out", tmp_path, *options)
    ran = train(*args)
    assert ran.json["scores"]["accuracy"] > 0.85
    recorded = ran.json["options"]
    recipe = choose_recipe("good", TableShape("classification", 320, 3, (3,), 2))
    assert recorded["batch_size"] == (50 if "--batch-size" in options else recipe.batch_size)
    assert recorded["warmup"] == (0 if "--warmup" in options else pytest.approx(recipe.warmup * recipe.epochs))
    assert (recorded["preset"], recorded["schedule"], recipe.schedule) == ("good", "cosine", "cosine")
    ran = train(*args, "--preset", "none")
    assert ran.json["scores"]["accuracy"] > 0.85
    recorded = ran.json["options"]
    assert recorded["batch_size"] == (50 if "--batch-size" in options else 32)
    assert recorded["warmup"] == (0 if "--warmup" in options else 2)
    assert ran.json["notes"][0].startswith("classification: ")


# -- fitted on training rows alone ------------------------------------------------------------------------------
def fitted(path, target, out, **cells):
    """Train on the rows with some cells changed; return the encoder, the target and the weights."""
    rows = people()
    for place, text in cells.items():
        row, column = place.removeprefix("r").split("_")
        rows[int(row)][HEADER.index(column)] = text
    write(path, rows)
    other = "price" if target == "rich" else "rich"
    held_out = ("--test-size", 0.25, "--validation-size", 0.1)
    train(path, "--target", target, "--drop", other, "--epochs", 2, *held_out, "--out", out)
    predictor = Predictor.load(out / "model.safetensors")
    return predictor.encoder.to_dict(), predictor.target.to_dict(), tensors(out)


def test_scaling_sees_training_rows_only(tmp_path):
    rows = people()
    price = np.asarray([float(row[5]) for row in rows])
    parts = Source("people", "table", {}, price).split(None, 0.25, 0.1, 0)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(400))
    plain = fitted(tmp_path / "t.csv", "price", tmp_path / "out")
    test, valid, learnt = (int(parts[name][0]) for name in ("test", "valid", "train"))

    # an outlier, a new category and another price in a held-out row change nothing at all
    held = {f"r{test}_debt": "1e6", f"r{test}_colour": "violet", f"r{test}_price": "1e7"}
    assert fitted(tmp_path / "t.csv", "price", tmp_path / "out", **held) == plain
    # in a validation row they may choose another epoch, but scale nothing
    held = {f"r{valid}_debt": "1e6", f"r{valid}_colour": "violet", f"r{valid}_price": "1e7"}
    assert fitted(tmp_path / "t.csv", "price", tmp_path / "out", **held)[:2] == plain[:2]
    # and the test can tell: in a training row they count
    encoder, target, weights = fitted(tmp_path / "t.csv", "price", tmp_path / "out", **{f"r{learnt}_debt": "1e6"})
    assert encoder != plain[0]
    assert target == plain[1]
    assert weights != plain[2]
    _, target, _ = fitted(tmp_path / "t.csv", "price", tmp_path / "out", **{f"r{learnt}_price": "1e7"})
    assert target["std"] > 100 * plain[1]["std"]


def test_arrays_are_scaled_by_training_rows_only(tmp_path):
    X, y = xpnn.data.make_blobs(200, 0.2, 0)
    test = int(Source("x", "arrays", X, y).split(y, 0.2, 0.1, 0)["test"][0])
    shifts = []
    for value in (None, 1e6):
        changed = X.copy()
        if value is not None:
            changed[test] = value
        np.savez(tmp_path / "x.npz", X=changed, y=y)
        train(tmp_path / "x.npz", "--epochs", 1, "--out", tmp_path)
        shifts.append(Predictor.load(tmp_path / "model.safetensors").encoder.shift.tolist())
    assert shifts[0] == shifts[1]


# -- which rows are scored ---------------------------------------------------------------------------------------
LABELS = {
    "int": np.arange(4),
    "whole numbers as float64": np.arange(4.0),
    "fractions": np.array([0.5, 1.5, 2.25, 7.0]),
    "text": np.array(["ant", "bee", "cat", "dog"]),
    "booleans": np.array([False, True, True, True]),
    "a column of integers": np.arange(4)[:, None],
}


def labelled(folder, ending, labels):
    """Write 120 rows of four classes, rare and frequent; return the arguments that name them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3)).astype(np.float32)
    y = labels[rng.choice(4, 120, p=[0.1, 0.2, 0.3, 0.4])]
    if ending == "csv":
        rows = [[*map(str, x), str(label)] for x, label in zip(X.tolist(), y.ravel().tolist(), strict=True)]
        return write(folder / "data.csv", rows, ["a", "b", "c", "y"]), "--target", "y"
    if ending == "npz":
        np.savez(folder / "data.npz", X=X, y=y)
        return (folder / "data.npz",)
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return folder / "X.npy", "--target", folder / "y.npy"


@pytest.fixture
def watched(monkeypatch):
    """The rows that a command trains on, and those that it scores, as the network takes them."""
    trained, scored = set(), set()
    fit, step, answered = xpnn.Trainer.fit, xpnn.Trainer.train_step, Scored.outputs

    def note(rows, x):
        rows.update(row.tobytes() for row in np.asarray(x, dtype=np.float32))

    def train_step(self, x, *args):
        note(trained, x)
        return step(self, x, *args)

    def outputs(self, predictor):
        note(scored, predictor.inputs(self.raw))
        return answered(self, predictor)

    monkeypatch.setattr(xpnn.Trainer, "fit", lambda self, *data, **options: fit(self, *data, graph=False, **options))
    monkeypatch.setattr(xpnn.Trainer, "train_step", train_step)
    monkeypatch.setattr(Scored, "outputs", outputs)
    return trained, scored


@pytest.mark.parametrize("options", [(), ("--class-weight", "balanced")], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
def test_validation_rows_scored_were_never_trained_on(tmp_path, watched, ending, kind, options):
    args = (*labelled(tmp_path, ending, LABELS[kind]), "--task", "classification", "--validation-size", 0.3)
    args += () if ending == "npy" else ("--test-size", 0)
    args += ("--ensemble", 1) if ending == "csv" else ()  # the history is that of one network
    ran = train(*args, *options, "--epochs", 1, "--json", "--out", tmp_path)
    trained, scored = watched
    assert (len(trained), len(scored)) == (84, 36)
    assert not trained & scored
    assert ran.json["scores"]["on"] == "validation rows"
    if not options:  # weights of classes are in the history alone
        with (tmp_path / "history.csv").open() as file:
            assert ran.json["scores"]["accuracy"] == pytest.approx(float(next(csv.DictReader(file))["val_accuracy"]))
    # each class gives its share of them: 30 % of its rows, or one row more or less
    truth = np.asarray(ran.json["scores"]["confusion"]).sum(axis=1)
    whole = np.asarray(
        run("evaluate", tmp_path / "model.safetensors", *labelled(tmp_path, ending, LABELS[kind]), "--json").json[
            "confusion"
        ]
    ).sum(axis=1)
    np.testing.assert_allclose(truth, 0.3 * whole, atol=1)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_test_rows_scored_were_never_trained_on(tmp_path, watched, ending, kind):
    args = (*labelled(tmp_path, ending, LABELS[kind]), "--task", "classification")
    ran = train(*args, "--epochs", 1, "--json", "--out", tmp_path)
    trained, scored = watched
    # Of the other 96, a tenth are validation rows; in folds each of them is trained on by some network.
    assert (len(trained), len(scored)) == (96 if ending == "csv" else 86, 24)
    assert not trained & scored
    assert ran.json["scores"]["on"] == "test rows"


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
def test_with_a_test_file_all_rows_but_the_validation_rows_are_trained_on(tmp_path, watched, ending, kind):
    (tmp_path / "other").mkdir()
    args, other = (labelled(folder, ending, LABELS[kind]) for folder in (tmp_path, tmp_path / "other"))
    args += ("--test-file", other[0], *(("--test-target", other[2]) if ending == "npy" else ()))
    ran = train(*args, "--task", "classification", "--epochs", 1, "--json", "--out", tmp_path)
    trained, scored = watched
    assert (len(trained), len(scored)) == (120 if ending == "csv" else 108, 120)
    assert trained <= scored  # the same rows twice
    assert ran.json["scores"]["on"] == "test file"


# -- predicting -------------------------------------------------------------------------------------------------
def predictions(ran):
    assert ran.status == 0, ran.err
    return list(csv.reader(ran.out.splitlines()))


def test_predict(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = folder / "rich" / "model.safetensors"
    ran = run("predict", model, folder / "more.csv")
    assert ran.out == "300 predictions written to more-predictions.csv\n"
    assert ran.err == "age: 19 missing values imputed with " + ran.err.split("with ")[1].split("\n")[0] + (
        "\ncolour: 15 missing values encoded as zeros.\n"
    )
    lines = (tmp_path / "more-predictions.csv").read_text().splitlines()
    assert lines[0] == "prediction"
    assert len(lines) == 301
    truth = [row[4] for row in people(300, seed=1)]
    assert np.mean([line == t for line, t in zip(lines[1:], truth, strict=True)]) > 0.85

    run("predict", model, folder / "more.csv", "--out", tmp_path / "deep" / "p.csv")
    assert (tmp_path / "deep" / "p.csv").read_text().splitlines() == lines
    assert [row[0] for row in predictions(run("predict", model, folder / "more.csv", "--out", "-"))] == lines

    rows = predictions(run("predict", model, folder / "more.csv", "--out", "-", "--proba"))
    assert rows[0] == ["prediction", "p(no)", "p(yes)"]
    for label, no, yes in rows[1:]:
        assert float(no) + float(yes) == pytest.approx(1, abs=1e-5)
        assert label == ("yes" if float(yes) > float(no) else "no")

    # the rows' order decides the predictions' order; the target column is not needed, nor the columns' order
    shuffled = [[row[3], row[2], row[1], row[0]] for row in people(300, seed=1)[::-1]]
    write(tmp_path / "shuffled.csv", shuffled, ["code", "colour", "debt", "age"])
    assert [r[0] for r in predictions(run("predict", model, tmp_path / "shuffled.csv", "--out", "-"))[1:]] == lines[
        :0:-1
    ]


def test_predict_numbers(folder):
    rows = predictions(run("predict", folder / "price" / "model.safetensors", folder / "more.csv", "--out", "-"))
    truth = np.asarray([float(row[5]) for row in people(300, seed=1)])
    found = np.asarray([float(row[0]) for row in rows[1:]])
    assert np.corrcoef(truth, found)[0, 1] > 0.9
    refused(
        run("predict", folder / "price" / "model.safetensors", folder / "more.csv", "--proba"),
        "--proba: expected a classifier, got a model of numbers",
    )


def test_unknown_categories_and_missing_cells_survive(folder, tmp_path):
    model = folder / "rich" / "model.safetensors"
    write(
        tmp_path / "odd.csv",
        [["", "", "", ""], ["50", "0", "violet", "10"], ["1e9", "-1e9", "red", "40"], ["50", "0", "?", "10"]],
        HEADER[:4],
    )
    ran = run("predict", model, tmp_path / "odd.csv", "--proba", "--out", "-")
    rows = predictions(ran)
    assert len(rows) == 5
    assert np.isfinite(np.asarray([row[1:] for row in rows[1:]], float)).all()
    # unknown and missing are both all zeros
    assert rows[2] == rows[4]
    assert "colour: 1 value in categories that training did not keep ('violet'), encoded as zeros.\n" in ran.err
    assert "age: 1 missing value imputed with" in ran.err
    write(tmp_path / "few.csv", [["50", "0"]], HEADER[:2])
    refused(
        run("predict", model, tmp_path / "few.csv"), r"expected the training columns, got none named 'colour', 'code'"
    )
    np.savez(tmp_path / "x.npz", X=np.ones((3, 4)))
    refused(run("predict", model, tmp_path / "x.npz"), "expected a table, as in training, got the arrays .*x.npz")


# -- evaluating -------------------------------------------------------------------------------------------------
def test_evaluate_gives_the_numbers_of_training(folder, tmp_path):
    for target, other in (("rich", "price"), ("price", "rich")):
        args = ("--target", target, "--drop", other, "--test-file", folder / "more.csv", "--epochs", 8)
        ran = train(folder / "people.csv", *args, "--out", tmp_path)
        scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
        assert scores["on"] == "test file"
        assert scores["rows"] == 300
        assert "test file: age: 19 missing values imputed with" in ran.out
        assert "\n400 training rows" in ran.out
        model = tmp_path / "model.safetensors"
        again = run("evaluate", model, folder / "more.csv", "--json").json
        assert {**again, "on": "test file"} == {**scores, "file": str(folder / "more.csv")}
        line = run("evaluate", model, folder / "more.csv").out.splitlines()[0]
        assert line.removeprefix("more.csv") in ran.out


def test_the_share_explained_of_equal_targets_is_none(tmp_path):
    rng = np.random.default_rng(0)
    for name, y in (("train", rng.normal(size=200)), ("test", np.full(50, 2.5))):
        rows = [f"{a},{b}" for a, b in zip(rng.normal(size=len(y)), y, strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,y", *rows]) + "\n")
    options = ("--target", "y", "--test-file", tmp_path / "test.csv", "--epochs", 1, "--out", tmp_path / "run")
    assert re.search(
        r"RMSE [\d.]+, MAE [\d.]+, R² — \(all targets are equal\) on 50 rows",
        run("train", tmp_path / "train.csv", *options).out,
    )


def test_evaluate_wants_answers(folder):
    price, rich = folder / "price" / "model.safetensors", folder / "rich" / "model.safetensors"
    refused_line = run("evaluate", price, folder / "more.csv", "--target", "rich")
    assert refused_line.status == 2
    assert "column 'target': expected a number, got 'yes'" in refused_line.err or "got 'no'" in refused_line.err
    assert "Traceback" not in refused_line.err
    refused_line = run("evaluate", rich, folder / "more.csv", "--target", "colour")
    assert refused_line.status == 2
    assert "target: expected" in refused_line.err.splitlines()[-1]
    refused(
        run("evaluate", price, folder / "more.csv", "--strip-target", "."), "--strip-target: expected a classifier, got"
    )


# -- odd files --------------------------------------------------------------------------------------------------
def like_adult(path, n, ending="", seed=0):
    rng = np.random.default_rng(seed)
    hours, age = rng.integers(20, 60, n), rng.integers(18, 80, n)
    job = rng.choice(["Sales", "Tech-support", "?"], n, p=[0.5, 0.45, 0.05])
    rich = np.where(hours + age + 30 * (job == "Sales") > 105, ">50K", "<=50K")
    path.write_text("".join(f"{a}, {h}, {j}, {r}{ending}\n" for a, h, j, r in zip(age, hours, job, rich, strict=True)))
    return path


def test_labels_that_end_in_a_full_stop(tmp_path):
    learn, test = like_adult(tmp_path / "learn.csv", 300), like_adult(tmp_path / "test.csv", 200, ".", seed=1)
    args = ("train", learn, "--target", -1, "--test-file", test, "--quiet", "--out", tmp_path / "out", "--epochs", 10)
    message = r"got '(<=|>)50K\.' in data row 1 .*The labels end in '\.'; strip it with --strip-target '\.'"
    refused(run(*args), message)
    assert not (tmp_path / "out").exists()  # said before training, not after
    ran = run(*args, "--strip-target", ".")
    assert ran.status == 0, ran.err
    assert "no header row found: columns are numbered 0..3" in ran.out
    assert "missing values: 2 (" in ran.out
    model = tmp_path / "out" / "model.safetensors"
    # the model remembers it; one trained without it says what to do
    again = run("evaluate", model, test, "--json")
    assert again.status == 0
    assert again.json["accuracy"] == json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]["accuracy"]
    assert again.json["accuracy"] > 0.85
    train(learn, "--target", -1, "--epochs", 10, "--out", tmp_path / "plain")
    model = tmp_path / "plain" / "model.safetensors"
    ran = run("evaluate", model, test)
    assert ran.status == 2
    assert re.search(message, ran.err)
    assert run("evaluate", model, test, "--strip-target", ".", "--json").json["accuracy"] > 0.85


def test_the_model_remembers_how_its_table_was_read(tmp_path):
    rows = [row[:5] for row in people()]
    for k, row in enumerate(rows):
        row[0] = row[0] or ("-999" if k % 32 else "")
    args = ("--target", "4", "--header", "no", "--delimiter", ";", "--missing=-999,?")
    write(tmp_path / "semi.csv", rows, None, ";")
    ran = train(tmp_path / "semi.csv", *args, "--epochs", 5, "--json", "--out", tmp_path)
    assert "missing values: 0 (25), 2 (20)" in ran.json["notes"]
    model = tmp_path / "model.safetensors"
    encoder = Predictor.load(model).encoder
    assert "0:missing" in encoder.feature_names_out
    # -999 is a gap in the new file too, without being told again
    write(tmp_path / "new.csv", [["-999", "0", "red", "10"], ["", "0", "red", "10"]], None, ";")
    ran = run("predict", model, tmp_path / "new.csv", "--out", "-", "--proba")
    assert ran.err == f"0: 2 missing values imputed with {encoder._columns[0].fill:g}.\n"
    rows = predictions(ran)
    assert rows[1] == rows[2]
    # a file in another form needs only to be described
    write(tmp_path / "comma.csv", [["-999", "0", "red", "10"]], ["0", "1", "2", "3"], ",")
    ran = run(
        "predict", model, tmp_path / "comma.csv", "--delimiter", "auto", "--header", "yes", "--out", "-", "--proba"
    )
    assert predictions(ran)[1] == rows[1]
    ran = run("predict", model, tmp_path / "new.csv", "--missing", "?", "--out", "-", "--proba")
    remark, warning = ran.err.splitlines()
    assert remark == f"0: 1 missing value imputed with {encoder._columns[0].fill:g}."
    seen = next(iter(Predictor.load(model).schema))
    assert warning.startswith(
        f"warning: far from what training saw: 0 (100.0% outside {seen.low:.6g} to {seen.high:.6g}"
    )
    assert ", as far as -999); see xpnn check " in warning


def test_a_header_of_numbers_can_be_told(tmp_path):
    write(tmp_path / "years.csv", [["1", "2", "x"], ["2", "1", "y"]] * 20, ["1990", "1991", "z"])
    ran = train(tmp_path / "years.csv", "--target", "z", "--header", "yes", "--epochs", 1, "--out", tmp_path)
    assert "header row found: 1990, 1991, z" in ran.out
    # and the target is told by its name
    ran = train(tmp_path / "years.csv", "--target", "z", "--epochs", 1, "--out", tmp_path)
    assert "header row found: 1990, 1991, z" in ran.out


# -- arrays -----------------------------------------------------------------------------------------------------
def test_npz(tmp_path):
    X, y = xpnn.data.make_blobs(300, 0.1, 0)
    words = np.asarray(["ant", "bee", "cat"])[y]
    np.savez(tmp_path / "three.npz", X=X.reshape(-1, 1, 2), kind=words, y=X[:, 0] * 3 + 1)
    ran = train(tmp_path / "three.npz", "--target", "kind", "--epochs", 20, "--out", tmp_path / "kind")
    assert ran.out.startswith("classification: the target holds text: 3 classes\n")
    assert re.search(r"^ant +\d+ +\d+ +\d+$", ran.out, re.M)
    model = tmp_path / "kind" / "model.safetensors"
    lines = run("predict", model, tmp_path / "three.npz", "--out", "-").out.split()
    assert np.mean(np.asarray(lines[1:]) == words) > 0.97
    assert run("evaluate", model, tmp_path / "three.npz", "--target", "kind", "--json").json["accuracy"] > 0.97
    # y is the target unless another is named; a second file can hold the test rows
    ran = train(tmp_path / "three.npz", "--test-file", tmp_path / "three.npz", "--json", "--out", tmp_path / "y")
    assert ran.json["scores"]["r2"] > 0.97
    assert ran.json["scores"]["rows"] == 300
    ran = train(
        *(tmp_path / "three.npz", "--target", "kind", "--test-file", tmp_path / "three.npz", "--test-target", "kind"),
        *("--json", "--epochs", 20, "--out", tmp_path / "y"),
    )
    assert ran.json["scores"]["accuracy"] > 0.97


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_npy_streams(tmp_path, task):
    X, y = xpnn.data.make_blobs(500, 0.25, 0)
    y = y if task == "classification" else X[:, 0] - 2 * X[:, 1]
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    np.save(tmp_path / "y.npy", y)
    np.save(tmp_path / "XT.npy", X[:50].astype(np.float32))
    np.save(tmp_path / "yT.npy", y[:50])
    args = (tmp_path / "X.npy", "--target", tmp_path / "y.npy", "--epochs", 12, "--json", "--out", tmp_path)
    ran = train(*args, "--validation-size", 0.2)
    assert any(note.startswith("rows are read from disk as needed and not scaled") for note in ran.json["notes"])
    assert "400 training rows, 2 inputs" in ran.json["notes"][-1]
    # the rows scored are the rows that the trainer held out: the same numbers
    assert ran.json["scores"]["on"] == "validation rows"
    assert ran.json["scores"]["rows"] == 100
    with (tmp_path / "history.csv").open() as file:
        best = min(csv.DictReader(file), key=lambda row: float(row["val_loss"]))
    if task == "classification":
        assert ran.json["scores"]["accuracy"] == pytest.approx(float(best["val_accuracy"]))
        assert ran.json["scores"]["cross_entropy"] == pytest.approx(float(best["val_loss"]), rel=1e-5)
    else:
        std = Predictor.load(tmp_path / "model.safetensors").target.std
        assert ran.json["scores"]["rmse"] == pytest.approx(float(best["val_rmse"]) * std, rel=0.02)
    ran = train(*args, "--test-file", tmp_path / "XT.npy", "--test-target", tmp_path / "yT.npy")
    assert ran.json["scores"]["on"] == "test file"
    assert ran.json["scores"]["rows"] == 50
    model = tmp_path / "model.safetensors"
    again = run("evaluate", model, tmp_path / "XT.npy", "--target", tmp_path / "yT.npy", "--json").json
    assert {k: v for k, v in again.items() if k != "file"} == {k: v for k, v in ran.json["scores"].items() if k != "on"}
    ran = train(*args, "--validation-size", 0)
    assert ran.json["scores"]["on"] == "training rows"
    assert ran.json["scores"]["rows"] == 500


def test_a_picture_stack_is_flattened(tmp_path):
    X = np.random.default_rng(0).integers(0, 255, (60, 4, 4)).astype(np.uint8)
    y = (X[:, 0, 0] > 127).astype(int)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    ran = train(tmp_path / "X.npy", "--target", tmp_path / "y.npy", "--epochs", 2, "--json", "--out", tmp_path)
    assert "54 training rows, 16 inputs" in ran.json["notes"][-1]
    assert any(f"reach {X.max()}" in note for note in ran.json["notes"])


def test_many_classes_draw_no_matrix(tmp_path):
    y = np.arange(600) % 35
    np.savez(tmp_path / "many.npz", X=np.eye(35)[y], y=y)
    ran = train(tmp_path / "many.npz", "--task", "classification", "--epochs", 1, "--out", tmp_path)
    assert "Confusion matrix" not in ran.out
    assert "accuracy" in ran.out


# -- real tables ------------------------------------------------------------------------------------------------
def test_california_housing(tabular_dir, tmp_path):
    ran = train(
        *(tabular_dir / "california_housing.csv", "--target", "median_house_value", "--json", "--out", tmp_path)
    )
    assert ran.json["scores"]["rmse"] <= 52_000
    assert ran.json["scores"]["rows"] == 4128
    assert any(note.startswith("total_bedrooms: ") for note in ran.json["notes"])
    assert isinstance(Predictor.load(tmp_path / "model.safetensors").encoder, TableEncoder)


def test_adult(tabular_dir, tmp_path):
    learn, test = tabular_dir / "adult-train.csv", tabular_dir / "adult-test.csv"
    args = ("train", learn, "--target", -1, "--test-file", test, "--quiet", "--json", "--out", tmp_path)
    refused(run(*args), r"The labels end in '\.'; strip it with --strip-target '\.'")
    ran = run(*args, "--strip-target", ".")
    assert ran.status == 0, ran.err
    assert ran.json["scores"]["accuracy"] >= 0.853
    assert ran.json["scores"]["rows"] == 16_281
    assert "no header row found: columns are numbered 0..14" in ran.json["notes"]
    assert (
        run("evaluate", tmp_path / "model.safetensors", test, "--json").json["confusion"]
        == (ran.json["scores"]["confusion"])
    )
