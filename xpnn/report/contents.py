"""What the files of a run hold, entry by entry: everything that a page shows of them."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

from ..data.audit import AuditFinding
from ..data.targets import ClassTarget, NumberTargets
from ..predictor import Predictor, Target
from ..schema import ANY, NUMBER, Kind, at_least, misfit
from ..training import Finding

__all__ = ["misfit_in_run"]

_COUNT = at_least(0)
_CELL = (None, bool, str, NUMBER)
_INFO: dict[Any, Kind] = {
    "source": str,
    "epochs": at_least(1),
    "options": {"seed": int, str: (*_CELL, [_CELL])},
    "versions": {"xpnn": str} | {str: str},
    "scores": {str: ANY},
}
# What runs of older versions lack.
_LATER: dict[str, Kind] = {
    "target": (None, str, [str]),
    "seconds": at_least(0, float),
    "stopped": (None, str),
    "best_epoch": (None, at_least(0)),
    "notes": [str],
    "command": str,
    "finished": str,
    "machine": {str: _CELL},
    "audit": [{**dict.fromkeys(AuditFinding._fields, str), "column": (None, str), "value": (None, NUMBER)}],
}
_FINDING = dict.fromkeys(Finding._fields, str)


def _share_at_most_1(value: Any) -> bool:
    return NUMBER(value) and -math.inf < value <= 1


def _share(value: Any) -> bool:
    return NUMBER(value) and 0 <= value <= 1


_ERROR = at_least(0, float)
_SHARES: dict[Any, Kind] = {**dict.fromkeys(("share", "low", "high"), _share), "rows": at_least(1)}
# What `xpnn.report.quality` makes.
_QUALITY: dict[str, Kind] = {
    "calibration": {"of": (None, str), "error": _share, "bins": [{"predicted": _share, **_SHARES}]},
    "coverage": {
        **{"promised": _share, "share": _share, "rows": at_least(1), "width": _ERROR, "median_width": _ERROR},
        "parts": [{"from": float, "to": float, "width": _ERROR, **_SHARES}],
    },
    "groups": {
        **{"error": _ERROR, "columns": _COUNT, "of": _COUNT},
        "groups": [
            {"column": str, "value": str, "rows": at_least(1), "stands_out": bool}
            | dict.fromkeys(("error", "low", "high", "rest", "rest_high"), _ERROR)
        ],
    },
    "importance": (
        None,
        {
            **{"metric": str, "score": float, "rows": at_least(1), "repeats": at_least(1), "of": at_least(1)},
            "columns": [{"name": str, "mean": float, "std": _ERROR}],
        },
    ),
}


def _baselines(scores: tuple[str, ...], gains: tuple[str, ...]) -> dict[str, Kind]:
    some: dict[Any, Kind] = dict.fromkeys(scores, _ERROR)
    gain: dict[Any, Kind] = dict.fromkeys(gains, _three)
    one: dict[Any, Kind] = {
        "name": str,
        "what": str,
        "rows": at_least(1),
        "scores": some,
        "gains": gain,
        "learns": bool,
    }
    return {"rows": at_least(1), "trained": at_least(1), "scores": some, "baselines": [one]}


def _three(value: Any) -> bool:
    """A gain between the ends of its interval, which are infinite where there is one row."""
    return isinstance(value, list) and len(value) == 3 and NUMBER(value[0]) and all(map(_end, value))


def _end(value: Any) -> bool:
    return value is None or NUMBER(value)


def misfit_in_run(
    info: dict[str, Any], evidence: dict[str, Any] | None, predictor: Predictor
) -> tuple[str, str] | None:
    """Return the file and the first entry that is not as ``xpnn train`` writes it; None if all are."""
    target = predictor.target
    kinds = {**_INFO, **{name: kind for name, kind in _LATER.items() if name in info}}
    found = misfit(info, kinds) or misfit(info["scores"], _scores(target))
    if found is not None:
        return "scores.json", found.path
    if isinstance(target, ClassTarget) and sum(map(sum, info["scores"]["confusion"])) != info["scores"]["rows"]:
        return "scores.json", "confusion"
    if any({*finding} != {*AuditFinding._fields} for finding in info.get("audit", [])):
        return "scores.json", "audit"
    if evidence is None:
        return None
    odd = _odd_targets(evidence, target) if isinstance(target, NumberTargets) else _odd_evidence(evidence, target)
    return None if odd is None else ("evidence.json", odd)


def _odd_targets(evidence: Mapping[str, Any], target: NumberTargets) -> str | None:
    """Return the first entry of the evidence of several targets that is not as it was written."""
    kinds: dict[Any, Kind] = {"rows": at_least(1), "looked_at": at_least(1), "targets": [{str: ANY}]}
    kinds |= {name: kind for name, kind in {"findings": [_FINDING], "diagnosed": str}.items() if name in evidence}
    if (found := misfit(evidence, kinds)) is not None:
        return found.path
    if len(evidence["targets"]) != len(target.targets) or _odd_findings(evidence):
        return "findings" if _odd_findings(evidence) else "targets"
    odd = (_odd_evidence(part, own) for part, own in zip(evidence["targets"], target.targets, strict=True))
    return next((f"targets[{k}].{name}" for k, name in enumerate(odd) if name is not None), None)


def _odd_evidence(evidence: Mapping[str, Any], target: Target) -> str | None:
    """Return the first entry of the evidence of one target that is not as it was written."""
    found = misfit(evidence, _evidence(evidence, target))
    if found is not None:
        return found.path
    odd = None if isinstance(target, ClassTarget) else _odd_pairs(evidence["pairs"])
    return odd or _odd_mistake(evidence) or _empty(evidence)


def _scores(target: Target) -> dict[str, Kind]:
    common: dict[str, Kind] = {"on": str, "rows": at_least(1)}
    error = at_least(0, float)
    if not isinstance(target, ClassTarget):
        of_one: dict[Any, Kind] = {"rmse": error, "mae": error, "r2": (None, _share_at_most_1)}
        if not isinstance(target, NumberTargets):
            return common | of_one
        called = list(target.called)

        def each(value: Any) -> bool:
            whole = misfit(value, [{"target": str, **of_one}]) is None
            return whole and [one["target"] for one in value] == called

        return {**common, **of_one, "targets": each}
    k = len(target.classes)

    def row(value: Any) -> bool:
        return isinstance(value, list) and len(value) == k and all(map(_COUNT, value))

    def square(value: Any) -> bool:
        return isinstance(value, list) and len(value) == k and all(map(row, value))

    return {**common, "accuracy": _share, "cross_entropy": error, "confusion": square}


def _evidence(evidence: Mapping[str, Any], target: Target) -> dict[str, Kind]:
    classes = isinstance(target, ClassTarget)
    shown: dict[str, Kind] = {"values": [_CELL]}
    kinds: dict[str, Kind] = {"rows": at_least(1), "looked_at": at_least(1)}
    if "image" in evidence:
        shown = {"pixels": str}
        kinds["image"] = _shape
    else:
        kinds |= {"columns": [str], "all_columns": _COUNT}
    if classes:
        kinds |= {"wrong": _COUNT}
        shown |= {"row": at_least(-(2**63)), "truth": str, "prediction": str, "sure": _share}
    else:
        kinds |= {"pairs": {"truth": [float], "prediction": [float]}}
        shown |= {"row": at_least(-(2**63)), **dict.fromkeys(("truth", "prediction", "error"), float)}
    kinds |= {"mistakes": [shown]}
    later: dict[str, Kind] = {"findings": [_FINDING], "diagnosed": str, "run": str, **_QUALITY}
    both = ("accuracy", "cross_entropy")
    later["baselines"] = _baselines(both, both) if classes else _baselines(("rmse", "mae"), ("rmse",))
    return kinds | {name: kind for name, kind in later.items() if name in evidence}


def _shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (2, 3) and all(map(at_least(1), value))


def _odd_pairs(pairs: Mapping[str, list[float]]) -> str | None:
    return None if 0 < len(pairs["truth"]) == len(pairs["prediction"]) else "pairs"


def _odd_mistake(evidence: Mapping[str, Any]) -> str | None:
    """Return the first mistake with other than one value for each column, or one byte for each pixel."""
    for i, mistake in enumerate(evidence["mistakes"]):
        if "image" not in evidence:
            whole = len(mistake["values"]) == len(evidence["columns"])
        else:
            try:
                size = len(base64.b64decode(mistake["pixels"], validate=True))
            except binascii.Error:
                return f"mistakes[{i}].pixels"
            whole = size == math.prod(evidence["image"])
        if not whole:
            return f"mistakes[{i}]"
    return "findings" if _odd_findings(evidence) else None


def _odd_findings(evidence: Mapping[str, Any]) -> bool:
    return any({*finding} != {*Finding._fields} for finding in evidence.get("findings", []))


def _empty(evidence: Mapping[str, Any]) -> str | None:
    """Return the first list that would make a table or a picture of nothing."""
    lists = {"baselines": "baselines", "calibration": "bins", "coverage": "parts", "importance": "columns"}
    return next(
        (f"{name}.{part}" for name, part in lists.items() if evidence.get(name) and not evidence[name][part]), None
    )
