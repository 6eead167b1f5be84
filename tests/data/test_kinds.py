"""What a column is: numbers, however they are written, codes, whole numbers that float64 rounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.kinds import decide, read_numbers
from xpnn.data.spelling import PLAIN, Spelling
from xpnn.errors import DataError


def cells(*values):
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    "column",
    [
        ("01", "02", "10"),
        ("007", None, "1"),
        ("9007199254740992", "9007199254740993"),
        ("12e5678", "7e3"),
        ("12e150", "7e3"),
        ("a", "1"),
        ("1_000", "2"),
    ],
)
def test_codes_and_words_are_text(column):
    kind = decide("c", cells(*column))
    assert (kind.values.tolist(), kind.spelling) == (list(column), None)


@pytest.mark.parametrize(
    "column", [("0.5", "0"), ("0", "10"), ("-0.25", "1e3"), ("9007199254740992", "1"), ("1e+200", "inf"), (None, None)]
)
def test_plain_numbers(column):
    kind = decide("c", cells(*column))
    assert kind.spelling == PLAIN
    np.testing.assert_array_equal(kind.values, [np.nan if c is None else float(c) for c in column])


def test_one_stray_makes_no_code_of_a_quantity():
    numbers = [f"{k * 1.5}" for k in range(99)]
    for stray in ("007", "9007199254740993", "1e999"):
        kind = decide("size", cells(*numbers, stray))
        assert kind.values.dtype == np.float64
        assert (
            f"column 'size' is numeric, though 1 of 100 numbers is written like a code, such as {stray!r}"
            in (kind.notes[0])
        )


def test_somebody_can_say():
    assert decide("c", cells("01", "02"), numeric=True).values.tolist() == [1.0, 2.0]
    assert decide("c", cells("1.0", "2", None), categorical=True).values.tolist() == ["1", "2", None]
    assert decide("c", cells("01", "2"), categorical=True).values.tolist() == ["01", "2"]
    assert decide("c", cells("1,5", "2,5"), categorical=True).values.tolist() == ["1,5", "2,5"]


def test_numbers_are_read_as_they_were_spelt():
    comma = decide("c", cells("1,5", "12,75"))
    assert comma.values.tolist() == [1.5, 12.75]
    assert read_numbers("c", cells("3,5"), comma.spelling).tolist() == [3.5]
    assert read_numbers("c", np.array([3.5]), comma.spelling).tolist() == [3.5]
    with pytest.raises(
        DataError, match=r"column 'c': expected a number with a decimal comma, got '3\.5' in data row 2"
    ):
        read_numbers("c", cells("1", "3.5"), comma.spelling)
    with pytest.raises(DataError, match="column 'c': expected a number, got 1j in data row 1"):
        read_numbers("c", cells(1j), PLAIN)
    with pytest.raises(DataError, match="column 'c': expected a number, got 1000"):
        read_numbers("c", cells(10**400), PLAIN)


spellings = st.sampled_from([PLAIN, Spelling(","), Spelling(".", ","), Spelling(",", ".", "€")])
texts = st.lists(st.sampled_from(["1", "2,5", "2.5", "NULL", "1.234,5", "7 €", "007", "1e3", None, "x"]), max_size=6)


@given(spellings, texts)
def test_a_cell_is_read_alike_whatever_stands_beside_it(spelling, column):
    def read(part):
        try:
            return read_numbers("c", cells(*part), spelling).tolist()
        except DataError:
            return None

    alone = [read([cell]) for cell in column]
    whole = read(column)
    if None in alone:
        assert whole is None
    else:
        np.testing.assert_array_equal(whole, [numbers[0] for numbers in alone])
