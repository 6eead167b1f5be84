"""Scalers: the textbook numbers, exact constants and state, every library; one-hot and its range check."""

from __future__ import annotations

import json

import array_api_strict as strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from xpnn.backend import to_numpy
from xpnn.data import scaling
from xpnn.data.scaling import MinMax, Standardizer, one_hot
from xpnn.errors import DataError, FileFormatError, LabelError, OptionError, ShapeError

try:
    import torch
except ImportError:
    torch = None
needs_torch = pytest.mark.skipif(torch is None, reason="needs torch: pip install torch")

DEVICE1, NO_FLOAT64 = strict.Device("device1"), strict.Device("no_float64")
LIBRARIES = {
    "numpy": np.asarray,
    "strict-device1": lambda a: strict.asarray(a, device=DEVICE1),
    "strict-no_float64": lambda a: strict.asarray(a, device=NO_FLOAT64),
    "torch": lambda a: torch.asarray(a),
}
SCALERS = [Standardizer, MinMax, lambda: MinMax(-1.0, 1.0)]
values = st.floats(-1e6, 1e6, allow_subnormal=False)
matrices = hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=values)


@pytest.fixture(params=[pytest.param(name, marks=needs_torch if name == "torch" else ()) for name in LIBRARIES])
def asarray(request):
    return LIBRARIES[request.param]


def columns(dtype=np.float64, n=200):
    rng = np.random.default_rng(0)
    return (rng.standard_normal((n, 4)) * [1.0, 1e-3, 1e4, 5.0] + [0.0, 5.0, -1e3, 1e5]).astype(dtype)


def test_the_numbers_are_those_of_scikit_learn():
    X = columns()
    np.testing.assert_allclose(Standardizer().fit_transform(X), StandardScaler().fit_transform(X), atol=1e-9)
    np.testing.assert_allclose(MinMax().fit_transform(X), MinMaxScaler().fit_transform(X), atol=1e-9)
    other = MinMaxScaler((-1, 1)).fit_transform(X)
    np.testing.assert_allclose(MinMax(-1.0, 1.0).fit_transform(X), other, atol=1e-9)


def test_blocks_give_the_statistics_of_the_whole(monkeypatch):
    X = columns()
    whole = Standardizer().fit(X)
    monkeypatch.setattr(scaling, "_BLOCK_ELEMENTS", 28)
    blocks = Standardizer().fit(X)
    np.testing.assert_allclose(blocks.shift, whole.shift, rtol=1e-12)
    np.testing.assert_allclose(blocks.scale, whole.scale, rtol=1e-12)
    with pytest.raises(DataError, match="got nan in row 150, column 2"):
        Standardizer().fit(np.where(np.arange(800).reshape(200, 4) == 602, np.nan, X))


def test_a_large_mean_does_not_swallow_the_spread():
    scaler = Standardizer().fit([[1e9], [1e9 + 1], [1e9 + 2]])
    assert scaler.scale == pytest.approx(np.sqrt(2 / 3), rel=1e-12)


@pytest.mark.parametrize("make", SCALERS)
@given(X=matrices)
@settings(deadline=None)
def test_round_trip(make, X):
    scaler = make().fit(X)
    scaled = scaler.transform(X)
    assert np.isfinite(scaled).all()
    back = scaler.inverse_transform(scaled)
    np.testing.assert_allclose(back, X, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(X).max()))


@given(X=matrices)
@settings(deadline=None)
def test_minmax_stays_in_its_interval(X):
    scaled = MinMax(-1.0, 1.0).fit_transform(X)
    # The centre is a difference of numbers as large as the values: rounding of that size, over the spread.
    slack = 1e-15 * np.abs(X).max(axis=0) / np.maximum(np.ptp(X, axis=0), 1e-300) + 1e-12
    assert (np.abs(scaled) <= 1.0 + 8 * slack).all()


@pytest.mark.parametrize("make", SCALERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 7, 1000])
@pytest.mark.parametrize("value", [0.0, 0.1, -1e30, 1e-40])
def test_constant_columns_become_zero(make, dtype, n, value):
    X = np.full((n, 2), value, dtype=dtype)
    scaler = make().fit(X)
    np.testing.assert_array_equal(scaler.transform(X), np.zeros_like(X))
    np.testing.assert_array_equal(scaler.inverse_transform(np.zeros_like(X)), X)


def test_a_spread_too_small_for_float32_counts_as_constant():
    X = np.array([[0.0], [1e-60]])
    assert np.isfinite(Standardizer().fit(X).transform(X.astype(np.float32))).all()


@pytest.mark.parametrize("make", SCALERS)
def test_every_library_gives_its_own_arrays(make, asarray):
    X = columns(np.float32)
    given_x = asarray(X)
    scaler = make().fit(given_x)
    np.testing.assert_array_equal(scaler.shift, make().fit(X).shift)
    scaled = scaler.transform(given_x)
    back = scaler.inverse_transform(scaled)
    for a in (scaled, back):
        assert type(a) is type(given_x)
        assert a.device == given_x.device
        assert a.dtype == given_x.dtype
    np.testing.assert_allclose(to_numpy(scaled), scaler.transform(X), rtol=1e-6, atol=1e-6)
    # Each of four float32 roundings is relative to the largest number on the way, not to the result.
    largest = np.abs(scaler.shift) + scaler.scale * np.abs(scaler.transform(X)).max(axis=0)
    assert (np.abs(to_numpy(back) - X) <= 4 * np.finfo(np.float32).eps * largest).all()


def test_floating_dtypes_are_kept_and_whole_numbers_become_float32():
    X = np.array([[1, 2], [3, 5]])
    scaler = Standardizer().fit(X)
    assert scaler.transform(X).dtype == np.float32
    assert scaler.transform(X.astype(np.float64)).dtype == np.float64
    assert scaler.transform(X > 1).dtype == np.float32
    assert MinMax().fit_transform(X.astype(np.float16)).dtype == np.float16


def test_targets_and_images_have_a_scale_per_element():
    y = Standardizer().fit([1.0, 2.0, 3.0])
    assert y.shift.shape == ()
    np.testing.assert_allclose(y.inverse_transform(y.transform([5.0])), [5.0])
    images = np.random.default_rng(0).random((10, 4, 3))
    np.testing.assert_allclose(Standardizer().fit_transform(images).std(axis=0), 1.0)


@pytest.mark.parametrize("make", SCALERS)
def test_state_goes_through_json_to_the_last_bit(make):
    X = columns()
    scaler = make().fit(X)
    state = json.loads(json.dumps(scaler.to_dict()))
    copy = type(scaler).from_dict(state)
    np.testing.assert_array_equal(copy.transform(X), scaler.transform(X))
    np.testing.assert_array_equal(copy.fit(2 * X).transform(X), make().fit(2 * X).transform(X))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({}, "expected a state with kind 'minmax', shift and scale, got something else .*KeyError"),
        ({"kind": "standardizer", "shift": [0], "scale": [1]}, "its kind is 'standardizer'"),
        ({"kind": "minmax", "low": 0, "high": 1, "shift": [0, 1], "scale": [1]}, "shift has shape"),
        ({"kind": "minmax", "low": 0, "high": 1, "shift": [0], "scale": [0]}, "scale not positive"),
        ({"kind": "minmax", "low": 0, "high": 1, "shift": ["x"], "scale": [0]}, "could not convert"),
        ({"kind": "minmax", "low": 2, "high": 1, "shift": [0], "scale": [1]}, "expected low < high"),
        ([], r"Pass what to_dict\(\) returned"),
    ],
)
def test_a_state_that_does_not_fit(state, words):
    with pytest.raises(FileFormatError, match=words):
        MinMax.from_dict(state)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda s: s.fit([[1.0, 2.0], [np.nan, 1.0]]),
            DataError,
            "finite numbers, got nan in row 1, column 0. Impute",
        ),
        (lambda s: s.fit([[1.0], [-np.inf]]), DataError, "got -inf in row 1, column 0. Clip or drop"),
        (lambda s: s.fit([1.0, np.nan]), DataError, "got nan in row 1. Impute missing values first"),
        (lambda s: s.fit(np.full((2, 2, 2), np.nan)), DataError, r"got nan in row 0, column \(0, 0\)"),
        (lambda s: s.fit(np.empty((0, 3))), DataError, "fit: expected rows, got none. Fit on the training"),
        (lambda s: s.fit(3.0), ShapeError, r"fit: expected X of shape \(n, ...\), got a single value"),
        (
            lambda s: s.fit([[1e308], [-1e308]]),
            DataError,
            "whose spread fits into float64, got values up to 1e.308",
        ),
        (
            lambda s: s.transform([[1.0]]),
            DataError,
            r"transform: expected a fitted scaler, got a new one. Call fit",
        ),
        (lambda s: s.to_dict(), DataError, "to_dict: expected a fitted scaler"),
        (
            lambda s: s.fit([[1.0, 2.0]]).transform([[1.0]]),
            ShapeError,
            r"expected rows of shape \(n, 2\), as fitted, got \(1, 1\). Pass the same columns",
        ),
        (lambda s: s.fit([[1.0, 2.0]]).inverse_transform(4.0), ShapeError, r"inverse_transform: .*got \(\)"),
        (
            lambda s: s.fit([[1.0]]).transform([[np.nan]]),
            DataError,
            "transform: expected finite numbers, got nan",
        ),
        pytest.param(
            lambda s: s.fit([[1.0]]).transform(torch.asarray([[1.0], [torch.inf]])),
            DataError,
            "transform: expected finite numbers, got inf in row 1, column 0",
            marks=needs_torch,
        ),
    ],
)
@pytest.mark.parametrize("make", SCALERS)
def test_scalers_refuse(make, call, error, words):
    scaler = make()
    with pytest.raises(error, match=f"{type(scaler).__name__}.{'' if words[0] == '(' else '.*'}{words}"):
        call(scaler)


def test_minmax_needs_an_interval():
    with pytest.raises(OptionError, match=r"MinMax: expected low < high, got 1 and 1\. Try MinMax\(0\.0, 1\.0\)"):
        MinMax(1, 1)


@settings(deadline=None)
@given(y=st.lists(st.integers(0, 9), min_size=1, max_size=30), extra=st.integers(0, 3))
def test_one_hot_has_one_one_in_the_right_place(y, extra):
    n_classes = max(y) + 1 + extra
    h = one_hot(y, n_classes)
    assert h.dtype == np.float32
    assert h.shape == (len(y), n_classes)
    np.testing.assert_array_equal(h.sum(axis=1), 1.0)
    np.testing.assert_array_equal(h.argmax(axis=1), y)
    assert one_hot(y).shape == (len(y), max(y) + 1)


def test_one_hot_on_every_library(asarray):
    y = asarray(np.array([2, 0, 1]))
    h = one_hot(y, 4)
    assert type(h) is type(y)
    assert h.device == y.device
    np.testing.assert_array_equal(to_numpy(h), np.eye(4, dtype=np.float32)[[2, 0, 1]])
    np.testing.assert_array_equal(to_numpy(one_hot(asarray(np.array([True, False])))), [[0, 1], [1, 0]])


def test_one_hot_of_small_integers_may_have_more_classes_than_they_count():
    assert one_hot(np.array([255, 3], dtype=np.uint8), 300).argmax(axis=1).tolist() == [255, 3]


@needs_torch
def test_one_hot_of_small_integers_of_torch():
    assert one_hot(torch.asarray([255, 3], dtype=torch.uint8), 300).argmax(dim=1).tolist() == [255, 3]


@pytest.mark.parametrize(
    ("y", "n_classes", "error", "words"),
    [
        ([0, 3], 3, LabelError, r"expected labels in 0\.\.2, got 0\.\.3\. Pass n_classes=4, or number"),
        ([1, -1], None, LabelError, r"expected labels from 0, got -1\.\.1\. Number the classes from 0"),
        ([0.0, 1.0], None, LabelError, r"expected whole numbers, got float64\. If they are whole, convert"),
        (["a", "b"], None, LabelError, r"expected whole numbers, got <U1\. Number the classes first"),
        ([[0], [1]], None, ShapeError, r"shape \(n,\), got \(2, 1\)\. For \(n, 1\) pass y\[:, 0\]"),
        (np.array([], dtype=int), None, DataError, r"expected labels, got none\. Pass n_classes"),
    ],
)
def test_one_hot_refuses(y, n_classes, error, words):
    with pytest.raises(error, match=f"one_hot: .*{words}"):
        one_hot(y, n_classes)


def test_one_hot_of_nothing_is_empty():
    assert one_hot(np.array([], dtype=int), 3).shape == (0, 3)


# -- in float64, whatever is given --------------------------------------------------------------------------------
#: Columns of whole numbers, with offsets far beyond what float32 tells apart.
OFFSETS = st.sampled_from([0, 1_700_000_000, -(10**12), 2**50])
STEPS = st.lists(st.integers(0, 10**6), min_size=2, max_size=12)


@pytest.mark.parametrize("make", SCALERS)
@given(offset=OFFSETS, steps=STEPS, dtype=st.sampled_from(["i8", "u8", "f8", "O"]))
@settings(deadline=None, max_examples=40)
def test_whole_numbers_are_scaled_as_float64_and_rounded_once(make, offset, steps, dtype):
    whole = np.asarray(steps, np.int64)[:, None] + (abs(offset) if dtype == "u8" else offset)
    scaler, given_x = make().fit(whole.astype(dtype)), whole.astype(dtype)
    exact = make().fit(whole.astype(np.float64)).transform(whole.astype(np.float64))
    got = scaler.transform(given_x)
    assert got.dtype == (np.float64 if dtype == "f8" else np.float32)
    np.testing.assert_array_equal(got, exact.astype(got.dtype))
    order = np.argsort(whole[:, 0], kind="stable")
    assert (np.diff(got[order, 0]) >= 0).all()
    back = scaler.inverse_transform(exact)
    np.testing.assert_allclose(back, whole, rtol=0, atol=1e-6 * max(np.ptp(whole), 1) + np.spacing(float(abs(offset))))


@pytest.mark.parametrize("make", SCALERS)
@given(x=hnp.arrays(np.float32, (6, 2), elements=st.floats(-4096, 4096, width=32)))
@settings(deadline=None, max_examples=30)
def test_float32_is_within_a_rounding_of_float64(make, x):
    x += np.float32(2**20)  # an offset that takes half of the digits
    scaler = make().fit(x)
    want = scaler.transform(x.astype(np.float64))
    np.testing.assert_array_equal(scaler.transform(x), want.astype(np.float32))


@pytest.mark.parametrize("make", SCALERS)
def test_whole_numbers_of_every_library(make, asarray):
    seconds = 1_700_000_000 + np.arange(60)[:, None]
    scaler = make().fit(seconds)
    given_x = asarray(seconds)
    got = scaler.transform(given_x)
    assert type(got) is type(given_x)
    assert got.device == given_x.device
    np.testing.assert_array_equal(to_numpy(got), scaler.transform(seconds))
    assert len(np.unique(to_numpy(got))) == 60


def test_float16_does_not_overflow():
    X = np.array([[-60000.0]] * 9 + [[60000.0]], dtype=np.float16)
    for make in SCALERS:
        scaled = make().fit_transform(X)
        assert scaled.dtype == np.float16
        want = make().fit_transform(X.astype(np.float64))
        np.testing.assert_allclose(scaled, want, rtol=1e-3, atol=1e-3)


def test_slices_give_the_rows_of_the_whole(monkeypatch):
    X = columns(np.float32, 1000)
    scaler = Standardizer().fit(X)
    whole, tensor = scaler.transform(X), scaler.transform(strict.asarray(X))
    monkeypatch.setattr(scaling, "_SCALED_ELEMENTS", 28)
    monkeypatch.setattr(scaling, "_BLOCK_ELEMENTS", 28)
    np.testing.assert_array_equal(scaler.transform(X), whole)
    np.testing.assert_array_equal(to_numpy(scaler.transform(strict.asarray(X))), to_numpy(tensor))
    assert scaler.transform(X[:0]).shape == (0, 4)


@pytest.mark.parametrize("names", [["a"], 3, ["a", "b", "c"]])
def test_names_that_do_not_fit_are_no_state(names):
    state = Standardizer().fit([[1.0, 2.0], [2.0, 1.0]]).to_dict()
    with pytest.raises(FileFormatError):
        Standardizer.from_dict(state | {"feature_names_in": names})
