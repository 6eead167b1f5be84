"""What a GPU reports: too little memory, and errors that come long after the step they belong to."""

from __future__ import annotations

import functools
import importlib
import math
import re
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from ..backend import Backend
from ..errors import DeviceMemoryError
from ..layers.base import walk
from .position import Position
from .step import Training

__all__ = ["note_step", "tells_of_memory"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Of a layer's output a step keeps the array, its gradient, and what one operation more makes of each.
_COPIES = 4
# Share of the free memory to count on: blocks lie apart.
_SHARE = 0.8


def tells_of_memory(fit: Callable[_P, _T]) -> Callable[_P, _T]:
    """Where CuPy finds no memory in a trainer's `fit`, tell how much was wanted, what is free and what would fit."""

    @functools.wraps(fit)
    def told(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        training: Any = args[0]
        backend: Backend = training.net.backend
        before = _pool().used_bytes() if backend.name == "cupy" else 0
        try:
            return fit(*args, **kwargs)
        except MemoryError as error:
            if not _of_cuda(error):
                raise
            X, batch_size = args[1] if len(args) > 1 else kwargs.get("X"), kwargs.get("batch_size", 128)
            raise _told(training, X, batch_size, before, error) from error  # type: ignore[arg-type]

    return told


def _of_cuda(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in ("cupy", "cupy_backends")


def _told(training: Training, X: Any, batch_size: int, before: int, error: MemoryError) -> DeviceMemoryError:
    """Return the error that says it; `before` the fit CuPy held so many bytes."""
    backend = training.net.backend
    found = re.search(r"allocating ([\d,]+) bytes", str(error))
    wanted = "more" if found is None else _size(int(found[1].replace(",", "")))
    free, total, held = _memory(backend)
    fits = _batch_size(training, X, free + held - before)
    if 1 <= fits < batch_size:
        mend = f"batch_size={fits} would fit."
    else:
        mend = "Pass X as a numpy.memmap, whose rows are brought in blocks, or make the network smaller."
    return DeviceMemoryError(
        f"fit: expected {wanted} of memory on {backend.spec} beside what is in use, got {_size(free)} free of "
        f"{_size(total)}. {mend}"
    )


def _pool() -> Any:
    return importlib.import_module("cupy").get_default_memory_pool()


def _memory(backend: Backend) -> tuple[int, int, int]:
    """Return the bytes that CuPy could still have, those of the device, and those that it holds."""
    cupy = importlib.import_module("cupy")
    pool = _pool()
    free, total = cupy.cuda.Device(backend.device.id).mem_info
    free += pool.free_bytes()
    if pool.get_limit():
        total = min(total, pool.get_limit())
        free = min(free, total - pool.used_bytes())
    return max(free, 0), total, pool.used_bytes()


def _batch_size(training: Training, X: Any, available: int) -> int:
    """Return the largest power of two of rows whose step fits into so many bytes with all else; 0 for none."""
    store, net = training.net.store, training.net
    copies = 1 + 2 * len(training.optimizer.slots)  # a copy of the values; the optimizer's state, and a copy
    lasting = store.values.nbytes * copies
    shape = getattr(X, "shape", ())
    if not hasattr(X, "filename"):  # a memory map stays on disk
        lasting += 4 * math.prod(shape)
    widths = sum(layer.n_out for layer in walk(net.layers) if not layer.sublayers())
    row = 4 * (math.prod(shape[1:]) + _COPIES * widths * math.prod(store.replicas))
    rows = int((available - lasting) * _SHARE) // max(row, 1)
    return 1 << (rows.bit_length() - 1) if rows > 0 else 0


def _size(n: int) -> str:
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def note_step(error: BaseException, epoch: int, position: Position) -> None:
    """Add to an error of CUDA in which steps of an epoch its cause lies: it is told when the host waits next."""
    if _of_cuda(error) and not isinstance(error, MemoryError):
        first = 0 if position.begun is None else position.begun.slot
        error.add_note(
            "fit: a GPU tells an error when the host waits for it next: this one belongs to a step from "
            f"{first + 1} to {position.slot + 1} of epoch {epoch + 1}. fit(graph=False) under "
            "CUDA_LAUNCH_BLOCKING=1 raises it where it happens."
        )
