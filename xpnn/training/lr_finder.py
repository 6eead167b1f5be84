"""A learning rate from one short sweep."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..arguments import count, number
from ..backend import to_numpy
from ..data.batching import epoch_order
from ..errors import DivergenceError, OptionError
from ..losses import Loss
from ..model import Sequential
from ..optim import LBFGS, Optimizer
from ..plots import plot_lr_finder
from .checks import Rows, checked_feed, expect
from .rehearsal import rehearse
from .step import Step
from .trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LRFinderResult", "find_lr"]

# A smoothed loss of this many times the best one ends the sweep.
_TOO_HIGH = 4.0


@dataclass(frozen=True, eq=False)
class LRFinderResult:
    """What `find_lr` saw.

    Attributes
    ----------
    suggestion : float or None
        A tenth of the rate at which the smoothed loss was lowest; None if it fell by no more than its noise.
    lrs : numpy.ndarray of shape (n,)
        The rates tried, ascending.
    losses : numpy.ndarray of shape (n,)
        The loss of the batch of each step, before the step was made with its rate; for replicas their mean.
    smoothed : numpy.ndarray of shape (n,)
        The same without the noise of single batches; losses far above the first count as little above it.
    stopped : {"lr_max", "diverged"}
        Whether the sweep went to its end, or the loss rose out of bounds.
    """

    suggestion: float | None
    lrs: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    stopped: Literal["lr_max", "diverged"]

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the sweep; see `xpnn.plots.plot_lr_finder`."""
        return plot_lr_finder(self, ax=ax)

    def __repr__(self) -> str:
        shown = "None" if self.suggestion is None else f"{self.suggestion:.3g}"
        return f"LRFinderResult(suggestion={shown}, {len(self.lrs)} steps, stopped={self.stopped!r})"


def find_lr(
    net: Sequential,
    loss: Loss,
    optimizer: Any = None,
    X: Any = None,
    y: Any = None,
    *,
    lr_min: float = 1e-6,
    lr_max: float = 1.0,
    steps: int = 100,
    batch_size: int = 64,
    smoothing: float = 0.9,
    seed: int = 0,
) -> LRFinderResult:
    r"""Try ever larger learning rates for a few steps and suggest one [1]_.

    Step `i` of `n` is made with :math:`\eta_i = \eta_\min (\eta_\max / \eta_\min)^{i / (n - 1)}`.  The sweep
    ends early when the smoothed loss exceeds four times its best value (and lost 30 % of its fall), or a loss is
    not finite.  The suggestion is a tenth of the rate at which the smoothed loss is lowest.  (The steepest point of
    the curve, the other common reading, jumps with the noise of small batches.)  Where the loss still falls at
    `lr_max`, a wider sweep may suggest more.

    All of it happens on copies.  The network (values, buffers, gradients), the optimizer (state, step count,
    rate) and every stream of random numbers are as they were, also after Ctrl-C.

    Parameters
    ----------
    net : Sequential
        The network, where training is to begin.
    loss : Loss
        Takes the raw outputs.
    optimizer : Optimizer
        Its rule and state are used; its own rate (for replicas: rates) is not.
    X : array of shape (n, n_in)
        Inputs, of any library.
    y : array of shape (n,) or (n, n_targets)
        Targets.
    lr_min, lr_max : float, default=1e-6 and 1.0
        The first and the last rate.
    steps : int, default=100
        Number of rates, at least 3.  Data with fewer batches are gone through again in a new order.
    batch_size : int, default=64
        Rows of one step: the one to train with, for the right rate depends on it.
    smoothing : float, default=0.9
        Decay of the moving average, from 0 (none) to below 1.  The sweep's end follows the usual, lagging
        average; `smoothed` averages forwards and backwards, so that it does not lag behind the rate.
    seed : int, default=0
        Draws the order of the rows.

    Returns
    -------
    LRFinderResult
        With `suggestion`, `lrs`, `losses`, and `plot`.

    Raises
    ------
    OptionError
        If an option is out of range, or the optimizer belongs to another network.
    ShapeError, LabelError, DataError
        If the data do not fit.
    DivergenceError
        If already the first loss, before any step, is not finite.  Divergence later is a part of the sweep and
        raises nothing.

    References
    ----------
    .. [1] Smith, "Cyclical learning rates for training neural networks", WACV 2017, section 3.3: here with
       geometric instead of linear growth, and a rule for the reading that Smith leaves to the eye.

    Examples
    --------
    >>> import xpnn
    >>> X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    >>> net, optimizer = xpnn.mlp([2, 16, 2], seed=0), xpnn.Adam()
    >>> result = xpnn.find_lr(net, xpnn.CrossEntropy(), optimizer, X, y)
    >>> 1e-3 < result.suggestion < 1.0
    True
    >>> optimizer.t
    0
    """
    where = "find_lr"
    low, high = number(lr_min), number(lr_max)
    if not 0 < low < high < math.inf:
        raise OptionError(f"{where}: expected 0 < lr_min < lr_max, got {lr_min!r} and {lr_max!r}. Try 1e-6 and 1.0.")
    steps, batch_size = count(steps, where, "steps"), count(batch_size, where, "batch_size")
    if steps < 3:
        raise OptionError(f"{where}: expected at least 3 steps, got {steps}. Try 100.")
    if not 0 <= number(smoothing) < 1:
        raise OptionError(f"{where}: expected 0 <= smoothing < 1, got {smoothing!r}. Try 0.9.")
    if isinstance(net, Trainer):
        raise OptionError(
            f"{where}: expected a network, a loss and an optimizer, got a Trainer. "
            f"Write {where}(trainer.net, trainer.loss, trainer.optimizer, X, y)."
        )
    expect(net, Sequential, "net", "a network", where=where)
    expect(loss, Loss, "loss", "a loss object such as xpnn.CrossEntropy()", where=where)
    expect(optimizer, Optimizer, "optimizer", "an optimizer object such as xpnn.Adam(lr=0.001)", where=where)
    if isinstance(optimizer, LBFGS):
        raise OptionError(f"{where}: expected an optimizer with a learning rate, got LBFGS. Its line search finds one.")
    if any(tuple(a.shape) != tuple(net.store.values.shape) for a in optimizer.state.values()):
        raise OptionError(
            f"{where}: expected an optimizer that belongs to this network or to none, got another network's. "
            "Make a new one."
        )
    with net.backend.active():
        trial, rule = net.copy(), copy.deepcopy(optimizer)
        rule.lr = 1.0
        trainer = Trainer(trial, loss, rule, metrics=(), seed=seed)
        rates = np.geomspace(low, high, steps)
        losses = _sweep(trainer, X, y, rates, batch_size, float(smoothing))
    seen = np.asarray(losses)
    lrs = rates[: len(seen)]
    suggestion, smoothed = _read(lrs, seen, float(smoothing))
    return LRFinderResult(suggestion, lrs, seen, smoothed, "lr_max" if len(seen) == steps else "diverged")


def _sweep(trainer: Trainer, X: Any, y: Any, rates: np.ndarray, batch_size: int, smoothing: float) -> list[float]:
    """Train with each rate in turn; return the losses up to where they leave all bounds."""
    feed = checked_feed("find_lr", trainer.net, trainer.loss, Rows(X, y))
    rehearse(trainer, feed)
    rule, store = trainer.optimizer, trainer.net.store
    rule.bind(store)
    losses: list[float] = []
    total = weight = start = 0.0
    best, begun = math.inf, rule.t
    batches = (
        batch
        for epoch in range(len(rates))  # more than enough: each has at least one batch
        for batch in feed.batches(epoch_order(len(feed), trainer.seed, epoch), batch_size)
    )
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for slot, (rate, (x, target, _)) in enumerate(zip(rates, batches, strict=False)):
            step = Step(slot, slot, False, float(x.shape[0]), rule.numbers(begun + slot + 1, float(rate)))
            value, _ = trainer.train_step(x, target, None, step)
            seen = float(to_numpy(value).astype(np.float64).mean())
            if not math.isfinite(seen):
                if losses:
                    break
                raise DivergenceError(
                    f"find_lr: the loss is {seen} before the first step. Look at the scale of the inputs and at the "
                    "initial weights; no learning rate is to blame."
                )
            losses.append(seen)
            total, weight = smoothing * total + (1 - smoothing) * seen, smoothing * weight + (1 - smoothing)
            average = total / weight
            best = min(best, average)
            start = average if slot == 0 else start
            if average - best > (_TOO_HIGH - 1.0) * max(abs(best), 0.1 * (start - best)):
                break
    return losses


def _average(values: np.ndarray, decay: float) -> np.ndarray:
    """Return the exponential moving average without the bias of its beginning."""
    out = np.empty(len(values))
    total = weight = 0.0
    for i, value in enumerate(values):
        total, weight = decay * total + (1 - decay) * value, decay * weight + (1 - decay)
        out[i] = total / weight
    return out


def _read(lrs: np.ndarray, losses: np.ndarray, smoothing: float) -> tuple[float | None, np.ndarray]:
    """Return a tenth of the rate of the lowest smoothed loss, None where nothing falls, and the smoothed losses."""
    head = losses[: max(len(losses) // 10, 1)]
    begin = float(np.median(head))
    # How far the loss explodes at the end says nothing of its descent, and would smear over the rates before.
    kept = np.minimum(losses, begin + 0.5 * (begin - float(losses.min())) + float(np.ptp(head)))
    smoothed = 0.5 * (_average(kept, smoothing) + _average(kept[::-1], smoothing)[::-1])
    lowest = int(np.argmin(smoothed))
    fall = begin - float(smoothed[lowest])
    noise = 2.0 * float(np.std(head)) * math.sqrt(1.0 - smoothing)
    if lowest == 0 or fall <= noise:
        return None, smoothed
    return float(lrs[lowest]) / 10.0, smoothed
