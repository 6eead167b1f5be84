"""`diagnose` on recorded runs of known condition: each is called by its name, the well ones by none."""

from __future__ import annotations

import pytest
from recorded_runs import PAGE, findings, recorded_runs, render

import xpnn

RUNS = recorded_runs()


def test_there_are_thirty_runs_and_every_finding_occurs():
    assert len(RUNS) >= 30
    assert sum(not run["expected"] for run in RUNS.values()) >= 12
    assert {name for run in RUNS.values() for name in run["expected"]} == {
        "too slow", "unfinished", "oscillating", "diverging", "overfitting", "underfitting", "useless",
        "vanishing gradients", "exploding gradients", "dead units", "saturated units", "constant prediction",
    }  # fmt: skip
    for run in RUNS.values():
        assert run["condition"].startswith("well") == (not run["expected"])


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_called_by_its_name(name):
    assert [finding.name for finding in findings(RUNS[name])] == RUNS[name]["expected"]


def test_the_page_shows_what_is_said():
    assert render() == PAGE.read_text(encoding="utf-8"), "run python ci/record_runs.py --table-only"


def falling_to(end, epochs=30, **columns):
    """A loss that comes down in a straight line."""
    rows = [{"epoch": e + 1, "loss": 1.0 - (1.0 - end) * e / (epochs - 1)} for e in range(epochs)]
    for row in rows:
        row.update(columns)
    return xpnn.History(rows)


def said(history):
    return [finding.name for finding in xpnn.diagnose(history)]


def test_a_run_that_still_falls_is_unfinished():
    (finding,) = xpnn.diagnose(falling_to(0.4, accuracy=0.8))
    assert finding.evidence == "in the last 6 epochs the loss still fell from 0.5759 to 0.4517."
    assert finding.advice == "Train longer, or try a learning rate three times larger."


def test_who_is_good_enough_or_has_ended_is_not_told_to_train_longer():
    assert said(falling_to(0.4, accuracy=0.8, val_accuracy=0.93)) == []
    assert said(falling_to(0.05)) == []  # next to nothing is left
    assert said(falling_to(0.4, epochs=15)) == []  # too few epochs to tell
    assert said(falling_to(0.4, val_loss=0.7)) == []  # other rows gain nothing
    stopped = falling_to(0.4)
    stopped.restored = True
    assert said(stopped) == []


def test_a_wave_of_the_validation_loss_is_no_overfitting():
    losses = [1.0, 0.5, 0.3, 0.2, 0.15, 0.12, 0.11, 0.10, 0.09]
    waves = [1.0, 0.5, 0.3, 0.2, 0.10, 0.12, 0.13, 0.12, 0.13]
    rises = [1.0, 0.5, 0.3, 0.2, 0.10, 0.15, 0.20, 0.25, 0.30]
    for held_out, expected in ((waves, []), (rises, ["overfitting"])):
        rows = [{"loss": a, "val_loss": b} for a, b in zip(losses, held_out, strict=True)]
        assert said(xpnn.History(rows)) == expected


def test_what_was_learnt_by_heart_is_not_told_to_raise_the_rate():
    rows = [{"loss": 1 / e, "r2": 0.9, "val_r2": -0.1} for e in range(1, 8)]
    (finding,) = xpnn.diagnose(xpnn.History(rows))
    assert finding.name == "useless"
    assert "by heart" in finding.advice
    assert "rate" not in finding.advice
