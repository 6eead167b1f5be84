"""The training within a run: what it begins with, goes on from, keeps and leaves."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from .. import schedules
from ..backend import Backend
from ..data.arrays import take_rows
from ..data.encoder import TableEncoder
from ..data.input_schema import InputSchema, rows_looked_at
from ..data.targets import ClassTarget
from ..errors import DivergenceError, OptionError, XpnnError
from ..losses import CrossEntropy
from ..model import Sequential, mlp
from ..predictor import Predictor
from ..search.configuration import OPTIMIZERS
from ..staging import Staging
from ..tabular.network import LOSSES, SCHEDULES
from ..training import EMA, Callback, EarlyStopping, History, ProgressBar, TimeLimit, Trainer
from .interrupts import status_of, word_of
from .options import in_options
from .problem import Problem
from .ranks import sharing_of
from .recipe import rows_a_batch
from .resume import CHECKPOINT, HistoryLog, PeriodicCheckpoint

__all__ = ["Course", "Ending", "OneNetwork", "cut_short"]


class Ending(NamedTuple):
    """How training came to its end."""

    status: int  # of the process
    seconds: float
    why: str | None  # it ended early, if it did
    best_epoch: int | None
    resumable: bool = False  # it can go on
    at: str = "in the first epoch"  # where, if there is nothing to show yet


class Course(Protocol):
    """What a run does between reading and writing."""

    backend: Backend

    @property
    def summary(self) -> str:
        """What is trained on what, in a line."""

    @property
    def history(self) -> History:
        """The epochs so far."""

    def begin(self, staging: Staging) -> bool:
        """Be ready to train, or to go on from what lies in the staging folder; return whether there is something."""

    def fit(self, plan: dict[str, Any]) -> Ending:
        """Train to the end, early or not; the best so far is kept where that is worth anything."""

    def keep(self) -> None:
        """Write what going on needs."""

    def worth_keeping(self) -> bool:
        """Whether there is more to go on with than the beginning."""

    def predictor(self, info: dict[str, Any]) -> Predictor:
        """Return what was learned."""

    def write_more(self, folder: Path, run: str) -> list[Path]:
        """Write what else belongs to the run of this id, and return the files."""

    def chosen(self) -> dict[str, Any]:
        """Return the values of options that were left open, by name."""

    def tell(self) -> None:
        """Print what else was found out."""


def cut_short(args: argparse.Namespace, error: BaseException, history: History) -> Ending:
    """Say what ended a training before its time, and how: a signal, a loss that is not finite, a disk that is full.

    The best weights so far are in the network.  What keeps nothing is raised again.
    """
    if isinstance(error, KeyboardInterrupt):
        why = word_of(error)
        if len(history):
            print(f"{why}: the best weights so far are kept", file=sys.stderr)
        return Ending(status_of(error), 0.0, why, None, resumable=True)
    if not len(history):
        raise error
    diverged = isinstance(error, DivergenceError)
    print(f"xpnn {args.command}: {in_options(str(error))} The best weights so far are kept.", file=sys.stderr)
    return Ending(2, 0.0, "diverged" if diverged else "failed", None, resumable=not diverged)


class OneNetwork:
    """A network as the options describe it."""

    def __init__(self, args: argparse.Namespace, problem: Problem, backend: str | Backend) -> None:
        self.args, self.problem = args, problem
        self.X, self.y = problem.encoded("train")
        self.net = _network(args, self.X.shape[1], problem.n_out, backend)
        self.rows = len(problem.parts["train"])
        args.batch_size = args.batch_size or rows_a_batch(self.rows)
        self.backend = self.net.backend
        self.trainer: Trainer | None = None
        self.checkpoint: Any = None

    @property
    def summary(self) -> str:
        """What is trained on what, in a line."""
        size = f"{self.rows:,} training rows, {self.X.shape[1]} inputs, {self.net.n_params:,} parameters"
        return f"{size}, {self.backend.spec} {self.args.dtype}"

    @property
    def history(self) -> History:
        """The epochs so far."""
        return History() if self.trainer is None else self.trainer.history

    def begin(self, staging: Staging) -> bool:
        """Be ready to train, or to go on; return whether there is something to go on from."""
        self.checkpoint = staging.path / CHECKPOINT
        self.trainer = _trainer(self.args, self.problem, self.net, _callbacks(self.args, staging))
        if not self.checkpoint.is_file():
            return False
        self.trainer = Trainer.load(self.checkpoint, backend=self.backend, callbacks=self.trainer.callbacks)
        return True

    def fit(self, plan: dict[str, Any]) -> Ending:
        """Train to the end, early or not."""
        if "ended" in plan:  # only its results were not written
            return Ending(**plan["ended"])
        args, trainer = self.args, self._begun()
        earlier, began = sum(trainer.history["seconds"]), time.perf_counter()
        weights: Literal["balanced"] | None = None if args.class_weight == "none" else "balanced"
        validation = self.problem.validation()
        ending = Ending(0, 0.0, None, None)
        try:
            epochs = max(args.epochs - trainer.epoch, 0)
            if epochs or trainer.suspended is not None:
                options = {"batch_size": args.batch_size, "class_weight": weights, **validation, **sharing_of(args)}
                trainer.fit(self.X, self.y, epochs=epochs, **options)
                ending = ending._replace(why=trainer.stop_reason)
        except KeyboardInterrupt as error:
            if len(trainer.history) and trainer.suspended is None:  # it came when all was done
                ending = Ending(status_of(error), 0.0, trainer.stop_reason, None)
            else:
                ending = cut_short(args, error, trainer.history)
        except (XpnnError, OSError) as error:
            ending = cut_short(args, error, trainer.history)
        best = next((c.best_epoch for c in trainer.callbacks if isinstance(c, EarlyStopping)), None)
        return ending._replace(seconds=earlier + time.perf_counter() - began, best_epoch=best)

    def keep(self) -> None:
        """Write what going on needs."""
        trainer = self._begun()
        trainer.save(self.checkpoint)

    def worth_keeping(self) -> bool:
        """Whether there is more to go on with than the beginning."""
        return (self.checkpoint is not None and self.checkpoint.is_file()) or len(self.history) > 0

    def predictor(self, info: dict[str, Any]) -> Predictor:
        """Return what was learned."""
        trainer = self._begun()
        problem, schema = self.problem, None
        if isinstance(problem.encoder, TableEncoder):
            train, valid = problem.parts["train"], problem.parts["valid"]
            some = rows_looked_at(len(train) + len(valid))  # which rise
            first = np.searchsorted(some, len(train))
            learnt = np.concatenate([train[some[:first]], valid[some[first:] - len(train)]])
            schema = InputSchema.of(problem.encoder, take_rows(problem.source.raw, learnt))
        return Predictor(trainer.net, trainer.loss, problem.target, problem.encoder, info, schema=schema)

    def write_more(self, folder: Path, run: str) -> list[Path]:
        """Write what else belongs to the run."""
        return []

    def chosen(self) -> dict[str, Any]:
        """Return the values of options that were left open, by name."""
        return {}

    def tell(self) -> None:
        """Print what else was found out."""

    def _begun(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("begin comes first")
        return self.trainer


def _network(args: argparse.Namespace, n_in: int, n_out: int, backend: str | Backend) -> Sequential:
    if args.residual and all(a != b for a, b in itertools.pairwise([n_in, *args.hidden])):
        raise OptionError(
            f"--residual: expected a hidden layer as wide as what comes before it, got {n_in} inputs and hidden "
            f"layers {args.hidden}. Try --hidden 128,128."
        )
    return mlp(
        [n_in, *args.hidden, n_out],
        args.activation,
        norm=None if args.norm == "none" else args.norm,
        dropout=args.dropout,
        residual=args.residual,
        init=args.init,
        backend=backend,
        dtype=args.dtype,
        seed=args.seed,
    )


def _trainer(args: argparse.Namespace, problem: Problem, net: Sequential, callbacks: list[Callback]) -> Trainer:
    classes = isinstance(problem.target, ClassTarget)
    loss = LOSSES["mse" if args.loss == "auto" else args.loss]
    schedule = SCHEDULES[args.schedule]()
    return Trainer(
        net,
        CrossEntropy(label_smoothing=args.label_smoothing) if classes else loss(),
        OPTIMIZERS[args.optimizer](args.lr, weight_decay=args.weight_decay),
        schedule=schedules.Warmup(schedule, duration=args.warmup) if args.warmup else schedule,
        clip_norm=args.clip_norm,
        clip_value=args.clip_value,
        metrics=("accuracy",) if classes else ("rmse",),
        callbacks=callbacks,
        seed=args.seed,
    )


def _callbacks(args: argparse.Namespace, staging: Staging) -> list[Callback]:
    callbacks: list[Callback] = []
    if args.ema:
        callbacks.append(EMA(args.ema))
    if args.validation_size:
        callbacks.append(EarlyStopping("val_loss", args.patience))
    if args.max_seconds is not None:
        callbacks.append(TimeLimit(args.max_seconds))
    callbacks += [HistoryLog(staging), PeriodicCheckpoint(staging.path / CHECKPOINT, args.checkpoint_seconds)]
    if not args.quiet:
        callbacks.append(ProgressBar())
    return callbacks
