"""`xpnn.diagnose` on runs of known condition: what it finds, and that it raises no false alarm."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_runs import BEFORE, FILE, PAGE, load, recorded, render
from tools import load_tool

import xpnn
from xpnn.training.diagnosis import judge
from xpnn.training.look import Look, look_at

RUNS = load()

#: Errors that are left, named here and on the page: what is missed, and what is found in vain.
LEFT = {
    ("a rate too large: to and fro, regression", "seen"): ({"oscillating"}, set()),
    ("as good as can be from the first epoch", "aside"): (set(), {"dead units"}),
    ("too weak for the task", "aside"): ({"underfitting"}, {"too slow"}),
    ("a rate too large: to and fro, regression", "aside"): ({"oscillating"}, {"underfitting"}),
    ("units are at their ends", "aside"): ({"saturated units"}, set()),
}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.condition}-{run.part}")
def test_what_is_found_is_what_is_wrong(run):
    missed, false = LEFT.get((run.condition, run.part), (set(), set()))
    assert (run.missed, run.false) == (missed, false), [str(finding) for finding in run.findings]


def test_the_runs_are_many_and_of_both_kinds():
    assert len(RUNS) >= 60
    assert [run.part for run in RUNS] == ["seen", "aside"] * (len(RUNS) // 2)
    healthy = [run for run in RUNS if not run.must]
    assert 40 <= len(healthy) <= len(RUNS) - 30
    right = {part: sum(not r.missed and not r.false for r in RUNS if r.part == part) for part in BEFORE}
    assert all(right[part] > BEFORE[part] for part in BEFORE)


def test_the_page_shows_what_is_found():
    assert PAGE.read_text(encoding="utf-8") == render(RUNS), "run python ci/make_runs.py --page"


def test_what_is_kept_is_what_the_tool_makes():
    """Its kinds are those of the file, and a run made anew is the run that is kept."""
    tool = load_tool("make_runs")
    kinds = [(k.condition, set(k.must), set(k.may)) for k in tool.KINDS]
    assert kinds == [(run.condition, set(run.must), set(run.may)) for run in RUNS[::2]]
    (kind,) = [k for k in tool.KINDS if k.condition == "a rate too small"]
    assert FILE.stat().st_size < 500_000
    (kept,) = [run for run in RUNS if run.condition == kind.condition and run.part == "seen"]
    again = recorded(tool.record(kind, "seen"))
    assert again.epochs == kept.epochs
    assert [f.name for f in again.findings] == [f.name for f in kept.findings]


def test_a_kept_look_is_judged_as_its_network():
    X, y = xpnn.data.make_moons(200, noise=0.2, seed=0)
    net = xpnn.mlp([2, 16, 2], seed=0)
    net.params["0.bias"][:12] = -50.0
    history = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=1e-5)).fit(X, y, epochs=6)
    found = xpnn.diagnose(history, net, X)
    assert {"too slow", "dead units"} <= {finding.name for finding in found}
    assert judge(history, look_at(net, X)) == found


def falling(*, every, epochs=12, **more):
    """A loss that loses the same share in each epoch."""
    loss = [0.7 * (1 - every) ** e for e in range(epochs)]
    return xpnn.History([{"epoch": e + 1, "loss": loss[e], **more} for e in range(epochs)])


def test_who_is_still_improving_is_told_to_train_longer():
    (finding,) = xpnn.diagnose(falling(every=0.08, accuracy=0.9))
    assert finding.name == "still improving"
    assert finding.evidence == "loss fell from 0.3305 to 0.2797 in the last 2 of 12 epochs and is at its best."
    assert finding.advice == "Train longer."
    assert xpnn.diagnose(falling(every=0.4, accuracy=0.9)) == [], "it has come to its end"
    assert xpnn.diagnose(falling(every=0.08, accuracy=0.99)) == [], "next to nothing is left"
    history = falling(every=0.08)
    history.restored = True
    assert xpnn.diagnose(history) == [], "it was stopped early, and not in vain"


def test_useless_for_now_is_told_so_with_other_advice():
    found = {f.name: f for f in xpnn.diagnose(falling(every=0.05, r2=-0.4))}
    assert set(found) == {"still improving", "useless"}
    assert found["useless"].advice == "Train longer before you judge it."


@pytest.mark.parametrize(("loss", "name"), [(0.15, "one class"), (0.25, "useless")])
def test_one_class_whose_probabilities_tell_something_is_not_useless(loss, name):
    """One who always says that 7 of 100 rows are of the rare class has a loss of 0.2536."""
    history = xpnn.History([{"epoch": e, "loss": loss + 0.3 / e**3, "accuracy": 0.93} for e in range(1, 11)])
    (finding,) = judge(history, Look(2, {}, {}, [], 300, 0.5, 3.0, [300, 0]))
    assert finding.name == name
    assert finding.evidence.startswith("all 300 rows are given class 0, so accuracy (0.930) is that class's share")
    assert ("their probabilities differ" in finding.evidence) is (name == "one class")


def test_a_useless_network_of_one_output_is_called_so():
    X = np.random.default_rng(0).normal(size=(200, 3))
    y = np.random.default_rng(1).integers(0, 2, (200, 1))
    net = xpnn.mlp([3, 4, 1], seed=0)
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.01))
    found = xpnn.diagnose(trainer.fit(X, y, epochs=10, validation_fraction=0.5), net, X)
    assert "guessing among 2 classes has 0.6931." in next(f.evidence for f in found if f.name == "useless")
