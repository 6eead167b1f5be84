"""One forward pass, number by number: two inputs, three ReLU units, one sigmoid.

With W1 = [[.1, .2], [.3, .4], [.5, .6]], b1 = [.1, .2, .3], W2 = [[.7, .8, .9]], b2 = .4 and x = [1, 2], pen and
paper give z1 = [.6, 1.3, 2.0], z2 = 3.66 and the output 0.97491.  On paper W has a row for each unit and acts on a
column x; here rows are samples and weights have the shape (n_in, n_out), so each matrix is transposed.

Run: python examples/forward_by_hand.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Compute on paper's way and on xpnn's, compare, draw the network with its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    parser.add_argument("--out", default="runs/forward_by_hand", help="folder for the picture")
    args = parser.parse_args()

    W1, b1 = np.asarray([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), np.asarray([0.1, 0.2, 0.3])
    W2, b2 = np.asarray([[0.7, 0.8, 0.9]]), np.asarray([0.4])
    x = np.asarray([1.0, 2.0])

    z1 = W1 @ x + b1
    a1 = np.maximum(z1, 0)
    z2 = W2 @ a1 + b2
    a2 = 1 / (1 + np.exp(-z2))

    net = xpnn.Sequential(
        xpnn.Linear(3), xpnn.ReLU(), xpnn.Linear(1), xpnn.Sigmoid(), n_in=2, backend=args.backend, dtype="float64"
    )
    net.load_state_dict({"0.weight": W1.T, "0.bias": b1, "2.weight": W2.T, "2.bias": b2})
    values = net.backend.asarray(x.reshape(1, 2))
    for layer, name, expected in zip(net.layers, ("z1", "a1", "z2", "a2"), (z1, a1, z2, a2), strict=True):
        values, _ = layer.forward(values)
        got = xpnn.to_numpy(values)[0]
        print(f"{name} = {np.round(expected, 5).tolist()} by hand, {np.round(got, 5).tolist()} by {layer!r}")
        if np.abs(got - expected).max() > 1e-12:
            raise SystemExit(f"{name}: the two differ")
    if np.abs(z1 - [0.6, 1.3, 2.0]).max() > 1e-12 or abs(z2[0] - 3.66) > 1e-12 or abs(a2[0] - 0.97491) > 5e-6:
        raise SystemExit("expected z1 = [.6, 1.3, 2.0], z2 = 3.66 and 0.97491")

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    ax = figure.subplots()
    columns = [[(0, 1.5), (0, 0.5)], [(2, 2), (2, 1), (2, 0)], [(4, 1)]]
    for left, right, W in ((columns[0], columns[1], W1), (columns[1], columns[2], W2)):
        for j, end in enumerate(right):
            for i, start in enumerate(left):
                ax.plot(*zip(start, end, strict=True), color="grey", linewidth=1 + 2 * W[j, i], zorder=1)
                at = np.asarray(start) + 0.62 * (np.asarray(end) - start)
                ax.text(*at, f"{W[j, i]:.1f}", ha="center", va="center", fontsize=8, backgroundcolor="white")
    labels = [[f"$x_{i + 1}$\n{v:g}" for i, v in enumerate(x)]]
    labels += [[f"z {z:.1f}\na {a:.1f}" for z, a in zip(z1, a1, strict=True)], [f"z {z2[0]:.2f}\na {a2[0]:.5f}"]]
    for column, texts, colour in zip(columns, labels, (*xpnn.plots.OKABE_ITO[5:3:-1], "#FFFFFF"), strict=True):
        for place, text in zip(column, texts, strict=True):
            box = {"boxstyle": "circle,pad=0.5", "facecolor": colour, "edgecolor": "black"}
            ax.text(*place, text, ha="center", va="center", bbox=box, zorder=3)
    for (px, py), bias in zip([*columns[1], *columns[2]], [*b1, *b2], strict=True):
        ax.text(px, py + 0.42, f"b {bias:.1f}", ha="center", fontsize=8, zorder=4)
    ax.set(xlim=(-0.6, 4.9), ylim=(-0.6, 2.6), title="Two inputs, three ReLU units, one sigmoid: weights on the lines")
    ax.set_axis_off()
    print(f"By hand and by xpnn the output is {a2[0]:.5f}.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'forward_by_hand.png')}")


if __name__ == "__main__":
    main()
