"""Large tables: peak memory and time, of a table from file to answers, and of an array that is trained on.

    python benchmarks/large.py [--rows 1500000] [--array 2000]
    python benchmarks/large.py --resume --stop-after 100     # in pieces, again and again until nothing is left
    python benchmarks/large.py --rows 20000000 --array 0 --own --label 20M
    git worktree add ../before c48ee36
    python benchmarks/large.py --rows 150000 --against ../before --label epoch

The table is made here: 12 columns of numbers, one of three words, and a target that is a function of them.  Every run
has a process of its own; memory is the kernel's count of resident pages at their highest (VmHWM), all that is loaded
included.  Of arrays it is what came on top of what was there before, as a share of the array.  What is found is
written after each run.  With --against another checkout of this project trains on the same table, in turns with this
one: an epoch of each is timed, with compiled loops and without.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import PROJECT, begin, commit, interleave, parser, show, summary, write

MIB = 1 << 20
COLUMNS, WORDS, CHUNK = 12, ("red", "green", "blue"), 100_000
WIDTH = 1000  # columns of the array

MEASURED = """
import json, sys, time

def resident(name="VmHWM"):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

began = time.perf_counter()
"""
TOLD = """
print("\\n" + json.dumps({"seconds": time.perf_counter() - began, "peak": resident()}))
"""

#: What scikit-learn and PyTorch are given of the table: numbers standardized, words one-hot, 15 inputs.
PEERS = """
import pandas, numpy as np
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder, StandardScaler
frame = pandas.read_csv(sys.argv[1])
y = frame.pop("target")
numbers = [name for name in frame if name != "colour"]
encoder = make_column_transformer((StandardScaler(), numbers), (OneHotEncoder(sparse_output=False), ["colour"]))
"""
TRAIN = "from xpnn.cli import main; main(['train', *sys.argv[1:], '--preset', '{}'])"
#: From a file to answers, each in a process of its own.
TABLE = {
    "pandas reads": "import pandas; pandas.read_csv(sys.argv[1])",
    "xpnn reads": "import xpnn; xpnn.data.load_csv(sys.argv[1], target='target')",
    "xpnn train --preset none": TRAIN.format("none"),
    "xpnn reads, parquet": "import xpnn; xpnn.data.load_table(sys.argv[1], target='target')",
    "xpnn train --preset none, parquet": TRAIN.format("none"),
    "xpnn predict": "from xpnn.cli import main; main(['predict', sys.argv[-1], sys.argv[1], '--out', '/dev/null'])",
    **{f"xpnn train --preset {name}": TRAIN.format(name) for name in ("quick", "good", "best")},
    "pandas and scikit-learn": PEERS
    + """
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
network = MLPRegressor(hidden_layer_sizes=(256, 128), max_iter=1, batch_size=256)
make_pipeline(encoder, network).fit(frame, y / y.std())
""",
    "pandas and torch": PEERS
    + """
import torch
rows = torch.from_numpy(encoder.fit_transform(frame).astype("float32"))
targets = torch.from_numpy((y / y.std()).to_numpy("float32"))
del frame
layer, relu = torch.nn.Linear, torch.nn.ReLU
net = torch.nn.Sequential(layer(rows.shape[1], 256), relu(), layer(256, 128), relu(), layer(128, 1))
rule = torch.optim.Adam(net.parameters())
for part in torch.randperm(len(rows)).split(256):
    rule.zero_grad()
    torch.nn.functional.mse_loss(net(rows[part])[:, 0], targets[part]).backward()
    rule.step()
""",
}
#: The array is there; the libraries are loaded and have trained on little of it.
ARRAY = """
import numpy as np
shape = json.loads(sys.argv[1])
X = np.random.default_rng(0).random(shape)
X = np.asfortranarray(X) if sys.argv[2] == "F" else X
y = X[:, 0] + X[:, 1]
fit, predict = make(shape[1])
fit(X[:256].copy(), y[:256])
predict(X[:256].copy())
found = {}
for name, call in (("fit", lambda: fit(X, y)), ("predict", lambda: predict(X))):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the highest count begins anew
    before, at = resident("VmRSS"), time.perf_counter()
    call()
    found[name] = {"seconds": time.perf_counter() - at, "more": (resident() - before) / X.nbytes}
print("\\n" + json.dumps(found))
"""
MAKERS = {
    "xpnn.Trainer": """
def make(width):
    import xpnn
    trainer = xpnn.Trainer(xpnn.mlp([width, 8, 1]), xpnn.MeanSquaredError(), xpnn.Adam(), metrics=())
    return lambda X, y: trainer.fit(X, y[:, None], epochs=1, batch_size=256), trainer.predict
""",
    "xpnn.estimators": """
def make(width):
    from xpnn.estimators import MLPRegressor
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=1, batch_size=256)
    return model.fit, model.predict
""",
    "xpnn.data.Standardizer": """
def make(width):
    import xpnn
    scaler = xpnn.data.Standardizer()
    return lambda X, y: scaler.fit(X), scaler.transform
""",
    "scikit-learn": """
def make(width):
    from sklearn.neural_network import MLPRegressor
    model = MLPRegressor(hidden_layer_sizes=(8,), max_iter=1, batch_size=256)
    return model.fit, model.predict
""",
    "torch": """
def make(width):
    import torch
    net = torch.nn.Sequential(torch.nn.Linear(width, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    rule = torch.optim.Adam(net.parameters())
    def fit(X, y):
        rows, targets = torch.from_numpy(X.astype("float32")), torch.from_numpy(y.astype("float32"))
        for part in torch.randperm(len(rows)).split(256):
            rule.zero_grad()
            torch.nn.functional.mse_loss(net(rows[part])[:, 0], targets[part]).backward()
            rule.step()
    def predict(X):
        with torch.no_grad():
            return net(torch.from_numpy(X.astype("float32"))).numpy()
    return fit, predict
""",
}


#: The same table as another file, a block at a time.
PARQUET = """
import sys
from pyarrow import csv, parquet
blocks = csv.open_csv(sys.argv[1])
with parquet.ParquetWriter(sys.argv[2], blocks.schema) as file:
    for block in blocks:
        file.write_batch(block)
print("null")
"""
#: An epoch of the network that the command line made before there were presets: the second, when all is loaded.
EPOCH = """
import contextlib, csv, io, json, os, sys
from xpnn.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main(["train", *sys.argv[1:], "--quiet"])
with open(os.path.join(sys.argv[sys.argv.index("--out") + 1], "history.csv")) as file:
    last = list(csv.DictReader(file))[-1]
print(json.dumps({"seconds": float(last["seconds"]), "loss": float(last["loss"])}))
"""
ASKED = ("--target", "target", "--bins", "64", "--batch-size", "256", "--epochs", "2")


def table_of(path: Path, rows: int) -> None:
    """Write the table, a chunk at a time."""
    weights = np.random.default_rng(7).normal(size=COLUMNS)
    rng = np.random.default_rng(0)
    line = ",".join(["%.6f"] * COLUMNS) + ",%s,%.6f\n"
    with path.open("w") as file:
        file.write(",".join([f"n{k}" for k in range(COLUMNS)] + ["colour", "target"]) + "\n")
        for start in range(0, rows, CHUNK):
            n = min(CHUNK, rows - start)
            x, word = rng.normal(size=(n, COLUMNS)), rng.integers(0, len(WORDS), n)
            y = np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2] + x[:, 3] ** 2 + 0.3 * (x @ weights)
            y += np.array([0.0, 1.0, -1.0])[word] + 0.1 * rng.normal(size=n)
            cells = zip(x.tolist(), word.tolist(), y.tolist(), strict=True)
            file.writelines(line % (*numbers, WORDS[k], target) for numbers, k, target in cells)


def child(code: str, *arguments: str, project: Path = PROJECT, **environment: str) -> Any:
    """Run code in a process of its own, and return what it printed last, from JSON."""
    place = {**os.environ, **environment, "PYTHONPATH": str(project)}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=project, env=place, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(folder: Path, rows: int, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Yield time and peak memory of each way of the table that is wanted."""
    out = folder / "run"
    for name, code in TABLE.items():
        if not wanted(name):
            continue
        file = folder / ("table.parquet" if "parquet" in name else "table.csv")
        if not (folder / "table.csv").is_file():
            table_of(folder / "table.csv", rows)
        arguments = [str(file)]
        if "train" in name:
            arguments += ["--target", "target", "--epochs", "1", "--quiet", "--out", str(out)]
        if "predict" in name:
            arguments.append(str(out / "model.safetensors"))
        try:
            if not file.is_file():
                child(PARQUET, str(folder / "table.csv"), str(file))
            found = child(MEASURED + code + TOLD, *arguments)
        except RuntimeError as error:
            yield {"what": name, "missing": str(error)}
            continue
        yield {"what": name, "seconds": round(found["seconds"], 1), "peak_mib": round(found["peak"] / MIB)}


def array(mib: int, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    """Yield time and memory of a fit on an array of so many MiB, rows in order or columns."""
    shape = [max(mib * MIB // (8 * WIDTH), 1), WIDTH]
    for order in "CF":
        for name, maker in MAKERS.items():
            if not wanted(f"{name}, {order}"):
                continue
            row: dict[str, Any] = {"what": f"{name}, {order}"}
            try:
                found = child(MEASURED + maker + ARRAY, json.dumps(shape), order)
            except RuntimeError as error:
                yield row | {"missing": str(error)}
                continue
            for call, result in found.items():
                row[f"{call}_seconds"], row[f"{call}_memory"] = round(result["seconds"], 2), round(result["more"], 2)
            yield row


@contextlib.contextmanager
def others(count: int) -> Iterator[None]:
    """Let so many processes count beside what is done within."""
    made = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in made:
            process.kill()
            process.wait()


def epochs(folder: Path, rows: int, before: Path, rounds: int, beside: int = 0) -> dict[str, Any]:
    """Return the time of an epoch by this code and by that of another checkout, with compiled loops and without."""
    file = folder / "epochs.csv"
    table_of(file, rows)
    losses: dict[str, float] = {}

    def turn(name: str, project: Path, compiled: str, *more: str) -> Callable[[], float]:
        def seconds() -> float:
            asked = [str(file), *more, *ASKED, "--out", str(folder / "epoch")]
            found = child(EPOCH, *asked, project=project, XPNN_COMPILED=compiled)
            losses[name] = found["loss"]
            return float(found["seconds"])

        return seconds

    turns: dict[str, Callable[[], float]] = {}
    for name, compiled in (("", "0"), (" with numba", "1")):
        turns[f"xpnn{name}"] = turn(f"xpnn{name}", PROJECT, compiled, "--preset", "none")
        turns[f"before{name}"] = turn(f"before{name}", before, compiled)
    for name in ("xpnn with numba", "before with numba"):
        turns[name]()  # loops of a new folder are compiled once
    with others(beside):
        times = interleave(turns, 0, least=rounds, most=rounds)
    if not all(math.isclose(loss, losses["xpnn"], rel_tol=1e-3) for loss in losses.values()):
        raise ValueError(f"large: expected one loss of all after two epochs, got {losses}.")
    shown: dict[str, Any] = {}
    for name in ("", " with numba"):
        shown |= summary({who: times[who] for who in (f"xpnn{name}", f"before{name}")}, f"xpnn{name}")
    return {
        "problem": f"an epoch of a table of {rows:,} rows{', others beside: ' + str(beside) if beside else ''}",
        "unit": "µs/epoch",
        "against": commit(before),
        "rows": shown,
        "loss": losses["xpnn"],
        "missing": {},
    }


def main() -> None:
    options = parser(__doc__, seconds=0.0)
    options.add_argument("--rows", type=int, default=1_500_000, help="rows of the table (%(default)s; 0: no table)")
    options.add_argument("--array", type=int, default=2000, help="MiB of the array (%(default)s; 0: no array)")
    options.add_argument("--own", action="store_true", help="the table without other networks and presets beside it")
    options.add_argument("--resume", action="store_true", help="go on with what is in the file of results")
    options.add_argument("--stop-after", type=float, default=float("inf"), help="seconds after which no run begins")
    options.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="only an epoch, in turns with another version of xpnn"
    )
    options.add_argument("--beside", type=int, default=0, help="other processes that count meanwhile (%(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="of the epochs (%(default)s)")
    options.add_argument("--folder", type=Path, help="where table and model are kept for the next piece")
    args = options.parse_args()
    began = time.perf_counter()
    path, results = begin("large", args)
    rows, mib = (20_000, 8) if args.quick else (args.rows, args.array)
    results |= {"rows": rows, "array_mib": mib, "table": [], "arrays": []}
    if args.resume and path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))
    done = {row["what"] for row in (*results["table"], *results["arrays"])}

    def wanted(name: str) -> bool:
        """Whether a run is left, and time for it."""
        beside = args.own and ("pandas and" in name or ("--preset" in name and "none" not in name))
        asked = any(part in name for part in args.only.split(","))
        return asked and not beside and name not in done and time.perf_counter() - began < args.stop_after

    with contextlib.ExitStack() as stack:
        folder = args.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if args.against:
            results["problems"].append(epochs(folder, rows, args.against.resolve(), args.rounds, args.beside))
            show(results["problems"][0])
            write(path, results)
            return
        for row in table(folder, rows, wanted) if rows else ():
            results["table"].append(row)
            print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
            write(path, results)
    for row in array(mib, wanted) if mib else ():
        results["arrays"].append(row)
        print(", ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
