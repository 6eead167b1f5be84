"""Parquet and Arrow files: typed columns as the cells that a CSV file of the same table would hold."""

from __future__ import annotations

import contextlib
import datetime
import decimal
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import DataError, FileFormatError
from ..files import EXPANSION, PathLike, existing_file
from ..optional import needs
from .columns import label_key
from .decimals import SHORTEST, SHORTEST_SINGLE
from .rows import Rows
from .written import Numbers, Part, WrittenBuilder

__all__ = ["Typed", "parquet_columns", "parquet_facts", "read_arrow", "read_parquet", "spelt_time"]

_BATCH = 1 << 16  # rows
_CELL = 8  # bytes, of the cells that a file may unpack to
_EXACT = 10**15
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class Typed(NamedTuple):
    """A table of typed columns."""

    names: list[str]
    rows: Rows
    categorical: list[str]  # columns of numbers that are dictionaries
    notes: list[str]  # what was left out


def read_parquet(path: PathLike) -> Typed:
    """Read a Parquet file.

    Raises
    ------
    FileFormatError
        If the file is damaged, or would unpack to very much more than it holds.
    DataError
        If it has no rows, or a name stands twice.
    """
    file = existing_file(path, "load_table")
    with needs("pyarrow", "load_table"):
        import pyarrow.parquet as pq
    with _worded(path, "Parquet"):
        schema = pq.read_schema(file)
        texts = [field.name for field in schema if _is_text(field.type)]
        with pq.ParquetFile(file, read_dictionary=texts) as source:
            _refuse_large(path, source.metadata.num_rows, len(schema))
            groups = _groups([source.metadata.row_group(k).num_rows for k in range(source.metadata.num_row_groups)])
            batches = (batch for some in groups for batch in source.iter_batches(_BATCH, row_groups=some))
            return _gathered(path, schema, batches, source.metadata.num_rows)


def read_arrow(path: PathLike) -> Typed:
    """Read an Arrow file (Feather version 2) or stream, as `read_parquet` does a Parquet file."""
    file = existing_file(path, "load_table")
    with needs("pyarrow", "load_table"):
        import pyarrow as pa
    with _worded(path, "Arrow"), pa.memory_map(str(file)) as source:
        if source.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(source)
            batches = (reader.get_batch(k) for k in range(reader.num_record_batches))
        else:
            source.seek(0)
            reader = pa.ipc.open_stream(source)
            batches = iter(reader)
        return _gathered(path, reader.schema, _validated(batches), None)


def _groups(rows: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of rows to read at once, as many as make a batch: pyarrow holds what it reads until all is read."""
    first = held = 0
    for k, own in enumerate(rows):
        held += own
        if held >= _BATCH or k + 1 == len(rows):
            yield list(range(first, k + 1))
            first, held = k + 1, 0


def _validated(batches: Iterator[Any]) -> Iterator[Any]:
    """Yield batches in pieces, each looked through: a damaged file may say that text lies outside of it."""
    for batch in batches:
        batch.validate(full=True)
        for start in range(0, batch.num_rows, _BATCH):
            yield batch.slice(start, _BATCH)


def parquet_facts(path: PathLike, where: str) -> tuple[dict[str, str], int]:
    """Return the columns of a Parquet file, each with its type in words, and the number of rows: by its footer alone.

    Raises
    ------
    DataError
        If the file is not there, or a name stands twice.
    FileFormatError
        If it is no whole Parquet file.
    """
    file = existing_file(path, where)
    with needs("pyarrow", where):
        import pyarrow.parquet as pq
    with _worded(path, "Parquet", where):
        source = pq.ParquetFile(file)
        schema, rows = source.schema_arrow, source.metadata.num_rows
        source.close()
    _refuse_twice(path, [str(name) for name in schema.names], where)
    return {str(field.name): str(field.type) for field in schema}, rows


def parquet_columns(path: PathLike, names: Sequence[str], where: str) -> Any:
    """Return some columns of a Parquet file, as a table of pyarrow.

    Raises
    ------
    DataError
        If the file is not there.
    FileFormatError
        If it is no whole Parquet file, or has far more cells than its size can hold.
    """
    file = existing_file(path, where)
    with needs("pyarrow", where):
        import pyarrow.parquet as pq
    with _worded(path, "Parquet", where), pq.ParquetFile(file) as source:
        _refuse_large(path, source.metadata.num_rows, len(names), where)
        table = source.read(columns=list(names))
        table.validate(full=True)
    return table


@contextlib.contextmanager
def _worded(path: PathLike, kind: str, where: str = "load_table") -> Iterator[None]:
    """Word what pyarrow raises for a file that is not whole."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, OverflowError, UnicodeDecodeError, MemoryError) as error:
        raise FileFormatError(
            f"{where}: expected a whole {kind} file, got {path}, which cannot be read "
            f"({' '.join(str(error).split())[:200]}). Fetch or write the file again."
        ) from error


def _refuse_large(path: PathLike, rows: int, columns: int, where: str = "load_table") -> None:
    size = existing_file(path, where).stat().st_size
    most = EXPANSION[0] + EXPANSION[1] * size
    if rows * columns * _CELL > 8 * most:
        raise FileFormatError(
            f"{where}: expected at most {most:,} cells from {path} ({size:,} bytes), got {rows * columns:,}. It is "
            "damaged or made to fill memory; if it is right, write it as CSV."
        )


def _gathered(path: PathLike, schema: Any, batches: Iterator[Any], promised: int | None) -> Typed:
    """Put the columns together from batches of rows."""
    names: list[str] = [str(name) for name in schema.names]
    _refuse_twice(path, names)
    kept = [k for k, field in enumerate(schema) if _is_read(field.type)]
    notes = [
        f"column {field.name!r} holds {field.type}, which is neither a number, text nor a date: left out"
        for k, field in enumerate(schema)
        if k not in kept
    ]
    builders = [WrittenBuilder() for _ in kept]
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        _refuse_large(path, rows, len(names))
        for builder, k in zip(builders, kept, strict=True):
            builder.add(_part(batch.column(k)))
    if not kept or not rows:
        raise DataError(f"load_table: expected rows of numbers or text in {path}, got none. Check how it was written.")
    if promised not in (None, rows):
        raise FileFormatError(
            f"load_table: expected {promised:,} rows in {path}, as it says, got {rows:,}. Fetch or write it again."
        )
    categorical = [names[k] for k in kept if _is_coded_number(schema.field(k).type)]
    return Typed([names[k] for k in kept], Rows([builder.build() for builder in builders]), categorical, notes)


def _refuse_twice(path: PathLike, names: list[str], where: str = "load_table") -> None:
    twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
    if twice is not None:
        raise DataError(f"{where}: expected different names in {path}, got {twice!r} twice. Rename one.")


# -- columns ------------------------------------------------------------------------------------------------------
def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_coded_number(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    return bool(t.is_dictionary(kind) and (t.is_integer(kind.value_type) or t.is_floating(kind.value_type)))


def _is_read(kind: Any) -> bool:
    import pyarrow as pa

    t = pa.types
    if t.is_dictionary(kind):
        return _is_read(kind.value_type)
    tests = (t.is_integer, t.is_floating, t.is_boolean, t.is_decimal, t.is_temporal, t.is_null)
    return _is_text(kind) or (any(test(kind) for test in tests) and not t.is_interval(kind))


def _part(column: Any) -> Part:
    """Return the cells of some rows of a column."""
    import pyarrow as pa

    kind, t = column.type, pa.types
    if t.is_dictionary(kind) and not _is_text(kind.value_type):
        return _words(column)
    if t.is_integer(kind):
        return _whole(column)
    if t.is_floating(kind):
        single = kind.bit_width < 64
        return _numbers(column, np.float32 if single else np.float64, SHORTEST_SINGLE if single else SHORTEST)
    if t.is_duration(kind):
        seconds = column.cast(pa.int64())
        return _numbers(seconds, np.float64, SHORTEST, _SECONDS[kind.unit])
    return _words(column)


def _numbers(column: Any, dtype: Any, form: int, unit: float = 1.0) -> Part:
    """Return numbers whose text is the shortest that tells them apart."""
    values = column.to_numpy(zero_copy_only=False).astype(dtype).astype(np.float64) * unit
    gaps = np.flatnonzero(np.isnan(values))
    forms = np.full(len(values), form, dtype=np.uint8)
    return Part(np.zeros(len(gaps), dtype=np.uint8), [""], Numbers(gaps, values, forms))


def _whole(column: Any) -> Part:
    """Return whole numbers, with all their digits."""
    gaps = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))
    whole = (column.fill_null(0) if len(gaps) else column).to_numpy(zero_copy_only=False)
    size: npt.NDArray[np.uint64] = whole.astype(np.uint64)
    if whole.dtype.kind == "i":
        np.negative(size, out=size, where=whole < 0)  # of the least integer too
    digits = size if bool((size >= _EXACT).any()) else None
    places = np.zeros(len(whole), dtype=np.uint8)
    numbers = Numbers(gaps, whole.astype(np.float64), places, digits)
    return Part(np.zeros(len(gaps), dtype=np.uint8), [""], numbers)


def _words(column: Any) -> Part:
    """Return what is no number as text: dates and times as ISO 8601, with a blank between them."""
    import pyarrow as pa

    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
    values = column.dictionary
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        values = values.cast(pa.timestamp("us", values.type.tz), safe=False)
    elif pa.types.is_time64(values.type):
        values = values.cast(pa.time64("us"), safe=False)
    try:
        words = ["" if value is None else _word(value) for value in values.to_pylist()]
    except (ValueError, OverflowError):  # of years that Python does not count
        words = ["" if value is None else value for value in values.cast(pa.string()).to_pylist()]
    found, first, codes = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Part(place[codes], [[*words, ""][k] for k in found[order].tolist()])


def _word(value: Any) -> str:
    """Return a value as text; decimals without an exponent."""
    if isinstance(value, decimal.Decimal):
        return f"{value:f}"
    if isinstance(value, datetime.datetime):
        return spelt_time(value)
    return label_key(value)


def spelt_time(value: datetime.datetime) -> str:
    """Return a time as text, the day alone at midnight.

    Examples
    --------
    >>> spelt_time(datetime.datetime(2020, 1, 31)), spelt_time(datetime.datetime(2020, 1, 31, 12))
    ('2020-01-31', '2020-01-31 12:00:00')
    """
    return str(value.date() if value.time() == datetime.time() and value.tzinfo is None else value)
