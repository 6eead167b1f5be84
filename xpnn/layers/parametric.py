"""Activations that learn how much of themselves they are."""

from __future__ import annotations

from collections.abc import Mapping

from .._typing import Array
from ..arguments import finite
from ..backend import Backend
from ..errors import OptionError
from ..initializers import Constant
from ..params import ParamSpec
from ..random import StepKey
from .activations import Gated, get_activation
from .base import Cache, Layer, multipliers

__all__ = ["ParametricActivation"]


class ParametricActivation(Layer):
    r"""Mix an activation with the identity, by a learned share for each unit [1]_.

    .. math:: y = x + \alpha \odot (\sigma(x) - x)

    At :math:`\alpha = 1` that is the activation :math:`\sigma`, at 0 the identity.  Backward:
    :math:`\bar\alpha = \sum_i \bar y_i \odot (\sigma(x_i) - x_i)` over the batch, and
    :math:`\bar x = \bar y \odot (1 - \alpha) + (\alpha \odot \bar y) \odot \sigma'(x)`.

    Parameters
    ----------
    activation : str or Layer
        A name (`get_activation`) or a layer: any that keeps the width and has no parameters.
    init : float, default=1.0
        The shares to begin with.
    lr_mult : float, default=0.1
        Factor on the learning rate, of RealMLP.
    decay_mult : float, default=1.0
        Factor on the weight decay; of a decoupled one on top of `lr_mult`.  0 leaves the shares undecayed.

    Notes
    -----
    The parameter is ``weight`` (n_in,), the :math:`\alpha`.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024; there with SELU for classes and Mish for numbers, and `decay_mult` 0.1.

    Examples
    --------
    >>> import xpnn
    >>> net = xpnn.mlp([4, 8, 8, 1], xpnn.ParametricActivation("mish"))
    >>> list(net.params)
    ['0.weight', '0.bias', '1.weight', '2.weight', '2.bias', '3.weight', '4.weight', '4.bias']
    """

    def __init__(
        self, activation: str | Layer, *, init: float = 1.0, lr_mult: float = 0.1, decay_mult: float = 1.0
    ) -> None:
        if not isinstance(activation, str | Layer):
            raise OptionError(
                f"ParametricActivation: expected a name or a layer as activation, got {activation!r}. Try 'mish'."
            )
        self.activation = get_activation(activation) if isinstance(activation, str) else activation
        self.init = finite(init, "ParametricActivation", "init", 1.0)
        self.lr_mult, self.decay_mult = multipliers("ParametricActivation", lr_mult, decay_mult)
        self.suited_init = self.activation.suited_init

    def out_size(self, n_in: int) -> int:
        inner = self.activation
        if inner.out_size(n_in) != n_in or inner.takes_integers:
            raise OptionError(
                f"ParametricActivation: expected an activation that keeps the width of {n_in}, got {inner!r}. "
                "Take one of xpnn.layers.get_activation."
            )
        return n_in

    def build(self, n_in: int) -> int:
        n_out = super().build(n_in)
        inner = self.activation
        inner.build(n_in)
        if inner.param_specs() or inner.buffer_specs():
            raise OptionError(
                f"ParametricActivation: expected an activation without parameters, got {inner!r}. "
                "That one learns by itself: use it alone."
            )
        return n_out

    def sublayers(self) -> tuple[Layer, ...]:
        return (self.activation,)

    def param_specs(self) -> tuple[ParamSpec, ...]:
        return (ParamSpec("weight", (self.n_in,), Constant(self.init), True, self.lr_mult, self.decay_mult),)

    def bind(
        self, backend: Backend, params: Mapping[str, Array], grads: Mapping[str, Array], buffers: Mapping[str, Array]
    ) -> None:
        super().bind(backend, params, grads, buffers)
        self.activation.bind(backend, {}, {}, {})

    def forward(
        self, x: Array, *, train: bool = False, key: StepKey | None = None
    ) -> tuple[Array, tuple[Array, Cache]]:
        """Return the mixture; the cache is ``σ(x) - x`` and the activation's own."""
        self.check_input(x)
        y, cache = self.activation.forward(x, train=train, key=key)
        difference = y - x  # a new array: y may be x, or belong to the cache
        y = difference * self.params["weight"]
        y += x
        return y, (difference, cache)

    def backward(self, dy: Array, cache: tuple[Array, Cache] | Gated, *, need_dx: bool = True) -> Array | None:
        """Assign the gradient of the shares; return ``dy (1 - α)`` plus the activation's gradient of ``α dy``."""
        if isinstance(cache, Gated):
            _, cache = self.forward(cache.x)
        difference, inner = cache
        self.grads["weight"][...] = self.ops.xp.sum(dy * difference, axis=-2, keepdims=True)
        if not need_dx:
            return None
        dy_inner = dy * self.params["weight"]
        dx = dy - dy_inner
        dx += self.activation.backward(dy_inner, inner)
        return dx
