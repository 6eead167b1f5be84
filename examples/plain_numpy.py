"""The network of a textbook in fifty lines of plain NumPy, beside xpnn: 2-16-8-1 on two moons, the same numbers.

The class writes out what the chapters derive: samples are columns, W is (units, inputs), sigmoid and cross-entropy.

Run: python examples/plain_numpy.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


class PlainNetwork:
    """Hidden layers of ReLU or tanh and one sigmoid; gradient descent on all samples at once."""

    def __init__(self, weights, biases, activation):
        self.W, self.b = [W.copy() for W in weights], [b.reshape(-1, 1).copy() for b in biases]
        self.activation = activation

    def forward(self, X):
        """All activations, the inputs first: A[l] = f(W[l] A[l-1] + b[l])."""
        self.A = [X]
        for W, b in zip(self.W[:-1], self.b[:-1], strict=True):
            Z = W @ self.A[-1] + b
            self.A.append(np.maximum(Z, 0.0) if self.activation == "relu" else np.tanh(Z))
        self.A.append(1.0 / (1.0 + np.exp(-(self.W[-1] @ self.A[-1] + self.b[-1]))))
        return self.A[-1]

    def cost(self, Y):
        """Mean cross-entropy of the outputs of the last forward pass."""
        return float(-np.mean(Y * np.log(self.A[-1]) + (1.0 - Y) * np.log(1.0 - self.A[-1])))

    def backward(self, Y):
        """Gradients to every W and b, from the error of the end, (A - Y) / m, downwards."""
        delta = (self.A[-1] - Y) / Y.shape[1]
        dW, db = [], []
        for layer in reversed(range(len(self.W))):
            below = self.A[layer]
            dW.insert(0, delta @ below.T)
            db.insert(0, delta.sum(axis=1, keepdims=True))
            slope = (below > 0.0) if self.activation == "relu" else 1.0 - below**2
            delta = (self.W[layer].T @ delta) * slope
        return dW, db

    def step(self, X, Y, rate):
        """One step of gradient descent; returns the cost before it."""
        self.forward(X)
        cost, (dW, db) = self.cost(Y), self.backward(Y)
        for k in range(len(self.W)):
            self.W[k] -= rate * dW[k]
            self.b[k] -= rate * db[k]
        return cost


def side_by_side(widths, activation, X, y, rate, epochs, backend):
    """Train both from equal weights; return the two courses of the cost, and the largest difference of a weight."""
    net = xpnn.mlp(widths, activation, backend=backend, dtype="float64", seed=0)
    names = [name for name in net.params if name.endswith("weight")]
    host = {name: xpnn.to_numpy(value) for name, value in net.params.items()}
    biases = [host[name.replace("weight", "bias")] for name in names]
    plain = PlainNetwork([host[name].T for name in names], biases, activation)
    theirs = [plain.step(X.T, y.reshape(1, -1), rate) for _ in range(epochs)]

    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=rate))
    ours = trainer.fit(X, y.reshape(-1, 1).astype(float), epochs=epochs, batch_size=len(X))["loss"]
    apart = max(np.abs(xpnn.to_numpy(net.params[n]) - W.T).max() for n, W in zip(names, plain.W, strict=True))
    return trainer, np.asarray(ours), np.asarray(theirs), float(apart)


def main() -> None:
    """Compare on XOR and on moons, score the chapter's recipe on new points, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/plain_numpy", help="folder for the picture")
    args = parser.parse_args()
    epochs = 300 if args.quick else 2000

    moons, new = xpnn.data.make_moons(500, noise=0.2, seed=0), xpnn.data.make_moons(500, noise=0.2, seed=1)
    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    border, curve = figure.subplots(1, 2)
    worst = 0.0
    cases = {"XOR, 2-4-1, tanh": ([2, 4, 1], "tanh", *xpnn.data.make_xor(), 0.5)}
    cases["two moons, 2-16-8-1, ReLU"] = ([2, 16, 8, 1], "relu", *moons, 0.1)
    for name, (widths, activation, X, y, rate) in cases.items():
        trainer, ours, theirs, apart = side_by_side(widths, activation, X, y, rate, epochs, args.backend)
        worst = max(worst, apart, float(np.abs(ours - theirs).max()))
        print(f"{name}: cost {ours[0]:.4f} to {ours[-1]:.4f} in {epochs} epochs; weights end {apart:.1e} apart")
        at = min(epochs, 500)
        if name.startswith("XOR"):
            print(f"after {at} epochs it is {theirs[at - 1]:.4f}, where a printed trace has 0.0865 after 500")
            if not theirs[at - 1] < 0.5 * 0.0865:
                raise SystemExit(f"expected less than half of the printed 0.0865, got {theirs[at - 1]:.4f}")
        (line,) = curve.plot(ours, label=name)
        marks = np.unique(np.geomspace(1, epochs, 12).astype(int)) - 1
        curve.plot(marks, theirs[marks], "o", color=line.get_color(), fillstyle="none")
    curve.plot([], [], "ko", fillstyle="none", label="plain NumPy")
    curve.set(title="Lines xpnn, rings plain NumPy", xlabel="epoch", ylabel="cost", xscale="log", yscale="log")
    curve.legend()
    score = trainer.evaluate(new[0], new[1].reshape(-1, 1).astype(float))["accuracy"]
    xpnn.plots.plot_decision_boundary(trainer, *new, ax=border, resolution=60 if args.quick else 150)
    border.set_title(f"2-16-8-1 after {epochs} epochs: {score:.1%} of new points right")
    if not worst < 1e-9:
        raise SystemExit(f"expected the same numbers from both, got {worst:.1e} between them")
    if not score > (0.85 if args.quick else 0.95):
        raise SystemExit(f"expected the recipe to learn the moons, got {score:.1%} of new points")
    print(
        f"From equal weights, plain NumPy and xpnn take the same way: after {epochs} full batches costs and weights "
        f"are {worst:.0e} apart, and 2-16-8-1 has {score:.1%} of new points right."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'plain_numpy.png')}")


if __name__ == "__main__":
    main()
