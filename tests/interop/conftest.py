"""Tables and models that the tests of every format share."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from mixed import mixed_table

from xpnn.tabular import TabularClassifier, TabularRegressor

OPTIONS = {"preset": "quick", "epochs": 2, "hidden": (16,), "categorical": ["code"], "random_state": 0}


@pytest.fixture(scope="session")
def classifier():
    """A classifier of three networks, with temperature, and its table."""
    table, y = mixed_table()
    model = TabularClassifier(ensemble=3, **OPTIONS).fit(
        table, np.where(y > 60, "high", np.where(y > 45, "mid", "low"))
    )
    return model, table


@pytest.fixture(scope="session")
def regressor():
    """A regressor with intervals, and its table."""
    table, y = mixed_table()
    return TabularRegressor(**OPTIONS).fit(table, y), table


@pytest.fixture(scope="session")
def fitted_estimators():
    """Estimators of scikit-learn's kind and 60 rows for each: two classes, several, several labels, and numbers."""
    pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    from xpnn.estimators import MLPClassifier, MLPRegressor

    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    hidden = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
    targets = [X[:, 0] > 0, np.digitize(X[:, 1], [-0.5, 0.5]), (X[:, :2] > 0).astype(int)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # three iterations are few
        made = [MLPClassifier(**hidden).fit(X, y) for y in targets]
        made += [MLPRegressor(**hidden).fit(X, y) for y in (X[:, 0], X[:, :2])]
    return [(model, X) for model in made]
