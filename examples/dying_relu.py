"""ReLU units pushed below zero for every sample get no gradient and never return; leaky kinds do.

All hidden biases start at -4, so that no sample reaches any unit: the state that one step too large leaves behind.

Run: python examples/dying_relu.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Constant, HeNormal


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
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
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
    if alive["ReLU"] != 0 or shares["ReLU"] > 0.6:
        raise SystemExit("expected ReLU to stay dead and to guess")
    for name in list(kinds)[1:]:
        if alive[name] == 0 or shares[name] < 0.85:
            raise SystemExit(f"{name}: expected units to come back and learn, got {alive[name]} and {shares[name]:.1%}")
    print("Dead ReLU units stay dead; with a slope below zero some come back: most with ELU, few with the leaky kinds.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'dying_relu.png')}")


if __name__ == "__main__":
    main()
