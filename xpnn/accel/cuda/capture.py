"""Recording many training steps once, to launch them as one.

On a GPU a small step is mostly the launching of its kernels.  A CUDA graph holds the launches of many steps and costs
one.  What it holds are addresses: a recorded step reads and writes the very memory that it read and wrote while it was
recorded, and every number that came from Python is frozen.  So whatever changes from step to step must lie in device
memory, at a place that stays; `xpnn.training.recorded.graphs` sees to that.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ...ops import Ops

__all__ = ["Capturer", "CupyCapturer", "Recording", "find_capturer"]


class Recording(Protocol):
    """Work that was recorded."""

    def launch(self) -> None:
        """Do it, on what lies at the recorded addresses now, behind all work given to the device before."""
        ...


class Capturer(Protocol):
    """Something that can record work on a device instead of doing it."""

    def active(self) -> contextlib.AbstractContextManager[None]:
        """Return a context in which work, recorded or not, is ordered: behind what came before, before what follows."""
        ...

    def record(self, run: Callable[[], None]) -> Recording:
        """Call `run`, whose array work is recorded and not done.

        Arrays that it leaves behind, in attributes say, keep their memory, and are written at each launch.

        Raises
        ------
        Exception
            Of whatever kind, if `run` does what cannot be recorded: waits for the device, or uploads.
        """
        ...


class CupyCapturer:
    """CUDA graphs of CuPy.

    Work runs on a stream of its own: the default stream cannot be captured, and one that is not non-blocking would
    break it.  What a recorded step allocates comes from a memory pool of its own, which lives as long as the graph:
    memory of the common pool would be given to others, while the graph goes on writing to it.

    Parameters
    ----------
    cupy : module
        CuPy.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._stream = cupy.cuda.Stream(non_blocking=True)
        self._pool = cupy.cuda.MemoryPool()

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Make this capturer's stream the current one; the one before waits for it at the end."""
        outer = self._cupy.cuda.get_current_stream()
        with self._stream:
            self._stream.wait_event(outer.record())
            try:
                yield
            finally:
                outer.wait_event(self._stream.record())

    def record(self, run: Callable[[], None]) -> Recording:
        """Record what `run` launches on the current stream, within `active`."""
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
        return _CupyRecording(graph, self._stream, self._pool)


class _CupyRecording:
    """A CUDA graph, with the memory that it works in."""

    def __init__(self, graph: Any, stream: Any, pool: Any) -> None:
        self._graph, self._stream, self._pool = graph, stream, pool

    def launch(self) -> None:
        self._graph.launch(self._stream)


def find_capturer(name: str, ops: Ops) -> Capturer | str:
    """Return what records steps on a backend, or in a few words why nothing does.

    Parameters
    ----------
    name : str
        Of the backend.
    ops : Ops
        Its operations.

    Returns
    -------
    Capturer or str
        A new capturer for its current device, or the reason.
    """
    if name != "cupy":
        return f"CUDA graphs are for CuPy, and the backend is {name}"
    if ops.name != "fast":
        return "CuPy's own matrix products cannot be part of a CUDA graph, and ops='portable' uses them"
    if ops.blas() is None:  # type: ignore[attr-defined]
        return "cuBLAS cannot be called directly here, and CuPy's own matrix products cannot be part of a CUDA graph"
    return CupyCapturer(importlib.import_module("cupy"))
