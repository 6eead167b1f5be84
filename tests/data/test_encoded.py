"""Rows of a table that stay packed: the matrix that they stand for, and training on them."""

from __future__ import annotations

import numpy as np
import pytest

import xpnn
from xpnn.accel.numpy_ops import NumpyOps
from xpnn.data import EncodedRows, TableEncoder
from xpnn.data import encoder as encoders
from xpnn.data.packing import PackedLater
from xpnn.errors import DataError
from xpnn.tabular import TabularRegressor

N = 240
RNG = np.random.default_rng(0)
WORDS = np.array([None, *"abcd"], dtype=object)


@pytest.fixture(name="table", scope="module")
def fixture_table():
    numbers = RNG.normal(size=(N, 2))
    numbers[::7, 1] = np.nan
    return {
        "x": numbers[:, 0],
        "gaps": numbers[:, 1],
        "word": WORDS[RNG.integers(0, 5, N)],
        "sex": np.array(["f", "m"], dtype=object)[RNG.integers(0, 2, N)],
        "day": np.datetime64("2020-01-01") + RNG.integers(0, 900, N).astype("timedelta64[D]"),
        "count": RNG.integers(0, 4, N).astype(np.float64),
    }


def dense(encoder, table):
    """The matrix column by column, as its formulas are written in `TableEncoder`."""
    made = {}
    for column in encoder._columns:
        for name in column.feature_names:
            if name.startswith(("x:bin", "gaps:bin", "count:bin")):
                edges, t = np.array(column.edges), int(name.rpartition("bin")[2])
                x = np.where(np.isnan(table[column.name]), column.fill, table[column.name])
                made[name] = np.clip((x - edges[t - 1]) / (edges[t] - edges[t - 1]), 0.0, 1.0)
            elif "=" in name and column.name == "word":
                made[name] = table["word"] == name.rpartition("=")[2]
    return {name: values.astype(np.float32) for name, values in made.items()}


@pytest.mark.parametrize("values_first", [False, True])
def test_the_matrix_is_that_of_the_formulas_to_the_bit(table, values_first):
    encoder = TableEncoder(bins=8, values_first=values_first).fit(table)
    matrix, names = encoder.transform(table), encoder.feature_names_out
    wanted = dense(encoder, {name: column for name, column in table.items() if name != "day"})
    assert len(wanted) == 8 + 8 + 3 + 4  # of the counts the places between the values
    for name, values in wanted.items():
        assert matrix[:, names.index(name)].tobytes() == values.tobytes(), name
    rows = encoder.rows(table)
    assert rows.shape == matrix.shape
    assert rows.code.packed_width < matrix.shape[1]
    np.testing.assert_array_equal(np.asarray(rows), matrix)


def test_rows_are_taken_by_slices_and_numbers(table):
    encoder = TableEncoder(bins=8).fit(table)
    rows, matrix = encoder.rows(table), encoder.transform(table)
    for place in (slice(3, 9), np.array([5, 2, 2]), (..., slice(0, 4), slice(None))):
        some = rows[place]
        assert isinstance(some, EncodedRows)
        np.testing.assert_array_equal(np.asarray(some), matrix[place[1] if isinstance(place, tuple) else place])
    assert (len(rows), rows.ndim, rows.dtype) == (N, 2, np.float32)
    assert np.asarray(rows, dtype=np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="no matrix that could be shared"):
        rows.__array__(copy=False)
    assert repr(rows) == f"EncodedRows({N} rows of {matrix.shape[1]} columns, packed in {rows.code.packed_width})"


def test_large_tables_stay_packed_and_others_do_not(table, monkeypatch):
    encoder = TableEncoder(bins=8).fit(table)
    assert isinstance(encoder.encode(table), np.ndarray)
    monkeypatch.setattr(encoders, "_LARGE", N)
    assert isinstance(encoder.encode(table), EncodedRows)
    plain = TableEncoder().fit({"x": table["x"]})
    assert isinstance(plain.encode(table), np.ndarray)  # nothing is won


@pytest.fixture(name="encoded_first")
def fixture_encoded_first(monkeypatch):
    """Steps encode packed rows, as without compiled loops; `tests/training/test_packed.py` has the others."""
    monkeypatch.setattr(NumpyOps, "takes_packed", lambda ops, scaled: False)


@pytest.mark.usefixtures("encoded_first")
@pytest.mark.parametrize("options", [{}, {"validation_fraction": 0.25}, {"shuffle": False}])
def test_training_on_packed_rows_is_training_on_the_matrix(table, backend, options):
    encoder = TableEncoder(bins=8).fit(table)
    y = RNG.normal(size=(N, 1)).astype(np.float32)

    def train(X):
        net = xpnn.mlp([X.shape[1], 8, 1], dropout=0.1, backend=backend)
        trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(0.01))
        history = trainer.fit(X, y, epochs=2, batch_size=32, **options)
        return history["loss"], net.state_dict(), trainer.evaluate(X, y), backend.to_numpy(net.predict(X))

    packed, matrix = train(encoder.rows(table)), train(encoder.transform(table))
    assert packed[0] == matrix[0]
    assert packed[2] == matrix[2]
    assert packed[3].tobytes() == matrix[3].tobytes()
    assert all(packed[1][name].tobytes() == matrix[1][name].tobytes() for name in matrix[1])


@pytest.mark.usefixtures("encoded_first")
@pytest.mark.parametrize("options", [{"validation_fraction": 0.2}, {"folds": 2, "ensemble": 2}])
def test_an_estimator_learns_the_same_from_packed_rows(table, monkeypatch, options):
    y = np.nan_to_num(table["x"]) + (table["sex"] == "m")

    def fit():
        model = TabularRegressor(preset="quick", epochs=2, bins=8, random_state=0, **options).fit(table, y)
        return model.predict(table), model.predict_interval(table, 0.5)

    matrix = fit()
    monkeypatch.setattr(encoders, "_LARGE", 1)
    packed = fit()
    for a, b in zip(packed, matrix, strict=True):
        assert a.tobytes() == b.tobytes()


def test_rows_are_named_where_they_lie(table):
    some = np.array([5, 60, 61, 200, 7])
    taken = {name: column[some] for name, column in table.items()}
    by_number, by_copy = TableEncoder(bins=4), TableEncoder(bins=4)
    assert by_number.fit(table, rows=some).to_dict() == by_copy.fit(taken).to_dict()
    np.testing.assert_array_equal(by_number.rows(table, some).packed, by_copy.rows(taken).packed)
    np.testing.assert_array_equal(by_number.encode(table, some), by_copy.transform(taken))
    with pytest.raises(DataError, match="at least one column and one row"):
        TableEncoder().fit(table, rows=some[:0])


def test_rows_of_very_large_tables_are_packed_when_they_are_asked_for(table, monkeypatch):
    encoder = TableEncoder(bins=8).fit(table)
    some = RNG.permutation(N)[: N // 2]
    packed = encoder.rows(table, some)
    monkeypatch.setattr(encoders, "_LATER", 1)
    later = encoder.rows(table, some)
    assert isinstance(later.packed, PackedLater)
    assert (later.shape, len(later.packed)) == (packed.shape, N // 2)
    np.testing.assert_array_equal(np.asarray(later), np.asarray(packed))
    for place in (slice(3, 9), slice(None), np.array([5, 2, 2])):
        np.testing.assert_array_equal(later[place].packed, packed[place].packed)

    def train(X, **options):
        net = xpnn.mlp([X.shape[1], 8, 1], dropout=0.1)
        trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(0.01))
        history = trainer.fit(X, np.zeros((N // 2, 1), np.float32), epochs=2, batch_size=32, **options)
        return history["loss"], trainer.evaluate(X, np.zeros((N // 2, 1), np.float32)), net.predict(X).tobytes()

    for options in ({}, {"validation_fraction": 0.25}, {"shuffle": False}):
        assert train(later, **options) == train(packed, **options)


@pytest.mark.parametrize("n", [1, 126, 127, 128, 400])
def test_categories_of_a_file_keep_their_numbers_in_the_narrowest_integers(n, tmp_path):
    """Rare ones that share a column, and words that training did not see; the narrowest integers end at 127."""
    words = np.array([f"w{k}" for k in range(n)] * 3 + ["rare1", "rare2", "", *"zz"], dtype=object)
    (tmp_path / "words.csv").write_text("word,x\n" + "".join(f"{word},{k}\n" for k, word in enumerate(words)))
    columns = xpnn.data.load_csv(tmp_path / "words.csv").columns
    rows = np.arange(len(words) - 2)
    encoder = TableEncoder(bins=0, min_count=2, max_categories=1000).fit(columns, rows=rows)
    found = encoder.rows(columns).packed[:, -1]
    order = encoder.fitted_columns[0].categories
    expected = [-2 if not word else order.index(word) if word in order else n for word in words]
    assert found.tolist() == expected
