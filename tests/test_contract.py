"""Parts of somebody's own: what is wrong with them is told by the name of the class, at the first step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import backend_or_skip

import xpnn
from xpnn.contract import check_array, check_call, check_function, check_pair, foreign, what
from xpnn.errors import DTypeError, MissingMethodError, OptionError, ShapeError, XpnnError
from xpnn.initializers import Constant
from xpnn.metrics import Metric
from xpnn.params import ParamSpec
from xpnn.testing import check_gradients

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 4)).astype(np.float32)
Y = np.arange(20) % 3
T = X[:, :1]


class Double(xpnn.Layer):
    """A layer as it should be, to be spoilt."""

    def forward(self, x, *, train=False, key=None):
        return x * 2.0, None

    def backward(self, dy, cache, *, need_dx=True):
        return dy * 2.0 if need_dx else None


class Scale(xpnn.Layer):
    """One factor for each feature; `note` is how its gradient is written."""

    def param_specs(self):
        return (ParamSpec("weight", (self.n_in,), Constant(0.5), decay=True),)

    def forward(self, x, *, train=False, key=None):
        return x * self.params["weight"], x

    def backward(self, dy, cache, *, need_dx=True):
        self.note((dy * cache).sum(axis=-2, keepdims=True))
        return dy * self.params["weight"] if need_dx else None

    def note(self, gradient):
        self.grads["weight"][...] = gradient


def spoilt(base, **methods):
    return type("Mine", (base,), methods)()


def forward(body):
    return {"forward": lambda self, x, *, train=False, key=None: body(x)}


def backward(body):
    return {"backward": lambda self, dy, cache, *, need_dx=True: body(dy)}


LAYERS = {
    "no return": (forward(lambda x: None), r"forward: expected \(y, cache\), got None\. Is the return missing"),
    "no cache": (forward(lambda x: x), r"forward: expected \(y, cache\), got an array of shape .* return y, None"),
    "three things": (forward(lambda x: (x, x, x)), r"expected \(y, cache\), got a tuple of 3"),
    "too narrow": (forward(lambda x: (x[:, :2], None)), r"an output of shape \(20, 4\), got \(20, 2\)\..* out_size"),
    "one axis": (forward(lambda x: (x[:, 0], None)), r"an output of shape \(20, 4\), got \(20,\)"),
    "transposed": (forward(lambda x: (x.T, None)), r"an output of shape \(20, 4\), got \(4, 20\)"),
    "a list": (forward(lambda x: (x.tolist(), None)), r"an output, an array of shape \(20, 4\), got a list"),
    "output None": (forward(lambda x: (None, None)), r"an output, an array of shape \(20, 4\), got None"),
    "wider dtype": (
        forward(lambda x: (x * np.float64(2), None)),
        r"an output in float32, .* got float64\. .*float\(\)",
    ),
    "whole numbers": (forward(lambda x: (x.astype(int), None)), r"an output in float.., .* got int64"),
    "no options": (
        {"forward": lambda self, x: (x, None)},
        r"forward: .*\(x, \*, train=\.\.\., key=\.\.\.\), got \(x\)",
    ),
    "no dx": (backward(lambda dy: None), r"backward: expected ∂loss/∂x, an array of shape \(20, 4\), got None"),
    "dx of another shape": (backward(lambda dy: dy[:, :3]), r"backward: expected ∂loss/∂x of shape \(20, 4\), got"),
    "dx summed": (backward(lambda dy: dy.sum(axis=0)), r"backward: expected ∂loss/∂x of shape \(20, 4\), got \(4,\)"),
    "dx transposed": (backward(lambda dy: dy.T), r"backward: expected ∂loss/∂x of shape \(20, 4\), got \(4, 20\)"),
    "dx of another dtype": (backward(lambda dy: dy.astype("d")), r"backward: expected ∂loss/∂x in float32, .* float64"),
    "no need_dx": ({"backward": lambda self, dy, cache: dy}, r"backward: .*\(dy, cache, \*, need_dx=\.\.\.\), got"),
}
PLACES = {
    "in the middle": ("1.Mine", lambda layer: [xpnn.Linear(4), layer, xpnn.Linear(3)]),
    "in a residual": ("0.1.Mine", lambda layer: [xpnn.Residual(xpnn.Linear(4), layer), xpnn.Linear(3)]),
    "last": ("1.Mine", lambda layer: [xpnn.Linear(4), layer]),
}


def net_of(place, layer, **options):
    return xpnn.Sequential(*PLACES[place][1](layer), n_in=4, **options)


def fit(net=None, loss=None, optimizer=None, y=Y, **options):
    trainer = xpnn.Trainer(net or xpnn.mlp([4, 3]), loss or xpnn.CrossEntropy(), optimizer or xpnn.Adam(), **options)
    return trainer.fit(X, y, epochs=1)


# -- layers -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_named_with_its_place(name, place):
    methods, words = LAYERS[name]
    label, _ = PLACES[place]
    runs = [fit, lambda net: check_gradients(net, xpnn.CrossEntropy(), X, Y)]
    for run in runs if "dtype" not in name else runs[:1]:  # gradients are checked in float64
        with pytest.raises(XpnnError, match=words) as caught:
            run(net_of(place, spoilt(Double, **methods)))
        assert str(caught.value).startswith(f"{label}."), "names the layer"
    if "forward" in methods:
        with pytest.raises(XpnnError, match=words):
            net_of(place, spoilt(Double, **methods)).predict(X)


@pytest.mark.filterwarnings("ignore:fit. each step is made in Python")
@pytest.mark.parametrize("graph", ["auto", True])
def test_what_is_wrong_in_training_alone_is_told_after_predictions(graph):
    odd = spoilt(Double, forward=lambda self, x, *, train=False, key=None: (x, None) if not train else x)
    net = net_of("in the middle", odd)
    net.predict(X)
    before = net.store.values.copy()
    with pytest.raises(OptionError, match=r"^1\.Mine\.forward: expected \(y, cache\)"):
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, Y, epochs=4, batch_size=4, graph=graph)
    np.testing.assert_array_equal(net.store.values, before)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple),
    passes=st.sampled_from(["forward", "backward"]),
)
def test_any_other_shape_is_told(shape, passes):
    """Of 4 rows and 5 features, where a mistake might broadcast and train on."""
    wrong = np.zeros(shape, np.float32)
    body = forward(lambda x: (wrong, None)) if passes == "forward" else backward(lambda dy: wrong)
    net = xpnn.Sequential(xpnn.Linear(5), spoilt(Double, **body), xpnn.Linear(3), n_in=4)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam())
    if shape == (4, 5):
        trainer.fit(X[:4], Y[:4], epochs=1)
        return
    with pytest.raises(ShapeError, match=rf"^1\.Mine\.{passes}: expected .* of shape \(4, 5\), got"):
        trainer.fit(X[:4], Y[:4], epochs=1)


GRADIENTS = {
    "forgotten": lambda self, gradient: None,
    "added": lambda self, gradient: self.grads["weight"].__iadd__(gradient),
    "a new array": lambda self, gradient: self.grads.__setitem__("weight", gradient),
    "a part": lambda self, gradient: self.grads["weight"][..., :2].__setitem__(..., gradient[..., :2]),
}


@pytest.mark.parametrize("optimizer", [xpnn.Adam, xpnn.Lion, xpnn.LBFGS])
@pytest.mark.parametrize("name", GRADIENTS)
def test_a_gradient_that_is_not_assigned_is_told(name, optimizer):
    layer = spoilt(Scale, note=GRADIENTS[name])
    words = r"^1\.Mine\.backward: expected it to assign the gradient of 'weight'.* self\.grads\['weight'\]\[\.\.\.\] ="
    net = net_of("in the middle", layer)
    before = net.store.values.copy(), net.store.grads.copy()
    with pytest.raises(OptionError, match=words):
        fit(net, optimizer=optimizer())
    for array, was in zip((net.store.values, net.store.grads), before, strict=True):
        np.testing.assert_array_equal(array, was)
    with pytest.raises(OptionError, match=words):
        check_gradients(net_of("in the middle", spoilt(Scale, note=GRADIENTS[name])), xpnn.CrossEntropy(), X, Y)


@pytest.mark.parametrize("spec", ["numpy", "strict"])
def test_right_layers_train_as_ever_and_are_looked_at_once(spec):
    backend_or_skip(spec)
    made = []

    class Counted(Double):
        def forward(self, x, *, train=False, key=None):
            made.append(train)
            return super().forward(x, train=train, key=key)

    nets = [
        xpnn.Sequential(xpnn.Linear(4), layer, xpnn.Linear(3), n_in=4, backend=spec) for layer in (Double(), Counted())
    ]
    for net in nets:
        xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, Y, epochs=2, batch_size=10)
    for a, b in zip(*(net.state_dict().values() for net in nets), strict=True):
        np.testing.assert_array_equal(a, b)
    assert made == [True] * 4, "no call but those of the steps"


def test_layers_say_their_sizes():
    for methods, words in (
        ({"out_size": lambda self, n: None}, r"^0\.Mine\.out_size: expected .* positive integer, got None"),
        ({"param_specs": lambda self: None}, r"^0\.Mine\.param_specs: expected a tuple of ParamSpec, got None"),
        ({"param_specs": lambda self: ParamSpec("w", (1,), Constant(0.5), decay=True)}, r"Of one, return \(spec,\)"),
    ):
        with pytest.raises(OptionError, match=words):
            xpnn.Sequential(spoilt(Double, **methods), n_in=4)


def test_a_layer_without_passes():
    with pytest.raises(MissingMethodError, match=r"^0\.Mine: expected a layer with a pass named forward"):
        xpnn.Sequential(spoilt(xpnn.Layer), n_in=4).predict(X)


# -- losses -------------------------------------------------------------------------------------------------------
def rows(body):
    return {"rows": lambda self, xp, pred, y: body(xp, pred, y)}


LOSSES = {
    "a mean": (
        rows(lambda xp, p, y: (xp.mean((p - y) ** 2), p - y)),
        r"a loss for each row of shape \(20,\), got \(\)",
    ),
    "a number": (rows(lambda xp, p, y: (1.0, p - y)), r"a loss for each row, an array of shape \(20,\), got 1\.0"),
    "no return": (rows(lambda xp, p, y: None), r"their gradient, got None\. Is the return missing"),
    "no gradient": (rows(lambda xp, p, y: xp.sum((p - y) ** 2, axis=-1)), r"Return both: return losses, d"),
    "columns": (rows(lambda xp, p, y: ((p - y) ** 2, p - y)), r"a loss for each row of shape \(20,\), got \(20, 1\)"),
    "flat": (rows(lambda xp, p, y: ((p - y)[:, 0], (p - y)[:, 0])), r"∂loss/∂pred of shape \(20, 1\), got \(20,\)"),
    "gradient None": (rows(lambda xp, p, y: ((p - y)[:, 0], None)), r"∂loss/∂pred, an array of shape .* got None"),
    "wider dtype": (rows(lambda xp, p, y: ((p - y)[:, 0], (p - y) * np.float64(2))), r"in float32, .* got float64"),
    "its argument": (rows(lambda xp, p, y: (p[:, 0], p)), r"expected a new array as gradient, got its argument"),
    "other arguments": ({"rows": lambda self, pred, y: None}, r"\(xp, pred, y\), got \(pred, y\)\. Write def rows"),
    "no rows": ({}, r"expected a loss that says what a row costs, got none\. Define rows"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_named(name):
    methods, words = LOSSES[name]
    runs = [
        lambda loss: fit(xpnn.mlp([4, 1]), loss, y=T),
        lambda loss: loss.value_and_grad(T + 1, T),
        lambda loss: check_gradients(xpnn.mlp([4, 1]), loss, X, T),
    ]
    for run in runs if "dtype" not in name else runs[:2]:  # gradients are checked in float64
        with pytest.raises(XpnnError, match=words) as caught:
            run(spoilt(xpnn.Loss, **methods))
        assert str(caught.value).startswith("Mine")


# -- callbacks, metrics, rules, schedules, penalties ----------------------------------------------------------------
class Named(Metric):
    """A metric as it should be."""

    name, mode = "named", "max"

    def per_sample(self, xp, pred, y):
        return pred[..., 0]


@dataclass(frozen=True)
class Schedule(xpnn.schedules.Schedule):
    """Nothing, where a factor is due."""

    def __call__(self, t):
        return None


@dataclass(frozen=True)
class Timeless(xpnn.schedules.Schedule):
    """Takes no time."""

    def __call__(self):
        return 1.0


def callback(**hooks):
    return {"callbacks": [spoilt(xpnn.Callback, **hooks)]}


def optimizer(rule=None, init=None):
    methods = {name: method for name, method in (("rule", rule), ("__init__", init)) if method is not None}
    kind = type("Mine", (xpnn.Optimizer,), methods)
    return {"optimizer": kind() if init else kind(0.1)}


def metric(**methods):
    return {"metrics": [spoilt(Named, **methods)]}


def penalty(**methods):
    return type("Mine", (xpnn.regularizers.Regularizer,), methods)(0.1)


def rebound(self, store, scalars):
    store.values = store.values * 0.9


PARTS = {
    "misspelt hook": (
        callback(on_epoch_ends=lambda self, t: None),
        r"Mine: .* on_epoch_ends, .*Did you mean 'on_epoch_end'",
    ),
    "unknown hook": (
        callback(on_pause=lambda self, t: None),
        r"Mine: .* got on_pause, which nobody calls\. Hooks are on_",
    ),
    "hook without trainer": (callback(on_fit_end=lambda self: None), r"Mine\.on_fit_end: .*\(trainer\), got \(\)"),
    "hook of two": (callback(on_epoch_end=lambda self, t, logs: None), r"Mine\.on_epoch_end: .*, got \(t, logs\)"),
    "no callback": ({"callbacks": [Double()]}, r"each callback .* Derive its class from xpnn\.Callback"),
    "rows of outputs": (metric(per_sample=lambda s, xp, p, y: p), r"Mine\.per_sample: expected a value"),
    "a mean metric": (metric(per_sample=lambda s, xp, p, y: xp.mean(p)), r"got \(\)"),
    "a metric's None": (metric(per_sample=lambda s, xp, p, y: None), r"got None\. Is a return"),
    "a vector": (metric(value=lambda s, t: t), r"Mine\.value: expected one number, got an array"),
    "one sum": (metric(sums=lambda s, xp, p, y, w: xp.sum(p)), r"Mine\.sums: expected 2 sums"),
    "sums of rows": (metric(sums=lambda s, xp, p, y, w: (p, p)), r"sums over the rows of shape \(\)"),
    "no name": (metric(name=None), r"Mine: expected a metric with a name"),
    "a new array": (optimizer(lambda s, store, c: store.values - c[0] * store.grads), r"Mine\.rule: .*in place"),
    "values rebound": (optimizer(rebound), r"Mine\.rule: expected it to move store\.values in place"),
    "other arguments": (optimizer(lambda s, store, grads, lr: None), r"Mine\.rule: .*\(store, scalars\), got"),
    "no rule": (optimizer(), r"Mine: expected an optimizer with a rule, got none"),
    "no super": (optimizer(lambda s, store, c: None, lambda self: None), r"Mine: .* Call super\(\)\.__init__\(lr\)"),
    "no factor": ({"schedule": Schedule()}, r"Schedule\.__call__: expected a factor >= 0 .* got None"),
    "no time": ({"schedule": Timeless()}, r"Timeless\.__call__: expected to be called with \(t\)"),
    "no penalty": (
        {"regularizer": penalty(add=lambda s, store, lam=None: None)},
        r"Mine\.add: expected the penalty, .* got None",
    ),
    "no add": ({"regularizer": penalty()}, r"Mine: expected a penalty that adds"),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_named_before_anything_is_trained(name):
    options, words = PARTS[name]
    net = xpnn.mlp([4, 3])
    before = net.store.values.copy()
    with pytest.raises(XpnnError, match=words):
        fit(net, **options)
    np.testing.assert_array_equal(net.store.values, before)


def test_callbacks_that_come_later_are_looked_at():
    trainer = xpnn.Trainer(xpnn.mlp([4, 3]), xpnn.CrossEntropy(), xpnn.Adam())
    trainer.fit(X, Y, epochs=1)
    trainer.callbacks.append(spoilt(xpnn.Callback, on_epoch_ends=lambda self, t: None))
    with pytest.raises(OptionError, match="on_epoch_ends"):
        trainer.fit(X, Y, epochs=1)


@pytest.mark.parametrize(
    ("hook", "words"),
    [
        ({"on_epoch_ends": print}, r"got on_epoch_ends\. Did you mean 'on_epoch_end'\?"),
        ({"on_epoch_end": lambda: None}, r"on_epoch_end=\.\.\.\): expected to be called with \(trainer\), got \(\)"),
        ({"on_epoch_end": 3}, r"expected a function of trainer, got 3"),
    ],
)
def test_functions_at_hooks_are_looked_at(hook, words):
    with pytest.raises(OptionError, match=words):
        xpnn.LambdaCallback(**hook)


# -- the checks themselves ----------------------------------------------------------------------------------------
def test_xpnns_own_are_not_foreign():
    assert not any(map(foreign, (xpnn.Linear(3), xpnn.CrossEntropy(), xpnn.EarlyStopping("loss"))))
    assert foreign(Double())


def test_checks():
    check_pair((1, 2), "here", "two things", "")
    check_array(T, "here", "it", (20, 1), T)
    check_array(np.stack([T, T]), "here", "it", (20, 1), T, leading=False)
    check_call(np.add, "here", "a", "b")
    check_call(dict.fromkeys, "here", "a")  # of what has no signature nothing is said
    check_function(lambda a: a, "here", "a")
    assert what([1]) == "a list of 1"
    assert what(0.5) == "0.5"
    assert what(object()) == "object"
    with pytest.raises(OptionError, match=r"^here: expected two things, got 'ab'"):
        check_pair("ab", "here", "two things", "Return both.")
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(DTypeError, match=r"as numpy array, like what it is given, got array_api_strict's"):
        check_array(strict.zeros((20, 1), dtype=strict.float32), "here", "it", (20, 1), T)
