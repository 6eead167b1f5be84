# %% [markdown]
# # XOR with one hidden layer
#
# | $x_1$ | $x_2$ | XOR |
# |---|---|---|
# | 0 | 0 | 0 |
# | 0 | 1 | 1 |
# | 1 | 0 | 1 |
# | 1 | 1 | 0 |
#
# No straight line separates the two ones from the two zeros, so one unit cannot learn this. Two hidden units draw two
# lines, and the unit behind them takes what lies between.

# %% [markdown]
"""XOR with one hidden layer: two tanh units are enough to express it, four are enough to find it.

Run: python examples/xor.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

# %%
import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## Many starts at once
#
# A network with `seed=range(50)` is 50 networks of one shape, trained side by side, each as it would be alone. Each
# starts from its own random weights, learns by plain descent with a rate of 0.5 on all four points, and counts as
# solved where all four are right at a cross-entropy below 0.1.


# %%
def from_many_starts(hidden, starts, epochs, backend):
    """Train 2-hidden-1 (tanh, then a sigmoid); return which starts solve XOR, their losses and their curves."""
    X, y = xpnn.data.make_xor()
    targets = y.reshape(-1, 1).astype(float)
    net = xpnn.mlp([2, hidden, 1], "tanh", backend=backend, seed=range(starts))
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.5))
    trainer.fit(X, targets, epochs=epochs, batch_size=4)
    right = ((xpnn.to_numpy(trainer.predict_proba(X)) > 0.5) == (targets > 0.5)).all(axis=(1, 2))
    losses = np.asarray(trainer.evaluate(X, targets)["loss_replicas"])
    return right & (losses < 0.1), losses, np.asarray(trainer.history["loss_replicas"])


# %% [markdown]
# ## One of them by itself
#
# A start that solved XOR, trained once more alone, to see where its border lies.


# %%
def draw_border(ax, hidden, seed, epochs, backend, resolution):
    """Train one network and draw its probabilities over the plane."""
    X, y = xpnn.data.make_xor()
    net = xpnn.mlp([2, hidden, 1], "tanh", backend=backend, seed=seed)
    trainer = xpnn.Trainer(net, xpnn.BinaryCrossEntropy(), xpnn.SGD(lr=0.5))
    trainer.fit(X, y.reshape(-1, 1).astype(float), epochs=epochs, batch_size=4)
    xpnn.plots.plot_decision_boundary(trainer, X, y, ax=ax, resolution=resolution)
    ax.set_title(f"2-{hidden}-1, seed {seed}")


# %% [markdown]
# ## Count, and compare
#
# Two units are enough to *express* XOR, but from nearly half of all starts descent ends on a plateau. Four find it from
# every start.


# %%
def main(argv=None):
    """Train 2-2-1 and 2-4-1 from many starts at once, count, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs and starts, for tests")
    parser.add_argument("--out", default="runs/xor", help="folder for the picture")
    args = parser.parse_args(argv)
    starts, epochs = (20, 400) if args.quick else (50, 1000)

    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, 3)
    solved = {}
    for hidden, colour in ((2, xpnn.plots.OKABE_ITO[1]), (4, xpnn.plots.OKABE_ITO[0])):
        solved[hidden], losses, curves = from_many_starts(hidden, starts, epochs, args.backend)
        print(
            f"2-{hidden}-1 after {epochs} epochs: {solved[hidden].sum()} of {starts} starts have all four right at a "
            f"loss below 0.1; the others end at losses from {losses[~solved[hidden]].min(initial=np.inf):.2f}."
            if not solved[hidden].all()
            else f"2-{hidden}-1 after {epochs} epochs: all {starts} starts have all four right at a loss below 0.1."
        )
        axes[0].plot(range(1, epochs + 1), curves, color=colour, linewidth=0.6, alpha=0.6)
        axes[0].plot([], [], color=colour, label=f"2-{hidden}-1")
    axes[0].axhline(0.1, color="black", linestyle="--", linewidth=1, label="solved below 0.1")
    axes[0].set(title="Loss from every start", xlabel="epoch", ylabel="cross-entropy", yscale="log", ylim=(None, 8))
    axes[0].legend(loc="upper right", fontsize=8)

    if not solved[4].all():
        raise SystemExit("expected every start of 2-4-1 to solve XOR")
    if not 0.2 < solved[2].mean() < 0.9:
        raise SystemExit("expected some starts of 2-2-1 to solve XOR and others to get stuck")
    for ax, hidden, seed in ((axes[1], 2, int(solved[2].argmax())), (axes[2], 4, 0)):
        draw_border(ax, hidden, seed, epochs, args.backend, resolution=80 if args.quick else 200)
    print("Four hidden units solve XOR from every start; two can, but some starts end on a plateau.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'xor.png')}")
    return figure


# %% tags=["active-py"]
if __name__ == "__main__":
    main()

# %% [markdown] tags=["active-ipynb"]
# ## Change something
#
# The cells above are yours to change. The one below runs them all together, and stops where what is claimed no longer
# holds: that is an answer too.
#
# - Take a rate of 5 in place of 0.5 in `from_many_starts`, then of 0.05. How many starts solve it now?
# - Give it three hidden units: put `(3, "green")` beside the 2 and the 4. Is that enough from every start?
# - Put `"relu"` for `"tanh"` in both functions. Where do the starts that fail end?

# %% tags=["active-ipynb"]
# %matplotlib inline
# main([])
