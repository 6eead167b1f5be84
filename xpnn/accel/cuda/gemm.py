r"""Matrix products straight from cuBLAS, through the library that CuPy has loaded.

CuPy's own products refuse to be part of a CUDA graph, copy transposed operands of batched products and know no
addition onto the result.  One function of cuBLAS, ``cublasGemmStridedBatchedEx``, does all of it:

.. math:: C_r \leftarrow A_r B_r + \beta\, C_r

for every replica `r`, any mixture of transposed operands, and inputs that all replicas share.

cuBLAS reads matrices by columns.  A matrix by rows is its transpose read by columns, so what is computed is
:math:`C^\top = B^\top A^\top`, with no copy.
"""

from __future__ import annotations

import ctypes
from typing import Any

from ..._typing import Array
from .cublas import DOUBLE, TYPES, Cublas, Layout, layout
from .gemm_lt import Epilogues

__all__ = ["Blas"]

_LARGEST = 2**31 - 1


class Blas(Cublas):
    """Products on CuPy's current stream."""

    def __init__(self, library: Any, cupy: Any, *, tf32: bool = False) -> None:
        super().__init__(library, cupy, tf32=tf32)
        try:  # products that do the bias too, where cuBLASLt can be had
            self.epilogues: Epilogues | None = Epilogues(library, cupy, self)
        except AttributeError:  # on Windows, or of another make: products and kernels do the same
            self.epilogues = None

    @staticmethod
    def takes(a: Array, b: Array, out: Array | None = None) -> bool:
        """Whether `gemm` can do this product: types, shapes and sizes, not strides."""
        name = a.dtype.name
        if name not in TYPES or b.dtype.name != name:
            return False
        if out is not None and out.dtype.name not in (name, "float32" if name in ("float16", "bfloat16") else name):
            return False
        stacks = {x.shape[0] for x in (a, b) if x.ndim == 3} - {1}
        if not (2 <= a.ndim <= 3 and 2 <= b.ndim <= 3) or len(stacks) > 1:
            return False
        return bool(min(a.size, b.size) > 0 and max(a.size, b.size, *a.strides, *b.strides) <= _LARGEST)

    def gemm(self, a: Array, b: Array, out: Array, *, add: bool = False) -> None:
        """Assign ``a @ b`` to `out`, or add it.

        Operands (m, k) and (k, n) are shared by all replicas, those of stacks (K, m, k) and (K, k, n) are their own.
        One whose rows and columns both lie apart is copied first.  `out` is of their dtype or float32, and may be a
        view, if its rows or its columns lie together.

        Raises
        ------
        BackendUnavailableError
            If cuBLAS reports an error.
        ValueError
            If the shapes do not fit, or `out` would need a copy.
        """
        m, n = out.shape[-2:]
        k = a.shape[-1]
        count = out.shape[0] if out.ndim == 3 else 1
        fits = a.shape[-2:] == (m, k) and b.shape[-2:] == (k, n)
        if not fits or any(x.ndim == 3 and x.shape[0] not in (1, count) for x in (a, b)):
            raise ValueError(f"gemm: expected shapes (m, k), (k, n) and (m, n), got {a.shape}, {b.shape}, {out.shape}.")
        of_out = layout(out)
        if of_out is None or (count > 1 and of_out.step == 0):
            raise ValueError(f"gemm: expected rows or columns of out to lie together, got strides {out.strides}.")
        if of_out.transposed:
            self.gemm(b.mT, a.mT, out.mT, add=add)
            return
        a, of_a = self._ready(a)
        b, of_b = self._ready(b)
        kind, kind_out = TYPES[a.dtype.name], TYPES[out.dtype.name]
        compute = self.compute_type(kind)
        one, zero = self._doubles if compute == DOUBLE else self.scalars
        self._bind()
        # by columns: C' = B' A'
        self._call(
            "cublasGemmStridedBatchedEx",
            *(self.handle, int(of_b.transposed), int(of_a.transposed), n, m, k, ctypes.addressof(one)),
            *(b.data.ptr, kind, of_b.leading, of_b.step),
            *(a.data.ptr, kind, of_a.leading, of_a.step),
            ctypes.addressof(one if add else zero),
            *(out.data.ptr, kind_out, of_out.leading, of_out.step),
            *(count, compute, -1),  # the last: cuBLAS's own choice of algorithm
        )

    def _ready(self, a: Array) -> tuple[Array, Layout]:
        found = layout(a)
        if found is None:
            a = self._cupy.ascontiguousarray(a)
            found = layout(a)
        if found is None:
            raise ValueError(f"gemm: expected an array that can be copied to rows, got strides {a.strides}.")
        return a, found
