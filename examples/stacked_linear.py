"""Layers without nonlinearities collapse into one: W3 (W2 (W1 x)) = (W3 W2 W1) x, however many there are.

Run: python examples/stacked_linear.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn


def main() -> None:
    """Collapse a deep linear network by hand; train one with and one without tanh."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/stacked_linear", help="folder for the picture")
    args = parser.parse_args()

    where = {"backend": args.backend, "dtype": "float64"}
    deep = xpnn.Sequential(xpnn.Linear(5), xpnn.Linear(4), xpnn.Linear(2), n_in=3, **where)
    w1, w2, w3 = (xpnn.to_numpy(deep.params[f"{i}.weight"]) for i in range(3))
    one = xpnn.Sequential(xpnn.Linear(2), n_in=3, **where)
    one.load_state_dict({"0.weight": w1 @ w2 @ w3, "0.bias": np.zeros(2)})
    x = np.random.default_rng(0).standard_normal((100, 3))
    difference = np.abs(xpnn.to_numpy(deep.predict(x)) - xpnn.to_numpy(one.predict(x))).max()
    print(f"3-5-4-2 without nonlinearities, {deep.n_params} parameters, differs from 3-2, {one.n_params} parameters,")
    print(f"by {difference:.1e} at most on 100 rows: it is the same map.")
    if difference > 1e-12:
        raise SystemExit("expected the product of the matrices to give the same map")

    X, y = xpnn.data.make_moons(200 if args.quick else 500, noise=0.1, seed=0)
    figure = Figure(figsize=(10, 4), layout="constrained")
    share = {}
    for ax, activation in zip(figure.subplots(1, 2), ("identity", "tanh"), strict=True):
        net = xpnn.mlp([2, 16, 16, 2], activation, backend=args.backend, seed=0)
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.Adam(lr=0.02))
        trainer.fit(X, y, epochs=40 if args.quick else 100, batch_size=40)
        share[activation] = trainer.evaluate(X, y)["accuracy"]
        xpnn.plots.plot_decision_boundary(trainer, X, y, ax=ax, resolution=80 if args.quick else 200)
        ax.set_title(f"2-16-16-2 with {activation}: {share[activation]:.0%} right")
    if share["identity"] > 0.93 or share["tanh"] < 0.97:
        raise SystemExit(f"expected a straight border without tanh and a bent one with it, got {share}")
    print(f"Linear layers draw a straight line ({share['identity']:.0%}); with tanh between, {share['tanh']:.0%}.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'stacked_linear.png')}")


if __name__ == "__main__":
    main()
