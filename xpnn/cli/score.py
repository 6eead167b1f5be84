"""``xpnn predict`` and ``xpnn evaluate``: a saved model meets new data."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..backend import get_backend
from ..data.csv import Table
from ..data.tabular import ClassTarget, TableEncoder
from ..errors import DataError, OptionError
from ..files import atomic_path
from ..metrics import most_confused
from ..predictor import Predictor
from .options import add_backend, add_json, add_table, print_json
from .sources import BUILTIN, is_arrays, read_arrays, read_table

__all__ = ["add_commands", "report_scores"]


def add_commands(commands: Any) -> None:
    """Add the two commands."""
    predict = commands.add_parser("predict", help="write a saved model's predictions for a file")
    predict.add_argument("model", metavar="MODEL", help="model.safetensors, from xpnn train")
    predict.add_argument("file", metavar="FILE", help="a table (.csv) or arrays (.npz, .npy) like the training data")
    predict.add_argument("--out", metavar="PATH", help="CSV to write; default FILE-predictions.csv here, - for stdout")
    predict.add_argument("--proba", action="store_true", help="also write the probability of each class")
    add_backend(predict)
    add_table(predict)
    predict.set_defaults(run=run_predict)

    evaluate = commands.add_parser("evaluate", help="score a saved model on data with known answers")
    evaluate.add_argument("model", metavar="MODEL", help="model.safetensors, from xpnn train")
    evaluate.add_argument("file", metavar="FILE", help="a table or arrays with the target, or mnist: its test images")
    evaluate.add_argument("--target", metavar="COLUMN", help="target column (or y.npy), if not the one trained on")
    evaluate.add_argument("--data-dir", metavar="DIR", help="folder with the MNIST files; default $XPNN_DATA")
    add_backend(evaluate)
    add_table(evaluate)
    add_json(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def _load(args: argparse.Namespace) -> Predictor:
    return Predictor.load(args.model, backend=get_backend(args.backend, args.dtype))


def _read(args: argparse.Namespace, predictor: Predictor, target: str | None) -> tuple[Any, Any]:
    """Read a file as the model wants it: (raw, y or None)."""
    wants_table = isinstance(predictor.encoder, TableEncoder)
    if is_arrays(args.file):
        if wants_table:
            raise OptionError(
                f"{args.file}: this model was trained on a table. Pass a .csv file with the same columns."
            )
        return read_arrays(args.file, target, targets=target is not None)
    if not wants_table:
        raise OptionError(f"{args.file}: this model was trained on arrays. Pass an .npz or .npy file.")
    table: Table = read_table(args.file, args, target)
    return table.columns, table.y


def run_predict(args: argparse.Namespace) -> int:
    """Write predictions."""
    predictor = _load(args)
    raw, _ = _read(args, predictor, None)
    out = predictor.predict_proba(raw)
    header, columns = ["prediction"], [predictor.decode(out).tolist()]
    if args.proba:
        if not isinstance(predictor.target, ClassTarget):
            raise OptionError("--proba: expected a classifier, but this model predicts numbers. Leave the option out.")
        header += [f"p({label})" for label in predictor.target.classes]
        columns += [[f"{p:.6g}" for p in column] for column in out.T]
    rows = zip(*columns, strict=True)
    if args.out == "-":
        _write(sys.stdout, header, rows)
        return 0
    path = Path(args.out or f"{Path(args.file).name.removesuffix('.gz').rpartition('.')[0]}-predictions.csv")
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        _write(file, header, rows)
    print(f"{len(columns[0])} predictions written to {path}")
    return 0


def _write(file: Any, header: list[str], rows: Any) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def run_evaluate(args: argparse.Namespace) -> int:
    """Print scores."""
    predictor = _load(args)
    if args.file in BUILTIN:
        if args.file != "mnist":
            raise OptionError(f"evaluate: {args.file} has no test file of its own. Pass a file, or mnist.")
        mnist = data.load_mnist(args.data_dir, download=False)
        raw, y = mnist.X_test, mnist.y_test
    else:
        target = args.target or predictor.info.get("target") or ("y" if Path(args.file).suffix == ".npz" else None)
        if target is None:
            raise OptionError("evaluate: expected a target. Add --target COLUMN, or y.npy for .npy files.")
        raw, y = _read(args, predictor, target)
    if y is None:
        raise DataError(f"evaluate: expected targets in {args.file}, got none. Name them with --target.")
    scores = predictor.score(raw, np.asarray(y), strip=args.strip_target)
    if args.json:
        print_json(scores)
    else:
        report_scores(predictor, scores, Path(args.file).name)
    return 0


def report_scores(predictor: Predictor, scores: dict[str, Any], name: str) -> None:
    """Print scores as a person reads them."""
    from tabulate import tabulate

    if not isinstance(predictor.target, ClassTarget):
        shown = f"RMSE {scores['rmse']:,.6g}, MAE {scores['mae']:,.6g}, R² {scores['r2']:.4f}"
        print(f"{name}: {shown} on {scores['rows']:,} rows")
        return
    shown = f"accuracy {scores['accuracy']:.2%}, cross-entropy {scores['cross_entropy']:.4f}"
    print(f"{name}: {shown} on {scores['rows']:,} rows")
    matrix, names = np.asarray(scores["confusion"]), [str(c) for c in predictor.target.classes]
    if len(names) <= 20:
        print("\nConfusion matrix (rows: truth, columns: prediction)")
        print(tabulate([[n, *row] for n, row in zip(names, matrix.tolist(), strict=True)], headers=["", *names]))
    pairs = most_confused(matrix, top=5, class_names=names)
    if pairs:
        print("\nMost confused")
        print(tabulate(pairs, headers=["truth", "taken for", "times"], disable_numparse=[0, 1]))
