"""What the estimators are given: labels of any width, masks, gaps, dates, names and weights."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.errors import DataError, DTypeError, LabelError, XpnnError
from xpnn.estimators import MLPClassifier, MLPRegressor, Perceptron
from xpnn.estimators._inputs import codes_of

pd = pytest.importorskip("pandas", reason="needs pandas: pip install pandas")

BIG = 2**53
X = np.random.default_rng(0).normal(size=(30, 3))
LABELS = BIG + np.arange(30) % 3
HOLE = np.arange(30) % 5 == 0


def classifier(**options):
    return MLPClassifier((4,), max_iter=2, random_state=0, tol=0.0, **options)


def regressor(**options):
    return MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0, tol=0.0, **options)


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

#: Labels beyond 2**53 in every guise.
WIDE = {
    "int64": lambda y: y,
    "uint64": lambda y: y.astype(np.uint64),
    "list": list,
    "objects": lambda y: y.astype(object),
    "Int64": lambda y: pd.Series(y, dtype="Int64"),
    "UInt64": lambda y: pd.Series(y, dtype="UInt64"),
    "category": lambda y: pd.Series(y, dtype="category"),
    "frame": lambda y: pd.DataFrame({"y": y})["y"],
    "polars": lambda y: pytest.importorskip("polars", reason="needs polars: pip install polars").Series(y),
}


@pytest.mark.parametrize("kind", WIDE)
def test_labels_of_any_width_are_told_apart(kind):
    y = WIDE[kind](LABELS)
    want = classifier().fit(X, LABELS)
    model = classifier().fit(X, y)
    assert [int(label) for label in model.classes_] == [BIG, BIG + 1, BIG + 2]
    np.testing.assert_array_equal(model.predict_proba(X), want.predict_proba(X))
    assert want.score(X, y) == model.score(X, y) == want.score(X, LABELS)
    assert np.isfinite(want.fit(X, LABELS, X_val=X, y_val=y).history_["val_loss"]).all()
    part = classifier().partial_fit(X, LABELS, classes=y)
    np.testing.assert_array_equal(part.partial_fit(X, y).classes_, want.classes_)


@given(
    y=st.lists(st.integers(BIG - 2, BIG + 2), min_size=1, max_size=8), dtype=st.sampled_from(["i8", "u8", "f8", "O"])
)
@settings(deadline=None, max_examples=40)
def test_codes_are_exact_whatever_the_dtypes(y, dtype):
    classes = np.arange(BIG - 1, BIG + 2)
    labels = np.asarray(y).astype(dtype)
    want = [int(label) - BIG + 1 if BIG - 1 <= int(label) <= BIG + 1 else -1 for label in labels.tolist()]
    assert codes_of(labels, classes).tolist() == want


def test_labels_beyond_64_bits_are_refused():
    with pytest.raises(LabelError, match="at most 64 bits"):
        classifier().fit(X, (LABELS.astype(object) + 2**70))


@pytest.mark.parametrize("make", [classifier, regressor, lambda: Perceptron(max_iter=2)])
def test_masks_gaps_and_dates_are_refused(make):
    y = np.arange(30) % 2
    masked = np.ma.array(X, mask=np.repeat(HOLE[:, None], 3, axis=1))
    times = np.arange(90).reshape(30, 3).astype("M8[s]")
    frame = pd.DataFrame(X, columns=list("abc"))
    gaps = pd.DataFrame({"a": np.where(HOLE, pd.NA, X[:, 0].astype(object)), "b": X[:, 1], "c": X[:, 2]})
    objects = np.where(HOLE[:, None], datetime.datetime(2020, 1, 1), X.astype(object))
    model = make().fit(X, y)
    for bad, words in (
        (masked, "masked values"),
        (list(masked), "masked values"),
        (times, "datetime64"),
        (objects, "values of type datetime"),
        (frame.assign(a=pd.to_datetime("2020-01-01")), "column 'a' of X: expected numbers or text, got"),
        (gaps, "got 6 missing, the first in row 0"),
        (np.rec.fromarrays(X.T.copy(), names="a,b,c"), "one field"),
        (pd.DataFrame(X, columns=list("aba")), "got 'a' 2 times"),
    ):
        for call in (lambda bad=bad: make().fit(bad, y), lambda bad=bad: model.predict(bad)):
            with pytest.raises(XpnnError, match=words):
                call()
    with pytest.raises(ValueError, match=r"NaN|missing"):
        make().fit(X, np.ma.array(y, mask=HOLE))
    with pytest.raises(DataError, match="got 6 missing, the first in row 0"):
        make().fit(X, np.where(HOLE, None, y.astype(object)))


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
def test_what_masks_nothing_and_matrices_are_plain_arrays():
    y = np.arange(30) % 2
    want = classifier().fit(X, y)
    for plain in (np.ma.array(X), np.asmatrix(X), X.astype(object), pd.DataFrame(X).astype("Float64")):
        model = classifier().fit(plain, np.ma.array(y), np.ma.array(np.ones(30)))
        np.testing.assert_array_equal(model.predict_proba(plain), want.predict_proba(X))


def test_half_precision_tensors_are_read():
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    tensor = torch.asarray(X).bfloat16()
    want = classifier().fit(tensor.float(), LABELS).predict_proba(tensor.float())
    np.testing.assert_array_equal(classifier().fit(tensor, torch.asarray(LABELS)).predict_proba(tensor), want)


@pytest.mark.parametrize("weight", [1e200, 1e-320])
def test_weights_out_of_range_are_told(weight):
    y = np.arange(30) % 2
    for make in (classifier, regressor):
        for options in ({}, {"standardize": True}):
            with pytest.raises(DataError, match="expected weights"):
                make(**options).fit(X, y, np.full(30, weight))
    with pytest.raises(DataError, match="expected weights"):
        classifier(dtype="float32").fit(X, y, np.full(30, 1e38))


def test_masked_and_dated_weights_and_targets_of_a_score_are_refused():
    y = np.arange(30) % 2
    for make in (classifier, regressor):
        model = make().fit(X, y)
        with pytest.raises(DataError, match="masked values"):
            model.score(X, y, np.ma.array(np.ones(30), mask=HOLE))
        with pytest.raises(DTypeError, match="expected real numbers in sample_weight"):
            model.fit(X, y, y.astype("M8[s]"))
    with pytest.raises(DTypeError, match="expected numbers or text"):
        regressor().fit(X, y.astype("M8[s]"))


def test_a_frame_with_categories_keeps_wide_numbers_and_gaps():
    frame = pd.DataFrame({"x": X[:, 0], "id": pd.Series(LABELS, dtype="Int64").mask(HOLE)})
    model = classifier(categorical_features=["id"]).fit(frame, np.arange(30) % 2)
    assert [name for name in model.encoder_.feature_names_out if name.startswith("id=")] == [
        f"id={BIG + k}" for k in np.argsort([-(LABELS[~HOLE] == BIG + k).sum() for k in range(3)], kind="stable")
    ]
