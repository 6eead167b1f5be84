"""Loss, parameter gradients and input gradients of generated networks against PyTorch's autograd, in float64.

PyTorch runs the forward pass written again with its own functions; where a network drops units, it is given the
mask that xpnn drew.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import LAYERS, LOSSES
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn import layers, losses

torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
F = torch.nn.functional

TOLERANCE = 1e-8


# -- the same functions in torch --------------------------------------------------------------------------------
def norm(layer, x, p):
    weight, bias = p["weight"], p.get("bias")
    if isinstance(layer, layers.BatchNorm):
        # spelled out: torch's own takes 40 ms a call on some processors; test_layers.py compares with that one
        var, mean = torch.var_mean(x, 0, correction=0)
        return (x - mean) / torch.sqrt(var + layer.eps) * weight + bias
    if isinstance(layer, layers.LayerNorm):
        return F.layer_norm(x, x.shape[-1:], weight, bias, layer.eps)
    return F.rms_norm(x, x.shape[-1:], weight, layer.eps)


def linear(layer, x, p):
    return F.linear(x, p["weight"].T, p.get("bias"))


def embedding(layer, x, p):
    return F.embedding(x, p["weight"]).flatten(1)


def columns(layer, x, p):
    starts = itertools.accumulate((n for n, _ in layer.groups), initial=0)
    pieces = []
    for j, (start, (n, inner)) in enumerate(zip(starts, layer.groups, strict=False)):
        part = x[:, start : start + n]
        part = part.long() if inner.takes_integers else part
        pieces.append(TORCH[type(inner).__name__](inner, part, below(p, f"{j}.")))
    return torch.cat([*pieces, x[:, sum(n for n, _ in layer.groups) :]], dim=1)


def waves(layer, x, p):
    """Column by column, as the formula stands."""
    pieces = []
    for j in range(layer.n_in):
        angle = 2 * torch.pi * x[:, j, None] * p["frequencies"][j]
        if layer.kind == "pbld":
            angle = angle + p["phases"][j]
            pieces += [angle.cos() @ p["weight"][j] + p["bias"][j], x[:, j, None]]
        else:
            y = torch.cat([angle.cos(), angle.sin()], dim=1) @ p["weight"][j] + p["bias"][j]
            pieces.append(F.relu(y) if layer.kind == "plr" else y)
    return torch.cat(pieces, dim=1)


def parametric(layer, x, p):
    inner = layer.activation
    return x + p["weight"] * (TORCH[type(inner).__name__](inner, x, {}) - x)


def member_linear(layer, x, p):
    k = layer.members
    h = (x * p.get("scale_in", 1.0)).reshape(len(x), k, -1)
    z = torch.stack([h[:, j] @ p["weight"] for j in range(k)], dim=1).reshape(len(x), -1)
    return z * p["scale_out"] + p["bias"] if layer.scale_out else z + p["bias"].repeat(k)


def member_head(layer, x, p):
    h = x.reshape(len(x), layer.members, -1)
    return torch.cat([h[:, j] @ p["weight"][j] + p["bias"][j] for j in range(layer.members)], dim=1)


TORCH = {
    "MemberScale": lambda layer, x, p: x.repeat(1, layer.members) * p["weight"],
    "MemberLinear": member_linear,
    "MemberHead": member_head,
    "Scale": lambda layer, x, p: x * p["weight"],
    "ParametricActivation": parametric,
    "NumericalEmbedding": waves,
    "Columns": columns,
    "Linear": linear,
    "Embedding": embedding,
    "BatchNorm": norm,
    "LayerNorm": norm,
    "RMSNorm": norm,
    "Identity": lambda layer, x, p: x,
    "ReLU": lambda layer, x, p: F.relu(x),
    "LeakyReLU": lambda layer, x, p: F.leaky_relu(x, layer.slope),
    "PReLU": lambda layer, x, p: F.prelu(x, p["weight"]),
    "ELU": lambda layer, x, p: F.elu(x, layer.alpha),
    "SELU": lambda layer, x, p: F.selu(x),
    "GELU": lambda layer, x, p: F.gelu(x, approximate=layer.approximate),
    "SiLU": lambda layer, x, p: F.silu(x),
    "Mish": lambda layer, x, p: F.mish(x),
    "Softplus": lambda layer, x, p: F.softplus(x, threshold=40),
    "Sigmoid": lambda layer, x, p: torch.sigmoid(x),
    "Tanh": lambda layer, x, p: torch.tanh(x),
    "Softmax": lambda layer, x, p: F.softmax(x / layer.temperature, dim=-1),
    "Step": lambda layer, x, p: (x >= 0).to(x.dtype) + 0.0 * x,
}


def below(params, prefix):
    return {name[len(prefix) :]: t for name, t in params.items() if name.startswith(prefix)}


def chain(net_layers, caches, x, params):
    """Run xpnn's layers on torch tensors; `caches` of xpnn's own pass hold the dropout masks."""
    for j, (layer, cache) in enumerate(zip(net_layers, caches, strict=True)):
        own = below(params, f"{j}.")
        if isinstance(layer, layers.Residual):
            x = x + chain(layer.layers, cache, x, own)
        elif isinstance(layer, layers.Dropout):
            x = x if cache is None else x * torch.tensor(cache)
        else:
            x = TORCH[type(layer).__name__](layer, x, own)
    return x


def hinge(loss, pred, y, reduction="none"):
    if y.ndim == 1:
        return F.multi_margin_loss(pred, y, margin=loss.margin, reduction=reduction)
    return torch.clamp(loss.margin - y * pred, min=0).mean(-1)


def focal(loss, pred, y):
    log_p = F.log_softmax(pred, dim=-1).gather(1, y[:, None])[:, 0]
    return -((1 - log_p.exp()) ** loss.gamma) * log_p


def pinball(loss, pred, y):
    q = torch.tensor(loss.quantiles, dtype=pred.dtype)
    e = y[:, :, None] - pred.reshape(len(pred), y.shape[1], len(q))
    return torch.maximum(q * e, (q - 1) * e).mean((-1, -2))


def torch_rows(loss, pred, y):
    """Each row's loss, by torch's functions."""
    name = type(loss).__name__
    if name == "CrossEntropy":
        return F.cross_entropy(pred, y, reduction="none", label_smoothing=loss.label_smoothing)
    if name == "MemberMean":
        return torch.stack([torch_rows(loss.loss, own, y) for own in pred.chunk(loss.members, dim=1)]).mean(0)
    if name in ("Hinge", "Focal", "Pinball"):
        return {"Hinge": hinge, "Focal": focal, "Pinball": pinball}[name](loss, pred, y)
    elementwise = {
        "MeanSquaredError": lambda: F.mse_loss(pred, y, reduction="none"),
        "MeanAbsoluteError": lambda: F.l1_loss(pred, y, reduction="none"),
        "Huber": lambda: F.huber_loss(pred, y, reduction="none", delta=loss.delta),
        "PoissonNLL": lambda: F.poisson_nll_loss(pred, y, reduction="none"),
        "BinaryCrossEntropy": lambda: F.binary_cross_entropy_with_logits(pred, y, reduction="none"),
    }
    return elementwise[name]().mean(-1)


def torch_mean(loss, pred, y, weight):
    rows = torch_rows(loss, pred, y)
    return rows.mean() if weight is None else (rows * weight).sum() / weight.sum()


def close(ours, theirs, name) -> None:
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape, name
    scale = max(float(np.abs(theirs).max(initial=0.0)), 1.0)
    assert float(np.abs(ours - theirs).max(initial=0.0)) <= TOLERANCE * scale, name


def compare(net, loss, x, y, weight, step) -> None:
    """Forward and backward on both sides, from the same weights."""
    params = {name: torch.tensor(view, requires_grad=True) for name, view in net.params.items()}
    pred, caches = net.forward(x, train=True, step=step)
    value, d = loss.value_and_grad(pred, y, weight)
    dx = net.backward(d, caches, need_dx=not net.takes_integers)
    tx = torch.tensor(x, requires_grad=not net.takes_integers)
    t_pred = chain(net.layers, caches, tx, params)
    t_value = torch_mean(loss, t_pred, torch.tensor(y), None if weight is None else torch.tensor(weight))
    t_value.backward()
    close(pred, t_pred, "outputs")
    assert float(value) == pytest.approx(t_value.item(), rel=TOLERANCE, abs=TOLERANCE)
    for name, t in params.items():
        # what no path leads to has no gradient in torch
        close(net.grads[name], torch.zeros_like(t) if t.grad is None else t.grad, name)
    if dx is not None:
        close(dx, tx.grad, "x")


# -- generated networks -----------------------------------------------------------------------------------------
activations = st.sampled_from(
    [
        layers.ReLU,
        layers.LeakyReLU,
        lambda: layers.LeakyReLU(0.3),
        layers.PReLU,
        lambda: layers.PReLU(0.1, per_unit=True),
        layers.ELU,
        lambda: layers.ELU(0.4),
        layers.SELU,
        layers.GELU,
        lambda: layers.GELU(approximate="tanh"),
        layers.SiLU,
        layers.Mish,
        layers.Scale,
        lambda: layers.ParametricActivation("selu"),
        lambda: layers.NumericalEmbedding(dim=1, kind="pl"),
        layers.Softplus,
        layers.Sigmoid,
        layers.Tanh,
        layers.Softmax,
        lambda: layers.Softmax(2.0),
        layers.Identity,
    ]
)
norms = st.sampled_from([None, layers.BatchNorm, layers.LayerNorm, layers.RMSNorm])
rates = st.sampled_from([0.0, 0.0, 0.25, 0.6])


@st.composite
def blocks(draw, n_in):
    """One hidden block; with a skip where the widths allow it and the draw says so."""
    n_out = draw(st.sampled_from([n_in, draw(st.integers(1, 9))]))
    block = [layers.Linear(n_out, bias=draw(st.booleans()))]
    make_norm = draw(norms)
    if make_norm is not None:
        block.append(make_norm())
    block.append(draw(activations)())
    rate = draw(rates)
    if rate:
        block.append(layers.Dropout(rate))
    return ([layers.Residual(*block)] if n_in == n_out and draw(st.booleans()) else block), n_out


@st.composite
def problems(draw):
    loss_case = draw(st.sampled_from(LOSSES))
    seed = draw(st.integers(0, 2**31))
    batch = draw(st.integers(2, 12))
    n_in = width = draw(st.integers(1, 8))
    stack = []
    if draw(st.integers(0, 9)) == 0:
        stack.append(layers.Dropout(0.2))
    for _ in range(draw(st.integers(0, 5))):
        block, width = draw(blocks(width))
        stack.extend(block)
    stack.append(layers.Linear(loss_case.n_out))
    net = xpnn.Sequential(*stack, n_in=n_in, dtype="float64", seed=seed)
    weighted = draw(st.booleans())
    return net, loss_case, batch, seed, weighted


@settings(max_examples=300)
@given(problems())
def test_generated_networks(problem):
    net, loss_case, batch, seed, weighted = problem
    rng = np.random.default_rng(seed)
    for view in net.params.values():  # away from zeros, ones and from exact kinks
        view[...] += 0.2 * rng.normal(size=view.shape)
    x, y = rng.normal(size=(batch, net.n_in)), loss_case.y(batch, seed)
    weight = rng.uniform(0.1, 3.0, batch) if weighted else None
    compare(net, loss_case.loss, x, y, weight, step=seed % 7)


@pytest.mark.parametrize("norm", [None, "batch", "layer", "rms"])
def test_a_deep_network(norm):
    """Forty layers: errors do not pile up."""
    rng = np.random.default_rng(0)
    net = xpnn.mlp([6] + [7] * 40 + [3], "gelu", norm=norm, residual=True, dropout=0.1, dtype="float64")
    compare(net, losses.CrossEntropy(), rng.normal(size=(16, 6)), rng.integers(0, 3, 16), None, 2)


@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_every_layer_between_two_others(case):
    rng = np.random.default_rng(3)
    for loss_case in LOSSES[LAYERS.index(case) % 3 :: 3]:
        before = [layers.Linear(case.n_in)] if case.takes_any_number else []
        n_in = 3 if case.takes_any_number else case.n_in
        net = xpnn.Sequential(*before, case.make(), layers.Linear(loss_case.n_out), n_in=n_in, dtype="float64")
        x = rng.normal(size=(6, n_in)) if case.takes_any_number else case.x(6)
        compare(net, loss_case.loss, x, loss_case.y(6), rng.uniform(0.5, 2, 6), 1)


# -- losses with torch's defaults -------------------------------------------------------------------------------
CLASSES = [
    (losses.MeanSquaredError(), torch.nn.MSELoss()),
    (losses.MeanAbsoluteError(), torch.nn.L1Loss()),
    (losses.Huber(), torch.nn.HuberLoss()),
    (losses.Huber(0.3), torch.nn.HuberLoss(delta=0.3)),
    (losses.PoissonNLL(), torch.nn.PoissonNLLLoss()),
    (losses.BinaryCrossEntropy(), torch.nn.BCEWithLogitsLoss()),
    (losses.BinaryCrossEntropy(multilabel=True), torch.nn.BCEWithLogitsLoss()),
    (losses.CrossEntropy(), torch.nn.CrossEntropyLoss()),
    (losses.CrossEntropy(label_smoothing=0.2), torch.nn.CrossEntropyLoss(label_smoothing=0.2)),
    (losses.Hinge(), torch.nn.MultiMarginLoss()),
    (losses.Hinge(2.0), torch.nn.MultiMarginLoss(margin=2.0)),
]


def targets_for(loss, rng, batch, n):
    if isinstance(loss, losses.CrossEntropy | losses.Hinge):
        return rng.integers(0, n, batch)
    if isinstance(loss, losses.PoissonNLL):
        return rng.poisson(3, (batch, n)).astype(float)
    return rng.random((batch, n)) if isinstance(loss, losses.BinaryCrossEntropy) else rng.normal(size=(batch, n))


@pytest.mark.parametrize(("ours", "theirs"), CLASSES, ids=[repr(c[0]) for c in CLASSES])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_losses_with_torch_defaults(ours, theirs, scale):
    rng = np.random.default_rng(8)
    scale = 1.0 if isinstance(ours, losses.PoissonNLL) else scale
    for batch, n in ((1, 5), (7, 2), (64, 10)):
        pred, y = scale * rng.normal(size=(batch, n)), targets_for(ours, rng, batch, n)
        value, d = ours.value_and_grad(pred, y)
        t_pred = torch.tensor(pred, requires_grad=True)
        t_value = theirs(t_pred, torch.tensor(y))
        t_value.backward()
        assert float(value) == pytest.approx(t_value.item(), rel=1e-12)
        np.testing.assert_allclose(d, t_pred.grad.numpy(), rtol=1e-9, atol=1e-13)


def test_cross_entropy_of_soft_labels_and_binary_multilabel_with_torch_defaults():
    rng = np.random.default_rng(9)
    pred, y = rng.normal(size=(9, 4)), rng.dirichlet(np.ones(4), 9)
    for smoothing in (0.0, 0.3):
        t_pred = torch.tensor(pred, requires_grad=True)
        t_value = F.cross_entropy(t_pred, torch.tensor(y), label_smoothing=smoothing)
        t_value.backward()
        value, d = losses.CrossEntropy(label_smoothing=smoothing).value_and_grad(pred, y)
        assert float(value) == pytest.approx(t_value.item(), rel=1e-13)
        np.testing.assert_allclose(d, t_pred.grad.numpy(), rtol=1e-11, atol=1e-15)


def test_class_weights_are_sample_weights():
    """torch's ``weight=`` of classes is our weight of rows, the mean taken over their sum."""
    rng = np.random.default_rng(2)
    pred, y, per_class = rng.normal(size=(20, 3)), rng.integers(0, 3, 20), np.asarray([0.5, 2.0, 1.5])
    value, d = losses.CrossEntropy().value_and_grad(pred, y, per_class[y])
    t_pred = torch.tensor(pred, requires_grad=True)
    t_value = F.cross_entropy(t_pred, torch.tensor(y), weight=torch.tensor(per_class))
    t_value.backward()
    assert float(value) == pytest.approx(t_value.item(), rel=1e-13)
    np.testing.assert_allclose(d, t_pred.grad.numpy(), rtol=1e-11, atol=1e-16)


# -- activations ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "make",
    [case.make for case in LAYERS if type(case.make()).__module__.endswith("activations")],
    ids=lambda make: repr(make()),
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_against_torch(make, dtype):
    """Values and derivatives over small and large arguments, in both precisions."""
    grid = np.concatenate([np.linspace(-12, 12, 241) + 1e-3, [-1e4, -700, -90, 90, 700, 1e4]])
    x = np.stack([grid, grid[::-1]], axis=1).astype(dtype)
    net = xpnn.Sequential(make(), n_in=2, dtype=dtype)
    y, caches = net.forward(x)
    dx = net.backward(np.ones_like(x), caches, need_dx=True)
    tx = torch.tensor(x, requires_grad=True)
    params = {name[2:]: torch.tensor(view) for name, view in net.params.items()}
    ty = TORCH[type(net.layers[0]).__name__](net.layers[0], tx, params)
    ty.sum().backward()
    # float32: the erf of GELU is good to 1e-6 of a value near 1; torch itself flushes more at the far ends
    rtol, atol = (2e-6, 2e-6) if dtype == "float32" else (1e-11, 1e-13)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=rtol, atol=atol)
    np.testing.assert_allclose(dx, tx.grad.numpy(), rtol=rtol, atol=4 * atol)
