"""Members that share weights: a whole TabM against PyTorch, where it begins, and training, predicting and files."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnn
from xpnn import AdamW, CrossEntropy, Dropout, MemberHead, MemberLinear, MemberMean, MemberScale, ReLU
from xpnn.errors import OptionError, ShapeError

K = 4


def tabm(n_in=5, width=8, n_out=3, k=K, small=False, **options):
    own = [{"scale_in": i > 0 and not small, "scale_out": not small} for i in range(2)]
    layers = [layer for given in own for layer in (MemberLinear(width, k, **given), ReLU())]
    return xpnn.Sequential(MemberScale(k), *layers, MemberHead(n_out, k), n_in=n_in, **options)


def torch_tabm(torch, p, x, k, small):
    """The network as its authors write it: arrays (batch, k, features), weights (out, in)."""
    ones = torch.ones(1, dtype=x.dtype)
    h = x[:, None, :] * p["0.weight"].reshape(k, -1)
    for i in (1, 3):
        r = p[f"{i}.scale_in"].reshape(k, -1) if f"{i}.scale_in" in p else ones
        s = p[f"{i}.scale_out"].reshape(k, -1) if f"{i}.scale_out" in p else ones
        b = p[f"{i}.bias"] if small else p[f"{i}.bias"].reshape(k, -1)
        h = torch.relu(torch.nn.functional.linear(h * r, p[f"{i}.weight"].T) * s + b)
    return torch.einsum("bkd,kdo->bko", h, p["5.weight"]) + p["5.bias"][:, 0]


@pytest.mark.parametrize("small", [False, True], ids=["TabM", "TabM-mini"])
def test_tabm_against_torch(small):
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    rng = np.random.default_rng(0)
    net = tabm(small=small, dtype="float64", seed=1)
    for view in net.params.values():
        view[...] += 0.2 * rng.normal(size=view.shape)
    x, y = rng.normal(size=(7, 5)), rng.integers(0, 3, 7)
    loss = MemberMean(CrossEntropy(), K)
    pred, caches = net.forward(x, train=True)
    value, d = loss.value_and_grad(pred, y)
    dx = net.backward(d, caches, need_dx=True)

    params = {name: torch.tensor(view, requires_grad=True) for name, view in net.params.items()}
    tx = torch.tensor(x, requires_grad=True)
    out = torch_tabm(torch, params, tx, K, small)
    each = torch.nn.functional.cross_entropy(out.flatten(0, 1), torch.tensor(y).repeat_interleave(K))
    each.backward()
    np.testing.assert_allclose(pred.reshape(7, K, 3), out.detach(), rtol=1e-12, atol=1e-13)
    assert float(value) == pytest.approx(each.item(), rel=1e-12)
    for name, t in params.items():
        np.testing.assert_allclose(net.grads[name], t.grad, rtol=1e-10, atol=1e-14, err_msg=name)
    np.testing.assert_allclose(dx, tx.grad, rtol=1e-10, atol=1e-14)
    shown = torch.softmax(out, dim=-1).mean(dim=1).detach()
    np.testing.assert_allclose(loss.link(pred), shown, rtol=1e-12)


def test_where_members_begin():
    """Different in the first factors and the heads alone."""
    net = tabm(n_in=200, width=100, k=8)
    p = net.params
    first = p["0.weight"].reshape(8, 200)
    assert set(np.unique(first)) == {-1.0, 1.0}
    assert len({row.tobytes() for row in first}) == 8
    assert "1.scale_in" not in p
    for name in ("1.scale_out", "3.scale_in", "3.scale_out"):
        assert (p[name] == 1.0).all()
    for i, n in ((1, 200), (3, 100)):
        bias = p[f"{i}.bias"].reshape(8, 100)
        assert (bias == bias[0]).all()
        for v in (p[f"{i}.weight"], bias[0]):
            assert abs(v).max() <= 1 / math.sqrt(n)
            assert v.std() == pytest.approx(1 / math.sqrt(3 * n), rel=0.2)
    assert (p["5.weight"][0] != p["5.weight"][1]).all()
    decayed = {name for name, spec in net.store.specs.items() if spec.decay}
    assert decayed == {"1.weight", "3.weight", "5.weight"}
    assert net.store.matrices() == ["1.weight", "3.weight"]


def test_groups_begin_with_one_factor():
    net = xpnn.Sequential(MemberScale(50, init="normal", groups=[3, 1, 2]), n_in=6)
    r = net.params["0.weight"].reshape(50, 6)
    for a, b in ((0, 1), (1, 2), (4, 5)):
        assert (r[:, a] == r[:, b]).all()
    for a, b in ((2, 3), (3, 4)):
        assert (r[:, a] != r[:, b]).all()


def test_the_small_variant_is_one_network_for_all_members():
    """Without factors of their own, members are a network's answers to inputs with other signs."""
    net = tabm(small=True, k=2, dtype="float64")
    shared = xpnn.mlp([5, 8, 8], dtype="float64")
    for ours, theirs in (("1", "0"), ("3", "2")):
        for name in ("weight", "bias"):
            shared.params[f"{theirs}.{name}"][...] = net.params[f"{ours}.{name}"]
    x = np.random.default_rng(0).normal(size=(6, 5))
    hidden = net.plan.forward(x)[1][-1]  # the head's input, by member
    for k, signs in enumerate(net.params["0.weight"].reshape(2, 5)):
        np.testing.assert_allclose(hidden[k], np.maximum(shared.forward(x * signs)[0], 0), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("replicas", [None, 2])
def test_members_train_predict_and_come_back(tmp_path, replicas):
    X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    layers = MemberLinear(32, K, scale_in=False), ReLU(), Dropout(0.1), MemberLinear(32, K), ReLU(), MemberHead(2, K)
    net = xpnn.Sequential(MemberScale(K), *layers, n_in=2, seed=0, replicas=replicas)
    metrics = ("accuracy", xpnn.metrics.TopK(1))
    trainer = xpnn.Trainer(net, MemberMean(CrossEntropy(), K), AdamW(1e-2), metrics=metrics)
    history = trainer.fit(X, y, epochs=30, batch_size=32, class_weight="balanced")
    assert np.min(history["accuracy"][-1]) > 0.97
    shown = trainer.predict_proba(X)
    assert shown.shape == (*net.store.replicas, 300, 2)
    np.testing.assert_allclose(shown.sum(-1), 1.0, rtol=1e-5)
    assert np.array_equal(trainer.predict(X), shown.argmax(-1))
    right = (shown.argmax(-1) == y).mean(-1)
    np.testing.assert_allclose(trainer.evaluate(X, y)["accuracy"], right, rtol=1e-6)

    trainer.save(tmp_path / "state.safetensors")
    again = xpnn.Trainer.load(tmp_path / "state.safetensors")
    assert repr(again.loss) == repr(trainer.loss)
    assert np.array_equal(again.predict_proba(X), shown)


def test_a_regression_of_members_has_all_metrics():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = X[:, :1] ** 2 + X[:, 1:2]
    layers = MemberLinear(32, K), ReLU(), MemberHead(1, K)
    net = xpnn.Sequential(MemberScale(K), *layers, n_in=3)
    loss = MemberMean(xpnn.MeanSquaredError(), K)
    trainer = xpnn.Trainer(net, loss, xpnn.Adam(1e-2), metrics=("r2", "rmse"))
    trainer.fit(X, y, epochs=60, batch_size=32)
    scores = trainer.evaluate(X, y)
    error = trainer.predict(X) - y
    assert scores["r2"] > 0.95
    assert scores["rmse"] == pytest.approx(float(np.sqrt((error**2).mean())), rel=1e-4)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: MemberScale(0), OptionError, r"MemberScale: expected members to be a positive integer, got 0\."),
        (
            lambda: xpnn.Sequential(MemberScale(2, groups=[2, 2]), n_in=5),
            ShapeError,
            r"MemberScale: expected groups of 5 features in all, got 4\. Give the size of each group",
        ),
        (
            lambda: xpnn.Sequential(MemberScale(3), MemberLinear(4, 2), n_in=5),
            ShapeError,
            r"MemberLinear\(width=4, members=2\): expected features that 2 members divide among them, got 15\. Put Mem",
        ),
        (
            lambda: xpnn.Sequential(MemberHead(4, 3), n_in=5),
            ShapeError,
            r"MemberHead\(width=4, members=3\): expected features that 3 members divide among them, got 5\.",
        ),
        (lambda: MemberLinear(0, 2), OptionError, r"MemberLinear: expected width to be a positive integer, got 0\."),
        (lambda: MemberMean("ce", 2), OptionError, r"MemberMean: expected a loss object, got 'ce'\. Try MemberMean\("),
        (lambda: MemberMean(CrossEntropy(), 0), OptionError, r"MemberMean: expected members to be a positive integer"),
        (
            lambda: xpnn.Trainer(xpnn.mlp([2, 4, 7]), MemberMean(CrossEntropy(), 2), xpnn.Adam()).fit(
                np.zeros((4, 2)), np.asarray([0, 1, 2, 0])
            ),
            ShapeError,
            r"MemberMean\(.*\): expected outputs that 2 members divide among them, got 7\. End .* MemberHead\(n, 2\)\.",
        ),
        (
            lambda: xpnn.Trainer(tabm(), MemberMean(CrossEntropy(), K), xpnn.Adam()).fit(
                np.zeros((4, 5)), np.asarray([0, 1, 2, 3])
            ),
            xpnn.errors.LabelError,
            r"CrossEntropy\(\): expected class numbers 0\.\.2 for 3 outputs, found 0\.\.3\.",
        ),
    ],
)
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()
