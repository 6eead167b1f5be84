"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..confidence import wilson
from ..errors import OptionError
from ..files import PathLike
from . import charts
from .page import PANELS, cautions, check_requirements, facts, findings, keys, render, settings, showing, useless
from .run import Run
from .words import number, option, sentence, value

__all__ = ["write_comparison"]


def write_comparison(runs: Sequence[Run], path: PathLike) -> Path:
    """Write a page that puts two or more runs side by side to an HTML file; return its path.

    What is raised is that of `write_report`, and an `OptionError` if there are fewer than two runs.
    """
    if len(runs) < 2:
        raise OptionError(f"write_comparison: expected at least two runs, got {len(runs)}. Use write_report for one.")
    check_requirements("write_comparison")
    with showing(*runs):
        contents = _contents(runs)
    return render(path, "comparison.html", contents)


def _contents(runs: Sequence[Run]) -> dict[str, Any]:
    labels = _labels(runs)
    chosen = [settings(run) for run in runs]
    names = list(dict.fromkeys(name for each in chosen for name in each))
    rows = [(option(name), [value(each.get(name)) for each in chosen]) for name in names]
    known = [dict(facts(run)) for run in runs]
    caution, best = _caution(runs), _best(runs)
    return {
        "title": f"{len(runs)} runs compared",
        "labels": labels,
        "keys": keys(labels),
        "version": __version__,
        "caution": caution,
        "best": None if caution else best,
        "chance": not caution and best is not None and _may_be_chance(runs),
        "fact_names": list(dict.fromkeys(name for fact in known for name in fact)),
        "runs": list(zip(labels, known, map(_said, runs), strict=True)),
        "findings": list(zip(labels, map(findings, runs), strict=True)),
        "curves": _curves(labels, runs),
        "differing": [(name, given) for name, given in rows if len(set(given)) > 1],
        "same": [(name, given[0]) for name, given in rows if len(set(given)) == 1],
    }


def _said(run: Run) -> str:
    """Say how good a run is, and why that may be less than it seems."""
    return " ".join(filter(None, [sentence(run.info), useless(run), *cautions(run)]))


def _labels(runs: Sequence[Run]) -> list[str]:
    """Name each run by its folder, and by its path where folders share a name."""
    names = [run.name for run in runs]
    return [run.name if names.count(run.name) == 1 else str(run.folder) for run in runs]


def _curves(labels: Sequence[str], runs: Sequence[Run]) -> list[dict[str, Any]]:
    drawn = []
    for column, title in PANELS:
        for name, what in ((f"val_{column}", f"{title}, validation"), (column, title)):
            # A run without this column keeps its place among the colours.
            held = [(hue, label, run.history) for hue, (label, run) in enumerate(zip(labels, runs, strict=True))]
            held = [(hue, label, history) for hue, label, history in held if name in history]
            if not held:
                continue
            text = "At the end: " + ", ".join(f"{label} {number(history[name][-1])}" for _, label, history in held)
            lines = [charts.Line(history, name, hue) for hue, _, history in held]
            svg = charts.curves(lines, f"curve-{name.replace('_', '-')}", what, f"{text}.")
            if svg is not None:
                drawn.append({"title": what, "svg": svg, "text": f"{text}.", "keys": []})
    return drawn


def _caution(runs: Sequence[Run]) -> str | None:
    """Say why the scores do not compare, if they do not."""
    infos = [run.info for run in runs]
    data = {
        (Path(info["source"]).name, str(info.get("target")), info["scores"]["on"], info["scores"]["rows"])
        for info in infos
    }
    kinds = {run.predictor.target.task for run in runs}
    if len(data) > 1 or len(kinds) > 1:
        return "These runs were scored on different data, so their scores do not compare."
    drawn = {(info["options"].get("seed"), info["options"].get("test_size")) for info in infos}
    if len(drawn) > 1 and infos[0]["scores"]["on"] not in ("test file", "test images"):
        return "These runs held out different rows: small differences of their scores may be chance."
    return None


def _best(runs: Sequence[Run]) -> int | None:
    """Return which run has the best score; None where they are of different kinds, or two are equal."""
    for name, best in (("accuracy", max), ("rmse", min)):
        scores = [run.info["scores"].get(name) for run in runs]
        if None not in scores and scores.count(best(scores)) == 1:
            return scores.index(best(scores))
    return None


def _may_be_chance(runs: Sequence[Run]) -> bool:
    """Whether the confidence intervals of the two best accuracies overlap."""
    scores = [run.info["scores"] for run in runs]
    if not all("accuracy" in score for score in scores):
        return False
    second, first = sorted(wilson(score["accuracy"], score["rows"]) for score in scores)[-2:]
    return second[1] > first[0]
