"""Two layers or three, and ten units or two hundred: borders on few, noisy points, and on new ones.

Run: python examples/layers_and_overfitting.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train each network on 80 points, look at 2,000 others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/layers_and_overfitting", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(80, noise=0.3, seed=0)
    X_new, y_new = xpnn.data.make_moons(2000, noise=0.3, seed=1)
    epochs = 120 if args.quick else 600
    networks = {
        "2-10-2": [2, 10, 2],
        "2-10-10-2": [2, 10, 10, 2],
        "2-200-2": [2, 200, 2],
        "2-200-200-2": [2, 200, 200, 2],
    }
    if args.quick:
        networks = {name: networks[name] for name in ("2-10-2", "2-200-200-2")}
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    curves, bars = lower.subplots(1, 2)
    known, new, lowest, last = {}, {}, {}, {}
    for ax, (name, sizes), colour in zip(
        upper.subplots(1, len(networks)), networks.items(), xpnn.plots.OKABE_ITO, strict=False
    ):
        net = xpnn.mlp(sizes, "relu", backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01))
        history = trainer.fit(X, y, epochs=epochs, batch_size=20, X_val=X_new, y_val=y_new)
        known[name], new[name] = history["accuracy"][-1], history["val_accuracy"][-1]
        lowest[name], last[name] = min(history["val_loss"]), history["val_loss"][-1]
        xpnn.plots.plot_decision_boundary(trainer, X, y, ax=ax, probability=False, resolution=80 if args.quick else 200)
        ax.set_title(f"{name}: {new[name]:.1%} of new points")
        curves.plot(history["epoch"], history["val_loss"], color=colour, label=f"{name}, new")
        curves.plot(history["epoch"], history["loss"], ":", color=colour)
        print(
            f"{name:11}: {net.n_params:6,} parameters, {known[name]:.1%} of 80 points right, {new[name]:.1%} of new "
            f"ones; loss on new points {lowest[name]:.2f} at best, {last[name]:.2f} at the end"
        )
    curves.set(title="Loss by epoch (dotted: on the 80 points)", xlabel="epoch", yscale="log", ylim=(1e-3, None))
    curves.legend()
    places = np.arange(len(networks))
    bars.bar(places - 0.2, list(known.values()), 0.4, color=xpnn.plots.OKABE_ITO[0], label="80 points")
    bars.bar(places + 0.2, list(new.values()), 0.4, color=xpnn.plots.OKABE_ITO[1], label="2,000 new points")
    bars.set_xticks(places, list(networks))
    bars.set(title="Share right", ylim=(0.7, 1.08))
    bars.legend(loc="upper center", ncols=2)

    small, large = "2-10-2", "2-200-200-2"
    gaps = {name: known[name] - new[name] for name in networks}
    if not (known[large] > known[small] and gaps[large] > gaps[small] + 0.03):
        raise SystemExit(f"expected the largest to know its points by heart, got {known} and {new}")
    if not (last[large] > 2 * lowest[large] and last[large] > 2 * last[small]):
        raise SystemExit(f"expected the loss of the largest on new points to rise, got {lowest} and {last}")
    print(
        f"On 80 noisy points {large} gets {known[large]:.1%} right and {new[large]:.1%} of new ones, {small} "
        f"{known[small]:.1%} and {new[small]:.1%}; the loss of the large one on new points rises from "
        f"{lowest[large]:.2f} to {last[large]:.1f}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'layers_and_overfitting.png')}")


if __name__ == "__main__":
    main()
