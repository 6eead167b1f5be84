"""What threads need that numba has not: atomic numbers in memory, a clock, and sleep until another thread wakes.

Numbers are of 8 bytes, given by their addresses; every access is sequentially consistent.
"""

from __future__ import annotations

import platform
import sys
from typing import Any

from .threads import compiled

try:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    _INT, _SHORT, _BOOL = ir.IntType(64), ir.IntType(32), ir.IntType(1)
    # Functions of the C library, which the linker finds by name.
    _clock_gettime = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.int64))
    _syscall = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
    _usleep = types.ExternalFunction("usleep", types.int32(types.uint32))
except ImportError:  # then these are not called: there are no threads of compiled loops

    def intrinsic(function: Any) -> Any:
        """Return a function as it is."""
        return function


__all__ = ["FUTEX", "WAKE", "add", "call", "load", "nap", "now", "pause", "sleep_while", "store", "swap", "wake"]

#: The number of the system call that sleeps and wakes, of this machine; None where nobody has tried it.
FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine()) if sys.platform == "linux" else None
#: FUTEX_WAKE_PRIVATE, and FUTEX_WAIT_PRIVATE.
WAKE = 129
_SLEEP = 128
_MONOTONIC = 1
_PAUSES = {"x86_64": ("llvm.x86.sse2.pause", ()), "aarch64": ("llvm.aarch64.hint", (1,))}


@intrinsic  # type: ignore[untyped-decorator]
def load(typing_context: Any, address: Any) -> Any:
    """Return a number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(values[0], _INT.as_pointer()), "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(typing_context: Any, address: Any, value: Any) -> Any:
    """Write a number."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], builder.inttoptr(values[0], _INT.as_pointer()), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def add(typing_context: Any, address: Any, value: Any) -> Any:
    """Add to a number, and return what it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", builder.inttoptr(values[0], _INT.as_pointer()), values[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def swap(typing_context: Any, address: Any, old: Any, new: Any) -> Any:
    """Write a new number if the old one is there, and return whether it was."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        at = builder.inttoptr(values[0], _INT.as_pointer())
        return builder.extract_value(builder.cmpxchg(at, values[1], values[2], "seq_cst"), 1)

    return types.boolean(*[types.int64] * 3), generate


@intrinsic  # type: ignore[untyped-decorator]
def call(typing_context: Any, function: Any, argument: Any) -> Any:
    """Call ``void f(void *)`` at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_INT])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [values[1]])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def pause(typing_context: Any) -> Any:
    """Tell the processor that this thread looks for something to change."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if platform.machine() in _PAUSES:
            name, numbers = _PAUSES[platform.machine()]
            kind = ir.FunctionType(ir.VoidType(), [_SHORT] * len(numbers))
            builder.call(builder.module.declare_intrinsic(name, (), kind), [_SHORT(n) for n in numbers])
        return context.get_dummy_value()

    return types.void(), generate


@compiled
def now(scratch: int) -> int:  # pragma: no cover (compiled)
    """Return nanoseconds; `scratch` is the address of two numbers of this thread's own."""
    _clock_gettime(_MONOTONIC, scratch)
    time: int = load(scratch) * 1_000_000_000 + load(scratch + 8)
    return time


@compiled
def sleep_while(address: int, value: int) -> None:  # pragma: no cover (compiled)
    """Sleep until another thread wakes who sleeps at this address; not at all if the number there is another."""
    _syscall(FUTEX, address, _SLEEP, value, 0, 0, 0)


@compiled
def wake(address: int, most: int) -> None:  # pragma: no cover (compiled)
    """Wake threads that sleep at an address."""
    _syscall(FUTEX, address, WAKE, most, 0, 0, 0)


@compiled
def nap() -> None:  # pragma: no cover (compiled)
    """Sleep for some microseconds."""
    _usleep(50)
