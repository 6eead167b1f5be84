"""Two interleaved half moons, 300 points with little noise and 1,000 with more: at least 97 % of new points right.

Run: python examples/moons.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train on both, report, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/moons", help="folder for the picture")
    args = parser.parse_args()

    figure = Figure(figsize=(10, 8), layout="constrained")
    shares = {}
    for (n, noise), (left, right) in zip(((300, 0.1), (1000, 0.2)), figure.subplots(2, 2), strict=True):
        X, y = xpnn.data.make_moons(n, noise=noise, seed=0)
        X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.3, seed=0)
        net = xpnn.mlp([2, 32, 32, 2], activation="tanh", backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), schedule=xpnn.CosineDecay())
        trainer.fit(X_train, y_train, epochs=70 if args.quick else 100, batch_size=32, X_val=X_test, y_val=y_test)
        shares[n] = trainer.evaluate(X_test, y_test)["accuracy"]
        print(f"{n} points, noise {noise}: {net.n_params} parameters, {shares[n]:.1%} of the test points are right")
        resolution = 80 if args.quick else 200
        xpnn.plots.plot_decision_boundary(trainer, X_test, y_test, ax=left, resolution=resolution)
        left.set_title(f"{n} points, noise {noise}: {shares[n]:.1%} of the test points right")
        xpnn.plots.plot_history(trainer.history, ax=right, names=["loss", "val_loss"])
        right.set_title("Loss")
        if shares[n] < 0.97:
            raise SystemExit(f"{n} points: expected at least 97 % of the test points, got {shares[n]:.1%}")
    print(f"Of new points {shares[300]:.1%} are right with a noise of 0.1, {shares[1000]:.1%} with a noise of 0.2.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'moons.png')}")


if __name__ == "__main__":
    main()
