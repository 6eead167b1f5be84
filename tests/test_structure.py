"""The house stays one that a stranger would live in: sizes, privacy, circles.  Exceptions are named, with reasons."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from source import FILES, inner_imports, tree

FILE_LINES, FUNCTION_LINES = 450, 60  # of code and comments, docstrings not counted

#: Files and functions that may be longer, with the reason.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {}
#: Private attributes of others: of named tuples, NumPy and Python, what scikit-learn asks of a meta-estimator, what
#: PyTorch calls around a module's `forward`, and where Keras says what a tensor was made of.
FOREIGN = {"_asdict", "_exit", "_replace", "_fields", "_NoValue", "_getframe", "_init_callback_context"}
FOREIGN |= {"_forward_hooks", "_forward_pre_hooks", "_keras_history", "_inbound_nodes"}
#: Imports of xpnn's own modules within functions.
LATE = {
    "xpnn.checkpoint: from . import __version__": "the package imports its modules before it knows its version",
}

each_module = pytest.mark.parametrize("module", FILES)


def docstring_lines(node: ast.AST) -> set[int]:
    """The lines of all docstrings within."""
    found: set[int] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(inner, clean=False):
            found |= set(range(inner.body[0].lineno, inner.body[0].end_lineno + 1))
    return found


def functions(node: ast.AST, above: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    """All functions, by their qualified names."""
    for child in ast.iter_child_nodes(node):
        name = f"{above}.{child.name}" if isinstance(child, ast.ClassDef | ast.FunctionDef) else above
        if isinstance(child, ast.FunctionDef):
            yield name, child
        yield from functions(child, name)


def length(node: ast.FunctionDef) -> int:
    return node.end_lineno - node.lineno + 1 - len(docstring_lines(node))


# -- sizes ---------------------------------------------------------------------------------------------------------
def test_no_file_is_too_long():
    lines = {m: len(path.read_text(encoding="utf-8").splitlines()) for m, path in FILES.items()}
    long = {m: n - len(docstring_lines(tree(m))) for m, n in lines.items()}
    assert {m: n for m, n in long.items() if n > FILE_LINES and m not in LONG_FILES} == {}
    assert [m for m in LONG_FILES if long.get(m, 0) <= FILE_LINES] == [], "no longer an exception"


def test_no_function_is_too_long():
    long = {f"{m}{name}": length(f) for m in FILES for name, f in functions(tree(m)) if length(f) > FUNCTION_LINES}
    assert {name: n for name, n in long.items() if name not in LONG_FUNCTIONS} == {}
    assert LONG_FUNCTIONS.keys() - long.keys() == set(), "no longer an exception"


# -- privacy -------------------------------------------------------------------------------------------------------
def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@each_module
def test_no_private_name_is_imported(module):
    """Modules whose names begin so, such as `xpnn._typing`, are private to the package; their names are not."""
    taken = [f"{name} from {source}" for source, name in inner_imports(module) if private(name)]
    assert taken == []


@functools.cache
def defined(module: str) -> frozenset[str]:
    """The names and attributes that a module makes, and those of the classes that its own inherit from."""
    nodes = list(ast.walk(tree(module)))
    found = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.attr if isinstance(node, ast.Attribute) else node.id)
    bases = {ast.unparse(b) for node in nodes if isinstance(node, ast.ClassDef) for b in node.bases}
    for source, name in inner_imports(module):
        if name in bases:
            below = (m for m in FILES if m.startswith(f"{source}.") and name in classes(m))
            home = source if name in classes(source) else next(below, source)
            found |= defined(home)
    return frozenset(found)


@functools.cache
def classes(module: str) -> frozenset[str]:
    return frozenset(node.name for node in tree(module).body if isinstance(node, ast.ClassDef))


@each_module
def test_no_private_attribute_of_another_module_is_used(module):
    """What begins with an underscore belongs to its module, and to classes that inherit it."""
    used = {
        f"{ast.unparse(node)} in line {node.lineno}"
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in defined(module) | FOREIGN
    }
    assert used == set()


# -- circles -------------------------------------------------------------------------------------------------------
def test_no_modules_import_each_other_in_a_circle_even_within_functions():
    """Imports for types alone are left out: they run in no program."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " imports ".join((*path[path.index(module) :], module))
        if module not in done:
            for target, name in inner_imports(module, "run"):
                if target not in ("xpnn", module) and name != "__version__":
                    visit(target, (*path, module))
            done.add(module)

    for module in FILES:
        visit(module, ())


def test_imports_within_functions_are_few():
    """Of xpnn's own modules; others are imported so where they are heavy or may be missing."""
    found = {
        f"{module}: {ast.unparse(node)}"
        for module in FILES
        for _, function in functions(tree(module))
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("xpnn"))
    }
    assert found == LATE.keys()


# -- one place for each idea ------------------------------------------------------------------------------------------
#: What only these modules do; all others call them.
HOMES = {
    r"\bstep_keys\(": {"xpnn.random", "xpnn.training.step"},  # a step's numbers and keys are laid out
    r"\bblake2b\b": {"xpnn.checkpoint", "xpnn.training.state"},  # files are sealed, states compared to the bit
    r"\.unrecordable\(": {  # parts are asked whether they can be recorded, and parts add to what their base says
        *("xpnn.recordable", "xpnn.training.callbacks"),
        *("xpnn.layers.normalization", "xpnn.regularizers"),
    },
    r"set_num_threads": {"xpnn.accel.native.openblas"},  # OpenBLAS's threads are counted and set
    r"register_at_fork\(": {"xpnn.accel.native.turns"},  # what a fork must wait for, and a child forget
    r"\bfrom_address\(": {"xpnn.accel.native.inner_loops"},  # NumPy's loops are found
    r"\bstratified_indices\(": {"xpnn.data.batching", "xpnn.training.checks"},  # rows are held out
    r"(?m)^def (to_config|from_config)\(": {"xpnn.config"},  # objects become plain data, and again objects
    r"def (suggest|as_array|as_real|same_length|check_real)\(": {"xpnn.arguments"},
    r"def (cells|column_names|numbers_of|unwrapped)\(|getmaskarray": {"xpnn.frames"},  # what an array-like holds
    r"class (StepTable|Tally)\b": {"xpnn.training.step"},
    r"class (Affine|Update)\b": {"xpnn.ops"},
}


@pytest.mark.parametrize("pattern", HOMES)
def test_each_idea_has_its_place(pattern):
    found = {m for m, path in FILES.items() if re.search(pattern, path.read_text(encoding="utf-8"))}
    assert found == HOMES[pattern]


# -- writing -------------------------------------------------------------------------------------------------------
#: Calls that write to a file, by the name of the method or function.
WRITES = {"write_text", "write_bytes", "savefig", "to_csv", "dump", "save", "savez", "savetxt", "tofile"}
#: What else writes: to a buffer, through a writer of ours, or a log that grows.
NO_FILES = {
    "buffer": "memory",
    "picture": "memory",
    "History(self.rows)": "History.to_csv",
    "history": "History.to_csv",
    "trainer.history": "History.to_csv",
    "predictor": "Predictor.save",
    "rule": "Crossover.save",
    "trainer": "Trainer.save",
}


def written(module: str) -> Iterator[ast.Call]:
    """Calls that write to a file, and are not within ``with atomic_path(...)``."""

    def visit(node: ast.AST, safe: bool) -> Iterator[ast.Call]:
        if isinstance(node, ast.With):
            safe = safe or any("atomic_path(" in ast.unparse(item.context_expr) for item in node.items)
        if isinstance(node, ast.Call) and not safe and writes(node):
            yield node
        for child in ast.iter_child_nodes(node):
            yield from visit(child, safe)

    return visit(tree(module), False)


def writes(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    if name == "open":  # in which mode?
        words = [
            node.value for node in ast.walk(call) if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
        return any(re.fullmatch("[rwaxbt+]{1,3}", word) and set(word) & set("wax+") for word in words)
    if name not in WRITES or not isinstance(call.func, ast.Attribute):
        return False
    target = call.args[0] if name in ("savefig", "save") and call.args else call.func.value
    return not {ast.unparse(target), ast.unparse(call.func.value)} & NO_FILES.keys()


@each_module
def test_every_writer_leaves_a_file_whole(module):
    """All files are written through `xpnn.files.atomic_path`, which itself pours into pipes and devices."""
    if module != "xpnn.files":
        assert [f"line {call.lineno}: {ast.unparse(call)[:60]}" for call in written(module)] == []


# -- words ---------------------------------------------------------------------------------------------------------
#: Words that stood for something with a name of its own.
DIALECT = ("Frozen", "NotedKernels", "Restart", "StepRow", "_Tally", "_foreign", "_lent", "array_objection", "noting")
DIALECT += ("off_tape", "that_count", "weighty")


@each_module
def test_the_words_are_the_fields(module):
    assert re.findall(rf"\b({'|'.join(DIALECT)})\b", Path(FILES[module]).read_text(encoding="utf-8")) == []
