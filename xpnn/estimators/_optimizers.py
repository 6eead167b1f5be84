r"""scikit-learn's two rules: they differ from PyTorch's in where the learning rate and ε stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ..optim import Adam, Optimizer
from ..params import ParamStore

__all__ = ["SklearnAdam", "SklearnSGD"]


class SklearnSGD(Optimizer):
    r"""Momentum that carries its learning rate along.

    .. math:: v \leftarrow \mu v - \eta g, \qquad p \leftarrow p + v
              \quad\text{(Nesterov: } p \leftarrow p + \mu v - \eta g\text{)}

    Equal to `xpnn.SGD` while η is constant.

    Parameters
    ----------
    lr : float
        Learning rate η.
    momentum : float
        The factor μ, in [0, 1].
    nesterov : bool
        Look ahead along `v`.
    """

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(self, lr: float, momentum: float, *, nesterov: bool) -> None:
        super().__init__(lr)
        self.momentum, self.nesterov = float(momentum), nesterov

    def rule(self, store: ParamStore, scalars: Sequence[Any]) -> None:
        (lr,) = scalars
        v = self.state["velocity"]
        v *= self.momentum
        move = store.grads * lr
        v -= move
        if self.nesterov:
            move *= -1.0
            move += v * self.momentum
            store.values += move
        else:
            store.values += v


class SklearnAdam(Adam):
    r"""Adam in the form of the paper's section 2: ε is added to :math:`\sqrt v` before the bias correction."""

    def scalars(self, t: int, lr: Any) -> tuple[Any, ...]:
        beta1, beta2, _, rate = super().scalars(t, lr)
        return beta1, beta2, self.eps / math.sqrt(1.0 - self.beta2), rate
