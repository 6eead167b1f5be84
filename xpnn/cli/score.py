"""``xpnn predict`` and ``xpnn evaluate``: a saved model meets new data."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import printable
from ..backend import get_backend
from ..data.arrays import take_rows
from ..data.columns import is_number, plural, quote
from ..data.csv import Table
from ..data.encoder import TableEncoder
from ..data.targets import ClassTarget, NumberTargets
from ..errors import OptionError
from ..files import atomic_path
from ..predictor import Predictor
from .answers import answers_of, labels_in, probabilities, texts, write_rows
from .options import add_backend, add_json, add_table, add_target, print_json, share
from .recipe import refuse_idle
from .results import report_scores
from .sources import (
    BUILTIN,
    STDIN,
    Kind,
    cells_of,
    check_names,
    flat,
    kind_of,
    names,
    open_builtin,
    read_arrays,
    stem_of,
    targets_in,
)
from .trained import read_like_training

__all__ = ["add_commands", "read_raw"]

_ACTS_ON: dict[str, tuple[Kind, ...]] = {
    "target": ("table", "arrays", "stream"),
    "data_dir": ("mnist",),
    **dict.fromkeys(("header", "delimiter", "missing", "encoding", "comment", "sheet"), ("table",)),
}


def add_commands(commands: Any) -> None:
    """Add the two commands."""
    predict = commands.add_parser(
        "predict",
        usage="xpnn predict MODEL FILE [options]",
        help="write a saved model's predictions for a file",
        description="Write a CSV file with a header and one prediction for each row of FILE, in its order.",
    )
    evaluate = commands.add_parser(
        "evaluate",
        usage="xpnn evaluate MODEL FILE [options]",
        help="score a saved model on data with known answers",
        description="Print how well a model predicts the target of FILE.",
    )
    text = (
        "column of a table, default as in training, given once for each of several; array in an .npz file, default y; "
        "y.npy for X.npy"
    )
    add_target(evaluate, text)
    predict.add_argument("--out", metavar="PATH", help="CSV to write; default FILE-predictions.csv here, - for stdout")
    predict.add_argument("--proba", action="store_true", help="also write the probability of each class")
    text = "of numbers, also write bounds that hold the true value in this share of rows, such as 0.9"
    predict.add_argument("--interval", type=_coverage, metavar="P", help=text)
    text = "columns of FILE to write beside the predictions, with commas; default as in training, '' for none"
    predict.add_argument("--keep", metavar="COLUMNS", help=text)
    for command in (predict, evaluate):
        command.add_argument("model", metavar="MODEL", help="model.safetensors, from xpnn train")
        command.add_argument(
            "file",
            metavar="FILE",
            help="a table (.csv, .parquet, .xlsx, …; - reads it from stdin) or arrays (.npz, .npy) like those of "
            "the training; or, for a model trained on one of "
            f"{', '.join(BUILTIN)}, that name: the rows that training held out",
        )
        command.add_argument("--data-dir", metavar="DIR", help="folder with the MNIST files; default $XPNN_DATA")
        add_backend(command, "that of the training")
        add_table(command, labels=command is evaluate, trained=True)
    add_json(evaluate)
    predict.set_defaults(run=run_predict)
    evaluate.set_defaults(run=run_evaluate)


def _coverage(text: str) -> float:
    value = share(text)
    if not value:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and below 1, got {text!r}")
    return value


def _load(args: argparse.Namespace) -> Predictor:
    """Read the model; refuse options that do nothing for the file."""
    model, file = Path(args.model).expanduser(), Path(args.file).expanduser()
    if (file.is_dir() or file.suffix == ".safetensors") and model.is_file() and model.suffix != ".safetensors":
        raise OptionError(f"expected a model, then its data, got {args.model} and then {args.file}. Turn them round.")
    backend = args.backend if args.dtype is None else get_backend(args.backend, args.dtype)
    predictor = Predictor.load(args.model, backend=backend)
    refuse_idle(args, kind_of(args.file), _ACTS_ON, args.file)
    return predictor


def read_raw(args: argparse.Namespace, predictor: Predictor, *, targets: bool, remarks: bool = True) -> tuple[Any, Any]:
    """Read a file as the model wants it: (raw, y or None); say on stderr what is made of gaps and new categories."""
    kind = kind_of(args.file)
    if args.file in BUILTIN:
        return _held_out(args, predictor)
    encoder, by_place = predictor.encoder, bool(predictor.info.get("by_position"))
    wants_table = isinstance(encoder, TableEncoder) and not by_place
    if wants_table and kind != "table":
        raise OptionError(
            f"expected a table, as in training, got the arrays {args.file}. Pass a .csv file with the same columns."
        )
    if not wants_table and kind == "table":
        raise OptionError(
            f"expected arrays, as in training, got the table {args.file}. Pass an .npz or .npy file with "
            f"{len(predictor.info['features']) if by_place else predictor.net.n_in} columns."
        )
    target = None
    if targets:
        target = args.target or (predictor.info.get("target") if wants_table else "y" if kind == "arrays" else None)
        if target is None:
            raise OptionError(f"expected the target of {args.file}, got none. Add --target.")
        several = len(predictor.target.targets) if isinstance(predictor.target, NumberTargets) and wants_table else 1
        given = len(target) if isinstance(target, list) else 1
        if given != several:
            raise OptionError(
                f"--target: expected {plural(several, 'column')}, as in training, got {given}. Name each with --target."
            )
    if not wants_table:
        X, y = read_arrays(args.file, target)
        X = flat(X)
        if remarks and by_place:
            _remark(encoder, predictor.columns(X))
        return X, y
    table = read_like_training(args, predictor, args.file, target)
    if remarks:
        _remark(encoder, table)
        moved = None if predictor.schema is None else predictor.drift(table)
        if moved is not None and (new := [name for name in moved.unused if name not in _asked_for(args, table)]):
            print(printable(f"columns that training did not have are not used: {quote(new, 10)}"), file=sys.stderr)
        if moved is not None and (far := moved.warning()):
            told = f"; see xpnn check {shlex.quote(args.file)} --model {shlex.quote(args.model)}"
            print(printable(f"warning: {far}{told if args.file != STDIN else ''}"), file=sys.stderr)
    if target is None:
        return table, None
    found, trained = targets_in(table, target), predictor.target_names
    return table, cells_of(table, trained if set(found) == set(trained) else found)


def _asked_for(args: argparse.Namespace, table: Table) -> list[str]:
    """Return the columns that are named as something else than what is learned from."""
    keep = getattr(args, "keep", None)
    return [*names(keep, table.names), *([table.target_name] if table.target_name else [])]


def _remark(encoder: Any, columns: Any) -> None:
    """Say what is made of gaps and of categories that training did not have."""
    for remark in encoder.remarks(columns) if isinstance(encoder, TableEncoder) else ():
        print(printable(remark), file=sys.stderr)


def _held_out(args: argparse.Namespace, predictor: Predictor) -> tuple[Any, Any]:
    """Make a built-in data set again and return the rows that training did not see."""
    trained = predictor.info.get("options", {})
    if predictor.info.get("source") != args.file or "test_size" not in trained:
        raise OptionError(
            f"expected a model that `xpnn train {args.file}` wrote, got one of {predictor.info.get('source')}. "
            "Pass a file with rows like those of its training."
        )
    source = open_builtin(args.file, trained["seed"], args.data_dir, download=False)
    if source.raw_test is not None:
        return source.raw_test, source.y_test
    labels = predictor.target.encode(source.y) if isinstance(predictor.target, ClassTarget) else None
    rows = source.split(labels, trained["test_size"], 0.0, trained["seed"])
    if not len(rows["test"]):
        raise OptionError(f"expected rows of {args.file} that training held out, got --test-size 0. Pass a file.")
    return take_rows(source.raw, rows["test"]), source.y[rows["test"]]


def run_predict(args: argparse.Namespace) -> int:
    """Write predictions."""
    predictor = _load(args)
    if args.proba and not isinstance(predictor.target, ClassTarget):
        raise OptionError("--proba: expected a classifier, got a model of numbers. Leave the option out.")
    if args.interval is not None:
        predictor.check_coverage(args.interval)
    raw, _ = read_raw(args, predictor, targets=False)
    kept = _kept(args, predictor, raw)
    out, bounds = _answered(predictor, raw, args.interval)
    _warn_of_formulas(labels_in(predictor, out, kept))
    alone = not (kept or args.proba or args.interval is not None)
    header, columns = answers_of(predictor, out, bounds, alone=alone)
    if args.proba and isinstance(predictor.target, ClassTarget):
        header += [f"p({label})" for label in predictor.target.classes]
        columns += [probabilities(column) for column in out.T]
    header, columns = [*kept, *header], [*map(texts, kept.values()), *columns]
    if args.out == "-":
        with getattr(sys.stdout, "raw", contextlib.nullcontext)():
            write_rows(lambda block: sys.stdout.write(block.decode()), header, columns, len(out))
        return 0
    path = Path(args.out or f"{stem_of(args.file)}-predictions.csv").expanduser()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_rows(file.write, header, columns, len(out))
    print(f"{len(out):,} predictions written to {printable(str(path))}")
    return 0


def _answered(predictor: Predictor, raw: Any, coverage: float | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return what the network says of rows, and bounds of that coverage where they are asked for; rows pass it once."""
    if coverage is None:
        return predictor.predict_proba(raw), None
    X = predictor.inputs(raw)
    out = predictor.linked(X)
    return out, predictor.bounds(X, out, coverage)


def _kept(args: argparse.Namespace, predictor: Predictor, raw: Any) -> dict[str, Any]:
    """Return the columns to write beside the predictions, as they are written in the file."""
    if not isinstance(raw, Table):
        if args.keep:
            raise OptionError("--keep: expected a table with columns to keep, got arrays. Leave the option out.")
        return {}
    asked = args.keep is not None
    given = args.keep if asked else predictor.info.get("options", {}).get("keep")
    found = names(given if isinstance(given, str) else None, raw.names)
    if asked:
        check_names("--keep", found, raw.names)
    return {name: raw.written[name] for name in found if name in raw.names}


# What a spreadsheet takes for the beginning of a formula, the wide forms of East Asian texts too.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def _warn_of_formulas(labels: Iterable[str]) -> None:
    """Say which labels a spreadsheet would run; they are written as they are, for a changed label is a wrong one."""
    run = [label for label in dict.fromkeys(labels) if label.startswith(_FORMULA) and not is_number(label)]
    if run:
        text = (
            f"note: a spreadsheet would take {quote(run)} for a formula. Labels are written as they are: before you "
            "open the file there, have the column read as text."
        )
        print(printable(text), file=sys.stderr)


def run_evaluate(args: argparse.Namespace) -> int:
    """Print scores."""
    predictor = _load(args)
    if args.strip_target is not None and not isinstance(predictor.target, ClassTarget):
        raise OptionError("--strip-target: expected a classifier, got a model of numbers. Leave the option out.")
    raw, y = read_raw(args, predictor, targets=True)
    scores = predictor.score(raw, np.asarray(y), strip=args.strip_target)
    if args.json:
        print_json({"file": args.file, **scores})
    else:
        report_scores(predictor, scores, Path(args.file).name)
    return 0
