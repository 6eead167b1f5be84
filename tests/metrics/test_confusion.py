"""Tables on the host against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnn.errors import DataError, LabelError, OptionError, ShapeError
from xpnn.metrics import confusion_matrix, most_confused, per_class


@settings(deadline=None)  # the first example pays for imports
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60))
def test_confusion_and_per_class_are_scikit_learns(pairs):
    sk = pytest.importorskip("sklearn.metrics")
    true, predicted = np.asarray(pairs).T
    matrix = confusion_matrix(true, predicted, n_classes=5)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(true, predicted, labels=range(5)))
    report = per_class(matrix)
    expected = sk.precision_recall_fscore_support(true, predicted, labels=range(5), zero_division=0)
    for key, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(report[key], values, rtol=1e-12)


def test_confusion_matrix_finds_its_size():
    assert confusion_matrix([0, 2], [1, 2]).shape == (3, 3)
    assert confusion_matrix(np.asarray([0, 200], dtype=np.uint8), [0, 200])[200, 200] == 1
    assert confusion_matrix([True, False], [True, True]).tolist() == [[0, 1], [0, 1]]
    assert confusion_matrix([], []).shape == (0, 0)
    assert confusion_matrix([], [], n_classes=2).tolist() == [[0, 0], [0, 0]]


def test_most_confused_sorts_and_stops():
    matrix = [[9, 1, 3], [3, 9, 0], [0, 7, 9]]
    assert most_confused(matrix) == [(2, 1, 7), (0, 2, 3), (1, 0, 3), (0, 1, 1)]
    assert most_confused(matrix, top=1, class_names=["a", "b", "c"]) == [("c", "b", 7)]
    assert most_confused(np.eye(3, dtype=int)) == []
    assert all(type(v) is int for v in most_confused(matrix, top=1)[0])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: confusion_matrix([0, 1], [0]), ShapeError, r"of one shape \(n,\), got \(2,\) and \(1,\)"),
        (
            lambda: confusion_matrix([[0.0]], [[1.0]]),
            ShapeError,
            r"got \(1, 1\) .*argmax\(axis=-1\) turns rows",
        ),
        (
            lambda: confusion_matrix([0.5], [0]),
            LabelError,
            r"expected y_true to hold integer labels, got dtype float",
        ),
        (
            lambda: confusion_matrix([0], ["a"]),
            LabelError,
            r"expected y_pred to hold integer labels, got dtype <U1",
        ),
        (
            lambda: confusion_matrix([-1], [0]),
            LabelError,
            r"expected y_true in \[0, inf\), got labels from -1",
        ),
        (
            lambda: confusion_matrix([0], [3], n_classes=3),
            LabelError,
            r"y_pred in \[0, 3\), got labels from 3 to 3",
        ),
        (
            lambda: most_confused([[1, 2]]),
            ShapeError,
            r"most_confused: expected a square matrix, got shape \(1, 2\)",
        ),
        (lambda: most_confused([[1]], class_names="ab"), OptionError, r"expected 1 class_names, got 2"),
        (lambda: most_confused([[1]], top=-1), OptionError, r"expected top >= 0, got -1"),
        (lambda: per_class([[0.5]]), DataError, r"per_class: expected counts, got float64 values"),
        (lambda: per_class([1]), ShapeError, r"per_class: expected a square matrix, got shape \(1,\)"),
    ],
)
def test_host_functions_explain(call, error, text):
    with pytest.raises(error, match=text):
        call()
