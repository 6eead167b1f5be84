"""Cross-validation of an estimator of tables: scores of the folds, and predictions of rows that were not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..checkpoint import read, write
from ..config import reading
from ..data.batching import folds
from ..data.columns import as_texts
from ..data.dates import read_column
from ..errors import DataError, OptionError
from ..files import PathLike
from ..schema import ANY, expect
from ..training.state import digest_of

__all__ = ["CrossValidation", "FoldFiles", "Indices", "Judged", "divided", "gathered", "selected"]

Indices: TypeAlias = npt.NDArray[np.int64]


class CrossValidation(NamedTuple):
    """What `cross_validate` returns.

    Attributes
    ----------
    scores : dict of str to array of shape (n_folds,)
        Scores of each fold's held-out rows: of classes ``accuracy`` and ``cross_entropy``, of numbers ``rmse``, ``mae``
        and ``r2``.
    mean, std : dict of str to float
        Over the folds.
    predictions : array of shape (n,), of several targets (n, k)
        Of each row by the network that has not seen it.
    probabilities : array of shape (n, n_classes) or None
        Likewise, of classes.
    fold : array of shape (n,)
        The number of the fold in which a row was held out, -1 of a row that never was.
    """

    scores: dict[str, npt.NDArray[np.float64]]
    mean: dict[str, float]
    std: dict[str, float]
    predictions: npt.NDArray[Any]
    probabilities: npt.NDArray[Any] | None
    fold: Indices

    def __str__(self) -> str:
        shown = [f"{name} {self.mean[name]:.4g} ± {self.std[name]:.2g}" for name in self.scores]
        return f"{', '.join(shown)} over {len(next(iter(self.scores.values())))} folds"


#: Scores, answers and outputs of the rows that a fold held out.
Judged: TypeAlias = tuple[dict[str, Any], npt.NDArray[Any], npt.NDArray[Any]]


class FoldFiles:
    """The folds that are done, a file for each in a folder; what they were made of is compared when they are read.

    Parameters
    ----------
    folder : path
        Made when a fold is kept.
    table, targets, weight : columns by name or array, array, and array or None
        What all folds have in common.
    settings : str
        Of the model, in words.
    """

    def __init__(
        self,
        folder: PathLike,
        table: Any,
        targets: npt.NDArray[Any],
        weight: npt.NDArray[np.float64] | None,
        settings: str,
    ) -> None:
        self._folder = Path(folder).expanduser()
        columns = table if isinstance(table, Mapping) else {str(k): column for k, column in enumerate(table.T)}
        several = targets.T if targets.ndim == 2 else targets[None]
        arrays = [
            _bytes(str(name), column) for name, column in [*columns.items(), *(("y", column) for column in several)]
        ]
        self._all = digest_of((settings, list(columns)), [*arrays, *([] if weight is None else [weight])])

    def _asked(self, train: Indices, test: Indices) -> str:
        return digest_of(self._all, [train, test]).hex()[:32]

    def _file(self, k: int) -> Path:
        return self._folder / f"fold-{k + 1}.safetensors"

    def keep(self, k: int, train: Indices, test: Indices, found: Judged) -> None:
        """Write what came of a fold."""
        scores, answers, out = found
        words = answers.dtype.kind in "OU"
        told = {"answers": answers.tolist(), "dtype": answers.dtype.str} if words else {"answers": None, "dtype": ""}
        tensors = {"out": out} if words else {"out": out, "answers": answers}
        self._folder.mkdir(parents=True, exist_ok=True)
        write(self._file(k), tensors, {"fold": {"asked": self._asked(train, test), "scores": scores, **told}})

    def found(self, k: int, train: Indices, test: Indices) -> Judged | None:
        """Return what came of a fold that is done; None of one that is not.

        Raises DataError if the file is that of other rows or settings, FileFormatError if it is damaged.
        """
        file = self._file(k)
        if not file.is_file():
            return None
        tensors, meta = read(file)
        with reading("cross_validate", "a fold that cross_validate wrote", got=f"a bad entry in {file}"):
            expect(meta, {"fold": {"asked": str, "scores": {str: ANY}, "answers": (None, [ANY]), "dtype": str}})
            fold = meta["fold"]
            if fold["asked"] != self._asked(train, test):
                raise DataError(
                    f"cross_validate: expected folds of these rows, targets and settings in {self._folder}, got "
                    "others. Name another folder, or remove this one."
                )
            words = fold["answers"]
            answers = tensors["answers"] if words is None else np.asarray(words, dtype=fold["dtype"])
            if not len(answers) == len(tensors["out"]) == len(test):
                raise ValueError(f"{len(answers)} answers for {len(test)} rows")
        return fold["scores"], answers, tensors["out"]


def _bytes(name: str, column: Any) -> npt.NDArray[np.uint8]:
    """Return what tells the content of a column apart."""
    array = np.asarray(read_column(name, column))
    if array.dtype.kind in "OU":
        texts: Sequence[str | None] = as_texts(array.reshape(-1))
        content = "\x1e".join("\x00" if text is None else text for text in texts).encode("utf-8", "surrogatepass")
        return np.frombuffer(content, dtype=np.uint8)
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def divided(cv: Any, n: int, y: npt.NDArray[Any], labels: npt.NDArray[Any] | None, seed: int) -> Iterator[Any]:
    """Yield pairs of row numbers, to train on and to hold out.

    Parameters
    ----------
    cv : int, splitter with ``split``, or iterable of pairs
        A number of folds, of each class alike where there are `labels`; or what says itself how rows are divided.
    n : int
        Number of rows.
    y : array of shape (n, ...)
        Targets, for a splitter.
    labels : array of shape (n,) or None
        Class numbers.
    seed : int
        Draws the folds.

    Raises
    ------
    OptionError
        If `cv` is something else, or not between 2 and n.
    """
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        parts = folds(n if labels is None else labels, int(cv), seed)
        for part in parts:
            keep = np.ones(n, dtype=bool)
            keep[part] = False
            yield np.flatnonzero(keep), part
        return
    pairs = cv.split(np.zeros((n, 1)), y) if hasattr(cv, "split") else cv
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise OptionError(
            f"cross_validate: expected cv to be a number of folds, a splitter, or pairs of row numbers, got {cv!r}. "
            "Try 5."
        )
    yield from ((np.asarray(train), np.asarray(test)) for train, test in pairs)


def selected(columns: dict[str, Any], rows: Indices) -> dict[str, Any]:
    """Return some rows of columns of any library, each with the dtype that it has."""
    return {name: _some(column, rows) for name, column in columns.items()}


def _some(column: Any, rows: Indices) -> Any:
    if hasattr(column, "iloc"):  # pandas, whose [] goes by labels
        return column.iloc[rows]
    if hasattr(column, "take") and not isinstance(column, np.ndarray):  # pyarrow
        return column.take(rows)
    if isinstance(column, list | tuple):
        return [column[i] for i in rows.tolist()]
    return column[rows]


def gathered(
    scores: list[dict[str, Any]],
    answers: list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]],
    fold: npt.NDArray[np.int64],
    *,
    probable: bool,
) -> CrossValidation:
    """Put the folds together; rows that no fold held out keep zeros, empty text or NaN."""
    if not scores:
        raise OptionError("cross_validate: expected at least one fold in cv, got none. Try cv=5.")
    named = {
        name: np.asarray([each[name] for each in scores])
        for name, value in scores[0].items()
        if isinstance(value, float)
    }

    def whole(which: int) -> npt.NDArray[Any]:
        parts = [answer[which] for answer in answers]
        made = np.zeros((len(fold), *parts[0].shape[1:]), dtype=np.result_type(*parts))
        if made.dtype.kind == "f":
            made[fold < 0] = np.nan
        for (rows, *_), part in zip(answers, parts, strict=True):
            made[rows] = part
        return made

    return CrossValidation(
        named,
        {name: float(values.mean()) for name, values in named.items()},
        {name: float(values.std()) for name, values in named.items()},
        whole(1),
        whole(2) if probable else None,
        fold,
    )
