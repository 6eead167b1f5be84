"""Products of half precision: what is rounded, what is not, and what it costs."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import importlib.util
import pickle

import fake_cupy
import numpy as np
import pytest

import xpnn
from xpnn import Linear
from xpnn.accel.half import half_of
from xpnn.backend import value as backends
from xpnn.errors import BackendUnavailableError, DivergenceError, OptionError

PAIRS = [("numpy", "float16"), ("numpy", "bfloat16"), ("torch", "float16"), ("torch", "bfloat16")]
BITS = {"float16": 11, "bfloat16": 8}
X = np.random.default_rng(0).normal(size=(64, 12)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 4, 64)


@pytest.fixture(params=PAIRS, ids="-".join, name="half")
def fixture_half(request):
    """A backend, and the type of its products."""
    name, dtype = request.param
    if name == "torch":
        pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    elif dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    return xpnn.get_backend(name, dtype), dtype


def rounded(a, dtype):
    """Round to the mantissa of a type by arithmetic alone."""
    mantissa, exponent = np.frexp(np.asarray(a, np.float64))
    return np.ldexp(np.round(np.ldexp(mantissa, BITS[dtype])), exponent - BITS[dtype])


# -- what is rounded --------------------------------------------------------------------------------------------
def test_a_product_is_of_rounded_numbers_summed_in_float32(half):
    backend, dtype = half
    net = xpnn.Sequential(Linear(5), n_in=12, backend=backend, seed=3)
    net.params["0.bias"][...] = 0.1
    y, caches = net.forward(X)
    weight = backend.to_numpy(net.params["0.weight"])
    wanted = rounded(X, dtype) @ rounded(weight, dtype) + np.float32(0.1)
    np.testing.assert_allclose(backend.to_numpy(y), wanted, rtol=0, atol=3e-6)
    assert np.abs(wanted - (X @ weight + 0.1)).max() > 1e-4  # a test that rounds nothing would pass

    dy = np.random.default_rng(2).normal(size=(64, 5)).astype(np.float32)
    dx = net.backward(backend.asarray(dy), caches, need_dx=True)
    of_dy = rounded(dy, dtype)
    np.testing.assert_allclose(backend.to_numpy(net.grads["0.weight"]), rounded(X, dtype).T @ of_dy, rtol=0, atol=3e-5)
    np.testing.assert_allclose(backend.to_numpy(dx), of_dy @ rounded(weight, dtype).T, rtol=0, atol=3e-6)
    np.testing.assert_allclose(backend.to_numpy(net.grads["0.bias"]), dy.sum(axis=0), rtol=0, atol=3e-6)


def test_everything_else_is_float32(half):
    backend, dtype = half
    assert (backend.dtype_name, backend.wide_name, half_of(backend.ops)) == (dtype, "float32", dtype)
    trainer = make(backend)
    trainer.fit(X, Y, epochs=1, batch_size=16)
    store = trainer.net.store
    state = trainer.optimizer.state.values()
    y, caches = trainer.net.forward(X, train=True)
    for array in (store.values, store.grads, store.buffers, *state, y, *(c for c in caches if hasattr(c, "dtype"))):
        assert str(array.dtype).endswith("float32")
    plain = xpnn.get_backend(backend.spec)
    logits = np.random.default_rng(3).normal(size=(8, 4))
    for loss in (xpnn.CrossEntropy(), xpnn.losses.Focal()):
        both = []
        for b in (backend, plain):
            labels = b.asarray(Y[:8], dtype=b.index_dtype)
            both.append(loss.using(b.ops).value_and_grad(b.asarray(logits), labels))
        for a, b in zip(*both, strict=True):
            assert backend.to_numpy(a).tolist() == plain.to_numpy(b).tolist()
    for norm in (xpnn.BatchNorm(), xpnn.LayerNorm(), xpnn.RMSNorm()):
        outputs = []
        for b in (backend, plain):
            layer = type(norm)()
            outputs.append(b.to_numpy(xpnn.Sequential(layer, n_in=12, backend=b).forward(X, train=True)[0]).tolist())
        assert outputs[0] == outputs[1]


def make(backend, dtype=None, **options):
    net = xpnn.mlp([12, 16, 8, 4], norm="layer", dropout=0.1, backend=backend, dtype=dtype, **{"seed": 0, **options})
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))


# -- gradients in float16 ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e8, 1e30])
def test_gradients_of_any_size_keep_their_digits(size, half):
    """float16 ends at 65504 and begins at 6e-8; a gradient's own power of two brings it in between."""
    backend, dtype = half
    net = xpnn.Sequential(Linear(5), n_in=12, backend=backend, seed=3)
    _, caches = net.forward(X)
    dy = np.random.default_rng(2).normal(size=(64, 5))
    dx = net.backward(backend.asarray(dy * size), caches, need_dx=True)
    wanted = rounded(X, dtype).T @ rounded(dy, dtype)
    found = backend.to_numpy(net.grads["0.weight"]) / size
    assert np.abs(found - wanted).max() <= 2.0 ** -BITS[dtype] * np.abs(wanted).max()
    assert np.isfinite(backend.to_numpy(dx)).all()


def test_the_power_of_two_uses_the_range_and_is_exact():
    ops = xpnn.get_backend("numpy", "float16").ops
    for largest, exponent in ((1.0, 15.0), (1.5, 14.0), (2.0, 14.0), (32768.0, 0.0), (3e4, 0.0), (1e-9, 44.0)):
        up, down = ops._scale(np.float32([[0.0, -largest]]))
        assert (up.item(), down.item()) == (2.0**exponent, 2.0**-exponent), largest
        assert up.dtype == np.float32
    up, _ = ops._scale(np.zeros((2, 3), np.float32))
    assert up.item() == 2.0**115
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(ops._scale(np.float32([[np.inf]]))[0] * np.float32(np.inf)).any()


def test_gradients_of_zero_stay_zero(half):
    backend, _ = half
    net = xpnn.Sequential(Linear(5), n_in=12, backend=backend)
    _, caches = net.forward(X)
    dx = net.backward(backend.zeros((64, 5)), caches, need_dx=True)
    assert not backend.to_numpy(dx).any()
    assert not backend.to_numpy(net.store.grads).any()


def test_replicas_do_not_share_a_power_of_two(half):
    backend, _ = half
    dy = np.random.default_rng(2).normal(size=(64, 5))
    together = xpnn.Sequential(Linear(5), n_in=12, backend=backend, seed=[3, 4])
    _, caches = together.forward(X)
    together.backward(backend.asarray(np.stack([dy, dy * 1e-9])), caches)
    for k, (seed, size) in enumerate([(3, 1.0), (4, 1e-9)]):
        alone = xpnn.Sequential(Linear(5), n_in=12, backend=backend, seed=seed)
        _, caches = alone.forward(X)
        alone.backward(backend.asarray(dy * size), caches)
        a, b = (backend.to_numpy(net.grads["0.weight"]) for net in (together, alone))
        np.testing.assert_allclose(a[k], b, rtol=1e-5, atol=1e-5 * size)


def test_inputs_beyond_float16_are_told():
    trainer = make("numpy", "float16")
    x = X.copy()
    x[:, 3] *= 1e6
    with pytest.raises(DivergenceError, match=r"0\.Linear.*Inputs reach .*\(column 3\): scale them"):
        trainer.fit(x, Y, epochs=1)
    assert np.isfinite(trainer.net.store.values).all()


# -- training ---------------------------------------------------------------------------------------------------
def test_training_comes_near_that_of_float32(half):
    backend, _ = half
    histories = []
    for b in (backend, xpnn.get_backend(backend.spec)):
        trainer = make(b)
        histories.append(trainer.fit(X, Y, epochs=30, batch_size=16)["loss"])
    assert histories[0] != histories[1]
    assert histories[0][-1] < 0.6 * histories[0][0]
    assert abs(histories[0][-1] - histories[1][-1]) < 0.05 * histories[1][0]


def test_a_saved_run_goes_on_to_the_bit(half, tmp_path):
    backend, dtype = half
    whole = make(backend)
    whole.fit(X, Y, epochs=4, batch_size=16)
    first = make(backend)
    first.fit(X, Y, epochs=2, batch_size=16)
    first.save(tmp_path / "run.safetensors")
    again = xpnn.Trainer.load(tmp_path / "run.safetensors", backend=backend.spec)
    assert again.net.backend.dtype_name == dtype
    again.fit(X, Y, epochs=2, batch_size=16)
    assert again.history["loss"] == whole.history["loss"]
    for name, value in whole.net.state_dict().items():
        assert value.dtype == np.float32
        assert again.net.state_dict()[name].tobytes() == value.tobytes()


def test_files_hold_the_masters(half, tmp_path):
    backend, dtype = half
    net = make(backend).net
    xpnn.save(net, tmp_path / "net.safetensors")
    for wanted, dtype_name in ((None, dtype), ("float32", "float32")):
        read = xpnn.load(tmp_path / "net.safetensors", backend=backend.spec, dtype=wanted)
        assert read.backend.dtype_name == dtype_name
        assert all(read.state_dict()[k].tobytes() == v.tobytes() for k, v in net.state_dict().items())


def test_mnist_within_two_tenths_of_a_point(mnist_dir):
    pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    data = xpnn.data.load_mnist(data_dir=mnist_dir, download=False)
    right = {}
    for dtype in ("float32", "bfloat16"):
        accuracies = []
        for seed in (0, 1):
            net = xpnn.mlp([784, 256, 128, 10], backend="torch", dtype=dtype, seed=seed)
            schedule = xpnn.Warmup(xpnn.CosineDecay(), 0.2)
            trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(3e-3), schedule=schedule, seed=seed)
            trainer.fit(data.X_train, data.y_train, epochs=2, batch_size=256)
            accuracies.append(100 * trainer.evaluate(data.X_test, data.y_test)["accuracy"])
        right[dtype] = np.mean(accuracies)
    assert right["float32"] > 97
    assert abs(right["bfloat16"] - right["float32"]) <= 0.2, right


# -- choosing it ------------------------------------------------------------------------------------------------
def test_a_backend_can_be_changed_there_and_back(half):
    backend, dtype = half
    plain = xpnn.get_backend(backend.spec)
    assert xpnn.get_backend(backend, "float32") == plain
    assert half_of(xpnn.get_backend(backend, "float32").ops) is None
    assert half_of(backend.with_dtype("float64").ops) is None
    assert half_of(plain.with_dtype(dtype).ops) == dtype
    assert plain.with_dtype(dtype) == backend != plain
    portable = xpnn.get_backend(backend, ops="portable")
    assert (half_of(portable.ops), portable.ops.name) == (dtype, "portable")
    again = pickle.loads(pickle.dumps(backend))
    assert (again, half_of(again.ops)) == (backend, dtype)
    net = make(plain).net
    moved = net.to(backend.spec, dtype)
    assert moved.backend == backend
    assert moved.to(backend.spec).backend == backend
    assert backend.to_numpy(moved.store.values).tolist() == plain.to_numpy(net.store.values).tolist()
    assert repr(backend).endswith(f"dtype='{dtype}')")


def test_the_portable_operations_and_numpys_agree():
    for dtype in ("float16", "bfloat16"):
        if dtype == "bfloat16" and importlib.util.find_spec("ml_dtypes") is None:
            continue
        losses = []
        for ops in ("fast", "portable"):
            trainer = make(xpnn.get_backend("numpy", dtype, ops=ops))
            losses.append(trainer.fit(X, Y, epochs=3, batch_size=16)["loss"])
        assert losses[0] == losses[1]


def test_bfloat16_of_numpy_needs_a_package(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ml_dtypes" else found(name))
    with pytest.raises(BackendUnavailableError, match=r"which is not installed: pip install ml_dtypes, or use dtype="):
        xpnn.get_backend("numpy").with_dtype("bfloat16")


def test_tf32_is_not_for_halves():
    with pytest.raises(OptionError, match="tf32=True rounds the products of float32"):
        xpnn.get_backend("numpy", "float16", tf32=True)


def test_checks_of_gradients_and_backends_refuse_halves():
    net = xpnn.mlp([12, 4], dtype="float16")
    with pytest.raises(OptionError, match=r"check_gradients: expected float32 or float64, got float16: .*net\.to\("):
        xpnn.testing.check_gradients(net, xpnn.CrossEntropy(), X, Y)
    with pytest.raises(OptionError, match="compare_backends: expected float32 or float64, got bfloat16"):
        xpnn.testing.compare_backends(
            lambda b: xpnn.mlp([12, 4], backend=b), xpnn.CrossEntropy(), xpnn.SGD(), X, Y, dtype="bfloat16"
        )
    report = xpnn.testing.check_gradients(net.to("numpy", "float64"), xpnn.CrossEntropy(), X, Y)
    assert report.verdict == "excellent"


def test_data_on_disk(tmp_path):
    on_disk = np.memmap(tmp_path / "x", dtype=np.float64, mode="w+", shape=X.shape)
    on_disk[...] = X
    losses = [make("numpy", "float16").fit(x, Y, epochs=2, batch_size=16)["loss"] for x in (X, on_disk)]
    assert losses[0] == losses[1]


# -- CuPy, on a CuPy that is none: cuBLAS in Python -------------------------------------------------------------
@pytest.fixture(params=["float16", "bfloat16"], name="cuda")
def fixture_cuda(request, cupy):
    pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    return backends.make("cupy", "0", request.param), request.param, cupy


@pytest.mark.parametrize("replicas", [None, 2], ids=["one", "replicas"])
def test_cublas_multiplies_the_halves_themselves(replicas, cuda):
    backend, dtype, cupy = cuda
    trained = []
    for b in (backend, xpnn.get_backend("numpy", dtype, ops="portable")):
        trainer = make(b, replicas=replicas)
        trainer.fit(X, Y, epochs=2, batch_size=16, graph=False)
        trained.append((trainer.history["loss"], b.to_numpy(trainer.net.store.values)))
    assert trained[0][0] == pytest.approx(trained[1][0], rel=1e-5)
    np.testing.assert_allclose(trained[0][1], trained[1][1], rtol=0, atol=1e-3)
    assert backend.dtype == np.float32
    told = cupy.blas.products
    assert len(told) == 2 * 4 * 8  # three layers: forward, weights, and inputs but for the first
    assert {p["compute"] for p in told} == {68}
    assert not hasattr(cupy.blas, "error")
    assert isinstance(backend.ops, fake_cupy.cupy_ops.CupyOps)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_compiled_loops_leave_products_of_half_precision(dtype):
    """A network with compiled loops is to the bit the one without, and not that of full precision."""
    pytest.importorskip("numba", reason="needs numba: pip install 'xpnn[fast]'")
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")

    def train(kind, *, compiled):
        backend = xpnn.get_backend("numpy", kind)
        ops = copy.copy(backend.ops)
        ops.setting = False
        if compiled:
            ops._loops = importlib.import_module("xpnn.accel.native.loops")
        net = xpnn.mlp([12, 20, 16, 4], backend=dataclasses.replace(backend, ops=ops), seed=0)
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01)).fit(X, Y, epochs=3, batch_size=16)
        return backend.to_numpy(net.store.values)

    half = train(dtype, compiled=True)
    np.testing.assert_array_equal(half, train(dtype, compiled=False))
    assert np.abs(half - train("float32", compiled=True)).max() > 1e-4
