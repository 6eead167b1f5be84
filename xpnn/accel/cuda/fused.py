r"""A training step in the fewest launches: operations of which `xpnn.ops` has only the parts.

They take float32 arrays in one piece and say so where they are given others; what they compute is what the layers,
losses and rules compute, and a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..._typing import Array
from ...errors import OptionError
from ...ops import Scalar
from .checks import gathers, kinds, number, plain, replicas_of, row_step, sizes
from .cupy_ops import CupyOps
from .kernels import ACTIVATIONS, blocks
from .updates import USE_RULES, Clip, Decay, update_arguments

__all__ = [
    "descend",
    "linear_activation",
    "linear_activation_backward",
    "take_scaled_rows",
]

# Activations whose derivative is a function of their output; of the others the input is kept.
_BY_OUTPUT = ("identity", "relu", "sigmoid", "tanh")
_WANTED = "float32 arrays whose rows lie together"
_USE_LAYERS = "Use Linear and the activation's layer."


def linear_activation(
    ops: CupyOps, x: Array, weight: Array, bias: Array | None, activation: str, a: float = 0.0, b: float = 1.0
) -> tuple[Array, Array]:
    r"""Affine map and activation, :math:`Y = f(X W + \mathbf{1} b)`: a product and one kernel.

    Parameters
    ----------
    ops : CupyOps
        The operations of the backend.
    x : array of shape (..., batch, n_in), float32
        Rows are samples.
    weight : array of shape (..., n_in, n_out), float32
        The matrix.
    bias : array of shape (..., 1, n_out) or None
        One row.
    activation : str
        A name in `xpnn.accel.cuda.kernels.ACTIVATIONS`.
    a, b : float
        Its numbers: the slope of ``"leaky_relu"``, alpha and scale of ``"elu"``.

    Returns
    -------
    y : array of shape (..., batch, n_out)
        The output.
    kept : array of shape (..., batch, n_out)
        What `linear_activation_backward` needs: `y` itself, or the input of the activation.

    Raises
    ------
    OptionError
        If there is no such activation, or the arrays are of other kinds.
    """
    _check_activation("linear_activation", activation)
    z = ops.matmul(x, weight)
    y = z if activation in _BY_OUTPUT else ops.cupy.empty(z.shape, np.float32)
    if not ops.add_bias(z, bias, y, activation, a, b):
        raise OptionError(f"linear_activation: expected {_WANTED}, got {kinds(x, weight, bias)}. {_USE_LAYERS}")
    return y, z


def linear_activation_backward(
    ops: CupyOps,
    x: Array,
    dy: Array,
    kept: Array,
    weight: Array,
    d_weight: Array,
    d_bias: Array | None,
    activation: str,
    a: float = 0.0,
    b: float = 1.0,
    *,
    need_dx: bool,
) -> Array | None:
    r"""Gradients of `linear_activation`: one kernel and two products.

    With :math:`\bar Z = \bar Y \odot f'`: :math:`\bar W = X^\top \bar Z`, :math:`\bar b = \mathbf{1}^\top \bar Z`,
    :math:`\bar X = \bar Z W^\top`.

    Parameters
    ----------
    ops, x, weight, activation, a, b
        As in `linear_activation`.
    dy : array of shape (..., batch, n_out)
        Gradient to the output.  It is overwritten with the gradient to the input of the activation.
    kept : array of shape (..., batch, n_out)
        From `linear_activation`.
    d_weight : array of shape (..., n_in, n_out)
        Assigned.
    d_bias : array of shape (..., 1, n_out) or None
        Assigned.
    need_dx : bool
        Whether the gradient to `x` is asked for.

    Returns
    -------
    array of shape (..., batch, n_in), or None
        The gradient to `x`.

    Raises
    ------
    OptionError
        As `linear_activation`.
    """
    _check_activation("linear_activation_backward", activation)
    replicas, _, cols = sizes(dy)
    step = 0 if d_bias is None else row_step(d_bias, replicas, cols)
    shares = d_bias is not None and replicas > 1 and step == 0  # all replicas would write to one row
    if not plain(dy, kept) or kept.shape != dy.shape or step is None or shares:
        given = kinds(dy, kept, d_bias)
        raise OptionError(f"linear_activation_backward: expected {_WANTED}, got {given}. {_USE_LAYERS}")
    ops.activate_backward(dy, kept, dy, d_bias, step, activation, a, b)
    ops.matmul(x.mT, dy, d_weight)
    return ops.matmul(dy, weight.mT) if need_dx else None


def descend(
    ops: CupyOps,
    values: Array,
    grads: Array,
    velocity: Array | None,
    scalars: Sequence[Scalar],
    lr_factors: Array | None = None,
    *,
    nesterov: bool = False,
    decay: Decay | None = None,
    clip: Clip | None = None,
) -> None:
    r"""One step of gradient descent in place on flat buffers, with or without momentum, in one pass over memory.

    .. math:: v \leftarrow \mu v + \gamma g, \qquad p \leftarrow p - \eta v
              \quad\text{(Nesterov: } p \leftarrow p - \eta (g + \mu v)\text{)}

    Parameters
    ----------
    ops : CupyOps
        The operations of the backend.
    values, grads : arrays of shape (..., n), float32
        Flat buffers.  `grads` stays as it is.
    velocity : array of shape (..., n) or None
        The state; None is plain descent.
    scalars : (momentum, gain, lr)
        The numbers :math:`\mu`, :math:`\gamma` (1 for `SGD`, :math:`1 - \beta` for `Momentum`) and :math:`\eta`, as in
        `CupyOps.adam`.
    lr_factors, decay, clip
        As in `CupyOps.adam`.
    nesterov : bool, default=False
        Whether to look ahead.

    Raises
    ------
    OptionError
        If the buffers are not float32 in one piece.
    """
    buffers = (values, grads) if velocity is None else (values, grads, velocity)
    ready = update_arguments(buffers, scalars, lr_factors, decay, clip)
    if ready is None:
        raise OptionError(f"descend: expected float32 buffers in one piece, got {kinds(*buffers)}. {USE_RULES}")
    n, numbers, rest = ready
    grid = (blocks(n), replicas_of(values))
    arrays = (values, grads, velocity, lr_factors)
    ops.kernels.launch("descend", grid, (256,), *arrays, n, *numbers, int(nesterov), *rest)


def take_scaled_rows(
    ops: CupyOps, x: Array, index: Array, *, shift: Scalar = 0.0, scale: Scalar = 1.0, out: Array | None = None
) -> Array:
    """Gather rows and normalize them: ``(x[index] - shift) * scale`` in float32.

    Data may so stay on the device as bytes, a quarter of their size in float32.

    Parameters
    ----------
    ops : CupyOps
        The operations of the backend.
    x : array of shape (n, width), uint8 or float32
        The table.
    index : array of shape (count,), int64
        Rows; what lies beyond the last begins again at the first, as in CuPy's ``take``.
    shift, scale : float, or float32 array of shape (width,)
        For all columns, or one for each.
    out : array of shape (count, width), float32, optional
        Where to put it.

    Returns
    -------
    array of shape (count, width), float32
        `out`, or a fresh array.

    Raises
    ------
    OptionError
        If the arrays are of other kinds.
    """
    numbers = [number(s, x.shape[-1]) for s in (shift, scale)]
    wanted = (index.shape[0], x.shape[-1])
    good = x.ndim == 2 and x.dtype in (np.float32, np.uint8) and gathers(x, index, x.shape[-1])
    if not good or None in numbers or (out is not None and not (plain(out) and out.shape == wanted)):
        raise OptionError(
            "take_scaled_rows: expected a uint8 or float32 table by rows, an int64 index and float32 numbers, got "
            f"{kinds(x, index, shift, scale, out)}. Use take_rows."
        )
    out = ops.cupy.empty(wanted, np.float32) if out is None else out
    name = "gather_scaled_byte" if x.dtype == np.uint8 else "gather_scaled_float"
    ops.gather(name, x, index, out, x.shape[-1], *(part for found in numbers if found for part in found))
    return out


def _check_activation(where: str, activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise OptionError(f"{where}: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}. {_USE_LAYERS}")
