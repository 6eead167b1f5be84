"""What stands beside the columns: targets, weights and seeds, checked as they come in."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from ..arguments import as_real, suggest
from ..backend import to_numpy
from ..backend.interop import library_of
from ..data.columns import as_texts
from ..data.csv import Table
from ..data.dates import read_column
from ..errors import DataError, OptionError, ShapeError
from ..frames import cells, column_names, in_memory, listed, table_names
from .params import conversion_warning
from .rows import read_rows

__all__ = ["check_sizes", "read_groups", "read_targets", "read_weights", "seed_of", "without_target"]


def seed_of(state: Any, where: str) -> int:
    """Return the seed that a random state stands for; None draws one."""
    if state is None:
        return int(np.random.default_rng().integers(2**31))
    if hasattr(state, "randint"):  # numpy.random.RandomState
        return int(state.randint(2**31 - 1))
    if hasattr(state, "integers"):
        return int(state.integers(2**31))
    if isinstance(state, int | np.integer):
        return int(state)
    raise OptionError(f"{where}: expected random_state to be an integer, a generator or None, got {state!r}. Try 0.")


def read_targets(y: Any, where: str) -> npt.NDArray[Any]:
    """Return the targets on the host, of shape (n,) or (n, k), gaps refused."""
    if y is None:
        raise DataError(f"{where} requires y to be passed, but the target y is None. Pass the column to predict.")
    y = in_memory(y)
    if table_names(y) is not None:
        column_names(y, where, "y")
        y = np.stack([np.asarray(cells(y[name], f"{where}: y")) for name in table_names(y) or ()], axis=1)
    array = cells(to_numpy(y) if library_of(type(y)) == "torch" else y, f"{where}: y")
    if array.ndim == 2 and array.shape[1] == 1:
        warnings.warn(
            f"A column-vector y was passed when a 1d array was expected. Pass y.ravel() to {where}.",
            conversion_warning(),
            stacklevel=4,
        )
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise ShapeError(f"{where}: expected y of shape (n_samples,), got {array.shape}. Pass one value a row.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        what = "NaN" if np.isnan(array).any() else "infinity"
        rows = ~np.isfinite(array).reshape(len(array), -1).all(axis=1)
        raise DataError(
            f"{where}: expected a value in every row of y. Input y contains {what} in {int(rows.sum())} of "
            f"{len(rows)} rows (the first is row {int(rows.argmax())}). Remove these rows or fill them in."
        )
    return array


def read_weights(sample_weight: Any, n: int, where: str) -> npt.NDArray[np.float64] | None:
    """Return weights of `n` rows, None for none; refuse those that cannot weigh."""
    if sample_weight is None:
        return None
    weight = to_numpy(as_real(in_memory(sample_weight), where, "sample_weight", objects=True)).astype(np.float64)
    if weight.ndim == 0:
        weight = np.full(n, float(weight))
    if weight.shape != (n,):
        raise ShapeError(
            f"{where}: expected sample_weight of shape ({n},), one for each row, got {weight.shape}. "
            "Pass a 1D array of weights."
        )
    if not (np.isfinite(weight).all() and (weight >= 0).all()):
        raise DataError(f"{where}: expected finite weights of at least 0 in sample_weight. Look at its values.")
    if not (weight > 0).any():
        raise DataError(
            f"{where}: expected a row that counts, got sample_weight of 0 in all {n} rows: the sum of the weights "
            "is zero. Give some rows a weight above 0."
        )
    return weight


def read_groups(groups: Any, n: int, where: str) -> npt.NDArray[Any] | None:
    """Return what each of `n` rows belongs to as a number; None where nothing is told."""
    if groups is None:
        return None
    array = read_column("groups", in_memory(groups))
    if array.ndim != 1 or len(array) != n:
        raise ShapeError(f"{where}: expected a group for each of {n} rows, got groups of shape {array.shape}.")
    if array.dtype.kind == "O":
        texts = as_texts(array)
        array = np.array(["" if text is None else f"={text}" for text in texts])  # no value is a group of its own
    return np.unique(array, return_inverse=True)[1].reshape(-1)


def without_target(
    X: Any, y: Any, where: str, *, several: bool = False, called: str = "y"
) -> tuple[Any, Any, str | list[str] | None]:
    """Return columns to learn from, the target, and what it is called: a column's name stands for the column.

    Where there may be `several` targets, so does a list of names.  What has no name is called None.
    """
    many = several and isinstance(y, list | tuple) and len(y) > 1 and all(isinstance(name, str) for name in y)
    if not many and not isinstance(y, str):
        return X, y, _called(y)
    if isinstance(X, Table):
        X = {column: X.columns[column] for column in X.names}
    columns = read_rows(X, where).columns
    names = [y] if isinstance(y, str) else list(y)
    unknown = [name for name in names if name not in columns]
    if many and len(unknown) == len(names):
        return X, y, None  # numbers that are text
    if unknown:
        raise DataError(
            f"{where}: expected {called} to be an array or the name of a column of X, got {unknown[0]!r}. "
            f"{suggest(unknown[0], columns, '')} There are {listed(list(columns))}.".replace("  ", " ")
        )
    rest = {column: values for column, values in columns.items() if column not in names}
    if not many:
        return rest, columns[y], y
    return rest, np.stack([np.asarray(cells(columns[name], f"{where}: y")) for name in names], axis=1), names


def _called(y: Any) -> str | list[str] | None:
    """Return what a series or a frame of targets is called."""
    names = table_names(y)
    if names is not None:
        return list(map(str, names)) if len(names) > 1 else None
    name = getattr(y, "name", None)
    return name if isinstance(name, str) and name else None


def check_sizes(n: int, y: npt.NDArray[Any], where: str) -> None:
    """Refuse targets that are more or fewer than the rows."""
    if len(y) != n:
        raise ShapeError(
            f"{where}: expected one target for each row, got {len(y)} for {n} rows (inconsistent numbers of samples). "
            "Pass them together."
        )
