"""Cross-validation of an estimator of tables: scores of the folds, and predictions of rows that were not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..data.batching import folds
from ..errors import OptionError

__all__ = ["CrossValidation", "Indices", "divided", "selected"]

Indices: TypeAlias = npt.NDArray[np.int64]


class CrossValidation(NamedTuple):
    """What `cross_validate` returns.

    Attributes
    ----------
    scores : dict of str to array of shape (n_folds,)
        Scores of each fold's held-out rows: of classes ``accuracy`` and ``cross_entropy``, of numbers ``rmse``, ``mae``
        and ``r2``.
    mean, std : dict of str to float
        Over the folds.
    predictions : array of shape (n,), of several targets (n, k)
        Of each row by the network that has not seen it.
    probabilities : array of shape (n, n_classes) or None
        Likewise, of classes.
    fold : array of shape (n,)
        The number of the fold in which a row was held out, -1 of a row that never was.
    """

    scores: dict[str, npt.NDArray[np.float64]]
    mean: dict[str, float]
    std: dict[str, float]
    predictions: npt.NDArray[Any]
    probabilities: npt.NDArray[Any] | None
    fold: Indices

    def __str__(self) -> str:
        shown = [f"{name} {self.mean[name]:.4g} ± {self.std[name]:.2g}" for name in self.scores]
        return f"{', '.join(shown)} over {len(next(iter(self.scores.values())))} folds"


def divided(cv: Any, n: int, y: npt.NDArray[Any], labels: npt.NDArray[Any] | None, seed: int) -> Iterator[Any]:
    """Yield pairs of row numbers, to train on and to hold out.

    Parameters
    ----------
    cv : int, splitter with ``split``, or iterable of pairs
        A number of folds, of each class alike where there are `labels`; or what says itself how rows are divided.
    n : int
        Number of rows.
    y : array of shape (n, ...)
        Targets, for a splitter.
    labels : array of shape (n,) or None
        Class numbers.
    seed : int
        Draws the folds.

    Raises
    ------
    OptionError
        If `cv` is something else, or not between 2 and n.
    """
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        parts = folds(n if labels is None else labels, int(cv), seed)
        for part in parts:
            keep = np.ones(n, dtype=bool)
            keep[part] = False
            yield np.flatnonzero(keep), part
        return
    pairs = cv.split(np.zeros((n, 1)), y) if hasattr(cv, "split") else cv
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise OptionError(
            f"cross_validate: expected cv to be a number of folds, a splitter, or pairs of row numbers, got {cv!r}. "
            "Try 5."
        )
    yield from ((np.asarray(train), np.asarray(test)) for train, test in pairs)


def selected(columns: dict[str, Any], rows: Indices) -> dict[str, Any]:
    """Return some rows of columns of any library, each with the dtype that it has."""
    return {name: _some(column, rows) for name, column in columns.items()}


def _some(column: Any, rows: Indices) -> Any:
    if hasattr(column, "iloc"):  # pandas, whose [] goes by labels
        return column.iloc[rows]
    if hasattr(column, "take") and not isinstance(column, np.ndarray):  # pyarrow
        return column.take(rows)
    if isinstance(column, list | tuple):
        return [column[i] for i in rows.tolist()]
    return column[rows]
