"""How numbers are written: found from a whole column, read cell by cell, and never guessed."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from xpnn.data.spelling import Doubt, Spelling, find_spelling, is_missing_word
from xpnn.errors import DataError, FileFormatError, OptionError

SPELLINGS = [
    Spelling(),
    Spelling(","),
    Spelling(".", ","),
    Spelling(".", " "),
    Spelling(".", "'"),
    Spelling(",", "."),
    Spelling(",", " ", "€"),
    Spelling(",", "'"),
    Spelling(affix="%"),
    Spelling(",", affix="%"),
    Spelling(".", ",", "$"),
    Spelling(".", ",", "US$", "-", parentheses=True),
    Spelling(minus="\N{MINUS SIGN}"),
    Spelling(",", ".", "EUR", "\N{MINUS SIGN}"),
]


def written(number: float, spelling: Spelling, *, before: bool = False, space: str = "") -> str:
    """A number of two decimals as somebody writes it."""
    text = f"{abs(number):,.2f}".translate({ord(","): spelling.thousands, ord("."): spelling.decimal})
    if spelling.affix:
        text = f"{spelling.affix}{space}{text}" if before else f"{text}{space}{spelling.affix}"
    if number >= 0:
        return text
    return f"({text})" if spelling.parentheses else f"{spelling.minus}{text}"


columns = st.lists(st.integers(-(10**9), 10**9).map(lambda n: n / 100), min_size=1, max_size=30)


@settings(max_examples=100, deadline=None)
@given(columns, st.sampled_from(SPELLINGS), st.booleans(), st.sampled_from(["", " ", "\N{NO-BREAK SPACE}"]))
def test_numbers_come_back_from_every_spelling(numbers, spelling, before, space):
    # Each mark is seen, and not every number is in parentheses.
    cells = [written(x, spelling, before=before, space=space) for x in [*numbers, 1234567.89, -2.5, 0.5]]
    found = find_spelling(cells)
    assert found == spelling
    np.testing.assert_array_equal(found.parse(cells), [*numbers, 1234567.89, -2.5, 0.5])
    assert Spelling.from_dict(json.loads(json.dumps(found.to_dict()))) == found


cells = st.one_of(
    st.from_regex(r"-?[1-9][0-9]{0,2}([,. '][0-9]{3}){0,2}([.,][0-9]{1,3})?( ?[%€])?", fullmatch=True),
    st.sampled_from(["NULL", "n/a", "-", "x", "1e5", "(2)", "0", "", "007", "1/2"]),
    st.none(),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(cells, max_size=8))
def test_the_order_of_rows_decides_nothing_and_a_cell_is_read_by_itself(rows):
    found = find_spelling(rows)
    again = find_spelling(rows[::-1])
    assert type(again) is type(found)
    assume(isinstance(found, Spelling))
    assert again == found
    whole = found.parse(rows)
    np.testing.assert_array_equal(np.concatenate([found.parse([cell]) for cell in rows]), whole)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False).map(repr), min_size=1, max_size=20))
def test_what_float_reads_is_plain(numbers):
    found = find_spelling(numbers)
    assert found == Spelling()
    np.testing.assert_array_equal(found.parse(numbers), [float(x) for x in numbers])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=8), max_size=8))
def test_no_text_is_too_strange(rows):
    found = find_spelling(rows)
    if isinstance(found, Spelling):
        assert len(found.parse(rows)) == len(rows)


@pytest.mark.parametrize(
    ("rows", "decimal", "thousands"),
    [
        (["1,5", "12,75"], ",", ""),
        (["1,234", "0,512"], ",", ""),
        (["1,234", "1,5"], ",", ""),
        (["1,5e3"], ",", ""),
        (["1,234", "1,234,567"], ".", ","),
        (["1,234", "1,234.5"], ".", ","),
        (["1.234", "1,5"], ",", "."),
        (["12,34,567", "1,234"], ".", ","),
        (["1\N{NARROW NO-BREAK SPACE}234,5"], ",", " "),
        (["1\N{RIGHT SINGLE QUOTATION MARK}234", "5"], ".", "'"),
        (["1.234", "5.678"], ".", ""),
    ],
)
def test_one_cell_decides_for_all(rows, decimal, thousands):
    found = find_spelling(rows)
    assert (found.decimal, found.thousands) == (decimal, thousands)


@pytest.mark.parametrize("rows", [["1,234", "5,678"], ["$1.234"], ["1.234", "1,234"], ["1,234", "12345"]])
def test_what_is_open_is_asked_and_answered(rows):
    found = find_spelling(rows, name="price")
    assert isinstance(found, Doubt)
    assert "--decimal . or --decimal ," in found.advice
    assert "--categorical price" in found.advice
    assert find_spelling(rows, numeric=True).candidates == found.candidates, "it is still open which numbers"
    for decimal in ".,":
        assert find_spelling(rows, decimal=decimal).decimal == decimal


@pytest.mark.parametrize("rows", [["5 kg", "7 kg"], ["(1.5)", "(2)"], ["(1.5)", "-2"], ["3A", "4A"]])
def test_whether_it_is_a_quantity_is_asked_and_answered(rows):
    assert "--numeric COLUMN" in find_spelling(rows).advice
    assert isinstance(find_spelling(rows, numeric=True), Spelling)


@pytest.mark.parametrize(
    "rows",
    [
        ["a", "b"],
        ["01", "02", "A1"],
        ["1", "2", "3", "4", "007"],
        ["Q1", "Q2"],
        ["1st", "2nd"],
        ["1_000"],
        ["12:30", "1:15"],
        ["2020-01-02", "1.2.2020"],
        ["10.1.100.2", "192.168.100.101"],
        ["1", "none"],
        ["NULL"],
        [],
    ],
)
def test_codes_dates_and_words_are_no_numbers(rows):
    assert find_spelling(rows) is None


@pytest.mark.parametrize(
    ("rows", "seen"),
    [
        (["$5", "€6"], "different signs: \\$, €"),
        (["12%", "0.5"], "different signs: %, none"),
        ([*"123456", "x"], "All but 1 row hold numbers; the others hold 'x'"),
        ([f"{i},5" for i in range(20)] + ["x"], "All but 1 row hold numbers such as '0,5'; the others hold 'x'"),
        ([f"{i}.5" for i in range(20)] + ["1,5"], "the others hold '1,5'"),
    ],
)
def test_what_does_not_fit_is_named(rows, seen):
    found = find_spelling(rows)
    assert isinstance(found, Doubt)
    assert found.candidates == ()
    assert re.search(seen, found.seen)


@pytest.mark.parametrize(
    "word", ["NULL", "n/a", "N/A", "#N/A", "-", "--", ".", "\\N", "none", "nan", "missing", "unknown", "\N{EN DASH}"]
)
def test_words_for_nothing_among_numbers(word):
    assert is_missing_word(word)
    found = find_spelling(["1,5", word, "2,5", "3,5"])
    assert found == Spelling(",")
    np.testing.assert_array_equal(found.parse(["1,5", word, None, ""]), [1.5, np.nan, np.nan, np.nan])


def test_what_is_no_number_in_this_spelling_is_refused_by_its_row():
    with pytest.raises(
        DataError, match=r"column 't': expected a number with a decimal comma, got '1\.5' in data row 2\."
    ):
        Spelling(",").parse(["1,5", "1.5"], "t")
    for cell in ("12%", "1_0", "x", "(5)", "1,5"):
        with pytest.raises(DataError, match="expected a number, got"):
            Spelling().parse([cell])
    np.testing.assert_array_equal(Spelling(affix="%").parse([12.0, "5 %", "%7", "0"]), [12, 5, 7, 0])


def test_a_state_of_something_else_is_refused():
    for state in ({"decimal": ";"}, {"decimal": ",", "thousands": ","}, {"marks": 1}):
        with pytest.raises((FileFormatError, OptionError)):
            Spelling.from_dict(state)


def test_long_columns_take_little_time():
    rng = np.random.default_rng(0)
    words = [f"{a} {b}" for a, b in zip(rng.integers(0, 9**9, 100_000), rng.integers(0, 9**9, 100_000), strict=True)]
    began = time.process_time()
    assert find_spelling([f"{x:.3f}".replace(".", ",") for x in rng.normal(size=100_000)]) == Spelling(",")
    find_spelling([f"word {word}" for word in words])
    assert time.process_time() - began < 2
