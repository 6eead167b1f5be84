"""Steps that compute with packed rows of a table, where that is faster than to encode them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..layers.packed import PackedPlan
from ..model import Sequential
from .feed import Feed

__all__ = ["on_packed"]


@contextlib.contextmanager
def on_packed(net: Sequential, feed: Feed) -> Iterator[Feed]:
    """Give a feed whose batches are packed, which `net` takes meanwhile; or the feed itself.

    It is the feed itself where its rows are not packed, the network begins with other layers, or the operations have
    none that is faster.  What is computed is equal to rounding, so this must not depend on how long a fit is.
    """
    before = net.code, net.plan
    code = None if net.store.replicas else feed.code
    plan = None if code is None else PackedPlan.of(net.layers, code)
    if code is None or plan is None or not net.backend.ops.takes_packed(scaled=plan.scaled):
        yield feed
        return
    net.code, net.plan = code, plan
    try:
        yield feed.left_packed()
    finally:
        net.code, net.plan = before
