"""Packed rows and what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from xpnn.coding import Code, Group

CODE = Code(plain=(0, 1, 5, 9), steps=(Group(2, 3), Group(6, 3)), ones=(Group(10, 2),))


def test_widths_and_places():
    assert (CODE.width, CODE.packed_width, CODE.starts) == (12, 9, (4, 6, 8))
    assert list(CODE.runs()) == [(slice(0, 2), slice(0, 2)), (slice(2, 3), slice(5, 6)), (slice(3, 4), slice(9, 10))]
    assert Group(2, 3).place == slice(2, 5)


def test_nothing_but_plain_columns_is_nothing_changed():
    code = Code((0, 1))
    rows = np.array([[1.5, -2.0]])
    np.testing.assert_array_equal(code.expand(rows, np, "cpu"), rows)


def test_rows_are_expanded_on_every_backend(backend):
    packed = np.array([[7, 8, 9, 6, 0.5, 0.25, 0, 2, 1], [1, 2, 3, 4, 1.0, 0.0, 2, 0, -1]], dtype=np.float32)
    found = CODE.expand(backend.asarray(packed), backend.xp, backend.device)
    wanted = [
        [7, 8, 0.5, 0, 0, 9, 1, 1, 0.25, 6, 0, 1],
        [1, 2, 1, 1, 1, 3, 0, 0, 0, 4, 0, 0],
    ]
    np.testing.assert_array_equal(backend.to_numpy(found), np.array(wanted, dtype=np.float32))


@pytest.mark.parametrize("leading", [(), (2,), (2, 3)])
def test_axes_in_front_stay(leading):
    rows = np.zeros((*leading, 4, CODE.packed_width))
    assert CODE.expand(rows, np, "cpu").shape == (*leading, 4, CODE.width)
