"""What `Trainer` asks of its parts, of sample weights and of class weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from ..arguments import number
from ..backend import to_numpy
from ..errors import DataError, LabelError, OptionError, ShapeError
from .callbacks import Callback
from .feed import Feed

__all__ = ["check_weight", "class_numbers", "class_table", "expect", "weighed", "weighty"]


def expect(value: Any, kind: type, name: str, what: str) -> None:
    """Raise OptionError unless `value` is an object of class `kind`."""
    if not isinstance(value, kind):
        if isinstance(value, type):
            got, hint = f"the class {value.__name__}", f"Write {value.__name__}(...)."
        else:
            shown = repr(value)
            got = shown if len(shown) <= 60 and shown[0] != "<" else f"{type(value).__name__} object"
            hint = "Put it in brackets, [...]." if isinstance(value, Callback) else "Pass such an object."
        raise OptionError(f"Trainer: expected {name} to be {what}, got {got}. {hint}")


def check_weight(where: str, weight: Any, n: int) -> np.ndarray | None:
    """Return sample weights (n,) on the host, if there are any; refuse what cannot weigh."""
    if weight is None:
        return None
    host = np.asarray(to_numpy(weight), dtype=np.float64)
    if host.shape != (n,):
        raise ShapeError(f"{where}: expected sample_weight of shape ({n},), got {host.shape}. One weight a row.")
    if not np.isfinite(host).all() or (host < 0).any() or not host.sum() > 0:
        raise DataError(
            f"{where}: expected sample weights that are finite, at least 0 and not all 0, got {host.min():g} to "
            f"{host.max():g}. Give a row that shall not count weight 0."
        )
    return host


def class_numbers(y: np.ndarray) -> np.ndarray | None:
    """Return the class number of each row, where `y` is one column of whole numbers; else None."""
    column = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if column.ndim != 1 or (column != np.floor(column)).any():
        return None
    return column.astype(np.int64)


def class_table(
    class_weight: Mapping[int, float] | Literal["balanced"], labels: np.ndarray | None, n_out: int
) -> np.ndarray:
    """Return the weight of each class; of classes not named, 1."""
    n_classes = max(n_out, 2)
    if labels is None or labels.min() < 0 or labels.max() >= n_classes:
        raise LabelError(
            f"fit: class_weight expects a loss over classes and one class number, 0..{n_classes - 1}, for each row. "
            "Use sample_weight instead."
        )
    if not isinstance(class_weight, Mapping):
        if class_weight != "balanced":
            raise OptionError(
                f"fit: expected class_weight to be a dict, 'balanced' or None, got {class_weight!r}. "
                "Try {0: 1.0, 1: 5.0}."
            )
        counts = np.bincount(labels, minlength=n_classes)
        present = max(int((counts > 0).sum()), 1)
        return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0)
    table = np.ones(n_classes)
    for label, value in class_weight.items():
        if label not in range(n_classes) or not 0 <= number(value) < np.inf:
            raise OptionError(
                f"fit: expected class_weight for classes 0..{n_classes - 1} with finite weights >= 0, "
                f"got {label!r}: {value!r}. Classes not named have weight 1."
            )
        table[label] = value
    return table


def weighed(weight: np.ndarray | None, table: np.ndarray | None, y: np.ndarray) -> np.ndarray | None:
    """Return the rows' weights times those of their classes; None where all count alike."""
    if table is None:
        return weight
    by_class: np.ndarray = table[np.ravel(y).astype(np.int64)]
    return by_class if weight is None else weight * by_class


def weighty(feed: Feed, which: str = "") -> Feed:
    """Return the feed, if there is a row in it that counts."""
    if feed.weight is not None and not feed.batch_weights(None, len(feed))[0] > 0:
        raise DataError(
            f"fit: expected a {which}row of weight above 0, got {len(feed)} rows of weight 0. "
            "Look at sample_weight and class_weight."
        )
    return feed
