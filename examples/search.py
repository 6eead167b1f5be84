"""Search over learning rate, batch size and width; then grid, random draws and halving at one budget.

Networks of one shape are trained together, each with its own learning rate and dropout, as `xpnn.search` does.

Run: python examples/search.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.search import Halving, LogUniform, Uniform, grid, random, run


def main() -> None:
    """Search, report, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer rows, rates and draws, for tests")
    parser.add_argument("--out", default="runs/search", help="folder for the picture")
    args = parser.parse_args()

    rows, draws = (600, 3) if args.quick else (1797, 8)
    X, y = (a[:rows] for a in xpnn.data.load_digits())
    common = {"loss": xpnn.CrossEntropy(), "epochs": 9, "backend": args.backend}

    # 1. Learning rate and batch size belong together; wider is better here.
    sizes, widths = ([16, 256], [8, 32]) if args.quick else ([16, 32, 64, 128, 256], [8, 32, 128])
    rates = np.geomspace(0.03, 3.0, 5).round(3)
    space = {"lr": rates, "batch_size": sizes, "width": widths, "optimizer": "sgd"}
    table = run(grid(space), X, y, **common)
    mean = {(row["batch_size"], row["lr"]): row["score"] for row in table.averaged("width")}
    best = {size: min(rates.tolist(), key=lambda lr, size=size: mean[size, lr]) for size in sizes}
    by_width = {w: min(t.score for t in table.ranking if t.config["width"] == w) for w in widths}
    print(f"Best of {len(table)}: {table.best.config}, validation loss {table.best.score:.3f}")
    print("Best learning rate by batch size: " + ", ".join(f"{size}: {lr:g}" for size, lr in best.items()))

    # 2. Nine networks of nine epochs each: where should they lie?  The rate matters, dropout hardly does.
    low, high = 1e-3, 10.0
    thirds = np.exp(np.linspace(math.log(low), math.log(high), 7)[1::2])  # the middle of each third
    fixed = {"hidden": (32,), "optimizer": "sgd", "batch_size": 64}
    square = grid({"lr": thirds, "dropout": [0.08, 0.25, 0.42], **fixed})
    anywhere = {"lr": LogUniform(low, high), "dropout": Uniform(0.0, 0.5), **fixed}
    found, costs = [], {}

    def note(name: str, result: xpnn.search.SearchResult) -> None:
        found.append({"search": name, "val_loss": result.best.score})
        costs[name] = max(costs.get(name, 0), result.epochs)

    for seed in range(draws):
        note("grid", run([{**c, "seed": seed} for c in square], X, y, **common))
        nine = [{**c, "seed": seed} for c in random(anywhere, 9, seed=seed)]
        note("random", run(nine, X, y, **common))
        many = [{**c, "seed": seed} for c in random(anywhere, 27, seed=seed)]
        # 27 networks for 1 epoch, the best 9 of them for 2 more, 3 for 6 more and 1 for 18 more: 81 epochs again
        note("halving", run(many, X, y, **{**common, "epochs": 27}, halving=Halving(eta=3)))
    means = {name: np.mean([r["val_loss"] for r in found if r["search"] == name]) for name in costs}
    print(", ".join(f"{name}: loss {loss:.3f} for {costs[name]} epochs" for name, loss in means.items()))

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[4, 2, 2])
    table.plot("lr", "batch_size", ax=left)
    left.set_title("Mean over widths: larger batches want a larger rate", fontsize=10)
    table.plot("width", ax=middle, reduce="min")
    middle.set_title("The best network of each width", fontsize=10)
    xpnn.plots.plot_search(found, "search", value="val_loss", ax=right)
    right.set_title(f"Best of 81 epochs of training ({draws} draws)", fontsize=10)
    right.set(xlabel="", ylabel="best validation loss")
    if not best[sizes[0]] < best[sizes[-1]]:
        raise SystemExit(f"expected the best rate to grow with the batch, got {best}")
    if not by_width[widths[0]] > by_width[widths[-1]]:
        raise SystemExit(f"expected the widest networks to be better than the narrowest, got {by_width}")
    if not max(costs.values()) <= 81:
        raise SystemExit(f"expected all to cost at most 81 epochs, got {costs}")
    if not max(means["random"], means["halving"]) < means["grid"]:
        raise SystemExit(f"expected random draws to beat a grid of equal cost, got {means}")
    print("Nine random rates come nearer to the best one than the three of a grid, for the same training;")
    print("halving tries 27 for it, and trains the best for 27 epochs.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'search.png')}")


if __name__ == "__main__":
    main()
