"""Compiled loops, and how threads share them (`xpnn.accel.native.pool`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

try:
    import numba
except ImportError:  # then these are plain functions: they can be read and tried, but `NumpyOps` does not take them
    numba = None

__all__ = ["compiled", "prefetch", "spread"]

_F = TypeVar("_F", bound=Callable[..., Any])

_MOST_PARTS = 64


def compiled(loop: _F) -> _F:
    """Compile a loop at its first call, without Python's lock; what is compiled is kept for the next process."""
    # Without NumPy's error model each division would ask for a zero; the cache spares the next process a second.
    if numba is None:
        return loop
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        made: _F = numba.njit(cache=True, **options)(loop)
    except RuntimeError:  # there is no folder to write the cache to
        made = numba.njit(**options)(loop)
    return made


if numba is None:

    def spread(loop: Any) -> Any:
        """Return ``(pool, n, least, args)``: call ``loop(a, b, *args)`` on all of 0..n."""
        return lambda pool, n, least, args: loop(0, n, *args)

    def prefetch(array: Any, place: int) -> None:
        """Do nothing."""

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    _INT, _SHORT, _BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()

    def spread(loop: Any) -> Any:
        """Return ``(pool, n, least, args)`` for a loop ``(a, b, *args)``: call it on parts of 0..n.

        There is one part for each thread of the pool, at least `least` long; or, if that is 0, one for each number.
        """
        loop = compiled(loop)
        run = _runner(loop)

        @numba.njit(nogil=True, error_model="numpy")
        def each(pool: Any, n: Any, least: Any, args: Any) -> None:  # pragma: no cover (compiled)
            parts = 1
            if pool[0] != 0 and n >= 2 * least:
                parts = min(n if least == 0 else min(_threads(pool[1]), n // least), _MOST_PARTS)
            if parts > 1:
                run(pool[0], parts, n, args)
            else:
                loop(np.uintp(0), np.uintp(n), *args)

        return each

    @intrinsic
    def _threads(typing_context: Any, count: Any) -> Any:
        """Call ``int count(void)`` at an address."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            function = builder.inttoptr(args[0], ir.FunctionType(_SHORT, []).as_pointer())
            return builder.sext(builder.call(function, []), _INT)

        return types.int64(types.int64), generate

    def _runner(loop: Any) -> Any:
        """Return what calls a compiled loop for equal parts of 0..n by a pool's ``run(parts, f, jobs, job's size)``.

        A job is the number of a part and a pointer to what all have in common: n, the count of parts, the arguments.
        """

        @intrinsic
        def run(typing_context: Any, run: Any, parts: Any, n: Any, args: Any) -> Any:
            whole = types.Dispatcher(loop).get_call_type(typing_context, (types.uintp, types.uintp, *args.types), {})

            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                at, count, length, given = values
                made = loop.overloads[tuple(whole.args)]._asdict()
                context.add_linking_libs([made["library"]])
                common_type = ir.LiteralStructType([_INT, _INT, given.type])
                job_type = ir.LiteralStructType([_INT, common_type.as_pointer()])

                name = builder.module.get_unique_name("part")
                part = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [_BYTES]), name=name)
                part.linkage = "internal"
                inner = ir.IRBuilder(part.append_basic_block())
                job = inner.load(inner.bitcast(part.args[0], job_type.as_pointer()))
                number, common = inner.extract_value(job, 0), inner.load(inner.extract_value(job, 1))
                n_all, n_parts, own = (inner.extract_value(common, k) for k in range(3))
                edges = [inner.udiv(inner.mul(n_all, k), n_parts) for k in (number, inner.add(number, _INT(1)))]
                own = [inner.extract_value(own, k) for k in range(len(args.types))]
                context.call_internal_no_propagate(inner, made["fndesc"], whole, [*edges, *own])
                inner.ret_void()

                common = cgutils.alloca_once(builder, common_type)
                for k, value in enumerate((length, count, given)):
                    builder.store(value, _field(builder, common, k))
                jobs = cgutils.alloca_once(builder, ir.ArrayType(job_type, _MOST_PARTS))
                for k in range(_MOST_PARTS):
                    job = _field(builder, jobs, k)
                    builder.store(_INT(k), _field(builder, job, 0))
                    builder.store(common, _field(builder, job, 1))
                kind = ir.FunctionType(_SHORT, [_SHORT, _BYTES, _BYTES, _SHORT])
                arguments = builder.trunc(count, _SHORT), builder.bitcast(part, _BYTES), builder.bitcast(jobs, _BYTES)
                builder.call(builder.inttoptr(at, kind.as_pointer()), [*arguments, _SHORT(16)])
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, types.int64, args), generate

        return run

    def _field(builder: Any, struct: Any, number: int) -> Any:
        return builder.gep(struct, [_SHORT(0), _SHORT(number)], inbounds=True)

    @intrinsic
    def prefetch(typing_context: Any, array: Any, place: Any) -> Any:
        """Begin to bring a number of a contiguous array into the second cache."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            kind = ir.FunctionType(ir.VoidType(), [_BYTES, _SHORT, _SHORT, _SHORT])
            function = builder.module.declare_intrinsic("llvm.prefetch", [_BYTES], kind)
            at = builder.bitcast(builder.gep(data, [args[1]]), _BYTES)
            builder.call(function, [at, _SHORT(0), _SHORT(2), _SHORT(1)])  # to read, into L2, data
            return context.get_dummy_value()

        return types.void(array, types.intp), generate
