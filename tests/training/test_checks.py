"""Weights that a dtype cannot hold are told before training; others weigh by their shares."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.errors import DataError
from xpnn.training.checks import check_range

N = 40
X, Y = np.random.default_rng(0).normal(size=(N, 3)), np.arange(N) % 2


def trainer(dtype="float32"):
    return xpnn.Trainer(xpnn.mlp([3, 4, 2], seed=0, dtype=dtype), xpnn.CrossEntropy(), xpnn.Adam())


def one_row(value):
    weight = np.ones(N)
    weight[7] = value
    return weight


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (np.full(N, 1e38), r"got 4e\+39, with 1e\+38 in row 0\. Divide all weights by their mean"),
        (np.full(N, 1e308), r"got inf, with 1e\+308 in row 0"),
        (one_row(1e30), r"with 1e\+30 in row 7"),
        (np.full(N, 1e-46), r"at least 1\.2e-38 to count in float32, got 1e-46 in row 0, one of 40"),
        (one_row(1e-46), r"got 1e-46 in row 7, one of 1"),
        (np.full(N, 1e-40), r"got 1e-40 in row 0"),
        (np.full(N, 1e-30), r"a sum of 5\.4e-20 to 1\.8e\+19"),
    ],
)
def test_weights_out_of_range_are_told(weight, words):
    made = trainer()
    before = made.net.store.values.copy()
    calls = {
        "fit": lambda: made.fit(X, Y, epochs=1, sample_weight=weight),
        "fit (validation)": lambda: made.fit(X, Y, X_val=X, y_val=Y, epochs=1, sample_weight_val=weight),
        "evaluate": lambda: made.evaluate(X, Y, sample_weight=weight),
    }
    for where, call in calls.items():
        with pytest.raises(DataError, match=words) as caught:
            call()
        assert str(caught.value).startswith(f"{where}: expected weights")
    np.testing.assert_array_equal(made.net.store.values, before)


@pytest.mark.parametrize("value", [1e38, 1e-46, 1e-320])
def test_class_weights_out_of_range_are_told(value):
    with pytest.raises(DataError, match=r"in row 1\b"):
        trainer().fit(X, Y, epochs=1, class_weight={1: value})
    with pytest.raises(DataError, match=r"got 0 in row 1\b|in row 1\b"):
        trainer().fit(X, Y, epochs=1, class_weight={1: value}, sample_weight=np.where(Y == 1, value, 1.0))


def test_float64_holds_more():
    for value in (1e38, 1e-46):
        trainer("float64").fit(X, Y, epochs=1, sample_weight=np.full(N, value))
    with pytest.raises(DataError, match="in float64"):
        trainer("float64").fit(X, Y, epochs=1, sample_weight=np.full(N, 1e200))


@given(exponent=st.integers(-55, 55))
@settings(deadline=None, max_examples=25)
def test_a_common_factor_changes_nothing_or_is_told(exponent):
    weight, want = 10.0**exponent * (1.0 + Y), trainer()
    want.fit(X, Y, epochs=1, sample_weight=1.0 + Y)
    got = trainer()
    if not 5.4e-20 < weight.sum() < 1.8e19:
        with pytest.raises(DataError, match="expected weights"):
            got.fit(X, Y, epochs=1, sample_weight=weight)
        return
    got.fit(X, Y, epochs=1, sample_weight=weight)
    np.testing.assert_allclose(got.net.store.values, want.net.store.values, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.history["loss"], want.history["loss"], rtol=1e-4)


def test_a_batch_without_weight_is_passed():
    weight = (np.arange(N) >= 20).astype(float)
    history = trainer().fit(X, Y, epochs=1, batch_size=20, shuffle=False, sample_weight=weight)
    assert np.isfinite(history["loss"]).all()


def test_rows_that_do_not_count_may_weigh_nothing():
    check_range("fit", np.array([0.0, 1.0]), np.array([False, True]), "float32")
