"""The lessons in their order."""

from __future__ import annotations

from ..errors import OptionError
from . import activations, differences, dropout, layer, losses, optimizers, perceptron, starts, whole
from .lesson import Lesson

__all__ = ["LESSONS", "find_lesson"]

#: All lessons, the first one first.
LESSONS: tuple[Lesson, ...] = (
    perceptron.LESSON,
    activations.LESSON,
    layer.FORWARD,
    losses.LESSON,
    layer.BACK,
    differences.LESSON,
    starts.LESSON,
    optimizers.LESSON,
    dropout.LESSON,
    whole.LESSON,
)


def find_lesson(number: int) -> Lesson:
    """Return a lesson by its number.

    Examples
    --------
    >>> find_lesson(5).title
    'Back again'
    """
    if not 1 <= number <= len(LESSONS):
        raise OptionError(
            f"lesson: expected a number from 1 to {len(LESSONS)}, got {number}. `xpnn lesson` lists them."
        )
    return LESSONS[number - 1]
