"""Two layers as one, and clipping, decay and rule as one: to the bit what they are one after the other."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.layers.plan import Plan, unbound
from xpnn.ops import Ops

RNG = np.random.default_rng(0)
X, DY = RNG.normal(size=(7, 5)).astype(np.float32), RNG.normal(size=(7, 3)).astype(np.float32)
Y = np.arange(7) % 3


class NoPlan:
    """What a plan must be equal to: each layer by itself, one after the other."""

    def __init__(self, layers):
        self.layers = layers

    def forward(self, x, *, train=False, key=None):
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, train=train, key=key)
            caches.append(cache)
        return x, caches

    def backward(self, dy, caches, *, need_dx=True, first=0):
        for i in reversed(range(first, len(self.layers))):
            dy = self.layers[i].backward(dy, caches[i], need_dx=need_dx or i > first)
        return dy if need_dx else None

    def output(self, x):
        return self.forward(x)[0]


def without_plan(net):
    """Let each layer of a network compute by itself."""
    net.plan = NoPlan(net.layers)
    for layer in net.layers:
        if isinstance(layer, xpnn.layers.Residual):
            layer._plan = NoPlan(layer.layers)
    return net


class CountingOps(Ops):
    """Portable operations that list their calls."""

    def __init__(self, xp, device):
        super().__init__(xp, device)
        self.calls = []

    def __getattribute__(self, name):
        if name in ("linear", "relu", "linear_relu", "relu_backward", "linear_backward", "linear_relu_backward"):
            self.calls.append(name)
        return super().__getattribute__(name)


def counted(net):
    """Let a network compute with operations that list their calls."""
    ops = CountingOps(np, "cpu")
    for layer in net.layers:
        layer._ops = ops
    return ops


# -- which layers are pairs -------------------------------------------------------------------------------------
def test_linear_and_relu_are_a_pair():
    assert xpnn.mlp([5, 4, 4, 3]).plan.pairs == [0, 2]
    assert xpnn.mlp([5, 4, 4, 3], norm="layer").plan.pairs == []
    assert xpnn.mlp([5, 4, 4, 3], "tanh").plan.pairs == []
    net = xpnn.Sequential(
        *(xpnn.Linear(4), xpnn.ReLU(), xpnn.ReLU(), xpnn.Linear(4, bias=False), xpnn.ReLU(), xpnn.Dropout(0.5)),
        xpnn.Residual(xpnn.Linear(4), xpnn.ReLU(), xpnn.Linear(4)),
        n_in=5,
    )
    assert net.plan.pairs == [0, 3]
    assert net.layers[-1].plan.pairs == [0]


def test_a_pair_is_one_operation_each_way():
    net = xpnn.mlp([5, 4, 4, 3])
    ops = counted(net)
    _, caches = net.forward(X, train=True)
    assert ops.calls[:1] == ["linear_relu"]
    assert [name for name in ops.calls if name == "linear_relu"] == ["linear_relu"] * 2
    ops.calls.clear()
    net.backward(DY, caches)
    assert [name for name in ops.calls if name == "linear_relu_backward"] == ["linear_relu_backward"] * 2
    ops.calls.clear()
    net.predict(X)
    assert ops.calls.count("linear_relu") == 2
    assert ops.calls.count("linear") == 3  # by the definition, and the last layer


class Doubled(xpnn.Linear):
    def forward(self, x, *, train=False, key=None):
        y, cache = super().forward(x, train=train, key=key)
        return y * 2.0, cache


class Halved(xpnn.Linear):
    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy * 0.5, cache, need_dx=need_dx)


class Noisy(xpnn.ReLU):
    def forward(self, x, *, train=False, key=None):
        y, cache = super().forward(x)
        return y + 1.0, cache


class Leaking(xpnn.ReLU):
    def backward(self, dy, cache, *, need_dx=True):
        return dy if need_dx else None


class Renamed(xpnn.Linear):
    """Nothing of its own."""


class RenamedReLU(xpnn.ReLU):
    """Nothing of its own."""


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (xpnn.Linear, xpnn.ReLU, [0]),
        (Renamed, xpnn.ReLU, [0]),
        (Doubled, xpnn.ReLU, []),
        (Halved, xpnn.ReLU, []),
        (xpnn.Linear, Noisy, []),
        (xpnn.Linear, Leaking, []),
        (xpnn.Linear, RenamedReLU, [0]),
        (xpnn.Linear, xpnn.LeakyReLU, []),
    ],
)
def test_a_layer_with_passes_of_its_own_is_no_part_of_a_pair(first, second, expected):
    net = xpnn.Sequential(first(4), second(), xpnn.Linear(3), n_in=5, seed=0)
    assert net.plan.pairs == expected
    other = without_plan(net.copy())
    (y, caches), (y_other, caches_other) = (n.forward(X) for n in (net, other))
    np.testing.assert_array_equal(y, y_other)
    net.backward(DY, caches)
    other.backward(DY, caches_other)
    np.testing.assert_array_equal(net.store.grads, other.store.grads)


@pytest.mark.parametrize("kind", [xpnn.Linear, xpnn.ReLU])
@pytest.mark.parametrize("name", ["forward", "backward"])
def test_a_pass_that_was_exchanged_counts(kind, name, monkeypatch):
    """Of the class, or of one object."""
    right = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda self, *args, **options: right(self, *args, **options))
    assert xpnn.mlp([5, 4, 3]).plan.pairs == []
    monkeypatch.undo()
    layers = xpnn.Linear(4), xpnn.ReLU()
    chosen = next(layer for layer in layers if isinstance(layer, kind))
    setattr(chosen, name, functools.partial(right, chosen))
    assert xpnn.Sequential(*layers, xpnn.Linear(3), n_in=5).plan.pairs == []


def test_a_copy_finds_its_own_pairs():
    net = xpnn.mlp([5, 4, 4, 3], residual=True)
    for other in (net.copy(), pickle.loads(pickle.dumps(net)), net.to("numpy", "float64")):
        assert other.plan.pairs == net.plan.pairs
        _, caches = other.forward(X)
        other.backward(DY, caches)
        assert np.any(other.store.grads)  # by layers of its own
    assert not np.any(net.store.grads)
    assert b"plan" not in pickle.dumps(net)
    for layer in map(unbound, net.layers):
        assert not {"_ops", "params", "grads", "_affine", "_plan"} & vars(layer).keys()


# -- equal to the bit -------------------------------------------------------------------------------------------
def of(*layers):
    """Whoever is given layers as functions makes them anew each time."""
    return lambda **options: xpnn.Sequential(*(make() for make in layers), n_in=5, **options)


HIDDEN, OUT = functools.partial(xpnn.Linear, 8), functools.partial(xpnn.Linear, 3)
NETWORKS = {
    "relu": functools.partial(xpnn.mlp, [5, 8, 4, 3]),
    "no bias": of(functools.partial(xpnn.Linear, 8, bias=False), xpnn.ReLU, OUT),
    "ends in relu": of(HIDDEN, xpnn.ReLU, OUT, xpnn.ReLU),
    "residual": functools.partial(xpnn.mlp, [5, 8, 8, 8, 3], residual=True),
    "dropout": functools.partial(xpnn.mlp, [5, 8, 4, 3], dropout=0.3),
    "relu first": of(xpnn.ReLU, HIDDEN, xpnn.ReLU, OUT),
    "replicas": lambda **options: xpnn.mlp([5, 8, 4, 3], **(options | {"seed": [1, 2, 3]})),
}
BACKENDS = {
    "numpy": ("numpy", {}),
    "portable": ("numpy", {"ops": "portable"}),
    "float64": ("numpy", {"dtype": "float64"}),
    "float16": ("numpy", {"dtype": "float16"}),
    "bfloat16": ("numpy", {"dtype": "bfloat16"}),
    "strict": ("strict", {}),
    "torch": ("torch", {}),
}


@pytest.fixture(params=BACKENDS, name="backend")
def fixture_backend(request):
    name, options = BACKENDS[request.param]
    if options.get("dtype") == "bfloat16":
        pytest.importorskip("ml_dtypes", reason="needs ml_dtypes: pip install ml_dtypes")
    backend_or_skip(name)
    return xpnn.get_backend(name, **options)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("train", [True, False], ids=["train", ""])
@pytest.mark.parametrize("need_dx", [True, False], ids=["dx", ""])
def test_passes_are_equal_to_the_bit(name, train, need_dx, backend):
    """Outputs, every cache, gradients, and the gradient to the input; what is the caller's stays as it is."""
    net, other = NETWORKS[name](backend=backend, seed=3), without_plan(NETWORKS[name](backend=backend, seed=3))
    to = backend.to_numpy
    x, dy = backend.asarray(X), DY if net.store.replicas == () else np.stack([DY, DY * 2, DY * 3])
    dy = backend.asarray(dy)
    x_before, dy_before = (to(a).copy() for a in (x, dy))
    found = []
    for each in (net, other):
        y, caches = each.forward(x, train=train, step=2)
        dx = each.backward(dy, caches, need_dx=need_dx)
        flat = [to(c).copy() for c in leaves(caches)]
        found.append(([to(y).copy(), to(each.store.grads).copy(), *flat, *([to(dx)] if need_dx else [])], len(caches)))
        assert (dx is None) is not need_dx
    (mine, n), (theirs, n_other) = found
    assert n == n_other == len(net.layers)
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(to(x), x_before)
    np.testing.assert_array_equal(to(dy), dy_before)
    np.testing.assert_array_equal(to(net.predict(x)), to(other.predict(x)))
    np.testing.assert_array_equal(to(x), x_before)


def leaves(caches):
    for cache in caches:
        if isinstance(cache, list | tuple):
            yield from leaves(cache)
        elif cache is not None:
            yield cache


def test_caches_are_one_for_each_layer():
    net = xpnn.mlp([5, 8, 4, 3])
    y, caches = net.forward(X)
    assert caches[0] is X  # Linear's: its input
    assert caches[2] is caches[1]  # ReLU's output is the next one's input
    assert caches[4] is caches[3]
    np.testing.assert_array_equal(caches[1], np.maximum(X @ net.params["0.weight"] + net.params["0.bias"], 0.0))
    np.testing.assert_array_equal(y, caches[3] @ net.params["4.weight"] + net.params["4.bias"])


@pytest.mark.parametrize("first", range(5))
def test_a_chain_ends_where_it_is_told(first):
    """Also between the layers of a pair."""
    net, other = xpnn.mlp([5, 8, 4, 3]), without_plan(xpnn.mlp([5, 8, 4, 3]))
    assert net.plan.pairs == [0, 2]
    results = []
    for each in (net, other):
        _, caches = each.plan.forward(X)
        each.store.grads[...] = 0.0
        dx = each.plan.backward(DY, caches, need_dx=True, first=first)
        assert each.plan.backward(DY, caches, need_dx=False, first=first) is None
        results.append((dx, each.store.grads.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_plan_of_part_of_a_network():
    """A part that ends between two layers of a pair has the first of them alone."""
    net, other = xpnn.mlp([5, 8, 4, 3]), without_plan(xpnn.mlp([5, 8, 4, 3]))
    ops = counted(net)
    for part, pairs in ((slice(1), 0), (slice(3), 1), (slice(1, 3), 0), (slice(5), 2)):
        ops.calls.clear()
        plan, theirs = Plan(net.layers[part]), NoPlan(other.layers[part])
        x = np.abs(X) if part.start is None else np.abs(X @ np.ones((5, 8), np.float32))
        y, caches = plan.forward(x)
        assert len(caches) == len(net.layers[part])
        np.testing.assert_array_equal(y, theirs.output(x))
        np.testing.assert_array_equal(plan.output(x), y)
        assert ops.calls.count("linear_relu") == 2 * pairs
    z = X @ net.params["0.weight"] + net.params["0.bias"]
    np.testing.assert_array_equal(Plan((net.layers[0], xpnn.Tanh())).output(X), np.tanh(z))


def test_layers_outside_a_network_have_a_plan_too():
    layer = xpnn.Residual(xpnn.Tanh(), xpnn.ReLU(), xpnn.ReLU())
    y, caches = layer.forward(X)
    np.testing.assert_array_equal(y, X + np.maximum(np.tanh(X), 0.0))
    dy = np.ones_like(X)
    np.testing.assert_allclose(layer.backward(dy, caches), 1 + (X > 0) * (1 - np.tanh(X) ** 2), rtol=1e-5)
    np.testing.assert_array_equal(dy, 1.0)
    with pytest.raises(xpnn.errors.OptionError, match="expected to be part of a network"):
        xpnn.Residual(xpnn.Linear(5), xpnn.ReLU()).forward(X)


class Keeps(xpnn.Layer):
    """A map whose gradient is its own array, which nobody may write over."""

    def forward(self, x, *, train=False, key=None):
        return x + 1.0, None

    def backward(self, dy, cache, *, need_dx=True):
        self.kept = dy * 2.0
        return self.kept


class KeepsReLU(xpnn.ReLU):
    backward = Keeps.backward


class KeepsLinear(xpnn.Linear):
    backward = Keeps.backward


@pytest.mark.parametrize("kind", [Keeps, KeepsReLU, lambda: KeepsLinear(3)])
@pytest.mark.parametrize("before", [(xpnn.ReLU,), (lambda: xpnn.Linear(3), xpnn.ReLU)], ids=["relu", "pair"])
def test_gradients_of_layers_that_promise_nothing_are_not_overwritten(kind, before):
    net = xpnn.Sequential(*(make() for make in before), kind(), n_in=3)
    _, caches = net.forward(DY)
    net.backward(np.ones_like(DY), caches, need_dx=True)
    np.testing.assert_array_equal(net.layers[-1].kept, 2.0)


def test_a_gradient_is_overwritten_where_nobody_else_has_it():
    """ReLU writes over what the Linear behind it returned: no further array."""
    net = xpnn.mlp([5, 4, 3])
    given = []
    ops = net.layers[0].ops
    net.layers[0]._ops = CountingOps(np, "cpu")
    net.layers[0]._ops.relu_backward = lambda dy, y, *, overwrite: given.append(overwrite) or ops.relu_backward(dy, y)
    _, caches = net.forward(X)
    net.backward(DY, caches)
    assert given == [True]


def test_a_wrong_width_is_told_by_the_pair():
    net = xpnn.mlp([5, 4, 3])
    with pytest.raises(xpnn.errors.ShapeError, match=r"0.Linear: expected x of shape \(batch, 5\), got \(7, 3\)"):
        net.plan.forward(DY)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"clip_norm": 0.1, "clip_value": 0.05}], ids=str)
@pytest.mark.parametrize("seed", [0, [0, 1]], ids=["one", "replicas"])
def test_training_is_equal_to_the_bit(options, seed, backend):
    found = []
    for make in (lambda net: net, without_plan):
        net = make(xpnn.mlp([5, 8, 4, 3], dropout=0.2, backend=backend, seed=seed))
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.AdamW(0.01), **options)
        history = trainer.fit(X, Y, epochs=3, batch_size=3)
        found.append((history["loss"], history["grad_norm"], net.state_dict()))
    assert found[0][:2] == found[1][:2]
    for name, value in found[0][2].items():
        np.testing.assert_array_equal(value, found[1][2][name])


# -- the rules --------------------------------------------------------------------------------------------------
RULES = {
    "adam": lambda: xpnn.Adam(0.05, weight_decay=0.1),
    "adamw": lambda: xpnn.AdamW(0.05, weight_decay=0.1),
    "sgd": lambda: xpnn.SGD(0.05, weight_decay=0.1),
    "sgd, momentum": lambda: xpnn.SGD(0.05, 0.9, weight_decay=0.1),
    "sgd, nesterov": lambda: xpnn.SGD(0.05, 0.9, nesterov=True, weight_decay=0.1),
    "momentum": lambda: xpnn.Momentum(0.05, 0.8, weight_decay=0.1),
}


def by_hand(name, rule, store, state, t, clip_norm):
    """A step in plain NumPy, one thing after the other."""
    values, g, n = store["values"], store["grads"], store["n_decay"]
    lr, decay = 0.05, 0.1
    lr_factors, decay_factors = store["lr_factors"], store["decay_factors"]
    if clip_norm is not None:
        g *= np.minimum(clip_norm / (np.sqrt(np.sum(g * g, axis=-1, keepdims=True)) + 1e-6), 1.0)
    w = values[:n]
    if name == "adamw":
        if lr_factors is None and decay_factors is None:
            w *= 1.0 - lr * decay
        else:
            reach = lr * decay if decay_factors is None else decay_factors * (lr * decay)
            w *= 1.0 - (reach if lr_factors is None else reach * lr_factors[:n])
    else:
        pull = w * decay
        g[:n] += pull if decay_factors is None else pull * decay_factors
    if name in ("adam", "adamw"):
        beta1, beta2, eps, rate = rule.scalars(t, lr)
        m, v = state
        m *= beta1
        m += g
        v *= beta2
        v += g * g
        move = m / (np.sqrt(v) + eps) * rate
    elif name == "sgd":
        move = g * lr
    else:
        (v,) = state
        mu, gain = (0.8, 1.0 - 0.8) if name == "momentum" else (0.9, 1.0)
        v *= mu
        v += g * gain
        move = (v * mu + g) * lr if name == "sgd, nesterov" else v * lr
    values -= move if lr_factors is None else move * lr_factors


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("factors", [False, True], ids=["", "factors"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
@pytest.mark.parametrize("ops", ["fast", "portable"])
def test_a_step_is_clipping_then_decay_then_the_rule(name, factors, clip_norm, ops):
    options = {"lr_mult": 0.5, "decay_mult": 2.0} if factors else {}
    net = xpnn.Sequential(xpnn.Linear(4, **options), xpnn.Linear(3), n_in=5, backend=xpnn.get_backend("numpy", ops=ops))
    rule, store = RULES[name](), net.store
    rule.bind(store)
    state = [np.zeros_like(store.values) for _ in rule.state]
    for t in (1, 2, 3):
        store.grads[...] = np.random.default_rng(t).normal(size=store.grads.shape)
        theirs = {key: getattr(store, key) for key in ("n_decay", "lr_factors", "decay_factors")}
        theirs |= {"values": store.values.copy(), "grads": store.grads.copy()}
        by_hand(name, rule, theirs, state, t, clip_norm)
        if clip_norm is None:
            rule.update(store, rule.numbers(t))
        else:
            clip = xpnn.ops.Clip(net.backend.ops.global_norm(store.grads), clip_norm)
            rule.clipped_update(store, rule.numbers(t), clip)
        np.testing.assert_array_equal(store.values, theirs["values"])
        for mine, expected in zip(rule.state.values(), state, strict=True):
            np.testing.assert_array_equal(mine, expected)
        assert rule.t == t


class Slow(xpnn.Adam):
    """A rule on top of Adam's."""

    def rule(self, store, scalars):
        self.seen = store.grads.copy()
        super().rule(store, scalars)


class Watched(xpnn.AdamW):
    """Looks on as a step is made."""

    def update(self, store, numbers):
        self.seen = store.grads.copy()
        super().update(store, numbers)


class Signs(xpnn.optim.Optimizer):
    """A rule of one's own, with coupled decay."""

    def rule(self, store, scalars):
        (lr,) = scalars
        self.seen = store.grads.copy()
        store.values -= np.sign(store.grads) * lr


@pytest.mark.parametrize("kind", [Slow, Watched, Signs])
def test_rules_of_ones_own_see_clipped_gradients(kind):
    """They are called as ever: after clipping, with decay applied where it comes before."""
    net = xpnn.mlp([5, 4, 3], seed=0)
    rule = kind(0.01, weight_decay=0.1)
    xpnn.Trainer(net, xpnn.CrossEntropy(), rule, clip_norm=1e-3).fit(X, Y, epochs=1, batch_size=7)
    start = xpnn.mlp([5, 4, 3], seed=0).store.values
    n = net.store.n_decay
    coupled = np.zeros_like(start)
    if kind is not Watched:
        coupled[:n] = start[:n] * 0.1
    norm = np.linalg.norm(rule.seen - coupled)
    assert norm == pytest.approx(1e-3, rel=1e-3)
    assert rule.t == 1


def test_a_rule_on_top_of_adam_moves_as_adam_does():
    found = []
    for kind in (xpnn.Adam, Slow):
        net = xpnn.mlp([5, 4, 3], seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), kind(0.01, weight_decay=0.1), clip_norm=0.1)
        trainer.fit(X, Y, epochs=3, batch_size=3)
        found.append(net.store.values.copy())
    np.testing.assert_array_equal(*found)


def test_a_rule_without_a_rule_says_so():
    with pytest.raises(NotImplementedError):
        xpnn.optim.Optimizer(0.1).step(xpnn.mlp([5, 3]).store)
