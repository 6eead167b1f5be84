# %% [markdown]
# # Optimizers on three landscapes
#
# Each optimizer walks down the same three hills from the same place. Two numbers a place make a picture of the way.

# %% [markdown]
"""Six optimizers on three landscapes: a narrow valley, a saddle, and axes of very different scale.

Run: python examples/optimizers_valley.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

# %%
import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Zeros
from xpnn.params import ParamSpec, ParamStore

# %% [markdown]
# ## The landscapes
#
# - a valley 50 times steeper across than along, turned by 45 degrees,
# - a saddle, $p_1^2/2 - p_2^2/2 + p_2^4/4$: level along one line, down to both sides of it,
# - axes whose scales differ by 10,000.

# %%
TURN = np.asarray([[1.0, -1.0], [1.0, 1.0]]) / np.sqrt(2)  # the valley runs along the diagonal
VALLEY = TURN @ np.diag([1.0, 50.0]) @ TURN.T

# name: (function of p (..., 2), its gradient at one p, start, learning rate of SGD, limits of the picture)
LANDSCAPES = {
    "narrow valley": (
        lambda p: 0.5 * np.einsum("...i,ij,...j->...", p, VALLEY, p),
        lambda p: VALLEY @ p,
        (-3.0, -2.0), 0.018, ((-3.6, 1.6), (-3.0, 1.6)),
    ),
    "saddle": (
        lambda p: 0.5 * p[..., 0] ** 2 - 0.5 * p[..., 1] ** 2 + 0.25 * p[..., 1] ** 4,
        lambda p: np.asarray([p[0], -p[1] + p[1] ** 3]),
        (-1.5, 1e-4), 0.1, ((-1.8, 1.0), (-0.8, 1.6)),
    ),
    "scaled axes": (
        lambda p: 0.5 * (100 * p[..., 0] ** 2 + 0.01 * p[..., 1] ** 2),
        lambda p: np.asarray([100 * p[0], 0.01 * p[1]]),
        (0.8, 4.0), 0.012, ((-1.2, 1.2), (-1.5, 4.6)),
    ),
}  # fmt: skip


# %% [markdown]
# ## The rules
#
# - SGD: $p \leftarrow p - \eta g$.
# - Momentum: $v \leftarrow \beta v + (1 - \beta) g$, $p \leftarrow p - \eta v$. Nesterov looks ahead along $v$.
# - RMSProp divides by $\sqrt{s}$, with $s \leftarrow \alpha s + (1 - \alpha) g^2$.
# - Adam does both, and corrects both means for their start at 0. AdamW shrinks $p$ besides.


# %%
def optimizers(lr):
    """SGD's rate comes from the landscape; the adaptive rules move by about their own rate, whatever the scale."""
    return {
        "SGD": xpnn.SGD(lr),
        "momentum": xpnn.Momentum(10 * lr, beta=0.9),  # the running mean has a tenth of the sum's length
        "Nesterov": xpnn.SGD(lr, momentum=0.9, nesterov=True),
        "RMSProp": xpnn.RMSProp(0.03, alpha=0.9),
        "Adam": xpnn.Adam(0.1),
        "AdamW": xpnn.AdamW(0.1, weight_decay=0.1),  # its decay pulls to 0, where two of the minima lie
    }


def descend(optimizer, gradient, start, steps, backend):
    """Return the places visited, of shape (steps + 1, 2)."""
    spec = ParamSpec("p", (2,), Zeros(), decay=True)
    store = ParamStore(xpnn.get_backend(backend, "float64"), [spec])
    p, g = store.params["p"], store.param_grads["p"]
    p[...] = store.backend.asarray(np.asarray(start))
    path = [np.asarray(start)]
    for _ in range(steps):
        g[...] = store.backend.asarray(gradient(path[-1]))
        optimizer.step(store)
        path.append(np.array(xpnn.to_numpy(p)))
    return np.asarray(path)


# %% [markdown]
# ## Who gets where
#
# Above the ways, below the height left after each step.


# %%
def main(argv=None):
    """Descend, compare, draw the trajectories."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer steps, for tests")
    parser.add_argument("--out", default="runs/optimizers_valley", help="folder for the picture")
    args = parser.parse_args(argv)
    steps = 200 if args.quick else 300

    figure = Figure(figsize=(13, 8), layout="constrained")
    axes = figure.subplots(2, 3)
    ends, escapes = {}, {}
    for column, (place, (f, gradient, start, lr, limits)) in enumerate(LANDSCAPES.items()):
        top, bottom = axes[:, column]
        x, y = np.meshgrid(*(np.linspace(*limit, 120) for limit in limits))
        heights = f(np.stack([x, y], axis=-1))
        top.contourf(x, y, heights, levels=np.quantile(heights, np.linspace(0, 1, 16)), cmap="Greys", alpha=0.5)
        lowest = -0.25 if place == "saddle" else 0.0
        for (name, optimizer), colour in zip(optimizers(lr).items(), xpnn.plots.OKABE_ITO, strict=False):
            path = descend(optimizer, gradient, start, steps, args.backend)
            above = f(path) - lowest
            ends[place, name] = above[-20:].mean()
            if place == "saddle":
                escapes[name] = int(np.argmax(above < 0.05)) if (above < 0.05).any() else steps + 1
            top.plot(*path.T, color=colour, linewidth=1.2, marker=".", markersize=2.5, label=name)
            bottom.plot(np.maximum(above, 1e-12), color=colour, label=name)
        top.set(title=place, xlabel="$p_1$", ylabel="$p_2$", xlim=limits[0], ylim=limits[1])
        bottom.set(xlabel="step", ylabel="height above the minimum", yscale="log", ylim=(1e-9, None))
        print(f"{place:13}: " + ", ".join(f"{n} {ends[place, n]:.1e}" for n in optimizers(lr)))
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    print("steps to leave the saddle: " + ", ".join(f"{n} {t}" for n, t in escapes.items()))

    if not max(ends["narrow valley", n] for n in ("momentum", "Nesterov")) < 0.1 * ends["narrow valley", "SGD"]:
        raise SystemExit("expected momentum and Nesterov to be far ahead of SGD in the narrow valley")
    if not max(escapes[n] for n in ("momentum", "Nesterov", "RMSProp", "Adam", "AdamW")) < escapes["SGD"]:
        raise SystemExit("expected every other rule to leave the saddle before SGD")
    if not max(ends["scaled axes", n] for n in ("RMSProp", "Adam", "AdamW")) < 0.3 * ends["scaled axes", "SGD"]:
        raise SystemExit("expected the adaptive rules to be ahead of SGD where axes differ in scale")
    print("Momentum beats SGD in the valley, all leave the saddle before SGD, and Adam wins on badly scaled axes.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'optimizers_valley.png')}")
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
# - Start from another place, or make the valley narrower, in `LANDSCAPES`. Who is ahead now?
# - Give Adam ten times the rate. Where does it end in the valley?
# - Which rule would you take for a hill of which you know nothing?

# %% tags=["active-ipynb"]
# %matplotlib inline
# main([])
