"""Estimators in files of skops, which loads no class that it is not told to trust."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.tabular import TabularClassifier, TabularRegressor

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
skops = pytest.importorskip("skops.io", reason="needs skops: pip install skops")

from xpnn.estimators import MLPClassifier, MLPRegressor, Perceptron  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 4))
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def again(estimator):
    """Return the estimator from what skops writes; all that it must trust is of this project, and NumPy's dtype."""
    written = skops.dumps(estimator)
    trusted = skops.get_untrusted_types(data=written)
    assert {name.partition(".")[0] for name in trusted} <= {"xpnn", "numpy"}
    return skops.loads(written, trusted=trusted)


@pytest.mark.parametrize(
    "estimator",
    [
        MLPClassifier(hidden_layer_sizes=(8,), max_iter=3, random_state=0),
        MLPClassifier(hidden_layer_sizes=(8,), max_iter=3, solver="lbfgs", random_state=0),
        MLPClassifier(hidden_layer_sizes=(8,), max_iter=3, early_stopping=True, random_state=0),
        MLPRegressor(hidden_layer_sizes=(8,), max_iter=3, random_state=0),
        Perceptron(),
    ],
    ids=lambda estimator: type(estimator).__name__,
)
def test_a_fitted_estimator_comes_back(estimator, rows):
    X, y = rows
    found = again(estimator.fit(X, y))
    assert np.array_equal(found.predict(X), estimator.predict(X))


def test_training_goes_on_to_the_same_weights(rows):
    X, y = rows
    estimator = MLPClassifier(hidden_layer_sizes=(8,), random_state=0)
    estimator.partial_fit(X, y, classes=[0, 1])
    found = again(estimator)
    for each in (estimator, found):
        each.partial_fit(X, y)
    for was, now in zip(estimator.coefs_, found.coefs_, strict=True):
        np.testing.assert_array_equal(now, was)


@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
def test_an_estimator_of_tables_comes_back_with_its_encoding(kind, rows):
    X, y = rows
    table = {
        "size": np.where(X[:, 0] > 2, np.nan, X[:, 0]),
        "town": np.where(X[:, 1] > 0, "north", np.where(X[:, 1] > -1, "south", "")).astype(object),
        "day": np.datetime64("2020-01-01") + (np.abs(X[:, 2]) * 300).astype("timedelta64[D]"),
    }
    answers = y if kind is TabularClassifier else X[:, 0] + X[:, 3]
    estimator = kind(preset="quick", epochs=3, random_state=0).fit(table, answers)
    found = again(estimator)
    assert np.array_equal(found.predict(table), estimator.predict(table))
    if kind is TabularClassifier:
        assert np.array_equal(found.predict_proba(table), estimator.predict_proba(table))
    else:
        assert np.array_equal(found.predict_interval(table, 0.5), estimator.predict_interval(table, 0.5))
