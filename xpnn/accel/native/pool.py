"""Threads for compiled loops and for the pieces of products, which nobody has to wait for.

A job is divided into parts, and whoever is free takes the next: the caller, too.  A thread that has nothing to do looks
for work a little longer than there has lately been none, then sleeps.  If no thread comes, because others need the
cores, the caller does all.  When it has to wait for a part that a thread had begun, it sleeps, and meanwhile lends that
thread its core; and when that has taken long, it leaves the threads out for a while, longer each time.  So a busy
machine costs little, and no result depends on it, as the parts are the same whoever does them.

The threads are Python's, each in a compiled loop without Python's lock, and end before Python does.  A forked child has
none of them, and makes its own when it next asks for them.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import threading
import time
from typing import Any

from .atomics import FUTEX, WAKE, add, call, load, nap, now, pause, sleep_while, store, swap, wake
from .openblas import NO_POOL, Pool, find_openblas
from .places import CARD, ID, core, go_elsewhere, lend_core
from .threads import compiled
from .turns import ALLOWED, Fork, at_fork

try:
    import llvmlite.binding as llvm
    from llvmlite import ir
    from numba import cfunc, types
    from numba.extending import intrinsic
except ImportError:  # then there are no threads, and these functions are not called
    llvm = None

    def intrinsic(function: Any) -> Any:
        """Return a function as it is."""
        return function


__all__ = ["begin_step", "end_step", "let_fork", "limited", "make_pool", "patience"]

# Nanoseconds: how long at most a thread looks for work before it sleeps, and how much longer than there was lately
# none; how long the caller looks for the end of the last part; how much longer than a part of its own it may have to
# wait; and for how long it then leaves the threads out.
_IDLE, _MORE, _LOOK, _LATE = 50_000, 2_000, 150_000, 400_000
_OUT, _OUT_MOST = 2_000_000, 10_000_000
_MOST_THREADS = 64
_LOOKS = 5e-5  # seconds between two looks whether all steps have paused for a fork

# Where numbers lie in the pool's memory, in bytes.  What different threads write has lines of the cache of its own.
_JOB, _TICKET, _DONE, _ASLEEP, _BUSY = 0, 128, 256, 384, 512
_FUNCTION, _FIRST, _SIZE, _PARTS, _THREADS = 640, 648, 656, 664, 672
_OUT_UNTIL, _OUT_FOR, _WAITING, _GIVEN_AT = 680, 688, 696, 704
_STEPS, _FORKING, _STOP = 768, 896, 904
_WORKERS, _COUNT, _ALLOWED, _TIMES, _CORE = 912, 920, 928, 936, 944
_CARDS = 1024  # what is written down of each thread, the caller first: two numbers of its clock, ...
_HOLDS = 16  # ... whether it has a part in its hands, and what `places` needs
_BYTES = _CARDS + CARD * _MOST_THREADS
_SYMBOL = "xpnn_pool"
# numba keeps what it compiled by the content of this file.  These are the hashes of what else it compiled.
_COMPILED = {"atomics.py": "a6928fba", "places.py": "dc11285d"}
_NUMBER = 0x7FFFFFFF  # of a job, and of the next part of it, which is `_NUMBER` when all are given out


@intrinsic  # type: ignore[untyped-decorator]
def _memory(typing_context: Any) -> Any:
    """Return the address of the pool's memory: a name for the linker, as numba keeps what it compiled."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        module, kind = builder.module, ir.IntType(64)
        found = module.globals.get(_SYMBOL) or ir.GlobalVariable(module, kind, _SYMBOL)
        return builder.ptrtoint(found, kind)

    return types.int64(), generate


@intrinsic  # type: ignore[untyped-decorator]
def _ask(typing_context: Any, count: Any) -> Any:
    """Call ``int count(void)`` at an address."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        return builder.sext(builder.call(builder.inttoptr(values[0], kind.as_pointer()), []), ir.IntType(64))

    return types.int64(types.int64), generate


# -- a job --------------------------------------------------------------------------------------------------------
@compiled
def _claim(memory: int, job: int) -> int:  # pragma: no cover (compiled)
    """Return the number of a part of a job that nobody else does, or -1."""
    while True:
        ticket: int = load(memory + _TICKET)
        part = ticket & _NUMBER
        if ticket >> 32 != job or part >= load(memory + _PARTS):
            return -1
        if swap(memory + _TICKET, ticket, ticket + 1):
            return part


@compiled
def patience(before: int, away: int) -> int:  # pragma: no cover (compiled)
    """Return for how many ns a thread next looks for work, by how long it did before, and there was none of late.

    It follows the longest times up to `_IDLE`, and fades.  Where work is away longer than it pays to look for it, it
    soon fades to nothing, and the thread sleeps at once.
    """
    if away >= _IDLE:
        return before - before // 16
    return min(max(away + away // 4 + _MORE, before - before // 256), _IDLE)


@compiled
def _serve(memory: int, number: int) -> None:  # pragma: no cover (compiled)
    """Do parts of jobs until the pool ends: what thread number 1, 2, ... does."""
    clock = card = memory + _CARDS + CARD * number
    seen, began, looks = load(memory + _JOB), now(clock), _IDLE
    while load(memory + _STOP) == 0:
        job = load(memory + _JOB)
        if job == seen:
            pause()
            if now(clock) - began > looks:
                add(memory + _ASLEEP, 1)
                if load(memory + _JOB) == seen and load(memory + _STOP) == 0:
                    sleep_while(memory + _JOB, seen)
                add(memory + _ASLEEP, -1)
            continue
        seen = job
        looks = patience(looks, load(memory + _GIVEN_AT) - began)
        if core() == load(memory + _CORE):
            go_elsewhere(card, core())
        while number < load(memory + _THREADS):
            part = _claim(memory, job)
            if part < 0:
                break
            store(card + _HOLDS, 1)
            call(load(memory + _FUNCTION), load(memory + _FIRST) + part * load(memory + _SIZE))
            store(card + _HOLDS, 0)
            add(memory + _DONE, 1)
            if load(memory + _WAITING):
                wake(memory + _DONE, 1)
        began = now(clock)


@compiled
def _run_alone(parts: int, function: int, first: int, size: int) -> None:  # pragma: no cover (compiled)
    for part in range(parts):
        call(function, first + part * size)


@compiled
def _run(memory: int, threads: int, parts: int, function: int, first: int, size: int) -> None:  # pragma: no cover
    """Do all parts of a job, with threads that come."""
    if threads < 2 or parts < 2 or not swap(memory + _BUSY, 0, 1):  # of several callers one has the threads
        _run_alone(parts, function, first, size)
        return
    clock = memory + _CARDS
    began = now(clock)
    if began < load(memory + _OUT_UNTIL):
        store(memory + _BUSY, 0)
        _run_alone(parts, function, first, size)
        return
    job = (load(memory + _JOB) + 1) & _NUMBER
    store(memory + _TICKET, job << 32 | _NUMBER)
    store(memory + _FUNCTION, function)
    store(memory + _FIRST, first)
    store(memory + _SIZE, size)
    store(memory + _PARTS, parts)
    store(memory + _THREADS, threads)
    store(memory + _CORE, core())
    store(memory + _GIVEN_AT, began)
    store(memory + _DONE, 0)
    store(memory + _TICKET, job << 32)
    store(memory + _JOB, job)
    if load(memory + _ASLEEP):  # with a limit, those may sleep that are not in it
        wake(memory + _JOB, parts - 1 if threads > load(memory + _WORKERS) else _MOST_THREADS)
    longest, part = 0, _claim(memory, job)
    while part >= 0:
        call(function, first + part * size)
        add(memory + _DONE, 1)
        ended = now(clock)
        longest, began = max(longest, ended - began), ended
        part = _claim(memory, job)
    if load(memory + _DONE) < parts:
        _wait(memory, parts, began, longest)
    store(memory + _BUSY, 0)


@compiled
def _wait(memory: int, parts: int, began: int, longest: int) -> None:  # pragma: no cover (compiled)
    """Wait for parts that threads have begun; where that takes long, leave the threads out for a while."""
    clock = memory + _CARDS
    waited, looks = 0, 0
    done = load(memory + _DONE)
    while done < parts:
        pause()
        looks += 1
        if looks & 31 == 0:
            waited = now(clock) - began
            if waited > _LOOK:  # asleep, for the other may need this very core
                store(memory + _WAITING, 1)
                done = load(memory + _DONE)
                if done < parts:
                    _sleep(memory, done)
                store(memory + _WAITING, 0)
        done = load(memory + _DONE)
    waited, out = now(clock) - began, load(memory + _OUT_FOR)
    if waited > longest + _LATE:
        out = min(max(2 * out, _OUT), _OUT_MOST)
        store(memory + _OUT_FOR, out)
        store(memory + _OUT_UNTIL, began + waited + out)
        add(memory + _TIMES, 1)
    elif out:
        store(memory + _OUT_FOR, out - (out >> 6) - 1)


@compiled
def _sleep(memory: int, done: int) -> None:  # pragma: no cover (compiled)
    """Sleep until one more part is done, and meanwhile lend this core to a thread that has one in its hands."""
    late, here = 0, core()
    for number in range(1, load(memory + _WORKERS) + 1):
        card = memory + _CARDS + CARD * number
        if load(card + _HOLDS):
            late = card
            lend_core(late, here)
            break
    sleep_while(memory + _DONE, done)
    if late:
        go_elsewhere(late, here)


def count() -> int:  # pragma: no cover (compiled)
    """Return how many threads there are, as the user limits them at any time: the caller is one."""
    memory = _memory()
    allowed: int = load(load(memory + _ALLOWED))
    if allowed == 0:
        allowed = _ask(load(memory + _COUNT))
    made: int = load(memory + _WORKERS) + 1
    return min(allowed, made)


_count = compiled(count)


def run(parts: int, function: int, jobs: int, size: int) -> int:  # pragma: no cover (compiled)
    """Call a function for each of `parts` jobs, which follow each other in memory."""
    _run(_memory(), _count(), parts, function, jobs, size)
    return 0


# -- steps and forks ----------------------------------------------------------------------------------------------
@compiled
def begin_step() -> None:  # pragma: no cover (compiled)
    """Begin native work that a fork must not divide; wait while there is one."""
    memory = _memory()
    add(memory + _STEPS, 1)
    while load(memory + _FORKING):
        add(memory + _STEPS, -1)
        nap()
        add(memory + _STEPS, 1)


@compiled
def end_step() -> None:  # pragma: no cover (compiled)
    """End such work."""
    add(_memory() + _STEPS, -1)


@compiled
def let_fork() -> None:  # pragma: no cover (compiled)
    """Between two pieces of such work, let a fork have its turn."""
    if load(_memory() + _FORKING):
        end_step()
        begin_step()


# -- the pool of this process -------------------------------------------------------------------------------------
_memory_of_pool = (ctypes.c_char * (_BYTES + 128))()
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_memory_of_pool))  # threads may look at it until the very end
_offset = -ctypes.addressof(_memory_of_pool) % 128
_address = ctypes.addressof(_memory_of_pool) + _offset
_threads: list[threading.Thread] = []
_lock = threading.Lock()


def _number(place: int) -> ctypes.c_int64:
    return ctypes.c_int64.from_buffer(_memory_of_pool, _offset + place)


def _begin() -> None:
    """Begin without threads: at first, and in a forked child."""
    global _lock
    blas = find_openblas()
    ctypes.memset(_address, 0, _BYTES)
    _number(_COUNT).value = 0 if blas is None else blas.counting
    _number(_ALLOWED).value = ctypes.addressof(ALLOWED)
    _threads.clear()
    _lock = threading.Lock()


def _be_thread(number: int) -> None:
    _number(_CARDS + CARD * number + ID).value = threading.get_native_id()
    _serve(_address, number)


@functools.cache
def _functions() -> tuple[Any, Any]:
    """Compile, or load, the two functions of the pool: they lie in memory as long as the process lives."""
    return _compile(run, count)


def _compile(run: Any, count: Any) -> tuple[Any, Any]:
    kinds = types.int32(types.int32, types.int64, types.int64, types.int32), types.int32()
    first, second = (
        cfunc(kind, cache=True, error_model="numpy")(f) for kind, f in zip(kinds, (run, count), strict=True)
    )
    return first, second


def make_pool(threads: int) -> Pool:
    """Return the pool of this process, with so many threads, the caller counted, or with more that it has already."""
    if FUTEX is None or find_openblas() is None:
        return NO_POOL
    running, counting = _functions()
    with _lock:
        for number in range(len(_threads) + 1, min(threads, _MOST_THREADS)):
            thread = threading.Thread(target=_be_thread, args=(number,), name=f"xpnn-{number}", daemon=True)
            thread.start()
            _threads.append(thread)
            _number(_WORKERS).value = number
    return running.address, counting.address


@functools.cache
def limited(most: int) -> Pool:
    """Return the pool of this process for work that so many threads share at most, the caller counted."""

    def own_run(parts: int, function: int, jobs: int, size: int) -> int:  # pragma: no cover (compiled)
        _run(_memory(), min(_count(), most), parts, function, jobs, size)
        return 0

    def own_count() -> int:  # pragma: no cover (compiled)
        return min(_count(), most)

    running, counting = _compile(own_run, own_count)
    return running.address, counting.address


def _end() -> None:
    """End the threads, for their code goes with Python."""
    if _threads:
        _number(_STOP).value = 1
        _number(_JOB).value += 1
        ctypes.CDLL(None).syscall(FUTEX, ctypes.c_void_p(_address + _JOB), WAKE, _MOST_THREADS, None, None, 0)
    for thread in _threads:
        thread.join(timeout=1.0)


def _before_fork() -> None:
    _number(_FORKING).value = 1
    time.sleep(0)  # so that it is seen before the steps are counted
    while _number(_STEPS).value:
        time.sleep(_LOOKS)


def _after_fork() -> None:
    _number(_FORKING).value = 0


if llvm is not None:
    _begin()
    llvm.add_symbol(_SYMBOL, _address)
    at_fork(Fork(_before_fork, _after_fork, _begin))
    atexit.register(_end)
