"""Training on a table: the networks of a recipe, each of which goes on where it was cut off."""

from __future__ import annotations

import argparse
import csv
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..arguments import printable
from ..backend import Backend
from ..data.targets import ClassTarget
from ..errors import DataError, DivergenceError, ProcessError, XpnnError
from ..files import atomic_path
from ..predictor import Predictor
from ..staging import Staging
from ..tabular import TabularClassifier, TabularRegressor
from ..tabular.fit import Learned, Prepared, Request, learn_from, prepare
from ..tabular.kept import KeptNetwork, Periodic, read_kept
from ..tabular.members import Follows
from ..tabular.network import make_network
from ..tabular.rows import TrainingRows
from ..tabular.validation import CrossValidation, divided
from ..training import Callback, History, ProgressBar, TimeLimit, Trainer
from .course import Ending, cut_short
from .findings import worded
from .interrupts import status_of, word_of
from .options import dayfirst_of, in_options
from .problem import Problem, check_test_file, findings_in, open_data, told_findings
from .ranks import group_of, sharing_of
from .recipe import overrides
from .resume import HistoryLog
from .sources import Source, names

__all__ = ["Networks", "TableProblem", "read_table_problem"]


class TableProblem(NamedTuple):
    """A table, divided, looked over and encoded; and what is to be trained on it."""

    problem: Problem
    prepared: Prepared
    rows: TrainingRows  # to learn from: all but those that are tested on
    y: np.ndarray  # their target in its own terms

    @property
    def numbers(self) -> np.ndarray:
        """Where the rows to learn from lie in the table, from 0."""
        found = np.empty(len(self.y), dtype=np.int64)
        found[self.prepared.train], found[self.prepared.valid] = (self.problem.parts[p] for p in ("train", "valid"))
        return found

    def again(self, settings: argparse.Namespace) -> TableProblem:
        """Return the same rows, prepared as other settings say."""
        old = self.prepared
        request = _request(settings, old.request.task, self.problem.source, old.request.numeric)
        prepared = prepare(request, self.rows, self.y, where=settings.source)
        parts = {"train": self.numbers[prepared.train], "valid": self.numbers[prepared.valid]}
        problem = self.problem._replace(
            parts=self.problem.parts | parts, target=prepared.target, encoder=prepared.encoder
        )
        return TableProblem(problem, prepared, self.rows, self.y)


def read_table_problem(settings: argparse.Namespace, note: Callable[..., None]) -> TableProblem:
    """Read a table, divide it, look it over, and prepare what is to be trained."""
    source, task = open_data(settings, note)
    with worded(settings.source):
        labels = None
        if task == "classification":
            source.y = source.labels
            labels = ClassTarget(strip=settings.strip_target or "").fit(source.y).encode(source.y)
        parts = source.split(labels, settings.test_size, 0.0, settings.seed)
        found, learned_from = findings_in(settings, source, parts["test"], note), parts["train"]
        rows = _rows(settings, source, learned_from)
        y = source.y[learned_from]
        numeric = [name for name in names(settings.numeric, source.raw) if name not in source.target_columns]
        prepared = prepare(_request(settings, task, source, numeric), rows, y, where=settings.source)
        encoder, target = prepared.encoder, prepared.target
        note(*encoder.notes, *check_test_file(source, encoder, target))
    findings = told_findings(found, source, encoder, target, note)
    own = {"train": learned_from[prepared.train], "valid": learned_from[prepared.valid], "test": parts["test"]}
    return TableProblem(Problem(source, own, target, encoder, source.y, findings), prepared, rows, y)


def _request(args: argparse.Namespace, task: Any, source: Source, numeric: Sequence[str]) -> Request:
    return Request(
        task,
        preset=args.preset,
        overrides=overrides(args),
        metric=args.metric,
        numeric=numeric,
        dayfirst=dayfirst_of(args),
        ensemble=args.ensemble,
        time_limit=args.time_limit,
        class_weight=None if args.class_weight == "none" else "balanced",
        seed=args.seed,
        dtype=args.dtype,
        strip=args.strip_target or "",
        spellings=source.spellings,
        targets=source.target_columns,
        sharing=sharing_of(args),
    )


def _rows(args: argparse.Namespace, source: Source, among: np.ndarray) -> TrainingRows:
    """Return the columns as the table's file has them: what they are was decided when it was read."""
    words = [name for name in names(args.categorical, source.raw) if name not in source.target_columns]
    known = {} if source.table is None else source.table.spellings
    spellings = {name: spelling for name, spelling in known.items() if name in source.raw}
    return TrainingRows(source.raw, source.table is not None, spellings, tuple(words), (), (), among)


class Networks:
    """The networks of a recipe, one after the other; a file for each keeps what going on needs."""

    def __init__(self, args: argparse.Namespace, given: TableProblem, backend: str | Backend) -> None:
        self.args, self.given = args, given
        prepared = given.prepared
        n_in, n_out = prepared.learning.X.shape[1], prepared.n_out
        net = make_network(
            prepared.recipe, n_in, n_out, n_values=prepared.encoder.n_values, backend=backend, dtype=args.dtype
        )
        self.backend, self._size = net.backend, (n_in, net.n_params)
        self._staging: Staging | None = None
        self._first = History()
        self._learned: Learned | None = None
        self._ending: Ending | None = None
        self._unfinished: KeptNetwork | None = None
        self._earlier = 0.0  # seconds of training before this process
        self._began = time.perf_counter()
        self._folds: CrossValidation | None = None
        self._later: list[str] = []  # notes of the end
        if args.cv:  # which would otherwise be refused when the model is trained
            codes = prepared.target.encode(given.y) if isinstance(prepared.target, ClassTarget) else None
            divided(args.cv, len(given.y), given.y, codes, args.seed, where="--cv")

    @property
    def summary(self) -> str:
        """What is trained on what, in a line."""
        inputs, parameters = self._size
        members = self.given.prepared.recipe.members
        several = f" in each of {members} networks" if members > 1 else ""
        size = f"{len(self.given.prepared.learning.X):,} training rows, {inputs} inputs, {parameters:,} parameters"
        return f"{size}{several}, {self.backend.spec} {self.args.dtype}"

    @property
    def history(self) -> History:
        """The epochs so far."""
        return self._first

    def begin(self, staging: Staging) -> bool:
        """Be ready to train, or to go on; return whether there is something to go on from."""
        self._staging = staging
        file = self._file(0)
        if not file.is_file():
            return False
        self._first = History(read_kept(file)[1]["history"])
        return True

    def _file(self, k: int) -> Path:
        if self._staging is None:
            raise RuntimeError("begin comes first")
        return self._staging.path / f"network-{k}.safetensors"

    def fit(self, plan: dict[str, Any]) -> Ending:
        """Train to the end, early or not."""
        began = time.perf_counter()
        try:
            with self.args.signals.held():  # but within fits
                self._learned = learned = learn_from(
                    self.given.prepared, backend=self.backend, time_limit=self._left(), train=self._train
                )
        except KeyboardInterrupt:
            if self._ending is None:
                raise
            return self._ending
        fitted = learned.fitted
        ending = self._ending or Ending(0, 0.0, fitted.stopped, None)
        seconds = self._earlier + time.perf_counter() - began
        if self.args.cv and not ending.status and group_of(self.args).rank == 0:
            ending = self._cross_validate(ending)
        return ending._replace(seconds=seconds, best_epoch=fitted.epoch)

    def _left(self) -> float | None:
        """Return the seconds that are left of a limit: those before an interrupt count."""
        limit = self.args.time_limit
        if limit is None:
            return None
        files = (self._file(k) for k in range(self.given.prepared.recipe.members))
        used = sum(row["seconds"] for file in files if file.is_file() for row in read_kept(file)[1]["history"])
        return float(max(limit - used, 1e-3))

    def _cross_validate(self, ending: Ending) -> Ending:
        """Fit a model for each fold, to say how far the score is to be trusted."""
        model, rows, folder = self._model(), self.given.rows, self._file(0).parent / "folds"

        def callbacks(k: int) -> list[Callback]:
            fold = len(list(folder.glob("fold-*.safetensors"))) + 1
            return [ProgressBar(desc=f"fold {fold}/{self.args.cv}")]

        if not self.args.quiet:
            model.set_params(callbacks=callbacks)
        try:
            with self.args.signals.released():
                self._folds = model.cross_validate(rows.taken(), self.given.y, cv=self.args.cv, checkpoint=folder)
        except KeyboardInterrupt as error:
            print(f"{word_of(error)} within the cross-validation: the model is kept", file=sys.stderr)
            return ending._replace(status=status_of(error), why=word_of(error), resumable=True)
        except (XpnnError, OSError) as error:
            told = f"{in_options(str(error))} The cross-validation has no result: the model is kept."
            print(f"xpnn {self.args.command}: {told}", file=sys.stderr)
            return ending._replace(status=2, why="failed in the cross-validation", resumable=True)
        return ending

    def _train(self, k: int, trainer: Trainer, arguments: dict[str, Any]) -> Follows:
        """Train a network, or what is left of it."""
        args, network = self.args, KeptNetwork(trainer, self._file(k), arguments["epochs"])
        trainer.callbacks += self._callbacks(k, network)
        ended = network.restore()
        self._earlier += sum(trainer.history["seconds"])
        if k == 0:
            self._first = trainer.history
        if ended is not None:
            follows: Follows = ended["follows"]
            return follows
        try:
            with args.signals.released():
                network.fit(arguments | sharing_of(args))
        except (KeyboardInterrupt, DivergenceError, DataError, ProcessError, OSError) as error:
            self._ending = cut_short(args, error, self._first)
            if self._ending.resumable:
                self._unfinished = network
            if not len(self._first):
                raise
            follows = "last" if len(trainer.history) else "none"
            if not self._ending.resumable:
                network.end(follows)
            return follows
        over = args.max_seconds is not None and self._used() >= args.max_seconds
        over = group_of(args).broadcast(over)
        network.end("last" if over else "next")
        return "last" if over else "next"

    def _used(self) -> float:
        return self._earlier + time.perf_counter() - self._began

    def _callbacks(self, k: int, network: KeptNetwork) -> list[Callback]:
        """Return what goes on beside the training of a network."""
        args, callbacks = self.args, list[Callback]()
        if k == 0:
            self._began = time.perf_counter()
            if self._staging is not None:
                callbacks.append(HistoryLog(self._staging))
        if args.max_seconds is not None:
            callbacks.append(TimeLimit(args.max_seconds))
        callbacks.append(Periodic(network, args.checkpoint_seconds))
        if not args.quiet:
            members = self.given.prepared.recipe.members
            name = {"desc": f"network {k + 1}/{members}"} if members > 1 else {}
            callbacks.append(ProgressBar(**name))
        return callbacks

    def keep(self) -> None:
        """Write what going on needs."""
        if self._unfinished is not None:
            self._unfinished.write()

    def worth_keeping(self) -> bool:
        """Whether there is more to go on with than the beginning."""
        there = self._staging is not None and self._file(0).is_file()
        return there or len(self._first) > 0 or self._learned is not None

    def predictor(self, info: dict[str, Any]) -> Predictor:
        """Return what was learned."""
        if self._learned is None:
            raise RuntimeError("fit comes first")
        model = self._model()
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # which are printed as notes
            model.adopt(self._learned, self.given.rows, self.given.y, info["target"])
        predictor = model.predictor_
        info |= {name: value for name, value in predictor.info.items() if name not in info}
        self._later = [note for note in self._learned.notes if note not in info["notes"]]
        if predictor.threshold is not None and isinstance(predictor.target, ClassTarget):
            label, metric = predictor.target.classes[1], self.args.metric
            self._later.append(
                f"threshold: {label!r} from a probability of {predictor.threshold:.3g} on, the best by {metric} on "
                "rows that were not trained on"
            )
        info["notes"] = [*info["notes"], *self._later]
        if self._folds is not None:
            scores = {name: values.tolist() for name, values in self._folds.scores.items()}
            info["cross_validation"] = {"mean": self._folds.mean, "std": self._folds.std, "scores": scores}
        predictor.info = info
        return predictor

    def _model(self) -> TabularClassifier | TabularRegressor:
        """Return the estimator that is what the options say, not fitted yet."""
        args, prepared = self.args, self.given.prepared
        kind = TabularClassifier if isinstance(prepared.target, ClassTarget) else TabularRegressor
        changed = overrides(args)(prepared.recipe)
        model = kind(
            preset=args.preset,
            time_limit=args.time_limit,
            ensemble=args.ensemble,
            metric=args.metric,
            categorical=self.given.rows.categorical,
            numeric=prepared.request.numeric,
            dayfirst=prepared.request.dayfirst,
            random_state=args.seed,
            dtype=args.dtype,
            **{name: getattr(prepared.recipe, name) for name in changed},
        )
        if isinstance(model, TabularClassifier):
            model.set_params(class_weight=prepared.request.class_weight)
        return model

    def write_more(self, folder: Path, run: str) -> list[Path]:
        """Write what else belongs to the run."""
        if self._folds is None:
            return []
        found, given, source = self._folds, self.given, self.given.problem.source
        numbers, path = given.numbers, folder / "out-of-fold.csv"
        columns: dict[str, Any] = {"row": numbers + 1}
        if source.table is not None:
            columns |= {name: source.table.cells[name][numbers] for name in names(self.args.keep, source.table.names)}
        columns |= {"fold": found.fold + 1, **_beside_truth(source, given.y, found.predictions)}
        if found.probabilities is not None and isinstance(given.prepared.target, ClassTarget):
            labels = given.prepared.target.classes
            columns |= {f"p({label})": found.probabilities[:, k] for k, label in enumerate(labels)}
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        return [path]

    def chosen(self) -> dict[str, Any]:
        """Return the values of options that were left open, by name."""
        recipe = self.given.prepared.recipe
        found = recipe.to_dict() | {"hidden": list(recipe.hidden), "warmup": recipe.warmup * recipe.epochs}
        found["batch_size"] = min(recipe.batch_size, len(self.given.prepared.learning.X))
        return found

    def tell(self) -> None:
        """Print what else was found out."""
        print(*(f"{printable(note)}\n" for note in self._later), sep="", end="")
        if self._folds is not None:
            print(f"cross-validation: {self._folds}")


def _beside_truth(source: Source, y: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
    """Return the target and its predictions as columns by name; of several each beside its own."""
    if y.ndim == 1:
        return {str(source.target_name or "target"): y, "prediction": predictions}
    pairs = zip(source.targets, y.T, predictions.T, strict=True)
    return {name: column for of, truth, said in pairs for name, column in ((of, truth), (f"prediction({of})", said))}
