"""Exploding gradients tamed: clipping by norm keeps the direction of the gradient, clipping by value does not.

Run: python examples/gradient_clipping.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.errors import DivergenceError
from xpnn.initializers import Normal


def one_step(backend, **clip):
    """The move of one step of SGD with lr 1, that is minus the clipped gradient; `clip` as the Trainer takes it."""
    net = xpnn.Sequential(xpnn.Linear(1, init="zeros"), n_in=2, backend=backend, dtype="float64")
    trainer = xpnn.Trainer(net, xpnn.MeanSquaredError(), xpnn.SGD(1.0), **clip)
    trainer.fit(np.asarray([[2.0, 0.5]]), np.asarray([[-1.0]]), epochs=1, shuffle=False)
    return -np.concatenate([xpnn.to_numpy(p).ravel() for p in net.params.values()])


def main() -> None:
    """Check both formulas on one step, then train a deep network whose gradients explode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/gradient_clipping", help="folder for the picture")
    args = parser.parse_args()

    g = one_step(args.backend)  # from zero weights: 2 (0 - y) x = (4, 1), and 2 for the bias
    by_norm, by_value = one_step(args.backend, clip_norm=2.0), one_step(args.backend, clip_value=1.5)
    if np.abs(g - [4, 1, 2]).max() > 1e-12:
        raise SystemExit(f"expected the gradient (4, 1, 2), got {g}")
    # The library divides by the norm and a millionth, so that no gradient is divided by zero.
    if np.abs(by_norm - g * 2 / np.sqrt(21)).max() > 1e-5 or np.abs(by_value - [1.5, 1.0, 1.5]).max() > 1e-12:
        raise SystemExit(f"expected g 2 / |g| and the values within 1.5, got {by_norm} and {by_value}")
    angles = {
        name: np.degrees(np.arccos(min(1.0, v @ g / np.linalg.norm(v) / np.linalg.norm(g))))
        for name, v in (("by norm", by_norm), ("by value", by_value))
    }
    print(f"gradient {g}: by norm {by_norm.round(3)}, by value {by_value.round(3)}")
    print("turned by " + ", ".join(f"{angle:.1f} degrees {name}" for name, angle in angles.items()))

    X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    epochs = 150 if args.quick else 600
    ways = {"no clipping": {}, "clip_norm=1": {"clip_norm": 1.0}, "clip_value=0.01": {"clip_value": 0.01}}
    figure = Figure(figsize=(13.5, 4.2), layout="constrained")
    arrows, curves, norms = figure.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    ends = {}
    for (name, clip), colour in zip(ways.items(), ("0.4", *xpnn.plots.OKABE_ITO[:2]), strict=True):
        net = xpnn.mlp([2, *[32] * 8, 2], init=Normal(0.5), backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.02), **clip)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of the overflow, xpnn explains it
                trainer.fit(X, y, epochs=epochs, batch_size=300)  # one step each: the end is seen step by step
            ends[name] = trainer.history["loss"][-1]
            print(f"{name:15}: loss {ends[name]:.1e} after {epochs} epochs")
        except DivergenceError as error:
            ends[name] = np.inf
            print(f"{name:15}: {error}")
        history, mark = trainer.history, "X-" if np.isinf(ends[name]) else "-"
        curves.plot(history["epoch"], history["loss"], mark, color=colour, label=name)
        norms.plot(history["epoch"], history["grad_norm"], mark, color=colour, label=name)
    for name, v, colour in zip(("g", *angles), (g, by_norm, by_value), ("0.4", *xpnn.plots.OKABE_ITO), strict=False):
        label = name if name == "g" else f"{name}: turned by {angles[name]:.0f}°"
        arrows.annotate("", v[:2], (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "linewidth": 2})
        arrows.plot([], [], color=colour, linewidth=2, label=label)
    arrows.set(xlim=(0, 4.4), ylim=(0, 2.6), xlabel="$g_1$", ylabel="$g_2$", title="Two of three numbers of a gradient")
    arrows.legend(loc="upper left")
    curves.set(title="Eight ReLU layers from N(0, 0.5²)", ylabel="training loss")
    norms.set(title="Their gradients before clipping", ylabel="norm of all gradients")
    for ax in (curves, norms):
        ax.set(xlabel="step of SGD", xscale="log", yscale="log", ylim=(1e-6, 1e9))
    curves.legend(loc="upper right")
    if not (angles["by norm"] < 0.01 and angles["by value"] > 10):
        raise SystemExit(f"expected clipping by norm to keep the direction and by value to turn it, got {angles}")
    clipped = max(ends["clip_norm=1"], ends["clip_value=0.01"])
    if not (ends["no clipping"] == np.inf and clipped < 0.3):
        raise SystemExit(f"expected training to diverge without clipping and to work with it, got {ends}")
    print(
        "Without clipping the deep network diverges; clipped by norm it reaches a loss of "
        f"{ends['clip_norm=1']:.0e}, by value {ends['clip_value=0.01']:.0e}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'gradient_clipping.png')}")


if __name__ == "__main__":
    main()
