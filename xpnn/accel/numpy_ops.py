"""NumPy twins: results written where they belong, the optimizer in blocks that stay in cache, on several threads.

The arithmetic is the portable one, in the same order, so results are equal to the last bit.
"""

from __future__ import annotations

import contextvars
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from .._typing import Array
from ..ops import Ops

__all__ = ["NumpyOps"]

# Elements of one block: with its scratch and the four buffers it fits a core's L2 cache in float32.
_BLOCK = 1 << 16
# Below this many elements a second thread saves nothing: those of the matrix products are still spinning.
_THREADED = 1 << 20


class NumpyOps(Ops):
    """The operations of `xpnn.ops.Ops` that NumPy can do with fewer passes over memory."""

    name = "fast"

    def linear_backward(
        self,
        x: Array,
        dy: Array,
        weight: Array,
        d_weight: Array,
        d_bias: Array | None,
        *,
        need_dx: bool,
    ) -> Array | None:
        """Gradients of `linear`; the products go straight into the flat gradient buffer."""
        np.matmul(x.mT, dy, out=d_weight)
        if d_bias is not None:
            np.add.reduce(dy, axis=-2, keepdims=True, out=d_bias)
        return dy @ weight.mT if need_dx else None

    def adam(
        self,
        values: Array,
        grads: Array,
        m: Array,
        v: Array,
        scalars: Sequence[Any],
        lr_factors: Array | None = None,
    ) -> None:
        """One Adam step, block by block: a whole pass over one block before the next leaves memory."""
        arrays = [values, grads, m, v] + ([] if lr_factors is None else [lr_factors])
        n = values.shape[-1]
        block = max(_BLOCK // max(values.size // max(n, 1), 1), 1)  # replicas share the block

        def run(start: int, stop: int) -> None:
            scratch = np.empty((*values.shape[:-1], min(block, stop - start)), values.dtype)
            for a in range(start, stop, block):
                b = min(a + block, stop)
                _adam([array[..., a:b] for array in arrays], scalars, scratch[..., : b - a])

        _share(run, n, values.size)


def _adam(arrays: Sequence[Array], scalars: Sequence[Any], t: Array) -> None:
    values, grads, m, v, *factors = arrays
    beta1, beta2, eps, rate = scalars
    m *= beta1
    m += grads
    v *= beta2
    np.multiply(grads, grads, out=t)
    v += t
    np.sqrt(v, out=t)
    t += eps
    np.divide(m, t, out=t)
    t *= rate
    for factor in factors:
        t *= factor
    values -= t


# -- threads ----------------------------------------------------------------------------------------------------
# NumPy lets go of Python's lock in each of these loops.  There are as many threads as OMP_NUM_THREADS, which limits
# the matrix products too, or as cores.
def _thread_count() -> int:
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    try:
        return max(min(int(os.environ["OMP_NUM_THREADS"]), cores), 1)
    except (KeyError, ValueError):
        return cores


_pool: ThreadPoolExecutor | None = None


def _forget_pool() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)  # a forked child has the pool, but not its threads


def _share(run: Callable[[int, int], None], n: int, size: int) -> None:
    """Call ``run(start, stop)`` over 0..n, in as many equal parts as there are threads if `size` pays for them."""
    global _pool
    threads = _thread_count() if size >= _THREADED else 1
    if threads == 1:
        run(0, n)
        return
    if _pool is None:
        _pool = ThreadPoolExecutor(threads - 1, thread_name_prefix="xpnn")
    edges = [n * k // threads for k in range(threads + 1)]
    # Each thread works under this one's settings: numpy.errstate is one of them.
    others = [_pool.submit(contextvars.copy_context().run, run, a, b) for a, b in itertools.pairwise(edges[1:])]
    run(edges[0], edges[1])
    for other in others:
        other.result()
