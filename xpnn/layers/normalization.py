r"""Batch, layer and root-mean-square normalization.

All three are :math:`y = \gamma \odot \hat x + \beta` with a different :math:`\hat x`; ``ops.normalize`` and its
backward hold the one formula.  The scale is called ``weight`` and the shift ``bias``; neither is decayed.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, Protocol

from .._typing import Array, Namespace
from ..arguments import flag, number
from ..errors import OptionError
from ..initializers import Constant, Zeros
from ..params import BufferSpec, ParamSpec
from ..random import StepKey
from ..recordable import RecordingMode
from .base import Layer

__all__ = ["BatchNorm", "BatchSums", "LayerNorm", "RMSNorm", "SharedMoments"]


class BatchSums(Protocol):
    """Sums over all parts of a batch, of which this pass sees one; vectors are (..., 1, n)."""

    def total(self, part: Array) -> Array:
        """Return the sum of what all parts give."""

    def mean(self, part: Array) -> Array:
        """Return the sum of gradients, each part's scaled as this one's are, which has its own mean loss."""


class SharedMoments(NamedTuple):
    """How rows depend on moments over all parts of a batch."""

    weight: Array  #: (batch, 1), over the weight of the whole batch
    sums: BatchSums

    def backward(self, xp: Namespace, d_hat: Array, x_hat: Array, inv_std: Array) -> Array:
        """Return the gradient to the input, as `Ops.weighted_normalize_backward` does, with sums over all parts.

        They are made also where nobody wants it: all parts make the same calls.
        """
        n = x_hat.shape[-1]
        parts = [xp.sum(part, axis=-2, keepdims=True) for part in (d_hat, d_hat * x_hat)]
        means = self.sums.mean(xp.concat(parts, axis=-1))
        dx = x_hat * means[..., n:]
        dx += means[..., :n]
        dx *= self.weight
        dx = d_hat - dx
        dx *= inv_std
        return dx


# x̂, 1/σ, and how x̂ depends on the rows' moments: not at all, all rows alike, or by (weights, their sum).
Stats = tuple[Array, Array, bool | tuple[Array, Any] | SharedMoments]


class _Norm(Layer):
    """Scale and shift after standardizing along `_axis`."""

    _axis: int
    _center = True

    def __init__(self, eps: float = 1e-5) -> None:
        if not 0 < number(eps) < math.inf:
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
        """Return the output; the cache is ``x̂``, ``1/σ`` and how ``x̂`` depends on the rows' moments."""
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
        if isinstance(from_moments, SharedMoments):
            dx = from_moments.backward(xp, dy * self.params["weight"], x_hat, inv_std)
            return dx if need_dx else None
        if not need_dx:
            return None
        d_hat = dy * self.params["weight"]
        if not from_moments:
            d_hat *= inv_std
            return d_hat
        if isinstance(from_moments, tuple):
            return ops.weighted_normalize_backward(d_hat, x_hat, inv_std, *from_moments)
        return ops.normalize_backward(d_hat, x_hat, inv_std, self._axis, center=self._center)


class BatchNorm(_Norm):
    r"""Standardize each feature over the batch, then scale and shift [1]_.

    .. math:: \hat x = \frac{x - \mu_B}{\sqrt{\sigma_B^2 + \epsilon}}, \qquad y = \gamma \odot \hat x + \beta

    Training uses the batch's moments and updates the running ones,
    :math:`r \leftarrow (1 - \rho)\, r + \rho\, \mu_B`, the running variance with the unbiased estimate;
    prediction uses the running ones.  A last batch of one row has no variance: it is standardized with the
    running moments and leaves them alone.

    Where rows have weights, those of classes among them, a weight is a repetition: moments are weighted means, and
    the unbiased estimate counts :math:`W = \sum w` rows, so it is :math:`\sigma_B^2\,W / (W - 1)` (but never more
    than twice :math:`\sigma_B^2`, as of two rows, for weights that are no counts).  Rows of weight 0 are absent.

    Parameters
    ----------
    eps : float, default=1e-5
        Added to the variance.
    momentum : float, default=0.1
        The weight :math:`\rho` of the new batch.
    sync : bool, default=False
        Where a batch is cut into shards (``fit(shards=...)``): whether moments are those of the whole batch, exchanged
        by all processes in each pass, and not of each shard ("ghost batch norm" [2]_).

    References
    ----------
    .. [1] Ioffe and Szegedy, "Batch normalization", ICML 2015.
    .. [2] Hoffer, Hubara and Soudry, "Train longer, generalize better", NeurIPS 2017.
    """

    _axis = -2
    _sums: BatchSums | None = None

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1, *, sync: bool = False) -> None:
        super().__init__(eps=eps)
        if not 0 < number(momentum) <= 1:
            raise OptionError(f"BatchNorm: expected 0 < momentum <= 1, got {momentum!r}. Try momentum=0.1.")
        self.momentum, self.sync = float(momentum), flag(sync, "BatchNorm", "sync")

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments; `sync` where it is set, so that older versions read all others."""
        return {name: value for name, value in super().config().items() if name != "sync" or value}

    def share(self, sums: BatchSums | None) -> None:
        """Take moments over all parts of a batch from here on; None: of what comes alone."""
        self._sums = sums if self.sync else None

    def buffer_specs(self) -> tuple[BufferSpec, ...]:
        shape = (self.n_in,)
        return BufferSpec("running_mean", shape, 0.0), BufferSpec("running_var", shape, 1.0)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Stats]:
        """Return the output and the cache; in training also update the running moments."""
        ops = self.ops
        self.check_input(x)
        batch = x.shape[-2]
        running_mean, running_var = self.buffers["running_mean"], self.buffers["running_var"]
        if train and self._sums is not None:
            return self._forward_shared(x, None if key is None else key.sample_weight, self._sums)
        if train and batch > 1 and key is not None and key.sample_weight is not None:
            return self._forward_weighted(x, key.sample_weight, key.total_weight)
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

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return that the weights of a batch are summed on the host, if rows have some."""
        if mode.weighted:
            return f"{self.label} computes with the weights of a batch on the host"
        return super().unrecordable(mode)

    def _forward_weighted(self, x: Array, weight: Array, total: Any) -> tuple[Array, Stats]:
        ops = self.ops
        xp = ops.xp
        weight = xp.reshape(weight, (-1, 1))
        most = max if isinstance(total, int | float) else xp.maximum
        total = most(total, float(xp.finfo(x.dtype).smallest_normal))
        mean, var = ops.weighted_moments(x, weight, total)
        # One row that counts, or none, has no variance.  How many do is known on the device: 1.0 or 0.0, no `if`.
        several = xp.astype(xp.sum(xp.astype(weight > 0, x.dtype)) > 1, x.dtype)
        unbiased = self.momentum * total / most(total - 1.0, 0.5 * total)
        y, x_hat, inv_std = self._by_moments(x, mean, var, several, unbiased)
        return y, (x_hat, inv_std, (weight * several, total))

    def _by_moments(
        self, x: Array, mean: Array, var: Array, several: Array, unbiased: Any
    ) -> tuple[Array, Array, Array]:
        """Return output, x̂ and 1/σ by these moments, which move the running ones; or by those, if rows are not several.

        `several` is 1.0 or 0.0, `unbiased` what the variance adds to the running one.
        """
        xp = self.ops.xp
        running_mean, running_var = self.buffers["running_mean"], self.buffers["running_var"]
        lone = 1.0 - several
        mean = mean * several + running_mean * lone
        var = var * several + running_var * lone
        inv_std = 1.0 / xp.sqrt(var + self.eps)
        x_hat = x - mean
        x_hat *= inv_std
        running_mean *= 1.0 - self.momentum
        running_mean += mean * self.momentum
        running_var *= 1.0 - self.momentum
        running_var += var * (several * unbiased + lone * self.momentum)
        return self._scale_and_shift(x_hat), x_hat, inv_std

    def _forward_shared(self, x: Array, weight: Array | None, sums: BatchSums) -> tuple[Array, Stats]:
        """Standardize by the moments of all parts of the batch: mean first, then squares of what differs from it."""
        xp, n = self.ops.xp, self.n_in
        if weight is None:
            weight = xp.zeros(x.shape[-2:-1], dtype=x.dtype, device=x.device)
            weight += 1.0
        weight = xp.reshape(weight, (-1, 1))
        counts = [xp.sum(part, axis=0) for part in (weight, xp.astype(weight > 0, x.dtype))]  # of shape (1,)
        plain = xp.sum(x * weight, axis=-2, keepdims=True)
        counts = xp.broadcast_to(xp.concat(counts), (*plain.shape[:-1], 2))
        totals = sums.total(xp.concat([plain, counts], axis=-1))
        total = xp.maximum(totals[..., n : n + 1], float(xp.finfo(x.dtype).smallest_normal))
        mean = totals[..., :n] / total
        square = x - mean
        square *= square
        square *= weight
        var = sums.total(xp.sum(square, axis=-2, keepdims=True)) / total
        several = xp.astype(totals[..., n + 1 :] > 1, x.dtype)
        unbiased = self.momentum * total / xp.maximum(total - 1.0, 0.5 * total)
        y, x_hat, inv_std = self._by_moments(x, mean, var, several, unbiased)
        return y, (x_hat, inv_std, SharedMoments(weight * several / total, sums))


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
