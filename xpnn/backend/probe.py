"""What works here: each library is tried in stages, and each way to fail has one sentence with what mends it."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

from ..optional import PACKAGES

__all__ = ["CUDA_BEGAN", "FORKED", "NAMES", "available_backends", "forked_from_cuda", "state_of"]

#: The libraries by which backends are named.
NAMES = ("numpy", "cupy", "torch", "strict")


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
    return {name: state_of(name, "") for name in NAMES} | {"torch:cuda": state_of("torch", "cuda")}


def state_of(name: str, device: str) -> str:
    """Return "ok" where a library and its device can be used, or why not and what to do."""
    if name == "numpy":
        return "ok" if device in ("", "cpu") else f"NumPy has no device {device!r}; use 'numpy'."
    module, probe = {
        "torch": ("torch", _probe_torch),
        "strict": ("array_api_strict", _probe_strict),
        "cupy": ("cupy", _probe_cupy),
    }[name]
    package = PACKAGES[module][1]
    if importlib.util.find_spec(module) is None:
        return f"not installed: pip install {package}{' (or [cuda12], to match the driver)' if name == 'cupy' else ''}"
    try:
        library = importlib.import_module(module)
    except (ImportError, OSError) as error:
        return f"installed, but its import fails ({error}): pip install --force-reinstall {package}"
    return probe(library, device)


def _probe_strict(strict: Any, device: str) -> str:
    try:
        strict.Device(device or "device1")
    except ValueError:
        return f"array-api-strict has no device {device!r}; use 'strict' or 'strict:CPU_DEVICE'."
    return "ok"


def _probe_torch(torch: Any, device: str) -> str:
    try:
        torch.zeros(1, device=device or "cpu").add_(1.0)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        return (
            f"PyTorch cannot use the device {device!r} ({reason}): "
            "check nvidia-smi and install a CUDA build of torch, or use 'torch'."
        )
    return "ok"


#: Why CuPy cannot be used by a fork.
FORKED = (
    "this process was forked from one that had used CUDA already, which CUDA does not survive: pass n_jobs=1, or "
    "start workers afresh with joblib's 'loky' or multiprocessing's 'spawn'."
)
#: "pid": the process that asked CUDA first; a fork inherits the entry.
CUDA_BEGAN: dict[str, int] = {}


def forked_from_cuda() -> bool:
    """Whether this process was forked from one that had used CUDA."""
    return CUDA_BEGAN.setdefault("pid", os.getpid()) != os.getpid()


def _probe_cupy(cupy: Any, device: str) -> str:
    if forked_from_cuda():
        return FORKED
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
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
