"""One fit on a table, from columns to a predictor: what the estimators and the command line have in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ..arguments import number
from ..backend import Backend
from ..calibration import fit_temperature
from ..data.batching import hold_out
from ..data.columns import as_texts, is_text, label_key, quote
from ..data.encoded import EncodedRows
from ..data.encoder import TableEncoder
from ..data.input_schema import InputSchema
from ..data.kinds import decide
from ..data.spelling import Spelling
from ..data.targets import ClassTarget, NumberTarget, NumberTargets, Task
from ..errors import DataError, LabelError, OptionError
from ..metrics import best_threshold, get_score
from ..predictor import Predictor, Target
from ..training import Callback
from ..training.checks import weights_by_label
from .intervals import fit_intervals
from .kept import keeping_in
from .members import TOO_SHORT, Fitted, HeldOut, Train, fit_members, make_encoder
from .memory import check_memory
from .recipe import Preset, Recipe, TableShape, choose_recipe
from .rows import TrainingRows

__all__ = [
    "Encoded",
    "Learned",
    "Prepared",
    "Request",
    "Validation",
    "class_weights",
    "fit_target",
    "learn",
    "learn_from",
    "own_score",
    "prepare",
    "settle_recipe",
    "shape_of",
]

Indices = npt.NDArray[np.int64]
Callbacks = Sequence[Callback] | Callable[[int], Sequence[Callback]]

# A share of fewer rows than this would leave nothing to judge by.
_LEAST_ROWS = 10
_FEW_ROWS = 20  # in which different whole numbers in a row mean little
_LEAST = 1e-30  # of a probability before its logarithm is taken


@dataclass(frozen=True)
class Request:
    """What somebody asks of a fit."""

    task: Task
    preset: Preset = "good"
    #: Entries of the recipe that are not to be chosen; or a function that returns them for the one that was.
    overrides: Mapping[str, Any] | Callable[[Recipe], Mapping[str, Any]] = field(default_factory=dict)
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
    #: Processes that networks are trained in.
    n_jobs: int | None = 1
    #: What `Trainer.fit` is told to share the work: shards, and a group.
    sharing: Mapping[str, Any] = field(default_factory=dict)
    #: Ending to take off every label.
    strip: str = ""
    #: How the numbers of each target are written, where that is known.
    spellings: Sequence[Spelling | None] | None = None
    #: What several targets are called, where that is known.
    targets: Sequence[str] = ()
    #: A folder in which networks are kept while they are trained, to go on with them; not within a time limit.
    keep: Path | None = None


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
    task: Task,
    y: npt.NDArray[Any],
    rows: Indices | None = None,
    *,
    strip: str = "",
    spellings: Sequence[Spelling | None] | None = None,
    names: Sequence[str] = (),
) -> tuple[Target, npt.NDArray[Any]]:
    """Return the fitted target and all targets as the loss takes them.

    Numbers are measured on the given `rows` alone, by default all; classes are those of all.  `spellings` tell how the
    numbers of each target are written, and `names` what several are called.

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
    columns = list(y.T) if y.ndim == 2 else [y]
    known = spellings or [None] * len(columns)
    found = [_spelling_of(column) if own is None else own for column, own in zip(columns, known, strict=True)]
    if len(columns) > 1:
        several = NumberTargets().fit(measured, spellings=found, names=names)
        return several, several.encode(y)
    number = NumberTarget().fit(measured, spelling=found[0])
    return number, number.encode(y)


def _spelling_of(y: npt.NDArray[Any]) -> Spelling | None:
    """Return how the numbers of a target that is text are written."""
    if not is_text(y):
        return None
    texts = [None if text is None else text.strip() for text in as_texts(y)]
    return decide("target", np.asarray(texts, dtype=object), numeric=True).spelling


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
        categories=tuple(map(rows.categories, words)),
        classes=len(target.classes) if isinstance(target, ClassTarget) else 0,
        outputs=len(target.targets) if isinstance(target, NumberTargets) else 1,
    )


def settle_recipe(request: Request, shape: TableShape, *, own_validation: bool) -> Recipe:
    """Return the recipe that is asked for; with validation rows of one's own there are no folds."""
    metric = request.metric
    if metric is not None:
        score = get_score(metric, "classes" if request.task == "classification" else "numbers")
        metric = "log_loss" if score.takes == "probabilities" else score.name
    recipe = choose_recipe(request.preset, shape, metric=metric)
    if request.ensemble is not None:
        folds = request.ensemble if recipe.folds and request.ensemble > 1 else 0
        recipe = recipe.replace(members=request.ensemble, folds=folds)
    if request.class_weight is not None:  # what is right then is not each row alike
        recipe = recipe.replace(select_by="loss", calibrate=False)
    changes = request.overrides(recipe) if callable(request.overrides) else request.overrides
    if "epochs" in changes:  # who gives a number of them means it
        recipe = recipe.replace(noiseless_length=1.0)
    recipe = recipe.replace(**changes)
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
    validation: Validation | None = None,
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
    validation : Validation, optional
        Rows of one's own to hold out.
    """
    began = time.monotonic()
    limit = request.time_limit
    if limit is not None and not number(limit) > 0:
        raise OptionError(f"{where}: expected time_limit > 0 or None, got {limit!r}. Try 60.")
    prepared = prepare(request, rows, y, where=where, weight=weight, validation=validation)
    left = None if limit is None else max(float(limit) - (time.monotonic() - began), 1e-3)
    train = None if request.keep is None or limit is not None else keeping_in(request.keep)
    learned = learn_from(prepared, time_limit=left, callbacks=request.callbacks, train=train)
    return learned._replace(seconds=time.monotonic() - began)


def learn_from(
    prepared: Prepared,
    *,
    backend: str | Backend | None = None,
    time_limit: float | None = None,
    callbacks: Callbacks = (),
    train: Train | None = None,
) -> Learned:
    """Train the networks, and decide with held-out rows what training leaves open.

    Parameters
    ----------
    prepared : Prepared
        What `prepare` returned.
    backend : str or Backend, optional
        Where the networks shall live; by default as was asked for.
    time_limit, callbacks, train
        As in `fit_members`.
    """
    request, learning, began = prepared.request, prepared.learning, time.monotonic()
    fitted = fit_members(
        prepared.recipe,
        learning.X,
        learning.codes,
        **prepared.arguments(),
        seed=request.seed,
        backend=request.backend if backend is None else backend,
        dtype=request.dtype,
        time_limit=time_limit,
        callbacks=callbacks,
        train=train,
        n_jobs=request.n_jobs,
        sharing=request.sharing,
    )
    schema = InputSchema.of(prepared.encoder, prepared.rows.columns, rows=prepared.rows.among)
    predictor = Predictor(fitted.net, fitted.loss, prepared.target, prepared.encoder, schema=schema)
    scores = None if fitted.held_out is None else _decide(prepared, predictor, fitted.held_out)
    later = (*_time_notes(fitted, request, prepared.recipe), *_length_notes(fitted, prepared.recipe))
    notes = (*prepared.notes, *prepared.encoder.notes, *later)
    return Learned(predictor, prepared.recipe, fitted, scores, notes, time.monotonic() - began)


class Validation(NamedTuple):
    """Rows of one's own to hold out: columns, targets and weights."""

    columns: Mapping[str, Any]
    y: npt.NDArray[Any]
    weight: npt.NDArray[np.float64] | None = None


class Encoded(NamedTuple):
    """Rows as the network takes them, with targets as the loss takes them and in their own terms."""

    X: npt.NDArray[np.float32] | EncodedRows
    codes: npt.NDArray[Any]
    y: npt.NDArray[Any]
    weight: npt.NDArray[np.float64] | None


class Prepared(NamedTuple):
    """All that training begins with: divided and encoded rows, the recipe, and what encodes rows and targets."""

    request: Request
    recipe: Recipe
    encoder: TableEncoder
    target: Target
    learning: Encoded
    held: Encoded | None  # None where the recipe has folds, or the rows are too few
    class_weight: Mapping[int, float] | Literal["balanced"] | None
    train: Indices  # numbers of the rows that were given
    valid: Indices
    rows: TrainingRows  # all of these
    notes: tuple[str, ...]  # of the columns

    @property
    def n_out(self) -> int:
        """Outputs of the network."""
        return _outputs(self.target)

    def arguments(self) -> dict[str, Any]:
        """Return what `fit_members` is told of them beside recipe, rows and targets."""
        return {
            "X_val": None if self.held is None else self.held.X,
            "y_val": None if self.held is None else self.held.codes,
            "n_out": self.n_out,
            "n_values": self.encoder.n_values,
            "sample_weight": self.learning.weight,
            "sample_weight_val": None if self.held is None else self.held.weight,
            "class_weight": self.class_weight,
        }


def prepare(
    request: Request,
    rows: TrainingRows,
    y: npt.NDArray[Any],
    *,
    where: str,
    weight: npt.NDArray[np.float64] | None = None,
    validation: Validation | None = None,
) -> Prepared:
    """Divide and encode the rows that `learn` is given, and settle the recipe."""
    train, valid, target, codes, recipe = _divide(request, rows, y, where, own=validation is not None)
    encoder = make_encoder(recipe, categorical=rows.categorical, numeric=request.numeric)
    encoder.dayfirst = request.dayfirst
    encoder.fit(rows.columns, spellings=rows.spellings, rows=rows.numbers(train))
    width, stored = len(encoder.feature_names_out), encoder.stored_width(len(train))
    check_memory(recipe, rows.size, width, _outputs(target), where, stored=stored)
    learning = Encoded(encoder.encode(rows.columns, rows.numbers(train)), codes[train], y[train], _of(weight, train))
    held = None
    if validation is not None:
        held = Encoded(encoder.encode(validation.columns), target.encode(validation.y), validation.y, validation.weight)
    elif len(valid):
        held = Encoded(encoder.encode(rows.columns, rows.numbers(valid)), codes[valid], y[valid], _of(weight, valid))
    own = class_weights(request.class_weight, target, where) if isinstance(target, ClassTarget) else None
    notes = (*rows.notes, *rows.doubts, *_target_notes(target, y))
    return Prepared(request, recipe, encoder, target, learning, held, own, train, valid, rows, notes)


class _Divided(NamedTuple):
    """Rows to train on and to hold out, with the target and the recipe."""

    train: Indices
    valid: Indices
    target: Target
    codes: npt.NDArray[Any]  # the target of all rows as the loss takes it
    recipe: Recipe


def _divide(request: Request, rows: TrainingRows, y: npt.NDArray[Any], where: str, *, own: bool) -> _Divided:
    if rows.size < 2:
        raise DataError(f"{where}: expected at least 2 rows to learn from, got 1 sample. Add rows.")
    of: dict[str, Any] = {"strip": request.strip, "spellings": request.spellings, "names": request.targets}
    target, codes = fit_target(request.task, y, **of)
    recipe = settle_recipe(request, shape_of(request.task, rows, rows.size, target), own_validation=own)
    share = 0.0 if own or recipe.folds or rows.size < _LEAST_ROWS else recipe.validation_fraction
    labels = codes if isinstance(target, ClassTarget) else None
    train, valid = hold_out(np.arange(rows.size, dtype=np.int64), labels, share, request.seed + 1)
    if len(valid) and labels is None:
        target, codes = fit_target(request.task, y, train, **of)
    return _Divided(train, valid, target, codes, recipe)


def _outputs(target: Target) -> int:
    if isinstance(target, ClassTarget):
        return len(target.classes)
    return len(target.targets) if isinstance(target, NumberTargets) else 1


# -- after training -------------------------------------------------------------------------------------------------
def _decide(prepared: Prepared, predictor: Predictor, held_out: HeldOut) -> dict[str, Any]:
    """Decide with held-out rows what training leaves open, and return their scores."""
    request, recipe, learning, held = prepared.request, prepared.recipe, prepared.learning, prepared.held
    places, outputs = held_out
    judged = learning if held is None else held
    judged = Encoded(judged.X[places], judged.codes[places], judged.y[places], _of(judged.weight, places))
    if isinstance(predictor.target, ClassTarget):
        if recipe.calibrate:
            logs = np.log(np.maximum(predictor.link(outputs).astype(np.float64), _LEAST))
            temperature = fit_temperature(logs, judged.codes, sample_weight=judged.weight)
            predictor.temperature = None if temperature == 1.0 else temperature
        out = predictor.link(outputs)
        predictor.threshold = _threshold(request.metric, judged, out)
        return _scores(request, predictor, judged, out)
    errors = _errors(predictor, predictor.link(outputs), judged.y)
    if held is None:  # of the folds: half of them teach the scale, the others vouch for the coverage
        teach, vouch = hold_out(np.arange(len(errors)), None, 0.5, request.seed)
        parts = judged.X[teach], errors[teach], judged.X[vouch], errors[vouch]
    else:
        trained = _errors(predictor, predictor.link(predictor.net.predict(learning.X)), learning.y)
        parts = learning.X, trained, judged.X, errors
    predictor.intervals = fit_intervals(*parts, seed=request.seed, backend=predictor.net.backend)
    out = predictor.link(outputs)
    return _scores(request, predictor, judged, out)


def _scores(request: Request, predictor: Predictor, judged: Encoded, out: npt.NDArray[Any]) -> dict[str, Any]:
    own = own_score(request.metric, predictor, judged.y, out, sample_weight=judged.weight)
    return predictor.score_outputs(out, judged.y) | own


def _of(weight: npt.NDArray[np.float64] | None, rows: Indices) -> npt.NDArray[np.float64] | None:
    return None if weight is None else weight[rows]


def _threshold(metric: str | None, judged: Encoded, out: npt.NDArray[Any]) -> float | None:
    """Return from which probability on the second of two classes is called; None where the metric asks for 1/2."""
    if metric is None or out.shape[1] != 2 or len(set(judged.codes.tolist())) < 2:
        return None
    score = get_score(metric, "classes")
    if score.takes != "labels" or score.name == "accuracy":
        return None
    found = best_threshold(judged.codes, out, score.name, sample_weight=judged.weight)
    return None if found == 0.5 else found


def own_score(
    metric: str | None,
    predictor: Predictor,
    y: npt.NDArray[Any],
    out: npt.NDArray[Any],
    *,
    sample_weight: npt.NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Return the metric that was asked for, by its short name; nothing where these rows do not define it.

    `y` are answers in the target's own terms, `out` what `Predictor.predict_proba` returned for their rows.
    """
    if metric is None:
        return {}
    target = predictor.target
    try:
        if isinstance(target, ClassTarget):
            score = get_score(metric, "classes")
            binary = out.shape[1] == 2
            given = predictor.codes(out) if score.takes == "labels" else out[:, 1] if binary else out
            return {score.name: score(target.encode(y), given, sample_weight=sample_weight)}
        score = get_score(metric, "numbers")
        return {score.name: score(target.numbers(y), target.decode(out, clip=True), sample_weight=sample_weight)}
    except (DataError, LabelError):  # of few rows a class may be absent
        return {}


def _errors(predictor: Predictor, out: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return absolute errors in standard deviations of the training rows, of shape (n, k)."""
    target = predictor.target
    if isinstance(target, ClassTarget):
        raise TypeError("classes have no errors that can be measured")
    wrong = np.abs(target.numbers(y) - target.decode(out, clip=True))
    errors: npt.NDArray[np.float64] = wrong.reshape(len(wrong), -1) / np.reshape(target.std, (1, -1))
    return errors


def _target_notes(target: Target, y: npt.NDArray[Any]) -> list[str]:
    """Say where numbers to learn are the numbers of the rows."""
    if not isinstance(target, NumberTarget) or len(y) <= _FEW_ROWS:
        return []
    numbers = np.unique(target.numbers(y))
    if numbers.size < len(y) or np.ptp(numbers) != len(y) - 1 or (numbers != np.trunc(numbers)).any():
        return []
    ends = f"{numbers[0]:g} to {numbers[-1]:g}"
    return [f"target: numbers the rows from {ends}, each once; if it is an identifier, there is nothing to learn."]


def _time_notes(fitted: Fitted, request: Request, recipe: Recipe) -> list[str]:
    """Say where the time was too short for what the recipe asks."""
    if request.time_limit is None:
        return []
    notes = []
    if fitted.stopped == TOO_SHORT:
        notes.append(f"time limit: {request.time_limit:g} s ended within the first epoch; its weights so far are kept.")
    elif len(fitted.members) < recipe.members:
        notes.append(
            f"time limit: {request.time_limit:g} s were enough for {len(fitted.members)} of {recipe.members} networks."
        )
    return notes


def _length_notes(fitted: Fitted, recipe: Recipe) -> list[str]:
    """Say where numbers with next to no noise had more epochs."""
    if not fitted.longer:
        return []
    left = min(fitted.history["val_loss"])
    return [
        f"epochs: the first network leaves {left:.2g} of the variance of rows it has not seen; there is next to no "
        f"noise, and the others have {fitted.longer} epochs, not {recipe.epochs}."
    ]
