"""One column of a table as it comes: read as numbers or text, its gaps found, its values named in messages."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError, DTypeError, ShapeError
from ..frames import cells, in_memory, is_gap, table_names
from .written import Written

__all__ = [
    "LARGEST",
    "STRAY",
    "Floats",
    "all_within",
    "as_column",
    "as_columns",
    "as_exact",
    "as_keys",
    "as_numbers",
    "as_option",
    "as_texts",
    "bounded",
    "fast_numbers",
    "is_missing",
    "is_number",
    "is_number_key",
    "is_text",
    "label_key",
    "number_key",
    "one_spelling",
    "plural",
    "quote",
]

Floats: TypeAlias = npt.NDArray[np.float64]

# Beyond this a difference or a square of two values may overflow float64; no measured quantity is as large.
LARGEST = 1e100

_BLOCK = 1 << 16  # numbers looked at together
_DIGITS = 300  # a longer number is beyond float64, and Python reads no more than 4,300
_WHOLE = re.compile(r"([+-]?)0*([0-9]+)(?:\.0*)?")


def as_columns(table: Any, where: str) -> dict[str, Any]:
    """Return the columns of a mapping, or of a frame of pandas, polars or the like, by name."""
    if isinstance(table, Mapping):
        return dict(table)
    table = in_memory(table)
    names = table_names(table)
    if names is None:
        raise DTypeError(
            f"{where}: expected columns by name, got {type(table).__name__}. Pass a frame of pandas or polars, a "
            "table of pyarrow or from load_csv, or a dict of arrays."
        )
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(f"{where}: expected columns with different names in the frame, got {quote(twice)} twice.")
    return {name: table[name] for name in names}  # which `frames.cells` reads


def as_column(name: str, values: npt.ArrayLike | Written) -> Any:
    """Return one column as a 1-D array of booleans, numbers or objects; what a file holds stays as it is written."""
    if isinstance(values, Written):
        return values
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
    """Whether one cell of an object array holds nothing: None, NaN, NaT, pandas.NA or an empty string.

    Examples
    --------
    >>> [is_missing(value) for value in (None, float("nan"), np.datetime64("NaT"), "", "NaN", 0)]
    [True, True, True, True, False, False]
    """
    if value is None or isinstance(value, str):
        return not value
    if is_gap(value):  # NA has no truth value, and a masked cell equals itself
        return True
    try:
        return bool(value != value)
    except (TypeError, ValueError):  # an array, for example
        return False


def is_text(array: npt.NDArray[Any] | Written) -> bool:
    """Whether a column holds any text, as opposed to numbers and gaps alone."""
    if isinstance(array, Written):
        return array.has_text
    return array.dtype.kind == "O" and any(isinstance(v, str) and v != "" for v in array)


#: What to do about text among numbers.
STRAY = "Correct the value, leave it empty if it is missing, or train with this column as categorical."


def as_numbers(name: str, array: npt.NDArray[Any] | Written) -> Floats:
    """Return a column as float64 with NaN for missing values, or say which row is no number."""
    numbers = fast_numbers(array)
    if numbers is None:
        numbers = np.empty(array.shape[0])
        for i, value in enumerate(array):
            try:
                numbers[i] = np.nan if is_missing(value) else _number(value)
            except (TypeError, ValueError, OverflowError):
                raise DataError(
                    f"column {name!r}: expected a number, got {value!r} in data row {i + 1}. {STRAY}"
                ) from None
    return bounded(name, numbers)


def bounded(name: str, numbers: Floats) -> Floats:
    """Return numbers that can be reckoned with, or say which row holds another."""
    if all_within(numbers, LARGEST, equal=True):
        return numbers
    bad = np.flatnonzero(np.abs(numbers) > LARGEST)
    if bad.size:
        raise DataError(
            f"column {name!r}: expected finite numbers (at most {LARGEST:g}), got "
            f"{numbers[bad[0]]:g} in data row {bad[0] + 1} ({plural(bad.size, 'such row')}). "
            "Replace it, or leave the cell empty to have it imputed."
        )
    return numbers


def all_within(numbers: Floats, most: float, *, equal: bool = False) -> bool:
    """Whether the numbers that are there, if there are any, are smaller than some number in size, or at most `equal`.

    Examples
    --------
    >>> all_within(np.array([1.0, np.nan, -2.0]), 2.0), all_within(np.array([1.0, np.nan, -2.0]), 2.0, equal=True)
    (False, True)
    """
    for k in range(0, len(numbers), _BLOCK):
        low, high = np.fmin.reduce(numbers[k : k + _BLOCK]), np.fmax.reduce(numbers[k : k + _BLOCK])
        if low < -most or high > most or (not equal and (low == -most or high == most)):
            return False
    return True


def fast_numbers(array: npt.NDArray[Any] | Written) -> Floats | None:
    """Return numbers at once, NaN for None; None for objects that are to be read one by one."""
    if isinstance(array, Written):
        return None if array.rows_with_comma().size else array.numbers_by(_number_or_none)
    if array.dtype.kind != "O":
        return array.astype(np.float64, copy=False)
    try:
        # NumPy reads None as NaN, and like float() takes 1_000.
        return None if "_" in "".join(filter(None, array.tolist())) else array.astype(np.float64)
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> float:
    if isinstance(value, str) and "_" in value:
        raise ValueError
    return float(value)


def _number_or_none(word: str | None) -> float | None:
    if word is None:
        return float("nan")
    return _number(word) if is_number(word) else None


def is_number(cell: str) -> bool:
    """Whether text is a number; 1_000, which float() reads as Python source does, is none in a table."""
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def number_key(cell: str) -> str:
    """Return the one text by which a number is known, however it is spelt; whole numbers keep all their digits.

    Examples
    --------
    >>> number_key("1.0"), number_key("+01"), number_key("9007199254740993"), number_key("5e-1")
    ('1', '1', '9007199254740993', '0.5')
    """
    if whole := _WHOLE.fullmatch(cell):
        sign, digits = whole.groups()
        return f"-{digits}" if sign == "-" and digits != "0" else digits
    return label_key(float(cell))


def is_number_key(text: str) -> bool:
    """Whether text is what `number_key` makes of some number."""
    return is_number(text) and number_key(text) == text


def label_key(value: object) -> str:
    """Return the text by which a category or label is known, so that 1, 1.0 and True are told apart as a person does.

    Numbers that are equal have one text, of as many digits as their own precision needs.

    Examples
    --------
    >>> label_key(1.0), label_key(2**70 + 1), label_key(np.float32(0.1)), label_key(True), label_key(" a ")
    ('1', '1180591620717411303425', '0.1', 'True', 'a')
    """
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    if isinstance(value, (int, np.integer)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        # A float32 is written with the digits that tell it from other float32.
        number = float(value) if isinstance(value, float) else float(str(value))
        return str(int(value)) if number.is_integer() else repr(number)
    return str(value).strip()


def one_spelling(known: Iterable[str]) -> Callable[[str], str]:
    """Return what to do to a text before it is looked up among `known` labels or categories.

    Where all of them are numbers, so is the text, if it can be: "1.0" is 1.  Words and codes are compared as they are.

    Examples
    --------
    >>> one_spelling(["1", "2"])("1.0"), one_spelling(["1", "b"])("1.0"), one_spelling(["01", "02"])("1")
    ('1', '1.0', '1')
    """
    if all(map(is_number_key, known)):
        return lambda text: number_key(text) if is_number(text) else text
    return str


def as_texts(array: npt.NDArray[Any] | Written) -> list[str | None]:
    """Return a column as text with None for missing values."""
    if isinstance(array, Written) and "" not in array.words:
        return array.tolist()
    if array.dtype.kind != "O":  # each value once, and with its own precision
        values, which = np.unique(array, return_inverse=True)
        texts = [None if is_missing(v) else label_key(v) for v in values]
        return [texts[k] for k in which.tolist()]
    return [None if is_missing(v) else label_key(v) for v in array.tolist()]


def as_keys(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return text with each number in it in one form, so that 1.0 and 1 are one category; None for gaps.

    Examples
    --------
    >>> as_keys(np.array(["1.0", "2", "x", None], dtype=object)).tolist()
    ['1', '2', 'x', None]
    """
    keys = {cell: number_key(cell) if cell is not None and is_number(cell) else cell for cell in set(cells.tolist())}
    return np.array([keys[cell] for cell in cells.tolist()], dtype=object)


def as_exact(cells: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return numbers written as text as objects: integers of any size, floats, and None for gaps.

    Examples
    --------
    >>> as_exact(np.array(["9007199254740993", "1.0", "0.5", None], dtype=object)).tolist()
    [9007199254740993, 1, 0.5, None]
    """

    def exact(key: str | None) -> int | float | None:
        if key is None:
            return None
        return int(key) if key.lstrip("-").isdigit() and len(key) < _DIGITS else float(key)

    return np.array([exact(key) for key in as_keys(cells).tolist()], dtype=object)


def quote(values: Iterable[object], most: int = 5) -> str:
    """List values for a message, at most `most` of them."""
    values = list(values)
    return ", ".join(repr(v) for v in values[:most]) + (", ..." if len(values) > most else "")


def plural(n: int, noun: str) -> str:
    """Return ``1 value`` or ``3 values``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def as_option(name: str) -> str:
    """Spell the name of a column as it stands behind an option that takes a list of them.

    Examples
    --------
    >>> as_option("age"), as_option("size (cm)"), as_option("size, cm")
    ('age', "'size (cm)'", '\\'"size, cm"\\'')
    """
    listed = '"' + name.replace('"', '""') + '"' if any(c in name for c in ',"') or name != name.strip() else name
    return shlex.quote(listed)
