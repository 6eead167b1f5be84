"""What a page says of how good a model is: from the evidence to sentences, tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..data.targets import ClassTarget
from . import charts
from .quality import comparison_of, comparison_table
from .run import Run
from .words import count, number, percent

__all__ = ["answers", "baselines", "calibration_lead", "coverage_lead", "groups", "importance"]

_METRICS = {"logloss": "the cross-entropy", "rmse": "the RMSE"}


def answers(run: Run) -> dict[str, Any]:
    """Return for the page what the evidence holds of each; None for what it does not hold."""
    evidence = run.evidence or {}
    quantity = run.info.get("target") or "target"
    makers = {
        "baselines": lambda found: baselines(found, run.predictor.threshold),
        "calibration": _calibration,
        "coverage": lambda found: _coverage(found, quantity, run.part),
        "groups": lambda found: groups(run, found),
        "importance": importance,
    }
    return {name: make(evidence[name]) if evidence.get(name) else None for name, make in makers.items()}


def baselines(found: Mapping[str, Any], threshold: float | None) -> dict[str, Any]:
    """Return what is said of simple models beside the network, and their table."""
    comparison = comparison_of(found)
    header, rows = comparison_table(comparison)
    note = f"All were scored on the same {count(comparison.rows)} rows, on which none of them was trained."
    if any(each.rows < comparison.trained for each in comparison.baselines):
        note += " The simple models are given at most so many of the training rows."
    if {each.name for each in comparison.baselines} == {"constant", "linear"}:
        note += (
            " Trees are missing: scikit-learn was not installed, or inputs and classes are too many for a quick look."
        )
    if threshold is not None:
        note += f" Here all answer with the likelier class, not by the network's threshold of {number(threshold)}."
    return {
        "sentences": comparison.sentences(),
        "header": header,
        "rows": rows,
        "note": note,
    }


def calibration_lead(found: Mapping[str, Any]) -> str:
    """Say by how much probabilities are off."""
    rows = count(sum(part["rows"] for part in found["bins"]))
    off = f"{100 * found['error']:.1f} percentage points"
    return f"Probabilities are off by {off} on average ({rows} rows; expected calibration error)."


def _calibration(found: Mapping[str, Any]) -> dict[str, Any]:
    of, bins = found["of"], found["bins"]
    if of is None:
        called, came, said = "probability of the answer", "answer was right", "the answer was right"
    else:
        of = charts.plain(of)
        called, came, said = f"probability of “{of}”", f"rows that were “{of}”", f"it was “{of}”"
    far = max(bins, key=lambda part: part["rows"] * abs(part["share"] - part["predicted"]))
    text = (
        "On the dashed line probabilities come true. Larger dots are of more rows; the lines are 95 % intervals. "
        f"Most of the error comes from {count(far['rows'])} rows where the network says {percent(far['predicted'])}: "
        f"{said} in {percent(far['share'])} of them."
    )
    svg = charts.calibration(bins, called, came, "calibration-chart", text)
    return {
        "lead": calibration_lead(found),
        "charts": [{"title": "Calibration", "svg": svg, "text": text, "keys": []}],
    }


def coverage_lead(found: Mapping[str, Any]) -> str:
    """Say whether intervals hold as many true values as they promise."""
    return (
        f"{percent(found['share'])} of {count(found['rows'])} true values lie in their intervals; promised are "
        f"{percent(found['promised'])}. Half the intervals are narrower than {number(found['median_width'])}; the mean "
        f"width is {number(found['width'])}."
    )


def _coverage(found: Mapping[str, Any], quantity: str, part: str) -> dict[str, Any]:
    text = "On the dashed line there are as many inside as promised. The lines are 95 % intervals of the share seen."
    svg = charts.coverage(found["parts"], found["promised"], quantity, f"coverage-chart{part}", text)
    return {
        "lead": coverage_lead(found),
        "charts": [{"title": "Coverage of the intervals", "svg": svg, "text": text, "keys": []}],
    }


def importance(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of the importance of columns, and their table."""
    metric, columns = _METRICS.get(found["metric"], found["metric"]), found["columns"]
    largest = max((column["mean"] for column in columns), default=0.0)
    rows = [
        {
            "name": column["name"],
            "bar": 100 * max(column["mean"], 0.0) / largest if largest > 0 else 0.0,
            "mean": _fixed(column["mean"], largest),
            "std": _fixed(column["std"], largest),
        }
        for column in columns
    ]
    few = "" if len(columns) == found["of"] else f" These are the {len(columns)} first of {found['of']} columns."
    lead = (
        f"By how much {metric} rises, from {number(found['score'])}, where the values of one column are shuffled "
        f"among the rows.{few}"
    )
    note = (
        f"Mean and standard deviation over {found['repeats']} orders of {count(found['rows'])} rows. Columns that say "
        "the same share their importance: of two of them, neither may seem to matter."
    )
    return {"lead": lead, "rows": rows, "note": note}


def _fixed(x: float, largest: float) -> str:
    """Return a number with as many digits behind the point as the largest of its column needs."""
    digits = max(3 - math.floor(math.log10(largest)), 0) if largest > 0 else 4
    return f"{x:,.{digits}f}".replace("-", "\N{MINUS SIGN}") if digits < 9 else number(x)


def groups(run: Run, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said of groups of rows, and their table."""
    classes = isinstance(run.predictor.target, ClassTarget)
    shown = percent if classes else number
    measured = ("error", "low", "high", "rest")
    rows = [{**group, **{name: shown(group[name]) for name in measured}} for group in found["groups"]]
    how = "is wrong most often" if classes else "is furthest off (mean absolute error)"
    note = (
        f"For each column the group of rows on which the network {how}: those of one category, one fifth of its "
        "range, or no value. The intervals hold for all groups looked at together (95 %), so they are wide for a group "
        "of few rows."
    )
    if found["columns"] < found["of"]:
        note += f" The first {found['columns']} of {count(found['of'])} columns were looked at."
    out = [group for group in found["groups"] if group["stands_out"]]
    return {"lead": _standing_out(out, classes), "what": "wrong" if classes else "off by", "rows": rows, "note": note}


def _standing_out(groups: Sequence[Mapping[str, Any]], classes: bool) -> str:
    if not groups:
        return "No group of rows stands out: what differs between them may be chance."
    worst = groups[0]
    error, rest = ((percent if classes else number)(worst[name]) for name in ("error", "rest"))
    said = (
        f"wrong in {error} of {count(worst['rows'])} rows"
        if classes
        else f"off by {error} ({count(worst['rows'])} rows)"
    )
    more = len(groups) - 1
    others = (
        f" Groups of {more} more columns stand out." if more > 1 else " So does a group of one more." if more else ""
    )
    return f"Where {worst['column']} is {worst['value']}, the network is {said}; elsewhere {rest}.{others}"
