"""What `xpnn check` and `xpnn train` say of a table: one audit, in the words of the command line."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from .. import data
from ..data.audit.findings import SEVERITIES
from ..data.columns import as_texts, is_number, is_text, plural, quote
from ..data.spelling import Doubt, find_spelling
from ..data.targets import infer_task
from ..errors import DataError, XpnnError
from .options import dayfirst_of
from .recipe import option
from .sources import Source, names

__all__ = ["look_over", "refuse_doubts", "refuse_small", "say", "worded"]

# Of notes, which only check prints, these are said in training too.
_SAID = ("class balance", "classes or quantity", "dates", "text numbers")
# The encoder has said this of a column that it left out; and it clips what lies far outside.
_SAID_BEFORE, _MET = ("constant", "no values", "identifier", "many categories"), ("outliers",)
# The library says where an error arose; whoever trains a table knows its file.
_WHERE = re.compile(r"^(?:TableEncoder|ClassTarget|NumberTarget|stratified_indices)(?:\.\w+)?: ")


def look_over(
    args: argparse.Namespace,
    table: data.Table,
    test: data.Table | None,
    targets: Sequence[str],
    *,
    held_out: npt.ArrayLike | None = None,
) -> data.Audit:
    """Look a table over as the options say; `held_out` are the numbers of rows that are to be tested on.

    Of several targets each is looked at with the columns that are none.
    """
    dropped = names(args.drop, table.names)
    for name in targets:
        if name in dropped:
            raise DataError(f"--drop: expected the target {name!r} to be kept, got it among the columns to drop.")
    asked: Sequence[str | None] = targets or [None]
    found = [
        data.audit(
            table,
            target,
            test=test,
            task=args.task,
            strip_target=args.strip_target or "",
            drop=[*dropped, *(name for name in targets if name != target)],
            categorical=[
                name for name in names(args.categorical, table.names) if name == target or name not in targets
            ],
            numeric=[name for name in names(args.numeric, table.names) if name == target or name not in targets],
            dayfirst=dayfirst_of(args),
            held_out=held_out,
        )
        for target in asked
    ]
    if len(found) == 1:
        return found[0]
    of_all = [finding for severity in SEVERITIES for one in found for finding in one if finding.severity == severity]
    return dataclasses.replace(found[0], findings=list(dict.fromkeys(of_all)), target=", ".join(targets))


def say(found: data.Audit, columns: Collection[str], told: Collection[str] = ()) -> list[str]:
    """Return what is said before training: errors and warnings, a sentence or two each.

    Of columns that are not among those used in training and the targets, `columns`, the encoder has said why; and of
    dates how they are read, or why they are not, in what it has `told`.
    """
    said = []
    for finding in found.folded():
        name = finding.column
        left_out = name is not None and name not in columns
        if finding.check in _MET or (left_out and finding.check in _SAID_BEFORE):
            continue
        how = (f"{name}: dates from ",) if finding.severity == "note" else (f"{name}: taken as text. ",)
        if finding.check == "dates" and any(note.startswith(how) for note in told):
            continue
        if finding.severity != "note" or finding.check in _SAID:
            said.append(str(finding))
    return said


# -- refusals -----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def worded(path: str) -> Iterator[None]:
    """Let errors of the library name the file instead of their function."""
    try:
        yield
    except XpnnError as error:
        raise type(error)(_WHERE.sub(f"{path}: ", str(error))) from error


def refuse_small(args: argparse.Namespace, source: Source) -> None:
    """Refuse data with no column to learn from, or too few rows to hold some out."""
    n, where = len(source.y), args.source
    if source.kind == "table" and not source.raw:
        dropped = " that is not dropped" if args.drop else ""
        told = f"target{'' if len(source.target_columns) == 1 else 's'} {quote(source.target_columns)}"
        raise DataError(
            f"{where}: expected a column besides the {told}{dropped}, got none. Give at least one column to learn from."
        )
    test = min(max(round(n * args.test_size), 1), n - 1) if args.test_size else 0
    held = [option(name) for name in ("test_size", "validation_size") if getattr(args, name)]
    if n < 1 + len(held) or n - test < 1 + bool(args.validation_size):
        tested = f", {test} of them to be tested on" if test else ""
        raise DataError(
            f"{where}: expected at least a row to train on and one for each of {' and '.join(held)}, got "
            f"{plural(n, 'row')}{tested}. Add rows, or hold fewer out ({' 0 '.join(held)} 0)."
        )


def refuse_doubts(args: argparse.Namespace, source: Source) -> None:
    """Refuse numbers in text that are open where they must not be: in the target, and in columns said to be numeric."""
    if source.table is None:
        return
    for name in names(args.numeric, source.table.names):
        column = source.raw.get(name)
        doubt = (
            None if column is None or not is_text(column) else find_spelling(as_texts(column), name=name, numeric=True)
        )
        if isinstance(doubt, Doubt):
            raise DataError(f"--numeric: expected numbers in column {name!r}. {doubt.seen} {doubt.advice}")
    for name, column in source.targets.items():
        if args.task != "classification" and is_text(column) and name not in names(args.categorical):
            _refuse_doubtful_target(args, name, column)


def _refuse_doubtful_target(args: argparse.Namespace, name: str, column: np.ndarray) -> None:
    """Refuse a target of which it is open what its numbers are, before it is learnt as so many classes."""
    texts = as_texts(column)
    doubt = find_spelling(texts, name=name)
    if not isinstance(doubt, Doubt):
        return
    present = [text for text in texts if text is not None]
    if doubt.candidates:
        numbers = doubt.candidates[0].parse(present)
    else:
        numbers = np.array([float(text) for text in present if is_number(text)])
    if args.task == "regression" or (len(numbers) and infer_task(numbers).task == "regression"):
        raise DataError(
            f"{args.source}: expected numbers or labels in the target {name!r}, got either. {doubt.seen} "
            f"{doubt.advice} If they are labels, say --task classification."
        )
