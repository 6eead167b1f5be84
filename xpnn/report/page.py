"""From runs to pages."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..confidence import wilson
from ..config import reading
from ..data.audit import AuditFinding, leaks
from ..data.targets import ClassTarget
from ..files import PathLike, atomic_path
from ..metrics import mode_of, most_confused, per_class
from ..optional import PACKAGES, needs
from ..training import Finding, diagnose
from ..training.diagnosis import OF_CURVES
from . import charts
from .answers import answers
from .quality import comparison_of
from .run import Run
from .words import count, duration, number, option, percent, sentence, value

__all__ = [
    "PANELS",
    "cautions",
    "check_requirements",
    "context",
    "each_class",
    "facts",
    "findings",
    "keys",
    "render",
    "settings",
    "showing",
    "useless",
    "write_report",
]

# Larger ones are drawn, or left out: nobody reads a table of 100 x 100.
_TABLE_CLASSES, _LISTED_CLASSES = 26, 50


def check_requirements(where: str) -> None:
    """Raise BackendUnavailableError, with the command that helps, where a page cannot be made here."""
    for package in ("jinja2", "matplotlib"):
        with needs(package, where, install=PACKAGES["jinja2"][1]):
            importlib.import_module(package)


def write_report(run: Run, path: PathLike) -> Path:
    """Write the page of one run, from `read_run`, to an HTML file; return its path.

    A `BackendUnavailableError` is raised if Jinja2 or matplotlib is not installed, a `DataError` if the file cannot be
    written.
    """
    check_requirements("write_report")
    with showing(run):
        contents = _contents(run)
    return render(path, "report.html", contents)


def showing(*runs: Run) -> AbstractContextManager[None]:
    """Turn what goes wrong while runs are shown into a FileFormatError: numbers so large that nothing can draw them."""
    folders = " and ".join(str(run.folder) for run in runs)
    return reading(folders, "a run that can be shown", got="numbers that nothing can draw", hint="Train again.")


def render(path: PathLike, template: str, contents: Mapping[str, Any]) -> Path:
    """Fill a template of this package and write the page; nothing in `contents` is taken for HTML but pictures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("xpnn.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"count": count, "number": number, "percent": percent, "value": value}
    text = pages.get_template(template).render(contents)
    file = Path(path).expanduser()
    with atomic_path(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


# -- one run ----------------------------------------------------------------------------------------------------
def _contents(run: Run) -> dict[str, Any]:
    evidence = run.evidence or {}
    contents = {
        "title": run.name,
        "headline": sentence(run.info),
        "context": context(run),
        "useless": useless(run),
        "facts": facts(run),
        "findings": findings(run),
        "diagnosed": evidence.get("diagnosed", "the curves"),
        "audit": _audit(run) if "audit" in run.info else None,
        "curves": _curves(run),
        "boundary": charts.png_uri(run.boundary.read_bytes()) if run.boundary else None,
        "targets": [_of_target(each) for each in run.of_targets],
        "options": [(option(name), value(given)) for name, given in settings(run).items()],
        "info": run.info,
        "layers": _layers(run),
    }
    return contents


def _of_target(run: Run) -> dict[str, Any]:
    """Return what is shown of the answers to one target; `run` is that of this target."""
    evidence = run.evidence or {}
    contents: dict[str, Any] = {
        "id": run.part,
        "of": f": {run.info['target']}" if run.part else "",
        "evidence": run.evidence,
        "scores": run.info["scores"],
        "images": [],
        "regression": not isinstance(run.predictor.target, ClassTarget),
        "matrix": None,
        "scatter": [],
        **answers(run),
    }
    if isinstance(run.predictor.target, ClassTarget):
        contents |= _classes(run, run.predictor.target)
    elif evidence.get("pairs"):
        contents["scatter"] = _scatter(run, evidence["pairs"])
    if evidence.get("image"):
        contents["images"] = [
            {**mistake, "uri": charts.image_uri(mistake["pixels"], evidence["image"])}
            for mistake in evidence["mistakes"]
        ]
    return contents


def context(run: Run) -> list[str]:
    """What puts the score in its place: a baseline, its uncertainty, and which rows it is of."""
    scores = run.info["scores"]
    rows, said = scores["rows"], cautions(run)
    if isinstance(run.predictor.target, ClassTarget):
        matrix = np.asarray(scores["confusion"])
        members = matrix.sum(axis=1)
        common = str(run.predictor.target.classes[int(members.argmax())])
        low, high = wilson(scores["accuracy"], rows)
        said.append(f"Always answering “{common}”, the most common class, would get {percent(members.max() / rows)}.")
        said.append(
            f"With this many rows, the rate on new data like these lies between {percent(low)} and {percent(high)} "
            "(95 % confidence)."
        )
    elif scores["r2"] is not None and scores["r2"] < 1 and "targets" not in scores:
        mean = scores["rmse"] / math.sqrt(1 - scores["r2"])
        said.append(f"Always answering the mean of these rows would be off by {number(mean)} (RMSE).")
    if run.info.get("best_epoch"):
        said.append(f"The weights are those of epoch {run.info['best_epoch']}, the best on the validation rows.")
    if scores["on"] == "validation rows":
        said.append("These rows also chose the best epoch, so new data will do a little worse.")
    if scores["on"] == "training rows":
        said.append("These are the rows it learnt from: new data will do worse. Hold some out with --test-size.")
    return said


def facts(run: Run) -> list[tuple[str, str]]:
    """Return the numbers of a run that are read first, each with its name."""
    info, scores = run.info, run.info["scores"]
    if isinstance(run.predictor.target, ClassTarget):
        figures = [("accuracy", percent(scores["accuracy"])), ("cross-entropy", number(scores["cross_entropy"]))]
    elif "targets" in scores:
        figures = [(f"RMSE, {each['target']}", number(each["rmse"])) for each in scores["targets"]]
        figures.append(("R², mean", number(scores["r2"])))
    else:
        figures = [("RMSE", number(scores["rmse"])), ("MAE", number(scores["mae"])), ("R²", number(scores["r2"]))]
    return [
        *figures,
        (scores["on"], count(scores["rows"])),
        ("parameters", count(run.predictor.net.n_params)),
        ("epochs", count(info["epochs"])),
        ("training", duration(info.get("seconds"))),
    ]


def settings(run: Run) -> dict[str, Any]:
    """Return the options of a run that tell something about it."""
    return {name: given for name, given in run.info["options"].items() if name != "no_download"}


def findings(run: Run) -> list[dict[str, str]]:
    """Return the diagnosis made beside the data; of runs without one what the curves tell.

    What another version of xpnn found in the curves is told only if it is found in them now.
    """
    if run.evidence is None or "findings" not in run.evidence:
        found = diagnose(run.history, run.predictor.net)
    else:
        found = [Finding(**finding) for finding in run.evidence["findings"]]
        if run.info["versions"].get("xpnn") != __version__:
            now = {finding.name for finding in diagnose(run.history, run.predictor.net)}
            found = [finding for finding in found if finding.name not in OF_CURVES - now]
    return [{"name": f.name, "evidence": _upper(f.evidence), "advice": _upper(f.advice)} for f in found]


def _audit(run: Run) -> list[dict[str, str]]:
    """Return what the audit of the table found, worst first."""
    found = [AuditFinding(**finding) for finding in run.info["audit"]]
    return [
        {
            "name": f"{f.severity}: {f.check}",
            "evidence": f"{'The table' if f.column is None else f.column}: {f.seen}",
            "advice": f.advice,
        }
        for f in found
    ]


def useless(run: Run) -> str | None:
    """Return that a network is no better than a constant, in a sentence; None where it is, or nothing is known."""
    said = []
    for each in run.of_targets:
        found = (each.evidence or {}).get("baselines")
        comparison = comparison_of(found) if found else None
        if comparison is not None and not comparison.useful:
            said.append(
                f"{each.info['target']}: {comparison.sentences()[0]}" if each.part else comparison.sentences()[0]
            )
    return " ".join(said) or None


def cautions(run: Run) -> list[str]:
    """Return why the score of a run may be too good: columns that tell the target by themselves."""
    return leaks(AuditFinding(**finding) for finding in run.info.get("audit", []))


def _upper(text: str) -> str:
    """Begin with a capital, unless the first word is the name of a column."""
    return text if "_" in text.partition(" ")[0] else text[:1].upper() + text[1:]


#: Columns of a history that get a picture, and their names.
PANELS = (
    ("loss", "Loss"),
    ("accuracy", "Accuracy"),
    ("rmse", "RMSE, in standard deviations of the target"),
    ("lr", "Learning rate"),
    ("grad_norm", "Gradient norm"),
)


def _curves(run: Run) -> list[dict[str, Any]]:
    drawn = []
    for column, title in PANELS:
        names = [name for name in (column, f"val_{column}") if name in run.history]
        if not names:
            continue
        text = " ".join(_course(run, name) for name in names)
        kept = run.info.get("best_epoch")
        lines = [charts.Line(run.history, name, hue, kept if hue else None) for hue, name in enumerate(names)]
        svg = charts.curves(lines, f"curve-{column.replace('_', '-')}", title, text)
        if svg is not None:
            said = ("training", "validation") if len(names) > 1 else ()
            drawn.append({"title": title, "svg": svg, "text": text, "keys": keys(said)})
    return drawn


def keys(labels: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return label, colour and dash of each curve."""
    return [(label, *charts.key(hue)) for hue, label in enumerate(labels)]


def _course(run: Run, name: str) -> str:
    """Say in words what a curve shows."""
    rows = [row for row in run.history.rows if name in row and math.isfinite(row[name])]
    if not rows:
        return f"{name} was never finite."
    first, last = rows[0][name], rows[-1][name]
    kind = "validation" if name.startswith("val_") else "training" if name not in ("lr", "grad_norm") else ""
    text = f"{kind} {number(first)} at first, {number(last)} at the end".strip()
    if kind == "validation":
        best = (min if mode_of(name) == "min" else max)(rows, key=lambda row: row[name])
        text += f", best {number(best[name])} in epoch {best['epoch']}"
    return _upper(text) + "."


def _classes(run: Run, target: ClassTarget) -> dict[str, Any]:
    matrix = np.asarray(run.info["scores"]["confusion"])
    names = [str(label) for label in target.classes]
    size, text = len(names), "Rows are true classes, columns predicted ones."
    contents: dict[str, Any] = {"classes": names, "pairs": most_confused(matrix, top=8, class_names=names)}
    if size <= _TABLE_CLASSES:
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        contents["matrix"] = [
            (name, list(zip(counts, row, strict=True)))
            for name, counts, row in zip(names, matrix.tolist(), shares.tolist(), strict=True)
        ]
    else:
        contents["matrix_svg"] = charts.confusion(matrix, names, "confusion-chart", f"{size} classes. {text}")
    rows = each_class(matrix, names)
    worst = sorted(rows, key=lambda row: math.inf if row[3] is None else row[3])[:_LISTED_CLASSES]
    contents["per_class"] = rows if size <= _LISTED_CLASSES else worst
    return contents


def each_class(matrix: np.ndarray, names: Sequence[str]) -> list[tuple[str, Any, Any, Any, int]]:
    """Return name, precision, recall, F1 and rows of each class; None for a share of no rows."""
    scores, predicted, support = per_class(matrix), matrix.sum(axis=0), matrix.sum(axis=1)
    of = {"precision": predicted, "recall": support, "f1": predicted + support}
    shares = [[x if n else None for x, n in zip(scores[key].tolist(), of[key], strict=True)] for key in of]
    return list(zip(names, *shares, support.tolist(), strict=True))


def _scatter(run: Run, pairs: Mapping[str, list[float]]) -> list[dict[str, Any]]:
    truth, prediction = pairs["truth"], pairs["prediction"]
    quantity = run.info.get("target") or "target"
    error = np.asarray(prediction) - np.asarray(truth)
    rows, looked = run.info["scores"]["rows"], len(truth)
    which = f"{count(looked)} of {count(rows)} rows, drawn at random." if looked < rows else f"All {count(rows)} rows."
    within = number(float(np.quantile(np.abs(error), 0.9)))
    spread = f"The middle error is {number(float(np.median(error)))}; nine of ten errors are not larger than {within}."
    line = f"On the dashed line a prediction is right. {which}"
    edge = f"{spread} The half percent on either side is counted in the outermost bars."
    band = "The line is the middle error of rows with about that prediction, the band holds four of five of them."
    against = charts.predicted_true(truth, prediction, quantity, f"true-chart{run.part}", line)
    by_value = charts.residuals(truth, prediction, quantity, f"residual-chart{run.part}", band)
    errors = charts.errors(truth, prediction, quantity, f"error-chart{run.part}", edge)
    return [
        {"title": "Predicted against true", "svg": against, "text": line, "keys": []},
        {"title": "Errors by predicted value", "svg": by_value, "text": band, "keys": []},
        {"title": "Errors", "svg": errors, "text": edge, "keys": []},
    ]


def _layers(run: Run) -> list[tuple[str, str, str, str]]:
    net = run.predictor.net
    rows = []
    for layer in net.layers:
        n_params = sum(math.prod(spec.shape) for spec in layer.param_specs())
        rows.append((layer.label, count(layer.n_in), count(layer.n_out), count(n_params)))
    return [*rows, ("total", count(net.n_in), count(net.n_out), count(net.n_params))]
