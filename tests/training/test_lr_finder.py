"""The learning-rate sweep: what it finds, and that it leaves no trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.backend import to_numpy
from xpnn.errors import DataError, DivergenceError, LabelError, OptionError
from xpnn.training import lr_finder

X, Y = xpnn.data.make_moons(300, noise=0.1, seed=0)


def make(backend="numpy", **options):
    net = xpnn.mlp([2, 16, 2], norm="batch", dropout=0.2, seed=3, backend=backend, **options)
    return net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.004)


def bits(net, optimizer):
    arrays = {"values": net.store.values, "grads": net.store.grads, "buffers": net.store.buffers, **optimizer.state}
    held = {name: np.array(to_numpy(a)).tobytes() for name, a in arrays.items()}
    return held, optimizer.t, optimizer.lr, sorted(vars(optimizer)), {k: id(a) for k, a in optimizer.state.items()}


def test_the_suggestion_trains_and_rates_grow_geometrically():
    net, loss, optimizer = xpnn.mlp([2, 16, 2], seed=0), xpnn.CrossEntropy(), xpnn.Adam()
    result = xpnn.find_lr(net, loss, optimizer, X, Y)
    assert len(result.lrs) == len(result.losses) == len(result.smoothed) == 100
    np.testing.assert_allclose(result.lrs, np.geomspace(1e-6, 1.0, 100))
    assert result.stopped == "lr_max"
    assert "100 steps" in repr(result)
    trainer = xpnn.Trainer(net, loss, xpnn.Adam(lr=result.suggestion))
    assert trainer.fit(X, Y, epochs=30, batch_size=64)["accuracy"][-1] > 0.95


def test_losses_are_those_of_training_by_hand():
    """Four steps without shuffling surprises: one batch holds all rows."""
    net, loss = xpnn.mlp([2, 8, 2], seed=1, dtype="float64"), xpnn.CrossEntropy()
    result = xpnn.find_lr(net, loss, xpnn.SGD(123.0), X, Y, lr_min=0.01, lr_max=0.08, steps=4, batch_size=300)
    twin, expected = net.copy(), []
    for lr in (0.01, 0.02, 0.04, 0.08):
        out, caches = twin.forward(X, train=True)
        value, d_out = loss.value_and_grad(out, Y)
        twin.backward(d_out, caches)
        expected.append(float(value))
        twin.store.values -= lr * twin.store.grads
    np.testing.assert_allclose(result.losses, expected, rtol=1e-12)
    np.testing.assert_allclose(result.lrs, [0.01, 0.02, 0.04, 0.08])


@pytest.mark.parametrize("spec", ["numpy", "torch:cpu", "strict", "cupy"])
def test_nothing_is_touched(spec):
    net, loss, optimizer = make(backend_or_skip(spec))
    trainer = xpnn.Trainer(net, loss, optimizer)
    trainer.fit(X, Y, epochs=1)
    before = bits(net, optimizer)
    first = xpnn.find_lr(net, loss, optimizer, X, Y, steps=20)
    assert bits(net, optimizer) == before
    second = xpnn.find_lr(net, loss, optimizer, X, Y, steps=20)
    assert first.losses.tobytes() == second.losses.tobytes()
    assert first.suggestion == second.suggestion


@pytest.mark.parametrize("with_state", [False, True])
def test_training_goes_on_as_if_there_had_been_no_sweep(with_state):
    weights = []
    for sweep in (False, True):
        net, loss, optimizer = make()
        trainer = xpnn.Trainer(net, loss, optimizer)
        if with_state:
            trainer.fit(X, Y, epochs=1)
        if sweep:
            xpnn.find_lr(net, loss, optimizer, X, Y, steps=20)
        trainer.fit(X, Y, epochs=2)
        weights.append(net.store.values.tobytes())
    assert weights[0] == weights[1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_everything(kind, monkeypatch):
    net, loss, optimizer = make()
    xpnn.Trainer(net, loss, optimizer).fit(X, Y, epochs=1)
    before = bits(net, optimizer)
    calls = []
    step = lr_finder.Trainer.train_step

    def interrupted(self, *args):
        calls.append(1)
        if len(calls) == 7:
            raise kind
        return step(self, *args)

    monkeypatch.setattr(lr_finder.Trainer, "train_step", interrupted)
    with pytest.raises(kind):
        xpnn.find_lr(net, loss, optimizer, X, Y)
    assert len(calls) == 7
    assert bits(net, optimizer) == before


@pytest.mark.parametrize("lr_max", [1e4, 1e30])
def test_divergence_ends_the_sweep_without_an_error(lr_max):
    net = xpnn.mlp([2, 16, 1], seed=0)
    optimizer = xpnn.SGD(0.1)
    before = bits(net, optimizer)
    target = X[:, :1] * 3 + X[:, 1:]
    result = xpnn.find_lr(net, xpnn.MeanSquaredError(), optimizer, X, target, lr_max=lr_max)
    assert result.stopped == "diverged"
    assert len(result.lrs) == len(result.losses) < 100
    assert np.isfinite(result.losses).all()
    assert result.suggestion is not None
    assert 1e-3 < result.suggestion < 1.0
    assert bits(net, optimizer) == before


def test_rates_too_small_to_do_anything_suggest_nothing():
    net = xpnn.mlp([2, 16, 2], seed=0)
    result = xpnn.find_lr(net, xpnn.CrossEntropy(), xpnn.SGD(0.1), X, Y, lr_min=1e-12, lr_max=1e-10)
    assert result.suggestion is None
    assert "suggestion=None" in repr(result)


def test_replicas_are_swept_together():
    net = xpnn.mlp([2, 16, 2], seed=0, replicas=3)
    optimizer = xpnn.Adam(lr=[0.1, 0.01, 0.001])
    result = xpnn.find_lr(net, xpnn.CrossEntropy(), optimizer, X, Y, steps=60)
    alone = xpnn.find_lr(xpnn.mlp([2, 16, 2], seed=1), xpnn.CrossEntropy(), xpnn.Adam(), X, Y, steps=60)
    assert 0.1 < result.suggestion / alone.suggestion < 10
    assert optimizer.lr == [0.1, 0.01, 0.001]


def test_the_suggestion_is_a_tenth_of_the_rate_of_the_lowest_loss():
    net = xpnn.mlp([2, 16, 2], seed=0)
    raw = xpnn.find_lr(net, xpnn.CrossEntropy(), xpnn.SGD(1.0), X, Y, lr_max=10.0, batch_size=300, smoothing=0.0)
    np.testing.assert_allclose(raw.smoothed[: len(raw.lrs) // 2], raw.losses[: len(raw.lrs) // 2])
    assert raw.suggestion == pytest.approx(raw.lrs[np.argmin(raw.losses)] / 10)
    smooth = xpnn.find_lr(net, xpnn.CrossEntropy(), xpnn.SGD(1.0), X, Y, lr_max=10.0, batch_size=300)
    assert np.abs(np.diff(smooth.smoothed)).sum() < np.abs(np.diff(smooth.losses)).sum()


def test_rates_that_scale_with_the_inputs():
    """Inputs ten times as large need a rate a hundred times smaller."""
    found = []
    for scale in (1.0, 10.0):
        net = xpnn.Sequential(xpnn.Linear(1, bias=False, init="zeros"), n_in=2, dtype="float64")
        data = scale * X
        target = X[:, :1] + X[:, 1:]
        found.append(
            xpnn.find_lr(
                net, xpnn.MeanSquaredError(), xpnn.SGD(1.0), data, target,
                lr_min=1e-6, lr_max=1e2, steps=81, batch_size=300, smoothing=0.5,
            )
        )  # fmt: skip
    assert found[0].suggestion / found[1].suggestion == pytest.approx(100, rel=0.35)


def test_the_picture():
    pytest.importorskip("matplotlib")
    net = xpnn.mlp([2, 16, 2], seed=0)
    result = xpnn.find_lr(net, xpnn.CrossEntropy(), xpnn.Adam(), X, Y, steps=30)
    ax = result.plot()
    assert ax.get_xscale() == "log"
    marker = next(line for line in ax.lines if line.get_label().startswith("suggestion"))
    assert marker.get_xdata()[0] == result.suggestion


def test_errors():
    net, loss, optimizer = xpnn.mlp([2, 4, 2]), xpnn.CrossEntropy(), xpnn.Adam()
    call = lambda *data, **options: xpnn.find_lr(net, loss, optimizer, *(data or (X, Y)), **options)  # noqa: E731
    with pytest.raises(OptionError, match=r"find_lr: expected 0 < lr_min < lr_max, got 1\.0 and 0\.1"):
        call(lr_min=1.0, lr_max=0.1)
    with pytest.raises(OptionError, match=r"find_lr: expected steps to be a positive integer, got 0"):
        call(steps=0)
    with pytest.raises(OptionError, match=r"find_lr: expected at least 3 steps, got 2"):
        call(steps=2)
    with pytest.raises(OptionError, match=r"find_lr: expected batch_size to be a positive integer, got 1\.5"):
        call(batch_size=1.5)
    with pytest.raises(OptionError, match=r"find_lr: expected 0 <= smoothing < 1, got 1\.0"):
        call(smoothing=1.0)
    with pytest.raises(OptionError, match=r"expected net to be a network, got 3"):
        xpnn.find_lr(3, loss, optimizer, X, Y)
    with pytest.raises(OptionError, match=r"expected optimizer to be an optimizer object"):
        xpnn.find_lr(net, loss, xpnn.Adam, X, Y)
    other = copy.deepcopy(optimizer)
    xpnn.Trainer(xpnn.mlp([2, 300, 2]), loss, other).fit(X, Y, epochs=1)
    with pytest.raises(OptionError, match=r"find_lr: expected an optimizer that belongs to this network or to none"):
        xpnn.find_lr(net, loss, other, X, Y)
    with pytest.raises(DataError, match=r"find_lr: expected finite float"):
        call(np.full((4, 2), np.nan), np.zeros(4, int))
    with pytest.raises(LabelError):
        call(X, Y + 7)
    net.store.values[...] = np.inf
    with pytest.raises(DivergenceError, match=r"find_lr: the loss is nan before the first step\."):
        call()
