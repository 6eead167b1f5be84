"""Three steps of each optimizer by its formula, beside xpnn's: down f(p) = p² from p = 1.

Run: python examples/optimizers_by_hand.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Zeros
from xpnn.params import ParamSpec, ParamStore

# Each rule takes p, its gradient g, the count t of steps from 1 and a dict of what it remembers; it returns p.


def sgd(p, g, t, kept):
    return p - 0.1 * g


def momentum(p, g, t, kept):
    kept["v"] = 0.9 * kept.get("v", 0.0) + (1 - 0.9) * g
    return p - 0.1 * kept["v"]


def nesterov(p, g, t, kept):
    kept["v"] = 0.9 * kept.get("v", 0.0) + g
    return p - 0.1 * (g + 0.9 * kept["v"])


def rmsprop(p, g, t, kept):
    kept["s"] = 0.9 * kept.get("s", 0.0) + (1 - 0.9) * g**2
    return p - 0.1 * g / (np.sqrt(kept["s"]) + 1e-8)


def adam(p, g, t, kept):
    kept["m"] = 0.9 * kept.get("m", 0.0) + (1 - 0.9) * g
    kept["v"] = 0.999 * kept.get("v", 0.0) + (1 - 0.999) * g**2
    m, v = kept["m"] / (1 - 0.9**t), kept["v"] / (1 - 0.999**t)  # both start at 0: this undoes the bias
    return p - 0.1 * m / (np.sqrt(v) + 1e-8)


def adamw(p, g, t, kept):
    return adam(p - 0.1 * 0.5 * p, g, t, kept)  # the decay does not pass through the moments


RULES = {
    "SGD": (sgd, xpnn.SGD(0.1), "p - η g"),
    "momentum": (momentum, xpnn.Momentum(0.1, beta=0.9), "v = β v + (1 - β) g; p - η v"),
    "Nesterov": (nesterov, xpnn.SGD(0.1, momentum=0.9, nesterov=True), "v = μ v + g; p - η (g + μ v)"),
    "RMSProp": (rmsprop, xpnn.RMSProp(0.1, alpha=0.9), "s = β s + (1 - β) g²; p - η g / (√s + ε)"),
    "Adam": (adam, xpnn.Adam(0.1), "m, v corrected for their start at 0; p - η m / (√v + ε)"),
    "AdamW": (adamw, xpnn.AdamW(0.1, weight_decay=0.5), "p - η λ p, then Adam's step"),
}


def main() -> None:
    """Take each step both ways and compare; draw thirty steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    parser.add_argument("--out", default="runs/optimizers_by_hand", help="folder for the picture")
    args = parser.parse_args()
    defaults = xpnn.Adam()
    if (defaults.beta1, defaults.beta2, defaults.eps) != (0.9, 0.999, 1e-8):
        raise SystemExit("expected Adam's defaults to be the paper's")

    figure = Figure(figsize=(9, 4.4), layout="constrained")
    ax = figure.subplots()
    worst, seen = 0.0, {}
    for (name, (rule, optimizer, formula)), colour in zip(RULES.items(), xpnn.plots.OKABE_ITO, strict=False):
        store = ParamStore(xpnn.get_backend(args.backend, "float64"), [ParamSpec("p", (1,), Zeros(), decay=True)])
        p, g, kept = store.params["p"], store.param_grads["p"], {}
        p[...] = 1.0
        hand, path = [1.0], [1.0]
        for t in range(1, 31):
            hand.append(rule(hand[-1], 2 * hand[-1], t, kept))
            g[...] = 2 * path[-1]
            optimizer.step(store)
            path.append(float(xpnn.to_numpy(p)[0]))
        worst, seen[name] = max(worst, np.abs(np.subtract(hand, path)).max()), path
        print(f"{name:8} {formula:56}: " + ", ".join(f"{value:.6f}" for value in hand[1:4]))
        ax.plot(hand, color=colour, label=f"{name}, by hand")
        ax.plot(path, "o", color=colour, markersize=4)
    ax.plot([], [], "o", color="0.5", label="the same by xpnn")
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set(title="Down f(p) = p² with a learning rate of 0.1", xlabel="step", ylabel="p")
    figure.legend(loc="outside right center")
    if worst > 1e-12:
        raise SystemExit(f"expected formulas and optimizers to agree, they differ by {worst:.1e}")
    first = {name: 1 - path[1] for name, path in seen.items()}
    if abs(first["SGD"] - 0.2) > 1e-12 or abs(first["momentum"] - 0.02) > 1e-12 or abs(first["Adam"] - 0.1) > 1e-6:
        raise SystemExit(f"expected first steps of 0.2, 0.02 and 0.1, got {first}")
    print(
        f"Thirty steps of {len(RULES)} optimizers differ from their formulas by {worst:.0e} at most; Adam's first is η."
    )
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'optimizers_by_hand.png')}")


if __name__ == "__main__":
    main()
