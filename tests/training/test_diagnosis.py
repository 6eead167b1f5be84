"""`xpnn.diagnose` on runs of known condition: what it finds, and that it raises no false alarm."""

from __future__ import annotations

import numpy as np
import pytest
from recorded_runs import BEFORE, FILE, FIRST, PAGE, PARTS, load, recorded, render
from tools import load_tool

import xpnn
from xpnn.training.diagnosis import judge
from xpnn.training.look import Look, look_at

RUNS = load()

#: Errors that are left, named here and on the page: what is missed, and what is found in vain.
LEFT = {
    ("cut off while it still learns, regression", "third"): ({"still improving"}, set()),
    ("labels shuffled, one output", "third"): ({"useless"}, set()),
}


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.condition}-{run.part}")
def test_what_is_found_is_what_is_wrong(run):
    missed, false = LEFT.get((run.condition, run.part), (set(), set()))
    assert (run.missed, run.false) == (missed, false), [str(finding) for finding in run.findings]


def test_the_runs_are_many_and_of_both_kinds():
    assert len(RUNS) >= 60
    assert [run.part for run in RUNS] == list(PARTS) * (len(RUNS) // len(PARTS))
    healthy = [run for run in RUNS if not run.must]
    assert 40 <= len(healthy) <= len(RUNS) - 30
    assert not any(run.false for run in RUNS)
    right = {part: sum(not r.missed and not r.false for r in RUNS if r.part == part) for part in BEFORE}
    assert all(right[part] > BEFORE[part] for part in BEFORE)
    assert all(right[part] >= FIRST[part] for part in FIRST)


def test_the_page_shows_what_is_found():
    assert PAGE.read_text(encoding="utf-8") == render(RUNS), "run python ci/make_runs.py --page"


def test_what_is_kept_is_what_the_tool_makes():
    """Its kinds are those of the file, and a run made anew is the run that is kept."""
    tool = load_tool("make_runs")
    kinds = [(k.condition, set(k.must), set(k.may)) for k in tool.KINDS]
    assert kinds == [(run.condition, set(run.must), set(run.may)) for run in RUNS[:: len(PARTS)]]
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


def history(loss, val=None, **more):
    """A history of these losses."""
    columns = {"loss": loss, **({} if val is None else {"val_loss": val})}
    return xpnn.History([{"epoch": e + 1, **{n: c[e] for n, c in columns.items()}, **more} for e in range(len(loss))])


def test_a_loss_that_wanders_is_not_held_back_by_a_small_rate():
    """It hardly falls in either, but only where the weights move does it go up and down."""
    rng = np.random.default_rng(0)
    wandering = 0.69 + 0.004 * rng.normal(size=40)
    (finding,) = xpnn.diagnose(history(wandering.tolist(), accuracy=0.6))
    assert finding.name == "underfitting"
    creeping = 0.69 - 0.0001 * np.arange(40)
    assert xpnn.diagnose(history(creeping.tolist(), accuracy=0.6))[0].name == "too slow"


def test_slow_waves_are_told_where_validation_rows_see_them():
    """They turn in every third epoch."""
    waves = 0.5 + 0.15 * np.sin(np.arange(30) * np.pi / 3)
    loss, calm = [2.0, 1.0, *waves.tolist()], [2.0, 1.0] + [0.6] * 30
    (finding,) = xpnn.diagnose(history(loss, loss, r2=0.7))
    assert finding.name == "oscillating"
    assert "in the last 10 epochs the rises of the loss make" in finding.evidence
    assert xpnn.diagnose(history(loss, calm, r2=0.7)) == []


def test_a_rise_within_what_a_curve_moves_anyway_is_not_overfitting():
    loss = (1.0 / np.arange(1, 13) ** 0.3).tolist()
    jumps = [0.9, 0.6, 0.5, 0.58, 0.51, 0.6, 0.52, 0.59, 0.51, 0.6, 0.58, 0.59]
    assert xpnn.diagnose(history(loss, jumps, accuracy=0.9)) == []
    steady = [0.9, 0.6, *(0.5 + 0.01 * np.arange(10))]
    assert xpnn.diagnose(history(loss, steady, accuracy=0.9))[0].name == "overfitting"


def test_units_that_do_nothing_are_told_where_they_explain_something():
    look = Look(
        2, {}, {}, [("1.ReLU", "dead units", 0.45), ("3.Tanh", "saturated units", 0.8)], 100, 0.5, 3.0, [50, 50]
    )
    good = falling(every=0.4, accuracy=0.9)
    assert judge(good, look) == [], "a layer that has learnt does without them"
    assert [f.name for f in judge(good, look._replace(idle=[("1.ReLU", "dead units", 0.6)]))] == ["dead units"]
    useless = history([0.69] * 12, accuracy=0.5)
    assert [f.name for f in judge(useless, look)][-2:] == ["dead units", "saturated units"]
    done = falling(every=0.4, accuracy=0.99)
    assert judge(done, look._replace(idle=[("1.ReLU", "dead units", 0.6)])) == []


def test_a_unit_that_jumps_from_end_to_end_is_saturated():
    """Nothing comes down through it, though it says something of each row."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    for activation in ("tanh", "sigmoid"):
        net = xpnn.mlp([3, 8, 2], activation, seed=0)
        assert look_at(net, X).idle == [(f"1.{activation.title()}", "saturated units", 0.0)]
        net.params["0.weight"][...] *= 200.0
        assert look_at(net, X).idle == [(f"1.{activation.title()}", "saturated units", 1.0)]
