"""Several targets on the command line: none is lost, from the file to the page."""

from __future__ import annotations

import csv
import json
import runpy

import numpy as np
import pytest
from commands import refused, run, train

import xpnn
from xpnn.data import load_csv
from xpnn.tabular import TabularRegressor

pytestmark = pytest.mark.usefixtures("no_pictures")

SHORT = ("--preset", "quick", "--epochs", 3, "--hidden", "12")
BOTH = ("--target", "heat", "--target", "cool")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with two targets of numbers, one written with a decimal comma, and one of labels."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 160))
    lines = ["id;a;b;heat;cool;label"]
    for k in range(160):
        heat, cool = f"{100 * a[k] + b[k]:.3f}", f"{b[k] - a[k]:.3f}".replace(".", ",")
        lines.append(f"{k};{a[k]:.4f};{b[k]:.4f};{heat};{cool};{'yes' if a[k] > 0 else 'no'}")
    path = tmp_path_factory.mktemp("two") / "two.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "two"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.cli.results._pictures", lambda *args: [])
        ran = train(table, *BOTH, "--drop", "label", "--keep", "id", *SHORT, "--cv", 2, "--report", "--out", out)
    return out, ran


def rows_of(text):
    return list(csv.DictReader(text.splitlines()))


def test_training_tells_of_each(trained, table):
    out, ran = trained
    assert "regression: 2 targets, 'heat', 'cool'\n" in ran.out
    assert "\ntarget " in ran.out
    assert "\nheat: beside simple models, on " in ran.out
    assert "\ncool: beside simple models, on " in ran.out
    info = json.loads((out / "scores.json").read_text())
    assert info["target"] == info["options"]["target"] == ["heat", "cool"]
    assert [each["target"] for each in info["scores"]["targets"]] == ["heat", "cool"]
    assert info["scores"]["mae"] == pytest.approx(np.mean([each["mae"] for each in info["scores"]["targets"]]))
    fold = rows_of((out / "out-of-fold.csv").read_text())
    assert [*fold[0]] == ["row", "id", "fold", "heat", "prediction(heat)", "cool", "prediction(cool)"]
    cool = load_csv(table).columns["cool"]
    assert [float(row["cool"]) for row in fold] == [cool[int(row["row"]) - 1] for row in fold]
    page = (out / "report.html").read_text()
    for part, name in (("-1", "heat"), ("-2", "cool")):
        for section in ("simple", "errors", "columns", "groups", "mistakes"):
            assert page.count(f'id="{section}{part}"') == 1, section
        assert f"{name}</h2>" in page
    assert page.count('id="curves"') == 1


def test_the_model_is_a_regressor_of_both(trained, table):
    out, _ = trained
    model = TabularRegressor.load(out)
    columns = load_csv(table).columns
    answers = model.predict({name: columns[name] for name in ("a", "b")})
    assert answers.shape == (160, 2)
    assert model.predictor_.target_names == ("heat", "cool")
    assert "2 quantities (heat, cool)" in model.summary()
    cool = model.predictor_.only("cool")
    assert np.allclose(cool.predict(columns), answers[:, 1], rtol=1e-5)
    bounds = model.predictor_.predict_interval(columns, 0.8)
    assert np.allclose(cool.predict_interval(columns, 0.8), bounds[:, 1], rtol=1e-4)
    with pytest.raises(xpnn.XpnnError, match=r"expected one of the targets heat, cool, got 'cold'"):
        model.predictor_.only("cold")


def test_predictions_bear_the_names(trained, table):
    out, _ = trained
    ran = run("predict", out, table, "--interval", "0.8", "--out", "-")
    assert ran.status == 0, ran.err
    sides = ("prediction", "lower", "upper")
    found = rows_of(ran.out)
    assert [*found[0]] == ["id", *(f"{side}({name})" for name in ("heat", "cool") for side in sides)]
    predictor = xpnn.load_predictor(out)
    columns = load_csv(table).columns
    assert [[float(row[f"prediction({name})"]) for name in ("heat", "cool")] for row in found] == predictor.predict(
        columns
    ).tolist()
    bounds = predictor.predict_interval(columns, 0.8)
    assert [float(row["upper(cool)"]) for row in found] == bounds[:, 1, 1].tolist()


def test_evaluate_takes_both(trained, table):
    out, _ = trained
    found = run("evaluate", out, table, "--json").json
    assert [each["target"] for each in found["targets"]] == ["heat", "cool"]
    assert found["targets"][1]["mae"] < found["targets"][0]["mae"]
    turned = run("evaluate", out, table, "--target", "cool", "--target", "heat", "--json").json
    assert turned == found, "columns of the training are known by their names"
    refused(run("evaluate", out, table, "--target", "heat"), r"--target: expected 2 columns, as in training, got 1\.")


def test_card_info_and_resume(trained, table, tmp_path):
    out, _ = trained
    assert run("report", out, "--card", "--out", tmp_path / "card.md").status == 0
    card = (tmp_path / "card.md").read_text()
    assert "predicts the numbers `heat`, `cool`" in card
    assert card.count("### `cool`") == 3  # simple models, groups and importance
    assert "target: heat, cool\n" in run("info", out).out
    assert "nothing is left to do" in run("train", "--resume", out).out
    assert "nothing is left to do" in run("train", "--resume", out, *BOTH).out
    refused(run("train", "--resume", out, "--target", "heat"), r"--target heat,cool, got heat")
    assert "No column has moved" in run("check", table, "--model", out).out


def test_exports_name_them(trained, table, tmp_path):
    out, _ = trained
    assert run("export", out, "--python", tmp_path / "m.py").status == 0
    own = runpy.run_path(str(tmp_path / "m.py"))
    assert own["TARGETS"] == ["heat", "cool"]
    columns = {name: load_csv(table).columns[name] for name in ("a", "b")}
    assert np.allclose(own["predict"](columns)["prediction"], xpnn.load_predictor(out).predict(columns), rtol=1e-5)


def test_a_plain_network_and_arrays(table, tmp_path):
    ran = train(table, *BOTH, "--drop", "label,id", "--preset", "none", "--epochs", 2, "--out", tmp_path / "plain")
    assert "\ncool " in ran.out
    assert xpnn.load_predictor(tmp_path / "plain").predict(load_csv(table).columns).shape == (160, 2)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    np.savez(tmp_path / "a.npz", X=X, y=X[:, :2] + 0.5)
    ran = train(tmp_path / "a.npz", "--epochs", 2, "--out", tmp_path / "arrays")
    assert "regression: 2 targets" in ran.out
    done = run("predict", tmp_path / "arrays", tmp_path / "a.npz", "--out", "-")
    assert done.out.splitlines()[0] == "prediction(1),prediction(2)"


def test_rows_without_a_target(table, tmp_path):
    holes = tmp_path / "holes.csv"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].split(";heat")[0].rsplit(";", 3)[0] + ";;1,5;no"
    lines[5] = lines[5].rsplit(";", 2)[0] + ";;no"
    holes.write_text("\n".join(lines) + "\n")
    refused(
        run("train", holes, *BOTH, "--drop", "label", "--out", tmp_path / "r"),
        r"target 'heat': expected a value in every row",
    )
    ran = train(holes, *BOTH, "--drop", "label", *SHORT, "--drop-missing-target", "--out", tmp_path / "r")
    assert "1 of 160 rows have no heat and are left out" in ran.out
    assert "1 of 159 rows have no cool and are left out" in ran.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--target", "heat", "--target", "label"),
            r"expected numbers in each of several targets, got text in 'label'\. Train a model for each, without the "
            r"others: --target heat --drop label --out runs/1; --target label --drop heat --out runs/2\.",
        ),
        (("--target", "heat", "--target", "heat"), r"argument --target: expected each column once, got 'heat' twice"),
        (("--target", "heat", "--target", "3"), r"--target: expected each column once, got 'heat' twice"),
        ((*BOTH, "--task", "classification"), r"--target: expected one column of labels, got 2: 'heat', 'cool'"),
        (("--target", "heat", "--target", "colt"), r"--target: expected a column, got 'colt'\. Did you mean"),
        ((*BOTH, "--drop", "cool"), r"--drop: expected columns among id, a, b, label, got cool"),
    ],
)
def test_what_cannot_be(table, tmp_path, options, message):
    refused(run("train", table, *options, "--quiet", "--out", tmp_path / "no"), message)
    assert not (tmp_path / "no" / "model.safetensors").exists()


def test_arrays_have_one_target(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((20, 2)), y=np.arange(20.0))
    refused(run("train", tmp_path / "a.npz", *BOTH), r"--target: expected one array of .*a\.npz, got 2")


def test_check_looks_at_each(table):
    ran = run("check", table, *BOTH, "--json")
    assert ran.json["target"] == "heat, cool"
    assert "identifier" in {finding["check"] for finding in ran.json["findings"]}
    assert len({json.dumps(finding) for finding in ran.json["findings"]}) == len(ran.json["findings"])


def test_search_of_both(table, tmp_path):
    options = ("--drop", "label,id", "--trials", 2, "--epochs", 2, "--hidden", "6", "--quiet", "--halving", "none")
    ran = run("search", table, *BOTH, *options, "--out", tmp_path)
    assert ran.status == 0, ran.err
    assert TabularRegressor.load(tmp_path).predictor_.target_names == ("heat", "cool")


def test_a_target_that_numbers_the_rows_is_told(table, tmp_path):
    """It may be a quantity: it is learned, and said to be no more than an identifier."""
    said = "warning: id: identifier: It numbers the rows from 0 to 159, each once. If it is an identifier, there is"
    ran = train(table, "--target", "id", "--drop", "label", *SHORT, "--out", tmp_path / "one")
    assert said in ran.out
    ran = train(table, "--target", "id", "--target", "heat", "--drop", "label", *SHORT, "--out", tmp_path / "two")
    assert said in ran.out
    found = run("check", table, "--target", "id", "--json").json["findings"]
    assert [each["column"] for each in found if each["check"] == "identifier"] == ["id"]


def test_new_columns_are_told(trained, table, tmp_path):
    out, _ = trained
    wider = tmp_path / "wider.csv"
    lines = table.read_text().splitlines()
    wider.write_text("\n".join([f"{lines[0]};extra;more", *(f"{line};1;2" for line in lines[1:])]) + "\n")
    told = "columns that training did not have are not used: 'extra', 'more'\n"
    assert told in run("predict", out, wider, "--out", "-").err
    assert told in run("evaluate", out, wider).err
    assert "not used: 'extra'\n" in run("predict", out, wider, "--out", "-", "--keep", "more").err
    assert "not used" not in run("predict", out, table, "--out", "-").err, "dropped ones are known"
