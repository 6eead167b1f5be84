"""What a run shows and leaves behind: progress, scores, files and pictures."""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import plots
from ..arguments import printable
from ..backend import Backend
from ..data.targets import ClassTarget
from ..errors import BackendUnavailableError, DataError
from ..files import atomic_path, file_digest, may_be_changed, parse_json
from ..metrics import get_score, most_confused
from ..optional import needs
from ..predictor import MODEL, Predictor
from ..report import comparison_of, comparison_table, run_of_card
from ..training import History
from .options import finite

__all__ = ["FILES", "check_folder", "machine", "report_baselines", "report_scores", "superseded", "write_results"]

#: Files of every run.
FILES = (MODEL, "scores.json", "history.csv", "evidence.json")


def report_scores(predictor: Predictor, scores: dict[str, Any], name: str, metric: str | None = None) -> None:
    """Print scores as a person reads them, that which was asked for too."""
    with needs("tabulate", "xpnn"):
        from tabulate import tabulate

    name = printable(name)
    if not isinstance(predictor.target, ClassTarget):
        r2 = f"{scores['r2']:.4f}" if np.isfinite(scores["r2"]) else "— (all targets are equal)"
        line = f"RMSE {scores['rmse']:,.6g}, MAE {scores['mae']:,.6g}, R² {r2}"
        print(f"{name}: {line}{_asked(scores, metric)} on {scores['rows']:,} rows")
        if scores.get("targets"):
            rows = [
                [printable(each["target"]), *(each[key] for key in ("rmse", "mae", "r2"))] for each in scores["targets"]
            ]
            print(tabulate(rows, headers=["target", "RMSE", "MAE", "R²"], floatfmt=".4g", disable_numparse=[0]))
        return
    line = f"accuracy {scores['accuracy']:.2%}, cross-entropy {scores['cross_entropy']:.4f}"
    print(f"{name}: {line}{_asked(scores, metric)} on {scores['rows']:,} rows")
    matrix, names = np.asarray(scores["confusion"]), [printable(str(c)) for c in predictor.target.classes]
    if len(names) <= 20:
        print("\nConfusion matrix (rows: truth, columns: prediction)")
        rows = [[n, *row] for n, row in zip(names, matrix.tolist(), strict=True)]
        print(tabulate(rows, headers=["", *names], disable_numparse=[0]))
    pairs = most_confused(matrix, top=5, class_names=names)
    if pairs:
        print("\nMost confused")
        print(tabulate(pairs, headers=["truth", "taken for", "times"], disable_numparse=[0, 1]))


def _asked(scores: dict[str, Any], metric: str | None) -> str:
    """Return the score that was asked for, unless it is printed anyway."""
    name = None if metric is None else get_score(metric).name
    return (
        "" if name in (None, "accuracy", "rmse", "mae", "r2") or name not in scores else f", {name} {scores[name]:.4f}"
    )


def report_baselines(evidence: dict[str, Any], called: Sequence[str] = (), *, of: str = "") -> None:
    """Print the network beside simple models, and what that means; of several targets each, by what it is `called`."""
    if "baselines" not in evidence:
        for name, each in zip(called, evidence.get("targets", ()), strict=False):
            report_baselines(each, of=f"{name}: ")
        return
    with needs("tabulate", "xpnn"):
        from tabulate import tabulate

    found = comparison_of(evidence["baselines"])
    headers, rows = comparison_table(found)
    print(f"\n{printable(of)}{'b' if of else 'B'}eside simple models, on {found.rows:,} rows")
    plain = [[printable(cell) for cell in row] for row in rows]
    print(tabulate(plain, headers=headers, disable_numparse=True, colalign=("left", "right", "right", "right")))
    print(*map(printable, found.sentences()), sep="\n")


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


def check_folder(out: Path) -> None:
    """Say before training, and not after it, that the results could not be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise DataError(
            f"--out: expected a folder that can be written to, got {out} ({error.strerror}). Choose another."
        ) from error
    for path in (out / name for name in FILES):
        if path.is_dir() or (path.exists() and not may_be_changed(path)):
            got = "a folder" if path.is_dir() else "one that is read-only"
            raise DataError(
                f"--out: expected {path} to be a file that may be replaced, got {got}. Choose another folder."
            )


def write_results(
    out: Path,
    predictor: Predictor,
    history: History,
    points: tuple[np.ndarray, np.ndarray] | None,
    evidence: dict[str, Any],
    beside: Sequence[Path] = (),
) -> list[Path]:
    """Write model, scores, history, evidence and pictures (of `points` and their classes too); return their paths.

    Files `beside` them that belong to the run are written already.

    All bear the run's id, or, of another format, their digests stand beside it in the model and in the scores.
    """
    paths = [out / name for name in FILES]
    run = predictor.info["run"]
    history.to_csv(paths[2])
    with atomic_path(paths[3]) as temporary:
        text = json.dumps(finite({"run": run["id"], **evidence}), ensure_ascii=False, allow_nan=False)
        temporary.write_text(text, encoding="utf-8")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from")  # a label in letters that the font lacks
            paths += _pictures(out, predictor, history, points)
    except BackendUnavailableError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    paths += beside
    run["files"] = {path.name: file_digest(path) for path in paths[2:]}
    predictor.save(paths[0])
    with atomic_path(paths[1]) as temporary:
        temporary.write_text(json.dumps(predictor.info, indent=1), encoding="utf-8")
    return paths


def superseded(out: Path, names: list[str]) -> list[str]:
    """Return which files of an older run in a folder have no place beside the new ones of these names."""
    try:
        run = parse_json((out / "scores.json").read_text(encoding="utf-8"))["run"]
        files = {Path(name).name: digest for name, digest in run["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # there is none that we know
        return []
    # What was changed since belongs to whoever changed it.
    stale = [name for name, digest in files.items() if (out / name).is_file() and file_digest(out / name) == digest]
    page = out / "report.html"
    if page.is_file() and f'<meta name="xpnn-run" content="{run.get("id")}">'.encode() in page.read_bytes()[:4096]:
        stale.append(page.name)
    if run_of_card(out / "README.md") == run.get("id"):
        stale.append("README.md")
    return [name for name in stale if name not in names]


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
