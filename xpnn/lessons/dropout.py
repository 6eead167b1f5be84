"""Lesson 9: learning by heart, and what helps against it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .lesson import AnswerError, Lesson, compare, expect_array

__all__ = ["LESSON"]

_TASK = """\
Write dropout(x, rate, train, rng), inverted dropout.

In training each element of x is set to 0 by itself with probability rate, and those that stay are divided by
1 - rate, so that the mean stays what it was. In evaluation x comes back as it is. x itself is not changed; rng is a
numpy Generator."""

_START = """\
import numpy as np


def dropout(x, rate, train, rng):
    ...
"""


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    dropout = answer["dropout"]
    rate, x = 0.2, np.random.default_rng(0).uniform(1, 2, (300, 200))
    given = x.copy()
    y = expect_array(dropout(given, rate, True, np.random.default_rng(1)), "dropout in training", x.shape)
    if not np.array_equal(given, x):
        raise AnswerError("dropout: expected x to stay as it was, got it changed. Write y = x * mask, not x *= mask.")
    share = float((y == 0).mean())
    if share == 0:
        raise AnswerError(
            "dropout in training: expected a fifth of the elements to be 0, got none. Is train asked the right way?"
        )
    if abs(share - (1 - rate)) < 0.05:
        raise AnswerError(
            f"dropout in training: expected {rate:.0%} to be 0, got {share:.0%}. rate is the share that is dropped."
        )
    if (y == 0).all(axis=0).any() or (y == 0).all(axis=1).any():
        raise AnswerError(
            "dropout in training: expected each element to be drawn by itself, got whole rows of 0, or columns."
        )
    if abs(share - rate) > 0.01:
        raise AnswerError(f"dropout in training: expected {rate:.0%} to be 0, got {share:.1%}.")
    yield f"{share:.1%} of the elements are 0, each drawn by itself"
    kept = y != 0
    compare(
        y[kept],
        x[kept] / (1 - rate),
        "what stays",
        {
            "It is not scaled up: the mean would fall by a fifth.": x[kept],
            "It is divided by rate; 1 - rate is the share that stays.": x[kept] / rate,
            "It is made smaller: divide by 1 - rate, do not multiply.": x[kept] * (1 - rate),
        },
    )
    yield f"the mean stays: {x.mean():.3f} before, {y.mean():.3f} after"
    again = dropout(x.copy(), rate, True, np.random.default_rng(1))
    if not np.array_equal(y, again):
        raise AnswerError("dropout: expected one mask from one seed, got two. Draw from the rng that comes in.")
    rng = np.random.default_rng(1)
    if np.array_equal(dropout(x.copy(), rate, True, rng), dropout(x.copy(), rate, True, rng)):
        raise AnswerError("dropout: expected a new mask at each call, got the same. Draw from the rng that comes in.")
    yield "drawn by rng: anew at each call"
    compare(
        dropout(x.copy(), rate, False, np.random.default_rng(1)),
        x,
        "dropout in evaluation",
        {
            "It drops in evaluation too: a network must say the same of a row each time it is asked.": y,
            "It is scaled in evaluation; inverted dropout has scaled in training already.": x * (1 - rate),
            "It is scaled in evaluation: x must come back as it is.": x / (1 - rate),
        },
    )
    compare(dropout(x.copy(), 0.0, True, np.random.default_rng(1)), x, "a rate of 0")
    yield "in evaluation, and with a rate of 0, x comes back as it is"


LESSON = Lesson(
    number=9,
    title="Rows it has not seen",
    goal="tell learning from learning by heart, and use what helps",
    minutes=40,
    page="9-overfitting.md",
    file="my_dropout.py",
    names=("dropout",),
    task=_TASK,
    start=_START,
    check=_check,
)
