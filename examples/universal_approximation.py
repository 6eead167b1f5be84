"""One hidden layer can follow any curve if it is wide enough: a wave fitted with 1 to 32 tanh units.

Run: python examples/universal_approximation.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Fit by width, draw the fits and the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer widths and epochs, for tests")
    parser.add_argument("--out", default="runs/universal_approximation", help="folder for the picture")
    args = parser.parse_args()

    x = np.linspace(-2, 2, 160).reshape(-1, 1)
    y = np.sin(2 * x) + 0.3 * x
    widths, epochs = ((1, 4, 16), 100) if args.quick else ((1, 2, 4, 8, 16, 32), 500)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(x, y, color="black", linewidth=4, alpha=0.25, label="the curve")
    errors = {}
    for width, colour in zip(widths, xpnn.plots.OKABE_ITO, strict=False):
        # Of three starts the best counts: the question is what a width can express, not how lucky a start is.
        net = xpnn.mlp([1, width, 1], "tanh", backend=args.backend, seed=range(3))
        trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(lr=0.05), schedule=xpnn.CosineDecay())
        trainer.fit(x, y, epochs=epochs, batch_size=20)
        results = trainer.evaluate(x, y)["loss_replicas"]
        best = int(np.argmin(results))
        errors[width] = float(np.sqrt(results[best]))
        fit = xpnn.to_numpy(net.predict(x))[best]
        left.plot(x, fit, color=colour, label=f"{width} unit{'s' * (width > 1)}")
        print(f"{width:2} tanh units: off by {errors[width]:.4f} (root mean square)")
    left.set(title="Fits by width", xlabel="x", ylabel="y")
    left.legend(loc="upper left", fontsize=8)
    left.set_ylim(-1.8, 2.8)
    right.plot(list(errors), list(errors.values()), color=xpnn.plots.OKABE_ITO[0], marker="o")
    right.set(title="Error by width", xlabel="tanh units in the hidden layer", ylabel="root mean square error")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(widths, widths)
    best = min(errors, key=errors.get)
    gain = errors[1] / errors[best]
    if gain < 10 or errors[widths[-1]] > 0.1 * errors[1]:
        raise SystemExit(f"expected width to bring the error down tenfold, got {errors}")
    print(f"From 1 to {best} units the error falls {gain:.0f}-fold: width buys accuracy, while training finds its use.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'universal_approximation.png')}")


if __name__ == "__main__":
    main()
