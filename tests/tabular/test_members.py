"""Trained networks of a recipe: splits, folds, averages, time limits, and the same bits each time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from xpnn.backend import to_numpy
from xpnn.data.encoder import TableEncoder
from xpnn.errors import DivergenceError, OptionError
from xpnn.tabular.members import TOO_SHORT, Fitted, fit_members, make_encoder
from xpnn.tabular.recipe import Recipe, TableShape, choose_recipe
from xpnn.training import LambdaCallback

SMALL = Recipe("regression", hidden=(16,), epochs=6, batch_size=32)


def numbers(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return X, (X[:, :1] * X[:, 1:2] + X[:, 2:]).astype(np.float32)


def classes(n: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    X, _ = numbers(n, seed)
    return X, (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 1)


def values(fitted: Fitted) -> dict[str, np.ndarray]:
    return fitted.net.state_dict()


def assert_same(first: Fitted, second: Fitted) -> None:
    a, b = values(first), values(second)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def rmse(fitted: Fitted, X: np.ndarray, y: np.ndarray) -> float:
    out = to_numpy(fitted.loss.link(fitted.net.predict(X)))
    return float(np.sqrt(np.square((out if out.ndim == 2 else out.mean(axis=0)) - y).mean()))


@pytest.mark.parametrize("preset", ["quick", "good"])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_a_preset_learns_a_table(preset, task):
    n_classes = 3 if task == "classification" else 0
    (X, y), (X_new, y_new) = (classes(600), classes(300, 1)) if n_classes else (numbers(600), numbers(300, 1))
    names = ["a", "b", "c"]
    recipe = choose_recipe(preset, TableShape(task, rows=540, numbers=3, classes=n_classes)).replace(epochs=20, folds=0)
    encoder = make_encoder(recipe).fit(dict(zip(names, X[:540].T, strict=True)))
    encoded = [encoder.transform(dict(zip(names, rows.T, strict=True))) for rows in (X, X_new)]
    fitted = fit_members(
        recipe,
        encoded[0][:540],
        y[:540],
        X_val=encoded[0][540:],
        y_val=y[540:],
        n_out=n_classes or 1,
        n_values=encoder.n_values,
    )
    if n_classes:
        p = to_numpy(fitted.loss.link(fitted.net.predict(encoded[1])))
        p = p if p.ndim == 2 else p.mean(axis=0)
        assert (p.argmax(axis=-1) == y_new).mean() > 0.9
    else:
        assert rmse(fitted, encoded[1], y_new) < 0.4 * float(y_new.std())
    assert 1 <= fitted.epoch <= 20
    assert len(fitted.members) == recipe.members
    assert fitted.held_out is not None
    np.testing.assert_array_equal(fitted.held_out.outputs, to_numpy(fitted.net.predict(encoded[0][540:])))


def test_the_encoder_is_as_the_recipe_says():
    recipe = SMALL.replace(clip=None, bins=4, min_count=2, max_categories=7)
    encoder = make_encoder(recipe, categorical=["a"], numeric=["b"])
    wanted = TableEncoder(
        clip=None, bins=4, min_count=2, max_categories=7, categorical=["a"], numeric=["b"], values_first=True
    )
    assert encoder.to_dict() == wanted.to_dict()


def test_one_seed_gives_the_same_bits_and_another_gives_others():
    X, y = numbers()
    recipe = SMALL.replace(folds=2, members=2, dropout=0.1)
    first, again, other = (fit_members(recipe, X, y, n_out=1, n_values=3, seed=s) for s in (1, 1, 2))
    assert_same(first, again)
    assert not np.array_equal(values(first)["0.weight"], values(other)["0.weight"])


def test_several_networks_are_each_what_it_is_alone_and_their_predictions_are_averaged():
    X, y = numbers()
    val: dict[str, Any] = {"X_val": X[200:], "y_val": y[200:], "n_out": 1, "n_values": 3}
    one = fit_members(SMALL, X[:200], y[:200], **val)
    three = fit_members(SMALL.replace(members=3), X[:200], y[:200], **val)
    assert len(three.members) == 3
    for name, value in values(one).items():
        np.testing.assert_array_equal(values(three)[name][0], value, err_msg=name)
    alone = [rmse(Fitted(*_alone(three, k), *three[1:]), X[200:], y[200:]) for k in range(3)]
    assert rmse(three, X[200:], y[200:]) < np.mean(alone)


def _alone(fitted: Fitted, k: int) -> tuple[Any]:
    """One network of several."""
    from xpnn.model import Sequential
    from xpnn.tabular.network import make_layers

    layers = make_layers(SMALL, 3, 1, n_values=3)
    return (Sequential.from_state(layers, {n: v[k] for n, v in values(fitted).items()}, n_in=3),)


def test_each_network_of_folds_is_trained_on_the_rows_of_the_others():
    X, y = numbers()
    recipe = SMALL.replace(folds=3, members=3, epochs=2)
    fitted = fit_members(recipe, X, y, n_out=1, n_values=3, seed=5)
    assert fitted.held_out is not None
    np.testing.assert_array_equal(fitted.held_out.rows, np.arange(len(X)))
    outputs = to_numpy(fitted.net.predict(X))
    near = np.isclose(outputs, fitted.held_out.outputs[None], atol=1e-6).all(axis=-1)
    assert near.any(axis=0).all()  # each row's is that of one of them
    assert [int(v) for v in near.sum(axis=1)] == [80, 80, 80]
    # a row that is spoilt changes only networks that are trained on it
    row, y_bad = int(np.flatnonzero(near[0])[0]), y.copy()
    y_bad[row] += 50.0
    spoilt = fit_members(recipe.replace(patience=None, epochs=1), X, y_bad, n_out=1, n_values=3, seed=5)
    clean = fit_members(recipe.replace(patience=None, epochs=1), X, y, n_out=1, n_values=3, seed=5)
    same = [np.array_equal(values(spoilt)["2.weight"][k], values(clean)["2.weight"][k]) for k in range(3)]
    assert same == [True, False, False]


def test_folds_hold_each_class_alike():
    X, y = classes()
    fitted = fit_members(Recipe("classification", hidden=(8,), epochs=1, folds=4, members=4), X, y, n_out=3, n_values=3)
    assert fitted.held_out is not None
    assert fitted.held_out.outputs.shape == (240, 3)


def test_folds_drawn_twice_give_outputs_of_two_networks_for_each_row():
    X, y = numbers()
    fitted = fit_members(SMALL.replace(folds=2, members=4, epochs=1), X, y, n_out=1, n_values=3)
    assert fitted.held_out is not None
    assert fitted.held_out.outputs.shape == (2, 240, 1)
    assert not np.array_equal(*fitted.held_out.outputs)


@pytest.mark.parametrize(("members", "held_out"), [(2, 120), (5, 240)])
def test_networks_may_be_fewer_or_more_than_folds(members, held_out):
    X, y = numbers()
    fitted = fit_members(SMALL.replace(folds=4, members=members, epochs=1), X, y, n_out=1, n_values=3)
    assert len(fitted.members) == members
    assert fitted.held_out is not None
    assert fitted.held_out.rows.shape == (held_out,)
    assert fitted.held_out.outputs.shape == (held_out, 1)


def test_the_best_epoch_of_each_network_is_kept():
    X, y = numbers()
    fitted = fit_members(
        SMALL.replace(members=2, lr=2.0), X[:200], y[:200], X_val=X[200:], y_val=y[200:], n_out=1, n_values=3
    )
    for member in fitted.members:
        losses = member.history["val_loss"]
        assert member.epoch == 1 + int(np.argmin(losses))


def test_without_held_out_rows_the_last_epoch_counts():
    X, y = numbers()
    fitted = fit_members(SMALL, X, y, n_out=1, n_values=3)
    assert (fitted.epoch, fitted.held_out, fitted.stopped) == (6, None, None)


def test_patience_ends_a_fit():
    X, y = numbers()
    recipe = SMALL.replace(patience=1, epochs=60, lr=3.0)
    fitted = fit_members(recipe, X[:200], y[:200], X_val=X[200:], y_val=y[200:], n_out=1, n_values=3)
    assert fitted.stopped is not None
    assert "has not improved for 1 epochs" in fitted.stopped
    assert len(fitted.history) == fitted.epoch + 1


@pytest.mark.parametrize("folds", [0, 4])
def test_a_time_limit_is_held_with_fewer_epochs_or_networks(folds):
    X, y = numbers(2000)
    recipe = SMALL.replace(epochs=100_000, batch_size=64, folds=folds, members=4)
    held_out = {} if folds else {"X_val": X[:200], "y_val": y[:200]}
    began = time.monotonic()
    fitted = fit_members(recipe, X, y, **held_out, n_out=1, n_values=3, time_limit=1.5)
    assert time.monotonic() - began < 6.0
    assert 1 <= len(fitted.members) <= 4
    assert len(fitted.history) >= 1
    assert rmse(fitted, X, y) < float(y.std())


def test_a_time_limit_that_is_long_enough_changes_nothing():
    X, y = numbers()
    assert_same(
        fit_members(SMALL, X, y, n_out=1, n_values=3, time_limit=600.0), fit_members(SMALL, X, y, n_out=1, n_values=3)
    )


def test_a_time_limit_shorter_than_an_epoch_keeps_what_was_learned_till_then():
    X, y = numbers(200_000)
    began = time.monotonic()
    fitted = fit_members(SMALL.replace(epochs=50), X, y, n_out=1, n_values=3, time_limit=0.2)
    assert time.monotonic() - began < 5.0
    assert fitted.stopped in (TOO_SHORT, "the time limit leaves 1 of 50 epochs")
    assert len(fitted.history) == fitted.epoch == 1
    assert np.isfinite(fitted.net.predict(X[:100])).all()


def test_callbacks_hear_of_each_fit():
    X, y = numbers()
    heard: list[tuple[int, int]] = []

    def listening(k: int) -> list[LambdaCallback]:
        return [LambdaCallback(on_epoch_end=lambda trainer: heard.append((k, trainer.epoch)))]

    fit_members(SMALL.replace(members=2, epochs=2), X, y, n_out=1, n_values=3, callbacks=listening)
    assert heard == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_weights_of_rows_and_classes_reach_the_loss():
    X, y = classes()
    recipe = Recipe("classification", hidden=(8,), epochs=3)
    plain = fit_members(recipe, X, y, n_out=3, n_values=3)
    ones = fit_members(recipe, X, y, n_out=3, n_values=3, sample_weight=np.ones(len(X), np.float32))
    balanced = fit_members(recipe, X, y, n_out=3, n_values=3, class_weight="balanced")
    np.testing.assert_allclose(values(ones)["1.weight"], values(plain)["1.weight"], rtol=1e-5)
    assert not np.allclose(values(balanced)["1.weight"], values(plain)["1.weight"], rtol=1e-3)


def test_a_first_network_that_diverges_at_once_is_an_error():
    X, y = numbers()
    with np.errstate(all="ignore"), pytest.raises(DivergenceError, match="fit: "):
        fit_members(SMALL.replace(lr=1e30, lr_by_width=False), X, y, n_out=1, n_values=3)


def test_folds_with_held_out_rows_besides():
    X, y = numbers()
    with pytest.raises(OptionError, match=r"fit_members: expected no X_val for a recipe with 2 folds, got some"):
        fit_members(SMALL.replace(folds=2, members=2), X, y, X_val=X, y_val=y, n_out=1)


def test_more_folds_than_rows():
    X, y = numbers(3)
    with pytest.raises(OptionError, match=r"folds: expected 2 to 3 parts of 3 rows, got 5"):
        fit_members(SMALL.replace(folds=5, members=5), X, y, n_out=1)


@pytest.mark.parametrize("limit", [0, -1.0, float("nan"), "soon"])
def test_a_time_limit_that_cannot_be(limit):
    X, y = numbers()
    with pytest.raises(OptionError, match=r"fit_members: expected time_limit > 0 or None"):
        fit_members(SMALL, X, y, n_out=1, time_limit=limit)


def smooth(n: int = 400, noise: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    X, y = numbers(n)
    y = X[:, :1] + 0.5 * X[:, 1:2] + noise * np.random.default_rng(9).normal(size=(n, 1))
    return X, ((y - y.mean()) / y.std()).astype(np.float32)


LONGER = SMALL.replace(epochs=20, lr=0.1, folds=3, members=3, noiseless_length=2.5)


def lengths(fitted: Fitted) -> list[int]:
    return [len(member.history) for member in fitted.members]


def test_without_noise_the_networks_after_the_first_have_more_epochs():
    exact = fit_members(LONGER, *smooth(), n_out=1, n_values=3)
    assert min(exact.history["val_loss"]) < 0.005
    assert (lengths(exact), exact.longer) == ([20, 50, 50], 50)
    noisy = fit_members(LONGER, *smooth(noise=0.5), n_out=1, n_values=3)
    assert (lengths(noisy), noisy.longer) == ([20, 20, 20], None)
    usual = fit_members(LONGER.replace(noiseless_length=1.0), *smooth(), n_out=1, n_values=3)
    assert (lengths(usual), usual.longer) == ([20, 20, 20], None)
    for name, value in values(usual).items():  # the first is the same
        np.testing.assert_array_equal(values(exact)[name][0], value[0], err_msg=name)


def test_more_epochs_without_noise_are_the_same_in_several_processes():
    X, y = smooth()
    pytest.importorskip("joblib")
    assert_same(*(fit_members(LONGER, X, y, n_out=1, n_values=3, n_jobs=jobs) for jobs in (1, 2)))


FADING = SMALL.replace(
    folds=2, members=2, dropout=0.3, weight_decay=0.1, dropout_schedule="flatcosine", weight_decay_schedule="flatcosine"
)


def test_dropout_and_decay_that_fade_do_so_in_each_network():
    pytest.importorskip("joblib")
    X, y = smooth()
    fading = fit_members(FADING, X, y, n_out=1, n_values=3)
    for name in ("dropout_schedule", "weight_decay_schedule"):
        constant = fit_members(FADING.replace(**{name: "constant"}), X, y, n_out=1, n_values=3)
        for k in range(2):
            weights = [values(fitted)["0.weight"][k] for fitted in (fading, constant)]
            assert not np.array_equal(*weights), (name, k)
    assert_same(fading, fit_members(FADING, X, y, n_out=1, n_values=3, n_jobs=2))
    cut = fit_members(FADING.replace(epochs=100_000), X, y, n_out=1, n_values=3, time_limit=0.3)
    assert np.isfinite(cut.net.predict(X)).all()


def test_other_losses_than_the_squared_error_say_nothing_of_noise():
    fitted = fit_members(LONGER.replace(loss="mae"), *smooth(), n_out=1, n_values=3)
    assert lengths(fitted) == [20, 20, 20]


def test_more_epochs_end_with_the_time_limit():
    recipe = LONGER.replace(epochs=40, noiseless_length=1000.0)
    began = time.monotonic()
    fitted = fit_members(recipe, *smooth(), n_out=1, n_values=3, time_limit=3.0)
    assert time.monotonic() - began < 6.0
    assert lengths(fitted)[0] == 40
    assert fitted.longer is not None
    assert 40 < fitted.longer < 40_000
