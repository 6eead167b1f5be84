"""The scripts of ci/ as modules, and what the examples end with."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

from places import PROJECT


def load_tool(name: str):
    """Import a script of ci/."""
    spec = importlib.util.spec_from_file_location(name, PROJECT / "ci" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def form_of_finding(script: Path) -> re.Pattern[str]:
    """What an example ends with: the text of its last print before the one that tells what was written.

    Numbers, and whatever else is computed, may be anything.  A text in lower case goes on from the one above.
    """
    prints = []
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            text = node.args[0] if node.args else ast.Constant("")
            parts = text.values if isinstance(text, ast.JoinedStr) else [text]
            form = "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)
            words = sum(len(part.value) for part in parts if isinstance(part, ast.Constant))
            prints.append((node.lineno, form, words))
    prints.sort()
    last = max(k for k, (_, form, _) in enumerate(prints) if form.startswith(re.escape("wrote ")))
    _, form, words = prints[last - 1]
    for _, above, more in reversed(prints[: last - 1]):
        if not form[0].islower():
            break
        form, words = f"{above} {form}", words + more
    assert words >= 25, f"{script.name} ends with {form!r}, which is no sentence"
    return re.compile(form)
