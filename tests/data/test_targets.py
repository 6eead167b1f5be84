"""Targets of a table: which kind they are, their codes and the way back, and every refusal."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnn.data.spelling import Spelling
from xpnn.data.targets import ClassTarget, NumberTarget, infer_task, target_from_dict
from xpnn.errors import DataError, FileFormatError, LabelError, ShapeError


def texts(*values: str | None) -> np.ndarray:
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("y", "task", "why"),
    [
        (texts("a", "b"), "classification", "holds text: 2 classes"),
        (np.array(["a", "b"]), "classification", "holds text: 2 classes"),
        (np.array([True, False]), "classification", "holds booleans: 2 classes"),
        (np.array([0.5, 1.0, 2.0]), "regression", "numbers with fractions"),
        (np.array([0.0, 1.0, 1.0]), "classification", "2 different whole numbers in 3 rows: few enough"),
        (np.arange(3), "regression", "3 different whole numbers in 3 rows: too many"),
        (np.arange(100) % 20, "classification", "20 different whole numbers in 100 rows: few enough"),
        (np.arange(99) % 20, "regression", "20 different whole numbers in 99 rows: too many"),
        (np.arange(210) % 21, "regression", "21 different whole numbers in 210 rows: too many"),
        (np.ones((4, 1)), "classification", "1 different whole number in 4 rows"),
    ],
)
def test_infer_task(y, task, why):
    got = infer_task(y)
    assert got.task == task
    assert why in got.why


@pytest.mark.parametrize("use", [infer_task, lambda y: ClassTarget().fit(y), lambda y: NumberTarget().fit(y)])
@pytest.mark.parametrize("y", [texts("1", None, None), np.array([1.0, np.nan, np.nan]), texts("1", "", "")])
def test_missing_targets_are_counted(use, y):
    message = r"target: expected a value in every row, got none in 2 of 3 rows \(the first is data row 2\)"
    with pytest.raises(DataError, match=message):
        use(y)


@pytest.mark.parametrize("use", [infer_task, lambda y: ClassTarget().fit(y), lambda y: NumberTarget().fit(y)])
def test_no_targets(use):
    with pytest.raises(DataError, match="target: expected at least one row, got none"):
        use(np.zeros(0))


def test_a_target_of_two_columns():
    with pytest.raises(ShapeError, match=r"column 'target': expected shape \(n,\), got \(3, 2\)"):
        infer_task(np.zeros((3, 2)))


@pytest.mark.parametrize(
    ("y", "classes", "codes"),
    [
        (texts("no", "yes", "no"), ("no", "yes"), [0, 1, 0]),
        (np.array([10.0, 9.0, 10.0]), (9, 10), [1, 0, 1]),
        (np.array([5, -1, 5]), (-1, 5), [1, 0, 1]),
        (np.array([0.5, 2.0, 0.5]), (0.5, 2.0), [0, 1, 0]),
        (np.array([True, False, True]), (False, True), [1, 0, 1]),
    ],
)
def test_classes_in_order_and_back(y, classes, codes):
    target = ClassTarget().fit(y)
    assert target.classes == classes
    encoded = target.encode(y)
    assert encoded.dtype == np.int64
    assert encoded.tolist() == codes
    decoded = target.decode(encoded)
    assert decoded.tolist() == y.tolist()
    assert decoded.dtype.kind == y.dtype.kind or (y.dtype.kind, decoded.dtype.kind) == ("f", "i")
    twin = target_from_dict(json.loads(json.dumps(target.to_dict())))
    assert isinstance(twin, ClassTarget)
    assert (twin.classes, twin.encode(y).tolist()) == (classes, codes)


def test_a_label_is_the_same_as_text_and_as_number():
    assert ClassTarget().fit(texts("0", "1", "other")).encode(np.array([1.0, 0.0])).tolist() == [1, 0]
    assert ClassTarget().fit(np.array([0.0, 1.0])).encode(texts("1", " 0 ")).tolist() == [1, 0]


def test_an_ending_is_stripped_in_fit_and_encode():
    target = ClassTarget(strip=".").fit(texts("<=50K.", ">50K.", ">50K"))
    assert target.classes == ("<=50K", ">50K")
    assert target.encode(texts(">50K.", "<=50K")).tolist() == [1, 0]
    assert target_from_dict(target.to_dict()).encode(texts(">50K.")).tolist() == [1]


def test_an_ending_can_be_stripped_at_evaluation_alone():
    target = ClassTarget().fit(texts("<=50K", ">50K"))
    assert target.encode(texts(">50K.", "<=50K."), strip=".").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("known", "given_", "advice"),
    [
        (
            ["<=50K", ">50K"],
            ["<=50K.", ">50K."],
            r"The labels end in '\.'; strip it with --strip-target '\.'\.",
        ),
        (["<=50K.", ">50K."], ["<=50K", ">50K"], r"seen in training end in '\.'; train again with --strip"),
        (["yes", "no"], ["Yes", "NO"], "They differ in upper and lower case"),
        (["yes", "no"], ["maybe"], "Check that this is the right target column"),
        (["yes", "no"], ["yes.", "no!"], "Check that this is the right target column"),
    ],
)
def test_unknown_labels_get_the_advice_that_mends_them(known, given_, advice):
    target = ClassTarget().fit(texts(*known))
    with pytest.raises(LabelError, match=advice):
        target.encode(texts(*given_))


def test_an_unknown_label_is_named_with_its_row():
    target = ClassTarget().fit(texts("a", "b"))
    message = r"expected one of the 2 classes 'a', 'b', got 'c' in data row 2 \(1 of 3 rows with unknown"
    with pytest.raises(LabelError, match=message):
        target.encode(texts("a", "c", "b"))


@pytest.mark.parametrize("use", [lambda t: t.encode(["a"]), lambda t: t.decode([0])])
def test_classes_that_were_never_fitted(use):
    with pytest.raises(LabelError, match="ClassTarget: expected fitted classes, got none"):
        use(ClassTarget())


def test_a_single_class_is_refused():
    with pytest.raises(LabelError, match="expected at least two classes, got only 'a' in all 2 rows"):
        ClassTarget().fit(texts("a", "a"))


def test_labels_that_do_not_repeat_are_refused():
    with pytest.raises(LabelError, match="expected labels that repeat, got 30 different ones in 30 rows"):
        ClassTarget().fit(np.arange(30))


def test_numbers_are_standardised_with_ddof_0_and_back():
    y = np.array([1.0, 2.0, 3.0, 10.0])
    target = NumberTarget().fit(y)
    z = target.encode(y)
    assert z.shape == (4, 1)
    assert z.dtype == np.float32
    np.testing.assert_allclose(z[:, 0], (y - y.mean()) / y.std(), rtol=1e-6)
    np.testing.assert_allclose(target.decode(z), y, rtol=1e-6)
    np.testing.assert_allclose(target.decode(z[:, 0]), y, rtol=1e-6)
    np.testing.assert_allclose(target.decode([[-9.0], [9.0]], clip=True), [1.0, 10.0])
    twin = target_from_dict(json.loads(json.dumps(target.to_dict())))
    assert isinstance(twin, NumberTarget)
    np.testing.assert_array_equal(twin.encode(y), z)
    np.testing.assert_array_equal(twin.decode([[9.0]], clip=True), [10.0])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(3, 2.0), "expected values that vary, got 2 in all 3 rows"),
        (np.full(3, 0.1), "expected values that vary, got 0.1 in all 3 rows"),
        (np.array([0.0, 5e-324]), "expected values that vary, got 0 in all 2 rows"),
        (texts("1", "two", "3"), "column 'target': expected a number, got 'two' in data row 2"),
        (np.array([1.0, np.inf]), "column 'target': expected finite numbers"),
    ],
)
def test_bad_numbers(y, message):
    with pytest.raises(DataError, match=message):
        NumberTarget().fit(y)


@pytest.mark.parametrize(
    "state",
    [{}, {"task": "ranking"}, {"task": "classification"}, {"task": "regression", "mean": "x"}, None],
)
def test_a_damaged_target_state(state):
    with pytest.raises(FileFormatError, match=r"target_from_dict: expected what to_dict\(\) returns"):
        target_from_dict(state)


# -- labels as they were trained -----------------------------------------------------------------------------------
BIG = 2**53


@pytest.mark.parametrize(
    "y",
    [
        np.array([BIG, BIG + 1, BIG + 2] * 5),
        np.array([BIG, BIG + 1, BIG + 2] * 5, dtype=np.uint64),
        np.array([BIG, BIG + 1, BIG + 2] * 5, dtype=object),
        np.array([2**70, 2**70 + 1, -1] * 5, dtype=object),
        np.array([2**63, 2**63 + 1, -1] * 5, dtype=object),
    ],
)
def test_whole_labels_never_pass_through_floats(y):
    assert "3 different whole numbers" in infer_task(y).why
    target = ClassTarget().fit(y)
    assert target.classes == tuple(sorted({int(v) for v in y}))
    twin = target_from_dict(json.loads(json.dumps(target.to_dict())))
    assert twin.decode(twin.encode(y)).tolist() == y.tolist()
    assert twin.encode(texts(*map(str, y.tolist()))).tolist() == twin.encode(y).tolist()


def test_float32_labels_are_those_that_a_person_types():
    target = ClassTarget().fit(np.array([0.1, 0.2] * 3, np.float32))
    assert target.classes == (0.1, 0.2)
    assert target.encode(np.array([0.2, 0.1])).tolist() == target.encode(texts("0.2", "0.10")).tolist() == [1, 0]


def test_booleans_in_objects_are_booleans():
    target = ClassTarget().fit(np.array([True, False, True], dtype=object))
    assert target.classes == (False, True)
    assert target.encode(texts("True", "False")).tolist() == [1, 0]


@given(st.lists(st.sampled_from(["1", "1.0", "01", "2", "2e0", "x"]), min_size=1, max_size=6))
def test_a_label_is_the_same_whatever_stands_beside_it(labels):
    for classes in (texts("01", "02", "x", "1"), texts("1", "2"), np.array([1, 2]), np.array([1.0, 2.0])):
        target = ClassTarget().fit(classes)

        def read(part, target=target):
            try:
                return target.encode(texts(*part)).tolist()
            except LabelError:
                return [None]

        alone = [read([label])[0] for label in labels]
        assert read(labels) == ([None] if None in alone else alone)


def test_a_quantity_is_read_in_the_spelling_of_its_training():
    target = NumberTarget().fit(texts("1,5", "2,5"), spelling=Spelling(","))
    twin = target_from_dict(json.loads(json.dumps(target.to_dict())))
    assert twin.numbers(texts("7", "0,5")).tolist() == [7.0, 0.5]
    with pytest.raises(
        DataError, match=r"column 'target': expected a number with a decimal comma, got '0\.5' in data row 1"
    ):
        twin.encode(texts("0.5"))
    with pytest.raises(DataError, match="target: expected a value in every row, got none in 1 of 2 rows"):
        twin.encode(texts("7", "NULL"))
    old = target.to_dict()
    del old["spelling"]
    assert target_from_dict(old).numbers(texts("0.5")).tolist() == [0.5]
