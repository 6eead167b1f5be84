r"""Batch, layer and root-mean-square normalization.

All three are :math:`y = \gamma \odot \hat x + \beta` with a different :math:`\hat x`; ``ops.normalize`` and its
backward hold the one formula.  The scale is called ``weight`` and the shift ``bias``; neither is decayed.
"""

from __future__ import annotations

from .._typing import Array
from ..arguments import number
from ..errors import OptionError
from ..initializers import Constant, Zeros
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from .base import Layer

__all__ = ["BatchNorm", "LayerNorm", "RMSNorm"]

Stats = tuple[Array, Array, bool]


class _Norm(Layer):
    """Scale and shift after standardizing along `_axis`."""

    _axis: int
    _center = True

    def __init__(self, eps: float = 1e-5) -> None:
        if not number(eps) > 0:
            raise OptionError(f"{type(self).__name__}: expected eps > 0, got {eps!r}. Try eps=1e-5.")
        self.eps = float(eps)

    def param_specs(self) -> tuple[ParamSpec, ...]:
        shape = (self.n_in,)
        weight = ParamSpec("weight", shape, Constant(1.0), False)
        return (weight, ParamSpec("bias", shape, Zeros(), False)) if self._center else (weight,)

    def _scale_and_shift(self, x_hat: Array) -> Array:
        y = x_hat * self.params["weight"]
        if self._center:
            y += self.params["bias"]
        return y

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Stats]:
        """Return the output; the cache is ``x̂``, ``1/σ`` and whether ``x̂`` depends on the rows' moments."""
        ops = self.ops
        self.check_input(x)
        x_hat, inv_std, _, _ = ops.normalize(x, self._axis, self.eps, center=self._center)
        return self._scale_and_shift(x_hat), (x_hat, inv_std, True)

    def backward(self, dy: Array, cache: Stats, *, need_dx: bool = True) -> Array | None:
        """Assign the gradients of scale and shift; return ``dx``."""
        ops = self.ops
        xp = ops.xp
        x_hat, inv_std, from_moments = cache
        self.grads["weight"][...] = xp.sum(dy * x_hat, axis=-2, keepdims=True)
        if self._center:
            self.grads["bias"][...] = xp.sum(dy, axis=-2, keepdims=True)
        if not need_dx:
            return None
        d_hat = dy * self.params["weight"]
        if not from_moments:
            d_hat *= inv_std
            return d_hat
        return ops.normalize_backward(d_hat, x_hat, inv_std, self._axis, center=self._center)


class BatchNorm(_Norm):
    r"""Standardize each feature over the batch, then scale and shift [1]_.

    .. math:: \hat x = \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}}, \qquad y = \gamma \odot \hat x + \beta

    Training uses the batch's moments and updates the running ones,
    :math:`r \leftarrow (1 - \rho)\, r + \rho\, \mu_B`, the running variance with the unbiased estimate;
    prediction uses the running ones.  A last batch of one row has no variance: it is standardized with the
    running moments and leaves them alone.

    Parameters
    ----------
    eps : float, default=1e-5
        Added to the variance.
    momentum : float, default=0.1
        The weight :math:`\rho` of the new batch.

    References
    ----------
    .. [1] Ioffe and Szegedy, "Batch normalization", ICML 2015.
    """

    _axis = -2

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(eps=eps)
        if not 0 < number(momentum) <= 1:
            raise OptionError(f"BatchNorm: expected 0 < momentum <= 1, got {momentum!r}. Try momentum=0.1.")
        self.momentum = float(momentum)

    def buffer_specs(self) -> tuple[BufferSpec, ...]:
        shape = (self.n_in,)
        return BufferSpec("running_mean", shape, 0.0), BufferSpec("running_var", shape, 1.0)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Stats]:
        """Return the output and the cache; in training also update the running moments."""
        ops = self.ops
        self.check_input(x)
        batch = x.shape[-2]
        running_mean, running_var = self.buffers["running_mean"], self.buffers["running_var"]
        if not train or batch == 1:
            inv_std = 1.0 / ops.xp.sqrt(running_var + self.eps)
            x_hat = x - running_mean
            x_hat *= inv_std
            return self._scale_and_shift(x_hat), (x_hat, inv_std, False)
        x_hat, inv_std, mean, var = ops.normalize(x, -2, self.eps, center=True)
        running_mean *= 1.0 - self.momentum
        running_mean += mean * self.momentum
        running_var *= 1.0 - self.momentum
        running_var += var * (self.momentum * batch / (batch - 1))
        return self._scale_and_shift(x_hat), (x_hat, inv_std, True)


class LayerNorm(_Norm):
    r"""Standardize each row over its features, then scale and shift [1]_.

    .. math:: \hat x_i = \frac{x_i - \mu_i}{\sqrt{\sigma_i^2 + \epsilon}}, \qquad y = \gamma \odot \hat x + \beta

    Parameters
    ----------
    eps : float, default=1e-5
        Added to the variance.

    References
    ----------
    .. [1] Ba, Kiros and Hinton, "Layer normalization", arXiv:1607.06450.
    """

    _axis = -1


class RMSNorm(_Norm):
    r"""Divide each row by its root mean square, then scale [1]_.

    .. math:: y = \gamma \odot \frac{x}{\sqrt{\tfrac1n \sum_j x_j^2 + \epsilon}}

    Parameters
    ----------
    eps : float, default=1e-5
        Added to the mean square.

    References
    ----------
    .. [1] Zhang and Sennrich, "Root mean square layer normalization", NeurIPS 2019; the form without partial
       statistics.
    """

    _axis = -1
    _center = False
