"""Tables for a model that is there: read as its training read its own."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from ..data.csv import Table
from ..errors import DataError
from ..predictor import Predictor
from .sources import Reading, position_notes, read_table

__all__ = ["read_like_training"]


def read_like_training(
    args: argparse.Namespace, predictor: Predictor, path: str, target: str | Sequence[str] | None
) -> Table:
    """Read a table as in training, but for what the options say, and say of one without a header how it was read."""
    trained = _trained_table(predictor)
    reading = Reading.of(args, predictor.info.get("options"))
    if not trained.header and reading.header is None:
        reading = reading._replace(header="no")
    table = read_table(path, reading, target, like=trained)
    if not table.header and "columns" not in predictor.info and not all(map(str.isdecimal, trained.names)):
        raise DataError(
            f"{path}: expected a header, got none, and this model does not know the order of its columns. "
            "Write one, or train again."
        )
    for note in position_notes(table, trained, path):
        print(note, file=sys.stderr)
    return table


def _trained_table(predictor: Predictor) -> Table:
    """Return what is known of the table of the training: its columns, all of which are left as they are written."""
    targets, columns = predictor.target_names, predictor.info.get("columns")
    if not (isinstance(columns, list) and all(isinstance(name, str) for name in columns)):  # of an older xpnn
        columns = [*getattr(predictor.encoder, "feature_names_in", []), *targets]
    header = predictor.info.get("header") is not False
    return Table(columns, dict.fromkeys(columns, np.empty(0)), next(iter(targets), None), header=header)
