"""Gradients through many layers: sigmoids shrink them, ReLU + He and batch norm hold; skips cure vanishing alone.

Where no matrix stretches (orthogonal weights), each sigmoid multiplies the gradient by its slope, 0.25 at most, so
after L of them no more than 0.25^L is left.  That is a bound, and the script checks it.  A skip adds the gradient
itself to what a block sends down: the sum does not vanish, but it grows where the block keeps the size (He), and where
gradients explode it makes them explode the more.  Batch norm in each block is what keeps residual networks in bounds.

Run: python examples/vanishing_gradients.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import HeNormal, Normal, Orthogonal

NETWORKS = {
    "sigmoid, orthogonal": {"activation": "sigmoid", "init": Orthogonal()},
    "sigmoid, batch norm": {"activation": "sigmoid", "init": Orthogonal(), "norm": "batch"},
    "ReLU, N(0, 0.01²)": {"activation": "relu", "init": Normal(0.01)},
    "ReLU, N(0, 0.5²)": {"activation": "relu", "init": Normal(0.5)},
    "ReLU, He": {"activation": "relu", "init": HeNormal()},
    "sigmoid, residual": {"activation": "sigmoid", "init": Orthogonal(), "residual": True},
    "ReLU, He, residual": {"activation": "relu", "init": HeNormal(), "residual": True},
    "ReLU, N(0, 0.5²), residual": {"activation": "relu", "init": Normal(0.5), "residual": True},
    "ReLU, batch norm, residual": {"activation": "relu", "init": HeNormal(), "norm": "batch", "residual": True},
}


def gradient_by_block(depth, options, backend):
    """Norms of the gradient to the input of each hidden block, from the last to the first, over that at the top."""
    net = xpnn.mlp([32] * (depth + 2), backend=backend, dtype="float64", seed=0, **options)
    x = np.random.default_rng(0).standard_normal((64, 32))
    _, caches = net.forward(x, train=True)
    d = net.backend.asarray(np.random.default_rng(1).standard_normal((64, 32)))
    d = net.layers[-1].backward(d, caches[-1])
    norms = [np.linalg.norm(xpnn.to_numpy(d))]
    for layer, cache in zip(net.layers[-2::-1], caches[-2::-1], strict=True):
        d = layer.backward(d, cache)
        if isinstance(layer, xpnn.Linear | xpnn.Residual):
            norms.append(np.linalg.norm(xpnn.to_numpy(d)))
    return np.asarray(norms) / norms[0]


def main() -> None:
    """Measure each network, check the bound, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer layers, for tests")
    parser.add_argument("--out", default="runs/vanishing_gradients", help="folder for the picture")
    args = parser.parse_args()
    depth = 12 if args.quick else 30

    figure = Figure(figsize=(9, 5), layout="constrained")
    ax = figure.subplots()
    blocks = np.arange(depth + 1)
    ax.plot(blocks, 0.25**blocks, color="0.5", linestyle=":", label="0.25 for each layer")
    shares = {}
    colours = {}  # one for each network; dashed with skips
    for name, options in NETWORKS.items():
        shares[name] = gradient_by_block(depth, options, args.backend)
        skips = options.get("residual", False)
        colour = colours.setdefault(name.removesuffix(", residual"), xpnn.plots.OKABE_ITO[len(colours)])
        style = {"linestyle": "--" if skips else "-", "marker": "s" if skips else "o", "markersize": 3}
        ax.plot(blocks, shares[name], color=colour, label=name, **style)
        print(f"{name:27}: {shares[name][-1]:.1e} of the gradient arrives {depth} layers down")
    ax.set(yscale="log", xlabel="layers passed on the way down", ylabel="gradient's norm, relative to the top")
    ax.set_title("How much of the gradient is left")
    figure.legend(loc="outside right center")

    if not (shares["sigmoid, orthogonal"] <= 0.25**blocks * (1 + 1e-9)).all():
        raise SystemExit("expected sigmoids with orthogonal weights to keep at most 0.25 of the gradient each")
    for name in ("sigmoid, batch norm", "sigmoid, residual", "ReLU, He", "ReLU, batch norm, residual"):
        if not 1e-3 < shares[name][-1] < 1e3:
            raise SystemExit(f"{name}: expected the gradient to hold, got {shares[name][-1]:.1e} of it")
    if not shares["ReLU, N(0, 0.01²)"][-1] < 1e-12 or not shares["ReLU, N(0, 0.5²)"][-1] > 1e2:
        raise SystemExit("expected too small weights to make the gradient vanish, too large ones to make it explode")
    for name in ("ReLU, He", "ReLU, N(0, 0.5²)"):
        worse = shares[f"{name}, residual"][-1]
        if not worse > 3 * shares[name][-1]:
            raise SystemExit(f"{name}: expected skips to make the gradient larger, got {worse:.1e}")
    grown = [shares[name][-1] for name in NETWORKS if name.startswith("ReLU, N(0, 0.5²)")]
    print(
        f"Sigmoids leave less than 0.25^{depth} = {0.25**depth:.0e}; with skips {shares['sigmoid, residual'][-1]:.1f} "
        f"arrives, but where gradients explode, skips make {grown[0]:.0e} into {grown[1]:.0e}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'vanishing_gradients.png')}")


if __name__ == "__main__":
    main()
