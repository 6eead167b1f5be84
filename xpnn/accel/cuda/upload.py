"""Bringing rows to a GPU: whole arrays in slices, and blocks of rows while it works on those before.

CuPy copies an array of the host through page-locked memory of the same size, which it rounds up to a power of two and
keeps: 40 GB of data would hold 64 GiB of the host's memory that nothing can move to disk.  `upload` has two buffers.

Rows that do not stay on the device pass through two slots, which take turns.  Each has a buffer of page-locked host
memory, from which the GPU copies by itself, and one on the device.  Uploads have a stream of their own; events order
it against the stream that trains:

* the host writes into a slot after the upload before last, which was the slot's own, is done;
* an upload begins after the slot's last rows were taken;
* rows are taken after their upload.

What is taken is a copy, so nobody sees a buffer being overwritten.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._typing import Array, DType, Namespace, Shape

__all__ = ["SLICE_BYTES", "PinnedSlots", "upload"]

#: Bytes of an array that travel at once: their transfer takes long beside its beginning.
SLICE_BYTES = 1 << 24


def upload(cupy: Any, cupyx: Any, host: np.ndarray) -> Array:
    """Return an array of the host on CuPy's current device, copied in slices through two page-locked buffers.

    While one slice travels, the next is copied into the other buffer.  The host waits for the last.
    """
    out = cupy.empty(host.shape, host.dtype)
    flat, there = np.ascontiguousarray(host).reshape(-1), out.reshape(-1)
    size = min(max(SLICE_BYTES // host.itemsize, 1), flat.size)
    buffers = [cupyx.empty_pinned((size,), host.dtype) for _ in range(2)]
    sent = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
    stream = cupy.cuda.get_current_stream()
    for k, start in enumerate(range(0, flat.size, size)):
        part, turn = flat[start : start + size], k % 2
        sent[turn].synchronize()
        buffers[turn][: len(part)] = part
        there[start : start + len(part)].set(buffers[turn][: len(part)], stream=stream)
        sent[turn].record(stream)
    stream.synchronize()
    return out


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

    def take(self, slot: int, n: int, xp: Namespace, dtype: DType, out: Array | None = None) -> Array:
        """Return the rows sent last, in `out` or fresh, ordered on the current stream behind their upload."""
        stream = self._cupy.cuda.get_current_stream()
        stream.wait_event(self._uploaded[slot])
        if out is None:
            rows = xp.astype(self._device[slot][:n], dtype, copy=True)
        else:
            out[...] = self._device[slot][:n]
            rows = out
        self._taken[slot].record(stream)
        return rows

    def finish(self) -> None:
        """Wait for all uploads, so that the buffers may go."""
        for event in self._uploaded:
            event.synchronize()
