"""Collections of Dask as shards: pieces that lie on the workers of a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..distributed import FrameShards, Part, ShardedRows, encoded
from ..errors import DataError, DTypeError, OptionError
from ..frames import is_collection, table_names
from ..optional import needs

__all__ = ["HeldArrays", "Pieces", "client_of", "pieces_of", "read_pieces"]

_WHERE = "dask.fit"


class HeldArrays(ShardedRows):
    """Arrays of some shards."""

    def __init__(self, parts: dict[int, tuple[Any, ...]], lengths: Sequence[int]) -> None:
        self._parts, self.lengths = parts, list(lengths)

    def read(self, number: int) -> Part:
        """Return a shard."""
        return Part(*self._parts[number])


@dataclass
class Pieces:
    """The shards of a training: pieces of a collection on the cluster, or rows that each process reads by itself.

    `pieces` are futures, one of each shard; `table` tells how frames are read.
    """

    lengths: list[int]
    pieces: list[Any] = field(default_factory=list)
    rows: ShardedRows | None = None
    table: dict[str, Any] | None = None
    encoder: Any = None
    target_encoder: Any = None

    def here(self, held: dict[int, Any]) -> ShardedRows:
        """Return the rows of a process that holds some pieces."""
        rows = self.rows
        if rows is None:
            rows = FrameShards(held, self.lengths, **self.table) if self.table else HeldArrays(held, self.lengths)
        if self.encoder is None and self.target_encoder is None:
            return rows
        return encoded(rows, self.encoder, self.target_encoder)


def client_of(client: Any, where: str) -> Any:
    """Return a client, by default the one that was made last."""
    with needs("distributed", where):
        import distributed
    if client is not None:
        return client
    try:
        return distributed.default_client()
    except ValueError as error:
        raise OptionError(
            f"{where}: expected a client of Dask, got none. Begin with: client = dask.distributed.Client(...)."
        ) from error


def pieces_of(client: Any, data: Any, y: Any, weight: Any) -> list[Any]:
    """Have the pieces of a collection computed on the cluster, and return futures of them."""
    import dask
    import distributed

    if table_names(data) is not None:
        delayed = data.to_delayed()
    else:
        arrays = [data.rechunk({1: -1}) if data.ndim > 1 else data]
        for array in (y, weight):
            if array is not None:
                rows = {0: data.chunks[0], **dict.fromkeys(range(1, array.ndim), -1)}
                arrays.append(array.rechunk(rows))
        columns = [array.to_delayed().reshape(-1) for array in arrays]
        delayed = [dask.delayed(_tuple)(*parts) for parts in zip(*columns, strict=True)]
    futures = client.compute(list(delayed))
    distributed.wait(futures)
    return list(futures)


def _tuple(*parts: Any) -> tuple[Any, ...]:
    return parts


def _length(piece: Any) -> int:
    return len(piece[0] if isinstance(piece, tuple) else piece)


def read_pieces(
    client: Any,
    data: Any,
    y: Any,
    *,
    target: str | Sequence[str] | None,
    features: Sequence[str] | None,
    weight: Any,
    encoder: Any,
    target_encoder: Any,
) -> Pieces:
    """Return the shards of what was given, and refuse what cannot be trained on."""
    encoders = {"encoder": encoder, "target_encoder": target_encoder}
    if isinstance(data, ShardedRows):
        return Pieces(data.checked(), rows=data, **encoders)
    if not is_collection(data):
        raise DTypeError(
            f"{_WHERE}: expected a Dask frame or array, or rows such as xpnn.distributed.parquet(...), got "
            f"{type(data).__name__}. Make one with dask.dataframe.from_pandas or dask.array.from_array."
        )
    names = table_names(data)
    if names is None and (y is None or not is_collection(y)):
        raise DataError(f"{_WHERE}: expected y beside an array, also of Dask, got {type(y).__name__}. Pass both.")
    if names is not None and (y is not None or target is None):
        raise DataError(f"{_WHERE}: expected target, the name of a column of the frame, got none. Leave y out.")
    table = None
    if names is not None:
        table = {"target": target, "columns": names, "features": features, "weight": weight}
        FrameShards({}, [], **table)  # refuses names that are not there
    pieces = pieces_of(client, data, y, None if names is not None else weight)
    lengths = client.gather(client.map(_length, pieces, pure=False))
    return Pieces(lengths, pieces, table=table, **encoders)
