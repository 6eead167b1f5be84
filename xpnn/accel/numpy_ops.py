"""NumPy twins: results written where they belong, the optimizer in blocks that stay in cache, on several threads.

Where numba is installed (``pip install "xpnn[fast]"``) and a fit is long enough to repay its loading, compiled loops
take the place of NumPy's passes.  The arithmetic is always the portable one, in the same order, so results are equal
to the last bit, and it does not matter when a loop takes over.
"""

from __future__ import annotations

import contextvars
import importlib
import importlib.util
import itertools
import os
import time
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
# Below this many elements one call of NumPy costs no more than one of a compiled loop.
_COMPILED = 1 << 11
# What a compiled loop saves, in seconds for each parameter and each activation of a step; and what loading costs.
_SAVED_BY_PARAM, _SAVED_BY_ACTIVATION = 0.8e-9, 0.7e-9
_LOADING = 1.0


class NumpyOps(Ops):
    """The operations of `xpnn.ops.Ops` that NumPy can do with fewer passes over memory."""

    name = "fast"
    _loops: Any = None  # the module of compiled loops, once `prepare` has chosen it
    _considered = False

    # -- choosing -------------------------------------------------------------------------------------------
    def prepare(self, steps: int, n_params: int, n_activations: int) -> None:
        """Load the compiled loops before the first fit that repays it, if they prove faster here."""
        saved = steps * (n_params * _SAVED_BY_PARAM + n_activations * _SAVED_BY_ACTIVATION)
        if saved > _LOADING and not self._considered:
            self.choose(compiled=True)

    def choose(self, *, compiled: bool) -> None:
        """Decide now, for good, whether to use the compiled loops: never, or where numba is and they are faster."""
        self._considered, self._loops = True, None
        if compiled and importlib.util.find_spec("numba") is not None:
            loops = importlib.import_module("._kernels", __package__)
            self._loops = loops if _faster(loops) else None

    @property
    def compiled(self) -> bool:
        """Whether compiled loops are in use."""
        return self._loops is not None

    # -- linear ---------------------------------------------------------------------------------------------
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map; the bias is added by a compiled loop where there is one."""
        y = x @ weight
        if bias is not None:
            if self._loops is not None and y.ndim == 2 and y.size >= _COMPILED:
                self._loops.add_bias(y, bias[0])
            else:
                y += bias
        return y

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
            # NumPy sums row by row only where columns lie side by side: a single one it sums in pairs.
            by_rows = dy.ndim == 2 and dy.shape[1] > 1 and dy.flags.c_contiguous
            if self._loops is not None and by_rows and dy.size >= _COMPILED:
                self._loops.column_sums(dy, d_bias[0])
            else:
                np.add.reduce(dy, axis=-2, keepdims=True, out=d_bias)
        return dy @ weight.mT if need_dx else None

    # -- activations ----------------------------------------------------------------------------------------
    def relu(self, x: Array, *, overwrite: bool = False) -> Array:
        """Return max(x, 0)."""
        if self._loops is None or x.size < _COMPILED or not x.flags.c_contiguous:
            return np.maximum(x, 0.0, out=x if overwrite else None)
        y = x if overwrite else np.empty_like(x)
        self._loops.relu(x.ravel(), y.ravel())
        return y

    def relu_backward(self, dy: Array, y: Array, *, overwrite: bool = False) -> Array:
        """Return dy [y > 0]."""
        if self._loops is None or dy.size < _COMPILED or not (dy.flags.c_contiguous and y.flags.c_contiguous):
            return np.multiply(dy, y > 0, out=dy if overwrite else None)
        dx = dy if overwrite else np.empty_like(dy)
        self._loops.relu_backward(dy.ravel(), y.ravel(), dx.ravel())
        return dx

    # -- losses ---------------------------------------------------------------------------------------------
    def softmax_cross_entropy_labels(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Row losses and gradients for integer labels, which are picked instead of multiplied."""
        loops = self._loops
        n_rows, n_classes = logits.shape[-2:]
        if logits.ndim != 2 or labels.ndim != 1:
            return super().softmax_cross_entropy_labels(logits, labels)
        if loops is not None and n_classes <= loops.MAX_CLASSES and logits.flags.c_contiguous:
            z = np.empty(logits.shape, logits.dtype)
            total, picked = np.empty((2, n_rows), logits.dtype)
            loops.shifted(logits, z)
            d = np.exp(z)
            loops.probabilities(d, labels, z, total, picked)
        else:
            z = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
            d = np.exp(z)
            sums = np.add.reduce(d, axis=-1, keepdims=True)
            d /= sums
            total, places = sums[:, 0], (np.arange(n_rows), labels)
            picked = z[places]
            d[places] -= 1.0
        losses = np.log(total)
        losses -= picked
        return losses, d

    # -- the optimizer --------------------------------------------------------------------------------------

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
        if self._loops is not None and lr_factors is None:
            self._compiled_adam((values, grads, m, v), scalars)
            return
        factors = () if lr_factors is None else (lr_factors,)
        n = values.shape[-1]
        block = max(_BLOCK // max(values.size // max(n, 1), 1), 1)  # replicas share the block
        if n <= block:
            _adam((values, grads, m, v, *factors), scalars, np.empty_like(values))
            return

        def run(start: int, stop: int) -> None:
            scratch = np.empty((*values.shape[:-1], min(block, stop - start)), values.dtype)
            for a in range(start, stop, block):
                b = min(a + block, stop)
                parts = [array[..., a:b] for array in (values, grads, m, v, *factors)]
                _adam(parts, scalars, scratch[..., : b - a])

        if values.size < _THREADED:
            run(0, n)
        else:
            _share(run, n)

    def _compiled_adam(self, arrays: Sequence[Array], scalars: Sequence[Any]) -> None:
        """One pass over memory; replicas one after the other, each with its own numbers."""
        first = arrays[0]
        adam, cast = self._loops.adam, first.dtype.type
        for k in np.ndindex(first.shape[:-1]) if first.ndim > 1 else ((),):
            numbers = [
                cast(s if isinstance(s, float) else np.broadcast_to(s, (*first.shape[:-1], 1))[k][0]) for s in scalars
            ]
            rows = [array[k] for array in arrays]

            def run(a: int, b: int, rows: list[Array] = rows, numbers: list[Any] = numbers) -> None:
                adam(*(row[a:b] for row in rows), *numbers)

            if len(rows[0]) < _THREADED:
                adam(*rows, *numbers)
            else:
                _share(run, len(rows[0]))


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


def _faster(loops: Any) -> bool:
    """Whether one step of the compiled loops takes less time than NumPy's on this machine."""
    arrays = [np.ones(_BLOCK, np.float32) for _ in range(4)]
    scalars = (0.9, 0.999, 1e-8, 1e-3)
    numbers = [np.float32(s) for s in scalars]
    scratch = np.empty(_BLOCK, np.float32)

    def with_numpy() -> None:
        _adam(arrays, scalars, scratch)
        np.maximum(arrays[0], 0.0, out=scratch)

    def compiled() -> None:
        loops.adam(*arrays, *numbers)
        loops.relu(arrays[0], scratch)

    return _least_time(compiled) < _least_time(with_numpy)


def _least_time(call: Callable[[], None]) -> float:
    call()  # compiles, or warms the cache
    times = []
    for _ in range(5):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


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


def _share(run: Callable[[int, int], None], n: int) -> None:
    """Call ``run(start, stop)`` over 0..n, in as many equal parts as there are threads."""
    global _pool
    threads = _thread_count()
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
