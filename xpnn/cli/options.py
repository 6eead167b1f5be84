"""Options that several commands share, and the kinds of values they take."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from ..arguments import printable
from ..data.csv import MISSING

__all__ = [
    "above_zero",
    "add_backend",
    "add_columns",
    "add_json",
    "add_network",
    "add_number",
    "add_resume",
    "add_table",
    "add_target",
    "add_task",
    "at_least_zero",
    "bins",
    "dayfirst_of",
    "finite",
    "in_options",
    "print_json",
    "several",
    "share",
    "sizes",
    "whole",
]


# -- values -----------------------------------------------------------------------------------------------------
_Number = TypeVar("_Number", int, float)


def _refuse(expected: str, text: str) -> NoReturn:
    raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")


def _number(text: str, kind: type[_Number], expected: str, fits: Callable[[_Number], bool]) -> _Number:
    with contextlib.suppress(ValueError):  # not a number at all
        value = kind(text)
        if fits(value):
            return value
    _refuse(expected, text)


def sizes(text: str) -> list[int]:
    """Read ``256,128`` (or an empty string, no hidden layer)."""
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        _refuse("widths such as 256,128", text)
    if any(v < 1 for v in values):
        _refuse("positive widths", text)
    return values


def whole(text: str) -> int:
    """Read a whole number of at least 1."""
    return _number(text, int, "a whole number of at least 1", lambda v: v >= 1)


def several(text: str) -> int:
    """Read a whole number of at least 2."""
    return _number(text, int, "a whole number of at least 2", lambda v: v >= 2)


def share(text: str) -> float:
    """Read a share in [0, 1)."""
    return _number(text, float, "a share of at least 0 and below 1", lambda v: 0 <= v < 1)


def above_zero(text: str) -> float:
    """Read a number above 0."""
    return _number(text, float, "a number above 0", lambda v: 0 < v < math.inf)


def at_least_zero(text: str) -> float:
    """Read a number of at least 0."""
    return _number(text, float, "a number of at least 0", lambda v: 0 <= v < math.inf)


def bins(text: str) -> int | str:
    """Read ``auto``, 0 or a number of bins."""
    return text if text == "auto" else _number(text, int, "auto, 0 for none, or at least 2", lambda v: v == 0 or v >= 2)


# -- groups of options ------------------------------------------------------------------------------------------
# What stands for a value in the help, unless the option says it.
_METAVARS: dict[Callable[[str], Any], str] = {
    **dict.fromkeys((int, whole, several, bins), "N"),
    **dict.fromkeys((above_zero, at_least_zero), "X"),
    share: "P",
    sizes: "N,N",
}


def add_number(
    parser: Any, name: str, kind: Callable[[str], Any], text: str, *, default: Any = None, metavar: str | None = None
) -> None:
    """Add an option that takes a number, or several, and `text` as its help."""
    parser.add_argument(name, type=kind, default=default, metavar=metavar or _METAVARS[kind], help=text)


def add_backend(parser: Any, dtype_default: str = "float32") -> None:
    """Add --backend and --dtype."""
    parser.add_argument(
        "--backend",
        default="numpy",
        metavar="NAME",
        help="numpy (default), cupy, cupy:1, torch, torch:cuda, strict, or auto: a GPU if one can be used",
    )
    parser.add_argument(
        "--dtype",
        metavar="NAME",
        help=f"float32, float64, or bfloat16 or float16 for the products; default {dtype_default}",
    )


class _Targets(argparse.Action):
    """Keeps each column that is named: one as it is, several as a list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        known = getattr(namespace, self.dest)
        named = [] if known is None else [known] if isinstance(known, str) else known
        if values in named:
            raise argparse.ArgumentError(self, f"expected each column once, got {values!r} twice")
        setattr(namespace, self.dest, [*named, values] if named else values)


def add_target(parser: Any, text: str) -> None:
    """Add --target, which may be given several times."""
    parser.add_argument("--target", metavar="COLUMN", action=_Targets, help=text)


def add_task(parser: Any) -> None:
    """Add --task."""
    kinds = ["auto", "classification", "regression"]
    parser.add_argument("--task", choices=kinds, default="auto", help="default auto: told from the target")


def add_columns(parser: argparse.ArgumentParser, drop: str) -> Any:
    """Add what says how columns are to be read, in a group of its own; return the group."""
    group = parser.add_argument_group("columns of a table")
    group.add_argument("--drop", metavar="COLUMNS", help=f"{drop}, with commas; '\"size, cm\",x' where a name has one")
    group.add_argument("--categorical", metavar="COLUMNS", help="columns of numbers that are categories")
    group.add_argument("--numeric", metavar="COLUMNS", help="columns that are numbers: any text in them is an error")
    text = "decimal mark of numbers that leave it open, such as 1,234; default told from each column"
    group.add_argument("--decimal", choices=[".", ","], help=text)
    text = "whether 1/2/2020 is the first of February; default told from each column, where it leaves no doubt"
    group.add_argument("--dayfirst", choices=["yes", "no"], help=text)
    return group


def dayfirst_of(args: argparse.Namespace) -> bool | None:
    """Return what --dayfirst says; runs from before it had no such option."""
    answer = getattr(args, "dayfirst", None)
    return None if answer is None else answer == "yes"


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout instead of tables")


def add_network(parser: argparse.ArgumentParser, hidden: str, activation: str, dropout: str) -> None:
    """Add the options that describe a network; the strings tell the defaults."""
    group = parser.add_argument_group("network")
    add_number(group, "--hidden", sizes, f"widths of the hidden layers, '' for none; default {hidden}")
    group.add_argument(
        "--activation", metavar="NAME", help=f"relu, tanh, gelu, selu, silu, mish, …; default {activation}"
    )
    group.add_argument(
        "--norm",
        choices=["none", "batch", "layer", "rms"],
        default="none",
        help="normalization before each activation; default none",
    )
    add_number(group, "--dropout", share, f"share of units dropped after each hidden layer; default {dropout}")
    group.add_argument(
        "--residual", action="store_true", help="a skip around each hidden layer as wide as what comes before it"
    )
    group.add_argument(
        "--init",
        default="auto",
        metavar="NAME",
        help="he_normal, xavier_uniform, lecun_normal, orthogonal, …; default auto, to suit the activation",
    )


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Add --resume and --checkpoint-seconds."""
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on where a run in the folder was interrupted or killed, as if it had not been; with the options that "
        "it began with, or with its folder in place of SOURCE; default: no",
    )
    text = "seconds between two copies of everything that --resume needs; default 30"
    add_number(parser, "--checkpoint-seconds", above_zero, text, default=30.0, metavar="S")


def add_table(parser: argparse.ArgumentParser, *, labels: bool = True, trained: bool = False) -> None:
    """Add the options of reading a table; a trained model brings defaults of its own."""
    group = parser.add_argument_group("reading a table")
    delimiter = "as in training" if trained else "told from the file"
    words = "as in training" if trained else ",".join(word for word in MISSING if word)
    group.add_argument(
        "--header",
        choices=["auto", "yes", "no"],
        help=f"whether the first row names the columns; default {'as in training' if trained else 'auto'}",
    )
    group.add_argument("--delimiter", metavar="CHAR", help=f"one character, or auto; default {delimiter}")
    group.add_argument(
        "--missing",
        metavar="WORDS",
        help=f"cells that mean no value, as an empty cell always does, with commas; default {words}",
    )
    coding = "as in training" if trained else "UTF-8, or UTF-16 or UTF-32 where its first bytes say so"
    group.add_argument(
        "--encoding", metavar="NAME", help=f"of text, such as cp1252 (Windows) or latin-1; default {coding}"
    )
    text = f"leave out lines that begin with this; default {'as in training' if trained else 'none'}"
    group.add_argument("--comment", metavar="CHAR", help=text)
    sheet = "as in training" if trained else "the first"
    group.add_argument("--sheet", metavar="NAME", help=f"of a workbook (.xlsx); default {sheet}")
    if labels:
        group.add_argument("--strip-target", metavar="ENDING", help="ending to take off every label, such as '.'")


# Where an error arose is told by the option or the file; functions of the library are not what somebody typed.
_FUNCTIONS = re.compile(
    r"^(?:load_csv|load_table|load_arrays|load_mnist|open_memmap|read_idx|load|export|graph|to_onnx|to_c|fit|predict"
    r"|drift|audit|mlp|compare_baselines|collect_evidence|write_comparison|save_figure|permutation_importance"
    r"|(?:TableEncoder|Predictor)(?:\.\w+)?): "
)

# The library speaks Python; here the same is said with options.
_SPELLINGS = (
    ("load_csv: expected the target to be a column", "--target: expected a column"),
    ("load_csv: expected the name of an encoding", "--encoding: expected the name of an encoding"),
    ("load_csv: expected a delimiter of", "--delimiter: expected"),
    ("load_csv: expected a comment of", "--comment: expected"),
    ("load_table: expected a sheet of", "--sheet: expected a sheet of"),
    ("get_backend: expected dtype", "--dtype: expected"),
    ("get_backend: expected", "--backend: expected"),
    ("get_initializer: expected", "--init: expected"),
    ("first; xpnn.data.TableEncoder imputes.", "first."),
    ("labels are learned by a classifier.", "labels are learned with --task classification."),
    ("Pass header=False", "Pass --header no"),
    ("pass header=False", "pass --header no"),
    ("add it to missing=(...)", "name it with --missing"),
    ("take it out of missing=(...)", "name the others with --missing"),
    ("or pass encoding='cp1252' if", "or pass --encoding cp1252 if"),
    ("sheet= names another", "--sheet names another"),
    ("say that it is numeric", "name it with --numeric"),
    ("say that it is categorical", "name it with --categorical"),
    (
        "Pass x_key=... and y_key=... to name them (y_key=None for inputs alone).",
        "Name the inputs X; --target names the targets, y by default.",
    ),
    ("Pass download=True, or fetch", "Leave out --no-download, or fetch"),
    ("Pass another data_dir, or set XPNN_DATA", "Pass another --data-dir, or set XPNN_DATA"),
    ("pass other mirrors", "try again later"),
    ("or clip_norm=1.", "or --clip-norm 1."),
    ("got shards=", "got --shards "),
    ("Try shards=", "Try --shards "),
    ("a learning rate ten times smaller than", "a --lr ten times smaller than"),
    ("audit: expected columns in categorical,", "--categorical: expected column names,"),
    ("audit: expected columns in numeric,", "--numeric: expected column names,"),
    ("get_score: expected", "--metric: expected"),
    ("predict_interval: expected", "--interval: expected"),
    ("Use predict_proba.", "Use --proba."),
    ("Train with xpnn.tabular.TabularRegressor and a validation_fraction above 0.", "Use xpnn train --preset good."),
    ("Remove these rows or fill them in.", "Fill them in, or leave these rows out (--drop-missing-target)."),
    ("write_card: expected", "--card: expected"),
    ("Name another file, or remove this one.", "Name another with --out, or remove this one."),
    ("Try preset='quick', ensemble=1,", "Try --preset quick, --ensemble 1,"),
    ("Try preset='quick',", "Try --preset quick,"),
    ("Try ensemble=1,", "Try --ensemble 1,"),
    ("fewer rows, smaller hidden layers.", "fewer rows, smaller hidden layers (--hidden)."),
    ("Train again, or set predictor.schema = InputSchema.of(predictor.encoder, rows).", "Train again."),
    ("one of categorical= and numeric=", "one of --categorical and --numeric"),
    ("a quantity needs the regression task", "a quantity needs --task regression"),
)


def in_options(message: str) -> str:
    """Word a message of the library for somebody at the command line, in one line."""
    for python, option in _SPELLINGS:
        message = message.replace(python, option)
    message = _FUNCTIONS.sub("", re.sub("^activation: ", "--activation: ", message))
    return printable(" ".join(message.split("\n")))


# -- output -----------------------------------------------------------------------------------------------------
def print_json(value: Any) -> None:
    """Print a JSON object."""
    print(json.dumps(finite(value), indent=1, allow_nan=False))


def finite(value: Any) -> Any:
    """Return plain values with None for numbers that JSON does not know: NaN and infinity."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
