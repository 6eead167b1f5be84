"""The tables that several test files walk through: every layer and every loss, with their options."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import xpnn
from xpnn import initializers, layers, losses
from xpnn.layers import (
    ELU,
    GELU,
    SELU,
    BatchNorm,
    Columns,
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    MemberHead,
    MemberLinear,
    MemberScale,
    Mish,
    NumericalEmbedding,
    ParametricActivation,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
)

BATCH, N_IN, N_CATEGORIES = 5, 6, 7


@dataclass(frozen=True)
class LayerCase:
    """One layer with its options, and what kind of function it is."""

    make: Callable[[], layers.Layer]
    n_out: int = N_IN
    by_row: bool = True  # in training, row i of the output depends on row i of the input alone
    kinked: bool = False  # the derivative jumps at 0
    n_in: int = N_IN
    codes: int = 0  # so many of the last columns hold category numbers, as floats

    @property
    def integers(self) -> bool:
        return self.make().takes_integers

    @property
    def takes_any_number(self) -> bool:
        return not (self.integers or self.codes)

    def __str__(self) -> str:
        return repr(self.make())

    def net(self, backend="numpy", **options) -> xpnn.Sequential:
        return xpnn.Sequential(self.make(), n_in=self.n_in, backend=backend, **{"seed": 3, **options})

    def x(self, batch: int = BATCH, *leading: int, seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        shape = (*leading, batch, self.n_in)
        if self.integers:
            return rng.integers(0, N_CATEGORIES, shape)
        x = rng.normal(size=shape)
        if self.codes:
            x[..., -self.codes :] = rng.integers(0, N_CATEGORIES, (*shape[:-1], self.codes))
        return x

    def dy(self, batch: int = BATCH, *leading: int, seed: int = 1) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(*leading, batch, self.n_out))


LAYERS = [
    LayerCase(lambda: Linear(4), n_out=4),
    LayerCase(lambda: Linear(4, bias=False), n_out=4),
    LayerCase(lambda: Linear(8, init="orthogonal", bias_init=initializers.Normal(0.1), lr_mult=0.5), n_out=8),
    LayerCase(lambda: Linear(3, init=initializers.HeNormal(slope=0.2), decay_mult=0.0), n_out=3),
    LayerCase(Identity),
    LayerCase(ReLU, kinked=True),
    LayerCase(LeakyReLU, kinked=True),
    LayerCase(lambda: LeakyReLU(0.3), kinked=True),
    LayerCase(PReLU, kinked=True),
    LayerCase(lambda: PReLU(0.1, per_unit=True), kinked=True),
    LayerCase(ELU),
    LayerCase(lambda: ELU(0.5), kinked=True),
    LayerCase(SELU, kinked=True),
    LayerCase(GELU),
    LayerCase(lambda: GELU(approximate="tanh")),
    LayerCase(SiLU),
    LayerCase(Mish),
    LayerCase(Softplus),
    LayerCase(Sigmoid),
    LayerCase(Tanh),
    LayerCase(Softmax),
    LayerCase(lambda: Softmax(0.5)),
    LayerCase(Step, kinked=True),
    LayerCase(lambda: Dropout(0.0)),
    LayerCase(lambda: Dropout(0.3), by_row=False),
    LayerCase(lambda: Dropout(0.9), by_row=False),
    LayerCase(BatchNorm, by_row=False),
    LayerCase(lambda: BatchNorm(eps=1e-3, momentum=0.3), by_row=False),
    LayerCase(LayerNorm),
    LayerCase(lambda: LayerNorm(eps=1e-2)),
    LayerCase(RMSNorm),
    LayerCase(lambda: RMSNorm(eps=1e-2)),
    LayerCase(lambda: Residual(Linear(N_IN), Tanh())),
    LayerCase(lambda: Residual(BatchNorm(), ReLU(), Dropout(0.4), Linear(N_IN)), by_row=False, kinked=True),
    LayerCase(lambda: Residual(Residual(Linear(9), PReLU(), Linear(N_IN)), LayerNorm()), kinked=True),
    LayerCase(lambda: Embedding(N_CATEGORIES, 2), n_in=3),
    LayerCase(lambda: Embedding(N_CATEGORIES, 1, init="xavier_uniform"), n_in=6),
    LayerCase(Scale),
    LayerCase(lambda: Scale(0.5, lr_mult=2.0, decay_mult=0.0)),
    LayerCase(lambda: ParametricActivation("mish")),
    LayerCase(lambda: ParametricActivation("relu", init=0.5, lr_mult=1.0), kinked=True),
    LayerCase(lambda: ParametricActivation(LeakyReLU(0.3), init=-0.2, decay_mult=0.1), kinked=True),
    LayerCase(NumericalEmbedding, n_out=4 * N_IN),
    LayerCase(lambda: NumericalEmbedding("pl", dim=3, n_frequencies=5, sigma=0.4, lr_mult=0.1), n_out=3 * N_IN),
    LayerCase(lambda: NumericalEmbedding("plr", dim=1, n_frequencies=4, decay_mult=0.0), n_out=N_IN, kinked=True),
    LayerCase(lambda: MemberScale(3), n_out=3 * N_IN),
    LayerCase(lambda: MemberScale(2, init="normal", groups=[1, 3, 2]), n_out=2 * N_IN),
    LayerCase(lambda: MemberLinear(4, 3), n_out=12),
    LayerCase(lambda: MemberLinear(4, 2, scale_in=False), n_out=8),
    LayerCase(lambda: MemberLinear(2, 3, scale_in=False, scale_out=False, init="he_normal"), n_out=6),
    LayerCase(lambda: MemberLinear(5, 1, scale_out=False), n_out=5),
    LayerCase(lambda: MemberHead(2, 3), n_out=6),
    LayerCase(lambda: MemberHead(1, 2, init=initializers.Normal(std=0.5)), n_out=2),
    LayerCase(lambda: Columns((2, NumericalEmbedding()), (1, BatchNorm()), (1, Scale())), n_out=12, by_row=False),
    LayerCase(
        lambda: Columns((4, Linear(3)), (1, Embedding(N_CATEGORIES, 2)), (1, Embedding(9, 5))), n_out=10, codes=2
    ),
]


@dataclass(frozen=True)
class LossCase:
    """One loss with its options, and targets that suit it."""

    loss: losses.Loss
    n_out: int
    targets: Callable[[np.random.Generator, int], np.ndarray]
    kind: str = ""

    def __str__(self) -> str:
        return f"{self.loss!r}{self.kind}"

    def y(self, batch: int = BATCH, seed: int = 2) -> np.ndarray:
        return self.targets(np.random.default_rng(seed), batch)

    def on(self, backend, y: np.ndarray):
        """Bring targets to a backend: labels as integers, everything else floating."""
        labels = self.loss.takes_labels and y.ndim == 1
        return backend.asarray(y, dtype=backend.index_dtype if labels else None)


def reals(n):
    return lambda rng, batch: rng.normal(size=(batch, n))


def labels(n):
    return lambda rng, batch: rng.integers(0, n, batch)


def soft(n):
    return lambda rng, batch: rng.dirichlet(np.ones(n), batch)


def shares(n):
    return lambda rng, batch: rng.random((batch, n))


def bits(n):
    return lambda rng, batch: rng.integers(0, 2, (batch, n)).astype(float)


def signs(n):
    return lambda rng, batch: rng.choice([-1.0, 1.0], (batch, n))


def counts(n):
    return lambda rng, batch: rng.poisson(2.0, (batch, n)).astype(float)


LOSSES = [
    LossCase(losses.MeanSquaredError(), 1, reals(1)),
    LossCase(losses.MeanSquaredError(), 3, reals(3), " of 3"),
    LossCase(losses.MeanAbsoluteError(), 2, reals(2)),
    LossCase(losses.Huber(), 2, reals(2)),
    LossCase(losses.Huber(0.3), 2, reals(2)),
    LossCase(losses.Pinball(), 3, reals(1)),
    LossCase(losses.Pinball((0.25, 0.9)), 4, reals(2), " of 2 targets"),
    LossCase(losses.PoissonNLL(), 2, counts(2)),
    LossCase(losses.BinaryCrossEntropy(), 1, bits(1)),
    LossCase(losses.BinaryCrossEntropy(), 2, shares(2), " soft"),
    LossCase(losses.BinaryCrossEntropy(multilabel=True), 3, bits(3)),
    LossCase(losses.CrossEntropy(), 2, labels(2), " of 2"),
    LossCase(losses.CrossEntropy(), 4, labels(4)),
    LossCase(losses.CrossEntropy(), 4, soft(4), " soft"),
    LossCase(losses.CrossEntropy(label_smoothing=0.1), 4, labels(4)),
    LossCase(losses.CrossEntropy(label_smoothing=0.3), 4, soft(4), " soft"),
    LossCase(losses.Focal(), 4, labels(4)),
    LossCase(losses.Focal(0), 4, labels(4)),
    LossCase(losses.Focal(1), 4, labels(4)),
    LossCase(losses.Focal(3.5), 4, labels(4)),
    LossCase(losses.Hinge(), 2, signs(2)),
    LossCase(losses.Hinge(0.5), 1, signs(1)),
    LossCase(losses.Hinge(), 4, labels(4), " of classes"),
    LossCase(losses.Hinge(2.0), 4, labels(4), " of classes"),
    LossCase(losses.MemberMean(losses.CrossEntropy(), 3), 12, labels(4)),
    LossCase(losses.MemberMean(losses.CrossEntropy(label_smoothing=0.1), 2), 8, soft(4), " soft"),
    LossCase(losses.MemberMean(losses.MeanSquaredError(), 4), 4, reals(1)),
    LossCase(losses.MemberMean(losses.BinaryCrossEntropy(), 3), 6, bits(2)),
]


def relative_error(a, n) -> float:
    """|a - n| / (|a| + |n|) of two arrays as vectors; 0 where both are 0."""
    a, n = (np.asarray(v, dtype=np.float64).ravel() for v in (a, n))
    size = math.hypot(*a) + math.hypot(*n)
    return math.dist(a, n) / size if size else 0.0
