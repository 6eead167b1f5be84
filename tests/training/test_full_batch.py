"""L-BFGS in a Trainer: an epoch is an iteration over all rows, and everything else is as in any fit."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import xpnn
from xpnn.errors import DivergenceError, OptionError
from xpnn.training.full_batch import Objective

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = (X @ RNG.normal(size=(4, 3)) + 0.3 * RNG.normal(size=(60, 3))).argmax(axis=1)
W = RNG.uniform(0.5, 2.0, 60)


NUMPY = xpnn.get_backend("numpy", "float64")


def make(backend=NUMPY, net=None, optimizer=None, **options):
    if net is None:
        net = xpnn.mlp([4, 8, 3], "tanh", backend=backend, seed=1)
    return xpnn.Trainer(net, xpnn.CrossEntropy(), optimizer or xpnn.LBFGS(), **options)


def rows_of(trainer):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in trainer.history]


def flat(trainer):
    return xpnn.to_numpy(trainer.net.store.values)


def feed(trainer, weight=None):
    return xpnn.training.trainer.Feed(trainer.backend, X, Y, weight, index_y=True)


# -- what is made small ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weight", [None, W], ids=["even", "weighted"])
@pytest.mark.parametrize("batch_size", [7, 20, 60])
def test_slices_have_the_value_and_gradient_of_all_rows(batch_size, weight):
    penalty = xpnn.L2(0.01)
    trainer = make(regularizer=penalty)
    net = trainer.net
    pred, caches = net.forward(X, train=True)
    value, d_pred = xpnn.CrossEntropy().value_and_grad(pred, Y, weight)
    net.backward(d_pred, caches)
    whole = value + penalty.add(net.store)
    gradient = net.store.grads.copy()

    objective = Objective(trainer, feed(trainer, weight), batch_size)
    assert float(objective()) == pytest.approx(float(whole), rel=1e-12)
    np.testing.assert_allclose(net.store.grads, gradient, atol=1e-14)
    assert float(objective.data + objective.penalty) == float(objective())


def test_the_objectives_gradient_is_its_slope():
    trainer = make(regularizer=xpnn.L2(0.1))
    objective = Objective(trainer, feed(trainer, W), 25)
    store = trainer.net.store
    objective()
    gradient, start, eps = store.grads.copy(), store.values.copy(), 1e-6
    for k in (0, 5, 40):
        ends = []
        for sign in (1, -1):
            store.values[...] = start
            store.values[k] += sign * eps
            ends.append(float(objective()))
        assert (ends[0] - ends[1]) / (2 * eps) == pytest.approx(gradient[k], rel=1e-6, abs=1e-9)


def test_an_epoch_is_an_iteration_of_minimize():
    """The same weights to the bit as `minimize` on a loss written by hand."""
    trainer = make(regularizer=xpnn.L2(1e-3))
    trainer.fit(X, Y, epochs=12, batch_size=60)
    net = make().net
    loss, penalty = xpnn.CrossEntropy(), xpnn.L2(1e-3)

    def evaluate():
        pred, caches = net.forward(X, train=True)
        value, d_pred = loss.value_and_grad(pred, Y)
        net.backward(d_pred, caches)
        return value + penalty.add(net.store)

    result = xpnn.LBFGS(max_iter=12).minimize(net.store, evaluate)
    assert result.n_iter == trainer.epoch == trainer.step == trainer.optimizer.t == 12
    assert (net.store.values == flat(trainer)).all()
    last = trainer.history.rows[-1]
    assert last["loss"] + last["penalty"] == pytest.approx(result.value, rel=1e-14)


def test_all_libraries_take_the_same_way(backend):
    here, there = make(), make(backend)
    for trainer in (here, there):
        trainer.fit(X, Y, epochs=8, batch_size=25, sample_weight=W)
    np.testing.assert_allclose(there.history["loss"], here.history["loss"], rtol=1e-3)


# -- history, callbacks, validation ----------------------------------------------------------------------------------
def test_the_row_of_an_epoch_tells_of_the_weights_it_ends_with():
    trainer = make(regularizer=xpnn.L2(1e-3))
    history = trainer.fit(X[:40], Y[:40], epochs=6, batch_size=16, X_val=X[40:], y_val=Y[40:], sample_weight=W[:40])
    assert history.names == [
        *("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "grad_norm", "penalty", "seconds")
    ]
    row = history.rows[-1]
    seen = trainer.evaluate(X[:40], Y[:40], sample_weight=W[:40])
    assert (row["loss"], row["accuracy"]) == (pytest.approx(seen["loss"]), pytest.approx(seen["accuracy"]))
    assert row["val_loss"] == pytest.approx(trainer.evaluate(X[40:], Y[40:])["loss"])
    assert row["penalty"] == pytest.approx(1e-3 * float((flat(trainer)[: trainer.net.store.n_decay] ** 2).sum()))
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert all(rate > 0 for rate in history["lr"])
    objective = [a + b for a, b in zip(history["loss"], history["penalty"], strict=True)]
    assert objective == sorted(objective, reverse=True)


def test_class_weights_are_weights():
    table = {0: 1.0, 1: 3.0, 2: 0.5}
    a, b = make(), make()
    a.fit(X, Y, epochs=5, class_weight=table)
    b.fit(X, Y, epochs=5, sample_weight=np.asarray([table[c] for c in Y]))
    assert (flat(a) == flat(b)).all()


def test_rows_of_weight_0_do_not_count():
    weight = np.where(np.arange(60) < 20, 0.0, 1.0)  # two whole slices among them
    a, b = make(), make()
    a.fit(X, Y, epochs=5, batch_size=10, sample_weight=weight)
    b.fit(X[20:], Y[20:], epochs=5, batch_size=10)
    np.testing.assert_allclose(flat(a), flat(b), rtol=1e-9)


def test_callbacks_are_called_as_in_any_fit():
    seen = []
    names = ("on_fit_begin", "on_epoch_begin", "on_batch_end", "on_epoch_trained", "on_epoch_end", "on_fit_end")
    watch = xpnn.LambdaCallback(**{name: lambda trainer, name=name: seen.append(name) for name in names})
    make(callbacks=[watch]).fit(X, Y, epochs=2, batch_size=7)
    assert seen == [names[0], *names[1:5], *names[1:5], names[5]]


def test_early_stopping_restores_the_best_weights():
    stopping = xpnn.EarlyStopping(patience=3)
    trainer = make(callbacks=[stopping])
    trainer.fit(X[:20], Y[:20], epochs=200, X_val=X[20:], y_val=Y[20:])
    assert trainer.epoch < 200
    assert stopping.best_epoch < trainer.epoch
    assert trainer.evaluate(X[20:], Y[20:])["loss"] == pytest.approx(min(trainer.history["val_loss"]))


def test_weights_that_a_callback_moves_are_gone_on_from():
    def move(trainer):
        if trainer.epoch == 3:
            trainer.net.store.values[...] = trainer.net.store.values * 1.5

    moved = make(callbacks=[xpnn.LambdaCallback(on_epoch_begin=move)])
    history = moved.fit(X, Y, epochs=6)
    assert moved.evaluate(X, Y)["loss"] == pytest.approx(history["loss"][-1])
    with_ema = make(callbacks=[xpnn.EMA(0.5)])
    with_ema.fit(X, Y, epochs=6)
    assert with_ema.history["loss"] == pytest.approx(make().fit(X, Y, epochs=6)["loss"], rel=1e-9)


# -- ends ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"gtol": 0.05}, "the gradient is small"),
        ({"ftol": 0.1}, "the decrease is small"),
        ({"max_evals": 5}, "max_evals is reached"),
    ],
    ids=str,
)
def test_training_ends_where_no_iteration_can_follow(options, reason):
    trainer = make(optimizer=xpnn.LBFGS(**options), regularizer=xpnn.L2(1e-3))
    trainer.fit(X, Y, epochs=500)
    assert trainer.stop_reason == reason
    assert 0 < trainer.epoch == len(trainer.history) < 500


def test_epochs_take_the_place_of_max_iter():
    trainer = make(optimizer=xpnn.LBFGS(max_iter=3))
    trainer.fit(X, Y, epochs=7)
    assert trainer.epoch == 7
    assert trainer.stop_reason is None


def test_at_a_minimum_there_is_nothing_to_do():
    trainer = make(optimizer=xpnn.LBFGS(gtol=1e3))
    assert len(trainer.fit(X, Y, epochs=5)) == 0
    assert trainer.stop_reason == "the gradient is small"


class Uphill(xpnn.MeanSquaredError):
    """A loss whose gradient has the wrong sign."""

    def rows(self, xp, pred, y):
        losses, d = super().rows(xp, pred, y)
        return losses, -d


def test_a_wrong_gradient_ends_without_harm():
    net = xpnn.mlp([4, 1], dtype="float64")
    trainer = xpnn.Trainer(net, Uphill(), xpnn.LBFGS(), metrics=())
    start = flat(trainer).copy()
    trainer.fit(X, X[:, :1], epochs=5)
    assert trainer.stop_reason == "the line search found no smaller value"
    assert (flat(trainer) == start).all()
    assert trainer.history["lr"] == [0.0]


def test_an_interrupt_leaves_the_best_weights(monkeypatch):
    calls, backward = [], xpnn.Sequential.backward

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 9:
            raise KeyboardInterrupt
        return backward(*args, **options)

    monkeypatch.setattr(xpnn.Sequential, "backward", interrupted)
    trainer = make()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, Y, epochs=50)
    assert 0 < trainer.epoch < 9
    assert trainer.evaluate(X, Y)["loss"] == pytest.approx(trainer.history["loss"][-1])


def test_a_loss_that_is_not_finite_is_told():
    trainer = make()
    trainer.net.store.values[...] = math.nan
    with pytest.raises(DivergenceError, match="the loss of all rows is nan before the first step, weights reach nan"):
        trainer.fit(X, Y)
    jump = xpnn.LambdaCallback(on_epoch_begin=lambda t: t.net.store.values.fill(math.inf) if t.epoch == 2 else None)
    trainer = make(callbacks=[jump])
    with pytest.raises(DivergenceError, match="the loss of all rows is nan"):
        trainer.fit(X, Y)
    assert trainer.epoch == 2


# -- rows that are not in memory ---------------------------------------------------------------------------------------
def test_a_memory_map_is_read_in_slices(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped, held = make(), make()
    mapped.fit(np.load(tmp_path / "x.npy", mmap_mode="r"), Y, epochs=5, batch_size=16, validation_fraction=0.2)
    held.fit(X, Y, epochs=5, batch_size=16, validation_fraction=0.2)
    assert rows_of(mapped) == rows_of(held)
    assert (flat(mapped) == flat(held)).all()


# -- going on --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("regularizer", [None, xpnn.L2(1e-3), xpnn.SpectralNorm(1e-3)], ids=lambda r: type(r).__name__)
def test_going_on_from_a_file_is_going_on(tmp_path, regularizer, backend):
    straight = make(backend, regularizer=regularizer, optimizer=xpnn.LBFGS(memory=4, ftol=0.0))
    straight.fit(X, Y, epochs=7, batch_size=25)
    straight.save(tmp_path / "run")
    resumed = xpnn.Trainer.load(tmp_path / "run", backend=straight.backend)
    assert repr(resumed.optimizer) == "LBFGS(max_iter=200, max_evals=15000, memory=4, gtol=1e-05, ftol=0.0)"
    for trainer in (straight, resumed):
        trainer.fit(X, Y, epochs=5, batch_size=25)
    assert rows_of(straight) == rows_of(resumed)
    assert (flat(straight) == flat(resumed)).all()
    assert straight.optimizer.t == resumed.optimizer.t == 12


def test_two_fits_are_one():
    """What the first leaves to the second is the curvature that it has seen."""
    one, two, forgetful = make(), make(), make()
    one.fit(X, Y, epochs=9)
    for trainer in (two, forgetful):
        trainer.fit(X, Y, epochs=5)
    forgetful.optimizer.reset()
    for trainer in (two, forgetful):
        trainer.fit(X, Y, epochs=4)
    assert (flat(one) == flat(two)).all()
    assert not (flat(one) == flat(forgetful)).all()


def test_a_pickled_optimizer_goes_on():
    straight = make()
    straight.fit(X, Y, epochs=4)
    other = make(net=straight.net.copy(), optimizer=pickle.loads(pickle.dumps(straight.optimizer)))
    for trainer in (straight, other):
        trainer.fit(X, Y, epochs=3)
    assert (flat(straight) == flat(other)).all()


# -- what has no line search -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("layers", "options", "named"),
    [
        ([xpnn.Dropout(0.5)], {}, r"1\.Dropout \(it is random\)"),
        ([xpnn.Residual(xpnn.Linear(8), xpnn.Dropout(0.1))], {}, r"1\.1\.Dropout \(it is random\)"),
        ([xpnn.BatchNorm()], {}, r"1\.BatchNorm \(its outputs depend on the batch\)"),
        ([xpnn.Linear(8, lr_mult=0.0)], {}, "lr_mult"),
        ([], {"schedule": xpnn.CosineDecay()}, "schedule"),
        ([], {"clip_norm": 1.0, "clip_value": 0.1}, "clip_norm, clip_value"),
    ],
)
def test_what_a_line_search_has_no_use_for_is_refused(layers, options, named):
    net = xpnn.Sequential(xpnn.Linear(8), *layers, xpnn.Linear(3), n_in=4, seed=0)
    trainer = make(net=net, **options)
    with pytest.raises(OptionError, match=f"fit: LBFGS takes all rows at once by a line search .* no use for {named}"):
        trainer.fit(X, Y)
    assert trainer.epoch == 0


def test_dropout_of_nothing_is_no_dropout():
    net = xpnn.Sequential(xpnn.Linear(8), xpnn.Dropout(0.0), xpnn.Linear(3), n_in=4, seed=0)
    assert len(make(net=net).fit(X, Y, epochs=3)) == 3


def test_replicas_graphs_and_steps_of_ones_own_are_refused():
    with pytest.raises(OptionError, match="LBFGS: expected a single network, got replicas"):
        make(net=xpnn.mlp([4, 3], replicas=2)).fit(X, Y)
    with pytest.raises(OptionError, match="no use for graph"):
        make().fit(X, Y, graph=True)

    class Own(xpnn.Trainer):
        def train_step(self, *args):
            raise AssertionError("is not called")

    with pytest.raises(OptionError, match="no use for a train_step of your own"):
        Own(xpnn.mlp([4, 3]), xpnn.CrossEntropy(), xpnn.LBFGS()).fit(X, Y)


def test_one_gradient_makes_no_step():
    net = xpnn.mlp([4, 3])
    with pytest.raises(OptionError, match=r"LBFGS: expected the loss of all rows.*Pass it to xpnn.Trainer"):
        xpnn.LBFGS().step(net.store)
    with pytest.raises(OptionError, match="find_lr: expected an optimizer with a learning rate, got LBFGS"):
        xpnn.find_lr(net, xpnn.CrossEntropy(), xpnn.LBFGS(), X, Y)
