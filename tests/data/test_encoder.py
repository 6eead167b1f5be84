"""The table encoder: what each value becomes, what is said about it, and every refusal."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.csv import load_csv
from xpnn.data.encoder import TableEncoder
from xpnn.data.fitted import bins_of
from xpnn.errors import DataError, DTypeError, FileFormatError, OptionError, ShapeError


def texts(*values: str | None) -> np.ndarray:
    return np.array(values, dtype=object)


def column_of(encoder: TableEncoder, table: dict[str, Any], name: str) -> np.ndarray:
    return encoder.transform(table)[:, encoder.feature_names_out.index(name)]


# numeric columns --------------------------------------------------------------------------------------------


def test_number_is_scaled_by_median_and_quartiles_and_clipped_smoothly():
    x = np.array([1.0, 2.0, 4.0, 8.0, 1000.0])
    encoder = TableEncoder().fit({"x": x})
    z = (x - 4.0) / (8.0 - 2.0)
    np.testing.assert_allclose(encoder.transform({"x": x})[:, 0], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)
    assert encoder.notes == []


@given(
    st.lists(st.floats(-1e100, 1e100), min_size=1, max_size=70, unique=True),
    st.lists(st.floats(-1e100, 1e100), max_size=20),
    st.floats(1e-3, 1.0),
)
def test_bins_are_those_of_a_binary_search(edges, numbers, step):
    even = (step * np.arange(len(edges))).tolist()  # as bins are: none is crowded
    for rising in (tuple(sorted(edges)), tuple(even)):
        x = np.resize([*numbers, *rising, *np.nextafter(rising, -np.inf), *np.nextafter(rising, np.inf)], 1000)
        assert bins_of(rising, x).tolist() == np.searchsorted(rising, x, side="right").tolist()


def test_scale_and_clip_are_those_of_the_training_rows():
    encoder = TableEncoder().fit({"x": np.arange(11.0)})
    got = encoder.transform({"x": np.array([5.0, 1e99, -1e99])})[:, 0]
    np.testing.assert_allclose(got, [0.0, 3.0, -3.0], rtol=1e-6)


def test_without_clip_the_scale_is_linear():
    encoder = TableEncoder(clip=None).fit({"x": np.arange(11.0)})
    np.testing.assert_allclose(encoder.transform({"x": np.array([105.0])}), [[20.0]])


def test_spread_of_a_column_that_is_mostly_zero_comes_from_the_other_values():
    x = np.array([0.0] * 20 + [100.0, 200.0, 300.0, 400.0, 500.0])
    encoder = TableEncoder(clip=None).fit({"x": x})
    np.testing.assert_allclose(encoder.transform({"x": np.array([0.0, 400.0])})[:, 0], [0.0, 2.0])


def test_spread_of_two_values_is_half_their_distance():
    encoder = TableEncoder(clip=None).fit({"x": np.array([0.0] * 9 + [10.0])})
    np.testing.assert_allclose(encoder.transform({"x": np.array([0.0, 10.0])})[:, 0], [0.0, 2.0])


@pytest.mark.parametrize(("impute", "fill"), [("median", 2.0), ("mean", 4.0)])
def test_missing_numbers_are_imputed_flagged_and_told(impute, fill):
    x = np.array([1.0, np.nan, 2.0, 9.0])
    encoder = TableEncoder(impute=impute, clip=None).fit({"rooms": x})
    assert encoder.feature_names_out == ["rooms", "rooms:missing"]
    matrix = encoder.transform({"rooms": x})
    np.testing.assert_array_equal(matrix[:, 1], [0, 1, 0, 0])
    assert matrix[1, 0] == encoder.transform({"rooms": np.array([fill])})[0, 0]
    assert encoder.notes == [f"rooms: 1 missing value imputed with the {impute} {fill:g}, flagged by a 0/1 column."]


def test_a_gap_that_training_never_saw_is_imputed_and_remarked():
    encoder = TableEncoder().fit({"x": np.arange(5.0)})
    new = {"x": np.array([np.nan, 1.0])}
    assert encoder.feature_names_out == ["x"]
    np.testing.assert_array_equal(encoder.transform(new)[0], [0.0])
    assert encoder.remarks(new) == ["x: 1 missing value imputed with 2."]


@pytest.mark.parametrize(
    "x", [np.array([3, 1, 2]), np.array([3, 1, 2], dtype=np.uint8), texts("3", "1", "2"), [3, 1, 2]]
)
def test_any_kind_of_number_is_read(x):
    encoder = TableEncoder(numeric=["x"], clip=None).fit({"x": x})
    np.testing.assert_array_equal(encoder.transform({"x": x}), [[1.0], [-1.0], [0.0]])


def test_booleans_are_numbers():
    encoder = TableEncoder(clip=None).fit({"x": np.array([True, False, False, False, False])})
    np.testing.assert_array_equal(encoder.transform({"x": np.array([False, True])}), [[0.0], [2.0]])


def test_booleans_may_come_as_words():
    encoder = TableEncoder(clip=None).fit({"x": np.array([True, None, False, False], dtype=object)})
    same = encoder.transform({"x": np.array([True, False, None], dtype=object)})
    np.testing.assert_array_equal(encoder.transform({"x": texts("True", " false", None)}), same)
    with pytest.raises(DataError, match="column 'x': expected a number, got 'yes' in data row 1"):
        encoder.transform({"x": texts("yes")})
    with pytest.raises(DataError, match="column 'y': expected a number, got 'True' in data row 1"):
        TableEncoder().fit({"y": np.arange(3.0)}).transform({"y": texts("True")})


def test_constant_columns_are_left_out_and_told():
    table = {"x": np.arange(3.0), "one": np.ones(3), "same": texts("a", "a", "a")}
    encoder = TableEncoder().fit(table)
    assert encoder.feature_names_out == ["x"]
    assert encoder.notes == ["one: left out, every value is 1.", "same: left out, every value is 'a'."]
    assert encoder.transform({"x": np.zeros(2)}).shape == (2, 1)


def test_constant_but_for_gaps_keeps_the_flag_alone():
    encoder = TableEncoder(bins=4).fit({"x": np.array([7.0, np.nan, 7.0])})
    assert encoder.feature_names_out == ["x:missing"]
    np.testing.assert_array_equal(encoder.transform({"x": np.array([np.nan, 5.0])}), [[1.0], [0.0]])
    assert encoder.notes == ["x: left out, every value is 7; a 0/1 column flags the missing values."]


def test_empty_columns_are_left_out_and_told():
    table = {"x": np.arange(2.0), "nan": np.full(2, np.nan), "none": texts(None, None)}
    encoder = TableEncoder(categorical=["none"]).fit(table)
    assert encoder.feature_names_in == ["x"]
    assert encoder.notes == [
        "nan: left out, every value is missing.",
        "none: left out, every value is missing.",
    ]


def test_a_row_number_is_pointed_out():
    encoder = TableEncoder().fit({"id": np.random.default_rng(0).permutation(50) + 100.0})
    assert encoder.notes == ["id: numbers the rows from 100 to 149; if it is an identifier, train without it."]


# bins -------------------------------------------------------------------------------------------------------


def test_bins_rise_from_zero_to_one_between_quantiles():
    x = np.arange(101.0)
    encoder = TableEncoder(bins=4).fit({"x": x})
    assert encoder.feature_names_out == ["x", "x:bin1", "x:bin2", "x:bin3", "x:bin4"]
    got = encoder.transform({"x": np.array([-50.0, 0.0, 10.0, 50.0, 60.0, 100.0, 900.0])})[:, 1:]
    expected = [
        [0, 0, 0, 0],
        [0, 0, 0, 0],
        [0.4, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 0.4, 0],
        [1, 1, 1, 1],
        [1, 1, 1, 1],
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_few_values_are_edges_themselves():
    encoder = TableEncoder(bins=8).fit({"x": np.array([1.0, 5.0, 2.0, 1.0, 2.0])})
    np.testing.assert_array_equal(encoder.transform({"x": np.array([1.0, 2.0, 5.0])})[:, 1:], [[0, 0], [1, 0], [1, 1]])


def test_two_values_get_no_bins():
    assert TableEncoder(bins=8).fit({"x": np.array([0.0, 1.0, 1.0])}).feature_names_out == ["x"]


def test_edges_that_one_value_took_go_to_the_other_values():
    x = np.concatenate([np.zeros(950), np.arange(1.0, 51.0)])
    encoder = TableEncoder(bins=10).fit({"x": x})
    assert len(encoder.feature_names_out) > 6
    parts = encoder.transform({"x": np.arange(1.0, 51.0)})[:, 1:]
    # Distinct rows: the fifty other values stay apart from each other.
    assert np.unique(parts, axis=0).shape[0] == 50


@pytest.mark.parametrize(("present", "bins"), [(59, 0), (60, 2), (300, 10), (3000, 64)])
def test_bins_chosen_by_the_number_of_present_values(present, bins):
    x = np.concatenate([np.sqrt(np.arange(present) + 1.0), np.full(7, np.nan)])
    names = TableEncoder(bins="auto").fit({"x": x}).feature_names_out
    assert names == ["x", "x:missing"] + [f"x:bin{t}" for t in range(1, bins + 1)]


def test_bins_are_taken_from_present_values():
    x = np.array([0.0, 1.0, 2.0, 3.0] + [np.nan] * 40)
    encoder = TableEncoder(bins=3).fit({"x": x})
    np.testing.assert_array_equal(column_of(encoder, {"x": np.arange(4.0)}, "x:bin2"), [0, 0, 1, 1])


# categories -------------------------------------------------------------------------------------------------


def test_categories_are_one_hot_most_frequent_first():
    table = {"c": texts("b", "a", "b", "c")}
    encoder = TableEncoder().fit(table)
    assert encoder.feature_names_out == ["c=b", "c=a", "c=c"]
    np.testing.assert_array_equal(encoder.transform(table), [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]])


def test_missing_and_unknown_categories_are_zeros_and_remarked():
    encoder = TableEncoder().fit({"c": texts("a", "b", "c", None)})
    assert encoder.notes == ["c: 1 missing value encoded as zeros."]
    new = {"c": texts(None, "new", "new", "a")}
    np.testing.assert_array_equal(encoder.transform(new), [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]])
    assert encoder.remarks(new) == [
        "c: 2 values in categories that training did not keep ('new'), encoded as zeros.",
        "c: 1 missing value encoded as zeros.",
    ]
    assert encoder.remarks({"c": texts("a", "b")}) == []


def test_two_categories_make_one_signed_column():
    encoder = TableEncoder().fit({"c": texts("no", "yes", "no")})
    assert encoder.feature_names_out == ["c=yes"]
    np.testing.assert_array_equal(encoder.transform({"c": texts("yes", "no", None, "?")}), [[1], [-1], [0], [0]])


def test_one_category_with_gaps_is_its_own_flag():
    encoder = TableEncoder().fit({"c": texts("a", None)})
    np.testing.assert_array_equal(encoder.transform({"c": texts("a", None)}), [[1], [0]])


def test_rare_categories_share_a_column_and_unknown_ones_join():
    table = {"c": texts(*"aaabbbcd", None)}
    encoder = TableEncoder(min_count=2).fit(table)
    assert encoder.feature_names_out == ["c=a", "c=b", "c:rare"]
    assert encoder.notes[0] == "c: of 4 categories the 2 rarest (2 rows) share one column."
    new = {"c": texts("d", "z", None)}
    np.testing.assert_array_equal(encoder.transform(new), [[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    assert encoder.remarks(new)[0] == (
        "c: 2 values in categories that training did not keep ('d', 'z'), put with the rare ones."
    )


def test_a_single_rare_category_keeps_its_column():
    encoder = TableEncoder(min_count=2).fit({"c": texts(*"aabbc")})
    assert encoder.feature_names_out == ["c=a", "c=b", "c=c"]


def test_at_most_max_categories_columns():
    c = np.repeat([f"k{i:03}" for i in range(60)], 4).astype(object)
    encoder = TableEncoder(max_categories=10).fit({"c": c})
    assert encoder.feature_names_out == [f"c=k{i:03}" for i in range(9)] + ["c:rare"]
    assert encoder.notes == ["c: of 60 categories the 51 rarest (204 rows) share one column."]


def test_text_that_hardly_repeats_is_left_out():
    table = {"x": np.arange(300) % 7, "id": np.array([f"id{i}" for i in range(300)])}
    encoder = TableEncoder().fit(table)
    assert encoder.feature_names_in == ["x"]
    assert encoder.notes == ["id: left out, 300 different values in 300 rows look like an identifier or free text."]


def test_a_column_of_rare_categories_only_is_left_out():
    encoder = TableEncoder(min_count=5).fit({"x": np.arange(4.0), "c": texts("a", "a", "b", "b")})
    assert encoder.feature_names_in == ["x"]
    assert encoder.notes == ["c: left out, no category has 5 rows."]


def test_numbers_can_be_categories():
    encoder = TableEncoder(categorical=["zip"]).fit({"zip": np.array([1.0, 2.5, 7.0, np.nan])})
    assert encoder.feature_names_out == ["zip=1", "zip=2.5", "zip=7"]
    np.testing.assert_array_equal(encoder.transform({"zip": texts("2.5")}), [[0, 1, 0]])
    np.testing.assert_array_equal(encoder.transform({"zip": np.array([7])}), [[0, 0, 1]])


def test_the_order_of_rows_does_not_change_the_columns():
    c = texts(*"abcabcxyz")
    names = TableEncoder().fit({"c": c}).feature_names_out
    assert names == TableEncoder().fit({"c": c[::-1]}).feature_names_out


# the table --------------------------------------------------------------------------------------------------


def test_values_first_moves_the_scaled_numbers_before_flags_bins_and_categories():
    table = {
        "sex": texts("f", "m", "m", "f", "m"),
        "age": np.array([31.0, np.nan, 45.0, 38.0, 50.0]),
        "empty": np.array([np.nan, 1.0, 1.0, 1.0, np.nan]),  # of which the flag alone is left
        "pay": np.array([1.0, 2.0, 3.0, 4.0, 9.0]),
    }
    plain, moved = TableEncoder(bins=3).fit(table), TableEncoder(bins=3, values_first=True).fit(table)
    assert moved.n_values == plain.n_values == 2
    assert moved.feature_names_out[:3] == ["age", "pay", "sex=f"]
    assert sorted(moved.feature_names_out) == sorted(plain.feature_names_out)
    places = [plain.feature_names_out.index(name) for name in moved.feature_names_out]
    np.testing.assert_array_equal(moved.transform(table), plain.transform(table)[:, places])
    again = TableEncoder.from_dict(json.loads(json.dumps(moved.to_dict())))
    np.testing.assert_array_equal(again.transform(table), moved.transform(table))


def test_the_matrix_is_float32_in_the_order_of_training_and_extra_columns_are_ignored():
    table = {"a": np.arange(4.0), "c": texts(*"xyzx")}
    encoder = TableEncoder().fit(table)
    matrix = encoder.transform(table)
    assert matrix.dtype == np.float32
    assert matrix.shape == (4, 4)
    again = encoder.transform({"c": table["c"], "more": np.zeros(99), "a": table["a"]})
    np.testing.assert_array_equal(matrix, again)


def test_transform_takes_no_rows_and_changes_nothing_given():
    table = {"a": np.array([1.0, np.nan, 3.0]), "c": texts("x", None, "y")}
    copies = {name: values.copy() for name, values in table.items()}
    encoder = TableEncoder(bins=2).fit(table)
    encoder.transform(table)
    np.testing.assert_array_equal(table["a"], copies["a"])
    assert table["c"].tolist() == copies["c"].tolist()
    d = len(encoder.feature_names_out)
    assert encoder.transform({"a": np.zeros(0), "c": np.zeros(0, dtype=object)}).shape == (0, d)


def test_fit_again_forgets():
    encoder = TableEncoder().fit({"a": np.array([1.0, np.nan, 2.0])})
    encoder.fit({"b": np.arange(3.0)})
    assert encoder.feature_names_out == ["b"]
    assert encoder.notes == []


cells = st.one_of(st.none(), st.floats(-1e99, 1e99, allow_nan=False), st.integers(-5, 5).map(float))


@given(
    st.lists(cells, min_size=1, max_size=30),
    st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), min_size=30, max_size=30),
    st.sampled_from([0, 2, 5]),
    st.sampled_from([1, 2]),
    st.lists(cells, min_size=1, max_size=5),
)
def test_any_table_encodes_to_bounded_finite_numbers_and_survives_json(x, c, bins, min_count, new):
    table = {
        "x": np.array(x, dtype=np.float64),
        "c": np.array(c[: len(x)], dtype=object),
        "k": np.arange(len(x) + 0.0),
    }
    if len(x) == 1:
        table["k"] = np.array([np.nan])
    encoder = TableEncoder(bins=bins, min_count=min_count)
    try:
        encoder.fit(table)
    except DataError as error:
        assert "expected a column that varies" in str(error)  # noqa: PT017 - only some tables are refused
        return
    state = json.loads(json.dumps(encoder.to_dict(), allow_nan=False))
    twin = TableEncoder.from_dict(state)
    other = {
        "x": np.array(new, dtype=np.float64),
        "c": np.array(["a"] * len(new), dtype=object),
        "k": np.zeros(len(new)),
    }
    for rows in (table, other):
        matrix = encoder.transform(rows)
        assert np.isfinite(matrix).all()
        assert (np.abs(matrix) <= 3.0).all()
        assert matrix.shape[1] == len(encoder.feature_names_out) == len(set(encoder.feature_names_out))
        np.testing.assert_array_equal(matrix, twin.transform(rows))
    assert twin.to_dict() == encoder.to_dict()
    assert twin.notes == encoder.notes


# refusals ---------------------------------------------------------------------------------------------------

GOOD = {"age": np.arange(4.0), "work": texts("a", "b", "c", "a")}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"impute": "mode"}, "expected impute to be 'median' or 'mean', got 'mode'"),
        ({"clip": 0.0}, "expected clip > 0 or None, got 0.0"),
        ({"clip": float("nan")}, "expected clip > 0 or None, got nan"),
        ({"bins": 1}, r"expected bins to be 0 \(none\), at least 2, or 'auto', got 1"),
        ({"bins": -3}, r"expected bins to be 0 \(none\), at least 2, or 'auto', got -3"),
        ({"bins": "many"}, "got 'many'. Try 'auto'"),
        ({"min_count": 0}, "expected min_count of at least 1, got 0"),
        ({"max_categories": 1}, "expected max_categories of at least 2, got 1"),
        ({"categorical": ["a", "b"], "numeric": ["b"]}, "got 'b' in both. Take it out of one"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(OptionError, match=message):
        TableEncoder(**options)


@pytest.mark.parametrize("option", ["categorical", "numeric"])
def test_an_override_of_an_unknown_column(option):
    with pytest.raises(OptionError, match=r"got 'aeg'\. Did you mean 'age'\? There are 'age', 'work'\."):
        TableEncoder(**{option: ["aeg"]}).fit(GOOD)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({}, DataError, "expected at least one column and one row, got none"),
        ({"a": np.zeros(0)}, DataError, "expected at least one column and one row, got none"),
        (
            {"a": np.ones(3)},
            DataError,
            "expected a column that varies, got none. a: left out, every value is 1",
        ),
        ({"a": np.zeros((3, 1))}, ShapeError, r"column 'a': expected shape \(n,\), got \(3, 1\)"),
        (
            {"a": np.zeros(3), "b": np.zeros(4)},
            ShapeError,
            "expected columns of one length, got 3 rows in 'a' and 4 in 'b'",
        ),
        (
            {"a": np.array(["2020-01-01"], dtype="datetime64[D]")},
            DataError,
            "expected a column that varies, got none. a: left out, every value is 2020-01-01",
        ),
        (
            {"a": np.array([1j, 2j])},
            DTypeError,
            "column 'a': expected numbers or text, got dtype complex128",
        ),
        (
            {"a": np.array([1.0, np.inf, -np.inf])},
            DataError,
            r"column 'a': expected finite numbers .*got inf in data row 2 \(2 such rows\)",
        ),
        ({"a": np.array([1.0, -1e200])}, DataError, r"got -1e\+200 in data row 2 \(1 such row\)"),
    ],
)
def test_bad_training_tables(table, error, message):
    with pytest.raises(error, match=message):
        TableEncoder().fit(table)


def test_text_in_a_column_declared_numeric():
    with pytest.raises(DataError, match="column 'work': expected a number, got 'a' in data row 1"):
        TableEncoder(numeric=["work"]).fit(GOOD)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"age": GOOD["age"]}, "got none named 'work'. There are 'age'. Check the header"),
        ({}, "got none named 'age', 'work'"),
        (
            GOOD | {"age": texts("1", None, "old", "2")},
            "column 'age': expected a number, got 'old' in data row 3",
        ),
        (GOOD | {"age": np.array([1, 2, 3, np.inf])}, "column 'age': expected finite numbers"),
        (
            GOOD | {"work": np.array([np.nan, 7, 8, 9])},
            "column 'work': expected the categories 'a', 'b', 'c', got numbers such as 7 in data row 2",
        ),
    ],
)
def test_bad_tables_at_transform(table, message):
    encoder = TableEncoder().fit(GOOD)
    with pytest.raises(DataError, match=message):
        encoder.transform(table)


def test_columns_of_different_lengths_at_transform():
    with pytest.raises(ShapeError, match="got 2 rows in 'age' and 4 in 'work'"):
        TableEncoder().fit(GOOD).transform(GOOD | {"age": np.zeros(2)})


@pytest.mark.parametrize("method", ["transform", "remarks"])
def test_an_encoder_that_was_never_fitted(method):
    with pytest.raises(DataError, match="expected a fitted encoder, got one that never saw data"):
        getattr(TableEncoder(), method)(GOOD)


@pytest.mark.parametrize("damage", ["columns", "notes", "kind", "edges", "spelling", "stranger"])
def test_a_damaged_state(damage):
    state = TableEncoder(bins=2).fit(GOOD).to_dict()
    if damage == "kind":
        state["columns"][0]["kind"] = "day"
    elif damage == "spelling":
        state["columns"][0]["spelling"] = "."
    elif damage == "edges":
        del state["columns"][0]["edges"]
    elif damage == "stranger":
        state["stranger"] = 1
    else:
        del state[damage]
    with pytest.raises(FileFormatError, match=r"expected what to_dict\(\) returns, got a bad entry"):
        TableEncoder.from_dict(state)


# the schema -------------------------------------------------------------------------------------------------


def csv_table(tmp_path, text, **options):
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return load_csv(path, **options)


def test_a_table_is_read_by_what_training_made_of_its_columns(tmp_path):
    train = csv_table(tmp_path, 'code,price,n\n01,"1,5",1\n02,"2,25",2\nA1,"7,5",4\n')
    encoder = TableEncoder().fit(train)
    assert encoder.feature_names_out == ["code=01", "code=02", "code=A1", "price", "n"]
    twin = TableEncoder.from_dict(json.loads(json.dumps(encoder.to_dict())))
    whole = twin.transform(train)
    for k in range(3):
        row = {name: train.cells[name][k : k + 1] for name in train.names}
        np.testing.assert_array_equal(twin.transform(row), whole[k : k + 1])
        np.testing.assert_array_equal(encoder.transform(train.columns), whole)
    other = csv_table(tmp_path, "code,price,n\n01,7,1\n02,8,NULL\n")  # no comma, no letter, and a word for no value
    assert twin.transform(other)[:, :2].tolist() == [[1, 0], [0, 1]]
    assert twin.remarks(other) == ["n: 1 missing value imputed with 2."]
    with pytest.raises(
        DataError, match=r"column 'price': expected a number with a decimal comma, got '7\.5' in data row 1"
    ):
        twin.transform(csv_table(tmp_path, "code,price,n\n01,7.5,1\n"))


def test_states_from_before_spellings_are_read():
    state = TableEncoder().fit({"a": np.arange(4.0)}).to_dict()
    del state["columns"][0]["spelling"]
    assert TableEncoder.from_dict(state).transform({"a": texts("3", None)}).shape == (2, 1)


def test_numbers_as_categories_have_one_text_each(tmp_path):
    table = csv_table(tmp_path, "c,x\n1.0,1\n2,2\n1,3\n")
    encoder = TableEncoder(categorical=["c"]).fit(table)
    assert encoder.feature_names_out == ["c=2", "x"]
    assert encoder.transform({"c": texts("1", "2.0", "3"), "x": [1, 2, 3]})[:, 0].tolist() == [-1, 1, 0]
    big = TableEncoder(categorical=["id"]).fit({"id": np.array([2**53, 2**53 + 1, 2**53 + 2])})
    assert len(big.feature_names_out) == 3
    single = TableEncoder(categorical=["c"]).fit({"c": np.array([0.1, 0.2, 0.3], np.float32)})
    assert single.transform({"c": np.array([0.2])}).tolist() == single.transform({"c": texts("0.2")}).tolist()
    assert single.transform({"c": np.array([0.2])}).sum() == 1


def test_numbers_are_refused_row_by_row_where_categories_are_words():
    words = TableEncoder().fit({"c": texts("a", "b", "c")})
    codes = TableEncoder().fit({"c": texts("a", "1", "c")})
    flags = TableEncoder().fit({"c": texts("True", "False", "True")})
    for column in (np.array([1.0]), np.array([np.nan, 1.0, 2.0])):
        with pytest.raises(DataError, match="column 'c': expected the categories"):
            words.transform({"c": column})
        assert codes.transform({"c": column}).shape == (len(column), 3)
    signs = flags.transform({"c": np.array([True, False])})
    assert signs.tolist() == flags.transform({"c": texts("True", "False")}).tolist()
    assert words.transform({"c": np.array([np.nan])}).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library)
    frame = frames.DataFrame({"a": [1, 2, None] * 10, "b": ["u", None, "v"] * 10})
    encoder = TableEncoder().fit(frame)
    assert encoder.feature_names_out == ["a", "a:missing", "b=v"]
    assert encoder.transform(frame[["b", "a"]]).shape == (30, 3)
    with pytest.raises(DTypeError, match=r"expected columns by name, got ndarray. Pass a frame"):
        encoder.transform(np.ones((3, 2)))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_gap_in_a_frame_changes_no_other_cell(library):
    """Neither float32 categories nor numbers where words are due are other ones beside a gap."""
    frames = pytest.importorskip(library)

    def frame(values, dtype):
        if library == "pandas":
            return frames.DataFrame({"c": frames.array(values, dtype=dtype)})
        return frames.DataFrame({"c": frames.Series(values, dtype=getattr(frames, dtype))})

    encoder = TableEncoder(categorical=["c"]).fit(frame([0.1, 0.2, 0.2, 0.1], "Float32"))
    whole = encoder.transform(frame([0.1, 0.2, 0.2, 0.1], "Float32"))
    pierced = encoder.transform(frame([0.1, 0.2, None, 0.1], "Float32"))
    assert pierced[[0, 1, 3]].tolist() == whole[[0, 1, 3]].tolist()
    assert pierced[2].tolist() == [0.0]
    assert encoder.transform({"c": np.asarray([0.1, 0.2, 0.2, 0.1], np.float32)}).tolist() == whole.tolist()

    words = TableEncoder().fit({"c": np.array(["u", "v", "u"], dtype=object)})
    for values in ([1, 2, 3], [1, None, 3]):
        with pytest.raises(DataError, match=r"expected the categories 'u', 'v', got numbers such as 1"):
            words.transform(frame(values, "Int64"))


@pytest.mark.parametrize("first", [False, True])
def test_which_inputs_come_of_which_column(first):
    encoder = TableEncoder(bins=2, values_first=first).fit(GOOD)
    names = np.array(encoder.feature_names_out)
    found = {column: names[places].tolist() for column, places in encoder.feature_places.items()}
    assert found == {c: [n for n in found[c] if n == c or n.startswith((f"{c}:", f"{c}="))] for c in ("age", "work")}
    assert sorted(np.concatenate(list(encoder.feature_places.values())).tolist()) == list(range(len(names)))
