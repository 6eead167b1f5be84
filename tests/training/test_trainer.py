"""The training loop: what it computes, in which order, from which arrays, and how it ends."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from places import assert_close, backend_or_skip

import xpnn
from xpnn.errors import DataError, DivergenceError
from xpnn.schedules import Constant, CosineDecay, OneCycle, Plateau, StepDecay, Warmup
from xpnn.training import EMA, Callback, EarlyStopping, LambdaCallback, Trainer, feed
from xpnn.training.step import Tally

N_IN, CLASSES = 4, 3


def table(n=50, seed=0):
    """Rows of inputs, class numbers that depend on them, and a real target."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, N_IN)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] ** 2 > 0).astype(np.int64) + (X[:, 2] > 0.5)
    target = (X @ rng.standard_normal((N_IN, 1)) + 0.1 * rng.standard_normal((n, 1))).astype(np.float32)
    return X, y, target


def classifier(seed=0, lr=0.01, optimizer=None, net=None, **options):
    net = net or xpnn.mlp([N_IN, 8, CLASSES], seed=seed)
    return Trainer(net, xpnn.CrossEntropy(), optimizer or xpnn.Adam(lr=lr), **options)


def regressor(lr=0.05, optimizer=None, net=None, **options):
    net = net or xpnn.mlp([N_IN, 6, 1], activation="tanh", dtype="float64")
    return Trainer(net, xpnn.MeanSquaredError(), optimizer or xpnn.SGD(lr=lr), **options)


def rows_of(history):
    """The history without the only column that may differ between equal runs."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def assert_same_weights(a, b):
    a, b = a.state_dict(), b.state_dict()
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# -- one seed, one run ------------------------------------------------------------------------------------------
def rich(backend, seed=0, trainer_seed=0):
    net = xpnn.mlp([N_IN, 9, 7, CLASSES], norm="batch", dropout=0.3, backend=backend, seed=seed)
    return Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), schedule=Constant(), clip_norm=1.0, seed=trainer_seed)


def test_two_short_fits_are_one_long_fit(backend):
    X, y, _ = table(50)
    options = {"batch_size": 16, "validation_fraction": 0.2}  # 40 rows to train on: a last batch of 8
    parts, whole = rich(backend), rich(backend)
    parts.fit(X, y, epochs=10, **options)
    parts.fit(X, y, epochs=10, **options)
    whole.fit(X, y, epochs=20, **options)
    assert_same_weights(parts.net, whole.net)
    assert rows_of(parts.history) == rows_of(whole.history)
    assert parts.history["epoch"] == list(range(1, 21))
    assert (parts.epoch, parts.step, parts.optimizer.t) == (20, 60, 60)
    for name, state in whole.optimizer.state.items():
        np.testing.assert_array_equal(xpnn.to_numpy(parts.optimizer.state[name]), xpnn.to_numpy(state))


def test_one_seed_is_one_run(backend):
    X, y, _ = table()
    a, b = rich(backend), rich(backend)
    assert rows_of(a.fit(X, y, epochs=3, batch_size=16)) == rows_of(b.fit(X, y, epochs=3, batch_size=16))
    assert_same_weights(a.net, b.net)


@pytest.mark.parametrize("seeds", [(1, 0), (0, 1)], ids=["network", "trainer"])
def test_another_seed_is_another_run(seeds):
    X, y, _ = table()
    a, b = rich("numpy"), rich("numpy", *seeds)
    a.fit(X, y, epochs=2, batch_size=16)
    b.fit(X, y, epochs=2, batch_size=16)
    assert not np.array_equal(a.net.params["0.weight"], b.net.params["0.weight"])


def test_nothing_waits_for_the_device_within_a_step(no_host_sync, monkeypatch):
    net = xpnn.mlp([N_IN, 6, CLASSES], norm="batch", dropout=0.2, backend=backend_or_skip("strict"))
    X, y, _ = table()
    quiet = no_host_sync
    step, add = Trainer.train_step, Tally.add

    def guarded(function):
        def call(*args):
            with quiet():
                return function(*args)

        return call

    monkeypatch.setattr(Trainer, "train_step", guarded(step))
    monkeypatch.setattr(Tally, "add", guarded(add))
    options = {"clip_norm": 1.0, "clip_value": 0.5, "regularizer": xpnn.L2(1e-4), "metrics": ("accuracy", "top5")}
    history = Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(), **options).fit(
        X, y, epochs=2, batch_size=16, sample_weight=np.ones(len(y))
    )
    assert np.isfinite(history["loss"]).all()


# -- the history ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("weighted", [False, True])
def test_history_is_what_a_loop_by_hand_gives(weighted):
    X, _, target = table(10)
    X_val, _, val_target = table(7, seed=1)
    weight = np.random.default_rng(2).uniform(0.1, 3, 10) if weighted else np.ones(10)
    lr, lam = 0.1, 0.01
    run = regressor(lr, net=xpnn.mlp([N_IN, 1], dtype="float64", seed=3), regularizer=xpnn.L2(lam), metrics=("mae",))
    W, b = run.net.params["0.weight"].copy(), run.net.params["0.bias"].copy()
    history = run.fit(
        X,
        target,
        epochs=3,
        batch_size=4,
        X_val=X_val,
        y_val=val_target,
        sample_weight=weight if weighted else None,
        shuffle=False,
    )
    expected = []
    for epoch in range(3):
        loss = mae = 0.0
        for at in (slice(0, 4), slice(4, 8), slice(8, 10)):
            x, t, w = X[at].astype(float), target[at].astype(float), weight[at, None]
            error = x @ W + b - t
            loss += (w * error**2).sum()  # each batch counts with its total weight
            mae += (w * abs(error)).sum()
            slope = 2 * w * error / w.sum()
            penalty = lam * (W**2).sum()
            dW, db = x.T @ slope + 2 * lam * W, slope.sum(axis=0)
            norm = np.sqrt((dW**2).sum() + (db**2).sum())
            W, b = W - lr * dW, b - lr * db
        val_error = X_val.astype(float) @ W + b - val_target
        expected.append(
            {
                "epoch": epoch + 1,
                "loss": loss / weight.sum(),
                "mae": mae / weight.sum(),
                "val_loss": (val_error**2).mean(),
                "val_mae": abs(val_error).mean(),
                "lr": lr,
                "grad_norm": norm,  # with the penalty's part, at the last step
                "penalty": penalty,
            }
        )
    rows = rows_of(history)
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-12)
    assert all(type(value) in (int, float) for row in history for value in row.values())
    assert all(seconds > 0 for seconds in history["seconds"])
    np.testing.assert_allclose(run.net.params["0.weight"], W, rtol=1e-12)


def test_columns_of_a_classifier():
    X, y, _ = table()
    history = classifier().fit(X, y, epochs=2)
    assert history.names == ["epoch", "loss", "accuracy", "lr", "grad_norm", "seconds"]
    assert classifier(metrics=()).fit(X, y, epochs=1, validation_fraction=0.2).names == [
        "epoch",
        "loss",
        "val_loss",
        "lr",
        "grad_norm",
        "seconds",
    ]
    assert "accuracy" not in regressor().fit(X, table()[2], epochs=1)


def test_metrics_over_batches_are_metrics_over_all_rows():
    X, y, target = table(53)
    weight = np.random.default_rng(1).uniform(0, 2, 53)
    still = xpnn.SGD(lr=0.0)  # weights that stand still: every batch is seen by the same network
    names = ("accuracy", "mse", "rmse", "mae", "r2")
    run = regressor(optimizer=still, metrics=names)
    row = run.fit(X, target, epochs=1, batch_size=10, sample_weight=weight).rows[0]
    prediction = run.predict_proba(X.astype(np.float64))
    squared, absolute = (prediction - target)[:, 0] ** 2, abs(prediction - target)[:, 0]
    mean = np.average(target[:, 0], weights=weight)
    wanted = {
        "mse": np.average(squared, weights=weight),
        "rmse": np.sqrt(np.average(squared, weights=weight)),
        "mae": np.average(absolute, weights=weight),
        "r2": 1 - (weight * squared).sum() / (weight * (target[:, 0] - mean) ** 2).sum(),
    }
    assert {name: row[name] for name in wanted} == pytest.approx(wanted, rel=1e-9)

    run = classifier(optimizer=xpnn.SGD(lr=0.0), metrics=("accuracy", xpnn.metrics.TopK(2)))
    row = run.fit(X, y, epochs=1, batch_size=10).rows[0]
    order = np.argsort(-run.predict_proba(X), axis=1)
    assert row["accuracy"] == pytest.approx((order[:, 0] == y).mean())
    assert row["top2"] == pytest.approx((order[:, :2] == y[:, None]).any(axis=1).mean())


def test_grad_norm_is_that_of_the_last_step_before_clipping():
    X, y, _ = table(50)
    last = {}

    class Watch(Trainer):
        def train_step(self, x, target, weight, row):
            _, caches = self.net.forward(x, train=True, step=row.step)
            pred, _ = self.net.forward(x, train=True, step=row.step)
            self.net.backward(self.loss.value_and_grad(pred, target, weight)[1], caches)
            last[self.epoch] = float(np.sqrt((self.net.store.grads.astype(float) ** 2).sum()))
            return super().train_step(x, target, weight, row)

    run = Watch(xpnn.mlp([N_IN, 8, CLASSES]), xpnn.CrossEntropy(), xpnn.SGD(lr=0.1), clip_norm=1e-3)
    history = run.fit(X, y, epochs=3, batch_size=16)
    assert history["grad_norm"] == pytest.approx(list(last.values()), rel=1e-5)
    assert min(history["grad_norm"]) > 1e-3


# -- weights of rows and of classes -----------------------------------------------------------------------------
def test_weights_of_one_change_nothing(backend):
    X, y, _ = table()
    with_ones, without = rich(backend), rich(backend)
    a = with_ones.fit(X, y, epochs=3, batch_size=16, sample_weight=np.ones(len(y)))
    b = without.fit(X, y, epochs=3, batch_size=16)
    assert_same_weights(with_ones.net, without.net)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-6)
    assert a["accuracy"] == pytest.approx(b["accuracy"], rel=1e-6)


def test_whole_weights_are_repetitions():
    X, _, target = table(20)
    weight = np.random.default_rng(0).integers(0, 4, 20)
    weighted, repeated = regressor(), regressor()
    a = weighted.fit(X, target, epochs=5, batch_size=20, sample_weight=weight, shuffle=False)
    many = np.repeat(np.arange(20), weight)
    b = repeated.fit(X[many], target[many], epochs=5, batch_size=len(many), shuffle=False)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-12)
    for name, value in weighted.net.params.items():
        np.testing.assert_allclose(value, repeated.net.params[name], rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("given", [{0: 2.0, 2: 0.5}, "balanced"], ids=["dict", "balanced"])
def test_class_weights_are_weights_of_rows(given):
    X, y, _ = table(80)
    y[:40] = 0
    X_val, y_val, _ = table(30, seed=1)
    weight, weight_val = (np.random.default_rng(seed).uniform(0.5, 1.5, n) for seed, n in ((0, 80), (1, 30)))
    if given == "balanced":
        by_class = len(y) / (3 * np.bincount(y))
        assert (by_class * np.bincount(y)) == pytest.approx(len(y) / 3)  # every class counts alike
    else:
        by_class = np.array([2.0, 1.0, 0.5])
    a, b = classifier(), classifier()
    options = {"epochs": 4, "batch_size": 16, "X_val": X_val, "y_val": y_val}
    one = a.fit(X, y, sample_weight=weight, sample_weight_val=weight_val, class_weight=given, **options)
    two = b.fit(X, y, sample_weight=weight * by_class[y], sample_weight_val=weight_val * by_class[y_val], **options)
    assert_same_weights(a.net, b.net)
    assert rows_of(one) == rows_of(two)
    unweighted = classifier().fit(X, y, sample_weight=weight, sample_weight_val=weight_val, **options)
    assert unweighted["val_loss"] != one["val_loss"]


def test_class_weights_of_a_single_output_and_of_a_held_out_fraction():
    X, y, _ = table(60)
    target = (y[:, None] > 0).astype(np.float32)

    def make():
        return Trainer(xpnn.mlp([N_IN, 5, 1]), xpnn.BinaryCrossEntropy(), xpnn.Adam(lr=0.01))

    a, b = make(), make()
    options = {"epochs": 3, "batch_size": 16, "validation_fraction": 0.25}
    one = a.fit(X, target, class_weight={1: 3.0}, **options)
    two = b.fit(X, target, sample_weight=1.0 + 2.0 * target[:, 0], **options)
    assert rows_of(one) == rows_of(two)


# -- validation data --------------------------------------------------------------------------------------------
class Parts(Trainer):
    """Notes which rows train and which are held out."""

    def run_epoch(self, train, valid, *args):
        self.rows = train.rows, None if valid is None else valid.rows
        return super().run_epoch(train, valid, *args)


def test_own_validation_data_win_over_a_fraction():
    X, y, _ = table(50)
    X_val, y_val, _ = table(30, seed=1)
    both, own, none = classifier(), classifier(), classifier()
    a = both.fit(X, y, epochs=2, X_val=X_val, y_val=y_val, validation_fraction=0.5)
    b = own.fit(X, y, epochs=2, X_val=X_val, y_val=y_val)
    none.fit(X, y, epochs=2)
    assert rows_of(a) == rows_of(b)
    assert_same_weights(both.net, none.net)  # all rows have trained
    assert a["val_loss"][-1] == pytest.approx(both.evaluate(X_val, y_val)["loss"], rel=1e-6)


def test_rows_to_hold_out_can_be_named():
    X, y, _ = table(50)
    drawn, named = (Parts(xpnn.mlp([N_IN, 2]), xpnn.CrossEntropy(), xpnn.Adam(), seed=3) for _ in range(2))
    a = drawn.fit(X, y % 2, epochs=2, validation_fraction=0.3)
    b = named.fit(X, y % 2, epochs=2, validation_rows=drawn.rows[1][::-1])
    assert rows_of(a) == rows_of(b)
    assert_same_weights(drawn.net, named.net)
    c = named.fit(X, y % 2, epochs=1, validation_rows=[7], validation_fraction=0.3)
    assert named.rows[1].tolist() == [7]
    assert 7 not in named.rows[0]
    assert c["val_loss"][-1] == pytest.approx(named.evaluate(X[7:8], y[7:8] % 2)["loss"], rel=1e-6)
    with pytest.raises(DataError, match="fit: expected different numbers of rows, from 1 to 49 of 0 to 49, got 1 of"):
        named.fit(X, y % 2, epochs=1, validation_rows=[50])


@pytest.mark.parametrize("kind", ["labels", "float labels", "column"])
def test_the_held_out_fraction_is_stratified_and_shuffled(kind):
    X, _, _ = table(100)
    y = np.repeat([0, 1], [90, 10])
    target = {"labels": y, "float labels": y.astype(float), "column": y[:, None].astype(np.float32)}[kind]
    loss = xpnn.BinaryCrossEntropy() if kind == "column" else xpnn.CrossEntropy()
    run = Parts(xpnn.mlp([N_IN, 1 if kind == "column" else 2]), loss, xpnn.Adam(), seed=5)
    history = run.fit(X, target, epochs=1, validation_fraction=0.2)
    train, held_out = run.rows
    assert np.bincount(y[held_out]).tolist() == [18, 2]
    assert sorted([*train, *held_out]) == list(range(100))
    assert held_out[0] < 40  # not the last rows
    assert history["val_loss"][0] == pytest.approx(run.evaluate(X[held_out], target[held_out])["loss"], rel=1e-6)
    again = Parts(xpnn.mlp([N_IN, 2], seed=7), xpnn.CrossEntropy(), xpnn.Adam(), seed=5)
    again.fit(X, y, epochs=1, validation_fraction=0.2)
    np.testing.assert_array_equal(again.rows[1], held_out)  # the trainer's seed alone decides


def test_a_fraction_of_a_real_target_is_drawn_at_random():
    X, _, target = table(40)
    run = Parts(xpnn.mlp([N_IN, 1]), xpnn.MeanSquaredError(), xpnn.Adam())
    run.fit(X, target, epochs=1, validation_fraction=0.25)
    assert len(run.rows[1]) == 10
    assert run.rows[1].tolist() != list(range(30, 40))


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("replicas", [None, 2])
@pytest.mark.parametrize("regularizer", [None, xpnn.L2(0.01)], ids=["free", "L2"])
def test_the_columns_are_known_beforehand(validated, replicas, regularizer):
    X, y, _ = table(40)
    seen = []
    run = Trainer(
        xpnn.mlp([N_IN, 3], replicas=replicas),
        xpnn.CrossEntropy(),
        xpnn.Adam(),
        regularizer=regularizer,
        callbacks=[xpnn.LambdaCallback(on_fit_begin=lambda trainer: seen.extend(trainer.columns))],
    )
    history = run.fit(X, y, epochs=1, validation_fraction=0.25 * validated)
    assert seen == list(history.rows[-1])


# -- schedules and clipping -------------------------------------------------------------------------------------
class Steps(Callback):
    """Notes the weights and the gradients that were used, at every step."""

    def on_fit_begin(self, trainer):
        self.values, self.grads = [trainer.net.store.values.copy()], []

    def on_batch_end(self, trainer):
        self.values.append(trainer.net.store.values.copy())
        self.grads.append(trainer.net.store.grads.copy())


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        (StepDecay(every=2, factor=0.5), lambda t: 0.5 ** int(t / 3 // 2)),
        (StepDecay(every=2, factor=0.5, unit="step"), lambda t: 0.5 ** (t // 2)),
        (CosineDecay(), lambda t: 0.5 * (1 + np.cos(np.pi * t / 12))),
        (CosineDecay(unit="step"), lambda t: 0.5 * (1 + np.cos(np.pi * t / 12))),
        (Warmup(Constant(unit="step"), duration=5), lambda t: min(t / 5, 1.0)),
        (Warmup(CosineDecay(), duration=1), lambda t: t / 3 if t < 3 else 0.5 * (1 + np.cos(np.pi * (t - 3) / 9))),
        (OneCycle(warmup=0.25, start=0.1), lambda t: OneCycle(12, 0.25, start=0.1)(t)),
    ],
    ids=lambda value: repr(value) if not callable(value) or isinstance(value, Constant | StepDecay) else "",
)
def test_schedules_drive_every_step(schedule, factor):
    X, _, target = table(12)
    watch = Steps()
    run = regressor(0.1, schedule=schedule, callbacks=[watch])
    history = run.fit(X, target, epochs=4, batch_size=5)  # 3 steps an epoch
    expected = [0.1 * factor(t) for t in range(12)]
    for t, lr in enumerate(expected):
        moved = watch.values[t] - watch.values[t + 1]
        np.testing.assert_allclose(moved, lr * watch.grads[t], rtol=1e-9, atol=1e-15)
    assert history["lr"] == pytest.approx(expected[2::3])  # the rate of each epoch's last step


def test_plateau_reads_the_history():
    X, _, target = table(20)
    run = regressor(0.1, schedule=Plateau("loss", factor=0.5, patience=1, min_delta=1e9))
    history = run.fit(X, target, epochs=7)
    assert history["lr"] == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    run = regressor(0.1, schedule=Plateau(factor=0.5, patience=0, min_delta=1e9))
    assert run.fit(X, target, epochs=3, validation_fraction=0.3)["lr"] == pytest.approx([0.1, 0.1, 0.05])


@pytest.mark.parametrize("options", [{"clip_norm": 0.2}, {"clip_value": 0.05}, {"clip_norm": 0.2, "clip_value": 0.05}])
def test_clipping(options):
    X, _, target = table(30)
    raw, clipped = Steps(), Steps()
    regressor(optimizer=xpnn.SGD(lr=0.0), callbacks=[raw]).fit(X, target, epochs=1, batch_size=8)
    regressor(optimizer=xpnn.SGD(lr=0.0), callbacks=[clipped], **options).fit(X, target, epochs=1, batch_size=8)
    for free, bound in zip(raw.grads, clipped.grads, strict=True):
        expected = np.clip(free, -options.get("clip_value", np.inf), options.get("clip_value", np.inf))
        expected *= min(1, options.get("clip_norm", np.inf) / (np.linalg.norm(expected) + 1e-6))
        np.testing.assert_allclose(bound, expected, rtol=1e-12, atol=1e-16)
        assert np.linalg.norm(free) > np.linalg.norm(bound)


@pytest.mark.parametrize(("kind", "power"), [(xpnn.L1, 1), (xpnn.L2, 2)])
def test_the_penalty_has_a_column_of_its_own(kind, power):
    X, _, target = table(20)
    plain = regressor(optimizer=xpnn.SGD(lr=0.0))
    run = regressor(optimizer=xpnn.SGD(lr=0.0), regularizer=kind(0.3))
    history = run.fit(X, target, epochs=1)
    weights = [value for name, value in run.net.params.items() if name.endswith("weight")]
    assert history["penalty"] == pytest.approx([0.3 * sum((abs(w) ** power).sum() for w in weights)])
    assert history["loss"] == plain.fit(X, target, epochs=1)["loss"]  # the penalty is not in the loss
    run.optimizer.reset()
    run.optimizer.lr = 0.1
    run.fit(X, target, epochs=20)
    assert run.history["penalty"][-1] < run.history["penalty"][0]


# -- divergence -------------------------------------------------------------------------------------------------
class Copies(Callback):
    """Keeps what stood at each epoch's beginning, and counts the ends."""

    def __init__(self):
        self.begins, self.ends = [], 0

    def on_epoch_begin(self, trainer):
        state = {name: xpnn.to_numpy(array).copy() for name, array in trainer.optimizer.state.items()}
        self.begins.append((trainer.net.state_dict(), state, trainer.optimizer.t, trainer.step, trainer.epoch))

    def on_fit_end(self, trainer):
        self.ends += 1


def assert_undone(run, copies):
    weights, state, *counts = copies.begins[-1]
    for name, value in run.net.state_dict().items():
        np.testing.assert_array_equal(value, weights[name])
        assert np.isfinite(value).all()
    for name, value in state.items():
        np.testing.assert_array_equal(xpnn.to_numpy(run.optimizer.state[name]), value)
    assert [run.optimizer.t, run.step, run.epoch] == counts
    assert copies.ends == 1
    assert len(run.history) == run.epoch


FAILURES = {
    "unscaled inputs": (
        [1, 1, 1e5, 1],
        1,
        0.1,
        r"Inputs reach \d(\.\d+)?e\+05 \(column 2\): scale them with xpnn\.data\.Standardizer",
    ),
    "unscaled targets": ([1] * 4, 1e7, 5.0, r"Targets reach \d(\.\d+)?e\+07: standardize them"),
    "too large a rate": (
        [1] * 4,
        1,
        1e4,
        r"Inputs and targets are of ordinary size: try a learning rate ten times smaller than 10000\.0, or clip_norm=1",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_divergence_names_the_place_and_the_cause(name, backend):
    scale, target_scale, lr, cause = FAILURES[name]
    X, _, target = table(50)
    copies = Copies()
    net = xpnn.mlp([N_IN, 8, 1], norm=None, dropout=0.1, activation="relu", backend=backend)
    run = Trainer(net, xpnn.MeanSquaredError(), xpnn.SGD(lr=lr), callbacks=[copies])
    with pytest.raises(DivergenceError) as caught:
        run.fit(X * np.array(scale, np.float32), target * target_scale, epochs=50, batch_size=8)
    message = str(caught.value)
    head = r"fit: (loss is (nan|inf) at|weights are not finite after) epoch (\d+), step (\d) of it\. "
    tensor = r"First tensor that is not finite: (the loss|.*? \(step \d\))\. "
    match = re.fullmatch(head + tensor + cause + r".* The weights from before this epoch are restored\.", message)
    assert match, message
    assert int(match[3]) == run.epoch + 1
    assert len(message) <= 400
    assert_undone(run, copies)


def test_the_first_tensor_that_is_not_finite_is_named():
    X, y, _ = table(40)

    class Spoil(Trainer):
        """Makes one weight infinite at the fourth step of the second epoch."""

        def train_step(self, x, target, weight, row):
            if row.step == 8 + 3:
                self.net.params["2.weight"][0, 0] = np.inf
            return super().train_step(x, target, weight, row)

    copies = Copies()
    run = Spoil(xpnn.mlp([N_IN, 6, CLASSES]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[copies])
    words = r"loss is nan at epoch 2, step 4 of it\. First tensor that is not finite: gradient of 2\.\w+ \(step 4\)\."
    with pytest.raises(DivergenceError, match=words):
        run.fit(X, y, epochs=3, batch_size=5)
    assert_undone(run, copies)


def test_a_last_step_that_spoils_the_weights_is_found_in_its_own_epoch():
    # One step an epoch: the loss is taken before the update, so the loss of that epoch is still finite.
    X, _, target = table(30)
    copies = Copies()
    run = Trainer(xpnn.mlp([N_IN, 1]), xpnn.MeanSquaredError(), xpnn.SGD(lr=3e38), callbacks=[copies])
    words = r"weights are not finite after epoch 1, step 1 of it\. .*not finite: 0\.\w+ \(step 1\)\."
    with pytest.raises(DivergenceError, match=words):
        run.fit(X, target * 100, epochs=1, batch_size=30)
    assert_undone(run, copies)


def test_training_goes_on_after_a_divergence():
    X, _, target = table(30)
    run = Trainer(xpnn.mlp([N_IN, 8, 1]), xpnn.MeanSquaredError(), xpnn.SGD(lr=1e3))
    with pytest.raises(DivergenceError):
        run.fit(X, target, epochs=20, batch_size=5)
    run.optimizer.lr = 0.01
    history = run.fit(X, target, epochs=20, batch_size=5)
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("again", [True, False], ids=["fails again", "does not fail again"])
def test_a_large_optimizer_state_is_not_copied_but_begun_anew(monkeypatch, again):
    monkeypatch.setattr("xpnn.training.state._COPIED_ELEMENTS", 0)
    X, y, _ = table(40)
    spoiled = []

    class Spoil(Trainer):
        """Makes one weight infinite in the second epoch, the first time or always."""

        def train_step(self, x, target, weight, row):
            if row.step == 8 + 3 and (again or not spoiled):
                spoiled.append(row.step)
                self.net.params["2.weight"][0, 0] = np.inf
            return super().train_step(x, target, weight, row)

    copies = Copies()
    run = Spoil(xpnn.mlp([N_IN, 6, CLASSES]), xpnn.CrossEntropy(), xpnn.Adam(), callbacks=[copies])
    words = (
        r"loss is nan at epoch 2, step 4 of it\. "
        + (r"First tensor .*2\.\w+ \(step 4\)\." if again else r"It did not fail again with the optimizer as new\.")
        + r".*epoch are restored; the optimizer, too large to be copied each epoch, begins anew\."
    )
    with pytest.raises(DivergenceError, match=words):
        run.fit(X, y, epochs=3, batch_size=5)
    weights, _, _, step, epoch = copies.begins[-1]
    assert all((value == weights[name]).all() for name, value in run.net.state_dict().items())
    assert not any(array.any() for array in run.optimizer.state.values())
    assert (run.optimizer.t, run.step, run.epoch) == (0, step, epoch)


def test_validation_data_out_of_range_show_in_the_history_alone():
    X, _, target = table(30)
    run = Trainer(xpnn.mlp([N_IN, 8, 1]), xpnn.MeanSquaredError(), xpnn.SGD(lr=1e-3))
    history = run.fit(X, target, epochs=1, X_val=X * np.float32(1e37), y_val=target)  # and no warning
    assert history["val_loss"] == [np.inf]


# -- Ctrl-C -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("hook", ["on_batch_end", "on_epoch_trained", "on_epoch_end"])
def test_ctrl_c_restores_the_best_weights_and_is_raised_again(hook):
    X, y, _ = table(50)
    X_val, y_val, _ = table(50, seed=1)
    seen, copies = [], Copies()
    best_of = []

    def interrupt(trainer):
        seen.append(1)
        if trainer.epoch >= 4 and len(seen) % 3 == 0:
            raise KeyboardInterrupt

    stopping = EarlyStopping(patience=50)
    note = LambdaCallback(on_epoch_end=lambda t: best_of.append((t.history["val_loss"][-1], t.net.state_dict())))
    run = classifier(lr=0.3, callbacks=[stopping, note, copies, LambdaCallback(**{hook: interrupt})])
    with pytest.raises(KeyboardInterrupt):
        run.fit(X, y, epochs=50, batch_size=16, X_val=X_val, y_val=y_val)
    assert copies.ends == 1
    loss, weights = min(best_of, key=lambda pair: pair[0])
    assert (stopping.best, stopping.best_epoch) == (loss, [pair[0] for pair in best_of].index(loss) + 1)
    for name, value in run.net.state_dict().items():
        np.testing.assert_array_equal(value, weights[name])
    run.callbacks.pop()
    run.fit(X, y, epochs=2, batch_size=16, X_val=X_val, y_val=y_val)  # and training can go on
    assert copies.ends == 2


# -- what X and y may be ----------------------------------------------------------------------------------------
FORMS = {
    "list": lambda a: a.tolist(),
    "float64": lambda a: a.astype(np.float64),
    "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, axis=0)[::2],
    "reversed": lambda a: a[::-1].copy()[::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "torch": lambda a: backend_or_skip("torch").xp.asarray(a.copy()),
    "strict": lambda a: backend_or_skip("strict").asarray(a, dtype=getattr(backend_or_skip("strict").xp, a.dtype.name)),
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_of_every_kind_train_alike(form, backend):
    X, y, _ = table(40)
    X = np.round(X, 2)  # survives the trip through lists
    plain, given = (
        Trainer(xpnn.mlp([N_IN, 6, CLASSES], backend=backend), xpnn.CrossEntropy(), xpnn.Adam()) for _ in range(2)
    )
    make = FORMS[form]
    options = {"epochs": 2, "batch_size": 16}
    a = plain.fit(X, y, X_val=X, y_val=y, **options)
    b = given.fit(make(X), make(y), X_val=make(X), y_val=make(y), sample_weight=None, **options)
    assert rows_of(a) == rows_of(b)
    assert_same_weights(plain.net, given.net)


def test_torch_inputs_that_ask_for_gradients_get_none():
    torch = backend_or_skip("torch").xp
    X, y, _ = table(20)
    x = torch.asarray(X)
    x.requires_grad_(True)
    run = Trainer(xpnn.mlp([N_IN, CLASSES], backend="torch"), xpnn.CrossEntropy(), xpnn.Adam())
    run.fit(x, y, epochs=1)
    assert x.grad is None
    assert not run.predict_proba(x).requires_grad


def test_whole_numbers_and_booleans_are_inputs_too():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, (30, N_IN))
    y = X.sum(axis=1) % 2
    runs = [classifier(net=xpnn.mlp([N_IN, 5, 2])) for _ in range(3)]
    for run, given in zip(runs, (X, X.astype(bool), X.astype(np.float32)), strict=True):
        run.fit(given, y.astype(bool) if given.dtype == bool else y, epochs=2)
    assert_same_weights(runs[0].net, runs[2].net)
    assert_same_weights(runs[1].net, runs[2].net)


# -- data on disk -----------------------------------------------------------------------------------------------
def on_disk(folder, name, array):
    np.save(folder / f"{name}.npy", array)
    return np.lib.format.open_memmap(folder / f"{name}.npy", mode="r")


@pytest.mark.parametrize("options", [{}, {"validation_fraction": 0.3}, {"shuffle": False}], ids=str)
@pytest.mark.parametrize("stage", [1, 200, 1 << 18])
def test_a_memory_map_trains_as_memory_does(tmp_path, options, stage, backend, monkeypatch):
    monkeypatch.setattr(feed, "_STAGE_ELEMENTS", stage)  # how much is read at once must not matter
    X, y, _ = table(101)
    maps = on_disk(tmp_path, "X", X.astype(np.float64)), on_disk(tmp_path, "y", y)
    weight = np.random.default_rng(0).uniform(0.5, 2, 101)
    streamed, resident = rich(backend), rich(backend)
    a = streamed.fit(*maps, epochs=2, batch_size=16, sample_weight=weight, **options)
    b = resident.fit(X, y, epochs=2, batch_size=16, sample_weight=weight, **options)
    assert rows_of(a) == rows_of(b)
    assert_same_weights(streamed.net, resident.net)
    assert streamed.evaluate(*maps) == resident.evaluate(X, y)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_a_bad_row_on_disk_is_named_by_its_number(tmp_path, bad):
    X, y, _ = table(60)
    X = X.astype(np.float64)
    X[43, 2] = bad
    maps = on_disk(tmp_path, "X", X), on_disk(tmp_path, "y", y)
    words = r"fit: expected finite float32 numbers in X, got 1 that are not, first (nan|inf) in row 43, column 2\."
    for given in (maps, (X, y)):
        with pytest.raises(DataError, match=words):
            classifier().fit(*given, epochs=1, batch_size=8)


STREAM = """
    import resource, sys
    import numpy as np
    import xpnn

    X = np.lib.format.open_memmap(sys.argv[1], mode="r")
    y = np.zeros((len(X), 1), np.float32)
    net = xpnn.mlp([X.shape[1], 4, 1], seed=0)
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam())
    trainer.fit(np.asarray(X[:8]), y[:8], epochs=1)  # whatever is loaded at the first use
    held = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
    limit = held * 1024 + (160 << 20)  # three blocks of 16 MiB are held while one is read ahead
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        np.array(X)
    except MemoryError:
        print("the array does not fit into", limit >> 20, "MiB")
    history = trainer.fit(X, y, epochs=1, batch_size=4096, validation_fraction=0.1)
    print("loss", history["loss"][-1] >= 0 and np.isfinite(history["val_loss"][-1]), "steps", trainer.step)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux: RLIMIT_DATA and /proc")
def test_training_data_larger_than_the_memory_allowed(tmp_path):
    path = tmp_path / "X.npy"
    X = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(75_000, 1024))  # 307 MB, sparse
    X[::5000] = 1.0
    X.flush()
    del X
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(STREAM), path],
        capture_output=True,
        text=True,
        timeout=100,
        env={"PATH": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ":".join(sys.path)},
    )
    path.unlink()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("the array does not fit into"), done.stdout
    assert "loss True steps 18" in done.stdout  # 1 step before, then 67,500 rows in 17


# -- categories, replicas ---------------------------------------------------------------------------------------
def test_networks_of_categories_learn_from_whole_numbers(backend):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (120, 2))
    y = (X[:, 0] == X[:, 1]).astype(np.int64)
    net = xpnn.Sequential(
        xpnn.Embedding(5, 6), xpnn.Linear(16), xpnn.ReLU(), xpnn.Linear(2), n_in=2, backend=backend, seed=1
    )
    run = Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.05))
    history = run.fit(X, y, epochs=40, batch_size=32, validation_fraction=0.2)
    assert history["accuracy"][-1] == 1.0
    assert (run.predict_proba(X.astype(np.float32)).argmax(axis=1) == y).mean() > 0.95


@pytest.mark.parametrize("rates", [[0.02, 0.005, 0.01], 0.01], ids=["rates", "rate"])
def test_replicas_train_as_single_networks(rates, backend):
    X, y, _ = table(50)
    shape = [N_IN, 8, CLASSES]
    options = {"norm": "batch", "dropout": 0.2, "backend": backend}
    fit = {"epochs": 4, "batch_size": 16, "validation_fraction": 0.2}
    many = Trainer(xpnn.mlp(shape, replicas=3, **options), xpnn.CrossEntropy(), xpnn.Adam(rates), clip_norm=1.0)
    history = many.fit(X, y, **fit)
    proba = xpnn.to_numpy(many.predict_proba(X))
    for k in range(3):
        lr = rates[k] if isinstance(rates, list) else rates
        one = Trainer(xpnn.mlp(shape, seed=k, **options), xpnn.CrossEntropy(), xpnn.Adam(lr), clip_norm=1.0)
        single = one.fit(X, y, **fit)
        for name, value in one.net.state_dict().items():
            assert_close(many.net.state_dict()[name][k], value, rtol=1e-4)
        assert_close(proba[k], one.predict_proba(X), rtol=1e-4)
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert [row[k] for row in history[f"{name}_replicas"]] == pytest.approx(single[name], rel=1e-4)
    row = history.rows[-1]
    assert row["loss"] == pytest.approx(np.mean(row["loss_replicas"]))
    assert row["lr"] == (pytest.approx(rates) if isinstance(rates, list) else rates)
    scores = many.evaluate(X, y)
    assert scores["loss"] == pytest.approx(np.mean(scores["loss_replicas"]))


def test_replicas_of_one_width_are_bitwise_single_networks_on_numpy():
    X, _, target = table(30)
    many = regressor(net=xpnn.mlp([N_IN, 1], replicas=3, dtype="float64"))
    many.fit(X, target, epochs=3, batch_size=30, shuffle=False)
    for k in range(3):
        one = regressor(net=xpnn.mlp([N_IN, 1], seed=k, dtype="float64"))
        one.fit(X, target, epochs=3, batch_size=30, shuffle=False)
        np.testing.assert_allclose(many.net.params["0.weight"][k], one.net.params["0.weight"], rtol=1e-14)


# -- reading ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("home", ["numpy", "torch:cpu", "strict:device1"])
def test_predictions_come_in_the_library_of_the_input(home, backend):
    net = xpnn.mlp([N_IN, 5, CLASSES], backend=backend)
    run = Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
    X, y, _ = table(20)
    asked = backend_or_skip(home)
    x = asked.asarray(X)
    for answer in (net.predict(x), run.predict_proba(x)):
        assert type(answer) is type(x)
        assert answer.device == x.device
        assert answer.dtype == asked.dtype
        assert tuple(answer.shape) == (20, CLASSES)
    assert type(net.predict(X.tolist())) is np.ndarray
    assert_close(run.predict_proba(x), run.predict_proba(X), rtol=1e-6)
    scores = run.evaluate(x, asked.asarray(y, dtype=asked.index_dtype))
    assert {name: type(value) for name, value in scores.items()} == {"loss": float, "accuracy": float}


def test_probabilities_are_those_of_the_loss():
    X, _, _ = table(20)
    net = xpnn.mlp([N_IN, CLASSES], dtype="float64")
    raw = net.predict(X)
    shown = {
        xpnn.CrossEntropy(): np.exp(raw) / np.exp(raw).sum(axis=1, keepdims=True),
        xpnn.BinaryCrossEntropy(): 1 / (1 + np.exp(-raw)),
        xpnn.PoissonNLL(): np.exp(raw),
        xpnn.MeanSquaredError(): raw,
    }
    for loss, expected in shown.items():
        np.testing.assert_allclose(Trainer(net, loss, xpnn.Adam()).predict_proba(X), expected, rtol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 20, 100])
def test_slices_predict_what_the_whole_does(size, backend):
    X, _, _ = table(20)
    net = xpnn.mlp([N_IN, 16, CLASSES], norm="batch", dropout=0.5, backend=backend)
    whole = net.predict(X)
    assert_close(net.predict(X, batch_size=size), whole, rtol=1e-6)
    several = xpnn.mlp([N_IN, 16, CLASSES], replicas=2, backend=backend)
    assert_close(several.predict(X, batch_size=size), several.predict(X), rtol=1e-6)


def test_evaluation_is_a_computation_by_hand():
    X, y, _ = table(2500)  # three slices
    weight = np.random.default_rng(0).uniform(0, 2, 2500)
    net = xpnn.mlp([N_IN, 8, CLASSES], norm="batch", dropout=0.5, dtype="float64", seed=2)
    run = classifier(net=net, metrics=("accuracy", "top5"))
    before = net.state_dict()
    for w in (None, weight):
        proba = run.predict_proba(X.astype(np.float64))
        loss = -np.log(proba[np.arange(2500), y])
        hits = proba.argmax(axis=1) == y
        expected = {
            "loss": np.average(loss, weights=w),
            "accuracy": np.average(hits, weights=w),
            "top5": 1.0,  # of three classes
        }
        assert run.evaluate(X, y, sample_weight=w) == pytest.approx(expected, rel=1e-12)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert len(run.history) == 0


# -- stopping and overriding ------------------------------------------------------------------------------------
def test_stop_ends_after_the_epoch_and_the_next_fit_begins_anew():
    X, y, _ = table(50)
    stop_at_two = LambdaCallback(on_batch_end=lambda t: t.stop("enough") if t.epoch == 1 else None)
    run = classifier(callbacks=[stop_at_two])
    run.fit(X, y, epochs=9, batch_size=16)
    assert (run.epoch, run.step, run.stop_reason, len(run.history)) == (2, 8, "enough", 2)
    run.fit(X, y, epochs=3, batch_size=16)
    assert (run.epoch, run.stop_reason) == (5, None)


def test_a_step_of_ones_own():
    X, _, target = table(20)

    class Frozen(Trainer):
        """Trains only the last layer."""

        def train_step(self, x, y, weight, row):
            first = {name: value.copy() for name, value in self.net.params.items() if name.startswith("0.")}
            out = super().train_step(x, y, weight, row)
            for name, value in first.items():
                self.net.params[name][...] = value
            return out

    run = Frozen(xpnn.mlp([N_IN, 6, 1]), xpnn.MeanSquaredError(), xpnn.SGD(lr=0.05))
    before = run.net.state_dict()
    history = run.fit(X, target, epochs=5)
    np.testing.assert_array_equal(run.net.params["0.weight"], before["0.weight"])
    assert history["loss"][-1] < history["loss"][0]


def test_every_callback_ends_even_if_one_fails_at_it():
    X, y, _ = table(20)
    ended = []

    def fail(trainer):
        raise RuntimeError("this callback fails at its end")

    first = LambdaCallback(on_fit_end=fail)
    stopping, last = EarlyStopping("loss"), LambdaCallback(on_fit_end=lambda t: ended.append(t.net.state_dict()))
    run = classifier(callbacks=[first, EMA(0.5), stopping, last])
    with pytest.raises(RuntimeError, match="fails at its end"):
        run.fit(X, y, epochs=2)
    assert len(ended) == 1


def test_one_array_for_all_epochs_is_left_as_it_was():
    X, y, _ = table(30)
    given = X.copy(), y.copy(), np.ones(30)
    classifier(regularizer=xpnn.L2(0.1)).fit(X, y, epochs=3, batch_size=7, sample_weight=given[2])
    np.testing.assert_array_equal(X, given[0])
    np.testing.assert_array_equal(y, given[1])
    np.testing.assert_array_equal(given[2], 1.0)
