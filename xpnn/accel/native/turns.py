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


class _Own(threading.local):
    """How often this thread holds OpenBLAS at one thread, and how many products it is in."""

    held = 0
    products = 0


_own = _Own()
_lock = threading.RLock()  # a signal's handler may come while its own thread holds it
_held = 0  # by all threads
_products = 0
_forking = False
_others: list[Fork] = []


def allowed_threads() -> int:
    """Return on how many threads the user lets products be made: of NumPy's OpenBLAS, as it would be without xpnn."""
    blas = find_openblas()
    return 1 if blas is None else ALLOWED.value or blas.count()


def holds_one_thread() -> bool:
    """Whether this thread holds OpenBLAS at one thread already."""
    return _own.held > 0


class _Turn:
    """A context in which OpenBLAS is on one thread, for a product or for much more."""

    def __init__(self, products: int) -> None:
        self._count = products

    def __enter__(self) -> None:
        blas, before = find_openblas(), _own.held
        if blas is None:
            return
        while self._count and _forking and not _own.products:
            time.sleep(_LOOK)
        try:
            with _lock:
                if not ALLOWED.value:
                    ALLOWED.value = blas.count()
                    blas.set_count(1)
                self._add(1)
        except BaseException:  # Ctrl-C
            with _lock:
                self._add(before - _own.held)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if find_openblas() is not None:
            with _lock:
                self._add(-1)

    def _add(self, times: int) -> None:
        """Come in, or out; the last puts back what was."""
        global _held, _products
        products = times * self._count
        _held, _products, _own.held, _own.products = (
            _held + times,
            _products + products,
            _own.held + times,
            _own.products + products,
        )
        if not _held:
            _put_back()


#: OpenBLAS on one thread while much is done, as a fit.
ONE_THREAD = _Turn(0)
#: The same for one product, or for native code that looks after forks itself.
PRODUCT = _Turn(1)


def _put_back() -> None:
    """Give OpenBLAS its threads again, unless somebody else has set their number meanwhile."""
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
    while True:
        _lock.acquire()
        if _products == _own.products:  # all but one's own: a signal's handler may fork
            break
        _lock.release()
        time.sleep(_LOOK)
    for other in _others:
        other.before()


def _in_parent() -> None:
    global _forking
    for other in _others:
        other.in_parent()
    _forking = False
    _lock.release()


def _in_child() -> None:
    global _forking, _held, _products
    for other in _others:
        other.in_child()
    was, _held, _products = _held, _own.held, _own.products
    if was and not _held:  # those that held it are not here
        _put_back()
    _forking = False
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
