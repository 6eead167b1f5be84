"""Files of predictions: rows are what Python's `csv` writes of the same values."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from xpnn.cli import answers, main
from xpnn.predictor import load_predictor

RNG = np.random.default_rng(0)
N = 200


@pytest.fixture(name="table", scope="module")
def fixture_table(tmp_path_factory):
    path = tmp_path_factory.mktemp("answers") / "table.csv"
    x, kind = RNG.normal(size=N), RNG.integers(0, 3, N)
    rows = [
        [k, f"{a:.3f}", "x, y" if k % 7 else "", ["=no", "maybe, so", "yes"][c], f"{2 * a + c:.4f}"]
        for k, (a, c) in enumerate(zip(x.tolist(), kind.tolist(), strict=True))
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "size", "note", "kind", "price"], *rows])
    return path


@pytest.mark.parametrize(("target", "more"), [("price", ["--interval", "0.5"]), ("kind", ["--proba"]), ("kind", [])])
def test_rows_are_those_of_csv(table, tmp_path, target, more, monkeypatch, capsys):
    monkeypatch.setattr(answers, "_BLOCK", 33)
    out = tmp_path / "run"
    assert not main(["train", str(table), "--target", target, "--epochs", "2", "--quiet", "--out", str(out)])
    keep = ["--keep", "id,note"] if more else []
    capsys.readouterr()
    assert not main(["predict", str(out), str(table), "--out", str(tmp_path / "p.csv"), *more, *keep])
    told = capsys.readouterr().err
    assert not main(["predict", str(out), str(table), "--out", "-", *more, *keep])
    text = (tmp_path / "p.csv").read_bytes().decode()
    assert capsys.readouterr().out == text

    predictor = load_predictor(out)
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    raw = {name: np.array([row[name] or None for row in rows], dtype=object) for name in rows[0]}
    raw |= {name: raw[name].astype(np.float64) for name in ("id", "size", "price")}
    columns = {name: [row[name] for row in rows] for name in (["id", "note"] if more else [])}
    probability = predictor.predict_proba(raw)
    columns["prediction"] = predictor.decode(probability).tolist()
    if target == "price":
        bounds = predictor.predict_interval(raw, 0.5)
        columns |= {"lower": bounds[:, 0].tolist(), "upper": bounds[:, 1].tolist()}
    elif more:
        for label, column in zip(predictor.target.classes, probability.T, strict=True):
            columns[f"p({label})"] = [f"{p:.6g}" for p in column]
    with (tmp_path / "want.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    assert text == (tmp_path / "want.csv").read_bytes().decode()
    assert ("'=no'" in told) == ("=no" in columns["prediction"])
