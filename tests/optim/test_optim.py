"""Every optimizer in one table, held against hand values, the textbook and PyTorch."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from places import backend_or_skip

import xpnn
from xpnn import SGD, AdaGrad, Adam, AdamW, Lion, Momentum, Muon, NAdam, RMSProp
from xpnn.errors import OptionError
from xpnn.initializers import Constant, Normal
from xpnn.optim import Optimizer, first_order
from xpnn.params import ParamSpec, ParamStore

# -- the textbook: one tensor at a time, float64, straight from the formulas ------------------------------------
State = dict[str, Any]


def sgd(p, g, s: State, t, lr, momentum=0.0, nesterov=False):
    v = s["v"] = momentum * s.get("v", 0.0) + g
    return p - lr * (g + momentum * v if nesterov else v)


def running_mean(p, g, s: State, t, lr, beta=0.9):
    v = s["v"] = beta * s.get("v", 0.0) + (1 - beta) * g
    return p - lr * v


def rmsprop(p, g, s: State, t, lr, alpha=0.99, eps=1e-8):
    q = s["q"] = alpha * s.get("q", 0.0) + (1 - alpha) * g**2
    return p - lr * g / (np.sqrt(q) + eps)


def adagrad(p, g, s: State, t, lr, eps=1e-10):
    q = s["q"] = s.get("q", 0.0) + g**2
    return p - lr * g / (np.sqrt(q) + eps)


def adam(p, g, s: State, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    m = s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    v = s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    return p - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + eps)


def nadam(p, g, s: State, t, lr, beta1=0.9, beta2=0.999, eps=1e-8, momentum_decay=0.004):
    def mu(i):
        return beta1 * (1 - 0.5 * 0.96 ** (i * momentum_decay))

    m = s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    v = s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    product = math.prod(mu(i) for i in range(1, t + 1))
    m_hat = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
    return p - lr * m_hat / (np.sqrt(v / (1 - beta2**t)) + eps)


def lion(p, g, s: State, t, lr, beta1=0.9, beta2=0.99):
    m = s.get("m", 0.0)
    s["m"] = beta2 * m + (1 - beta2) * g
    return p - lr * np.sign(beta1 * m + (1 - beta1) * g)


def muon(p, g, s: State, t, lr, momentum=0.95, nesterov=True, ns_steps=5, adam_rate=0.05):
    if p.ndim == 1:
        return adam(p, g, s, t, lr * adam_rate)
    v = s["v"] = momentum * s.get("v", 0.0) + g
    u, sigma, vt = np.linalg.svd(g + momentum * v if nesterov else v, full_matrices=False)
    sigma = sigma / math.hypot(*sigma)
    for _ in range(ns_steps):
        sigma = 3.4445 * sigma - 4.7750 * sigma**3 + 2.0315 * sigma**5
    return p - lr * math.sqrt(max(1, p.shape[1] / p.shape[0])) * (u * sigma) @ vt


# -- the table ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """One optimizer with its options, what the books make of them, and the same thing in PyTorch."""

    kind: type[Optimizer]
    options: dict[str, Any]
    textbook: Callable[..., Any]
    torch: tuple[str, dict[str, Any]] | None = None

    def make(self, **changes: Any) -> Optimizer:
        return self.kind(**{**self.options, **changes})

    @property
    def decay(self) -> float:
        return self.make().weight_decay

    @property
    def extra(self) -> dict[str, Any]:
        return {k: v for k, v in self.options.items() if k not in ("lr", "weight_decay")}

    def step(self, p, g, s, t, lr, decay):
        """One textbook step of one tensor with its own rate and decay."""
        if self.kind.decoupled:
            p = p - lr * decay * p
        else:
            g = g + decay * p
        return self.textbook(p, g, s, t, lr, **self.extra)


TABLE = {
    "SGD": Row(SGD, {"lr": 0.1}, sgd, ("SGD", {"lr": 0.1})),
    "SGD decayed": Row(SGD, {"lr": 0.1, "weight_decay": 0.1}, sgd, ("SGD", {"lr": 0.1, "weight_decay": 0.1})),
    "SGD momentum": Row(SGD, {"lr": 0.02, "momentum": 0.9}, sgd, ("SGD", {"lr": 0.02, "momentum": 0.9})),
    "SGD Nesterov": Row(
        SGD,
        {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
        sgd,
        ("SGD", {"lr": 0.02, "momentum": 0.9, "nesterov": True, "weight_decay": 0.05}),
    ),
    "Momentum": Row(
        Momentum, {"lr": 0.1, "beta": 0.8}, running_mean, ("SGD", {"lr": 0.1 * (1 - 0.8), "momentum": 0.8})
    ),
    "Momentum decayed": Row(Momentum, {"lr": 0.1, "weight_decay": 0.1}, running_mean),
    "RMSProp": Row(RMSProp, {"lr": 0.01}, rmsprop, ("RMSprop", {"lr": 0.01, "alpha": 0.99})),
    "RMSProp decayed": Row(
        RMSProp,
        {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1},
        rmsprop,
        ("RMSprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}),
    ),
    "AdaGrad": Row(AdaGrad, {"lr": 0.1}, adagrad, ("Adagrad", {"lr": 0.1})),
    "AdaGrad decayed": Row(
        AdaGrad,
        {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.1},
        adagrad,
        ("Adagrad", {"lr": 0.1, "eps": 1e-6, "weight_decay": 0.1}),
    ),
    "Adam": Row(Adam, {"lr": 0.01}, adam, ("Adam", {"lr": 0.01})),
    "Adam coupled": Row(
        Adam,
        {"lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-4, "weight_decay": 0.1},
        adam,
        ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.1}),
    ),
    "AdamW": Row(AdamW, {"lr": 0.01}, adam, ("AdamW", {"lr": 0.01})),
    "AdamW strong": Row(AdamW, {"lr": 0.01, "weight_decay": 0.5}, adam, ("AdamW", {"lr": 0.01, "weight_decay": 0.5})),
    "NAdam": Row(NAdam, {"lr": 0.01}, nadam, ("NAdam", {"lr": 0.01})),
    "NAdam decayed": Row(
        NAdam,
        {"lr": 0.01, "momentum_decay": 0.01, "weight_decay": 0.1},
        nadam,
        ("NAdam", {"lr": 0.01, "momentum_decay": 0.01, "weight_decay": 0.1}),
    ),
    "Lion": Row(Lion, {"lr": 0.003}, lion),
    "Lion decayed": Row(Lion, {"lr": 0.003, "weight_decay": 0.5}, lion),
    "Muon": Row(Muon, {"lr": 0.02}, muon),
    "Muon plain": Row(Muon, {"lr": 0.02, "momentum": 0.8, "nesterov": False, "ns_steps": 3, "weight_decay": 0.1}, muon),
}
each_row = pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
KINDS = [SGD, Momentum, RMSProp, AdaGrad, Adam, AdamW, NAdam, Lion, Muon]
each_kind = pytest.mark.parametrize("kind", KINDS)


def make_net(backend="numpy", dtype=None, **options):
    """A small network whose parameters differ in shape, rate and decay."""
    return xpnn.Sequential(xpnn.Linear(4), xpnn.Tanh(), xpnn.Linear(3), n_in=5, backend=backend, dtype=dtype, **options)


def tuned_net(backend="numpy", dtype=None):
    """The same with factors of their own on rates and decay."""
    return xpnn.Sequential(
        xpnn.Linear(4, lr_mult=0.5, decay_mult=3.0),
        xpnn.Tanh(),
        xpnn.Linear(3, lr_mult=2.0, decay_mult=0.0),
        xpnn.Tanh(),
        xpnn.Linear(2),
        n_in=5,
        backend=backend,
        dtype=dtype,
    )


def gradient_stream(seed=0):
    """Draw gradients of changing size: what an optimizer meets, and a function of nothing else."""
    rng = np.random.default_rng(seed)
    while True:
        size = 10.0 ** rng.uniform(-2, 1)
        yield lambda name, shape, size=size: size * rng.normal(size=shape)


def test_the_table_holds_every_optimizer():
    kinds = {row.kind for row in TABLE.values()}
    assert kinds == set(KINDS) == {getattr(first_order, name) for name in first_order.__all__} | {Muon}


# -- the textbook and PyTorch ---------------------------------------------------------------------------------
@each_row
@pytest.mark.parametrize("build", [make_net, tuned_net])
def test_the_flat_rule_is_the_textbook_tensor_by_tensor(row, build):
    net, optimizer = build(dtype="float64"), row.make()
    values = net.state_dict()
    states: dict[str, State] = {name: {} for name in values}
    for t, draw in zip(range(1, 51), gradient_stream(), strict=False):
        grads = {name: draw(name, p.shape) for name, p in values.items()}
        for name, g in grads.items():
            net.grads[name][...] = g
        optimizer.step(net.store)
        for name, p in values.items():
            spec = net.store.specs[name]
            decay = row.decay * spec.decay_mult if spec.decay else 0.0
            rate = optimizer.lr * spec.lr_mult
            values[name] = row.step(p, grads[name], states[name], t, rate, decay)
            np.testing.assert_allclose(net.params[name], values[name], rtol=1e-11, atol=1e-12, err_msg=f"{name} at {t}")
    assert optimizer.t == 50


@pytest.mark.parametrize("row", [r for r in TABLE.values() if r.torch], ids=[n for n, r in TABLE.items() if r.torch])
@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-6), ("float32", 1e-4)])
def test_fifty_steps_of_training_follow_torch(row, dtype, atol):
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    name, options = row.torch
    net, optimizer, loss = make_net(dtype=dtype, seed=1), row.make(), xpnn.MeanSquaredError()
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(16, 5)), rng.normal(size=(16, 3))
    x, y = (torch.tensor(a, dtype=getattr(torch, dtype)) for a in (X, Y))
    theirs = {name: torch.tensor(p, requires_grad=True) for name, p in net.state_dict().items()}
    rule = getattr(torch.optim, name)(
        [
            {"params": [p for name, p in theirs.items() if name.endswith("weight")]},
            {"params": [p for name, p in theirs.items() if name.endswith("bias")], "weight_decay": 0.0},
        ],
        **options,
    )
    for step in range(50):
        pred, caches = net.forward(X, train=True)
        _, d_pred = loss.value_and_grad(pred, net.backend.asarray(Y))
        net.backward(d_pred, caches)
        optimizer.step(net.store)

        rule.zero_grad()
        hidden = torch.tanh(x @ theirs["0.weight"] + theirs["0.bias"])
        torch.nn.functional.mse_loss(hidden @ theirs["2.weight"] + theirs["2.bias"], y).backward()
        rule.step()
        for name, p in theirs.items():
            np.testing.assert_allclose(
                net.params[name], p.detach().numpy(), rtol=0, atol=atol, err_msg=f"{name} at {step}"
            )


# -- by hand -------------------------------------------------------------------------------------------------
def one_number(value=1.0, backend="numpy", dtype="float64", *, decay=True):
    return ParamStore(xpnn.get_backend(backend, dtype), [ParamSpec("p", (1,), Constant(value), decay)])


HAND = [
    # p = 1; gradients as given; p after each step
    (SGD(0.1), [0.5], [0.95]),
    (SGD(0.1, weight_decay=0.1), [0.5], [0.94]),  # g = 0.5 + 0.1
    (SGD(0.1, 0.9), [0.5, 0.5], [0.95, 0.855]),  # v = 0.5, 0.95
    (SGD(0.1, 0.9, nesterov=True), [0.5, 0.5], [0.905, 0.7695]),  # g + 0.9 v = 0.95, 1.355
    (Momentum(0.1), [0.5, 0.5], [0.995, 0.9855]),  # v = 0.05, 0.095
    (RMSProp(0.1, eps=0.05), [0.5], [0.5]),  # s = 0.0025, √s + ε = 0.1
    (AdaGrad(0.1, eps=0.5), [0.5], [0.95]),  # √s + ε = 1
    (AdaGrad(0.1), [0.3, 0.4], [0.9, 0.82]),  # √s = 0.3, 0.5
    (Adam(0.1, eps=0.5), [0.5], [0.95]),  # m̂ = √v̂ = 0.5
    (Adam(0.1), [0.5, 0.5], [0.9, 0.8]),  # equal gradients: m̂ = g, v̂ = g²
    (AdamW(0.1, weight_decay=0.1), [0.5], [0.89]),  # 1 · (1 - 0.01) - 0.1
    # μ₁ = 0.9 (1 - ½·0.96^0.004) = 0.45007348, μ₂ = 0.45014694, 1 - μ₁μ₂ = 0.79740080, and
    # (0.5 + 0.05 μ₂ / 0.79740080) / 0.5 = 1.05645179
    (NAdam(0.1), [0.5], [0.894354821]),
    (Lion(0.1), [0.5, -0.01, -1.0], [0.9, 0.8, 0.9]),  # c = 0.05, 0.0035, -0.09559
    (Lion(0.1, weight_decay=0.1), [0.5], [0.89]),
    (Lion(0.1), [0.0], [1.0]),  # the sign of 0 is 0
]


@pytest.mark.parametrize(("optimizer", "gradients", "expected"), HAND, ids=lambda v: repr(v)[:60])
def test_steps_computed_by_hand(optimizer, gradients, expected):
    store, optimizer = one_number(), copy.deepcopy(optimizer)
    for g, p in zip(gradients, expected, strict=True):
        store.param_grads["p"][...] = g
        optimizer.step(store)
        assert store.params["p"][0] == pytest.approx(p, abs=2e-8)


def test_lion_keeps_its_momentum_with_the_second_factor():
    store, optimizer = one_number(), Lion(0.1)
    store.param_grads["p"][...] = 0.5
    optimizer.step(store)
    assert optimizer.state["m"][0] == pytest.approx(0.005)
    store.param_grads["p"][...] = -0.01
    optimizer.step(store)
    assert optimizer.state["m"][0] == pytest.approx(0.005 * 0.99 - 0.0001)


def test_momentum_is_sgd_with_the_rate_times_one_minus_beta():
    nets = [make_net(dtype="float64") for _ in range(2)]
    rules = [Momentum(0.3, beta=0.85), SGD(0.3 * (1 - 0.85), momentum=0.85)]
    for _, draw in zip(range(20), gradient_stream(), strict=False):
        g = draw("all", nets[0].store.grads.shape)
        for net, rule in zip(nets, rules, strict=True):
            net.store.grads[...] = g
            rule.step(net.store)
    np.testing.assert_allclose(nets[0].store.values, nets[1].store.values, rtol=1e-12)


# -- minima --------------------------------------------------------------------------------------------------
# learning rates, and steps, for the parabola and for Rosenbrock's valley; the rate falls to 0 linearly
MINIMA = {
    "SGD": (SGD(0.1), SGD(0.002), 30000),
    "SGD momentum": (SGD(0.02, 0.9), SGD(0.0005, 0.9), 12000),
    "SGD Nesterov": (SGD(0.02, 0.9, nesterov=True), SGD(0.0005, 0.9, nesterov=True), 12000),
    "Momentum": (Momentum(0.1), Momentum(0.005), 12000),
    "RMSProp": (RMSProp(0.02), RMSProp(0.005), 8000),
    "AdaGrad": (AdaGrad(0.5), AdaGrad(0.5), 12000),
    "Adam": (Adam(0.05), Adam(0.02), 6000),
    "AdamW": (AdamW(0.05, weight_decay=0.0), AdamW(0.02, weight_decay=0.0), 6000),
    "NAdam": (NAdam(0.05), NAdam(0.02), 6000),
    "Lion": (Lion(0.02), Lion(0.003), 8000),
}


def descend(optimizer, gradient, start, steps):
    store = ParamStore(xpnn.get_backend("numpy", "float64"), [ParamSpec("x", (2,), Normal(1.0), decay=False)])
    x, g = store.params["x"], store.param_grads["x"]
    x[...] = start
    optimizer = copy.deepcopy(optimizer)
    for step in range(steps):
        g[...] = gradient(*x.tolist())
        optimizer.step(store, factor=1 - step / steps)
    return x


@pytest.mark.parametrize(("parabola", "valley", "steps"), MINIMA.values(), ids=MINIMA)
def test_minima_are_reached(parabola, valley, steps):
    bowl = descend(parabola, lambda x, y: (2 * (x - 3), 10 * (y + 1)), (0.0, 0.0), 1000)
    np.testing.assert_allclose(bowl, [3, -1], atol=1e-3)

    def rosenbrock(x, y):
        return -2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)

    np.testing.assert_allclose(descend(valley, rosenbrock, (-1.0, 1.0), steps), [1, 1], atol=0.02)


# -- what all share ------------------------------------------------------------------------------------------
@each_row
def test_dtypes_stay_whatever_numbers_are_given(row, backend):
    """NumPy scalars are strong: float32 times np.float64 would be float64, and an error in strict."""
    strong = {k: np.float64(v) if isinstance(v, float) else v for k, v in row.options.items()}
    net, optimizer = make_net(backend), row.kind(**strong)
    for _ in range(2):
        net.store.grads[...] = 0.5
        optimizer.step(net.store, factor=np.float64(0.5))
    assert net.store.values.dtype == net.store.grads.dtype == backend.dtype
    assert all(a.dtype == backend.dtype for a in optimizer.state.values())
    scalars = [n for n in optimizer.numbers(3, np.float64(0.5)) if not isinstance(n, int)]
    assert all(type(n) is float for n in scalars)
    reference, weak = make_net(), row.make()
    for _ in range(2):
        reference.store.grads[...] = 0.5
        weak.step(reference.store, factor=0.5)
    values = backend.to_numpy(net.store.values)
    np.testing.assert_allclose(values, reference.store.values, rtol=1e-5, atol=1e-7)
    if backend.name in ("numpy", "strict"):
        np.testing.assert_array_equal(values, reference.store.values)


@each_row
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_state_has_the_shape_and_dtype_of_the_parameters(row, dtype):
    net, optimizer = make_net(dtype=dtype), row.make()
    assert optimizer.state == {}
    assert optimizer.t == 0
    optimizer.step(net.store)
    wanted = () if row.kind is SGD and not optimizer.momentum else row.kind.slots
    assert tuple(optimizer.state) == wanted
    assert all(a.shape == net.store.values.shape and str(a.dtype) == dtype for a in optimizer.state.values())
    assert optimizer.t == 1


@each_row
def test_biases_are_not_decayed_and_padding_stays_zero(row):
    net, optimizer = make_net(), row.make(weight_decay=0.3, lr=0.1)
    net.store.params["0.bias"][...] = 5.0
    before = net.state_dict()
    for _ in range(3):
        net.store.grads[...] = 0.0
        optimizer.step(net.store)
    after = net.state_dict()
    for name in ("0.bias", "2.bias"):
        np.testing.assert_array_equal(after[name], before[name])
    moved = np.abs(after["0.weight"]) < np.abs(before["0.weight"])
    assert moved.mean() > 0.9
    padding = np.ones(net.store.values.shape, bool)
    for _, place in net.store.segments():
        padding[place] = False
    assert padding.any()
    assert not net.store.values[padding].any()


@each_row
def test_a_rate_of_zero_moves_nothing(row):
    net, still, optimizer = make_net(), make_net(), row.make()
    net.store.grads[...] = 0.5
    optimizer.step(net.store, factor=0.0)
    np.testing.assert_array_equal(net.store.values, still.store.values)
    net.store.grads[...] = 0.5
    row.make(lr=0).step(net.store)
    np.testing.assert_array_equal(net.store.values, still.store.values)


@each_row
def test_a_factor_scales_the_rate(row):
    nets = [make_net(dtype="float64") for _ in range(2)]
    rules = [row.make(), row.make(lr=row.options["lr"] / 4)]
    for step, draw in zip(range(5), gradient_stream(), strict=False):
        g = draw("all", nets[0].store.grads.shape)
        for net, rule, factor in zip(nets, rules, (0.5**step, 4 * 0.5**step), strict=True):
            net.store.grads[...] = g
            rule.step(net.store, factor=factor)
    np.testing.assert_allclose(nets[0].store.values, nets[1].store.values, rtol=1e-13, atol=1e-15)


@each_row
@pytest.mark.parametrize("scheduled", [False, True])
def test_a_table_of_many_steps_has_the_bits_of_each(row, scheduled):
    factors = [math.cos(0.001 * k) ** 2 for k in range(3000)]
    decays = [1.0 / k for k in range(1, 3001)] if scheduled else None
    net, optimizer = make_net(), row.make(weight_decay=0.03)
    for _ in range(2):  # before it knows its store, and after
        made = optimizer.table(5, factors, decays)
        each = zip(factors, decays or [1.0] * len(factors), strict=True)
        assert made == [optimizer.numbers(t, *own) for t, own in enumerate(each, 5)]
        assert all(type(n) is float for numbers in made for n in numbers)
        optimizer.bind(net.store)


def test_a_table_asks_rules_of_ones_own_for_each_step():
    class Warm(Adam):
        def scalars(self, t, lr):
            *others, rate = super().scalars(t, lr)
            return (*others, rate * min(1.0, t / 10))

    optimizer = Warm(0.01)
    assert optimizer.table(1, [1.0] * 20) == [optimizer.numbers(t) for t in range(1, 21)]
    own = Adam(0.01)
    own.scalars = lambda t, lr: (0.9, 0.99, 1e-8, lr / t)
    assert own.table(1, [1.0, 0.5]) == [(0.9, 0.99, 1e-8, 0.01, 0.0), (0.9, 0.99, 1e-8, 0.0025, 0.0)]


def test_a_table_of_replicas_with_rates_of_their_own():
    optimizer = Adam([0.01, 0.1])
    for made, one in zip(optimizer.table(1, [1.0, 0.5]), (1, 2), strict=True):
        for a, b in zip(made, optimizer.numbers(one, (1.0, 0.5)[one - 1]), strict=True):
            np.testing.assert_array_equal(a, b)


@each_row
def test_numbers_are_pure_and_may_be_made_ahead(row):
    net, twin = make_net(), make_net()
    optimizer, other = row.make(), row.make()
    optimizer.bind(net.store)
    table = [optimizer.numbers(t, 1 / t) for t in range(1, 11)]
    assert [optimizer.numbers(t, 1 / t) for t in range(10, 0, -1)] == table[::-1]
    assert optimizer.t == 0
    assert not any(a.any() for a in optimizer.state.values())
    assert all(type(n) is float for numbers in table for n in numbers)
    for t, (numbers, draw) in enumerate(zip(table, gradient_stream(), strict=False), 1):
        net.store.grads[...] = draw("all", net.store.grads.shape)
        twin.store.grads[...] = net.store.grads
        optimizer.update(net.store, numbers)
        other.step(twin.store, factor=1 / t)
    np.testing.assert_array_equal(net.store.values, twin.store.values)
    assert optimizer.t == other.t == 10


@each_row
def test_replicas_with_rates_of_their_own_are_single_runs(row, backend):
    rates, seeds = [0.5, 0.01, 0.0], [4, 0, 9]
    together, rule = make_net(backend, seed=seeds), row.make(lr=[r * row.options["lr"] for r in rates])
    singles = [make_net(backend, seed=s) for s in seeds]
    rules = [row.make(lr=r * row.options["lr"]) for r in rates]
    host = np.random.default_rng(0).normal(size=(4, *together.store.grads.shape))
    for t, g in enumerate(host):
        together.store.grads[...] = backend.asarray(g)
        rule.step(together.store, factor=1 / (t + 1))
        for k in range(3):
            singles[k].store.grads[...] = backend.asarray(g[k])
            rules[k].step(singles[k].store, factor=1 / (t + 1))
    for k in range(3):
        ours, theirs = backend.to_numpy(together.store.values)[k], backend.to_numpy(singles[k].store.values)
        if backend.name in ("numpy", "strict"):
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)
    first = rule.rate()
    assert first.shape == (3, 1)


@each_row
def test_replicas_keep_their_rates_under_factors_of_single_layers(row):
    def build(seed):
        return xpnn.Sequential(
            xpnn.Linear(4, lr_mult=0.5, decay_mult=2.0), xpnn.Linear(2), n_in=3, seed=seed, dtype="float64"
        )

    together, singles = build([1, 2]), [build(1), build(2)]
    rule, rules = row.make(lr=[0.02, 0.005]), [row.make(lr=0.02), row.make(lr=0.005)]
    for g in np.random.default_rng(0).normal(size=(5, *together.store.grads.shape)):
        together.store.grads[...] = g
        rule.step(together.store)
        for k in range(2):
            singles[k].store.grads[...] = g[k]
            rules[k].step(singles[k].store)
    for k in range(2):
        np.testing.assert_allclose(together.store.values[k], singles[k].store.values, rtol=1e-12, atol=1e-14)


def test_one_rate_serves_all_replicas():
    net, single, rules = make_net(seed=[0, 1]), make_net(seed=1), (Adam(0.1), Adam(0.1))
    net.store.grads[...] = 0.5
    single.store.grads[...] = 0.5
    rules[0].step(net.store)
    rules[1].step(single.store)
    np.testing.assert_array_equal(net.store.values[1], single.store.values)


@each_row
def test_an_optimizer_serves_one_network_until_reset(row):
    first, second, optimizer = make_net(), make_net(), row.make()
    optimizer.step(first.store)
    with pytest.raises(
        OptionError,
        match=rf"^{row.kind.__name__}: expected the network it began with, got another: its state belongs to that "
        r"one\. Make a new optimizer, or call reset\(\)\.$",
    ):
        optimizer.step(second.store)
    assert optimizer.t == 1
    optimizer.reset()
    assert (optimizer.t, optimizer.state) == (0, {})
    fresh, third = row.make(), make_net()
    for _, draw in zip(range(5), gradient_stream(), strict=False):
        g = draw("all", second.store.grads.shape)
        for rule, net in ((optimizer, second), (fresh, third)):
            net.store.grads[...] = g
            rule.step(net.store)
    np.testing.assert_array_equal(second.store.values, third.store.values)


@each_row
def test_a_pickled_optimizer_goes_on_where_it_was(row, backend):
    net, optimizer = make_net(backend), row.make()
    for _, draw in zip(range(3), gradient_stream(), strict=False):
        net.store.grads[...] = backend.asarray(draw("all", net.store.grads.shape))
        optimizer.step(net.store)
    twin, again = net.copy(), pickle.loads(pickle.dumps(optimizer))
    for _, draw in zip(range(3), gradient_stream(1), strict=False):
        g = draw("all", net.store.grads.shape)
        for each, rule in ((net, optimizer), (twin, again)):
            each.store.grads[...] = backend.asarray(g)
            rule.step(each.store)
    assert optimizer.t == again.t == 6
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, twin.state_dict()[name])


@each_row
def test_the_repr_makes_an_equal_optimizer(row):
    optimizer = row.make()
    again = eval(repr(optimizer), {row.kind.__name__: row.kind})
    assert repr(again) == repr(optimizer)
    assert again.numbers(7, 0.3) == optimizer.numbers(7, 0.3)
    optimizer.step(make_net().store)
    assert repr(optimizer) == repr(again), "state is no option"


def test_a_repr_in_full():
    assert repr(SGD(0.5, 0.9)) == "SGD(lr=0.5, weight_decay=0.0, momentum=0.9, nesterov=False)"
    assert repr(Adam([0.1, 0.2])) == "Adam(lr=[0.1, 0.2], weight_decay=0.0, beta1=0.9, beta2=0.999, eps=1e-08)"


def test_defaults_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    p = [torch.zeros(1, requires_grad=True)]
    for ours, theirs in (
        (RMSProp(), torch.optim.RMSprop(p)),
        (AdaGrad(), torch.optim.Adagrad(p)),
        (Adam(), torch.optim.Adam(p)),
        (AdamW(), torch.optim.AdamW(p)),
        (NAdam(), torch.optim.NAdam(p)),
    ):
        wanted = theirs.defaults
        assert ours.lr == wanted["lr"]
        assert ours.eps == wanted["eps"]
        assert ours.weight_decay == wanted["weight_decay"]
        if "betas" in wanted:
            assert (ours.beta1, ours.beta2) == wanted["betas"]
    assert RMSProp().alpha == torch.optim.RMSprop(p).defaults["alpha"]
    assert NAdam().momentum_decay == torch.optim.NAdam(p).defaults["momentum_decay"]


# -- wrong options -------------------------------------------------------------------------------------------
@each_kind
@pytest.mark.parametrize("lr", [-0.1, math.nan, math.inf, [], [0.1, -1.0], "fast", None, [0.1, None]], ids=repr)
def test_learning_rates_are_finite_and_not_negative(kind, lr):
    with pytest.raises(OptionError, match=rf"^{kind.__name__}: expected lr >= 0 and finite, got "):
        kind(lr=lr)


@each_kind
@pytest.mark.parametrize("decay", [-0.1, math.nan, math.inf])
def test_weight_decay_is_finite_and_not_negative(kind, decay):
    with pytest.raises(OptionError, match=rf"^{kind.__name__}: expected weight_decay >= 0, got {decay}\. Try 0\.01\.$"):
        kind(weight_decay=decay)


UNIT = [(SGD, "momentum"), (Momentum, "beta"), (RMSProp, "alpha"), (Muon, "momentum")]
UNIT += [(kind, name) for kind in (Adam, AdamW, NAdam, Lion, Muon) for name in ("beta1", "beta2")]


@pytest.mark.parametrize(("kind", "name"), UNIT)
@pytest.mark.parametrize("value", [-0.1, 1.0, 1.5, math.nan])
def test_factors_lie_in_the_unit_interval(kind, name, value):
    with pytest.raises(OptionError, match=rf"^{kind.__name__}: expected 0 <= {name} < 1, got {value}\. Try 0\.9\.$"):
        kind(**{name: value})
    assert getattr(kind(**{name: 0.5}), name) == 0.5


@pytest.mark.parametrize("kind", [RMSProp, AdaGrad, Adam, AdamW, NAdam, Muon])
@pytest.mark.parametrize("eps", [0.0, -1e-8, math.nan])
def test_eps_is_positive(kind, eps):
    with pytest.raises(OptionError, match=rf"^{kind.__name__}: expected eps > 0, got {eps}\. Try eps=1e-8\.$"):
        kind(eps=eps)


def test_nesterov_needs_momentum():
    with pytest.raises(OptionError, match=r"^SGD: nesterov=True expects momentum > 0, got 0\. Try momentum=0\.9\.$"):
        SGD(0.1, nesterov=True)


@pytest.mark.parametrize(("seed", "who"), [(0, "no"), ([0, 1, 2], r"\(3,\)")])
def test_as_many_rates_as_replicas(seed, who):
    with pytest.raises(
        OptionError,
        match=rf"^Adam: got 2 learning rates for {who} replicas\. Pass one rate, or one for each replica\.$",
    ):
        Adam([0.1, 0.2]).step(make_net(seed=seed).store)


def test_a_rule_of_ones_own_defines_rule():
    class Signs(Optimizer):
        """Move by the learning rate against the sign."""

        def rule(self, store, scalars):
            store.values -= store.backend.xp.sign(store.grads) * scalars[0]

    store = one_number()
    store.grads[...] = -3.0
    rule = Signs(0.25, weight_decay=0.5)
    rule.step(store)
    assert store.params["p"][0] == 1.25
    assert repr(rule) == "Signs(lr=0.25, weight_decay=0.5)"
    with pytest.raises(NotImplementedError):
        Optimizer(0.1).step(store)


def test_large_stores_on_torch_follow_numpy_to_rounding():
    nets = [xpnn.Sequential(xpnn.Linear(200), n_in=300, backend=backend_or_skip(b)) for b in ("numpy", "torch")]
    host = np.random.default_rng(0).normal(size=(3, *nets[0].store.grads.shape))
    for row in TABLE.values():
        rules = [row.make(), row.make()]
        for g in host:
            for net, rule in zip(nets, rules, strict=True):
                net.store.grads[...] = net.backend.asarray(g)
                rule.step(net.store)
        np.testing.assert_allclose(nets[0].store.values, xpnn.to_numpy(nets[1].store.values), rtol=1e-4, atol=1e-6)


# -- momenta that fade ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "rule", [SGD(0.1, momentum=0.9), Momentum(0.1, 0.9), Adam(), NAdam(), Lion(), Muon()], ids=repr
)
def test_momenta_that_faded_become_zero_and_no_others(rule, dtype, backend):
    rule = copy.deepcopy(rule)
    if dtype == "float64" and "no_float64" in str(backend.device):
        pytest.skip("this device has no float64")
    net = xpnn.mlp([2, 3, 2], backend=backend, dtype=dtype)
    rule.bind(net.store)
    (name,) = [slot for slot in rule.slots if slot in rule.momenta]
    least = float(np.finfo(dtype).smallest_normal)
    given = np.zeros(rule.state[name].shape, dtype)
    given[:6] = [least, -least * 2.0**39, least * 2.0**41, -1.0, np.nan, np.inf]
    rule.state[name][...] = net.backend.asarray(given)
    others = {slot: xpnn.to_numpy(a).copy() for slot, a in rule.state.items() if slot != name}
    rule.settle()
    np.testing.assert_array_equal(xpnn.to_numpy(rule.state[name])[:6], [0, 0, *given[2:6]])
    for slot, before in others.items():
        np.testing.assert_array_equal(xpnn.to_numpy(rule.state[slot]), before)


def test_dead_units_leave_no_subnormal_momenta():
    X, y = xpnn.data.make_moons(200, seed=0)
    net = xpnn.mlp([2, 32, 2], seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), Adam(0.01))
    trainer.fit(X, y, epochs=2, batch_size=4)
    net.params["0.bias"][:16] = -100.0  # no sample reaches these any more
    trainer.fit(X, y, epochs=60, batch_size=4)
    m = trainer.optimizer.state["m"]
    assert not ((m != 0) & (np.abs(m) < np.finfo(np.float32).smallest_normal)).any()
    assert (m == 0).sum() >= 16 * 3


def test_an_interrupt_while_it_is_bound_leaves_an_optimizer_that_is_bound_anew(monkeypatch):
    net = xpnn.mlp([2, 3, 1], seed=0)
    rule = xpnn.Adam(lr=0.1)

    def interrupt(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(net.store), "zeros", interrupt)
        with pytest.raises(KeyboardInterrupt):
            rule.bind(net.store)
    rule.step(net.store)
    assert rule.t == 1
    assert sorted(rule.state) == ["m", "v"]
