r"""Matrix products of half precision, with everything else in float32.

``dtype="bfloat16"`` and ``dtype="float16"`` leave parameters, gradients, optimizer, activations, norms and losses in
float32.  What they change is the products of linear layers: both operands are rounded to half precision, and the
sums are made in float32 [1]_.  The halves are made for each product, so they are never behind the float32 masters,
and nothing of them is saved.

bfloat16 has the range of float32 with 8 bits of mantissa.  float16 has 11 bits and a narrow range, in which small
gradients would vanish; so each gradient is multiplied by a power of two of its own before it is rounded, and the
product divided by it:

.. math:: 2^k, \qquad k = 15 - \lceil \log_2 \max |\bar Y| \rceil

That is loss scaling chosen anew for each layer and step, on the device: nothing overflows, no step is skipped, and
there is no state to save.

References
----------
.. [1] Micikevicius et al., "Mixed precision training", ICLR 2018.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any

import numpy as np

from .._typing import Array, DType
from ..errors import BackendUnavailableError, OptionError
from ..ops import Affine, Ops

__all__ = ["HALVES", "half_of", "with_half_products"]

#: Names of half-precision types.
HALVES = ("bfloat16", "float16")

_TOP = 15.0  # gradients are brought below 2**15; float16 ends at 65504
_SMALLEST = 2.0**-100  # of a gradient of zeros there is no logarithm


def half_of(ops: Ops) -> str | None:
    """Return the half-precision type in which `ops` multiplies, or None."""
    return ops.half if isinstance(ops, _Half) else None


def with_half_products(ops: Ops, name: str, half: str) -> Ops:
    """Return operations like `ops`, of the backend of that name, whose products are of half precision.

    Raises
    ------
    OptionError
        If the library has no such type.
    BackendUnavailableError
        If a package is missing.
    """
    if name == "strict":
        raise OptionError(f"get_backend: array-api-strict has no {half}. Use numpy, torch or cupy, or dtype='float32'.")
    base: type = type(ops)
    kind = _kind(base, name == "cupy" and ops.name == "fast")
    made: _Half = kind.__new__(kind)
    vars(made).update(vars(ops))
    made.half, made.half_dtype = half, _dtype(ops, name, half)
    return made


def _dtype(ops: Ops, name: str, half: str) -> DType:
    if name not in ("numpy", "cupy") or half == "float16":
        return getattr(ops.xp, half)
    if importlib.util.find_spec("ml_dtypes") is None:
        raise BackendUnavailableError(
            "get_backend: NumPy and CuPy have bfloat16 from the package ml_dtypes, which is not installed: "
            "pip install ml_dtypes, or use dtype='float32'."
        )
    return np.dtype(importlib.import_module("ml_dtypes").bfloat16)


class _Half(Ops):
    """Products of rounded operands: the definition, in standard operations.

    The rounded numbers are float32 again before they are multiplied, which is what a GPU's half-precision unit
    computes, to the order of summation.  It shows what half precision does to a network; it is not faster.
    """

    half: str
    half_dtype: DType

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map; the product is of half precision."""
        return super().linear(self._rounded(x), self._rounded(weight), bias)

    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map and ReLU; the product is of half precision."""
        return Ops.linear_relu(self, x, weight, bias)  # by `linear`: a twin multiplies in full

    def linear_relu_kept(self, x: Array, weight: Array, bias: Array | None) -> tuple[Array, Array | None]:
        """Do `linear_relu`, and keep nothing."""
        return self.linear_relu(x, weight, bias), None

    def linear_backward(
        self, x: Array, dy: Array, affine: Affine, *, need_dx: bool, need_d_bias: bool = True
    ) -> Array | None:
        """Gradients of `linear`; the products are of half precision, the sum of the bias is not."""
        if need_d_bias and affine.d_bias is not None:
            affine.d_bias[...] = self.xp.sum(dy, axis=-2, keepdims=True)
        x = self._rounded(x)
        weight = self._rounded(affine.weight) if need_dx else affine.weight
        if self.half == "float16":
            up, down = self._scale(dy)
            dy = self._rounded(dy * up)
            dy *= down
        else:
            dy = self._rounded(dy)
        return super().linear_backward(x, dy, affine._replace(weight=weight), need_dx=need_dx, need_d_bias=False)

    def _rounded(self, a: Array) -> Array:
        """Round to half precision and widen again: always a fresh array."""
        xp = self.xp
        with np.errstate(over="ignore"):  # what becomes inf here shows in the loss
            return xp.astype(xp.astype(a, self.half_dtype), a.dtype)

    def _scale(self, dy: Array) -> tuple[Array, Array]:
        """Return the power of two that brings a gradient into float16, and its inverse, one for each replica."""
        xp = self.xp
        largest = xp.max(xp.abs(dy), axis=(-2, -1), keepdims=True)
        exponent = _TOP - xp.ceil(xp.log2(xp.maximum(largest, _SMALLEST)))
        return 2.0**exponent, 2.0**-exponent


class _CudaHalf(_Half):
    """Products that cuBLAS makes of halves themselves, into float32."""

    # Of `CupyOps`, with which this is made one class.
    affine: Any
    bias_gradient: Any
    cupy: Any
    matmul: Any

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map; the product is of half precision."""
        return self.affine(self._halved(x), self._halved(weight), bias, self._room(x, weight))

    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map and ReLU; the product is of half precision."""
        return self.affine(self._halved(x), self._halved(weight), bias, self._room(x, weight), relu=True)

    def linear_backward(
        self, x: Array, dy: Array, affine: Affine, *, need_dx: bool, need_d_bias: bool = True
    ) -> Array | None:
        """Gradients of `linear`; the products are of half precision, the sum of the bias is not."""
        weight, _, d_weight, d_bias = affine
        if need_d_bias:
            self.bias_gradient(dy, d_bias)
        down = None
        if self.half == "float16":
            up, down = self._scale(dy)
            dy = dy * up
        dy = self._halved(dy)
        self.matmul(self._halved(x).mT, dy, d_weight)
        dx = self.matmul(dy, self._halved(weight).mT, self._room(dy, weight.mT)) if need_dx else None
        if down is not None:
            d_weight *= down
            if dx is not None:
                dx *= down
        return dx

    def _halved(self, a: Array) -> Array:
        return self.xp.astype(a, self.half_dtype)

    def _room(self, a: Array, b: Array) -> Array:
        """Return a new array for a product, of full precision."""
        stack = max(a.shape[:-2], b.shape[:-2], key=len)
        return self.cupy.empty((*stack, a.shape[-2], b.shape[-1]), np.float32)


@functools.cache
def _kind(base: type, on_cuda: bool) -> Any:
    """Return the class that adds products of half precision to a class of operations, made once."""
    return type(f"Half{base.__name__}", (_CudaHalf if on_cuda else _Half, base), {})
