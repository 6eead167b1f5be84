"""First weights by the data: each unit begins with pre-activations of unit spread, and its kink among the rows."""

from __future__ import annotations

import functools
from typing import Any, Literal

import numpy as np

from ._typing import Array
from .arguments import as_real, count, shown, suggest
from .errors import DataError, OptionError, ShapeError
from .layers import Linear
from .layers.base import walk
from .model import Sequential
from .random import StepKey, stream

__all__ = ["init_from_data"]

Bias = Literal["he+5", "zeros", "keep"]
# Rows whose combination is a unit's zero.
_POINTS = 5
# Columns whose spread is less than so many of their size do not vary: it is what rounding left.
_FLAT = 1e-5


def init_from_data(net: Sequential, X: Any, *, bias: Bias = "he+5", max_rows: int = 10_000) -> Sequential:
    r"""Scale the first weights of all Linear layers to the data, before a fit [1]_.

    Layer by layer, the weights of each unit :math:`j` are divided by the standard deviation of what it makes of the
    rows, so that its pre-activations begin with a spread of 1, whatever the scales of the inputs and the slopes of the
    activations before it:

    .. math:: z = x W, \qquad W_{\cdot j} \leftarrow W_{\cdot j} / \mathrm{std}(z_{\cdot j})

    and its bias is chosen such that it is zero at a point among the rows, a random combination of five of them
    ("he+5" [2]_), which spreads the kinks of the activations over the data:

    .. math:: b_j = -\sum_{m=1}^{5} \omega_{mj}\, z_{i_{mj}\, j}, \qquad
              \omega_{mj} = e_{mj} \big/ \sum_l e_{lj}, \quad e_{mj} \sim \mathrm{Exp}(1)

    Parameters
    ----------
    net : Sequential
        A fresh network; its weights and biases are changed in place.  Dropout is off, and norms work as they predict.
    X : array of shape (n, n_in)
        The training rows, of any library, prepared as they will be trained on.
    bias : {"he+5", "zeros", "keep"}, default="he+5"
        What becomes of the biases of Linear layers; ``"keep"`` leaves them, and then their part of the
        pre-activation moves the mean alone.
    max_rows : int, default=10_000
        Look at no more rows, evenly spaced.

    Returns
    -------
    Sequential
        The same network.

    Raises
    ------
    ShapeError
        If `X` does not fit the network.
    DataError
        If there are no rows, or what a layer makes of them is not finite.
    OptionError
        If an option is out of its range.

    Notes
    -----
    The draws belong to the network's seed: equal on every backend, and each replica begins as it would alone.  Linear
    layers within others (`Residual`) take part.  A unit that gives the same for all rows keeps its weights.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024; the idea is that of Mishkin and Matas, "All you need is a good init", ICLR 2016.
    .. [2] Steinwart, "A sober look at neural network initializations", 2019.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(500, seed=0)
    >>> net = xpnn.init_from_data(xpnn.mlp([2, 16, 2], activation="tanh"), 1000 * X)
    >>> z = 1000 * X @ net.params["0.weight"]
    >>> bool(np.allclose(z.std(axis=0), 1.0, atol=1e-3))
    True
    """
    if not isinstance(net, Sequential):
        raise OptionError(
            f"init_from_data: expected a network, got {shown(net)}. Of a trainer pass its network, trainer.net."
        )
    if bias not in ("he+5", "zeros", "keep"):
        names = ("he+5", "zeros", "keep")
        raise OptionError(
            f"init_from_data: expected bias among {', '.join(names)}, got {bias!r}. {suggest(str(bias), names)}"
        )
    max_rows = count(max_rows, "init_from_data", "max_rows")
    lazy = net.backend.name == "numpy" or not net.backend.owns(X)
    rows = as_real(X, "init_from_data", "X", lazy=True) if lazy else X
    if len(rows.shape) != 2:
        raise ShapeError(
            f"init_from_data: expected X of shape (n, {net.n_in}), got {tuple(rows.shape)}. Pass the training rows."
        )
    if rows.shape[0] == 0:
        raise DataError("init_from_data: expected at least one row in X, got none. Pass the training rows.")
    rows = rows[:: -(-rows.shape[0] // max_rows), :]
    if net.takes_integers:
        net.check_categories(rows)
    # Over the same memory, so that each layer is scaled just before it is used, wherever in the network it is.
    twin = net.twin()
    linears = (layer for layer in walk(twin.layers) if isinstance(layer, Linear))
    for index, layer in enumerate(linears):
        vars(layer)["forward"] = functools.partial(_fitted_forward, net, layer, index, bias)
    twin.bind(twin.store)
    before = net.store.snapshot()
    try:
        twin.forward(rows)
    except BaseException:
        net.store.restore(before)
        raise
    return net


def _fitted_forward(
    net: Sequential, layer: Linear, index: int, bias: Bias, x: Array, *, train: bool = False, key: StepKey | None = None
) -> tuple[Array, Array]:
    """Scale a layer's weights and choose its biases by the rows it is given, then do what it does."""
    xp, (weight, row, _, _) = net.backend.xp, layer.affine
    layer.check_input(x)
    z = layer.ops.linear(x, weight, None)
    spread, size = xp.std(z, axis=-2, keepdims=True), xp.max(xp.abs(z), axis=-2, keepdims=True)
    if not bool(xp.all(xp.isfinite(spread))):
        raise DataError(
            f"init_from_data: expected finite pre-activations, got NaN or infinity in {layer.label}. Scale X, and fill "
            "its gaps."
        )
    varies = spread > _FLAT * size
    scale = xp.where(varies, 1.0 / xp.where(varies, spread, 1.0), 1.0)
    weight *= scale
    z *= scale
    if row is None:
        return z, x
    if bias == "zeros":
        row[...] = 0.0
    elif bias == "he+5":
        picked, share = _points(net, index, tuple(z.shape[-2:]))
        row[...] = -xp.sum(xp.take_along_axis(z, picked, axis=-2) * share, axis=-2, keepdims=True)
    return z + row, x


def _points(net: Sequential, index: int, shape: tuple[int, int]) -> tuple[Array, Array]:
    """Draw for each unit of Linear layer number `index` some rows and shares that add up to 1: both (..., 5, n_out)."""
    n, n_out = shape
    seeds = [net.seed] if isinstance(net.seed, int) else net.seed
    rngs = [stream(seed, "init points", index) for seed in seeds]
    rows = np.stack([rng.integers(0, n, (_POINTS, n_out)) for rng in rngs])
    draws = np.stack([rng.exponential(size=(_POINTS, n_out)) for rng in rngs])
    draws /= draws.sum(axis=-2, keepdims=True)
    place = 0 if isinstance(net.seed, int) else slice(None)
    backend = net.backend
    return backend.asarray(rows[place], dtype=backend.index_dtype), backend.asarray(draws[place])
