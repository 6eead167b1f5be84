r"""Muon: momentum, made orthogonal matrix by matrix.

Legend: `W` a weight matrix of shape (n_in, n_out), `G` its gradient, η learning rate, `t` the step from 1.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

from .._typing import Array, Namespace
from ..arguments import count, flag, number, suggest
from ..errors import OptionError
from ..ops import Update
from ..params import ParamSpec, ParamStore
from .base import Number, Optimizer, Rate, in_unit_interval, positive_eps, power, root

__all__ = ["Muon", "newton_schulz"]

# Of x ↦ a x + b x³ + c x⁵: as steep at 0 as can be while five steps hold what is above 1/500 within [0.68, 1.21] [1].
_A, _B, _C = 3.4445, -4.7750, 2.0315
# A gradient of zeros stays zero.
_SMALLEST_NORM = 1e-7


class _Matrix(NamedTuple):
    """One weight matrix: views of the flat buffers, and its factor on the learning rate."""

    spec: ParamSpec
    place: slice
    values: Array
    grads: Array
    momentum: Array
    factor: float


class Muon(Optimizer):
    r"""Momentum made orthogonal by a Newton-Schulz iteration for weight matrices, AdamW for the rest [1]_.

    .. math:: M \leftarrow \mu M + G, \qquad U = \mathrm{NS}(G + \mu M), \qquad
              W \leftarrow W - \eta\,\sqrt{\max(1, n_{out} / n_{in})}\; U

    With the singular values of its argument near 1, :math:`U` moves all directions alike, also those in which the
    gradient is small.  This is Jordan's variant, which ``torch.optim.Muon`` calls "original": momentum with Nesterov's
    look-ahead, five quintic steps, and the square root, which gives the move of a layer that widens the effect on its
    outputs that others have.  (Jordan writes max(1, rows / columns) for PyTorch's matrices of shape (n_out, n_in); ours
    are their transposes.)  The iteration is done in the parameters' dtype, where PyTorch rounds to bfloat16.

    Biases, scales of norms and what `matrices` leaves out go by `AdamW` at the rate :math:`\eta` times
    `adam_rate`, so one schedule, or one rate for each replica, serves both.

    Parameters
    ----------
    lr : float or sequence of float, default=0.02
        Learning rate η of the matrices.  Moves are of this size whatever the gradient's.
    momentum : float, default=0.95
        The factor μ, in [0, 1).
    nesterov : bool, default=True
        Whether to look ahead along `M`; without, :math:`U = \mathrm{NS}(M)`.
    weight_decay : float or sequence of float, default=0.0
        Decoupled decay λ: :math:`1 - \eta\lambda` for matrices moved by Muon, AdamW's for others.
    ns_steps : int, default=5
        Steps of the Newton-Schulz iteration.
    matrices : "all", "hidden" or sequence of str, default="all"
        Which weight matrices are moved by Muon: all of them, all but the network's first and last, or these
        (``"2.weight"``).  Jordan leaves embeddings and the layers at both ends to AdamW.  Plain networks of few layers
        did better without exceptions (784-256-128-10, five epochs of 10,000 images of MNIST, default rates with a
        cosine, two seeds: 96.0 % on others with "all", 94.7 % with "hidden", 93.2 % with AdamW), so none is made
        unasked; take "hidden" for a network that begins with `Embedding`, whose table is no linear map.
    adam_rate : float, default=0.05
        Learning rate of AdamW as a share of `lr`: 0.001 at 0.02.
    beta1, beta2, eps : float, default=0.9, 0.999, 1e-8
        AdamW's.

    Raises
    ------
    OptionError
        If an option is out of its range; at the first step also if `matrices` names none of the network's.

    References
    ----------
    .. [1] Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
       https://kellerjordan.github.io/posts/muon/

    Examples
    --------
    >>> from xpnn import Linear, Sequential
    >>> net = Sequential(Linear(2, init="zeros"), n_in=2)
    >>> net.grads["0.weight"][...] = [[100.0, 0.0], [0.0, 1.0]]
    >>> Muon(lr=1.0).step(net.store)
    >>> net.params["0.weight"].round(1)  # both directions, nearly alike
    array([[-0.7,  0. ],
           [ 0. , -0.7]], dtype=float32)
    """

    slots: ClassVar[tuple[str, ...]] = ("m", "v")
    decoupled: ClassVar[bool] = True

    def __init__(
        self,
        lr: Rate = 0.02,
        momentum: float = 0.95,
        *,
        nesterov: bool = True,
        weight_decay: Rate = 0.0,
        ns_steps: int = 5,
        matrices: Literal["all", "hidden"] | Sequence[str] = "all",
        adam_rate: float = 0.05,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay)
        in_unit_interval("Muon", momentum=momentum, beta1=beta1, beta2=beta2)
        named = isinstance(matrices, Sequence) and not isinstance(matrices, str)
        if not named and matrices not in ("all", "hidden"):
            raise OptionError(
                f"Muon: expected matrices to be 'all', 'hidden' or a list of names, got {matrices!r}. "
                f"{suggest(matrices, ('all', 'hidden'))}"
            )
        if not 0 <= number(adam_rate) < math.inf:
            raise OptionError(f"Muon: expected adam_rate >= 0 and finite, got {adam_rate!r}. Try 0.05.")
        self.momentum, self.nesterov = float(momentum), flag(nesterov, "Muon", "nesterov")
        self.ns_steps = count(ns_steps, "Muon", "ns_steps")
        self.matrices: str | list[str] = matrices if isinstance(matrices, str) else list(matrices)
        self.adam_rate, self.beta1, self.beta2 = float(adam_rate), float(beta1), float(beta2)
        self.eps = positive_eps("Muon", eps)

    # -- which parameters, and where ------------------------------------------------------------------------
    def bind(self, store: ParamStore) -> None:
        """Make the state for `store`, once, and lay out who moves what."""
        if self._store is store:
            return
        chosen = self._chosen(store)
        super().bind(store)
        xp, m = store.backend.xp, self.state["m"]
        self._by_muon: list[_Matrix] = []
        self._by_adam: list[slice] = []
        self._decayed_by_adam: list[tuple[ParamSpec, slice]] = []
        touching = False
        for name, place in store.segments():
            spec = store.specs[name]
            if name in chosen:
                n_in, n_out = spec.shape
                momentum = xp.reshape(m[..., place], (*store.replicas, n_in, n_out), copy=False)
                factor = math.sqrt(max(1.0, n_out / n_in)) * spec.lr_mult
                views = store.params[name], store.param_grads[name], momentum
                self._by_muon.append(_Matrix(spec, place, *views, factor))
            else:  # neighbours are one slice, with the padding between them
                start = self._by_adam.pop().start if touching else place.start
                self._by_adam.append(slice(start, place.stop))
                if spec.decay:
                    self._decayed_by_adam.append((spec, place))
            touching = name not in chosen

    def _chosen(self, store: ParamStore) -> set[str]:
        """Return the names of the matrices that Muon moves."""
        matrices = set(store.matrices())
        known = [name for name in store.specs if name in matrices]  # in the order of the network
        chosen = known if self.matrices == "all" else known[1:-1] if self.matrices == "hidden" else self.matrices
        if self.matrices == "hidden" and not chosen:
            raise OptionError(
                f"Muon: matrices='hidden' expected a matrix between the first and the last, got a network of "
                f"{len(known)}. Try matrices='all', or AdamW."
            )
        for name in chosen:
            if name not in known:
                raise OptionError(
                    f"Muon: expected matrices among {', '.join(known) or 'none'}, got {name!r}. {suggest(name, known)}"
                )
        return set(chosen)

    def reset(self) -> None:
        """Forget state, step count and store."""
        super().reset()
        self._by_muon, self._by_adam, self._decayed_by_adam = [], [], []

    def __getstate__(self) -> dict[str, Any]:
        # Views belong to the store; `bind` lays them out again.
        return {**super().__getstate__(), "_by_muon": [], "_by_adam": [], "_decayed_by_adam": []}

    # -- the step ---------------------------------------------------------------------------------------------
    def scalars(self, t: Any, lr: Number) -> tuple[Number, ...]:
        """Return η, and the numbers of ``ops.adam`` as `Adam` has them."""
        c = root((1.0 - self.beta2) / (1.0 - power(self.beta2, t)))
        rate = lr * self.adam_rate * ((1.0 - self.beta1) / ((1.0 - power(self.beta1, t)) * c))
        return lr, self.beta1, self.beta2, self.eps / c, rate

    def _strengths(self, lr: Number, decay: Number) -> tuple[Number, ...]:
        """Return the number of AdamW's decay, for `rule`, and then Muon's."""
        return *super()._strengths(lr * self.adam_rate, decay), *super()._strengths(lr, decay)

    def rule(self, store: ParamStore, scalars: Sequence[Number]) -> None:
        lr, *adam, shrink = scalars
        if self.weight_decay:
            for spec, place in self._decayed_by_adam:
                self._shrink(store.values, spec, place, shrink)
        ops, state, factors = store.backend.ops, self.state, store.lr_factors
        for p in self._by_adam:
            update = Update(store.values[..., p], store.grads[..., p], None if factors is None else factors[p])
            ops.adam(update, state["m"][..., p], state["v"][..., p], adam)
        if store.replicas and not isinstance(lr, float):
            lr = lr[..., None]  # (K, 1, 1), to scale matrices
        for matrix in self._by_muon:
            m, g, w = matrix.momentum, matrix.grads, matrix.values
            m *= self.momentum
            m += g
            ahead = m
            if self.nesterov:
                ahead = m * self.momentum
                ahead += g
            move = newton_schulz(store.backend.xp, ahead, self.ns_steps, product=ops.product)
            if matrix.factor != 1.0:
                move *= matrix.factor
            move *= lr
            w -= move

    def _decay(self, store: ParamStore, decay: Number) -> None:
        """Shrink what Muon moves; `rule` shrinks what AdamW moves."""
        for matrix in self._by_muon:
            self._shrink(store.values, matrix.spec, matrix.place, decay)

    def _shrink(self, values: Array, spec: ParamSpec, place: slice, number: Number) -> None:
        """Apply decoupled weight decay to one parameter, in place; its own factors stretch it."""
        weights = values[..., place]
        if not self._per_parameter():
            weights *= number
            return
        pull = weights * number
        pull *= spec.decay_mult * spec.lr_mult
        weights -= pull


def newton_schulz(
    xp: Namespace, g: Array, steps: int = 5, *, product: Callable[[Array, Array], Array] = operator.matmul
) -> Array:
    r"""Replace the singular values of each matrix by values near 1, by products of matrices alone.

    From :math:`X = G / \lVert G \rVert_F`, `steps` times

    .. math:: X \leftarrow a X + b\,(X X^T) X + c\,(X X^T)^2 X,

    which acts on each singular value as the odd polynomial :math:`a s + b s^3 + c s^5` and leaves the singular
    vectors.  With a = 3.4445, b = -4.7750, c = 2.0315, five steps bring all that is above about 1/500 of the
    norm to between 0.68 and 1.21; it is not meant to converge to 1.  The result is new; zeros stay zeros.
    The products are `product`'s, such as `xpnn.ops.Ops.product`.

    Examples
    --------
    >>> import numpy as np
    >>> g = np.random.default_rng(0).normal(size=(3, 5))
    >>> s = np.linalg.svd(newton_schulz(np, g))[1]
    >>> bool((s > 0.6).all() and (s < 1.2).all())
    True
    """
    norm = xp.sqrt(xp.sum(g * g, axis=(-2, -1), keepdims=True))
    x = g / xp.maximum(norm, _SMALLEST_NORM)
    tall = g.shape[-2] > g.shape[-1]  # the smaller of the two squares
    for _ in range(steps):
        square = product(x.mT, x) if tall else product(x, x.mT)
        p = product(square, square)
        p *= _C
        square *= _B
        p += square
        y = product(x, p) if tall else product(p, x)
        x *= _A
        x += y
    return x
