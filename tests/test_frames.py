"""Frames, masked arrays and objects as arrays, and every way in for data: no foreign error, no lost mask."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnn
from xpnn.arguments import as_array, as_real
from xpnn.data import MinMax, Standardizer, TableEncoder
from xpnn.data.targets import ClassTarget
from xpnn.errors import DataError, DTypeError, XpnnError
from xpnn.frames import cells, column_names, is_gap, numbers_of, places, plain_names, unwrapped
from xpnn.predictor import Predictor

pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")

X = np.random.default_rng(0).integers(-5, 6, size=(24, 3)).astype(float)
Y = np.arange(24) % 2
INPUTS = X
HOLE = np.zeros(X.shape, np.bool_)
HOLE[3, 1] = True
BIG = 2**53


class Subclass(np.ndarray):
    """An array by another name."""


class Frame:
    """A frame of a library that nobody knows."""

    def __init__(self, values, names):
        self.columns, self._values = names, values

    def to_numpy(self):
        return self._values


def trainer(**options) -> xpnn.Trainer:
    return xpnn.Trainer(xpnn.mlp([3, 4, 2], seed=0), xpnn.CrossEntropy(), xpnn.Adam(), **options)


FITTED, SCALER = trainer(), Standardizer().fit(X)
FITTED.fit(X, Y, epochs=1)


def fitted(X, y, **options):
    made = trainer()
    made.fit(X, y, epochs=1, **options)
    return made.net.store.values


#: Every way in for inputs.
DOORS: dict[str, Callable[[Any], Any]] = {
    "fit": lambda X: fitted(X, Y),
    "fit, validation": lambda X: fitted(INPUTS, Y, X_val=X, y_val=Y),
    "evaluate": lambda X: FITTED.evaluate(X, Y)["loss"],
    "predict_proba": lambda X: FITTED.predict_proba(X),
    "net.predict": lambda X: FITTED.net.predict(X),
    "net.forward": lambda X: FITTED.net.forward(X)[0],
    "Standardizer.fit": lambda X: Standardizer().fit(X).scale,
    "Standardizer.transform": lambda X: SCALER.transform(X),
    "Standardizer.inverse_transform": lambda X: SCALER.inverse_transform(X),
    "MinMax": lambda X: MinMax().fit_transform(X),
    "Predictor": lambda X: Predictor(FITTED.net, xpnn.CrossEntropy(), ClassTarget().fit([0, 1]), SCALER).predict_proba(
        X
    ),
    "search": lambda X: xpnn.search.run([{"hidden": (3,)}], X, Y, loss=xpnn.CrossEntropy(), epochs=1).best.score,
    "find_lr": lambda X: xpnn.find_lr(FITTED.net, xpnn.CrossEntropy(), xpnn.Adam(), X, Y, steps=3).losses,
}
#: What is the plain array by another name.
SAME: dict[str, Callable[[np.ndarray], Any]] = {
    "no mask": np.ma.array,
    "a mask of nothing": lambda a: np.ma.array(a, mask=np.zeros(a.shape, np.bool_)),
    "matrix": np.matrix,
    "subclass": lambda a: a.view(Subclass),
    "list": np.ndarray.tolist,
    "rows of masked arrays": lambda a: [np.ma.array(row) for row in a],
    "column-major": np.asfortranarray,
    "big-endian": lambda a: a.astype(">f8"),
    "int8": lambda a: a.astype(np.int8),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "frame": lambda a: pd.DataFrame(a, columns=list("abc")),
    "nullable frame": lambda a: pd.DataFrame(a.astype(int), columns=list("abc")).astype({"a": "Int64", "b": "Float32"}),
    "unknown frame": lambda a: Frame(a, ["a", "b", "c"]),
}
#: What nobody may take for numbers.
WRONG: dict[str, Callable[[np.ndarray], Any]] = {
    "masked": lambda a: np.ma.array(a, mask=HOLE),
    "masked rows": lambda a: [np.ma.array(row, mask=hole) for row, hole in zip(a, HOLE, strict=True)],
    "masked frame": lambda a: Frame(np.ma.array(a, mask=HOLE), ["a", "b", "c"]),
    "text": lambda a: a.astype(str),
    "bytes": lambda a: a.astype("S"),
    "complex": lambda a: a + 1j,
    "dates": lambda a: a.astype(np.int64).astype("M8[s]"),
    "durations": lambda a: a.astype(np.int64).astype("m8[s]"),
    "void": lambda a: np.zeros(a.shape, "V8"),
    "records": lambda a: np.rec.fromarrays(a.T.copy(), names="a,b,c"),
    "gaps": lambda a: np.where(HOLE, None, a.astype(object)).tolist(),
    "pandas.NA": lambda a: pd.DataFrame(np.where(HOLE, pd.NA, a.astype(object)), columns=list("abc")),
    "objects of text": lambda a: np.where(HOLE, "a", a.astype(object)),
    "objects of times": lambda a: np.where(HOLE, pd.Timestamp("2020"), a.astype(object)),
    "frame of text": lambda a: pd.DataFrame(a.astype(str), columns=list("abc")),
    "frame of dates": lambda a: pd.DataFrame({"a": pd.to_datetime(["2020-01-01"] * 24), "b": a[:, 0], "c": a[:, 1]}),
    "a name twice": lambda a: pd.DataFrame(a, columns=list("aba")),
    "a set": lambda a: {1.0, 2.0},
    "a word": lambda a: "abc",
}


@pytest.fixture(scope="module")
def plain():
    """What each way in answers to the plain array."""
    return {name: np.asarray(door(X)) for name, door in DOORS.items()}


#: What computes in float16 where it is given it.
COARSE = ("Standardizer.transform", "Standardizer.inverse_transform", "MinMax", "Predictor")


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "door"),
    # A layer's own arithmetic takes no objects, which a frame of several dtypes is made of.
    [(kind, door) for kind in SAME for door in DOORS if (kind, door) != ("nullable frame", "net.forward")],
)
def test_other_names_of_an_array_give_its_answer(door, kind, plain):
    got = np.asarray(DOORS[door](SAME[kind](X)), dtype=np.float64)
    coarse = kind == "float16" and door in COARSE
    np.testing.assert_allclose(got, plain[door], rtol=1e-2 if coarse else 1e-5, atol=1e-2 if coarse else 1e-6)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("kind", WRONG)
def test_what_holds_no_plain_numbers_is_refused_everywhere(door, kind):
    with pytest.raises(XpnnError):
        DOORS[door](WRONG[kind](X))


@pytest.mark.parametrize("kind", ["bfloat16", "float8_e5m2", "int4"])
def test_narrow_numbers_of_ml_dtypes_are_read(kind, plain):
    narrow = X.astype(getattr(pytest.importorskip("ml_dtypes", reason="needs ml_dtypes"), kind))
    for name in ("fit", "predict_proba", "Standardizer.transform", "Predictor"):
        np.testing.assert_allclose(DOORS[name](narrow), plain[name], rtol=1e-5, atol=1e-6)
    labels = Y.astype(narrow.dtype)
    np.testing.assert_array_equal(fitted(X, labels), fitted(X, Y))


def test_a_memory_map_of_narrow_numbers_is_streamed_and_checked(tmp_path):
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="needs ml_dtypes")
    mapped = np.memmap(tmp_path / "x", dtype=ml_dtypes.bfloat16, mode="w+", shape=X.shape)
    mapped[...] = X
    np.testing.assert_array_equal(fitted(mapped, Y), fitted(X, Y))
    mapped[5, 1] = np.nan
    with pytest.raises(DataError, match="in row 5, column 1"):
        fitted(mapped, Y)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_any_mask_is_refused_or_nothing(data):
    dtype = data.draw(st.sampled_from(["i1", "u8", "f2", "f4", "f8", "?"]))
    values = data.draw(st.lists(st.integers(0, 1), min_size=6, max_size=6))
    mask = np.reshape(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)), (3, 2))
    a = np.reshape(np.asarray(values, dtype), (3, 2))
    door = data.draw(st.sampled_from([as_array, as_real]))
    if mask.any():
        with pytest.raises(DataError, match=f"got {mask.sum()} masked of 6"):
            door(np.ma.array(a, mask=mask), "f", "X")
    else:
        got = door(np.ma.array(a, mask=mask), "f", "X")
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, a)


# -- targets and weights -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [lambda y: np.ma.array(y, mask=Y == 1), lambda y: np.where(Y == 1, None, y)])
@pytest.mark.parametrize("option", ["y", "y_val", "sample_weight", "sample_weight_val"])
def test_gaps_in_targets_and_weights_are_refused(option, make):
    data = {"X": X, "y": Y, "X_val": X, "y_val": Y, "sample_weight": np.ones(24), "sample_weight_val": np.ones(24)}
    with pytest.raises(DataError, match=r"masked values|number in every cell"):
        fitted(**data | {option: make(data[option])})


@pytest.mark.parametrize("weight", [np.full(24, "1"), np.full(24, 1j), np.full(24, 1, "M8[s]"), ["a"] * 24])
def test_weights_are_numbers(weight):
    with pytest.raises(DTypeError, match="expected real numbers in sample_weight"):
        FITTED.evaluate(X, Y, sample_weight=weight)


@pytest.mark.parametrize("make", [pd.Series, np.ma.array, list, lambda y: y.astype(object)])
def test_labels_and_weights_of_any_kind(make):
    want = fitted(X, Y, sample_weight=Y + 1)
    np.testing.assert_array_equal(fitted(X, make(Y), sample_weight=make(Y + 1)), want)
    np.testing.assert_array_equal(fitted(X, pd.Series(Y, dtype="Int64"), sample_weight=make(Y + 1)), want)


def test_a_masked_column_has_gaps():
    hole = np.arange(24) % 3 == 0
    encoder = TableEncoder().fit({"a": np.ma.array(np.where(hole, -999.0, X[:, 0]), mask=hole)})
    assert "8 missing values" in encoder.notes[0]
    want = TableEncoder().fit({"a": np.where(hole, np.nan, X[:, 0])}).to_dict()
    assert encoder.to_dict() == want


# -- frames ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [[3, 1, 0, 2], [0, 1, 2, 3]])
def test_columns_in_another_order_are_put_in_order(order):
    X4, y = np.random.default_rng(1).normal(size=(20, 4)), np.arange(20) % 2
    frame = pd.DataFrame(X4, columns=list("abcd"))
    other = frame.iloc[:, order]
    made = xpnn.Trainer(xpnn.mlp([4, 8, 2], seed=0), xpnn.CrossEntropy(), xpnn.Adam(0.05))
    made.fit(frame, y, epochs=2)
    assert made.column_names == {"X": list("abcd")}
    np.testing.assert_array_equal(made.predict_proba(other), made.predict_proba(X4))
    assert made.evaluate(other, y) == made.evaluate(X4, y)
    again = xpnn.Trainer(xpnn.mlp([4, 8, 2], seed=0), xpnn.CrossEntropy(), xpnn.Adam(0.05))
    history = again.fit(frame, y, epochs=2, X_val=other, y_val=y)
    assert history["val_loss"][-1] == again.evaluate(X4, y)["loss"]
    made.fit(other, y, epochs=1)
    again.fit(X4, y, epochs=1)
    np.testing.assert_array_equal(made.net.store.values, again.net.store.values)


def test_targets_in_another_order_are_put_in_order():
    targets = pd.DataFrame({"u": X[:, 0], "v": X[:, 1]})
    made = xpnn.Trainer(xpnn.mlp([3, 2], seed=0), xpnn.MeanSquaredError(), xpnn.Adam())
    made.fit(X, targets, epochs=1)
    assert made.evaluate(X, targets[["v", "u"]]) == made.evaluate(X, targets)


def test_a_predictor_a_search_and_a_file_know_the_order_too(tmp_path):
    frame = pd.DataFrame(X, columns=list("abc"))
    scaler = Standardizer().fit(frame)
    Predictor(FITTED.net, xpnn.CrossEntropy(), ClassTarget().fit([0, 1]), scaler).save(tmp_path / "model")
    predictor = Predictor.load(tmp_path / "model")
    np.testing.assert_array_equal(predictor.predict_proba(frame[list("cab")]), predictor.predict_proba(X))

    def score(X_val):
        options = {"loss": xpnn.CrossEntropy(), "epochs": 1, "y_val": Y}
        return xpnn.search.run([{"hidden": (3,)}], frame, Y, X_val=X_val, **options).best.score

    assert score(frame[list("cab")]) == score(X)
    made = trainer()
    made.fit(frame, Y, epochs=1)
    made.save(tmp_path / "trainer")
    again = xpnn.Trainer.load(tmp_path / "trainer")
    np.testing.assert_array_equal(again.predict_proba(frame[list("bca")]), made.predict_proba(X))


def test_a_scaler_refuses_another_order_for_its_rows_have_no_names():
    scaler = Standardizer().fit(pd.DataFrame(X, columns=list("abc")))
    assert Standardizer.from_dict(scaler.to_dict()).feature_names_in == list("abc")
    for call in (scaler.transform, scaler.inverse_transform):
        with pytest.raises(DataError, match="expected the columns in the order of fit"):
            call(pd.DataFrame(X, columns=list("cab")))
        with pytest.raises(DataError, match=r"with the columns 'a', 'b', 'c', as fitted, got 'a', 'b', 'd'"):
            call(pd.DataFrame(X, columns=list("abd")))
    assert scaler.fit(X).feature_names_in is None


def test_places():
    assert places(["a", "b"], ["a", "b"], "f", "X") is None
    assert places(["b", "a"], ["a", "b"], "f", "X") == [1, 0]
    assert places([1, 0], [0, 1], "f", "X") == [1, 0]
    assert places([0, 1], ["a", "b"], "f", "X") is None  # a frame that was made of an array
    assert places(["a", "b"], [0, 1], "f", "X") is None
    for given_names in (["a"], ["a", "c"], ["a", "b", "c"]):
        with pytest.raises(DataError, match="Pass the same columns"):
            places(given_names, ["a", "b"], "f", "X")
    with pytest.raises(DataError, match=r"\(30 in all\)"):
        places(range(1, 31), range(30), "f", "X")


def test_names():
    assert column_names(X, "f", "X") is None
    with pytest.raises(DataError, match=r"f: expected columns of different names in X, got 'a' 2 times"):
        column_names(Frame(X, ["a", "b", "a"]), "f", "X")
    assert plain_names(None) is None


def test_polars_frames():
    pl = pytest.importorskip("polars", reason="needs polars: pip install polars")
    frame = pl.DataFrame(X, schema=list("abc"))
    np.testing.assert_array_equal(FITTED.predict_proba(frame), FITTED.predict_proba(X))
    dated = frame.with_columns(pl.lit(datetime.date(2020, 1, 1)).alias("a"))
    for door in DOORS.values():
        with pytest.raises(DTypeError, match="got dtype Date in column 'a'"):
            door(dated)
    np.testing.assert_array_equal(fitted(X, pl.Series(Y)), fitted(X, Y))


# -- cells -------------------------------------------------------------------------------------------------------
def test_whole_numbers_keep_their_digits():
    for series in (pd.Series([BIG + 1, None], dtype="Int64"), np.ma.array([BIG + 1, 0], mask=[0, 1])):
        assert cells(series, "f").tolist() == [BIG + 1, None]
    assert cells(pd.Series([BIG + 1], dtype="Int64"), "f").tolist() == [BIG + 1]
    np.testing.assert_array_equal(cells(pd.Series([7, None], dtype="Int64"), "f"), [7.0, np.nan])
    assert numbers_of(np.asarray([BIG + 1, 0], object), "f", "y").tolist() == [BIG + 1, 0]
    pl = pytest.importorskip("polars", reason="needs polars: pip install polars")
    assert cells(pl.Series([BIG + 1, None]), "f").tolist() == [BIG + 1, None]
    assert cells(pl.Series([True, None]), "f").tolist() == [True, None]


def test_cells_of_text_and_gaps():
    for values in (["u", pd.NA, "v"], ["u", None, "v"], pd.Series(["u", None, "v"], dtype="string")):
        assert cells(values, "f").tolist() == ["u", None, "v"]
    assert cells(np.ma.array(["u", "w", "v"], mask=[0, 1, 0]), "f").tolist() == ["u", None, "v"]
    assert cells(pd.Series([True, None], dtype="boolean"), "f").tolist() == [True, None]
    assert is_gap(pd.NaT)
    assert not is_gap(np.nan)


@pytest.mark.parametrize("unit", ["s", "ns", "D"])
def test_dates_are_no_cells(unit):
    dates = np.arange(3).astype(f"M8[{unit}]")
    for values in (dates, pd.Series(dates), [datetime.date(2020, 1, 1)], pd.Series(dates).dt.tz_localize("UTC")):
        with pytest.raises(DTypeError, match="Convert it first, dates for example"):
            cells(values, "column 'a'")
    with pytest.raises(DTypeError, match="one field"):
        cells(np.zeros(2, [("a", "f4")]), "column 'a'")


def test_objects_that_are_numbers():
    mixed = np.asarray([1, 2.5, np.float32(0.5), decimal.Decimal("0.25"), True], object)
    assert numbers_of(mixed, "f", "y").tolist() == [1, 2.5, 0.5, 0.25, 1]
    huge = numbers_of(np.asarray([10**400, -(10**400), decimal.Decimal("sNaN")], object), "f", "y")
    np.testing.assert_array_equal(huge, [np.inf, -np.inf, np.nan])
    text = np.asarray(["a", None], object)
    assert numbers_of(text, "f", "y") is text
    with pytest.raises(DataError, match="got 2 missing, the first in row 1, column 0"):
        numbers_of(np.asarray([[1, 2], [None, pd.NA]], object), "f", "y")


def test_masks_of_records_are_seen():
    records = np.ma.array(np.zeros(3, [("a", "f4"), ("b", "i4")]), mask=[(1, 0), (0, 0), (0, 1)])
    with pytest.raises(DataError, match="got 2 masked of 3"):
        unwrapped(records, "f", "X")
