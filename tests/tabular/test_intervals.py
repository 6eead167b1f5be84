"""Prediction intervals: scores by hand, widths that follow the noise, and the coverage that was asked for."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.checkpoint import read, write
from xpnn.errors import FileFormatError, OptionError
from xpnn.intervals import Intervals
from xpnn.predictor import Predictor
from xpnn.tabular import TabularClassifier, TabularRegressor
from xpnn.tabular.intervals import fit_intervals

FAST = {"preset": "quick", "hidden": (32,), "epochs": 12, "batch_size": 64}


def noisy(n, seed):
    """Noise that grows with |x|."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 2))
    return x, x[:, 0] + (0.05 + np.abs(x[:, 1])) * rng.normal(size=n)


def held(intervals, y):
    return float(np.mean((intervals[:, 0] <= y) & (y <= intervals[:, 1])))


def test_the_score_of_the_right_rank():
    intervals = Intervals(None, np.arange(1.0, 20.0)[:, None], 0.0, 0.0)  # 19 scores: 20 · 0.9 = 18
    assert intervals.quantile(0.9).tolist() == [18.0]
    assert intervals.quantile(0.95).tolist() == [19.0]
    assert intervals.quantile(0.91).tolist() == [19.0]
    with pytest.raises(
        OptionError, match=r"expected at least 99 held-out rows for coverage=0.99, got 19. Ask for at most 0.95"
    ):
        intervals.quantile(0.99)
    for coverage in (0, 1, 2, "all", np.nan):
        with pytest.raises(OptionError, match=r"expected 0 < coverage < 1"):
            intervals.quantile(coverage)


def test_few_rows_have_intervals_of_one_width():
    made = fit_intervals(np.zeros((20, 2), np.float32), np.ones((20, 1)), np.zeros((9, 2), np.float32), np.ones((9, 1)))
    assert made.scale is None
    assert made.half_widths(np.zeros((3, 2)), 0.9).tolist() == [[1.0]] * 3


def test_the_scale_follows_the_errors():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (2000, 2)).astype(np.float32)
    errors = np.abs((0.1 + np.abs(X[:, 1:])) * rng.normal(size=(2000, 1)))
    made = fit_intervals(X[:1000], errors[:1000], X[1000:], errors[1000:])
    quiet, loud = made.half_widths(np.array([[0.0, 0.0], [0.0, 2.0]]), 0.9)[:, 0]
    assert loud > 3 * quiet
    again = fit_intervals(X[:1000], errors[:1000], X[1000:], errors[1000:])
    np.testing.assert_array_equal(again.half_widths(X, 0.5), made.half_widths(X, 0.5))


@pytest.mark.parametrize("options", [{}, {"ensemble": 3}, {"folds": 3, "members": 3}], ids=["one", "ensemble", "folds"])
def test_coverage_and_widths(options):
    X, y = noisy(2000, 0)
    model = TabularRegressor(**(FAST | options)).fit(X, y)
    new, truth = noisy(4000, 1)
    for coverage in (0.5, 0.9):
        found = model.predict_interval(new, coverage)
        # 200 rows vouch for it: the coverage itself has a standard deviation of about 0.035 (0.5) and 0.021 (0.9)
        assert held(found, truth) == pytest.approx(coverage, abs=0.1 if coverage == 0.5 else 0.06)
        assert (found[:, 0] <= model.predict(new)).all()
        assert (found[:, 1] >= model.predict(new)).all()
    width = found[:, 1] - found[:, 0]
    quiet, loud = np.abs(new[:, 1]) < 0.3, np.abs(new[:, 1]) > 1.7
    assert width[loud].mean() > 2 * width[quiet].mean()
    assert held(found[loud], truth[loud]) > 0.75


def test_coverage_on_a_real_table():
    """Diabetes, 442 patients: over ten splits the promise holds on average, and hardly one is far off."""
    datasets = pytest.importorskip("sklearn.datasets", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    X, y = datasets.load_diabetes(return_X_y=True)
    found = []
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(y))
        train, test = order[:300], order[300:]
        model = TabularRegressor(**FAST, validation_fraction=0.25, random_state=seed).fit(X[train], y[train])
        found.append(held(model.predict_interval(X[test], 0.8), y[test]))
    # of one split: 75 rows vouch and 142 are counted, a standard deviation of 0.057; of the mean 0.02
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)
    assert min(found) > 0.6


def test_several_targets_have_intervals_of_their_own():
    X, y = noisy(800, 0)
    both = np.column_stack([y, 1000 * y + 5])
    found = TabularRegressor(**FAST).fit(X, both).predict_interval(X, 0.8)
    assert found.shape == (800, 2, 2)
    wide = found[:, 1, 1] - found[:, 1, 0]
    assert 300 < np.median(wide / (found[:, 0, 1] - found[:, 0, 0])) < 3000


def test_who_has_no_intervals():
    X, y = noisy(100, 0)
    with pytest.raises(OptionError, match=r"expected a model with held-out rows to vouch for its intervals"):
        TabularRegressor(**FAST, validation_fraction=0.0).fit(X, y).predict_interval(X)
    classes = TabularClassifier(**FAST).fit(X, y > 0)
    assert not hasattr(classes, "predict_interval")
    with pytest.raises(OptionError, match=r"expected a model of numbers, got one of classes. Use predict_proba"):
        classes.predictor_.predict_interval(X)


# -- files ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    X, y = noisy(500, 0)
    path = tmp_path_factory.mktemp("intervals") / "model.safetensors"
    TabularRegressor(**FAST).fit(X, y).save(path)
    return path


def shuffled(tensors, state):
    tensors["intervals/scores"] = tensors["intervals/scores"][::-1].copy()


def negative(tensors, state):
    tensors["intervals/scores"] = tensors["intervals/scores"] - 100


def narrow(tensors, state):
    tensors["intervals/scores"] = tensors["intervals/scores"].astype(np.float32)


def fewer(tensors, state):
    tensors["intervals/scores"] = tensors["intervals/scores"][1:]


def absent(tensors, state):
    del tensors["intervals/scores"]


def two(tensors, state):
    tensors["intervals/scores"] = np.repeat(tensors["intervals/scores"], 2, axis=1)


def bounds(tensors, state):
    state["intervals"]["low"] = "0"


def temperature(tensors, state):
    state["temperature"] = -1.0


def threshold(tensors, state):
    state["threshold"] = "half"


@pytest.mark.parametrize("damage", [shuffled, negative, narrow, fewer, absent, two, bounds, temperature, threshold])
def test_damaged_files_are_told(saved, damage, tmp_path):
    tensors, meta = read(saved)
    damage(tensors, meta["extra"]["predictor"])
    meta.pop("version"), meta.pop("written_by")
    write(tmp_path / "damaged", tensors, meta)
    with pytest.raises(FileFormatError, match=r"Predictor.load: expected what Predictor.save writes|intervals of 2"):
        Predictor.load(tmp_path / "damaged")


def test_intervals_live_where_the_network_does(saved, backend):
    predictor = xpnn.load_predictor(saved, backend=backend)
    X, _ = noisy(20, 3)
    found = predictor.predict_interval(X, 0.9)
    np.testing.assert_allclose(found, xpnn.load_predictor(saved).predict_interval(X, 0.9), rtol=1e-4, atol=1e-4)
