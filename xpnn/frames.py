"""Data frames, columns, masked arrays and objects as plain NumPy arrays: names, order and gaps.

Frames and columns are of any library (pandas, polars, pyarrow and those that look like them); none is imported.
"""

from __future__ import annotations

import datetime
import decimal
import math
import numbers
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import DataError, DTypeError

__all__ = [
    "array_of",
    "cells",
    "column_names",
    "in_memory",
    "is_collection",
    "is_frame",
    "is_gap",
    "listed",
    "numbers_of",
    "places",
    "plain_names",
    "stacked",
    "table_names",
    "times_of",
    "unwrapped",
]

# Whole numbers up to this one are exact in float64.
_EXACT = 1 << 53
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)
_EPOCH, _MICROSECOND = datetime.datetime(1970, 1, 1), datetime.timedelta(microseconds=1)
_GAPS = ("NAType", "NaTType", "MaskedConstant")


# -- frames ----------------------------------------------------------------------------------------------------
def is_frame(a: Any) -> bool:
    """Whether `a` is a data frame: it has named columns, and becomes an array."""
    return hasattr(a, "columns") and hasattr(a, "to_numpy")


def column_names(a: Any, where: str, name: str) -> list[Any] | None:
    """Return the names of a frame's columns, None of what is no frame; refuse a name that stands twice.

    Examples
    --------
    >>> column_names(np.ones((2, 2)), "fit", "X") is None
    True
    """
    if not is_frame(a):
        return None
    names = list(a.columns)
    twice = [(label, times) for label, times in Counter(names).items() if times > 1]
    if twice:
        raise DataError(
            f"{where}: expected columns of different names in {name}, got {twice[0][0]!r} {twice[0][1]} times. "
            "Rename or drop all but one of them."
        )
    return names


def table_names(table: Any) -> list[Any] | None:
    """Return the names of the columns of a frame, or of a table of pyarrow, as they stand; None of what is neither.

    Examples
    --------
    >>> table_names(np.ones((2, 2))) is None
    True
    """
    names = getattr(table, "column_names", None)  # of pyarrow, where `columns` holds the arrays
    if names is None or callable(names):
        names = getattr(table, "columns", None)
    return None if names is None or not hasattr(table, "__getitem__") else list(names)


def is_collection(value: Any) -> bool:
    """Whether something is a frame or an array of Dask: a plan that is yet to be computed."""
    return callable(getattr(value, "__dask_graph__", None)) and hasattr(value, "to_delayed")


def in_memory(value: Any) -> Any:
    """Return a frame or an array of Dask, or a lazy frame of polars, as what it stands for; anything else as it is."""
    if hasattr(value, "collect_schema") and not hasattr(value, "to_numpy"):
        return value.collect()
    return value.compute() if is_collection(value) else value


def array_of(frame: Any, where: str, name: str) -> npt.NDArray[Any]:
    """Return a frame as an array; refuse dates that would become numbers, of days or of nanoseconds.

    Raises
    ------
    DTypeError
        If a column holds dates or times, and the array would be of numbers.
    """
    array = unwrapped(np.asanyarray(frame.to_numpy()), where, name)
    for label, dtype in zip(frame.columns, getattr(frame, "dtypes", ()), strict=False):
        if str(dtype).lower().startswith(("date", "time", "duration")) and array.dtype.kind in "biuf":
            raise DTypeError(
                f"{where}: expected real numbers in {name}, got dtype {dtype} in column {label!r}. "
                "Count time from a date of your choice."
            )
    return array


def plain_names(names: Sequence[Any] | None) -> list[str | int] | None:
    """Return names as a file can keep them; None where there are none, or some are of another kind than text.

    Examples
    --------
    >>> plain_names(["a", 1]), plain_names([("a", "b")])
    (['a', 1], None)
    """
    if names is None or not all(isinstance(label, str | int) for label in names):
        return None
    return list(names)


def places(given: Sequence[Any], fitted: Sequence[Any], where: str, name: str) -> list[int] | None:
    """Return where the `fitted` columns stand among those `given`; None if they stand as they were fitted.

    Names that a library numbered by itself (0, 1, 2, …) are none beside names of text.

    Raises
    ------
    DataError
        If the names differ.

    Examples
    --------
    >>> places(["b", "a"], ["a", "b"], "predict", "X")
    [1, 0]
    """
    given, fitted = list(given), list(fitted)
    if given == fitted or any(
        _numbered(one) and not _whole(other) for one, other in ((given, fitted), (fitted, given))
    ):
        return None
    if len(given) != len(fitted) or set(given) != set(fitted):
        raise DataError(
            f"{where}: expected {name} with the columns {listed(fitted)}, as fitted, got {listed(given)}. "
            "Pass the same columns; an array without names is taken as it lies."
        )
    place = {label: i for i, label in enumerate(given)}
    return [place[label] for label in fitted]


def _whole(names: Sequence[Any]) -> bool:
    return all(isinstance(label, int | np.integer) for label in names)


def _numbered(names: Sequence[Any]) -> bool:
    return _whole(names) and names == list(range(len(names)))


def listed(names: Sequence[Any], most: int = 20) -> str:
    """Write names or labels out for a message, of many the first.

    Examples
    --------
    >>> listed(["a", "b", "c"], most=2)
    "'a', 'b', … (3 in all)"
    """
    return ", ".join(map(repr, names[:most])) + (f", … ({len(names)} in all)" if len(names) > most else "")


# -- arrays ------------------------------------------------------------------------------------------------------
def unwrapped(a: Any, where: str, name: str) -> npt.NDArray[Any]:
    """Return an array of a subclass of NumPy's as a plain one; refuse masked values.  A memory map stays one.

    Examples
    --------
    >>> unwrapped(np.ma.array([1.0, 2.0]), "fit", "X")
    array([1., 2.])
    """
    if isinstance(a, np.memmap):
        return a
    if isinstance(a, np.ma.MaskedArray):
        masked = int(np.count_nonzero(_mask(a)))
        if masked:
            way = "Drop these rows" if a.ndim < 2 else f"Pass {name}.astype(float).filled(numpy.nan)"
            raise DataError(
                f"{where}: expected {name} without masked values, got {masked} masked of {a.size}. {way}, or impute "
                "them first; xpnn.data.TableEncoder takes masked cells as missing."
            )
        a = a.data
    return np.asarray(a)


def _mask(a: Any) -> npt.NDArray[np.bool_]:
    """Return the mask of a masked array; of records, which have a mask for each field, where any is."""
    mask = np.ma.getmaskarray(a)
    return mask if mask.dtype.names is None else np.any([mask[field] for field in mask.dtype.names], axis=0)


def stacked(values: Any) -> Any:
    """Return a list as NumPy reads it; a list that holds masked arrays as a masked array."""
    if isinstance(values, list | tuple) and any(isinstance(each, np.ma.MaskedArray) for each in values):
        return np.ma.array([np.ma.asarray(each) for each in values])
    return np.asanyarray(values)


def numbers_of(array: npt.NDArray[Any], where: str, name: str) -> npt.NDArray[Any]:
    """Return objects that are plain numbers as numbers, and narrow numbers that NumPy does not know as float32.

    Objects of another kind are left as they are, for whoever asks for numbers to refuse.

    Raises
    ------
    DataError
        If a number is missing.

    Examples
    --------
    >>> numbers_of(np.asarray([1, 2**60 + 1], dtype=object), "fit", "y").tolist()
    [1, 1152921504606846977]
    """
    if array.dtype.isbuiltin == 2 and array.dtype.name.startswith(("bfloat", "float", "int", "uint")):
        return array.astype(np.float32)  # of ml_dtypes: each fits
    if array.dtype.kind != "O":
        return array
    values = array.ravel().tolist()
    kinds = set(map(type, values))
    absent = {kind for kind in kinds if _is_gap_type(kind)}
    if not all(issubclass(kind, numbers.Real | decimal.Decimal | np.bool_) for kind in kinds - absent):
        return array
    if absent:
        gaps = np.argwhere([_is_gap_type(type(value)) for value in values]).ravel()
        at = np.unravel_index(int(gaps[0]), array.shape)
        place = f"row {at[0]}" + (f", column {at[1]}" if len(at) > 1 else "") if at else "its only cell"
        raise DataError(
            f"{where}: expected a number in every cell of {name}, got {len(gaps)} missing, the first in {place}. "
            "Impute or drop them first; xpnn.data.TableEncoder imputes."
        )
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        found = np.asarray([_as_float(value) for value in values])
    return found.reshape(array.shape)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except ValueError:  # decimal's signalling NaN
        return math.nan


# -- cells -------------------------------------------------------------------------------------------------------
def _is_gap_type(kind: type) -> bool:
    return kind is type(None) or kind.__name__ in _GAPS


def is_gap(value: Any) -> bool:
    """Whether an object stands for no value: None, pandas' NA and NaT, or a masked cell, but not NaN.

    Examples
    --------
    >>> is_gap(None), is_gap(float("nan")), is_gap("")
    (True, False, False)
    """
    return _is_gap_type(type(value))


def cells(values: Any, where: str) -> npt.NDArray[Any]:
    """Return the cells of a column, or of labels, of any library: numbers with NaN, or objects with None for gaps.

    Whole numbers keep all their digits: where some are missing and others beyond 2**53, they come as objects.

    Raises
    ------
    DTypeError
        If they are dates or times, complex, or records: one unit or field must be chosen first.

    Examples
    --------
    >>> cells(np.ma.array([5, 6, 7], mask=[0, 1, 0]), "column 'a'")
    array([ 5., nan,  7.])
    """
    array, gaps = _cells_and_gaps(values)
    if array.dtype.kind == "O":
        kinds = set(map(type, array.ravel().tolist()))
        dates = [kind.__name__ for kind in kinds if issubclass(kind, _DATES) and not _is_gap_type(kind)]
        if dates:
            raise _refusal(where, f"values of type {dates[0]}", "mM")
        if any(_is_gap_type(kind) and kind is not type(None) for kind in kinds):
            gaps = gaps | np.reshape([is_gap(value) for value in array.ravel().tolist()], array.shape)
    else:
        array = numbers_of(array, where, "")
        if array.dtype.kind in "VcmM":
            raise _refusal(where, f"dtype {array.dtype}", array.dtype.kind)
    return _with_gaps(array, gaps) if gaps.any() else array


def times_of(values: Any, where: str) -> npt.NDArray[Any] | None:
    """Return a column of dates, or of durations, of any library in microseconds with NaT for gaps; None of others.

    A date in a time zone is what the clock there shows.  Times of the day stand on 1970-01-01.

    Raises
    ------
    DTypeError
        If dates and durations, or dates and other things, stand in one column.

    Examples
    --------
    >>> times_of([datetime.date(2020, 1, 31), None], "column 'day'")
    array(['2020-01-31T00:00:00.000000',                        'NaT'],
          dtype='datetime64[us]')
    >>> times_of([1.5, 2.0], "column 'x'") is None
    True
    """
    array = _clock(values)
    if array.dtype.kind == "O":
        found = [value for value in array.ravel().tolist() if not (is_gap(value) or value != value)]
        if not any(isinstance(value, _DATES) for value in found):
            return None
        made = [_time_of(value) for value in array.ravel().tolist()]
        kinds = {kind for kind, _ in made if kind}
        if len(kinds) != 1 or "?" in kinds:
            shown = sorted({type(value).__name__ for value in found})
            raise DTypeError(f"{where}: expected dates, or durations, alone, got {', '.join(shown)}. Make two columns.")
        gap = np.iinfo(np.int64).min  # NaT
        array = np.asarray([gap if value is None else value for _, value in made], dtype=np.int64)
        return array.view(f"{kinds.pop()}8[us]")
    return array.astype(f"{array.dtype.kind}8[us]") if array.dtype.kind in "mM" else None


def _clock(values: Any) -> npt.NDArray[Any]:
    """Return a column of any library as an array, dates in a time zone as the clock there shows them."""
    dtype = getattr(values, "dtype", None)
    if dtype is not None and hasattr(values, "dt"):  # pandas and polars
        if getattr(dtype, "tz", None) is not None:
            values = values.dt.tz_localize(None)
        elif getattr(dtype, "time_zone", None) is not None:
            values = values.dt.replace_time_zone(None)
        elif str(dtype).startswith("period["):  # of pandas: the time at which it begins
            values = values.dt.to_timestamp()
        elif not isinstance(dtype, np.dtype) and hasattr(values, "astype"):  # pandas' columns of arrow
            return np.asarray(values.astype(object))
    elif _is_arrow(values) and getattr(values.type, "tz", None) is not None:
        return np.asarray(values.to_pylist(), dtype=object)
    array = stacked(values)
    if isinstance(array, np.ma.MaskedArray) and array.dtype.kind in "mM":
        gap = np.array("NaT", dtype=array.dtype)
        array = np.where(_mask(array), gap, array.data)
    return np.asarray(array)


def _refusal(where: str, got: str, kind: str) -> DTypeError:
    way = "Convert it first, dates for example to a number of days."
    if kind == "V":
        way = "Pass one field at a time."
    return DTypeError(f"{where}: expected numbers or text, got {got}. {way}")


def _time_of(value: Any) -> tuple[str, int | None]:
    """Return the kind of one cell, "M" or "m", and its microseconds; "?" for what is neither, "" for a gap."""
    if is_gap(value) or value != value:
        return "", None
    if isinstance(value, datetime.timedelta):
        return "m", value // _MICROSECOND
    if isinstance(value, datetime.datetime):
        return "M", (value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND
    if isinstance(value, datetime.date):
        return "M", (datetime.datetime(value.year, value.month, value.day) - _EPOCH) // _MICROSECOND
    if isinstance(value, datetime.time):
        return "M", (datetime.datetime.combine(_EPOCH, value.replace(tzinfo=None)) - _EPOCH) // _MICROSECOND
    if isinstance(value, np.datetime64 | np.timedelta64):
        return value.dtype.kind, int(value.astype(f"{value.dtype.kind}8[us]").astype(np.int64))
    return "?", None


def _is_arrow(values: Any) -> bool:
    """Whether it is a column of pyarrow."""
    return hasattr(values, "type") and hasattr(values, "null_count") and hasattr(values, "to_pylist")


def _cells_and_gaps(values: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Return a column's values and which of them are missing beside those that say so themselves (NaN, None)."""
    if hasattr(values, "isna") and hasattr(values, "dtype") and not isinstance(values.dtype, np.dtype):  # pandas
        gaps = np.asarray(values.isna())
        plain = getattr(values.dtype, "numpy_dtype", None)
        if isinstance(plain, np.dtype) and plain.kind in "biuf":
            return values.to_numpy(dtype=plain, na_value=plain.type(0)), gaps
        return np.asarray(values.astype(object)), gaps
    if hasattr(values, "is_null") and hasattr(values, "fill_null") and hasattr(values, "dtype"):  # polars
        gaps = np.asarray(values.is_null().to_numpy())
        whole = values.dtype.is_integer()
        if gaps.any() and (whole or str(values.dtype) == "Boolean"):
            values = values.fill_null(0 if whole else False)
        return np.asarray(values.to_numpy()), gaps
    if _is_arrow(values):
        gaps = np.asarray(values.is_null())
        whole = gaps.any() and str(values.type).startswith(("int", "uint"))
        return np.asarray(values.fill_null(0) if whole else values), gaps
    array = stacked(values)
    if isinstance(array, np.ma.MaskedArray):
        return np.asarray(array.data), _mask(array)
    array = np.asarray(array)
    return array, np.zeros(array.shape, np.bool_)


def _with_gaps(array: npt.NDArray[Any], gaps: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    if array.dtype.kind == "f":
        return np.where(gaps, array.dtype.type(np.nan), array)
    if array.dtype.kind in "iu" and not _large(array[~gaps]):
        return np.where(gaps, np.nan, array.astype(np.float64))
    array = array.astype(object)
    array[gaps] = None
    return array


def _large(whole: npt.NDArray[Any]) -> bool:
    return bool(whole.size) and (int(whole.max()) > _EXACT or int(whole.min()) < -_EXACT)
