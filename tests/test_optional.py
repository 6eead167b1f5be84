"""Packages that are missing are told by one sentence, with the command that brings them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from xpnn.errors import BackendUnavailableError, MissingPackageError
from xpnn.optional import PACKAGES, needs

NET = "import xpnn; net = xpnn.mlp([2, 2]); "
COLLECTION = "type('Frame', (), {'__dask_graph__': dict, 'to_delayed': list})()"
UNBLOCK = "import __main__; __main__.BLOCKED -= {'sklearn', 'joblib'}; "
#: By the missing module: what somebody does, and the place that the message names.
USES = {
    "sklearn": ("from xpnn.estimators import MLPClassifier", "xpnn.estimators"),
    "matplotlib": ("import xpnn; xpnn.plots.plot_history(xpnn.History([{'epoch': 1, 'loss': 1.0}]))", "plot_history"),
    "safetensors": (NET + "xpnn.save(net, '/dev/null')", "save"),
    "tabulate": (NET + "net.summary()", "summary"),
    "tqdm": ("from xpnn.training.progress import open_bar; open_bar({}, 1, 0)", "ProgressBar"),
    "openpyxl": ("import sys; from xpnn.data.sheets import read_sheet; read_sheet(sys.executable)", "load_table"),
    "pyarrow": ("import sys; from xpnn.data.arrow import read_parquet; read_parquet(sys.executable)", "load_table"),
    "pooch": ("import os, xpnn; os.environ.pop('XPNN_DATA', None); xpnn.data.data_home()", "data_home"),
    "tensorboardX": ("import xpnn; xpnn.TensorBoard()", "TensorBoard"),
    "jinja2": ("from xpnn.report.page import check_requirements; check_requirements('xpnn report')", "xpnn report"),
    "ml_dtypes": ("import xpnn; xpnn.get_backend('numpy', 'bfloat16')", "get_backend"),
    "torch": ("import xpnn; xpnn.get_backend('torch')", "get_backend"),
    "cupy": ("import xpnn; xpnn.get_backend('cupy')", "get_backend"),
    "array_api_strict": ("import xpnn; xpnn.get_backend('strict')", "get_backend"),
    "numba": ("import xpnn; xpnn.get_backend('numpy', compiled=True)", "get_backend"),
    "onnx": (NET + "net.to_onnx('/dev/null')", "to_onnx"),
    "keras": ("import xpnn; xpnn.from_keras(None)", "from_keras"),
    "mpi4py": ("import xpnn; xpnn.distributed.mpi()", "distributed.mpi"),
    "joblib": ("from xpnn.jobs import over_jobs; list(over_jobs(pow, [(2, 3)] * 2, 2, 'search.run'))", "search.run"),
    "distributed": ("from xpnn.engines.pieces import client_of; client_of(None, 'dask.fit')", "dask.fit"),
    "dask": (NET + f"xpnn.distributed.dask.predict(net, {COLLECTION})", "dask.predict"),
    "pandas": (
        UNBLOCK + "from xpnn.estimators._pipeline import write_encoder; write_encoder(None, None)",
        "to_sklearn",
    ),
}
BLOCK = """
import importlib.abc, importlib.util, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None
BLOCKED = set(MODULES)
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name.partition(".")[0] in BLOCKED else find(name, *a)
sys.meta_path.insert(0, Blocked())
"""


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], env=dict(os.environ), capture_output=True, text=True)
    return done.stdout + done.stderr


def test_each_package_that_may_be_missing_is_tried():
    assert USES.keys() == PACKAGES.keys()


def test_every_missing_package_is_told_with_the_command_that_brings_it():
    """In one process for all: what is imported already with `xpnn` does not need them."""
    program = BLOCK.replace("MODULES", repr(list(USES))) + "import traceback\n"
    program += f"for name, (code, place) in {USES!r}.items():\n"
    program += "    try:\n        exec(code, {})\n        print(name, 'is not needed')\n"
    program += "    except ImportError as error:\n        print(name, '|', error)\n"
    lines = dict(line.split(" | ", 1) for line in run(program).splitlines() if " | " in line)
    assert lines.keys() == USES.keys(), run(program)
    for name, (_, place) in USES.items():
        assert lines[name].startswith(place), lines[name]
        assert "pip install" in lines[name], lines[name]


@pytest.mark.parametrize("absent", [["sklearn"], ["sklearn", "scipy", "joblib", "threadpoolctl"]])
def test_import_from_the_estimators_names_the_extra(absent):
    """As somebody meets it: the last line of a traceback; what comes with scikit-learn is missing too, mostly."""
    said = run(BLOCK.replace("MODULES", repr(absent)) + "from xpnn.estimators import MLPClassifier")
    last = said.strip().splitlines()[-1]
    assert last.endswith("xpnn.estimators: needs scikit-learn. Run: pip install 'xpnn[sklearn]'"), said


def test_what_is_missing_is_an_import_error_that_names_the_module():
    with pytest.raises(ModuleNotFoundError) as caught, needs("sklearn", "here"):
        raise ModuleNotFoundError("No module named 'sklearn.base'", name="sklearn.base")
    assert isinstance(caught.value, MissingPackageError)
    assert caught.value.name == "sklearn"


def test_a_package_that_is_there_but_broken_is_not_called_missing():
    with (
        pytest.raises(
            BackendUnavailableError, match=r"^here: needs PyTorch, whose import fails \(libcuda\.so\)\. Run: "
        ) as caught,
        needs("torch", "here"),
    ):
        raise ImportError("libcuda.so")
    assert not isinstance(caught.value, MissingPackageError)
