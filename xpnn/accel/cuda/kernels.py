"""The kernels of ``kernels.cu``: compiled once, launched with arguments of the right width.

CuPy packs a launch without knowing the kernel's signature: a Python int becomes 64 bits, a Python float a double.
So every number goes through `Kernels.launch`, which makes it what the kernels take.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from ..._typing import Array
from ...errors import BackendUnavailableError

__all__ = ["DECAYS", "KERNELS", "OPTIONS", "Kernels", "blocks", "source"]

#: Every kernel of the module.
KERNELS = (
    "adam",
    "add_bias",
    "clip_norm",
    "column_sums",
    "cross_entropy_step",
    "descend",
    "gather_words",
    "keep_mask",
    "keep_mask_of_rows",
    "normalize_rows",
    "normalize_rows_backward",
    "relu_backward",
    "root_of_sum",
    "softmax_cross_entropy",
    "square_sums",
    "step_sums",
)
#: Without fused multiply-add, so that a chain of products and sums rounds as array operations do.  CuPy adds
#: ``-ftz=true``, here as for its own kernels: numbers below 1.2e-38 count as 0.
OPTIONS = ("--std=c++17", "--fmad=false")
#: Kinds of weight decay, by name, and the number by which the kernels know them.
DECAYS = {"keep": 0, "shrink": 1, "reach": 2, "coupled": 3}

_NULL = np.uintp(0)  # None would make CuPy hand over no argument at all
_MOST_BLOCKS = 4096  # beyond, threads take several elements each


def source() -> str:
    """Return the CUDA source of all kernels."""
    return Path(__file__).with_name("kernels.cu").read_text(encoding="utf-8")


def blocks(n: int, threads: int = 256) -> int:
    """Return how many blocks of `threads` serve `n` elements, each thread one or more."""
    return min(-(-n // threads), _MOST_BLOCKS)


class Kernels:
    """The kernels on CuPy's current device: compiled at the first launch, once for each device, and kept on disk.

    Other kernels than `KERNELS` have a `code` and `options` of their own; `together`, all blocks of a grid are on the
    device at once.
    """

    def __init__(
        self, cupy: Any, code: str | None = None, options: tuple[str, ...] = OPTIONS, *, together: bool = False
    ) -> None:
        self._module = cupy.RawModule(code=source() if code is None else code, options=options)
        self._together = together
        self._functions: dict[str, Any] = {}

    def launch(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Array | int | float | None
    ) -> None:
        """Launch a kernel on the current stream, on a grid of blocks, each a block of threads.

        Arrays go as pointers and None as the null pointer, an int as 32 bits, a float as a float32; a NumPy scalar as
        it is.  Raises BackendUnavailableError if the kernels cannot be compiled here.
        """
        function = self._functions.get(name) or self._load(name)
        function(grid, block, tuple(_packed(a) for a in args))

    def _load(self, name: str) -> Any:
        try:
            function = self._module.get_function(name)
            if self._together:
                # Asked of the function, not of the module: for that, CuPy before 14.2 compiles in a way that needs a
                # library of CUDA's which its wheels do not bring.
                function = functools.partial(function.kernel, enable_cooperative_groups=True)
        except Exception as error:  # a compiler's error is of no common kind
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BackendUnavailableError(
                f"CupyOps: the CUDA kernels cannot be compiled ({reason}). "
                "Use get_backend('cupy', ops='portable'), or install 'cupy-cuda13x[ctk]' to match the driver."
            ) from error
        return self._functions.setdefault(name, function)


def _packed(arg: Any) -> Any:
    kind = type(arg)
    if kind is int:
        return np.int32(arg)
    if kind is float:
        return np.float32(arg)
    return _NULL if arg is None else arg
