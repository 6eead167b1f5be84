"""One training run: from a data set to a saved model, with nothing to choose and everything to change."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import schedules
from ..arguments import printable
from ..backend import Backend, get_backend
from ..baselines import ROWS
from ..data.arrays import some_rows, take_rows
from ..data.audit import AuditFinding, leaks
from ..data.encoder import TableEncoder
from ..data.scaling import Standardizer
from ..data.targets import ClassTarget, NumberTarget, infer_task
from ..errors import DivergenceError, OptionError, ShapeError, XpnnError
from ..losses import CrossEntropy
from ..model import Sequential, mlp
from ..predictor import Predictor, Target
from ..random import stream
from ..report import Trained, check_requirements, collect_evidence, read_run, write_report
from ..search.configuration import OPTIMIZERS
from ..staging import Staging
from ..tabular.network import LOSSES, SCHEDULES
from ..training import EMA, Callback, EarlyStopping, ProgressBar, TimeLimit, Trainer
from .findings import look_over, refuse_doubts, refuse_small, say, worded
from .interrupts import status_of, word_of
from .options import finite, in_options, print_json
from .recipe import check_task, rows_a_batch
from .results import FILES, check_folder, machine, report_baselines, report_scores, superseded, write_results
from .resume import (
    CHECKPOINT,
    NO_SETTINGS,
    HistoryLog,
    Job,
    PeriodicCheckpoint,
    changed_versions,
    check_data,
    find_job,
    new_plan,
)
from .sources import Source, names, open_source
from .system import versions

__all__ = ["run_train"]


def run_train(args: argparse.Namespace) -> int:
    """Train, score and save; or go on with a run that was cut short."""
    job = find_job(args)
    if job.finished is not None:
        return _tell_finished(job)
    with contextlib.chdir(job.cwd):
        return _train(job)


def _train(job: Job) -> int:
    settings = job.settings
    if settings.report:
        check_requirements("--report")
    if job.plan is not None:
        check_data(settings, job.plan["data"])
    spec = settings.backend if job.plan is None else job.plan["backend"]
    # "auto" waits for the size of the network; a wrong name does not wait.
    backend: str | Backend = "auto" if spec == "auto" else get_backend(spec, settings.dtype)
    notes: list[str] = []

    def note(*texts: str) -> None:
        """Keep what is decided for the files, and print it at once unless JSON is to be printed alone."""
        notes.extend(texts)
        if texts and not settings.json:
            print(*map(printable, texts), sep="\n")

    note(*(changed_versions(job.plan) if job.plan is not None else ()))
    problem = _read_problem(settings, note)
    X, y = problem.encoded("train")
    net = _network(settings, X.shape[1], problem.n_out, backend)
    rows = len(problem.parts["train"])
    settings.batch_size = settings.batch_size or rows_a_batch(rows)
    size = f"{rows:,} training rows, {X.shape[1]} inputs, {net.n_params:,} parameters"
    note(f"{size}, {net.backend.spec} {settings.dtype}")
    check_folder(job.out)
    with Staging(job.out) as staging:
        trainer = None
        try:
            trainer = _begin(job, staging, problem, net)
            sys.stdout.flush()  # so that a log file shows what is decided before training begins
            ending = _fit(settings, trainer, X, y, problem.validation(), staging.plan or {})
            return _conclude(job, staging, trainer, problem, notes, ending)
        except BaseException:
            if not _worth_keeping(trainer, staging):
                staging.discard()
            raise


def _worth_keeping(trainer: Trainer | None, staging: Staging) -> bool:
    """Whether there is more to go on with than the beginning."""
    return (staging.path / CHECKPOINT).is_file() or (trainer is not None and len(trainer.history) > 0)


# -- data -------------------------------------------------------------------------------------------------------
class _Problem(NamedTuple):
    """What is to be learned: the data, divided once, with what encodes them."""

    source: Source
    parts: dict[str, np.ndarray]  # numbers of the rows for "train", "valid" and "test"
    target: Target
    encoder: TableEncoder | Standardizer | None
    y: np.ndarray  # the whole target as the loss takes it
    findings: list[AuditFinding] | None  # of the audit of a table

    @property
    def n_out(self) -> int:
        return len(self.target.classes) if isinstance(self.target, ClassTarget) else 1

    def encoded(self, part: str) -> tuple[Any, np.ndarray]:
        """Return rows as the network takes them; a stream whole, for the trainer leaves its validation rows out."""
        if self.source.kind == "stream":
            return self.source.raw, self.y
        rows = self.parts[part]
        raw = take_rows(self.source.raw, rows)
        return (raw if self.encoder is None else np.asarray(self.encoder.transform(raw))), self.y[rows]

    def validation(self) -> dict[str, Any]:
        """Return what tells `Trainer.fit` the validation rows."""
        rows = self.parts["valid"]
        if not len(rows):
            return {}
        if self.source.kind == "stream":
            return {"validation_rows": rows}
        return dict(zip(("X_val", "y_val"), self.encoded("valid"), strict=True))

    def trained(self, seed: int) -> Trained:
        """Return rows that are trained on, as many as simple models beside the network are given."""
        rows = self.parts["train"]
        some = rows[some_rows(len(rows), ROWS, stream(seed, "trained"))]
        return Trained(take_rows(self.source.raw, some), self.source.y[some], len(rows))

    def scored(self) -> _Scored:
        """Return the rows to score on: test rows, else validation rows, else training rows."""
        source, parts = self.source, self.parts
        if source.raw_test is not None and source.y_test is not None:
            name = "test file" if source.kind != "mnist" else "test images"
            return _Scored(source.raw_test, source.y_test, name, None)
        part = next(part for part in ("test", "valid", "train") if len(parts[part]))
        name = {"test": "test rows", "valid": "validation rows", "train": "training rows"}[part]
        if len(parts[part]) == len(source.y):  # all: a stream need not be copied
            return _Scored(source.raw, source.y, name, None)
        return _Scored(take_rows(source.raw, parts[part]), source.y[parts[part]], name, parts[part] + 1)


class _Scored(NamedTuple):
    raw: Any
    y: np.ndarray
    name: str
    numbers: np.ndarray | None  # places of the rows in the data, from 1; None where they are all of them


def _read_problem(settings: argparse.Namespace, note: Callable[..., None]) -> _Problem:
    """Read the data, divide them, and fit what encodes them to the training rows."""
    source = open_source(settings)
    refuse_small(settings, source)
    with worded(settings.source):
        refuse_doubts(settings, source)
        task = settings.task
        if task == "auto":
            task, why = infer_task(source.y)
            note(f"{task}: {why}")
        check_task(settings, task)
        note(*source.notes)
        sizes = settings.test_size, settings.validation_size, settings.seed
        target: Target
        if task == "classification":
            source.y = source.labels
            target = ClassTarget(strip=settings.strip_target or "").fit(source.y)
            y: np.ndarray = target.encode(source.y)
            parts = source.split(y, *sizes)
        else:
            parts = source.split(None, *sizes)
            target = NumberTarget().fit(source.y[parts["train"]], spelling=source.spelling)
            y = target.encode(source.y)
        encoder = _fit_encoder(source, parts["train"], settings)
        note(*getattr(encoder, "notes", []), *_check_test_file(source, encoder, target))
    findings: list[AuditFinding] | None = None
    if source.table is not None and isinstance(encoder, TableEncoder):
        found = look_over(settings, source.table, source.test_table, held_out=parts["test"])
        note(*say(found, encoder.feature_names_in))
        findings = found.folded()
    if isinstance(target, NumberTarget):
        unit = f"{target.std:.6g}"
        note(f"losses are in units of the target's standard deviation, {unit}; scores in the target's own")
    return _Problem(source, parts, target, encoder, y, findings)


def _fit_encoder(source: Source, rows: np.ndarray, args: argparse.Namespace) -> TableEncoder | Standardizer | None:
    """Fit the encoding on training rows alone; images (0 to 1) and streams are taken as they are."""
    if source.kind == "table":
        chosen = [
            [name for name in names(text, source.raw) if name != source.target_name]
            for text in (args.categorical, args.numeric)
        ]
        encoder = TableEncoder(bins=args.bins, categorical=chosen[0], numeric=chosen[1])
        return encoder.fit(take_rows(source.raw, rows), spellings=source.table.spellings if source.table else None)
    if source.kind in ("points", "arrays"):
        return Standardizer().fit(take_rows(source.raw, rows))
    return None


def _check_test_file(source: Source, encoder: Any, target: Target) -> list[str]:
    """Encode the test data before training, so that what does not fit is said at once; return remarks."""
    if source.raw_test is None:
        return []
    target.encode(np.asarray(source.y_test))
    if isinstance(encoder, TableEncoder):
        return [f"test file: {remark}" for remark in encoder.remarks(source.raw_test)]
    if source.raw_test.shape[1:] != source.raw.shape[1:]:
        raise ShapeError(
            f"--test-file: expected {source.raw.shape[1]} columns as in training, got {source.raw_test.shape[1]}. "
            "Pass data of the same kind."
        )
    return []


# -- training ---------------------------------------------------------------------------------------------------
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


def _begin(job: Job, staging: Staging, problem: _Problem, net: Sequential) -> Trainer:
    """Note what is begun; return its trainer, as new or as it was when the run that goes on was cut short."""
    settings, checkpoint = job.settings, staging.path / CHECKPOINT
    if job.plan is None:
        if staging.plan is not None and not settings.json:
            print("the unfinished run in this folder is given up; --resume would have gone on with it")
        staging.clear()
    staging.start(job.plan or new_plan(settings, net.backend.spec))
    trainer = _trainer(settings, problem, net, _callbacks(settings, staging))
    if checkpoint.is_file():
        trainer = Trainer.load(checkpoint, backend=net.backend, callbacks=trainer.callbacks)
        if not settings.json:
            print(f"going on after {trainer.epoch} epochs")
    return trainer


def _trainer(args: argparse.Namespace, problem: _Problem, net: Sequential, callbacks: list[Callback]) -> Trainer:
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


class _Ending(NamedTuple):
    status: int  # of the process
    seconds: float
    why: str | None  # it ended early, if it did
    best_epoch: int | None
    resumable: bool = False  # it can go on


def _fit(
    args: argparse.Namespace, trainer: Trainer, X: Any, y: np.ndarray, validation: dict[str, Any], plan: dict[str, Any]
) -> _Ending:
    """Train to the end, early or not.

    A signal, a loss that is not finite, or a disk that is full leave the best weights so far in the network: they are
    worth keeping.
    """
    if "ended" in plan:  # only its results were not written
        return _Ending(**plan["ended"])
    earlier, began = sum(trainer.history["seconds"]), time.perf_counter()
    status, why, resumable = 0, None, False
    weights: Literal["balanced"] | None = None if args.class_weight == "none" else "balanced"
    try:
        epochs = max(args.epochs - trainer.epoch, 0)
        if epochs or trainer.suspended is not None:
            trainer.fit(X, y, epochs=epochs, batch_size=args.batch_size, class_weight=weights, **validation)
            why = trainer.stop_reason
    except KeyboardInterrupt as error:
        status, why, resumable = status_of(error), word_of(error), True
        if len(trainer.history) and trainer.suspended is None:  # it came when all was done
            why, resumable = trainer.stop_reason, False
        elif len(trainer.history):
            print(f"{why}: the best weights so far are kept", file=sys.stderr)
    except (XpnnError, OSError) as error:
        if not len(trainer.history):
            raise
        diverged = isinstance(error, DivergenceError)
        status, why, resumable = 2, "diverged" if diverged else "failed", not diverged
        print(f"xpnn train: {in_options(str(error))} The best weights so far are kept.", file=sys.stderr)
    best = next((c.best_epoch for c in trainer.callbacks if isinstance(c, EarlyStopping)), None)
    return _Ending(status, earlier + time.perf_counter() - began, why, best, resumable)


# -- results ----------------------------------------------------------------------------------------------------
def _conclude(
    job: Job, staging: Staging, trainer: Trainer, problem: _Problem, notes: list[str], ending: _Ending
) -> int:
    """Score, write and tell what came out, and return the exit status; nothing is lost if that fails."""
    settings, checkpoint = job.settings, staging.path / CHECKPOINT
    if not _worth_keeping(trainer, staging):
        staging.discard()
        print(f"{ending.why} in the first epoch: nothing is saved", file=sys.stderr)
        return ending.status
    try:
        with settings.signals.held():
            if ending.resumable:
                ending = ending._replace(resumable=_saved(trainer, checkpoint))
            if not len(trainer.history):
                print(f"{ending.why} in the first epoch: go on with xpnn train --resume {job.out}", file=sys.stderr)
                return ending.status
            _finish(job, staging, trainer, problem, notes, ending)
    except BaseException:
        if not (ending.resumable or staging.committed) and _saved(trainer, checkpoint):
            staging.start({**(staging.plan or {}), "ended": ending._replace(status=0)._asdict()})
        raise
    pending = settings.signals.pending
    if pending is not None:
        print(f"{word_of(pending)}: the results are written", file=sys.stderr)
    return ending.status or (0 if pending is None else status_of(pending))


def _saved(trainer: Trainer, checkpoint: Path) -> bool:
    """Write the checkpoint, and tell whether that was possible: it is worth less than the results."""
    try:
        trainer.save(checkpoint)
    except (XpnnError, OSError) as error:
        print(f"xpnn train: {in_options(str(error))} There is no checkpoint to go on from.", file=sys.stderr)
        return False
    return True


def _facts(
    args: argparse.Namespace, trainer: Trainer, problem: _Problem, notes: list[str], ending: _Ending
) -> dict[str, Any]:
    """Return what a model file keeps of its training."""
    return {
        "source": args.source,
        "target": problem.source.target_name,
        **({} if (table := problem.source.table) is None else {"columns": table.names, "header": table.header}),
        "epochs": len(trainer.history),
        "seconds": round(ending.seconds, 3),
        "stopped": ending.why,
        "best_epoch": ending.best_epoch,
        "options": {k: v for k, v in vars(args).items() if k not in NO_SETTINGS and v is not None},
        "notes": notes,
        **({} if problem.findings is None else {"audit": finite([f._asdict() for f in problem.findings])}),
        "command": shlex.join(["xpnn", *args.argv]),
        "finished": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "machine": machine(trainer.net.backend),
    }


def _finish(job: Job, staging: Staging, trainer: Trainer, problem: _Problem, notes: list[str], ending: _Ending) -> None:
    """Score, write all files, let them take their places together, and print what came out."""
    args, out, scored, source = job.settings, job.out, problem.scored(), problem.source
    info = _facts(args, trainer, problem, notes, ending)
    info["run"] = {name: (staging.plan or {})[name] for name in ("id", "data")}
    predictor = Predictor(trainer.net, trainer.loss, problem.target, problem.encoder, info)
    scores = predictor.score(scored.raw, scored.y)
    info["scores"] = finite({"on": scored.name, **scores})
    evidence = collect_evidence(
        predictor,
        scored.raw,
        scored.y,
        history=trainer.history,
        # Whoever ends a training waits for its results; and trees know the rows that they were trained on by heart.
        trained=None if ending.status or scored.name == "training rows" else problem.trained(args.seed),
        numbers=scored.numbers,
        image_shape=source.image_shape,
        seed=args.seed,
    )
    train = problem.parts["train"]
    points = (source.raw[train], problem.y[train]) if source.kind == "points" else None
    written = [path.name for path in write_results(staging.path, predictor, trainer.history, points, evidence)]
    if args.report:
        run = dataclasses.replace(read_run(staging.path), folder=out, name=out.resolve().name)
        written.append(write_report(run, staging.path / "report.html").name)
    staging.commit(written, remove=superseded(out, written), keep=ending.resumable)
    files = [out / name for name in written]
    if args.json:
        print_json({**info, "parameters": predictor.net.n_params, "files": [str(path) for path in files]})
        return
    why = f": {ending.why}" if ending.why else ""
    print(f"{len(trainer.history)} epochs in {ending.seconds:.1f} s{why}", end="\n\n")
    for line in leaks(problem.findings or ()):
        print(line)
    report_scores(predictor, scores, scored.name)
    report_baselines(evidence)
    print()
    for path in files:
        print(f"wrote {printable(str(path))}")
    if ending.resumable:
        print(f"to go on: xpnn train --resume {out}")


def _tell_finished(job: Job) -> int:
    """Say that nothing is left to do."""
    info = job.finished or {}
    if job.settings.json:
        files = dict.fromkeys((*FILES, *info.get("run", {}).get("files", ())))
        print_json({**info, "files": [str(job.out / name) for name in files]})
    else:
        print(f"the run in {job.out} has ended, after {info['epochs']} epochs: nothing is left to do")
    return 0
