"""NumPy twins: results written where they belong, the optimizer in blocks that stay in cache, on several threads.

Where numba is installed (``pip install "xpnn[fast]"``) and a fit is long enough to repay its loading, compiled loops
take the place of NumPy's passes, on threads of their own.  The arithmetic is always the portable one, in the same
order, so results are equal to the last bit, and it does not matter when a loop takes over; but the loops, unlike
NumPy, do not tell of overflow and the like (`numpy.errstate`).
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._typing import Array, Device, DType, Namespace, Shape
from ..coding import Code, Table
from ..ops import Affine, MaskRate, Ops, Update
from ..random import keep_threshold
from .memory import keep_freed_memory
from .native.openblas import NO_POOL, Pool
from .native.support import Compiled, find_pool, is_loaded, keep_pool, load_loops, numpy_objection
from .native.table import Gate
from .native.trace import Trace, Traced, TracedLoops, TraceError, trace_of
from .numpy_adam import adam, compiled_adam, fused
from .numpy_codes import encoded
from .products import multiply

__all__ = ["NumpyOps", "trace_objection"]

# Rows of fewer numbers NumPy copies as fast.
_WIDE = 64
_FLOATS = np.dtype(np.float32), np.dtype(np.float64)
_GATES = {"silu": Gate.SILU, "mish": Gate.MISH}
_ARRAYS = np.ndarray, Traced  # others may mean something else by an operation
# Numbers of one network from which on a loop is called for each, also without a trace.
_CALLED = 1 << 11
# What compiled loops save, in seconds for each parameter and each activation of a step, and for its Python, which a
# trace does without; what loading costs; and what a fit should save before it looks if more threads are allowed now.
_SAVED_BY_PARAM, _SAVED_BY_ACTIVATION, _SAVED_BY_STEP = 0.8e-9, 0.7e-9, 4e-5
_LOADING = 1.0
_MANY_THREADS = 0.1


class NumpyOps(Ops):
    """The operations of `xpnn.ops.Ops` that NumPy can do with fewer passes over memory.

    Compiled loops, and traces of steps, are used in fits long enough to repay loading them, always, or never, as
    `compiled` says; BackendUnavailableError if they are to be used always, and cannot be had.
    """

    name = "fast"

    def __init__(self, xp: Namespace = np, device: Device = "cpu", compiled: Compiled = "auto") -> None:
        super().__init__(xp, device)
        self.setting = compiled
        self._loops: Any = None  # the module of compiled loops, where they are used
        self._threads = NO_POOL  # the threads on which they run
        if compiled is True:
            self._use(load_loops(required=True))

    # -- choosing -------------------------------------------------------------------------------------------
    def prepare(self, steps: int, n_params: int, n_activations: int) -> None:
        """Load the compiled loops before the first fit that repays it; find out before each if threads pay now.

        Whether loops are used is a property of this object, and so of the networks of one backend.  Where a process
        has loaded them already, they cost nothing, and every fit repays them.
        """
        saved = steps * (n_params * _SAVED_BY_PARAM + n_activations * _SAVED_BY_ACTIVATION + _SAVED_BY_STEP)
        if self._loops is None and self.setting == "auto" and (saved > _LOADING or is_loaded()):
            self._use(load_loops())
        if self._loops is None:
            keep_freed_memory()
        elif saved > _MANY_THREADS:
            self._pool = find_pool()

    def choose(self, *, compiled: bool) -> None:
        """Use compiled loops from now on, for this object's operations, or none; none where they cannot be had."""
        self._use(load_loops() if compiled else None)
        self.setting = self.compiled

    def _use(self, loops: Any) -> None:
        self._loops, self._pool = loops, NO_POOL if loops is None else find_pool()

    @property
    def _pool(self) -> Pool:
        """The threads, as many of them as a fit has chosen."""
        return keep_pool(self._threads)

    @_pool.setter
    def _pool(self, pool: Pool) -> None:
        self._threads = pool

    @property
    def compiled(self) -> bool:
        """Whether compiled loops are in use."""
        return self._loops is not None

    def tracing(self, dtype: DType) -> tuple[NumpyOps, Trace]:
        """Return operations like these, compiled ones, and the trace of what they do with its arrays."""
        objection = trace_objection(self)
        if objection is not None:
            raise TraceError(objection)
        trace = Trace(self._loops, lambda: self._pool, dtype)
        new = copy.copy(self)
        new._loops = TracedLoops(self._loops, trace)
        return new, trace

    # -- arrays ---------------------------------------------------------------------------------------------
    def empty(self, like: Array, shape: Shape) -> Array:
        """Return an array to be filled, of which a trace knows."""
        return np.empty_like(like, order="C", shape=shape)

    # -- linear ---------------------------------------------------------------------------------------------
    def product(self, a: Array, b: Array) -> Array:
        """Product of matrices; large ones in pieces, on several threads."""
        return multiply(a, b)

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """Affine map; the bias is added by a compiled loop where there is one."""
        y = multiply(x, weight)
        if bias is not None:
            if self._loops is not None and _by_network(y) and _plain(y) and _fits(bias, y):
                for own, row in _networks(y, bias):
                    self._loops.add_bias(own, row[0])
            else:
                y += bias
        return y

    def linear_backward(
        self, x: Array, dy: Array, affine: Affine, *, need_dx: bool, need_d_bias: bool = True
    ) -> Array | None:
        """Gradients of `linear`; the products go straight into the flat gradient buffer."""
        weight, _, d_weight, d_bias = affine
        if need_d_bias and d_bias is not None:
            if self._loops is not None and _by_rows(dy):
                for own, sums in _networks(dy, d_bias):
                    self._loops.column_sums(own, sums[0])
            else:
                np.add.reduce(dy, axis=-2, keepdims=True, out=d_bias)
        multiply(x.mT, dy, d_weight)  # products follow each other: a trace may have both made at once
        return multiply(dy, weight.mT) if need_dx else None

    # -- packed rows of a table -----------------------------------------------------------------------------
    def encoded(self, code: Code, packed: Array) -> Array:
        """Comparisons go where they belong; bins that are none are left to the definition."""
        rows = encoded(code, packed) if type(packed) is np.ndarray and packed.ndim == 2 else None
        return super().encoded(code, packed) if rows is None else rows

    def takes_packed(self, *, scaled: bool) -> bool:
        """Whether there are compiled loops, loaded at once, so that it does not depend on what is to come.

        Without them rows are encoded here; that pays where factors would else take a gradient to all of them.
        """
        if self._loops is None and self.setting == "auto":
            self._use(load_loops())
        return scaled or self._loops is not None

    def table_linear(self, y: Array, packed: Array, table: Table, weight: Array, scale: Array | None) -> Array | None:
        """Add a product with packed rows, by running sums; codes that are none are left to the definition."""
        if self._loops is not None and packed.ndim == 2 and all(map(_plain, (y, packed, weight))):
            layout, factors = _layout_of(table, False), _factors(scale, weight)
            arrays = y, packed, weight, np.empty_like(weight), factors, _known(layout, y)
            if self._loops.table_forward(self._pool, *arrays):
                return None
        return super().table_linear(y, packed, table, weight, scale)

    def table_linear_backward(
        self,
        dy: Array,
        packed: Array,
        table: Table,
        matrix: tuple[Array, Array],
        factors: tuple[Array | None, Array | None],
        kept: Array | None = None,
    ) -> None:
        """Gradients of `table_linear`, by sums for each bin."""
        (weight, d_weight), (scale, d_scale) = matrix, factors
        fits = kept is None and packed.ndim == 2 and all(map(_plain, (dy, packed, weight, d_weight)))
        if self._loops is not None and fits:
            row, layout = _factors(scale, weight), _known(_layout_of(table, d_scale is not None), dy)
            d_row = row if d_scale is None else d_scale[0]
            if self._loops.table_backward(self._pool, dy, packed, weight, d_weight, row, d_row, layout):
                return
        super().table_linear_backward(dy, packed, table, matrix, factors, kept)

    # -- activations ----------------------------------------------------------------------------------------
    def relu(self, x: Array, *, overwrite: bool = False) -> Array:
        """Return max(x, 0)."""
        if self._loops is None or not _plain(x):
            return np.maximum(x, 0.0, out=x if overwrite else None)
        if overwrite:
            self._loops.relu_over(self._pool, x.ravel())
            return x
        y = np.empty_like(x)
        self._loops.relu(x.ravel(), y.ravel())
        return y

    def relu_backward(self, dy: Array, y: Array, *, overwrite: bool = False) -> Array:
        """Return dy [y > 0]."""
        if self._loops is None or not (_plain(dy) and _like(y, dy)):
            return np.multiply(dy, y > 0, out=dy if overwrite else None)
        if overwrite:
            self._loops.relu_backward_over(self._pool, dy.ravel(), y.ravel())
            return dy
        dx = np.empty_like(dy)
        self._loops.relu_backward(dy.ravel(), y.ravel(), dx.ravel())
        return dx

    def gate(self, x: Array, kind: str, share: Array | None, mask: Array | None) -> tuple[Array, Array] | None:
        """One pass before and one after the exponential, for each network."""
        loops, n = self._loops, x.shape[-1]
        fits = share is None or (share.shape == (*x.shape[:-2], 1, n) and n > 1 and share.dtype == x.dtype)
        whole = loops is not None and (_by_network(x) or _worth_calls(x)) and _plain(x) and fits
        if not whole or (mask is not None and not _like(mask, x)):
            return None
        y, inner, how = np.empty_like(x), np.empty_like(x), _how(kind, share, mask)
        loops.gate_inner(self._pool, inner.reshape(-1), x.reshape(-1), how)
        np.exp(inner, out=inner)
        factors, others = x if share is None else share, x if mask is None else mask
        for own, own_x, own_inner, row, own_mask in _networks(y, x, inner, factors, others):
            loops.gate(self._pool, own, own_x, own_inner, row[0], own_mask, how)
        return y, inner

    def gate_backward(
        self,
        dy: Array,
        kept: tuple[Array, Array],
        kind: str,
        shares: tuple[Array, Array] | None,
        mask: Array | None,
    ) -> Array:
        """One pass for each network; sums of columns row by row."""
        x, inner = kept
        if not _like(dy, x):
            given, dy = dy, np.empty_like(x)
            dy[...] = given
        dx, how = np.empty_like(x), _how(kind, shares, mask)
        factors, d_factors = (x, dx) if shares is None else shares
        each = _networks(dx, dy, x, inner, factors, x if mask is None else mask, d_factors)
        for own, own_dy, own_x, own_inner, row, own_mask, d_row in each:
            self._loops.gate_backward(self._pool, own, own_dy, own_x, own_inner, row[0], own_mask, d_row[0], how)
        return dx

    # -- linear and relu ------------------------------------------------------------------------------------
    def linear_relu(self, x: Array, weight: Array, bias: Array | None) -> Array:
        """`linear` and `relu`; one pass over the product where there is a compiled loop."""
        y = multiply(x, weight)
        if self._loops is not None and bias is not None and _by_network(y) and _plain(y) and _fits(bias, y):
            for own, row in _networks(y, bias):
                self._loops.bias_relu(self._pool, own, row[0])
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
        for own, own_y, sums in _networks(dy, y, d_bias):
            self._loops.relu_backward_sums(self._pool, own, own_y, sums[0])
        return self.linear_backward(x, dy, affine, need_dx=need_dx, need_d_bias=False)

    # -- dropout --------------------------------------------------------------------------------------------
    def keep_mask(self, shape: Shape, rate: MaskRate, key: tuple[Any, Any], dtype: DType) -> Array:
        """Draw masks, by a compiled loop where there is one."""
        if self._loops is None or isinstance(rate, Sequence) or 0 in shape or np.dtype(dtype) not in _FLOATS:
            return super().keep_mask(shape, rate, key, dtype)
        numbers = [(k if isinstance(k, np.ndarray) else np.asarray(k, np.int32)).reshape(-1) for k in key]
        kept = np.full_like(numbers[0], keep_threshold(rate)) if isinstance(rate, int | float) else rate.reshape(-1)
        mask = np.empty_like(numbers[0], dtype=dtype, shape=shape)
        masks = mask.reshape(len(numbers[0]), -1)
        for k in range(len(masks)):
            limit = kept[k : k + 1] if len(kept) > 1 else kept
            self._loops.keep_mask(self._pool, masks[k], *(own[k : k + 1] for own in numbers), limit)
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
        values, grads, lr_factors, _, _ = update
        if self._loops is not None and (lr_factors is None or lr_factors.dtype == values.dtype):
            self.clip_and_decay(update._replace(decay=None) if fused(update) else update)
            compiled_adam(self._loops, self._pool, update, m, v, scalars)
            return
        self.clip_and_decay(update)
        adam([values, grads, m, v] if lr_factors is None else [values, grads, m, v, lr_factors], scalars)

    # -- data -----------------------------------------------------------------------------------------------
    def take_rows(self, x: Array, index: Array, out: Array | None = None) -> Array:
        """Gather rows; by a compiled loop, where there is one, if they are long or traced."""
        long = type(x) is Traced or (type(x) is np.ndarray and x.ndim == 2 and x.shape[1] >= _WIDE)
        numbers = index.ndim == 1 and index.dtype == np.int64 and index.size > 0
        if self._loops is not None and long and numbers and x.size > 0 and x.flags.c_contiguous and out is None:
            rows = np.empty_like(x, shape=(len(index), *x.shape[1:]))
            if self._loops.take_rows(self._pool, _bytes(rows), _bytes(x), index, len(x)):
                return rows
        return super().take_rows(x, index, out)

    def whole_numbers(self, x: Array, dtype: DType) -> Array:
        """Round to whole numbers, by a compiled loop where there is one."""
        if self._loops is None or not _plain(x) or dtype != np.int64:
            return super().whole_numbers(x, dtype)
        made = np.empty_like(x, dtype=dtype)
        self._loops.whole(made.reshape(-1), x.reshape(-1))
        return made

    def sum_rows(self, rows: Array, index: Array, out: Array) -> None:
        """Sum rows by number, in their order, whatever the count of numbers; by a compiled loop where there is one."""
        single = out.ndim == rows.ndim == 2 and index.ndim == 1 and index.dtype == np.int64
        alike = single and _plain(rows) and _plain(out) and rows.dtype == out.dtype
        if self._loops is not None and alike and self._loops.sum_rows(out, rows, index, len(index)):
            return
        if type(rows) is Traced or type(out) is Traced:
            super().sum_rows(rows, index, out)
            return
        n, dim = out.shape[-2:]
        for k in np.ndindex(out.shape[:-2]):  # one network after the other
            sums = np.zeros((n, dim), out.dtype)
            places = (index[k] if index.ndim > 1 else index)[:, None] * dim + np.arange(dim)
            np.add.at(sums.reshape(-1), places.reshape(-1), rows[k].reshape(-1))
            out[k] = sums


def trace_objection(ops: Ops) -> str | None:
    """Why no step can be traced with these operations, or None."""
    if type(ops) is not NumpyOps or not ops.compiled:  # products of half precision are others
        return "compiled loops are not in use (they come with xpnn[fast], in fits long enough to repay their loading)"
    return numpy_objection()


@functools.lru_cache(maxsize=64)
def _layout_of(table: Table, scaled: bool) -> Array:
    """Return a table as `xpnn.accel.native.packed` takes it; `scaled`: whether there are factors to learn."""
    code, (columns, rows) = table.code, table.plain
    groups, (fractions, bins, ones) = [*table.steps, *table.ones], code.starts
    n_steps, n_ones = len(code.steps), len(code.ones)
    values = [*range(fractions, fractions + n_steps), *[-1] * n_ones, *columns]
    codes = [*range(bins, bins + n_steps), *range(ones, ones + n_ones), *[-1] * len(columns)]
    starts = [*(group.start for group in groups), *rows]
    sizes = [*(group.size for group in groups), *[1] * len(columns)]
    n_in = code.width - table.skip + table.lead
    head = [len(starts), n_steps, table.lead, code.packed_width, n_in, int(scaled)]
    return np.array([*head, *starts, *sizes, *values, *codes], np.int64)


def _factors(scale: Array | None, weight: Array) -> Array:
    """Return a factor for each row of a matrix."""
    return np.ones_like(weight, shape=(len(weight),)) if scale is None else scale[0]


def _how(kind: str, share: Any, mask: Any) -> int:
    """Return which gate it is, as a number."""
    return _GATES[kind] + Gate.MIXED * (share is not None) + Gate.MASKED * (mask is not None)


def _known(array: Array, other: Array) -> Array:
    """Return an array that stays where it is, known to the trace of another, if that is traced."""
    return trace_of(other).fixed(array) if type(other) is Traced else array


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
    return _by_network(dy) and dy.shape[-1] > 1 and _plain(dy)


def _by_network(y: Array) -> bool:
    """Whether loops over matrices are called for each network: of several in a trace, where a call costs little."""
    return y.ndim == 2 or (y.ndim == 3 and type(y) is Traced)


def _worth_calls(y: Array) -> bool:
    """Whether each network has so many numbers that a call for each does not matter."""
    return bool(y.ndim == 3 and y.size >= _CALLED * len(y))


def _networks(y: Array, *others: Array) -> Sequence[tuple[Array, ...]]:
    """Return the matrices of one network, or those of each replica."""
    if y.ndim == 2:
        return [(y, *others)]
    return [tuple(array[k] for array in (y, *others)) for k in range(len(y))]
