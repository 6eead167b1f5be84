"""Rows of cells: encodings with and without a mark, delimiters, ragged ends, cells of any length."""

from __future__ import annotations

import codecs
import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.cells import CellReader, decode, guess_delimiter
from xpnn.errors import DataError, FileFormatError

TEXT = "name,größe\nä,1\nb,2\n" * 30


@pytest.mark.parametrize(
    ("encoding", "mark", "name"),
    [
        ("utf-8", b"", "UTF-8"),
        ("utf-8", codecs.BOM_UTF8, "UTF-8"),
        ("utf-16-le", codecs.BOM_UTF16_LE, "UTF-16"),
        ("utf-16-be", codecs.BOM_UTF16_BE, "UTF-16"),
        ("utf-16-le", b"", "UTF-16"),
        ("utf-16-be", b"", "UTF-16"),
        ("utf-32-le", codecs.BOM_UTF32_LE, "UTF-32"),
        ("utf-32-be", b"", "UTF-32"),
    ],
)
def test_encodings(encoding, mark, name):
    assert decode(mark + TEXT.encode(encoding), "t.csv") == (TEXT, name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,\xff\n", "expected UTF-8 text in t.csv, got byte 0xff at position 6. Save the table as CSV in UTF-8"),
        (b"a,b\n1,\0\n", "expected text in t.csv, got a NUL character at position 6"),
        (TEXT.encode("utf-16")[:-1], "expected UTF-16 text in t.csv, got byte"),
        (bytes(100), "got a NUL character at position 0"),
    ],
)
def test_what_is_no_text_is_refused(content, message):
    with pytest.raises(FileFormatError, match=message):
        decode(content, "t.csv")


@given(st.binary(max_size=40))
def test_any_bytes_are_text_or_refused(content):
    try:
        text, _ = decode(content, "t.csv")
    except FileFormatError:
        return
    assert "\0" not in text


def test_a_delimiter_that_cuts_known_names_is_chosen():
    text = "a;b,c\n1;2,3\n"
    assert guess_delimiter(text) == ";"
    assert guess_delimiter(text, ["a;b", "c"]) == ","


def rows(text):
    return CellReader(text, ",", "t.csv").rows()


def test_columns_without_name_and_value_are_cut_with_a_note():
    assert rows("a,b\n1,2\n") == ([["a", "b"], ["1", "2"]], [])
    assert rows("a,b,,\n1,2,,\n") == (
        [["a", "b"], ["1", "2"]],
        ["the last 2 columns have neither a name nor any value: left out"],
    )
    assert rows("a,b\n1,2,\n3,4,\n")[0] == [["a", "b"], ["1", "2"], ["3", "4"]]
    assert rows("a,b,\n1,2\n")[1] == ["1 of 2 rows end in empty cells that belong to no column: left out"]
    assert rows("a,b,\n1,2,\n3,4,5\n")[0][2] == ["3", "4", "5"]  # a value: a column
    assert rows("a,,c\n1,,3\n")[0] == [["a", "", "c"], ["1", "", "3"]]


@pytest.mark.parametrize("text", ["a,b\n1,2,3\n", "a,b\n1\n", "a,b,\n1,2\n3,4,5\n"])
def test_values_beyond_the_last_column_are_refused(text):
    with pytest.raises(DataError, match=r"load_csv: expected 2 cells in line \d of t.csv, got \d"):
        rows(text)


def test_lines_are_counted_past_blank_lines_and_line_ends_in_quotes():
    reader = CellReader('\na,b\n"x\ny",1\n\n  \nz,2\n', ",", "t.csv")
    assert [reader.line_of(k) for k in range(3)] == [2, 4, 7]


def test_very_long_cells_are_read_and_the_limit_of_others_stays():
    limit = csv.field_size_limit()
    assert rows(f"a,b\n{'x' * 300_000},1\n")[0][1][0] == "x" * 300_000
    assert csv.field_size_limit() == limit


cells = st.sampled_from(["", "1", "x", "a b", '"', ",", "\n", "01"])


@given(st.integers(1, 4).flatmap(lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_no_value_is_lost(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("cells") / "t.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(table)
    try:
        read, _ = rows(path.read_bytes().decode())
    except DataError as error:
        assert "an empty file" in str(error)  # noqa: PT017 - nothing but blanks
        assert not any(cell.strip() for row in table for cell in row)
        return
    values = [[cell for cell in row if cell.strip()] for row in table]
    assert [v for v in ([cell for cell in row if cell.strip()] for row in read) if v] == [v for v in values if v]
