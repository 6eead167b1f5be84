"""One training on several processes: time by their number, what exchange and shards cost, and links that are slow.

    python benchmarks/distributed.py [--processes 2,4] [--rounds 3] [--no-links] [--quick]

Of each number of processes: xpnn over MPI (mpi4py) and over gloo (PyTorch), and PyTorch's DistributedDataParallel over
gloo on the same network, rows and rule.  All processes are on this machine, each on one thread: more of them than there
are cores say nothing about speed.  On links slowed in network namespaces (`links.py`, as root) latency and rate are
fitted, and a *model* made from them is compared with what was measured for 2 and 4 processes; what it says of more is
labelled so, and was not run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import begin, parser, reason, write
from links import Link, objection, slow_links

SIZES, BATCH_SIZE, SHARDS, EVERY = [784, 256, 128, 10], 2048, 16, 8
NAMES = {"mpi": "xpnn, MPI", "torch": "xpnn, gloo", "ddp": "torch DDP, gloo", "alone": "xpnn, one process"}
LINKS = {
    "1 Gbit/s, 0.1 ms": Link(125e6, 1e-4),
    "100 Mbit/s, 1 ms": Link(12.5e6, 1e-3),
    "1 Gbit/s, 5 ms": Link(125e6, 5e-3),
}
MORE = (8, 64, 1024)
TIMEOUT = 200.0


# -- what each process runs ---------------------------------------------------------------------------------------
def rows(steps: int, batch_size: int) -> tuple[Any, Any]:
    import numpy as np

    rng = np.random.default_rng(0)
    n = batch_size * steps
    return rng.normal(size=(n, SIZES[0])).astype("float32"), rng.integers(0, SIZES[-1], n)


@contextlib.contextmanager
def timed_exchanges() -> Iterator[list[float]]:
    """Note the seconds of each exchange of a tree."""
    from xpnn.distributed import Tree

    spent: list[float] = []
    exchange = Tree.exchange

    def timed(self: Any, *args: Any) -> Any:
        began = time.perf_counter()
        try:
            return exchange(self, *args)
        finally:
            spent.append(time.perf_counter() - began)

    Tree.exchange = timed
    try:
        yield spent
    finally:
        Tree.exchange = exchange


def of_xpnn(group: Any, steps: int, epochs: int, batch_size: int = BATCH_SIZE, **options: Any) -> dict[str, Any]:
    """Seconds of a step in each epoch, those of exchanges, and which share of its time each rank waits.

    Who comes last to an exchange waits for nobody, so the least of all ranks is what moving and adding took.
    """
    import numpy as np

    import xpnn

    X, y = rows(steps, batch_size)
    trainer = xpnn.Trainer(xpnn.mlp(SIZES), xpnn.CrossEntropy(), xpnn.Adam(1e-3), metrics=())
    if "shards" in options:
        options["group"] = group
    with timed_exchanges() as spent:
        trainer.fit(X, y, epochs=epochs + 1, batch_size=batch_size, **options)
    seconds = trainer.history["seconds"][1:]
    found = {"steps": [one / steps for one in seconds], "loss": trainer.history["loss"][-1]}
    if spent:
        own = spent[len(spent) // (epochs + 1) :]
        each = np.asarray(group.share(own))
        least = each.min(axis=0)
        found["exchange"] = float(np.median(least))
        found["waiting"] = ((each - least).sum(axis=1) / sum(seconds)).tolist()
        found["exchanges"] = len(own) / (epochs * steps)
    return found


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
    X, y = (torch.from_numpy(array) for array in rows(steps, BATCH_SIZE))
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
    return {"steps": times[1:]}


def of_link(group: Any) -> list[tuple[int, float]]:
    """Bytes, and the median seconds for so many to another process while as many come."""
    import numpy as np

    found = []
    for n in (1, 1 << 10, 1 << 14, 1 << 16, 1 << 18):
        sent, came, times = np.ones(n, np.float32), np.empty(n, np.float32), []
        for _ in range(15):
            began = time.perf_counter()
            group.sendrecv(sent, group.rank ^ 1, came, group.rank ^ 1)
            times.append(time.perf_counter() - began)
        found.append((4 * n, statistics.median(max(one) for one in zip(*group.share(times), strict=True))))
    return found


def serve(engine: str, parts: list[str], steps: int, epochs: int) -> None:
    """Measure as one of the processes; rank 0 prints what was found."""
    from xpnn.distributed import Alone, mpi, sockets, torch

    group = {"mpi": mpi, "torch": torch, "alone": Alone, "sockets": sockets}[engine]()
    found: dict[str, Any] = {}
    for part in parts:
        group.barrier()
        if part == "xpnn":
            found[part] = of_xpnn(group, steps, epochs, shards=SHARDS)
        elif part == "ddp":
            try:
                found[part] = of_ddp(group, steps, epochs)
            except ImportError as error:
                found[part] = {"missing": reason(error)}
        elif part == "link":
            found[part] = of_link(group)
        elif part == "local":
            found[part] = of_xpnn(group, steps, epochs, shards=SHARDS, sync_every=EVERY)
        else:  # "whole" or a number of shards, and a batch size
            shards, size = part.split("/")
            options = {} if shards == "whole" else {"shards": int(shards)}
            found[part] = of_xpnn(group, steps * (BATCH_SIZE // int(size)) // 2 or 4, epochs, int(size), **options)
    if group.rank == 0:
        print("\n" + json.dumps(found), flush=True)


# -- starting them ------------------------------------------------------------------------------------------------
ONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
if importlib.util.find_spec("numba") is not None:
    ONE["XPNN_COMPILED"] = "1"  # as in a fit long enough to repay their loading: those here are short


def answer(done: list[tuple[int, str, str]]) -> dict[str, Any]:
    """Return what rank 0 has printed, or why it has not."""
    for _, out, _ in done:
        lines = [line for line in out.splitlines() if line.startswith("{")]
        if lines and not any(status for status, _, _ in done):
            found: dict[str, Any] = json.loads(lines[-1])
            return found
    said = [line for _, out, err in done for line in (err or out).strip().splitlines()]
    return {"missing": said[-1][:200] if said else f"exit status {done[0][0]}"}


def measured(engine: str, processes: int, parts: list[str], steps: int, epochs: int) -> dict[str, Any]:
    """Start processes on this machine, and return what they found, or why there are none."""
    from xpnn.distributed import command

    own = [__file__, "--serve", engine, ",".join(parts), str(steps), str(epochs)]
    if engine == "torch":
        run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *own]
    elif engine == "mpi":
        run = command(processes, own, "benchmark")
        if "torch.distributed.run" in run:
            return {"missing": "mpi4py, or mpiexec, is not installed"}
    else:
        run = [sys.executable, *own]
    try:
        done = subprocess.run(run, capture_output=True, text=True, timeout=TIMEOUT, env=os.environ | ONE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"missing": reason(error)}
    return answer([(done.returncode, done.stdout, done.stderr)])


def measured_on(
    link: Link, engine: str, processes: int, parts: list[str], steps: int, epochs: int, port: int
) -> dict[str, Any]:
    """Start a process in each of some namespaces with a slow link between, and return what they found."""
    own = [sys.executable, __file__, "--serve", engine, ",".join(parts), str(steps), str(epochs)]
    with slow_links(processes, link) as places, contextlib.ExitStack() as stack:
        running = []
        for rank, (words, _) in enumerate(places):
            where = {"RANK": str(rank), "WORLD_SIZE": str(processes), "MASTER_ADDR": places[0][1]}
            where |= {"MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": words[-1]}
            pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            running.append(subprocess.Popen([*words, *own], env=os.environ | ONE | where, **pipes))
            stack.callback(running[-1].kill)
        try:
            done = [(*one.communicate(timeout=TIMEOUT), one.returncode) for one in running]
        except subprocess.TimeoutExpired as error:
            return {"missing": reason(error)}
    return answer([(status, out, err) for out, err, status in done])


# -- the model ----------------------------------------------------------------------------------------------------
def fitted(points: list[tuple[int, float]]) -> tuple[float, float]:
    """Latency in seconds and rate in bytes a second of a link, by least squares of relative errors."""
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    x = sum(w * n for w, (n, _) in zip(weights, points, strict=True)) / total
    y = sum(w * s for w, (_, s) in zip(weights, points, strict=True)) / total
    over = sum(w * (n - x) * (s - y) for w, (n, s) in zip(weights, points, strict=True))
    slope = over / sum(w * (n - x) ** 2 for w, (n, _) in zip(weights, points, strict=True))
    return max(y - slope * x, 0.0), 1 / slope


def exchange_time(processes: int, size: float, latency: float, rate: float) -> float:
    """Seconds of an exchange of so many bytes as `Tree` makes it: one message each, or halves there and back."""
    if processes == 2:
        return latency + size / rate
    return 2 * math.log2(processes) * latency + 2 * size * (processes - 1) / processes / rate


def numbers_of(*, local: bool = False) -> int:
    """Bytes of a vector that travels: gradients, or with local SGD also the two moments of Adam."""
    return 4 * sum(a * b + b for a, b in itertools.pairwise(SIZES)) * (3 if local else 1)


def modelled(alone: float, latency: float, rate: float) -> dict[str, dict[str, float]]:
    """Efficiency of P processes, each with as many rows as one has here: a model, nothing that was run."""
    exchanges = {p: exchange_time(p, numbers_of(), latency, rate) for p in MORE}
    seldom = {p: exchange_time(p, numbers_of(local=True), latency, rate) / EVERY for p in MORE}
    return {
        "every step": {str(p): alone / (alone + exchanges[p]) for p in MORE},
        f"sync_every={EVERY}": {str(p): alone / (alone + seldom[p]) for p in MORE},
    }


# -- what is found ------------------------------------------------------------------------------------------------
def summed_up(name: str, found: dict[str, list[dict[str, Any]]], missing: dict[str, str]) -> dict[str, Any]:
    """Return a table of competitors: of each the results of some rounds; the first is what others are compared with."""
    table: dict[str, dict[str, Any]] = {}
    for who, rounds in found.items():
        each = [statistics.median(one["steps"]) for one in rounds]
        steps = [step for one in rounds for step in one["steps"]]
        row = {"us": statistics.median(steps) * 1e6, "us_min": min(steps) * 1e6, "rounds": len(rounds)}
        reference = next(iter(found.values()))
        pairs = zip(each, (statistics.median(one["steps"]) for one in reference), strict=False)
        row["ratio"] = statistics.median(own / other for own, other in pairs)
        if "loss" in rounds[0]:
            row["loss"] = rounds[0]["loss"]  # the same bits for any number of processes
        if "exchange" in rounds[0]:
            row["exchange_us"] = statistics.median(one["exchange"] for one in rounds) * 1e6
            row["bytes_us"] = statistics.median(one["ideal"] for one in rounds) * 1e6
            shares = zip(*(one["waiting"] for one in rounds), strict=True)
            row["waiting"] = [statistics.median(share) for share in shares]
        table[who] = row
    return {"problem": name, "unit": "µs/step", "rows": table, "missing": missing}


def shown(problem: dict[str, Any]) -> None:
    print(f"\n{problem['problem']} ({problem['unit']})")
    for name, row in problem["rows"].items():
        more = ""
        if "waiting" in row:
            more = (
                f"   exchange {row['exchange_us']:.0f} µs, its bytes {row['bytes_us']:.0f} µs, waiting by rank "
                + ", ".join(f"{share:.0%}" for share in row["waiting"])
            )
        print(f"  {name:<34}{row['us']:>12.1f}{row['us_min']:>12.1f}{row['ratio']:>8.2f}{more}")
    for name, why in problem["missing"].items():
        print(f"  {name:<34} skipped: {why}")
    sys.stdout.flush()


def of_shards(steps: int, epochs: int, rounds: int) -> list[dict[str, Any]]:
    """What cutting batches into shards costs one process."""
    problems = []
    for size in (128, BATCH_SIZE):
        parts = [f"{shards}/{size}" for shards in ("whole", "1", "4", "16")]
        every = [measured("alone", 1, parts, steps, epochs) for _ in range(rounds)]
        good = [one for one in every if "missing" not in one]
        missing = {} if good else {"xpnn": every[0]["missing"]}
        names = ["whole batches", "1 shard", "4 shards", "16 shards"]
        found = {name: [one[part] for one in good] for name, part in zip(names, parts, strict=True)} if good else {}
        problems.append(summed_up(f"Cost of shards, one process, batch {size}", found, missing))
    return problems


def of_processes(processes: int, steps: int, epochs: int, rounds: int) -> dict[str, Any]:
    """Time by the number of processes; engines take turns."""
    found: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    plan = {"mpi": ["link", "xpnn"], "torch": ["link", "xpnn", "ddp"]} if processes > 1 else {"alone": ["xpnn", "ddp"]}
    for _ in range(rounds):
        for engine, parts in plan.items():
            got = measured(engine, processes, parts, steps, epochs)
            for part in [part for part in parts if part != "link"]:
                name = NAMES[engine if part == "xpnn" else part]
                one = got if "missing" in got else got[part]
                if "missing" in one:
                    missing[name] = one["missing"]
                else:
                    found.setdefault(name, []).append(one)
                    if "exchange" in one:
                        one["ideal"] = exchange_time(processes, numbers_of(), *fitted(got["link"]))
    size = f"{'-'.join(map(str, SIZES))}, batch {BATCH_SIZE}, {SHARDS} shards"
    return summed_up(f"{size}, {processes} process" + "es" * (processes > 1), found, missing)


def of_links(alone: float, steps: int, epochs: int, *, quick: bool) -> dict[str, Any]:
    """Exchanges on slow links, and what a model fitted to them says of more processes."""
    why = objection()
    if why is not None:
        print(f"\nno slow links: {why}")
        return {"missing": why}
    found: dict[str, Any] = {"rows": BATCH_SIZE, "vector_bytes": numbers_of(), "alone_us": alone * 1e6, "links": {}}
    for number, (name, link) in enumerate(LINKS.items()):
        port = 29600 + 10 * number
        two = measured_on(link, "sockets", 2, ["link", "xpnn", "local"], steps, epochs, port)
        four = {"missing": "quick"} if quick else measured_on(link, "sockets", 4, ["xpnn"], steps, epochs, port + 1)
        peer = measured_on(link, "torch", 2, ["xpnn", "ddp"], steps, epochs, port + 2)
        for answered in (two, four, peer):
            if "missing" in answered:
                print(f"{name}: {answered['missing']}")
        if "missing" in two:
            continue
        latency, rate = fitted(two["link"])
        own: dict[str, Any] = {"latency": latency, "rate": rate, "points": two["link"], "measured": {}}
        for processes, got in ((2, two), (4, four)):
            if "missing" not in got:
                said = exchange_time(processes, numbers_of(), latency, rate)
                own["measured"][str(processes)] = {"exchange": got["xpnn"]["exchange"], "model": said}
        kinds = {"xpnn, TCP": two["xpnn"], f"xpnn, TCP, sync_every={EVERY}": two["local"]}
        if "missing" not in peer:
            kinds |= {NAMES["torch"]: peer["xpnn"]}
            if "missing" not in peer["ddp"]:
                kinds |= {NAMES["ddp"]: peer["ddp"]}
        own["steps_us"] = {kind: statistics.median(one["steps"]) * 1e6 for kind, one in kinds.items()}
        own["model"] = modelled(alone, latency, rate)
        found["links"][name] = own
        tell(name, own)
        if quick:
            break
    return found


def tell(name: str, link: dict[str, Any]) -> None:
    print(f"\n{name}: fitted {link['latency'] * 1e3:.2f} ms, {link['rate'] / 1e6:.1f} MB/s")
    for processes, one in link["measured"].items():
        print(f"  {processes} processes: exchange {one['exchange'] * 1e3:.2f} ms, model {one['model'] * 1e3:.2f} ms")
    for kind, us in link["steps_us"].items():
        print(f"  {kind:<34}{us:>12.1f} µs/step, 2 processes")
    for how, shares in link["model"].items():
        said = ", ".join(f"{p}: {share:.0%}" for p, share in shares.items())
        print(f"  model, not run: efficiency, exchanging {how}: {said}", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2], sys.argv[3].split(","), int(sys.argv[4]), int(sys.argv[5]))
        return
    options = parser(__doc__, seconds=10.0)
    options.set_defaults(threads=os.cpu_count() or 1)  # cores, for all processes together: each is on one thread
    options.add_argument("--processes", default="2,4", help="how many, by commas, beside one (%(default)s)")
    options.add_argument("--rounds", type=int, default=3, help="how often engines take turns (%(default)s)")
    options.add_argument("--no-links", action="store_true", help="leave slow links out")
    options.add_argument("--links-only", action="store_true", help="measure slow links anew, and add them to the file")
    args = options.parse_args()
    path, results = begin("distributed", args)
    if args.links_only:
        now, results = results, json.loads(Path(path).read_text(encoding="utf-8"))
        alone = results["problems"][2]["rows"][NAMES["alone"]]["us"] * 1e-6
        results["slow links"] = of_links(alone, EVERY, 2, quick=args.quick)
        results["slow links"] |= {"date": now["date"], "commit": now["commit"]}
        write(Path(path), results)
        return
    steps, epochs, rounds = (2, 1, 1) if args.quick else (16, max(3, round(args.seconds)), args.rounds)
    found = of_shards(steps, 1 if args.quick else 3, rounds)
    for problem in found:
        shown(problem)
    alone = None
    for processes in sorted({1, *map(int, filter(None, args.processes.split(",")))}):
        problem = of_processes(processes, steps, epochs, min(rounds, 1 if processes > 2 else rounds))
        shown(problem)
        found.append(problem)
        alone = alone or next((row["us"] * 1e-6 for row in problem["rows"].values()), None)
        results["problems"] = found
        write(Path(path), results)
    if not args.no_links and alone is not None:
        results["slow links"] = of_links(alone, *((2, 1) if args.quick else (EVERY, 2)), quick=args.quick)
    write(Path(path), results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
