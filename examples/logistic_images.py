"""Logistic regression is one neuron: images of 64 x 64 x 3 pixels, flattened to 12,288 inputs, and one sigmoid unit.

The images are made here: noise with a faint disc, reddish to the left or bluish to the right.

Run: python examples/logistic_images.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def make_images(n, rng):
    """Return n noisy images (n, 64, 64, 3) in [0, 1] and their classes, 0 left and 1 right."""
    y = np.arange(n) % 2
    rows, columns = np.mgrid[:64, :64]
    centre_row, centre_column = rng.uniform(24, 40, n), np.where(y == 0, 20, 44) + rng.uniform(-8, 8, n)
    distance = np.hypot(rows - centre_row[:, None, None], columns - centre_column[:, None, None])
    disc = np.clip(14 - distance, 0, 1)[..., None] * np.where(y[:, None, None, None] == 0, [0.3, 0, 0], [0, 0, 0.3])
    return np.clip(0.4 + 0.2 * rng.standard_normal((n, 64, 64, 3)) + disc, 0, 1).astype(np.float32), y


def main() -> None:
    """Flatten, train one unit, look at its weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer images and epochs, for tests")
    parser.add_argument("--out", default="runs/logistic_images", help="folder for the picture")
    args = parser.parse_args()

    images, y = make_images(200 if args.quick else 600, np.random.default_rng(0))
    X, targets = images.reshape(len(images), -1), y.reshape(-1, 1)
    cut = len(X) * 3 // 4
    net = xpnn.mlp([64 * 64 * 3, 1], init="zeros", backend=args.backend)
    print(f"{images.shape[1:]} is flattened to {X.shape[1]} inputs; one unit has {net.n_params} parameters.")
    if net.n_params != 12_289:
        raise SystemExit("expected 12,288 weights and a bias")
    mean = X[:cut].mean(axis=0)  # inputs around zero: else one direction, the brightness, drowns the others
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.005))
    trainer.fit(X[:cut] - mean, targets[:cut], epochs=20 if args.quick else 60, batch_size=30)
    accuracy = trainer.evaluate(X[cut:] - mean, targets[cut:])["accuracy"]
    if accuracy < 0.9:
        raise SystemExit(f"expected one unit to tell at least 90 % of new images, got {accuracy:.1%}")

    weights = xpnn.to_numpy(net.params["0.weight"]).reshape(64, 64, 3)
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    axes = figure.subplots(1, 5)
    for ax, i in zip(axes, (0, 1), strict=False):
        ax.imshow(images[i])
        ax.set_title(f"an image of class {y[i]}")
    size = np.abs(weights).max()
    for ax, channel, name in zip(axes[2:4], (0, 2), ("red", "blue"), strict=True):
        shown = ax.imshow(weights[..., channel], cmap="PuOr", vmin=-size, vmax=size)
        ax.set_title(f"weights on {name}")
    figure.colorbar(shown, ax=axes[3], shrink=0.7)
    for ax in axes[:4]:
        ax.set_axis_off()
    axes[4].plot(trainer.history["epoch"], trainer.history["loss"], color=xpnn.plots.OKABE_ITO[0])
    axes[4].set(title="Loss", xlabel="epoch", ylabel="binary cross-entropy", ylim=(0, None))
    print(f"One neuron tells {accuracy:.1%} of new images right; its weights show where it looks.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'logistic_images.png')}")


if __name__ == "__main__":
    main()
