"""Layer norm works on each row, batch norm on each column: both wake a dull start, and one of them reads faded images.

Run: python examples/normalization.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Normal


def look(layer, x, backend):
    """The layer's output for a batch x, and for its first three rows alone, while training."""
    net = xpnn.Sequential(layer, n_in=x.shape[1], backend=backend, dtype="float64")
    out, _ = net.forward(x, train=True)
    report = xpnn.testing.check_gradients(net, xpnn.MeanSquaredError(), x, np.ones_like(x))
    if report.verdict != "excellent":
        raise SystemExit(f"{layer!r}: expected the gradients to be right, got {report}")
    few, _ = net.forward(x[:3], train=True)
    return np.array(xpnn.to_numpy(out)), np.array(xpnn.to_numpy(few))


def main() -> None:
    """Check what each normalizes, then train with and without."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer layers and epochs, for tests")
    parser.add_argument("--out", default="runs/normalization", help="folder for the picture")
    args = parser.parse_args()

    x = 3 + np.random.default_rng(0).standard_normal((16, 8)) * np.linspace(0.5, 4, 8)
    kinds = {"batch norm": xpnn.BatchNorm(), "layer norm": xpnn.LayerNorm(), "RMS norm": xpnn.RMSNorm()}
    figure = Figure(figsize=(14, 4.4), layout="constrained")
    *axes, curves, bars = figure.subplots(1, 6, width_ratios=(1, 1, 1, 1, 2.6, 2.6))
    pictures = {"input": x}
    for name, layer in kinds.items():
        pictures[name], few = look(layer, x, args.backend)
        out = pictures[name]
        columns, rows = np.abs(out.mean(axis=0)).max(), np.abs(out.mean(axis=1)).max()
        alone = np.abs(few - out[:3]).max()
        print(
            f"{name:10}: means of columns up to {columns:.2f}, of rows up to {rows:.2f}; "
            f"in another batch the same rows come out {alone:.2f} different"
        )
        if name == "batch norm" and not (columns < 1e-9 and rows > 0.1 and alone > 0.1):
            raise SystemExit("expected batch norm to centre columns, and rows to depend on their batch")
        if name == "layer norm" and not (rows < 1e-9 and columns > 0.1 and alone < 1e-12):
            raise SystemExit("expected layer norm to centre rows, each for itself")
        if name == "RMS norm" and not (np.abs((out**2).mean(axis=1) - 1).max() < 1e-4 and alone < 1e-12):
            raise SystemExit("expected RMS norm to bring the mean square of each row to 1")
    formula = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    if np.abs(pictures["layer norm"] - formula).max() > 1e-12:
        raise SystemExit("expected layer norm to be (x - mean) / sqrt(variance + 1e-5)")
    for ax, (name, picture) in zip(axes, pictures.items(), strict=True):
        shown = ax.imshow((picture - picture.mean()) / picture.std(), cmap="PuOr", vmin=-3, vmax=3, aspect="auto")
        ax.set(title=name, xlabel="feature", xticks=[], yticks=[])
    axes[0].set_ylabel("row (one sample each)")
    figure.colorbar(shown, ax=axes, location="bottom", shrink=0.4, label="deviations from the mean of all")

    norms = {"no norm": None, "batch norm": "batch", "layer norm": "layer", "RMS norm": "rms"}
    colours = dict(zip(norms, ("0.4", *xpnn.plots.OKABE_ITO), strict=False))
    X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    epochs, ends = 20 if args.quick else 60, {}
    for name, norm in norms.items():
        net = xpnn.mlp([2, *[16] * 6, 2], norm=norm, init=Normal(0.02), backend=args.backend, seed=range(3))
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01))
        losses = trainer.fit(X, y, epochs=epochs, batch_size=50)["loss"]
        ends[name] = losses[-1]
        curves.plot(range(1, epochs + 1), losses, color=colours[name], label=name)
        print(f"six ReLU layers from N(0, 0.02²), {name:10}: loss {losses[-1]:.3f} after {epochs} epochs")
    curves.set(title="Six ReLU layers from N(0, 0.02²), moons", xlabel="epoch", ylabel="cross-entropy", ylim=(0, 0.95))
    curves.legend(loc="upper center", ncols=2)
    if ends["no norm"] < 0.69 or max(ends[n] for n in norms if n != "no norm") > 0.5:
        raise SystemExit(f"expected the network to learn with norms only, got losses {ends}")

    X, y = xpnn.data.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:1000], order[1000:]
    faded = 0.3 * X[test] + 0.5  # the same images, paler and on grey paper
    shares = {}
    for k, (name, layers) in enumerate(
        {"no norm": [], "batch norm": [xpnn.BatchNorm()], "layer norm": [xpnn.LayerNorm()]}.items()
    ):
        net = xpnn.Sequential(*layers, xpnn.Linear(32), xpnn.ReLU(), xpnn.Linear(10), n_in=64, backend=args.backend)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01))
        trainer.fit(X[train], y[train], epochs=8 if args.quick else 25, batch_size=50)
        shares[name] = [trainer.evaluate(rows, y[test])["accuracy"] for rows in (X[test], faded)]
        bars.bar(np.arange(2) + 0.27 * (k - 1), shares[name], 0.27, color=colours[name], label=name)
        print(
            f"digits, {name:10}: {shares[name][0]:.1%} of new images right, {shares[name][1]:.1%} when they are faded"
        )
    bars.set(title="Digits, the norm on the inputs", ylabel="share of new images right", ylim=(0, 1.25))
    bars.set_xticks(range(2), ["as they are", "faded"])
    bars.legend(loc="upper center", ncols=3, fontsize=8)
    if not (shares["layer norm"][1] > 0.9 and max(shares["no norm"][1], shares["batch norm"][1]) < 0.7):
        raise SystemExit(f"expected only layer norm to see through faded images, got {shares}")
    print(
        f"From a start without a norm that learns nothing (loss {ends['no norm']:.2f}) layer norm reaches "
        f"{ends['layer norm']:.2f} and batch norm {ends['batch norm']:.2f}; on faded images layer norm is right on "
        f"{shares['layer norm'][1]:.0%}, batch norm on {shares['batch norm'][1]:.0%}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'normalization.png')}")


if __name__ == "__main__":
    main()
