"""A border forms: ten ReLU units, softmax, lr 0.5 and full batches on two moons, after 10, 100 and 1,000 epochs.

Run: python examples/boundary_by_epoch.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train on in three stages, draw each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="10, 100 and 500 epochs, for tests")
    parser.add_argument("--out", default="runs/boundary_by_epoch", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(1000, noise=0.2, seed=0)
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.25, seed=0)
    net = xpnn.mlp([2, 10, 2], "relu", backend=args.backend, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.5))
    figure = Figure(figsize=(14, 8), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    shares = []
    for ax, epochs in zip(axes, (10, 100, 500 if args.quick else 1000), strict=False):
        # fit goes on where it ended: the network, the optimizer and the count of epochs are the trainer's.
        trainer.fit(X_train, y_train, epochs=epochs - trainer.epoch, batch_size=len(X_train))
        shares.append(trainer.evaluate(X_test, y_test)["accuracy"])
        xpnn.plots.plot_decision_boundary(trainer, X_test, y_test, ax=ax, resolution=80 if args.quick else 200)
        ax.set_title(f"after {epochs} epochs: {shares[-1]:.1%} of the test points")
        print(f"after {epochs:4} epochs: loss {trainer.history['loss'][-1]:.3f}, {shares[-1]:.1%} of test points right")
    xpnn.plots.plot_history(trainer.history, ax=axes[3], names=["loss"])
    axes[3].set_title("Loss on the training points")
    if not shares[0] < shares[2] or not shares[2] >= 0.93:
        raise SystemExit(f"expected the border to get better and to end above 93 %, got {shares}")
    if not args.quick and not 0.97 <= shares[2] <= 0.99:
        raise SystemExit(f"expected about 98 % after 1,000 epochs, got {shares[2]:.1%}")
    print(
        f"The border starts almost straight ({shares[0]:.1%}), bends, and ends at {shares[2]:.1%} of the test points."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'boundary_by_epoch.png')}")


if __name__ == "__main__":
    main()
