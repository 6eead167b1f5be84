"""Planted bugs are caught: gradients by hand against gradients by differences.

Each class below makes one of the mistakes that people make when they write backpropagation.

Run: python examples/gradient_check.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.testing import check_gradients


class SumInsteadOfMean(xpnn.MeanSquaredError):
    """Forgets to divide the gradient by the number of rows."""

    def value_and_grad(self, pred, y, weight=None):
        value, d = super().value_and_grad(pred, y, weight)
        return value, d * pred.shape[-2]


class MissingTranspose(xpnn.Linear):
    """Hands the gradient down through W where it should be W transposed (square, so the shapes do not tell)."""

    def backward(self, dy, cache, *, need_dx=True):
        super().backward(dy, cache, need_dx=need_dx)
        return dy @ self.params["weight"]


class WrongDerivative(xpnn.Sigmoid):
    """Takes a where the slope is a (1 - a)."""

    def backward(self, dy, cache, *, need_dx=True):
        return dy * cache


class ForgottenBias(xpnn.Linear):
    """Leaves the gradient of the bias at zero."""

    def backward(self, dy, cache, *, need_dx=True):
        dx = super().backward(dy, cache, need_dx=need_dx)
        self.grads["bias"][...] = 0.0
        return dx


class StaleCache(xpnn.Tanh):
    """Keeps what its first forward pass saw instead of taking the cache that it is handed."""

    def forward(self, x, *, train=False, key=None):
        y, cache = super().forward(x, train=train, key=key)
        self.kept = getattr(self, "kept", cache)
        return y, None

    def backward(self, dy, cache, *, need_dx=True):
        return super().backward(dy, self.kept, need_dx=need_dx)


def main() -> None:
    """Check the right network and each wrong one, draw the errors with the limits of the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer elements of each matrix, for tests")
    parser.add_argument("--out", default="runs/gradient_check", help="folder for the picture")
    args = parser.parse_args()

    rng, elements = np.random.default_rng(0), 5 if args.quick else 200
    x, y = rng.standard_normal((6, 3)), rng.standard_normal((6, 2))
    right = {"middle": xpnn.Linear, "activation": xpnn.Sigmoid, "last": xpnn.Tanh, "loss": xpnn.MeanSquaredError}
    cases = {
        "all right": {},
        "missing 1/m": {"loss": SumInsteadOfMean},
        "missing transpose": {"middle": MissingTranspose},
        "wrong derivative": {"activation": WrongDerivative},
        "forgotten bias": {"middle": ForgottenBias},
        "stale cache": {"last": StaleCache},
        "right, with L2": {"penalty": xpnn.L2},
    }
    worst, groups = {}, {}
    for name, changes in cases.items():
        part = right | changes
        net = xpnn.Sequential(
            xpnn.Linear(4), part["activation"](), part["middle"](4), part["last"](), xpnn.Linear(2),
            n_in=3, backend=args.backend, dtype="float64", seed=1,
        )  # fmt: skip
        net.forward(x + 1.0)  # an earlier batch
        penalty = part["penalty"](0.1) if "penalty" in part else None
        report = check_gradients(net, part["loss"](), x, y, regularizer=penalty, max_elements=elements)
        groups[name] = report.rel_error.values()
        worst[name] = max(report.max_rel_error, 1e-12)
        bad = [row["parameter"] for row in report.rows() if row["verdict"] == "bug"]
        print(f"{name:21}: {report.verdict:9} {report.max_rel_error:.1e}  {', '.join(bad)}")
        if (report.verdict == "bug") != ("right" not in name) or (not bad and report.verdict != "excellent"):
            raise SystemExit(f"{name}: the check did not tell right from wrong")
    if not worst["forgotten bias"] > 0.9:
        raise SystemExit("expected a gradient that is left out to be wrong altogether")

    figure = Figure(figsize=(8, 5), layout="constrained")
    ax = figure.subplots()
    colours = [xpnn.plots.OKABE_ITO[2 if "right" in name else 1] for name in worst]
    ax.barh(list(worst), list(worst.values()), left=0, color=colours, alpha=0.35)
    for name, errors in groups.items():
        ax.plot(np.maximum(list(errors), 1e-12), [name] * len(errors), "o", color="black", markersize=4)
    for limit, text in ((1e-7, "excellent"), (1e-5, "good"), (1e-3, "suspicious")):
        ax.axvline(limit, color="black", linestyle=":", linewidth=1)
        ax.text(limit / 1.3, -0.85, text, ha="right", va="center", fontsize=8)
    ax.text(1.3e-3, -0.85, "bug", va="center", fontsize=8)
    ax.set(xscale="log", xlim=(1e-12, 3), ylim=(6.6, -1.2))
    ax.set_xlabel("relative error of each weight matrix and bias (dots); bar: the largest")
    ax.set_title("A gradient check tells a right backward pass from a wrong one")
    print("The right network passes, with a penalty too, and each planted bug is called one, with what it spoils.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'gradient_check.png')}")


if __name__ == "__main__":
    main()
