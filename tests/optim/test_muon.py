"""Muon: against PyTorch's, what it does to singular values, and who moves which parameter."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from places import assert_close, backend_or_skip

import xpnn
from xpnn import AdamW, Muon
from xpnn.errors import OptionError
from xpnn.optim.muon import newton_schulz

N_IN, N_OUT = 5, 3


def make_net(backend="numpy", dtype=None, **options):
    return xpnn.mlp([N_IN, 8, 6, N_OUT], activation="tanh", backend=backend, dtype=dtype, **{"seed": 1, **options})


def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(16, N_IN)), rng.normal(size=(16, N_OUT))


def gradients(net, seed=0):
    """Fill the gradients with numbers; the padding stays zero."""
    rng = np.random.default_rng(seed)
    for name in sorted(net.grads):
        g = net.grads[name]
        g[...] = net.backend.asarray(rng.normal(size=g.shape))


# -- PyTorch ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dtype", "rounded", "atol"), [("float64", False, 1e-6), ("float32", False, 1e-3), ("float32", True, 0.1)]
)
@pytest.mark.parametrize("options", [{}, {"nesterov": False, "momentum": 0.8, "weight_decay": 0.2}], ids=["", "plain"])
def test_fifty_steps_of_training_follow_torch(dtype, rounded, atol, options, monkeypatch):
    """PyTorch iterates in bfloat16; kept from that, it makes the same steps."""
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs PyTorch 2.9 or newer: pip install 'torch>=2.9'")
    if not rounded:
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    (X, Y), loss = data(), xpnn.MeanSquaredError()
    net, optimizer = make_net(dtype=dtype), Muon(0.01, adam_rate=0.1, **options)
    x, y = (torch.tensor(a, dtype=getattr(torch, dtype)) for a in (X, Y))
    # Their matrices have the shape (n_out, n_in).
    theirs = {name: torch.tensor(p.T.copy(), requires_grad=True) for name, p in net.state_dict().items()}
    matrices = [p for name, p in theirs.items() if name.endswith("weight")]
    vectors = [p for name, p in theirs.items() if name.endswith("bias")]
    rules = [
        torch.optim.Muon(matrices, lr=0.01, **{"weight_decay": 0.0, **options}),
        torch.optim.AdamW(vectors, lr=0.001, weight_decay=0.0),
    ]
    started = net.state_dict()
    for _ in range(50):
        pred, caches = net.forward(X, train=True)
        _, d_pred = loss.value_and_grad(pred, net.backend.asarray(Y))
        net.backward(d_pred, caches)
        optimizer.step(net.store)
        for rule in rules:
            rule.zero_grad()
        h = x
        for k in (0, 2, 4):
            h = torch.nn.functional.linear(h, theirs[f"{k}.weight"], theirs[f"{k}.bias"])
            h = torch.tanh(h) if k < 4 else h
        torch.nn.functional.mse_loss(h, y).backward()
        for rule in rules:
            rule.step()
    for name, p in theirs.items():
        assert_close(net.params[name], p.detach().numpy().T, rtol=0, atol=atol)
        assert np.abs(net.params[name] - started[name]).max() > 10 * atol or rounded or name.endswith("bias")


def test_the_defaults_are_those_of_torch():
    torch = pytest.importorskip("torch", reason="needs PyTorch: pip install torch")
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("needs PyTorch 2.9 or newer: pip install 'torch>=2.9'")
    theirs = torch.optim.Muon([torch.zeros((2, 2), requires_grad=True)]).defaults
    ours = Muon()
    assert (ours.momentum, ours.nesterov, ours.ns_steps) == (theirs["momentum"], theirs["nesterov"], theirs["ns_steps"])


# -- the iteration --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (1, 6), (6, 1), (2, 5, 3), (2, 2, 3, 5)], ids=str)
def test_singular_values_go_to_one_and_vectors_stay(shape, backend):
    host = np.random.default_rng(0).normal(size=shape)
    u, s, vt = np.linalg.svd(host, full_matrices=False)
    s = s / np.sqrt((s**2).sum(axis=-1, keepdims=True))
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    g = backend.asarray(host)
    x = newton_schulz(backend.xp, g)
    assert x.dtype == g.dtype
    assert_close(x, (u * s[..., None, :]) @ vt, rtol=1e-3)
    assert_close(g, host, rtol=1e-6)
    assert 0.68 < s.min() <= s.max() < 1.21


@pytest.mark.parametrize("size", [1e-12, 1.0, 1e12])
def test_the_size_of_the_gradient_does_not_matter(size):
    g = np.random.default_rng(0).normal(size=(6, 4))
    if size >= 1e-7:
        np.testing.assert_allclose(newton_schulz(np, g * size), newton_schulz(np, g), rtol=1e-9)
    else:  # what is almost nothing is not blown up
        assert np.abs(newton_schulz(np, g * size)).max() < 0.1
    np.testing.assert_array_equal(newton_schulz(np, np.zeros((3, 2))), 0.0)


def test_a_wide_layer_moves_further():
    """The spectral norm of the move is about √(n_out / n_in) where a layer widens, and 1 elsewhere."""
    for n_in, n_out in ((4, 16), (16, 4), (8, 8)):
        net = xpnn.Sequential(xpnn.Linear(n_out, init="zeros"), n_in=n_in, dtype="float64")
        gradients(net)
        Muon(lr=1.0).step(net.store)
        sigma = np.linalg.svd(net.params["0.weight"])[1] / math.sqrt(max(1, n_out / n_in))
        assert 0.6 < sigma.min() <= sigma.max() < 1.25


# -- who moves what -------------------------------------------------------------------------------------------------
def moved_by(optimizer, net=None, steps=3):
    """Return a network and its twin under AdamW at the rate of the vectors, after some steps of equal gradients."""
    net = net or make_net(dtype="float64")
    twin = net.copy()
    adam = AdamW(optimizer.lr * optimizer.adam_rate, weight_decay=optimizer.weight_decay)
    for step in range(steps):
        for each, rule in ((net, optimizer), (twin, adam)):
            gradients(each, step)
            rule.step(each.store)
    return {name for name in net.params if not np.allclose(net.params[name], twin.params[name], rtol=1e-12, atol=0)}


@pytest.mark.parametrize(
    ("matrices", "muon"),
    [
        ("all", {"0.weight", "2.weight", "4.weight"}),
        ("hidden", {"2.weight"}),
        (("4.weight", "0.weight"), {"0.weight", "4.weight"}),
        ((), set()),
    ],
    ids=["all", "hidden", "two", "none"],
)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_matrices_choose_and_the_rest_is_adamw(matrices, muon, decay):
    assert moved_by(Muon(0.05, weight_decay=decay, matrices=matrices)) == muon


def test_norms_embeddings_and_factors():
    def build(**factors):
        return xpnn.Sequential(
            xpnn.Embedding(6, 3),
            xpnn.Linear(4, **factors),
            xpnn.LayerNorm(),
            xpnn.Residual(xpnn.Linear(4), xpnn.PReLU()),
            xpnn.Linear(2),
            n_in=2,
            dtype="float64",
        )

    hidden = {"1.weight", "3.0.weight"}
    assert moved_by(Muon(0.05, weight_decay=0.1, matrices="hidden"), build(lr_mult=0.5, decay_mult=3.0)) == hidden
    nets = build(), build(lr_mult=0.5, decay_mult=3.0)
    before = nets[0].state_dict()["1.weight"]
    for net in nets:
        gradients(net)
        Muon(0.05, weight_decay=0.1).step(net.store)
    move = (1 - 0.05 * 0.1) * before - nets[0].params["1.weight"]
    expected = (1 - 0.05 * 0.1 * 1.5) * before - 0.5 * move
    np.testing.assert_allclose(nets[1].params["1.weight"], expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matrices": 3}, r"expected matrices to be 'all', 'hidden' or a list of names, got 3"),
        ({"matrices": "hiden"}, r"expected matrices to be 'all', 'hidden' or a list of names, got 'hiden'.*'hidden'\?"),
        ({"adam_rate": -1}, r"expected adam_rate >= 0 and finite, got -1\. Try 0\.05"),
        ({"adam_rate": math.inf}, r"expected adam_rate >= 0 and finite, got inf"),
        ({"ns_steps": 0}, r"expected ns_steps to be a positive integer, got 0"),
        ({"eps": "small"}, r"expected eps > 0, got 'small'"),
    ],
    ids=str,
)
def test_wrong_options(options, message):
    with pytest.raises(OptionError, match=f"^Muon: {message}"):
        Muon(**options)


def test_matrices_that_are_not_there():
    optimizer = Muon(matrices=["2.wieght"])
    with pytest.raises(OptionError, match=r"among 0\.weight, 2\.weight, 4\.weight, got '2\.wieght'.*'2\.weight'\?"):
        optimizer.step(make_net().store)
    with pytest.raises(OptionError, match=r"^Muon: matrices='hidden' expected .*, got a network of 2\. Try .*'all'"):
        Muon(matrices="hidden").step(xpnn.mlp([2, 4, 2]).store)
    optimizer.matrices = ["2.weight"]
    optimizer.step(make_net().store)  # an error leaves it free
    assert optimizer.t == 1


# -- what the house asks of all, where matrices make a difference --------------------------------------------------
def test_replicas_are_single_runs(backend):
    """With rates and decays of their own, through matrices, vectors and what is left to AdamW."""
    lrs, decays, seeds = [0.05, 0.01, 0.0], [0.0, 0.3, 0.1], [4, 0, 9]
    shape = {"matrices": ["2.weight", "4.weight"]}
    together = make_net(backend, seed=seeds)
    rule = Muon(lrs, weight_decay=decays, **shape)
    for step in range(4):
        gradients(together, step)
        rule.step(together.store, factor=1 / (step + 1))
    for k, (lr, decay, seed) in enumerate(zip(lrs, decays, seeds, strict=True)):
        single, alone = make_net(backend, seed=seed), Muon(lr, weight_decay=decay, **shape)
        for step in range(4):
            gradients(together, step)
            for name, g in single.grads.items():
                g[...] = together.grads[name][k, ...]
            alone.step(single.store, factor=1 / (step + 1))
        for name, p in single.params.items():
            assert_close(backend.to_numpy(together.params[name])[k], p, rtol=1e-5, atol=1e-7)


def test_a_pickle_within_training_and_a_reset():
    net, optimizer = make_net(), Muon(matrices="hidden")
    for step in range(3):
        gradients(net, step)
        optimizer.step(net.store)
    twin, again = net.copy(), pickle.loads(pickle.dumps(optimizer))
    for each, rule in ((net, optimizer), (twin, again)):
        gradients(each, 7)
        rule.step(each.store)
    np.testing.assert_array_equal(net.store.values, twin.store.values)
    np.testing.assert_array_equal(optimizer.state["m"], again.state["m"])
    optimizer.reset()
    other, fresh = make_net(seed=8), make_net(seed=8)
    for each, rule in ((other, optimizer), (fresh, Muon(matrices="hidden"))):
        gradients(each)
        rule.step(each.store)
    np.testing.assert_array_equal(other.store.values, fresh.store.values)


@pytest.mark.parametrize("replicas", [None, 2])
def test_no_host_sync_in_a_step(replicas, no_host_sync):
    backend = backend_or_skip("strict")
    net = make_net(backend, seed=0, replicas=replicas)
    optimizer = Muon(weight_decay=0.1, matrices="hidden")
    gradients(net)
    optimizer.bind(net.store)
    with no_host_sync():
        optimizer.update(net.store, optimizer.numbers(1))
    assert optimizer.t == 1


def test_training_learns():
    X, y = xpnn.data.make_spirals(400, noise=0.02, seed=0)
    trainer = xpnn.Trainer(
        xpnn.mlp([2, 32, 32, 2], activation="tanh"), xpnn.CrossEntropy(), Muon(), schedule=xpnn.CosineDecay()
    )
    assert trainer.fit(X, y, epochs=60, batch_size=32)["accuracy"][-1] > 0.97


def test_divergence_is_undone_with_its_momentum():
    X, Y = data()
    trainer = xpnn.Trainer(make_net(), xpnn.MeanSquaredError(), Muon())
    trainer.fit(X, Y, epochs=2, batch_size=8)
    momentum = trainer.optimizer.state["m"].copy()
    spoil = xpnn.LambdaCallback(on_batch_end=lambda t: t.net.params["0.bias"].fill(np.nan))
    trainer.callbacks.append(spoil)
    with pytest.raises(xpnn.errors.DivergenceError):
        trainer.fit(X, Y, epochs=1, batch_size=8)
    np.testing.assert_array_equal(trainer.optimizer.state["m"], momentum)
    trainer.callbacks.clear()
    trainer.fit(X, Y, epochs=1, batch_size=8)
    assert not np.array_equal(trainer.optimizer.state["m"], momentum), "views and state are one memory"
