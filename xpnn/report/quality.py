"""What a report shows of how good a model is: beside simple ones, by column, by group, by what it promises."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..baselines import Baseline, Comparison
from ..calibration import calibration_curve, expected_calibration_error
from ..confidence import wilson
from ..data.targets import ClassTarget
from ..inspection import permutation_importance, worst_groups
from ..predictor import Predictor
from .words import count, number, percent

__all__ = ["calibration", "comparison_of", "comparison_table", "coverage", "groups", "importance"]

# So that a report takes seconds: rows, multiply-adds of the network, columns; and what is shown of the columns.
_ROWS, _FEWEST, _WORK, _COLUMNS, _SHOWN = 2_000, 100, 2 * 10**10, 200, 20
_REPEATS = 5
_BINS, _PARTS, _GROUPS = 10, 5, 12


def importance(predictor: Predictor, raw: Any, y: np.ndarray, n_columns: int, seed: int) -> dict[str, Any] | None:
    """Return by how much shuffling each column harms; None where that would take minutes."""
    rows = min(_ROWS, _WORK // (n_columns * _REPEATS * predictor.net.n_params), len(y))
    if n_columns > _COLUMNS or rows < min(_FEWEST, len(y)):
        return None
    found = permutation_importance(predictor, raw, y, n_repeats=_REPEATS, max_rows=rows, seed=seed)
    columns = [
        {"name": name, "mean": mean, "std": std}
        for name, mean, std in zip(found.names, found.mean.tolist(), found.std.tolist(), strict=True)
    ]
    facts = {"metric": found.metric, "score": found.score, "rows": found.rows, "repeats": _REPEATS}
    return {**facts, "of": len(columns), "columns": columns[:_SHOWN]}


def groups(predictor: Predictor, columns: Mapping[str, Any], y: np.ndarray, out: np.ndarray) -> dict[str, Any]:
    """Return the worst group of each column, those that stand out most first."""
    target = predictor.target
    if isinstance(target, ClassTarget):
        error = (predictor.codes(out) != target.encode(y)).astype(np.float64)
    else:
        error = np.abs(predictor.decode(out) - target.numbers(y))
    some = dict(list(columns.items())[:_COLUMNS])
    found = worst_groups(some, error)
    listed = [{**group._asdict(), "stands_out": group.stands_out} for group in found[:_GROUPS]]
    return {"error": float(error.mean()), "columns": len(some), "of": len(columns), "groups": listed}


def calibration(target: ClassTarget, codes: np.ndarray, out: np.ndarray) -> dict[str, Any]:
    """Return how often what was called so probable came true, in ten classes of probability.

    Of two classes it is the probability of the second one, of more that of the answer.  The error is the mean distance
    of the two, weighted by rows.
    """
    curve, bins = calibration_curve(codes, out, n_bins=_BINS), []
    for predicted, share, rows in zip(curve.prob_pred.tolist(), curve.prob_true.tolist(), curve.counts, strict=True):
        low, high = wilson(share, int(rows))
        bins.append({"predicted": predicted, "share": share, "low": low, "high": high, "rows": int(rows)})
    error = expected_calibration_error(codes, out, n_bins=_BINS)
    return {"of": str(target.classes[1]) if len(target.classes) == 2 else None, "error": error, "bins": bins}


def coverage(
    low: np.ndarray, high: np.ndarray, truth: np.ndarray, guess: np.ndarray, promised: float
) -> dict[str, Any]:
    """Return how many true numbers lie in their intervals, of all rows and of each fifth of the predictions."""
    inside = (low <= truth) & (truth <= high)
    edges = np.unique(np.quantile(guess, np.linspace(0, 1, _PARTS + 1)[1:-1]))
    part = np.searchsorted(edges, guess, side="left")
    parts = []
    for k in np.unique(part).tolist():
        own = part == k
        ends = wilson(float(inside[own].mean()), int(own.sum()))
        span = {
            "from": float(guess[own].min()),
            "to": float(guess[own].max()),
            "width": float((high - low)[own].mean()),
        }
        share = {"share": float(inside[own].mean()), "low": ends[0], "high": ends[1], "rows": int(own.sum())}
        parts.append({**span, **share})
    width = {"width": float(np.mean(high - low)), "median_width": float(np.median(high - low))}
    return {"promised": promised, "share": float(inside.mean()), "rows": len(truth), **width, "parts": parts}


def comparison_of(found: Mapping[str, Any]) -> Comparison:
    """Return a comparison with baselines from what was written of it."""

    def interval(gain: float, low: float | None, high: float | None) -> tuple[float, float, float]:
        return gain, -math.inf if low is None else low, math.inf if high is None else high  # JSON has no infinity

    baselines = [
        Baseline(**{**each, "gains": {name: interval(*gain) for name, gain in each["gains"].items()}})
        for each in found["baselines"]
    ]
    return Comparison(found["rows"], found["trained"], found["scores"], baselines)


def comparison_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of the network and its baselines: what it is, two scores, rows."""
    classes = "accuracy" in found.scores
    first, second = ("accuracy", "cross_entropy") if classes else ("rmse", "mae")
    models = [(each.what, each.scores, each.rows) for each in found.baselines]
    rows = [
        [what, (percent if classes else number)(scores[first]), number(scores[second]), count(trained)]
        for what, scores, trained in [*models, ("this network", found.scores, found.trained)]
    ]
    header = ["", *(("accuracy", "cross-entropy") if classes else ("RMSE", "MAE")), "trained on"]
    return header, rows
