"""New rows beside the training's: what moved is found, and what did not is left alone."""

from __future__ import annotations

import datetime
import json
import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.data import InputSchema, TableEncoder, drift
from xpnn.errors import DataError, DTypeError

TOWNS = np.array([f"t{k}" for k in range(12)], dtype=object)


def table(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    amount = np.where(rng.random(n) < 0.8, 0.0, rng.lognormal(2.0, 1.0, n))
    gaps = rng.normal(size=n)
    gaps[rng.random(n) < 0.05] = np.nan
    return {
        "size": rng.normal(80.0, 20.0, n),
        "amount": amount,
        "gaps": gaps,
        "town": TOWNS[np.minimum(rng.geometric(0.3, n) - 1, 11)],
        "day": np.datetime64("2024-01-01") + rng.integers(0, 300, n),
    }


@pytest.fixture(scope="module")
def trained():
    columns = table(np.random.default_rng(0), 3000)
    encoder = TableEncoder().fit(columns)
    return encoder, InputSchema.of(encoder, columns)


@pytest.fixture
def new():
    return table(np.random.default_rng(1), 800)


def by_name(found):
    return {column.name: column for column in found.columns}


# -- what has not moved ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("then", "now"), [(900, 250), (400, 60)])
def test_rows_like_those_of_the_training_raise_no_alarm(then, now):
    """At most one of a hundred tables may, by construction; of 200 draws five would be too many."""
    moved = warned = fixed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns = table(rng, then)
        encoder = TableEncoder(max_categories=12).fit(columns)
        found = drift(InputSchema.of(encoder, columns), table(rng, now), encoder=encoder)
        moved += bool(found.above(0.0))
        warned += found.warning() is not None
        fixed += found.psi > 0.1
    assert moved <= 4
    assert warned <= 2
    assert now > 100 or fixed > 50, "a fixed threshold alone would cry wolf over few rows"


def test_the_index_is_that_of_the_formula():
    columns = {"x": np.array([0.0] * 50 + [1.0] * 50), "y": np.arange(100.0)}
    schema = InputSchema.of(TableEncoder().fit(columns), columns)
    found = by_name(drift(schema, {"x": np.array([0.0] * 20 + [1.0] * 80), "y": np.arange(100.0)}))
    e, a = np.array([50.5, 50.5]) / 101, np.array([20.5, 80.5]) / 101
    assert found["x"].psi == pytest.approx(((a - e) * np.log(a / e)).sum())
    assert found["y"].psi == 0.0


# -- what has --------------------------------------------------------------------------------------------------------
CHANGED = {
    "size": lambda c: c["size"] + 25.0,
    "amount": lambda c: np.where(c["amount"] == 0, 1.0, c["amount"]),
    "gaps": lambda c: np.where(np.arange(len(c["gaps"])) % 2, np.nan, c["gaps"]),
    "town": lambda c: np.where(np.arange(len(c["town"])) % 3 == 0, "new", c["town"]).astype(object),
    "day": lambda c: c["day"] + np.timedelta64(400, "D"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_a_column_that_moved_is_found_and_the_others_are_not(trained, new, name):
    encoder, schema = trained
    found = drift(schema, {**new, name: CHANGED[name](new)}, encoder=encoder)
    assert found.above(0.25) == [name]
    assert found.columns[0].name == name
    assert found.columns[0].verdict == "large"
    assert f"1 column has moved much (PSI of 0.25 and more): '{name}'." in str(found)


def test_what_is_told_of_a_column(trained, new):
    _, schema = trained
    changed = by_name(drift(schema, {**new, **{name: CHANGED[name](new) for name in ("gaps", "town", "day")}}))
    assert changed["gaps"].missing == pytest.approx(0.5, abs=0.05)
    assert changed["gaps"].missing_then == pytest.approx(0.05, abs=0.02)
    assert changed["gaps"].alarms == [f"{100 * changed['gaps'].missing:.1f}% missing, in training 5.5%"]
    assert changed["town"].new == {"new": 267}
    assert changed["town"].alarms == ["33.4% of unseen categories such as 'new'"]
    assert changed["day"].range == tuple(str(CHANGED["day"](new).min() + np.timedelta64(k, "D")) for k in (0, 299))
    assert changed["day"].outside == 1.0
    assert changed["size"].alarms == []


def test_a_warning_is_one_short_line(trained, new):
    _, schema = trained
    rows = {**new, "size": new["size"] * 1000, "gaps": CHANGED["gaps"](new), "town": CHANGED["town"](new)}
    found = drift(schema, {**rows, "day": CHANGED["day"](new)})
    assert found.warning().startswith("far from what training saw: ")
    assert found.warning().endswith("; and 1 more column")
    assert "\n" not in found.warning()


def test_one_row_far_off_is_told_and_one_like_the_others_is_not(trained, new):
    _, schema = trained
    row = {name: values[:1] for name, values in new.items()}
    assert drift(schema, row).warning() is None
    found = drift(schema, {**row, "size": np.array([80_000.0])})
    assert "size (100.0% outside" in found.warning()
    assert found.above(0.0) == [], "of one row no share can be told"


# -- which rows ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_frames_are_as_good_as_columns(trained, new, frame):
    encoder, schema = trained
    assert drift(schema, frame(new)).to_dict() == drift(schema, new, encoder=encoder).to_dict()


def test_text_is_read_as_numbers_and_dates(trained, new):
    _, schema = trained
    texts = {name: values.astype(str).astype(object) for name, values in new.items()}
    texts["gaps"][texts["gaps"] == "nan"] = None
    assert drift(schema, texts).to_dict() == drift(schema, new).to_dict()


def test_what_cannot_be_read_is_told_before_the_rest(trained, new):
    encoder, schema = trained
    rows = {name: values for name, values in new.items() if name != "day"}
    rows["size"] = np.array(["wide", *map(str, new["size"][1:])], dtype=object)
    for how in (encoder, None):
        found = drift(schema, {**rows, "more": new["size"]}, encoder=how)
        assert [column.verdict for column in found.columns] == ["unreadable"] * 2 + ["stable"] * 3
        assert found.above(1.0) == ["size", "day"]
        assert "got 'wide' in data row 1" in found.columns[0].problem
        assert found.unused == ["more"]
        assert "Predictions are refused: 'size', 'day' cannot be read" in found.sentence()


def test_numbers_for_dates_and_columns_of_other_lengths(trained, new):
    _, schema = trained
    found = by_name(drift(schema, {**new, "day": new["size"], "gaps": new["gaps"][:5]}))
    assert "expected a date, got float64" in found["day"].problem
    assert "it has 5 rows of 800" in found["gaps"].problem


def test_some_columns_alone(trained, new):
    _, schema = trained
    assert [c.name for c in drift(schema, {"size": new["size"]}, columns=["size"]).columns] == ["size"]


def test_no_rows_and_no_columns(trained):
    _, schema = trained
    with pytest.raises(DataError, match="expected at least one row"):
        drift(schema, {"size": np.empty(0)})
    with pytest.raises(DTypeError, match="expected columns by name"):
        drift(schema, np.zeros((3, 5)))


# -- any table -----------------------------------------------------------------------------------------------------
cells = {
    "number": st.floats(-1e9, 1e9) | st.just(math.nan) | st.integers(-3, 3).map(float),
    "word": st.sampled_from(["a", "b", "1", "1.0", "01", " a", "é", "\n", None]),
    "day": st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)).map(
        lambda d: d.replace(microsecond=0)
    ),
    "flag": st.booleans() | st.none(),
}


@settings(max_examples=40)
@given(st.lists(st.tuples(*cells.values()), min_size=2, max_size=30))
def test_a_table_beside_itself_has_not_moved(rows):
    columns = {
        name: np.array(column, dtype=object) for name, column in zip(cells, zip(*rows, strict=True), strict=True)
    }
    columns["number"] = columns["number"].astype(np.float64)
    try:
        encoder = TableEncoder(categorical=["word"]).fit(columns)
    except DataError:  # no column varies
        return
    schema = InputSchema.of(encoder, columns)
    assert InputSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema
    assert str(schema).count("\n") == len(schema.columns) + 1
    found = drift(schema, columns, encoder=encoder)
    assert found.psi == 0.0
    assert found.above(0.0) == []
    assert found.warning() is None
    assert not any(column.outside or column.new for column in found.columns)
    json.dumps(found.to_dict(), allow_nan=False)
    assert encoder.transform(schema.example()).shape[0] == 1
