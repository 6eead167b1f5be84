"""The notebooks with sliders: made from their scripts, without a command line, and every slider moves."""

from __future__ import annotations

import json

import pytest
from places import PROJECT
from tools import load_tool

FOLDER = PROJECT / "examples" / "sliders"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))


def far(control):
    """Return the value at the far end of a slider, or the last of a list."""
    if hasattr(control, "base"):
        return control.base**control.max
    return control.max if hasattr(control, "max") else control.options[-1]


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


@pytest.mark.parametrize("name", NAMES)
def test_every_slider_moves(name, monkeypatch, capsys):
    """To its far end and back: the function must return something else there, and the same again here.

    The script is run by itself, as the cells of its notebook are, without a kernel.
    """
    pytest.importorskip("ipywidgets", reason="needs ipywidgets: pip install 'xpnn[test]'")
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'xpnn[plots]'")
    monkeypatch.setitem(matplotlib.rcParams, "figure.dpi", 30)  # to draw is what takes longest
    path = FOLDER / f"{name}.py"
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    panel = names["panel"]
    panel.update()
    assert panel.result is not None
    assert len(panel.children) >= 2
    for control in panel.children[:-1]:
        start, before, panel.result = control.value, panel.result, None
        control.value = far(control)
        assert panel.result not in (None, before), f"{control.description} changes nothing, or fails"
        control.value = start
        assert panel.result == before, control.description
