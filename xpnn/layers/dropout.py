"""Inverted dropout."""

from __future__ import annotations

from collections.abc import Sequence

from .._typing import Array
from ..arguments import one_or_each
from ..errors import OptionError
from ..random import StepKey
from .base import Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    r"""Drop each unit with probability `rate` while training, and scale the others up [1]_.

    .. math:: y = x \odot m, \qquad m_{ij} = \frac{[u_{ij} < 1 - r]}{1 - r}, \qquad \bar x = \bar y \odot m

    The scaling keeps the expected output equal to ``x``, so prediction is the identity ("inverted" dropout).
    Masks are a function of (seed, layer, step) and of a row's place in the batch, or of its number if the rows
    have numbers: equal on every backend, to the bit.

    Parameters
    ----------
    rate : float or sequence of float, default=0.5
        Share of units to drop, in [0, 1); a sequence gives each replica its own.  A trainer's `dropout_schedule`
        multiplies it, step by step.

    References
    ----------
    .. [1] Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Dropout, Sequential
    >>> net = Sequential(Dropout(0.5), n_in=4, seed=1)
    >>> y, _ = net.forward(np.ones((1, 4)), train=True, step=0)
    >>> y
    array([[2., 2., 2., 0.]], dtype=float32)
    """

    def __init__(self, rate: float | Sequence[float] = 0.5) -> None:
        self.rate = one_or_each(rate)
        rates = self.rate if isinstance(self.rate, list) else [self.rate]
        if not rates or not all(0 <= r < 1 for r in rates):
            raise OptionError(
                f"Dropout: expected 0 <= rate < 1 (the share of units dropped), got {rate!r}. "
                "0.5 drops half; 0 drops none."
            )

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array | None]:
        """Return ``x`` times the mask, which is the cache; outside training ``x`` itself."""
        mask = self.mask(x, key) if train else None
        return x if mask is None else x * mask, mask

    def mask(self, x: Array, key: StepKey | None) -> Array | None:
        """Return the mask of a step for features `x`, None where nothing is dropped."""
        if self.rate == 0.0:
            return None
        if key is None:
            raise OptionError(
                f"{self.label or repr(self)}: expected a key when train=True, got None. "
                "Pass key=xpnn.random.StepKey(seed, step)."
            )
        pair, replicas, shape = key[self.slot], key.replicas, tuple(x.shape)
        if isinstance(self.rate, list) and len(self.rate) != replicas:
            raise OptionError(
                f"{self.label or repr(self)}: got {len(self.rate)} rates for {replicas or 'no'} replicas. "
                "Pass one rate, or one for each replica."
            )
        if replicas and len(shape) == 2:
            shape = (replicas, *shape)  # rows shared by all replicas, a mask for each
        rate = key.rate(self.slot, self.rate)
        if isinstance(rate, float) and rate == 0.0:  # by a schedule: a mask of ones
            return None
        if key.rows is None:
            return self.ops.keep_mask(shape, rate, pair, x.dtype)
        return self.ops.keep_mask_of_rows(shape, rate, pair, x.dtype, key.rows)

    def backward(self, dy: Array, cache: Array | None, *, need_dx: bool = True) -> Array | None:
        """Return ``dy`` times the mask."""
        if not need_dx:
            return None
        return dy if cache is None else dy * cache
