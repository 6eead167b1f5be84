"""Learning-rate schedules: their curves, and what cooling down does to a rate that is too large to end with.

Run: python examples/schedules.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
import math
from pathlib import Path

from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Draw each schedule, train with each, compare where they end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, schedules and rows, for tests")
    parser.add_argument("--out", default="runs/schedules", help="folder for the picture")
    args = parser.parse_args()

    epochs = 30 if args.quick else 70
    schedules = {
        "constant": xpnn.Constant(),
        "cosine": xpnn.CosineDecay(),
        "step: half every 10": xpnn.StepDecay(every=10, factor=0.5),
        "exponential: 0.95 an epoch": xpnn.ExponentialDecay(0.95),
        "exp(-0.1 t)": xpnn.ExponentialDecay(math.exp(-0.1)),
        "1 / (1 + 0.1 t)": xpnn.InverseTimeDecay(0.1),
        "warm restarts": xpnn.WarmRestarts(period=10, growth=2),
    }
    by_hand = {"step: half every 10": 0.25, "exponential: 0.95 an epoch": 0.95**25, "exp(-0.1 t)": math.exp(-2.5)}
    for name, expected in {**by_hand, "1 / (1 + 0.1 t)": 1 / 3.5}.items():
        if abs(schedules[name](25.0) - expected) > 1e-12:
            raise SystemExit(f"{name}: expected the factor {expected} after 25 epochs, got {schedules[name](25.0)}")

    figure = Figure(figsize=(13, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 0.7))
    for name, schedule in schedules.items():
        xpnn.plots.plot_schedule(schedule, epochs, ax=left, label=name)
    left.set(title="Factor on the learning rate", ylim=(0, 1.05))
    if left.get_legend():
        left.get_legend().remove()  # one for all three pictures stands below

    # Rate 1.5 without momentum is quick at first and then too coarse to settle.
    X, y = xpnn.data.make_moons(300, noise=0.2, seed=0)
    trained = ["constant", "cosine", "exp(-0.1 t)"] if args.quick else list(schedules)
    ends = {}
    for name in trained:
        net = xpnn.mlp([2, 16, 16, 2], "tanh", backend=args.backend, seed=range(5))
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=1.5), schedule=schedules[name])
        losses = trainer.fit(X, y, epochs=epochs, batch_size=30)["loss"]
        ends[name] = trainer.evaluate(X, y)["loss"]
        colour = xpnn.plots.OKABE_ITO[list(schedules).index(name)]
        middle.plot(range(1, epochs + 1), losses, color=colour, linewidth=1)
        right.barh(name, ends[name], color=colour)
        print(f"{name:26}: ends at a loss of {ends[name]:.4f}")
    middle.set(title="Two moons, SGD with lr 1.5, mean of 5 starts", xlabel="epoch", ylabel="training loss")
    middle.set_yscale("log")
    right.set(title="Loss at the end", xlabel="cross-entropy")
    right.invert_yaxis()
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    if not ends["cosine"] < 0.9 * ends["constant"] or not ends["cosine"] < ends["exp(-0.1 t)"]:
        raise SystemExit(f"expected cosine to end below a constant rate and one that cools early, got {ends}")
    print(
        f"Cooling down pays: cosine ends at {ends['cosine']:.4f}, the constant rate at {ends['constant']:.4f}; "
        f"cooling too early does not: exp(-0.1 t) ends at {ends['exp(-0.1 t)']:.4f}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'schedules.png')}")


if __name__ == "__main__":
    main()
