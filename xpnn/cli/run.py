"""One training run: from a data set to a saved model, with nothing to choose and everything to change."""

from __future__ import annotations

import argparse
import datetime
import itertools
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import schedules
from ..backend import Backend, get_backend
from ..data.scaling import Standardizer
from ..data.tabular import ClassTarget, NumberTarget, TableEncoder, infer_task
from ..errors import DataError, DivergenceError, OptionError, ShapeError
from ..losses import CrossEntropy, Loss
from ..model import Sequential, mlp
from ..predictor import Predictor, Target
from ..report import check_requirements, collect_evidence, read_run, write_report
from ..search.configuration import OPTIMIZERS
from ..training import EMA, Callback, CSVLogger, EarlyStopping, ProgressBar, TimeLimit, Trainer
from .options import finite, in_options, print_json
from .recipe import LOSSES, SCHEDULES, check_task, rows_a_batch, settle
from .results import image_shape, machine, report_scores, write_results
from .sources import Source, names, open_source, take
from .system import versions

__all__ = ["run_train"]


def run_train(args: argparse.Namespace) -> int:
    """Train, score and save."""
    settle(args)
    if args.report:
        check_requirements("--report")
    # "auto" waits for the size of the network; a wrong name does not wait.
    backend: str | Backend = "auto" if args.backend == "auto" else get_backend(args.backend, args.dtype)
    source = open_source(args)
    notes: list[str] = []

    def say(*texts: str) -> None:
        notes.extend(texts)
        if not args.json:
            print(*texts, sep="\n", end="\n" if texts else "")

    task = args.task
    if task == "auto":
        task, why = infer_task(source.y)
        say(f"{task}: {why}")
    check_task(args, task)
    say(*source.notes)
    parts = source.split(args.test_size, args.validation_size, args.seed, by_class=task == "classification")
    target: Target = ClassTarget(strip=args.strip_target or "") if task == "classification" else NumberTarget()
    target.fit(source.y[parts["train"]] if isinstance(target, NumberTarget) else source.y)
    encoder = _fit_encoder(source, parts["train"], args)
    say(*getattr(encoder, "notes", []), *_check_test_file(source, encoder, target))
    if isinstance(target, NumberTarget):
        say(f"losses are in units of the target's standard deviation, {target.std:.6g}; scores in the target's own")

    X, y = _encoded(source, encoder, target, parts["train"])
    n_out = len(target.classes) if isinstance(target, ClassTarget) else 1
    net = _network(args, X.shape[1], n_out, backend)
    out = Path(args.out or Path("runs", source.name)).expanduser()
    args.batch_size = args.batch_size or rows_a_batch(len(parts["train"]))
    trainer = Trainer(
        net,
        CrossEntropy(label_smoothing=args.label_smoothing) if task == "classification" else _regression_loss(args),
        OPTIMIZERS[args.optimizer](args.lr, weight_decay=args.weight_decay),
        schedule=_schedule(args),
        clip_norm=args.clip_norm,
        clip_value=args.clip_value,
        metrics=("accuracy",) if task == "classification" else ("rmse",),
        callbacks=_callbacks(args, out),
        seed=args.seed,
    )
    say(
        f"{len(parts['train']):,} training rows, {X.shape[1]} inputs, {net.n_params:,} parameters, "
        f"{net.backend.spec} {args.dtype}"
    )
    _check_folder(out)
    sys.stdout.flush()  # so that a log file shows what is decided before training begins
    status, seconds, ended = _fit(
        trainer,
        lambda: trainer.fit(
            X,
            y,
            epochs=args.epochs,
            batch_size=args.batch_size,
            class_weight=None if args.class_weight == "none" else "balanced",
            **_validation(source, encoder, target, parts["valid"], args.validation_size),
        ),
    )
    if not len(trainer.history):
        print("interrupted in the first epoch: nothing is saved", file=sys.stderr)
        return status

    info = {
        "source": args.source,
        "target": source.target_name,
        "epochs": len(trainer.history),
        "seconds": round(seconds, 3),
        "stopped": ended,
        "best_epoch": next((c.best_epoch for c in trainer.callbacks if isinstance(c, EarlyStopping)), None),
        "options": {k: v for k, v in vars(args).items() if k not in _NO_SETTINGS and v is not None},
        "notes": notes,
        "command": shlex.join(["xpnn", *args.argv]),
        "finished": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": versions(),
        "machine": machine(net.backend),
    }
    predictor = Predictor(net, trainer.loss, target, encoder, info)
    scored = _scored(source, parts)
    scores, scored_on = predictor.score(scored.raw, scored.y), scored.name
    info["scores"] = finite({"on": scored_on, **scores})
    evidence = collect_evidence(
        predictor,
        scored.raw,
        scored.y,
        history=trainer.history,
        numbers=scored.numbers,
        image_shape=image_shape(source.kind, args.source),
        seed=args.seed,
    )
    points = (source.raw[parts["train"]], y) if source.kind == "points" else None
    written = write_results(out, predictor, trainer, scores, points, evidence)
    if args.report:
        written.append(write_report(read_run(out), out / "report.html"))
    if args.json:
        print_json({**info, "parameters": net.n_params, "files": [str(path) for path in written]})
        return status
    print(f"{len(trainer.history)} epochs in {seconds:.1f} s" + (f": {ended}" if ended else ""), end="\n\n")
    report_scores(predictor, scores, scored_on)
    print()
    for path in written:
        print(f"wrote {path}")
    return status


# what does not change the result
_NO_SETTINGS = ("run", "command", "argv", "json", "quiet", "out", "report")


# -- data -------------------------------------------------------------------------------------------------------
def _fit_encoder(source: Source, rows: np.ndarray, args: argparse.Namespace) -> TableEncoder | Standardizer | None:
    """Fit the encoding on training rows alone; images (0 to 1) and streams are taken as they are."""
    if source.kind == "table":
        encoder = TableEncoder(bins=args.bins, categorical=names(args.categorical), numeric=names(args.numeric))
        return encoder.fit(take(source.raw, rows))
    if source.kind in ("points", "arrays"):
        return Standardizer().fit(take(source.raw, rows))
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


def _encoded(source: Source, encoder: Any, target: Target, rows: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return rows as the network takes them; a stream whole, for its trainer holds rows out by itself."""
    if source.kind == "stream":
        return source.raw, target.encode(source.y)
    raw = take(source.raw, rows)
    return (raw if encoder is None else encoder.transform(raw)), target.encode(source.y[rows])


def _validation(source: Source, encoder: Any, target: Target, rows: np.ndarray, size: float) -> dict[str, Any]:
    """Return what tells `Trainer.fit` the validation rows."""
    if source.kind == "stream":
        return {"validation_fraction": size}
    if not len(rows):
        return {}
    return dict(zip(("X_val", "y_val"), _encoded(source, encoder, target, rows), strict=True))


class _Scored(NamedTuple):
    raw: Any
    y: np.ndarray
    name: str
    numbers: np.ndarray | None  # places of the rows in the data, from 1; None where they are all of them


def _scored(source: Source, parts: dict[str, np.ndarray]) -> _Scored:
    """Return the rows to score on: test rows, else validation rows, else training rows."""
    if source.raw_test is not None and source.y_test is not None:
        name = "test file" if source.kind != "mnist" else "test images"
        return _Scored(source.raw_test, source.y_test, name, None)
    part = next(part for part in ("test", "valid", "train") if len(parts[part]))
    name = {"test": "test rows", "valid": "validation rows", "train": "training rows"}[part]
    if len(parts[part]) == len(source.y):  # all: a stream need not be copied
        return _Scored(source.raw, source.y, name, None)
    return _Scored(take(source.raw, parts[part]), source.y[parts[part]], name, parts[part] + 1)


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


def _regression_loss(args: argparse.Namespace) -> Loss:
    return LOSSES["mse" if args.loss == "auto" else args.loss]()


def _schedule(args: argparse.Namespace) -> schedules.Schedule:
    schedule = SCHEDULES[args.schedule]()
    return schedules.Warmup(schedule, duration=args.warmup) if args.warmup else schedule


def _callbacks(args: argparse.Namespace, out: Path) -> list[Callback]:
    callbacks: list[Callback] = []
    if args.ema:
        callbacks.append(EMA(args.ema))
    if args.validation_size:
        callbacks.append(EarlyStopping("val_loss", args.patience))
    if args.max_seconds is not None:
        callbacks.append(TimeLimit(args.max_seconds))
    callbacks.append(CSVLogger(out / "history.csv"))
    if not args.quiet:
        callbacks.append(ProgressBar())
    return callbacks


def _check_folder(out: Path) -> None:
    """Say before training, and not after it, that the results could not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(
            f"--out: expected a folder that can be written to, got {out} ({error.strerror}). Choose another."
        ) from error


def _fit(trainer: Trainer, fit: Callable[[], object]) -> tuple[int, float, str | None]:
    """Run `fit`; return exit status, seconds, and why it ended early, if it did.

    Ctrl-C, or a loss that is not finite, leaves the best weights so far in the network: they are worth keeping.
    """
    began = time.perf_counter()
    status, ended = 0, None
    try:
        fit()
        ended = trainer.stop_reason
    except KeyboardInterrupt:
        status, ended = 130, "interrupted"
        if len(trainer.history):
            print("interrupted: the best weights so far are kept", file=sys.stderr)
    except DivergenceError as error:
        if not len(trainer.history):
            raise
        status, ended = 2, "diverged"
        print(f"xpnn train: {in_options(str(error))} The best weights so far are kept.", file=sys.stderr)
    return status, time.perf_counter() - began, ended
