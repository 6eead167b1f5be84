"""Recording many training steps once, to launch them as one.

On a GPU a small step is mostly the launching of its kernels.  A CUDA graph holds the launches of many steps and costs
one.  What it holds are addresses: a recorded step reads and writes the very memory that it read and wrote while it was
recorded, and every number that came from Python is frozen.  So whatever changes from step to step must lie in device
memory, at a place that stays; `xpnn.training.recorded.graphs` sees to that.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

from ...ops import Ops

__all__ = ["Capturer", "Recording", "find_capturer"]


class Capturer:
    """CUDA graphs of CuPy: work is recorded instead of done.

    Work runs on a stream of its own: the default stream cannot be captured, and one that is not non-blocking would
    break it.  CuPy keeps memory by stream, and cuBLAS has a workspace for each, so a capturer serves many fits, one
    after the other.  What a recorded step allocates comes from a memory pool of its own, which lives as long as the
    graph: memory of the common pool would be given to others, while the graph goes on writing to it.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._pool = cupy.cuda.MemoryPool()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this capturer's stream the current one: behind what came before, and what follows waits for it."""
        outer = self._cupy.cuda.get_current_stream()
        with self._stream:
            self._stream.wait_event(outer.record())
            try:
                yield
            finally:
                outer.wait_event(self._stream.record())

    def record(self, run: Callable[[], None]) -> Recording:
        """Call `run`, within `active`: what it launches on the current stream is recorded and not done.

        Arrays that it leaves behind, in attributes say, keep their memory, and are written at each launch.  Whatever
        CUDA raises comes through, if `run` does what cannot be recorded: waits for the device, or uploads.
        """
        collects = gc.isenabled()
        gc.collect()
        gc.disable()  # what is collected within a capture may call CUDA
        try:
            with self._cupy.cuda.using_allocator(self._pool.malloc):
                self._stream.begin_capture()
                try:
                    run()
                except BaseException:  # leave the capture first, then tell what really happened
                    with contextlib.suppress(Exception):
                        self._stream.end_capture()
                    raise
                graph = self._stream.end_capture()
            graph.upload(self._stream)
        finally:
            if collects:
                gc.enable()
        return Recording(graph, self._stream, self._pool)

    def release(self) -> None:
        """Give back the memory of recordings that are gone."""
        self._pool.free_all_blocks()


class Recording:
    """A CUDA graph, with the memory that it works in."""

    def __init__(self, graph: Any, stream: Any, pool: Any) -> None:
        self._graph, self._stream, self._pool = graph, stream, pool

    def launch(self) -> None:
        """Do it, on what lies at the recorded addresses now, behind all work given to the device before."""
        self._graph.launch(self._stream)


def find_capturer(name: str, ops: Ops) -> Capturer | str:
    """Return the capturer of this thread for a backend's device, by its name, or in a few words why there is none."""
    if name != "cupy":
        return f"CUDA graphs are for CuPy, and the backend is {name}"
    if ops.name != "fast":
        return "CuPy's own matrix products cannot be part of a CUDA graph, and ops='portable' uses them"
    if ops.blas() is None:  # type: ignore[attr-defined]
        return "cuBLAS cannot be called directly here, and CuPy's own matrix products cannot be part of a CUDA graph"
    found: Capturer = ops.capturer()  # type: ignore[attr-defined]
    return found
