"""The CUDA kernels without a GPU: compiled for every architecture, and run on the host against the portable operations.

What is shown here is that the source compiles, that the host hands over the right arguments, and that the arithmetic,
the indices and the exchanges between threads are right, in any order of threads and blocks.  What only a GPU can show
is for ``ci/gpu.sh``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import pickle
import re
import subprocess
import sys
import types

import numpy as np
import pytest
import taped
from fake_cupy import (
    ALONE,
    ORDERS,
    RawModule,
    bare,
    compiled,
    guarded,
    run,
)
from nvrtc import ARCHITECTURES, FLUSH, find_nvrtc, nvcc_resources, nvrtc_compile
from places import PROJECT

import xpnn
from xpnn.accel.cuda import kernels
from xpnn.accel.cuda.checks import gathers, number, plain, row_step
from xpnn.accel.cuda.cublas import Layout, layout
from xpnn.accel.cuda.cupy_ops import CupyOps
from xpnn.accel.cuda.gemm import Blas
from xpnn.accel.cuda.persistent import Steps
from xpnn.backend import value as backends
from xpnn.errors import BackendUnavailableError, OptionError
from xpnn.ops import Affine, Clip, Decay, Ops, Places, Update
from xpnn.random import StepKey, keep_thresholds

PORTABLE = Ops(np, "cpu")
COLUMNS = [1, 10, 31, 32, 33, 100, 784]
ROWS = [1, 7, 128]
SHAPES = [(r, c) for r in ROWS for c in COLUMNS] + [(3, 7, 33), (2, 128, 10), (1, 5, 4)]
ROUNDING = 3e-6  # relative to the largest element: sums of some hundred terms in another order


def draw(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def close(actual, expected, tolerance=ROUNDING):
    """Equal to rounding; NaN and infinities in the same places."""
    actual, expected = bare(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite])
    scale = np.abs(expected[finite]).max(initial=0.0)
    np.testing.assert_allclose(actual[finite], expected[finite], rtol=0, atol=tolerance * max(float(scale), 1e-30))


def same(actual, expected):
    """Equal to the bit; every NaN counts as one."""
    np.testing.assert_array_equal(bare(actual), expected, strict=True)


# -- the compilers ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles_every_kernel(architecture):
    """With the options that CuPy passes on; to machine code, as CuPy does."""
    options = (*kernels.OPTIONS, FLUSH, f"--gpu-architecture={architecture}")
    status, log, code = nvrtc_compile(find_nvrtc(), kernels.source(), *options)
    assert (status, log) == (0, "")
    assert code[:4] == b"\x7fELF"
    for name in kernels.KERNELS:
        assert f".text.{name}\0".encode() in code, name


@pytest.mark.parametrize(("name", "loads"), [("relu_backward", 16), ("column_sums", 8)])
def test_rows_are_loaded_before_the_first_is_stored(name, loads):
    """A thread that loads and stores one row after the other waits for memory as often as it has rows."""
    options = (*kernels.OPTIONS, FLUSH, "--gpu-architecture=compute_90")
    status, _, code = nvrtc_compile(find_nvrtc(), kernels.source(), *options, result="PTX")
    assert status == 0
    body = code.decode().split(f".entry {name}(")[1].split(".entry ")[0]
    before = body.split("bar.sync")[0].split("st.global")[0]
    assert before.count("ld.global") == loads


def test_nvrtc_tells_an_error():
    """The check itself: a name that needs a header does not pass."""
    status, log, _ = nvrtc_compile(
        find_nvrtc(), kernels.source() + "__device__ float f() { return INFINITY; }", "--gpu-architecture=sm_90"
    )
    assert status != 0
    assert "INFINITY" in log


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90", "sm_100"])
def test_no_kernel_spills_registers(architecture, tmp_path):
    used = nvcc_resources(kernels.source(), architecture, tmp_path, kernels.OPTIONS)
    assert {name for name, *_ in used} == set(kernels.KERNELS)
    assert {name: numbers for name, *numbers, _ in used if any(map(int, numbers))} == {}
    assert max(int(registers) for *_, registers in used) <= 64  # 1024 threads at once on every multiprocessor


def test_the_source_keeps_its_rules():
    """No float atomics, so the order of blocks shows nowhere; no header, for NVRTC has none; the list is whole."""
    code = re.sub(r"//.*", "", kernels.source())
    assert "atomic" not in code
    assert "#include" not in code
    assert code.isascii()
    made = re.findall(r"extern \"C\" __global__ void (\w+)\(", code)
    assert sorted(made) == list(kernels.KERNELS)
    enum = re.search(r"enum \{ (KEEP.*?) \}", code).group(1).lower().split(", ")
    assert {name: number for number, name in enumerate(enum)} == kernels.DECAYS


# -- the host's GPU ---------------------------------------------------------------------------------------------
PLANTED = """
#define BODY extern "C" __global__ void
BODY right(float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[(threadIdx.x + 1) % 64];
}
BODY forgets_a_barrier(float* x) {
  __shared__ float s[64];
  s[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = s[(threadIdx.x + 1) % 64];
}
BODY leaves_early(float* x) {
  if (threadIdx.x < 5) return;
  __syncthreads();
}
BODY branches_around_a_barrier(float* x) {
  if (x[threadIdx.x] > 0) __syncthreads();
  x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}
BODY lane_stays_away(float* x) {
  if (threadIdx.x % 32 != 3) x[threadIdx.x] += __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);
}
BODY other_partners(float* x) { x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], threadIdx.x % 2 + 1); }
BODY some_lanes(float* x) { x[threadIdx.x] = __shfl_xor_sync(0xffffu, x[threadIdx.x], 1); }
BODY swap_lanes(float* x) { x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 5); }
BODY writes_beyond(float* x) { x[threadIdx.x + 1] = 0.0f; }
BODY takes(float* x, int i, float f, long long l) { x[i] = f; }
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    (folder / "planted.cu").write_text(PLANTED)
    return compiled(folder, re.findall(r"^BODY (\w+)", PLANTED, flags=re.MULTILINE), folder / "planted.cu")


WRONG = {
    "leaves_early": "a barrier that not all threads of a block reach",
    "branches_around_a_barrier": "an exchange that not all lanes of a warp reach",
    "lane_stays_away": "an exchange that not all lanes of a warp reach",
    "other_partners": "lanes of a warp that exchange with other partners",
    "some_lanes": "an exchange among some lanes of a warp",
}


@pytest.mark.parametrize("name", WRONG)
def test_the_host_finds_what_a_gpu_leaves_undefined(name, planted):
    x = guarded(draw(64))
    assert run(planted, name, (1,), (64,), (x,)) == WRONG[name]


def test_the_host_shows_a_race(planted):
    def results(name):
        found = []
        for order in ORDERS:
            x = guarded(np.arange(64, dtype=np.float32))
            assert run(planted, name, (1,), (64,), (x,), order) == ""
            found.append(bare(x).tolist())
        return found

    assert results("right") == [[*range(1, 64), 0]] * 3
    assert results("swap_lanes") == [[i ^ 5 for i in range(64)]] * 3
    forward, reverse, _ = results("forgets_a_barrier")
    assert forward != reverse


def test_the_host_refuses_wrong_launches(planted):
    x = guarded(draw(64))
    assert run(planted, "right", (1,), (65,), (x,)).startswith("a block that is not made of whole warps")
    assert run(planted, "right", (1, 65536), (64,), (x,)) == "a grid that no GPU takes"
    assert run(planted, "right", (1,), (64,), (x,), alone=True) == "a barrier in a kernel that was said to have none"
    good = (x, np.int32(1), np.float32(2), np.int64(3))
    assert run(planted, "takes", (1,), (32,), good) == ""
    assert bare(x)[1] == 2
    for bad in [
        (x, np.int64(1), np.float32(2), np.int64(3)),
        (x, np.int32(1), 2.0, np.int64(3)),
        (x, np.int32(1), np.float32(2), 3),
        (guarded(np.zeros(3)), np.int32(1), np.float32(2), np.int64(3)),
        (bare(x), np.int32(1), np.float32(2), np.int64(3)),
        (None, np.int32(1), np.float32(2), np.int64(3)),
        (x, np.int32(1)),
    ]:
        with pytest.raises(AssertionError, match="takes"):
            run(planted, "takes", (1,), (32,), bad)


def test_a_write_beyond_an_array_is_found(planted, cupy, monkeypatch):
    monkeypatch.setattr(RawModule, "compiled", planted)
    launch = RawModule.get_function(RawModule.__new__(RawModule), "writes_beyond")
    with pytest.raises(AssertionError, match="writes_beyond wrote beside an array"):
        launch((1,), (64,), (guarded(draw(64)),))
    launch((1,), (64,), (guarded(draw(65)),))


def test_kernels_without_fibers_are_those_that_need_none():
    """A kernel on the list that had a barrier would fail, one off the list would only be slow: hold both."""
    bodies = kernels.source().split('extern "C" __global__ void ')[1:]
    meet = (
        "warp_sum",
        "warp_max",
        "class_loss<32>",
        "column_total",
        "block_total",
        "put_sums",
        "__syncthreads",
        "__shfl",
    )
    alone = {
        re.match(r"\w+", body).group() for body in bodies if not any(word in body.split("\n}\n")[0] for word in meet)
    }
    assert alone == ALONE


# -- linear and data --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_linear_adds_the_bias(shape, ops, order, cupy):
    *replicas, rows, cols = shape
    x, w, b = draw(*replicas, rows, 5), draw(*replicas, 5, cols, seed=1), draw(*replicas, 1, cols, seed=2)
    y = ops.linear(guarded(x), guarded(w), guarded(b))
    close(y, PORTABLE.linear(x, w, b))
    assert cupy.launched == ["add_bias"]
    close(ops.linear(guarded(x), guarded(w), None), PORTABLE.linear(x, w, None))
    assert cupy.launched == ["add_bias"]


@pytest.mark.parametrize("shape", [*SHAPES, (512, 33), (513, 5), (2, 1300, 40)], ids=str)
def test_gradients_of_linear_go_into_the_flat_buffer(shape, ops, order, cupy):
    *replicas, rows, cols = shape
    x, w, dy = draw(*replicas, rows, 5), draw(*replicas, 5, cols, seed=1), draw(*shape, seed=2)
    results = []
    for wrapped, twin in ((guarded, ops), (np.array, PORTABLE)):
        flat = wrapped(np.full((*replicas, 6 * cols + 7), np.nan, np.float32))
        d_weight = flat[..., : 5 * cols].reshape((*replicas, 5, cols))
        d_bias = flat[..., None, 5 * cols : 6 * cols]
        dx = twin.linear_backward(wrapped(x), wrapped(dy), Affine(wrapped(w), None, d_weight, d_bias), need_dx=True)
        results.append((flat, dx))
    close(results[0][0], results[1][0])
    close(results[0][1], results[1][1])
    assert cupy.launched == ["column_sums"] * (1 if rows <= 512 else 2)


def test_one_row_cannot_hold_the_sums_of_two_replicas(ops, cupy):
    assert not ops.sum_columns(guarded(draw(2, 7, 5)), guarded(np.zeros((1, 5), np.float32)))
    assert cupy.launched == []


def test_sums_of_columns_do_not_depend_on_the_order_of_threads(ops, monkeypatch):
    x, found = guarded(draw(1300, 37)), []
    for name in ORDERS:
        monkeypatch.setattr(RawModule, "order", name)
        out = guarded(np.zeros((1, 37), np.float32))
        assert ops.sum_columns(x, out)
        found.append(bare(out).tobytes())
    assert len(set(found)) == 1


@pytest.mark.parametrize("width", [(), (1,), (10,), (33,), (784,), (3, 5)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_rows_are_gathered_to_the_bit(width, dtype, ops, order, cupy):
    table = (100 * draw(11, *width)).astype(dtype)
    for count in ROWS:
        index = np.random.default_rng(count).integers(-11, 11, count)
        same(ops.take_rows(guarded(table), guarded(index)), np.take(table, index, axis=0))
    assert cupy.launched == ["gather_words"] * 3
    beyond = np.asarray([11, 25, -12, 10], dtype=np.int64)  # CuPy's take goes around
    same(ops.take_rows(guarded(table), guarded(beyond)), np.take(table, beyond, axis=0, mode="wrap"))


def test_not_a_number_survives_a_gather(ops):
    table = np.asarray([[np.nan, np.inf], [-0.0, 1e-45]], np.float32)
    found = ops.take_rows(guarded(table), guarded(np.asarray([1, 0])))
    assert bare(found).tobytes() == table[::-1].tobytes()


# -- relu, alone and with linear ---------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (600, 10), (2, 128, 31)], ids=str)
@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
def test_relu_is_equal_to_the_bit(shape, overwrite, ops, order, cupy):
    x, dy = draw(*shape), draw(*shape, seed=1)
    x[..., 0, 0] = np.nan
    given, d_given = guarded(x), guarded(dy)
    y = ops.relu(given, overwrite=overwrite)
    same(y, PORTABLE.relu(x))
    dx = ops.relu_backward(d_given, y, overwrite=overwrite)
    same(dx, PORTABLE.relu_backward(dy, bare(y)))
    assert (y is given, dx is d_given) == (overwrite, overwrite)
    if not overwrite:
        same(given, x)
        same(d_given, dy)
    assert cupy.launched == ["add_bias", "relu_backward"]


@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (600, 10), (2, 128, 31), (2, 600, 3)], ids=str)
@pytest.mark.parametrize("bias", [True, False], ids=["", "no bias"])
@pytest.mark.parametrize("overwrite", [False, True], ids=["", "overwrite"])
def test_linear_and_relu_in_one(shape, bias, overwrite, ops, order, cupy):
    """A product and one kernel forwards, one kernel and the products backwards, into the flat buffer."""
    *replicas, rows, cols = shape
    x, w = draw(*replicas, rows, 3), draw(*replicas, 3, cols, seed=1)
    b = draw(*replicas, 1, cols, seed=2) if bias else None
    dy = draw(*shape, seed=3)
    expected = PORTABLE.linear_relu(x, w, b)
    y = ops.linear_relu(guarded(x), guarded(w), guarded(b) if bias else None)
    close(y, expected)
    results = []
    for wrapped, twin in ((guarded, ops), (np.array, PORTABLE)):
        flat = wrapped(np.full((*replicas, 4 * cols + 9), np.nan, np.float32))
        d_weight = flat[..., : 3 * cols].reshape(w.shape)
        d_bias = flat[..., None, 3 * cols : 4 * cols] if bias else None
        given = wrapped(dy)
        arrays = wrapped(x), wrapped(bare(y)), given, Affine(wrapped(w), None, d_weight, d_bias)
        dx = twin.linear_relu_backward(*arrays, need_dx=True, overwrite=overwrite)
        results.append((flat, dx))
        if wrapped is guarded:
            same(given, PORTABLE.relu_backward(dy, bare(y)) if overwrite else dy)
            none = twin.linear_relu_backward(*arrays, need_dx=False)
            assert none is None
    for mine, theirs in zip(*results, strict=True):
        close(mine, theirs, 1e-5)
    sums = ["column_sums"] if rows > 512 and bias else []
    assert cupy.launched == ["add_bias", *["relu_backward", *sums] * 2]


def test_linear_and_relu_of_odd_numbers(ops):
    """Zeros, infinities and NaN give what the two layers give."""
    odd = np.asarray([[0.0], [-0.0], [1e30], [-1e30], [1e-30], [np.inf], [-np.inf], [np.nan], [3.0]], np.float32)
    one = np.ones((1, 1), np.float32)
    y = ops.linear_relu(guarded(odd), guarded(one), guarded(np.zeros_like(one)))
    with np.errstate(invalid="ignore"):
        same(y, PORTABLE.linear_relu(odd, one, np.zeros_like(one)))
    assert np.isnan(bare(y)[-2])
    d_weight, d_bias = guarded(np.zeros_like(one)), guarded(np.zeros_like(one))
    affine = Affine(guarded(one), None, d_weight, d_bias)
    dx = ops.linear_relu_backward(guarded(np.ones_like(odd)), y, guarded(np.ones_like(odd)), affine, need_dx=True)
    same(dx, (bare(y) > 0).astype(np.float32))
    assert bare(d_bias) == 4


def test_linear_and_relu_where_the_kernels_do_not_fit(ops, cupy):
    """Biases and gradients whose elements lie apart, one gradient for two replicas, other dtypes: the parts do it."""
    x, w, dy = draw(4, 3), draw(3, 5), draw(4, 5)
    apart = np.zeros((1, 10), np.float32)
    y = ops.linear_relu(guarded(x), guarded(w), guarded(apart)[:, ::2])
    close(y, PORTABLE.linear_relu(x, w, apart[:, ::2]))
    mine, theirs = guarded(apart), apart.copy()
    for twin, sums, wrapped in ((ops, mine, guarded), (PORTABLE, theirs, np.array)):
        affine = Affine(wrapped(w), None, wrapped(np.zeros_like(w)), sums[:, ::2])
        assert twin.linear_relu_backward(*map(wrapped, (x, bare(y), dy)), affine, need_dx=False) is None
    close(mine, theirs)
    assert cupy.launched == ["add_bias", "relu_backward"]  # the ReLU alone
    wide = [a.astype(np.float64) for a in (x, w, np.ones((1, 5)))]
    close(ops.linear_relu(*map(guarded, wide)), PORTABLE.linear_relu(*wide), 1e-14)
    assert cupy.launched == ["add_bias", "relu_backward"]
    stack = [draw(2, 4, k, seed=k) for k in (3, 5)]
    with pytest.raises(ValueError, match="broadcast"):  # as of the parts
        ops.linear_relu_backward(
            guarded(stack[0]),
            guarded(stack[1]),
            guarded(stack[1]),
            Affine(guarded(draw(2, 3, 5)), None, guarded(draw(2, 3, 5)), guarded(draw(1, 5))),
            need_dx=False,
        )


# -- softmax cross-entropy --------------------------------------------------------------------------------------
def targets(shape, seed=5):
    t = np.random.default_rng(seed).random(shape).astype(np.float32)
    return t / t.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_cross_entropy(shape, ops, order, cupy):
    z, t = draw(*shape, scale=4.0), targets(shape)
    for mine, theirs in zip(
        ops.softmax_cross_entropy(guarded(z), guarded(t)), PORTABLE.softmax_cross_entropy(z, t), strict=True
    ):
        close(mine, theirs)
    if len(shape) == 3:  # one target for all replicas
        for mine, theirs in zip(
            ops.softmax_cross_entropy(guarded(z), guarded(t[0])), PORTABLE.softmax_cross_entropy(z, t[0]), strict=True
        ):
            close(mine, theirs)
    assert set(cupy.launched) == {"softmax_cross_entropy"}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_cross_entropy_of_labels(shape, shared, ops, order):
    z = draw(*shape, scale=4.0)
    labels = np.random.default_rng(1).integers(0, shape[-1], shape[-2:-1] if shared else shape[:-1])
    one_hot = (labels[..., None] == np.arange(shape[-1])).astype(np.float32)
    losses, d = ops.softmax_cross_entropy_labels(guarded(z), guarded(labels))
    expected, d_expected = PORTABLE.softmax_cross_entropy(z, one_hot)
    close(losses, expected)
    close(d, d_expected)
    narrow = guarded(labels.astype(np.int32))  # not the dtype of labels on CuPy: portable
    close(ops.softmax_cross_entropy_labels(guarded(z), narrow)[1], d_expected)


STEP_SHAPES = [(1, 1), (128, 10), (30, 33), (3, 40, 10), (2, 50, 40), (1100, 3)]
STEP_KINDS = [("labels", 0.0, False), ("own labels", 0.1, True), ("rows", 0.1, True), ("own rows", 0.0, False)]


@pytest.mark.parametrize("shape", STEP_SHAPES, ids=str)
@pytest.mark.parametrize(("kind", "smoothing", "weighted"), STEP_KINDS)
def test_the_loss_of_a_step_in_one(shape, kind, smoothing, weighted, ops, order, cupy):
    """Mean loss, its gradient, and the hits that accuracy counts, against the parts."""
    *replicas, rows, cols = shape
    leading = tuple(replicas) if kind.startswith("own") else ()
    z = draw(*shape, scale=4.0)
    y = targets((*leading, rows, cols))
    if "labels" in kind:
        y = np.random.default_rng(1).integers(0, cols, (*leading, rows))
    weight = np.random.default_rng(2).random(rows).astype(np.float32) if weighted else None
    loss, hits = guarded(np.full(tuple(replicas), 7.0, np.float32)), guarded(np.full((2, *replicas), 7.0, np.float32))
    given = None if weight is None else guarded(weight)
    d = ops.cross_entropy_step(guarded(z), guarded(y), smoothing, given, Places(loss, hits))
    value, expected = xpnn.CrossEntropy(smoothing).value_and_grad(z, y, weight)
    close(loss, np.asarray(value).reshape(loss.shape), 1e-5)
    close(d, expected)
    sums = xpnn.metrics.Accuracy("classes").sums(np, z, y, weight)
    close(hits, np.asarray([np.broadcast_to(s, tuple(replicas)) for s in sums], np.float32), 1e-5)
    few = cols <= 32 and rows <= 8192
    assert cupy.launched == (["cross_entropy_step"] if few else ["softmax_cross_entropy", "step_sums"])
    again = ops.cross_entropy_step(guarded(z), guarded(y), smoothing, given, Places(loss, None))
    same(again, bare(d))


def test_the_largest_of_odd_logits(ops):
    """A hit is where `argmax` finds the label: the first of equal ones, and of NaN."""
    for cols in (8, 40):
        z = np.zeros((7, cols), np.float32)
        z[1, 5], z[2, 3:6], z[3, 2], z[4, 3], z[5, 4], z[6, :] = 1.0, 2.0, np.nan, np.inf, -np.inf, -np.inf
        z[3, 6] = np.nan
        labels = np.asarray([0, 5, 3, 2, 3, 0, 0])
        loss, hits = guarded(np.zeros((), np.float32)), guarded(np.zeros(2, np.float32))
        ops.cross_entropy_step(guarded(z), guarded(labels), 0.0, None, Places(loss, hits))
        assert bare(hits).tolist() == [7.0, 7.0]
        assert np.isnan(bare(loss))
        ops.cross_entropy_step(guarded(z), guarded((labels + 1) % cols), 0.0, None, Places(loss, hits))
        assert bare(hits).tolist() == [7.0, 0.0]


def test_a_step_of_another_make_is_left_to_its_parts(ops, cupy):
    z, y = guarded(draw(7, 5)), guarded(np.zeros(7, np.int64))
    places = Places(guarded(np.zeros((), np.float32)), None)
    wide = guarded(np.zeros((7, 5)))
    for given in ((wide, y, places), (z, guarded(np.zeros(6, np.int64)), places), (z, y, Places(wide[0, 0:1], None))):
        assert ops.cross_entropy_step(given[0], given[1], 0.0, None, given[2]) is None
    assert PORTABLE.cross_entropy_step(bare(z), bare(y), 0.0, None, places) is None
    assert cupy.launched == []


def test_cross_entropy_of_odd_logits(ops):
    """NaN and infinities: the definition decides where the result is no number."""
    z = draw(8, 40)
    z[0, 3], z[1, 0], z[2, 39], z[3, 33], z[4, :] = np.nan, np.nan, np.inf, -np.inf, -np.inf
    z[5, :], z[6, 1], z[7, 8] = np.nan, 1e30, -np.inf
    t = targets(z.shape)
    t[7, 8] = 0.0
    with np.errstate(all="ignore"):
        losses, d = PORTABLE.softmax_cross_entropy(z, t)
    mine, d_mine = ops.softmax_cross_entropy(guarded(z), guarded(t))
    assert np.isnan(losses[[0, 1, 2, 4, 5, 7]]).all()
    assert losses[3] == np.inf
    close(mine, losses)
    close(d_mine, d)


def test_labels_out_of_range_read_nothing_beyond(ops):
    z = draw(4, 10)
    losses, d = ops.softmax_cross_entropy_labels(guarded(z), guarded(np.asarray([0, -1, 10, 2**40])))
    close(d[1:], PORTABLE.softmax_cross_entropy(z, np.zeros_like(z))[1][1:])
    assert np.isfinite(bare(losses)).all()


# -- normalization ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("center", [True, False], ids=["layer", "rms"])
def test_normalization_of_rows(shape, center, ops, order, cupy):
    x, d_hat = draw(*shape) + np.float32(0.5), draw(*shape, seed=1)
    found = ops.normalize(guarded(x), -1, 1e-5, center=center)
    expected = PORTABLE.normalize(x, -1, 1e-5, center=center)
    for mine, theirs in zip(found, expected, strict=True):
        close(mine, theirs, 1e-5)
    dx = ops.normalize_backward(guarded(d_hat), *(guarded(a) for a in expected[:2]), -1, center=center)
    close(dx, PORTABLE.normalize_backward(d_hat, *expected[:2], -1, center=center), 1e-5)
    assert cupy.launched == ["normalize_rows", "normalize_rows_backward"]


def test_normalization_of_odd_rows(ops):
    x = draw(5, 33)
    x[0], x[1, 4], x[2, 5], x[3] = 7.0, np.nan, np.inf, 1e-20
    with np.errstate(all="ignore"):
        expected = PORTABLE.normalize(x, -1, 1e-5, center=True)
    for mine, theirs in zip(ops.normalize(guarded(x), -1, 1e-5, center=True), expected, strict=True):
        close(mine, theirs, 1e-5)


# -- dropout ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 31), (128, 33), (3, 5, 7), (1, 4, 4)], ids=str)
@pytest.mark.parametrize("rate", [0.5, 0.1, 0.999])
def test_masks_are_equal_to_the_bit(shape, rate, ops, order, cupy):
    seeds = 1 if len(shape) == 2 else list(range(shape[0]))
    key = StepKey(seeds, 12)[4]
    expected = PORTABLE.keep_mask(shape, rate, key, np.float32)
    same(ops.keep_mask(shape, rate, key, np.float32), expected)
    if len(shape) == 3:
        rates = [0.0, rate, 0.25][: shape[0]]
        expected = PORTABLE.keep_mask(shape, rates, key, np.float32)
        same(ops.keep_mask(shape, rates, key, np.float32), expected)
        limits = guarded(keep_thresholds(rates)[:, None])  # from the device likewise
        same(ops.keep_mask(shape, limits, key, np.float32), expected)
    else:  # from the device, as a captured graph reads them
        table = guarded(np.asarray([[5, key[0], key[1]]], np.int32))
        same(ops.keep_mask(shape, rate, (table[0, 1:2], table[0, 2:3]), np.float32), expected)
        limit = guarded(keep_thresholds([rate]))
        same(ops.keep_mask(shape, limit, key, np.float32), expected)
    assert cupy.launched == ["keep_mask"] * 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (7, 31), (128, 33), (3, 5, 7)], ids=str)
@pytest.mark.parametrize("rate", [0.5, 0.1])
def test_masks_of_numbered_rows_are_equal_to_the_bit(shape, rate, ops, order, cupy):
    rows = np.random.default_rng(2).integers(-(2**31), 2**31, shape[-2]).astype(np.int32)
    key = StepKey(3 if len(shape) == 2 else [3, 4, 5], 12)[4]
    rates = rate if len(shape) == 2 else [0.0, rate, 0.25]
    expected = PORTABLE.keep_mask_of_rows(shape, rates, key, np.float32, rows)
    same(ops.keep_mask_of_rows(shape, rates, key, np.float32, guarded(rows)), expected)
    limits = guarded(keep_thresholds(rates).reshape((-1, 1) if len(shape) == 3 else (1,)))
    same(ops.keep_mask_of_rows(shape, limits, key, np.float32, guarded(rows)), expected)
    assert cupy.launched == ["keep_mask_of_rows"] * 2
    spread = guarded(np.repeat(rows, 2))[::2]
    same(ops.keep_mask_of_rows(shape, rates, key, np.float32, spread), expected)
    assert cupy.launched == ["keep_mask_of_rows"] * (2 if shape[-2] > 1 else 3)


def test_keys_may_be_columns_of_a_table(ops):
    pairs = np.asarray([[1, -2], [3, 4], [2**31 - 1, -(2**31)]], np.int32)
    table = guarded(pairs)
    mask = ops.keep_mask((3, 9, 11), 0.3, (table[:, :1], table[:, 1:]), np.float32)
    for mine, (a, b) in zip(mask, pairs.tolist(), strict=True):
        same(mine, PORTABLE.keep_mask((9, 11), 0.3, (a, b), np.float32))


def test_the_scale_of_a_mask_rounds_alike_for_every_threshold():
    """The kernel divides in float32; the definition in double precision, and rounds then."""
    thresholds = np.arange(1, 65537)
    same(np.float32(65536) / thresholds.astype(np.float32), (65536 / thresholds).astype(np.float32))


# -- norms and rules --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(1,), (255,), (257,), (5000,), (300_001,), (3, 1), (3, 2049)], ids=str)
def test_norm_and_clipping(shape, ops, order, cupy):
    g = draw(*shape)
    norm = ops.global_norm(guarded(g))
    expected = PORTABLE.global_norm(g)
    close(norm, expected, 1e-6)
    for largest in (1e-3, 1e9):
        mine, theirs = guarded(g), g.copy()
        ops.clip_norm(mine, guarded(expected), largest)
        PORTABLE.clip_norm(theirs, expected, largest)
        same(mine, theirs)
    assert cupy.launched == ["square_sums", "root_of_sum", "clip_norm", "clip_norm"]


def test_a_norm_that_is_no_number_shows(ops):
    for bad in (np.nan, np.inf):
        g = draw(100)
        g[50] = bad
        norm = ops.global_norm(guarded(g))
        with np.errstate(invalid="ignore"):
            same(norm, PORTABLE.global_norm(g))
            mine, theirs = guarded(g), g.copy()
            ops.clip_norm(mine, norm, 1.0)
            PORTABLE.clip_norm(theirs, bare(norm), 1.0)
        same(mine, theirs)


FLAT = [(1,), (1000,), (70_003,), (2, 501)]


def state(shape, n_states):
    """Values, gradients and states that are squares where they must be."""
    return [draw(*shape, seed=k) for k in range(2 + n_states - 1)] + [np.abs(draw(*shape, seed=9))]


@pytest.mark.parametrize("shape", FLAT, ids=str)
@pytest.mark.parametrize("factors", [False, True], ids=["", "factors"])
@pytest.mark.parametrize("numbers", ["floats", "table", "mixed"])
def test_adam_is_equal_to_the_bit(shape, factors, numbers, ops, order, cupy):
    """With numbers from the host, and with numbers that lie on the device."""
    start = [draw(*shape), draw(*shape, seed=1), draw(*shape, seed=2), np.abs(draw(*shape, seed=3))]
    lr_factors = np.abs(draw(shape[-1], seed=4)) if factors else None
    scalars = [0.9, 0.999, 1e-7, 0.05]
    theirs, mine = [a.copy() for a in start], [guarded(a) for a in start]
    given = list(scalars)
    if numbers == "table":
        row = guarded(np.asarray([7.0, *scalars], np.float32))
        given = [row[k : k + 1] for k in range(1, 5)]
        scalars = [np.asarray([s], np.float32) for s in scalars]
    elif numbers == "mixed":  # rates of their own
        rates = np.linspace(0.05, 0.1, shape[0] if len(shape) == 2 else 1, dtype=np.float32)[:, None]
        scalars[3], given[3] = (rates, guarded(rates)) if len(shape) == 2 else (rates[0], guarded(rates[0]))
    for _ in range(2):
        factors = None if lr_factors is None else guarded(lr_factors)
        ops.adam(Update(*mine[:2], factors), *mine[2:], given)
        PORTABLE.adam(Update(*theirs[:2], lr_factors), *theirs[2:], scalars)
    for a, b in zip(mine, theirs, strict=True):
        same(a, b)
    assert cupy.launched == ["adam"] * 2


class Store:
    """As much of a ParamStore as a rule looks at."""

    def __init__(self, values, grads, n_decay, lr_factors, decay_factors):
        self.values, self.grads, self.n_decay = values, grads, n_decay
        self.lr_factors, self.decay_factors = lr_factors, decay_factors
        self.backend = xpnn.get_backend("numpy", ops="portable")
        self.replicas = values.shape[:-1]

    def zeros(self):
        return np.zeros_like(self.values)


RULES = {
    "adam": xpnn.Adam(0.05),
    "adam, coupled": xpnn.Adam(0.05, weight_decay=0.1),
    "adamw": xpnn.AdamW(0.05, weight_decay=0.1),
    "sgd": xpnn.SGD(0.05),
    "sgd, coupled": xpnn.SGD(0.05, weight_decay=0.1),
    "sgd, momentum": xpnn.SGD(0.05, 0.9),
    "sgd, nesterov, coupled": xpnn.SGD(0.05, 0.9, nesterov=True, weight_decay=0.1),
    "momentum": xpnn.Momentum(0.05, 0.8),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("shape", [(1000,), (3, 501)], ids=str)
@pytest.mark.parametrize("factors", ["", "lr", "decay", "both"])
@pytest.mark.parametrize("clipped", [False, True], ids=["", "clipped"])
def test_rules_in_one_kernel_are_equal_to_the_bit(name, shape, factors, clipped, ops, order, cupy):
    """Clipping, decay and the rule in one pass, against the rules of xpnn.optim."""
    rule = pickle.loads(pickle.dumps(RULES[name]))
    n, n_decay = shape[-1], 300
    lr_factors = np.abs(draw(n, seed=4)) if factors in ("lr", "both") else None
    decay_factors = np.abs(draw(n_decay, seed=5)) if factors in ("decay", "both") else None
    store = Store(draw(*shape), draw(*shape, seed=1), n_decay, lr_factors, decay_factors)
    values, grads = guarded(store.values), guarded(store.grads)
    rule.bind(store)
    states = {key: guarded(a) for key, a in rule.state.items()}
    shared = [None if a is None else guarded(a) for a in (lr_factors, decay_factors)]
    for t in (1, 2):
        *scalars, strength = rule.numbers(t)
        clip = None
        if clipped:
            norm = PORTABLE.global_norm(bare(grads))
            clip = Clip(guarded(norm), 1.0)
            PORTABLE.clip_norm(store.grads, norm, 1.0)
        decay = Decay(rule.decoupled, n_decay, strength, shared[1]) if rule.weight_decay else None
        rule.update(store, (*scalars, strength))
        update = Update(values, grads, shared[0], decay, clip)
        if isinstance(rule, xpnn.Adam):
            ops.adam(update, *states.values(), scalars)
        else:
            momentum, gain = (rule.beta, 1.0 - rule.beta) if name == "momentum" else (rule.momentum, 1.0)
            nesterov = getattr(rule, "nesterov", False)
            options = {"momentum": momentum, "gain": gain, "nesterov": nesterov}
            ops.descend(update, states.get("velocity"), *scalars, **options)
        store.grads = np.array(bare(grads))  # the kernel leaves them as they are
    same(values, store.values)
    for key, a in rule.state.items():
        same(states[key], a)
    assert cupy.launched == ["adam" if isinstance(rule, xpnn.Adam) else "descend"] * 2


@pytest.mark.parametrize(
    ("value", "count", "expected"),
    [
        (0.5, 3, (0, 0.5)),
        (np.float64(0.5), 3, (0, 0.5)),
        (guarded(draw(1)), 3, (0, 0.0)),
        (guarded(draw(3, 1)), 3, (1, 0.0)),
        (guarded(draw(3, 7))[:, 2:3], 3, (7, 0.0)),  # a column of a table
        (guarded(draw(2, 3)), 6, None),
        (guarded(draw(3, 1)), 2, None),
        (guarded(draw(3, 1).astype(np.float64)), 3, None),
        (draw(3, 1), 3, None),  # on the host: a kernel cannot read it
    ],
    ids=["float", "NumPy's", "one", "each", "column", "matrix", "too many", "float64", "host"],
)
def test_numbers_of_a_kernel(value, count, expected):
    found = number(value, count)
    assert (None if found is None else found[1:]) == expected
    assert found is None or (found[0] is None) == isinstance(value, float)


def test_updates_with_infinities(ops):
    start = [draw(64), draw(64, seed=1), draw(64, seed=2), np.abs(draw(64, seed=3))]
    start[1][3], start[1][40], start[0][7] = np.inf, np.nan, -np.inf
    theirs, mine = [a.copy() for a in start], [guarded(a) for a in start]
    with np.errstate(all="ignore"):
        PORTABLE.adam(Update(*theirs[:2]), *theirs[2:], (0.9, 0.999, 1e-7, 0.05))
    ops.adam(Update(*mine[:2]), *mine[2:], (0.9, 0.999, 1e-7, 0.05))
    for a, b in zip(mine, theirs, strict=True):
        same(a, b)


# -- what the kernels do not take -------------------------------------------------------------------------------
def test_everything_else_is_portable(ops, cupy):
    """Other dtypes, views whose rows lie apart, other axes: equal results and no kernel."""
    x, t = draw(6, 8).astype(np.float64), targets((6, 8)).astype(np.float64)
    for mine, theirs in zip(
        ops.softmax_cross_entropy(guarded(x), guarded(t)), PORTABLE.softmax_cross_entropy(x, t), strict=True
    ):
        close(mine, theirs, 1e-14)
    close(ops.global_norm(guarded(x[0])), PORTABLE.global_norm(x[0]), 1e-14)
    g = guarded(x[0])
    ops.clip_norm(g, ops.global_norm(g), 0.5)
    close(ops.global_norm(g), np.asarray([0.5]), 1e-5)
    buffers = [np.abs(draw(9, seed=k)).astype(np.float64) for k in range(4)]
    theirs, mine = [b.copy() for b in buffers], [guarded(b) for b in buffers]
    PORTABLE.adam(Update(*theirs[:2]), *theirs[2:], (0.9, 0.99, 1e-8, 0.1))
    ops.adam(Update(*mine[:2]), *mine[2:], (0.9, 0.99, 1e-8, 0.1))
    for a, b in zip(mine, theirs, strict=True):
        same(a, b)
    same(ops.keep_mask((3, 5), 0.5, (1, 2), np.float64), PORTABLE.keep_mask((3, 5), 0.5, (1, 2), np.float64))
    for axis in (-1, -2):
        found = ops.normalize(guarded(x), axis, 1e-5, center=True)
        for a, b in zip(found, PORTABLE.normalize(x, axis, 1e-5, center=True), strict=True):
            close(a, b, 1e-14)
        dx = ops.normalize_backward(guarded(x), *found[:2], axis, center=True)
        close(dx, PORTABLE.normalize_backward(x, *map(bare, found[:2]), axis, center=True), 1e-14)
    narrow = guarded(draw(6, 9))[:, :8]
    for name in ("relu", "relu_backward"):
        given = (narrow,) if name == "relu" else (narrow, narrow)
        same(getattr(ops, name)(*given), getattr(PORTABLE, name)(*map(bare, given)))
    same(ops.relu(guarded(draw(5))), PORTABLE.relu(draw(5)))
    for mine, theirs in zip(
        ops.softmax_cross_entropy(narrow, guarded(t.astype(np.float32))),
        PORTABLE.softmax_cross_entropy(bare(narrow), t.astype(np.float32)),
        strict=True,
    ):
        close(mine, theirs)
    same(ops.take_rows(narrow, guarded(np.asarray([2, 0]))), bare(narrow)[[2, 0]])
    half = np.arange(6, dtype=np.uint8).reshape(3, 2)
    same(ops.take_rows(guarded(half), guarded(np.asarray([2, 0]))), half[[2, 0]])
    empty = guarded(np.zeros((0, 4), np.float32))
    assert ops.normalize(empty, -1, 1e-5, center=False)[0].shape == (0, 4)
    assert ops.linear(empty, guarded(draw(4, 3)), guarded(draw(1, 3))).shape == (0, 3)
    assert cupy.launched == []


def test_a_gradient_of_other_make_is_summed_by_cupy(ops, cupy):
    """A bias gradient whose elements lie apart."""
    x, w, dy = draw(4, 3), draw(3, 5), draw(4, 5)
    d_weight, strided = np.empty((3, 5), np.float32), np.zeros((1, 10), np.float32)
    mine_w, mine = guarded(d_weight), guarded(strided)
    affine = Affine(guarded(w), None, mine_w, mine[:, ::2])
    assert ops.linear_backward(guarded(x), guarded(dy), affine, need_dx=False) is None
    PORTABLE.linear_backward(x, dy, Affine(w, None, d_weight, strided[:, ::2]), need_dx=False)
    close(mine, strided)
    close(mine_w, d_weight)
    y = ops.linear(guarded(x), guarded(w), mine[:, ::2])
    close(y, PORTABLE.linear(x, w, strided[:, ::2]))
    assert cupy.launched == []


@pytest.mark.parametrize("name", ["adam", "descend"])
def test_updates_of_other_dtypes_are_portable(name, ops, cupy):
    """Clipping, decay and the rule in float64, by the parts."""
    start = [np.abs(draw(9, seed=k)).astype(np.float64) for k in range(4)]
    decay, norm = Decay(True, 5, 0.9), np.asarray([100.0])
    results = []
    for twin, wrapped in ((ops, guarded), (PORTABLE, np.array)):
        values, grads, m, v = (wrapped(a) for a in start)
        update = Update(values, grads, None, decay, Clip(wrapped(norm), 1.0))
        if name == "adam":
            twin.adam(update, m, v, (0.9, 0.99, 1e-8, 0.1))
        else:
            twin.descend(update, m, 0.1, momentum=0.9)
        results.append((values, grads, m, v))
    for mine, theirs in zip(*results, strict=True):
        same(mine, theirs)
    assert (bare(results[0][0]) != start[0]).all()
    assert cupy.launched == []


def test_a_compiler_that_fails_is_told(cupy, on_gpu, monkeypatch):
    class CompileException(Exception):  # noqa: N818, as CuPy names it
        pass

    def refuse(self, name):
        raise CompileException("kernels.cu(1): error: no such type\nand more")

    monkeypatch.setattr(RawModule, "get_function", refuse)
    with pytest.raises(BackendUnavailableError, match=r"cannot be compiled \(kernels.cu\(1\): error: no such type\)"):
        on_gpu.ops.global_norm(guarded(draw(4)))


# -- the whole --------------------------------------------------------------------------------------------------
DATA = draw(300, 20), np.arange(300) % 5


def train(backend, make, rule, graph=lambda trainer: False, **options):
    net = make(backend)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(label_smoothing=0.1), rule, **options)
    with taped.recording(graph(trainer)) as wanted:
        history = trainer.fit(*DATA, epochs=2, batch_size=64, validation_fraction=0.2, graph=wanted)
    return net.state_dict(), history


def busy(backend, seed=1):
    return xpnn.Sequential(
        xpnn.Linear(33),
        xpnn.LayerNorm(),
        xpnn.ReLU(),
        xpnn.Dropout(0.2),
        xpnn.Residual(xpnn.Linear(33), xpnn.RMSNorm(), xpnn.GELU()),
        xpnn.BatchNorm(),
        xpnn.Linear(5, lr_mult=0.5, decay_mult=2.0),
        n_in=20,
        backend=backend,
        seed=seed,
    )


def test_training_equals_numpy_to_rounding(on_gpu, cupy):
    """Trainer, layers, loss and rule on the kernels and the emulated cuBLAS, against portable NumPy."""
    options = {"clip_norm": 1.0, "regularizer": xpnn.L2(1e-4)}
    mine, history = train(on_gpu, busy, xpnn.AdamW(0.01), **options)
    theirs, expected = train(xpnn.get_backend("numpy", ops="portable"), busy, xpnn.AdamW(0.01), **options)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_allclose(history["val_loss"], expected["val_loss"], rtol=1e-4)
    np.testing.assert_allclose(history["grad_norm"], expected["grad_norm"], rtol=1e-3)
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=0, atol=1e-3 * np.abs(value).max() + 1e-5, err_msg=name)
    used = {"add_bias", "column_sums", "cross_entropy_step", "normalize_rows", "normalize_rows_backward"}
    used |= {"relu_backward", "keep_mask", "square_sums", "root_of_sum", "adam", "gather_words"}
    assert set(cupy.launched) == used
    assert len(cupy.blas.products) > 50


def test_training_of_replicas_equals_numpy_to_rounding(on_gpu, cupy):
    def make(backend):
        return xpnn.mlp([20, 16, 5], norm="layer", dropout=0.2, backend=backend, seed=[1, 2, 3])

    rates = [0.01, 0.02, 0.03]
    mine, history = train(on_gpu, make, xpnn.Adam(rates))
    theirs, expected = train(xpnn.get_backend("numpy", ops="portable"), make, xpnn.Adam(rates))
    np.testing.assert_allclose(history["loss_replicas"], expected["loss_replicas"], rtol=1e-5)
    for name, value in theirs.items():
        np.testing.assert_allclose(mine[name], value, rtol=0, atol=1e-3 * np.abs(value).max() + 1e-5, err_msg=name)
    assert {"adam", "keep_mask", "cross_entropy_step"} <= set(cupy.launched)
    assert any(product["count"] == 3 and 0 in product["steps"] for product in cupy.blas.products)  # shared rows


def test_two_runs_are_equal_to_the_bit(on_gpu, monkeypatch):
    """In whatever order threads and blocks run."""
    found = []
    for name in ORDERS:
        monkeypatch.setattr(RawModule, "order", name)
        state, history = train(on_gpu, busy, xpnn.AdamW(0.01), clip_norm=1.0)
        found.append((history["loss"], {key: value.tobytes() for key, value in state.items()}))
    assert found[0] == found[1] == found[2]


class Repeats:
    """Where a graph would replay kernels, the steps are made again, by the numbers that lie on the device."""

    def __init__(self, trainer):
        self.trainer, self.launches = trainer, 0

    def active(self):
        return contextlib.nullcontext()

    def release(self):
        """There is no memory of its own."""

    def record(self, run, **options):
        def launch():
            counts = self.trainer.step, self.trainer.optimizer.t
            run()
            self.trainer.step, self.trainer.optimizer.t = counts
            self.launches += 1

        return types.SimpleNamespace(launch=launch)


@pytest.mark.parametrize("seed", [1, [1, 2, 3]], ids=["one", "replicas"])
def test_numbers_from_a_table_on_the_device_make_the_same_steps(seed, on_gpu, cupy):
    """The kernels read there what changes from step to step, so that steps can be recorded."""
    made = []

    def graph(trainer):
        made.append(Repeats(trainer))
        return made[-1]

    make = functools.partial(busy, seed=seed)
    expected, history = train(on_gpu, make, xpnn.AdamW(0.01), clip_norm=1.0)
    kernels_of_eager = set(cupy.launched)
    cupy.launched.clear()
    found, recorded = train(on_gpu, make, xpnn.AdamW(0.01), graph, clip_norm=1.0)
    assert made[0].launches >= 2
    assert recorded["loss"] == history["loss"]
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    assert set(cupy.launched) == kernels_of_eager  # none falls back


LAUNCHES = {
    "adam": (xpnn.Adam(0.01), None, ["adam"]),
    "adamw, clipped": (xpnn.AdamW(0.01, weight_decay=0.1), 0.5, ["square_sums", "root_of_sum", "adam"]),
    "momentum, clipped": (xpnn.SGD(0.01, 0.9, weight_decay=0.1), 0.5, ["square_sums", "root_of_sum", "descend"]),
    "descent": (xpnn.SGD(0.01, weight_decay=0.1), None, ["descend"]),
    "rmsprop, clipped": (xpnn.RMSProp(0.01), 0.5, ["square_sums", "root_of_sum", "clip_norm"]),
}


class Counting(xpnn.Trainer):
    """Notes what each step launches."""

    def train_step(self, *args):
        launched, products = RawModule.launched, self.blas.products
        launched.clear()
        products.clear()
        result = super().train_step(*args)
        self.steps.append((list(launched), len(products)))
        return result


@pytest.mark.parametrize("name", LAUNCHES)
def test_a_step_launches_no_more_than_this(name, on_gpu, cupy):
    """Linear and ReLU are one kernel each way; clipping, decay and the rule are one."""
    rule, clip_norm, last = LAUNCHES[name]
    states = []
    for backend in (on_gpu, xpnn.get_backend("numpy", ops="portable")):
        net = xpnn.mlp([20, 33, 16, 5], backend=backend, seed=0)
        trainer = Counting(net, xpnn.CrossEntropy(), pickle.loads(pickle.dumps(rule)), clip_norm=clip_norm)
        trainer.steps, trainer.blas = [], cupy.blas
        history = trainer.fit(*DATA, epochs=2, batch_size=100, graph=False)
        states.append((net.state_dict(), history["loss"], history["grad_norm"]))
        if backend is on_gpu:
            first, products = trainer.steps[0]
    assert first == ["add_bias"] * 3 + ["softmax_cross_entropy", "column_sums"] + ["relu_backward"] * 2 + last
    assert products == 8
    (mine, *curves), (theirs, *expected) = states
    np.testing.assert_allclose(curves, expected, rtol=1e-4)
    for key, value in theirs.items():
        np.testing.assert_allclose(mine[key], value, rtol=0, atol=1e-3 * np.abs(value).max() + 1e-5, err_msg=key)


# -- the backend ------------------------------------------------------------------------------------------------
def test_cupy_takes_the_kernels(cupy, on_gpu):
    assert isinstance(on_gpu.ops, CupyOps)
    assert (on_gpu.ops.name, on_gpu.ops.tf32) == ("fast", False)
    again = backends.make("cupy", "0", "float64")
    assert again.ops is on_gpu.ops
    x = on_gpu.asarray([[1.0]])
    assert type(xpnn.backend.ops_of(x)) is Ops
    portable = xpnn.get_backend(on_gpu, ops="portable")
    assert type(portable.ops) is Ops
    assert xpnn.get_backend(portable, ops="fast").ops is on_gpu.ops
    assert xpnn.get_backend(on_gpu) is on_gpu


def test_tf32_is_a_choice(cupy, on_gpu, monkeypatch):
    rounds = xpnn.get_backend(on_gpu, tf32=True)
    assert rounds.ops.tf32
    rounds.ops.linear(guarded(draw(3, 4)), guarded(draw(4, 2)), None)
    on_gpu.ops.linear(guarded(draw(3, 4)), guarded(draw(4, 2)), None)
    assert [p["compute"] for p in cupy.blas.products] == [77, 68]
    assert xpnn.get_backend(rounds, tf32=False).ops is on_gpu.ops
    assert xpnn.get_backend(rounds, "float32").ops is rounds.ops
    assert type(xpnn.get_backend(rounds, ops="portable").ops) is Ops
    monkeypatch.setattr(backends, "state_of", lambda name, device: "ok")
    assert pickle.loads(pickle.dumps(rounds)).ops.tf32
    assert not pickle.loads(pickle.dumps(on_gpu)).ops.tf32
    assert xpnn.get_backend("cupy", tf32=True).ops.tf32


@pytest.mark.parametrize(
    ("spec", "options", "got"),
    [
        ("numpy", {}, "numpy, float32 and fast ones"),
        ("torch", {}, "torch, float32 and fast ones"),
        ("cupy", {"dtype": "float64"}, "cupy, float64 and fast ones"),
        ("cupy", {"ops": "portable"}, "cupy, float32 and portable ones"),
    ],
)
def test_tf32_elsewhere_is_an_error(spec, options, got):
    with pytest.raises(OptionError, match=f"get_backend: tf32=True rounds .* got {got}. Leave tf32 away."):
        xpnn.get_backend(spec, tf32=True, **options)
    if spec == "numpy":
        with pytest.raises(OptionError, match="got numpy, float32"):
            xpnn.get_backend(xpnn.get_backend("numpy"), tf32=True)


def test_import_of_the_kernels_needs_no_cupy():
    code = "import sys, xpnn.accel.cuda; assert 'cupy' not in sys.modules; import xpnn; xpnn.get_backend('numpy')"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the script for a GPU ---------------------------------------------------------------------------------------
def script(name):
    folder = PROJECT / "ci"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        return importlib.import_module(name)


@pytest.fixture(scope="module")
def probe():
    """``ci/gpu_probe.py``."""
    return script("gpu_probe")


def test_the_script_finds_kernels_and_products_right(probe, on_gpu, cupy):
    found = probe.kernels(on_gpu)
    assert found["ok"], found["text"]
    assert len(found["rows"]) == len(list(probe.cases())) > 60
    assert {"relu (7, 33)", "linear backward (1500, 257)", "mask (3, 64, 31)", "adam (300001,)"} <= set(found["rows"])
    assert sum(row["bits"] for row in found["rows"].values()) >= 30
    assert set(cupy.launched) >= {"softmax_cross_entropy", "normalize_rows", "adam", "clip_norm", "gather_words"}
    assert len(cupy.blas.products) > 20
    found = probe.repeatable(on_gpu)
    assert found["ok"], found["text"]


def test_the_script_finds_tf32_that_does_not_arrive(probe, on_gpu):
    """The emulated cuBLAS does not round: full precision is right, and what should be coarse is too good."""
    found = probe.products(on_gpu)
    assert not found["ok"]
    assert all(off < probe.FULL for off in found["rows"].values())
    assert len(found["rows"]) == 12


def test_the_script_finds_a_kernel_that_is_wrong(probe, on_gpu, monkeypatch):
    right = on_gpu.ops.relu_backward
    monkeypatch.setattr(on_gpu.ops, "relu_backward", lambda dy, y: right(dy, y) * 1.001)
    monkeypatch.setattr(on_gpu.ops, "global_norm", lambda grads: 1 / 0)
    found = probe.kernels(on_gpu)
    assert not found["ok"]
    wrong = found["text"].partition("wrong: ")[2]
    assert "relu backward (7, 33)" in wrong
    assert "adam" not in wrong
    assert found["rows"]["norm (7, 33)"] == "ZeroDivisionError: division by zero"


def test_the_script_measures_steps_in_a_graph(probe, on_gpu, cupy):
    """With steps made again in the place of a graph."""
    capturer = Repeats(types.SimpleNamespace(step=0, optimizer=types.SimpleNamespace(t=0)))
    found = probe.graph_costs(on_gpu, counts=(1, 2), rounds=1, capturer=capturer)
    assert found["ok"], found["text"]
    assert list(found["rows"]) == ["one by one", "graph of 1", "graph of 2"]
    assert "equal to the bit" in found["text"]
    cupy.launched.clear()
    products = len(cupy.blas.products)
    probe.WholeStep(on_gpu)()
    assert (len(cupy.launched), len(cupy.blas.products) - products) == (8, 8)
    with pytest.raises(RuntimeError, match="cuBLAS cannot"):
        probe.graph_costs(on_gpu, capturer="cuBLAS cannot be called")


def test_the_script_tries_the_persistent_kernel(probe, on_gpu, monkeypatch):
    """On all blocks and on one, as often as the fake device has them."""
    monkeypatch.setattr("xpnn.training.recorded.graphs.find_capturer", lambda name, ops: "no graphs today")
    found = probe.persistent(on_gpu, (None, 1), 1)
    assert found["ok"], found["text"]
    assert found["blocks"] == [3, 1]
    real = Steps.launch
    monkeypatch.setattr(Steps, "launch", lambda steps, rows, first, count: real(steps, rows, first, count - count // 3))
    assert not probe.persistent(on_gpu, (None,), 1)["ok"]


def assert_makes_adams_steps(bench, make, backend, steps):
    """A competitor makes the steps of Adam, as its losses show; on another library it says that it is not there."""
    problem, numpy = bench.make_problem([20, 33, 16, 5], 32), xpnn.get_backend("numpy")
    found, eager = make(problem, backend), bench.with_xpnn(problem, numpy)
    for t in range(steps):
        found.step(t)
        eager.step(t)
        assert found.loss() == pytest.approx(eager.loss(), rel=1e-4)
    with pytest.raises(bench.MissingError, match="for CuPy, and the backend is numpy"):
        make(problem, numpy)
    return found


def test_the_benchmark_by_the_persistent_kernel_makes_adams_steps(on_gpu):
    bench = script("gpu_bench")
    kernel = assert_makes_adams_steps(bench, bench.with_xpnn_persistent, on_gpu, 5)
    kernel.step(32)
    assert np.isfinite(kernel.loss())


def test_a_graph_that_does_something_else_is_found(probe, on_gpu):
    class Twice(Repeats):
        def record(self, run, **options):
            recording = super().record(run)
            return types.SimpleNamespace(launch=lambda: (recording.launch(), recording.launch()))

    capturer = Twice(types.SimpleNamespace(step=0, optimizer=types.SimpleNamespace(t=0)))
    found = probe.graph_costs(on_gpu, counts=(1,), rounds=1, capturer=capturer)
    assert not found["ok"]
    assert "NOT equal to the bit" in found["text"]


def test_steps_that_were_not_recorded_are_told(probe, on_gpu, monkeypatch):
    monkeypatch.setattr("xpnn.training.recorded.graphs.find_capturer", lambda name, ops: "no graphs today")
    found = probe.graphs(on_gpu)
    assert not found["ok"]
    assert "steps are launched one by one: no graphs today" in found["text"]


def test_the_benchmark_in_a_graph_makes_adams_steps(on_gpu, monkeypatch):
    """Its batch and numbers are copied to where the graph reads them."""
    bench = script("gpu_bench")
    capturer, find = Repeats(types.SimpleNamespace(step=0, optimizer=types.SimpleNamespace(t=0))), bench.find_capturer
    monkeypatch.setattr(bench, "find_capturer", lambda name, ops: capturer if ops is on_gpu.ops else find(name, ops))
    assert_makes_adams_steps(bench, bench.with_xpnn_graph, on_gpu, 12)
    assert capturer.launches == 12


# -- CuPy itself, which can be imported where there is no GPU ---------------------------------------------------
@pytest.fixture
def real_cupy():
    return pytest.importorskip("cupy", reason="needs CuPy, but no GPU: pip install cupy-cuda13x")


def borrowed(cupy, shape, dtype="float32"):
    """An array over memory that is not there: its shape, strides and place can be looked at."""
    memory = cupy.cuda.memory.UnownedMemory(0x1000, int(np.prod(shape)) * np.dtype(dtype).itemsize, None, 0)
    return cupy.ndarray(shape, dtype, cupy.cuda.memory.MemoryPointer(memory, 0))


def test_what_the_kernels_take_is_told_from_cupy_arrays(real_cupy):
    flat = borrowed(real_cupy, (3, 64))
    matrix = flat[:, 16:28].reshape((3, 3, 4))
    assert layout(matrix) == Layout(False, 4, 64)
    assert layout(matrix.mT) == Layout(True, 4, 64)
    assert (matrix.data.ptr, matrix.itemsize) == (0x1000 + 64, 4)
    assert Blas.takes(matrix, matrix.mT)
    assert plain(flat)
    assert not plain(matrix)
    assert not plain(borrowed(real_cupy, (3, 4), "float64"))
    assert row_step(flat[:, None, 8:16], 3, 8) == 64
    assert number(flat[:, 3:4], 3)[1:] == (64, 0.0)
    assert number(flat[0, 3:4], 1)[1:] == (0, 0.0)
    assert gathers(borrowed(real_cupy, (9, 5)), borrowed(real_cupy, (4,), "int64"), 5)


def test_operations_are_made_on_cupy_before_there_is_a_gpu(real_cupy):
    """CuPy has what is asked of it; compiling begins at the first launch."""
    backend = backends.make("cupy", "0", "float32")
    assert isinstance(backend.ops, CupyOps)
    assert callable(real_cupy.cuda.get_current_stream)
    assert callable(real_cupy.cuda.alloc)
    assert hasattr(real_cupy.cuda.Device, "compute_capability")
    if not real_cupy.is_available():
        with pytest.raises(Exception, match=r"[Dd]river|cannot be compiled"):
            backend.ops.global_norm(borrowed(real_cupy, (8,)))
