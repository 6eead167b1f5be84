"""Data larger than any one machine: folders of Parquet files, memory-mapped arrays, tables in pieces."""

from __future__ import annotations

import base64
import functools
import glob
import os
import pickle
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ..data.arrays import open_memmap
from ..data.arrow import parquet_columns, parquet_facts
from ..data.columns import as_texts, is_text, quote
from ..data.dates import read_column
from ..data.encoder import TableEncoder
from ..data.moments import Moments
from ..data.scaling import gather_moments
from ..data.summary import TableSummary
from ..data.targets import ClassTarget
from ..errors import DataError, DTypeError, FileFormatError, OptionError
from ..files import PathLike
from .group import Alone, Group, together
from .shards import ArrayShards, Part, ShardedRows
from .tree import ranges

__all__ = ["FrameShards", "TableShards", "encoded", "fit_encoder", "fit_target", "npy", "parquet"]

E = TypeVar("E", bound="Encoder")


class Encoder(Protocol):
    """What makes a matrix of columns, or scales one: `TableEncoder`, `Standardizer`, `MinMax`."""

    def fit_blocks(self, blocks: Any) -> Any:
        """Learn from blocks of rows, or from what was gathered of them."""

    def transform(self, X: Any) -> Any:
        """Return the rows as a network takes them."""


class TableShards(ShardedRows):
    """Rows of a table in shards, with columns by name; the others tell how to read a shard.

    Attributes
    ----------
    target : list of str
        The columns to predict.
    features : list of str
        Those to predict them from.
    weight : str or None
        The column of the rows' weights.
    apart : list of str
        Targets and weights: what is not a feature.
    """

    where = "distributed"

    def __init__(
        self, columns: Iterable[str], target: str | Sequence[str], features: Sequence[str] | None, weight: str | None
    ) -> None:
        columns = list(columns)
        self.single = isinstance(target, str)
        self.target = [target] if isinstance(target, str) else list(target)
        self.weight = weight
        self.apart = [*self.target, *([] if weight is None else [weight])]
        self.features = [name for name in columns if name not in self.apart] if features is None else list(features)
        for name in (*self.apart, *self.features):
            if name not in columns:
                raise DataError(
                    f"{self.where}: expected a column named {name!r}, got {quote(columns, 20)}. Give the name of one "
                    "that is there."
                )
        self.names = {"X": self.features}

    @abstractmethod
    def frame(self, number: int, names: Sequence[str]) -> Any:
        """Return some columns of a shard, by name."""

    def columns(self, number: int) -> dict[str, Any]:
        """Return the features of a shard, as an encoder takes them."""
        frame = self.frame(number, self.features)
        return {name: frame[name] for name in self.features}

    def targets(self, number: int) -> tuple[Any, Any]:
        """Return the targets of a shard as they are, and the weights, if there are any."""
        frame = self.frame(number, self.apart)
        found = [read_column(name, frame[name]) for name in self.target]
        weight = None if self.weight is None else np.asarray(read_column(self.weight, frame[self.weight]))
        return found[0] if self.single else np.stack(found, axis=1), weight

    def matrix(self, number: int) -> Any:
        """Return the features of a shard, which must be numbers, as an array of shape (n, d)."""
        columns = {name: read_column(name, values) for name, values in self.columns(number).items()}
        words = [name for name, column in columns.items() if column.dtype.kind not in "biuf"]
        if words:
            raise DTypeError(
                f"{self.where}: expected numbers in every column, got others in {quote(words)}, shard {number}. Encode "
                "them: rows = encoded(rows, fit_encoder(TableEncoder(), rows, group))."
            )
        return np.stack(list(columns.values()), axis=1)

    def read(self, number: int) -> Part:
        """Return the rows of a shard, all of them numbers."""
        X = self.matrix(number)
        y, weight = self.targets(number)
        if y.dtype.kind not in "biuf":
            raise DTypeError(
                f"{self.where}: expected numbers as targets, got text in {quote(self.target)}, shard {number}. Number "
                "the classes: rows = encoded(rows, target=fit_target(rows, group))."
            )
        return Part(X, y, weight)


class FrameShards(TableShards):
    """Frames, or mappings of columns, as shards; a process may hold some of them only.

    Parameters
    ----------
    frames : mapping of int to frame
        The shards that this process holds, by number.
    lengths : sequence of int
        Rows of all shards.
    target : str or sequence of str
        The column to predict, or several.
    features : sequence of str, optional
        Those to predict it from; by default all others.
    weight : str, optional
        The column of the rows' weights.

    Examples
    --------
    >>> import numpy as np
    >>> rows = FrameShards({0: {"a": np.arange(3.0), "y": np.array([0, 1, 0])}}, [3], "y", columns=["a", "y"])
    >>> rows.read(0).X.shape
    (3, 1)
    """

    where = "FrameShards"

    def __init__(
        self,
        frames: Mapping[int, Any],
        lengths: Sequence[int],
        target: str | Sequence[str],
        *,
        columns: Iterable[str],
        features: Sequence[str] | None = None,
        weight: str | None = None,
    ) -> None:
        super().__init__(columns, target, features, weight)
        self._frames, self.lengths = frames, list(lengths)

    def frame(self, number: int, names: Sequence[str]) -> Any:
        """Return a shard."""
        if number not in self._frames:
            raise OptionError(
                f"FrameShards: expected shard {number} on this process, got {sorted(self._frames)} alone. Give each "
                "process the shards that fall to it."
            )
        return self._frames[number]


class _ParquetShards(TableShards):
    """Parquet files, a shard each."""

    where = "parquet"

    def __init__(self, files: Sequence[Path], facts: Sequence[tuple[dict[str, str], int]], **options: Any) -> None:
        super().__init__(facts[0][0], **options)
        self.files, self.lengths = list(files), [rows for _, rows in facts]
        own = [*self.features, *self.apart]
        known: dict[str, tuple[str, Path]] = {}  # types, and the files that have them
        for file, (columns, rows) in zip(files, facts, strict=True):
            for name in own:
                got = columns.get(name, "no such column")
                if name in columns and (got == "null" or not rows):  # gaps alone have no type
                    continue
                kind, first = known.get(name, (facts[0][0][name], files[0]))
                if name not in columns or (name in known and got != kind):
                    raise DataError(
                        f"parquet: expected {name}: {kind} in {file}, as in {first}, got {got}. Write all files with "
                        "one schema."
                    )
                known.setdefault(name, (got, file))

    def frame(self, number: int, names: Sequence[str]) -> Any:
        """Read some columns of a file."""
        table = parquet_columns(self.files[number], names, self.where)
        if table.num_rows != self.lengths[number]:
            raise FileFormatError(
                f"parquet: expected {self.lengths[number]} rows in {self.files[number]}, got {table.num_rows}. It has "
                "changed since it was looked at."
            )
        return table


def parquet(
    paths: PathLike | Sequence[PathLike],
    target: str | Sequence[str],
    *,
    features: Sequence[str] | None = None,
    weight: str | None = None,
) -> TableShards:
    """Return the rows of Parquet files, a shard each, for `Trainer.fit`; a process reads its own files alone.

    Each process looks at the footers of all files, and opens those that fall to it when a fit begins.

    Parameters
    ----------
    paths : path, pattern or sequence of paths
        A folder, a pattern such as ``"rows/*.parquet"``, or the files; taken in the order of their names.
    target : str or sequence of str
        The column to predict, or several.
    features : sequence of str, optional
        Those to predict it from; by default all others.
    weight : str, optional
        The column of the rows' weights.

    Returns
    -------
    TableShards
        Files may be of different lengths, and empty.

    Raises
    ------
    DataError
        If there is no such file or column, or a file has other columns than the first, or of another type; it is named.
    FileFormatError
        If a file is no whole Parquet file.

    Examples
    --------
    ::

        rows = xpnn.distributed.parquet("rows/*.parquet", target="y")
        trainer.fit(rows, epochs=10, batch_size=4096, group=xpnn.distributed.mpi())
    """
    files = _files(paths, ".parquet", "parquet")
    facts = [parquet_facts(file, "parquet") for file in files]
    return _ParquetShards(files, facts, target=target, features=features, weight=weight)


def npy(
    X: PathLike | Sequence[PathLike],
    y: PathLike | Sequence[PathLike],
    weight: PathLike | Sequence[PathLike] | None = None,
) -> ArrayShards:
    """Return the rows of ``.npy`` files, a shard each, for `Trainer.fit`: memory maps, read where rows are used.

    Parameters
    ----------
    X : path, pattern or sequence of paths
        A pattern such as ``"rows/X*.npy"``, or the files; taken in the order of their names.
    y, weight : path, pattern or sequence of paths
        As many, of targets and weights.

    Raises
    ------
    DataError
        If there are no such files, or not equally many, or a file has other columns than the first.
    FileFormatError
        If a file is no whole npy file.
    ShapeError
        If files that belong together differ in their number of rows.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
    ...     for k in range(2):
    ...         np.save(f"{folder}/X{k}.npy", np.ones((3 + k, 2)))
    ...         np.save(f"{folder}/y{k}.npy", np.arange(3 + k))
    ...     npy(f"{folder}/X*.npy", f"{folder}/y*.npy").lengths
    [3, 4]
    """
    lists = [_files(X, ".npy", "npy"), _files(y, ".npy", "npy")]
    if weight is not None:
        lists.append(_files(weight, ".npy", "npy"))
    if len({len(files) for files in lists}) > 1:
        shown = " and ".join(str(len(files)) for files in lists)
        raise DataError(f"npy: expected as many files of targets as of inputs, got {shown}. Look at the names.")
    parts: list[tuple[Any, ...]] = []
    for files in zip(*lists, strict=True):
        opened = [open_memmap(files[0], other) for other in files[1:]]
        part = [opened[0][0], *(array for _, array in opened)]
        for array, first, file in zip(part, parts[0] if parts else part, files, strict=True):
            if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
                raise DataError(
                    f"npy: expected rows of shape {first.shape[1:]} and dtype {first.dtype} in {file}, as in the first "
                    f"file, got {array.shape[1:]} and {array.dtype}. Write all files alike."
                )
        parts.append(tuple(part))
    return ArrayShards(parts)


def _files(paths: PathLike | Sequence[PathLike], ending: str, where: str) -> list[Path]:
    """Return files by name, in order."""
    if isinstance(paths, str | os.PathLike):
        pattern = os.path.expanduser(os.fspath(paths))
        if os.path.isdir(pattern):
            pattern = os.path.join(glob.escape(pattern), f"*{ending}")
        found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    else:
        found = [Path(path) for path in paths]
    if not found:
        raise DataError(
            f"{where}: expected files, got none for {paths}. Give a folder, or a pattern such as rows/*{ending}."
        )
    return found


class _EncodedShards(ShardedRows):
    """Shards, encoded when they are read."""

    def __init__(self, rows: ShardedRows, encoder: Any, target: Any) -> None:
        self.rows, self.encoder, self.target, self.lengths = rows, encoder, target, rows.lengths
        self.names = rows.names if encoder is None else {}

    def read(self, number: int) -> Part:
        """Return the rows of a shard as a network takes them."""
        if isinstance(self.rows, TableShards):
            y, weight = self.rows.targets(number)
        else:
            _, y, weight = self.rows.part(number)
        X = _inputs(self.rows, number, self.encoder)
        X = X if self.encoder is None else self.encoder.transform(X)
        return Part(X, y if self.target is None else self.target.encode(y), weight)


def encoded(rows: ShardedRows, encoder: Encoder | None = None, target: Any = None) -> ShardedRows:
    """Return rows in shards that are encoded when they are read.

    Parameters
    ----------
    rows : ShardedRows
        From `parquet`, `npy`, or of your own.
    encoder : TableEncoder, Standardizer or MinMax, optional
        Fitted; for the inputs.
    target : ClassTarget or NumberTarget, optional
        Fitted; for the targets.

    Examples
    --------
    >>> import numpy as np
    >>> from xpnn.data import Standardizer
    >>> rows = ArrayShards([(np.array([[0.0], [4.0]]), np.zeros(2)), (np.array([[2.0]]), np.ones(1))])
    >>> encoded(rows, fit_encoder(Standardizer(), rows)).read(1).X.tolist()
    [[0.0]]
    """
    return _EncodedShards(rows, encoder, target)


def _inputs(rows: ShardedRows, number: int, encoder: Any) -> Any:
    """Return the inputs of a shard as an encoder takes them: columns by name, or a matrix."""
    if not isinstance(rows, TableShards):
        return rows.part(number).X
    return rows.columns(number) if isinstance(encoder, TableEncoder) else rows.matrix(number)


def fit_encoder(encoder: E, rows: ShardedRows, group: Group | None = None, *, sample: int = 50_000, seed: int = 0) -> E:
    """Fit an encoder or a scaler over the rows of all processes, each of which reads its own; return it.

    Sums, counts and extremes are exact, and quantiles are those of a sample drawn by the seed, so the result is the
    same to the bit on every process, and for any number of them.

    Parameters
    ----------
    encoder : TableEncoder, Standardizer or MinMax
        Not fitted yet; see their `fit_blocks`.
    rows : ShardedRows
        The training rows; for a `TableEncoder` from `parquet`, with columns by name.
    group : Group, optional
        The processes; all of them must call it.
    sample : int, default=50_000
        Rows of the sample of a `TableEncoder`.
    seed : int, default=0
        Draws it.

    Raises
    ------
    DataError, DTypeError, ShapeError
        As by `fit_blocks`; on all processes, naming the rank where it was raised.
    """
    group = Alone() if group is None else group
    lengths = rows.checked()
    mine = [shard for shard in ranges(len(lengths), group.size)[group.rank] if lengths[shard]]
    if isinstance(encoder, TableEncoder):
        if not isinstance(rows, TableShards):
            raise OptionError(
                f"fit_encoder: expected rows with columns by name for a TableEncoder, got {type(rows).__name__}. Scale "
                "arrays by a Standardizer."
            )
        summary = TableSummary(sample=sample, seed=seed, categorical=encoder.categorical)
        with together(group):
            for shard in mine:
                summary.add(rows.columns(shard), part=shard)
        with together(group):
            encoder.fit_blocks(_merged(group, summary))
        return encoder
    moments: Moments | None = None
    with together(group):
        for shard in mine:
            found, _ = gather_moments([_inputs(rows, shard, encoder)], f"fit_encoder (shard {shard})")
            moments = _sum(moments, found)
    with together(group):
        encoder.fit_blocks(_merged(group, moments))
    return encoder


def _sum(one: Any, other: Any) -> Any:
    if one is None or other is None:
        return one if other is None else other
    one.merge(other)
    return one


def _merged(group: Group, mine: Any) -> Any:
    """Return what all processes have gathered, in the order of their ranks."""
    if group.size == 1:
        return mine
    # Between the processes of one training, which run the same script, a pickle is as good as any message.
    texts = group.share(base64.b85encode(pickle.dumps(mine)).decode())
    return functools.reduce(_sum, (pickle.loads(base64.b85decode(text)) for text in texts))


def fit_target(rows: TableShards, group: Group | None = None) -> ClassTarget:
    """Number the classes that a column of labels has on all processes, each of which reads its own rows.

    Parameters
    ----------
    rows : TableShards
        From `parquet`.
    group : Group, optional
        The processes; all of them must call it.

    Returns
    -------
    ClassTarget
        For `encoded`; it decodes predictions too.
    """
    group = Alone() if group is None else group
    lengths, labels = rows.checked(), set[Any]()
    with together(group):
        for shard in ranges(len(lengths), group.size)[group.rank]:
            if lengths[shard]:
                y, _ = rows.targets(shard)
                labels |= set(as_texts(y) if is_text(y) else np.unique(y).tolist())
    every = sorted({label for some in group.share(sorted(labels, key=str)) for label in some}, key=str)
    target = ClassTarget()
    with together(group):
        target.fit(np.repeat(np.asarray(every), 3))  # labels that do not repeat would be taken for numbers of rows
    return target
