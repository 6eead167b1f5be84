"""Handwritten digits: which ones does the network confuse, and what do the ones it gets wrong look like?

Run: python examples/digits.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train with early stopping, then look at the mistakes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/digits", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.load_digits()
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.3, seed=0)
    net = xpnn.mlp([64, 64, 32, 10], "relu", backend=args.backend, seed=0)
    stopping = xpnn.EarlyStopping("val_loss", patience=8)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.005), callbacks=[stopping])
    trainer.fit(X_train, y_train, epochs=15 if args.quick else 60, batch_size=64, validation_fraction=0.15)
    accuracy = trainer.evaluate(X_test, y_test)["accuracy"]
    if accuracy < 0.95:
        raise SystemExit("expected at least 95 % of the test digits to be right")

    probabilities = xpnn.to_numpy(trainer.predict_proba(X_test))
    says = probabilities.argmax(axis=1)
    counts = xpnn.metrics.confusion_matrix(y_test, says)
    if np.trace(counts) != (says == y_test).sum() or counts.sum() != len(y_test):
        raise SystemExit("expected the confusion matrix to count every digit once")
    wrong = np.flatnonzero(says != y_test)
    off = counts - np.diag(np.diag(counts))
    pairs = sorted(((off[i, j], i, j) for i in range(10) for j in range(10) if off[i, j]), reverse=True)[:3]
    print("Most confused: " + ", ".join(f"{i} taken for {j}, {n} times" for n, i, j in pairs) + ".")

    figure = Figure(figsize=(13, 5.4), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.1, 1))
    ax = left.subplots()
    xpnn.plots.plot_confusion_matrix(counts, ax=ax)
    ax.set_title(f"{accuracy:.1%} of {len(y_test)} test digits are right")
    sure = wrong[np.argsort(-probabilities[wrong].max(axis=1))][:12]
    right.suptitle("Wrong, and the surest first")
    for ax in right.subplots(3, 4).ravel():
        ax.set_axis_off()
    for ax, i in zip(right.axes, sure, strict=False):
        ax.imshow(X_test[i].reshape(8, 8), cmap="Greys", vmin=0, vmax=1)
        ax.set_title(f"{y_test[i]} as {says[i]}, {probabilities[i].max():.0%}", fontsize=9)
    first = f"{y_test[sure[0]]} taken for {says[sure[0]]} ({probabilities[sure[0]].max():.0%} sure)"
    print(
        f"{accuracy:.1%} of {len(y_test)} test digits are right after {len(trainer.history)} epochs; "
        f"the surest mistake is a {first}."
    )
    drawn = {"digits": figure, "digits_curves": xpnn.plots.history_figure(trainer.history)}
    drawn["digits_weights"] = xpnn.plots.plot_weights(net, 0, kind="images").figure  # what each first unit looks for
    for name, picture in drawn.items():
        print(f"wrote {xpnn.plots.save_figure(picture, Path(args.out) / f'{name}.png')}")


if __name__ == "__main__":
    main()
