"""A trainer in a file: stop today, go on tomorrow, and nobody can tell.

Saved are network, optimizer with its state, schedule, penalty, counters and history; everything else of an epoch
(order of the rows, dropout masks) is a function of the seeds and the counters.  So training that was saved and loaded
is bit for bit the training that was not: between two fits, and also within one, whose `Position` and whose callbacks'
states are saved along.  Callbacks themselves are not: `load` takes new ones, which take up these states.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np

from .. import losses, metrics, optim, regularizers, schedules
from .._typing import Array
from ..backend import Backend, to_numpy
from ..checkpoint import build, check_finite, check_values, read
from ..config import Custom, from_config, known_classes, reading, to_config
from ..errors import FileFormatError
from ..files import PathLike
from ..frames import plain_names
from ..params import Snapshot
from ..schema import NUMBER, at_least, expect
from .callbacks import Callback
from .history import History
from .position import Moment, Suspended, left_by

if TYPE_CHECKING:
    from .trainer import Trainer

__all__ = ["Writer", "load_trainer", "restore_state", "save_trainer", "state_of"]

#: What writes named arrays and JSON-able values to a file: `xpnn.checkpoint.write`, or what does so later.
Writer: TypeAlias = Callable[[PathLike, dict[str, np.ndarray], dict[str, Any]], None]

# part of the trainer: (where its classes are, what they derive from)
_PARTS = {
    "loss": (losses, losses.Loss),
    "optimizer": (optim, optim.Optimizer),
    "schedule": (schedules, schedules.Schedule),
    "dropout_schedule": (schedules, schedules.Schedule),
    "weight_decay_schedule": (schedules, schedules.Schedule),
    "regularizer": (regularizers, regularizers.Regularizer),
    "metrics": (metrics, metrics.Metric),
}
_PLAIN = ("epoch", "moment", "slot", "waiting", "seconds", "stop_reason", "rows", "states")
_NUMBERS = ("clip_norm", "clip_value", "seed")
_SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("epoch", "step", "t"), at_least(0)),
    "history": [{str: (NUMBER, [NUMBER])}],
}
_SUSPENDED: dict[str, Any] = {
    **dict.fromkeys(("epoch", "slot"), at_least(0)),
    "moment": get_args(Moment),
    "waiting": (None, [at_least(0)]),
    "seconds": float,
    "stop_reason": (None, str),
    "rows": str,
    "states": [[(str, {})]],
}
_LAST = ("grad_norm", "penalty")


def save_trainer(trainer: Trainer, path: PathLike, writing: Writer) -> None:
    """Write a trainer to one safetensors file; see `Trainer.save`."""
    plain, tensors = state_of(trainer)
    meta = {part: to_config(getattr(trainer, part)) for part in _PARTS}
    meta |= {name: getattr(trainer, name) for name in _NUMBERS}
    writing(path, tensors, {"network": trainer.net.config(), "trainer": meta | plain})


def state_of(trainer: Trainer) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what training has changed so far, and where it stands, as JSON-able values and named arrays."""
    optimizer, regularizer = trainer.optimizer, trainer.regularizer
    tensors = {f"network/{name}": array for name, array in trainer.net.state_dict().items()}
    tensors |= {f"optimizer/{name}": np.array(to_numpy(array)) for name, array in optimizer.state.items()}
    if regularizer is not None:
        tensors |= {f"regularizer/{name}": np.array(to_numpy(array)) for name, array in regularizer.state.items()}
    last = {name: getattr(trainer, name) for name in _LAST}
    tensors |= {f"last/{name}": np.array(to_numpy(array)) for name, array in last.items() if array is not None}
    plain: dict[str, Any] = {"epoch": trainer.epoch, "step": trainer.step, "t": optimizer.t}
    plain["history"] = [dict(row) for row in trainer.history.rows]  # more may come before it is written
    standing = trainer.standing()
    if standing is not None:
        plain["epoch"] = standing.epoch
        plain["suspended"], arrays = _described(standing)
        tensors |= {f"suspended/{name}": np.array(to_numpy(array)) for name, array in arrays.items()}
    plain["column_names"] = {name: plain_names(columns) for name, columns in trainer.column_names.items()}
    return plain, tensors


def _described(standing: Suspended) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what is suspended as JSON-able values and named arrays."""
    arrays = {f"tally/{k}": table for k, table in enumerate(standing.tables)}
    if standing.order is not None:
        arrays["order"] = standing.order
    if standing.live is not None:
        arrays |= {f"live/{name}": array for name, array in standing.live._asdict().items()}
    states: list[list[Any]] = []
    for k, (kind, state) in enumerate(standing.states):
        found = {name: value for name, value in state.items() if hasattr(value, "shape") and hasattr(value, "dtype")}
        arrays |= {f"callback/{k}/{name}": array for name, array in found.items()}
        rest = {name: value for name, value in state.items() if name not in found}
        states.append([kind, to_config(rest, f"{kind}.state_dict: expected values")])
    plain = standing._asdict() | {"states": states}
    return {name: plain[name] for name in _PLAIN}, arrays


def _suspended(plain: dict[str, Any], arrays: dict[str, np.ndarray], backend: Backend) -> Suspended:
    """Return what `_described` described; raise ValueError where its parts do not belong together."""
    expect(plain, _SUSPENDED)

    def named(prefix: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    def here(array: np.ndarray) -> Array:
        return backend.copy(array) if array.dtype.kind not in "biuSU" else array

    states = [
        (kind, state | {name: here(array) for name, array in named(f"callback/{k}/").items()})
        for k, (kind, state) in enumerate(plain["states"])
    ]
    tables = [array for _, array in sorted(named("tally/").items(), key=lambda item: int(item[0]))]
    if any(k >= len(states) for k in plain["waiting"] or ()) or any(len(t) != plain["slot"] for t in tables):
        raise ValueError("suspended has callbacks or steps that are not there")
    live = {name: backend.copy(array) for name, array in named("live/").items()}
    options = {name: plain[name] for name in _PLAIN} | {"states": states, "tables": tables}
    return Suspended(**options, order=arrays.get("order"), live=Snapshot(**live) if live else None)


def _part(state: dict[str, Any], part: str) -> Any:
    """Return the description of a part; older files have no schedules but that of the learning rate."""
    return state.get(part) if part.endswith("_schedule") else state[part]


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
    with reading("Trainer.load", "what trainer.save writes", got=f"a bad entry in {path}"):
        expect(state, _SCHEMA | {"seed": int})
        parts = _parts(tensors)
        net = build(meta["network"], parts["network"], backend=backend, custom_layers=custom, where="Trainer.load")
        made = {
            part: from_config(_part(state, part), known_classes(place, custom=custom), where="Trainer.load")
            for part, place in _PARTS.items()
        }
        trainer = kind(net, callbacks=callbacks, **made, **{name: state[name] for name in _NUMBERS})
        last = {f"last/{name}": array for name, array in parts["last"].items()}
        check_finite({**parts["optimizer"], **parts["regularizer"], **last}, "Trainer.load")
        _take_up(trainer, state, parts, "float64" if meta["network"]["dtype"] == "float64" else "float32")
    return trainer


def restore_state(trainer: Trainer, plain: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Give a fresh trainer what `state_of` returned of one like it, also from a file: what does not fit is refused.

    Values that are not finite are taken: within an epoch a replica may have diverged.  Whoever calls it words the
    errors, with `xpnn.config.reading`.
    """
    expect(plain, _SCHEMA)
    parts = _parts(tensors)
    dtype = "float64" if trainer.backend.dtype_name == "float64" else "float32"
    check_values(parts["network"], dtype, "Trainer.load", finite=False)
    trainer.net.load_state_dict(parts["network"])
    _take_up(trainer, plain, parts, dtype)


def _parts(tensors: dict[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return arrays by the part of the trainer that they belong to."""
    parts: dict[str, dict[str, np.ndarray]] = {
        name: {} for name in ("network", "optimizer", "regularizer", "last", "suspended")
    }
    for full, array in tensors.items():
        part, _, name = full.partition("/")
        parts[part][name] = array
    return parts


def _take_up(trainer: Trainer, state: dict[str, Any], parts: dict[str, dict[str, np.ndarray]], dtype: str) -> None:
    """Give a trainer, whose network has its values, all else that training had changed."""
    net = trainer.net
    trainer.optimizer.resume(net.store, parts["optimizer"], state["t"])
    if trainer.regularizer is not None:
        vectors = {name: net.backend.copy(array) for name, array in parts["regularizer"].items()}
        trainer.regularizer.resume(net.store, vectors)
    named = state.get("column_names", {}).items()  # older files have none
    trainer.column_names = {name: list(columns) for name, columns in named if columns is not None}
    trainer.history = History(state["history"])
    trainer.epoch, trainer.step = state["epoch"], state["step"]
    if not parts["last"].keys() <= set(_LAST):
        raise ValueError(f"last has {sorted(parts['last'])}")
    check_values({f"last/{n}": array for n, array in parts["last"].items()}, dtype, "Trainer.load", finite=False)
    for name, array in parts["last"].items():
        setattr(trainer, name, net.backend.copy(array))
    if "suspended" in state:
        suspended = _suspended(state["suspended"], parts["suspended"], net.backend)
        now = net.store.snapshot()
        if suspended.live is not None and [v.shape for v in suspended.live] != [v.shape for v in now]:
            raise ValueError("suspended/live is not of this network")
        if suspended.made > trainer.step:
            raise ValueError("suspended has more steps than there were")
        trainer.suspended = suspended._replace(left=left_by(trainer))
