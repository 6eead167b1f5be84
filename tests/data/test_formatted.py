"""Numbers and words as bytes: what Python writes, to the last byte."""

from __future__ import annotations

import csv
import io

import numpy as np
import pytest

from xpnn.data.formatted import escaped, joined, rounded, shortest, words_as

RNG = np.random.default_rng(0)
N = 20_000
POWERS = np.array([float(f"1e{k}") for k in range(-30, 24)])
NUMBERS = {
    "edges": np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 5e-324, 1.7976931348623157e308, 2.0**53, 0.3]),
    "powers": np.concatenate(
        [POWERS, np.nextafter(POWERS, 0), np.nextafter(POWERS, np.inf), 2.0 ** np.arange(-60, 60)]
    ),
    "any bits": RNG.integers(0, 2**64, N, dtype=np.uint64).view(np.float64),
    "usual": RNG.normal(size=N) * 2.15 + 0.95,
    "of float32": RNG.normal(size=N).astype(np.float32).astype(np.float64) * 2.15 + 0.95,
    "of all sizes": np.exp(RNG.uniform(-12, 40, N)),
    "small": -np.exp(RNG.uniform(-70, 1, N)),
    "few digits": np.round(np.exp(RNG.uniform(-9, 30, N)), 3),
    "whole": RNG.integers(-(10**6), 10**6, N).astype(np.float64),
    "halves of a digit": (RNG.integers(0, 2 * 10**6, N) + 0.5) / 1e6,
}


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_written_as_python_does(values):
    assert joined([shortest(values)]).decode().split() == list(map(repr, values.tolist()))
    assert joined([rounded(values)]).decode().split() == [f"{value:.6g}" for value in values]
    single = np.float32(values[np.abs(values) < 1e38])
    assert joined([rounded(single)]).decode().split() == [f"{value:.6g}" for value in single]


@pytest.mark.parametrize("alone", [False, True])
def test_cells_are_written_as_csv_does(alone):
    values = ["a", "", "b,c", 'say "x"', " d", "two\nlines", "ü", "\r", True, 3, 0.5, float("nan"), "=1"]
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows([value] if alone else [value, 7] for value in values)
    for some in (values, ["a", "ü-1"], [""]):
        assert len(escaped(some, alone=alone)) == len(some)
    cells = words_as(escaped(values, alone=alone), np.arange(len(values)))
    seven = words_as([b"7"], np.zeros(len(values), np.int64))
    assert joined([cells] if alone else [cells, seven]).decode() == file.getvalue()
