"""``xpnn predict`` and ``xpnn evaluate``: a saved model meets new data."""

from __future__ import annotations

import argparse
import contextlib
import csv
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..arguments import printable
from ..backend import get_backend
from ..data.arrays import take_rows
from ..data.columns import is_number, quote
from ..data.csv import Table
from ..data.encoder import TableEncoder
from ..data.targets import ClassTarget
from ..errors import DataError, OptionError
from ..files import atomic_path
from ..predictor import Predictor
from .options import add_backend, add_json, add_table, print_json, share
from .recipe import refuse_idle
from .results import report_scores
from .sources import (
    BUILTIN,
    Kind,
    Reading,
    check_names,
    flat,
    kind_of,
    names,
    open_builtin,
    position_notes,
    read_arrays,
    read_table,
    stem_of,
)

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
    evaluate.add_argument(
        "--target",
        metavar="COLUMN",
        help="column of a table, default as in training; array in an .npz file, default y; y.npy for X.npy",
    )
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
    backend = args.backend if args.dtype is None else get_backend(args.backend, args.dtype)
    predictor = Predictor.load(args.model, backend=backend)
    refuse_idle(args, kind_of(args.file), _ACTS_ON, args.file)
    return predictor


def read_raw(args: argparse.Namespace, predictor: Predictor, *, targets: bool, remarks: bool = True) -> tuple[Any, Any]:
    """Read a file as the model wants it: (raw, y or None); say on stderr what is made of gaps and new categories."""
    kind = kind_of(args.file)
    if args.file in BUILTIN:
        return _held_out(args, predictor)
    wants_table = isinstance(predictor.encoder, TableEncoder)
    if wants_table and kind != "table":
        raise OptionError(
            f"expected a table, as in training, got the arrays {args.file}. Pass a .csv file with the same columns."
        )
    if not wants_table and kind == "table":
        raise OptionError(
            f"expected arrays, as in training, got the table {args.file}. Pass an .npz or .npy file with "
            f"{predictor.net.n_in} columns."
        )
    target = None
    if targets:
        target = args.target or (predictor.info.get("target") if wants_table else "y" if kind == "arrays" else None)
        if target is None:
            raise OptionError(f"expected the target of {args.file}, got none. Add --target.")
    if not wants_table:
        X, y = read_arrays(args.file, target)
        return flat(X), y
    trained = _trained_table(predictor)
    reading = Reading.of(args, predictor.info.get("options"))
    if not trained.header and reading.header is None:
        reading = reading._replace(header="no")
    table = read_table(args.file, reading, target, like=trained)
    if not table.header and "columns" not in predictor.info and not all(map(str.isdecimal, trained.names)):
        raise DataError(
            f"{args.file}: expected a header, got none, and this model does not know the order of its columns. "
            "Write one, or train again."
        )
    for note in position_notes(table, trained, args.file):
        print(note, file=sys.stderr)
    if remarks and isinstance(predictor.encoder, TableEncoder):
        for remark in predictor.encoder.remarks(table):
            print(printable(remark), file=sys.stderr)
    return table, None if target is None else table.cells[str(table.target_name)]


def _trained_table(predictor: Predictor) -> Table:
    """Return what is known of the table of the training: its columns, all of which are left as they are written."""
    target, columns = predictor.info.get("target"), predictor.info.get("columns")
    if not (isinstance(columns, list) and all(isinstance(name, str) for name in columns)):  # of an older xpnn
        columns = [*getattr(predictor.encoder, "feature_names_in", []), *([target] if isinstance(target, str) else [])]
    header = predictor.info.get("header") is not False
    return Table(columns, dict.fromkeys(columns, np.empty(0)), target, header=header)


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
    raw, _ = read_raw(args, predictor, targets=False)
    out = predictor.predict_proba(raw)
    header, columns = ["prediction"], [predictor.decode(out).tolist()]
    if args.proba and isinstance(predictor.target, ClassTarget):
        header += [f"p({label})" for label in predictor.target.classes]
        columns += [[f"{p:.6g}" for p in column] for column in out.T]
    if args.interval is not None:
        bounds = predictor.predict_interval(raw, args.interval)
        header += ["lower", "upper"]
        columns += [bounds[:, 0].tolist(), bounds[:, 1].tolist()]
    kept = _kept(args, predictor, raw)
    header, columns = [*kept, *header], [*(["" if v is None else v for v in c] for c in kept.values()), *columns]
    rows = zip(*columns, strict=True)
    _warn_of_formulas([label for column in columns for label in column])
    if args.out == "-":
        with getattr(sys.stdout, "raw", contextlib.nullcontext)():
            _write(sys.stdout, header, rows)
        return 0
    path = Path(args.out or f"{stem_of(args.file)}-predictions.csv").expanduser()
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        _write(file, header, rows)
    print(f"{len(out):,} predictions written to {printable(str(path))}")
    return 0


def _kept(args: argparse.Namespace, predictor: Predictor, raw: Any) -> dict[str, list[Any]]:
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
    return {name: raw.written[name].tolist() for name in found if name in raw.names}


def _write(file: TextIO, header: list[str], rows: Iterable[Any]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


# What a spreadsheet takes for the beginning of a formula, the wide forms of East Asian texts too.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


def _warn_of_formulas(predictions: list[Any]) -> None:
    """Say which labels a spreadsheet would run; they are written as they are, for a changed label is a wrong one."""
    labels = {str(label): None for label in predictions if isinstance(label, str)}
    run = [label for label in labels if label.startswith(_FORMULA) and not is_number(label)]
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
