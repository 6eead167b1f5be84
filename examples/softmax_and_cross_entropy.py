"""Softmax turns scores into probabilities; with cross-entropy behind it the gradient is simply a - y.

The ten scores below give the eighth class 0.874 (a figure of 0.706 can be found in print; the formula disagrees).

Run: python examples/softmax_and_cross_entropy.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Probabilities, Jacobian, the short gradient against the long one, temperature."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    parser.add_argument("--out", default="runs/softmax_and_cross_entropy", help="folder for the picture")
    args = parser.parse_args()
    backend = xpnn.get_backend(args.backend, "float64")

    scores = np.asarray([[-1.2, -0.8, 0.3, -0.5, -1.1, 0.2, -0.9, 3.8, -0.4, 0.1]])
    label, z = 7, backend.asarray(scores)
    a, _ = xpnn.Softmax().forward(z)
    s = xpnn.to_numpy(a)[0]
    print(f"softmax: the eighth class gets {s[label]:.3f}, all together {s.sum():.3f}")
    if abs(s[label] - 0.874) > 5e-4:
        raise SystemExit("expected 0.874")

    simple = xpnn.to_numpy(xpnn.Softmax().forward(backend.asarray([[1.0, 2.0, 3.0]]))[0])[0]
    print("softmax of 1, 2, 3: " + ", ".join(f"{share:.4f}" for share in simple))
    if np.abs(simple - [0.0900, 0.2447, 0.6652]).max() > 5e-5:
        raise SystemExit(f"expected 0.0900, 0.2447 and 0.6652, got {simple}")

    # The Jacobian s_i (delta_ij - s_j), row by row from the layer's backward pass.
    formula = np.diag(s) - np.outer(s, s)
    rows = [xpnn.Softmax().backward(backend.asarray(np.eye(10)[i : i + 1]), a) for i in range(10)]
    jacobian = np.concatenate([xpnn.to_numpy(row) for row in rows])
    print(f"Jacobian: s_i (d_ij - s_j) and the layer differ by {np.abs(jacobian - formula).max():.1e}")

    # The short way a - y against the long one: -y/a through the Jacobian.
    y = np.eye(10)[label]
    _, short = xpnn.CrossEntropy().value_and_grad(z, backend.asarray(np.asarray([label]), dtype=backend.index_dtype))
    short = xpnn.to_numpy(short)[0]
    long = (-y / s) @ formula
    print(f"softmax + cross-entropy: the gradient and a - y differ by {np.abs(short - (s - y)).max():.1e}")
    two, targets = backend.asarray([[1.5], [-0.5]]), backend.asarray([[1.0], [0.0]])
    _, binary = xpnn.BinaryCrossEntropy().value_and_grad(two, targets)
    p = 1 / (1 + np.exp(-np.asarray([1.5, -0.5])))
    gap = np.abs(xpnn.to_numpy(binary).ravel() - (p - [1, 0]) / 2).max()
    print(f"sigmoid + binary cross-entropy, two rows: the gradient and (a - y) / 2 differ by {gap:.1e}")
    three = np.asarray([[2.0, 1.0, 0.1], [0.0, 0.0, 0.0], [-1.0, 3.0, 0.5]])
    _, rows_of_three = xpnn.CrossEntropy().value_and_grad(
        backend.asarray(three), backend.asarray(np.asarray([0, 2, 1]), dtype=backend.index_dtype)
    )
    a3 = np.exp(three) / np.exp(three).sum(axis=1, keepdims=True)
    of_batch = np.abs(xpnn.to_numpy(rows_of_three) - (a3 - np.eye(3)[[0, 2, 1]]) / 3).max()
    print(f"softmax + cross-entropy, three rows: the gradient and (a - y) / 3 differ by {of_batch:.1e}")
    worst = max(
        np.abs(jacobian - formula).max(), np.abs(short - (s - y)).max(), np.abs(short - long).max(), gap, of_batch
    )
    if worst > 1e-12:
        raise SystemExit("expected formulas and code to agree")
    huge, _ = xpnn.Softmax().forward(backend.asarray([[1e4, 0.0, -1e4]]))
    if xpnn.to_numpy(huge)[0].tolist() != [1.0, 0.0, 0.0]:
        raise SystemExit("expected softmax to be stable at scores of 10,000")

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for k, t in enumerate((0.5, 1.0, 3.0)):
        heated, _ = xpnn.Softmax(temperature=t).forward(z)
        places, colour = np.arange(10) + 0.27 * (k - 1), xpnn.plots.OKABE_ITO[k]
        left.bar(places, xpnn.to_numpy(heated)[0], 0.27, color=colour, label=f"T = {t}")
    left.set(title="Temperature: from sure to even", xlabel="class", ylabel="probability", xticks=range(10))
    left.legend(loc="upper left")
    right.bar(np.arange(10), short, color=np.where(short < 0, *xpnn.plots.OKABE_ITO[1::-1]))
    right.axhline(0, color="black", linewidth=1)
    right.set(title="Gradient a - y: descent lifts the true class", xlabel="class", xticks=range(10))
    right.set_ylabel("gradient to the score")
    print("Softmax with cross-entropy, and sigmoid with binary cross-entropy, hand back a - y.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'softmax_and_cross_entropy.png')}")


if __name__ == "__main__":
    main()
