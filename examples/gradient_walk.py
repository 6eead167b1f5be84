"""One image of a seven, forward and back through 784-128-64-10: every shape, and each gradient by its formula.

The scores are set to those of a worked example: the seven has a probability of 0.874, so the loss is 0.135 and the
error of its score is -0.126.  Where MNIST is not at hand, the image is one of the small digits of scikit-learn.

Run: python examples/gradient_walk.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.errors import DataError

SCORES = np.asarray([[-1.2, -0.8, 0.3, -0.5, -1.1, 0.2, -0.9, 3.8, -0.4, 0.1]])


def seven(quick):
    """Return an image of a seven as a row of pixels between 0 and 1."""
    try:
        X, y, _, _ = xpnn.data.load_mnist(download=not quick)
    except DataError:
        X, y = xpnn.data.load_digits()
    return np.asarray(X[np.argmax(y == 7)], dtype=np.float64)[None]


def main() -> None:
    """Walk there and back by hand, beside the network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="no download, for tests")
    parser.add_argument("--out", default="runs/gradient_walk", help="folder for the picture")
    args = parser.parse_args()

    x = seven(args.quick)
    net = xpnn.mlp([x.shape[1], 128, 64, 10], "relu", backend=args.backend, dtype="float64", seed=0)
    W = [xpnn.to_numpy(net.params[f"{k}.weight"]) for k in (0, 2, 4)]
    z1 = x @ W[0]
    z2 = np.maximum(z1, 0) @ W[1]
    a1, a2 = np.maximum(z1, 0), np.maximum(z2, 0)
    net.load_state_dict(net.state_dict() | {"4.bias": (SCORES - a2 @ W[2])[0]})  # so that the scores are those

    p = np.exp(SCORES) / np.exp(SCORES).sum()
    loss = -float(np.log(p[0, 7]))
    d3 = p - np.eye(10)[[7]]
    d2 = (d3 @ W[2].T) * (z2 > 0)
    d1 = (d2 @ W[1].T) * (z1 > 0)
    by_hand = {
        "4.weight": a2.T @ d3,
        "4.bias": d3,
        "2.weight": a1.T @ d2,
        "2.bias": d2,
        "0.weight": x.T @ d1,
        "0.bias": d1,
    }
    for name, value in {"x": x, "a1": a1, "a2": a2, "scores": SCORES, "p": p, "δ3": d3, "δ2": d2, "δ1": d1}.items():
        print(f"{name:7} {value.shape!s:9} length {np.linalg.norm(value):.3f}")

    outputs, caches = net.forward(x, train=True)
    value, d = xpnn.CrossEntropy().value_and_grad(outputs, net.backend.asarray([7], dtype=net.backend.index_dtype))
    dx = xpnn.to_numpy(net.backward(d, caches, need_dx=True))
    apart = abs(float(xpnn.to_numpy(value)) - loss)
    for name, gradient in by_hand.items():
        theirs = xpnn.to_numpy(net.grads[name])
        apart = max(apart, float(np.abs(theirs - gradient.reshape(theirs.shape)).max()))
        print(f"gradient to {name:9} {theirs.shape!s:11} largest {np.abs(theirs).max():.3f}")
    apart = max(apart, float(np.abs(dx - d1 @ W[0].T).max()))

    figure = Figure(figsize=(12.5, 3.8), layout="constrained")
    image, scores, errors, pull = figure.subplots(1, 4)
    side = int(np.sqrt(x.size))
    image.imshow(x.reshape(side, side), cmap="gray_r")
    image.set_title("the image")
    scores.bar(range(10), p[0], color=xpnn.plots.OKABE_ITO[0])
    scores.set(title=f"probabilities: loss {loss:.3f}", xlabel="digit", xticks=range(10))
    errors.bar(range(10), d3[0], color=xpnn.plots.OKABE_ITO[1])
    errors.set(title="δ3 = p - y", xlabel="digit", xticks=range(10))
    most = np.abs(dx).max()
    pull.imshow(dx.reshape(side, side), cmap="RdBu", vmin=-most, vmax=most)
    pull.set_title("gradient to the pixels")
    for ax in (image, pull):
        ax.set(xticks=[], yticks=[])

    if apart > 1e-12:
        raise SystemExit(f"expected the network to agree with the formulas, got {apart:.1e}")
    if round(loss, 3) != 0.135 or round(float(d3[0, 7]), 3) != -0.126 or abs(d3.sum()) > 1e-12:
        raise SystemExit(f"expected a loss of 0.135 and an error of -0.126, got {loss} and {d3[0, 7]}")
    zero = float((by_hand["0.weight"] == 0).mean())
    print(
        f"Loss {loss:.3f}, error of the seven {d3[0, 7]:.3f}; formulas and network are {apart:.0e} apart, and "
        f"{zero:.0%} of the first layer's gradient is 0, where a pixel is white or a unit is off."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'gradient_walk.png')}")


if __name__ == "__main__":
    main()
