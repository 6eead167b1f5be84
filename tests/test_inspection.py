"""Importance of columns, and groups of rows: against what they must be, and against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn import inspection
from xpnn.data import TableEncoder
from xpnn.data.targets import ClassTarget, NumberTarget
from xpnn.errors import OptionError, ShapeError
from xpnn.inspection import permutation_importance, worst_groups
from xpnn.predictor import Predictor


def table(n=400, seed=0):
    rng = np.random.default_rng(seed)
    columns = {
        "size": rng.uniform(20, 200, n),
        "town": rng.choice(["Ulm", "Bern", "Wien"], n).astype(object),
        "noise": rng.normal(size=n),
    }
    columns["size"][::17] = np.nan
    price = np.nan_to_num(columns["size"], nan=100) * 10 + 500 * (columns["town"] == "Wien")
    return columns, price


@pytest.fixture(scope="module")
def prices():
    """A predictor of prices from a table with bins, and rows it was not trained on."""
    X, y = table()
    encoder, target = TableEncoder(bins=8).fit(X), NumberTarget().fit(y)
    net = xpnn.mlp([len(encoder.feature_names_out), 32, 1], "silu", seed=0)
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(lr=0.01), metrics=())
    trainer.fit(encoder.transform(X), target.encode(y), epochs=60, batch_size=64)
    return Predictor(net, xpnn.MeanSquaredError(), target, encoder), *table(300, seed=1)


@pytest.fixture(scope="module")
def moons():
    X, y = xpnn.data.make_moons(400, noise=0.1, seed=0)
    X = np.concatenate([X, np.random.default_rng(0).normal(size=(400, 1))], axis=1)
    scaler = xpnn.data.Standardizer().fit(X)
    net = xpnn.mlp([3, 16, 2], "tanh", seed=0)
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02)).fit(scaler.transform(X), y, epochs=40, batch_size=50)
    return Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(y), scaler), X, y


# -- importance -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("metric", ["rmse", "mae", "r2"])
def test_shuffling_inputs_is_shuffling_the_columns(prices, metric):
    """The inputs of a column are moved together: the same numbers as if the table itself were shuffled."""
    predictor, X, y = prices
    found = permutation_importance(predictor, X, y, metric, n_repeats=3, seed=5)
    assert set(found.names) == set(X)
    rng = xpnn.random.stream(5, "permutation importance")
    orders = [rng.permutation(len(y)) for _ in range(3)]
    sign = 1 if metric == "r2" else -1
    whole = predictor.score(X, y)[metric]
    assert found.score == pytest.approx(whole, rel=1e-6)
    for name, values in zip(found.names, found.values, strict=True):
        for order, value in zip(orders, values, strict=True):
            moved = predictor.score({**X, name: X[name][order]}, y)[metric]
            assert value == pytest.approx(sign * (whole - moved), rel=1e-5, abs=1e-5)
    np.testing.assert_allclose(found.mean, found.values.mean(axis=1))
    np.testing.assert_allclose(found.std, found.values.std(axis=1))


def test_the_order_is_that_of_what_was_used(prices):
    predictor, X, y = prices
    found = permutation_importance(predictor, X, y)
    assert found.names == ("size", "town", "noise")
    assert found.mean[1] > 10 * abs(found.mean[2])
    assert (found.metric, found.rows, found.values.shape) == ("rmse", 300, (3, 5))


@pytest.mark.parametrize("metric", ["cross_entropy", "accuracy"])
def test_classes_agree_with_scikit_learn(moons, metric):
    sklearn = pytest.importorskip("sklearn.inspection", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    predictor, X, y = moons

    def score(_, X, y):
        return predictor.score(X, y)[metric] * (-1 if metric == "cross_entropy" else 1)

    class Fitted:  # what scikit-learn asks for
        def fit(self):
            raise NotImplementedError

    found = permutation_importance(predictor, X, y, metric, n_repeats=30)
    theirs = sklearn.permutation_importance(Fitted(), X, y, scoring=score, n_repeats=30, random_state=0)
    ours = dict(zip(found.names, found.mean, strict=True))
    for j, mean in enumerate(theirs.importances_mean):
        assert ours[f"x{j + 1}"] == pytest.approx(mean, abs=3 * theirs.importances_std[j] / np.sqrt(15) + 1e-3)
    assert found.names[-1] == "x3"


def test_a_metric_of_ones_own(moons, prices):
    predictor, X, y = moons

    def recall_of_ones(truth, out):
        assert out.shape == (400, 2)
        return float((out[truth == 1, 1] > 0.5).mean())

    found = permutation_importance(predictor, X, y, recall_of_ones)
    assert found.metric == "recall_of_ones"
    assert found.score > 0.9
    assert found.mean[0] > 0.1
    assert permutation_importance(predictor, X, y, "auc").score > 0.99
    predictor, X, y = prices
    negative = permutation_importance(predictor, X, y, lambda truth, guess: -float(np.abs(truth - guess).max()))
    assert negative.score < 0 < negative.mean[0]


def test_names_of_a_frame(moons):
    pandas = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    _, X, y = moons
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    scaler = xpnn.data.Standardizer().fit(frame)
    predictor = Predictor(xpnn.mlp([3, 2], seed=0), xpnn.CrossEntropy(), ClassTarget().fit(y), scaler)
    assert set(permutation_importance(predictor, frame, y).names) == {"a", "b", "c"}


def test_the_seed_and_the_rows_drawn(prices):
    predictor, X, y = prices
    one, two = (permutation_importance(predictor, X, y, max_rows=50, seed=s) for s in (0, 0))
    assert one.rows == 50
    np.testing.assert_array_equal(one.values, two.values)
    other = permutation_importance(predictor, X, y, max_rows=50, seed=1)
    assert not np.array_equal(one.values, other.values)


def test_what_importance_refuses(prices, moons):
    predictor, X, y = prices
    with pytest.raises(OptionError, match=r"a score of numbers among mae, mse, rmse, r2, got 'rsme'. Did you"):
        permutation_importance(predictor, X, y, "rsme")
    with pytest.raises(OptionError, match=r"a score of classes among accuracy.*got 'rmse'"):
        permutation_importance(*moons, "rmse")
    for bad in (0, 2.5, True):
        with pytest.raises(OptionError, match="expected n_repeats to be a whole number from 1 on"):
            permutation_importance(predictor, X, y, n_repeats=bad)
    with pytest.raises(ShapeError, match="got 300 rows and 299 targets"):
        permutation_importance(predictor, X, y[1:])


# -- groups ---------------------------------------------------------------------------------------------------------
def test_the_group_that_is_wrong_is_found():
    rng = np.random.default_rng(0)
    n = 2000
    age, town = rng.uniform(18, 90, n), rng.choice(["Ulm", "Bern", "Wien", "Graz"], n).astype(object)
    wrong = (rng.random(n) < 0.1) | ((town == "Graz") & (rng.random(n) < 0.3)) | ((age > 75.6) & (rng.random(n) < 0.2))
    found = {group.column: group for group in worst_groups({"age": age, "town": town}, wrong)}
    assert found["town"].value == "Graz"
    assert found["town"].rows == (town == "Graz").sum()
    assert found["town"].error == pytest.approx(wrong[town == "Graz"].mean())
    assert found["town"].rest == pytest.approx(wrong[town != "Graz"].mean())
    assert found["town"].low < found["town"].error < found["town"].high
    assert found["town"].stands_out
    low, _, high = found["age"].value.partition(" to ")
    assert (float(low), float(high)) == pytest.approx((np.quantile(age, 0.8), age.max()), rel=1e-3)
    assert found["age"].stands_out


def test_small_groups_do_not_shout():
    """Three wrong of five rows are a larger share than 250 of 500, and say less."""
    wrong = np.zeros(2000)
    wrong[:250] = wrong[500:503] = wrong[1000:1100] = 1
    town = np.asarray(["big"] * 500 + ["tiny"] * 5 + ["rest"] * 1495, dtype=object)
    (worst,) = worst_groups({"town": town}, wrong)
    assert (worst.value, worst.rows) == ("big", 500)


@pytest.mark.parametrize("kind", ["shares", "distances"])
def test_chance_stands_out_in_5_of_100_tables(kind):
    """Errors that have nothing to do with 10 columns: of all groups together one is named in 5 % of tables at most."""
    rng, named = np.random.default_rng(3), 0
    for _ in range(120):
        columns = {f"c{j}": rng.choice(list("abcdefgh"), 300).astype(object) for j in range(10)}
        error = rng.random(300) < 0.2 if kind == "shares" else np.abs(rng.normal(size=300))
        named += any(group.stands_out for group in worst_groups(columns, error))
    assert named / 120 <= 0.1


def test_gaps_few_values_flags_and_many_categories_are_groups():
    n = 1000
    rng = np.random.default_rng(4)
    error = rng.random(n)
    columns = {
        "gappy": np.where(np.arange(n) < 100, np.nan, rng.normal(size=n)),
        "rooms": rng.integers(1, 6, n).astype(float),
        "flag": np.arange(n) >= 900,
        "street": np.asarray([f"street {i % 120}" if i < 800 else "High Street" for i in range(n)], dtype=object),
        "constant": np.ones(n),
        "mostly_zero": np.maximum(rng.normal(size=n) - 0.5, 0),
        "word": np.asarray([None if i < 100 else "x" for i in range(n)], dtype=object),
    }
    error[:100] += 1
    error[columns["rooms"] == 4] += 1
    error[900:] += 1
    found = {group.column: group for group in worst_groups(columns, error)}
    assert found["gappy"].value == found["word"].value == "missing"
    assert found["rooms"].value == "4"
    assert found["flag"].value == "True"
    assert found["street"].rows >= 5
    assert "constant" not in found
    labels = {label for label, _ in inspection._groups("zeros", columns["mostly_zero"], n)}
    assert "0" in labels
    assert len(labels) == 3
    ends = [group.rest - group.low for group in worst_groups(columns, error)]
    assert ends == sorted(ends)
    assert all(group.rest_high > group.rest for group in found.values())


def test_frames_and_errors_that_do_not_fit():
    polars = pytest.importorskip("polars", reason="needs polars: pip install polars")
    frame = polars.DataFrame({"a": ["x"] * 10 + ["y"] * 10, "b": [1, 2, 3, 4] * 5})
    worst = worst_groups(frame, [0] * 10 + [1] * 10)
    assert [(group.column, group.value, group.error, group.rest) for group in worst[:1]] == [("a", "y", 1.0, 0.0)]
    with pytest.raises(ShapeError, match="expected one error for each row, got 3 for 20 rows in column 'a'"):
        worst_groups(frame, [0, 1, 0])
    assert worst_groups({"a": np.arange(3.0)}, [0, 0, 1]) == []
