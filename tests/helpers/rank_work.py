"""What the processes of the tests run: trainings, whose hashes and events each rank prints as a line of JSON.

python rank_work.py mpi|torch|sockets|alone SCENARIO FOLDER
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

import xpnn
from xpnn.data import Standardizer
from xpnn.distributed import ArrayShards, ShardedRows, Tree, encoded, fit_encoder, parquet, tree

N, EPOCHS, SHARDS = 1001, 4, 8


def table():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, 6)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] + X[:, 2] > 0.2).astype(np.int64)


def write(folder):
    """Write the rows as a memory map, and as Parquet files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    X, y = table()
    np.save(Path(folder, "X.npy"), X)
    for k, (a, b) in enumerate(itertools.pairwise(Files.edges)):
        columns = {f"x{j}": X[a:b, j] for j in range(6)} | {"y": y[a:b]}
        pq.write_table(pa.table(columns), Path(folder, f"rows-{k}.parquet"))


def make(folder, rank, scenario):
    """A trainer with everything in it, which goes on from its checkpoint where there is one."""
    path = Path(folder, "run.safetensors")
    callbacks = [xpnn.Checkpoint(path, None, trainer=True, every_steps=5), Trouble(rank, scenario, folder)]
    if scenario in ("goes on", "killed once") and path.exists():
        return xpnn.Trainer.load(path, callbacks=callbacks)
    net = xpnn.mlp([6, 64, 64, 2], norm="batch", dropout=0.2, seed=1)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01), callbacks=callbacks, clip_norm=0.5)


class Trouble(xpnn.Callback):
    """What happens on rank 1, or on the rank that is to be killed."""

    def __init__(self, rank, scenario, folder):
        self.rank, self.scenario, self.folder = rank, scenario, folder

    def on_batch_end(self, trainer):
        if self.rank != 1:
            return
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
        kind, *rest = self.scenario.split(":")
        if kind == "kill" and self.rank == int(rest[0]):
            signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
            signal.setitimer(signal.ITIMER_REAL, float(rest[1]) + 1e-6)  # 0 would be none


class Files(ShardedRows):
    """Memory maps of unequal length, two of them empty."""

    edges = (0, 300, 300, 310, 430, 431, 431, 700, 880, N)
    lengths = (300, 0, 10, 120, 1, 0, 269, 180, 121)

    def __init__(self, folder):
        self.folder = folder

    def read(self, number):
        X = np.load(Path(self.folder, "X.npy"), mmap_mode="r")
        rows = slice(self.edges[number], self.edges[number + 1])
        return ArrayShards([(X[rows], table()[1][rows])]).read(0)


def digest(trainer):
    store = trainer.net.store
    bits = hashlib.sha256(store.values.tobytes() + store.buffers.tobytes()).hexdigest()[:16]
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.history.rows]
    return bits, hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def run(group, scenario, folder):
    trainer = make(folder, group.rank, scenario)
    X, y = table()
    if scenario == "bad row" and group.rank == 1:
        X[5, 2] = np.inf
    options = {"epochs": EPOCHS - trainer.epoch, "batch_size": 128, "shards": SHARDS, "validation_fraction": 0.2}
    trainer.fit(X, y, group=group, **options)
    return digest(trainer)


def sums(group):
    """Long and short vectors, by each way of adding them up."""
    seen = hashlib.sha256()
    for n in (5, 70_001):
        for short in (0, 1 << 30):
            tree._SHORT = short
            vectors = [np.random.default_rng(shard).normal(size=n).astype(np.float32) for shard in range(9)]
            seen.update(Tree(9, group).sum(np, lambda shard: vectors[shard].copy()).tobytes())  # noqa: B023
    return seen.hexdigest()[:16]


def small(group, folder, *layers, optimizer=None, rows=None, **options):
    """A small network on the rows, or on some in shards."""
    own = {name: options.pop(name) for name in ("clip_norm", "clip_value", "regularizer") if name in options}
    net = xpnn.Sequential(xpnn.Linear(12), *layers, xpnn.ReLU(), xpnn.Linear(2), n_in=6, seed=2)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), optimizer or xpnn.Adam(0.02), **own)
    given = {"epochs": 2, "batch_size": 128, "group": group} | options
    if rows is None:
        trainer.fit(*table(), shards=SHARDS, **given)
    else:
        trainer.fit(rows, X_val=rows, **given)
    return digest(trainer)


def parquet_rows(group, folder):
    rows = parquet(f"{folder}/rows-*.parquet", target="y")
    return encoded(rows, fit_encoder(Standardizer(), rows, group))


#: What a training can have, each by itself: the last batch has 105 rows, and with 1,000 of them in all one row.
FEATURES = {
    "plain": lambda *at: small(*at),
    "batch norm": lambda *at: small(*at, xpnn.BatchNorm()),
    "synchronized batch norm": lambda *at: small(*at, xpnn.BatchNorm(sync=True), epochs=1),
    "dropout": lambda *at: small(*at, xpnn.Dropout(0.3)),
    "clipping": lambda *at: small(*at, clip_norm=0.1, clip_value=0.02, regularizer=xpnn.L2(1e-3)),
    "ragged batches": lambda *at: small(*at, batch_size=1000, sample_weight=np.arange(N) % 7 / 7.0),
    "memory maps": lambda *at: small(*at, rows=Files(at[1])),
    "parquet": lambda *at: small(*at, rows=parquet_rows(*at)),
    "all rows": lambda *at: small(*at, optimizer=xpnn.LBFGS(), epochs=5),
    "local steps": lambda *at: small(*at, sync_every=3),
}


def main():
    engine, scenario, folder = sys.argv[1:4]
    group = (xpnn.distributed.Alone if engine == "alone" else getattr(xpnn.distributed, engine))()
    if group.rank == 1 and scenario == "raises before":
        raise ValueError("no such table")
    if group.rank == 1 and scenario == "ends before":
        return
    if scenario == "all":
        done = {"sums": sums(group)} | {name: fit(group, folder) for name, fit in FEATURES.items()}
        done["whole"] = run(group, "whole", folder)
    else:
        done = {"whole": run(group, scenario, folder)}
    sys.stdout.write(json.dumps({"rank": group.rank, "size": group.size, "done": done}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
