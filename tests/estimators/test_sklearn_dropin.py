"""Change one import line: ours against scikit-learn's own perceptrons, over their public face.

Both train on the same data from one seed, so that weights are equal and all that follows from them is compared:
curves, counts, predictions, attributes, warnings and errors.  Most tests do not shuffle, for speed; one part does.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")

import scipy.sparse
from sklearn import neural_network
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import xpnn.estimators

X2, Y2 = make_classification(90, 6, n_informative=4, random_state=0)
X3, Y3 = make_classification(90, 6, n_informative=4, n_classes=3, random_state=1)
XL, YL = make_multilabel_classification(90, 6, n_classes=4, random_state=2)
XR, YR = make_regression(90, 6, n_informative=4, noise=1.0, random_state=3)
XR2, YR2 = make_regression(90, 6, n_targets=2, random_state=4)
COUNTS = np.random.default_rng(5).poisson(np.exp(0.3 * X2[:, 0]) + 0.5)

DATA = {
    "binary": ("MLPClassifier", X2, Y2, {}),
    "strings": ("MLPClassifier", X3, np.asarray(["red", "green", "blue"])[Y3], {}),
    "multiclass": ("MLPClassifier", X3, Y3, {}),
    "multilabel": ("MLPClassifier", XL, YL, {}),
    "regression": ("MLPRegressor", XR, YR / 50, {}),
    "multioutput": ("MLPRegressor", XR2, YR2 / 50, {}),
    "poisson": ("MLPRegressor", 0.2 * X2, COUNTS, {"loss": "poisson"}),
}
WEIGHT = np.random.default_rng(6).integers(0, 4, 90).astype(float)


def both(kind, **options):
    """The same estimator twice: theirs and ours."""
    options = {"random_state": 0, "shuffle": False, "max_iter": 12, "hidden_layer_sizes": (7, 5), **options}
    return getattr(neural_network, kind)(**options), getattr(xpnn.estimators, kind)(**options)


def told(action):
    """What an action says: categories of its warnings, type and text of its error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
            error = None
        except Exception as e:
            error = e
    return [w.category for w in caught], error


def assert_same_network(theirs, ours, X, rtol=1e-9):
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    assert (ours.n_layers_, ours.n_outputs_, ours.out_activation_) == (
        theirs.n_layers_,
        theirs.n_outputs_,
        theirs.out_activation_,
    )
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=rtol)
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert a.shape == b.shape
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.abs(b).max())
    if hasattr(theirs, "loss_curve_"):
        np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
        assert type(ours.best_loss_) is type(theirs.best_loss_) or isinstance(ours.best_loss_, float)
        if theirs.best_loss_ is not None:
            assert ours.best_loss_ == pytest.approx(theirs.best_loss_, rel=rtol)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if method == "predict_log_proba" and hasattr(theirs, method) and np.any(theirs.predict_proba(X) == 0):
            continue  # a warning in theirs
        if hasattr(theirs, method):
            a, b = getattr(ours, method)(X), getattr(theirs, method)(X)
            assert (a.dtype, a.shape) == (b.dtype, b.shape)
            if b.dtype.kind == "f":
                # The logarithm of a probability near 1 magnifies its rounding.
                np.testing.assert_allclose(a, b, rtol=100 * rtol, atol=100 * rtol * np.abs(b).max())
            else:
                assert (a == b).all()


def train_both(data, sparse=False, dtype=None, weight=None, **options):
    kind, X, y, more = DATA[data]
    X = X.astype(dtype or X.dtype)
    X = scipy.sparse.csr_matrix(X) if sparse else X
    theirs, ours = both(kind, **more, **options)
    said = [told(lambda e=e: e.fit(X, y, sample_weight=weight)) for e in (theirs, ours)]
    assert said[1][1] is None, said[1][1]
    assert said[0] == said[1]
    return theirs, ours, X, y


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("data", DATA)
def test_equal_weights(data, solver, activation):
    theirs, ours, X, y = train_both(data, solver=solver, activation=activation, batch_size=32)
    if (data, solver) == ("multioutput", "lbfgs"):
        return  # see the known differences
    assert_same_network(theirs, ours, X, rtol=1e-9 if solver != "lbfgs" else 1e-5)
    assert ours.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-5)


# -- with shuffling, as by default ---------------------------------------------------------------------------------
# L-BFGS with several outputs is one of the known differences.
PAIRS = [(data, solver) for data in DATA for solver in ("adam", "sgd", "lbfgs")]
PAIRS.remove(("multioutput", "lbfgs"))


@pytest.mark.parametrize("batch_size", ["auto", 20])
@pytest.mark.parametrize(("data", "solver"), PAIRS)
def test_equal_weights_with_shuffling(data, solver, batch_size):
    """One seed draws the weights, the held-out rows and every epoch's order, as in theirs."""
    for options in ({}, {"early_stopping": True, "validation_fraction": 0.3}):
        if options and (data in ("multiclass", "strings") or solver == "lbfgs"):
            continue  # more than two classes are held out in proportion: see the known differences
        theirs, ours, X, _ = train_both(data, solver=solver, shuffle=True, batch_size=batch_size, **options)
        assert_same_network(theirs, ours, X, rtol=1e-9 if solver != "lbfgs" else 1e-5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_equal_weights_with_default_settings(kind, seed):
    theirs, ours = (getattr(m, kind)(random_state=seed) for m in (neural_network, xpnn.estimators))
    X, y = (X3, Y3) if kind == "MLPClassifier" else (XR, YR / 50)
    for estimator in (theirs, ours):
        told(lambda e=estimator: e.fit(X, y))
    assert_same_network(theirs, ours, X)


@pytest.mark.parametrize("state", [7, "instance"])
def test_orders_come_from_the_random_state_that_is_given(state):
    """An instance is drawn from and left where theirs leaves it, so what is drawn next is equal too."""
    theirs, ours = both("MLPClassifier", shuffle=True, batch_size=20)
    states = [np.random.RandomState(3) if state == "instance" else state for _ in range(2)]
    for estimator, own in zip((theirs, ours), states, strict=True):
        for _ in range(2):
            told(lambda e=estimator, s=own: e.set_params(random_state=s).fit(X3, Y3))
    assert_same_network(theirs, ours, X3)
    if state == "instance":
        assert (states[0].get_state()[1] == states[1].get_state()[1]).all()


def test_partial_fit_with_shuffling():
    theirs, ours = both("MLPRegressor", shuffle=True)
    for estimator in (theirs, ours):
        for _ in range(4):
            estimator.partial_fit(XR, YR / 50)
    assert_same_network(theirs, ours, XR)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("data", ["binary", "multilabel", "multioutput", "poisson"])
def test_penalty_and_sample_weight(data, solver, alpha, weight):
    # A weighted loss is compared over one batch of all rows (see the known differences), L-BFGS over few
    # iterations, for rounding grows from one line search to the next.
    options = {"max_iter": 5} if solver == "lbfgs" else {} if weight is not None else {"batch_size": 32}
    theirs, ours, X, y = train_both(data, weight=weight, solver=solver, alpha=alpha, **options)
    if (data, solver) == ("multioutput", "lbfgs"):
        return  # see the known differences
    rtol = 1e-9 if solver != "lbfgs" else 1e-5
    assert_same_network(theirs, ours, X, rtol=rtol)
    assert ours.score(X, y, WEIGHT) == pytest.approx(theirs.score(X, y, WEIGHT), rel=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"learning_rate": "constant"},
        {"learning_rate": "invscaling", "power_t": 0.3},
        {"learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 2, "max_iter": 40},
        {"momentum": 0.0},
        {"momentum": 0.5, "nesterovs_momentum": False},
    ],
    ids=str,
)
def test_learning_rates_of_sgd(options):
    theirs, ours, X, _ = train_both("multiclass", solver="sgd", learning_rate_init=0.05, batch_size=20, **options)
    assert_same_network(theirs, ours, X)


@pytest.mark.parametrize(
    "options",
    [
        {"beta_1": 0.5},
        {"beta_2": 0.9},
        {"epsilon": 1e-2},
        {"tol": 0.05, "n_iter_no_change": 3, "max_iter": 100},
        {"n_iter_no_change": np.inf},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": 9},
        {"hidden_layer_sizes": [4, 4, 4]},
        {"batch_size": 1},
    ],
    ids=str,
)
def test_further_options(options):
    theirs, ours, X, _ = train_both("multiclass", **{"batch_size": 20, **options})
    assert_same_network(theirs, ours, X, rtol=1e-8)


@pytest.mark.parametrize("weight", [None, WEIGHT + 0.5], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
@pytest.mark.parametrize("data", ["binary", "regression", "multioutput", "multilabel"])
def test_early_stopping(data, solver, weight):
    """The same rows are held out, the same scores come out, and the same weights are restored."""
    theirs, ours, X, _ = train_both(
        data,
        solver=solver,
        weight=weight,
        early_stopping=True,
        learning_rate_init=0.01,
        n_iter_no_change=3,
        max_iter=30,
        validation_fraction=0.3,
    )
    np.testing.assert_allclose(ours.validation_scores_, theirs.validation_scores_, rtol=1e-7, atol=1e-9)
    assert ours.best_validation_score_ == pytest.approx(theirs.best_validation_score_, rel=1e-7)
    assert ours.best_loss_ is theirs.best_loss_ is None
    assert_same_network(theirs, ours, X, rtol=1e-8)


@pytest.mark.parametrize("data", ["multiclass", "regression"])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_float32_stays_float32(data, solver):
    theirs, ours, X, _ = train_both(data, dtype=np.float32, solver=solver, batch_size=32)
    assert {c.dtype for c in ours.coefs_} == {np.dtype("float32")}
    if solver == "adam":  # rounding in float32 sends a line search other ways
        assert_same_network(theirs, ours, X, rtol=2e-4)
    else:
        assert ours.loss_ <= theirs.loss_ * 1.1 + 1e-3


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("data", ["binary", "multilabel", "regression"])
def test_sparse(data, solver):
    theirs, ours, X, _ = train_both(data, sparse=True, solver=solver, batch_size=32)
    assert_same_network(theirs, ours, X, rtol=1e-9 if solver != "lbfgs" else 1e-5)


def test_sparse_indicator_targets():
    theirs, ours = both("MLPClassifier")
    y = scipy.sparse.csr_matrix(YL)
    assert told(lambda: theirs.fit(XL, y)) == told(lambda: ours.fit(XL, y))
    assert_same_network(theirs, ours, XL)


@pytest.mark.parametrize("data", ["binary", "multiclass", "multilabel", "regression"])
def test_partial_fit(data):
    kind, X, y, _ = DATA[data]
    theirs, ours = both(kind, solver="adam")
    first = {"classes": np.arange(y.shape[1]) if y.ndim == 2 else np.unique(y)} if kind == "MLPClassifier" else {}
    for i in range(4):
        rows = slice(i * 20, (i + 1) * 20)
        for estimator in (theirs, ours):
            estimator.partial_fit(X[rows], y[rows], **(first if i == 0 else {}))
    assert_same_network(theirs, ours, X)


def test_partial_fit_of_sgd_keeps_its_learning_rate():
    theirs, ours = both("MLPRegressor", solver="sgd", learning_rate="invscaling", learning_rate_init=0.05)
    for estimator in (theirs, ours):
        for _ in range(5):
            estimator.partial_fit(XR[:40], YR[:40] / 50)
    assert_same_network(theirs, ours, XR)


def test_first_leg_of_warm_start_is_equal_and_counts_go_on():
    theirs, ours, X, y = train_both("multiclass", warm_start=True)
    assert_same_network(theirs, ours, X)
    for estimator in (theirs, ours):
        told(lambda e=estimator: e.fit(X, y))
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.t_ == theirs.t_
    assert len(ours.loss_curve_) == len(theirs.loss_curve_) == 24


def test_warm_start_of_lbfgs():
    theirs, ours, X, y = train_both("binary", warm_start=True, solver="lbfgs")
    for estimator in (theirs, ours):
        told(lambda e=estimator: e.fit(X, y))
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-3)


# -- the face ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("data", ["binary", "regression"])
def test_all_public_attributes_and_methods_are_there(data, solver):
    theirs, ours, *_ = train_both(data, solver=solver, early_stopping=True)
    public = {name for name in dir(theirs) if not name.startswith("_")}
    if (data, solver) == ("regression", "lbfgs"):
        public.remove("partial_fit")  # see the known differences
    assert public <= {name for name in dir(ours) if not name.startswith("_")}
    if solver == "lbfgs":
        assert not hasattr(ours, "loss_curve_")
        assert not hasattr(theirs, "loss_curve_")


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_arguments_defaults_and_positions(kind):
    import inspect

    theirs, ours = (inspect.signature(getattr(m, kind).__init__).parameters for m in (neural_network, xpnn.estimators))
    assert {name: p.default for name, p in theirs.items()}.items() <= {n: p.default for n, p in ours.items()}.items()
    positional = [name for name, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [name for name, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    for method in ("fit", "partial_fit", "predict", "score"):
        a, b = (inspect.signature(getattr(getattr(m, kind), method)) for m in (neural_network, xpnn.estimators))
        assert list(b.parameters)[: len(a.parameters)] == list(a.parameters), method


WRONG_OPTIONS = [
    {"hidden_layer_sizes": -1},
    {"hidden_layer_sizes": (4, 0)},
    {"activation": "ghost"},
    {"solver": "ghost"},
    {"alpha": -1.0},
    {"batch_size": 0},
    {"batch_size": "big"},
    {"learning_rate": "ghost"},
    {"learning_rate_init": 0.0},
    {"power_t": -1.0},
    {"max_iter": 0},
    {"shuffle": "yes"},
    {"tol": -1.0},
    {"momentum": 2.0},
    {"early_stopping": "maybe"},
    {"validation_fraction": 1.0},
    {"validation_fraction": 0.001, "early_stopping": True},
    {"beta_1": 1.0},
    {"beta_2": -0.5},
    {"epsilon": 0.0},
    {"n_iter_no_change": 0},
    {"max_fun": 0},
    {"random_state": "seed"},
]


@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=str)
@pytest.mark.parametrize("data", ["multiclass", "regression"])
def test_wrong_options_are_refused_in_the_same_words(data, options):
    kind, X, y, _ = DATA[data]
    errors = [told(lambda e=e: e.fit(X, y))[1] for e in both(kind, **options)]
    assert errors[0] is not None
    assert type(errors[1]) is type(errors[0])
    if set(options) & {"activation", "hidden_layer_sizes"} and "parameter of" in str(errors[0]):
        names = str(errors[0]).split("must be")[0]
        assert str(errors[1]).startswith(names)  # ours lists more that is allowed
    else:
        words = [
            sorted(str(e).replace(",", "").replace("{", "").replace("}", "").replace(".", "").split()) for e in errors
        ]
        assert words[1] == words[0]  # a set of choices is shown in no particular order


NAN = np.where(np.arange(540).reshape(90, 6) == 7, np.nan, X2)
WRONG_DATA = {
    "no rows": (np.empty((0, 6)), np.empty(0)),
    "one axis": (X2[:, 0], Y2),
    "three axes": (X2[None], Y2),
    "nan": (NAN, Y2),
    "lengths": (X2, Y2[:50]),
    "no target": (X2, None),
    "nan target": (X2, np.where(np.arange(90) == 3, np.nan, Y2)),
    "text": (np.full((90, 6), "a"), Y2),
    "complex": (X2 * 1j, Y2),
}


@pytest.mark.parametrize("case", WRONG_DATA)
@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_wrong_data_are_refused_in_the_same_words(kind, case):
    X, y = WRONG_DATA[case]
    errors = [told(lambda e=e: e.fit(X, y))[1] for e in both(kind)]
    assert errors[0] is not None
    if case == "text":  # the same words, and then a way out
        assert isinstance(errors[1], type(errors[0]))
        assert str(errors[1]).startswith(f"{errors[0]}: expected numbers in X, got the text 'a' in column 0. Pass")
        return
    assert (type(errors[1]), str(errors[1])) == (type(errors[0]), str(errors[0]))


WRONG_CALLS = {
    "predict first": lambda e, X, y: e.predict(X),
    "partial_fit without classes": lambda e, X, y: e.partial_fit(X, y),
    "unknown class": lambda e, X, y: e.partial_fit(X, y, classes=[0, 1]).partial_fit(X, y + 1),
    "partial_fit and early stopping": lambda e, X, y: e.set_params(early_stopping=True).partial_fit(
        X, y, classes=[0, 1]
    ),
    "partial_fit and lbfgs": lambda e, X, y: e.set_params(solver="lbfgs").partial_fit(X, y),
    "fewer features": lambda e, X, y: e.fit(X, y).predict(X[:, :3]),
    "weights of other length": lambda e, X, y: e.fit(X, y, sample_weight=np.ones(3)),
    "other classes, warm": lambda e, X, y: e.set_params(warm_start=True).fit(X, y).fit(X, y + 1),
    "one score": lambda e, X, y: e.fit(X, y).score(X, y[:3]),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_wrong_calls_are_refused_alike(case):
    said = [told(lambda e=e: WRONG_CALLS[case](e, X2, Y2)) for e in both("MLPClassifier")]
    assert said[0][1] is not None
    assert type(said[1][1]) is type(said[0][1])
    assert said[1][0] == said[0][0]
    theirs, ours = (str(error).split(". ")[0].split(" Previously")[0] for _, error in said)
    assert ours == theirs


def test_other_continuous_targets_for_a_classifier():
    errors = [told(lambda e=e: e.fit(XR, YR))[1] for e in both("MLPClassifier")]
    assert type(errors[0]) is type(errors[1])
    assert all(str(e).startswith("Unknown label type: ") for e in errors)


WARNS = {
    "not converged": {"max_iter": 2},
    "not converged, lbfgs": {"max_iter": 2, "solver": "lbfgs"},
    "column": {},
    "large batch": {"batch_size": 1000},
}


@pytest.mark.parametrize("case", WARNS)
@pytest.mark.parametrize("data", ["binary", "regression"])
def test_the_same_warnings(data, case):
    kind, X, y, _ = DATA[data]
    y = y[:, None] if case == "column" else y
    said = [told(lambda e=e: e.fit(X, y)) for e in both(kind, **WARNS[case])]
    assert said[0][0]
    assert said[0] == said[1]


def test_verbose_prints_the_same_lines(capsys):
    theirs, ours = both("MLPClassifier", verbose=True, early_stopping=True, n_iter_no_change=2, max_iter=30)
    told(lambda: theirs.fit(X2, Y2))
    expected = capsys.readouterr().out
    told(lambda: ours.fit(X2, Y2))
    assert expected
    assert capsys.readouterr().out == expected


def test_names_of_features_are_asked_for_alike():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    frame = pd.DataFrame(X2, columns=list("abcdef"))
    theirs, ours = both("MLPClassifier", max_iter=60, tol=1.0)
    for estimator in (theirs, ours):
        estimator.fit(frame, Y2)
    assert (ours.feature_names_in_ == theirs.feature_names_in_).all()
    for X in (X2, frame[list("fedcba")], frame.rename(columns={"a": "z"})):
        said = [told(lambda e=e, X=X: e.predict(X)) for e in (theirs, ours)]
        assert said[0][0] == said[1][0]
        assert str(said[0][1]) == str(said[1][1])


def test_weights_can_be_assigned():
    theirs, ours, X, _ = train_both("regression")
    theirs.coefs_ = [c * 2 for c in theirs.coefs_]
    ours.coefs_ = [c * 2 for c in ours.coefs_]
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X))


# -- where ours differs, and means to ------------------------------------------------------------------------------
def test_known_difference_warm_start_keeps_the_optimizer():
    """Theirs forgets Adam's moments between two fits, so 10 + 10 epochs are not 20; ours are, to the bit."""

    def weights(module, legs):
        estimator = module.MLPClassifier((7,), random_state=0, shuffle=False, warm_start=True)
        for epochs in legs:
            told(lambda n=epochs: estimator.set_params(max_iter=n).fit(X3, Y3))
        return estimator.coefs_[0]

    assert (weights(xpnn.estimators, (10, 10)) == weights(xpnn.estimators, (20,))).all()
    assert not np.allclose(weights(neural_network, (10, 10)), weights(neural_network, (20,)))


def test_known_difference_partial_fit_goes_on_shuffling():
    """Theirs seeds each call anew, so all but the first take the rows in one order; ours are the epochs of a fit."""

    def weights(module, calls):
        estimator = module.MLPClassifier((7,), random_state=0, batch_size=20, max_iter=5)
        if not calls:
            told(lambda: estimator.fit(X3, Y3))
        for _ in range(calls):
            estimator.partial_fit(X3, Y3, classes=[0, 1, 2])
        return estimator.coefs_[0]

    assert (weights(xpnn.estimators, 5) == weights(xpnn.estimators, 0)).all()
    assert not np.allclose(weights(neural_network, 5), weights(neural_network, 0))
    np.testing.assert_allclose(weights(xpnn.estimators, 1), weights(neural_network, 1), rtol=1e-9)


def test_known_difference_rows_of_weight_0_are_left_out():
    """Theirs cuts batches with them, so a batch may hold few rows that count; ours leaves them out before."""
    kind, X, y, _ = DATA["regression"]
    there = WEIGHT > 0

    def weights(estimator, rows):
        told(lambda: estimator.fit(X[rows], y[rows], sample_weight=WEIGHT[rows]))
        return estimator.coefs_[0]

    options = {"batch_size": 20, "shuffle": True}
    theirs, ours = both(kind, **options)
    assert (weights(ours, slice(None)) == weights(ours, there)).all()
    assert not np.allclose(weights(theirs, slice(None)), weights(theirs, there))
    np.testing.assert_allclose(weights(ours, there), weights(theirs, there), rtol=1e-9, atol=1e-12)


def test_known_difference_the_best_weights_are_kept():
    """Theirs keeps the last weights, however bad; ours those with the lowest loss over all training rows."""

    def loss(estimator):
        return -np.log(estimator.predict_proba(X3)[np.arange(90), Y3]).mean()

    theirs, ours = both("MLPClassifier", learning_rate_init=0.4, max_iter=30, n_iter_no_change=np.inf)
    for estimator in (theirs, ours):
        told(lambda e=estimator: e.fit(X3, Y3))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-6)  # the way is the same
    assert ours.best_epoch_ < 30
    assert loss(ours) < loss(theirs) - ours.tol
    there = neural_network.MLPClassifier(**theirs.get_params()).set_params(max_iter=ours.best_epoch_)
    told(lambda: there.fit(X3, Y3))
    np.testing.assert_allclose(ours.coefs_[0], there.coefs_[0], rtol=1e-6, atol=1e-9)


def test_known_difference_a_weighted_curve_is_a_weighted_mean():
    """Over several batches theirs averages batch losses by rows, ours by the weight that was trained on."""
    theirs, ours, *_ = train_both("regression", weight=WEIGHT + 0.5, batch_size=32)
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0.2)
    assert not np.allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-6)


def test_known_difference_stratified_early_stopping():
    """Theirs stratifies binary problems only; ours all classes, so that none is missing in a split."""
    y = np.repeat([0, 1, 2], [60, 24, 6])
    told(lambda: both("MLPClassifier", early_stopping=True)[1].fit(X3, y))
    ours = both("MLPClassifier", early_stopping=True, validation_fraction=1 / 3, max_iter=1)[1]
    _, valid = ours._split(y, np.random.RandomState(0))
    assert np.bincount(y[valid]).tolist() == [20, 8, 2]


def test_known_difference_one_hot_rows_are_asked_about():
    y = np.eye(3, dtype=int)[Y3]
    theirs, ours = both("MLPClassifier")
    assert told(lambda: theirs.fit(X3, y))[0] == [ConvergenceWarning]
    assert told(lambda: ours.fit(X3, y))[0] == [xpnn.estimators.OneHotWarning, ConvergenceWarning]
    assert_same_network(theirs, ours, X3)


def test_known_difference_lbfgs_with_several_outputs():
    """Theirs hands a gradient to the line search that is n_outputs times that of the value; ours fits the value."""

    def objective(estimator):
        penalty = 0.25 * sum((c**2).sum() for c in estimator.coefs_) / len(XR2)
        return ((estimator.predict(XR2) - YR2 / 50) ** 2).sum(axis=1).mean() / 2 + penalty

    options = {"solver": "lbfgs", "alpha": 0.5, "activation": "tanh", "max_iter": 400, "tol": 1e-6}
    theirs, ours = both("MLPRegressor", **options)
    for estimator in (theirs, ours):
        told(lambda e=estimator: e.fit(XR2, YR2 / 50))
    assert objective(ours) <= objective(theirs) * 1.01
    penalty = 0.25 * sum((c**2).sum() for c in ours.coefs_) / len(XR2)
    assert ours.loss_ == pytest.approx(((ours.predict(XR2) - YR2 / 50) ** 2).mean() / 2 + penalty)


def test_known_difference_partial_fit_of_a_regressor_with_lbfgs():
    """Their documentation rules it out, their regressor runs L-BFGS by a slip; ours refuses."""
    theirs, ours = both("MLPRegressor", solver="lbfgs")
    assert told(lambda: theirs.partial_fit(XR, YR))[1] is None
    with pytest.raises(AttributeError, match="has no attribute 'partial_fit'"):
        ours.partial_fit(XR, YR)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_search_by_two_processes_finds_what_one_finds(monkeypatch):
    """With no variable set that limits threads."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    net = xpnn.estimators.MLPClassifier((8,), max_iter=3, random_state=0)
    one, two = (
        GridSearchCV(net, {"alpha": [1e-4, 1.0]}, cv=2, n_jobs=jobs, error_score="raise").fit(X2, Y2)
        for jobs in (None, 2)
    )
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(one.predict_proba(X2), two.predict_proba(X2))
