"""Matrix products in pieces: the same bits whoever makes them, and on however many threads."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
from fake_pool import IMITATED
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.accel import products, workers
from xpnn.accel.native import support
from xpnn.accel.native.openblas import NO_POOL, find_openblas
from xpnn.accel.native.trace import Trace, untraced
from xpnn.accel.products import divide, multiply, piece_count
from xpnn.initializers import HeNormal
from xpnn.params import ParamSpec

pytestmark = pytest.mark.skipif(find_openblas() is None, reason="NumPy's products are not OpenBLAS's")


@pytest.fixture
def limits():
    return pytest.importorskip("threadpoolctl").threadpool_limits


@pytest.fixture(scope="module", autouse=True)
def small_ones_are_divided():
    """So that all kinds of pieces are cheap to try."""
    patch = pytest.MonkeyPatch()
    patch.setattr(products, "_SMALL", 1 << 9)
    patch.setattr(products, "_SMALL_WITH_VECTOR", 1 << 8)
    patch.setattr(products, "_SHARED", 1 << 11)
    patch.setattr(products, "_DIVIDED", (1 << 11, 1 << 14, 1 << 17, 1 << 20))
    patch.setattr(products, "_HALVED", 1 << 10)
    piece_count.cache_clear()
    yield
    patch.undo()
    piece_count.cache_clear()


@st.composite
def factors(draw):
    """Two matrices, or stacks of them, as they lie in memory in a step: one may be a transposed view."""
    m, k, n = (draw(st.sampled_from([1, 2, 7, 16, 31, 33, 64, 129, 200])) for _ in range(3))
    stacks = draw(st.sampled_from([((), ()), ((3,), (3,)), ((5,), ()), ((), (20,)), ((1,), (1,)), ((2, 2), (2, 2))]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    made = []
    for stack, shape in zip(stacks, ((m, k), (k, n)), strict=True):
        turned = draw(st.booleans())
        a = rng.normal(size=(*stack, *(shape[::-1] if turned else shape))).astype(dtype)
        made.append(a.mT if turned else a)
    return made


def on_threads(threads, work):
    """Work with so many threads allowed, whatever the machine has."""
    patch = pytest.MonkeyPatch()
    with patch.context() as at:
        at.setattr(workers, "worker_count", lambda: threads)
        at.setattr(workers, "allowed_threads", lambda: threads)
        at.setattr(products, "allowed_threads", lambda: threads)
        return work()


def test_a_column_times_a_row_has_the_bits_of_blas():
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        column, row = rng.normal(size=(300, 1)).astype(dtype), rng.normal(size=(70, 1)).astype(dtype).T
        column[3], row[0, 5], column[7], column[8] = 0.0, -1.0, -np.inf, 1e-30
        made = multiply(column, row)
        assert made.flags.c_contiguous
        assert made.tobytes() == (column @ row).tobytes()
        assert multiply(np.stack([column] * 3), row).tobytes() == np.stack([made] * 3).tobytes()


@settings(max_examples=60, deadline=None)
@given(factors())
def test_bits_depend_neither_on_threads_nor_on_where_the_result_goes(pair):
    a, b = pair
    one = on_threads(1, lambda: multiply(a, b))
    assert one.dtype == a.dtype
    np.testing.assert_allclose(one, a.astype(np.float64) @ b.astype(np.float64), rtol=1e-4, atol=1e-4)
    out = np.full_like(one, np.nan)
    assert on_threads(2, lambda: multiply(a, b, out)) is out
    found = [out, on_threads(3, lambda: multiply(a, b))]
    limits = pytest.importorskip("threadpoolctl").threadpool_limits
    for threads in (1, 2):
        with limits(threads, user_api="blas"):
            found.append(multiply(a, b))
    assert {x.tobytes() for x in found} == {one.tobytes()}


@settings(max_examples=40, deadline=None)
@given(factors())
def test_pieces_are_all_of_it_once(pair):
    a, b = pair
    out = np.zeros(np.matmul(a, b).shape, np.int64)
    count = piece_count(a.shape, b.shape)
    parts = divide(a, b, out, count) if count > 1 else [(a, b, out)]
    for own_a, own_b, own_out in parts:
        assert np.matmul(own_a, own_b).shape == own_out.shape
        own_out += 1
    assert len(parts) == count
    assert (out == 1).all()


@settings(max_examples=30, deadline=None)
@given(factors())
def test_a_trace_multiplies_likewise(pair):
    """On one thread, on those of the pool, and in the order of an imitated one."""
    pytest.importorskip("numba")
    if support.numpy_objection() or pair[0].ndim > 3:
        return
    loops = importlib.import_module("xpnn.accel.native.loops")
    expected = multiply(*pair)
    for pool in (NO_POOL, support.find_pool(), IMITATED):
        trace = Trace(loops, lambda pool=pool: pool, pair[0].dtype)
        made = untraced(multiply(*(trace.fixed(x) for x in pair)))
        trace.finish()
        made[...] = 0
        trace.play(1, [])
        assert made.tobytes() == expected.tobytes()


def test_other_dtypes_and_a_matrix_with_itself_are_numpys():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 50))
    with products.PRODUCT:
        for a, b in ((x, x.T.astype(np.float32)), (x.T, x), (x, x.T), (x.astype(np.int64), x.T.astype(np.int64))):
            assert multiply(a, b).tobytes() == (a @ b).tobytes()


def test_where_products_are_not_openblas_s_they_stay_whole(monkeypatch):
    piece_count.cache_clear()
    monkeypatch.setattr(products, "find_openblas", lambda: None)
    assert piece_count((4096, 4096), (4096, 4096)) == 1
    piece_count.cache_clear()


# -- whole fits ---------------------------------------------------------------------------------------------------
class Own(xpnn.Layer):
    """A layer that multiplies by itself, and knows nothing of pieces."""

    def __init__(self, dim):
        self.dim = dim

    def out_size(self, n_in):
        return self.dim

    def param_specs(self):
        return (ParamSpec("weight", (self.n_in, self.dim), HeNormal(), True),)

    def forward(self, x, *, train=False, key=None):
        return x @ self.params["weight"], x

    def backward(self, dy, cache, *, need_dx=True):
        self.grads["weight"][...] = cache.mT @ dy
        return dy @ self.params["weight"].mT if need_dx else None


def fitted(kind, threads, limits):
    """Weights and predictions after a fit with so many threads."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(150, 203)), rng.integers(0, 3, 150)
    options = {"ops": "portable"} if kind == "portable" else {"compiled": kind == "compiled"}
    backend = xpnn.get_backend("numpy", **options)
    layers = (Own(99),) if kind == "own" else (xpnn.Linear(99), xpnn.ReLU(), xpnn.Linear(130))
    net = xpnn.Sequential(*layers, xpnn.Linear(3), n_in=203, backend=backend, seed=3)
    optimizer = xpnn.optim.Muon(matrices="all") if kind == "muon" else xpnn.Adam()
    with limits(threads, user_api="blas"):
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), optimizer)
        trainer.fit(x, y, epochs=3, batch_size=33)
        return net.store.values.tobytes(), net.predict(x).tobytes(), trainer.evaluate(x, y)


@pytest.mark.parametrize("kind", ["numpy", "compiled", "portable", "own", "muon"])
def test_a_fit_is_the_same_on_any_number_of_threads(kind, limits):
    if kind == "compiled":
        pytest.importorskip("numba")
    first, *others = (fitted(kind, threads, limits) for threads in (1, 2, 3))
    assert others == [first, first]


@pytest.mark.parametrize("sizes", [[5, 4, 3], [20, 40, 16, 3]])
def test_replicas_in_a_trace_have_the_bits_of_eager_ones(sizes, limits):
    """Their biases, masks and sums are loops for each; their products are halves, or pieces of a stack."""
    pytest.importorskip("numba")
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(165, sizes[0])), rng.integers(0, 3, 165)

    def values(compiled, **which):
        net = xpnn.mlp(sizes, backend=xpnn.get_backend("numpy", compiled=compiled), **which)
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(x, y, epochs=3, batch_size=33, graph=compiled)
        return net.store.values.tolist()

    with limits(2, user_api="blas"):
        together = values(True, seed=0, replicas=5)
        assert together == values(False, seed=0, replicas=5)
        assert together == [values(True, seed=k) for k in range(5)]


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.sampled_from([1, 16, 33, 64, 200])] * 3), st.sampled_from([2, 3, 20]), st.booleans())
def test_matrices_of_a_stack_have_the_bits_of_each_alone(shape, stack, shared):
    m, k, n = shape
    rng = np.random.default_rng(0)
    a = rng.normal(size=(m, k) if shared else (stack, m, k)).astype(np.float32)
    b = rng.normal(size=(stack, k, n)).astype(np.float32)
    found = on_threads(2, lambda: multiply(a, b))
    for j in range(stack):
        np.testing.assert_array_equal(found[j], multiply(a if shared else a[j], b[j]))


def test_a_stack_is_two_halves_before_it_is_more():
    piece_count.cache_clear()
    assert [piece_count((k, 4, 4), (k, 4, 4)) for k in (1, 8, 16, 24, 32, 64)] == [1, 1, 2, 2, 16, 16]


def test_eager_and_compiled_fits_are_the_same(limits):
    pytest.importorskip("numba")
    assert fitted("numpy", 1, limits) == fitted("compiled", 2, limits)


# -- how many -----------------------------------------------------------------------------------------------------
def test_the_number_of_pieces_depends_on_shapes_alone():
    def found():
        piece_count.cache_clear()
        return [piece_count((m, m), (m, m)) for m in (8, 16, 32, 64, 128, 256)]

    counts = on_threads(1, found)
    assert on_threads(3, found) == counts == sorted(counts)
    assert {1, 16} <= set(counts) <= {1, 2, 4, 8, 16}
    for shape, other in itertools.pairwise([(10, 20), (20, 1), (1, 10), (10, 1 << 20), (1 << 20, 1)]):
        assert piece_count(shape, other) >= 1
