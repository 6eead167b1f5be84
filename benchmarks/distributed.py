"""One training on several processes: time by their number, the exchange beside its bytes, and who waits.

    python benchmarks/distributed.py [--processes 1,2,4] [--seconds 10] [--quick]

Of each number of processes: xpnn over MPI (mpi4py) and over gloo (PyTorch), and PyTorch's DistributedDataParallel over
gloo on the same network, rows and rule; of one process also what cutting batches into shards costs.  All processes are
on this machine, each on one thread: more of them than there are cores say nothing about speed.  From the latency and
the rate that were measured a *model* says what to expect of more processes on links like these; it is labelled so.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from harness import begin, parser, reason, show, write

SIZES, BATCH_SIZE, SHARDS = [784, 256, 128, 10], 2048, 16
ENGINES = ("mpi", "torch")
TIMEOUT = 300.0


# -- what each process runs ---------------------------------------------------------------------------------------
def rows(steps: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    n = BATCH_SIZE * steps
    return rng.normal(size=(n, SIZES[0])).astype("float32"), rng.integers(0, SIZES[-1], n)


def of_xpnn(group: Any, steps: int, epochs: int, shards: int | None) -> dict[str, Any]:
    """Seconds of a step, and of it in exchanges; the least of all ranks is what moving bytes took, the rest waiting."""
    import xpnn
    from xpnn.distributed import Tree

    X, y = rows(steps)
    spent, exchange = [0.0], Tree.exchange

    def timed(self: Any, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return exchange(self, *args)
        finally:
            spent[0] += time.perf_counter() - began

    Tree.exchange = timed
    trainer = xpnn.Trainer(xpnn.mlp(SIZES), xpnn.CrossEntropy(), xpnn.Adam(1e-3), metrics=())
    options = {} if shards is None else {"shards": shards, "group": group}
    trainer.fit(X, y, epochs=1, batch_size=BATCH_SIZE, **options)  # warm up
    spent[0] = 0.0
    seconds = trainer.fit(X, y, epochs=epochs, batch_size=BATCH_SIZE, **options)["seconds"][1:]
    Tree.exchange = exchange
    each = group.share(spent[0] / (epochs * steps))
    step = statistics.median(seconds) / steps
    numbers = trainer.net.store.grads.size
    return {
        "step": step,
        "exchange": min(each),
        "waiting": [max(0.0, (one - min(each)) / step) for one in each],
        "bytes": 2 * 4 * numbers * (group.size - 1) // group.size,
        "loss": trainer.history["loss"][-1],
    }


def of_ddp(group: Any, steps: int, epochs: int) -> dict[str, Any]:
    """PyTorch's own way: each process a part of the batch, gradients averaged by all-reduce in buckets."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[Any] = []
    for a, b in itertools.pairwise(SIZES):
        layers += [torch.nn.Linear(a, b), torch.nn.ReLU()]
    model: Any = torch.nn.Sequential(*layers[:-1])
    if group.size > 1:
        model = torch.nn.parallel.DistributedDataParallel(model)
    rule, loss = torch.optim.Adam(model.parameters(), 1e-3), torch.nn.CrossEntropyLoss()
    X, y = (torch.from_numpy(array) for array in rows(steps))
    own, times = BATCH_SIZE // group.size, []
    for epoch in range(epochs + 1):
        order = torch.randperm(len(X), generator=torch.Generator().manual_seed(epoch))
        began = time.perf_counter()
        for step in range(steps):
            mine = order[step * BATCH_SIZE + group.rank * own : step * BATCH_SIZE + (group.rank + 1) * own]
            rule.zero_grad()
            loss(model(X[mine]), y[mine]).backward()
            rule.step()
        times.append((time.perf_counter() - began) / steps)
    return {"step": statistics.median(times[1:])}


def serve(engine: str, steps: int, epochs: int) -> None:
    """Measure as one of the processes; rank 0 prints what was found."""
    from xpnn.distributed import Alone, check_group, mpi, torch

    group = {"mpi": mpi, "torch": torch, "alone": Alone}[engine]()
    report = check_group(group)
    found = {"latency": report.latency, "bandwidth": report.bandwidth}
    found["xpnn"] = of_xpnn(group, steps, epochs, SHARDS)
    if engine == "alone":
        found["whole batches"] = of_xpnn(group, steps, epochs, None)
    if engine != "mpi":
        try:
            found["torch DDP"] = of_ddp(group, steps, epochs)
        except ImportError as error:
            found["torch DDP"] = {"missing": reason(error)}
    if group.rank == 0:
        print("\n" + json.dumps(found), flush=True)


# -- all of them -------------------------------------------------------------------------------------------------
def measured(engine: str, processes: int, steps: int, epochs: int) -> dict[str, Any]:
    """Start processes, and return what they found, or why there are none."""
    from xpnn.distributed import command

    own = [__file__, "--serve", engine, str(steps), str(epochs)]
    if engine == "torch":
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *own]
    elif engine == "mpi":
        run = command(processes, own, "benchmark")
        if "torch.distributed.run" in run:
            return {"missing": "mpi4py, or mpiexec, is not installed"}
    else:
        run = [sys.executable, *own]
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(run, capture_output=True, text=True, timeout=TIMEOUT, env=os.environ | one)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip().splitlines()
        return {"missing": said[-1][:200] if said else f"exit status {done.returncode}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def model(alone: float, exchanged: int, latency: float, bandwidth: float) -> dict[str, float]:
    """Efficiency of P processes, each with as many rows as one has here: a model, nothing that was run."""
    return {
        str(p): alone / (alone + 2 * math.log2(p) * latency + 2 * exchanged * (p - 1) / p / bandwidth)
        for p in (8, 64, 1024)
    }


def results_of(processes: int, steps: int, epochs: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what was found of one number of processes, by competitor, and who is missing."""
    rows_found, missing = {}, {}
    for engine in ENGINES if processes > 1 else ("alone",):
        found = measured(engine, processes, steps, epochs)
        names = {"xpnn": f"xpnn, {engine}", "whole batches": "xpnn, whole batches", "torch DDP": "torch DDP, gloo"}
        if "missing" in found:
            missing[names["xpnn"]] = found["missing"]
            continue
        for key, name in names.items():
            if "missing" in found.get(key, {}):
                missing[name] = found[key]["missing"]
            elif key in found:
                link = {"latency": found["latency"], "bandwidth": found["bandwidth"]} if key == "xpnn" else {}
                rows_found[name] = found[key] | link
    return rows_found, missing


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        return
    options = parser(__doc__, seconds=10.0)
    options.set_defaults(threads=os.cpu_count() or 1)  # cores, for all processes together: each is on one thread
    options.add_argument("--processes", default="1,2,4", help="how many, by commas (%(default)s)")
    args = options.parse_args()
    path, results = begin("distributed", args)
    steps, epochs = (2, 1) if args.quick else (16, max(3, round(args.seconds)))
    for processes in map(int, args.processes.split(",")):
        found, missing = results_of(processes, steps, epochs)
        if not found:
            print(f"{processes} processes: {missing}")
            continue
        first = next(iter(found.values()))["step"]
        table = {
            name: {"us": one["step"] * 1e6, "us_min": one["step"] * 1e6, "ratio": one["step"] / first, **one}
            for name, one in found.items()
        }
        title = f"{'-'.join(map(str, SIZES))}, batch {BATCH_SIZE}, {SHARDS} shards, {processes} processes"
        problem = {"problem": title, "unit": "µs/step", "rows": table, "missing": missing}
        for name, one in found.items():
            if one.get("bytes"):
                ideal = one["bytes"] / one["bandwidth"]
                print(f"{name}: exchange {one['exchange'] * 1e3:.2f} ms, its bytes alone {ideal * 1e3:.2f} ms; "
                      f"waiting by rank {', '.join(f'{share:.0%}' for share in one['waiting'])}")  # fmt: skip
                problem["model of efficiency"] = model(
                    one["step"] - one["exchange"], 4 * 235_146, one["latency"], one["bandwidth"]
                )
        results["problems"].append(problem)
        show(problem)
        if "model of efficiency" in problem:
            said = ", ".join(f"{p}: {share:.0%}" for p, share in problem["model of efficiency"].items())
            print(f"  model, not run: efficiency of more processes on links like these: {said}")
        write(Path(path), results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
