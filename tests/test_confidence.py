"""Intervals against scipy's laws, and by trying how often they hold."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnn.confidence import difference_interval, mean_interval, wilson, z_of

stats = pytest.importorskip("scipy.stats", reason="needs SciPy: pip install 'xpnn[sklearn]'")


@pytest.mark.parametrize("n", [5, 10, 100, 10_000])
@pytest.mark.parametrize("comparisons", [1, 10, 100])
def test_the_interval_of_a_mean_is_students(n, comparisons):
    x = np.random.default_rng(n).normal(3, 2, n)
    low, high = mean_interval(x, z_of(comparisons))
    expected = stats.t.interval(1 - 0.05 / comparisons, n - 1, x.mean(), x.std(ddof=1) / math.sqrt(n))
    # the series is short: it errs where few rows meet many comparisons, and then towards too narrow
    rel = 0.02 if n >= 10 or comparisons == 1 else 0.25
    assert high - low == pytest.approx(expected[1] - expected[0], rel=rel)
    assert (low + high) / 2 == pytest.approx(x.mean())


@pytest.mark.parametrize(("right", "n"), [(0, 5), (3, 20), (20, 20), (871, 1000)])
def test_the_interval_of_a_share_is_wilsons(right, n):
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert wilson(right / n, n) == pytest.approx(tuple(expected), abs=1e-4)


def test_of_one_value_nothing_is_known():
    assert mean_interval([3.0]) == (-math.inf, math.inf)


def test_a_difference_is_of_pairs():
    """What is common to both rows of a pair does not count: the interval is narrow though the values spread widely."""
    rng = np.random.default_rng(0)
    common = rng.normal(0, 100, 200)
    gain, low, high = difference_interval(common + 1 + 0.1 * rng.normal(size=200), common)
    assert 0.95 < low < gain < high < 1.05


def test_intervals_hold_in_95_of_100_tries():
    rng = np.random.default_rng(1)
    tries = [mean_interval(rng.exponential(1.0, 60)) for _ in range(1000)]
    assert np.mean([low <= 1.0 <= high for low, high in tries]) == pytest.approx(0.95, abs=0.025)
    shares = [wilson(rng.binomial(40, 0.1) / 40, 40) for _ in range(1000)]
    assert np.mean([low <= 0.1 <= high for low, high in shares]) == pytest.approx(0.95, abs=0.025)
