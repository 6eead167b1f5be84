"""Options that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

from ..data.csv import MISSING

__all__ = [
    "add_backend",
    "add_json",
    "add_network",
    "add_table",
    "floats",
    "positive",
    "print_json",
    "share",
    "sizes",
]


def sizes(text: str) -> list[int]:
    """Read ``256,128`` (or an empty string, no hidden layer)."""
    try:
        values = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected widths such as 256,128, got {text!r}") from None
    if any(v < 1 for v in values):
        raise argparse.ArgumentTypeError(f"expected positive widths, got {text!r}")
    return values


def floats(text: str) -> tuple[float, ...]:
    """Read ``0.1,0.5,0.9``."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers such as 0.1,0.5,0.9, got {text!r}") from None


def positive(text: str) -> int:
    """Read a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {value}")
    return value


def share(text: str) -> float:
    """Read a share in [0, 1)."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a share of at least 0 and below 1, got {text}")
    return value


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add --backend and --dtype."""
    parser.add_argument(
        "--backend",
        default="numpy",
        metavar="NAME",
        help="numpy (default), cupy, cupy:1, torch, torch:cuda, strict, or auto: a GPU if one can be used",
    )
    parser.add_argument("--dtype", default="float32", help="float32 (default) or float64")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")


def add_network(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a network."""
    group = parser.add_argument_group("network")
    group.add_argument("--hidden", type=sizes, metavar="N,N", help="widths of the hidden layers, such as 256,128")
    group.add_argument("--activation", metavar="NAME", help="relu, tanh, gelu, selu, silu, mish, …")
    group.add_argument("--norm", choices=["none", "batch", "layer", "rms"], default="none", help="normalization layers")
    group.add_argument("--dropout", type=share, metavar="P", help="share of units dropped after each hidden layer")
    group.add_argument("--residual", action="store_true", help="skip connections between layers of equal width")
    group.add_argument("--init", default="auto", metavar="NAME", help="he_normal, xavier_uniform, …; default auto")


def add_table(parser: argparse.ArgumentParser) -> None:
    """Add the options of reading a CSV file."""
    group = parser.add_argument_group("reading a table")
    group.add_argument(
        "--header", choices=["auto", "yes", "no"], default="auto", help="whether the first row names the columns"
    )
    group.add_argument(
        "--delimiter", default="auto", metavar="CHAR", help="one character; told from the file by default"
    )
    group.add_argument(
        "--missing", metavar="WORDS", help=f"cells that mean no value, with commas; default {','.join(MISSING)!r}"
    )
    group.add_argument(
        "--strip-target", default=None, metavar="ENDING", help="ending to take off every label, such as '.'"
    )


def print_json(value: Any) -> None:
    """Print a JSON object."""
    import json

    print(json.dumps(value, indent=1))
