"""Columns as they come: what is read as numbers, as text, as a gap, and how values are named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.columns import (
    as_column,
    as_columns,
    as_exact,
    as_numbers,
    as_texts,
    is_missing,
    is_text,
    label_key,
    number_key,
    one_spelling,
    plural,
    quote,
)
from xpnn.errors import DataError, DTypeError, ShapeError


def column(*values):
    return as_column("c", np.array(values, dtype=object))


def test_text_becomes_objects_and_numbers_stay():
    assert as_column("c", np.array(["a", "b"])).dtype == object
    assert as_column("c", [1, 2]).dtype.kind == "i"
    with pytest.raises(ShapeError, match=r"column 'c': expected shape \(n,\), got \(2, 1\)"):
        as_column("c", [[1], [2]])
    with pytest.raises(DTypeError, match="column 'c': expected numbers or text, got dtype complex128"):
        as_column("c", [1j])


@pytest.mark.parametrize("value", [None, "", float("nan"), np.float32("nan")])
def test_gaps(value):
    assert is_missing(value)
    assert not is_text(column(value, 1.0))
    np.testing.assert_array_equal(as_numbers("c", column(value, "2", 3)), [np.nan, 2.0, 3.0])
    assert as_texts(column(value, " b ", 1.0)) == [None, "b", "1"]


def test_any_word_makes_a_column_text():
    assert is_text(column(None, 1.0, "x"))
    assert not is_text(as_column("c", [1.0, 2.0]))
    with pytest.raises(DataError, match="column 'c': expected a number, got 'x' in data row 3"):
        as_numbers("c", column(None, 1.0, "x"))


@pytest.mark.parametrize("value", [1, 1.0, "1", " 1", np.int8(1), np.float32(1)])
def test_one_value_has_one_key(value):
    assert label_key(value) == "1"
    assert label_key(True) == label_key(np.True_) == "True"


def test_words_for_messages():
    assert (plural(1, "row"), plural(0, "row"), plural(3, "row")) == ("1 row", "0 rows", "3 rows")
    assert quote("abc", 3) == "'a', 'b', 'c'"
    assert quote(iter("abcd"), 3) == "'a', 'b', 'c', ..."


@pytest.mark.parametrize("value", [np.datetime64("NaT"), np.timedelta64("NaT"), np.ma.masked])
def test_gaps_of_other_kinds(value):
    assert is_missing(value)


def test_gaps_of_frames():
    pd = pytest.importorskip("pandas")
    assert is_missing(pd.NA)
    assert is_missing(pd.NaT)
    assert as_texts(column("u", pd.NA, 1)) == ["u", None, "1"]
    np.testing.assert_array_equal(as_numbers("c", column(1, pd.NA, "2")), [1.0, np.nan, 2.0])


@given(st.integers(-(2**80), 2**80))
def test_whole_numbers_keep_all_their_digits(n):
    assert label_key(n) == str(n) == number_key(f"{n}.0") == number_key(f"{n:+}")
    assert as_exact(column(str(n), None)).tolist() == [n, None]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_has_the_text_that_a_person_types(x):
    typed = str(int(x)) if x.is_integer() else str(np.float32(x))
    assert as_texts(np.array([x], np.float32)) == [number_key(typed)] == as_texts(column(np.float32(x)))
    assert label_key(float(typed)) == number_key(typed)


def test_spellings_of_one_label():
    assert [one_spelling(["1", "0.5"])(t) for t in ("1.0", "01", "5e-1", "x")] == ["1", "1", "0.5", "x"]
    assert [one_spelling(["01", "1"])(t) for t in ("1.0", "01")] == ["1.0", "01"]


def test_columns_of_frames_and_of_what_is_none():
    assert as_columns({"a": [1]}, "here") == {"a": [1]}
    with pytest.raises(DTypeError, match=r"here: expected columns by name, got list. Pass a frame of pandas or polars"):
        as_columns([1, 2], "here")


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_whole_numbers_beside_gaps_in_a_frame(library):
    frames = pytest.importorskip(library)
    big = 2**53 + 1
    data = {"id": [big, None, 3], "c": ["u", None, "v"]}
    frame = frames.DataFrame(data)
    if library == "pandas":
        frame = frames.DataFrame({"id": frames.array(data["id"], dtype="Int64"), "c": data["c"]})
    read = as_columns(frame, "here")
    assert as_texts(as_column("id", read["id"])) == [str(big), None, "3"]
    assert as_texts(as_column("c", read["c"])) == ["u", None, "v"]


def test_a_name_that_stands_twice_is_told():
    pd = pytest.importorskip("pandas")
    with pytest.raises(DataError, match=r"here: expected columns with different names in the frame, got 'a' twice"):
        as_columns(pd.DataFrame([[1, 2]], columns=["a", "a"]), "here")
