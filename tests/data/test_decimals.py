"""Plain numbers read from bytes: to the bit as `float` reads them, and written again as they were."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data import decimals
from xpnn.data.decimals import (
    MARGIN,
    SHORTEST,
    SHORTEST_SINGLE,
    kept,
    read_alike,
    read_decimals,
    windows_of,
    written,
)

PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def laid_out(cells):
    body = "".join(f"{cell};" for cell in cells).encode()
    text = np.frombuffer(b"\n" * MARGIN + body, np.uint8)
    ends = np.flatnonzero(text == ord(";"))
    return text, windows_of(text), np.concatenate([[MARGIN], ends[:-1] + 1]), ends


def read(cells, mark="."):
    return read_decimals(*laid_out(cells), mark)


def check(cells, mark="."):
    found = read(cells, mark)
    texts = written(found.values, found.places, found.digits, mark)
    for cell, plain, value, text in zip(cells, found.plain.tolist(), found.values.tolist(), texts, strict=True):
        if plain:
            number = cell.replace(mark, ".")
            assert PLAIN.fullmatch(number)
            assert value == float(number)
            assert np.signbit(value) == np.signbit(float(number))
            assert text == cell
    return found.plain


numbers = st.floats(allow_nan=False, allow_infinity=False).map(repr)
fixed = st.builds("{:.{}f}".format, st.floats(-1e6, 1e6), st.integers(0, 20))
whole = st.integers(-(10**21), 10**21).map(str)
junk = st.text("0123456789.,-+e xé", max_size=26)


@given(st.lists(st.one_of(numbers, fixed, whole, junk), min_size=1, max_size=30))
def test_what_is_read_is_what_float_reads_and_can_be_written_again(cells):
    check(cells)


@given(st.lists(fixed.map(lambda cell: cell.replace(".", ",")), min_size=1, max_size=30))
def test_a_comma_is_read_as_a_point_is(cells):
    check(cells, ",")


@given(st.integers(0, 9), st.lists(st.floats(-1e8, 1e8), min_size=1, max_size=30), st.booleans(), st.sampled_from(".,"))
def test_numbers_with_as_many_digits_behind_the_point_are_read_the_same(places, values, gaps, mark):
    cells = [f"{value:.{places}f}".replace(".", mark) for value in values] + [""] * gaps
    found, other = read_alike(*laid_out(cells), mark, places), read(cells, mark)
    sure = places <= 7 and max(len(cell.lstrip("-").replace(mark, "")) for cell in cells) <= 15
    assert (found is not None) == sure
    if found is not None:
        assert found.plain.tolist() == other.plain.tolist()
        there = found.plain
        assert found.values[there].tobytes() == other.values[there].tobytes()
        assert found.places[there].tolist() == other.places[there].tolist()
        assert found.digits is None
        assert other.digits is None


@given(st.integers(0, 7), st.lists(st.one_of(numbers, fixed, whole, junk), min_size=1, max_size=8))
def test_what_is_written_otherwise_is_left(places, cells):
    cells = [cell for cell in cells if ";" not in cell]
    found = read_alike(*laid_out(cells), ".", places)
    if found is not None:
        other = read(cells)
        assert found.plain.tolist() == other.plain.tolist() == [bool(cell.strip("-")) for cell in cells]
        assert found.values[found.plain].tobytes() == other.values[found.plain].tobytes()


def test_numbers_of_up_to_15_digits_are_all_read():
    rng = np.random.default_rng(0)
    sizes, digits = rng.normal(size=2000) * 1e4, rng.integers(0, 10, 2000)
    cells = [f"{value:.{places}f}" for value, places in zip(sizes, digits, strict=True)]
    cells += ["0", "-0", "-0.00", "7", "-12345678", "123456789012345", "0.00000000000001"]
    assert check(cells).all()
    assert not check(["", "-", ".", "1.", ".5", "00", "01.5", "1.2.3", "1..2", "+1", "1e5", "1 ", "é", "1" * 25]).any()


@pytest.mark.parametrize("longest", [8, 16, 24])
def test_short_cells_are_read_as_among_longer_ones(longest):
    cells = ["0", "-7", "1.5", "-0.25", "12.125", "00", "1.2.3", "", ".5", "5."]
    assert check([*cells, "1" * longest]).tolist()[:5] == [True] * 5
    assert check(cells).tolist() == [True] * 5 + [False] * 5


def test_up_to_19_digits_are_read_where_rounding_is_sure(monkeypatch):
    rng = np.random.default_rng(0)
    cells = [repr(value) for value in rng.normal(size=4000).tolist()]
    large = ["9007199254740993", "1234567890123456789", "-9007199254740993"]
    there = check([*cells, *large])
    assert there[-3:].all()
    assert np.finfo(np.longdouble).nmant != 63 or there.mean() > 0.98
    monkeypatch.setattr(decimals, "_has_64_bits", lambda: False)  # as on other processors
    without = check([*cells, *large])
    assert without[-3:].all()
    assert without.mean() < there.mean() or not there[:-3].any()


@pytest.mark.parametrize(("value", "form", "text"), [(0.1, SHORTEST, "0.1"), (3.0, SHORTEST, "3"), (1e300, 255, None)])
def test_typed_numbers_are_written_in_the_shortest_way(value, form, text):
    assert written(np.array([value]), np.array([form], np.uint8)) == [text or str(int(value))]


def test_a_float32_is_written_with_its_own_digits():
    assert written(np.array([float(np.float32(0.1))]), np.array([SHORTEST_SINGLE], np.uint8)) == ["0.1"]


def test_characters_outside_of_a_cell_are_not_kept():
    text = np.frombuffer(b"x" * MARGIN + b"abcdefghij", np.uint8)
    ends, lengths = np.array([MARGIN + 10]), np.array([9])
    assert kept(windows_of(text), ends, lengths, 0).tobytes() == b"cdefghij"
    assert kept(windows_of(text), ends, lengths, 1).tobytes() == b"\0" * 7 + b"b"
