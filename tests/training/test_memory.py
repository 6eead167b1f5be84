"""What is copied of large arrays: one copy of all rows where none of theirs can be used, and slices else."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import xpnn
from xpnn.data import Standardizer, scaling

ROWS, COLUMNS = 8192, 500
SLICES = 0.2  # of the array, at this size: what is gathered, checked or predicted at once, and the network


def grown(call):
    """Return the most memory that a call had beside what was there before, in bytes."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).random((ROWS, COLUMNS))


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_trainer_makes_one_copy_in_its_dtype(rows, order):
    X, y = np.asarray(rows, order=order), rows[:, :1].copy()
    trainer = xpnn.Trainer(xpnn.mlp([COLUMNS, 4, 1]), xpnn.MeanSquaredError(), xpnn.Adam(), metrics=())
    trainer.fit(X[:64], y[:64], epochs=1)
    assert grown(lambda: trainer.fit(X, y, epochs=1, batch_size=256)) < (0.5 + SLICES) * X.nbytes
    assert grown(lambda: trainer.net.predict(X, batch_size=512)) < SLICES * X.nbytes


def test_a_trainer_copies_no_rows_of_its_own_dtype(rows):
    X, y = rows.astype(np.float32), rows[:, :1].astype(np.float32)
    trainer = xpnn.Trainer(xpnn.mlp([COLUMNS, 4, 1]), xpnn.MeanSquaredError(), xpnn.Adam(), metrics=())
    trainer.fit(X[:64], y[:64], epochs=1)
    assert grown(lambda: trainer.fit(X, y, epochs=1, batch_size=256)) < 2 * SLICES * X.nbytes


@pytest.mark.parametrize(("order", "copies"), [("C", 0.0), ("F", 1.0)])
def test_an_estimator_copies_columns_into_rows_once(rows, order, copies):
    estimators = pytest.importorskip("xpnn.estimators")
    X, y = np.asarray(rows, order=order), rows[:, 0] + rows[:, 1]
    model = estimators.MLPRegressor(hidden_layer_sizes=(4,), max_iter=1, batch_size=256)
    with pytest.warns(Warning, match="converge"):
        assert grown(lambda: model.fit(X, y)) < (copies + SLICES) * X.nbytes
    assert grown(lambda: model.predict(X)) < SLICES * X.nbytes


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_standardizer_holds_what_it_returns_and_slices(monkeypatch, rows, order, dtype):
    monkeypatch.setattr(scaling, "_BLOCK_ELEMENTS", 1 << 16)
    X = np.asarray(rows, dtype=dtype, order=order)
    scaler = Standardizer()
    assert grown(lambda: scaler.fit(X)) < SLICES * rows.nbytes
    assert grown(lambda: scaler.transform(X)) < X.nbytes + SLICES * rows.nbytes
