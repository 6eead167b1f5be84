"""What a network takes for granted: shuffled pixels are learnt as well; where a line will do, a network adds nothing.

An MLP has no idea that pixels have neighbours.  A convolution has, and shuffling would take that from it; so has a line
an idea of its own, and where the idea is right it needs no more.

Run: python examples/inductive_bias.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

STARTS = 5


def fit(net, X, y, X_new, y_new, epochs):
    """Train all starts; return each one's share right on new images."""
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.005))
    trainer.fit(X, y, epochs=epochs, batch_size=32)
    return np.asarray(trainer.evaluate(X_new, y_new)["accuracy_replicas"])


def main() -> None:
    """Shuffle pixels, compare with a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/inductive_bias", help="folder for the picture")
    args = parser.parse_args()
    epochs = 15 if args.quick else 40
    make = {"backend": args.backend, "seed": range(STARTS)}

    X, y = xpnn.data.load_digits()
    train, new = slice(0, 900), slice(900, None)
    order = np.random.default_rng(0).permutation(64)
    pixels = {}
    for name, seen in (("as they are", X), ("shuffled", X[:, order])):
        pixels[name] = fit(xpnn.mlp([64, 32, 10], **make), seen[train], y[train], seen[new], y[new], epochs)
        print(f"pixels {name:11}: {pixels[name].mean():.1%} of new digits right")

    # Two clouds that a line parts: a network of 32 units has nothing to add.
    rng = np.random.default_rng(0)
    side = np.arange(600) % 2
    clouds = rng.standard_normal((600, 2)) + 2.0 * side[:, None] - 1.0
    line = {
        name: fit(xpnn.mlp(sizes, **make), clouds[:200], side[:200], clouds[200:], side[200:], 60)
        for name, sizes in {"a line": [2, 2], "32 units": [2, 32, 2]}.items()
    }
    print(", ".join(f"two clouds, {name}: {scores.mean():.1%}" for name, scores in line.items()))

    figure = Figure(figsize=(13, 3.6), layout="constrained")
    titles = ("Digits, pixels as they are or shuffled", "Two clouds, where a line will do")
    image, mixed, *axes = figure.subplots(1, 4, width_ratios=(1, 1, 2, 2))
    image.imshow(X[0].reshape(8, 8), cmap="Greys")
    mixed.imshow(X[0][order].reshape(8, 8), cmap="Greys")
    image.set_title("A zero")
    mixed.set_title("The same, shuffled")
    for ax, title, bars in zip(axes, titles, (pixels, line), strict=True):
        for k, (name, scores) in enumerate(bars.items()):
            ax.bar(name, scores.mean(), color=xpnn.plots.OKABE_ITO[k])
            ax.plot([name] * STARTS, scores, "o", color="black", markersize=4)
        ax.set(title=title, ylabel="share of new rows right", ylim=(0, 1.05))

    if not abs(pixels["as they are"].mean() - pixels["shuffled"].mean()) < 0.02:
        raise SystemExit(f"expected shuffled pixels to be learnt as well, got {pixels}")
    if not line["32 units"].mean() < line["a line"].mean() + 0.01:
        raise SystemExit(f"expected a line to be as good as 32 units, got {line}")
    print(
        f"To an MLP shuffled pixels are as good as any ({pixels['shuffled'].mean():.1%} and "
        f"{pixels['as they are'].mean():.1%} of new digits right); where a line will do, 32 units add nothing "
        f"({line['a line'].mean():.1%} and {line['32 units'].mean():.1%})."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'inductive_bias.png')}")


if __name__ == "__main__":
    main()
