"""Rosenblatt's perceptron learns AND, OR, NAND and NOT, and never XOR or XNOR: no line separates their classes.

Run: python examples/perceptron_gates.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.estimators import Perceptron


def by_hand():
    """Two epochs on three points, every update shown; returns the weights and the bias."""
    rows = [((0, 1), 1), ((1, 0), 1), ((1, 1), 0)]
    w, b, mistakes = np.zeros(2), 0.0, [0, 0]
    print("epoch  x        z  says  wants  then w, b")
    for epoch in (1, 2):
        for x, y in rows:
            z = float(w @ x + b)
            error = y - int(z >= 0)
            w, b = w + error * np.asarray(x), b + error
            mistakes[epoch - 1] += error != 0
            print(f"{epoch}      {x}  {z:+.0f}    {int(z >= 0)}     {y}    {w.astype(int).tolist()}, {b:+.0f}")
    model = Perceptron(max_iter=2).fit([x for x, _ in rows], [y for _, y in rows])
    if (model.coef_[0].tolist(), model.intercept_[0], model.updates_per_epoch_) != (w.tolist(), b, mistakes):
        raise SystemExit("the perceptron does not repeat the two epochs worked by hand")
    if (w.tolist(), b, mistakes) != ([-1, -1], 0, [1, 3]):
        raise SystemExit(f"expected 1 and 3 mistakes and the line -x1 - x2 = 0, got {mistakes}, {w}, {b}")
    print(f"mistakes {mistakes[0]} and {mistakes[1]}; the line is {w[0]:+.0f} x1 {w[1]:+.0f} x2 {b:+.0f} = 0")


def draw_not(ax, model):
    """Two inputs on a line, and the point between them."""
    threshold = -model.intercept_[0] / model.coef_[0, 0]
    for x, label, marker in ((1, 0, "o"), (0, 1, "s")):
        ax.scatter(x, 0, color=xpnn.plots.OKABE_ITO[label], marker=marker, edgecolors="black", zorder=3)
    ax.axvline(threshold, color="black")
    ax.set(title=f"NOT: 1 where x is at most {threshold:.1f}", xlabel="$x$", yticks=[], xlim=(-0.9, 1.9), ylim=(-1, 1))
    return 0 <= threshold < 1


def draw(ax, model, X, y, title):
    """Points, decision line, weight vector and, where all points are right, the margin."""
    for label, colour, marker in ((0, xpnn.plots.OKABE_ITO[0], "o"), (1, xpnn.plots.OKABE_ITO[1], "s")):
        ax.scatter(*X[y == label].T, color=colour, marker=marker, edgecolors="black", label=f"class {label}", zorder=3)
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal", xlim=(-0.9, 1.9), ylim=(-0.9, 1.9))
    w, b = model.coef_[0], model.intercept_[0]
    length = np.linalg.norm(w)
    if length == 0:
        return
    foot = -b * w / length**2  # the point of the line nearest to the origin
    along = np.asarray([-w[1], w[0]]) / length
    ax.axline(foot, foot + along, color="black", linestyle="-" if model.converged_ else ":")
    if model.converged_:
        ax.annotate("", foot + 0.5 * w / length, foot, arrowprops={"arrowstyle": "->", "linewidth": 2})
        distances = np.abs(X @ w + b) / length
        ax.set_title(f"{title}\ndistance of the nearest point {distances.min():.2f}")


def main() -> None:
    """Learn each gate, try XOR, then points that a line nearly separates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy", help="where the learned gates run as networks with a step")
    parser.add_argument("--quick", action="store_true", help="fewer epochs for XOR")
    parser.add_argument("--out", default="runs/perceptron_gates", help="folder for the picture")
    args = parser.parse_args()
    by_hand()

    X = np.asarray([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    gates = {"AND": [0, 0, 0, 1], "OR": [0, 1, 1, 1], "NAND": [1, 1, 1, 0], "XOR": [0, 1, 1, 0], "XNOR": [1, 0, 0, 1]}
    figure = Figure(figsize=(14, 7), layout="constrained")
    axes = figure.subplots(2, 4).ravel()
    for ax, (name, outputs) in zip(axes, gates.items(), strict=False):
        y = np.asarray(outputs)
        model = Perceptron(max_iter=200 if args.quick else 5000).fit(X, y)
        settled = f"settles in epoch {model.n_iter_}" if model.converged_ else f"{model.n_iter_} epochs, never"
        (w1, w2), b = model.coef_[0], model.intercept_[0]
        line = f", slope {-w1 / w2:.0f}, intercept {-b / w2:.0f}" if model.converged_ else ""
        print(f"{name:5}: updates per epoch {model.updates_per_epoch_[:9]}, {settled}{line}")
        if model.converged_ == (name in ("XOR", "XNOR")):
            raise SystemExit(f"{name}: the perceptron should {'' if name in ('AND', 'OR', 'NAND') else 'never '}settle")
        net = xpnn.Sequential(xpnn.Linear(1), xpnn.Step(), n_in=2, backend=args.backend)
        net.load_state_dict({"0.weight": model.coef_.T, "0.bias": model.intercept_})
        if xpnn.to_numpy(net.predict(X)).ravel().tolist() != model.predict(X).tolist():
            raise SystemExit(f"{name}: the network with a step does not say what the perceptron says")
        draw(ax, model, X, y, f"{name}, {settled}")
    inverter = Perceptron().fit([[0.0], [1.0]], [1, 0])
    if not (draw_not(axes[5], inverter) and inverter.converged_):
        raise SystemExit("NOT: the perceptron should settle, between 0 and 1")
    print(f"NOT  : updates per epoch {inverter.updates_per_epoch_}, w = {inverter.coef_[0, 0]:+.0f}")

    # Two clouds that overlap a little: no epoch is without an update, yet the line is a good one.
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    cloud = y[:, None] + 0.33 * rng.standard_normal((120, 2))
    model = Perceptron(max_iter=60, shuffle=True).fit(cloud, y)
    share = model.score(cloud, y)
    if model.converged_ or share < 0.85:
        raise SystemExit("noisy clouds: expected a line that is good and never at rest")
    draw(axes[6], model, cloud, y, f"noisy clouds, {share:.0%} right")
    axes[6].legend(loc="upper left", fontsize=8)
    axes[7].plot(range(1, 61), model.updates_per_epoch_, color=xpnn.plots.OKABE_ITO[1])
    axes[7].set(title="noisy clouds: never at rest", xlabel="epoch", ylabel="updates per epoch", ylim=(0, None))
    print("On the line counts as class 1, so a settled line may touch a point: the rule seeks no wide margin.")
    print("The perceptron settles wherever a line separates the classes, and never on XOR or XNOR.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'perceptron_gates.png')}")


if __name__ == "__main__":
    main()
