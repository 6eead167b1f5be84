"""Adam's step on NumPy: one pass over memory by compiled loops, or block by block, each while it is in cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._typing import Array
from ..ops import Update
from .native.openblas import NO_POOL, Pool
from .native.trace import Traced
from .workers import share

__all__ = ["adam", "compiled_adam", "fused"]

# Elements of one block: with its scratch and the four buffers it fits a core's L2 cache in float32.
_BLOCK = 1 << 16
# Below this many elements a second thread saves nothing: those of the matrix products are still spinning.
_THREADED = 1 << 20


class _Factors(NamedTuple):
    """What belongs to each parameter: factors of its learning rate, and of the decay, which takes the first `n`."""

    rates: Array
    decay: Array
    n: int


def compiled_adam(loops: Any, pool: Pool, update: Update, m: Array, v: Array, scalars: Sequence[Any]) -> None:
    """One pass over memory, in which parameters decay, too, where they have factors of their own.

    What else comes before the rule is the caller's to do first: all of `update` that `fused` leaves.
    """
    arrays, factors, rates, decay = (update.values, update.grads, m, v), None, update.lr_factors, update.decay
    if rates is not None and decay is not None and fused(update):
        factors, scalars = _Factors(rates, decay.factors, decay.n), (*scalars, decay.strength)
    elif rates is not None:
        factors, scalars = _Factors(rates, rates, 0), (*scalars, scalars[-1])
    _each(loops, pool, arrays, scalars, factors)


def fused(update: Update) -> bool:
    """Whether `compiled_adam` does the decay of an update: a decoupled one by factors of each parameter."""
    decay = update.decay
    return (
        decay is not None
        and decay.decoupled
        and decay.n > 0
        and not (decay.factors is None or update.lr_factors is None)
    )


def _each(loops: Any, pool: Pool, arrays: Sequence[Array], scalars: Sequence[Any], factors: _Factors | None) -> None:
    """Replicas with numbers, or with factors, of their own one after the other."""
    replicas = arrays[0].shape[:-1]
    shared = factors is None and all(isinstance(s, float) or s.size == 1 for s in scalars)
    if replicas and shared and all(a.flags.c_contiguous for a in arrays):
        replicas, arrays = (), [array.reshape(-1, copy=False) for array in arrays]
    if replicas:
        own = (*replicas, 1)
        columns = [s if np.shape(s) == own else np.broadcast_to(s, own) for s in scalars]
        for k in np.ndindex(replicas):
            _each(loops, pool, [array[k] for array in arrays], [column[k] for column in columns], factors)
        return
    numbers = [*map(_single, scalars)]

    def run(pool: Pool, start: int, stop: int) -> None:
        part = [array[start:stop] for array in arrays]
        if factors is None:
            loops.adam(pool, *part, *numbers)
            return
        n = max(min(factors.n, stop) - start, 0)
        decay = factors.decay[start : start + n] if n else part[0]
        loops.adam_by_parameter(pool, *part, factors.rates[start:stop], decay, *numbers, n)

    n = arrays[0].size
    if pool != NO_POOL or n < _THREADED or type(arrays[0]) is Traced:
        run(pool, 0, n)
    else:
        share(lambda start, stop: run(NO_POOL, start, stop), n)


def _single(scalar: Any) -> Any:
    """Return a number as a kernel takes it: a float, or what a trace takes as one."""
    return scalar if type(scalar) is Traced else float(scalar if isinstance(scalar, float) else scalar.reshape(()))


def adam(arrays: Sequence[Array], scalars: Sequence[Any]) -> None:
    """A whole pass over one block before the next leaves memory; `arrays` are values, gradients, m, v and factors."""
    values = arrays[0]
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
        share(run, n)


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
