"""Arguments of the optimizers' kernels, beside the flat buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..._typing import Array
from ...ops import Scalar, Update
from .checks import MOST_REPLICAS, number, one_or_each, plain, replicas_of
from .kernels import DECAYS

__all__ = ["update_arguments"]


def update_arguments(
    update: Update, state: Sequence[Array], scalars: Sequence[Scalar]
) -> tuple[int, list[Any], list[Any]] | None:
    """Return what an optimizer's kernel takes after the buffers.

    Parameters
    ----------
    update : Update
        As in `xpnn.ops.Ops.descend`.
    state : sequence of arrays of shape (..., n)
        The rule's own buffers.
    scalars : sequence of float or array
        The rule's numbers.

    Returns
    -------
    tuple or None
        Length, the rule's numbers, and the arguments of decay and clipping; None if the kernel takes no such buffers.
    """
    values, grads, lr_factors, decay, clip = update
    buffers = values, grads, *state
    replicas, n = replicas_of(values), values.shape[-1]
    strength: Scalar = 0.0 if decay is None else decay.strength
    reach = decay is not None and decay.decoupled and (decay.factors is not None or lr_factors is not None)
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
    if decay is None:
        rest = [DECAYS["keep"], 0, None, *flat[-3:]]
    else:
        kind = "coupled" if not decay.decoupled else "reach" if reach else "shrink"
        rest = [DECAYS[kind], decay.n, decay.factors, *flat[-3:]]
    rest += [None, 0, 0.0] if clip is None else [clip.norm, int(clip.norm.size > 1), float(clip.largest)]
    return n, flat[:-3], rest
