"""cuBLAS as CuPy has loaded it: the library, a handle, workspaces, and how it is given a matrix."""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any, NamedTuple

from ..._typing import Array
from ...errors import BackendUnavailableError

__all__ = ["ARGUMENTS", "DOUBLE", "TYPES", "Cublas", "Layout", "layout", "load_cublas", "typed"]

_P, _I, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
#: The functions of cuBLAS that are used, and the kinds of their arguments.
ARGUMENTS: dict[str, list[Any]] = {
    "cublasCreate_v2": [_P],
    "cublasSetStream_v2": [_P, _P],
    "cublasSetWorkspace_v2": [_P, _P, ctypes.c_size_t],
    # handle, opA, opB, m, n, k, alpha, A, type, ld, stride, B, type, ld, stride, beta, C, type, ld, stride,
    # batch count, compute type, algorithm
    "cublasGemmStridedBatchedEx": [
        *(_P, _I, _I, _I, _I, _I, _P),
        *(_P, _I, _I, _L),
        *(_P, _I, _I, _L, _P),
        *(_P, _I, _I, _L),
        *(_I, _I, _I),
    ],
}
_STATUS = {
    1: "NOT_INITIALIZED",
    3: "ALLOC_FAILED",
    7: "INVALID_VALUE",
    8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR",
    13: "EXECUTION_FAILED",
    14: "INTERNAL_ERROR",
    15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}
#: Numbers of cudaDataType.
TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
# Numbers of cublasComputeType_t; sums of half precision are in float32.
DOUBLE = 70
_FULL, _TF32 = 68, 77
_MIB = 1 << 20


class Layout(NamedTuple):
    """How cuBLAS is given a stack of matrices."""

    transposed: bool  # whether rows and columns of the memory are exchanged
    leading: int  # elements from one row of the memory to the next
    step: int  # elements from one replica to the next, 0 where all share one


def layout(a: Array) -> Layout | None:
    """Return the layout of a matrix, or of a stack of them, with at least one element; None where it needs a copy.

    So it is where neither rows nor columns lie together, or rows overlap.  Along an axis of length 1 the strides mean
    nothing and are not looked at.
    """
    size = a.itemsize
    rows, cols = a.shape[-2:]
    if any(s % size for s in a.strides):
        return None
    down, across = (s // size for s in a.strides[-2:])
    step = a.strides[0] // size if a.ndim == 3 and a.shape[0] > 1 else 0
    if step < 0:
        return None
    if (cols == 1 or across == 1) and (rows == 1 or down >= cols):
        return Layout(False, cols if rows == 1 else down, step)
    if (rows == 1 or down == 1) and (cols == 1 or across >= rows):
        return Layout(True, rows if cols == 1 else across, step)
    return None


def load_cublas(cupy: Any) -> Any:
    """Return the cuBLAS library that CuPy works with; OSError or AttributeError if it, or a function, is missing."""
    try:
        found = importlib.import_module("cuda.pathfinder").load_nvidia_dynamic_lib("cublas").abs_path
    except ImportError:  # CuPy 14 brings it; else the system's, of the same major version
        found = None
    except Exception as error:  # of its own kind where there is no such library
        raise OSError((str(error).strip().splitlines() or [type(error).__name__])[0]) from error
    if not found:
        major = cupy.cuda.runtime.runtimeGetVersion() // 1000
        found = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
    library = ctypes.CDLL(found)
    typed(library, ARGUMENTS)
    return library


def typed(library: Any, arguments: dict[str, list[Any]]) -> dict[str, Any]:
    """Return functions of a library, with the kinds of their arguments set."""
    functions = {name: getattr(library, name) for name in arguments}
    for name, function in functions.items():
        function.argtypes, function.restype = arguments[name], ctypes.c_int
    return functions


class Cublas:
    """A cuBLAS handle of one device and one thread, kept until the process ends.

    Each stream has a workspace of its own, which lives as long as this object, because a captured graph keeps its
    address; without one, cuBLAS would allocate within a capture.  With `tf32` products of float32 round their inputs to
    10 bits of mantissa, for speed.  A call that fails raises BackendUnavailableError.
    """

    def __init__(self, library: Any, cupy: Any, *, tf32: bool = False) -> None:
        self._cupy = cupy
        self._calls = typed(library, ARGUMENTS)
        handle = ctypes.c_void_p()
        self._call("cublasCreate_v2", ctypes.byref(handle))
        self.handle = handle
        capability = int(cupy.cuda.Device().compute_capability)
        self.workspace_bytes = (32 if capability >= 90 else 4) * _MIB  # what PyTorch found enough
        self._workspaces: dict[int, tuple[Any, Any]] = {}  # with the stream: CUDA would give its handle to another
        self._stream: int | None = None
        self._float32 = _TF32 if tf32 else _FULL
        # Read by cuBLAS during the call: they must stay where they are.
        self.scalars = ctypes.c_float(1.0), ctypes.c_float(0.0)
        self._doubles = ctypes.c_double(1.0), ctypes.c_double(0.0)

    def workspace(self) -> tuple[int, int]:
        """Return CuPy's current stream, and the address of its workspace."""
        current = self._cupy.cuda.get_current_stream()
        stream = int(current.ptr)
        if stream not in self._workspaces:
            self._workspaces[stream] = self._cupy.cuda.alloc(self.workspace_bytes), current
        return stream, int(self._workspaces[stream][0].ptr)

    def compute_type(self, kind: int) -> int:
        """Return in which precision operands of a cudaDataType are multiplied."""
        return {TYPES["float32"]: self._float32, TYPES["float64"]: DOUBLE}.get(kind, _FULL)

    @staticmethod
    def kind_of(a: Array, b: Array, out: Array) -> tuple[Layout, Layout, Layout, int, int] | None:
        """Return layouts and types of a product that `takes` agreed to; None where cuBLAS would need a copy."""
        of_a, of_b, of_out = layout(a), layout(b), layout(out)
        if of_a is None or of_b is None or of_out is None:
            return None
        return of_a, of_b, of_out, TYPES[a.dtype.name], TYPES[out.dtype.name]

    def _bind(self) -> None:
        """Send what follows to CuPy's current stream."""
        stream, workspace = self.workspace()
        if stream != self._stream:
            self._call("cublasSetStream_v2", self.handle, stream)  # it takes the workspace away
            self._call("cublasSetWorkspace_v2", self.handle, workspace, self.workspace_bytes)
            self._stream = stream

    def _call(self, name: str, *args: Any) -> None:
        self.check(name, self._calls[name](*args))

    @staticmethod
    def check(name: str, status: int) -> None:
        """Raise BackendUnavailableError if a function returned a status other than success."""
        if status:
            raise BackendUnavailableError(
                f"{name}: cuBLAS reports status {status} ({_STATUS.get(status, 'unknown')}). "
                "Use get_backend('cupy', ops='portable'), and check nvidia-smi for memory and driver."
            )
