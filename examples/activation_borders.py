"""A small network, 2-4-1, with sigmoid, tanh, ReLU and Leaky ReLU: borders, gradients, and units that die by the epoch.

Run: python examples/activation_borders.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

KINDS = {"sigmoid": xpnn.Sigmoid(), "tanh": xpnn.Tanh(), "ReLU": xpnn.ReLU(), "Leaky ReLU": xpnn.LeakyReLU(0.1)}
STARTS = 20


class DeadUnits(xpnn.Callback):
    """Note after every epoch for how many hidden units no row of X lies on the sloping side."""

    def __init__(self, X):
        self.X, self.counts = X, []

    def on_epoch_end(self, trainer):
        z, _ = trainer.net.layers[0].forward(trainer.net.backend.asarray(self.X))
        self.counts.append(int((xpnn.to_numpy(z) <= 0).all(axis=-2).sum()))


def gradients_at_start(net, X, targets):
    """The gradient of each row's loss to the inputs of the hidden units, all rows and starts, as one long array."""
    pred, caches = net.forward(X)
    _, d = xpnn.BinaryCrossEntropy().value_and_grad(pred, targets)
    net.backward(d, caches)
    d = net.layers[2].backward(d, caches[2])
    return np.abs(xpnn.to_numpy(net.layers[1].backward(d, caches[1]))).ravel() * X.shape[0]


def main() -> None:
    """Train each kind from twenty starts at a rate that is a little too large, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/activation_borders", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(300, noise=0.2, seed=0)
    targets, epochs = y.reshape(-1, 1).astype(float), 60 if args.quick else 200
    figure = Figure(figsize=(14, 7.5), layout="constrained")
    axes = figure.subplots(2, 4)
    curves, flow, spread, dying = axes[1]
    dead, scores, sizes = {}, {}, {}
    for ax, (name, activation), colour in zip(axes[0], KINDS.items(), xpnn.plots.OKABE_ITO, strict=False):
        layers = (xpnn.Linear(4, init="he_normal"), activation, xpnn.Linear(1))
        net = xpnn.Sequential(*layers, n_in=2, backend=args.backend, seed=range(STARTS))
        X_there, y_there = net.backend.asarray(X), net.backend.asarray(targets)
        sizes[name] = gradients_at_start(net, X_there, y_there)
        xpnn.plots.plot_gradient_flow(net, ax=flow, label=name)
        watch = DeadUnits(X)
        trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.Adam(lr=0.1), callbacks=[watch])
        history = trainer.fit(X, targets, epochs=epochs, batch_size=30)
        dead[name] = watch.counts
        right = np.asarray(trainer.evaluate(X, targets)["accuracy_replicas"])
        middle = int(np.argsort(right)[STARTS // 2])
        scores[name] = float(np.median(right))
        xpnn.plots.plot_decision_boundary(
            lambda points, t=trainer, k=middle: t.predict_proba(points)[k],
            X, y, ax=ax, output="probabilities", probability=False, resolution=60 if args.quick else 150,
        )  # fmt: skip
        ax.set_title(f"{name}: {right[middle]:.1%}")
        curves.plot(history["epoch"], history["loss"], color=colour, label=name)
        dying.plot(history["epoch"], dead[name], color=colour, label=name)
        print(
            f"{name:10}: median {scores[name]:.1%} right, slopes at the start shrink the error to "
            f"{np.median(sizes[name]):.3f} in the middle (zero for {np.mean(sizes[name] == 0):.0%}); "
            f"never above zero after epochs 1, {epochs // 2}, {epochs}: "
            f"{dead[name][0]}, {dead[name][epochs // 2 - 1]}, {dead[name][-1]} of {4 * STARTS} units"
        )
    curves.set(title=f"Loss, mean of {STARTS} starts", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    curves.legend()
    flow.set_title("Gradients at the start")
    spread.boxplot(list(sizes.values()), tick_labels=list(sizes), whis=(5, 95), showfliers=False)
    spread.set(title="Errors at hidden units, start", ylabel="size, for one row")
    spread.tick_params(axis="x", labelrotation=20)
    dying.set(title="Hidden units never above zero", xlabel="epoch", ylabel=f"units of {4 * STARTS}")

    zero = {name: float(np.mean(errors == 0)) for name, errors in sizes.items()}
    if not (0.35 < zero["ReLU"] < 0.65 and max(zero[name] for name in KINDS if name != "ReLU") < 0.01):
        raise SystemExit(f"expected ReLU, and ReLU alone, to stop about half of all errors, got {zero}")
    if not np.median(sizes["sigmoid"]) < 0.5 * np.median(sizes["tanh"]):
        raise SystemExit("expected the sigmoid to hand down far less than tanh")
    if not dead["ReLU"][-1] > dead["ReLU"][0]:
        raise SystemExit(f"expected ReLU units to die at this rate, got {dead['ReLU']}")
    print(
        f"ReLU stops {zero['ReLU']:.0%} of all errors at the start, and {dead['ReLU'][-1]} of {4 * STARTS} of its "
        f"units are dead at the end; Leaky ReLU stops none and has {scores['Leaky ReLU']:.1%} right (ReLU "
        f"{scores['ReLU']:.1%}, tanh {scores['tanh']:.1%}, sigmoid {scores['sigmoid']:.1%})."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'activation_borders.png')}")


if __name__ == "__main__":
    main()
