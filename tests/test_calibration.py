"""Calibration: temperatures that never make held-out rows worse, and curves against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.calibration import calibration_curve, expected_calibration_error, fit_temperature
from xpnn.errors import DataError, LabelError, OptionError, ShapeError
from xpnn.metrics import log_loss

RNG = np.random.default_rng(0)


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def drawn(n, k, temperature, seed=0):
    """Logits, and classes drawn as their softmax at a temperature says."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, k)) * 3.0
    p = softmax(z / temperature)
    return z, (p.cumsum(axis=1) < rng.uniform(size=(n, 1))).sum(axis=1)


def loss(z, y, temperature):
    return float(-np.log(softmax(z / temperature)[np.arange(len(y)), y]).mean())


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("k", [2, 5])
def test_the_temperature_that_the_classes_were_drawn_at(temperature, k):
    z, y = drawn(40_000, k, temperature)
    assert fit_temperature(z, y) == pytest.approx(temperature, rel=0.06)


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_least_loss_of_all_temperatures(seed):
    optimize = pytest.importorskip("scipy.optimize")
    z, y = drawn(300, 4, 2.0, seed)
    found = optimize.minimize_scalar(
        lambda t: loss(z, y, np.exp(t)), bounds=(-4, 4), method="bounded", options={"xatol": 1e-10}
    )
    assert fit_temperature(z, y, prior_rows=0) == pytest.approx(np.exp(found.x), rel=1e-6)


def test_rows_of_the_prior_are_rows_that_come_out_as_said():
    """Their cross-entropy, written out as rows of every class with the probabilities as weights."""
    z, y = drawn(30, 3, 4.0)
    p = softmax(z)
    rows, classes = np.concatenate([z, *[z] * 3]), np.concatenate([y, *(np.full(30, c) for c in range(3))])
    weight = np.concatenate([np.ones(30), *(p[:, c] * 50 / 30 for c in range(3))])
    assert fit_temperature(z, y) == pytest.approx(fit_temperature(rows, classes, prior_rows=0, sample_weight=weight))


@given(
    st.lists(
        st.tuples(st.lists(st.floats(-30, 30), min_size=3, max_size=3), st.integers(0, 2)), min_size=1, max_size=9
    ),
    st.sampled_from([0.0, 1.0, 50.0]),
)
@settings(deadline=None)
def test_these_rows_are_never_worse_than_before(rows, prior):
    z, y = np.asarray([row for row, _ in rows]), np.asarray([label for _, label in rows])
    temperature = fit_temperature(z, y, prior_rows=prior)
    assert 0.01 <= temperature <= 100.0
    assert loss(z, y, temperature) <= loss(z, y, 1.0) + 1e-9


def test_few_rows_change_little_and_many_much():
    found = [fit_temperature(*drawn(n, 3, 4.0)) for n in (1, 10, 100, 1000, 10_000)]
    assert found == sorted(found)
    assert found[0] < 1.1
    assert found[-1] == pytest.approx(4.0, rel=0.1)


def test_classes_without_an_error_do_not_make_it_infinitely_sure():
    z = np.asarray([[2.0, 0.0], [0.0, 2.0]] * 5)
    y = np.asarray([0, 1] * 5)
    temperature = fit_temperature(z, y)
    assert 0.7 < temperature < 1.0
    assert 0.01 <= fit_temperature(z, y, prior_rows=0) < 0.05
    assert fit_temperature(z * 1000.0, y) == 1.0, "nothing to be gained"
    assert fit_temperature(z, 1 - y, prior_rows=0) == pytest.approx(100.0)


def test_logits_that_say_nothing_stay():
    assert fit_temperature(np.ones((5, 3)), [0, 1, 2, 0, 1]) == 1.0


def test_one_column_is_the_logit_of_the_positive_class():
    z, y = drawn(500, 2, 3.0)
    one = z[:, 1] - z[:, 0]
    expected = fit_temperature(z, y)
    assert fit_temperature(one, y) == pytest.approx(expected)
    assert fit_temperature(one[:, None], y.astype(bool)) == pytest.approx(expected)
    assert fit_temperature(np.log(softmax(z)), y) == pytest.approx(expected), "logarithms of probabilities will do"
    assert fit_temperature(z.astype(np.float32), y) == pytest.approx(expected, rel=1e-5)


def test_weights_count_rows_and_their_scale_does_not():
    z, y = drawn(200, 3, 3.0)
    twice = np.where(np.arange(200) < 50, 2.0, 1.0)
    rows = np.concatenate([z, z[:50]]), np.concatenate([y, y[:50]])
    assert fit_temperature(z, y, sample_weight=twice, prior_rows=0) == pytest.approx(
        fit_temperature(*rows, prior_rows=0)
    )
    assert fit_temperature(z, y, sample_weight=np.full(200, 9.0)) == pytest.approx(fit_temperature(z, y))


def test_held_out_rows_gain():
    z, y = drawn(4000, 4, 3.0)
    temperature = fit_temperature(z[:1000], y[:1000])
    before, after = softmax(z[1000:]), softmax(z[1000:] / temperature)
    assert log_loss(y[1000:], after) < 0.8 * log_loss(y[1000:], before)
    assert expected_calibration_error(y[1000:], after) < 0.2 * expected_calibration_error(y[1000:], before)


# -- curves ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("n_bins", [1, 5, 10])
def test_the_curve_is_scikit_learns(strategy, n_bins):
    sk = pytest.importorskip("sklearn.calibration")
    p = np.concatenate([[0.0, 1.0, 0.2, 0.4], RNG.uniform(size=300).round(2)])
    y = (RNG.uniform(size=len(p)) < p**2).astype(int)
    expected = sk.calibration_curve(y, p, n_bins=n_bins, strategy=strategy)
    curve = calibration_curve(y, p, n_bins=n_bins, strategy=strategy)
    np.testing.assert_allclose(curve.prob_true, expected[0], rtol=1e-12)
    np.testing.assert_allclose(curve.prob_pred, expected[1], rtol=1e-12)
    assert curve.counts.sum() == len(p)
    np.testing.assert_allclose(
        calibration_curve(y, np.stack([1 - p, p], 1), n_bins=n_bins, strategy=strategy)[0], expected[0]
    )


def test_of_several_classes_it_is_the_answers():
    z, y = drawn(2000, 3, 1.0)
    p = softmax(z)
    curve = calibration_curve(y, p, n_bins=6)
    alike = calibration_curve(p.argmax(axis=1) == y, p.max(axis=1), n_bins=6)
    for a, b in zip(curve, alike, strict=True):
        np.testing.assert_allclose(a, b)
    assert curve.prob_pred.min() > 1 / 3
    assert expected_calibration_error(y, p) < 0.04, "the classes were drawn as it says"


def test_the_error_by_hand():
    y, p = [0, 1, 1, 0], [0.1, 0.1, 0.9, 0.7]
    assert expected_calibration_error(y, p, n_bins=2) == pytest.approx((2 * abs(0.5 - 0.1) + 2 * abs(0.5 - 0.8)) / 4)
    weight = [1, 0, 2, 1]
    assert expected_calibration_error(y, p, n_bins=2, sample_weight=weight) == pytest.approx(
        (1 * 0.1 + 3 * abs(2 / 3 - 2.5 / 3)) / 4
    )
    assert expected_calibration_error(["n", "y"], [0.0, 1.0]) == 0.0
    assert expected_calibration_error([1, 1], [0.75, 0.75]) == 0.25


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: fit_temperature([[np.nan, 1.0]], [0]),
            DataError,
            r"fit_temperature: expected finite numbers in logits",
        ),
        (lambda: fit_temperature([[0.0, 1.0]], [0, 1]), ShapeError, r"equally many rows, got 1 of logits and 2 of y"),
        (lambda: fit_temperature([[0.0, 1.0]], [2]), LabelError, r"numbers of the columns, 0 to 1, got 2 to 2"),
        (lambda: fit_temperature([[0.0, 1.0]], ["a"]), LabelError, r"numbers of the columns, 0 to 1, got dtype <U1"),
        (lambda: fit_temperature(np.zeros((0, 2)), []), DataError, r"at least one row in logits, got none"),
        (lambda: fit_temperature([[0.0, 1.0]], [1], prior_rows=-1), OptionError, r"prior_rows >= 0, got -1"),
        (lambda: calibration_curve([0, 1], [0.1, 0.2], n_bins=0), OptionError, r"n_bins >= 1, got 0"),
        (lambda: calibration_curve([0, 1], [0.1, 0.2], strategy="even"), OptionError, r"'uniform' or 'quantile', got"),
        (lambda: calibration_curve([0, 1], [0.1, 2.0]), DataError, r"probabilities in \[0, 1\]"),
        (lambda: calibration_curve([0, 1, 1], [0.1, 0.2]), ShapeError, r"got 3 in y_true and 2 of probabilities"),
    ],
)
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()
