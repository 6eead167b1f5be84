"""The parts of a fit that a recipe names: network, loss, optimizer and schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..arguments import constructor, suggest
from ..backend import Backend
from ..errors import OptionError
from ..layers import (
    BatchNorm,
    Columns,
    Dropout,
    Layer,
    LayerNorm,
    Linear,
    NumericalEmbedding,
    ParametricActivation,
    Residual,
    RMSNorm,
    Scale,
    get_activation,
)
from ..losses import CrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ..model import Sequential
from ..optim import Optimizer
from ..schedules import (
    Constant,
    CosineDecay,
    CosineLog,
    ExponentialDecay,
    FlatCosine,
    InverseTimeDecay,
    OneCycle,
    Plateau,
    Schedule,
    StepDecay,
    WarmRestarts,
    Warmup,
)
from ..search.configuration import OPTIMIZERS
from ..training import EMA, Callback, Trainer
from .recipe import Recipe

__all__ = ["LOSSES", "SCHEDULES", "make_layers", "make_loss", "make_network", "make_trainer"]

SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "inverse": InverseTimeDecay,
    "cosine": CosineDecay,
    "flatcosine": FlatCosine,
    "coslog4": CosineLog,
    "restarts": WarmRestarts,
    "onecycle": OneCycle,
    "plateau": Plateau,
}
LOSSES: dict[str, type[Loss]] = {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "huber": Huber}
_NORMS: dict[str, type[Layer]] = {"batch": BatchNorm, "layer": LayerNorm, "rms": RMSNorm}
_RISING = ("onecycle", "coslog4")  # begin with a rise of their own
# RealMLP's factors on the learning rate.
_SCALE, _WAVES, _SHARES, _BIAS = 6.0, 0.1, 0.1, 0.1


def make_layers(recipe: Recipe, n_in: int, n_out: int, *, n_values: int = 0) -> list[Layer]:
    """Return new layers for rows of `n_in` columns, of which the first `n_values` are scaled numbers."""
    layers: list[Layer] = []
    width = n_in
    if recipe.embedding != "none" and n_values:
        waves = NumericalEmbedding(recipe.embedding, sigma=recipe.sigma, lr_mult=_WAVES, decay_mult=_WAVES)
        width += waves.out_size(n_values) - n_values
        layers.append(waves if n_values == n_in else Columns((n_values, waves)))
    if recipe.scale:
        layers.append(Scale(lr_mult=_SCALE))
    for n in recipe.hidden:
        block: list[Layer] = [_linear(recipe, width, n)]
        if recipe.norm is not None:
            block.append(_NORMS[recipe.norm]())
        activation = get_activation(recipe.activation)
        block.append(ParametricActivation(activation, lr_mult=_SHARES) if recipe.parametric else activation)
        if recipe.dropout:
            block.append(Dropout(recipe.dropout))
        layers += [Residual(*block)] if recipe.residual and n == width else block
        width = n
    return [*layers, _linear(recipe, width, n_out)]


def _linear(recipe: Recipe, n_in: int, n_out: int) -> Linear:
    if not recipe.lr_by_width:
        return Linear(n_out, init=recipe.init)
    # Decay goes by the learning rate itself, whatever the layer makes of it.
    factor = 1.0 / math.sqrt(n_in)
    return Linear(n_out, init=recipe.init, lr_mult=factor, decay_mult=1.0 / factor, bias_lr_mult=_BIAS)


def make_network(
    recipe: Recipe,
    n_in: int,
    n_out: int,
    *,
    n_values: int = 0,
    seed: int = 0,
    backend: str | Backend = "numpy",
    dtype: str | None = None,
) -> Sequential:
    """Return the network that a recipe asks for, with weights drawn by `seed`."""
    layers = make_layers(recipe, n_in, n_out, n_values=n_values)
    return Sequential(*layers, n_in=n_in, backend=backend, dtype=dtype, seed=seed)


def make_loss(recipe: Recipe) -> Loss:
    """Return the loss that a recipe asks for."""
    classes = recipe.task == "classification"
    if recipe.loss == "cross_entropy" or (recipe.loss == "auto" and classes):
        return CrossEntropy(label_smoothing=recipe.label_smoothing)
    return LOSSES["mse" if recipe.loss == "auto" else recipe.loss]()


def _optimizer(recipe: Recipe) -> Optimizer:
    rule: type[Optimizer] = _named(OPTIMIZERS, recipe.optimizer, "optimizer")
    beta2 = {"beta2": recipe.beta2} if "beta2" in constructor(rule) else {}
    return rule(recipe.lr, weight_decay=recipe.weight_decay, **beta2)


def _schedule(recipe: Recipe) -> Schedule:
    schedule = _named(SCHEDULES, recipe.schedule, "schedule")()
    rise = 0.0 if recipe.schedule in _RISING else recipe.warmup * recipe.epochs
    return Warmup(schedule, duration=rise) if rise else schedule


def _factor(name: str, what: str) -> Schedule | None:
    made: Schedule = _named(SCHEDULES, name, what)()
    return None if made == Constant() else made


def _named(known: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise OptionError(
            f"Recipe: expected {what} to be one of {', '.join(known)}, got {name!r}. {suggest(name, known)}"
        )
    return known[name]


def make_trainer(recipe: Recipe, net: Sequential, *, callbacks: Sequence[Callback] = (), seed: int = 0) -> Trainer:
    """Return the trainer that a recipe asks for; it keeps an average of the weights in front of `callbacks`."""
    loss = make_loss(recipe)
    return Trainer(
        net,
        loss,
        _optimizer(recipe),
        schedule=_schedule(recipe),
        dropout_schedule=_factor(recipe.dropout_schedule, "dropout_schedule"),
        weight_decay_schedule=_factor(recipe.weight_decay_schedule, "weight_decay_schedule"),
        clip_norm=recipe.clip_norm,
        clip_value=recipe.clip_value,
        metrics=("accuracy",) if loss.classifies else ("rmse",),
        callbacks=[*([EMA(recipe.ema)] if recipe.ema else []), *callbacks],
        seed=seed,
    )
