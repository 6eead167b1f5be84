"""The choice of what makes the steps of a fit."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import OptionError
from ..feed import Feed
from ..step import Training
from . import graphs, traces
from .runner import Plan, Runner, report

__all__ = ["find_runner"]


def find_runner(
    training: Training, feed: Feed, epochs: int, batch_size: int, graph: Any, last: Runner | None = None
) -> Runner | None:
    """Return what makes the steps of a fit that is about to begin, or None if all are to be made one by one.

    Parameters
    ----------
    training : Training
        With its optimizer bound, and its operations chosen.
    feed : Feed
        The training rows.
    epochs, batch_size : int
        Of the fit.
    graph : {"auto", True, False}
        ``"auto"`` records where it can be done and repays itself; True wherever it can be done, and warns in one
        sentence where not.
    last : Runner, optional
        That of the fit before, which may serve again.
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
    if isinstance(found, str):
        report(slow, found, loud=plan.asked_for)
        return None
    return found
