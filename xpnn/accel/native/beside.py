"""Which products of a trace may be made at once: such as follow each other, and need nothing of each other.

The gradients of a layer are two products of one matrix, to its weights and to its input.  Made at once they are one job
of the threads, after which these wait once, not twice; and products too small to be cut are shared out whole.  Each is
the product that it would be alone, so no bit changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .table import Column

__all__ = ["Product", "join", "product_of"]

Span = tuple[int, int]  # of memory: the first address, and the one behind the last

# Multiply-adds from which on a product is worth a thread: some times what handing it out costs.
_LEAST = 1 << 20


class Product(NamedTuple):
    """The memory that a product reads and writes, and its multiply-adds."""

    reads: tuple[Span, Span]
    writes: Span
    work: int


def product_of(a: Any, b: Any, out: Any) -> Product:
    """Return what is to be known of the product of two arrays."""
    spans = [np.lib.array_utils.byte_bounds(array) for array in (a, b, out)]
    return Product((spans[0], spans[1]), spans[2], math.prod(out.shape) * a.shape[-1])


def join(rows: Sequence[list[int]], products: Mapping[int, Product]) -> None:
    """Note in a trace's `rows` which of its `products`, given by their rows, may be made at once.

    What is noted there already is kept: the pieces of a product, which always may.
    """
    group: list[int] = []  # rows of the products that are joined so far
    for row in sorted(products):
        own = range(row, row + rows[row][Column.TOGETHER])
        if row in group or any(k not in products for k in own):  # a piece, or of memory that moves
            continue
        if group and row == group[-1] + 1 and _independent([products[k] for k in group], [products[k] for k in own]):
            rows[group[0]][Column.TOGETHER] += len(own)
            group += own
        else:
            group = list(own)


def _independent(first: Sequence[Product], second: Sequence[Product]) -> bool:
    """Whether products need nothing of others before them, nor write where those read or write; and all are large."""
    if min(one.work for one in (*first, *second)) < _LEAST:
        return False
    return not any(
        _meet(a.writes, b.writes) or _meet_any(a.writes, b.reads) or _meet_any(b.writes, a.reads)
        for a in first
        for b in second
    )


def _meet_any(span: Span, others: Sequence[Span]) -> bool:
    return any(_meet(span, other) for other in others)


def _meet(a: Span, b: Span) -> bool:
    return a[0] < b[1] and b[0] < a[1]
