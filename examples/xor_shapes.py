"""XOR by weights set by hand, by the two lines that training finds, and by four shapes: which one learns it soonest.

Run: python examples/xor_shapes.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

SHAPES = ([2, 2, 1], [2, 4, 1], [2, 8, 1], [2, 4, 4, 1])


def by_hand(backend):
    """AND by one step unit; XOR by OR and NAND in the hidden layer and AND behind them.  Proofs, not trainings."""
    points, _ = xpnn.data.make_xor()
    units = {"AND": ([1.0, 1.0], -1.5), "OR": ([1.0, 1.0], -0.5), "NAND": ([-1.0, -1.0], 1.5)}
    one = xpnn.Sequential(xpnn.Linear(1), xpnn.Step(), n_in=2, backend=backend)
    one.load_state_dict(
        {"0.weight": np.asarray(units["AND"][0]).reshape(2, 1), "0.bias": np.asarray([units["AND"][1]])}
    )
    two = xpnn.Sequential(xpnn.Linear(2), xpnn.Step(), xpnn.Linear(1), xpnn.Step(), n_in=2, backend=backend)
    two.load_state_dict({
        "0.weight": np.asarray([units["OR"][0], units["NAND"][0]]).T,
        "0.bias": np.asarray([units["OR"][1], units["NAND"][1]]),
        "2.weight": np.asarray(units["AND"][0]).reshape(2, 1),
        "2.bias": np.asarray([units["AND"][1]]),
    })  # fmt: skip
    a, b = points[:, 0] > 0.5, points[:, 1] > 0.5
    for name, net, wanted in (("AND", one, a & b), ("XOR", two, a ^ b)):
        said = xpnn.to_numpy(net.predict(points)).ravel()
        print(f"{name} by hand: " + ", ".join(f"{p.astype(int)} {int(s)}" for p, s in zip(points, said, strict=True)))
        if not np.array_equal(said, wanted):
            raise SystemExit(f"{name}: the weights set by hand should say {wanted}, got {said}")


def epochs_to(limit, sizes, starts, epochs, backend):
    """Train one shape from many starts; return the trainer, and for each start the first epoch below the limit."""
    X, y = xpnn.data.make_xor()
    net = xpnn.mlp(sizes, "tanh", backend=backend, seed=range(starts))
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.5))
    history = trainer.fit(X, y.reshape(-1, 1).astype(float), epochs=epochs, batch_size=4)
    below = np.asarray(history["loss_replicas"]) < limit
    return trainer, np.where(below.any(axis=0), below.argmax(axis=0) + 1, np.inf)


def draw_lines(ax, trainer, k, resolution):
    """The border of start k, and the line of each hidden unit: where its sum is zero."""
    X, y = xpnn.data.make_xor()
    xpnn.plots.plot_decision_boundary(
        lambda points: trainer.predict_proba(points)[k], X, y, ax=ax, output="probabilities", resolution=resolution
    )
    w, b = (xpnn.to_numpy(trainer.net.params[name])[k] for name in ("0.weight", "0.bias"))
    limits = ax.get_xlim(), ax.get_ylim()
    apart = []
    for unit, style in zip(range(2), ("--", ":"), strict=True):
        foot = -b[unit] * w[:, unit] / (w[:, unit] @ w[:, unit])
        ax.axline(
            foot,
            foot + np.asarray([-w[1, unit], w[0, unit]]),
            color=xpnn.plots.OKABE_ITO[2],
            linestyle=style,
            linewidth=2.5,
        )
        apart.append(X @ w[:, unit] + b[unit] > 0)
    ax.set(xlim=limits[0], ylim=limits[1], title="2-2-1: its border, and where each unit is zero")
    return apart


def main() -> None:
    """Prove by hand, count epochs for each shape, draw the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer starts and epochs, for tests")
    parser.add_argument("--out", default="runs/xor_shapes", help="folder for the picture")
    args = parser.parse_args()
    starts, epochs = (20, 400) if args.quick else (100, 1000)
    by_hand(args.backend)

    figure = Figure(figsize=(10.5, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    medians, solved = {}, {}
    for sizes, colour in zip(SHAPES, xpnn.plots.OKABE_ITO, strict=False):
        name = "-".join(map(str, sizes))
        trainer, first = epochs_to(0.1, sizes, starts, epochs, args.backend)
        solved[name] = float(np.isfinite(first).mean())
        medians[name] = float(np.median(first[np.isfinite(first)]))
        right.step(np.sort(first), np.arange(1, starts + 1) / starts, where="post", color=colour, label=name)
        print(f"{name:7}: {solved[name]:.0%} of {starts} starts below 0.1, half of those by epoch {medians[name]:.0f}")
        if len(sizes) == 3 and sizes[1] == 2:
            sides = draw_lines(left, trainer, int(np.argmin(first)), 60 if args.quick else 150)
    right.set(
        title="Starts below a loss of 0.1", xlabel="epoch", ylabel="share of starts", xlim=(0, epochs), ylim=(0, 1.03)
    )
    right.legend(loc="lower right")

    # Each line has some points on either side, and the two lines do not part them in the same way.
    if not all(0 < side.sum() < 4 for side in sides) or np.array_equal(sides[0], sides[1]):
        raise SystemExit(f"expected two lines that part the four points, each in its way, got {sides}")
    if not medians["2-4-4-1"] < medians["2-8-1"] < medians["2-4-1"] < medians["2-2-1"]:
        raise SystemExit(f"expected wider, and deeper, shapes to be sooner, got {medians}")
    if not (solved["2-8-1"] == solved["2-4-1"] == 1.0 and solved["2-2-1"] < 0.9):
        raise SystemExit(f"expected every start of 2-4-1 and 2-8-1 to solve XOR, and of 2-2-1 not, got {solved}")
    told = ", ".join(f"{name} {median:.0f}" for name, median in medians.items())
    print(f"Two lines solve XOR, and a training of 2-2-1 finds them; median epochs to a loss below 0.1: {told}.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'xor_shapes.png')}")


if __name__ == "__main__":
    main()
