"""Blocks: where lines end, what is left to Python's `csv`, and how much memory is held."""

from __future__ import annotations

import tracemalloc

import pytest

from xpnn.data import blocks
from xpnn.data.blocks import cut_blocks, part_of
from xpnn.data.cutting import IrregularError


def pieces(text, size=7):
    raw = text.encode()
    return [raw[k : k + size] for k in range(0, len(raw), size)]


@pytest.mark.parametrize("block", [1 << 20, 16])
def test_lines_are_counted_past_blank_lines_comments_and_line_ends_in_quotes(monkeypatch, block):
    monkeypatch.setattr(blocks, "_BLOCK", block)
    cut = cut_blocks(pieces('\na,b\n"x\ny",1\n\n  \nz,2\n'), ",", 2)
    assert [cut.line_of(k) for k in range(3)] == [2, 4, 7]
    assert [column.tolist() for column in cut.columns] == [["a", "x\ny", "z"], ["b", "1", "2"]]
    cut = cut_blocks(pieces("#1\na,b\n#,\nx,1\n"), ",", 2, lines=10, comment="#")
    assert [cut.line_of(k) for k in range(2)] == [12, 14]
    assert cut.columns[0].tolist() == ["a", "x"]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1\n",
        "a,b\n1,2,3\n",
        'a,b\nx"y,1\n',
        'a,b\n"x" ,1\n',
        'a,b\n"x"y",1\n',
        "a,b\r1,2\n",
        "a,b\n1,\0\n",
        '"\n',
        "",
    ],
)
def test_what_needs_a_closer_look_is_left(text):
    with pytest.raises(IrregularError):
        cut_blocks(pieces(text), ",", 2)


@pytest.mark.parametrize(("delimiter", "comment"), [(" ", ""), ("é", ""), ('"', ""), (",", ","), (",", '"')])
def test_marks_that_are_not_looked_for(delimiter, comment):
    with pytest.raises(IrregularError):
        cut_blocks([b"a,b\n"], delimiter, 2, comment=comment)


def test_two_texts_of_one_key_are_told_apart(monkeypatch):
    """Keys of long cells are 64 bits: where two agree, the cells are compared."""
    monkeypatch.setattr(blocks, "_numbered", lambda key: (key.astype(int) * 0, key[:1].astype(int) * 0))
    with pytest.raises(IrregularError):
        part_of(["a long text of its own", "another long text, too"])


def test_cells_with_line_ends_or_nul_are_words():
    assert part_of(["a\nb", "1"]).words == ["a\nb", "1"]
    assert part_of(["\0", "1"]).words == ["\0", "1"]


def test_no_more_is_held_than_the_columns_and_some_blocks():
    line = b"1.50,-20.125,red\n"
    tracemalloc.start()
    try:
        cut = cut_blocks((line * 5000 for _ in range(120)), ",", 3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    n = 600_000
    assert len(cut.columns[0]) == n
    assert peak < 2.5 * (2 * 9 + 1) * n + 40 * (
        1 << 20
    )  # of 10 MB of text: the columns twice, for a moment, and blocks
