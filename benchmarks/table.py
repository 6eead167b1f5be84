"""Make docs/performance.md from the results of the benchmarks.

    python benchmarks/table.py

Every figure on the page comes from a JSON file in benchmarks/results; what was not measured is named as such.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from harness import PROJECT

# In this order on the page.
FIRST = ("training", "busy", "prediction", "replicas", "distributed", "reading", "large", "startup_memory")
HOW = """\
Made by `python benchmarks/table.py` from `benchmarks/results/`; not edited by hand.

All competitors of one table take turns in one process, in rounds, each first in its turn. A time is the median over
the rounds. The ratio to xpnn is the median over the rounds of a competitor's time by xpnn's in the same round: above 1
is slower than xpnn. Trust the ratios more than the times. *Products alone* are the matrix products of the work by
NumPy, into arrays made beforehand, and nothing else: the floor for any program that calls NumPy's products from Python.
A library with faster products of its own can go below, and for tiny matrices whoever calls them without Python, as
xpnn does with compiled loops. The threads of all libraries are pinned, the process keeps to as many cores, and each
library chooses its own kernels for the processor.

With `xpnn[fast]`, fits on NumPy that are long enough to repay a second of loading take native code by themselves, in
versions of NumPy, OpenBLAS and numba that it was tested with. `get_backend("numpy", compiled=False)` or
`XPNN_COMPILED=0` switches it off ([Backends](api/backends.md#native-code)); results are the same to the last bit.
"""
TRAINING = """\
Time of a step within an epoch of shuffled batches, float32, Adam at 1e-3, the same first weights; shuffle and gather
of rows are within the time. Before the timing all make five steps on the same batches, and the losses of the weights
reached must agree: within 1e-4, and within 5e-3 for scikit-learn, whose Adam places epsilon differently. xpnn is its
`Trainer` with `metrics=()`, beside it with what it measures by default, with the compiled loops of `xpnn[fast]`
(*with numba*), where steps are played from a trace, and with the portable operations that define the fast ones. The
time is that of the epoch, without the checks of the data, which `fit` makes once. PyTorch gathers rows in memory,
without a loader.
"""
BUSY = """\
Epochs of one network while other processes run: some that only count, or one that multiplies matrices on all threads
of its BLAS. Each competitor has a process of its own with nothing set, so that each library chooses its number of
threads; *one thread* is the same with the variables that limit them. Threads that wait for each other at barriers, as
those of OpenBLAS and OpenMP do in every product, lose whole time slices when one of them has no core. xpnn sets
OpenBLAS to one thread while it computes, cuts large products into pieces that depend on shapes alone, and shares these
among threads of its own: who is late gets no piece, so results do not depend on who else is there, and times far less.
A fit on one thread pays some percent for pieces that are packed anew. A thread of the pool that wakes on the core of
its caller goes to another; and a caller that must wait for a thread which others keep from its core lends it its own.
The two products of a layer's backward pass are one job, so threads wait for each other six times in a step of this
network. How many threads make the steps is measured during a fit, now and then again
([Backends](api/backends.md#threads)).

A thread without work looks for it before it sleeps: a quarter longer than there has lately been none, 50 µs at most,
and not at all where work is rare. When it was 50 µs each time, that was 26 µs of a step of this network; how much it is
since was not measured. A caller looks 150 µs for the end of a part that another thread has begun, then sleeps.

Beside others a fit gets its share of the cores, no more. Linux gives each thread that wants a core the same time: on
two cores, beside two others, two threads have one core in all, and one thread two thirds of one. The caller has half of
a core then, and the other thread works while it does, so a step takes twice its time on two quiet threads and some
percent. What that is by one quiet thread depends on what the second core is worth, and on this virtual machine that
changes, probably with what its host does: within a minute two quiet threads took 0.56 and 0.82 of the time of one. The
last column below is by one quiet thread in the same rounds, where they were measured so; see beside it what two quiet
threads took then. Where the second core is worth little, one thread may be sooner beside others. To get below twice, a
thread would have to go on with a step whose caller has lost its core in a part of it, which is not done.

Without numba NumPy's passes and Adam's stay on one thread: passes of 10 to 50 µs are over before Python's lock has
been handed over, and shared they were slower (Adam of 235,000 parameters 277 instead of 195 µs). Products are shared
from 30 million multiply-adds on. From 20 million on a step of this network took 1,214 instead of 1,453 µs with
OpenBLAS's kernels for Haswell, but 1,159 instead of 1,011 with those for AVX-512, so they are not. Two
threads therefore stay above 1.5 times their products; compiled loops, which need no lock, reach them.

Many fits at once, in a pool of threads or in processes, share the cores: the ratio is to one after the other.
"""
FAIR = """\
Linux gives each thread that wants a core the same time: beside two others, two threads have one core in all on two
cores, one thread has two thirds of one. *At best* is the time for which processors work on a step when the machine is
quiet, by that share: no scheduling, and no sharing of work among the threads, goes below it without taking more.
"""
PREDICTION = """\
From NumPy array to NumPy array, float32; answers agree within 1e-4. Rows of a table go through a fitted estimator,
from a float64 array to numbers in the target's own units, *xpnn* with preset quick: scaling, an embedding of each
number, one network (good: three, whose answers are averaged), and back; scikit-learn has a pipeline of a scaler and a
network with hidden layers as wide.
"""
REPLICAS = """\
Networks of one shape trained together on the replica axis, on the same batches: the time of a step of one network,
that is of the common step divided by their number. The gain is what one network alone takes by that, with the same
operations: NumPy's passes, or the compiled loops of `xpnn[fast]` (*with numba*). With these a step of one network has
no Python left that many could share, and many together lose where their parameters no longer fit the cache. NumPy's
batched products were never slower than a loop over the networks, whatever the shape. A network has the same bits alone
and with others, so a search begins with a rule: as many together as have 130,000 parameters, and a million outputs of
layers for a batch; a power of two of them, and 16 at most with compiled loops. Where it takes some seconds it first
tries more, fewer and one at a time, and takes what is clearly quicker. On two threads with compiled loops the
gain of what the rule takes was 1.2 to 2.2 for seven shapes, 1.05 to 1.09 for 784-64-10, and 784-256-128-10 is trained
alone; on one thread nothing was lost. Each network of an ensemble for a table has batches of its own, so they are
trained one after the other.
"""
PROCESSES = """\
One training shared by processes of this machine, each on one thread ([More than one machine](distributed.md)); more
processes than cores say nothing about speed. The network is 784-256-128-10. Engines take turns in rounds, with
processes of their own. PyTorch's DistributedDataParallel is given the same network, rows, batches and rule; it averages
gradients, and its results depend on the number of processes. *Exchange* is the time of that process which comes last,
so that it waits for nobody; what the others spend beyond is their *waiting*. *Its bytes alone* is what latency and
rate, fitted to messages between two processes that do nothing else, say of as many bytes and messages. xpnn has its
compiled loops, as in fits of more steps than these.
"""
SLOW = """\
Two processes in network namespaces, a wire between them that holds packets back as a network of this rate and this
delay would. Latency and rate are fitted to messages of 4 bytes to 1 MiB, each way at once; the model is 1 message of
all bytes for 2 processes, and 2 log2 P messages with 2 (P - 1) / P of the bytes for P.
"""
MODEL = """\
**A model, not a measurement**: what share of its time a process computes, if P processes have {rows} rows each, in
steps that take {alone} ms, on links like these between all of them.
"""
MEMORY = """\
Activations are a batch of inputs and what each Linear layer makes of it. The peak counts resident pages beyond those
that held the data and the libraries; the last column is the peak by parameters, state and activations together.
"""
READING = """\
A CSV file is read into a table, in a fresh process each time, the libraries loaded and the file in the system's cache;
the libraries take turns, and the least of the rounds is shown. Memory is the highest of the process, libraries
included. *Decimals* are 12 numbers of six digits behind the point and one of three words, *floats* the same numbers
with all 17 digits, *mixed* a row number, an identifier, numbers with gaps, truth values and quoted words. xpnn keeps
every cell as it is written, beside its value: to write a number again takes its places behind the mark, and from 16
digits on all of them. With numba a file of 8 MB or more is cut, and its numbers are read, by compiled code, which the
first process that reads 64 MB compiles and keeps as machine code; those after it load that in 0.03 s, without numba.
*xpnn without numba* reads with NumPy alone. Words are text of Python's, one for each that differs: an identifier in
each row is what *mixed* takes its time for.
"""
LARGE = """\
A table from its file to answers, and an array that is trained on, each in a process of its own. The table has 12
columns of numbers, one of three words and a target. `--preset none` trains 783-256-128-1 on its packed rows for one
epoch, and looks it over, scores, compares and writes, as always; scikit-learn and PyTorch train 15-256-128-1 for an
epoch, on numbers that are standardized, and do nothing else. Peaks are all pages of the process, libraries included.

Of an array of float64 with 1,000 columns a network of 8 units is trained for one epoch, and predicts all rows; of
`Standardizer` these are `fit` and `transform`, whose result is an array like it. What comes on top of the array is a
share of it: 0.5 is one copy in float32, 1.0 one in float64. `Trainer` computes in float32 and makes that one copy; the
estimators compute in the dtype of their rows, as scikit-learn's do, and copy none that lie in order. Rows that lie by
columns, as `DataFrame.to_numpy()` makes them, are copied in order once.

An epoch is timed beside *before*, the code that encoded the whole table first, outside of this time: the second epoch
of `xpnn train` with 783-256-128-1, its validation included, where both have the same loss. It is of 150,000 rows, so
that the encoded table fits. Without numba both multiply encoded rows: NumPy's passes over packed ones, running sums and
a row of them for each number, take 1.9 ms for a batch of 256 forward and 4.4 ms back, the products 0.3 and 0.2. On a
quiet machine *before* is ahead there: OpenBLAS's own threads share its products, whose bits then depend on their
number. With another process beside, these threads wait for each other ([A busy machine](#a-busy-machine)).

The table of 20 million rows was measured while others worked on the machine: its peaks count, its seconds do not. So
was `--preset best` on 1,500,000 rows, which peaks at 1,481 MiB as its networks predict.
"""
COMMANDS = """\
```sh
pip install -e '.[bench]'
python benchmarks/training.py --threads 1          # then --threads 2
python benchmarks/busy.py                          # makes its own load
python benchmarks/prediction.py --threads 1        # then --threads 2
python benchmarks/replicas.py --threads 1
python benchmarks/distributed.py                   # as root, for links that are slow
python benchmarks/reading.py --threads 2
python benchmarks/large.py --threads 2             # some 5 GiB of memory; --resume goes on where it stopped
git worktree add ../before c48ee36                 # then large.py --rows 150000 --against ../before --label epoch
python benchmarks/startup_memory.py
python benchmarks/table.py                         # this page
bash ci/gpu.sh                                     # on a machine with an NVIDIA GPU
```
"""


def load(folder: Path) -> list[dict[str, Any]]:
    """Read all results of a folder, in the order of the page."""
    every = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    found = [run for run in every if run["benchmark"] in FIRST]  # tables have a page of their own
    return sorted(found, key=lambda run: (FIRST.index(run["benchmark"]), run["threads"], run["label"]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table; the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def number(value: float) -> str:
    """Three significant digits, and all digits before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def threads(run: dict[str, Any]) -> str:
    count = f"{run['threads']} thread" + ("s" if run["threads"] > 1 else "")
    return count + (f", {run['label']}" if run["label"] else "")


def rows_of(problem: dict[str, Any], *, to_floor: bool) -> list[list[str]]:
    found = problem["rows"]
    floor = found.get("products alone") if to_floor else None
    lines = []
    for name, row in sorted(found.items(), key=lambda item: item[1]["ratio"]):
        cells = [f"**{name}**" if name == "xpnn" else name, number(row["us"]), number(row["us_min"])]
        lines.append([*cells, f"{row['ratio']:.2f}", *([f"{row['us'] / floor['us']:.2f}"] if floor else [])])
        lines[-1] += [f"{row['cores']:.2f}"] if "cores" in row else []
    return lines


def where(run: dict[str, Any]) -> list[str]:
    """Say on what machine, with what, when, and from which commit."""
    machine = run["machine"]
    loads = f"load {machine['load_before'][:1]} before and {machine['load_after'][:1]} after"
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    blas = f"; {'; '.join(run['blas'])}" if run["blas"] else ""
    return [
        f"{machine['cpu']}, {run['threads']} of {machine['cores']} cores, {machine['system']}; {run['date']}, commit "
        f"`{run['commit']}`; {loads.replace('[', '').replace(']', '')}. {versions}{blas}.",
        "",
    ]


def problems(run: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for problem in run["problems"]:
        rounds = max((row["rounds"] for row in problem["rows"].values()), default=0)
        to_floor = "products alone" in problem["rows"]
        cores = any("cores" in row for row in problem["rows"].values())
        lines += [f"#### {problem['problem']}, {threads(run)} ({rounds} rounds)", "", *measured_at(problem)]
        head = [
            "",
            f"{problem['unit']}, median",
            "least",
            "ratio to xpnn",
            *(["ratio to products"] if to_floor else []),
            *(["cores it had"] if cores else []),
        ]
        lines += table(head, rows_of(problem, to_floor=to_floor))
        lines += not_here(problem["missing"])
    return lines


def measured_at(problem: dict[str, Any]) -> list[str]:
    """Say when, where problems were measured one by one."""
    return [f"Measured at {problem['date']}, commit `{problem['commit']}`.", ""] if "commit" in problem else []


def fair_shares(run: dict[str, Any]) -> list[str]:
    """What an even share of the cores leaves of the speed on a quiet machine, beside what was measured."""
    loads = {problem["problem"].rsplit(", ", 1)[-1]: problem for problem in run["problems"]}
    name, quiet = "xpnn with numba", loads.get("quiet", {"rows": {}})["rows"]
    both = {name: run["threads"], f"{name}, one thread": 1}
    if not all("cores" in quiet.get(who, {}) for who in both):
        return []
    rows = []
    for load, problem in loads.items():
        cells, least = [load], []
        for who, own in both.items():
            alone = problem["rows"].get(f"{who}, quiet", quiet[who])  # in the same rounds, if they were measured so
            share = min(own, run["threads"] * own / (own + problem["others"]))
            bound = max(alone["us"] * alone["cores"] / share, alone["us"])
            least.append(problem["rows"][who]["us"])
            cells += [f"{share:.2f}", number(bound), number(least[-1]), f"{problem['rows'][who]['cores']:.2f}"]
        ratio = problem["rows"][name].get("by_one_quiet", least[0] / alone["us"])
        rows.append([*cells, number(min(least)), f"{ratio:.2f}"])
    head = ["xpnn with numba, µs/step"]
    for count in (f"{run['threads']} threads", "1 thread"):
        head += [f"{count}: cores, fairly", "at best", "measured", "cores it had"]
    head += ["the sooner of both", f"{run['threads']} threads by 1 when quiet"]
    return ["#### What a fair share of the cores allows", "", FAIR, *table(head, rows)]


def fits(run: dict[str, Any]) -> list[str]:
    """Several fits at once, where they were measured."""
    lines: list[str] = []
    for problem in run.get("together", []):
        if not problem["rows"]:
            continue
        lines += [f"#### {problem['problem']}, {threads(run)}", ""]
        lines += measured_at(problem)
        rows = [[name, number(row["us"]), f"{row['ratio']:.2f}"] for name, row in problem["rows"].items()]
        lines += table(["", f"{problem['unit']}, median", "ratio"], rows)
    return lines


def replicas(run: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for problem in run["problems"]:
        lines += [f"#### {problem['problem']}, {threads(run)}", ""]
        rows = [
            [name, number(row["us"]), number(row["us_min"]), f"{1 / row['ratio']:.2f}"]
            for name, row in problem["rows"].items()
        ]
        lines += table(["", f"{problem['unit']}, median", "least", "gain"], rows)
    return lines


def processes(run: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for problem in run["problems"]:
        lines += [f"#### {problem['problem']}", ""]
        exchanged = any("exchange_us" in row for row in problem["rows"].values())
        first = next(iter(problem["rows"]), "")
        head = ["", f"{problem['unit']}, median", "least", f"ratio to {first}"]
        rows = []
        for who, row in problem["rows"].items():
            cells = [who, number(row["us"]), number(row["us_min"]), f"{row['ratio']:.2f}"]
            if exchanged:
                waiting = ", ".join(f"{share:.0%}" for share in row.get("waiting", ()))
                cells += [number(row[name]) if name in row else "" for name in ("exchange_us", "bytes_us")] + [waiting]
            rows.append(cells)
        lines += table(
            [*head, *(["exchange, µs", "its bytes alone", "waiting of each rank"] if exchanged else [])], rows
        )
        lines += not_here(problem["missing"])
    return [*lines, *slow_links(run.get("slow links", {"missing": "not asked for"}))]


def slow_links(found: dict[str, Any]) -> list[str]:
    """What was measured on links that are slow, and apart from it what a model says."""
    lines = ["#### Links that are slow", ""]
    if "missing" in found:
        return [*lines, f"Not measured: {found['missing']}.", ""]
    links = found["links"]
    lines += [SLOW]
    if "commit" in found:
        lines += [f"Measured at {found['date']}, commit `{found['commit']}`.", ""]
    rows = []
    for name, link in links.items():
        cells = [name, number(link["latency"] * 1e3), number(link["rate"] / 1e6)]
        for count in ("2", "4"):
            one = link["measured"].get(count)
            cells += ["", ""] if one is None else [number(one["exchange"] * 1e3), number(one["model"] * 1e3)]
        rows.append(cells)
    head = ["link", "latency, ms", "MB/s", "exchange of 2, ms", "model", "exchange of 4, ms", "model"]
    lines += table(head, rows)
    kinds = list(dict.fromkeys(kind for link in links.values() for kind in link["steps_us"]))
    steps = [
        [kind, *(number(link["steps_us"][kind] / 1e3) if kind in link["steps_us"] else "" for link in links.values())]
        for kind in kinds
    ]
    lines += table(["ms/step, 2 processes", *links], steps)
    lines += [MODEL.format(rows=f"{found['rows']:,}", alone=number(found["alone_us"] / 1e3))]
    first: dict[str, Any] = next(iter(links.values()), {"model": {}})
    shares = [
        [f"{name}, exchange {how}", *(f"{share:.0%}" for share in link["model"][how].values())]
        for name, link in links.items()
        for how in link["model"]
    ]
    counts = [f"P = {p}" for one in list(first["model"].values())[:1] for p in one]
    return lines + table(["model", *counts], shares)


def files(run: dict[str, Any]) -> list[str]:
    """Seconds and memory of reading, a table for each kind of file."""
    lines: list[str] = []
    for problem in run["problems"]:
        lines += [f"#### {problem['problem'].capitalize()}, {problem['mb']:,.0f} MB", ""]
        base = problem["rows"].get("pandas", {}).get("seconds")
        rows = [
            [
                f"**{name}**" if name == "xpnn" else name,
                f"{row['seconds']:.2f}",
                f"{row['seconds'] / base:.2f}" if base else "",
                f"{row['processor_seconds']:.2f}",
                number(row["peak_mb"]),
            ]
            for name, row in sorted(problem["rows"].items(), key=lambda item: item[1]["seconds"])
        ]
        lines += table(["", "s", "ratio to pandas", "s of processors", "peak, MB"], rows)
        lines += not_here(problem.get("missing", {}))
    return lines


def large(run: dict[str, Any]) -> list[str]:
    """Time and memory of a large table and of a large array."""
    tables, arrays = run["table"], run["arrays"]
    lines: list[str] = []
    if tables:
        lines += [f"#### A table of {run['rows']:,} rows", ""]
        found = [row for row in tables if "seconds" in row]
        lines += table(
            ["", "s", "peak, MiB"], [[r["what"], f"{r['seconds']:.1f}", number(r["peak_mib"])] for r in found]
        )
        lines += not_here({row["what"]: row["missing"] for row in tables if "missing" in row})
    if arrays:
        lines += [f"#### An array of {run['array_mib']:,} MiB", ""]
        order = {"C": "rows in order", "F": "by columns"}
        rows = [
            [
                f"{name}, {order[lies]}",
                *(f"{row[f'{call}_{what}']:.2f}" for call in ("fit", "predict") for what in ("seconds", "memory")),
            ]
            for row in arrays
            if "missing" not in row
            for name, lies in [row["what"].split(", ")]
        ]
        lines += table(["", "fit, s", "on top of the array", "predict, s", "on top of the array"], rows)
        lines += not_here({row["what"]: row["missing"] for row in arrays if "missing" in row})
    for problem in run["problems"]:
        rounds = problem["rows"]["xpnn"]["rounds"]
        lines += [f"#### {problem['problem'].capitalize()}, before: commit {problem['against']} ({rounds} rounds)", ""]
        rows = [
            [name, *(f"{row[us] / 1e6:.2f}" for us in ("us", "us_min")), f"{row['ratio']:.2f}"]
            for name, row in problem["rows"].items()
        ]
        lines += table(["", "s, median", "least", "ratio to this code"], rows)
    return lines


def not_here(missing: dict[str, str]) -> list[str]:
    """Say who took no part, and why."""
    lines = [f"- not here: {name}: {why}" for name, why in missing.items()]
    return [*lines, ""] if lines else []


def imports_and_memory(run: dict[str, Any]) -> list[str]:
    (problem,) = run["problems"]
    rounds = problem["rows"]["xpnn"]["rounds"]
    lines = [f"#### Import, whole fresh processes ({rounds} rounds)", ""]
    lines += table(
        ["imports NumPy and", "ms, median", "ms over NumPy alone", "ratio to xpnn"],
        [
            [
                "nothing" if name == "numpy" else f"**{name}**" if name == "xpnn" else name,
                number(row["us"] / 1e3),
                number(row["over_numpy_us"] / 1e3),
                f"{row['ratio']:.2f}",
            ]
            for name, row in problem["rows"].items()
        ],
    )
    lines += not_here(problem["missing"])
    lines += ["#### Peak memory of a training run of xpnn", ""]
    if "memory_missing" in run:
        return [*lines, f"Not measured: {run['memory_missing']}", ""]
    columns = ("data", "parameters", "state", "activations", "peak_over_data")
    return lines + table(
        ["MiB", "data", "parameters", "Adam's state", "activations", "peak beyond the data", "ratio to their sum"],
        [[row["problem"], *(number(row[f"{c}_mib"]) for c in columns), f"{row['ratio']:.2f}"] for row in run["memory"]],
    )


def gpu(folder: Path) -> list[str]:
    """The figures of ci/gpu.sh, if it ran on a GPU."""
    path = folder / "gpu" / "bench.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if found is None or found["device"].startswith("no GPU"):
        return ["Not measured on a GPU yet: this page holds no figure of one. `bash ci/gpu.sh` measures there.", ""]
    lines = [f"{found['device']}; {found['precision']}.", ""]
    lines += [", ".join(f"{name} {version}" for name, version in found["versions"].items()) + ".", ""]
    for problem in found["problems"]:
        lines += [f"#### {problem['problem']}", ""]
        own = next((row["us"] for name, row in problem["steps"].items() if name.startswith("xpnn")), None)
        rows = [
            [name, number(row["us"]), number(row["us_min"]), f"{row['us'] / own:.2f}" if own else ""]
            for name, row in problem["steps"].items()
        ]
        lines += table(["", "µs/step, median", "least", "ratio to xpnn"], rows)
        lines += not_here(problem["missing"])
    return lines


def section(
    title: str,
    intro: str,
    runs: list[dict[str, Any]],
    *tables: Callable[[dict[str, Any]], list[str]],
    by_threads: bool = True,
    beside: str = "",
) -> list[str]:
    """Return a section of the page: of each run where it was made, and its tables."""
    lines = [f"## {title}", ""]
    lines += [intro] if runs else ["Not measured yet.", ""]
    for run in runs:
        if by_threads:
            lines += [f"### {threads(run).capitalize()}{beside}", ""]
        lines += [*where(run), *(line for table in tables for line in table(run))]
    return lines


def render(runs: list[dict[str, Any]], folder: Path) -> str:
    """Return the page."""
    lines = ["# Performance", ""]
    if any(run["quick"] for run in runs):
        lines += ["**From a quick or partial run: these figures measure nothing.**", ""]
    lines += [HOW]
    by_name = {name: [run for run in runs if run["benchmark"] == name] for name in FIRST}
    lines += section("Training", TRAINING, by_name["training"], problems)
    lines += section("A busy machine", BUSY, by_name["busy"], fair_shares, problems, fits, beside=", others beside")
    lines += section("Prediction", PREDICTION, by_name["prediction"], problems)
    lines += section("Many networks at once", REPLICAS, by_name["replicas"], replicas)
    lines += section("Several processes", PROCESSES, by_name["distributed"], processes, by_threads=False)
    lines += section("Reading files", READING, by_name["reading"], files)
    lines += section("Large tables and arrays", LARGE, by_name["large"], large)
    lines += section("Import and memory", MEMORY, by_name["startup_memory"], imports_and_memory, by_threads=False)
    lines += ["## On a GPU", "", *gpu(folder)]
    lines += ["## Once more, on your machine", "", COMMANDS]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=PROJECT / "benchmarks" / "results")
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "performance.md")
    args = parser.parse_args()
    runs = load(args.results)
    if not runs:
        sys.exit(f"table: expected results in {args.results}, found none. Run python benchmarks/training.py first.")
    if any(run["quick"] for run in runs) and args.out.resolve().is_relative_to(PROJECT / "docs"):
        sys.exit(
            "table: these results are of quick or partial runs, which measure nothing. Name another page by --out."
        )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_name(f".{args.out.name}.{os.getpid()}")
    temporary.write_text(render(runs, args.results), encoding="utf-8")
    os.replace(temporary, args.out)
    print(f"{args.out}: {len(runs)} runs")


if __name__ == "__main__":
    main()
