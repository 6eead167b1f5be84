"""Sums without rounding: the same for every order and every cut, and equal to those of exact fractions."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.data import MinMax, Moments, Standardizer
from xpnn.errors import DataError, ShapeError

NUMBERS = st.lists(st.floats(-1e150, 1e150, allow_nan=False), min_size=1, max_size=30)


def moments(values):
    made = Moments(())
    made.add(np.asarray(values, np.float64))
    return made


@settings(max_examples=60, deadline=None)
@given(NUMBERS, st.randoms(use_true_random=False), st.integers(0, 30))
def test_they_are_those_of_exact_fractions_however_rows_are_ordered_and_cut(values, random, cut):
    mixed = random.sample(values, len(values))
    found, other = moments(mixed[:cut] or [0.0]), moments(mixed[cut:] or [0.0])
    if not (mixed[:cut] and mixed[cut:]):
        found = moments(mixed)
    else:
        found.merge(Moments.from_dict(json.loads(json.dumps(other.to_dict()))))
    exact = [Fraction(v) for v in values]
    mean = sum(exact) / len(exact)
    assert found.n == len(values)
    assert float(found.mean()) == float(mean)
    assert float(found.variance()) == float(sum((v - mean) ** 2 for v in exact) / len(exact))
    assert (float(found.low), float(found.high)) == (min(values), max(values))
    assert found.to_dict() | {"low": 0, "high": 0} == moments(values).to_dict() | {"low": 0, "high": 0}


def test_columns_are_apart_and_blocks_may_be_long():
    x = np.random.default_rng(0).normal(size=(40_000, 3)) * [1.0, 1e-12, 1e9] + [1e6, 0.0, -1e9]
    whole, parts = Moments((3,)), Moments((3,))
    whole.add(x)
    for part in np.array_split(np.random.default_rng(1).permutation(x), 7):
        parts.add(part)
    assert whole.to_dict() == parts.to_dict()
    np.testing.assert_allclose(whole.mean(), x.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(whole.variance(), x.var(axis=0), rtol=1e-10)


def test_rows_of_another_shape_are_refused():
    with pytest.raises(ShapeError, match=r"^Moments\.add: expected rows of shape \(2,\), as before, got \(3,\)"):
        Moments((2,)).add(np.ones((1, 3)))
    with pytest.raises(ShapeError, match=r"^Moments\.merge: expected rows of shape \(2,\), got \(3,\)"):
        Moments((2,)).merge(Moments((3,)))


# -- scalers ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [Standardizer, MinMax])
@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=4), st.integers(0, 3))
def test_a_scaler_does_not_depend_on_the_blocks(make, cuts, seed):
    x = np.random.default_rng(seed).normal(size=(50, 2)).astype(np.float32) * [1.0, 100.0] + [0.0, 1e4]
    edges = [0, *sorted(cuts), 50]
    blocks = [x[a:b] for a, b in itertools.pairwise(edges)]
    one, two = make().fit_blocks([x]), make().fit_blocks(reversed(blocks))
    assert one.to_dict() == two.to_dict()
    plain = make().fit(x)
    np.testing.assert_allclose(one.shift, plain.shift, rtol=1e-12)
    np.testing.assert_allclose(one.scale, plain.scale, rtol=1e-12)


def test_a_scaler_takes_frames_and_merged_moments():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    x = np.random.default_rng(0).normal(size=(9, 2))
    frame = pd.DataFrame(x, columns=["a", "b"])
    scaler = Standardizer().fit_blocks([frame[:4], frame[4:][["b", "a"]]])
    assert scaler.feature_names_in == ["a", "b"]
    one, two = Moments((2,)), Moments((2,))
    one.add(x[:4])
    two.add(x[4:])
    one.merge(two)
    assert Standardizer().fit_blocks(one).shift.tolist() == scaler.shift.tolist()
    with pytest.raises(DataError, match=r"expected a block with the columns 'a', 'b', as fitted, got 'a', 'c'"):
        Standardizer().fit_blocks([frame, frame.rename(columns={"b": "c"})])


def test_bad_blocks_are_told():
    where = r"^Standardizer\.fit_blocks: expected "
    with pytest.raises(DataError, match=where + "rows, got none"):
        Standardizer().fit_blocks([])
    with pytest.raises(DataError, match=where + r"finite numbers, got nan in row 4, column 1"):
        Standardizer().fit_blocks([np.zeros((3, 2)), [[0.0, 0.0], [0.0, np.nan]]])
    with pytest.raises(DataError, match=where + "columns whose spread fits into float64"):
        Standardizer().fit_blocks([np.array([[1e308], [-1e308]])])
    with pytest.raises(ShapeError, match=where + r"blocks of shape \(n, \.\.\.\), got a single value"):
        Standardizer().fit_blocks([3.0])
