"""The pages tell the truth: their code runs, their links lead somewhere, their examples work."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from xpnn.cli import main

PROJECT = Path(__file__).resolve().parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])
EXAMPLES = sorted(PROJECT.glob("examples/*.py"))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def test_there_are_pages_and_examples():
    names = {page.name for page in PAGES}
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "architecture.md"} <= names
    assert len(EXAMPLES) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, capsys):
    names: dict[str, object] = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
    if page.name == "README.md":
        printed = capsys.readouterr().out
        assert float(re.search(r"'accuracy': ([\d.]+)", printed)[1]) > 0.96
        assert "excellent" in printed


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_commands_of_the_readme_exist(capsys):
    text = "\n".join(blocks(PROJECT / "README.md", "sh"))
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


@pytest.mark.parametrize("backend", ["numpy", "strict"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run(example, backend, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example), "--quick", "--backend", backend],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_examples_are_short():
    for example in EXAMPLES:
        assert len(example.read_text().splitlines()) < 120, example.name
