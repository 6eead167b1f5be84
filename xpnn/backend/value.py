"""The backend of a network: library, device, dtype and operations as one value, and how to get one."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import array_api_compat
import numpy as np

from .._typing import Array, Device, DType, Namespace
from ..accel.cuda.upload import SLICE_BYTES, upload
from ..accel.half import HALVES, half_of
from ..accel.native.support import Compiled, compiled_by_environment
from ..accel.workers import together
from ..arguments import as_array, real_hint
from ..crossover import Crossover
from ..errors import BackendUnavailableError, DTypeError, OptionError
from ..ops import Ops
from .interop import library_of, to_numpy
from .operations import Options, make_ops, options_of
from .probe import FORKED, NAMES, forked_from_cuda, state_of

__all__ = ["Backend", "backend_of", "by_slices", "get_backend", "like", "make"]

_DTYPES = ("float32", "float64")
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

    def __getstate__(self) -> dict[str, Any]:
        # Modules and device handles cannot be written; the name and the options say it all.
        options = options_of(self.ops)._asdict()
        if options["compiled"] == "auto":
            del options["compiled"]  # then it is for the environment to say, wherever it is read again
        if not options["persistent"]:
            del options["persistent"]  # older versions read such a backend too
        return {"spec": self.spec, "dtype": self.dtype_name, **options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        made = get_backend(**state)
        for field_ in fields(self):
            object.__setattr__(self, field_.name, getattr(made, field_.name))

    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self  # a value, with the operations of its networks

    @property
    def spec(self) -> str:
        """The string that `get_backend` turns into this backend, such as ``"torch:cuda"``."""
        return _spec(self.name, self.device)

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
        DataError
            If values of `a` are masked.
        """
        dtype = self.dtype if dtype is None else dtype
        if type(a) is np.ndarray:
            if self.name == "numpy" and a.dtype == dtype:
                return a
        elif isinstance(a, np.ma.MaskedArray | np.matrix) or library_of(type(a)) is None:
            a = np.asarray(as_array(a, "asarray", "a"))
        if self.owns(a):
            if self.name == "torch" and a.requires_grad:
                a = a.detach()  # our backward is by hand: torch must not record a second one
            _check_real(a.dtype)
            if a.device != self.device:
                if dtype != self.xp.float64:  # not every device has it: narrow before the move
                    a = self.xp.astype(a, dtype, copy=False)
                if self.name == "cupy":
                    a = self.xp.asarray(a, device=self.device)
                else:
                    a = array_api_compat.to_device(a, self.device)
            return self.xp.astype(a, dtype, copy=False)
        host = to_numpy(a)
        _check_real(host.dtype)
        host = host.astype(self.numpy_dtype(dtype), copy=False)
        if self.name == "torch":
            # torch warns of read-only memory and cannot express negative strides
            host = np.require(host, requirements=["C", "W"])
        with self.active():
            if self.name == "cupy" and host.nbytes > SLICE_BYTES:
                cupy, cupyx = (importlib.import_module(name) for name in ("cupy", "cupyx"))
                return upload(cupy, cupyx, host)
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
        return library_of(type(a)) == self.name

    def active(self) -> contextlib.AbstractContextManager[Any]:
        """Make the device current: CuPy allocates on the current device; a no-op elsewhere.

        Raises
        ------
        BackendUnavailableError
            If this process was forked from one that used CUDA: CUDA would fail or wait for ever.
        """
        if self.name != "cupy":
            return contextlib.nullcontext()
        if forked_from_cuda():
            raise BackendUnavailableError(f"{self!r}: {FORKED}")
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
        if half_of(ops) != (dtype if dtype in HALVES else None):
            ops = make_ops(
                self.name, self.xp, self.device, dtype, options_of(ops)._replace(tf32=False, persistent=False)
            )
        return replace(self, dtype=getattr(self.xp, _wide(dtype)), dtype_name=dtype, ops=ops)

    @property
    def wide_name(self) -> str:
        """The name of `dtype`: ``"float32"`` also where products are of half precision."""
        return _wide(self.dtype_name)

    def numpy_dtype(self, dtype: DType) -> np.dtype[Any]:
        """Return NumPy's dtype for one of this library's."""
        name = "bool" if dtype == self.xp.bool else str(dtype).rpartition(".")[2]
        return np.dtype(dtype if self.name in ("numpy", "cupy") else name)


# -- getting one ----------------------------------------------------------------------------------------------
def get_backend(
    spec: str | Backend = "auto",
    dtype: str | None = None,
    *,
    ops: Literal["fast", "portable"] | None = None,
    tf32: bool | None = None,
    persistent: bool | None = None,
    compiled: Compiled | None = None,
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
    persistent : bool, optional
        Whether `Trainer.fit` on CuPy may make many steps of a small network by one launch of one kernel, equal to the
        operations to rounding.  It does not, unless this is True: that it is faster has not been measured on a GPU yet.
    compiled : {"auto", True, False}, optional
        Whether NumPy's operations may run as native code, compiled loops and traces of whole steps (``xpnn[fast]``):
        in fits that are long enough to repay their loading, always, or never.  Results are the same to the last bit.
        What the environment variable ``XPNN_COMPILED`` says by default: 0, 1 or auto, which it is where it is not set.
    work : float, optional
        Multiply-adds of one training step (`xpnn.crossover.work_of`), for ``"auto"``.

    Returns
    -------
    Backend
        A value; equal arguments give equal backends.

    Raises
    ------
    OptionError
        If the name or the dtype is unknown, or `tf32`, `persistent` or `compiled` is asked for where there is no such
        thing.
    BackendUnavailableError
        If the library, the device or compiled loops cannot be used; the message names the mend.

    Examples
    --------
    >>> get_backend("numpy").dtype_name
    'float32'
    """
    if ops not in (None, "fast", "portable"):
        raise OptionError(f"get_backend: expected ops to be 'fast' or 'portable', got {ops!r}. Leave it away.")
    if not (compiled is None or isinstance(compiled, bool) or compiled == "auto"):
        raise OptionError(f"get_backend: expected compiled to be 'auto', True or False, got {compiled!r}. Choose one.")
    given: dict[str, Any] = {"ops": ops, "tf32": tf32, "persistent": persistent, "compiled": compiled}
    given = {name: value for name, value in given.items() if value is not None}
    if isinstance(spec, Backend):
        backend = spec if dtype is None else spec.with_dtype(dtype)
        if not given:
            return backend
        kept = Options() if ops == "portable" else options_of(backend.ops)  # what else is set is of fast ones
        options = kept._replace(**given)
        options.check(backend.name, backend.dtype_name)
        return replace(backend, ops=make_ops(backend.name, backend.xp, backend.device, backend.dtype_name, options))
    dtype = "float32" if dtype is None else dtype
    _check_dtype(dtype)
    if not isinstance(spec, str):
        raise OptionError(
            f"get_backend: expected a name or a Backend, got {type(spec).__name__}. Pass a name such as 'numpy'."
        )
    name, _, device = spec.partition(":")
    if name == "auto":
        name, why = _choose(work)
        _LOG.info("backend auto: %s", why)
    if name not in NAMES:
        raise OptionError(
            f"get_backend: expected one of {', '.join(NAMES)} or auto, got {name!r}. "
            "`xpnn doctor` tells what each needs."
        )
    options = Options(**given)
    options.check(name, dtype)
    state = state_of(name, device)
    if state != "ok":
        raise BackendUnavailableError(f"get_backend({spec!r}): {state}")
    if name == "numpy" and options.ops == "fast" and compiled is None:
        options = options._replace(compiled=compiled_by_environment())
    return make(name, device, dtype, options)


def _choose(work: float | None) -> tuple[str, str]:
    """Return the backend that "auto" stands for, and the reason in a line."""
    state = state_of("cupy", "")
    if state != "ok":
        return "numpy", f"the processor: CuPy has no GPU here ({state})"
    rule = None if work is None else Crossover.load()
    if rule is None or work is None:
        return "cupy", "the GPU; `xpnn bench` finds from what size on it pays"
    return "cupy" if rule.prefers_gpu(work) else "numpy", rule.sentence(work)


def _check_dtype(dtype: str) -> None:
    if not isinstance(dtype, str) or dtype not in (*_DTYPES, *HALVES):
        raise OptionError(
            f"get_backend: expected dtype float32, float64, bfloat16 or float16, got {dtype!r}. "
            "Pass one of these names as text."
        )


def _wide(dtype: str) -> str:
    return "float32" if dtype in HALVES else dtype


def _check_real(dtype: DType) -> None:
    hint = real_hint(dtype)
    if hint is not None:
        name = getattr(dtype, "name", str(dtype).rpartition(".")[2])
        raise DTypeError(
            f"asarray: expected real numbers, got dtype {name}. {hint} or convert with numpy.asarray(a, float)."
        )


def make(name: str, device_name: str, dtype: str, options: Options | None = None) -> Backend:
    """Return a backend that can be had, which `get_backend` finds out."""
    xp, device, index_dtype = _place(name, device_name)
    ops = make_ops(name, xp, device, dtype, options or Options())
    return Backend(name, xp, device, getattr(xp, _wide(dtype)), dtype, index_dtype, ops)


def _place(name: str, device_name: str) -> tuple[Namespace, Device, DType]:
    """Return the namespace, the device, and the dtype of labels and indices."""
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
    return xp, device, xp.__array_namespace_info__().default_dtypes(device=device)["indexing"]


# -- of arrays -----------------------------------------------------------------------------------------------
def backend_of(x: Array, default: str = "numpy") -> Backend:
    """Return the backend an array lives on: its library, device and, if floating, its dtype.

    Anything that is no array of a supported library (a list, say) gives `default`.
    """
    name = library_of(type(x))
    if name is None:
        return get_backend(default)
    dtype = str(x.dtype).rpartition(".")[2]
    return get_backend(_spec(name, x.device), dtype if dtype in _DTYPES else "float32")


def _spec(name: str, device: Device) -> str:
    """Return the string that `get_backend` turns into a library's backend on a device."""
    if name == "numpy":
        return name
    if name == "cupy":
        return f"cupy:{device.id}"
    return f"strict:{str(device).split(chr(39))[1]}" if name == "strict" else f"torch:{device}"


def by_slices(backend: Backend, make: Callable[[Any], Array], x: Any, rows: int, *, at_once: bool = False) -> Array:
    """Return what a function makes of `x` (..., n, n_in), (..., n, n_out), so many rows at a time.

    Beside what is returned, no more than a slice and what is made of it is held; with `at_once`, on NumPy, one for each
    thread.

    Examples
    --------
    >>> by_slices(get_backend("numpy"), lambda part: part * 2.0, np.ones((3, 1), dtype=np.float32), 2).tolist()
    [[2.0], [2.0], [2.0]]
    """
    n = x.shape[-2]
    first = make(x[..., : min(rows, n), :])
    shape = (*first.shape[:-2], n, first.shape[-1])
    out = backend.xp.empty(shape, dtype=first.dtype, device=backend.device)
    out[..., : first.shape[-2], :] = first

    def run(k: int) -> None:
        a, b = rows * k, min(rows * (k + 1), n)
        out[..., a:b, :] = make(x[..., a:b, :])

    if at_once and backend.name == "numpy":
        together(lambda k: run(k + 1), -(-n // rows) - 1)
    else:
        for k in range(1, -(-n // rows)):
            run(k)
    return out


def like(x: Array, given: Any) -> Array:
    """Return `x` as an array of the library and device that `given` came from (NumPy for lists)."""
    if type(x) is type(given) and (type(x) is np.ndarray or x.device == given.device):
        return x
    if library_of(type(given)) in (None, "numpy"):
        return to_numpy(x)
    target = backend_of(given)
    return target.asarray(x, dtype=getattr(target.xp, str(x.dtype).rpartition(".")[2]))
