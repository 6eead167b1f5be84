"""Layers of a user's own: a forward and a backward pass are all they need."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from places import backend_or_skip
from sklearn.exceptions import ConvergenceWarning

import xpnn
from xpnn.estimators import MLPClassifier
from xpnn.layers.plan import Plan, chain_buffer_specs, chain_param_specs
from xpnn.testing import check_gradients, compare_backends

RNG = np.random.default_rng(0)
X, DY = RNG.normal(size=(20, 5)).astype(np.float32), RNG.normal(size=(20, 3)).astype(np.float32)
Y = np.arange(20) % 3


class Softsign(xpnn.Layer):
    """The map x / (1 + |x|)."""

    def forward(self, x, *, train=False, key=None):
        below = 1.0 + abs(x)
        return x / below, below

    def backward(self, dy, cache, *, need_dx=True):
        return dy / (cache * cache) if need_dx else None


class Power(xpnn.Layer):
    """The map (x x)^n, with an option."""

    def __init__(self, n=1):
        self.n = n

    def forward(self, x, *, train=False, key=None):
        return (x * x) ** self.n, x

    def backward(self, dy, cache, *, need_dx=True):
        return dy * (2 * self.n) * cache ** (2 * self.n - 1) if need_dx else None


class Scale(xpnn.Layer):
    """One trained factor for each feature."""

    def param_specs(self):
        return (xpnn.params.ParamSpec("weight", (self.n_in,), xpnn.initializers.Constant(0.5), decay=True),)

    def forward(self, x, *, train=False, key=None):
        return x * self.params["weight"], x

    def backward(self, dy, cache, *, need_dx=True):
        self.grads["weight"][...] = self.ops.xp.sum(dy * cache, axis=-2, keepdims=True)
        return dy * self.params["weight"] if need_dx else None


class LowRank(xpnn.Linear):
    """A product of two thin matrices: a Linear with other parameters, and no bias."""

    def param_specs(self):
        shapes = {"left": (self.n_in, 2), "right": (2, self.n_out)}
        return tuple(xpnn.params.ParamSpec(*item, self.auto_init, decay=True) for item in shapes.items())

    def forward(self, x, *, train=False, key=None):
        thin = x @ self.params["left"]
        return thin @ self.params["right"], (x, thin)

    def backward(self, dy, cache, *, need_dx=True):
        x, thin = cache
        d_thin = dy @ self.params["right"].mT
        self.grads["right"][...] = thin.mT @ dy
        self.grads["left"][...] = x.mT @ d_thin
        return d_thin @ self.params["left"].mT if need_dx else None


class Chain(xpnn.Layer):
    """Layers in a row, as one."""

    def __init__(self, *layers):
        self.layers = list(layers)

    def sublayers(self):
        return tuple(self.layers)

    def out_size(self, n_in):
        for layer in self.layers:
            n_in = layer.build(n_in)
        return n_in

    def param_specs(self):
        return chain_param_specs(self.layers)

    def buffer_specs(self):
        return chain_buffer_specs(self.layers)

    def bind(self, backend, params, grads, buffers):
        super().bind(backend, params, grads, buffers)
        self.how = Plan.bind(self.layers, backend, params, grads, buffers)

    def forward(self, x, *, train=False, key=None):
        return self.how.forward(x, train=train, key=key)

    def backward(self, dy, cache, *, need_dx=True):
        return self.how.backward(dy, cache, need_dx=need_dx)


class Twofold(xpnn.Residual):
    """Twice what the layers inside compute."""

    def forward(self, x, *, train=False, key=None):
        y, cache = self.plan.forward(x, train=train, key=key)
        return y * 2.0, cache

    def backward(self, dy, cache, *, need_dx=True):
        return self.plan.backward(dy * 2.0, cache, need_dx=need_dx)


NETWORKS = {
    "first": lambda: [Softsign(), xpnn.Linear(3)],
    "behind linear": lambda: [xpnn.Linear(4), Softsign(), xpnn.Linear(3)],
    "between linear and relu": lambda: [xpnn.Linear(4), Power(), xpnn.ReLU(), xpnn.Linear(3)],
    "behind a pair": lambda: [xpnn.Linear(4), xpnn.ReLU(), Power(), xpnn.Linear(3)],
    "last": lambda: [xpnn.Linear(3), xpnn.ReLU(), Softsign()],
    "trained": lambda: [Scale(), xpnn.Linear(4), xpnn.ReLU(), Scale(), xpnn.Linear(3)],
    "a linear of one's own": lambda: [LowRank(4), xpnn.ReLU(), LowRank(3)],
    "in a residual": lambda: [xpnn.Residual(xpnn.Linear(4), xpnn.ReLU(), Scale(), xpnn.Linear(5)), xpnn.Linear(3)],
    "a chain": lambda: [Chain(xpnn.Linear(4), xpnn.ReLU(), xpnn.BatchNorm()), Softsign(), xpnn.Linear(3)],
    "a chain in a chain": lambda: [Chain(Softsign(), Chain(xpnn.Linear(4), xpnn.ReLU())), xpnn.Linear(3)],
    "a residual of one's own": lambda: [Twofold(xpnn.Linear(5), xpnn.ReLU(), Softsign()), xpnn.Linear(3)],
}
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(params=NETWORKS, name="make")
def fixture_make(request):
    return lambda **options: xpnn.Sequential(*NETWORKS[request.param](), n_in=5, **options)


def test_passes_are_those_of_its_layers(make):
    net = make(seed=2)
    before = X.copy(), DY.copy()
    y, caches = net.forward(X, train=True)
    dx = net.backward(DY, caches, need_dx=True)
    grads = net.store.grads.copy()
    expected, own = X, []
    for layer in net.layers:
        expected, cache = layer.forward(expected, train=True)
        own.append(cache)
    np.testing.assert_array_equal(y, expected)
    back = DY
    for layer, cache in zip(reversed(net.layers), reversed(own), strict=True):
        back = layer.backward(back, cache)
    np.testing.assert_array_equal(dx, back)
    np.testing.assert_array_equal(net.store.grads, grads)
    for mine, was in zip((X, DY), before, strict=True):
        np.testing.assert_array_equal(mine, was)


def test_gradients_are_checked(make):
    report = check_gradients(make(seed=1), xpnn.CrossEntropy(), X, Y, check_input=True)
    assert report.max_rel_error < 1e-6, str(report)


def test_backends_are_compared(make):
    backend_or_skip("strict")
    report = compare_backends(
        lambda backend: make(backend=backend).copy(),
        *(xpnn.CrossEntropy(), xpnn.SGD(0.05), X, Y),
        backends=("numpy", "strict"),
        steps=3,
    )
    assert report.ok, str(report)


def test_copies_compute_alike_by_layers_of_their_own(make):
    net = make(seed=3)
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01)).fit(X, Y, epochs=2, batch_size=5)
    start = net.store.values.copy()
    y = net.predict(X)
    for other in (net.copy(), pickle.loads(pickle.dumps(net)), net.to("numpy", "float64").to("numpy", "float32")):
        np.testing.assert_array_equal(other.predict(X), y)
        xpnn.Trainer(other, xpnn.CrossEntropy(), xpnn.Adam(0.01)).fit(X, Y, epochs=1)
        assert (other.store.values != start).any()
        np.testing.assert_array_equal(net.store.values, start)
        np.testing.assert_array_equal(net.predict(X), y)


def test_a_linear_with_a_weight_found_otherwise():
    """What `bind` has put into `params` is what a Linear, alone or with its ReLU, computes with."""

    class Halved(xpnn.Linear):
        def bind(self, backend, params, grads, buffers):
            super().bind(backend, {**params, "weight": params["weight"] * 0.5}, grads, buffers)

    for behind in ([], [xpnn.ReLU]):
        mine, plain = (
            xpnn.Sequential(kind(4), *(make() for make in behind), n_in=5, seed=1) for kind in (Halved, xpnn.Linear)
        )
        np.testing.assert_array_equal(mine.predict(X), plain.predict(X) * 0.5)
        plain.layers[0].params = {"weight": plain.params["0.weight"] * 0.5}
        np.testing.assert_array_equal(mine.predict(X), plain.predict(X))


@pytest.mark.parametrize("name", [n for n in NETWORKS if "chain" not in n])
def test_files(name, tmp_path):
    """A chain of one's own would have to say how it is made again; one that derives from Residual need not."""
    net = xpnn.Sequential(*NETWORKS[name](), n_in=5, seed=4)
    xpnn.save(net, tmp_path / "net")
    other = xpnn.load(tmp_path / "net", custom_layers=(LowRank, Softsign, Power, Scale, Twofold))
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


def test_replicas(make):
    both, singles = make(seed=[0, 1]), [make(seed=seed) for seed in (0, 1)]
    for net in (both, *singles):
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(0.05)).fit(X, Y, epochs=2, batch_size=10)
    for k, net in enumerate(singles):
        np.testing.assert_allclose(both.predict(X)[k], net.predict(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("activation", [Softsign(), Power(1)], ids=repr)
def test_as_activation_of_an_estimator(solver, activation):
    options = {"hidden_layer_sizes": (4, 4), "activation": activation, "solver": solver, "max_iter": 3}
    model = MLPClassifier(**options, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, Y)
    kinds = [type(layer).__name__ for layer in model.net_.layers]
    assert kinds == ["Linear", repr(activation).split("(")[0], "Linear", repr(activation).split("(")[0], "Linear"]
    assert all(layer is not activation for layer in model.net_.layers)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
