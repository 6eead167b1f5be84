"""A run as ``xpnn train`` left it in a folder."""

from __future__ import annotations

import csv
import difflib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.targets import NumberTargets
from ..errors import DataError, FileFormatError
from ..files import PathLike, file_digest, read_json
from ..predictor import Predictor
from ..staging import STAGING, plan_of, recover
from ..training import History
from .contents import misfit_in_run
from .evidence import FORMAT

__all__ = ["Run", "read_run"]

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
    part: str = ""  # ends names on a page, where this is of one of several targets

    @property
    def of_targets(self) -> list[Run]:
        """The run as one of each of several targets; of one target itself."""
        target, scores = self.predictor.target, self.info["scores"]
        if not isinstance(target, NumberTargets):
            return [self]
        shown = [None] * len(target.targets) if self.evidence is None else self.evidence["targets"]
        common = {name: value for name, value in scores.items() if name != "targets"}
        return [
            replace(
                self,
                info=self.info | {"target": name, "scores": common | scores["targets"][k]},
                predictor=self.predictor.only(k),
                evidence=shown[k],
                part=f"-{k + 1}",
            )
            for k, name in enumerate(target.called)
        ]


def read_run(folder: PathLike) -> Run:
    """Read the folder that was given to ``xpnn train --out``, and check all of it.

    A `DataError` is raised if there is no such folder, or no finished run in it; a `FileFormatError` if a file of it
    is damaged or cut off.
    """
    path = Path(folder).expanduser()
    _check_folder(path)
    info = read_json(path / "scores.json", "Train again.")
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
        evidence = read_json(path / "evidence.json", "Train again.")
        if evidence.get("format") != FORMAT:
            raise FileFormatError(
                f"{path / 'evidence.json'}: expected format {FORMAT}, got {evidence.get('format')!r}. "
                "It was written by another version of xpnn: train again, or delete the file."
            )
    predictor = Predictor.load(path / "model.safetensors")
    if lacking := misfit_in_run(info, evidence, predictor):
        raise FileFormatError(
            f"{path / lacking[0]}: expected what xpnn train writes, got something else for {lacking[1]}. Train again."
        )
    history.restored = 0 < (info.get("best_epoch") or 0) < len(history)  # nobody who stopped early is told to
    files = _files(info.get("run"))
    _check_one_run(path, info, predictor, evidence, files)
    # What an older run left is no picture of this one.
    boundary = path / "boundary.png" if files is None or "boundary.png" in files else None
    name = path.resolve().name
    return Run(path, name, info, history, predictor, evidence, boundary if boundary and boundary.is_file() else None)


def _files(run: Any) -> dict[str, str] | None:
    """Return the digests of a run's files; None for a run of a version that wrote none."""
    return dict(run["files"]) if isinstance(run, dict) and isinstance(run.get("files"), dict) else None


def _check_one_run(
    path: Path,
    info: dict[str, Any],
    predictor: Predictor,
    evidence: dict[str, Any] | None,
    files: dict[str, str] | None,
) -> None:
    """Refuse files of different runs side by side."""
    run, model = info.get("run"), predictor.info
    shared = {"run", *(info.keys() & model.keys())}
    foreign = [] if all(info.get(key) == model.get(key) for key in shared) else ["scores.json"]
    if isinstance(run, dict) and evidence is not None and evidence.get("run") != run.get("id"):
        foreign.append("evidence.json")
    for name in ("history.csv", "evidence.json", "boundary.png"):
        file = path / name
        if files is not None and name in files and file.is_file() and file_digest(file) != files[name]:
            foreign.append(name)
    if foreign:
        raise FileFormatError(
            f"{path / foreign[0]}: expected a file of the run that model.safetensors is of, got one of another run or "
            "one that was changed. Train again, or put the files of one run together."
        )


def _check_folder(path: Path) -> None:
    """Say what is there where a run was expected."""
    if path.is_file():
        raise DataError(f"expected the folder of a run, got the file {path}. Pass the folder, {path.resolve().parent}.")
    if not path.is_dir():
        beside = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside)
        hint = f"Did you mean {path.parent / near[0]}?" if near else "Pass the folder given to `xpnn train --out`."
        raise DataError(f"expected the folder of a run, but {path} is not there. {hint}")
    state = recover(path)
    if state is not None:
        command = ((plan_of(path) or {}).get("argv") or ["train"])[0]
        go_on = f"Go on with `xpnn {command} --resume {path}`, or remove {path / STAGING} to keep what is beside it."
        hint = "Wait for its end." if state == "running" else go_on
        raise DataError(f"{path}: expected a finished run, got one whose training has not ended. {hint}")
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
        except (ValueError, KeyError, OverflowError) as error:
            raise FileFormatError(
                f"{path}: expected numbers in line {number}, got {','.join(cells)[:60]!r}. Train again."
            ) from error
        history.append(row)
    if not text.endswith("\n"):  # half a number may look like a number
        raise FileFormatError(
            f"{path}: expected a whole last line, got one without its end. The file is cut off: train again."
        )
    return history
