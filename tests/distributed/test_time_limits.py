"""What follows a clock is decided on rank 0, whatever those of the others say."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from sharded import Failing, table
from thread_group import agreed, on_threads

from xpnn.errors import ProcessError
from xpnn.tabular import TabularClassifier, members
from xpnn.tabular.members import TOO_SHORT, fit_members
from xpnn.tabular.recipe import Recipe

ENDLESS = Recipe("classification", hidden=(8,), epochs=10**6, batch_size=32, patience=None)


@pytest.fixture
def clocks(monkeypatch):
    """Each rank has a clock of its own: the first is right, on the others hours go by."""
    own = threading.local()

    def now():
        own.looks = getattr(own, "looks", 0) + 1
        return time.monotonic() + (0.0 if getattr(own, "rank", 0) == 0 else 3600.0 * own.looks)

    monkeypatch.setattr(members, "time", SimpleNamespace(monotonic=now))

    def of(group):
        own.rank = group.rank
        return group

    return of


def state(fitted):
    made = fitted.members
    values = [array.tobytes() for _, array in sorted(fitted.net.state_dict().items())]
    return values, [len(member.history) for member in made], [member.stopped for member in made]


@pytest.mark.parametrize("networks", [1, 2])
def test_a_time_limit_gives_all_the_same_networks(clocks, networks):
    X, y = table()
    recipe = ENDLESS.replace(members=networks, folds=networks if networks > 1 else 0)
    held = {} if networks > 1 else {"X_val": X[:40], "y_val": y[:40]}

    def work(group):
        sharing = {"shards": 4, "group": clocks(group)}
        return state(fit_members(recipe, X, y, **held, n_out=2, n_values=4, time_limit=1.0, sharing=sharing))

    _, epochs, why = agreed(3, work)
    assert 1 <= epochs[0] < 10**6
    assert "the time limit" in why[0]


def test_a_time_limit_within_the_first_epoch_ends_it_at_the_same_step(clocks):
    """And nobody is told of a failure: the processes go on to work together."""
    X = np.tile(table()[0], (40, 1))
    y = np.tile(table()[1], 40)

    def work(group):
        sharing = {"shards": 4, "group": clocks(group)}
        fitted = fit_members(ENDLESS, X, y, n_out=2, n_values=4, time_limit=1e-6, sharing=sharing)
        return state(fitted), group.share("there"), group.world.failed

    (_, epochs, why), there, failed = agreed(2, work)
    assert (epochs, why, there, failed) == ([1], [TOO_SHORT], ["there"] * 2, {})


def test_an_estimator_takes_a_time_limit_and_a_group(clocks):
    X, y = table()

    def work(group):
        model = TabularClassifier(preset="quick", time_limit=600.0, hidden=(8,), epochs=2)
        return model.fit(X, y, shards=4, group=clocks(group)).predict_proba(X).tobytes()

    whole = TabularClassifier(preset="quick", hidden=(8,), epochs=2).fit(X, y, shards=4)
    assert agreed(2, work) == whole.predict_proba(X).tobytes()


def test_a_rank_that_fails_within_a_time_limit_ends_all(clocks):
    X, y = table()

    def work(group):
        sharing = {"shards": 4, "group": clocks(group)}
        trouble = [Failing(group.rank, ValueError("the disk is full"), 3)]
        fit_members(ENDLESS, X, y, n_out=2, n_values=4, time_limit=30.0, callbacks=trouble, sharing=sharing)

    first, second = on_threads(2, work)
    assert isinstance(first, ProcessError)
    assert "rank 1 of 2 has failed: ValueError: the disk is full" in str(first)
    assert isinstance(second, ValueError)
