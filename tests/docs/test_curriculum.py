"""What a course on neural networks works out by hand or promises, through the public interface.

Networks are trained for several seeds at once, as replicas, so that no result hangs on a lucky one.
"""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn import BinaryCrossEntropy, CrossEntropy, Linear, MeanSquaredError, ReLU, Sequential, Sigmoid, Softmax

F64 = {"dtype": "float64"}


def put(net: Sequential, **values) -> Sequential:
    """Set parameters by name: ``w0`` is ``0.weight`` as texts write it, units as rows; ``b0`` is ``0.bias``."""
    for name, value in values.items():
        value = np.asarray(value, dtype=float)
        if name[0] == "w":
            net.params[f"{name[1:]}.weight"][...] = value.T
        else:
            net.params[f"{name[1:]}.bias"][...] = value
    return net


# -- numbers worked by hand -------------------------------------------------------------------------------------
def test_forward_by_hand():
    """2-3-1, ReLU then sigmoid, x = (1, 2)."""
    net = Sequential(Linear(3), ReLU(), Linear(1), Sigmoid(), n_in=2, **F64)
    put(net, w0=[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]], b0=[0.1, 0.2, 0.3], w2=[[0.7, 0.8, 0.9]], b2=[0.4])
    x, z = np.asarray([[1.0, 2.0]]), []
    for layer in net.layers:
        x, _ = layer.forward(x)
        z.append(x.ravel().tolist())
    assert z[0] == pytest.approx([0.6, 1.3, 2.0])
    assert z[1] == z[0]
    assert z[2] == pytest.approx([3.66])
    assert z[3] == pytest.approx([0.97491], abs=5e-6)
    assert net.predict(np.asarray([[1.0, 2.0]])).ravel().tolist() == z[3]


def test_backward_by_hand():
    """One unit after one unit: x = 2, w1 = 0.5, w2 = 1, ReLU, then sigmoid with cross-entropy, y = 1."""
    net = put(Sequential(Linear(1), ReLU(), Linear(1), n_in=1, **F64), w0=[[0.5]], w2=[[1.0]])
    pred, caches = net.forward(np.asarray([[2.0]]), train=True)
    loss, d = BinaryCrossEntropy().value_and_grad(pred, np.asarray([[1.0]]))
    net.backward(d, caches)
    assert float(loss) == pytest.approx(0.3133, abs=5e-5)
    by_hand = {"0.weight": 2 * -0.2689, "0.bias": -0.2689, "2.weight": -0.2689, "2.bias": -0.2689}
    assert {name: g.item() for name, g in net.grads.items()} == pytest.approx(by_hand, abs=1e-4)


def test_softmax_by_hand():
    """The eighth of ten classes; some texts print 0.706, which the formula does not give."""
    z = np.asarray([[-1.2, -0.8, 0.3, -0.5, -1.1, 0.2, -0.9, 3.8, -0.4, 0.1]])
    probabilities = CrossEntropy().link(z)[0]
    assert probabilities[7] == pytest.approx(0.874, abs=5e-4)
    assert probabilities.sum() == pytest.approx(1.0)
    assert np.array_equal(Softmax().forward(z)[0][0], probabilities)


def test_softmax_with_cross_entropy_is_a_minus_y():
    z, labels = np.asarray([[2.0, 1.0, 0.1], [0.0, 0.0, 0.0]]), np.asarray([0, 2])
    _, d = CrossEntropy().value_and_grad(z, labels)
    a = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert d == pytest.approx((a - np.eye(3)[labels]) / 2)
    # the long way round, through softmax's own Jacobian and the derivative of -log
    through = Softmax().backward(-np.eye(3)[labels] / a / 2, a)
    assert d == pytest.approx(through)


def test_sigmoid_with_binary_cross_entropy_is_a_minus_y_over_the_batch():
    z, y = np.asarray([[1.5], [-0.5], [0.0], [3.0]]), np.asarray([[1.0], [0.0], [1.0], [0.0]])
    _, d = BinaryCrossEntropy().value_and_grad(z, y)
    a = 1 / (1 + np.exp(-z))
    assert d == pytest.approx((a - y) / 4)
    through = Sigmoid().backward((-y / a + (1 - y) / (1 - a)) / 4, a)
    assert d == pytest.approx(through)


def test_many_labels_at_once_are_that_many_sigmoids():
    z, y = np.asarray([[1.0, -2.0, 0.5]]), np.asarray([[1.0, 0.0, 1.0]])
    value, d = BinaryCrossEntropy(multilabel=True).value_and_grad(z, y)
    single = [BinaryCrossEntropy().value_and_grad(z[:, j : j + 1], y[:, j : j + 1]) for j in range(3)]
    assert float(value) == pytest.approx(np.mean([float(v) for v, _ in single]))
    assert d[0] == pytest.approx([g.item() / 3 for _, g in single])


def test_linear_layers_collapse_into_one():
    """W3 (W2 (W1 x)) = (W3 W2 W1) x: without a nonlinearity depth adds nothing."""
    deep = Sequential(Linear(5), Linear(4), Linear(2), n_in=3, **F64)
    w1, w2, w3 = (deep.params[f"{i}.weight"] for i in range(3))
    rng = np.random.default_rng(0)
    for i in range(3):
        deep.params[f"{i}.bias"][...] = rng.normal(size=deep.params[f"{i}.bias"].shape)
    one = Sequential(Linear(2), n_in=3, **F64)
    one.params["0.weight"][...] = w1 @ w2 @ w3
    one.params["0.bias"][...] = (deep.params["0.bias"] @ w2 + deep.params["1.bias"]) @ w3 + deep.params["2.bias"]
    x = rng.normal(size=(20, 3))
    assert deep.predict(x) == pytest.approx(one.predict(x), abs=1e-13)
    bent = Sequential(Linear(5), ReLU(), Linear(4), ReLU(), Linear(2), n_in=3, **F64)
    middle = bent.predict(x[:10] / 2 + x[10:] / 2)
    assert np.abs(middle - bent.predict(x[:10]) / 2 - bent.predict(x[10:]) / 2).max() > 0.1


def test_gradient_vanishes_by_a_quarter_for_each_sigmoid():
    """The slope of the sigmoid is at most 1/4: L layers of weight 1 shrink the gradient by at least 4^L."""
    for depth in (1, 5, 10):
        stack = [layer for _ in range(depth) for layer in (Linear(1, init=xpnn.initializers.Constant(1.0)), Sigmoid())]
        net = Sequential(*stack, n_in=1, **F64)
        _, caches = net.forward(np.zeros((1, 1)))
        dx = net.backward(np.ones((1, 1)), caches, need_dx=True)
        assert 0 < dx.item() <= 0.25**depth


def test_parameter_counts():
    assert xpnn.mlp([784, 256, 128, 10]).n_params == 235_146
    assert xpnn.mlp([784, 128, 64, 10]).n_params == 109_386
    assert xpnn.mlp([64 * 64 * 3, 1]).n_params == 12_289


def test_zero_weights_stay_symmetric():
    """From zeros all hidden units stay equal, whatever the training: one unit would do as well."""
    X, y = xpnn.data.make_moons(100, seed=0)
    net = xpnn.mlp([2, 6, 2], "sigmoid", init="zeros", **F64)
    xpnn.Trainer(net, CrossEntropy(), xpnn.SGD(lr=0.5)).fit(X, y, epochs=20, batch_size=16)
    w = net.params["0.weight"]
    assert np.ptp(w, axis=1).max() < 1e-12
    assert np.abs(w).max() > 1e-3


# -- problems to solve ------------------------------------------------------------------------------------------
def train(make, n, noise, sizes, activation, optimizer, *, epochs, batch_size=32, schedule=None, seeds=5):
    """Train replicas on three quarters of the points; return their accuracies on the last quarter."""
    X, y = make(n, noise, seed=0)
    cut = n * 3 // 4
    net = xpnn.mlp(sizes, activation, seed=range(seeds))
    trainer = xpnn.Trainer(net, CrossEntropy(), optimizer, schedule=schedule)
    trainer.fit(X[:cut], y[:cut], epochs=epochs, batch_size=batch_size)
    return trainer.evaluate(X[cut:], y[cut:])["accuracy_replicas"]


def solve_xor(hidden: int, seeds: int = 50) -> np.ndarray:
    """Tanh, then sigmoid; gradient descent on all four points with lr 0.5.  Which seeds solve it?"""
    X, y = xpnn.data.make_xor()
    y = y.reshape(-1, 1).astype(float)
    net = xpnn.mlp([2, hidden, 1], "tanh", seed=range(seeds))
    trainer = xpnn.Trainer(net, BinaryCrossEntropy(), xpnn.SGD(lr=0.5))
    trainer.fit(X, y, epochs=1000, batch_size=4)
    right = (xpnn.to_numpy(trainer.predict_proba(X) > 0.5) == (y > 0.5)).all(axis=(-2, -1))
    small = np.asarray(trainer.evaluate(X, y)["loss_replicas"]) < 0.1
    assert np.array_equal(right, small)
    return right


def test_xor_with_four_hidden_units_is_solved_from_every_start():
    assert solve_xor(4).all()


def test_xor_with_two_hidden_units_is_solved_from_about_half_of_all_starts():
    """Two units are enough to express it, but from the other starts descent ends on a plateau."""
    solved = solve_xor(2)
    assert solved[0]
    assert 0.4 < solved.mean() < 0.8


def test_no_single_unit_solves_xor():
    X, y = xpnn.data.make_xor()
    trainer = xpnn.Trainer(xpnn.mlp([2, 2]), CrossEntropy(), xpnn.SGD(lr=0.5))
    trainer.fit(X, y, epochs=500, batch_size=4)
    assert trainer.evaluate(X, y)["accuracy"] <= 0.75


def test_moons():
    accuracies = train(xpnn.data.make_moons, 300, 0.1, [2, 16, 2], "relu", xpnn.Adam(lr=0.02), epochs=100)
    assert min(accuracies) >= 0.97


def test_noisy_moons():
    """Noise of 0.2 mixes the moons a little: some 97 to 98 % is what can be had."""
    accuracies = train(xpnn.data.make_moons, 1000, 0.2, [2, 16, 2], "relu", xpnn.Adam(lr=0.02), epochs=60)
    assert np.mean(accuracies) >= 0.97
    assert min(accuracies) >= 0.96


def test_ten_units_by_full_batches():
    """Ten ReLU units and softmax, lr 0.5, 1,000 full-batch epochs: about 98 %."""
    accuracies = train(
        xpnn.data.make_moons, 1000, 0.2, [2, 10, 2], "relu", xpnn.SGD(lr=0.5), epochs=1000, batch_size=1000
    )
    assert np.mean(accuracies) == pytest.approx(0.975, abs=0.01)


@pytest.mark.parametrize(
    ("make", "n", "noise", "sizes", "activation", "lr", "epochs"),
    [
        (xpnn.data.make_circles, 300, 0.05, [2, 3, 2], "tanh", 0.05, 100),
        (xpnn.data.make_spirals, 600, 0.03, [2, 8, 2], "tanh", 0.05, 200),
        (xpnn.data.make_checkerboard, 3000, 0.0, [2, 24, 24, 2], "relu", 0.02, 150),
    ],
    ids=["circles 2-3-2", "spirals 2-8-2", "checkerboard 2-24-24-2"],
)
def test_small_networks_for_curved_borders(make, n, noise, sizes, activation, lr, epochs):
    accuracies = train(
        make,
        n,
        noise,
        sizes,
        activation,
        xpnn.Adam(lr=lr),
        epochs=epochs,
        batch_size=64 if n > 1000 else 32,
        schedule=xpnn.CosineDecay(),
    )
    assert min(accuracies) >= 0.95, accuracies


def test_two_units_cannot_close_a_circle():
    """A border around the inner circle needs three straight pieces."""
    accuracies = train(xpnn.data.make_circles, 300, 0.05, [2, 2, 2], "tanh", xpnn.Adam(lr=0.05), epochs=100)
    assert max(accuracies) < 0.95


def test_regression_with_tanh_and_a_linear_output():
    x = np.linspace(-3, 3, 200).reshape(-1, 1)
    net = xpnn.mlp([1, 16, 1], "tanh", seed=range(3))
    trainer = xpnn.Trainer(net, MeanSquaredError(), xpnn.Adam(lr=0.02))
    trainer.fit(x, np.sin(x), epochs=150, batch_size=20)
    assert max(trainer.evaluate(x, np.sin(x))["loss_replicas"]) < 2e-3
