"""On which cores the threads of a pool work: not on that of the thread that asked for them, unless it lends it.

Linux wakes a thread where it finds room, and on a busy machine that may be the core of the very thread that woke it,
which then stands still.  So a thread that finds itself there goes to another core.  And where the caller has to wait
for a thread that other programs keep from its core, with a part of the work in its hands, it lends it its own.

Only threads of the pool are moved, and only among the cores that they were given.
"""

from __future__ import annotations

from .atomics import load, store
from .threads import compiled

try:
    from numba import types

    # Functions of the C library, which the linker finds by name.
    _core = types.ExternalFunction("sched_getcpu", types.int32())
    _get = types.ExternalFunction("sched_getaffinity", types.int32(types.int32, types.int64, types.int64))
    _set = types.ExternalFunction("sched_setaffinity", types.int32(types.int32, types.int64, types.int64))
except ImportError:  # then these are not called: there are no threads of compiled loops
    pass

__all__ = ["CARD", "ID", "core", "go_elsewhere", "lend_core"]

#: Bytes of what is written down of a thread.
CARD = 512
#: Where its number in the system stands there.
ID = 24
# Sets of cores, a bit for each: those that it was given, what was last set here, and what was found.
_GIVEN, _LAST, _NOW = 128, 256, 384
_BYTES = 128  # of a set: 1,024 cores
# numba keeps what it compiled by the content of this file.  This is the hash of what else it compiled.
_COMPILED = {"atomics.py": "a6928fba"}


@compiled
def core() -> int:  # pragma: no cover (compiled)
    """Return the number of the core that this thread is on."""
    return int(_core())


@compiled
def _look(card: int, number: int) -> bool:  # pragma: no cover (compiled)
    """Find out which cores a thread was given, and whether that is to be had, and the core has a bit."""
    if number < 0 or number >= 8 * _BYTES or _get(load(card + ID), _BYTES, card + _NOW) < 0:
        return False
    same = True
    for at in range(0, _BYTES, 8):
        same = same and load(card + _NOW + at) == load(card + _LAST + at)
    if not same:  # nothing was set here yet, or somebody else has set others since
        for at in range(0, _BYTES, 8):
            store(card + _GIVEN + at, load(card + _NOW + at))
    return True


@compiled
def _keep_to(card: int, number: int, there: bool) -> None:  # pragma: no cover (compiled)
    """Of the cores that a thread was given, leave it one alone, or all but one; nothing changes if that is none."""
    if not _look(card, number):
        return
    found = 0
    for at in range(0, _BYTES, 8):
        own = 1 << number % 64 if at == number // 64 * 8 else 0
        kept = load(card + _GIVEN + at) & (own if there else ~own)
        store(card + _LAST + at, kept)
        found |= kept
    if found == 0 or _set(load(card + ID), _BYTES, card + _LAST) < 0:
        for at in range(0, _BYTES, 8):
            store(card + _LAST + at, load(card + _NOW + at))


@compiled
def go_elsewhere(card: int, number: int) -> None:  # pragma: no cover (compiled)
    """Have a thread leave a core, if it may use others."""
    _keep_to(card, number, False)


@compiled
def lend_core(card: int, number: int) -> None:  # pragma: no cover (compiled)
    """Have a thread come to a core, if it may use it."""
    _keep_to(card, number, True)
