"""Time and peak memory of reading a CSV file, beside pandas, polars and pyarrow.

    python benchmarks/reading.py
    python benchmarks/reading.py --rows 8000000 --threads 2             # a file of 1 GB
    python benchmarks/reading.py --resume --stop-after 60 --folder DIR   # in pieces, until nothing is left

Every read has a fresh process of its own, with its library loaded and the file in the cache of the system.  Times are
the clock's and the processor's, which the load of a machine moves less; memory is the highest of the process, libraries
included.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from harness import PROJECT, begin, parser, write

READ = {
    "xpnn": ("from xpnn.data import load_csv", "load_csv(path)"),
    "xpnn without numba": (
        "import os; os.environ['XPNN_COMPILED'] = '0'; from xpnn.data import load_csv",
        "load_csv(path)",
    ),
    "pandas": ("import pandas", "pandas.read_csv(path)"),
    "polars": ("import polars", "polars.read_csv(path)"),
    "pyarrow": ("from pyarrow import csv", "csv.read_csv(path)"),
}
PROGRAM = """
import json, resource, sys, time
path = sys.argv[1]
{imports}
began, worked = time.perf_counter(), time.process_time()
table = {read}
seconds, worked = time.perf_counter() - began, time.process_time() - worked
print(json.dumps([seconds, worked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""
KINDS = ("decimals", "floats", "mixed")
BLOCK = 50_000


def lines(kind: str, rng: np.random.Generator, rows: int) -> list[str]:
    """Rows of text: 12 numbers and a word; numbers with all digits; numbers, gaps, words in quotes, an identifier."""
    x = rng.normal(size=(rows, 12))
    words = rng.choice(["red", "green", "blue"], rows).tolist()
    if kind == "decimals":
        texts = [",".join(f"{v:.6f}" for v in row) for row in x.tolist()]
        return [f"{text},{word}\n" for text, word in zip(texts, words, strict=True)]
    if kind == "floats":
        return [",".join(map(repr, row)) + "\n" for row in x.tolist()]
    flags = (rng.random(rows) < 0.5).tolist()
    return [
        f'{k},user-{k:08d},{row[0]:.3f},{int(1000 * row[1]) if k % 7 else ""},{flag},"{word}, or not",{row[2]:.2f}\n'
        for k, (row, word, flag) in enumerate(zip(x.tolist(), words, flags, strict=True))
    ]


def make(path: Path, kind: str, rows: int) -> None:
    """Write a table of so many rows."""
    rng = np.random.default_rng(0)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, rows, BLOCK):
            some = lines(kind, rng, min(BLOCK, rows - start))
            if not start:
                file.write(",".join(f"c{k}" for k in range(some[0].count(",") + 1 - (kind == "mixed"))) + "\n")
            file.writelines(some)


def measure(name: str, path: Path) -> list[float]:
    """Read a file in a fresh process: seconds, seconds of processors, and the most memory in MB."""
    imports, read = READ[name]
    code = PROGRAM.format(imports=imports, read=read)
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: list[float] = json.loads(done.stdout)
    return found


def compared(kind: str, rows: int, rounds: int, names: list[str], folder: Path) -> dict[str, Any]:
    """Read a file of one kind with each library in turn; the least of all rounds is reported."""
    path = folder / f"{kind}-{rows}.csv"
    if not path.is_file():
        make(path, kind, rows)
    result: dict[str, Any] = {
        "problem": kind,
        "rows_of_file": rows,
        "mb": round(path.stat().st_size / 1e6, 1),
        "rows": {},
    }
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in list(found):
            try:
                found[name].append(measure(name, path))
            except RuntimeError as error:
                result.setdefault("missing", {})[name] = str(error)
                del found[name]
    for name, measured in found.items():
        least = [min(each) for each in zip(*measured, strict=True)]
        row = dict(zip(("seconds", "processor_seconds", "peak_mb"), (round(value, 3) for value in least), strict=True))
        result["rows"][name] = row
        print(f"{kind}, {result['mb']} MB: {name} " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items()))
    return result


def main() -> None:
    options = parser(__doc__, seconds=0.0)
    options.add_argument("--rows", type=int, default=1_500_000, help="of the table of decimals; others have a third")
    options.add_argument("--resume", action="store_true", help="go on with what is in the file of results")
    options.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which no file is begun")
    options.add_argument("--folder", type=Path, help="where files are, or are made, and kept")
    args = options.parse_args()
    began = time.perf_counter()
    path, results = begin("reading", args)
    if args.resume and path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    rows, rounds = (3000, 1) if args.quick else (args.rows, 3)
    names = [name for name in READ if any(part in name for part in args.only.split(","))]
    done = {problem["problem"] for problem in results["problems"]}
    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for kind in KINDS:
            if args.problem in kind and kind not in done and time.perf_counter() - began < args.stop_after:
                size = rows if kind == "decimals" else rows // 3
                results["problems"].append(compared(kind, size, rounds, names, folder))
                write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
