"""Make the notebooks of examples/notebooks and of examples/sliders from the scripts of the same names.

The scripts hold cells in jupytext's percent format.  A notebook has no command line: the options of a script become
plain variables in its last cell, which runs it, and how to run it in a shell is left out of its text.  Those of
examples/sliders are notebooks alone, with sliders.

Run: python ci/make_notebooks.py
"""

import ast
import re
from pathlib import Path

import jupytext
import nbformat

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LESSONS = ("xor", "backprop_by_hand", "initialization", "optimizers_valley", "mnist")
SLIDERS = ("activation", "descent", "first_weights", "neuron", "overfitting", "two_layer_net", "width")


def options(source: str) -> dict[str, tuple[object, str]]:
    """Return the options of a script: the default of each, and what is said of it."""
    found: dict[str, tuple[object, str]] = {}
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            given = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
            name = ast.literal_eval(call.args[0]).removeprefix("--")
            if given.get("action") == "store_true":
                found[name] = False, f"True: {given['help']}"
            else:
                found[name] = given["default"], given.get("help", "numpy, cupy, torch or strict")
    return found


def without_command_line(source: str) -> str:
    """Return the source of a cell with options as arguments of its `main`, in place of those of a command line."""
    (main,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "main")
    lines = source.splitlines()
    for node in reversed(main.body):  # from the end, so that the numbers before stay what they are
        if "parse" in ast.unparse(node).partition("(")[0]:
            del lines[node.lineno - 1 : node.end_lineno]
    lines[main.lineno - 1] = f"def main({', '.join(options(source))}):"
    return re.sub(r"\bargs\.(\w+)", r"\1", "\n".join(lines).replace('"""\n\n', '"""\n'))


def in_a_notebook(source: str, wanted: dict[str, tuple[object, str]]) -> str:
    """Return the source of a cell without what a command line alone wants."""
    if "add_argument" in source:
        return without_command_line(source)
    if source.endswith("main([])"):
        chosen = [f"{name} = {default!r}  # {said}" for name, (default, said) in wanted.items()]
        return source.replace("main([])", "\n".join([*chosen, f"main({', '.join(wanted)})"]).replace("'", '"'))
    return re.sub(r"\n\nRun: python .*", "", source.replace("import argparse\n", ""))


def notebook(script: Path) -> str:
    """Return the notebook of a script as the text of its file: no outputs, the same bytes each time."""
    book = jupytext.read(script, fmt="py:percent")
    book.cells = [cell for cell in book.cells if "active-py" not in cell.metadata.get("tags", ())]
    wanted = options(script.read_text(encoding="utf-8"))
    for number, cell in enumerate(book.cells):
        cell["source"] = in_a_notebook(cell["source"], wanted)
        cell["id"] = f"{script.stem.replace('_', '-')}-{number}"
        cell["metadata"] = {}
    book["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    nbformat.validate(book)
    return nbformat.writes(book) + "\n"


def main() -> None:
    """Write them all."""
    folder = EXAMPLES / "notebooks"
    folder.mkdir(exist_ok=True)
    pairs = [(EXAMPLES / f"{name}.py", folder / f"{name}.ipynb") for name in LESSONS]
    pairs += [(EXAMPLES / "sliders" / f"{name}.py", EXAMPLES / "sliders" / f"{name}.ipynb") for name in SLIDERS]
    for script, target in pairs:
        target.write_text(notebook(script), encoding="utf-8")
        print(f"wrote {target.relative_to(EXAMPLES.parent)}")


if __name__ == "__main__":
    main()
