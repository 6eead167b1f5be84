"""Data frames with categorical columns: read column by column, encoded by `xpnn.data.TableEncoder`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..data import TableEncoder

__all__ = ["columns_of", "fit_encoder"]

_SAYS_CATEGORICAL = ("category", "Categorical", "Enum")


def columns_of(X: Any) -> dict[str, np.ndarray]:
    """Return the columns of a pandas or polars frame by name: numbers with NaN, text with None.

    Raises
    ------
    TypeError
        If `X` is no frame, or a column's name is no text.
    """
    if not hasattr(X, "columns") or not hasattr(X, "dtypes"):
        raise TypeError(
            f"categorical_features expects a pandas or polars frame, got {type(X).__name__}. Pass the frame itself, "
            "or leave categorical_features=None for numbers."
        )
    odd = [name for name in X.columns if not isinstance(name, str)]
    if odd:
        raise TypeError(f"categorical_features expects columns named by text, got the name {odd[0]!r}.")
    return {name: _values(X[name]) for name in X.columns}


def _values(column: Any) -> np.ndarray:
    if hasattr(column, "iloc") and not isinstance(column.dtype, np.dtype):  # pandas: NA cannot be compared
        if column.dtype.name in ("Int64", "Int32", "Int16", "Int8", "Float64", "Float32"):
            return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
        column = column.astype(object)
        return np.asarray(column.where(column.notna(), None).to_numpy(dtype=object))
    return np.asarray(column.to_numpy())


def fit_encoder(X: Any, columns: dict[str, np.ndarray], categorical: Any) -> TableEncoder:
    """Fit an encoder on training rows.

    Parameters
    ----------
    X : frame
        Says the dtypes.
    columns : dict of str to array of shape (n,)
        Its training rows.
    categorical : "from_dtype" or list of str
        Which columns hold categories: those whose dtype says so or that hold text, or the named ones.
    """
    if isinstance(categorical, str):
        said = [name for name in columns if str(X[name].dtype).startswith(_SAYS_CATEGORICAL)]
        return TableEncoder(categorical=said).fit(columns)
    named = [str(name) for name in categorical]
    return TableEncoder(categorical=named, numeric=[n for n in columns if n not in named]).fit(columns)
