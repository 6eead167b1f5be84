"""Where `xpnn train` gets its data from."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .. import data
from ..data.csv import MISSING, Table
from ..errors import DataError, OptionError

__all__ = ["BUILTIN", "Source", "is_arrays", "open_source", "read_arrays", "read_table", "take"]

_TOYS: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "xor": lambda seed: data.make_xor(400, 0.1, seed),
    "moons": lambda seed: data.make_moons(1000, 0.2, seed),
    "circles": lambda seed: data.make_circles(1000, 0.05, seed),
    "spirals": lambda seed: data.make_spirals(1000, 0.03, seed),
    "checkerboard": lambda seed: data.make_checkerboard(2000, 0.0, seed),
    "blobs": lambda seed: data.make_blobs(600, 0.15, seed),
}
BUILTIN = ("digits", "mnist", *_TOYS)


@dataclass
class Source:
    """Raw data with their target, in their own terms.

    Attributes
    ----------
    name : str
        For the run's folder.
    kind : {"digits", "mnist", "points", "table", "arrays", "stream"}
        Picks the recipe; a stream is a memory map that is neither scaled nor split by copying.
    raw : dict of columns, or array of shape (n, ...)
        All rows but those of a test file.
    y : array of shape (n,)
        The target.
    raw_test, y_test : likewise, or None
        Test data that came by themselves.
    target_name : str or None
        The target's column.
    notes : list of str
        What was decided on the way.
    """

    name: str
    kind: str
    raw: Any
    y: np.ndarray
    raw_test: Any = None
    y_test: np.ndarray | None = None
    target_name: str | None = None
    notes: list[str] = field(default_factory=list)


def take(raw: Any, index: np.ndarray) -> Any:
    """Return some rows of a table or an array."""
    if isinstance(raw, dict):
        return {name: column[index] for name, column in raw.items()}
    return raw[index]


def is_arrays(path: str) -> bool:
    """Whether a file holds arrays (.npz, .npy) and not a table."""
    return bool({".npz", ".npy"} & set(Path(path).suffixes))


def read_table(path: str, args: argparse.Namespace, target: str | None) -> Table:
    """Read a CSV file as the options say."""
    return data.load_csv(
        path,
        target=target,
        header="auto" if args.header == "auto" else args.header == "yes",
        delimiter=args.delimiter,
        missing=MISSING if args.missing is None else args.missing.split(","),
    )


def read_arrays(path: str, y_path: str | None, *, targets: bool) -> tuple[Any, Any]:
    """Read X (and y) from an .npz file, or from .npy files as memory maps."""
    if Path(path).suffix == ".npz":
        return data.load_arrays(path, y_key="y" if targets else None)
    if y_path is not None:
        return data.open_memmap(path, y_path)
    return data.open_memmap(path, path)[0], None


def columns_of(table: Table, drop: str) -> dict[str, np.ndarray]:
    """Return the feature columns but those to drop."""
    dropped = {name.strip() for name in drop.split(",") if name.strip()}
    unknown = sorted(dropped - set(table.features))
    if unknown:
        raise DataError(
            f"--drop: expected columns among {', '.join(table.features)}, got {', '.join(unknown)}. Check the names."
        )
    return {name: table.columns[name] for name in table.features if name not in dropped}


def open_source(args: argparse.Namespace) -> Source:
    """Return the data that the command line names."""
    name: str = args.source
    if name in _TOYS:
        X, y = _TOYS[name](args.seed)
        return Source(name, "points", X, y)
    if name == "digits":
        X, y = data.load_digits()
        return Source(name, "digits", X, y)
    if name == "mnist":
        X, y, X_test, y_test = data.load_mnist(args.data_dir, download=not args.no_download)
        return Source(name, "mnist", X, y, X_test, y_test)
    path = Path(name)
    if not path.suffix:
        raise OptionError(
            f"train: expected a file (.csv, .npz, .npy) or one of {', '.join(BUILTIN)}, got {name!r}. Check the name."
        )
    stem = path.name.removesuffix(".gz").rpartition(".")[0]
    if is_arrays(name):
        if path.suffix == ".npy" and args.target is None:
            raise OptionError(f"train: {name} needs the file of its targets. Add --target y.npy.")
        X, y = read_arrays(name, args.target, targets=True)
        source = Source(stem, "stream" if path.suffix == ".npy" else "arrays", X, np.asarray(y))
        if args.test_file:
            source.raw_test, source.y_test = read_arrays(args.test_file, args.test_target, targets=True)
        return source
    if args.target is None:
        raise OptionError(f"train: {name} needs the column to predict. Add --target COLUMN (a name or a position).")
    table = read_table(name, args, args.target)
    source = Source(
        stem,
        "table",
        columns_of(table, args.drop),
        np.asarray(table.y),
        target_name=table.target_name,
        notes=table.notes,
    )
    if args.test_file:
        test = read_table(args.test_file, args, table.target_name)
        source.raw_test, source.y_test = {n: test.columns[n] for n in test.features}, np.asarray(test.y)
    return source
