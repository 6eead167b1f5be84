"""What a lesson is, and how an answer is compared with the right one and with the usual mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..contract import what

__all__ = ["AnswerError", "Lesson", "compare", "expect_array", "shown"]


class AnswerError(Exception):
    """An answer is not right; the message says what is wrong, and why."""


@dataclass(frozen=True)
class Lesson:
    """One lesson of the course.

    Attributes
    ----------
    number : int
        Its place in the course, from 1.
    title : str
        A few words.
    goal : str
        What somebody can do who has done it.
    minutes : int
        How long reading and exercise take.
    page : str
        Its page, in docs/course.
    file : str
        What the file of an answer may be called.
    names : tuple of str
        What that file must define.
    task : str
        The exercise, in words.
    start : str
        Code to begin with.
    check : callable
        Takes what the file defines, by name; yields a sentence for each thing that is right, and raises `AnswerError`.
    """

    number: int
    title: str
    goal: str
    minutes: int
    page: str
    file: str
    names: tuple[str, ...]
    task: str
    start: str
    check: Callable[[Mapping[str, Any]], Iterator[str]]


def shown(a: Any) -> str:
    """Write an array in one line, in few digits.

    Examples
    --------
    >>> shown(np.asarray([[1.0, 0.25]]))
    '[[1, 0.25]]'
    """
    values = np.asarray(a)
    if values.size > 12:
        return f"{what(values)}, which begins {shown(values.reshape(-1)[:4])[:-1]}, …]"
    return np.array2string(values, separator=", ", formatter={"float_kind": "{:.6g}".format}).replace("\n", "")


def expect_array(got: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return an answer as an array of floats; raise `AnswerError` unless it has the shape, and numbers alone."""
    if got is None:
        raise AnswerError(f"{name}: expected an array of shape {shape}, got None. Is a return missing?")
    try:
        found = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        raise AnswerError(f"{name}: expected an array of shape {shape}, got {what(got)}. Return numbers.") from None
    if found.shape != shape:
        raise AnswerError(f"{name}: expected shape {shape}, got {found.shape}. Look at its axes.")
    if not np.isfinite(found).all():
        raise AnswerError(f"{name}: expected numbers, got {shown(found)}. Something overflows, or is divided by 0.")
    return found


def compare(got: Any, right: Any, name: str, mistakes: Mapping[str, Any] | None = None, rtol: float = 1e-6) -> None:
    """Raise `AnswerError` unless an answer equals the right one.

    `mistakes` has what usual mistakes give, by the sentence that says what was done: the first that equals the
    answer is named.
    """
    right = np.asarray(right, dtype=np.float64)
    for said, value in (mistakes or {}).items():
        if _alike(got, np.asarray(value, dtype=np.float64), rtol) and not _alike(value, right, rtol):
            raise AnswerError(f"{name}: expected {shown(right)}, got {shown(value)}. {said}")
    found = expect_array(got, name, right.shape)
    if not _alike(found, right, rtol):
        raise AnswerError(f"{name}: expected {shown(right)}, got {shown(found)}.")


def _alike(got: Any, right: np.ndarray, rtol: float) -> bool:
    try:
        found = np.asarray(got, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return found.shape == right.shape and np.allclose(found, right, rtol=rtol, atol=1e-9, equal_nan=True)
