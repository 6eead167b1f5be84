"""Text cut by compiled code, and how its code is kept: numbers to the bit as `float` reads them."""

from __future__ import annotations

import logging
import re
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xpnn.accel.native import cutter
from xpnn.accel.native.cutter import EXACT, FIVES, TENS, address, cutter_for, load_cutter

pytest.importorskip("numba")

PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")
LONG = 1 << 53


def read(cells, mark="."):
    """What one column of cells is: of each its number, the places behind its mark and its digits, None if it is odd."""
    text = np.frombuffer("".join(f"{cell}\n" for cell in cells).encode() + bytes(64), np.uint8)
    n = len(cells)
    values, places, digits = np.empty(n), np.empty(n, np.uint8), np.empty(n, np.uint64)
    odd, begins, lengths, ends = (np.empty(n, np.int64) for _ in range(4))
    columns, told, marks = np.zeros(4, np.int64), np.zeros(3, np.int64), np.array([ord(mark)])
    arrays = marks, values, places, digits, odd, begins, lengths, columns, ends, told, TENS, EXACT, FIVES
    found = load_cutter(compiling=True).cut(address(text), 0, len(text) - 64, ord(";"), 1, n, *map(address, arrays))
    assert found == 0
    assert told.tolist() == [n, len(text) - 64, n]
    others = set(odd[: columns[0]].tolist())
    answers = zip(values.tolist(), places.tolist(), digits.tolist(), strict=True)
    return [None if k in others else answer for k, answer in enumerate(answers)]


def check(cells):
    for cell, answer in zip(cells, read(cells), strict=True):
        if answer is None:
            continue
        value, places, digits = answer
        assert PLAIN.fullmatch(cell)
        assert value.hex() == float(cell).hex()
        assert digits == int(cell.lstrip("-").replace(".", ""))
        assert places == len(cell.partition(".")[2])


numbers = st.floats(allow_nan=False, allow_infinity=False).map(repr)
fixed = st.builds("{:.{}f}".format, st.floats(-1e6, 1e6), st.integers(0, 24))
whole = st.integers(-(10**21), 10**21).map(str)
pointed = st.builds(
    lambda n, k: f"{n:0{k + 1}d}"[:-k] + "." + f"{n:0{k + 1}d}"[-k:], st.integers(0, 10**20), st.integers(1, 24)
)
junk = st.text("0123456789.,-+eE xénaif", min_size=1, max_size=26).filter(str.strip)


@given(st.lists(st.one_of(numbers, fixed, whole, pointed, junk), min_size=1, max_size=60))
@example(["0.1", "-0", "-0.0", "9007199254740993", "9007199254740992.5", "18446744073709551615"])
@example(["1" * k for k in range(1, 30)] + ["0." + "0" * k + "9" * (19 - k) for k in range(19)])
def test_what_is_read_is_what_float_reads(cells):
    check(cells)


@given(st.integers(0, 22), st.integers(-4, 4), st.integers(0, 1000))
def test_numbers_next_to_the_middle_between_two_floats(places, beside, seed):
    """What lies half way between two floats, and just beside it, is rounded as `float` rounds it."""
    rng = np.random.default_rng(seed)
    cells = []
    for number in rng.integers(1, LONG, 200).tolist():
        middle = (2 * number + 1) << int(rng.integers(0, 11))
        digits = str(min(middle * 10 ** min(places, 3) + beside, 10**19 - 1)).zfill(places + 1)
        cells.append(f"{digits[:-places]}.{digits[-places:]}" if places else digits)
    assert all(read([cell for cell in cells if len(cell.replace(".", "")) <= 19]))
    check(cells)


def test_numbers_of_up_to_19_digits_are_read_and_others_left():
    rng = np.random.default_rng(0)
    cells = [repr(value) for value in rng.normal(size=4000).tolist()]
    cells += [f"{value:.{k}f}" for k in range(16) for value in rng.uniform(-999, 999, 50)]
    cells = [cell for cell in cells if "e" not in cell]
    assert all(read(cells))
    check(cells)
    assert not any(read(["-", ".", "1.", ".5", "00", "01.5", "1.2.3", "1..2", "+1", "1e5", "é", "1" * 20, "--1"]))


def test_the_mark_is_the_one_that_is_asked_for():
    assert [answer and answer[:2] for answer in read(["1,5", "1.5", "-2", "0,25"], ",")] == [
        (1.5, 1),
        None,
        (-2.0, 0),
        (0.25, 2),
    ]


def number(words, most):
    text = np.frombuffer("".join(words).encode() + bytes(64), np.uint8)
    lengths = np.array([len(word.encode()) for word in words])
    begins = np.cumsum(lengths) - lengths
    codes, firsts = np.empty(len(words), np.int64), np.empty(len(words), np.int64)
    keys, slots = np.zeros(most, np.uint64), np.zeros(most, np.int64)
    arrays = [*map(address, (begins, lengths))], [*map(address, (codes, firsts, keys, slots))]
    count = load_cutter(compiling=True).number_words(address(text), *arrays[0], len(words), *arrays[1], most)
    return count, codes.tolist(), firsts[: max(count, 0)].tolist()


@given(st.lists(st.text("abé", max_size=20), min_size=1, max_size=60))
def test_words_are_numbered_in_the_order_of_their_first_rows(words):
    different = list(dict.fromkeys(words))
    expected = len(different), [different.index(word) for word in words], [words.index(word) for word in different]
    assert number(words, 256) == expected


def test_a_table_that_is_too_small_is_told():
    assert number([f"word {k}" for k in range(40)], 64)[0] == -1
    assert number([f"word {k}" for k in range(30)], 64)[0] == 30


@pytest.mark.parametrize(
    ("text", "end"), [(b"a,b\nc", 4), (b'a,"b\nc', 0), (b'a,"b\n"\nc"\n', 7), (b"", 0), (b"abc", 0), (b'"\n"\n', 4)]
)
def test_the_last_line_that_ends_outside_of_quotes(text, end):
    array = np.frombuffer(text + bytes(64), np.uint8)
    assert load_cutter(compiling=True).last_end(address(array), 0, len(text)) == end


# -- the code -----------------------------------------------------------------------------------------------------
@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """No code is loaded, and none kept but in a folder that is empty."""
    monkeypatch.setattr(cutter, "_folders", lambda: iter([tmp_path]))
    load_cutter.cache_clear()
    yield tmp_path
    load_cutter.cache_clear()


def test_code_is_compiled_once_and_kept(fresh, monkeypatch, caplog):
    assert load_cutter(compiling=False) is None
    load_cutter.cache_clear()
    assert load_cutter(compiling=True) is not None
    (file,) = fresh.iterdir()
    load_cutter.cache_clear()
    monkeypatch.setattr(cutter, "_compiled", lambda: pytest.fail("it is there"))
    assert load_cutter(compiling=True) is not None
    file.write_bytes(file.read_bytes()[:-1])  # damaged
    load_cutter.cache_clear()
    assert load_cutter(compiling=False) is None
    load_cutter.cache_clear()
    with caplog.at_level(logging.INFO, "xpnn"):
        monkeypatch.setattr(cutter, "_compiled", lambda: 1 // 0)
        assert load_cutter(compiling=True) is None
    assert "without compiled code: integer division" in caplog.text


def test_a_process_that_finds_the_code_loads_no_numba():
    assert load_cutter(compiling=True) is not None
    code = "import sys; from xpnn.accel.native.cutter import *; "
    code += "print(load_cutter(compiling=False) is None, 'numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"


def test_small_files_are_read_without(monkeypatch):
    monkeypatch.delenv("XPNN_COMPILED", raising=False)
    asked = []
    monkeypatch.setattr(cutter, "load_cutter", lambda *, compiling: asked.append(compiling))
    for size in (0, cutter.LOAD_FROM, cutter.COMPILE_FROM):
        cutter_for(size)
    assert asked == [False, True]
    monkeypatch.setenv("XPNN_COMPILED", "0")
    assert cutter_for(1 << 40) is None
    monkeypatch.setenv("XPNN_COMPILED", "1")
    cutter_for(0)
    assert asked == [False, True, True]


@pytest.mark.parametrize("version", ["0.60.0", "0.99.0"])
def test_versions_that_nobody_tried_are_not_used(fresh, monkeypatch, version):
    monkeypatch.setattr(cutter.importlib.metadata, "version", lambda name: version)
    assert load_cutter(compiling=True) is None
