"""Batch sizes 1, 32, 64 and all rows: steps for each epoch, smoothness of the curve, speed.

Run: python examples/batch_sizes.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Train from the same start with each batch size, compare by epoch and by second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer rows and epochs, for tests")
    parser.add_argument("--out", default="runs/batch_sizes", help="folder for the picture")
    args = parser.parse_args()

    n, epochs = (150, 8) if args.quick else (500, 40)
    X, y = xpnn.data.make_moons(n, noise=0.2, seed=0)
    X_new, y_new = xpnn.data.make_moons(n, noise=0.2, seed=1)
    figure = Figure(figsize=(14, 4), layout="constrained")
    by_epoch, by_second, by_step, roughness = figure.subplots(1, 4)
    ends, seconds, jumps = {}, {}, {}
    late = slice(epochs // 2, None)  # the second half, where the noise of the batches is what moves the curve
    for size, colour in zip((1, 32, 64, n), xpnn.plots.OKABE_ITO, strict=False):
        in_steps = []
        watch = xpnn.LambdaCallback(on_batch_end=lambda trainer, seen=in_steps: seen.append(trainer.step))
        net = xpnn.mlp([2, 16, 2], "tanh", backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.1), callbacks=[watch])
        history = trainer.fit(X, y, epochs=epochs, batch_size=size, X_val=X_new, y_val=y_new)
        if len(in_steps) != epochs * -(-n // size):
            raise SystemExit(f"batch size {size}: expected the last short batch to be a step too")
        ends[size] = trainer.evaluate(X, y)["loss"]
        seconds[size] = float(np.median(history["seconds"]))
        # The bend of log loss: 0 on a curve that falls by equal shares, large where it goes up and down.
        jumps[size] = float(np.abs(np.diff(np.log(history["val_loss"][late]), n=2)).mean())
        name = f"{size}" if size < n else f"all {n}"
        print(
            f"batch size {name:7}: {-(-n // size):3} steps an epoch, {1000 * seconds[size]:6.1f} ms an epoch, "
            f"loss {ends[size]:.3f} after {epochs} epochs; on new rows it jumps by {jumps[size]:.2%} an epoch"
        )
        axis = np.arange(1, epochs + 1)
        by_epoch.plot(axis, history["val_loss"], color=colour, label=name)
        by_second.plot(np.cumsum(history["seconds"]), history["loss"], color=colour)
        by_step.plot(axis * -(-n // size), history["loss"], color=colour)
        roughness.bar(name, jumps[size], color=colour)
    by_epoch.set(title="By epoch, on new rows", xlabel="epoch", ylabel="loss", yscale="log")
    by_second.set(title="Training rows, by time", xlabel="seconds", xscale="log", yscale="log")
    by_step.set(title="Training rows, by step", xlabel="step", xscale="log", yscale="log")
    roughness.set(title="Jumps of the first curves", xlabel="batch size", ylabel="mean bend of log loss", yscale="log")
    figure.legend(*by_epoch.get_legend_handles_labels(), loc="outside right upper", title="batch size")

    if not ends[1] < ends[32] < ends[64] < ends[n]:
        raise SystemExit(f"expected smaller batches to be ahead after equal epochs at equal rates, got {ends}")
    if not seconds[1] > 3 * seconds[n]:
        raise SystemExit(f"expected single samples to take far longer for an epoch, got {seconds}")
    if not jumps[1] > 3 * jumps[32] > 3 * jumps[n]:
        raise SystemExit(
            f"expected the curve of single samples to be the roughest, all rows' the smoothest, got {jumps}"
        )
    print(
        "At one rate, smaller batches get further in an epoch, each epoch takes them longer, and the curve is rougher: "
        f"its loss on new rows jumps by {jumps[1]:.1%} with single samples and by {jumps[n]:.2%} with all rows."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'batch_sizes.png')}")


if __name__ == "__main__":
    main()
