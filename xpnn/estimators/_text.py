"""Text among the inputs: scikit-learn says that it is no number, this says where it is and what to do with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import DataError

__all__ = ["told_of_text"]


@contextmanager
def told_of_text(X: Any) -> Iterator[None]:
    """Around scikit-learn's checks of `X`: turn its ValueError about text into one that tells a way out."""
    try:
        yield
    except ValueError as error:
        found = _first_text(X) if "convert string" in str(error) or "bytes/strings" in str(error) else None
        if found is None:
            raise
        cell, place = found
        raise DataError(
            f"{error}: expected numbers in X, got the text {cell!r} in {place}. "
            "Pass a data frame with categorical_features='from_dtype', or encode tables with xpnn.data.TableEncoder."
        ) from error


def _first_text(X: Any) -> tuple[str, str] | None:
    """Return the first cell that is no number, and where it is."""
    if hasattr(X, "columns"):
        columns = [(f"column {name!r}", np.asarray(X[name], dtype=object)) for name in X.columns]
    else:
        cells = np.asarray(X, dtype=object)
        columns = [(f"column {j}", cells[:, j]) for j in range(cells.shape[1])] if cells.ndim == 2 else []
    return next(((str(cell), place) for place, column in columns for cell in column if _is_text(cell)), None)


def _is_text(cell: Any) -> bool:
    if not isinstance(cell, str | bytes):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False
