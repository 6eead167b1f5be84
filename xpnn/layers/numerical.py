"""Learned vectors for numbers."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from .._typing import Array
from ..arguments import count, number, suggest
from ..errors import OptionError
from ..initializers import Normal, Uniform
from ..params import ParamSpec
from ..random import StepKey
from .base import Layer, multipliers

__all__ = ["NumericalEmbedding"]

_KINDS = ("pbld", "pl", "plr")


class Waves(NamedTuple):
    """What `NumericalEmbedding.backward` needs."""

    lines: Array  #: (..., n_in, 2, batch): each column of the input as a row, and a row of ones
    angle: Array  #: (..., n_in, batch, n_frequencies)
    waves: tuple[Array, ...]  #: the cosines, and where they are used the sines
    embedded: Array | None  #: after the rectifier; None without one


class NumericalEmbedding(Layer):
    r"""Turn each column of numbers into several features, by waves whose frequencies are learned [1]_, [2]_.

    Each column has its own parameters.  For a number `x`, with `H` frequencies `w`:

    .. math::
        \begin{aligned}
        \text{pbld:} \quad & y = [\cos(2\pi x w + b)\, V + d,\; x] \\
        \text{pl:}   \quad & y = [\cos(2\pi x w),\, \sin(2\pi x w)]\, V + d \\
        \text{plr:}  \quad & y = \max(0,\; [\cos(2\pi x w),\, \sin(2\pi x w)]\, V + d)
        \end{aligned}

    An input of `n_in` columns becomes ``n_in * dim`` features, those of a column side by side.  An ordinary network
    turns slowly along each column; waves let it follow a curve that rises and falls, which trees do easily.

    Parameters
    ----------
    kind : {"pbld", "pl", "plr"}, default="pbld"
        Periodic, with bias, linear, and the number itself (densely connected); periodic and linear; or that with
        a ReLU behind it.
    dim : int, default=4
        Features for each column; of ``"pbld"`` the last is the number itself.
    n_frequencies : int, default=16
        The number `H` of waves.
    sigma : float, default=0.1
        Standard deviation of the frequencies to begin with.  ``"pbld"`` works with 0.1 on scaled columns; for the
        others it is to be tuned, between 0.01 and 10.
    lr_mult, decay_mult : float, default=1.0
        Factors on the learning rate and on the weight decay of all its parameters.  RealMLP takes 0.1 for both, beside
        a large learning rate.

    Notes
    -----
    Parameters are ``frequencies`` (n_in, 1, H) and ``weight`` (n_in, H or 2 H, dim or dim - 1), decayed, and ``bias``
    and, of ``"pbld"``, ``phases`` (n_in, 1, H), not decayed.  For a table whose other columns are no numbers see
    `Columns`.

    References
    ----------
    .. [1] Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning", NeurIPS
       2022 (PL and PLR).
    .. [2] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024 (PBLD).

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn import Linear, NumericalEmbedding, Sequential
    >>> net = Sequential(NumericalEmbedding(), Linear(1), n_in=3)
    >>> net.layers[0].n_out
    12
    >>> y, _ = net.layers[0].forward(np.asarray([[0.5, -1.0, 2.0]], dtype="float32"))
    >>> y[0, 3::4].tolist()
    [0.5, -1.0, 2.0]
    """

    def __init__(
        self,
        kind: Literal["pbld", "pl", "plr"] = "pbld",
        *,
        dim: int = 4,
        n_frequencies: int = 16,
        sigma: float = 0.1,
        lr_mult: float = 1.0,
        decay_mult: float = 1.0,
    ) -> None:
        if kind not in _KINDS:
            raise OptionError(
                f"NumericalEmbedding: expected kind to be one of {', '.join(_KINDS)}, got {kind!r}. "
                f"{suggest(kind, _KINDS)}"
            )
        self.kind = kind
        self.dim = count(dim, "NumericalEmbedding", "dim")
        if kind == "pbld" and self.dim < 2:
            raise OptionError(
                "NumericalEmbedding: expected dim >= 2 for kind 'pbld', whose last feature is the number itself, "
                f"got {dim!r}. 4 is usual."
            )
        self.n_frequencies = count(n_frequencies, "NumericalEmbedding", "n_frequencies")
        if not 0 < number(sigma) < math.inf:
            raise OptionError(f"NumericalEmbedding: expected sigma > 0, got {sigma!r}. 0.1 suits scaled columns.")
        self.sigma = float(sigma)
        self.lr_mult, self.decay_mult = multipliers("NumericalEmbedding", lr_mult, decay_mult)

    def out_size(self, n_in: int) -> int:
        return n_in * self.dim

    @property
    def _n_learned(self) -> int:
        """How many features of a column are computed from its waves."""
        return self.dim - 1 if self.kind == "pbld" else self.dim

    def param_specs(self) -> tuple[ParamSpec, ...]:
        n, h, k, both = self.n_in, self.n_frequencies, self._n_learned, (self.lr_mult, self.decay_mult)
        n_waves = h if self.kind == "pbld" else 2 * h
        bound = 1 / math.sqrt(n_waves)
        specs = [
            ParamSpec("frequencies", (n, 1, h), Normal(std=self.sigma), True, *both),
            ParamSpec("weight", (n, n_waves, k), Uniform(-bound, bound), True, *both),
            ParamSpec("bias", (n, 1, k), Uniform(-bound, bound), False, *both),
        ]
        if self.kind == "pbld":
            specs.append(ParamSpec("phases", (n, 1, h), Uniform(-math.pi, math.pi), False, *both))
        return tuple(specs)

    def forward(self, x: Array, *, train: bool = False, key: StepKey | None = None) -> tuple[Array, Waves]:
        """Return the features (..., batch, n_in * dim)."""
        self.check_input(x)
        ops, params, weight = self.ops, self.params, self.params["weight"]
        xp, h, k = ops.xp, self.n_frequencies, self._n_learned
        lines = ops.empty(x, (*x.shape[:-2], self.n_in, 2, x.shape[-2]))
        lines[..., 0, :] = x.mT
        lines[..., 1, :] = 1.0
        angle = ops.product(lines[..., : 2 if self.kind == "pbld" else 1, :].mT, self._slopes())
        waves = (xp.cos(angle),) if self.kind == "pbld" else (xp.cos(angle), xp.sin(angle))
        learned = ops.product(waves[0], weight[..., :h, :])
        if len(waves) == 2:
            learned += ops.product(waves[1], weight[..., h:, :])
        learned += params["bias"]
        if self.kind == "plr":
            learned = ops.relu(learned, overwrite=True)
        y = ops.empty(x, (*learned.shape[:-3], x.shape[-2], self.n_in, self.dim))
        y[..., :k] = self._exchanged(learned)
        if self.kind == "pbld":
            y[..., k] = x
        y = xp.reshape(y, (*y.shape[:-2], self.n_out), copy=False)
        return y, Waves(lines, angle, waves, learned if self.kind == "plr" else None)

    def _exchanged(self, x: Array) -> Array:
        """View (..., n_in, batch, k) as (..., batch, n_in, k), or the other way; `moveaxis` takes NumPy longer."""
        n = len(x.shape)
        return self.ops.xp.permute_dims(x, (*range(n - 3), n - 2, n - 3, n - 1))

    def _slopes(self) -> Array:
        """Return what lines are multiplied by: the angular frequencies, and the phases below them if there are some."""
        angular = self.params["frequencies"] * (2 * math.pi)
        if self.kind != "pbld":
            return angular
        slopes = self.ops.empty(angular, (*angular.shape[:-2], 2, self.n_frequencies))
        slopes[..., :1, :] = angular
        slopes[..., 1:, :] = self.params["phases"]
        return slopes

    def backward(self, dy: Array, cache: Waves, *, need_dx: bool = True) -> Array | None:
        """Assign the gradients of the parameters; return ``dx`` (..., batch, n_in) on `need_dx`."""
        ops, grads = self.ops, self.grads
        xp, h, k = ops.xp, self.n_frequencies, self._n_learned
        dy = xp.reshape(dy, (*dy.shape[:-1], self.n_in, self.dim))
        d_learned = ops.empty(dy, (*dy.shape[:-3], self.n_in, dy.shape[-3], k))
        d_learned[...] = self._exchanged(dy[..., :k])
        if cache.embedded is not None:
            d_learned = ops.relu_backward(d_learned, cache.embedded, overwrite=True)
        grads["bias"][...] = ops.product(cache.lines[..., 1:, :], d_learned)  # sums over the batch
        for j, wave in enumerate(cache.waves):
            grads["weight"][..., j * h : (j + 1) * h, :] = ops.product(wave.mT, d_learned)
        d_angle = self._angle_backward(d_learned, cache)
        d_slopes = ops.product(cache.lines, d_angle)
        grads["frequencies"][...] = d_slopes[..., :1, :] * (2 * math.pi)
        if self.kind == "pbld":
            grads["phases"][...] = d_slopes[..., 1:, :]
        if not need_dx:
            return None
        dx = ops.empty(dy, dy.shape[:-1])
        dx[...] = ops.product(d_angle, self._slopes()[..., :1, :].mT)[..., 0].mT
        if self.kind == "pbld":
            dx += dy[..., k]
        return dx

    def _angle_backward(self, d_learned: Array, cache: Waves) -> Array:
        """Return the gradient to the angles: cos' = -sin, and sin' = cos."""
        ops, h, waves = self.ops, self.n_frequencies, cache.waves
        weight = self.params["weight"]
        d_angle = ops.product(d_learned, (weight[..., :h, :] * -1.0).mT)
        d_angle *= waves[1] if len(waves) == 2 else ops.xp.sin(cache.angle)
        if len(waves) == 2:
            d_sine = ops.product(d_learned, weight[..., h:, :].mT)
            d_sine *= waves[0]
            d_angle += d_sine
        return d_angle
