"""A trainer in a file: stop today, go on tomorrow, and nobody can tell.

Saved are network, optimizer with its state, schedule, penalty, counters and history; everything else of an epoch
(order of the rows, dropout masks) is a function of the seeds and the counters.  So training that was saved and
loaded between two calls of `fit` is bit for bit the training that was not.  Callbacks are not saved: each fit begins
theirs anew, and `load` takes new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import losses, metrics, optim, regularizers, schedules
from ..backend import Backend, to_numpy
from ..checkpoint import build, read, write
from ..config import Custom, from_config, known_classes, reading, to_config
from ..errors import FileFormatError
from ..files import PathLike
from ..frames import plain_names
from .callbacks import Callback
from .history import History

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["load_trainer", "save_trainer"]

# part of the trainer: (where its classes are, what they derive from)
_PARTS = {
    "loss": (losses, losses.Loss),
    "optimizer": (optim, optim.Optimizer),
    "schedule": (schedules, schedules.Schedule),
    "regularizer": (regularizers, regularizers.Regularizer),
    "metrics": (metrics, metrics.Metric),
}
_NUMBERS = ("clip_norm", "clip_value", "seed", "epoch", "step")


def save_trainer(trainer: Trainer, path: PathLike) -> None:
    """Write a trainer to one safetensors file; see `Trainer.save`."""
    optimizer, regularizer = trainer.optimizer, trainer.regularizer
    tensors = {f"network/{name}": array for name, array in trainer.net.state_dict().items()}
    tensors |= {f"optimizer/{name}": np.array(to_numpy(array)) for name, array in optimizer.state.items()}
    if regularizer is not None:
        tensors |= {f"regularizer/{name}": np.array(to_numpy(array)) for name, array in regularizer.state.items()}
    meta = {part: to_config(getattr(trainer, part)) for part in _PARTS}
    meta |= {name: getattr(trainer, name) for name in _NUMBERS}
    meta |= {"t": optimizer.t, "history": trainer.history.rows}
    meta["column_names"] = {name: plain_names(columns) for name, columns in trainer.column_names.items()}
    write(path, tensors, {"network": trainer.net.config(), "trainer": meta})


def load_trainer(
    kind: type[Trainer], path: PathLike, *, backend: str | Backend, callbacks: Sequence[Callback], custom: Custom
) -> Trainer:
    """Read what `save_trainer` wrote; see `Trainer.load`."""
    tensors, meta = read(path)
    if "trainer" not in meta:
        raise FileFormatError(
            f"Trainer.load: {path} holds a network without its training. Write it with trainer.save, "
            "or read the network with xpnn.load."
        )
    state = meta["trainer"]
    parts: dict[str, dict[str, np.ndarray]] = {"network": {}, "optimizer": {}, "regularizer": {}}
    with reading("Trainer.load", "what trainer.save writes", got=f"a bad entry in {path}"):
        for full, array in tensors.items():
            part, _, name = full.partition("/")
            parts[part][name] = array
        net = build(meta["network"], parts["network"], backend=backend, custom_layers=custom, where="Trainer.load")
        made = {
            part: from_config(state[part], known_classes(place, custom=custom), where="Trainer.load")
            for part, place in _PARTS.items()
        }
        numbers = {name: state[name] for name in ("clip_norm", "clip_value", "seed")}
        trainer = kind(net, callbacks=callbacks, **made, **numbers)
        trainer.optimizer.state, trainer.optimizer.t = parts["optimizer"], state["t"]
        if trainer.regularizer is not None:
            vectors = {name: net.backend.copy(array) for name, array in parts["regularizer"].items()}
            trainer.regularizer.resume(net.store, vectors)
        named = state.get("column_names", {}).items()  # older files have none
        trainer.column_names = {name: list(columns) for name, columns in named if columns is not None}
        trainer.history = History(state["history"])
        trainer.epoch, trainer.step = state["epoch"], state["step"]
    return trainer
