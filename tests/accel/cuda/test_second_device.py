"""A network on another GPU than the current one: whoever touches a backend's arrays makes its device current.

Work given to the current device would not be ordered against that of the arrays' own, and read what is not written yet.
"""

from __future__ import annotations

import cases
import numpy as np
import pytest
import steps
from places import assert_close, backend_or_skip
from steps import outcome

import xpnn
from xpnn.testing import check_gradients, compare_backends


@pytest.fixture
def second():
    """The second device, while the first is the current one."""
    return backend_or_skip("cupy:1")


def busy(backend):
    """Give the device work that takes a while, so that what does not wait for it comes too early."""
    with backend.active():
        a = backend.zeros((300, 300))
        for _ in range(3):
            a = backend.ops.product(a, a)


@pytest.mark.parametrize("case", cases.LOSSES, ids=str)
def test_losses_called_directly(case, second):
    pred = np.random.default_rng(0).normal(size=(cases.BATCH, case.n_out)).astype(np.float32)
    y = case.y()
    expected = case.loss.value_and_grad(pred, case.on(xpnn.get_backend("numpy"), y))
    busy(second)
    found = case.loss.value_and_grad(second.copy(pred), case.on(second, y))
    for mine, right in zip(found, expected, strict=True):
        assert_close(mine, right, 1e-5)
    for method in ("link", "decide"):
        busy(second)
        assert_close(getattr(case.loss, method)(second.copy(pred)), getattr(case.loss, method)(pred), 1e-5)


@pytest.mark.parametrize("name", steps.OPTIMIZERS)
def test_optimizers_called_directly(name, second):
    values = []
    for backend in (xpnn.get_backend("numpy"), second):
        net = xpnn.mlp([4, 8, 3], backend=backend, seed=0)
        X, y = steps.data(n=8, n_in=4)
        rule = steps.OPTIMIZERS[name]()
        for step in range(3):
            pred, caches = net.forward(X, train=True, step=step)
            labels = backend.asarray(y, dtype=backend.index_dtype)
            net.backward(xpnn.CrossEntropy().value_and_grad(pred, labels)[1], caches)
            busy(second)
            rule.step(net.store)
        values.append(net.state_dict())
    for key, expected in values[0].items():
        assert_close(values[1][key], expected, 1e-3)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # few iterations are enough to compare
@pytest.mark.parametrize("make", [None, 3], ids=["one", "ensemble"])
def test_estimators(make, second):
    estimators = pytest.importorskip("xpnn.estimators", reason="needs scikit-learn: pip install scikit-learn")
    X, y = xpnn.data.make_moons(120, noise=0.1, seed=0)
    options = {"hidden_layer_sizes": (16,), "max_iter": 5, "random_state": 0}
    options |= {} if make is None else {"n_ensemble": make}
    for kind, target in ((estimators.MLPClassifier, y), (estimators.MLPRegressor, X[:, 0] - y)):
        fitted = [kind(backend=backend, **options).fit(X, target) for backend in ("numpy", second)]
        answers = [f.predict_proba(X) if hasattr(f, "predict_proba") else f.predict(X) for f in fitted]
        assert_close(answers[1], answers[0], 1e-3)
        assert fitted[1].score(X, target) == pytest.approx(fitted[0].score(X, target), abs=0.02)
        for f in fitted:
            f.set_params(warm_start=True, activation="tanh").fit(X, target)
            f.coefs_ = [xpnn.to_numpy(w) * 0.5 for w in f.coefs_]
        answers = [f.predict(X) for f in fitted]
        assert np.mean(np.abs(answers[0] - answers[1])) < 0.02


def test_checks_of_gradients_and_of_backends(second):
    X, y = steps.data(n=8, n_in=4)
    net = xpnn.mlp([4, 8, 3], activation="tanh", backend=second, seed=0)
    assert check_gradients(net, xpnn.CrossEntropy(), X, y).verdict == "excellent"
    report = compare_backends(net, xpnn.CrossEntropy(), xpnn.Adam(0.01), X, y, backends=("numpy", "cupy:1"))
    assert report.ok, report


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("name", ["dropout", "batch norm", "replicas, clipped", "weights", "validation", "r2"])
def test_fits(name, graph, second):
    case = steps.option_case(name)
    found, expected = (case.train(backend, graph=graph) for backend in (second, backend_or_skip("cupy:0")))
    assert outcome(found) == outcome(expected)
    busy(second)
    assert found.evaluate(case.x, case.y) == expected.evaluate(case.x, case.y)
    assert_close(found.predict_proba(case.x), expected.predict_proba(case.x), 1e-6)


def test_a_snapshot_is_put_back(second):
    net = xpnn.mlp([4, 8, 3], backend=second, seed=0)
    before, kept = net.state_dict(), net.store.snapshot()
    busy(second)
    with second.active():
        net.store.values *= 2.0
    net.store.restore(kept)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_the_search_for_a_learning_rate(second):
    X, y = steps.data(n=64, n_in=4)
    found = [
        xpnn.find_lr(xpnn.mlp([4, 8, 3], backend=backend, seed=0), xpnn.CrossEntropy(), xpnn.Adam(), X, y).losses
        for backend in ("numpy", second)
    ]
    assert_close(found[1], found[0], 1e-3)
