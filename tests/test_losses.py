"""Losses: values against formulas in plain NumPy float64, extremes, weights, and targets that are refused."""

from __future__ import annotations

import numpy as np
import pytest
from cases import LOSSES
from hypothesis import given as over
from hypothesis import strategies as st
from places import assert_close, backend_or_skip

import xpnn
from xpnn import losses
from xpnn.errors import DTypeError, LabelError, OptionError, ShapeError
from xpnn.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    Hinge,
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    MemberMean,
    Pinball,
    PoissonNLL,
)

every_loss = pytest.mark.parametrize("case", LOSSES, ids=str)
to_numpy = xpnn.to_numpy
N = 12


def test_the_table_holds_every_loss():
    assert {type(case.loss).__name__ for case in LOSSES} == set(losses.__all__) - {"Loss"}


# -- values -----------------------------------------------------------------------------------------------------
def log_sum_exp(z):
    top = z.max(-1, keepdims=True)
    return (top + np.log(np.exp(z - top).sum(-1, keepdims=True)))[:, 0]


def formula(loss, z, y):
    """Each row's loss as the books write it."""
    name, n = type(loss).__name__, z.shape[1]
    if name == "MemberMean":
        return np.mean([formula(loss.loss, own, y) for own in np.split(z, loss.members, axis=1)], axis=0)
    if name == "MeanSquaredError":
        return ((z - y) ** 2).mean(-1)
    if name == "MeanAbsoluteError":
        return np.abs(z - y).mean(-1)
    if name == "Huber":
        d = np.abs(z - y)
        return np.where(d <= loss.delta, d * d / 2, loss.delta * (d - loss.delta / 2)).mean(-1)
    if name == "Pinball":
        q = np.asarray(loss.quantiles)
        e = y[:, :, None] - z.reshape(len(z), y.shape[1], len(q))
        return np.maximum(q * e, (q - 1) * e).mean((-1, -2))
    if name == "PoissonNLL":
        return (np.exp(z) - y * z).mean(-1)
    if name == "BinaryCrossEntropy":
        # -log σ(z) = log(1 + e^-z) and -log(1 - σ(z)) = log(1 + e^z)
        return (y * np.logaddexp(0, -z) + (1 - y) * np.logaddexp(0, z)).mean(-1)
    if name == "Hinge":
        if y.ndim == 2:
            return np.maximum(0, loss.margin - y * z).mean(-1)
        gaps = np.maximum(0, loss.margin - z[np.arange(len(z)), y][:, None] + z)
        gaps[np.arange(len(z)), y] = 0
        return gaps.sum(-1) / n
    t = np.eye(n)[y] if y.ndim == 1 else y
    if name == "Focal":
        log_p = (t * z).sum(-1) - log_sum_exp(z)
        return -((1 - np.exp(log_p)) ** loss.gamma) * log_p
    t = (1 - loss.label_smoothing) * t + loss.label_smoothing / n
    return log_sum_exp(z) - (t * z).sum(-1)


def scores(case, scale=1.0, seed=5, n=N):
    return scale * np.random.default_rng(seed).normal(size=(n, case.n_out))


@every_loss
def test_values_in_float64(case):
    for scale in (0.1, 1.0) if isinstance(case.loss, PoissonNLL) else (0.1, 1.0, 20.0):
        z, y = scores(case, scale), case.y(N)
        value, _ = case.loss.value_and_grad(z, y)
        assert float(value) == pytest.approx(formula(case.loss, z, y).mean(), rel=1e-12)
        w = np.random.default_rng(1).random(N)
        value, _ = case.loss.value_and_grad(z, y, w)
        assert float(value) == pytest.approx(np.average(formula(case.loss, z, y), weights=w), rel=1e-12)


@every_loss
def test_values_and_gradients_on_every_library(case, backend, given):
    z, y, w = scores(case), case.y(N), np.random.default_rng(1).random(N)
    for weight in (None, w):
        pred, target = given(z), case.on(backend, y)
        kept = np.array(to_numpy(pred)), np.array(to_numpy(target))
        value, d = case.loss.value_and_grad(pred, target, None if weight is None else given(weight))
        expected, d_expected = case.loss.value_and_grad(z, y, weight)
        assert value.dtype == d.dtype == backend.dtype
        assert tuple(d.shape) == z.shape
        assert tuple(value.shape) == ()
        assert d.device == pred.device
        assert_close(value, expected, 2e-6)
        assert_close(d, d_expected, 5e-6)
        assert np.array_equal(to_numpy(pred), kept[0])
        assert np.array_equal(to_numpy(target), kept[1])


@every_loss
def test_no_value_is_read_on_the_host(case, no_host_sync):
    backend = backend_or_skip("strict")
    pred, y, w = backend.asarray(scores(case)), case.on(backend, case.y(N)), backend.asarray(np.ones(N))
    with no_host_sync():
        case.loss.value_and_grad(pred, y)
        case.loss.value_and_grad(pred, y, w)
        case.loss.link(pred)


@every_loss
def test_replicas_are_single_losses(case, backend, given):
    """Three networks at once, on shared targets and on targets of their own."""
    z = np.random.default_rng(3).normal(size=(3, N, case.n_out))
    w = np.random.default_rng(4).random(N)
    own = np.stack([case.y(N, seed) for seed in (1, 2, 3)])
    labels = case.loss.takes_labels and case.y(N).ndim == 1
    bring_y = (lambda y: given(y, dtype=backend.index_dtype)) if labels else given
    for y, of in ((own[0], lambda k: own[0]), (own, lambda k: own[k])):
        for weight in (None, w):
            weight_there = None if weight is None else given(weight)
            values, d = case.loss.value_and_grad(given(z), bring_y(y), weight_there)
            assert tuple(values.shape) == (3,)
            for k in range(3):
                value_k, d_k = case.loss.value_and_grad(given(z[k]), bring_y(of(k)), weight_there)
                assert_close(to_numpy(values)[k], value_k, 1e-6)
                assert_close(to_numpy(d)[k], d_k, 1e-6)


def test_many_classes_and_replicas_of_equal_number_are_not_confused():
    """Labels (K, batch) of K = batch = C have the shape of rows of probabilities: integers are labels."""
    z = np.random.default_rng(0).normal(size=(3, 3, 3))
    y = np.asarray([[0, 1, 2], [2, 1, 0], [0, 0, 1]])
    for loss in (CrossEntropy(), Focal(), Hinge()):
        values, _ = loss.value_and_grad(z, y)
        for k in range(3):
            assert float(values[k]) == pytest.approx(float(loss.value_and_grad(z[k], y[k])[0]), rel=1e-12)


# -- extremes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", [c for c in LOSSES if c.loss.classifies], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_ten_thousand(case, dtype):
    z = (1e4 * np.random.default_rng(0).choice([-1.0, 1.0], (N, case.n_out))).astype(dtype)
    z[0] = 1e4
    z[1] = -1e4
    y = case.y(N)
    y = y if y.dtype.kind == "i" else y.astype(dtype)
    value, d = case.loss.value_and_grad(z, y)
    assert np.isfinite(value)
    assert np.isfinite(d).all()
    reference = formula(case.loss, z.astype(np.float64), y).mean()
    assert float(value) == pytest.approx(reference, rel=1e-5)
    assert np.isfinite(case.loss.link(z)).all()


def test_tiny_losses_keep_their_digits():
    """A confident right answer has a loss of e^-30, not of 0."""
    value, d = BinaryCrossEntropy().value_and_grad(np.asarray([[30.0]]), np.asarray([[1.0]]))
    assert float(value) == pytest.approx(np.exp(-30.0), rel=1e-3)
    assert float(d[0, 0]) == pytest.approx(-np.exp(-30.0), rel=1e-2)
    value, _ = Focal(2.0).value_and_grad(np.asarray([[20.0, 0.0]]), np.asarray([0]))
    assert float(value) == pytest.approx(np.exp(-60.0), rel=1e-6)


# -- links ------------------------------------------------------------------------------------------------------
@every_loss
def test_links(case, backend, given):
    z = scores(case)
    shown = to_numpy(case.loss.link(given(z)))
    if isinstance(case.loss, MemberMean):
        members = [to_numpy(case.loss.loss.link(given(own))) for own in np.split(z, case.loss.members, axis=1)]
        assert_close(shown, np.mean(members, axis=0), 2e-6)
        return
    assert shown.shape == z.shape
    if isinstance(case.loss, CrossEntropy | Focal):
        assert (shown > 0).all()
        np.testing.assert_allclose(shown.sum(-1), 1, rtol=1e-6)
        np.testing.assert_allclose(shown, np.exp(z - log_sum_exp(z)[:, None]), rtol=1e-5)
    elif isinstance(case.loss, BinaryCrossEntropy):
        np.testing.assert_allclose(shown, 1 / (1 + np.exp(-z)), rtol=1e-5)
    elif isinstance(case.loss, PoissonNLL):
        np.testing.assert_allclose(shown, np.exp(z), rtol=1e-5)
    else:
        np.testing.assert_allclose(shown, z, rtol=1e-6)


@every_loss
def test_the_inverse_of_a_link(case, backend, given):
    """What it gives is linked to the same predictions, and its decisions are those of the mean prediction."""
    z = given(scores(case))
    shown = case.loss.link(z)
    single = case.loss.loss if isinstance(case.loss, MemberMean) else case.loss
    again = single.link(case.loss.inverse_link(shown))
    assert_close(again, shown, 5e-6)
    outputs = case.loss.outputs(z)
    assert outputs.shape[-1] == case.loss.n_outputs(case.n_out)
    assert np.array_equal(to_numpy(case.loss.decide(z)), to_numpy(single.decide(outputs)))


def test_inverse_links_are_finite_at_the_ends():
    ends = np.asarray([[0.0, 1.0]], dtype="float32")
    for loss in (CrossEntropy(), BinaryCrossEntropy(), Focal(), PoissonNLL()):
        assert np.isfinite(loss.inverse_link(ends)).all()


def test_members_decide_by_the_mean_of_their_probabilities():
    """Two members lean to the first class a little, one is sure of the second."""
    loss = MemberMean(CrossEntropy(), 3)
    z = np.asarray([[0.1, 0.0, 0.1, 0.0, 0.0, 9.0]])
    assert loss.decide(z).tolist() == [1]
    assert loss.decide(np.asarray([[0.1, 0.0, 0.1, 0.0, 0.0, 0.1]])).tolist() == [0]
    loss = MemberMean(BinaryCrossEntropy(), 2)
    assert loss.decide(np.asarray([[3.0, -2.0]])).tolist() == [1]
    assert loss.decide(np.asarray([[2.0, -3.0]])).tolist() == [0]


def test_members_of_replicas_with_targets_of_their_own():
    rng = np.random.default_rng(0)
    for base, y in ((CrossEntropy(), rng.integers(0, 2, (3, 5))), (MeanSquaredError(), rng.normal(size=(3, 5, 2)))):
        loss, z = MemberMean(base, 4), rng.normal(size=(3, 5, 8))
        value, d = loss.value_and_grad(z, y)
        for k in range(3):
            value_k, d_k = loss.value_and_grad(z[k], y[k])
            assert value[k] == pytest.approx(float(value_k), rel=1e-14)
            np.testing.assert_allclose(d[k], d_k, rtol=1e-13, atol=1e-17)


@pytest.mark.parametrize("case", [c for c in LOSSES if isinstance(c.loss, CrossEntropy | Focal)], ids=str)
def test_gradient_rows_of_class_losses_sum_to_zero(case):
    """Adding a constant to all scores of a row changes nothing."""
    for scale in (1.0, 50.0):
        _, d = case.loss.value_and_grad(scores(case, scale), case.y(N))
        assert np.abs(d.sum(-1)).max() < 1e-15
        assert np.abs(d).max() > 1e-3


def test_softmax_cross_entropy_is_a_minus_y():
    z, y = np.random.default_rng(0).normal(size=(4, 3)), np.asarray([0, 2, 1, 1])
    _, d = CrossEntropy().value_and_grad(z, y)
    a = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    np.testing.assert_allclose(d, (a - np.eye(3)[y]) / 4, rtol=1e-13, atol=1e-17)


def test_gradients_at_kinks_are_the_documented_ones():
    zero = np.zeros((1, 1))
    assert MeanAbsoluteError().value_and_grad(zero, zero)[1].tolist() == [[0.0]]
    assert Pinball((0.3,)).value_and_grad(zero, zero)[1].tolist() == [[-0.3]]
    assert Huber().value_and_grad(np.ones((1, 1)), zero)[1].tolist() == [[1.0]]


# -- weights ----------------------------------------------------------------------------------------------------
@every_loss
@pytest.mark.parametrize("n", [1, 3, 7, 12, 49])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_one_are_no_weights_to_the_bit(case, n, dtype):
    backend = xpnn.get_backend("numpy", dtype)
    z, y = backend.asarray(scores(case, n=n)), case.on(backend, case.y(n))
    value, d = case.loss.value_and_grad(z, y)
    value_w, d_w = case.loss.value_and_grad(z, y, np.ones(n, dtype=dtype))
    assert value.tobytes() == value_w.tobytes()
    assert d.tobytes() == d_w.tobytes()


@every_loss
def test_whole_weights_repeat_rows(case):
    z, y = scores(case), case.y(N)
    times = np.random.default_rng(2).integers(0, 4, N)
    value, d = case.loss.value_and_grad(z, y, times.astype(float))
    rows = np.repeat(np.arange(N), times)
    value_r, d_r = case.loss.value_and_grad(z[rows], y[rows])
    assert float(value) == pytest.approx(float(value_r), rel=1e-13)
    summed = np.zeros_like(d)
    np.add.at(summed, rows, d_r)
    np.testing.assert_allclose(d, summed, rtol=1e-12, atol=1e-16)


def test_whole_weights_repeat_rows_in_full_batch_training():
    rng = np.random.default_rng(0)
    X, y, times = rng.normal(size=(20, 3)), rng.integers(0, 2, 20), rng.integers(0, 3, 20)
    rows = np.repeat(np.arange(20), times)
    nets = [xpnn.mlp([3, 6, 2], "tanh", dtype="float64") for _ in range(2)]
    for net, data in zip(nets, ((X, y, times.astype(float)), (X[rows], y[rows], None)), strict=True):
        trainer = xpnn.Trainer(net, CrossEntropy(), xpnn.Adam(lr=0.05))
        trainer.fit(*data[:2], sample_weight=data[2], epochs=20, batch_size=100, shuffle=False)
    # the rows are summed in another order: rounding alone, blown up a little by Adam
    np.testing.assert_allclose(nets[0].store.values, nets[1].store.values, rtol=1e-8, atol=1e-10)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_batch_of_weight_zero_has_loss_zero(case, dtype):
    backend = xpnn.get_backend("numpy", dtype)
    value, d = case.loss.value_and_grad(
        backend.asarray(scores(case)), case.on(backend, case.y(N)), np.zeros(N, dtype=dtype)
    )
    assert float(value) == 0.0
    assert not d.any()


@every_loss
def test_only_the_ratio_of_weights_counts(case):
    z, y, w = scores(case), case.y(N), np.random.default_rng(1).random(N)
    value, d = case.loss.value_and_grad(z, y, w)
    for factor in (1e-6, 1e6):
        value_f, d_f = case.loss.value_and_grad(z, y, factor * w)
        assert float(value_f) == pytest.approx(float(value), rel=1e-12)
        np.testing.assert_allclose(d_f, d, rtol=1e-12)


# -- options and relations --------------------------------------------------------------------------------------
def test_special_cases_meet():
    rng = np.random.default_rng(0)
    z, labels = rng.normal(size=(9, 4)), rng.integers(0, 4, 9)

    def near(a, b):
        assert float(a[0]) == pytest.approx(float(b[0]), rel=1e-12)
        np.testing.assert_allclose(a[1], b[1], rtol=1e-11, atol=1e-15)

    one_hot = np.eye(4)[labels]
    ce = CrossEntropy().value_and_grad(z, labels)
    near(ce, CrossEntropy().value_and_grad(z, one_hot))
    near(ce, Focal(0).value_and_grad(z, labels))
    smooth = CrossEntropy(label_smoothing=0.2)
    near(smooth.value_and_grad(z, labels), CrossEntropy().value_and_grad(z, 0.8 * one_hot + 0.05))
    # two classes are one yes/no question on the difference of the scores
    two = CrossEntropy().value_and_grad(z[:, :2], labels % 2)
    one = BinaryCrossEntropy().value_and_grad(z[:, 1:2] - z[:, :1], (labels % 2)[:, None].astype(float))
    assert float(two[0]) == pytest.approx(float(one[0]), rel=1e-12)
    # far inside, Huber is half the squared error; the median's pinball is half the absolute one
    y = z + 0.01 * rng.normal(size=z.shape)
    assert float(Huber(1.0).value_and_grad(z, y)[0]) == pytest.approx(
        float(MeanSquaredError().value_and_grad(z, y)[0]) / 2, rel=1e-12
    )
    assert float(Pinball((0.5,)).value_and_grad(z, y)[0]) == pytest.approx(
        float(MeanAbsoluteError().value_and_grad(z, y)[0]) / 2, rel=1e-12
    )


def test_pinball_is_least_at_the_quantile():
    y = np.random.default_rng(0).normal(size=(2000, 1))
    loss = Pinball((0.1, 0.5, 0.9))
    best = np.quantile(y, [0.1, 0.5, 0.9])
    at_best = float(loss.value_and_grad(np.tile(best, (2000, 1)), y)[0])
    for shift in (-0.05, 0.05):
        assert float(loss.value_and_grad(np.tile(best + shift, (2000, 1)), y)[0]) > at_best


def test_pinball_orders_outputs_by_target():
    y = np.asarray([[10.0, 20.0]])
    pred = np.asarray([[10.0, 10.0, 20.0, 20.0]])
    assert float(Pinball((0.2, 0.8)).value_and_grad(pred, y)[0]) == 0.0


@pytest.mark.parametrize(
    ("loss", "text"),
    [
        (MeanSquaredError(), "MeanSquaredError()"),
        (Huber(0.5), "Huber(delta=0.5)"),
        (Pinball((0.5,)), "Pinball(quantiles=(0.5,))"),
        (CrossEntropy(label_smoothing=0.1), "CrossEntropy(label_smoothing=0.1)"),
        (BinaryCrossEntropy(multilabel=True), "BinaryCrossEntropy(multilabel=True)"),
        (Focal(1), "Focal(gamma=1.0)"),
        (Hinge(0.5), "Hinge(margin=0.5)"),
        *((kind(), f"{kind.__name__}()") for kind in (Hinge, Huber, Pinball, CrossEntropy, BinaryCrossEntropy, Focal)),
    ],
)
def test_repr(loss, text):
    assert repr(loss) == text
    assert repr(eval(text, vars(losses))) == text


class OnlyRows(losses.Loss):
    """A loss of one's own: half the squared distance."""

    def rows(self, xp, pred, y):
        d = pred - y
        return xp.sum(d * d, axis=-1) / 2, d


def test_a_loss_of_ones_own_gets_weights_and_checks():
    pred, y = np.asarray([[1.0, 2.0], [0.0, 0.0]]), np.zeros((2, 2))
    value, d = OnlyRows().value_and_grad(pred, y)
    assert float(value) == 1.25
    assert d.tolist() == [[0.5, 1.0], [0.0, 0.0]]
    value, _ = OnlyRows().value_and_grad(pred, y, np.asarray([3.0, 1.0]))
    assert float(value) == 1.875
    with pytest.raises(ShapeError, match=r"OnlyRows\(\): expected targets of shape \(2, 2\)"):
        OnlyRows().value_and_grad(pred, np.zeros(2))


@over(st.lists(st.lists(st.floats(-1e4, 1e4), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(0, 2))
def test_cross_entropy_is_never_negative(rows, label):
    z = np.asarray(rows)
    value, d = CrossEntropy().value_and_grad(z, np.full(len(z), label))
    assert float(value) >= -1e-12
    assert (np.abs(d) <= 1 / len(z) + 1e-15).all()


# -- what is refused --------------------------------------------------------------------------------------------
class TestShapes:
    pred = np.zeros((5, 1))

    @pytest.mark.parametrize("loss", [MeanSquaredError(), MeanAbsoluteError(), Huber(), PoissonNLL()])
    def test_a_vector_never_meets_a_column(self, loss):
        text = r"expected targets of shape \(5, 1\) for outputs \(5, 1\), got \(5,\)\. Broadcasting would compare "
        with pytest.raises(ShapeError, match=text + r"every output with every target: use y\.reshape\(-1, 1\)\."):
            loss.value_and_grad(self.pred, np.zeros(5))
        with pytest.raises(ShapeError, match=text):
            loss.check_targets(np.zeros(5), 1)

    def test_binary_cross_entropy_wants_a_column_too(self):
        with pytest.raises(ShapeError, match=r"got \(5,\)\. Broadcasting would"):
            BinaryCrossEntropy().value_and_grad(self.pred, np.zeros(5))

    @pytest.mark.parametrize(
        ("loss", "pred", "y", "text"),
        [
            (
                MeanSquaredError(),
                (5, 2),
                (5, 1),
                r"expected targets of shape \(5, 2\) for outputs \(5, 2\), got \(5, 1\)",
            ),
            (MeanSquaredError(), (5, 2), (4, 2), r"expected targets of shape \(5, 2\)"),
            (MeanSquaredError(), (5,), (5,), r"expected outputs of shape \(batch, n_out\), got \(5,\)\."),
            (CrossEntropy(), (5, 3), (4,), r"expected targets of shape \(5, 3\) or integer labels \(5,\) for outputs"),
            (CrossEntropy(), (5, 3), (5, 1), r"or integer labels \(5,\) for outputs \(5, 3\), got \(5, 1\)"),
            (CrossEntropy(), (2, 5, 3), (3, 5), r"expected targets of shape \(2, 5, 3\)"),
            (Pinball(), (5, 3), (5,), r"expected targets of shape \(5, 1\) for outputs \(5, 3\), got \(5,\)"),
            (Pinball(), (5, 4), (5, 1), r"expected a multiple of 3 outputs \(one for each quantile\), got 4\."),
        ],
    )
    def test_shapes_that_do_not_fit(self, loss, pred, y, text):
        with pytest.raises(ShapeError, match=text):
            loss.value_and_grad(np.zeros(pred), np.zeros(y))

    def test_weights_that_do_not_fit(self):
        with pytest.raises(ShapeError, match=r"expected sample_weight of shape \(5,\), got \(5, 1\)\."):
            MeanSquaredError().value_and_grad(self.pred, self.pred, np.ones((5, 1)))


TARGETS = [
    (
        CrossEntropy(),
        ["cat", "dog"],
        2,
        DTypeError,
        r"expected numbers as targets, got dtype <U3\. Encode labels first",
    ),
    (MeanSquaredError(), [[1.0], [np.nan]], 1, LabelError, r"finite targets, got nan in row 1, column 0\. Drop or"),
    (CrossEntropy(), [0.0, np.inf], 2, LabelError, r"expected finite targets, got inf in row 1\."),
    (
        PoissonNLL(),
        [[1.0], [-2.0]],
        1,
        LabelError,
        r"expected counts >= 0, got -2\.0\. Use MeanSquaredError for signed",
    ),
    (BinaryCrossEntropy(), [[-1.0], [1.0]], 1, LabelError, r"expected targets between 0 and 1, found -1\.0\.\.1\.0\. "),
    (BinaryCrossEntropy(), [[0], [2]], 1, LabelError, r"found 0\.\.2\. Map the two classes to 0 and 1, or use Hinge"),
    (
        BinaryCrossEntropy(),
        np.eye(3)[[0, 2, 1, 1]],
        3,
        LabelError,
        r"every row of y holds exactly one 1: it looks one-hot, 3 classes of which one is true\. Use CrossEntropy, or ",
    ),
    (
        CrossEntropy(),
        [0, 0],
        1,
        ShapeError,
        r"expected at least 2 outputs, got 1\. End the network with one output for",
    ),
    (
        CrossEntropy(),
        [[0.2, 0.8], [0.5, 0.1]],
        2,
        LabelError,
        r"expected rows of probabilities that sum to 1, got a row that sums to 0\.6\. Pass integer labels, or Binary",
    ),
    (CrossEntropy(), [[-0.5, 1.5], [0.5, 0.5]], 2, LabelError, r"expected rows of probabilities that sum to 1"),
    (
        CrossEntropy(),
        [0.0, 0.5],
        2,
        LabelError,
        r"expected whole class numbers, got 0\.5\. For a continuous target use",
    ),
    (
        CrossEntropy(),
        [1, 2, 3],
        3,
        LabelError,
        r"class numbers 0\.\.2 for 3 outputs, found 1\.\.3\. Use y - 1, or give",
    ),
    (
        CrossEntropy(),
        [0, 7],
        3,
        LabelError,
        r"found 0\.\.7\. Use numpy\.unique\(y, return_inverse=True\)\[1\], or give",
    ),
    (CrossEntropy(), [-1, 1], 3, LabelError, r"expected class numbers 0\.\.2 for 3 outputs, found -1\.\.1\."),
    (CrossEntropy(), [0, 9], 3, LabelError, r"give the network 10 outputs\."),
    (
        Focal(),
        [[1.0, 0.0], [0.0, 1.0]],
        2,
        LabelError,
        r"expected integer labels of shape \(n,\), got \(2, 2\)\. Use y\.a",
    ),
    (Focal(), [0, 2], 2, LabelError, r"Focal\(\): expected class numbers 0\.\.1"),
    (Hinge(), [0, 3], 3, LabelError, r"Hinge\(\): expected class numbers 0\.\.2 for 3 outputs"),
    (Hinge(), [[0.0], [1.0]], 1, LabelError, r"expected targets -1 and \+1, found 0\.0\.\.1\.0\. Use 2 \* y - 1\."),
    (CrossEntropy(), [[0], [1]], 2, ShapeError, r"expected targets of shape \(2, 2\) or integer labels \(2,\)"),
]


@pytest.mark.parametrize(("loss", "y", "n_out", "kind", "text"), TARGETS, ids=[t[4][:40] for t in TARGETS])
def test_targets_that_are_refused(loss, y, n_out, kind, text):
    with pytest.raises(kind, match=text):
        loss.check_targets(np.asarray(y), n_out)


@every_loss
def test_targets_that_suit_are_taken(case):
    case.loss.check_targets(case.y(N), case.n_out)


@pytest.mark.parametrize(
    ("loss", "y", "n_out"),
    [
        (BinaryCrossEntropy(multilabel=True), np.eye(3), 3),
        (BinaryCrossEntropy(), np.eye(3)[:1], 3),  # one row proves nothing
        (BinaryCrossEntropy(), np.asarray([[1.0, 1.0], [0.0, 1.0]]), 2),
        (BinaryCrossEntropy(), np.asarray([[True], [False]]), 1),
        (CrossEntropy(), np.asarray([0.0, 2.0, 1.0]), 3),  # whole numbers in floating columns
        (CrossEntropy(), np.asarray([True, False]), 2),
        (CrossEntropy(), np.eye(3), 3),
        (CrossEntropy(), np.asarray([0, 2], dtype=np.uint8), 3),
    ],
)
def test_targets_that_only_look_wrong(loss, y, n_out):
    loss.check_targets(y, n_out)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Huber(0.0), r"Huber: expected delta > 0, got 0\.0\."),
        (lambda: Pinball(()), r"Pinball: expected quantiles between 0 and 1, got \(\)\."),
        (lambda: Pinball((0.5, 1.0)), r"Pinball: expected quantiles between 0 and 1, got \(0\.5, 1\.0\)\."),
        (lambda: CrossEntropy(label_smoothing=1.0), r"CrossEntropy: expected 0 <= label_smoothing < 1, got 1\.0\."),
        (lambda: CrossEntropy(label_smoothing=-0.1), r"CrossEntropy: expected 0 <= label_smoothing < 1, got -0\.1\."),
        (lambda: Focal(0.5), r"Focal: expected gamma of 0 or at least 1, got 0\.5\."),
        (lambda: Focal(-1), r"Focal: expected gamma of 0 or at least 1, got -1\."),
        (lambda: Hinge(0), r"Hinge: expected margin > 0, got 0\."),
    ],
)
def test_options_that_are_refused(call, text):
    with pytest.raises(OptionError, match=text):
        call()
