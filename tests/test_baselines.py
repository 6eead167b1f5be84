"""Simple models beside a network: right by themselves, compared fairly, and told in a sentence."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import xpnn
from xpnn import baselines
from xpnn.baselines import Baseline, Comparison, compare_baselines
from xpnn.data import Standardizer, TableEncoder
from xpnn.data.targets import ClassTarget, NumberTarget
from xpnn.errors import ShapeError
from xpnn.predictor import Predictor


def rows(n, seed, noise=0.3):
    """A target that is linear in one column, and in another a step that a line does not see."""
    rng = np.random.default_rng(seed)
    X = {"a": rng.normal(size=n), "b": rng.uniform(-1, 1, n), "town": rng.choice(["x", "y", "z"], n).astype(object)}
    return X, 2 * X["a"] + 4 * (np.abs(X["b"]) < 0.5) + (X["town"] == "z") + noise * rng.normal(size=n)


def of_numbers(X, y, epochs, lr=0.01):
    encoder, target = TableEncoder(bins=8).fit(X), NumberTarget().fit(y)
    net = xpnn.mlp([len(encoder.feature_names_out), 32, 1], "silu", seed=0)
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(lr=lr), metrics=())
    trainer.fit(encoder.transform(X), target.encode(y), epochs=epochs, batch_size=64)
    return Predictor(net, xpnn.MeanSquaredError(), target, encoder)


def of_classes(X, y, epochs, scaler=None, lr=0.01):
    scaler, target = scaler or Standardizer().fit(X), ClassTarget().fit(y)
    net = xpnn.mlp([X.shape[1], 32, len(target.classes)], seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=lr), metrics=())
    trainer.fit(scaler.transform(X), target.encode(y), epochs=epochs, batch_size=64)
    return Predictor(net, xpnn.CrossEntropy(), target, scaler)


# -- the models -----------------------------------------------------------------------------------------------------
def test_baselines_of_numbers_are_what_scikit_learn_makes():
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    from sklearn.linear_model import Ridge

    (X, y), (X_test, y_test) = rows(600, 0), rows(400, 1)
    found = compare_baselines(of_numbers(X, y, 60), X, y, X_test, y_test)
    assert [(each.name, each.rows) for each in found.baselines] == [("constant", 600), ("linear", 600), ("trees", 600)]
    constant, linear, trees = found.baselines
    assert constant.what == f"always {y.mean():,.6g} (the mean)"
    assert constant.scores["rmse"] == pytest.approx(np.sqrt(np.square(y_test - y.mean()).mean()), rel=1e-5)
    assert constant.scores["mae"] == pytest.approx(np.abs(y_test - y.mean()).mean(), rel=1e-5)
    plain = TableEncoder().fit(X)
    inputs, tested = plain.transform(X), plain.transform(X_test)
    for ours, model in ((linear, Ridge()), (trees, ensemble.HistGradientBoostingRegressor(random_state=0))):
        guess = np.clip(model.fit(inputs, y).predict(tested), y.min(), y.max())
        assert ours.scores["rmse"] == pytest.approx(np.sqrt(np.square(guess - y_test).mean()), rel=0.01)
    assert linear.learns
    assert trees.learns
    assert not constant.learns


def test_baselines_of_classes_are_what_scikit_learn_makes():
    ensemble = pytest.importorskip("sklearn.ensemble", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    from sklearn.linear_model import LogisticRegression

    X, codes = xpnn.data.make_blobs(600, 0.4, 0, n_classes=3)
    y = np.asarray(["red", "green", "blue"], dtype=object)[codes]
    found = compare_baselines(of_classes(X[:400], y[:400], 30), X[:400], y[:400], X[400:], y[400:])
    constant, linear, trees = found.baselines
    classes, counts = np.unique(y[:400], return_counts=True)
    assert constant.what == f"always “{classes[counts.argmax()]}”"
    assert constant.scores["accuracy"] == (y[400:] == classes[counts.argmax()]).mean()
    scaler = Standardizer().fit(X[:400])
    inputs, tested = scaler.transform(X[:400]), scaler.transform(X[400:])
    models = LogisticRegression(), ensemble.HistGradientBoostingClassifier(random_state=0, max_iter=100)
    for ours, model in zip((linear, trees), models, strict=True):
        out = model.fit(inputs, y[:400]).predict_proba(tested)
        place = np.searchsorted(model.classes_, y[400:])
        assert ours.scores["accuracy"] == pytest.approx((model.classes_[out.argmax(1)] == y[400:]).mean(), abs=0.011)
        assert ours.scores["cross_entropy"] == pytest.approx(-np.log(out[np.arange(200), place]).mean(), rel=0.02)


def test_scores_of_the_network_are_the_predictors():
    (X, y), (X_test, y_test) = rows(300, 0), rows(200, 1)
    predictor = of_numbers(X, y, 20)
    found, scores = compare_baselines(predictor, X, y, X_test, y_test), predictor.score(X_test, y_test)
    assert found.scores == pytest.approx({name: scores[name] for name in ("rmse", "mae")})
    assert (found.rows, found.trained) == (200, 300)
    assert compare_baselines(predictor, X, y, X_test, y_test, trained=9000).trained == 9000
    for each in found.baselines:
        gain, low, high = each.gains["rmse"]
        assert gain == pytest.approx(each.scores["rmse"] - found.scores["rmse"])
        assert low < gain < high


def test_rows_are_drawn_by_the_seed():
    (X, y), (X_test, y_test) = rows(500, 0), rows(100, 1)
    predictor = of_numbers(X, y, 2)
    one, same, other = (compare_baselines(predictor, X, y, X_test, y_test, max_rows=60, seed=s) for s in (1, 1, 2))
    assert {each.rows for each in one.baselines} == {60}
    assert one == same
    assert one != other


def test_tables_of_text_as_a_file_has_them():
    """Cells as they are written, with thousands apart and dates, are read as the network reads them."""
    rng = np.random.default_rng(0)
    n = 300
    day = np.datetime64("2024-01-01") + rng.integers(0, 300, n).astype("timedelta64[D]")
    rent = rng.uniform(500, 9000, n)
    X = {"rent": np.asarray([f"{r:,.2f}" for r in rent], dtype=object), "day": day.astype(str).astype(object)}
    y = rent + 3 * (day - day.min()).astype(float)
    encoder, target = TableEncoder(numeric=["rent"]).fit(X), NumberTarget().fit(y)
    net = xpnn.mlp([len(encoder.feature_names_out), 1], init="zeros")
    found = compare_baselines(Predictor(net, xpnn.MeanSquaredError(), target, encoder), X, y, X, y)
    linear = found.baselines[1]
    assert linear.scores["rmse"] < 0.2 * found.baselines[0].scores["rmse"]


def test_without_scikit_learn_and_where_trees_would_take_long(monkeypatch):
    (X, y), (X_test, y_test) = rows(200, 0), rows(100, 1)
    predictor = of_numbers(X, y, 1)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "sklearn.ensemble", None)
        assert [b.name for b in compare_baselines(predictor, X, y, X_test, y_test).baselines] == ["constant", "linear"]
    monkeypatch.setattr(baselines, "_TREE_WORK", 1000)
    assert [b.name for b in compare_baselines(predictor, X, y, X_test, y_test).baselines] == ["constant", "linear"]


def test_a_class_that_was_not_drawn_and_one_class_alone():
    X, y = np.random.default_rng(0).normal(size=(60, 2)), np.asarray(["a", "b", "c"] * 20)
    predictor = of_classes(X, y, 1)
    some = y != "c"
    found = compare_baselines(predictor, X[some], y[some], X, y)
    assert all(np.isfinite(each.scores["cross_entropy"]) for each in found.baselines)
    one = y == "a"
    found = compare_baselines(predictor, X[one], y[one], X, y)
    assert [each.name for each in found.baselines] == ["constant"]
    assert found.baselines[0].scores["accuracy"] == pytest.approx(1 / 3)


def test_columns_that_do_not_vary_leave_the_constant():
    X, y = {"a": np.asarray([1.0, 2.0] * 20)}, np.arange(40.0)
    predictor = of_numbers(X, y, 1)
    found = compare_baselines(predictor, {"a": np.ones(10)}, y[:10], X, y)
    assert [each.name for each in found.baselines] == ["constant"]
    with pytest.raises(ShapeError, match="expected rows to train on and to test on, got none"):
        compare_baselines(predictor, X, y, {"a": np.ones(0)}, [])


# -- words ----------------------------------------------------------------------------------------------------------
def test_a_network_that_learned_nothing_says_so():
    """The columns tell the target, a linear model finds it, and the network with no training does not."""
    (X, y), (X_test, y_test) = rows(400, 0), rows(400, 1)
    found = compare_baselines(of_numbers(X, y, 1, lr=1e-9), X, y, X_test, y_test)
    assert not found.useful
    assert str(found).startswith("The network is ")
    assert "than always answering" in str(found)
    assert "a linear model and gradient-boosted trees do learn from the same rows, so the training went wrong." in str(
        found
    )


def test_columns_that_tell_nothing():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(600, 3)), np.asarray(["no"] * 450 + ["yes"] * 150)
    found = compare_baselines(of_classes(X[::2], y[::2], 2), X[::2], y[::2], X[1::2], y[1::2])
    assert not found.useful
    assert "than always answering “no”: a linear model and gradient-boosted trees learn nothing either" in str(found)


def test_a_good_network_is_better_than_simple_models():
    (X, y), (X_test, y_test) = rows(1500, 0, noise=0.05), rows(1000, 1, noise=0.05)
    found = compare_baselines(of_numbers(X, y, 80), X, y, X_test, y_test)
    assert found.useful
    assert str(found).startswith(f"The network is better than always answering {y.mean():,.6g} (the mean)")
    assert "a linear model" in str(found)


def three(gain, spread):
    return gain, gain - spread, gain + spread


def made(constant, linear=None, trees=None, probabilities=(0.0, 0.1)):
    """A comparison of classes whose network is better by so much."""
    gains = {"constant": constant, "linear": linear, "trees": trees}
    whats = {"constant": "always “no”", "linear": "a linear model", "trees": "gradient-boosted trees"}
    found = [
        Baseline(name, whats[name], 10, {}, {"accuracy": three(gain, 0.02), "cross_entropy": three(*probabilities)})
        for name, gain in gains.items()
        if gain is not None
    ]
    return Comparison(100, 10, {}, found)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (made(0.1), "The network is better than always answering “no”."),
        (made(0.1, 0.1), "The network is better than always answering “no” and a linear model."),
        (
            made(0.1, 0.1, 0.1),
            "The network is better than always answering “no”, a linear model and gradient-boosted trees.",
        ),
        (
            made(0.1, 0.1, 0.0),
            "The network is better than always answering “no” and a linear model, and as good as gradient-boosted "
            "trees.",
        ),
        (made(0.1, 0.0, 0.0), "A linear model does as well, and is simpler."),
        (made(0.1, -0.1, 0.0), "A linear model does better, and is simpler."),
        (made(0.1, 0.1, -0.1), "Gradient-boosted trees with default settings do better."),
        (
            made(0.1, -0.1, -0.1),
            "A linear model does better, and is simpler. Gradient-boosted trees with default settings do better.",
        ),
        (
            made(0.0),
            "The network is no better than always answering “no”: either the columns do not tell the target, or the "
            "training went wrong.",
        ),
        (
            made(-0.1, 0.0),
            "The network is worse than always answering “no”: a linear model learns nothing either, so the columns "
            "hardly tell the target.",
        ),
        (
            made(0.0, probabilities=(0.2, 0.1)),
            "The network is right no more often than always answering “no”, but its probabilities tell more than the "
            "shares of the classes: use those, or another threshold.",
        ),
    ],
)
def test_each_outcome_has_its_sentence(found, said):
    assert str(found) == said
    useless = said.startswith(("The network is no better", "The network is worse"))
    assert found.useful == (not useless)
