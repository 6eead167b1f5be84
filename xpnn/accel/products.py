"""Matrix products of NumPy, in pieces that depend on shapes alone.

Each piece is a product that OpenBLAS makes on one thread, and threads of xpnn's own share the pieces.  So a product has
the same bits on one thread, on many, on a busy machine, and in a trace (`xpnn.accel.native.trace`); and a thread that
others keep from its core makes nobody wait.  Where NumPy has other products than OpenBLAS's, they stay whole.
"""

from __future__ import annotations

import functools

import numpy as np

from .._typing import Array
from .native.openblas import find_openblas
from .native.trace import Traced, trace_of, untraced
from .native.turns import PRODUCT, allowed_threads
from .workers import together

__all__ = ["divide", "multiply", "piece_count"]

# Multiply-adds up to which OpenBLAS itself takes one thread: of two matrices, and of one with a vector.
_SMALL, _SMALL_WITH_VECTOR = 1 << 18, 1 << 13
# From so many on there are 2, 4, 8 and 16 pieces.  What pieces have in common is packed for each anew, which costs up
# to a tenth of the time of the smallest.
_DIVIDED = 1 << 22, 1 << 27, 1 << 30, 1 << 32
_MOST = 1 << len(_DIVIDED)
# Matrices of a stack have nothing in common: from so many on they are two halves, and a thread keeps in its cache what
# belongs to the replicas of one.
_HALVED = 1 << 19
# From so many on Python's threads are asked for help: below they come too late.  Those of traces are quicker.
_SHARED = 30_000_000
# Pieces begin at multiples of so many rows or columns, as tiles within OpenBLAS do.
_TILE = 16


def multiply(a: Array, b: Array, out: Array | None = None) -> Array:
    """Return the product of matrices (m, k) and (k, n), or of stacks of them, which is written to `out` if given."""
    n = b.shape[-1]
    work = a.size * n  # of one matrix, at least
    if a.shape[-1] == 1 and work > _SMALL_WITH_VECTOR and a.dtype == b.dtype:
        return _outer(a, b, _place(a, b) if out is None else out)
    if work <= _SMALL_WITH_VECTOR or (work <= _SMALL and n > 1 and a.shape[-2] > 1):
        return a @ b if out is None else np.matmul(a, b, out=out)
    if out is None and work < _HALVED and a.ndim >= b.ndim:  # of all matrices, then: in one piece
        with PRODUCT:
            return a @ b
    count = piece_count(a.shape, b.shape)
    if count == 1 or a.dtype != b.dtype or _with_itself(a, b):
        with PRODUCT:
            return np.matmul(a, b, out=out)
    if out is None:
        out = _place(a, b)
    parts = divide(a, b, out, count)
    if type(out) is Traced:
        trace_of(out).together(parts)
        return out

    with PRODUCT:
        if out.size * a.shape[-1] < _SHARED or allowed_threads() == 1:
            for own_a, own_b, own_out in parts:
                np.matmul(own_a, own_b, out=own_out)
        else:
            together(lambda k: np.matmul(parts[k][0], parts[k][1], out=parts[k][2]), count)
    return out


def _place(a: Array, b: Array) -> Array:
    """Return an array for a product."""
    stack = () if a.ndim == b.ndim == 2 else np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return np.empty_like(a if type(a) is Traced else b, order="C", shape=(*stack, a.shape[-2], b.shape[-1]))


def _outer(a: Array, b: Array, out: Array) -> Array:
    """Write the product of a column and a row, for which OpenBLAS takes four times as long, to the same bits."""
    np.multiply(a, b, out=out)
    out += 0.0  # a sum that begins with 0 has no -0
    return out


def _with_itself(a: Array, b: Array) -> bool:
    """Whether a matrix meets its own transpose: of such a product NumPy makes but a half."""
    return a.strides[-2:] == b.strides[:-3:-1] and np.may_share_memory(untraced(a), untraced(b))


@functools.lru_cache(maxsize=1 << 12)
def piece_count(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Return in how many pieces the product of such shapes is made: parts of a stack, and of the longer side.

    The matrices of a stack are cut as each alone would be, so that replicas have the bits of one network.
    """
    (m, k), n = a[-2:], b[-1]
    stack = np.broadcast_shapes(a[:-2], b[:-2])
    matrices = int(np.prod(stack, dtype=np.int64))
    work = matrices * m * k * n
    if find_openblas() is None or len(stack) > 1:
        return 1
    cuts = _cuts(m, k, n)
    if matrices > 1 and work < _DIVIDED[0]:
        return 1 + (work >= _HALVED)
    return cuts * min(matrices, _MOST // cuts)


def _cuts(m: int, k: int, n: int) -> int:
    """Return in how many pieces the longer side of one product is cut."""
    return max(min(1 << sum(m * k * n >= least for least in _DIVIDED), max(m, n) // _TILE), 1)


def divide(a: Array, b: Array, out: Array, count: int) -> list[tuple[Array, Array, Array]]:
    """Return the factors and the places of pieces of a product: parts of a stack, and of the longer side."""
    m, n = out.shape[-2:]
    matrices = out.shape[0] if out.ndim == 3 else 1
    if matrices > 1:
        first, second = ((x if x.ndim == 3 and len(x) == matrices else None) for x in (a, b))
        cuts = _cuts(m, a.shape[-1], n)
        parts = [
            (a if first is None else first[s], b if second is None else second[s], out[s])
            for s in _edges(matrices, count // cuts, 1)
        ]
        return parts if cuts == 1 else [piece for part in parts for piece in _cut(*part, cuts)]
    return _cut(a, b, out, count)


def _cut(a: Array, b: Array, out: Array, count: int) -> list[tuple[Array, Array, Array]]:
    """Return the factors and the places of parts of the longer side."""
    m, n = out.shape[-2:]
    if m >= n:
        return [(a[..., s, :], b, out[..., s, :]) for s in _edges(m, count, _TILE)]
    return [(a, b[..., s], out[..., s]) for s in _edges(n, count, _TILE)]


@functools.lru_cache(maxsize=1 << 12)
def _edges(length: int, count: int, tile: int) -> list[slice]:
    """Return `count` parts of a side, each but the last a whole number of tiles."""
    cuts = [length * k // count // tile * tile for k in range(count)]
    return [slice(*pair) for pair in zip(cuts, [*cuts[1:], length], strict=True)]
