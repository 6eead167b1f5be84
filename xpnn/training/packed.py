"""Steps that compute with packed rows of a table, where that is faster than to encode them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..layers.packed import PackedPlan, scaled_first
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
    pays = not net.store.replicas and net.backend.ops.takes_packed(scaled=scaled_first(net.layers))
    code = feed.code if pays else None
    plan = None if code is None else PackedPlan.of(net.layers, code)
    if code is None or plan is None:
        yield feed
        return
    net.code, net.plan = code, plan
    try:
        yield feed.left_packed()
    finally:
        net.code, net.plan = before
