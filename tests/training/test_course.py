"""Schedules of dropout and weight decay: each step is that of an optimizer and layers with these very rates."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.errors import OptionError

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 4)).astype(np.float32)
Y = RNG.integers(0, 3, 48)
STEPS, EPOCHS = 3, 4  # of 16 rows


def make(optimizer=None, dropout=(0.4, 0.1), kind=xpnn.Trainer, seed=3, backend="numpy", **options):
    net = xpnn.mlp([4, 8, 8, 3], "gelu", dropout=list(dropout), seed=seed, backend=backend)
    return kind(net, xpnn.CrossEntropy(), optimizer or xpnn.AdamW(0.01, weight_decay=0.5), **options)


def fit(trainer, **options):
    trainer.fit(X, Y, **{"epochs": EPOCHS, "batch_size": 16, **options})
    return trainer


def weights(trainer):
    return np.array(xpnn.to_numpy(trainer.net.store.values))


class ByHand(xpnn.Trainer):
    """Sets the rates of its layers before each step, by factors of its own."""

    factors: list

    def train_step(self, x, y, weight, step):
        factor = self.factors[self.step]
        layers = [layer for layer in self.net.layers if isinstance(layer, xpnn.Dropout)]
        rates = [layer.rate for layer in layers]
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate * factor
        found = super().train_step(x, y, weight, step)
        for layer, rate in zip(layers, rates, strict=True):
            layer.rate = rate
        return found


class DecaysByHand(xpnn.AdamW):
    """Multiplies its decay by factors of its own."""

    factors: list

    def numbers(self, t, factor=1.0):
        return super().numbers(t, factor, self.factors[t - 1])


SCHEDULES = [xpnn.FlatCosine(), xpnn.CosineDecay(unit="step"), xpnn.StepDecay(1, 0.5), xpnn.CosineDecay(total=2)]


def factors_of(schedule):
    total = EPOCHS if schedule.unit == "epoch" else EPOCHS * STEPS
    times = [s / STEPS if schedule.unit == "epoch" else s for s in range(EPOCHS * STEPS)]
    return [schedule.resolve(total)(t) for t in times]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_dropout_follows_its_schedule(schedule):
    by_hand = make(kind=ByHand, schedule=xpnn.CosineDecay())
    by_hand.factors = factors_of(schedule)
    given = fit(make(schedule=xpnn.CosineDecay(), dropout_schedule=schedule))
    np.testing.assert_array_equal(weights(given), weights(fit(by_hand, graph=False)))
    assert not np.array_equal(weights(given), weights(fit(make(schedule=xpnn.CosineDecay()))))


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_weight_decay_follows_its_schedule(schedule):
    rule = DecaysByHand(0.01, weight_decay=0.5)
    rule.factors = factors_of(schedule)
    given = fit(make(schedule=xpnn.CosineDecay(), weight_decay_schedule=schedule))
    by_hand = fit(make(rule, schedule=xpnn.CosineDecay()))
    np.testing.assert_array_equal(weights(given), weights(by_hand))
    assert not np.array_equal(weights(given), weights(fit(make(schedule=xpnn.CosineDecay()))))


RULES = {
    "sgd": lambda: xpnn.SGD(0.1, 0.9, weight_decay=0.1),
    "momentum": lambda: xpnn.Momentum(0.1, weight_decay=0.1),
    "rmsprop": lambda: xpnn.RMSProp(0.01, weight_decay=0.1),
    "adagrad": lambda: xpnn.AdaGrad(0.1, weight_decay=0.1),
    "adam": lambda: xpnn.Adam(0.01, weight_decay=0.1),
    "adamw": lambda: xpnn.AdamW(0.01, weight_decay=0.5),
    "nadam": lambda: xpnn.NAdam(0.01, weight_decay=0.1),
    "lion": lambda: xpnn.Lion(0.01, weight_decay=0.5),
    "muon": lambda: xpnn.Muon(0.02, weight_decay=0.5),
}


def test_every_rule_with_a_decay_is_here():
    rules = {c for c in vars(xpnn.optim).values() if isinstance(c, type) and issubclass(c, xpnn.Optimizer)}
    assert {type(make()) for make in RULES.values()} == rules - {xpnn.Optimizer, xpnn.LBFGS}


@pytest.mark.parametrize("factors", [False, True], ids=["", "factors"])
@pytest.mark.parametrize("name", RULES)
def test_under_every_rule_it_is_the_decay_of_the_epoch(name, factors):
    """One step an epoch, before which the optimizer is told another decay."""
    own = {"lr_mult": 0.5, "decay_mult": 3.0} if factors else {}

    def trainer(**options):
        layers = xpnn.Linear(8, **own), xpnn.Tanh(), xpnn.Linear(8), xpnn.Tanh(), xpnn.Linear(3)
        net = xpnn.Sequential(*layers, n_in=4, dtype="float64")
        return xpnn.Trainer(net, xpnn.CrossEntropy(), RULES[name](), **options)

    def set_decay(by_hand):
        by_hand.optimizer.weight_decay = given * schedule.resolve(EPOCHS)(by_hand.epoch)

    given, schedule = RULES[name]().weight_decay, xpnn.FlatCosine(flat=0.25)
    scheduled = fit(trainer(weight_decay_schedule=schedule), batch_size=48)
    by_hand = fit(trainer(callbacks=[xpnn.LambdaCallback(on_epoch_begin=set_decay)]), batch_size=48)
    np.testing.assert_array_equal(weights(scheduled), weights(by_hand))
    assert not np.array_equal(weights(scheduled), weights(fit(trainer(), batch_size=48)))


@pytest.mark.parametrize("decoupled", [True, False])
def test_the_numbers_of_a_decay(decoupled):
    kind = xpnn.AdamW if decoupled else xpnn.SGD
    rule = kind(0.1, weight_decay=0.5)
    *scalars, strength = rule.numbers(3, 0.5, 0.25)
    assert strength == (1 - 0.05 * 0.125 if decoupled else 0.125)
    assert tuple(scalars) == rule.numbers(3, 0.5)[:-1]
    assert rule.numbers(3, 0.5, 1.0) == rule.numbers(3, 0.5)
    each = kind([0.1, 0.2], weight_decay=[0.5, 0.0]).numbers(3, 0.5, 0.25)[-1]
    assert np.ravel(each).tolist() == pytest.approx([1 - 0.05 * 0.125, 1.0] if decoupled else [0.125, 0.0])


@pytest.mark.parametrize("which", ["dropout_schedule", "weight_decay_schedule"])
def test_a_schedule_that_does_nothing_changes_nothing(which):
    np.testing.assert_array_equal(weights(fit(make(**{which: xpnn.Constant()}))), weights(fit(make())))


def test_each_replica_trains_as_it_would_alone():
    options = {"dropout_schedule": xpnn.FlatCosine(), "weight_decay_schedule": xpnn.CosineDecay()}
    together = weights(fit(make(seed=[3, 4, 5], **options)))
    for k, seed in enumerate((3, 4, 5)):
        np.testing.assert_allclose(together[k], weights(fit(make(seed=seed, **options))), rtol=2e-4, atol=2e-6)


def test_the_same_on_every_backend(backend):
    options = {"dropout_schedule": xpnn.FlatCosine(), "weight_decay_schedule": xpnn.CosineDecay()}
    there, here = (weights(fit(make(backend=b, **options))) for b in (backend, "numpy"))
    np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-5)


def test_a_fit_that_was_cut_off_goes_on_within_an_epoch():
    options = {"dropout_schedule": xpnn.FlatCosine(unit="step"), "weight_decay_schedule": xpnn.FlatCosine()}
    straight = fit(make(**options))

    class Fails(xpnn.Callback):
        def on_batch_end(self, trainer):
            if trainer.step == 7 and self.armed:
                self.armed = False
                raise RuntimeError("the lights went out")

    callback = Fails()
    callback.armed = True
    trainer = make(callbacks=[callback], **options)
    with pytest.raises(RuntimeError, match="lights"):
        fit(trainer)
    fit(trainer, epochs=EPOCHS - trainer.epoch)
    np.testing.assert_array_equal(weights(trainer), weights(straight))


def test_what_a_schedule_watches_must_be_there():
    for which in ("dropout_schedule", "weight_decay_schedule"):
        with pytest.raises(OptionError, match="val_loss"):
            fit(make(**{which: xpnn.Plateau()}))


def test_a_plateau_lowers_dropout():
    seen = []

    class Looking(xpnn.Trainer):
        def train_step(self, x, y, weight, step):
            seen.append(step.dropout)
            return super().train_step(x, y, weight, step)

    schedule = xpnn.Plateau("loss", 0.5, patience=0, min_delta=10.0)
    fit(make(kind=Looking, dropout_schedule=schedule), graph=False)
    assert seen == [1.0] * 2 * STEPS + [0.5] * STEPS + [0.25] * STEPS


class Climbing(xpnn.schedules.Schedule):
    def __call__(self, t):
        return 1.0 + t


class Unfinished(xpnn.schedules.Schedule):
    def __call__(self, t):
        pass


class Sinking(xpnn.schedules.Schedule):
    def __call__(self, t):
        return 1.0 - t


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"dropout_schedule": Climbing()},
            r"Climbing\.__call__: expected factors that leave rates of dropout in \[0, 1\)",
        ),
        ({"dropout_schedule": Sinking()}, r"of which the highest is 0\.4, got -0\.3333"),
        ({"weight_decay_schedule": Sinking()}, r"Sinking\.__call__: expected factors that leave a weight decay of at"),
        (
            {"dropout_schedule": Unfinished()},
            r"Unfinished\.__call__: expected a factor >= 0 on the rates of dropout, got",
        ),
        ({"weight_decay_schedule": Unfinished()}, r"expected a factor >= 0 on the weight decay, got None"),
        ({"dropout_schedule": 0.5}, r"expected dropout_schedule to be a schedule object such as"),
        ({"weight_decay_schedule": xpnn.FlatCosine}, r"expected weight_decay_schedule to be a schedule object such as"),
    ],
)
def test_wrong_schedules(options, text):
    with pytest.raises(OptionError, match=text):
        fit(make(**options))


def test_a_line_search_has_no_use_for_them():
    net = xpnn.mlp([4, 8, 3])
    for which in ("dropout_schedule", "weight_decay_schedule"):
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.LBFGS(), **{which: xpnn.FlatCosine()})
        with pytest.raises(OptionError, match=f"has no use for {which}"):
            trainer.fit(X, Y)


def test_they_show_in_the_text_of_a_trainer():
    text = repr(make(dropout_schedule=xpnn.FlatCosine()))
    assert "dropout_schedule=FlatCosine(" in text
    assert "weight_decay_schedule" not in text
