"""What is passed to constructors and functions: read, checked, suggested and described in one way."""

from __future__ import annotations

import array_api_strict as strict
import numpy as np
import pytest

import xpnn
from xpnn.arguments import as_array, as_rows, constructor, describe, same_length, suggest
from xpnn.errors import DataError, DTypeError, ShapeError

X = np.arange(12.0).reshape(4, 3)


class Lazy:
    """Looks like an array, as a data set in a file does, but is none."""

    shape, dtype = (4, 3), np.dtype(float)

    def __array__(self, dtype=None, copy=None):
        return X


def test_arrays_are_left_alone():
    tensor = strict.ones(2)
    assert as_array(tensor, "f", "X") is tensor
    assert as_array(X, "f", "X") is X
    assert isinstance(as_array((1, 2), "f", "X"), np.ndarray)


def test_what_only_looks_like_an_array_is_read_unless_it_is_to_be_read_in_parts():
    lazy = Lazy()
    np.testing.assert_array_equal(as_array(lazy, "f", "X"), X)
    assert as_array(lazy, "f", "X", lazy=True) is lazy
    assert as_rows(lazy, "f", "X") is lazy


def test_rows_that_are_none():
    for call, error, text in (
        (lambda: as_array([[1.0], [2.0, 3.0]], "f", "X"), ShapeError, "f: expected rows of equal length in X"),
        (
            lambda: as_rows(np.empty((0, 2)), "f", "y"),
            DataError,
            r"f: expected at least one row in y, got shape \(0, 2\)",
        ),
        (lambda: as_rows(3.0, "f", "X"), DataError, r"got shape \(\)"),
        (lambda: as_rows(["a", "b"], "f", "X_val"), DTypeError, "f: expected real numbers in X_val"),
        (lambda: same_length("f", X=X, y=X[:2]), ShapeError, "f: expected equally many rows, but X has 4, y has 2"),
    ):
        with pytest.raises(error, match=text):
            call()
    assert as_rows(["a", "b"], "f", "y").tolist() == ["a", "b"]
    assert same_length("f", X=X, y=X, sample_weight=None) == 4


def test_suggestions_look_past_case_and_give_the_name_as_it_is():
    assert suggest("adamw", ["Adam", "AdamW"]) == "Did you mean 'AdamW'?"
    assert suggest("zzz", ["Adam"]) == "Choose one of these names."
    assert suggest("zzz", ["Adam"], otherwise="Look again.") == "Look again."


class Open(xpnn.Loss):
    """Takes any number of arguments."""

    def __init__(self, *parts, factor=2.0, **more):
        self.parts = parts
        self.factor = factor


def test_a_constructor_is_read_once_for_each_class(monkeypatch):
    assert {name: argument.variable for name, argument in constructor(Open).items()} == {
        "parts": True,
        "factor": False,
        "more": True,
    }
    monkeypatch.setattr("inspect.signature", None)
    assert describe(Open(1, factor=3.0)) == "Open(factor=3.0)"
    assert describe(Open(1)) == "Open()"


def test_a_class_made_anew_is_read_anew():
    def make(value):
        class Made(xpnn.Loss):
            def __init__(self, factor=value):
                self.factor = factor

        return Made

    assert [describe(make(value)(1.0)) for value in (1.0, 2.0)] == ["Made()", "Made(factor=1.0)"]
