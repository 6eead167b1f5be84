"""Lesson 6: is a gradient right?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .lesson import AnswerError, Lesson, compare, expect_array

__all__ = ["LESSON"]

_TASK = """\
Write two functions.

numeric_gradient(f, w, h): f takes an array like w and returns a number. Return, for each element of w, the central
difference (f(w with h more there) - f(w with h less there)) / (2 h), as an array of w's shape, whatever that is. w is
afterwards what it was.

relative_error(a, n): how far two gradients are apart, |a - n| / (|a| + |n|), where |.| is the root of the sum of all
squares; 0 where both are 0."""

_START = """\
import numpy as np


def numeric_gradient(f, w, h=1e-5):
    ...


def relative_error(a, n):
    ...
"""


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    numeric, error = answer["numeric_gradient"], answer["relative_error"]
    yield from _differences(numeric)
    yield from _errors(error)
    yield from _faults(numeric, error)


def _differences(numeric: Callable[..., Any]) -> Iterator[str]:
    w = np.asarray([[0.5, -1.0, 2.0], [1.5, 0.0, -0.3]])
    start = w.copy()

    def f(v: np.ndarray) -> float:
        return float((v**3).sum())

    h, right = 1e-2, 3 * w**2
    central, forward = right + h**2, right + 3 * w * h + h**2
    got = numeric(f, w, h)
    if not np.allclose(w, start, rtol=0, atol=1e-9):  # put back by adding and taking away h, it is rounded
        raise AnswerError(
            "numeric_gradient: expected w to be what it was, got it moved. Put each element back, or move a copy."
        )
    compare(
        got,
        central,
        "numeric_gradient of the sum of w³ at h = 0.01",
        {
            "The difference is taken to one side alone: from w - h to w + h its error is far smaller.": forward,
            "It is divided by h; the two points are 2 h apart.": 2 * central,
            "It is not divided by 2 h.": 2 * h * central,
            "The two points are taken in the wrong order.": -central,
            "All elements move at once; move one, and leave the others where they are.": np.full_like(w, central.sum()),
        },
        rtol=1e-5,
    )
    yield "a matrix: central differences, one element at a time"
    for v in (np.asarray([0.3, -0.2]), np.asarray(0.7), np.ones((2, 1, 2)) * 0.4):
        compare(
            numeric(np.sum, v.copy(), 1e-5), np.ones_like(v), f"numeric_gradient of the sum, shape {v.shape}", rtol=1e-6
        )
    yield "vectors, numbers and cubes"


def _errors(error: Callable[..., Any]) -> Iterator[str]:
    a, n = np.asarray([[3.0, 0.0], [0.0, 4.0]]), np.asarray([[3.0, 0.0], [0.0, 2.0]])
    sizes = np.linalg.norm(a), np.linalg.norm(n)
    gap = np.linalg.norm(a - n)
    compare(
        error(a, n),
        gap / (sizes[0] + sizes[1]),
        "relative_error",
        {
            "This is the absolute error: it says nothing before it is compared with the size.": gap,
            "It is compared with the size of a alone: divide by |a| + |n|.": gap / sizes[0],
            "It is compared with the size of n alone: divide by |a| + |n|.": gap / sizes[1],
            "The squares lack their root.": gap**2 / (sizes[0] ** 2 + sizes[1] ** 2),
            "There is a number for each element: take the root of the sum of all squares first.": np.asarray(
                [[0.0, 0.0], [0.0, 2.0 / 6.0]]
            ),
        },
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        zero = expect_array(error(np.zeros(3), np.zeros(3)), "relative_error of two gradients that are 0", ())
    compare(zero, 0.0, "relative_error of two gradients that are 0")
    yield "relative error, also where both are 0"


def _faults(numeric: Callable[..., Any], error: Callable[..., Any]) -> Iterator[str]:
    """Use both on a right gradient and on three wrong ones."""
    rng = np.random.default_rng(0)
    x, y, v = rng.standard_normal((20, 3)), rng.standard_normal(20), rng.standard_normal(3)

    def loss(v: np.ndarray) -> float:
        return float(((x @ v - y) ** 2).mean())

    slope = 2 * x.T @ (x @ v - y) / 20
    faults = {
        "right": slope,
        "the 1/m is missing": 20 * slope,
        "the 2 is missing": slope / 2,
        "its sign is wrong": -slope,
    }
    errors = {name: float(error(a, numeric(loss, v.copy(), 1e-5))) for name, a in faults.items()}
    if not errors.pop("right") < 1e-7 or not min(errors.values()) > 0.1:
        raise AnswerError(
            f"a gradient with three planted faults: expected a small error for the right one alone, got {errors}."
        )
    yield "it passes a right gradient and finds three wrong ones"


LESSON = Lesson(
    number=6,
    title="Trust, but check",
    goal="check any gradient by differences, and find the line that is wrong",
    minutes=40,
    page="6-checking.md",
    file="my_check.py",
    names=("numeric_gradient", "relative_error"),
    task=_TASK,
    start=_START,
    check=_check,
)
