"""What files say reaches the terminal as text, and a spreadsheet's formulas are named."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from commands import Ran, run
from hypothesis import given
from hypothesis import strategies as st

import xpnn
from xpnn.arguments import printable
from xpnn.cli.terminal import Shown
from xpnn.data import load_csv
from xpnn.data.encoder import TableEncoder
from xpnn.data.targets import ClassTarget
from xpnn.predictor import Predictor

EVIL = "\x1b[2J\x07\x9b31m\u202e"
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028]")


def table(path, labels, column="size", category="kind"):
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([column, category, "label"])
        for k in range(80):
            writer.writerow([round(rng.normal() + 3 * (k % 2), 3), "AB"[k % 3 == 0] + EVIL, labels[k % 2]])
    return path


@pytest.fixture(scope="module")
def evil(tmp_path_factory):
    """A model, and the table that it was trained on, with control characters wherever there are names."""
    folder = tmp_path_factory.mktemp("evil")
    path = table(folder / "t\x1b[1m.csv", [f"red{EVIL}", "two\nlines"], f"si{EVIL}ze", "ki\x1bnd")
    ran = run("train", path, "--target", "label", "--epochs", 2, "--report", "--out", folder / "run\x1b")
    return ran, path, folder / "run\x1b"


def check(ran: Ran):
    assert CONTROLS.findall(ran.out + ran.err.replace("\r", "")) == []
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    "command",
    [
        "train",
        "check FILE --target label",
        "check FILE --target wrong\x1b",
        "evaluate MODEL FILE",
        "evaluate MODEL FILE --target ki\x1bnd",
        "info MODEL",
        "report RUN",
        "gradcheck --model MODEL",
        "train FILE\x1b --target label",
        "train FILE --target label --drop no\x1b",
        "train FILE --target label --epochs many\x1b",
        "ru\x1bn",
    ],
    ids=repr,
)
def test_no_command_prints_what_acts_on_a_terminal(evil, command):
    trained, path, folder = evil
    if command == "train":
        assert trained.status == 0
        check(trained)
        return
    names = {"FILE": str(path), "MODEL": str(folder / "model.safetensors"), "RUN": str(folder)}
    words = [re.sub("FILE|MODEL|RUN", lambda found: names[found[0]], word) for word in command.split(" ")]
    check(run(*words))


def test_a_label_of_two_lines_is_one_line_of_a_table(evil):
    _, path, folder = evil
    out = run("evaluate", folder / "model.safetensors", path).out
    assert "two\\nlines" in out
    assert "two\nlines" not in out


def test_predictions_and_json_hold_the_labels_as_they_are(evil, tmp_path):
    _, path, folder = evil
    ran = run("predict", folder / "model.safetensors", path, "--out", tmp_path / "p.csv")
    assert ran.status == 0
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as file:
        labels = {row[0] for row in csv.reader(file)} - {"prediction"}
    assert labels == {f"red{EVIL}", "two\nlines"}
    piped = run("predict", folder / "model.safetensors", path, "--out", "-").out
    assert {row[0] for row in csv.reader(io.StringIO(piped, newline=""))} - {"prediction"} == labels
    assert run("check", path, "--target", "label", "--json").json["file"] == str(path)


# -- formulas ----------------------------------------------------------------------------------------------------
def model(path, labels):
    """A model that answers with each of two labels, and the table it reads."""
    source = table(path / "t.csv", labels)
    columns = {name: load_csv(source).columns[name] for name in ("size", "kind")}
    encoder = TableEncoder().fit(columns)
    net = xpnn.Sequential(xpnn.Linear(2, init="xavier_normal"), n_in=len(encoder.feature_names_out))
    Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(labels), encoder, {}).save(path / "model")
    return path / "model", source


@pytest.mark.parametrize("label", ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "\uff1d1+1"])
def test_a_label_that_a_spreadsheet_would_run_is_named(tmp_path, label):
    path, source = model(tmp_path, [label, "fine"])
    for out in (tmp_path / "p.csv", "-"):
        ran = run("predict", path, source, "--out", out)
        assert ran.status == 0
        assert ran.err.count("\n") == 1
        assert re.search(r"note: a spreadsheet would take .+ for a formula\. Labels are written as they are", ran.err)
        written = ran.out if out == "-" else out.read_text(encoding="utf-8")
        assert {label, "fine"} <= {row[0] for row in csv.reader(io.StringIO(written, newline=""))}


@pytest.mark.parametrize("labels", [["-1", "+1"], ["fine", "a=b"], ["-1.5", "2"], [-1, 1]], ids=repr)
def test_numbers_and_other_labels_are_no_formulas(tmp_path, labels):
    assert run("predict", *model(tmp_path, labels), "--out", "-").err == ""


# -- the stream --------------------------------------------------------------------------------------------------
@given(st.text())
def test_any_text_is_shown_without_control_characters(text):
    assert CONTROLS.search(printable(text)) is None
    assert "\n" not in printable(text)
    if text.isascii() and text.isprintable():
        assert printable(text) == text
    stream = io.StringIO()
    assert Shown(stream).write(text) == len(text)
    assert CONTROLS.search(stream.getvalue().replace("\r", "")) is None
    stream.getvalue().encode()  # halves of characters can be written nowhere


def test_data_go_through_unless_to_a_terminal():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, expected in ((io.StringIO(), "\x1b"), (Terminal(), "\\x1b")):
        shown = Shown(stream)
        with shown.raw():
            shown.write("\x1b")
        assert stream.getvalue() == expected
        shown.write("\x1b")
        assert stream.getvalue() == expected + "\\x1b"
        assert shown.isatty() is stream.isatty()
