"""Loops of C over the elements of arrays, and the places of elements in what is broadcast."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

__all__ = ["Index", "nested", "strided", "total", "wrapped"]


class Index:
    """Variables of nested loops over a shape, and the place of an element of what is broadcast to it."""

    def __init__(self, shape: Sequence[int], name: str = "i") -> None:
        self.shape = tuple(shape)
        long = [axis for axis, n in enumerate(shape) if n > 1]
        letters = name if len(long) <= 1 else ""
        self.names = {axis: letters or f"{name}{k}" for k, axis in enumerate(long)}

    def open(self) -> list[str]:
        """Return the heads of the loops."""
        return [f"for (int {v} = 0; {v} < {self.shape[axis]}; {v}++)" for axis, v in self.names.items()]

    def at(self, shape: Sequence[int]) -> str:
        """Return the place of the element of an array of another shape, whose last axes are those of this one."""
        shift = len(self.shape) - len(shape)
        terms = []
        for axis, n in enumerate(shape):
            stride = math.prod(shape[axis + 1 :])
            if n > 1:
                terms.append(self.term(axis + shift, stride))
        return " + ".join(terms) or "0"

    def term(self, axis: int, stride: int) -> str:
        """Return the variable of an axis, times a stride."""
        name = self.names.get(axis, "0")
        return name if stride == 1 or name == "0" else f"{stride} * {name}"


def strided(index: Index, shape: Sequence[int], skip: int | None = None) -> list[str]:
    """Return the terms of a place in an array of `shape`, at the variables of the loops but for one axis."""
    return [
        index.term(axis, math.prod(shape[axis + 1 :]))
        for axis in range(len(shape))
        if axis in index.names and axis != skip
    ]


def total(terms: Sequence[str], *more: object) -> str:
    """Add terms up, without zeros."""
    kept = [str(term) for term in itertools.chain(terms, more) if str(term) != "0"]
    return " + ".join(kept) or "0"


def nested(loops: Sequence[str], lines: Sequence[str]) -> Iterator[str]:
    """Yield lines within loops, in a block of their own if there are several."""
    for depth, loop in enumerate(loops[:-1]):
        yield "    " * depth + loop
    depth = max(len(loops) - 1, 0)
    block = len(lines) > 1
    head = loops[-1] if loops else ""
    if head or block:
        yield "    " * depth + (f"{head} {{" if block and head else head or "{")
        depth += 1
    for line in lines:
        yield "    " * depth + line
    if block:
        yield "    " * (depth - 1) + "}"


def wrapped(head: str, items: Sequence[str]) -> str:
    """Return an initializer in lines of at most 120 characters."""
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > 120 and line.strip():
            lines.append(line)
            line = "   "
        line += f" {item},"
    return f"{head} = {{\n" + "\n".join([*lines, line]) + "\n};"
