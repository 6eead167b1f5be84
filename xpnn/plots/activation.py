"""An activation function, its slope, and where it saturates."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arguments import number
from ..backend import to_numpy
from ..errors import DTypeError, OptionError
from ..layers import Layer, Softmax, get_activation
from ..layers.plan import unbound
from ..model import Sequential
from ._figure import OKABE_ITO, Axes, Floats, axes_for, legend_on_top

__all__ = ["plot_activation"]


def plot_activation(
    activation: str | Layer,
    *,
    ax: Axes | None = None,
    derivative: bool = True,
    span: tuple[float, float] = (-6.0, 6.0),
    saturation: float = 0.05,
) -> Axes:
    r"""Draw an activation function, its derivative, and the regions in which it saturates.

    Saturated is, from an edge of the picture inwards, where :math:`|f'(z)| \le s \max_z |f'(z)|`: there next to
    no gradient comes through.  (For ReLU that is the side on which a unit is dead.)  Both curves come from the
    layer's own passes, in float64.

    Parameters
    ----------
    activation : str or Layer
        A name such as ``"relu"``, or an elementwise layer; of a network's layer with learned slopes, the first
        unit's is drawn.  Softmax is drawn as the first of two outputs, the other score being 0.
    ax : matplotlib Axes, optional
        Where to draw; a new figure by default.
    derivative : bool, default=True
        Whether to draw :math:`f'(z)`, dashed.
    span : pair of float, default=(-6, 6)
        The interval of `z`.
    saturation : float, default=0.05
        The share `s` of the steepest slope, from 0 to 1.

    Returns
    -------
    matplotlib Axes
        With a line for each curve and a grey span for each saturated region.

    Raises
    ------
    OptionError
        If the name is unknown, or `span` or `saturation` is out of range.
    DTypeError
        If `activation` is neither a name nor an elementwise layer.

    Examples
    --------
    >>> ax = plot_activation("tanh")
    >>> [line.get_label() for line in ax.lines]
    ['tanh(z)', 'derivative']
    """
    where = "plot_activation"
    low, high = (number(end) for end in span) if len(span) == 2 else (np.nan, np.nan)
    if not (np.isfinite([low, high]).all() and low < high):
        raise OptionError(f"{where}: expected span to be two increasing numbers, got {span!r}. Try (-6, 6).")
    if not 0 <= number(saturation) <= 1:
        raise OptionError(f"{where}: expected saturation from 0 to 1, got {saturation!r}. Try 0.05.")
    layer = get_activation(activation) if isinstance(activation, str) else activation
    if not isinstance(layer, Layer):
        raise DTypeError(
            f"{where}: expected a name or an activation layer, got {type(layer).__name__}. Try 'relu' or xpnn.ReLU()."
        )
    z = np.linspace(low, high, 1201)
    values, slopes = _curves(layer, z)
    name = activation if isinstance(activation, str) else type(layer).__name__

    given, ax = ax, axes_for(where, ax, (5.6, 4.2))
    ax.grid(visible=True, alpha=0.3)
    ax.plot(z, values, color=OKABE_ITO[0], linewidth=2.0, label=f"{name}(z)")
    if derivative:
        ax.plot(z, slopes, color=OKABE_ITO[1], linewidth=1.8, linestyle="--", label="derivative")
    steep = np.flatnonzero(np.abs(slopes) > saturation * np.abs(slopes).max())
    label = "saturated"
    for left, right in [(low, z[steep[0]]), (z[steep[-1]], high)] if len(steep) else [(low, high)]:
        if right > left:
            ax.axvspan(left, right, color="#BBBBBB", alpha=0.4, linewidth=0, zorder=0, label=label)
            label = "_saturated"
    ax.set(xlim=(low, high), xlabel="input $z$", ylabel="$f(z)$ and $f'(z)$" if derivative else "$f(z)$")
    drawn = np.concatenate([values, slopes]) if derivative else values
    bottom, top = float(drawn.min()), float(drawn.max())
    margin = 0.06 * ((top - bottom) or 1.0)
    share = legend_on_top(ax, given)
    bottom, top = bottom - margin, top + margin
    ax.set_ylim(bottom, bottom + (top - bottom) / (1 - share))
    return ax


def _curves(layer: Layer, z: Floats) -> tuple[Floats, Floats]:
    """Return the function and its derivative at `z`, by the layer's two passes."""
    pair = isinstance(layer, Softmax)
    width = 2 if pair else getattr(layer, "n_in", 1) if getattr(layer, "params", None) else 1
    net = Sequential(unbound(layer), n_in=width, dtype="float64")
    if net.n_out != width or len(net.params) > 1 or layer.sublayers():
        raise DTypeError(
            f"plot_activation: expected an elementwise layer, got {layer!r}. Try an activation such as xpnn.Tanh()."
        )
    for name, learned in getattr(layer, "params", {}).items():
        own = net.params[f"0.{name}"]
        own[...] = np.asarray(to_numpy(learned), dtype=np.float64).reshape(-1)[: own.size].reshape(own.shape)
    x = np.zeros((len(z), width))
    x[:, 0] = z
    dy = np.zeros((len(z), width))
    dy[:, 0] = 1.0
    y, caches = net.forward(x)
    dx: Any = net.backward(dy, caches, need_dx=True)
    return np.array(y[:, 0]), np.array(dx[:, 0])
