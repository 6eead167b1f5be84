"""Local SGD: shards that move alone for some steps, on any number of processes."""

from __future__ import annotations

import numpy as np
import pytest
from sharded import Failing, bits, table
from thread_group import agreed

import xpnn
from xpnn.errors import DivergenceError, OptionError


def make(rule=None, callbacks=(), **options):
    net = xpnn.mlp([4, 16, 2], norm=options.pop("norm", None), dropout=options.pop("dropout", 0.0), dtype="float64")
    return xpnn.Trainer(net, xpnn.CrossEntropy(), rule or xpnn.AdamW(0.02), callbacks=callbacks, **options)


def fit(trainer, group=None, **options):
    X, y = table(117)
    given = {"epochs": 2, "batch_size": 20, "shards": 4, "sync_every": 3, "validation_fraction": 0.1} | options
    trainer.fit(X, y, group=group, **given)
    return trainer


@pytest.mark.parametrize("every", [1, 3, 100])
def test_any_number_of_processes_gives_the_same_bits(every):
    """Six steps an epoch: the last period is shorter, and the last batch ragged."""
    weight = np.where(np.arange(117) % 5 == 0, 0.0, 1.0)
    options = {"norm": "batch", "dropout": 0.2, "clip_norm": 0.5, "regularizer": xpnn.L2(1e-3)}

    def work(group=None):
        return bits(fit(make(**options), group, sync_every=every, sample_weight=weight))

    alone = work()
    for size in (2, 3, 4):
        assert agreed(size, work) == alone


def test_shards_that_meet_after_each_step_make_the_plain_step_of_sgd():
    """The mean of moved weights is the move by the mean gradient, where the rule is linear."""
    plain = fit(make(xpnn.SGD(0.1, momentum=0.9)), shards=None, sync_every=None)
    local = fit(make(xpnn.SGD(0.1, momentum=0.9)), sync_every=1)
    np.testing.assert_allclose(local.net.store.values, plain.net.store.values, rtol=1e-9, atol=1e-12)
    assert local.history["loss"] == pytest.approx(plain.history["loss"], rel=1e-9)
    assert local.optimizer.t == plain.optimizer.t == local.step == plain.step


def test_it_learns_and_is_not_the_plain_training():
    apart, plain = fit(make(), sync_every=5, epochs=30), fit(make(), sync_every=None, epochs=30)
    assert apart.history["accuracy"][-1] > 0.9
    assert np.abs(apart.net.store.values - plain.net.store.values).max() > 1e-6


def test_callbacks_see_the_meetings():
    seen = []
    fit(make(callbacks=[xpnn.LambdaCallback(on_batch_end=lambda trainer: seen.append(trainer.step))]), epochs=2)
    assert seen == [3, 6, 9, 12]


def test_a_fit_that_was_cut_off_goes_on():
    whole = bits(fit(make(dropout=0.1), epochs=3))
    trainer = make(callbacks=[Failing(1, KeyboardInterrupt(), 9)], dropout=0.1)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, epochs=3)
    trainer.callbacks = []
    assert bits(fit(trainer, epochs=3 - trainer.epoch)) == whole


def test_divergence_is_told():
    with pytest.raises(DivergenceError, match="First tensor that is not finite"):
        fit(make(xpnn.SGD(1e200)))


def test_what_it_has_no_use_for():
    with pytest.raises(OptionError, match="expected shards with sync_every, got none"):
        fit(make(), shards=None)
    with pytest.raises(OptionError, match="expected sync_every to be a positive integer"):
        fit(make(), sync_every=0)
    net = xpnn.Sequential(xpnn.Linear(4), xpnn.BatchNorm(sync=True), xpnn.Linear(2), n_in=4)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(), regularizer=xpnn.SpectralNorm(0.1))
    with pytest.raises(OptionError, match=r"sync_every, got BatchNorm\(sync=True\) and a penalty with a state"):
        fit(trainer)
