"""What decides a fit on a table, as one value that can be read, changed and kept; and how it is chosen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self, TypeAlias

from ..arguments import suggest
from ..config import options_of, reading
from ..data.targets import Task
from ..errors import FileFormatError, OptionError
from ..schema import Kind, at_least, misfit

__all__ = ["PRESETS", "Preset", "Recipe", "TableShape", "choose_recipe"]

Preset: TypeAlias = Literal["quick", "good", "best"]

#: From the fastest to the most accurate.
PRESETS: tuple[Preset, ...] = ("quick", "good", "best")


@dataclass(frozen=True)
class TableShape:
    """What `choose_recipe` knows of a table.

    Examples
    --------
    >>> TableShape("classification", rows=712, numbers=5, categories=(2, 3), classes=2).columns
    7
    """

    #: What the target asks for.
    task: Task
    #: Rows to learn from.
    rows: int
    #: Columns of numbers.
    numbers: int = 0
    #: Number of categories of each categorical column.
    categories: tuple[int, ...] = ()
    #: Number of classes; 0 for regression.
    classes: int = 0
    #: Number of targets that are predicted at once.
    outputs: int = 1

    @property
    def columns(self) -> int:
        """Columns of both kinds."""
        return self.numbers + len(self.categories)


def _share(value: Any) -> bool:
    """a number from 0 to below 1"""  # noqa: D403 (it stands in messages)
    return misfit(value, at_least(0, float)) is None and value < 1


def _positive(value: Any) -> bool:
    """a number above 0"""  # noqa: D403
    return misfit(value, at_least(0, float)) is None and value > 0


def _one_of(*words: str) -> tuple[str, ...]:
    return words


_COUNT = at_least(1)
#: What each entry may be.
_KINDS: dict[str, Kind] = {
    "task": _one_of("classification", "regression"),
    "preset": _one_of(*PRESETS),
    "clip": (None, _positive),
    "bins": ("auto", at_least(0)),
    "min_count": _COUNT,
    "max_categories": at_least(2),
    "embedding": _one_of("none", "pbld", "pl", "plr"),
    "sigma": _positive,
    "scale": bool,
    "hidden": [_COUNT],
    "activation": str,
    "parametric": bool,
    "norm": (None, "batch", "layer", "rms"),
    "residual": bool,
    "dropout": _share,
    "dropout_schedule": str,
    "init": str,
    "loss": _one_of("auto", "cross_entropy", "mse", "mae", "huber"),
    "label_smoothing": _share,
    "optimizer": str,
    "lr": _positive,
    "lr_by_width": bool,
    "beta2": _share,
    "weight_decay": at_least(0, float),
    "weight_decay_schedule": str,
    "schedule": str,
    "warmup": _share,
    "epochs": _COUNT,
    "noiseless_length": at_least(1, float),
    "patience": (None, _COUNT),
    "batch_size": _COUNT,
    "ema": _share,
    "clip_norm": (None, _positive),
    "clip_value": (None, _positive),
    "select_by": _one_of("loss", "accuracy"),
    "validation_fraction": _share,
    "folds": at_least(0),
    "members": _COUNT,
    "calibrate": bool,
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a fit on a table but the data and the seed.

    `choose_recipe` makes one; `replace` changes single entries of it.  The parts are those of RealMLP [1]_.

    Raises
    ------
    OptionError
        If an entry is not what it can be.

    References
    ----------
    .. [1] Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
       data", NeurIPS 2024.

    Examples
    --------
    >>> recipe = choose_recipe("good", TableShape("regression", rows=5000, numbers=8))
    >>> recipe.loss, recipe.replace(epochs=3).epochs
    ('auto', 3)
    >>> Recipe.from_dict(recipe.to_dict()) == recipe
    True
    """

    task: Task
    preset: Preset = "good"

    # -- the table as a matrix: see TableEncoder ------------------------------------------------------------
    clip: float | None = 3.0
    bins: int | Literal["auto"] = 0
    min_count: int = 1
    max_categories: int = 100

    # -- the network ----------------------------------------------------------------------------------------
    #: Waves in front of each number (`xpnn.NumericalEmbedding`).
    embedding: Literal["none", "pbld", "pl", "plr"] = "pbld"
    #: Standard deviation of their frequencies to begin with.
    sigma: float = 0.1
    #: Whether each column is scaled by a learned factor (`xpnn.Scale`).
    scale: bool = True
    hidden: tuple[int, ...] = (128, 128, 128)
    activation: str = "mish"
    #: Whether each unit learns how much of the activation it takes (`xpnn.ParametricActivation`).
    parametric: bool = True
    norm: Literal["batch", "layer", "rms"] | None = None
    residual: bool = False
    dropout: float = 0.0
    #: How that goes on over the epochs; "flatcosine" lets it end with the training.
    dropout_schedule: str = "constant"
    #: How weights begin; "auto" suits the activation.
    init: str = "auto"

    # -- what is learned ------------------------------------------------------------------------------------
    #: "auto" is cross-entropy for classes and the squared error for numbers.
    loss: Literal["auto", "cross_entropy", "mse", "mae", "huber"] = "auto"
    label_smoothing: float = 0.0

    # -- training -------------------------------------------------------------------------------------------
    optimizer: str = "adamw"
    lr: float = 0.04
    #: Whether a layer's weights learn at ``lr / sqrt(n_in)`` and its biases at a tenth of `lr`.
    lr_by_width: bool = True
    beta2: float = 0.95
    weight_decay: float = 0.0
    #: How that goes on over the epochs, beside the learning rate, which it is multiplied by.
    weight_decay_schedule: str = "constant"
    schedule: str = "cosine"
    #: Share of the epochs in which the learning rate rises before that.
    warmup: float = 0.05
    epochs: int = 64
    #: How many times as many epochs the networks after the first have, where that one shows numbers with next to no
    #: noise: it leaves less than 0.5 % of the variance of rows it has not seen.  More epochs can only help there.
    noiseless_length: float = 1.0
    #: Epochs without improvement after which training ends; None: it goes through all epochs.
    patience: int | None = None
    batch_size: int = 256
    #: Factor of an average of the weights over the steps, which is what is kept; 0 for none.
    ema: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None

    # -- what is kept ---------------------------------------------------------------------------------------
    #: By which value on held-out rows the best epoch is chosen; of equal ones the last.
    select_by: Literal["loss", "accuracy"] = "loss"
    #: Share of the rows that are held out, where there are no folds.
    validation_fraction: float = 0.1
    #: In how many parts the rows are divided, each network being trained on all but one of them, in turn; 0: one split
    #: for all networks.
    folds: int = 0
    #: Number of networks whose predictions are averaged.
    members: int = 1
    #: Whether probabilities are calibrated on held-out rows.
    calibrate: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.hidden, list):
            object.__setattr__(self, "hidden", tuple(self.hidden))
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            found = misfit(list(value) if isinstance(value, tuple) else value, kind)
            if found is not None:
                raise OptionError(
                    f"Recipe: expected {name}{found.path} to be {found.wanted}, got {value!r}. Choose such a value."
                )
        if self.folds == 1:
            raise OptionError("Recipe: expected folds to be 0, or 2 or more, got 1. Of one part nothing is left.")

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values for some of the entries.

        Raises
        ------
        OptionError
            If a name is unknown or a value not what it can be.
        """
        for name in changes:
            if name not in _KINDS:
                raise OptionError(f"Recipe: expected names of its entries, got {name!r}. {suggest(name, _KINDS)}")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the entries as JSON-able values."""
        return options_of(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the recipe of which `to_dict` gave the entries; those that a file lacks are as they were before them.

        Raises
        ------
        FileFormatError
            If a name is unknown or a value not what it can be.
        """
        with reading("Recipe.from_dict", "what to_dict() returns", passing=FileFormatError):
            unknown = sorted(set(state) - set(_KINDS))
            if unknown:
                raise ValueError(f"an entry {unknown[0]!r}, which is unknown")
            return cls(**state)


def choose_recipe(preset: Preset, shape: TableShape, *, metric: str | None = None) -> Recipe:
    """Choose what decides a fit, for a table of some shape.

    ``"quick"`` trains one network for a short time, ``"good"`` for longer, ``"best"`` trains a network for each of
    several folds.  Small tables are gone through more often, in smaller batches.

    Parameters
    ----------
    preset : {"quick", "good", "best"}
        How much time is spent.
    shape : TableShape
        Of the rows to train on.
    metric : str, optional
        What the answers will be judged by.  Scores of probabilities (``"log_loss"``, ``"roc_auc"``, …) are served by
        other choices than accuracy, the default for classes.

    Returns
    -------
    Recipe
        With every entry filled in.

    Raises
    ------
    OptionError
        If the preset is unknown.

    Examples
    --------
    >>> shape = TableShape("classification", rows=700, numbers=5, classes=2)
    >>> choose_recipe("quick", shape).epochs > choose_recipe("quick", dataclasses.replace(shape, rows=50_000)).epochs
    True
    """
    if preset not in PRESETS:
        raise OptionError(
            f"choose_recipe: expected a preset among {', '.join(PRESETS)}, got {preset!r}. {suggest(preset, PRESETS)}"
        )
    classes = shape.task == "classification"
    many = shape.rows >= _MANY_ROWS
    ranked = shape.classes == 2 and metric in _OF_PROBABILITIES
    plan = _PLANS[preset]
    # One network is sure of some rows that it gets wrong, which several average out.  With an average of its weights,
    # and the epoch by the loss, its probabilities are much better, and no more rows are wrong.
    alone = plan.members == 1
    return Recipe(
        shape.task,
        preset,
        bins=_bins(shape, classes=classes),
        embedding="pbld" if shape.numbers else "none",
        activation="selu" if classes else "mish",
        hidden=(256, 256, 256) if many and not classes else (128, 128, 128),
        # Many rows are noisy ones more often than not, and gone through too few times to be learned by heart.
        dropout=0.1 if many else 0.0,
        weight_decay=0.02 if many else 0.0,
        # Of two classes smoothing makes the answers better and their order worse.
        label_smoothing=0.1 if classes and not ranked else 0.0,
        lr=(0.02 if ranked else 0.04) if classes else _rate_of_numbers(many, alone),
        batch_size=_batch_size(shape.rows, classes=classes),
        ema=0.98 if alone or not classes else 0.0,
        epochs=_epochs(shape.rows, 1.0 if classes else plan.length),
        noiseless_length=1.0 if classes or alone else _NOISELESS_LENGTH,
        select_by="accuracy" if classes and not alone and metric in (None, "accuracy") else "loss",
        folds=plan.folds,
        members=plan.members,
    )


def _bins(shape: TableShape, *, classes: bool) -> int | Literal["auto"]:
    """Bins tell numbers apart that lie close together; over few rows they cost classes more than they give."""
    if shape.numbers > _MOST_BINNED:
        return 0
    if shape.rows >= _MANY_ROWS:
        return "auto"
    return 0 if classes else _BINS


def _rate_of_numbers(many: bool, alone: bool) -> float:
    """Small steps get closer to numbers that are known to many digits, where there are epochs enough for them."""
    return 0.2 if many or alone else 0.05


class _Plan(NamedTuple):
    """What a preset does with its time."""

    length: float  #: of a fit of numbers, in those of the shortest; classes are learned too well by longer ones
    members: int
    folds: int


_PLANS: dict[Preset, _Plan] = {"quick": _Plan(1.0, 1, 0), "good": _Plan(1.0, 3, 8), "best": _Plan(1.5, 8, 8)}
_OF_PROBABILITIES = ("ap", "auc", "average_precision", "brier", "brier_score", "log_loss", "roc_auc")
_BINS, _MOST_BINNED = 16, 64
_MOST_EPOCHS, _LEAST_EPOCHS, _NOISELESS_LENGTH = 128, 6, 2.0
_MANY_ROWS, _MOST_ROWS = 14_000, 100_000


def _batch_size(rows: int, *, classes: bool) -> int:
    """Small batches for small data, so that there are steps enough."""
    if rows < 500:
        return 64
    if rows > _MOST_ROWS:
        return 512
    return 256 if classes or rows > 8000 else 128


def _epochs(rows: int, length: float) -> int:
    """As many passes as make about the same number of steps, whatever the number of rows."""
    usual = _MOST_EPOCHS * math.pow(2500 / max(rows, 1), 0.85)
    return max(_LEAST_EPOCHS, round(min(usual, _MOST_EPOCHS) * length))
