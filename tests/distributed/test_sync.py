"""Batch norm over all shards: what the plain training does, on any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
from sharded import Failing, bits, table
from thread_group import agreed, on_threads

import xpnn
from xpnn.errors import ProcessError


def network(dtype="float64", backend="numpy", sync=True, replicas=None):
    """Norms in a row, and one within a block."""
    block = xpnn.Residual(xpnn.Linear(8), xpnn.BatchNorm(sync=sync), xpnn.ReLU())
    layers = xpnn.BatchNorm(sync=sync), xpnn.Linear(8), xpnn.BatchNorm(sync=sync), block, xpnn.Dropout(0.0)
    return xpnn.Sequential(*layers, xpnn.Linear(2), n_in=4, dtype=dtype, backend=backend, replicas=replicas)


def fit(net, group=None, callbacks=(), rule=None, **options):
    X, y = table(83)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), rule or xpnn.Adam(0.01), callbacks=callbacks, clip_norm=1.0)
    trainer.fit(X, y, group=group, **{"epochs": 2, "batch_size": 40, "shards": 6} | options)
    return trainer


WEIGHT = np.where(np.arange(83) < 20, 0.0, 1.0 + np.arange(83) % 3)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("replicas", [None, 2])
def test_moments_are_those_of_the_whole_batch(weight, replicas):
    plain = fit(network(replicas=replicas), rule=xpnn.SGD(0.1), shards=None, sample_weight=weight).net.store
    shared = fit(network(replicas=replicas), rule=xpnn.SGD(0.1), sample_weight=weight).net.store
    np.testing.assert_allclose(shared.values, plain.values, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(shared.buffers, plain.buffers, rtol=1e-8, atol=1e-10)
    ghost = fit(network(sync=False, replicas=replicas), rule=xpnn.SGD(0.1), sample_weight=weight).net.store
    assert np.abs(ghost.buffers - plain.buffers).max() > 1e-4


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_any_number_of_processes_gives_the_same_bits(weight):
    """Three rows in the last batch: some processes have none of them."""
    options = {"sample_weight": weight, "shuffle": False}
    alone = bits(fit(network("float32"), **options))
    for size in (2, 3, 6):
        assert agreed(size, lambda group: bits(fit(network("float32"), group, **options))) == alone


def test_other_libraries():
    alone = bits(fit(network("float32", "strict"), epochs=1))
    assert agreed(2, lambda group: bits(fit(network("float32", "strict"), group, epochs=1))) == alone


def test_an_error_in_the_passes_of_one_shard_ends_all():
    class Broken(xpnn.Trainer):
        def data_gradients(self, x, y, weight, step):
            if x.shape[0] == 7 and self.step == 1:
                raise ValueError("seven")
            return super().data_gradients(x, y, weight, step)

    X, y = table(83)

    def work(group):
        kind = Broken if group is None or group.rank == 1 else xpnn.Trainer
        trainer = kind(network("float32"), xpnn.CrossEntropy(), xpnn.Adam())
        trainer.fit(X, y, batch_size=40, shards=6, group=group)

    with pytest.raises(ValueError, match="seven"):
        work(None)
    first, second = on_threads(2, work)
    assert isinstance(first, ProcessError)
    assert str(second) == "seven"


def test_a_fit_that_was_cut_off_goes_on():
    whole = bits(fit(network("float32"), epochs=3))
    stop = Failing(1, KeyboardInterrupt(), 5)
    trainer = xpnn.Trainer(network("float32"), xpnn.CrossEntropy(), xpnn.Adam(0.01), callbacks=[stop], clip_norm=1.0)
    X, y = table(83)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, y, epochs=3, batch_size=40, shards=6)
    trainer.callbacks = []
    trainer.fit(X, y, epochs=3 - trainer.epoch, batch_size=40, shards=6)
    assert bits(trainer) == whole


def test_without_shards_it_is_plain_batch_norm():
    ghost, sync = fit(network(sync=False), shards=None), fit(network(), shards=None)
    assert bits(ghost) == bits(sync)
    assert "sync=True" in repr(xpnn.BatchNorm(sync=True))
    assert "sync" not in repr(xpnn.BatchNorm())
