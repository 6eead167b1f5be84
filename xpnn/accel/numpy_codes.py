"""Packed rows encoded on NumPy: comparisons written where they belong, and all fractions at once."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from .._typing import Array
from ..coding import Code
from .native.support import is_loaded, load_loops

__all__ = ["encoded", "number_encoder"]


def number_encoder() -> Any:
    """Return `xpnn.accel.native.codes.encode_numbers` where compiled loops are loaded already, else None."""
    if not is_loaded() or load_loops() is None:
        return None
    return importlib.import_module(".native.codes", __package__).encode_numbers


def encoded(code: Code, packed: Array) -> Array | None:
    """Return `Code.expand` of packed rows (n, packed_width), to the bit; None where a bin is none."""
    fractions, first, categories = code.starts
    places = packed[:, first:categories]
    with np.errstate(invalid="ignore"):
        bins = places.astype(np.int64)
    if not (bins == places).all() or not ((bins >= 0) & (bins < [group.size for group in code.steps])).all():
        return None
    rows = np.empty((len(packed), code.width), packed.dtype)
    for source, place in code.runs():
        rows[:, place] = packed[:, source]
    numbers = np.arange(max((group.size for group in (*code.steps, *code.ones)), default=0), dtype=packed.dtype)
    for j, group in enumerate(code.steps):
        np.less(numbers[: group.size], places[:, j : j + 1], out=rows[:, group.place], casting="unsafe")
    for j, group in enumerate(code.ones):
        at = packed[:, categories + j : categories + j + 1]
        np.equal(numbers[: group.size], at, out=rows[:, group.place], casting="unsafe")
    if code.steps:
        own = bins + [group.start for group in code.steps]
        # A sum of the zero that the definition has there: a fraction of -0 becomes 0.
        rows[np.arange(len(rows))[:, None], own] = packed[:, fractions:first] + 0.0
    return rows
