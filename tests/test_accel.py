"""Every faster twin gives the bits of the portable operation."""

from __future__ import annotations

import dataclasses
import importlib
import multiprocessing
import pickle
import sys
import warnings

import numpy as np
import pytest

import xpnn
from xpnn.accel import NumpyOps, numpy_ops
from xpnn.errors import OptionError
from xpnn.ops import Ops

RNG = np.random.default_rng(0)
FAST, PORTABLE = NumpyOps(np, "cpu"), Ops(np, "cpu")


@pytest.fixture(params=["numpy", "numba"])
def fast(request):
    """The twins, with NumPy's passes and with compiled loops."""
    if request.param == "numpy":
        return FAST
    pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")
    ops = NumpyOps(np, "cpu")
    ops._loops = importlib.import_module("xpnn.accel._kernels")
    return ops


def draw(shape, dtype):
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("replicas", [(), (3,)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_dx", [True, False])
def test_linear_backward(fast, dtype, replicas, shared, bias, need_dx):
    batch, n_in, n_out = 67, 33, 41
    x = draw((batch, n_in) if shared else (*replicas, batch, n_in), dtype)
    dy, weight = draw((*replicas, batch, n_out), dtype), draw((*replicas, n_in, n_out), dtype)
    results = []
    for ops in (fast, PORTABLE):
        flat = np.full((*replicas, n_in * n_out + n_out + 7), np.nan, dtype)  # gradients are views of a flat buffer
        d_weight = flat[..., : n_in * n_out].reshape((*replicas, n_in, n_out), copy=False)
        d_bias = flat[..., None, n_in * n_out : -7] if bias else None
        dx = ops.linear_backward(x, dy, weight, d_weight, d_bias, need_dx=need_dx)
        results.append((flat, dx))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4096, 1), (3000, 2), (2, 3000), (1, 3000), (300, 8)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_bias_gradients_of_any_shape(fast, dtype, shape, order):
    """NumPy sums a single column, or columns in Fortran's order, in pairs and not row by row."""
    dy, x = np.asarray(draw(shape, dtype), order=order), draw((shape[0], 3), dtype)
    sums = []
    for ops in (fast, PORTABLE):
        d_bias = np.full((1, shape[1]), np.nan, dtype)
        ops.linear_backward(
            x, dy, np.zeros((3, shape[1]), dtype), np.empty((3, shape[1]), dtype), d_bias, need_dx=False
        )
        sums.append(d_bias)
    np.testing.assert_array_equal(*sums)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (1000,), (65_536,), (1_100_003,), (3, 400_001), (40, 5000)])
@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_adam(monkeypatch, fast, dtype, shape, factors, threads):
    monkeypatch.setattr(numpy_ops, "_thread_count", lambda: threads)
    monkeypatch.setattr(numpy_ops, "_pool", None)
    start = [draw(shape, dtype) for _ in range(3)] + [np.abs(draw(shape, dtype))]
    lr_factors = np.abs(draw(shape[-1:], dtype)) if factors else None
    rate = np.linspace(0.1, 0.2, shape[0], dtype=dtype)[:, None] if len(shape) == 2 else 0.1
    results = []
    for ops in (fast, PORTABLE):
        values, grads, m, v = (a.copy() for a in start)
        for _ in range(3):
            ops.adam(values, grads, m, v, (0.9, 0.999, 1e-7, rate), lr_factors)
        results.append((values, grads, m, v))
    for own, portable in zip(*results, strict=True):
        np.testing.assert_array_equal(own, portable)


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e38, -1e38, 1e-40]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (67, 41), (3, 33, 65), (0, 5)])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("contiguous", [True, False])
def test_linear_and_relu(fast, dtype, shape, overwrite, contiguous):
    x, dy = draw(shape, dtype), draw(shape, dtype)
    if x.size > len(SPECIAL):
        x.reshape(-1)[: len(SPECIAL)], dy.reshape(-1)[-len(SPECIAL) :] = SPECIAL, SPECIAL
    if not contiguous:
        x, dy = (np.repeat(a, 2, axis=-1)[..., ::2] for a in (x, dy))
    weight, bias = draw((shape[-1], 39), dtype), draw((1, 39), dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        for b in (bias, None):
            np.testing.assert_array_equal(fast.linear(x, weight, b), PORTABLE.linear(x, weight, b))
        y, before = PORTABLE.relu(x), dy.copy()
        dx = PORTABLE.relu_backward(dy, y)
        kept = x.copy()
        np.testing.assert_array_equal(fast.relu(x, overwrite=overwrite), y)
        np.testing.assert_array_equal(fast.relu_backward(dy, y, overwrite=overwrite), dx)
    if not overwrite:
        np.testing.assert_array_equal(x, kept)
        np.testing.assert_array_equal(dy, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", [1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 100, 127, 128, 129, 300])
@pytest.mark.parametrize("batch", [1, 32])
def test_cross_entropy_of_labels(fast, dtype, classes, batch):
    logits, labels = draw((batch, classes), dtype) * 20, RNG.integers(0, classes, batch)
    for own, portable in zip(
        fast.softmax_cross_entropy_labels(logits, labels),
        PORTABLE.softmax_cross_entropy_labels(logits, labels),
        strict=True,
    ):
        np.testing.assert_array_equal(own, portable)


def test_cross_entropy_of_replicas(fast):
    logits, labels = draw((3, 20, 5), np.float32), RNG.integers(0, 5, 20)
    for y in (labels, np.stack([labels] * 3)):
        for own, portable in zip(
            fast.softmax_cross_entropy_labels(logits, y), PORTABLE.softmax_cross_entropy_labels(logits, y), strict=True
        ):
            np.testing.assert_array_equal(own, portable)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cross_entropy_shows_what_is_not_finite(fast, bad):
    logits = draw((4, 10), np.float32)
    logits[2, 7] = bad
    with np.errstate(invalid="ignore", over="ignore"):
        losses, d = fast.softmax_cross_entropy_labels(logits, np.zeros(4, np.int64))
    np.testing.assert_array_equal(np.isfinite(losses), [True, True, False, True])
    np.testing.assert_array_equal(np.isfinite(d).all(axis=-1), [True, True, False, True])


def test_compiled_loops_are_loaded_by_long_fits_alone(monkeypatch):
    pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")
    ops = NumpyOps(np, "cpu")
    ops.prepare(steps=100, n_params=1000, n_activations=1000)
    assert not ops._considered
    ops.prepare(steps=10_000, n_params=235_146, n_activations=50_000)
    assert ops._considered
    monkeypatch.setattr(numpy_ops, "_least_time", lambda call: {"compiled": 2.0, "with_numpy": 1.0}[call.__name__])
    slow = NumpyOps(np, "cpu")
    slow.choose(compiled=True)
    assert not slow.compiled
    monkeypatch.setattr(numpy_ops, "_least_time", lambda call: {"compiled": 1.0, "with_numpy": 2.0}[call.__name__])
    slow.prepare(steps=10_000, n_params=235_146, n_activations=50_000)
    assert not slow.compiled  # considered once
    ops = NumpyOps(np, "cpu")
    ops.choose(compiled=True)
    assert ops.compiled
    ops.choose(compiled=False)
    assert not ops.compiled


def test_without_numba_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    ops = NumpyOps(np, "cpu")
    ops.choose(compiled=True)
    assert not ops.compiled
    assert ops._considered


def test_threads_obey_the_errstate_of_the_caller(monkeypatch):
    monkeypatch.setattr(numpy_ops, "_thread_count", lambda: 2)
    monkeypatch.setattr(numpy_ops, "_pool", None)
    n = 1 << 20
    arrays = [np.full(n, np.inf, np.float32) for _ in range(4)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        FAST.adam(*arrays, (0.9, 0.999, 1e-7, 0.1))
    assert np.isnan(arrays[0]).all()


def test_as_many_threads_as_the_environment_says(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert numpy_ops._thread_count() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert numpy_ops._thread_count() >= 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert numpy_ops._thread_count() >= 1


def _adam_in_a_child():
    arrays = [np.ones(1 << 20, np.float32) for _ in range(4)]
    FAST.adam(*arrays, (0.9, 0.999, 1e-7, 0.1))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own(monkeypatch):
    monkeypatch.setattr(numpy_ops, "_thread_count", lambda: 2)
    _adam_in_a_child()
    child = multiprocessing.get_context("fork").Process(target=_adam_in_a_child)
    child.start()
    child.join(timeout=30)
    assert child.exitcode == 0


def train(ops):
    backend = dataclasses.replace(xpnn.get_backend("numpy"), ops=ops)
    net = xpnn.mlp([20, 64, 64, 5], norm="batch", dropout=0.2, residual=True, backend=backend, seed=1)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01), clip_norm=1.0, regularizer=xpnn.L2(1e-4))
    X, y = np.random.default_rng(3).normal(size=(300, 20)), np.arange(300) % 5
    history = trainer.fit(X, y, epochs=3, batch_size=64, validation_fraction=0.2)
    return net.state_dict(), history["loss"]


def test_a_training_run_is_the_same_to_the_bit(fast):
    (weights, loss), (portable, portable_loss) = train(fast), train(PORTABLE)
    assert loss == portable_loss
    for name, value in portable.items():
        np.testing.assert_array_equal(weights[name], value)


def test_choosing_operations():
    fast, portable = xpnn.get_backend("numpy"), xpnn.get_backend("numpy", ops="portable")
    assert (fast.ops.name, portable.ops.name) == ("fast", "portable")
    assert xpnn.get_backend(fast, ops="portable").ops.name == "portable"
    assert xpnn.get_backend(portable, "float64").ops.name == "portable"
    for backend in (fast, portable):
        assert pickle.loads(pickle.dumps(backend)).ops.name == backend.ops.name
    with pytest.raises(OptionError, match=r"get_backend: expected ops to be 'fast' or 'portable', got 'slow'"):
        xpnn.get_backend("numpy", ops="slow")
