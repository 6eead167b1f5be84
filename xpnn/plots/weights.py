"""The weights of one layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ..arguments import count, suggest
from ..backend import to_numpy
from ..errors import DataError, DTypeError, OptionError
from ._figure import OKABE_ITO, Axes, axes_for, legend_on_top
from .tiles import draw_tiles, image_shape, tile_layout

__all__ = ["plot_weights"]


def plot_weights(
    net: Any,
    layer: int | str = 0,
    *,
    ax: Axes | None = None,
    kind: Literal["histogram", "images"] = "histogram",
    shape: Sequence[int] | None = None,
    n: int = 36,
) -> Axes:
    """Draw the weights of a layer: how they are distributed, or what each unit looks for.

    Parameters
    ----------
    net : network, Trainer, or dict of str to array
        What holds ``params``, or the parameters by name.
    layer : int or str, default=0
        Number of the layer, or the full name of a parameter such as ``"3.0.weight"``.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    kind : {"histogram", "images"}, default="histogram"
        ``"images"`` draws the weights (n_in,) that lead to each unit as an image: blue is negative, white zero,
        orange positive, on one scale.  It suits the first layer of a network of images.
    shape : tuple of int, optional
        (height, width) of an input image; squares are found by themselves.
    n : int, default=36
        Most units to draw as images, the first ones.  For replicas they are the first network's.

    Returns
    -------
    matplotlib Axes
        With a histogram, or one image for each unit.

    Raises
    ------
    OptionError
        If there is no such layer or kind.
    ShapeError
        If the weights have no image shape.
    DataError
        If a weight is not finite.
    DTypeError
        If `net` holds no parameters.

    Examples
    --------
    >>> from xpnn import mlp
    >>> net = mlp([64, 5, 2])
    >>> len(plot_weights(net, 0, kind="images").images)
    5
    """
    where = "plot_weights"
    held = net if isinstance(net, dict) else getattr(getattr(net, "net", net), "params", None)
    if not hasattr(held, "keys") or not held:
        raise DTypeError(
            f"{where}: expected a network with parameters, got {type(net).__name__}. Pass the net or its params."
        )
    if kind not in ("histogram", "images"):
        raise OptionError(f"{where}: expected kind to be 'histogram' or 'images', got {kind!r}. Choose one.")
    n = count(n, where, "n")
    name = layer if isinstance(layer, str) and layer in held else f"{layer}.weight"
    if name not in held:
        raise OptionError(
            f"{where}: expected a layer with weights, one of {', '.join(held)}, got {layer!r}. "
            f"{suggest(name, list(held))}"
        )
    weights = to_numpy(held[name]).astype(np.float64)
    if weights.size == 0 or not np.isfinite(weights).all():
        raise DataError(f"{where}: expected finite numbers in {name}, got others. The training has diverged.")
    return _histogram(name, weights, ax) if kind == "histogram" else _images(name, weights, ax, shape, n)


def _histogram(name: str, weights: Any, ax: Axes | None) -> Axes:
    given, ax = ax, axes_for("plot_weights", ax, (5.6, 4.2))
    index = sum(bool(patch.get_gid() == "weights") for patch in ax.patches)
    values = weights.ravel()
    bins = int(np.clip(np.sqrt(values.size), 5, 60))
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-300):
        pad = 0.5 * abs(low) or 0.5
        low, high = low - pad, high + pad
    label = f"{name}: mean {values.mean():.2g}, std {values.std():.2g}"
    colour = OKABE_ITO[index % len(OKABE_ITO)]
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    ax.stairs(counts, edges, fill=True, color=colour, alpha=0.75, label=label, gid="weights")
    ax.set(xlabel="weight", ylabel="count")
    top = max(float(ax.dataLim.y1), float(counts.max()))
    share = legend_on_top(ax, given)
    ax.set_ylim(0.0, top * 1.03 / (1 - share))
    ax.axvline(0.0, ymax=1 - share, color="black", linewidth=0.8)
    return ax


def _images(name: str, weights: Any, ax: Axes | None, shape: Sequence[int] | None, n: int) -> Axes:
    if weights.ndim == 3:
        weights = weights[0]
    if weights.ndim != 2:
        raise OptionError(f"plot_weights: expected a matrix to draw as images, got {name}. Use kind='histogram'.")
    size = image_shape("plot_weights", weights.shape[0], shape)
    units = weights.T[:n].reshape(-1, *size)
    largest = float(np.abs(units).max()) or 1.0
    if len(size) == 3:
        units = 0.5 + units / (2 * largest)  # three channels: grey is zero
    rows, columns = tile_layout(len(units))
    side = min(max(1.2 * columns, 3.0), 8.0)
    given, ax = ax, axes_for("plot_weights", ax, (side + 1.0, side * rows / columns + 0.5))
    image = draw_tiles(ax, given, units, [""] * len(units), (-largest, largest), "PuOr_r")
    some = "" if len(units) == weights.shape[1] else f"first {len(units)} of "
    ax.set_title(f"{name}: {some}{weights.shape[1]} units", fontsize=10)
    if len(size) == 2:
        ax.figure.colorbar(image, ax=ax, fraction=0.046, pad=0.02, label="weight")
    return ax
