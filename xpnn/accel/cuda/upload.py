"""Bringing blocks of rows to a GPU while it works on those before.

Rows that do not stay on the device pass through two slots, which take turns.  Each has a buffer of page-locked host
memory, from which the GPU copies by itself, and one on the device.  Uploads have a stream of their own; events order
it against the stream that trains:

* the host writes into a slot after the upload before last, which was the slot's own, is done;
* an upload begins after the slot's last rows were taken;
* rows are taken after their upload.

What is taken is a fresh array, so nobody sees a buffer being overwritten.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._typing import Array, DType, Namespace, Shape

__all__ = ["PinnedSlots"]


class PinnedSlots:
    """Two slots on CuPy's current device, for blocks of at most this shape, which travel in this dtype."""

    def __init__(self, cupy: Any, cupyx: Any, shape: Shape, dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._host = [cupyx.empty_pinned(shape, dtype) for _ in range(2)]
        self._device = [cupy.empty(shape, dtype) for _ in range(2)]
        self._uploaded, self._taken = ([cupy.cuda.Event(disable_timing=True) for _ in range(2)] for _ in range(2))
        for event in self._taken:  # the memory may have been another array's, still in use on this stream
            event.record(cupy.cuda.get_current_stream())

    def wait(self, slot: int) -> None:
        """Wait until the host may write into a slot."""
        self._uploaded[slot].synchronize()

    def write(self, slot: int, block: np.ndarray) -> None:
        """Put a block into a slot, after `wait`; plain NumPy, so any thread may."""
        np.copyto(self._host[slot][: len(block)], block, casting="unsafe")

    def send(self, slot: int, n: int) -> None:
        """Begin to upload the first `n` rows of a slot."""
        self._stream.wait_event(self._taken[slot])
        self._device[slot][:n].set(self._host[slot][:n], stream=self._stream)
        self._uploaded[slot].record(self._stream)

    def take(self, slot: int, n: int, xp: Namespace, dtype: DType) -> Array:
        """Return the rows sent last as a fresh array, ordered on the current stream behind their upload."""
        stream = self._cupy.cuda.get_current_stream()
        stream.wait_event(self._uploaded[slot])
        rows = xp.astype(self._device[slot][:n], dtype, copy=True)
        self._taken[slot].record(stream)
        return rows

    def finish(self) -> None:
        """Wait for all uploads, so that the buffers may go."""
        for event in self._uploaded:
            event.synchronize()
