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
    figure = Figure(figsize=(13, 4), layout="constrained")
    by_epoch, by_second, by_step = figure.subplots(1, 3)
    ends, seconds, jumps = {}, {}, {}
    for size, colour in zip((1, 32, 64, n), xpnn.plots.OKABE_ITO, strict=False):
        in_steps = []
        watch = xpnn.LambdaCallback(on_batch_end=lambda trainer, seen=in_steps: seen.append(trainer.step))
        net = xpnn.mlp([2, 16, 2], "tanh", backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.1), callbacks=[watch])
        history = trainer.fit(X, y, epochs=epochs, batch_size=size)
        if len(in_steps) != epochs * -(-n // size):
            raise SystemExit(f"batch size {size}: expected the last short batch to be a step too")
        ends[size] = trainer.evaluate(X, y)["loss"]
        seconds[size] = float(np.median(history["seconds"]))
        jumps[size] = float(np.median(history["grad_norm"]))
        name = f"{size}" if size < n else f"all {n}"
        print(
            f"batch size {name:7}: {-(-n // size):3} steps an epoch, {1000 * seconds[size]:6.1f} ms an epoch, "
            f"loss {ends[size]:.3f} after {epochs} epochs"
        )
        axis = np.arange(1, epochs + 1)
        by_epoch.plot(axis, history["loss"], color=colour, label=name)
        by_second.plot(np.cumsum(history["seconds"]), history["loss"], color=colour)
        by_step.plot(axis * -(-n // size), history["loss"], color=colour)
    by_epoch.set(title="By epoch: small batches lead", xlabel="epoch", ylabel="training loss", yscale="log")
    by_second.set(title="The same by time", xlabel="seconds", xscale="log", yscale="log")
    by_step.set(title="The same by step", xlabel="step", xscale="log", yscale="log")
    figure.legend(*by_epoch.get_legend_handles_labels(), loc="outside right upper", title="batch size")

    if not ends[1] < ends[32] < ends[64] < ends[n]:
        raise SystemExit(f"expected smaller batches to be ahead after equal epochs at equal rates, got {ends}")
    if not seconds[1] > 3 * seconds[n]:
        raise SystemExit(f"expected single samples to take far longer for an epoch, got {seconds}")
    print("At one rate, smaller batches get further in an epoch, and each epoch takes them longer.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'batch_sizes.png')}")


if __name__ == "__main__":
    main()
