"""The affine layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._typing import Array
from ..arguments import count, finite, flag
from ..initializers import Initializer, LeCunNormal, get_initializer
from ..ops import Affine
from ..params import ParamSpec
from ..random import StepKey
from .base import Layer, multipliers

__all__ = ["Linear"]


class Linear(Layer):
    r"""Affine map of each row.

    .. math:: Y = X W + \mathbf{1} b

    Backward, for :math:`\bar Y = \partial L/\partial Y`:
    :math:`\bar W = X^\top \bar Y`, :math:`\bar b = \mathbf{1}^\top \bar Y`, :math:`\bar X = \bar Y W^\top`.

    Parameters
    ----------
    n_out : int
        Width of the output, number of units.
    bias : bool, default=True
        Whether there is a bias row.
    init : str or Initializer, default="auto"
        Of the weight.  ``"auto"`` takes what suits the activation that follows: He for the ReLU family, Xavier
        for tanh and sigmoid, LeCun for SELU, and LeCun's unit variance where none follows.
    bias_init : str or Initializer, default="zeros"
        Of the bias.
    lr_mult, decay_mult : float, default=1.0
        Factors on the learning rate and on the weight decay of this layer.
    bias_lr_mult : float, optional
        Another factor on the learning rate of the bias than `lr_mult`.

    Notes
    -----
    Parameters are ``weight`` (n_in, n_out), decayed, and ``bias`` (n_out,), not decayed.  Texts whose samples
    are columns write the transpose, :math:`W x + b`.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Linear, Sequential
    >>> net = Sequential(Linear(1, init="zeros"), n_in=2)
    >>> net.params["0.weight"][...] = [[2], [3]]
    >>> y, caches = net.forward(np.asarray([[1, 10]]))
    >>> y
    array([[32.]], dtype=float32)
    """

    bias_lr_mult: float | None = None  # pickles from before have none
    _affine: tuple[Mapping[str, Array], Affine] | None = None

    def __init__(
        self,
        n_out: int,
        *,
        bias: bool = True,
        init: str | Initializer = "auto",
        bias_init: str | Initializer = "zeros",
        lr_mult: float = 1.0,
        decay_mult: float = 1.0,
        bias_lr_mult: float | None = None,
    ) -> None:
        self.n_out = count(n_out, "Linear", "n_out")
        self.bias = flag(bias, "Linear", "bias")
        self.init = init if init == "auto" else get_initializer(init)
        self.bias_init = bias_init if bias_init == "zeros" else get_initializer(bias_init)
        self.lr_mult, self.decay_mult = multipliers("Linear", lr_mult, decay_mult)
        self.bias_lr_mult = None
        if bias_lr_mult is not None:
            self.bias_lr_mult = finite(bias_lr_mult, "Linear", "bias_lr_mult", 1.0, low=0.0)
        self.auto_init: Initializer = LeCunNormal()

    def config(self) -> dict[str, Any]:
        options = super().config()
        if self.bias_lr_mult is None:
            del options["bias_lr_mult"]  # older versions read such a layer too
        return options

    def out_size(self, n_in: int) -> int:
        return self.n_out

    def param_specs(self) -> tuple[ParamSpec, ...]:
        init = self.auto_init if isinstance(self.init, str) else self.init
        weight = ParamSpec("weight", (self.n_in, self.n_out), init, True, self.lr_mult, self.decay_mult)
        if not self.bias:
            return (weight,)
        factor = self.lr_mult if self.bias_lr_mult is None else self.bias_lr_mult
        return weight, ParamSpec("bias", (self.n_out,), get_initializer(self.bias_init), False, factor)

    @property
    def affine(self) -> Affine:
        """Its parameters and their gradients, as the operations take them; kept while `params` are the same."""
        params, made = self.params, self._affine
        if made is None or made[0] is not params:
            grads = self.grads
            made = params, Affine(params["weight"], params.get("bias"), grads["weight"], grads.get("bias"))
            self._affine = made
        return made[1]

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return ``x W + b`` (..., batch, n_out); the cache is ``x`` itself, not a copy."""
        ops, affine = self.ops, self.affine
        self.check_input(x)
        return ops.linear(x, affine.weight, affine.bias), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Assign the gradients of weight and bias; return ``dy Wᵀ`` (..., batch, n_in) on `need_dx`."""
        return self.ops.linear_backward(cache, dy, self.affine, need_dx=need_dx)
