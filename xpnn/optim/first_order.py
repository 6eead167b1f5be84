r"""First-order rules, each a handful of array operations on the flat buffers.

Legend: `p` parameters, `g` gradients, η learning rate, `t` the step from 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from ..arguments import finite, flag
from ..errors import OptionError
from ..ops import Update
from ..params import ParamStore
from .base import Number, Optimizer, Rate, in_unit_interval, positive_eps, power, root, scaled

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Lion", "Momentum", "NAdam", "RMSProp"]


class SGD(Optimizer):
    r"""Stochastic gradient descent, with heavy-ball or Nesterov momentum.

    .. math:: v \leftarrow \mu v + g, \qquad p \leftarrow p - \eta v
              \quad\text{(Nesterov: } p \leftarrow p - \eta (g + \mu v)\text{)}

    Parameters
    ----------
    lr : float or sequence of float, default=0.01
        Learning rate η.
    momentum : float, default=0.0
        The factor μ, in [0, 1).
    nesterov : bool, default=False
        Look ahead along `v` [1]_; needs momentum.
    weight_decay : float or sequence of float, default=0.0
        Coupled decay.

    References
    ----------
    .. [1] Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep
       learning", ICML 2013; in PyTorch's form, where η multiplies the velocity.

    Examples
    --------
    >>> from xpnn import Linear, Sequential
    >>> net = Sequential(Linear(1, init="zeros"), n_in=1)
    >>> net.grads["0.weight"][...] = 2.0
    >>> SGD(lr=0.5).step(net.store)
    >>> float(net.params["0.weight"][0, 0])
    -1.0
    """

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(
        self, lr: Rate = 0.01, momentum: float = 0.0, *, nesterov: bool = False, weight_decay: Rate = 0.0
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval("SGD", momentum=momentum)
        nesterov = flag(nesterov, "SGD", "nesterov")
        if nesterov and not momentum:
            raise OptionError("SGD: nesterov=True expects momentum > 0, got 0. Try momentum=0.9.")
        self.momentum, self.nesterov = float(momentum), nesterov

    def bind(self, store: ParamStore) -> None:
        super().bind(store)
        if not self.momentum:
            self.state.clear()  # plain descent keeps nothing

    def _move(self, store: ParamStore, update: Update, scalars: Sequence[Number]) -> None:
        (lr,) = scalars
        velocity = self.state.get("velocity")
        store.backend.ops.descend(update, velocity, lr, momentum=self.momentum, nesterov=self.nesterov)


class Momentum(Optimizer):
    r"""Momentum as a running mean of gradients.

    .. math:: v \leftarrow \beta v + (1 - \beta)\, g, \qquad p \leftarrow p - \eta v

    Equal to `SGD` with ``momentum=beta`` and the learning rate :math:`\eta (1 - \beta)`.

    Parameters
    ----------
    lr : float or sequence of float, default=0.01
        Learning rate η.
    beta : float, default=0.9
        The factor β, in [0, 1).
    weight_decay : float or sequence of float, default=0.0
        Coupled decay.
    """

    slots: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(self, lr: Rate = 0.01, beta: float = 0.9, *, weight_decay: Rate = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval("Momentum", beta=beta)
        self.beta = float(beta)

    def _move(self, store: ParamStore, update: Update, scalars: Sequence[Number]) -> None:
        (lr,) = scalars
        velocity = self.state["velocity"]
        store.backend.ops.descend(update, velocity, lr, momentum=self.beta, gain=1.0 - self.beta)


class RMSProp(Optimizer):
    r"""Gradients divided by their running root mean square [1]_.

    .. math:: s \leftarrow \alpha s + (1 - \alpha)\, g^2, \qquad p \leftarrow p - \eta\,\frac{g}{\sqrt s + \epsilon}

    Parameters
    ----------
    lr : float or sequence of float, default=0.01
        Learning rate η.
    alpha : float, default=0.99
        The factor α, in [0, 1).
    eps : float, default=1e-8
        Added to the root, as PyTorch does.
    weight_decay : float or sequence of float, default=0.0
        Coupled decay.

    References
    ----------
    .. [1] Tieleman and Hinton, "Lecture 6.5: rmsprop", Coursera, 2012.
    """

    slots: ClassVar[tuple[str, ...]] = ("square",)

    def __init__(self, lr: Rate = 0.01, alpha: float = 0.99, *, eps: float = 1e-8, weight_decay: Rate = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval("RMSProp", alpha=alpha)
        self.alpha, self.eps = float(alpha), positive_eps("RMSProp", eps)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        (lr,) = scalars
        g, s = store.grads, self.state["square"]
        s *= self.alpha
        square = g * g
        square *= 1.0 - self.alpha
        s += square
        root = store.backend.xp.sqrt(s)
        root += self.eps
        move = g / root
        move *= lr
        store.values -= scaled(store, move)


class AdaGrad(Optimizer):
    r"""Gradients divided by the root of the sum of all their squares [1]_.

    .. math:: s \leftarrow s + g^2, \qquad p \leftarrow p - \eta\,\frac{g}{\sqrt s + \epsilon}

    Parameters
    ----------
    lr : float or sequence of float, default=0.01
        Learning rate η.
    eps : float, default=1e-10
        Added to the root.
    weight_decay : float or sequence of float, default=0.0
        Coupled decay.

    References
    ----------
    .. [1] Duchi, Hazan and Singer, "Adaptive subgradient methods", JMLR 12, 2011; the diagonal variant.
    """

    slots: ClassVar[tuple[str, ...]] = ("square",)

    def __init__(self, lr: Rate = 0.01, *, eps: float = 1e-10, weight_decay: Rate = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        self.eps = positive_eps("AdaGrad", eps)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        (lr,) = scalars
        g, s = store.grads, self.state["square"]
        s += g * g
        root = store.backend.xp.sqrt(s)
        root += self.eps
        move = g / root
        move *= lr
        store.values -= scaled(store, move)


class Adam(Optimizer):
    r"""Adaptive moments with bias correction [1]_.

    .. math:: m \leftarrow \beta_1 m + (1 - \beta_1)\, g, \quad v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2, \quad
              p \leftarrow p - \eta\,\frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    The state holds :math:`m/(1 - \beta_1)` and :math:`v/(1 - \beta_2)`, which saves two passes; the update is the same.

    Parameters
    ----------
    lr : float or sequence of float, default=0.001
        Learning rate η.
    beta1, beta2 : float, default=0.9, 0.999
        Factors of the running moments, in [0, 1).
    eps : float, default=1e-8
        Added to the root after bias correction, as in the paper's Algorithm 1 and in PyTorch.
    weight_decay : float or sequence of float, default=0.0
        Coupled decay; see `AdamW` for the decoupled one.

    References
    ----------
    .. [1] Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015.
    """

    slots: ClassVar[tuple[str, ...]] = ("m", "v")

    def __init__(
        self, lr: Rate = 0.001, beta1: float = 0.9, beta2: float = 0.999, *, eps: float = 1e-8, weight_decay: Rate = 0.0
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval(type(self).__name__, beta1=beta1, beta2=beta2)
        self.beta1, self.beta2 = float(beta1), float(beta2)
        self.eps = positive_eps(type(self).__name__, eps)

    def scalars(self, t: Any, lr: Number) -> tuple[Number, ...]:
        """Return (β₁, β₂, ε', ρ) of ``ops.adam``: ε and the rate in units of the scaled moments."""
        c = root((1.0 - self.beta2) / (1.0 - power(self.beta2, t)))
        rate = lr * ((1.0 - self.beta1) / ((1.0 - power(self.beta1, t)) * c))
        return self.beta1, self.beta2, self.eps / c, rate

    def _move(self, store: ParamStore, update: Update, scalars: Sequence[Number]) -> None:
        store.backend.ops.adam(update, self.state["m"], self.state["v"], scalars)


class AdamW(Adam):
    r"""Adam with decoupled weight decay: first :math:`p \leftarrow p - \eta\lambda p`, then Adam's step [1]_.

    Parameters
    ----------
    lr : float or sequence of float, default=0.001
        Learning rate η.
    beta1, beta2 : float, default=0.9, 0.999
        Factors of the running moments.
    eps : float, default=1e-8
        Added to the root.
    weight_decay : float or sequence of float, default=0.01
        The factor λ.

    References
    ----------
    .. [1] Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019; λ is multiplied by the
       learning rate, as in PyTorch.
    """

    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        lr: Rate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        eps: float = 1e-8,
        weight_decay: Rate = 0.01,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps=eps, weight_decay=weight_decay)


class NAdam(Optimizer):
    r"""Adam with Nesterov's look-ahead [1]_.

    With :math:`\mu_t = \beta_1 (1 - \tfrac12\, 0.96^{t \psi})` and :math:`\Pi_t = \prod_{i \le t} \mu_i`:

    .. math:: p \leftarrow p - \eta\,\frac{\frac{1 - \mu_t}{1 - \Pi_t}\, g + \frac{\mu_{t+1}}{1 - \Pi_{t+1}}\, m}
              {\sqrt{v / (1 - \beta_2^t)} + \epsilon}

    Parameters
    ----------
    lr : float or sequence of float, default=0.002
        Learning rate η.
    beta1, beta2 : float, default=0.9, 0.999
        Factors of the running moments.
    eps : float, default=1e-8
        Added to the root.
    momentum_decay : float, default=0.004
        The exponent ψ.
    weight_decay : float or sequence of float, default=0.0
        Coupled decay.

    References
    ----------
    .. [1] Dozat, "Incorporating Nesterov momentum into Adam", ICLR 2016 workshop; with the momentum schedule, as
       in PyTorch.
    """

    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    _many: ClassVar[bool] = False

    def __init__(
        self,
        lr: Rate = 0.002,
        beta1: float = 0.9,
        beta2: float = 0.999,
        *,
        eps: float = 1e-8,
        momentum_decay: float = 0.004,
        weight_decay: Rate = 0.0,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval("NAdam", beta1=beta1, beta2=beta2)
        self.beta1, self.beta2, self.eps = float(beta1), float(beta2), positive_eps("NAdam", eps)
        self.momentum_decay = finite(momentum_decay, "NAdam", "momentum_decay", 0.004, low=0.0)
        self._products = [1.0]  # Π_0, Π_1, …, extended as steps come

    def _mu(self, t: int) -> float:
        return self.beta1 * (1.0 - 0.5 * math.pow(0.96, t * self.momentum_decay))

    def scalars(self, t: int, lr: Number) -> tuple[Number, ...]:
        """Return the factors of `g` and `m`, and those of the root."""
        while len(self._products) <= t + 1:
            self._products.append(self._products[-1] * self._mu(len(self._products)))
        of_g = lr * ((1.0 - self._mu(t)) / (1.0 - self._products[t]))
        of_m = lr * (self._mu(t + 1) / (1.0 - self._products[t + 1]))
        return of_g, of_m, 1.0 / math.sqrt(1.0 - self.beta2**t)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        of_g, of_m, of_root = scalars
        g, m, v = store.grads, self.state["m"], self.state["v"]
        m *= self.beta1
        m += g * (1.0 - self.beta1)
        v *= self.beta2
        square = g * g
        square *= 1.0 - self.beta2
        v += square
        root = store.backend.xp.sqrt(v)
        root *= of_root
        root += self.eps
        move = g * of_g
        move += m * of_m
        move /= root
        store.values -= scaled(store, move)


class Lion(Optimizer):
    r"""Signs of an interpolated momentum [1]_, with decoupled weight decay.

    .. math:: p \leftarrow p - \eta\,\mathrm{sign}(\beta_1 m + (1 - \beta_1)\, g), \qquad
              m \leftarrow \beta_2 m + (1 - \beta_2)\, g

    Parameters
    ----------
    lr : float or sequence of float, default=1e-4
        Learning rate η; every parameter moves by just this much, so take it 3 to 10 times smaller than Adam's.
    beta1, beta2 : float, default=0.9, 0.99
        Factors, in [0, 1).
    weight_decay : float or sequence of float, default=0.0
        Decoupled decay.

    References
    ----------
    .. [1] Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """

    slots: ClassVar[tuple[str, ...]] = ("m",)
    decoupled: ClassVar[bool] = True

    def __init__(self, lr: Rate = 1e-4, beta1: float = 0.9, beta2: float = 0.99, *, weight_decay: Rate = 0.0) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval("Lion", beta1=beta1, beta2=beta2)
        self.beta1, self.beta2 = float(beta1), float(beta2)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        (lr,) = scalars
        xp, g, m = store.backend.xp, store.grads, self.state["m"]
        c = m * self.beta1
        c += g * (1.0 - self.beta1)
        move = xp.astype(c > 0, g.dtype)
        move -= xp.astype(c < 0, g.dtype)
        move *= lr
        store.values -= scaled(store, move)
        m *= self.beta2
        m += g * (1.0 - self.beta2)
