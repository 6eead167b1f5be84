r"""Functions that the Array API standard leaves out, stable for every finite input.

Each takes an array `x` of any library and shape, and its Array API namespace `xp` (2024.12 or later), and returns a
fresh array of the shape, dtype and device of `x`.  None reads a value back to the host, and none overflows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ._typing import Array, Namespace
from .errors import DTypeError

__all__ = ["OF_TYPE", "erf", "sigmoid", "softmax", "softplus"]

#: By types of arrays that have such functions as one operation: their own, by name.
OF_TYPE: dict[type, Mapping[str, Callable[..., Any]]] = {}


def _replaceable(function: Callable[..., Array]) -> Callable[..., Array]:
    """Let arrays of some types have a function of their own."""

    @functools.wraps(function)
    def chosen(x: Array, *, xp: Namespace, **options: Any) -> Array:
        own = OF_TYPE.get(type(x))
        return function(x, xp=xp, **options) if own is None else own[function.__name__](x, **options)

    return chosen


# float32: erf(x) = x P(x^2) / Q(x^2) on |x| <= 4, highest power first; beyond, erf rounds to 1.
ERF_P32 = (
    -2.72614225801306e-10,
    2.77068142495902e-8,
    -2.10102402082508e-6,
    -5.69250639462346e-5,
    -7.34990630326855e-4,
    -2.95459980854025e-3,
    -1.60960333262415e-2,
)
ERF_Q32 = (
    -1.45660718464996e-5,
    -2.13374055278905e-4,
    -1.68282697438203e-3,
    -7.37332916720468e-3,
    -1.42647390514189e-2,
)

# float64: two of Cody's three ranges, highest power first.  The second, made for [0.46875, 4], gives 1 - erf
# to far more digits than erf itself can show, so it serves up to 6, where erf rounds to 1, without a third.
_NEAR = 0.46875
_FAR = 6.0
_P_NEAR = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_Q_NEAR = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_P_FAR = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_Q_FAR = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)


@_replaceable
def erf(x: Array, *, xp: Namespace) -> Array:
    r"""The error function.

    .. math:: \operatorname{erf}(x) = \frac{2}{\sqrt\pi} \int_0^x e^{-t^2}\, dt

    ±inf gives ±1, NaN stays NaN.  Absolute error below 1e-6 in float32 and 1e-15 in float64.

    Raises
    ------
    DTypeError
        If `x` is neither float32 nor float64.

    Notes
    -----
    float32 uses one rational function :math:`x P(x^2) / Q(x^2)` on a clamped x, a few products per element.
    float64 computes Cody's approximations [1]_ of erf near zero and of 1 - erf elsewhere, each on an x
    clamped to where it holds, and blends them with factors of 0 and 1: no branch, no mask
    indexing, no overflow.

    References
    ----------
    .. [1] W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23, 1969.
    .. [2] The float32 coefficients are those of Eigen and XLA.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> erf(xp.asarray([0.0, 0.5, float("inf")]), xp=xp)
    array([0.        , 0.52049988, 1.        ])
    """
    if x.dtype == xp.float32:
        x = xp.minimum(xp.maximum(x, -4.0), 4.0)
        z = x * x
        x = x * _polynomial(ERF_P32, z)
        x /= _polynomial(ERF_Q32, z)
        return x
    if x.dtype != xp.float64:
        raise DTypeError(f"erf: expected float32 or float64, got {x.dtype}. Convert with xp.astype(x, xp.float32).")
    size = xp.abs(x)
    inner = xp.minimum(xp.maximum(x, -_NEAR), _NEAR)
    z = inner * inner
    near = inner * _polynomial(_P_NEAR, z)
    near /= _polynomial(_Q_NEAR, z)

    y = xp.minimum(size, _FAR)
    far = xp.exp(-(y * y))
    far *= _polynomial(_P_FAR, y)
    far /= _polynomial(_Q_FAR, y)
    far = 1.0 - far
    far *= xp.astype(x > _NEAR, x.dtype) - xp.astype(x < -_NEAR, x.dtype)

    near *= xp.astype(size <= _NEAR, x.dtype)
    near += far
    return near


@_replaceable
def sigmoid(x: Array, *, xp: Namespace) -> Array:
    r"""The logistic function.

    .. math:: \sigma(x) = \frac{1}{1 + e^{-x}}

    In (0, 1], accurate to a few ulp also where it is tiny.  It bottoms out where the dtype's normal numbers end: at
    x = -87 in float32, -708 in float64.

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> sigmoid(xp.asarray([-1e4, 0.0, 1e4]), xp=xp).round(3)
    array([0. , 0.5, 1. ])
    """
    y = xp.exp(-xp.maximum(x, -708.0 if x.dtype == xp.float64 else -87.0))
    y += 1.0
    return 1.0 / y


def softplus(x: Array, *, xp: Namespace) -> Array:
    r"""The smooth ReLU, which is also the negative log of 1 - sigmoid.

    .. math:: \ln(1 + e^x) = \max(x, 0) + \ln(1 + e^{-|x|})

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> softplus(xp.asarray([-1e4, 0.0]), xp=xp).round(3)
    array([0.   , 0.693])
    """
    y = xp.log1p(xp.exp(-xp.abs(x)))
    y += xp.maximum(x, 0.0)
    return y


@_replaceable
def softmax(x: Array, *, xp: Namespace, axis: int = -1) -> Array:
    r"""Positive numbers that sum to 1 along an axis, that of the classes.

    .. math:: s_i = \frac{e^{x_i - m}}{\sum_j e^{x_j - m}}, \qquad m = \max_j x_j

    Examples
    --------
    >>> import array_api_compat.numpy as xp
    >>> softmax(xp.asarray([1e4, 1e4, -1e4]), xp=xp)
    array([0.5, 0.5, 0. ])
    """
    y = x - xp.max(x, axis=axis, keepdims=True)
    y = xp.exp(y)
    y /= xp.sum(y, axis=axis, keepdims=True)
    return y


def _polynomial(coefficients: tuple[float, ...], z: Array) -> Array:
    """Horner's rule, highest power first, on one fresh array."""
    y = z * coefficients[0]
    y += coefficients[1]
    for c in coefficients[2:]:
        y *= z
        y += c
    return y
