"""L-BFGS: as few evaluations as SciPy's on the problems of scikit-learn, on every array library, and its edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.errors import OptionError
from xpnn.optim import LBFGS
from xpnn.optim.linesearch import Point, wolfe_search
from xpnn.params import ParamSpec, ParamStore


def store_of(start, backend):
    """A store that holds nothing but one vector."""
    constant = xpnn.initializers.Constant(0.0)
    store = ParamStore(backend, [ParamSpec("x", (len(start),), constant, False)])
    store.params["x"][...] = backend.asarray(start)
    return store


def rosenbrock(store):
    x, g, xp = store.params["x"], store.param_grads["x"], store.backend.xp

    def evaluate():
        a, b = x[:-1], x[1:]
        store.grads[...] = 0.0
        g[:-1] = -400 * a * (b - a**2) - 2 * (1 - a)
        g[1:] = g[1:] + 200 * (b - a**2)
        return xp.sum(100 * (b - a**2) ** 2 + (1 - a) ** 2)

    return evaluate


@pytest.mark.parametrize("name", ["numpy", "strict", "torch", "cupy"])
@pytest.mark.parametrize("n", [2, 10])
def test_rosenbrock(name, n):
    store = store_of([-1.2, 1.0] * (n // 2), backend_or_skip(name, "float64"))
    result = LBFGS(gtol=1e-8, ftol=0.0).minimize(store, rosenbrock(store))
    assert result.converged, result
    assert result.grad_max <= 1e-8
    assert result.value < 1e-12
    np.testing.assert_allclose(xpnn.to_numpy(store.params["x"]), 1.0, atol=1e-6)


def network_problem(task):
    """A network with an objective as scikit-learn's perceptrons have it, over all rows."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    if task == "digits":
        X, y = datasets.load_digits(n_class=3, return_X_y=True)
        X, y, sizes, loss = X[:200] / 16, y[:200], [64, 20, 3], xpnn.CrossEntropy()
    elif task == "iris":
        X, y = datasets.load_iris(return_X_y=True)
        X, sizes, loss = (X - X.mean(axis=0)) / X.std(axis=0), [4, 10, 10, 3], xpnn.CrossEntropy()
    elif task == "cancer":
        X, y = datasets.load_breast_cancer(return_X_y=True)
        X, y, sizes, loss = (X - X.mean(axis=0)) / X.std(axis=0), y[:, None], [30, 20, 1], xpnn.BinaryCrossEntropy()
    else:
        X, y = datasets.load_diabetes(return_X_y=True)
        X, y, sizes = X / X.std(axis=0), ((y - y.mean()) / y.std())[:, None], [10, 20, 1]
        loss = xpnn.MeanSquaredError()
    return X, y, sizes, loss


def network(sizes, loss, X, y, seed, activation, backend="numpy"):
    net = xpnn.mlp(sizes, activation=activation, backend=xpnn.get_backend(backend, "float64"), seed=seed)
    penalty = xpnn.regularizers.L2(1e-3)
    labels = net.backend.asarray(y, dtype=net.backend.index_dtype if y.ndim == 1 else None)
    rows = net.backend.asarray(X)

    def evaluate():
        pred, caches = net.forward(rows)
        value, d = loss.value_and_grad(pred, labels)
        net.backward(d, caches)
        return value + penalty.add(net.store)

    return net.store, evaluate


@pytest.mark.parametrize("activation", ["tanh", "relu", "logistic"])
@pytest.mark.parametrize("task", ["digits", "iris", "cancer", "diabetes"])
def test_no_more_evaluations_than_scipys(task, activation):
    """Three starts each: in as many evaluations as SciPy's needs in all, the loss is no larger than SciPy's."""
    minimize = pytest.importorskip("scipy.optimize", reason="needs SciPy: pip install scipy").minimize
    X, y, sizes, loss = network_problem(task)
    activation = "sigmoid" if activation == "logistic" else activation
    ours, theirs, losses = 0, 0, []
    for seed in range(3):
        store, evaluate = network(sizes, loss, X, y, seed, activation)
        start = store.values.copy()

        def objective(x, store=store, evaluate=evaluate):
            store.values[...] = x
            return float(evaluate()), store.grads.copy()

        reference = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 80, "gtol": 1e-5})
        store.values[...] = start
        result = LBFGS(max_iter=80, gtol=1e-5).minimize(store, evaluate)
        ours, theirs = ours + result.n_evals, theirs + reference.nfev
        losses.append((result.value, reference.fun))
    ratio = np.mean([a / b for a, b in losses])
    assert ratio <= 1.02, losses
    assert ours <= theirs * 1.05, (ours, theirs)


@pytest.mark.parametrize("name", ["strict", "torch", "cupy"])
def test_all_libraries_take_the_same_way(name):
    backend_or_skip(name)
    X, y, sizes, loss = network_problem("iris")
    ends = []
    for backend in ("numpy", name):
        store, evaluate = network(sizes, loss, X, y, 0, "tanh", backend)
        ends.append(LBFGS(max_iter=15).minimize(store, evaluate))
    assert ends[1].n_evals == ends[0].n_evals
    assert ends[1].value == pytest.approx(ends[0].value, rel=1e-8)


def quadratic(store, wall=math.inf):
    x, g, xp = store.params["x"], store.param_grads["x"], store.backend.xp

    def evaluate():
        g[...] = x - 3.0
        value = 0.5 * xp.sum((x - 3.0) ** 2)
        return value if float(xp.max(xp.abs(x))) < wall else value * math.inf

    return evaluate


def test_values_that_are_not_finite_are_stepped_back_from():
    """A wall just beyond the minimum: the first steps run into it."""
    store = store_of([-20.0], xpnn.get_backend("numpy", "float64"))
    x, g = store.params["x"], store.param_grads["x"]

    def evaluate():
        with np.errstate(invalid="ignore", divide="ignore"):
            g[...] = 1.0 - 1.0 / (4.0 - x)
            value = x[0] + np.log(4.0 - x[0])
        return np.asarray(-value if x[0] < 4.0 else np.nan)

    g_sign = evaluate

    def descending():
        value = g_sign()
        g[...] = -g
        return value

    result = LBFGS(max_iter=50).minimize(store, descending)
    assert math.isfinite(result.value)
    assert x[0] < 4.0


def test_a_start_that_is_not_finite_is_reported():
    store = store_of([20.0, 20.0], xpnn.get_backend("numpy", "float64"))
    result = LBFGS().minimize(store, quadratic(store, wall=10.0))
    assert not result.converged
    assert result.message == "the objective is not finite at the start"
    assert result.n_iter == 0


def test_limits():
    store = store_of([-1.2, 1.0], xpnn.get_backend("numpy", "float64"))
    evaluate, calls = rosenbrock(store), []

    def counted():
        calls.append(1)
        return evaluate()

    result = LBFGS(max_evals=10).minimize(store, counted)
    assert not result.converged
    assert result.message == "max_evals is reached"
    assert 10 < result.n_evals == len(calls) <= 10 + 20
    assert result.value == pytest.approx(float(evaluate()))  # the store holds the point that is told

    store = store_of([-1.2, 1.0], xpnn.get_backend("numpy", "float64"))
    result = LBFGS(max_iter=3).minimize(store, rosenbrock(store))
    assert (result.n_iter, result.converged, result.message) == (3, False, "max_iter is reached")


def test_at_a_minimum_there_is_nothing_to_do():
    store = store_of([3.0, 3.0], xpnn.get_backend("numpy", "float64"))
    result = LBFGS().minimize(store, quadratic(store))
    assert (result.n_iter, result.n_evals, result.converged) == (0, 1, True)


def test_a_small_decrease_ends_it():
    store = store_of([-1.2, 1.0], xpnn.get_backend("numpy", "float64"))
    result = LBFGS(gtol=0.0, ftol=0.5).minimize(store, rosenbrock(store))
    assert result.converged
    assert result.message == "the decrease is small"


def test_on_iteration_sees_iterates_and_may_stop():
    store = store_of([-1.2, 1.0], xpnn.get_backend("numpy", "float64"))
    evaluate, seen = rosenbrock(store), []

    def watch(number, value):
        seen.append((number, value))
        assert float(evaluate()) == value
        return number == 5

    result = LBFGS().minimize(store, evaluate, on_iteration=watch)
    assert [number for number, _ in seen] == [1, 2, 3, 4, 5]
    assert [value for _, value in seen] == sorted((value for _, value in seen), reverse=True)
    assert (result.n_iter, result.message) == (5, "on_iteration asked to stop")


def test_an_interrupt_leaves_the_best_point():
    store = store_of([-1.2, 1.0], xpnn.get_backend("numpy", "float64"))
    evaluate, values, calls = rosenbrock(store), [], []

    def interrupted():
        calls.append(1)
        if len(calls) == 15:
            raise KeyboardInterrupt
        return evaluate()

    with pytest.raises(KeyboardInterrupt):
        LBFGS().minimize(store, interrupted, on_iteration=lambda number, value: values.append(value))
    assert float(evaluate()) == values[-1] == min(values)


def test_a_wrong_gradient_ends_without_harm():
    store = store_of([5.0], xpnn.get_backend("numpy", "float64"))
    x, g = store.params["x"], store.param_grads["x"]

    def evaluate():
        g[...] = -(x - 3.0)  # uphill
        return 0.5 * ((x - 3.0) ** 2).sum()

    result = LBFGS().minimize(store, evaluate)
    assert not result.converged
    assert result.message == "the line search found no smaller value"
    assert x[0] == 5.0


@pytest.mark.parametrize(
    "options", [{"max_iter": 0}, {"max_evals": 0}, {"memory": 0}, {"gtol": -1.0}, {"ftol": math.nan}]
)
def test_options_out_of_range(options):
    with pytest.raises(OptionError, match=f"LBFGS: expected {next(iter(options))} >= "):
        LBFGS(**options)


def test_replicas_are_refused():
    net = xpnn.mlp([2, 3, 1], replicas=2, seed=0)
    with pytest.raises(OptionError, match="LBFGS: expected a single network, got replicas"):
        LBFGS().minimize(net.store, lambda: None)


@pytest.mark.parametrize(
    ("phi", "slope"),
    [
        (lambda a: (-a / (a * a + 2), (a * a - 2) / (a * a + 2) ** 2), -0.5),
        (lambda a: (math.cosh(a - 30.0) if a < 100 else math.inf, math.sinh(a - 30.0) if a < 100 else math.inf), None),
    ],
    ids=["rational", "steep"],
)
@pytest.mark.parametrize("step", [1e-3, 0.1, 10.0, 1e3])
def test_steps_satisfy_both_wolfe_conditions(phi, slope, step):
    value0, slope0 = phi(0.0)
    found = wolfe_search(phi, Point(0.0, value0, slope0), step)
    assert found.ok, found
    assert found.point.value <= value0 + 1e-3 * found.point.step * slope0
    assert abs(found.point.slope) <= 0.9 * abs(slope0)
    assert slope is None or slope0 == slope


@pytest.mark.parametrize("step", [1e-3, 0.1, 10.0, 1e3])
def test_where_the_curvature_condition_is_out_of_reach_the_decrease_is_enough(step):
    """The second problem of Moré and Thuente: flat at 0, steep beyond its minimum at 1.596."""

    def phi(a):
        b = a + 0.004
        return b**5 - 2 * b**4, 5 * b**4 - 8 * b**3

    found = wolfe_search(phi, Point(0.0, *phi(0.0)), step)
    assert found.ok
    assert found.n_evals <= 12
    assert found.point.step == pytest.approx(1.596, abs=0.05)
