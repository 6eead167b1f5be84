"""Where the commands get their data from."""

from __future__ import annotations

import argparse
import contextlib
import csv
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from .. import data
from ..arguments import as_rows
from ..data.batching import hold_out
from ..data.csv import MISSING, Table, resolve_target
from ..data.spelling import Spelling
from ..data.written import Columns, Written
from ..errors import DataError, OptionError, ShapeError, XpnnError
from ..files import atomic_path
from ..tabular.rows import read_rows

__all__ = [
    "BUILTIN",
    "STDIN",
    "Kind",
    "Reading",
    "Source",
    "cells_of",
    "check_names",
    "flat",
    "kind_of",
    "names",
    "open_builtin",
    "open_source",
    "open_table",
    "position_notes",
    "read_arrays",
    "read_table",
    "stem_of",
    "targets_in",
    "without_gaps",
]

Kind = Literal["digits", "mnist", "points", "table", "arrays", "stream"]

_TOYS: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "xor": lambda seed: data.make_xor(400, 0.1, seed),
    "moons": lambda seed: data.make_moons(1000, 0.2, seed),
    "circles": lambda seed: data.make_circles(1000, 0.05, seed),
    "spirals": lambda seed: data.make_spirals(1000, 0.03, seed),
    "checkerboard": lambda seed: data.make_checkerboard(2000, 0.0, seed),
    "blobs": lambda seed: data.make_blobs(600, 0.15, seed),
}
BUILTIN = ("digits", "mnist", *_TOYS)
#: Stands for a table that is read from standard input.
STDIN = "-"
_PACKED = (".gz", ".bz2", ".xz", ".zip")


@dataclass
class Source:
    """Raw data with their target, in their own terms."""

    name: str  # for the run's folder
    kind: Kind  # picks the recipe; a stream is a memory map that is neither scaled nor split by copying
    raw: Any  # a dictionary of columns, or an array of shape (n, n_in): all rows but those of a test file
    y: np.ndarray
    raw_test: Any = None  # test data that came by themselves
    y_test: np.ndarray | None = None
    target_columns: list[str] = field(default_factory=list)  # of a table: that of the target, or those of several
    row_shape: tuple[int, ...] = ()  # of a row before it was made flat
    notes: list[str] = field(default_factory=list)  # what was decided on the way
    table: Table | None = None  # as it was read, and that of the test file
    test_table: Table | None = None

    @property
    def target_name(self) -> str | list[str] | None:
        """What the target is called, or each of several."""
        return self.target_columns if len(self.target_columns) > 1 else next(iter(self.target_columns), None)

    @property
    def several(self) -> bool:
        """Whether there is more than one target."""
        return self.y.ndim == 2 and self.y.shape[1] > 1

    @property
    def targets(self) -> dict[str, np.ndarray]:
        """The target by its name, or each of several."""
        columns = list(self.y.T) if self.several else [self.y]
        called = self.target_columns or [f"target {k + 1}" if k else "target" for k in range(len(columns))]
        return dict(zip(called, columns, strict=True))

    @property
    def spellings(self) -> list[Spelling | None] | None:
        """How the numbers of each of a table's targets are written."""
        return None if self.table is None else [self.table.spellings.get(name) for name in self.target_columns]

    @property
    def labels(self) -> np.ndarray:
        """The target as classes: numbers that are not plain keep the form that they have in every file."""
        (spelling,) = self.spellings or [None]
        if self.table is None or spelling is None or spelling.plain:
            return self.y
        return self.table.cells[self.target_columns[0]]

    @property
    def image_shape(self) -> tuple[int, ...] | None:
        """Return (height, width[, 3]) of a row where rows are images: built-in ones, or arrays of that many axes."""
        shape = self.row_shape[:2] if self.row_shape[2:] == (1,) else self.row_shape
        return shape if len(shape) >= 2 and min(shape[:2]) >= 4 and shape[2:] in ((), (3,)) else None

    def split(
        self, labels: np.ndarray | None, test_size: float, validation_size: float, seed: int
    ) -> dict[str, np.ndarray]:
        """Divide the rows, of each class alike if there are labels: test first, then validation, the rest to train on.

        Labels are class numbers: raw ones may be numbers with fractions, or text with blanks around it.
        """
        narrow = self.kind == "table" and len(self.y) < 1 << 31  # half the memory, where it counts
        rows: np.ndarray = np.arange(len(self.y), dtype=np.int32 if narrow else np.int64)
        rows, test = hold_out(rows, labels, test_size, seed)
        rows, valid = hold_out(rows, labels, validation_size, seed if self.kind == "stream" else seed + 1)
        return {"train": rows, "valid": valid, "test": test}


class Reading(NamedTuple):
    """How a table is to be read, in the words of the command line; None leaves it to the file."""

    header: str | None
    delimiter: str | None
    missing: str | None
    encoding: str | None
    comment: str | None
    sheet: str | None

    @classmethod
    def of(cls, args: argparse.Namespace, trained: Mapping[str, Any] | None = None) -> Reading:
        """Return what the options say, else what they said in training."""
        given = {name: getattr(args, name) for name in cls._fields}
        return cls(*((trained or {}).get(name) if value is None else value for name, value in given.items()))


def kind_of(name: str) -> Kind:
    """Tell from its name what a data set or file is."""
    if name in BUILTIN:
        return "digits" if name == "digits" else "mnist" if name == "mnist" else "points"
    suffix = Path(name).suffix
    if name == STDIN:
        return "table"
    if not suffix and not Path(name).expanduser().exists():
        raise OptionError(
            "expected a file (.csv, .parquet, .xlsx, .npz, .npy), - for standard input, "
            f"or one of {', '.join(BUILTIN)}, got {name!r}. Check the name."
        )
    return "arrays" if suffix == ".npz" else "stream" if suffix == ".npy" else "table"


def stem_of(path: str) -> str:
    """Return the name of a file without its folder and endings: ``a/b.csv.gz`` becomes ``b``."""
    if path == STDIN:
        return "stdin"
    name = Path(path)
    return (name.with_suffix("") if name.suffix in _PACKED else name).stem


@contextlib.contextmanager
def _file_of(path: str) -> Iterator[str]:
    """Yield the name of a file with what is to be read: standard input is kept while it is."""
    if path != STDIN:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "stdin")
        with atomic_path(file) as temporary, temporary.open("wb") as content:
            shutil.copyfileobj(sys.stdin.buffer, content)
        yield str(file)


@contextlib.contextmanager
def _named(path: str, file: str) -> Iterator[None]:
    """Let errors of reading name what was typed: the file, and the option of a target that is not in it."""
    try:
        yield
    except XpnnError as error:
        said = str(error).replace(file, "standard input") if path == STDIN else str(error)
        said = said.replace("load_csv: expected the target to be a column", f"--target: expected a column of {path}")
        raise type(error)(said) from error


def read_table(
    path: str,
    reading: Reading,
    target: str | Sequence[str] | None,
    *,
    categorical: Collection[str] = (),
    numeric: Collection[str] = (),
    decimal: Literal[".", ","] | None = None,
    like: Table | None = None,
) -> Table:
    """Read a table as the options say, its columns as those of the table that it is to be `like`.

    Of several targets the first is the table's own; `targets_in` finds the others.
    """
    with _file_of(path) as file, _named(path, file):
        return data.load_table(
            file,
            target=target if target is None or isinstance(target, str) else target[0],
            sheet=reading.sheet,
            header=reading.header == "yes" if reading.header in ("yes", "no") else "auto",
            delimiter=reading.delimiter or "auto",
            encoding=reading.encoding,
            comment=reading.comment or "",
            missing=MISSING if reading.missing is None else ("", *map(str.strip, reading.missing.split(","))),
            categorical=categorical,
            numeric=numeric,
            decimal=decimal,
            like=like,
        )


def read_arrays(path: str, target: str | None) -> tuple[Any, Any]:
    """Read X, and y if a target is named: an array in the same .npz file, or the .npy file beside X.npy."""
    if kind_of(path) == "arrays":
        X, y = data.load_arrays(path, y_key=target)
    elif target is not None:
        X, y = data.open_memmap(path, target)
    else:
        X, y = data.open_memmap(path, path)[0], None
    return as_rows(X, path, "X"), y


def flat(X: Any) -> Any:
    """Return an array with one axis for all that belongs to a row."""
    return X if X.ndim == 2 else X.reshape(len(X), -1)


def names(text: str | None, known: Collection[str] | None = None) -> list[str]:
    """Read a list of columns with commas; a name that holds one is quoted, as in a CSV file, or stands alone.

    Examples
    --------
    >>> names('age, "size, cm"'), names("size, cm", ["age", "size, cm"])
    (['age', 'size, cm'], ['size, cm'])
    """
    if known is not None and text is not None and text.strip() in known:
        return [text.strip()]
    try:
        (parts,) = csv.reader([text or ""], skipinitialspace=True, strict=True) if text else ([],)
    except (csv.Error, ValueError):
        raise OptionError(
            f"expected names of columns with commas, got {text!r}. Put a name that holds a comma in double quotes."
        ) from None
    return [name.strip() for name in parts if name.strip()]


def _columns(table: Table, drop: list[str], keep: list[str], targets: list[str]) -> dict[str, np.ndarray | Written]:
    """Return the columns but the targets, those to drop, and those to keep beside the predictions."""
    features = [name for name in table.names if name not in targets]
    for option, given in (("--drop", drop), ("--keep", keep)):
        check_names(option, given, features)
    kept = table.columns.kept if isinstance(table.columns, Columns) else table.columns.__getitem__
    return {name: kept(name) for name in features if name not in drop and name not in keep}


def check_names(option: str, given: Collection[str], known: Collection[str]) -> None:
    """Refuse names that are none of the columns'."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise DataError(
            f"{option}: expected columns among {', '.join(known)}, got {', '.join(unknown)}. Check the names"
            + ("; one that holds a comma stands in double quotes: '\"size, cm\",age'." if len(given) > 1 else ".")
        )


def without_gaps(table: Table, target: str, path: str, notes: list[str]) -> Table:
    """Return a table without the rows that have no target."""
    column = table.columns[target]
    there = ~np.isnan(column) if column.dtype.kind == "f" else np.array([value is not None for value in column])
    if there.all():
        return table
    notes.append(f"{path}: {int((~there).sum()):,} of {table.n_rows:,} rows have no {target} and are left out")
    if not there.any():
        raise DataError(f"--target {target}: expected a value in some row of {path}, got none. Name another column.")
    gaps = {name: gaps for name, gaps in table.gaps.items() if name != target}
    return replace(table.take(np.flatnonzero(there)), gaps=gaps)


def open_source(args: argparse.Namespace) -> Source:
    """Return the data that the command line names."""
    name: str = args.source
    kind = kind_of(name)
    if name in BUILTIN:
        return open_builtin(name, args.seed, args.data_dir, download=not args.no_download)
    if kind == "table":
        return _open_table(args)
    if kind == "stream" and args.target is None:
        raise OptionError(f"{name} needs the file of its targets. Add --target y.npy.")
    X, y = read_arrays(name, args.target or "y")
    if args.preset:
        return _by_column(args, X, np.asarray(y))
    source = Source(stem_of(name), kind, flat(X), np.asarray(y), row_shape=X.shape[1:])
    if kind == "stream":
        head = np.abs(X[:1000].astype(np.float64))
        source.notes.append(
            f"rows are read from disk as needed and not scaled: the first {len(head):,} reach {head.max(initial=0):.4g}"
        )
    if args.test_file:
        X, y = read_arrays(args.test_file, args.test_target or args.target or "y")
        source.raw_test, source.y_test = flat(X), np.asarray(y)
    return source


def _by_column(args: argparse.Namespace, X: Any, y: np.ndarray) -> Source:
    """Return arrays as what the recipes for tables take: columns, known by their places."""
    source = Source(stem_of(args.source), "arrays", _columns_of(X, args.source), _one_axis(y))
    if args.test_file:
        X, y = read_arrays(args.test_file, args.test_target or args.target or "y")
        source.raw_test, source.y_test = _columns_of(X, args.test_file), _one_axis(np.asarray(y))
        if len(source.raw_test) != len(source.raw):
            raise ShapeError(
                f"--test-file: expected {len(source.raw)} columns as in training, got {len(source.raw_test)}. Pass "
                "data of the same kind."
            )
    return source


def _columns_of(X: Any, path: str) -> dict[str, np.ndarray]:
    if X.ndim != 2:
        raise OptionError(
            f"--preset: expected rows of numbers in {path}, X of shape (n, columns), got X of shape {X.shape}: images, "
            "or the like. Leave the option out: a plain network takes them."
        )
    return read_rows(X, path).columns


def _one_axis(y: np.ndarray) -> np.ndarray:
    return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y


def open_builtin(name: str, seed: int, data_dir: str | None = None, *, download: bool = True) -> Source:
    """Return a data set that needs no file, or MNIST."""
    kind = kind_of(name)
    if kind == "digits":
        return Source(name, kind, *data.load_digits(), row_shape=(8, 8))
    if kind == "mnist":
        return Source(name, kind, *data.load_mnist(data_dir, download=download), row_shape=(28, 28))
    return Source(name, kind, *_TOYS[name](seed))


def _open_table(args: argparse.Namespace) -> Source:
    if args.target is None:
        raise OptionError(f"{args.source} needs the column to predict. Add --target COLUMN (a name or a position).")
    table = open_table(args, args.source, args.target)
    if table.target_name is None:
        raise DataError(f"--target: expected a column of {args.source}, got {args.target!r}. Check the name.")
    targets, notes = targets_in(table, args.target), list(table.notes)
    table = _whole(args, table, targets, args.source, notes)
    source = Source(
        stem_of(args.source),
        "table",
        _columns(table, names(args.drop, table.names), names(args.keep, table.names), targets),
        _stacked([table.exact(name) for name in targets]),
        target_columns=targets,
        notes=notes,
        table=table,
    )
    if args.test_file:
        test = read_table(args.test_file, Reading.of(args), table.target_name, like=table)
        source.test_table = test = _whole(args, test, targets_in(test, targets), args.test_file, source.notes)
        source.notes += position_notes(test, table, args.test_file)
        source.raw_test = {name: column for name, column in test.written.items() if name not in targets}
        source.y_test = cells_of(test, targets)
    return source


def targets_in(table: Table, given: str | Sequence[str] | None) -> list[str]:
    """Return the columns of a table that are named as targets; the first is its own."""
    more = given[1:] if isinstance(given, list | tuple) else ()
    found = [*(name for name in (table.target_name,) if name), *(resolve_target(name, table.names) for name in more)]
    twice = next((name for name, times in Counter(found).items() if times > 1), None)
    if twice is not None:
        raise OptionError(f"--target: expected each column once, got {twice!r} twice. Leave one out.")
    return found


def cells_of(table: Table, targets: Sequence[str]) -> np.ndarray:
    """Return the targets of a table as they are written, of shape (n,), or (n, k) of several."""
    return _stacked([table.cells[name] for name in targets])


def _stacked(columns: list[np.ndarray]) -> np.ndarray:
    return columns[0] if len(columns) == 1 else np.stack(columns, axis=1)


def _whole(args: argparse.Namespace, table: Table, targets: list[str], path: str, notes: list[str]) -> Table:
    """Return a table in which each row has its targets: others are left out if that is asked for, else refused."""
    for name in targets:
        if args.drop_missing_target:
            table = without_gaps(table, name, path, notes)
        _refuse_gaps(table, name, path)
    return table


def open_table(args: argparse.Namespace, path: str, target: str | list[str] | None) -> Table:
    """Read the table to learn from; what its columns are is decided here, and kept with the model."""
    categorical, numeric = _maybe(args.categorical), _maybe(args.numeric)
    return read_table(path, Reading.of(args), target, categorical=categorical, numeric=numeric, decimal=args.decimal)


def _maybe(text: str | None) -> list[str]:
    """Return all names that an option may mean, before it is known which are there."""
    return [] if text is None else [text.strip(), *names(text)]


def _refuse_gaps(table: Table, target: str, path: str) -> None:
    """Say of a target with gaps which word it is that was read as a missing value."""
    gaps = Counter(table.gaps.get(target, ())) + table.missing_words(target)
    if not gaps:
        return
    n, (word, rows) = sum(gaps.values()), max(gaps.items(), key=lambda item: item[1])
    if word:
        raise DataError(
            f"--target {target}: expected a value in every row of {path}, got none in {n:,} of {table.n_rows:,}: "
            f"{word!r}, in {rows:,} of them, is read as missing. If it is a class, name the words for no value without "
            "it (--missing ?,NULL); else fill them in, or leave these rows out (--drop-missing-target)."
        )


def position_notes(table: Table, like: Table, path: str) -> list[str]:
    """Say that a file without a header was read by the names of the training."""
    if table.header or not like.header:
        return []
    return [f"{path}: {note}" for note in table.notes if note.startswith("no header row found")]
