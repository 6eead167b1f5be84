"""``xpnn train``: from a data set to a saved model, with nothing to choose and everything to change."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import schedules
from ..backend import get_backend
from ..data.batching import stratified_indices
from ..data.scaling import Standardizer
from ..data.tabular import ClassTarget, NumberTarget, TableEncoder, infer_task
from ..errors import BackendUnavailableError, OptionError
from ..files import atomic_path
from ..losses import CrossEntropy, Huber, Loss, MeanAbsoluteError, MeanSquaredError
from ..model import mlp
from ..optim import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, NAdam, Optimizer, RMSProp
from ..predictor import Predictor, Target
from ..training import EMA, Callback, CSVLogger, EarlyStopping, ProgressBar, TimeLimit, Trainer
from .options import add_backend, add_json, add_network, add_table, positive, print_json, share
from .score import report_scores
from .sources import BUILTIN, Source, open_source, take
from .system import versions

__all__ = ["add_commands"]

_OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "rmsprop": RMSProp,
    "adagrad": AdaGrad,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "lion": Lion,
}
_SCHEDULES: dict[str, type[schedules.Schedule]] = {
    "constant": schedules.Constant,
    "step": schedules.StepDecay,
    "exponential": schedules.ExponentialDecay,
    "inverse": schedules.InverseTimeDecay,
    "cosine": schedules.CosineDecay,
    "restarts": schedules.WarmRestarts,
    "onecycle": schedules.OneCycle,
    "plateau": schedules.Plateau,
}
_REGRESSION: dict[str, type[Loss]] = {"mse": MeanSquaredError, "mae": MeanAbsoluteError, "huber": Huber}


@dataclass(frozen=True)
class _Recipe:
    """What is used where the command line is silent."""

    hidden: tuple[int, ...]
    activation: str
    dropout: float
    lr: float
    batch_size: int
    epochs: int
    weight_decay: float
    patience: int
    warmup: float = 0.0  # share of the epochs


# Chosen by measurement over several seeds; docs/architecture.md has the figures.  A batch size of 0 is taken from
# the number of training rows.
_RECIPES = {
    "digits": _Recipe((256, 128), "relu", 0.3, 0.001, 32, 60, 0.1, 60),
    "mnist": _Recipe((256, 128), "relu", 0.2, 0.001, 128, 25, 0.1, 25),
    "points": _Recipe((32, 32), "tanh", 0.0, 0.01, 32, 150, 0.0, 50),
    "table": _Recipe((256, 128), "silu", 0.1, 0.001, 0, 40, 0.1, 10, warmup=0.05),
}
_RECIPES["arrays"] = _RECIPES["stream"] = _RECIPES["table"]


def _batch_size(rows: int) -> int:
    """Small batches for small data: about 30 to 100 steps an epoch."""
    return next((size for most, size in ((1000, 32), (4000, 64), (10_000, 128)) if rows <= most), 256)


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "train",
        help="train a network on a data set or a file and save it",
        description="Train on a built-in data set or on a file, print the score on held-out rows, and write model, "
        "history and pictures to a folder.",
    )
    parser.add_argument("source", metavar="SOURCE", help=f"a .csv, .npz or .npy file, or one of {', '.join(BUILTIN)}")
    parser.add_argument("--target", metavar="COLUMN", help="column to predict, by name or position; y.npy for X.npy")
    parser.add_argument("--out", metavar="DIR", help="folder to write to; default runs/NAME")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_json(parser)

    group = parser.add_argument_group("data")
    group.add_argument("--test-size", type=share, default=0.2, metavar="P", help="share of rows held out; default 0.2")
    group.add_argument(
        "--test-file", metavar="FILE", help="test data in a file of their own; then no rows are held out"
    )
    group.add_argument("--test-target", metavar="FILE", help="the y.npy that goes with a --test-file X.npy")
    group.add_argument(
        "--validation",
        type=share,
        default=0.1,
        metavar="P",
        help="share of training rows that choose the best epoch; default 0.1",
    )
    group.add_argument(
        "--data-dir", metavar="DIR", help="folder with the MNIST files; default $XPNN_DATA, else a cache"
    )
    group.add_argument("--no-download", action="store_true", help="never fetch MNIST from its public mirrors")
    group.add_argument(
        "--task",
        choices=["auto", "classification", "regression"],
        default="auto",
        help="told from the target by default",
    )
    group.add_argument("--class-weight", choices=["none", "balanced"], default="none", help="weigh rare classes up")
    add_table(parser)
    parser.add_argument("--drop", default="", metavar="COLUMNS", help="columns to leave out, with commas")
    parser.add_argument("--categorical", default="", metavar="COLUMNS", help="columns of numbers that are categories")
    parser.add_argument("--numeric", default="", metavar="COLUMNS", help="columns to read as numbers")
    parser.add_argument(
        "--bins",
        default="auto",
        metavar="N",
        help="bins of the piecewise-linear encoding of each number; auto or 0 for none",
    )
    add_network(parser)

    group = parser.add_argument_group("training")
    group.add_argument("--loss", choices=["auto", *_REGRESSION], default="auto", help="for regression; default mse")
    group.add_argument("--optimizer", choices=list(_OPTIMIZERS), default="adamw")
    group.add_argument("--lr", type=float, metavar="X", help="learning rate")
    group.add_argument("--schedule", choices=list(_SCHEDULES), default="cosine", help="of the learning rate")
    group.add_argument("--warmup", type=float, metavar="EPOCHS", help="epochs of linear warm-up")
    group.add_argument("--batch-size", type=positive, metavar="N")
    group.add_argument("--epochs", type=positive, metavar="N", help="at most so many passes over the data")
    group.add_argument("--patience", type=positive, metavar="N", help="epochs without improvement before stopping")
    group.add_argument("--weight-decay", type=float, metavar="X")
    group.add_argument("--label-smoothing", type=share, default=0.0, metavar="P")
    group.add_argument("--clip-norm", type=float, metavar="X", help="largest norm of all gradients")
    group.add_argument("--clip-value", type=float, metavar="X", help="largest absolute gradient")
    group.add_argument(
        "--ema", type=share, default=0.0, metavar="D", help="average the weights with this decay a step; 0 for none"
    )
    group.add_argument("--max-seconds", type=float, metavar="S", help="stop at the end of the epoch after so long")
    group.add_argument("--seed", type=int, default=0, help="of splits, weights, shuffles and dropout; default 0")
    add_backend(group)
    parser.set_defaults(run=run_train)


def run_train(args: argparse.Namespace) -> int:
    """Train, score and save."""
    backend = get_backend(args.backend, args.dtype)
    source = open_source(args)
    recipe = _RECIPES[source.kind]
    say = _silent if args.json else print

    task = args.task
    if task == "auto":
        task, why = infer_task(source.y)
        say(f"{task}: {why}")
    target: Target = ClassTarget(strip=args.strip_target or "") if task == "classification" else NumberTarget()
    for note in source.notes:
        say(note)

    parts = _split(source, args, task)
    target.fit(source.y[parts["train"]] if isinstance(target, NumberTarget) else source.y)
    encoder = _fit_encoder(source, parts["train"], args)
    for note in getattr(encoder, "notes", []):
        say(note)

    if source.raw_test is not None:
        _check_test_file(source, encoder, target, args)

    X, y = _encoded(source, encoder, target, parts["train"])
    valid: dict[str, Any] = {}
    if source.kind == "stream":
        valid = {"validation_fraction": args.validation}
    elif len(parts["valid"]):
        X_val, y_val = _encoded(source, encoder, target, parts["valid"])
        valid = {"X_val": X_val, "y_val": y_val}

    loss = _loss(task, args)
    n_out = len(target.classes) if isinstance(target, ClassTarget) else 1
    hidden = list(recipe.hidden) if args.hidden is None else args.hidden
    net = mlp(
        [X.shape[1], *hidden, n_out],
        args.activation or recipe.activation,
        norm=None if args.norm == "none" else args.norm,
        dropout=_given(args.dropout, recipe.dropout),
        residual=args.residual,
        init=args.init,
        backend=backend,
        seed=args.seed,
    )
    say(f"{len(X):,} training rows, {X.shape[1]} inputs, {net.n_params:,} parameters, {backend.spec} {args.dtype}")

    epochs = args.epochs or recipe.epochs
    out = Path(args.out or Path("runs", source.name))
    trainer = Trainer(
        net,
        loss,
        _OPTIMIZERS[args.optimizer](
            _given(args.lr, recipe.lr), weight_decay=_given(args.weight_decay, recipe.weight_decay)
        ),
        schedule=_schedule(args, _given(args.warmup, recipe.warmup * epochs), bool(valid)),
        clip_norm=args.clip_norm,
        clip_value=args.clip_value,
        metrics=("accuracy",) if task == "classification" else ("rmse",),
        callbacks=_callbacks(args, recipe, out, bool(valid)),
        seed=args.seed,
    )
    began = time.perf_counter()
    interrupted = False
    try:
        trainer.fit(
            X,
            y,
            epochs=epochs,
            batch_size=args.batch_size or recipe.batch_size or _batch_size(len(X)),
            class_weight=None if args.class_weight == "none" else "balanced",
            **valid,
        )
    except KeyboardInterrupt:
        interrupted = True
        print("interrupted: the best weights so far are kept", file=sys.stderr)
    seconds = time.perf_counter() - began

    info = {
        "source": args.source,
        "target": source.target_name,
        "epochs": trainer.epoch,
        "seconds": round(seconds, 3),
        "stopped": "interrupted" if interrupted else trainer.stop_reason,
        "options": {k: v for k, v in vars(args).items() if k not in ("run", "command", "json") and v is not None},
        "versions": versions(),
    }
    predictor = Predictor(net, loss, target, encoder, info)
    scores, scored_on = _score(source, parts, predictor, args)
    info["scores"] = {"on": scored_on, **scores}
    written = _write(out, predictor, trainer, scores)
    if args.json:
        print_json({**info, "parameters": net.n_params, "files": [str(p) for p in written]})
        return 130 if interrupted else 0
    say(f"{trainer.epoch} epochs in {seconds:.1f} s" + (f": {trainer.stop_reason}" if trainer.stop_reason else ""))
    say()
    report_scores(predictor, scores, scored_on)
    say()
    for path in written:
        say(f"wrote {path}")
    return 130 if interrupted else 0


def _silent(*_: object) -> None:
    """Print nothing: --json prints one object alone."""


def _given(value: Any, default: Any) -> Any:
    return default if value is None else value


# -- data -------------------------------------------------------------------------------------------------------
def _split(source: Source, args: argparse.Namespace, task: str) -> dict[str, np.ndarray]:
    """Divide the rows: test first, then validation, the rest to train on."""
    rows = np.arange(len(source.y))
    none = rows[:0]

    def draw(among: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        if not fraction:
            return among, none
        by = source.y[among] if task == "classification" else len(among)
        rest, drawn = stratified_indices(by, fraction, seed)
        return among[rest], among[drawn]

    test = none
    if source.raw_test is None and source.kind != "stream":
        rows, test = draw(rows, args.test_size, args.seed)
    valid = none
    if source.kind != "stream":
        rows, valid = draw(rows, args.validation, args.seed + 1)
    return {"train": rows, "valid": valid, "test": test}


def _fit_encoder(source: Source, rows: np.ndarray, args: argparse.Namespace) -> TableEncoder | Standardizer | None:
    """Fit the encoding on training rows alone; images (0 to 1) and streams are taken as they are."""
    if source.kind == "table":
        bins: Any = args.bins
        if bins != "auto":
            try:
                bins = int(bins)
            except ValueError:
                raise OptionError(f"--bins: expected a whole number or auto, got {bins!r}. Try auto.") from None
        encoder = TableEncoder(bins=bins, categorical=_names(args.categorical), numeric=_names(args.numeric))
        return encoder.fit(take(source.raw, rows))
    if source.kind in ("points", "arrays"):
        return Standardizer().fit(np.asarray(source.raw)[rows].reshape(len(rows), -1))
    return None


def _check_test_file(source: Source, encoder: Any, target: Target, args: argparse.Namespace) -> None:
    """Encode the test data before training, so that what does not fit is said at once."""
    y_test = np.asarray(source.y_test)
    if isinstance(target, ClassTarget):
        target.encode(y_test, strip=args.strip_target)
    else:
        target.encode(y_test)
    if isinstance(encoder, TableEncoder):
        encoder.transform(source.raw_test)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _encoded(source: Source, encoder: Any, target: Target, rows: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return rows as the network takes them."""
    y = target.encode(source.y[rows])
    if source.kind == "stream":
        return source.raw, y
    raw = take(source.raw, rows)
    if not isinstance(raw, dict):
        raw = raw.reshape(len(raw), -1)
    return (raw if encoder is None else encoder.transform(raw)), y


def _score(
    source: Source, parts: dict[str, np.ndarray], predictor: Predictor, args: argparse.Namespace
) -> tuple[dict[str, Any], str]:
    """Score on test rows, else on validation rows, else on training rows, and say which."""
    if source.raw_test is not None and source.y_test is not None:
        return predictor.score(source.raw_test, source.y_test, strip=args.strip_target), "test file"
    part = next(part for part in ("test", "valid", "train") if len(parts[part]))
    name = {"test": "test rows", "valid": "validation rows", "train": "training rows"}[part]
    return predictor.score(take(source.raw, parts[part]), source.y[parts[part]]), name


# -- training ---------------------------------------------------------------------------------------------------
def _loss(task: str, args: argparse.Namespace) -> Loss:
    if task == "classification":
        if args.loss != "auto":
            raise OptionError(f"--loss {args.loss}: expected a regression target, got classes. Leave --loss out.")
        return CrossEntropy(label_smoothing=args.label_smoothing)
    return _REGRESSION["mse" if args.loss == "auto" else args.loss]()


def _schedule(args: argparse.Namespace, warmup: float, validates: bool) -> schedules.Schedule:
    if args.schedule == "plateau" and not validates:
        raise OptionError("--schedule plateau: expected validation rows, got none. Raise --validation.")
    schedule = _SCHEDULES[args.schedule]()
    return schedules.Warmup(schedule, duration=warmup) if warmup else schedule


def _callbacks(args: argparse.Namespace, recipe: _Recipe, out: Path, validates: bool) -> list[Callback]:
    callbacks: list[Callback] = []
    if args.ema:
        callbacks.append(EMA(args.ema))
    if validates:
        callbacks.append(EarlyStopping("val_loss", args.patience or recipe.patience))
    if args.max_seconds:
        callbacks.append(TimeLimit(args.max_seconds))
    callbacks.append(CSVLogger(out / "history.csv"))
    if not (args.quiet or args.json):
        callbacks.append(ProgressBar())
    return callbacks


# -- results ----------------------------------------------------------------------------------------------------
def _write(out: Path, predictor: Predictor, trainer: Trainer, scores: dict[str, Any]) -> list[Path]:
    """Write model, history, scores and pictures; return their paths."""
    import json

    paths = [out / "model.safetensors", out / "scores.json"]
    predictor.save(paths[0])
    with atomic_path(paths[1]) as temporary:
        temporary.write_text(json.dumps(predictor.info, indent=1))
    if not len(trainer.history):
        return paths
    paths.append(out / "history.csv")
    try:
        paths += _pictures(out, predictor, trainer, scores)
    except BackendUnavailableError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    return paths


def _pictures(out: Path, predictor: Predictor, trainer: Trainer, scores: dict[str, Any]) -> list[Path]:
    from .. import plots

    written = [plots.save_figure(plots.history_figure(trainer.history), out / "history.png")]
    if isinstance(predictor.target, ClassTarget) and len(predictor.target.classes) <= 30:
        names = [str(label) for label in predictor.target.classes]
        ax = plots.plot_confusion_matrix(np.asarray(scores["confusion"]), class_names=names)
        written.append(plots.save_figure(ax, out / "confusion.png"))
    return written
