"""What wrong tables, targets and options are told: each with its sentence, and nothing lost."""

from __future__ import annotations

import re
import time
from pathlib import Path

import numpy as np
import pytest

from xpnn.errors import DataError, DTypeError, LabelError, OptionError, ShapeError
from xpnn.tabular import Recipe, TabularClassifier, TabularRegressor, memory

FAST = {"preset": "quick", "hidden": (16,), "epochs": 4, "batch_size": 32}
N = 120
X = {"size": np.random.default_rng(0).normal(size=N), "kind": np.array(["a", "b", "c"] * 40, dtype=object)}
Y = X["size"] + (X["kind"] == "a")
LABEL = np.where(Y > 0.3, "up", "down")


def regressor(**options):
    return TabularRegressor(**(FAST | options))


def classifier(**options):
    return TabularClassifier(**(FAST | options))


# -- targets --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "y", "error", "message"),
    [
        (
            classifier,
            np.array([f"id{k}" for k in range(N)]),
            LabelError,
            "expected labels that repeat, got 120 different",
        ),
        (classifier, np.arange(N), LabelError, "a quantity needs the regression task"),
        (classifier, np.full(N, "yes"), LabelError, "expected at least two classes, got only 'yes' in all 120 rows"),
        (classifier, Y, LabelError, "Unknown label type: continuous.* use TabularRegressor"),
        (classifier, np.column_stack([LABEL, LABEL]), LabelError, "expected one label for each row, got y of shape"),
        (regressor, np.full(N, 7.0), DataError, "expected values that vary, got 7 in all 120 rows"),
        (regressor, np.column_stack([Y, np.ones(N)]), DataError, "target, column 2: expected values that vary, got 1"),
        (regressor, np.array(["a", "b"] * 60), DataError, "target.*expected a number, got 'a'"),
        (regressor, np.where(np.arange(N) == 5, np.nan, Y), DataError, "Input y contains NaN in 1 of 120 rows .*row 5"),
        (regressor, np.where(np.arange(N) == 5, np.inf, Y), DataError, "Input y contains infinity in 1 of 120 rows"),
        (regressor, np.array([None, *Y[1:]], dtype=object), DataError, "target: expected a value in every row"),
        (classifier, np.array([None, *LABEL[1:]], dtype=object), DataError, "target: expected a value in every row"),
        (regressor, Y[:-1], ShapeError, "expected one target for each row, got 119 for 120 rows"),
        (regressor, None, DataError, "requires y to be passed, but the target y is None"),
    ],
)
def test_targets(make, y, error, message):
    model = make()
    with pytest.raises(error, match=message):
        model.fit(X, y)
    assert not hasattr(model, "predictor_")


def test_a_target_that_numbers_the_rows():
    with pytest.warns(UserWarning, match=r"target: numbers the rows from 7 to 126, each once; if it is an identifier"):
        model = regressor().fit(X, np.random.default_rng(0).permutation(N) + 7)
    assert len(model.predict(X)) == N
    regressor().fit(X, np.random.default_rng(0).permutation(N) * 2)


# -- columns --------------------------------------------------------------------------------------------------------
def test_duplicate_names():
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    frame = pd.DataFrame(np.ones((N, 2)), columns=["a", "a"])
    with pytest.raises(DataError, match=r"expected columns with different names in the frame, got 'a' twice"):
        regressor().fit(frame, Y)
    with pytest.raises(DataError, match=r"expected columns of different names in X, got two of one name"):
        regressor().fit({"1": Y, 1: Y}, Y)


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (np.zeros(N), ShapeError, r"expected X of shape \(n_samples, n_features\), got \(120,\). Reshape your data"),
        (np.zeros((0, 2)), DataError, r"got 0 sample\(s\)"),
        (np.zeros((N, 0)), DataError, r"got 0 feature\(s\)"),
        ({"a": Y, "b": Y[1:]}, ShapeError, "got 120 rows in 'a' and 119 in 'b'"),
        ({"a": []}, DataError, r"got 0 sample\(s\)"),
        ({}, DataError, "expected columns of different names in X, got none"),
        ({"a": np.ones(N)}, DataError, "expected a column that varies, got none. a: left out, every value is 1"),
        (np.zeros((N, 2), complex), DataError, "Complex data not supported"),
        ({"a": np.where(np.arange(N) == 3, np.inf, Y)}, DataError, "column 'a': expected finite numbers.*data row"),
    ],
)
def test_tables(table, error, message):
    with pytest.raises(error, match=message):
        regressor(validation_fraction=0.0).fit(table, Y)


def test_sparse_matrices():
    sparse = pytest.importorskip("scipy.sparse", reason="needs SciPy: pip install scipy")
    with pytest.raises(DTypeError, match=r"got a sparse matrix. Pass X.toarray"):
        regressor().fit(sparse.eye(N).tocsr(), Y)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["2024-01-31", "01.02.2024", "2024-03-01"],
            "and '01.02.2024'. Write them in one, such as 2020-01-31.",
        ),
        (
            ["1/2/2024", "2/3/2024", "3/1/2024"],
            "Write them as 2020-01-31, or say --dayfirst yes or no, in Python dayfirst=True or False",
        ),
    ],
)
def test_dates_that_can_be_read_in_two_ways(cells, message):
    table = X | {"day": np.array(cells * 40, dtype=object)}
    with pytest.warns(UserWarning, match=f"day: taken as text. .*{re.escape(message)}"):
        model = regressor().fit(table, Y)
    assert len(model.predict(table)) == N
    if "dayfirst" in message:
        assert regressor(dayfirst=True).fit(table, Y).notes_[0].startswith("day: dates from 2024-01-03")


def test_numbers_that_can_be_read_in_two_ways():
    table = X | {"price": np.array([f"{k % 9 + 1},{100 + k}" for k in range(N)], dtype=object)}
    with pytest.warns(UserWarning, match=r"price: .* It is read as text. Say which with decimal='.' or decimal=','"):
        regressor().fit(table, Y)
    assert regressor(decimal=",").fit(table, Y).predict({**table, "price": np.full(N, 1.5)}).shape == (N,)
    with pytest.raises(DataError, match=r"column 'price': expected numbers. "):
        regressor(numeric=["price"]).fit(table, Y)


def test_names_that_are_not_there():
    with pytest.raises(
        OptionError, match=r"expected names of columns in categorical, got 'kinds'. Did you mean 'kind'"
    ):
        regressor(categorical=["kinds"]).fit(X, Y)


# -- new rows -------------------------------------------------------------------------------------------------------
def test_new_columns_and_categories():
    model = regressor().fit(X, Y)
    expected = model.predict(X)
    with pytest.warns(UserWarning, match=r"columns that training did not have are not used: 'more'"):
        found = model.predict(X | {"more": Y})
    np.testing.assert_array_equal(found, expected)
    new = X | {"kind": np.array(["z"] * N, dtype=object)}
    assert np.isfinite(model.predict(new)).all()
    assert model.remarks(new) == ["kind: 120 values in categories that training did not keep ('z'), encoded as zeros."]
    assert model.remarks(X) == []


def test_columns_that_are_missing_or_differ():
    model = regressor().fit(X, Y)
    with pytest.raises(DataError, match=r"expected the training columns, got none named 'kind'. There are 'size'"):
        model.predict({"size": Y})
    with pytest.raises(DataError, match=r"column 'size': expected a number, got 'large' in data row 1"):
        model.predict({"size": ["large"], "kind": ["a"]})
    with pytest.warns(UserWarning, match=r"X does not have valid feature names"):
        model.predict(np.column_stack([X["size"].astype(object), X["kind"]]))
    plain = np.column_stack([Y, Y])
    model = regressor().fit(plain, Y)
    with pytest.raises(ShapeError, match=r"X has 3 features, but TabularRegressor is expecting 2 features as input"):
        model.predict(np.zeros((4, 3)))
    with pytest.warns(UserWarning, match=r"X has feature names, but TabularRegressor was fitted without"):
        np.testing.assert_array_equal(model.predict({"a": Y, "b": Y}), model.predict(plain))


# -- options --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "fast"}, "expected a preset among quick, good, best, got 'fast'"),
        ({"time_limit": 0}, "time_limit > 0"),
        ({"ensemble": 0}, "expected members to be"),
        ({"random_state": "now"}, "expected random_state to be an integer, a generator or None, got 'now'"),
        ({"epochs": 0}, "expected epochs to be"),
    ],
)
def test_options(options, message):
    with pytest.raises(OptionError, match=message):
        regressor(**options).fit(X, Y)


@pytest.mark.parametrize(
    ("weight", "error", "message"),
    [
        (np.zeros(N), DataError, "got sample_weight of 0 in all 120 rows"),
        (-np.ones(N), DataError, "expected finite weights of at least 0"),
        (np.ones(3), ShapeError, r"expected sample_weight of shape \(120,\), one for each row, got \(3,\)"),
    ],
)
def test_weights(weight, error, message):
    with pytest.raises(error, match=message):
        regressor().fit(X, Y, weight)


# -- memory and time ------------------------------------------------------------------------------------------------
def test_what_does_not_fit_into_memory(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: 200_000)
    message = (
        r"TabularRegressor: expected a fit within the 0 MiB of memory that are free, got one that needs about [\d.]+ "
        r"MiB \(preset 'best', 120 rows of \d+ inputs, 8 networks\). Try preset='quick', ensemble=1, fewer rows, smal"
    )
    with pytest.raises(OptionError, match=message):
        TabularRegressor(preset="best").fit(X, Y)
    monkeypatch.setattr(memory, "available_memory", lambda: None)  # nobody knows
    regressor().fit(X, Y)


def test_a_limit_of_the_process_counts(monkeypatch):
    resource = pytest.importorskip("resource", reason="needs a system with limits of processes")
    if not Path("/proc/self/statm").exists():
        pytest.skip("the system does not say how much a process has")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 20, resource.RLIM_INFINITY))
    assert memory.available_memory() == 0, "it has more already"
    with pytest.raises(OptionError, match="expected a fit within the 0 MiB of memory that are free"):
        regressor().fit(X, Y)


# -- what users hold ------------------------------------------------------------------------------------------------
def test_a_lazy_frame_of_polars_is_a_frame():
    pl = pytest.importorskip("polars", reason="needs polars: pip install polars")
    model = regressor().fit(X, Y)
    lazy = pl.DataFrame({name: list(column) for name, column in X.items()}).lazy()
    assert (model.predict(lazy) == model.predict(X)).all()
    assert (model.predictor_.predict(lazy) == model.predict(X)).all()


def test_rows_as_dicts_are_asked_for_as_columns():
    model = regressor().fit(X, Y)
    with pytest.raises(
        ShapeError, match=r"predict: expected rows of a table, got a list of dicts\. Pass a frame of them"
    ):
        model.predict([{name: column[0] for name, column in X.items()}])


@pytest.mark.parametrize("how", ["names", "frame"])
def test_several_columns_of_labels_are_refused_with_what_takes_them(how):
    pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")
    multioutput = pytest.importorskip("sklearn.multioutput", reason="needs scikit-learn: pip install 'xpnn[sklearn]'")
    frame = pd.DataFrame({**X, "one": np.where(Y > 0, "a", "b"), "two": np.where(Y > 1, "c", "d")})
    asked = (frame, ["one", "two"]) if how == "names" else (frame[["size", "kind"]], frame[["one", "two"]])
    with pytest.raises(
        LabelError, match=r"TabularClassifier: expected one .*sklearn\.multioutput\.MultiOutputClassifier"
    ):
        classifier().fit(*asked)
    both = multioutput.MultiOutputClassifier(classifier()).fit(frame[["size", "kind"]], frame[["one", "two"]])
    assert set(both.predict(frame[["size", "kind"]])[:, 1]) <= {"c", "d"}


def test_how_much_is_needed_grows_with_everything():
    small = Recipe("regression", hidden=(64,), members=1, folds=0)
    least = memory.needed_memory(small, 1000, 50, 1)
    assert 1000 * 50 * 4 < least < 3e6
    for recipe, rows, width in (
        (small.replace(hidden=(640,)), 1000, 50),
        (small.replace(members=5), 1000, 50),
        (small, 10_000, 50),
        (small, 1000, 500),
    ):
        assert memory.needed_memory(recipe, rows, width, 1) > 1.1 * least
    there = memory.available_memory()
    assert there is None or there > 0


def test_a_time_that_is_shorter_than_an_epoch():
    rng = np.random.default_rng(0)
    table = {f"x{k}": rng.normal(size=20_000) for k in range(20)}
    y = table["x0"] > 0
    began = time.monotonic()
    with pytest.warns(UserWarning, match=r"time limit: 0.01 s ended within the first epoch"):
        model = TabularClassifier(time_limit=0.01, hidden=(512, 512)).fit(table, y)
    assert time.monotonic() - began < 20
    assert model.predict(table).shape == (20_000,)
    assert "time limit" in model.summary()
    assert (model.n_iter_, model.best_epoch_) == (1, 1)  # the steps that were made, told as an epoch
    assert {"loss", "val_loss", "seconds"} <= set(model.history_.names)
