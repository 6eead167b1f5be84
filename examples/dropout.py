"""Inverted dropout: the units kept while training are scaled up, so the mean stays and prediction needs no change.

Run: python examples/dropout.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Check masks and means; train few digits with more and more dropout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer masks and epochs, for tests")
    parser.add_argument("--out", default="runs/dropout", help="folder for the picture")
    args = parser.parse_args()

    rate, n_masks = 0.3, 400 if args.quick else 2000
    x = np.random.default_rng(0).uniform(0.5, 1.5, (4, 50)).astype(np.float32)
    net = xpnn.Sequential(xpnn.Dropout(rate), n_in=50, backend=args.backend, seed=0)
    total, off = np.zeros(x.shape), []
    for step in range(n_masks):
        y, caches = net.forward(x, train=True, step=step)
        dx = xpnn.to_numpy(net.backward(np.ones_like(x), caches, need_dx=True))
        y = xpnn.to_numpy(y)
        kept = y != 0
        # A rate is kept to 1 / 65536, and so is the factor.
        if np.abs(y[kept] - x[kept] / (1 - rate)).max() > 5e-5 or np.abs(dx - kept / (1 - rate)).max() > 5e-5:
            raise SystemExit("expected kept units, and their gradients, to be scaled by 1 / (1 - rate)")
        total += y
        off.append(np.abs(total / (step + 1) / x - 1).mean())
    same = xpnn.to_numpy(xpnn.Sequential(xpnn.Dropout(rate), n_in=50, seed=0).forward(x, train=True, step=step)[0])
    if not np.array_equal(same, y):
        raise SystemExit("expected the masks of NumPy and of this backend to be the same")
    if not np.array_equal(xpnn.to_numpy(net.forward(x)[0]), x):
        raise SystemExit("expected prediction to be the identity")
    # One mask is off by sqrt(rate / (1 - rate)) (root mean square); the mean of n masks by that over sqrt(n).
    expected = np.sqrt(rate / (1 - rate) / n_masks) * np.sqrt(2 / np.pi)  # mean absolute error of a normal
    print(f"the mean of {n_masks} masked outputs is {off[-1]:.2%} off the input; chance alone gives {expected:.2%}")
    if not 0.7 < off[-1] / expected < 1.4:
        raise SystemExit("expected the mean over masks to be the input, up to chance")

    X, y = xpnn.data.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    train, val = order[:200], order[800:]
    labels = y[train].copy()
    wrong = np.random.default_rng(1).permutation(200)[:30]
    labels[wrong] = (labels[wrong] + 1) % 10  # to learn these by heart is to overfit
    rates = (0.0, 0.5) if args.quick else (0.0, 0.2, 0.4, 0.5, 0.6, 0.8)
    losses = {}
    for r in rates:
        net = xpnn.mlp([64, 128, 64, 10], dropout=r, backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.003))
        trainer.fit(X[train], labels, epochs=60 if args.quick else 100, batch_size=50)
        losses[r] = trainer.evaluate(X[train], labels)["loss"], trainer.evaluate(X[val], y[val])["loss"]
        print(f"dropout {r:.1f}: loss {losses[r][0]:.3f} on training rows, {losses[r][1]:.3f} on new rows")

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(range(1, n_masks + 1), off, color=xpnn.plots.OKABE_ITO[0], label="measured")
    by_chance = expected * np.sqrt(n_masks / np.arange(1, n_masks + 1))
    left.loglog(range(1, n_masks + 1), by_chance, color="black", linestyle=":", label="chance, as 1 / √n")
    left.set(title=f"Rate {rate}: the mean over masks is the input", xlabel="masks", ylabel="mean relative error")
    left.legend()
    for column, label, colour in ((0, "training rows", 0), (1, "new rows", 1)):
        curve = [losses[r][column] for r in rates]
        right.plot(rates, curve, "o-", color=xpnn.plots.OKABE_ITO[colour], label=label)
    right.set(
        title="200 digits, 30 of them with a wrong label", xlabel="dropout rate", ylabel="cross-entropy", ylim=(0, None)
    )
    right.legend()
    gaps = {r: new - seen for r, (seen, new) in losses.items()}
    if not gaps[0.5] < 0.6 * gaps[0.0] or not losses[0.5][1] < 0.8 * losses[0.0][1]:
        raise SystemExit(f"expected dropout of 0.5 to narrow the gap and to help on new rows, got {losses}")
    print(
        f"Dropout of 0.5 narrows the gap between new and training rows from {gaps[0.0]:.2f} to {gaps[0.5]:.2f}, "
        f"the loss on new rows from {losses[0.0][1]:.2f} to {losses[0.5][1]:.2f}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'dropout.png')}")


if __name__ == "__main__":
    main()
