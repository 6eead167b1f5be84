"""``xpnn bench``: how long a step takes here, and from what size on a GPU pays."""

from __future__ import annotations

import argparse
import datetime
import os
from typing import Any

from ..accel.cores import busy_elsewhere, core_count, load_sentence
from ..backend import available_backends, get_backend
from ..bench import crossover_threshold, products_time, step_time
from ..crossover import Crossover, mlp_params, work_of
from ..errors import OptionError
from ..optional import needs
from .options import above_zero, add_json, add_number, print_json, sizes, whole
from .system import versions

__all__ = ["add_commands"]


def add_commands(commands: Any) -> None:
    """Add the command."""
    bench = commands.add_parser(
        "bench",
        usage="xpnn bench [options]",
        help="time a training step on every backend here, and find from what size on a GPU pays",
        description="Time a training step of your network on every backend here beside the bare matrix products. Where "
        "a GPU can be used, also find from what size on it pays, and keep that for backend 'auto'.",
    )
    text = "widths from input to output; default 784,256,128,10"
    add_number(bench, "--sizes", sizes, text, default=[784, 256, 128, 10], metavar="N,N,…")
    add_number(bench, "--batch-size", whole, "rows of one step; default 128", default=128)
    bench.add_argument(
        "--backends", metavar="NAMES", help="with commas; default numpy, and torch, torch:cuda and cupy where they work"
    )
    add_number(bench, "--seconds", above_zero, "for each measurement, in seconds; default 1", default=1.0)
    bench.add_argument(
        "--no-crossover", action="store_true", help="do not look for the size from which the GPU pays, nor keep it"
    )
    add_json(bench)
    bench.set_defaults(run=run_bench)


def run_bench(args: argparse.Namespace) -> int:
    """Measure and print."""
    if len(args.sizes) < 2:
        raise OptionError("expected --sizes from input to output, such as 784,128,10. Give at least two.")
    states = available_backends()
    names = args.backends.split(",") if args.backends else [n for n, s in states.items() if s == "ok" and n != "strict"]
    backends = {name.strip(): get_backend(name.strip()) for name in names}  # a wrong name ends it before measuring
    busy = busy_elsewhere()
    try:
        floor = products_time(args.sizes, args.batch_size, seconds=args.seconds).median
        steps = {
            name: step_time(args.sizes, args.batch_size, backend, seconds=args.seconds).median
            for name, backend in backends.items()
        }
    except MemoryError as error:
        raise OptionError("out of memory. Try smaller --sizes, or a smaller --batch-size.") from error
    rule: Crossover | None = None
    rows: list[dict[str, Any]] = []
    if states["cupy"] == "ok" and not args.no_crossover:
        threshold, rows = crossover_threshold("cupy", seconds=args.seconds / 2)
        device = str(getattr(get_backend("cupy").device, "id", 0))
        rule = Crossover(threshold, f"GPU {device}", datetime.date.today().isoformat())
        rule.save()
    found = {
        "versions": versions(),
        "threads": os.environ.get("OMP_NUM_THREADS") or str(core_count()),
        "cores_busy_elsewhere": busy,
        "sizes": args.sizes,
        "batch_size": args.batch_size,
        "work": work_of(mlp_params(args.sizes), args.batch_size),
        "products_seconds": floor,
        "step_seconds": steps,
        "crossover": None if rule is None else {"work": rule.work, "rows": rows},
    }
    if args.json:
        print_json(found)
        return 0
    _print_steps(found)
    if rule is None:
        why = "--no-crossover" if states["cupy"] == "ok" else f"no GPU through CuPy here ({states['cupy']})"
        print(f"crossover not measured: {why}")
    else:
        _print_crossover(rows)
        print(f"\nbackend auto takes {rule.sentence(found['work'])}")
    return 0


def _print_steps(found: dict[str, Any]) -> None:
    with needs("tabulate", "xpnn"):
        from tabulate import tabulate

    shape, floor = "-".join(map(str, found["sizes"])), found["products_seconds"]
    size = f"{mlp_params(found['sizes']):,} parameters, {found['work']:.3g} multiply-adds a step"
    print(f"{shape}, batch {found['batch_size']}: {size}")
    print(f"numpy {found['versions']['numpy']}, {found['versions']['blas']}; {found['threads']} threads")
    sentence = load_sentence(found["cores_busy_elsewhere"])
    print(sentence, end="\n\n" if sentence else "\n")
    table = [("bare products, numpy", floor * 1e6, 1.0, 1 / floor)]
    table += [(f"xpnn on {name}", t * 1e6, t / floor, 1 / t) for name, t in found["step_seconds"].items()]
    heads = ["a training step", "µs", "by products", "steps/s"]
    print(tabulate(table, headers=heads, floatfmt=("", ",.1f", ".2f", ",.0f")))
    print()


def _print_crossover(rows: list[dict[str, Any]]) -> None:
    with needs("tabulate", "xpnn"):
        from tabulate import tabulate

    table = [("-".join(map(str, r["sizes"])), r["batch_size"], r["work"], r["cpu"] * 1e6, r["gpu"] * 1e6) for r in rows]
    heads = ["network", "batch", "work", "numpy, µs", "cupy, µs"]
    print(tabulate(table, headers=heads, floatfmt=("", "", ".2g", ",.1f", ",.1f")))
