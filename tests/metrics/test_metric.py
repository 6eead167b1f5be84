"""Metrics against scikit-learn: any library, any split into batches, weights and replicas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.backend import get_backend, to_numpy
from xpnn.errors import OptionError, ShapeError
from xpnn.metrics import (
    R2,
    Accuracy,
    MeanAbsoluteError,
    MeanSquaredError,
    Metric,
    RootMeanSquaredError,
    TopK,
    get_metric,
    mode_of,
)

LIBRARIES = {"numpy": "numpy", "strict": "array_api_strict", "torch": "torch"}
REGRESSION = {
    "mse": "mean_squared_error",
    "rmse": "root_mean_squared_error",
    "mae": "mean_absolute_error",
    "r2": "r2_score",
}


@pytest.fixture(params=LIBRARIES)
def library(request):
    pytest.importorskip(LIBRARIES[request.param])
    return request.param


def evaluate(metric, pred, y, *, weight=None, cuts=(), library="numpy", dtype="float64"):
    """The metric of host arrays, whose rows go through `library` in batches."""
    backend = get_backend(library, dtype)
    metric = get_metric(metric).resolve(pred.shape[-1])
    rows = pred.shape[-2]
    kind = backend.index_dtype if y.dtype.kind in "iu" else None
    table = []
    for start, stop in zip((0, *cuts), (*cuts, rows), strict=True):
        # targets that carry replica axes have one more axis than they need
        part = y[..., start:stop, :] if y.ndim >= 2 and y.shape[-2] == rows else y[..., start:stop]
        sums = metric.sums(
            backend.xp,
            backend.asarray(pred[..., start:stop, :]),
            backend.asarray(part, dtype=kind),
            None if weight is None else backend.asarray(weight[start:stop]),
        )
        assert len(sums) == metric.width
        assert all(tuple(s.shape) == pred.shape[:-2] for s in sums)
        assert all(s.dtype == backend.dtype for s in sums)
        table.append([np.asarray(to_numpy(s), dtype=np.float64) for s in sums])
    return metric.value(np.asarray(table))


@st.composite
def problems(draw, *, classes=False):
    """Outputs, targets, weights and batch borders."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, n_out = draw(st.integers(2, 40)), draw(st.integers(2 if classes else 1, 5))
    pred = rng.normal(size=(n, n_out))
    offset = draw(st.sampled_from([0.0, 1e3]))
    y = rng.integers(0, n_out, n) if classes else offset + rng.normal(size=(n, n_out))
    weight = draw(st.sampled_from([None, "uniform", "gaps"]))
    w = None if weight is None else rng.uniform(0.1, 3, n)
    if weight == "gaps":
        w[1:] *= rng.integers(0, 2, n - 1)
        w[0] = w[-1] = 1.0
    cuts = tuple(sorted(draw(st.sets(st.integers(1, n - 1), max_size=4))))
    return pred, y, w, cuts


@pytest.mark.parametrize("name", REGRESSION)
@settings(deadline=None)  # the first example pays for imports
@given(problem=problems())
def test_regression_is_scikit_learns(name, problem):
    sk = pytest.importorskip("sklearn.metrics")
    pred, y, w, cuts = problem
    expected = getattr(sk, REGRESSION[name])(y, pred, sample_weight=w)
    if name == "rmse":  # ours pools the outputs before the root
        expected = math.sqrt(sk.mean_squared_error(y, pred, sample_weight=w))
    assert evaluate(name, pred, y, weight=w, cuts=cuts) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(deadline=None)  # the first example pays for imports
@given(problem=problems(classes=True))
def test_accuracy_is_scikit_learns(problem):
    sk = pytest.importorskip("sklearn.metrics")
    pred, y, w, cuts = problem
    expected = sk.accuracy_score(y, pred.argmax(axis=1), sample_weight=w)
    assert evaluate("accuracy", pred, y, weight=w, cuts=cuts) == pytest.approx(expected, rel=1e-12)
    rows = np.eye(pred.shape[1])[y] * 0.8 + 0.2 / pred.shape[1]
    assert evaluate("accuracy", pred, rows, weight=w, cuts=cuts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@settings(deadline=None)  # the first example pays for imports
@given(problem=problems(classes=True))
def test_top_k_is_scikit_learns(k, problem):
    pred, y, w, cuts = problem
    order = np.argsort(-pred, axis=1)[:, :k]
    expected = np.average((order == y[:, None]).any(axis=1), weights=w)
    assert evaluate(TopK(k), pred, y, weight=w, cuts=cuts) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", ["accuracy", "top5", "mse", "rmse", "mae", "r2"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_agrees_with_numpy(metric, weighted, dtype, library):
    rng = np.random.default_rng(0)
    pred = rng.normal(size=(50, 8)).astype(dtype)
    y = rng.integers(0, 8, 50) if metric in ("accuracy", "top5") else rng.normal(size=(50, 8)).astype(dtype)
    weight = rng.uniform(0.5, 2, 50) if weighted else None
    numpy = evaluate(metric, pred, y, weight=weight, cuts=(16, 32), dtype=dtype)
    other = evaluate(metric, pred, y, weight=weight, cuts=(16, 32), dtype=dtype, library=library)
    assert other == pytest.approx(numpy, rel=0 if library == "strict" else 1e-5, abs=0)


@pytest.mark.parametrize("metric", ["accuracy", "top5", "mse", "rmse", "mae", "r2", Accuracy("outputs")])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
def test_replicas_get_what_they_would_get_alone(metric, shared, weighted, library):
    rng = np.random.default_rng(1)
    pred = rng.normal(size=(3, 20, 6))
    labels = metric in ("accuracy", "top5")
    shape = (() if shared else (3,)) + ((20,) if labels else (20, 6))
    y = rng.integers(0, 6, shape) if labels else rng.normal(size=shape)
    weight = rng.uniform(0.5, 2, 20) if weighted else None
    together = evaluate(metric, pred, y, weight=weight, cuts=(7,), library=library)
    assert together.shape == (3,)
    alone = [
        evaluate(metric, pred[k], y if shared else y[k], weight=weight, cuts=(7,), library=library) for k in range(3)
    ]
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_no_metric_reads_an_array_back(monkeypatch):
    strict = pytest.importorskip("array_api_strict")
    backend = get_backend("strict")
    pred = backend.asarray(np.random.default_rng(0).normal(size=(6, 4)))
    labels = backend.asarray([0, 1, 2, 3, 0, 1], dtype=backend.index_dtype)
    weight = backend.asarray(np.ones(6))
    kind = type(strict.empty(0))

    def refuse(*args, **kwargs):
        raise RuntimeError("a value was read back to the host")

    for name in ("float", "int", "bool", "index", "complex", "array", "buffer", "dlpack"):
        monkeypatch.setattr(kind, f"__{name}__", refuse, raising=False)
    with strict.ArrayAPIStrictFlags(boolean_indexing=False, data_dependent_shapes=False, api_version="2024.12"):
        for w in (None, weight):
            for name in ("accuracy", "top5"):
                get_metric(name).sums(backend.xp, pred, labels, w)
            for metric in (Accuracy("outputs"), *map(get_metric, REGRESSION)):
                metric.resolve(4).sums(backend.xp, pred, pred * 0.5, w)


@pytest.mark.parametrize("low", [0, -1])
@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("column", [False, True])
def test_a_single_output_answers_yes_where_it_is_positive(low, kind, column, library):
    pred = np.asarray([[2.0], [-1.0], [0.5], [-3.0]])
    y = np.asarray([1, low, low, 1], dtype=kind)
    assert evaluate("accuracy", pred, y[:, None] if column else y, library=library) == 0.5


def test_outputs_rule_averages_over_the_questions(library):
    pred = np.asarray([[1.0, -1.0, 2.0], [-1.0, -1.0, -1.0]])
    y = np.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert evaluate(Accuracy("outputs"), pred, y, library=library) == pytest.approx(4 / 6)
    assert evaluate(Accuracy("outputs"), pred, 2 * y - 1, library=library) == pytest.approx(4 / 6)
    assert evaluate(Accuracy(), pred, y, library=library) == 0.0, "auto compares the largest of each row"


def test_integer_targets_of_the_outputs_shape_are_targets():
    pred = np.asarray([[3.0, 1.0], [3.0, 1.0]])
    assert evaluate("accuracy", pred, np.asarray([[1, 0], [0, 1]])) == 0.5
    assert evaluate("accuracy", np.stack([pred, pred]), np.asarray([[0, 0], [0, 1]])).tolist() == [1.0, 0.5]


def test_r2_survives_a_large_offset_in_float32():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 1))
    y = (4096 + noise).astype(np.float32)
    pred = (y + 0.5 * rng.normal(size=y.shape)).astype(np.float32)
    exact = 1 - ((pred - y).astype(float) ** 2).sum() / ((y - y.mean(dtype=float)).astype(float) ** 2).sum()
    assert evaluate("r2", pred, y, cuts=(200, 400), dtype="float32") == pytest.approx(exact, abs=1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r2_of_a_constant_target_is_scikit_learns(dtype):
    y = np.full((9, 1), 0.1)
    assert evaluate("r2", y, y, cuts=(2, 5), dtype=dtype) == 1.0
    assert evaluate("r2", y + 1, y, cuts=(2, 5), dtype=dtype) == 0.0


@pytest.mark.parametrize("name", ["accuracy", "mse", "rmse", "mae", "r2"])
def test_batches_without_weight_change_nothing(name):
    rng = np.random.default_rng(3)
    pred, y = rng.normal(size=(12, 2)), rng.normal(size=(12, 2))
    weight = np.ones(12)
    weight[4:8] = 0.0
    keep = weight > 0
    got = evaluate(name, pred, y, weight=weight, cuts=(4, 8))
    assert got == pytest.approx(evaluate(name, pred[keep], y[keep]), rel=1e-12)
    assert math.isnan(evaluate(name, pred, y, weight=np.zeros(12)))


def test_diverged_outputs_are_no_success():
    nan = np.full((3, 6), math.nan)
    assert evaluate("top5", nan, np.asarray([0, 1, 2])) == 0.0
    assert evaluate(Accuracy("outputs"), nan, np.ones((3, 6))) == 0.0
    assert math.isnan(evaluate("mse", nan, np.ones((3, 6))))
    assert math.isnan(evaluate("r2", nan, np.eye(3, 6)))


@pytest.mark.parametrize(
    ("metric", "pred", "y", "text"),
    [
        ("mse", (4, 2), (4,), r"mse: expected targets of shape \(4, 2\) .*got \(4,\). Reshape the targets"),
        ("mae", (4, 1), (3,), r"mae: expected targets of shape \(4, 1\) .*got \(3,\)"),
        ("rmse", (4, 3), (4, 1), r"rmse: expected targets of shape \(4, 3\) .*got \(4, 1\)"),
        ("accuracy", (4, 3), (4, 2), r"accuracy: expected targets of shape \(4, 3\) .*got \(4, 2\)"),
        (
            TopK(2),
            (4, 3),
            (4, 3),
            r"top2: expected integer labels of shape \(batch,\) .*got float64 of shape",
        ),
    ],
)
def test_targets_that_do_not_fit_are_refused(metric, pred, y, text):
    with pytest.raises(ShapeError, match=text):
        evaluate(metric, np.ones(pred), np.ones(y))


def test_r2_must_know_its_width():
    xp = get_backend("numpy").xp
    with pytest.raises(ShapeError, match=r"r2: expected 1 outputs, got pred of shape \(4, 3\). Use R2\(n_out=3\)"):
        R2().sums(xp, np.ones((4, 3)), np.ones((4, 3)), None)
    assert R2().resolve(3) == R2(3)
    assert R2(3).width == 10


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Accuracy("class"), r"expected rule 'auto', 'classes' or 'outputs', got 'class'"),
        (lambda: TopK(0), r"TopK: expected k to be an integer >= 1, got 0"),
        (lambda: TopK(2.0), r"TopK: expected k to be an integer >= 1, got 2.0"),
        (lambda: R2(0), r"R2: expected n_out to be an integer >= 1, got 0"),
        (
            lambda: get_metric("acuracy"),
            r"expected one of accuracy, .*got 'acuracy'. Did you mean 'accuracy'\?",
        ),
        (lambda: get_metric("zzz"), r"got 'zzz'. Choose one of these names, or pass a Metric object"),
        (lambda: get_metric(3), r"expected a name or a metric, got int. Pass a name such as 'accuracy'"),
        (
            lambda: mode_of("val_f1"),
            r"monitor: expected loss or one of .*got 'val_f1'. For another column pass mode",
        ),
    ],
)
def test_bad_options_are_explained(make, text):
    with pytest.raises(OptionError, match=text):
        make()


def test_get_metric_and_modes():
    for name, cls in (
        ("accuracy", Accuracy),
        ("top5", TopK),
        ("mse", MeanSquaredError),
        ("rmse", RootMeanSquaredError),
        ("mae", MeanAbsoluteError),
        ("r2", R2),
    ):
        metric = get_metric(name)
        assert type(metric) is cls
        assert metric.name == name
        assert get_metric(cls) == metric
        assert get_metric(metric) is metric
        assert mode_of(name) == mode_of("val_" + name) == metric.mode
    assert [m for m in ("accuracy", "top5", "mse", "rmse", "mae", "r2") if mode_of(m) == "max"] == [
        "accuracy",
        "top5",
        "r2",
    ]
    assert mode_of("loss") == mode_of("val_loss") == "min"


def test_a_metric_of_ones_own_is_one_method():
    class Bias(Metric):
        name = "bias"
        mode = "min"

        def per_sample(self, xp, pred, y):
            return (pred - y)[:, 0]

    pred, y = np.asarray([[1.0], [2.0], [6.0]]), np.zeros((3, 1))
    assert evaluate(Bias(), pred, y, cuts=(2,)) == 3.0
