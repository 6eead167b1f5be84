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


class Branch:
    """A second stream of a capture, for work that nothing waits for until all is joined: gradients of weights.

    What it reads is kept until then, for the first stream would write new arrays where old ones have gone.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self.open = False  #: whether work may be put there
        self._kept: list[Any] = []

    @contextlib.contextmanager
    def beside(self, *arrays: Any) -> Iterator[None]:
        """Give work to the second stream, behind what the current one has; it may read these `arrays`."""
        self.stream.wait_event(self._event(self._cupy.cuda.get_current_stream()))
        self._kept += arrays
        with self.stream:
            yield

    def join(self) -> None:
        """Let what follows on the current stream wait for the second."""
        if self._kept:
            self._cupy.cuda.get_current_stream().wait_event(self._event(self.stream))
            self._kept.clear()

    def close(self) -> None:
        """Take no more work."""
        self.open = False
        self._kept.clear()

    def _event(self, stream: Any) -> Any:
        return stream.record(self._cupy.cuda.Event(disable_timing=True))


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
        self.branch = Branch(cupy)

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

    def record(self, run: Callable[[], None], *, branches: bool = False) -> Recording:
        """Call `run`, within `active`: what it launches on the current stream is recorded and not done.

        With `branches`, gradients of weights are recorded as work that runs beside the rest of a backward pass, where
        nothing but `xpnn.ops.Ops.join` waits for them.

        Arrays that it leaves behind, in attributes say, keep their memory, and are written at each launch.  Whatever
        CUDA raises comes through, if `run` does what cannot be recorded: waits for the device, or uploads.
        """
        collects = gc.isenabled()
        gc.collect()
        gc.disable()  # what is collected within a capture may call CUDA
        try:
            with self._cupy.cuda.using_allocator(self._pool.malloc):
                self._stream.begin_capture()
                self.branch.open = branches
                try:
                    run()
                except BaseException:  # leave the capture first, then tell what really happened
                    with contextlib.suppress(Exception):
                        self._stream.end_capture()
                    raise
                finally:
                    self.branch.close()
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
