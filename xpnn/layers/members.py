"""Many networks in one: members that share most of their weights, side by side in a row.

Legend: `K` members, each with `n` features, are a row of ``K * n``, the first member's features first.  So layers that
work feature by feature (activations, `Dropout`, `Scale`) need not know of members, and a batch keeps its place.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .._typing import Array, Shape
from ..arguments import count, flag
from ..errors import ShapeError
from ..initializers import Constant, HostArray, Initializer, RandomSigns, Uniform, get_initializer
from ..ops import Affine
from ..params import ParamSpec
from ..random import StepKey
from .base import Layer

__all__ = ["MemberHead", "MemberLinear", "MemberScale"]


class MemberScale(Layer):
    r"""Give each of `K` members its own version of the features, :math:`y_k = x \odot r_k` [1]_.

    An input of `n_in` features becomes ``K * n_in``.  With :math:`r_k` of random signs the members begin different, and
    layers behind it may share their weights (`MemberLinear`).  Backward: :math:`\bar r_k = \sum_i \bar y_{ik} \odot
    x_i` over the batch, and :math:`\bar x = \sum_k \bar y_k \odot r_k`.

    Parameters
    ----------
    members : int
        The number `K`.
    init : str or Initializer, optional
        Of the factors; random signs by default.  Behind embeddings of numbers normal factors are usual,
        ``Normal(std=1.0)``.
    groups : sequence of int, optional
        Sizes of features that belong together and begin with one factor for each member, such as the ``[4, 4, 4]``
        that a `NumericalEmbedding` makes of three columns; by default each feature has its own.

    Raises
    ------
    ShapeError
        If the groups have other features than the input.

    Notes
    -----
    The parameter is ``weight`` (K * n_in,), not decayed.

    References
    ----------
    .. [1] Gorishniy, Kotelnikov and Babenko, "TabM: advancing tabular deep learning with parameter-efficient
       ensembling", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import MemberScale, Sequential
    >>> net = Sequential(MemberScale(2), n_in=3, seed=1)
    >>> abs(net.forward(np.asarray([[1.0, 2.0, 3.0]]))[0]).tolist()
    [[1.0, 2.0, 3.0, 1.0, 2.0, 3.0]]
    """

    def __init__(
        self, members: int, *, init: str | Initializer | None = None, groups: Sequence[int] | None = None
    ) -> None:
        self.members = count(members, "MemberScale", "members")
        self.init = RandomSigns() if init is None else get_initializer(init)
        self.groups = None if groups is None else [count(n, "MemberScale", "each of groups") for n in groups]

    def out_size(self, n_in: int) -> int:
        if self.groups is not None and sum(self.groups) != n_in:
            raise ShapeError(
                f"MemberScale: expected groups of {n_in} features in all, got {sum(self.groups)}. "
                "Give the size of each group, 1 for a feature by itself."
            )
        return self.members * n_in

    def param_specs(self) -> tuple[ParamSpec, ...]:
        init = self.init if self.groups is None else _ByGroup(self.init, self.members, tuple(self.groups))
        return (ParamSpec("weight", (self.n_out,), init, False),)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return the members' features (..., batch, K * n_in); the cache is ``x``."""
        self.check_input(x)
        y = x[..., None, :] * _by_member(self, self.params["weight"])
        return self.ops.xp.reshape(y, (*y.shape[:-2], self.n_out), copy=False), x

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Assign the gradient of the factors; return ``dx`` (..., batch, n_in) on `need_dx`."""
        xp = self.ops.xp
        dy = _by_member(self, dy)
        d_weight = xp.sum(dy * cache[..., None, :], axis=-3, keepdims=True)
        self.grads["weight"][...] = xp.reshape(d_weight, (*d_weight.shape[:-2], self.n_out))
        return xp.sum(dy * _by_member(self, self.params["weight"]), axis=-2) if need_dx else None


class Shared(NamedTuple):
    """What `MemberLinear.backward` needs."""

    x: Array  #: (..., batch, K * n)
    rows: Array  #: (..., batch * K, n): the scaled input, a row for each member
    z: Array | None  #: (..., batch, K * width): the product; None where nothing scales it


class MemberLinear(Layer):
    r"""Affine map of each member's features by one weight for all, and factors of their own [1]_, [2]_.

    .. math:: y_k = \bigl((x_k \odot r_k)\, W\bigr) \odot s_k + b_k

    Backward, with :math:`h_k = x_k \odot r_k` and :math:`z_k = h_k W`, sums over the batch:
    :math:`\bar b_k = \sum \bar y_k`, :math:`\bar s_k = \sum \bar y_k \odot z_k`, :math:`\bar z_k = \bar y_k \odot s_k`,
    :math:`\bar W = \sum_k h_k^\top \bar z_k`, :math:`\bar r_k = \sum \bar z_k W^\top \odot x_k`, and
    :math:`\bar x_k = \bar z_k W^\top \odot r_k`.

    Parameters
    ----------
    width : int
        Features of each member behind it.
    members : int
        The number `K`; the input has ``K * n`` features, as behind a `MemberScale`.
    scale_in, scale_out : bool, default=True
        Whether members have factors :math:`r` of their own before the product, and :math:`s` and biases :math:`b`
        behind it; without the latter they share one bias.  TabM leaves `scale_in` out in its first layer, behind
        `MemberScale`; its small variant (TabM-mini) has none of either.
    init : str or Initializer, optional
        Of the weight; uniform within :math:`\pm 1/\sqrt n` by default.

    Raises
    ------
    ShapeError
        If the input is not divided among that many members.

    Notes
    -----
    Parameters are ``weight`` (n, width), decayed, and ``scale_in`` (K * n,), ``scale_out`` (K * width,) and ``bias``
    (K * width, or width), not decayed.  Factors begin as 1, and the members' biases as equal draws.

    References
    ----------
    .. [1] Wen, Tran and Ba, "BatchEnsemble: an alternative approach to efficient ensemble and lifelong learning", ICLR
       2020.
    .. [2] Gorishniy, Kotelnikov and Babenko, "TabM: advancing tabular deep learning with parameter-efficient
       ensembling", ICLR 2025.

    Examples
    --------
    TabM of 8 members, and the loss that trains them as one:

    >>> import xpnn
    >>> k, layers = 8, []
    >>> for i in range(3):
    ...     layers += [xpnn.MemberLinear(64, k, scale_in=i > 0), xpnn.ReLU(), xpnn.Dropout(0.1)]
    >>> net = xpnn.Sequential(xpnn.MemberScale(k), *layers, xpnn.MemberHead(3, k), n_in=10)
    >>> loss = xpnn.MemberMean(xpnn.CrossEntropy(), k)
    >>> trainer = xpnn.Trainer(net, loss, xpnn.AdamW(2e-3, weight_decay=3e-4))
    """

    def __init__(
        self,
        width: int,
        members: int,
        *,
        scale_in: bool = True,
        scale_out: bool = True,
        init: str | Initializer | None = None,
    ) -> None:
        self.width = count(width, "MemberLinear", "width")
        self.members = count(members, "MemberLinear", "members")
        self.scale_in = flag(scale_in, "MemberLinear", "scale_in")
        self.scale_out = flag(scale_out, "MemberLinear", "scale_out")
        self.init = None if init is None else get_initializer(init)

    def out_size(self, n_in: int) -> int:
        _check_members(self, n_in, self.members)
        return self.members * self.width

    def param_specs(self) -> tuple[ParamSpec, ...]:
        n = self.n_in // self.members
        uniform = _fan_in(n)
        specs = [ParamSpec("weight", (n, self.width), self.init or uniform, True)]
        if self.scale_in:
            specs.append(ParamSpec("scale_in", (self.n_in,), Constant(1.0), False))
        if self.scale_out:
            specs.append(ParamSpec("scale_out", (self.n_out,), Constant(1.0), False))
            specs.append(ParamSpec("bias", (self.n_out,), _Copied(uniform, self.members), False))
        else:
            specs.append(ParamSpec("bias", (self.width,), uniform, False))
        return tuple(specs)

    def _affine_of_all(self) -> Affine:
        """Return what members share."""
        params, grads = self.params, self.grads
        if self.scale_out:
            return Affine(params["weight"], None, grads["weight"], None)
        return Affine(params["weight"], params["bias"], grads["weight"], grads["bias"])

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Shared]:
        """Return the members' outputs (..., batch, K * width)."""
        self.check_input(x)
        ops, params, affine = self.ops, self.params, self._affine_of_all()
        h = x * params["scale_in"] if self.scale_in else x
        rows = ops.xp.reshape(h, (*h.shape[:-2], h.shape[-2] * self.members, h.shape[-1] // self.members))
        y = ops.linear(rows, affine.weight, affine.bias)
        y = ops.xp.reshape(y, (*y.shape[:-2], x.shape[-2], self.n_out), copy=False)
        if not self.scale_out:
            return y, Shared(x, rows, None)
        z, y = y, y * params["scale_out"]
        y += params["bias"]
        return y, Shared(x, rows, z)

    def backward(self, dy: Array, cache: Shared, *, need_dx: bool = True) -> Array | None:
        """Assign the gradients of weight, factors and biases; return ``dx`` on `need_dx`."""
        ops, grads = self.ops, self.grads
        xp, (x, rows, z) = ops.xp, cache
        if z is not None:
            grads["bias"][...] = xp.sum(dy, axis=-2, keepdims=True)
            grads["scale_out"][...] = xp.sum(dy * z, axis=-2, keepdims=True)
            dy = dy * self.params["scale_out"]
        d_rows = xp.reshape(dy, (*dy.shape[:-2], dy.shape[-2] * self.members, self.width))
        dx = ops.linear_backward(rows, d_rows, self._affine_of_all(), need_dx=need_dx or self.scale_in)
        if dx is None:
            return None
        dx = xp.reshape(dx, (*dx.shape[:-2], dy.shape[-2], self.n_in), copy=False)
        if self.scale_in:
            grads["scale_in"][...] = xp.sum(dx * x, axis=-2, keepdims=True)
            dx *= self.params["scale_in"]
        return dx if need_dx else None


class MemberHead(Layer):
    r"""Affine map of each member's features by a weight of its own, :math:`y_k = x_k W_k + b_k`.

    Backward: :math:`\bar W_k = x_k^\top \bar y_k`, :math:`\bar b_k = \sum \bar y_k` over the batch,
    :math:`\bar x_k = \bar y_k W_k^\top`.

    Parameters
    ----------
    width : int
        Outputs of each member.
    members : int
        The number `K`; the input has ``K * n`` features.
    init : str or Initializer, optional
        Of each weight; uniform within :math:`\pm 1/\sqrt n` by default.

    Raises
    ------
    ShapeError
        If the input is not divided among that many members.

    Notes
    -----
    Parameters are ``weight`` (K, n, width), decayed, and ``bias`` (K, 1, width), not decayed.  Behind it comes the loss
    `MemberMean`, which trains each member and predicts with all of them.

    Examples
    --------
    >>> from xpnn import MemberHead, MemberScale, Sequential
    >>> net = Sequential(MemberScale(4), MemberHead(3, 4), n_in=5)
    >>> net.params["1.weight"].shape, net.n_out
    ((4, 5, 3), 12)
    """

    def __init__(self, width: int, members: int, *, init: str | Initializer | None = None) -> None:
        self.width = count(width, "MemberHead", "width")
        self.members = count(members, "MemberHead", "members")
        self.init = None if init is None else get_initializer(init)

    def out_size(self, n_in: int) -> int:
        _check_members(self, n_in, self.members)
        return self.members * self.width

    def param_specs(self) -> tuple[ParamSpec, ...]:
        k, n, uniform = self.members, self.n_in // self.members, _fan_in(self.n_in // self.members)
        return (
            ParamSpec("weight", (k, n, self.width), self.init or uniform, True),
            ParamSpec("bias", (k, 1, self.width), uniform, False),
        )

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Array]:
        """Return the members' outputs (..., batch, K * width); the cache is ``x`` by member, (..., K, batch, n)."""
        self.check_input(x)
        ops = self.ops
        stack = ops.xp.moveaxis(_by_member(self, x), -2, -3)
        y = ops.linear(stack, self.params["weight"], self.params["bias"])
        return self._side_by_side(y), stack

    def backward(self, dy: Array, cache: Array, *, need_dx: bool = True) -> Array | None:
        """Assign the gradients of weights and biases; return ``dx`` (..., batch, K * n) on `need_dx`."""
        ops, params, grads = self.ops, self.params, self.grads
        by_member = ops.xp.moveaxis(_by_member(self, dy), -2, -3)
        d_stack = ops.empty(dy, by_member.shape)
        d_stack[...] = by_member
        affine = Affine(params["weight"], params["bias"], grads["weight"], grads["bias"])
        dx = ops.linear_backward(cache, d_stack, affine, need_dx=need_dx)
        return None if dx is None else self._side_by_side(dx)

    def _side_by_side(self, stack: Array) -> Array:
        """Return the members' features (..., K, batch, n) as rows (..., batch, K * n)."""
        *leading, k, batch, n = stack.shape
        rows = self.ops.empty(stack, (*leading, batch, k, n))
        rows[...] = self.ops.xp.moveaxis(stack, -3, -2)
        return self.ops.xp.reshape(rows, (*leading, batch, k * n), copy=False)


def _by_member(layer: MemberScale | MemberLinear | MemberHead, x: Array) -> Array:
    """Return rows of all members' features, (..., batch, K * n), with an axis for the members."""
    return layer.ops.xp.reshape(x, (*x.shape[:-1], layer.members, x.shape[-1] // layer.members))


def _check_members(layer: Layer, n_in: int, members: int) -> None:
    if n_in % members:
        raise ShapeError(
            f"{layer!r}: expected features that {members} members divide among them, got {n_in}. "
            f"Put MemberScale({members}) before the first such layer, and give all the same members."
        )


@dataclass(frozen=True)
class _Copied(Initializer):
    """The same draws for each member."""

    init: Initializer
    members: int

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        return np.tile(self.init.sample(rng, (shape[0] // self.members,)), self.members)


@dataclass(frozen=True)
class _ByGroup(Initializer):
    """One draw for each member and group of features."""

    init: Initializer
    members: int
    sizes: tuple[int, ...]

    def sample(self, rng: np.random.Generator, shape: Shape) -> HostArray:
        draws = self.init.sample(rng, (self.members, len(self.sizes)))
        return np.repeat(draws, self.sizes, axis=1).reshape(shape)


def _fan_in(n: int) -> Initializer:
    bound = 1.0 / math.sqrt(n)
    return Uniform(-bound, bound)
