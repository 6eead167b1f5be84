"""L2 from none to too much, what it does to accuracy, and what it means: a normal prior on the weights.

One neuron without an activation, trained on squared error, is linear regression.  With noise of variance s² and a
normal prior of variance v on the weights, the most probable weights are those of L2 with λ = s² / (n v).

Run: python examples/l2_sweep.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def one_neuron(X, y, lam, backend):
    """Train y ≈ x w on squared error with λ Σ w², to the end; return w."""
    net = xpnn.Sequential(xpnn.Linear(1, bias=False, init="zeros"), n_in=X.shape[1], backend=backend, dtype="float64")
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.SGD(lr=0.1), regularizer=xpnn.L2(lam) if lam else None)
    trainer.fit(X, y, epochs=400, batch_size=len(X))
    return xpnn.to_numpy(net.params["0.weight"])[:, 0]


def main() -> None:
    """Sweep λ on noisy moons; find ridge regression, the prior and the shortest weights in one neuron."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/l2_sweep", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(100, noise=0.3, seed=0)
    X_new, y_new = xpnn.data.make_moons(2000, noise=0.3, seed=1)
    epochs = 150 if args.quick else 400
    lams = (0.0, 0.001, 0.01, 0.1)
    rows = []
    for lam in lams:
        net = xpnn.mlp([2, 50, 50, 2], backend=args.backend, seed=range(3))
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01), regularizer=xpnn.L2(lam) if lam else None)
        trainer.fit(X, y, epochs=epochs, batch_size=50)
        known, new = trainer.evaluate(X, y), trainer.evaluate(X_new, y_new)
        size = float(np.sqrt(sum((xpnn.to_numpy(w) ** 2).sum() for k, w in net.params.items() if "weight" in k) / 3))
        rows.append((known["accuracy"], new["accuracy"], known["loss"], new["loss"], size))
        print(
            f"λ = {lam:5g}: {known['accuracy']:.1%} of known points right, {new['accuracy']:.1%} of new ones; "
            f"loss {known['loss']:.2f} and {new['loss']:.2f}; weights of length {size:.1f}"
        )
    known, new, known_loss, new_loss, sizes = np.asarray(rows).T

    # One neuron: 40 rows, noise of variance s², a prior of variance v.
    rng = np.random.default_rng(0)
    n, s2 = 40, 0.25
    A = rng.normal(size=(n, 5))
    t = A @ rng.normal(size=5) + np.sqrt(s2) * rng.normal(size=n)
    plain, gaps = np.linalg.lstsq(A, t, rcond=None)[0], []
    for v in (None, 1.0, 0.1):
        w = one_neuron(A, t[:, None], 0.0 if v is None else s2 / (n * v), args.backend)
        # minus the logarithm of likelihood times prior is |t - A w|² / 2s² + |w|² / 2v: its slope is 0 at
        best = plain if v is None else np.linalg.solve(A.T @ A / s2 + np.eye(5) / v, A.T @ t / s2)
        gaps.append(float(np.abs(w - best).max()))
        what = "least squares" if v is None else f"the most probable weights under N(0, {v:g})"
        print(f"one neuron and {what}: {gaps[-1]:.0e} apart, length {np.linalg.norm(w):.2f}")

    # 20 rows and 50 weights: many fit.  Descent from zero never leaves the rows' span, where the shortest one lies.
    A, t = rng.normal(size=(20, 50)), rng.normal(size=20)
    w, shortest = one_neuron(A, t[:, None], 0.0, args.backend), np.linalg.pinv(A) @ t
    gaps.append(float(np.abs(w - shortest).max()))
    print(f"of all weights that fit 20 rows, descent finds the shortest without any L2: {gaps[-1]:.0e} apart")

    figure = Figure(figsize=(12, 4), layout="constrained")
    accuracy, loss, length = figure.subplots(1, 3)
    places = np.arange(len(lams))
    for ax, pair, title in ((accuracy, (known, new), "Share right"), (loss, (known_loss, new_loss), "Cross-entropy")):
        ax.plot(places, pair[0], "s--", color=xpnn.plots.OKABE_ITO[0], label="100 known points")
        ax.plot(places, pair[1], "o-", color=xpnn.plots.OKABE_ITO[1], label="2,000 new points")
        ax.set_title(title)
    length.bar(places, sizes, color="0.6")
    length.set_title("Length of all weights")
    accuracy.legend()
    for ax in (accuracy, loss, length):
        ax.set_xticks(places, [f"{lam:g}" for lam in lams])
        ax.set_xlabel("λ")

    if not (np.all(np.diff(sizes) < 0) and known[0] > known[3] and known[0] - new[0] > 2 * abs(known[3] - new[3])):
        raise SystemExit(f"expected λ to shrink the weights and to close the gap, got {rows}")
    if not (new_loss.argmin() in (1, 2) and max(new[1:3]) > new[0]):
        raise SystemExit(f"expected the best λ to lie between none and too much, got {rows}")
    if max(gaps) > 1e-6:
        raise SystemExit(f"expected one neuron to end at the formula's weights, got {gaps}")
    best = int(new_loss.argmin())
    print(
        f"Without L2 {new[0]:.1%} of new points are right and the loss is {new_loss[0]:.2f}; λ = {lams[best]:g} makes "
        f"it {new[best]:.1%} and {new_loss[best]:.2f}, λ = 0.1 leaves {new[3]:.1%}; one neuron with L2 is the most "
        "probable one under a normal prior."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'l2_sweep.png')}")


if __name__ == "__main__":
    main()
