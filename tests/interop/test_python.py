"""Python files that need NumPy alone: every part of the library, whole models, and files of rows."""

from __future__ import annotations

import csv
import runpy
import subprocess
import sys

import numpy as np
import pytest
from any_networks import any_network
from cases import LAYERS, LOSSES
from exported import HOSTILE, predictors, shaken
from hypothesis import given, settings

import xpnn
from xpnn.cli import main
from xpnn.data import Standardizer
from xpnn.data.targets import NumberTargets
from xpnn.errors import OptionError, ShapeError
from xpnn.tabular import TabularClassifier, TabularRegressor

QUICK = {"preset": "quick", "epochs": 1, "hidden": (8,), "random_state": 0}


def run_file(path, *arguments):
    """Run a file as a program that can import NumPy and Python's own modules, and nothing else."""
    text = (
        "import runpy, sys\n"
        "class Only:\n"
        "    def find_spec(self, name, *more):\n"
        "        if name.partition('.')[0] not in {*sys.stdlib_module_names, 'numpy'}: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Only())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    command = [sys.executable, "-I", "-c", text, str(path), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# -- every part ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_every_layer(case, tmp_path):
    for options in ({}, {"dtype": "float64", "replicas": 2}):
        check = shaken(case.net(**options)).to_python(tmp_path / "net.py", rows=case.x(20))
        assert check.differences["outputs"] < (2e-6 if not options else 1e-14)


@pytest.mark.parametrize("case", LOSSES, ids=str)
def test_every_link(case, tmp_path):
    net = shaken(xpnn.mlp([3, case.n_out], replicas=2))
    rows = np.random.default_rng(0).standard_normal((20, 3))
    assert net.to_python(tmp_path / "net.py", rows=rows, loss=case.loss).differences["predictions"] < 1e-6


@settings(max_examples=20)
@any_network
def test_networks_of_any_shape(tmp_path_factory, sizes, activation, norm, residual, replicas):
    net = shaken(xpnn.mlp(sizes, activation, norm=norm, residual=residual, replicas=replicas))
    rows = np.random.default_rng(1).standard_normal((7, sizes[0]))
    assert net.to_python(tmp_path_factory.getbasetemp() / "any.py", rows=rows).rows == 7


# -- whole models --------------------------------------------------------------------------------------------------
def test_models_of_tables(classifier, regressor, tmp_path):
    for model, table in (classifier, regressor):
        for rows in (table, None):
            check = model.to_python(tmp_path / "predict.py", rows=rows)
            assert check.labels_differ in (0, None)
            assert max(check.differences.values()) < 1e-6


@settings(max_examples=15)
@given(predictors())
def test_tables_of_any_kind(tmp_path_factory, made):
    model, table = made
    path = tmp_path_factory.getbasetemp() / "any.py"
    for rows in (table, None):
        assert model.to_python(path, rows=rows).labels_differ in (0, None)


def test_cells_are_taken_as_a_person_has_them(classifier, tmp_path):
    model, table = classifier
    model.to_python(tmp_path / "predict.py", rows=table)
    predict = runpy.run_path(str(tmp_path / "predict.py"))["predict"]
    row = {"size": [None, "51.5"], "rooms": [2, 3], "town": [" a ", None], "kind": ["castle", "flat"]}
    row |= {"code": ["30", 1], "garden": [True, "FALSE"], "sold": ["2021-02-03 10:30", None], "more": [1, 2]}
    told = predict(row)
    plain = {"size": [np.nan, 51.5], "rooms": [2.0, 3.0], "town": ["a", None], "kind": ["castle", "flat"]}
    plain |= {"code": ["30", "1"], "garden": [True, False], "sold": np.array(["2021-02-03T10:30", "NaT"], "M8[s]")}
    assert told["label"].tolist() == model.predict(plain).tolist()
    np.testing.assert_allclose(told["probabilities"], model.predict_proba(plain), atol=1e-6)
    with pytest.raises(KeyError, match="expected the column 'size'"):
        predict({})
    with pytest.raises(ValueError, match=r"column 'size', row 2: .*'much'"):
        predict(row | {"size": [1.0, "much"]})
    with pytest.raises(ValueError, match=r"column 'size', row 1: .*'\(5\)'"):
        predict(row | {"size": ["(5)", 1.0]})
    with pytest.raises(ValueError, match="column 'sold', row 1: expected a date as in training, got 'May'"):
        predict(row | {"sold": ["May", None]})


@pytest.mark.parametrize("name", ["california", "adult"])
def test_real_files_are_read_and_answered_as_xpnn_does(name, tabular_dir, tmp_path, monkeypatch, no_pictures):
    """Through the command line on both sides, a header and none, `?` for gaps, spaces behind commas."""
    file, target = {
        "california": ("california_housing.csv", "median_house_value"),
        "adult": ("adult-train.csv", "14"),
    }[name]
    lines = (tabular_dir / file).read_text(encoding="utf-8").splitlines()
    (tmp_path / file).write_text("\n".join(lines[:500]) + "\n", encoding="utf-8")
    head = lines[:1] if name == "california" else []
    (tmp_path / "new.csv").write_text("\n".join([*head, *lines[500:800]]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    train = ["train", file, "--target", target, "--preset", "quick", "--epochs", "1", "--hidden", "16", "--out", "run"]
    for arguments in (train, ["export", "run", "--python", "predict.py"], ["predict", "run", "new.csv", "--keep", ""]):
        assert main(arguments) == 0
    done = run_file("predict.py", "new.csv")
    assert done.stderr == ""
    found = list(csv.DictReader(done.stdout.splitlines()))
    with (tmp_path / "new-predictions.csv").open(encoding="utf-8", newline="") as stream:
        wanted = list(csv.DictReader(stream))
    assert len(found) == len(wanted) == 300
    assert next(iter(found[0])) == "prediction"
    for own, theirs in zip(found, wanted, strict=True):
        if name == "adult":
            assert own["prediction"] == theirs["prediction"]
        else:
            assert float(own["prediction"]) == pytest.approx(float(theirs["prediction"]), rel=1e-5)


def test_numbers_and_dates_are_read_as_they_were_written_in_training(tmp_path):
    rng = np.random.default_rng(0)
    price = [f"{n // 1000}.{n % 1000:03},{c:02} €" for n, c in rng.integers([1000, 0], [9000, 100], (60, 2))]
    day = [f"{d:02}.{m:02}.{y}" for d, m, y in rng.integers([1, 1, 2001], [29, 13, 2020], (60, 3))]
    truth = rng.choice(["True", "False"], 60)
    y = rng.standard_normal(60)
    lines = ["price;day;sure;y", *(";".join(map(str, row)) for row in zip(price, day, truth, y, strict=True))]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    spelt = {
        "price": np.asarray(price, dtype=object),
        "day": np.asarray(day, dtype=object),
        "sure": truth.astype(object),
    }
    model = TabularRegressor(dayfirst=True, numeric=["price"], **QUICK).fit(spelt, y)
    model.to_python(tmp_path / "predict.py", rows=spelt)
    done = run_file(tmp_path / "predict.py", tmp_path / "rows.csv")
    assert done.stderr == ""
    found = [float(row["prediction"]) for row in csv.DictReader(done.stdout.splitlines())]
    np.testing.assert_allclose(found, model.predict(spelt), rtol=1e-5)


def test_names_and_words_cannot_be_code(tmp_path):
    """A name of a column, a category or a label never leaves its quotes, in the file or in its docstring."""
    evil = [*HOSTILE, '"""\nraise SystemExit\n"""', "'''", "\\", "\\'", '{__import__("os")}', "\ud800"]
    rng = np.random.default_rng(0)
    columns = {name: rng.standard_normal(200) for name in evil}
    columns |= {f"{name}?": rng.choice(np.asarray([*evil, None], dtype=object), 200) for name in evil[:4]}
    labels = np.asarray(evil[-6:], dtype=object)[np.arange(200) % 6]
    model = TabularClassifier(**QUICK).fit(columns, labels)
    model.predictor_.info["target"] = '"""\nraise SystemExit\n#'
    check = model.to_python(tmp_path / "predict.py", rows=columns)
    assert check.labels_differ == 0
    assert (tmp_path / "predict.py").read_bytes().isascii()


def test_several_targets_and_features(tmp_path):
    X = 100.0 + 10.0 * np.random.default_rng(0).standard_normal((50, 4))
    model = xpnn.Predictor(
        shaken(xpnn.mlp([4, 6, 2])), xpnn.Huber(), NumberTargets().fit(X[:, :2]), Standardizer().fit(X)
    )
    assert model.to_python(tmp_path / "several.py", rows=X).rows == 50
    np.savetxt(tmp_path / "rows.csv", X, delimiter=",", header="a,b,c,d", comments="")
    done = run_file(tmp_path / "several.py", tmp_path / "rows.csv")
    assert done.stderr == ""
    rows = list(csv.reader(done.stdout.splitlines()))
    assert rows[0] == ["prediction0", "prediction1"]
    np.testing.assert_allclose(np.asarray(rows[1:], float), model.predict(X), rtol=1e-6)


def test_estimators(fitted_estimators, tmp_path):
    for model, rows in fitted_estimators:
        check = model.to_python(tmp_path / "estimator.py", rows=rows)
        assert (check.rows, check.labels_differ or 0) == (60, 0)


def test_what_answers_otherwise_is_not_written(classifier, tmp_path, monkeypatch):
    model, table = classifier
    monkeypatch.setattr("xpnn.interop.python_text._SIGNS", {"add": "-", "sub": "-", "mul": "*", "div": "/"} |
                        dict.fromkeys(("less", "greater", "greater_equal", "equal", "less_equal"), "=="))  # fmt: skip
    with pytest.raises(OptionError, match="to answer as the model does"):
        model.to_python(tmp_path / "m.py", rows=table)
    assert not (tmp_path / "m.py").exists()
    assert model.to_python(tmp_path / "m.py", check=False) is None


def test_rows_and_losses_that_are_none_are_refused(tmp_path):
    net = xpnn.mlp([3, 2])
    for write in (net.to_python, net.to_c, net.to_onnx):
        with pytest.raises(OptionError, match="expected loss to be a loss such as"):
            write(tmp_path / "net", loss="ce")
    with pytest.raises(ShapeError, match="expected rows to compare on, got none"):
        net.to_python(tmp_path / "net", rows=np.zeros((0, 3), np.float32))
    assert not list(tmp_path.iterdir())


def test_the_program_says_how_it_is_called(classifier, tmp_path):
    model, table = classifier
    model.to_python(tmp_path / "predict.py", rows=table)
    done = run_file(tmp_path / "predict.py")
    assert (done.returncode, done.stderr.startswith("usage: python ")) == (1, True)
