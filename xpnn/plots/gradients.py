"""How much gradient reaches each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backend import to_numpy
from ..errors import DataError, DTypeError
from ._figure import MARKERS, OKABE_ITO, Axes, Floats, axes_for, legend_on_top

__all__ = ["plot_gradient_flow"]


def plot_gradient_flow(net_or_grads: Any, *, ax: Axes | None = None, label: str = "") -> Axes:
    r"""Draw the size of the gradient in each layer, from input to output, on a logarithmic axis.

    .. math:: \mathrm{rms}(g) = \sqrt{\tfrac1n \textstyle\sum_i g_i^2}

    A curve that falls towards the input by decades shows vanishing gradients, one that rises exploding ones.
    A gradient that is exactly zero, which no logarithmic axis holds, is a cross at the lower edge.

    Parameters
    ----------
    net_or_grads : network, Trainer, or dict of str to array
        What holds ``grads`` after a backward pass or a step of training, or the gradients by name
        (``"0.weight"``), of any shapes and library, in the order of the network.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.  Draw several networks of as many layers into one.
    label : str, optional
        Name of the network in the legend.

    Returns
    -------
    matplotlib Axes
        With one line for the weights.

    Raises
    ------
    DTypeError
        If there are no gradients in it.
    DataError
        If a gradient is not finite, or all are zero: nothing was propagated back yet.

    Notes
    -----
    Drawn are the arrays whose name ends in ``weight`` and that have more than one axis (for replicas, all
    together); where there is none, all arrays.

    Examples
    --------
    >>> ax = plot_gradient_flow({"0.weight": [[3e-3, 4e-3]], "2.weight": [[0.3], [0.4]]})
    >>> [float(round(v, 5)) for v in ax.lines[0].get_ydata()]
    [0.00354, 0.35355]
    """
    names, rms = _sizes(net_or_grads)
    given, ax = ax, axes_for("plot_gradient_flow", ax, (6.4, 4.2))
    from matplotlib.ticker import LogLocator, NullFormatter

    place, positive = np.arange(len(rms)), np.where(rms > 0, rms, np.nan)
    index = sum(line.get_gid() == "rms" for line in ax.lines)
    colour, marker = OKABE_ITO[index % len(OKABE_ITO)], MARKERS[index % len(MARKERS)]
    ax.set_yscale("log")
    ax.plot(place, positive, color=colour, marker=marker, linewidth=1.8, label=label or "weights", gid="rms")
    zero = place[rms == 0]
    if len(zero):
        edge = ax.get_xaxis_transform()
        name = f"{label}: exactly 0" if label else "exactly 0"
        ax.plot(zero, [0.02] * len(zero), "X", color=colour, transform=edge, clip_on=False, label=name, gid="zero")
    step = -(-len(rms) // 16)
    ax.set_xticks(place[::step], names[::step], parse_math=False)
    ax.set(xlim=(-0.5, len(rms) - 0.5), xlabel="layer (from input to output)", ylabel="gradient (root mean square)")
    ax.grid(visible=True, alpha=0.3)
    # Room on the logarithmic axis, below for crosses and above for the legend.
    values = np.concatenate([np.asarray(line.get_ydata(), float) for line in ax.lines if line.get_gid() == "rms"])
    low, high = np.log10(np.nanmin(values)), np.log10(np.nanmax(values))
    pad = max(0.08 * (high - low), 0.15)
    share = legend_on_top(ax, given)
    bottom, top = low - pad, low - pad + (high - low + 2 * pad) / (1 - share)
    ax.set_ylim(10.0 ** max(bottom, -300.0), 10.0 ** min(top, 300.0))
    if high - low > 2:
        ax.yaxis.set_major_locator(LogLocator(numticks=12))
        ax.yaxis.set_minor_formatter(NullFormatter())
    return ax


def _sizes(net_or_grads: Any) -> tuple[list[str], Floats]:
    """Return the names of the layers, and the root mean square of each gradient."""
    where = "plot_gradient_flow"
    found = net_or_grads if isinstance(net_or_grads, Mapping) else getattr(net_or_grads, "net", net_or_grads)
    found = found if isinstance(found, Mapping) else getattr(found, "grads", None)
    if not isinstance(found, Mapping) or not found:
        raise DTypeError(
            f"{where}: expected a network or a dict of gradients by name, got {type(net_or_grads).__name__}. "
            "Pass net after net.backward, or net.grads."
        )
    grads = {str(name): to_numpy(array) for name, array in found.items()}
    replicas = len(getattr(getattr(net_or_grads, "store", None), "replicas", ()))
    chosen = {k: g for k, g in grads.items() if k.rpartition(".")[2] == "weight" and g.ndim - replicas > 1} or grads
    sizes = []
    for name, g in chosen.items():
        if g.size == 0 or g.dtype.kind not in "biuf" or not np.isfinite(g).all():
            raise DataError(
                f"{where}: expected finite gradients, got others in {name}. Lower the learning rate, or clip them."
            )
        peak = float(np.abs(g).max())  # squares of small numbers would be zero
        sizes.append(peak * float(np.sqrt(np.mean((g.astype(np.float64) / peak) ** 2))) if peak else 0.0)
    rms = np.asarray(sizes)
    if not (rms > 0).any():
        raise DataError(
            f"{where}: expected gradients that are not all zero. Run net.forward and net.backward, or train, first."
        )
    return [k.rpartition(".")[0] if k.endswith(".weight") else k for k in chosen], rms
