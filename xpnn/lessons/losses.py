"""Lesson 4: what is wrong, as one number."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..contract import what
from ..special import softmax
from .lesson import AnswerError, Lesson, compare, shown

__all__ = ["LESSON"]

_TASK = """\
Write loss_and_gradient(scores, labels): cross-entropy behind softmax, for a batch.

scores has a row for each sample and a column for each class, labels a whole number for each row. Softmax makes each
row of scores probabilities: e^s, divided by the sum of the row. The loss of a row is -log of the probability of its
label; the loss is the mean over the rows. The gradient to the scores is (probabilities - one-hot labels) / rows.
Return both. Scores of 1000 must not overflow: taking the largest score of a row away from all of them changes no
probability."""

_START = """\
import numpy as np


def loss_and_gradient(scores, labels):
    ...
    return loss, gradient
"""


_softmax = functools.partial(softmax, xp=np)


def _both(function: Any, scores: np.ndarray, labels: np.ndarray) -> tuple[Any, Any]:
    got = function(scores.copy(), labels.copy())
    if not isinstance(got, tuple | list) or len(got) != 2:
        hint = "Is the return missing?" if got is None else "Write return loss, gradient."
        raise AnswerError(f"loss_and_gradient: expected the loss and its gradient, got {what(got)}. {hint}")
    return got[0], got[1]


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    scores, labels = np.asarray([[2.0, 1.0, 0.1], [0.0, 0.5, -1.0]]), np.asarray([0, 2])
    rows = np.arange(2)
    a, hot = _softmax(scores), np.eye(3)[labels]
    losses = -np.log(a[rows, labels])
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    wrong_axis, wrong_sum = _softmax(scores, axis=0), e / e.sum(axis=0)
    loss, gradient = _both(answer["loss_and_gradient"], scores, labels)
    compare(
        loss,
        losses.mean(),
        "loss",
        {
            "This is the sum over the rows; the mean is asked for.": losses.sum(),
            "It is divided by rows times classes; a row has one loss.": losses.sum() / scores.size,
            "It is negative: a minus is missing before the logarithm.": -losses.mean(),
            "The softmax runs down the columns: each row must sum to 1.": -np.log(wrong_axis[rows, labels]).mean(),
            "The sum of softmax runs down the columns: each row must sum to 1.": -np.log(
                wrong_sum[rows, labels]
            ).mean(),
            "There is one number for each row: take their mean.": losses,
            "The logarithm is that of base 10 or 2: take np.log.": losses.mean() / np.log(10),
        },
    )
    yield f"loss of two rows: {losses.mean():.4f}"
    compare(
        gradient,
        (a - hot) / 2,
        "gradient",
        {
            "It is not divided by the number of rows, as the mean is.": a - hot,
            "Its sign is wrong: probabilities minus labels.": (hot - a) / 2,
            "This is the gradient to the probabilities, -1/p; it must go back through the softmax too.": -hot / a / 2,
            "The labels are not taken away.": a / 2,
            "It is divided by rows times classes; a row has one loss.": (a - hot) / 6,
        },
    )
    yield "gradient: (a - y) / rows"
    yield from _far(answer["loss_and_gradient"])
    yield from _slopes(answer["loss_and_gradient"])


def _far(function: Any) -> Iterator[str]:
    """Look for overflows."""
    big = np.asarray([[1000.0, 0.0, -1000.0], [-1000.0, 0.0, 1000.0]])
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        try:
            loss, gradient = _both(function, big, np.asarray([0, 1]))
        except FloatingPointError as error:
            hint = "Take log(sum of e^s) apart: loss = log(sum) - score of the label, not the logarithm of a 0."
            if "overflow" in str(error) or "invalid" in str(error):
                hint = "Take the largest score of each row away first."
            raise AnswerError(f"scores of 1000: expected numbers, got {error}. {hint}") from None
    if np.size(loss) == 1 and 1 < float(np.ravel(loss)[0]) < 100:
        raise AnswerError(
            f"scores of 1000: loss: expected 500, got {shown(loss)}. A probability is clipped, which bounds the loss; "
            "log(sum of e^s) - score of the label needs no clipping."
        )
    compare(loss, 500.0, "scores of 1000: loss")
    compare(gradient, (_softmax(big) - np.eye(3)[[0, 1]]) / 2, "scores of 1000: gradient")
    yield "scores of 1000 do not overflow"


def _slopes(function: Any) -> Iterator[str]:
    """Compare the gradient with differences of the loss."""
    rng = np.random.default_rng(0)
    scores, labels = rng.standard_normal((5, 4)), rng.integers(0, 4, 5)
    _, gradient = _both(function, scores, labels)
    numeric, h = np.zeros_like(scores), 1e-5
    for place in np.ndindex(*scores.shape):
        bump = np.zeros_like(scores)
        bump[place] = h
        up, down = (_both(function, scores + s * bump, labels)[0] for s in (1, -1))
        numeric[place] = (up - down) / (2 * h)
    compare(gradient, numeric, "gradient, against differences of your own loss", rtol=1e-5)
    yield "the gradient agrees with differences of the loss"


LESSON = Lesson(
    number=4,
    title="How wrong is it?",
    goal="turn scores into probabilities, and their error into one number with a gradient",
    minutes=40,
    page="4-loss.md",
    file="my_loss.py",
    names=("loss_and_gradient",),
    task=_TASK,
    start=_START,
    check=_check,
)
