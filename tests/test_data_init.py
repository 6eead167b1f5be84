"""First weights by the data: unit spread in every layer, and zeros of the units among the rows."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn import Linear, Sequential, init_from_data
from xpnn.errors import DataError, OptionError, ShapeError
from xpnn.random import stream

RNG = np.random.default_rng(0)
X = (RNG.normal(size=(300, 5)) * [1, 100, 0.01, 5, 1] + [0, 50, 0, -3, 2]).astype(np.float32)


def pre_activations(net, x):
    """What each Linear layer makes of rows, biases included, by its label."""
    found = {}

    def run(layers, x):
        for layer in layers:
            if isinstance(layer, xpnn.Residual):
                x = x + run(layer.layers, x)
            else:
                x, _ = layer.forward(x)
            if isinstance(layer, Linear):
                found[layer.label] = xpnn.to_numpy(x)
        return x

    run(net.layers, net.backend.asarray(x))
    return found


NETS = {
    "relu": lambda **o: xpnn.mlp([5, 16, 8, 3], seed=2, **o),
    "tanh, norm": lambda **o: xpnn.mlp([5, 16, 8, 3], "tanh", norm="layer", seed=2, **o),
    "residual, dropout": lambda **o: xpnn.mlp([5, 16, 16, 3], "selu", residual=True, dropout=0.3, seed=2, **o),
    "batch norm": lambda **o: xpnn.mlp([5, 16, 3], "silu", norm="batch", seed=2, **o),
    "without bias": lambda **o: Sequential(Linear(9, bias=False), xpnn.ReLU(), Linear(2), n_in=5, seed=2, **o),
}


@pytest.mark.parametrize("name", NETS)
def test_every_layer_begins_with_unit_spread(name):
    net = NETS[name]()
    layer_plans, before = net.plan.pairs, net.state_dict()
    assert init_from_data(net, X) is net
    found = pre_activations(net, X)
    assert len(found) >= 2
    for label, z in found.items():
        np.testing.assert_allclose(z.std(axis=0), 1.0, rtol=1e-3, err_msg=label)
    after = net.state_dict()
    for key, old in before.items():
        if key.endswith("weight") and old.ndim == 2:  # each column is scaled as a whole
            ratio = after[key] / old
            np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-5)
            assert (ratio > 0).all()
        elif not (key.endswith("bias") and key.replace("bias", "weight") in before and before[key].ndim == 1):
            np.testing.assert_array_equal(after[key], old, err_msg=key)
    assert net.plan.pairs == layer_plans
    np.testing.assert_array_equal(net.store.grads, 0.0)


def test_the_zeros_of_units_are_among_the_rows():
    """By hand: five rows of each unit, with shares."""
    net = init_from_data(xpnn.mlp([5, 7, 2], seed=4), X)
    z = X.astype(np.float64) @ net.params["0.weight"]
    rng = stream(4, "init points", 0)
    rows, draws = rng.integers(0, 300, (5, 7)), rng.exponential(size=(5, 7))
    expected = [-(draws[:, j] / draws[:, j].sum()) @ z[rows[:, j], j] for j in range(7)]
    np.testing.assert_allclose(net.params["0.bias"], expected, rtol=1e-3, atol=1e-4)
    together = z + net.params["0.bias"]
    assert (together.min(axis=0) < 0).all()
    assert (together.max(axis=0) > 0).all()


def test_what_becomes_of_biases():
    make = lambda: Sequential(Linear(4, bias_init=xpnn.initializers.Constant(0.5)), xpnn.Tanh(), Linear(2), n_in=5)  # noqa: E731
    kept, zeros = init_from_data(make(), X, bias="keep"), init_from_data(make(), X, bias="zeros")
    assert (kept.params["0.bias"] == 0.5).all()
    assert not zeros.params["0.bias"].any()
    np.testing.assert_array_equal(kept.params["0.weight"], zeros.params["0.weight"])
    assert not np.array_equal(kept.params["2.weight"], zeros.params["2.weight"])


def test_replicas_begin_as_they_would_alone():
    together = init_from_data(xpnn.mlp([5, 8, 8, 2], "selu", seed=[3, 7], dtype="float64"), X)
    for k, seed in enumerate((3, 7)):
        alone = init_from_data(xpnn.mlp([5, 8, 8, 2], "selu", seed=seed, dtype="float64"), X)
        np.testing.assert_allclose(together.store.values[k], alone.store.values, rtol=1e-9, atol=1e-12)
    assert not np.allclose(together.params["0.bias"][0], together.params["0.bias"][1])


def test_the_same_on_every_backend(backend, given):
    there = init_from_data(NETS["residual, dropout"](backend=backend), given(X)).state_dict()
    here = init_from_data(NETS["residual, dropout"](), X).state_dict()
    again = init_from_data(NETS["residual, dropout"](), X).state_dict()
    for key, value in here.items():
        np.testing.assert_array_equal(value, again[key])
        np.testing.assert_allclose(there[key], value, rtol=2e-3, atol=1e-4, err_msg=key)


def test_columns_and_units_that_say_nothing_keep_their_weights():
    flat = np.concatenate([X[:, :1], np.full((300, 1), 1e3, np.float32)], axis=1)
    net = xpnn.mlp([2, 4, 2], seed=1)
    net.params["0.weight"][0, 0] = 0.0  # this unit sees the constant alone
    before = net.params["0.weight"].copy()
    init_from_data(net, flat)
    np.testing.assert_array_equal(net.params["0.weight"][:, 0], before[:, 0])
    assert np.isfinite(net.store.values).all()
    np.testing.assert_allclose((flat @ net.params["0.weight"]).std(axis=0)[1:], 1.0, rtol=1e-2)
    assert net.params["0.bias"][0] == pytest.approx(-1e3 * before[1, 0], rel=1e-5), "zero at every row"


def test_no_more_rows_than_asked_for():
    some = init_from_data(xpnn.mlp([5, 6, 2], seed=1), X, max_rows=100)
    every_third = init_from_data(xpnn.mlp([5, 6, 2], seed=1), X[::3])
    np.testing.assert_array_equal(some.store.values, every_third.store.values)
    assert not np.array_equal(some.store.values, init_from_data(xpnn.mlp([5, 6, 2], seed=1), X).store.values)


def test_it_trains_unscaled_columns_sooner():
    y = (X[:, 2] * 100 + X[:, 0] > 0).astype(int)

    def loss(net):
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))
        return trainer.fit(X - X.mean(axis=0), y, epochs=10, batch_size=32)["loss"][-1]

    plain, fitted = (xpnn.mlp([5, 32, 32, 2], "tanh", seed=0) for _ in "ab")
    assert loss(init_from_data(fitted, X - X.mean(axis=0))) < loss(plain)


def test_frames_lists_and_embeddings():
    pandas = pytest.importorskip("pandas")
    expected = init_from_data(xpnn.mlp([5, 6, 2]), X).store.values
    for given in (pandas.DataFrame(X), X.tolist(), X.astype(np.float64)):
        np.testing.assert_allclose(init_from_data(xpnn.mlp([5, 6, 2]), given).store.values, expected, rtol=1e-5)
    net = Sequential(xpnn.Embedding(4, 3), Linear(2), n_in=2, seed=0)
    init_from_data(net, RNG.integers(0, 4, (50, 2)))


def test_an_error_within_changes_nothing():
    class Fails(xpnn.Layer):
        def forward(self, x, *, train=False, key=None):
            raise MemoryError("of a layer")

    net = Sequential(Linear(4), Fails(), Linear(2), n_in=5)
    before = net.store.values.copy()
    with pytest.raises(MemoryError, match="of a layer"):
        init_from_data(net, X)
    np.testing.assert_array_equal(net.store.values, before)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda n: init_from_data(n, X[:, :4]), ShapeError, r"expected x of shape \(.*5\), got \(300, 4\)"),
        (lambda n: init_from_data(n, X[0]), ShapeError, r"init_from_data: expected X of shape \(n, 5\), got \(5,\)"),
        (lambda n: init_from_data(n, X[:0]), DataError, r"init_from_data: expected at least one row in X, got none"),
        (
            lambda n: init_from_data(n, X * np.nan),
            DataError,
            r"finite pre-activations, got NaN or infinity in 0\.Linear",
        ),
        (lambda n: init_from_data(n, X, bias="he"), OptionError, r"expected bias among he\+5, zeros, keep, got 'he'"),
        (lambda n: init_from_data(n, X, max_rows=0), OptionError, r"max_rows"),
    ],
)
def test_bad_input_changes_nothing(call, error, text):
    net = xpnn.mlp([5, 6, 2])
    before = net.store.values.copy()
    with np.errstate(all="ignore"), pytest.raises(error, match=text):
        call(net)
    np.testing.assert_array_equal(net.store.values, before)
