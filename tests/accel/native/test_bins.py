"""Numbers packed by a compiled loop: what NumPy makes of them, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.accel.native.support import load_loops
from xpnn.data import TableEncoder
from xpnn.data.fitted import NumberColumn

pytest.importorskip("numba")

N = 3000
EDGES = tuple(np.cumsum(np.random.default_rng(3).exponential(size=66)).tolist())


@pytest.fixture(autouse=True)
def loops(monkeypatch):
    monkeypatch.delenv("XPNN_COMPILED", raising=False)
    assert load_loops() is not None


def numbers() -> np.ndarray:
    """Some within the edges, on them and beyond, gaps, zeros of both signs, and the largest."""
    rng = np.random.default_rng(0)
    x = rng.normal(30, 20, N)
    x[:66] = EDGES
    x[66:132] = np.nextafter(EDGES, -np.inf)
    x[132:140] = 0.0, -0.0, 1e308, -1e308, 5e-324, 1e30, -1e30, 30.0
    x[200:260] = np.nan
    return x


@pytest.mark.parametrize("clip", [None, 3.0])
@pytest.mark.parametrize("flagged", [False, True])
@pytest.mark.parametrize("spread", [0.0, 5e-324, 12.5])
def test_packed_numbers_are_those_of_numpy(spread, flagged, clip):
    column = NumberColumn("x", 31.25, 30.0, spread, flagged, EDGES)
    with np.errstate(over="ignore"):
        parts = column.pack(numbers(), clip)
    expected, found = (np.full((N, len(parts) + 2), 7, np.float32) for _ in range(2))
    places = list(range(len(parts)))[::-1]
    for place, part in zip(places, parts, strict=True):
        expected[:, place] = part
    assert column.pack_into(found, places, numbers(), clip)
    assert np.array_equal(found.view(np.int32), expected.view(np.int32))


def test_rows_of_a_table_are_the_same_with_and_without_loops(monkeypatch):
    rng = np.random.default_rng(1)
    table = {"a": rng.normal(size=N), "b": np.where(rng.random(N) < 0.1, np.nan, rng.exponential(size=N))}
    encoder = TableEncoder(bins=32, clip=3.0).fit(table)
    found = encoder.rows(table).packed
    assert (encoder.rows(table)[5:900].packed == found[5:900]).all()
    monkeypatch.setenv("XPNN_COMPILED", "0")
    assert np.array_equal(encoder.rows(table).packed, found)


@pytest.mark.parametrize("edges", [(), (0.0, 1.0, 2.0), (*np.full(20, 1e-9) * np.arange(20), 1e6, 2e6)])
def test_few_edges_and_crowded_ones_are_left_to_numpy(edges):
    column = NumberColumn("x", 0.0, 0.0, 1.0, False, edges)
    assert not column.pack_into(np.zeros((N, 3), np.float32), [0, 1, 2], numbers(), 3.0)
