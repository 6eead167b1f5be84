"""What a release is made of, as far as the tree tells it; ci/release.sh builds one and installs it."""

from __future__ import annotations

import re
import tomllib

import pytest
from places import PROJECT
from tools import load_tool

import xpnn

ABOUT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
SDIST = ABOUT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]


def test_the_version_stands_in_one_place():
    assert "version" in ABOUT["project"]["dynamic"]
    assert "version" not in ABOUT["project"]
    assert ABOUT["tool"]["hatch"]["version"] == {"path": "xpnn/__init__.py"}
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+|\.dev\d+)?", xpnn.__version__)
    assert (PROJECT / "xpnn" / "__init__.py").read_text(encoding="utf-8").count(f'"{xpnn.__version__}"') == 1


def test_the_wheel_holds_the_package_alone():
    assert ABOUT["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["xpnn"]}
    found = [p for p in (PROJECT / "xpnn").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    assert sorted(found) == sorted(load_tool("release_check").packaged()), "a file that no release is known to need"


def test_the_sdist_holds_what_the_tests_read():
    assert [name for name in SDIST if not (PROJECT / name).exists()] == []
    tops = {"xpnn", "tests", "docs", "examples", "benchmarks", "ci", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"}
    assert tops | {"LICENSE", "Makefile"} <= set(SDIST)


def test_what_is_said_of_the_project_is_there():
    project = ABOUT["project"]
    for name in (project["readme"], *project["license-files"], "xpnn/py.typed"):
        assert (PROJECT / name).is_file(), name
    assert "Typing :: Typed" in project["classifiers"]
    oldest = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {oldest}" in project["classifiers"]
    assert ABOUT["tool"]["mypy"]["python_version"] == oldest


@pytest.mark.parametrize("extra", ABOUT["project"]["optional-dependencies"])
def test_extras_name_extras_that_are_there(extra):
    extras = ABOUT["project"]["optional-dependencies"]
    for need in extras[extra]:
        for inner in re.findall(r"^xpnn\[(.*)\]$", need):
            assert set(inner.split(",")) <= extras.keys() - {extra}
