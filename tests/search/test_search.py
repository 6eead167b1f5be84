"""The search: configurations, groups that train like single networks, halving, divergence, results."""

from __future__ import annotations

import csv
import importlib
import math
import pickle
import time

import numpy as np
import pytest

import xpnn
from xpnn.errors import DataError, DivergenceError, LabelError, OptionError, ShapeError
from xpnn.random import StepKey
from xpnn.search import Choice, Distribution, Halving, IntUniform, LogUniform, Uniform, grid, random, run
from xpnn.search.configuration import OPTIMIZERS, Common, read
from xpnn.search.group import Progress, ReplicaGroup
from xpnn.search.run import _groups

run_module = importlib.import_module("xpnn.search.run")  # the package's `run` is the function

X, Y = xpnn.data.make_moons(150, noise=0.2, seed=0)
REAL = np.column_stack([np.sin(X[:, 0]), X.sum(axis=1)])
CE = xpnn.CrossEntropy()
# Eight networks of one shape: rates, dropout (none, too) and seeds of their own.
SPACE = {"lr": [0.003, 0.03], "dropout": [0.0, 0.4], "seed": [0, 7], "hidden": (9, 5), "batch_size": 32}


def search(space=SPACE, *, X=X, y=Y, **options):
    options = {"epochs": 4, **({} if "make" in options else {"loss": CE}), **options}
    return run(grid(space) if isinstance(space, dict) else space, X, y, **options)


def by_hand(config, *, loss=CE, y=Y, n_out=2, epochs=4, dtype=None, **options):
    """Train one configuration with nothing of the search, as a user would write it."""
    given = {"weight_decay": 0.0, "optimizer": "adam", **config}
    net = xpnn.mlp(
        [2, *given["hidden"], n_out],
        norm=given.get("norm"),
        activation=given.get("activation", "relu"),
        dropout=given["dropout"],
        seed=given["seed"],
        dtype=dtype,
    )
    rule = OPTIMIZERS[given["optimizer"]](given["lr"], weight_decay=given["weight_decay"])
    options = {name: config[name] for name in ("schedule", "clip_norm", "regularizer") if name in config} | options
    trainer = xpnn.Trainer(net, loss, rule, **options)
    trainer.fit(X, y, epochs=epochs, batch_size=given["batch_size"], validation_fraction=0.2)
    return trainer


def same_history(trial, trainer, epochs=None):
    names = [name for name in trial.history.names if name != "epoch"]
    assert {"loss", "val_loss", "lr"} <= set(names)
    return all(trial.history[name] == trainer.history[name][:epochs] for name in names)


# -- spaces --------------------------------------------------------------------------------------------------
def test_a_grid_is_every_combination_the_last_name_fastest():
    found = grid({"lr": np.asarray([0.1, 0.01]), "width": range(1, 3), "hidden": (8, 8), "norm": None})
    assert [(c["lr"], c["width"]) for c in found] == [(0.1, 1), (0.1, 2), (0.01, 1), (0.01, 2)]
    assert all(c["hidden"] == (8, 8) and c["norm"] is None for c in found)
    assert type(found[0]["lr"]) is float


def test_random_draws_continue_and_names_do_not_disturb_each_other():
    space = {"lr": LogUniform(1e-4, 1e-1), "width": [8, 16, 32], "optimizer": "sgd"}
    few, many = random(space, 4, seed=3), random(space, 9, seed=3)
    assert many[:4] == few
    assert all(c["optimizer"] == "sgd" for c in many)
    assert [c["lr"] for c in random({"dropout": Uniform(0, 0.5), **space}, 9, seed=3)] == [c["lr"] for c in many]
    assert random(space, 4, seed=4) != few
    assert len({c["lr"] for c in many}) == 9


@pytest.mark.parametrize(
    ("distribution", "mean", "kind"),
    [
        (Uniform(-1, 3), 1.0, float),
        (LogUniform(1e-4, 1.0), (1 - 1e-4) / math.log(1e4), float),
        (IntUniform(3, 6), 4.5, int),
        (IntUniform(1, 8, log=True), sum(k * math.log(1 + 1 / k, 9) for k in range(1, 9)), int),
        (Choice([2.0, 4.0]), 3.0, float),
    ],
    ids=["uniform", "log", "int", "int log", "choice"],
)
def test_distributions_have_their_bounds_and_their_mean(distribution, mean, kind):
    rng = np.random.default_rng(0)
    drawn = [distribution.sample(rng) for _ in range(4000)]
    assert {type(v) for v in drawn} == {kind}
    assert abs(np.mean(drawn) - mean) < 5 * np.std(drawn) / math.sqrt(4000)
    if kind is int:
        assert set(drawn) == set(range(distribution.low, distribution.high + 1))
    elif not isinstance(distribution, Choice):
        assert distribution.low <= min(drawn) <= max(drawn) <= distribution.high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: grid({}), r"search\.grid: expected a dict of at least one name, got \{\}"),
        (lambda: grid([1]), r"search\.grid: expected a dict of at least one name, got \[1\]"),
        (lambda: grid({"lr": []}), r"search\.grid: expected at least one value of 'lr', got none"),
        (lambda: grid({"lr": Uniform(0, 1)}), r"search\.grid: expected values of 'lr', got Uniform.*search\.random"),
        (lambda: random({"lr": []}, 3), r"search\.random: expected at least one value of 'lr'"),
        (lambda: random({"lr": [1]}, 0), r"search\.random: expected n to be a positive integer, got 0"),
        (lambda: random({"lr": [1]}, 2, seed="a"), r"search\.random: expected seed to be an integer, got 'a'"),
        (lambda: Uniform(2, 1), r"Uniform: expected finite numbers low < high, got 2 and 1\. Try Uniform"),
        (lambda: Uniform(0, math.inf), r"Uniform: expected finite numbers low < high, got 0 and inf"),
        (lambda: LogUniform(0, 1), r"LogUniform: expected finite numbers 0 < low < high, got 0 and 1"),
        (lambda: IntUniform(0, 5, log=True), r"IntUniform: expected whole numbers 1 <= low < high, got 0 and 5"),
        (lambda: IntUniform(0.5, 5), r"IntUniform: expected whole numbers low < high, got 0\.5 and 5"),
        (lambda: Choice([]), r"Choice: expected a list of at least one value, got \[\]"),
        (lambda: Choice("ab"), r"Choice: expected a list of at least one value, got 'ab'"),
        (lambda: Halving(min_epochs=0), r"Halving: expected min_epochs to be a positive integer, got 0"),
        (lambda: Halving(eta=1), r"Halving: expected eta > 1, got 1"),
        (lambda: Halving(min_epochs=5).rungs(3, 4), r"Halving: expected epochs >= min_epochs=5, got 4"),
    ],
)
def test_errors_of_spaces(call, message):
    with pytest.raises(OptionError, match=message):
        call()


def test_a_distribution_of_ones_own():
    class Even(Distribution):
        def sample(self, rng):
            return 2 * int(rng.integers(1, 5))

    assert {c["width"] % 2 for c in random({"width": Even()}, 5)} == {0}
    with pytest.raises(NotImplementedError, match="Distribution does not define sample"):
        Distribution().sample(np.random.default_rng(0))


# -- together is alone -----------------------------------------------------------------------------------------
LOSSES = {
    "classes": (CE, Y, 2),
    "one probability": (xpnn.BinaryCrossEntropy(), Y[:, None].astype(float), 1),
    "numbers": (xpnn.MeanSquaredError(), REAL, 2),
    "one number": (xpnn.Huber(), REAL[:, :1], 1),
    "quantiles": (xpnn.Pinball((0.1, 0.5, 0.9)), REAL[:, :1], 3),
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("which", LOSSES)
def test_networks_trained_together_have_the_bits_of_those_trained_alone(which, dtype):
    loss, y, n_out = LOSSES[which]
    # in float64 the means over an epoch's steps round, too
    space = {**SPACE, "batch_size": 32 if dtype == "float32" else 7}
    metrics = ("accuracy", "mse") if which == "numbers" else ("accuracy",)
    result = search(space, y=y, loss=loss, dtype=dtype, metrics=metrics)
    assert len(result.trials) == 8
    for trial in result.trials:
        trainer = by_hand(trial.config, loss=loss, y=y, n_out=n_out, dtype=dtype, metrics=trial.make().metrics)
        assert same_history(trial, trainer)
        assert trial.status == "finished"


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_keeps_the_replicas_apart(optimizer, norm):
    space = {**SPACE, "weight_decay": [0.0, 0.05], "seed": 3, "optimizer": optimizer, "norm": norm}
    extra = {"clip_norm": 0.5, "regularizer": xpnn.L2(1e-3)} if norm == "batch" else {}
    result = search({**space, **extra}, epochs=2)
    for trial in result.trials[::2] + result.trials[-1:]:
        assert same_history(trial, by_hand(trial.config, epochs=2))


@pytest.mark.parametrize("activation", ["prelu", "gelu", "softplus", "softmax", "selu"])
def test_other_activations_too(activation):
    result = search({**SPACE, "seed": 0, "activation": activation})
    assert all(same_history(trial, by_hand(trial.config)) for trial in result.trials)


def groups_of(space):
    return [len(places) for places in _groups([read(c) for c in grid(space)], 32)]


def test_what_is_trained_together():
    assert groups_of(SPACE) == [8]
    assert groups_of({**SPACE, "weight_decay": [0.0, 0.1]}) == [16]
    for name, values in {
        "batch_size": [16, 32],
        "hidden": [(8,), (16,)],
        "optimizer": ["sgd", "adam"],
        "activation": ["relu", xpnn.LeakyReLU(0.1)],
        "norm": [None, "batch"],
        "clip_norm": [None, 1.0],
        "schedule": [None, xpnn.CosineDecay()],
        "regularizer": [xpnn.L2(0.1), xpnn.L2(0.2)],
        "beta2": [0.99, 0.999],
    }.items():
        assert groups_of({**SPACE, name: values}) == [8, 8], name
    assert groups_of({**SPACE, "activation": [xpnn.LeakyReLU(0.1), xpnn.LeakyReLU(0.1)]}) == [16]
    assert groups_of({**SPACE, "schedule": xpnn.Plateau()}) == [1] * 8
    assert groups_of({**SPACE, "regularizer": xpnn.SpectralNorm(0.1)}) == [1] * 8
    # masks are numbered by layer: dropout after other layers is another network; none at all goes with any
    assert groups_of({"dropout": [0.0, (0.1, 0.0), (0.0, 0.1), 0.2, (0.3, 0.0)], "hidden": (8, 8)}) == [3, 1, 1]
    assert [len(places) for places in _groups([read(c) for c in grid(SPACE)], 3)] == [3, 3, 2]


def test_how_many_are_trained_together_goes_by_their_size(monkeypatch):
    sizes = []
    whole = run_module._groups

    def noted(plans, together):
        groups = whole(plans, together)
        sizes.append([len(places) for places in groups])
        return groups

    monkeypatch.setattr(run_module, "_groups", noted)
    space = {"lr": [0.01 * k for k in range(1, 71)], "hidden": (4,)}
    search(space, epochs=1)
    monkeypatch.setattr(run_module, "_TOGETHER_PARAMS", 250)  # as if the networks were large
    search(space, epochs=1)
    monkeypatch.setattr(run_module, "_TOGETHER_PARAMS", 1)
    search({"lr": [0.1, 0.2], "hidden": (4,)}, epochs=1)
    monkeypatch.setattr(run_module, "_TOGETHER_PARAMS", 1 << 17)
    monkeypatch.setattr(run_module, "_TOGETHER_OUTPUTS", 21 * 128 * (4 + 2))  # as if batches were large
    search(space, epochs=1)
    assert sizes[0] == [64, 6]
    assert sizes[3] == [16] * 4 + [6]
    assert len(sizes[1]) > 2
    assert set(sizes[1][:-1]) == {sizes[1][0]}
    assert sizes[2] == [1, 1]


def test_compiled_loops_gain_less_by_many_together(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(run_module, "_TOGETHER_COMPILED", 2)
    space = {"lr": [0.1, 0.2, 0.3], "hidden": (4,)}
    sizes = []
    whole = run_module._groups
    monkeypatch.setattr(run_module, "_groups", lambda *given: sizes.append(whole(*given)) or sizes[-1])
    results = [search(space, epochs=1, backend=xpnn.get_backend("numpy", compiled=on)) for on in (False, True)]
    assert sizes == [[[0, 1, 2]], [[0, 1], [2]]]
    assert [trial.score for trial in results[0].trials] == [trial.score for trial in results[1].trials]


def test_objects_whose_text_does_not_tell_them_apart_are_kept_apart():
    class Scaled(xpnn.regularizers.L2):
        def __init__(self, lam, factor):
            super().__init__(lam)
            self.lam *= factor

        def __repr__(self):
            return "Scaled"

    assert groups_of({"lr": [0.1, 0.2], "regularizer": [Scaled(0.1, 1), Scaled(0.1, 2)]}) == [2, 2]


@pytest.mark.parametrize("together", [1, 3])
def test_smaller_groups_give_the_same(together):
    whole, parts = search(), search(together=together)
    assert [t.history.rows for t in whole.trials] == [t.history.rows for t in parts.trials]
    assert whole.best.config == parts.best.config


@pytest.mark.parametrize("pattern", [(0.3, 0.0), (0.0, 0.3), (0.2, 0.5)])
def test_dropout_of_single_layers(pattern):
    result = search({**SPACE, "dropout": [0.0, pattern], "seed": 1})
    assert all(same_history(trial, by_hand(trial.config)) for trial in result.trials)


def test_the_lone_trainer_of_a_trial():
    result = search({**SPACE, "schedule": xpnn.CosineDecay()}, seed=5)
    trial = result.trials[3]
    assert trial.make().seed == 5
    assert trial.make().net.seed == trial.config["seed"]
    history = trial.make().fit(X, Y, epochs=4, **trial.fit_options)
    assert history["val_loss"] == trial.history["val_loss"]
    # fewer epochs repeat the beginning: the schedule has the length of the search
    assert trial.make().fit(X, Y, epochs=2, **trial.fit_options)["lr"] == trial.history["lr"][:2]
    assert trial.history["lr"] == by_hand(trial.config, seed=5).history["lr"]
    assert len(set(trial.history["lr"])) == 4


def test_own_validation_data_weights_and_classes():
    rng = np.random.default_rng(0)
    weights = rng.random(150)
    held = xpnn.data.make_moons(40, noise=0.2, seed=1)
    options = {"X_val": held[0], "y_val": held[1], "sample_weight": weights, "sample_weight_val": rng.random(40)}
    result = search(class_weight="balanced", **options)
    trial = result.best
    assert trial.fit_options == {"batch_size": 32, "class_weight": "balanced"}
    history = trial.make().fit(X, Y, epochs=4, **trial.fit_options, **options)
    assert history["val_loss"] == trial.history["val_loss"]
    assert history["loss"] == trial.history["loss"]
    assert min(history["val_loss"]) == trial.score == history["val_loss"][trial.best_epoch - 1]


def test_groups_train_on_every_backend(backend, given):
    space = {**SPACE, "seed": 0}
    x, y = given(X), given(Y, dtype=backend.index_dtype)
    result = search(space, X=x, y=y, backend=backend, epochs=2)
    for trial in result.trials:
        history = trial.make().fit(x, y, epochs=2, **trial.fit_options)
        if backend.name in ("numpy", "strict"):
            assert history["val_loss"] == trial.history["val_loss"]
        np.testing.assert_allclose(history["val_loss"], trial.history["val_loss"], rtol=1e-4)
    ours = search(space, epochs=2)
    for trial, other in zip(result.trials, ours.trials, strict=True):
        np.testing.assert_allclose(trial.history["loss"], other.history["loss"], rtol=1e-4)


# -- divergence ------------------------------------------------------------------------------------------------
RATES = {"optimizer": "sgd", "lr": [0.01, 1e4, 0.05, 3.0, 0.1], "hidden": (8,), "dropout": 0.1, "batch_size": 16}


def lone_fate(config, epochs=6):
    """Epochs that a configuration trains alone before it diverges; None if it does not."""
    trial = search([config], y=REAL, loss=xpnn.MeanSquaredError(), epochs=epochs).trials[0]
    trainer = trial.make()
    try:
        trainer.fit(X, REAL, epochs=epochs, **trial.fit_options)
    except DivergenceError:
        return trainer
    return trainer


@pytest.mark.parametrize("halving", [None, Halving(eta=2)])
def test_a_network_that_diverges_disturbs_no_other(halving):
    result = search(RATES, y=REAL, loss=xpnn.MeanSquaredError(), epochs=6, halving=halving)
    statuses = [trial.status for trial in result.trials]
    assert statuses[1] == "diverged"
    assert statuses.count("diverged") < 4
    for trial in result.trials:
        trainer = lone_fate(trial.config)
        n = trial.epochs
        assert trial.history["loss"] == trainer.history["loss"][:n] if n else trainer.epoch == 0
        assert trial.history["val_loss"] == trainer.history["val_loss"][:n]
        if trial.status == "diverged":
            assert n == trainer.epoch < 6
            assert math.isnan(trial.score)
            assert trial.best_epoch is None
        else:
            assert trial.score == min(trial.history["val_loss"])
    assert result.best.status == "finished"


def test_all_that_diverge():
    result = search({**RATES, "lr": [1e4, 1e5]}, y=REAL, loss=xpnn.MeanSquaredError(), halving=Halving())
    assert {trial.status for trial in result.trials} == {"diverged"}
    assert result.ranking == []
    assert "none with a score" in repr(result)
    with pytest.raises(DataError, match=r"expected a trial with a finite val_loss, got \{'diverged': 2\}"):
        _ = result.best


def test_networks_that_diverge_later_leave_with_the_history_until_then():
    """Here one of them is spoilt by hand, at the end of the fourth epoch."""

    class Spoils(xpnn.SGD):
        def update(self, store, numbers):
            super().update(store, numbers)
            if self.t == 4 * 4 and 0.02 in self.lr:
                store.values[self.lr.index(0.02), 0] = math.nan

    space = {"lr": [0.01, 0.02, 0.03], "optimizer": Spoils, "seed": 0, "batch_size": 32}
    spoilt, whole = search(space, epochs=6), search({**space, "lr": [0.01, 0.03]}, epochs=6)
    assert [t.status for t in spoilt.trials] == ["finished", "diverged", "finished"]
    assert [t.epochs for t in spoilt.trials] == [6, 3, 6]
    assert [spoilt.trials[i].history.rows for i in (0, 2)] == [t.history.rows for t in whole.trials]


def test_errors_that_are_no_divergence_end_the_search():
    class Fails(xpnn.SGD):
        def update(self, store, numbers):
            raise DivergenceError("by another's hand")

    with pytest.raises(DivergenceError, match="by another's hand"):
        search({"lr": [0.1, 0.2], "optimizer": Fails})


# -- halving -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("halving", "n", "epochs", "expected"),
    [
        (Halving(), 27, 27, [(27, 1), (9, 3), (3, 9), (1, 27)]),
        (Halving(min_epochs=2, eta=2), 5, 10, [(5, 2), (2, 4), (1, 8), (1, 10)]),
        (Halving(min_epochs=4), 3, 4, [(3, 4)]),
        (Halving(eta=1.2), 4, 3, [(4, 1), (2, 2), (1, 3)]),
        (Halving(eta=10), 100, 5, [(100, 1), (10, 5)]),
    ],
)
def test_rungs(halving, n, epochs, expected):
    assert halving.rungs(n, epochs) == expected


SCHEDULES = {
    "none": None,
    "cosine": xpnn.CosineDecay(),
    "cosine by steps": xpnn.CosineDecay(unit="step"),
    "warmup": xpnn.Warmup(xpnn.StepDecay(every=2), duration=2),
    "plateau": xpnn.Plateau(patience=0, min_delta=0.5),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_survivors_continue_and_nobody_can_tell(name):
    space = {**SPACE, "schedule": SCHEDULES[name]}
    whole, halved = search(space, epochs=9), search(space, epochs=9, halving=Halving())
    assert sorted(t.epochs for t in halved.trials) == [1] * 6 + [3] + [9]
    for trial, other in zip(halved.trials, whole.trials, strict=True):
        assert trial.history.rows == other.history.rows[: trial.epochs]
        assert trial.status == ("finished" if trial.epochs == 9 else "eliminated")
    first = sorted(whole.trials, key=lambda t: t.history["val_loss"][0])
    assert {id(t) for t in whole.trials if halved.trials[whole.trials.index(t)].epochs > 1} == {
        id(t) for t in first[:2]
    }
    assert halved.epochs == 6 + 3 + 9
    assert halved.best.epochs == 9


def test_survivors_keep_weights_moments_and_counts():
    """The trainer of those who go on has their very arrays."""
    plans = [read(c) for c in grid({**SPACE, "norm": "batch", "optimizer": "nadam"})]
    common = Common(2, 2, CE, ("accuracy",), 0, "numpy", None)
    progress = Progress("val_loss", "min", math.inf, None)
    trials = search({**SPACE, "norm": "batch", "optimizer": "nadam"}, epochs=1).trials
    for trial in trials:
        trial.history.rows.clear()
    data = {"X": X, "y": Y}
    group = ReplicaGroup(trials, progress, data, 4, plans=plans, common=common)
    group.advance(2)
    old = group.trainer
    group.keep([1, 6])
    new = group.trainer
    assert new is not old
    assert (new.epoch, new.step, new.optimizer.t) == (old.epoch, old.step, old.optimizer.t) == (2, 8, 8)
    for ours, theirs in [
        (new.net.store.values, old.net.store.values),
        (new.net.store.buffers, old.net.store.buffers),
        *((new.optimizer.state[name], old.optimizer.state[name]) for name in ("m", "v")),
    ]:
        np.testing.assert_array_equal(ours, theirs[[1, 6]])
    group.advance(4)
    alone = xpnn.search.configuration.build([plans[6]], common, replicated=False, kind=xpnn.Trainer)
    alone.fit(X, Y, epochs=4, **trials[6].fit_options)
    for name, array in alone.net.state_dict().items():
        np.testing.assert_array_equal(group.trainer.net.state_dict()[name][1], array)
    for name in ("m", "v"):
        np.testing.assert_array_equal(group.trainer.optimizer.state[name][1], alone.optimizer.state[name])


def test_better_by_another_column_and_direction():
    result = search(monitor="val_accuracy", epochs=3, halving=Halving(min_epochs=1, eta=4))
    assert result.mode == "max"
    assert result.best.score == max(result.best.history["val_accuracy"])
    assert result.best.score == max(t.score for t in result.trials)
    assert search(monitor="loss", epochs=2, validation_fraction=0.0).best.history.names == [
        "epoch",
        "loss",
        "accuracy",
        "lr",
    ]
    worst = search(monitor="val_loss", mode="max", epochs=2)
    assert worst.best.score == max(t.score for t in worst.trials)


# -- time --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("halving", [None, Halving(eta=2)])
def test_a_search_ends_when_time_is_over(monkeypatch, halving):
    """A clock that advances by a second whenever it is read."""
    ticks = iter(range(10**6))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(ticks)))
    space = {**SPACE, "batch_size": [16, 32], "seed": 0}
    result = search(space, epochs=8, max_seconds=5, halving=halving)
    statuses = [t.status for t in result.trials]
    epochs = [t.epochs for t in result.trials]
    assert "finished" not in statuses
    assert "out of time" in statuses
    assert all((status == "not started") == (n == 0) for status, n in zip(statuses, epochs, strict=True))
    assert 0 < result.epochs < 8 * 8
    assert result.best.epochs > 0
    for trial in result.trials:
        if trial.epochs:
            assert trial.make().fit(X, Y, epochs=trial.epochs, **trial.fit_options)["loss"] == trial.history["loss"]


def test_progress_is_shown(capsys):
    search(verbose=True, epochs=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("search: epoch 16/16: val_loss=0.")
    search({**RATES, "lr": [0.01, 1e4]}, y=REAL, loss=xpnn.MeanSquaredError(), epochs=3, verbose=True)
    assert "search: epoch 3/3: " in capsys.readouterr().err, "what diverged is not waited for"
    search(epochs=1)
    assert capsys.readouterr() == ("", "")


# -- networks of one's own ---------------------------------------------------------------------------------------
def residual(config, **options):
    net = xpnn.Sequential(
        xpnn.Linear(8), xpnn.Residual(xpnn.Linear(8), xpnn.Tanh()), xpnn.Linear(2), n_in=2, seed=config.get("seed", 0)
    )
    smooth = xpnn.CrossEntropy(label_smoothing=config["smoothing"])
    return xpnn.Trainer(net, smooth, xpnn.Adam(config.get("lr", 0.01)), seed=4, **options)


def test_make_covers_what_names_do_not():
    result = search({"smoothing": [0.0, 0.1], "batch_size": [16, 64]}, make=residual, epochs=3)
    for trial in result.trials:
        trainer = residual(trial.config)
        trainer.fit(X, Y, epochs=3, batch_size=trial.config["batch_size"], validation_fraction=0.2)
        assert trainer.history["val_loss"] == trial.history["val_loss"]
        assert trial.make().fit(X, Y, epochs=3, **trial.fit_options)["val_loss"] == trial.history["val_loss"]
    halved = search({"smoothing": [0.0, 0.1, 0.2], "lr": [0.01, 0.1]}, make=residual, epochs=4, halving=Halving(eta=2))
    for trial in halved.trials:
        history = trial.make().fit(X, Y, epochs=trial.epochs, **trial.fit_options)
        assert history["val_loss"] == trial.history["val_loss"]


def test_trainers_of_ones_own_may_end_early_or_diverge():
    def make(config):
        stop = [xpnn.EarlyStopping(patience=1, min_delta=10.0)]
        return residual(config, callbacks=stop) if config["lr"] < 1 else exploding(config)

    def exploding(config):
        net = xpnn.mlp([2, 2])
        net.params["0.weight"][...] = 3e38
        return xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(config["lr"]))

    for halving in (None, Halving(eta=2)):  # rungs end at epochs 1, 2, 4 and 8, and the callback waits through them
        result = search({"lr": [0.01, 1e4], "smoothing": 0.0}, make=make, epochs=8, halving=halving)
        assert [t.status for t in result.trials] == ["finished", "diverged"]
        assert [t.epochs for t in result.trials] == [2, 0]


def test_errors_of_make():
    def used(config):
        trainer = residual(config)
        trainer.fit(X, Y, epochs=1)
        return trainer

    space = {"smoothing": 0.1}
    with pytest.raises(OptionError, match=r"expected make to return a Trainer, got Sequential"):
        search(space, make=lambda c: residual(c).net)
    with pytest.raises(OptionError, match=r"a fresh trainer of one network, got one that has trained for 1 epochs"):
        search(space, make=used)
    with pytest.raises(OptionError, match=r"a fresh trainer of one network, got replicas"):
        search(space, make=lambda c: xpnn.Trainer(xpnn.mlp([2, 2], replicas=2), CE, xpnn.SGD()))
    with pytest.raises(OptionError, match=r"expected loss or make, got both\. Pass one\."):
        search(space, make=residual, loss=CE)
    with pytest.raises(OptionError, match=r"expected loss or make, got neither"):
        run([{}], X, Y)
    with pytest.raises(OptionError, match=r"expected a column 'val_top5'|expected .*column 'val_top5', got epoch"):
        search(space, make=residual, monitor="val_top5")
    with pytest.raises(OptionError, match=r"expected batch_size to be a positive integer, got 0"):
        search({**space, "batch_size": 0}, make=residual)


def test_labels_may_be_whole_floats():
    labels = np.arange(len(Y)) % 3
    one, other = (run([{}], X, y, loss=CE, epochs=1).best for y in (labels, labels.astype(float)))
    assert one.make().net.n_out == other.make().net.n_out == 3
    assert one.score == other.score


# -- bad input -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"dropuot": 0.1}, r"search: expected names among .*, got 'dropuot'\. Did you mean 'dropout'\?"),
        ({"momentum": 0.9}, r"got 'momentum'\. It is an option of other optimizers than Adam\."),
        (
            {"optimizer": "adm"},
            r"expected optimizer to be one of sgd, .*, or a class, got 'adm'\. Did you mean 'adam'\?",
        ),
        ({"optimizer": ["sgd"]}, r"expected optimizer to be one of .*, got \['sgd'\]"),
        ({"optimizer": xpnn.Adam()}, r"expected optimizer to be one of .*, got Adam\("),
        ({"lr": -1}, r"search: expected lr >= 0 and finite, one number a configuration, got -1"),
        ({"lr": (0.1, 0.2)}, r"got \(0\.1, 0\.2\)\. List several in the space: 'lr': \[\.\.\.\]"),
        ({"weight_decay": "a"}, r"search: expected weight_decay >= 0 .*got 'a'"),
        ({"dropout": 1.0}, r"search: expected 0 <= dropout < 1 \(the share of units dropped\), got 1\.0"),
        ({"dropout": (0.1, 0.2)}, r"expected one dropout, or one for each of 1 hidden layers, got \(0\.1, 0\.2\)"),
        ({"hidden": "64"}, r"expected hidden to be the widths of the hidden layers, got '64'"),
        ({"hidden": (8, 0)}, r"expected hidden to be the widths"),
        ({"hidden": (8,), "width": 3}, r"expected hidden, or width and n_layers, got both"),
        ({"n_layers": 2}, r"expected width beside n_layers, got n_layers alone"),
        ({"width": 0}, r"search: expected width to be a positive integer, got 0"),
        ({"batch_size": 0.5}, r"search: expected batch_size to be a positive integer, got 0\.5"),
        ({"seed": [1, 2]}, r"expected seed to be an integer, got \[1, 2\]\. List several"),
        ({"schedule": "cosine"}, r"expected schedule to be an object, got 'cosine'\. Try xpnn\.CosineDecay\(\)"),
        ({"regularizer": 0.1}, r"expected regularizer to be an object, got 0\.1\. Try xpnn\.L2"),
        ({"activation": "rleu"}, r"got 'rleu'\. Did you mean 'relu'\?"),
        ({"norm": "bacth"}, r"mlp: expected norm .*got 'bacth'"),
        ({"clip_norm": -1}, r"Trainer: expected clip_norm > 0 or None, got -1"),
        ({"optimizer": "sgd", "nesterov": True}, r"SGD: nesterov=True expects momentum > 0"),
        ({"epochs": 3}, r"expected no 'epochs' in a configuration.* Pass epochs= to the search"),
        ({"score": 3}, r"expected no 'score' in a configuration: results have a score"),
    ],
)
def test_a_bad_configuration_is_refused_before_any_training(monkeypatch, config, message):
    def trained(*args, **options):
        raise AssertionError("nothing may train")

    monkeypatch.setattr(xpnn.Trainer, "fit", trained)
    with pytest.raises(OptionError, match=message):
        search([{"lr": 0.1}, config])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"space": []}, OptionError, r"search\.run: expected at least one configuration, got none"),
        ({"space": 3}, OptionError, r"search\.run: expected a list of configurations, got int"),
        ({"space": [3]}, OptionError, r"expected each configuration to be a dict, got 3"),
        ({"epochs": 0}, OptionError, r"search\.run: expected epochs to be a positive integer, got 0"),
        ({"together": 0}, OptionError, r"search\.run: expected together to be a positive integer, got 0"),
        ({"max_seconds": 0}, OptionError, r"search\.run: expected max_seconds > 0 or None, got 0"),
        ({"mode": "best"}, OptionError, r"expected mode 'auto', 'min' or 'max', got 'best'"),
        ({"monitor": "val_acuracy"}, OptionError, r"got 'val_acuracy'\. Did you mean 'val_accuracy'\?"),
        ({"halving": 3}, OptionError, r"search\.run: expected halving to be a Halving or None, got 3"),
        ({"loss": None, "make": 3}, OptionError, r"search\.run: expected make to be a function, got 3"),
        ({"y": Y + 0.5}, LabelError, r"CrossEntropy"),
        ({"monitor": "val_acuracy", "mode": "max"}, OptionError, r"got 'val_acuracy'\. Did you mean 'val_accuracy'\?"),
        (
            {"monitor": "grad_norm", "mode": "min"},
            OptionError,
            r"expected monitor to be one of loss, accuracy, val_loss",
        ),
        ({"validation_fraction": 0.0}, OptionError, r"'val_loss' needs validation data, got none"),
        ({"validation_fraction": 2.0}, OptionError, r"fit: expected 0 <= validation_fraction < 1, got 2\.0"),
        ({"loss": "mse"}, OptionError, r"Trainer: expected loss to be a loss object"),
        ({"seed": "a"}, OptionError, r"Trainer: expected seed to be an integer, got 'a'"),
        ({"n_out": 0}, OptionError, r"search\.run: expected n_out to be a positive integer, got 0"),
        ({"y": Y[:-1]}, ShapeError, r"expected equally many rows"),
        ({"y": Y - 1}, LabelError, r"CrossEntropy\(\): expected class numbers 0\.\.1"),
        ({"X": X * np.nan}, DataError, r"fit: expected finite"),
        ({"X": []}, DataError, r"search\.run: expected at least one row in X"),
    ],
)
def test_errors_of_a_search(options, error, message):
    given = {"space": {"lr": [0.1]}, **options}
    if given["space"] == 3:
        with pytest.raises(error, match=message):
            run(3, X, Y, loss=CE)
        return
    with pytest.raises(error, match=message):
        search(given.pop("space"), **given)


def test_outputs_are_told_from_loss_and_targets():
    def n_out(**options):
        return search([{"lr": 0.01}], epochs=1, **options).trials[0].make().net.n_out

    assert n_out() == 2
    assert n_out(n_out=5) == 5
    assert n_out(X_val=X, y_val=np.where(Y == 1, 3, 0)) == 4, "a class may be met in validation only"
    assert n_out(y=np.zeros(150, int)) == 2
    assert n_out(y=np.eye(3)[np.arange(150) % 3]) == 3
    for loss, y, expected in LOSSES.values():
        assert n_out(loss=loss, y=y) == expected
    assert n_out(X=X.tolist(), y=Y.tolist()) == 2


# -- results -----------------------------------------------------------------------------------------------------
def test_rows_files_and_summary(tmp_path):
    result = search(epochs=2)
    rows = result.rows
    assert list(rows[0]) == [*SPACE, "score", "best_epoch", "epochs", "seconds", "status"]
    assert [row["score"] for row in rows] == [t.score for t in result.trials]
    assert all(row["seconds"] > 0 and row["epochs"] == 2 for row in rows)
    result.to_csv(tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open() as file:
        read_back = list(csv.DictReader(file))
    assert [float(r["score"]) for r in read_back] == [row["score"] for row in rows]
    assert read_back[0]["hidden"] == "(9, 5)"
    scores = [t.score for t in result.ranking]
    assert scores == sorted(scores)
    assert result.ranking[0] is result.best
    assert len(result.summary(3).splitlines()) == 5
    assert repr(result).startswith("SearchResult(8 trials, 16 epochs, best val_loss 0.")
    assert "status='finished'" in repr(result.best)
    assert result.seconds == pytest.approx(sum(row["seconds"] for row in rows))
    assert len(result) == 8


def test_the_mean_over_repetitions():
    result = search(epochs=2)
    rows = result.averaged()
    assert [row["n"] for row in rows] == [2] * 4
    assert "seed" not in rows[0]
    assert [row["score"] for row in rows] == sorted(row["score"] for row in rows)
    mine = [t.score for t in result.trials if t.config["lr"] == 0.03 and t.config["dropout"] == 0.4]
    found = next(row for row in rows if (row["lr"], row["dropout"]) == (0.03, 0.4))
    assert (found["score"], found["std"]) == (np.mean(mine), np.std(mine))
    assert [row["n"] for row in result.averaged(["seed", "dropout"])] == [4, 4]
    with pytest.raises(OptionError, match=r"SearchResult: expected names among .*seed, got 'sede'"):
        result.averaged("sede")
    result.trials[0].score = math.nan
    assert math.isnan(result.averaged()[-1]["score"])


def test_results_survive_pickling():
    again = pickle.loads(pickle.dumps(search(epochs=2)))
    assert again.best.make().fit(X, Y, epochs=2, **again.best.fit_options)["loss"] == again.best.history["loss"]


def test_pictures_of_a_result():
    pytest.importorskip("matplotlib")
    result = search(epochs=2, monitor="val_accuracy")
    ax = result.plot("lr", "dropout")
    assert len(ax.texts) == 4
    means = [np.mean([t.score for t in result.trials if t.config["lr"] == lr]) for lr in (0.003, 0.03)]
    bars = result.plot("lr")
    assert [bar.get_height() for bar in bars.patches] == pytest.approx(means)
    assert bars.get_ylabel() == "val accuracy"
    assert bars.get_title() == f"best: {(0.003, 0.03)[int(np.argmax(means))]}"
    colours = [bar.get_facecolor() for bar in bars.patches]
    assert colours[0] != colours[1]
    assert sorted(len(line.get_xdata()) for line in bars.lines if line.get_gid() == "rows") == [4, 4]
    assert [text.get_text() for text in bars.texts] == [f"{mean:.3g}" for mean in means]
    best = result.plot("lr", reduce="max")
    highest = [max(t.score for t in result.trials if t.config["lr"] == lr) for lr in (0.003, 0.03)]
    assert [bar.get_height() for bar in best.patches] == highest


# -- one rate of dropout, one weight decay for each replica --------------------------------------------------------
OWN = [0.0, 0.25, 0.5, 0.9]


def test_masks_of_replicas_with_rates_of_their_own(backend):
    seeds = (5, -2, 5, 8)
    pair = StepKey(seeds, 9)[4]
    together = backend.to_numpy(backend.ops.keep_mask((4, 6, 5), OWN, pair, backend.dtype))
    for k, (seed, rate) in enumerate(zip(seeds, OWN, strict=True)):
        alone = backend.ops.keep_mask((6, 5), rate, StepKey(seed, 9)[4], backend.dtype)
        np.testing.assert_array_equal(together[k], backend.to_numpy(alone) if rate else np.ones((6, 5)))


def test_a_dropout_layer_of_replicas(backend, given):
    x = given(np.random.default_rng(0).normal(size=(6, 5)))
    net = xpnn.Sequential(xpnn.Dropout(OWN), n_in=5, backend=backend, seed=[0, 1, 2, 3])
    y, caches = net.forward(x, train=True, step=2)
    dx = net.backward(y, caches, need_dx=True)
    for k, rate in enumerate(OWN):
        lone = xpnn.Sequential(xpnn.Dropout(rate), n_in=5, backend=backend, seed=k)
        other, caches = lone.forward(x, train=True, step=2)
        np.testing.assert_array_equal(backend.to_numpy(y)[k], backend.to_numpy(other))
        back = lone.backward(other, caches, need_dx=True)
        np.testing.assert_array_equal(backend.to_numpy(dx)[k], backend.to_numpy(back))
    assert np.array_equal(backend.to_numpy(net.predict(x))[3], backend.to_numpy(x))


def test_rates_of_replicas_survive_files_and_copies(tmp_path):
    net = xpnn.mlp([2, 4, 4, 2], dropout=[OWN, 0.1], seed=[0, 1, 2, 3])
    xpnn.save(net, tmp_path / "net.safetensors")
    for again in (xpnn.load(tmp_path / "net.safetensors"), net.copy(), pickle.loads(pickle.dumps(net))):
        assert [layer.rate for layer in again.layers if isinstance(layer, xpnn.Dropout)] == [OWN, 0.1]
        a, b = (n.forward(X, train=True, step=3)[0] for n in (net, again))
        np.testing.assert_array_equal(a, b)
    assert xpnn.Dropout(np.asarray([0.5, 0.25])).rate == [0.5, 0.25]
    assert xpnn.Dropout(np.float32(0.5)).rate == 0.5


@pytest.mark.parametrize("rate", [[0.5, 1.0], [], ["a", 0.1], [0.1, -0.1], [[0.1], 0.2]])
def test_bad_rates_of_replicas(rate):
    with pytest.raises(OptionError, match=r"Dropout: expected 0 <= rate < 1"):
        xpnn.Dropout(rate)


@pytest.mark.parametrize(("seed", "who"), [(0, "no"), ([0, 1, 2], "3")], ids=["single", "three"])
def test_rates_for_other_replicas(seed, who):
    net = xpnn.mlp([2, 4, 2], dropout=[[0.1, 0.2]], seed=seed)
    net.predict(X)
    with pytest.raises(OptionError, match=rf"2\.Dropout: got 2 rates for {who} replicas\. Pass one rate, or one for"):
        net.forward(X, train=True)


@pytest.mark.parametrize("lr", [0.02, [0.02, 0.01, 0.02]], ids=["one rate", "three rates"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decays_of_replicas_are_single_runs(name, lr, backend):
    decays, seeds = [0.0, 0.1, 1.0], [4, 0, 9]
    rates = lr if isinstance(lr, list) else [lr] * 3

    def make(seed):
        return xpnn.mlp([3, 4, 2], backend=backend, seed=seed)

    together, rule = make(seeds), OPTIMIZERS[name](lr, weight_decay=decays)
    singles = [make(seed) for seed in seeds]
    rules = [OPTIMIZERS[name](own, weight_decay=decay) for own, decay in zip(rates, decays, strict=True)]
    for g in np.random.default_rng(0).normal(size=(3, *together.store.grads.shape)):
        together.store.grads[...] = backend.asarray(g)
        rule.step(together.store)
        for k in range(3):
            singles[k].store.grads[...] = backend.asarray(g[k])
            rules[k].step(singles[k].store)
    for k in range(3):
        ours, theirs = (backend.to_numpy(a) for a in (together.store.values[k, ...], singles[k].store.values))
        if backend.name in ("numpy", "strict"):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_weight_decays_survive_files_and_refuse_other_replicas(tmp_path):
    net = xpnn.mlp([2, 4, 2], seed=[0, 1])
    trainer = xpnn.Trainer(net, CE, xpnn.AdamW(0.01, weight_decay=[0.0, 0.2]))
    trainer.fit(X, Y, epochs=2)
    trainer.save(tmp_path / "run.safetensors")
    again = xpnn.Trainer.load(tmp_path / "run.safetensors")
    assert again.optimizer.weight_decay == [0.0, 0.2]
    assert again.fit(X, Y, epochs=1)["loss"] == trainer.fit(X, Y, epochs=1)["loss"]
    with pytest.raises(OptionError, match=r"AdamW: got 2 weight decays for no replicas\. Pass one rate"):
        xpnn.Trainer(xpnn.mlp([2, 2]), CE, xpnn.AdamW(0.01, weight_decay=[0.0, 0.2])).fit(X, Y)
    for bad in ([0.1, -1.0], [], ["a"], "0.1"):
        with pytest.raises(OptionError, match=r"SGD: expected weight_decay >= 0, got"):
            xpnn.SGD(0.1, weight_decay=bad)
