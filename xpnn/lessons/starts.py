"""Lesson 7: where weights start."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .lesson import AnswerError, Lesson, expect_array

__all__ = ["LESSON"]

_TASK = """\
Write he_normal(n_in, n_out, rng): first weights for a layer with ReLU behind it.

Return an array of shape (n_in, n_out), drawn by rng (a numpy Generator) from a normal distribution with mean 0 and
variance 2 / n_in, so that a signal keeps its size from layer to layer."""

_START = """\
import numpy as np


def he_normal(n_in, n_out, rng):
    ...
"""

_N_IN, _N_OUT = 400, 100
#: What the usual mistakes give as standard deviation.
_SPREADS = {
    "The variance is 2 / n_in; here that is the standard deviation: take its root.": 2 / _N_IN,
    "This is the misprint 2 / √n_in: the root is over all of it, √(2 / n_in).": 2 / math.sqrt(_N_IN),
    "This is LeCun's 1 / n_in: ReLU halves the signal, so the variance must be twice that.": 1 / math.sqrt(_N_IN),
    "This is 2 / n_out: what comes forward is a sum over n_in inputs.": math.sqrt(2 / _N_OUT),
    "This is Xavier's 2 / (n_in + n_out), for tanh and sigmoid.": math.sqrt(2 / (_N_IN + _N_OUT)),
    "Normal numbers of variance 1 are not scaled at all.": 1.0,
    "All weights are 0: all units would stay equal.": 0.0,
}


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    draw = answer["he_normal"]
    got = draw(_N_IN, _N_OUT, np.random.default_rng(0))
    if isinstance(got, np.ndarray) and got.shape == (_N_OUT, _N_IN):
        raise AnswerError(
            f"he_normal: expected shape (n_in, n_out) = {(_N_IN, _N_OUT)}, got (n_out, n_in). Rows are inputs."
        )
    w = expect_array(got, "he_normal", (_N_IN, _N_OUT))
    yield "shape (n_in, n_out)"
    right, spread = math.sqrt(2 / _N_IN), float(w.std())
    if abs(w.mean()) > 5 * right / math.sqrt(w.size):
        raise AnswerError(
            f"he_normal: expected a mean of 0, got {w.mean():.4f}. The mean of rng.normal comes first: 0."
        )
    if not abs(spread - right) < 0.03 * right:
        near = [said for said, value in _SPREADS.items() if abs(spread - value) <= 0.03 * value]
        raise AnswerError(
            f"he_normal: expected a spread of {right:.4f}, got {spread:.4f}. {near[0] if near else ''}".rstrip()
        )
    fourth = float(((w / spread) ** 4).mean())
    if not 2.7 < fourth < 3.3:
        raise AnswerError(
            "he_normal: expected a normal distribution, got another of the right spread. Take rng.normal."
        )
    yield f"mean 0, spread √(2 / n_in): {spread:.4f} for n_in = {_N_IN}"
    again, other = draw(_N_IN, _N_OUT, np.random.default_rng(0)), draw(_N_IN, _N_OUT, np.random.default_rng(1))
    if not np.array_equal(w, again):
        raise AnswerError("he_normal: expected the same weights from the same seed, got others. Draw from rng alone.")
    if np.array_equal(w, other):
        raise AnswerError(
            "he_normal: expected other weights from another seed, got the same. Draw from the rng that comes in."
        )
    yield "drawn by rng: one seed, one start"
    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 256))
    begin = float((a**2).mean())
    for _ in range(20):
        a = np.maximum(a @ draw(256, 256, rng), 0)
    kept = float((a**2).mean()) / begin
    if not 0.1 < kept < 10:
        raise AnswerError(f"20 layers of ReLU: expected the signal to keep its size, got {kept:.1e} times its square.")
    yield f"20 layers of ReLU leave {kept:.2f} times the mean square"


LESSON = Lesson(
    number=7,
    title="Where to start",
    goal="choose first weights so that signals neither fade nor explode",
    minutes=35,
    page="7-starting.md",
    file="my_start.py",
    names=("he_normal",),
    task=_TASK,
    start=_START,
    check=_check,
)
