"""Activation functions, their slopes against finite differences, and what the choice does to training.

Run: python examples/activations.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

FUNCTIONS = (
    xpnn.Sigmoid, xpnn.Tanh, xpnn.ReLU, xpnn.LeakyReLU, xpnn.PReLU, xpnn.ELU, xpnn.SELU, xpnn.GELU, xpnn.SiLU,
)  # fmt: skip


def value_and_slope(kind, z, backend):
    """The function and its derivative at the numbers z, each sample alone."""
    net = xpnn.Sequential(kind(), n_in=1, backend=backend, dtype="float64")
    y, caches = net.forward(z.reshape(-1, 1))
    slope = net.backward(np.ones((len(z), 1)), caches, need_dx=True)
    return xpnn.to_numpy(y).ravel(), xpnn.to_numpy(slope).ravel()


def layer_gradients(net, X, y):
    """Norm of the loss's gradient to each layer's weights, and the dead units: active on no sample."""
    pred, caches = net.forward(X)
    _, d = xpnn.CrossEntropy().value_and_grad(pred, net.backend.asarray(y, dtype=net.backend.index_dtype))
    net.backward(d, caches)
    norms = [np.linalg.norm(xpnn.to_numpy(g)) for name, g in net.grads.items() if name.endswith("weight")]
    hidden, dead = net.backend.asarray(X), 0
    for layer in net.layers:
        hidden, _ = layer.forward(hidden)
        if isinstance(layer, xpnn.ReLU):
            dead += int((xpnn.to_numpy(hidden) == 0).all(axis=0).sum())
    return norms, dead


def main() -> None:
    """Check every slope, then train the moons with sigmoid, tanh and ReLU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/activations", help="folder for the pictures")
    args = parser.parse_args()

    z = np.linspace(-5, 5, 500)  # an even number of points: none lies on the kink at 0
    figure = Figure(figsize=(11, 9), layout="constrained")
    worst, h = 0.0, 1e-6
    for ax, kind in zip(figure.subplots(3, 3).ravel(), FUNCTIONS, strict=True):
        y, slope = value_and_slope(kind, z, args.backend)
        up, down = (value_and_slope(kind, z + d, args.backend)[0] for d in (h, -h))
        worst = max(worst, np.abs((up - down) / (2 * h) - slope).max())
        far, _ = value_and_slope(kind, np.asarray([-1e4, 1e4]), args.backend)
        if not np.isfinite(far).all():
            raise SystemExit(f"{kind.__name__}: expected finite values at 10,000")
        ax.fill_between(z, -1.9, 5, where=np.abs(slope) < 0.05, color="0.88", label="slope below 0.05")
        ax.plot(z, y, color=xpnn.plots.OKABE_ITO[0], label="function")
        ax.plot(z, slope, color=xpnn.plots.OKABE_ITO[1], linestyle="--", label="derivative")
        ax.set(title=kind.__name__, xlabel="z", ylim=(-1.9, 3))
    figure.axes[0].legend(loc="upper left", fontsize=8)
    print(f"{len(FUNCTIONS)} derivatives differ from central differences by {worst:.1e} at most.")
    if worst > 1e-8:
        raise SystemExit("expected every derivative to agree with the differences")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'functions.png')}")

    epochs = 40 if args.quick else 150
    X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    figure = Figure(figsize=(11, 4), layout="constrained")
    curves, bars = figure.subplots(1, 2)
    reached = {}
    for k, name in enumerate(("sigmoid", "tanh", "relu")):
        net = xpnn.mlp([2, 16, 16, 16, 2], name, backend=args.backend, seed=0)
        at_start, _ = layer_gradients(net, X, y)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01))
        accuracy = trainer.fit(X, y, epochs=epochs, batch_size=50)["accuracy"]
        _, dead = layer_gradients(net, X, y)
        good = [epoch for epoch, share in enumerate(accuracy, 1) if share >= 0.95]
        reached[name] = good[0] if good else epochs + 1
        when = f"95 % after {good[0]} epochs" if good else f"never 95 % in {epochs} epochs"
        print(
            f"{name:8}: {when}; first layer's gradient at the start {at_start[0]:.1e}, last one's {at_start[-1]:.1e}; "
            f"{dead} dead units of 48"
        )
        colour = xpnn.plots.OKABE_ITO[k]
        curves.plot(range(1, epochs + 1), accuracy, color=colour, label=name)
        bars.bar(np.arange(1, 5) + 0.27 * (k - 1), at_start, 0.27, color=colour, label=name)
    curves.axhline(0.95, color="black", linestyle=":", linewidth=1)
    curves.set(title="Two moons, 2-16-16-16-2", xlabel="epoch", ylabel="training accuracy")
    curves.legend(loc="lower right")
    bars.set(title="Gradients at the start", xlabel="layer", ylabel="norm of the weights' gradient", yscale="log")
    bars.set_xticks(range(1, 5))
    if not max(reached["tanh"], reached["relu"]) < reached["sigmoid"]:
        raise SystemExit(f"expected the sigmoid to be the slowest, got epochs {reached}")
    print("The sigmoid shrinks the gradients of the first layers and is the slowest; tanh and ReLU are quick.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'training.png')}")


if __name__ == "__main__":
    main()
