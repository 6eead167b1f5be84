"""One contract for every layer, on every array library; then what is special to some."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from cases import BATCH, LAYERS, LayerCase
from places import assert_close, backend_or_skip

import xpnn
from xpnn import initializers, layers
from xpnn.checkpoint import build
from xpnn.errors import DTypeError, FileFormatError, LabelError, OptionError, ShapeError
from xpnn.initializers import Constant, HeNormal, LeCunNormal, XavierNormal
from xpnn.layers import (
    ELU,
    GELU,
    SELU,
    BatchNorm,
    Columns,
    Dropout,
    Embedding,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    Mish,
    NumericalEmbedding,
    ParametricActivation,
    PReLU,
    ReLU,
    Residual,
    RMSNorm,
    Scale,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Step,
    Tanh,
)
from xpnn.random import StepKey

every_layer = pytest.mark.parametrize("case", LAYERS, ids=str)
to_numpy = xpnn.to_numpy


def same(a, b) -> bool:
    """Equal to the bit."""
    a, b = to_numpy(a), to_numpy(b)
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def bring(case: LayerCase, backend, given, a):
    return given(a, dtype=backend.index_dtype) if case.integers else given(a)


def grads_of(net) -> dict[str, np.ndarray]:
    return {name: np.array(to_numpy(g)) for name, g in net.grads.items()}


def same_dicts(a, b) -> bool:
    return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)


def test_the_table_holds_every_layer():
    def kinds(layer):
        yield type(layer).__name__
        for inner in layer.sublayers():
            yield from kinds(inner)

    named = {kind for case in LAYERS for kind in kinds(case.make())}
    assert named == set(layers.__all__) - {"Layer", "get_activation"}


# -- the contract -----------------------------------------------------------------------------------------------
@every_layer
def test_shapes_dtypes_and_inputs_left_alone(case, backend, given):
    net = case.net(backend)
    assert net.n_out == case.n_out
    host = case.x()
    x, dy = bring(case, backend, given, host), given(case.dy())
    rows = np.array(to_numpy(x)), np.array(to_numpy(dy))
    for train in (True, False):
        y, caches = net.forward(x, train=train, step=1)
        assert tuple(y.shape) == (BATCH, case.n_out)
        assert y.dtype == backend.dtype
        assert y.device == x.device
        dx = net.backward(dy, caches, need_dx=not case.integers)
        if not case.integers:
            assert tuple(dx.shape) == tuple(x.shape)
            assert dx.dtype == backend.dtype
            assert dx.device == x.device
        assert same(x, rows[0])
        assert same(dy, rows[1])


@every_layer
def test_a_cache_serves_again_and_gradients_are_assigned(case, backend, given):
    net = case.net(backend)
    x, dy = bring(case, backend, given, case.x()), given(case.dy())
    y, caches = net.forward(x, train=True, step=1)
    want_dx = not case.integers
    first_dx = net.backward(dy, caches, need_dx=want_dx)
    first = grads_of(net)
    kept = np.array(to_numpy(y))
    net.store.grads[...] = 99.0  # whatever was there must not show
    second_dx = net.backward(dy, caches, need_dx=want_dx)
    assert same_dicts(first, grads_of(net))
    assert not want_dx or same(first_dx, second_dx)
    assert same(y, kept)

    net.store.grads[...] = 99.0
    assert net.layers[0].backward(dy, caches[0], need_dx=False) is None
    assert same_dicts(first, grads_of(net))


@every_layer
def test_prediction_is_deterministic_and_changes_no_state(case, backend, given):
    net = case.net(backend)
    x = bring(case, backend, given, case.x())
    net.forward(x, train=True, step=0)
    state = net.state_dict()
    y = net.forward(x)[0]
    assert same(y, net.forward(x, step=7)[0])
    assert same(y, net.predict(x))
    assert same_dicts(state, net.state_dict())


@every_layer
def test_a_training_step_is_repeatable(case, backend, given):
    x = bring(case, backend, given, case.x())
    a, b = (case.net(backend).forward(x, train=True, step=4)[0] for _ in range(2))
    assert same(a, b)


@pytest.mark.parametrize("case", [c for c in LAYERS if c.takes_any_number], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_ten_thousand(case, dtype):
    net = case.net("numpy", dtype=dtype)
    x = np.asarray([[1e4, -1e4, 0.0, -0.0, 9e3, -9e3], [-1e4, 1e4, 1e4, 1.0, 1.0, 1.0], [1e4] * 6, [-1e4] * 6])
    for train in (True, False):
        y, caches = net.forward(x, train=train)
        dx = net.backward(np.ones_like(y), caches, need_dx=True)
        assert np.isfinite(y).all()
        assert np.isfinite(dx).all()
        assert np.isfinite(net.store.grads).all()


@every_layer
def test_rows_do_not_meet(case, backend, given):
    """Row by row, a slice of the batch gives a slice of the output: in prediction always, in training mostly."""
    net = case.net(backend)
    x = bring(case, backend, given, case.x(8))
    for train in (False, True) if case.by_row else (False,):
        whole = to_numpy(net.forward(x, train=train)[0])
        parts = [to_numpy(net.forward(x[a:b, ...], train=train)[0]) for a, b in ((0, 1), (1, 5), (5, 8))]
        assert_close(np.concatenate(parts), whole, 1e-6)


@every_layer
@pytest.mark.parametrize("shared", [False, True], ids=["own rows", "shared rows"])
def test_replicas_are_three_networks(case, shared, backend, given):
    """K networks at once: each with the weights, masks, outputs and gradients that it has alone."""
    seeds = (3, 4, 11)
    together = case.net(backend, seed=seeds)
    host_x = case.x(BATCH) if shared else case.x(BATCH, 3)
    host_dy = case.dy(BATCH, 3)
    x, dy = bring(case, backend, given, host_x), given(host_dy)
    y, caches = together.forward(x, train=True, step=2)
    dx = together.backward(dy, caches, need_dx=not case.integers)
    assert tuple(y.shape) == (3, BATCH, case.n_out)
    y = to_numpy(y)

    def agree(a, b):
        if backend.name == "numpy":
            assert same(np.ascontiguousarray(a), b)
        else:
            assert_close(a, b, 2e-6)

    for k, seed in enumerate(seeds):
        alone = case.net(backend, seed=seed)
        x_k = bring(case, backend, given, host_x if shared else host_x[k])
        y_k, caches_k = alone.forward(x_k, train=True, step=2)
        dx_k = alone.backward(given(host_dy[k]), caches_k, need_dx=not case.integers)
        agree(y[k], to_numpy(y_k))
        if not case.integers:
            agree(to_numpy(dx)[k], to_numpy(dx_k))
        for name in alone.params:
            agree(to_numpy(together.params[name])[k], to_numpy(alone.params[name]))
            agree(to_numpy(together.grads[name])[k], to_numpy(alone.grads[name]))
        for name, value in alone.store.named_buffers.items():
            agree(to_numpy(together.store.named_buffers[name])[k], to_numpy(value))


@every_layer
def test_strict_needs_no_host(case, no_host_sync):
    backend = backend_or_skip("strict")
    net = case.net(backend)
    x = backend.asarray(case.x(), dtype=backend.index_dtype if case.integers else None)
    dy = backend.asarray(case.dy())
    with no_host_sync():
        _, caches = net.forward(x, train=True, step=0)
        net.backward(dy, caches, need_dx=not case.integers)


# -- descriptions -----------------------------------------------------------------------------------------------
@every_layer
def test_config_builds_the_same_network(case):
    net = case.net(dtype="float64")
    config = json.loads(json.dumps(net.config()))
    again = build(config, net.state_dict())
    assert repr(again) == repr(net)
    assert json.loads(json.dumps(again.config())) == config
    assert same_dicts(again.state_dict(), net.state_dict())
    x = case.x()
    assert same(again.forward(x, train=True)[0], net.forward(x, train=True)[0])
    assert again.store.specs == net.store.specs  # initializers, decay and learning-rate factors too


@every_layer
def test_repr_is_the_call_that_makes_it(case):
    layer = case.make()
    names = {**vars(xpnn.layers), **vars(initializers)}
    assert repr(eval(repr(layer), names)) == repr(layer)


def test_repr_shows_what_differs_from_the_default():
    assert repr(Linear(4)) == "Linear(n_out=4)"
    assert repr(Linear(4, bias=False, init="zeros")) == "Linear(n_out=4, bias=False, init=Zeros())"
    assert repr(Residual(Linear(4), ReLU())) == "Residual(Linear(n_out=4), ReLU())"


@pytest.mark.parametrize("name", sorted(layers.activations._BY_NAME))
def test_activations_by_name(name):
    layer = layers.get_activation(name)
    aliases = {"swish": "SiLU", "logistic": "Sigmoid"}
    assert type(layer).__name__.lower() == aliases.get(name, name.replace("_", "")).lower()
    assert layer is not layers.get_activation(name)


# -- errors -----------------------------------------------------------------------------------------------------
def wrong_widths():
    xpnn.Sequential(Residual(Linear(5)), n_in=4)


def feed(n_in, x, *first):
    return lambda: xpnn.Sequential(*(first or (Linear(2),)), n_in=n_in).forward(np.zeros(x))


ERRORS = [
    (lambda: Linear(0), OptionError, r"Linear: expected n_out to be a positive integer, got 0\."),
    (lambda: Linear(2.0), OptionError, r"Linear: expected n_out to be a positive integer, got 2\.0\."),
    (lambda: Linear(True), OptionError, r"Linear: expected n_out to be a positive integer, got True\."),
    (lambda: Linear(2, init="hee"), OptionError, r"hee"),
    (lambda: GELU(approximate="yes"), OptionError, r"GELU: expected approximate to be 'none' or 'tanh', got 'yes'\."),
    (lambda: Softmax(0.0), OptionError, r"Softmax: expected temperature > 0, got 0\.0\."),
    (lambda: Dropout(1.0), OptionError, r"Dropout: expected 0 <= rate < 1 \(the share of units dropped\), got 1\.0\."),
    (lambda: Dropout(-0.1), OptionError, r"Dropout: expected 0 <= rate < 1 .*, got -0\.1\."),
    (lambda: Dropout(math.nan), OptionError, r"Dropout: expected 0 <= rate < 1 .*, got nan\."),
    (lambda: BatchNorm(eps=0.0), OptionError, r"BatchNorm: expected eps > 0, got 0\.0\."),
    (lambda: LayerNorm(eps=-1.0), OptionError, r"LayerNorm: expected eps > 0, got -1\.0\."),
    (lambda: RMSNorm(eps=math.nan), OptionError, r"RMSNorm: expected eps > 0, got nan\."),
    (lambda: BatchNorm(momentum=0.0), OptionError, r"BatchNorm: expected 0 < momentum <= 1, got 0\.0\."),
    (lambda: BatchNorm(momentum=1.5), OptionError, r"BatchNorm: expected 0 < momentum <= 1, got 1\.5\."),
    (lambda: Residual(), OptionError, r"Residual: expected at least one layer, got none\."),
    (
        wrong_widths,
        ShapeError,
        r"Residual: expected layers that map 4 features to 4, got 5\. End the block with Linear\(4\), or leave",
    ),
    (
        lambda: Embedding(0, 3),
        OptionError,
        r"Embedding: expected n_categories to be a positive integer, got 0\.",
    ),
    (lambda: Embedding(3, 0), OptionError, r"Embedding: expected dim to be a positive integer, got 0\."),
    (
        lambda: xpnn.Sequential(Embedding(3, 2), n_in=1).predict(np.asarray([[0], [3]])),
        LabelError,
        r"0\.Embedding: expected category numbers 0\.\.2, found 0\.\.3\. Renumber the categories or raise",
    ),
    (
        lambda: xpnn.Sequential(Embedding(3, 2), n_in=1).predict(np.asarray([[-1]])),
        LabelError,
        r"0\.Embedding: expected category numbers 0\.\.2, found -1\.\.-1\.",
    ),
    (
        lambda: xpnn.Sequential(Embedding(3, 2), n_in=1).predict(np.asarray([[0.5]])),
        DTypeError,
        r"0\.Embedding: expected whole category numbers, got fractions\.",
    ),
    (lambda: Scale(math.nan), OptionError, r"Scale: expected init to be a finite number, got nan\."),
    (
        lambda: ParametricActivation(Tanh),
        OptionError,
        r"ParametricActivation: expected a name or a layer as activation, got <class .*\. Try 'mish'\.",
    ),
    (
        lambda: xpnn.Sequential(ParametricActivation(PReLU()), n_in=2),
        OptionError,
        r"ParametricActivation: expected an activation without parameters, got PReLU\(\)\. .* use it alone\.",
    ),
    (
        lambda: xpnn.Sequential(ParametricActivation(Linear(3)), n_in=2),
        OptionError,
        r"ParametricActivation: expected an activation that keeps the width of 2, got Linear\(n_out=3\)\.",
    ),
    (
        lambda: NumericalEmbedding("plrd"),
        OptionError,
        r"NumericalEmbedding: expected kind to be one of pbld, pl, plr, got 'plrd'\. Did you mean",
    ),
    (
        lambda: NumericalEmbedding(dim=1),
        OptionError,
        r"NumericalEmbedding: expected dim >= 2 for kind 'pbld', whose last feature is the number itself, got 1\.",
    ),
    (lambda: NumericalEmbedding(sigma=0.0), OptionError, r"NumericalEmbedding: expected sigma > 0, got 0\.0\."),
    (
        lambda: NumericalEmbedding(n_frequencies=0),
        OptionError,
        r"NumericalEmbedding: expected n_frequencies to be a positive integer, got 0\.",
    ),
    (lambda: Columns(), OptionError, r"Columns: expected at least one group, got none\. Try Columns\(\(3, "),
    (
        lambda: Columns(Tanh()),
        OptionError,
        r"Columns: expected pairs of a number of columns and a layer, got Tanh\(\)\. Try Columns\(\(3, ",
    ),
    (lambda: Columns((0, Tanh())), OptionError, r"Columns: expected the number of columns to be a positive .* got 0\."),
    (
        lambda: xpnn.Sequential(Columns((2, Tanh()), (2, ReLU())), n_in=3),
        ShapeError,
        r"Columns: expected at least 4 columns for its groups, got 3\. Make a group smaller, or leave one out\.",
    ),
    (
        lambda: xpnn.Sequential(Columns((1, Tanh()), (1, Embedding(3, 2))), n_in=3).predict(np.asarray([[9, 3, 9]])),
        LabelError,
        r"0\.1\.Embedding: expected category numbers 0\.\.2, found 3\.\.3\.",
    ),
    (
        lambda: xpnn.Sequential(Columns((1, Embedding(3, 2))), n_in=2).predict(np.asarray([[0.5, 0.5]])),
        DTypeError,
        r"0\.0\.Embedding: expected whole category numbers, got fractions\.",
    ),
    (
        lambda: xpnn.Trainer(
            xpnn.Sequential(Columns((1, Embedding(3, 2))), Linear(2), n_in=2), xpnn.CrossEntropy(), xpnn.Adam(0.1)
        ).fit(np.asarray([[4.0, 0.5]]), np.asarray([1])),
        LabelError,
        r"0\.0\.Embedding: expected category numbers 0\.\.2, found 4\.\.4\.",
    ),
    (
        lambda: layers.get_activation("rellu"),
        OptionError,
        r"activation: expected one of identity, relu, .*, got 'rellu'\.",
    ),
    (
        feed(3, (5, 4)),
        ShapeError,
        r"0\.Linear: expected x of shape \(batch, 3\), got \(5, 4\)\. Pass 3 features a row, or .* n_in=4\.$",
    ),
    (feed(3, (6,)), ShapeError, r"got \(6,\)\. Pass rows: x\.reshape\(-1, 3\)\.$"),
    (feed(3, (3,)), ShapeError, r"got \(3,\)\. For one sample write x\.reshape\(1, -1\)\."),
    (feed(3, (3, 5)), ShapeError, r"got \(3, 5\)\. Rows must be samples\. Did you mean X\.T\?"),
    (feed(3, (2, 4), BatchNorm()), ShapeError, r"0\.BatchNorm: expected x of shape \(batch, 3\), got \(2, 4\)\."),
    (feed(3, (2, 4), Embedding(2, 2)), ShapeError, r"0\.Embedding: expected x of shape \(batch, 3\), got \(2, 4\)\."),
    (feed(3, (2, 4), Tanh()), ShapeError, r"0\.Tanh: expected x of shape \(batch, 3\), got \(2, 4\)\."),
    (
        feed(3, (2, 4, 3)),
        ShapeError,
        r"Sequential: expected x of shape \(batch, 3\), got \(2, 4, 3\)\. .*: X\.reshape\(-1, 3\)\.",
    ),
    (
        lambda: Linear(2).forward(np.zeros((1, 1))),
        OptionError,
        r"Linear\(n_out=2\): expected to be part of a network, but it is bound to none\. Put it into xpnn\.Sequential",
    ),
    (
        lambda: xpnn.Sequential(Dropout(), n_in=2).layers[0].forward(np.zeros((1, 2)), train=True),
        OptionError,
        r"0\.Dropout: expected a key when train=True, got None\. Pass key=xpnn\.random\.StepKey\(seed, step\)\.",
    ),
    (lambda: xpnn.Sequential(n_in=2), OptionError, r"Sequential: expected at least one layer, got none\."),
    (
        lambda: xpnn.Sequential(ReLU(), n_in=0),
        OptionError,
        r"Sequential: expected n_in to be a positive integer, got 0\.",
    ),
    (
        lambda: xpnn.Sequential(ReLU, n_in=2),
        OptionError,
        r"Sequential: expected layers, got <class .*ReLU'>\. Write ReLU\(\)\.",
    ),
    (
        lambda: xpnn.Sequential(*[ReLU()] * 2, n_in=2),
        OptionError,
        r"Sequential: ReLU\(\) stands in more than one place or network\. Make a layer object for each place\.",
    ),
    (
        lambda: xpnn.Sequential(xpnn.mlp([2, 2]).layers[0], n_in=2),
        OptionError,
        r"Sequential: Linear\(n_out=2\) stands in more than one place or network\.",
    ),
    (
        lambda: xpnn.mlp([2, 2], replicas=0),
        OptionError,
        r"Sequential: expected replicas to be a positive integer, got 0\.",
    ),
    (
        lambda: xpnn.mlp([2, 2], seed=[1, 2], replicas=3),
        OptionError,
        r"Sequential: got 2 seeds for 3 replicas; give one for each\.",
    ),
    (lambda: xpnn.mlp([2]), OptionError, r"mlp: expected at least two positive widths, input and output, got \[2\]\."),
    (lambda: xpnn.mlp([2, 0, 1]), OptionError, r"mlp: expected at least two positive widths.*got \[2, 0, 1\]\."),
    (
        lambda: xpnn.mlp([2, 3, 1], norm="group"),
        OptionError,
        r"mlp: expected norm to be None or one of batch, layer, rms, got 'group'\.",
    ),
    (
        lambda: xpnn.mlp([2, 3, 3, 1], ["relu"]),
        OptionError,
        r"mlp: expected one activation, or one for each of 2 hidden layers, got 1\.",
    ),
    (
        lambda: xpnn.mlp([2, 3, 1], dropout=[0.1, 0.2]),
        OptionError,
        r"mlp: expected one dropout, or one for each of 1 hidden layers, got 2\.",
    ),
    (
        lambda: xpnn.mlp([2, 3, 1]).check_shapes(5),
        ShapeError,
        r"0\.Linear: expected 2 features, would be given 5\. .*pass x of shape \(batch, 2\), or build .* n_in=5\.",
    ),
    (
        lambda: xpnn.mlp([2, 1]).predict(np.zeros((3, 2)), batch_size=0),
        OptionError,
        r"predict: expected batch_size to be a positive integer, got 0\.",
    ),
]


@pytest.mark.parametrize(("call", "kind", "text"), ERRORS, ids=[e[2][:48] for e in ERRORS])
def test_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


# -- values -----------------------------------------------------------------------------------------------------
def test_activations_against_their_formulas():
    """Each formula as the books write it, in float64, at points where it overflows nowhere."""
    x = np.linspace(-6, 6, 241).reshape(-1, 1)
    cdf = np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)
    formulas = [
        (Identity(), x),
        (ReLU(), np.where(x > 0, x, 0)),
        (LeakyReLU(0.2), np.where(x > 0, x, 0.2 * x)),
        (ELU(0.7), np.where(x > 0, x, 0.7 * (np.exp(x) - 1))),
        (SELU(), 1.0507009873554804934 * np.where(x > 0, x, 1.6732632423543772848 * (np.exp(x) - 1))),
        (GELU(), x * cdf),
        (
            GELU(approximate="tanh"),
            0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        ),
        (SiLU(), x / (1 + np.exp(-x))),
        (Mish(), x * np.tanh(np.log(1 + np.exp(x)))),
        (Softplus(), np.log(1 + np.exp(x))),
        (Sigmoid(), 1 / (1 + np.exp(-x))),
        (Tanh(), np.tanh(x)),
        (Step(), (x >= 0).astype(float)),
    ]
    for layer, expected in formulas:
        y, _ = layer.forward(x)
        np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-14, err_msg=repr(layer))


@pytest.mark.parametrize("slope", [0.01, 0.1, 0.3, 0.25, 1 / 3])
def test_leaky_relu_passes_positive_values(slope):
    for dtype, ulp in ((np.float32, 2e-7), (np.float64, 0.0)):
        x = np.linspace(0.01, 3, 50, dtype=dtype).reshape(-1, 1)
        np.testing.assert_allclose(LeakyReLU(slope).forward(x)[0], x, rtol=ulp)


def test_softmax_temperature():
    x = np.asarray([[1.0, 2.0, 4.0]])
    for t in (0.5, 1.0, 3.0):
        e = np.exp(x / t)
        np.testing.assert_allclose(Softmax(t).forward(x)[0], e / e.sum(), rtol=1e-14)


def test_prelu_counts_its_slopes():
    shared, own = (xpnn.Sequential(PReLU(0.5, per_unit=p), n_in=4) for p in (False, True))
    assert shared.n_params == 1
    assert own.n_params == 4
    x = np.asarray([[-2.0, 1.0, -4.0, 3.0]])
    for net in (shared, own):
        assert net.forward(x)[0].tolist() == [[-1.0, 1.0, -2.0, 3.0]]
        assert net.store.n_decay == 0


def test_layer_and_rms_norm_rows():
    x = np.random.default_rng(0).normal(2, 3, size=(4, 50))
    y = xpnn.Sequential(LayerNorm(eps=1e-12), n_in=50, dtype="float64").forward(x)[0]
    np.testing.assert_allclose(y.mean(-1), 0, atol=1e-12)
    np.testing.assert_allclose((y * y).mean(-1), 1, rtol=1e-10)
    y = xpnn.Sequential(RMSNorm(eps=1e-12), n_in=50, dtype="float64").forward(x)[0]
    np.testing.assert_allclose((y * y).mean(-1), 1, rtol=1e-10)
    np.testing.assert_allclose(y / x, (y / x)[:, :1] * np.ones(50), rtol=1e-12)


def test_embedding_looks_rows_up(backend, given):
    net = xpnn.Sequential(Embedding(5, 3), n_in=2, backend=backend)
    table = to_numpy(net.params["0.weight"])
    x = np.asarray([[0, 4], [2, 2], [4, 1]])
    y, caches = net.forward(given(x, dtype=backend.index_dtype))
    assert to_numpy(y).tolist() == table[x].reshape(3, 6).tolist()
    net.backward(given(np.ones((3, 6))), caches)
    # the gradient of a row is the number of times it was looked up
    assert to_numpy(net.grads["0.weight"])[:, 0].tolist() == np.bincount(x.ravel(), minlength=5).tolist()
    assert net.takes_integers


def test_columns_are_what_their_layers_make_of_them(backend, given):
    host = np.random.default_rng(0).normal(size=(5, 6))
    host[:, 3] = [0, 1, 2, 2, 1]
    net = xpnn.Sequential(Columns((3, Tanh()), (1, Embedding(3, 2))), n_in=6, backend=backend)
    y = to_numpy(net.forward(given(host))[0])
    assert_close(y[:, :3], np.tanh(host[:, :3]), 1e-5)
    table = to_numpy(net.params["0.1.weight"])
    assert same(np.ascontiguousarray(y[:, 3:5]), table[[0, 1, 2, 2, 1]])
    assert y.shape == (5, 7)
    assert_close(y[:, 5:], host[:, 4:], 1e-6)


def test_a_numerical_embedding_begins_as_its_paper_says():
    net = xpnn.Sequential(NumericalEmbedding(sigma=0.1), n_in=400, dtype="float64")
    values = {name: to_numpy(view) for name, view in net.params.items()}
    assert {name: v.shape for name, v in values.items()} == {
        "0.frequencies": (400, 1, 16),
        "0.weight": (400, 16, 3),
        "0.bias": (400, 1, 3),
        "0.phases": (400, 1, 16),
    }
    assert values["0.frequencies"].std() == pytest.approx(0.1, rel=0.05)
    for name, bound in (("phases", math.pi), ("weight", 0.25), ("bias", 0.25)):
        v = values[f"0.{name}"]
        assert abs(v).max() <= bound
        assert v.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert net.store.matrices() == []  # nothing that Muon or a spectral norm would take for a linear map


def test_factors_of_the_tables_layers():
    net = xpnn.Sequential(
        Columns((2, NumericalEmbedding(lr_mult=0.1, decay_mult=0.2))),
        Scale(decay_mult=6.0),
        Linear(3),
        ParametricActivation("mish", decay_mult=0.1),
        n_in=3,
    )
    factors = {name: (s.lr_mult, s.decay_mult if s.decay else None) for name, s in net.store.specs.items()}
    assert factors == {
        "0.0.frequencies": (0.1, 0.2),
        "0.0.weight": (0.1, 0.2),
        "0.0.bias": (0.1, None),
        "0.0.phases": (0.1, None),
        "1.weight": (6.0, 6.0),
        "2.weight": (1.0, 1.0),
        "2.bias": (1.0, None),
        "3.weight": (0.1, 0.1),
    }
    assert isinstance(net.layers[2].auto_init, HeNormal)


def test_an_mlp_of_parametric_activations():
    net = xpnn.mlp([3, 4, 5, 1], ParametricActivation("selu"))
    assert [repr(net.layers[i]) for i in (1, 3)] == ["ParametricActivation(activation=SELU())"] * 2
    assert net.layers[1].activation is not net.layers[3].activation
    assert net.n_params == xpnn.mlp([3, 4, 5, 1], "selu").n_params + 9
    assert isinstance(net.layers[0].auto_init, LeCunNormal)


def test_residual_with_zero_weights_is_the_identity():
    x = np.random.default_rng(0).normal(size=(3, 4))
    net = xpnn.Sequential(Residual(Linear(4, init="zeros")), n_in=4, dtype="float64")
    y, caches = net.forward(x)
    assert same(y, x)
    dy = np.ones((3, 4))
    assert same(net.backward(dy, caches, need_dx=True), dy)


# -- batch norm -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("options", [{}, {"momentum": 0.3, "eps": 1e-3}, {"momentum": 1.0}], ids=str)
def test_batch_norm_against_torch(options):
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    rng = np.random.default_rng(5)
    net = xpnn.Sequential(BatchNorm(**options), n_in=3, dtype="float64")
    theirs = torch.nn.BatchNorm1d(3, dtype=torch.float64, **options)
    net.params["0.weight"][...] = rng.normal(size=3)
    net.params["0.bias"][...] = rng.normal(size=3)
    with torch.no_grad():
        theirs.weight.copy_(torch.asarray(net.params["0.weight"]))
        theirs.bias.copy_(torch.asarray(net.params["0.bias"]))
    for batch in (8, 8, 2, 5):
        x, dy = rng.normal(3, 2, size=(batch, 3)), rng.normal(size=(batch, 3))
        y, caches = net.forward(x, train=True)
        dx = net.backward(dy, caches, need_dx=True)
        tx = torch.tensor(x, requires_grad=True)
        ty = theirs(tx)
        theirs.zero_grad()
        ty.backward(torch.asarray(dy))
        assert_close(y, ty.detach(), 1e-12)
        # two rows make x̂ = ±1, where the gradient to x is a difference of near equals
        assert_close(dx, tx.grad, 1e-11, atol=1e-11)
        assert_close(net.grads["0.weight"], theirs.weight.grad, 1e-11)
        assert_close(net.grads["0.bias"], theirs.bias.grad, 1e-11)
        for name in ("running_mean", "running_var"):
            assert_close(net.store.named_buffers[f"0.{name}"], getattr(theirs, name), 1e-13)
    theirs.eval()
    x = rng.normal(size=(4, 3))
    assert_close(net.forward(x)[0], theirs(torch.asarray(x)).detach(), 1e-13)


def repeated_batch_norm():
    """Rows with weights of whole numbers, 0 among them, and the same rows written out."""
    rng = np.random.default_rng(6)
    x, w = rng.normal(3, 2, size=(9, 3)), np.asarray([2, 0, 1, 3, 1, 0, 4, 1, 1])
    dy = rng.normal(size=(9, 3))
    return x, w, dy, np.repeat(np.arange(9), w)


def weighted_batch_norm(**options):
    net = xpnn.Sequential(BatchNorm(), n_in=3, **{"dtype": "float64", **options})
    rng = np.random.default_rng(7)
    for view in net.params.values():
        view[...] = net.backend.asarray(rng.normal(size=view.shape))
    return net


def test_weights_in_batch_norm_are_repetitions_against_torch():
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    x, w, dy, many = repeated_batch_norm()
    net = weighted_batch_norm()
    theirs = torch.nn.BatchNorm1d(3, dtype=torch.float64)
    with torch.no_grad():
        theirs.weight.copy_(torch.asarray(net.params["0.weight"]))
        theirs.bias.copy_(torch.asarray(net.params["0.bias"]))
    for given_total in (float(w.sum()), None):
        y, caches = net.forward(x, train=True, sample_weight=w, total_weight=given_total)
        dx = net.backward(dy * w[:, None], caches, need_dx=True)  # as the loss does: the weight of a row is in dy
        tx = torch.tensor(x[many], requires_grad=True)
        ty = theirs(tx)
        theirs.zero_grad()
        ty.backward(torch.asarray(dy[many]))
        assert_close(y[many], ty.detach(), 1e-12)
        summed = np.zeros((9, 3))
        np.add.at(summed, many, tx.grad.numpy())  # the copies of a row together move it
        assert_close(dx, summed, 1e-11)
        assert_close(net.grads["0.weight"], theirs.weight.grad, 1e-11)
        assert_close(net.grads["0.bias"], theirs.bias.grad, 1e-11)
        for name in ("running_mean", "running_var"):
            assert_close(net.store.named_buffers[f"0.{name}"], getattr(theirs, name), 1e-13)


@pytest.mark.parametrize("total", [None, 5.7], ids=["summed here", "known on the host"])
def test_gradients_of_weighted_batch_norm_are_those_of_finite_differences(total):
    rng = np.random.default_rng(8)
    w = rng.uniform(0, 2, size=6)
    w[2] = 0.0
    w *= 5.7 / w.sum()
    x, r = rng.normal(size=(6, 3)), rng.normal(size=(6, 3))
    net = weighted_batch_norm()

    def value():
        return float((net.forward(x, train=True, sample_weight=w, total_weight=total)[0] * r).sum())

    _, caches = net.forward(x, train=True, sample_weight=w, total_weight=total)
    dx = net.backward(r, caches, need_dx=True)
    grads = grads_of(net)
    for array, analytic in ((x, dx), *((net.params[name], grads[name]) for name in grads)):
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + 1e-6
            up = value()
            array[place] = kept - 1e-6
            slope = (up - value()) / 2e-6
            array[place] = kept
            assert analytic[place] == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_weights_of_one_change_no_bit_of_batch_norm(backend, given):
    rng = np.random.default_rng(9)
    x, dy = given(rng.normal(2, 3, size=(13, 3))), given(rng.normal(size=(13, 3)))
    nets = [weighted_batch_norm(backend=backend, dtype=None) for _ in range(2)]
    ones = given(np.ones(13))
    for step in range(3):
        known = {"sample_weight": ones, "total_weight": 13.0}
        y, caches = nets[0].forward(x, train=True, step=step)
        y_weighted, weighted = nets[1].forward(x, train=True, step=step, **known)
        assert same(y, y_weighted)
        assert same(nets[0].backward(dy, caches, need_dx=True), nets[1].backward(dy, weighted, need_dx=True))
        assert same_dicts(*map(grads_of, nets))
        assert same_dicts(nets[0].state_dict(), nets[1].state_dict())


def test_rows_of_weight_0_are_absent_from_batch_norm(backend, given):
    x, w, dy, _ = repeated_batch_norm()
    there = w > 0
    nets = [weighted_batch_norm(backend=backend, dtype=None) for _ in range(2)]
    y, caches = nets[0].forward(given(x), train=True, sample_weight=given(w))
    y_there, caches_there = nets[1].forward(given(x[there]), train=True, sample_weight=given(w[there]))
    assert_close(to_numpy(y)[there], y_there, 1e-6)
    dx = nets[0].backward(given(dy * w[:, None]), caches, need_dx=True)
    dx_there = nets[1].backward(given((dy * w[:, None])[there]), caches_there, need_dx=True)
    assert_close(to_numpy(dx)[there], dx_there, 1e-5)
    for name, value in nets[1].state_dict().items():
        assert_close(nets[0].state_dict()[name], value, 1e-6)


@pytest.mark.parametrize("counting", [0, 1])
def test_batch_norm_of_less_than_two_rows_that_count_keeps_the_running_moments(counting, backend, given):
    net = weighted_batch_norm(backend=backend, dtype=None)
    rng = np.random.default_rng(0)
    net.forward(given(rng.normal(2, 3, size=(16, 3))), train=True)
    before = net.state_dict()
    x, w = given(rng.normal(size=(4, 3))), np.zeros(4)
    w[1 : 1 + counting] = 2.0
    y, caches = net.forward(x, train=True, sample_weight=given(w))
    assert_close(y, net.forward(x)[0], 1e-6)
    for name, value in before.items():
        assert_close(net.state_dict()[name], value, 1e-6)
    dx = net.backward(given(np.ones((4, 3))), caches, need_dx=True)
    scale = before["0.weight"] / np.sqrt(before["0.running_var"] + 1e-5)
    assert_close(dx, np.broadcast_to(scale, (4, 3)), 1e-5)


def test_small_weights_are_no_counts_and_at_most_double_the_variance():
    x = np.random.default_rng(1).normal(size=(5, 3))
    for w in (np.full(5, 1e-3), np.full(5, 0.2), np.full(5, 0.3)):
        net = weighted_batch_norm()
        net.forward(x, train=True, sample_weight=w)
        expected = 0.9 + 0.1 * 2 * x.var(axis=0)
        assert_close(net.store.named_buffers["0.running_var"], expected, 1e-12)


def test_replicas_share_the_weights_of_rows():
    x, w, dy, _ = repeated_batch_norm()
    many = xpnn.Sequential(Linear(4), BatchNorm(), Dropout(0.3), n_in=3, dtype="float64", replicas=3, seed=5)
    rows = np.arange(9)[::-1] * 7
    dy = np.random.default_rng(2).normal(size=(3, 9, 4))
    y, caches = many.forward(x, train=True, step=4, rows=rows, sample_weight=w)
    many.backward(dy, caches)
    for k in range(3):
        one = xpnn.Sequential(Linear(4), BatchNorm(), Dropout(0.3), n_in=3, dtype="float64", seed=5 + k)
        y_k, caches_k = one.forward(x, train=True, step=4, rows=rows, sample_weight=w)
        one.backward(dy[k], caches_k)
        assert_close(y[k], y_k, 1e-12)
        for name, value in one.grads.items():
            assert_close(many.grads[name][k], value, 1e-11, atol=1e-12)


class RowTrainer(xpnn.Trainer):
    """A trainer whose rows keep their masks: what the numbers are is told from outside."""

    numbers = None

    def row_numbers(self, order):
        backend = self.net.backend
        return backend.asarray(self.numbers if order is None else self.numbers[order], dtype=backend.xp.int32)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_trainer_takes_weights_as_repetitions_through_norm_and_dropout(dropout):
    rng = np.random.default_rng(3)
    X, y, w = rng.normal(size=(20, 3)), rng.integers(0, 2, 20), rng.integers(0, 4, 20)
    many = np.repeat(np.arange(20), w)
    runs = []
    for rows, weight in ((np.arange(20), w), (many, None)):
        net = xpnn.mlp([3, 8, 2], "tanh", norm="batch", dropout=dropout, dtype="float64")
        run = RowTrainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.1))
        run.numbers = rows.astype(np.int32)
        history = run.fit(X[rows], y[rows], epochs=5, batch_size=len(many), sample_weight=weight)
        runs.append((net.state_dict(), history["loss"]))
    (weighted, losses), (repeated, expected) = runs
    assert losses == pytest.approx(expected, rel=1e-12)
    for name, value in repeated.items():
        assert_close(weighted[name], value, 1e-11, atol=1e-13)


def test_a_trainer_asks_for_the_order_of_each_epoch():
    class Backwards(RowTrainer):
        def epoch_rows(self, n):
            asked.append((n, self.epoch))
            return np.arange(n)[::-1]

    asked = []
    X, y = np.random.default_rng(4).normal(size=(20, 3)), np.arange(20) % 2
    nets = []
    for rows, shuffle in ((slice(None), True), (slice(None, None, -1), False)):
        net = xpnn.mlp([3, 8, 2], dropout=0.3)
        run = Backwards(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.1))
        run.numbers = np.arange(20, dtype=np.int32)[rows]
        run.fit(X[rows], y[rows], epochs=3, batch_size=8, shuffle=shuffle)
        nets.append(net)
    assert same_dicts(*(net.state_dict() for net in nets))
    assert asked == [(20, 0), (20, 1), (20, 2)]


def test_batch_norm_of_one_row_uses_and_keeps_the_running_moments(backend, given):
    net = xpnn.Sequential(BatchNorm(), n_in=3, backend=backend)
    rng = np.random.default_rng(0)
    net.forward(given(rng.normal(2, 3, size=(16, 3))), train=True)
    before = net.state_dict()
    row = given(rng.normal(size=(1, 3)))
    y, caches = net.forward(row, train=True)
    assert same(y, net.forward(row)[0])
    assert same_dicts(before, net.state_dict())
    dx = net.backward(given(np.ones((1, 3))), caches, need_dx=True)
    expected = 1 / np.sqrt(before["0.running_var"] + 1e-5)
    assert_close(to_numpy(dx)[0], expected, 1e-6)


def test_batch_norm_trains_with_a_last_batch_of_one_row():
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(33, 2)), rng.integers(0, 2, 33)
    trainer = xpnn.Trainer(xpnn.mlp([2, 8, 2], norm="batch"), xpnn.CrossEntropy(), xpnn.Adam())
    history = trainer.fit(X, y, epochs=3, batch_size=16)
    assert all(math.isfinite(row["loss"]) for row in history.rows)


# -- dropout ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.999])
def test_dropout_drops_its_share_and_scales_the_rest(rate):
    n = 200_000
    net = xpnn.Sequential(Dropout(rate), n_in=1000, dtype="float64", seed=8)
    y = net.forward(np.ones((n // 1000, 1000)), train=True, step=3)[0]
    values = np.unique(y)
    assert len(values) == 2
    assert values[0] == 0.0
    assert values[1] == pytest.approx(1 / (1 - rate), rel=1e-2 if rate > 0.99 else 1e-4)
    dropped = (y == 0).mean()
    assert abs(dropped - rate) < 5 * math.sqrt(rate * (1 - rate) / n) + 1 / 65536


def test_dropout_of_nothing_and_prediction_are_the_identity(backend, given):
    x = given(np.random.default_rng(0).normal(size=(3, 4)))
    for rate, train in ((0.0, True), (0.0, False), (0.7, False)):
        net = xpnn.Sequential(Dropout(rate), n_in=4, backend=backend)
        y, caches = net.forward(x, train=train)
        assert same(y, x)
        assert same(net.backward(x, caches, need_dx=True), x)


def test_dropout_masks_are_equal_on_all_libraries(backend, given):
    x = np.ones((16, 33))
    here = xpnn.Sequential(Identity(), Dropout(0.4), n_in=33, backend=backend, seed=2)
    numpy = xpnn.Sequential(Identity(), Dropout(0.4), n_in=33, seed=2)
    for step in (0, 1, 1000):
        assert same(here.forward(given(x), train=True, step=step)[0], numpy.forward(x, train=True, step=step)[0])


def test_dropout_masks_differ_by_step_layer_and_seed():
    def mask(slot=0, seed=0, step=0):
        net = xpnn.Sequential(*(Identity() for _ in range(slot)), Dropout(), n_in=64, seed=seed)
        return net.forward(np.ones((16, 64)), train=True, step=step)[0]

    masks = [mask(), mask(slot=1), mask(seed=1), mask(step=1), mask(seed=-1)]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert 0.4 < (a == b).mean() < 0.6


def test_dropout_backward_takes_the_mask_of_its_forward():
    net = xpnn.Sequential(Dropout(0.5), n_in=64, dtype="float64")
    x = np.ones((4, 64))
    y, caches = net.forward(x, train=True, step=5)
    net.forward(x, train=True, step=6)
    assert same(net.backward(x, caches, need_dx=True), y)


# -- masks that belong to rows ------------------------------------------------------------------------------------
def row_masks(rows, width=64, rate=0.5, seed=0, step=0, backend="numpy", slot=0):
    net = xpnn.Sequential(*(Identity() for _ in range(slot)), Dropout(rate), n_in=width, backend=backend, seed=seed)
    x = net.backend.asarray(np.ones((np.shape(rows)[0], width)))
    return net.forward(x, train=True, step=step, rows=rows)[0]


def test_equal_numbers_draw_equal_masks_wherever_the_rows_lie():
    rows = np.asarray([5, -3, 5, 2**31 - 1, 0, -3, -(2**31)])
    masks = row_masks(rows)
    assert same(masks[0], masks[2])
    assert same(masks[1], masks[5])
    assert len(np.unique(masks, axis=0)) == 5
    order = np.random.default_rng(0).permutation(7)
    assert same(row_masks(rows[order]), masks[order])
    assert same(row_masks(rows[3:]), masks[3:])


def test_row_masks_are_equal_on_all_libraries(backend, given):
    rows = np.asarray([1, 70000, -5, 1])
    for step, width, rate in ((0, 33, 0.4), (1, 1, 0.5), (1000, 8, 0.9)):
        expected = row_masks(rows, width, rate, step=step)
        here = given(rows, dtype=backend.xp.int32)
        assert same(row_masks(here, width, rate, step=step, backend=backend), expected)


def test_row_masks_are_the_hash_in_plain_integers():
    def mix(z, a, b):
        z = (z * 0x9E3779B9 + a) % 2**32
        z = (z ^ z >> 16) * 0x7FEB352D % 2**32
        z = ((z ^ z >> 15) + b) * 0x846CA68B % 2**32
        return z ^ z >> 16

    a, b = StepKey(9, 4)[0]
    for width in (1, 2, 7):
        masks = row_masks([3, -1, 2**31 - 1], width, 0.25, seed=9, step=4)
        for mask, number in zip(masks, (3, -1, 2**31 - 1), strict=True):
            own = mix(number, a, b)
            words = [mix(i, own, b) for i in range(1, (width + 1) // 2 + 1)]
            halves = [w & 0xFFFF for w in words] + [w >> 16 for w in words]
            assert (mask > 0).tolist() == [h < 49152 for h in halves[:width]]


def test_row_masks_differ_by_row_step_layer_and_seed():
    rows = np.arange(32)
    masks = [
        row_masks(rows),
        row_masks(rows, step=1),
        row_masks(rows, seed=1),
        row_masks(rows, slot=1),
        row_masks(rows + 32),
        xpnn.Sequential(Dropout(), n_in=64).forward(np.ones((32, 64)), train=True)[0],
    ]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert 0.4 < (a == b).mean() < 0.6
        shifted = np.concatenate([a[1:], a[:1]])  # neighbours, too
        assert 0.4 < (a == shifted).mean() < 0.6


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_row_masks_drop_their_share_in_each_row_and_column(rate):
    kept = row_masks(np.arange(2000), 500, rate, seed=8, step=3) > 0
    for share, n in ((kept.mean(), kept.size), (kept.mean(axis=0), 2000), (kept.mean(axis=1), 500)):
        assert np.abs(share - (1 - rate)).max() < 5 * math.sqrt(rate * (1 - rate) / n) + 1 / 65536


def test_row_masks_of_replicas_with_rates_of_their_own():
    rates, rows = [0.0, 0.3, 0.8], np.asarray([4, 9, 4])
    many = xpnn.Sequential(Dropout(rates), n_in=40, replicas=3, dtype="float64")
    y = many.forward(np.ones((3, 40)), train=True, step=2, rows=rows)[0]
    for k, rate in enumerate(rates):
        one = xpnn.Sequential(Dropout(rate), n_in=40, seed=k, dtype="float64")
        assert_close(y[k], one.forward(np.ones((3, 40)), train=True, step=2, rows=rows)[0], 1e-7)


def test_strict_needs_no_host_for_weights_and_numbers_of_rows(no_host_sync):
    backend = backend_or_skip("strict")
    net = xpnn.mlp([4, 6, 3], norm="batch", dropout=0.3, backend=backend)
    x, w, dy = (backend.asarray(np.random.default_rng(i).random(s)) for i, s in enumerate([(5, 4), (5,), (5, 3)]))
    rows = backend.asarray(np.arange(5), dtype=backend.xp.int32)
    with no_host_sync():
        for total in (None, 2.5):
            _, caches = net.forward(x, train=True, step=0, rows=rows, sample_weight=w, total_weight=total)
            net.backward(dy, caches)


@pytest.mark.parametrize("name", ["rows", "sample_weight"])
def test_columns_of_other_lengths_are_refused(name):
    net = xpnn.mlp([2, 4, 1], norm="batch", dropout=0.5)
    with pytest.raises(ShapeError, match=rf"forward: expected {name} of shape \(3,\), got \(2,\)\. One number a row"):
        net.forward(np.ones((3, 2)), train=True, **{name: np.ones(2)})


def test_dropout_by_itself_draws_a_mask_for_each_replica():
    layer = xpnn.Sequential(Dropout(0.5), n_in=32, replicas=3).layers[0]
    x = np.ones((4, 32))
    y, _ = layer.forward(x, train=True, key=StepKey((5, 6, 7), 2))
    assert y.shape == (3, 4, 32)
    for k, seed in enumerate((5, 6, 7)):
        assert same(y[k], layer.forward(x, train=True, key=StepKey(seed, 2))[0])


def test_one_dropout_stream_for_each_layer_inside_a_residual():
    net = xpnn.Sequential(Residual(Dropout(0.5)), Residual(Dropout(0.5)), n_in=64, dtype="float64")
    a, b = net.layers[0].layers[0], net.layers[1].layers[0]
    key = StepKey(0, 0)
    x = np.ones((8, 64))
    assert (a.forward(x, train=True, key=key)[0] != b.forward(x, train=True, key=key)[0]).any()


# -- initial weights --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("followers", "expected"),
    [
        ((ReLU(),), HeNormal()),
        ((LeakyReLU(0.3),), HeNormal(slope=0.3)),
        ((PReLU(),), HeNormal(slope=0.25)),
        ((ELU(),), HeNormal()),
        ((GELU(),), HeNormal()),
        ((SiLU(),), HeNormal()),
        ((Mish(),), HeNormal()),
        ((Softplus(),), HeNormal()),
        ((SELU(),), LeCunNormal()),
        ((Tanh(),), XavierNormal()),
        ((Sigmoid(),), XavierNormal()),
        ((Softmax(),), XavierNormal()),
        ((Step(),), XavierNormal()),
        ((), LeCunNormal()),
        ((Linear(3), ReLU()), LeCunNormal()),
        ((BatchNorm(), ReLU()), HeNormal()),
        ((LayerNorm(), Dropout(), Tanh()), XavierNormal()),
        ((Identity(), ReLU()), HeNormal()),
        ((Residual(ReLU(), Linear(5)),), HeNormal()),
        ((Dropout(),), LeCunNormal()),
    ],
    ids=str,
)
def test_auto_init_looks_at_what_follows(followers, expected):
    net = xpnn.Sequential(Linear(5), *followers, n_in=3)
    assert net.store.specs["0.weight"].init == expected
    assert net.params["0.bias"].tolist() == [0.0] * 5


def test_auto_init_inside_a_residual_and_explicit_init():
    net = xpnn.Sequential(Residual(Linear(4), Tanh()), Linear(4, init="he_normal"), Tanh(), n_in=4)
    assert net.store.specs["0.0.weight"].init == XavierNormal()
    assert net.store.specs["1.weight"].init == HeNormal()


@pytest.mark.parametrize(
    ("activation", "variance"),
    [("relu", 2 / 400), ("tanh", 2 / (400 + 256)), ("selu", 1 / 400), ("sigmoid", 2 / (400 + 256))],
)
def test_variance_of_the_drawn_weights(activation, variance):
    w = xpnn.mlp([400, 256, 2], activation, seed=9).params["0.weight"]
    assert w.var() == pytest.approx(variance, rel=0.03)  # 5 standard deviations at 102,400 draws are 2.2 %
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)


def test_bias_init():
    net = xpnn.Sequential(Linear(3, bias_init=Constant(0.5)), n_in=2)
    assert net.params["0.bias"].tolist() == [0.5] * 3
    assert "0.bias" not in xpnn.Sequential(Linear(3, bias=False), n_in=2).params


# -- networks ---------------------------------------------------------------------------------------------------
def test_mlp_builds_blocks():
    net = xpnn.mlp([6, 6, 4, 2], ["relu", Tanh()], norm="layer", dropout=[0.1, 0.0], residual=True)
    assert [type(layer).__name__ for layer in net.layers] == ["Residual", "Linear", "LayerNorm", "Tanh", "Linear"]
    assert [type(layer).__name__ for layer in net.layers[0].layers] == ["Linear", "LayerNorm", "ReLU", "Dropout"]
    assert net.layers[0].layers[3].label == "0.3.Dropout"
    assert net.n_params == 6 * 6 + 6 + 12 + 6 * 4 + 4 + 8 + 4 * 2 + 2


def test_a_copy_is_independent_and_moves_between_libraries(backend):
    net = xpnn.mlp([4, 5, 3], "prelu", norm="batch", dropout=0.2, residual=True, seed=4)
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    net.forward(x, train=True)
    there = net.to(backend)
    assert there.backend == backend
    assert_close(there.predict(x), net.predict(x), 1e-5)
    there.store.values[...] = 0.0
    assert net.store.values.any()
    assert same_dicts(net.copy().state_dict(), net.state_dict())


def test_prediction_in_slices_comes_back_to_the_library_of_the_input(backend, given):
    net = xpnn.mlp([4, 6, 3], backend=backend)
    x = np.random.default_rng(0).normal(size=(11, 4)).astype("float32")
    whole = net.predict(x)
    assert type(whole) is np.ndarray
    assert_close(net.predict(x, batch_size=4), whole, 1e-6)
    there = given(x)
    assert type(net.predict(there)) is type(there)
    many = xpnn.mlp([4, 6, 3], backend=backend, replicas=2)
    assert many.predict(x, batch_size=4).shape == (2, 11, 3)
    assert_close(many.predict(x, batch_size=4)[0], whole, 1e-6)


def test_replicas_are_counted_from_the_seed():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    many = xpnn.mlp([3, 4, 2], seed=7, replicas=3)
    assert many.seed == (7, 8, 9)
    assert same_dicts(many.state_dict(), xpnn.mlp([3, 4, 2], seed=[7, 8, 9]).state_dict())
    assert same(many.predict(x)[2], xpnn.mlp([3, 4, 2], seed=9).predict(x))


@pytest.mark.parametrize("init", ["orthogonal", initializers.Orthogonal()], ids=["name", "object"])
def test_mlp_takes_one_initializer_for_all(init):
    net = xpnn.mlp([3, 4, 2], init=init)
    assert {spec.init for name, spec in net.store.specs.items() if "weight" in name} == {initializers.Orthogonal()}


def test_state_goes_in_whole_or_not_at_all(backend):
    net = xpnn.mlp([3, 4, 2], norm="batch", backend=backend, seed=1)
    other = xpnn.mlp([3, 4, 2], norm="batch", seed=2)
    before = net.state_dict()
    for change, kind, text in (
        ({"9.weight": np.zeros(1)}, FileFormatError, r"missing \[\], unknown \['9\.weight'\]\. Build the same"),
        (
            {"1.running_mean": np.zeros(5)},
            ShapeError,
            r"load_state_dict: expected 1\.running_mean of shape \(4,\), got \(5,\)\.",
        ),
    ):
        with pytest.raises(kind, match=text):
            net.load_state_dict({**other.state_dict(), **change})
        assert same_dicts(net.state_dict(), before)
    with pytest.raises(FileFormatError, match=r"missing \['0\.bias'\], unknown \[\]"):
        net.load_state_dict({k: v for k, v in other.state_dict().items() if k != "0.bias"})
    net.load_state_dict(other.state_dict())
    assert same_dicts(net.state_dict(), other.state_dict())


def test_the_table_of_shapes():
    rows = xpnn.mlp([4, 6, 3]).check_shapes(4)
    assert rows == [("0.Linear", 4, 6), ("1.ReLU", 6, 6), ("2.Linear", 6, 3)]
