"""A run as ``xpnn train`` left it in a folder."""

from __future__ import annotations

import csv
import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.audit import AuditFinding
from ..data.targets import ClassTarget
from ..errors import DataError, FileFormatError
from ..files import PathLike
from ..predictor import Predictor
from ..training import Finding, History
from .evidence import FORMAT

__all__ = ["Run", "read_run"]

_NUMBER = (int, float)
_NEEDED = ("model.safetensors", "scores.json", "history.csv")


@dataclass(frozen=True, eq=False)
class Run:
    """What is known of a run."""

    folder: Path  # where it was read from
    name: str  # the folder's
    info: dict[str, Any]  # the content of scores.json: source, options, scores, versions
    history: History
    predictor: Predictor
    evidence: dict[str, Any] | None = None  # from `collect_evidence`; None for runs that were written without it
    boundary: Path | None = None  # the picture of the decision boundary, where there is one


def read_run(folder: PathLike) -> Run:
    """Read the folder that was given to ``xpnn train --out``, and check all of it.

    A `DataError` is raised if there is no such folder, or no finished run in it; a `FileFormatError` if a file of it
    is damaged or cut off.
    """
    path = Path(folder).expanduser()
    _check_folder(path)
    info = _json(path / "scores.json")
    missing = [key for key in ("source", "epochs", "options", "versions", "scores") if key not in info]
    if missing or not isinstance(info["scores"], dict):
        raise FileFormatError(
            f"{path / 'scores.json'}: expected what xpnn train writes, got no {missing[0] if missing else 'scores'}. "
            "Train again."
        )
    history = _history(path / "history.csv")
    if len(history) != info["epochs"]:
        raise FileFormatError(
            f"{path / 'history.csv'}: expected {info['epochs']} epochs, as scores.json says, got {len(history)}. "
            "The file is cut off, or a new training is writing to it: wait for its end, or train again."
        )
    evidence = None
    if (path / "evidence.json").is_file():
        evidence = _json(path / "evidence.json")
        if evidence.get("format") != FORMAT:
            raise FileFormatError(
                f"{path / 'evidence.json'}: expected format {FORMAT}, got {evidence.get('format')!r}. "
                "It was written by another version of xpnn: train again, or delete the file."
            )
    predictor = Predictor.load(path / "model.safetensors")
    if lacking := _lacking(info, evidence, predictor):
        raise FileFormatError(
            f"{path / lacking[0]}: expected what xpnn train writes, got something else for {lacking[1]}. Train again."
        )
    boundary = path / "boundary.png"
    name = path.resolve().name
    return Run(path, name, info, history, predictor, evidence, boundary if boundary.is_file() else None)


def _lacking(info: dict[str, Any], evidence: dict[str, Any] | None, predictor: Predictor) -> tuple[str, str] | None:
    """Return the file and the key of the first thing that a page needs and is not there, or of another kind."""
    scores, target = info["scores"], predictor.target
    classes = isinstance(target, ClassTarget)
    kinds: dict[str, Any] = {"on": str, "rows": int}
    kinds |= {"accuracy": _NUMBER, "cross_entropy": _NUMBER} if classes else {"rmse": _NUMBER, "mae": _NUMBER}
    for name, kind in kinds.items():
        if not isinstance(scores.get(name), kind):
            return "scores.json", name
    if scores["rows"] < 1:
        return "scores.json", "rows"
    if isinstance(target, ClassTarget):
        k, matrix = len(target.classes), scores.get("confusion")
        square = isinstance(matrix, list) and [len(row) if isinstance(row, list) else 0 for row in matrix] == [k] * k
        if not square:
            return "scores.json", "confusion"
    elif "r2" not in scores:
        return "scores.json", "r2"
    for name in ("options", "versions"):
        if not isinstance(info[name], dict):
            return "scores.json", name
    if not _are_findings(info.get("audit", [])):
        return "scores.json", "audit"
    if evidence is None:
        return None
    needed: dict[str, Any] = {"rows": int, "looked_at": int, "mistakes": list}
    needed |= {"wrong": int} if classes else {"pairs": dict}
    needed |= {"image": list} if "image" in evidence else {"columns": list, "all_columns": int}
    keys = ("row", "truth", "prediction", "sure" if classes else "error", "pixels" if "image" in evidence else "values")
    for name, kind in needed.items():
        if not isinstance(evidence.get(name), kind):
            return "evidence.json", name
    if any(not isinstance(mistake, dict) or not {*keys} <= {*mistake} for mistake in evidence["mistakes"]):
        return "evidence.json", "mistakes"
    if not classes and not 0 < len(evidence["pairs"].get("truth", ())) == len(evidence["pairs"].get("prediction", ())):
        return "evidence.json", "pairs"
    if any({*finding} != {*Finding._fields} for finding in evidence.get("findings", [])):
        return "evidence.json", "findings"
    return None


def _check_folder(path: Path) -> None:
    """Say what is there where a run was expected."""
    if path.is_file():
        raise DataError(f"expected the folder of a run, got the file {path}. Pass the folder, {path.resolve().parent}.")
    if not path.is_dir():
        beside = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Pass the folder given to `xpnn train --out`."
        raise DataError(f"expected the folder of a run, but {path} is not there. {hint}")
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if not missing:
        return
    if missing == ["model.safetensors", "scores.json"]:
        raise DataError(
            f"{path}: expected a finished run, got only the history of one. Wait for the end of its training, "
            "or train again."
        )
    inside = sorted(p for p in path.iterdir() if all((p / name).is_file() for name in _NEEDED))
    hint = f"Did you mean {inside[0]}?" if inside else "Pass the folder given to `xpnn train --out`."
    raise DataError(f"{path}: expected a run of xpnn train, got a folder without {' and '.join(missing)}. {hint}")


def _are_findings(found: Any) -> bool:
    """Whether these are findings of an audit, as plain data."""
    return isinstance(found, list) and all(isinstance(f, dict) and {*f} == {*AuditFinding._fields} for f in found)


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: expected JSON, got a damaged file ({error}). Train again.") from error
    if not isinstance(value, dict):
        raise FileFormatError(f"{path}: expected a JSON object, got a {type(value).__name__}. Train again.")
    return value


def _history(path: Path) -> History:
    """Read what `History.to_csv` wrote; an empty cell is a value that was not recorded."""
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.reader(text.splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: expected a table of numbers, got {error}. Train again.") from error
    names, rows = (lines[0], lines[1:]) if lines else ([], [])
    if "epoch" not in names or not rows:
        raise FileFormatError(
            f"{path}: expected a header with epoch, and a row for each epoch, got {len(lines)} lines. Train again."
        )
    history = History()
    for number, cells in enumerate(rows, start=2):
        if len(cells) != len(names):
            raise FileFormatError(
                f"{path}: expected {len(names)} values in line {number}, got {len(cells)}. The file is cut off or "
                "damaged: train again."
            )
        try:
            row: dict[str, Any] = {name: float(cell) for name, cell in zip(names, cells, strict=True) if cell}
            row["epoch"] = int(row["epoch"])
        except (ValueError, KeyError) as error:
            raise FileFormatError(
                f"{path}: expected numbers in line {number}, got {','.join(cells)[:60]!r}. Train again."
            ) from error
        history.append(row)
    if not text.endswith("\n"):  # half a number may look like a number
        raise FileFormatError(
            f"{path}: expected a whole last line, got one without its end. The file is cut off: train again."
        )
    return history
