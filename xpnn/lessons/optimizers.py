"""Lesson 8: going downhill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..contract import what
from .lesson import AnswerError, Lesson, compare

__all__ = ["LESSON"]

_TASK = """\
Write one step of Adam, adam(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8), which returns new w, m and v.

m and v are running means of the gradient g and of its square: m = beta1 m + (1 - beta1) g, and v likewise with beta2
and g². They begin at 0, so in step t (1, 2, ...) they are too small: divide m by 1 - beta1^t and v by 1 - beta2^t.
Then w moves by -lr times the first over (the root of the second, plus eps). The arrays that come in stay as they
were, and the m and v that go out are those before the division."""

_START = """\
import numpy as np


def adam(w, g, m, v, t, lr, beta1=0.9, beta2=0.999, eps=1e-8):
    ...
    return w, m, v
"""

_LR = 0.1


def _steps(gradients: np.ndarray, eps: float = 1e-8, variant: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Adam from w = (1, -2), and what it becomes by the usual mistakes."""
    w, m, v = np.asarray([1.0, -2.0]), np.zeros(2), np.zeros(2)
    b1, b2 = (0.999, 0.9) if variant == "swapped" else (0.9, 0.999)
    for t, g in enumerate(gradients, 1):
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * (g if variant == "no square" else g * g)
        plain = variant == "plain"
        up, down = m / (1 if plain else 1 - b1**t), v / (1 if plain else 1 - b2**t)
        if variant == "kept":
            m, v = up, down
        late = eps / np.sqrt(1 - b2**t) if variant == "early" else eps
        root = np.sqrt(down + eps) if variant == "inside" else (down if variant == "no root" else np.sqrt(down)) + late
        w = w + (1 if variant == "uphill" else -1) * _LR * up / root
    return w, m, v


_MISTAKES = {
    "plain": "The division by 1 - beta^t is missing: in the first steps m and v are far too small.",
    "swapped": "beta1 and beta2 are exchanged: 0.9 is for the gradient, 0.999 for its square.",
    "uphill": "It goes uphill: take the step away from w.",
    "no square": "v is a mean of the gradient, not of its square.",
    "no root": "The root of v is missing.",
    "early": "eps is added to the root of v before it is divided; divide first.",
    "inside": "eps stands under the root; it is added to the root.",
    "kept": "m and v are kept divided: return those before the division, else they are divided twice.",
}


def _check(answer: Mapping[str, Any]) -> Iterator[str]:
    adam = answer["adam"]
    gradients = np.asarray([[0.5, -2.0], [0.3, 1.0], [-0.1, 0.7], [0.2, 0.2]])
    for steps in (1, 4):
        for eps in (1e-8, 0.01):
            w, m, v = np.asarray([1.0, -2.0]), np.zeros(2), np.zeros(2)
            for t, g in enumerate(gradients[:steps], 1):
                given = [a.copy() for a in (w, g, m, v)]
                got = adam(*given, t, _LR, eps=eps)
                if not isinstance(got, tuple | list) or len(got) != 3:
                    hint = "Is the return missing?" if got is None else "Write return w, m, v."
                    raise AnswerError(f"adam: expected w, m and v, got {what(got)}. {hint}")
                if not all(np.array_equal(a, b) for a, b in zip(given, (w, g, m, v), strict=True)):
                    raise AnswerError(
                        "adam: expected the arrays that come in to stay as they were, got one changed. "
                        "Write m = beta1 * m + ..., not m *= beta1."
                    )
                w, m, v = got
            right = _steps(gradients[:steps], eps)
            with np.errstate(all="ignore"):
                others = {said: np.concatenate(_steps(gradients[:steps], eps, how)) for how, said in _MISTAKES.items()}
            where = f"after {steps} step{'s' * (steps > 1)} with eps = {eps:g}: w, m, v"
            compare(np.concatenate([np.ravel(a) for a in (w, m, v)]), np.concatenate(right), where, others)
        yield "the first step has the size of lr, whatever the gradient" if steps == 1 else "four steps by the formula"
    w, m, v = np.asarray([4.0, 4.0]), np.zeros(2), np.zeros(2)
    for t in range(1, 301):
        w, m, v = adam(w, np.asarray([1.0, 100.0]) * w, m, v, t, _LR)
    if not np.abs(w).max() < 0.1:
        raise AnswerError(f"a valley 100 times as steep one way: expected the bottom after 300 steps, got {w}.")
    yield "it finds the bottom of a valley that is 100 times as steep one way"


LESSON = Lesson(
    number=8,
    title="Down the hill",
    goal="write an optimizer, and say what momentum, Adam and the learning rate do",
    minutes=45,
    page="8-optimizers.md",
    file="my_optimizer.py",
    names=("adam",),
    task=_TASK,
    start=_START,
    check=_check,
)
