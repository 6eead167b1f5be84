"""``xpnn info``: what is in a model file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ..arguments import printable
from ..checkpoint import build, read
from ..config import reading
from ..data.input_schema import InputSchema
from ..errors import FileFormatError
from ..predictor import model_file, network_tensors
from ..tabular import Recipe
from ..training import Trainer
from .options import add_json, print_json
from .system import versions

__all__ = ["add_commands"]

# Of these nothing is told unless all is asked for: they stand elsewhere too, or are for machines.
_DETAILS = ("audit", "by_position", "columns", "estimator", "features", "header", "machine", "run", "versions")
# Options that ask for nothing.
_IDLE: tuple[Any, ...] = (None, False, 0.0, "none", "auto")


def add_commands(commands: Any) -> None:
    """Add the command."""
    info = commands.add_parser(
        "info",
        usage="xpnn info [MODEL] [--all] [--json]",
        help="tell what is in a model file, or the versions in use",
    )
    info.add_argument(
        "model", nargs="?", metavar="MODEL", help="a file from xpnn train or xpnn.save, or a run's folder"
    )
    text = "everything that the file tells, also options and entries of the recipe that are as by default; default: no"
    info.add_argument("--all", action="store_true", help=text)
    add_json(info)
    info.set_defaults(run=run_info)


def run_info(args: argparse.Namespace) -> int:
    """Print what a model file holds."""
    if args.model is None:
        if args.json:
            print_json(versions())
        else:
            for name, version in versions().items():
                print(f"{name} {version}")
        return 0
    tensors, meta = read(model_file(args.model))
    if "network" not in meta:
        raise FileFormatError(f"{args.model} holds no network. Write it with xpnn.save or xpnn train.")
    trainer = Trainer.load(args.model) if "trainer" in meta else None
    net = build(meta["network"], network_tensors(tensors)) if trainer is None else trainer.net
    predictor = meta.get("extra", {}).get("predictor")
    facts = {
        "written by": f"xpnn {meta['written_by']}",
        "dtype": meta["network"]["dtype"],
        "seed": meta["network"]["seed"],
        "parameters": net.n_params,
    }
    if trainer is not None:
        facts |= {part: repr(getattr(trainer, part)) for part in ("loss", "optimizer", "schedule")}
        facts |= {"epochs": trainer.epoch, "steps": trainer.step}
    if predictor:
        with reading("info", "what xpnn train writes", got=f"a bad entry in {args.model}"):
            facts |= {"loss": predictor["loss"]["type"], "task": predictor["target"]["task"]}
            if "classes" in predictor["target"]:
                facts["classes"] = predictor["target"]["classes"]
            if predictor["encoder"]:
                facts["encoder"] = predictor["encoder"]["type"]
            facts |= predictor["info"]
    schema = None
    if predictor and predictor.get("schema") is not None:
        schema = InputSchema.from_dict(predictor["schema"])
    if args.json:
        described = {} if schema is None else {"schema": schema.to_dict()}
        print_json({**facts, **described, "layers": net.config()["layers"]})
        return 0
    print(net.summary())
    print()
    for name, value in (facts if args.all else _worth_telling(facts)).items():
        _print_fact(name, value)
    if predictor and not args.all:
        print("(--all tells everything: columns, versions, and what is as by default)")
    if schema is not None:
        print(f"\ninput, as {schema.rows:,} training rows had it:\n{schema}")
    return 0


def _worth_telling(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person asks of a model, numbers as long as they mean something."""
    told = {name: value for name, value in facts.items() if name not in _DETAILS}
    recipe = facts.get("recipe")
    if isinstance(recipe, dict) and recipe.get("task") in ("classification", "regression"):
        usual = Recipe(recipe["task"]).to_dict()
        told["recipe"] = {name: value for name, value in recipe.items() if name == "preset" or value != usual.get(name)}
        told.pop("options", None)  # which the command and the recipe tell
    if isinstance(told.get("options"), dict):
        options = told["options"].items()
        told["options"] = {
            name: value
            for name, value in options
            if value not in _IDLE and not (name in facts and facts[name] == value)
        }
    folds = told.get("cross_validation")
    if isinstance(folds, dict) and isinstance(folds.get("mean"), dict) and isinstance(folds.get("std"), dict):
        told["cross_validation"] = {
            name: f"{_short(mean)} ± {_short(folds['std'].get(name))}" for name, mean in folds["mean"].items()
        }
    for name in ("scores", "validation"):
        if isinstance(told.get(name), dict):
            told[name] = {key: _short(value) for key, value in told[name].items()}
    return told


def _short(value: Any) -> Any:
    return f"{value:.5g}" if isinstance(value, float) else value


def _print_fact(name: str, value: Any, indent: str = "") -> None:
    """Print a value in one line; a dictionary, or several sentences, in a line each below their name."""
    name = printable(str(name))
    if isinstance(value, dict):
        print(f"{indent}{name}:")
        for inner, what in value.items():
            _print_fact(inner, what, indent + "  ")
    elif name == "notes" and isinstance(value, list) and value:
        print(f"{indent}{name}:", *(printable(str(note)) for note in value), sep=f"\n{indent}  ")
    elif isinstance(value, list):
        # a confusion matrix is shown by `xpnn evaluate`, and what the audit found stands among the notes
        if not any(isinstance(item, list | dict) for item in value):
            print(f"{indent}{name}: {', '.join(printable(str(item)) for item in value)}")
    elif value is not None:
        print(f"{indent}{name}: {printable(str(value))}")
