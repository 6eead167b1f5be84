"""Tables and models that the tests of every format share."""

from __future__ import annotations

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
