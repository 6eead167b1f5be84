"""Runs of known condition, recorded by ci/record_runs.py, and the page that tells what `xpnn.diagnose` says of each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from places import PROJECT

import xpnn

RECORDED = PROJECT / "tests" / "data" / "recorded_runs.json"
PAGE = PROJECT / "docs" / "diagnosis.md"
_BEGIN = "<!-- made by: python ci/record_runs.py -->\n"


def recorded_runs() -> dict[str, dict[str, Any]]:
    """All runs by name."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


def findings(run: dict[str, Any]) -> list[xpnn.Finding]:
    """What is said of a run: of its curves and, where its weights were kept, of its gradients and outputs."""
    columns = run["history"]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    history = xpnn.History([{"epoch": epoch, **row} for epoch, row in enumerate(rows, 1)])
    history.restored = run["restored"]
    if "net" not in run:
        return xpnn.diagnose(history)
    kept = run["net"]
    net = xpnn.mlp(kept["widths"], kept["activation"], **kept["options"])
    net.load_state_dict({name: np.asarray(value) for name, value in kept["state"].items()})
    X, y = np.asarray(run["rows"]["X"]), np.asarray(run["rows"]["y"])
    loss = xpnn.CrossEntropy() if y.ndim == 1 else xpnn.MeanSquaredError()
    outputs, caches = net.forward(net.backend.asarray(X))
    targets = net.backend.asarray(y, dtype=net.backend.index_dtype if y.ndim == 1 else None)
    net.backward(loss.value_and_grad(outputs, targets)[1], caches)
    return xpnn.diagnose(history, net, X)


def render() -> str:
    """The page: what stands above the table, then a row for each run."""
    above = PAGE.read_text(encoding="utf-8").partition(_BEGIN)[0]
    lines = ["| run | what was made of it | what `diagnose` says |", "|---|---|---|"]
    for name, run in recorded_runs().items():
        said = "<br>".join(f"**{f.name}**: {f.evidence}" for f in findings(run)) or "nothing looks wrong"
        lines.append(f"| {name} | {run['condition']} | {said} |")
    return above + _BEGIN + "\n" + "\n".join(lines) + "\n"
