"""Hand-derived gradients against differences of the function itself, in float64.

The difference here is of fourth order, so truncation and rounding are both far below the 1e-7 asked for, and it
knows nothing of `xpnn.testing`, which is tested at the end with bugs planted on purpose.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import BATCH, LAYERS, LOSSES, N_IN, LossCase, relative_error

import xpnn
from xpnn import losses
from xpnn.errors import LabelError, OptionError, ShapeError
from xpnn.layers import BatchNorm, Dropout, Linear, PReLU, ReLU, Residual, Sigmoid, Softmax, Step, Tanh
from xpnn.regularizers import L1, L2, SpectralNorm
from xpnn.special import softmax
from xpnn.testing import GradientReport, check_gradients, verdict

LIMIT = 1e-7
every_layer = pytest.mark.parametrize("case", LAYERS, ids=str)
every_loss = pytest.mark.parametrize("loss_case", LOSSES, ids=str)


def slope(f, h: float) -> float:
    """f'(0) by four evaluations, with an error of order h⁴."""
    return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)


def smooth_slope(f, h: float = 3e-4) -> float | None:
    """f'(0), or None where a kink lies in reach.

    Off the point, a kink makes the slopes of two widths disagree.  Exactly at the point it cancels from both, but
    the slopes to the right and to the left differ by a jump that does not shrink with the width.
    """
    wide, near = slope(f, h), slope(f, h / 3)
    here = 2 * f(0.0)
    jump = (3 * (f(h / 3) + f(-h / 3) - here) / (h / 3) - (f(h) + f(-h) - here) / h) / 2
    tolerance = 1e-7 * max(abs(near), 1e-2)
    return near if abs(wide - near) <= tolerance and abs(jump) <= 100 * tolerance else None


def per_element(f, at: np.ndarray) -> np.ndarray:
    """Slopes of f along every element of `at`, which is moved in place and put back; nan at kinks."""
    slopes = np.empty(at.size)
    flat = at.reshape(-1)
    for k, value in enumerate(flat.tolist()):

        def along(h, k=k, value=value):
            flat[k] = value + h
            return f()

        found = smooth_slope(along)
        slopes[k] = np.nan if found is None else found
        flat[k] = value
    return slopes.reshape(at.shape)


def agree(analytic, numeric, name="", kinks_allowed=0) -> None:
    smooth = np.isfinite(numeric)
    assert (~smooth).sum() <= kinks_allowed, f"{name}: {(~smooth).sum()} elements at a kink"
    error = relative_error(np.asarray(analytic)[smooth], numeric[smooth])
    tiny = np.abs(np.asarray(analytic)[smooth] - numeric[smooth]).max(initial=0.0) < 1e-10
    assert error <= LIMIT or tiny, f"{name}: relative error {error:.1e}"


def weighted(loss_case: LossCase, batch: int, weighted_rows: bool):
    return np.random.default_rng(7).integers(0, 4, batch) + 0.5 if weighted_rows else None


# -- every layer, element by element ----------------------------------------------------------------------------
@every_layer
@pytest.mark.parametrize("train", [True, False], ids=["train", "predict"])
def test_every_element_of_every_layer(case, train):
    net = case.net(dtype="float64")
    rng = np.random.default_rng(4)
    for name, view in net.params.items():  # zeros and ones hide mistakes
        view[...] = rng.normal(size=view.shape) if "weight" in name else rng.normal(size=view.shape) + 1.0
    for view in net.store.named_buffers.values():
        view[...] = rng.uniform(0.5, 2.0, size=view.shape)
    x, r = case.x(), case.dy()
    resting = net.store.buffers.copy()

    def f() -> float:
        net.store.buffers[...] = resting
        return float((net.forward(x, train=train, step=3)[0] * r).sum())

    f()
    _, caches = net.forward(x, train=train, step=3)
    dx = net.backward(r, caches, need_dx=not case.integers)
    analytic = {name: g.copy() for name, g in net.grads.items()}
    for name, view in net.params.items():
        agree(analytic[name], per_element(f, view), name)
    if not case.integers:
        agree(dx, per_element(f, x), "x")


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_softmax_jacobian(temperature):
    """∂sᵢ/∂xⱼ = sᵢ (δᵢⱼ - sⱼ) / T, entry by entry."""
    x = np.random.default_rng(0).normal(size=(1, 5))
    layer = Softmax(temperature)
    s, cache = layer.forward(x)
    expected = (np.diag(s[0]) - np.outer(s[0], s[0])) / temperature
    rows = np.concatenate([layer.backward(np.eye(5)[i : i + 1], cache) for i in range(5)])
    np.testing.assert_allclose(rows, expected, rtol=1e-13, atol=1e-16)
    numeric = np.stack([per_element(lambda i=i: float(layer.forward(x)[0][0, i]), x)[0] for i in range(5)])
    np.testing.assert_allclose(numeric, expected, rtol=1e-8, atol=1e-11)


# -- every loss, element by element -----------------------------------------------------------------------------
@every_loss
@pytest.mark.parametrize("weights", [False, True], ids=["", "weighted"])
def test_every_element_of_every_loss(loss_case, weights):
    rng = np.random.default_rng(3)
    pred, y = rng.normal(size=(8, loss_case.n_out)), loss_case.y(8)
    w = weighted(loss_case, 8, weights)
    loss = loss_case.loss
    _, d = loss.value_and_grad(pred, y, w)
    agree(d, per_element(lambda: float(loss.value_and_grad(pred, y, w)[0]), pred), str(loss))


# -- every layer under every loss, along random directions ------------------------------------------------------
def directional(net, loss, x, y, w, step, rng, tries=3):
    """Compare along whole directions in the space of all parameters; count those that met a kink."""
    resting = net.store.buffers.copy()
    start = net.store.values.copy()
    real = np.zeros_like(start)
    for _, place in net.store.segments():
        real[place] = 1.0

    def value(values):
        net.store.values[...] = values
        net.store.buffers[...] = resting
        pred, caches = net.forward(x, train=True, step=step)
        return *loss.value_and_grad(pred, y, w), caches

    _, d, caches = value(start)
    dx = net.backward(d, caches, need_dx=not net.takes_integers)
    grads = net.store.grads.copy()
    kinks = 0
    for _ in range(tries):
        direction = rng.normal(size=start.shape) * real
        direction /= np.linalg.norm(direction)
        numeric = smooth_slope(lambda h, d=direction: float(value(start + h * d)[0]), 1e-4)
        if numeric is None:
            kinks += 1
            continue
        assert abs(grads @ direction - numeric) <= LIMIT * max(np.linalg.norm(grads), 1e-3)
    net.store.values[...] = start
    if dx is not None:
        direction = rng.normal(size=x.shape)
        direction /= np.linalg.norm(direction)
        at = x.copy()

        def along(h):
            x[...] = at + h * direction
            return float(value(start)[0])

        numeric = smooth_slope(along, 1e-4)
        x[...] = at
        if numeric is None:
            kinks += 1
        else:
            assert abs(float((dx * direction).sum()) - numeric) <= LIMIT * max(np.linalg.norm(dx), 1e-3)
    return kinks


@every_layer
@pytest.mark.parametrize("weights", [False, True], ids=["", "weighted"])
def test_every_layer_under_every_loss(case, weights):
    rng = np.random.default_rng(12)
    kinks = tried = 0
    for loss_case in LOSSES:
        before = [Linear(N_IN, init="xavier_normal")] if case.takes_any_number else []
        n_in = 3 if case.takes_any_number else case.n_in
        net = xpnn.Sequential(*before, case.make(), Linear(loss_case.n_out), n_in=n_in, dtype="float64", seed=2)
        net.store.values[...] += 0.1 * rng.normal(size=net.store.values.shape) * (net.store.values != 0)
        x = rng.normal(size=(8, n_in)) if case.takes_any_number else case.x(8)
        y, w = loss_case.y(8), weighted(loss_case, 8, weights)
        kinks += directional(net, loss_case.loss, x, y, w, 5, rng)
        tried += 3 if case.integers else 4
    # directions that meet a kink are left out and counted; they must stay the exception
    assert kinks <= 0.2 * tried, f"{kinks} of {tried} directions met a kink"


ACTIVATIONS = ("relu", "leaky_relu", "prelu", "elu", "selu", "gelu", "silu", "mish", "softplus", "sigmoid", "tanh")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("norm", [None, "batch", "layer", "rms"])
def test_whole_networks(activation, norm):
    """Deep networks with everything at once: norms, dropout, skips."""
    rng = np.random.default_rng(21)
    kinks = 0
    for residual, dropout in itertools.product((False, True), (0.0, 0.3)):
        sizes = [4, 6, 6, 5, 3]
        net = xpnn.mlp(sizes, activation, norm=norm, residual=residual, dropout=dropout, dtype="float64")
        for name, view in net.params.items():
            if name.endswith("bias"):  # zeros would put units above a dead row exactly on a kink
                view[...] = 0.3 * rng.normal(size=view.shape)
        x, y = rng.normal(size=(10, 4)), rng.integers(0, 3, 10)
        kinks += directional(net, losses.CrossEntropy(label_smoothing=0.1), x, y, None, 1, rng)
    assert kinks <= 4


def test_first_layers_without_parameters():
    """Nothing below the first weights is asked for a gradient in training; with need_dx everything is."""
    net = xpnn.Sequential(Dropout(0.3), Tanh(), Linear(2), n_in=3, dtype="float64")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.integers(0, 2, 5)
    assert directional(net, losses.CrossEntropy(), x, y, None, 0, rng) == 0
    pred, caches = net.forward(x)
    assert net.backward(np.ones_like(pred), caches) is None


# -- penalties --------------------------------------------------------------------------------------------------
def penalized():
    net = xpnn.Sequential(Linear(4), Tanh(), PReLU(), Linear(6), Linear(2), n_in=5, dtype="float64", seed=6)
    rng = np.random.default_rng(0)
    for name in net.params:
        if name.endswith("bias"):
            net.params[name][...] = rng.normal(size=net.params[name].shape)
    return net


@pytest.mark.parametrize("make", [lambda: L1(0.3), lambda: L2(0.2), lambda: SpectralNorm(0.7)], ids=["L1", "L2", "S"])
def test_penalties_add_their_gradient(make):
    net = penalized()
    net.store.grads[...] = 1.0  # added to what is there
    make().add(net.store)
    added = {name: g - 1.0 for name, g in net.grads.items()}
    store = net.store

    def value() -> float:
        kept = store.grads.copy()
        total = float(make().add(store))
        store.grads[...] = kept
        return total

    for name, view in net.params.items():
        numeric = per_element(value, view)
        if name.endswith("bias") or name == "2.weight":  # the slope of PReLU is not decayed
            assert not added[name].any()
            np.testing.assert_array_equal(numeric, 0.0)
        else:
            agree(added[name], numeric, name)


def test_penalty_values():
    net = penalized()
    weights = [net.params[f"{i}.weight"] for i in (0, 3, 4)]
    assert float(L1(0.3).add(net.store)) == pytest.approx(0.3 * sum(np.abs(w).sum() for w in weights), rel=1e-13)
    assert float(L2(0.2).add(net.store)) == pytest.approx(0.2 * sum((w * w).sum() for w in weights), rel=1e-13)


def test_spectral_norm_against_svd(backend):
    net = xpnn.Sequential(Linear(12), Tanh(), Linear(7), n_in=9, backend=backend, seed=1)
    penalty = SpectralNorm(0.5)
    net.store.grads[...] = 0.0
    tolerance = 1e-5
    value = penalty.add(net.store)
    expected = 0.0
    for name in ("0.weight", "2.weight"):
        u, s, vh = np.linalg.svd(xpnn.to_numpy(net.params[name]).astype(np.float64))
        expected += 0.5 * s[0]
        outer = 0.5 * np.outer(u[:, 0], vh[0])
        # power iteration closes in on the vectors by the ratio of the two largest singular values
        gap = (s[1] / s[0]) ** 100
        np.testing.assert_allclose(xpnn.to_numpy(net.grads[name]), outer, atol=tolerance + 2 * gap)
    assert float(xpnn.to_numpy(value)) == pytest.approx(expected, rel=tolerance)


def test_spectral_norm_follows_weights_that_move():
    net = xpnn.Sequential(Linear(12), n_in=9, dtype="float64", seed=1)
    penalty = SpectralNorm(1.0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        net.params["0.weight"][...] += 0.01 * rng.normal(size=(9, 12))
        value = float(penalty.add(net.store))
    assert value == pytest.approx(np.linalg.svd(net.params["0.weight"])[1][0], rel=2e-3)


def test_spectral_norm_of_weights_that_begin_at_zero():
    net = xpnn.Sequential(Linear(4, init="zeros"), n_in=3, dtype="float64")
    penalty = SpectralNorm(1.0)
    net.store.grads[...] = 0.0
    assert float(penalty.add(net.store)) == 0.0
    assert np.isfinite(net.store.grads).all()
    net.params["0.weight"][...] = np.random.default_rng(0).normal(size=(3, 4))
    for _ in range(30):
        value = float(penalty.add(net.store))
    assert value == pytest.approx(np.linalg.svd(net.params["0.weight"])[1][0], rel=1e-6)


@pytest.mark.parametrize("make", [lambda: L1(0.3), lambda: L2(0.2), lambda: SpectralNorm(0.7)], ids=["L1", "L2", "S"])
def test_penalties_of_replicas(make, backend):
    together = xpnn.mlp([4, 5, 2], backend=backend, seed=[1, 2, 3])
    together.store.grads[...] = 0.0
    values = xpnn.to_numpy(make().add(together.store))
    assert values.shape == (3,)
    for k, seed in enumerate((1, 2, 3)):
        alone = xpnn.mlp([4, 5, 2], backend=backend, seed=seed)
        alone.store.grads[...] = 0.0
        assert values[k] == pytest.approx(float(xpnn.to_numpy(make().add(alone.store))), rel=1e-5)
        np.testing.assert_allclose(
            xpnn.to_numpy(together.store.grads)[k], xpnn.to_numpy(alone.store.grads), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: L2(-1.0), r"L2: expected lam >= 0, got -1\.0\."),
        (lambda: L1(float("nan")), r"L1: expected lam >= 0, got nan\."),
        (lambda: SpectralNorm(1.0, n_iter=0), r"SpectralNorm: expected n_iter >= 1, got 0\."),
    ],
)
def test_penalty_errors(call, text):
    with pytest.raises(OptionError, match=text):
        call()


# -- bugs planted on purpose ------------------------------------------------------------------------------------
class NoMean(losses.MeanSquaredError):
    """Forgets to divide the gradient by the batch."""

    def value_and_grad(self, pred, y, sample_weight=None):
        value, d = super().value_and_grad(pred, y, sample_weight)
        return value, d * pred.shape[-2]


class SummedValue(losses.CrossEntropy):
    """Divides the gradient, but not the value."""

    def value_and_grad(self, pred, y, sample_weight=None):
        value, d = super().value_and_grad(pred, y, sample_weight)
        return value * pred.shape[-2], d


class IgnoresWeights(losses.MeanSquaredError):
    """Weights the value alone."""

    def value_and_grad(self, pred, y, sample_weight=None):
        value, _ = super().value_and_grad(pred, y, sample_weight)
        return value, super().value_and_grad(pred, y)[1]


class NoTranspose(Linear):
    """dx = dy W instead of dy Wᵀ: the shapes agree where W is square."""

    def backward(self, dy, cache, *, need_dx=True):
        super().backward(dy, cache, need_dx=False)
        return dy @ self.params["weight"] if need_dx else None


class TransposedWeightGradient(Linear):
    """Assigns dWᵀ: the shapes agree where W is square."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache, need_dx=need_dx)
        self.grads["weight"][...] = self.grads["weight"].mT.copy()
        return dx


class NoBiasGradient(Linear):
    """Leaves the gradient of the bias at zero."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache, need_dx=need_dx)
        self.grads["bias"][...] = 0.0
        return dx


class MeanBiasGradient(Linear):
    """Averages the gradient of the bias over the batch once more."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache, need_dx=need_dx)
        self.grads["bias"][...] /= dy.shape[-2]
        return dx


class WrongDerivative(Tanh):
    """1 - y instead of 1 - y²."""

    def backward(self, dy, cache, *, need_dx=True):
        return dy * (1.0 - cache) if need_dx else None


class SigmoidOfInput(Sigmoid):
    """x (1 - x) instead of y (1 - y)."""

    def forward(self, x, *, train=False, key=None):
        y, _ = super().forward(x)
        return y, x


class NoMask(Dropout):
    """Forgets the mask on the way back."""

    def backward(self, dy, cache, *, need_dx=True):
        return dy


class NoScale(Dropout):
    """Masks on the way back, but forgets the scale of inverted dropout."""

    def backward(self, dy, cache, *, need_dx=True):
        return dy * (cache > 0) if need_dx else None


class LeakyBackward(ReLU):
    """Lets the gradient of dead units through."""

    def backward(self, dy, cache, *, need_dx=True):
        return dy if need_dx else None


class NoSkip(Residual):
    """Forgets the gradient around the block."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache, need_dx=need_dx)
        return None if dx is None else dx - dy


class FrozenMoments(BatchNorm):
    """Treats the batch's moments as constants on the way back."""

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, (*cache[:2], False), need_dx=need_dx)


MSE, CE = losses.MeanSquaredError(), losses.CrossEntropy()
PLANTED = [
    ("missing 1/m", NoMean(), lambda: [Linear(4), Tanh(), Linear(4)], None),
    ("missing 1/m in the value", SummedValue(), lambda: [Linear(4), Tanh(), Linear(4)], None),
    ("weights forgotten", IgnoresWeights(), lambda: [Linear(4), Tanh(), Linear(4)], None),
    ("missing transpose", MSE, lambda: [Linear(4), Tanh(), NoTranspose(4)], "0.weight"),
    ("transposed weight gradient", MSE, lambda: [TransposedWeightGradient(4), Tanh(), Linear(4)], "0.weight"),
    ("missing bias gradient", MSE, lambda: [NoBiasGradient(4), Tanh(), Linear(4)], "0.bias"),
    ("averaged bias gradient", MSE, lambda: [Linear(4), Tanh(), MeanBiasGradient(4)], "2.bias"),
    ("wrong derivative", MSE, lambda: [Linear(4), WrongDerivative(), Linear(4)], "0.weight"),
    ("derivative at the input", MSE, lambda: [Linear(4), SigmoidOfInput(), Linear(4)], "0.weight"),
    ("forgotten dropout mask", MSE, lambda: [Linear(4), NoMask(0.5), Linear(4)], "0.weight"),
    ("forgotten dropout scale", MSE, lambda: [Linear(4), NoScale(0.5), Linear(4)], "0.weight"),
    ("gradient of dead units", MSE, lambda: [Linear(4), LeakyBackward(), Linear(4)], "0.weight"),
    ("forgotten skip", MSE, lambda: [Linear(4), NoSkip(Linear(4), Tanh()), Linear(4)], "0.weight"),
    ("moments held constant", MSE, lambda: [Linear(4), FrozenMoments(), Linear(4)], "0.weight"),
]


def problem(loss, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(6, 4))
    return x, rng.integers(0, 4, 6) if loss.takes_labels else rng.normal(size=(6, 4))


@pytest.mark.parametrize(("name", "loss", "planted", "where"), PLANTED, ids=[p[0] for p in PLANTED])
def test_planted_bugs_are_found(name, loss, planted, where):
    net = xpnn.Sequential(*planted(), n_in=4, dtype="float64", seed=3)
    x, y = problem(loss)
    weight = np.asarray([1.0, 2.0, 0.0, 1.0, 3.0, 0.5]) if name == "weights forgotten" else None
    report = check_gradients(net, loss, x, y, sample_weight=weight)
    assert report.verdict == "bug", str(report)
    own = [type(layer).__name__ for layer in net.layers if type(layer).__module__ == __name__]
    assert [name.rpartition(".")[2] for name in report.faulty] == (own or [type(loss).__name__]), str(report)
    if where is not None:
        bad = [row["parameter"] for row in report.rows() if row["verdict"] == "bug"]
        assert where in bad
        if "bias" in where:
            assert bad == [where]


def honest(layer):
    """The layer of xpnn that a planted bug was put into."""
    kind = next(k for k in type(layer).__mro__ if k.__module__.startswith("xpnn."))
    if kind is Residual:
        return Residual(*map(honest, layer.layers))
    return kind(**layer.config())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "loss", "planted", "where"), PLANTED, ids=[p[0] for p in PLANTED])
def test_the_same_networks_without_bugs_are_excellent(name, loss, planted, where, dtype):
    right = CE if loss.takes_labels else MSE
    net = xpnn.Sequential(*map(honest, planted()), n_in=4, dtype=dtype, seed=3)
    report = check_gradients(net, right, *problem(right), check_input=True)
    # a bias before batch norm has gradient zero: there the difference is rounding alone
    assert report.max_rel_error < (1e-6 if "moments" in name else 1e-7), str(report)


def test_a_wrong_gradient_to_the_input_is_found():
    net = xpnn.Sequential(NoTranspose(4), n_in=4, dtype="float64", seed=3)
    x, y = problem(MSE)
    report = check_gradients(net, MSE, x, y)
    assert max(report.rel_error.values()) < 1e-7, "the parameters are right"
    assert (report.verdict, report.faulty) == ("bug", ["0.NoTranspose"]), "the layer is not"
    report = check_gradients(net, MSE, x, y, check_input=True)
    assert report.verdict == "bug"
    assert [row["parameter"] for row in report.rows() if row["verdict"] == "bug"] == ["x"]


def test_a_check_leaves_the_network_alone(backend, given):
    # No bias before the batch norm: its gradient is 0, and rounding is all that is left of it.
    layers = Linear(6, bias=False), xpnn.BatchNorm(), xpnn.PReLU(), xpnn.Dropout(0.3), Linear(4)
    net = xpnn.Sequential(*layers, n_in=4, backend=backend, seed=1)
    if "no_float64" in backend.spec:
        pytest.skip("this device has no float64 to check in")
    x, y = problem(CE)
    _, caches = net.forward(x, train=True)
    net.backward(np.ones((6, 4)), caches)
    before = [np.array(xpnn.to_numpy(a)) for a in (net.store.values, net.store.buffers, net.store.grads)]
    x_there = given(x)
    report = check_gradients(net, CE, x_there, y, check_input=True)
    assert report.verdict == "excellent", str(report)
    after = [xpnn.to_numpy(a) for a in (net.store.values, net.store.buffers, net.store.grads)]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))
    assert net.backend == backend
    assert np.array_equal(xpnn.to_numpy(x_there), x.astype("float32"))
    assert list(report.rel_error) == [*net.params, "x"]


@every_loss
def test_check_gradients_takes_every_loss(loss_case):
    net = xpnn.mlp([4, 5, loss_case.n_out], "tanh", seed=2)
    x = np.random.default_rng(1).normal(size=(BATCH, 4))
    report = check_gradients(net, loss_case.loss, x, loss_case.y(), sample_weight=np.arange(BATCH) + 1.0)
    assert report.verdict == "excellent", str(report)


def near_the_kink(distance):
    net = xpnn.Sequential(Linear(1, init=xpnn.initializers.Constant(1.0)), ReLU(), n_in=1)
    return check_gradients(net, MSE, np.full((4, 1), distance), np.ones((4, 1)), check_input=True)


def test_kinks_are_left_out_and_counted():
    """Within reach of the kink of ReLU a difference says nothing, neither right nor wrong."""
    report = near_the_kink(3e-6)
    assert report.skipped == {"0.weight": 0, "0.bias": 1, "x": 4}
    assert report.n_checked == 1
    assert "at a kink" in str(report)


def test_kinks_hit_exactly_are_left_out_and_counted():
    """Zero biases and a dead row of units below put sums exactly at 0, so this is no rare case."""
    assert near_the_kink(0.0).skipped == {"0.weight": 0, "0.bias": 1, "x": 4}


def test_large_parameters_are_sampled_and_the_draw_is_seeded():
    net = xpnn.mlp([20, 30, 3], "tanh")
    x, y = np.random.default_rng(0).normal(size=(4, 20)), np.asarray([0, 1, 2, 1])
    a, b = (check_gradients(net, CE, x, y, max_elements=25, seed=5) for _ in range(2))
    assert a.n_checked == 25 + 25 + 25 + 3
    assert a == b


def test_an_embedding_can_be_checked():
    net = xpnn.Sequential(xpnn.Embedding(7, 3), Linear(4), n_in=2)
    x = np.random.default_rng(0).integers(0, 7, (6, 2))
    assert check_gradients(net, CE, x, np.asarray([0, 1, 2, 3, 0, 1])).verdict == "excellent"


def test_step_has_slope_zero():
    net = xpnn.Sequential(Linear(3), Step(), Linear(4), n_in=4, dtype="float64")
    x, y = problem(MSE)
    report = check_gradients(net, MSE, x, y)
    assert report.rel_error["0.weight"] == 0.0
    assert report.verdict == "excellent"


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (
            lambda x, y: check_gradients(xpnn.mlp([4, 4], replicas=2), CE, x, y),
            ShapeError,
            r"check_gradients: expected a single network, got replicas\.",
        ),
        (
            lambda x, y: check_gradients(xpnn.mlp([4, 4]), CE, x, y, eps=0.0),
            OptionError,
            r"check_gradients: expected eps > 0, got 0\.0\.",
        ),
        (lambda x, y: check_gradients(xpnn.mlp([4, 4]), CE, x, y + 9), LabelError, r"expected class numbers 0\.\.3"),
        (lambda x, y: check_gradients(xpnn.mlp([4, 4]), CE, x, y[:-1]), ShapeError, r"check_gradients: "),
        (lambda x, y: check_gradients(xpnn.mlp([4, 4]), CE, x[:, :3], y), ShapeError, r"0\.Linear: expected x"),
    ],
)
def test_check_gradients_errors(call, kind, text):
    with pytest.raises(kind, match=text):
        call(*problem(CE))


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (0.0, "excellent"),
        (0.99e-7, "excellent"),
        (1e-7, "good"),
        (0.99e-5, "good"),
        (1e-5, "suspicious"),
        (0.99e-3, "suspicious"),
        (1e-3, "bug"),
        (float("nan"), "bug"),
        (float("inf"), "bug"),
    ],
)
def test_the_customary_verdicts(error, word):
    assert verdict(error) == word
    assert GradientReport({"0.weight": error}, {"0.weight": 0}, 1).verdict == word


def test_softmax_helper_agrees_with_the_layer():
    x = np.random.default_rng(0).normal(size=(3, 4))
    assert np.array_equal(Softmax().forward(x)[0], softmax(x, xp=np))
