"""Rows, results and failures of trainings on several processes."""

from __future__ import annotations

import numpy as np

import xpnn

N = 203


def table(n=N, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4)).astype(np.float32)
    return X, (X[:, 0] + 0.5 * X[:, 1] ** 2 > 0.3).astype(np.int64)


def bits(trainer):
    """Weights, buffers and the history, but for the time."""
    store = trainer.net.store
    rows = [{k: v for k, v in row.items() if k != "seconds"} for row in trainer.history.rows]
    return xpnn.to_numpy(store.values).tobytes(), xpnn.to_numpy(store.buffers).tobytes(), repr(rows)


class Failing(xpnn.Callback):
    def __init__(self, rank, error, step):
        self.rank, self.error, self.at = rank, error, step

    def on_batch_end(self, trainer):
        if self.rank and trainer.step == self.at:
            raise self.error
