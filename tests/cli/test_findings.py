"""What `check` knows, `train` says: before the score, in the files and in the report; and what both refuse."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from commands import refused, run, train
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FAST = ("--epochs", 2, "--hidden", "4")
N = 120


pytestmark = pytest.mark.usefixtures("no_pictures")


@pytest.fixture
def table(tmp_path):
    """Return how to write a table from columns by name; each is a function of the row's number."""

    def write(delimiter: str = ";", n: int = N, **columns):
        path = tmp_path / "t.csv"
        rows = [delimiter.join(columns), *(delimiter.join(str(f(i)) for f in columns.values()) for i in range(n))]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return path

    return write


def label(i: int) -> str:
    return "ab"[i % 7 > 3]


def x(i: int) -> float:
    return i * 37 % 101 / 8 + i / 1000


def before_the_score(ran) -> str:
    return ran.out.partition("training rows, ")[0]


# -- what is said --------------------------------------------------------------------------------------------------
def test_a_leak_is_told_before_training_and_beside_the_score(table, tmp_path):
    path = table(x=x, alive=lambda i: {"a": "no", "b": "yes"}[label(i)], survived=label)
    ran = train(path, "--target", "survived", *FAST, "--report", "--out", tmp_path / "run")
    said = "alive: It alone determines survived: in 100% of the rows its value goes with one label."
    assert f"error: {said.replace('alive:', 'alive: leak:')}" in before_the_score(ran)
    lines = ran.out.splitlines()
    score = next(k for k, line in enumerate(lines) if line.startswith("test rows: accuracy"))
    assert lines[score - 1].startswith(f"leak?: {said}")
    assert "(--drop alive)" in lines[score - 1]
    page = re.sub(r"<[^>]+>", " ", (tmp_path / "run" / "report.html").read_text())
    assert page.count(said.removeprefix("alive: ")) == 3, "at the head, on the data, and among the notes"
    assert re.search(r"leak\?: alive", page)
    found = json.loads((tmp_path / "run" / "scores.json").read_text())["audit"]
    assert [(f["severity"], f["check"], f["column"]) for f in found] == [("error", "leak", "alive")]
    told = train(path, "--target", "survived", *FAST, "--json", "--out", tmp_path / "json").json
    assert told["audit"] == found
    assert any("alive: leak:" in note for note in told["notes"])
    info = run("info", tmp_path / "run" / "model.safetensors").out
    assert info.count("alive: leak:") == 1


def test_a_quantity_that_tells_the_target_is_a_leak(table, tmp_path):
    path = table(x=x, pounds=lambda i: 2.5 * x(i * 3) + 1, price=lambda i: x(i * 3))
    ran = train(path, "--target", "price", *FAST, "--out", tmp_path / "run")
    assert "leak?: pounds: It alone determines price" in ran.out
    assert "leak?" not in train(path, "--target", "price", "--drop", "pounds", *FAST, "--out", tmp_path / "run").out


def test_an_identifier_is_seen_in_the_whole_table(table, tmp_path):
    path = table(Id=lambda i: i * 47 % N + 1, x=x, label=label)
    ran = train(path, "--target", "label", *FAST, "--out", tmp_path / "run")
    assert f"Id: identifier: It numbers the rows from 1 to {N}" in before_the_score(ran)
    assert "--drop Id" in before_the_score(ran)


def test_what_is_left_out_is_told_once_and_with_what_it_would_have_told(table, tmp_path):
    path = table(
        n=300,
        x=x,
        name=lambda i: f"{'Mr' if label(i) == 'a' else 'Mrs'} Smith{i}",
        day=lambda i: f"2024-{i % 12 + 1:02}-{i % 28 + 1:02} {i % 24:02}:{i % 60:02}",
        same=lambda i: 7,
        label=label,
    )
    said = before_the_score(train(path, "--target", "label", *FAST, "--out", tmp_path / "run")).splitlines()
    about = {name: [line for line in said if f"{name}:" in line] for name in ("name", "same")}
    assert len(about["same"]) == 1
    assert len(about["name"]) == 2
    assert "name: left out, " in about["name"][0]
    assert "tells something: rows with 'Mr' in it have label 'a' in 100.0%" in about["name"][1]
    assert [line for line in said if line.startswith("day: ")] == [
        line for line in said if "dates from 2024-01-01" in line
    ]
    assert not any("day: dates:" in line for line in said)


def test_dates_in_two_formats_are_told_once(table, tmp_path):
    path = table(x=x, day=lambda i: f"2024-01-{i % 28 + 1:02}" if i % 2 else f"{i % 14 + 14}/01/2024", label=label)
    said = before_the_score(train(path, "--target", "label", *FAST, "--out", tmp_path / "run")).splitlines()
    (line,) = [line for line in said if "two formats" in line]
    assert line.startswith("day: taken as text. Dates in two formats, such as '")


def test_rows_on_both_sides_of_the_split_are_counted(table, tmp_path):
    path = table(x=lambda i: x(i % 90), label=lambda i: label(i % 90))
    assert re.search(
        r"duplicate rows: .* repeat an earlier one in every column; \d+ rows of the 24 held out equal one trained on\.",
        before_the_score(train(path, "--target", "label", *FAST, "--out", tmp_path / "run")),
    )


def test_class_balance_and_grades_are_told(table, tmp_path):
    path = table(n=400, x=x, y=lambda i: int(i % 40 == 0))
    assert "y: class balance: '0' has 39 rows for each of '1'" in before_the_score(
        train(path, "--target", "y", *FAST, "--out", tmp_path / "run")
    )


def test_an_ordinary_table_is_trained_without_a_word(table, tmp_path):
    path = table(x=x, z=lambda i: i * 53 % 97 / 7, label=label)
    ran = train(path, "--target", "label", *FAST, "--report", "--out", tmp_path / "run")
    assert not re.search(r"^(error|warning|note|leak\?):", ran.out, re.M)
    assert "Nothing stands out in the table." in (tmp_path / "run" / "report.html").read_text()
    assert json.loads((tmp_path / "run" / "scores.json").read_text())["audit"] == []


def test_data_without_columns_have_no_audit(tmp_path):
    train("moons", *FAST, "--report", "--out", tmp_path)
    assert "audit" not in json.loads((tmp_path / "scores.json").read_text())
    assert 'id="data"' not in (tmp_path / "report.html").read_text()


def test_check_and_train_find_the_same(table, tmp_path):
    path = table(Id=lambda i: i, x=x, alive=label, gap=lambda i: "" if i % 3 else i, label=label)
    found = run("check", path, "--target", "label", "--json").json["findings"]
    told = train(path, "--target", "label", *FAST, "--json", "--out", tmp_path / "run").json
    assert told["audit"] == found
    for finding in found:
        if finding["severity"] != "note":
            assert any(finding["seen"] in note for note in told["notes"])


# -- numbers in text -----------------------------------------------------------------------------------------------
SURE = {
    "decimal comma": lambda v: f"{v:.2f}".replace(".", ","),
    "thousands": lambda v: f"{1e6 * v:,.1f}",
    "percent": lambda v: f"{v:.1f} %",
    "currency": lambda v: f"${v:.2f}",
    "currency behind": lambda v: f"{v:.2f} €".replace(".", ","),
    "Swiss": lambda v: f"{1e6 * v:,.1f}".replace(",", "'"),
    "narrow spaces": lambda v: f"{1e6 * v:,.1f}".replace(",", "\N{NARROW NO-BREAK SPACE}"),
    "minus sign": lambda v: f"{v - 5:.2f}".replace("-", "\N{MINUS SIGN}"),
    "accounting": lambda v: f"({5 - v:.2f})" if v < 5 else f"{v - 5:.2f}",
    "exponent": lambda v: f"{v:.3e}".replace(".", ","),
}


@pytest.mark.parametrize("how", SURE)
@pytest.mark.parametrize("command", ["check", "train"])
def test_numbers_whose_spelling_is_sure_are_read_and_told(table, tmp_path, command, how):
    path = table(z=lambda i: i * 53 % 97 / 7, temp=lambda i: SURE[how](x(i)), label=label)
    more = () if command == "check" else (*FAST, "--quiet", "--bins", 0, "--out", tmp_path / "run")
    ran = run(command, path, "--target", "label", *more, "--json")
    told = {f["check"]: f for f in ran.json["findings" if command == "check" else "audit"] if f["column"] == "temp"}
    assert "read as numbers" in told["text numbers"]["seen"]
    if command == "train":
        assert any("2 inputs" in note for note in ran.json["notes"]), "one for each number, none for each spelling"


@pytest.mark.parametrize(
    ("cell", "advice"),
    [
        (lambda v: f"{int(100 * v) + 1000:,}", "--decimal . or --decimal ,"),
        (lambda v: f"{v:.2f} kg", "--numeric temp"),
        (lambda v: f"({v:.2f})", "--numeric temp"),
        (lambda v: "x" if v < 0.5 else f"{v}", "--missing=x"),
        (lambda v: f"{v}%" if v < 5 else f"{v}", "one unit"),
    ],
    ids=["thousands or decimals", "unit", "parentheses", "stray word", "units"],
)
@pytest.mark.parametrize("command", ["check", "train"])
def test_what_is_open_is_asked(table, tmp_path, command, cell, advice):
    path = table(x=x, temp=lambda i: cell(x(i)), label=label)
    more = () if command == "check" else (*FAST, "--quiet", "--out", tmp_path / "run")
    ran = run(command, path, "--target", "label", *more, "--json")
    (found,) = (f for f in ran.json["findings" if command == "check" else "audit"] if f["check"] == "text numbers")
    assert (found["severity"], found["column"]) == ("warning", "temp")
    assert advice in found["advice"]


@pytest.mark.parametrize("word", ["NULL", "n/a", "#N/A", "-", ".", "\\N", "none", "missing"])
def test_a_word_for_nothing_among_numbers_is_missing_and_told(table, tmp_path, word):
    path = table(x=lambda i: word if i % 5 == 0 else x(i), label=label)
    ran = train(path, "--target", "label", *FAST, "--bins", 0, "--out", tmp_path / "run")
    said = before_the_score(ran)
    assert f"x: text numbers: All but 24 rows hold numbers; the others hold {word!r}: read as missing." in said
    assert "training rows, 2 inputs" in ran.out, "the number and its flag"


# -- the target ----------------------------------------------------------------------------------------------------
def test_a_target_of_decimal_commas_is_a_quantity(table, tmp_path):
    path = table(x=x, y=lambda i: f"{x(i) / 2:.2f}".replace(".", ","))
    ran = train(path, "--target", "y", *FAST, "--out", tmp_path / "run")
    assert ran.out.startswith("regression: ")
    assert "y: text numbers: 120 rows hold a number with a decimal comma, such as " in before_the_score(ran)


@pytest.mark.parametrize("task", ["auto", "regression"])
def test_a_target_that_may_be_two_quantities_is_refused_and_can_be_told(table, tmp_path, task):
    path = table(x=x, y=lambda i: f"{1000 + 7 * i:,}")
    line = ("train", path, "--target", "y", *FAST, "--quiet", "--task", task, "--out", tmp_path / "run")
    refused(
        run(*line),
        "t.csv: expected numbers or labels in the target 'y', got either. 120 rows hold numbers such as '1,000'.*"
        "--decimal . or --decimal ,.* If they are labels, say --task classification.",
    )
    for mark in ".,":
        ran = train(*line[1:], "--decimal", mark)
        assert "losses are in units of the target's standard deviation" in ran.out


@pytest.mark.parametrize("word", ["NULL", "n/a"])
def test_a_target_with_gaps_names_what_was_read_as_one(table, tmp_path, word):
    path = table(x=x, y=lambda i: word if i % 5 == 0 else x(i))
    line = ("train", path, "--target", "y", *FAST, "--quiet", "--out", tmp_path / "run")
    refused(
        run(*line), f"--target y: expected a value in every row of .*, got none in 24 of 120: {word!r}, in 24 of them"
    )


def test_a_target_with_a_stray_word_is_refused_by_its_word(table, tmp_path):
    path = table(x=x, y=lambda i: "broken" if i == 50 else x(i) + 0.5)
    line = ("train", path, "--target", "y", *FAST, "--quiet", "--out", tmp_path / "run")
    refused(run(*line), "All but 1 row hold numbers; the others hold 'broken'. .*--missing=broken")


def test_a_target_in_a_unit_can_be_told(table, tmp_path):
    path = table(x=x, y=lambda i: f"{x(i)} kg")
    line = ("train", path, "--target", "y", *FAST, "--quiet", "--out", tmp_path / "run")
    refused(run(*line), "quantities in 'kg', or names.* say --numeric y ")
    assert run(*line, "--numeric", "y").out.startswith("regression: ")
    assert run("evaluate", tmp_path / "run" / "model.safetensors", path).status == 0


def test_labels_that_are_amounts_are_the_same_in_every_file(table, tmp_path):
    path = table(x=x, price=lambda i: f"${5 * (i % 3)}")
    for more in ((), ("--test-file", path)):
        ran = train(path, "--target", "price", *more, *FAST, "--out", tmp_path / "run")
        assert ran.out.startswith("classification: ")
    assert run("evaluate", tmp_path / "run" / "model.safetensors", path).status == 0


def test_a_numeric_column_that_is_open_is_refused_with_what_answers_it(table, tmp_path):
    path = table(x=lambda i: f"{1000 + 7 * i:,}", label=label)
    line = ("train", path, "--target", "label", "--numeric", "x", *FAST, "--quiet", "--out", tmp_path / "run")
    refused(run(*line), "--numeric: expected numbers in column 'x'.*--decimal . or --decimal ,")
    assert run(*line, "--decimal", ".").status == 0


# -- small tables --------------------------------------------------------------------------------------------------
SMALL = {
    "one column": ("y\na\nb\na\nb\n", (), "t.csv: expected a column besides the target 'y', got none"),
    "all dropped": ("x,y\n1,a\n2,b\n3,a\n", ("--drop", "x"), "besides the target 'y' that is not dropped, got none"),
    "one row": (
        "x,y\n1,a\n",
        (),
        "t.csv: expected at least a row to train on and one for each of --test-size and --val",
    ),
    "two rows": ("x,y\n1,a\n2,b\n", (), "got 2 rows, 1 of them to be tested on. Add rows, or hold fewer out"),
    "all rows test": ("x,y\n" + "1,a\n2,b\n" * 9, ("--test-size", 0.99), "got 18 rows, 17 of them to be tested on"),
    "one class": ("x,y\n" + "1,a\n2,a\n" * 9, (), "target: expected at least two classes, got only 'a' in all 18 rows"),
    "one value": ("x,y\n" + "1,a\n1,b\n" * 9, (), "t.csv: expected a column that varies, got none. x: left out"),
    "no value": ("x,y\n" + ",a\n,b\n" * 9, (), "t.csv: expected a column that varies, got none. x: left out"),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_tables_are_refused_in_the_words_of_the_user(tmp_path, name):
    text, options, message = SMALL[name]
    (tmp_path / "t.csv").write_text(text)
    ran = run("train", tmp_path / "t.csv", "--target", "y", *FAST, "--quiet", "--out", tmp_path / "run", *options)
    refused(ran, message)
    assert not re.search("TableEncoder|stratified_indices|ClassTarget|NumberTarget", ran.err)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "1", "2,5", "", "NULL"]), min_size=2, max_size=2), min_size=1, max_size=6
    ),
    st.sampled_from([0, 0.2, 0.9]),
    st.sampled_from([0, 0.1]),
)
def test_tiny_tables_train_or_are_refused_in_one_line(tmp_path, rows, test, validation):
    path = tmp_path / "t.csv"
    path.write_text("x;y\n" + "".join(f"{a};{b}\n" for a, b in rows))
    sizes = ("--test-size", test, "--validation-size", validation)
    ran = run("train", path, "--target", "y", *FAST, *sizes, "--quiet", "--out", tmp_path / "run")
    assert ran.status in (0, 2)
    if ran.status:
        assert ran.err.count("\n") == 1, ran.err
        assert not re.search(r"TableEncoder|stratified|ClassTarget|NumberTarget|Traceback", ran.err)


def test_names_with_commas_stand_in_the_advice_as_the_option_wants_them(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('"size, cm",x,y\n' + "".join(f"3,{x(i)},{label(i)}\n" for i in range(60)))
    ran = run("check", path, "--target", "y", "--json")
    assert [f["advice"] for f in ran.json["findings"]] == ["""Leave it out (--drop '"size, cm"')."""]


def test_findings_of_a_damaged_run_are_refused(table, tmp_path):
    train(table(x=x, label=label), "--target", "label", *FAST, "--out", tmp_path / "run")
    scores = tmp_path / "run" / "scores.json"
    whole = json.loads(scores.read_text())
    for audit in (1, [1], [{"check": "leak"}], {}):
        scores.write_text(json.dumps({**whole, "audit": audit}))
        refused(run("report", tmp_path / "run"), "scores.json: expected what xpnn train writes, got something else for")
    assert np.isfinite(whole["scores"]["accuracy"])


# -- dates -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("answer", "last"), [("yes", "2024-10-12"), ("no", "2024-12-10")])
@pytest.mark.parametrize("preset", ["none", "quick"])
def test_dates_that_leave_the_day_open_are_asked_about_and_answered(table, tmp_path, preset, answer, last):
    path = table(x=x, day=lambda i: f"{i % 12 + 1}/{i // 12 + 1}/2024", y=label)
    (asked,) = run("check", path, "--target", "y", "--json").json["findings"]
    assert asked["seen"].startswith(
        "Dates such as '1/1/2024' have the day or the month first. They are read as 120 cat"
    )
    assert "say --dayfirst yes or no" in asked["advice"]
    (told,) = run("check", path, "--target", "y", "--json", "--dayfirst", answer).json["findings"]
    assert told["seen"].startswith("Dates as text, such as '1/1/2024': read as days")
    ran = train(
        path,
        "--target",
        "y",
        "--preset",
        preset,
        "--epochs",
        2,
        "--dayfirst",
        answer,
        "--json",
        "--out",
        tmp_path / "r",
    )
    assert any(note.startswith(f"day: dates from 2024-01-01 to {last}") for note in ran.json["notes"]), ran.json[
        "notes"
    ]
