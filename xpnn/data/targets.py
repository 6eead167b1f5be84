"""Targets of a table and back: labels as class numbers, quantities standardised, and which of the two it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from ..config import reading
from ..errors import DataError, LabelError, ShapeError, XpnnError
from ..frames import cells, table_names
from ..schema import NUMBER, at_least, expect
from .columns import (
    STRAY,
    Floats,
    as_column,
    as_numbers,
    as_texts,
    is_missing,
    is_text,
    label_key,
    one_spelling,
    plural,
    quote,
)
from .kinds import read_numbers
from .spelling import Spelling

__all__ = [
    "ClassTarget",
    "InferredTask",
    "NumberTarget",
    "NumberTargets",
    "Task",
    "infer_task",
    "label_advice",
    "target_from_dict",
]

Label: TypeAlias = str | int | float | bool
Task: TypeAlias = Literal["classification", "regression"]


def _target(y: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return the target as a 1-D array in which every row has a value."""
    array = cells(y, "target")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    array = np.asarray(as_column("target", array))
    if array.shape[0] == 0:
        raise DataError("target: expected at least one row, got none.")
    if array.dtype.kind in "Of":
        _refuse_gaps(np.fromiter(map(is_missing, array), bool) if array.dtype.kind == "O" else np.isnan(array))
    return array


@contextlib.contextmanager
def _of_target() -> Iterator[None]:
    """Let errors about text among numbers say what to do where it is the target."""
    try:
        yield
    except DataError as error:
        advice = "Correct the value; labels are learned by a classifier."
        raise type(error)(str(error).replace(STRAY, advice)) from error


def _refuse_gaps(gaps: npt.NDArray[np.bool_]) -> None:
    if gaps.any():
        raise DataError(
            f"target: expected a value in every row, got none in {gaps.sum()} of {gaps.size} rows (the first "
            f"is data row {int(gaps.argmax()) + 1}). Remove these rows or fill them in."
        )


class InferredTask(NamedTuple):
    """What a target asks for, and the sentence that says why."""

    task: Task
    why: str


def infer_task(y: npt.ArrayLike) -> InferredTask:
    """Tell classification from regression by looking at the target.

    In this order: text and booleans are classes; numbers with fractions are quantities; of whole numbers, one
    or two different ones are classes, and so are up to 20 if there are at least 5 rows for each; all others
    are quantities.

    Parameters
    ----------
    y : array of shape (n,) or (n, 1)
        Numbers, booleans or text; no value may be missing.

    Returns
    -------
    InferredTask
        ``(task, why)`` with `task` ``"classification"`` or ``"regression"``.

    Raises
    ------
    DataError
        If a value is missing.

    Examples
    --------
    >>> infer_task([1.5, 2.0, 3.25]).task
    'regression'
    >>> infer_task(["yes", "no", "yes"])
    InferredTask(task='classification', why='the target holds text: 2 classes')
    """
    array = _target(y)
    if is_text(array) or array.dtype.kind == "b":
        kind = "text" if array.dtype.kind == "O" else "booleans"
        k = len(set(as_texts(array)))
        return InferredTask("classification", f"the target holds {kind}: {k} class{'es' * (k != 1)}")
    with _of_target():
        numbers = as_numbers("target", array)
    if (numbers != np.trunc(numbers)).any():
        return InferredTask("regression", "the target holds numbers with fractions")
    k, n = len(set(as_texts(array))), numbers.size
    what = f"the target holds {plural(k, 'different whole number')} in {plural(n, 'row')}"
    if k <= 2 or (k <= 20 and n >= 5 * k):
        return InferredTask("classification", f"{what}: few enough to be classes")
    return InferredTask("regression", f"{what}: too many to be classes")


def _whole(value: Any) -> bool:
    """a whole number of any size"""  # noqa: D403 (it stands in messages)
    return isinstance(value, int)


class ClassTarget:
    r"""Labels of any kind as class numbers 0 … C-1.

    Numbers are ordered by value and text alphabetically. Where the classes are numbers, labels are compared by value:
    1, 1.0, "1" and "1.0" are one label; whole numbers of any size keep all their digits. Where they are text, labels
    are compared as text without surrounding blanks, and numbers by their shortest text. What a label is never depends
    on the labels beside it.

    Parameters
    ----------
    strip : str, default=""
        Ending taken off every label that has it, in `fit` and in `encode`.

    Attributes
    ----------
    classes : tuple of str, int, float or bool
        Label of each class number.
    strip : str
        As given.

    Examples
    --------
    >>> target = ClassTarget().fit(["no", "yes", "no"])
    >>> target.encode(["yes", "no"])
    array([1, 0])
    >>> target.decode([1, 1, 0]).tolist()
    ['yes', 'yes', 'no']
    """

    task: Task = "classification"

    def __init__(self, *, strip: str = "") -> None:
        self.strip = strip
        self.classes: tuple[Label, ...] = ()

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.classes[:8])) + (", ..." if len(self.classes) > 8 else "")
        return f"ClassTarget({len(self.classes)} classes: {shown})"

    def fit(self, y: npt.ArrayLike) -> ClassTarget:
        """Learn the classes, and return itself.

        Parameters
        ----------
        y : array of shape (n,) or (n, 1)
            Labels.

        Raises
        ------
        DataError
            If a label is missing.
        LabelError
            If there is a single class, or if, of more than 20 rows, most have a class of their own.
        """
        array = _target(y)
        labels = set(self._labels(array, self.strip)) if is_text(array) else _numbers(array)
        self.classes = tuple(sorted(labels))
        if len(self.classes) < 2:
            raise LabelError(
                f"target: expected at least two classes, got only {self.classes[0]!r} in all "
                f"{array.shape[0]} rows. Check the target column and the rows."
            )
        if array.shape[0] > 20 and 2 * len(self.classes) > array.shape[0]:
            raise LabelError(
                f"target: expected labels that repeat, got {len(self.classes)} different ones in "
                f"{array.shape[0]} rows. Check the target column; a quantity needs the regression task."
            )
        return self

    def encode(self, y: npt.ArrayLike, *, strip: str | None = None) -> npt.NDArray[np.int64]:
        """Return class numbers.

        Parameters
        ----------
        y : array of shape (n,)
            Labels.
        strip : str, optional
            Ending to take off these labels, instead of the `strip` of the constructor.

        Returns
        -------
        array of shape (n,), int64
            Values in 0 … C-1.

        Raises
        ------
        DataError
            If a label is missing.
        LabelError
            If a label is none of the classes; the message names an ending that makes all the difference, if
            there is one.
        """
        where = {label_key(c): i for i, c in enumerate(self._known())}
        labels, key = self._labels(_target(y), self.strip if strip is None else strip), one_spelling(where)
        found = {label: where.get(key(label), -1) for label in set(labels)}
        codes = np.fromiter((found[label] for label in labels), dtype=np.int64, count=len(labels))
        unknown = np.flatnonzero(codes < 0)
        if unknown.size:
            i = int(unknown[0])
            raise LabelError(
                f"target: expected one of the {len(where)} classes {quote(self.classes)}, got {labels[i]!r} "
                f"in data row {i + 1} ({unknown.size} of {plural(len(labels), 'row')} with unknown labels). "
                + label_advice({labels[j] for j in unknown}, set(where))
            )
        return codes

    def decode(self, codes: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the labels of class numbers; same shape, text as an object array of str."""
        classes = self._known()
        # NumPy makes floats of integers that no one integer dtype holds.
        small = not any(isinstance(c, str) or (isinstance(c, int) and abs(c) >= 2**63) for c in classes)
        return np.asarray(np.asarray(classes, dtype=None if small else object).take(np.asarray(codes)))

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able values."""
        return {"task": self.task, "classes": list(self.classes), "strip": self.strip}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ClassTarget:
        """Rebuild from `to_dict`."""
        expect(state, {"classes": [(str, float, bool, _whole)], "strip": str})
        target = cls(strip=state["strip"])
        target.classes = tuple(state["classes"])
        return target

    def _known(self) -> tuple[Label, ...]:
        if not self.classes:
            raise LabelError("ClassTarget: expected fitted classes, got none. Call fit first.")
        return self.classes

    @staticmethod
    def _labels(array: npt.NDArray[Any], strip: str) -> list[str]:
        return [str(text).removesuffix(strip).strip() for text in as_texts(array)]


def _numbers(array: npt.NDArray[Any]) -> set[int] | set[float] | set[bool]:
    """Return the different numbers or booleans: whole ones as integers, if all are, and floats as short as they are."""
    values = {
        v.item() if isinstance(v, np.integer | np.bool_) else v
        for v in (np.unique(array) if array.dtype.kind != "O" else array)
    }
    if all(isinstance(v, bool) for v in values):
        return values
    with _of_target():
        as_numbers("target", array)  # says which row is none
    exact = {v if isinstance(v, int) else float(label_key(v)) for v in values}
    if all(float(v).is_integer() for v in exact):
        return {int(v) for v in exact}
    return {float(v) if abs(v) < 2**53 else v for v in exact}


def label_advice(unknown: set[str], known: set[str]) -> str:
    """Say what would make unknown labels known, if one ending or the case does."""
    endings = {u[len(k) :] for u in unknown for k in known if k and u.startswith(k)}
    for ending in sorted(endings, key=len):
        if all(u.endswith(ending) and u.removesuffix(ending) in known for u in unknown):
            return f"The labels end in {ending!r}; strip it with --strip-target {ending!r}."
    endings = {k[len(u) :] for u in unknown for k in known if u and k.startswith(u)}
    for ending in sorted(endings, key=len):
        if all(u + ending in known for u in unknown):
            return f"The labels seen in training end in {ending!r}; train again with --strip-target {ending!r}."
    folded = {k.casefold() for k in known}
    if all(u.casefold() in folded for u in unknown):
        return "They differ in upper and lower case; write them alike."
    return "Check that this is the right target column, or train on rows that hold these labels."


class NumberTarget:
    r"""A quantity, standardised for training.

    .. math:: z = (y - \bar y) / s, \qquad s^2 = \tfrac1n \sum_i (y_i - \bar y)^2

    Attributes
    ----------
    spelling : Spelling
        How the numbers of a target that is text are written.
    mean, std : float
        Of the training rows. An error in training units times `std` is in the target's own units.
    low, high : float
        Range of the training rows.

    Examples
    --------
    >>> target = NumberTarget().fit([10.0, 20.0, 30.0])
    >>> target.encode([20.0, 40.0])
    array([[0.       ],
           [2.4494898]], dtype=float32)
    >>> target.decode([[0.0], [2.449]], clip=True).tolist()
    [20.0, 30.0]
    """

    task: Task = "regression"

    spelling = Spelling()

    def __init__(self) -> None:
        self.mean, self.std = 0.0, 1.0
        self.low, self.high = -np.inf, np.inf

    def __repr__(self) -> str:
        return f"NumberTarget(mean={self.mean:.6g}, std={self.std:.6g})"

    def fit(self, y: npt.ArrayLike, *, spelling: Spelling | None = None) -> NumberTarget:
        """Learn mean, standard deviation and range, and return itself.

        Parameters
        ----------
        y : array of shape (n,) or (n, 1)
            Numbers, also as text.
        spelling : Spelling, optional
            How numbers are written where they are text.

        Raises
        ------
        DataError
            If a value is missing, infinite or text, or if all are equal.
        """
        self.spelling = spelling or Spelling()
        numbers = self.numbers(y)
        self.low, self.high = float(numbers.min()), float(numbers.max())
        self.mean, self.std = float(numbers.mean()), float(numbers.std())
        # Rounding can leave equal values a tiny deviation, and tiny differences none.
        if self.low == self.high or self.std == 0:
            raise DataError(
                f"target: expected values that vary, got {self.low:g} in all {numbers.size} rows. "
                "Check the target column."
            )
        return self

    def numbers(self, y: npt.ArrayLike) -> Floats:
        """Return values of shape (n,) or (n, 1) as float64 of shape (n,), or say which row is missing or no number."""
        with _of_target():
            numbers = read_numbers("target", _target(y), self.spelling)
        _refuse_gaps(np.isnan(numbers))  # words for no value
        return numbers

    def encode(self, y: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Standardise values of shape (n,) to float32 of shape (n, 1), the shape of a network's output."""
        return ((self.numbers(y) - self.mean) / self.std).astype(np.float32)[:, None]

    def decode(self, z: npt.ArrayLike, *, clip: bool = False) -> Floats:
        """Undo `encode`.

        Parameters
        ----------
        z : array of shape (n,) or (n, 1)
            Standardised values.
        clip : bool, default=False
            Whether to hold the result within the range of the training rows.

        Returns
        -------
        array of shape (n,), float64
            Values in the target's own units.
        """
        y = np.multiply(z, self.std, dtype=np.float64).reshape(-1)
        y += self.mean
        if clip:  # `numpy.clip` takes longer to begin
            np.maximum(y, self.low, out=y)
            np.minimum(y, self.high, out=y)
        return y

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able values."""
        numbers = {"mean": self.mean, "std": self.std, "low": self.low, "high": self.high}
        return {"task": self.task, **numbers, "spelling": self.spelling.to_dict()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> NumberTarget:
        """Rebuild from `to_dict`."""
        expect(state, {"mean": float, "std": at_least(5e-324, float), "low": NUMBER, "high": NUMBER})
        target = cls()
        target.mean, target.std, target.low, target.high = (float(state[k]) for k in ("mean", "std", "low", "high"))
        target.spelling = Spelling.from_dict(state.get("spelling", {}))
        return target


class NumberTargets:
    r"""Several quantities, each standardised by itself as `NumberTarget` does.

    Attributes
    ----------
    targets : tuple of NumberTarget
        One for each column.
    names : tuple of str
        What the columns are called; empty where nobody said.

    Examples
    --------
    >>> target = NumberTargets().fit([[10.0, 1.0], [30.0, 3.0]])
    >>> target.encode([[10.0, 3.0]])
    array([[-1.,  1.]], dtype=float32)
    >>> target.decode([[0.0, 9.0]], clip=True).tolist()
    [[20.0, 3.0]]
    """

    task: Task = "regression"

    def __init__(self) -> None:
        self.targets: tuple[NumberTarget, ...] = ()
        self.names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"NumberTargets({', '.join(map(repr, self.targets))})"

    @property
    def called(self) -> tuple[str, ...]:
        """A name for each column: its own, or its number from 1 on."""
        return self.names or tuple(str(k + 1) for k in range(len(self.targets)))

    def fit(
        self, y: npt.ArrayLike, *, spellings: Sequence[Spelling | None] | None = None, names: Sequence[str] = ()
    ) -> NumberTargets:
        """Learn means, standard deviations and ranges, and return itself.

        Parameters
        ----------
        y : array of shape (n, k), or frame of k columns
            Numbers.
        spellings : sequence of Spelling or None, optional
            How the numbers of each column are written where they are text.
        names : sequence of str, optional
            What the columns are called; by default as in the frame.

        Raises
        ------
        DataError
            If a value is missing, infinite or text, or if all of a column are equal; the message names the column.
        ShapeError
            If there are no columns.
        """
        columns = _columns(y)
        written = [None] * len(columns) if spellings is None else spellings
        self.names = tuple(map(str, names or table_names(y) or ()))
        fitted = []
        for k, (column, spelling) in enumerate(zip(columns, written, strict=True)):
            with self._naming(k):
                fitted.append(NumberTarget().fit(column, spelling=spelling))
        self.targets = tuple(fitted)
        return self

    @property
    def std(self) -> Floats:
        """Standard deviations of the training rows, of shape (k,)."""
        return np.asarray([target.std for target in self.targets])

    def numbers(self, y: npt.ArrayLike) -> Floats:
        """Return values of shape (n, k) as float64, or say which column and row is missing or no number."""
        columns = _columns(y)
        if len(columns) != len(self.targets):
            raise ShapeError(
                f"target: expected {len(self.targets)} columns, as in training, got {len(columns)}. Pass the same."
            )
        read = []
        for k, (target, column) in enumerate(zip(self.targets, columns, strict=True)):
            with self._naming(k):
                read.append(target.numbers(column))
        return np.stack(read, axis=1)

    def encode(self, y: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Standardise values of shape (n, k) to float32 of the same shape."""
        mean = np.asarray([target.mean for target in self.targets])
        encoded: npt.NDArray[np.float32] = ((self.numbers(y) - mean) / self.std).astype(np.float32)
        return encoded

    def decode(self, z: npt.ArrayLike, *, clip: bool = False) -> Floats:
        """Undo `encode`; with `clip` hold the result within the ranges of the training rows."""
        columns = zip(self.targets, np.asarray(z).T, strict=True)
        return np.stack([target.decode(column, clip=clip) for target, column in columns], axis=1)

    def to_dict(self) -> dict[str, Any]:
        """Return the state as JSON-able values."""
        named = {"names": list(self.names)} if self.names else {}
        return {"task": self.task, "targets": [target.to_dict() for target in self.targets], **named}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> NumberTargets:
        """Rebuild from `to_dict`."""
        expect(state, {"targets": [{"task": "regression"}]})
        made = cls()
        made.targets = tuple(map(NumberTarget.from_dict, state["targets"]))
        if "names" in state:
            expect(state, {"names": [str]})
            made.names = tuple(state["names"])
            if len(made.names) != len(made.targets):
                raise ValueError(f"{len(made.names)} names for {len(made.targets)} targets")
        return made

    @contextlib.contextmanager
    def _naming(self, k: int) -> Iterator[None]:
        """Let errors name the column of the target."""
        try:
            yield
        except XpnnError as error:
            column = repr(self.names[k]) if self.names else f"column {k + 1}"
            raise type(error)(str(error).replace("target:", f"target, {column}:", 1)) from None


def _columns(y: Any) -> list[Any]:
    """Return the columns of several targets."""
    names = table_names(y)
    if names is not None:
        return [y[name] for name in names]
    array = np.asarray(y)
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"target: expected several columns, of shape (n, k), got {array.shape}. Pass one for each.")
    return list(array.T)


def target_from_dict(state: Mapping[str, Any]) -> ClassTarget | NumberTarget | NumberTargets:
    """Rebuild any kind of target from its `to_dict`.

    Raises
    ------
    FileFormatError
        If the state is not one that `to_dict` returned.

    Examples
    --------
    >>> target_from_dict(ClassTarget().fit([3, 5]).to_dict()).classes
    (3, 5)
    """
    kinds: dict[str, type[ClassTarget] | type[NumberTarget] | type[NumberTargets]]
    with reading("target_from_dict", "what to_dict() returns"):
        several = state["task"] == "regression" and "targets" in state
        kinds = {"classification": ClassTarget, "regression": NumberTargets if several else NumberTarget}
        return kinds[state["task"]].from_dict(state)
