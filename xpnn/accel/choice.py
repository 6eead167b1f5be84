"""On how many threads the steps of a fit are made: measured while they are made, now and then again.

How many are best depends on the network, and on who else computes on the machine, which changes.  No number of threads
changes a result (`xpnn.accel.products`), so a fit may try others: for some milliseconds it makes its steps on twice or
half as many, and takes those on which a step has been sooner over.  What trials cost is counted, and kept below a
hundredth of the time.
"""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from .cores import keep_to, thread_limit, threads_by_environment
from .native.turns import allowed_threads

__all__ = ["ThreadChoice", "counts_to_try", "quickest"]

_T = TypeVar("_T")

# Seconds: how long a trial lasts, at least, and how far trials are apart.
_TRIAL, _APART = 0.01, 0.1
# Of the time of all steps, what trials may cost more than the same steps would have on as many threads as are chosen.
_SHARE = 0.01
# A trial may be cut short by others, so several are asked for, of which each counts less than the one after it; and
# others are chosen only if they are clearly better.
_TRIALS, _FADE, _BETTER = 4, 0.85, 0.93

# Rounds of trials of several ways to do the same, and how many tell which is quickest.
_ROUNDS, _FEWEST_ROUNDS = 5, 2

_LOG = logging.getLogger("xpnn")


def counts_to_try(most: int) -> tuple[int, ...]:
    """Return the numbers of threads among which a fit chooses: powers of two below the most, and that.

    Examples
    --------
    >>> counts_to_try(6)
    (1, 2, 4, 6)
    """
    return (*(1 << k for k in range((most - 1).bit_length())), most)


def quickest(
    ways: Mapping[_T, Callable[[], float]],
    first: _T,
    limit: Callable[[float], float],
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> _T:
    """Return the way to do the same work that takes the least time, by trials that take turns.

    Parameters
    ----------
    ways : mapping of a name to a function
        Each call makes a trial, and returns the seconds for a unit of work.
    first : name
        The way that is taken unless another is clearly better.
    limit : function of seconds
        How long trials may take in all, told what a unit takes with the first way.  Where they took that before all
        ways had their turns, it is the first.
    clock : function, default=time.perf_counter
        Tells the time in seconds.

    Examples
    --------
    >>> quickest({"a": lambda: 3.0, "b": lambda: 2.0}, "a", lambda seconds: 10.0)
    'b'
    """
    began, seconds = clock(), {name: list[float]() for name in ways}
    order = [first, *(name for name in ways if name != first)]
    for _ in range(_ROUNDS):
        for name in order:
            before = clock()
            seconds[name].append(ways[name]())
            now = clock()
            if now - began + (now - before) > limit(statistics.median(seconds[first])):
                rounds = min(map(len, seconds.values()))
                if rounds < _FEWEST_ROUNDS:
                    return first
                return _best({name: times[:rounds] for name, times in seconds.items()}, first)
    return _best(seconds, first)


def _best(seconds: Mapping[_T, list[float]], first: _T) -> _T:
    """Return the way of the least median, the first unless that is clearly better."""
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    best = min(medians, key=lambda name: medians[name])
    return best if medians[best] < _BETTER * medians[first] else first


class _Trials:
    """What trials with one number of threads took, and what the same steps would have taken with the chosen one."""

    def __init__(self) -> None:
        self.count, self.seconds, self.otherwise = 0, 0.0, 0.0

    def add(self, seconds: float, otherwise: float) -> None:
        self.count += 1
        self.seconds = _FADE * self.seconds + seconds
        self.otherwise = _FADE * self.otherwise + otherwise

    @property
    def better(self) -> bool:
        return self.count >= _TRIALS and self.seconds < _BETTER * self.otherwise


class ThreadChoice:
    """The number of threads on which one trainer's steps are made.

    Where the user has chosen, by ``XPNN_THREADS``, or leaves but one thread, nothing is measured.

    Parameters
    ----------
    clock : function, default=time.perf_counter
        Tells the time in seconds.

    Attributes
    ----------
    counts : tuple of int
        The numbers among which is chosen, ascending.
    count : int
        The number that is chosen now: at first the most.
    seconds : dict of int to float
        What a step took last with each number that was tried.

    Examples
    --------
    >>> choice = ThreadChoice()
    >>> with choice.steps("numpy", 128):
    ...     choice.made(1)
    >>> choice.count in choice.counts
    True
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._kind: Any = None  # what steps must have in common for their times to be compared
        self._before: int | None = None  # to how many threads work is kept outside of steps
        self._last = 0.0  # when the last steps were over
        self._begin_anew((1,), fixed=True)

    def _begin_anew(self, counts: tuple[int, ...], *, fixed: bool) -> None:
        self.counts, self.count, self._fixed = counts, counts[-1], fixed
        self.seconds: dict[int, float] = {}
        self._trials: dict[int, _Trials] = {}
        self._tried = 0  # trials so far: they take turns
        self._trying: int | None = None
        self._may_cost = 0.0  # seconds that trials may cost yet
        self._fresh = True  # what is loaded and compiled in the first steps is not theirs
        self._forget_steps()

    def _forget_steps(self) -> None:
        self._steps, self._took = 0, 0.0

    # -- the steps of an epoch ------------------------------------------------------------------------------
    @contextlib.contextmanager
    def steps(self, backend: str, batch_size: int) -> Iterator[None]:
        """Let steps be made within on the chosen number of threads; of NumPy's, others are tried now and then."""
        ours = backend == "numpy"
        most = min(thread_limit(), allowed_threads()) if ours else 1
        given = threads_by_environment() if ours else None
        if (backend, batch_size, most, given) != self._kind:
            self._kind = backend, batch_size, most, given
            self._begin_anew((most,) if given else counts_to_try(most), fixed=given is not None)
        self._before = keep_to(None)
        try:
            self._keep()
            self.go_on()
            yield
        finally:
            keep_to(self._before)

    def _keep(self) -> None:
        """Have the next steps made on as many threads as it is their turn."""
        count = self._trying or self.count
        keep_to(self._before if count == self.counts[-1] and not self._fixed else count)

    def go_on(self) -> None:
        """Take the time before some steps, where something else was done before them."""
        if len(self.counts) > 1:
            self._last = self._clock()

    def most_steps(self) -> int:
        """Return how many steps may be made at once."""
        if self._trying is None:
            return sys.maxsize
        return max(math.ceil((_TRIAL - self._took) / self.seconds[self.count]), 1)

    def made(self, steps: int) -> None:
        """Take the time of some steps; their number of threads may then be another."""
        if len(self.counts) == 1:
            return
        now = self._clock()
        self._steps, self._took, self._last = self._steps + steps, self._took + now - self._last, now
        if self._fresh:
            self._fresh = False
            self._forget_steps()
        elif self._trying is not None and self._took >= _TRIAL:
            self._end_trial(self._trying)
        elif self._trying is None and self._took >= _APART:
            self._end_stretch()

    # -- choosing -------------------------------------------------------------------------------------------
    def _end_stretch(self) -> None:
        """Note what steps take, and begin a trial if it may cost so much: as much again as it lasts."""
        each = self.seconds[self.count] = self._took / self._steps
        cost = max(_TRIAL, each)
        self._may_cost = min(self._may_cost + _SHARE * self._took, 2.0 * cost)
        self._forget_steps()
        if self._may_cost >= cost:
            at = self.counts.index(self.count)
            near = [self.counts[k] for k in (at - 1, at + 1) if 0 <= k < len(self.counts)]
            self._trying = near[self._tried % len(near)]
            self._tried += 1
            self._keep()

    def _end_trial(self, count: int) -> None:
        """Note what a trial took, and choose."""
        otherwise = self._steps * self.seconds[self.count]
        self.seconds[count] = self._took / self._steps
        trials = self._trials.setdefault(count, _Trials())
        trials.add(self._took, otherwise)
        self._may_cost -= max(self._took - otherwise, 0.0)
        if trials.better:
            share = trials.seconds / trials.otherwise
            _LOG.info("fit: steps on %d of %d threads take %.2f of the time", count, self.counts[-1], share)
            self.count, self._trials = count, {}
        self._trying = None
        self._forget_steps()
        self._keep()

    def __repr__(self) -> str:
        return f"ThreadChoice({self.count} of {self.counts[-1]})"
