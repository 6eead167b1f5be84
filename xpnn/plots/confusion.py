"""Which class is taken for which."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..backend import to_numpy
from ..errors import DataError, OptionError, ShapeError
from ..metrics import confusion_matrix
from ._figure import Axes, axes_for, cell_texts, settle, slant, write_cells

__all__ = ["plot_confusion_matrix"]


def plot_confusion_matrix(
    confusion: Any, *, class_names: Sequence[str] | None = None, normalize: bool = False, ax: Axes | None = None
) -> Axes:
    r"""Draw how often each true class was given each predicted class.

    .. math:: C_{ij} = \#\{n : \text{true}_n = i,\ \text{predicted}_n = j\}

    Parameters
    ----------
    confusion : array of shape (n_classes, n_classes), or tuple (y_true, y_pred)
        Counts, rows are true classes; or two arrays of integer labels, each of shape (n,), to be counted.
        A tuple of two is always read as the pair.
    class_names : sequence of str, optional
        One name per class; the numbers from 0 by default.
    normalize : bool, default=False
        Show each row as fractions of its true class; a class without samples shows dashes.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.  The colour bar takes its room from this Axes.

    Returns
    -------
    matplotlib Axes
        With the numbers in the cells for up to 30 classes, colours alone beyond.

    Raises
    ------
    ShapeError
        If the matrix is not square.
    DataError
        If it holds negative or non-finite numbers.
    OptionError
        If the number of names is not the number of classes.

    Examples
    --------
    >>> ax = plot_confusion_matrix([[8, 2], [1, 9]], class_names=["cat", "dog"])
    >>> [text.get_text() for text in ax.texts]
    ['8', '2', '1', '9']
    """
    counts, names = _counted(confusion, class_names)
    n = len(names)
    whole = bool((counts == np.round(counts)).all())
    values = counts.astype(np.float64)
    if normalize:
        totals = values.sum(axis=1, keepdims=True)
        values = np.divide(values, totals, out=np.full_like(values, np.nan), where=totals > 0)

    side = min(max(0.45 * n, 3.2), 13.5) if n <= 30 else 8.0
    given, ax = ax, axes_for("plot_confusion_matrix", ax, (side + 2.2, side + 1.2))
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    colours = matplotlib.colormaps["cividis"].with_extremes(bad="#BBBBBB")
    image = ax.imshow(values, cmap=colours, vmin=0.0, vmax=1.0 if normalize else max(float(values.max()), 1e-300))
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.set_label("fraction of the true class" if normalize else "count (samples)")
    if whole and not normalize:
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    step = math.ceil(n / 30)
    ticks, labels = range(0, n, step), names[::step]
    ax.set_xticks(ticks, labels, parse_math=False)
    ax.set_yticks(ticks, labels, parse_math=False)
    ax.set(xlabel="predicted class", ylabel="true class")
    room = min(settle(ax, given)) / n * step
    size = min(10.0, max(0.85 * room, 5.0))
    ax.tick_params(labelsize=size)
    if max(map(len, labels)) * 0.62 * size > 0.9 * room:
        slant(ax)
    if n <= 30:
        cell = min(settle(ax, given)) / n  # rotated names may have taken room
        texts = cell_texts(values, ".2f" if normalize else ".0f" if whole else ".3g")
        longest = max(len(text) for row in texts for text in row)
        write_cells(ax, image, values, texts, max(min(11.0, 0.55 * cell, 0.85 * cell / (0.64 * longest)), 2.0))
    return ax


def _counted(confusion: Any, class_names: Sequence[str] | None) -> tuple[np.ndarray, list[str]]:
    """Return the matrix, counted where it is yet to be, and the names of the classes."""
    where = "plot_confusion_matrix"
    if isinstance(confusion, tuple) and len(confusion) == 2:
        size = None if class_names is None else len(class_names)
        confusion = confusion_matrix(to_numpy(confusion[0]), to_numpy(confusion[1]), n_classes=size)
    counts = to_numpy(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or counts.size == 0:
        raise ShapeError(
            f"{where}: expected a square matrix (n_classes, n_classes), got shape {counts.shape}. "
            "Labels are passed as a tuple (y_true, y_pred)."
        )
    if counts.dtype.kind not in "biuf" or not np.isfinite(counts).all() or (counts < 0).any():
        raise DataError(f"{where}: expected finite counts of at least 0, got others. Rows are true classes.")
    n = counts.shape[0]
    names = [str(i) for i in range(n)] if class_names is None else [str(name) for name in class_names]
    if len(names) != n:
        raise OptionError(f"{where}: expected {n} class_names, got {len(names)}. Give one per class.")
    return counts, names
