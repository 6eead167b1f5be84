"""Rows of a table, encoded when they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..coding import Code
from .packing import PackedLater

__all__ = ["EncodedRows"]


class EncodedRows:
    """Rows of a table as `TableEncoder.transform` encodes them, kept packed: a batch of them is encoded at a time.

    It stands for the matrix of shape (n, d) wherever rows are trained on or predicted for (`Trainer.fit`,
    `Sequential.predict`), in a tenth of its memory or less.  ``numpy.asarray(rows)`` makes all of it.

    Parameters
    ----------
    packed : array of shape (n, code.packed_width), float32, or PackedLater
        The rows, as `code` packs them; those of a very large table are packed when they are asked for.
    code : Code
        What belongs where.

    Attributes
    ----------
    shape : tuple of int
        That of the matrix.
    packed, code
        As given.

    Examples
    --------
    >>> from xpnn.data import TableEncoder
    >>> table = {"size": np.arange(8.0), "town": np.array(list("abcabcab"), dtype=object)}
    >>> encoder = TableEncoder(bins=4).fit(table)
    >>> rows = encoder.rows(table)
    >>> rows.shape, rows.packed.shape
    ((8, 8), (8, 4))
    >>> bool((np.asarray(rows[2:5]) == encoder.transform(table)[2:5]).all())
    True
    """

    ndim = 2
    dtype = np.dtype(np.float32)

    def __init__(self, packed: npt.NDArray[np.float32] | PackedLater, code: Code) -> None:
        self.packed, self.code = packed, code

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, and columns when they are encoded."""
        return len(self.packed), self.code.width

    def __len__(self) -> int:
        return len(self.packed)

    def __getitem__(self, rows: Any) -> EncodedRows:
        """Return some rows, by a slice or their numbers; `...` and a slice of all columns may stand beside them."""
        if isinstance(rows, tuple):
            rows = next((part for part in rows if part is not Ellipsis), slice(None))
        return EncodedRows(self.packed[rows], self.code)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("encoded rows have no matrix that could be shared: each time it is made")
        made: npt.NDArray[Any] = self.code.expand(
            self.packed.all() if isinstance(self.packed, PackedLater) else self.packed, np, "cpu"
        )
        return made if dtype is None else made.astype(dtype, copy=False)

    def __repr__(self) -> str:
        n, width = self.shape
        return f"EncodedRows({n:,} rows of {width:,} columns, packed in {self.code.packed_width})"
