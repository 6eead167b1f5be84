r"""Pictures of training and of what was learnt, drawn with matplotlib.

Every function returns a matplotlib Axes and takes ``ax=`` to draw into a figure of yours.  Without it a fresh
`matplotlib.figure.Figure` is made, which no window manager knows of: nothing pops up and nothing has to be
closed.  Show it in a notebook with ``ax.figure``, or write it with `save_figure`.
Figures of your own keep labels apart best with ``layout="constrained"``.

Colours are the palette of Okabe and Ito [1]_ and the map cividis [2]_, which people with any of the common
colour vision deficiencies can tell apart; marker shapes and line styles repeat what the colours say.
matplotlib is imported when the first picture is drawn.

References
----------
.. [1] Okabe and Ito, "Color Universal Design", 2002 (revised 2008), without its yellow: too pale on white.
.. [2] Nuñez, Anderton and Renslow, "Optimizing colormaps with consideration for color vision deficiency",
   PLOS ONE 13(7), 2018.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ._typing import Array
from .backend import Backend, like, to_numpy
from .errors import BackendUnavailableError, DataError, DTypeError, LabelError, OptionError, ShapeError
from .files import atomic_path
from .metrics import confusion_matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "OKABE_ITO",
    "history_figure",
    "plot_confusion_matrix",
    "plot_decision_boundary",
    "plot_history",
    "save_figure",
]

#: Blue, vermillion, bluish green, reddish purple, orange, sky blue, black.
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

_MARKERS = "os^DvPX<>*"
_NEUTRAL = "#FFFFFF"
# Backgrounds stay paler than the points drawn on them.
_TINT = 0.6

Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


# -- shared by all pictures ----------------------------------------------------------------------------------
def _axes(where: str, ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the only Axes of a new figure of `size` inches."""
    try:
        from matplotlib.axes import Axes as AxesClass
        from matplotlib.figure import Figure as FigureClass
    except ImportError as error:
        raise BackendUnavailableError(f"{where}: needs matplotlib. Run: pip install 'xpnn[plots]'") from error
    if ax is None:
        return FigureClass(figsize=size, layout="constrained").add_subplot()
    if not isinstance(ax, AxesClass):
        raise DTypeError(
            f"{where}: expected ax to be one matplotlib Axes, got {type(ax).__name__}. "
            "Of an array of Axes, pass one element."
        )
    return ax


def _settle(ax: Axes, given: Axes | None) -> tuple[float, float]:
    """Return the width and height of an Axes in points, after the layout of a figure of our own."""
    figure = ax.figure.canvas.figure
    if given is None:
        figure.draw_without_rendering()
    else:
        ax.apply_aspect()
    box = ax.get_window_extent()
    return box.width * 72 / figure.dpi, box.height * 72 / figure.dpi


def _legend_on_top(ax: Axes, given: Axes | None) -> float:
    """Draw a legend along the upper edge and return the share of the height that it needs."""
    handles, labels = ax.get_legend_handles_labels()
    width, height = _settle(ax, given)
    dpi = ax.figure.canvas.figure.dpi
    # As few rows as fit; where even one entry is too wide for the Axes, smaller letters.
    for columns, size in [*((c, 8.5) for c in range(len(labels), 0, -1)), (1, 7.0), (1, 6.0), (1, 5.0)]:
        legend = ax.legend(handles, labels, loc="upper left", ncols=columns, fontsize=size, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # a "$" in a name is a dollar
        box = legend.get_window_extent()
        if box.width * 72 / dpi < 0.97 * width - 8:
            break
    # The rest allows for a layout that the caller applies later, and for lines and dots of some width.
    return min(1.1 * (box.height * 72 / dpi + 14) / height, 0.7)


def _contrasting(rgba: Iterable[float]) -> str:
    """Return black or white, whichever has the larger WCAG contrast against a colour."""
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in list(rgba)[:3])
    luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b
    return "black" if luminance > 0.179 else "white"  # both contrasts are equal at 0.179


def _finite_range(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def save_figure(fig_or_ax: Figure | Axes, path: str | os.PathLike[str], *, dpi: float = 150) -> Path:
    """Write a figure to a file, whole or not at all.

    The picture is written under a temporary name in the same folder and renamed.  Nothing is cut off: the
    edges are moved to hold all labels.

    Parameters
    ----------
    fig_or_ax : matplotlib Figure or Axes
        A figure, or any Axes of it.
    path : str or path
        Where to; the ending chooses the format: ``.png``, ``.pdf``, ``.svg``, …  Missing folders are made.
    dpi : float, default=150
        Dots per inch of pixel formats.

    Returns
    -------
    pathlib.Path
        The file written.

    Raises
    ------
    OptionError
        If the ending names no format that matplotlib writes.
    DataError
        If the folder cannot be written to.
    DTypeError
        If `fig_or_ax` is neither a figure nor an Axes.

    Examples
    --------
    >>> import tempfile
    >>> ax = plot_history({"loss": [0.9, 0.5, 0.4]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_figure(ax, folder + "/loss.png").name
    'loss.png'
    """
    target = Path(path)
    canvas = getattr(getattr(fig_or_ax, "figure", fig_or_ax), "canvas", None)
    figure = getattr(canvas, "figure", None)
    if figure is None:
        raise DTypeError(
            f"save_figure: expected a matplotlib Figure or Axes, got {type(fig_or_ax).__name__}. "
            "Pass what a plot function returned."
        )
    formats = figure.canvas.get_supported_filetypes()
    kind = target.suffix[1:].lower()
    if kind not in formats:
        raise OptionError(
            f"save_figure: expected a file name ending in one of .{', .'.join(sorted(formats))}, "
            f"got {target.name!r}. Add an ending such as .png."
        )
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format=kind, dpi=dpi, bbox_inches="tight")
    return target


# -- history -------------------------------------------------------------------------------------------------
_AXIS_LABELS = {
    "loss": "loss (mean per sample)",
    "accuracy": "accuracy (fraction correct)",
    "lr": "learning rate (per step)",
    "grad_norm": "gradient norm",
    "seconds": "time (seconds)",
}
# What describes the run and not how well the network does.
_BOOKKEEPING = {"epoch", "step", "lr", "grad_norm", "seconds"}
_SMALL_IS_GOOD = {"loss", "error", "mae", "mse", "rmse", "nll", "perplexity", "brier", "deviance", "pinball"}
_LARGE_IS_GOOD = {"accuracy", "f1", "precision", "recall", "r2", "auc", "kappa", "mcc"}


def plot_history(history: Any, *, ax: Axes | None = None, names: Sequence[str] | None = None, label: str = "") -> Axes:
    """Draw what was recorded per epoch, and mark the best epoch on the validation data.

    Training curves are solid and validation curves dashed.  A dot marks the smallest ``val_`` loss or error,
    or the largest ``val_`` accuracy or similar; a metric whose good direction is not known gets no dot.  The
    y axis becomes logarithmic when the values span more than two decades.  A value that is not finite leaves
    a gap in its curve; an epoch in which something was not recorded is passed over.

    Parameters
    ----------
    history : History, list of dict, or dict of list
        Anything with ``.rows``, the rows themselves, or columns.  Without a column ``epoch``, epochs count
        from 1.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    names : sequence of str, optional
        Columns to draw, such as ``("accuracy", "val_accuracy")``; by default ``loss`` and, where it was
        recorded, ``val_loss``.
    label : str, optional
        Put before each entry of the legend, to tell runs apart that share one Axes.

    Returns
    -------
    matplotlib Axes
        With one line per name.

    Raises
    ------
    DataError
        If the history is empty or holds nothing finite to draw.
    OptionError
        If a name was not recorded.

    See Also
    --------
    history_figure : The loss and every metric, side by side.

    Examples
    --------
    >>> rows = [{"epoch": 1, "loss": 0.9, "val_loss": 1.0}, {"epoch": 2, "loss": 0.4, "val_loss": 0.6}]
    >>> ax = plot_history(rows)
    >>> [line.get_label() for line in ax.lines]
    ['training loss', 'validation loss', 'best validation loss: 0.6 (epoch 2)']
    """
    rows = _rows(history)
    recorded = list(dict.fromkeys(key for row in rows for key in row))
    if names is None:
        names = [name for name in ("loss", "val_loss") if name in recorded]
        if not names:
            raise DataError(
                f"plot_history: expected a column 'loss', got {', '.join(recorded) or 'no columns'}. "
                "Choose columns with names=."
            )
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in recorded:
            raise OptionError(
                f"plot_history: expected names among {', '.join(recorded)}, got {name!r}. "
                "A val_ column needs validation data in fit."
            )
    curves = {name: curve for name in names if len((curve := _curve(rows, name))[0])}
    drawn = np.concatenate([np.empty(0), *(values for _, values in curves.values())])
    if not np.isfinite(drawn).any():
        raise DataError(
            f"plot_history: expected finite values of {', '.join(names) or 'some column'}, got none. "
            "If the training diverged, lower the learning rate."
        )

    given, ax = ax, _axes("plot_history", ax, (6.4, 4.4))
    from matplotlib.ticker import MaxNLocator

    first_colour = sum(not line.get_gid() for line in ax.lines)
    prefix = f"{label}: " if label else ""
    few = max(len(epochs) for epochs, _ in curves.values()) <= 30
    for index, (name, (epochs, values)) in enumerate(curves.items()):
        colour = OKABE_ITO[(first_colour + index) % len(OKABE_ITO)]
        validation = name.startswith("val_")
        ax.plot(
            epochs,
            values,
            color=colour,
            label=prefix + _series_label(name),
            linewidth=1.8,
            linestyle="--" if validation else "-",
            marker="." if few else "",
        )
        best = _best(name, values) if validation else None
        if best is not None:
            ax.plot(
                [epochs[best]],
                [values[best]],
                "o",
                color=colour,
                markeredgecolor="black",
                markersize=8,
                zorder=3,
                label=f"{prefix}best {_series_label(name)}: {values[best]:.4g} (epoch {epochs[best]:g})",
                gid="best",
            )

    ax.set_xlabel("epoch")
    quantities = dict.fromkeys(name.removeprefix("val_") for name in names)
    ax.set_ylabel(" / ".join(_AXIS_LABELS.get(q, q.replace("_", " ")) for q in quantities))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if all(len(line.get_xdata()) == 1 for line in ax.lines):  # type: ignore[arg-type]
        ax.set_xlim(epochs[0] - 0.6, epochs[0] + 0.6)
    ax.grid(visible=True, alpha=0.3)
    lowest, highest = _finite_range(drawn)
    if lowest > 0 and highest / lowest > 100:
        ax.set_yscale("log")
    _make_room(ax, _legend_on_top(ax, given))
    return ax


def history_figure(history: Any) -> Figure:
    """Draw a panel for the loss and one for each metric, training and validation together.

    Parameters
    ----------
    history : History, list of dict, or dict of list
        As for `plot_history`.

    Returns
    -------
    matplotlib Figure
        Up to three panels per row: the loss, then the metrics in the order recorded.  Learning rate, gradient
        norm and time are left out; draw them with `plot_history` and ``names=``.

    Raises
    ------
    DataError
        If the history is empty or holds nothing finite to draw.

    Examples
    --------
    >>> figure = history_figure({"loss": [0.9, 0.5], "accuracy": [0.6, 0.8], "val_accuracy": [0.5, 0.7]})
    >>> [ax.get_ylabel() for ax in figure.axes]
    ['loss (mean per sample)', 'accuracy (fraction correct)']
    """
    rows = _rows(history)
    panels: dict[str, list[str]] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        quantity = name.removeprefix("val_")
        if quantity not in _BOOKKEEPING and all(_is_number(row.get(name)) for row in rows):
            panels.setdefault(quantity, []).append(name)
    if "loss" in panels:
        panels = {"loss": panels.pop("loss"), **panels}
    if not panels:
        raise DataError("history_figure: expected a loss or a metric, got neither. Draw columns with plot_history.")
    _axes("history_figure", None, (1, 1))  # a missing matplotlib is told under this name
    from matplotlib.figure import Figure as FigureClass

    columns = min(len(panels), 3)
    lines = math.ceil(len(panels) / columns)
    figure = FigureClass(figsize=(4.8 * columns, 4.0 * lines), layout="constrained")
    axes = [figure.add_subplot(lines, columns, position + 1) for position in range(len(panels))]
    for ax, names in zip(axes, panels.values(), strict=True):
        plot_history(rows, ax=ax, names=sorted(names, key=lambda name: name.startswith("val_")))
    return figure


def _rows(history: Any) -> list[dict[str, Any]]:
    """Return a history as a list of rows."""
    history = getattr(history, "rows", history)
    if isinstance(history, Mapping):
        lengths = {str(name): len(column) for name, column in history.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(
                f"plot_history: expected columns of one length, got {lengths}. Pad what was not recorded with None."
            )
        size = next(iter(lengths.values()), 0)
        history = [{str(name): column[i] for name, column in history.items()} for i in range(size)]
    if not isinstance(history, Sequence) or not all(isinstance(row, Mapping) for row in history):
        raise DTypeError(
            "plot_history: expected a History, a list of dicts or a dict of lists, "
            f"got {type(history).__name__}. Pass what Trainer.fit returned."
        )
    if not history:
        raise DataError("plot_history: expected at least one epoch, got an empty history. Train first.")
    return [dict(row) for row in history]


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _curve(rows: list[dict[str, Any]], name: str) -> tuple[Floats, Floats]:
    """Return the epochs in which a column was recorded, and its values."""
    epochs, values = [], []
    for number, row in enumerate(rows, start=1):
        value = row.get(name)
        if not _is_number(value):
            raise DataError(
                f"plot_history: expected numbers in {name!r}, got {value!r} in row {number}. Choose other names."
            )
        if value is not None:
            epochs.append(float(row.get("epoch", number)))
            values.append(float(value))
    return np.asarray(epochs, float), np.asarray(values, float)


def _series_label(name: str) -> str:
    words = name.removeprefix("val_").replace("_", " ")
    if name in _BOOKKEEPING:
        return {"lr": "learning rate", "grad_norm": "gradient norm", "seconds": "time"}.get(name, words)
    return f"{'validation' if name.startswith('val_') else 'training'} {words}"


def _best(name: str, values: Floats) -> int | None:
    """Return the index of the best finite value, the first of equals; None where good is not defined."""
    words = set(name.split("_"))
    finite = np.isfinite(values)
    if not finite.any():
        return None
    if words & _SMALL_IS_GOOD:
        return int(np.argmin(np.where(finite, values, np.inf)))
    if words & _LARGE_IS_GOOD:
        return int(np.argmax(np.where(finite, values, -np.inf)))
    return None


def _make_room(ax: Axes, share: float) -> None:
    """Stretch the y axis so that its upper `share` holds no curve."""
    if not ax.get_autoscaley_on():
        return  # the caller fixed the limits
    log = ax.get_yscale() == "log"
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    lowest, highest = _finite_range(values[values > 0] if log else values)
    if log and not lowest > 0:
        return  # the caller's scale shows none of these values
    if log:
        lowest, highest = math.log10(lowest), math.log10(highest)
    if highest == lowest:
        lowest, highest = lowest - 0.05 * (abs(lowest) or 1.0), highest + 0.05 * (abs(highest) or 1.0)
    # The view has a margin m below and above its data limits; solved for curves in the lower 1 - share of it.
    margin = ax.margins()[1]  # type: ignore[index]
    top = lowest + (highest - lowest) / max((1 + 2 * margin) * (1 - share) - margin, 0.05)
    ends = [(0.0, 10**y if log else y) for y in (lowest, top)]
    # Not set_ylim: what the caller draws later still stretches the axis.
    ax.relim()
    ax.update_datalim(ends, updatex=False)
    ax.autoscale_view(scalex=False)


# -- confusion matrix ----------------------------------------------------------------------------------------
def plot_confusion_matrix(
    confusion: Any,
    *,
    class_names: Sequence[str] | None = None,
    normalize: bool = False,
    ax: Axes | None = None,
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

    whole = bool((counts == np.round(counts)).all())
    shown = counts.astype(np.float64)
    if normalize:
        totals = shown.sum(axis=1, keepdims=True)
        shown = np.divide(shown, totals, out=np.full_like(shown, np.nan), where=totals > 0)

    side = min(max(0.45 * n, 3.2), 13.5) if n <= 30 else 8.0
    given, ax = ax, _axes(where, ax, (side + 2.2, side + 1.2))
    import matplotlib
    from matplotlib.ticker import MaxNLocator

    colours = matplotlib.colormaps["cividis"].with_extremes(bad="#BBBBBB")
    top = 1.0 if normalize else max(float(shown.max()), 1e-300)
    image = ax.imshow(shown, cmap=colours, vmin=0.0, vmax=top)
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.03)
    bar.set_label("fraction of the true class" if normalize else "count (samples)")
    if whole and not normalize:
        bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))

    step = math.ceil(n / 30)
    ticks, labels = range(0, n, step), names[::step]
    ax.set_xticks(ticks, labels, parse_math=False)
    ax.set_yticks(ticks, labels, parse_math=False)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    cell = min(_settle(ax, given)) / n
    tick_size = min(10.0, max(0.85 * cell * step, 5.0))
    ax.tick_params(labelsize=tick_size)
    if max(len(name) for name in labels) * 0.62 * tick_size > 0.9 * cell * step:
        for tick in ax.get_xticklabels():
            tick.set(rotation=45, ha="right", va="top", rotation_mode="anchor")
    if n <= 30:
        cell = min(_settle(ax, given)) / n  # rotated names may have taken room
        texts = [[_cell_text(value, normalize, whole) for value in row] for row in shown]
        longest = max(len(text) for row in texts for text in row)
        size = max(min(11.0, 0.55 * cell, 0.85 * cell / (0.64 * longest)), 2.0)
        for (i, j), value in np.ndenumerate(shown):
            back = colours(float(value) / top) if np.isfinite(value) else colours.get_bad()
            ax.text(j, i, texts[i][j], ha="center", va="center", fontsize=size, color=_contrasting(back))
    return ax


def _cell_text(value: float, normalize: bool, whole: bool) -> str:
    if not np.isfinite(value):
        return "–"  # noqa: RUF001
    return f"{value:.2f}" if normalize else f"{value:.0f}" if whole else f"{value:.3g}"


# -- decision boundary ---------------------------------------------------------------------------------------
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
    where = "plot_decision_boundary"
    points, labels = _samples(X, y)
    if isinstance(resolution, bool) or not isinstance(resolution, int) or resolution < 2:
        raise OptionError(f"{where}: expected resolution of at least 2, got {resolution!r}. Try 200.")
    kinds = ("auto", "probabilities", "logits", "labels")
    if output not in kinds:
        raise OptionError(f"{where}: expected output to be one of {', '.join(kinds)}, got {output!r}.")
    if len(feature_names) != 2:
        raise OptionError(f"{where}: expected 2 feature_names, got {len(feature_names)}. Name both columns of X.")

    low, high = points.min(axis=0), points.max(axis=0)
    pad = np.where(high > low, 0.08 * (high - low), 0.5)
    low, high = low - pad, high + pad
    centres = (np.arange(resolution) + 0.5) / resolution
    x1, x2 = (low[k] + centres * (high[k] - low[k]) for k in (0, 1))
    grid = np.stack(np.meshgrid(x1, x2), axis=-1).reshape(-1, 2)

    raw = _evaluate(predict, grid, X)
    if output == "auto":
        output = "probabilities" if hasattr(predict, "predict_proba") else _kind_of(raw, labels)
    shares, classes = _shares(raw, output, labels, getattr(predict, "classes_", None))
    n_classes = len(classes)
    names = [f"class {c}" for c in classes] if class_names is None else [str(name) for name in class_names]
    if len(names) != n_classes:
        raise OptionError(f"{where}: expected {n_classes} class_names, got {len(names)}. Give one per class.")

    given, ax = ax, _axes(where, ax, (6.0, 5.0))
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    palette = np.array([to_rgb(colour) for colour in _class_colours(n_classes)])
    maps = shares.reshape(resolution, resolution, n_classes)
    box = (float(low[0]), float(high[0]), float(low[1]), float(high[1]))
    paper = np.array(to_rgb(_NEUTRAL))
    if n_classes == 2 and probability and output != "labels":
        ends = [tuple(paper + _TINT * (colour - paper)) for colour in palette]
        colours = LinearSegmentedColormap.from_list("two_classes", [ends[0], _NEUTRAL, ends[1]])
        image = ax.imshow(
            maps[..., 1],
            cmap=colours,
            vmin=0.0,
            vmax=1.0,
            extent=box,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
        )
        bar = ax.figure.colorbar(image, ax=ax, pad=0.03, ticks=[0, 0.25, 0.5, 0.75, 1])
        bar.set_label(f"probability of {names[1]}", parse_math=False)
    else:
        top = maps.max(axis=-1)
        # From an even guess, 1/n, to certainty; the floor keeps the colour of an unsure region visible.
        sure = (top - 1 / n_classes) / (1 - 1 / n_classes) if probability else np.ones_like(top)
        strength = _TINT * np.clip(0.15 + 0.85 * sure, 0.0, 1.0)[..., None]
        ax.imshow(
            paper + strength * (palette[maps.argmax(axis=-1)] - paper),
            extent=box,
            origin="lower",
            aspect="auto",
            interpolation="nearest",
        )
    for k in range(n_classes - 1):
        lead = maps[..., k] - np.delete(maps, k, axis=-1).max(axis=-1)
        if lead.min() < 0.0 < lead.max():  # contour warns where there is no line to draw
            ax.contour(x1, x2, lead, levels=[0.0], colors="black", linewidths=1.4)

    size = float(np.clip(400 / math.sqrt(len(points)), 8, 40))
    for k, name in enumerate(names):
        own = points[labels == classes[k]]
        ax.scatter(
            own[:, 0],
            own[:, 1],
            s=size,
            marker=_MARKERS[k % len(_MARKERS)],
            color=[tuple(palette[k])],
            edgecolors="black",
            linewidths=0.7,
            label=name,
            zorder=3,
        )
    ax.set_xlabel(feature_names[0])
    ax.set_ylabel(feature_names[1])
    ax.set_xlim(box[0], box[1])
    share = _legend_on_top(ax, given)
    ax.set_ylim(box[2], box[2] + (box[3] - box[2]) / (1 - share))
    return ax


def _samples(X: Array, y: Array) -> tuple[Floats, np.ndarray[Any, Any]]:
    """Return the points as (n, 2) float64 and the labels as (n,), checked."""
    where = "plot_decision_boundary"
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
    where = "plot_decision_boundary"
    function: Callable[[Any], Any] | None = getattr(predict, "predict_proba", None) or getattr(
        predict, "predict", predict if callable(predict) else None
    )
    if function is None:
        raise DTypeError(
            f"{where}: expected a Trainer, a network or a function, got {type(predict).__name__}. "
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
            f"{where}: expected predict to return ({len(grid)},) or ({len(grid)}, n_out), got {raw.shape}. "
            "It must give one row per row of X."
        )
    if raw.ndim == 2 and raw.shape[1] == 1:
        raw = raw[:, 0]
    if raw.dtype.kind == "f" and not np.isfinite(raw).all():
        raise DataError(f"{where}: expected finite output of predict, got NaN or inf. The network may have diverged.")
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
    where = "plot_decision_boundary"
    if kind == "labels":
        if raw.ndim != 1 or (raw.dtype.kind in "OSU") != (labels.dtype.kind in "OSU"):
            raise LabelError(
                f"{where}: expected predict to return labels like those of y ({labels.dtype}), "
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
            f"{where}: expected labels of {n_classes} classes, as many as predict tells apart, "
            f"got {', '.join(str(c) for c in present[:12])}. Number the classes from 0."
        )
    return np.clip(scores, 0.0, 1.0), classes


def _class_colours(n_classes: int) -> list[Any]:
    if n_classes <= len(OKABE_ITO):
        return list(OKABE_ITO[:n_classes])
    import matplotlib

    return [matplotlib.colormaps["viridis"](k / (n_classes - 1)) for k in range(n_classes)]
