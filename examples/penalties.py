"""Three penalties: L1 empties weights, L2 (λ Σ w², gradient 2 λ w) shrinks all, the spectral norm the widest stretch.

Run: python examples/penalties.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def check_formulas(backend):
    """Value and gradient of each penalty against formula and differences; returns the largest gap."""
    worst = 0.0
    w = np.random.default_rng(0).standard_normal((4, 3))
    u, s, vt = np.linalg.svd(w)
    cases = (
        (xpnn.L1(0.3), 0.3 * np.abs(w).sum(), 0.3 * np.sign(w)),
        (xpnn.L2(0.3), 0.3 * (w**2).sum(), 2 * 0.3 * w),
        (xpnn.SpectralNorm(0.3), 0.3 * s[0], 0.3 * np.outer(u[:, 0], vt[0])),
    )
    for penalty, value, gradient in cases:
        net = xpnn.Sequential(xpnn.Linear(3), n_in=4, backend=backend, dtype="float64")

        def at(weights, net=net, penalty=penalty):
            net.load_state_dict({"0.weight": weights, "0.bias": np.zeros(3)})
            net.store.grads[...] = 0.0
            for _ in range(8):  # each call improves the power iteration of the spectral norm
                net.store.grads[...] = 0.0
                got = float(xpnn.to_numpy(penalty.add(net.store)))
            return got, np.array(xpnn.to_numpy(net.grads["0.weight"]))

        got, slopes = at(w)
        bump = np.zeros_like(w)
        bump[1, 2] = 1e-5
        difference = (at(w + bump)[0] - at(w - bump)[0]) / 2e-5
        gap = max(abs(got - value), np.abs(slopes - gradient).max(), abs(difference - gradient[1, 2]))
        print(f"{penalty!r:21}: value {got:.4f}; code, formula and differences are {gap:.0e} apart at most")
        worst = max(worst, gap)
    return worst


def main() -> None:
    """Check the formulas, then train digits with each and look at the first layer's weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/penalties", help="folder for the picture")
    args = parser.parse_args()
    if check_formulas(args.backend) > 1e-6:
        raise SystemExit("expected the code to agree with the formulas")

    X, y = xpnn.data.load_digits()
    order = np.random.default_rng(0).permutation(len(X))
    train, val = order[:150], order[800:]
    penalties = {"none": None, "L1": xpnn.L1(1e-3), "L2": xpnn.L2(3e-3), "spectral norm": xpnn.SpectralNorm(0.1)}
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    sorted_sizes, singular, gaps = figure.subplots(1, 3)
    empty, norm, stretch, gap = {}, {}, {}, {}
    for (name, penalty), colour in zip(penalties.items(), ("0.4", *xpnn.plots.OKABE_ITO[:3]), strict=True):
        net = xpnn.mlp([64, 64, 10], backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.005), regularizer=penalty)
        trainer.fit(X[train], y[train], epochs=60 if args.quick else 150, batch_size=50)
        gap[name] = trainer.evaluate(X[val], y[val])["loss"] - trainer.evaluate(X[train], y[train])["loss"]
        w = xpnn.to_numpy(net.params["0.weight"]).astype(float)
        w = w[X[train].std(axis=0) > 0.1]  # the pixels that say anything: those of the rim are paper
        values = np.linalg.svd(w, compute_uv=False)
        empty[name], norm[name], stretch[name] = (np.abs(w) < 0.01).mean(), np.linalg.norm(w), values[0]
        sorted_sizes.plot(np.linspace(0, 100, w.size), np.sort(np.abs(w).ravel()), color=colour, label=name)
        singular.plot(range(1, len(values) + 1), values, color=colour, marker=".", label=name)
        gaps.barh(name, gap[name], color=colour)
        print(
            f"{name:13}: {empty[name]:5.1%} of the weights below 0.01, norm {norm[name]:.2f}, "
            f"largest singular value {stretch[name]:.2f}; gap between new and training rows {gap[name]:.3f}"
        )
    sorted_sizes.set(
        title="First layer's weights, by size", xlabel="share of the weights (%)", ylabel="absolute weight"
    )
    singular.set(title="Singular values of the same", xlabel="number", ylabel="singular value", ylim=(0, None))
    sorted_sizes.legend(loc="upper left")
    gaps.set(title="Loss on new rows minus training rows", xlabel="gap of the cross-entropy")
    gaps.invert_yaxis()
    if max(empty, key=empty.get) != "L1" or min(empty["L1"] - empty[n] for n in ("none", "L2", "spectral norm")) < 0.3:
        raise SystemExit(f"expected L1 alone to empty weights, got {empty}")
    if not (norm["L2"] < 0.7 * norm["none"] and stretch["spectral norm"] < 0.7 * stretch["none"]):
        raise SystemExit("expected L2 to shrink the norm, and the spectral norm to shrink the largest singular value")
    if not max(gap["L1"], gap["L2"]) < gap["none"]:
        raise SystemExit(f"expected L1 and L2 to narrow the gap, got {gap}")
    print(
        f"L1 brings {empty['L1']:.0%} of the weights below 0.01 (without it {empty['none']:.0%}), L2 their norm from "
        f"{norm['none']:.1f} to {norm['L2']:.1f}, the spectral norm the largest singular value from "
        f"{stretch['none']:.1f} to {stretch['spectral norm']:.1f}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'penalties.png')}")


if __name__ == "__main__":
    main()
