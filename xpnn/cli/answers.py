"""Predictions as rows of a file: columns of numbers, labels and cells that are kept, written a block at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np

from ..accel.workers import together, worker_count
from ..data.formatted import Cells, escaped, joined, rounded, shortest, words_as
from ..data.targets import ClassTarget, NumberTargets
from ..data.written import Written
from ..predictor import Predictor

__all__ = ["Column", "answers_of", "labels_in", "numbers", "probabilities", "texts", "write_rows"]

#: The cells of a slice of rows.
Column: TypeAlias = Callable[[slice], Cells]

_BLOCK = 1 << 14  # rows


def numbers(values: np.ndarray) -> Column:
    """Return numbers with all their digits."""
    return lambda rows: shortest(values[rows])


def probabilities(values: np.ndarray) -> Column:
    """Return numbers of six digits."""
    return lambda rows: rounded(values[rows])


def texts(values: Any, *, alone: bool = False) -> Column:
    """Return a column as it is written in a file, gaps as nothing; the only one of a file is `alone`."""
    if isinstance(values, Written) and values.numbers is None:
        words = escaped(("" if word is None else word for word in values.words), alone=alone)
        return lambda rows: words_as(words, values.codes[rows])

    def some_cells(rows: slice) -> Cells:
        some = values.between(rows.start, rows.stop) if isinstance(values, Written) else values[rows].tolist()
        made = escaped(("" if cell is None else cell for cell in some), alone=alone)
        return words_as(made, np.arange(len(made)))

    return some_cells


def answers_of(
    predictor: Predictor, out: np.ndarray, bounds: np.ndarray | None, *, alone: bool
) -> tuple[list[str], list[Column]]:
    """Return the names and the columns of the answers to what `Predictor.predict_proba` returned, with their bounds.

    Of several targets each has columns of its own, with its name.  `alone` in their file or not matters for labels.
    """
    target = predictor.target
    if isinstance(target, ClassTarget):
        codes = predictor.codes(out)
        words = escaped(target.decode(np.arange(len(target.classes))).tolist(), alone=alone)
        return ["prediction"], [lambda rows: words_as(words, codes[rows])]
    decoded = predictor.decode(out)
    of = [f"({name})" for name in target.called] if isinstance(target, NumberTargets) else [""]
    sides = [("prediction", decoded)]
    if bounds is not None:
        sides += [("lower", bounds[..., 0]), ("upper", bounds[..., 1])]
    named = [
        (f"{side}{name}", values.reshape(len(values), -1)[:, k]) for k, name in enumerate(of) for side, values in sides
    ]
    return [name for name, _ in named], [numbers(values) for _, values in named]


def labels_in(predictor: Predictor, out: np.ndarray, kept: Mapping[str, Any]) -> Iterator[str]:
    """Yield the different texts, not numbers, that answers and columns to keep hold, the first of each column first."""
    for column in kept.values():
        words = column.words if isinstance(column, Written) else dict.fromkeys(column.tolist())
        yield from (word for word in words if isinstance(word, str))
    if isinstance(predictor.target, ClassTarget):
        found, first = np.unique(predictor.codes(out), return_index=True)
        labels = predictor.target.decode(found[np.argsort(first)]).tolist()
        yield from (label for label in labels if isinstance(label, str))


def write_rows(write: Callable[[bytes], Any], header: Iterable[str], columns: list[Column], n: int) -> None:
    """Write a header and `n` rows, as Python's `csv` does."""
    names = list(header)
    write(b",".join(escaped(names, alone=len(names) == 1)) + b"\n")
    at_once = 2 * worker_count()
    for start in range(0, n, at_once * _BLOCK):
        places = [slice(a, min(a + _BLOCK, n)) for a in range(start, min(start + at_once * _BLOCK, n), _BLOCK)]
        found = [b""] * len(places)

        def make(k: int, places: list[slice] = places, found: list[bytes] = found) -> None:
            found[k] = joined([column(places[k]) for column in columns])

        together(make, len(places))
        for block in found:
            write(block)
