r"""Products that do the bias too, in one launch: cuBLASLt's epilogues.

.. math:: C \leftarrow A B + \mathbf{1} b, \qquad C \leftarrow \max(A B + \mathbf{1} b, 0), \qquad
          C \leftarrow A B \ \text{ and } \ b \leftarrow \mathbf{1}^\top B, \qquad
          C \leftarrow A B \odot M \ \text{ and } \ b \leftarrow \mathbf{1}^\top C

The third is the gradient of a linear layer's weight, :math:`A = X^\top`, with that of its bias; the last takes a
gradient through the ReLU below, whose mask M the second has left in bits, and sums that of the bias below.  cuBLASLt
reads matrices by columns, so it is given :math:`C^\top = B^\top A^\top`, along whose rows its biases lie.

What it offers depends on the GPU, the shapes and the types; where it offers nothing the caller goes on with a product
and a kernel.  A plan is made once for each kind of product and kept: capturing a graph makes none.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from ..._typing import Array
from ...errors import BackendUnavailableError
from .checks import row_step
from .cublas import Cublas, Layout, typed

__all__ = ["FUNCTIONS", "Epilogue", "Epilogues"]

_P, _I, _L, _S = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
#: The functions used here, and the kinds of their arguments.
FUNCTIONS: dict[str, list[Any]] = {
    "cublasLtMatmulDescCreate": [_P, _I, _I],  # result, compute type, type of alpha and beta
    "cublasLtMatmulDescSetAttribute": [_P, _I, _P, _S],
    "cublasLtMatrixLayoutCreate": [_P, _I, ctypes.c_uint64, ctypes.c_uint64, _L],  # result, type, rows, columns, ld
    "cublasLtMatmulPreferenceCreate": [_P],
    "cublasLtMatmulPreferenceSetAttribute": [_P, _I, _P, _S],
    # handle, operation, layouts of A, B, C and D, preference, how many are wanted, results, how many there are
    "cublasLtMatmulAlgoGetHeuristic": [*(_P, _P, _P, _P, _P, _P, _P), _I, _P, _P],
    # handle, operation, alpha, A and layout, B and layout, beta, C and layout, D and layout, algorithm, workspace and
    # its size, stream
    "cublasLtMatmul": [*(_P, _P, _P), *(_P, _P), *(_P, _P), _P, *(_P, _P), *(_P, _P), *(_P, _P, _S, _P)],
}


class Epilogue(IntEnum):
    """What is done with the row beside the product; cublasLtEpilogue_t."""

    BIAS = 4  # it is added
    RELU_BIAS = 6  # it is added, and the ReLU taken
    RELU_AUX_BIAS = 134  # likewise, and a mask is left
    DRELU_BGRAD = 152  # the mask is applied, and the sums over the rows of the result are assigned to it
    BGRADA = 256  # the sums over the rows of the second operand are assigned to it


# Attributes of an operation, cublasLtMatmulDescAttributes_t, and of a preference, cublasLtMatmulPreferenceAttributes_t.
_TRANSPOSE_A, _TRANSPOSE_B, _EPILOGUE, _BIAS_POINTER, _MASK_POINTER, _MASK_LEADING = 3, 4, 7, 8, 11, 12
_MASKED = 128  # the bit of an epilogue that has a mask
_MASK_BITS = 128  # a row of a mask is a multiple of so many
_MAX_WORKSPACE, _REDUCTIONS, _ALIGNMENTS = 1, 3, (5, 6, 7, 8)
# Partial sums wait in the workspace and are added in a step of their own, cublasLtReductionScheme_t: with the scheme in
# place, blocks would add to the result one after the other.
_IN_WORKSPACE = 2
_FLOAT32 = 0
# Bytes: all that wide loads need; memory from CuPy's pool, and each parameter in the flat buffers, has it.
_ALIGNED = 16
# Each plan takes about 1 KiB of the host's memory, for good.  Kinds of products beyond so many get kernels.
_MOST_PLANS = 1024
# Status: the call cannot be done, and nothing was; INVALID_VALUE and NOT_SUPPORTED.
_REFUSED = (7, 15)


class _Algorithm(ctypes.Structure):
    """Like cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


class _Kind(NamedTuple):
    """Everything about a product but addresses."""

    epilogue: Epilogue
    sizes: tuple[int, int, int]  # m, n and k
    a: Layout
    b: Layout
    out: Layout
    type_in: int
    type_out: int


class _Plan(NamedTuple):
    """One kind of product, as described to cuBLASLt, and the algorithm it chose."""

    operation: ctypes.c_void_p
    a: ctypes.c_void_p
    b: ctypes.c_void_p
    out: ctypes.c_void_p
    found: _Algorithm


class Epilogues:
    """Products with epilogues, on the handle, the workspaces and the precision of a `Cublas`.

    Symbols of cuBLAS are looked for in the libraries that it was linked with, too, so that cuBLASLt is the one that
    belongs to it: AttributeError if there is none.  A cuBLAS handle is one of cuBLASLt, too.
    """

    def __init__(self, library: Any, cupy: Any, blas: Cublas) -> None:
        self._cupy, self._blas = cupy, blas
        self._functions = typed(library, FUNCTIONS)
        self._plans: dict[_Kind, _Plan | None] = {}

    @staticmethod
    def mask_shape(rows: int, cols: int) -> tuple[int, int]:
        """Return the shape, in bytes, of the mask of a result."""
        return rows, -(-cols // _MASK_BITS) * _MASK_BITS // 8

    def product(
        self, a: Array, b: Array, out: Array, epilogue: Epilogue, row: Array, mask: Array | None = None
    ) -> bool:
        """Assign ``a @ b`` to `out` and do the epilogue; False if that cannot be had, and then nothing was done.

        The operands (m, k) and (k, n) are float32 or of half precision, `out` (m, n) and `row` (1, n), the bias or its
        gradient, are float32.  The `mask`, where the epilogue has one, is of `mask_shape`.
        """
        if bool(epilogue & _MASKED) != (mask is not None):
            return False
        if not a.ndim == b.ndim == out.ndim == 2 or out.dtype != np.float32 or a.dtype.itemsize > 4:
            return False
        pointers = [x.data.ptr for x in (b, a, out, row)]  # by columns B comes first
        pointers += [] if mask is None else [mask.data.ptr]
        if row_step(row, 1, out.shape[-1]) is None or any(p % _ALIGNED for p in pointers):
            return False
        layouts = self._blas.kind_of(a, b, out)
        if layouts is None:
            return False
        kind = _Kind(epilogue, (*out.shape, a.shape[-1]), *layouts)
        if kind.out.transposed:  # the row would lie along the other side
            return False
        if kind not in self._plans:
            if len(self._plans) >= _MOST_PLANS:
                return False
            self._plans[kind] = self._make_plan(kind, pointers)
        plan = self._plans[kind]
        if plan is None or not self._run(plan, pointers):
            self._plans[kind] = None
            return False
        return True

    # -- once for each kind ---------------------------------------------------------------------------------
    def _make_plan(self, kind: _Kind, pointers: list[int]) -> _Plan | None:
        """Return what does this kind of product; None if nothing does."""
        try:
            plan = self._find_plan(kind)
        except BackendUnavailableError:  # an old library does not know all of these attributes
            return None
        if plan is None or kind.epilogue not in (Epilogue.RELU_BIAS, Epilogue.RELU_AUX_BIAS):
            return plan
        # Whether its ReLU keeps what is no number is not documented.  If it does not, a network that diverges would
        # look well; so it is tried once, with a bias of no numbers.
        rows, cols, _ = kind.sizes
        odd = self._cupy.empty((cols,), np.float32)
        odd[...] = float("nan")
        y = self._cupy.empty((rows, kind.out.leading), np.float32)
        y[...] = 0.0
        tried = self._run(plan, [*pointers[:2], y.data.ptr, odd.data.ptr, *pointers[4:]])
        return plan if tried and bool(np.isnan(y.get()[:, :cols]).all()) else None

    def _find_plan(self, kind: _Kind) -> _Plan | None:
        """Describe a kind of product, and let cuBLASLt choose an algorithm."""
        compute = self._blas.compute_type(kind.type_in)
        operation, preference = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cublasLtMatmulDescCreate", ctypes.byref(operation), compute, _FLOAT32)
        for which, value in (
            (_TRANSPOSE_A, ctypes.c_int32(kind.b.transposed)),
            (_TRANSPOSE_B, ctypes.c_int32(kind.a.transposed)),
            (_EPILOGUE, ctypes.c_uint32(kind.epilogue)),
            # An address that is aligned like those to come, and no better: it is looked at, not read.
            (_BIAS_POINTER, ctypes.c_void_p(_ALIGNED)),
        ):
            self._set("cublasLtMatmulDescSetAttribute", operation, which, value)
        m, n, k = kind.sizes
        if kind.epilogue & _MASKED:
            leading = ctypes.c_int64(8 * self.mask_shape(m, n)[1])
            self._set("cublasLtMatmulDescSetAttribute", operation, _MASK_LEADING, leading)
            self._set("cublasLtMatmulDescSetAttribute", operation, _MASK_POINTER, ctypes.c_void_p(_ALIGNED))
        of_b = self._describe(kind.type_in, n, k, kind.b)
        of_a = self._describe(kind.type_in, k, m, kind.a)
        of_out = self._describe(kind.type_out, n, m, kind.out)
        self._call("cublasLtMatmulPreferenceCreate", ctypes.byref(preference))
        size = ctypes.c_uint64(self._blas.workspace_bytes)
        self._set("cublasLtMatmulPreferenceSetAttribute", preference, _MAX_WORKSPACE, size)
        limits = {_REDUCTIONS: _IN_WORKSPACE, **dict.fromkeys(_ALIGNMENTS, _ALIGNED)}
        for which, limit in limits.items():
            self._set("cublasLtMatmulPreferenceSetAttribute", preference, which, ctypes.c_uint32(limit))
        found, count = _Algorithm(), ctypes.c_int(0)
        status = self._functions["cublasLtMatmulAlgoGetHeuristic"](
            self._blas.handle,
            *(operation, of_b, of_a, of_out, of_out),
            *(preference, 1, ctypes.byref(found), ctypes.byref(count)),
        )
        if status or count.value < 1 or found.state or found.workspace > self._blas.workspace_bytes:
            return None
        return _Plan(operation, of_a, of_b, of_out, found)

    def _describe(self, kind: int, rows: int, cols: int, of: Layout) -> ctypes.c_void_p:
        """Describe the memory of a matrix that is (rows, cols) where columns lie together."""
        made = ctypes.c_void_p()
        if of.transposed:
            rows, cols = cols, rows
        self._call("cublasLtMatrixLayoutCreate", ctypes.byref(made), kind, rows, cols, of.leading)
        return made

    # -- each time ------------------------------------------------------------------------------------------
    def _run(self, plan: _Plan, pointers: list[int]) -> bool:
        b, a, out, row, *mask = pointers
        self._set("cublasLtMatmulDescSetAttribute", plan.operation, _BIAS_POINTER, ctypes.c_void_p(row))
        for place in mask:
            self._set("cublasLtMatmulDescSetAttribute", plan.operation, _MASK_POINTER, ctypes.c_void_p(place))
        one, zero = self._blas.scalars
        stream, workspace = self._blas.workspace()
        status = self._functions["cublasLtMatmul"](
            *(self._blas.handle, plan.operation),
            *(ctypes.addressof(one), b, plan.b, a, plan.a),
            *(ctypes.addressof(zero), out, plan.out, out, plan.out),
            *(ctypes.addressof(plan.found), workspace, self._blas.workspace_bytes, stream),
        )
        if status in _REFUSED:
            return False
        self._blas.check("cublasLtMatmul", status)
        return True

    def _set(self, function: str, where: ctypes.c_void_p, which: int, value: Any) -> None:
        self._call(function, where, which, ctypes.byref(value), ctypes.sizeof(value))

    def _call(self, function: str, *args: Any) -> None:
        self._blas.check(function, self._functions[function](*args))
