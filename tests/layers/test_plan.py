"""Two layers as one, and clipping, decay and rule as one: to the bit what they are one after the other."""

from __future__ import annotations

import copy
import functools
import pickle

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn.layers.base import backward_chain, bind_chain, forward_chain, output_of_chain
from xpnn.ops import Ops

RNG = np.random.default_rng(0)
X, DY = RNG.normal(size=(7, 5)).astype(np.float32), RNG.normal(size=(7, 3)).astype(np.float32)
Y = np.arange(7) % 3


def alone(net):
    """Take the pairs away: each layer computes by itself."""
    for layer in (net, *net.layers):
        if hasattr(layer, "layers"):
            layer.layers[0]._chain = None
    return net


def pairs_of(chain):
    return [i for i, _, mate in chain[0]._chain[1] if mate is not None]


class Noting(Ops):
    """Portable operations that note which were asked for."""

    def __init__(self, xp, device):
        super().__init__(xp, device)
        self.asked = []

    def __getattribute__(self, name):
        if name in ("linear", "relu", "linear_relu", "relu_backward", "linear_backward", "linear_relu_backward"):
            self.asked.append(name)
        return super().__getattribute__(name)


def noting(net):
    """Let a network compute with operations that note."""
    ops = Noting(np, "cpu")
    for layer in net.layers:
        layer._ops = ops
    return ops


# -- which layers are pairs -------------------------------------------------------------------------------------
def test_linear_and_relu_are_a_pair():
    assert pairs_of(xpnn.mlp([5, 4, 4, 3]).layers) == [0, 2]
    assert pairs_of(xpnn.mlp([5, 4, 4, 3], norm="layer").layers) == []
    assert pairs_of(xpnn.mlp([5, 4, 4, 3], "tanh").layers) == []
    net = xpnn.Sequential(
        *(xpnn.Linear(4), xpnn.ReLU(), xpnn.ReLU(), xpnn.Linear(4, bias=False), xpnn.ReLU(), xpnn.Dropout(0.5)),
        xpnn.Residual(xpnn.Linear(4), xpnn.ReLU(), xpnn.Linear(4)),
        n_in=5,
    )
    assert pairs_of(net.layers) == [0, 3]
    assert pairs_of(net.layers[-1].layers) == [0]


def test_a_pair_is_one_operation_each_way():
    net = xpnn.mlp([5, 4, 4, 3])
    ops = noting(net)
    _, caches = net.forward(X, train=True)
    assert ops.asked[:1] == ["linear_relu"]
    assert [name for name in ops.asked if name == "linear_relu"] == ["linear_relu"] * 2
    ops.asked.clear()
    net.backward(DY, caches)
    assert [name for name in ops.asked if name == "linear_relu_backward"] == ["linear_relu_backward"] * 2
    ops.asked.clear()
    net.predict(X)
    assert ops.asked.count("linear_relu") == 2
    assert ops.asked.count("linear") == 3  # by the definition, and the last layer


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


class Over(xpnn.ReLU):
    def forward_over(self, x, *, train=False, key=None):
        return self.forward(x + 1.0)


class Renamed(xpnn.Linear):
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
        (xpnn.Linear, Over, []),
        (xpnn.Linear, xpnn.LeakyReLU, []),
    ],
)
def test_a_layer_with_passes_of_its_own_is_no_part_of_a_pair(first, second, expected):
    net = xpnn.Sequential(first(4), second(), xpnn.Linear(3), n_in=5, seed=0)
    assert pairs_of(net.layers) == expected
    other = alone(net.copy())
    (y, caches), (y_other, caches_other) = (n.forward(X) for n in (net, other))
    np.testing.assert_array_equal(y, y_other)
    net.backward(DY, caches)
    other.backward(DY, caches_other)
    np.testing.assert_array_equal(net.store.grads, other.store.grads)


@pytest.mark.parametrize("kind", [xpnn.Linear, xpnn.ReLU])
@pytest.mark.parametrize("name", ["forward", "backward", "forward_over", "backward_over"])
def test_a_pass_that_was_exchanged_counts(kind, name, monkeypatch):
    """Of the class, or of one object."""
    right = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda self, *args, **options: right(self, *args, **options))
    assert pairs_of(xpnn.mlp([5, 4, 3]).layers) == []
    monkeypatch.undo()
    layers = xpnn.Linear(4), xpnn.ReLU()
    chosen = next(layer for layer in layers if isinstance(layer, kind))
    setattr(chosen, name, functools.partial(right, chosen))
    assert pairs_of(xpnn.Sequential(*layers, xpnn.Linear(3), n_in=5).layers) == []


def test_a_copy_finds_its_own_pairs():
    net = xpnn.mlp([5, 4, 4, 3], residual=True)
    for other in (net.copy(), pickle.loads(pickle.dumps(net)), net.to("numpy", "float64")):
        assert pairs_of(other.layers) == pairs_of(net.layers)
        own = set(map(id, other.layers))
        assert all(id(layer) in own for _, layer, _ in other.layers[0]._chain[1])
    assert copy.copy(net.layers[0])._chain is None
    assert b"_chain" not in pickle.dumps(xpnn.mlp([5, 4, 3]))


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
    net, other = NETWORKS[name](backend=backend, seed=3), alone(NETWORKS[name](backend=backend, seed=3))
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
    net, other = xpnn.mlp([5, 8, 4, 3]), alone(xpnn.mlp([5, 8, 4, 3]))
    assert pairs_of(net.layers) == [0, 2]
    results = []
    for each in (net, other):
        _, caches = forward_chain(each.layers, X, train=False, key=None)
        each.store.grads[...] = 0.0
        dx = backward_chain(each.layers, DY, caches, need_dx=True, first=first)
        assert backward_chain(each.layers, DY, caches, need_dx=False, first=first) is None
        results.append((dx, each.store.grads.copy()))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_part_of_a_chain_has_no_pairs():
    """Only the chain that was bound is known to be whole."""
    net = xpnn.mlp([5, 8, 4, 3])
    ops = noting(net)
    for part in (net.layers[:1], net.layers[:3], list(net.layers), (net.layers[0], xpnn.Tanh())):
        ops.asked.clear()
        y, caches = forward_chain(part, X, train=False, key=None)
        assert len(caches) == len(part)
        np.testing.assert_array_equal(output_of_chain(part, X), y)
        assert "linear_relu" not in ops.asked
    z = X @ net.params["0.weight"] + net.params["0.bias"]
    np.testing.assert_array_equal(y, np.tanh(z))


def test_a_chain_of_ones_own_finds_pairs():
    """Whoever writes a layer of layers calls `bind_chain`."""

    class Twice(xpnn.Layer):
        def __init__(self, *layers):
            self.layers = layers

        def sublayers(self):
            return self.layers

        def build(self, n_in):
            self.n_in, width = n_in, n_in
            for layer in self.layers:
                width = layer.build(width)
            self.n_out = width
            return width

        def param_specs(self):
            return xpnn.layers.base.chain_param_specs(self.layers)

        def bind(self, backend, params, grads, buffers):
            super().bind(backend, params, grads, buffers)
            bind_chain(self.layers, backend, params, grads, buffers)

        def forward(self, x, *, train=False, key=None):
            return forward_chain(self.layers, x, train=train, key=key)

        def backward(self, dy, cache, *, need_dx=True):
            return backward_chain(self.layers, dy, cache, need_dx=need_dx)

    layer = Twice(xpnn.Linear(4), xpnn.ReLU())
    net = xpnn.Sequential(layer, xpnn.Linear(3), n_in=5)
    assert pairs_of(layer.layers) == [0]
    y, caches = net.forward(X)
    assert net.backward(DY, caches, need_dx=True).shape == X.shape
    np.testing.assert_array_equal(net.predict(X), y)


def test_a_wrong_width_is_told_by_the_pair():
    net = xpnn.mlp([5, 4, 3])
    with pytest.raises(xpnn.errors.ShapeError, match=r"0.Linear: expected x of shape \(batch, 5\), got \(7, 3\)"):
        forward_chain(net.layers, DY, train=False, key=None)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.1}, {"clip_norm": 0.1, "clip_value": 0.05}], ids=str)
@pytest.mark.parametrize("seed", [0, [0, 1]], ids=["one", "replicas"])
def test_training_is_equal_to_the_bit(options, seed, backend):
    found = []
    for make in (lambda net: net, alone):
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
