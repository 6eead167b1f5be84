"""A few rows at once: the same bits as `TableEncoder.transform`, or none at all."""

import copy
import pickle

import numpy as np
import pytest

from xpnn.accel.native import support
from xpnn.data import TableEncoder
from xpnn.data.row_encoder import RowEncoder

N = 400
NAMES = ["normal", "skewed", "gaps", "few", "flag", "constant_but_gaps", "constant", "whole", "narrow"]
WORDS = ["town", "two", "pooled", "digits"]


def matrix(seed=0):
    """Columns of numbers of every kind; one of them is left out by the encoder."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(N, len(NAMES)))
    X[:, 1] = np.exp(3 * X[:, 1])
    X[rng.random(N) < 0.2, 2] = np.nan
    X[:, 3] = np.round(X[:, 3])
    X[:, 4] = X[:, 4] > 0
    X[:, 5] = np.where(rng.random(N) < 0.3, np.nan, 2.0)
    X[:, 6] = 7.0
    X[:, 7] = rng.integers(-5, 1000, N)
    X[:, 8] *= 1e-8
    return X


def table():
    """The same columns by name, and columns of words."""
    rng = np.random.default_rng(1)
    columns = dict(zip(NAMES, matrix().T, strict=True))
    columns["town"] = rng.choice(np.array(["Aachen", "Bonn", "Essen", None], dtype=object), N)
    columns["two"] = rng.choice(["no", "yes"], N).astype(object)
    columns["pooled"] = np.array([f"w{k}" for k in rng.geometric(0.1, N)], dtype=object)
    columns["digits"] = rng.choice(["1", "2", "10"], N).astype(object)
    return columns


OPTIONS = [
    {"bins": "auto", "values_first": True},
    {"bins": 8},
    {"bins": 0, "clip": None},
    {"bins": 64, "impute": "mean", "clip": 1.5, "values_first": True},
]
each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def few_of(encoder, names) -> RowEncoder:
    few = encoder.few_rows(list(names))
    assert few is not None
    return few


def same(a, b):
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and a.tobytes() == b.tobytes()


def strange_rows(X, encoder):
    """Rows as they were trained on, gaps, edges of bins, zeros of both signs, and numbers far out of range."""
    edges = np.array([np.resize(column.edges or [0.0], 12) for column in encoder.fitted_columns]).T
    by_edges = np.zeros((len(edges), X.shape[1]))
    by_edges[:, [NAMES.index(column.name) for column in encoder.fitted_columns]] = edges
    far = np.array([[s * 10.0**k] * X.shape[1] for s in (1, -1) for k in (-300, -20, 3, 20, 99)])
    other = np.array([np.zeros(X.shape[1]), -np.zeros(X.shape[1]), np.full(X.shape[1], np.nan)])
    return np.concatenate([X[:40], matrix(9)[:40], by_edges, by_edges * (1 + 1e-15), far, other])


@each_option
def test_rows_of_an_array_have_the_bits_of_the_whole_table(options):
    X = matrix()
    encoder = TableEncoder(**options).fit(dict(zip(NAMES, X.T, strict=True)))
    few, rows = few_of(encoder, NAMES), strange_rows(X, encoder)
    expected = encoder.transform(dict(zip(NAMES, rows.T, strict=True)))
    assert same(few.by_place(rows), expected)
    for k in range(0, len(rows), 3):
        assert few.takes(rows[k : k + 1])
        assert same(few.by_place(rows[k : k + 1]), expected[k : k + 1])


@each_option
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "int8", "uint16", "bool"])
def test_numbers_of_other_types(options, dtype):
    encoder = TableEncoder(**options).fit(dict(zip(NAMES, matrix().T, strict=True)))
    rows = (np.random.default_rng(2).normal(size=(30, len(NAMES))) * 20).astype(dtype)
    few = few_of(encoder, NAMES)
    assert few.takes(rows)
    assert same(few.by_place(rows), encoder.transform(dict(zip(NAMES, rows.T, strict=True))))


def test_where_the_columns_of_an_array_are_not_in_order_in_memory():
    encoder = TableEncoder(bins=8).fit(dict(zip(NAMES, matrix().T, strict=True)))
    rows = np.asfortranarray(matrix(3)[:20])
    few, expected = few_of(encoder, NAMES), encoder.transform(dict(zip(NAMES, rows.T, strict=True)))
    assert same(few.by_place(rows), expected)
    assert same(few.by_place(rows[::-2]), expected[::-2])


def test_a_column_that_is_not_used_may_hold_anything():
    encoder = TableEncoder().fit(dict(zip(NAMES, matrix().T, strict=True)))
    row = matrix()[:1].copy()
    expected = few_of(encoder, NAMES).by_place(row)
    row[0, NAMES.index("constant")] = np.inf
    assert "constant" not in encoder.feature_names_in
    assert same(few_of(encoder, NAMES).by_place(row), expected)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e101, -2e300])
def test_numbers_that_are_to_be_refused_are_left_to_who_says_why(value):
    encoder = TableEncoder(bins=8).fit(dict(zip(NAMES, matrix().T, strict=True)))
    row = matrix()[:2].copy()
    row[1, 2] = value
    assert few_of(encoder, NAMES).by_place(row) is None


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros((0, 9)),
        np.zeros((3, 8)),
        np.zeros(9),
        np.zeros((1, 9), dtype=object),
        np.zeros((1, 9), dtype="U3"),
        np.zeros((1, 9), dtype=complex),
        np.zeros((1, 9), dtype=">f8"),
        np.zeros((1, 9), dtype="M8[s]"),
        np.ma.zeros((1, 9)),
        np.zeros((1 << 15, 9)),
        [[0.0] * 9],
        None,
    ],
    ids=lambda rows: f"{type(rows).__name__} {getattr(rows, 'dtype', '')} {getattr(rows, 'shape', '')}",
)
def test_what_is_no_few_rows_of_plain_numbers(rows):
    encoder = TableEncoder().fit(dict(zip(NAMES, matrix().T, strict=True)))
    assert not few_of(encoder, NAMES).takes(rows)


# -- many rows, by a compiled loop ---------------------------------------------------------------------------------
@pytest.fixture
def loops():
    if objection := support.numba_objection():
        pytest.skip(objection)
    support.load_loops(required=True)


@each_option
@pytest.mark.parametrize("order", ["C", "F"])
def test_many_rows_have_the_bits_of_the_whole_table(loops, options, order):
    X = matrix()
    encoder = TableEncoder(**options).fit(dict(zip(NAMES, X.T, strict=True)))
    rows = np.array(np.tile(strange_rows(X, encoder), (40, 1)), order=order)
    few, expected = few_of(encoder, NAMES), encoder.transform(dict(zip(NAMES, rows.T, strict=True)))
    assert expected.size > 1 << 15
    taken = [few.takes(rows) for _ in range(6)]
    assert taken[0] is False, "a loop is loaded for what comes once"
    assert taken[-1] is True
    assert same(few.by_place(rows), expected)
    assert same(few.by_place(rows[::-3]), expected[::-3])
    assert same(few.by_place(rows[: 3 << 12]), expected[: 3 << 12])


def test_many_rows_that_are_to_be_refused(loops):
    encoder = TableEncoder(bins=8).fit(dict(zip(NAMES, matrix().T, strict=True)))
    rows, few = np.tile(matrix(), (10, 1)), few_of(encoder, NAMES)
    assert few.by_place(rows) is not None
    for value in (np.inf, -np.inf, 1e101):
        rows[-1, 2] = value
        assert few.by_place(rows) is None


def test_many_rows_are_left_alone_without_loops(monkeypatch):
    monkeypatch.setattr("xpnn.data.row_encoder.number_encoder", lambda: None)
    encoder = TableEncoder(bins=8).fit(dict(zip(NAMES, matrix().T, strict=True)))
    few, rows = few_of(encoder, NAMES), np.tile(matrix(), (10, 1))
    assert not any(few.takes(rows) for _ in range(9))


# -- columns by name ---------------------------------------------------------------------------------------------
@each_option
def test_columns_by_name_have_the_bits_of_the_whole_table(options):
    columns = table()
    encoder = TableEncoder(**options, max_categories=6).fit(columns)
    few, expected = few_of(encoder, columns), encoder.transform(columns)
    plain, read = set(), 0
    for k in range(N):
        row = {name: [column[k] if name in WORDS else float(column[k])] for name, column in columns.items()}
        found = few.by_name(row)
        read += found is not None
        assert found is None or same(found, expected[k : k + 1])
        plain.add(row["pooled"][0] if found is None else None)
    assert read > N / 4
    pooled = next(column for column in encoder.fitted_columns if column.name == "pooled")
    assert plain <= {None} | set(columns["pooled"]) - set(pooled.categories)  # the rare ones are looked up with care


@each_option
def test_several_rows_by_name_in_any_order(options):
    columns = table()
    encoder = TableEncoder(**options).fit(columns)
    some = {name: columns[name][:50] for name in reversed(columns)}
    assert same(few_of(encoder, columns).by_name(some), encoder.transform(some))


def test_cells_of_python():
    columns = table()
    encoder = TableEncoder(bins=8).fit(columns)
    row = {name: ["2"] if name == "digits" else ["yes"] if name == "two" else [None] for name in columns}
    row |= {"normal": [3], "whole": [-7], "skewed": [0.0]}
    assert same(few_of(encoder, columns).by_name(row), encoder.transform(row))


@pytest.mark.parametrize(
    "change",
    [
        {"normal": ["1.5"]},
        {"normal": [True]},
        {"normal": [1 << 60]},
        {"normal": [np.float32(1.0)]},
        {"normal": [float("inf")]},
        {"normal": 1.5},
        {"normal": (1.5,)},
        {"normal": [1.5, 2.5]},
        {"normal": np.zeros((1, 1))},
        {"town": ["Köln"]},
        {"town": [" Bonn"]},
        {"town": [""]},
        {"digits": ["2.0"]},
        {"digits": [2]},
        {"town": [float("nan")]},
        {"more": [1.0]},
    ],
    ids=str,
)
def test_cells_that_ask_for_a_closer_look(change):
    columns = table()
    few = few_of(TableEncoder(bins=8, max_categories=8).fit(columns), columns)
    row = {name: [column[0] if name in WORDS else float(column[0])] for name, column in columns.items()}
    row["pooled"], row["town"] = ["w1"], ["Bonn"]
    assert few.by_name(row) is not None
    assert few.by_name({**row, **change}) is None
    assert few.by_name({name: cells for name, cells in row.items() if name != "whole"}) is None
    assert few.by_name({name: [] for name in row}) is None


# -- which encoders ----------------------------------------------------------------------------------------------
def test_dates_and_names_that_are_not_there_are_not_for_it():
    dates = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")
    assert TableEncoder().fit({"day": dates, "x": np.arange(60.0)}).few_rows(["day", "x"]) is None
    encoder = TableEncoder().fit({"x": np.arange(60.0)})
    assert encoder.few_rows(["y"]) is None
    assert encoder.few_rows(["y", "x"]) is not None


def test_bins_that_are_too_narrow_for_numbers_of_any_size_are_not_for_it():
    x = np.arange(40.0) * 1e-250
    assert TableEncoder(bins=4).fit({"x": x}).few_rows(["x"]) is None


def test_it_follows_what_is_fitted_and_set_later():
    encoder, X = TableEncoder(bins=4), matrix()
    for clip, shift in ((3.0, 0.0), (None, 0.0), (2.0, 5.0)):
        columns = dict(zip(NAMES, (X + shift).T, strict=True))
        encoder.clip = clip
        encoder.fit(columns)
        assert same(few_of(encoder, NAMES).by_place(X[:20] + shift), encoder.transform(columns)[:20])
    encoder.clip, encoder.values_first = 1.0, True
    assert same(few_of(encoder, NAMES).by_place(X[:20] + 5.0), encoder.transform(columns)[:20])
    swapped = [*NAMES[1:], NAMES[0]]
    assert same(few_of(encoder, swapped).by_place(np.roll(X[:20], -1, axis=1) + 5.0), encoder.transform(columns)[:20])


def test_copies_and_pickles_leave_behind_what_is_found_out_again():
    encoder = TableEncoder(bins=4).fit(dict(zip(NAMES, matrix().T, strict=True)))
    before = pickle.dumps(encoder)
    few_of(encoder, NAMES)
    assert pickle.dumps(encoder) == before
    other = copy.deepcopy(encoder)
    assert same(few_of(other, NAMES).by_place(matrix()[:3]), few_of(encoder, NAMES).by_place(matrix()[:3]))
