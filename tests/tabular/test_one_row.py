"""A row at a time: the answers, refusals and warnings of the careful way, without its detours."""

import warnings

import numpy as np
import pytest

import xpnn
from xpnn.errors import XpnnError
from xpnn.predictor import Predictor
from xpnn.tabular import TabularClassifier, TabularRegressor

N = 240


def arrays():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 4))
    X[rng.random(N) < 0.1, 3] = np.nan
    return X, X[:, 0] * X[:, 1] + X[:, 2]


def frame():
    X, y = arrays()
    rng = np.random.default_rng(1)
    columns = {f"n{k}": X[:, k] for k in range(4)}
    return columns | {"kind": rng.choice(["a", "b", "c"], N).tolist(), "two": rng.choice(["no", "yes"], N).tolist()}, y


OPTIONS = {"epochs": 2, "hidden": (8,), "random_state": 0}


@pytest.fixture(scope="module")
def models():
    X, y = arrays()
    table, _ = frame()
    labels = np.where(y > 0, "high", "low")
    return {
        "numbers": (TabularRegressor(preset="quick", **OPTIONS).fit(X, y), X),
        "several": (TabularRegressor(preset="good", ensemble=2, **OPTIONS).fit(X, np.stack([y, -y], axis=1)), X),
        "classes": (TabularClassifier(preset="good", ensemble=2, **OPTIONS).fit(X, labels), X),
        "threshold": (TabularClassifier(preset="quick", metric="f1", **OPTIONS).fit(X, y > 0), X),
        "by name": (TabularRegressor(preset="quick", **OPTIONS).fit(table, y), table),
        "classes by name": (TabularClassifier(preset="quick", **OPTIONS).fit(table, labels), table),
    }


NAMES = ["numbers", "several", "classes", "threshold", "by name", "classes by name"]


def row_of(data, k):
    return data[k : k + 1] if isinstance(data, np.ndarray) else {name: list(c[k : k + 1]) for name, c in data.items()}


def carefully(monkeypatch, call):
    """What a call returns, or is refused with, and warned of, where no rows are read at a glance."""
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "few_rows", lambda self, raw: None)
        return outcome(call)


def outcome(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        try:
            returned = call()
        except XpnnError as error:
            returned = type(error), str(error)
    returned = (returned.dtype, returned.tolist()) if isinstance(returned, np.ndarray) else returned
    return returned, [(str(w.message), w.category, w.filename) for w in found]


def calls(model, row):
    yield lambda: model.predict(row)
    yield lambda: model.predictor_.predict(row)
    yield lambda: model.predictor_.predict_proba(row)
    if isinstance(model, TabularClassifier):
        yield lambda: model.predict_proba(row)
    elif model.predictor_.intervals is not None:
        yield lambda: model.predict_interval(row, coverage=0.8)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_has_the_bits_of_the_careful_way(models, name, monkeypatch):
    model, data = models[name]
    for k in range(6):
        row = row_of(data, k)
        assert model.predictor_.few_rows(row) is not None
        for call in calls(model, row):
            assert outcome(call) == carefully(monkeypatch, call)


@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_lists_are_rows_too(models, name, monkeypatch):
    model, data = models[name]
    row = data[:2].tolist()
    assert model.predictor_.few_rows(row) is not None
    assert outcome(lambda: model.predict(row)) == outcome(lambda: model.predict(data[:2]))
    assert outcome(lambda: model.predict(row)) == carefully(monkeypatch, lambda: model.predict(row))


BAD_ARRAYS = {
    "infinite": [[0.0, np.inf, 0.0, 0.0]],
    "too large": np.array([[0.0, 0.0, -1e200, 0.0]]),
    "too few columns": np.zeros((1, 3)),
    "too many columns": [[0.0] * 5],
    "one axis": np.zeros(4),
    "three axes": np.zeros((1, 2, 2)),
    "no rows": np.zeros((0, 4)),
    "empty list": [],
    "uneven lists": [[0.0, 1.0, 2.0, 3.0], [0.0]],
    "complex": np.zeros((1, 4), complex),
    "text": [["a", "b", "c", "d"]],
    "numbers as text": [["1", "2", "3", "4"]],
    "gaps": [[None, 1.0, 2.0, None]],
    "objects": np.array([[1, 2.5, None, True]], dtype=object),
    "dates": np.zeros((1, 4), "M8[D]"),
    "masked": np.ma.array([[1.0, 2.0, 3.0, 4.0]], mask=[[0, 1, 0, 0]]),
    "by name": {"x0": [1.0], "x1": [2.0], "x2": [3.0], "x3": [4.0]},
    "scalar": 3.0,
}


@pytest.mark.parametrize("bad", BAD_ARRAYS)
@pytest.mark.parametrize("name", ["numbers", "classes"])
def test_what_is_no_row_of_numbers_is_told_the_same(models, name, bad, monkeypatch):
    model, _ = models[name]

    def told():
        try:
            return model.predict(BAD_ARRAYS[bad])
        except ValueError as error:  # NumPy's own, of uneven lists
            return type(error), str(error)

    assert outcome(told) == carefully(monkeypatch, told)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": ["z"]},
        {"kind": [None]},
        {"kind": [2.5]},
        {"kind": [""]},
        {"two": [True]},
        {"n0": ["many"]},
        {"n0": [None]},
        {"n0": [np.inf]},
        {"n0": [1.0, 2.0]},
        {"n0": []},
        {"n0": 1.0},
        {"more": [1.0]},
        {"n3": np.array([np.nan], dtype=np.float32)},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["by name", "classes by name"])
def test_columns_by_name_are_told_the_same(models, name, change, monkeypatch):
    model, table = models[name]
    row = row_of(table, 0) | change

    assert outcome(lambda: model.predict(row)) == carefully(monkeypatch, lambda: model.predict(row))
    without = {column: cells for column, cells in row.items() if column != "n1"}
    assert outcome(lambda: model.predict(without)) == carefully(monkeypatch, lambda: model.predict(without))


def test_arrays_for_a_model_of_names_are_warned_of(models, monkeypatch):
    model, _ = models["by name"]
    row = np.array([[0.0, 1.0, 2.0, 3.0, "a", "no"]], dtype=object)
    found = outcome(lambda: model.predict(row))
    assert found == carefully(monkeypatch, lambda: model.predict(row))
    assert "does not have valid feature names" in found[1][0][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_reads_rows_at_a_glance_too(models, name, tmp_path):
    model, data = models[name]
    model.save(tmp_path / "model.safetensors")
    other = xpnn.load_predictor(tmp_path)
    row = row_of(data, 3)
    assert other.few_rows(row) is not None
    assert other.predict(row).tolist() == model.predictor_.predict(row).tolist()


def test_a_single_value_is_no_column(models):
    model, table = models["by name"]
    with pytest.raises(XpnnError, match=r"in 'kind' of X, got a single value, 'a'. .*\{'kind': \['a'\]\}"):
        model.predict(row_of(table, 0) | {"kind": "a"})


def test_a_new_fit_is_followed():
    X, y = arrays()
    model = TabularRegressor(preset="quick", **OPTIONS).fit(X, y)
    model.predict(X[:1])
    model.fit(X[:, :3] * 100.0, y)
    np.testing.assert_allclose(model.predict(X[:1, :3] * 100.0), model.predict(X[:, :3] * 100.0)[:1], rtol=1e-5)
    with pytest.raises(XpnnError, match="4 features"):
        model.predict(X[:1])
