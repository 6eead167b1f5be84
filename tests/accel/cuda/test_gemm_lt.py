"""cuBLASLt's epilogues without cuBLASLt: an emulation reads the descriptors as the real one would.

Numbers and signatures are held against NVIDIA's header where there is one, and the descriptors against the real
library, which makes them without a GPU.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from fake_cublaslt import OPERATION, PREFERENCE
from fake_cupy import (
    RawModule,
    Stream,
    bare,
    guarded,
    intact,
    wrap,
)
from matrices import FORMS, close, draw
from places import PROJECT

import xpnn
from xpnn.accel.cuda import cublas, gemm_lt
from xpnn.accel.cuda.gemm import Blas
from xpnn.accel.cuda.gemm_lt import Epilogue, Epilogues
from xpnn.errors import BackendUnavailableError
from xpnn.ops import Affine, Ops

PORTABLE = Ops(np, "cpu")
#: (m, k, n); rows of 4 numbers begin at multiples of 16 bytes.
SIZES = [(1, 4, 4), (4, 1, 4), (5, 4, 1), (8, 12, 4), (7, 5, 3), (33, 10, 17), (128, 36, 20)]


def ample(a):
    """A view of some columns of a wider matrix, that begins at a multiple of 16 bytes."""
    memory = guarded(np.full((a.shape[0], a.shape[1] + 8), np.nan, a.dtype))
    memory[:, 4:-4] = wrap(a)
    return memory[:, 4:-4]


def high(a):
    """The same, by columns."""
    return ample(a.mT.copy()).mT


ALIGNED = {"plain": FORMS["plain"], "transposed": FORMS["transposed"], "ample": ample, "high": high}


def expected_of(epilogue, a, b, row, mask=None):
    """Result and row; a mask that is left is written to `mask`."""
    product = a.astype(np.float32) @ b.astype(np.float32)
    if epilogue is Epilogue.BGRADA:
        return product, b.astype(np.float32).sum(axis=0, keepdims=True)
    if epilogue is Epilogue.DRELU_BGRAD:
        product *= np.unpackbits(mask, axis=1, bitorder="little")[:, : product.shape[1]]
        return product, product.sum(axis=0, keepdims=True)
    product = product + row
    if epilogue is Epilogue.RELU_AUX_BIAS:
        bits = np.zeros((len(product), 8 * mask.shape[1]), np.uint8)
        bits[:, : product.shape[1]] = product > 0
        mask[...] = np.packbits(bits, axis=1, bitorder="little")
    return (product if epilogue is Epilogue.BIAS else np.maximum(product, 0.0)), row


def masks_of(epilogue, m, n):
    """A mask for the host and one for the device; None where there is none."""
    if epilogue not in (Epilogue.RELU_AUX_BIAS, Epilogue.DRELU_BGRAD):
        return None, None
    mask = np.random.default_rng(7).integers(0, 256, Epilogues.mask_shape(m, n)).astype(np.uint8)
    return mask, guarded(mask)


# -- products ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("epilogue", Epilogue, ids=lambda e: e.name)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("forms", list(itertools.product(ALIGNED, ALIGNED)), ids="-".join)
def test_products_with_epilogues(epilogue, sizes, forms, lt, cupy):
    """All forms of operands, into a fresh array and into part of a wider one, of which the rest stays."""
    m, k, n = sizes
    a, b, row = draw(m, k), draw(k, n, seed=1), draw(1, n, seed=2)
    epilogues = Blas(cupy.blas, cupy).epilogues
    arrays = ALIGNED[forms[0]](a), ALIGNED[forms[1]](b)
    lt.offered = set(Epilogue)
    host, mask = masks_of(epilogue, m, n)
    expected, left = expected_of(epilogue, a, b, row, host)
    for form in ("plain", "ample"):
        out, bias = ALIGNED[form](np.full((m, n), np.nan, np.float32)), guarded(row)
        assert epilogues.product(*arrays, out, epilogue, bias, mask)
        assert mask is None or (bare(mask) == host).all()
        close(out, expected)
        close(bias, left)
        assert intact(bias)
        assert form == "plain" or np.isnan(bare(out.base)[:, [0, 3, -4, -1]]).all()
    close(arrays[0], a, 0)
    close(arrays[1], b, 0)


def test_a_mask_belongs_to_some_epilogues(lt, cupy):
    """One that is missing would be written somewhere."""
    a, b, row, out = guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(1, 4)), guarded(draw(8, 4))
    lt.offered, epilogues = set(Epilogue), Blas(cupy.blas, cupy).epilogues
    _, mask = masks_of(Epilogue.DRELU_BGRAD, 8, 4)
    for epilogue in Epilogue:
        masked = epilogue in (Epilogue.RELU_AUX_BIAS, Epilogue.DRELU_BGRAD)
        assert not epilogues.product(a, b, out, epilogue, row, None if masked else mask)
    assert lt.queries == []


def test_a_bias_lies_along_the_columns_of_a_result_by_rows(lt, cupy):
    """By columns the result is its transpose, whose rows the bias has."""
    a, b, row, out = guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(1, 4)), guarded(draw(8, 4))
    assert Blas(cupy.blas, cupy).epilogues.product(a, b, out, Epilogue.BIAS, row)
    (told,) = lt.products
    assert (told["m"], told["n"], told["k"]) == (4, 8, 12)
    assert (told["op_a"], told["op_b"], told["epilogue"], told["compute"]) == (0, 0, 4, 68)
    assert told["a"] == {"kind": 0, "rows": 4, "cols": 12, "ld": 4}
    assert told["b"] == {"kind": 0, "rows": 12, "cols": 8, "ld": 12}
    assert told["d"] == {"kind": 0, "rows": 4, "cols": 8, "ld": 4}


def test_a_transposed_operand_is_told_as_it_lies(lt, cupy):
    x, dy, d_bias, d_weight = guarded(draw(8, 12)), guarded(draw(8, 4)), guarded(draw(1, 4)), guarded(draw(12, 4))
    assert Blas(cupy.blas, cupy).epilogues.product(x.mT, dy, d_weight, Epilogue.BGRADA, d_bias)
    (told,) = lt.products
    assert (told["op_a"], told["op_b"], told["epilogue"]) == (0, 1, 256)
    assert told["b"] == {"kind": 0, "rows": 12, "cols": 8, "ld": 12}


def test_the_heuristic_is_asked_for_what_can_be_used(lt, cupy):
    """Partial sums in the workspace, which is as large as it is, and memory no better aligned than it is."""
    a, b, row, out = guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(1, 4)), guarded(draw(8, 4))
    Blas(cupy.blas, cupy).epilogues.product(a, b, out, Epilogue.BIAS, row)
    (query,) = lt.queries
    assert query["limits"] == {"workspace": 32 << 20, "reductions": 2, "a": 16, "b": 16, "c": 16, "d": 16}


@pytest.mark.parametrize(
    ("kind", "tf32", "compute"),
    [("float32", False, 68), ("float32", True, 77), ("float16", False, 68), ("bfloat16", True, 68)],
)
@pytest.mark.parametrize("epilogue", Epilogue, ids=lambda e: e.name)
def test_precisions(kind, tf32, compute, epilogue, lt, cupy):
    """Halves are multiplied into float32, TF32 is for float32 alone."""
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    a, b, row = draw(8, 16, dtype=kind), draw(16, 8, dtype=kind, seed=1), draw(1, 8, seed=2)
    out, bias = guarded(np.full((8, 8), np.nan, np.float32)), guarded(row)
    lt.offered = set(Epilogue)
    host, mask = masks_of(epilogue, 8, 8)
    assert Blas(cupy.blas, cupy, tf32=tf32).epilogues.product(guarded(a), guarded(b), out, epilogue, bias, mask)
    expected, left = expected_of(epilogue, a, b, row, host)
    close(out, expected)
    close(bias, left)
    assert {p["compute"] for p in lt.products} == {compute}


# -- what is asked, and when ------------------------------------------------------------------------------------
def test_each_kind_of_product_is_asked_for_once(lt, cupy):
    epilogues = Blas(cupy.blas, cupy).epilogues
    for _ in range(3):
        for rows in (8, 4):
            a, b, row = guarded(draw(rows, 12)), guarded(draw(12, 4)), guarded(draw(1, 4))
            for epilogue in (Epilogue.BIAS, Epilogue.RELU_BIAS):
                assert epilogues.product(a, b, guarded(draw(rows, 4)), epilogue, row)
    assert len(lt.queries) == 4
    calls = lt.calls[-2:]
    assert calls == ["cublasLtMatmulDescSetAttribute", "cublasLtMatmul"]  # the bias's address, and the product


@pytest.mark.parametrize("keeps", [True, False], ids=["keeps NaN", "drops NaN"])
def test_a_relu_that_drops_what_is_no_number_is_not_used(keeps, lt, ops, cupy):
    """A network that diverges must not look well."""
    lt.keeps_nan = keeps
    x, w, b = draw(8, 12), draw(12, 4, seed=1), draw(1, 4, seed=2)
    x[3, 2] = np.nan
    for _ in range(2):
        y = ops.linear_relu(guarded(x), guarded(w), guarded(b))
        assert np.isnan(bare(y)[3]).all()
        close(y[:3], np.maximum(x @ w + b, 0.0)[:3])
    assert len(lt.queries) == 1
    assert cupy.launched == ([] if keeps else ["add_bias"] * 2)
    assert len(lt.products) == (3 if keeps else 1)  # one is the trial
    z = ops.linear(guarded(x), guarded(w), guarded(b))  # without ReLU it is as good as ever
    assert np.isnan(bare(z)[3]).all()
    assert len(cupy.launched) == (0 if keeps else 2)


@pytest.mark.parametrize("why", ["not offered", "too much workspace", "an old library", "refused", "not supported"])
def test_what_is_not_offered_is_done_by_product_and_kernel(why, lt, ops, cupy):
    """Silently, and it is not asked for again."""
    if why == "not offered":
        lt.offered = set()
    elif why == "too much workspace":
        lt.needs = 64 << 20
    elif why == "an old library":
        lt.unknown = {8}
    else:
        lt.refuses = 7 if why == "refused" else 15
    x, w, b, dy = draw(8, 12), draw(12, 4, seed=1), draw(1, 4, seed=2), draw(8, 4, seed=3)
    for _ in range(2):
        close(ops.linear(guarded(x), guarded(w), guarded(b)), x @ w + b)
        d_weight, d_bias = guarded(np.zeros_like(w)), guarded(np.zeros_like(b))
        ops.linear_backward(guarded(x), guarded(dy), Affine(guarded(w), None, d_weight, d_bias), need_dx=False)
        close(d_weight, x.T @ dy)
        close(d_bias, dy.sum(axis=0, keepdims=True))
    assert cupy.launched == ["add_bias", "column_sums"] * 2
    assert len(lt.queries) == (0 if lt.unknown else 2)
    assert lt.calls.count("cublasLtMatmulDescCreate") == 2
    assert len(lt.products) == (2 if lt.refuses else 0)


def test_an_error_of_the_device_is_told(lt, ops):
    lt.refuses = 13
    message = r"cublasLtMatmul: cuBLAS reports status 13 \(EXECUTION_FAILED\). Use get_backend"
    with pytest.raises(BackendUnavailableError, match=message):
        ops.linear(guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(1, 4)))


def test_plans_have_an_end(lt, cupy, monkeypatch):
    monkeypatch.setattr(gemm_lt, "_MOST_PLANS", 2)
    epilogues = Blas(cupy.blas, cupy).epilogues
    done = [
        epilogues.product(guarded(draw(m, 4)), guarded(draw(4, 4)), guarded(draw(m, 4)), Epilogue.BIAS, guarded(row))
        for m, row in ((1, draw(1, 4)), (2, draw(1, 4)), (3, draw(1, 4)), (1, draw(1, 4)))
    ]
    assert done == [True, True, False, True]


LEFT = {
    "replicas": (draw(2, 8, 12), draw(2, 12, 4), draw(2, 1, 4)),
    "shared rows": (draw(8, 12), draw(2, 12, 4), draw(2, 1, 4)),
    "float64": tuple(a.astype(np.float64) for a in (draw(8, 12), draw(12, 4), draw(1, 4))),
    "no bias": (draw(8, 12), draw(12, 4), None),
    "empty": (draw(0, 12), draw(12, 4), draw(1, 4)),
}


@pytest.mark.parametrize("name", LEFT)
@pytest.mark.parametrize("method", ["linear", "linear_relu"])
def test_what_is_not_asked_for(name, method, lt, ops):
    given = LEFT[name]
    y = getattr(ops, method)(*(None if a is None else guarded(a) for a in given))
    close(y, getattr(PORTABLE, method)(*given), 1e-14 if name == "float64" else 3e-6)
    assert lt.calls == []


@pytest.mark.parametrize(
    "form", ["spread", "upside_down", "wide", "tall", "by columns", "bias apart", "float16 result"]
)
def test_arrays_that_do_not_lie_so_are_left(form, lt, cupy):
    epilogues = Blas(cupy.blas, cupy).epilogues
    a, b, out, row = guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(8, 4)), guarded(draw(1, 4))
    if form in FORMS:
        a = FORMS[form](bare(a))
    elif form == "by columns":
        a, out = guarded(draw(4, 12)), guarded(draw(4, 4)).mT  # square: by its sizes it could lie by rows
    elif form == "bias apart":
        row = guarded(draw(1, 8))[:, ::2]
    else:
        out = guarded(draw(8, 4, dtype=np.float16))
    before = bare(out).copy()
    assert not epilogues.product(a, b, out, Epilogue.BIAS, row)
    close(out, before, 0)
    assert lt.queries == []


# -- handles, streams and threads -------------------------------------------------------------------------------
def test_products_go_to_the_current_stream_with_its_workspace(lt, cupy):
    """The one that cuBLAS uses there: what is on one stream waits for its turn."""
    blas = Blas(cupy.blas, cupy)
    a, b, out, row = guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(8, 4)), guarded(draw(1, 4))
    seen = []
    for stream in (0, 77, 0):
        cupy.current = Stream(stream)
        assert blas.epilogues.product(a, b, out, Epilogue.BIAS, row)
        blas.gemm(a, b, out)
        seen.append((lt.products[-1]["stream"], lt.products[-1]["workspace"]))
        assert cupy.blas.workspace == (seen[-1][1], 32 << 20)
    assert [stream for stream, _ in seen] == [0, 77, 0]
    assert seen[0] == seen[2]
    assert seen[0][1] != seen[1][1]


def test_each_thread_has_plans_of_its_own(lt, ops):
    """An address is written into an operation before each product."""
    found = [ops.blas().epilogues]
    thread = threading.Thread(target=lambda: found.append(ops.blas().epilogues))
    thread.start()
    thread.join()
    assert found[0] is ops.blas().epilogues is not found[1]


def test_without_the_functions_there_are_kernels(ops, cupy):
    """As on Windows, where they are not looked for in other libraries."""
    assert ops.blas().epilogues is None
    close(
        ops.linear(guarded(draw(8, 12)), guarded(draw(12, 4)), guarded(draw(1, 4))),
        draw(8, 12) @ draw(12, 4) + draw(1, 4),
    )
    assert cupy.launched == ["add_bias"]


# -- the whole --------------------------------------------------------------------------------------------------
DATA = draw(320, 20), np.arange(320) % 5


class Counting(xpnn.Trainer):
    """Notes what each step launches."""

    def train_step(self, *args):
        noted = RawModule.launched, self.blas.products, self.blas.lt.products, self.blas.lt.queries
        for names in noted:
            names.clear()
        result = super().train_step(*args)
        self.steps.append((list(RawModule.launched), *map(len, noted[1:])))
        return result


def fit(backend, cupy, trainer=xpnn.Trainer, **options):
    net = xpnn.mlp([20, 32, 16, 5], backend=backend, seed=0, **options)
    made = trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01))
    made.steps, made.blas = [], cupy.blas
    history = made.fit(*DATA, epochs=2, batch_size=64, graph=False)
    return net, history, made.steps


def test_a_step_with_epilogues(on_gpu, lt, cupy):
    """4 kernels and 8 products, of which 4 have epilogues; and it is the step of portable NumPy to rounding."""
    net, history, steps = fit(on_gpu, cupy, Counting)
    left = ["softmax_cross_entropy", "relu_backward", "relu_backward", "adam"]
    assert steps[-2] == (left, 4, 4, 0)  # nothing is asked any more: so a step can be captured
    theirs, expected, _ = fit(xpnn.get_backend("numpy", ops="portable"), cupy)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], value, rtol=0, atol=1e-3 * np.abs(value).max() + 1e-5)


@pytest.mark.parametrize("norm", [None, "layer"])
def test_a_step_with_masks(norm, on_gpu, lt, cupy):
    """Where cuBLASLt takes a gradient through the ReLU below, no kernel does: the loss and the rule are left."""
    lt.offered |= {134, 152}
    net, history, steps = fit(on_gpu, cupy, Counting, norm=norm)
    if norm is None:
        assert steps[-2] == (["softmax_cross_entropy", "adam"], 2, 6, 0)
        assert [p["epilogue"] for p in lt.products[-6:]] == [134, 134, 4, 152, 256, 152]
    theirs, expected, _ = fit(xpnn.get_backend("numpy", ops="portable"), cupy, norm=norm)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-5)
    for name, value in theirs.state_dict().items():
        np.testing.assert_allclose(net.state_dict()[name], value, rtol=0, atol=1e-3 * np.abs(value).max() + 1e-5)


def test_a_step_of_the_trainer_with_masks_is_ten_launches(on_gpu, lt, cupy):
    """With its loss, tally and accuracy: 8 products, of which 6 do more, one kernel for the loss, one for the rule."""
    lt.offered |= {134, 152}
    net = xpnn.mlp([20, 32, 16, 5], backend=on_gpu, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01))
    trainer.fit(*DATA, epochs=1, batch_size=64, graph=False)  # chooses algorithms
    for log in (cupy.launched, cupy.blas.products, lt.products):
        log.clear()
    history = trainer.fit(*DATA, epochs=1, batch_size=64, graph=False)
    n = -(-len(DATA[0]) // 64)
    steps = [name for name in cupy.launched if name not in ("gather_words", "square_sums", "root_of_sum")]
    assert steps == ["cross_entropy_step", "adam"] * n
    assert (len(cupy.blas.products), len(lt.products)) == (2 * n, 6 * n)
    assert 0 < history["accuracy"][-1] < 1


def test_masks_that_cannot_be_used_are_no_harm(on_gpu, lt, cupy):
    """One of the two is not enough; and where a network's first layers are fixed, their gradients stay as they are."""
    for offered in ({134}, {152}):
        lt.offered = {4, 6, 256, *offered}
        net, _, steps = fit(on_gpu, cupy, Counting)
        assert steps[-2][0] == ["softmax_cross_entropy", "relu_backward", "relu_backward", "adam"]
    lt.offered |= {134, 152}
    plain = {name: np.array(xpnn.to_numpy(g)) for name, g in net.grads.items()}
    x = on_gpu.asarray(DATA[0][:64])
    y, caches = net.forward(x, train=True)
    d = xpnn.MeanSquaredError().value_and_grad(y, on_gpu.zeros(y.shape))[1]
    for first in (0, 1, 2, 3):
        net.store.grads[...] = 7.0
        net.plan.backward(d, caches, need_dx=False, first=first)
        untouched = [n for n, g in net.grads.items() if (xpnn.to_numpy(g) == 7.0).all()]
        assert untouched == [n for n in plain if int(n.partition(".")[0]) < first]


def test_half_precision_multiplies_halves(on_gpu, lt, cupy):
    """Also where Linear and ReLU are one; the gradient of the bias is not rounded, so it is summed by a kernel."""
    half = xpnn.get_backend(on_gpu, dtype="float16")
    net, history, _ = fit(half, cupy)
    _, expected, _ = fit(xpnn.get_backend("numpy", dtype="float16"), cupy)
    np.testing.assert_allclose(history["loss"], expected["loss"], rtol=1e-3)
    assert {p["a"]["kind"] for p in lt.products} == {2}
    assert {p["epilogue"] for p in lt.products} == {4, 6}
    assert net.backend.ops.half == "float16"


def test_the_script_looks_at_epilogues(on_gpu, lt, monkeypatch):
    folder = PROJECT / "ci"
    monkeypatch.syspath_prepend(str(folder))
    probe = importlib.import_module("gpu_probe")
    pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    lt.offered = set(Epilogue)
    found = probe.epilogues(on_gpu)
    assert found["ok"], found["text"]
    assert len(found["rows"]) == 7 * (2 * 5 + 2 * 2)
    assert sum(row["offered"] for row in found["rows"].values()) == len(found["rows"])
    assert probe.with_and_without(on_gpu)["ok"]
    right = lt.row_sum
    monkeypatch.setattr(lt, "row_sum", lambda a: right(a) * np.float32(1.001))
    found = probe.epilogues(on_gpu)
    assert not found["ok"]
    assert "wrong: DRELU_BGRAD (128, 784, 256) float32, BGRADA (128, 784, 256) float32" in found["text"]
    assert not any(name.startswith("BIAS") for name in found["text"].partition("wrong: ")[2].split(", "))


# -- NVIDIA's own ---------------------------------------------------------------------------------------------------
def places():
    """Folders of CUDA toolkits: where the environment says, the usual one, and what pip installs."""
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name):
            yield Path(os.environ[name])
    yield Path("/usr/local/cuda")
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations if spec else ():
        yield from sorted(Path(folder).glob("c*"))


@pytest.fixture(scope="module")
def header():
    for place in places():
        path = place / "include" / "cublasLt.h"
        if path.is_file():
            return re.sub(r"/\*.*?\*/|//[^\n]*", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    pytest.skip("needs cublasLt.h: pip install nvidia-cublas, or set CUDA_HOME")


@pytest.fixture(scope="module")
def library():
    for place in places():
        for path in sorted([*place.glob("lib/libcublas.so*"), *place.glob("lib64/libcublas.so*")]):
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    pytest.skip("needs libcublas: pip install nvidia-cublas, or set CUDA_HOME")


def test_numbers_are_those_of_the_header(header):
    known = {}
    for name, value in re.findall(r"(CUBLASLT_\w+)\s*=\s*([^,}]+)", header):
        words = [known.get(word.strip(), word.strip()) for word in re.sub(r"[()]", "", value).split("|")]
        if all(re.fullmatch(r"-?\d+|0x[\da-f]+", str(word), flags=re.IGNORECASE) for word in words):
            known[name] = np.bitwise_or.reduce([int(str(word), 0) for word in words])
    for epilogue in Epilogue:
        assert known[f"CUBLASLT_EPILOGUE_{epilogue.name}"] == epilogue
    attributes = {"TRANSA": "_TRANSPOSE_A", "TRANSB": "_TRANSPOSE_B", "EPILOGUE": "_EPILOGUE"}
    for name, mine in (attributes | {"BIAS_POINTER": "_BIAS_POINTER"}).items():
        assert known[f"CUBLASLT_MATMUL_DESC_{name}"] == getattr(gemm_lt, mine)
    assert known["CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES"] == gemm_lt._MAX_WORKSPACE
    assert known["CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK"] == gemm_lt._REDUCTIONS
    alignments = tuple(known[f"CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{x}_BYTES"] for x in "ABCD")
    assert alignments == gemm_lt._ALIGNMENTS
    assert known["CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE"] == gemm_lt._IN_WORKSPACE
    assert re.search(r"uint64_t data\[8\];\s*\} cublasLtMatmulAlgo_t;", header)
    fields = re.search(r"typedef struct \{([^}]*)\} cublasLtMatmulHeuristicResult_t;", header).group(1)
    kinds = ["cublasLtMatmulAlgo_t algo", "size_t workspaceSize", "cublasStatus_t state", "float wavesCount"]
    assert [" ".join(line.split()) for line in fields.split(";")][:5] == [*kinds, "int reserved[4]"]
    assert ctypes.sizeof(gemm_lt._Algorithm) == 96
    assert OPERATION.keys() == {3, 4, 7, 8}
    assert PREFERENCE.keys() == {1, 3, 5, 6, 7, 8}


def test_signatures_are_those_of_the_header(header):
    pointers = {"cublasLtHandle_t", "cublasLtMatmulDesc_t", "cublasLtMatrixLayout_t", "cublasLtMatmulPreference_t"}
    pointers |= {"cudaStream_t"}
    numbers = {"size_t": ctypes.c_size_t, "uint64_t": ctypes.c_uint64, "int64_t": ctypes.c_int64, "int": ctypes.c_int}
    for name, mine in gemm_lt.FUNCTIONS.items():
        given = re.search(rf"CUBLASWINAPI\s+{name}\(([^;]*)\);", header).group(1).split(",")
        kinds = []
        for parameter in given:
            words = parameter.split()
            if "*" in parameter or "[" in parameter or words[-2] in pointers:
                kinds.append(ctypes.c_void_p)
            else:  # what is left are enumerations
                kinds.append(numbers.get(words[-2], ctypes.c_int))
        assert kinds == mine, name


def test_the_real_library_takes_the_descriptors(library, cupy):
    """They are made without a GPU, through cuBLAS, which brings cuBLASLt; what is set can be read again."""
    blas = Blas(cupy.blas, cupy)
    epilogues = gemm_lt.Epilogues(library, cupy, blas)
    made = {}
    for name in ("cublasLtMatmulDescSetAttribute", "cublasLtMatmulPreferenceSetAttribute"):
        right = epilogues._functions[name]

        def noting(where, which, place, size, name=name, right=right):
            made.setdefault(name, []).append((where, which, ctypes.string_at(place, size)))
            return right(where, which, place, size)

        epilogues._functions[name] = noting
    epilogues._functions["cublasLtMatmulAlgoGetHeuristic"] = lambda *args: 15  # that needs a GPU
    kind = gemm_lt._Kind(
        Epilogue.RELU_BIAS,
        (8, 4, 12),
        *blas.kind_of(guarded(draw(12, 8)).mT, guarded(draw(12, 4)), guarded(draw(8, 4))),
    )
    assert epilogues._find_plan(kind) is None
    for name, noted in made.items():
        read = getattr(library, name.replace("Set", "Get"))
        read.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
        for where, which, value in noted:
            place, written = ctypes.create_string_buffer(len(value)), ctypes.c_size_t()
            assert read(where, which, place, len(value), ctypes.byref(written)) == 0
            assert (place.raw, written.value) == (value, len(value))
    assert [which for _, which, _ in made["cublasLtMatmulDescSetAttribute"]] == [3, 4, 7, 8]
    assert len(made["cublasLtMatmulPreferenceSetAttribute"]) == 6
    assert cublas._FULL == 68
