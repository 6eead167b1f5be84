"""What a report shows of the data, taken while they are there: mistakes, predictions, the diagnosis."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..backend import to_numpy
from ..baselines import Comparison, compare_baselines
from ..data.arrays import some_rows, take_rows
from ..data.encoder import TableEncoder
from ..data.targets import ClassTarget, NumberTargets
from ..errors import OptionError, ShapeError
from ..predictor import Predictor
from ..training import Finding, History, diagnose
from . import quality

__all__ = ["FORMAT", "Trained", "collect_evidence"]

#: Of the dictionary, for those who read it later.
FORMAT = 1

# A report stays small however large the data: rows looked at, predictions drawn, mistakes and columns shown.
_ROWS, _PAIRS, _IMAGES, _WORST, _COLUMNS = 50_000, 3_000, 24, 12, 30
_COVERAGE = 0.9  # of the intervals that are looked at
_DIAGNOSED = 300
_LONGEST_CELL = 120


class Trained(NamedTuple):
    """Rows that a model was trained on, for simple models to be trained on them too."""

    raw: Any  # as the predictor takes them
    y: Any
    rows: int  # how many there were, where these are only some


def collect_evidence(
    predictor: Predictor,
    raw: Any,
    y: Any,
    *,
    history: History | None = None,
    trained: Trained | None = None,
    numbers: Any = None,
    image_shape: Sequence[int] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Take from scored rows, as the predictor takes them, what a report shows of them.

    `y` is their target in its own terms.  The `history` of the training is for the diagnosis; rows that it was
    `trained` on are for the baselines, which are scored on the others; `numbers` are what the rows are called, such as
    their places in the file, by default from 1 on; `image_shape` is (height, width) or (height, width, 3) where a row
    is an image; the `seed` draws rows where there are more than are looked at.  A `ShapeError` is raised if there are
    no rows, or `image_shape` does not fit them.

    Returned is a dictionary for JSON: ``looked_at`` rows of ``rows``, and how many of those were ``wrong`` (classes
    only); ``mistakes``, the surest first (classes) or the largest (numbers), each with ``row``, ``truth``,
    ``prediction`` and ``sure`` or ``error``, and either ``pixels`` (bytes in base64) or ``values``; ``columns``, the
    names of these values, and ``all_columns``, how many there are; ``pairs`` of true and predicted numbers;
    ``findings`` of `xpnn.training.diagnose`, and what was ``diagnosed``.  Further, what `xpnn.report.quality` makes of
    them: ``calibration`` of classes, ``coverage`` of intervals, the worst ``groups`` of rows and the ``importance`` of
    columns (but of images), and ``baselines``, a `Comparison` as a dictionary.  Of several targets it holds
    ``targets``, such a dictionary for each, beside the rows and the diagnosis.

    Examples
    --------
    >>> import xpnn
    >>> from xpnn.data.targets import ClassTarget
    >>> net = xpnn.mlp([2, 2], init="zeros")
    >>> predictor = Predictor(net, xpnn.CrossEntropy(), ClassTarget().fit(["no", "yes"]))
    >>> evidence = collect_evidence(predictor, np.zeros((2, 2)), ["no", "yes"])
    >>> evidence["wrong"], evidence["mistakes"][0]
    (1, {'row': 2, 'truth': 'yes', 'prediction': 'no', 'sure': 0.5, 'values': [0, 0]})
    """
    raw, y = raw if isinstance(raw, Mapping) else to_numpy(raw), np.asarray(y)
    rows = len(y)
    if not rows:
        raise ShapeError("collect_evidence: expected at least one row, got none. Pass the rows that were scored.")
    if isinstance(predictor.target, NumberTargets):
        return _of_each(predictor, raw, y, history, trained, numbers=numbers, image_shape=image_shape, seed=seed)
    y = y.reshape(-1)
    called = np.arange(1, rows + 1) if numbers is None else np.asarray(numbers)
    rng = np.random.default_rng(seed)
    drawn = some_rows(rows, _ROWS, rng)
    if rows > _ROWS:
        raw, y, called = take_rows(raw, drawn), y[drawn], called[drawn]
    out = predictor.predict_proba(raw)
    found: dict[str, Any] = {"format": FORMAT, "rows": rows, "looked_at": len(y)}
    most = _IMAGES if image_shape else _WORST
    if isinstance(predictor.target, ClassTarget):
        codes = predictor.target.encode(y)
        guess, names = predictor.codes(out), [str(label) for label in predictor.target.classes]
        order, mistakes, found["wrong"] = _wrong_classes(codes, guess, out, names, called, most)
        found["calibration"] = quality.calibration(predictor.target, codes, out)
    else:
        truth, guess = predictor.target.numbers(y), predictor.decode(out)
        order, mistakes = _largest_errors(truth, guess, called, most)
        some = some_rows(len(y), _PAIRS, rng)
        found["pairs"] = {"truth": _short(truth[some]), "prediction": _short(guess[some])}
        found |= _coverage(predictor, raw, truth, guess)
    found["mistakes"] = mistakes
    worst = take_rows(raw, order)
    if image_shape:
        found["image"] = [int(side) for side in image_shape]
        name, details = "pixels", _pixels(worst, image_shape)
    else:
        name = "values"
        found["columns"], found["all_columns"], details = _cells(worst)
        read = predictor.encoder.read(raw) if isinstance(predictor.encoder, TableEncoder) else _columns(raw)
        found["groups"] = quality.groups(predictor, read, y, out)
        found["importance"] = quality.importance(predictor, raw, y, found["all_columns"], seed)
    for mistake, detail in zip(mistakes, details, strict=True):
        mistake[name] = detail
    if history is not None:
        found |= _diagnosis(predictor, raw, len(y), history, rng)
    if trained is not None:
        compared = compare_baselines(
            predictor, trained.raw, trained.y, raw, y, answers=out, trained=trained.rows, seed=seed
        )
        found["baselines"] = {**compared._asdict(), "baselines": [each._asdict() for each in compared.baselines]}
        if history is not None:
            found["findings"] = _of_one_mind(found["findings"], compared)
    return found


def _diagnosis(predictor: Predictor, raw: Any, rows: int, history: History, rng: np.random.Generator) -> dict[str, Any]:
    """Return what curves, gradients and the outputs of every layer tell."""
    some = some_rows(rows, _DIAGNOSED, rng)
    findings = diagnose(history, predictor.net, np.asarray(predictor.inputs(take_rows(raw, some))))
    told = f"the curves, the last gradients, and every layer's outputs for {len(some)} rows"
    return {"findings": [finding._asdict() for finding in findings], "diagnosed": told}


def _of_each(
    predictor: Predictor, raw: Any, y: np.ndarray, history: History | None, trained: Trained | None, **options: Any
) -> dict[str, Any]:
    """Return the evidence of each of several targets, and the diagnosis of the network that they share."""
    found: dict[str, Any] = {"format": FORMAT, "rows": len(y), "looked_at": min(len(y), _ROWS), "targets": []}
    for k, column in enumerate(y.T):
        learnt = None if trained is None else trained._replace(y=np.asarray(trained.y)[:, k])
        found["targets"].append(collect_evidence(predictor.only(k), raw, column, trained=learnt, **options))
    if history is not None:
        found |= _diagnosis(predictor, raw, len(y), history, np.random.default_rng(options["seed"]))
    return found


def _of_one_mind(findings: list[dict[str, str]], compared: Comparison) -> list[dict[str, str]]:
    """Let a comparison on scored rows decide whether a network is useless: a history tells less of it."""
    if compared.useful:
        return [finding for finding in findings if finding["name"] != "useless"]
    if any(finding["name"] == "useless" for finding in findings):
        return findings
    advice = "See what the simple models reach: where they learn something, the training went wrong."
    return [*findings, Finding("useless", compared.sentences()[0], advice)._asdict()]


def _coverage(predictor: Predictor, raw: Any, truth: np.ndarray, guess: np.ndarray) -> dict[str, Any]:
    """Return the coverage of the intervals, where there are any."""
    if predictor.intervals is None:
        return {}
    try:
        low, high = predictor.predict_interval(raw, _COVERAGE).T
    except OptionError:  # so few rows vouch for them that they promise less
        return {}
    return {"coverage": quality.coverage(low, high, truth, guess, _COVERAGE)}


def _wrong_classes(
    codes: np.ndarray, guess: np.ndarray, out: np.ndarray, names: Sequence[str], called: np.ndarray, most: int
) -> tuple[np.ndarray, list[dict[str, Any]], int]:
    """Return the places of the surest mistakes, what they are, and how many mistakes there are in all."""
    sure = out[np.arange(len(out)), guess]
    wrong = np.flatnonzero(codes != guess)
    order = wrong[np.argsort(-sure[wrong], kind="stable")][:most]
    mistakes = [
        {"row": int(called[i]), "truth": names[codes[i]], "prediction": names[guess[i]], "sure": float(sure[i])}
        for i in order
    ]
    return order, mistakes, len(wrong)


def _largest_errors(
    truth: np.ndarray, guess: np.ndarray, called: np.ndarray, most: int
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Return the places of the largest errors, and what they are."""
    order = np.argsort(-np.abs(guess - truth), kind="stable")[:most]
    fields = ("row", "truth", "prediction", "error")
    rows = zip(called[order].astype(np.int64).tolist(), truth[order].tolist(), guess[order].tolist(), strict=True)
    return order, [dict(zip(fields, (*row, row[2] - row[1]), strict=True)) for row in rows]


def _short(values: np.ndarray) -> list[float]:
    """Round to what a picture can show."""
    return [float(f"{value:.5g}") for value in values]


def _pixels(rows: np.ndarray, shape: Sequence[int]) -> list[Any]:
    """Return images as bytes: grey levels from the smallest number shown to the largest, colours as they are."""
    if math.prod(shape) != math.prod(rows.shape[1:]):
        raise ShapeError(
            f"collect_evidence: expected rows of {math.prod(shape)} numbers for images of shape {tuple(shape)}, got "
            f"{math.prod(rows.shape[1:])}. Pass the shape of one image."
        )
    values = np.nan_to_num(np.asarray(rows, dtype=np.float64))
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    if len(shape) == 3 and low >= 0 and high <= 255:
        low, high = 0.0, 255.0 if high > 1 else 1.0
    levels = np.round((values - low) * (255 / ((high - low) or 1.0))).astype(np.uint8)
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in levels]


def _cells(rows: Any) -> tuple[list[str], int, list[Any]]:
    """Return the names of the first columns, the number of all, and the values of each row."""
    columns = _columns(rows)
    names = list(columns)[:_COLUMNS]
    table = [[_cell(value) for value in columns[name].tolist()] for name in names]
    return names, len(columns), [list(row) for row in zip(*table, strict=True)]


def _columns(rows: Any) -> dict[str, np.ndarray]:
    """Return the columns of a table or of an array by name."""
    if isinstance(rows, Mapping):
        return {str(name): column for name, column in rows.items()}
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))  # there may be no rows
    return {f"x{j + 1}": flat[:, j] for j in range(flat.shape[1])}


def _cell(value: Any) -> Any:
    """Return a value as JSON knows it: None for what is missing, text cut where it is long."""
    if value is None or value != value:
        return None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 1e15 else float(f"{value:.6g}")
    if isinstance(value, int):
        return value
    text = str(value)
    return text if len(text) <= _LONGEST_CELL else text[: _LONGEST_CELL - 1] + "…"
