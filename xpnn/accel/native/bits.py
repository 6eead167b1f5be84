"""Eight bytes at a time, and single bits: what compiled code needs of the processor and numba does not name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

__all__ = ["as_float", "get_word", "high_product", "piece", "put_word", "zeros_above", "zeros_below"]

_F = TypeVar("_F", bound=Callable[..., Any])


def piece(loop: _F) -> _F:
    """Compile a function when it is first called."""
    made: _F = numba.njit(nogil=True, error_model="numpy")(loop)
    return made


@intrinsic  # type: ignore[untyped-decorator]
def get_word(typing_context: Any, text: Any, place: Any) -> Any:
    """Return the eight bytes from a place on as one number, the first byte the lowest."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.gep(args[0], [args[1]])
        return builder.load(builder.bitcast(at, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(text, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def put_word(typing_context: Any, text: Any, place: Any, word: Any) -> Any:
    """Write eight bytes from a place on, the lowest first."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        at = builder.gep(args[0], [args[1]])
        builder.store(args[2], builder.bitcast(at, ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(text, types.int64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def zeros_below(typing_context: Any, word: Any) -> Any:
    """Return how many bits below the lowest that is set are not; some must be."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def zeros_above(typing_context: Any, word: Any) -> Any:
    """Return how many bits above the highest that is set are not; some must be."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def high_product(typing_context: Any, a: Any, b: Any) -> Any:
    """Return the upper 64 bits of a product."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic  # type: ignore[untyped-decorator]
def as_float(typing_context: Any, bits: Any) -> Any:
    """Return the number that so many bits are."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.uint64), generate
