"""Make the notebooks of examples/notebooks and of examples/sliders from the scripts of the same names.

The scripts hold cells in jupytext's percent format.  The cell that runs an example from the command line is left out;
the one that runs it in a notebook is the last.  Those of examples/sliders are notebooks alone, with sliders.

Run: python ci/make_notebooks.py
"""

from pathlib import Path

import jupytext
import nbformat

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LESSONS = ("xor", "backprop_by_hand", "initialization", "optimizers_valley", "mnist")
SLIDERS = ("activation", "descent", "first_weights", "neuron", "overfitting", "two_layer_net", "width")


def notebook(script: Path) -> str:
    """Return the notebook of a script as the text of its file: no outputs, the same bytes each time."""
    book = jupytext.read(script, fmt="py:percent")
    book.cells = [cell for cell in book.cells if "active-py" not in cell.metadata.get("tags", ())]
    for number, cell in enumerate(book.cells):
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
