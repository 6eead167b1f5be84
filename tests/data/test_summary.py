"""An encoder fitted over blocks: exact counts, and a sample that does not depend on who gathers it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.data import TableEncoder, TableSummary
from xpnn.errors import DataError, OptionError

N = 240
RNG = np.random.default_rng(0)
OPTIONS = [{}, {"bins": "auto"}, {"impute": "mean", "min_count": 30}, {"max_categories": 3, "categorical": ["grade"]}]


def table():
    size, town = RNG.normal(size=N), RNG.choice(["a", "b", "b", "c", "d"], N).astype(object)
    size[::11], town[::13] = np.nan, None
    return {
        "size": size,
        "town": town,
        "grade": RNG.integers(0, 5, N),
        "day": np.datetime64("2024-01-01", "us") + RNG.integers(0, 400, N).astype("m8[D]"),
        "seen": np.array([f"2023-{k % 12 + 1:02d}-{k % 28 + 1:02d}" for k in range(N)], dtype=object),
        "flag": RNG.integers(0, 2, N).astype(bool),
        "name": np.array([f"n{k}" for k in range(N)], dtype=object),
    }


TABLE = table()


def part(start, stop):
    return {name: column[start:stop] for name, column in TABLE.items()}


def blocks(cuts):
    edges = [0, *sorted(cuts), N]
    return [part(a, b) for a, b in itertools.pairwise(edges)]


@pytest.mark.parametrize("options", OPTIONS)
@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, N), max_size=4))
def test_few_rows_give_what_fit_gives(options, cuts):
    assert TableEncoder(**options).fit_blocks(blocks(cuts)).to_dict() == TableEncoder(**options).fit(TABLE).to_dict()


@pytest.mark.parametrize("options", OPTIONS)
@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, N), max_size=4), st.integers(0, 5))
def test_a_sample_is_the_same_however_rows_are_cut_and_merged(options, cuts, seed):
    categorical = options.get("categorical", ())
    whole = TableSummary(sample=60, categorical=categorical)
    for number in range(4):  # of four files, each whole
        whole.add(part(60 * number, 60 * number + 60), part=number)
    others = []
    for number in range(4):
        other = TableSummary(sample=60, categorical=categorical)
        own = [0, *sorted(cut % 60 for cut in cuts), 60]
        for a, b in itertools.pairwise(own):
            other.add(part(60 * number + a, 60 * number + b), part=number)
        others.append(other)
    random.Random(seed).shuffle(others)
    merged = others[0]
    for other in others[1:]:
        merged.merge(other)
    assert (merged.rows, len(merged.drawn()["size"])) == (N, 60)
    one, two = (TableEncoder(**options).fit_blocks(each) for each in (whole, merged))
    assert one.to_dict() == two.to_dict()
    full = TableEncoder(**options).fit(TABLE)
    assert one.feature_names_out == full.feature_names_out or options.get("bins")
    assert one.notes[-1].startswith("Medians, quartiles, bins and dates are those of 60 of 240 rows, drawn by seed 0.")


def test_what_only_rows_outside_the_sample_show_is_known():
    a, b = np.zeros(500), np.ones(500)
    a[3], b[7] = 5.0, np.nan
    b[8:] = np.arange(492)
    town = np.array(["x"] * 499 + ["y"], dtype=object)
    summary = TableSummary(sample=5, seed=1)
    summary.add({"a": a, "b": b, "town": town})
    drawn = summary.drawn()
    assert 5.0 not in drawn["a"]
    assert not np.isnan(drawn["b"]).any()
    encoder = TableEncoder().fit_blocks(summary)
    assert encoder.feature_names_out == ["a", "b", "b:missing", "town=y"]
    assert np.isfinite(encoder.transform({"a": a, "b": b, "town": town})).all()


def test_another_seed_draws_another_sample():
    drawn = []
    for seed in (0, 0, 1):
        summary = TableSummary(sample=20, seed=seed)
        summary.add(TABLE)
        drawn.append(summary.drawn()["name"].tolist())
    assert drawn[0] == drawn[1] != drawn[2]


def test_each_row_is_as_likely_as_any_other():
    times = np.zeros(100)
    for seed in range(400):
        summary = TableSummary(sample=10, seed=seed)
        summary.add({"k": np.arange(50.0)}, part=0)
        summary.add({"k": np.arange(50.0, 100.0)}, part=1)
        times[summary.drawn()["k"].astype(int)] += 1
    assert abs(times - 40).max() < 6 * np.sqrt(40 * 0.9)
    assert abs(times[:50].sum() - 2000) < 6 * np.sqrt(2000)


def test_gaps_alone_go_with_every_kind():
    gaps, day = np.full(3, None, dtype=object), TABLE["day"]
    for column, names in ((day, "day:elapsed"), (TABLE["size"], "size"), (TABLE["town"], "town=b")):
        name = names.partition(":")[0].partition("=")[0]
        for order in ([{name: gaps}, {name: column}], [{name: column}, {name: gaps}]):
            assert names in TableEncoder().fit_blocks(order).feature_names_out


def test_too_many_values_are_no_categories(monkeypatch):
    monkeypatch.setattr("xpnn.data.summary.MOST_DISTINCT", 100)
    one, two = TableSummary(sample=50), TableSummary(sample=50)
    one.add(part(0, 90), part=0)
    two.add(part(90, N), part=1)
    assert two.columns["name"].counts is None
    one.merge(two)
    encoder = TableEncoder().fit_blocks(one)
    assert "name" not in encoder.feature_names_in
    assert any(note.startswith("name: left out, more than ") for note in encoder.notes)


def test_bad_blocks_are_told():
    fit = TableEncoder().fit_blocks
    with pytest.raises(DataError, match=r"expected numbers in column 'a', as in the blocks before, got text"):
        fit([{"a": np.ones(2)}, {"a": np.array(["x", "y"], dtype=object)}])
    with pytest.raises(DataError, match=r"expected the columns 'a', as in the blocks before, got 'b' beside them"):
        fit([{"a": np.ones(2)}, {"a": np.ones(2), "b": np.ones(2)}])
    with pytest.raises(DataError, match=r"expected the columns 'a', 'b', as in the blocks before, got none named 'b'"):
        fit([{"a": np.ones(2), "b": np.ones(2)}, {"a": np.ones(2)}])
    with pytest.raises(DataError, match=r"expected columns of one length, got \[1, 2\]"):
        fit([{"a": np.ones(2), "b": np.ones(1)}])
    with pytest.raises(DataError, match=r"^TableEncoder\.fit_blocks: expected at least one column and one row"):
        fit([])
    with pytest.raises(OptionError, match=r"expected column names, got 'c'"):
        TableEncoder(numeric=["c"]).fit_blocks([{"a": np.arange(3.0)}])
    one, two = TableSummary(), TableSummary()
    one.add({"a": np.ones(2)})
    two.add({"a": np.ones(2)})
    with pytest.raises(OptionError, match=r"got part 0 on both sides"):
        one.merge(two)
    with pytest.raises(OptionError, match=r"expected other parts, and the same sample, seed and categorical"):
        one.merge(TableSummary(seed=3))
