"""The model's schema decides how a file is read: a row has one answer, whatever rows stand beside it."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from commands import refused, run, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnn.cli.sources import names
from xpnn.data import load_csv
from xpnn.predictor import Predictor

HEADER = ["code", "n", "grade", "price", "size, cm"]
#: Cells of each column, as training has them, and as other files may.
CELLS = {
    "code": ["01", "02", "10", "A1", "1", "2.0", "", "007", "new"],
    "n": ["1", "2", "3.5", "1.0", "1e0", "", "?", "01", "-4", "NULL"],
    "grade": ["1", "2", "3", "1.0", "02", "", "4", "x"],
    "price": ["1,5", "2,25", "1.234,5", "7", "", "-3"],
    "size, cm": ["5", "6.5", "1e1", ""],
}
LABELS = ["01", "02", "x"]


pytestmark = pytest.mark.usefixtures("no_pictures")


def write(path, rows, header=HEADER):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows] if header else rows)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model of labels that look like numbers, and one of a quantity with a decimal comma."""
    path = tmp_path_factory.mktemp("schema")
    rng = np.random.default_rng(0)
    first = {name: cells[:3] if name != "code" else cells[:4] for name, cells in CELLS.items()}
    rows = [[str(rng.choice(cells)) for cells in first.values()] for _ in range(120)]
    labelled = [[*row, LABELS[row[0] > "01"] if row[0] != "A1" else "x"] for row in rows]
    write(path / "train.csv", labelled, [*HEADER, "y"])
    options = ("--categorical", "grade", "--epochs", 3, "--hidden", "8", "--quiet")
    for name, target, drop in (("labels", "y", "n"), ("price", "price", "y")):
        ran = run("train", path / "train.csv", "--target", target, "--drop", drop, *options, "--out", path / name)
        assert ran.status == 0, ran.err
    return path


def predicted(folder, path, *options, model="labels"):
    ran = run("predict", folder / model / "model.safetensors", path, "--out", "-", *options)
    return ran.out.splitlines()[1:] if ran.status == 0 else ran.err.strip().rpartition("xpnn predict: ")[2]


rows_of_any_kind = st.lists(st.tuples(*(st.sampled_from(cells) for cells in CELLS.values())), min_size=2, max_size=12)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=rows_of_any_kind, model=st.sampled_from(["labels", "price"]), data=st.data())
def test_pieces_of_a_file_are_predicted_as_the_whole(folder, tmp_path, rows, model, data):
    cut, options = data.draw(st.integers(1, len(rows) - 1)), ("--proba",) if model == "labels" else ()
    whole, *pieces = [
        predicted(folder, write(tmp_path / "part.csv", part), *options, model=model)
        for part in (rows, rows[:cut], rows[cut:])
    ]
    assert not any(isinstance(answer, str) for answer in (whole, *pieces))
    for one, other in zip(whole, pieces[0] + pieces[1], strict=True):
        cells, others = one.split(","), other.split(",")
        if model == "labels":
            assert cells.pop(0) == others.pop(0)
        # A product of one row may be summed in another order than one of many.
        assert list(map(float, cells)) == pytest.approx(list(map(float, others)), rel=1e-4)
    if model == "labels":  # and in Python, from the table and from its columns as they are written
        table = load_csv(tmp_path / "part.csv")
        predictor = Predictor.load(folder / "labels" / "model.safetensors")
        for raw in (table, table.written):
            assert predictor.predict(raw).tolist() == [line.partition(",")[0] for line in pieces[1]]


@given(st.lists(st.sampled_from(LABELS), min_size=2, max_size=8), st.integers(1, 7))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_of_a_file_are_scored_as_the_whole(folder, tmp_path, labels, cut):
    rows = [["01", "1", "1", "1,5", "5", label] for label in labels]
    model, matrix = folder / "labels" / "model.safetensors", []
    for part in filter(None, (rows, rows[:cut], rows[cut:])):
        ran = run("evaluate", model, write(tmp_path / "part.csv", part, [*HEADER, "y"]), "--json")
        assert ran.status == 0, ran.err
        matrix.append(np.asarray(ran.json["confusion"]))
    np.testing.assert_array_equal(matrix[0], sum(matrix[1:]))


def test_an_error_is_of_its_row(folder, tmp_path):
    good, bad = ["01", "1", "1", "1,5", "5"], ["01", "1", "1", "1,5", "x5"]
    message = "column 'size, cm': expected a number, got 'x5' in data row"
    for rows in ([good, bad], [bad, good], [bad]):
        refused(
            run("predict", folder / "labels" / "model.safetensors", write(tmp_path / "bad.csv", rows), "--out", "-"),
            message,
        )
    assert len(predicted(folder, write(tmp_path / "good.csv", [good, good]))) == 2


def test_a_file_without_header_is_read_by_the_names_of_the_training(folder, tmp_path):
    rows = [["02", "1", "1", "1,5", "5"], ["A1", "2", "2", "7", "6"]]
    named = predicted(folder, write(tmp_path / "named.csv", rows), "--proba")
    ran = run(
        "predict",
        folder / "labels" / "model.safetensors",
        write(tmp_path / "bare.csv", rows, None),
        "--out",
        "-",
        "--proba",
    )
    assert ran.out.splitlines()[1:] == named
    assert (
        "bare.csv: no header row found: columns are named in the order of those before: code, n, grade, price"
        in ran.err
    )
    # columns in another order, and the index of a frame, are found by name
    other = [[str(k), *row[::-1]] for k, row in enumerate(rows)]
    assert predicted(folder, write(tmp_path / "other.csv", other, ["", *HEADER[::-1]]), "--proba") == named


def test_a_model_that_knows_no_order_asks_for_a_header(folder, tmp_path):
    predictor = Predictor.load(folder / "labels" / "model.safetensors")
    for name in ("columns", "header"):
        del predictor.info[name]
    predictor.save(tmp_path / "old.safetensors")
    rows = [["02", "1", "1", "1,5", "5"], ["A1", "2", "2", "7", "6"]]
    ran = run("predict", tmp_path / "old.safetensors", write(tmp_path / "bare.csv", rows, None), "--out", "-")
    refused(ran, r"bare\.csv: expected a header, got none, and this model does not know the order")
    ran = run("predict", tmp_path / "old.safetensors", write(tmp_path / "named.csv", rows), "--out", "-")
    assert ran.out.split()[1:] == [line for line in predicted(folder, tmp_path / "named.csv")]


def test_test_files_are_read_by_the_schema(folder, tmp_path):
    rows = [["01", "1", "1", "1,5", "5", "01"], ["02", "2", "2", "7", "6", "02"]] * 5
    test = write(tmp_path / "test.csv", rows, [*HEADER, "y"])
    for target, score in (("y", "accuracy"), ("price", "rmse")):
        args = ("--target", target, "--test-file", test, "--epochs", 2, "--hidden", "8", "--json", "--out", tmp_path)
        ran = train(folder / "train.csv", *args)
        again = run("evaluate", tmp_path / "model.safetensors", test, "--json").json
        assert again[score] == ran.json["scores"][score]
    assert json.loads((tmp_path / "scores.json").read_text())["columns"] == [*HEADER, "y"]


@pytest.mark.parametrize("labels", [["01", "02", "x"], [str(2**53 + k) for k in range(3)], ["0.1", "1.0", "2.0"]])
def test_labels_are_classes_as_they_are_written(tmp_path, labels):
    rows = [[str(i % 7), "abc"[i % 3], labels[i % 3]] for i in range(90)]
    write(tmp_path / "t.csv", rows, ["n", "c", "y"])
    train(
        tmp_path / "t.csv",
        "--target",
        "y",
        "--task",
        "classification",
        "--epochs",
        2,
        "--hidden",
        "8",
        "--out",
        tmp_path,
    )
    classes = Predictor.load(tmp_path / "model.safetensors").target.classes
    assert [str(c) for c in classes] == labels
    ran = run(
        "evaluate", tmp_path / "model.safetensors", write(tmp_path / "one.csv", rows[:2], ["n", "c", "y"]), "--json"
    )
    assert ran.json["rows"] == 2


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, object])
def test_labels_of_arrays_keep_all_digits(tmp_path, dtype):
    y = np.array([2**53 + i % 3 for i in range(90)], dtype=np.int64 if dtype is object else dtype)
    np.savez(tmp_path / "t.npz", X=np.eye(3)[np.arange(90) % 3], y=y)
    ran = train(tmp_path / "t.npz", "--task", "classification", "--epochs", 1, "--json", "--out", tmp_path)
    assert len(ran.json["scores"]["confusion"]) == 3
    ran = run("predict", tmp_path / "model.safetensors", tmp_path / "t.npz", "--out", "-")
    assert set(map(int, ran.out.split()[1:])) <= {2**53, 2**53 + 1, 2**53 + 2}


def test_a_class_that_is_read_as_missing_is_told(tmp_path):
    rows = [[str(i % 5), ["None", "a", "b"][i % 3]] for i in range(60)]
    path = write(tmp_path / "t.csv", rows, ["x", "y"])
    message = r"--target y: expected a value in every row of .*t\.csv, got none in 20 of 60: 'None', in 20 of them, is"
    refused(run("train", path, "--target", "y", "--out", tmp_path), message)
    ran = train(path, "--target", "y", "--missing", "?", "--epochs", 1, "--json", "--out", tmp_path)
    assert len(ran.json["scores"]["confusion"]) == 3


# -- names with commas ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("text", ["size, cm", '"size, cm"', '"size, cm",n', 'n, "size, cm"'])
def test_names_with_commas(folder, tmp_path, text):
    args = ("--target", "y", "--epochs", 1, "--hidden", "8", "--out", tmp_path)
    train(folder / "train.csv", *args, "--drop", text)
    used = Predictor.load(tmp_path / "model.safetensors").encoder.feature_names_in
    assert "size, cm" not in used
    assert ("n" in used) == ("n" not in text.replace("cm", ""))
    train(folder / "train.csv", *args, "--categorical", text)
    assert "size, cm=5" in Predictor.load(tmp_path / "model.safetensors").encoder.feature_names_out
    train(folder / "train.csv", *args, "--numeric", text)


def test_names_that_are_not_there(folder, tmp_path):
    refused(
        run("train", folder / "train.csv", "--target", "y", "--drop", "size, cm,n", "--out", tmp_path),
        r"--drop: expected columns among .*, got cm, size\. .*one that holds a comma stands in double quotes",
    )
    refused(
        run("train", folder / "train.csv", "--target", "y", "--drop", '"size', "--out", tmp_path),
        "Put a name that holds",
    )
    assert names(None) == names("") == names(" , ") == []
