"""What the gradient costs: one backward pass against a forward pass, and against differences for every weight.

Run: python examples/backprop_cost.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def shortest(passes, backend, repeats):
    """Return the shortest time of each pass, made in turn: whatever else the machine does only makes them longer."""
    times = []
    for _ in range(repeats):
        for work in passes:
            backend.synchronize()
            begin = time.perf_counter()
            work()
            backend.synchronize()
            times.append(time.perf_counter() - begin)
    return [min(times[k :: len(passes)]) for k in range(len(passes))]


def by_differences(net, loss, x, y, h=1e-5):
    """Return the gradient by two forward passes for each parameter, and how many passes that took."""
    values, passes = net.store.values, 0
    start = np.array(xpnn.to_numpy(values))
    gradient = np.zeros_like(start)

    def at(k, step):
        moved = start.copy()
        moved[k] += step
        values[...] = net.backend.asarray(moved)
        return float(xpnn.to_numpy(loss.value_and_grad(net.forward(x)[0], y)[0]))

    for _, place in net.store.segments():  # between parameters lie zeros
        for k in range(place.start, place.stop):
            gradient[k] = (at(k, h) - at(k, -h)) / (2 * h)
            passes += 2
    values[...] = net.backend.asarray(start)
    return gradient, passes


def main() -> None:
    """Time both passes at several widths; compare with differences where there are few enough weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer widths and repeats, for tests")
    parser.add_argument("--out", default="runs/backprop_cost", help="folder for the picture")
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    rows, repeats, loss = 256, 15 if args.quick else 40, xpnn.CrossEntropy()
    widths = (32, 128) if args.quick else (16, 32, 64, 128, 256, 512)
    sizes, forward, backward = [], [], []
    for width in widths:
        net = xpnn.mlp([width, width, width, 10], "tanh", backend=args.backend, dtype="float64", seed=0)
        x = net.backend.asarray(rng.normal(size=(rows, width)))
        y = net.backend.asarray(rng.integers(0, 10, rows), dtype=net.backend.index_dtype)
        outputs, caches = net.forward(x, train=True)
        _, d = loss.value_and_grad(outputs, y)
        sizes.append(net.n_params)
        passes = (partial(net.forward, x, train=True), partial(net.backward, d, caches))
        for times, best in zip((forward, backward), shortest(passes, net.backend, repeats), strict=True):
            times.append(best)
        ratio = backward[-1] / forward[-1]
        print(f"{net.n_params:7,} weights: forward {forward[-1] * 1e6:8.0f} µs, backward {ratio:.1f} times that")

    small = xpnn.mlp([4, 8, 3], "tanh", backend=args.backend, dtype="float64", seed=0)
    x = small.backend.asarray(rng.normal(size=(20, 4)))
    y = small.backend.asarray(rng.integers(0, 3, 20), dtype=small.backend.index_dtype)
    numeric, passes = by_differences(small, loss, x, y)
    outputs, caches = small.forward(x, train=True)
    small.backward(loss.value_and_grad(outputs, y)[1], caches)
    apart = float(np.abs(numeric - xpnn.to_numpy(small.store.grads)).max())
    print(f"{small.n_params} weights: {passes} forward passes give the same gradient, to {apart:.0e}")

    figure = Figure(figsize=(7.5, 4.4), layout="constrained")
    ax = figure.subplots()
    n = np.asarray(sizes)
    ax.plot(
        n,
        2 * n * np.asarray(forward),
        "s-",
        color=xpnn.plots.OKABE_ITO[1],
        label="differences, reckoned: 2 passes a weight",
    )
    ax.plot(n, np.add(forward, backward), "o-", color=xpnn.plots.OKABE_ITO[2], label="forward and backward")
    ax.plot(n, forward, ".:", color="0.4", label="forward alone")
    ax.set(xscale="log", yscale="log", xlabel="weights", ylabel=f"seconds, {rows} rows")
    ax.set_title("The whole gradient, by two roads")
    ax.legend()

    ratios = np.asarray(backward) / np.asarray(forward)
    saved = 2 * n[-1] * forward[-1] / (forward[-1] + backward[-1])
    if apart > 1e-8 or passes != 2 * small.n_params:
        raise SystemExit(f"expected the same gradient by 2 passes a weight, got {apart:.1e} apart, {passes} passes")
    if not 0.3 < ratios[-1] < 6:
        raise SystemExit(f"expected a backward pass to cost about two forward passes, got {ratios}")
    print(
        f"A backward pass takes {ratios[-1]:.1f} times as long as a forward pass and gives all {n[-1]:,} slopes; "
        f"differences would take {saved:,.0f} times as long."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'backprop_cost.png')}")


if __name__ == "__main__":
    main()
