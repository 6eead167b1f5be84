"""Depth against width: a saw of 32 pieces that 31 parameters make exactly in five layers, and what training finds.

Each layer of two ReLU units folds the line once, so pieces double with depth, while one layer needs a unit for each.

Run: python examples/depth_or_width.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def saw(x, folds):
    """Fold [0, 1] upon itself: each fold doubles the pieces."""
    for _ in range(folds):
        x = 1 - np.abs(2 * x - 1)
    return x


def deep(folds, backend):
    """Two ReLU units a layer: a fold is 2 relu(x) - 4 relu(x - 1/2)."""
    net = xpnn.mlp([1] + [2] * folds + [1], "relu", backend=backend, dtype="float64")
    fold = np.asarray([[2.0], [-4.0]])
    state = {"0.weight": np.ones((1, 2)), "0.bias": np.asarray([0.0, -0.5])}
    for layer in range(1, folds):
        state |= {f"{2 * layer}.weight": fold @ np.ones((1, 2)), f"{2 * layer}.bias": np.asarray([0.0, -0.5])}
    net.load_state_dict(state | {f"{2 * folds}.weight": fold, f"{2 * folds}.bias": np.zeros(1)})
    return net


def shallow(folds, backend):
    """One ReLU unit for each piece, which turns the line by the change of slope."""
    pieces = 2**folds
    slopes = pieces * (1 - 2 * (np.arange(pieces) % 2)).astype(float)
    net = xpnn.mlp([1, pieces, 1], "relu", backend=backend, dtype="float64")
    turns = np.diff(slopes, prepend=0.0)[:, None]
    net.load_state_dict({"0.weight": np.ones((1, pieces)), "0.bias": -np.arange(pieces) / pieces,
                         "2.weight": turns, "2.bias": np.zeros(1)})  # fmt: skip
    return net


def off(net, x, y):
    """Return the root mean square error; of replicas that of the best."""
    return float(np.sqrt(((xpnn.to_numpy(net.predict(x)) - y) ** 2).mean(axis=(-2, -1))).min())


def main() -> None:
    """Build both by hand, train both, draw both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/depth_or_width", help="folder for the picture")
    args = parser.parse_args()
    folds, epochs = 5, 60 if args.quick else 400

    x = np.linspace(0, 1, 1025)[:, None]
    y = saw(x, folds)
    built = {"deep": deep(folds, args.backend), "shallow": shallow(folds, args.backend)}
    pieces = 1 + int((np.abs(np.diff(xpnn.to_numpy(built["deep"].predict(x))[:, 0], 2)) > 1e-9).sum())
    found = {}
    for name, net in built.items():
        sizes = [1, *[2] * folds, 1] if name == "deep" else [1, 2**folds, 1]
        trained = xpnn.mlp(sizes, "relu", backend=args.backend, seed=range(5))
        trainer = xpnn.Trainer(trained, xpnn.MeanSquaredError(), xpnn.Adam(lr=0.01), schedule=xpnn.CosineDecay())
        trainer.fit(x, y, epochs=epochs, batch_size=64)
        found[name] = trained
        print(
            f"{name:7}: {net.n_params} parameters, built by hand off by {off(net, x, y):.0e}, "
            f"the best of five trained ones by {off(trained, x, y):.2f}"
        )

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for ax, (name, net) in zip(figure.subplots(1, 2), built.items(), strict=True):
        ax.plot(x, xpnn.to_numpy(net.predict(x)), color=xpnn.plots.OKABE_ITO[0], lw=1, label="built by hand")
        for k, fit in enumerate(xpnn.to_numpy(found[name].predict(x))):
            ax.plot(x, fit, color=xpnn.plots.OKABE_ITO[1], alpha=0.7, label=None if k else "trained, five starts")
        ax.set(title=f"{name}: {net.n_params} parameters", xlabel="x", ylim=(-0.05, 1.25))
        ax.legend(loc="upper right")

    exact, learnt = (max(off(n, x, y) for n in built.values()), min(off(n, x, y) for n in found.values()))
    if pieces != 2**folds or exact > 1e-12 or built["deep"].n_params != 31 or learnt < 0.05:
        raise SystemExit(f"expected {2**folds} pieces exactly and none by training, got {pieces}, {exact}, {learnt}")
    print(
        f"Five layers of two units make a saw of {pieces} pieces with {built['deep'].n_params} parameters, one "
        f"layer takes {built['shallow'].n_params}; trained, the best of ten is off by {learnt:.2f}: to exist is not "
        "to be found."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'depth_or_width.png')}")


if __name__ == "__main__":
    main()
