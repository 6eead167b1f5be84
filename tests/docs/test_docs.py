"""The pages tell the truth: their code runs and prints what they show, their links lead somewhere, their examples work.

Every block marked ``python`` runs, the blocks of a page one after the other in one namespace. A block marked ``text``
right below it is what it prints, then its warnings, then the error that ends it (``ShapeError: ...``). White space does
not count, ``...`` stands for anything, fractions may differ by 1 %, and numbers below 1e-6 are rounding noise.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import PAGES, SERVING, alike, run, runnable
from places import PROJECT
from tools import form_of_finding, load_tool

from xpnn.cli import main

EXAMPLES = sorted(PROJECT.glob("examples/*.py"))


def name_of(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_there_are_pages_and_examples():
    names = {page.name for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "architecture.md"} <= names
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize(
    ("shown", "seen", "same"),
    [
        ("loss 0.501 at epoch 3", "loss  0.502\nat epoch 3", True),
        ("loss 0.501 at epoch 3", "loss 0.501 at epoch 4", False),
        ("loss 0.501 at epoch 3", "loss 0.551 at epoch 3", False),
        ("error 5.2e-11", "error 9.1e-12", True),
        ("error 5.2e-11", "error 9.1e-5", False),
        ("first ... last", "first in between last", True),
        ("first ... last", "first in between", False),
        ("got (3, 4).", "got (4, 3).", False),
        ("all of it", "all of it and more", False),
    ],
)
def test_comparison_of_output(shown, seen, same):
    assert alike(shown.split(), seen.split()) is same


#: Those of a page on serving are run by `tests/interop/test_serving.py`.
PARTS = [
    (page, need) for page in PAGES for need in sorted({block.needs for block in runnable(page)} - {None, *SERVING})
]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_blocks_run(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in runnable(page):
        if block.needs is None:
            run(page, block, names)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of that package, from within
@pytest.mark.parametrize(("page", "need"), PARTS, ids=lambda value: value if isinstance(value, str) else name_of(value))
def test_python_blocks_that_need_more_run(page, need, tmp_path, monkeypatch):
    pytest.importorskip(need)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in runnable(page):
        if block.needs in (None, need):
            run(page, block, names)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_is_left_out(page):
    """Indented blocks, or other spellings of the language, would not be found; those with a title are whole scripts."""
    fences = re.findall(
        r"^[ >]*(?:`{3,}|~{3,}) *\{? *\.?(?:python|py3|python3|pycon)\b.*$", page.read_text(), re.MULTILINE
    )
    scripts = [block for language, _, block in titled(page) if language == "python"]
    assert len(fences) == len(runnable(page)) + len(scripts)


def titled(page: Path) -> list[tuple[str, str, str]]:
    """Language, name and text of blocks that show a file."""
    return re.findall(r'^```(\w+) title="([\w.]+)"\n(.*?)^```', page.read_text(), re.MULTILINE | re.DOTALL)


def test_files_are_shown_as_they_are():
    """Those of `examples/distributed`, which `tests/distributed/test_page.py` runs."""
    shown = [(page.name, name) for page in PAGES for _, name, _ in titled(page)]
    files = sorted(path.name for path in PROJECT.glob("examples/distributed/*"))
    assert sorted(shown) == [("distributed.md", name) for name in files]
    for _, name, text in titled(PROJECT / "docs" / "distributed.md"):
        assert text == (PROJECT / "examples" / "distributed" / name).read_text(), name


def test_troubleshooting_shows_what_is_printed_for_each_failure():
    sections = re.split(r"^## (\d+)\. ", (PROJECT / "docs" / "troubleshooting.md").read_text(), flags=re.MULTILINE)[1:]
    assert [int(number) for number in sections[::2]] == list(range(1, 11))
    for number, text in zip(sections[::2], sections[1::2], strict=True):
        shown = re.findall(r"^```python\n.*?^```\n\n```text\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        assert any(re.match(r"\w+(?:Error|Warning)?: ", each) or "too slow" in each for each in shown), number
        assert "**What to do.**" in text, number


def test_readme_trains_and_checks(capsys):
    names: dict[str, object] = {}
    for block in blocks(PROJECT / "README.md", "python"):
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert float(re.search(r"'accuracy': ([\d.]+)", printed)[1]) > 0.96
    assert "excellent" in printed


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_files_of_the_project_that_are_named_exist(page):
    named = re.findall(r"`((?:xpnn|tests|docs|benchmarks|examples|ci)/[\w/]+\.(?:py|md|sh))`", page.read_text("utf-8"))
    assert [name for name in named if not (PROJECT / name).exists()] == []


def test_commands_of_the_pages_exist(capsys):
    text = "\n".join(block for page in PAGES for block in blocks(page, "sh"))
    commands = set(re.findall(r"^xpnn (\w+)", text, flags=re.MULTILINE))
    assert {"train", "predict", "evaluate", "gradcheck", "parity", "doctor"} <= commands
    for command in commands:
        with pytest.raises(SystemExit) as stop:
            main([command, "--help"])
        assert stop.value.code == 0
    targets = set(re.findall(r"^make (\w+)", text, flags=re.MULTILINE))
    rules = (PROJECT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", rules, flags=re.MULTILINE) for target in targets)


# Many trainings, which array-api-strict makes several times longer: there they run on request alone.
LONG_ON_STRICT = {
    "activation_borders",
    "activation_comparison",
    "dates",
    "diagnosis",
    "dropout",
    "dying_relu",
    "l2_sweep",
    "layers_and_overfitting",
    "mnist_ladder",
    "moons_widths",
    "normalization",
    "optimizer_race",
    "optimizers_valley",
    "penalties",
    "perceptron_gates",
    "regularization",
    "schedules",
    "search",
    "universal_approximation",
    "xor",
    "xor_shapes",
}


# What `xpnn.diagnose` may say of the trainings of an example, besides that it still learns where --quick has cut it
# short: these are made to go wrong. All other trainings end well, and get no alarm.
MADE_TO_GO_WRONG = {
    "activation_comparison": {"underfitting"},  # sigmoid on circles, in few epochs
    "diagnosis": {"too slow", "oscillating", "overfitting", "underfitting", "diverging"}
    | {"useless", "dead units", "vanishing gradients", "saturated units", "constant prediction"},
    "dying_relu": {"too slow", "useless", "dead units", "constant prediction", "underfitting", "oscillating"},
    "extreme_starts": {"too slow", "useless", "dead units", "constant prediction", "underfitting"},
    "gradient_clipping": {"oscillating"},  # without it
    "initialization": {"too slow", "useless", "constant prediction", "underfitting"},
    "layers_and_overfitting": {"overfitting"},
    "normalization": {"too slow", "useless", "dead units"},  # deep, without it
    "optimizer_race": {"underfitting", "useless", "vanishing gradients", "saturated units"},  # columns not scaled
    "schedules": {"oscillating"},  # a constant rate, and a large one
    "search": {"overfitting", "oscillating"},  # rates too large are tried too
}


@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, backend, tmp_path, request):
    if backend == "strict" and "XPNN_LONG_TESTS" not in os.environ:
        if example.stem in LONG_ON_STRICT:
            pytest.skip("long on array-api-strict: set XPNN_LONG_TESTS=1 to run it")
        if "XPNN_STRICT_EXAMPLES" not in os.environ:
            pytest.skip("on array-api-strict .ci/run runs it: set XPNN_STRICT_EXAMPLES=1")
    environment = dict(os.environ)
    if example.stem == "mnist":
        environment["XPNN_DATA"] = str(request.getfixturevalue("mnist_dir"))
    kept, helper = tmp_path / "diagnosed.jsonl", PROJECT / "tests" / "helpers" / "diagnosed.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(helper), str(kept), str(example), "--quick", "--backend", backend],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    gallery = load_tool("make_gallery")
    assert form_of_finding(example).fullmatch(gallery.finding(done.stdout)), "no finding at the end"
    figures = gallery.written(done.stdout)
    assert figures, "no figure"
    for figure in figures:
        assert not gallery.is_empty(tmp_path / figure), f"{figure} shows nothing"
    for line in kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []:
        epochs, found = json.loads(line)
        allowed = {"still improving"} | MADE_TO_GO_WRONG.get(example.stem, set())
        alarms = {name: seen for name, seen in found.items() if name not in allowed}
        assert not alarms, f"after {epochs} epochs"


def test_mnist_example_skips_where_there_is_none(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(PROJECT / "examples" / "mnist.py"), "--quick"],
        cwd=tmp_path,
        env={**os.environ, "XPNN_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("skipped: MNIST is neither here nor can it be fetched.")


def test_examples_are_short():
    for example in EXAMPLES:  # the text cells of those that are notebooks too do not count
        lines = [line for line in example.read_text().splitlines() if not line.startswith("#")]
        assert len(lines) < 120, example.name
