"""Which class each point of the plane is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from .._typing import Array
from ..backend import Backend, like, to_numpy
from ..errors import DataError, DTypeError, LabelError, OptionError, ShapeError
from ._figure import MARKERS, OKABE_ITO, Axes, Floats, axes_for, legend_on_top

__all__ = ["boundary_grid", "plane_samples", "plot_decision_boundary"]

Box: TypeAlias = tuple[float, float, float, float]  # edges: left, right, bottom, top

_WHERE = "plot_decision_boundary"
_TINT = 0.6  # backgrounds stay paler than the points drawn on them
_FLAT: dict[str, Any] = {"origin": "lower", "aspect": "auto", "interpolation": "nearest"}


def plot_decision_boundary(
    predict: Any,
    X: Array,
    y: Array,
    *,
    ax: Axes | None = None,
    resolution: int = 200,
    probability: bool = True,
    output: str = "auto",
    class_names: Sequence[str] | None = None,
    feature_names: Sequence[str] = ("feature $x_1$", "feature $x_2$"),
) -> Axes:
    r"""Draw which class each point of the plane is given, with the data on top.

    With two classes the colour is :math:`P(\text{second class})`, and a black line is drawn where it is 0.5.
    With more, each region has the colour of its most probable class, the stronger the surer, and black lines
    run where the two most probable classes are level.

    Parameters
    ----------
    predict : Trainer, network, estimator or callable
        Something with ``predict_proba``, else with ``predict``, else a function; it is given rows of shape
        (resolution**2, 2) on the backend of the network, or like `X` where there is none.
    X : array of shape (n, 2)
        Samples with two features.
    y : array of shape (n,), (n, 1) or (n, n_classes)
        Class labels; rows of several columns are one-hot or probabilities.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    resolution : int, default=200
        Grid points along each axis, at least 2.
    probability : bool, default=True
        False draws flat regions: the predicted class, not how sure it is.
    output : {"auto", "probabilities", "logits", "labels"}, default="auto"
        What `predict` returns.  ``"auto"``: probabilities from ``predict_proba``; whole numbers or text in
        one column are labels; rows of non-negative numbers that sum to 1, and one column within [0, 1], are
        probabilities; anything else is logits.  State it for a network with one output whose logits may all
        lie in [0, 1].  Probabilities outside [0, 1] are drawn as 0 or 1.
    class_names : sequence of str, optional
        One name per class; ``class 0``, … by default.
    feature_names : pair of str, optional
        Labels of the axes; put the units of your data here.

    Returns
    -------
    matplotlib Axes
        With one image, the border lines and the points.

    Raises
    ------
    ShapeError
        If X is not (n, 2), or y or the output of `predict` does not fit.
    DataError
        If X or the output holds NaN or inf, or X is empty.
    LabelError
        If the labels do not fit the output.
    OptionError
        If an option is unknown or out of range.

    Examples
    --------
    >>> X, y = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 1])
    >>> ax = plot_decision_boundary(lambda X: 8 * (X[:, 0] + X[:, 1]) - 4, X, y, resolution=50)
    >>> ax.images[0].get_array().shape
    (50, 50)
    """
    points, labels = plane_samples(X, y, _WHERE)
    if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 2:
        raise OptionError(f"{_WHERE}: expected resolution of at least 2, got {resolution!r}. Try 200.")
    kinds = ("auto", "probabilities", "logits", "labels")
    if output not in kinds:
        raise OptionError(f"{_WHERE}: expected output to be one of {', '.join(kinds)}, got {output!r}. Choose one.")
    if len(feature_names) != 2:
        raise OptionError(f"{_WHERE}: expected 2 feature_names, got {len(feature_names)}. Name both columns of X.")

    raw = _evaluate(predict, boundary_grid(points, resolution), X)
    if output == "auto":
        output = "probabilities" if hasattr(predict, "predict_proba") else _kind_of(raw, labels)
    shares, classes = _shares(raw, output, labels, getattr(predict, "classes_", None))
    n_classes = len(classes)
    names = [f"class {c}" for c in classes] if class_names is None else [str(name) for name in class_names]
    if len(names) != n_classes:
        raise OptionError(f"{_WHERE}: expected {n_classes} class_names, got {len(names)}. Give one per class.")

    given, ax = ax, axes_for(_WHERE, ax, (6.0, 5.0))
    import matplotlib
    from matplotlib.colors import to_rgb

    palette = np.array([to_rgb(colour) for colour in OKABE_ITO[:n_classes]])
    if n_classes > len(palette):
        palette = matplotlib.colormaps["viridis"](np.arange(n_classes) / (n_classes - 1))[:, :3]
    maps = shares.reshape(resolution, resolution, n_classes)
    x1, x2, box = _lattice(points, resolution)
    if n_classes == 2 and probability and output != "labels":
        _draw_probability(ax, maps[..., 1], palette, box, names[1])
    else:
        _draw_regions(ax, maps, palette, box, faded=probability)
    for k in range(n_classes - 1):
        lead = maps[..., k] - np.delete(maps, k, axis=-1).max(axis=-1)
        if lead.min() < 0.0 < lead.max():  # contour warns where there is no line to draw
            ax.contour(x1, x2, lead, levels=[0.0], colors="black", linewidths=1.4)
    size = float(np.clip(400 / math.sqrt(len(points)), 8, 40))
    dots: dict[str, Any] = {"s": size, "edgecolors": "black", "linewidths": 0.7, "zorder": 3}
    for k, (own, name) in enumerate(zip((points[labels == c] for c in classes), names, strict=True)):
        ax.scatter(*own.T, marker=MARKERS[k % len(MARKERS)], color=[tuple(palette[k])], label=name, **dots)
    ax.set(xlabel=feature_names[0], ylabel=feature_names[1], xlim=box[:2])
    share = legend_on_top(ax, given)
    ax.set_ylim(box[2], box[2] + (box[3] - box[2]) / (1 - share))
    return ax


def _draw_probability(ax: Axes, share: Floats, palette: Floats, box: Box, name: str) -> None:
    """Colour the plane by the probability of the second of two classes."""
    from matplotlib.colors import LinearSegmentedColormap

    first, second = (tuple(1.0 + _TINT * (colour - 1.0)) for colour in palette)
    colours = LinearSegmentedColormap.from_list("two_classes", [first, "white", second])
    image = ax.imshow(share, cmap=colours, vmin=0.0, vmax=1.0, extent=box, **_FLAT)
    bar = ax.figure.colorbar(image, ax=ax, pad=0.03, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.set_label(f"probability of {name}", parse_math=False)


def _draw_regions(ax: Axes, maps: Floats, palette: Floats, box: Box, *, faded: bool) -> None:
    """Give each region the colour of its most probable class, fainter where that is less sure."""
    top, even = maps.max(axis=-1), 1 / maps.shape[-1]
    # From an even guess to certainty; the floor keeps the colour of an unsure region visible.
    sure = (top - even) / (1 - even) if faded else np.ones_like(top)
    strength = _TINT * np.clip(0.15 + 0.85 * sure, 0.0, 1.0)[..., None]
    ax.imshow(1.0 + strength * (palette[maps.argmax(axis=-1)] - 1.0), extent=box, **_FLAT)


def boundary_grid(points: Floats, resolution: int) -> Floats:
    """Return the points of the plane, (resolution**2, 2), at which a boundary around `points` is evaluated.

    Row by row from the bottom, each row from left to right; the middles of the cells of the picture.
    """
    x1, x2, _ = _lattice(points, resolution)
    return np.stack(np.meshgrid(x1, x2), axis=-1).reshape(-1, 2)


def _lattice(points: Floats, resolution: int) -> tuple[Floats, Floats, Box]:
    """Return the grid's coordinates along each axis, and the edges left, right, bottom, top."""
    low, high = points.min(axis=0), points.max(axis=0)
    pad = np.where(high > low, 0.08 * (high - low), 0.5)
    low, high = low - pad, high + pad
    centres = (np.arange(resolution) + 0.5) / resolution
    x1, x2 = (low[k] + centres * (high[k] - low[k]) for k in (0, 1))
    return x1, x2, (float(low[0]), float(high[0]), float(low[1]), float(high[1]))


def plane_samples(X: Array, y: Array, where: str) -> tuple[Floats, np.ndarray[Any, Any]]:
    """Return the points as (n, 2) float64 and the labels as (n,), checked."""
    points, labels = to_numpy(X), to_numpy(y)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ShapeError(f"{where}: expected X of shape (n, 2), got {points.shape}. Choose two features to draw.")
    if len(points) == 0 or points.dtype.kind not in "biuf" or not np.isfinite(points).all():
        raise DataError(f"{where}: expected X with finite numbers and at least one row. Drop rows with NaN or inf.")
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.argmax(axis=1)
    if labels.shape != (len(points),):
        raise ShapeError(f"{where}: expected y of shape ({len(points)},), got {labels.shape}. One label per row of X.")
    if labels.dtype.kind == "f":
        if not np.isfinite(labels).all() or (labels != np.round(labels)).any():
            raise LabelError(f"{where}: expected class labels in y, got real numbers. Regression has no boundary.")
        labels = labels.astype(np.int64)
    return points.astype(np.float64), labels


def _evaluate(predict: Any, grid: Floats, X: Array) -> np.ndarray[Any, Any]:
    """Return the output for the grid on the host, of shape (n,) or (n, n_out)."""
    function: Callable[[Any], Any] | None = getattr(predict, "predict_proba", None) or getattr(
        predict, "predict", predict if callable(predict) else None
    )
    if function is None:
        raise DTypeError(
            f"{_WHERE}: expected a Trainer, a network or a function, got {type(predict).__name__}. "
            "It needs predict_proba, predict or to be callable."
        )
    backend = getattr(getattr(predict, "net", predict), "backend", None)
    if isinstance(backend, Backend):
        given = backend.asarray(grid)
    else:
        dtype = str(getattr(X, "dtype", "")).rpartition(".")[2]
        given = like(grid.astype(dtype if dtype in ("float32", "float64") else "float64"), X)
    raw: np.ndarray[Any, Any] = to_numpy(function(given))
    if raw.ndim not in (1, 2) or len(raw) != len(grid) or raw.size == 0:
        raise ShapeError(
            f"{_WHERE}: expected predict to return ({len(grid)},) or ({len(grid)}, n_out), got {raw.shape}. "
            "It must give one row per row of X."
        )
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise DataError(f"{_WHERE}: expected finite output of predict, got NaN or inf. The network may have diverged.")
    return raw


def _kind_of(raw: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> str:
    """Tell labels, probabilities and logits apart by their values."""
    if raw.ndim == 2:
        level = bool((raw >= 0).all()) and bool(np.allclose(raw.sum(axis=1), 1.0, atol=1e-3))
        return "probabilities" if level else "logits"
    if raw.dtype.kind != "f" or bool(np.isin(raw, labels).all()):
        return "labels"
    return "probabilities" if raw.min() >= 0 and raw.max() <= 1 else "logits"


def _shares(
    raw: np.ndarray[Any, Any], kind: str, labels: np.ndarray[Any, Any], known: Any
) -> tuple[Floats, np.ndarray[Any, Any]]:
    """Return the share of each class at each grid point, (n, n_classes), and the classes."""
    if kind == "labels":
        if raw.ndim != 1 or (raw.dtype.kind in "OSU") != (labels.dtype.kind in "OSU"):
            raise LabelError(
                f"{_WHERE}: expected predict to return labels like those of y ({labels.dtype}), "
                f"got shape {raw.shape} of {raw.dtype}. Return one label per row."
            )
        classes = np.unique(np.concatenate([np.unique(labels), np.unique(raw).astype(labels.dtype)]))
        return (raw[:, None] == classes).astype(np.float64), classes
    scores = raw.astype(np.float64)
    if scores.ndim == 1 and kind == "logits":
        scores = 0.5 * (1.0 + np.tanh(0.5 * scores))  # the sigmoid, without overflow
    if scores.ndim == 1:
        scores = np.stack([1.0 - scores, scores], axis=1)
    elif kind == "logits":
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
    n_classes = scores.shape[1]
    present = np.unique(labels)
    whole = labels.dtype.kind in "biu"
    if known is not None and len(known) == n_classes:
        classes = np.asarray(known)
    elif whole and int(present[0]) >= 0 and int(present[-1]) < n_classes:
        classes = np.arange(n_classes)
    else:
        classes = present
    if len(classes) != n_classes or not np.isin(labels, classes).all():
        raise LabelError(
            f"{_WHERE}: expected labels of {n_classes} classes, as many as predict tells apart, "
            f"got {', '.join(str(c) for c in present[:12])}. Number the classes from 0."
        )
    return np.clip(scores, 0.0, 1.0), classes
