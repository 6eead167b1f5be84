"""Tables and models that the tests of every format share; and what Keras computes with."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest
from mixed import mixed_table

from xpnn.tabular import TabularClassifier, TabularRegressor

# Keras takes it from the environment when it is imported.
_FOUND = [name for name in ("torch", "jax") if importlib.util.find_spec(name)]
os.environ.setdefault("KERAS_BACKEND", [*_FOUND, "numpy"][0])

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
