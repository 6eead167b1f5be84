"""What a run shows and leaves behind: progress, scores, files and pictures."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from ..data.tabular import ClassTarget
from ..errors import BackendUnavailableError
from ..files import atomic_path
from ..metrics import most_confused
from ..predictor import Predictor
from ..training import Callback, ProgressBar, Trainer

__all__ = ["ProgressLines", "progress", "report_scores", "write_results"]

# A log file gets about so many lines in all, and one at least every so many seconds.
_LINES, _EVERY = 10, 30.0


class ProgressLines(Callback):
    """Progress for a log file: a line now and then, where a bar would rewrite its own."""

    def on_fit_begin(self, trainer: Trainer) -> None:
        """Begin to count."""
        self._stride, self._shown_at = max(trainer.epochs_planned // _LINES, 1), time.monotonic()

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Print the epoch's numbers, if it is time."""
        now, epoch = time.monotonic(), trainer.epoch
        if epoch % self._stride and epoch > 1 and now - self._shown_at < _EVERY:
            return
        self._shown_at = now
        row = trainer.history.rows[-1]
        names = ("loss", "accuracy", "rmse", "val_loss", "val_accuracy", "val_rmse")
        shown = ", ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
        print(f"epoch {epoch}/{trainer.epochs_planned}: {shown}", file=sys.stderr, flush=True)


def progress() -> Callback:
    """Return a bar for a terminal, lines for anything else."""
    return ProgressBar() if sys.stderr.isatty() else ProgressLines()


def report_scores(predictor: Predictor, scores: dict[str, Any], name: str) -> None:
    """Print scores as a person reads them."""
    from tabulate import tabulate

    if not isinstance(predictor.target, ClassTarget):
        shown = f"RMSE {scores['rmse']:,.6g}, MAE {scores['mae']:,.6g}, R² {scores['r2']:.4f}"
        print(f"{name}: {shown} on {scores['rows']:,} rows")
        return
    shown = f"accuracy {scores['accuracy']:.2%}, cross-entropy {scores['cross_entropy']:.4f}"
    print(f"{name}: {shown} on {scores['rows']:,} rows")
    matrix, names = np.asarray(scores["confusion"]), [str(c) for c in predictor.target.classes]
    if len(names) <= 20:
        print("\nConfusion matrix (rows: truth, columns: prediction)")
        rows = [[n, *row] for n, row in zip(names, matrix.tolist(), strict=True)]
        print(tabulate(rows, headers=["", *names], disable_numparse=[0]))
    pairs = most_confused(matrix, top=5, class_names=names)
    if pairs:
        print("\nMost confused")
        print(tabulate(pairs, headers=["truth", "taken for", "times"], disable_numparse=[0, 1]))


def write_results(
    out: Path,
    predictor: Predictor,
    trainer: Trainer,
    scores: dict[str, Any],
    points: tuple[np.ndarray, np.ndarray] | None,
) -> list[Path]:
    """Write model, scores, history and pictures (of `points` and their classes too); return their paths."""
    paths = [out / "model.safetensors", out / "scores.json", out / "history.csv"]
    predictor.save(paths[0])
    with atomic_path(paths[1]) as temporary:
        temporary.write_text(json.dumps(predictor.info, indent=1), encoding="utf-8")
    trainer.history.to_csv(paths[2])
    try:
        return paths + _pictures(out, predictor, trainer, scores, points)
    except BackendUnavailableError as error:
        print(f"no pictures: {error}", file=sys.stderr)
    return paths


def _pictures(
    out: Path,
    predictor: Predictor,
    trainer: Trainer,
    scores: dict[str, Any],
    points: tuple[np.ndarray, np.ndarray] | None,
) -> list[Path]:
    from .. import plots

    written = [plots.save_figure(plots.history_figure(trainer.history), out / "history.png")]
    if isinstance(predictor.target, ClassTarget) and len(predictor.target.classes) <= 30:
        names = [str(label) for label in predictor.target.classes]
        ax = plots.plot_confusion_matrix(np.asarray(scores["confusion"]), class_names=names)
        written.append(plots.save_figure(ax, out / "confusion.png"))
    if points is not None:
        ax = plots.plot_decision_boundary(predictor, *points)
        written.append(plots.save_figure(ax, out / "boundary.png"))
    return written
