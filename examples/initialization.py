# %% [markdown]
# # Where weights start
#
# A unit adds up $n$ inputs, so the variance of its sum is $n \operatorname{Var}(w)$ times the mean square of the
# inputs. Only a variance near $1/n$ hands on a signal of the size it was given.

# %% [markdown]
"""Where weights start decides whether signals live: zeros keep units equal, small ones fade, large ones explode.

Run: python examples/initialization.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

# %%
import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import HeNormal, HeUniform, LeCunNormal, Normal, Orthogonal, XavierNormal, XavierUniform

DEPTH, WIDTH = 20, 64

# %% [markdown]
# ## Signals through twenty layers
#
# | start | variance of a weight |
# |---|---|
# | Xavier | $2 / (n_\text{in} + n_\text{out})$: holds activations and gradients of tanh near 0 |
# | He | $2 / n_\text{in}$: twice as much, as ReLU drops half of the sum |
# | LeCun | $1 / n_\text{in}$ |
#
# Forward, the mean square of the activations is measured layer by layer; backward, that of the gradients to them.


# %%
def variances(init, activation, backend):
    """Mean square of each layer's activations (forward) and of the gradients to them (backward), by depth."""
    net = xpnn.mlp([WIDTH] * (DEPTH + 2), activation, init=init, backend=backend, seed=0)
    x = net.backend.asarray(np.random.default_rng(0).standard_normal((100, WIDTH)))
    caches, forward, backward = [], [], []
    for layer in net.layers:
        x, cache = layer.forward(x)
        caches.append(cache)
        if not isinstance(layer, xpnn.Linear):
            forward.append(float(np.mean(xpnn.to_numpy(x).astype(float) ** 2)))
    d = net.backend.asarray(np.random.default_rng(1).standard_normal((100, WIDTH)))
    for layer, cache in zip(reversed(net.layers), reversed(caches), strict=True):
        d = layer.backward(d, cache)
        if isinstance(layer, xpnn.Linear):
            backward.append(float(np.mean(xpnn.to_numpy(d).astype(float) ** 2)))
    return np.asarray(forward), np.asarray(backward[DEPTH - 1 :: -1])


# %% [markdown]
# ## From zeros
#
# Units that start equal get equal gradients and stay equal: six of them learn as one.


# %%
def symmetric_units(backend):
    """Train from zeros; return how far the hidden units are apart at the end, and how far from zero."""
    X, y = xpnn.data.make_moons(100, seed=0)
    net = xpnn.mlp([2, 6, 2], "sigmoid", init="zeros", backend=backend)
    xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.5)).fit(X, y, epochs=20, batch_size=20)
    w = xpnn.to_numpy(net.params["0.weight"])
    return np.ptp(w, axis=1).max(), np.abs(w).max()


# %% [markdown]
# ## What it does to training
#
# The same network from three starts on two moons: the one that starts tiny is behind.


# %%
def main(argv=None):
    """Symmetry, variances by depth, loss curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer epochs, for tests")
    parser.add_argument("--out", default="runs/initialization", help="folder for the picture")
    args = parser.parse_args(argv)

    apart, size = symmetric_units(args.backend)
    print(f"From zeros, six hidden units end {apart:.1e} apart at weights of {size:.2f}: they learn as one unit.")
    if apart > 1e-6 or size < 1e-3:
        raise SystemExit("expected units that start at zero to move, and to stay equal")

    starts = {
        "N(0, 0.01²)": Normal(0.01), "N(0, 5²)": Normal(5.0), "Xavier normal": XavierNormal(),
        "Xavier uniform": XavierUniform(), "LeCun normal": LeCunNormal(), "He normal": HeNormal(),
        "He uniform": HeUniform(), "orthogonal": Orthogonal(),
    }  # fmt: skip
    styles = dict(zip(starts, ("-", "-", "-", ":", "--", "-", ":", "-."), strict=True))
    colours = dict(zip(starts, (xpnn.plots.OKABE_ITO[k] for k in (0, 1, 2, 2, 4, 5, 5, 6)), strict=True))
    figure = Figure(figsize=(12, 8), layout="constrained")
    axes = figure.subplots(2, 2)
    measured = {}
    for name, colour in colours.items():
        forward, backward = variances(starts[name], "relu", args.backend)
        measured[name] = forward
        for ax, values in ((axes[0, 0], forward), (axes[0, 1], backward)):
            ax.plot(range(1, DEPTH + 1), np.maximum(values, 1e-45), styles[name], color=colour, label=name)
        tanh, _ = variances(starts[name], "tanh", args.backend)
        axes[1, 0].plot(range(1, DEPTH + 1), np.maximum(tanh, 1e-45), styles[name], color=colour, label=name)
        print(f"{name:14}: ReLU activations² go from {forward[0]:.1e} to {forward[-1]:.1e} in {DEPTH} layers")
    for ax, title in ((axes[0, 0], "ReLU: activations"), (axes[0, 1], "ReLU: gradients to them")):
        ax.set(title=title, ylabel="mean square", yscale="log", ylim=(1e-25, 1e25))
    axes[1, 0].set(title="tanh: activations", ylabel="mean square", yscale="log", ylim=(1e-25, 1e3))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=8)
    for ax in axes.ravel()[:3]:
        ax.set(xlabel="layer", xticks=range(2, DEPTH + 1, 2))
    kept = [measured[name][-1] / measured[name][0] for name in ("He normal", "He uniform")]
    small, large = measured["N(0, 0.01²)"][-1], measured["N(0, 5²)"][-1]
    if not (min(kept) > 0.05 and max(kept) < 20 and small < 1e-20 and large > 1e20):
        raise SystemExit("expected He to hold the variance, sigma = 0.01 to lose it and sigma = 5 to explode")
    halved = (measured["Xavier normal"][-1] / measured["Xavier normal"][0]) ** (1 / (DEPTH - 1))
    if not 0.4 < halved < 0.6:
        raise SystemExit("expected Xavier to halve the mean square at each ReLU")

    epochs = 25 if args.quick else 80
    X, y = xpnn.data.make_moons(300, noise=0.1, seed=0)
    last = {}
    for name in ("N(0, 0.01²)", "Xavier normal", "He normal"):
        net = xpnn.mlp([2, 16, 16, 16, 2], "relu", init=starts[name], backend=args.backend, seed=range(3))
        if any(xpnn.to_numpy(b).any() for key, b in net.params.items() if key.endswith("bias")):
            raise SystemExit("expected biases to start at zero")
        trainer = xpnn.Trainer(net, xpnn.CrossEntropy(), xpnn.SGD(lr=0.1, momentum=0.9))
        losses = trainer.fit(X, y, epochs=epochs, batch_size=60)["loss"]
        axes[1, 1].plot(range(1, epochs + 1), losses, color=colours[name], label=name)
        last[name] = losses[min(epochs, 25) - 1]
    axes[1, 1].set(title="Two moons, ReLU 2-16-16-16-2, mean of 3 starts", xlabel="epoch", ylabel="cross-entropy")
    axes[1, 1].legend(loc="center right")
    if not max(last["Xavier normal"], last["He normal"]) < 0.5 * last["N(0, 0.01²)"]:
        raise SystemExit(f"expected tiny weights to be behind after 25 epochs, got losses {last}")
    print(f"He holds the signal, Xavier halves it at each ReLU (by {halved:.2f}), 0.01 loses it and 5 explodes.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'initialization.png')}")
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
# - Make `DEPTH` 50. What is left of Xavier's signal behind ReLU?
# - Draw the tanh panel for `"sigmoid"`. Which start holds the signal now?
# - Train from `"N(0, 5²)"` too, at the end of `main`. What is the loss of the first epoch?

# %% tags=["active-ipynb"]
# %matplotlib inline
# main([])
