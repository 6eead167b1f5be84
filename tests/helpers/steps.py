"""One table of training steps: every layer, loss, rule and option, and which of them can be recorded.

`tests/training/recorded/test_every_case.py` walks through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cases
import numpy as np

import xpnn
from xpnn import Linear

N, N_IN, BATCH = 90, cases.N_IN, 8  # 12 steps, the last of 2 rows
WEIGHT = np.linspace(0.0, 2.0, N)


def data(n_out=3, n=N, n_in=N_IN):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, n_in)).astype(np.float32), rng.integers(0, n_out, n)


@dataclass(frozen=True)
class StepCase:
    """A trainer, its data, and whether its steps can be recorded as a CUDA graph and as a trace."""

    name: str
    make: Callable[[Any], xpnn.Trainer]
    y: np.ndarray = field(default_factory=lambda: data()[1])
    x: np.ndarray = field(default_factory=lambda: data()[0])
    fit: Mapping[str, Any] = field(default_factory=dict)
    graph: bool = True
    trace: bool = True

    def __str__(self) -> str:
        return self.name

    def train(self, backend, **options) -> xpnn.Trainer:
        """Return a trainer after some epochs."""
        trainer = self.make(backend)
        trainer.fit(self.x, self.y, **{"epochs": 3, "batch_size": BATCH, **self.fit, **options})
        return trainer


def outcome(trainer):
    """Everything that training leaves."""
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history.rows]
    store = trainer.net.store
    arrays = [store.values, store.grads, store.buffers, *trainer.optimizer.state.values()]
    counts = trainer.step, trainer.optimizer.t, trainer.epoch
    left = [None if a is None else xpnn.to_numpy(a).tobytes() for a in (trainer.penalty, trainer.grad_norm)]
    return repr(rows), [np.array(xpnn.to_numpy(a)).tobytes() for a in arrays], counts, left


# -- layers and losses: the tables that all tests share ----------------------------------------------------------
def layer_case(case: cases.LayerCase) -> StepCase:
    def make(backend):
        net = xpnn.Sequential(case.make(), Linear(3), n_in=case.n_in, backend=backend, seed=3)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.01))

    return StepCase(str(case), make, x=case.x(N))


def loss_case(case: cases.LossCase, weighted: bool) -> StepCase:
    def make(backend):
        net = xpnn.Sequential(Linear(5), xpnn.Tanh(), Linear(case.n_out), n_in=N_IN, backend=backend, seed=3)
        return xpnn.Trainer(net, case.loss, xpnn.Adam(0.01))

    name = f"{case}, weighted" if weighted else str(case)
    plain = not isinstance(case.loss, xpnn.losses.Pinball)  # which brings its quantiles to the device in each step
    fit = {"sample_weight": WEIGHT} if weighted else {}
    return StepCase(name, make, case.y(N), fit=fit, graph=plain, trace=plain)


# -- rules -------------------------------------------------------------------------------------------------------
OPTIMIZERS = {
    "sgd": lambda: xpnn.SGD(0.1),
    "decayed": lambda: xpnn.SGD(0.1, 0.9, weight_decay=0.1),
    "nesterov": lambda: xpnn.SGD(0.1, 0.9, nesterov=True),
    "momentum": lambda: xpnn.Momentum(0.1),
    "rmsprop": lambda: xpnn.RMSProp(0.01),
    "adagrad": lambda: xpnn.AdaGrad(0.1),
    "adam": lambda: xpnn.Adam(0.01, weight_decay=0.01),
    "adamw": lambda: xpnn.AdamW(0.01, weight_decay=0.1),
    "nadam": lambda: xpnn.NAdam(0.01),
    "lion": lambda: xpnn.Lion(0.01, weight_decay=0.1),
    "muon": lambda: xpnn.Muon(0.02, weight_decay=0.1),
}


def rule_case(name: str, factors: bool, clipped: bool) -> StepCase:
    own = {"lr_mult": 0.5, "decay_mult": 3.0} if factors else {}

    def make(backend):
        net = xpnn.Sequential(Linear(7, **own), xpnn.Tanh(), Linear(3), n_in=N_IN, backend=backend)
        options = {"schedule": xpnn.CosineDecay(), "clip_norm": 0.1 if clipped else None}
        return xpnn.Trainer(net, xpnn.CrossEntropy(), OPTIMIZERS[name](), **options)

    words = [name, *["factors"] * factors, *["clipped"] * clipped]
    return StepCase(", ".join(words), make, trace=name != "muon")  # Muon's products run over what they read


# -- options -----------------------------------------------------------------------------------------------------
def mlp(backend, **options):
    return xpnn.mlp([N_IN, 7, 5, 3], backend=backend, **{"seed": 1, **options})


class WithStrengths(xpnn.Trainer):
    """Its penalty is of another strength in each step."""

    def penalty_strengths(self, weights):
        return [0.01 / weight for weight in weights.tolist()]


class Numbered(xpnn.Trainer):
    """Its rows carry numbers that pick their masks."""

    def row_numbers(self, order):
        backend = self.net.backend
        return backend.asarray(np.arange(N) * 7 if order is None else order * 7, dtype=backend.xp.int32)


def own_rates(rule):
    return lambda: rule([0.01, 0.02, 0.03], weight_decay=[0.0, 0.1, 0.2])


def own_dropout(backend):
    layers = Linear(4), xpnn.Tanh(), xpnn.Dropout([0.1, 0.2]), Linear(3)
    return xpnn.Sequential(*layers, n_in=N_IN, backend=backend, replicas=2)


THREE = {"seed": [1, 2, 3]}
FADING = xpnn.FlatCosine(flat=0.25)
TARGETS = np.random.default_rng(5).normal(size=(N, 3))
REGRESSION = {"loss": xpnn.MeanSquaredError(), "metrics": ("mse", "rmse", "mae")}
R2 = {"loss": xpnn.MeanSquaredError(), "metrics": ("r2",)}

#: The network's options, the trainer's, those of `fit`, and what a recording lacks.
OPTIONS: dict[str, tuple[dict, dict, dict, dict]] = {
    "relu": ({}, {}, {}, {}),
    "dropout": ({"dropout": 0.3}, {}, {}, {}),
    "batch norm": ({"norm": "batch"}, {}, {}, {}),
    "layer norm": ({"norm": "layer", "activation": "gelu"}, {}, {}, {}),
    "residual": ({"residual": True, "dropout": 0.2, "norm": "rms"}, {}, {}, {}),
    "replicas": ({**THREE, "dropout": 0.3}, {}, {}, {}),
    "replicas, clipped": ({**THREE, "dropout": 0.3}, {"clip_norm": 0.1}, {}, {}),
    "replicas, layer norm": ({**THREE, "norm": "layer", "activation": "tanh"}, {}, {}, {}),
    "replicas, batch norm": ({**THREE, "norm": "batch", "activation": "gelu"}, {}, {}, {}),
    "replicas, AdamW's own rates": (THREE, {"rule": own_rates(xpnn.AdamW)}, {}, {}),
    "replicas, SGD's own rates": (THREE, {"rule": own_rates(xpnn.SGD)}, {}, {}),
    "replicas, own dropout": ({"net": own_dropout}, {}, {}, {}),
    "dropout that fades": ({"dropout": [0.3, 0.1]}, {"dropout_schedule": FADING}, {}, {}),
    "dropout that ends": ({"dropout": 0.3}, {"dropout_schedule": xpnn.CosineDecay(total=2)}, {}, {}),
    "replicas, dropout that fades": ({**THREE, "dropout": 0.3}, {"dropout_schedule": FADING}, {}, {}),
    "replicas, own dropout that fades": ({"net": own_dropout}, {"dropout_schedule": FADING}, {}, {}),
    "decay that fades": ({}, {"weight_decay_schedule": FADING, "schedule": xpnn.CosineLog()}, {}, {}),
    "coupled decay that fades": (
        {},
        {"weight_decay_schedule": FADING, "rule": lambda: xpnn.SGD(0.1, 0.9, weight_decay=0.1)},
        {},
        {},
    ),
    "replicas, decay that fades": (THREE, {"rule": own_rates(xpnn.AdamW), "weight_decay_schedule": FADING}, {}, {}),
    "rows' own masks that fade": (
        {"dropout": 0.3},
        {"kind": Numbered, "dropout_schedule": FADING},
        {},
        {"trace": False},
    ),
    "one replica": ({"seed": [1]}, {"regularizer": lambda: xpnn.L2(0.01)}, {}, {}),
    "clipped": ({}, {"clip_norm": 0.1, "clip_value": 0.05}, {}, {}),
    "penalty": ({}, {"regularizer": lambda: xpnn.L2(0.01)}, {}, {}),
    "l1": ({}, {"regularizer": lambda: xpnn.L1(0.01)}, {}, {}),
    "strengths": ({}, {"kind": WithStrengths, "regularizer": lambda: xpnn.L2(0.0)}, {"sample_weight": WEIGHT}, {}),
    "l1, strengths": ({}, {"kind": WithStrengths, "regularizer": lambda: xpnn.L1(0.5)}, {}, {}),
    "replicas, strengths": (THREE, {"kind": WithStrengths, "regularizer": lambda: xpnn.L2(0.0)}, {}, {}),
    "singular values": (
        {},
        {"regularizer": lambda: xpnn.regularizers.SpectralNorm(0.1)},
        {},
        {"graph": False, "trace": False},
    ),
    "weights": ({"dropout": 0.3}, {}, {"sample_weight": WEIGHT}, {}),
    "weights, batch norm": ({"norm": "batch"}, {}, {"sample_weight": WEIGHT}, {"graph": False, "trace": False}),
    "classes": ({}, {}, {"class_weight": "balanced"}, {}),
    "top 2": ({}, {"metrics": ("accuracy", xpnn.metrics.TopK(2))}, {}, {"trace": False}),
    "no metrics": ({}, {"metrics": ()}, {}, {}),
    "metrics of regression": ({}, REGRESSION, {}, {}),
    "metrics of regression, weighted": ({}, REGRESSION, {"sample_weight": WEIGHT}, {}),
    "r2": ({}, R2, {}, {"trace": False}),
    "r2, weighted": ({}, R2, {"sample_weight": WEIGHT}, {"trace": False}),
    "validation": ({"norm": "batch"}, {}, {"validation_fraction": 0.1}, {}),
    "in order": ({}, {}, {"shuffle": False}, {}),
    "warmup": ({}, {"schedule": xpnn.Warmup(xpnn.CosineDecay(), 0.2)}, {}, {}),
    "a whole last batch": ({}, {}, {"batch_size": 9}, {}),
    "float64": ({"dtype": "float64"}, {}, {}, {}),
    "float16": ({"dtype": "float16"}, {}, {}, {"trace": False}),
    "rows' own masks": ({"dropout": 0.3}, {"kind": Numbered}, {}, {"trace": False}),
    "replicas, rows' own masks": ({**THREE, "dropout": 0.3}, {"kind": Numbered}, {}, {"trace": False}),
    "EMA": ({}, {"callbacks": lambda: [xpnn.EMA(0.9)]}, {}, {"graph": False}),
}


def option_case(name: str) -> StepCase:
    network, given, fit, lacking = OPTIONS[name]

    def make(backend):
        options = {key: value() if key in ("regularizer", "callbacks") else value for key, value in given.items()}
        kind, rule = options.pop("kind", xpnn.Trainer), options.pop("rule", lambda: xpnn.AdamW(0.01))
        own = network.get("net")
        net = mlp(backend, **network) if own is None else own(backend)
        return kind(net, options.pop("loss", xpnn.CrossEntropy()), rule(), **options)

    return StepCase(name, make, TARGETS if "loss" in given else data()[1], fit=fit, **lacking)


CASES = [
    *map(layer_case, cases.LAYERS),
    *(loss_case(case, weighted) for weighted in (False, True) for case in cases.LOSSES),
    *(
        rule_case(name, factors, clipped)
        for name in OPTIMIZERS
        for factors in (False, True)
        for clipped in (False, True)
    ),
    *map(option_case, OPTIONS),
]
