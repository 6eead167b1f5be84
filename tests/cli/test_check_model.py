"""``xpnn check --model``, and what `info` and `predict` know of a model's input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from commands import refused, run, train
from places import PROJECT

from xpnn.data import InputSchema
from xpnn.predictor import load_predictor
from xpnn.tabular import TabularClassifier

OLD = PROJECT / "tests" / "files" / "table_0_1.safetensors"


def houses(seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    size = rng.normal(80.0, 15.0, n).round(1)
    town = rng.choice(["Aachen", "Bonn", "Celle"], n, p=[0.5, 0.3, 0.2])
    price = size * 3 + (town == "Bonn") * 40 + rng.normal(0, 5, n)
    return pd.DataFrame({"id": np.arange(n) * 7, "size": size, "town": town, "price": price.round(1)})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("check")
    houses(0, 600).to_csv(path / "old.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.cli.results._pictures", lambda *args: [])
        common = (path / "old.csv", "--target", "price", "--keep", "id", "--epochs", 2, "--hidden", "4")
        train(*common, "--out", path / "run")
        train(*common, "--preset", "none", "--out", path / "plain")
    same, moved = houses(1, 300), houses(2, 300)
    moved["size"] += 40.0
    moved.loc[moved.index % 4 == 0, "town"] = "Dessau"
    for name, frame in (("same", same), ("moved", moved)):
        frame.drop(columns="price").to_csv(path / f"{name}.csv", index=False)
        frame.to_parquet(path / f"{name}.parquet")
    return path


@pytest.mark.parametrize("model", ["run", "run/model.safetensors", "plain"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_rows_like_those_of_the_training(folder, model, ending):
    ran = run("check", folder / f"same.{ending}", "--model", folder / model, "--fail-above", 0.1)
    assert ran.status == 0, ran.err
    assert "No column has moved: these 300 rows are like those of the training." in ran.out
    assert ran.err == ""


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_has_moved(folder, ending):
    ran = run("check", folder / f"moved.{ending}", "--model", folder / "run", "--fail-above", 0.25)
    assert ran.status == 1
    assert "2 columns have moved much (PSI of 0.25 and more): 'size', 'town'." in ran.out
    assert "'Dessau' (75)" in ran.out
    assert ran.err == "Above --fail-above 0.25: 'size', 'town'.\n"


def test_the_same_as_json(folder):
    ran = run("check", folder / "moved.csv", "--model", folder / "run", "--json", "--fail-above", 100)
    assert ran.status == 0
    found = ran.json
    assert [column["name"] for column in found["columns"]] == ["size", "town"]
    assert found["columns"][0]["psi"] == found["psi"] > 1.0
    assert found["columns"][1]["new"] == {"Dessau": 75}
    assert (found["rows"], found["rows_then"], found["above"]) == (300, 480, [])


def test_columns_to_leave_out(folder):
    options = ("--model", folder / "run", "--fail-above", 0.1)
    assert run("check", folder / "moved.csv", *options, "--drop", "size,town").status == 0
    refused(
        run("check", folder / "moved.csv", *options, "--drop", "price"), "--drop: expected columns among size, town"
    )


def test_a_table_that_predictions_are_refused_of(folder, tmp_path):
    houses(3, 50).drop(columns=["size", "price"]).assign(more=1).to_csv(tmp_path / "t.csv", index=False)
    for options, status in (((), 0), (("--fail-above", 9), 1)):
        ran = run("check", tmp_path / "t.csv", "--model", folder / "run", *options)
        assert ran.status == status
        assert "Predictions are refused: 'size' cannot be read as in training." in ran.out
        assert ran.out.endswith("Not used: 'more'.\n")


def test_options_that_would_do_nothing(folder):
    same, model = folder / "same.csv", ("--model", folder / "run")
    for option in (("--target", "size"), ("--categorical", "size"), ("--strict",), ("--task", "regression")):
        refused(run("check", same, *model, *option), f"{option[0]}: does nothing with --model")
    refused(run("check", same, "--fail-above", 0.1), "--fail-above needs the model")
    refused(run("check", folder / "X.npy", *model), "expected a CSV file")


def test_models_without_a_schema(folder):
    refused(
        run("check", folder / "same.csv", "--model", OLD), "got one without it, as xpnn 0.1 wrote them. Train again."
    )


@pytest.mark.parametrize("model", ["run", "plain"])
def test_info_prints_what_the_model_takes(folder, model):
    ran = run("info", folder / model)
    assert "input, as 480 training rows had it:" in ran.out
    assert ran.out.splitlines()[-1].split()[:4] == ["town", "category", "0.0%", "'Aachen'"]
    described = run("info", folder / model, "--json").json["schema"]
    assert InputSchema.from_dict(described) == load_predictor(folder / model).schema


def test_predict_and_evaluate_say_what_is_far_from_the_training(folder, tmp_path):
    out = ("--out", tmp_path / "p.csv")
    assert "warning" not in run("predict", folder / "run", folder / "same.csv", *out).err
    ran = run("predict", folder / "run", folder / "moved.csv", *out)
    assert ran.status == 0
    line = ran.err.splitlines()[-1]
    assert line.startswith("warning: far from what training saw: size (")
    assert "town (25.0% of unseen categories such as 'Dessau')" in line
    assert line.endswith(f"; see xpnn check {folder / 'moved.csv'} --model {folder / 'run'}")
    assert "warning: far" in run("evaluate", folder / "run", folder / "moved.parquet").err


def test_what_0_1_wrote_is_read_as_ever(tmp_path):
    predictor = load_predictor(OLD)
    names = predictor.encoder.feature_names_in
    encoder = {column["name"]: column for column in predictor.encoder.to_dict()["columns"]}
    row = {n: [encoder[n].get("fill") if "fill" in encoder[n] else encoder[n]["categories"][0]] for n in names}
    pd.DataFrame(row).to_csv(tmp_path / "t.csv", index=False)
    assert run("predict", OLD, tmp_path / "t.csv", "--out", tmp_path / "p.csv").status == 0
    assert "input, as" not in run("info", OLD).out
    assert "schema" not in run("info", OLD, "--json").json
    label = predictor.predict(row)[0]
    pd.DataFrame({**row, "t": [label]}).to_csv(tmp_path / "t.csv", index=False)
    ran = run("evaluate", OLD, tmp_path / "t.csv", "--target", "t", "--json")
    assert ran.status == 0, ran.err


def test_an_estimator_that_0_1_wrote(tmp_path):
    path = OLD.with_name("estimator_0_1.safetensors")
    rows = {"size": [10.0, 80.0], "town": ["Ulm", "Graz"], "day": ["2024-01-05", "2024-02-25"]}
    model = TabularClassifier.load(path)
    expected = [[0.8256468772888184, 0.17435313761234283], [0.7213997840881348, 0.27860018610954285]]
    np.testing.assert_allclose(model.predict_proba(rows), expected, rtol=1e-6)
    pd.DataFrame({**rows, "y": ["no", "yes"]}).to_csv(tmp_path / "t.csv", index=False)
    ran = run("predict", path, tmp_path / "t.csv", "--proba", "--out", "-")
    assert ran.out == "prediction,p(no),p(yes)\nno,0.825647,0.174353\nno,0.7214,0.2786\n"
    assert ran.err == ""
    assert run("evaluate", path, tmp_path / "t.csv", "--target", "y", "--json").json["accuracy"] == 0.5
    assert run("info", path, "--json").json["recipe"]["hidden"] == [4]
    # Saved again it is as before, and once it has seen rows it knows what they held.
    predictor = model.predictor_
    predictor.schema = InputSchema.of(predictor.encoder, rows)
    model.save(tmp_path / "m.safetensors")
    assert run("check", tmp_path / "t.csv", "--model", tmp_path / "m.safetensors", "--fail-above", 0).status == 0


def test_info_of_a_network_in_training():
    ran = run("info", OLD.with_name("trainer_0_1.safetensors"), "--json")
    assert ran.status == 0, ran.err
    assert (ran.json["epochs"], ran.json["steps"], ran.json["parameters"]) == (2, 6, 40)
    assert ran.json["optimizer"].startswith("AdamW(")
