"""The guard sees whatever a recording has fixed, and costs next to nothing."""

from __future__ import annotations

import copy
import inspect
import sys
import time
from typing import ClassVar

import numpy as np
import pytest

import xpnn
from xpnn import Linear, arguments
from xpnn.training.recorded.guard import Guard


class Scaled(xpnn.Tanh):
    """A layer of one's own, with an option that its `repr` shows, and a count that it does not."""

    def __init__(self, factor=1.0):
        self.factor, self.calls = factor, 0


class Describing(xpnn.losses.MeanSquaredError):
    """A loss that says itself what matters."""

    inside: ClassVar = {"a": 1}

    def __repr__(self):
        return f"Describing({self.inside})"


def make(**options):
    layers = Linear(4), xpnn.Dropout(0.2), xpnn.Residual(Linear(4), xpnn.LeakyReLU(0.1)), Scaled(), Linear(3)
    net = xpnn.Sequential(*layers, n_in=2)
    options = {"regularizer": xpnn.L2(0.1), "clip_norm": 1.0, **options}
    trainer = xpnn.Trainer(net, options.pop("loss", xpnn.Huber()), xpnn.AdamW(0.01), metrics=("mse", "r2"), **options)
    trainer.optimizer.bind(net.store)
    trainer.bound_loss = trainer.loss.using(net.backend.ops)
    return trainer


def test_it_costs_next_to_nothing():
    """At most 30 µs for a small network, whose epoch may take hardly more; the least of many, so load does no harm."""
    net = xpnn.mlp([2, 16, 8, 1])
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.Adam())
    trainer.optimizer.bind(net.store)
    trainer.bound_loss = trainer.loss.using(net.backend.ops)
    first = Guard(trainer)
    times = []
    tracer = sys.gettrace()
    sys.settrace(None)  # what measures coverage would be measured, too
    try:
        for _ in range(300):
            began = time.perf_counter()
            assert Guard(trainer) == first
            times.append(time.perf_counter() - began)
    finally:
        sys.settrace(tracer)
    assert min(times) <= 30e-6


CHANGES = {
    "clip_norm": lambda t: setattr(t, "clip_norm", 2.0),
    "clip_value": lambda t: setattr(t, "clip_value", 2.0),
    "penalty": lambda t: setattr(t.regularizer, "lam", 0.2),
    "other penalty": lambda t: setattr(t, "regularizer", xpnn.L1(0.1)),
    "no penalty": lambda t: setattr(t, "regularizer", None),
    "dropout": lambda t: setattr(t.net.layers[1], "rate", 0.3),
    "inner layer": lambda t: setattr(t.net.layers[2].layers[1], "slope", 0.2),
    "own layer": lambda t: setattr(t.net.layers[3], "factor", 2.0),
    "loss": lambda t: setattr(t.bound_loss, "delta", 0.5),
    "metrics": lambda t: t.metrics.pop(),
    "beta1": lambda t: setattr(t.optimizer, "beta1", 0.5),
    "decay": lambda t: setattr(t.optimizer, "weight_decay", 0.5),
    "decays": lambda t: setattr(t.optimizer, "weight_decay", [0.5]),
    "values": lambda t: setattr(t.net.store, "values", t.net.store.values.copy()),
    "factors": lambda t: setattr(t.net.store, "lr_factors", np.ones(3)),
    "state": lambda t: t.optimizer.state.update(m=t.optimizer.state["m"].copy()),
    "more state": lambda t: t.optimizer.state.update(n=t.optimizer.state["m"].copy()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(name):
    trainer = make()
    before = Guard(trainer)
    assert Guard(trainer) == before
    CHANGES[name](trainer)
    assert Guard(trainer) != before
    assert Guard(trainer) == Guard(trainer)


def test_a_list_that_changes_in_place_is_seen():
    trainer = make()
    trainer.optimizer.weight_decay = [0.1]
    before = Guard(trainer)
    trainer.optimizer.weight_decay[0] = 0.2
    assert Guard(trainer) != before


def test_what_shows_in_the_step_table_or_is_no_option_is_not_looked_at():
    trainer = make()
    before = Guard(trainer)
    trainer.optimizer.lr, trainer.optimizer.t = 0.5, 7
    trainer.net.layers[3].calls = 7
    trainer.net.store.values += 1.0
    assert Guard(trainer) == before


def test_a_repr_of_ones_own_is_believed():
    trainer = make(loss=Describing())
    trainer.bound_loss.inside = copy.copy(Describing.inside)
    before = Guard(trainer)
    assert Guard(trainer) == before
    trainer.bound_loss.inside["a"] = 2
    assert Guard(trainer) != before


def test_kinds_are_told_apart():
    trainer = make()
    assert Guard(trainer, [1]) == Guard(trainer, [1])
    assert Guard(trainer, [1]) != Guard(trainer, [2])
    assert Guard(trainer) != "a guard"


def test_signatures_are_read_once(monkeypatch):
    """They were most of what a short epoch took."""
    net = xpnn.mlp([2, 16, 8, 1])
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.Adam())
    trainer.optimizer.bind(net.store)
    Guard(trainer)
    calls, signature = [], inspect.signature
    monkeypatch.setattr(inspect, "signature", lambda *args, **options: calls.append(1) or signature(*args, **options))
    assert Guard(trainer) == Guard(trainer)
    assert not calls
    arguments._READ.clear()
    assert Guard(trainer) == Guard(trainer)
    assert calls, "the count sees them"
