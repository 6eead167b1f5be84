"""The encoding of columns as operations, against the encoder itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed import mixed_table

from xpnn.data import TableEncoder, load_csv
from xpnn.errors import OptionError
from xpnn.interop.build import Builder
from xpnn.interop.encode import encode_table, holds_numbers, inputs_of
from xpnn.interop.graph import run
from xpnn.interop.samples import rows_like


def encoded(encoder, rows):
    builder = Builder()
    graph = builder.graph({"X": encode_table(builder, encoder)})
    return run(graph, inputs_of(encoder, rows))["X"]


def same(encoder, rows):
    np.testing.assert_allclose(encoded(encoder, rows), encoder.transform(rows), rtol=0, atol=3e-7)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bins": 8, "values_first": True},
        {"bins": "auto", "min_count": 5, "clip": None},
        {"impute": "mean", "max_categories": 3, "categorical": ["code", "rooms", "garden"]},
        {"numeric": ["sold"], "categorical": ["size"]},
        {"categorical": ["sold"], "max_categories": 500},
    ],
    ids=str,
)
def test_a_table_of_every_kind(options):
    table, _ = mixed_table()
    encoder = TableEncoder(**options).fit(table)
    same(encoder, table)
    same(encoder, mixed_table(seed=1)[0])
    same(encoder, rows_like(encoder, 300))


def test_numbers_as_categories_are_given_as_numbers():
    table = {"code": np.array(["1", "2", "30", None] * 5, dtype=object), "x": np.arange(20.0)}
    encoder = TableEncoder(categorical=["code"], max_categories=3).fit(table)
    (column,) = (column for column in encoder.fitted_columns if column.name == "code")
    assert holds_numbers(column)
    rows = {"code": np.array(["1.0", "30", " 2", "7", "x", None, "1e0"], dtype=object), "x": np.zeros(7)}
    assert inputs_of(encoder, rows)["code"].tolist()[:5] == [1.0, 30.0, 2.0, 7.0, np.inf]
    same(encoder, rows)
    same(encoder, {"code": np.array([1, 2, 30, 8]), "x": np.zeros(4)})
    words = TableEncoder().fit({"code": np.array(["01", "02", "nan"] * 5, dtype=object)})
    assert not holds_numbers(words.fitted_columns[0])


@settings(max_examples=30)
@given(
    st.lists(st.integers(-200 * 365 * 86_400_000_000, 250 * 365 * 86_400_000_000), min_size=1, max_size=20),
    st.sampled_from(["s", "us", "D"]),
)
def test_dates_of_four_centuries(microseconds, unit):
    times = np.asarray(microseconds, dtype="datetime64[us]").astype(f"datetime64[{unit}]")
    seen = np.datetime64("1999-12-31T23:30") + np.arange(0, 3000, 7).astype("timedelta64[h]")
    encoder = TableEncoder(bins=5).fit({"when": seen})
    assert len(encoder.feature_names_out) > 20
    np.testing.assert_allclose(encoded(encoder, {"when": times}), encoder.transform({"when": times}), atol=1e-6)


def test_text_of_a_file_is_read_as_in_training(tmp_path):
    rows = (
        'day,price,kind,flag\n31.12.2023,"1,5", a ,True\n29.02.2024,"2,25",b,False\n,NULL,,\n01.03.2024,"0,5",a,True\n'
    )
    path = tmp_path / "table.csv"
    path.write_text(rows * 1 + rows.split("\n", 1)[1] * 3, encoding="utf-8")
    encoder = TableEncoder().fit(load_csv(path))
    same(encoder, load_csv(path))
    given = inputs_of(encoder, load_csv(path))
    assert given["kind"].tolist()[:4] == ["a", "b", "", "a"]
    assert given["price"].tolist()[:2] == [1.5, 2.25]
    assert given["day"][0] == 1703980800.0


def test_a_category_of_spaces_alone_is_refused():
    """It is the empty text, as a missing cell is in every format, and would be taken for one."""
    cells = np.array(["a", " ", None, "b"] * 5, dtype=object)
    encoder = TableEncoder().fit({"town": cells})
    assert encoder.feature_names_out[:3].count("town=") == 1
    with pytest.raises(OptionError, match="column 'town': expected categories other than spaces alone"):
        encode_table(Builder(), encoder)
