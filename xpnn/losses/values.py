"""Losses of values: how far a number is from the target."""

from __future__ import annotations

from collections.abc import Iterable

from .._typing import Array, Namespace
from ..arguments import number
from ..errors import OptionError, ShapeError
from ..recordable import RecordingMode
from .loss import Loss, over_outputs

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError", "Pinball"]


class MeanSquaredError(Loss):
    r"""Squared error, :math:`\ell_i = \frac1n \sum_j (p_{ij} - y_{ij})^2`, gradient :math:`\frac2n (p - y)`.

    Examples
    --------
    >>> import numpy as np
    >>> value, d = MeanSquaredError().value_and_grad(np.asarray([[3.0], [1.0]]), np.asarray([[1.0], [1.0]]))
    >>> float(value), d.tolist()
    (2.0, [[2.0], [0.0]])
    """

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        d = pred - y
        losses = over_outputs(xp, d * d)
        d *= 2.0 / pred.shape[-1]
        return losses, d


class MeanAbsoluteError(Loss):
    r"""Absolute error, :math:`\ell_i = \frac1n \sum_j |p_{ij} - y_{ij}|`.

    The gradient is :math:`\frac1n \mathrm{sign}(p - y)`, 0 at the kink.
    """

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        diff = pred - y
        losses = over_outputs(xp, xp.abs(diff))
        d = xp.astype(diff > 0, pred.dtype)
        d -= xp.astype(diff < 0, pred.dtype)
        d *= 1.0 / pred.shape[-1]
        return losses, d


class Huber(Loss):
    r"""Quadratic near zero, linear beyond `delta` [1]_.

    With :math:`d = p - y` and :math:`c = \min(\max(d, -\delta), \delta)` both branches are
    :math:`c\,(d - c/2)`, and the gradient is :math:`c`; both are averaged over outputs.

    Parameters
    ----------
    delta : float, default=1.0
        Where the linear part begins, in units of the target.

    References
    ----------
    .. [1] Huber, "Robust estimation of a location parameter", Ann. Math. Statist. 35, 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        if not 0 < number(delta) < float("inf"):
            raise OptionError(f"Huber: expected delta > 0, got {delta!r}. Try delta=1.0.")
        self.delta = float(delta)

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        d = pred - y
        c = xp.minimum(xp.maximum(d, -self.delta), self.delta)
        d -= c * 0.5
        d *= c
        c *= 1.0 / pred.shape[-1]
        return over_outputs(xp, d), c


class Pinball(Loss):
    r"""Quantile loss for several quantiles at once [1]_.

    For quantile `q` and :math:`e = y - p`: :math:`\max(q e, (q - 1) e)`, averaged over targets and quantiles.
    Its minimum is the conditional `q`-quantile.

    Parameters
    ----------
    quantiles : sequence of float, default=(0.1, 0.5, 0.9)
        Each in (0, 1).  A target of `t` columns needs ``t * len(quantiles)`` outputs, all quantiles of the
        first target first.

    References
    ----------
    .. [1] Koenker and Bassett, "Regression quantiles", Econometrica 46, 1978.
    """

    def __init__(self, quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)) -> None:
        values = tuple(map(number, quantiles)) if isinstance(quantiles, Iterable) else ()
        if not values or not all(0 < q < 1 for q in values):
            raise OptionError(f"Pinball: expected quantiles between 0 and 1, got {quantiles!r}. Try (0.1, 0.5, 0.9).")
        self.quantiles = values

    def unrecordable(self, mode: RecordingMode) -> str | None:
        """Return that the quantiles come from the host."""
        return f"{type(self).__name__} uploads its quantiles in each step"

    def _n_targets(self, n_out: int) -> int:
        n_targets, rest = divmod(n_out, len(self.quantiles))
        if rest:
            raise ShapeError(
                f"{self}: expected a multiple of {len(self.quantiles)} outputs (one for each quantile), got {n_out}. "
                f"End the network with Linear({len(self.quantiles)})."
            )
        return n_targets

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        n_out = pred.shape[-1]
        quantiles = xp.asarray(self.quantiles, dtype=pred.dtype, device=pred.device)
        # e: (..., batch, n_targets, n_quantiles)
        e = y[..., None] - xp.reshape(pred, (*pred.shape[:-1], y.shape[-1], len(self.quantiles)))
        over = xp.astype(e < 0, pred.dtype)
        d = over - quantiles  # the slope to p: -q below the target, 1 - q above
        losses = xp.sum(xp.reshape(-(d * e), tuple(pred.shape)), axis=-1)
        losses *= 1.0 / n_out
        # e = 0 is the kink: any slope between is right, and -q is taken
        d *= 1.0 / n_out
        return losses, xp.reshape(d, tuple(pred.shape))
