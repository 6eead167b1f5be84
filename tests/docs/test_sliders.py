"""The notebooks with sliders: made from their scripts, without a command line, and every slider moves."""

from __future__ import annotations

import json

import pytest
from places import PROJECT
from tools import load_tool

FOLDER = PROJECT / "examples" / "sliders"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))

# Moves each slider to its far end and back: the function must return something else there, and the same again here.
START = """
%matplotlib inline
import matplotlib

matplotlib.rcParams["figure.dpi"] = 30  # to draw is what takes longest
"""
MOVE = """
def far(control):
    if hasattr(control, "base"):
        return control.base**control.max
    return control.max if hasattr(control, "max") else control.options[-1]

for control in panel.children[:-1]:
    start, before, panel.result = control.value, panel.result, None
    control.value = far(control)
    assert panel.result not in (None, before), f"{control.description} changes nothing, or fails"
    control.value = start
    assert panel.result == before, control.description
print("moved", len(panel.children) - 1)
"""


def test_there_are_five_or_more():
    assert len(NAMES) >= 5
    assert sorted(path.name for path in FOLDER.iterdir() if path.is_file()) == sorted(
        f"{name}.{kind}" for name in NAMES for kind in ("ipynb", "py")
    )
    assert tuple(NAMES) == load_tool("make_notebooks").SLIDERS


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_made_from_the_script(name):
    pytest.importorskip("jupytext", reason="needs jupytext: pip install 'xpnn[test]'")
    made = load_tool("make_notebooks").notebook(FOLDER / f"{name}.py")
    assert (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8") == made, "run python ci/make_notebooks.py"


@pytest.mark.parametrize("name", NAMES)
def test_notebook_asks_and_has_no_command_line(name):
    text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    assert "argparse" not in text
    assert "sys.argv" not in text
    assert "interactive(" in text
    assert "".join(cells[0]["source"]).startswith("# ")
    assert "".join(cells[-1]["source"]).startswith("## Questions\n\n- ")
    assert all(not cell.get("outputs") for cell in cells)


def test_every_slider_moves(tmp_path, monkeypatch):
    """One kernel runs them all, one after the other."""
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install 'xpnn[test]'")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install 'xpnn[test]'")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'xpnn[test]'")
    pytest.importorskip("ipywidgets", reason="needs ipywidgets: pip install 'xpnn[test]'")
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))  # no file outside of the test's folder
    whole = nbformat.v4.new_notebook()
    whole.cells.append(nbformat.v4.new_code_cell(START))
    for name in NAMES:
        whole.cells += nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
        whole.cells.append(nbformat.v4.new_code_cell(MOVE))
    nbclient.NotebookClient(
        whole, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    printed = ""
    for cell in whole.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output
            printed += output.get("text", "")
    assert printed.count("moved ") == len(NAMES)
