"""How far the gradient of a batch is from the gradient of all rows: the variance falls as one over the batch size.

Rows of a batch are drawn without repeating one, so the variance is σ²/b · (n − b)/(n − 1): nothing is left where the
batch is all rows.  The formula's σ² is measured once, over the gradients of the single rows.

Run: python examples/gradient_noise.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def gradient(net, X, y):
    """Return the gradient of all parameters over some rows, as one vector."""
    outputs, caches = net.forward(X, train=True)
    _, d = xpnn.CrossEntropy().value_and_grad(outputs, net.backend.asarray(y, dtype=net.backend.index_dtype))
    net.backward(d, caches)
    return np.array(xpnn.to_numpy(net.store.grads))


def main() -> None:
    """Measure the variance for each batch size, compare with the formula, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer rows and draws, for tests")
    parser.add_argument("--out", default="runs/gradient_noise", help="folder for the picture")
    args = parser.parse_args()

    n, draws = (100, 100) if args.quick else (600, 1000)
    X, y = xpnn.data.make_moons(n, noise=0.2, seed=0)
    net = xpnn.mlp([2, 16, 2], "tanh", backend=args.backend, dtype="float64", seed=0)
    whole = gradient(net, X, y)
    single = np.stack([gradient(net, X[i : i + 1], y[i : i + 1]) for i in range(n)])
    spread = float(((single - whole) ** 2).sum(axis=1).mean())  # σ²: of single rows
    rng = np.random.default_rng(0)
    sizes = [1, 2, 4, 8, 16, 32, 64, 3 * n // 4, n]
    measured, formula = [], []
    for size in sizes:
        rows = [rng.permutation(n)[:size] for _ in range(draws)]
        off = [float(((gradient(net, X[some], y[some]) - whole) ** 2).sum()) for some in rows]
        measured.append(float(np.mean(off)))
        formula.append(spread / size * (n - size) / (n - 1))
        print(f"batch size {size:3}: variance {measured[-1]:.2e} over {draws} draws, by the formula {formula[-1]:.2e}")

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    b = np.geomspace(1, n - 1, 200)
    law = spread / b * (n - b) / (n - 1)
    ax.plot(b, law, color=xpnn.plots.OKABE_ITO[1], label="formula: spread of single rows / b, less as b nears n")
    ax.plot(sizes[:-1], measured[:-1], "o", color=xpnn.plots.OKABE_ITO[0], label=f"measured, {draws} batches each")
    ax.axhline(float((whole**2).sum()), color="0.4", linestyle=":", label="squared length of the whole gradient")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="batch size b",
        ylim=(0.5 * measured[-2], None),
        ylabel="mean squared distance from the whole gradient",
    )
    ax.set_title("Gradients of larger batches scatter less")
    ax.legend()

    if not np.allclose(measured[:-1], formula[:-1], rtol=0.4 if args.quick else 0.15):
        raise SystemExit(f"expected the variance to follow the formula, got {measured} and {formula}")
    if not measured[-1] < 1e-20:
        raise SystemExit(f"expected all rows to have no variance, got {measured[-1]:.1e}")
    if not np.abs(single.mean(axis=0) - whole).max() < 1e-12:
        raise SystemExit("expected the gradients of single rows to average to the whole gradient")
    print(
        f"From batches of 1 to 32 the variance of the gradient falls {measured[0] / measured[5]:.0f} times, to "
        f"{measured[5]:.4f}; with all {n} rows there is none."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'gradient_noise.png')}")


if __name__ == "__main__":
    main()
