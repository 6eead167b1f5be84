"""What recorded steps have fixed, looked at before each epoch: a callback may change any of it between epochs."""

from __future__ import annotations

from typing import Any

from ...arguments import constructor
from ...initializers import Initializer
from ...layers.base import Layer, walk
from ...recordable import is_own
from ..step import Training

__all__ = ["Guard"]

_PLAIN = (str, int, float, bool, type(None))


class Guard:
    """The options of all parts of a step, and the places of its arrays, at one moment.

    Two guards are equal if what was recorded under one may be repeated under the other.  `kind` is whatever else a
    recording depends on; it is compared by ``==``.
    """

    def __init__(self, training: Training, kind: Any = None) -> None:
        store, optimizer = training.net.store, training.optimizer
        self._arrays = [store.values, store.grads, store.buffers, store.lr_factors, store.decay_factors]
        self._arrays += optimizer.state.values()
        parts = [*walk(training.net.layers), training.bound_loss, training.regularizer, *training.metrics]
        self._options = [kind, training.net.code, training.clip_norm, training.clip_value, type(optimizer)]
        self._options += [
            (name, _value(value))
            for name, value in vars(optimizer).items()
            if isinstance(value, (*_PLAIN, list, tuple)) and name not in ("lr", "t") and name[0] != "_"
        ]  # lr and t show in the step table
        self._options += [(type(part), _options(part)) for part in parts]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Guard) or len(self._arrays) != len(other._arrays):
            return False
        same = all(a is b for a, b in zip(self._arrays, other._arrays, strict=True))
        return same and self._options == other._options

    __hash__ = None  # type: ignore[assignment]


def _options(part: Any) -> Any:
    """The constructor's arguments of xpnn's own parts; of others, what their `repr` shows."""
    kind: Any = type(part)
    return [_value(getattr(part, name, None)) for name in constructor(kind)] if is_own(kind.__module__) else repr(part)


def _value(value: Any) -> Any:
    """Return a copy that stays as it is now."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return kind, tuple(map(_value, value))
    # Layers within a layer are looked at by themselves, and initial values are no part of a step.
    return kind if isinstance(value, Layer | Initializer) else repr(value)
