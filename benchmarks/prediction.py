"""Time of a prediction: one row, and ten thousand, from NumPy array to NumPy array.

    python benchmarks/prediction.py --threads 1     # then --threads 2

All hold the same weights in float32.  xpnn, PyTorch and JAX return the raw outputs, scikit-learn probabilities.  Each
takes part only if its answer agrees with xpnn's.

Then one row of a table and a thousand, through a fitted estimator, from NumPy array to answers in the target's own
units: the presets of `TabularRegressor`, and scikit-learn's scaler and MLPRegressor with hidden layers as wide.  Each
has weights of its own: they must agree with what they learnt, R² of 0.9 and more.
"""

from __future__ import annotations

import sys
import warnings
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
import xpnn.tabular

PROBLEMS = [([784, 256, 128, 10], 1), ([784, 256, 128, 10], 10_000), ([2, 16, 8, 1], 1), ([2, 16, 8, 1], 10_000)]
QUICK = [([784, 256, 128, 10], 1), ([2, 16, 8, 1], 100)]
TOLERANCE = 1e-4
# Of a table: its columns, the rows to learn from and epochs; rows of a prediction.
COLUMNS, LEARNT, TAUGHT = 8, 2_000, 20
TABLE_ROWS, QUICK_ROWS = (1, 1_000), (1,)
LEAST_R2 = 0.9
TABULAR = "xpnn"

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


# -- tables -------------------------------------------------------------------------------------------------------
def with_preset(preset: str, x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    return xpnn.tabular.TabularRegressor(preset=preset, epochs=epochs).fit(x, y)


def with_pipeline(x: np.ndarray, y: np.ndarray, epochs: int) -> Any:
    """Scale and train as scikit-learn does it, as wide as the presets' networks."""
    pipeline, scaling = peers.module("sklearn.pipeline"), peers.module("sklearn.preprocessing")
    networks = peers.module("sklearn.neural_network")
    network = networks.MLPRegressor(hidden_layer_sizes=(128, 128, 128), max_iter=max(5 * epochs, 100), random_state=0)
    with warnings.catch_warnings():  # it says that it would go on longer
        warnings.simplefilter("ignore")
        return pipeline.make_pipeline(scaling.StandardScaler(), network).fit(x, y)


ESTIMATORS: dict[str, Callable[[np.ndarray, np.ndarray, int], Any]] = {
    TABULAR: lambda x, y, epochs: with_preset("quick", x, y, epochs),
    "xpnn, preset good": lambda x, y, epochs: with_preset("good", x, y, epochs),
    "scikit-learn, pipeline": with_pipeline,
}


def fitted(epochs: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Return estimators that have learnt a table, and why others have not."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(LEARNT, COLUMNS))
    y = 2.0 * x[:, 0] + np.abs(x[:, 1]) + 0.1 * rng.normal(size=LEARNT)
    models, missing = {}, {}
    for name, make in ESTIMATORS.items():
        try:
            model = make(x, y, epochs)
            r2 = 1.0 - float(np.square(model.predict(x) - y).sum() / np.square(y - y.mean()).sum())
            if not r2 >= LEAST_R2:
                raise MissingError(f"not comparable: its R² is {r2:.2f}")
            models[name] = model
        except Exception as error:  # as above
            missing[name] = reason(error)
    return models, missing


def measure_table(
    models: dict[str, Any], missing: dict[str, str], rows: int, seconds: float, round_seconds: float
) -> dict[str, Any]:
    x = np.random.default_rng(1).normal(size=(rows, COLUMNS))
    turns = {}
    for name, model in models.items():
        calls = calls_per_round(lambda _, m=model: m.predict(x), round_seconds, most=1 << 16)
        turns[name] = turn_of(lambda m=model: m.predict(x), calls)
    return {
        "problem": table_name(rows),
        "unit": "µs/call",
        "rows": summary(interleave(turns, seconds, pause=PAUSE), TABULAR),
        "missing": missing,
    }


def table_name(rows: int) -> str:
    return f"table of {COLUMNS} columns, " + ("one row" if rows == 1 else f"{rows:,} rows")


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
    measure_tables(args, path, results)
    print(f"\nin {path}")


def measure_tables(args: Any, path: Any, results: dict[str, Any]) -> None:
    asked = [rows for rows in (QUICK_ROWS if args.quick else TABLE_ROWS) if args.problem in table_name(rows)]
    models, missing = fitted(TAUGHT) if asked else ({}, {})
    for rows in asked:
        seconds, round_seconds = (0.0, 0.002) if args.quick else (args.seconds, 0.1)
        results["problems"].append(measure_table(models, missing, rows, seconds, round_seconds))
        show(results["problems"][-1])
        write(path, results)


if __name__ == "__main__":
    main()
