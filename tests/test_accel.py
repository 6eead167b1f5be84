"""Every faster twin gives the bits of the portable operation."""

from __future__ import annotations

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


def draw(shape, dtype):
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("replicas", [(), (3,)])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_dx", [True, False])
def test_linear_backward(dtype, replicas, shared, bias, need_dx):
    batch, n_in, n_out = 17, 33, 9
    x = draw((batch, n_in) if shared else (*replicas, batch, n_in), dtype)
    dy, weight = draw((*replicas, batch, n_out), dtype), draw((*replicas, n_in, n_out), dtype)
    results = []
    for ops in (FAST, PORTABLE):
        flat = np.full((*replicas, n_in * n_out + n_out + 7), np.nan, dtype)  # gradients are views of a flat buffer
        d_weight = flat[..., : n_in * n_out].reshape((*replicas, n_in, n_out), copy=False)
        d_bias = flat[..., None, n_in * n_out : -7] if bias else None
        dx = ops.linear_backward(x, dy, weight, d_weight, d_bias, need_dx=need_dx)
        results.append((flat, dx))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (1000,), (65_536,), (1_100_003,), (3, 400_001), (40, 5000)])
@pytest.mark.parametrize("factors", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_adam(monkeypatch, dtype, shape, factors, threads):
    monkeypatch.setattr(numpy_ops, "_thread_count", lambda: threads)
    monkeypatch.setattr(numpy_ops, "_pool", None)
    start = [draw(shape, dtype) for _ in range(3)] + [np.abs(draw(shape, dtype))]
    lr_factors = np.abs(draw(shape[-1:], dtype)) if factors else None
    rate = np.linspace(0.1, 0.2, shape[0], dtype=dtype)[:, None] if len(shape) == 2 else 0.1
    results = []
    for ops in (FAST, PORTABLE):
        values, grads, m, v = (a.copy() for a in start)
        for _ in range(3):
            ops.adam(values, grads, m, v, (0.9, 0.999, 1e-7, rate), lr_factors)
        results.append((values, grads, m, v))
    for fast, portable in zip(*results, strict=True):
        np.testing.assert_array_equal(fast, portable)


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
    backend = xpnn.get_backend("numpy", ops=ops)
    net = xpnn.mlp([20, 64, 64, 5], norm="batch", dropout=0.2, residual=True, backend=backend, seed=1)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01), clip_norm=1.0, regularizer=xpnn.L2(1e-4))
    X, y = np.random.default_rng(3).normal(size=(300, 20)), np.arange(300) % 5
    history = trainer.fit(X, y, epochs=3, batch_size=64, validation_fraction=0.2)
    return net.state_dict(), history["loss"]


def test_a_training_run_is_the_same_to_the_bit():
    (fast, fast_loss), (portable, portable_loss) = train("fast"), train("portable")
    assert fast_loss == portable_loss
    for name, value in portable.items():
        np.testing.assert_array_equal(fast[name], value)


def test_choosing_operations():
    fast, portable = xpnn.get_backend("numpy"), xpnn.get_backend("numpy", ops="portable")
    assert (fast.ops.name, portable.ops.name) == ("fast", "portable")
    assert xpnn.get_backend(fast, ops="portable").ops.name == "portable"
    assert xpnn.get_backend(portable, "float64").ops.name == "portable"
    for backend in (fast, portable):
        assert pickle.loads(pickle.dumps(backend)).ops.name == backend.ops.name
    with pytest.raises(OptionError, match=r"get_backend: expected ops to be 'fast' or 'portable', got 'slow'"):
        xpnn.get_backend("numpy", ops="slow")
