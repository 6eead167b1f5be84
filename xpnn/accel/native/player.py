"""What plays a trace: the array work of one training step, call after call, without Python between.

`xpnn.accel.native.trace` writes the table.  A call is a loop of NumPy's own, where it lies in memory, so that every
bit is NumPy's; or one of the loops of `xpnn.accel.native.loops`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._typing import Array
from . import gates, loops, packed
from .openblas import Pool
from .pool import begin_step, end_step, let_fork
from .table import Column, Kernel
from .threads import compiled, spread

try:
    from llvmlite import ir
    from numba import carray, types
    from numba.extending import intrinsic
except ImportError:  # then there is nothing to play: `NumpyOps` takes no compiled loops, and nothing is traced

    def intrinsic(function: Any) -> Any:
        """Return a function as it is."""
        return function


__all__ = ["play"]

_LABELS, _KEYS, _TRUTHS = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros(1, np.bool_)
_BYTES = np.zeros(1, np.uint8)
# Plain numbers: numba 0.61 and 0.62 index with no member of an enumeration.
_KIND, _LOOP, _DATA, _COUNT, _ARGS = map(int, list(Column)[:5])
_DIMS, _STEPS, _OUTER, _OUTER_STEPS, _SCRATCH, _TOGETHER, _SHARED = map(int, list(Column)[5:12])
# Elements that a thread should have at least of a loop, and whose multiples parts begin at: NumPy's loops take so many
# or fewer at once, so all elements are computed as they would be undivided.
_ELEMENTS, _UNIT = 1 << 14, 256
# numba keeps what it compiled by the content of this file.  These are the hashes of what else it compiled.
_COMPILED = {
    "gates.py": "6ae52764",
    "loops.py": "75b1bd08",
    "packed.py": "d1f3e563",
    "pool.py": "9f5bf5b4",
    "table.py": "9160978e",
    "threads.py": "049282e5",
    "vectors.py": "47239108",
}


@intrinsic  # type: ignore[untyped-decorator]
def _call(typing_context: Any, loop: Any, args: Any, dims: Any, steps: Any, data: Any) -> Any:
    """Call ``void loop(char **args, intptr_t *dims, intptr_t *steps, void *data)``, all given as addresses."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 5), generate


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing_context: Any, address: Any, like: Any) -> Any:
    """Return an address as a pointer to what an array holds."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], context.get_value_type(signature.return_type))

    return types.CPointer(like.dtype)(types.int64, like), generate


@compiled
def _vector(address: int, n: int, like: Array) -> Array:  # pragma: no cover (compiled)
    return carray(_pointer(address, like), (n,))


@compiled
def _matrix(address: int, m: int, n: int, like: Array) -> Array:  # pragma: no cover (compiled)
    return carray(_pointer(address, like), (m, n))


@compiled
def _number(address: int, like: Array) -> float:  # pragma: no cover (compiled)
    return np.float64(_vector(address, 1, like)[0])


@compiled
def _play_loop(row: Array) -> None:  # pragma: no cover (compiled)
    here = row.ctypes.data
    args, dims, steps = here + 8 * _SCRATCH, here + 8 * _DIMS, here + 8 * _STEPS
    far, near = row[_OUTER_STEPS:], row[_OUTER_STEPS + 3 :]
    for o in range(row[_OUTER]):
        for p in range(row[_OUTER + 1]):
            for j in range(row[_COUNT]):
                row[_SCRATCH + j] = row[_ARGS + j] + o * far[j] + p * near[j]
            _call(row[_LOOP], args, dims, steps, row[_DATA])


@compiled
def _play_adam(pool: Pool, n: int, given: Array, like: Array) -> None:  # pragma: no cover (compiled)
    values, grads, first = _vector(given[0], n, like), _vector(given[1], n, like), _vector(given[2], n, like)
    beta1, beta2, eps = _number(given[4], like), _number(given[5], like), _number(given[6], like)
    loops.adam(pool, values, grads, first, _vector(given[3], n, like), beta1, beta2, eps, _number(given[7], like))


@compiled
def _play_adam_by_parameter(pool: Pool, n: int, count: int, given: Array, like: Array) -> None:  # pragma: no cover
    values, grads, first = _vector(given[0], n, like), _vector(given[1], n, like), _vector(given[2], n, like)
    second, rates, decay = _vector(given[3], n, like), _vector(given[4], n, like), _vector(given[5], count, like)
    beta1, beta2, eps = _number(given[6], like), _number(given[7], like), _number(given[8], like)
    rate, strength = _number(given[9], like), _number(given[10], like)
    arrays = values, grads, first, second, rates, decay
    loops.adam_by_parameter(pool, *arrays, beta1, beta2, eps, rate, strength, count)


@compiled
def _play_table(pool: Pool, back: bool, m: int, n: int, given: Array, like: Array) -> None:  # pragma: no cover
    layout_at = given[6] if back else given[5]
    head = _vector(layout_at, packed.HEAD, _LABELS)
    layout = _vector(layout_at, packed.HEAD + 4 * head[0], _LABELS)
    n_in = head[4]
    y, rows, weight = (
        _matrix(given[0], m, n, like),
        _matrix(given[1], m, head[3], like),
        _matrix(given[2], n_in, n, like),
    )
    other, scale = _matrix(given[3], n_in, n, like), _vector(given[4], n_in, like)
    if back:
        packed.table_backward(pool, y, rows, weight, other, scale, _vector(given[5], n_in, like), layout)
    else:
        packed.table_forward(pool, y, rows, weight, other, scale, layout)


@compiled
def _play_gate(pool: Pool, kind: int, m: int, n: int, given: Array, like: Array, how: int) -> None:  # pragma: no cover
    if kind == Kernel.GATE_INNER:
        gates.gate_inner(pool, _vector(given[0], n, like), _vector(given[1], n, like), how)
        return
    first, second, third = _matrix(given[0], m, n, like), _matrix(given[1], m, n, like), _matrix(given[2], m, n, like)
    if kind == Kernel.GATE:
        gates.gate(pool, first, second, third, _vector(given[3], n, like), _matrix(given[4], m, n, like), how)
    else:
        kept, share, mask = _matrix(given[3], m, n, like), _vector(given[4], n, like), _matrix(given[5], m, n, like)
        gates.gate_backward(pool, first, second, third, kept, share, mask, _vector(given[6], n, like), how)


@compiled
def _play_relu(pool: Pool, kind: int, m: int, n: int, given: Array, like: Array) -> None:  # pragma: no cover
    a, b, c = given[0], given[1], given[2]
    if kind == Kernel.RELU:
        loops.relu(_vector(a, n, like), _vector(b, n, like))
    elif kind == Kernel.RELU_BACKWARD:
        loops.relu_backward(_vector(a, n, like), _vector(b, n, like), _vector(c, n, like))
    elif kind == Kernel.RELU_BACKWARD_OVER:
        loops.relu_backward_over(pool, _vector(a, n, like), _vector(b, n, like))
    elif kind == Kernel.RELU_BACKWARD_SUMS:
        loops.relu_backward_sums(pool, _matrix(a, m, n, like), _matrix(b, m, n, like), _vector(c, n, like))
    else:
        loops.relu_over(pool, _vector(a, n, like))


@spread
def _play_part(a: int, b: int, row: Array) -> None:  # pragma: no cover (compiled)
    """Make some elements of a loop, or some of its rows."""
    count, inner = row[_COUNT], row[_SHARED] == 1
    own = np.empty(count + 1, np.int64)  # addresses, and how many elements
    here, steps = own.ctypes.data, row.ctypes.data + 8 * _STEPS
    first = np.int64(a) * _UNIT if inner else np.int64(a)
    n = min(np.int64(b) * _UNIT, row[_DIMS]) - first if inner else row[_DIMS]
    apart = row[_STEPS:] if inner else row[_OUTER_STEPS + 3 :]
    for p in range(first, first + 1 if inner else np.int64(b)):
        for j in range(count):
            own[j] = row[_ARGS + j] + p * apart[j]
        own[count] = n
        _call(row[_LOOP], here, here + 8 * count, steps, row[_DATA])


@compiled
def _play_shared(pool: Pool, row: Array) -> None:  # pragma: no cover (compiled)
    n = row[_DIMS]
    if row[_SHARED] == 1:
        _play_part(pool, (n + _UNIT - 1) // _UNIT, _ELEMENTS // _UNIT, (row,))
    elif row[_SHARED] == 2:
        _play_part(pool, row[_OUTER + 1], 1 + _ELEMENTS // n, (row,))
    else:
        _play_loop(row)


@spread
def _play_together(a: int, b: int, table: Array) -> None:  # pragma: no cover (compiled)
    for k in range(a, b):
        _play_loop(table[k])


@compiled
def _play_once(pool: Pool, table: Array, like: Array) -> None:  # pragma: no cover (compiled)
    after = 0
    for k in range(table.shape[0]):
        if k < after:  # done with a row before
            continue
        row = table[k]
        kind = row[_KIND]
        if kind == 0:
            together = row[_TOGETHER]
            if together > 0:
                let_fork()
            if together > 1:
                after = k + together
                _play_together(pool, together, 0, (table[k:after],))
            else:
                _play_shared(pool, row)
            continue
        m, n, count = row[_DIMS], row[_DIMS + 1], row[_STEPS]
        given = row[_ARGS:]
        a, b, c, d, e = given[0], given[1], given[2], given[3], given[4]
        if kind == Kernel.ADAM:
            _play_adam(pool, n, given, like)
        elif kind == Kernel.ADAM_BY_PARAMETER:
            _play_adam_by_parameter(pool, n, count, given, like)
        elif kind == Kernel.ADD_BIAS:
            loops.add_bias(_matrix(a, m, n, like), _vector(b, n, like))
        elif kind == Kernel.ARGMAX:
            loops.argmax(_matrix(a, m, n, like), _vector(b, m, _LABELS))
        elif kind == Kernel.BIAS_RELU:
            loops.bias_relu(pool, _matrix(a, m, n, like), _vector(b, n, like))
        elif kind == Kernel.COLUMN_SUMS:
            loops.column_sums(_matrix(a, m, n, like), _vector(b, n, like))
        elif kind == Kernel.GATE or kind == Kernel.GATE_BACKWARD or kind == Kernel.GATE_INNER:
            _play_gate(pool, kind, m, n, given, like, count)
        elif kind == Kernel.KEEP_MASK:
            loops.keep_mask(pool, _vector(a, n, like), _vector(b, 1, _KEYS), _vector(c, 1, _KEYS), _vector(d, 1, _KEYS))
        elif kind == Kernel.NUMBERS:
            loops.numbers(_vector(a, n, like), _vector(b, n, _TRUTHS))
        elif kind == Kernel.ONE_HOT:
            loops.one_hot(_matrix(a, m, n, like), _vector(b, m, _LABELS))
        elif kind == Kernel.PROBABILITIES:
            exponentials, z = _matrix(a, m, n, like), _matrix(c, m, n, like)
            loops.probabilities(exponentials, _vector(b, m, _LABELS), z, _vector(d, m, like), _vector(e, m, like))
        elif kind >= Kernel.RELU and kind <= Kernel.RELU_OVER:
            _play_relu(pool, kind, m, n, given, like)
        elif kind == Kernel.SHIFTED:
            loops.shifted(_matrix(a, m, n, like), _matrix(b, m, n, like))
        elif kind == Kernel.TAKE_ROWS:
            loops.take_rows(pool, _matrix(a, m, n, _BYTES), _matrix(b, count, n, _BYTES), _vector(c, m, _LABELS), count)
        elif kind == Kernel.SUM_ROWS:
            loops.sum_rows(_matrix(a, m, n, like), _matrix(b, count, n, like), _vector(c, count, _LABELS), count)
        elif kind == Kernel.TABLE_FORWARD or kind == Kernel.TABLE_BACKWARD:
            _play_table(pool, kind == Kernel.TABLE_BACKWARD, m, n, given, like)
        elif kind == Kernel.WHOLE:
            loops.whole(_vector(a, n, _LABELS), _vector(b, n, like))


@compiled
def play(
    count: int, pool: Pool, table: Array, moves: Array, bases: Array, like: Array
) -> None:  # pragma: no cover (compiled)
    """Make the calls of a trace `count` times: of the `table` (calls, Column.WIDTH) that `Column` describes.

    A row of `moves` (n, 4) tells row and column of an address in the table that moves, the number of the moving array
    and the offset within; one of `bases` (arrays, 2) where that array is at first, and how far it moves each time.  The
    array `like` has the dtype of the step's floating numbers.
    """
    for step in range(count):
        for i in range(moves.shape[0]):
            base = bases[moves[i, 2]]
            table[moves[i, 0], moves[i, 1]] = base[0] + step * base[1] + moves[i, 3]
        begin_step()
        _play_once(pool, table, like)
        end_step()
