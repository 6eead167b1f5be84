"""Sigmoid, tanh and ReLU on moons and on circles: epochs to 95 %, gradients of each layer, dead units.

Run: python examples/activation_comparison.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


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
    """Train the same network with each activation on both problems."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/activation_comparison", help="folder for the picture")
    args = parser.parse_args()

    epochs = 40 if args.quick else 150
    problems = {
        "moons": xpnn.data.make_moons(300, noise=0.1, seed=0),
        "circles": xpnn.data.make_circles(300, noise=0.05, seed=0),
    }
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    reached, faded = {}, {}
    for (problem, (X, y)), (curves, flow) in zip(problems.items(), figure.subplots(2, 2), strict=True):
        for k, name in enumerate(("sigmoid", "tanh", "relu")):
            net = xpnn.mlp([2, 16, 16, 16, 2], name, backend=args.backend, seed=0)
            at_start, _ = layer_gradients(net, X, y)
            xpnn.plots.plot_gradient_flow(net, ax=flow, label=name)
            trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.01))
            accuracy = trainer.fit(X, y, epochs=epochs, batch_size=50)["accuracy"]
            _, dead = layer_gradients(net, X, y)
            good = [epoch for epoch, share in enumerate(accuracy, 1) if share >= 0.95]
            reached[problem, name] = good[0] if good else epochs + 1
            faded[problem, name] = at_start[0] / at_start[-1]
            when = f"95 % after {good[0]} epochs" if good else f"never 95 % in {epochs} epochs"
            print(
                f"{problem:7} {name:7}: {when}, {accuracy[-1]:.1%} at the end; gradients at the start "
                f"{at_start[0]:.0e} in the first layer, {at_start[-1]:.0e} in the last; {dead} of 48 units dead"
            )
            colour = xpnn.plots.OKABE_ITO[k]
            label = f"{name}, {dead} of 48 units dead" if name == "relu" else name
            curves.plot(range(1, epochs + 1), accuracy, color=colour, label=label)
        curves.axhline(0.95, color="black", linestyle=":", linewidth=1)
        curves.set(title=f"{problem}, 2-16-16-16-2", xlabel="epoch", ylabel="training accuracy", ylim=(0.4, 1.02))
        curves.legend(loc="lower right")
        flow.set_title(f"{problem}: gradients at the start")
        if not max(reached[problem, "tanh"], reached[problem, "relu"]) < reached[problem, "sigmoid"]:
            raise SystemExit(f"{problem}: expected the sigmoid to be the slowest, got epochs {reached}")
        if not faded[problem, "sigmoid"] < 0.2 * min(faded[problem, "tanh"], faded[problem, "relu"]):
            raise SystemExit(f"{problem}: expected the sigmoid to shrink the first layer's gradient most, got {faded}")
    print("On moons and on circles the sigmoid shrinks the first layers' gradients and is the slowest of the three.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'activation_comparison.png')}")


if __name__ == "__main__":
    main()
