"""An autoencoder squeezes digits of 64 pixels through 16 numbers and draws them again.

Run: python examples/autoencoder.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train 64-16-64 on the images themselves, compare with the mean image, draw originals and copies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/autoencoder", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.load_digits()
    X_train, X_test = X[:1300], X[1300:]
    encoder = [xpnn.Linear(16), xpnn.Tanh()]
    decoder = [xpnn.Linear(64)]
    net = xpnn.Sequential(*encoder, *decoder, n_in=64, backend=args.backend, seed=0)
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.Adam(lr=0.01), schedule=xpnn.CosineDecay())
    trainer.fit(X_train, X_train, epochs=20 if args.quick else 80, batch_size=64)

    copies = xpnn.to_numpy(net.predict(X_test))
    error = float(np.mean((copies - X_test) ** 2))
    baseline = float(np.mean((X_train.mean(axis=0) - X_test) ** 2))
    print(f"On {len(X_test)} new digits: mean squared error {error:.4f}; the mean image has {baseline:.4f}.")
    if not error < 0.35 * baseline:
        raise SystemExit("expected the copies to keep two thirds of the variance at least")

    # The encoder by itself: run its layers alone.
    code = net.backend.asarray(X_test)
    for layer in encoder:
        code, _ = layer.forward(code)
    if tuple(code.shape) != (len(X_test), 16):
        raise SystemExit("expected 16 numbers for each image")

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    pictures, curve = figure.subfigures(1, 2, width_ratios=(1.8, 1))
    shown = [int(np.flatnonzero(y[1300:] == digit)[0]) for digit in range(10)]
    grid = pictures.subplots(3, 10)
    for column, i in enumerate(shown):
        values = X_test[i].reshape(8, 8), xpnn.to_numpy(code)[i].reshape(4, 4), copies[i].reshape(8, 8)
        for ax, image, (low, high) in zip(grid[:, column], values, ((0, 1), (-1, 1), (0, 1)), strict=True):
            ax.imshow(image, cmap="Greys", vmin=low, vmax=high)
            ax.set_xticks([])
            ax.set_yticks([])
    for ax, name in zip(grid[:, 0], ("64 pixels", "16 numbers", "64 pixels"), strict=True):
        ax.set_ylabel(name)
    pictures.suptitle("Original, code, copy")
    ax = curve.subplots()
    xpnn.plots.plot_history(trainer.history, ax=ax, names=["loss"])
    ax.set_title("Mean squared error")
    print(f"16 numbers keep {1 - error / baseline:.0%} of what tells the images apart.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'autoencoder.png')}")


if __name__ == "__main__":
    main()
