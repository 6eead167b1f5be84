"""Columns as they are written: text on demand, words and plain numbers in their places."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.blocks import part_of
from xpnn.data.columns import as_column, as_texts, fast_numbers, is_text
from xpnn.data.written import Columns, Part, Written, WrittenBuilder

cells = st.lists(st.sampled_from(["1", "-2.50", "0.125", "1,5", "red", "", "007", "123456789012345678", "-999"]))


def build(*parts):
    builder = WrittenBuilder()
    for part in parts:
        builder.add(part_of(part))
    return builder.build()


@given(st.lists(cells.filter(len), min_size=1, max_size=4), st.frozensets(st.sampled_from(["", "-999", "1", "red"])))
def test_a_column_is_its_cells(parts, absent):
    column, flat = build(*parts), [cell for part in parts for cell in part]
    assert column.tolist() == flat == list(column) == as_texts(build(*parts)) if "" not in flat else True
    assert column.tolist() == flat
    assert column.head(3) == flat[:3]
    rows = np.arange(0, len(flat), 2)
    assert column.at(rows) == flat[::2]
    if len(flat) > 1:
        assert column.rest().tolist() == flat[1:]
    column, gaps = column.without(absent)
    assert column.tolist() == [None if cell in absent else cell for cell in flat]
    assert gaps == {word: flat.count(word) for word in absent if word in flat}
    assert list(gaps) == [word for word in dict.fromkeys(flat) if word in absent]
    assert column.words == list(dict.fromkeys(column.words))  # each once


def test_the_first_row_can_be_a_word_that_comes_again():
    assert build(["a"], ["b", "1", "a"]).rest().words == ["b", "a"]


def test_words_of_a_part_may_stand_twice():
    """As they do once blanks are cut off."""
    builder = WrittenBuilder()
    builder.add(Part(np.array([0, 1, 2]), ["a", "a", "b"]))
    builder.add(Part(np.array([1, 0]), ["c", "c"]))
    column = builder.build()
    assert (column.words, column.tolist()) == (["a", "b", "c"], ["a", "a", "b", "c", "c"])
    assert column.counts() == {"a": 2, "b": 1, "c": 2}


def test_text_is_made_anew_and_numbers_stay_numbers():
    column = build(["1.50", "x", "2.00"])
    assert column.numbers.values[[0, 2]].tolist() == [1.5, 2.0]
    assert np.asarray(column).tolist() == ["1.50", "x", "2.00"]
    assert column[1] == "x"
    assert (column.shape, column.ndim, len(column)) == ((3,), 1, 3)
    assert fast_numbers(column) is None
    numbers = fast_numbers(column.without(frozenset({"x"}))[0])
    np.testing.assert_array_equal(numbers, [1.5, np.nan, 2.0])


def test_a_decimal_comma_is_no_number_for_float():
    assert fast_numbers(build(["1,5", "2,25"])) is None
    assert build(["1,5", "2,25"]).rows_with_comma().tolist() == [0, 1]
    assert fast_numbers(build(["1", "2"])).tolist() == [1.0, 2.0]
    mixed = build(["1.5", "2.5"], ["1,5", "2,5", "3"])
    assert mixed.tolist() == ["1.5", "2.5", "1,5", "2,5", "3"]


def test_columns_take_what_is_written_as_it_is():
    column = Written.of(["a", None])
    assert as_column("c", column) is column
    assert is_text(column)
    assert not is_text(Written.of([None, ""]))
    columns = Columns({"a": column, "b": np.array([1.0, 2.0])})
    assert columns["a"] is column.text()
    assert columns.kept("a") is column
    columns["c"] = column
    del columns["a"]
    assert list(columns) == ["b", "c"]
    with pytest.raises(KeyError):
        columns["a"]
