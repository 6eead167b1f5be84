"""Whether a file answers as the model does that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import OptionError, ShapeError
from .subject import Subject

__all__ = ["ROWS", "Check", "compare"]

HostArray = npt.NDArray[Any]

#: How many rows are made up where none are given.
ROWS = 500


@dataclass(frozen=True)
class Check:
    """What was compared.

    Attributes
    ----------
    by : str
        What computed the file's answers, such as ``"onnxruntime 1.20.0"``.
    rows : int
        How many rows.
    labels_differ : int
        In how many of them the label is another.
    differences : dict of str to float
        By outputs of numbers, the largest difference: of probabilities as it is, of others relative to the largest
        number of the output.

    Examples
    --------
    >>> print(Check("numpy", 100, 0, {"probabilities": 1.2e-7}))
    rows checked              100  by numpy
    labels equal              100
    max |Δ| probabilities  1.2e-07
    """

    by: str
    rows: int
    labels_differ: int | None
    differences: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [("rows checked", f"{self.rows:,}", f"  by {self.by}")]
        if self.labels_differ is not None:
            lines.append(("labels equal", f"{self.rows - self.labels_differ:,}", ""))
        lines += [(f"max |Δ| {name}", f"{value:.2g}", "") for name, value in self.differences.items()]
        width, wide = max(len(name) for name, _, _ in lines), max(len(text) for _, text, _ in lines)
        return "\n".join(f"{name:<{width}}  {text:>{wide}}{rest}" for name, text, rest in lines)


def compare(
    subject: Subject,
    rows: Any,
    compute: Callable[[Mapping[str, HostArray]], Mapping[str, npt.ArrayLike]],
    *,
    by: str,
    tolerance: float = 1e-5,
) -> Check:
    """Compare what `compute` makes of the inputs of a graph with what the model itself answers.

    Parameters
    ----------
    subject : Subject
        The model.
    rows : array, frame, mapping or table
        Raw rows, as the model takes them.
    compute : callable
        Returns the outputs of the graph by their names for its inputs by theirs, such as a session of onnxruntime.
    by : str
        What that is, for the report.
    tolerance : float, default=1e-5
        Largest difference of probabilities; of other numbers relative to the largest of the output.

    Raises
    ------
    OptionError
        If a label is another where that is no matter of rounding, or a number is further off.
    ShapeError
        If there are no rows.
    """
    wanted = subject.answers(rows)
    n = len(next(iter(wanted.values())))
    if n == 0:
        raise ShapeError(
            "export: expected rows to compare on, got none. Pass some, or leave them out: some are made up."
        )
    got = {name: np.asarray(value) for name, value in compute(subject.columns(rows)).items()}
    differ, agreed = None, True
    differences: dict[str, float] = {}
    for name, truth in wanted.items():
        found = got[name]
        if found.size != np.size(truth):
            raise _unlike(by, f"{name} of shape {found.shape} for {np.shape(truth)}")
        found = found.reshape(np.shape(truth))
        if name == "label":
            apart = _differing(np.asarray(truth), found)
            sure = ~apart | _undecided(wanted.get("probabilities"), subject.threshold, tolerance)
            differ, agreed = int(apart.sum()), bool(np.all(sure))
        else:
            differences[name] = _difference(np.asarray(truth), found, relative=name != "probabilities")
    check = Check(by, n, differ, differences)
    if not agreed or not all(value <= tolerance for value in differences.values()):
        raise _unlike(by, str(check).replace("\n", ", "))
    return check


def _unlike(by: str, what: str) -> OptionError:
    return OptionError(
        f"export: expected {by} to answer as the model does, got {' '.join(what.split())}. Nothing was written. Look "
        "for a layer or a loss of your own that does not treat each row by itself."
    )


def _differing(truth: HostArray, found: HostArray) -> npt.NDArray[np.bool_]:
    """Return in which rows the label is another."""
    text = truth.dtype.kind in "OUT" or found.dtype.kind in "OUT"
    differ = np.asarray(truth.astype(str) != found.astype(str) if text else truth != found)
    return np.asarray(differ.any(axis=1) if differ.ndim == 2 else differ, dtype=np.bool_)


def _undecided(proba: HostArray | None, threshold: float | None, tolerance: float) -> Any:
    """Return in which rows rounding decides between two labels."""
    if proba is None:
        return False
    if threshold is None:
        ranked = np.sort(proba, axis=1)
        return ranked[:, -1] - ranked[:, -2] <= 2.0 * tolerance
    return (np.abs(proba - threshold) <= tolerance).any(axis=1)


def _difference(truth: HostArray, found: HostArray, *, relative: bool) -> float:
    """Return the largest difference, infinite where one is not finite and the other is."""
    truth, found = truth.astype(np.float64), found.astype(np.float64)
    if not truth.size:
        return 0.0
    same = (truth == found) | (np.isnan(truth) & np.isnan(found))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(truth - found))
    finite = np.abs(truth[np.isfinite(truth)])
    size = max(1.0, float(finite.max(initial=0.0))) if relative else 1.0
    worst = float(np.max(apart)) / size
    return worst if worst == worst else float("inf")
