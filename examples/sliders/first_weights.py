# %% [markdown]
# # First weights, and what is left ten layers on
#
# Each layer multiplies the size of what goes through it. A factor of a half ten times is a thousandth; a factor of two
# a thousand. The spread of the first weights sets it.

# %%
import numpy as np
from IPython.display import display
from ipywidgets import Dropdown, FloatLogSlider, IntSlider, interactive
from matplotlib.figure import Figure

import xpnn
from xpnn.initializers import Normal

# %% [markdown]
# ## Send numbers through
#
# The layers have 64 units each and weights from $N(0, s^2/64)$; `spread` is $s$. Shown is the root mean square after
# each.


# %%
def sizes(activation, spread, depth):
    net = xpnn.mlp([64] * (depth + 1), activation, init=Normal(spread / 8.0), seed=0)
    x = net.backend.asarray(np.random.default_rng(0).standard_normal((256, 64)))
    found = []
    for layer in net.layers:
        x, _ = layer.forward(x)
        if not isinstance(layer, xpnn.Linear):
            found.append(float(np.sqrt(np.mean(np.square(x)))))
    figure = Figure(figsize=(6, 4), layout="constrained")
    ax = figure.subplots()
    ax.plot(range(1, len(found) + 1), np.maximum(found, 1e-12), "o-", color=xpnn.plots.OKABE_ITO[0])
    ax.set(yscale="log", ylim=(1e-6, 1e6), xlabel="layer", ylabel="root mean square")
    ax.set_title(f"after the last activation: {found[-1]:.2g}")
    display(figure)
    return found[-1]


# %% [markdown]
# ## Change it

# %%
panel = interactive(
    sizes,
    activation=Dropdown(options=["relu", "tanh", "sigmoid", "identity"]),
    spread=FloatLogSlider(value=1.0, min=-1, max=1, step=0.02),
    depth=IntSlider(value=10, min=3, max=30),
)
display(panel)

# %% [markdown]
# ## Questions
#
# - Which spread keeps the size under ReLU? Compare with He's $\sqrt 2$.
# - And under tanh? What do larger spreads do to it, and why does nothing explode?
# - Why does the sigmoid never fall below 0.5, and is that good news for its gradients?
