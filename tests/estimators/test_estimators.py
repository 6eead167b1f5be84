"""The scikit-learn face: its conventions, its tools, and what ours add."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")

import joblib
import scipy.sparse
import sklearn
from places import backend_or_skip
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.ensemble import BaggingClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import xpnn
from xpnn.errors import OptionError
from xpnn.estimators import MLPClassifier, MLPRegressor, OneHotWarning, Perceptron
from xpnn.estimators._rows import row_numbers

X2, Y2 = make_classification(80, 5, n_informative=4, n_redundant=0, random_state=0)
X3, Y3 = make_classification(90, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=1)
XR, YR = make_regression(80, 5, noise=1.0, random_state=2)
YR = YR / YR.std()
XL, YL = make_multilabel_classification(60, 5, n_classes=3, random_state=3)

# Short fits do not converge, and need not.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 10, **options})


def regressor(**options):
    return MLPRegressor(**{"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 10, **options})


def weights(estimator):
    return xpnn.to_numpy(estimator.net_.store.values)


def same(a, b):
    return np.array_equal(weights(a), weights(b))


# -- scikit-learn's checks -----------------------------------------------------------------------------------------
CONFIGURATIONS = {
    "default": MLPClassifier(max_iter=50),
    "default regressor": MLPRegressor(max_iter=50),
    "lbfgs": MLPClassifier(solver="lbfgs"),
    "lbfgs regressor": MLPRegressor(solver="lbfgs"),
    "sgd": MLPClassifier(solver="sgd", learning_rate_init=0.1, max_iter=50),
    "dropout and norm": MLPClassifier(dropout=0.1, norm="layer", max_iter=50),
    "dropout and batch norm": MLPClassifier(dropout=0.1, norm="batch", max_iter=50),
    "dropout and batch norm, regressor": MLPRegressor(dropout=0.3, norm="batch", max_iter=50),
    "ensemble": MLPClassifier(n_ensemble=3, max_iter=50),
    "ensemble with dropout": MLPRegressor(n_ensemble=2, dropout=0.2, norm="rms", max_iter=50),
    "standardize": MLPRegressor(standardize=True, max_iter=50),
    "perceptron": Perceptron(),
}


@pytest.mark.filterwarnings("default")
@parametrize_with_checks(list(CONFIGURATIONS.values()))
def test_scikit_learn_compatible(estimator, check):
    check(estimator)


WITH_ARRAYS = [
    "default",
    "default regressor",
    "lbfgs",
    "sgd",
    "dropout and norm",
    "dropout and batch norm",
    "ensemble",
]
_CHECK_ALL = """
import json, sys, warnings
warnings.simplefilter("ignore")
from sklearn.utils.estimator_checks import check_estimator
from test_estimators import CONFIGURATIONS, WITH_ARRAYS
told = {}
for name in WITH_ARRAYS:
    results = check_estimator(CONFIGURATIONS[name], on_fail=None, on_skip=None)
    told[name] = [(r["check_name"], r["status"], str(r["exception"])[:200]) for r in results]
print(json.dumps(told))
"""


def test_scikit_learn_compatible_with_arrays_of_any_library():
    """All checks once more with SCIPY_ARRAY_API=1, which SciPy reads at import: check_array_api_input among them."""
    done = subprocess.run(
        [sys.executable, "-c", _CHECK_ALL],
        cwd=os.path.dirname(__file__),
        env={**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert list(told) == WITH_ARRAYS
    for name, results in told.items():
        assert [r for r in results if r[1] not in ("passed", "skipped")] == [], name
        statuses = {status for check, status, _ in results if check.startswith("check_array_api_input")}
        assert "passed" in statuses or xpnn.available_backends()["strict"] != "ok", (name, results)


# -- weights and epochs --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dropout": 0.3, "norm": "layer"},
        {"dropout": 0.3, "norm": "batch"},
        {"n_ensemble": 2, "norm": "batch"},
        {"solver": "sgd"},
    ],
    ids=str,
)
def test_weights_of_one_are_no_weights_bitwise(options, dtype):
    a, b = (classifier(dtype=dtype, batch_size=40, **options).fit(X3, Y3, w) for w in (None, np.ones(90)))
    assert same(a, b)
    assert np.array_equal(a.predict_proba(X3), b.predict_proba(X3))


def test_weights_of_one_are_no_weights_with_lbfgs():
    a, b = (classifier(solver="lbfgs").fit(X3, Y3, w) for w in (None, np.ones(90)))
    np.testing.assert_allclose(weights(a), weights(b), rtol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "layer"},
        {"standardize": True},
        {"solver": "sgd"},
        {"alpha": 0.1},
        {"dropout": 0.4},
        {"dropout": [0.1, 0.5], "hidden_layer_sizes": (8, 8), "residual": True},
        {"norm": "batch"},
        {"dropout": 0.2, "norm": "batch", "standardize": True},
        {"dropout": 0.2, "norm": "batch", "n_ensemble": 3},
        {"dropout": 0.2, "norm": "rms", "solver": "sgd", "clip_norm": 1.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["classes", "numbers"])
@pytest.mark.parametrize("seed", range(3))
def test_an_integer_weight_is_repetition_in_full_batch(seed, task, options):
    make, X, y = (classifier, X3, Y3) if task == "classes" else (regressor, XR, YR)
    rng = np.random.default_rng(seed)
    w = rng.integers(0, 4, len(X))
    order = rng.permutation(len(X))
    weighted = make(batch_size=len(X), **options).fit(X[order], y[order], w[order])
    repeated = make(batch_size=int(w.sum()), **options).fit(np.repeat(X, w, axis=0), np.repeat(y, w))
    for method in ("predict_proba", "predict", "transform"):
        if hasattr(weighted, method):
            a, b = (getattr(e, method)(X) for e in (weighted, repeated))
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9)
    assert weighted.loss_ == pytest.approx(repeated.loss_)


@pytest.mark.parametrize("form", ["dense", "csr", "csc", "map"])
def test_an_integer_weight_is_repetition_whatever_holds_the_rows(form, tmp_path):
    rng = np.random.default_rng(4)
    X = np.where(rng.random((60, 7)) < 0.4, rng.normal(size=(60, 7)), 0.0)
    y, w = rng.integers(0, 2, 60), rng.integers(0, 3, 60)

    def bring(rows, name):
        if form == "map":
            np.save(tmp_path / name, rows)
            return np.load(tmp_path / name, mmap_mode="r")
        return rows if form == "dense" else {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array}[form](rows)

    options = {"dropout": 0.3, "norm": "batch"}
    plain = classifier(**options).fit(X, y, w)
    weighted = classifier(**options).fit(bring(X, "a.npy"), y, w)
    repeated = classifier(**options).fit(bring(np.repeat(X, w, axis=0), "b.npy"), np.repeat(y, w))
    np.testing.assert_allclose(weighted.predict_proba(X), repeated.predict_proba(X), rtol=1e-7, atol=1e-9)
    assert same(weighted, plain)  # the same numbers, the same masks


def test_an_integer_weight_is_repetition_in_a_stream():
    w = np.random.default_rng(5).integers(0, 4, 90)
    weighted, repeated = (classifier(dropout=0.3, norm="batch") for _ in range(2))
    for _ in range(3):
        for a in (0, 30, 60):
            part = slice(a, a + 30)
            weighted.partial_fit(X3[part], Y3[part], w[part], classes=[0, 1, 2])
            many = np.repeat(np.arange(a, a + 30), w[part])
            repeated.partial_fit(X3[many], Y3[many], classes=[0, 1, 2])
    np.testing.assert_allclose(weighted.predict_proba(X3), repeated.predict_proba(X3), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.3, "norm": "batch"},
        {"batch_size": 20, "dropout": 0.3},
        {"batch_size": 20, "early_stopping": True},
        {"solver": "lbfgs"},
        {"class_weight": "balanced"},
    ],
    ids=str,
)
def test_a_row_of_weight_0_is_as_good_as_absent_bitwise(options):
    w = np.random.default_rng(6).integers(0, 3, 90).astype(float)
    with_zeros = classifier(**options).fit(X3, Y3, w)
    assert same(with_zeros, classifier(**options).fit(X3[w > 0], Y3[w > 0], w[w > 0]))
    other = X3.copy()
    other[w == 0] = 1e6
    assert same(with_zeros, classifier(**options).fit(other, Y3, w))


def test_classes_and_counts_are_those_of_all_rows():
    w = np.where(Y3 == 2, 0.0, 1.0)
    model = classifier(max_iter=60, learning_rate_init=0.05).fit(X3, Y3, w)
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.t_ == 60 * 90  # as in scikit-learn
    assert set(model.predict(X3)) == {0, 1}


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("make", [classifier, regressor], ids=["classifier", "regressor"])
def test_weights_that_leave_no_row_are_refused(make, solver):
    with pytest.raises(ValueError, match=r"(?i)zero|weight above 0"):
        make(solver=solver).fit(X3, Y3, np.zeros(90))


def test_balanced_class_weights_count_a_row_as_often_as_its_weight():
    w = np.random.default_rng(7).integers(0, 4, 90)
    weighted = classifier(class_weight="balanced").fit(X3, Y3, w)
    repeated = classifier(class_weight="balanced", batch_size=200).fit
    with pytest.warns(UserWarning, match="batch_size"):
        repeated = repeated(np.repeat(X3, w, axis=0), np.repeat(Y3, w))
    np.testing.assert_allclose(weighted.predict_proba(X3), repeated.predict_proba(X3), rtol=1e-7, atol=1e-9)


# -- numbers of rows ---------------------------------------------------------------------------------------------------
def test_numbers_of_rows_are_those_of_their_values():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((3000, 9)) < 0.5, rng.integers(-3, 4, (3000, 9)) / 2, 0.0)
    for dtype in ("float32", "float64"):
        numbers = row_numbers(X, dtype)
        assert numbers.dtype == np.int32
        _, kind = np.unique(X, axis=0, return_inverse=True)
        assert len(np.unique(numbers)) == kind.max() + 1  # equal rows, equal numbers; no others met
        assert all(len(set(numbers[kind == k])) == 1 for k in range(50))
        order = rng.permutation(3000)
        assert (row_numbers(np.asfortranarray(X[order]), dtype) == numbers[order]).all()
        assert (row_numbers(np.where(X == 0, -0.0, X), dtype) == numbers).all()
        assert (row_numbers(X.astype(np.float32), dtype) == numbers).all()  # these values are exact in both
        for sparse in (scipy.sparse.csr_array, scipy.sparse.csc_array):
            assert (row_numbers(sparse(X), dtype) == numbers).all()
    parts = scipy.sparse.csr_array(([1.0, 2.0, 4.0], [1, 1, 0], [0, 2, 2, 3]), shape=(3, 9))  # 3 stored as 1 + 2
    assert not parts.has_canonical_format
    assert (row_numbers(parts, "float64") == row_numbers(parts.toarray(), "float64")).all()
    assert not parts.has_canonical_format  # what was given is as it was


@pytest.mark.parametrize("name", ["strict", "torch"])
def test_numbers_of_rows_are_the_same_on_every_library(name):
    backend = backend_or_skip(name, "float64")
    assert (row_numbers(backend.asarray(X3), "float64") == row_numbers(X3, "float64")).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_of_rows_spread(dtype):
    """One-hot rows, steps of one bit, powers of two: what hashes of floating numbers stumble over."""
    one = np.nextafter(np.asarray(1.0, dtype), 2) - 1
    X = np.concatenate(
        [
            np.eye(40),
            -np.eye(40),
            1 + one * np.arange(4000)[:, None] * np.ones(40),
            2.0 ** np.arange(-60, 60)[:, None] * np.ones(40),
            np.arange(2, 4002)[:, None] * np.eye(40)[3],
        ]
    ).astype(dtype)
    numbers = row_numbers(X, dtype)
    distinct = len(np.unique(X, axis=0))
    assert len(np.unique(numbers)) >= distinct - 1  # among 8,200 a meeting has probability 1/130
    for bit in range(32):
        assert 0.45 < ((numbers >> bit) & 1).mean() < 0.55


def test_no_digits_of_mnist_meet(mnist_dir):
    X, _ = xpnn.data.load_mnist(mnist_dir, download=False)[:2]
    X = X.reshape(len(X), -1).astype(np.float32)
    numbers = row_numbers(X, "float32")
    met = len({row.tobytes() for row in X}) - len(np.unique(numbers))
    assert met <= 4  # 0.42 expected of 60,000


def test_masks_do_not_depend_on_where_rows_lie():
    order = np.random.default_rng(0).permutation(90)
    a, b = (classifier(dropout=0.5, norm="layer").fit(X, y) for X, y in ((X3, Y3), (X3[order], Y3[order])))
    np.testing.assert_allclose(a.predict_proba(X3), b.predict_proba(X3), rtol=1e-7, atol=1e-9)


# -- the weights that are kept ---------------------------------------------------------------------------------------
def training_loss(model, X, y):
    p = model.predict_proba(X)[np.arange(len(y)), y]
    penalty = model.alpha / 2 * sum((c**2).sum() for c in model.coefs_) / len(X)
    return -np.log(p).mean() + penalty


SPIKY = {"learning_rate_init": 0.4, "max_iter": 40, "alpha": 0.01, "batch_size": 90, "n_iter_no_change": np.inf}


def test_the_weights_kept_are_those_of_the_lowest_training_loss():
    seen = []
    watch = xpnn.LambdaCallback(on_epoch_end=lambda trainer: seen.append(training_loss(model, X3, Y3)))
    model = classifier(**SPIKY, callbacks=[watch])
    model.fit(X3, Y3)
    assert seen[-1] > min(seen) + model.tol  # else this shows nothing
    assert training_loss(model, X3, Y3) == pytest.approx(min(seen), rel=1e-9)
    assert model.best_epoch_ == int(np.argmin(seen)) + 1
    assert seen[:-1] == pytest.approx(model.loss_curve_[1:], rel=1e-6)  # a single batch tells of the weights before


def test_a_loss_that_falls_to_the_end_costs_no_look_and_keeps_the_last_weights(monkeypatch):
    from xpnn.estimators._trainer import SklearnTrainer

    monkeypatch.setattr(SklearnTrainer, "training_loss", lambda trainer: pytest.fail("looked"))
    model = classifier().fit(X3, Y3)
    assert model.best_epoch_ == model.n_iter_ == 10


def test_last_weights_stay_where_others_are_better_by_less_than_tol():
    kept = classifier(**SPIKY, tol=10.0).fit(X3, Y3)
    last = classifier(**SPIKY, warm_start=True).fit(X3, Y3)  # a fit to be gone on from keeps its last weights
    assert same(kept, last)
    assert kept.best_epoch_ == 40
    assert last.best_epoch_ is None
    assert not same(classifier(**SPIKY).fit(X3, Y3), last)


@pytest.mark.parametrize("options", [{"norm": "batch", "dropout": 0.2}, {"n_ensemble": 3}, {"batch_size": 20}], ids=str)
def test_the_lowest_of_what_was_looked_at_is_kept(options, monkeypatch):
    from xpnn.estimators._trainer import SklearnTrainer

    look, seen = SklearnTrainer.training_loss, []

    def watched(trainer):
        seen.append((look(trainer), weights(model).copy()))
        return seen[-1][0]

    monkeypatch.setattr(SklearnTrainer, "training_loss", watched)
    model = classifier(**{**SPIKY, **options})
    model.fit(X3, Y3)
    assert len(seen) > 3
    lowest = min(seen, key=lambda pair: pair[0])
    assert np.array_equal(weights(model), lowest[1])


def test_divergence_with_weights_norm_and_dropout_is_told_without_a_warning():
    w = np.random.default_rng(0).integers(0, 3, 90)
    model = classifier(dropout=0.3, norm="batch", solver="sgd", learning_rate_init=1e30)
    with pytest.raises(ValueError, match="First tensor that is not finite"):
        model.fit(X3, Y3, w)
    assert np.isfinite(weights(model)).all()


@pytest.mark.parametrize("solvers", [("lbfgs", "adam"), ("adam", "lbfgs")], ids=lambda pair: " then ".join(pair))
def test_one_solver_goes_on_where_another_ended(solvers):
    model = classifier(warm_start=True, max_iter=5)
    for solver in solvers:
        model.set_params(solver=solver).fit(X3, Y3)
    assert len(model.history_) == model.history_["epoch"][-1] == 10
    assert model.n_iter_ == len(model.loss_curve_) == 5


def test_losses_that_are_not_finite_are_never_the_lowest():
    jump = xpnn.LambdaCallback(on_epoch_end=lambda t: t.net.store.values.fill(np.nan) if t.epoch == 40 else None)
    model = classifier(**SPIKY, callbacks=[jump]).fit(X3, Y3)
    assert np.isfinite(weights(model)).all()
    assert model.best_epoch_ < 40


@pytest.mark.parametrize(
    "options", [{}, {"dropout": 0.3}, {"norm": "batch"}, {"n_ensemble": 2}, {"solver": "sgd"}], ids=str
)
def test_calls_of_partial_fit_are_one_fit_on_the_same_batches_bitwise(options):
    """Without shuffling, a fit's batches are rows 0-29, 30-59, ...: so are those given one by one.

    scikit-learn's penalty, too, is one for each batch.
    """
    fitted = classifier(max_iter=3, shuffle=False, batch_size=30, **options).fit(X3, Y3)
    stream = classifier(shuffle=False, **options)
    for _ in range(3):
        for a in (0, 30, 60):
            stream.partial_fit(X3[a : a + 30], Y3[a : a + 30], classes=np.unique(Y3))
    assert same(fitted, stream)


@pytest.mark.parametrize(
    "options", [{}, {"dropout": 0.3}, {"solver": "sgd", "momentum": 0.9}, {"n_ensemble": 2}], ids=str
)
def test_warm_start_10_and_10_is_20_bitwise(options):
    options = {"batch_size": 20, **options}
    twice = classifier(warm_start=True, **options)
    twice.fit(X3, Y3).fit(X3, Y3)
    assert same(twice, classifier(max_iter=20, **options).fit(X3, Y3))
    assert len(twice.history_) == 20
    assert twice.history_["epoch"] == list(range(1, 21))


@pytest.mark.parametrize("carry", [lambda e: pickle.loads(pickle.dumps(e)), "joblib"], ids=["pickle", "joblib"])
@pytest.mark.parametrize(
    "options", [{}, {"solver": "sgd"}, {"dropout": 0.2, "norm": "batch"}, {"standardize": True}], ids=str
)
def test_training_goes_on_after_a_round_trip_bitwise(options, carry, tmp_path):
    model = classifier(**options).fit(X3, Y3)
    if carry == "joblib":
        joblib.dump(model, tmp_path / "model")
        other = joblib.load(tmp_path / "model")
    else:
        other = carry(model)
    assert np.array_equal(model.predict_proba(X3), other.predict_proba(X3))
    for _ in range(3):
        model.partial_fit(X3, Y3)
        other.partial_fit(X3, Y3)
    assert same(model, other)


def test_a_seed_repeats_a_fit_and_another_does_not():
    assert same(classifier(dropout=0.2).fit(X3, Y3), classifier(dropout=0.2).fit(X3, Y3))
    assert not same(classifier().fit(X3, Y3), classifier(random_state=1).fit(X3, Y3))


def test_global_random_state_is_neither_read_nor_written():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    classifier(dropout=0.5, early_stopping=True).fit(X3, Y3)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_inputs_are_not_written():
    X, y, w = X3.copy(), Y3.copy(), np.ones(90)
    for a in (X, y, w):
        a.flags.writeable = False
    model = classifier(standardize=True).fit(X, y, w)
    model.predict_proba(X)


# -- scikit-learn's tools --------------------------------------------------------------------------------------------
def test_clone_takes_arguments_and_leaves_what_was_fitted():
    model = classifier(optimizer=xpnn.Lion(lr=0.01), activation=["gelu"]).fit(X3, Y3)
    other = clone(model)
    assert not hasattr(other, "coefs_")
    assert other.activation == ["gelu"]
    assert other.optimizer.t == model.optimizer.t == 0  # each fit trains with a copy
    assert same(model, other.fit(X3, Y3))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(n_jobs):
    grid = {"n_layers": [1, 2], "width": [4, 8]}
    search = GridSearchCV(classifier(max_iter=30, learning_rate_init=0.02), grid, cv=2, n_jobs=n_jobs).fit(X3, Y3)
    assert search.best_score_ > 0.5
    best = search.best_estimator_
    assert [c.shape[1] for c in best.coefs_[:-1]] == [search.best_params_["width"]] * search.best_params_["n_layers"]


def test_cross_validation_in_a_pipeline():
    pipe = make_pipeline(StandardScaler(), classifier(solver="lbfgs", max_iter=100))
    assert cross_val_score(pipe, X2, Y2, cv=3).mean() > 0.7


def test_calibration_and_bagging():
    calibrated = CalibratedClassifierCV(classifier(max_iter=30), cv=2).fit(X3, Y3)
    np.testing.assert_allclose(calibrated.predict_proba(X3).sum(axis=1), 1.0)
    bag = BaggingClassifier(classifier(max_iter=30, learning_rate_init=0.02), n_estimators=3, random_state=0)
    bag.fit(X3, Y3)
    assert bag.score(X3, Y3) > 0.6


def test_set_output_names_the_features():
    pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    out = classifier().set_output(transform="pandas").fit(X3, Y3).transform(X3)
    assert list(out.columns) == [f"mlpclassifier{i}" for i in range(8)]
    assert out.shape == (90, 8)


def test_sample_weight_is_routed():
    w = np.random.default_rng(0).integers(0, 3, 90).astype(float)
    with sklearn.config_context(enable_metadata_routing=True):
        pipe = make_pipeline(
            StandardScaler().set_fit_request(sample_weight=False), classifier().set_fit_request(sample_weight=True)
        )
        pipe.fit(X3, Y3, sample_weight=w)
    by_hand = classifier().fit(StandardScaler().fit_transform(X3), Y3, w)
    assert same(pipe[-1], by_hand)


def test_scikit_learns_callbacks_see_every_iteration():
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    for solver in ("adam", "lbfgs"):
        monitor = callback.ScoringMonitor(scoring="accuracy")
        model = classifier(solver=solver, max_iter=6).set_callbacks(monitor).fit(X3, Y3)
        rows = monitor.get_logs().data
        scores = [row["accuracy"] for row in rows if row["task_name"] == "iteration"]
        assert len(scores) >= model.n_iter_ == 6
        assert scores[5] == pytest.approx(model.score(X3, Y3))


def test_scikit_learns_progress_bar(capfd):
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    pytest.importorskip("rich", reason="needs rich: pip install rich")
    for solver in ("adam", "lbfgs"):
        classifier(solver=solver, max_iter=6).set_callbacks(callback.ProgressBar()).fit(X3, Y3)
        assert "MLPClassifier" in capfd.readouterr().out


def test_scikit_learns_callbacks_through_search_and_pipeline():
    callback = pytest.importorskip("sklearn.callback", reason="needs scikit-learn 1.9")
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = classifier(max_iter=4).set_callbacks(monitor)
    GridSearchCV(make_pipeline(StandardScaler(), model), {"mlpclassifier__width": [4, 8]}, cv=2).fit(X3, Y3)
    rows = monitor.get_logs().data
    assert sum(row["task_name"] == "iteration" for row in rows) == (2 * 2 + 1) * 4


# -- arrays of other libraries --------------------------------------------------------------------------------------
def library(name):
    """The array library's module, and a function that brings NumPy arrays there; dispatch must be on."""
    backend = backend_or_skip(name, "float64")
    return backend, lambda a: backend.xp.asarray(np.array(a), device=backend.device)


DISPATCH = """
import json, numpy as np, sklearn, xpnn, warnings
warnings.simplefilter("ignore")
from sklearn.datasets import load_iris
from xpnn.estimators import MLPClassifier, MLPRegressor
sklearn.set_config(array_api_dispatch=True)
name = {name!r}
backend = xpnn.get_backend(name, "float64")
bring = lambda a: backend.xp.asarray(np.array(a), device=backend.device)
X, y = load_iris(return_X_y=True)
told = {{}}
for solver in ("adam", "sgd", "lbfgs"):
    options = dict(random_state=0, max_iter=15, solver=solver, hidden_layer_sizes=(6,))
    here, there = MLPClassifier(**options).fit(X, y), MLPClassifier(**options).fit(bring(X), bring(y))
    for method in ("predict", "predict_proba", "predict_log_proba", "transform", "input_gradient"):
        out = getattr(there, method)(bring(X[:5]))
        assert backend.owns(out), (solver, method, type(out))
        assert out.device == bring(X).device
        np.testing.assert_allclose(xpnn.to_numpy(out), getattr(here, method)(X[:5]), rtol=1e-6, atol=1e-8)
    assert backend.owns(there.coefs_[0])
    told[solver] = float(there.score(bring(X), bring(y)))
reg = MLPRegressor(random_state=0, max_iter=15, early_stopping=True, standardize=True, dropout=0.1)
reg.fit(bring(X), bring(X[:, 0]), bring(np.ones(150)))
assert backend.owns(reg.predict(bring(X)))
stream = MLPRegressor(random_state=0).partial_fit(bring(X), bring(X[:, 0]))
told["partial"] = float(stream.score(bring(X), bring(X[:, 0])))
try:
    there.predict(X)
except Exception as error:
    told["mixed"] = str(error)
print(json.dumps(told))
"""


@pytest.mark.parametrize("name", ["torch", "strict"])
def test_arrays_stay_in_their_library_from_end_to_end(name):
    backend_or_skip(name)
    done = subprocess.run(
        [sys.executable, "-c", DISPATCH.format(name=name)],
        env={**os.environ, "SCIPY_ARRAY_API": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["lbfgs"] > 0.9
    assert "must use the same namespace" in told["mixed"]


@pytest.mark.parametrize("name", ["torch", "strict"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_numpy_in_numpy_out_whatever_computes(name, solver):
    backend_or_skip(name)
    there = classifier(solver=solver, backend=name).fit(X3, Y3)
    here = classifier(solver=solver).fit(X3, Y3)
    proba = there.predict_proba(X3)
    assert type(proba) is np.ndarray
    assert proba.dtype == np.float64
    assert there.net_.backend.name == name
    np.testing.assert_allclose(proba, here.predict_proba(X3), rtol=1e-6, atol=1e-8)
    assert type(there.predict(X3)) is type(there.transform(X3)) is np.ndarray


def test_dtype_is_that_of_the_data_unless_told():
    assert classifier().fit(X3, Y3).coefs_[0].dtype == np.float64
    assert classifier().fit(X3.astype(np.float32), Y3).predict_proba(X3.astype(np.float32)).dtype == np.float32
    assert classifier(dtype="float32").fit(X3, Y3).coefs_[0].dtype == np.float32
    assert classifier(dtype="float64").fit(X3.astype(np.float32), Y3).coefs_[0].dtype == np.float64


# -- targets ---------------------------------------------------------------------------------------------------------
def test_one_hot_rows_are_asked_about():
    rows = np.eye(3, dtype=int)[Y3]
    with pytest.warns(OneHotWarning, match="each of its 90 rows holds exactly one 1") as caught:
        labels = classifier().fit(X3, rows)
    assert caught[0].filename == __file__
    assert labels.out_activation_ == "logistic"
    assert labels.predict(X3).shape == (90, 3)

    said = classifier(multilabel=True).fit(X3, rows)  # silent: warnings are errors here
    assert same(said, labels)
    classes = classifier(multilabel=False).fit(X3, rows)
    assert same(classes, classifier().fit(X3, Y3))
    assert (classes.predict(X3) == classifier().fit(X3, Y3).predict(X3)).all()
    assert classes.classes_.tolist() == [0, 1, 2]


def test_only_one_hot_rows_are_asked_about():
    classifier().fit(XL, YL)
    classifier().fit(X3[:9], np.eye(3, dtype=int)[Y3[:9]])  # so few may be chance
    with pytest.raises(ValueError, match="expects one-hot rows, got a row that does not hold exactly one 1"):
        classifier(multilabel=False).fit(XL, YL)


def test_streams_of_one_hot_rows():
    rows = np.eye(3, dtype=int)[Y3]
    a = classifier(multilabel=False).partial_fit(X3, rows, classes=[0, 1, 2])
    assert same(a, classifier().partial_fit(X3, Y3, classes=[0, 1, 2]))
    with pytest.warns(OneHotWarning):
        model = classifier().partial_fit(X3, rows, classes=[0, 1, 2])
    model.partial_fit(X3, rows)  # told once


@pytest.mark.parametrize("labels", [["a", "b", "c"], [10, 20, 30], [-1.0, 0.0, 7.0]], ids=str)
def test_labels_of_any_kind(labels):
    y = np.asarray(labels)[Y3]
    model = classifier(max_iter=40).fit(X3, y)
    assert model.predict(X3).dtype == y.dtype
    assert set(model.predict(X3)) <= set(labels)
    assert same(model, classifier(max_iter=40).fit(X3, Y3))


def test_class_weight_is_a_weight_for_each_row():
    y = np.asarray(["a", "b", "c"])[np.sort(Y3)]
    table = {"a": 1.0, "b": 5.0, "c": 0.5}
    by_row = np.asarray([table[label] for label in y])
    assert same(classifier(class_weight=table).fit(X3, y), classifier().fit(X3, y, by_row))
    w = np.random.default_rng(0).random(90)
    assert same(classifier(class_weight=table).fit(X3, y, w), classifier().fit(X3, y, by_row * w))
    counts = {label: (y == label).sum() for label in table}
    balanced = np.asarray([90 / (3 * counts[label]) for label in y])
    assert same(classifier(class_weight="balanced").fit(X3, y), classifier().fit(X3, y, balanced))
    with pytest.raises(ValueError, match="class_weight expects one label for each row, got an indicator matrix"):
        classifier(class_weight="balanced").fit(XL, YL)


# -- losses ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "loss", ["squared_error", "absolute_error", "huber", xpnn.MeanSquaredError(), xpnn.Huber(0.5)], ids=str
)
def test_losses_of_numbers(loss):
    model = regressor(loss=loss, max_iter=150, learning_rate_init=0.02, hidden_layer_sizes=(20,)).fit(XR, YR)
    assert model.score(XR, YR) > 0.9
    assert model.predict(XR).shape == (80,)


def test_a_robust_loss_does_not_follow_outliers():
    y = YR.copy()
    y[:4] = 60.0
    options = {"solver": "lbfgs", "max_iter": 300, "activation": "identity", "hidden_layer_sizes": ()}
    errors = {
        loss: np.median(np.abs(regressor(loss=loss, **options).fit(XR, y).predict(XR) - YR)[4:])
        for loss in ("squared_error", "huber")
    }
    assert errors["huber"] < 0.2 * errors["squared_error"]


def test_quantiles_are_columns():
    rng = np.random.default_rng(0)
    X = rng.uniform(0, 1, (600, 1))
    y = rng.normal(0, 1 + X[:, 0])
    model = regressor(loss=xpnn.Pinball((0.1, 0.5, 0.9)), max_iter=80, learning_rate_init=0.01).fit(X, y)
    out = model.predict(X)
    assert out.shape == (600, 3)
    for column, q in zip(out.T, (0.1, 0.5, 0.9), strict=True):
        assert (y <= column).mean() == pytest.approx(q, abs=0.05)
    two = regressor(loss="pinball").fit(X, np.stack([y, -y], axis=1))
    assert two.predict(X).shape == (600, 6)
    assert np.isfinite(two.score(X, np.stack([y, -y], axis=1)))


@pytest.mark.parametrize(
    "options", [{"loss": "focal"}, {"label_smoothing": 0.1}, {"loss": xpnn.CrossEntropy()}], ids=str
)
@pytest.mark.parametrize("task", ["two", "three"])
def test_losses_over_classes(task, options):
    X, y = (X2, Y2) if task == "two" else (X3, Y3)
    model = classifier(max_iter=150, learning_rate_init=0.02, **options).fit(X, y)
    assert model.score(X, y) > 0.85
    assert model.out_activation_ == "softmax"
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)


def test_two_softmax_outputs_and_one_logit_learn_the_same_thing():
    options = {"solver": "lbfgs", "hidden_layer_sizes": (), "max_iter": 2000, "tol": 1e-8, "alpha": 0.0}
    one = classifier(**options).fit(X2[:, :2], Y2)
    two = classifier(loss=xpnn.CrossEntropy(), **options).fit(X2[:, :2], Y2)
    np.testing.assert_allclose(one.predict_proba(X2[:, :2]), two.predict_proba(X2[:, :2]), atol=1e-4)


def test_label_smoothing_keeps_probabilities_from_the_ends():
    plain, smooth = (
        classifier(max_iter=300, learning_rate_init=0.03, label_smoothing=e).fit(X2, Y2).predict_proba(X2).max()
        for e in (0.0, 0.2)
    )
    assert smooth < plain - 0.005


def test_hinge_has_no_probabilities():
    for X, y in ((X2, Y2), (X3, Y3)):
        model = classifier(loss=xpnn.Hinge(), max_iter=100, learning_rate_init=0.02).fit(X, y)
        assert model.score(X, y) > 0.8
        assert not hasattr(model, "predict_proba")
        assert not hasattr(model, "predict_log_proba")


@pytest.mark.parametrize(
    ("estimator", "X", "y", "message"),
    [
        (classifier(loss=xpnn.MeanSquaredError()), X3, Y3, "expected a loss over classes, got MeanSquaredError"),
        (classifier(loss=xpnn.BinaryCrossEntropy()), X3, Y3, "expected a loss over classes, got BinaryCrossEntropy"),
        (classifier(loss=xpnn.Huber()), X2, Y2, "expected a loss over classes, got Huber"),
        (classifier(loss="focal"), XL, YL, "loss='focal' expects one label for each row, got an indicator matrix"),
        (classifier(label_smoothing=0.1), XL, YL, "label_smoothing expects one label for each row"),
        (classifier(loss="focal", label_smoothing=0.1), X3, Y3, "expected loss='log_loss' with label_smoothing"),
        (regressor(loss=xpnn.CrossEntropy()), XR, YR, "expected a loss of numbers, got CrossEntropy"),
    ],
)
def test_losses_that_do_not_fit_are_refused(estimator, X, y, message):
    with pytest.raises(OptionError, match=message):
        estimator.fit(X, y)
