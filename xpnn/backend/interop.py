"""Arrays of any library: which it is, its namespace, and the way to the host."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import array_api_compat
import numpy as np

from .._typing import Array, Namespace
from ..accel.native.turns import ONE_THREAD, holds_one_thread
from ..errors import DTypeError
from ..frames import stacked, unwrapped
from ..ops import Ops, portable_ops

__all__ = ["LIBRARIES", "NAMESPACES", "library_of", "namespace", "on_device", "on_its_device", "ops_of", "to_numpy"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: The library of each type of array that was met, None for what is no array.
LIBRARIES: dict[type, str | None] = {}


def library_of(kind: type) -> str | None:
    """Name the library of an array type, without importing any."""
    try:
        return LIBRARIES[kind]
    except KeyError:
        return LIBRARIES.setdefault(kind, _find_library(kind))


def _find_library(kind: type) -> str | None:
    module = kind.__module__.partition(".")[0]
    if issubclass(kind, np.ndarray):
        return "numpy"
    if module == "cupy" and kind.__name__ == "ndarray":
        return "cupy"
    if module == "torch" and kind.__name__ in ("Tensor", "Parameter"):
        return "torch"
    return "strict" if module == "array_api_strict" and kind.__name__ == "Array" else None


#: Likewise its namespace.
NAMESPACES: dict[type, Namespace] = {np.ndarray: np}


def namespace(x: Array) -> Namespace:
    """Return the Array API namespace of an array; one dictionary look-up after the first time."""
    try:
        return NAMESPACES[type(x)]
    except KeyError:
        if library_of(type(x)) is None:
            raise DTypeError(
                f"expected an array of NumPy, CuPy, PyTorch or array-api-strict, got {type(x).__name__}. "
                "Convert it with numpy.asarray."
            ) from None
        return NAMESPACES.setdefault(type(x), array_api_compat.array_namespace(x))


def on_device(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a method while the device of its object's ``backend`` is current, where CuPy allocates and launches.

    On NumPy, while OpenBLAS is on one thread (`xpnn.accel.native.turns`), for layers of the user's own, too.
    """

    @functools.wraps(method)
    def on_the_device(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        backend = args[0].backend  # type: ignore[attr-defined]
        if backend.name == "numpy" and not holds_one_thread():
            with ONE_THREAD:
                return method(*args, **kwargs)
        if backend.name != "cupy":
            return method(*args, **kwargs)
        with backend.active():
            return method(*args, **kwargs)

    return on_the_device


def on_its_device(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a method of objects that have no backend while the device of its first argument, an array, is current."""

    @functools.wraps(method)
    def on_the_device(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        if len(args) < 2 or library_of(type(args[1])) != "cupy":
            return method(*args, **kwargs)
        with args[1].device:  # type: ignore[attr-defined]
            return method(*args, **kwargs)

    return on_the_device


def ops_of(x: Array) -> Ops:
    """Return the portable operations of an array's library and device."""
    return portable_ops(namespace(x), array_api_compat.device(x))


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

    Raises
    ------
    DataError
        If values are masked.

    Examples
    --------
    >>> to_numpy([[1, 2]])
    array([[1, 2]])
    """
    if type(x) is np.ndarray:
        return x
    library = library_of(type(x))
    if library == "cupy":
        return np.asarray(x.get())
    if library == "torch":
        x = x.detach().cpu()
        narrow = str(x.dtype).startswith(("torch.bfloat", "torch.float8"))  # NumPy has none of these
        return np.asarray((x.float() if narrow else x).numpy())
    if library == "strict":
        strict = importlib.import_module("array_api_strict")
        return np.asarray(x.to_device(strict.Device("CPU_DEVICE")))
    return np.asarray(unwrapped(stacked(x), "to_numpy", "x"))
