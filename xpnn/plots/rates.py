"""Learning rates: the sweep that finds one, and schedules over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arguments import count, describe, number
from ..backend import to_numpy
from ..errors import DataError, DTypeError, OptionError
from ..schedules import Schedule
from ._figure import OKABE_ITO, Axes, axes_for, legend_on_top

__all__ = ["plot_lr_finder", "plot_schedule"]


def plot_lr_finder(result: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the loss of a learning-rate sweep over the rate, and mark the suggested rate.

    Parameters
    ----------
    result : LRFinderResult
        What `xpnn.find_lr` returned, or anything with ``lrs``, ``losses`` and ``suggestion``; ``smoothed`` is
        drawn where it is there.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.

    Returns
    -------
    matplotlib Axes
        With a logarithmic axis of learning rates.  Losses far above the first one are cut off.

    Raises
    ------
    DTypeError
        If `result` is not such a result.
    DataError
        If it holds nothing finite.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> sweep = SimpleNamespace(lrs=[1e-3, 1e-2, 1e-1], losses=[1.0, 0.5, 3.0], suggestion=1e-2)
    >>> plot_lr_finder(sweep).get_xscale()
    'log'
    """
    where = "plot_lr_finder"
    if not all(hasattr(result, name) for name in ("lrs", "losses", "suggestion")):
        raise DTypeError(
            f"{where}: expected the result of xpnn.find_lr, got {type(result).__name__}. Pass what find_lr returned."
        )
    lrs, losses = (np.asarray(to_numpy(a), dtype=np.float64) for a in (result.lrs, result.losses))
    smoothed = getattr(result, "smoothed", None)
    if lrs.ndim != 1 or lrs.shape != losses.shape or not np.isfinite(losses).any() or not (lrs > 0).all():
        raise DataError(
            f"{where}: expected as many finite losses as positive rates, got {losses.shape} and {lrs.shape}. "
            "Run find_lr with other limits."
        )
    given, ax = ax, axes_for(where, ax, (6.4, 4.4))
    from matplotlib.transforms import Bbox, TransformedBbox

    ax.set_xscale("log")
    lines = ax.plot(lrs, losses, color="#999999", linewidth=1.0, label="batch loss")
    curve = losses
    if smoothed is not None:
        curve = np.asarray(to_numpy(smoothed), dtype=np.float64)
        lines += ax.plot(lrs, curve, color=OKABE_ITO[0], linewidth=2.0, label="smoothed")
    if result.suggestion is not None:
        at = float(result.suggestion)
        height = float(np.interp(np.log(at), np.log(lrs), curve))
        lines.append(ax.axvline(at, color=OKABE_ITO[1], linewidth=1.2, linestyle="--", gid="suggestion"))
        ax.plot([at], [height], "o", color=OKABE_ITO[1], markeredgecolor="black", label=f"suggestion: {at:.2g}")
    ax.set(xlabel="learning rate (per step)", ylabel="loss (mean per sample)")
    ax.grid(visible=True, alpha=0.3)
    finite = losses[np.isfinite(losses)]
    low, start = float(finite.min()), float(finite[0])
    top = min(float(finite.max()), start + max(start - low, 0.25 * abs(start), 1e-300))
    pad = 0.06 * ((top - low) or abs(top) or 1.0)
    share = legend_on_top(ax, given)
    ax.set_ylim(low - pad, low - pad + (top - low + 2 * pad) / (1 - share))
    below = TransformedBbox(Bbox.from_extents(0.0, 0.0, 1.0, 1.0 - share), ax.transAxes)
    for line in lines:
        line.set_clip_box(below)  # what explodes ends under the legend
    return ax


def plot_schedule(
    schedule: Schedule,
    epochs: int,
    *,
    ax: Axes | None = None,
    lr: float | None = None,
    steps_per_epoch: int = 100,
    watched: Sequence[float] | None = None,
    label: str | None = None,
) -> Axes:
    """Draw a learning-rate schedule over the epochs of a fit.

    Parameters
    ----------
    schedule : Schedule
        It is resolved for the length of the fit, as the Trainer does.
    epochs : int
        Length of the fit.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.  Draw several schedules into one.
    lr : float, optional
        The optimizer's learning rate, to draw rates; factors otherwise.
    steps_per_epoch : int, default=100
        Batches of one epoch; matters for schedules with ``unit="step"``.
    watched : sequence of float, optional
        The monitored values of the epochs, for a schedule that waits for them (`Plateau`).
    label : str, optional
        Name in the legend; the schedule as text, or its class, by default.

    Returns
    -------
    matplotlib Axes
        With one line.

    Raises
    ------
    DTypeError
        If `schedule` is not a schedule.
    OptionError
        If an option is out of range, or the schedule needs `watched`.

    Examples
    --------
    >>> from xpnn import StepDecay
    >>> ax = plot_schedule(StepDecay(every=10), 30, lr=0.1)
    >>> ax.get_ylabel()
    'learning rate (per step)'
    """
    where = "plot_schedule"
    if not isinstance(schedule, Schedule):
        raise DTypeError(
            f"{where}: expected a schedule, got {type(schedule).__name__}. Pass an object such as xpnn.CosineDecay()."
        )
    epochs, steps = count(epochs, where, "epochs"), count(steps_per_epoch, where, "steps_per_epoch")
    if lr is not None and not 0 < number(lr) < np.inf:
        raise OptionError(f"{where}: expected lr > 0 and finite, got {lr!r}. Pass the optimizer's.")
    if schedule.watches is not None and watched is None:
        raise OptionError(
            f"{where}: {type(schedule).__name__} waits for {schedule.watches!r}, which time does not tell. "
            f"Pass its values, watched=history[{schedule.watches!r}]."
        )
    full = describe(schedule)
    text = label if label is not None else full if len(full) <= 40 else type(schedule).__name__
    ready = schedule.resolve(epochs if schedule.unit == "epoch" else epochs * steps)
    seen = [] if watched is None else [float(v) for v in watched]
    factors = []
    for epoch in range(epochs):
        earned = ready.after(seen[:epoch]) if ready.watches is not None and epoch else 1.0
        times = [epoch * steps + slot for slot in range(steps)]
        factors += [earned * ready(t / steps if ready.unit == "epoch" else t) for t in times]

    given, ax = ax, axes_for(where, ax, (6.4, 4.0))
    index = len(ax.lines)
    colour, style = OKABE_ITO[index % len(OKABE_ITO)], ("-", "--", "-.", ":")[index % 4]
    values = np.asarray(factors) * (1.0 if lr is None else float(lr))
    ax.plot(np.arange(epochs * steps) / steps, values, style, color=colour, linewidth=1.8, label=text)
    ax.set(xlabel="epoch", ylabel="factor on the learning rate" if lr is None else "learning rate (per step)")
    ax.grid(visible=True, alpha=0.3)
    drawn = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines])
    low, top = min(float(drawn.min()), 0.0), float(drawn.max())
    pad = 0.04 * ((top - low) or 1.0)
    ax.set_ylim(low - pad, low - pad + (top - low + 2 * pad) / (1 - legend_on_top(ax, given)))
    return ax
