"""One hidden layer can follow any curve if it is wide enough: a wave fitted with 1 to 32 tanh units.

It does so on the stretch that was fitted and nowhere else; and if its activation is a polynomial, it is a polynomial,
however wide.

Run: python examples/universal_approximation.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


class Square(xpnn.Layer):
    """y = x²: a polynomial."""

    def forward(self, x, *, train=False, key=None):
        return x * x, x

    def backward(self, dy, cache, *, need_dx=True):
        return 2.0 * dy * cache if need_dx else None


def limits(ax, epochs, backend):
    """Fit a wave by tanh and by squares, look beyond; return the errors inside and beyond, and those of a parabola."""
    x = np.linspace(-6, 6, 241)[:, None]
    y = np.cos(2 * x)
    inside = np.abs(x[:, 0]) <= 3
    ax.axvspan(-3, 3, color="0.92")
    ax.plot(x, y, color="black", alpha=0.25, linewidth=4, label="the curve")
    errors = {}
    for k, (name, bend) in enumerate({"tanh": xpnn.Tanh(), "square": Square()}.items()):
        net = xpnn.Sequential(xpnn.Linear(32), bend, xpnn.Linear(1), n_in=1, backend=backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(lr=0.02), schedule=xpnn.CosineDecay())
        trainer.fit(x[inside], y[inside], epochs=epochs, batch_size=11)
        fit = xpnn.to_numpy(net.predict(x))
        errors[name] = [float(np.sqrt(((fit - y)[rows] ** 2).mean())) for rows in (inside, ~inside)]
        ax.plot(x, fit, color=xpnn.plots.OKABE_ITO[k], label=f"32 units, {name}")
        print(f"{name:6}: off by {errors[name][0]:.2f} where it was fitted, by {errors[name][1]:.2f} beyond")
    ax.set(title="Fitted on the grey stretch alone", xlabel="x", ylim=(-2.2, 3.5))
    ax.legend(loc="upper left", fontsize=8)
    best = np.polyval(np.polyfit(x[inside, 0], y[inside, 0], 2), x[inside, 0])
    return errors, float(np.sqrt(((best - y[inside, 0]) ** 2).mean()))


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
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    left, right, beyond = figure.subplots(1, 3)
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
    errors, parabola = limits(beyond, 200 if args.quick else 600, args.backend)
    if not (errors["tanh"][0] < 0.2 and errors["tanh"][1] > 4 * errors["tanh"][0]):
        raise SystemExit(f"expected the fit to hold where it was fitted and nowhere else, got {errors}")
    if not parabola < 1.0001 * errors["square"][0]:
        raise SystemExit(f"expected squares to make no more than a parabola, got {errors}, {parabola}")
    print(
        f"From 1 to {best} units the error falls {gain:.0f}-fold: width buys accuracy, on the stretch "
        "that was fitted and for an activation that is no polynomial."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'universal_approximation.png')}")


if __name__ == "__main__":
    main()
