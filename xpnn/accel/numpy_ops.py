"""NumPy twins: results written where they belong, the optimizer in blocks that stay in cache, on several threads.

Where numba is installed (``pip install "xpnn[fast]"``) and a fit is long enough to repay its loading, compiled loops
take the place of NumPy's passes, and share the threads of the matrix products.  The arithmetic is always the portable
one, in the same order, so results are equal to the last bit, and it does not matter when a loop takes over; but the
loops, unlike NumPy, do not tell of overflow and the like (`numpy.errstate`).
"""

from __future__ import annotations

import contextvars
import copy
import importlib
import importlib.util
import itertools
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from .._typing import Array, DType, Shape
from ..ops import Affine, Ops, Update
from ..random import keep_threshold
from .native.trace import Trace, Traced, TracedLoops

__all__ = ["NumpyOps"]

_LOG = logging.getLogger("xpnn")

# Elements of one block: with its scratch and the four buffers it fits a core's L2 cache in float32.
_BLOCK = 1 << 16
# Below this many elements a second thread saves nothing: those of the matrix products are still spinning.
_THREADED = 1 << 20
# Rows of fewer numbers NumPy copies as fast.
_WIDE = 64
_FLOATS = np.dtype(np.float32), np.dtype(np.float64)
_NO_POOL = (0, 0)
_ARRAYS = np.ndarray, Traced  # others may mean something else by an operation
# What compiled loops save, in seconds for each parameter and each activation of a step, and for its Python, which a
# tape does without; and what loading costs.
_SAVED_BY_PARAM, _SAVED_BY_ACTIVATION, _SAVED_BY_STEP = 0.8e-9, 0.7e-9, 4e-5
_LOADING = 1.0


class NumpyOps(Ops):
    """The operations of `xpnn.ops.Ops` that NumPy can do with fewer passes over memory."""

    name = "fast"
    _loops: Any = None  # the module of compiled loops, once `prepare` has chosen it
    _lent = _NO_POOL  # the threads of the matrix products, on which they run
    _considered = False

    # -- choosing -------------------------------------------------------------------------------------------
    def prepare(self, steps: int, n_params: int, n_activations: int) -> None:
        """Load the compiled loops before the first fit that repays it, if they prove faster here."""
        saved = steps * (n_params * _SAVED_BY_PARAM + n_activations * _SAVED_BY_ACTIVATION + _SAVED_BY_STEP)
        if saved > _LOADING and not self._considered:
            self.choose(compiled=True)

    def choose(self, *, compiled: bool) -> None:
        """Decide now, for good, whether to use the compiled loops: never, or where numba is and they are faster."""
        self._considered, self._loops, self._lent = True, None, _NO_POOL
        if not compiled or importlib.util.find_spec("numba") is None:
            return
        try:
            loops = importlib.import_module(".native.loops", __package__)
            if _faster(loops):
                pool = importlib.import_module(".native.threads", __package__).find_pool()
                self._loops, self._lent = loops, _NO_POOL if _much_slower(loops, pool) else pool
        except Exception as error:  # whatever a numba to come does must not keep a fit from its work
            _LOG.warning("compiled loops are left aside: %s", " ".join(str(error).split())[:200])

    @property
    def compiled(self) -> bool:
        """Whether compiled loops are in use."""
        return self._loops is not None

    def noting(self, dtype: DType) -> tuple[NumpyOps, Trace]:
        """Return operations like these, compiled ones, that note on a new tape what they do with noted arrays."""
        tape = Trace(self._loops, self._lent, dtype)
        new = copy.copy(self)
        new._loops = TracedLoops(self._loops, tape)
        return new, tape

    # -- linear ---------------------------------------------------------------------------------------------
    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map; the bias is added by a compiled loop where there is one."""
        y = x @ weight
        if bias is not None:
            if self._loops is not None and y.ndim == 2 and _plain(y) and _fits(bias, y):
                self._loops.add_bias(y, bias[0])
            else:
                y += bias
        return y

    def linear_backward(
        self, x: Array, dy: Array, affine: Affine, *, need_dx: bool, need_d_bias: bool = True
    ) -> Array | None:
        """Gradients of `linear`; the products go straight into the flat gradient buffer."""
        weight, _, d_weight, d_bias = affine
        np.matmul(x.mT, dy, out=d_weight)
        if need_d_bias and d_bias is not None:
            if self._loops is not None and _by_rows(dy):
                self._loops.column_sums(dy, d_bias[0])
            else:
                np.add.reduce(dy, axis=-2, keepdims=True, out=d_bias)
        return dy @ weight.mT if need_dx else None

    # -- activations ----------------------------------------------------------------------------------------
    def relu(self, x: Array, *, overwrite: bool = False) -> Array:
        """Return max(x, 0)."""
        if self._loops is None or not _plain(x):
            return np.maximum(x, 0.0, out=x if overwrite else None)
        if overwrite:
            self._loops.relu_over(self._lent, x.ravel())
            return x
        y = np.empty_like(x)
        self._loops.relu(x.ravel(), y.ravel())
        return y

    def relu_backward(self, dy: Array, y: Array, *, overwrite: bool = False) -> Array:
        """Return dy [y > 0]."""
        if self._loops is None or not (_plain(dy) and _like(y, dy)):
            return np.multiply(dy, y > 0, out=dy if overwrite else None)
        if overwrite:
            self._loops.relu_backward_over(self._lent, dy.ravel(), y.ravel())
            return dy
        dx = np.empty_like(dy)
        self._loops.relu_backward(dy.ravel(), y.ravel(), dx.ravel())
        return dx

    # -- linear and relu ------------------------------------------------------------------------------------
    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """`linear` and `relu`; one pass over the product where there is a compiled loop."""
        y = x @ weight
        if self._loops is not None and bias is not None and y.ndim == 2 and _plain(y) and _fits(bias, y):
            self._loops.bias_relu(self._lent, y, bias[0])
            return y
        if bias is not None:
            y += bias
        return self.relu(y, overwrite=True)

    def linear_relu_backward(
        self, x: Array, y: Array, dy: Array, affine: Affine, *, need_dx: bool, overwrite: bool = False
    ) -> Array | None:
        """Gradients of `linear_relu`; mask and sums by one compiled loop where there is one."""
        d_bias = affine.d_bias
        if self._loops is None or not overwrite or d_bias is None or not (_by_rows(dy) and _like(y, dy)):
            return super().linear_relu_backward(x, y, dy, affine, need_dx=need_dx, overwrite=overwrite)
        self._loops.relu_backward_sums(self._lent, dy, y, d_bias[0])
        return self.linear_backward(x, dy, affine, need_dx=need_dx, need_d_bias=False)

    # -- dropout --------------------------------------------------------------------------------------------
    def keep_mask(self, shape: Shape, rate: float | Sequence[float], key: tuple[Any, Any], dtype: DType) -> Array:
        """Draw masks, by a compiled loop where there is one."""
        if self._loops is None or isinstance(rate, Sequence) or 0 in shape or np.dtype(dtype) not in _FLOATS:
            return super().keep_mask(shape, rate, key, dtype)
        keys = [(k if isinstance(k, np.ndarray) else np.asarray(k, np.int32)).reshape(-1) for k in key]
        mask = np.empty_like(keys[0], dtype=dtype, shape=shape)
        masks = mask.reshape(len(keys[0]), -1)
        for k in range(len(masks)):
            self._loops.keep_mask(self._lent, masks[k], *(own[k : k + 1] for own in keys), keep_threshold(rate))
        return mask

    # -- losses ---------------------------------------------------------------------------------------------
    def softmax_cross_entropy_labels(self, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Row losses and gradients for integer labels, which are picked instead of multiplied."""
        if logits.ndim > 2 and not logits.flags.c_contiguous:
            return super().softmax_cross_entropy_labels(logits, labels)
        stack, n_classes = logits.shape[:-1], logits.shape[-1]
        if logits.ndim > 2:  # the rows of all replicas, one after the other
            rows = logits.reshape(-1, n_classes)
            each = np.empty_like(labels, shape=stack)
            each[...] = labels
            losses, d = self.softmax_cross_entropy_labels(rows, each.reshape(-1))
            return losses.reshape(stack), d.reshape(logits.shape)
        found = self._compiled_cross_entropy(logits, labels)
        if found is not None:
            return found
        z = logits - np.maximum.reduce(logits, axis=-1, keepdims=True)
        d = np.exp(z)
        sums = np.add.reduce(d, axis=-1, keepdims=True)
        d /= sums
        places = np.arange(len(labels)), labels
        losses = np.log(sums[:, 0])
        losses -= z[places]
        d[places] -= 1.0
        return losses, d

    def _compiled_cross_entropy(self, logits: Array, labels: Array) -> tuple[Array, Array] | None:
        loops = self._loops
        if loops is None or logits.shape[1] > loops.MAX_CLASSES or not _plain(logits):
            return None
        if labels.shape != logits.shape[:1] or labels.dtype != np.int64:
            return None
        n = len(logits)
        z = np.empty_like(logits)
        picked, losses = np.empty_like(logits, shape=(n,)), np.empty_like(logits, shape=(n,))
        loops.shifted(logits, z)
        d = np.exp(z)
        if not loops.probabilities(d, labels, z, losses, picked):
            return None
        np.log(losses, out=losses)
        losses -= picked
        return losses, d

    def one_hot(self, labels: Array, like: Array) -> Array:
        """Return one-hot rows; of one network's labels by a compiled loop where there is one."""
        single = like.ndim == 2 and labels.ndim == 1 and labels.dtype == np.int64
        if self._loops is not None and single and _plain(like):
            rows = np.empty_like(like, shape=(len(labels), like.shape[1]))
            if self._loops.one_hot(rows, labels):
                return rows
        return super().one_hot(labels, like)

    def total(self, x: Array) -> Array:
        """Sum over the last axis, without the detours of `numpy.sum`."""
        return np.add.reduce(x, axis=-1)

    # -- the optimizer --------------------------------------------------------------------------------------
    def adam(self, update: Update, m: Array, v: Array, scalars: Sequence[Any]) -> None:
        """One Adam step, block by block: a whole pass over one block before the next leaves memory."""
        self.clip_and_decay(update)
        values, grads, lr_factors, _, _ = update
        if self._loops is not None and lr_factors is None:
            self._compiled_adam((values, grads, m, v), scalars)
            return
        arrays = [values, grads, m, v] if lr_factors is None else [values, grads, m, v, lr_factors]
        n = values.shape[-1]
        block = max(_BLOCK // max(values.size // max(n, 1), 1), 1)  # replicas share the block
        if n <= block:
            _adam(arrays, scalars, np.empty_like(values))
            return

        def run(start: int, stop: int) -> None:
            scratch = np.empty_like(values, shape=(*values.shape[:-1], min(block, stop - start)))
            for a in range(start, stop, block):
                b = min(a + block, stop)
                _adam([array[..., a:b] for array in arrays], scalars, scratch[..., : b - a])

        if values.size < _THREADED or type(values) is Traced:
            run(0, n)
        else:
            _share(run, n)

    def _compiled_adam(self, arrays: Sequence[Array], scalars: Sequence[Any]) -> None:
        """One pass over memory; replicas with numbers of their own one after the other."""
        replicas = arrays[0].shape[:-1]
        shared = all(isinstance(s, float) or s.size == 1 for s in scalars)
        if replicas and shared and all(a.flags.c_contiguous for a in arrays):
            replicas, arrays = (), [array.reshape(-1, copy=False) for array in arrays]
        if replicas:
            own = (*replicas, 1)
            columns = [s if np.shape(s) == own else np.broadcast_to(s, own) for s in scalars]
            for k in np.ndindex(replicas):
                self._compiled_adam([array[k] for array in arrays], [column[k] for column in columns])
        elif self._lent != _NO_POOL or arrays[0].size < _THREADED or type(arrays[0]) is Traced:
            self._loops.adam(self._lent, *arrays, *map(_single, scalars))
        else:
            _share(
                lambda a, b: self._loops.adam(_NO_POOL, *(array[a:b] for array in arrays), *map(_single, scalars)),
                arrays[0].size,
            )

    # -- data -----------------------------------------------------------------------------------------------
    def take_rows(self, x: Array, index: Array) -> Array:
        """Gather rows; by a compiled loop, where there is one, if they are long or noted."""
        long = type(x) is Traced or (type(x) is np.ndarray and x.ndim == 2 and x.shape[1] >= _WIDE)
        numbers = index.ndim == 1 and index.dtype == np.int64 and index.size > 0
        if self._loops is not None and long and numbers and x.size > 0 and x.flags.c_contiguous:
            out = np.empty_like(x, shape=(len(index), *x.shape[1:]))
            if self._loops.take_rows(self._lent, _bytes(out), _bytes(x), index, len(x)):
                return out
        return super().take_rows(x, index)


def _single(scalar: Any) -> Any:
    """Return a number as a kernel takes it: a float, or what a tape notes as one."""
    return scalar if type(scalar) is Traced else float(scalar if isinstance(scalar, float) else scalar.reshape(()))


def _plain(a: Array) -> bool:
    """Whether a compiled loop may run over an array as it lies in memory."""
    return type(a) in _ARRAYS and a.dtype in _FLOATS and a.size > 0 and bool(a.flags.c_contiguous)


def _bytes(x: Array) -> Array:
    """View rows in one piece as rows of bytes."""
    return x.reshape(len(x), -1).view(np.uint8)


def _like(y: Array, plain: Array) -> bool:
    """Whether `y` lies in memory as another array does over which a loop may run."""
    return y.shape == plain.shape and _plain(y)


def _fits(bias: Array, y: Array) -> bool:
    return bool(bias.dtype == y.dtype and bias.shape[-1] == y.shape[-1])


def _by_rows(dy: Array) -> bool:
    """Whether NumPy sums columns row by row: a single one, or columns in Fortran's order, it sums in pairs."""
    return dy.ndim == 2 and dy.shape[1] > 1 and _plain(dy)


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
    arrays, scalars = _trial()
    scratch = np.empty_like(arrays[0])
    rows, index = scratch.reshape(-1, _WIDE), np.arange(2)
    taken = np.empty((2, _WIDE), np.float32)

    def with_numpy() -> None:
        _adam(arrays, scalars, scratch)
        np.maximum(arrays[0], 0.0, out=scratch)
        rows.take(index, axis=0)

    def compiled() -> None:  # what of numba's is particular, is in these: what else there is will be compiled, too
        loops.adam(_NO_POOL, *arrays, *scalars)
        loops.relu(arrays[0], scratch)
        loops.take_rows(_NO_POOL, _bytes(taken), _bytes(rows), index, len(rows))

    return _least_time(compiled) < _least_time(with_numpy)


def _much_slower(loops: Any, pool: tuple[int, int]) -> bool:
    """Whether compiled loops lose on the threads of the matrix products, where there are any."""
    arrays, scalars = _trial()

    def shared() -> None:
        loops.adam(pool, *arrays, *scalars)

    def alone() -> None:
        loops.adam(_NO_POOL, *arrays, *scalars)

    return pool != _NO_POOL and _least_time(shared) > 1.2 * _least_time(alone)


def _trial() -> tuple[list[Array], tuple[float, ...]]:
    """Arrays and numbers for a step of Adam, by which operations are chosen."""
    return [np.ones(_BLOCK, np.float32) for _ in range(4)], (0.9, 0.999, 1e-8, 1e-3)


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
    try:
        run(edges[0], edges[1])
    finally:  # nobody writes any more when this returns
        wait(others)
    for other in others:
        other.result()
