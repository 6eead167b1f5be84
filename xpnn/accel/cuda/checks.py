"""What the kernels take, decided by shapes, strides and dtypes alone: nothing here waits for the device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..._typing import Array
from ...ops import Decay, Places, Scalar, Update
from .kernels import DECAYS

__all__ = [
    "LARGEST",
    "MOST_REPLICAS",
    "decay_kind",
    "gathers",
    "number",
    "one_or_each",
    "plain",
    "replicas_of",
    "row_step",
    "sizes",
    "stack_of",
    "takes_class_step",
    "update_arguments",
    "warps",
]

LARGEST = 2**31 - 1  # elements that 32-bit sizes count
MOST_REPLICAS = 65535  # the second and third axis of a grid


def plain(*arrays: Array) -> bool:
    """Whether all are float32, in one piece by rows, not empty, and small enough for 32-bit sizes."""
    return all(
        a.dtype == np.float32
        and a.flags.c_contiguous
        and 0 < a.size <= LARGEST
        and math.prod(a.shape[:-2]) <= MOST_REPLICAS
        for a in arrays
    )


def sizes(x: Array) -> tuple[int, int, int]:
    """Replicas, rows and columns."""
    return math.prod(x.shape[:-2]), x.shape[-2], x.shape[-1]


def replicas_of(flat: Array) -> int:
    """Replicas of flat buffers (..., n)."""
    return math.prod(flat.shape[:-1])


def stack_of(a: Array, b: Array) -> tuple[int, ...]:
    """The replica axes of a product."""
    if a.ndim == b.ndim == 2:
        return ()
    return (max(x.shape[0] for x in (a, b) if x.ndim == 3),)


def row_step(row: Array, replicas: int, cols: int) -> int | None:
    """Elements from one replica's row to the next, for an array of shape (..., 1, n); None if it cannot be read so."""
    shape, strides = row.shape, row.strides
    if row.dtype != np.float32 or shape[-1] != cols or math.prod(shape[:-1]) not in (1, replicas):
        return None
    if (cols > 1 and strides[-1] != 4) or row.ndim > 3:
        return None
    if row.ndim < 3 or shape[0] == 1:
        return 0
    step = strides[0] // 4
    return step if 0 <= step <= LARGEST else None


def number(value: Any, count: int, dtype: type = np.float32) -> tuple[Array | None, int, Any] | None:
    """A number of a kernel: array, step and value; None if it is no such thing.

    An array has one element, or `count` along one axis, such as (K, 1), which may be a column of a table.
    """
    if isinstance(value, int | float | np.generic):
        return None, 0, dtype(value)
    if type(value) is np.ndarray or value.dtype != dtype or value.size not in (1, count):
        return None
    if value.size == 1:
        return value, 0, dtype(0)
    axis = max(range(value.ndim), key=value.shape.__getitem__)
    step, rest = divmod(value.strides[axis], value.itemsize)
    if value.shape[axis] != count or rest:
        return None
    return value, step, dtype(0)


def one_or_each(norm: Array, flat: Array) -> bool:
    """Whether there is one norm, or one for each replica."""
    return norm.size in (1, replicas_of(flat))


def warps(rows: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block of the kernels that give each row a warp."""
    return (-(-rows // 4),), (128,)


def takes_class_step(logits: Array, target: Array, weight: Array | None, places: Places) -> bool:
    """Whether the kernels can do a step's softmax cross-entropy."""
    replicas, rows, cols = sizes(logits)
    whole, of_rows = (logits.shape, logits.shape[-2:]), (logits.shape[:-1], logits.shape[-2:-1])
    of_target = of_rows if target.dtype == np.int64 else whole
    return (
        plain(logits, places.loss)
        and places.loss.size == replicas
        and (places.hits is None or (plain(places.hits) and places.hits.size == 2 * replicas))
        and target.shape in of_target
        and (plain(target) or (target.dtype == np.int64 and bool(target.flags.c_contiguous)))
        and (weight is None or (plain(weight) and weight.shape == (rows,)))
        and cols < 1 << 24  # places that a float32 tells apart
    )


def gathers(x: Array, index: Array, width: int) -> bool:
    """Whether rows of `x`, of `width` words each, can be gathered by `index`."""
    return bool(
        index.dtype == np.int64
        and index.ndim == 1
        and x.flags.c_contiguous
        and index.flags.c_contiguous
        and min(x.size, index.size, width) > 0
        and max(index.size, width) <= LARGEST
    )


def decay_kind(decay: Decay | None, lr_factors: Array | None) -> str:
    """Return which kind of `DECAYS` a weight decay is, for a network with these factors on its learning rates."""
    if decay is None:
        return "keep"
    if not decay.decoupled:
        return "coupled"
    return "shrink" if decay.factors is None and lr_factors is None else "reach"


def update_arguments(
    update: Update, state: Sequence[Array], scalars: Sequence[Scalar]
) -> tuple[int, list[Any], list[Any]] | None:
    """Return what an optimizer's kernel takes after the buffers: length, numbers, and arguments of decay and clipping.

    Beside the `update` of `xpnn.ops.Ops.descend` a rule has buffers (..., n) and numbers of its own.  None where the
    kernel takes no such buffers.
    """
    values, grads, lr_factors, decay, clip = update
    buffers = values, grads, *state
    replicas, n = replicas_of(values), values.shape[-1]
    strength: Scalar = 0.0 if decay is None else decay.strength
    numbers = [number(s, replicas) for s in (*scalars, strength)]
    shared = [a for a in (lr_factors, None if decay is None else decay.factors) if a is not None]
    takes = (
        values.ndim <= 2
        and replicas <= MOST_REPLICAS
        and plain(*buffers, *shared)
        and all(b.shape == values.shape for b in buffers)
        and all(a.ndim == 1 for a in shared)
        and None not in numbers
        and (clip is None or (plain(clip.norm) and one_or_each(clip.norm, values)))
    )
    if not takes:
        return None
    flat = [part for found in numbers if found for part in found]
    rest: list[Any] = [DECAYS[decay_kind(decay, lr_factors)]]
    rest += [0, None] if decay is None else [decay.n, decay.factors]
    rest += flat[-3:]
    rest += [None, 0, 0.0] if clip is None else [clip.norm, int(clip.norm.size > 1), float(clip.largest)]
    return n, flat[:-3], rest
