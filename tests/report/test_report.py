"""The page of a run: that it says what happened, holds all of itself, and looks right in a real browser."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html.parser
import io
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused, run, train

import xpnn
from xpnn.cli import make_parser, results
from xpnn.cli.sources import open_source
from xpnn.data.targets import ClassTarget, NumberTarget
from xpnn.errors import OptionError, ShapeError
from xpnn.predictor import Predictor
from xpnn.report import Run, collect_evidence, evidence, read_run, write_comparison, write_report
from xpnn.report.words import count, number, percent

EVIL = "<script>document.title='run'</script>"
EVIL_COLUMN = "<img src=x onerror=document.title='run'>"


@pytest.fixture(scope="module", autouse=True)
def _with_matplotlib():
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xpnn[plots]'")
    pytest.importorskip("jinja2", reason="needs Jinja2: pip install 'xpnn[report]'")


class Parsed(html.parser.HTMLParser):
    """The tags of a page, the text of each section, and its tables."""

    EMPTY = ("meta", "img", "br", "link")

    def __init__(self, page: str | Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.headings: list[str] = []
        self.feed(page.read_text(encoding="utf-8") if isinstance(page, Path) else page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag in ("h1", "h2", "h3"):
            self.headings.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes what is not open"

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data
        elif self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"[ \n]+", " ", " ".join(self.words))

    def table(self, *header: str) -> list[list[str]]:
        """The rows of the table whose header begins so."""
        return next(rows[1:] for rows in self.tables if rows[0][: len(header)] == list(header))


# -- runs -------------------------------------------------------------------------------------------------------
def write_table(path: Path, n: int = 240) -> None:
    rng = np.random.default_rng(0)
    age, debt = rng.normal(40, 10, n), rng.normal(0, 3, n)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["age", EVIL_COLUMN, "colour", "label", "price"])
        for i in range(n):
            colour = "red" if i % 3 else "blue"
            noisy = age[i] + 4 * rng.normal() > 40
            cells = [f"{age[i]:.3f}", f"{debt[i]:.3f}" if i % 9 else "", colour, EVIL if noisy else "no"]
            writer.writerow([*cells, f"{2000 * age[i] + 3000 * rng.normal():.2f}"])


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A folder for each kind of run, with its page."""
    home, draw = tmp_path_factory.mktemp("runs"), results._pictures

    def points_alone(*args):  # the pictures beside the page take longer than all the training
        return draw(*args) if args[-1] is not None else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "_pictures", points_alone)
        make_runs(home)
    return {name: home / name for name in KINDS} | {"home": home}


def make_runs(home: Path) -> None:
    table = home / "table.csv"
    write_table(table)
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (150, 6, 5, 3)).astype(np.uint8)
    np.savez(home / "colours.npz", X=colours, y=rng.integers(0, 2, 150))
    X, y = xpnn.data.make_blobs(900, 0.02, 0, n_classes=60)
    np.savez(home / "many.npz", X=X, y=y)
    short = ("--hidden", "16", "--report")
    train("digits", "--epochs", 6, *short, "--out", home / "digits")
    train("moons", "--epochs", 20, *short, "--out", home / "moons")
    train(table, "--target", "label", "--drop", "price", "--epochs", 8, *short, "--out", home / "classes")
    train(table, "--target", "price", "--drop", "label", "--epochs", 8, *short, "--out", home / "numbers")
    train(home / "colours.npz", "--epochs", 2, *short, "--out", home / "colours")
    train(home / "many.npz", "--task", "classification", "--epochs", 2, *short, "--out", home / "many")
    train("digits", "--epochs", 1, "--validation-size", 0, "--test-size", 0, *short, "--out", home / "bare")


KINDS = ("digits", "moons", "classes", "numbers", "colours", "many", "bare")
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def pages(runs) -> dict[str, Parsed]:
    return {kind: Parsed(runs[kind] / "report.html") for kind in KINDS}


def scores_of(folder: Path) -> dict:
    return json.loads((folder / "scores.json").read_text())["scores"]


def evidence_of(folder: Path) -> dict:
    return json.loads((folder / "evidence.json").read_text())


# -- in the browser ---------------------------------------------------------------------------------------------
LOOKS = """(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const outside = svg => {
    const box = svg.getBoundingClientRect();
    return [...svg.querySelectorAll('text')].filter(text => {
      const own = text.getBoundingClientRect();
      return own.left < box.left - 2 || own.right > box.right + 2
        || own.top < box.top - 2 || own.bottom > box.bottom + 2;
    }).map(text => text.textContent);
  };
  const ids = all('[id]').map(element => element.id);
  const style = getComputedStyle(document.body);
  return {
    scripts: document.scripts.length,
    cutText: all('svg').flatMap(outside),
    unnamedPictures: all('svg').filter(svg => !svg.querySelector('title')?.textContent
      || !svg.getAttribute('aria-labelledby').split(' ').every(id => document.getElementById(id))).length,
    images: all('img').length,
    brokenImages: all('img').filter(image => !image.naturalWidth).length,
    unnamedImages: all('img').filter(image => !image.alt).length,
    charts: all('figure.chart svg').length,
    doubleIds: ids.filter((id, i) => ids.indexOf(id) !== i),
    deadLinks: all('a').filter(a => !document.getElementById(a.getAttribute('href').slice(1))).length,
    deafBoxes: all('.scroll').filter(box => box.tabIndex !== 0 || !box.getAttribute('aria-label')).length,
    firstStop: all('a, button, [tabindex]')[0].textContent,
    headings: all('h1, h2, h3').map(heading => heading.tagName).join(' '),
    smallest: Math.min(...all('main p, main td, main dd, main li, figcaption small')
      .map(element => parseFloat(getComputedStyle(element).fontSize))),
    paper: style.backgroundColor, ink: style.color,
  };
})()"""


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@each_kind
@pytest.mark.parametrize("width", [360, 1280])
def test_page_in_the_browser(runs, browser, kind, width):
    page = browser(runs[kind] / "report.html", width, 800, script=LOOKS)
    assert page.overflow == []
    assert page.errors == []
    assert page.requests == []
    assert page.title == f"{kind}: xpnn report"
    look = page.result
    for name in ("scripts", "unnamedPictures", "brokenImages", "unnamedImages", "deadLinks", "deafBoxes"):
        assert look[name] == 0, name
    assert look["cutText"] == []
    assert look["doubleIds"] == []
    assert look["firstStop"] == "Skip to the content"
    assert look["headings"].startswith("H1 H2 ")
    assert look["headings"].count("H1") == 1
    assert look["charts"] >= 4
    assert look["smallest"] >= 12
    assert luminance(look["paper"]) > 0.9
    assert page.png_path.stat().st_size > 20_000


@pytest.mark.parametrize("width", [360, 1280])
def test_comparison_in_the_browser(runs, browser, width, tmp_path):
    path = tmp_path / "all.html"
    write_comparison([read_run(runs[kind]) for kind in KINDS], path)
    page = browser(path, width, 800, script=LOOKS)
    assert (page.overflow, page.errors, page.requests) == ([], [], [])
    assert (page.result["cutText"], page.result["doubleIds"], page.result["deadLinks"]) == ([], [], 0)
    for kind in KINDS:
        assert kind in page.text


def test_dark_and_on_paper(runs, browser):
    dark = browser(runs["numbers"] / "report.html", 1280, 800, dark=True, script=LOOKS)
    paper, ink = luminance(dark.result["paper"]), luminance(dark.result["ink"])
    assert paper < 0.02
    assert (ink + 0.05) / (paper + 0.05) > 7
    printed = browser(runs["numbers"] / "report.html", 700, 800, media="print", dark=True, script=LOOKS)
    assert luminance(printed.result["paper"]) > 0.9
    assert printed.overflow == []
    assert "Run it again" in printed.text
    assert "Skip to the content" not in printed.text


def test_labels_are_text_and_nothing_runs(runs, browser):
    page = browser(runs["classes"] / "report.html", 1280, 800, script="document.querySelectorAll('img').length")
    assert page.title == "classes: xpnn report"
    assert EVIL in page.text
    assert EVIL_COLUMN in page.text
    assert page.result == 0
    assert page.errors == []


def test_names_of_runs_are_text_too(runs, browser, tmp_path):
    folder = tmp_path / "<b onclick=x>&amp;"
    shutil.copytree(runs["digits"], folder)
    assert run("report", folder).status == 0
    one = browser(folder / "report.html", 360, 800, script="document.querySelectorAll('b').length")
    assert run("report", folder, runs["moons"], "--out", tmp_path / "two.html").status == 0
    two = browser(tmp_path / "two.html", 360, 800, script="document.querySelectorAll('b').length")
    for page in (one, two):
        assert folder.name in page.text
        assert (page.result, page.overflow, page.errors) == (0, [], [])


def test_the_browser_sees_what_is_wrong(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><meta name=viewport content='width=device-width'><title>bad</title>"
        "<p style='width:500px'>too wide</p><div style='overflow:auto'><p style='width:900px'>in a box</p></div>"
        "<img src='nowhere.png'>"
        "<script>console.error('said', 'so'); document.title = 'ran'; throw Error('thrown')</script>"
        "<script src='http://example.org/x.js'></script>"
    )
    page = browser(bad, 360, 640, script="new Promise(done => setTimeout(() => done([innerWidth, 6 * 7]), 5))")
    assert page.overflow[0].startswith("the page: 5")
    assert [line.partition(" ")[0] for line in page.overflow[1:]] == ["p"]
    assert "too wide" in page.overflow[1]
    problems = " | ".join(page.errors)
    for word in ("said so", "thrown", "ERR_FILE_NOT_FOUND", "ERR_NAME_NOT_RESOLVED"):
        assert word in problems, word
    assert [address.rpartition("/")[2] for address in page.requests] == ["nowhere.png", "x.js"]
    assert (page.title, page.result[1]) == ("ran", 42)
    assert "in a box" in page.text
    fine = browser(bad, 1280, 640, script="[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches]")
    assert fine.overflow == []
    assert fine.result == [1280, False]


# -- the file ---------------------------------------------------------------------------------------------------
@each_kind
def test_page_holds_all_of_itself(runs, pages, kind):
    text = (runs[kind] / "report.html").read_text()
    assert len(text) < 600_000
    assert "http://" not in text
    assert "https://" not in text
    loading = {"src", "href", "data", "action", "srcset", "poster", "background"}
    for tag, attributes in pages[kind].tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base"), tag
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        for name in loading & attributes.keys():
            assert attributes[name].startswith(("#", "data:image/png;base64,")), (tag, attributes[name])
    assert re.findall(r"url\((?!#)", text) == []
    policy = next(a["content"] for tag, a in pages[kind].tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_page_needs_no_data(runs, tmp_path):
    """The folder alone makes the page again, to the letter."""
    folder = tmp_path / "classes"
    shutil.copytree(runs["classes"], folder)
    made = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert run("report", folder) == (0, f"wrote {folder / 'report.html'}\n", "")
    assert (folder / "report.html").read_text() == made


# -- what it says -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["digits", "moons", "classes", "colours", "bare"])
def test_classes_are_told_truly(runs, pages, kind):
    scores, page = scores_of(runs[kind]), pages[kind]
    matrix, rows = np.asarray(scores["confusion"]), scores["rows"]
    right = int(np.trace(matrix))
    assert (
        f"The network got {count(right)} of {count(rows)} {scores['on']} right: {percent(scores['accuracy'])}."
        in page.text
    )
    common = percent(matrix.sum(axis=1).max() / rows)
    assert f"the most common class, would get {common}." in page.text
    shown = next(table for table in page.tables if table[0][0] == "" and len(table[0]) == len(matrix) + 1)
    assert [[int(cell.replace("·", "0")) for cell in row[1:]] for row in shown[1:]] == matrix.tolist()
    names = [row[0] for row in shown[1:]]
    assert shown[0][1:] == names
    if kind == "classes":
        assert sorted(names) == sorted([EVIL, "no"])
    for name, (label, precision, recall, _, support) in zip(
        names, page.table("class", "precision", "recall"), strict=True
    ):
        k = names.index(name)
        assert label == name
        predicted = matrix[:, k].sum()
        assert precision == percent(matrix[k, k] / predicted if predicted else None)
        assert recall == percent(matrix[k, k] / matrix[k].sum())
        assert int(support) == matrix[k].sum()
    wrong = matrix - np.diag(np.diag(matrix))
    assert ("No class was taken for another" in page.text) == (not wrong.any())
    if wrong.any():
        truth, taken, times = page.table("truth", "taken for")[0]
        assert wrong[names.index(truth), names.index(taken)] == int(times) == wrong.max()


def test_a_share_of_no_rows_is_none(runs, tmp_path):
    """A class without test rows has no recall, and one that is never predicted no precision."""
    one = read_run(runs["digits"])
    matrix = np.zeros((10, 10), dtype=int)
    matrix[0, 0], matrix[0, 1], matrix[2, 0] = 7, 2, 1
    scores = {**one.info["scores"], "confusion": matrix.tolist(), "rows": 10, "accuracy": 0.7}
    page = Parsed(
        write_report(dataclasses.replace(one, info={**one.info, "scores": scores}, evidence=None), tmp_path / "a.html")
    )
    rows = page.table("class", "precision", "recall")
    assert rows[0][1:] == [percent(7 / 8), percent(7 / 9), percent(14 / 17), "9"]
    assert rows[1][1:] == [percent(0.0), "—", percent(0.0), "0"]
    assert rows[2][1:] == ["—", percent(0.0), percent(0.0), "1"]
    assert rows[3][1:] == ["—", "—", "—", "0"]


def test_numbers_are_told_truly(runs, pages):
    scores, page = scores_of(runs["numbers"]), pages["numbers"]
    assert f"On 48 test rows, predictions of price are typically off by {number(scores['rmse'])} (RMSE)" in page.text
    with (runs["home"] / "table.csv").open() as file:
        prices = [float(row["price"]) for row in csv.DictReader(file)]
    pairs = evidence_of(runs["numbers"])["pairs"]
    assert len(pairs["truth"]) == 48
    assert {round(p, -1) for p in pairs["truth"]} <= {round(float(f"{p:.5g}"), -1) for p in prices}
    off = np.subtract(pairs["prediction"], pairs["truth"])
    assert np.sqrt(np.square(off).mean()) == pytest.approx(scores["rmse"], rel=1e-3)
    baseline = float(
        re.search(r"Always answering the mean of these rows would be off by ([\d,]+) \(RMSE\)", page.text)[1].replace(
            ",", ""
        )
    )
    assert baseline == pytest.approx(np.std(pairs["truth"]), rel=1e-3)
    assert "Predicted against true" in page.text
    assert "All 48 rows." in page.text


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_mistakes_are_rows_of_the_file(runs, pages, kind):
    """Each row told is read from the file again and given to the model: it says what the page says."""
    folder = runs[kind]
    with (runs["home"] / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    predictor = Predictor.load(folder / "model.safetensors")
    target = "label" if kind == "classes" else "price"
    shown = pages[kind].table("row", "truth", "predicted")
    header = next(t[0] for t in pages[kind].tables if t[0][:2] == ["row", "truth"])
    assert header[4:] == ["age", EVIL_COLUMN, "colour"]
    told = evidence_of(folder)["mistakes"]
    assert len(shown) == len(told) >= 2
    for cells, mistake in zip(shown, told, strict=True):
        row = rows[mistake["row"] - 1]
        assert cells[0] == count(mistake["row"])
        columns = {
            "age": np.asarray([float(row["age"])]),
            EVIL_COLUMN: np.asarray([float(row[EVIL_COLUMN] or "nan")]),
            "colour": np.asarray([row["colour"]], dtype=object),
        }
        guess = predictor.predict(columns)[0]
        if kind == "classes":
            assert (row[target], str(guess)) == (mistake["truth"], mistake["prediction"]) == tuple(cells[1:3])
            assert guess != row[target]
            assert mistake["sure"] == pytest.approx(predictor.predict_proba(columns).max(), rel=1e-5)
            assert cells[3] == percent(mistake["sure"])
        else:
            assert float(row[target]) == mistake["truth"]
            assert mistake["prediction"] == pytest.approx(guess, rel=1e-5)
            assert cells[3] == number(mistake["prediction"] - mistake["truth"])
        assert float(cells[4]) == pytest.approx(float(row["age"]), rel=1e-5)
        assert cells[5] == (f"{float(row[EVIL_COLUMN]):g}" if row[EVIL_COLUMN] else "—")
        assert cells[6] == row["colour"]
    size = [m["sure"] if kind == "classes" else abs(m["error"]) for m in told]
    assert size == sorted(size, reverse=True)


def pixels(uri: str) -> np.ndarray:
    """The levels, 0 to 255, of a picture in an address."""
    from matplotlib.image import imread

    return np.round(imread(io.BytesIO(base64.b64decode(uri.partition(",")[2])), format="png")[..., :3] * 255)


def test_images_are_those_of_the_data(runs, pages):
    X, y = xpnn.data.load_digits()
    told = evidence_of(runs["digits"])["mistakes"]
    images = [a for tag, a in pages["digits"].tags if tag == "img"]
    matrix = np.asarray(scores_of(runs["digits"])["confusion"])
    assert len(images) == len(told) == min(24, matrix.sum() - np.trace(matrix))
    for image, mistake in zip(images, told, strict=True):
        row = mistake["row"] - 1
        assert y[row] == int(mistake["truth"])
        assert image["alt"] == f"Row {row + 1}: true class {mistake['truth']}, taken for {mistake['prediction']}"
        ink = 255 - pixels(image["src"])[..., 0]
        np.testing.assert_allclose(ink, np.round(X[row].reshape(8, 8) * 255), atol=1)


def test_colour_images(runs, pages):
    X = np.load(runs["home"] / "colours.npz")["X"]
    told = evidence_of(runs["colours"])["mistakes"]
    images = [a for tag, a in pages["colours"].tags if tag == "img"]
    assert len(images) == len(told) >= 1
    for image, mistake in zip(images, told, strict=True):
        np.testing.assert_array_equal(pixels(image["src"]), X[mistake["row"] - 1])


def test_points_show_their_boundary(runs, pages):
    (picture,) = [a for tag, a in pages["moons"].tags if tag == "img"]
    assert base64.b64decode(picture["src"].partition(",")[2]) == (runs["moons"] / "boundary.png").read_bytes()
    assert "plane of the two inputs" in picture["alt"]


def test_many_classes_are_drawn(runs, pages):
    page = pages["many"]
    assert any(a.get("id") == "confusion-chart-title" for _, a in page.tags)
    worst = page.table("class", "precision")
    assert len(worst) == 50
    assert "The 50 of 60 classes with the lowest F1" in page.text
    assert not any(len(table[0]) == 61 for table in page.tables)


def test_scores_of_training_rows_come_with_a_warning(pages):
    assert "These are the rows it learnt from: new data will do worse." in pages["bare"].text
    assert "These are the rows it learnt from" not in pages["digits"].text


def test_settings_command_versions_and_machine(runs, pages):
    info = json.loads((runs["classes"] / "scores.json").read_text())
    text = pages["classes"].text
    table = runs["home"] / "table.csv"
    assert info["command"] == (
        f"xpnn train {table} --target label --drop price --epochs 8 --hidden 16 --report "
        f"--out {runs['classes']} --quiet"
    )
    assert info["command"] in text
    for name, version in info["versions"].items():
        assert f"{name} {version}" in text, name
    assert info["machine"]["cores"] >= 1
    assert f"processor {info['machine']['processor']}" in text
    assert "learning rate 0.04" in text
    history = read_run(runs["classes"]).history
    lowest = int(np.argmin(history["val_loss"]))
    assert f"best {number(history['val_loss'][lowest])} in epoch {lowest + 1}." in text
    # Of classes the accuracy chooses the epoch.
    assert history["val_accuracy"][info["best_epoch"] - 1] == max(history["val_accuracy"])
    for note in info["notes"]:
        assert re.sub(r"\s+", " ", note) in text
    layers = pages["classes"].table("layer", "inputs")
    assert [row[0] for row in layers] == [
        "0.Columns",
        "1.Scale",
        "2.Linear",
        "3.ParametricActivation",
        "4.Linear",
        "total",
    ]
    assert layers[-1][3] == count(read_run(runs["classes"]).predictor.net.n_params)


def test_diagnosis_is_that_of_the_training(tmp_path, no_pictures):
    """A run that learns too slowly: the page tells what `diagnose` tells, with the number and the advice."""
    train("moons", "--epochs", 10, "--lr", 1e-9, "--hidden", "8", "--report", "--out", tmp_path)
    found = evidence_of(tmp_path)["findings"]
    assert "too slow" in [finding["name"] for finding in found]
    text = Parsed(tmp_path / "report.html").text
    for finding in found:
        assert f"{finding['name'].capitalize()}." in text
        assert finding["evidence"][1:] in text
        assert finding["advice"] in text
    assert "Nothing stands out" not in text
    made = json.loads(run("report", tmp_path, "--json").out)
    assert made["runs"][0]["findings"] == found


def test_dead_units_are_seen_because_the_data_were_there():
    net = xpnn.mlp([2, 8, 2], "relu", seed=0)
    net.params["0.bias"][...] = -100.0
    predictor = Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit([0, 1]))
    X, y = xpnn.data.make_moons(50)
    found = collect_evidence(predictor, X, y, history=xpnn.History([{"epoch": 1, "loss": 1.0}]))
    assert {finding["name"] for finding in found["findings"]} >= {"dead units", "constant prediction"}
    assert found["diagnosed"].endswith("outputs for 50 rows")
    assert "findings" not in collect_evidence(predictor, X, y)


# -- evidence ---------------------------------------------------------------------------------------------------
def test_evidence_stays_small(monkeypatch):
    """Of more rows than are looked at, some are drawn; the mistakes are still those rows' own."""
    monkeypatch.setattr(evidence, "_ROWS", 40)
    monkeypatch.setattr(evidence, "_PAIRS", 10)
    monkeypatch.setattr(evidence, "_COLUMNS", 3)
    X = np.arange(500.0).reshape(100, 5) / 500
    y = X.sum(axis=1)
    predictor = Predictor(xpnn.mlp([5, 1], init="zeros"), xpnn.MeanSquaredError(), NumberTarget().fit(y))
    found = collect_evidence(predictor, X, y, numbers=np.arange(1000, 1100), seed=3)
    assert (found["rows"], found["looked_at"]) == (100, 40)
    assert len(found["pairs"]["truth"]) == len(found["pairs"]["prediction"]) == 10
    assert (found["columns"], found["all_columns"]) == (["x1", "x2", "x3"], 5)
    for mistake in found["mistakes"]:
        row = mistake["row"] - 1000
        assert mistake["truth"] == y[row]
        assert mistake["values"] == [pytest.approx(v, rel=1e-5) for v in X[row, :3]]
    assert found == collect_evidence(predictor, X, y, numbers=np.arange(1000, 1100), seed=3)
    assert found != collect_evidence(predictor, X, y, numbers=np.arange(1000, 1100), seed=4)


def test_evidence_refuses_what_does_not_fit():
    predictor = Predictor(xpnn.mlp([4, 2]), xpnn.CrossEntropy(), ClassTarget().fit([0, 1]))
    with pytest.raises(ShapeError, match="expected at least one row, got none"):
        collect_evidence(predictor, np.zeros((0, 4)), np.zeros(0))
    # only the mistakes are drawn, so make some
    y = 1 - predictor.predict(np.ones((2, 4)))
    with pytest.raises(ShapeError, match=r"rows of 9 numbers for images of shape \(3, 3\), got 4"):
        collect_evidence(predictor, np.ones((2, 4)), y, image_shape=(3, 3))


def test_cells_are_plain():
    predictor = Predictor(xpnn.mlp([3, 1], init="zeros"), xpnn.MeanSquaredError(), NumberTarget().fit([0, 1]))
    found = collect_evidence(predictor, np.asarray([[1.0, 0.1234567, 1e20]]), [0.0])
    assert json.dumps(found["mistakes"][0]["values"]) == "[1, 0.123457, 1e+20]"
    assert evidence._cell("x" * 500) == "x" * 119 + "…"
    assert [evidence._cell(v) for v in (None, float("nan"), True, "text")] == [None, None, "True", "text"]


@pytest.mark.parametrize("kind", ["arrays", "stream"])
def test_rows_of_images_are_known_by_their_shape(kind, tmp_path):
    def image_shape(path):
        return open_source(make_parser().parse_args(["train", str(path), "--target", str(targets)])).image_shape

    targets = tmp_path / "y.npy" if kind == "stream" else "y"
    np.save(tmp_path / "y.npy", np.zeros(9))
    for shape, expected in {(9, 6, 5): (6, 5), (9, 6, 5, 1): (6, 5), (9, 8, 8, 3): (8, 8, 3), (9, 64): None}.items():
        path = tmp_path / ("X.npz" if kind == "arrays" else "X.npy")
        if kind == "arrays":
            np.savez_compressed(path, X=np.zeros(shape), y=np.zeros(9))
        else:
            np.save(path, np.zeros(shape))
        assert image_shape(path) == expected
    targets = "y"
    for odd in ((9, 8, 2), (9, 8, 8, 2), (9, 8, 8, 3, 2)):  # series, other channels, films
        np.savez(tmp_path / "odd.npz", X=np.zeros(odd), y=np.zeros(9))
        assert image_shape(tmp_path / "odd.npz") is None
    tmp_path.joinpath("table.csv").write_text("a,y\n1,2\n3,4\n")
    assert image_shape(tmp_path / "table.csv") is None


def test_mnist(tmp_path, mnist_dir, browser, no_pictures):
    common = ("--data-dir", mnist_dir, "--no-download", "--epochs", 1, "--hidden", "16", "--report")
    train("mnist", *common, "--out", tmp_path / "mnist")
    told = evidence_of(tmp_path / "mnist")
    assert (told["rows"], told["image"], len(told["mistakes"])) == (10_000, [28, 28], 24)
    images = xpnn.data.load_mnist(mnist_dir, download=False)[2].reshape(-1, 28, 28)
    page = Parsed(tmp_path / "mnist" / "report.html")
    first = next(a for tag, a in page.tags if tag == "img")
    expected = np.round(images[told["mistakes"][0]["row"] - 1] * 255)
    np.testing.assert_allclose(255 - pixels(first["src"])[..., 0], expected, atol=1)
    for width in (360, 1280):
        seen = browser(tmp_path / "mnist" / "report.html", width, 800)
        assert (seen.overflow, seen.errors, seen.requests) == ([], [], [])


@pytest.mark.parametrize("image_shape", [None, (2, 1)], ids=["rows", "images"])
def test_nothing_was_wrong(runs, tmp_path, browser, image_shape):
    """A perfect score: no mistakes to tell of, and the page says so."""
    one = read_run(runs["moons"])
    X, _ = xpnn.data.make_moons(60, seed=3)
    y = one.predictor.predict(X)
    found = collect_evidence(one.predictor, X, y, image_shape=image_shape)
    assert (found["wrong"], found["mistakes"]) == (0, [])
    told = json.loads(json.dumps(found))
    info = {**one.info, "scores": {"on": "test rows", **one.predictor.score(X, y)}}
    path = write_report(Run(one.folder, "perfect", info, one.history, one.predictor, told), tmp_path / "a.html")
    page = browser(path, 360, 800)
    assert "The network got 60 of 60 test rows right: 100\xa0%." in page.text
    assert "No class was taken for another." in page.text
    assert "There are none in 60 rows." in page.text
    assert (page.overflow, page.errors) == ([], [])


@pytest.mark.parametrize("width", [2, 40])
def test_tables_of_few_and_many_columns(width):
    X = {f"column {j}": np.arange(6.0) for j in range(width)}
    encoder = xpnn.data.TableEncoder().fit(X)
    n_in = encoder.transform(X).shape[1]
    predictor = Predictor(
        xpnn.mlp([n_in, 1], init="zeros"), xpnn.MeanSquaredError(), NumberTarget().fit([0, 1]), encoder
    )
    found = collect_evidence(predictor, X, np.arange(6.0))
    assert found["columns"] == [f"column {j}" for j in range(min(width, 30))]
    assert found["all_columns"] == width
    # all are given 0.5, so the last row, whose target is 5, is furthest off
    assert found["mistakes"][0] == {
        "row": 6,
        "truth": 5.0,
        "prediction": 0.5,
        "error": -4.5,
        "values": [5] * min(width, 30),
    }


# -- comparison -------------------------------------------------------------------------------------------------
def test_comparison_tells_what_differs(runs, tmp_path, no_pictures):
    train("digits", "--epochs", 3, "--hidden", "16", "--optimizer", "sgd", "--out", tmp_path / "sgd")
    out = tmp_path / "two.html"
    ran = run("report", runs["digits"], tmp_path / "sgd", "--out", out, "--json")
    made = json.loads(ran.out)
    assert made["file"] == str(out)
    assert made["bytes"] == out.stat().st_size
    assert [one["scores"] for one in made["runs"]] == [scores_of(runs["digits"]), scores_of(tmp_path / "sgd")]
    page = Parsed(out)
    differing = {row[0]: row[1:] for row in page.table("setting", "digits", "sgd")}
    assert differing["optimizer"] == ["adamw", "sgd"]
    assert differing["learning rate"] == ["0.001", "0.1"]
    assert set(differing) <= {"optimizer", "learning rate", "epochs", "patience", "weight decay"}
    accuracy = {row[0]: row[1] for row in page.table("run", "accuracy")}
    assert accuracy == {
        "digits": percent(scores_of(runs["digits"])["accuracy"]),
        "sgd": percent(scores_of(tmp_path / "sgd")["accuracy"]),
    }
    best = max(("digits", "sgd"), key=lambda name: float(accuracy[name].rstrip("\xa0%")))
    assert f"The best score is that of {best}." in page.text


def test_comparison_warns_where_scores_do_not_compare(runs, tmp_path, no_pictures):
    one, other = read_run(runs["digits"]), read_run(runs["classes"])
    text = Parsed(write_comparison([one, other], tmp_path / "a.html")).text
    assert "These runs were scored on different data, so their scores do not compare." in text
    assert "The best score" not in text
    train("digits", "--epochs", 1, "--hidden", "16", "--seed", 1, "--out", tmp_path / "digits")
    text = Parsed(write_comparison([one, read_run(tmp_path / "digits")], tmp_path / "b.html")).text
    assert "These runs held out different rows: small differences of their scores may be chance." in text
    assert str(tmp_path / "digits") in text, "two folders of one name are told by their paths"


def changed(run: Run, name: str, **scores) -> Run:
    info = {**run.info, "scores": {**run.info["scores"], **scores}}
    return Run(run.folder, name, info, run.history, run.predictor, run.evidence)


def test_best_and_chance(runs, tmp_path):
    one = read_run(runs["digits"])
    for good, better, chance in ((0.97, 0.98, True), (0.5, 0.98, False)):
        pair = [changed(one, "better", accuracy=better), changed(one, "good", accuracy=good)]
        text = Parsed(write_comparison(pair, tmp_path / "a.html")).text
        assert "The best score is that of better." in text
        assert ("the difference may be chance" in text) == chance
    text = Parsed(write_comparison([changed(one, "a"), changed(one, "b")], tmp_path / "a.html")).text
    assert "The best score" not in text
    number = read_run(runs["numbers"])
    pair = [changed(number, "good", rmse=5.0), changed(number, "better", rmse=4.0)]
    assert "The best score is that of better." in Parsed(write_comparison(pair, tmp_path / "a.html")).text


def test_many_curves_differ_in_colour_and_dash(runs, tmp_path):
    one = read_run(runs["digits"])
    page = Parsed(write_comparison([changed(one, f"run {i}") for i in range(18)], tmp_path / "a.html"))
    looks = [a["style"] for tag, a in page.tags if tag == "span" and "border-top" in a.get("style", "")]
    assert len(looks) == len(set(looks)) == 18


# -- runs of other kinds ----------------------------------------------------------------------------------------
def test_a_run_without_evidence(runs, tmp_path):
    """As written before there was any: the page leaves out what it cannot know, and is whole."""
    for kind in ("digits", "numbers"):
        folder = tmp_path / kind
        shutil.copytree(runs[kind], folder)
        (folder / "evidence.json").unlink()
        info = json.loads((folder / "scores.json").read_text())
        for name in ("command", "machine", "finished", "best_epoch"):
            del info[name]
        (folder / "scores.json").write_text(json.dumps(info))
        assert run("report", folder) == (0, f"wrote {folder / 'report.html'}\n", "")
        page = Parsed(folder / "report.html")
        assert "Diagnosis" in page.headings
        assert not {"Mistakes", "Largest errors", "Machine"} & set(page.headings)
    assert "This run was written without its predictions. Train again to see them." in page.text


def test_values_that_are_not_finite(runs, tmp_path):
    one = read_run(runs["numbers"])
    rows = [{**row, "val_loss": float("nan"), "grad_norm": float("inf")} for row in one.history.rows]
    info = {**one.info, "scores": {**one.info["scores"], "r2": None}}
    page = Parsed(write_report(Run(one.folder, "nan", info, xpnn.History(rows), one.predictor), tmp_path / "a.html"))
    assert "val_loss was never finite." in page.text
    assert "Gradient norm" not in page.text
    assert ("R²", "—") in list(zip(page.words[2:], page.words, strict=False)) or "R² —" in page.text


def test_letters_that_matplotlib_lacks(runs, tmp_path):
    one = read_run(runs["numbers"])
    info = {**one.info, "target": "価格\x07 in a name that is much too long for any axis"}
    path = write_report(Run(one.folder, "価格", info, one.history, one.predictor, one.evidence), tmp_path / "a.html")
    page = Parsed(path)
    assert "true 価格 in a name that is much …" in page.text
    assert page.headings[0] == "価格"


# -- the command ------------------------------------------------------------------------------------------------
def test_out_open_and_default_names(runs, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) == 1)
    out = tmp_path / "new folder" / "page.html"
    assert run("report", runs["moons"], "--out", out, "--open") == (0, f"wrote {out}\n", "")
    assert opened == [out.as_uri()]
    again = run("report", runs["moons"], "--out", out, "--open")
    assert again == (0, f"wrote {out}\n", f"no web browser was found: open {out} yourself\n")
    monkeypatch.chdir(tmp_path)
    assert run("report", runs["moons"], runs["digits"]).out == "wrote comparison.html\n"
    assert (tmp_path / "comparison.html").is_file()
    assert "usage: xpnn report RUN" in run("report", "--help").out
    with pytest.raises(OptionError, match="expected at least two runs, got 1"):
        write_comparison([read_run(runs["moons"])], out)


def test_wrong_folders(runs, tmp_path):
    refused(run("report", tmp_path / "none"), r"xpnn report: expected the folder of a run, but .*none is not there\.")
    refused(run("report", runs["home"] / "digitz"), rf"Did you mean {re.escape(str(runs['digits']))}\?")
    refused(run("report", runs["digits"] / "model.safetensors"), "got the file .* Pass the folder, .*digits")
    refused(run("report", tmp_path), r"got a folder without model.safetensors and scores.json and history.csv\. Pass")
    refused(run("report", runs["home"]), r"Did you mean .*/bare\?")
    refused(run("report", runs["digits"], runs["home"] / "moons" / ".." / "digits"), "got one twice")
    refused(run("report", runs["digits"], "--out", tmp_path), r"--out: expected a file, got the folder .*report\.html")
    shutil.copy(runs["digits"] / "history.csv", tmp_path)
    refused(run("report", tmp_path), "expected a finished run, got only the history of one. Wait for the end")


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("history.csv", lambda b: b[: len(b) // 2], r"expected \d+ values in line \d, got|expected numbers in line \d"),
        ("history.csv", lambda b: b[: b[:-1].rindex(b"\n") + 1], "expected 6 epochs, as scores.json says, got 5"),
        ("history.csv", lambda b: b[: b.index(b"\n") + 1], "a row for each epoch, got 1 lines"),
        ("history.csv", lambda b: b"", "got 0 lines"),
        ("history.csv", lambda b: b.replace(b"0.", b"zero", 1), "expected numbers in line 2, got"),
        ("history.csv", lambda b: b"\xff\xfe" + b, "expected a table of numbers"),
        ("scores.json", lambda b: b[:100], "scores.json: expected JSON, got a damaged file"),
        ("scores.json", lambda b: b"[]", "expected a JSON object, got a list"),
        ("scores.json", lambda b: b"{}", "expected what xpnn train writes, got no source"),
        ("scores.json", lambda b: b.replace(b'"scores": {', b'"scores": 1, "x": {'), "got no scores"),
        ("scores.json", lambda b: b.replace(b'"accuracy"', b'"acuracy"'), "got something else for accuracy"),
        (
            "scores.json",
            lambda b: b.replace(b'"confusion": [', b'"confusion": [1, '),
            "got something else for confusion",
        ),
        (
            "evidence.json",
            lambda b: b.replace(b'"mistakes"', b'"m"'),
            "evidence.json: .* got something else for mistakes",
        ),
        (
            "evidence.json",
            lambda b: b.replace(b'"sure"', b'"s"', 1),
            "evidence.json: .* got something else for mistakes",
        ),
        ("evidence.json", lambda b: b[:50], "evidence.json: expected JSON"),
        ("evidence.json", lambda b: b'{"format": 99}', "expected format 1, got 99"),
        ("model.safetensors", lambda b: b[:100], "model.safetensors"),
    ],
    ids=[
        *(f"history-{how}" for how in ("half", "line", "header", "empty", "word", "binary")),
        *(f"scores-{how}" for how in ("half", "list", "empty", "other", "accuracy", "confusion")),
        *("evidence-mistakes", "evidence-sure"),
        *("evidence-half", "evidence-format", "model-half"),
    ],
)
def test_damaged_runs(runs, tmp_path, name, spoil, message):
    folder = tmp_path / "run"
    shutil.copytree(runs["digits"], folder)
    file = folder / name
    file.write_bytes(spoil(file.read_bytes()))
    (folder / "report.html").unlink()
    refused(run("report", folder), message)
    assert not (folder / "report.html").exists()


def test_every_cut_of_the_history_is_noticed(runs, tmp_path):
    """Wherever a copy broke off, the curves are not drawn as if they were whole."""
    folder = tmp_path / "run"
    shutil.copytree(runs["digits"], folder)
    whole = (folder / "history.csv").read_bytes()
    for cut in [*range(0, len(whole), 29), len(whole) - 2, len(whole) - 1]:
        (folder / "history.csv").write_bytes(whole[:cut])
        refused(run("report", folder), "history.csv: expected")


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_what_is_not_installed_is_said_first(runs, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    refused(run("report", runs["digits"]), r"xpnn report: a page: needs \w+\. Run: pip install 'xpnn\[report\]'")
    ran = run("train", "xor", "--epochs", 1, "--report", "--out", tmp_path / "new")
    refused(ran, r"xpnn train: --report: needs \w+\. Run: pip install")
    assert not (tmp_path / "new").exists()


def test_report_option_of_train(tmp_path, no_pictures):
    ran = run("train", "xor", "--epochs", 1, "--report", "--json", "--quiet", "--out", tmp_path)
    made = json.loads(ran.out)
    assert made["files"][-1] == str(tmp_path / "report.html")
    assert "report" not in made["options"]
    assert Parsed(tmp_path / "report.html").headings[0] == tmp_path.name
