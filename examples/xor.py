"""XOR with one hidden layer: two tanh units are enough to express it, four are enough to find it.

Run: python examples/xor.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train 2-2-1 and 2-4-1 from many starts at once, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and starts, for tests")
    parser.add_argument("--out", default="runs/xor", help="folder for the picture")
    args = parser.parse_args()
    starts, epochs = (20, 400) if args.quick else (50, 1000)

    X, y = xpnn.data.make_xor()
    targets = y.reshape(-1, 1).astype(float)
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    solved = {}
    for hidden, colour in ((2, xpnn.plots.OKABE_ITO[1]), (4, xpnn.plots.OKABE_ITO[0])):
        # The seeds are replicas: networks of one shape that train side by side, each as it would alone.
        net = xpnn.mlp([2, hidden, 1], "tanh", backend=args.backend, seed=range(starts))
        trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.5))
        trainer.fit(X, targets, epochs=epochs, batch_size=4)
        says = xpnn.to_numpy(trainer.predict_proba(X)) > 0.5
        right = (says == (targets > 0.5)).all(axis=(1, 2))
        losses = np.asarray(trainer.evaluate(X, targets)["loss_replicas"])
        solved[hidden] = right & (losses < 0.1)
        print(
            f"2-{hidden}-1 after {epochs} epochs: {solved[hidden].sum()} of {starts} starts have all four right at a "
            f"loss below 0.1; the others end at losses from {losses[~solved[hidden]].min(initial=np.inf):.2f}."
            if not solved[hidden].all()
            else f"2-{hidden}-1 after {epochs} epochs: all {starts} starts have all four right at a loss below 0.1."
        )
        curves = np.asarray(trainer.history["loss_replicas"])
        axes[0].plot(range(1, epochs + 1), curves, color=colour, linewidth=0.6, alpha=0.6)
        axes[0].plot([], [], color=colour, label=f"2-{hidden}-1")
    axes[0].axhline(0.1, color="black", linestyle="--", linewidth=1, label="solved below 0.1")
    axes[0].set(title="Loss from every start", xlabel="epoch", ylabel="cross-entropy", yscale="log", ylim=(None, 8))
    axes[0].legend(loc="upper right", fontsize=8)

    if not solved[4].all():
        raise SystemExit("expected every start of 2-4-1 to solve XOR")
    if not 0.2 < solved[2].mean() < 0.9:
        raise SystemExit("expected some starts of 2-2-1 to solve XOR and others to get stuck")
    for ax, hidden, seed in ((axes[1], 2, int(solved[2].argmax())), (axes[2], 4, 0)):
        net = xpnn.mlp([2, hidden, 1], "tanh", backend=args.backend, seed=seed)
        trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.5))
        trainer.fit(X, targets, epochs=epochs, batch_size=4)
        xpnn.plots.plot_decision_boundary(trainer, X, y, ax=ax, resolution=80 if args.quick else 200)
        ax.set_title(f"2-{hidden}-1, seed {seed}")
    print("Four hidden units solve XOR from every start; two can, but some starts end on a plateau.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'xor.png')}")


if __name__ == "__main__":
    main()
