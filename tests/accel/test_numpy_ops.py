"""Every faster twin gives the bits of the portable operation."""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import multiprocessing
import pickle
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from fake_pool import IMITATED, handed_out

import xpnn
from xpnn.accel import NumpyOps, numpy_ops, products, workers
from xpnn.accel.native import support
from xpnn.accel.native.openblas import NO_POOL
from xpnn.accel.native.turns import ONE_THREAD
from xpnn.errors import OptionError
from xpnn.ops import Affine, Decay, Ops, Update

RNG = np.random.default_rng(0)
FAST, PORTABLE = NumpyOps(), Ops(np, "cpu")


def draw(shape, dtype):
    return RNG.normal(size=shape).astype(dtype)


@pytest.mark.parametrize("stack", [(), (3,)], ids=["one", "replicas"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_of_rows(fast, dtype, stack):
    """Rows that nobody has are 0, whatever was there, and what lies beside the place stays."""
    rows, index = draw((*stack, 40, 3), dtype), RNG.integers(0, 6, (*stack, 40))
    index[index == 4] = 0
    expected = np.zeros((*stack, 7, 3))
    for place in np.ndindex(*stack, 40):
        expected[(*place[:-1], index[place])] += rows[place]
    for ops in (fast, PORTABLE):
        flat = np.full((*stack, 30), 9.0, dtype)
        out = flat[..., 2:23].reshape(*stack, 7, 3)
        assert np.shares_memory(out, flat)
        ops.sum_rows(rows, index, out)
        np.testing.assert_allclose(out, expected, rtol=0, atol=3e-6)
        assert (out[..., 4, :] == 0).all()
        assert (flat[..., :2] == 9).all()
        assert (flat[..., 23:] == 9).all()
    if stack:  # all replicas may have the same numbers
        fast.sum_rows(rows, index[0], out)
        expected = [rows[1][index[0] == c].sum(0) for c in range(7)]
        np.testing.assert_allclose(out[1], expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers(fast, dtype):
    x = np.asarray([[0.0, -0.0, 2.0], [2.5, 3.5, 0.4999], [1e6, -7.2, 41.9]], dtype)
    for given in (x, x.T, x[:, :2], x[:0]):
        for whole in (np.int64, np.int32):
            made = fast.whole_numbers(given, whole)
            assert made.dtype == whole
            np.testing.assert_array_equal(made, PORTABLE.whole_numbers(given, whole))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_joined_features(fast, dtype):
    one, each = draw((5, 2), dtype), draw((3, 5, 4), dtype)
    shared = np.broadcast_to(one, (3, 5, 2))
    for ops in (fast, PORTABLE):
        joined = ops.join([each[..., :1], one, each])
        np.testing.assert_array_equal(joined, np.concatenate([each[..., :1], shared, each], axis=-1))
        assert joined.dtype == dtype
        assert joined.flags.c_contiguous
        room = ops.empty(one.T, (4, 2))
        assert (room.shape, room.dtype, room.flags.c_contiguous) == ((4, 2), dtype, True)


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
        dx = ops.linear_backward(x, dy, Affine(weight, None, d_weight, d_bias), need_dx=need_dx)
        results.append((flat, dx))
    assert_same_bits(results[0][0], results[1][0])
    assert_same_bits(results[0][1], results[1][1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(4096, 1), (3000, 2), (2, 3000), (1, 3000), (300, 8)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_bias_gradients_of_any_shape(fast, dtype, shape, order):
    """NumPy sums a single column, or columns in Fortran's order, in pairs and not row by row."""
    dy, x = np.asarray(draw(shape, dtype), order=order), draw((shape[0], 3), dtype)
    sums = []
    for ops in (fast, PORTABLE):
        d_bias = np.full((1, shape[1]), np.nan, dtype)
        weight, d_weight = np.zeros((3, shape[1]), dtype), np.empty((3, shape[1]), dtype)
        ops.linear_backward(x, dy, Affine(weight, None, d_weight, d_bias), need_dx=False)
        sums.append(d_bias)
    assert_same_bits(*sums)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (1000,), (65_536,), (1_100_003,), (3, 400_001), (40, 5000)])
@pytest.mark.parametrize("factors", ["", "rates", "decay", "decay by rates", "rates and decay"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_adam(monkeypatch, fast, dtype, shape, factors, threads):
    monkeypatch.setattr(workers, "worker_count", lambda: threads)
    monkeypatch.setattr(workers, "_pool", None)
    start = [draw(shape, dtype) for _ in range(3)] + [np.abs(draw(shape, dtype))]
    lr_factors = np.abs(draw(shape[-1:], dtype)) if "rates" in factors else None
    n = shape[-1] // 2 + 1
    own = np.abs(draw((n,), dtype)) if "and" in factors else None
    decay = Decay(True, n, 0.01 if "rates" in factors else 0.99, own) if "decay" in factors else None
    rate = np.linspace(0.1, 0.2, shape[0], dtype=dtype)[:, None] if len(shape) == 2 else 0.1
    results = []
    for ops in (fast, PORTABLE):
        values, grads, m, v = (a.copy() for a in start)
        for _ in range(3):
            ops.adam(Update(values, grads, lr_factors, decay), m, v, (0.9, 0.999, 1e-7, rate))
        results.append((values, grads, m, v))
    for own, portable in zip(*results, strict=True):
        assert_same_bits(own, portable)


def assert_same_bits(own, other):
    """Equal to the bit, zeros with their signs; one NaN is as good as another."""
    if own is None or other is None:
        assert own is other
        return
    assert (own.shape, own.dtype) == (other.shape, other.dtype)
    np.testing.assert_array_equal(own, other)
    np.testing.assert_array_equal(np.signbit(own[~np.isnan(own)]), np.signbit(other[~np.isnan(other)]))


@pytest.fixture
def whole_products(monkeypatch):
    """Products as the portable operations make them: not all kernels of OpenBLAS give a piece the bits of the whole."""
    monkeypatch.setattr(products, "_DIVIDED", (2**62,) * len(products._DIVIDED))
    products.piece_count.cache_clear()
    yield
    products.piece_count.cache_clear()


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
            assert_same_bits(fast.linear(x, weight, b), PORTABLE.linear(x, weight, b))
        y, before = PORTABLE.relu(x), dy.copy()
        dx = PORTABLE.relu_backward(dy, y)
        kept = x.copy()
        assert_same_bits(fast.relu(x, overwrite=overwrite), y)
        assert_same_bits(fast.relu_backward(dy, y, overwrite=overwrite), dx)
    if not overwrite:
        assert_same_bits(x, kept)
        assert_same_bits(dy, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (67, 41), (300, 130), (3, 33, 65), (0, 5)])
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("need_dx", [True, False])
def test_linear_and_relu_as_one(whole_products, fast, dtype, shape, overwrite, bias, need_dx):
    width = 131 if shape[-1] == 130 else 39
    x, weight = draw(shape, dtype), draw((shape[-1], width), dtype)
    dy = draw((*shape[:-1], width), dtype)
    if dy.size > len(SPECIAL):
        dy.reshape(-1)[-len(SPECIAL) :] = SPECIAL
        x[..., 0, :3] = np.nan
    b = draw((1, width), dtype) if bias else None
    y = PORTABLE.linear_relu(x, weight, b)
    assert_same_bits(fast.linear_relu(x, weight, b), y)
    assert_same_bits(PORTABLE.relu(PORTABLE.linear(x, weight, b)), y)
    d_weight, d_bias = np.empty((*shape[:-2], shape[-1], width), dtype), np.empty((*shape[:-2], 1, width), dtype)
    results = []
    for ops in (fast, PORTABLE):
        given, d_w, d_b = dy.copy(), d_weight.copy(), d_bias.copy() if bias else None
        with np.errstate(invalid="ignore", over="ignore"):
            affine = Affine(weight, b, d_w, d_b)
            dx = ops.linear_relu_backward(x, y, given, affine, need_dx=need_dx, overwrite=overwrite)
        results.append((dx, d_w, d_b))
        if not overwrite:
            assert_same_bits(given, dy)
    for own, portable in zip(*results, strict=True):
        assert_same_bits(own, portable)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(50, 784), (50, 64), (50, 63), (50, 1), (50,), (50, 8, 8)])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_rows(fast, dtype, shape, count):
    x, index = (draw(shape, np.float64) * 50).astype(dtype), RNG.integers(0, 50, count)
    np.testing.assert_array_equal(fast.take_rows(x, index), PORTABLE.take_rows(x, index))
    np.testing.assert_array_equal(fast.take_rows(x[::2], index % 25), PORTABLE.take_rows(x[::2], index % 25))
    for wrong in (50, -51):
        with pytest.raises(IndexError):
            fast.take_rows(x, np.append(index, wrong))
    np.testing.assert_array_equal(fast.take_rows(x, index - 50), x[index])  # from the end, as NumPy counts


@pytest.mark.parametrize("shape", [(1,), (1000,), (3, 700)])
def test_total(fast, shape):
    x = draw(shape, np.float32)
    assert_same_bits(fast.total(x), PORTABLE.total(x))


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
        assert_same_bits(own, portable)


def test_cross_entropy_of_replicas(fast):
    logits, labels = draw((3, 20, 5), np.float32), RNG.integers(0, 5, 20)
    for y in (labels, np.stack([labels] * 3)):
        for own, portable in zip(
            fast.softmax_cross_entropy_labels(logits, y), PORTABLE.softmax_cross_entropy_labels(logits, y), strict=True
        ):
            assert_same_bits(own, portable)


@pytest.mark.parametrize("labels", [[0, 1, 10], [0, 1, 10**9], [0, 1, -11], [0, 1], [0, 1, 2, 3]])
def test_labels_that_do_not_exist_are_refused(fast, labels):
    with pytest.raises((IndexError, ValueError)):
        fast.softmax_cross_entropy_labels(draw((3, 10), np.float32), np.asarray(labels))


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int64])
def test_labels_of_any_integers(fast, dtype):
    logits = draw((3, 10), np.float32)
    for own, portable in zip(
        fast.softmax_cross_entropy_labels(logits, np.asarray([0, 9, 3], dtype)),
        PORTABLE.softmax_cross_entropy_labels(logits, np.asarray([0, 9, 3], dtype)),
        strict=True,
    ):
        assert_same_bits(own, portable)


@pytest.mark.parametrize("dtype", ["float16", "int32", "uint8", ">f4"])
def test_other_dtypes_are_left_to_numpy(fast, dtype):
    """A layer of one's own may give what it likes; the loops are for floats of 32 and 64 bits."""
    x = (draw((20, 30), np.float64) * 20).astype(dtype)
    assert_same_bits(fast.relu_backward(x, x), np.multiply(x, x > 0))
    assert_same_bits(fast.relu(x), np.maximum(x, 0.0))
    assert_same_bits(fast.take_rows(np.tile(x, 3), np.arange(3)), np.tile(x, 3)[:3])


def test_arrays_in_other_orders(fast):
    logits = np.asarray(draw((3, 20, 40), np.float32), order="F")
    labels = RNG.integers(0, 40, 20)
    for own, portable in zip(
        fast.softmax_cross_entropy_labels(logits, labels),
        PORTABLE.softmax_cross_entropy_labels(logits, labels),
        strict=True,
    ):
        assert_same_bits(own, portable)
    x, rows = draw((6, 70), np.float32), np.asarray([[0, 5], [3, 3]])
    np.testing.assert_array_equal(fast.take_rows(x, rows), x[rows])
    np.testing.assert_array_equal(fast.take_rows(x, rows[0, 0]), x[0])
    with pytest.raises(ValueError, match="broadcast"):
        fast.relu_backward(x, x[:4])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_cross_entropy_shows_what_is_not_finite(fast, bad):
    logits = draw((4, 10), np.float32)
    logits[2, 7] = bad
    with np.errstate(invalid="ignore", over="ignore"):
        losses, d = fast.softmax_cross_entropy_labels(logits, np.zeros(4, np.int64))
    np.testing.assert_array_equal(np.isfinite(losses), [True, True, False, True])
    np.testing.assert_array_equal(np.isfinite(d).all(axis=-1), [True, True, False, True])


@pytest.fixture
def not_loaded(monkeypatch, loops):
    """As in a process that has not loaded the loops yet."""
    monkeypatch.setattr(numpy_ops, "is_loaded", lambda: False)


LONG = {"steps": 10_000, "n_params": 235_146, "n_activations": 50_000}
SHORT = {"steps": 100, "n_params": 1000, "n_activations": 1000}


def test_compiled_loops_are_loaded_by_long_fits_alone(not_loaded):
    ops = NumpyOps()
    ops.prepare(**SHORT)
    assert not ops.compiled
    ops.prepare(**LONG)
    assert ops.compiled
    ops.prepare(**SHORT)
    assert ops.compiled, "what was loaded stays"
    assert not NumpyOps().compiled, "but for these networks alone"


def test_loaded_loops_cost_nothing_more(loops):
    support.load_loops()
    ops = NumpyOps()
    assert not ops.compiled
    ops.prepare(**SHORT)
    assert ops.compiled


def test_compiled_loops_never_or_always(not_loaded):
    never, always = NumpyOps(compiled=False), NumpyOps(compiled=True)
    assert always.compiled
    for ops in (never, always):
        ops.prepare(**LONG)
    assert (never.compiled, always.compiled) == (False, True)


def test_compiled_loops_are_chosen_for_one_object(loops):
    ops = NumpyOps()
    ops.choose(compiled=True)
    assert (ops.compiled, ops.setting, NumpyOps().compiled) == (True, True, False)
    ops.choose(compiled=False)
    ops.prepare(**LONG)
    assert (ops.compiled, ops.setting) == (False, False)


def test_each_fit_looks_how_many_threads_its_user_allows(loops, pool):
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    ops = NumpyOps(compiled=True)
    count = ctypes.CFUNCTYPE(ctypes.c_int)(ops._pool[1])
    for threads in (1, 2, 1):
        with limits(threads, user_api="blas"):
            ops.prepare(**LONG)
            assert ops._pool == pool
            assert count() == threads
            with ONE_THREAD:  # which is xpnn's own affair
                assert count() == threads


def test_loops_use_as_many_threads_as_the_products(monkeypatch, loops, pool):
    """The count is asked for at every loop, so limits hold that are set later."""
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    run = IMITATED[0], pool[1]
    x = np.ones(1 << 20, np.float32)
    handed_out.clear()
    for threads, expected in ((1, []), (2, [2])):
        with limits(threads, user_api="blas"):
            loops.relu_over(run, x)
        assert handed_out == expected
    loops.relu_over(IMITATED, x[: 1 << 16])  # two parts are worth their while, seven are not
    assert handed_out == [2, 2]
    loops.relu_over(IMITATED, x[: 1 << 10])
    assert handed_out == [2, 2]


def test_the_loops_tell_when_the_threads_code_changes(loops, spread):
    """numba would go on with what it compiled before."""
    assert hashlib.sha256(Path(spread.__file__).read_bytes()).hexdigest()[:8] == loops._SPREAD


def test_several_python_threads_may_spread_at_once(loops, pool):
    numbers = (0.9, 0.999, 1e-7, 0.1)
    arrays = [[np.full(100_003, k, np.float32) for k in range(1, 5)] for _ in range(4)]
    expected = [a.copy() for a in arrays[0]]
    for _ in range(50):
        loops.adam(NO_POOL, *expected, *numbers)

    def work(own):
        for _ in range(50):
            loops.adam(pool, *own, *numbers)

    threads = [threading.Thread(target=work, args=(own,)) for own in arrays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for own in arrays:
        for a, b in zip(own, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_obey_the_errstate_of_the_caller(monkeypatch):
    monkeypatch.setattr(workers, "worker_count", lambda: 2)
    monkeypatch.setattr(workers, "_pool", None)
    n = 1 << 20
    arrays = [np.full(n, np.inf, np.float32) for _ in range(4)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        FAST.adam(Update(*arrays[:2]), *arrays[2:], (0.9, 0.999, 1e-7, 0.1))
    assert np.isnan(arrays[0]).all()


def _adam_in_a_child(ops):
    arrays = [np.ones(1 << 20, np.float32) for _ in range(4)]
    ops.adam(Update(*arrays[:2]), *arrays[2:], (0.9, 0.999, 1e-7, 0.1))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own(monkeypatch, fast):
    if fast._pool == IMITATED:
        pytest.skip("runs no threads")
    monkeypatch.setattr(workers, "worker_count", lambda: 2)
    _adam_in_a_child(fast)
    child = multiprocessing.get_context("fork").Process(target=_adam_in_a_child, args=(fast,))
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
