"""What our estimators have beyond scikit-learn's: architecture, training options, tables, ensembles, conversion."""

from __future__ import annotations

import inspect
import os
import pickle
import signal
import sys
import time
import types
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")

import scipy.sparse
from places import backend_or_skip
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import xpnn
from xpnn.errors import BackendUnavailableError, DataError, OptionError
from xpnn.estimators import MLPClassifier, MLPRegressor, Perceptron, from_sklearn, to_sklearn

X3, Y3 = make_classification(90, 5, n_informative=4, n_redundant=0, n_classes=3, random_state=1)
XR, YR = make_regression(80, 5, noise=1.0, random_state=2)
YR = YR / YR.std()
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def classifier(**options):
    return MLPClassifier(**{"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 10, **options})


def regressor(**options):
    return MLPRegressor(**{"hidden_layer_sizes": (8,), "random_state": 0, "max_iter": 10, **options})


def weights(estimator):
    return xpnn.to_numpy(estimator.net_.store.values)


def same(a, b):
    return np.array_equal(weights(a), weights(b))


def kinds(estimator):
    return [type(layer).__name__ for layer in estimator.net_.layers]


# -- architecture ----------------------------------------------------------------------------------------------------
def test_layers_are_those_asked_for():
    model = classifier(
        hidden_layer_sizes=(6, 6), activation=["gelu", xpnn.LeakyReLU(0.2)], norm="layer", dropout=[0.1, 0.0]
    ).fit(X3, Y3)
    assert kinds(model)[:8] == ["Linear", "LayerNorm", "GELU", "Dropout", "Linear", "LayerNorm", "LeakyReLU", "Linear"]
    assert model.n_layers_ == 4
    assert [c.shape for c in model.coefs_] == [(5, 6), (6, 6), (6, 3)]


def test_residual_blocks_and_their_weights():
    model = classifier(hidden_layer_sizes=(6, 6, 6), residual=True, max_iter=60, learning_rate_init=0.02).fit(X3, Y3)
    assert kinds(model).count("Residual") == 2
    assert [c.shape for c in model.coefs_] == [(5, 6), (6, 6), (6, 6), (6, 3)]
    assert model.score(X3, Y3) > 0.7


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        ({"n_layers": 3, "width": 4}, [4, 4, 4]),
        ({"n_layers": 2}, [8, 8]),
        ({"width": 5}, [5]),
        ({"n_layers": 0}, []),
        ({"hidden_layer_sizes": (), "width": 4}, [4]),
        ({"hidden_layer_sizes": (9, 9), "width": 4}, [4, 4]),
    ],
    ids=str,
)
def test_number_and_width_of_layers(options, sizes):
    model = classifier(max_iter=1, **options).fit(X3, Y3)
    assert [c.shape[1] for c in model.coefs_[:-1]] == sizes


@pytest.mark.parametrize("norm", ["batch", "layer", "rms"])
@pytest.mark.parametrize("activation", ["elu", "selu", "silu", "mish", "softplus", "prelu", "sigmoid"])
def test_norms_and_activations_learn(norm, activation):
    options = {"norm": norm, "activation": activation, "max_iter": 120, "learning_rate_init": 0.02}
    assert classifier(**options).fit(X3, Y3).score(X3, Y3) > 0.7


def test_dropout_acts_in_training_alone():
    model = classifier(dropout=0.5, hidden_layer_sizes=(30,)).fit(X3, Y3)
    assert (model.predict_proba(X3) == model.predict_proba(X3)).all()
    assert not same(model, classifier(hidden_layer_sizes=(30,)).fit(X3, Y3))


def test_init_is_taken():
    zero = classifier(init="zeros", max_iter=1, solver="sgd", learning_rate_init=1e-9).fit(X3, Y3)
    assert np.abs(weights(zero)).max() < 1e-6
    assert not same(classifier(init="he_normal").fit(X3, Y3), classifier().fit(X3, Y3))


def test_classifier_and_regressor_have_the_same_arguments_and_defaults():
    """Each lists them, for scikit-learn reads signatures; the classes that they share check them all."""
    ours = [inspect.signature(kind).parameters for kind in (MLPClassifier, MLPRegressor)]
    shared = {name for name in ours[0] if name in ours[1]} - {"loss"}
    assert {name: ours[0][name] for name in shared} == {name: ours[1][name] for name in shared}
    for kind in (MLPClassifier, MLPRegressor):
        assert set(kind._parameter_constraints) == set(inspect.signature(kind).parameters)
        assert vars(kind()) == kind().get_params()
    assert set(ours[1]) == shared | {"loss"}


# -- training options ------------------------------------------------------------------------------------------------
def test_optimizer_schedule_callbacks_and_clipping():
    seen = []
    model = classifier(
        optimizer=xpnn.AdamW(lr=0.02, weight_decay=0.01),
        schedule=xpnn.CosineDecay(),
        callbacks=[xpnn.LambdaCallback(on_epoch_end=lambda trainer: seen.append(trainer.epoch))],
        clip_norm=0.1,
    ).fit(X3, Y3)
    assert seen == list(range(1, 11))
    assert model.history_["lr"][0] == pytest.approx(0.02, rel=0.05)
    assert model.history_["lr"][-1] < 0.002
    assert type(model._optimizer_) is xpnn.AdamW
    assert not same(model, classifier(optimizer=xpnn.AdamW(lr=0.02, weight_decay=0.01)).fit(X3, Y3))


def test_clipping_bounds_a_step():
    model = classifier(optimizer=xpnn.SGD(lr=1.0), clip_norm=1e-6, max_iter=1, batch_size=90).fit(X3, Y3)
    start = classifier(optimizer=xpnn.SGD(lr=0.0), max_iter=1, batch_size=90).fit(X3, Y3)
    assert np.linalg.norm(weights(model) - weights(start)) == pytest.approx(1e-6, rel=1e-5)


def test_history_has_all_columns():
    history = classifier().fit(X3, Y3, X_val=X3[:20], y_val=Y3[:20]).history_
    assert {"epoch", "loss", "val_loss", "lr", "grad_norm", "penalty", "seconds"} <= set(history.names)
    assert len(history) == 10


def test_history_and_curve_agree():
    model = classifier(alpha=0.1).fit(X3, Y3)
    assert model.history_["loss"] == model.loss_curve_


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_validation_data_of_ones_own_are_followed(solver):
    y = np.asarray(["a", "b", "c"])[Y3]
    w = np.linspace(0, 1, 30)
    model = classifier(solver=solver).fit(X3[30:], y[30:], X_val=X3[:30], y_val=y[:30], sample_weight_val=w)
    p = model.predict_proba(X3[:30])[np.arange(30), Y3[:30]]
    assert model.history_["val_loss"][-1] == pytest.approx(-(w * np.log(p)).sum() / w.sum(), rel=1e-6)


def test_validation_data_share_the_class_weights():
    table = {0: 1.0, 1: 4.0, 2: 0.5}
    model = classifier(class_weight=table).fit(X3[30:], Y3[30:], X_val=X3[:30], y_val=Y3[:30])
    w = np.asarray([table[c] for c in Y3[:30]])
    p = model.predict_proba(X3[:30])[np.arange(30), Y3[:30]]
    assert model.history_["val_loss"][-1] == pytest.approx(-(w * np.log(p)).sum() / w.sum(), rel=1e-6)


def test_early_stopping_on_ones_own_data_restores_the_best():
    model = classifier(early_stopping=True, max_iter=60, learning_rate_init=0.3, n_iter_no_change=100)
    model.fit(X3[30:], Y3[30:], X_val=X3[:30], y_val=Y3[:30])
    assert len(model.validation_scores_) == 60
    assert max(model.validation_scores_) > model.validation_scores_[-1]  # else this shows nothing
    assert model.score(X3[:30], Y3[:30]) == max(model.validation_scores_) == model.best_validation_score_
    assert model.best_epoch_ == int(np.argmax(model.validation_scores_)) + 1
    assert model.t_ == 60 * 60  # no row was held out


def test_warm_start_asks_no_class_of_the_validation_data():
    model = classifier(warm_start=True)
    for _ in range(2):
        model.fit(X3, Y3, X_val=X3[Y3 < 2], y_val=Y3[Y3 < 2])


class Interrupt(xpnn.training.Callback):
    """Press Ctrl-C in an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, trainer):
        if trainer.epoch == self.epoch:
            raise KeyboardInterrupt


@pytest.mark.parametrize("end", ["interrupt", "time", "divergence"])
def test_best_weights_are_restored_however_training_ends(end):
    options = {"early_stopping": True, "max_iter": 30, "learning_rate_init": 0.3, "n_iter_no_change": 100}
    warnings_of = ()
    if end == "interrupt":
        options["callbacks"], warnings_of = [Interrupt(20)], (UserWarning, "Training interrupted by user")
    elif end == "time":
        slow = xpnn.LambdaCallback(on_epoch_end=lambda trainer: time.sleep(0.02))
        options |= {"max_seconds": 0.3, "callbacks": [slow], "max_iter": 10_000}
    else:
        jump = xpnn.LambdaCallback(on_epoch_begin=lambda t: t.net.store.values.fill(np.nan) if t.epoch == 20 else None)
        options["callbacks"], warnings_of = [jump], (ConvergenceWarning, "Training diverged")
    model = classifier(**options)
    if warnings_of:
        with pytest.warns(warnings_of[0], match=warnings_of[1]):
            model.fit(X3[30:], Y3[30:], X_val=X3[:30], y_val=Y3[:30])
    else:
        model.fit(X3[30:], Y3[30:], X_val=X3[:30], y_val=Y3[:30])
        assert len(model.history_) < 100
    assert model.score(X3[:30], Y3[:30]) == np.nanmax(model.validation_scores_) == model.best_validation_score_


def test_max_seconds_ends_training_without_a_warning():
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        regressor(max_iter=10**6, tol=0.0, n_iter_no_change=np.inf, max_seconds=0.3).fit(XR, YR)
        model = regressor(solver="lbfgs", max_iter=10**6, tol=0.0, max_seconds=0.05, hidden_layer_sizes=(200, 200))
        model.fit(XR, YR)
    assert time.perf_counter() - began < 20
    assert model.n_iter_ == len(model.history_)


def test_ctrl_c_in_lbfgs_keeps_the_best_point(monkeypatch):
    calls = []
    forward = xpnn.Sequential.forward

    def counting(net, *args, **options):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return forward(net, *args, **options)

    model = classifier(solver="lbfgs", max_iter=100, alpha=0.0)
    monkeypatch.setattr(xpnn.Sequential, "forward", counting)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X3, Y3)
    monkeypatch.undo()
    p = model.predict_proba(X3)[np.arange(90), Y3]
    assert -np.log(p).mean() == pytest.approx(model.loss_)
    assert model.n_iter_ == len(model.history_) > 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"optimizer": xpnn.Adam(lr=0.1)}, "optimizer"),
        ({"schedule": xpnn.CosineDecay()}, "schedule"),
        ({"callbacks": [xpnn.EMA()]}, "callbacks"),
        ({"clip_norm": 1.0}, "clip_norm"),
        ({"dropout": [0.1]}, "dropout"),
        ({"norm": "batch"}, "norm='batch'"),
        ({"n_ensemble": 2, "clip_norm": 1.0}, "clip_norm, n_ensemble"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",  # no addresses: workers must agree
)
def test_lbfgs_refuses_what_it_has_no_use_for(options, named):
    with pytest.raises(OptionError, match=f"solver='lbfgs' takes all rows at once .* no use for {named}"):
        classifier(solver="lbfgs", **options).fit(X3, Y3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_val": X3}, "expected X_val and y_val together, got only X_val"),
        ({"y_val": Y3}, "expected X_val and y_val together, got only y_val"),
        ({"X_val": X3, "y_val": Y3 + 1}, "expected y_val to hold classes that y has, got 3 too"),
        ({"X_val": X3, "y_val": np.eye(3, dtype=int)[Y3]}, "expected y_val to be one label for each row, as y is"),
        ({"X_val": X3[:, :2], "y_val": Y3}, "X has 2 features"),
    ],
)
def test_wrong_validation_data(arguments, message):
    with pytest.raises(ValueError, match=message):
        classifier().fit(X3, Y3, **arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": [0.1, 0.2]}, "expected one dropout, or one for each of 1 hidden layers, got 2"),
        ({"activation": ["relu", "tanh"]}, "expected one activation, or one for each of 1 hidden layers, got 2"),
        ({"activation": ["ghost"]}, "ghost"),
        ({"norm": "group"}, "The 'norm' parameter of MLPClassifier must be"),
        ({"dropout": 1.0}, "The 'dropout' parameter of MLPClassifier must be"),
        ({"n_ensemble": 0}, "The 'n_ensemble' parameter of MLPClassifier must be"),
        ({"backend": "jax"}, "expected one of numpy, cupy, torch, strict or auto, got 'jax'"),
        ({"optimizer": "adam"}, "The 'optimizer' parameter of MLPClassifier must be"),
    ],
    ids=str,
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        classifier(**options).fit(X3, Y3)


# -- standardize -----------------------------------------------------------------------------------------------------
def test_standardize_measures_the_training_rows():
    model = regressor(standardize=True, early_stopping=True).fit(1000 * XR + 500, YR)
    assert not np.allclose(model.scaler_.shift, (1000 * XR + 500).mean(axis=0), rtol=1e-12)
    plain = regressor(standardize=True).fit(1000 * XR + 500, YR)
    np.testing.assert_allclose(plain.scaler_.shift, (1000 * XR + 500).mean(axis=0))
    by_hand = regressor().fit((XR - XR.mean(axis=0)) / XR.std(axis=0), YR)
    np.testing.assert_allclose(plain.predict(1000 * XR + 500), by_hand.predict((XR - XR.mean(axis=0)) / XR.std(axis=0)))


def test_standardize_of_sparse_rows_divides_without_centring():
    X = scipy.sparse.random(80, 6, density=0.3, random_state=0, format="csr") * 100
    sparse, dense = (regressor(standardize=True).fit(a, YR) for a in (X, X.toarray()))
    assert (sparse.scaler_.shift == 0).all()
    np.testing.assert_allclose(sparse.scaler_.scale, X.toarray().std(axis=0))
    np.testing.assert_allclose(sparse.scaler_.scale, dense.scaler_.scale)
    np.testing.assert_allclose(sparse.predict(X), sparse.predict(X.toarray()))
    assert sparse.input_gradient(X).shape == (80, 6)


# -- ensembles -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [classifier, regressor], ids=["classifier", "regressor"])
def test_an_ensemble_is_the_mean_of_networks_with_its_seeds(make):
    X, y = (X3, Y3) if make is classifier else (XR, YR)
    options = {"shuffle": False, "batch_size": 20}
    ensemble = make(n_ensemble=3, **options).fit(X, y)
    seeds = ensemble._seeds_of_members()
    members = [make(**{**options, "random_state": seed}).fit(X, y) for seed in seeds]
    method = "predict_proba" if make is classifier else "predict"
    alone = np.stack([getattr(m, method)(X) for m in members])
    mean, spread = getattr(ensemble, method)(X, return_std=True)
    np.testing.assert_allclose(mean, alone.mean(axis=0), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(spread, alone.std(axis=0), rtol=1e-5, atol=1e-8)
    assert ensemble.transform(X).shape == (len(X), 24)
    assert len(ensemble.history_.rows[0]["loss_replicas"]) == 3


def test_spread_of_a_binary_ensemble():
    X, y = X3[Y3 < 2], Y3[Y3 < 2]
    mean, spread = classifier(n_ensemble=4).fit(X, y).predict_proba(X, return_std=True)
    assert mean.shape == spread.shape == (len(X), 2)
    np.testing.assert_allclose(spread[:, 0], spread[:, 1])
    assert (spread > 0).all()


@pytest.mark.parametrize("make", [classifier, regressor], ids=["classifier", "regressor"])
def test_one_network_has_no_spread(make):
    model = make().fit(X3, Y3)
    with pytest.raises(ValueError, match="return_std=True expects an ensemble"):
        getattr(model, "predict_proba" if make is classifier else "predict")(X3, return_std=True)


# -- looking inside --------------------------------------------------------------------------------------------------
def test_transform_gives_the_units_of_a_layer():
    model = classifier(hidden_layer_sizes=(6, 4), activation="tanh", norm="layer").fit(X3, Y3)
    assert [model.transform(X3, layer=k).shape[1] for k in range(4)] == [5, 6, 4, 3]
    assert (model.transform(X3, layer=0) == X3).all()
    assert (model.transform(X3) == model.transform(X3, layer=2)).all()
    logits = model.transform(X3) @ model.coefs_[-1] + model.intercepts_[-1]
    np.testing.assert_allclose(model.transform(X3, layer=-1), logits)
    assert len(model.get_feature_names_out()) == 4
    with pytest.raises(ValueError, match=r"transform: expected a layer in -4..3, got 4"):
        model.transform(X3, layer=4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"standardize": True},
        {"residual": True, "hidden_layer_sizes": (7, 7, 7)},
        {"norm": "layer", "activation": "gelu"},
        {"norm": "batch", "dropout": 0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [classifier, regressor], ids=["classifier", "regressor"])
def test_input_gradient_is_that_of_finite_differences(make, options):
    X, y = (X3 * 5 + 2, Y3) if make is classifier else (XR * 5 + 2, YR)
    model = make(**{"activation": "tanh", **options}).fit(X, y)
    X, eps = X[:6], 1e-5
    for output in range(model.n_outputs_):
        numeric = np.stack(
            [
                (model.transform(X + e, layer=-1) - model.transform(X - e, layer=-1))[:, output] / (2 * eps)
                for e in eps * np.eye(5)
            ],
            axis=1,
        )
        np.testing.assert_allclose(model.input_gradient(X, output=output), numeric, rtol=1e-4, atol=1e-8)
    with pytest.raises(ValueError, match="input_gradient: expected an output in"):
        model.input_gradient(X, output=model.n_outputs_)


# -- tables ----------------------------------------------------------------------------------------------------------
def table(library, n=200, seed=0):
    """A frame in which a category decides, and a number adds to it; some cells are missing."""
    frames = pytest.importorskip(library, reason=f"needs {library}: pip install {library}")
    rng = np.random.default_rng(seed)
    color = rng.choice(["red", "green", "blue"], n)
    size = rng.normal(10, 3, n)
    code = rng.integers(1, 4, n)
    y = np.where(color == "red", 2.0, -1.0) + 0.3 * size + np.where(code == 2, 3.0, 0.0)
    size[::17] = np.nan
    frame = frames.DataFrame({"color": color, "size": size, "code": code})
    return frame, y


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_with_categories(library):
    X, y = table(library)
    options = {"hidden_layer_sizes": (16,), "max_iter": 200, "learning_rate_init": 0.02, "early_stopping": True}
    named = regressor(categorical_features=["color", "code"], **options).fit(X, y)
    assert named.score(X, y) > 0.85
    assert named.feature_names_in_.tolist() == ["color", "size", "code"]
    assert named.n_features_in_ == 3
    assert named.encoder_.feature_names_out[:3] == [f"color={c}" for c in _by_count(X, "color")]
    assert sum(name.startswith("code=") for name in named.encoder_.feature_names_out) == 3
    found = regressor(categorical_features="from_dtype", **options).fit(X, y)
    assert "code" in found.encoder_.feature_names_out  # a number, as its dtype says
    assert found.score(X, y) < named.score(X, y)
    assert len(named.predict(X[:7])) == 7


def _by_count(X, name):
    values, counts = np.unique(np.asarray(X[name], dtype=object).astype(str), return_counts=True)
    return [str(v) for _, v in sorted(zip(-counts, values, strict=True))]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dtypes_say_what_is_categorical(library):
    X, y = table(library)
    if library == "pandas":
        X["code"] = X["code"].astype("category")
        X["size"] = X["size"].astype("Float64")
        X["color"] = X["color"].astype("string").where(np.arange(len(X)) % 9 > 0)
    else:
        import polars

        X = X.with_columns(polars.col("code").cast(polars.String).cast(polars.Categorical))
    model = regressor(categorical_features="from_dtype", max_iter=200, learning_rate_init=0.02).fit(X, y)
    assert sum(name.startswith("code=") for name in model.encoder_.feature_names_out) == 3
    assert model.score(X, y) > 0.7
    assert np.isfinite(model.predict(X)).all()


def test_the_encoder_sees_the_training_rows_alone():
    X, y = table("pandas")
    options = {"categorical_features": "from_dtype", "early_stopping": True, "validation_fraction": 0.5, "max_iter": 2}
    model = regressor(**options).fit(X, y)
    fill = model.encoder_.to_dict()["columns"][1]["fill"]
    assert fill != np.nanmedian(X["size"])
    own = regressor(categorical_features="from_dtype").fit(X[:100], y[:100], X_val=X[100:], y_val=y[100:])
    assert own.encoder_.to_dict()["columns"][1]["fill"] == np.nanmedian(X["size"][:100])
    assert len(own.history_["val_loss"]) == 10


def test_tables_in_searches_streams_and_pickles():
    X, y = table("pandas")
    labels = np.where(y > np.median(y), "dear", "cheap")
    model = classifier(categorical_features="from_dtype", max_iter=50, learning_rate_init=0.02)
    search = GridSearchCV(model, {"width": [4, 8]}, cv=2).fit(X, labels)
    assert search.best_score_ > 0.75
    best = pickle.loads(pickle.dumps(search.best_estimator_))
    assert (best.predict(X) == search.predict(X)).all()
    stream = clone(model)
    for a in (0, 100):
        stream.partial_fit(X[a : a + 100], labels[a : a + 100], classes=["cheap", "dear"])
    assert stream.predict(X).shape == (200,)
    again = stream.set_params(categorical_features=None).fit(X[["size"]].fillna(0.0), labels)
    assert not hasattr(again, "encoder_")
    assert again.n_features_in_ == 1


def test_what_is_wrong_with_a_table_is_said():
    X, y = table("pandas")
    with pytest.raises(TypeError, match="categorical_features expects a pandas or polars frame, got ndarray"):
        regressor(categorical_features="from_dtype").fit(XR, YR)
    with pytest.raises(TypeError, match="expects columns named by text, got the name 0"):
        regressor(categorical_features="from_dtype").fit(X.set_axis([0, 1, 2], axis=1), y)
    with pytest.raises(OptionError, match="Did you mean 'color'"):
        regressor(categorical_features=["colour"]).fit(X, y)
    with pytest.raises(DataError, match="column 'color': expected a number"):
        regressor(categorical_features=["code"]).fit(X, y)
    model = regressor(categorical_features="from_dtype").fit(X, y)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X.rename(columns={"size": "length"}))
    with pytest.raises(TypeError, match="expects a pandas or polars frame"):
        model.predict(XR)
    with pytest.raises(ValueError, match=r"could not convert|Unable to convert"):
        regressor().fit(X, y)  # as scikit-learn: numbers alone


# -- carrying networks across ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression", "multioutput", "poisson"])
def test_networks_go_to_scikit_learn_and_back(task, activation):
    X, y, more = {
        "binary": (X3, Y3 > 0, {}),
        "multiclass": (X3, np.asarray(["a", "b", "c"])[Y3], {}),
        "multilabel": (X3, np.stack([Y3 > 0, Y3 > 1, X3[:, 0] > 0], axis=1).astype(int), {}),
        "regression": (XR, YR, {}),
        "multioutput": (XR, np.stack([YR, -YR], axis=1), {}),
        "poisson": (XR, np.floor(np.abs(YR)), {"loss": "poisson"}),
    }[task]
    kind = "MLPRegressor" if task in ("regression", "multioutput", "poisson") else "MLPClassifier"
    options = {"activation": activation, "random_state": 0, "max_iter": 10, "hidden_layer_sizes": (7, 4), **more}
    theirs = getattr(neural_network, kind)(**options).fit(X, y)
    ours = from_sklearn(theirs)
    back = to_sklearn(ours)
    for method in ("predict", "predict_proba"):
        if hasattr(theirs, method):
            expected = getattr(theirs, method)(X)
            for other in (ours, back):
                found = getattr(other, method)(X)
                if expected.dtype.kind == "f":
                    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
                else:
                    assert (found == expected).all()
    assert back.get_params() == theirs.get_params()
    ours.partial_fit(X, y)
    back.partial_fit(X, y)


def test_sparse_arrays_and_pickles_cross_too():
    ours = classifier(dropout=0.2).fit(X3, Y3)
    theirs = to_sklearn(ours)
    np.testing.assert_allclose(theirs.predict_proba(X3), ours.predict_proba(X3), rtol=1e-10)
    assert type(theirs.coefs_[0]) is np.ndarray
    backend_or_skip("torch")
    there = to_sklearn(classifier(backend="torch").fit(X3, Y3))
    assert type(there.coefs_[0]) is np.ndarray


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"activation": "gelu"}, "the activation 'gelu'"),
        ({"norm": "layer"}, "normalization layers"),
        ({"residual": True, "hidden_layer_sizes": (4, 4)}, "residual connections"),
        ({"n_ensemble": 2}, "an ensemble"),
        ({"loss": "focal"}, "the loss 'focal'"),
    ],
    ids=str,
)
def test_what_scikit_learn_has_not_cannot_go_there(options, part):
    with pytest.raises(OptionError, match=f"expected a network that scikit-learn has, got {part}"):
        to_sklearn(classifier(**options).fit(X3, Y3))


def test_conversion_wants_fitted_perceptrons():
    with pytest.raises(OptionError, match="got two outputs for two classes"):
        to_sklearn(classifier(label_smoothing=0.1).fit(X3, Y3 > 0))
    with pytest.raises(OptionError, match="to_sklearn: expected a fitted estimator"):
        to_sklearn(classifier())
    with pytest.raises(OptionError, match="from_sklearn: expected a fitted estimator"):
        from_sklearn(neural_network.MLPClassifier())
    with pytest.raises(OptionError, match="from_sklearn: expected a MLPClassifier or MLPRegressor of scikit-learn"):
        from_sklearn(Perceptron())


# -- Rosenblatt's perceptron -------------------------------------------------------------------------------------------
def test_perceptron_by_hand():
    X, y = np.asarray([[0, 0], [0, 1], [1, 0], [1, 1]]), np.asarray([0, 0, 0, 1])
    model = Perceptron().fit(X, y)
    w, b, updates = np.zeros(2), 0.0, []
    while not updates or updates[-1]:
        updates.append(0)
        for row, target in zip(X, y, strict=True):
            error = target - int(row @ w + b >= 0)
            w, b = w + error * row, b + error
            updates[-1] += abs(error)
    assert model.updates_per_epoch_ == updates
    assert model.coef_.tolist() == [w.tolist()]
    assert model.intercept_.tolist() == [b]
    assert model.n_iter_ == len(updates)


def test_perceptron_on_iris():
    X, y = load_iris(return_X_y=True)
    separable = Perceptron().fit(X[:100], y[:100])
    assert separable.converged_
    assert separable.score(X[:100], y[:100]) == 1.0
    radius = np.linalg.norm(np.c_[X[:100], np.ones(100)], axis=1).max()
    w = np.r_[separable.coef_[0], separable.intercept_]
    margin = (np.where(y[:100] == 1, 1, -1) * (np.c_[X[:100], np.ones(100)] @ w)).min() / np.linalg.norm(w)
    assert sum(separable.updates_per_epoch_) <= (radius / margin) ** 2
    assert not Perceptron(max_iter=20).fit(X[50:], y[50:]).converged_
    shuffled = [Perceptron(shuffle=True, random_state=s).fit(X[:100], y[:100]).updates_per_epoch_ for s in (0, 0, 1)]
    assert shuffled[0] == shuffled[1]
    with pytest.raises(ValueError, match="Perceptron: expected two classes, got 3"):
        Perceptron().fit(X, y)
    with pytest.raises(ValueError, match="expected two classes, got only one class"):
        Perceptron().fit(X[:10], y[:10])


# -- forked workers ----------------------------------------------------------------------------------------------------
def fake_cupy(monkeypatch):
    """Enough of CuPy for a probe to find a GPU."""
    import importlib.machinery

    fake = types.ModuleType("cupy")
    fake.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 1, CUDARuntimeError=type("E", (RuntimeError,), {}))

    class Device:
        def __init__(self, index=0):
            self.id = index

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    class Array(np.ndarray):
        def get(self):
            return np.asarray(self)

    fake.cuda = types.SimpleNamespace(runtime=runtime, Device=Device)
    fake.zeros = lambda shape, dtype: np.zeros(shape, dtype).view(Array)
    monkeypatch.setitem(sys.modules, "cupy", fake)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork\\(\\) was called:RuntimeWarning")  # of JAX, if another test has loaded it
def test_a_forked_worker_is_told_so_and_does_not_hang(monkeypatch):
    fake_cupy(monkeypatch)
    monkeypatch.setattr("xpnn.backend.probe.CUDA_BEGAN", {})
    assert xpnn.available_backends()["cupy"] == "ok"  # this process has now asked CUDA
    made = xpnn.get_backend("numpy").with_dtype("float64")
    object.__setattr__(made, "name", "cupy")  # stands for a backend that was made before the fork
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(20)
            said = []
            for action in (
                lambda: classifier(backend="cupy").fit(X3, Y3),
                made.active,
            ):
                try:
                    action()
                    said.append("nothing")
                except BackendUnavailableError as error:
                    said.append(str(error))
            said.append(xpnn.get_backend("auto").name)
            os.write(write, "\n".join(said).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read().splitlines()
    os.waitpid(child, 0)
    assert len(said) == 3
    for sentence in said[:2]:
        assert "this process was forked from one that had used CUDA already" in sentence
        assert "pass n_jobs=1, or start workers afresh with joblib's 'loky'" in sentence
    assert said[2] == "numpy"
    assert xpnn.available_backends()["cupy"] == "ok"  # the parent goes on
