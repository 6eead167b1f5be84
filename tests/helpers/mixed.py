"""A table with columns of every kind."""

from __future__ import annotations

import numpy as np


def mixed_table(n=300, seed=0):
    """Columns of every kind, with gaps, rare categories, two of them, numbers as categories, booleans and dates."""
    rng = np.random.default_rng(seed)
    towns = np.array(["a", "b", "c d", None, "rare", "rarer"], dtype=object)
    seconds = rng.integers(0, 900 * 86400, n).astype("timedelta64[s]")
    table = {
        "size": np.where(rng.random(n) < 0.1, np.nan, rng.normal(50.0, 20.0, n)),
        "rooms": rng.integers(1, 5, n).astype(float),
        "town": rng.choice(towns, n, p=[0.3, 0.3, 0.2, 0.18, 0.01, 0.01]),
        "kind": rng.choice(np.array(["flat", "house"], dtype=object), n),
        "code": rng.choice(np.array(["1", "2", "30"], dtype=object), n),
        "garden": rng.random(n) < 0.5,
        "sold": np.datetime64("2020-01-31T07:30") + seconds,
    }
    table["sold"][5::50] = np.datetime64("NaT")
    y = np.nan_to_num(table["size"], nan=50.0) + 20.0 * (table["town"] == "a") + 5.0 * table["garden"]
    return table, y
