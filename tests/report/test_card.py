"""The card of a model: what it says is so, a person's words stay, and no name in the data does anything."""

from __future__ import annotations

import contextlib
import io
import json
import re

import numpy as np
import pytest
import yaml
from commands import refused, run, train
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from xpnn.confidence import wilson
from xpnn.predictor import load_predictor
from xpnn.report import read_run, run_of_card
from xpnn.report.markdown import code, front_matter, table, text

EVIL = "<script>alert(1)</script>"
EVIL_COLUMN = "x|y`` [a](http://e.org) <img src=x onerror=y>\n---\ntags: evil"
RENDER = MarkdownIt("commonmark").enable("table")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs of classes and numbers with hostile names, and one of points."""
    home = tmp_path_factory.mktemp("cards")
    rng = np.random.default_rng(0)
    age, debt = rng.normal(40, 10, 240), rng.normal(0, 3, 240)
    noisy = age + 4 * rng.normal(size=240)
    quoted = '"' + EVIL_COLUMN + '"'
    rows = [
        f"{a:.2f},{d:.2f},{EVIL if n > 40 else 'no'},{2000 * a:.1f}" for a, d, n in zip(age, debt, noisy, strict=True)
    ]
    (home / "table.csv").write_text("\n".join([f"age,{quoted},label,price", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.cli.results._pictures", lambda *args: [])
        short = ("--epochs", 4, "--hidden", "8")
        train(home / "table.csv", "--target", "label", "--drop", "price", *short, "--out", home / "classes")
        train(home / "table.csv", "--target", "price", "--drop", "label", *short, "--out", home / "numbers")
        train("moons", *short, "--out", home / "moons")
    for name in KINDS:
        ran = run("report", home / name, "--card")
        assert (ran.status, ran.out) == (0, f"wrote {home / name / 'README.md'}\n"), ran.err
    return home


KINDS = ("classes", "numbers", "moons")
each_kind = pytest.mark.parametrize("kind", KINDS)


def card(folder) -> tuple[dict, str]:
    """The front matter, and what comes after it."""
    _, front, rest = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), rest


@each_kind
def test_front_matter_says_what_was_scored(home, kind):
    front, _ = card(home / kind)
    scores = json.loads((home / kind / "scores.json").read_text())["scores"]
    assert list(front) == ["library_name", *(["pipeline_tag"] * (kind != "moons")), "tags", "metrics", "model-index"]
    (model,) = front["model-index"]
    (result,) = model["results"]
    assert model["name"] == kind
    assert result["dataset"]["split"] == scores["on"] == "test rows"
    found = {each["type"]: each["value"] for each in result["metrics"]}
    if kind == "numbers":
        assert result["task"]["type"] == front["pipeline_tag"] == "tabular-regression"
        assert found == {
            "rmse": pytest.approx(scores["rmse"], rel=1e-5),
            "mae": pytest.approx(scores["mae"], rel=1e-5),
            "r_squared": pytest.approx(scores["r2"], rel=1e-5),
        }
    else:
        assert found["accuracy"] == pytest.approx(scores["accuracy"], rel=1e-5)
    assert front["metrics"] == list(found)


@each_kind
def test_its_sections_are_those_of_a_card_and_all_to_fill_in_is_marked(home, kind):
    _, body = card(home / kind)
    sections = re.findall("^## (.*)$", body, flags=re.MULTILINE)
    assert sections == [
        *("Use", "How to use it", "Data", "Scores", "Beside simple models", "Where it fails", "What it leans on"),
        "Training",
    ]
    assert body.count("> **To fill in:**") == 4
    assert str(home) not in body, "where files lie is nobody's business"


def test_intervals_are_those_of_the_scores(home):
    scores = json.loads((home / "classes" / "scores.json").read_text())["scores"]
    low, high = wilson(scores["accuracy"], scores["rows"])
    _, body = card(home / "classes")
    row = re.search(r"^\| Accuracy \| (.*) % \| (.*) % to (.*) % \|$", body.replace("\xa0", " "), re.MULTILINE)
    assert [float(cell) for cell in row.groups()] == [
        pytest.approx(100 * share, abs=0.06) for share in (scores["accuracy"], low, high)
    ]
    numbers = json.loads((home / "numbers" / "scores.json").read_text())["scores"]
    pairs = json.loads((home / "numbers" / "evidence.json").read_text())["pairs"]
    error = np.abs(np.subtract(pairs["truth"], pairs["prediction"]))
    row = re.search(r"^\| MAE \| (.*) \| (.*) to (.*) \|$", card(home / "numbers")[1], re.MULTILINE)
    mean, low, high = (float(cell.replace(",", "")) for cell in row.groups())
    assert mean == pytest.approx(numbers["mae"], rel=1e-3)
    assert (low + high) / 2 == pytest.approx(mean, rel=1e-3)
    assert high - low == pytest.approx(2 * 2.01 * error.std(ddof=1) / np.sqrt(len(error)), rel=0.01)


@each_kind
def test_what_it_says_of_loading_runs(home, kind, monkeypatch):
    _, body = card(home / kind)
    (block,) = re.findall(r"^```python\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(home / kind)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, "card", "exec"), {})
    assert out.getvalue().count("\n") >= 1
    if kind == "classes":
        assert out.getvalue().splitlines()[0] in (f"['{EVIL}']", "['no']")


@each_kind
def test_hostile_names_are_shown_and_nothing_else(home, kind):
    html = RENDER.render(card(home / kind)[1])
    assert not re.search("<(script|img|a|iframe)[ >]", html)
    tables = re.findall("<table>(.*?)</table>", html, flags=re.DOTALL)
    for found in tables:
        widths = {len(re.findall("<t[hd]", row)) for row in re.findall("<tr>(.*?)</tr>", found, flags=re.DOTALL)}
        assert len(widths) == 1, "a bar in a name makes no column"
    if kind != "moons":
        column = load_predictor(home / kind).schema.columns[1].name
        assert "onerror" in column
        assert "&lt;img src=x onerror=y&gt;" in html


def test_a_card_is_replaced_until_somebody_writes_in_it(home):
    folder, path = home / "moons", home / "moons" / "README.md"
    written = path.read_bytes()
    assert run_of_card(path) == read_run(folder).info["run"]["id"]
    assert run("report", folder, "--card").status == 0
    assert path.read_bytes() == written
    path.write_text(written.decode().replace("> **To fill in:** what is this", "It is for fun. What is this"))
    filled = path.read_bytes()
    assert run_of_card(path) is None
    refused(
        run("report", folder, "--card"), "--card: expected a new file, or a card that nobody has changed, got .*--out"
    )
    assert path.read_bytes() == filled
    ran = run("report", folder, "--card", "--out", folder / "new.md", "--json")
    assert (ran.status, ran.json["file"]) == (0, str(folder / "new.md"))
    assert (folder / "new.md").read_bytes() == written
    path.write_bytes(written)


def test_a_new_run_takes_the_card_of_the_old_one_away(home, no_pictures):
    folder = home / "again"
    for epochs in (1, 2):
        train("moons", "--epochs", epochs, "--hidden", "4", "--out", folder)
        assert not (folder / "README.md").exists()
        assert run("report", folder, "--card").status == 0


def test_a_run_without_evidence_has_a_shorter_card(home, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("scores.json", "history.csv", "model.safetensors"):
        (folder / name).write_bytes((home / "numbers" / name).read_bytes())
    assert run("report", folder, "--card").status == 0
    _, body = card(folder)
    assert "## Scores" in body
    assert "## Beside simple models" not in body


def test_options_that_would_do_nothing(home):
    refused(run("report", home / "moons", home / "classes", "--card"), "--card: expected one run .*, got 2 runs")
    refused(run("report", home / "moons", "--card", "--open"), "--card: expected one run .*, got --open")


# -- Markdown and YAML of anything -----------------------------------------------------------------------------------
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(
    [
        "---",
        "1. a",
        "- a",
        "# a",
        "a|b",
        "``",
        "`a``b`",
        "<b>",
        "[a](b)",
        "![a](b)",
        "a_b_c",
        "**",
        "\\",
        "\\|",
        "&lt;",
        "~~~",
        "yes",
    ]
)


def shown(html: str) -> str:
    """The text of a page, without what Markdown adds around it."""
    tags = re.sub("<[^>]*>", "", html)
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        tags = tags.replace(entity, sign)
    return " ".join(tags.split())


@settings(max_examples=60)
@given(words)
def test_text_and_code_are_shown_as_they_are(word):
    from xpnn.arguments import printable

    plain = " ".join(printable(word).split())
    for html in (RENDER.render(f"Of {text(word)}."), RENDER.render(f"Of {code(word)}.")):
        assert set(re.findall("<([a-z]+)", html)) <= {"p", "code"}
        assert shown(html) == " ".join(f"Of {plain}.".split()) or not plain or word != word.strip()
    lines = table(["a", "b"], [[code(word, cell=True), text(word)]])
    html = RENDER.render("\n".join(lines))
    assert len(re.findall("<td", html)) == 2
    assert set(re.findall("<([a-z]+)", html)) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


@settings(max_examples=60)
@given(
    st.recursive(
        words | st.integers() | st.booleans() | st.floats(-1e6, 1e6),
        lambda inner: st.lists(inner, min_size=1, max_size=3),
        max_leaves=4,
    ),
    words,
)
def test_front_matter_comes_back(value, key):
    lines = front_matter({"a": value, "b": [{"c": key, "d": [key]}]})
    assert lines[0] == lines[-1] == "---"
    assert "---" not in lines[1:-1]
    found = yaml.safe_load("\n".join(lines[1:-1]))
    assert found["b"] == [{"c": key, "d": [key]}]
    assert close(found["a"], value)


def close(found, value) -> bool:
    if isinstance(value, list):
        return len(found) == len(value) and all(map(close, found, value))
    return found == pytest.approx(value, rel=1e-5, abs=1e-11) if type(value) is float else found == value
