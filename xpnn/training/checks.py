"""What `Trainer` expects of its parts and of its data; checked data become feeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from inspect import Parameter
from types import UnionType
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

import numpy as np

from .._typing import Array
from ..arguments import as_real, as_rows, class_for, constructor, number, same_length
from ..backend import namespace, to_numpy
from ..data.batching import split_off, stratified_indices
from ..distributed.group import together
from ..distributed.shards import ShardedRows
from ..distributed.tree import Tree
from ..errors import DataError, LabelError, OptionError, ShapeError
from ..frames import column_names
from ..losses import Loss
from ..metrics import Accuracy, Metric, get_metric
from ..model import Sequential
from ..optim import Optimizer
from ..regularizers import Regularizer
from ..schedules import Schedule
from .callbacks import Callback
from .feed import Feed
from .portions import ShardFeeds

__all__ = [
    "Fitted",
    "Names",
    "Rows",
    "check_parts",
    "check_range",
    "check_weight",
    "checked_feed",
    "class_numbers",
    "class_table",
    "decided",
    "expect",
    "feeds_of_fit",
    "feeds_of_shards",
    "metrics_of",
    "names_seen",
    "way_out",
    "weights_by_label",
]

_SUCH = "Pass such an object."


#: Names of the columns of data frames, for "X" and "y".
Names: TypeAlias = Mapping[str, Sequence[Any]]
_NO_NAMES: Names = {}


class Fitted(Protocol):
    """What is trained, and the names of the columns that it was trained on."""

    net: Sequential
    loss: Loss
    seed: int
    column_names: Names


class Rows(NamedTuple):
    """Inputs, targets and sample weights."""

    X: Any
    y: Any
    weight: Any = None


def expect(value: Any, kind: type | UnionType, name: str, what: str, *, where: str = "Trainer") -> None:
    """Raise OptionError unless `value` is an object of class `kind`; say what is meant."""
    if isinstance(value, kind):
        return
    text = repr(value)
    got = text if len(text) <= 60 and text[0] != "<" else f"{type(value).__name__} object"
    if isinstance(value, type):
        got = f"the class {value.__name__}"
    elif isinstance(value, Callback | list | tuple):
        got = f"{type(value).__name__} object"
    hint = way_out(value, next(iter(get_args(kind)), kind))
    raise OptionError(f"{where}: expected {name} to be {what}, got {got}. {hint}")


def check_parts(
    net: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    schedules: Mapping[str, Schedule | None],
    regularizer: Regularizer | None,
    callbacks: Sequence[Callback],
    clips: Mapping[str, float | None],
) -> None:
    """Raise OptionError unless these are the parts of a trainer."""
    expect(net, Sequential, "net", "a network")
    expect(loss, Loss, "loss", "a loss object such as xpnn.CrossEntropy()")
    expect(optimizer, Optimizer, "optimizer", "an optimizer object such as xpnn.Adam(lr=0.001)")
    for name, given in schedules.items():
        expect(given, Schedule | None, name, "a schedule object such as xpnn.CosineDecay(), or None")
    expect(regularizer, Regularizer | None, "regularizer", "a penalty object such as xpnn.L2(1e-4), or None")
    expect(callbacks, Sequence, "callbacks", "a list of callbacks")
    for callback in callbacks:
        expect(callback, Callback, "each callback", "an object such as xpnn.EarlyStopping()")
    last = type(net.layers[-1]).__name__
    if last in loss.links:
        raise OptionError(
            f"Trainer: loss {loss} takes logits, but the last layer is {last}. "
            "Remove it; predict_proba applies what it does."
        )
    for name, value in clips.items():
        if value is not None and not number(value) > 0:
            raise OptionError(f"Trainer: expected {name} > 0 or None, got {value!r}. Try 1.0.")


def metrics_of(metrics: Any, loss: Loss, net: Sequential) -> list[Metric]:
    """Return metrics, given by name or as they are, for the outputs of a network under a loss."""
    names = [metrics] if isinstance(metrics, str | Metric | type) else metrics
    expect(names, Sequence, "metrics", "a list of names and metrics; an empty one for none")
    return [
        Accuracy(loss.accuracy_rule) if m == "accuracy" else get_metric(m).resolve(loss.n_outputs(net.n_out))
        for m in names
        if loss.classifies or m != "accuracy"
    ]


def way_out(value: Any, wanted: Any) -> str:
    """Return what to write in the place of a value that is no object of the class `wanted`."""
    if isinstance(value, type):
        return f"Write {value.__name__}(...)."
    if isinstance(value, str) and (meant := class_for(value, wanted)) is not None:
        return f"Write {_call(meant)}."
    if isinstance(value, Callback):
        return "Put it in brackets, [...]."
    if wanted is Callback:
        return "Derive its class from xpnn.Callback."
    if wanted is Sequential and isinstance(value, list | tuple):
        return "Write xpnn.Sequential(*layers, n_in=...)."
    if wanted is Sequential and isinstance(getattr(value, "net", None), Sequential):
        return "Pass its network, .net."
    return "The order is net, loss, optimizer." if isinstance(value, Sequential | Loss | Optimizer) else _SUCH


def _call(kind: type[Any]) -> str:
    """Return how a class of xpnn's is made: arguments without a default are shown."""
    needed = [
        f"{name}=..." for name, argument in constructor(kind).items() if argument.default == repr(Parameter.empty)
    ]
    return f"xpnn.{kind.__name__}({', '.join(needed)})"


def decided(loss: Loss, outputs: Array) -> Array:
    """Return what a loss decides, or raise DataError where it would choose a class by outputs that are NaN."""
    xp = namespace(outputs)
    if loss.classifies and bool(xp.any(xp.isnan(outputs))):
        rows = np.argwhere(np.isnan(to_numpy(outputs)).any(axis=-1))
        raise DataError(
            f"predict: expected outputs that are numbers, got NaN for {len(rows)} rows, the first row {rows[0][-1]}. "
            "Is X finite there? Impute or drop such rows; predict_proba keeps them."
        )
    return loss.decide(outputs)


def check_weight(where: str, weight: Any, n: int, *, of_part: bool = False) -> np.ndarray | None:
    """Return sample weights (n,) on the host, if there are any; refuse what cannot weigh: of a part, all may be 0."""
    if weight is None:
        return None
    host = to_numpy(as_real(weight, where, "sample_weight", objects=True)).astype(np.float64)
    if host.shape != (n,):
        raise ShapeError(f"{where}: expected sample_weight of shape ({n},), got {host.shape}. One weight a row.")
    if not np.isfinite(host).all() or (host < 0).any() or not (of_part or host.any()):
        raise DataError(
            f"{where}: expected sample weights that are finite, at least 0 and not all 0, got {host.min():g} to "
            f"{host.max():g}. Give a row that shall not count weight 0."
        )
    return host


def check_range(where: str, weight: np.ndarray, counted: np.ndarray, dtype: str) -> None:
    """Refuse weights (n,) that `dtype` cannot hold in rows that are `counted`, or sum up with losses."""
    info = np.finfo(dtype)
    least, most = float(info.smallest_normal), math.sqrt(float(info.max))
    lost = np.flatnonzero(counted & (weight < least))
    if len(lost):
        raise DataError(
            f"{where}: expected weights of 0, or at least {least:.2g} to count in {dtype}, got {weight[lost[0]]:g} in "
            f"row {lost[0]}, one of {len(lost)}. Give such rows weight 0, or multiply all weights by the same number."
        )
    with np.errstate(over="ignore"):
        total = float(weight.sum())
    if total and not 1.0 / most <= total <= most:  # the rest of the range is left to the losses
        row = int(weight.argmax())
        raise DataError(
            f"{where}: expected weights with a sum of {1.0 / most:.2g} to {most:.2g}, for sums of weighted losses in "
            f"{dtype}, got {total:g}, with {weight[row]:g} in row {row}. Divide all weights by their mean."
        )


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
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(labels, minlength=n_classes)
        present = max(int((counts > 0).sum()), 1)
        return np.where(counts > 0, len(labels) / (present * np.maximum(counts, 1)), 1.0)
    table = np.ones(n_classes)
    for label, weight in weights_by_label(class_weight, "fit").items():
        if label not in range(n_classes):
            raise OptionError(
                f"fit: expected class_weight for classes 0..{n_classes - 1} of the network, got {label!r}: {weight!r}. "
                "Name classes by their numbers; those not named have weight 1."
            )
        table[int(label)] = weight
    return table


def weights_by_label(class_weight: Any, where: str) -> dict[Any, float]:
    """Return the weights of classes, a dict or whatever else has ``items`` (a pandas Series), as Python's numbers."""
    if isinstance(class_weight, str) or not hasattr(class_weight, "items"):
        raise OptionError(
            f"{where}: expected class_weight to be a dict, 'balanced' or None, got {class_weight!r}. "
            "Try {0: 1.0, 1: 5.0}."
        )
    given = dict(class_weight.items())
    for label, weight in given.items():
        if not 0 <= number(weight) < np.inf:
            raise OptionError(
                f"{where}: expected class_weight to be finite numbers >= 0, got {label!r}: {weight!r}. "
                "Give a class that shall not count weight 0."
            )
    return {label: number(weight) for label, weight in given.items()}


def feeds_of_fit(
    trainer: Fitted,
    train: Rows,
    valid: Rows,
    *,
    validation_fraction: float,
    validation_rows: Any,
    class_weight: Mapping[int, float] | Literal["balanced"] | None,
) -> tuple[Feed, Feed | None]:
    """Check all data of a fit once, on the host, and return the feeds of training and validation.

    The trainer learns the names of a data frame's columns; frames that come later are put into their order.
    """
    net, loss = trainer.net, trainer.loss
    if (valid.X is None) != (valid.y is None):
        raise OptionError(
            f"fit: expected X_val and y_val together, got only {'X_val' if valid.y is None else 'y_val'}. "
            "Pass both, or a validation_fraction."
        )
    if not 0 <= number(validation_fraction) < 1:
        raise OptionError(
            f"fit: expected 0 <= validation_fraction < 1, got {validation_fraction!r}. Pass 0.2 for a fifth."
        )
    names = names_seen(trainer.column_names, train.X, train.y)
    train, targets = _checked("fit", net, loss, train, names)
    labels = class_numbers(targets) if loss.classifies else None
    table = _class_table(trainer, targets, class_weight)
    whole = _feed("fit", net, loss, train, targets, table)
    feeds: tuple[Feed, Feed | None]
    if valid.X is not None:
        where = "fit (validation)"
        valid, targets = _checked(where, net, loss, valid, names, "_val")
        feeds = _with_weight(whole), _with_weight(_feed(where, net, loss, valid, targets, table), "validation ")
    elif validation_rows is not None or validation_fraction:
        kept, held_out = _split(len(targets), labels, validation_rows, validation_fraction, trainer.seed)
        feeds = _with_weight(whole.part(kept)), _with_weight(whole.part(held_out), "held-out ")
    else:
        feeds = _with_weight(whole), None
    trainer.column_names = names
    return feeds


def feeds_of_shards(
    trainer: Fitted,
    train: Rows,
    valid: Rows,
    tree: Tree,
    *,
    validation_fraction: float,
    validation_rows: Any,
    class_weight: Mapping[int, float] | Literal["balanced"] | None,
) -> tuple[ShardFeeds, Feed | ShardFeeds | None]:
    """Read and check the shards of this process, and return feeds of them; see `feeds_of_fit`."""
    given = {
        "y": train.y is not None,
        "sample_weight": train.weight is not None,
        "sample_weight_val": valid.weight is not None and isinstance(valid.X, ShardedRows),
        "validation_fraction": bool(validation_fraction),
        "validation_rows": validation_rows is not None,
        "class_weight": isinstance(class_weight, str),
    }
    found = [name for name, one in given.items() if one]
    if found:
        raise OptionError(
            f"fit: expected data in shards to bring their targets and weights, and validation data as X_val, got "
            f"{' and '.join(found)}. Leave {'it' if len(found) == 1 else 'them'} out: no process has all the rows."
        )
    names = {**train.X.names, **trainer.column_names}
    feeds = _of_shards("fit", trainer, train.X, tree, class_weight, names)
    held_out: Feed | ShardFeeds | None = None
    where = "fit (validation)"
    if isinstance(valid.X, ShardedRows):
        expect(valid.y, None.__class__, "y_val", "left out: shards bring their targets", where="fit")
        lengths = valid.X.checked()
        held_out = _of_shards(where, trainer, valid.X, Tree(len(lengths), tree.group), class_weight, names)
    elif valid.X is not None:
        valid, targets = _checked(where, trainer.net, trainer.loss, valid, names, "_val")
        table = _class_table(trainer, targets, class_weight)
        held_out = _with_weight(_feed(where, trainer.net, trainer.loss, valid, targets, table), "validation ")
    trainer.column_names = names
    return feeds, held_out


def _of_shards(
    where: str, trainer: Fitted, rows: ShardedRows, tree: Tree, class_weight: Any, names: Names
) -> ShardFeeds:
    """Return feeds of the shards of this process."""
    net, loss, feeds, weighted = trainer.net, trainer.loss, dict[int, Feed](), class_weight is not None
    with together(tree.group):  # before anything is shared: who has a bad row is not there to share
        for shard in tree.own:
            if not rows.lengths[shard]:
                continue
            given = Rows(*rows.part(shard))
            here = f"{where} (shard {shard})"
            part, targets = _checked(here, net, loss, given, names, of_part=True)
            feeds[shard] = _feed(here, net, loss, part, targets, _class_table(trainer, targets, class_weight))
            weighted = weighted or part.weight is not None
    counted = any(feed.weight is None or bool(feed.weight.any()) for feed in feeds.values())
    every = tree.group.share([weighted, counted])
    if not any(some for _, some in every):
        raise DataError(f"{where}: expected rows of weight above 0, got none in any shard. Look at their weights.")
    return ShardFeeds(feeds, rows.checked(), tree, weighted=any(some for some, _ in every), width=net.n_in)


def _class_table(trainer: Fitted, targets: np.ndarray, class_weight: Any) -> np.ndarray | None:
    if class_weight is None:
        return None
    labels = class_numbers(targets) if trainer.loss.classifies else None
    return class_table(class_weight, labels, trainer.loss.n_outputs(trainer.net.n_out))


def _split(n: int, labels: np.ndarray | None, rows: Any, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of the rows to train on and to hold out: those that are named, else a share of each class."""
    if rows is not None:
        return split_off(n, rows, "fit")
    if n < 2:
        raise DataError(f"fit: validation_fraction needs 2 rows, got {n}. Pass more rows, or X_val and y_val.")
    return stratified_indices(n if labels is None else labels, fraction, seed)


def names_seen(known: Names, X: Any, y: Any) -> Names:
    """Return the names of columns by "X" and "y": those that are known, else those of data frames, if they are any."""
    found = {"X": column_names(X, "fit", "X"), "y": column_names(y, "fit", "y")}
    return {name: columns for name, columns in found.items() if columns is not None} | dict(known)


def checked_feed(where: str, net: Sequential, loss: Loss, rows: Rows, names: Names = _NO_NAMES) -> Feed:
    """Check rows against network and loss, and return a feed of them."""
    return _feed(where, net, loss, *_checked(where, net, loss, rows, names))


def _checked(
    where: str, net: Sequential, loss: Loss, rows: Rows, names: Names, suffix: str = "", *, of_part: bool = False
) -> tuple[Rows, np.ndarray]:
    """Check rows against network and loss; return them as arrays, and the targets on the host."""
    X = as_rows(rows.X, where, f"X{suffix}", fitted=names.get("X"))
    y = as_rows(rows.y, where, f"y{suffix}", fitted=names.get("y"))
    if tuple(X.shape[1:]) != (net.n_in,):
        if tuple(y.shape[1:]) == (net.n_in,) and len(X.shape) <= 2:
            raise ShapeError(
                f"{where}: expected X of shape (n, {net.n_in}), got {tuple(X.shape)}, and y of shape {tuple(y.shape)}. "
                f"They look swapped: X{suffix} comes first."
            )
        if suffix and len(X.shape) == 2:
            raise ShapeError(
                f"{where}: expected X{suffix} of shape (n, {net.n_in}), like X, got {tuple(X.shape)}. "
                "Prepare both in the same way."
            )
    net.check_input(X)
    if net.store.replicas and len(X.shape) == 3:
        raise ShapeError(
            f"{where}: expected X of shape (n, {net.n_in}), rows shared by all replicas, got {tuple(X.shape)}. "
            "Replicas with data of their own train through Sequential.forward and backward."
        )
    same_length(where, X=X, y=y)
    if net.layers[0].takes_categories:
        net.check_categories(X)
    targets = to_numpy(y)
    loss.check_targets(targets, net.n_out)
    return Rows(X, y, check_weight(where, rows.weight, len(targets), of_part=of_part)), targets


def _feed(
    where: str, net: Sequential, loss: Loss, rows: Rows, targets: np.ndarray, table: np.ndarray | None = None
) -> Feed:
    """Return a feed of checked rows; `table` holds the weights of the classes."""
    factors = [] if rows.weight is None else [rows.weight]
    if table is not None:
        factors.append(table[np.ravel(targets).astype(np.int64)])
    weight = math.prod(factors) if factors else None
    if weight is not None:
        check_range(where, weight, np.all([factor > 0 for factor in factors], axis=0), net.backend.wide_name)
    labels = loss.takes_labels and len(rows.y.shape) == 1
    return Feed(net.backend, rows.X, rows.y, weight, index_x=net.takes_integers, index_y=labels, where=where)


def _with_weight(feed: Feed, which: str = "") -> Feed:
    """Return the feed, if there is a row in it that counts."""
    if feed.weight is not None and not feed.batch_weights(None, len(feed))[0] > 0:
        raise DataError(
            f"fit: expected a {which}row of weight above 0, got {len(feed)} rows of weight 0. "
            "Look at sample_weight and class_weight."
        )
    return feed
