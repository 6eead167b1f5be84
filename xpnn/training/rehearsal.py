"""Parts of somebody's own, tried before the first step of a fit: what only shows in what they leave behind.

What their passes return is looked at when they are first called (`xpnn.layers.plan`, `xpnn.losses`).
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from .._typing import Array, Namespace
from ..contract import check_array, check_assigned, check_call, check_hooks, foreign, mark_gradients, what
from ..errors import OptionError, XpnnError
from ..layers.base import walk
from ..metrics import Metric
from ..schedules import Schedule
from .callbacks import HOOKS
from .feed import Feed
from .step import Tally, Training

__all__ = ["rehearse"]

# Rows to try layers on.
_ROWS = 8


def rehearse(training: Training, feed: Feed) -> None:
    """Raise OptionError where a callback, schedule, layer, penalty or metric of somebody's own cannot do its part."""
    for callback in training.callbacks:
        if foreign(callback):
            check_hooks(callback, HOOKS)
    driven = {
        "the learning rate": training.schedule,
        "the rates of dropout": training.dropout_schedule,
        "the weight decay": training.weight_decay_schedule,
    }
    for what_for, schedule in driven.items():
        if schedule is not None and foreign(schedule):
            _check_schedule(schedule, what_for)
    trained = any(foreign(layer) and layer.param_specs() for layer in walk(training.net.layers))
    penalized = training.regularizer is not None and foreign(training.regularizer)
    if trained or penalized or any(map(foreign, training.metrics)):
        _try_step(training, feed)


def _check_schedule(schedule: Schedule, what_for: str) -> None:
    where = f"{type(schedule).__name__}.__call__"
    check_call(schedule, where, "t")
    factor = schedule(0.0)
    if not isinstance(factor, int | float | np.number) or not 0 <= factor < np.inf:
        raise OptionError(f"{where}: expected a factor >= 0 on {what_for}, got {what(factor)}. Return a number.")


def _try_step(training: Training, feed: Feed) -> None:
    """Make the passes of a step over some rows: are all gradients assigned, do penalty and metrics give numbers?

    Copies of the parts do it, over the network's memory, and buffers and gradients are put back.
    """
    store, backend = training.net.store, training.net.backend
    kept = [(array, backend.copy(array)) for array in (store.buffers, store.grads)]
    try:
        net, loss, penalty = training.net.twin(), copy.deepcopy(training.loss), copy.deepcopy(training.regularizer)
        x, y, _ = next(feed.batches(None, min(len(feed), _ROWS)))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            pred, caches = net.forward(x, train=True)
            value, d_pred = loss.value_and_grad(pred, y)
            layers = list(walk(net.layers))
            marked = mark_gradients(layers, net.grads)
            net.backward(d_pred, caches)
            check_assigned(layers, marked)
            if penalty is not None and foreign(penalty):
                added = penalty.add(store)
                check_array(added, f"{type(penalty).__name__}.add", "the penalty", store.replicas, None)
            for metric in filter(foreign, training.metrics):
                _check_metric(metric, loss.outputs(pred) if loss.classifies else loss.link(pred), y, backend.xp)
            tally = Tally(training, 1)
            tally.add(0, value, pred, y, None)
            tally.row(np.ones(1))
    except XpnnError:
        raise
    except Exception:  # what cannot be copied, or not be done with so few rows, is met in the first step
        return
    finally:
        for array, before in kept:
            array[...] = before


def _check_metric(metric: Metric, outputs: Array, y: Array, xp: Namespace) -> None:
    """Raise unless a metric of somebody's own gives a value for each row, and as many sums as it says."""
    kind = type(metric).__name__
    if type(metric).sums is Metric.sums:
        each = metric.per_sample(xp, outputs, y)
        check_array(each, f"{kind}.per_sample", "a value for each row", tuple(outputs.shape[:-1]), None)
    sums: Any = metric.sums(xp, outputs, y, None)
    if not isinstance(sums, tuple | list) or len(sums) != metric.width:
        raise OptionError(
            f"{kind}.sums: expected {metric.width} sums, as width says, got {what(sums)}. Return a tuple."
        )
    for part in sums:
        check_array(part, f"{kind}.sums", "sums over the rows", tuple(outputs.shape[:-2]), None, hint="Sum over rows.")
