"""``xpnn export``: a trained model as a file that other programs read."""

from __future__ import annotations

import argparse
from typing import Any

from ..arguments import printable
from ..errors import OptionError
from ..predictor import load_predictor
from .options import add_json, print_json

__all__ = ["add_commands"]

#: Options that name a file to write, and the methods of a model that write it.
_FORMATS = {"onnx": "to_onnx", "c": "to_c", "python": "to_python"}


def add_commands(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        usage="xpnn export MODEL --onnx FILE | --c FILE | --python FILE",
        help="write a saved model as a file that other programs read",
        description="Write a saved model, from raw columns to its answers, as one file in another format, and compare "
        "what that file answers with what the model does. Nothing is written where they differ.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder or file from xpnn train, or from save() of a model")
    parser.add_argument("--onnx", metavar="FILE", help="ONNX, which runs nearly everywhere by onnxruntime")
    parser.add_argument("--c", metavar="FILE", help="a C99 header that needs nothing else")
    parser.add_argument("--python", metavar="FILE", help="a Python file that needs NumPy alone")
    text = "write C and Python without running them: where there is no C compiler, or the check takes too long"
    parser.add_argument("--no-check", action="store_true", help=text)
    add_json(parser)
    parser.set_defaults(run=run_export)


def run_export(args: argparse.Namespace) -> int:
    """Write the files that were asked for, and print how each was checked."""
    asked = {name: getattr(args, name) for name in _FORMATS if getattr(args, name) is not None}
    if not asked:
        raise OptionError("expected a format and a file, got none. Add --onnx FILE, --c FILE or --python FILE.")
    if args.no_check and "onnx" in asked:
        raise OptionError("--no-check: expected C or Python alone, got --onnx, which is always checked. Leave one out.")
    predictor = load_predictor(args.model)
    options = {"check": False} if args.no_check else {}
    checks = {name: getattr(predictor, _FORMATS[name])(path, **options) for name, path in asked.items()}
    if args.json:
        found = {name: {} if check is None else check.to_dict() for name, check in checks.items()}
        print_json({name: {"file": asked[name], "checked": bool(check), **check} for name, check in found.items()})
        return 0
    for name, check in checks.items():
        print(f"wrote {printable(str(asked[name]))}")
        print("not checked" if check is None else check)
    return 0
