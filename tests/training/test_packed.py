"""Fits that compute with packed rows of a table."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.data import TableEncoder

pytest.importorskip("numba")

N = 300
RNG = np.random.default_rng(0)
Y = RNG.normal(size=(N, 1)).astype(np.float32)


@pytest.fixture(name="rows", scope="module")
def fixture_rows():
    table = {"a": RNG.normal(size=N), "c": np.array(list("xyz"), dtype=object)[np.arange(N) % 3]}
    return TableEncoder(bins=8).fit(table).rows(table)


def trainer_of(rows, *, compiled=True, **options):
    backend = xpnn.get_backend("numpy", compiled=compiled)
    net = xpnn.mlp([rows.shape[1], 16, 1], "silu", dropout=0.1, backend=backend)
    return xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(0.01), **options)


def fit(trainer, X, epochs=2):
    return trainer.fit(X, Y, epochs=epochs, batch_size=32, validation_fraction=0.2)


class Widths(xpnn.Callback):
    """Notes how wide what the network is given in a step is, and asks it of encoded rows meanwhile."""

    def __init__(self, X):
        self.X, self.asked = X, 0

    def on_batch_end(self, trainer):
        assert trainer.net.code is not None
        trainer.net.predict(self.X)
        self.asked += 1


def test_a_fit_on_packed_rows_is_that_on_encoded_ones_to_rounding(rows):
    packed, dense = trainer_of(rows), trainer_of(rows)
    a, b = fit(packed, rows), fit(dense, np.asarray(rows))
    for name in ("loss", "val_loss", "grad_norm"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-4)
    assert packed.net.code is None
    np.testing.assert_array_equal(packed.net.predict(rows), packed.net.predict(np.asarray(rows)))


def test_without_loops_it_is_the_same_to_the_bit(rows):
    packed, dense = trainer_of(rows, compiled=False), trainer_of(rows, compiled=False)
    assert fit(packed, rows)["loss"] == fit(dense, np.asarray(rows))["loss"]


def test_a_fit_that_is_gone_on_with_makes_the_same_steps(rows, tmp_path):
    whole, parts = trainer_of(rows), trainer_of(rows)
    losses = fit(whole, rows, epochs=3)["loss"]
    fit(parts, rows, epochs=1)
    parts.save(tmp_path / "run")
    again = xpnn.Trainer.load(tmp_path / "run", backend=whole.backend)
    assert fit(again, rows, epochs=2)["loss"] == losses
    for name, value in whole.net.state_dict().items():
        assert again.net.state_dict()[name].tobytes() == value.tobytes()


def test_callbacks_may_ask_the_network_of_encoded_rows(rows):
    watcher = Widths(np.asarray(rows)[:5])
    trainer = trainer_of(rows, callbacks=[watcher])
    fit(trainer, rows, epochs=1)
    assert watcher.asked == 8


def test_what_fails_leaves_the_network_as_it_was(rows):
    trainer = trainer_of(rows)
    plan = trainer.net.plan
    trainer.optimizer = xpnn.SGD(1e30)
    with pytest.raises(xpnn.errors.DivergenceError, match="First tensor that is not finite"):
        fit(trainer, rows)
    assert (trainer.net.code, trainer.net.plan) == (None, plan)


def test_replicas_take_encoded_rows(rows):
    net = xpnn.mlp([rows.shape[1], 8, 1], replicas=2, seed=[0, 1], backend=xpnn.get_backend("numpy", compiled=True))
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(0.01))
    other = xpnn.Trainer(net.copy(), xpnn.MeanSquaredError(), xpnn.Adam(0.01))
    assert fit(trainer, rows)["loss"] == fit(other, np.asarray(rows))["loss"]


def test_steps_on_packed_rows_are_traced(rows, caplog):
    trainer = trainer_of(rows)
    with caplog.at_level("DEBUG", logger="xpnn"):
        fit(trainer, rows, epochs=3)
    assert "each step is made in Python" not in caplog.text
    watched = trainer_of(rows, callbacks=[Widths(np.asarray(rows)[:5])])
    fit(watched, rows, epochs=3)
    assert fit(trainer_of(rows), rows, epochs=3)["loss"] == watched.history["loss"] == trainer.history["loss"]


@pytest.mark.parametrize("wrong", [-1.0, 8.0])
def test_rows_with_codes_that_are_none_are_encoded(rows, wrong):
    packed = rows.packed.copy()
    packed[7, rows.code.starts[1]] = wrong
    odd = type(rows)(packed, rows.code)
    a, b = trainer_of(rows), trainer_of(rows)
    assert fit(a, odd)["loss"] == fit(b, np.asarray(odd))["loss"]
