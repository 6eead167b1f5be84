"""L-BFGS by shards: the loss of all rows and its gradient are sums of the tree, whoever computes the leaves."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sharded import N, bits, table
from thread_group import agreed

import xpnn
from xpnn.distributed import Alone, ArrayShards
from xpnn.errors import OptionError


def make(dtype="float32", backend="numpy", **options):
    net = xpnn.mlp([4, 16, 2], activation="tanh", seed=1, dtype=dtype, backend=backend)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.LBFGS(ftol=0.0), **options)


def fit(trainer, group=None, shards=6, **options):
    X, y = table()
    trainer.fit(
        X, y, shards=shards, group=group, **{"epochs": 12, "batch_size": 50, "validation_fraction": 0.2} | options
    )
    return bits(trainer)


WEIGHT = np.where(np.arange(N) < 60, 0.0, np.arange(N) / N)
CASES = {
    "plain": ({}, {}),
    "a penalty": ({"regularizer": xpnn.L2(1e-3)}, {}),
    "several slices a shard": ({}, {"batch_size": 7}),
    "weights, some shards of none": (
        {},
        {"sample_weight": WEIGHT, "validation_fraction": 0.0, "class_weight": "balanced"},
    ),
    "torch": ({"backend": "torch"}, {"epochs": 4}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_those_of_one_process(name):
    made, options = CASES[name]
    if name == "torch":
        pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    alone = fit(make(**made), **options)
    for size in (2, 5):
        assert agreed(size, lambda group: fit(make(**made), group, **options)) == alone


def test_one_shard_is_no_shard_and_six_are_close():
    plain, one, six = make(dtype="float64"), make(dtype="float64"), make(dtype="float64")
    assert fit(plain, shards=None, epochs=8) == fit(one, shards=1, epochs=8)
    fit(six, epochs=8)
    np.testing.assert_allclose(six.net.store.values, plain.net.store.values, rtol=1e-6, atol=1e-8)
    assert six.history["accuracy"][-1] == pytest.approx(plain.history["accuracy"][-1])
    assert six.history["loss"][-1] < six.history["loss"][0]


def test_rows_of_ones_own_shards():
    X, y = table()
    edges = [0, 40, 40, 47, 150, N]
    rows = ArrayShards([(X[a:b], y[a:b], WEIGHT[a:b]) for a, b in itertools.pairwise(edges)])

    def work(group):
        trainer = make()
        trainer.fit(rows, epochs=6, batch_size=30, X_val=rows, group=group)
        return bits(trainer)

    alone = work(Alone())
    assert agreed(3, work) == alone


def test_it_goes_on_with_another_number_of_processes(tmp_path):
    path = tmp_path / "run.safetensors"

    def begin(group):
        trainer = make()
        fit(trainer, group, epochs=5)
        if group.rank == 0:
            trainer.save(path)

    agreed(3, begin)

    def rest(group):
        return fit(xpnn.Trainer.load(path), group, epochs=7)

    assert agreed(2, rest) == fit(make())


def test_local_steps_have_no_line_search():
    with pytest.raises(OptionError, match=r"LBFGS takes all rows at once by a line search .* no use for sync_every"):
        fit(make(), sync_every=2)
