"""The state of training: copied, put back, compared to the last bit."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.training.state import TrainState, digest


@pytest.fixture(name="trained")
def fixture_trained(backend):
    rng = np.random.default_rng(0)
    net = xpnn.mlp([3, 4, 2], norm="batch", backend=backend)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01), regularizer=xpnn.L2(0.1))

    def fit():
        trainer.fit(rng.normal(size=(20, 3)), rng.integers(0, 2, 20), epochs=2, batch_size=5)

    fit()
    return trainer, fit


def test_put_back_it_is_equal_to_the_bit(trained):
    trainer, fit = trained
    before, state = digest(trainer), TrainState(trainer)
    gradients = trainer.backend.copy(trainer.net.store.grads)
    counts = trainer.step, trainer.epoch, trainer.optimizer.t
    fit()
    assert digest(trainer) != before
    for _ in range(2):
        state.restore(trainer)
        trainer.net.store.grads[...] = gradients  # which each step makes anew
        assert digest(trainer) == before
        assert (trainer.step, trainer.epoch, trainer.optimizer.t) == counts
    assert state.complete


@pytest.mark.parametrize("what", ["values", "grads", "buffers", "m", "v", "penalty", "grad_norm", "t", "step", "table"])
def test_any_bit_tells_two_states_apart(what, trained):
    trainer, _ = trained
    table = trainer.backend.zeros((2,))
    before = digest(trainer, [table])
    if what in ("t", "step"):
        owner = trainer.optimizer if what == "t" else trainer
        setattr(owner, what, getattr(owner, what) + 1)
    elif what == "table":
        table *= -1.0
    elif what in ("penalty", "grad_norm"):
        setattr(trainer, what, -getattr(trainer, what))
    else:
        array = trainer.optimizer.state[what] if what in ("m", "v") else getattr(trainer.net.store, what)
        array *= -1.0
    assert digest(trainer, [table]) != before


def test_a_large_state_is_copied_where_it_must_be(trained, monkeypatch):
    trainer, fit = trained
    monkeypatch.setattr("xpnn.training.state._COPIED_ELEMENTS", 0)
    before = digest(trainer)
    gradients = trainer.backend.copy(trainer.net.store.grads)
    part, whole = TrainState(trainer), TrainState(trainer, whole=True)
    assert (part.complete, whole.complete) == (False, True)
    fit()
    part.restore(trainer)
    assert trainer.optimizer.t == 0
    assert not trainer.backend.to_numpy(trainer.optimizer.state["m"]).any()
    whole.restore(trainer)
    trainer.net.store.grads[...] = gradients
    assert digest(trainer) == before
