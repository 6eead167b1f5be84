"""One column of a table as it comes: read as numbers or text, its gaps found, its values named in messages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, DTypeError, ShapeError
from ..frames import cells

__all__ = [
    "LARGEST",
    "Floats",
    "as_column",
    "as_numbers",
    "as_texts",
    "is_missing",
    "is_number",
    "is_text",
    "label_key",
    "plural",
    "quote",
]

Floats: TypeAlias = npt.NDArray[np.float64]

# Beyond this a difference or a square of two values may overflow float64; no measured quantity is as large.
LARGEST = 1e100


def as_column(name: str, values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return one column as a 1-D array of booleans, numbers or objects."""
    array = cells(values, f"column {name!r}")
    if array.ndim != 1:
        raise ShapeError(f"column {name!r}: expected shape (n,), got {array.shape}. Give one array a column.")
    if array.dtype.kind not in "biufOUT":
        raise DTypeError(
            f"column {name!r}: expected numbers or text, got dtype {array.dtype}. "
            "Convert it first, dates for example to a number of days."
        )
    return array.astype(object) if array.dtype.kind in "UT" else array


def is_missing(value: object) -> bool:
    """Whether one cell of an object array holds nothing: None, NaN or an empty string."""
    return value is None or value == "" or value != value


def is_text(array: npt.NDArray[Any]) -> bool:
    """Whether a column holds any text, as opposed to numbers and gaps alone."""
    return array.dtype.kind == "O" and any(isinstance(v, str) and v != "" for v in array)


def as_numbers(name: str, array: npt.NDArray[Any]) -> Floats:
    """Return a column as float64 with NaN for missing values, or say which row is no number."""
    if array.dtype.kind != "O":
        numbers = array.astype(np.float64)
    else:
        numbers = np.empty(array.shape[0])
        for i, value in enumerate(array):
            try:
                numbers[i] = np.nan if is_missing(value) else float(value)
            except (TypeError, ValueError):
                raise DataError(
                    f"column {name!r}: expected a number, got {value!r} in data row {i + 1}. Correct "
                    "the value, leave it empty if it is missing, or train with this column as categorical."
                ) from None
    bad = np.flatnonzero(np.abs(numbers) > LARGEST)
    if bad.size:
        raise DataError(
            f"column {name!r}: expected finite numbers (at most {LARGEST:g}), got "
            f"{numbers[bad[0]]:g} in data row {bad[0] + 1} ({plural(bad.size, 'such row')}). "
            "Replace it, or leave the cell empty to have it imputed."
        )
    return numbers


def is_number(cell: str) -> bool:
    """Whether text is a number; 1_000, which float() reads as Python source does, is none in a table."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def label_key(value: object) -> str:
    """Return the text by which a category or label is known, so that 1, 1.0 and "1" are the same."""
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, float, np.integer, np.floating)):
        number = float(value)
        return str(int(value)) if number.is_integer() else repr(number)
    return str(value).strip()


def as_texts(array: npt.NDArray[Any]) -> list[str | None]:
    """Return a column as text with None for missing values."""
    return [None if is_missing(v) else label_key(v) for v in array.tolist()]


def quote(values: Iterable[object], most: int = 5) -> str:
    """List values for a message, at most `most` of them."""
    values = list(values)
    return ", ".join(repr(v) for v in values[:most]) + (", ..." if len(values) > most else "")


def plural(n: int, noun: str) -> str:
    """Return ``1 value`` or ``3 values``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
