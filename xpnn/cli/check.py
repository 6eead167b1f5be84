"""``xpnn check``: what is wrong with a table to train on; what has moved in one that a model is to see."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..arguments import printable
from ..data.audit.column import many
from ..data.columns import quote
from ..errors import DataError, OptionError
from ..predictor import Predictor
from .findings import look_over
from .options import add_columns, add_json, add_number, add_table, add_target, add_task, at_least_zero, print_json
from .recipe import option
from .sources import Reading, check_names, kind_of, names, open_table, read_table, targets_in
from .trained import read_like_training

__all__ = ["add_commands"]

# What a model knows already.
_OF_TRAINING = (
    *("target", "test_file", "task", "strict", "strip_target"),
    *("categorical", "numeric", "decimal", "dayfirst"),
)


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        usage="xpnn check FILE [--target COLUMN] [options]\n       xpnn check FILE --model MODEL [options]",
        help="look a table over before training, or beside a model's",
        description="Look at the columns of a table, at its target, at rows that repeat, and at a test table "
        "beside it; print what is found, worst first, with one thing to try for each. With a model, tell instead what "
        "has moved since its training: missing values, ranges, categories, and the population stability index (PSI) of "
        "each column. Nothing is trained or changed. Exit status 0 also where something is found.",
    )
    parser.add_argument("source", metavar="FILE", help="the table, of any kind that xpnn train takes")
    text = (
        "what to predict: a column, by name or position (-1 is the last); may be given several times; without it "
        "labels and leaks are not looked for"
    )
    add_target(parser, text)
    parser.add_argument("--test-file", metavar="FILE", help="the table to be tested on, with or without the target")
    text = "a model.safetensors of a table, or the folder of its run: tell what differs from what its training saw"
    parser.add_argument("--model", metavar="MODEL", help=text)
    add_number(
        parser,
        "--fail-above",
        at_least_zero,
        "with a model, exit status 1 if the PSI of a column is above this and above what chance gives, or a column "
        "cannot be read; 0.1 is called moderate, 0.25 large; default: never",
        metavar="PSI",
    )
    add_task(parser)
    parser.add_argument("--strict", action="store_true", help="exit status 1 if there is an error among the findings")
    add_json(parser)
    add_table(parser)
    add_columns(parser, "columns not to look at")
    parser.set_defaults(run=run_check)


def run_check(args: argparse.Namespace) -> int:
    """Read the files, look them over, and print what is found."""
    if args.model is not None:
        return _check_beside(args)
    if args.fail_above is not None:
        raise OptionError("--fail-above needs the model whose training the table is compared with. Add --model MODEL.")
    if args.strip_target is not None and args.target is None:
        raise OptionError("--strip-target needs the column of the labels. Add --target COLUMN.")
    table = open_table(args, _table(args.source), args.target)
    test = read_table(_table(args.test_file), Reading.of(args), None, like=table) if args.test_file else None
    found = look_over(args, table, test, targets_in(table, args.target))
    if args.json:
        print_json({"file": args.source, "test_file": args.test_file, "notes": table.notes, **found.to_dict()})
    else:
        for note in table.notes:
            print(f"note: {printable(note)}", file=sys.stderr)
        print(f"{printable(args.source)}: {found}")
    return 1 if args.strict and found.errors else 0


def _check_beside(args: argparse.Namespace) -> int:
    """Read a table as a model's training read its own, and print what has moved."""
    idle = [option(name) for name in _OF_TRAINING if getattr(args, name) not in (None, False, "auto")]
    if idle:
        raise OptionError(f"{idle[0]}: does nothing with --model, which knows what its columns are. Leave it out.")
    predictor = Predictor.load(args.model)
    table = read_like_training(args, predictor, _table(args.source), None)
    known = [] if predictor.schema is None else [column.name for column in predictor.schema]
    drop = names(args.drop, known)
    check_names("--drop", drop, known)
    found = predictor.drift(table, [name for name in known if name not in drop])
    above = [] if args.fail_above is None else found.above(args.fail_above)
    if args.json:
        print_json({"file": args.source, "model": args.model, "above": above, **found.to_dict()})
    else:
        beside = f"{many(found.rows, 'row')} beside {found.rows_then:,} of the training"
        print(f"{printable(args.source)}: {beside}.\n\n{found}")
        if found.unused:
            print(printable(f"Not used: {quote(found.unused, 10)}."))
        if above:
            print(printable(f"Above --fail-above {args.fail_above:g}: {quote(above, 10)}."), file=sys.stderr)
    return 1 if above else 0


def _table(path: str) -> str:
    """Refuse what is no table."""
    if kind_of(path) != "table":
        raise DataError(f"expected a CSV file, got {path}. Name a table; other data have no columns to look at.")
    return path
