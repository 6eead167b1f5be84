"""ReLU units pushed below zero for every sample get no gradient and never return; leaky kinds do.

All hidden biases start at -4, so that no sample reaches any unit: the state that one step too large leaves behind.

Run: python examples/dying_relu.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Constant, HeNormal, Normal


def dead_after(init, rate, epochs, X, y, backend):
    """Train 2-16-2 with ReLU from ten starts; return the share of hidden units that no sample reaches any more."""
    hidden = xpnn.Linear(16, init=init)
    net = xpnn.Sequential(hidden, xpnn.ReLU(), xpnn.Linear(2), n_in=2, backend=backend, seed=range(10))
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=rate)).fit(X, y, epochs=epochs, batch_size=60)
    z, _ = hidden.forward(net.backend.asarray(X))
    return float((xpnn.to_numpy(z) <= 0).all(axis=-2).mean())


def main() -> None:
    """Train each kind from the dead state; count who comes back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/dying_relu", help="folder for the picture")
    args = parser.parse_args()

    X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    epochs = 60 if args.quick else 200
    kinds = {"ReLU": xpnn.ReLU(), "Leaky ReLU": xpnn.LeakyReLU(0.1), "PReLU": xpnn.PReLU(0.25), "ELU": xpnn.ELU()}
    figure = Figure(figsize=(14, 4), layout="constrained")
    left, right, rates = figure.subplots(1, 3)
    shares, alive = {}, {}
    for (name, activation), colour in zip(kinds.items(), xpnn.plots.OKABE_ITO, strict=False):
        hidden = xpnn.Linear(16, init=HeNormal(), bias_init=Constant(-4.0))
        net = xpnn.Sequential(hidden, activation, xpnn.Linear(2), n_in=2, backend=args.backend, seed=0)
        before = xpnn.to_numpy(net.params["0.weight"]).copy()
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.05))
        history = trainer.fit(X, y, epochs=epochs, batch_size=60)
        shares[name] = trainer.evaluate(X, y)["accuracy"]
        moved = abs(xpnn.to_numpy(net.params["0.weight"]) - before).max()
        z, _ = hidden.forward(net.backend.asarray(X))
        alive[name] = int((xpnn.to_numpy(z) > 0).any(axis=0).sum())
        left.plot(history["epoch"], history["loss"], color=colour, label=name)
        right.bar_label(right.bar(name, alive[name], color=colour))
        print(f"{name:10}: {shares[name]:.1%} right, {alive[name]:2} of 16 units reached, weights moved {moved:.2f}")
        if name == "ReLU" and moved != 0:
            raise SystemExit("expected dead units to get no gradient at all")
    left.set(title="Two moons from the dead state", xlabel="epoch", ylabel="cross-entropy", ylim=(0, None))
    left.legend(loc="center right")
    right.set(title="Units that some sample reaches, at the end", ylabel="units of 16", ylim=(0, 16))
    ways = {"He, 0.1": (HeNormal(), 0.1), "N(0, 5²), 0.1": (Normal(5.0), 0.1)}
    ways |= {"He, 10": (HeNormal(), 10.0), "N(0, 5²), 10": (Normal(5.0), 10.0)}
    died = {name: dead_after(init, rate, 30, X, y, args.backend) for name, (init, rate) in ways.items()}
    for name, colour in zip(died, xpnn.plots.OKABE_ITO, strict=False):
        rates.bar_label(rates.bar(name, died[name], color=colour), fmt="{:.0%}")
    rates.set(title="How they die: first weights and rate", ylabel="share of units dead after 30 epochs", ylim=(0, 1))
    print("dead after 30 epochs: " + ", ".join(f"{name} {share:.0%}" for name, share in died.items()))
    if not (max(died["He, 0.1"], died["N(0, 5²), 0.1"]) < 0.05 and min(died["He, 10"], died["N(0, 5²), 10"]) > 0.3):
        raise SystemExit(
            f"expected units to die of a rate of 10, and of none of the starts at a rate of 0.1, got {died}"
        )
    if not died["He, 10"] > died["N(0, 5²), 10"]:
        raise SystemExit(f"expected He to be no cure: as many units dead from it as from N(0, 5²), got {died}")
    if alive["ReLU"] != 0 or shares["ReLU"] > 0.6:
        raise SystemExit("expected ReLU to stay dead and to guess")
    for name in list(kinds)[1:]:
        if alive[name] == 0 or shares[name] < 0.85:
            raise SystemExit(f"{name}: expected units to come back and learn, got {alive[name]} and {shares[name]:.1%}")
    print(
        f"Dead ReLU units stay dead; with a slope below zero some come back. He's start is no cure: at a rate of "
        f"10, {died['He, 10']:.0%} of its units die (from N(0, 5²) {died['N(0, 5²), 10']:.0%}), "
        f"at 0.1 {died['He, 0.1']:.0%}."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'dying_relu.png')}")


if __name__ == "__main__":
    main()
