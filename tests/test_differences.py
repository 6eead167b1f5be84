"""A planted fault is found wherever the layer stands, and the layer is named, not the one before it."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.errors import XpnnError
from xpnn.initializers import Constant
from xpnn.params import ParamSpec
from xpnn.testing import check_gradients

RNG = np.random.default_rng(0)
X, Y, T = RNG.normal(size=(7, 4)), np.arange(7) % 4, RNG.normal(size=(7, 4))


class Bend(xpnn.Layer):
    """x² times a trained factor, and twice that in training: a layer as it should be, to be spoilt."""

    def param_specs(self):
        return (ParamSpec("weight", (self.n_in,), Constant(0.5), decay=True),)

    def forward(self, x, *, train=False, key=None):
        factor = 2.0 if train else 1.0
        return x * x * self.params["weight"] * factor, (x, factor)

    def backward(self, dy, cache, *, need_dx=True):
        x, factor = cache
        self.grads["weight"][...] = (dy * x * x).sum(axis=-2, keepdims=True) * factor
        return dy * 2.0 * x * self.params["weight"] * factor if need_dx else None


class WrongDx(Bend):
    """Forgets the inner derivative."""

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, cache) * 0.5


class OneWrongColumn(Bend):
    """Passes nothing down through one feature."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache)
        dx[:, 1] = 0.0
        return dx


class WrongParameter(Bend):
    """Averages where it must sum."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache, need_dx=need_dx)
        self.grads["weight"][...] = self.grads["weight"] / len(dy)
        return dx


class ForgottenParameter(Bend):
    """Assigns no gradient."""

    def backward(self, dy, cache, *, need_dx=True):
        return dy * 2.0 * cache[0] * self.params["weight"] * cache[1]


class MissingCache(Bend):
    """Hands nothing on to the way back."""

    def forward(self, x, *, train=False, key=None):
        return super().forward(x, train=train)[0], None


class KeptOnTheLayer(Bend):
    """Keeps on itself what belongs into the cache: right until another batch comes between."""

    def forward(self, x, *, train=False, key=None):
        y, self.kept = super().forward(x, train=train)
        return y, None

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, self.kept, need_dx=need_dx)


class WrongShape(Bend):
    """Sums the gradient to its input over the rows."""

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, cache).sum(axis=0)


class NoReturn(Bend):
    """Forgets to return."""

    def backward(self, dy, cache, *, need_dx=True):
        super().backward(dy, cache)


class NoReturnForward(Bend):
    """Forgets to return on the way up."""

    def forward(self, x, *, train=False, key=None):
        super().forward(x, train=train)


class TrainingOnTheWayBack(Bend):
    """Goes back as in training after either way up."""

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, (cache[0], 2.0), need_dx=need_dx)


class EvaluationOnTheWayBack(Bend):
    """Goes back as in evaluation after either way up."""

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, (cache[0], 1.0), need_dx=need_dx)


class CacheInTrainingAlone(Bend):
    """Has nothing to go back with after evaluation."""

    def forward(self, x, *, train=False, key=None):
        y, cache = super().forward(x, train=train)
        return y, cache if train else None


class DrawsItsOwn(Bend):
    """Draws a mask that nobody can draw again."""

    rng = np.random.default_rng(0)

    def forward(self, x, *, train=False, key=None):
        y, cache = super().forward(x, train=train)
        return y * (self.rng.random(y.shape) > 0.5), cache


class WritesOverItsInput(Bend):
    """Saves memory that is not its own."""

    def forward(self, x, *, train=False, key=None):
        x *= 1.5
        return super().forward(x, train=train)


FOUND = {  # gradients that are wrong: (in the mode, of)
    WrongDx: ("training", "x"),
    OneWrongColumn: ("training", "x"),
    WrongParameter: ("training", "weight"),
    KeptOnTheLayer: ("training", "x"),
    TrainingOnTheWayBack: ("evaluation", "x"),
    EvaluationOnTheWayBack: ("training", "x"),
    CacheInTrainingAlone: ("evaluation", "x"),
}
RAISED = {  # what cannot be run
    ForgottenParameter: r"backward: expected it to assign the gradient of 'weight'",
    MissingCache: r"backward: expected it to run on the cache that forward returned, None, in training, got TypeError",
    WrongShape: r"backward: expected ∂loss/∂x of shape \(7, {width}\), got \({width},\)",
    NoReturn: r"backward: expected ∂loss/∂x, an array of shape \(7, {width}\), got None",
    NoReturnForward: r"forward: expected \(y, cache\), got None\. Is the return missing",
    DrawsItsOwn: r"forward: expected it to give the same for the same in training, .* Draw masks from key",
    WritesOverItsInput: r"forward: expected it to leave its input as it is in training, got one that wrote over it",
}
PLACES = {
    "first": ("0.", lambda layer: [layer, xpnn.Linear(5), xpnn.Tanh(), xpnn.Linear(4)]),
    "middle": ("2.", lambda layer: [xpnn.Linear(5), xpnn.Tanh(), layer, xpnn.Linear(4)]),
    "last": ("2.", lambda layer: [xpnn.Linear(5), xpnn.Tanh(), layer]),
    "in a residual": ("0.1.", lambda layer: [xpnn.Residual(xpnn.Linear(4), layer), xpnn.Linear(4)]),
}
PENALTIES = {"no penalty": None, "L1": xpnn.L1(0.01), "L2": xpnn.L2(0.01), "spectral": xpnn.SpectralNorm(0.01)}


def check(kind, place, regularizer=None, **options):
    net = xpnn.Sequential(*PLACES[place][1](kind()), n_in=4, seed=1)
    loss, y = (xpnn.CrossEntropy(), Y) if net.n_out == 4 else (xpnn.MeanSquaredError(), np.ones((7, net.n_out)))
    return check_gradients(net, loss, X, y, regularizer=regularizer, **options)


@pytest.mark.parametrize("penalty", ["no penalty", "L2"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", FOUND, ids=lambda kind: kind.__name__)
def test_a_wrong_gradient_is_found_and_its_layer_named(kind, place, penalty):
    report = check(kind, place, PENALTIES[penalty])
    label = PLACES[place][0] + kind.__name__
    assert report.verdict == "bug"
    assert report.faulty == [label], str(report)
    mode, gradient = FOUND[kind]
    wrong = [part for part in report.parts if part.part == label and part.rel_error > 1e-3]
    assert (wrong[0].mode, wrong[0].gradient) == (mode, gradient)
    assert str(wrong[0]) in str(report)
    assert label in str(wrong[0])


@pytest.mark.parametrize("penalty", ["no penalty", "L2"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", RAISED, ids=lambda kind: kind.__name__)
def test_what_cannot_be_run_is_told_with_its_layer(kind, place, penalty):
    words = RAISED[kind].format(width=5 if place in ("middle", "last") else 4)
    with pytest.raises(XpnnError, match=words) as caught:
        check(kind, place, PENALTIES[penalty])
    assert str(caught.value).startswith(PLACES[place][0] + kind.__name__)


@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("place", PLACES)
def test_the_layer_as_it_should_be_passes(place, penalty):
    report = check(Bend, place, PENALTIES[penalty], check_input=True)
    assert (report.verdict, report.faulty) == ("excellent", []), str(report)
    assert {part.mode for part in report.parts} >= {"training", "evaluation"}


def test_a_check_in_evaluation_begins_with_evaluation():
    with pytest.raises(XpnnError, match=r"2\.CacheInTrainingAlone\.backward: .* None, in evaluation, got TypeError"):
        check(CacheInTrainingAlone, "middle", train=False)
    assert check(Bend, "middle", train=False).verdict == "excellent"


class Half(xpnn.L2):
    """Forgets the two of 2 λ w."""

    def add(self, store, lam=None):
        before = store.grads + 0.0
        value = super().add(store, lam)
        store.grads[...] = (store.grads + before) / 2
        return value


class Assigns(xpnn.L2):
    """Writes its gradient over that of the loss."""

    def add(self, store, lam=None):
        store.grads[...] = 0.0
        return super().add(store, lam)


class Doubled(xpnn.MeanSquaredError):
    """Forgets a factor of its gradient."""

    def value_and_grad(self, pred, y, sample_weight=None):
        value, d = super().value_and_grad(pred, y, sample_weight)
        return value, d * 2.0


@pytest.mark.parametrize("penalty", [Half(0.5), Assigns(0.5)], ids=repr)
def test_a_wrong_penalty_is_named(penalty):
    report = check_gradients(xpnn.mlp([4, 5, 4], "tanh"), xpnn.CrossEntropy(), X, Y, regularizer=penalty)
    assert (report.verdict, report.faulty) == ("bug", [type(penalty).__name__]), str(report)
    assert "its gradient to the weights is wrong by" in str(report)


def test_a_wrong_loss_is_named_and_no_layer():
    report = check_gradients(xpnn.mlp([4, 5, 4], "tanh"), Doubled(), X, T)
    assert (report.verdict, report.faulty) == ("bug", ["Doubled"]), str(report)


def test_two_wrong_layers_are_both_named():
    net = xpnn.Sequential(WrongDx(), xpnn.Linear(5), WrongParameter(), xpnn.Linear(4), n_in=4)
    assert check_gradients(net, xpnn.CrossEntropy(), X, Y).faulty == ["0.WrongDx", "2.WrongParameter"]


def test_a_penalty_must_be_one():
    with pytest.raises(XpnnError, match=r"check_gradients: expected .*regularizer"):
        check_gradients(xpnn.mlp([4, 4]), xpnn.CrossEntropy(), X, Y, regularizer=0.1)
