"""What it gains to train K networks of one shape together on the replica axis, for K from 1 to 256.

    python benchmarks/replicas.py --threads 1

All K networks see the same batches; each has its own weights.  The time is that of one step of one network: of the
common step, divided by K.  Once with NumPy's own passes, and once with the compiled loops of xpnn[fast].
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import PAUSE, PROJECT, MissingError, begin, interleave, parser, show, summary, write

sys.path.insert(0, str(PROJECT))

import peers

import xpnn

ALONE = "one alone"
# sizes, batch size, K, steps of a turn for one network
PROBLEMS = [
    ([2, 16, 8, 1], 32, (1, 4, 16, 64, 256), 2000),
    ([30, 64, 64, 2], 32, (1, 4, 16, 64, 256), 1000),
    ([784, 256, 128, 10], 128, (1, 4, 16), 60),
]
QUICK = [([2, 16, 8, 1], 32, (1, 4), 20)]


def trainer(sizes: list[int], replicas: int | None, backend: xpnn.Backend) -> xpnn.Trainer:
    net = xpnn.mlp(sizes, seed=0, replicas=replicas, backend=backend)
    loss = xpnn.BinaryCrossEntropy() if sizes[-1] == 1 else xpnn.CrossEntropy()
    return xpnn.Trainer(net, loss, xpnn.Adam(), metrics=())


def turn(
    sizes: list[int], batch_size: int, replicas: int | None, steps: int, backend: xpnn.Backend
) -> Callable[[], float]:
    """Return a turn: the seconds of one step of one network."""
    rng = np.random.default_rng(0)
    X = rng.random((batch_size * steps, sizes[0]), dtype=np.float32)
    y = rng.integers(0, max(sizes[-1], 2), len(X))
    if sizes[-1] == 1:
        y = y.astype(np.float32)[:, None]
    own = trainer(sizes, replicas, backend)

    def epoch() -> float:
        return float(own.fit(X, y, epochs=1, batch_size=batch_size)["seconds"][-1]) / steps / (replicas or 1)

    epoch()  # warm up
    return epoch


def measure(
    problem: str,
    sizes: list[int],
    batch_size: int,
    counts: tuple[int, ...],
    steps: int,
    seconds: float,
    backend: xpnn.Backend,
) -> dict[str, Any]:
    turns = {ALONE: turn(sizes, batch_size, None, steps, backend)}
    for k in counts:
        # as much work in a turn as one network has, but at least some steps
        turns[f"{k} together"] = turn(sizes, batch_size, k, max(steps // k, 8), backend)
    found = summary(interleave(turns, seconds, least=3 if not seconds else 7, pause=PAUSE), ALONE)
    return {
        "problem": f"{problem}, with numba" if backend.ops.compiled else problem,
        "unit": "µs/step of one network",
        "rows": found,
        "missing": {},
    }


def main() -> None:
    args = parser(__doc__, seconds=30.0).parse_args()
    path, results = begin("replicas", args)
    backends = [peers.numpy_backend(compiled=False)]
    try:
        backends.append(peers.numpy_backend(compiled=True))
    except MissingError as error:
        print(f"without compiled loops: {error}")
    for sizes, batch_size, counts, steps in QUICK if args.quick else PROBLEMS:
        problem = f"{'-'.join(map(str, sizes))}, batch {batch_size}"
        if args.problem not in problem:
            continue
        for backend in backends:
            found = measure(problem, sizes, batch_size, counts, steps, 0.0 if args.quick else args.seconds, backend)
            results["problems"].append(found)
            show(found)
            write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
