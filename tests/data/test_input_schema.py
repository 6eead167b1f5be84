"""What a model takes, kept with it: small, exact, and checked when it is read."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from xpnn.data import InputSchema, TableEncoder, load_csv
from xpnn.errors import FileFormatError
from xpnn.predictor import Predictor, load_predictor
from xpnn.tabular import TabularRegressor

N = 400


def table(seed: int = 0, n: int = N) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    size = rng.normal(80.0, 20.0, n)
    size[::10] = np.nan
    return {
        "size": size,
        "rooms": rng.integers(1, 5, n).astype(np.float64),
        "lift": rng.random(n) < 0.3,
        "built": np.datetime64("1990-01-01") + rng.integers(0, 9000, n),
        "town": rng.choice(np.array(["a", "b", "c", None], dtype=object), n, p=[0.5, 0.3, 0.1, 0.1]),
    }


@pytest.fixture(scope="module")
def model():
    columns = table()
    return TabularRegressor(preset="quick", epochs=2, hidden=(4,), random_state=0).fit(columns, columns["rooms"] * 2)


@pytest.fixture(scope="module")
def schema(model):
    return model.predictor_.schema


def test_it_tells_what_the_rows_held(schema):
    columns, by_name = table(), {column.name: column for column in schema}
    assert schema.rows == N
    assert {name: column.kind for name, column in by_name.items()} == {
        "size": "number",
        "rooms": "number",
        "lift": "boolean",
        "built": "date",
        "town": "category",
    }
    size, town = by_name["size"], by_name["town"]
    assert size.missing == 40
    assert (size.low, size.high) == (np.nanmin(columns["size"]), np.nanmax(columns["size"]))
    assert max(size.counts) - min(size.counts) <= 2, "deciles"
    assert size.quantiles[5] == np.nanquantile(columns["size"], 0.5, method="inverted_cdf")
    assert town.categories == ("a", "b", "c")
    assert list(town.counts) == [(columns["town"] == name).sum() for name in "abc"]
    assert town.missing == (columns["town"] == None).sum()  # noqa: E711, by element
    built = by_name["built"].to_dict()["quantiles"]
    assert [built[0], built[-1]] == [str(columns["built"].min()), str(columns["built"].max())]
    rooms = by_name["rooms"]
    assert list(rooms.counts) == [(columns["rooms"] == k).sum() for k in (1, 2, 3, 4)], "a value has a bin of its own"


def test_it_stands_in_the_file_and_comes_back(model, schema, tmp_path):
    model.save(tmp_path / "m.safetensors")
    assert load_predictor(tmp_path / "m.safetensors").schema == schema
    assert TabularRegressor.load(tmp_path / "m.safetensors").predictor_.schema == schema
    assert InputSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_it_is_printed_and_has_an_example_that_the_model_takes(model, schema):
    lines = str(schema).splitlines()
    assert lines[2].split() == ["size", "number", "10.0%", *lines[2].split()[3:]]
    assert "'a'" in str(schema)
    assert model.predictor_.predict(schema.example()).shape == (1,)


def test_many_categories_and_rows_stay_few():
    n = 150_000
    words = np.array([f"w{k}" for k in range(300)], dtype=object)
    columns = {"x": np.arange(float(n)), "word": words[np.arange(n) % 300]}
    found = InputSchema.of(TableEncoder().fit(columns), columns)
    x, word = found.columns
    assert found.rows == 100_000
    assert 0 <= x.low < 100
    assert n - 100 < x.high < n
    assert len(word.categories) == 50
    assert word.distinct == 300
    assert sum(word.counts) + word.others == 100_000
    assert len(json.dumps(found.to_dict())) < 4_000


def test_numbers_that_are_written_otherwise_are_read_as_in_training(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("price;code\n" + "".join(f'"{k},5";0{k}\n' for k in range(1, 41)))
    read = load_csv(path)
    price, code = InputSchema.of(TableEncoder().fit(read), read)
    assert (price.low, price.high, code.kind) == (1.5, 40.5, "category")


def test_a_column_with_gaps_alone_among_the_rows_looked_at():
    columns = {"x": np.array([1.0, 2.0, 3.0]), "y": np.array([1.0, 2.0, 4.0])}
    encoder = TableEncoder().fit(columns)
    found = InputSchema.of(encoder, {"x": np.full(3, np.nan), "y": columns["y"]})
    assert found.columns[0].counts == (0,)
    assert found.columns[0].low is None
    assert InputSchema.from_dict(found.to_dict()) == found
    assert "none" in str(found)


CHANGES = {
    "no rows": lambda s: s.update(rows=0),
    "other rows": lambda s: s.update(rows=N + 1),
    "a column twice": lambda s: s["columns"].append(copy.deepcopy(s["columns"][0])),
    "another kind": lambda s: s["columns"][0].update(kind="picture"),
    "a negative count": lambda s: s["columns"][0].update(missing=-1),
    "words for numbers": lambda s: s["columns"][0].update(quantiles=["a"] * 11),
    "no order": lambda s: s["columns"][0]["quantiles"].reverse(),
    "too many quantiles": lambda s: s["columns"][0].update(quantiles=list(range(10_000))),
    "no number": lambda s: s["columns"][0].update(quantiles=[float("nan")] * 11),
    "too few counts": lambda s: s["columns"][0]["counts"].pop(),
    "no date": lambda s: s["columns"][3].update(quantiles=["yesterday"] * 11),
    "a category twice": lambda s: s["columns"][4].update(categories=["a", "a", "c"]),
    "too many categories": lambda s: s["columns"][4].update(categories=list(map(str, range(51))), counts=[1] * 51),
    "an entry that is not known": lambda s: s["columns"][4].update(more=1),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_damaged_one_is_refused(schema, change):
    state = json.loads(json.dumps(schema.to_dict()))
    change(state)
    with pytest.raises(FileFormatError, match=r"InputSchema.from_dict: expected what to_dict\(\) returns"):
        InputSchema.from_dict(state)


def test_one_of_other_columns_is_refused_with_its_model(model, schema, tmp_path):
    other = Predictor(**{**vars(model.predictor_), "schema": InputSchema(schema.rows, schema.columns[1:])})
    other.save(tmp_path / "m.safetensors")
    with pytest.raises(FileFormatError, match="a schema of other columns"):
        load_predictor(tmp_path / "m.safetensors")
