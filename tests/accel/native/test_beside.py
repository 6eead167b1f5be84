"""Products of a trace that are made at once: only such as need nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.accel.native.beside import join, product_of
from xpnn.accel.native.table import Column


def ones(*shape):
    return np.ones(shape, np.float32)


def joined(products, together=None, rows=None, left_out=()):
    """Return how many products from each row on may be made at once, of some in rows that follow each other."""
    rows = list(range(len(products))) if rows is None else rows
    table = [[0] * Column.WIDTH for _ in range(rows[-1] + 1)]
    for row, count in zip(rows, together or [1] * len(rows), strict=True):
        table[row][Column.TOGETHER] = count
    known = {row: product_of(*arrays) for row, arrays in zip(rows, products, strict=True)}
    join(table, {row: one for row, one in known.items() if row not in left_out})
    return [table[row][Column.TOGETHER] for row in rows]


x, dy, w = ones(128, 64), ones(128, 128), ones(64, 128)
d_w, dx = ones(64, 128), ones(128, 64)
GRADIENTS = [(x.T, dy, d_w), (dy, w.T, dx)]


def test_the_gradients_of_a_layer_are_made_at_once():
    assert joined(GRADIENTS) == [2, 1]
    assert joined(GRADIENTS, rows=[3, 4]) == [2, 1]
    assert joined([*GRADIENTS, (ones(128, 64), ones(64, 128), ones(128, 128))]) == [3, 1, 1]


def test_pieces_of_both_are_one_job():
    pieces = [(x.T[:32], dy, d_w[:32]), (x.T[32:], dy, d_w[32:]), (dy[:64], w.T, dx[:64]), (dy[64:], w.T, dx[64:])]
    large = [tuple(np.repeat(np.repeat(a, 2, 0), 2, 1) for a in piece) for piece in pieces]
    assert joined(large, [2, 1, 2, 1]) == [4, 1, 2, 1]
    assert joined(large, [2, 1, 2, 1], left_out=[3]) == [2, 1, 2, 1], "what moves is not known"
    assert joined(pieces, [2, 1, 2, 1]) == [2, 1, 2, 1], "not worth it"


before = ones(256, 128)


@pytest.mark.parametrize(
    "second",
    [
        (d_w, ones(128, 128), ones(64, 128)),  # needs what the first made,
        (ones(128, 64), d_w, ones(128, 128)),
        (ones(64, 128), ones(128, 128), d_w),  # writes where it did,
        (ones(128, 128), ones(128, 64), x),  # or over what it reads,
        (ones(128, 64), ones(64, 128), dy),
    ],
    ids=["first factor", "second factor", "same output", "over a factor", "over the other"],
)
def test_what_needs_the_other_waits(second):
    assert joined([GRADIENTS[0], second]) == [1, 1]
    assert joined([(ones(128, 64), ones(64, 128), ones(128, 128)), GRADIENTS[0], second]) == [2, 1, 1]


def test_a_part_of_what_was_made_is_enough():
    assert joined([(ones(256, 64), w, before), (before[100:228], ones(128, 64), ones(128, 64))]) == [1, 1]


def test_something_between_keeps_them_apart():
    assert joined(GRADIENTS, rows=[0, 2]) == [1, 1]


def test_small_products_are_left_as_they_are():
    small = [(ones(16, 64), ones(64, 8), ones(16, 8)), (ones(16, 8), ones(8, 64), ones(16, 64))]
    assert joined(small) == [1, 1]
    assert joined([*GRADIENTS, small[0]]) == [2, 1, 1]
