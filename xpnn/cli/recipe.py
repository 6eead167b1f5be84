"""What `xpnn train` does where the command line is silent, and which options act on which data."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import OptionError
from ..search.configuration import OPTIMIZERS
from ..tabular.recipe import Recipe
from .sources import Kind, kind_of

__all__ = ["VALIDATION", "check_task", "default_of", "option", "overrides", "refuse_idle", "rows_a_batch", "settle"]

# The recipes' learning rates are Adam's; rules that divide by no or another norm of the gradients need others.
_RATES = {"sgd": 100.0, "momentum": 100.0, "adagrad": 10.0, "lion": 0.1, "muon": 20.0}


@dataclass(frozen=True)
class _Recipe:
    hidden: tuple[int, ...]
    activation: str
    dropout: float
    lr: float
    batch_size: int  # 0: from the number of training rows
    epochs: int
    weight_decay: float
    patience: int
    warmup: float = 0.0  # share of the epochs


# Chosen by measurement over several seeds; docs/architecture.md has the figures.
_RECIPES: dict[Kind, _Recipe] = {
    "digits": _Recipe((256, 128), "relu", 0.3, 0.001, 32, 60, 0.1, 60),
    "mnist": _Recipe((256, 128), "relu", 0.2, 0.001, 128, 25, 0.1, 25),
    "points": _Recipe((32, 32), "tanh", 0.0, 0.01, 32, 150, 0.0, 50),
    "table": _Recipe((256, 128), "silu", 0.1, 0.001, 0, 40, 0.1, 10, warmup=0.05),
}
_RECIPES["arrays"] = _RECIPES["stream"] = _RECIPES["table"]

_KINDS: dict[Kind, str] = {
    "digits": "digits",
    "mnist": "mnist",
    "points": "points made in code",
    "table": "a table",
    "arrays": "an .npz file",
    "stream": ".npy files",
}
_FILES: tuple[Kind, ...] = ("table", "arrays", "stream")
_TABLES: tuple[Kind, ...] = ("table",)
_OF_TABLES = (
    *("header", "delimiter", "missing", "encoding", "comment", "sheet"),
    *("drop", "categorical", "numeric", "decimal", "dayfirst", "keep"),
)
_ACTS_ON: dict[str, tuple[Kind, ...]] = {
    "target": _FILES,
    "test_file": _FILES,
    "test_target": ("stream", "arrays"),
    "test_size": ("digits", "points", "table", "arrays"),
    "data_dir": ("mnist",),
    "no_download": ("mnist",),
    "strip_target": _FILES,
    **dict.fromkeys((*_OF_TABLES, "drop_missing_target"), _TABLES),
    **dict.fromkeys(("preset", "bins"), (*_TABLES, "arrays")),
}


def default_of(name: str) -> str:
    """Tell an option's default for each kind of data, for the help."""

    def text(recipe: _Recipe) -> str:
        value = getattr(recipe, name)
        if isinstance(value, tuple):
            return ",".join(map(str, value))
        return value if isinstance(value, str) else f"{value:g}"

    usual = text(_RECIPES["table"])
    others = {kind: text(_RECIPES[kind]) for kind in ("digits", "mnist", "points")}
    told = [usual, *(f"{kind} {value}" for kind, value in others.items() if value != usual)]
    return "; ".join([*told, "tables as the preset says"])


def rows_a_batch(rows: int) -> int:
    """Small batches for small data: about 30 to 100 steps an epoch."""
    return next((size for most, size in ((1000, 32), (4000, 64), (10_000, 128)) if rows <= most), 256)


def option(name: str) -> str:
    """Spell an attribute as on the command line."""
    return f"--{name.replace('_', '-')}"


def refuse_idle(args: argparse.Namespace, kind: Kind, acts_on: dict[str, tuple[Kind, ...]], name: str) -> None:
    """Refuse options that were given and would do nothing."""
    for attribute, kinds in acts_on.items():
        if getattr(args, attribute, None) not in (None, False) and kind not in kinds:
            wanted = " or ".join(dict.fromkeys(_KINDS[k] for k in kinds))
            raise OptionError(f"{option(attribute)}: expected {wanted}, got {name}. Leave the option out.")


def settle(args: argparse.Namespace) -> argparse.Namespace:
    """Refuse options that would do nothing, and return all settings: what the command line leaves open filled in.

    A batch size of 0 waits for the number of rows.
    """
    kind = kind_of(args.source)
    if args.command == "search" and kind != "table":
        raise OptionError(f"search: expected a table, a .csv file, got {args.source}. Use xpnn train, or xpnn.search.")
    preset = args.preset or ("good" if kind == "table" else None)
    held_out = VALIDATION[args.command] if args.validation_size is None else args.validation_size
    args = argparse.Namespace(
        **vars(args)
        | {"preset": None if preset == "none" else preset, "validation_size": held_out}
        | {"one_split": args.validation_size is not None}
    )
    _refuse_contradictions(args, kind)
    defaults = _preset_defaults(args) if args.preset else _defaults(args, kind)
    return argparse.Namespace(
        **{name: defaults.get(name) if value is None else value for name, value in vars(args).items()}
    )


def _refuse_contradictions(args: argparse.Namespace, kind: Kind) -> None:
    refuse_idle(args, kind, _ACTS_ON, args.source)
    if isinstance(args.target, list) and kind != "table":
        raise OptionError(
            f"--target: expected one array of {args.source}, got {len(args.target)}. Several targets are one array of "
            "shape (n, k)."
        )
    if args.test_file and args.test_size is not None:
        raise OptionError("--test-size: expected no --test-file beside it, got both. Leave one out.")
    if args.test_target and not args.test_file:
        raise OptionError("--test-target: expected a --test-file that it belongs to, got none. Add --test-file X.npy.")
    if kind == "stream" and args.test_file and not args.test_target:
        raise OptionError(f"--test-file: {args.test_file} needs the file of its targets. Add --test-target y.npy.")
    if not args.preset:
        for name in (*_WITH_PRESET, *(("bins",) if kind == "arrays" else ())):
            if getattr(args, name, None) is not None:
                raise OptionError(f"{option(name)}: expected a --preset that it acts on, got none. Try --preset good.")
    if args.validation_size == 0:
        for name, given in (("patience", args.patience), ("schedule plateau", args.schedule == "plateau")):
            if given:
                raise OptionError(f"--{name}: expected validation rows, got none. Raise --validation-size.")
    if args.hidden is not None and not args.hidden:
        for name in ("activation", "dropout", "residual", "norm"):
            if getattr(args, name) not in (None, False, 0.0, "none"):
                raise OptionError(f"--{name}: expected a hidden layer to act on, got none. Widen --hidden.")


def _preset_defaults(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of options that no recipe decides."""
    # Where rows are held out in folds, all of them can be learned from.
    return {"test_size": 0.0 if args.test_file or args.cv else 0.2, "dtype": "float32"}


def _defaults(args: argparse.Namespace, kind: Kind) -> dict[str, Any]:
    """Return the values of options that were left out, for this kind of data."""
    recipe = _RECIPES[kind]
    epochs = args.epochs or recipe.epochs
    # Some begin with a rise of their own; and coupled decay (L2) as strong as AdamW's would stop all learning.
    warmup = 0.0 if args.schedule in ("onecycle", "coslog4") else recipe.warmup * epochs
    decay = recipe.weight_decay if OPTIMIZERS[args.optimizer].decoupled else 0.0
    return {
        "test_size": 0.0 if args.test_file or kind not in _ACTS_ON["test_size"] else 0.2,
        "hidden": list(recipe.hidden),
        "activation": recipe.activation,
        "dropout": recipe.dropout,
        "lr": recipe.lr * _RATES.get(args.optimizer, 1.0),
        "batch_size": recipe.batch_size,
        "epochs": epochs,
        "warmup": warmup,
        "weight_decay": decay,
        "patience": recipe.patience if args.validation_size else None,
        "dtype": "float32",
        "bins": "auto" if kind == "table" else None,
        "schedule": "cosine",
        "label_smoothing": 0.0,
        "ema": 0.0,
    }


#: Share of the rows that choose the epoch, or rank recipes, by command.
VALIDATION = {"train": 0.1, "search": 0.2}
#: Options that are entries of a table's recipe, by the same name.
_ENTRIES = (
    *("hidden", "activation", "dropout", "lr", "schedule", "batch_size", "epochs", "patience", "weight_decay"),
    *("label_smoothing", "clip_norm", "clip_value", "ema", "bins"),
)
# Options that a recipe is needed for.
_WITH_PRESET = ("time_limit", "ensemble", "metric", "cv")


def overrides(args: argparse.Namespace) -> Callable[[Recipe], dict[str, Any]]:
    """Return what the options say of a recipe, given that which would be chosen without them."""

    def changes(recipe: Recipe) -> dict[str, Any]:
        given = {name: getattr(args, name) for name in _ENTRIES}
        found = {name: value for name, value in given.items() if value is not None}
        found["validation_fraction"] = args.validation_size
        # Rows held out once for all networks, where that is asked for or where no others can be scored.
        if args.one_split or not (args.test_size or args.test_file):
            found["folds"] = 0
        if args.norm != "none":
            found["norm"] = args.norm
        if args.init != "auto":
            found["init"] = args.init
        if args.residual:
            found["residual"] = True
        if args.loss != "auto":
            found["loss"] = args.loss
        if args.optimizer != recipe.optimizer:
            found = {"optimizer": args.optimizer, "lr": recipe.lr * _RATES.get(args.optimizer, 1.0)} | found
        found |= getattr(args, "entries", None) or {}
        if args.warmup is not None:
            found["warmup"] = min(args.warmup / found.get("epochs", recipe.epochs), 0.99)
        return found

    return changes


def check_task(args: argparse.Namespace, task: str) -> None:
    """Refuse options of the other task."""
    idle = {
        "regression": {
            "class_weight": args.class_weight != "none",
            "label_smoothing": (args.label_smoothing or 0) > 0,
            "strip_target": args.strip_target is not None,
        },
        "classification": {"loss": args.loss != "auto"},
    }[task]
    wanted, got = ("numbers", "classes") if task == "classification" else ("classes", "numbers")
    for name, given in idle.items():
        if given:
            raise OptionError(f"{option(name)}: expected a target of {wanted}, got {got}. Leave the option out.")
