"""``xpnn check``: what is wrong with a table, before anything is trained on it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from ..arguments import printable
from ..errors import DataError, OptionError
from .findings import look_over
from .options import add_columns, add_json, add_table, add_task, print_json
from .sources import Reading, kind_of, open_table, read_table

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "check",
        usage="xpnn check FILE.csv [--target COLUMN] [--test-file FILE] [options]",
        help="look a table over before training: columns, labels, leaks",
        description="Look at the columns of a table, at its target, at rows that repeat, and at a test table "
        "beside it; print what is found, worst first, with one thing to try for each. Nothing is trained or changed. "
        "Exit status 0 also where something is found.",
    )
    parser.add_argument("source", metavar="FILE.csv", help="the table, of any kind that xpnn train takes")
    parser.add_argument(
        "--target",
        metavar="COLUMN",
        help="what to predict: a column, by name or position (-1 is the last); without it labels and leaks are not "
        "looked for",
    )
    parser.add_argument("--test-file", metavar="FILE", help="the table to be tested on, with or without the target")
    add_task(parser)
    parser.add_argument("--strict", action="store_true", help="exit status 1 if there is an error among the findings")
    add_json(parser)
    add_table(parser)
    add_columns(parser, "columns not to look at")
    parser.set_defaults(run=run_check)


def run_check(args: argparse.Namespace) -> int:
    """Read the files, look them over, and print what is found."""
    if args.strip_target is not None and args.target is None:
        raise OptionError("--strip-target needs the column of the labels. Add --target COLUMN.")
    table = open_table(args, _table(args.source), args.target)
    test = read_table(_table(args.test_file), Reading.of(args), None, like=table) if args.test_file else None
    found = look_over(args, table, test)
    if args.json:
        print_json({"file": args.source, "test_file": args.test_file, "notes": table.notes, **found.to_dict()})
    else:
        for note in table.notes:
            print(f"note: {printable(note)}", file=sys.stderr)
        print(f"{printable(args.source)}: {found}")
    return 1 if args.strict and found.errors else 0


def _table(path: str) -> str:
    """Refuse what is no table."""
    if kind_of(path) != "table":
        raise DataError(f"expected a CSV file, got {path}. Name a table; other data have no columns to look at.")
    return path
