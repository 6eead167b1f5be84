"""What was recorded in each epoch, as curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, DTypeError, OptionError
from ._figure import OKABE_ITO, Axes, Floats, axes_for, legend_on_top

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["history_figure", "plot_history"]

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
_BEST: dict[str, Any] = {"markeredgecolor": "black", "markersize": 8, "zorder": 3, "gid": "best"}


def plot_history(history: Any, *, ax: Axes | None = None, names: Sequence[str] | None = None, label: str = "") -> Axes:
    """Draw what was recorded per epoch, and mark the best epoch on the validation data.

    Training curves are solid and validation curves dashed.  A dot marks the smallest ``val_`` loss or error,
    or the largest ``val_`` accuracy or similar; a metric whose good direction is not known gets no dot.  The
    y axis becomes logarithmic when the values span more than two decades.  A value that is not finite leaves
    a gap in its curve; an epoch in which something was not recorded is passed over.

    Parameters
    ----------
    history : History, list of dict, or dict of list
        Anything with ``.rows``, the rows themselves, or columns.  Without a column ``epoch``, epochs count from 1.
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
    names = _names(rows, names)
    curves = {name: curve for name in names if len((curve := _curve(rows, name))[0])}
    drawn = np.concatenate([np.empty(0), *(values for _, values in curves.values())])
    if not np.isfinite(drawn).any():
        raise DataError(
            f"plot_history: expected finite values of {', '.join(names) or 'some column'}, got none. "
            "If the training diverged, lower the learning rate."
        )

    given, ax = ax, axes_for("plot_history", ax, (6.4, 4.4))
    from matplotlib.ticker import MaxNLocator

    prefix = f"{label}: " if label else ""
    first_colour = sum(not line.get_gid() for line in ax.lines)  # one that the Axes has not used yet
    few = max(len(epochs) for epochs, _ in curves.values()) <= 30
    for index, (name, (epochs, values)) in enumerate(curves.items(), start=first_colour):
        colour, text, validation = OKABE_ITO[index % len(OKABE_ITO)], _series_label(name), name.startswith("val_")
        style = ("." if few else "") + ("--" if validation else "-")
        ax.plot(epochs, values, style, color=colour, label=prefix + text, linewidth=1.8)
        best = _best(name, values) if validation else None
        if best is not None:
            text = f"{prefix}best {text}: {values[best]:.4g} (epoch {epochs[best]:g})"
            ax.plot([epochs[best]], [values[best]], "o", color=colour, label=text, **_BEST)
    quantities = dict.fromkeys(name.removeprefix("val_") for name in names)
    ax.set(xlabel="epoch", ylabel=" / ".join(_AXIS_LABELS.get(q, q.replace("_", " ")) for q in quantities))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    if all(len(line.get_xdata()) == 1 for line in ax.lines):  # type: ignore[arg-type]
        only = list(curves.values())[-1][0][0]
        ax.set_xlim(only - 0.6, only + 0.6)
    ax.grid(visible=True, alpha=0.3)
    lowest, highest = _finite_range(drawn)
    if lowest > 0 and highest / lowest > 100:
        ax.set_yscale("log")
    _make_room(ax, legend_on_top(ax, given))
    return ax


def _names(rows: list[dict[str, Any]], names: Sequence[str] | None) -> list[str]:
    """Return the columns to draw, all of them recorded."""
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
    return names


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
    axes_for("history_figure", None, (1, 1))  # a missing matplotlib is reported under this name
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
    words, finite = set(name.split("_")), np.isfinite(values)
    if finite.any() and words & _SMALL_IS_GOOD:
        return int(np.argmin(np.where(finite, values, np.inf)))
    if finite.any() and words & _LARGE_IS_GOOD:
        return int(np.argmax(np.where(finite, values, -np.inf)))
    return None


def _finite_range(values: Floats) -> tuple[float, float]:
    """Return the smallest and the largest finite value; zeros where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


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
