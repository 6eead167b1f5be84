"""Lesson 10: the whole way, from rows to answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..contract import what
from ..data import make_moons
from .lesson import AnswerError, Lesson, expect_array

__all__ = ["LESSON"]

_TASK = """\
Write fit(X, y): train a network and return predict, a function of new rows that returns a label, 0 or 1, for each.

The rows are two moons, but in units of their own: the first column lies near 40 and varies by 0.01, the second lies
near 5000 and varies by a thousand. At least 95 % of new rows must be right. Bring both columns to one scale, by
numbers of the training rows alone: a new row must get the same answer alone as among others."""

_START = """\
import numpy as np

import xpnn


def fit(X, y):
    ...

    def predict(X_new):
        ...

    return predict
"""

_RIGHT = 0.95


def _rows(seed: int) -> tuple[np.ndarray, np.ndarray]:
    X, y = make_moons(300, noise=0.12, seed=seed)
    return np.asarray(X, dtype=np.float64) * [0.01, 1000.0] + [40.0, 5000.0], np.asarray(y)


def _labels(predict: Any, X: np.ndarray) -> np.ndarray:
    got = predict(X.copy())
    if got is not None and np.shape(got) == (len(X), 2):
        raise AnswerError(
            f"predict: expected a label for each row, got an array of shape {np.shape(got)}. These look like scores or "
            "probabilities: take the column of the larger one, .argmax(axis=1)."
        )
    labels = expect_array(got, "predict", (len(X),))
    if not np.isin(labels, [0, 1]).all():
        raise AnswerError(f"predict: expected labels 0 and 1, got {labels[:3]}. Probabilities above 1/2 are class 1.")
    return labels


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    X, y = _rows(0)
    given = X.copy()
    predict = answer["fit"](given, y.copy())
    if not callable(predict):
        hint = "Is the return missing?" if predict is None else "Define predict within fit, and return it."
        raise AnswerError(f"fit: expected a function of new rows, got {what(predict)}. {hint}")
    if not np.array_equal(given, X):
        raise AnswerError("fit: expected X to stay as it was, got it changed. Scale a copy.")
    new, truth = _rows(1)
    labels = _labels(predict, new)
    yield "a label for each new row"
    right = float((labels == truth).mean())
    alone = np.concatenate([_labels(predict, new[k : k + 1]) for k in range(40)])
    others = int((alone != labels[:40]).sum())
    if others > 2:  # one that lies on the border may round to either side
        raise AnswerError(
            f"predict: expected each row to get the same answer alone as among others, got {others} of 40 "
            "that differ. Scale new rows by the mean and spread of the training rows, not by their own."
        )
    yield "each row gets the same answer alone as among others"
    if right < _RIGHT:
        known = float((_labels(predict, X) == y).mean())
        hint = "It is a straight line: is there an activation between two layers, and enough epochs?"
        if known < 0.8:
            hint = "It is wrong on the training rows too: are both columns on one scale? A Standardizer does that."
        elif known > right + 0.05:
            hint = f"On training rows it is {known:.1%}: it has learnt them by heart."
        raise AnswerError(f"new rows: expected {_RIGHT:.0%} to be right, got {right:.1%}. {hint}")
    yield f"{right:.1%} of 300 new rows are right"


LESSON = Lesson(
    number=10,
    title="The whole way",
    goal="take a table you have never seen to answers you can vouch for",
    minutes=60,
    page="10-whole.md",
    file="my_model.py",
    names=("fit",),
    task=_TASK,
    start=_START,
    check=_check,
)
