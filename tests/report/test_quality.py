"""What a report says of how good a model is: measured rightly, written whole, and told truly on the page."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from commands import run, train

import xpnn
from xpnn.data import TableEncoder
from xpnn.data.arrays import take_rows
from xpnn.data.targets import ClassTarget, NumberTarget
from xpnn.inspection import permutation_importance, worst_groups
from xpnn.intervals import Intervals
from xpnn.predictor import Predictor
from xpnn.report import Trained, collect_evidence, comparison_of, quality, read_run, write_report
from xpnn.report.card import write_card
from xpnn.report.comparison import write_comparison
from xpnn.report.contents import misfit_in_run
from xpnn.report.page import findings


@pytest.fixture(scope="module", autouse=True)
def _with_matplotlib():
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xpnn[plots]'")
    pytest.importorskip("jinja2", reason="needs Jinja2: pip install 'xpnn[report]'")


def write_table(path, n=900, useless=False):
    rng = np.random.default_rng(0)
    day = np.datetime64("2024-01-01") + rng.integers(0, 400, n).astype("timedelta64[D]")
    size, town = rng.uniform(20, 200, n), rng.choice(["Ulm", "Bern", "Graz"], n)
    price = 10 * size + 300 * (town == "Graz") * rng.normal(size=n) + 20 * rng.normal(size=n)
    if useless:
        price = rng.permutation(price)
    dear = np.where(price + 300 * rng.normal(size=n) > 1200, "dear", "cheap")
    lines = [f"{d},{s:.2f},{t},{p:.2f},{c}" for d, s, t, p, c in zip(day, size, town, price, dear, strict=True)]
    path.write_text("\n".join(["day,size,town,price,dear", *lines]) + "\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs with a page: of numbers, of classes, and of a table that tells nothing."""
    home = tmp_path_factory.mktemp("quality")
    write_table(home / "table.csv")
    write_table(home / "useless.csv", useless=True)
    short = ("--hidden", "16", "--epochs", 12, "--report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnn.cli.results._pictures", lambda *args: [])
        said = {
            "numbers": train(
                home / "table.csv", "--target", "price", "--drop", "dear", *short, "--out", home / "numbers"
            ),
            "classes": train(
                home / "table.csv", "--target", "dear", "--drop", "price", *short, "--out", home / "classes"
            ),
            "useless": train(
                home / "useless.csv", "--target", "price", "--drop", "dear", *short, "--out", home / "useless"
            ),
        }
    return {name: (home / name, ran.out) for name, ran in said.items()}


def evidence_of(folder):
    return json.loads((folder / "evidence.json").read_text())


def text_of(folder):
    page = (folder / "report.html").read_text()
    words = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return re.sub(r"[ \n]+", " ", words.replace("&#34;", '"'))


KINDS = ("numbers", "classes", "useless")


# -- measured -------------------------------------------------------------------------------------------------------
def test_calibration_of_two_classes_is_of_the_second():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    out, codes = np.stack([1 - p, p], axis=1), (rng.random(20_000) < p**2).astype(np.int64)
    found = quality.calibration(ClassTarget().fit(["no", "yes"]), codes, out)
    assert found["of"] == "yes"
    assert sum(part["rows"] for part in found["bins"]) == 20_000
    for part in found["bins"]:
        assert part["share"] == pytest.approx(part["predicted"] ** 2, abs=0.04)
        assert part["low"] <= part["share"] <= part["high"]
    # the mean of p - p² over (0, 1)
    assert found["error"] == pytest.approx(1 / 2 - 1 / 3, abs=0.01)


def test_calibration_of_more_classes_is_of_the_answer():
    out = np.asarray([[0.51, 0.29, 0.2], [0.2, 0.55, 0.25], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    found = quality.calibration(ClassTarget().fit(["a", "b", "c"]), np.asarray([0, 2, 0, 1]), out)
    assert found["of"] is None
    assert [(part["rows"], part["predicted"], part["share"]) for part in found["bins"]] == [
        (2, pytest.approx(0.53), 0.5),
        (2, 1.0, 1.0),
    ]
    assert found["error"] == pytest.approx(0.5 * 0.03)


@pytest.mark.parametrize("code", [0, 1])
def test_calibration_where_one_class_is_held_out(code):
    out = np.asarray([[0.8, 0.2], [0.7, 0.3]])
    found = quality.calibration(ClassTarget().fit(["no", "yes"]), np.asarray([code, code]), out)
    assert [part["share"] for part in found["bins"]] == [code] * len(found["bins"])
    assert found["error"] == pytest.approx(abs(code - 0.25))


def test_coverage_by_predicted_value():
    rng = np.random.default_rng(1)
    guess = rng.uniform(0, 100, 5000)
    truth = guess + guess / 50 * rng.normal(size=5000)  # wider where more is predicted
    found = quality.coverage(guess - 1.645, guess + 1.645, truth, guess, 0.9)
    inside = np.abs(truth - guess) <= 1.645
    assert found["share"] == inside.mean()
    assert (found["width"], found["median_width"]) == pytest.approx((3.29, 3.29))
    assert [part["rows"] for part in found["parts"]] == [1000] * 5
    shares = [part["share"] for part in found["parts"]]
    assert shares[0] > 0.99
    assert shares == sorted(shares, reverse=True)
    low = np.sort(guess)[:1000]
    assert (found["parts"][0]["from"], found["parts"][0]["to"]) == (low[0], low[-1])


def test_groups_and_importance_are_those_of_inspection(runs):
    folder, _ = runs["numbers"]
    one, found = read_run(folder), evidence_of(folder)
    rows = (folder.parent / "table.csv").read_text().splitlines()
    assert {group["column"] for group in found["groups"]["groups"]} <= {"day", "size", "town"}
    worst = found["groups"]["groups"][0]
    assert (worst["column"], worst["value"], worst["stands_out"]) == ("town", "Graz", True)
    assert found["importance"]["columns"][0]["name"] == "size"
    assert found["importance"]["of"] == 3
    # from the file, by hand: the errors of all rows in Graz that were tested on
    table = xpnn.data.load_csv(folder.parent / "table.csv", target="price")
    X = {name: table.cells[name] for name in ("day", "size", "town")}
    error = np.abs(one.predictor.predict(X) - table.columns["price"])
    assert len(rows) == len(error) + 1
    graz = worst_groups({"town": X["town"]}, error)[0]
    assert graz.value == "Graz"
    assert worst["error"] == pytest.approx(graz.error, rel=0.3)
    again = permutation_importance(one.predictor, X, table.columns["price"])
    assert again.names[0] == "size"
    assert again.metric == found["importance"]["metric"] == "rmse"


def test_importance_that_would_take_minutes_is_left_out(monkeypatch):
    X = {f"c{j}": np.random.default_rng(j).normal(size=120) for j in range(6)}
    y = X["c0"]
    encoder = TableEncoder().fit(X)
    predictor = Predictor(xpnn.mlp([6, 1]), xpnn.MeanSquaredError(), NumberTarget().fit(y), encoder)
    assert len(quality.importance(predictor, X, y, 6, 0)["columns"]) == 6
    monkeypatch.setattr(quality, "_WORK", 6 * 5 * predictor.net.n_params * 110)
    assert quality.importance(predictor, X, y, 6, 0)["rows"] == 110
    monkeypatch.setattr(quality, "_WORK", 6 * 5 * predictor.net.n_params * 90)
    assert quality.importance(predictor, X, y, 6, 0) is None
    found = collect_evidence(predictor, X, y)
    assert found["importance"] is None


def test_evidence_is_the_same_twice():
    X, y = xpnn.data.make_moons(200, noise=0.3, seed=0)
    predictor = Predictor(xpnn.mlp([2, 8, 2], seed=0), xpnn.CrossEntropy(), ClassTarget().fit(y))
    one, two = (
        json.dumps(collect_evidence(predictor, X[100:], y[100:], trained=Trained(X[:100], y[:100], 100)))
        for _ in range(2)
    )
    assert one == two


# -- written --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_what_training_writes_fits(runs, kind):
    one = read_run(runs[kind][0])
    assert {"baselines", "groups", "importance"} <= one.evidence.keys()
    assert misfit_in_run(one.info, one.evidence, one.predictor) is None


def changed(thing, path, value):
    thing = copy.deepcopy(thing)
    where = thing
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = value
    return thing


ODD = [
    (("baselines", "rows"), 0, "baselines.rows"),
    (("baselines", "baselines", 0, "what"), 3, "baselines.baselines[0].what"),
    (("baselines", "baselines", 1, "gains", "cross_entropy"), [1, 2], "baselines.baselines[1].gains.cross_entropy"),
    (("baselines", "scores", "accuracy"), None, "baselines.scores.accuracy"),
    (("calibration", "error"), 2, "calibration.error"),
    (("calibration", "bins"), [], "calibration.bins"),
    (("calibration", "bins", 0, "rows"), -1, "calibration.bins[0].rows"),
    (("importance", "columns"), [], "importance.columns"),
    (("baselines", "baselines"), [], "baselines.baselines"),
    (("groups", "groups", 0, "rest"), "0", "groups.groups[0].rest"),
    (("groups", "columns"), None, "groups.columns"),
    (("importance",), "much", "importance"),
    (("importance", "columns", 0, "std"), -1, "importance"),
]


@pytest.mark.parametrize(("path", "value", "said"), ODD)
def test_each_entry_is_looked_at(runs, path, value, said):
    one = read_run(runs["classes"][0])
    evidence = changed(one.evidence, path, value)
    found = misfit_in_run(one.info, evidence, one.predictor)
    assert found is not None
    assert found[0] == "evidence.json"
    assert found[1].startswith(said.partition("[")[0]), found


def test_ends_that_are_infinite_are_written_as_none():
    """Of a single row nothing is known of the mean: no infinity in JSON, and no page that fails on it."""
    X, y = xpnn.data.make_moons(40, seed=0)
    predictor = Predictor(xpnn.mlp([2, 2], seed=0), xpnn.CrossEntropy(), ClassTarget().fit(y))
    found = collect_evidence(predictor, X[:1], y[:1], trained=Trained(X, y, 40))
    written = json.loads(json.dumps(xpnn.cli.options.finite(found), allow_nan=False))
    assert written["baselines"]["baselines"][0]["gains"]["accuracy"][1:] == [None, None]
    assert not comparison_of(written["baselines"]).useful


# -- told -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_and_the_terminal_say_the_same(runs, kind):
    folder, printed = runs[kind]
    text, found = text_of(folder), comparison_of(evidence_of(folder)["baselines"])
    for sentence in found.sentences():
        assert sentence in text
        assert sentence in printed
    header, rows = quality.comparison_table(found)
    assert [row[0] for row in rows[1:]] == ["a linear model", "gradient-boosted trees", "this network"]
    for row in rows:
        assert " ".join(row) in text
        assert re.search(r" +".join(map(re.escape, row)), printed)
    assert header[-1] == "trained on"
    scores = json.loads((folder / "scores.json").read_text())["scores"]
    assert found.scores == pytest.approx({name: scores[name] for name in found.scores})
    assert (found.rows, found.trained) == (180, 720)


def test_a_useless_network_says_so_at_the_top(runs):
    text = text_of(runs["useless"][0])
    sentence = comparison_of(evidence_of(runs["useless"][0])["baselines"]).sentences()[0]
    assert "than always answering" in sentence
    assert text.index(sentence) < text.index("Always answering the mean of these rows")
    assert 'class="useless"' in (runs["useless"][0] / "report.html").read_text()
    assert 'class="useless"' not in (runs["numbers"][0] / "report.html").read_text()


def test_a_useless_network_is_called_so_everywhere(runs, tmp_path):
    """On the terminal, at the top of the page and of the card, beside other runs, and among the findings."""
    folder, printed = runs["useless"]
    sentence = comparison_of(evidence_of(folder)["baselines"]).sentences()[0]
    assert sentence in printed
    (found,) = [f for f in evidence_of(folder)["findings"] if f["name"] == "useless"]
    assert found["evidence"] == sentence
    assert "Useless." in text_of(folder)
    card = write_card(read_run(folder), tmp_path / "card.md").read_text()
    assert card.index(sentence) < card.index("## Use")
    write_comparison([read_run(folder), read_run(runs["numbers"][0])], tmp_path / "report.html")
    assert sentence in text_of(tmp_path)
    assert "useless" not in [
        f["name"] for kind in ("numbers", "classes") for f in evidence_of(runs[kind][0])["findings"]
    ]


def test_simple_models_decide_whether_a_network_is_useless():
    """A history of few rows may say so of one that scored rows speak for."""
    X, y = xpnn.data.make_moons(400, noise=0.1, seed=0)
    net = xpnn.mlp([2, 16, 2], "tanh", seed=0)
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02)).fit(X[:200], y[:200], epochs=30)
    predictor = Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(y))
    history = xpnn.History([{"epoch": e, "loss": 0.7 + 0.1 / e, "accuracy": 0.5} for e in range(1, 9)])
    trained = Trained(X[:200], y[:200], 200)
    alone = collect_evidence(predictor, X[200:], y[200:], history=history)
    beside = collect_evidence(predictor, X[200:], y[200:], history=history, trained=trained)
    assert "useless" in [f["name"] for f in alone["findings"]]
    assert "useless" not in [f["name"] for f in beside["findings"]]


def test_what_an_older_version_found_in_the_curves_is_looked_at_again(runs):
    """Stale advice is not shown: it stopped early, and its waves are of a loss next to nothing."""
    found = read_run(runs["numbers"][0])
    stale = [xpnn.training.Finding(n, "seen.", "do.")._asdict() for n in ("overfitting", "oscillating", "dead units")]
    kept = dataclasses.replace(found, evidence={**found.evidence, "findings": stale})
    assert [f["name"] for f in findings(kept)] == ["overfitting", "oscillating", "dead units"]
    older = dataclasses.replace(kept, info={**kept.info, "versions": {"xpnn": "0.0.1"}})
    assert [f["name"] for f in findings(older)] == ["dead units"]


def test_a_run_that_stopped_early_is_not_told_to(runs, tmp_path):
    folder = shutil.copytree(runs["numbers"][0], tmp_path / "run")
    found = read_run(folder)
    assert found.history.restored == (found.info["best_epoch"] < len(found.history))
    rows = [{"epoch": e, "loss": 1 / e, "val_loss": 0.5 + 0.05 * e} for e in range(1, 11)]
    history = xpnn.History(rows)
    older = dataclasses.replace(found, history=history, evidence=None)
    assert "overfitting" in [f["name"] for f in findings(older)]
    history.restored = True
    assert "overfitting" not in [f["name"] for f in findings(older)]


def test_groups_columns_and_probabilities_are_told(runs):
    text = text_of(runs["numbers"][0])
    assert "Where town is Graz, the network is off by" in text
    assert "By how much the RMSE rises" in text
    assert "Errors by predicted value" in text
    assert "Probabilities" not in text
    text = text_of(runs["classes"][0])
    assert "By how much the cross-entropy rises" in text
    off = 100 * evidence_of(runs["classes"][0])["calibration"]["error"]
    assert f"Probabilities are off by {off:.1f} percentage points on average (180 rows" in text
    assert "rows that were “dear”" in text


def test_intervals_have_a_section(runs, tmp_path, browser):
    """Where a predictor has intervals, their coverage is looked at on the scored rows."""
    one = read_run(runs["numbers"][0])
    table = xpnn.data.load_csv(runs["numbers"][0].parent / "table.csv", target="price")
    X, y = {name: table.cells[name] for name in ("day", "size", "town")}, table.columns["price"]
    error = np.abs(one.predictor.predict(X) - y) / one.predictor.target.std
    vouched = Intervals(None, np.sort(error[:450])[:, None], 0.0, 0.0)
    predictor = dataclasses.replace(one.predictor, intervals=vouched)
    rest = np.arange(450, 900)
    evidence = collect_evidence(predictor, take_rows(X, rest), y[rest], history=one.history)
    low, high = predictor.predict_interval(X, 0.9).T
    inside = ((low <= y) & (y <= high))[rest]
    covered = evidence["coverage"]
    assert covered["share"] == inside.mean() == pytest.approx(0.9, abs=0.05)
    assert sum(part["rows"] for part in covered["parts"]) == 450
    written = json.loads(json.dumps(evidence))
    assert misfit_in_run(one.info, written, predictor) is None
    changed = dataclasses.replace(one, predictor=predictor, evidence=written)
    path = write_report(changed, tmp_path / "a.html")
    for width in (360, 1280):
        page = browser(path, width, 800)
        assert (page.overflow, page.errors) == ([], [])
    share = f"{100 * covered['share']:.1f}\xa0%"
    assert f"{share} of 450 true values lie in their intervals; promised are 90.0\xa0%" in page.text
    few = dataclasses.replace(predictor, intervals=Intervals(None, vouched.scores[:5], 0.0, 0.0))
    assert "coverage" not in collect_evidence(few, X, y)


def test_a_threshold_decides_what_is_wrong():
    """Answers, mistakes and groups are those of the threshold; simple models are compared by the likelier class."""
    X, y = xpnn.data.make_moons(300, noise=0.3, seed=0)
    net = xpnn.mlp([2, 8, 2], seed=0)
    predictor = Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(y), threshold=0.99)
    found = collect_evidence(predictor, X[150:], y[150:], trained=Trained(X[:150], y[:150], 150))
    assert found["wrong"] == (predictor.predict(X[150:]) != y[150:]).sum() == y[150:].sum()
    assert found["groups"]["error"] == found["wrong"] / 150
    assert all(mistake["prediction"] == "0" for mistake in found["mistakes"])
    likelier = (net.predict(X[150:]).argmax(axis=1) == y[150:]).mean()
    assert found["baselines"]["scores"]["accuracy"] == likelier


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [360, 1280])
def test_pages_look_right(runs, browser, kind, width):
    script = """[...document.querySelectorAll('svg')].flatMap(svg => {
      const box = svg.getBoundingClientRect();
      return [...svg.querySelectorAll('text')].filter(text => {
        const own = text.getBoundingClientRect();
        return own.left < box.left - 2 || own.right > box.right + 2
          || own.top < box.top - 2 || own.bottom > box.bottom + 2;
      }).map(text => text.textContent);
    })"""
    page = browser(runs[kind][0] / "report.html", width, 800, script=script)
    assert (page.overflow, page.errors, page.result) == ([], [], [])


def test_a_run_without_this_evidence_still_has_a_page(runs, tmp_path):
    """As written before there was any of it."""
    for kind in ("numbers", "classes"):
        one = read_run(runs[kind][0])
        later = ("baselines", "calibration", "groups", "importance")
        old = {name: value for name, value in one.evidence.items() if name not in later}
        page = write_report(dataclasses.replace(one, evidence=old), tmp_path / "old.html").read_text()
        for absent in ("simple-head", "calibration-head", "columns-head", "groups-head"):
            assert absent not in page
        assert "Largest errors" in page or "Mistakes" in page


@pytest.mark.parametrize(
    "name", ["stopped", "notes", "seconds", "best_epoch", "command", "finished", "machine", "target"]
)
def test_a_run_without_an_entry_of_later_versions_has_a_page(runs, tmp_path, name):
    one = read_run(runs["numbers"][0])
    info = {key: value for key, value in one.info.items() if key != name}
    assert "Simple models" in write_report(dataclasses.replace(one, info=info), tmp_path / "old.html").read_text()


def test_an_interrupted_or_unheld_run_is_not_compared(tmp_path, no_pictures):
    write_table(tmp_path / "t.csv", n=120)
    held = ("--test-size", 0, "--validation-size", 0)
    ran = train(tmp_path / "t.csv", "--target", "dear", "--epochs", 2, *held, "--out", tmp_path / "r")
    assert "Beside simple models" not in ran.out
    assert "baselines" not in evidence_of(tmp_path / "r")
    shutil.rmtree(tmp_path / "r")
    given = run(
        "train", tmp_path / "t.csv", "--target", "dear", "--epochs", 2, "--json", "--quiet", "--out", tmp_path / "r"
    )
    assert "Beside" not in given.out
    assert "baselines" in evidence_of(tmp_path / "r")
