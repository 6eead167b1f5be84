"""Networks in training that are kept in files, to go on with where a fit was cut off."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..checkpoint import read, write
from ..config import reading
from ..schema import ANY, NUMBER, at_least, expect
from ..training import Callback, EarlyStopping, Trainer
from ..training.resume import restore_state, state_of
from .members import Follows, Train

__all__ = ["KeptNetwork", "Periodic", "keeping_in", "read_kept"]

_SECONDS = 30.0  # between two copies of a network in training

_ENDED = {
    "best": NUMBER,
    "best_epoch": (None, at_least(1)),
    "stopped": (None, str),
    "follows": ("next", "last", "none"),
}


def keeping_in(folder: Path) -> Train:
    """Return what `fit_members` takes as `train`: each network goes on from its file in a folder."""

    def train(k: int, trainer: Trainer, arguments: dict[str, Any]) -> Follows:
        folder.mkdir(parents=True, exist_ok=True)
        file, hint = folder / f"network-{k}.safetensors", "Remove it to train this network anew."
        network = KeptNetwork(trainer, file, arguments["epochs"], hint=hint)
        trainer.callbacks.append(Periodic(network, _SECONDS))
        ended = network.restore()
        if ended is not None:
            follows: Follows = ended["follows"]
            return follows
        try:
            network.fit(arguments)
        except KeyboardInterrupt:
            network.write()
            raise
        network.end("next")
        return "next"

    return train


class KeptNetwork:
    """One network in training, and its file.

    Parameters
    ----------
    trainer : Trainer
        As it is before its first epoch.
    file : path
        Where it is kept.
    epochs : int
        What it is trained for.
    hint : str
        What to do about a file that is damaged.
    """

    def __init__(
        self, trainer: Trainer, file: Path, epochs: int, *, hint: str = "Leave --resume out to train anew."
    ) -> None:
        self.trainer, self.file, self.epochs, self._hint = trainer, file, epochs, hint

    def restore(self) -> dict[str, Any] | None:
        """Go where the file says; return what is known of the end, if training has come to it."""
        if not self.file.is_file():
            return None
        tensors, plain, extra = read_kept(self.file)
        with reading("--resume", "a network in training", got=f"a bad entry in {self.file}", hint=self._hint):
            expect(extra, {"epochs": at_least(1), "ended": (None, _ENDED)})
            restore_state(self.trainer, plain, tensors)
        self.epochs = extra["epochs"]
        ended: dict[str, Any] | None = extra["ended"]
        if ended is not None:
            self.trainer.stop_reason = ended["stopped"]
            for keeper in self._keepers():
                keeper.load_state_dict(ended)
        return ended

    def _keepers(self) -> Iterator[EarlyStopping]:
        yield from (c for c in self.trainer.callbacks if isinstance(c, EarlyStopping))

    def fit(self, arguments: dict[str, Any]) -> None:
        """Train up to the last epoch."""
        rest = max(self.epochs - self.trainer.epoch, 0)
        if rest or self.trainer.suspended is not None:
            self.trainer.fit(**arguments | {"epochs": rest})

    def write(self, ended: dict[str, Any] | None = None) -> None:
        """Write what going on needs; of one that has come to its end, what it has left."""
        plain, tensors = state_of(self.trainer)
        write(self.file, tensors, {"trainer": plain, "extra": {"epochs": self.epochs, "ended": ended}})

    def end(self, follows: Follows) -> None:
        """Write that training has come to its end."""
        found = {"best": float("nan"), "best_epoch": None}
        for keeper in self._keepers():
            found = {"best": keeper.best, "best_epoch": keeper.best_epoch}
        self.write({**found, "stopped": self.trainer.stop_reason, "follows": follows})


class Periodic(Callback):
    """Writes a network every so many seconds."""

    on_every_rank = False

    def __init__(self, network: KeptNetwork, seconds: float) -> None:
        self._network, self._seconds = network, seconds
        self._wrote = time.monotonic()

    def on_fit_begin(self, trainer: Trainer) -> None:
        self._wrote = time.monotonic()

    def most_steps(self) -> int | None:
        return sys.maxsize

    def between_steps(self, trainer: Trainer) -> None:
        """Write, if it is time."""
        if time.monotonic() - self._wrote >= self._seconds:
            self._network.write()
            self._wrote = time.monotonic()


def read_kept(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], dict[str, Any]]:
    """Return the tensors of a network in training, what describes it, and what is known of its fit."""
    tensors, meta = read(file)
    with reading("--resume", "a network in training", got=f"a bad entry in {file}"):
        expect(meta, {"trainer": {"history": [{str: ANY}]}, "extra": {str: ANY}})
    return tensors, meta["trainer"], meta["extra"]
