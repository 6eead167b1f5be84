"""The toy problems have the shape they are named after, balanced classes, and one seed gives one set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.data.toy import (
    make_blobs,
    make_checkerboard,
    make_circles,
    make_moons,
    make_spirals,
    make_xor,
)
from xpnn.errors import OptionError

MAKERS = [make_xor, make_moons, make_circles, make_spirals, make_checkerboard, make_blobs]


@pytest.mark.parametrize("make", MAKERS)
def test_shapes_types_and_seeds(make):
    X, y = make(101, 0.1, 3)
    assert X.shape == (101, 2)
    assert X.dtype == np.float64
    assert y.shape == (101,)
    assert y.dtype == np.int64
    X_again, y_again = make(101, 0.1, 3)
    np.testing.assert_array_equal(X, X_again)
    np.testing.assert_array_equal(y, y_again)
    assert not np.array_equal(X, make(101, 0.1, 4)[0])


@pytest.mark.parametrize("make", MAKERS)
@settings(max_examples=20, deadline=None)
@given(n=st.integers(4, 200), seed=st.integers(-5, 2**40))
def test_classes_are_balanced_and_values_finite(make, n, seed):
    X, y = make(n, 0.05, seed)
    counts = np.bincount(y)
    # XOR repeats its corners: one more of a corner, two more of a class, at most.
    assert counts.max() - counts.min() <= (2 if make is make_xor else 1)
    assert np.isfinite(X).all()


@pytest.mark.parametrize("make", [make_moons, make_circles, make_spirals, make_checkerboard, make_blobs])
def test_classes_are_mixed_along_the_rows(make):
    y = make(200)[1]
    assert np.bincount(y[:50], minlength=2).min() >= 10


def test_xor_is_the_four_corners_in_order():
    X, y = make_xor()
    np.testing.assert_array_equal(X, [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(y, [0, 1, 1, 0])


def test_xor_repeats_its_corners_with_noise():
    X, y = make_xor(400, 0.05)
    corners = np.round(X)
    np.testing.assert_array_equal(corners[:4], [[0, 0], [0, 1], [1, 0], [1, 1]])
    np.testing.assert_array_equal(y, corners[:, 0] != corners[:, 1])
    assert 0.04 < np.std(X - corners) < 0.06


def test_moons_lie_on_half_circles_about_their_centres():
    X, y = make_moons(100, 0.0)
    np.testing.assert_allclose(np.linalg.norm(X[y == 0], axis=1), 1.0)
    np.testing.assert_allclose(np.linalg.norm(X[y == 1] - [1.0, 0.5], axis=1), 1.0)
    assert X[y == 0, 1].min() >= -1e-12
    assert X[y == 1, 1].max() <= 0.5 + 1e-12


def test_circles_have_their_radii_and_no_point_twice():
    X, y = make_circles(101, 0.0, factor=0.3)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), np.where(y == 0, 1.0, 0.3))
    assert len(np.unique(X.round(9), axis=0)) == 101


def test_spirals_follow_their_formula():
    X, y = make_spirals(300, 0.0, n_classes=3, turns=1.5)
    radius = np.linalg.norm(X, axis=1)
    assert radius.min() == pytest.approx(0.1)
    assert radius.max() == pytest.approx(1.0)
    angle = 2 * np.pi * (1.5 * radius + y / 3)
    np.testing.assert_allclose(X, radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1), atol=1e-12)


def test_spirals_are_evenly_filled_along_the_arm():
    X, y = make_spirals(400, 0.0)
    arm = X[y == 0][np.argsort(np.linalg.norm(X[y == 0], axis=1))]
    steps = np.linalg.norm(np.diff(arm, axis=0), axis=1)[20:]
    assert steps.max() < 1.6 * steps.min()


@pytest.mark.parametrize("cells", [2, 3, 4, 5])
def test_checkerboard_has_colours_by_field(cells):
    X, y = make_checkerboard(500, cells=cells)
    field = np.floor((X + 1) * cells / 2).astype(int)
    np.testing.assert_array_equal(y, field.sum(axis=1) % 2)
    assert np.abs(X).max() <= 1.0
    assert len(np.unique(field, axis=0)) == cells * cells


def test_blobs_lie_about_distinct_centres():
    X, y = make_blobs(3000, 0.05, n_classes=4, n_features=3)
    centres = np.stack([X[y == k].mean(axis=0) for k in range(4)])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[~np.eye(4, dtype=bool)]
    assert gaps.min() > 0.5
    assert np.std(X - centres[y]) == pytest.approx(0.05, rel=0.05)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(
    ("n", "noise", "words"),
    [
        (1, 0.0, "expected n >= [23], got 1. Each class needs a point"),
        (50, -1.0, "expected noise >= 0, got -1.0. It is a standard deviation"),
        (50, float("nan"), "expected noise >= 0, got nan"),
    ],
)
def test_bad_n_and_noise(make, n, noise, words):
    with pytest.raises(OptionError, match=f"{make.__name__}: {words}"):
        make(n, noise)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: make_circles(factor=1.0), r"expected factor in \(0, 1\), got 1.0. The inner radius"),
        (lambda: make_spirals(n_classes=1), "expected n_classes >= 2, got 1. One class leaves nothing"),
        (lambda: make_spirals(turns=0.0), "expected turns > 0, got 0.0. One turn is a full circle"),
        (lambda: make_checkerboard(cells=1), "expected cells >= 2, got 1. One field has one colour"),
        (lambda: make_blobs(n_features=0), "expected n_features >= 1, got 0"),
    ],
)
def test_bad_options(call, words):
    with pytest.raises(OptionError, match=words):
        call()
