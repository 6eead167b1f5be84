"""A whole network in forty lines of NumPy, beside xpnn from the same first weights: each loss is the same.

Ten ReLU units and softmax on two moons, full batches at rate 0.5, rows as samples: what every course begins with.

Run: python examples/two_layer_net.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


class TwoLayerNet:
    """n_in - ReLU units - classes, with softmax and cross-entropy, by hand."""

    def __init__(self, w1, b1, w2, b2):
        self.params = [np.array(p, dtype=np.float64) for p in (w1, b1, w2, b2)]

    def forward(self, X):
        """Return the probabilities, and what the way back needs."""
        w1, b1, w2, b2 = self.params
        z1 = X @ w1 + b1
        a1 = np.maximum(z1, 0)
        z2 = a1 @ w2 + b2
        e = np.exp(z2 - z2.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True), z1, a1

    def gradients(self, X, y):
        """Return the loss and its gradient to each parameter."""
        p, z1, a1 = self.forward(X)
        rows = np.arange(len(y))
        d2 = p.copy()
        d2[rows, y] -= 1
        d2 /= len(y)
        d1 = (d2 @ self.params[2].T) * (z1 > 0)
        return -np.log(p[rows, y]).mean(), [X.T @ d1, d1.sum(axis=0), a1.T @ d2, d2.sum(axis=0)]

    def fit(self, X, y, epochs, lr):
        """Go downhill; return the loss before each step."""
        losses = []
        for _ in range(epochs):
            loss, gradients = self.gradients(X, y)
            for p, g in zip(self.params, gradients, strict=True):
                p -= lr * g
            losses.append(loss)
        return losses


def main() -> None:
    """Train both, compare every loss and the last weights, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/two_layer_net", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(1000, noise=0.2, seed=0)
    X_train, X_test, y_train, y_test = xpnn.data.train_test_split(X, y, test_size=0.25, seed=0)
    X_train, X_test = (np.asarray(part, dtype=np.float64) for part in (X_train, X_test))
    epochs = 300 if args.quick else 1000
    net = xpnn.mlp([2, 10, 2], "relu", backend=args.backend, dtype="float64", seed=0)
    names = ("0.weight", "0.bias", "2.weight", "2.bias")
    by_hand = TwoLayerNet(*(xpnn.to_numpy(net.params[name]) for name in names))
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.5))

    ours = trainer.fit(X_train, y_train, epochs=epochs, batch_size=len(X_train))["loss"]
    theirs = by_hand.fit(X_train, y_train, epochs, lr=0.5)
    gaps = np.abs(np.subtract(ours, theirs))
    last = max(
        float(np.abs(xpnn.to_numpy(net.params[n]) - p).max()) for n, p in zip(names, by_hand.params, strict=True)
    )
    share = float((by_hand.forward(X_test)[0].argmax(axis=1) == y_test).mean())
    same = trainer.evaluate(X_test, y_test)["accuracy"]
    print(f"loss {theirs[0]:.4f} at first, {theirs[-1]:.4f} after {epochs} epochs, by hand and by xpnn")
    print(f"losses are {gaps.max():.0e} apart at most, the last weights {last:.0e}")

    figure = Figure(figsize=(13, 4), layout="constrained")
    curve, apart, border = figure.subplots(1, 3)
    curve.plot(range(1, epochs + 1), ours, color=xpnn.plots.OKABE_ITO[0], lw=4, alpha=0.5, label="xpnn")
    curve.plot(range(1, epochs + 1), theirs, "--", color="black", label="by hand")
    curve.set(title="Loss on training points", xlabel="epoch", ylabel="cross-entropy")
    curve.legend()
    apart.plot(range(1, epochs + 1), np.maximum(gaps, 1e-17), color=xpnn.plots.OKABE_ITO[1])
    apart.set(title="How far the two losses are apart", xlabel="epoch", yscale="log", ylim=(1e-17, 1e-10))
    xpnn.plots.plot_decision_boundary(
        lambda points: by_hand.forward(np.asarray(points, dtype=np.float64))[0],
        X_test, y_test, ax=border, output="probabilities", resolution=80 if args.quick else 200,
    )  # fmt: skip
    border.set_title(f"by hand: {share:.1%} of the test points")

    if gaps.max() > 1e-11 or last > 1e-9 or share != same:
        raise SystemExit(
            f"expected both to do the same, got losses {gaps.max()} apart, weights {last}, {share}, {same}"
        )
    if not share > (0.9 if args.quick else 0.97):
        raise SystemExit(f"expected about 98 % after 1,000 epochs, got {share:.1%}")
    print(
        f"Forty lines of NumPy and xpnn make the same {epochs:,} steps, to {gaps.max():.0e} in each loss, and get "
        f"{share:.1%} of the test points right."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'two_layer_net.png')}")


if __name__ == "__main__":
    main()
