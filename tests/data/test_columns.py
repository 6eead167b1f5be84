"""Columns as they come: what is read as numbers, as text, as a gap, and how values are named."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.data.columns import as_column, as_numbers, as_texts, is_missing, is_text, label_key, plural, quote
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
