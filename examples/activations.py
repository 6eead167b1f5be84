"""Activation functions, their slopes against finite differences, and the flat regions where they saturate.

Run: python examples/activations.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

FUNCTIONS = (
    xpnn.Identity, xpnn.Sigmoid, xpnn.Tanh, xpnn.ReLU, xpnn.LeakyReLU, xpnn.PReLU, xpnn.ELU, xpnn.SELU, xpnn.GELU,
    xpnn.SiLU, xpnn.Mish, xpnn.Softplus,
)  # fmt: skip
NOWHERE_FLAT = (xpnn.Identity, xpnn.PReLU)  # PReLU starts with a slope of 0.25 below zero


def value_and_slope(kind, z, backend):
    """The function and its derivative at the numbers z, each sample alone."""
    net = xpnn.Sequential(kind(), n_in=1, backend=backend, dtype="float64")
    y, caches = net.forward(z.reshape(-1, 1))
    slope = net.backward(np.ones((len(z), 1)), caches, need_dx=True)
    return xpnn.to_numpy(y).ravel(), xpnn.to_numpy(slope).ravel()


def main() -> None:
    """Check every slope, draw every function."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    parser.add_argument("--out", default="runs/activations", help="folder for the picture")
    args = parser.parse_args()

    z = np.linspace(-5, 5, 500)  # an even number of points: none lies on the kink at 0
    figure = Figure(figsize=(12, 8.5), layout="constrained")
    worst, h = 0.0, 1e-6
    for ax, kind in zip(figure.subplots(3, 4).ravel(), FUNCTIONS, strict=True):
        _, slope = value_and_slope(kind, z, args.backend)
        up, down = (value_and_slope(kind, z + d, args.backend)[0] for d in (h, -h))
        difference = np.abs((up - down) / (2 * h) - slope).max()
        worst = max(worst, difference)
        far, _ = value_and_slope(kind, np.asarray([-1e4, 1e4]), args.backend)
        if not np.isfinite(far).all():
            raise SystemExit(f"{kind.__name__}: expected finite values at 10,000")
        flat = np.abs(slope) < 0.05
        if flat[0] == (kind in NOWHERE_FLAT) or flat[-1] != (kind in (xpnn.Sigmoid, xpnn.Tanh)):
            raise SystemExit(f"{kind.__name__}: expected it to be flat elsewhere")
        print(f"{kind.__name__:10}: slope from {slope.min():+.2f} to {slope.max():+.2f}, flat on {flat.mean():4.0%}")
        xpnn.plots.plot_activation(kind(), ax=ax, span=(-5, 5))
        ax.set(title=kind.__name__, ylim=(-1.9, 3))
    if worst > 1e-8:
        raise SystemExit("expected every derivative to agree with the differences")
    print(f"{len(FUNCTIONS)} derivatives are within {worst:.0e} of central differences; all is finite at ±10,000.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'activations.png')}")


if __name__ == "__main__":
    main()
