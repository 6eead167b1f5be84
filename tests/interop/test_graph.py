"""The graph itself: what it is given, and how two answers are compared."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpnn
from xpnn.errors import DataError, OptionError, ShapeError
from xpnn.interop.checked import Check, compare
from xpnn.interop.graph import dtype_name, run
from xpnn.interop.samples import features_like
from xpnn.interop.subject import subject_of


def test_columns_may_have_one_axis_or_two(regressor):
    model, table = regressor
    subject = subject_of(model)
    columns = subject.columns(table)
    flat, tall = run(subject.graph, columns), run(subject.graph, {n: c[:, None] for n, c in columns.items()})
    assert flat["prediction"].tolist() == tall["prediction"].tolist()
    with pytest.raises(DataError, match="expected the column 'size'"):
        run(subject.graph, {})
    with pytest.raises(ShapeError, match=r"expected 'size' of shape"):
        run(subject.graph, columns | {"size": np.ones((3, 2))})
    with pytest.raises(ShapeError, match="of one length"):
        run(subject.graph, columns | {"size": np.ones(3)})


def test_dtypes_have_names_or_are_refused():
    assert dtype_name(np.zeros(1, np.int64)) == "int64"
    with pytest.raises(DataError, match="an array of complex128"):
        dtype_name(np.zeros(1, complex))


def test_a_comparison_finds_what_differs(classifier):
    model, table = classifier
    subject = subject_of(model)

    def off(by=0.0, label=None):
        def compute(columns):
            told = run(subject.graph, columns)
            told["probabilities"] = told["probabilities"] + by
            if label:
                told["label"] = np.full_like(told["label"], label)
            return told

        return lambda: compare(subject, table, compute, by="somebody")

    check = off(1e-7)()
    assert check.labels_differ == 0
    assert "labels equal" in str(check)
    assert check.to_dict()["by"] == "somebody"
    for bad in (off(1e-4), off(np.nan), off(label="low")):
        with pytest.raises(OptionError, match="expected somebody to answer as the model does, got rows checked 300"):
            bad()
    with pytest.raises(OptionError, match=r"probabilities of shape \(300, 2\)"):
        compare(subject, table, lambda c: run(subject.graph, c) | {"probabilities": np.ones((300, 2))}, by="somebody")


def test_labels_between_which_rounding_decides_may_differ():
    net = xpnn.mlp([2, 2], init="zeros")
    target = xpnn.data.targets.ClassTarget().fit(["no", "yes"])
    for threshold in (None, 0.5):
        subject = subject_of(xpnn.Predictor(net, xpnn.CrossEntropy(), target, threshold=threshold))
        rows = np.ones((3, 2))

        def other(columns, graph=subject.graph):
            told = run(graph, columns)
            return told | {"label": np.where(told["label"] == "no", "yes", "no").astype(object)}

        check = compare(subject, rows, other, by="somebody")
        assert check.labels_differ == 3
        assert str(check).splitlines()[1].split() == ["labels", "equal", "0"]
        surer = dataclasses.replace(subject, answers=lambda raw: {"label": np.array(["no"] * 3),
                                    "probabilities": np.tile([0.9, 0.1], (3, 1))})  # fmt: skip
        with pytest.raises(OptionError, match="somebody"):
            compare(surer, rows, other, by="somebody")


def test_numbers_are_compared_by_their_size():
    subject = subject_of(xpnn.mlp([1, 1], init=xpnn.initializers.Constant(1.0)))
    rows = np.array([[1e6], [2.0]])
    check = compare(subject, rows, lambda c: {"outputs": c["features"] * (1.0 + 1e-6)}, by="somebody")
    assert 9e-7 < check.differences["outputs"] < 2e-6
    assert isinstance(check, Check)
    with pytest.raises(OptionError, match="somebody"):
        compare(subject, rows, lambda c: {"outputs": c["features"] * np.inf}, by="somebody")


def test_made_up_rows_suit_the_network():
    def columns():
        inner = xpnn.Columns((1, xpnn.Embedding(3, 1)))
        return xpnn.Columns((2, xpnn.Linear(3)), (1, xpnn.Embedding(5, 2)), (1, inner))

    X = features_like(xpnn.Sequential(columns(), n_in=5), 200)
    assert set(X[:, 2].tolist()) == set(range(5))
    assert set(X[:, 3].tolist()) == set(range(3))
    assert X.dtype == np.float32
    whole = features_like(xpnn.Sequential(xpnn.Embedding(4, 2), n_in=2), 50)
    assert whole.dtype == np.int64
    nested = features_like(xpnn.Sequential(xpnn.Residual(columns(), xpnn.Linear(5)), n_in=5), 20)
    assert set(nested[:, 3].tolist()) <= set(range(3))
