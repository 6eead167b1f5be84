"""Overfitting, and the gaps that L2, L1, dropout, early stopping and copies of the images leave, in loss and accuracy.

A few digits of 8x8 pixels; with XPNN_DATA set to a folder that holds MNIST, 5,000 of its images and the network
784-256-128-10 instead (not with --quick).

Run: python examples/regularization.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def load(quick):
    """Return few training rows, many validation rows, the hidden widths and the epochs."""
    if os.environ.get("XPNN_DATA") and not quick:
        mnist = xpnn.data.load_mnist()
        X, y = mnist.X_train, mnist.y_train  # the test images stay out: early stopping chooses by these others
        few, others = np.split(np.random.default_rng(0).permutation(len(X))[:15000], [5000])
        return X[few], y[few], X[others], y[others], [256, 128], 30
    X, y = xpnn.data.load_digits()
    order = np.random.default_rng(0).permutation(len(X))  # one writer's digits come in a row: mix them
    few, others = order[:150], order[800 : 1000 if quick else None]
    return X[few], y[few], X[others], y[others], [128, 64], 60 if quick else 150


def augmented(X, y):
    """The rows, and copies: shifted by one pixel each way, and with noise."""
    side = round(X.shape[1] ** 0.5)
    images = X.reshape(-1, side, side)
    copies = [X, X + 0.15 * np.random.default_rng(0).standard_normal(X.shape).astype(X.dtype)]
    for axis, by in ((1, 1), (1, -1), (2, 1), (2, -1)):
        copies.append(np.roll(images, by, axis).reshape(X.shape))  # the rim is paper: nothing wraps around
    return np.concatenate(copies), np.tile(y, len(copies))


def main() -> None:
    """Train without and with each remedy, compare the gaps between training and validation, in loss and accuracy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/regularization", help="folder for the picture")
    args = parser.parse_args()
    X, y, X_val, y_val, hidden, epochs = load(args.quick)
    remedies = {
        "none": {},
        "L2": {"regularizer": xpnn.L2(3e-3)},
        "L1": {"regularizer": xpnn.L1(1e-3)},
        "dropout 0.5": {"dropout": 0.5},
        "early stopping": {"callbacks": [xpnn.EarlyStopping("val_loss", patience=8)]},
        "augmentation": {},
    }
    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3, sharey=True).ravel()
    gaps, points, right, stopped, lr = {}, {}, {}, epochs, 0.001 if len(X) > 1000 else 0.005
    for ax, (name, options) in zip(axes, remedies.items(), strict=True):
        net = xpnn.mlp([X.shape[1], *hidden, 10], dropout=options.pop("dropout", 0.0), backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=lr), **options)
        rows, labels = augmented(X, y) if name == "augmentation" else (X, y)
        passes = epochs // 3 if name == "augmentation" else epochs  # twice the steps, for six times the rows
        history = trainer.fit(rows, labels, epochs=passes, batch_size=75, X_val=X_val, y_val=y_val)
        train, val = trainer.evaluate(X, y), trainer.evaluate(X_val, y_val)
        gaps[name], right[name] = val["loss"] - train["loss"], val["accuracy"]
        points[name] = 100 * (train["accuracy"] - val["accuracy"])
        print(
            f"{name:15}: loss {train['loss']:.3f} on training rows, {val['loss']:.3f} on others, gap {gaps[name]:.3f}; "
            f"accuracy {train['accuracy']:.1%} and {val['accuracy']:.1%}, gap {points[name]:.1f} points"
        )
        if name == "early stopping":
            stopped = len(history)
        for column, colour in (("loss", 0), ("val_loss", 1)):
            label = "validation" if column == "val_loss" else "training"
            ax.plot(history["epoch"], history[column], color=xpnn.plots.OKABE_ITO[colour], label=label)
        ax.set(
            title=f"{name}: gap {gaps[name]:.3f}, {points[name]:.1f} points of accuracy",
            xlabel="epoch",
            ylabel="cross-entropy",
            yscale="log",
        )
    axes[0].legend(loc="lower left")

    for name, gap in gaps.items():
        if name != "none" and not gap < gaps["none"]:
            raise SystemExit(f"{name}: expected it to shrink the gap of {gaps['none']:.3f}, got {gap:.3f}")
    if not stopped < epochs:
        raise SystemExit("expected early stopping to stop early")
    least = max(points, key=points.get)
    if not points[least] > points["none"]:
        raise SystemExit(f"expected some remedy to shrink the gap of loss and not that of accuracy, got {points}")
    print(
        f"Each remedy shrinks the gap in loss of {gaps['none']:.3f}, but not in accuracy: {points['none']:.1f} points "
        f"become {points[least]:.1f} with {least}; most images are right with {max(right, key=right.get)}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'regularization.png')}")


if __name__ == "__main__":
    main()
