"""What a run shows and leaves behind: progress, scores, files and pictures."""

from __future__ import annotations

import json
import os
import platform
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from .. import plots
from ..arguments import printable
from ..backend import Backend
from ..data.targets import ClassTarget
from ..errors import BackendUnavailableError
from ..files import atomic_path
from ..metrics import most_confused
from ..predictor import Predictor
from ..training import History
from .options import finite

__all__ = ["machine", "report_scores", "write_results"]


def report_scores(predictor: Predictor, scores: dict[str, Any], name: str) -> None:
    """Print scores as a person reads them."""
    from tabulate import tabulate

    name = printable(name)
    if not isinstance(predictor.target, ClassTarget):
        r2 = f"{scores['r2']:.4f}" if np.isfinite(scores["r2"]) else "— (all targets are equal)"
        line = f"RMSE {scores['rmse']:,.6g}, MAE {scores['mae']:,.6g}, R² {r2}"
        print(f"{name}: {line} on {scores['rows']:,} rows")
        return
    line = f"accuracy {scores['accuracy']:.2%}, cross-entropy {scores['cross_entropy']:.4f}"
    print(f"{name}: {line} on {scores['rows']:,} rows")
    matrix, names = np.asarray(scores["confusion"]), [printable(str(c)) for c in predictor.target.classes]
    if len(names) <= 20:
        print("\nConfusion matrix (rows: truth, columns: prediction)")
        rows = [[n, *row] for n, row in zip(names, matrix.tolist(), strict=True)]
        print(tabulate(rows, headers=["", *names], disable_numparse=[0]))
    pairs = most_confused(matrix, top=5, class_names=names)
    if pairs:
        print("\nMost confused")
        print(tabulate(pairs, headers=["truth", "taken for", "times"], disable_numparse=[0, 1]))


def machine(backend: Backend) -> dict[str, Any]:
    """Return what a run ran on."""
    processor = platform.processor() or platform.machine()
    try:  # where Linux tells it
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), processor)
    except OSError:
        pass
    threads = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS")
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": int(threads) if threads and threads.isdecimal() else "all",
        "array library": backend.spec,
    }


def write_results(
    out: Path,
    predictor: Predictor,
    history: History,
    points: tuple[np.ndarray, np.ndarray] | None,
    evidence: dict[str, Any],
) -> list[Path]:
    """Write model, scores, history, evidence and pictures (of `points` and their classes too); return their paths."""
    paths = [out / "model.safetensors", out / "scores.json", out / "history.csv", out / "evidence.json"]
    predictor.save(paths[0])
    with atomic_path(paths[1]) as temporary:
        temporary.write_text(json.dumps(predictor.info, indent=1), encoding="utf-8")
    history.to_csv(paths[2])
    with atomic_path(paths[3]) as temporary:
        temporary.write_text(json.dumps(finite(evidence), ensure_ascii=False, allow_nan=False), encoding="utf-8")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # a label in letters that the font lacks
            return paths + _pictures(out, predictor, history, points)
    except BackendUnavailableError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    return paths


def _pictures(
    out: Path, predictor: Predictor, history: History, points: tuple[np.ndarray, np.ndarray] | None
) -> list[Path]:
    written = [plots.save_figure(plots.history_figure(history), out / "history.png")]
    if isinstance(predictor.target, ClassTarget) and len(predictor.target.classes) <= 30:
        names = [printable(str(label)) for label in predictor.target.classes]
        ax = plots.plot_confusion_matrix(np.asarray(predictor.info["scores"]["confusion"]), class_names=names)
        written.append(plots.save_figure(ax, out / "confusion.png"))
    if points is not None:
        ax = plots.plot_decision_boundary(predictor, *points)
        written.append(plots.save_figure(ax, out / "boundary.png"))
    return written
