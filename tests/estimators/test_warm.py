"""A fit that goes on from another, with arguments changed in between: each takes effect or is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

import xpnn
from xpnn.errors import OptionError
from xpnn.estimators import MLPClassifier, MLPRegressor
from xpnn.estimators._warm import FIXED, carry_over

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4))
Y = (np.arange(80) % 2 + (X[:, 0] > 0)) % 3
SGD = {"solver": "sgd"}
STOP = {"early_stopping": True}


class Stop(xpnn.Callback):
    """End each fit after its first epoch."""

    def on_epoch_end(self, trainer):
        trainer.stop("enough")


#: Of each argument: another value, and what makes it matter.
CHANGES = {
    "activation": ("tanh", {}),
    "solver": ("sgd", {}),
    "alpha": (3.0, {}),
    "batch_size": (10, {}),
    "learning_rate": ("invscaling", SGD),
    "learning_rate_init": (0.1, {}),
    "power_t": (2.0, SGD | {"learning_rate": "invscaling"}),
    "max_iter": (2, {}),
    "shuffle": (False, {"batch_size": 10}),
    "random_state": (7, {"batch_size": 10}),
    "tol": (1e3, {"n_iter_no_change": 1}),
    "momentum": (0.1, SGD),
    "nesterovs_momentum": (False, SGD),
    "early_stopping": (True, {}),
    "validation_fraction": (0.4, STOP),
    "beta_1": (0.1, {}),
    "beta_2": (0.1, {}),
    "epsilon": (1.0, {}),
    "n_iter_no_change": (1, {"tol": 1e3, "max_iter": 8}),
    "max_fun": (2, {"solver": "lbfgs"}),
    "dropout": (0.5, {}),
    "optimizer": (xpnn.Lion(), {}),
    "schedule": (xpnn.CosineDecay(), {}),
    "callbacks": ([Stop()], {}),
    "clip_norm": (1e-3, SGD),
    "max_seconds": (1e-9, {}),
    "class_weight": ({0: 9.0}, {}),
    "label_smoothing": (0.5, {}),
    "loss": ("focal", {}),
}
REFUSED = {
    "hidden_layer_sizes": (3,),
    "n_layers": 2,
    "width": 3,
    "norm": "batch",
    "residual": True,
    "init": "zeros",
    "standardize": True,
    "n_ensemble": 2,
    "backend": "numpy",
    "dtype": "float32",
    "categorical_features": "from_dtype",
}
#: They do nothing to training; `multilabel` says how `y` is read.
IDLE = {"verbose", "warm_start", "multilabel"}


def begun(y=Y, kind=MLPClassifier, **options):
    options = {"max_iter": 5, "random_state": 0, "n_iter_no_change": 50, **options}
    return kind(hidden_layer_sizes=(8,), warm_start=True, **options).fit(X, y)


def test_every_argument_is_looked_at():
    names = MLPClassifier().get_params().keys() | MLPRegressor().get_params().keys()
    assert names == CHANGES.keys() | REFUSED.keys() | IDLE
    assert set(FIXED) <= REFUSED.keys()


@pytest.mark.parametrize("name", CHANGES)
def test_what_may_change_takes_effect(name):
    value, base = CHANGES[name]
    plain, other = begun(**base), begun(**base)
    np.testing.assert_array_equal(plain._flat, other._flat)
    plain.fit(X, Y)
    other.set_params(**{name: value}).fit(X, Y)
    assert (plain._flat != other._flat).any(), f"{name} is ignored"
    assert np.isfinite(other.predict_proba(X)).all()


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_weights_depend_on_is_refused(name):
    model = begun()
    before, proba = model._flat.copy(), model.predict_proba(X)
    with pytest.raises(ValueError, match=rf"^MLPClassifier: expected {name}=.* warm_start=False") as caught:
        model.set_params(**{name: REFUSED[name]}).fit(X, Y)
    assert isinstance(caught.value, OptionError)
    with pytest.raises(ValueError, match=rf"expected {name}="):
        model.partial_fit(X, Y)
    np.testing.assert_array_equal(model._flat, before)
    model.set_params(**{name: MLPClassifier().get_params()[name] if name != "hidden_layer_sizes" else (8,)})
    np.testing.assert_array_equal(model.predict_proba(X), proba)
    model.fit(X, Y)
    assert (model._flat != before).any(), "with the argument as it was, it goes on"


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_fits_without_a_change_go_on_as_ever(kind):
    model = begun(kind=kind, y=Y if kind is MLPClassifier else X[:, 0])
    once = kind(hidden_layer_sizes=(8,), max_iter=10, random_state=0, n_iter_no_change=50, warm_start=True)
    once.fit(X, Y if kind is MLPClassifier else X[:, 0])
    np.testing.assert_array_equal(model.fit(X, Y if kind is MLPClassifier else X[:, 0])._flat, once._flat)


@pytest.mark.parametrize("before", [False, True])
def test_early_stopping_can_begin_and_end(before):
    model = begun(early_stopping=before)
    model.set_params(early_stopping=not before).fit(X, Y)
    assert model.n_iter_ == 5
    assert (model.validation_scores_ is None) == before
    assert (model.best_loss_ is None) != before


def test_a_loss_of_other_outputs_is_refused_and_leaves_the_model_as_it_was():
    model = begun(Y > 0)
    proba = model.predict_proba(X)
    with pytest.raises(
        ValueError, match=r"expected loss='log_loss' as in the fit that this one goes on from, got 'focal'"
    ):
        model.set_params(loss="focal").fit(X, Y > 0)
    np.testing.assert_array_equal(model.set_params(loss="log_loss").predict_proba(X), proba)
    regressor = begun(X[:, 0], MLPRegressor)
    with pytest.raises(ValueError, match=r"expected y for the 1 outputs .* got y for 2\. Set warm_start=False"):
        regressor.fit(X, X[:, :2])
    assert regressor.predict(X).shape == (80,)


def test_the_loss_of_a_regressor_takes_effect():
    plain, other = begun(X[:, 0], MLPRegressor), begun(X[:, 0], MLPRegressor)
    plain.fit(X, X[:, 0])
    other.set_params(loss="absolute_error").fit(X, X[:, 0])
    assert (plain._flat != other._flat).any()


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate_init", 0.5), ("alpha", 9.0), ("activation", "tanh"), ("dropout", 0.5)]
)
def test_partial_fit_heeds_changed_arguments(name, value):
    plain, other = (MLPClassifier((8,), random_state=0).partial_fit(X, Y, classes=[0, 1, 2]) for _ in range(2))
    plain.partial_fit(X, Y)
    other.set_params(**{name: value}).partial_fit(X, Y)
    assert (plain._flat != other._flat).any()


def test_weights_and_the_optimizers_state_stay_with_another_activation():
    model = begun(norm="layer")
    coefs, moments = [w.copy() for w in model.coefs_], model._optimizer_.t
    model.set_params(activation="prelu", learning_rate_init=1e-12, max_iter=1).fit(X, Y)
    for mine, was in zip(model.coefs_, coefs, strict=True):
        np.testing.assert_allclose(mine, was, atol=1e-9)
    assert model._optimizer_.t == 1, "parameters of the activation: the moments begin anew"
    model.set_params(activation="tanh").fit(X, Y)
    model.set_params(activation="elu").fit(X, Y)
    assert model._optimizer_.t > 1 > moments - 10


def test_running_moments_are_carried_over():
    nets = [xpnn.mlp([4, 6, 2], act, norm="batch", seed=s) for s, act in ((0, "relu"), (1, "tanh"))]
    nets[0].forward(X, train=True)
    assert carry_over(*nets)
    for name, value in nets[0].state_dict().items():
        np.testing.assert_array_equal(nets[1].state_dict()[name], value)


# -- class weights ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given",
    [{0.0: 1.0, 1.0: 5.0}, {np.int64(1): 5}, {np.float32(1): 5.0, 0: 1}, {True: 5}, pd.Series({0: 1.0, 1: 5.0})],
    ids=["float", "int64", "float32", "bool", "Series"],
)
def test_classes_are_named_by_any_number_or_a_series(given):
    y = Y % 2
    plain = MLPClassifier((4,), max_iter=3, random_state=0, class_weight={0: 1, 1: 5}).fit(X, y)
    np.testing.assert_array_equal(
        MLPClassifier((4,), max_iter=3, random_state=0, class_weight=given).fit(X, y)._flat, plain._flat
    )
    runs = [xpnn.Trainer(xpnn.mlp([4, 2]), xpnn.CrossEntropy(), xpnn.Adam()) for _ in range(2)]
    histories = [run.fit(X, y, epochs=1, class_weight=w) for run, w in zip(runs, ({0: 1, 1: 5}, given), strict=True)]
    assert histories[0]["loss"] == histories[1]["loss"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"1": 5}, r"classes 0, 1, got '1', which is none, and nothing for 0\. Name classes as y does"),
        ({2: 5}, r"classes 0, 1, got 2, which is none"),
        ({0: "heavy"}, r"finite numbers >= 0, got 0: 'heavy'"),
        ({0: -1}, r"got 0: -1"),
        ({0: np.nan}, r"got 0: nan"),
    ],
)
def test_class_weights_that_do_not_fit_are_named(given, words):
    with pytest.raises(ValueError, match=words):
        MLPClassifier((4,), max_iter=1, class_weight=given).fit(X, Y % 2)


def test_a_class_that_these_rows_lack_may_have_a_weight():
    MLPClassifier((4,), max_iter=1, class_weight={0: 1, 1: 2, 2: 9}).fit(X, Y % 2)


# -- advice -------------------------------------------------------------------------------------------------------
ADVICE = {
    "falls": ({}, r"went from \d.* and still falls: raise max_iter, or learning_rate_init\.$"),
    "optimizer": ({"optimizer": xpnn.SGD(0.01)}, r"raise max_iter, or the learning rate of optimizer\.$"),
    "too fast": ({"learning_rate_init": 30.0, "max_iter": 30, "activation": "tanh"}, r"lower learning_rate_init\.$"),
    "cosine": ({"schedule": xpnn.CosineDecay()}, r"schedule has ended the learning rate: raise max_iter, over which"),
    "ended": ({"schedule": xpnn.CosineDecay(3)}, r"ended the learning rate: raise max_iter and the schedule's length"),
    "plateau": ({"schedule": xpnn.Plateau("loss")}, r"still falls: raise max_iter\.$"),
    "constant": ({"schedule": xpnn.Constant()}, r"raise max_iter, or learning_rate_init\.$"),
    "adaptive": ({"solver": "sgd", "learning_rate": "adaptive"}, r"still falls: raise max_iter\.$"),
    "one epoch": ({"max_iter": 1}, r"The loss was [\d.]+: raise max_iter\.$"),
    "scores": (
        {"early_stopping": True, "n_iter_no_change": 30},
        r"validation score still rose within .*: raise max_iter",
    ),
    "lbfgs": ({"solver": "lbfgs"}, r"max_iter is reached\. Increase .* max_iter=20, and scale the data"),
    "lbfgs, scaled": ({"solver": "lbfgs", "standardize": True}, r"Increase the number of iterations, max_iter=20\.$"),
    "evaluations": ({"solver": "lbfgs", "max_fun": 3}, r"max_fun is reached\. Raise max_fun \(3 evaluations"),
}


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", ADVICE)
def test_advice_fits_schedule_and_solver(name):
    options, words = ADVICE[name]
    model = MLPClassifier((8,), **{"max_iter": 20, "random_state": 0, "n_iter_no_change": 50, **options})
    with pytest.warns(ConvergenceWarning, match=words):
        model.fit(X, Y)
