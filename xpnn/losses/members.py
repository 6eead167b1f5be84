"""The loss of many members that are trained as one network."""

from __future__ import annotations

from typing import Self

import numpy as np

from .._typing import Array, Namespace
from ..arguments import count
from ..backend import namespace, on_its_device
from ..errors import OptionError, ShapeError
from ..ops import Ops
from .loss import Loss, holds_rows

__all__ = ["MemberMean"]


class MemberMean(Loss):
    r"""Mean of the losses that each of `K` members of a network has by itself [1]_.

    .. math:: \ell_i = \frac1K \sum_k \ell(z_{ik}, y_i), \qquad
              \frac{\partial \ell_i}{\partial z_{ik}} = \frac1K \frac{\partial \ell(z_{ik}, y_i)}{\partial z_{ik}}

    The outputs of the members stand side by side, as `MemberHead` gives them, ``K * n`` in all.  Each member is trained
    as if it were alone, never their mean; `link` returns the mean of what the members' links give, (..., batch, n), and
    `decide` and metrics go by that.

    Parameters
    ----------
    loss : Loss
        Of one member.
    members : int
        The number `K`.

    References
    ----------
    .. [1] Gorishniy, Kotelnikov and Babenko, "TabM: advancing tabular deep learning with parameter-efficient
       ensembling", ICLR 2025.

    Examples
    --------
    Two members: one is sure of the first class, one does not know.

    >>> import numpy as np
    >>> from xpnn import CrossEntropy
    >>> loss = MemberMean(CrossEntropy(), 2)
    >>> logits = np.asarray([[40.0, 0.0, 0.0, 0.0]])
    >>> loss.link(logits).tolist()
    [[0.75, 0.25]]
    >>> value, d = loss.value_and_grad(logits, np.asarray([0]))
    >>> round(float(value), 4), d.round(4).tolist()
    (0.3466, [[0.0, 0.0, -0.25, 0.25]])
    """

    def __init__(self, loss: Loss, members: int) -> None:
        if not isinstance(loss, Loss):
            raise OptionError(f"MemberMean: expected a loss object, got {loss!r}. Try MemberMean(CrossEntropy(), 8).")
        self.loss, self.members = loss, count(members, "MemberMean", "members")
        self.takes_labels, self.classifies, self.links = loss.takes_labels, loss.classifies, loss.links
        self.accuracy_rule = loss.accuracy_rule

    def using(self, ops: Ops) -> Self:
        new = super().using(ops)
        new.loss = self.loss.using(ops)
        return new

    def _stack(self, pred: Array) -> Array:
        """Return the members' outputs by member, (..., batch, K * n) to (..., K, batch, n)."""
        xp, (*leading, batch, n) = namespace(pred), pred.shape
        by_member = xp.moveaxis(xp.reshape(pred, (*leading, batch, self.members, n // self.members)), -2, -3)
        stack = xp.reshape(xp.zeros_like(pred), by_member.shape)  # in one piece
        stack[...] = by_member
        return stack

    def rows(self, xp: Namespace, pred: Array, y: Array) -> tuple[Array, Array]:
        stack = self._stack(pred)
        if len(y.shape) > 2 or (len(y.shape) == 2 and not holds_rows(xp, y, stack)):  # each replica has targets
            y = y[..., None, :] if len(y.shape) == 2 else y[..., None, :, :]
        losses, d = self.loss.checked_rows(xp, stack, y)
        losses = xp.sum(losses, axis=-2)
        losses *= 1.0 / self.members
        rows = xp.reshape(xp.zeros_like(pred), (*pred.shape[:-1], self.members, stack.shape[-1]))
        rows[...] = xp.moveaxis(d, -3, -2)
        rows *= 1.0 / self.members
        return losses, xp.reshape(rows, pred.shape)

    @on_its_device
    def link(self, pred: Array) -> Array:
        """Return the mean of what the members' links give, (..., batch, n)."""
        return namespace(pred).mean(self.loss.link(self._stack(pred)), axis=-3)

    def inverse_link(self, predictions: Array) -> Array:
        """Return the outputs of a single network that gives these predictions."""
        return self.loss.inverse_link(predictions)

    @on_its_device
    def outputs(self, pred: Array) -> Array:
        """Return the outputs of a single network that answers as the members do together, (..., batch, n)."""
        return self.loss.outputs(self.loss.inverse_link(self.link(pred)))

    def n_outputs(self, n_out: int) -> int:
        return self.loss.n_outputs(n_out // self.members)

    @on_its_device
    def decide(self, pred: Array) -> Array:
        """Return what the members' loss decides by the mean of their predictions."""
        return self.loss.decide(self.outputs(pred))

    def _n_targets(self, n_out: int) -> int:
        return self.loss._n_targets(n_out // self.members)

    def check_targets(self, y: np.ndarray, n_out: int) -> None:
        if n_out % self.members:
            raise ShapeError(
                f"{self}: expected outputs that {self.members} members divide among them, got {n_out}. "
                f"End the network with MemberHead(n, {self.members})."
            )
        self.loss.check_targets(y, n_out // self.members)
