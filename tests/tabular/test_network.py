"""What a recipe's entries make: layers, rates, loss, optimizer and schedule."""

from __future__ import annotations

import math

import pytest

import xpnn
from xpnn.errors import OptionError
from xpnn.tabular.network import make_loss, make_network, make_trainer
from xpnn.tabular.recipe import Recipe

PLAIN = Recipe("regression", embedding="none", scale=False, parametric=False, lr_by_width=False, hidden=(8, 8))


def kinds(recipe: Recipe, n_values: int = 0) -> list[str]:
    return [type(layer).__name__ for layer in make_network(recipe, 5, 2, n_values=n_values).layers]


def test_layers_are_those_that_the_recipe_names():
    assert kinds(PLAIN) == ["Linear", "Mish", "Linear", "Mish", "Linear"]
    block = ["Linear", "BatchNorm", "ParametricActivation", "Dropout"]
    rich = PLAIN.replace(parametric=True, norm="batch", dropout=0.2, scale=True, embedding="pbld")
    assert kinds(rich, 3) == ["Columns", "Scale", *block, *block, "Linear"]
    assert kinds(rich, 5)[0] == "NumericalEmbedding"
    assert kinds(rich, 0)[0] == "Scale"
    assert kinds(PLAIN.replace(residual=True)) == ["Linear", "Mish", "Residual", "Linear"]
    assert kinds(PLAIN.replace(hidden=())) == ["Linear"]


def test_embedded_numbers_widen_what_follows():
    net = make_network(PLAIN.replace(embedding="pbld"), 5, 2, n_values=3)
    assert net.layers[1].n_in == 2 + 3 * 4


def test_rates_go_by_the_width_of_a_layer():
    net = make_network(PLAIN.replace(lr_by_width=True, hidden=(16,)), 4, 1)
    specs = net.store.specs
    assert specs["0.weight"].lr_mult == pytest.approx(1 / 2)
    assert specs["2.weight"].lr_mult == pytest.approx(1 / 4)
    assert {specs["0.bias"].lr_mult, specs["2.bias"].lr_mult} == {0.1}
    assert specs["2.weight"].lr_mult * specs["2.weight"].decay_mult == pytest.approx(1.0)
    assert make_network(PLAIN, 4, 1).store.lr_factors is None


def test_the_loss_belongs_to_the_task():
    smooth = make_loss(Recipe("classification", label_smoothing=0.1))
    assert repr(smooth) == repr(xpnn.CrossEntropy(label_smoothing=0.1))
    assert isinstance(make_loss(PLAIN), xpnn.MeanSquaredError)
    assert isinstance(make_loss(PLAIN.replace(loss="huber")), xpnn.Huber)


def test_the_trainer_has_the_recipe_s_optimizer_and_schedule():
    recipe = PLAIN.replace(
        lr=0.01, beta2=0.9, weight_decay=0.3, epochs=40, schedule="cosine", warmup=0.1, clip_norm=1.0
    )
    trainer = make_trainer(recipe, make_network(recipe, 5, 2))
    rule = trainer.optimizer
    assert isinstance(rule, xpnn.AdamW)
    assert (rule.lr, rule.beta2, rule.weight_decay, trainer.clip_norm) == (0.01, 0.9, 0.3, 1.0)
    assert trainer.schedule.resolve(40)(2.0) == pytest.approx(0.5)
    assert math.isclose(trainer.schedule.resolve(40)(40.0), 0.0, abs_tol=1e-12)
    valleys = PLAIN.replace(schedule="coslog4", warmup=0.1)  # which rises by itself
    assert isinstance(make_trainer(valleys, make_network(PLAIN, 5, 2)).schedule, xpnn.CosineLog)


def test_an_average_of_the_weights_comes_before_what_looks_at_them():
    recipe, stop = PLAIN.replace(ema=0.9), xpnn.EarlyStopping()
    trainer = make_trainer(recipe, make_network(recipe, 5, 2), callbacks=[stop])
    assert [type(c) for c in trainer.callbacks] == [xpnn.EMA, xpnn.EarlyStopping]


def test_dropout_and_decay_have_schedules_of_their_own():
    recipe = PLAIN.replace(dropout=0.2, weight_decay=0.1, epochs=4)
    trainer = make_trainer(recipe, make_network(recipe, 5, 1))
    assert (trainer.dropout_schedule, trainer.weight_decay_schedule) == (None, None)
    fading = recipe.replace(dropout_schedule="flatcosine", weight_decay_schedule="cosine")
    trainer = make_trainer(fading, make_network(fading, 5, 1))
    assert isinstance(trainer.dropout_schedule, xpnn.FlatCosine)
    assert isinstance(trainer.weight_decay_schedule, xpnn.CosineDecay)


UNKNOWN = [("optimizer", "adan"), ("schedule", "cosin"), ("dropout_schedule", "flat"), ("weight_decay_schedule", "x")]


@pytest.mark.parametrize(("entry", "value"), UNKNOWN)
def test_names_that_are_unknown(entry, value):
    with pytest.raises(OptionError, match=rf"Recipe: expected {entry} to be one of .*, got '{value}'"):
        make_trainer(PLAIN.replace(**{entry: value}), make_network(PLAIN, 5, 2))


def test_an_activation_that_is_unknown():
    with pytest.raises(OptionError, match="activation: expected one of"):
        make_network(PLAIN.replace(activation="mesh"), 5, 2)
