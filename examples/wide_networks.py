"""Random networks, before any training: the wider they are, the more their outputs are a Gaussian process.

Outputs of many networks with He's weights at two inputs: the sum over units becomes normal, with the covariance that
Cho and Saul (2009) give in closed form for ReLU.

Run: python examples/wide_networks.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import HeNormal


def outputs(width, count, x, backend):
    """Return what `count` random networks say of the rows of `x`, (count, rows)."""
    net = xpnn.mlp([2, width, 1], "relu", init=HeNormal(), backend=backend, dtype="float64", seed=range(count))
    return xpnn.to_numpy(net.predict(x))[..., 0]


def kernel(x, z):
    """Covariance of the outputs at x and z in the limit: 2 E[relu(u) relu(v)] of normal u, v with He's variances."""
    lengths = np.linalg.norm(x) * np.linalg.norm(z)
    angle = math.acos(min(1.0, float(x @ z) / lengths))
    return 2 * lengths / (2 * math.pi) * (math.sin(angle) + (math.pi - angle) * math.cos(angle))


def main() -> None:
    """Compare the law of the outputs with the normal one, and their covariance with the formula."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer networks, for tests")
    parser.add_argument("--out", default="runs/wide_networks", help="folder for the picture")
    args = parser.parse_args()

    count = 1000 if args.quick else 6000
    x = np.asarray([[1.0, 0.0], [0.6, 0.8], [-0.8, 0.6]])
    limit = np.asarray([[kernel(a, b) for b in x] for a in x])
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    excess = {}
    for ax, width in zip(axes, (1, 10, 200), strict=True):
        y = outputs(width, count, x, args.backend)
        excess[width] = float(((y[:, 0] / y[:, 0].std()) ** 4).mean() - 3)  # of a normal law: 0
        covariance = y.T @ y / count
        print(f"{width:3} units: excess kurtosis {excess[width]:5.2f}, covariance at two inputs {covariance[0, 1]:.3f}")
        ax.hist(y[:, 0], bins=np.linspace(-4, 4, 61), density=True, color=xpnn.plots.OKABE_ITO[0], alpha=0.6)
        t = np.linspace(-4, 4, 200)
        s2 = limit[0, 0]
        ax.plot(t, np.exp(-(t**2) / 2 / s2) / math.sqrt(2 * math.pi * s2), color="black", label="normal law")
        ax.set(
            title=f"{width} unit{'s' * (width > 1)}: excess kurtosis {excess[width]:.1f}", xlabel="output", ylim=(0, 1)
        )
        ax.legend()
    off = float(np.abs(covariance - limit).max())
    print(f"covariance by the formula {limit[0, 1]:.3f}; at 200 units all nine entries are within {off:.3f}")
    if not excess[1] > 3 > excess[10] > abs(excess[200]) or abs(excess[200]) > 0.4:
        raise SystemExit(f"expected the outputs to become normal with width, got {excess}")
    if off > (0.12 if args.quick else 0.06):
        raise SystemExit(f"expected the covariance of the formula, got {covariance} in place of {limit}")
    print(
        f"The excess kurtosis of a random network's output falls from {excess[1]:.1f} with one unit to "
        f"{excess[200]:.1f} with 200, and its covariance is that of a Gaussian process."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'wide_networks.png')}")


if __name__ == "__main__":
    main()
