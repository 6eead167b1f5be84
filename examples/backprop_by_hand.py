# %% [markdown]
# # Backpropagation by hand
#
# One input, one hidden ReLU unit, one sigmoid output, and every number on the way worked out with pen and paper.

# %% [markdown]
"""One backward pass, number by number: x = 2, w1 = 0.5, ReLU, w2 = 1, sigmoid, target 1.

The pen-and-paper result is loss 0.3133, dL/dw2 = dL/db2 = dL/db1 = -0.2689 and dL/dw1 twice that.

Run: python examples/backprop_by_hand.py [--backend numpy|cupy|torch|strict] [--quick] [--out FOLDER]
"""

# %%
import argparse
import math
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

import xpnn

# %% [markdown]
# ## Pen and paper
#
# Forward: $z_1 = w_1 x + b_1$, $a_1 = \max(z_1, 0)$, $z_2 = w_2 a_1 + b_2$, $p = \sigma(z_2)$, $L = -\log p$.
#
# Backward, by the chain rule from the right to the left. Behind a sigmoid the cross-entropy gives the short
# $\partial L / \partial z_2 = p - y$; after that each step multiplies by what the forward step multiplied with:
#
# - $\partial L / \partial w_2 = (p - y)\, a_1$ and $\partial L / \partial b_2 = p - y$,
# - $\partial L / \partial a_1 = (p - y)\, w_2$, and $\partial L / \partial z_1$ is the same where $z_1 > 0$, else 0,
# - $\partial L / \partial w_1 = \partial L / \partial z_1 \cdot x$; $\partial L / \partial b_1$ the same without $x$.


# %%
def by_hand(x, y, w1, b1, w2, b2):
    """Every number of the two passes, by name."""
    z1 = w1 * x + b1
    a1 = max(z1, 0.0)
    z2 = w2 * a1 + b2
    p = 1 / (1 + math.exp(-z2))
    loss = -y * math.log(p) - (1 - y) * math.log(1 - p)
    dz2 = p - y
    da1 = dz2 * w2
    dz1 = da1 * (z1 > 0)
    gradients = {"0.weight": dz1 * x, "0.bias": dz1, "2.weight": dz2 * a1, "2.bias": dz2}
    return {"x": x, "z1": z1, "a1": a1, "z2": z2, "p": p, "L": loss}, {"z1": dz1, "a1": da1, "z2": dz2}, gradients


# %% [markdown]
# ## The same by xpnn
#
# `forward` keeps what `backward` needs, `value_and_grad` starts the way back, and `backward` fills `net.grads`.


# %%
def by_xpnn(x, y, w1, b1, w2, b2, backend):
    """The loss and the four gradients; differences of the loss check them once more."""
    net = xpnn.mlp([1, 1, 1], activation="relu", backend=backend, dtype="float64")
    state = {"0.weight": [[w1]], "0.bias": [b1], "2.weight": [[w2]], "2.bias": [b2]}
    net.load_state_dict({name: np.asarray(value) for name, value in state.items()})
    loss, target = xpnn.BinaryCrossEntropy(), net.backend.asarray([[y]])
    z2, caches = net.forward(np.asarray([[x]]))
    value, dz2 = loss.value_and_grad(z2, target)
    net.backward(dz2, caches)
    print(xpnn.testing.check_gradients(net, loss, np.asarray([[x]]), target))
    net.backward(dz2, caches)
    return float(xpnn.to_numpy(value)), {name: xpnn.to_numpy(g).item() for name, g in net.grads.items()}


# %%
def draw(forward, backward, gradients):
    """The chain with its values (above) and the gradients to them (below)."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    ax = figure.subplots()
    blue, red = xpnn.plots.OKABE_ITO[:2]
    steps = {"z1": "w₁ x + b₁", "a1": "ReLU", "z2": "w₂ a₁ + b₂", "p": "sigmoid", "L": "-log p"}
    for k, (name, value) in enumerate(forward.items()):
        box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "black"}
        ax.text(2 * k, 0, f"{name} = {value:.4g}", ha="center", va="center", bbox=box, color=blue, fontsize=11)
        if name in backward:
            ax.text(2 * k, -0.75, f"dL/d{name}\n{backward[name]:+.4f}", ha="center", va="center", color=red)
        if name in steps:
            ax.annotate("", (2 * k - 0.62, 0), (2 * k - 1.38, 0), arrowprops={"arrowstyle": "->"})
            ax.text(2 * k - 1, 0.42, steps[name], ha="center", va="center", fontsize=10)
    for at, names in ((2, ("0.weight", "0.bias")), (6, ("2.weight", "2.bias"))):
        for row, name in enumerate(names):
            what = ("w" if name.endswith("weight") else "b") + ("₁" if at == 2 else "₂")
            ax.text(at - 1, -1.5 - 0.4 * row, f"dL/d{what} = {gradients[name]:+.4f}", ha="center", color=red)
    ax.set(xlim=(-0.9, 10.9), ylim=(-2.2, 0.9), title="Values forward (blue), gradients backward (red)")
    ax.set_axis_off()
    return figure


# %% [markdown]
# ## All together
#
# The numbers of pen and paper are asserted, then those of xpnn against them.


# %%
def main(argv=None):
    """Compute by formula, by xpnn and by differences, compare, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", default="numpy")
    parser.add_argument("--quick", action="store_true", help="there is nothing slow here")
    parser.add_argument("--out", default="runs/backprop_by_hand", help="folder for the picture")
    args = parser.parse_args(argv)

    numbers = {"x": 2.0, "y": 1.0, "w1": 0.5, "b1": 0.0, "w2": 1.0, "b2": 0.0}
    forward, backward, gradients = by_hand(**numbers)
    on_paper = {"0.weight": -0.5379, "0.bias": -0.2689, "2.weight": -0.2689, "2.bias": -0.2689}
    if abs(forward["L"] - 0.3133) > 5e-5 or any(abs(gradients[k] - v) > 5e-5 for k, v in on_paper.items()):
        raise SystemExit(f"expected a loss of 0.3133 and {on_paper}, got {forward['L']} and {gradients}")
    loss, computed = by_xpnn(**numbers, backend=args.backend)
    for name, expected in gradients.items():
        print(f"dL/d {name:9}: by hand {expected:+.4f}, by xpnn {computed[name]:+.4f}")
    if max(abs(loss - forward["L"]), *(abs(computed[k] - v) for k, v in gradients.items())) > 1e-12:
        raise SystemExit("the two differ")
    figure = draw(forward, backward, gradients)
    print(f"By hand and by xpnn the loss is {loss:.4f}, dL/dw2 {computed['2.weight']:.4f}, dL/dw1 twice that.")
    print(f"wrote {xpnn.plots.save_figure(figure, Path(args.out) / 'backprop_by_hand.png')}")
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
# - Call `by_hand(2.0, 1.0, -0.5, 0.0, 1.0, 0.0)` in a cell of your own: $w_1$ is -0.5. Which gradients are 0, and why?
# - Call it with $y = 0$. Which signs change?
# - Put an error into `by_hand`, such as `dz2 = y - p`. What are you told?

# %% tags=["active-ipynb"]
# %matplotlib inline
# main([])
