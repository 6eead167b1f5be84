"""Blocks cut by compiled code: what they do not know beforehand of marks, digits, rows and lengths."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.accel.native.cutter import load_cutter
from xpnn.data import blocks, cutting, ordered
from xpnn.data.blocks import cut_blocks
from xpnn.data.cutting import IrregularError

pytest.importorskip("numba")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small blocks, each cut by compiled code, or else told."""
    cutter = load_cutter(compiling=True)
    monkeypatch.setattr(blocks, "cutter_for", lambda size: cutter)
    monkeypatch.setattr(cutting, "_FIRST", 256)
    monkeypatch.setattr(cutting, "_SMALLEST", 256)
    monkeypatch.setattr(blocks, "_cut_block", lambda *given: pytest.fail("cut by array work"))


def columns(lines, delimiter=",", size=0):
    text = "".join(f"{line}\n" for line in lines).encode()
    width = lines[0].count(delimiter) + 1
    pieces = (text[k : k + 100] for k in range(0, len(text), 100))
    return cut_blocks(pieces, delimiter, width, size=size).columns


def test_whole_numbers_before_commas():
    cells = [str(k) for k in range(300)] + [f"{k},5" for k in range(500)]
    (column,) = columns(cells, ";")
    assert column.tolist() == cells
    assert column.numbers.mark == ","
    assert len(column.codes) < 300, "numbers with a comma are numbers, but for those of one block"


def test_thousands_apart_are_looked_at_once():
    cells = [f"{k % 9 + 1},000.50" for k in range(600)]
    (column,) = columns(cells, ";")
    assert column.tolist() == cells
    assert column.numbers is None or not column.has_plain


def test_long_numbers_behind_short_ones():
    cells = [f"{k / 8:.3f}" for k in range(400)] + ["0.49671415301123267", "1234567890123456789"] + ["0.125"] * 300
    first, second = columns([f"{cell},x{k % 3}" for k, cell in enumerate(cells)])
    assert first.tolist() == cells
    assert first.numbers_by(lambda word: None).tolist() == [float(cell) for cell in cells]
    assert second.words == ["x0", "x1", "x2"]


@pytest.mark.parametrize("size", [0, 5000, 10**7])
def test_rows_that_are_more_than_there_was_room_for(size):
    cells = ["a" * 200, *("1" for _ in range(5000)), "b" * 3000, "é" * 999]
    (column,) = columns(cells, ";", size)
    assert column.tolist() == cells


def test_quotes_gaps_and_line_ends():
    lines = ['"a ""b"" c",1,', '"x\ny", 2 ,"3.5"', '"", -4.25,  z ', ',"",""'] * 50
    found = columns(lines)
    assert [column.tolist()[:4] for column in found] == [
        ['a "b" c', "x\ny", "", ""],
        ["1", "2", "-4.25", ""],
        ["", "3.5", "z", ""],
    ]


def test_a_quote_that_is_never_closed_and_bytes_that_are_no_text(monkeypatch):
    monkeypatch.setattr(cutting, "_LARGEST", 1 << 12)
    with pytest.raises(IrregularError):
        columns(['"a', *("1" for _ in range(5000))], ";")
    with pytest.raises(UnicodeDecodeError):
        cut_blocks([b"a\n\xff\n"], ",", 1)


def test_several_threads_read_what_one_does(monkeypatch):
    rng = np.random.default_rng(0)
    lines = [f"{x:.4f},w{k % 7},{k},id-{k}" for k, x in enumerate(rng.normal(size=3000).tolist())]
    alone = [column.tolist() for column in columns(lines)]
    together = ordered.together
    monkeypatch.setattr(ordered, "worker_count", lambda: 4)
    monkeypatch.setattr(ordered, "together", lambda run, count: together(run, count, 4))
    assert [column.tolist() for column in columns(lines)] == alone
    assert list(zip(*alone, strict=True)) == [tuple(line.split(",")) for line in lines]
