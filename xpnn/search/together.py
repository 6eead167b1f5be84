"""How many networks of one shape are trained at once: by a rule, and tried where a search is long enough.

How many are best depends on the machine, the network and the loops in use.  No number changes a result, so before a
search that takes some seconds a few steps are made with as many as the rule says, with more, with fewer, and with one
network after the other, on networks that are thrown away.  Those trials take about a fiftieth of the search.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..accel.choice import quickest
from ..backend import get_backend
from ..crossover import mlp_params
from ..errors import XpnnError
from ..training import Trainer
from .configuration import Common, Plan, build

__all__ = ["Ahead", "AsBefore", "MeasuredSizes", "Size", "Trial", "trials_on"]

#: Says how many networks like a plan's are trained together, of so many.
Size = Callable[[Plan, int], int]
#: Makes some steps of networks and returns the seconds for a step of one; made for a plan and how many are together.
Trial = Callable[[Plan, int], Callable[[], float]]

# Steps of a trial, and seconds that it lasts, at least.
_STEPS, _SECONDS = 16, 0.05
# Of the time of a search, what trials may take; and seconds of a search that are worth any.
_SHARE, _WORTH = 0.02, 3.0
# Seconds that a step of a network takes, at least, and multiply-adds in a second, at most: for a first estimate.
_LEAST, _FASTEST = 5e-6, 3e10
# Seconds of steps that surely repay the loading of compiled loops.
_LOADED = 10.0

_LOG = logging.getLogger("xpnn")


class AsBefore:
    """The sizes of groups that a file has, in the order of the groups."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self._sizes, self._place = list(sizes), 0

    def __call__(self, plan: Plan, count: int) -> int:
        """Return the size of the next group of a shape of which there are `count` networks."""
        if self._place >= len(self._sizes):
            return count
        size = self._sizes[self._place]
        self._place += -(-count // size)
        return size


class Ahead(NamedTuple):
    """What a search will do: rows and networks, epochs of all networks, and the seconds that it may take."""

    rows: int
    networks: int
    epochs: int
    seconds: float = math.inf


class MeasuredSizes:
    """Sizes of groups that were quickest in trials; those of a rule where trials do not pay.

    Parameters
    ----------
    rule : function of a plan
        Returns how many networks to begin with.
    trial : Trial
        Usually `trials_on`'s.
    ahead : Ahead
        The search.
    common : Common
        What all networks share.
    clock : function, default=time.perf_counter
        Tells the time in seconds.
    """

    def __init__(
        self,
        rule: Callable[[Plan], int],
        trial: Trial,
        ahead: Ahead,
        common: Common,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._rule, self._trial, self._ahead, self._common, self._clock = rule, trial, ahead, common, clock

    def __call__(self, plan: Plan, count: int) -> int:
        """Return how many networks like that of `plan` are best trained together, of `count` in all."""
        guess, ahead, common = self._rule(plan), self._ahead, self._common
        if get_backend(common.backend).name != "numpy" or plan.alone or count == 1:
            return guess
        steps = count * ahead.epochs / ahead.networks * math.ceil(ahead.rows / plan.batch_size)
        most = ahead.seconds * count / ahead.networks
        work = 3.0 * plan.batch_size * mlp_params([common.n_in, *plan.hidden, common.n_out])
        if min(steps * (_LEAST + work / _FASTEST), most) < _WORTH:
            return guess
        first = min(guess, 1 << (count.bit_length() - 1))
        sizes = sorted(n for n in {1, max(first // 2, 1), first, 2 * first} if n <= count)
        ways = {size: self._way(plan, size) for size in sizes}
        try:
            found = quickest(ways, first, lambda each: _SHARE * min(each * steps, most), clock=self._clock)
        except (XpnnError, ArithmeticError):  # what is wrong with data or options the search itself will tell
            return guess
        if found != first:
            _LOG.info(
                "search: networks like %s are trained %d together, not %d: it is quicker", plan.hidden, found, first
            )
        return guess if found == first else found

    def _way(self, plan: Plan, size: int) -> Callable[[], float]:
        """Return what makes a trial; its networks are built when it is first called."""
        made = functools.cache(functools.partial(self._trial, plan, size))
        return lambda: made()()


def trials_on(data: Mapping[str, Any], common: Common) -> Trial:
    """Return what makes trials on some of the rows of a search."""

    def trial(plan: Plan, size: int) -> Callable[[], float]:
        n, batch_size = int(data["X"].shape[0]), plan.batch_size
        trainer = build([plan] * size, common, replicated=True, pattern=plan.pattern, kind=Trainer)
        # It is worth seconds, so compiled loops are.
        trainer.net.prepare(math.ceil(_LOADED / _LEAST), batch_size)

        def make(steps: int) -> float:
            rows = min(n, steps * batch_size)
            trainer.fit(data["X"][:rows], data["y"][:rows], epochs=1, batch_size=batch_size)
            return float(trainer.history["seconds"][-1]) / (math.ceil(rows / batch_size) * size)

        make(_STEPS)  # what is loaded and recorded first is not theirs
        return functools.partial(make, max(_STEPS, math.ceil(_SECONDS / (make(_STEPS) * size))))

    return trial
