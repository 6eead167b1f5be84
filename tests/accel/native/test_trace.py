"""What was traced gives, played on other numbers, the very bits of NumPy on these."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import functools
import gc
import hashlib
import importlib
import inspect
import operator
import types
import weakref
from pathlib import Path

import numpy as np
import pytest
from fake_pool import IMITATED
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn import special
from xpnn.accel import NumpyOps
from xpnn.accel.native import inner_loops, support
from xpnn.accel.native import trace as traces
from xpnn.accel.native.inner_loops import inner_loop
from xpnn.accel.native.table import Column, Kernel
from xpnn.accel.native.trace import Trace, Traced, TracedLoops, TraceError, untraced
from xpnn.accel.native.turns import ONE_THREAD
from xpnn.ops import Affine, Ops, Update
from xpnn.random import StepKey, keep_threshold, keep_thresholds

NO_POOL = (0, 0)
PORTABLE = Ops(np, "cpu")
F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
SHAPES = [(1, 1), (1, 9), (9, 1), (5, 3), (32, 10), (128, 256)]
FLOATS = pytest.mark.parametrize("dtype", [F4, F8], ids=str)
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e-40, 88.0, -104.0, 1e30]


def draw(shape, dtype=F4, seed=0, kind="mixed"):
    """Numbers of any size; of a kind that shows the order of a sum, the signs of zeros, or what is not finite."""
    rng = np.random.default_rng([seed, *np.atleast_1d(shape)])
    x = np.atleast_1d(rng.normal(size=shape))
    if kind == "spread":
        x = x * 10.0 ** rng.integers(-8, 8, x.shape)
    elif kind == "zeros":
        x = np.where(rng.random(x.shape) < 0.5, 0.0, -0.0)
    elif kind == "negative zeros":
        x = np.full(x.shape, -0.0)
    elif kind != "plain":
        values = {"mixed": SPECIAL, "nan": [np.nan], "inf": [np.inf], "both": [np.inf, -np.inf]}[kind]
        chosen = rng.choice(x.size, min(x.size // 3 + (kind != "mixed"), 2 * len(values)), replace=False)
        x.flat[chosen] = np.resize(values, len(chosen))
    return x.astype(dtype).reshape(shape)


def elsewhere(a):
    """Return a copy in memory that begins elsewhere within a line of the cache."""
    new = np.empty(a.size + 3, a.dtype)[3:].reshape(a.shape)
    new[...] = a
    return new


@pytest.fixture(autouse=True)
def tested_numpy():
    """Elsewhere inner loops are not called; to add a version, write it into `support.NUMPY`."""
    if objection := support.numpy_objection():
        pytest.skip(objection)


def make_trace(dtype=F4, pool=NO_POOL):
    """A trace; to make it takes no numba, to play it does."""
    return Trace(importlib.import_module("xpnn.accel.native.loops"), lambda: pool, dtype)


def places_of(arrays):
    return [(a.ctypes.data, 0) for a in arrays]


def replayed(f, first, second, dtype=F4, fixed=(), pool=NO_POOL):
    """Note ``f(*moving, *fixed)`` on the first arrays, play it on the second, and return what it then returns.

    And what the fixed arrays then hold, which begin both times with the same numbers.
    """
    made, own = make_trace(dtype, pool), [a.copy() for a in fixed]
    at_first = [a.copy() for a in first]
    with np.errstate(all="ignore"), ONE_THREAD:  # as in a fit
        traced = f(*map(made.moving, at_first), *map(made.fixed, own))
        assert isinstance(traced, Traced)
        out = untraced(traced)
        assert_same(out, f(*[a.copy() for a in first], *[a.copy() for a in fixed]))
    made.finish()
    results = []
    for numbers in (second, first, second):  # once more, so that nothing rests on what the last time left
        arrays = [elsewhere(a) for a in numbers]
        for a, start in zip(own, fixed, strict=True):
            a[...] = start
        made.play(1, places_of(arrays))
        results.append((out.copy(), [a.copy() for a in own]))
    assert results[0][0].tobytes() == results[2][0].tobytes()
    return results[0]


def assert_same(found, expected):
    """Equal to the bit, and alike."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if found.tobytes() != expected.tobytes():
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))
        raise AssertionError("NaN of other bits")


def assert_replays(f, first, second, dtype=F4, fixed=(), pool=NO_POOL):
    """Check that what was traced is what NumPy does with the second arrays."""
    found, held = replayed(f, first, second, dtype, fixed, pool)
    own = [a.copy() for a in fixed]
    with np.errstate(all="ignore"):
        assert_same(found, f(*[a.copy() for a in second], *own))
    for a, b in zip(held, own, strict=True):
        assert_same(a, b)


def pairs(*shapes, dtype=F4, kind="mixed"):
    """First and second arrays of some shapes."""
    return [[draw(shape, dtype, seed + k, kind) for k, shape in enumerate(shapes)] for seed in (10, 20)]


# -- one function after the other ---------------------------------------------------------------------------------
UNARY = [
    *(np.negative, np.sqrt, np.exp, np.log, np.tanh, np.log1p, np.expm1, np.abs, np.square, np.sin, np.cos, np.sign),
    *(np.positive, np.reciprocal, np.rint, np.floor),
]
BINARY = [np.add, np.subtract, np.multiply, np.divide, np.maximum, np.minimum, np.power, np.fmax, np.copysign]
VIEWS = {
    "whole": lambda x: x,
    "mT": lambda x: x.mT,
    "rows": lambda x: x[len(x) // 2 :],
    "every second row": lambda x: x[::2],
    "every second column": lambda x: x[:, ::2],
    "transposed columns": lambda x: x[:, ::3].mT,
    "backwards": lambda x: x[::-1],
    "flat backwards": lambda x: x.reshape(-1)[::-1],
    "one row": lambda x: x[0],
    "one column": lambda x: x[:, -1],
    "flat": lambda x: x.reshape(-1),
    "single": lambda x: x[:1, :1],
    "no dimensions": lambda x: x[0, :1].reshape(()),
}


def by_name(functions):
    return pytest.mark.parametrize("function", functions, ids=lambda f: f.__name__)


@FLOATS
@by_name(UNARY)
def test_functions_of_one_array(loops, function, dtype):
    for shape in SHAPES:
        for view in VIEWS.values():
            assert_replays(lambda x, view=view: function(view(x)), *pairs(shape, dtype=dtype), dtype)


@FLOATS
@by_name(BINARY)
def test_functions_of_two_arrays(loops, function, dtype):
    for m, n in SHAPES:
        for other in ((m, n), (1, n), (m, 1), (1, 1), (n,), ()):
            for f in (function, lambda x, y: function(y, x)):
                if function is np.power and other == (m, 1):
                    continue  # below
                assert_replays(f, *pairs((m, n), other, dtype=dtype), dtype)
        for view in VIEWS.values():
            assert_replays(lambda x, y, v=view: function(v(x), v(y)), *pairs((m, n), (m, n), dtype=dtype), dtype)
        if m == n == 1:
            continue
        assert_replays(lambda x, y: function(x.mT, y), *pairs((m, n), (n, m), dtype=dtype), dtype)


@FLOATS
@by_name(UNARY)
def test_columns_backwards_are_noted_rightly_or_refused(loops, function, dtype):
    """NumPy copies such arrays before it calls a loop, which may make other bits of what goes backwards."""
    for shape in SHAPES:
        with contextlib.suppress(TraceError):
            assert_replays(lambda x: function(x[:, ::-1]), *pairs(shape, dtype=dtype), dtype)


@FLOATS
def test_powers_by_a_column_are_noted_rightly_or_refused(loops, dtype):
    """NumPy copies such exponents; those of a whole row it would look at, and take a reciprocal for a power of -1."""
    for m, n in SHAPES:
        for f in (np.power, lambda x, y: np.power(y, x)):
            with contextlib.suppress(TraceError):
                assert_replays(f, *pairs((m, n), (m, 1), dtype=dtype), dtype)


@FLOATS
@by_name(BINARY)
def test_functions_of_an_array_and_a_number(loops, function, dtype):
    for shape in [*SHAPES, (7,), ()]:
        for number in (2, 2.0, 0.0, -0.0, 0.5, -1, 0.1, 3, float("inf")):
            assert_replays(lambda x, k=number: function(x, k), *pairs(shape, dtype=dtype), dtype)
            assert_replays(lambda x, k=number: function(k, x), *pairs(shape, dtype=dtype), dtype)


@FLOATS
@by_name([operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne])
def test_comparisons_as_numbers(loops, function, dtype):
    for shape in [*SHAPES, (), (7,)]:
        assert_replays(lambda x: function(x, 0.0).astype(dtype), *pairs(shape, dtype=dtype), dtype)
        assert_replays(lambda x, y: function(x, y).astype(dtype), *pairs(shape, shape, dtype=dtype), dtype)
        assert_replays(lambda x: (~function(x, 0.5) & (x < 2)).astype(dtype), *pairs(shape, dtype=dtype), dtype)


POWERS = (2, 3, -1, 0.5, 2.0)


@FLOATS
def test_operators(loops, dtype):
    def f(x, y):
        z = (-x + y * 3) / (abs(y) + 1) - 2 * x
        for k in POWERS:
            z = z * 0.5 + (1 / (x**k + 4.0)) - y
        return +z

    for shape in SHAPES:
        assert_replays(f, *pairs(shape, shape, dtype=dtype), dtype)


@FLOATS
def test_operators_in_place(loops, dtype):
    def f(x, state, row):
        t = x * 0.5
        t += 1.0
        t *= x
        t -= row
        t /= 3
        t[1:3] += x[:2]
        t[:, 0] -= 1.0
        state += t
        state[1:] *= 0.5
        state[:2, 1:] -= x[:2, 1:]
        row += t[:1]
        np.maximum(state, -1.0, out=state)
        np.multiply(x, t, out=t)
        t **= 2
        return t

    for m, n in ((4, 2), (5, 3), (32, 10)):
        fixed = [draw((m, n), dtype, 3, "plain"), draw((1, n), dtype, 4, "plain")]
        assert_replays(f, *pairs((m, n), dtype=dtype), dtype, fixed)


@FLOATS
@pytest.mark.parametrize("order", ["C", "F"])
def test_results_in_given_arrays(loops, dtype, order):
    def f(x, whole, part):
        np.exp(x, out=whole)
        np.add(x, 1, out=part[::2, :3])
        np.negative(x.mT, out=part[:3, 4:9])
        np.tanh(whole, out=whole)
        return whole * 2

    fixed = [np.zeros((5, 3), dtype, order=order), np.zeros((9, 9), dtype, order=order)]
    assert_replays(f, *pairs((5, 3), dtype=dtype), dtype, fixed)


def gelu(x):
    return x * (special.erf(x * 0.5**0.5, xp=np) + 1.0) * 0.5


FORMULAS = {
    "softplus": lambda x: special.softplus(x, xp=np),
    "sigmoid": lambda x: special.sigmoid(x, xp=np),
    "softmax": lambda x: special.softmax(x, xp=np),
    "erf": lambda x: special.erf(x, xp=np),
    "gelu": gelu,
    "normalize": lambda x: (x - np.mean(x, axis=-2, keepdims=True)) / np.sqrt(np.mean(x * x, -2, keepdims=True) + 1e-5),
    "clip": lambda x: x * np.minimum(1.0 / (np.sqrt(np.sum(x * x)) + 1e-6), 1.0),
}


@FLOATS
@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas(loops, formula, dtype):
    for shape in SHAPES:
        for kind in ("mixed", "plain", "spread"):
            assert_replays(FORMULAS[formula], *pairs(shape, dtype=dtype, kind=kind), dtype)


@FLOATS
def test_three_dimensions(loops, dtype):
    for other in ((2, 3, 4), (3, 4), (4,), (2, 1, 1), (1, 3, 4), (2, 3, 1), (2, 1, 4), (1, 3, 1), (3, 1), ()):
        assert_replays(lambda x, y: x * y, *pairs((2, 3, 4), other, dtype=dtype), dtype)
        assert_replays(lambda x, y: np.maximum(y, x.mT[..., :1].mT), *pairs((2, 3, 4), other, dtype=dtype), dtype)
    assert_replays(lambda x, y: x + y, *pairs((2, 1, 4), (1, 3, 1), dtype=dtype), dtype)
    for view in (lambda x: x[::2, 1:, ::2], lambda x: x.mT, lambda x: np.moveaxis(x, 0, -1), lambda x: x[:, 1]):
        assert_replays(lambda x, view=view: np.sqrt(view(x)), *pairs((3, 4, 6), dtype=dtype), dtype)

    def f(x, state):
        state[:, 1] = x[:, 0]
        state[0, ..., 2] += 3.0
        state[1:, ::2, 1:] *= x[1:, ::2, :-1]
        return state - x

    assert_replays(f, *pairs((3, 4, 5), dtype=dtype), dtype, [draw((3, 4, 5), dtype, 1)])


@FLOATS
def test_more_than_three_dimensions(loops, dtype):
    """Made one part after the other."""
    for other in ((2, 3, 4, 5), (2, 1, 4, 1), (3, 1, 5), (1, 3, 1, 5), (2, 1, 1, 1), ()):
        assert_replays(lambda x, y: x * y, *pairs((2, 3, 4, 5), other, dtype=dtype), dtype)
        assert_replays(lambda x, y: y - x[::-1, ::2].mT.mT[:, :1], *pairs((2, 3, 4, 5), other, dtype=dtype), dtype)
    assert_replays(lambda x: x[::2, ::2, ::2, ::2] + 1, *pairs((3, 3, 3, 3), dtype=dtype), dtype)
    assert_replays(lambda x: x[:, ::2, ::2, ::2, ::2] + 1, *pairs((2, 3, 3, 3, 3), dtype=dtype), dtype)

    def f(x, state):
        state[..., :2] = np.permute_dims(x, (0, 2, 1, 3))
        return state * 2

    assert_replays(f, *pairs((2, 3, 4, 2), dtype=dtype), dtype, [draw((2, 4, 3, 3), dtype, 1)])


@FLOATS
def test_products_of_stacks_of_stacks(loops, dtype):
    for a, b in [
        ((2, 3, 4, 5), (2, 3, 5, 6)),
        ((2, 3, 4, 5), (3, 5, 2)),
        ((3, 1, 5), (2, 1, 5, 4)),
        ((4, 5), (2, 3, 5, 1)),
    ]:
        assert_replays(lambda x, y: x @ y, *pairs(a, b, dtype=dtype), dtype)
        assert_replays(lambda x, y: (y.mT @ x.mT) * 2, *pairs(a, b, dtype=dtype), dtype)


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "bool", "float16"])
def test_other_dtypes_with_loops_of_their_own(loops, dtype):
    """A trace takes what NumPy does without a conversion, whatever the dtype of its kernels."""
    first, second = ([np.asarray(a).astype(dtype) for a in ([[1, 0, 3]], [[5, 1, 1]], [[0, 7, 2]])] for _ in "ab")
    second[0] = second[2]
    assert_replays(lambda x, y, z: np.maximum(x, y) + z, first, second)


# -- sums and the like --------------------------------------------------------------------------------------------
LENGTHS = (1, 2, 7, 8, 9, 127, 128, 129, 1000, 10007)
KINDS = ("plain", "spread", "zeros", "negative zeros", "nan", "inf", "both")
REDUCED = [np.sum, np.max, np.min, np.mean]
reduced = pytest.mark.parametrize("function", REDUCED, ids=lambda f: f.__name__)


@FLOATS
@reduced
def test_reductions_of_a_vector(loops, function, dtype):
    for n in LENGTHS:
        for kind in KINDS:
            for keepdims in (False, True):
                for axis in (-1, 0, None):
                    numbers = pairs(n, dtype=dtype, kind=kind)
                    assert_replays(lambda x, a=axis, k=keepdims: function(x, axis=a, keepdims=k), *numbers, dtype)


@FLOATS
@reduced
@pytest.mark.parametrize("keepdims", [False, True])
def test_reductions_of_a_matrix(loops, function, dtype, keepdims):
    def f(x, axis):
        return function(x, axis=axis, keepdims=keepdims)

    shapes = [(1, n) for n in LENGTHS] + [(n, 1) for n in LENGTHS] + [(3, n) for n in LENGTHS[1:]]
    shapes += [(n, 3) for n in LENGTHS[1:]] + [(32, 10), (128, 256), (129, 127), (2, 8), (8, 2), (16, 16)]
    for shape in shapes:
        for kind in KINDS if max(shape) < 1000 else ("spread", "negative zeros"):
            for axis in (-1, -2, 0, 1, None, (0, 1)):
                assert_replays(functools.partial(f, axis=axis), *pairs(shape, dtype=dtype, kind=kind), dtype)


@FLOATS
@reduced
def test_reductions_of_three_dimensions(loops, function, dtype):
    for shape in ((2, 3, 4), (5, 1, 9), (1, 17, 20), (4, 30, 1), (1, 1, 1), (3, 64, 65)):
        for axis in (-1, (-2, -1), (1, 2), 0, (0, 1), 1, None):
            for kind in ("spread", "negative zeros", "nan"):
                numbers = pairs(shape, dtype=dtype, kind=kind)
                assert_replays(lambda x, a=axis: function(x, axis=a), *numbers, dtype)


@FLOATS
def test_reductions_into_given_arrays(loops, dtype):
    def f(x, column, row, flat):
        np.add.reduce(x, axis=-1, keepdims=True, out=column)
        np.add.reduce(x, axis=-2, keepdims=True, out=row)
        np.maximum.reduce(x, axis=0, out=flat[1:-1])
        return np.multiply.reduce(x, axis=-1) + np.add.reduce(x, axis=-1)

    for m, n in ((1, 1), (1, 9), (9, 1), (33, 130)):
        fixed = [np.zeros((m, 1), dtype), np.zeros((1, n), dtype), np.zeros(n + 2, dtype)]
        assert_replays(f, *pairs((m, n), dtype=dtype, kind="spread"), dtype, fixed)


# -- products of matrices -----------------------------------------------------------------------------------------
@FLOATS
@pytest.mark.parametrize("a_turned", [False, True], ids=["a", "a.mT"])
@pytest.mark.parametrize("b_turned", [False, True], ids=["b", "b.mT"])
@pytest.mark.parametrize("into", ["new", "given", "turned", "part"])
def test_products(loops, dtype, a_turned, b_turned, into):
    def f(a, b, *given):
        a, b = a.mT if a_turned else a, b.mT if b_turned else b
        if into == "new":
            return a @ b
        out = {"given": lambda g: g, "turned": lambda g: g.mT, "part": lambda g: g[1:-1, 2:]}[into](given[0])
        np.matmul(a, b, out=out)
        return out * 1.0

    sizes = [(m, k, n) for m in (1, 2, 7) for k in (1, 3, 8) for n in (1, 2, 5)] + [(32, 784, 10), (33, 65, 129)]
    for m, k, n in sizes:
        numbers = pairs((k, m) if a_turned else (m, k), (n, k) if b_turned else (k, n), dtype=dtype, kind="spread")
        shape = {"turned": (n, m), "part": (m + 2, n + 2)}.get(into, (m, n))
        assert_replays(f, *numbers, dtype, [] if into == "new" else [np.zeros(shape, dtype)])


@FLOATS
def test_products_of_a_matrix_by_itself(loops, dtype):
    """Of which OpenBLAS makes one half."""
    for shape in [*SHAPES, (300, 17)]:
        numbers = pairs(shape, dtype=dtype, kind="spread")
        for f in (lambda x: x.mT @ x, lambda x: x @ x.mT, lambda x: (x @ x.mT) @ x):
            with ONE_THREAD:  # as in a fit
                assert_replays(f, *numbers, dtype)
    assert_replays(lambda x: x @ x, *pairs((9, 9), dtype=dtype), dtype)


@FLOATS
def test_products_of_slices(loops, dtype):
    for view in (lambda x: x[::2], lambda x: x[:, ::2], lambda x: x[::-1], lambda x: x[:, 1:], lambda x: x[1:2, 1:2]):
        numbers = pairs((8, 12), dtype=dtype, kind="spread")
        assert_replays(lambda x, view=view: view(x) @ view(x * 2).mT, *numbers, dtype)


@FLOATS
def test_stacked_products(loops, dtype):
    for k, m, n, p in ((1, 2, 3, 4), (3, 1, 5, 2), (4, 6, 1, 1), (2, 7, 8, 9)):
        for shapes in (((k, m, n), (k, n, p)), ((k, m, n), (n, p)), ((m, n), (k, n, p)), ((1, m, n), (k, n, p))):
            assert_replays(lambda a, b: a @ b, *pairs(*shapes, dtype=dtype, kind="spread"), dtype)
        numbers = pairs((k, m, n), (k, p, n), dtype=dtype, kind="spread")
        assert_replays(lambda a, b: (a @ b.mT) @ b, *numbers, dtype)
        assert_replays(lambda a, b: a.mT @ a, *numbers, dtype)
        assert_replays(
            lambda a, b, o: np.matmul(a[0], b[0].mT, out=o[-1]) * 1, *numbers, dtype, [np.zeros((2, m, p), dtype)]
        )


# -- assignments and arrays like others ---------------------------------------------------------------------------
@FLOATS
def test_assignments(loops, dtype):
    def f(x, state):
        y = np.empty_like(x)
        y[...] = x * 2
        y[1:3, ...] = x[:2]
        y[0, ...] = 3.5
        y[:, 1] = x[:, 0]
        y[-1] = state[0]
        y[2, 0] = -1
        y[3:4, 2:] = x[3:4, :-2]
        state[...] = x + y
        state[:, ::2] = 7
        state[1, 1] = x[0, 1:2].reshape(())
        state[None, 0, ..., 2] = y[0, 2:3]
        state[2] = y.mT[:, 3]
        return y

    assert_replays(f, *pairs((5, 4), dtype=dtype), dtype, [draw((5, 4), dtype, 1)])


@FLOATS
def test_arrays_like_others_begin_anew_at_each_step(loops, dtype):
    def f(x):
        y, z, ones = np.zeros_like(x), np.full_like(x, 0.3), np.ones_like(x, shape=(1, x.shape[1]))
        total = np.zeros_like(x, shape=(x.shape[0], 1))
        for k in range(3):
            y += x
            z *= 1.5
            ones += k
            total += np.sum(x, axis=-1, keepdims=True)
        whole = np.full_like(x, 2, dtype=dtype, shape=(3,))
        whole *= 2
        return y + z * ones - total * whole[:1]

    for shape in SHAPES:
        assert_replays(f, *pairs(shape, dtype=dtype), dtype)


@FLOATS
def test_places_of_the_largest(loops, dtype):
    rows = [[1, 3, 3], [np.nan, 9, np.nan], [0.0, -0.0, 0.0], [-np.inf] * 3, [2, np.nan, np.inf], [-5, -7, -1]]
    first = np.asarray(rows, dtype)
    for second in (first[::-1].copy(), first[:, ::-1].copy(), -first):
        assert_replays(lambda x: np.argmax(x, axis=-1), [first], [second], dtype)
    for shape in [*SHAPES, (2, 3, 4)]:
        assert_replays(lambda x: np.argmax(x, axis=-1), *pairs(shape, dtype=dtype), dtype)
        hits = pairs(shape, dtype=dtype)
        assert_replays(lambda x: (np.argmax(x, axis=-1) == np.argmax(-x, axis=-1)).astype(dtype), *hits, dtype)


# -- many steps ---------------------------------------------------------------------------------------------------
@FLOATS
def test_many_steps(loops, dtype):
    """State goes from step to step; rows come from, and results go to, another place in each."""

    def step(x, rate, out, state, sums):
        state *= 0.9
        state += x.mT @ x
        scratch = np.zeros_like(x)
        scratch += x * rate
        out[...] = np.tanh(scratch @ state)
        sums += np.sum(scratch, axis=-2, keepdims=True)

    count, m, n = 9, 5, 4
    x, rates = draw((count, m, n), dtype, 1, "plain"), draw((count, 1), dtype, 2, "plain")
    expected, held = np.zeros((count, m, n), dtype), [np.zeros((n, n), dtype), np.zeros((1, n), dtype)]
    for k in range(count):
        step(x[k], rates[k], expected[k], *held)
    tracing = [draw((m, n), dtype, 5), draw((1,), dtype, 6), np.zeros((m, n), dtype)]
    made, own = make_trace(dtype), [np.zeros((n, n), dtype), np.zeros((1, n), dtype)]
    with np.errstate(all="ignore"):
        step(*map(made.moving, tracing), *map(made.fixed, own))
    made.finish()
    for parts in ([count], [1] * count, [4, 0, 5]):
        out, done = np.full((count, m, n), np.nan, dtype), 0
        for a in own:
            a[...] = 0.0
        for part in parts:
            made.play(part, [(a[done:].ctypes.data, a.strides[0]) for a in (x, rates, out)])
            done += part
        assert_same(out, expected)
        for a, b in zip(own, held, strict=True):
            assert_same(a, b)
    for a, b in zip(own, held, strict=True):
        a[...], b[...] = 0.0, 0.0
    for k in range(count):  # rows from the last, and one rate for all
        step(x[-1 - k], rates[0], expected[k], *held)
    made.play(count, [(x[-1:].ctypes.data, -x.strides[0]), (rates.ctypes.data, 0), (out.ctypes.data, out.strides[0])])
    assert_same(out, expected)


def test_no_steps_and_no_moving_arrays(loops):
    state = np.ones(3, F4)
    made = make_trace()
    traced = made.fixed(state)
    traced *= 2
    made.finish()
    made.play(0, [])
    assert state.tolist() == [2, 2, 2]
    made.play(3, [])
    assert state.tolist() == [16, 16, 16]


def test_each_moving_array_needs_a_place(loops):
    made = make_trace()
    x = made.moving(np.ones(3, F4))
    x + 1
    made.finish()
    with pytest.raises(ValueError, match="reshape"):
        made.play(1, [])


def test_playing_leaves_no_complaint_to_others(loops):
    """Loops of NumPy raise flags of the processor, of which the next function would tell."""
    made = make_trace()
    x = np.full(100, 1e30, F4)
    with np.errstate(over="ignore"):
        made.moving(x) * 1e30
    made.finish()
    made.play(1, places_of([x]))
    with np.errstate(all="raise"):
        np.add(np.ones(3, F4), 1.0)


# -- what is refused ----------------------------------------------------------------------------------------------
class Given:
    """Arrays of a trace on which to try something."""

    def __init__(self):
        self.trace = make_trace()
        self.x = np.arange(24, dtype=F4).reshape(6, 4)
        self.m = self.trace.moving(self.x)
        self.square = self.trace.fixed(np.ones((4, 4), F4))
        self.o = self.trace.fixed(np.ones((6, 4), F4))
        self.wide = self.trace.fixed(np.ones((6, 4), F8))
        self.half = self.trace.fixed(np.ones((6, 4), np.float16))
        self.cube = self.trace.fixed(np.ones((2, 3, 4), F4))
        self.index = self.trace.fixed(np.arange(6))
        self.swapped = self.trace.fixed(np.ones((6, 4), ">f4"))


def assign(a, key, value):
    a[key] = value


def as_index(g):
    return [0, 1, 2][np.argmax(g.m, axis=-1)[:1].reshape(())]


DECISION, OWN_FORM, UNSEEN, CONVERTS = (
    "decision by the value",
    "form of its own|not seen",
    "unseen|not seen",
    "converts",
)
CHOSEN, PLAIN, AXES = "chosen elements", "arrays and plain", "axes|one piece|options"
REFUSED = {
    # decisions
    "float": (lambda g: float(g.m.sum()), DECISION),
    "int": (lambda g: int(g.m.max()), DECISION),
    "bool": (lambda g: bool(g.m.min() > 0), DECISION),
    "if": (lambda g: 1 if g.m.sum() > 0 else 2, DECISION),
    "complex": (lambda g: complex(g.m.sum()), DECISION),
    "index": (as_index, DECISION),
    "item": (lambda g: g.m.sum().item(), DECISION),
    "item of many": (lambda g: g.m.item(3), DECISION),
    "tolist": (lambda g: g.m.tolist(), DECISION),
    # what belongs to nobody, or was not seen
    "chosen by truths": (lambda g: assign(g.o, g.m > 0, 0.0), CHOSEN),
    "chosen by numbers": (lambda g: assign(g.o, np.asarray([0, 1]), 0.0), CHOSEN),
    "chosen by a list": (lambda g: assign(g.o, (0, [1, 2]), 0.0), CHOSEN),
    "chosen by traced places": (lambda g: assign(g.o, (slice(None), np.argmax(g.m, axis=-1)), 0.0), CHOSEN),
    "a plain array": (lambda g: g.m * np.ones(4, F4), UNSEEN),
    "a plain array first": (lambda g: np.ones(4, F4) - g.m, UNSEEN),
    "a plain array assigned": (lambda g: assign(g.o, ..., np.ones(4, F4)), UNSEEN),
    "into a plain array": (lambda g: np.add(g.m, 1, out=np.ones((6, 4), F4)), UNSEEN),
    "a plain factor": (lambda g: g.m @ np.ones((4, 2), F4), UNSEEN),
    "a product into a plain array": (lambda g: np.matmul(g.m, g.square, out=np.ones((6, 4), F4)), UNSEEN),
    "a sum into a plain array": (lambda g: np.add.reduce(g.m, axis=0, out=np.ones(4, F4)), UNSEEN),
    "a plain result": (lambda g: g.m + np.asarray(g.m) * 2, UNSEEN),
    "a plain result assigned": (lambda g: assign(g.o, ..., np.asarray(g.m) * 2), UNSEEN),
    "a copy": (lambda g: g.m.copy() + 1, UNSEEN),
    "a copy in one piece": (lambda g: assign(g.square, ..., np.ascontiguousarray(g.m[:4].mT)), UNSEEN),
    "a copy by its shape": (lambda g: g.m.mT.reshape(-1) + 1, UNSEEN),
    "chosen rows": (lambda g: g.m[[0, 1]] + 1, "chosen elements"),
    "rows by traced numbers": (lambda g: g.m[g.index] + 1, "chosen elements"),
    "sort": (lambda g: np.sort(g.m) * 2, UNSEEN),
    "concatenate": (lambda g: assign(g.o, ..., np.concatenate([g.m[:3], g.m[3:]]) * 2), UNSEEN),
    "where": (lambda g: g.m + np.where(g.m > 0, g.m, 0.0) * 2, UNSEEN),
    "take": (lambda g: np.take(g.m, [0, 1], axis=0) * 2, UNSEEN),
    "dot": (lambda g: np.dot(g.m, g.square) * 2, UNSEEN),
    "einsum": (lambda g: g.m + np.einsum("ij,jk->ik", g.m, g.square) * 2, UNSEEN),
    "a scalar of NumPy's": (lambda g: g.m * np.float32(2), PLAIN),
    "a wide scalar of NumPy's": (lambda g: g.m * np.float64(2), PLAIN),
    "a truth": (lambda g: g.m * True, PLAIN),
    "a list": (lambda g: np.add(g.m, [1.0, 2.0, 3.0, 4.0]), PLAIN),
    "no trace": (lambda g: g.x.view(Traced) + 1, "belongs to no trace"),
    "no trace, assigned": (lambda g: assign(g.x.view(Traced), ..., 1.0), "belongs to no trace"),
    # forms of functions
    "cumsum": (lambda g: np.cumsum(g.m, axis=0) * 2, OWN_FORM),
    "cumsum into": (lambda g: np.cumsum(g.m, axis=0, out=g.o), OWN_FORM),
    "accumulate": (lambda g: np.add.accumulate(g.m), OWN_FORM),
    "outer": (lambda g: np.add.outer(g.m, g.m), OWN_FORM),
    "at": (lambda g: np.add.at(g.o, [0], 1.0), OWN_FORM),
    "reduceat": (lambda g: np.add.reduceat(g.m, [0, 2]), OWN_FORM),
    "where=": (lambda g: np.add(g.m, 1, out=g.o, where=g.m > 0), OWN_FORM),
    "dtype=": (lambda g: np.add(g.m, g.m, dtype=F8), OWN_FORM),
    "order=": (lambda g: np.add(g.m, g.m, order="F"), OWN_FORM),
    "axes=": (lambda g: np.matmul(g.m, g.m, axes=[(0, 1), (1, 0), (0, 1)]), OWN_FORM),
    "modf": (lambda g: np.modf(g.m), OWN_FORM),
    "frexp": (lambda g: np.frexp(g.m), OWN_FORM),
    "divmod": (lambda g: divmod(g.m, 2.0), OWN_FORM),
    "three inputs": (lambda g: np.clip(g.m, 0.0, 1.0), "clip, whose work is not seen"),
    # dtypes
    "two dtypes": (lambda g: g.m * g.wide, CONVERTS),
    "a half": (lambda g: g.m * g.half, CONVERTS),
    "whole numbers": (lambda g: g.m[:, 0] * g.index, CONVERTS),
    "truths": (lambda g: g.m * (g.m > 0), CONVERTS),
    "a root of whole numbers": (lambda g: np.sqrt(g.index), CONVERTS),
    "into another dtype": (lambda g: np.add(g.m, g.m, out=g.wide), CONVERTS),
    "assigned to another dtype": (lambda g: assign(g.wide, ..., g.m), CONVERTS),
    "the other byte order": (lambda g: g.swapped + 1, CONVERTS),
    "astype": (lambda g: g.m.astype(F8), "a conversion"),
    "astype the same": (lambda g: g.m.astype(F4), "a conversion"),
    "astype of truths to another": (lambda g: (g.m > 0).astype(F8), "a conversion"),
    "astype of truths in no piece": (lambda g: (g.m > 0)[:, ::2].astype(F4), "a conversion"),
    "a product of two dtypes": (lambda g: g.m @ g.wide.mT, "several dtypes"),
    "a sum in another dtype": (lambda g: np.sum(g.m, dtype=F8), AXES),
    "a sum of whole numbers": (lambda g: np.sum(g.index), AXES),
    "a sum of truths": (lambda g: np.logical_or.reduce(g.m > 0), AXES),
    "a mean of halves": (lambda g: np.mean(g.half), AXES),
    # places
    "over a part": (lambda g: assign(g.o, slice(1, None), np.add(g.o[1:], g.o[:-1], out=g.o[1:])), "part of what"),
    "over a part, assigned": (lambda g: assign(g.o, slice(1, None), g.o[:-1]), "part of what"),
    "over itself, turned": (lambda g: np.add(g.square, g.square.mT, out=g.square), "part of what"),
    "over itself, backwards": (lambda g: assign(g.o, ..., g.o[::-1]), "part of what"),
    "over its row": (lambda g: np.add(g.o, g.o[0], out=g.o), "part of what"),
    "a product over itself": (lambda g: np.matmul(g.m, g.square, out=g.m), "over what it reads"),
    "moving twice": (lambda g: g.trace.moving(g.x[1:]), "one memory"),
    "fixed, then moving": (lambda g: g.trace.moving(untraced(g.o)), "one memory"),
    # shapes
    "vectors": (lambda g: g.m[0] @ g.m[1], "other than matrices"),
    "a matrix and a vector": (lambda g: g.m @ g.square[0], "other than matrices"),
    "an empty product": (lambda g: g.m[:0] @ g.square, "other than matrices"),
    "vecdot": (lambda g: np.vecdot(g.m, g.m), "other than matrices"),
    "first and last": (lambda g: np.sum(g.cube, axis=(0, 2)), AXES),
    "turned": (lambda g: np.sum(g.m.mT, axis=0), AXES),
    "with gaps": (lambda g: np.max(g.m[:, ::2], axis=0), AXES),
    "initial=": (lambda g: np.max(g.m, initial=0.0), AXES),
    "sum of some": (lambda g: np.sum(g.m, where=g.m > 0), AXES),
    "a sum in another dtype, by halves": (lambda g: np.sum(g.m, dtype=np.float16), AXES),
    "a mean in another dtype": (lambda g: np.mean(g.m, dtype=F8), AXES),
    "sum of nothing": (lambda g: np.sum(g.m[:0]), AXES),
    "sum of a number": (lambda g: np.sum(np.sum(g.m)), AXES),
    "argmax of columns": (lambda g: np.argmax(g.m, axis=0), "argmax of other"),
    "argmax of all": (lambda g: np.argmax(g.m), "argmax of other"),
    "argmax of a vector": (lambda g: np.argmax(g.m[0], axis=-1), "argmax of other"),
    "argmax of another dtype": (lambda g: np.argmax(g.wide, axis=-1), "argmax of other"),
    "argmax of a turned array": (lambda g: np.argmax(g.m.mT, axis=-1), "argmax of other"),
    # kernels
    "a kernel of turned arrays": (lambda g: g.trace.kernel("relu", g.m.mT, g.o.mT), "in one piece"),
    "a kernel of a plain array": (lambda g: g.trace.kernel("relu", g.x.ravel(), g.o.reshape(-1)), "in one piece"),
    "a kernel and a number": (lambda g: g.trace.kernel("relu", g.m.reshape(-1), 0.5), "in one piece"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    """Wrongly traced it would give wrong numbers later, and say nothing."""
    what, why = REFUSED[name]
    with np.errstate(all="ignore"), pytest.raises(TraceError, match=why):
        what(Given())


@pytest.mark.parametrize("label", [-1, 3, 10**9])
def test_labels_that_do_not_exist_are_refused(label):
    made = make_trace()
    rows, labels = made.fixed(np.zeros((2, 3), F4)), made.moving(np.asarray([0, label]))
    with pytest.raises(TraceError, match="refuses its input"):
        made.kernel("one_hot", rows, labels)
    with pytest.raises(TraceError, match="refuses its input"):
        made.kernel("sum_rows", made.fixed(np.ones((3, 3), F4)), rows, labels, 2)
    z, totals, picked = (made.fixed(np.ones(s, F4)) for s in ((2, 3), 2, 2))
    with pytest.raises(TraceError, match="refuses its input"):
        made.kernel("probabilities", rows, labels, z, totals, picked)


def test_a_function_without_a_loop_is_refused(monkeypatch):
    monkeypatch.setattr(traces, "inner_loop", lambda ufunc, dtypes: None)
    with pytest.raises(TraceError, match="add of float32, float32, float32"):
        make_trace().moving(np.ones(3, F4)) + 1


def into(o, value):
    o[...] = value
    return o


def then(o, nothing):
    """What was done without a result, counts as it is seen in `o`."""
    return o * 1


def scaled_by_hand(m):
    t = m * 2
    for k in range(len(t)):
        t[k] *= 3
    return t


# Of a moving array `m` and a fixed one `o`, both of shape (6, 4).  What the trace sees, it has rightly; where it would
# miss something, it refuses.
SOUND = {
    "a number taken out": lambda m, o: m * float(m[2, 1]),
    "a number taken out and assigned": lambda m, o: into(o, m[2, 1]),
    "a number filled in": lambda m, o: np.full_like(o, m[2, 1]),
    "numbers of a row": lambda m, o: into(o, sum(float(v) for v in m[1])),
    "a decision by a number": lambda m, o: m * 2 if m[0, 0] > 0 else m * 3,
    "where": lambda m, o: into(o, np.where(m > 0, m, -m)),
    "round": lambda m, o: np.round(m),
    "round to tenths": lambda m, o: np.round(m, 1),
    "clip into": lambda m, o: np.clip(m, -1.0, 1.0, out=o),
    "var": lambda m, o: np.var(m, axis=-1, keepdims=True) + m,
    "std": lambda m, o: np.std(m) + m,
    "norm": lambda m, o: np.linalg.norm(m) * m,
    "prod": lambda m, o: np.prod(m, axis=0) + m,
    "swapped axes": lambda m, o: np.swapaxes(m, 0, 1) + 1,
    "broadcast": lambda m, o: np.broadcast_to(m[:1], m.shape) * m,
    "diagonal": lambda m, o: np.diagonal(m) + 1,
    "moveaxis": lambda m, o: np.moveaxis(m, 0, 1) * 2,
    "reshape": lambda m, o: np.reshape(m, (3, 8)) * 2,
    "ravel": lambda m, o: np.ravel(m) * 2,
    "expand": lambda m, o: np.expand_dims(m, 0) * 2,
    "squeeze": lambda m, o: np.squeeze(m[:1]) * 2,
    "row by row": lambda m, o: scaled_by_hand(m),
    "by a NumPy integer": lambda m, o: m / np.int64(3),
    "by a large NumPy integer": lambda m, o: m / np.int64(-(2**40 + 1)),
    "a big number": lambda m, o: m * 1e300,
    "a big whole number": lambda m, o: m + (2**53 + 1),
    "a truth assigned": lambda m, o: into(o, True),
    "a big number assigned": lambda m, o: into(o, 2**70),
    "copyto": lambda m, o: then(o, np.copyto(o, m)),
    "put": lambda m, o: then(o, np.put(o, [1, 2], m[0, :2])),
    "putmask": lambda m, o: then(o, np.putmask(o, m > 0, m)),
    "place": lambda m, o: then(o, np.place(o, np.asarray(m) > 0, [7.0])),
    "fill diagonal": lambda m, o: then(o, np.fill_diagonal(o, m[:, 0])),
    "put along an axis": lambda m, o: then(o, np.put_along_axis(o, np.argsort(m, axis=-1), m, -1)),
    "fill": lambda m, o: then(o, (np.add(o, m, out=o), o.fill(2.0))),
    "sort in place": lambda m, o: then(o, (into(o, m), o.sort())),
    "partition in place": lambda m, o: then(o, (into(o, m), o.partition(2))),
    "put in place": lambda m, o: then(o, o.put([0], m[1, :1])),
    "bytes swapped in place": lambda m, o: then(o, (into(o, m), o.byteswap(inplace=True))),
    "flat": lambda m, o: then(o, operator.setitem(o.flat, slice(3, 5), m[1, :2])),
    "dot into": lambda m, o: then(o, np.dot(m, m[:4], out=o)),
    "dot method into": lambda m, o: then(o, m.dot(m[:4], out=o)),
    "take into": lambda m, o: then(o, np.take(m, [1, 0, 2, 3, 4, 5], axis=0, out=o)),
    "take method into": lambda m, o: then(o, m.take([1, 0, 2, 3, 4, 5], axis=0, out=o)),
    "concatenate into": lambda m, o: then(o, np.concatenate([m[:3], m[3:]], out=o)),
    "stack into": lambda m, o: then(o, np.stack([m[k] for k in range(6)], out=o)),
    "einsum into": lambda m, o: then(o, np.einsum("ij->ij", m * 2, out=o)),
    "choose into": lambda m, o: then(o, np.choose([0, 1, 0, 1], [m, -m], out=o)),
    "compress into": lambda m, o: then(o, np.compress([1] * 6, m, axis=0, out=o)),
    "count of nonzeros": lambda m, o: m * np.count_nonzero(m > 0),
    "equal arrays": lambda m, o: m * (2.0 if np.array_equal(m, abs(m)) else 3.0),
    "close": lambda m, o: m * (2.0 if np.allclose(m, 1e3) else 3.0),
    "argmax method": lambda m, o: m * (int(m.argmax()) + 1),
    "argsort": lambda m, o: into(o, np.argsort(m, axis=-1)[:, :1] * 1.0),
    "isnan": lambda m, o: np.isnan(m).astype(m.dtype),
    "isfinite, all": lambda m, o: m * (1.0 if np.isfinite(m).all() else 0.0),
    "trace": lambda m, o: m * np.trace(m),
    "ptp": lambda m, o: np.ptp(m) * m,
    "median": lambda m, o: np.median(m) * m,
    "cross sums": lambda m, o: np.sum(np.sum(m, axis=0, keepdims=True) * m),
    "real part": lambda m, o: m.real * 2,
    "imaginary part": lambda m, o: m + m.imag,
    "deep copies": lambda m, o: copy.deepcopy(o) * m,
    "a scalar's ravel": lambda m, o: np.sum(m).reshape(1, 1) * m,
    "indicator of rows": lambda m, o: (m.max(axis=-1, keepdims=True) == m).astype(m.dtype) * m,
    "heaviside": lambda m, o: np.heaviside(m, 0.5),
    "logaddexp": lambda m, o: np.logaddexp(m, o),
    "hypot": lambda m, o: np.hypot(m, o),
    "remainder": lambda m, o: m % 3,
    "floor division": lambda m, o: m // 0.7,
    "ldexp": lambda m, o: np.ldexp(m, 2),
    "nextafter": lambda m, o: np.nextafter(m, o),
    "whole numbers": lambda m, o: np.argmax(m, axis=-1) + np.argmax(-m, axis=-1) * 2,
    "a mean of whole numbers": lambda m, o: np.mean(np.argmax(m, axis=-1)),
}


@FLOATS
@pytest.mark.parametrize("name", SOUND)
def test_noted_rightly_or_refused(loops, name, dtype):
    first, second = abs(draw((6, 4), dtype, 1, "plain")), -3 * draw((6, 4), dtype, 2, "plain")
    with contextlib.suppress(TraceError):
        assert_replays(SOUND[name], [first], [second], dtype, [draw((6, 4), dtype, 3, "plain")])


@pytest.mark.parametrize("name", ["sum", "product", "assignment"])
def test_the_other_byte_order_is_refused(loops, name):
    """Loops of NumPy are for the machine's own."""
    f = {"sum": np.sum, "product": lambda x: x @ x.mT, "assignment": lambda x: np.full_like(x, 1.0)}[name]
    with pytest.raises(TraceError):
        assert_replays(f, *pairs((3, 3), dtype=">f4", kind="plain"))


@pytest.mark.parametrize("name", ["relu", "column_sums", "keep_mask"])
def test_kernels_of_another_dtype_than_the_tapes_are_refused(loops, name):
    """The player would read the memory as what it is not."""
    made = make_trace(F4)
    x, y = made.moving(np.ones((4, 6), F8)), made.fixed(np.ones((4, 6), F8))
    keys = [made.fixed(np.ones(1, np.int32)) for _ in "ab"]
    args = {
        "relu": (x.reshape(-1), y.reshape(-1)),
        "column_sums": (x, y[0]),
        "keep_mask": (y.reshape(-1), *keys, keys[0]),
    }[name]
    with pytest.raises(TraceError):
        made.kernel(name, *args)


# -- programs of chance -------------------------------------------------------------------------------------------
def accumulated(x, y):
    t = x * 1.0
    t += y
    t[:1] -= y[:1]
    return t


def assigned(x, y):
    t = np.empty_like(x)
    t[...] = y
    t[-1:, ...] = x[:1]
    t[len(t) // 2, ...] = 0.5
    return t


STEPS = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "divide": lambda x, y: x / (abs(y) + 0.5),
    "negative": lambda x, y: -x,
    "tanh": lambda x, y: np.tanh(x) * 2,
    "exp": lambda x, y: np.exp(-abs(x)),
    "root": lambda x, y: np.sqrt(x * x + 1.0),
    "maximum": lambda x, y: np.maximum(x, y),
    "positive": lambda x, y: (x > y).astype(x.dtype) - 0.5,
    "row sums": lambda x, y: x - np.sum(y, axis=-1, keepdims=True),
    "column means": lambda x, y: x + np.mean(y, axis=-2, keepdims=True),
    "row maximum": lambda x, y: x - np.max(x, axis=-1, keepdims=True),
    "total": lambda x, y: x * (1.0 / (np.sum(y * y) + 1.0)),
    "product": lambda x, y: np.tanh(x @ y.mT) @ x,
    "gram": lambda x, y: y @ np.tanh(x.mT @ x),
    "in place": accumulated,
    "assigned": assigned,
    "softplus": lambda x, y: special.softplus(x, xp=np),
    "softmax": lambda x, y: special.softmax(x, xp=np),
    "backwards": lambda x, y: x[::-1] * y,
    "row and column": lambda x, y: x[:1] * y[:, :1],
}


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([F4, F8]),
    st.integers(0, 1000),
)
def check_programs(steps, shape, dtype, seed):
    def f(x, y, state):
        made = [x, y, state]
        for name, i, j in steps:
            made.append(STEPS[name](made[-1 - i % len(made)], made[-1 - j % len(made)]))
        state += made[-1]
        return made[-1] * 0.5

    first, second = ([draw(shape, dtype, seed + k, "plain") for k in range(n, n + 2)] for n in (0, 5))
    assert_replays(f, first, second, dtype, [draw(shape, dtype, seed + 9, "plain")])


def test_programs(loops):
    check_programs()


# -- the loops of NumPy's functions -------------------------------------------------------------------------------
@pytest.fixture
def fresh_cache():
    inner_loop.cache_clear()
    yield
    inner_loop.cache_clear()


LOOP = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)
PLACES = ctypes.c_ssize_t * 8


@FLOATS
@by_name([*UNARY, *BINARY])
def test_inner_loops_are_the_functions(fresh_cache, function, dtype):
    found = inner_loop(function, (dtype,) * function.nargs)
    assert found is not None
    assert (found.name, found.dtype) == (function.__name__, dtype)
    arrays = [draw((n := 37,), dtype, k) for k in range(function.nin)] + [np.zeros(n, dtype)]
    args, dims, steps = (PLACES(*v) for v in ([a.ctypes.data for a in arrays], [n], [dtype.itemsize] * len(arrays)))
    LOOP(found.address)(*map(ctypes.addressof, (args, dims, steps)), found.data)
    with np.errstate(all="ignore"):
        assert_same(arrays[-1], function(*arrays[:-1]))


def test_dtypes_without_a_loop(fresh_cache):
    assert inner_loop(np.exp, (np.dtype(np.int64), F8)) is None
    assert inner_loop(np.add, (F4, F4, F8)) is None
    assert inner_loop(np.add, (F4, F8, F8)) is None
    assert inner_loop(np.greater, (F4, F4, F4)) is None
    assert inner_loop(np.greater, (F4, F4, np.dtype(bool))) is not None
    assert inner_loop(np.matmul, (F4, F4, F4)) != inner_loop(np.matmul, (F8, F8, F8))
    assert inner_loop(np.add, (F4,)) is None
    assert inner_loop(np.add, (F4,) * 4) is None


def test_there_are_no_loops_for_the_other_byte_order(fresh_cache):
    assert inner_loop(np.add, (np.dtype(">f4"),) * 3) is None


def test_there_are_no_loops_for_dtypes_of_large_numbers(fresh_cache):
    text = np.dtypes.StringDType()
    assert inner_loop(np.add, (text,) * 3) is None


def test_a_function_that_lies_otherwise_in_memory_has_no_loop(monkeypatch, fresh_cache):
    class Shifted(ctypes.Structure):
        _fields_ = (
            ("head", ctypes.c_char * (object.__basicsize__ + 4)),
            *inner_loops._UFunc._fields_[1:],
        )

    monkeypatch.setattr(inner_loops, "_UFunc", Shifted)
    assert inner_loop(np.add, (F4,) * 3) is None
    assert inner_loop(np.exp, (F4,) * 2) is None


@pytest.mark.parametrize("field", ["nin", "nout", "nargs", "ntypes", "name"])
def test_each_field_that_can_be_checked_is(monkeypatch, fresh_cache, field):
    real = inner_loops._UFunc.from_address(id(np.add))
    fields = {name: getattr(real, name) for name, _ in inner_loops._UFunc._fields_}
    wrong = b"subtract" if field == "name" else 5

    def pretend(**changed):
        read = types.SimpleNamespace(**(fields | changed))
        monkeypatch.setattr(inner_loops, "_UFunc", types.SimpleNamespace(from_address=lambda address: read))
        inner_loop.cache_clear()

    pretend()
    assert inner_loop(np.add, (F4,) * 3) is not None
    pretend(**{field: wrong})
    assert inner_loop(np.add, (F4,) * 3) is None


def test_a_loop_without_an_address_is_none(monkeypatch, fresh_cache):
    real = inner_loops._UFunc.from_address(id(np.add))
    fields = {name: getattr(real, name) for name, _ in inner_loops._UFunc._fields_}
    fields["functions"] = [None] * np.add.ntypes
    read = types.SimpleNamespace(**fields)
    monkeypatch.setattr(inner_loops, "_UFunc", types.SimpleNamespace(from_address=lambda address: read))
    assert inner_loop(np.add, (F4,) * 3) is None


def test_older_numpys_reduce_by_the_contents_of_a_buffer(monkeypatch):
    for buffered, expected in ((True, 8192), (False, 10_007)):
        monkeypatch.setattr(inner_loops, "_BUFFERED", buffered)
        assert inner_loops.most_at_once(10_007) == expected
        assert inner_loops.most_at_once(100) == 100


# -- kernels ------------------------------------------------------------------------------------------------------
def test_the_player_tells_when_other_code_changes(loops):
    """numba would go on with what it compiled before."""
    player = importlib.import_module("xpnn.accel.native.player")
    folder = Path(player.__file__).parent
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest()[:8] for name in player._COMPILED} == (
        player._COMPILED
    )
    others = ["gates.py", "loops.py", "packed.py", "pool.py", "table.py", "threads.py", "vectors.py"]
    assert sorted(player._COMPILED) == others


def test_every_kernel_is_a_function(loops):
    for kind in Kernel:
        others = [importlib.import_module(f"xpnn.accel.native.{name}") for name in ("gates", "packed")]
        assert kind.name.lower() in [name for module in (loops, *others) for name in module.__all__]
        assert callable(getattr(loops, kind.name.lower()))


def kernel_arrays(name, m, n, dtype, seed):
    """Arrays and whole numbers for a kernel."""
    matrix = [draw((m, n), dtype, seed + k) for k in range(3)]
    vectors = [a.reshape(-1) for a in matrix]
    rng = np.random.default_rng(seed)
    labels, row = rng.integers(0, n, m), draw((n,), dtype, seed + 5)
    keys = [rng.integers(-(2**31), 2**31, 1).astype(np.int32) for _ in "ab"]
    scalars = (0.9, ()), (0.99, 1), (1e-7, (1, 1)), (0.01 * seed, ())
    numbers = [np.asarray(value, dtype).reshape(shape) for value, shape in scalars]
    return {
        Kernel.ADAM: lambda: ([*vectors, np.abs(draw((m * n,), dtype, seed + 7)), *numbers], []),
        Kernel.ADAM_BY_PARAMETER: lambda: (
            [
                *(*vectors, np.abs(draw((m * n,), dtype, seed + 7)), draw((m * n,), dtype, seed + 8)),
                *(vectors[1][: m * n // 2 + 1], *numbers, numbers[3]),
            ],
            [m * n // 2 + 1],
        ),
        Kernel.ADD_BIAS: lambda: ([matrix[0], row], []),
        Kernel.ARGMAX: lambda: ([matrix[0], np.full(m, 7)], []),
        Kernel.BIAS_RELU: lambda: ([matrix[0], row], []),
        Kernel.COLUMN_SUMS: lambda: ([matrix[0], row], []),
        Kernel.GATE: lambda: ([*matrix, row, np.abs(matrix[0])], [seed % 8]),
        Kernel.GATE_BACKWARD: lambda: ([*matrix, np.abs(matrix[0]), row, np.abs(matrix[1]), row * 2], [seed % 8]),
        Kernel.GATE_INNER: lambda: (vectors[:2], [seed % 2]),
        Kernel.KEEP_MASK: lambda: ([vectors[0], *keys, np.asarray([10_000 * seed % 65536], np.int32)], []),
        Kernel.NUMBERS: lambda: ([vectors[0], vectors[1] > 0], []),
        Kernel.SUM_ROWS: lambda: ([matrix[0], matrix[1], rng.integers(0, m, m)], [m]),
        Kernel.WHOLE: lambda: ([np.full(m * n, 7), vectors[0] * 100], []),
        Kernel.ONE_HOT: lambda: ([matrix[0], labels], []),
        Kernel.PROBABILITIES: lambda: (
            [np.exp(draw((m, n), dtype, seed, "plain")), labels, matrix[1], *(np.zeros(m, dtype) for _ in "ab")],
            [],
        ),
        Kernel.RELU: lambda: (vectors[:2], []),
        Kernel.RELU_BACKWARD: lambda: (vectors, []),
        Kernel.RELU_BACKWARD_OVER: lambda: (vectors[:2], []),
        Kernel.RELU_BACKWARD_SUMS: lambda: ([*matrix[:2], row], []),
        Kernel.RELU_OVER: lambda: (vectors[:1], []),
        Kernel.SHIFTED: lambda: (matrix[:2], []),
        Kernel.TABLE_BACKWARD: lambda: (table_arrays(matrix[0], dtype, rng, back=True), []),
        Kernel.TABLE_FORWARD: lambda: (table_arrays(matrix[0], dtype, rng, back=False), []),
        Kernel.TAKE_ROWS: lambda: (
            [*(a.view(np.uint8) for a in (matrix[0][: 2 * m // 3 + 1], matrix[1])), labels_of(rng, m)],
            [m],
        ),
    }[name]()


def table_arrays(y, dtype, rng, *, back):
    """Packed rows of a number, a code of three bins and three categories, behind two features; factors are learned."""
    m, n = y.shape
    head = [3, 1, 2, 4, 9, int(back)]
    layout = np.array([*head, *(3, 6, 2), *(3, 3, 1), *(1, -1, 0), *(2, 3, -1)])
    packed = np.stack([rng.normal(size=m), rng.random(m), rng.integers(0, 3, m), rng.integers(-1, 3, m)], axis=1)
    weight, other = (rng.normal(size=(9, n)).astype(dtype) for _ in "ab")
    scale, d_scale = (rng.normal(size=9).astype(dtype) for _ in "ab")
    return [y, packed.astype(dtype), weight, other, scale, *([d_scale] if back else []), layout]


def labels_of(rng, m):
    """Numbers of some of `m` rows, in any order and more than once."""
    return rng.integers(0, m, 2 * m // 3 + 1)


def threads_for(loops, kind, pool):
    """The threads, if a kernel takes some."""
    kernel = getattr(loops, kind.name.lower())
    return (pool,) if "pool" in inspect.signature(getattr(kernel, "py_func", kernel)).parameters else ()


def call(loops, kind, pool, arrays, numbers):
    whole = {Kernel.ADAM: 4, Kernel.ADAM_BY_PARAMETER: 6}.get(kind, len(arrays))
    arrays = [*arrays[:whole], *(float(a.reshape(())) for a in arrays[whole:])]
    getattr(loops, kind.name.lower())(*threads_for(loops, kind, pool), *arrays, *numbers)


@FLOATS
@pytest.mark.parametrize("kind", Kernel, ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("parts", [1, 7])
def test_every_kernel_is_played(loops, kind, dtype, parts):
    """Each array moves; what it then holds is what the kernel itself makes of the same numbers."""
    pool = NO_POOL if parts == 1 else IMITATED
    shapes = [(1, 1), (1, 9), (9, 1), (5, 3), (33, 12), (4, 127)] if parts == 1 else [(400, 200), (401, 199)]
    for m, n in shapes:
        first, numbers = kernel_arrays(kind, m, n, dtype, 1)
        steps = [kernel_arrays(kind, m, n, dtype, seed)[0] for seed in (4, 9, 2)]
        made = make_trace(dtype, pool)
        traced = [made.moving(a.copy()) for a in first]
        getattr(TracedLoops(loops, made), kind.name.lower())(*threads_for(loops, kind, pool), *traced, *numbers)
        made.finish()
        call(loops, kind, pool, first, numbers)
        for a, b in zip(traced, first, strict=True):
            assert_same(untraced(a), b)
        together = [np.stack(arrays) for arrays in zip(*steps, strict=True)]
        made.play(len(steps), [(a.ctypes.data, a.strides[0]) for a in together])
        for k, arrays in enumerate(steps):
            call(loops, kind, pool, arrays, numbers)
            for a, b in zip(together, arrays, strict=True):
                assert_same(a[k], b)


def test_kernels_that_no_trace_holds_are_refused(loops):
    made = make_trace()
    tracing = TracedLoops(loops, made)
    assert tracing.MAX_CLASSES == loops.MAX_CLASSES
    with pytest.raises(AttributeError):
        tracing.nothing  # noqa: B018
    x = made.moving(np.ones((3, 70), F4))
    other = TracedLoops(types.SimpleNamespace(other=lambda x: x), made)
    with pytest.raises(TraceError, match="other, which no trace holds"):
        other.other(x)


@FLOATS
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.99999])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 5), (32, 10), (33, 129), (128, 256), (301, 299)])
def test_masks(fast, dtype, rate, shape):
    for key in ((0, 0), (-1, 2**31 - 1), (-(2**31), 12345), StepKey(3, 7)[2]):
        arrays = tuple(np.asarray([k], np.int32) for k in key)
        for pair in (key, arrays):
            mask = fast.keep_mask(shape, rate, pair, dtype)
            assert type(mask) is np.ndarray
            assert_same(mask, PORTABLE.keep_mask(shape, rate, pair, dtype))
        limit = np.asarray([keep_threshold(rate)], np.int32)
        assert_same(fast.keep_mask(shape, limit, arrays, dtype), PORTABLE.keep_mask(shape, rate, key, dtype))


def test_masks_of_replicas_by_their_thresholds(fast):
    key = tuple(np.asarray(half, np.int32) for half in ([[1], [-2], [3]], [[3], [4], [5]]))
    limits = keep_thresholds([[0.3], [0.0], [0.9]])
    masks = fast.keep_mask((3, 5, 4), limits, key, F4)
    assert_same(masks, PORTABLE.keep_mask((3, 5, 4), [0.3, 0.0, 0.9], key, F4))
    assert (masks[1] == 1.0).all()


def test_masks_that_are_left_to_others(fast):
    """Of replicas, of nothing, of other dtypes, of rates of their own."""
    one, two = (5, -6), ([[1], [-2]], [[3], [4]])
    for shape, rate, key, dtype in (
        ((2, 5, 4), 0.3, two, F4),
        ((2, 5, 4), [0.3, 0.0], two, F4),
        ((0, 4), 0.3, one, F4),
        ((4, 0), 0.3, one, F4),
        ((5, 4), 0.3, one, np.dtype(np.float16)),
    ):
        assert_same(fast.keep_mask(shape, rate, key, dtype), PORTABLE.keep_mask(shape, rate, key, dtype))


@FLOATS
@pytest.mark.parametrize("n", [1, 2, 10, 130])
@pytest.mark.parametrize("batch", [1, 7, 32])
def test_one_hot_rows(fast, dtype, n, batch):
    like = np.zeros((batch, n), dtype)
    labels = np.random.default_rng(n).integers(0, n, batch)
    for own in (labels, labels.astype(np.int32), np.repeat(labels, 2)[::2], labels[: batch // 2], labels[:0]):
        assert_same(fast.one_hot(own, like), PORTABLE.one_hot(own, like))
    for wrong in (-1, n, 10**12):  # a row of zeros
        own = labels.copy()
        own[-1] = wrong
        assert_same(fast.one_hot(own, like), PORTABLE.one_hot(own, like))
    stacked = np.zeros((2, batch, n), dtype)
    assert_same(fast.one_hot(labels, stacked), PORTABLE.one_hot(labels, stacked))
    assert_same(fast.one_hot(labels, like[:, ::2]), PORTABLE.one_hot(labels, like[:, ::2]))


# -- operations on traced arrays -----------------------------------------------------------------------------------
@FLOATS
@pytest.mark.parametrize("pool", [NO_POOL, IMITATED], ids=["alone", "in 7 parts"])
def test_tracing_operations(loops, dtype, pool):
    """A step of a small network by the operations themselves, and by a trace: many at once."""
    ops = NumpyOps(np, "cpu")
    ops._loops, ops._pool = loops, pool
    batch, n_in, hidden, classes, count = 140, 20, 500, 10, 5  # enough for the loops to share

    shapes = [(n_in, hidden), (1, hidden), (hidden, classes), (1, classes)]
    edges = np.cumsum([0, *(m * n for m, n in shapes)]).tolist()
    size = edges[-1]

    def step(ops, x, labels, key, numbers, out, values, grads, m, v):
        w1, b1, w2, b2 = (values[a:b].reshape(s) for a, b, s in zip(edges, edges[1:], shapes, strict=False))
        d_w1, d_b1, d_w2, d_b2 = (grads[a:b].reshape(s) for a, b, s in zip(edges, edges[1:], shapes, strict=False))
        y = ops.linear_relu(x, w1, b1)
        mask = ops.keep_mask(y.shape, 0.3, (key[:1], key[1:]), dtype)
        dropped = y * mask
        logits = ops.linear(dropped, w2, b2)
        losses, d = ops.softmax_cross_entropy_labels(logits, labels)
        d += 0.01 * (ops.one_hot(labels, logits) - logits)
        d *= 1 / len(labels)
        d_y = ops.linear_backward(dropped, d, Affine(w2, b2, d_w2, d_b2), need_dx=True)
        d_y *= mask
        ops.linear_relu_backward(x, y, d_y, Affine(w1, b1, d_w1, d_b1), need_dx=False, overwrite=True)
        ops.adam(Update(values, grads), m, v, tuple(numbers[k : k + 1] for k in range(4)))
        out[0:1] = ops.total(losses).reshape(1)
        hits = (np.argmax(logits, axis=-1) == labels).astype(dtype)
        out[1:2] = ops.total(hits).reshape(1)

    rng = np.random.default_rng(0)
    rows = [
        draw((count + 1, batch, n_in), dtype, 1, "plain"),
        rng.integers(0, classes, (count + 1, batch)),
        rng.integers(-(2**31), 2**31, (count + 1, 2)).astype(np.int32),
        np.asarray([[0.9, 0.999, 1e-7, 0.01 / (k + 1)] for k in range(count + 1)], dtype),
    ]
    state = [draw((size,), dtype, 2, "plain") * dtype.type(0.1), *(np.zeros(size, dtype) for _ in range(3))]
    expected, own = np.zeros((count + 1, 2), dtype), [a.copy() for a in state]
    for k in range(count + 1):
        step(ops, *(a[k] for a in rows), expected[k], *own)
    tracing, made = ops.tracing(dtype)
    assert tracing.compiled
    assert ops._loops is loops
    out, mine = np.zeros((count + 1, 2), dtype), [a.copy() for a in state]
    step(tracing, *(made.moving(a[0].copy()) for a in rows), made.moving(out[0:1].reshape(-1)), *map(made.fixed, mine))
    made.finish()
    made.play(count, [(a[1:].ctypes.data, a.strides[0]) for a in (*rows, out)])
    assert_same(out, expected)
    for a, b in zip(mine, own, strict=True):
        assert_same(a, b)


# -- memory -------------------------------------------------------------------------------------------------------
def owner(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def test_moving_arrays_may_go_and_the_tapes_own_stay(loops):
    made = make_trace()
    x, state = np.ones((50, 7), F4), np.zeros((50, 7), F4)
    traced = made.moving(x)
    scratch = np.exp(traced * 2)
    into_state = made.fixed(state)
    into_state[...] = scratch + np.full_like(traced, 0.5)
    moved, kept, held = (weakref.ref(owner(untraced(a))) for a in (traced, scratch, into_state))
    made.finish()
    del x, traced, scratch, into_state, state
    gc.collect()
    assert moved() is None
    assert kept() is not None
    assert held() is not None
    garbage = [np.full((50, 7), np.nan, F4) for _ in range(200)]  # into whatever memory was given back
    second = draw((50, 7), F4, 1, "plain")
    made.play(1, places_of([second]))
    assert_same(held(), np.exp(second * 2) + np.full_like(second, 0.5))
    assert all(np.isnan(a).all() for a in garbage)
    del made
    gc.collect()
    assert kept() is None
    assert held() is None


def test_a_row_of_a_table_moves_within_it(loops):
    """As the trainer's tables do: what moves may be part of an array, and so may what it is used for."""
    table = draw((6, 2, 3), F4, 1, "plain")
    made, out = make_trace(), np.zeros((6, 3), F4)
    row, into_row = made.moving(table[1:2]), made.moving(out[1:2])
    into_row[...] = row[:, 0] * 2 + row[:, 1]
    made.finish()
    made.play(4, [(table[2:].ctypes.data, table.strides[0]), (out[2:].ctypes.data, out.strides[0])])
    expected = table[:, 0] * 2 + table[:, 1]
    expected[0] = 0.0
    assert_same(out, expected)


def test_untraced():
    x = np.ones(3, F4)
    traced = make_trace().moving(x)
    assert type(untraced(traced)) is np.ndarray
    assert np.shares_memory(untraced(traced), x)
    assert untraced(x) is x
    assert untraced(3.0) == 3.0
    assert traced.astype(F4, copy=False) is traced


@FLOATS
@pytest.mark.parametrize("shape", [(300, 200), (1, 40_001), (7, 70_000)])
def test_threads_share_large_loops(loops, dtype, shape):
    """Elements, rows and sums are the same bits, whoever makes which part of them."""

    def work(x, row):
        y = np.exp(x) * row
        y += x
        return y, np.sum(y, axis=-1, keepdims=True), np.sum(y, axis=-2, keepdims=True), np.maximum(y, 0.5)

    draws = [np.random.default_rng(seed).normal(size=shape).astype(dtype) for seed in range(3)]
    row = draws[2][:1] * 0.5
    made = make_trace(dtype, IMITATED)
    results = [untraced(a) for a in work(made.moving(draws[0].copy()), made.fixed(row))]
    made.finish()
    assert made._table[:, Column.SHARED].any()
    for x in draws[1:]:
        made.play(1, [(x.ctypes.data, 0)])
        for found, wanted in zip(results, work(x, row), strict=True):
            assert_same(found, wanted)


@FLOATS
@pytest.mark.parametrize("pool", [NO_POOL, IMITATED], ids=["alone", "in parts"])
def test_gradients_of_a_layer_are_made_at_once(loops, dtype, pool):
    """Two products of one matrix: a part each, and the same bits."""
    ops = NumpyOps(np, "cpu")
    w, bias = draw((64, 128), dtype, 1, "plain"), draw((1, 128), dtype, 2, "plain")
    pairs = [(draw((128, 64), dtype, k, "plain"), draw((128, 128), dtype, k + 9, "plain")) for k in (1, 2, 3)]
    mine, own = ([np.zeros((64, 128), dtype), np.zeros((1, 128), dtype)] for _ in "ab")
    made = make_trace(dtype, pool)
    x, dy = (made.moving(a.copy()) for a in pairs[0])
    dx = untraced(ops.linear_backward(x, dy, Affine(*map(made.fixed, (w, bias, *mine))), need_dx=True))
    made.finish()
    for x, dy in pairs[1:]:
        made.play(1, places_of([x, dy]))
        assert_same(dx, ops.linear_backward(x, dy, Affine(w, bias, *own), need_dx=True))
        for found, wanted in zip(mine, own, strict=True):
            assert_same(found, wanted)
    assert made._table[:, Column.TOGETHER].max() == 2
