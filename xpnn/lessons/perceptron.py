"""Lesson 1: the perceptron."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..contract import what
from .lesson import AnswerError, Lesson, compare, shown

__all__ = ["LESSON"]

_TASK = """\
Write perceptron(X, y, epochs), which returns w, b and mistakes.

Begin with w = 0 and b = 0. In each epoch go through the rows in their order. A row x is called 1 where
z = x @ w + b is at least 0, else 0. If that is not its y, learn at once: add x to w and 1 to b where y is 1,
take them away where y is 0. mistakes is a list with the number of wrong rows of each epoch; an epoch without any may be
the last one."""

_START = """\
import numpy as np


def perceptron(X, y, epochs):
    w, b, mistakes = np.zeros(X.shape[1]), 0.0, []
    for epoch in range(epochs):
        ...
    return w, b, mistakes
"""

_POINTS = np.asarray([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
_WANTED = np.asarray([1, 1, 0])
_CORNERS = np.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])


def _rule(
    X: np.ndarray, y: np.ndarray, epochs: int, *, strict: bool = False, bias: int = 1, late: bool = False,
    sign: int = 1, always: bool = False,
) -> tuple[np.ndarray, float, list[int]]:  # fmt: skip
    """Rosenblatt's rule, and what it becomes by the usual mistakes."""
    w, b, mistakes = np.zeros(X.shape[1]), 0.0, []
    for _ in range(epochs):
        wrong, dw, db = 0, np.zeros_like(w), 0.0
        for x, target in zip(X, y, strict=True):
            z = x @ w + b
            error = int(target) - int(z > 0 if strict else z >= 0)
            wrong += error != 0
            move = sign * (2 * int(target) - 1 if always else error)
            dw, db = dw + move * x, db + move * bias
            if not late:
                w, b, dw, db = w + dw, b + db, np.zeros_like(w), 0.0
        w, b = w + dw, b + db
        mistakes.append(wrong)
    return w, b, mistakes


_MISTAKES: dict[str, dict[str, Any]] = {
    "A row with z = 0 counts as class 1: write z >= 0, not z > 0.": {"strict": True},
    "The bias does not learn. Where w moves by x, b moves by 1.": {"bias": 0},
    "Learn from each row at once; here w moves after all rows of the epoch.": {"late": True},
    "It moves away: add x where y is 1 and was called 0, take x away where y is 0 and was called 1.": {"sign": -1},
    "w moves away, b does not: add x where y is 1 and was called 0.": {"sign": -1, "bias": -1},
    "It moves for rows that are right too. Only mistakes teach.": {"always": True},
}


def _learn(learn: Callable[..., Any], X: np.ndarray, y: np.ndarray, epochs: int) -> tuple[Any, Any, Any]:
    got = learn(X.copy(), y.copy(), epochs)
    if not isinstance(got, tuple) or len(got) != 3:
        hint = "Is the return missing?" if got is None else "Write return w, b, mistakes."
        raise AnswerError(f"perceptron: expected w, b and mistakes, got {what(got)}. {hint}")
    return got


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    learn = answer["perceptron"]
    for epochs in (1, 2, 6):
        w, b, mistakes = _learn(learn, _POINTS, _WANTED, epochs)
        right = _rule(_POINTS, _WANTED, epochs)
        others = {said: _rule(_POINTS, _WANTED, epochs, **how) for said, how in _MISTAKES.items()}
        where = f"three points, {epochs} epoch{'s' * (epochs > 1)}"
        line = np.append(right[0], right[1])
        lines = {said: np.append(other[0], other[1]) for said, other in others.items()}
        got = np.append(np.ravel(w), b)
        compare(got, line, f"{where}: (w₁, w₂, b)", lines)
        if np.ndim(mistakes) == 0:
            raise AnswerError(
                f"{where}: expected a list with the mistakes of each epoch, got {shown(mistakes)}. Append one number."
            )
        mistakes = (
            [*mistakes, *[0] * (epochs - len(mistakes))] if list(mistakes)[-1:] == [0] else mistakes
        )  # it stopped
        total = {"It goes on counting: begin at 0 in each epoch.": np.cumsum(right[2])}
        compare(mistakes, right[2], f"{where}: mistakes", total)
        if epochs == 2:
            yield f"two epochs by hand: w = ({line[0]:g}, {line[1]:g}), b = {line[2]:g}, mistakes {tuple(right[2])}"
    for name, y in {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0]}.items():
        w, b, mistakes = _learn(learn, _CORNERS, np.asarray(y), 20)
        compare((_CORNERS @ w + b >= 0).astype(int), y, f"{name}: what is said of the four corners")
        if np.ravel(mistakes)[-1] != 0:
            raise AnswerError(f"{name}: expected no mistake in the last of 20 epochs, got {mistakes}.")
        yield f"{name} settles"
    _, _, mistakes = _learn(learn, _CORNERS, np.asarray([0, 1, 1, 0]), 200)
    if len(mistakes) != 200 or min(mistakes) == 0:
        raise AnswerError(
            f"XOR: expected mistakes in each of 200 epochs, got {len(mistakes)} epochs with {min(mistakes)} at least. "
            "No line separates it: stop at no earlier time."
        )
    yield "XOR makes mistakes in each of 200 epochs, as it must: no line separates it"


LESSON = Lesson(
    number=1,
    title="A line that learns",
    goal="write the perceptron's rule, and say which problems a line can solve",
    minutes=30,
    page="1-perceptron.md",
    file="my_perceptron.py",
    names=("perceptron",),
    task=_TASK,
    start=_START,
    check=_check,
)
