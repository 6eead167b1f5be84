"""Two extreme starts, in training: zeros under ReLU never move; sigma = 5 begins badly, comes down, and meets no NaN.

Run: python examples/extreme_starts.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import HeNormal, Normal, Zeros


def main() -> None:
    """Train 2-10-2 on two moons from three starts, full batches at rate 0.5."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/extreme_starts", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(500, noise=0.1, seed=0)
    X_new, y_new = xpnn.data.make_moons(2000, noise=0.1, seed=1)
    epochs = 300 if args.quick else 3000
    starts = {"zeros": Zeros(), "He": HeNormal(), "sigma = 5": Normal(5.0)}
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    curves, left, right = figure.subplots(1, 3)
    losses, scores, nets = {}, {}, {}
    for (name, init), colour in zip(starts.items(), xpnn.plots.OKABE_ITO, strict=False):
        net = xpnn.mlp([2, 10, 2], "relu", init=init, backend=args.backend, dtype="float64", seed=range(5))
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.5))
        losses[name] = np.asarray(trainer.fit(X, y, epochs=epochs, batch_size=len(X))["loss_replicas"])
        scores[name], nets[name] = trainer.evaluate(X_new, y_new)["accuracy_replicas"], net
        for curve in losses[name].T:
            curves.plot(range(1, epochs + 1), curve, color=colour, alpha=0.6)
        curves.plot([], [], color=colour, label=name)
        print(
            f"{name:9}: loss {np.median(losses[name][0]):.3f} at first, {np.median(losses[name][-1]):.3f} after "
            f"{epochs} epochs (middle of five starts); {np.median(scores[name]):.1%} of new points right"
        )
    curves.set(title="Loss, 2-10-2 with ReLU", xlabel="epoch", ylabel="cross-entropy", xscale="log", yscale="log")
    curves.legend()
    for ax, name in ((left, "He"), (right, "sigma = 5")):
        xpnn.plots.plot_decision_boundary(
            lambda points, n=nets[name]: xpnn.to_numpy(n.predict(points))[0],
            X, y, ax=ax, output="logits", resolution=80 if args.quick else 200,
        )  # fmt: skip
        ax.set_title(f"from {name}: {scores[name][0]:.1%} of new points")

    moved = max(float(np.abs(xpnn.to_numpy(nets["zeros"].params[f"{k}.weight"])).max()) for k in (0, 2))
    if moved > 0 or np.abs(losses["zeros"] - math.log(2)).max() > 1e-3:
        raise SystemExit(f"expected zeros to stay where they are, got weights of {moved}")
    wild, tame = losses["sigma = 5"], losses["He"]
    if not (np.isfinite(wild).all() and np.median(wild[0]) > 10 * np.median(tame[0]) and np.median(wild[-1]) < 0.2):
        raise SystemExit(f"expected sigma = 5 to begin high, to stay finite and to learn, got {wild[[0, -1]]}")
    low, high = np.median(tame[-1]), np.median(wild[-1])
    print(
        f"From zeros ReLU learns nothing, the loss stays at log 2 = {np.median(losses['zeros'][-1]):.3f}; from sigma "
        f"= 5 it begins at {np.median(wild[0]):.0f} and comes down to {high:.4f} (from He {low:.4f}), with no NaN."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'extreme_starts.png')}")


if __name__ == "__main__":
    main()
