"""What a network has learnt serves another question: its hidden layer is a better view of an image than its pixels.

A network learns which digit an image shows.  Then the question changes, is it above four?, and only few images have the
answer.  A line on the hidden layer needs fewer of them than a line, or a network, on the pixels.

Run: python examples/transfer.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

TRAIN = 1000  # images; the others are new to all


def hidden(net, X):
    """Return what the last hidden layer makes of images: representations of shape (n, 32)."""
    x = net.backend.asarray(X, dtype=net.backend.dtype)
    for layer in net.layers[:4]:
        x, _ = layer.forward(x)
    return xpnn.to_numpy(x)


def fit(sizes, X, y, labelled, seed, backend):
    """Train on the images that have an answer; return the share of new images that come out right."""
    net = xpnn.mlp(sizes, seed=seed, backend=backend)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01))
    trainer.fit(X[labelled], y[labelled], epochs=60, batch_size=10)
    return trainer.evaluate(X[TRAIN:], y[TRAIN:])["accuracy"]


def main() -> None:
    """Learn the digits, then ask something else."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer numbers of images and seeds, for tests")
    parser.add_argument("--out", default="runs/transfer", help="folder for the picture")
    args = parser.parse_args()
    counts, seeds = ([40], range(3)) if args.quick else ([20, 40, 100, 300], range(5))

    X, digit = xpnn.data.load_digits()
    net = xpnn.mlp([64, 64, 32, 10], seed=0, backend=args.backend)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.005))
    trainer.fit(X[:TRAIN], digit[:TRAIN], epochs=30, batch_size=32)

    above = (digit > 4).astype(int)
    views = {
        "a line on pixels": (X, [64, 2]),
        "a network on pixels": (X, [64, 64, 32, 2]),
        "a line on the hidden layer": (hidden(net, X), [32, 2]),
    }
    rows = [[np.random.default_rng(seed).permutation(TRAIN)[:n] for seed in seeds] for n in counts]
    right = {
        name: [
            np.mean([fit(sizes, data, above, some, seed, args.backend) for seed, some in zip(seeds, own, strict=True)])
            for own in rows
        ]
        for name, (data, sizes) in views.items()
    }
    for name, scores in right.items():
        print(f"{name:27}", ", ".join(f"{n} images: {score:.1%}" for n, score in zip(counts, scores, strict=True)))

    figure = Figure(figsize=(7, 4), layout="constrained")
    ax = figure.subplots()
    for color, (name, scores) in zip(xpnn.plots.OKABE_ITO, right.items(), strict=False):
        ax.plot(counts, scores, "o-", color=color, label=name)
    ax.set(xlabel="images with the answer", ylabel="share of new images right", title="Is the digit above four?")
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(n) for n in counts])
    ax.minorticks_off()
    ax.legend()

    place = counts.index(40)
    line, network, moved = (scores[place] for scores in right.values())
    if not moved > max(line, network) + 0.03:
        raise SystemExit(f"expected the hidden layer to be the better view of 40 images, got {right}")
    print(
        f"With 40 answers to a new question a line on what another network has learnt is right for {moved:.0%} of new "
        f"images, a network on the pixels for {network:.0%}, a line on them for {line:.0%}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'transfer.png')}")


if __name__ == "__main__":
    main()
