"""The recipes of the page on serving: each block is run, with the packages that it is about."""

from __future__ import annotations

import shutil
import signal

import pytest
from pages import SERVING, run, runnable
from places import PROJECT

PAGE = PROJECT / "docs" / "serving.md"
NEEDED = {"fastapi": ("httpx",), "dask": ("dask.dataframe",), "ray": ("ray.data",)}


@pytest.fixture(autouse=True)
def _handlers_as_they_were():
    """Ray sets handlers of signals, which other tests would meet."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def test_every_package_has_a_recipe():
    assert {block.needs for block in runnable(PAGE)} == {None, *SERVING}


@pytest.mark.filterwarnings("ignore")  # of those packages, from within
@pytest.mark.parametrize("package", SERVING)
def test_a_recipe(package, tmp_path, monkeypatch):
    for need in (package, "pandas", "onnxruntime", *NEEDED.get(package, ())):
        pytest.importorskip(need)
    if package == "pyspark" and not shutil.which("java"):
        pytest.skip("needs Java")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in runnable(PAGE):
        if block.needs in (None, package):
            run(PAGE, block, names, warned=False)  # those packages warn of themselves
