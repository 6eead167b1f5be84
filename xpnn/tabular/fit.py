"""One fit on a table, from columns to a predictor: what the estimators and the command line have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arguments import number
from ..backend import Backend
from ..data.arrays import take_rows
from ..data.batching import hold_out
from ..data.columns import as_texts, is_text, label_key, quote
from ..data.kinds import decide
from ..data.targets import ClassTarget, NumberTarget, NumberTargets, Task
from ..errors import DataError, OptionError
from ..predictor import Predictor, Target
from ..training import Callback
from ..training.checks import weights_by_label
from .decisions import fit_temperature
from .intervals import fit_intervals
from .members import Fitted, HeldOut, fit_members, make_encoder
from .memory import check_memory
from .recipe import Preset, Recipe, TableShape, choose_recipe
from .rows import TrainingRows

__all__ = ["Learned", "Request", "class_weights", "fit_target", "learn", "settle_recipe", "shape_of"]

Indices = npt.NDArray[np.int64]
Callbacks = Sequence[Callback] | Callable[[int], Sequence[Callback]]

# A share of fewer rows than this would leave nothing to judge by.
_LEAST_ROWS = 10


@dataclass(frozen=True)
class Request:
    """What somebody asks of a fit."""

    task: Task
    preset: Preset = "good"
    #: Entries of the recipe that are not to be chosen.
    overrides: Mapping[str, Any] = field(default_factory=dict)
    #: What the answers will be judged by.
    metric: str | None = None
    #: Number of networks; None: the recipe's.
    ensemble: int | None = None
    time_limit: float | None = None
    class_weight: Mapping[Any, float] | Literal["balanced"] | None = None
    numeric: Sequence[str] = ()
    dayfirst: bool | None = None
    seed: int = 0
    backend: str | Backend = "numpy"
    dtype: str = "float32"
    callbacks: Callbacks = ()


class Learned(NamedTuple):
    """What came out."""

    predictor: Predictor
    recipe: Recipe
    fitted: Fitted
    #: Scores of rows that were not trained on, as `Predictor.score` has them; None where there are none.
    scores: dict[str, Any] | None
    notes: tuple[str, ...]
    seconds: float


def fit_target(
    task: Task, y: npt.NDArray[Any], rows: Indices | None = None, *, strip: str = ""
) -> tuple[Target, npt.NDArray[Any]]:
    """Return the fitted target and all targets as the loss takes them.

    Numbers are measured on the given `rows` alone, by default all; classes are those of all.

    Raises
    ------
    DataError, LabelError
        If a value is missing, there is one class or one value, or nearly every row has a class of its own.

    Examples
    --------
    >>> fit_target("classification", np.array(["no", "yes", "no"]))[1]
    array([0, 1, 0])
    """
    if task == "classification":
        classes = ClassTarget(strip=strip).fit(y)
        return classes, classes.encode(y)
    measured = y if rows is None else y[rows]
    if y.ndim == 2 and y.shape[1] != 1:
        several = NumberTargets().fit(measured)
        return several, several.encode(y)
    spelling = None
    if is_text(y):
        texts = [None if text is None else text.strip() for text in as_texts(y.reshape(-1))]
        spelling = decide("target", np.asarray(texts, dtype=object), numeric=True).spelling
    number = NumberTarget().fit(measured, spelling=spelling)
    return number, number.encode(y)


def class_weights(asked: Any, target: ClassTarget, where: str) -> Mapping[int, float] | Literal["balanced"] | None:
    """Return weights by class number, from weights by label.

    Raises
    ------
    OptionError
        If a label is none of the classes, or a weight no number from 0 on.
    """
    if asked is None:
        return None
    if isinstance(asked, str) and asked == "balanced":
        return "balanced"
    places = {label_key(label): code for code, label in enumerate(target.classes)}
    found = {}
    for label, weight in weights_by_label(asked, where).items():
        if label_key(label) not in places:
            raise OptionError(
                f"{where}: expected class_weight for the classes {quote(target.classes, 20)}, got {label!r}. Name "
                "labels of y."
            )
        found[places[label_key(label)]] = weight
    return found


def shape_of(task: Task, rows: TrainingRows, size: int, target: Target) -> TableShape:
    """Return what a recipe is chosen by; `size` is the number of rows to train on."""
    words = [
        name
        for name, column in rows.columns.items()
        if name in rows.categorical or (name not in rows.spellings and is_text(column))
    ]
    return TableShape(
        task,
        size,
        numbers=len(rows.columns) - len(words),
        categories=tuple(len(set(as_texts(rows.columns[name])) - {None}) for name in words),
        classes=len(target.classes) if isinstance(target, ClassTarget) else 0,
        outputs=len(target.targets) if isinstance(target, NumberTargets) else 1,
    )


def settle_recipe(request: Request, shape: TableShape, *, own_validation: bool) -> Recipe:
    """Return the recipe that is asked for; with validation rows of one's own there are no folds."""
    recipe = choose_recipe(request.preset, shape, metric=request.metric)
    if request.ensemble is not None:
        folds = request.ensemble if recipe.folds and request.ensemble > 1 else 0
        recipe = recipe.replace(members=request.ensemble, folds=folds)
    if request.class_weight is not None:  # what is right then is not each row alike
        recipe = recipe.replace(select_by="loss", calibrate=False)
    recipe = recipe.replace(**request.overrides)
    folds = recipe.folds
    if own_validation or shape.rows < max(_LEAST_ROWS, 2 * folds):
        recipe = recipe.replace(folds=0)
    return recipe


def learn(
    request: Request,
    rows: TrainingRows,
    y: npt.NDArray[Any],
    *,
    where: str,
    weight: npt.NDArray[np.float64] | None = None,
    validation: tuple[Mapping[str, Any], npt.NDArray[Any]] | None = None,
) -> Learned:
    """Fit on all rows of a table, but for those that it holds out itself; return a predictor and what is known of it.

    Parameters
    ----------
    request : Request
        What is asked for.
    rows : TrainingRows
        What `read_training_rows` returned.
    y : array of shape (n,), or (n, k) of several quantities
        Targets in their own terms.
    where : str
        Who asks, for messages.
    weight : array of shape (n,), optional
        Weights of the rows, all above 0.
    validation : (columns, y), optional
        Rows of one's own to hold out.
    """
    began = time.monotonic()
    limit = request.time_limit
    if limit is not None and not number(limit) > 0:
        raise OptionError(f"{where}: expected time_limit > 0 or None, got {limit!r}. Try 60.")
    divided = _divide(request, rows, y, where, own=validation is not None)
    train, valid, target, codes, recipe = divided
    encoder = make_encoder(recipe, categorical=rows.categorical, numeric=request.numeric)
    encoder.dayfirst = request.dayfirst
    encoder.fit(take_rows(rows.columns, train), spellings=rows.spellings)
    n_out = _outputs(target)
    check_memory(recipe, rows.size, len(encoder.feature_names_out), n_out, where)
    learning = _Encoded(encoder.transform(take_rows(rows.columns, train)), codes[train], y[train])
    held = None
    if validation is not None:
        held = _Encoded(encoder.transform(validation[0]), target.encode(validation[1]), validation[1])
    elif len(valid):
        held = _Encoded(encoder.transform(take_rows(rows.columns, valid)), codes[valid], y[valid])
    left = None if limit is None else max(float(limit) - (time.monotonic() - began), 1e-3)
    fitted = fit_members(
        recipe,
        learning.X,
        learning.codes,
        X_val=None if held is None else held.X,
        y_val=None if held is None else held.codes,
        n_out=n_out,
        n_values=encoder.n_values,
        seed=request.seed,
        backend=request.backend,
        dtype=request.dtype,
        sample_weight=None if weight is None else weight[train],
        class_weight=class_weights(request.class_weight, target, where) if isinstance(target, ClassTarget) else None,
        time_limit=left,
        callbacks=request.callbacks,
    )
    predictor = Predictor(fitted.net, fitted.loss, target, encoder)
    hidden = fitted.held_out
    scores = None if hidden is None else _decide(request, recipe, predictor, hidden, learning, held)
    notes = (*rows.notes, *rows.doubts, *encoder.notes, *_time_notes(fitted, request, recipe))
    return Learned(predictor, recipe, fitted, scores, notes, time.monotonic() - began)


class _Divided(NamedTuple):
    """Rows to train on and to hold out, with the target and the recipe."""

    train: Indices
    valid: Indices
    target: Target
    codes: npt.NDArray[Any]  # the target of all rows as the loss takes it
    recipe: Recipe


class _Encoded(NamedTuple):
    """Rows as the network takes them, with targets as the loss takes them and in their own terms."""

    X: npt.NDArray[np.float32]
    codes: npt.NDArray[Any]
    y: npt.NDArray[Any]


def _divide(request: Request, rows: TrainingRows, y: npt.NDArray[Any], where: str, *, own: bool) -> _Divided:
    if rows.size < 2:
        raise DataError(f"{where}: expected at least 2 rows to learn from, got 1 sample. Add rows.")
    target, codes = fit_target(request.task, y)
    recipe = settle_recipe(request, shape_of(request.task, rows, rows.size, target), own_validation=own)
    share = 0.0 if own or recipe.folds or rows.size < _LEAST_ROWS else recipe.validation_fraction
    labels = codes if isinstance(target, ClassTarget) else None
    train, valid = hold_out(np.arange(rows.size, dtype=np.int64), labels, share, request.seed + 1)
    if len(valid) and labels is None:
        target, codes = fit_target(request.task, y, train)
    return _Divided(train, valid, target, codes, recipe)


def _outputs(target: Target) -> int:
    if isinstance(target, ClassTarget):
        return len(target.classes)
    return len(target.targets) if isinstance(target, NumberTargets) else 1


# -- after training -------------------------------------------------------------------------------------------------
def _decide(
    request: Request,
    recipe: Recipe,
    predictor: Predictor,
    held_out: HeldOut,
    learning: _Encoded,
    held: _Encoded | None,
) -> dict[str, Any]:
    """Decide with held-out rows what training leaves open, and return their scores."""
    places, outputs = held_out
    judged = learning if held is None else held
    judged = _Encoded(judged.X[places], judged.codes[places], judged.y[places])
    if isinstance(predictor.target, ClassTarget):
        if recipe.calibrate:
            temperature = fit_temperature(predictor.link(outputs), judged.codes)
            predictor.temperature = None if temperature == 1.0 else temperature
        return predictor.score_outputs(predictor.link(outputs), judged.y)
    errors = _errors(predictor, predictor.link(outputs), judged.y)
    if held is None:  # of the folds: half of them teach the scale, the others vouch for the coverage
        teach, vouch = hold_out(np.arange(len(errors)), None, 0.5, request.seed)
        parts = judged.X[teach], errors[teach], judged.X[vouch], errors[vouch]
    else:
        trained = _errors(predictor, predictor.link(predictor.net.predict(learning.X)), learning.y)
        parts = learning.X, trained, judged.X, errors
    predictor.intervals = fit_intervals(*parts, seed=request.seed, backend=predictor.net.backend)
    return predictor.score_outputs(predictor.link(outputs), judged.y)


def _errors(predictor: Predictor, out: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return absolute errors in standard deviations of the training rows, of shape (n, k)."""
    target = predictor.target
    if isinstance(target, ClassTarget):
        raise TypeError("classes have no errors that can be measured")
    wrong = np.abs(target.numbers(y) - target.decode(out, clip=True))
    errors: npt.NDArray[np.float64] = wrong.reshape(len(wrong), -1) / np.reshape(target.std, (1, -1))
    return errors


def _time_notes(fitted: Fitted, request: Request, recipe: Recipe) -> list[str]:
    """Say where the time was too short for what the recipe asks."""
    if request.time_limit is None:
        return []
    notes = []
    if not len(fitted.history):
        notes.append(f"time limit: {request.time_limit:g} s ended within the first epoch; its weights so far are kept.")
    elif len(fitted.members) < recipe.members:
        notes.append(
            f"time limit: {request.time_limit:g} s were enough for {len(fitted.members)} of {recipe.members} networks."
        )
    return notes
