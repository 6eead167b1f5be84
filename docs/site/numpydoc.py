"""Docstrings as Markdown: formulas, references and names, which numpydoc writes in reStructuredText."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import textwrap
from functools import cache
from typing import Any

import griffe

# Modules whose names a docstring may mention in single backticks, nearest first.
MODULES = (
    "xpnn",
    "xpnn.data",
    "xpnn.plots",
    "xpnn.tabular",
    "xpnn.estimators",
    "xpnn.testing",
    "xpnn.search",
    "xpnn.metrics",
    "xpnn.calibration",
    "xpnn.initializers",
    "xpnn.schedules",
    "xpnn.regularizers",
    "xpnn.errors",
)
# The sections that the parser of docstrings knows. It would take others for parameters.
SECTIONS = {
    "Attributes",
    "Examples",
    "Methods",
    "Other Parameters",
    "Parameters",
    "Raises",
    "Returns",
    "Warns",
    "Yields",
}


@cache
def public_names() -> dict[str, str]:
    """Return where each public name has its entry in the reference."""
    found: dict[str, str] = {}
    for module in MODULES:
        home = importlib.import_module(module)
        for name in home.__all__:
            value, called = getattr(home, name), f"{module}.{name}"
            if not inspect.ismodule(value) and not name.startswith("_"):
                entry = f"{value.__module__}.{name}" if called in sys.modules else called
                found.setdefault(name, entry)
                found.setdefault(called, entry)
    return found


def to_markdown(text: str, own: str = "") -> str:
    """Turn the reStructuredText of a docstring into Markdown; doctests stay as they are.

    Parameters
    ----------
    text : str
        A docstring without its indentation.
    own : str
        The name of what it describes, which is not linked to itself.
    """
    text = re.sub(r":math:`([^`]*)`", lambda found: f"${' '.join(found[1].split())}$", text)
    text = re.sub(r"^( *)\.\. math::(.*(?:\n\1 +\S.*|\n(?=\n\1 +\S))*)", _display, text, flags=re.MULTILINE)
    text = re.sub(r"^( *)\.\. \[(\d+)\] ", r"\1\2. ", text, flags=re.MULTILINE)
    text = re.sub(r"\s*\[(\d+)\]_", r"<sup>[\1]</sup>", text)
    lines = [line if line.lstrip().startswith((">>>", "...")) else _linked(line, own) for line in text.split("\n")]
    return "\n".join(lines)


def _display(found: re.Match[str]) -> str:
    pad, formula = found[1], " ".join(textwrap.dedent(found[2]).split())
    return f"\n{pad}$$\n{pad}{formula}\n{pad}$$\n"


def _linked(line: str, own: str) -> str:
    names = own.split(".")

    def link(found: re.Match[str]) -> str:
        target = public_names().get(found[1], "")
        return f"[`{found[1]}`][{target}]" if target and found[1] not in names else found[0]

    return re.sub(r"(?<![`\[\w])`([\w.]+)`(?![`\]])", link, line)


def taken_apart(text: str) -> tuple[str, list[str]]:
    """Split a docstring into what the parser knows and the sections that it does not, such as the references."""
    parts = re.split(r"^([A-Z][\w ]+)\n-{3,}\n", text, flags=re.MULTILINE)
    known, others = parts[0], []
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        if title in SECTIONS:
            known += f"{title}\n{'-' * len(title)}\n{body}"
        else:
            others.append(f"**{title}**\n\n{body.strip()}\n")
    return known, others


class Numpydoc(griffe.Extension):
    """Rewrites every docstring and parses it."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of a module, class, function or attribute."""
        if obj.docstring is None:
            return
        known, others = taken_apart(to_markdown(obj.docstring.value, obj.path))
        obj.docstring.value = known
        sections = obj.docstring.parse("numpy", warn_unknown_params=False)
        # `parsed` is a cached property, which the templates read
        obj.docstring.__dict__["parsed"] = [*sections, *map(griffe.DocstringSectionText, others)]
