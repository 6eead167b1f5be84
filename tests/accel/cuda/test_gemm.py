"""Matrix products through cuBLAS without cuBLAS: an emulation reads the pointers, strides and numbers it is given."""

from __future__ import annotations

import ctypes
import itertools
import shutil
import subprocess
import sys
import threading
import types
import warnings

import numpy as np
import pytest
from fake_cupy import (
    Stream,
    bare,
    guarded,
    intact,
    wrap,
)
from matrices import FORMS, STRAIGHT, close, draw, plain, spread

import xpnn
from xpnn.accel.cuda import cupy_ops
from xpnn.accel.cuda.cublas import ARGUMENTS, Layout, layout, load_cublas
from xpnn.accel.cuda.gemm import Blas
from xpnn.errors import BackendUnavailableError
from xpnn.ops import Affine

SIZES = [(1, 1, 1), (1, 7, 1), (5, 1, 3), (1, 1, 9), (4, 6, 1), (7, 5, 3), (33, 10, 17)]


@pytest.fixture
def blas(cupy, monkeypatch):
    """A handle; `blas.copies` counts operands that were copied."""
    made = Blas(cupy.blas, cupy)
    made.copies = []
    straight = cupy.ascontiguousarray
    monkeypatch.setattr(cupy, "ascontiguousarray", lambda a: made.copies.append(a) or straight(a))
    yield made
    assert not hasattr(cupy.blas, "error")


# -- layouts ----------------------------------------------------------------------------------------------------
def strided(shape, strides, size=4):
    return types.SimpleNamespace(shape=shape, strides=tuple(s * size for s in strides), itemsize=size, ndim=len(shape))


LAYOUTS = [
    ((3, 4), (4, 1), Layout(False, 4, 0)),
    ((3, 4), (1, 3), Layout(True, 3, 0)),
    ((3, 4), (9, 1), Layout(False, 9, 0)),
    ((3, 4), (1, 9), Layout(True, 9, 0)),
    ((3, 4), (8, 2), None),  # every other element
    ((3, 4), (3, 1), None),  # rows overlap
    ((3, 4), (0, 1), None),  # a row repeated
    ((3, 4), (-4, 1), None),  # upside down
    ((3, 4), (4, -1), None),
    ((1, 4), (77, 1), Layout(False, 4, 0)),  # the stride of one row means nothing
    ((1, 4), (-1, 1), Layout(False, 4, 0)),
    ((1, 4), (0, 5), Layout(True, 5, 0)),  # a column of a matrix, lying down
    ((3, 1), (1, 77), Layout(False, 1, 0)),
    ((3, 1), (5, 0), Layout(False, 5, 0)),
    ((1, 1), (0, 0), Layout(False, 1, 0)),
    ((2, 3, 4), (12, 4, 1), Layout(False, 4, 12)),
    ((2, 3, 4), (50, 1, 3), Layout(True, 3, 50)),
    ((2, 3, 4), (0, 4, 1), Layout(False, 4, 0)),
    ((1, 3, 4), (99, 4, 1), Layout(False, 4, 0)),
    ((2, 3, 4), (-12, 4, 1), None),
]


@pytest.mark.parametrize(("shape", "strides", "expected"), LAYOUTS, ids=str)
def test_layouts(shape, strides, expected):
    assert layout(strided(shape, strides)) == expected


def test_a_stride_between_elements_has_no_layout():
    fields = np.zeros((3, 4), [("a", "f4"), ("b", "u1")])["a"]  # 5 bytes from one to the next
    assert layout(fields) is None


# -- products ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("form_a", FORMS)
@pytest.mark.parametrize("form_b", FORMS)
def test_products(sizes, form_a, form_b, blas):
    """All forms of operands and results, assigned and added; only what must be is copied."""
    m, k, n = sizes
    a, b, c = draw(m, k), draw(k, n, seed=1), draw(m, n, seed=2)
    given = FORMS[form_a](a), FORMS[form_b](b)
    needed = sum(layout(x) is None for x in given)
    for form, add in itertools.product(STRAIGHT, (False, True)):
        out = FORMS[form](c if add else np.full_like(c, np.nan))
        blas.copies.clear()
        blas.gemm(*given, out, add=add)
        close(out, a @ b + c if add else a @ b)
        assert len(blas.copies) == needed
        if form_a in STRAIGHT and form_b in STRAIGHT:
            assert needed == 0
    close(given[0], a, 0)
    close(given[1], b, 0)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("shared", ["", "a", "b", "a, broadcast"])
@pytest.mark.parametrize("forms", list(itertools.product(STRAIGHT, STRAIGHT)), ids="-".join)
def test_products_of_replicas(sizes, shared, forms, blas):
    """Stacks, matrices that all replicas share, and results in a flat buffer with other things between."""
    m, k, n = sizes
    a = draw(m, k) if shared == "a" else draw(3, m, k)
    b = draw(k, n, seed=1) if shared == "b" else draw(3, k, n, seed=1)
    given = FORMS[forms[0]](a), FORMS[forms[1]](b)
    if shared == "a, broadcast":
        a = a[:1]
        given = wrap(np.broadcast_to(bare(given[0])[:1], (3, m, k))), given[1]
    flat = guarded(np.full((3, m * n + 11), np.nan, np.float32))
    out = flat[:, 4 : 4 + m * n].reshape((3, m, n))
    assert np.shares_memory(out, flat)
    blas.gemm(*given, out)
    close(out, a @ b)
    blas.gemm(*given, out, add=True)
    close(out, 2 * (a @ b))
    assert blas.copies == []
    assert np.isnan(bare(flat)[:, [*range(4), *range(-7, 0)]]).all()
    assert intact(flat)


def test_shared_operands_have_no_step(blas, cupy):
    out = guarded(np.zeros((3, 4, 2), np.float32))
    blas.gemm(plain(draw(4, 5)), plain(draw(3, 5, 2)), out)
    (told,) = cupy.blas.products
    assert told["count"] == 3
    assert told["steps"] == (10, 0, 8)  # by columns B comes first
    assert (told["m"], told["n"], told["k"]) == (2, 4, 5)


@pytest.mark.parametrize(
    ("dtype", "out_dtype", "tf32", "compute", "tolerance"),
    [
        ("float32", "float32", False, 68, 3e-6),
        ("float32", "float32", True, 77, 3e-6),
        ("float64", "float64", False, 70, 1e-14),
        ("float64", "float64", True, 70, 1e-14),
        ("float16", "float16", False, 68, 2e-3),
        ("float16", "float32", True, 68, 3e-6),
        ("bfloat16", "bfloat16", False, 68, 1e-2),
        ("bfloat16", "float32", False, 68, 3e-6),
    ],
)
@pytest.mark.parametrize("add", [False, True], ids=["", "add"])
def test_dtypes(dtype, out_dtype, tf32, compute, tolerance, add, cupy):
    """TF32 is for float32 alone; half precision is summed in float32, and may be given out so."""
    if "bfloat16" in (dtype, out_dtype):
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    a, b, c = draw(6, 9, dtype=dtype), draw(9, 4, dtype=dtype, seed=1), draw(6, 4, dtype=out_dtype, seed=2)
    out = plain(c)
    assert Blas.takes(plain(a), plain(b), out)
    Blas(cupy.blas, cupy, tf32=tf32).gemm(plain(a), plain(b), out, add=add)
    kind = np.float64 if dtype == "float64" else np.float32
    expected = a.astype(kind) @ b.astype(kind) + (c.astype(kind) if add else 0)
    close(out, expected, tolerance)
    assert cupy.blas.products[-1]["compute"] == compute
    assert cupy.blas.products[-1]["beta"] == add


def array(shape, dtype="float32", strides=None):
    size = int(np.prod(shape))
    strides = strides or np.empty(shape, "u1").strides
    return types.SimpleNamespace(shape=shape, dtype=np.dtype(dtype), ndim=len(shape), size=size, strides=strides)


@pytest.mark.parametrize(
    ("a", "b", "out", "expected"),
    [
        (array((2, 3)), array((3, 4)), None, True),
        (array((5, 2, 3)), array((3, 4)), array((5, 2, 4)), True),
        (array((5, 2, 3)), array((1, 3, 4)), None, True),
        (array((5, 2, 3)), array((4, 3, 4)), None, False),  # CuPy says what is wrong with it
        (array((2, 3), "int32"), array((3, 4), "int32"), None, False),
        (array((2, 3)), array((3, 4), "float64"), None, False),
        (array((2, 3)), array((3, 4)), array((2, 4), "float64"), False),
        (array((2, 3), "float16"), array((3, 4), "float16"), array((2, 4)), True),
        (array((2, 3), "float64"), array((3, 4), "float64"), array((2, 4)), False),
        (array((0, 3)), array((3, 4)), None, False),
        (array((2, 0)), array((0, 4)), None, False),
        (array((3,)), array((3, 4)), None, False),
        (array((6, 5, 2, 3)), array((3, 4)), None, False),
        (array((70_000, 40_000)), array((40_000, 1)), None, False),  # more elements than 32 bits count
    ],
)
def test_what_is_taken(a, b, out, expected):
    assert Blas.takes(a, b, out) is expected


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        (((2, 3), (4, 5), (2, 5)), r"gemm: expected shapes \(m, k\), \(k, n\) and \(m, n\), got \(2, 3\), \(4, 5\)"),
        (((2, 3), (3, 5), (5, 2)), "gemm: expected shapes"),
        (((3, 2, 3), (3, 5), (2, 5)), "gemm: expected shapes"),
        (((3, 2, 3), (2, 3, 5), (3, 2, 5)), "gemm: expected shapes"),
    ],
)
def test_shapes_that_do_not_fit(shapes, text, blas):
    with pytest.raises(ValueError, match=text):
        blas.gemm(*(plain(draw(*shape)) for shape in shapes))


@pytest.mark.parametrize("form", ["spread", "upside_down", "one for all"])
def test_results_that_would_need_a_copy_are_refused(form, blas):
    out = draw(3, 2, 5)
    out = np.broadcast_to(out[:1], out.shape) if form == "one for all" else bare(FORMS[form](out))
    with pytest.raises(ValueError, match="gemm: expected rows or columns of out to lie together, got strides"):
        blas.gemm(plain(draw(3, 2, 4)), plain(draw(3, 4, 5)), wrap(out))


# -- streams ----------------------------------------------------------------------------------------------------
def test_each_stream_has_a_workspace_that_stays(blas, cupy):
    """SetStream takes the workspace away, so one is given after it; a graph may keep its address."""
    a, b, out = plain(draw(2, 3)), plain(draw(3, 4)), plain(draw(2, 4))
    setup, product = ["cublasSetStream_v2", "cublasSetWorkspace_v2"], "cublasGemmStridedBatchedEx"
    seen = []
    for stream in (0, 0, 77, 77, 0):
        cupy.current = Stream(stream)
        blas.gemm(a, b, out)
        seen.append((cupy.blas.stream, cupy.blas.workspace))
    calls = cupy.blas.calls[1:]
    assert calls == [*setup, product, product, *setup, product, product, *setup, product]
    assert [stream for stream, _ in seen] == [0, 0, 77, 77, 0]
    (first, size), (second, _) = seen[0][1], seen[2][1]
    assert seen[4][1] == seen[0][1]
    assert first != second
    assert size == 32 << 20


def test_smaller_gpus_have_a_smaller_workspace(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda.Device, "compute_capability", "89")
    blas = Blas(cupy.blas, cupy)
    blas.gemm(plain(draw(2, 3)), plain(draw(3, 4)), plain(draw(2, 4)))
    assert cupy.blas.workspace[1] == 4 << 20


def test_each_thread_has_a_handle(ops, cupy):
    found = [ops.blas()]
    thread = threading.Thread(target=lambda: found.append(ops.blas()))
    thread.start()
    thread.join()
    assert ops.blas() is found[0] is not found[1]
    assert cupy.blas.calls.count("cublasCreate_v2") == 2


# -- errors -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("status", "name"), [(13, "EXECUTION_FAILED"), (15, "NOT_SUPPORTED"), (99, "unknown")])
def test_errors_of_cublas_have_a_name(status, name, blas, cupy):
    cupy.blas.status = status
    with pytest.raises(
        BackendUnavailableError,
        match=rf"cublasGemmStridedBatchedEx: cuBLAS reports status {status} \({name}\). Use get_backend\('cupy', ops=",
    ):
        blas.gemm(plain(draw(2, 3)), plain(draw(3, 4)), plain(draw(2, 4)))


@pytest.fixture
def no_cublas(cupy, monkeypatch):
    """A machine on which cuBLAS cannot be called directly."""

    def missing(cupy):
        raise AttributeError("undefined symbol: cublasGemmStridedBatchedEx")

    monkeypatch.setattr(cupy_ops, "load_cublas", missing)
    monkeypatch.setattr(cupy_ops, "_warned", set())


def test_without_cublas_products_go_through_cupy_and_it_is_said_once(no_cublas, ops, cupy):
    x, w, b, dy = draw(4, 3), draw(3, 5), draw(1, 5), draw(4, 5, seed=1)
    with pytest.warns(RuntimeWarning, match=r"xpnn: cuBLAS cannot be called directly \(undefined symbol: .*cannot be"):
        y = ops.linear(plain(x), plain(w), plain(b))
    close(y, x @ w + b)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        d_weight = plain(np.zeros_like(w))
        dx = ops.linear_backward(plain(x), plain(dy), Affine(plain(w), None, d_weight, None), need_dx=True)
        ops.matmul(plain(x).mT, plain(dy), d_weight, add=True)
        other = xpnn.accel.cuda.cupy_ops.CupyOps(ops.xp, ops.device)
        close(other.matmul(plain(x), plain(w)), x @ w)
    close(dx, dy @ w.T)
    close(d_weight, 2 * x.T @ dy)
    assert cupy.blas.products == []


def test_tf32_without_cublas_is_an_error(no_cublas, on_gpu):
    with pytest.raises(BackendUnavailableError, match=r"get_backend\('cupy', tf32=True\): cuBLAS cannot be called"):
        xpnn.get_backend(on_gpu, tf32=True)


def test_results_where_cublas_cannot_write_go_through_cupy(ops, cupy):
    a, b = draw(4, 3), draw(3, 5)
    out = spread(np.ones((4, 5), np.float32))
    ops.matmul(plain(a), plain(b), out)
    close(out, a @ b)
    ops.matmul(plain(a), plain(b), out, add=True)
    close(out, 2 * (a @ b))
    assert cupy.blas.products == []
    integers = np.arange(6, dtype=np.int32).reshape(2, 3)
    close(ops.matmul(plain(integers), plain(integers.T.copy())), integers @ integers.T, 0)


# -- the library ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def stubs(tmp_path_factory):
    """Two libraries: one with all functions of cuBLAS used here, one without the product."""
    compiler = shutil.which("g++")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs g++ on Linux: apt-get install g++")
    folder = tmp_path_factory.mktemp("stubs")
    for name, functions in (("whole", list(ARGUMENTS)), ("old", list(ARGUMENTS)[:-1])):
        code = "\n".join(f'extern "C" int {function}() {{ return 0; }}' for function in functions)
        (folder / f"{name}.cpp").write_text(code)
        command = [compiler, "-shared", "-fPIC", str(folder / f"{name}.cpp"), "-o", str(folder / f"lib{name}.so")]
        subprocess.run(command, check=True, capture_output=True)
    return folder


def install_pathfinder(monkeypatch, find):
    package, module = types.ModuleType("cuda"), types.ModuleType("cuda.pathfinder")
    module.load_nvidia_dynamic_lib = find
    monkeypatch.setitem(sys.modules, "cuda", package)
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", module)


def test_the_library_that_cupy_loads_is_taken(stubs, cupy, monkeypatch):
    asked = []

    def find(name):
        asked.append(name)
        return types.SimpleNamespace(abs_path=str(stubs / "libwhole.so"))

    install_pathfinder(monkeypatch, find)
    library = load_cublas(cupy)
    assert asked == ["cublas"]
    assert isinstance(library, ctypes.CDLL)
    blas = Blas(library, cupy)
    blas.gemm(plain(draw(2, 3)), plain(draw(3, 4)), plain(draw(2, 4)))  # every call goes through C
    assert library.cublasGemmStridedBatchedEx.restype is ctypes.c_int


def test_a_library_without_the_function_is_refused(stubs, cupy, monkeypatch):
    old = types.SimpleNamespace(abs_path=str(stubs / "libold.so"))
    install_pathfinder(monkeypatch, lambda name: old)
    with pytest.raises(AttributeError, match="cublasGemmStridedBatchedEx"):
        load_cublas(cupy)


def test_no_library_is_refused(cupy, monkeypatch):
    class NotFoundError(RuntimeError):
        pass

    def find(name):
        raise NotFoundError("Failure finding libcublas.so\nsearched here and there")

    install_pathfinder(monkeypatch, find)
    with pytest.raises(OSError, match=r"^Failure finding libcublas.so$"):
        load_cublas(cupy)


def test_without_a_finder_the_systems_library_is_asked_for(cupy, monkeypatch):
    asked = []
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: asked.append(name) or cupy.blas)
    assert load_cublas(cupy) is cupy.blas
    monkeypatch.setattr(sys, "platform", "win32")
    load_cublas(cupy)
    assert asked == ["libcublas.so.13", "cublas64_13.dll"]
