"""Cross-validation of an estimator of tables: scores of the folds, and predictions of rows that were not trained on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..checkpoint import read, write
from ..config import reading
from ..data.batching import folds
from ..data.columns import as_texts, quote
from ..data.dates import read_column
from ..errors import DataError, OptionError
from ..files import PathLike
from ..random import stream
from ..schema import ANY, expect
from ..training.state import digest_of

__all__ = ["CrossValidation", "FoldFiles", "Indices", "Judged", "divided", "gathered", "of_all_classes", "selected"]

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

    def networks(self, k: int, train: Indices, test: Indices) -> Path:
        """Return the folder for the networks of a fold that is not done."""
        return self._folder / f"fold-{k + 1}-{self._asked(train, test)}"

    def keep(self, k: int, train: Indices, test: Indices, found: Judged) -> None:
        """Write what came of a fold; its networks are not needed any more."""
        scores, answers, out = found
        words = answers.dtype.kind in "OU"
        told = {"answers": answers.tolist(), "dtype": answers.dtype.str} if words else {"answers": None, "dtype": ""}
        tensors = {"out": out} if words else {"out": out, "answers": answers}
        self._folder.mkdir(parents=True, exist_ok=True)
        write(self._file(k), tensors, {"fold": {"asked": self._asked(train, test), "scores": scores, **told}})
        shutil.rmtree(self.networks(k, train, test), ignore_errors=True)

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


def divided(
    cv: Any,
    n: int,
    y: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None,
    seed: int,
    *,
    groups: npt.NDArray[Any] | None = None,
    where: str = "cross_validate",
) -> list[tuple[Indices, Indices]]:
    """Return pairs of row numbers, to train on and to hold out, once it is known that each can be learned from.

    Parameters
    ----------
    cv : int, splitter with ``split``, or iterable of pairs
        A number of folds, of each class alike where there are `labels`; or what says itself how rows are divided.
    n : int
        Number of rows.
    y : array of shape (n, ...)
        Targets.
    labels : array of shape (n,) or None
        Class numbers.
    seed : int
        Draws the folds.
    groups : array of shape (n,), optional
        What belongs together and is held out together.
    where : str
        Who asks, for messages.

    Raises
    ------
    OptionError
        If `cv` is something else, or not between 2 and the number of rows, or of groups.
    DataError
        If a fold would be tested on a class that it has not seen, or its target does not vary.
    """
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        parts = [(np.setdiff1d(np.arange(n), part), part) for part in _parts(int(cv), n, labels, seed, groups, where)]
    else:
        parts = _told(cv, n, y, groups, where)
    for k, (train, test) in enumerate(parts):
        _check_fold(k, train, test, y, labels, where)
    return parts


def _parts(
    k: int, n: int, labels: npt.NDArray[Any] | None, seed: int, groups: npt.NDArray[Any] | None, where: str
) -> list[Indices]:
    """Return the rows of `k` folds."""
    of = None if groups is None else np.unique(groups, return_inverse=True)[1].reshape(-1)
    most, what = (n, "rows") if of is None else (int(of.max()) + 1, "groups")
    if not 2 <= k <= most:
        raise OptionError(f"{where}: expected 2 to {most} folds of {most} {what}, got {k}. Try {min(5, most)}.")
    if of is None:
        return folds(n if labels is None else labels, k, seed)
    sizes = np.bincount(of)
    order = stream(seed, "groups").permutation(len(sizes))
    home, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(k, dtype=np.int64)
    # The largest first, each where there is most room.
    for group in order[np.argsort(-sizes[order], kind="stable")].tolist():
        home[group] = filled.argmin()
        filled[home[group]] += sizes[group]
    return [np.flatnonzero(home[of] == part) for part in range(k)]


def _told(
    cv: Any, n: int, y: npt.NDArray[Any], groups: npt.NDArray[Any] | None, where: str
) -> list[tuple[Indices, Indices]]:
    """Return the pairs that a splitter makes, or that were given."""
    pairs = cv
    if hasattr(cv, "split") and not isinstance(cv, str):
        try:
            pairs = list(cv.split(np.zeros((n, 1)), y, groups))
        except ValueError as error:
            hint = "Pass groups=, a value for each row." if groups is None else "Choose another."
            raise OptionError(f"{where}: expected cv to divide these {n} rows, got: {error} {hint}") from error
    if isinstance(pairs, str) or not isinstance(pairs, Iterable):
        raise OptionError(
            f"{where}: expected cv to be a number of folds, a splitter, or pairs of row numbers, got {cv!r}. Try 5."
        )
    return [(np.asarray(train), np.asarray(test)) for train, test in pairs]


def _check_fold(
    k: int, train: Indices, test: Indices, y: npt.NDArray[Any], labels: npt.NDArray[Any] | None, where: str
) -> None:
    """Refuse a fold that nothing can be learned from, or whose rows it cannot be judged by, before any is trained."""
    if labels is not None:
        new = np.setdiff1d(labels[test], labels[train])
        if new.size:
            label = quote(y[test[labels[test] == new[0]][:1]].tolist())
            raise DataError(
                f"{where}: expected each class among the rows that a fold is trained on, got none of {label} in fold "
                f"{k + 1}, which holds all its rows out. Take fewer folds, join the class to another, or leave its "
                "rows out."
            )
        return
    varies = y[train] != y[train][:1]
    if len(train) and not np.atleast_2d(varies.any(axis=0)).all():
        raise DataError(
            f"{where}: expected a target that varies in the rows that a fold is trained on, got one value in all "
            f"{len(train)} of fold {k + 1}. Take fewer folds."
        )


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


def of_all_classes(out: npt.NDArray[Any], known: npt.NDArray[Any], n_classes: int) -> npt.NDArray[Any]:
    """Return probabilities of all classes, of those that a fold has not seen 0.

    Examples
    --------
    >>> of_all_classes(np.array([[0.25, 0.75]]), np.array([0, 2]), 3).tolist()
    [[0.25, 0.0, 0.75]]
    """
    if len(known) == n_classes:
        return out
    wide = np.zeros((len(out), n_classes), dtype=out.dtype)
    wide[:, known] = out
    return wide


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
