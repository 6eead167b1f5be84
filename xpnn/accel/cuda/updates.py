"""What the kernels of the optimizers are told, beside the flat buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..._typing import Array
from ...errors import OptionError
from ...ops import Scalar
from .checks import MOST_REPLICAS, kinds, number, one_or_each, plain, replicas_of
from .kernels import DECAYS

__all__ = ["USE_RULES", "Clip", "Decay", "update_arguments"]

USE_RULES = "Use the rules of xpnn.optim with ops='portable'."


class Decay(NamedTuple):
    r"""Weight decay within an optimizer's kernel.

    Parameters
    ----------
    decoupled : bool
        Whether the first `n` values shrink, or a pull towards 0 is added to their gradients.
    n : int
        How many parameters, from the first, are decayed.
    strength : float or array of shape (K, 1)
        The last of `xpnn.optim.Optimizer.numbers`: coupled :math:`\lambda`; decoupled :math:`1 - \eta\lambda`, or
        :math:`\eta\lambda` if parameters have factors of their own, for the decay or the learning rate.
    factors : array of shape (n,), optional
        The parameters' own decay factors.
    """

    decoupled: bool
    n: int
    strength: Scalar
    factors: Array | None = None


class Clip(NamedTuple):
    """Clipping within an optimizer's kernel: the norm from `Ops.global_norm`, and the largest that it may be."""

    norm: Array
    max_norm: float


def update_arguments(
    buffers: Sequence[Array],
    scalars: Sequence[Scalar],
    lr_factors: Array | None,
    decay: Decay | None,
    clip: Clip | None,
) -> tuple[int, list[Any], list[Any]] | None:
    """Return what an optimizer's kernel takes after the buffers.

    Parameters
    ----------
    buffers : sequence of arrays of shape (..., n)
        Values, gradients and state.
    scalars : sequence of float or array
        The rule's numbers.
    lr_factors, decay, clip
        As in `CupyOps.adam`.

    Returns
    -------
    tuple or None
        Length, the rule's numbers, and the arguments of decay and clipping; None if the kernel takes no such buffers.

    Raises
    ------
    OptionError
        If it takes no such buffers, and decay or clipping cannot be left away.
    """
    values = buffers[0]
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
        if decay is None and clip is None:
            return None
        raise OptionError(
            "optimizer kernel: expected float32 buffers in one piece for decay and clipping within the kernel, got "
            f"{kinds(*buffers)}. {USE_RULES}"
        )
    flat = [part for found in numbers if found for part in found]
    if decay is None:
        rest = [DECAYS["keep"], 0, None, *flat[-3:]]
    else:
        kind = "coupled" if not decay.decoupled else "reach" if reach else "shrink"
        rest = [DECAYS[kind], decay.n, decay.factors, *flat[-3:]]
    rest += [None, 0, 0.0] if clip is None else [clip.norm, int(clip.norm.size > 1), float(clip.max_norm)]
    return n, flat[:-3], rest
