"""Rows of a very large table are scored a part at a time: with the scores of all of them together."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xpnn.cli import main, make_parser, problem
from xpnn.data.arrays import SomeRows


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    x, word = rng.normal(size=(300, 2)), rng.choice(["red", "green", "blue"], 300)
    lines = [f"{a:.3f},{b:.3f},{w},{a + 2 * b + (w == 'red'):.3f}" for (a, b), w in zip(x, word, strict=True)]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["a,b,word,y", *lines]) + "\n", encoding="utf-8")
    return path


def test_scores_do_not_depend_on_the_parts(table, tmp_path, monkeypatch, capsys):
    options = ["--target", "y", "--preset", "none", "--epochs", "2", "--quiet", "--test-size", "0.3"]
    taken = []
    parts = SomeRows.parts

    def counted(self, most):
        found = list(parts(self, most))
        taken.append([len(part["a"]) for part in found])
        return iter(found)

    monkeypatch.setattr(SomeRows, "parts", counted)
    found = {}
    for name, most in (("whole", 1 << 20), ("parts", 25)):
        monkeypatch.setattr(problem, "_SCORED", most)
        assert main(["train", str(table), *options, "--out", str(tmp_path / name)]) == 0
        found[name] = json.loads((tmp_path / name / "scores.json").read_text(encoding="utf-8"))["scores"]
        found[name, "evidence"] = json.loads((tmp_path / name / "evidence.json").read_text(encoding="utf-8"))
    assert taken == [[22, 23, 22, 23]]
    assert found["parts"]["rows"] == found["whole"]["rows"] == 90
    for score in ("rmse", "mae", "r2"):
        assert found["parts"][score] == pytest.approx(found["whole"][score], rel=1e-6)
    assert found["parts", "evidence"]["mistakes"][0]["row"] == found["whole", "evidence"]["mistakes"][0]["row"]


@pytest.mark.parametrize("targets", [["y"], ["y", "b"]])
def test_targets_of_a_part_are_those_of_the_whole_column(targets, table):
    options = [option for name in targets for option in ("--target", name)]
    options += ["--preset", "none", "--bins", "0", "--test-size", "0.3", "--validation-size", "0.2", "--seed", "3"]
    settings = make_parser().parse_args(["train", str(table), *options])
    found = problem.read_problem(settings, lambda *notes: None)
    whole = found.target.encode(found.source.y)
    assert found.n_out == whole.shape[-1] == len(targets)
    for part, rows in found.parts.items():
        assert np.array_equal(found.encoded(part)[1], whole[rows])
