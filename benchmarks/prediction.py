"""Time of a prediction: one row, and ten thousand, from NumPy array to NumPy array.

    python benchmarks/prediction.py --threads 1     # then --threads 2

All hold the same weights in float32.  xpnn, PyTorch and JAX return the raw outputs, scikit-learn probabilities.  Each
takes part only if its answer agrees with xpnn's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import (
    PAUSE,
    PROJECT,
    MissingError,
    begin,
    calls_per_round,
    interleave,
    parser,
    reason,
    show,
    summary,
    turn_of,
    write,
)

sys.path.insert(0, str(PROJECT))
import peers

import xpnn

PROBLEMS = [([784, 256, 128, 10], 1), ([784, 256, 128, 10], 10_000), ([2, 16, 8, 1], 1), ([2, 16, 8, 1], 10_000)]
QUICK = [([784, 256, 128, 10], 1), ([2, 16, 8, 1], 100)]
TOLERANCE = 1e-4

Predict = Callable[[], np.ndarray]


def products(net: xpnn.Sequential, x: np.ndarray) -> Predict:
    """The matrix products alone, into arrays made beforehand."""
    weights = [w for w, _ in peers.first_weights(net)]
    outputs = [np.empty((len(x), w.shape[1]), np.float32) for w in weights]
    pairs = list(zip(weights, outputs, strict=True))

    def predict() -> np.ndarray:
        a = x
        for w, out in pairs:
            np.matmul(a, w, out=out)
            a = out
        return a

    return predict


def with_sklearn(net: xpnn.Sequential, x: np.ndarray) -> Predict:
    networks = peers.module("sklearn.neural_network")
    weights = peers.first_weights(net)
    model = networks.MLPClassifier([w.shape[1] for w, _ in weights[:-1]], random_state=0)
    classes = np.arange(max(net.n_out, 2))
    rows = np.zeros((len(classes), net.n_in), np.float32)
    model.partial_fit(rows, classes, classes=classes)
    model.coefs_, model.intercepts_ = [w for w, _ in weights], [b for _, b in weights]
    return lambda: model.predict_proba(x)


def with_torch(net: xpnn.Sequential, x: np.ndarray) -> Predict:
    torch = peers.torch_module()
    other = peers.torch_net(torch, peers.first_weights(net)).eval()

    def predict() -> np.ndarray:
        with torch.inference_mode():
            return other(torch.from_numpy(x)).numpy()

    return predict


def with_jax(net: xpnn.Sequential, x: np.ndarray) -> Predict:
    jax, jnp = peers.jax_modules()
    params = [(jnp.array(w), jnp.array(b)) for w, b in peers.first_weights(net)]
    compiled = jax.jit(lambda params, x: peers.jax_outputs(jax, params, x))
    return lambda: np.asarray(compiled(params, x))


def compiled(net: xpnn.Sequential, x: np.ndarray) -> Predict:
    other = net.to(peers.numpy_backend(compiled=True))
    return lambda: other.predict(x)


MAKERS: dict[str, Callable[[xpnn.Sequential, np.ndarray], Predict]] = {
    "products alone": products,
    "xpnn": lambda net, x: lambda: net.predict(x),
    "xpnn with numba": compiled,
    "scikit-learn, predict_proba": with_sklearn,
    "torch eager, inference_mode": with_torch,
    "jax jit": with_jax,
}


def expected(net: xpnn.Sequential, x: np.ndarray, name: str) -> Any:
    """What a competitor ought to answer."""
    logits = net.predict(x)
    if not name.startswith("scikit-learn"):
        return logits
    if net.n_out > 1:
        return xpnn.CrossEntropy().link(logits)
    ones = xpnn.BinaryCrossEntropy().link(logits)
    return np.concatenate([1.0 - ones, ones], axis=1)


def measure(sizes: list[int], rows: int, only: list[str], seconds: float, round_seconds: float) -> dict[str, Any]:
    net = xpnn.mlp(sizes, seed=0)
    x = np.random.default_rng(0).random((rows, sizes[0]), dtype=np.float32)
    turns: dict[str, Callable[[], float]] = {}
    missing: dict[str, str] = {}
    for name, make in MAKERS.items():
        if name != "xpnn" and not any(part in name for part in only):
            continue
        try:
            predict = make(net, x)
            if name != "products alone":
                off = float(np.abs(predict() - expected(net, x, name)).max())
                if not off <= TOLERANCE:
                    raise MissingError(f"not comparable: its answer is off by {off:.1e}")
        except Exception as error:  # whatever one cannot do must not keep the others from their turn
            missing[name] = reason(error)
            continue
        turns[name] = turn_of(predict, calls_per_round(lambda _, p=predict: p(), round_seconds, most=1 << 16))
    times = interleave(turns, seconds, pause=PAUSE)
    return {
        "problem": problem_name(sizes, rows),
        "unit": "µs/call",
        "rows": summary(times, "xpnn"),
        "missing": missing,
    }


def problem_name(sizes: list[int], rows: int) -> str:
    return f"{'-'.join(map(str, sizes))}, " + ("one row" if rows == 1 else f"{rows:,} rows")


def main() -> None:
    args = parser(__doc__, seconds=15.0).parse_args()
    path, results = begin("prediction", args)
    for sizes, rows in QUICK if args.quick else PROBLEMS:
        if args.problem not in problem_name(sizes, rows):
            continue
        seconds, round_seconds = (0.0, 0.002) if args.quick else (args.seconds, 0.1)
        results["problems"].append(measure(sizes, rows, args.only.split(","), seconds, round_seconds))
        show(results["problems"][-1])
        write(path, results)
    print(f"\nin {path}")


if __name__ == "__main__":
    main()
