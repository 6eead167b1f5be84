"""A learning rate from one sweep of a hundred steps, against the best of many whole trainings.

`xpnn.find_lr` raises the rate from step to step on a copy of the network and reads the rate from the curve of the loss.
`xpnn.search` trains with multiples of that rate, all networks at once, and tells how good it was.

Run: python examples/lr_finder.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

WITHIN = 5  # rates a few times off the best one cost little, as the picture shows


def main() -> None:
    """Find a rate, train with its multiples, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer rows, epochs and seeds, for tests")
    parser.add_argument("--out", default="runs/lr_finder", help="folder for the picture")
    args = parser.parse_args()

    rows, epochs, seeds = (600, 10, [0]) if args.quick else (1797, 20, [0, 1, 2])
    X, y = (a[:rows] for a in xpnn.data.load_digits())
    net = xpnn.mlp([64, 32, 10], backend=args.backend, seed=0)
    before = net.state_dict()
    found = xpnn.find_lr(net, xpnn.CrossEntropy(), xpnn.Adam(), X, y, lr_min=1e-5, batch_size=32)
    if any((before[name] != value).any() for name, value in net.state_dict().items()):
        raise SystemExit("expected find_lr to leave the network as it was")
    if found.suggestion is None:
        raise SystemExit("expected the loss to fall in the sweep")
    print(f"find_lr suggests {found.suggestion:.2g} after {len(found.lrs)} steps ({found.stopped}).")

    factors = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]
    space = {"lr": [f * found.suggestion for f in factors], "seed": seeds, "hidden": (32,), "batch_size": 32}
    result = xpnn.search.run(
        xpnn.search.grid(space), X, y, loss=xpnn.CrossEntropy(), epochs=epochs, backend=args.backend
    )
    losses = {row["lr"]: row["score"] for row in result.averaged("seed")}
    loss = [losses[lr] for lr in space["lr"]]
    best = int(np.nanargmin(loss))
    here = factors.index(1.0)
    print(
        f"Of {len(result)} trainings the best rate is {space['lr'][best]:.2g}, {factors[best]:g} x the suggestion: "
        f"validation loss {loss[best]:.3f}, and {loss[here]:.3f} at the suggestion."
    )

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    found.plot(ax=left)
    left.set_title(f"One sweep of {len(found.lrs)} steps")
    for seed in seeds:
        own = [t.score for t in result.trials if t.config["seed"] == seed]
        right.plot(space["lr"], own, "o", color="0.6", markersize=4, label="single seeds" if seed == seeds[0] else None)
    right.plot(space["lr"], loss, "-o", color=xpnn.plots.OKABE_ITO[0], label="mean")
    right.axvline(found.suggestion, color=xpnn.plots.OKABE_ITO[1], linestyle="--", label="suggestion")
    right.set(xscale="log", yscale="log", xlabel="learning rate", ylabel="best validation loss")
    right.set_title(f"{len(result)} trainings of {epochs} epochs")
    right.legend()

    if not 1 / WITHIN <= factors[best] <= WITHIN:
        raise SystemExit(f"expected the best rate within {WITHIN} times the suggestion, got {factors[best]} times it")
    if not loss[here] < min(loss[0], loss[-1]):
        raise SystemExit(f"expected rates a hundred times off to be worse, got {loss}")
    print(f"The suggestion is within a factor of {WITHIN} of the best rate, for the price of a few epochs.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'lr_finder.png')}")


if __name__ == "__main__":
    main()
