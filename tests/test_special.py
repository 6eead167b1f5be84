"""Special functions against math, on every library."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnn.backend import get_backend, to_numpy
from xpnn.errors import DTypeError
from xpnn.special import erf, sigmoid, softmax, softplus

GRID = np.concatenate(
    [
        np.linspace(-8, 8, 40_001),
        np.geomspace(1e-300, 10, 2_000),
        -np.geomspace(1e-30, 10, 2_000),
        [0.46875, np.nextafter(0.46875, 1), -0.46875, np.nextafter(-0.46875, -1), 4.0, -4.0, 6.0, -6.0],
    ]
)
LIBRARIES = {"numpy": "numpy", "strict": "array_api_strict", "torch": "torch"}


@pytest.fixture(params=LIBRARIES)
def library(request):
    pytest.importorskip(LIBRARIES[request.param])
    return request.param


def exact(function, x):
    return np.asarray([function(float(v)) for v in x])


def exact_sigmoid(v):
    return 1 / (1 + math.exp(-v)) if v > -700 else math.exp(v)


def exact_softplus(v):
    return max(v, 0.0) + math.log1p(math.exp(-abs(v)))


@pytest.mark.parametrize(("function", "truth"), [(erf, math.erf), (sigmoid, exact_sigmoid), (softplus, exact_softplus)])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-15)])
def test_accuracy(library, function, truth, dtype, tolerance):
    backend = get_backend(library, dtype)
    host = GRID[np.abs(GRID) > 1e-37].astype(dtype)
    y = function(backend.asarray(host), xp=backend.xp)
    assert y.dtype == backend.dtype
    expected = exact(truth, host)
    error = np.abs(to_numpy(y) - expected) / np.maximum(np.abs(expected), 1.0)
    assert error.max() < tolerance


@pytest.mark.parametrize("function", [erf, sigmoid, softplus, softmax])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strict_gives_numpys_bits(function, dtype):
    pytest.importorskip("array_api_strict")
    numpy, strict = get_backend("numpy", dtype), get_backend("strict", dtype)
    host = GRID.astype(dtype)
    expected = function(numpy.asarray(host), xp=numpy.xp)
    np.testing.assert_array_equal(to_numpy(function(strict.asarray(host), xp=strict.xp)), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes(library, dtype):
    backend = get_backend(library, dtype)
    x = backend.asarray([-math.inf, -1e4, 0.0, 1e4, math.inf, math.nan])
    tiny = 1e-36  # float32's smallest normal number is 1.2e-38
    for function, expected in (
        (erf, [-1.0, -1.0, 0.0, 1.0, 1.0, math.nan]),
        (sigmoid, [0.0, 0.0, 0.5, 1.0, 1.0, math.nan]),
        (softplus, [0.0, 0.0, math.log(2), 1e4, math.inf, math.nan]),
    ):
        y = to_numpy(function(x, xp=backend.xp))
        np.testing.assert_allclose(y, expected, rtol=5e-7, atol=tiny)


def test_erf_is_odd_and_stays_exact_near_zero():
    xp = get_backend("numpy").xp
    x = np.geomspace(1e-300, 6, 1000)
    np.testing.assert_array_equal(erf(-x, xp=xp), -erf(x, xp=xp))
    small = x[x < 0.4]
    np.testing.assert_allclose(erf(small, xp=xp), exact(math.erf, small), rtol=4e-16)


@pytest.mark.parametrize(("dtype", "lowest", "rtol"), [("float32", -87.0, 1e-6), ("float64", -708.0, 1e-15)])
def test_sigmoid_keeps_its_digits_where_it_is_tiny(dtype, lowest, rtol):
    x = np.linspace(lowest, 0, 500).astype(dtype)
    y = sigmoid(x, xp=get_backend("numpy").xp)
    np.testing.assert_allclose(y, exact(exact_sigmoid, x), rtol=rtol)


def test_shapes_are_kept_and_inputs_are_not_written(library):
    backend = get_backend(library, "float64")
    for shape in ((), (3,), (2, 3, 4)):
        host = np.full(shape, 0.7)
        x = backend.asarray(host)
        for function in (erf, sigmoid, softplus):
            assert tuple(function(x, xp=backend.xp).shape) == shape
        np.testing.assert_array_equal(to_numpy(x), 0.7)


@pytest.mark.parametrize("bad", ["int64", "bool"])
def test_erf_needs_floats(library, bad):
    backend = get_backend(library)
    x = backend.xp.ones(3, dtype=getattr(backend.xp, bad), device=backend.device)
    with pytest.raises(DTypeError, match=r"erf: expected float32 or float64, got .*Convert with xp.astype"):
        erf(x, xp=backend.xp)


def test_softmax_of_the_worked_example(library):
    backend = get_backend(library, "float64")
    z = backend.asarray([-1.2, -0.8, 0.3, -0.5, -1.1, 0.2, -0.9, 3.8, -0.4, 0.1])
    s = to_numpy(softmax(z, xp=backend.xp))
    assert s[7] == pytest.approx(0.874, abs=5e-4)
    assert s.sum() == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_sums_to_one_at_any_size(library, axis):
    backend = get_backend(library, "float64")
    host = np.random.default_rng(0).choice([-1e4, -1.0, 0.0, 2.0, 1e4], size=(4, 5, 6))
    s = to_numpy(softmax(backend.asarray(host), xp=backend.xp, axis=axis))
    assert np.isfinite(s).all()
    np.testing.assert_allclose(s.sum(axis=axis), 1.0, rtol=1e-15)
    shifted = to_numpy(softmax(backend.asarray(host + 3.0), xp=backend.xp, axis=axis))
    np.testing.assert_allclose(s, shifted, rtol=1e-12)
