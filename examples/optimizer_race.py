"""SGD, momentum, RMSProp and Adam on one table: loss curves, time, and what each had after how many seconds.

One column is a hundred times as large as the other, and a second network gets both on one scale: to scale the inputs is
worth more than any rule.

Run: python examples/optimizer_race.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

RULES = {
    "SGD": lambda: xpnn.SGD(lr=0.1),
    "momentum": lambda: xpnn.SGD(lr=0.1, momentum=0.9),
    "RMSProp": lambda: xpnn.RMSProp(lr=0.005),
    "Adam": lambda: xpnn.Adam(lr=0.01),
}
STARTS, LIMIT = 5, 0.1


def train(X, y, optimizer, epochs, backend):
    """Train five starts at once; return the trainer's history, and its share right on new points."""
    X_new, y_new = X[300:], y[300:]
    net = xpnn.mlp([2, 16, 16, 2], "tanh", backend=backend, seed=range(STARTS))
    trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), optimizer)
    history = trainer.fit(X[:300], y[:300], epochs=epochs, batch_size=50)
    return history, float(np.median(trainer.evaluate(X_new, y_new)["accuracy_replicas"]))


def main() -> None:
    """Race on scaled columns, then show what unscaled ones do to the same rules."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/optimizer_race", help="folder for the picture")
    args = parser.parse_args()
    epochs = 60 if args.quick else 200

    X, y = xpnn.data.make_moons(900, noise=0.1, seed=0)
    X = X * [100.0, 1.0] + [500.0, 0.0]
    scaled = (X - X[:300].mean(axis=0)) / X[:300].std(axis=0)  # by the training rows alone
    figure = Figure(figsize=(14, 4.2), layout="constrained")
    curves, times, speed, raw = figure.subplots(1, 4)
    first, right, unscaled = {}, {}, {}
    for (name, rule), colour in zip(RULES.items(), xpnn.plots.OKABE_ITO, strict=False):
        history, right[name] = train(scaled, y, rule(), epochs, args.backend)
        _, unscaled[name] = train(X, y, rule(), epochs, args.backend)
        losses, seconds = np.asarray(history["loss"]), np.cumsum(history["seconds"])
        first[name] = int(np.argmax(losses < LIMIT)) + 1 if (losses < LIMIT).any() else epochs + 1
        curves.plot(history["epoch"], losses, color=colour, label=name)
        times.bar(name, seconds[-1], color=colour)
        speed.plot(seconds, history["accuracy"], color=colour)
        print(
            f"{name:8}: loss {losses[-1]:.3f} in {epochs} epochs and {seconds[-1]:.1f} s, below {LIMIT} "
            + (f"after {first[name]}" if first[name] <= epochs else "not yet")
            + f"; of new points {right[name]:.1%} right, on unscaled columns {unscaled[name]:.1%}"
        )
    curves.axhline(LIMIT, color="black", linestyle=":", linewidth=1)
    curves.set(title="Two moons, mean of 5 starts", xlabel="epoch", ylabel="cross-entropy", yscale="log")
    curves.legend()
    times.set(title=f"Time of {epochs} epochs", ylabel="seconds")
    speed.set(title="Speed against accuracy", xlabel="seconds", ylabel="training accuracy", ylim=(0.7, 1.01))
    places = np.arange(len(RULES))
    raw.bar(places - 0.2, list(right.values()), 0.4, color=xpnn.plots.OKABE_ITO[0], label="scaled")
    raw.bar(places + 0.2, list(unscaled.values()), 0.4, color="0.7", label="unscaled")
    raw.set(title="New points right, columns scaled or not", ylim=(0.4, 1.15))
    raw.set_xticks(places, list(RULES))
    raw.legend(ncols=2)
    for ax in (times, raw):
        ax.tick_params(axis="x", labelrotation=20)

    if not max(first["momentum"], first["Adam"], first["RMSProp"]) < first["SGD"]:
        raise SystemExit(f"expected plain descent to be the last below {LIMIT}, got epochs {first}")
    if not min(right[name] for name in ("momentum", "RMSProp", "Adam")) > max(unscaled.values()):
        raise SystemExit(f"expected scaled columns to be better for each rule, got {right} and {unscaled}")
    told = ", ".join(f"{name} {epoch if epoch <= epochs else 'later'}" for name, epoch in first.items())
    print(
        f"First epoch below a loss of {LIMIT}: {told}; but unscaled columns cost each of them more, the best has "
        f"{max(unscaled.values()):.1%} of new points right."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'optimizer_race.png')}")


if __name__ == "__main__":
    main()
