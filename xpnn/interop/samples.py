"""Made-up rows like those that a model was made for, to compare an export with the model where no data are at hand."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.columns import label_key
from ..data.dates import DateColumn
from ..data.encoder import TableEncoder
from ..data.fitted import CategoryColumn, NumberColumn
from ..errors import OptionError
from ..layers import Columns, Embedding
from ..layers.base import Layer
from ..model import Sequential

__all__ = ["features_like", "frame_of", "rows_like"]

HostArray = npt.NDArray[Any]
_GAPS = 0.1  # share of cells that are missing
_DAYS = 1500


def features_like(net: Sequential, n: int, scaler: Any = None) -> HostArray:
    """Return rows of numbers for a network, in the range of its scaler; category numbers where it takes those."""
    rng = np.random.default_rng(0)
    X = 1.5 * rng.standard_normal((n, net.n_in))
    _place_categories(net.layers[0], X, rng)
    if net.takes_integers:
        return X.astype(np.int64)
    if scaler is not None:
        X = X * np.asarray(scaler.scale).reshape(1, -1) + np.asarray(scaler.shift).reshape(1, -1)
    return X if scaler is not None else X.astype(net.backend.wide_name)


def _place_categories(layer: Layer, X: HostArray, rng: np.random.Generator) -> None:
    """Write category numbers where a layer looks such up."""
    if isinstance(layer, Embedding):
        X[...] = rng.integers(layer.n_categories, size=X.shape)
    elif isinstance(layer, Columns):
        start = 0
        for width, inner in layer.groups:
            _place_categories(inner, X[:, start : start + width], rng)
            start += width
    elif layer.sublayers():
        _place_categories(layer.sublayers()[0], X, rng)
    elif layer.takes_categories:  # of somebody's own
        X[...] = 0.0


def rows_like(encoder: TableEncoder, n: int) -> dict[str, HostArray]:
    """Return columns such as an encoder was fitted on, with gaps, unknown categories and numbers beyond the range."""
    rng = np.random.default_rng(0)
    made: dict[str, HostArray] = {}
    for column in encoder.fitted_columns:
        gaps = rng.random(n) < _GAPS
        if isinstance(column, NumberColumn):
            made[column.name] = np.where(gaps, np.nan, _numbers(column, n, rng))
        elif isinstance(column, DateColumn):
            seconds = rng.integers(-30 * 86400, _DAYS * 86400, size=n)
            times = np.datetime64(column.origin, "us") + seconds.astype("timedelta64[s]")
            made[column.name] = np.where(gaps, np.datetime64("NaT"), times)
        else:
            made[column.name] = _categories(column, n, rng)
            made[column.name][gaps] = None
    return made


def _numbers(column: NumberColumn, n: int, rng: np.random.Generator) -> HostArray:
    if column.boolean:
        return rng.integers(2, size=n).astype(np.float64)
    spread = column.spread or 1.0
    low, high = (column.edges[0], column.edges[-1]) if column.edges else (column.center, column.center)
    numbers = rng.uniform(low - spread, high + spread, n)
    known = np.asarray(column.edges or [column.center])
    return np.where(rng.random(n) < 0.3, known[rng.integers(len(known), size=n)], numbers)  # also at the edges


def _categories(column: CategoryColumn, n: int, rng: np.random.Generator) -> HostArray:
    levels = np.empty(len(column.categories) + 1, dtype=object)
    levels[:-1] = column.categories
    levels[-1] = _unknown(column)
    return np.asarray(levels[rng.integers(len(levels), size=n)], dtype=object)


def _unknown(column: CategoryColumn) -> str:
    """Return a category that a column does not have: of numbers another number."""
    try:
        return label_key(max(map(float, column.categories)) + 1.0)
    except (ValueError, OverflowError):
        return "".join(column.categories)[:20] + "?"


def frame_of(columns: dict[str, HostArray]) -> Any:
    """Return columns as a frame of pandas, which the estimators of scikit-learn's kind take."""
    try:
        pandas = importlib.import_module("pandas")
    except ModuleNotFoundError:
        raise OptionError("export: needs rows to compare with, or pandas to make some up. Pass rows=.") from None
    return pandas.DataFrame({name: pandas.Series(column, dtype=column.dtype) for name, column in columns.items()})
