"""Array libraries as a value.

A `Backend` says which library, device and floating type a network lives on.  It is passed explicitly: nothing
is chosen at import, there is no global, and no library but NumPy is imported before somebody asks for it.
Probing is staged, and each way to fail has one sentence with the command that mends it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, ParamSpec, TypeVar

import array_api_compat
import numpy as np

from ._typing import Array, Device, DType, Namespace
from .accel import NumpyOps
from .accel.half import HALVES, half_of, with_half_products
from .crossover import Crossover
from .errors import BackendUnavailableError, DTypeError, OptionError
from .ops import Ops, portable_ops

__all__ = [
    "Backend",
    "available_backends",
    "backend_of",
    "get_backend",
    "like",
    "namespace",
    "on_device",
    "ops_of",
    "to_numpy",
]

_NAMES = ("numpy", "cupy", "torch", "strict")
_DTYPES = ("float32", "float64")
_NUMPY_OPS = NumpyOps(np, "cpu")
_LOG = logging.getLogger("xpnn")


@dataclass(frozen=True, slots=True)
class Backend:
    """One array library, device and floating dtype.

    Attributes
    ----------
    name : str
        ``"numpy"``, ``"cupy"``, ``"torch"`` or ``"strict"``.
    xp : namespace
        NumPy and array-api-strict themselves, CuPy and PyTorch behind array-api-compat.
    device : device
        The library's own device object.
    dtype : dtype
        The library's own floating dtype, of parameters, data and results.
    dtype_name : str
        ``"float32"`` or ``"float64"``; or ``"bfloat16"`` or ``"float16"``, which are float32 with products of half
        precision.
    index_dtype : dtype
        The library's default dtype for labels and indices.
    ops : Ops
        The operations that may have faster twins.

    Examples
    --------
    >>> backend = get_backend("numpy", dtype="float64")
    >>> backend
    Backend('numpy', device='cpu', dtype='float64')
    >>> backend.asarray([1, 2])
    array([1., 2.])
    """

    name: str
    xp: Namespace
    device: Device = field(hash=False)  # CuPy's devices compare, but cannot be hashed
    dtype: DType
    dtype_name: str
    index_dtype: DType
    ops: Ops = field(compare=False)

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, device={str(self.device)!r}, dtype={self.dtype_name!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Modules and device handles cannot be pickled; the name says it all.
        return _again, (self.spec, self.dtype_name, _kind(self.ops), _tf32(self.ops))

    @property
    def spec(self) -> str:
        """The string that `get_backend` turns into this backend, such as ``"torch:cuda"``."""
        if self.name in ("torch", "strict"):
            device = str(self.device)
            return f"{self.name}:{device.split(chr(39))[1] if self.name == 'strict' else device}"
        return f"cupy:{self.device.id}" if self.name == "cupy" else self.name

    def asarray(self, a: Any, *, dtype: DType | None = None) -> Array:
        """Bring an array of any library here, without a copy where none is needed.

        Parameters
        ----------
        a : array-like
            An array of any supported library, or nested numbers.
        dtype : dtype, optional
            A dtype of this backend's library; the backend's floating dtype by default.

        Returns
        -------
        array
            On this backend's device.  It may share memory with `a`.

        Raises
        ------
        DTypeError
            If `a` does not hold real numbers.
        """
        dtype = self.dtype if dtype is None else dtype
        if type(a) is np.ndarray and self.name == "numpy" and a.dtype == dtype:
            return a
        if self.owns(a):
            if self.name == "torch" and a.requires_grad:
                a = a.detach()  # our backward is by hand: torch must not record a second one
            _check_real(getattr(a.dtype, "name", str(a.dtype).rpartition(".")[2]))
            if a.device != self.device:
                if dtype != self.xp.float64:  # not every device has it: narrow before the move
                    a = self.xp.astype(a, dtype, copy=False)
                a = self.xp.asarray(a, device=self.device) if self.name == "cupy" else _to_device(a, self.device)
            return self.xp.astype(a, dtype, copy=False)
        host = to_numpy(a)
        _check_real(host.dtype.name)
        host = host.astype(self._numpy_dtype(dtype), copy=False)
        if self.name == "torch":
            # torch warns of read-only memory and cannot express negative strides
            host = np.require(host, requirements=["C", "W"])
        with self.active():
            return self.xp.asarray(host, dtype=dtype, device=self.device)

    def copy(self, a: Any, *, dtype: DType | None = None) -> Array:
        """Like `asarray`, but always a fresh array that shares memory with nothing."""
        with self.active():
            return self.xp.asarray(self.asarray(a, dtype=dtype), copy=True)

    def zeros(self, shape: int | tuple[int, ...], *, dtype: DType | None = None) -> Array:
        """A fresh array of zeros in the backend's floating dtype, or in `dtype`."""
        with self.active():
            return self.xp.zeros(shape, dtype=self.dtype if dtype is None else dtype, device=self.device)

    def to_numpy(self, x: Array) -> np.ndarray:
        """Copy an array to the host if it is not there; the result may share memory and be read-only."""
        return to_numpy(x)

    def owns(self, a: Any) -> bool:
        """Whether `a` is an array of this library (on whatever device)."""
        return _library(type(a)) == self.name

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Make the device current: CuPy allocates on the current device; a no-op elsewhere.

        Raises
        ------
        BackendUnavailableError
            If this process was forked from one that used CUDA: CUDA would fail or wait for ever.
        """
        if self.name != "cupy":
            return contextlib.nullcontext()
        if _forked_from_cuda():
            raise BackendUnavailableError(f"{self!r}: {_FORKED}")
        return self.device  # type: ignore[no-any-return]

    def synchronize(self) -> None:
        """Wait until the device has finished all work given to it so far."""
        if self.name == "cupy":
            with self.active():
                self.xp.cuda.get_current_stream().synchronize()
        elif self.name == "torch" and self.device.type == "cuda":
            importlib.import_module("torch").cuda.synchronize(self.device)

    def with_dtype(self, dtype: str) -> Backend:
        """Return the same library and device with another floating dtype."""
        _check_dtype(dtype)
        ops = self.ops
        if half_of(ops) != _half(dtype):
            ops = _ops(self.name, self.xp, self.device, _kind(ops), _half(dtype))
        return replace(self, dtype=getattr(self.xp, _wide(dtype)), dtype_name=dtype, ops=ops)

    @property
    def wide_name(self) -> str:
        """The name of `dtype`: ``"float32"`` also where products are of half precision."""
        return _wide(self.dtype_name)

    def _numpy_dtype(self, dtype: DType) -> np.dtype[Any]:
        name = "bool" if dtype == self.xp.bool else str(dtype).rpartition(".")[2]
        return np.dtype(dtype if self.name in ("numpy", "cupy") else name)


# -- getting one ----------------------------------------------------------------------------------------------
def get_backend(
    spec: str | Backend = "auto",
    dtype: str | None = None,
    *,
    ops: Literal["fast", "portable"] | None = None,
    tf32: bool | None = None,
    work: float | None = None,
) -> Backend:
    """Return a backend by name.

    Parameters
    ----------
    spec : str or Backend, default="auto"
        ``"numpy"``; ``"cupy"`` or ``"cupy:1"`` (the second GPU); ``"torch"`` (its CPU), ``"torch:cuda"``,
        ``"torch:cuda:1"``; ``"strict"`` (array-api-strict on its ``device1``) or ``"strict:CPU_DEVICE"``;
        ``"auto"``: CuPy if a GPU can be used and, by what ``xpnn bench`` measured here, pays for the `work`; else
        NumPy.  A `Backend` is returned as it is, or with `dtype`.
    dtype : {"float32", "float64", "bfloat16", "float16"}, optional
        Floating type of parameters and data; float32 unless a given `Backend` says otherwise.  The last two are
        float32 with the products of linear layers in half precision (mixed precision): for the speed of GPUs.
    ops : {"fast", "portable"}, optional
        Whether single operations may have faster twins where there are some (`xpnn.accel`), the default; or all
        are those of `xpnn.ops`, which define what is meant.
    tf32 : bool, optional
        Whether products of float32 on CuPy may round their inputs to 10 bits of mantissa (TensorFloat-32), for speed.
        They do not, unless this is True.
    work : float, optional
        Multiply-adds of one training step (`xpnn.crossover.work_of`), for ``"auto"``.

    Returns
    -------
    Backend
        A value; equal arguments give equal backends.

    Raises
    ------
    OptionError
        If the name or the dtype is unknown, or `tf32` is asked for where there is no such thing.
    BackendUnavailableError
        If the library or the device cannot be used; the message names the mend.

    Examples
    --------
    >>> get_backend("numpy").dtype_name
    'float32'
    """
    if ops not in (None, "fast", "portable"):
        raise OptionError(f"get_backend: expected ops to be 'fast' or 'portable', got {ops!r}.")
    if isinstance(spec, Backend):
        backend = spec if dtype is None else spec.with_dtype(dtype)
        if ops is None and tf32 is None:
            return backend
        kind = _kind(backend.ops) if ops is None else ops
        rounds = _tf32(backend.ops) and kind == "fast" if tf32 is None else tf32
        _check_tf32(rounds, backend.name, backend.dtype_name, kind)
        ops_now = _ops(backend.name, backend.xp, backend.device, kind, _half(backend.dtype_name), tf32=rounds)
        return replace(backend, ops=ops_now)
    dtype = "float32" if dtype is None else dtype
    _check_dtype(dtype)
    if not isinstance(spec, str):
        raise OptionError(f"get_backend: expected a name or a Backend, got {type(spec).__name__}.")
    name, _, device = spec.partition(":")
    if name == "auto":
        name, why = _choose(work)
        _LOG.info("backend auto: %s", why)
    if name not in _NAMES:
        raise OptionError(
            f"get_backend: expected one of {', '.join(_NAMES)} or auto, got {name!r}. "
            "`xpnn doctor` tells what each needs."
        )
    _check_tf32(bool(tf32), name, dtype, ops or "fast")
    state = _probe(name, device)
    if state != "ok":
        raise BackendUnavailableError(f"get_backend({spec!r}): {state}")
    return _make(name, device, dtype, ops or "fast", bool(tf32))


def _choose(work: float | None) -> tuple[str, str]:
    """Return the backend that "auto" stands for, and the reason in a line."""
    state = _probe("cupy", "")
    if state != "ok":
        return "numpy", f"the processor: CuPy has no GPU here ({state})"
    rule = None if work is None else Crossover.load()
    if rule is None or work is None:
        return "cupy", "the GPU; `xpnn bench` finds from what size on it pays"
    return "cupy" if rule.prefers_gpu(work) else "numpy", rule.sentence(work)


def available_backends() -> dict[str, str]:
    """Tell which backends work here.

    Returns
    -------
    dict
        For each backend ``"ok"``, or one sentence on what is missing and the command that mends it.

    Examples
    --------
    >>> available_backends()["numpy"]
    'ok'
    """
    return {name: _probe(name, "") for name in _NAMES} | {"torch:cuda": _probe("torch", "cuda")}


def _check_dtype(dtype: str) -> None:
    if not isinstance(dtype, str) or dtype not in (*_DTYPES, *HALVES):
        raise OptionError(f"get_backend: expected dtype float32, float64, bfloat16 or float16, got {dtype!r}.")


def _half(dtype: str) -> str | None:
    return dtype if dtype in HALVES else None


def _wide(dtype: str) -> str:
    return "float32" if dtype in HALVES else dtype


def _check_tf32(tf32: bool, name: str, dtype: str, ops: str) -> None:
    if tf32 and (name, dtype, ops) != ("cupy", "float32", "fast"):
        raise OptionError(
            "get_backend: tf32=True rounds the products of float32 on an NVIDIA GPU: expected cupy, float32 and "
            f"fast operations, got {name}, {dtype} and {ops} ones. Leave tf32 away."
        )


@functools.lru_cache(maxsize=64)
def _make(name: str, device_name: str, dtype: str, ops: str = "fast", tf32: bool = False) -> Backend:
    xp: Namespace
    device: Device
    if name == "numpy":
        # NumPy 2.1 is such a namespace itself; compat's copy of it takes 80 ms to import and a little in each call.
        xp, device = np, "cpu"
    elif name == "torch":
        torch = importlib.import_module("torch")
        xp = importlib.import_module("array_api_compat.torch")
        device = torch.empty(0, device=device_name or "cpu").device  # "cuda" becomes "cuda:0"
    elif name == "strict":
        xp = importlib.import_module("array_api_strict")
        device = xp.Device(device_name or "device1")
    else:
        cupy = importlib.import_module("cupy")
        xp = importlib.import_module("array_api_compat.cupy")
        device = cupy.cuda.Device(int(device_name or 0))
    index_dtype = xp.__array_namespace_info__().default_dtypes(device=device)["indexing"]
    found = _ops(name, xp, device, ops, _half(dtype), tf32=tf32)
    return Backend(name, xp, device, getattr(xp, _wide(dtype)), dtype, index_dtype, found)


def _ops(name: str, xp: Namespace, device: Device, kind: str, half: str | None = None, *, tf32: bool = False) -> Ops:
    """Return the operations of a namespace: faster ones where they are asked for and there are some."""
    found = portable_ops(xp, device)
    if kind == "fast" and xp is np:
        found = _NUMPY_OPS
    elif kind == "fast" and getattr(xp, "__name__", "") == "array_api_compat.cupy":
        found = _cuda_ops(xp, device, tf32)
    return found if half is None else with_half_products(found, name, half)


_CUDA_OPS: dict[tuple[Namespace, str, bool], Ops] = {}


def _cuda_ops(xp: Namespace, device: Device, tf32: bool) -> Ops:
    """Return the CUDA kernels of a device, made once; TF32 is tried at once, for it must not be left out silently."""
    key = xp, str(device), tf32
    if key not in _CUDA_OPS:
        from .accel.cuda.cupy_ops import CupyOps

        ops = CupyOps(xp, device, tf32=tf32)
        if tf32:
            with device:
                ops.blas()
        _CUDA_OPS.setdefault(key, ops)
    return _CUDA_OPS[key]


def _kind(ops: Ops) -> Literal["fast", "portable"]:
    return "portable" if ops.name == "portable" else "fast"


def _tf32(ops: Ops) -> bool:
    return bool(getattr(ops, "tf32", False))


def _again(spec: str, dtype: str, ops: Literal["fast", "portable"], tf32: bool = False) -> Backend:
    """Return the backend that was pickled."""
    return get_backend(spec, dtype, ops=ops, tf32=tf32)


# -- probing --------------------------------------------------------------------------------------------------
def _probe(name: str, device: str) -> str:
    """Return "ok", or why not and what to do."""
    if name == "numpy":
        return "ok" if device in ("", "cpu") else f"NumPy has no device {device!r}; use 'numpy'."
    return {"torch": _probe_torch, "strict": _probe_strict, "cupy": _probe_cupy}[name](device)


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _probe_strict(device: str) -> str:
    if not _installed("array_api_strict"):
        return "not installed: pip install array-api-strict"
    strict = importlib.import_module("array_api_strict")
    try:
        strict.Device(device or "device1")
    except ValueError:
        return f"array-api-strict has no device {device!r}; use 'strict' or 'strict:CPU_DEVICE'."
    return "ok"


def _probe_torch(device: str) -> str:
    if not _installed("torch"):
        return "not installed: pip install torch"
    try:
        torch = importlib.import_module("torch")
    except (ImportError, OSError) as error:
        return f"installed, but its import fails ({error}): pip install --force-reinstall torch"
    try:
        torch.zeros(1, device=device or "cpu").add_(1.0)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        return (
            f"PyTorch cannot use the device {device!r} ({reason}): "
            "check nvidia-smi and install a CUDA build of torch, or use 'torch'."
        )
    return "ok"


_FORKED = (
    "this process was forked from one that had used CUDA already, which CUDA does not survive: pass n_jobs=1, or "
    "start workers afresh with joblib's 'loky' or multiprocessing's 'spawn'."
)
_cuda_began: dict[str, int] = {}  # "pid": the process that asked CUDA first; a fork inherits the entry


def _forked_from_cuda() -> bool:
    return _cuda_began.setdefault("pid", os.getpid()) != os.getpid()


def _probe_cupy(device: str) -> str:
    if not _installed("cupy"):
        return "not installed: pip install 'xpnn[cuda13]' (or [cuda12], to match the driver)"
    try:
        cupy = importlib.import_module("cupy")
    except (ImportError, OSError) as error:
        return f"installed, but its import fails ({error}): pip install --force-reinstall 'xpnn[cuda13]'"
    if _forked_from_cuda():
        return _FORKED
    runtime_error = cupy.cuda.runtime.CUDARuntimeError
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except runtime_error as error:
        return f"CuPy is installed but finds no GPU ({error}): run nvidia-smi; the driver may be missing or too old."
    try:
        index = int(device or 0)
    except ValueError:
        return f"a CuPy device is a number, got {device!r}; use 'cupy:0'."
    if not 0 <= index < count:
        return f"GPU {index} asked for, {count} found; use 'cupy:0'."
    try:
        with cupy.cuda.Device(index):
            x = cupy.zeros((2, 2), dtype="float32") + 1.0  # compiles a kernel: needs NVRTC
    except Exception as error:  # of many kinds: a failed compilation, say, is no RuntimeError
        return f"CuPy cannot compile a kernel ({error}): pip install 'cupy-cuda13x[ctk]' brings the compiler."
    try:
        with cupy.cuda.Device(index):
            (x @ x).get()  # needs cuBLAS
    except Exception as error:
        return f"CuPy cannot multiply matrices ({error}): pip install 'cupy-cuda13x[ctk]' brings cuBLAS."
    return "ok"


# -- arrays of any library ------------------------------------------------------------------------------------
_LIBRARIES: dict[type, str | None] = {}


def _library(kind: type) -> str | None:
    """Name the library of an array type, without importing any."""
    try:
        return _LIBRARIES[kind]
    except KeyError:
        return _LIBRARIES.setdefault(kind, _find_library(kind))


def _find_library(kind: type) -> str | None:
    module = kind.__module__.partition(".")[0]
    if issubclass(kind, np.ndarray):
        return "numpy"
    if module == "cupy" and kind.__name__ == "ndarray":
        return "cupy"
    if module == "torch" and kind.__name__ in ("Tensor", "Parameter"):
        return "torch"
    return "strict" if module == "array_api_strict" and kind.__name__ == "Array" else None


_NAMESPACES: dict[type, Namespace] = {np.ndarray: np}


def namespace(x: Array) -> Namespace:
    """Return the Array API namespace of an array; one dictionary look-up after the first time."""
    try:
        return _NAMESPACES[type(x)]
    except KeyError:
        if _library(type(x)) is None:
            raise DTypeError(
                f"expected an array of NumPy, CuPy, PyTorch or array-api-strict, got {type(x).__name__}. "
                "Convert it with numpy.asarray."
            ) from None
        return _NAMESPACES.setdefault(type(x), array_api_compat.array_namespace(x))


_P = ParamSpec("_P")
_T = TypeVar("_T")


def on_device(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a method while the device of its object's ``backend`` is current: CuPy allocates and launches there."""

    @functools.wraps(method)
    def on_the_device(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        backend: Backend = args[0].backend  # type: ignore[attr-defined]
        if backend.name != "cupy":
            return method(*args, **kwargs)
        with backend.active():
            return method(*args, **kwargs)

    return on_the_device


def ops_of(x: Array) -> Ops:
    """Return the portable operations of an array's library and device."""
    return portable_ops(namespace(x), array_api_compat.device(x))


def backend_of(x: Array, default: str = "numpy") -> Backend:
    """Return the backend an array lives on: its library, device and, if floating, its dtype.

    Anything that is no array of a supported library (a list, say) gives `default`.
    """
    name = _library(type(x))
    if name is None:
        return get_backend(default)
    dtype = str(x.dtype).rpartition(".")[2]
    dtype = dtype if dtype in _DTYPES else "float32"
    device = {"numpy": "", "cupy": "", "torch": str(x.device), "strict": ""}[name]
    if name == "cupy":
        device = str(x.device.id)
    if name == "strict":
        device = str(x.device).split("'")[1]
    return get_backend(f"{name}:{device}" if device else name, dtype)


def like(x: Array, given: Any) -> Array:
    """Return `x` as an array of the library and device that `given` came from (NumPy for lists)."""
    if type(x) is type(given) and (type(x) is np.ndarray or x.device == given.device):
        return x
    if _library(type(given)) in (None, "numpy"):
        return to_numpy(x)
    target = backend_of(given)
    return target.asarray(x, dtype=getattr(target.xp, str(x.dtype).rpartition(".")[2]))


def to_numpy(x: Any) -> np.ndarray:
    """Copy an array of any library to the host as a NumPy array.

    Parameters
    ----------
    x : array-like
        An array of any supported library, or anything that NumPy turns into an array.

    Returns
    -------
    numpy.ndarray
        It may share memory with `x` and be read-only: copy before changing it.

    Examples
    --------
    >>> to_numpy([[1, 2]])
    array([[1, 2]])
    """
    library = _library(type(x))
    if library == "cupy":
        return np.asarray(x.get())
    if library == "torch":
        x = x.detach().cpu()
        return np.asarray((x.float() if str(x.dtype) == "torch.bfloat16" else x).numpy())  # NumPy has no bfloat16
    if library == "strict":
        strict = importlib.import_module("array_api_strict")
        return np.asarray(x.to_device(strict.Device("CPU_DEVICE")))
    return np.asarray(x)


def _to_device(a: Array, device: Device) -> Array:
    return array_api_compat.to_device(a, device)


def _check_real(dtype_name: str) -> None:
    if not dtype_name.startswith(("float", "int", "uint", "bool", "bfloat")):
        hint = "Encode text with xpnn.data.TableEncoder"
        if dtype_name.startswith("complex"):
            hint = "Split real and imaginary parts"
        elif dtype_name.startswith(("datetime", "timedelta")):
            hint = "Count time from a date of your choice"
        raise DTypeError(
            f"asarray: expected real numbers, got dtype {dtype_name}. {hint} or convert with numpy.asarray(a, float)."
        )
