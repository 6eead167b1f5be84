"""Four runs made to go wrong, and one that goes well: `xpnn.diagnose` names each by its curves.

Run: python examples/diagnosis.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def flipped(y, share):
    """Labels with a share of them wrong."""
    y = y.copy()
    chosen = np.random.default_rng(2).permutation(len(y))[: round(share * len(y))]
    y[chosen] = 1 - y[chosen]
    return y


def main() -> None:
    """Train each run, ask for a diagnosis, draw its curves under the name it was given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/diagnosis", help="folder for the picture")
    args = parser.parse_args()
    epochs = 50 if args.quick else 80

    X, y = xpnn.data.make_moons(600, noise=0.2, seed=0)
    few, others = slice(0, 60), slice(200, 600)
    moons = (X[others], y[others], X[:200], y[:200])
    learned_by_heart = (X[few], flipped(y[few], 0.2), X[others], y[others])
    rings = xpnn.data.make_circles(600, noise=0.1, seed=0)
    circles = (rings[0][:400], rings[1][:400], rings[0][400:], rings[1][400:])
    # what is expected: (data, widths, activation, optimizer, batch size)
    runs = {
        "well": (moons, [2, 16, 16, 2], "tanh", xpnn.Adam(0.01), 50),
        "too slow": (moons, [2, 16, 16, 2], "tanh", xpnn.SGD(1e-5), 50),
        "oscillating": (moons, [2, 2], "identity", xpnn.SGD(15.0), 400),
        "overfitting": (learned_by_heart, [2, 128, 128, 2], "relu", xpnn.Adam(0.01), 20),
        "underfitting": (circles, [2, 1, 2], "tanh", xpnn.Adam(0.1), 50),
    }
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplots(2, 3).ravel()
    for ax, (expected, (data, widths, activation, optimizer, batch_size)) in zip(axes, runs.items(), strict=False):
        net = xpnn.mlp(widths, activation, backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), optimizer)
        history = trainer.fit(*data[:2], epochs=epochs, batch_size=batch_size, X_val=data[2], y_val=data[3])
        findings = xpnn.diagnose(history)
        names = [finding.name for finding in findings]
        print(f"{expected:12}: " + (" | ".join(map(str, findings)) or "nothing looks wrong."))
        if names != ([] if expected == "well" else [expected]):
            raise SystemExit(f"expected the diagnosis {expected!r}, got {names}")
        for column, colour, label in (("loss", 0, "training"), ("val_loss", 1, "validation")):
            ax.plot(history["epoch"], history[column], color=xpnn.plots.OKABE_ITO[colour], label=label)
        ax.set(title=", ".join(names) or "nothing looks wrong", xlabel="epoch", ylabel="cross-entropy")
        ax.set_ylim(0, 1.1 * max(*history["loss"], *history["val_loss"]))
    axes[0].legend(loc="upper right")

    # What a learning rate does: the same network, the loss after the same number of epochs.
    rates = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 3.0, 8.0]
    ends = []
    for rate in rates:
        net = xpnn.mlp([2, 16, 16, 2], "tanh", backend=args.backend, seed=0)
        history = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(rate)).fit(*moons[:2], epochs=15, batch_size=50)
        ends.append(history["loss"][-1])
    axes[5].plot(rates, ends, "o-", color=xpnn.plots.OKABE_ITO[2])
    axes[5].set(title="The learning rate decides", xlabel="learning rate of SGD", ylabel="loss after 15 epochs")
    axes[5].set(xscale="log", yscale="log")
    if not min(ends[3:6]) < 0.5 * min(ends[0], ends[-1]):
        raise SystemExit(f"expected a rate between the smallest and the largest to be best, got {ends}")
    print(f"Of {len(runs)} runs, the four made to go wrong are called by their names, the one that is well is not.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'diagnosis.png')}")


if __name__ == "__main__":
    main()
