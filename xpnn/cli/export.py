"""``xpnn export``: a trained model as a file that other programs read."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import printable
from ..checkpoint import load, read
from ..data.arrays import some_rows, take_rows
from ..data.csv import Table
from ..data.encoder import TableEncoder
from ..errors import OptionError, XpnnError
from ..interop.c import to_c
from ..interop.checked import ROWS, Check
from ..interop.onnx import to_onnx
from ..interop.python import to_python
from ..interop.subject import subject_of
from ..losses import Loss
from ..model import Sequential
from ..predictor import Predictor, load_predictor, model_file
from ..training import Trainer
from .options import add_json, add_table, print_json
from .score import read_raw
from .sources import BUILTIN, flat, kind_of, read_arrays

__all__ = ["add_commands"]

#: Options that name a file to write, and what writes it.
_FORMATS: dict[str, Callable[..., Check | None]] = {"onnx": to_onnx, "c": to_c, "python": to_python}
_MOST_ROWS = 2000


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        usage="xpnn export MODEL --onnx FILE | --c FILE | --python FILE [options]",
        help="write a saved model as a file that other programs read",
        description="Write a saved model, from raw columns to its answers, as one file in another format, and compare "
        "what that file answers with what the model does. Where they differ, nothing is written. Of a file that "
        "xpnn.save or Trainer.save wrote, features go in and outputs come out; and what the trainer's loss makes of "
        "them.",
    )
    text = "a folder or file from xpnn train, or from save() of a model, a network or a trainer"
    parser.add_argument("model", metavar="MODEL", help=text)
    parser.add_argument("--onnx", metavar="FILE", help="ONNX, which onnxruntime runs nearly everywhere")
    parser.add_argument("--c", metavar="FILE", help="a C99 header that needs nothing else")
    parser.add_argument("--python", metavar="FILE", help="a Python file that needs NumPy alone")
    parser.add_argument(
        "--rows",
        metavar="FILE",
        help="rows to compare on, of which 2000 are drawn; default the file of the training, or made-up rows if it is "
        "gone",
    )
    text = "write C and Python without running them: where there is no C compiler, or the check takes too long"
    parser.add_argument("--no-check", action="store_true", help=text)
    add_json(parser)
    add_table(parser, labels=False, trained=True)
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Write the files that were asked for, and print how each was checked."""
    asked = {name: getattr(args, name) for name in _FORMATS if getattr(args, name) is not None}
    if not asked:
        raise OptionError("expected a format and a file, got none. Add --onnx FILE, --c FILE or --python FILE.")
    _check_files(args.model, list(asked.values()))
    if args.no_check and "onnx" in asked:
        raise OptionError("--no-check: expected C or Python alone, got --onnx, which is always checked. Leave one out.")
    model, loss = _model(args.model)
    if args.no_check:
        rows, of = None, ""
    else:
        rows, of = _rows(args, model) if isinstance(model, Predictor) else _rows_of_network(args, model)
    subject = subject_of(model, loss=loss).kept()  # traced once, and asked once, whatever is written of it
    options = {"check": False} if args.no_check else {"rows": subject.rows(ROWS) if rows is None else rows}
    checks = {name: _FORMATS[name](subject, path, **options) for name, path in asked.items()}
    if args.json:
        facts = {name: {} if check is None else {"of": of, **check.to_dict()} for name, check in checks.items()}
        print_json({name: {"file": asked[name], "checked": bool(fact), **fact} for name, fact in facts.items()})
        return 0
    for name, check in checks.items():
        how = "not compared with the model" if check is None else f"compared with the model on {printable(of)}"
        print(f"wrote {printable(str(asked[name]))}, {how}")
        if check is not None:
            print(check)
    return 0


def _check_files(model: str, paths: list[str]) -> None:
    """Refuse files that cannot be written, or would take the place of the model or of each other."""
    files = [Path(path).expanduser().resolve() for path in paths]
    for path, file in zip(paths, files, strict=True):
        if file.is_dir():
            raise OptionError(f"expected a file to write, got the folder {path!r}. Name a file in it.")
        if file == model_file(model).resolve():
            raise OptionError(f"expected a file to write, got {path!r}, which is the model. Name another.")
        if files.count(file) > 1:
            raise OptionError(f"expected a file for each format, got {path!r} for several. Name different ones.")


def _model(path: str) -> tuple[Predictor | Sequential, Loss | None]:
    """Return what a file holds: a predictor, or a network and the loss that it was trained on, if that is known."""
    file = model_file(path)
    _, meta = read(file)
    if "trainer" in meta:
        trainer = Trainer.load(file)
        return trainer.net, trainer.loss
    if "network" in meta and "predictor" not in meta.get("extra", {}):
        return load(file), None
    return load_predictor(path), None


def _rows_of_network(args: argparse.Namespace, net: Sequential) -> tuple[Any, str]:
    """Return rows of features to compare on, None for made-up ones, and what they are."""
    if args.rows is None:
        return None, "made-up rows"
    if args.rows in BUILTIN or kind_of(args.rows) == "table":
        raise OptionError(
            f"--rows: expected arrays for a network, got {args.rows!r}. Pass an .npz or .npy file with {net.n_in} "
            "columns, or leave it out."
        )
    X = flat(read_arrays(args.rows, None)[0])
    return take_rows(X, some_rows(len(X), _MOST_ROWS, np.random.default_rng(0))), f"rows of {Path(args.rows).name}"


def _rows(args: argparse.Namespace, predictor: Predictor) -> tuple[Any, str]:
    """Return raw rows to compare on, None for made-up ones, and what they are."""
    source: Any = args.rows or predictor.info.get("source")
    made_up = "made-up rows"
    there = isinstance(source, str) and (args.rows is not None or source in BUILTIN or Path(source).is_file())
    if not there:
        return None, made_up
    given = argparse.Namespace(**{**vars(args), "file": source, "target": None, "data_dir": None})
    try:
        if source not in BUILTIN:
            kind_of(source)
        raw, _ = read_raw(given, predictor, targets=False, remarks=False)
        if isinstance(raw, Table) and isinstance(predictor.encoder, TableEncoder):
            raw = predictor.encoder.read(raw)
    except XpnnError as error:
        if args.rows is not None:
            raise
        print(f"note: {printable(source)} cannot be read as in training: {printable(str(error))}", file=sys.stderr)
        return None, made_up
    n = len(next(iter(raw.values()))) if isinstance(raw, dict) else len(raw)
    return take_rows(raw, some_rows(n, _MOST_ROWS, np.random.default_rng(0))), f"rows of {Path(source).name}"
