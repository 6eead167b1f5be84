"""A model card of a run: Markdown with the front matter that model hubs read, and lines for a person to fill in."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..confidence import mean_interval, wilson
from ..data.encoder import TableEncoder
from ..data.targets import ClassTarget, NumberTargets
from ..errors import DataError
from ..files import PathLike, atomic_path
from .answers import baselines, calibration_lead, coverage_lead, groups, importance
from .markdown import code, front_matter, table, text
from .page import cautions, context, each_class, findings, settings, showing, useless
from .run import Run
from .words import count, duration, number, option, percent, sentence, value

__all__ = ["run_of_card", "write_card"]

_FILL = "> **To fill in:**"
_HARM = f"{_FILL} on which groups of people or things would an error harm most, and is it scored there?"
_LICENSE = (
    "license: (to fill in; an identifier such as mit or apache-2.0)",
    "language, datasets, base_model: to fill in where they say something",
)
# Where files lie is nobody's business, and what only steers a command says nothing of its result.
_UNTOLD = {"source", "target", "out", "test_file", "test_target", "data_dir", "keep", "drop"}
_COLUMNS, _CLASSES, _IMPORTANT, _GROUPS = 100, 50, 10, 8
_NAMES = {"accuracy": "Accuracy", "cross_entropy": "Cross-entropy", "rmse": "RMSE", "mae": "MAE", "r2": "R²"}
_TYPES = {"r2": "r_squared"}
_SEAL = re.compile(r"<!-- xpnn report --card: run (?P<run>\S+), (?P<digest>[0-9a-f]{32}) -->\n")


def write_card(run: Run, path: PathLike) -> Path:
    """Write the card of one run, from `read_run`, to a Markdown file; return its path.

    A `DataError` is raised if the file cannot be written, or is there and is no card as xpnn wrote it: what a person
    filled in stays.
    """
    file = Path(path).expanduser()
    if file.exists() and run_of_card(file) is None:
        raise DataError(
            f"write_card: expected a new file, or a card that nobody has changed, got {file}. Name another file, or "
            "remove this one."
        )
    with showing(run):
        written = "\n".join(_lines(run)) + "\n"
    identity = str(run.info["run"].get("id")) if isinstance(run.info.get("run"), Mapping) else ""
    identity = identity if identity.isalnum() and identity.isascii() else "unknown"
    sealed = f"{written}\n<!-- xpnn report --card: run {identity}, {_digest(written)} -->\n"
    with atomic_path(file) as temporary:
        temporary.write_text(sealed, encoding="utf-8")
    return file


def run_of_card(path: PathLike) -> str | None:
    """Return of which run a file is the card; None if it is none, or was changed since it was written."""
    try:
        content = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    before, _, seal = content.rpartition("\n<!--")
    found = _SEAL.fullmatch(f"<!--{seal}")
    return found["run"] if found and found["digest"] == _digest(before) else None


def _digest(written: str) -> str:
    return hashlib.sha256(written.encode()).hexdigest()[:32]


# -- the whole ------------------------------------------------------------------------------------------------------
def _lines(run: Run) -> list[str]:
    warning = useless(run)
    said = [text(line) for line in (sentence(run.info), *([warning] if warning else []), *context(run))]
    head = [*front_matter(_front(run), _LICENSE), "", f"# {text(run.name)}", "", _what(run), "", *_paragraphs(said)]
    for name, lines in _parts(run):
        if lines:
            head += [f"## {name}", "", *lines, ""]
    return [*head[:-1]] if not head[-1] else head


def _parts(run: Run) -> list[tuple[str, Sequence[str]]]:
    """Return the sections with their names."""
    return [
        ("Use", _use()),
        ("How to use it", _loading(run)),
        ("Data", _data(run)),
        ("Scores", _scores(run)),
        ("Beside simple models", _each(run, _simple)),
        ("Where it fails", [*_known_faults(run), *_each(run, _failures), _HARM]),
        ("What it leans on", _each(run, _leans)),
        ("Training", _training(run)),
    ]


def _each(run: Run, section: Callable[[Run], list[str]]) -> list[str]:
    """Return a section, of several targets one below the other."""
    lines: list[str] = []
    for one in run.of_targets:
        said = section(one)
        lines += ([f"### {code(one.info['target'])}", ""] if one.part and said else []) + said
        lines += [""] if one.part and said else []
    return lines


def _paragraphs(sentences: Sequence[str]) -> list[str]:
    return [line for each in sentences for line in (each, "")]


def _what(run: Run) -> str:
    """Say what it is in a sentence."""
    predictor, info = run.predictor, run.info
    target = predictor.target
    if isinstance(target, ClassTarget):
        asked = f"tells {count(len(target.classes))} classes"
        asked += f" of {code(info['target'])}" if info.get("target") else ""
    elif isinstance(target, NumberTargets):
        asked = f"predicts the numbers {', '.join(map(code, target.called))}"
    else:
        asked = f"predicts the number {code(info['target'])}" if info.get("target") else "predicts a number"
    rows = f"rows of {code(_source(run))}"
    net = f"A neural network of {count(predictor.net.n_params)} parameters"
    return f"{net} that {asked}, trained on {rows} with xpnn {text(info['versions']['xpnn'])}."


def _source(run: Run) -> str:
    return Path(str(run.info["source"]).replace("\\", "/")).name


def _front(run: Run) -> dict[str, Any]:
    tabular = isinstance(run.predictor.encoder, TableEncoder)
    classes = isinstance(run.predictor.target, ClassTarget)
    kind = "tabular" if tabular else "image" if (run.evidence or {}).get("image") else "vector"
    task = f"{kind}-{'classification' if classes else 'regression'}"
    known = {"tabular-classification", "tabular-regression", "image-classification"}
    measured = [
        {"type": _TYPES.get(name, name), "name": _NAMES.get(name, name), "value": float(score)}
        for name, score, *_ in _measured(run)
    ]
    result = {
        "task": {"type": task, "name": task.replace("-", " ").capitalize()},
        "dataset": {"type": _source(run), "name": _source(run), "split": run.info["scores"]["on"]},
        "metrics": measured,
    }
    return {
        "library_name": "xpnn",
        **({"pipeline_tag": task} if task in known else {}),
        "tags": ["xpnn", task, "neural-network"],
        "metrics": [str(each["type"]) for each in measured],
        "model-index": [{"name": run.name, "results": [result]}],
    }


def _use() -> list[str]:
    return [
        f"{_FILL} what is this model for, and who decides by its answers?",
        "",
        f"{_FILL} what should it not be used for, and for rows of whom, where or when does it not speak?",
        "",
        f"{_FILL} where do the data come from, may they be used so, and whom do they describe?",
    ]


def _loading(run: Run) -> list[str]:
    predictor, version = run.predictor, run.info["versions"]["xpnn"]
    lines = ["```sh", f"pip install xpnn  # {version} wrote this model"]
    rows = None
    if isinstance(predictor.encoder, TableEncoder) and not predictor.info.get("by_position"):
        lines += [
            "xpnn predict model.safetensors new.csv        # writes new-predictions.csv",
            "xpnn check new.csv --model model.safetensors  # are these rows like those of the training?",
        ]
        if predictor.schema is not None and len(predictor.schema.columns) <= _COLUMNS:
            cells = [f"    {name!r}: {values!r}," for name, values in predictor.schema.example().items()]
            rows = ["rows = {  # or a frame of pandas or polars", *cells, "}"]
    else:
        lines += ["xpnn predict model.safetensors new.npz"]
        columns = len(predictor.info["features"]) if predictor.info.get("by_position") else predictor.net.n_in
        rows = ["import numpy as np", "", f"rows = np.zeros((1, {columns}))  # yours"]
    lines += ["```"]
    if rows is None:
        return lines
    answers = ["print(predictor.predict(rows))"]
    if isinstance(predictor.target, ClassTarget):
        answers.append("print(predictor.predict_proba(rows))")
    elif predictor.intervals is not None:
        answers.append("print(predictor.predict_interval(rows, coverage=0.9))")
    load = ["import xpnn", "", 'predictor = xpnn.load_predictor("model.safetensors")  # beside this card']
    return [*lines, "", "```python", *load, *rows, *answers, "```"]


# -- data -----------------------------------------------------------------------------------------------------------
def _data(run: Run) -> list[str]:
    info, schema = run.info, run.predictor.schema
    options, rows = info["options"], _rows_trained(run)
    facts = [f"- source: {code(_source(run))}"]
    if info.get("target"):
        given = info["target"]
        facts.append(f"- target: {', '.join(map(code, [given] if isinstance(given, str) else given))}")
    if rows is not None:
        facts.append(f"- rows trained on: {count(rows)}")
    facts.append(f"- scored on: {count(info['scores']['rows'])} {info['scores']['on']}")
    shares = [f"{option(name)} {value(options[name])}" for name in ("test_size", "validation_size") if name in options]
    facts.append(f"- split: {', '.join([*shares, 'seed ' + value(options.get('seed'))])}")
    if schema is None:
        return facts
    _, *cells = schema.table()
    shown = [[code(name, cell=True), kind, gaps, code(held, cell=True)] for name, kind, gaps, held in cells[:_COLUMNS]]
    lines = [*facts, "", *table(["column", "kind", "missing", "in training"], shown, numbers=[2])]
    if len(cells) > _COLUMNS:
        lines += ["", f"And {count(len(cells) - _COLUMNS)} more columns."]
    return lines


def _rows_trained(run: Run) -> int | None:
    found = (run.of_targets[0].evidence or {}).get("baselines")
    return found["trained"] if found else run.info.get("rows")


# -- scores ---------------------------------------------------------------------------------------------------------
def _measured(run: Run) -> list[tuple[str, float, float | None, float | None]]:
    """Return each score with the ends of its 95 % interval, where there is one."""
    scores, pairs = run.info["scores"], (run.evidence or {}).get("pairs")
    names = [name for name, score in scores.items() if isinstance(score, int | float) and name != "rows"]
    ends: dict[str, tuple[float, float]] = {}
    if "accuracy" in scores:
        ends["accuracy"] = wilson(scores["accuracy"], scores["rows"])
    elif pairs and len(pairs["truth"]) > 1:
        error = np.asarray(pairs["prediction"]) - np.asarray(pairs["truth"])
        ends["mae"] = _around(scores["mae"], np.abs(error), scores["rows"])
        low, high = _around(scores["rmse"] ** 2, np.square(error), scores["rows"])
        ends["rmse"] = math.sqrt(low), math.sqrt(high)
    return [(name, scores[name], *ends.get(name, (None, None))) for name in names]


def _around(mean: float, values: np.ndarray, rows: int) -> tuple[float, float]:
    """Return the interval of a mean of so many rows, the spread of which some of them tell."""
    low, high = mean_interval(values)
    half = (high - low) / 2 * math.sqrt(len(values) / rows)
    return max(mean - half, 0.0), mean + half


def _scores(run: Run) -> list[str]:
    info, rows = run.info, []
    shown = {"accuracy": percent, "balanced_accuracy": percent}
    for name, score, low, high in _measured(run):
        show = shown.get(name, number)
        between = "" if low is None or high is None else f"{show(low)} to {show(high)}"
        rows.append([text(_NAMES.get(name, option(name))), show(score), between])
    on = f"{count(info['scores']['rows'])} {info['scores']['on']}"
    lines = [f"Of {on}:", "", *table(["score", "", "95 % interval"], rows, numbers=[1, 2])]
    folds = info.get("cross_validation")
    if isinstance(folds, Mapping):
        means = [
            f"{option(name)} {number(mean)} ± {number(folds['std'][name])}" for name, mean in folds["mean"].items()
        ]
        lines += ["", text(f"Cross-validation, mean and standard deviation of the folds: {', '.join(means)}.")]
    target = run.predictor.target
    if isinstance(target, ClassTarget):
        of = each_class(np.asarray(info["scores"]["confusion"]), [str(label) for label in target.classes])
        cells = [
            [code(name, cell=True), percent(precision), percent(recall), percent(f1), count(support)]
            for name, precision, recall, f1, support in of[:_CLASSES]
        ]
        lines += ["", *table(["class", "precision", "recall", "F1", "rows"], cells, numbers=[1, 2, 3, 4])]
    if isinstance(target, NumberTargets):
        cells = [
            [code(each["target"], cell=True), *(number(each[name]) for name in ("rmse", "mae", "r2"))]
            for each in info["scores"]["targets"]
        ]
        lines += ["", *table(["target", "RMSE", "MAE", "R²"], cells, numbers=[1, 2, 3])]
    for one in run.of_targets:
        of_one, evidence = f"{code(one.info['target'])}: " if one.part else "", one.evidence or {}
        for name, lead in (("calibration", calibration_lead), ("coverage", coverage_lead)):
            if evidence.get(name):
                lines += ["", of_one + lead(evidence[name])]
    return lines


def _simple(run: Run) -> list[str]:
    found = (run.evidence or {}).get("baselines")
    if not found:
        return []
    said = baselines(found, run.predictor.threshold)
    rows = [[text(cell) for cell in row] for row in said["rows"]]
    head = [name or "model" for name in said["header"]]
    sentences = " ".join(map(text, said["sentences"]))
    return [*([sentences, ""] if sentences else []), *table(head, rows, numbers=[1, 2, 3]), "", text(said["note"])]


def _known_faults(run: Run) -> list[str]:
    lines = [text(caution) for caution in cautions(run)]
    if (run.evidence or {}).get("findings"):
        lines += [text(f"{each['evidence']} {each['advice']}") for each in findings(run)]
    return _listed(lines)


def _failures(run: Run) -> list[str]:
    found = (run.evidence or {}).get("groups")
    if not found:
        return []
    said = groups(run, found)
    rows = [
        [
            code(group["column"], cell=True),
            code(group["value"], cell=True),
            count(group["rows"]),
            group["error"],
            f"{group['low']} to {group['high']}",
            group["rest"],
            "stands out" if group["stands_out"] else "may be chance",
        ]
        for group in said["rows"][:_GROUPS]
    ]
    head = ["column", "group", "rows", said["what"], "interval", "other rows", ""]
    lines = [text(said["lead"])]
    lines += ["", *table(head, rows, numbers=[2, 3, 4, 5]), "", text(said["note"])] if rows else []
    return lines if run.part else [*lines, ""]


def _listed(sentences: Sequence[str]) -> list[str]:
    return [*(f"- {each}" for each in sentences), *([""] if sentences else [])]


def _leans(run: Run) -> list[str]:
    found = (run.evidence or {}).get("importance")
    if not found:
        return []
    said = importance(found)
    rows = [[code(row["name"], cell=True), row["mean"], row["std"]] for row in said["rows"][:_IMPORTANT]]
    return [text(said["lead"]), "", *table(["column", "rise", "±"], rows, numbers=[1, 2]), "", text(said["note"])]


# -- training -------------------------------------------------------------------------------------------------------
def _training(run: Run) -> list[str]:
    info = run.info
    facts: dict[str, Any] = {
        "epochs": count(info["epochs"]),
        "best epoch": info.get("best_epoch"),
        "ended early": info.get("stopped"),
        "time": duration(info.get("seconds")),
        "finished": info.get("finished"),
        "seed": info["options"].get("seed"),
    }
    facts |= {option(name): told for name, told in settings(run).items() if name not in _UNTOLD | {"epochs", "seed"}}
    facts |= {f"version of {name}": version for name, version in info["versions"].items()}
    facts |= info.get("machine") or {}
    rows = [
        [text(name), code(value(told), cell=True)] for name, told in facts.items() if told is not None and told != ""
    ]
    return table(["", ""], rows)
