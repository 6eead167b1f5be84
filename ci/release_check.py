"""What ci/release.sh asks of files and environments; it runs in them, so it needs nothing but Python (and xpnn).

python ci/release_check.py files WHEEL SDIST      what lies in them is what should
python ci/release_check.py readme README [--core] its python blocks run; with --core what they lack may be an extra
python ci/release_check.py times core|extras      seconds to import, as JSON
python ci/release_check.py size                   bytes of the packages of this environment
python ci/release_check.py table FOLDER BYTES EXTRA=BYTES ...   the table of docs/releasing.md
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import io
import json
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TIMES = 15
# What is imported, by the extra that brings it.
IMPORTS = {
    "core": {
        "numpy": "import numpy",
        "xpnn": "import xpnn",
        "xpnn.tabular": "import xpnn.tabular",
        "xpnn.cli": "import xpnn.cli",
    },
    "extras": {
        "sklearn": "import xpnn.estimators",
        "plots": "import xpnn.plots, matplotlib.figure",
        "report": "import xpnn.report, jinja2, matplotlib.figure",
        "fast": "import xpnn, numba",
        "files": "import xpnn, pyarrow.parquet, openpyxl",
        "onnx": "import xpnn, onnx, onnxruntime",
    },
}


def refuse(problem: str) -> None:
    raise SystemExit(f"release: {problem}")


# -- files ---------------------------------------------------------------------------------------------------------
def check_files(*paths: str) -> None:
    wheel, sdist = sorted(paths, key=lambda path: not path.endswith(".whl"))
    found = re.search(r'^__version__ = "(.*)"$', (ROOT / "xpnn" / "__init__.py").read_text(), re.MULTILINE)
    version = found[1] if found else refuse("xpnn/__init__.py says no version")
    heading = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    if heading is None or heading[1] != version:
        refuse(f"CHANGELOG.md begins with {heading and heading[1]}, not with {version}: name the version there")
    if not Path(wheel).name.startswith(f"xpnn-{version}-py3-none-any"):
        refuse(f"{wheel}: expected a pure wheel of version {version}")
    names = zipfile.ZipFile(wheel).namelist()
    here = {path.relative_to(ROOT).as_posix() for path in packaged()}
    inside = {name for name in names if not name.startswith(f"xpnn-{version}.dist-info/")}
    if inside != here:
        refuse(f"the wheel differs from the package by {sorted(inside ^ here)[:9]}")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    lacking = [
        name for name in ("tests/conftest.py", "Makefile", "LICENSE", "docs/index.md", *here) if name not in held
    ]
    if lacking:
        refuse(f"the sdist lacks {lacking[:9]}")
    print(f"{len(names)} files in the wheel, {len(held)} in the sdist, version {version}")


def packaged() -> list[Path]:
    """The files that make the package: its modules, the mark that it is typed, kernels, and the templates of pages."""
    package = ROOT / "xpnn"
    found = [*package.rglob("*.py"), package / "py.typed"]
    found += [package / "accel" / "cuda" / name for name in ("kernels.cu", "persistent.cu")]
    found += (package / "report" / "templates").iterdir()
    return [path for path in found if "__pycache__" not in path.parts]


# -- README --------------------------------------------------------------------------------------------------------
def run_readme(path: str, *options: str) -> None:
    import xpnn

    if ROOT in Path(xpnn.__file__).parents and "site-packages" not in xpnn.__file__:
        refuse(f"{xpnn.__file__} is the tree, not the wheel")
    text = Path(path).read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for k, block in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL), start=1):
            try:
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(block, f"{path}, block {k}", "exec"), names)
            except (ImportError, xpnn.errors.BackendUnavailableError) as error:
                if "--core" not in options or "xpnn[" not in str(error):
                    raise
                print(f"block {k}: needs more: {error}")
            else:
                print(f"block {k}: runs" + (f", prints {out.getvalue()[:60]!r}" if out.getvalue() else ""))


# -- sizes and times -----------------------------------------------------------------------------------------------
def seconds(statement: str) -> float:
    """The least of some imports in processes of their own, as -X importtime has it, all modules together."""
    found = []
    for _ in range(TIMES):
        ran = subprocess.run(
            [sys.executable, "-I", "-X", "importtime", "-c", statement], capture_output=True, text=True, check=True
        )
        lines = re.findall(
            r"^import time: +\d+ \| +(\d+) \| (\S+)$", ran.stderr, re.MULTILINE
        )  # not indented: outermost
        before = next(k for k, (_, name) in enumerate(lines) if name == "site")
        found.append(sum(int(microseconds) for microseconds, _ in lines[before + 1 :]) / 1e6)
    return min(found)


def print_times(which: str) -> None:
    print(json.dumps({name: seconds(statement) for name, statement in IMPORTS[which].items()}))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def print_size() -> None:
    """All packages but pip, without compiled bytecode."""
    print(
        sum(size_of(folder) for folder in packages().iterdir() if folder.is_dir() and not folder.name.startswith("pip"))
    )


def mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB" if size < 100 * 2**20 else f"{size / 2**20:.0f} MiB"


def print_table(folder: str, core: str, *extras: str) -> None:
    out = Path(folder)
    wheel, sdist = (next((out / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    core_times, extra_times = (json.loads((out / f"times-{name}.json").read_text()) for name in ("core", "extras"))
    names = ("numpy", "scikit-learn", "matplotlib", "numba", "pyarrow")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    print(f"xpnn {importlib.metadata.version('xpnn')}, {date}; Python {platform.python_version()}, {versions};")
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores.\n")
    print("| what | size | import |\n|---|---:|---:|")
    print(f"| sdist | {mib(sdist.stat().st_size)} | |\n| wheel | {mib(wheel.stat().st_size)} | |")
    installed = mib(size_of(packages() / "xpnn"))
    shown = [f"`{name}` {1e3 * spent:.0f} ms" for name, spent in core_times.items()]
    print(f"| xpnn itself, installed | {installed} | {', '.join(shown)} |")
    print(f"| core: xpnn and all that it needs | {mib(int(core))} | |")
    before = int(core)
    for name, size in (each.split("=") for each in extras):
        print(f"| + `xpnn[{name}]` | + {mib(int(size) - before)} | {1e3 * extra_times[name]:.0f} ms |")
        before = int(size)


if __name__ == "__main__":
    commands = {
        "files": check_files,
        "readme": run_readme,
        "times": print_times,
        "size": print_size,
        "table": print_table,
    }
    commands[sys.argv[1]](*sys.argv[2:])
