"""Train a small network on two interleaved half moons and draw what it learned.

Run: python examples/moons.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import xpnn


def main() -> None:
    """Train, report, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/moons", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(1000, noise=0.2, seed=0)
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.3, seed=0)

    net = xpnn.mlp([2, 32, 32, 2], activation="tanh", backend=args.backend, seed=0)
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), schedule=xpnn.CosineDecay())
    trainer.fit(X_train, y_train, epochs=40 if args.quick else 100, batch_size=32, X_val=X_test, y_val=y_test)
    scores = trainer.evaluate(X_test, y_test)
    print(f"{net.n_params} parameters on {net.backend.spec}: {scores['accuracy']:.1%} of the test points are right")

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    xpnn.plots.plot_decision_boundary(trainer, X_test, y_test, ax=left)
    left.set_title("Probability of each class, test points on top")
    xpnn.plots.plot_history(trainer.history, ax=right)
    right.set_title("Loss")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'moons.png')}")


if __name__ == "__main__":
    main()
