"""Why gradients vanish and explode: the product of each layer's norm and steepest slope, beside what is measured.

From one layer's input to the next's, a gradient grows by at most the spectral norm of W times the steepest slope of the
activation.  The product over the layers bounds what arrives; where it is far above 1, gradients can explode, and
what makes the norms smaller (L2, the spectral penalty) or undoes the growth (layer norm) cures it.

Run: python examples/gradient_bounds.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import HeNormal, LeCunNormal, Normal

WIDTH = 24
KINDS = {"sigmoid": LeCunNormal(), "tanh": LeCunNormal(), "ReLU": HeNormal(), "ELU": HeNormal(), "SiLU": HeNormal()}


def walk_down(net):
    """What is left of a gradient below each Linear, and the product of the bounds to there; both 1 at the top."""
    rng = np.random.default_rng(0)
    _, caches = net.forward(rng.standard_normal((32, WIDTH)), train=True)
    d = net.backend.asarray(rng.standard_normal((32, WIDTH)))
    top, bound, measured, bounds = np.linalg.norm(xpnn.to_numpy(d)), 1.0, [1.0], [1.0]
    z = net.backend.asarray(np.linspace(-12.0, 12.0, 2401).reshape(-1, 1))
    for layer, cache in zip(net.layers[::-1], caches[::-1], strict=True):
        d = layer.backward(d, cache)
        if isinstance(layer, xpnn.Linear):
            bound *= np.linalg.norm(xpnn.to_numpy(layer.params["weight"]), 2)
            measured.append(np.linalg.norm(xpnn.to_numpy(d)) / top)
            bounds.append(bound)
        elif not isinstance(layer, xpnn.LayerNorm):  # whose factor depends on the rows
            _, own = layer.forward(z)
            bound *= np.abs(xpnn.to_numpy(layer.backward(z * 0.0 + 1.0, own))).max()
    return np.asarray(measured), np.asarray(bounds)


def deep(depth, activation, init, backend, norm=None):
    """A network of equal widths in float64."""
    sizes = [WIDTH] * (depth + 1)
    return xpnn.mlp(sizes, activation.lower(), init=init, norm=norm, backend=backend, dtype="float64", seed=0)


def pulled(net, penalty, steps):
    """Let a penalty alone act on the weights for some steps of descent; returns the network."""
    for _ in range(steps):
        net.store.grads[...] = 0.0
        penalty.add(net.store)
        xpnn.SGD(lr=0.1).step(net.store)
    return net


def main() -> None:
    """Measure by depth and activation, then cure an exploding network in three ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer layers, for tests")
    parser.add_argument("--out", default="runs/gradient_bounds", help="folder for the picture")
    args = parser.parse_args()
    depth = 10 if args.quick else 20

    figure = Figure(figsize=(11, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    layers, left_over, allowed = np.arange(depth + 1), {}, {}
    for (name, init), colour in zip(KINDS.items(), xpnn.plots.OKABE_ITO, strict=False):
        measured, bounds = walk_down(deep(depth, name, init, args.backend))
        left_over[name], allowed[name] = measured[-1], bounds[-1]
        left.plot(layers, measured, color=colour, label=name)
        left.plot(layers, bounds, color=colour, linestyle=":")
        print(f"{name:8}: {measured[-1]:.1e} of the gradient arrives {depth} layers down, at most {bounds[-1]:.1e}")
        if not (measured <= bounds * (1 + 1e-9)).all():
            raise SystemExit(f"{name}: expected the product of the norms to bound what is measured")
    left.plot([], [], ":", color="black", label="product of norms and slopes")
    left.set(title="Measured, and the bound", xlabel="layers passed on the way down", yscale="log")
    left.set_ylabel("gradient's norm, relative to the top")
    left.legend(fontsize=8)

    large = Normal(0.5)
    cures = {
        "N(0, 0.5²)": deep(depth, "relu", large, args.backend),
        "with layer norm": deep(depth, "relu", large, args.backend, norm="layer"),
        "after L2": pulled(deep(depth, "relu", large, args.backend), xpnn.L2(0.05), 60),
        "after the spectral penalty": pulled(deep(depth, "relu", large, args.backend), xpnn.SpectralNorm(2.5), 60),
    }
    for (name, net), colour in zip(cures.items(), xpnn.plots.OKABE_ITO, strict=False):
        left_over[name] = walk_down(net)[0][-1]
        right.plot(layers, walk_down(net)[0], color=colour, label=name)
        norms = [np.linalg.norm(xpnn.to_numpy(net.params[key]), 2) for key in net.store.matrices()]
        print(f"{name:26}: {left_over[name]:.1e} arrives; spectral norms {min(norms):.2f} to {max(norms):.2f}")
    right.set(title="An exploding network of ReLUs, and three cures", yscale="log")
    right.set(xlabel="layers passed on the way down", ylabel="gradient's norm, relative to the top")
    right.legend(fontsize=8)

    if not left_over["sigmoid"] < 1e-5 * min(left_over[name] for name in ("tanh", "ReLU", "ELU", "SiLU")):
        raise SystemExit(f"expected the sigmoid, and it alone, to make the gradient vanish, got {left_over}")
    if not left_over["N(0, 0.5²)"] > 50 * max(left_over[name] for name in list(cures)[1:]):
        raise SystemExit(f"expected each cure to leave far less of the explosion, got {left_over}")
    print(
        f"The product of norms and slopes is a bound, and a wide one: of {depth} layers of ReLU it allows "
        f"{allowed['ReLU']:.0e} and {left_over['ReLU']:.1f} is measured; an explosion to "
        f"{left_over['N(0, 0.5²)']:.0e} is brought to "
        f"{left_over['with layer norm']:.1f} by layer norm, {left_over['after L2']:.1f} by L2 and "
        f"{left_over['after the spectral penalty']:.1f} by the spectral penalty."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'gradient_bounds.png')}")


if __name__ == "__main__":
    main()
