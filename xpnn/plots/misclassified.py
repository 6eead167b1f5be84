"""The samples that a classifier gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array
from ..arguments import count
from ..backend import to_numpy
from ..errors import DataError, LabelError, OptionError, ShapeError
from ._figure import Axes, axes_for
from .tiles import draw_tiles, image_shape, tile_layout

__all__ = ["plot_misclassified"]


def plot_misclassified(
    X: Array,
    y_true: Array,
    y_pred: Array,
    *,
    ax: Axes | None = None,
    shape: Sequence[int] | None = None,
    n: int = 16,
    class_names: Sequence[str] | None = None,
) -> Axes:
    """Draw images that were given a wrong class, each under "true → predicted".

    Given probabilities, the surest mistakes come first and the probability of the wrong class is written; given
    labels, the first mistakes are drawn.

    Parameters
    ----------
    X : array of shape (n_samples, n_features), or (n_samples, height, width[, 3])
        Images as rows, or as images.  Grey levels are drawn from the smallest (white) to the largest number
        (black) of those drawn; three channels are colours, as they are within [0, 1] or [0, 255].
    y_true : array of shape (n_samples,)
        True classes, from 0.
    y_pred : array of shape (n_samples,), or (n_samples, n_classes)
        Predicted classes, or the probability of each.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    shape : tuple of int, optional
        (height, width) or (height, width, 3) of one image; squares are found by themselves.
    n : int, default=16
        Most images to draw.
    class_names : sequence of str, optional
        One name per class; the numbers by default.

    Returns
    -------
    matplotlib Axes
        With one image for each mistake, and the number of all mistakes as title.

    Raises
    ------
    ShapeError
        If the arrays do not fit each other, or the images no shape.
    LabelError
        If classes are not whole numbers from 0.
    DataError
        If an image to be drawn holds NaN or inf.
    OptionError
        If an option is out of range or there are too few names.

    Examples
    --------
    >>> X = np.eye(4).reshape(4, 4)
    >>> ax = plot_misclassified(X, [0, 1, 1, 0], [0, 1, 0, 0])
    >>> [text.get_text() for text in ax.texts]
    ['1 → 0']
    """
    where = "plot_misclassified"
    n = count(n, where, "n")
    images, true, raw = to_numpy(X), to_numpy(y_true), to_numpy(y_pred)
    if true.ndim == 2 and true.shape[1] == 1:
        true = true[:, 0]
    if images.ndim < 2 or true.shape != (len(images),) or raw.shape[:1] != (len(images),) or raw.ndim not in (1, 2):
        raise ShapeError(
            f"{where}: expected equally many rows in X, y_true (n,) and y_pred (n,) or (n, n_classes), "
            f"got shapes {images.shape}, {true.shape}, {raw.shape}. Pass one label per row of X."
        )
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = np.stack([1 - raw[:, 0], raw[:, 0]], axis=1) if raw.dtype.kind == "f" else raw[:, 0]
    sure = raw.max(axis=1) if raw.ndim == 2 else None
    predicted = raw.argmax(axis=1) if raw.ndim == 2 else raw
    true, predicted = (_classes(where, labels) for labels in (true, predicted))
    wrong = np.flatnonzero(true != predicted)
    if sure is not None:
        wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    top = int(max(true.max(initial=0), predicted.max(initial=0)))
    if class_names is not None and len(class_names) <= top:
        raise OptionError(f"{where}: expected {top + 1} class_names, got {len(class_names)}. Give one per class.")
    names = [str(i) for i in range(top + 1)] if class_names is None else [str(name) for name in class_names]
    shape = images.shape[1:] if shape is None and images.ndim > 2 else shape
    size = image_shape(where, int(np.prod(images.shape[1:])), shape)
    drawn = wrong[:n]

    rows, columns = tile_layout(max(len(drawn), 1))
    side = min(1.35 * columns, 10.0)
    given, ax = ax, axes_for(where, ax, (max(side, 3.2), max(side * rows / columns * 1.15, 1.2) + 0.5))
    if not len(drawn):
        ax.set_title("none misclassified" if len(true) else "no samples")
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"all {len(true)} right", ha="center", va="center", transform=ax.transAxes, fontsize=12)
        return ax
    pictures = images[drawn].reshape(-1, *size).astype(np.float64)
    if not np.isfinite(pictures).all():
        raise DataError(f"{where}: expected finite numbers in X, got NaN or inf. Impute or drop such rows.")
    low, high = float(pictures.min()), float(pictures.max())
    if len(size) == 3 and low >= 0 and 1 < high <= 255:
        pictures = pictures / 255.0
    elif len(size) == 3 and (low < 0 or high > 1):
        pictures = (pictures - low) / ((high - low) or 1.0)
    captions = [f"{names[true[k]]} → {names[predicted[k]]}" for k in drawn]
    if sure is not None:
        captions = [f"{text} ({sure[k]:.0%})" for text, k in zip(captions, drawn, strict=True)]
    order = " (surest first)" if sure is not None and len(drawn) < len(wrong) else ""
    ax.set_title(f"{len(wrong)} of {len(true)} misclassified{order}: true → predicted", fontsize=10)
    draw_tiles(ax, given, pictures, captions, (low, high if high > low else low + 1.0), "gray_r")
    return ax


def _classes(where: str, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.int64]]:
    if labels.dtype.kind not in "biuf" or (labels != np.floor(labels)).any() or (labels < 0).any():
        raise LabelError(
            f"{where}: expected classes to be whole numbers from 0, got {labels.dtype} {labels[:3]}. "
            "Number the classes, and name them with class_names."
        )
    return labels.astype(np.int64)
