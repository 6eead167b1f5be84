"""The settings of a training run: computed once from what the command line says, which stays as it was."""

from __future__ import annotations

import argparse
import copy

import pytest

from xpnn.cli import make_parser
from xpnn.cli.recipe import rows_a_batch, settle
from xpnn.errors import OptionError


def arguments(*argv: str) -> argparse.Namespace:
    return make_parser().parse_args(["train", *argv])


@pytest.mark.parametrize(
    "argv", [["moons"], ["t.csv", "--target", "y", "--preset", "none"], ["mnist", "--hidden", "8", "--lr", "0.1"]]
)
def test_settling_fills_a_copy(argv):
    args = arguments(*argv)
    before = copy.deepcopy(vars(args))
    settings = settle(args)
    assert vars(args) == before
    assert list(vars(settings)) == list(before)
    given = {name: value for name, value in before.items() if value not in (None, "none") or name == "norm"}
    assert {name: getattr(settings, name) for name in given} == given
    assert settings.lr > 0
    assert settings.hidden


def test_a_table_has_a_recipe_that_waits_for_its_rows():
    settings = settle(arguments("t.csv", "--target", "y"))
    assert (settings.preset, settings.hidden, settings.lr, settings.test_size) == ("good", None, None, 0.2)
    assert settle(arguments("t.csv", "--target", "y", "--cv", "5")).test_size == 0.0
    assert settle(arguments("moons")).preset is None


def test_the_defaults_go_by_the_data():
    points, table = (
        settle(arguments("moons")),
        settle(arguments("t.csv", "--target", "y", "--epochs", "10", "--preset", "none")),
    )
    assert (points.hidden, points.activation, points.batch_size, points.bins) == ([32, 32], "tanh", 32, None)
    assert (table.hidden, table.activation, table.batch_size, table.bins) == ([256, 128], "silu", 0, "auto")
    assert (points.warmup, table.warmup) == (0.0, 0.5)
    assert settle(arguments("moons", "--validation-size", "0")).patience is None
    assert settle(arguments("moons", "--hidden", "")).hidden == []
    assert [rows_a_batch(n) for n in (10, 1000, 1001, 10_000, 10_001)] == [32, 32, 64, 128, 256]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["moons", "--hidden", "", "--dropout", "0.5"], "--dropout: expected a hidden layer to act on, got none"),
        (["moons", "--drop", "x"], "--drop: expected a table, got moons"),
        (["moons", "--validation-size", "0", "--patience", "3"], "--patience: expected validation rows, got none"),
        (["t.csv", "--test-file", "u.csv", "--test-size", "0.1"], "--test-size: expected no --test-file beside it"),
    ],
)
def test_what_would_do_nothing_is_refused(argv, message):
    with pytest.raises(OptionError, match=message):
        settle(arguments(*argv))
