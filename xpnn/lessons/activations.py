"""Lesson 2: activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .lesson import AnswerError, Lesson, compare, expect_array

__all__ = ["LESSON"]

_TASK = """\
Write sigmoid(z), 1 / (1 + e^(-z)) of each number of an array, and sigmoid_slope(z), its slope there.

Both take z, of any shape, and give an array of that shape. Neither may overflow where z is -1000 or 1000: for a
negative z the same fraction, times e^z above and below, has no large number in it. z itself stays as it was."""

_START = """\
import numpy as np


def sigmoid(z):
    ...


def sigmoid_slope(z):
    ...
"""


def _sigmoid(z: np.ndarray) -> np.ndarray:
    small = np.exp(-np.abs(z))  # at most 1
    return np.asarray(np.where(z >= 0, 1.0, small) / (1.0 + small))


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    z = np.asarray([[-3.0, -0.5, 0.0], [0.5, 2.0, 6.0]])
    a = _sigmoid(z)
    given = z.copy()
    got = answer["sigmoid"](given)
    compare(
        got,
        a,
        "sigmoid(z)",
        {
            "The sign of the exponent is wrong: e^(-z), so that it rises with z.": 1 - a,
            "This is tanh: the sigmoid lies between 0 and 1.": np.tanh(z),
            "The 1 above the line is e^z here.": np.exp(z) / (1 + np.exp(-z)),
        },
    )
    yield "sigmoid: six numbers, in two rows"
    slope = answer["sigmoid_slope"](given)
    compare(
        slope,
        a * (1 - a),
        "sigmoid_slope(z)",
        {
            "z (1 - z) is not it: first a = sigmoid(z), then a (1 - a).": z * (1 - z),
            "This is the sigmoid itself, not its slope.": a,
            "The factor a is missing: a (1 - a).": 1 - a,
            "That is sigmoid(a) (1 - sigmoid(a)): one sigmoid too many.": _sigmoid(a) * (1 - _sigmoid(a)),
            "This is the slope of tanh, 1 - a².": 1 - a * a,
        },
    )
    if not np.array_equal(given, z):
        raise AnswerError(
            "z: expected it to stay as it was, got it changed. Do not write into the array that comes in."
        )
    h = 1e-5
    by_differences = (_sigmoid(z + h) - _sigmoid(z - h)) / (2 * h)
    compare(slope, by_differences, "sigmoid_slope(z), against differences", rtol=1e-5)
    yield "its slope, also by differences: 0.25 at most"
    far = np.asarray([-1000.0, -40.0, 40.0, 1000.0])
    for name in ("sigmoid", "sigmoid_slope"):
        try:
            with np.errstate(over="raise", invalid="raise"):
                got = expect_array(answer[name](far), f"{name} far from 0", far.shape)
        except FloatingPointError:
            raise AnswerError(
                f"{name} far from 0: expected numbers up to 1, got an overflow: e^1000 is larger than any float. "
                "Take the exponential of -|z| alone."
            ) from None
        compare(got, _sigmoid(far) * (1 if name == "sigmoid" else 1 - _sigmoid(far)), f"{name} far from 0")
    yield "no overflow at -1000 and 1000"


LESSON = Lesson(
    number=2,
    title="Why networks bend",
    goal="say why layers need an activation, and compute one and its slope safely",
    minutes=30,
    page="2-activations.md",
    file="my_activation.py",
    names=("sigmoid", "sigmoid_slope"),
    task=_TASK,
    start=_START,
    check=_check,
)
