"""Whose turn it is: OpenBLAS on one thread while xpnn computes, and forks between its products.

OpenBLAS divides a product by the number of its threads, so the last bits depend on that number; and its threads wait
for each other at barriers where they spin, so that beside any other program two of them are slower than one.  While
xpnn computes, OpenBLAS is therefore set to one thread, and products are divided by xpnn (`xpnn.accel.products`).  The
number belongs to the whole process: whoever first needs one thread sets it, and the last puts back what it was.

`os.fork` copies a process with one of its threads.  A lock that another thread holds just then would never be opened in
the copy, and OpenBLAS, which stops its threads before a fork, would wait for ever for those in a product.  So a fork
waits until each product that is being made is over, and the products to come wait for the fork.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from .openblas import find_openblas

__all__ = ["ALLOWED", "ONE_THREAD", "PRODUCT", "Fork", "allowed_threads", "at_fork", "holds_one_thread"]

#: How many threads OpenBLAS had before it was set to one; 0 where it is as its user wants it.  Native code reads it.
ALLOWED = ctypes.c_int64(0)
# Seconds between two looks whether products, or a fork, are over.
_LOOK = 5e-5


def _nothing() -> None:
    """Do nothing."""


class Fork(NamedTuple):
    """What else a fork needs: called before it, then in the parent, or in the child."""

    before: Callable[[], None] = _nothing
    in_parent: Callable[[], None] = _nothing
    in_child: Callable[[], None] = _nothing


class _Counts:
    """How often a thread holds OpenBLAS at one thread, and how many products it is in: its own to write."""

    held = 0
    products = 0


class _Own(threading.local):
    """This thread's counts."""

    def __init__(self) -> None:
        self.counts = _Counts()
        _all.add(self.counts)


_all: weakref.WeakSet[_Counts] = weakref.WeakSet()  # of all threads that live
_own = _Own()
_lock = threading.RLock()  # a signal's handler may come while its own thread holds it
_holding = 0  # threads that hold OpenBLAS at one thread
_forking = False
_others: list[Fork] = []


def allowed_threads() -> int:
    """Return on how many threads the user lets products be made: of NumPy's OpenBLAS, as it would be without xpnn."""
    blas = find_openblas()
    return 1 if blas is None else ALLOWED.value or blas.count()


def holds_one_thread() -> bool:
    """Whether this thread holds OpenBLAS at one thread already."""
    return _own.counts.held > 0


class _OneThread:
    """A context in which OpenBLAS is on one thread."""

    def __enter__(self) -> None:
        own = _own.counts
        if not own.held:
            _hold()
        own.held += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        own = _own.counts
        own.held -= 1
        if not own.held:
            _release()


class _Product(_OneThread):
    """The same for one product, which a fork does not divide."""

    def __enter__(self) -> None:
        own = _own.counts
        own.products += 1
        while _forking and own.products == 1:
            own.products = 0
            time.sleep(_LOOK)
            own.products = 1
        if not own.held:  # as above: a call more is a tenth of a small product's time
            _hold()
        own.held += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        own = _own.counts
        own.held -= 1
        if not own.held:
            _release()
        own.products -= 1


#: OpenBLAS on one thread while much is done, as a fit, or by native code that looks after forks itself.
ONE_THREAD = _OneThread()
#: The same for one product.
PRODUCT = _Product()


def _hold() -> None:
    """Set OpenBLAS to one thread, if this is the first thread that needs it so."""
    global _holding
    blas = find_openblas()
    with _lock:
        _holding += 1
        try:
            if blas is not None and not ALLOWED.value:
                ALLOWED.value = blas.count()
                if ALLOWED.value > 1:
                    blas.set_count(1)
        except BaseException:  # Ctrl-C
            _release()
            raise


def _release() -> None:
    """Give OpenBLAS its threads again, if no other thread needs it otherwise."""
    global _holding
    with _lock:
        _holding -= 1
        if not _holding:
            _put_back()


def _put_back() -> None:
    """Set what was, unless somebody else has set another number meanwhile."""
    blas = find_openblas()
    if blas is not None and ALLOWED.value > 1 and blas.count() == 1:
        blas.set_count(ALLOWED.value)
    ALLOWED.value = 0


# -- forks --------------------------------------------------------------------------------------------------------
def at_fork(fork: Fork) -> None:
    """Have something more done at each fork."""
    _others.append(fork)


def _before() -> None:
    global _forking
    _forking = True
    own = _own.counts  # in a product, where a signal's handler forks
    while any(counts.products for counts in list(_all) if counts is not own):
        time.sleep(_LOOK)
    _lock.acquire()
    for other in _others:
        other.before()


def _in_parent() -> None:
    global _forking
    for other in _others:
        other.in_parent()
    _forking = False
    _lock.release()


def _in_child() -> None:
    global _forking, _holding
    for other in _others:
        other.in_child()
    was, _holding = _holding, int(holds_one_thread())
    if was and not _holding:  # those that held OpenBLAS are not here
        _put_back()
    for counts in list(_all):
        if counts is not _own.counts:
            counts.products = 0
    _forking = False
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
