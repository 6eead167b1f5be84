"""The package's source as trees, and who imports whom."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import xpnn

ROOT = Path(xpnn.__file__).parent
FILES = {
    ".".join(("xpnn", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
#: Which imports: all of them, those that run in some program, or those that run when the module is imported.
When = Literal["ever", "run", "imported"]


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(FILES[module].read_text(encoding="utf-8"))


def is_typing_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node: ast.AST, when: When) -> Iterator[ast.Import | ast.ImportFrom]:
    """Walk to the imports."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        elif not (when == "imported" and isinstance(child, ast.FunctionDef)) and (
            when == "ever" or not is_typing_only(child)
        ):
            yield from imports(child, when)


def inner_imports(module: str, when: When = "ever") -> list[tuple[str, str]]:
    """All modules of xpnn that a module imports, with the name it takes from each."""
    package = module if FILES[module].name == "__init__.py" else module.rpartition(".")[0]
    found = []
    for node in imports(tree(module), when):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "xpnn"]
            continue
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        source = ".".join([*above, *([node.module] if node.module else [])])
        if source.partition(".")[0] != "xpnn":
            continue
        for alias in node.names:
            whole = f"{source}.{alias.name}"
            found.append((whole, "") if whole in FILES else (source, alias.name))
    return found
