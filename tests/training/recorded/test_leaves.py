"""Gradients of shards from traces: equal to the last bit to those made eagerly, and only where they are."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from sharded import N, bits, table
from thread_group import agreed

import xpnn

CASES = {
    "plain": {},
    "batch norm": {"norm": "batch"},
    "layer norm, clipped, with a penalty": {"norm": "layer", "clip_norm": 0.2, "regularizer": xpnn.L2(1e-3)},
    "replicas": {"replicas": 3},
    "no metric": {"metrics": ()},
    "float64": {"dtype": "float64"},
}


def make(compiled, kind=xpnn.Trainer, norm=None, dropout=0.0, replicas=None, dtype="float32", callbacks=(), **options):
    backend = compiled.with_dtype(dtype)
    net = xpnn.mlp([4, 16, 8, 2], norm=norm, dropout=dropout, seed=1, backend=backend)
    if replicas:
        net = xpnn.Sequential(
            xpnn.Linear(8), xpnn.Tanh(), xpnn.Linear(2), n_in=4, replicas=replicas, backend=backend, seed=[1, 2, 3]
        )
    return kind(net, xpnn.CrossEntropy(), xpnn.Adam(0.02), callbacks=callbacks, **options)


def fit(trainer, group=None, **options):
    X, y = table()
    given = {"epochs": 3, "batch_size": 50, "shards": 6, "validation_fraction": 0.2} | options
    seen = []
    trainer.callbacks.append(Watching(seen))
    trainer.fit(X, y, group=group, **given)
    trainer.callbacks.pop()
    return bits(trainer), seen[-1]


class Watching(xpnn.Callback):
    """Notes, after each epoch, which passes a trace makes: by rows, whether it is trusted."""

    on_every_rank = True

    def __init__(self, seen):
        self.seen = seen

    def on_epoch_end(self, trainer):
        found = {} if trainer._runner.traces is None else trainer._runner.traces._found
        self.seen.append({kind.x[-2]: one.trace is not None and one.trusted for kind, one in found.items()})


@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_those_of_eager_passes(compiled, name):
    eagerly, none = fit(make(compiled, **CASES[name]), graph=False)
    traced, kinds = fit(make(compiled, **CASES[name]))
    assert none == {}
    assert kinds[8]
    assert kinds[9]
    assert traced == eagerly


@pytest.mark.parametrize("name", ["plain", "batch norm"])
def test_the_number_of_processes_changes_nothing(compiled, name):
    alone, _ = fit(make(compiled, **CASES[name]), graph=False, epochs=5)

    def work(group):
        found, kinds = fit(make(compiled, **CASES[name]), group, epochs=5)
        assert all(kinds.values())
        assert kinds
        return found

    for size in (2, 3):
        assert agreed(size, work) == alone


def test_weights_of_rows_and_shards_without_any(compiled):
    weight = np.where(np.arange(N) % 3 == 0, 0.0, np.arange(N) / N)
    options = {"sample_weight": weight, "shuffle": False, "batch_size": 30, "shards": 8, "validation_fraction": 0.0}
    eagerly, _ = fit(make(compiled), graph=False, **options)
    traced, kinds = fit(make(compiled), graph=True, **options)
    assert any(kinds.values())
    assert traced == eagerly


def test_shards_of_files_are_traced(compiled):
    X, y = table()
    parts = [(X[:40], y[:40]), (X[40:47], y[40:47]), (X[47:], y[47:])]
    found = []
    for graph in (False, True):
        trainer = make(compiled)
        trainer.fit(xpnn.distributed.ArrayShards(parts), epochs=3, batch_size=50, graph=graph)
        found.append(bits(trainer))
    assert found[0] == found[1]


def test_what_a_callback_changes_is_seen(compiled):
    class Wider(xpnn.Callback):
        def on_epoch_end(self, trainer):
            trainer.net.layers[1].negative_slope = 0.1 * trainer.epoch

    def changing():
        net = xpnn.Sequential(xpnn.Linear(8), xpnn.LeakyReLU(0.01), xpnn.Linear(2), n_in=4, backend=compiled, seed=1)
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(0.02), callbacks=[Wider()])

    assert fit(changing())[0] == fit(changing(), graph=False)[0]


class Fading(xpnn.Trainer):
    """Computes with a number that Python counts: what a trace would not see."""

    calls = 0

    def data_gradients(self, x, y, weight, step):
        value, pred = super().data_gradients(x, y, weight, step)
        self.net.store.grads *= 1.0 / (1 + self.step)
        return value, pred


def test_what_is_no_array_work_is_found_out(compiled):
    eagerly, none = fit(make(compiled, Fading))
    assert none == {}
    with pytest.warns(RuntimeWarning, match=r"the gradients of shards are made in Python: replayed, they differ"):
        traced, kinds = fit(make(compiled, Fading), graph=True)
    assert not any(kinds.values())
    assert traced == eagerly


def test_why_they_are_made_in_python_is_said(compiled, caplog):
    caplog.set_level(logging.DEBUG, logger="xpnn")
    X, y = table()
    make(compiled).fit(X, y, epochs=1, batch_size=100, shards=4)
    assert "12 of them do not repay a trace" in caplog.text
    assert fit(make(compiled, dropout=0.1))[0] == fit(make(compiled, dropout=0.1), graph=False)[0]
