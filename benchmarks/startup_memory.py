"""Time of `import xpnn` over `import numpy`, and the peak memory of a training run beside what its arrays hold.

    python benchmarks/startup_memory.py

Every import and every run has a fresh process of its own.  Memory is the kernel's count of resident pages at their
highest (VmHWM), less what was resident with the data in memory and the libraries loaded, before the network was made.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from harness import PROJECT, begin, interleave, parser, show, summary, write

# The script runs itself with one of these instead of options.
IMPORTS = {
    "numpy": "import numpy",
    "xpnn": "import numpy, xpnn",
    "scikit-learn": "import numpy, sklearn.neural_network",
    "torch": "import numpy, torch",
    "jax": "import numpy, jax.numpy",
}
RUNS = [([784, 256, 128, 10], 128, 60_000), ([784, 256, 128, 10], 1024, 60_000), ([784, 2048, 2048, 10], 1024, 8192)]
QUICK = [([784, 256, 128, 10], 128, 2048)]
TRAIN = """
import json, sys
import numpy as np
import xpnn

def resident(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024

sizes, batch_size, n = json.loads(sys.argv[1])
rng = np.random.default_rng(0)
X = np.empty((n, sizes[0]), np.float32)
rng.random(out=X, dtype=np.float32)
y = rng.integers(0, sizes[-1], n)
small = xpnn.Trainer(xpnn.mlp([2, 2]), xpnn.CrossEntropy(), xpnn.Adam())  # loads what is loaded on first use
small.fit(np.zeros((4, 2), np.float32), np.zeros(4, np.int64), epochs=1)
xpnn.mlp([256, 256]).predict(np.zeros((256, 256), np.float32))  # so does BLAS with its buffers
before = resident("VmRSS")
net = xpnn.mlp(sizes, seed=0)
xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam()).fit(X, y, epochs=2, batch_size=batch_size)
print(json.dumps({"extra": resident("VmHWM") - before, "data": X.nbytes + y.nbytes, "n_params": net.n_params}))
"""
MIB = 1 << 20


def child(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter, in the project's folder, with the threads of this process."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=PROJECT, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def imports(only: list[str], repeats: int) -> dict[str, Any]:
    """Wall time of whole processes that import one library, all in turns; ratios are to xpnn's process."""
    turns: dict[str, Callable[[], float]] = {}
    missing: dict[str, str] = {}
    for name, code in IMPORTS.items():
        if name not in ("numpy", "xpnn") and not any(part in name for part in only):
            continue
        if importlib.util.find_spec(code.split()[-1].partition(".")[0]) is None:
            missing[name] = "not installed"
            continue
        try:
            child(code)  # fills the caches of byte code and files

            def turn(code: str = code) -> float:
                began = time.perf_counter()
                child(code)
                return time.perf_counter() - began

            turns[name] = turn
        except RuntimeError as error:
            missing[name] = str(error)
    times = interleave(turns, 0.0, least=repeats, most=repeats)
    rows = summary(times, "xpnn")
    over = summary({k: [a - b for a, b in zip(t, times["numpy"], strict=True)] for k, t in times.items()}, "xpnn")
    for name, row in rows.items():
        row["over_numpy_us"] = over[name]["us"]
    return {"problem": "import in a fresh process", "unit": "µs/process", "rows": rows, "missing": missing}


def memory(sizes: list[int], batch_size: int, n: int) -> dict[str, Any]:
    """Peak memory of a run over what was there before, beside the bytes of its arrays."""
    found = json.loads(child(TRAIN, json.dumps([sizes, batch_size, n])))
    parameters = 4 * found["n_params"]
    state = 2 * parameters  # both moments of Adam
    activations = 4 * batch_size * sum(sizes)  # a batch, and what each Linear makes of it
    return {
        "problem": f"{'-'.join(map(str, sizes))}, batch {batch_size}, {n:,} rows",
        "data_mib": round(found["data"] / MIB, 2),
        "parameters_mib": round(parameters / MIB, 2),
        "state_mib": round(state / MIB, 2),
        "activations_mib": round(activations / MIB, 2),
        "peak_over_data_mib": round(found["extra"] / MIB, 2),
        "ratio": round(found["extra"] / (parameters + state + activations), 2),
    }


def main() -> None:
    args = parser(__doc__, seconds=0.0).parse_args()
    path, results = begin("startup_memory", args)
    results["problems"].append(imports(args.only.split(","), 2 if args.quick else 15))
    show(results["problems"][-1])
    print("\nmedian over numpy's process, ms: ", end="")
    print(
        ", ".join(f"{name} {row['over_numpy_us'] / 1e3:.1f}" for name, row in results["problems"][-1]["rows"].items())
    )
    write(path, results)
    results["memory"] = []
    for run in QUICK if args.quick else RUNS:
        try:
            results["memory"].append(memory(*run))
        except RuntimeError as error:
            results["memory_missing"] = f"needs /proc/self/status, as on Linux: {error}"
            print(f"memory skipped: {results['memory_missing']}")
            break
        row = results["memory"][-1]
        print(f"{row['problem']}: " + ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in row.items() if k != "problem"))
        write(path, results)
    write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
