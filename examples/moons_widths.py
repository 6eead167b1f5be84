"""How wide must a hidden layer be?  Two moons with 2, 5, 10, 20 and 50 units: borders, curves, scores, time.

Run: python examples/moons_widths.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train each width from five starts, full batches at rate 0.5, and draw the middle one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and three widths, for tests")
    parser.add_argument("--out", default="runs/moons_widths", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(1000, noise=0.2, seed=0)
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.2, seed=0)
    widths, epochs = ((2, 10, 50), 300) if args.quick else ((2, 5, 10, 20, 50), 1000)
    figure = Figure(figsize=(13, 8), layout="constrained")
    borders, lower = figure.subfigures(2, 1)
    curves, bars, times = lower.subplots(1, 3)
    known, new, seconds = {}, {}, {}
    for ax, width, colour in zip(borders.subplots(1, len(widths)), widths, xpnn.plots.OKABE_ITO, strict=False):
        net = xpnn.mlp([2, width, 2], "relu", backend=args.backend, seed=range(5))
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.5))
        history = trainer.fit(X_train, y_train, epochs=epochs, batch_size=len(X_train))
        scores = trainer.evaluate(X_test, y_test)["accuracy_replicas"]
        middle = int(np.argsort(scores)[2])
        new[width] = float(scores[middle])
        known[width] = float(trainer.evaluate(X_train, y_train)["accuracy_replicas"][middle])
        seconds[width] = epochs * min(history["seconds"])
        xpnn.plots.plot_decision_boundary(
            lambda points, t=trainer, k=middle: t.predict_proba(points)[k],
            X_test, y_test, ax=ax, output="probabilities", probability=False, resolution=60 if args.quick else 150,
        )  # fmt: skip
        ax.set_title(f"{width} units: {new[width]:.1%}")
        losses = [row[middle] for row in history["loss_replicas"]]
        curves.plot(range(1, epochs + 1), losses, color=colour, label=f"{width} units")
        print(
            f"{width:2} units, {4 * width + width + 2:3} parameters: {known[width]:.1%} of the training points right, "
            f"{new[width]:.1%} of the test points ({min(scores):.1%} to {max(scores):.1%}), "
            f"{seconds[width]:.1f} s for five starts"
        )
    curves.set(title="Loss on training points", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    curves.legend()
    places = np.arange(len(widths))
    bars.bar(places - 0.2, list(known.values()), 0.4, color=xpnn.plots.OKABE_ITO[0], label="training")
    bars.bar(places + 0.2, list(new.values()), 0.4, color=xpnn.plots.OKABE_ITO[1], label="test")
    bars.set(title="Share right", xlabel="units", ylim=(0.8, 1.04))
    bars.legend(loc="upper left", ncols=2)
    times.bar(places, list(seconds.values()), color="0.6")
    times.set(title=f"Seconds for {epochs:,} epochs, five starts at once", xlabel="units")
    for ax in (bars, times):
        ax.set_xticks(places, widths)

    if not (new[2] < 0.93 and new[10] > new[2] + 0.03 and new[50] > 0.95):
        raise SystemExit(f"expected 2 units to be too few and 10 to be nearly enough, got {new}")
    if not abs(new[50] - new[10]) < 0.03 or known[50] < known[2]:
        raise SystemExit(f"expected more than 10 units to bring little, got {new}")
    print(
        f"Two units are too few for two moons ({new[2]:.1%} of new points), ten give {new[10]:.1%}, and fifty "
        f"{new[50]:.1%}: beyond a width that is enough, more brings little."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'moons_widths.png')}")


if __name__ == "__main__":
    main()
