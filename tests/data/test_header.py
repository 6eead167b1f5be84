"""Headers: words over numbers, years, blank names, an index, repeats; and rows of data that look like one."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.csv import MISSING
from xpnn.data.header import header_names, is_header, position_in
from xpnn.errors import DataError


def found(text, target=None, known=()):
    return is_header([line.split(",") for line in text.splitlines()], frozenset(MISSING), target, known)


MANY = "\n".join(f"{'NS'[i % 2]},{i / 2},{['no', 'yes'][i % 3 == 0]}" for i in range(30))


@pytest.mark.parametrize(
    "text",
    [
        f"region,2019,answer\n{MANY}",  # words that never come again
        "2020-01,2020-02,x1\n1,2,3",
        "size,2019\n12 %,3\n15 %,4",  # numbers, however they are written
        "400,410.5,label\n0.1,0.2,3\n0.4,0.5,4",  # a word above numbers
        "a,,c\n1,2,3",  # a blank name
        "a,a,b\n1,2,3",  # repeated names are names, and an error of their own
        ",2019,2020\n0,a,b\n1,c,d",  # an index that counts from 0
        ",2019,2020\n1,a,b\n2,c,d",
        ",a,b\n7,x,y\n3,z,u",  # row numbers in any order under words
        "name,city\nAnna,Bonn\nBert,Köln",
        "other,kind\n1,other\n2,this\n3,that",  # one name that is a value too, above numbers a word
    ],
)
def test_headers(text):
    assert found(text)


@pytest.mark.parametrize(
    "text",
    [
        "39,State-gov,no\n50,?,yes",
        "unknown,red,no\n3,blue,yes\n4,red,no",  # a stray word above numbers; the others are values
        "red,no\nblue,yes\nred,yes\nblue,no",  # words that come again
        "2020-01-01,12%\n2020-02-01,15%",  # dates and amounts are values
        "violet,5\nred,6\nred,7",  # too few rows to tell
        "$5,1\n$7,2",
        "NULL,5\n3,6",
        "12%,$4\n3,5",
        "1,2\n3,4",
        ",a,b\nk,c,x\nl,d,y",
    ],
)
def test_data(text):
    assert not found(text)


def test_the_target_and_known_names_are_evidence():
    assert found("1990,1991,z\n1,2,x\n2,1,y", "z")
    assert not found("1990,1991,z\n1,2,x\n2,1,y", "2")  # a position
    assert found("1990,1991,z\n1,2,x\n2,1,y", "1991")  # no position of three columns
    assert found("red,no\nblue,yes\nred,yes", known=["no"])
    assert not found("0,1\n5,6", known=["0", "1"])


names = st.lists(
    st.from_regex(r"[a-z]{3,8}", fullmatch=True).filter(lambda w: w not in ("nan", "null", "inf", "infinity")),
    min_size=2,
    max_size=5,
    unique=True,
)


@given(names, st.integers(1, 3), st.data())
def test_a_word_above_numbers_is_a_name_whatever_stands_beside_it(words, years, data):
    first = data.draw(st.permutations([*words, *(str(2000 + k) for k in range(years)), ""]))
    body = [[f"{k + i / 8}" for k in range(len(first))] for i in range(5)]
    rows = [list(first), *body]
    assert is_header(rows, frozenset(MISSING), None, ())
    assert not is_header(body, frozenset(MISSING), None, ())
    assert len(set(header_names(first, "t.csv"))) == len(first)


def test_names():
    assert header_names(["", "a", ""], "t.csv") == ["0", "a", "2"]
    assert header_names(["", "0", "unnamed 0"], "t.csv") == ["unnamed _0", "0", "unnamed 0"]
    with pytest.raises(DataError, match=r"different names in the header of t.csv, got 'a' in columns 0, 2. Rename one"):
        header_names(["a", "b", "a"], "t.csv")


def test_many_blank_names_take_no_square_of_time():
    start = time.process_time()
    assert len(set(header_names([""] * 100_000, "t.csv"))) == 100_000
    assert time.process_time() - start < 5  # it took minutes


def test_positions():
    assert [position_in(t, 3) for t in (2, "-1", -3, "3", -4, "x")] == [2, 2, 0, None, None, None]
