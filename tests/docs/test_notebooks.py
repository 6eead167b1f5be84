"""The notebooks are what jupytext makes of the scripts, and run in a kernel."""

from __future__ import annotations

import json
import re

import pytest
from places import PROJECT
from tools import load_tool

NOTEBOOKS = PROJECT / "examples" / "notebooks"
LESSONS = ("backprop_by_hand", "initialization", "mnist", "optimizers_valley", "xor")


def test_there_is_a_notebook_for_each_lesson():
    assert sorted(path.name for path in NOTEBOOKS.iterdir()) == [f"{name}.ipynb" for name in LESSONS]


@pytest.mark.parametrize("name", LESSONS)
def test_notebook_is_made_from_the_script(name):
    pytest.importorskip("jupytext", reason="needs jupytext: pip install 'xpnn[test]'")
    made = load_tool("make_notebooks").notebook(PROJECT / "examples" / f"{name}.py")
    path = NOTEBOOKS / f"{name}.ipynb"
    assert path.read_text(encoding="utf-8") == made, "run python ci/make_notebooks.py"


@pytest.mark.parametrize("name", LESSONS)
def test_notebook_tells_a_story_and_holds_no_output(name):
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= 4
    assert "".join(cells[0]["source"]).startswith("# ")
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    last = "".join(code[-1]["source"]).splitlines()
    assert [re.sub(r"  # .+", "  #", line) for line in last] == [
        "%matplotlib inline",
        'backend = "numpy"  #',
        "quick = False  #",
        f'out = "runs/{name}"  #',
        "main(backend, quick, out)",
    ]


@pytest.mark.parametrize("name", LESSONS)
def test_notebook_is_to_be_changed_and_has_no_command_line(name):
    text = (NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8")
    for word in ("argparse", "argv", "parser", "args.", "--backend", "--quick", "__main__"):
        assert word not in text, word
    before = "".join(json.loads(text)["cells"][-2]["source"])
    assert before.startswith("## Change something\n")
    assert before.count("\n- ") == 3


@pytest.mark.parametrize("name", LESSONS)
def test_notebook_runs(name, tmp_path, monkeypatch, request):
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat: pip install 'xpnn[test]'")
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient: pip install 'xpnn[test]'")
    pytest.importorskip("ipykernel", reason="needs ipykernel: pip install 'xpnn[test]'")
    if name == "mnist":
        monkeypatch.setenv("XPNN_DATA", str(request.getfixturevalue("mnist_dir")))
    for variable in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / variable.lower()))  # no file outside of the test's folder
    book = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    book.cells[-1].source = book.cells[-1].source.replace("quick = False", "quick = True")
    nbclient.NotebookClient(
        book, timeout=80, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    outputs = book.cells[-1].outputs
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs), "the figure is not shown"
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    assert "wrote runs" in printed
    assert (tmp_path / "runs" / name / f"{name}.png").stat().st_size > 10_000
