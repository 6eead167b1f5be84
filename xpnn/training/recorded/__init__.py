"""Steps that are recorded once and repeated without Python: CUDA graphs or one kernel on CuPy, traces on NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import OptionError
from ..feed import Feed
from ..step import Training
from . import graphs, persistent, traces
from .runner import Plan, Runner, report

__all__ = ["Runner", "find_runner"]


def find_runner(
    training: Training, feed: Feed, epochs: int, batch_size: int, graph: Any, last: Runner | None = None
) -> Runner | None:
    """Return what makes the steps of a fit that is about to begin, or None if all are to be made one by one.

    With `graph` ``"auto"`` steps are recorded where it can be done and repays itself; with True wherever it can be
    done, and one sentence warns where not.  `last` is the runner of the fit before, which may serve again.
    """
    if graph is False:
        return None
    if graph not in ("auto", True):
        raise OptionError(f"fit: expected graph to be 'auto', True or False, got {graph!r}. Leave it away.")
    plan = Plan(epochs, batch_size, len(feed), feed.width, feed.weight is not None, graph is True)
    found: Runner | str | None
    if training.net.backend.xp is np:
        slow, found = traces.SLOW, traces.plan_traces(training, plan, last)
    else:
        slow, found = graphs.SLOW, graphs.plan_graphs(training, plan)
        if getattr(training.net.backend.ops, "persistent", False):
            made = persistent.plan_persistent(training, plan, found)
            if isinstance(made, str):
                report(persistent.SLOW, made, loud=plan.requested)
            else:
                slow, found = persistent.SLOW, made
    if isinstance(found, str):
        report(slow, found, loud=plan.requested)
        return None
    return found
