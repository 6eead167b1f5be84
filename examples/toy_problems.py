"""Circles, spirals, a checkerboard: the smallest network that gets 95 % of new points right.

Run: python examples/toy_problems.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

# name: (maker, points, hidden layers to try from small to large, activation, learning rate, batch size, epochs)
PROBLEMS = {
    "circles": (xpnn.data.make_circles, 400, ([1], [2], [3], [4]), "tanh", 0.05, 50, 100),
    "spirals": (xpnn.data.make_spirals, 800, ([2], [4], [6], [8], [12]), "tanh", 0.05, 50, 250),
    "checkerboard": (xpnn.data.make_checkerboard, 4000, ([16], [8, 8], [16, 16], [24, 24]), "relu", 0.02, 100, 150),
}
QUICK = {"circles": (xpnn.data.make_circles, 300, ([2], [3]), "tanh", 0.08, 75, 80)}


def train(problem, hidden, backend):
    """Train five starts side by side; return the trainer, the test points and the accuracies on them."""
    make, n, _, activation, lr, batch_size, epochs = problem
    X, y = make(n, seed=0)
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.25, seed=0)
    net = xpnn.mlp([2, *hidden, 2], activation, backend=backend, seed=range(5))
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=lr), schedule=xpnn.CosineDecay())
    trainer.fit(X_train, y_train, epochs=epochs, batch_size=batch_size)
    return trainer, X_test, y_test, trainer.evaluate(X_test, y_test)["accuracy_replicas"]


def main() -> None:
    """Grow the network until the middle one of five starts reaches 95 %, draw its border."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="circles only, for tests")
    parser.add_argument("--out", default="runs/toy_problems", help="folder for the picture")
    args = parser.parse_args()

    problems = QUICK if args.quick else PROBLEMS
    figure = Figure(figsize=(5.5 * len(problems), 4.5), layout="constrained")
    smallest = {}
    for ax, (name, problem) in zip(np.ravel(figure.subplots(1, len(problems))), problems.items(), strict=True):
        for hidden in problem[2]:
            trainer, X, y, shares = train(problem, hidden, args.backend)
            size = "-".join(map(str, [2, *hidden, 2]))
            print(f"{name:12} {size:10}: {np.median(shares):.1%} of new points, {min(shares):.1%} to {max(shares):.1%}")
            if np.median(shares) >= 0.95:
                smallest[name] = hidden
                break
        best = int(np.argmax(shares))
        xpnn.plots.plot_decision_boundary(
            lambda points, t=trainer, k=best: t.predict_proba(points)[k],
            X, y, ax=ax, output="probabilities", resolution=80 if args.quick else 200,
        )  # fmt: skip
        ax.set_title(f"{name}, {size}: {shares[best]:.1%} of new points")
    for name, problem in problems.items():
        if name not in smallest:
            raise SystemExit(f"{name}: expected one of the networks tried to reach 95 %")
        if smallest[name] == problem[2][0]:
            raise SystemExit(f"{name}: expected the smallest network tried to be too small")
    if smallest["circles"] != [3]:
        raise SystemExit("expected three units for the circles: a border around a point needs three pieces")
    found = ", ".join(f"{name} {'-'.join(map(str, [2, *hidden, 2]))}" for name, hidden in smallest.items())
    print(f"The smallest of the networks tried that reaches 95 %: {found}.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'toy_problems.png')}")


if __name__ == "__main__":
    main()
