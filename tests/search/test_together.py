"""How many networks are trained together: by times that are given here, and with the same results whatever it is."""

from __future__ import annotations

import importlib
import logging

import pytest

import xpnn
from xpnn.accel.choice import quickest
from xpnn.errors import DivergenceError
from xpnn.search import grid, run
from xpnn.search import together as module
from xpnn.search.configuration import Common, read
from xpnn.search.together import Ahead, AsBefore, MeasuredSizes, trials_on

run_module = importlib.import_module("xpnn.search.run")  # the package's `run` is the function

X, Y = xpnn.data.make_moons(300, noise=0.2, seed=0)
COMMON = Common(2, 2, xpnn.CrossEntropy(), (), 0, "numpy", None)
PLAN = read({"hidden": (8,), "batch_size": 32})
LONG = Ahead(rows=32_000, networks=64, epochs=64 * 100)


class Machine:
    """A clock, and trials whose steps take as long as `each` says of the number of networks."""

    def __init__(self, each, steps=64):
        self.now, self.each, self.steps, self.made = 0.0, each, steps, []

    def ways(self, sizes):
        return {size: lambda size=size: self.make(size) for size in sizes}

    def trial(self, plan, size):
        return lambda: self.make(size)

    def make(self, size):
        self.made.append(size)
        self.now += self.steps * size * self.each(size)
        return self.each(size)

    def sizes(self, rule=16, ahead=LONG, common=COMMON):
        return MeasuredSizes(lambda plan: rule, self.trial, ahead, common, lambda: self.now)


# -- the quickest of several ways ------------------------------------------------------------------------------
@pytest.mark.parametrize("best", [1, 4, 8, 16])
def test_the_quickest_is_taken(best):
    machine = Machine(lambda size: 1.0 if size == best else 1.2)
    assert quickest(machine.ways([1, 4, 8, 16]), 8, lambda each: 1e9, clock=lambda: machine.now) == best
    assert machine.made.count(8) == machine.made.count(1) > 1, "they take turns"


def test_the_first_is_left_only_for_what_is_clearly_better():
    for share, expected in [(0.96, 1), (1.0, 1), (1.3, 1), (0.9, 2)]:
        assert quickest({1: lambda: 1.0, 2: lambda share=share: share}, 1, lambda each: 1e9) == expected


def test_one_slow_trial_decides_nothing():
    times = {1: iter([1.0, 9.0, 1.0, 1.0, 1.0]), 2: iter([0.1, 2.0, 2.0, 2.0, 2.0])}
    assert quickest({k: lambda k=k: next(times[k]) for k in times}, 1, lambda each: 1e9) == 1


@pytest.mark.parametrize("seconds", [0.0, 5.0, 20.0, 50.0, 100.0, 300.0])
def test_trials_take_no_longer_than_they_may(seconds):
    machine = Machine(lambda size: 1.0 / size, steps=10)  # 10 seconds a trial
    found = quickest(machine.ways([1, 2, 4]), 1, lambda each: seconds, clock=lambda: machine.now)
    assert machine.now <= max(seconds, 10.0)
    assert found == (4 if seconds >= 100 else 1)


# -- how many together -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("each", "expected"),
    [
        (lambda size: 1e-4, 16),  # all alike: the rule's
        (lambda size: 1e-4 * (0.5 + size), 1),
        (lambda size: 1e-4 * (0.1 + 1 / size), 32),
        (lambda size: 1e-4 if size == 8 else 2e-4, 8),
    ],
)
def test_trials_say_how_many(each, expected, caplog):
    machine = Machine(each)
    with caplog.at_level(logging.INFO, logger="xpnn"):
        assert machine.sizes()(PLAN, 64) == expected
    assert set(machine.made) == {1, 8, 16, 32}
    assert ("it is quicker" in caplog.text) == (expected != 16)
    steps = 64 * 100 * 1000
    assert machine.now <= 0.02 * steps * each(16)


def test_no_more_are_tried_than_there_are():
    for each, expected in [(lambda size: 1e-3 / size, 16), (lambda size: 1e-3 if size == 2 else 2e-3, 2)]:
        machine = Machine(each)
        assert machine.sizes(ahead=Ahead(32_000, 5, 5 * 1000))(PLAN, 5) == expected, (
            "all five at once are what the rule says"
        )
        assert set(machine.made) == {1, 2, 4}


@pytest.mark.parametrize(
    "ahead", [Ahead(320, 64, 64), Ahead(32_000, 64, 64 * 100, seconds=2.0)], ids=["short", "little time"]
)
def test_the_rule_holds_where_trials_do_not_pay(ahead):
    machine = Machine(lambda size: 1e-4 * size)
    assert machine.sizes(ahead=ahead)(PLAN, 64) == 16
    assert not machine.made


def test_the_rule_holds_where_there_is_nothing_to_choose():
    machine = Machine(lambda size: 1e-4 * size)
    assert machine.sizes()(PLAN, 1) == 16
    assert machine.sizes()(read({"schedule": xpnn.Plateau()}), 9) == 16
    strict = pytest.importorskip("array_api_strict")
    assert strict
    assert machine.sizes(common=Common(2, 2, xpnn.CrossEntropy(), (), 0, "strict", None))(PLAN, 64) == 16
    assert not machine.made


def test_the_rule_holds_where_a_trial_fails():
    def fails():
        raise DivergenceError("loss is nan")

    sizes = MeasuredSizes(lambda plan: 4, lambda plan, size: fails, LONG, COMMON)
    assert sizes(PLAN, 64) == 4


def test_a_trial_makes_steps_of_so_many_networks():
    data = {"X": X, "y": Y}
    for size in (1, 3):
        make = trials_on(data, COMMON)(read({"hidden": (4,), "dropout": 0.2, "batch_size": 32}), size)
        assert 0.0 < make() < 1.0


# -- in a search -----------------------------------------------------------------------------------------------
SPACE = {"lr": [0.003, 0.03], "dropout": [0.0, 0.4], "seed": [0, 7], "hidden": (6,), "batch_size": 64}


@pytest.fixture
def best(monkeypatch):
    """Let every search be worth trials, which find a number of networks the best that is asked for here."""
    monkeypatch.setattr(module, "_WORTH", 0.0)
    tried = []

    def choose(size):
        def trials(data, common):
            def trial(plan, n):
                tried.append(n)
                return lambda: 1e9 if n != size else 1e8

            return trial

        monkeypatch.setattr(run_module, "trials_on", trials)
        return tried

    return choose


def search(**options):
    return run(grid(SPACE), X, Y, **{"loss": xpnn.CrossEntropy(), "epochs": 3} | options)


@pytest.mark.parametrize("halving", [None, xpnn.search.Halving(eta=2)])
def test_results_are_the_same_whichever_is_chosen(best, halving, monkeypatch):
    sizes, whole = [], run_module._groups
    monkeypatch.setattr(run_module, "_groups", lambda *given: sizes.append(whole(*given)) or sizes[-1])
    expected = search(halving=halving, together=8)
    for size in (1, 4, 8):
        assert best(size) is not None
        found = search(halving=halving)
        assert [len(places) for places in sizes[-1]] == [size] * (8 // size)
        for a, b in zip(found.trials, expected.trials, strict=True):
            assert a.history.rows == b.history.rows
            assert a.status == b.status
    assert len(sizes) == 4


def test_a_search_that_is_gone_on_with_keeps_its_groups(best, tmp_path):
    tried = best(1)
    expected = search()
    first = search(checkpoint=tmp_path / "s", max_seconds=1e-6)
    assert {trial.status for trial in first.trials} == {"not started"}
    count = len(tried)
    best(8)
    found = search(checkpoint=tmp_path / "s")
    assert len(tried) == count, "it was tried anew"
    assert [t.history.rows for t in found.trials] == [t.history.rows for t in expected.trials]


def test_sizes_of_a_file():
    sizes = AsBefore([3, 3, 2, 5])
    assert [sizes(PLAN, 8), sizes(PLAN, 5), sizes(PLAN, 4)] == [3, 5, 4]


def test_several_processes_go_by_the_rule(best, monkeypatch):
    tried = best(1)
    monkeypatch.setattr(run_module, "read_jobs", lambda n_jobs, where: 2)
    monkeypatch.setattr(run_module, "_climb", lambda *given: None)
    search()
    assert not tried
