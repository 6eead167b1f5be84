"""A fit that goes on from the one before: what arguments that were changed in between do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arguments import constructor
from ..errors import OptionError
from ..layers import BatchNorm, Layer, LayerNorm, Linear, RMSNorm
from ..layers.base import walk
from ..model import Sequential
from ._arguments import Arguments

__all__ = ["FIXED", "OBJECTIVE", "REBUILT", "carry_over", "changed", "options_of", "refuse"]

#: The weights were made for these.
FIXED = ("norm", "residual", "init", "standardize", "n_ensemble", "backend", "dtype", "categorical_features")
#: With another one the same weights stand in a new network.
REBUILT = ("activation", "dropout")
#: With another one, losses and scores are no longer those that were followed.
OBJECTIVE = (*REBUILT, "alpha", "class_weight", "early_stopping", "label_smoothing", "loss")


def options_of(estimator: Arguments) -> dict[str, Any]:
    """Return the arguments in a form that stays as it is, to be compared with later ones."""
    return {name: _as_is(getattr(estimator, name)) for name in constructor(type(estimator))}


def _as_is(value: Any) -> Any:
    """Return text for what may change or has no equality; an address in it would not outlive a pickle."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_as_is(v) for v in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    text = repr(value)
    return type(value).__qualname__ if " at 0x" in text else text


def changed(estimator: Arguments, before: dict[str, Any]) -> set[str]:
    """Return the names of the arguments that are not as they were `before`, by `options_of`."""
    now = options_of(estimator)
    return {name for name, value in before.items() if now.get(name, value) != value}


def refuse(estimator: Arguments, name: str, old: Any, new: Any) -> OptionError:
    """Return the error of an argument that the weights depend on."""
    return OptionError(
        f"{type(estimator).__name__}: expected {name}={old!r} as in the fit that this one goes on from, got {new!r}: "
        "the weights were made for it. Set warm_start=False and call fit to begin anew."
    )


def carry_over(old: Sequential, new: Sequential) -> bool:
    """Copy parameters and running moments of the layers that both networks have; return whether that is all.

    The activations may differ, and some of them have parameters.
    """
    for source, target in zip(_lasting(old), _lasting(new), strict=True):
        for name in ("params", "buffers"):
            with new.backend.active():
                for key, view in getattr(target, name).items():
                    view[...] = getattr(source, name)[key]
    shapes = ([spec.shape for spec in net.store.specs.values()] for net in (old, new))
    return next(shapes) == next(shapes)


def _lasting(net: Sequential) -> Iterator[Layer]:
    """Yield the layers whose parameters any activation can follow."""
    return (layer for layer in walk(net.layers) if isinstance(layer, Linear | BatchNorm | LayerNorm | RMSNorm))
