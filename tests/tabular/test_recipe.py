"""Recipes: what each table gets, what may stand in one, and the way through JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from xpnn.errors import FileFormatError, OptionError
from xpnn.tabular.recipe import PRESETS, Recipe, TableShape, choose_recipe

NUMBERS = TableShape("regression", rows=5000, numbers=8)
CLASSES = TableShape("classification", rows=5000, numbers=8, categories=(3,), classes=4)

each_preset = pytest.mark.parametrize("preset", PRESETS)
each_shape = pytest.mark.parametrize("shape", [NUMBERS, CLASSES], ids=lambda shape: shape.task)


@each_preset
@each_shape
def test_a_recipe_comes_back_from_json_as_it_was(preset, shape):
    recipe = choose_recipe(preset, shape)
    assert recipe.preset == preset
    assert recipe.task == shape.task
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@each_shape
def test_a_better_preset_spends_more(shape):
    cost = [r.members * r.epochs for r in (choose_recipe(preset, shape) for preset in PRESETS)]
    assert cost == sorted(cost)
    assert cost[0] < cost[2]


@each_preset
def test_fewer_rows_are_gone_through_more_often_in_batches_no_larger(preset):
    recipes = [choose_recipe(preset, dataclasses.replace(NUMBERS, rows=n)) for n in (300, 3000, 30_000, 300_000)]
    epochs, sizes = [r.epochs for r in recipes], [r.batch_size for r in recipes]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[0] > epochs[-1]
    assert sizes == sorted(sizes)


def test_kinds_of_targets_have_their_own_choices():
    numbers, classes = choose_recipe("good", NUMBERS), choose_recipe("good", CLASSES)
    assert (numbers.label_smoothing, numbers.select_by) == (0.0, "loss")
    assert classes.label_smoothing > 0
    assert classes.select_by == "accuracy"
    assert numbers.activation != classes.activation
    assert (numbers.bins, classes.bins) == (16, 0)


def test_one_network_for_classes_is_an_average_of_its_weights_at_the_least_loss():
    alone, several = choose_recipe("quick", CLASSES), choose_recipe("good", CLASSES)
    assert (alone.members, alone.ema, alone.select_by) == (1, 0.98, "loss")
    assert (several.ema, several.select_by) == (0.0, "accuracy")
    assert choose_recipe("quick", CLASSES, metric="accuracy") == alone


@each_shape
def test_several_networks_for_numbers_are_longer_where_there_is_no_noise(shape):
    lengths = [choose_recipe(preset, shape).noiseless_length for preset in PRESETS]
    assert lengths == ([1.0, 2.0, 2.0] if shape.task == "regression" else [1.0, 1.0, 1.0])


def test_numbers_are_learned_in_small_steps_where_there_is_time_for_them():
    quick, good, best = (choose_recipe(preset, NUMBERS).lr for preset in PRESETS)
    assert quick > good == best
    assert choose_recipe("best", dataclasses.replace(NUMBERS, rows=50_000)).lr == quick
    assert len({choose_recipe(preset, CLASSES).lr for preset in PRESETS}) == 1


def test_a_state_of_before_there_were_schedules_of_dropout_and_decay():
    recipe = choose_recipe("good", dataclasses.replace(NUMBERS, rows=50_000))
    state = recipe.to_dict()
    assert state.pop("dropout_schedule") == state.pop("weight_decay_schedule") == "constant"
    assert Recipe.from_dict(state) == recipe
    fading = recipe.replace(dropout_schedule="flatcosine", weight_decay_schedule="flatcosine")
    assert Recipe.from_dict(json.loads(json.dumps(fading.to_dict()))) == fading


@pytest.mark.parametrize("shape", [NUMBERS, CLASSES], ids=lambda shape: shape.task)
def test_many_rows_are_held_back_and_have_bins(shape):
    few, many = (choose_recipe("good", dataclasses.replace(shape, rows=n)) for n in (5000, 50_000))
    assert few.dropout == few.weight_decay == 0.0
    assert many.dropout > 0
    assert many.weight_decay > 0
    assert many.bins == "auto"


def test_many_columns_of_numbers_have_no_bins():
    assert choose_recipe("good", dataclasses.replace(NUMBERS, numbers=300)).bins == 0


@pytest.mark.parametrize("metric", ["log_loss", "roc_auc"])
def test_scores_of_probabilities_choose_the_epoch_by_the_loss(metric):
    several, two = (choose_recipe("good", dataclasses.replace(CLASSES, classes=n), metric=metric) for n in (4, 2))
    assert several.select_by == two.select_by == "loss"
    assert several.label_smoothing > two.label_smoothing == 0.0
    assert choose_recipe("good", CLASSES, metric="accuracy") == choose_recipe("good", CLASSES)


def test_without_numbers_nothing_is_embedded():
    assert choose_recipe("good", dataclasses.replace(CLASSES, numbers=0)).embedding == "none"
    assert choose_recipe("good", CLASSES).embedding == "pbld"


def test_an_unknown_preset():
    with pytest.raises(OptionError, match=r"choose_recipe: expected a preset among quick, good, best, got 'god'.*good"):
        choose_recipe("god", NUMBERS)


def test_replace_changes_single_entries_and_refuses_unknown_names():
    recipe = choose_recipe("good", NUMBERS)
    changed = recipe.replace(hidden=[8, 4], epochs=3)
    assert (changed.hidden, changed.epochs) == ((8, 4), 3)
    assert changed.replace(hidden=recipe.hidden, epochs=recipe.epochs) == recipe
    with pytest.raises(OptionError, match=r"Recipe: expected names of its entries, got 'epoch'\. .*epochs"):
        recipe.replace(epoch=3)


@pytest.mark.parametrize(
    "entries",
    [
        {"epochs": 0},
        {"epochs": 1.5},
        {"noiseless_length": 0.5},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"dropout": 1.0},
        {"hidden": (256, 0)},
        {"clip": -1.0},
        {"bins": "many"},
        {"embedding": "plx"},
        {"task": "both"},
        {"preset": "fast"},
        {"parametric": 1},
        {"patience": 0},
        {"label_smoothing": -0.1},
        {"select_by": "auc"},
        {"weight_decay": float("inf")},
    ],
    ids=str,
)
def test_entries_that_cannot_be(entries):
    (name, value), options = next(iter(entries.items())), {"task": "regression"} | entries
    with pytest.raises(OptionError, match=rf"Recipe: expected {name}.* to be .*, got "):
        Recipe(**options)
    with pytest.raises(FileFormatError, match=r"Recipe.from_dict: expected what to_dict\(\) returns"):
        Recipe.from_dict({"task": "regression"} | {name: list(value) if isinstance(value, tuple) else value})


def test_one_fold_leaves_nothing_to_train_on():
    with pytest.raises(OptionError, match=r"Recipe: expected folds to be 0, or 2 or more, got 1"):
        Recipe("regression", folds=1)


@pytest.mark.parametrize("damage", [{"epoch": 3}, {"task": None}, {"hidden": "256"}])
def test_a_damaged_state(damage):
    state = choose_recipe("good", NUMBERS).to_dict() | damage
    with pytest.raises(FileFormatError, match=r"Recipe\.from_dict: expected what to_dict\(\) returns"):
        Recipe.from_dict(state)


def test_a_state_without_a_task():
    with pytest.raises(FileFormatError, match=r"Recipe\.from_dict"):
        Recipe.from_dict({"epochs": 3})


def test_entries_that_a_file_lacks_have_their_defaults():
    assert Recipe.from_dict({"task": "regression", "epochs": 3}) == Recipe("regression", epochs=3)
