"""How long a training step takes here: short measurements for one's own sizes, behind ``xpnn bench``.

The project's folder ``benchmarks/`` compares with other libraries and is the place for figures to be published.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .accel.choice import counts_to_try
from .accel.cores import keep_to, thread_limit
from .backend import Backend, get_backend
from .crossover import best_threshold, mlp_params, work_of
from .losses import BinaryCrossEntropy, CrossEntropy
from .model import mlp
from .optim import Adam
from .training import Trainer

__all__ = ["GRID", "StepTime", "crossover_threshold", "products_time", "step_time", "thread_times"]

# (hidden widths, batch size) of networks from tiny to large, for the crossover.
GRID: tuple[tuple[tuple[int, ...], int], ...] = (
    ((16, 16, 8, 2), 32),
    ((64, 64, 32, 10), 32),
    ((128, 128, 64, 10), 128),
    ((784, 256, 128, 10), 32),
    ((784, 256, 128, 10), 128),
    ((784, 256, 128, 10), 1024),
    ((512, 1024, 1024, 10), 256),
    ((784, 2048, 2048, 10), 1024),
)
_ROUNDS = 5


class StepTime(NamedTuple):
    """Seconds of one step, over several rounds of so many steps."""

    median: float
    least: float
    steps: int


def _rounds(run: Callable[[int], float], seconds: float) -> StepTime:
    """Time `run(steps)`, which returns its own seconds, for about `seconds` in all after warming up."""
    steps = 1
    while (took := run(steps)) < seconds / (4 * _ROUNDS) and steps < 1 << 14:
        steps *= 2
    steps = max(int(steps * seconds / _ROUNDS / took), 1)
    times = [run(steps) / steps for _ in range(_ROUNDS)]
    return StepTime(statistics.median(times), min(times), steps)


def _data(sizes: Sequence[int], rows: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.random((rows, sizes[0]), dtype=np.float32)
    if sizes[-1] == 1:
        return X, (X[:, :1] > 0.5).astype(np.float32)
    return X, rng.integers(0, sizes[-1], rows)


# Rows kept for a round: the steps of a longer one go over them again.
_MOST_ELEMENTS = 1 << 24


def step_time(sizes: Sequence[int], batch_size: int, backend: str | Backend, *, seconds: float = 1.0) -> StepTime:
    """Measure a training step (gather, forward, backward, Adam) for about so many seconds.

    The network has the widths `sizes` from input to output.  Steps within an epoch are measured; the checks of the
    data before it do not count.

    Examples
    --------
    >>> step_time([4, 8, 2], 16, "numpy", seconds=0.01).median > 0
    True
    """
    backend = get_backend(backend)
    net = mlp(sizes, backend=backend)
    loss = BinaryCrossEntropy() if sizes[-1] == 1 else CrossEntropy()
    trainer = Trainer(net, loss, Adam(), metrics=())
    most = max(_MOST_ELEMENTS // (batch_size * sizes[0]), 1)  # steps of one epoch
    backend.ops.prepare(1 << 40, net.n_params, batch_size * sum(sizes))  # as before a long training

    def run(steps: int) -> float:
        X, y = _data(sizes, min(steps, most) * batch_size)
        spent = 0.0
        for _ in range(-(-steps // most)):
            spent += trainer.fit(X, y, epochs=1, batch_size=batch_size)["seconds"][-1]
        return spent * steps / (-(-steps // most) * min(steps, most))

    return _rounds(run, seconds)


def thread_times(
    sizes: Sequence[int], batch_size: int, backend: str | Backend = "numpy", *, seconds: float = 1.0
) -> dict[int, float]:
    """Measure the seconds of a training step on NumPy for each number of threads that a fit would try.

    Examples
    --------
    >>> min(thread_times([4, 8, 2], 16, seconds=0.01))
    1
    """
    found = {}
    for count in counts_to_try(thread_limit()):
        before = keep_to(count)
        try:
            found[count] = step_time(sizes, batch_size, backend, seconds=seconds).median
        finally:
            keep_to(before)
    return found


def products_time(sizes: Sequence[int], batch_size: int, *, seconds: float = 1.0) -> StepTime:
    """Measure the bare matrix products of a step in NumPy, into arrays made beforehand: the floor of a processor.

    Examples
    --------
    >>> products_time([4, 8, 2], 16, seconds=0.01).median > 0
    True
    """
    outputs = [np.ones((batch_size, n), np.float32) for n in sizes]
    weights = [np.full((a, b), 1 / a, np.float32) for a, b in itertools.pairwise(sizes)]  # outputs stay near 1
    gradients = [np.empty_like(w) for w in weights]

    def run(steps: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            for i, w in enumerate(weights):
                np.matmul(outputs[i], w, out=outputs[i + 1])
            for i in range(len(weights) - 1, -1, -1):
                np.matmul(outputs[i].T, outputs[i + 1], out=gradients[i])
                if i > 0:
                    np.matmul(outputs[i + 1], weights[i].T, out=outputs[i])
        return time.perf_counter() - began

    return _rounds(run, seconds)


def crossover_threshold(
    gpu: str | Backend,
    *,
    cpu: str | Backend = "numpy",
    seconds: float = 0.5,
    grid: Sequence[tuple[Sequence[int], int]] = GRID,
    measure: Callable[..., StepTime] = step_time,
) -> tuple[float, list[dict[str, Any]]]:
    """Measure each of a grid of (sizes, batch size) on both for so many seconds; tell from which work on the GPU pays.

    Returned are `xpnn.crossover.best_threshold`, in multiply-adds of a step, and a dictionary for each network:
    ``sizes``, ``batch_size``, ``work`` and the seconds of a step on ``cpu`` and ``gpu``.
    """
    rows: list[dict[str, Any]] = []
    for sizes, batch_size in grid:
        row = {"sizes": list(sizes), "batch_size": batch_size, "work": work_of(mlp_params(sizes), batch_size)}
        for side, backend in (("cpu", cpu), ("gpu", gpu)):
            row[side] = measure(sizes, batch_size, backend, seconds=seconds).median
        rows.append(row)
    return best_threshold(*([row[k] for row in rows] for k in ("work", "cpu", "gpu"))), rows
