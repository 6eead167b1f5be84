"""A learned factor for each feature."""

from __future__ import annotations

from .._typing import Array
from ..arguments import finite
from ..initializers import Constant
from ..params import ParamSpec
from ..random import StepKey
from .base import Layer, multipliers

__all__ = ["Scale"]


class Scale(Layer):
    r"""Multiply each feature by a learned factor, :math:`y = x \odot s` [1]_.

    Backward: :math:`\bar s = \sum_i \bar y_i \odot x_i` over the batch, and :math:`\bar x = \bar y \odot s`.

    In front of the first `Linear` it is a soft selection of features: a factor that learns faster than the weights
    behind it can make a column count more, or less, for all units at once.

    Parameters
    ----------
    init : float, default=1.0
        The factors to begin with.
    lr_mult : float, default=6.0
        Factor on the learning rate, of RealMLP.
    decay_mult : float, default=1.0
        Factor on the weight decay; of a decoupled one on top of `lr_mult`.  0 leaves the factors undecayed.

    Notes
    -----
    The parameter is ``weight`` (n_in,).

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024; whose code decays the factors by `decay_mult` 6.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Linear, Scale, Sequential
    >>> net = Sequential(Scale(), Linear(1), n_in=2)
    >>> net.params["0.weight"][...] = [2, 0]
    >>> net.layers[0].forward(np.asarray([[3.0, 5.0]]))[0].tolist()
    [[6.0, 0.0]]
    """

    def __init__(self, init: float = 1.0, *, lr_mult: float = 6.0, decay_mult: float = 1.0) -> None:
        self.init = finite(init, "Scale", "init", 1.0)
        self.lr_mult, self.decay_mult = multipliers("Scale", lr_mult, decay_mult)

    def param_specs(self) -> tuple[ParamSpec, ...]:
        return (ParamSpec("weight", (self.n_in,), Constant(self.init), True, self.lr_mult, self.decay_mult),)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``x s``; the cache is ``x``."""
        self.check_input(x)
        return x * self.params["weight"], x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Assign the gradient of the factors and return ``dy s``."""
        self.grads["weight"][...] = self.ops.xp.sum(dy * cache, axis=-2, keepdims=True)
        return dy * self.params["weight"] if need_dx else None
