"""What the processes of the tests run: one training, whose hash and events each rank prints as a line of JSON.

python work.py mpi|torch|alone SCENARIO FOLDER
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import xpnn
from xpnn.distributed import ArrayShards, ShardedRows, Tree, tree

N, EPOCHS, SHARDS = 1001, 4, 8


def table():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, 6)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] + X[:, 2] > 0.2).astype(np.int64)


def make(folder, rank, scenario):
    """A trainer with everything in it, which goes on from its checkpoint where there is one."""
    path = Path(folder, "run.safetensors")
    callbacks = [xpnn.Checkpoint(path, None, trainer=True, every_steps=5)]
    callbacks += [Trouble(rank, scenario, folder)] if rank == 1 else []
    if scenario in ("goes on", "killed once") and path.exists():
        return xpnn.Trainer.load(path, callbacks=callbacks)
    net = xpnn.mlp([6, 64, 64, 2], norm="batch", dropout=0.2, seed=1)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01), callbacks=callbacks, clip_norm=0.5)


class Trouble(xpnn.Callback):
    """What happens on rank 1."""

    def __init__(self, rank, scenario, folder):
        self.scenario, self.folder = scenario, folder

    def on_batch_end(self, trainer):
        if self.scenario == "slow":
            time.sleep(0.005)
        if trainer.step == 17 and self.scenario == "error":
            raise ValueError("the disk is full")
        if trainer.step == 17 and self.scenario == "killed once" and not Path(self.folder, "killed").exists():
            Path(self.folder, "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if trainer.step == 17 and self.scenario == "nan":
            trainer.net.store.values[3] = np.nan

    def on_fit_begin(self, trainer):
        if self.scenario.startswith("kill:"):
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, float(self.scenario.split(":")[1]))


class Files(ShardedRows):
    """Memory maps of unequal length, one of them empty."""

    edges = (0, 300, 300, 310, 700, N)
    lengths = (300, 0, 10, 390, 301)

    def __init__(self, folder):
        self.folder = folder

    def read(self, number):
        X = np.load(Path(self.folder, "X.npy"), mmap_mode="r")
        rows = slice(self.edges[number], self.edges[number + 1])
        return ArrayShards([(X[rows], table()[1][rows])]).read(0)


def run(group, scenario, folder):
    trainer = make(folder, group.rank, scenario)
    X, y = table()
    options = {"epochs": EPOCHS - trainer.epoch, "batch_size": 128, "group": group}
    if scenario == "files":
        trainer.fit(Files(folder), X_val=Files(folder), **options)
    else:
        if scenario == "bad row" and group.rank == 1:
            X[5, 2] = np.inf
        trainer.fit(X, y, shards=SHARDS, validation_fraction=0.2, **options)
    store = trainer.net.store
    return hashlib.sha256(store.values.tobytes() + store.buffers.tobytes()).hexdigest()[:16], trainer.history[
        "val_loss"
    ]


def sums(group):
    """Long and short vectors, by each way of adding them up."""
    seen = hashlib.sha256()
    for n in (5, 70_001):
        for short in (0, 1 << 30):
            tree._SHORT = short
            vectors = [np.random.default_rng(shard).normal(size=n).astype(np.float32) for shard in range(7)]
            seen.update(Tree(7, group).sum(np, lambda shard: vectors[shard].copy()).tobytes())  # noqa: B023
    return seen.hexdigest()[:16]


def main():
    engine, scenario, folder = sys.argv[1:4]
    group = {"mpi": xpnn.distributed.mpi, "torch": xpnn.distributed.torch, "alone": xpnn.distributed.Alone}[engine]()
    if group.rank == 1 and scenario == "raises before":
        raise ValueError("no such table")
    if group.rank == 1 and scenario == "ends before":
        return
    if scenario == "all":
        done = {"sums": sums(group), "whole": run(group, "whole", folder), "files": run(group, "files", folder)}
    else:
        done = {"whole": run(group, scenario, folder)}
    sys.stdout.write(json.dumps({"rank": group.rank, "size": group.size, "done": done}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
